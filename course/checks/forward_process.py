"""Lesson 02: what right answers satisfy, and the mistakes people make."""

import math

import torch
from torch import Tensor

from course import forward_process as reference
from course.checks.engine import Answer, Case, Exercise, Mistake
from course.forward_process import at

LINEAR = reference.linear_schedule()
ALPHA_BARS = reference.alpha_bars_from_betas(LINEAR)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """A standard normal tensor of its own seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def steps(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


# --- linear_schedule --------------------------------------------------------------------------


def schedule_cases() -> list[Case]:
    return [
        Case("four steps", {"T": 4}),
        Case("the usual thousand steps", {"T": 1000}),
        Case("a short schedule", {"T": 37}),
        Case("nothing said", {}),
    ]


def linear_cases() -> list[Case]:
    ends = {"T": 5, "beta_start": 0.1, "beta_end": 0.5}
    return [Case("five steps between round numbers", ends), *schedule_cases()]


def linear_end_left_out(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    return beta_start + (beta_end - beta_start) * torch.arange(T) / T


def linear_in_the_root(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    return torch.linspace(beta_start**0.5, beta_end**0.5, T) ** 2


def linear_reversed(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    return torch.linspace(beta_end, beta_start, T)


def linear_ends_ignored(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    return torch.linspace(1e-4, 0.02, T)


def linear_alphas(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    return 1 - torch.linspace(beta_start, beta_end, T)


def linear_by_hand(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    return torch.tensor([beta_start + (beta_end - beta_start) * i / (T - 1) for i in range(T)])


def linear_in_float64(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    grid = torch.arange(T, dtype=torch.float64) / (T - 1)
    return torch.lerp(
        torch.tensor(beta_start).double(), torch.tensor(beta_end).double(), grid
    ).float()


LINEAR_SCHEDULE = Exercise(
    reference.linear_schedule,
    linear_cases,
    mistakes=[
        Mistake("Your last β is not `beta_end`: T values, both ends among them, are T − 1 steps "
                "apart.", linear_end_left_out),
        Mistake("Your values are evenly spaced in √β. This schedule is evenly spaced in β itself.",
                linear_in_the_root),
        Mistake("Your schedule falls. Noise grows with t: it starts at `beta_start`.",
                linear_reversed),
        Mistake("Your schedule ignores `beta_start` and `beta_end`.", linear_ends_ignored),
        Mistake("You returned α_t = 1 − β_t; the function returns β_t.", linear_alphas),
    ],
    alternatives=[linear_by_hand, linear_in_float64],
    hints=[
        "β_0 is `beta_start`, β_{T−1} is `beta_end`, and neighbours are equally far apart.",
        "PyTorch has a function for evenly spaced values, both ends included.",
    ],
)  # fmt: skip


# --- cosine_schedule --------------------------------------------------------------------------


def cosine_cases() -> list[Case]:
    return [
        *schedule_cases(),
        Case("another offset", {"T": 10, "s": 0.1}),
        Case("a low clip", {"T": 10, "max_beta": 0.5}),
    ]


def _cosine(T: int, s: float, power: int = 2) -> Tensor:
    u = torch.arange(T + 1, dtype=torch.float64) / T
    return torch.cos((u + s) / (1 + s) * math.pi / 2) ** power


def cosine_unclipped(T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Tensor:
    f = _cosine(T, s)
    return (1 - f[1:] / f[:-1]).float()


def cosine_unsquared(T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Tensor:
    f = _cosine(T, s, power=1)
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()


def cosine_without_offset(T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Tensor:
    f = _cosine(T, 0.0)
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()


def cosine_alpha_bars(T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Tensor:
    f = _cosine(T, s)
    return (f[1:] / f[0]).float()


def cosine_upside_down(T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Tensor:
    f = _cosine(T, s)
    return (1 - f[:-1] / f[1:]).clamp(max=max_beta).float()


def cosine_loop(T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Tensor:
    def f(u: float) -> float:
        return math.cos((u + s) / (1 + s) * math.pi / 2) ** 2

    return torch.tensor([min(1 - f((t + 1) / T) / f(t / T), max_beta) for t in range(T)])


def cosine_by_half_angle(T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Tensor:
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    f = (1 + torch.cos((u + s) / (1 + s) * math.pi)) / 2
    betas = (f[:-1] - f[1:]) / f[:-1]
    return torch.minimum(betas, torch.tensor(max_beta)).float()


COSINE_SCHEDULE = Exercise(
    reference.cosine_schedule,
    cosine_cases,
    mistakes=[
        Mistake("Your last β is not clipped: there f falls to 0, so β would be 1 and wipe the "
                "image out. Clip at `max_beta`.", cosine_unclipped),
        Mistake("You forgot the square: f(u) is the *squared* cosine.", cosine_unsquared),
        Mistake("The offset s is missing; without it the first β are too small to notice.",
                cosine_without_offset),
        Mistake("You returned ᾱ_t. The function returns β_t = 1 − f((t+1)/T)/f(t/T).",
                cosine_alpha_bars),
        Mistake("Your ratio is upside down: the later f is above, the earlier below.",
                cosine_upside_down),
    ],
    alternatives=[cosine_loop, cosine_by_half_angle],
    hints=[
        "f has T + 1 values: one at every boundary between two steps, from u = 0 to u = 1.",
        "β_t compares neighbours: 1 − f[1:] / f[:-1].",
        "Compute in float64, clip at `max_beta`, return float32.",
    ],
)  # fmt: skip


# --- alpha_bars_from_betas ----------------------------------------------------------------------


def betas_cases() -> list[Case]:
    return [
        Case("three steps", {"betas": torch.tensor([0.1, 0.2, 0.5])}),
        Case("the linear schedule", {"betas": LINEAR}),
        Case("float64", {"betas": torch.linspace(0.01, 0.3, 20, dtype=torch.float64)}),
        Case("a β of 1, out of range", {"betas": torch.tensor([0.1, 1.0])}),
        Case("a β of 0, out of range", {"betas": torch.tensor([0.0, 0.1])}),
        Case("a β below 0, out of range", {"betas": torch.tensor([-0.5, 0.1])}),
        Case("a β above 1, out of range", {"betas": torch.tensor([1.5, 0.1])}),
    ]


def _in_range(alpha_bars: Answer) -> Answer:
    """An answer that also refuses what the docstring says it refuses."""

    def alpha_bars_from_betas(betas: Tensor) -> Tensor:
        if not (betas > 0).all() or not (betas < 1).all():
            raise ValueError("β lies between 0 and 1")
        return alpha_bars(betas)

    return alpha_bars_from_betas


ALPHA_BARS_FROM_BETAS = Exercise(
    reference.alpha_bars_from_betas,
    betas_cases,
    mistakes=[
        Mistake("You multiplied the β up; ᾱ is the product of the α = 1 − β.",
                _in_range(lambda betas: torch.cumprod(betas, dim=0))),
        Mistake("You added where ᾱ multiplies: variances shrink by a factor each step.",
                _in_range(lambda betas: 1 - torch.cumsum(betas, dim=0))),
        Mistake("That is α_t, of one step. ᾱ_t is the product of all α up to t.",
                _in_range(lambda betas: 1 - betas)),
        Mistake("That is √ᾱ_t, which scales the image; ᾱ_t itself is its square.",
                _in_range(lambda betas: torch.cumprod(1 - betas, dim=0).sqrt())),
        Mistake("The product is right; now refuse betas of 0 and below, or 1 and above, with a "
                "ValueError: they are no schedule.",
                lambda betas: torch.cumprod(1 - betas, dim=0)),
    ],
    alternatives=[
        _in_range(lambda betas: torch.exp(torch.cumsum(torch.log1p(-betas), dim=0))),
        _in_range(lambda betas: torch.stack([(1 - betas[: t + 1]).prod()
                                             for t in range(len(betas))])),
    ],
    hints=["Each step keeps the share α = 1 − β of the variance; shares multiply.",
           "torch has a cumulative product.",
           "First: `raise ValueError(\"…\")` unless all betas are above 0 and below 1."],
)  # fmt: skip


# --- forward_step -------------------------------------------------------------------------------


def forward_step_cases() -> list[Case]:
    tenths = torch.tensor([0.1, 0.2, 0.5])
    one = torch.ones(1, 1, 1, 1)
    return [
        Case("one pixel, by hand", {"x_prev": one, "t": steps(1), "eps": one, "betas": tenths}),
        Case("three images, each at its own t",
             {"x_prev": normal(3, 1, 4, 4), "t": steps(0, 999, 500),
              "eps": normal(3, 1, 4, 4, seed=1), "betas": LINEAR}),
        Case("as many images as columns, in colour",
             {"x_prev": normal(5, 3, 5, 5, seed=2), "t": steps(1, 2, 0, 2, 1),
              "eps": normal(5, 3, 5, 5, seed=3), "betas": tenths}),
        Case("float64",
             {"x_prev": normal(2, 4, 3, 6, dtype=torch.float64), "t": steps(7, 19),
              "eps": normal(2, 4, 3, 6, seed=1, dtype=torch.float64), "betas": LINEAR[::50]}),
    ]  # fmt: skip


def _forward(x: Tensor, t: Tensor, eps: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    return at(signal, t, x) * x + at(noise, t, x) * eps


FORWARD_STEP = Exercise(
    reference.forward_step,
    forward_step_cases,
    mistakes=[
        Mistake("You scaled the noise by β. β is its *variance*; the noise itself is scaled by √β.",
                lambda x_prev, t, eps, betas:
                _forward(x_prev, t, eps, (1 - betas).sqrt(), betas)),
        Mistake("You scaled the image by α = 1 − β; it is scaled by √α, so that variances add "
                "up to 1.",
                lambda x_prev, t, eps, betas:
                _forward(x_prev, t, eps, 1 - betas, betas.sqrt())),
        Mistake("The image is not scaled down: it would grow without end as noise is added.",
                lambda x_prev, t, eps, betas:
                _forward(x_prev, t, eps, torch.ones_like(betas), betas.sqrt())),
        Mistake("You took ᾱ_t, the product of all steps; one step needs α_t alone.",
                lambda x_prev, t, eps, betas:
                _forward(x_prev, t, eps, torch.cumprod(1 - betas, 0).sqrt(),
                         (1 - torch.cumprod(1 - betas, 0)).sqrt())),
        Mistake("√α and √β have changed places.",
                lambda x_prev, t, eps, betas:
                _forward(x_prev, t, eps, betas.sqrt(), (1 - betas).sqrt())),
        Mistake("betas[t] has shape (b,), the images (b, c, h, w): shape it (b, 1, 1, 1), or it "
                "meets the wrong axis. `at` does it.",
                lambda x_prev, t, eps, betas:
                (1 - betas[t]).sqrt() * x_prev + betas[t].sqrt() * eps),
    ],
    alternatives=[
        lambda x_prev, t, eps, betas: torch.stack([
            (1 - betas[i].to(x)).sqrt() * x + betas[i].to(x).sqrt() * e
            for x, i, e in zip(x_prev, t, eps, strict=True)]),
        lambda x_prev, t, eps, betas: at(1 - betas, t, x_prev) ** 0.5 * x_prev
            + at(betas, t, x_prev) ** 0.5 * eps,
    ],
    hints=["A normal variable with mean m and variance v is m + √v · ε.",
           "The mean is √(1 − β_t) x_{t−1} and the variance β_t.",
           "`at(betas, t, x_prev)` is β_t shaped (b, 1, 1, 1)."],
)  # fmt: skip


# --- q_sample -------------------------------------------------------------------------------------


FALLING = torch.tensor([0.9, 0.64, 0.25])


def noising_cases() -> list[Case]:
    """Images, each with its t and its noise: for q_sample, and for what is made from the same."""
    one = torch.ones(1, 1, 1, 1)
    return [
        Case("one pixel, by hand",
             {"x0": one, "t": steps(1), "eps": 2 * one, "alpha_bars": FALLING}),
        Case("three images, each at its own t",
             {"x0": normal(3, 1, 4, 4), "t": steps(0, 999, 500), "eps": normal(3, 1, 4, 4, seed=1),
              "alpha_bars": ALPHA_BARS}),
        Case("as many images as columns, in colour",
             {"x0": normal(5, 3, 5, 5, seed=2), "t": steps(1, 2, 0, 2, 1),
              "eps": normal(5, 3, 5, 5, seed=3), "alpha_bars": FALLING}),
        Case("float64",
             {"x0": normal(2, 4, 3, 6, dtype=torch.float64), "t": steps(7, 19),
              "eps": normal(2, 4, 3, 6, seed=1, dtype=torch.float64),
              "alpha_bars": ALPHA_BARS[::50]}),
    ]  # fmt: skip


def q_sample_wrong(signal: Answer, noise: Answer) -> Answer:
    """q_sample with other factors, each a function of ᾱ (T,)."""

    def q_sample(x0: Tensor, t: Tensor, eps: Tensor, alpha_bars: Tensor) -> Tensor:
        return _forward(x0, t, eps, signal(alpha_bars), noise(alpha_bars))

    return q_sample


def _first_alpha_bar(x0: Tensor, t: Tensor, eps: Tensor, alpha_bars: Tensor) -> Tensor:
    alpha_bar = alpha_bars[t[0]].to(x0)
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps


Q_SAMPLE = Exercise(
    reference.q_sample,
    noising_cases,
    mistakes=[
        Mistake("You used ᾱ where √ᾱ belongs: ᾱ is a share of the *variance*; images are scaled "
                "by its root.", q_sample_wrong(lambda a: a, lambda a: (1 - a).sqrt())),
        Mistake("You scaled the noise by 1 − ᾱ, its variance; it is scaled by √(1 − ᾱ).",
                q_sample_wrong(torch.sqrt, lambda a: 1 - a)),
        Mistake("Both roots are missing: x_t = √ᾱ x_0 + √(1 − ᾱ) ε.",
                q_sample_wrong(lambda a: a, lambda a: 1 - a)),
        Mistake("You scaled the noise by 1 − √ᾱ. The root is over the whole of 1 − ᾱ.",
                q_sample_wrong(torch.sqrt, lambda a: 1 - a.sqrt())),
        Mistake("Signal and noise have changed places: at t = 0 almost all is signal.",
                q_sample_wrong(lambda a: (1 - a).sqrt(), torch.sqrt)),
        Mistake("The image is not scaled by √ᾱ, so the variance grows instead of staying 1.",
                q_sample_wrong(torch.ones_like, lambda a: (1 - a).sqrt())),
        Mistake("You took the first image's t for all; each image has its own.", _first_alpha_bar),
        Mistake("alpha_bars[t] has shape (b,), the images (b, c, h, w): shape it (b, 1, 1, 1), or "
                "it meets the wrong axis. `at` does it.",
                lambda x0, t, eps, alpha_bars:
                alpha_bars[t].sqrt() * x0 + (1 - alpha_bars[t]).sqrt() * eps),
    ],
    alternatives=[
        lambda x0, t, eps, alpha_bars: torch.stack([
            alpha_bars[i].to(x) ** 0.5 * x + (1 - alpha_bars[i].to(x)) ** 0.5 * e
            for x, i, e in zip(x0, t, eps, strict=True)]),
        lambda x0, t, eps, alpha_bars: (
            alpha_bars.double().sqrt()[t].view(-1, 1, 1, 1) * x0.double()
            + (1 - alpha_bars.double()).sqrt()[t].view(-1, 1, 1, 1) * eps.double()).to(x0.dtype),
    ],
    hints=["It is one step's formula with ᾱ_t in place of α_t.",
           "x_t has mean √ᾱ_t x_0 and variance 1 − ᾱ_t.",
           "`at(alpha_bars, t, x0)` is ᾱ_t shaped (b, 1, 1, 1)."],
)  # fmt: skip


# --- snr ------------------------------------------------------------------------------------------


def snr_cases() -> list[Case]:
    return [
        Case("three levels", {"alpha_bars": torch.tensor([0.9, 0.5, 0.2])}),
        Case("the linear schedule", {"alpha_bars": ALPHA_BARS}),
        Case("float64", {"alpha_bars": torch.linspace(0.99, 0.01, 9, dtype=torch.float64)}),
    ]


SNR = Exercise(
    reference.snr,
    snr_cases,
    mistakes=[
        Mistake("That is the ratio of amplitudes; the SNR is of variances: its square.",
                lambda alpha_bars: (alpha_bars / (1 - alpha_bars)).sqrt()),
        Mistake("That is noise to signal; the SNR has the signal above.",
                lambda alpha_bars: (1 - alpha_bars) / alpha_bars),
        Mistake("That is the logarithm; the function returns the ratio itself.",
                lambda alpha_bars: torch.log(alpha_bars / (1 - alpha_bars))),
        Mistake("The noise's variance is 1 − ᾱ, not √(1 − ᾱ).",
                lambda alpha_bars: alpha_bars / (1 - alpha_bars).sqrt()),
    ],
    alternatives=[
        lambda alpha_bars: 1 / (1 / alpha_bars - 1),
        lambda alpha_bars: torch.exp(torch.logit(alpha_bars)),
    ],
    hints=["The signal √ᾱ x_0 has variance ᾱ (for data of variance 1).",
           "The noise √(1 − ᾱ) ε has variance 1 − ᾱ."],
    rtol=2e-3,  # 1 − ᾱ loses digits where ᾱ is near 1, whichever way it is written
)  # fmt: skip

EXERCISES = [LINEAR_SCHEDULE, COSINE_SCHEDULE, ALPHA_BARS_FROM_BETAS, FORWARD_STEP, Q_SAMPLE, SNR]
