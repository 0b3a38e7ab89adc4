"""Lesson 01: what right answers satisfy, and the mistakes people make."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course import data_manifold as reference
from course.checks.engine import Answer, Case, Exercise, Inputs, Mistake, call
from course.data_manifold import nearest_two

Pair = tuple[Tensor, Tensor]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """A standard normal tensor of its own seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- fit_pca ----------------------------------------------------------------------------------


def stretched(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Points far from the origin whose spread halves from one direction to the next."""
    spreads = 4 * 0.5 ** torch.arange(d, dtype=torch.float64)
    turn = torch.linalg.qr(normal(d, d, seed=seed + 1, dtype=torch.float64)).Q
    points = normal(n, d, seed=seed, dtype=torch.float64) * spreads @ turn
    return (points + torch.arange(d) + 3).to(dtype)


def fit_pca_cases() -> list[Case]:
    on_a_line = torch.tensor([[-2.0, -2.0], [1.0, 2.0], [4.0, 6.0]])
    return [
        Case("three points on a line (a component's sign is free)", {"x": on_a_line, "k": 1}),
        Case("more points than axes", {"x": stretched(40, 6), "k": 3}),
        Case("every direction", {"x": stretched(30, 5, seed=2), "k": 5}),
        Case("fewer points than axes", {"x": stretched(4, 7, seed=4), "k": 3}),
        Case("float64", {"x": stretched(25, 4, seed=6, dtype=torch.float64), "k": 2}),
    ]


def run_up_to_sign(answer: Answer, inputs: Inputs) -> Any:
    """What a fit returns, with each component's sign chosen anew, the same for every answer."""
    out = call(answer, inputs)
    match out:
        case (Tensor() as mean, Tensor(ndim=2) as components):
            probe = normal(components.shape[1], seed=9).to(components)
            flip = torch.where(components @ probe < 0, -1, 1)
            return mean, components * flip[:, None]
    return out


def _svd(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.linalg.svd(x, full_matrices=False)


def not_centred(x: Tensor, k: int) -> Pair:
    return x.mean(dim=0), _svd(x)[2][:k]


def components_in_columns(x: Tensor, k: int) -> Pair:
    return x.mean(dim=0), _svd(x - x.mean(dim=0))[2][:k].T


def rows_of_v(x: Tensor, k: int) -> Pair:
    return x.mean(dim=0), _svd(x - x.mean(dim=0))[2].T[:k]


def left_vectors(x: Tensor, k: int) -> Pair:
    return x.mean(dim=0), _svd(x - x.mean(dim=0))[0].T[:k]


def times_singular_values(x: Tensor, k: int) -> Pair:
    _, scales, directions = _svd(x - x.mean(dim=0))
    return x.mean(dim=0), (scales[:, None] * directions)[:k]


def each_axis_standardised(x: Tensor, k: int) -> Pair:
    mean = x.mean(dim=0)
    return mean, _svd((x - mean) / x.std(dim=0))[2][:k]


def mean_of_everything(x: Tensor, k: int) -> Pair:
    return x.mean(), _svd(x - x.mean())[2][:k]


def mean_kept_as_a_row(x: Tensor, k: int) -> Pair:
    mean = x.mean(dim=0, keepdim=True)
    return mean, _svd(x - mean)[2][:k]


def _eigenvectors(x: Tensor) -> Tensor:
    return torch.linalg.eigh(torch.cov(x.T, correction=0)).eigenvectors


def least_variance(x: Tensor, k: int) -> Pair:
    return x.mean(dim=0), _eigenvectors(x)[:, :k].T


def upwards(x: Tensor, k: int) -> Pair:
    return x.mean(dim=0), _eigenvectors(x)[:, -k:].T


def pca_by_covariance(x: Tensor, k: int) -> Pair:
    mean = x.mean(dim=0)
    centred = (x - mean).double()
    vectors = torch.linalg.eigh(centred.T @ centred).eigenvectors
    return mean, vectors.flip(1)[:, :k].T.to(x.dtype)


def pca_one_by_one(x: Tensor, k: int) -> Pair:
    """The direction of largest variance by repeated multiplication; then what is left of x."""
    mean = x.mean(dim=0)
    rest, found = (x - mean).double(), []
    for _ in range(k):
        direction = normal(x.shape[1], seed=3, dtype=torch.float64)
        for _ in range(60):
            direction = rest.T @ (rest @ direction)
            direction = direction / direction.norm()
        found.append(direction)
        rest = rest - torch.outer(rest @ direction, direction)
    return mean, torch.stack(found).to(x.dtype)


def pca_in_numpy(x: Tensor, k: int) -> Pair:
    points = x.numpy()
    _, _, directions = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    return x.mean(dim=0), torch.from_numpy(-directions[:k])


FIT_PCA = Exercise(
    reference.fit_pca,
    fit_pca_cases,
    mistakes=[
        Mistake("You did not subtract the mean before looking for directions: the first one then "
                "points from the origin to the cloud, and not along the cloud.", not_centred),
        Mistake("Your components are columns, (d, k). Give one component a row: (k, d).",
                components_in_columns),
        Mistake("You took rows of V. The directions are V's columns, which are the rows of the "
                "Vh that `torch.linalg.svd` returns.", rows_of_v),
        Mistake("You took U, whose columns have an entry for each point. Directions have an entry "
                "for each coordinate: they are the rows of Vh.", left_vectors),
        Mistake("Your components are not of length 1: they are scaled by the singular values.",
                times_singular_values),
        Mistake("You divided each coordinate by its standard deviation, which changes what \"vary "
                "most\" means. Subtract the mean, and no more.", each_axis_standardised),
        Mistake("Your mean is one number. Each coordinate has a mean of its own: average over "
                "the points alone, dim=0.", mean_of_everything),
        Mistake("The mean has shape (1, d); return it as (d,).", mean_kept_as_a_row),
        Mistake("Those are the directions of *least* variance: `eigh` sorts upwards.",
                least_variance),
        Mistake("The right directions, the wrong way round: the largest variance comes first, and "
                "`eigh` sorts upwards.", upwards),
    ],
    alternatives=[pca_by_covariance, pca_one_by_one, pca_in_numpy],
    hints=["First the mean over the points, dim=0; then work with x − mean.",
           "`torch.linalg.svd(…, full_matrices=False)` of the centred points has the directions, "
           "sorted, as the rows of its third result.",
           "Keep the first k rows."],
    run=run_up_to_sign,
    rtol=1e-3,
    atol=1e-4,
)  # fmt: skip


# --- pca_reconstruct --------------------------------------------------------------------------


def axes(k: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """k orthonormal rows in d dimensions."""
    return torch.linalg.qr(normal(d, k, seed=seed, dtype=torch.float64)).Q.T.to(dtype)


def reconstruct_cases() -> list[Case]:
    by_hand = {"x": torch.tensor([[2.0, 3.0]]), "mean": torch.tensor([1.0, 1.0]),
               "components": torch.tensor([[0.6, 0.8]])}  # fmt: skip
    double = {"x": normal(6, 5, dtype=torch.float64), "components": axes(2, 5).double(),
              "mean": normal(5, seed=1, dtype=torch.float64)}  # fmt: skip
    return [
        Case("one point in the plane, by hand", by_hand),
        Case("eight points, three of seven directions",
             {"x": normal(8, 7), "mean": normal(7, seed=1), "components": axes(3, 7)}),
        Case("as many points as axes",
             {"x": normal(4, 4), "mean": normal(4, seed=1), "components": axes(1, 4)}),
        Case("every direction", {"x": normal(3, 5), "mean": normal(5, seed=1),
                                 "components": axes(5, 5)}),
        Case("float64", double),
    ]  # fmt: skip


def reconstruct_point_by_point(x: Tensor, mean: Tensor, components: Tensor) -> Tensor:
    points = []
    for point in x:
        nearest = mean.clone()
        for direction in components:
            nearest = nearest + torch.dot(point - mean, direction) * direction
        points.append(nearest)
    return torch.stack(points)


PCA_RECONSTRUCT = Exercise(
    reference.pca_reconstruct,
    reconstruct_cases,
    mistakes=[
        Mistake("You did not subtract the mean: coordinates are measured from `mean`, not from "
                "the origin.", lambda x, mean, components: mean + x @ components.T @ components),
        Mistake("You did not add the mean back: your points lie around the origin.",
                lambda x, mean, components: (x - mean) @ components.T @ components),
        Mistake("The mean is nowhere in it: subtract it first, and add it back at the end.",
                lambda x, mean, components: x @ components.T @ components),
        Mistake("Those are the k coordinates in the flat space. Go one step further, back to d "
                "numbers a point: coordinates @ components, plus the mean.",
                lambda x, mean, components: (x - mean) @ components.T),
        Mistake("That is what the reconstruction leaves out, x minus it; return what it keeps.",
                lambda x, mean, components: (x - mean) - (x - mean) @ components.T @ components),
        Mistake("You subtracted the mean at the end; it is added.",
                lambda x, mean, components: (x - mean) @ components.T @ components - mean),
        Mistake("You added the projection to x. The mean and the projection are all there is.",
                lambda x, mean, components: x + (x - mean) @ components.T @ components),
    ],
    alternatives=[
        reconstruct_point_by_point,
        lambda x, mean, components: (x - mean) @ (components.T @ components) + mean,
        lambda x, mean, components: mean + torch.linalg.lstsq(
            components.T, (x - mean).T).solution.T @ components,
    ],
    hints=["Measured from the mean, a point is x − mean.",
           "Its coordinate along a direction of length 1 is the dot product with it: for all "
           "points and directions at once, a product with `components.T`.",
           "Coordinates times directions, added up, is a product with `components`; then move "
           "back by the mean."],
)  # fmt: skip


# --- nearest_two ------------------------------------------------------------------------------


def twins_far_away() -> Tensor:
    """Forty points far from the origin, of which ten are copies of the first ten."""
    points = normal(30, 30) + 30
    return torch.cat([points, points[:10]])


def nearest_two_cases() -> list[Case]:
    line = torch.tensor([[0.0], [1.0], [3.0]])
    copies = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [6.0, 8.0]])
    return [
        Case("three points on a line", {"x": line}),
        Case("four points, two of them copies", {"x": copies}),
        Case("three copies of one point",
             {"x": torch.tensor([[1.0, 2.0], [1.0, 2.0], [5.0, 5.0], [1.0, 2.0]])}),
        Case("twenty points", {"x": normal(20, 5)}),
        Case("float64", {"x": normal(12, 3, dtype=torch.float64)}),
        Case("forty points far from the origin, ten of them copies", {"x": twins_far_away()}),
    ]  # fmt: skip


def _exact(x: Tensor, p: float = 2.0) -> Tensor:
    """Distances between all points, computed by subtracting; inf to oneself."""
    distances = torch.cdist(x, x, p, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.fill_diagonal_(math.inf)


def _smallest(distances: Tensor) -> Pair:
    r1, r2 = distances.topk(2, largest=False).values.unbind(1)
    return r1, r2


def self_included(x: Tensor) -> Pair:
    return _smallest(_exact(x).fill_diagonal_(0))


def squared(x: Tensor) -> Pair:
    return _smallest(_exact(x).square())


def city_blocks(x: Tensor) -> Pair:
    return _smallest(_exact(x, p=1.0))


def swapped(x: Tensor) -> Pair:
    return _smallest(_exact(x))[::-1]


def farthest(x: Tensor) -> Pair:
    r1, r2 = _exact(x).fill_diagonal_(0).topk(2).values.unbind(1)
    return r1, r2


def per_coordinate(x: Tensor) -> Pair:
    return _smallest(_exact(x) / x.shape[1] ** 0.5)


def zeros_left_out(x: Tensor) -> Pair:
    distances = _exact(x)
    return _smallest(distances.masked_fill(distances == 0, math.inf))


def one_tensor(x: Tensor) -> Tensor:
    return _exact(x).topk(2, largest=False).values


def indices(x: Tensor) -> Pair:
    r1, r2 = _exact(x).topk(2, largest=False).indices.unbind(1)
    return r1, r2


def by_products(x: Tensor) -> Pair:
    return _smallest(torch.cdist(x, x).fill_diagonal_(math.inf))


def nearest_two_in_a_loop(x: Tensor) -> Pair:
    pairs = []
    for i, point in enumerate(x):
        others = torch.cat([x[:i], x[i + 1 :]])
        pairs.append((others - point).square().sum(dim=1).sqrt().sort().values[:2])
    r1, r2 = torch.stack(pairs).unbind(1)
    return r1, r2


def nearest_two_first_dropped(x: Tensor) -> Pair:
    apart = (x[:, None] - x[None]).norm(dim=2)
    return apart.kthvalue(2).values, apart.kthvalue(3).values


def nearest_two_in_float64(x: Tensor) -> Pair:
    r1, r2 = _smallest(torch.cdist(x.double(), x.double()).fill_diagonal_(math.inf))
    return r1.to(x.dtype), r2.to(x.dtype)


NEAREST_TWO = Exercise(
    reference.nearest_two,
    nearest_two_cases,
    mistakes=[
        Mistake("Each point's first neighbour is itself, at distance 0. Leave the point itself "
                "out before you look for the nearest.", self_included),
        Mistake("Those are squared distances; take the root.", squared),
        Mistake("Those are sums of absolute differences; distances are Euclidean, p = 2.",
                city_blocks),
        Mistake("r1 and r2 have changed places: the nearer comes first.", swapped),
        Mistake("Those are the farthest two: ask `topk` for the smallest, largest=False.",
                farthest),
        Mistake("You divided by √d. The distance is the root of the *sum* of squares, not of "
                "their mean.", per_coordinate),
        Mistake("You left out every distance 0, so copies vanish. Leave out the point itself by "
                "its place, the diagonal: a copy of it is a neighbour at distance 0.",
                zeros_left_out),
        Mistake("Return two tensors of shape (n,), and not one of shape (n, 2).", one_tensor),
        Mistake("Those are the neighbours' places in x; return their distances.", indices),
        Mistake("Copies are not at distance 0: for more than 25 points `torch.cdist` computes "
                "‖a‖² + ‖b‖² − 2 a·b, whose rounding does not cancel in float32. Use x.double(), "
                "or compute_mode=\"donot_use_mm_for_euclid_dist\".", by_products),
    ],
    alternatives=[nearest_two_in_a_loop, nearest_two_first_dropped, nearest_two_in_float64],
    hints=["All distances at once are an (n, n) table; `torch.cdist(x, x)` makes it.",
           "A point's distance to itself stands on the diagonal: fill it with infinity.",
           "`topk(2, largest=False)` finds the two smallest of each row; `.unbind(1)` gives two "
           "tensors."],
    rtol=1e-3,
    atol=1e-4,
)  # fmt: skip


# --- two_nn -----------------------------------------------------------------------------------


def ratios(*mu: float) -> Inputs:
    """Distances whose ratios are these."""
    r1 = torch.linspace(1, 2, len(mu))
    return {"r1": r1, "r2": r1 * torch.tensor(mu)}


def neighbours(n: int, d: int, copies: int = 0, dtype: torch.dtype = torch.float32) -> Inputs:
    points = normal(n, d, seed=d, dtype=dtype)
    r1, r2 = nearest_two(torch.cat([points, points[:copies]]))
    return {"r1": r1, "r2": r2}


def two_nn_cases() -> list[Case]:
    ten = (1.5, 1.1, 3.0, 1.2, 1.05, 2.0, 1.3, 1.8, 1.15, 1.4)
    return [
        Case("two ratios, 2 and 4, half of them kept", {**ratios(2.0, 4.0), "keep": 0.5}),
        Case("ten ratios, unsorted", ratios(*ten)),
        Case("forty points in the plane", neighbours(40, 2)),
        Case("five of forty points are copies of others", neighbours(40, 3, copies=5)),
        Case("more left out", {**neighbours(40, 5), "keep": 0.5}),
        Case("almost all kept, in float64",
             {**neighbours(60, 4, dtype=torch.float64), "keep": 0.95}),
    ]  # fmt: skip


def _points(
    r1: Tensor, r2: Tensor, keep: float, copies: bool = False, first: int = 1
) -> tuple[Tensor, Tensor]:
    """The points (log μ, −log(1 − F)) that are kept; `first` is the rank of the smallest μ."""
    mu = (r2 / r1).double()
    log_mu = (mu if copies else mu[r1 > 0]).log().sort().values
    n = len(log_mu)
    F = torch.arange(first, n + first).double() / n
    kept = int(keep * n)
    return log_mu[:kept], -torch.log(1 - F)[:kept]


def _slope(X: Tensor, Y: Tensor) -> float:
    return (X @ Y / (X @ X)).item()


def maximum_likelihood(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    return 1 / (r2 / r1)[r1 > 0].log().mean().item()


def cumulative_of_the_kept(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    X, _ = _points(r1, r2, keep)
    F = torch.arange(1, len(X) + 1).double() / len(X)
    return _slope(X, -torch.log(1 - F))


def with_an_intercept(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    X, Y = _points(r1, r2, keep)
    X, Y = X - X.mean(), Y - Y.mean()
    return _slope(X, Y)


def upside_down(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    X, Y = _points(r1, r2, keep)
    return _slope(Y, X)


def unsorted(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    log_mu = torch.log((r2 / r1)[r1 > 0].double())
    n = len(log_mu)
    Y = -torch.log(1 - torch.arange(1, n + 1).double() / n)
    return _slope(log_mu[: int(keep * n)], Y[: int(keep * n)])


def inverse_ratio(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    log_mu = torch.log((r1 / r2)[r1 > 0].double()).sort().values
    n = len(log_mu)
    Y = -torch.log(1 - torch.arange(1, n + 1).double() / n)
    return _slope(log_mu[: int(keep * n)], Y[: int(keep * n)])


def copies_left_in(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    return _slope(*_points(r1, r2, keep, copies=True))


def keep_ignored(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    return _slope(*_points(r1, r2, 0.9))


def ranks_from_zero(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    return _slope(*_points(r1, r2, keep, first=0))


def mean_of_slopes(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    X, Y = _points(r1, r2, keep)
    return (Y / X).mean().item()


def without_the_log_of_mu(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    X, Y = _points(r1, r2, keep)
    return _slope(X.exp(), Y)


def log_of_the_cumulative(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    X, Y = _points(r1, r2, keep)
    return _slope(X, -torch.log(1 - torch.exp(-Y)))


def sign_forgotten(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    X, Y = _points(r1, r2, keep)
    return _slope(X, -Y)


def two_nn_in_numpy(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    first, second = r1.numpy().astype(float), r2.numpy().astype(float)
    mu = np.sort(second[first > 0] / first[first > 0])
    F = np.arange(1, len(mu) + 1) / len(mu)
    kept = slice(0, int(keep * len(mu)))
    X, Y = np.log10(mu[kept])[:, None], -np.log10(1 - F[kept])
    return float(np.linalg.lstsq(X, Y, rcond=None)[0][0])


def two_nn_in_a_loop(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    mu = sorted(b / a for a, b in zip(r1.tolist(), r2.tolist(), strict=True) if a > 0)
    above = below = 0.0
    for i, ratio in enumerate(mu[: int(keep * len(mu))], start=1):
        above -= math.log(ratio) * math.log(1 - i / len(mu))
        below += math.log(ratio) ** 2
    return above / below


def two_nn_by_counting(r1: Tensor, r2: Tensor, keep: float = 0.9) -> float:
    mu = (r2.double() / r1.double())[r1 > 0]
    F = (mu[None] <= mu[:, None]).double().mean(dim=1)
    kept = (F * len(mu)).round() <= int(keep * len(mu))
    X, Y = mu[kept].log(), -torch.log1p(-F[kept])
    return ((X * Y).sum() / X.square().sum()).item()


TWO_NN = Exercise(
    reference.two_nn,
    two_nn_cases,
    mistakes=[
        Mistake("That is the maximum-likelihood estimate, n / Σ log μ: a good estimate of the same "
                "d. Here the slope of the fitted line is asked for.", maximum_likelihood),
        Mistake("Your estimate is infinite: a point has F = 1, and log(1 − 1) with it. Compute F "
                "over all n points first, and keep the smallest μ after that.",
                cumulative_of_the_kept),
        Mistake("Your line has an intercept. F(1) = 0, so it goes through the origin: its slope is "
                "Σ XY / Σ X².", with_an_intercept),
        Mistake("X and Y have changed places: divide Σ XY by Σ X², where X is log μ.",
                upside_down),
        Mistake("The ratios are not sorted: F_i = i/n is the share of ratios up to the i-th "
                "*smallest*.", unsorted),
        Mistake("Your ratio is upside down: μ = r2 / r1 is at least 1.", inverse_ratio),
        Mistake("Some r1 are 0: those points are copies, and their ratio means nothing. Leave them "
                "out before you count n.", copies_left_in),
        Mistake("You kept 90 % whatever `keep` says.", keep_ignored),
        Mistake("Your ranks start at 0. The smallest μ has F = 1/n: one of n ratios is that small.",
                ranks_from_zero),
        Mistake("You averaged the slopes Y/X point by point, and the smallest μ, which are the "
                "least certain, dominate. Least squares is Σ XY / Σ X².", mean_of_slopes),
        Mistake("The line is in log μ: you fitted μ itself.", without_the_log_of_mu),
        Mistake("You took −log F. The straight line is that of −log(1 − F).", log_of_the_cumulative),
        Mistake("The sign is lost: log(1 − F) is negative, and a dimension is not.",
                sign_forgotten),
    ],
    alternatives=[two_nn_in_numpy, two_nn_in_a_loop, two_nn_by_counting],
    hints=["Leave out the points with r1 = 0, sort the ratios μ, and let F = 1/n, 2/n, … 1.",
           "X = log μ and Y = −log(1 − F); keep the first ⌊keep · n⌋ of each.",
           "The line through the origin that fits best has slope Σ XY / Σ X²; `.item()` makes it "
           "a float."],
)  # fmt: skip

EXERCISES = [FIT_PCA, PCA_RECONSTRUCT, NEAREST_TWO, TWO_NN]
