"""Every protector of the table by its name, each at the same PSNR."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from course.atkpdm.attack import Budget, atkpdm
from course.atkpdm.baselines import (
    advdm,
    anothers,
    diff_protect,
    encoder_attack,
    low_frequencies,
    wander,
    white_noise,
)
from course.atkpdm.budgets import at_psnr
from course.atkpdm.distance import Distance, feature_l2, published_distance, wasserstein2
from course.atkpdm.latent_attack import atkpdm_plus
from course.atkpdm.purifiers import as_published, mixed, purifiers
from course.atkpdm.victims import random_twin
from course.atkpdm.worlds import World

LATENT_STEP = 2.5  # Latents are of size 1, pixels of 0.4 or so.
Method = Callable[[World, Tensor, Budget, torch.Generator], Tensor]


def _feature(distance: Distance = wasserstein2, budgeted: bool = True) -> Method:
    """AtkPDM by a distance of features; without the budget δ, the feature attack alone."""

    def method(world: World, x: Tensor, budget: Budget, generator: torch.Generator) -> Tensor:
        budget = budget if budgeted else replace(budget, delta=math.inf)
        *_, x_adv = atkpdm(
            world.victim,
            x,
            budget,
            perceptual=world.perceptual,
            distance=distance,
            generator=generator,
        )
        return x_adv

    return method


def _through_purifiers(
    world: World, x: Tensor, budget: Budget, generator: torch.Generator
) -> Tensor:
    """AtkPDM whose expectation runs over the editor's purifiers, one a draw."""
    chosen = purifiers(world.victim)
    *_, x_adv = atkpdm(
        world.victim,
        x,
        replace(budget, draws=len(chosen)),
        perceptual=world.perceptual,
        purify=mixed(chosen),
        generator=generator,
    )
    return x_adv


def _latent(residual: bool) -> Method:
    def method(world: World, x: Tensor, budget: Budget, generator: torch.Generator) -> Tensor:
        budget = replace(budget, delta=math.inf if not residual else budget.delta)
        *_, x_adv = atkpdm_plus(
            world.victim,
            world.vae,
            x,
            replace(budget, step_size=LATENT_STEP * budget.step_size),
            perceptual=world.perceptual,
            residual=residual,
            generator=generator,
        )
        return x_adv

    return method


def _untrained(world: World, x: Tensor, budget: Budget, generator: torch.Generator) -> Tensor:
    twin = replace(world, victim=random_twin(world.victim))
    return _feature()(twin, x, budget, generator)


def _of_another(world: World, x: Tensor, budget: Budget, generator: torch.Generator) -> Tensor:
    return anothers(_feature()(world, x, budget, generator), x, budget.psnr)


METHODS: dict[str, Method] = {
    "white noise": lambda w, x, b, g: white_noise(x, b.psnr, g),
    "smooth noise": lambda w, x, b, g: x + low_frequencies(x, generator=g),
    "random steps within δ": lambda w, x, b, g: wander(x, b, w.perceptual, g),
    "AdvDM": lambda w, x, b, g: advdm(w.victim, x, b, g),
    "AdvDM within δ": lambda w, x, b, g: advdm(w.victim, x, b, g, w.perceptual),
    "Diff-Protect, up": lambda w, x, b, g: diff_protect(w.victim, x, b, g, sign=1.0),
    "Diff-Protect, down": lambda w, x, b, g: diff_protect(w.victim, x, b, g),
    "encoder attack": lambda w, x, b, g: encoder_attack(w.vae, x, b, g),
    "AtkPDM": _feature(),
    "AtkPDM, L2": _feature(feature_l2),
    "AtkPDM, published distance": _feature(published_distance),
    "AtkPDM without δ": _feature(budgeted=False),
    "AtkPDM, another's": _of_another,
    "AtkPDM, untrained surrogate": _untrained,
    "AtkPDM, through purifiers": _through_purifiers,
    "AtkPDM+": _latent(residual=True),
    "AtkPDM+ without residual": _latent(residual=False),
}
NEED_VAE = {"encoder attack", "AtkPDM+", "AtkPDM+ without residual"}


def methods_for(world: World) -> list[str]:
    """The methods that this world can run."""
    return [name for name in METHODS if world.vae is not None or name not in NEED_VAE]


def require_method(name: str, world: World) -> None:
    """Raise ValueError for a name that is none, with those there are, or one that needs a VAE."""
    if name not in METHODS:
        raise ValueError(f"No method is named {name!r}; there are {', '.join(METHODS)}.")
    if name in NEED_VAE and world.vae is None:
        raise ValueError(f"{name} needs a VAE, and {world.victim.name} has none.")


def protected(name: str, world: World, x: Tensor, budget: Budget, seed: int = 0) -> Tensor:
    """x protected by a method, at `budget.psnr`, and rounded to 8 bits as it would be published.

    Raises ValueError as `require_method` does.
    """
    require_method(name, world)
    generator = torch.Generator(x.device).manual_seed(seed)
    x_adv = METHODS[name](world, x, budget, generator).detach()
    return as_published(at_psnr(x_adv, x, budget.psnr))
