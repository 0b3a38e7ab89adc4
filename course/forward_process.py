"""Lesson 02: from data to noise. Schedules, one step, and the closed form of q(x_t | x_0)."""

import math

import torch
from torch import Tensor


def linear_schedule(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """The T noise variances β_t, evenly spaced from `beta_start` to `beta_end` (DDPM, section 4).

    Returns betas: (T,) float32 in (0, 1).
    """
    return torch.linspace(beta_start, beta_end, T)


def cosine_schedule(T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Tensor:
    """The β_t whose ᾱ_t falls like a squared cosine (Nichol & Dhariwal 2021, eq. 17).

    With f(u) = cos²((u + s)/(1 + s) · π/2), step t takes the signal from f(t/T) to f((t+1)/T), so
    β_t = 1 − f((t+1)/T)/f(t/T), clipped at `max_beta`. Returns betas: (T,) float32 in (0, 1).
    """
    u = torch.arange(T + 1, dtype=torch.float64) / T
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    betas = 1 - f[1:] / f[:-1]
    return betas.clamp(max=max_beta).float()


def alpha_bars_from_betas(betas: Tensor) -> Tensor:
    """ᾱ_t = ∏_{i≤t} (1 − β_i), the share of the signal's variance that is left at step t.

    betas: (T,) in (0, 1) -> alpha_bars: (T,) falling. Raises ValueError where a β is out of range.
    """
    if betas.min() <= 0 or betas.max() >= 1:
        raise ValueError("Every β lies strictly between 0 and 1.")
    return torch.cumprod(1 - betas, dim=0)


def at(values: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """The schedule's value at each image's own t, shaped to multiply the images.

    values: (T,); t: (b,) int64 in 0…T−1; x: (b, …) -> (b, 1, …) with as many axes as x, in x's
    dtype and device. Raises TypeError and ValueError for any other t.
    """
    if t.dtype != torch.int64:
        raise TypeError(f"t holds step numbers: int64, not {t.dtype}.")
    if t.shape != x.shape[:1]:
        raise ValueError(
            f"t has one step per image: shape ({x.shape[0]},) here, not {tuple(t.shape)}."
        )
    T = len(values)
    if t.numel() and not 0 <= int(t.min()) <= int(t.max()) < T:
        raise ValueError(
            f"t lies in 0…{T - 1} for this schedule, not {int(t.min())}…{int(t.max())}."
        )
    return values[t.to(values.device)].to(x).reshape(-1, *[1] * (x.ndim - 1))


def forward_step(x_prev: Tensor, t: Tensor, eps: Tensor, betas: Tensor) -> Tensor:
    """One step of the forward process, a draw of N(√α_t x_{t−1}, (1 − α_t) I) (DDPM eq. 2).

    x_prev, eps: (b, c, h, w); t: (b,) int64 in 0…T−1; betas: (T,) -> x_t: (b, c, h, w). Here t is
    the step taken: step 0 turns the data x_0 into the first noisy image.
    """
    beta = at(betas, t, x_prev)
    return torch.sqrt(1 - beta) * x_prev + torch.sqrt(beta) * eps


def q_sample(x0: Tensor, t: Tensor, eps: Tensor, alpha_bars: Tensor) -> Tensor:
    """x_t in one jump: √ᾱ_t x_0 + √(1 − ᾱ_t) ε (DDPM eq. 4).

    x0: (b, c, h, w) in [−1, 1]; t: (b,) int64 in 0…T−1; eps: as x0, N(0, I); alpha_bars: (T,)
    -> (b, c, h, w).
    """
    alpha_bar = at(alpha_bars, t, x0)
    return torch.sqrt(alpha_bar) * x0 + torch.sqrt(1 - alpha_bar) * eps


def snr(alpha_bars: Tensor) -> Tensor:
    """The signal-to-noise ratio ᾱ_t / (1 − ᾱ_t), of variances (Kingma et al. 2021, eq. 2).

    alpha_bars: (T,) in (0, 1) -> (T,), positive.
    """
    return alpha_bars / (1 - alpha_bars)
