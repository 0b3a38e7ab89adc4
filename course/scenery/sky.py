"""The sky: broken colour from zenith to horizon, stars, sun or moon, aurora, clouds."""

from functools import lru_cache

import numpy as np

from course.scenery.fields import Array, field, skyline, smoothstep
from course.scenery.light import Colour, Light, mix, rgb
from course.scenery.stamps import glow

LEVELS = 512


def ramp(stops: list[tuple[float, Colour]]) -> Array:
    """The colours of a gradient at LEVELS places from 0 to 1, both included: (LEVELS, 3) float32.

    stops: (position in [0, 1], colour (3,)), positions rising. Between two stops the colour changes
    evenly; before the first and after the last it stays theirs.
    """
    where, colours = np.array([p for p, _ in stops]), np.array([c for _, c in stops])
    at = np.linspace(0, 1, LEVELS)
    return np.stack([np.interp(at, where, colours[:, k]) for k in range(3)], -1).astype(np.float32)


def lookup(table: Array, at: Array) -> Array:
    """The ramp's colours at positions in [0, 1]: (h, w) -> (h, w, 3)."""
    return table[np.clip(at * (LEVELS - 1), 0, LEVELS - 1).astype(np.int32)]


def heights(size: int) -> Array:
    """y of every row, 0 at the top: (size, 1)."""
    return ((np.arange(size, dtype=np.float32) + 0.5) / size)[:, None]


def widths(size: int) -> Array:
    """x of every column: (1, size)."""
    return ((np.arange(size, dtype=np.float32) + 0.5) / size)[None, :]


def gradient(pixels: Array, light: Light, horizon: float, rng: np.random.Generator) -> None:
    """Fill rows above the horizon; strokes take their colour from a little above or below."""
    size = len(pixels)
    rows = min(size, round((horizon + 0.06) * size))
    strokes, slow = field("sky", size, rng)[:rows], field("wide", size, rng)[:rows]
    where = heights(size)[:rows] / np.float32(horizon)
    where = where + 0.17 * (strokes - 0.5) + 0.16 * (slow - 0.5)
    table = ramp([(0.0, light.zenith), (0.55, light.middle), (0.97, light.horizon)])
    pixels[:rows] = lookup(table, where)
    pixels[:rows] *= (0.94 + 0.12 * strokes)[..., None]


@lru_cache(maxsize=16)
def _star_map(size: int) -> Array:
    rng = np.random.default_rng(7)
    sky = np.zeros((size, size), dtype=np.float32)
    for y, x, bright in rng.random((560, 3)):
        power = 0.35 + 0.75 * bright**3
        r = size * (0.0034 + 0.0050 * bright**5)
        _splat(sky, y * size, x * size, r, power)
    return sky


def _splat(plane: Array, y: float, x: float, radius: float, power: float) -> None:
    reach, size = int(np.ceil(radius * 2)), len(plane)
    rows, cols = (int(c) + np.arange(-reach, reach + 1) for c in (y, x))
    d2 = (rows[:, None] + 0.5 - y) ** 2 + (cols[None, :] + 0.5 - x) ** 2
    ink = power * np.exp(-d2 / (radius * radius)).astype(np.float32)
    plane[np.ix_(rows % size, cols % size)] += ink


def stars(pixels: Array, horizon: float, rng: np.random.Generator) -> None:
    """Stars thinning out towards the horizon."""
    size = len(pixels)
    rows = round(horizon * size)
    dy, dx = rng.random(2)
    sky = np.roll(_star_map(size), (round(dy * size), round(dx * size)), (0, 1))[:rows]
    fade = 1 - (heights(size)[:rows] / np.float32(horizon)) ** 2
    pixels[:rows] += (sky * fade)[..., None] * rgb(0.95, 0.97, 1.0)
    np.clip(pixels[:rows], 0, 1, out=pixels[:rows])


def disc(pixels: Array, at: tuple[float, float], radius: float, colour: Colour) -> None:
    """A soft-edged disc."""
    size = len(pixels)
    y0, y1 = (int(np.clip((at[1] + k * radius * 1.3) * size, 0, size)) for k in (-1, 1))
    r = np.hypot(heights(size)[y0:y1] - at[1], widths(size) - at[0])
    cover = smoothstep(radius * 1.06, radius * 0.94, r)[..., None]
    pixels[y0:y1] += cover * (colour - pixels[y0:y1])


def sun(pixels: Array, at: tuple[float, float], light: Light, low: bool) -> None:
    """The sun's disc and its glow, wide and warm when it stands low."""
    glow(pixels, at, 0.95 if low else 0.55, mix(light.horizon, light.orb, 0.3) * np.float32(0.55))
    glow(pixels, at, 0.26, light.orb * np.float32(0.75))
    disc(pixels, at, 0.042 if low else 0.036, light.orb)


def moon(pixels: Array, at: tuple[float, float], light: Light, crescent: bool) -> None:
    """A full moon with its seas, or a crescent (what is dark of it keeps the sky's colour)."""
    radius = 0.055
    glow(pixels, at, 0.42, light.haze * np.float32(1.1))
    glow(pixels, at, 0.17, light.orb * np.float32(0.42))
    size = len(pixels)
    y0, y1 = (int(np.clip((at[1] + k * radius * 1.2) * size, 0, size)) for k in (-1, 1))
    dy, dx = heights(size)[y0:y1] - at[1], widths(size) - at[0]
    cover = smoothstep(radius * 1.06, radius * 0.94, np.hypot(dy, dx))
    if crescent:
        cover = cover * smoothstep(0.88, 1.0, np.hypot(dy + 0.008, dx - 0.026) / radius)
    pixels[y0:y1] += cover[..., None] * (_moon_face(dx, dy, light) - pixels[y0:y1])


SEAS = ((-0.3, -0.25, 0.3), (0.2, -0.4, 0.22), (0.25, 0.15, 0.34), (-0.25, 0.35, 0.24))


def _moon_face(dx: Array, dy: Array, light: Light) -> Array:
    shade = np.ones(np.broadcast_shapes(dx.shape, dy.shape), dtype=np.float32)
    for x, y, r in SEAS:
        shade -= 0.17 * smoothstep(1.2, 0.6, np.hypot(dx / 0.055 - x, dy / 0.055 - y) / r)
    return shade[..., None] * light.orb


def aurora(pixels: Array, horizon: float, rng: np.random.Generator) -> None:
    """Two or three curtains of green light that turn violet upwards, cut into rays."""
    size = len(pixels)
    rows = round(horizon * size)
    y = heights(size)[:rows]
    for _ in range(int(rng.integers(2, 4))):
        fold, rays = skyline(size, 1.9, rng), skyline(size, 0.35, rng)
        base = rng.uniform(0.45, 0.85) * horizon + (fold - 0.5) * rng.uniform(0.15, 0.32)
        up = (base[None, :] - y) / np.float32(horizon)
        tall = 0.16 + 0.30 * rays[None, :] * rng.uniform(0.6, 1.1)
        light = np.exp(-np.maximum(up, 0) / tall) * smoothstep(-0.05, 0.03, up)
        light *= 0.35 + 0.75 * rays[None, :]
        colour = lookup(
            ramp(
                [
                    (0, rgb(0.25, 1.0, 0.55)),
                    (0.35, rgb(0.12, 0.75, 0.62)),
                    (0.8, rgb(0.5, 0.2, 0.75)),
                ]
            ),
            up,
        )
        sky = pixels[:rows]
        sky += 0.85 * light[..., None] * colour * (1 - sky)


def clouds(
    pixels: Array,
    light: Light,
    horizon: float,
    cover: float,
    orb: tuple[float, float] | None,
    rng: np.random.Generator,
) -> None:
    """Clouds over that share of the sky, flatter towards the horizon, lit from the left.

    They open about the sun or the moon.
    """
    size = len(pixels)
    rows = round((horizon + 0.02) * size)
    plane, strokes = field("cloud", size, rng), field("sky", size, rng)[:rows]
    v = np.clip(1.0 - (np.arange(rows) + 0.5) / size / horizon, 0, 1)
    depth = ((0.75 / (v + 0.30)) * 0.42 * size).astype(int) % size
    density = plane[depth] + 0.16 * (strokes - 0.5)
    shift = max(1, round(0.022 * size))
    lit = density - np.roll(plane[(depth - shift) % size], shift, 1)
    threshold = np.float32(1 - cover)
    alpha = smoothstep(threshold - 0.06, threshold + 0.20, density)
    thick = smoothstep(threshold + 0.05, threshold + 0.6, density)
    bright = np.clip(0.72 + 1.3 * lit - 0.55 * thick + 0.3 * (strokes - 0.5), 0, 1)
    colour = light.cloud_dark + bright[..., None] * (light.cloud_lit - light.cloud_dark)
    fade: Array = np.clip(0.25 + 2.5 * v, 0, 0.96).astype(np.float32)[:, None]
    if orb is not None:
        near = (heights(size)[:rows] - orb[1]) ** 2 + (widths(size) - orb[0]) ** 2
        fade = fade * (1 - 0.9 * np.exp(near * np.float32(-1 / 0.085**2)))
    pixels[:rows] += (alpha * fade)[..., None] * (colour - pixels[:rows])
