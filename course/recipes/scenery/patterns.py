"""Patterns of modules as a QR code has them, and scenes painted with one in their light."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from course.recipes.scenery.data import SIZE, Array, attributes, chunk, named
from course.scenery import draw

# 160 pixels in modules of 4: module edges fall on the autoencoder's cells of 8.
MODULES = 40
Grid = NDArray[np.bool_]


def finder() -> Grid:
    """The 7 × 7 square in a QR code's corners, True = dark, with a light margin: (9, 9)."""
    square = np.pad(np.pad(np.ones((3, 3), bool), 1), 1, constant_values=True)
    return np.pad(square, 1)


def qr_like(rng: np.random.Generator, n: int = MODULES) -> Grid:
    """A square of random modules with three finders, timing lines and a light margin: (n, n)."""
    side = int(rng.choice([25, 29, 33]))
    code = rng.random((side, side)) < rng.uniform(0.42, 0.58)
    code[6, :] = code[:, 6] = np.arange(side) % 2 == 0
    code = np.pad(code, 1)
    for rows, columns in ((0, 0), (0, -9), (-9, 0)):
        r, c = (slice(k, k + 9 or None) for k in (rows, columns))
        code[r, c] = finder()
    free = n - len(code)
    top, left = (int(k) for k in rng.integers(free // 2, free // 2 + 2, 2))
    return np.pad(code, ((top, free - top), (left, free - left)))


def any_pattern(rng: np.random.Generator, n: int = MODULES) -> Grid:
    """A code in most cases, else modules by chance, sparse or dense; a tenth of all inverted."""
    chance = rng.random((n, n)) < rng.uniform(0.25, 0.75)
    grid = qr_like(rng, n) if rng.random() < 0.7 else chance
    return ~grid if rng.random() < 0.1 else grid


def pattern_of(seed: int) -> tuple[Grid, float]:
    """The pattern of the pair with that seed, and how strongly it is painted."""
    rng = np.random.default_rng([seed, 77])
    return any_pattern(rng), float(rng.uniform(0.5, 0.9))


def pair_chunk(rows: range, first: int = 0) -> Array:
    """Scenes painted with their patterns in their light: (CHUNK, 160, 160, 3) uint8, one chunk."""
    return chunk(named(f"pairs-{SIZE}", first), rows.start, lambda r: _paint(r, first))


def _paint(rows: range, first: int) -> Array:
    return np.stack([pair(first + i) for i in rows])


def pair(seed: int) -> Array:
    """The scene of a seed, painted with its pattern: (160, 160, 3) uint8."""
    pattern, strength = pattern_of(seed)
    return np.asarray(draw(attributes(seed), seed, SIZE, pattern, strength))


def patterns(n: int, first: int = 0) -> Tensor:
    """The patterns of the pairs of seeds first … first + n − 1: (n, 40, 40) bool."""
    return torch.from_numpy(np.stack([pattern_of(first + i)[0] for i in range(n)]))
