"""How good samples are: a judge trained on MNIST, and the Fréchet distance of its features."""

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course.data import mnist
from course.weights import load_weights


class Judge(nn.Module):
    """A LeNet-like classifier whose 64 features measure how alike two sets of digits are.

    x: (b, 1, 28, 28) in [−1, 1] -> logits: (b, 10).
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        )  # fmt: skip
        self.compress = nn.Linear(64 * 7 * 7, 64)
        self.classify = nn.Linear(64, 10)

    def features(self, x: Tensor) -> Tensor:
        """(b, 1, 28, 28) in [−1, 1] -> (b, 64)."""
        return F.relu(self.compress(self.convolutions(x).flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))


class Gaussian(NamedTuple):
    """The mean (d,) and covariance (d, d) of a set of features, in float64."""

    mean: Tensor
    cov: Tensor


def fit_gaussian(features: Tensor) -> Gaussian:
    """The sample mean and covariance (divided by n − 1). features: (n, d) with n ≥ 2, finite.

    Raises ValueError for anything else.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features is (n, d) with n ≥ 2, not {tuple(features.shape)}.")
    if not features.isfinite().all():
        raise ValueError("features holds numbers that are not finite; they have no distance.")
    x = features.double()
    # Of one variable, cov() is a number.
    return Gaussian(x.mean(dim=0), torch.atleast_2d(x.T.cov()))


def frechet_distance(a: Tensor | Gaussian, b: Tensor | Gaussian) -> float:
    """The Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017).

    ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½): the squared 2-Wasserstein distance.
    a, b: features (n, d), or a `Gaussian` fitted before. Depends on n: state it beside the value.
    Raises ValueError as `fit_gaussian` does, and for features of different d.
    """
    a, b = (x if isinstance(x, Gaussian) else fit_gaussian(x) for x in (a, b))
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"One set has {len(a.mean)} features and the other {len(b.mean)}.")
    # (Σ_a Σ_b)^½ has the trace of (Σ_a^½ Σ_b Σ_a^½)^½, which is symmetric: eigh serves both roots.
    values, vectors = torch.linalg.eigh(a.cov)
    root_a = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root_a @ b.cov @ root_a).clamp(min=0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace() - 2 * cross
    # Between equal sets rounding can take it a hair below 0.
    return max(0.0, distance.item())


@torch.no_grad()
def judge_features(judge: Judge, images: Tensor, batch_size: int = 100) -> Tensor:
    """The judge's features of many images. images: (n, 1, 28, 28) in [−1, 1] -> (n, 64)."""
    return torch.cat([judge.features(x) for x in images.split(batch_size)])


@torch.no_grad()
def accuracy(classifier: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 100) -> float:
    """The share of images whose largest logit is their label's. images: (n, 1, 28, 28).

    Raises ValueError where there are not as many labels, or none.
    """
    if len(images) != len(labels) or len(labels) == 0:
        raise ValueError(f"{len(images)} images and {len(labels)} labels: one each, and some.")
    batches = zip(images.split(batch_size), labels.split(batch_size), strict=True)
    right = sum(int((classifier(x).argmax(dim=1) == y).sum()) for x, y in batches)
    return right / len(labels)


@functools.cache
def load_judge() -> Judge:
    """The shipped judge. Raises CourseError where its weights are missing or damaged."""
    # In this memory layout, and in small batches, its features take half the time on a CPU.
    return load_weights(Judge(), "mnist-judge").to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@functools.cache
def mnist_gaussian() -> Gaussian:
    """The Gaussian of the judge's features over MNIST's 60,000 training images."""
    return fit_gaussian(judge_features(load_judge(), mnist("train")[0]))


def distance_to_mnist(images: Tensor) -> float:
    """The Fréchet distance of samples to the training set. images: (n, 1, 28, 28) in [−1, 1].

    State n beside the value, and `distance_floor(n)`: a small n alone makes it larger. Raises
    ValueError for another shape, dtype or range.
    """
    if images.ndim != 4 or images.shape[1:] != (1, 28, 28) or not images.is_floating_point():
        raise ValueError(
            f"images is (n, 1, 28, 28) floats, not {tuple(images.shape)} {images.dtype}."
        )
    if not images.abs().max() <= 1.001 or images.min() >= 0:
        low, high = images.min().item(), images.max().item()
        raise ValueError(f"images lies in [−1, 1], dark being −1; here it is [{low:g}, {high:g}].")
    return frechet_distance(judge_features(load_judge(), images), mnist_gaussian())


def distance_floor(n: int, draws: int = 10) -> float:
    """The distance of n real images: its mean over `draws` draws from the test set.

    Raises ValueError unless 2 ≤ n ≤ 10,000.
    """
    features = _test_features()
    if not 2 <= n <= len(features):
        raise ValueError(f"n lies in 2…{len(features)}, the test images, not {n}.")
    generator = torch.Generator().manual_seed(0)
    picks = (torch.randperm(len(features), generator=generator)[:n] for _ in range(draws))
    return sum(frechet_distance(features[i], mnist_gaussian()) for i in picks) / draws


@functools.cache
def _test_features() -> Tensor:
    """The judge's features of MNIST's 10,000 test images: (10,000, 64)."""
    return judge_features(load_judge(), mnist("test")[0])


def noise_ceiling(n: int) -> float:
    """The distance of n images of clipped Gaussian noise: what no training at all would give."""
    generator = torch.Generator().manual_seed(0)
    return distance_to_mnist(torch.randn(n, 1, 28, 28, generator=generator).clamp(-1, 1))
