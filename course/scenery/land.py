"""Mountains, hills and what the ground is covered with."""

import numpy as np

from course.scenery.fields import Array, field, floor, skyline, smoothstep, tile
from course.scenery.light import Colour, Light, mix, rgb
from course.scenery.sky import heights, lookup, ramp
from course.scenery.stamps import Stamp, makes

ROCK = rgb(0.42, 0.42, 0.46)
SNOW = rgb(0.94, 0.96, 1.0)


def _periodic_ridge(cols: int, rough: float, seed: int) -> Array:
    rng = np.random.default_rng([seed, 11])
    waves = np.arange(2, 80)
    x = np.arange(cols)[:, None] / cols
    phase = rng.random(len(waves)) * 2 * np.pi
    wave = np.abs(np.sin(np.pi * waves * x + phase)) * rng.uniform(0.4, 1, len(waves))
    curve = -(wave * waves**-rough).sum(1)
    return ((curve - curve.min()) / np.ptp(curve)).astype(np.float32)


@makes("range", "peaks", variants=5)
def _range(kind: str, variant: int) -> Stamp:
    """Mountains that repeat in x: faces lit from the left, snow high up, haze at the foot."""
    rows, cols = 320, 1536
    ridge = _periodic_ridge(cols, 1.15 if kind == "peaks" else 1.3, variant + 3)
    top = 0.03 + (0.75 if kind == "peaks" else 0.6) * (1 - ridge)
    y = ((np.arange(rows) + 0.5) / rows)[:, None].astype(np.float32)
    depth = np.maximum(y - top[None, :], 0)
    wander = np.tile(tile("folds"), (1, 3))[:rows] - 0.5
    grain = np.tile(tile("stone"), (1, 3))[:rows] - 0.5
    # A face is lit where the ridge above it rises to the right; the border between lit and
    # shaded faces wanders on its way down, which is what makes spurs and gullies.
    slope = np.gradient(np.convolve(np.tile(ridge, 3), np.ones(9) / 9, "same")[cols:-cols]) * cols
    along = np.arange(cols)[None, :] + (0.75 * wander * np.sqrt(depth) - 0.18 * depth) * rows
    facing = slope.astype(np.float32)[along.astype(int) % cols]
    shade = np.clip(0.46 + 0.42 * np.tanh(facing / 3) + 0.75 * wander + 0.35 * grain, 0, 1)
    line = 0.30 + 0.10 * variant
    cold = smoothstep(0.06, -0.06, y - line + 0.40 * wander + 0.22 * grain + 0.16 * (shade - 0.5))
    alpha = smoothstep(-0.004, 0.004, y - top[None, :])
    mist = smoothstep(0.25, 1.05, y) * 0.8
    covers = [(1 - cold) * (1 - mist), cold * (1 - mist), mist + 0 * cold]
    maps = [alpha * c * part for c in covers for part in (1 - shade, shade)]
    return Stamp((np.stack(maps, -1) * 255 + 0.5).astype(np.uint8), ("rock", "snow", "mist"))


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
    alpha = smoothstep(-0.004, 0.004, below + 0.014 * (strokes - 0.5))[..., None]
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
    table = ramp([(0, a * light.shade), (0.5, mix(a, b, 0.35) * mix(light.shade, light.sun, 0.7)), (1, b * light.sun)])
    paint = lookup(table, shade - 0.18 * near**2)
    fade = np.float32(haze) * (1 - near[..., None]) ** 3
    pixels[top:] = paint + fade * (light.haze - paint)


def snowfield(pixels: Array, horizon: float, light: Light, rng: np.random.Generator) -> None:
    """Snow in soft drifts, blue in the hollows."""
    snow = rgb(0.86, 0.91, 1.0), rgb(0.97, 0.98, 1.0)
    ground(pixels, horizon, snow, light, rng, "water", 0.40, 0.3)
    for k in range(3):
        base = horizon + (1.02 - horizon) * (0.20 + 0.3 * k)
        hill(pixels, base, 0.045 + 0.02 * k, snow, light, 0.10 - 0.04 * k, rng, 1.9, "water")


def mist(pixels: Array, light: Light, horizon: float, rng: np.random.Generator) -> None:
    """Bands of mist lying about the horizon."""
    size = len(pixels)
    bands = field("drift", size, rng)
    y = heights(size)
    lying = np.exp(-(((y - horizon) / 0.16) ** 2)).astype(np.float32)
    alpha = np.clip(lying * (0.55 + 0.9 * (bands - 0.35)), 0, 0.92)[..., None]
    pixels += alpha * (mix(light.haze, light.horizon, 0.35) - pixels)
