"""Still water that mirrors what stands above it, rivers, the sea and its surf."""

import numpy as np

from course.scenery.fields import Array, field, floor, smoothstep
from course.scenery.light import Colour, Light, mix
from course.scenery.sky import heights, lookup, ramp, widths


def mirror(
    pixels: Array,
    shore: float,
    light: Light,
    deep: Colour,
    rng: np.random.Generator,
    calm: float = 0.75,
    squeeze: float = 0.8,
) -> Array:
    """The picture above y = shore, mirrored and rippled: (s − shore rows, s, 3).

    calm: the share of the reflection against the water's own colour `deep`.
    """
    size = len(pixels)
    top = round(shore * size)
    rows = size - top
    ripple = floor("ripple", rows, size, rng) - 0.5
    v = np.arange(rows, dtype=np.float32)[:, None] / size
    lift = v * squeeze + ripple * (0.02 + 0.22 * v)
    sway = ripple[::-1] * (0.004 + 0.05 * v)
    image = reflected(pixels, top, lift, sway)
    near = (v / v[-1, 0])[..., None]
    own = deep * mix(light.shade, light.sun, 0.5)
    water = own + np.float32(calm) * (1 - 0.35 * near) * (image - own)
    water *= 0.93 + 0.30 * ripple[..., None]
    return water


def reflected(pixels: Array, top: int, lift: Array, sway: Array) -> Array:
    """What still water shows below row `top`: the rows above it, upside down: (rows, s, 3).

    pixels: (s, s, 3); lift, sway: (rows, s), in picture heights. A pixel of the water shows the one
    that is |lift| above row top − 1 and `sway` to the right of its own column, both rounded down;
    what would lie outside the rows above the water, or beside the picture, is the nearest inside.
    """
    size = len(pixels)
    y = np.maximum(top - 1 - np.abs(lift) * size, 0).astype(np.int32)
    x = np.clip(np.arange(size) + sway * size, 0, size - 1).astype(np.int32)
    return pixels[y, x]


def lake(pixels: Array, shore: float, light: Light, deep: Colour, rng: np.random.Generator) -> None:
    """Fill everything below the shore with still water."""
    top = round(shore * len(pixels))
    pixels[top:] = mirror(pixels, shore, light, deep, rng)
    y = heights(len(pixels))
    line = np.exp(-(((y - shore - 0.004) / 0.004) ** 2))[..., None].astype(np.float32)
    pixels += 0.4 * line * (light.haze - pixels)


def river_mask(size: int, shore: float, wide: float, at: float, rng: np.random.Generator) -> Array:
    """Where a river winds from (at, shore) to the foot of the picture: (s, s) in [0, 1]."""
    v = np.clip((heights(size) - shore) / (1 - shore), 0, 1)
    side, phase = rng.choice([-1, 1]), rng.uniform(-0.4, 0.4)
    swing = np.sin(7.2 * v**0.55 + phase) * v**0.5 * (1.1 - 0.5 * v)
    middle = at + side * (rng.uniform(0.16, 0.24) * swing + rng.uniform(0.0, 0.35) * v**2)
    half = wide * (0.05 + 0.95 * v**1.4)
    bank = 0.35 * (field("dapple", size, rng) - 0.5)
    inside = smoothstep(1.04, 0.96, np.abs(widths(size) - middle) / half + bank)
    return (inside * (heights(size) > shore)).astype(np.float32)


def river(
    pixels: Array,
    shore: float,
    mask: Array,
    light: Light,
    deep: Colour,
    rng: np.random.Generator,
) -> None:
    """Fill the mask with water that mirrors what stands above the far shore, banks darker."""
    top = round(shore * len(pixels))
    water = mirror(pixels, shore, light, mix(deep, light.middle, 0.35), rng, 0.8, 2.2)
    bank = np.roll(mask, -max(1, len(pixels) // 90), 0)[top:, :, None]
    pixels[top:] *= 1 - 0.45 * bank * (1 - mask[top:, :, None])
    pixels[top:] += mask[top:, :, None] * (water - pixels[top:])


def sea(pixels: Array, shore: float, light: Light, deep: Colour, rng: np.random.Generator) -> None:
    """Waves to the horizon: troughs deep, backs in the colour of the sky, crests white near us."""
    size = len(pixels)
    top = round(shore * size)
    rows = size - top
    waves, strokes = floor("ripple", rows, size, rng), floor("water", rows, size, rng)
    near = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    sky = mix(light.middle, light.horizon, 0.4)
    body = deep * mix(light.shade, light.sun, 0.6)
    table = ramp(
        [(0, body * np.float32(0.55)), (0.42, body), (0.72, mix(body, sky, 0.6)), (1, sky)]
    )
    level = 0.5 + 0.85 * (waves - 0.5) + 0.5 * (strokes - 0.5) - 0.22 * near + 0.12
    paint = lookup(table, level)
    foam = smoothstep(0.80, 0.95, waves + 0.25 * (strokes - 0.5)) * smoothstep(0.1, 0.5, near)
    paint += (0.75 * foam)[..., None] * (light.cloud_lit - paint)
    paint += (0.55 * (1 - near[..., None]) ** 5) * (light.horizon - paint)
    pixels[top:] = paint


def glitter(
    pixels: Array,
    shore: float,
    at: float,
    light: Light,
    rng: np.random.Generator,
    mask: Array | None = None,
) -> None:
    """The path of light that a low sun or a moon at x = `at` lays on the water."""
    size = len(pixels)
    top = round(shore * size)
    rows = size - top
    strokes = floor("water", rows, size, rng)
    v = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    lane = np.exp(-(((widths(size) - at) / (0.035 + 0.11 * v)) ** 2))
    spark = smoothstep(0.45, 0.75, strokes + 0.25 * (lane - 0.6)) * lane * (1 - 0.5 * v)
    if mask is not None:
        spark = spark * mask[top:]
    pixels[top:] += (0.85 * spark)[..., None] * np.clip(light.orb - pixels[top:], 0, 1)


def surf(
    pixels: Array, beach: Array, light: Light, sand: tuple[Colour, Colour], rng: np.random.Generator
) -> None:
    """A beach below the curve y = beach(x), wet and foamy where the sea runs out: (s,)."""
    size = len(pixels)
    below = heights(size) - beach[None, :]
    top = max(0, int(beach.min() * size) - 4)
    below = below[top:]
    grain, slow = field("stone", size, rng)[top:], field("drift", size, rng)[top:]
    shade = 0.62 + 0.45 * (grain - 0.5) + 0.45 * (slow - 0.5)
    table = ramp(
        [
            (0, sand[0] * light.shade),
            (0.55, mix(*sand, 0.5) * light.sun * np.float32(0.85)),
            (1, sand[1] * light.sun),
        ]
    )
    paint = lookup(table, shade)
    wet = smoothstep(0.09, 0.02, below)[..., None]
    paint += 0.55 * wet * (mix(light.middle, light.shade, 0.5) - paint)
    edge = below + 0.03 * (slow - 0.5)
    pixels[top:] += smoothstep(-0.004, 0.006, edge)[..., None] * (paint - pixels[top:])
    foam = smoothstep(0.016, 0.0, np.abs(edge) - 0.004 + 0.012 * (grain - 0.5))[..., None]
    pixels[top:] += 0.85 * foam * (light.cloud_lit - pixels[top:])
