"""Lesson 07: what guidance buys and what it costs; and a classifier that saw only drawn digits."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from course.classifier_free_guidance import GUIDANCE_SCALE, ConditionalUNet, cfg_eps_model
from course.classifier_guidance import diversity
from course.data import mnist
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.metrics import (
    Judge,
    accuracy,
    distance_floor,
    distance_to_mnist,
    judge_features,
    load_judge,
)
from course.recipes.base import channels_last
from course.sampling import sample
from course.training import TrainState, batch_indices, train
from course.weights import card, load_weights
from tests.benchmarks.row import Row

CALLS = 25
SCALES = (1.0, 1.25, 1.5, 2.0, 4.0)
ALPHA_BARS = alpha_bars_from_betas(cosine_schedule())


def draw(n: int, guidance_scale: float, seed: int = 1) -> tuple[Tensor, Tensor]:
    """n digits, 0 to 9 in turn, with `CALLS` network calls for each; and their labels."""
    name = "mnist-cfg"
    network = channels_last(load_weights(ConditionalUNet(**card(name)["config"]), name))
    noise = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    y, drawn = torch.arange(n) % 10, []
    # In small batches, which a CPU's caches hold.
    pairs = list(zip(noise.split(50), y.split(50), strict=True))
    for xt, labels in tqdm(pairs, desc=f"{n} digits, γ = {guidance_scale:g}"):
        eps_model = cfg_eps_model(network, labels, 10, ALPHA_BARS, guidance_scale)
        *_, x0 = sample(eps_model, xt, ALPHA_BARS, steps=CALLS)
        drawn.append(x0)
    return torch.cat(drawn), y


# --- The sweep ------------------------------------------------------------------------------------


class Quality(NamedTuple):
    """What is measured of digits drawn on demand."""

    asked_for: float
    frechet: float
    diversity: float


def quality(images: Tensor, y: Tensor) -> Quality:
    judge = load_judge()
    return Quality(
        accuracy(judge, images, y),
        distance_to_mnist(images),
        diversity(judge_features(judge, images), y),
    )


def guidance(n: int = 1000) -> list[Row]:
    """The asked-for label, the Fréchet distance and the diversity, against γ."""
    floor, real = distance_floor(n), quality(*(x[:n] for x in mnist("test")))
    found = {scale: quality(*draw(n, scale)) for scale in (*SCALES, GUIDANCE_SCALE)}
    best, plain = found[GUIDANCE_SCALE], found[1.0]
    head = f"γ = {', '.join(f'{scale:g}' for scale in SCALES)}, {CALLS} calls, N = {n:,}"
    swept = [found[scale] for scale in SCALES]
    return [
        Row(f"digits drawn as asked for by `mnist-cfg`, γ = {GUIDANCE_SCALE:g}, {CALLS} calls, "
            f"N = {n:,}", f"{best.asked_for:.1%}", "≥ 99 %"),
        Row("the same without guidance, γ = 1", f"{plain.asked_for:.1%}", "—"),
        Row(f"Fréchet distance, γ = {GUIDANCE_SCALE:g}", f"{best.frechet:.1f}", "—"),
        Row("the same without guidance, γ = 1", f"{plain.frechet:.1f}", "—"),
        Row(f"floor of these: {n:,} test images", f"{floor:.1f}", "—"),
        Row(f"ratio of γ = {GUIDANCE_SCALE:g} to the floor", f"{best.frechet / floor:.1f}", "≤ 2"),
        Row(f"asked-for label, {head}", " · ".join(f"{q.asked_for:.1%}" for q in swept), "—"),
        Row(f"Fréchet distance, {head}", " · ".join(f"{q.frechet:.1f}" for q in swept), "—"),
        Row(f"diversity within a label (test images: {real.diversity:.1f}), {head}",
            " · ".join(f"{q.diversity:.1f}" for q in swept), "—"),
    ]  # fmt: skip


# --- A classifier of drawn digits -----------------------------------------------------------------


def classifier_of(images: Tensor, labels: Tensor, what: str, steps: int) -> nn.Module:
    """The judge's architecture, trained on these images alone."""

    def draw_batch(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        i = batch_indices(len(images), 128, step)
        return images[i], labels[i]

    def loss_fn(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x), y)

    torch.manual_seed(0)
    state = TrainState.start(Judge())
    walk = train(state, draw_batch, loss_fn, steps=steps, lr=3e-3, ema_decay=0.99)
    for _ in tqdm(walk, total=steps, desc=what):
        pass
    return state.ema.eval()


def synthetic(n: int = 10_000, steps: int = 800) -> list[Row]:
    """The same classifier from n drawn digits and from n real ones, on the real test set."""
    drawn, drawn_labels = draw(n, GUIDANCE_SCALE, seed=2)
    real, real_labels = mnist("train")
    of_drawn = classifier_of(drawn, drawn_labels, "of drawn digits", steps)
    of_real = classifier_of(real[:n], real_labels[:n], "of real digits", steps)
    from_drawn, from_real = (accuracy(x, *mnist("test")) for x in (of_drawn, of_real))
    return [
        Row(f"accuracy on the real test set of a classifier of {n:,} digits drawn by `mnist-cfg`, "
            f"γ = {GUIDANCE_SCALE:g}, {CALLS} calls", f"{from_drawn:.1%}", "—"),
        Row(f"the same recipe and seed, {n:,} real digits", f"{from_real:.1%}", "—"),
        Row("errors, of drawn to of real",
            f"{(1 - from_drawn) / (1 - from_real):.1f}", "—"),
    ]  # fmt: skip


MEASURES: dict[str, Callable[[], list[Row]]] = {"guidance": guidance, "synthetic": synthetic}
