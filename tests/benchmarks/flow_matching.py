"""Lesson 13: a flow and a diffusion of the same network, at equal numbers of calls."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from tqdm import tqdm

from course.flow_matching import Velocity, as_velocity, eps_as_flow, flow_as_eps, flow_sample
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.metrics import distance_floor, distance_to_mnist
from course.recipes.base import channels_last
from course.sampling import EpsModel, as_eps_model, sample
from course.training import UNet
from course.weights import Card, card, load_weights
from tests.benchmarks.row import Row

CALLS = (5, 10, 20, 50)
ALPHA_BARS = alpha_bars_from_betas(cosine_schedule())
Walk = Callable[[int, Tensor], Iterator[Tensor]]


def shipped(name: str) -> nn.Module:
    return channels_last(load_weights(UNet(**card(name)["config"]), name))


def euler(velocity: Velocity) -> Walk:
    return lambda calls, noise: flow_sample(velocity, noise, steps=calls)


def heun(velocity: Velocity) -> Walk:
    """Two calls a step and one at the last: of an even number of calls, one is not used."""
    return lambda calls, noise: flow_sample(velocity, noise, steps=(calls + 1) // 2, method="heun")


def ddim(eps_model: EpsModel) -> Walk:
    return lambda calls, noise: sample(eps_model, noise, ALPHA_BARS, steps=calls)


def distances(walk: Walk, what: str, n: int) -> list[float]:
    """The Fréchet distance of n samples at each of CALLS, from the same noise."""
    noise = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    found = []
    for calls in tqdm(CALLS, desc=what):
        *_, x0 = walk(calls, noise)
        found.append(distance_to_mnist(x0.clamp(-1, 1)))
    return found


def flow(n: int = 1000) -> list[Row]:
    """Euler, Heun and DDIM at 5, 10, 20 and 50 network calls."""
    velocity, diffusion = (
        as_velocity(shipped("mnist-flow")),
        as_eps_model(shipped("mnist-ddpm"), ALPHA_BARS),
    )
    walks = {
        "`mnist-flow`, Euler": euler(velocity),
        "`mnist-flow`, Heun (5, 9, 19, 49 calls)": heun(velocity),
        "`mnist-flow` as ε̂ in lesson 04's sampler, clipped": ddim(
            flow_as_eps(velocity, ALPHA_BARS)
        ),
        "`mnist-ddpm`, DDIM, clipped": ddim(diffusion),
        "`mnist-ddpm` as a velocity, Heun": heun(eps_as_flow(diffusion, ALPHA_BARS)),
    }
    head = f"Fréchet distance at {', '.join(map(str, CALLS))} calls, N = {n:,}"
    rows = [
        Row(f"{head}: {what}", " · ".join(f"{d:.1f}" for d in distances(walk, what, n)), "—")
        for what, walk in walks.items()
    ]
    return [
        *rows,
        Row(f"floor of these: {n:,} test images", f"{distance_floor(n):.1f}", "—"),
        Row("`mnist-flow` and `mnist-ddpm`: training steps, CPU-minutes",
            " and ".join(cost(card(x)) for x in ("mnist-flow", "mnist-ddpm")), "the same"),
    ]  # fmt: skip


def cost(about: Card) -> str:
    """A network's training, from its card."""
    return f"{about['steps']:,}, {about['cpu_minutes']:.0f}"


MEASURES: dict[str, Callable[[], list[Row]]] = {"flow": flow}
