"""Scenes: attributes drawn by seed, painted, captioned."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from course.scenery import air, places
from course.scenery.captions import caption
from course.scenery.light import light_of
from course.scenery.pattern import check_pattern, modulate
from course.scenery.stage import Stage, weather
from course.scenery.world import Attributes, Value, sample

SUPERSAMPLE = 2


@dataclass(frozen=True)
class Scene:
    """A picture (RGB, s × s), a caption true of it, and the attributes it was painted from."""

    image: Image.Image
    caption: str
    attributes: Attributes


def scene(seed: int, size: int = 128) -> Scene:
    """The scene of that seed, the same at every size; its attributes follow `world.odds`.

    Raises ValueError when size < 16 or seed < 0.
    """
    _check(seed, size)
    attributes = sample(np.random.default_rng([seed, 0]))
    text = caption(attributes, np.random.default_rng([seed, 1]))
    return Scene(draw(attributes, seed, size), text, attributes)


def draw(
    attributes: Mapping[str, Value],
    seed: int,
    size: int = 128,
    pattern: NDArray[np.bool_] | None = None,
    strength: float = 0.6,
) -> Image.Image:
    """Paint a scene with these attributes: RGB, size × size.

    What is not given is chosen by the seed. pattern: (n, n) bool, True = dark, put into the
    picture's luminance with that strength in [0, 1] (`pattern.modulate`).

    Raises ValueError for attributes that do not exist or that no scene holds together, size < 16,
    seed < 0, a pattern that is no square boolean grid or finer than the pixels, a strength
    outside [0, 1].
    """
    _check(seed, size)
    chosen = sample(np.random.default_rng([seed, 2]), attributes)
    pixels = _paint(chosen, seed, size * SUPERSAMPLE)
    if pattern is not None:
        grid, rng = check_pattern(pattern, size, strength), np.random.default_rng([seed, 4])
        pixels = modulate(pixels, grid, strength, rng)
    large = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8, order="C")
    return Image.fromarray(large).reduce(SUPERSAMPLE)


def _check(seed: int, size: int) -> None:
    if size < 16:
        raise ValueError(f"size must be at least 16 pixels, not {size}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, not {seed}")


def _paint(chosen: Attributes, seed: int, size: int) -> NDArray[np.float32]:
    rng = np.random.default_rng([seed, 3])
    mirrored = rng.random() < 0.5
    light = light_of(str(chosen["time_of_day"]), str(chosen["weather"]), rng)
    stage = Stage(np.zeros((size, size, 3), dtype=np.float32), chosen, light, seed)
    places.PLACES[str(chosen["kind"])](stage)
    weather(stage)
    air.vignette(stage.pixels)
    pixels = air.brush(stage.pixels, rng)
    return pixels[:, ::-1] if mirrored else pixels


def contact_sheet(seeds: Iterable[int], size: int = 128, columns: int = 6) -> Image.Image:
    """The scenes of these seeds side by side, row by row."""
    images = [scene(seed, size).image for seed in seeds]
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * size, max(rows, 1) * size))
    for k, image in enumerate(images):
        sheet.paste(image, (k % columns * size, k // columns * size))
    return sheet
