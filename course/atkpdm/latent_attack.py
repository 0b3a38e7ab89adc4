"""AtkPDM+: the same climb in the latent space of a VAE that no victim uses."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from course.atkpdm.attack import Budget, ascend, feature_loss, over_noise, refuse_strangers
from course.atkpdm.budgets import keep_faithful, project, settle, slope
from course.atkpdm.distance import Distance, wasserstein2
from course.atkpdm.victims import Victim


@torch.no_grad()
def encode(vae: Any, x: Tensor) -> Tensor:
    """A picture's latents: the mean of a diffusers AutoencoderKL's posterior, as it is, unscaled.

    x: (b, 3, h, w) in [−1, 1] -> (b, latents, h/f, w/f).
    """
    return vae.encode(x).latent_dist.mean


def decode(vae: Any, z: Tensor) -> Tensor:
    """The picture of some latents, differentiable: as x in `encode`."""
    return vae.decode(z).sample


def atkpdm_plus(
    victim: Victim,
    vae: Any,
    x: Tensor,
    budget: Budget,
    *,
    perceptual: Distance | None = None,
    distance: Distance = wasserstein2,
    residual: bool = True,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """AtkPDM+ (Shih et al. 2025, algorithm 2): latents climb, pictures are yielded on the way.

    x: (b, 3, h, w) in [−1, 1]. It is encoded once; each step decodes, noises, attacks, goes back
    through the decoder by sign, and steps down `perceptual` while that is above `budget.delta`.
    Yields pictures within the PSNR, the last of them within `delta` too. With `residual` the
    picture is x + D(z) − D(E(x)), which spends no budget on the VAE's own blur; without, D(z).
    Raises ValueError as `atkpdm` does, and without `residual` where D(E(x)) alone breaks `delta`.
    """
    refuse_strangers(victim, x)
    start = encode(vae, x)
    with torch.no_grad():
        missing = x - decode(vae, start) if residual else torch.zeros_like(x)

    def picture(z: Tensor) -> Tensor:
        return decode(vae, z) + missing

    def far(x_adv: Tensor) -> Tensor:
        return perceptual(x_adv, x) if perceptual else torch.zeros(len(x)).to(x)

    _refuse_broken(far(picture(start)).detach(), budget.delta)

    def loss(x: Tensor, x_adv: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        return feature_loss(victim, x, x_adv, t, eps, distance)

    seen = over_noise(loss, x, budget.levels, budget.draws, generator)
    nudged = start + budget.step_size * torch.randn(
        start.shape, generator=generator, device=start.device
    )
    walk = ascend(
        nudged,
        lambda z: slope(lambda z: seen(project(picture(z), x, budget.psnr)), z),
        lambda z: keep_faithful(z, lambda z: far(picture(z)), budget.delta),
        budget.steps,
        budget.step_size,
    )
    for z in walk:
        with torch.no_grad():
            x_adv = project(picture(z), x, budget.psnr)
        yield x_adv
    if math.isfinite(budget.delta):
        with torch.no_grad():
            yield settle(x_adv, x, far, budget.delta)


def _refuse_broken(distances: Tensor, delta: float) -> None:
    """Raise ValueError where the VAE's own blur is more than the budget allows."""
    if (worst := float(distances.max())) > delta:
        raise ValueError(
            f"The budget of perceptual distance is broken before the attack: the VAE alone makes "
            f"{worst:.3f} of the {delta:g} allowed. Raise delta, or attack with residual=True."
        )
