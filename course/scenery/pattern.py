"""Patterns hidden in the luminance of a picture, and how to read them back."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from course.scenery.fields import Array, field, resized, smoothstep

Grid = NDArray[np.bool_]
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def check_pattern(pattern: Grid, size: int, strength: float) -> Grid:
    """The pattern; ValueError unless it is a square boolean grid that the picture can show."""
    grid = np.asarray(pattern)
    if grid.ndim != 2 or grid.shape[0] != grid.shape[1] or len(grid) < 2 or grid.dtype != bool:
        raise ValueError(
            f"a pattern is a square boolean array (True = dark), not {grid.dtype} {grid.shape}"
        )
    if len(grid) > size:
        raise ValueError(f"a picture of {size} pixels cannot show {len(grid)} modules a side")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be between 0 and 1, not {strength}")
    return grid


def module_means(luminance: Array, n: int) -> Array:
    """Mean luminance of each of n × n modules: (s, s) -> (n, n)."""
    image = Image.fromarray(np.ascontiguousarray(luminance, dtype=np.float32))
    return np.asarray(image.resize((n, n), Image.Resampling.BOX), dtype=np.float32)


def _surroundings(means: Array, reach: int) -> Array:
    """Mean over a (2 reach + 1)² window, edges repeated: (n, n) -> (n, n)."""
    padded = np.pad(means.astype(np.float64), reach + 1, mode="edge")[:-1, :-1]
    total = padded.cumsum(0).cumsum(1)
    w = 2 * reach + 1
    box = total[w:, w:] - total[:-w, w:] - total[w:, :-w] + total[:-w, :-w]
    return (box / w**2).astype(np.float32)


def module_mask(image: Image.Image, n: int, threshold: str | float = "local") -> Grid:
    """Which modules of a picture are dark: (n, n) bool.

    threshold: a luminance in (0, 1), or "local": the mean of the picture within n // 4 modules.
    """
    if isinstance(threshold, str) and threshold != "local":
        raise ValueError(f'threshold must be "local" or a luminance, not {threshold!r}')
    if not 2 <= n <= min(image.size):
        raise ValueError(f"n must be between 2 and the image's {min(image.size)} pixels, not {n}")
    grey = np.asarray(image.convert("RGB"), dtype=np.float32) @ LUMA / 255
    means = module_means(grey, n)
    level = _surroundings(means, n // 4) if threshold == "local" else np.float32(threshold)
    return means < level


def modulate(pixels: Array, pattern: Grid, strength: float, rng: np.random.Generator) -> Array:
    """Put a module pattern into the luminance of a painting: (s, s, 3) -> (s, s, 3).

    Dark modules are painted in shadow, light ones in sun, with ragged, brushed edges; hue and
    texture stay. strength in [0, 1]: at 0 every module keeps its brightness, at 1 all light
    modules are equally light and all dark ones equally dark.
    """
    size, n = len(pixels), len(pattern)
    goal = module_goals(module_means(pixels @ LUMA, n), pattern, strength)
    light, dark = (
        _smooth(np.where(pattern == k, goal, goal[pattern == k].mean()), size)
        if (pattern == k).any()
        else np.float32(0.5)
        for k in (False, True)
    )
    target = light + _brushed(pattern, size, rng) * (dark - light)
    for _ in range(2):
        level = _smooth(module_means(pixels @ LUMA, n), size)
        pixels = _relit(pixels, np.clip(target / np.maximum(level, 0.03), 0.2, 8.0))
    return pixels


def _brushed(pattern: Grid, size: int, rng: np.random.Generator) -> Array:
    """The pattern with soft edges that waver like brush strokes, 1 = dark: (s, s)."""
    grid = pattern.astype(np.float32)
    blocks = resized(grid.repeat(3, 0).repeat(3, 1), size, size)
    rounded = 0.5 * (blocks + resized(grid, size, size))
    noise = field("stone", size, rng) + field("dapple", size, rng) - 1
    return smoothstep(0.22, 0.78, rounded + 0.36 * noise)


def module_goals(means: Array, pattern: Grid, strength: float) -> Array:
    """The luminance each module should get: its own, drawn towards 0.12 or 0.88.

    means: (n, n) in [0, 1]; pattern: (n, n) bool, True = dark, which draws towards 0.12; strength
    in [0, 1] is the share of the way: 0 leaves a module as it is, 1 takes it there -> (n, n).
    """
    return means + np.float32(strength) * (np.where(pattern, 0.12, 0.88) - means)


def _smooth(means: Array, size: int) -> Array:
    return resized(means.astype(np.float32), size, size)


def _relit(pixels: Array, gain: Array) -> Array:
    """Luminance times `gain`, hue kept; what is lit up gains less in saturation than in light."""
    luma = (pixels @ LUMA)[..., None]
    colourful = np.minimum(gain, gain**0.6)[..., None]
    return np.clip(luma * gain[..., None] + (pixels - luma) * colourful, 0, 1)
