"""Lesson 13: flow matching. Straight paths between data and noise, and the ODE that follows them.

Time t is a float here, 0 at the data and 1 at the noise; sampling runs from 1 down to 0.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from course.sampling import EpsModel, predict_x0

Velocity = Callable[[Tensor, Tensor], Tensor]
Method = Literal["euler", "heun"]


def per_image(t: Tensor, x: Tensor) -> Tensor:
    """Each image's own time, shaped to multiply the images.

    t: (b,) floats in [0, 1]; x: (b, …) -> (b, 1, …) with as many axes as x, in x's dtype and
    device. Raises TypeError and ValueError for any other t.
    """
    if not t.is_floating_point():
        raise TypeError(f"t is a time in [0, 1], so a float, not {t.dtype}.")
    if t.shape != x.shape[:1]:
        raise ValueError(
            f"t has one time per image: shape ({x.shape[0]},) here, not {tuple(t.shape)}."
        )
    if not ((t >= 0) & (t <= 1)).all():
        raise ValueError(f"t lies in [0, 1], not in [{t.min():g}, {t.max():g}].")
    return t.to(x).reshape(-1, *[1] * (x.ndim - 1))


# --- Training ------------------------------------------------------------------------------------


def straight_path(x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """x_t = (1 − t) x_0 + t ε: data at t = 0, noise at t = 1 (rectified flow, Liu et al. 2023).

    x0, eps: (b, …); t: (b,) floats in [0, 1] -> as x0.
    """
    t = per_image(t, x0)
    return (1 - t) * x0 + t * eps


def flow_loss(velocity: Velocity, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """The mean squared error of a predicted velocity against ε − x_0.

    x0, eps: (b, …); t: (b,) floats in [0, 1]; `velocity(xt, t)` is as x0 -> a scalar, the mean over
    every element (Lipman et al. 2023, eq. 23, with σ_min = 0 and time reversed).
    """
    return F.mse_loss(velocity(straight_path(x0, t, eps), t), eps - x0)


def logit_normal(
    n: int, mean: float = 0.0, std: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """n times whose logit, log t/(1 − t), is normal: dense where noise and data are mixed.

    Returns t: (n,) float32 in (0, 1). mean > 0 prefers the noisy end; n normals are drawn from
    `generator` (Esser et al. 2024, section 3.1).
    """
    return torch.sigmoid(mean + std * torch.randn(n, generator=generator))


def as_velocity(network: Velocity, T: float = 1000.0) -> Velocity:
    """A network of lesson 03, whose clock runs to T, as the function (xt, t) -> û for t in [0, 1].

    Its embedding tells 0 from 1 only by its fastest wave; at T · t the others turn too.
    """
    return lambda xt, t: network(xt, T * t)


# --- The velocity where it is known ---------------------------------------------------------------


def mixture_velocity(xt: Tensor, t: Tensor, means: Tensor, weights: Tensor, std: float) -> Tensor:
    """u(x, t) = E[ε − x_0 | x_t = x], where x_0 comes from a mixture of normals.

    xt: (b, d); t: (b,) floats in [0, 1]; means: (k, d); weights: (k,), adding up to 1; every normal
    has the covariance std² I, std > 0 -> (b, d).
    """
    t = per_image(t, xt)
    var = (1 - t) ** 2 * std**2 + t**2
    away = xt[:, None] - (1 - t)[..., None] * means  # (b, k, d): from each normal's centre
    share = torch.softmax(weights.log() - away.square().sum(dim=2) / (2 * var), dim=1)
    slope = (t - (1 - t) * std**2) / var
    return (share[..., None] * (slope[..., None] * away - means)).sum(dim=1)


# --- Walking along a velocity ---------------------------------------------------------------------


def euler_step(velocity: Velocity, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """One step of Euler's method from time t to s, with one call: x_s = x_t + (s − t) û(x_t, t).

    xt: (b, …); t, s: (b,) floats in [0, 1] -> as xt. Towards the data s < t: the step is negative.
    """
    dt = per_image(s, xt) - per_image(t, xt)
    return xt + dt * velocity(xt, t)


def heun_step(velocity: Velocity, xt: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """One step of Heun's method from time t to s, with two calls: along the mean of two slopes.

    The first slope is û(x_t, t); the second is û at time s, where Euler's step would have led. xt,
    t, s and the result are as in `euler_step`.
    """
    dt = per_image(s, xt) - per_image(t, xt)
    here = velocity(xt, t)
    there = velocity(xt + dt * here, s)
    return xt + dt * (here + there) / 2


@torch.no_grad()
def flow_sample(
    velocity: Velocity,
    xt: Tensor,
    *,
    steps: int = 50,
    method: Method = "euler",
    start: float = 1.0,
) -> Iterator[Tensor]:
    """Walk from time `start` to 0 in `steps` equal steps, yielding each x on the way; x_0 is last.

    xt: (b, …), N(0, I) for a whole walk. "euler" makes `steps` calls. "heun" makes 2 · steps − 1,
    since the step that ends at 0 is Euler's (as in Karras et al. 2022, algorithm 1). Raises
    ValueError for another method, steps < 1, or start outside (0, 1].
    """
    if method not in ("euler", "heun"):
        raise ValueError(f'method is "euler" or "heun", not {method!r}.')
    if steps < 1 or not 0 < start <= 1:
        raise ValueError(f"steps is at least 1, start in (0, 1]; not {steps} and {start:g}.")
    times = torch.linspace(start, 0, steps + 1, dtype=xt.dtype, device=xt.device)
    for t, s in pairwise(times):
        step = heun_step if method == "heun" and s > 0 else euler_step
        xt = step(velocity, xt, t.expand(len(xt)), s.expand(len(xt)))
        yield xt


# --- The same thing as a diffusion ----------------------------------------------------------------


def predict_both(xt: Tensor, t: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """The data and the noise that x_t and a predicted velocity imply: x̂_0 and ε̂.

    xt, u: (b, …); t: (b,) floats in [0, 1] -> two tensors as xt, of which x̂_0 is not clipped.
    """
    t = per_image(t, xt)
    return xt - t * u, xt + (1 - t) * u


def matched_times(alpha_bars: Tensor) -> Tensor:
    """The time at which the straight path has the signal-to-noise ratio of each ᾱ.

    alpha_bars: (T,) in [0, 1] -> t: (T,) in [0, 1], with (1 − t)²/t² = ᾱ/(1 − ᾱ).
    """
    signal, noise = alpha_bars.sqrt(), (1 - alpha_bars).sqrt()
    return noise / (signal + noise)


def matched_alpha_bars(t: Tensor) -> Tensor:
    """The ᾱ with the signal-to-noise ratio that the straight path has at time t.

    t: (n,) floats in [0, 1] -> (n,); the inverse of `matched_times`.
    """
    return (1 - t) ** 2 / path_scale(t) ** 2


def path_scale(t: Tensor) -> Tensor:
    """c = √((1 − t)² + t²): x_t / c is what a diffusion with the matched ᾱ has at that moment."""
    return torch.sqrt((1 - t) ** 2 + t**2)


def flow_to_eps(velocity: Velocity, x: Tensor, step: Tensor, alpha_bars: Tensor) -> Tensor:
    """The noise that a flow sees in a diffusion's state, for any table of ᾱ.

    x: (b, …), a diffusion's √ᾱ x_0 + √(1 − ᾱ) ε; step: (b,) int64 in 0…T−1; alpha_bars: (T,)
    -> ε̂, as x. The flow is asked about c · x at the matched time.
    """
    t = matched_times(alpha_bars)[step]
    xt = per_image(path_scale(t), x) * x
    _, eps_hat = predict_both(xt, t, velocity(xt, t))
    return eps_hat


def flow_as_eps(velocity: Velocity, alpha_bars: Tensor) -> EpsModel:
    """A flow as the function (x, step) -> ε̂ that lesson 04's sampler calls."""
    return lambda x, step: flow_to_eps(velocity, x, step, alpha_bars)


def eps_as_flow(eps_model: EpsModel, alpha_bars: Tensor) -> Velocity:
    """The way back: a diffusion's ε̂ as a velocity (xt, t) -> û along the straight path.

    The diffusion is asked about x_t / c at the step whose matched time is nearest to t.
    """
    times = matched_times(alpha_bars)

    def velocity(xt: Tensor, t: Tensor) -> Tensor:
        step = (times - t[:, None]).abs().argmin(dim=1)
        x = xt / per_image(path_scale(t), xt)
        eps_hat = eps_model(x, step)
        return eps_hat - predict_x0(x, step, eps_hat, alpha_bars)

    return velocity
