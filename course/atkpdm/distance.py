"""How far two feature maps are apart, as clouds of positions."""

from collections.abc import Callable

import torch
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]

# The published code clips the eigenvalues of a product of two scatter matrices here.
PUBLISHED_FLOOR = 0.1


def positions(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over all positions, and each position's departure from it.

    features: (b, c, h, w) -> (b, c) and (b, h·w, c).
    """
    rows = features.flatten(2).transpose(1, 2)
    mean = rows.mean(dim=1)
    return mean, rows - mean[:, None]


def wasserstein2(x: Tensor, y: Tensor) -> Tensor:
    """The squared 2-Wasserstein distance between Gaussians fitted to two feature maps.

    x, y: (b, c, h, w), of which each of the n = h·w positions is a point in c dimensions -> (b,):
    ‖μ_x − μ_y‖² + tr Σ_x + tr Σ_y − 2 tr (Σ_x^½ Σ_y Σ_x^½)^½, covariances divided by n (AtkPDM's
    feature attack; Dowson & Landau 1982). The last trace is ‖X Yᵀ‖_*/n, a nuclear norm of an n × n
    matrix, X and Y being the centred rows: exact where the covariances are singular, and with a
    gradient in which no gap between eigenvalues is divided by. Rounding can leave a value a hair
    below 0. Raises ValueError for shapes that differ.
    """
    if x.ndim != 4 or x.shape != y.shape:
        raise ValueError(
            f"Two feature maps of one shape (b, c, h, w), not {tuple(x.shape)}, {tuple(y.shape)}."
        )
    (mean_x, rows_x), (mean_y, rows_y) = positions(x), positions(y)
    n = rows_x.shape[1]
    traces = (rows_x.square().sum(dim=(1, 2)) + rows_y.square().sum(dim=(1, 2))) / n
    cross = torch.linalg.matrix_norm(rows_x @ rows_y.transpose(1, 2), ord="nuc") / n
    return (mean_x - mean_y).square().sum(dim=1) + traces - 2 * cross


def feature_l2(x: Tensor, y: Tensor) -> Tensor:
    """The squared distance of two feature maps, position by position, averaged over positions.

    x, y: (b, c, h, w) -> (b,). It is never below `wasserstein2`, which may pair positions freely.
    """
    return (x - y).square().sum(dim=1).mean(dim=(1, 2))


def published_distance(x: Tensor, y: Tensor, floor: float = PUBLISHED_FLOOR) -> Tensor:
    """The feature distance as AtkPDM's published code computes it, up to its scale factor.

    x, y: (b, c, h, w) -> (b,): mean (μ_x − μ_y)² + tr S_x + tr S_y − 2 Σ √max(λ, floor). S is the
    scatter matrix, n times the covariance, and λ are the c eigenvalues of S_x^½ S_y S_x^½. Where a
    λ is below `floor`, this takes away more than there is, so that it is below 0 between equal maps
    of fewer positions than channels.
    """
    (mean_x, rows_x), (mean_y, rows_y) = positions(x), positions(y)
    scatter_x, scatter_y = (rows.transpose(1, 2) @ rows for rows in (rows_x, rows_y))
    values, vectors = torch.linalg.eigh(scatter_x)
    root = vectors * values.clamp(min=0).sqrt()[:, None] @ vectors.transpose(1, 2)
    cross = torch.linalg.eigvalsh(root @ scatter_y @ root).clamp(min=floor).sqrt().sum(dim=1)
    traces = rows_x.square().sum(dim=(1, 2)) + rows_y.square().sum(dim=(1, 2))
    return (mean_x - mean_y).square().mean(dim=1) + traces - 2 * cross


DISTANCES: dict[str, Distance] = {
    "w2": wasserstein2,
    "l2": feature_l2,
    "published": published_distance,
}
