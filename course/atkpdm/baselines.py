"""Other protectors, to compare AtkPDM with; and perturbations that know nothing."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from course.atkpdm.attack import Budget, ascend, over_noise, within
from course.atkpdm.budgets import at_psnr, random_start, slope
from course.atkpdm.distance import Distance
from course.atkpdm.latent_attack import encode
from course.atkpdm.victims import Victim
from course.forward_process import at, q_sample
from course.sampling import normal_like


def denoising_loss(victim: Victim, x_adv: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """How wrong the victim is about the noise in a noised picture: what AdvDM makes large.

    x_adv, eps: (b, c, h, w); t: (b,) int64 -> (b,): the mean squared error of ε̂ (Liang et al.
    2023), with its gradient through the whole network.
    """
    xt = q_sample(x_adv, t, eps, victim.alpha_bars)
    return (victim.eps_model(xt, t) - eps).square().flatten(1).mean(dim=1)


@torch.no_grad()
def sds_gradient(victim: Victim, x_adv: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """The denoising loss's gradient without the network's Jacobian: √ᾱ_t (ε̂ − ε).

    x_adv, eps: (b, c, h, w); t: (b,) int64 -> (b, c, h, w) (Xue et al. 2024, after DreamFusion's
    score distillation). It costs no pass back through the network.
    """
    xt = q_sample(x_adv, t, eps, victim.alpha_bars)
    return at(victim.alpha_bars, t, x_adv).sqrt() * (victim.eps_model(xt, t) - eps)


def climb(
    x: Tensor,
    gradient: Callable[[Tensor], Tensor],
    budget: Budget,
    generator: torch.Generator | None = None,
    perceptual: Distance | None = None,
) -> Tensor:
    """The end of `ascend` from a random start, inside AtkPDM's own budgets: (b, c, h, w).

    Without `perceptual`, `budget.delta` plays no part.
    """
    start = random_start(x, budget.psnr, generator)
    far = None if perceptual is None else (lambda x_adv: perceptual(x_adv, x))
    *_, x_adv = ascend(start, gradient, within(x, budget, far), budget.steps, budget.step_size)
    return x_adv


def advdm(
    victim: Victim,
    x: Tensor,
    budget: Budget,
    generator: torch.Generator | None = None,
    perceptual: Distance | None = None,
) -> Tensor:
    """AdvDM (Liang et al. 2023): up the victim's denoising loss. x: (b, c, h, w) -> as x.

    With `perceptual`, inside AtkPDM's second budget too: to tell what its loss is worth from what
    its constraint is.
    """
    seen = over_noise(
        lambda x, x_adv, t, eps: denoising_loss(victim, x_adv, t, eps),
        x,
        budget.levels,
        budget.draws,
        generator,
    )
    return climb(x, lambda z: slope(seen, z), budget, generator, perceptual)


def wander(
    x: Tensor,
    budget: Budget,
    perceptual: Distance | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Steps in random directions inside both budgets: what the constraints alone make. As x."""
    return climb(x, lambda z: normal_like(z, generator), budget, generator, perceptual)


def diff_protect(
    victim: Victim,
    x: Tensor,
    budget: Budget,
    generator: torch.Generator | None = None,
    sign: float = -1.0,
) -> Tensor:
    """Diff-Protect (Xue et al. 2024): along `sds_gradient`, `sign` +1 up the loss or −1 down.

    x: (b, c, h, w) -> as x. The published default is down, which blurs.
    """

    def along(x: Tensor, x_adv: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        step = sds_gradient(victim, x_adv.detach(), t, eps)
        return sign * (step * x_adv).flatten(1).sum(dim=1)  # its gradient is the step itself

    seen = over_noise(along, x, budget.levels, budget.draws, generator)
    return climb(x, lambda z: slope(seen, z), budget, generator)


def encoder_attack(
    vae: Any, x: Tensor, budget: Budget, generator: torch.Generator | None = None
) -> Tensor:
    """PhotoGuard's attack on an editor's encoder: latents as far as can be from the picture's own.

    x: (b, 3, h, w) -> as x (after Salman et al. 2023, who aim at a grey picture's latents).
    """
    clean = encode(vae, x)

    def far(x_adv: Tensor) -> Tensor:
        return (vae.encode(x_adv).latent_dist.mean - clean).square().flatten(1).mean(dim=1)

    return climb(x, lambda z: slope(far, z), budget, generator)


def white_noise(x: Tensor, wanted: float, generator: torch.Generator | None = None) -> Tensor:
    """x and normal noise at `wanted` dB: (b, c, h, w) -> as x."""
    return at_psnr(x + normal_like(x, generator), x, wanted)


def low_frequencies(x: Tensor, cells: int = 8, generator: torch.Generator | None = None) -> Tensor:
    """Smooth noise: a cells × cells square of normal noise, enlarged bicubically to x's size.

    x: (b, c, h, w), for its shape, dtype and device -> as x.
    """
    small = normal_like(torch.zeros(*x.shape[:2], cells, cells).to(x), generator)
    return F.interpolate(small, x.shape[-2:], mode="bicubic")


def anothers(x_adv: Tensor, x: Tensor, wanted: float) -> Tensor:
    """Each picture with the perturbation of the one before it, at `wanted` dB: as x.

    What is left of an attack's effect is then not aimed at the picture at all. Raises ValueError
    for fewer than two pictures.
    """
    if len(x) < 2:
        raise ValueError("Another picture's perturbation takes two pictures or more.")
    return at_psnr(x + (x_adv - x).roll(1, dims=0), x, wanted)
