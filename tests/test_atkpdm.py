"""Lesson 12's distance against scipy, finite differences, and its own symmetries."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from course.atkpdm import wasserstein2


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def by_scipy(x: Tensor, y: Tensor) -> float:
    """The distance of two maps (c, h, w) by matrix square roots of their covariances."""
    a, b = (z.flatten(1).numpy() for z in (x, y))
    cov_a, cov_b = (np.atleast_2d(np.cov(z, bias=True)) for z in (a, b))
    root = sqrtm(cov_a)
    cross = sqrtm(root @ cov_b @ root)
    means = np.square(a.mean(axis=1) - b.mean(axis=1)).sum()
    return float(np.real(means + np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(cross)))


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 3), (8, 4, 4), (5, 2, 9)])
def test_the_distance_is_scipys(shape: tuple[int, int, int]) -> None:
    x, y = normal(2, *shape), 1.5 * normal(2, *shape, seed=1) + 0.3
    ours = wasserstein2(x, y)
    expected = [by_scipy(a, b) for a, b in zip(x, y, strict=True)]
    torch.testing.assert_close(ours, torch.tensor(expected).double(), rtol=1e-6, atol=1e-6)


def test_it_is_exact_where_the_covariances_are_singular() -> None:
    """Fewer positions than channels: between diagonal covariances the distance is known."""
    x, y = torch.zeros(1, 6, 1, 2).double(), torch.zeros(1, 6, 1, 2).double()
    x[0, 0, 0] = torch.tensor([-1.0, 1.0])
    y[0, 0, 0] = torch.tensor([-3.0, 3.0])
    assert wasserstein2(x, y).item() == pytest.approx(4)  # (3 − 1)², along one axis
    y[0, 0], y[0, 1] = 0, x[0, 0]
    assert wasserstein2(x, y).item() == pytest.approx(2)  # variance 1 here, variance 1 there


def test_a_permutation_of_the_positions_changes_nothing() -> None:
    x = normal(1, 4, 5, 5)
    shuffled = x.flatten(2)[..., torch.randperm(25, generator=torch.Generator().manual_seed(2))]
    assert abs(wasserstein2(x, shuffled.reshape(x.shape)).item()) < 1e-12
    y = normal(1, 4, 5, 5, seed=3)
    torch.testing.assert_close(wasserstein2(shuffled.reshape(x.shape), y), wasserstein2(x, y))


def test_value_and_gradient_vanish_between_equal_maps() -> None:
    """So an attack that starts at the image itself would follow rounding noise."""
    x = normal(1, 4, 4, 4)
    moved = x.clone().requires_grad_()
    value = wasserstein2(moved, x)
    (gradient,) = torch.autograd.grad(value.sum(), moved)
    assert abs(value.item()) < 1e-12
    assert gradient.abs().max() < 1e-12
    elsewhere = (x + 0.1 * normal(1, 4, 4, 4, seed=4)).requires_grad_()
    (gradient,) = torch.autograd.grad(wasserstein2(elsewhere, x).sum(), elsewhere)
    assert gradient.abs().max() > 1e-4


@pytest.mark.parametrize("shape", [(1, 3, 2, 3), (2, 2, 3, 3)])
def test_gradient_by_finite_differences(shape: tuple[int, ...]) -> None:
    """Of x as well as of y: full-rank clouds, where the distance is smooth."""
    maps = (normal(*shape).requires_grad_(), normal(*shape, seed=5).requires_grad_())
    assert torch.autograd.gradcheck(wasserstein2, maps)


def test_equal_singular_values_have_a_finite_gradient() -> None:
    x = torch.eye(4).double().reshape(1, 4, 2, 2).requires_grad_()
    y = 2 * torch.eye(4).double().reshape(1, 4, 2, 2)
    (gradient,) = torch.autograd.grad(wasserstein2(x, y).sum(), x)
    assert gradient.isfinite().all()


def test_maps_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        wasserstein2(normal(1, 2, 3, 3), normal(1, 2, 3, 4))
