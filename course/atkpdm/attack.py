"""AtkPDM: push the victim's features away from the original's, inside two budgets."""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from course.atkpdm.budgets import Loss, keep_faithful, project, random_start, settle, slope
from course.atkpdm.distance import Distance, wasserstein2
from course.atkpdm.victims import Victim, features
from course.forward_process import q_sample
from course.sampling import normal_like

Purify = Callable[[Tensor], Tensor]
# (x, x_adv, t, eps) -> (b,): what an attack makes large.
NoisyLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Budget:
    """What a protected picture may cost, and how long it is searched for.

    psnr: the least dB; delta: the most perceptual distance, `math.inf` for no such budget; steps of
    step_size by sign, each averaged over `draws` of t and noise; levels: the least and greatest t.
    """

    psnr: float = 25.0
    delta: float = math.inf
    steps: int = 100
    step_size: float = 0.02
    draws: int = 2
    levels: tuple[int, int] = (0, 446)


def feature_loss(
    victim: Victim,
    x: Tensor,
    x_adv: Tensor,
    t: Tensor,
    eps: Tensor,
    distance: Distance = wasserstein2,
) -> Tensor:
    """How far the victim's features of x_adv are from those of x, both noised by the same ε to t.

    x, x_adv, eps: (b, c, h, w); t: (b,) int64 -> (b,), the distances of the victim's layers added
    up. Its gradient reaches x_adv alone.
    """
    with torch.no_grad():
        clean = features(victim, q_sample(x, t, eps, victim.alpha_bars), t)
    ours = features(victim, q_sample(x_adv, t, eps, victim.alpha_bars), t)
    return torch.stack([distance(ours[name], clean[name]) for name in victim.layers]).sum(dim=0)


def over_noise(
    loss: NoisyLoss,
    x: Tensor,
    levels: tuple[int, int],
    draws: int = 1,
    generator: torch.Generator | None = None,
) -> Loss:
    """A loss of (x, x_adv, t, ε) as one of x_adv: its mean over draws of t and ε (EOT).

    x: (b, c, h, w) -> a function of x_adv: (b, c, h, w) -> (b,), which draws anew at each call:
    first a t for each of draws · b pictures, from levels[0] to levels[1] inclusive, then their
    `normal_like`.
    """
    low, high = levels
    many = x.repeat(draws, 1, 1, 1)
    device = x.device if generator is None else generator.device

    def averaged(x_adv: Tensor) -> Tensor:
        t = torch.randint(low, high + 1, (len(many),), generator=generator, device=device)
        eps = normal_like(many, generator)
        values = loss(many, x_adv.repeat(draws, 1, 1, 1), t.to(x.device), eps)
        return values.reshape(draws, len(x)).mean(dim=0)

    return averaged


def ascend(
    start: Tensor,
    gradient: Callable[[Tensor], Tensor],
    keep: Callable[[Tensor], Tensor],
    steps: int,
    step_size: float,
) -> Iterator[Tensor]:
    """Steps of `step_size` by the gradient's sign, each brought back into the budgets by `keep`.

    start: (b, …), pictures or latents. Yields keep(start), and then what each step gives: (b, …). A
    gradient that is not finite ends it with a warning: the last value stands.
    """
    z = keep(start)
    yield z
    for step in range(steps):
        g = gradient(z)
        if not bool(g.isfinite().all()):
            warnings.warn(f"Step {step}: the gradient is not finite; stopped there.", stacklevel=2)
            return
        z = keep(z + step_size * g.sign())
        yield z


def within(x: Tensor, budget: Budget, distance: Loss | None = None) -> Callable[[Tensor], Tensor]:
    """What `ascend` keeps a picture inside: the perceptual budget first, then PSNR and [−1, 1]."""

    def keep(x_adv: Tensor) -> Tensor:
        if distance is not None and math.isfinite(budget.delta):
            x_adv = keep_faithful(x_adv, distance, budget.delta)
        return project(x_adv, x, budget.psnr)

    return keep


def atkpdm(
    victim: Victim,
    x: Tensor,
    budget: Budget,
    *,
    perceptual: Distance | None = None,
    distance: Distance = wasserstein2,
    purify: Purify | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """AtkPDM's alternating optimisation (Shih et al. 2025, algorithm 1), yielding x_adv on the way.

    x: (b, c, h, w) in [−1, 1] -> (b, c, h, w), the last of them within both budgets. `perceptual`
    is the distance of `budget.delta`; `purify` what an editor may do first, differentiable or
    straight through, and then a part of the expectation. Raises ValueError for a picture that is
    not the victim's, and a `delta` without `perceptual`.
    """
    refuse_strangers(victim, x)
    far = None if perceptual is None else (lambda x_adv: perceptual(x_adv, x))
    if far is None and math.isfinite(budget.delta):
        raise ValueError("A budget of perceptual distance needs `perceptual` to measure it.")

    def loss(x: Tensor, x_adv: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        return feature_loss(victim, x, purify(x_adv) if purify else x_adv, t, eps, distance)

    seen = over_noise(loss, x, budget.levels, budget.draws, generator)
    start = random_start(x, budget.psnr, generator)
    walk = ascend(
        start, lambda z: slope(seen, z), within(x, budget, far), budget.steps, budget.step_size
    )
    for x_adv in walk:
        yield x_adv
    if far is not None and math.isfinite(budget.delta):
        with torch.no_grad():
            yield settle(x_adv, x, far, budget.delta)


def refuse_strangers(victim: Victim, x: Tensor) -> None:
    """Raise ValueError unless x is a batch of finite pictures in [−1, 1] of the victim's size."""
    wanted = (victim.channels, victim.size, victim.size)
    if x.ndim != 4 or x.shape[1:] != wanted:
        raise ValueError(
            f"{victim.name} edits pictures (b, {str(wanted)[1:]}, not {tuple(x.shape)}."
        )
    if not bool(x.isfinite().all()) or x.abs().max() > 1.001:
        raise ValueError("Pictures lie in [−1, 1], and these do not.")
