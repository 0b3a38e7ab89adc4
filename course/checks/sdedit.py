"""Lesson 11: what right answers satisfy, and the mistakes people make."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from course import sdedit as reference
from course.checks.engine import Answer, Case, Exercise, Mistake
from course.checks.forward_process import normal, steps
from course.checks.sampling import (
    COSINE,
    HAND,
    LINEAR,
    SHORT,
    each_image,
    gaussian_model,
    pair,
)
from course.forward_process import at, q_sample, snr
from course.sampling import EpsModel, ddim_step, normal_like, sample, timesteps
from course.sdedit import noise_to


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- noise_to -------------------------------------------------------------------------------------


def noise_to_cases() -> list[Case]:
    def case(label: str, x: Tensor, t: int, alpha_bars: Tensor, seed: int | None = 1) -> Case:
        generator = None if seed is None else seeded(seed)
        inputs = {"x": x, "t": t, "alpha_bars": alpha_bars, "generator": generator}
        return Case(label, inputs)

    return [
        case("one pixel, by hand: √ᾱ is 0.6", torch.ones(1, 1, 1, 1), 1, HAND),
        case("three images", normal(3, 1, 4, 4), 500, LINEAR, 2),
        case("as many images as columns, in colour", normal(5, 3, 5, 5, seed=3), 4, SHORT, 3),
        case("the first level", normal(2, 1, 3, 3), 0, SHORT, 4),
        case("the last level", normal(2, 1, 3, 3), 999, COSINE, 5),
        case("without a generator", normal(2, 1, 3, 3), 5, SHORT, None),
        case("t = −1, out of range", normal(2, 1, 3, 3), -1, SHORT),
        case("t = T, out of range", normal(2, 1, 3, 3), 10, SHORT),
    ]


def levels(alpha_bars: Tensor, t: int) -> tuple[float, float]:
    """√ᾱ_t and √(1 − ᾱ_t); ValueError for a t out of range."""
    if not 0 <= t < len(alpha_bars):
        raise ValueError(f"t = {t}")
    return math.sqrt(alpha_bars[t]), math.sqrt(1 - alpha_bars[t])


def noise_to_with(
    signal: Callable[[float], float] = lambda root: root,
    noise: Callable[[float], float] = lambda root: root,
    draw: Callable[..., Tensor] = normal_like,
) -> Answer:
    """noise_to with other factors, as functions of √ᾱ_t and √(1 − ᾱ_t), or another noise."""

    def answer(
        x: Tensor, t: int, alpha_bars: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        root, rest = levels(alpha_bars, t)
        return signal(root) * x + noise(rest) * draw(x, generator)

    return answer


def noise_to_wrapped(
    x: Tensor, t: int, alpha_bars: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    a = alpha_bars[t]
    return a.sqrt() * x + (1 - a).sqrt() * normal_like(x, generator)


def noise_to_one_below(
    x: Tensor, t: int, alpha_bars: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    levels(alpha_bars, t)
    return noise_to_wrapped(x, t - 1, alpha_bars, generator)


def noise_to_in_a_list(
    x: Tensor, t: int, alpha_bars: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    eps = torch.randn(x.shape, generator=generator)
    return q_sample(x, torch.tensor([t] * len(x)), eps, alpha_bars)


def noise_to_by_variance(
    x: Tensor, t: int, alpha_bars: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    root, rest = levels(alpha_bars, t)
    return torch.lerp(torch.zeros_like(x), x, root).add(normal_like(x, generator), alpha=rest)


NOISE_TO = Exercise(
    reference.noise_to,
    noise_to_cases,
    mistakes=[
        Mistake("You added the noise but did not scale the image: it has to shrink by √ᾱ_t, or the "
                "network meets pixels of a size that it never saw.",
                noise_to_with(signal=lambda root: 1.0)),
        Mistake("You scaled the image by √ᾱ_t and left the noise at full size: it stands with "
                "√(1 − ᾱ_t).", noise_to_with(noise=lambda root: 1.0)),
        Mistake("You used ᾱ and 1 − ᾱ, which are shares of variance; image and noise are scaled by "
                "their roots.",
                noise_to_with(signal=lambda root: root**2, noise=lambda root: root**2)),
        Mistake("Your noise is not drawn from `generator`, so nobody can repeat the edit.",
                noise_to_with(draw=lambda x, generator: normal_like(x))),
        Mistake("All images get the same noise; each needs its own, of x's whole shape.",
                noise_to_with(draw=lambda x, generator:
                              normal_like(x[:1], generator).expand_as(x))),
        Mistake("You forgot the noise: that is the image, darkened.",
                noise_to_with(draw=lambda x, generator: torch.zeros_like(x))),
        Mistake("Your noise lies in 0…1: `rand` is uniform, `randn` normal.",
                noise_to_with(draw=lambda x, generator: torch.rand(x.shape, generator=generator))),
        Mistake("You noised to t − 1. In code t counts from 0: `alpha_bars[t]` is the level t.",
                noise_to_one_below),
        Mistake("t outside 0…T−1 is not refused with a ValueError: alpha_bars[-1] is the *last* "
                "level, pure noise. `at` and `q_sample` look after it.", noise_to_wrapped),
    ],
    alternatives=[noise_to_in_a_list, noise_to_by_variance, noise_to_with()],
    hints=["It is lesson 02's `q_sample`, with the same t for every image.",
           "`q_sample` wants t as an int64 tensor of shape (b,): `torch.full` fills one.",
           "The noise is `normal_like(x, generator)`."],
)  # fmt: skip


# --- sdedit ---------------------------------------------------------------------------------------


def sdedit_cases() -> list[Case]:
    def case(
        label: str, alpha_bars: Tensor, x: Tensor, t: int, seed: int | None, **chosen: Any
    ) -> Case:
        generator = None if seed is None else seeded(seed)
        inputs = {"eps_model": gaussian_model(alpha_bars), "x": x, "alpha_bars": alpha_bars, "t": t}
        return Case(label, {**inputs, "generator": generator, **chosen})

    some = normal(2, 1, 3, 3) / 2
    return [
        case("one pixel, two steps", HAND, torch.full((1, 1, 1, 1), 0.5), 1, 1, steps=2),
        case("from the middle, three steps", SHORT, some, 6, 2, steps=3),
        case("all the defaults", COSINE, some, 399, 3),
        case("t = 0: one level is left, fewer than steps", SHORT, some, 0, 4, steps=5),
        case("as many steps as levels", SHORT, some, 4, 5, steps=5),
        case("ancestral", SHORT, normal(3, 2, 2, 2, seed=4), 7, 6, steps=8, eta=1.0),
        case("η in between", COSINE, some, 599, 7, steps=7, eta=0.4),
        case("without a generator", SHORT, some, 5, None, steps=3, eta=1.0),
        case("without clipping", SHORT, 9 * some, 2, 8, steps=3, clip=False),
        case("the last level: nothing is kept", COSINE, some, 999, 9, steps=4),
        case("t = −1, out of range", SHORT, some, -1, 10, steps=2),
        case("t = T, out of range", SHORT, some, 10, 11, steps=2),
    ]


Noised = Callable[[Tensor, int, Tensor, torch.Generator | None], Tensor]


def sdedit_with(
    noised: Noised = noise_to,
    start: Callable[[int], int | None] = lambda t: t,
    calls: Callable[[int, int, int], int] = lambda steps, t, T: min(steps, t + 1),
    out: Callable[[list[Tensor]], list[Tensor]] = lambda xs: xs[1:],
    seed_walk: bool = True,
    **chosen: Any,
) -> Answer:
    """`sdedit` with its parts exchanged; `chosen` overrules what the caller chose.

    calls(steps, t, T) is how many there are; out(xs) picks what is yielded from the list that begins
    with the noised image; without `seed_walk` the walk draws from the global generator.
    """

    def answer(
        eps_model: EpsModel,
        x: Tensor,
        alpha_bars: Tensor,
        t: int,
        *,
        steps: int = 50,
        eta: float = 0.0,
        clip: bool = True,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        levels(alpha_bars, t)
        xs = [noised(x, t, alpha_bars, generator)]
        options = {"eta": eta, "clip": clip, **chosen}
        options["generator"] = generator if seed_walk else None
        count = calls(steps, t, len(alpha_bars))
        xs += sample(eps_model, xs[0], alpha_bars, steps=count, start=start(t), **options)
        yield from out(xs)

    return answer


def not_noised(
    x: Tensor, t: int, alpha_bars: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    return x


def noised_to_the_end(
    x: Tensor, t: int, alpha_bars: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    return noise_to(x, len(alpha_bars) - 1, alpha_bars, generator)


def only_noise(
    x: Tensor, t: int, alpha_bars: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    return normal_like(x, generator)


def sdedit_by_hand(
    eps_model: EpsModel,
    x: Tensor,
    alpha_bars: Tensor,
    t: int,
    *,
    steps: int = 50,
    eta: float = 0.0,
    clip: bool = True,
    generator: torch.Generator | None = None,
) -> list[Tensor]:
    """The loop written out, and the whole walk as a list."""
    root, rest = levels(alpha_bars, t)
    xt = root * x + rest * torch.randn(x.shape, generator=generator)
    walk = []
    for now, then in pairwise([*timesteps(t + 1, steps if steps <= t else t + 1), -1]):
        n, s = torch.tensor([now] * len(x)), torch.tensor([then] * len(x))
        z = torch.randn(x.shape, generator=generator) if eta else None
        with torch.no_grad():
            xt = ddim_step(xt, n, eps_model(xt, n), alpha_bars, s, eta, z, clip)
        walk.append(xt)
    return walk


def sdedit_returned(
    eps_model: EpsModel,
    x: Tensor,
    alpha_bars: Tensor,
    t: int,
    *,
    steps: int = 50,
    eta: float = 0.0,
    clip: bool = True,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """The sampler's generator itself, handed on."""
    start = torch.tensor([t]).expand(len(x))
    xt = q_sample(x, start, normal_like(x, generator), alpha_bars)
    n = min(t + 1, steps)
    return sample(eps_model, xt, alpha_bars, steps=n, eta=eta, start=t, clip=clip,
                  generator=generator)  # fmt: skip


SDEDIT = Exercise(
    reference.sdedit,
    sdedit_cases,
    mistakes=[
        Mistake("You noised to t, but your walk begins at T − 1: the network is told that all is "
                "noise and paints over the picture. Pass `start=t`.",
                sdedit_with(start=lambda t: None)),
        Mistake("You noised to T − 1, but your walk begins at t: the network takes the noise that "
                "is too much for part of the picture. Noise to the t where the walk begins.",
                sdedit_with(noised=noised_to_the_end)),
        Mistake("You forgot the noise: the network is told level t, sees a clean picture, and takes "
                "away a noise that is not there.", sdedit_with(noised=not_noised)),
        Mistake("You added noise without scaling the picture by √ᾱ_t. `noise_to` does both.",
                sdedit_with(noised=noise_to_with(signal=lambda root: 1.0))),
        Mistake("You start from pure noise, and the picture has no part in the result.",
                sdedit_with(noised=only_noise)),
        Mistake("Your walk begins one level below the noised picture's: `start=t`.",
                sdedit_with(start=lambda t: t - 1, calls=lambda steps, t, T: min(steps, t))),
        Mistake("You made only the share t/T of the steps, as if they were spread over all of "
                "0…T−1. Here all `steps` calls lie between t and 0.",
                sdedit_with(calls=lambda steps, t, T: max(1, steps * (t + 1) // T))),
        Mistake("Where t + 1 levels are fewer than `steps`, the sampler refuses. Visit each level "
                "once: at most t + 1 steps.", sdedit_with(calls=lambda steps, t, T: steps)),
        Mistake("You ignore `steps`.", sdedit_with(calls=lambda steps, t, T: min(50, t + 1))),
        Mistake("You ignore `eta`.", sdedit_with(eta=0.0)),
        Mistake("You ignore `clip`.", sdedit_with(clip=True)),
        Mistake("The noise of the beginning is not drawn from `generator`.",
                sdedit_with(noised=noise_to_with(draw=lambda x, generator: normal_like(x)))),
        Mistake("The noise of the steps (η > 0) is not drawn from `generator`: pass it on to "
                "`sample` too.", sdedit_with(seed_walk=False)),
        Mistake("You yield only the end. Yield each x on the way, so that an edit can be watched.",
                sdedit_with(out=lambda xs: xs[-1:])),
        Mistake("You yield the noised picture too; the first value is the first step's result, as "
                "in `sample`.", sdedit_with(out=lambda xs: xs)),
    ],
    alternatives=[sdedit_by_hand, sdedit_returned, sdedit_with()],
    hints=["Two parts, both of them written already: `noise_to`, then `sample` with `start=t`.",
           "`yield from sample(…)` hands on each x. Pass eta, clip and generator along.",
           "There are t + 1 levels from t to 0: ask for `min(steps, t + 1)` steps."],
)  # fmt: skip


# --- noise_outside --------------------------------------------------------------------------------


def noise_outside_cases() -> list[Case]:
    def case(label: str, x: tuple[Tensor, Tensor], mask: Tensor, t: Tensor, a: Tensor) -> Case:
        eps_hat = normal(*x[0].shape, seed=9, dtype=x[0].dtype)
        inputs = {"eps_hat": eps_hat, "x": x[0], "mask": mask, "xt": x[1], "t": t, "alpha_bars": a}
        return Case(label, inputs)

    two = (
        torch.tensor([1.0, -0.5]).reshape(1, 1, 1, 2),
        torch.tensor([2.0, 1.5]).reshape(1, 1, 1, 2),
    )
    left, half = torch.tensor([1.0, 0.0]), (torch.arange(5) > 2).float()
    soft = torch.arange(2 * 4 * 3 * 6).reshape(2, 4, 3, 6).double() % 5 / 4
    return [
        case("two pixels, by hand: the left one may change", two, left, steps(0), HAND),
        case("three images, each at its own t", pair(3, 1, 4, 4),
             torch.eye(4)[None, None], steps(5, 999, 500), COSINE),
        case("as many images as columns, in colour", pair(5, 3, 5, 5), half, steps(9, 2, 0, 4, 1),
             SHORT),
        case("float64, a soft mask for each image",
             pair(2, 4, 3, 6, dtype=torch.float64), soft, steps(7, 9), SHORT),
    ]  # fmt: skip


Known = Callable[[Tensor, Tensor, Tensor], Tensor]


def _known(x: Tensor, xt: Tensor, a: Tensor) -> Tensor:
    return (xt - a.sqrt() * x) / (1 - a).sqrt()


def outside_with(
    known: Known = _known,
    inside: Callable[[Tensor, Tensor], Tensor] = lambda eps_hat, known: eps_hat,
    pick: Callable[[Tensor], Tensor] = lambda mask: mask,
) -> Answer:
    """noise_outside by a formula of x, x_t and ᾱ for the outside, with another mask or inside."""

    def answer(
        eps_hat: Tensor, x: Tensor, mask: Tensor, xt: Tensor, t: Tensor, alpha_bars: Tensor
    ) -> Tensor:
        outside = known(x, xt, at(alpha_bars, t, xt))
        m = pick(mask)
        return (m * inside(eps_hat, outside) + (1 - m) * outside).to(xt)

    return answer


def outside_first_t(
    eps_hat: Tensor, x: Tensor, mask: Tensor, xt: Tensor, t: Tensor, alpha_bars: Tensor
) -> Tensor:
    return outside_with()(eps_hat, x, mask, xt, t[:1].expand_as(t), alpha_bars)


def outside_unshaped(
    eps_hat: Tensor, x: Tensor, mask: Tensor, xt: Tensor, t: Tensor, alpha_bars: Tensor
) -> Tensor:
    return (mask * eps_hat + (1 - mask) * _known(x, xt, alpha_bars[t])).to(xt)


def outside_by_prediction(
    eps_hat: Tensor, x: Tensor, mask: Tensor, xt: Tensor, t: Tensor, alpha_bars: Tensor
) -> Tensor:
    """The predicted image, with x pasted outside the mask, as noise."""
    a = at(alpha_bars, t, xt)
    x0_hat = (xt - (1 - a).sqrt() * eps_hat) / a.sqrt()
    return (xt - a.sqrt() * (mask * x0_hat + (1 - mask) * x)) / (1 - a).sqrt()


def outside_by_blending(
    eps_hat: Tensor, x: Tensor, mask: Tensor, xt: Tensor, t: Tensor, alpha_bars: Tensor
) -> Tensor:
    known = each_image(lambda i, now, clean: _known(clean, now, alpha_bars[i].to(now)), t, xt, x)
    return torch.lerp(known, eps_hat, mask.expand_as(known))


NOISE_OUTSIDE = Exercise(
    reference.noise_outside,
    noise_outside_cases,
    mistakes=[
        Mistake("Your mask is inverted: 1 is where the edit may change x, so there the "
                "prediction counts.",
                lambda eps_hat, x, mask, xt, t, alpha_bars:
                outside_with()(eps_hat, x, 1 - mask, xt, t, alpha_bars)),
        Mistake("You compare x_t with the clean original. In x_t it stands scaled: the original at "
                "level t is √ᾱ_t x, plus noise.",
                outside_with(lambda x, xt, a: (xt - x) / (1 - a).sqrt())),
        Mistake("What is left of x_t is √(1 − ᾱ_t) ε: divide by the root to get the noise itself.",
                outside_with(lambda x, xt, a: xt - a.sqrt() * x)),
        Mistake("You divided by 1 − ᾱ; the noise stands with its root.",
                outside_with(lambda x, xt, a: (xt - a.sqrt() * x) / (1 - a))),
        Mistake("You used ᾱ where √ᾱ belongs: it scales the variance; the picture is scaled by the "
                "root.", outside_with(lambda x, xt, a: (xt - a * x) / (1 - a).sqrt())),
        Mistake("Outside the mask you said that there is no noise. There is: x_t is noisy "
                "everywhere, and what you leave in it ends up in the edit.",
                outside_with(lambda x, xt, a: torch.zeros_like(xt))),
        Mistake("Outside the mask you put x itself. A *noise* is asked for: the one that leads from "
                "x to x_t.", outside_with(lambda x, xt, a: x)),
        Mistake("You ignore the mask: everything may change.",
                outside_with(pick=torch.ones_like)),
        Mistake("You read the mask as yes or no. Between 0 and 1 it blends the two noises.",
                outside_with(pick=lambda mask: (mask > 0).to(mask))),
        Mistake("You ignore the prediction: nothing may change.",
                outside_with(inside=lambda eps_hat, known: known)),
        Mistake("You took the first image's t for all; each image has its own.", outside_first_t),
        Mistake("alpha_bars[t] has shape (b,), the images (b, c, h, w): shape it (b, 1, 1, 1), or "
                "it meets the wrong axis. `at` does it.", outside_unshaped),
    ],
    alternatives=[outside_by_prediction, outside_by_blending, outside_with()],
    hints=["Outside, x and x_t are both known. Solve the closed form for the third, ε.",
           "`mask * a + (1 - mask) * b` is a where the mask is 1 and b where it is 0.",
           "`at(alpha_bars, t, xt)` is ᾱ_t shaped (b, 1, 1, 1)."],
)  # fmt: skip


# --- strength_timesteps ---------------------------------------------------------------------------


def strength_cases() -> list[Case]:
    chosen = [
        ("half of ten steps", 0.5, 10, 1000),
        ("diffusers' usual 0.8 of 50", 0.8, 50, 1000),
        ("a fraction of a call", 0.75, 10, 1000),
        ("a smaller fraction of a call", 0.4, 8, 100),
        ("all of the strength", 1.0, 4, 20),
        ("a single call", 0.25, 4, 20),
        ("too little for one call", 0.1, 4, 1000),
        ("no strength at all", 0.0, 50, 1000),
        ("a strength above 1", 1.5, 4, 1000),
        ("a strength below 0", -0.5, 10, 1000),
    ]
    return [
        Case(label, {"strength": strength, "inference_steps": n, "T": T})
        for label, strength, n, T in chosen
    ]


def strength_with(
    calls: Callable[[float], int] = int,
    walk: Callable[[list[int], int], list[int]] = lambda values, calls: values[-calls:],
    refuse: Callable[[float, int], bool] = lambda strength, calls: (
        not (calls and 0 <= strength <= 1)
    ),
) -> Answer:
    """strength_timesteps with another count, another part of the walk, or another refusal."""

    def answer(strength: float, inference_steps: int, T: int) -> list[int]:
        count = calls(strength * inference_steps)
        if refuse(strength, int(strength * inference_steps)):
            raise ValueError("strength")
        return walk(timesteps(T, inference_steps), count)

    return answer


def strength_turned(strength: float, inference_steps: int, T: int) -> list[int]:
    if not (0 <= strength <= 1 and int(strength * inference_steps)):
        raise ValueError("strength")
    return timesteps(T, inference_steps)[int(strength * inference_steps) :]


def strength_all_calls(strength: float, inference_steps: int, T: int) -> list[int]:
    if not (0 <= strength <= 1 and int(strength * inference_steps)):
        raise ValueError("strength")
    first = round(strength * T)
    return timesteps(first, min(first, inference_steps))


def strength_by_index(strength: float, inference_steps: int, T: int) -> list[int]:
    if strength < 0 or strength > 1 or strength * inference_steps < 1:
        raise ValueError("strength")
    walk = timesteps(T, inference_steps)
    return walk[inference_steps - math.floor(strength * inference_steps) :]


def strength_by_count(strength: float, inference_steps: int, T: int) -> list[int]:
    if not 1 <= strength * inference_steps <= inference_steps:
        raise ValueError("strength")
    kept = [t for k, t in enumerate(reversed(timesteps(T, inference_steps)), 1)
            if k <= strength * inference_steps]  # fmt: skip
    return kept[::-1]


STRENGTH_TIMESTEPS = Exercise(
    reference.strength_timesteps,
    strength_cases,
    mistakes=[
        Mistake("You took the noisy end of the walk. An edit takes its *last* steps, down to the "
                "data.", strength_with(walk=lambda values, calls: values[:calls])),
        Mistake("You left out as many steps as should be taken: strength is the share that *is* "
                "walked, 1 being all.", strength_turned),
        Mistake("You spread all `inference_steps` over what is left, as `sdedit` does. diffusers "
                "counts them over the whole of T−1…0 and takes a share.", strength_all_calls),
        Mistake("A fraction of a call is cut off, not rounded to the nearest.",
                strength_with(calls=round)),
        Mistake("A fraction of a call is cut off, not rounded up.",
                strength_with(calls=math.ceil)),
        Mistake("Where no call is left you return the whole walk: in Python, [-0:] is everything. "
                "Raise a ValueError.",
                strength_with(refuse=lambda strength, calls: calls < 0 or strength > 1)),
        Mistake("A strength above 1 is not refused: raise a ValueError.",
                strength_with(refuse=lambda strength, calls: calls < 1)),
        Mistake("Nothing is refused: raise a ValueError where strength lies outside 0…1 or leaves no "
                "call.", strength_with(refuse=lambda strength, calls: False)),
        Mistake("You dropped the noisiest call that belongs to the edit: ⌊strength · "
                "inference_steps⌋ are taken.",
                strength_with(walk=lambda values, calls: values[len(values) - calls + 1 :])),
    ],
    alternatives=[strength_by_index, strength_by_count, strength_with()],
    hints=["`timesteps(T, inference_steps)` is the whole walk, noisiest first.",
           "Count the calls first, `int(strength * inference_steps)`, and refuse fewer than 1.",
           "The last n values of a list are `[-n:]`."],
)  # fmt: skip


# --- coarse ---------------------------------------------------------------------------------------


def blotches(*shape: int, block: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Pictures in [−1, 1] whose squares have unlike means, with grain in each."""
    b, c, h, w = shape
    large = normal(b, c, h // block, w // block, seed=seed, dtype=dtype)
    large = F.interpolate(large, scale_factor=block)
    return (large + 0.4 * normal(*shape, seed=seed + 1, dtype=dtype)).clamp(-1, 1)


def coarse_cases() -> list[Case]:
    by_hand = torch.tensor([[1.0, 0.8, -1.0, -0.8], [0.6, 0.8, -0.6, 0.2],
                            [-1.0, 1.0, -1.0, -1.0], [1.0, 0.2, 1.0, -0.4]])  # fmt: skip
    return [
        Case("four squares of four pixels, black and white",
             {"x": by_hand[None, None], "block": 2, "levels": 2}),
        Case("all the defaults", {"x": blotches(3, 1, 28, 28, block=4)}),
        Case("five greys, in colour",
             {"x": blotches(2, 3, 8, 12, block=2, seed=2), "block": 2, "levels": 5}),
        Case("four greys", {"x": blotches(2, 1, 14, 14, block=7, seed=4), "block": 7, "levels": 4}),
        Case("squares of one pixel", {"x": blotches(2, 1, 5, 6, block=1, seed=6), "block": 1}),
        Case("float64", {"x": blotches(2, 1, 8, 8, block=4, seed=8, dtype=torch.float64)}),
    ]  # fmt: skip


def greys(x: Tensor, levels: int) -> Tensor:
    """The nearest of `levels` values evenly spaced over [−1, 1]."""
    return torch.round((x + 1) / 2 * (levels - 1)) / (levels - 1) * 2 - 1


def coarse_with(
    pool: Callable[[Tensor, int], Tensor] = F.avg_pool2d,
    quantise: Callable[[Tensor, int], Tensor] = greys,
    enlarge: Callable[[Tensor, int], Tensor] = lambda x, block: F.interpolate(
        x, scale_factor=block
    ),
) -> Answer:
    """`coarse` with one of its three parts exchanged."""

    def answer(x: Tensor, block: int = 4, levels: int = 3) -> Tensor:
        return enlarge(quantise(pool(x, block), levels), block)

    return answer


def coarse_quantised_first(x: Tensor, block: int = 4, levels: int = 3) -> Tensor:
    return F.interpolate(F.avg_pool2d(greys(x, levels), block), scale_factor=block)


def coarse_in_blocks(x: Tensor, block: int = 4, levels: int = 3) -> Tensor:
    b, c, h, w = x.shape
    squares = x.reshape(b, c, h // block, block, w // block, block).mean(dim=(3, 5))
    values = torch.linspace(-1, 1, levels).to(x)
    nearest = values[(squares[..., None] - values).abs().argmin(dim=-1)]
    return nearest.repeat_interleave(block, dim=2).repeat_interleave(block, dim=3)


def coarse_in_a_loop(x: Tensor, block: int = 4, levels: int = 3) -> Tensor:
    out = torch.empty_like(x)
    for top in range(0, x.shape[2], block):
        for left in range(0, x.shape[3], block):
            square = x[:, :, top : top + block, left : left + block]
            mean = square.double().mean(dim=(2, 3), keepdim=True)
            out[:, :, top : top + block, left : left + block] = greys(mean, levels).to(x)
    return out


def _bilinear(x: Tensor, block: int) -> Tensor:
    return F.interpolate(x, scale_factor=block, mode="bilinear")


COARSE = Exercise(
    reference.coarse,
    coarse_cases,
    mistakes=[
        Mistake("You rounded to greys before averaging, so the squares hold means of greys, which "
                "are no longer a few. Average first.", coarse_quantised_first),
        Mistake("You rounded in [−1, 1] directly: that gives 2 · levels − 1 greys. Move to [0, 1] "
                "first, and back afterwards.",
                coarse_with(quantise=lambda x, n: torch.round(x * (n - 1)) / (n - 1))),
        Mistake("You have levels + 1 greys: between `levels` values, both ends among them, lie "
                "levels − 1 gaps.",
                coarse_with(quantise=lambda x, n: torch.round((x + 1) / 2 * n) / n * 2 - 1)),
        Mistake("You did not round to the few greys.", coarse_with(quantise=lambda x, n: x)),
        Mistake("You rounded down; the nearest grey is asked for.",
                coarse_with(quantise=lambda x, n:
                            torch.floor((x + 1) / 2 * (n - 1)) / (n - 1) * 2 - 1)),
        Mistake("Your picture lies in [0, 1]: move it back to [−1, 1].",
                coarse_with(quantise=lambda x, n: torch.round((x + 1) / 2 * (n - 1)) / (n - 1))),
        Mistake("You took each square's brightest pixel instead of its mean.",
                coarse_with(pool=F.max_pool2d)),
        Mistake("You took one pixel of each square instead of its mean.",
                coarse_with(pool=lambda x, block: x[:, :, ::block, ::block])),
        Mistake("The picture is still small: enlarge each value to a block × block square.",
                coarse_with(enlarge=lambda x, block: x)),
        Mistake("You enlarged smoothly, which makes new greys; each square holds one value.",
                coarse_with(enlarge=_bilinear)),
    ],
    alternatives=[coarse_in_blocks, coarse_in_a_loop, coarse_with()],
    hints=["Three parts: average over squares, round to a few greys, enlarge again.",
           "For the rounding, move [−1, 1] to [0, 1], multiply by levels − 1, round, and go back.",
           "`F.avg_pool2d(x, block)` averages; `F.interpolate(…, scale_factor=block)` enlarges."],
)  # fmt: skip


# --- faithfulness ---------------------------------------------------------------------------------


def faithfulness_cases() -> list[Case]:
    def case(label: str, edit: Tensor, x: Tensor, strangers: Tensor, **chosen: int) -> Case:
        return Case(label, {"edit": edit, "x": x, "strangers": strangers, **chosen})

    pixel = torch.ones(1, 1, 1, 1)
    x, strangers = blotches(3, 1, 8, 8, block=4), blotches(3, 1, 8, 8, block=4, seed=2)
    near = x + 0.5 * normal(3, 1, 8, 8, seed=5)
    uneven = torch.tensor([0.2, 0.5, 1.1]).reshape(3, 1, 1, 1)
    return [
        case("one pixel, by hand", 0.5 * pixel, 1.0 * pixel, -pixel, block=1),
        case("all the defaults", near, x, strangers),
        case("pixel by pixel", near, x, strangers, block=1),
        case("one edit much worse than the others", x + uneven, x, strangers, block=2),
        case("the input itself", x, x, strangers),
        case("further away than strangers", -x - 1, x, x / 2),
        case("in colour", *(blotches(2, 3, 6, 4, block=2, seed=s) for s in (1, 3, 5)), block=2),
        case("float64", *(t.double() for t in (near, x, strangers))),
    ]  # fmt: skip


def faithful_with(
    score: Callable[[Tensor, Tensor], Tensor] = lambda near, far: 1 - near.mean() / far.mean(),
    cut: bool = True,
    pool: Callable[[Tensor, int], Tensor] = F.avg_pool2d,
    reduce: Callable[[Tensor], Tensor] = torch.square,
) -> Answer:
    """faithfulness with its parts exchanged: near and far are (b, …), `reduce` of differences."""

    def answer(edit: Tensor, x: Tensor, strangers: Tensor, block: int = 4) -> float:
        edit, x, strangers = (pool(images, block) for images in (edit, x, strangers))
        value = float(score(reduce(edit - x), reduce(strangers - x)))
        return max(0.0, value) if cut else value

    return answer


def faithful_to_strangers(edit: Tensor, x: Tensor, strangers: Tensor, block: int = 4) -> float:
    edit, x, strangers = (F.avg_pool2d(images, block) for images in (edit, x, strangers))
    return max(0.0, 1 - float(F.mse_loss(edit, x) / F.mse_loss(edit, strangers)))


def faithful_by_norms(edit: Tensor, x: Tensor, strangers: Tensor, block: int = 4) -> float:
    """Sums of squares in float64, whose ratio is that of the means."""
    kernel = torch.full((1, 1, block, block), 1.0 / block**2, dtype=torch.float64)
    d_edit, d_far = (
        F.conv2d((images - x).double().flatten(0, 1)[:, None], kernel, stride=block)
        for images in (edit, strangers)
    )
    return max(1 - float(d_edit.norm() ** 2 / d_far.norm() ** 2), 0.0)


def _each_image(near: Tensor, far: Tensor) -> Tensor:
    return (1 - near.flatten(1).mean(dim=1) / far.flatten(1).mean(dim=1)).mean()


FAITHFULNESS = Exercise(
    reference.faithfulness,
    faithfulness_cases,
    mistakes=[
        Mistake("You compare pixel by pixel and ignore `block`: a line that moved by its own width "
                "then counts as forgotten.", faithful_with(pool=lambda x, block: x)),
        Mistake("That is the ratio of distances, 0 for a faithful edit. Return 1 minus it.",
                faithful_with(score=lambda near, far: near.mean() / far.mean())),
        Mistake("Your ratio is upside down: the edits' distance is above, the strangers' below.",
                faithful_with(score=lambda near, far: 1 - far.mean() / near.mean())),
        Mistake("You did not stop at 0: an edit further off than a stranger is not faithful, "
                "and that is all.", faithful_with(cut=False)),
        Mistake("You took the root. The distances are mean *squared* differences.",
                faithful_with(score=lambda near, far: 1 - (near.mean() / far.mean()).sqrt())),
        Mistake("You took absolute differences; they are to be squared.",
                faithful_with(reduce=torch.abs)),
        Mistake("You averaged the differences before squaring: brighter here and darker there then "
                "cancel.",
                faithful_with(reduce=lambda d: d,
                              score=lambda near, far: 1 - near.mean()**2 / far.mean()**2)),
        Mistake("You averaged each image's own ratio, where one odd stranger decides. Divide the "
                "mean distance of all edits by that of all strangers.",
                faithful_with(score=_each_image)),
        Mistake("The strangers are compared with the inputs, not with the edits.",
                faithful_to_strangers),
        Mistake("You did not divide by the strangers' distance, so nobody can tell what is far.",
                faithful_with(score=lambda near, far: 1 - near.mean())),
    ],
    alternatives=[faithful_by_norms, faithful_with()],
    hints=["Average all three over squares with `F.avg_pool2d` first.",
           "Two mean squared differences: edits to inputs, strangers to inputs.",
           "1 minus their ratio, and `max(0.0, …)`."],
)  # fmt: skip


# --- balance --------------------------------------------------------------------------------------


def balance_cases() -> list[Case]:
    def case(
        label: str, f: list[float], r: list[float], dtype: torch.dtype = torch.float32
    ) -> Case:
        faithful, realistic = torch.tensor(f, dtype=dtype), torch.tensor(r, dtype=dtype)
        return Case(label, {"faithful": faithful, "realistic": realistic})

    return [
        case("one edit, by hand", [0.75], [0.25]),
        case("three edits", [1.0, 0.6, 0.1], [0.2, 0.5, 0.8]),
        case("one of the two is 0", [0.0, 0.5], [0.7, 0.0]),
        case("both are 0", [0.0, 0.4], [0.0, 0.1]),
        case("both are 1", [1.0], [1.0]),
        case("float64", [0.3, 0.9], [0.6, 0.05], torch.float64),
    ]


Mean = Callable[[Tensor, Tensor], Tensor]


def harmonic(f: Tensor, r: Tensor) -> Tensor:
    return (2 * f * r / (f + r)).nan_to_num(nan=0.0)


def balance_with(mean: Mean) -> Answer:
    return lambda faithful, realistic: mean(faithful, realistic)


def balance_in_a_loop(faithful: Tensor, realistic: Tensor) -> Tensor:
    pairs = zip(faithful.tolist(), realistic.tolist(), strict=True)
    return torch.tensor([2 / (1 / f + 1 / r) if f and r else 0.0 for f, r in pairs]).to(faithful)


BALANCE = Exercise(
    reference.balance,
    balance_cases,
    mistakes=[
        Mistake("That is the ordinary mean, under which an edit that changes nothing still gets half "
                "the marks. The harmonic mean is 2fr / (f + r).",
                balance_with(lambda f, r: (f + r) / 2)),
        Mistake("That is the geometric mean √(fr). The harmonic one is stricter: 2fr / (f + r).",
                balance_with(lambda f, r: (f * r).sqrt())),
        Mistake("That is the product; the harmonic mean divides twice the product by the sum.",
                balance_with(lambda f, r: f * r)),
        Mistake("The 2 is missing: of two equal numbers the mean is that number.",
                balance_with(lambda f, r: harmonic(f, r) / 2)),
        Mistake("That is the smaller of the two; the harmonic mean also looks at the larger.",
                balance_with(torch.minimum)),
        Mistake("Where both are 0 you divide 0 by 0, which is NaN. Their mean is 0.",
                balance_with(lambda f, r: 2 * f * r / (f + r))),
    ],
    alternatives=[
        balance_in_a_loop,
        balance_with(harmonic),
        balance_with(lambda f, r: 2 * f * r / (f + r).clamp(min=1e-30)),
    ],
    hints=["Twice the product over the sum, for each pair.",
           "0/0 is NaN, and one NaN spoils a maximum: see to the pairs whose sum is 0.",
           "`torch.where(condition, value, 0)` picks the value only where the condition holds."],
)  # fmt: skip


# --- snr_matched_t --------------------------------------------------------------------------------


def snr_matched_cases() -> list[Case]:
    def case(
        label: str, t: int, a: Tensor, size: int, to_size: int, to: Tensor | None = None
    ) -> Case:
        inputs = {"t": t, "alpha_bars": a, "size": size, "to_size": to_size}
        return Case(label, inputs if to is None else {**inputs, "to_alpha_bars": to})

    falling = torch.tensor([0.9, 0.8, 0.5, 0.2])  # SNR: 9, 4, 1 and ¼
    gaps = torch.tensor([0.99, 0.9, 0.5, 0.45, 0.1])
    return [
        case("SNR 9, 4, 1, ¼: half the size", 3, falling, 2, 1),
        case("SNR 9, 4, 1, ¼: twice the size", 1, falling, 14, 28),
        case("256 to 28 pixels, linear schedule", 500, LINEAR, 256, 28),
        case("256 to 28 pixels, cosine schedule", 500, COSINE, 256, 28),
        case("28 to 256 pixels", 150, LINEAR, 28, 256),
        case("the same size", 321, COSINE, 28, 28),
        case("from one schedule to another", 700, LINEAR, 64, 28, COSINE),
        case("wide gaps between levels", 3, gaps, 3, 2),
        case("wide gaps, upwards", 1, gaps, 4, 5),
        case("in the middle of a wide gap", 1, gaps, 2, 1),
        case("cleaner than any level", 1, falling, 256, 28),
        case("float64", 600, LINEAR.double(), 112, 28),
    ]


Factor = Callable[[float], float]


def matched_with(
    factor: Factor = lambda k: k**2,
    ratio: Callable[[Tensor], Tensor] = snr,
    place: Callable[[Tensor, Tensor], Tensor] = lambda ratios, wanted: (
        (ratios / wanted).log().abs().argmin()
    ),
    other: bool = True,
) -> Answer:
    """snr_matched_t with another factor of k = size / to_size, another ratio or another choice."""

    def answer(
        t: int, alpha_bars: Tensor, size: int, to_size: int, to_alpha_bars: Tensor | None = None
    ) -> int:
        levels = alpha_bars if to_alpha_bars is None or not other else to_alpha_bars
        return int(place(ratio(levels), factor(size / to_size) * ratio(alpha_bars)[t]))

    return answer


def matched_by_proportion(
    t: int, alpha_bars: Tensor, size: int, to_size: int, to_alpha_bars: Tensor | None = None
) -> int:
    return min(round(t * to_size / size), len(alpha_bars) - 1)


def matched_read_in_the_other(
    t: int, alpha_bars: Tensor, size: int, to_size: int, to_alpha_bars: Tensor | None = None
) -> int:
    levels = alpha_bars if to_alpha_bars is None else to_alpha_bars
    return matched_with()(t, levels, size, to_size)


def matched_by_logit(
    t: int, alpha_bars: Tensor, size: int, to_size: int, to_alpha_bars: Tensor | None = None
) -> int:
    levels = alpha_bars if to_alpha_bars is None else to_alpha_bars
    wanted = torch.logit(alpha_bars.double()[t]) + 2 * math.log(size / to_size)
    return int((torch.logit(levels.double()) - wanted).abs().argmin())


def matched_in_a_loop(
    t: int, alpha_bars: Tensor, size: int, to_size: int, to_alpha_bars: Tensor | None = None
) -> int:
    levels = (alpha_bars if to_alpha_bars is None else to_alpha_bars).tolist()
    a = float(alpha_bars[t])
    noise_to_signal = (1 - a) / a / (size / to_size) ** 2
    apart = [abs(math.log(b / (1 - b) * noise_to_signal)) for b in levels]
    return apart.index(min(apart))


SNR_MATCHED_T = Exercise(
    reference.snr_matched_t,
    snr_matched_cases,
    mistakes=[
        Mistake("You multiplied the SNR by k = size / to_size. Averaging divides the noise by k, and "
                "the SNR is a ratio of *variances*: it grows by k².", matched_with(lambda k: k)),
        Mistake("Your factor is upside down. Averaged down to a smaller size, the noise shrinks and "
                "the SNR grows: (size / to_size)².", matched_with(lambda k: k**-2)),
        Mistake("Your SNR grew by k⁴: once squared too often. Averaging k² pixels divides the "
                "noise's variance by k², and the SNR is a ratio of variances.",
                matched_with(lambda k: k**4)),
        Mistake("You matched ᾱ. It is the ratio ᾱ / (1 − ᾱ) that grows by k²: `snr` gives it.",
                matched_with(ratio=lambda a: a)),
        Mistake("You took the level nearest in *difference*. Ratios are compared as ratios, by "
                "their logarithms.",
                matched_with(place=lambda ratios, wanted: (ratios - wanted).abs().argmin())),
        Mistake("You took the first level that is noisier than wanted; the nearest may lie before "
                "it.",
                matched_with(place=lambda ratios, wanted:
                             (ratios < wanted).to(torch.uint8).argmax())),
        Mistake("You scaled t itself. t is a number in a list; what is matched is the noise.",
                matched_by_proportion),
        Mistake("You ignore `to_alpha_bars`: t' is a level of that schedule.",
                matched_with(other=False)),
        Mistake("You read SNR(t) from the schedule of t'. It belongs to `alpha_bars`.",
                matched_read_in_the_other),
    ],
    alternatives=[matched_by_logit, matched_in_a_loop, matched_with()],
    hints=["`snr(alpha_bars)[t]` is the ratio at level t; multiply it by (size / to_size)².",
           "Then look through the SNRs of all levels of the other schedule for the nearest.",
           "Nearest as a ratio: the smallest |log(SNR / wanted)|. `argmin` finds its place."],
)  # fmt: skip

EXERCISES = [
    NOISE_TO,
    SDEDIT,
    COARSE,
    FAITHFULNESS,
    BALANCE,
    NOISE_OUTSIDE,
    SNR_MATCHED_T,
    STRENGTH_TIMESTEPS,
]
