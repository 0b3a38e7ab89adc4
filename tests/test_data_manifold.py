"""Lesson 01 against numpy, scipy, and sets whose dimension is known."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist
from torch import Tensor

from course.data_manifold import (
    embed,
    fit_pca,
    nearest_two,
    pca_reconstruct,
    sphere,
    swiss_roll,
    two_nn,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cloud(n: int = 60, d: int = 8, dtype: torch.dtype = torch.float64) -> Tensor:
    """Points with another spread in each direction, away from the origin."""
    spreads = torch.linspace(3, 0.5, d)
    return embed(torch.randn(n, d, generator=generator()) * spreads, d, generator(1)).to(dtype) + 2


# --- PCA --------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 8])
def test_components_are_numpys_eigenvectors(k: int) -> None:
    x = cloud()
    mean, components = fit_pca(x, k)
    _, vectors = np.linalg.eigh(np.cov(x.numpy().T))
    expected = vectors[:, ::-1][:, :k].T
    np.testing.assert_allclose(mean, x.numpy().mean(axis=0), atol=1e-12)
    # Up to sign: each row's product with its own eigenvector is 1 or −1.
    overlaps = (components.numpy() * expected).sum(axis=1)
    np.testing.assert_allclose(np.abs(overlaps), 1, atol=1e-9)


def test_components_are_orthonormal_with_fewer_points_than_axes() -> None:
    _, components = fit_pca(cloud(n=5), 5)
    torch.testing.assert_close(components @ components.T, torch.eye(5).double())


@pytest.mark.parametrize("k", [-1, 0, 6])
def test_a_k_that_does_not_exist_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=rf"1…5 .* not {k}"):
        fit_pca(cloud(n=5), k)


def test_every_direction_together_gives_the_points_back() -> None:
    x = cloud()
    torch.testing.assert_close(pca_reconstruct(x, *fit_pca(x, 8)), x)


@pytest.mark.parametrize("k", [1, 4, 7])
def test_what_is_left_out_is_the_smallest_eigenvalues(k: int) -> None:
    """Eckart & Young 1936: no flat space of k dimensions leaves out less."""
    x = cloud()
    left_out = (x - pca_reconstruct(x, *fit_pca(x, k))).square().sum(dim=1).mean()
    values = np.linalg.eigvalsh(np.cov(x.numpy().T, bias=True))
    assert left_out.item() == pytest.approx(values[: 8 - k].sum(), rel=1e-9)


def test_a_reconstruction_is_its_own() -> None:
    x = cloud(dtype=torch.float32)
    mean, components = fit_pca(x, 3)
    once = pca_reconstruct(x, mean, components)
    torch.testing.assert_close(pca_reconstruct(once, mean, components), once, atol=1e-5, rtol=0)


# --- Two neighbours ---------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d"), [(3, 1), (40, 2), (300, 30)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distances_are_scipys(n: int, d: int, dtype: torch.dtype) -> None:
    x = torch.randn(n, d, generator=generator(), dtype=dtype) + 10
    expected, _ = cKDTree(x.numpy()).query(x.numpy(), k=3)
    r1, r2 = nearest_two(x)
    assert r1.dtype == r2.dtype == dtype
    np.testing.assert_allclose(r1, expected[:, 1], atol=1e-5)
    np.testing.assert_allclose(r2, expected[:, 2], atol=1e-5)


def test_copies_are_at_distance_zero_exactly() -> None:
    x = torch.randn(50, 784, generator=generator()) + 30
    r1, _ = nearest_two(torch.cat([x, x[:20]]))
    assert (r1 == 0).tolist() == [True] * 20 + [False] * 30 + [True] * 20


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_points_for_two_neighbours(n: int) -> None:
    with pytest.raises(ValueError, match=f"at least 3 points, not {n}"):
        nearest_two(torch.zeros(n, 2))


# --- TwoNN ------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2.5, 14, 784])
def test_exact_quantiles_give_the_exact_dimension(d: float) -> None:
    """Ratios that lie on F(μ) = 1 − μ^{−d} are fitted without error, in any order."""
    F = torch.arange(1, 101, dtype=torch.float64) / 100
    mu = (1 - F).clamp(min=1e-9) ** (-1 / d)
    r1 = torch.rand(100, generator=generator(), dtype=torch.float64) + 0.1
    order = torch.randperm(100, generator=generator())
    assert two_nn(r1, r1 * mu[order]) == pytest.approx(d, rel=1e-9)


@pytest.mark.parametrize("d", [1, 2, 5, 10, 20])
def test_drawn_ratios_give_the_dimension_within_its_error(d: int) -> None:
    u = torch.rand(4000, generator=generator(), dtype=torch.float64)
    # The maximum-likelihood estimate has a standard error of d/√n; the fit's is a little larger.
    assert two_nn(torch.ones(4000), u ** (-1 / d)) == pytest.approx(d, rel=4 / 4000**0.5)


def known() -> dict[str, tuple[Tensor, int]]:
    """2,000 points each, and their dimension."""
    g = generator()
    gaussians = {f"gaussian {d}": (torch.randn(2000, d, generator=g), d) for d in (1, 2, 3, 5, 10)}
    spheres = {f"sphere {d}": (sphere(2000, d, g), d) for d in (1, 2, 4, 6)}
    return {**gaussians, **spheres, "swiss roll": (swiss_roll(2000, g), 2)}


@pytest.mark.parametrize("name", known())
def test_sets_of_known_dimension(name: str) -> None:
    x, d = known()[name]
    estimate = two_nn(*nearest_two(embed(x, 50, generator(2))))
    # Over seeds the estimate varies by 3 % of d, and at d = 10 it is 3 % low.
    assert estimate == pytest.approx(d, rel=0.1)


def test_noise_in_many_dimensions_is_underestimated_but_large() -> None:
    noise = torch.randn(1500, 784, generator=generator())
    assert 100 < two_nn(*nearest_two(noise)) < 784


def test_copies_change_nothing() -> None:
    r1, r2 = nearest_two(torch.randn(200, 3, generator=generator()))
    some = torch.rand(20, generator=generator())
    with_copies = torch.cat([some * 0, r1]), torch.cat([some, r2])
    assert two_nn(*with_copies) == two_nn(r1, r2)


def test_the_scale_of_the_points_does_not_matter() -> None:
    r1, r2 = nearest_two(torch.randn(200, 3, generator=generator()))
    assert two_nn(100 * r1, 100 * r2) == pytest.approx(two_nn(r1, r2), rel=1e-5)


@pytest.mark.parametrize("keep", [0.0, 0.05, 1.0])
def test_keeping_none_or_all_is_refused(keep: float) -> None:
    with pytest.raises(ValueError, match="keep some, not all"):
        two_nn(torch.ones(10), torch.full((10,), 2.0), keep)


def test_nothing_but_copies_is_refused() -> None:
    with pytest.raises(ValueError, match="0 of 0 points"):
        two_nn(torch.zeros(10), torch.ones(10))


# --- Points of known dimension ----------------------------------------------------------------


def test_embedding_keeps_every_distance() -> None:
    x = torch.randn(40, 3, generator=generator())
    far = embed(x, 784, generator(1))
    assert far.shape == (40, 784)
    np.testing.assert_allclose(pdist(far.numpy()), pdist(x.numpy()), atol=1e-5)


def test_embedding_into_less_is_refused() -> None:
    with pytest.raises(ValueError, match="3 dimensions or more, not 2"):
        embed(torch.zeros(5, 3), 2, generator())


def test_spheres_are_round_and_centred() -> None:
    x = sphere(20_000, 2, generator())
    torch.testing.assert_close(x.norm(dim=1), torch.ones(20_000))
    # Each coordinate of a point on S² has mean 0 and variance 1/3.
    np.testing.assert_allclose(x.mean(dim=0), 0, atol=0.02)
    np.testing.assert_allclose(x.var(dim=0), 1 / 3, atol=0.01)


def test_the_roll_is_a_spiral_of_one_width() -> None:
    x, y, z = swiss_roll(2000, generator()).T
    radius = torch.hypot(x, z)
    # Points at radius φ stand at the angle φ: that is the spiral.
    torch.testing.assert_close(torch.cos(radius), x / radius, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.sin(radius), z / radius, atol=1e-4, rtol=0)
    assert 0 <= y.min() < 0.2
    assert 20.8 < y.max() <= 21
