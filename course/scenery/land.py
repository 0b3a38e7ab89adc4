"""Mountains, hills and what the ground is covered with."""

import numpy as np

from course.scenery.fields import Array, field, floor, skyline, smoothstep, tile
from course.scenery.light import Colour, Light, mix, rgb
from course.scenery.sky import heights, lookup, ramp
from course.scenery.stamps import Stamp, makes

ROCK = rgb(0.42, 0.42, 0.46)
SNOW = rgb(0.94, 0.96, 1.0)


RANGES = {"peaks": (11, 0.10, 0.45, 1.05), "range": (15, 0.35, 0.70, 1.55)}


@makes("range", "peaks", variants=5)
def _range(kind: str, variant: int) -> Stamp:
    """Mountains that repeat in x, the high ones behind; lit from the left, haze at the foot."""
    rows, cols = 288, 1344
    count, high, low, wide = RANGES[kind]
    rng = np.random.default_rng([950, variant, count])
    cover, shade, cold = np.zeros((3, rows, cols), dtype=np.float32)
    summits = np.sort(rng.uniform(high, low, count)) + np.linspace(0, 0.12, count)
    spread = rng.permutation(count) / count + rng.uniform(-0.3, 0.3, count) / count
    for summit, x in zip(summits, spread, strict=True):
        _peak((cover, shade, cold), float(x), float(summit), wide * rng.uniform(0.8, 1.2), rng)
    y = ((np.arange(rows) + 0.5) / rows)[:, None].astype(np.float32)
    mist = smoothstep(0.45, 1.08, y) * 0.85
    parts = [(1 - cold) * (1 - mist), cold * (1 - mist), mist + 0 * cold]
    maps = [cover * part * s for part in parts for s in (1 - shade, shade)]
    return Stamp((np.stack(maps, -1) * 255 + 0.5).astype(np.uint8), ("rock", "snow", "mist"))


def _peak(
    maps: tuple[Array, Array, Array], x: float, summit: float, wide: float, rng: np.random.Generator
) -> None:
    """One mountain: a crest that zigzags towards us, a lit and a shaded flank, spurs on both."""
    cover, shade, cold = maps
    rows, cols = cover.shape
    half = int(min(rows * (1 - summit) * wide * 1.25, cols / 2 - 1))
    take = (round(x * cols) + np.arange(-half, half)) % cols
    down = np.maximum((np.arange(rows)[:, None] + 0.5) / rows - summit, 1e-4).astype(np.float32)
    roll = rng.integers(512, size=3)
    folds, grain, fine = (
        np.tile(np.roll(tile(name), k, (0, 1)), (1, 4))[:rows, : 2 * half] - 0.5
        for name, k in zip(("folds", "stone", "grain"), roll, strict=True)
    )
    crest = (folds[:, half : half + 1] * 1.3 + 0.10) * np.sqrt(down) * 0.22 * rows
    off = (np.arange(-half, half)[None, :] - crest) / rows
    angle = off / (down * wide)
    edge = np.abs(
        np.arange(-half, half)[None, :] / rows / (down * wide) + 0.25 * folds + 0.18 * fine
    )
    inside = smoothstep(1.03, 0.97, edge) * (down > 2e-4)
    spur = (angle * 2.6 + 1.5 * folds + 0.5 * fine + rng.random()) % 1
    flank = smoothstep(0.06, -0.06, angle + 0.12 * grain)
    lit = 0.16 + 0.50 * flank + 0.40 * smoothstep(0.85, 0.25, spur) + 0.22 * grain
    line = rng.uniform(0.05, 0.16) + max(0.0, 0.52 - summit) * 0.75
    white = smoothstep(0.05, -0.05, down - line + 0.34 * folds + 0.16 * grain + 0.14 * (spur - 0.5))
    for plane, value in ((shade, np.clip(lit, 0, 1)), (cold, white)):
        plane[:, take] += inside * (value - plane[:, take])
    cover[:, take] = np.maximum(cover[:, take], inside)


def hill(
    pixels: Array,
    base: float,
    rise: float,
    colours: tuple[Colour, Colour],
    light: Light,
    haze: float,
    rng: np.random.Generator,
    rough: float = 2.1,
    texture: str = "leaf",
    soft: float = 0.004,
) -> Array:
    """A rolling hill from its crest (between base − rise and base) to the bottom of the picture.

    Returns the crest's y at every column: (size,).
    """
    size = len(pixels)
    crest = base - rise * skyline(size, rough, rng)
    top = max(0, int((base - rise) * size) - 2)
    y = heights(size)[top:]
    below = y - crest[None, :]
    slope = np.gradient(crest) * size
    strokes, slow = field(texture, size, rng)[top:], field("drift", size, rng)[top:]
    sunny = 0.62 + 0.25 * np.tanh(2.5 * slope)[None, :] - 1.1 * below
    shade = np.clip(sunny + 0.55 * (slow - 0.5) + 0.5 * (strokes - 0.5), 0, 1)
    a, b = colours
    dark, lit = mix(a * light.shade, light.haze, haze), mix(b * light.sun, light.haze, haze)
    table = ramp([(0, dark), (0.45, mix(mix(a, b, 0.4) * light.sun, light.haze, haze)), (1, lit)])
    alpha = smoothstep(-0.004, soft, below + 0.014 * (strokes - 0.5))[..., None]
    pixels[top:] += alpha * (lookup(table, shade) - pixels[top:])
    return crest


def ground(
    pixels: Array,
    horizon: float,
    colours: tuple[Colour, Colour],
    light: Light,
    rng: np.random.Generator,
    texture: str = "grass",
    contrast: float = 0.75,
    haze: float = 0.45,
) -> None:
    """A plain from the horizon to the bottom, its texture growing towards the viewer."""
    size = len(pixels)
    top = round(horizon * size)
    rows = size - top
    strokes, patches = floor(texture, rows, size, rng), floor("drift", rows, size, rng)
    near = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    shade = 0.52 + contrast * (strokes - 0.5) * (0.35 + 0.65 * near) + 0.5 * (patches - 0.5)
    a, b = colours
    table = ramp(
        [
            (0, a * light.shade),
            (0.5, mix(a, b, 0.35) * mix(light.shade, light.sun, 0.7)),
            (1, b * light.sun),
        ]
    )
    paint = lookup(table, shade - 0.18 * near**2)
    fade = np.float32(haze) * (1 - near[..., None]) ** 3
    pixels[top:] = paint + fade * (light.haze - paint)


def snowfield(pixels: Array, horizon: float, light: Light, rng: np.random.Generator) -> None:
    """Snow in soft drifts, blue in the hollows."""
    snow = rgb(0.74, 0.82, 0.98), rgb(0.98, 0.985, 1.0)
    ground(pixels, horizon, snow, light, rng, "water", 0.40, 0.3)
    for k in range(4):
        base = horizon + (1.04 - horizon) * (0.16 + 0.24 * k)
        hill(pixels, base, 0.04 + 0.022 * k, snow, light, 0.12 - 0.04 * k, rng, 1.9, "water", 0.12)


def mist(pixels: Array, light: Light, horizon: float, rng: np.random.Generator) -> None:
    """Bands of mist lying about the horizon."""
    size = len(pixels)
    bands = field("drift", size, rng)
    y = heights(size)
    lying = np.exp(-(((y - horizon) / 0.16) ** 2)).astype(np.float32)
    alpha = np.clip(lying * (0.55 + 0.9 * (bands - 0.35)), 0, 0.80)[..., None]
    pixels += alpha * (mix(light.haze, light.horizon, 0.35) - pixels)
