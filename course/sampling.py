"""Lesson 04: from noise to data. Ancestral sampling, DDIM, and one sampler for both."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from course.forward_process import at

EpsModel = Callable[[Tensor, Tensor], Tensor]
Kind = Literal["eps", "v", "x0"]


def predict_x0(xt: Tensor, t: Tensor, eps_hat: Tensor, alpha_bars: Tensor) -> Tensor:
    """The clean image that x_t and the predicted noise imply: the closed form, solved for x_0.

    xt, eps_hat: (b, c, h, w); t: (b,) int64 in 0…T−1; alpha_bars: (T,) -> (b, c, h, w), not
    clipped (DDPM eq. 15).
    """
    alpha_bar = at(alpha_bars, t, xt)
    return (xt - torch.sqrt(1 - alpha_bar) * eps_hat) / torch.sqrt(alpha_bar)


def to_eps(output: Tensor, xt: Tensor, t: Tensor, alpha_bars: Tensor, kind: Kind) -> Tensor:
    """A network's output as predicted noise, whatever it was trained to predict.

    output, xt: (b, c, h, w); t: (b,) int64 -> (b, c, h, w). `kind` is what the output is: "eps",
    "x0", or "v" = √ᾱ ε − √(1−ᾱ) x_0 (Salimans & Ho 2022, appendix D). Raises ValueError for
    another kind.
    """
    alpha_bar = at(alpha_bars, t, xt)
    if kind == "eps":
        return output
    if kind == "v":
        return torch.sqrt(alpha_bar) * output + torch.sqrt(1 - alpha_bar) * xt
    if kind == "x0":
        return (xt - torch.sqrt(alpha_bar) * output) / torch.sqrt(1 - alpha_bar)
    raise ValueError(f'kind is "eps", "v" or "x0", not {kind!r}.')


def as_eps_model(network: EpsModel, alpha_bars: Tensor, kind: Kind = "v") -> EpsModel:
    """A network that predicts `kind`, as the function (xt, t) -> eps_hat that samplers call."""
    return lambda xt, t: to_eps(network(xt, t), xt, t, alpha_bars, kind)


def earlier(alpha_bars: Tensor, s: Tensor, x: Tensor) -> Tensor:
    """ᾱ_s at each image's earlier step, where s = −1 is the data itself: ᾱ_{−1} = 1.

    alpha_bars: (T,); s: (b,) int64 in −1…T−1; x: (b, …) -> (b, 1, …).
    """
    return at(F.pad(alpha_bars, (1, 0), value=1.0), s + 1, x)


def posterior_mean(
    x0: Tensor, xt: Tensor, t: Tensor, alpha_bars: Tensor, s: Tensor | None = None
) -> Tensor:
    """The mean μ̃ of q(x_s | x_t, x_0), the step back when x_0 is known (DDPM eq. 7).

    x0, xt: (b, c, h, w); t: (b,) int64 in 0…T−1; s: (b,) int64 in −1…t−1, by default t − 1;
    alpha_bars: (T,) -> (b, c, h, w). For s < t − 1 the steps between are taken as one, whose
    α is ᾱ_t / ᾱ_s.
    """
    s = t - 1 if s is None else s
    alpha_bar, alpha_bar_s = at(alpha_bars, t, xt), earlier(alpha_bars, s, xt)
    alpha = alpha_bar / alpha_bar_s
    from_x0 = torch.sqrt(alpha_bar_s) * (1 - alpha) / (1 - alpha_bar)
    from_xt = torch.sqrt(alpha) * (1 - alpha_bar_s) / (1 - alpha_bar)
    return from_x0 * x0 + from_xt * xt


def posterior_var(t: Tensor, alpha_bars: Tensor, s: Tensor | None = None) -> Tensor:
    """The variance β̃ of q(x_s | x_t, x_0), the same for every pixel (DDPM eq. 7).

    t: (b,) int64 in 0…T−1; s: (b,) int64 in −1…t−1, by default t − 1; alpha_bars: (T,) -> (b,),
    zero where s = −1.
    """
    s = t - 1 if s is None else s
    one_each = t.to(alpha_bars)
    alpha_bar, alpha_bar_s = at(alpha_bars, t, one_each), earlier(alpha_bars, s, one_each)
    return (1 - alpha_bar_s) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_s)


def posterior_std(xt: Tensor, t: Tensor, alpha_bars: Tensor, s: Tensor | None = None) -> Tensor:
    """√β̃, the standard deviation of q(x_s | x_t, x_0), shaped to multiply the images.

    xt: (b, c, h, w), for its shape and dtype; t, s as in `posterior_var` -> (b, 1, 1, 1).
    """
    std = torch.sqrt(posterior_var(t, alpha_bars, s))
    return std.to(xt).reshape(-1, *[1] * (xt.ndim - 1))


def ddpm_step(
    xt: Tensor,
    t: Tensor,
    eps_hat: Tensor,
    alpha_bars: Tensor,
    noise: Tensor,
    s: Tensor | None = None,
) -> Tensor:
    """One ancestral step: a draw of q(x_s | x_t, x̂_0), x̂_0 predicted and clipped to [−1, 1].

    xt, eps_hat: (b, c, h, w); noise: as xt, N(0, I); t, s as in `posterior_mean` -> x_s:
    (b, c, h, w) (DDPM algorithm 2, with the variance β̃). No noise is added where s = −1.
    """
    x0_hat = predict_x0(xt, t, eps_hat, alpha_bars).clamp(-1, 1)
    mean = posterior_mean(x0_hat, xt, t, alpha_bars, s)
    return mean + posterior_std(xt, t, alpha_bars, s) * noise


def ddim_step(
    xt: Tensor,
    t: Tensor,
    eps_hat: Tensor,
    alpha_bars: Tensor,
    s: Tensor | None = None,
    eta: float = 0.0,
    noise: Tensor | None = None,
    clip: bool = True,
) -> Tensor:
    """One DDIM step from t to s (Song et al. 2021, eqs. 12 and 16).

    xt, eps_hat: (b, c, h, w); t, s as in `posterior_mean` -> x_s: (b, c, h, w). `eta` in [0, 1]:
    0 adds no noise, 1 is the ancestral step; in between `noise`, as xt and N(0, I), is scaled by
    σ = η √β̃. With `clip`, x̂_0 is clipped to [−1, 1] and ε recomputed to agree with it. Raises
    ValueError for another eta, and for eta > 0 without noise.
    """
    if not 0 <= eta <= 1 or (eta > 0 and noise is None):
        raise ValueError("eta lies in 0…1, and above 0 it needs `noise`: standard normal, like xt.")
    s = t - 1 if s is None else s
    alpha_bar, alpha_bar_s = at(alpha_bars, t, xt), earlier(alpha_bars, s, xt)
    x0_hat = predict_x0(xt, t, eps_hat, alpha_bars)
    if clip:
        x0_hat = x0_hat.clamp(-1, 1)
        eps_hat = (xt - torch.sqrt(alpha_bar) * x0_hat) / torch.sqrt(1 - alpha_bar)
    sigma = eta * posterior_std(xt, t, alpha_bars, s)
    # Where σ² is nearly all, rounding can take the rest a hair below 0, whose root is NaN.
    rest = (1 - alpha_bar_s - sigma**2).clamp(min=0)
    x_s = torch.sqrt(alpha_bar_s) * x0_hat + torch.sqrt(rest) * eps_hat
    return x_s if noise is None else x_s + sigma * noise


def timesteps(T: int, steps: int) -> list[int]:
    """`steps` values of t, T/steps apart, from T − 1 down: the noisiest is always among them.

    Value k is T − k · T/steps, rounded, minus 1 (the "trailing" spacing of Lin et al. 2024). Raises
    ValueError unless 1 ≤ steps ≤ T.
    """
    if not 1 <= steps <= T:
        raise ValueError(f"steps lies in 1…{T}, the number of noise levels, not {steps}.")
    return [round(T - k * T / steps) - 1 for k in range(steps)]


def normal_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise of x's shape, dtype and device, drawn where the generator lives."""
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device).to(x)


@torch.no_grad()
def sample(
    eps_model: EpsModel,
    xt: Tensor,
    alpha_bars: Tensor,
    *,
    steps: int = 50,
    eta: float = 0.0,
    start: int | None = None,
    clip: bool = True,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Walk from noise to data with `steps` network calls, yielding each x on the way; x_0 is last.

    xt: (b, c, h, w), N(0, I) for a whole walk; alpha_bars: (T,). `eps_model(xt, t)`, t: (b,), is
    the predicted noise: the network, or any guidance wrapped around it. `eta` = 0 is DDIM,
    `eta` = 1 with `steps` = T DDPM's ancestral sampling; `eta` > 0 draws a `normal_like(xt)` for
    each step from `generator`. `start` begins the walk at a smaller t than T − 1, with xt noised to
    that t; the steps are then spread over what is left.
    """
    T = len(alpha_bars) if start is None else start + 1
    for t, s in pairwise([*timesteps(T, steps), -1]):
        now = torch.full((len(xt),), t, device=xt.device)
        later = torch.full_like(now, s)
        eps_hat = eps_model(xt, now)
        noise = normal_like(xt, generator) if eta > 0 else None
        xt = ddim_step(xt, now, eps_hat, alpha_bars, later, eta, noise, clip)
        yield xt
