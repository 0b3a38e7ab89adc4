"""Lesson 01: how thin the set of images is. PCA, and the TwoNN estimate of a dimension."""

import math

import torch
from torch import Tensor


def fit_pca(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The mean of some points and the k directions in which they vary most.

    x: (n, d) -> mean: (d,), components: (k, d), whose rows are orthonormal, the direction of the
    largest variance first; each row's sign is free. Raises ValueError for k outside 1…min(n, d).
    """
    if not 1 <= k <= min(x.shape):
        raise ValueError(f"k lies in 1…{min(x.shape)} for points of this shape, not {k}.")
    mean = x.mean(dim=0)
    directions = torch.linalg.svd(x - mean, full_matrices=False).Vh
    return mean, directions[:k]


def pca_reconstruct(x: Tensor, mean: Tensor, components: Tensor) -> Tensor:
    """Each point's nearest neighbour in the flat space through `mean` along `components`.

    x: (n, d); mean: (d,); components: (k, d), orthonormal rows -> (n, d).
    """
    coordinates = (x - mean) @ components.T
    return mean + coordinates @ components


def nearest_two(x: Tensor) -> tuple[Tensor, Tensor]:
    """The distances from each point to its first and second nearest neighbour among the others.

    x: (n, d) -> r1, r2: (n,), r1 ≤ r2, in x's dtype. A point is not its own neighbour, but a copy
    of it is, at distance 0. Raises ValueError for fewer than 3 points.
    """
    if len(x) < 3:
        raise ValueError(f"Two neighbours each need at least 3 points, not {len(x)}.")
    distances = torch.cdist(x.double(), x.double()).fill_diagonal_(math.inf)
    two = distances.topk(2, largest=False).indices
    # Measured again by subtracting: cdist's ‖a‖² + ‖b‖² − 2 a·b leaves a copy a little off 0.
    r1, r2 = (x[:, None] - x[two]).norm(dim=2).sort(dim=1).values.unbind(dim=1)
    return r1, r2


def two_nn(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    """The TwoNN estimate of the dimension of the set that points lie on (Facco et al. 2017).

    With μ = r2/r1 sorted upwards and F_i = i/n, it is the slope of the line through the origin
    that fits −log(1 − F_i) to log μ_i over the ⌊keep · n⌋ smallest μ, by least squares.
    r1, r2: (n,), distances to the first and second neighbour; points with r1 = 0 (copies) are left
    out before anything else. Raises ValueError where no point, or every point, would be kept.
    """
    log_mu = torch.log((r2 / r1)[r1 > 0].double()).sort().values
    n = len(log_mu)
    kept = int(keep * n)
    if kept not in range(1, n):
        raise ValueError(f"keep = {keep} would keep {kept} of {n} points: keep some, not all.")
    F = torch.arange(1, kept + 1).to(log_mu) / n
    X, Y = log_mu[:kept], -torch.log(1 - F)
    return (X @ Y / (X @ X)).item()


# --- Points of known dimension ----------------------------------------------------------------


def embed(x: Tensor, dim: int, generator: torch.Generator) -> Tensor:
    """The same points in a larger space, turned at random: every distance stays what it was.

    x: (n, d) -> (n, dim). Raises ValueError for dim < d.
    """
    d = x.shape[1]
    if dim < d:
        raise ValueError(f"Points with {d} coordinates fit into {d} dimensions or more, not {dim}.")
    axes = torch.linalg.qr(torch.randn(dim, d, generator=generator).double()).Q
    return x @ axes.T.to(x)


def sphere(n: int, d: int, generator: torch.Generator) -> Tensor:
    """n points spread evenly over the d-dimensional unit sphere -> (n, d + 1)."""
    return torch.nn.functional.normalize(torch.randn(n, d + 1, generator=generator))


def swiss_roll(n: int, generator: torch.Generator) -> Tensor:
    """n points of a flat sheet rolled up in space: two-dimensional, but curved -> (n, 3)."""
    along, across = torch.rand(2, n, generator=generator)
    angle = 1.5 * math.pi * (1 + 2 * along)
    return torch.stack([angle * angle.cos(), 21 * across, angle * angle.sin()], dim=1)
