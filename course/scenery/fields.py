"""Textures that no seed changes: periodic tiles made once, then rolled and flipped per scene."""

import zlib
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.floating[Any]]  # float32 in practice: half the memory, twice the speed
TILE = 512

# A spectral tile keeps the frequencies of a band (cycles per tile), falling off as f**-slope;
# a stretch > 1 makes its features that much wider than tall.
SPECTRA = {
    "cloud": {"low": 2, "high": 90, "slope": 1.75, "stretch": 1.6},
    "wide": {"low": 1, "high": 12, "slope": 1.5, "stretch": 1.0},
    "dapple": {"low": 9, "high": 48, "slope": 0.7, "stretch": 1.3},
    "grain": {"low": 30, "high": 110, "slope": 0.5, "stretch": 1.0},
    "drift": {"low": 2, "high": 70, "slope": 1.5, "stretch": 6.0},
    "ripple": {"low": 6, "high": 90, "slope": 0.9, "stretch": 5.0},
    "folds": {"low": 3, "high": 120, "slope": 1.45, "stretch": 0.6},
}
# A stroke tile is covered with short brush strokes (lengths and widths in tile pixels), their
# angle swinging about a mean by a slow noise.
STROKES = {
    "sky": {"count": 5200, "length": 34, "width": 7, "angle": 0.0, "swing": 1.1},
    "water": {"count": 5200, "length": 40, "width": 5, "angle": 0.0, "swing": 0.12},
    "leaf": {"count": 9000, "length": 9, "width": 7, "angle": 0.8, "swing": 6.0},
    "grass": {"count": 9000, "length": 20, "width": 4, "angle": 1.45, "swing": 0.9},
    "stone": {"count": 6000, "length": 22, "width": 9, "angle": 0.9, "swing": 2.5},
}


Item = TypeVar("Item")


def pick(rng: np.random.Generator, options: Sequence[Item]) -> Item:
    """One of the options, each as likely."""
    return options[int(rng.integers(len(options)))]


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def _spectral(name: str, low: float, high: float, slope: float, stretch: float) -> Array:
    """Periodic Gaussian noise squashed to (0, 1): (TILE, TILE)."""
    fy = np.fft.fftfreq(TILE, 1 / TILE)[:, None]
    fx = np.fft.rfftfreq(TILE, 1 / TILE)[None, :]
    f = np.hypot(fx * np.sqrt(stretch), fy / np.sqrt(stretch))
    band = (f >= low) & (f <= high)
    envelope = np.where(band, np.maximum(f, 1) ** (-slope - 0.5), 0)
    noise = np.fft.irfft2(np.fft.rfft2(_rng(name).normal(size=(TILE, TILE))) * envelope)
    return (0.5 + 0.5 * np.tanh(0.8 * noise / noise.std())).astype(np.float32)


def _strokes(name: str, count: int, length: int, width: int, angle: float, swing: float) -> Array:
    """Overlapping strokes of random grey in [0, 1], wrapped at the edges: (TILE, TILE)."""
    rng, flow = _rng(name), tile("wide")
    page = Image.new("L", (TILE, TILE), 128)
    pen = ImageDraw.Draw(page)
    for x, y, grey, scale in rng.random((count, 4)):
        px, py = int(x * TILE), int(y * TILE)
        turn = angle + swing * (float(flow[py, px]) - 0.5)
        dx, dy = (
            np.cos(turn) * length * (0.5 + scale) / 2,
            np.sin(turn) * length * (0.5 + scale) / 2,
        )
        wide = max(1, round(width * (0.5 + scale)))
        for ox in {0, TILE * (px < length) - TILE * (px > TILE - length)}:
            for oy in {0, TILE * (py < length) - TILE * (py > TILE - length)}:
                ends = (px - dx + ox, py - dy + oy, px + dx + ox, py + dy + oy)
                pen.line(ends, fill=int(grey * 255), width=wide)
    soft = page.filter(ImageFilter.GaussianBlur(0.8))
    return np.asarray(soft, dtype=np.float32) / 255


def _cobbles(rows: int = 22, columns: int = 18) -> Array:
    """Rounded stones in staggered rows, each of its own grey, dark joints: (TILE, TILE)."""
    rng = _rng("cobble")
    y, x = np.mgrid[0:TILE, 0:TILE] / TILE
    x = (x + 0.010 * (tile("dapple") - 0.5)) % 1
    y = (y + 0.016 * (tile("grain") - 0.5)) % 1
    row = (y * rows).astype(int) % rows
    across = x * columns + 0.5 * (row % 2)
    grey = rng.uniform(0.25, 1.0, (rows, columns))[row, across.astype(int) % columns]
    u, v = (across % 1) * 2 - 1, (y * rows % 1) * 2 - 1
    dome = np.clip(1.08 - u**4 - v**4, 0, 1) ** 0.6
    lit = 0.12 * (-u - v)
    return np.clip(dome * (0.15 + 0.7 * grey + lit), 0, 1).astype(np.float32)


@cache
def tile(name: str) -> Array:
    """The periodic texture of that name, about uniform in [0, 1]: (TILE, TILE)."""
    if name in SPECTRA:
        return _spectral(name, **SPECTRA[name])
    if name == "cobble":
        return _cobbles()
    return _strokes(name, **STROKES[name])  # type: ignore[arg-type]


def resized(plane: Array, rows: int, cols: int) -> Array:
    """A plane resampled with an area-aware filter: (h, w) -> (rows, cols)."""
    image = Image.fromarray(plane).resize((cols, rows), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32)


@lru_cache(maxsize=64)
def _sized(name: str, size: int) -> Array:
    return resized(tile(name), size, size)


def field(name: str, size: int, rng: np.random.Generator) -> Array:
    """A texture rolled and mirrored at random, the same at every size: (size, size)."""
    dy, dx, mirror = rng.random(3)
    plane = _sized(name, size)
    plane = np.roll(plane, (round(dy * size), round(dx * size)), (0, 1))
    return plane[:, ::-1] if mirror < 0.5 else plane


@lru_cache(maxsize=128)
def _floor(name: str, rows: int, cols: int, variant: int) -> Array:
    v = np.linspace(0, 1, rows * 2, dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, cols * 2, dtype=np.float32)[None, :]
    depth = 0.30 / (v * 0.9 + 0.10)
    plane = tile(name)
    ty = (depth * 1.1 + variant * 0.23) * TILE
    tx = (x * (0.35 + depth) * 0.8 + variant * 0.31) * TILE
    warped = plane[ty.astype(int) % TILE, tx.astype(int) % TILE]
    return resized(np.ascontiguousarray(warped), rows, cols)


def floor(name: str, rows: int, cols: int, rng: np.random.Generator) -> Array:
    """A texture lying on the ground, row 0 at the horizon and finer there: (rows, cols)."""
    variant, mirror = rng.integers(4), rng.random()
    plane = _floor(name, rows, cols, int(variant))
    return plane[:, ::-1] if mirror < 0.5 else plane


@lru_cache(maxsize=64)
def _line(size: int, rough: float, variant: int) -> Array:
    rng = np.random.default_rng([variant, 77])
    phases, heights = rng.random(64) * 2 * np.pi, rng.normal(size=64)
    return ridge(size, rough, phases, heights)


def ridge(size: int, rough: float, phases: Array, heights: Array) -> Array:
    """A ridge that is a sum of n waves, each finer than the one before: (n,), (n,) -> (size,).

    Wave k = 1 … n is heights_k k^(−rough) sin(π k x + phases_k), where x = 0, 1/size, 2/size, …
    across the picture. The sum is stretched so that its lowest point is 0 and its highest 1.
    """
    waves = np.arange(1, len(phases) + 1)
    x = np.arange(size)[:, None] / size
    curve = (heights * waves ** (-rough) * np.sin(2 * np.pi * waves * x * 0.5 + phases)).sum(1)
    low, high = curve.min(), curve.max()
    return ((curve - low) / (high - low)).astype(np.float32)


def skyline(size: int, rough: float, rng: np.random.Generator) -> Array:
    """A ridge in [0, 1], smoother for a larger `rough`: (size,)."""
    variant, mirror = rng.integers(40), rng.random()
    curve = _line(size, rough, int(variant))
    return curve[::-1] if mirror < 0.5 else curve


def smoothstep(low: Any, high: Any, x: Array) -> Array:
    """Hermite step from 0 below `low` to 1 above `high`, elementwise."""
    t = np.clip((x - low) * (1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)
