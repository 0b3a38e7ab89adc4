"""The Fréchet distance beside scipy and closed forms; the judge that its features come from."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from course.data import mnist
from course.metrics import (
    Gaussian,
    Judge,
    accuracy,
    distance_floor,
    distance_to_mnist,
    fit_gaussian,
    frechet_distance,
    judge_features,
    load_judge,
    mnist_gaussian,
    noise_ceiling,
)


def features(n: int, d: int, seed: int, rank: int | None = None) -> Tensor:
    """Correlated features of that rank, away from 0."""
    rng = np.random.default_rng(seed)
    inner = d if rank is None else rank
    mixed = rng.normal(size=(n, inner)) @ rng.normal(size=(inner, d)) + rng.normal(size=d)
    return torch.from_numpy(mixed)


def by_scipy(a: Tensor, b: Tensor) -> float:
    """The same distance by scipy's matrix root, from numpy's own means and covariances."""
    x, y = a.double().numpy(), b.double().numpy()
    cov_x, cov_y = (np.cov(z, rowvar=False).reshape(z.shape[1], -1) for z in (x, y))
    root = scipy.linalg.sqrtm(cov_x @ cov_y)
    means = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    return float(means + np.trace(cov_x + cov_y - 2 * root.real))


@pytest.mark.parametrize("d", [1, 2, 5, 64])
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_scipy(d: int, seed: int) -> None:
    a, b = features(300, d, seed), features(200, d, seed + 10)
    assert frechet_distance(a, b) == pytest.approx(by_scipy(a, b), rel=1e-6)


@pytest.mark.parametrize(("d", "rank"), [(6, 2), (64, 10)])
def test_agrees_with_scipy_where_the_rank_is_not_full(d: int, rank: int) -> None:
    a, b = features(300, d, 0, rank), features(300, d, 1, rank)
    # Of a singular matrix scipy's root is good to about the square root of float64's rounding.
    assert frechet_distance(a, b) == pytest.approx(by_scipy(a, b), rel=1e-5)


def test_fewer_samples_than_features() -> None:
    a, b = features(5, 20, 0), features(8, 20, 1)
    assert frechet_distance(a, b) == pytest.approx(by_scipy(a, b), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [None, 3])
def test_zero_between_equal_sets(dtype: torch.dtype, rank: int | None) -> None:
    a = features(100, 16, 0, rank).to(dtype)
    assert frechet_distance(a, a.clone()) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(a, a[torch.randperm(100)]) == pytest.approx(0, abs=1e-5)


def test_symmetric() -> None:
    a, b = features(100, 12, 0), features(90, 12, 1, rank=4)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-7)


def test_closed_form_of_diagonal_gaussians() -> None:
    mean_a, mean_b = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([1.0, 1.0, 1.0])
    var_a, var_b = torch.tensor([1.0, 4.0, 0.0]), torch.tensor([9.0, 1.0, 0.25])
    a = Gaussian(mean_a.double(), var_a.diag().double())
    b = Gaussian(mean_b.double(), var_b.diag().double())
    # Per axis: (μ_a − μ_b)² + (σ_a − σ_b)² = 1 + 4, 0 + 1, 9 + ¼.
    assert frechet_distance(a, b) == pytest.approx(15.25)


def test_shift_alone_costs_its_square() -> None:
    a = features(100, 7, 0)
    assert frechet_distance(a, a + torch.full((7,), 2.0)) == pytest.approx(28)


def test_a_gaussian_fitted_before_serves_as_well() -> None:
    a, b = features(100, 7, 0), features(100, 7, 1)
    assert frechet_distance(fit_gaussian(a), b) == frechet_distance(a, b)


def test_fit_is_numpys_mean_and_covariance() -> None:
    x = features(50, 4, 0)
    mean, cov = fit_gaussian(x)
    assert np.allclose(mean, x.numpy().mean(axis=0))
    assert np.allclose(cov, np.cov(x.numpy(), rowvar=False))
    assert mean.dtype == cov.dtype == torch.float64


@pytest.mark.parametrize("shape", [(10,), (1, 5), (0, 5), (2, 3, 4)])
def test_features_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"features is \(n, d\) with n ≥ 2"):
        fit_gaussian(torch.zeros(shape))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(bad: float) -> None:
    a = features(10, 3, 0)
    a[4, 1] = bad
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance(a, features(10, 3, 1))


def test_features_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="3 features and the other 4"):
        frechet_distance(features(10, 3, 0), features(10, 4, 0))


# --- The judge -------------------------------------------------------------------------------


def test_shipped_judge_reads_99_2_percent_of_the_test_images() -> None:
    assert accuracy(load_judge(), *mnist("test")) >= 0.992


def test_accuracy_counts_right_answers() -> None:
    class Always3(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.eye(10)[3].expand(len(x), 10)

    labels = torch.tensor([3, 1, 3, 2, 3])
    assert accuracy(Always3(), torch.zeros(5, 1, 28, 28), labels, batch_size=2) == 0.6


@pytest.mark.parametrize(("images", "labels"), [(4, 5), (0, 0)])
def test_accuracy_wants_a_label_for_each_image(images: int, labels: int) -> None:
    with pytest.raises(ValueError, match=f"{images} images and {labels} labels"):
        accuracy(Judge(), torch.zeros(images, 1, 28, 28), torch.zeros(labels))


def test_features_do_not_depend_on_the_batch() -> None:
    images = mnist("test")[0][:30]
    whole = judge_features(load_judge(), images)
    assert whole.shape == (30, 64)
    assert torch.allclose(whole, judge_features(load_judge(), images, batch_size=7), atol=1e-5)


def test_mnist_gaussian_is_of_all_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    images = {"train": mnist("test")[0][:80], "test": mnist("test")[0][80:160]}
    monkeypatch.setattr("course.metrics.mnist", lambda split: (images[split], None))
    mean, cov = mnist_gaussian.__wrapped__()  # Not the cached one.
    expected = fit_gaussian(judge_features(load_judge(), images["train"]))
    assert torch.equal(mean, expected.mean)
    assert torch.equal(cov, expected.cov)


def test_floor_lies_far_below_the_ceiling() -> None:
    floor, ceiling = distance_floor(1000), noise_ceiling(1000)
    assert 0 < floor < ceiling / 100


def test_floor_falls_with_more_images() -> None:
    assert distance_floor(5000) < distance_floor(1000) < distance_floor(100)


def test_floor_is_the_same_twice() -> None:
    assert distance_floor(200, draws=2) == distance_floor(200, draws=2)


@pytest.mark.parametrize("n", [0, 1, 10_001])
def test_floor_of_more_images_than_there_are(n: int) -> None:
    with pytest.raises(ValueError, match=r"2…10000"):
        distance_floor(n)


def test_worse_images_lie_further_away() -> None:
    images = mnist("test")[0][:500]
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    a, b, c = (distance_to_mnist((images + s * noise).clamp(-1, 1)) for s in (0.0, 0.3, 1.0))
    assert a < b < c


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (torch.zeros(4, 28, 28), r"\(n, 1, 28, 28\) floats"),
        (torch.zeros(4, 3, 28, 28), r"\(n, 1, 28, 28\) floats"),
        (torch.zeros(4, 1, 32, 32), r"\(n, 1, 28, 28\) floats"),
        (torch.zeros(4, 1, 28, 28, dtype=torch.uint8), r"\(n, 1, 28, 28\) floats"),
        (torch.rand(4, 1, 28, 28), r"lies in \[−1, 1\]"),
        (torch.full((4, 1, 28, 28), -255.0), r"lies in \[−1, 1\]"),
        (torch.full((4, 1, 28, 28), float("nan")), r"lies in \[−1, 1\]"),
    ],
)
def test_images_of_another_kind_have_no_distance(images: Tensor, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        distance_to_mnist(images)
