"""Lesson 06: what a classifier's guidance buys, and what it costs, over the scale."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from course.classifier_guidance import (
    Classifier,
    NoisyClassifier,
    accuracy_at,
    classifier_guided_eps_model,
    diversity,
)
from course.data import mnist
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.metrics import (
    accuracy,
    distance_floor,
    distance_to_mnist,
    judge_features,
    load_judge,
)
from course.recipes.base import channels_last
from course.sampling import as_eps_model, sample
from course.training import UNet
from course.weights import card, load_weights
from tests.benchmarks.row import Row

SCALES = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
LEVELS = (0, 250, 500, 750, 900)
CALLS = 25
ALPHA_BARS = alpha_bars_from_betas(cosine_schedule())


def shipped_classifier() -> nn.Module:
    name = "mnist-noisy-classifier"
    return channels_last(load_weights(NoisyClassifier(**card(name)["config"]), name))


def guided_samples(scale: float, y: Tensor) -> Tensor:
    """A sample for each label, from the same noise at every scale."""
    network = channels_last(load_weights(UNet(**card("mnist-ddpm")["config"]), "mnist-ddpm"))
    eps_model = as_eps_model(network, ALPHA_BARS)
    guided = classifier_guided_eps_model(eps_model, shipped_classifier(), y, ALPHA_BARS, scale)
    noise = torch.randn(len(y), 1, 28, 28, generator=torch.Generator().manual_seed(1))
    walk = sample(guided, noise, ALPHA_BARS, steps=CALLS)
    *_, x0 = tqdm(walk, total=CALLS, desc=f"scale {scale:g}")
    return x0


def label_share_and_diversity(x0: Tensor, y: Tensor) -> tuple[float, float]:
    """The share that the judge gives the label asked for, and the diversity within its labels."""
    judge = load_judge()
    features = judge_features(judge, x0)
    with torch.no_grad():
        seen = judge.classify(features).argmax(dim=1)
    return accuracy(judge, x0, y), diversity(features, seen)


def reading(n: int = 10_000) -> list[Row]:
    """How many noisy digits are told right: by this classifier, and by one of clean digits."""
    images, labels = (x[:n] for x in mnist("test"))
    judge = load_judge()
    readers: dict[str, Classifier] = {
        "`mnist-noisy-classifier`": shipped_classifier(),
        "`mnist-judge`, trained on clean digits": lambda xt, t: judge(xt),
    }
    levels = ", ".join(map(str, LEVELS))
    rows = []
    for what, classifier in readers.items():
        generator = torch.Generator().manual_seed(0)
        shares = [accuracy_at(classifier, images, labels, t, ALPHA_BARS, generator) for t in LEVELS]
        measured = " · ".join(f"{share:.1%}" for share in shares)
        rows.append(Row(f"accuracy on {n:,} test digits noised to t = {levels}: {what}",
                        measured, "—"))  # fmt: skip
    return rows


def steering(n: int = 1000) -> list[Row]:
    """The share of the label asked for, diversity and Fréchet distance, over the scale."""
    y = torch.arange(n) % 10
    found = []
    for scale in SCALES:
        x0 = guided_samples(scale, y)
        found.append((*label_share_and_diversity(x0, y), distance_to_mnist(x0)))
    shares, spreads, distances = zip(*found, strict=True)
    images, labels = (x[:n] for x in mnist("test"))
    _, real = label_share_and_diversity(images, labels)
    head = f"γ = {', '.join(f'{s:g}' for s in SCALES)}; {CALLS} calls, N = {n:,}"
    return [
        Row(f"classifier guidance, label asked for (judge): {head}",
            " · ".join(f"{s:.1%}" for s in shares), "—"),
        Row(f"the same, diversity within a label ({n:,} real digits: {real:.1f})",
            " · ".join(f"{s:.1f}" for s in spreads), "—"),
        Row(f"the same, Fréchet distance (floor {distance_floor(n):.1f})",
            " · ".join(f"{d:.1f}" for d in distances), "—"),
    ]  # fmt: skip


MEASURES: dict[str, Callable[[], list[Row]]] = {
    "noisy-classifier": reading,
    "classifier-guidance": steering,
}
