"""Lesson 13: what right answers satisfy, and the mistakes people make."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from course import flow_matching as reference
from course.checks.engine import Answer, Case, Exercise, Inputs, Mistake
from course.checks.forward_process import normal, steps
from course.checks.sampling import COSINE, HAND, SHORT, pair, run_sample, wide
from course.checks.training import Guess, run_loss
from course.flow_matching import Velocity, euler_step, heun_step, per_image, straight_path

Formula = Callable[[Tensor, Tensor, Tensor], Tensor]


def times(*values: float) -> Tensor:
    return torch.tensor(values)


def wavy(x: Tensor, t: Tensor) -> Tensor:
    """A velocity that bends in x and changes with t, one time an image, with a weight in it."""
    one = torch.ones((), dtype=x.dtype, requires_grad=True)
    t = per_image(t, x)
    return one * torch.sin(2 * x + t) * (1 + t**2) + torch.cos(3 * t) - x / 2


# --- straight_path --------------------------------------------------------------------------------


def path_cases() -> list[Case]:
    one, half = torch.full((1, 1, 1, 1), 1.0), torch.full((1, 1, 1, 1), -0.5)
    cases = [Case("one pixel, by hand", {"x0": one, "t": times(0.25), "eps": half})]
    for label, x, t in [
        ("three images, each at its own t", pair(3, 1, 4, 4), times(0.1, 0.9, 0.5)),
        ("as many images as columns", pair(5, 3, 5, 5, seed=2), times(0.0, 0.2, 0.35, 1.0, 0.8)),
        ("points of a plane", pair(2, 2, seed=4), times(0.3, 0.6)),
        ("float64", pair(2, 4, 3, 6, dtype=torch.float64), times(0.75, 0.4)),
    ]:
        cases.append(Case(label, {"x0": x[0], "t": t, "eps": x[1]}))
    return cases


def path_with(formula: Formula) -> Answer:
    """straight_path by a formula of x_0, t (b, 1, …) and ε."""
    return lambda x0, t, eps: formula(x0, wide(t, x0), eps)


def path_in_a_loop(x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    parts = zip(t.tolist(), x0, eps, strict=True)
    return torch.stack([(1 - s) * x + s * e for s, x, e in parts])


STRAIGHT_PATH = Exercise(
    reference.straight_path,
    path_cases,
    mistakes=[
        Mistake("Your time runs the other way: here the data are at t = 0 and the noise at t = 1. "
                "(Half of the papers do it like you; mixing the two gives noise, and no error.)",
                path_with(lambda x, t, e: t * x + (1 - t) * e)),
        Mistake("Those are the roots √(1 − t) and √t of a diffusion. The straight path is a plain "
                "average: the weights themselves add up to 1.",
                path_with(lambda x, t, e: (1 - t).sqrt() * x + t.sqrt() * e)),
        Mistake("The noise is added and the image stays whole; at t = 1 nothing of it may be left.",
                path_with(lambda x, t, e: x + t * e)),
        Mistake("The image fades but the noise is there from the start; at t = 0 none may be.",
                path_with(lambda x, t, e: (1 - t) * x + e)),
        Mistake("You walk away from the noise: the way from x_0 to ε is ε − x_0, not x_0 − ε.",
                path_with(lambda x, t, e: x + t * (x - e))),
        Mistake("You took the first image's t for all; each image has its own.",
                lambda x0, t, eps: straight_path(x0, t[:1].expand_as(t), eps)),
        Mistake("t has shape (b,), the images (b, c, h, w): shape it (b, 1, 1, 1), or it meets the "
                "wrong axis. `per_image` does it.",
                lambda x0, t, eps: ((1 - t) * x0 + t * eps).to(x0)),
    ],
    alternatives=[
        path_with(lambda x, t, e: x + t * (e - x)),
        path_with(lambda x, t, e: torch.lerp(x, e, t)),
        path_in_a_loop,
    ],
    hints=["Two weights that add up to 1: at t = 0 all of x_0, at t = 1 all of ε.",
           "`per_image(t, x0)` is t shaped (b, 1, 1, 1)."],
)  # fmt: skip


# --- flow_loss ------------------------------------------------------------------------------------


def flow_loss_cases() -> list[Case]:
    return [Case(case.label, {"velocity": Guess(), **case.inputs}) for case in path_cases()]


def run_flow_loss(answer: Answer, inputs: Inputs) -> dict[str, Any]:
    """The loss and its gradient."""
    return run_loss(lambda model, velocity, **rest: answer(velocity, **rest),
                    {"model": inputs["velocity"], **inputs})  # fmt: skip


def flow_loss_of(measure: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Answer:
    """A loss that is some function of û, ε, x_0 and x_t."""

    def flow_loss(velocity: Velocity, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        xt = straight_path(x0, t, eps)
        return measure(velocity(xt, t), eps, x0, xt)

    return flow_loss


def flow_loss_given(see: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Answer:
    """The right loss of a velocity that is told something else than x_t and t."""
    return lambda velocity, x0, t, eps: F.mse_loss(velocity(*see(x0, t, eps)), eps - x0)


def flow_loss_of_roots(velocity: Velocity, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    w = wide(t, x0)
    return F.mse_loss(velocity((1 - w).sqrt() * x0 + w.sqrt() * eps, t), eps - x0)


def flow_loss_backwards(velocity: Velocity, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    return F.mse_loss(velocity(straight_path(eps, t, x0), t), x0 - eps)


def flow_loss_with_own_noise(velocity: Velocity, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    eps = torch.randn_like(x0)
    return F.mse_loss(velocity(straight_path(x0, t, eps), t), eps - x0)


def flow_loss_in_a_loop(velocity: Velocity, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    total = torch.zeros((), dtype=x0.dtype)
    for i in range(len(x0)):
        one = slice(i, i + 1)
        xt = x0[one] + float(t[i]) * (eps[one] - x0[one])
        total = total + (x0[one] + velocity(xt, t[one]) - eps[one]).square().sum()
    return total / x0.numel()


FLOW_LOSS = Exercise(
    reference.flow_loss,
    flow_loss_cases,
    mistakes=[
        Mistake("Your target has the wrong sign. As t grows the point moves from x_0 towards ε: its "
                "velocity is ε − x_0.",
                flow_loss_of(lambda u, eps, x0, xt: F.mse_loss(u, x0 - eps))),
        Mistake("That is the loss of a network that predicts the noise. A velocity is compared with "
                "ε − x_0.", flow_loss_of(lambda u, eps, x0, xt: F.mse_loss(u, eps))),
        Mistake("That is the loss of a network that predicts the image. A velocity is compared with "
                "ε − x_0.", flow_loss_of(lambda u, eps, x0, xt: F.mse_loss(u, x0))),
        Mistake("The target is ε − x_t. The velocity of a straight path is the whole way, ε − x_0, "
                "and the same at every t; what is left of the way is not asked for.",
                flow_loss_of(lambda u, eps, x0, xt: F.mse_loss(u, eps - xt))),
        Mistake("That is the other convention, with noise at t = 0 and data at t = 1: right in "
                "itself, and wrong with this lesson's sampler.", flow_loss_backwards),
        Mistake("The velocity is asked about the clean image. It is asked about x_t, a point on the "
                "way.", flow_loss_given(lambda x0, t, eps: (x0, t))),
        Mistake("The velocity is told 1 − t. Tell it t.",
                flow_loss_given(lambda x0, t, eps: (straight_path(x0, t, eps), 1 - t))),
        Mistake("Here `velocity` is told t in [0, 1]; its own clock of 1000 is `as_velocity`'s "
                "business.",
                flow_loss_given(lambda x0, t, eps: (straight_path(x0, t, eps), 1000 * t))),
        Mistake("Your x_t has the roots √(1 − t) and √t of a diffusion; use `straight_path`.",
                flow_loss_of_roots),
        Mistake("You sum the squares. Take their mean, or the loss grows with the batch and the "
                "image's size.",
                flow_loss_of(lambda u, eps, x0, xt: F.mse_loss(u, eps - x0, reduction="sum"))),
        Mistake("You return one loss per image; training needs one number, their mean.",
                flow_loss_of(lambda u, eps, x0, xt: (u - eps + x0).square().flatten(1).mean(1))),
        Mistake("That is the mean *absolute* error, which leads to a median. The square leads to the "
                "mean velocity, and the whole lesson rests on that.",
                flow_loss_of(lambda u, eps, x0, xt: F.l1_loss(u, eps - x0))),
        Mistake("Your loss carries no gradient (`detach`, `item` or `no_grad`): nothing could be "
                "trained with it.",
                flow_loss_of(lambda u, eps, x0, xt: F.mse_loss(u, eps - x0).detach())),
        Mistake("You draw noise of your own; use the `eps` that is passed in, so that a step can "
                "be repeated.", flow_loss_with_own_noise),
    ],
    alternatives=[
        flow_loss_of(lambda u, eps, x0, xt: (eps - x0 - u).pow(2).mean()),
        # What is left of the way, and what is behind us, make up the whole way.
        flow_loss_of(lambda u, eps, x0, xt: F.mse_loss(u, (eps - xt) + (xt - x0))),
        flow_loss_in_a_loop,
    ],
    hints=["Where is the point at time t? `straight_path` says.",
           "How fast does it move? The derivative of (1 − t) x_0 + t ε with respect to t.",
           "`velocity(xt, t)` is the prediction, and F.mse_loss averages over every element."],
    run=run_flow_loss,
)  # fmt: skip


# --- logit_normal ---------------------------------------------------------------------------------


def logit_cases() -> list[Case]:
    def case(label: str, n: int, seed: int, **chosen: float) -> Case:
        generator = torch.Generator().manual_seed(seed)
        return Case(label, {"n": n, "generator": generator, **chosen})

    return [
        case("three times, nothing else said", 3, 0),
        case("a wide one", 50, 1, std=2.0),
        case("a narrow one around the noisy end", 20, 2, mean=1.5, std=0.5),
        case("towards the data", 7, 3, mean=-1.0),
        Case("no generator", {"n": 4}),
    ]


def logit_with(of: Callable[[Tensor, float, float], Tensor], own_generator: bool = True) -> Answer:
    """logit_normal by a formula of n standard normal numbers, mean and std."""

    def answer(
        n: int, mean: float = 0.0, std: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        return of(torch.randn(n, generator=generator if own_generator else None), mean, std)

    return answer


LOGIT_NORMAL = Exercise(
    reference.logit_normal,
    logit_cases,
    mistakes=[
        Mistake("You return the logits, which run from −∞ to ∞. A time lies in (0, 1): the sigmoid "
                "takes the one to the other.", logit_with(lambda z, m, s: m + s * z)),
        Mistake("You clip normal numbers to [0, 1], and half of them end up exactly at the data. "
                "The sigmoid maps them into (0, 1).",
                logit_with(lambda z, m, s: (m + s * z).clamp(0, 1))),
        Mistake("`std` scales the mean too: the logit is mean + std · z.",
                logit_with(lambda z, m, s: torch.sigmoid(s * (m + z)))),
        Mistake("You ignore `std`.", logit_with(lambda z, m, s: torch.sigmoid(m + z))),
        Mistake("You ignore `mean`.", logit_with(lambda z, m, s: torch.sigmoid(s * z))),
        Mistake("`mean` is added to the time. It belongs to the logit, inside the sigmoid.",
                logit_with(lambda z, m, s: torch.sigmoid(s * z) + m)),
        Mistake("Your mean has the wrong sign: above 0 it leads towards the noise, t = 1.",
                logit_with(lambda z, m, s: torch.sigmoid(s * z - m))),
        Mistake("That is the normal distribution's own cumulative function, which makes the times "
                "uniform. The sigmoid is 1/(1 + exp(−x)).",
                logit_with(lambda z, m, s: torch.special.ndtr(m + s * z))),
        Mistake("Your numbers are not drawn from `generator`, so nobody can repeat a training step.",
                logit_with(lambda z, m, s: torch.sigmoid(m + s * z), own_generator=False)),
    ],
    alternatives=[
        logit_with(lambda z, m, s: 1 / (1 + torch.exp(-(m + s * z)))),
        logit_with(lambda z, m, s: (torch.tanh((m + s * z) / 2) + 1) / 2),
    ],
    hints=["`torch.randn(n, generator=generator)` draws n standard normal numbers z.",
           "The logit is mean + std · z; t is its sigmoid."],
)  # fmt: skip


# --- mixture_velocity -----------------------------------------------------------------------------

TWO = {"means": torch.tensor([[-1.0], [1.0]]), "weights": torch.tensor([0.5, 0.5]), "std": 0.5}
THREE = {
    "means": torch.tensor([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.9]]),
    "weights": torch.tensor([0.2, 0.5, 0.3]),
    "std": 0.3,
}


def mixture_cases() -> list[Case]:
    double = {k: v.double() if isinstance(v, Tensor) else v for k, v in THREE.items()}
    x = normal(4, 1, seed=2, dtype=torch.float64)
    one = {"means": torch.tensor([[0.4]]), "weights": torch.ones(1), "std": 0.2}
    return [
        Case("one normal, one point", {"xt": torch.tensor([[0.7]]), "t": times(0.5), **one}),
        Case("two normals, three points", {"xt": times(0.3, -0.8, 1.5)[:, None],
                                           "t": times(0.5, 0.2, 0.9), **TWO}),
        Case("three normals in the plane", {"xt": normal(6, 2), "t": torch.rand(6, generator=torch.Generator().manual_seed(3)), **THREE}),
        Case("as many points as normals", {"xt": normal(3, 2, seed=1), "t": times(0.4, 0.6, 0.8), **THREE}),
        Case("at the data and at the noise", {"xt": normal(2, 2, seed=5), "t": times(0.0, 1.0), **THREE}),
        Case("float64", {"xt": normal(4, 2, seed=6, dtype=torch.float64), "t": times(0.1, 0.3, 0.5, 0.95), **double}),
        Case("a narrow one and a heavy one", {"xt": x.float(), "t": times(0.3, 0.5, 0.6, 0.7), "means": torch.tensor([[-0.6], [0.4]]), "weights": torch.tensor([0.1, 0.9]), "std": 0.05}),
    ]  # fmt: skip


def mixture_with(
    var: Callable[[Tensor, float], Tensor] = lambda t, c: (1 - t) ** 2 * c**2 + t**2,
    centre: Callable[[Tensor], Tensor] = lambda t: 1 - t,
    share: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda w, d, v: torch.softmax(
        w.log() - d / (2 * v), dim=1
    ),
    slope: Callable[[Tensor, float, Tensor], Tensor] = lambda t, c, v: (t - (1 - t) * c**2) / v,
    noise: float = 1.0,
    image: float = 1.0,
) -> Answer:
    """mixture_velocity with its parts exchanged: u = Σ share · (noise · slope · away − image · m)."""

    def answer(xt: Tensor, t: Tensor, means: Tensor, weights: Tensor, std: float) -> Tensor:
        t = wide(t, xt)
        v = var(t, std)
        away = xt[:, None] - centre(t)[..., None] * means
        parts = noise * slope(t, std, v)[..., None] * away - image * means
        return (share(weights, away.square().sum(dim=2), v)[..., None] * parts).sum(dim=1)

    return answer


def mixture_in_a_loop(xt: Tensor, t: Tensor, means: Tensor, weights: Tensor, std: float) -> Tensor:
    """Bayes' rule with densities written out; E[ε] − E[x_0], point by point."""
    out = []
    for x, s in zip(xt.double(), t.double(), strict=True):
        var = (1 - s) ** 2 * std**2 + s**2
        parts = []
        for m, w in zip(means.double(), weights.double(), strict=True):
            away = x - (1 - s) * m
            p = w * torch.exp(-away.dot(away) / (2 * var))
            eps, x0 = s / var * away, m + (1 - s) * std**2 / var * away
            parts.append((p, p * (eps - x0)))
        out.append(sum(u for _, u in parts) / sum(p for p, _ in parts))
    return torch.stack(out).to(xt.dtype)


def mixture_by_score(xt: Tensor, t: Tensor, means: Tensor, weights: Tensor, std: float) -> Tensor:
    """From ∇ log p and the mean of x_0, by automatic differentiation of the log density."""
    x = xt.double().requires_grad_()
    s = wide(t.double(), x)
    var = (1 - s) ** 2 * std**2 + s**2
    away = x[:, None] - (1 - s)[..., None] * means.double()
    logs = weights.double().log() - away.square().sum(dim=2) / (2 * var)
    (score,) = torch.autograd.grad(torch.logsumexp(logs, dim=1).sum(), x)
    centre = torch.softmax(logs, dim=1) @ means.double()
    x0 = centre + (1 - s) * std**2 / var * (x - (1 - s) * centre)
    return (-s * score - x0).detach().to(xt.dtype)


def hard_share(weights: Tensor, distance: Tensor, var: Tensor) -> Tensor:
    logs = weights.log() - distance / (2 * var)
    return F.one_hot(logs.argmax(dim=1), len(weights)).to(distance)


MIXTURE_VELOCITY = Exercise(
    reference.mixture_velocity,
    mixture_cases,
    mistakes=[
        Mistake("Your velocity has the wrong sign: it is E[ε] − E[x_0], from the data to the noise.",
                mixture_with(noise=-1.0, image=-1.0)),
        Mistake("That is the mean noise E[ε | x_t]; the mean image is still to be taken away.",
                mixture_with(slope=lambda t, c, v: t / v, image=0.0)),
        Mistake("That is E[ε] minus the normals' centres. Within a normal, x_t also says where x_0 "
                "is: E[x_0 | x_t, k] = m_k + (1 − t) std²/w · (x_t − (1 − t) m_k).",
                mixture_with(slope=lambda t, c, v: t / v)),
        Mistake("Each normal counts as much as before x_t was seen. Seeing it makes the near ones "
                "more probable: Bayes' rule, a softmax of log π_k − |x_t − (1 − t) m_k|²/(2w).",
                mixture_with(share=lambda w, d, v: w.expand_as(d))),
        Mistake("The `weights` are missing from Bayes' rule: add their logarithms.",
                mixture_with(share=lambda w, d, v: torch.softmax(-d / (2 * v), dim=1))),
        Mistake("The 2 is missing below the line: a normal density falls like exp(−d²/(2w)).",
                mixture_with(share=lambda w, d, v: torch.softmax(w.log() - d / v, dim=1))),
        Mistake("Only the most probable normal counts. The mean is over all of them, each with its "
                "share.", mixture_with(share=hard_share)),
        Mistake("The shares add up to 1 over the points; they must do so over the normals, for each "
                "point (`dim=1`).",
                mixture_with(share=lambda w, d, v: torch.softmax(w.log() - d / (2 * v), dim=0))),
        Mistake("The centres do not move. At time t they have shrunk to (1 − t) m_k.",
                mixture_with(centre=torch.ones_like)),
        Mistake("A variance scales with the *square*: w = (1 − t)² std² + t².",
                mixture_with(var=lambda t, c: (1 - t) * c**2 + t)),
        Mistake("`std` is a standard deviation: its square is the variance.",
                mixture_with(var=lambda t, c: (1 - t) ** 2 * c + t**2,
                             slope=lambda t, c, v: (t - (1 - t) * c) / v)),
    ],
    alternatives=[mixture_in_a_loop, mixture_by_score],
    hints=["Given the normal k, x_t is normal with mean (1 − t) m_k and variance "
           "w = (1 − t)² std² + t².",
           "Bayes' rule: the share of k is a softmax over k of log π_k − |x_t − (1 − t) m_k|²/(2w).",
           "Within k the velocity is (t − (1 − t) std²)/w · (x_t − (1 − t) m_k) − m_k; add them up "
           "with their shares. xt[:, None] is (b, 1, d), and means (k, d)."],
)  # fmt: skip


# --- euler_step and heun_step ---------------------------------------------------------------------


def step_cases() -> list[Case]:
    def case(label: str, xt: Tensor, t: Tensor, s: Tensor) -> Case:
        return Case(label, {"velocity": wavy, "xt": xt, "t": t, "s": s})

    return [
        case("one pixel, half of the way", torch.full((1, 1, 1, 1), 0.8), times(1.0), times(0.5)),
        case("three images, each with its own step", normal(3, 1, 4, 4), times(0.9, 0.5, 0.4), times(0.7, 0.2, 0.3)),
        case("as many images as columns", normal(4, 2, 4, 4), times(1.0, 0.6, 0.3, 0.1), times(0.8, 0.1, 0.2, 0.0)),
        case("towards the noise", normal(2, 3, seed=3), times(0.2, 0.0), times(0.5, 0.3)),
        case("float64", normal(2, 1, 3, 5, dtype=torch.float64), times(0.75, 0.5), times(0.25, 0.0)),
    ]  # fmt: skip


def run_step(answer: Answer, inputs: Inputs) -> Any:
    """The step's result, without the graph of the stand-in's weight."""
    out = answer(**inputs)
    return out.detach() if isinstance(out, Tensor) else out


def step_with(formula: Callable[..., Tensor]) -> Answer:
    """A step by a formula of the velocity, x_t, and t and s (b, 1, …), with `f(x, t)` to ask."""

    def answer(velocity: Velocity, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
        def ask(x: Tensor, when: Tensor) -> Tensor:
            return velocity(x, when.flatten())

        return formula(ask, xt, wide(t, xt), wide(s, xt))

    return answer


def euler_unshaped(velocity: Velocity, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
    return (xt + (s - t) * velocity(xt, t)).to(xt)


def heun_unshaped(velocity: Velocity, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
    here = velocity(xt, t)
    there = velocity(xt + (s - t) * here, s)
    return (xt + (s - t) * (here + there) / 2).to(xt)


def first_step_for_all(step: Callable[..., Tensor]) -> Answer:
    return lambda velocity, xt, t, s: step(
        velocity, xt, t, (t + (s - t)[:1]).clamp(0, 1) if len(t) > 1 else s
    )


def euler_remixed(velocity: Velocity, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """x̂_0 and ε̂, mixed anew at time s."""
    u, t = velocity(xt, t), wide(t, xt)
    return straight_path(xt - t * u, s, xt + (1 - t) * u)


def euler_in_a_loop(velocity: Velocity, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
    u = velocity(xt, t)
    return torch.stack([xt[i] - (float(t[i]) - float(s[i])) * u[i] for i in range(len(xt))])


def heun_by_two_eulers(velocity: Velocity, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The mean of where the first slope leads and where the second slope leads, both from x_t."""
    first = euler_step(velocity, xt, t, s)
    return (first + xt + wide(s - t, xt) * velocity(first, s)) / 2


def heun_as_correction(velocity: Velocity, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Euler's step, and then half of the difference that the second slope makes."""
    here, dt = velocity(xt, t), wide(s - t, xt)
    x = xt + dt * here
    return x - dt * here / 2 + dt * velocity(x, s) / 2


EULER_STEP = Exercise(
    reference.euler_step,
    step_cases,
    mistakes=[
        Mistake("You walked away from where you wanted to go: the step is s − t, negative towards "
                "the data, and it multiplies the velocity as it is.",
                step_with(lambda f, x, t, s: x + (t - s) * f(x, t))),
        Mistake("The velocity is asked at time s. You are at x_t, so ask at t.",
                step_with(lambda f, x, t, s: x + (s - t) * f(x, s))),
        Mistake("You took the whole velocity; a step of length s − t takes only so much of it.",
                step_with(lambda f, x, t, s: x + f(x, t))),
        Mistake("You jumped all the way to the data, x_t − t û. A step goes to time s only.",
                step_with(lambda f, x, t, s: x - t * f(x, t))),
        Mistake("Your step has the length s, where it ends; its length is s − t.",
                step_with(lambda f, x, t, s: x + s * f(x, t))),
        Mistake("You return how far the step goes; add it to x_t.",
                step_with(lambda f, x, t, s: (s - t) * f(x, t))),
        Mistake("That is Heun's step, with two calls. Euler's has one.", heun_step),
        Mistake("You took the first image's step for all; each image has its own t and s.",
                first_step_for_all(euler_step)),
        Mistake("s − t has shape (b,), the images (b, c, h, w): shape it (b, 1, 1, 1), or it meets "
                "the wrong axis. `per_image` does it.", euler_unshaped),
    ],
    alternatives=[
        euler_remixed,
        euler_in_a_loop,
        step_with(lambda f, x, t, s: torch.addcmul(x, t - s, f(x, t), value=-1)),
    ],
    hints=["A velocity times a time is a way: here the time is s − t.",
           "`velocity(xt, t)` wants t as it comes, (b,). To multiply images, t and s have to be "
           "shaped: `per_image(t, xt)`."],
    run=run_step,
)  # fmt: skip


HEUN_STEP = Exercise(
    reference.heun_step,
    step_cases,
    mistakes=[
        Mistake("That is Euler's step. Heun's asks a second time, where Euler's step has led, and "
                "takes the mean of the two slopes.", euler_step),
        Mistake("The second slope is asked at the old point x_t. Ask where Euler's step has led.",
                step_with(lambda f, x, t, s: x + (s - t) * (f(x, t) + f(x, s)) / 2)),
        Mistake("The second slope is asked at the old time t. Euler's step has led to time s.",
                step_with(lambda f, x, t, s:
                          x + (s - t) * (f(x, t) + f(x + (s - t) * f(x, t), t)) / 2)),
        Mistake("You added the slopes; take their mean, or the step is twice as long as it should "
                "be.", step_with(lambda f, x, t, s:
                                 x + (s - t) * (f(x, t) + f(x + (s - t) * f(x, t), s)))),
        Mistake("You took a second Euler step from where the first one led, and the mean of the two "
                "*points*. Heun takes the mean of the two *slopes*, and one step from x_t with it.",
                step_with(lambda f, x, t, s: x + (s - t) * f(x, t)
                          + (s - t) * f(x + (s - t) * f(x, t), s) / 2)),
        Mistake("You go on from where Euler's step has led. The mean slope is walked from x_t.",
                step_with(lambda f, x, t, s: x + (s - t) * f(x, t)
                          + (s - t) * (f(x, t) + f(x + (s - t) * f(x, t), s)) / 2)),
        Mistake("Only the second slope counts; take the mean of both.",
                step_with(lambda f, x, t, s: x + (s - t) * f(x + (s - t) * f(x, t), s))),
        Mistake("That is the midpoint method: it asks halfway and uses that slope alone. It is of the "
                "second order too, but Heun's asks at both ends and takes the mean.",
                step_with(lambda f, x, t, s:
                          x + (s - t) * f(x + (s - t) / 2 * f(x, t), (t + s) / 2))),
        Mistake("You walked away from where you wanted to go: the step is s − t, negative towards "
                "the data.",
                step_with(lambda f, x, t, s:
                          x + (t - s) * (f(x, t) + f(x + (t - s) * f(x, t), s)) / 2)),
        Mistake("You took the first image's step for all; each image has its own t and s.",
                first_step_for_all(heun_step)),
        Mistake("s − t has shape (b,), the images (b, c, h, w): shape it (b, 1, 1, 1), or it meets "
                "the wrong axis. `per_image` does it.", heun_unshaped),
    ],
    alternatives=[heun_by_two_eulers, heun_as_correction],
    hints=["First slope: `velocity(xt, t)`. Where would Euler's step lead with it?",
           "Second slope: the velocity *there*, at time s.",
           "One step from x_t, of length s − t, along the mean of the two."],
    run=run_step,
)  # fmt: skip


# --- flow_sample ----------------------------------------------------------------------------------


def flow_sample_cases() -> list[Case]:
    def case(label: str, xt: Tensor, **chosen: Any) -> Case:
        return Case(label, {"velocity": wavy, "xt": xt, **chosen})

    pixel = torch.ones(1, 1, 1, 1)
    return [
        case("one pixel, two steps", pixel, steps=2),
        case("all the defaults", normal(2, 1, 2, 2)),
        case("three steps of Euler's method", normal(3, 1, 3, 3, seed=1), steps=3, method="euler"),
        case("three steps of Heun's method", normal(3, 1, 3, 3, seed=2), steps=3, method="heun"),
        case("one step of Heun's method", normal(2, 2, seed=3), steps=1, method="heun"),
        case("from the middle", normal(2, 1, 3, 3, seed=4), steps=4, start=0.6),
        case("from the middle, Heun", normal(2, 2, seed=5), steps=5, start=0.25, method="heun"),
        case("float64", normal(2, 3, seed=6, dtype=torch.float64), steps=7, method="heun"),
        case("a method that nobody knows", pixel, steps=2, method="simpson"),
        case("no steps", pixel, steps=0),
        case("a start at the data", pixel, steps=2, start=0.0),
        case("a start beyond the noise", pixel, steps=2, start=1.5),
    ]  # fmt: skip


def falling(start: float, n: int) -> list[float]:
    """n + 1 times from `start` down to 0."""
    return [start * (1 - k / n) for k in range(n + 1)]


def flow_sample_with(
    grid: Callable[[float, int], list[float]] = falling,
    order: Callable[[float, float], tuple[float, float]] = lambda t, s: (t, s),
    euler_at: Callable[[int, int], bool] = lambda k, n: k == n - 1,
    shape: Callable[[float, Tensor], Tensor] = lambda t, x: torch.full((len(x),), t, dtype=x.dtype),
    out: Callable[[list[Tensor]], list[Tensor]] = lambda xs: xs[1:],
    refuse: Callable[[int, str, float], bool] = lambda n, method, start: (
        n < 1 or method not in ("euler", "heun") or not 0 < start <= 1
    ),
    **chosen: Any,
) -> Answer:
    """`flow_sample` with its parts exchanged; `chosen` overrules what the caller chose.

    order(t, s) is what a step is told; euler_at(k, n) says whether step k of n is Euler's where the
    method is Heun's.
    """

    @torch.no_grad()
    def answer(
        velocity: Velocity,
        xt: Tensor,
        *,
        steps: int = 50,
        method: str = "euler",
        start: float = 1.0,
    ) -> Iterator[Tensor]:
        if refuse(steps, method, start):
            raise ValueError
        method, start = chosen.get("method", method), chosen.get("start", start)
        xs, walk = [xt], grid(start, steps)
        for k in range(len(walk) - 1):
            two = method == "heun" and not euler_at(k, len(walk) - 1)
            now, later = (shape(t, xt) for t in order(walk[k], walk[k + 1]))
            xs.append((heun_step if two else euler_step)(velocity, xs[-1], now, later))
        yield from out(xs)

    return answer


def flow_sample_with_graph(
    velocity: Velocity,
    xt: Tensor,
    *,
    steps: int = 50,
    method: str = "euler",
    start: float = 1.0,
) -> Iterator[Tensor]:
    if method not in ("euler", "heun") or steps < 1 or not 0 < start <= 1:
        raise ValueError
    for k in range(steps):
        t, s = (xt.new_full((len(xt),), start * (1 - i / steps)) for i in (k, k + 1))
        xt = (heun_step if method == "heun" and k < steps - 1 else euler_step)(velocity, xt, t, s)
        yield xt


def flow_sample_by_hand(
    velocity: Velocity,
    xt: Tensor,
    *,
    steps: int = 50,
    method: str = "euler",
    start: float = 1.0,
) -> Iterator[Tensor]:
    """A while loop that counts down, the formulas written out, no_grad around the calls alone."""
    if method not in ("euler", "heun") or steps < 1 or not 0 < start <= 1:
        raise ValueError
    left = steps
    while left:
        t, s = start * left / steps, start * (left - 1) / steps
        with torch.no_grad():
            slope = velocity(xt, torch.tensor([t] * len(xt)))
            if method == "heun" and left > 1:
                there = velocity(xt + (s - t) * slope, torch.tensor([s] * len(xt)))
                slope = (slope + there) / 2
        xt = xt - (t - s) * slope
        yield xt
        left -= 1


FLOW_SAMPLE = Exercise(
    reference.flow_sample,
    flow_sample_cases,
    run=run_sample,
    mistakes=[
        Mistake("Your times rise. Sampling begins at the noise, t = `start`, and ends at the data, "
                "t = 0.",
                flow_sample_with(grid=lambda start, n: [start * k / n for k in range(n + 1)])),
        Mistake("`steps` steps have steps + 1 times, both ends included; yours are one short.",
                flow_sample_with(grid=lambda start, n:
                                 torch.linspace(start, 0, n).tolist() if n > 1 else [start])),
        Mistake("Your walk stops one step before the data; its last time is 0.",
                flow_sample_with(grid=lambda start, n: [start * (1 - k / n) for k in range(n)])),
        Mistake("t and s have changed places: a step is told where it is first, then where it leads.",
                flow_sample_with(order=lambda t, s: (s, t))),
        Mistake("Your last step is Heun's too. It would ask the network at t = 0, where the image is "
                "clean and there is no noise to see: the step that ends at 0 is Euler's.",
                flow_sample_with(euler_at=lambda k, n: False)),
        Mistake("Your first step is Euler's instead of the last one.",
                flow_sample_with(euler_at=lambda k, n: k == 0)),
        Mistake("You ignore `method`: each step is Euler's.", flow_sample_with(method="euler")),
        Mistake("You ignore `method`: each step but the last is Heun's.",
                flow_sample_with(method="heun")),
        Mistake("You ignore `start`.", flow_sample_with(start=1.0)),
        Mistake("The step is given one time without a batch axis. Each image has its own: t and s "
                "have shape (b,), here filled with one value.",
                flow_sample_with(shape=lambda t, x: torch.tensor(t))),
        Mistake("You yield the noise you were given too; the first value is the first step's result.",
                flow_sample_with(out=lambda xs: xs)),
        Mistake("You yield only the end. Yield each x on the way, so that a walk can be watched.",
                flow_sample_with(out=lambda xs: xs[-1:])),
        Mistake("The steps' graphs are kept for gradients that nobody asks for, and memory grows "
                "with every step. Keep `@torch.no_grad()` above the function.",
                flow_sample_with_graph),
        Mistake("An unknown method is taken for Euler's without a word; raise a ValueError that "
                "says which methods there are.",
                flow_sample_with(refuse=lambda n, method, start: n < 1 or not 0 < start <= 1)),
        Mistake("A start outside (0, 1] is not refused: raise a ValueError.",
                flow_sample_with(refuse=lambda n, method, start:
                                 n < 1 or method not in ("euler", "heun"),
                                 shape=lambda t, x: torch.full((len(x),), min(t, 1.0)))),
    ],
    alternatives=[flow_sample_by_hand, flow_sample_with()],
    hints=["`torch.linspace(start, 0, steps + 1)` are the times, and `pairwise` gives each step's "
           "(t, s).",
           "Which step? Heun's where the method is \"heun\" and s > 0, else Euler's.",
           "`t.expand(len(xt))` is the same time for every image. Refuse what makes no sense first, "
           "with a ValueError."],
)  # fmt: skip


# --- predict_both ---------------------------------------------------------------------------------


def both_cases() -> list[Case]:
    one, half = torch.full((1, 1, 1, 1), 0.625), torch.full((1, 1, 1, 1), -1.5)
    cases = [Case("one pixel, by hand", {"xt": one, "t": times(0.25), "u": half})]
    for case in path_cases()[1:]:
        x0, t, eps = case.inputs.values()
        cases.append(Case(case.label, {"xt": 2 * x0, "t": t, "u": eps}))
    return cases


def both_with(x0: Formula, eps: Formula) -> Answer:
    """predict_both by formulas of x_t, t (b, 1, …) and û."""

    def answer(xt: Tensor, t: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        t = wide(t, xt)
        return x0(xt, t, u), eps(xt, t, u)

    return answer


def _image(x: Tensor, t: Tensor, u: Tensor) -> Tensor:
    return x - t * u


def _noise(x: Tensor, t: Tensor, u: Tensor) -> Tensor:
    return x + (1 - t) * u


def both_unshaped(xt: Tensor, t: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    return (xt - t * u).to(xt), (xt + (1 - t) * u).to(xt)


def both_in_a_loop(xt: Tensor, t: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    x0 = torch.stack([x - float(s) * v for x, s, v in zip(xt, t, u, strict=True)])
    return x0, x0 + u


PREDICT_BOTH = Exercise(
    reference.predict_both,
    both_cases,
    mistakes=[
        Mistake("x̂_0 lies behind you: from x_t, walk the time t *against* the velocity.",
                both_with(lambda x, t, u: x + t * u, _noise)),
        Mistake("ε̂ lies ahead: from x_t, walk the time 1 − t *along* the velocity.",
                both_with(_image, lambda x, t, u: x - (1 - t) * u)),
        Mistake("Your times have changed places: it is t back to the data and 1 − t ahead to the "
                "noise.",
                both_with(lambda x, t, u: x - (1 - t) * u, lambda x, t, u: x + t * u)),
        Mistake("x̂_0 comes first, ε̂ second.", both_with(_noise, _image)),
        Mistake("Your ε̂ is a whole velocity away from x_t. Only the time 1 − t is left.",
                both_with(_image, lambda x, t, u: x + u)),
        Mistake("Your x̂_0 is a whole velocity away from x_t. Only the time t lies behind.",
                both_with(lambda x, t, u: x - u, _noise)),
        Mistake("You clipped x̂_0. Here it comes back as the formula gives it.",
                both_with(lambda x, t, u: _image(x, t, u).clamp(-1, 1), _noise)),
        Mistake("t has shape (b,), the images (b, c, h, w): shape it (b, 1, 1, 1), or it meets the "
                "wrong axis. `per_image` does it.", both_unshaped),
    ],
    alternatives=[
        both_with(_image, lambda x, t, u: _image(x, t, u) + u),
        both_with(lambda x, t, u: _noise(x, t, u) - u, lambda x, t, u: x + u - t * u),
        both_in_a_loop,
    ],
    hints=["Put û = ε − x_0 into x_t = (1 − t) x_0 + t ε and solve for one of the two.",
           "x_t − t (ε − x_0) is what? And x_t + (1 − t)(ε − x_0)?"],
)  # fmt: skip


# --- matched_times and flow_to_eps ----------------------------------------------------------------


def matched_cases() -> list[Case]:
    return [
        Case("two levels, by hand", {"alpha_bars": HAND}),
        Case("a short schedule", {"alpha_bars": SHORT}),
        Case("the cosine schedule", {"alpha_bars": COSINE}),
        Case("the data and pure noise themselves", {"alpha_bars": times(1.0, 0.5, 0.0)}),
        Case("float64", {"alpha_bars": SHORT.double()}),
    ]


MATCHED_TIMES = Exercise(
    reference.matched_times,
    matched_cases,
    mistakes=[
        Mistake("That is the ratio of noise to signal, t/(1 − t), which has no upper end. Solve it "
                "for t.", lambda alpha_bars: ((1 - alpha_bars) / alpha_bars).sqrt()),
        Mistake("Your time runs the other way: where ᾱ is 1 there is no noise, and t = 0.",
                lambda alpha_bars: alpha_bars.sqrt()
                / (alpha_bars.sqrt() + (1 - alpha_bars).sqrt())),
        Mistake("The roots are missing. ᾱ and 1 − ᾱ are variances; the path's weights 1 − t and t "
                "multiply the images themselves.", lambda alpha_bars: 1 - alpha_bars),
        Mistake("√(1 − ᾱ) is the noise's weight in the diffusion, where the *squares* add up to 1. "
                "On the straight path the weights do: divide by their sum.",
                lambda alpha_bars: (1 - alpha_bars).sqrt()),
        Mistake("That is the angle of the rotation, in quarter turns. It has the same ends, but the "
                "ratio t/(1 − t) must be √(1 − ᾱ)/√ᾱ.",
                lambda alpha_bars: torch.acos(alpha_bars.sqrt()) / (math.pi / 2)),
    ],
    alternatives=[
        lambda alpha_bars: torch.sigmoid(-torch.logit(alpha_bars) / 2),
        lambda alpha_bars: 1 / (1 + (alpha_bars / (1 - alpha_bars)).sqrt()),
    ],
    hints=["In x_t the noise stands with t and the signal with 1 − t; in a diffusion with √(1 − ᾱ) "
           "and √ᾱ. Their ratios must agree.",
           "t/(1 − t) = a/b has the solution t = a/(a + b)."],
)  # fmt: skip


def flow_to_eps_cases() -> list[Case]:
    def case(label: str, x: Tensor, step: Tensor, alpha_bars: Tensor) -> Case:
        inputs = {"velocity": wavy, "x": x, "step": step, "alpha_bars": alpha_bars}
        return Case(label, inputs)

    return [
        case("one pixel, by hand", torch.full((1, 1, 1, 1), 0.7), steps(0), HAND),
        case("three images, each at its own step", normal(3, 1, 4, 4), steps(10, 999, 500), COSINE),
        case("as many images as columns", normal(5, 3, 5, 5), steps(9, 2, 0, 4, 1), SHORT),
        case("float64", normal(2, 3, dtype=torch.float64), steps(3, 7), SHORT.double()),
    ]


def flow_to_eps_with(
    when: Callable[[Tensor, Tensor], Tensor] = lambda a, step: reference.matched_times(a)[step],
    grow: Callable[[Tensor, Tensor], Tensor] = lambda x, c: c * x,
    result: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor] = (
        lambda x, xt, t, c, u: xt + (1 - t) * u
    ),
) -> Answer:
    """flow_to_eps by its time, how the state is rescaled, and ε̂ of x, x_t, t, c and û."""

    def answer(velocity: Velocity, x: Tensor, step: Tensor, alpha_bars: Tensor) -> Tensor:
        time = when(alpha_bars, step)
        t = wide(time, x)
        c = ((1 - t) ** 2 + t**2).sqrt()
        xt = grow(x, c)
        return result(x, xt, t, c, velocity(xt, time)).detach()

    return answer


def flow_to_eps_in_a_loop(
    velocity: Velocity, x: Tensor, step: Tensor, alpha_bars: Tensor
) -> Tensor:
    """Image by image: 1/c is √ᾱ + √(1 − ᾱ)."""
    out = []
    for i in range(len(x)):
        a = alpha_bars[step[i]].double()
        c = 1 / (a.sqrt() + (1 - a).sqrt())
        t = ((1 - a).sqrt() * c).reshape(1).to(x)
        xt = float(c) * x[i : i + 1]
        out.append(xt + (1 - float(t)) * velocity(xt, t))
    return torch.cat(out).detach()


FLOW_TO_EPS = Exercise(
    reference.flow_to_eps,
    flow_to_eps_cases,
    mistakes=[
        Mistake("The flow is asked about the diffusion's state as it is. On the straight path the "
                "same image is smaller: multiply by c first.",
                flow_to_eps_with(grow=lambda x, c: x)),
        Mistake("You divided by c; the straight path's state is c times the diffusion's, with c "
                "between 0.71 and 1.", flow_to_eps_with(grow=lambda x, c: x / c)),
        Mistake("You return the velocity; the noise is asked for. `predict_both` has it.",
                flow_to_eps_with(result=lambda x, xt, t, c, u: u)),
        Mistake("You return x̂_0; the noise is the second of `predict_both`'s two.",
                flow_to_eps_with(result=lambda x, xt, t, c, u: xt - t * u)),
        Mistake("ε̂ is worked out from the diffusion's state. The velocity belongs to x_t = c x, and "
                "so does `predict_both`.",
                flow_to_eps_with(result=lambda x, xt, t, c, u: x + (1 - t) * u)),
        Mistake("You rescaled ε̂ as well. The noise is the same standard normal noise in both: only "
                "the states differ by c.",
                flow_to_eps_with(result=lambda x, xt, t, c, u: (xt + (1 - t) * u) / c)),
        Mistake("Your time is the step's number over T. The two clocks do not agree: look the "
                "matched time up.",
                flow_to_eps_with(when=lambda a, step: ((step + 1) / len(a)).to(a))),
        Mistake("Your time runs the other way: little noise is near t = 0.",
                flow_to_eps_with(when=lambda a, step: 1 - reference.matched_times(a)[step])),
    ],
    alternatives=[flow_to_eps_in_a_loop, flow_to_eps_with()],
    hints=["`matched_times(alpha_bars)[step]` is each image's time, and `path_scale` of it is c.",
           "Ask the velocity about c · x at that time.",
           "`predict_both(xt, t, u)` gives x̂_0 and ε̂."],
    run=run_step,
)  # fmt: skip

EXERCISES = [
    STRAIGHT_PATH,
    FLOW_LOSS,
    MIXTURE_VELOCITY,
    EULER_STEP,
    HEUN_STEP,
    FLOW_SAMPLE,
    PREDICT_BOTH,
    MATCHED_TIMES,
    FLOW_TO_EPS,
    LOGIT_NORMAL,
]
