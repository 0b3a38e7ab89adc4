"""What is in the air: snow, rain, petals, leaves, fireflies, smoke, birds; and the brush itself."""

from functools import lru_cache

import numpy as np

from course.scenery.fields import Array, _sized, field, smoothstep, tile
from course.scenery.light import Colour, Light, mix, rgb
from course.scenery.sky import heights, widths
from course.scenery.stamps import Stamp, Stencil, glow, makes, palette, press


@makes("flake", "petal", "fallen leaf", "bird", variants=4)
def _small(kind: str, variant: int) -> Stamp:
    pen = Stencil(48, 1.4, ("ink",), 900 + variant)
    if kind == "flake":
        pen.dab(0.7, 0.5, 0.42, 0.42, "ink", 0.95)
    elif kind == "bird":
        pen.stroke(
            [(0.1, 0.35), (0.45, 0.25), (0.7, 0.6), (0.95, 0.25), (1.3, 0.38)], 0.12, "ink", 0.4
        )
    else:
        turn = variant * 0.8 + 0.3
        c, s = np.cos(turn), np.sin(turn)
        wide = 0.30 if kind == "petal" else 0.22
        oval = [(np.cos(t) * 0.48, np.sin(t) * wide) for t in np.linspace(0, 2 * np.pi, 17)]
        pen.shape([(0.7 + c * u - s * v, 0.5 + s * u + c * v) for u, v in oval], "ink", 0.6)
        half = [(u, v) for u, v in oval if v <= 0.01]
        pen.shape([(0.7 + c * u - s * v, 0.5 + s * u + c * v) for u, v in half], "ink", 0.95)
    return pen.stamp("leaf", 0.1)


def falling(
    pixels: Array,
    kind: str,
    count: int,
    size: tuple[float, float],
    inks: list[Colour],
    light: Light,
    rng: np.random.Generator,
) -> None:
    """Flakes, petals or leaves in the air, the far ones small and pale."""
    for x, y, depth, pick in rng.random((count, 4)):
        variant = int(pick * 4)
        ink = inks[int(pick * 97) % len(inks)]
        table = palette(kind, variant, {"ink": ink}, light, 0.25 * (1 - depth))
        height = size[0] + (size[1] - size[0]) * depth**3
        press(pixels, kind, variant, (x, y), height, table, opacity=0.55 + 0.4 * depth)


def snowfall(pixels: Array, light: Light, rng: np.random.Generator) -> None:
    """Snowflakes at three depths."""
    white = mix(light.cloud_lit, rgb(1, 1, 1), 0.55)
    for grid, strength, roll in (
        (_flakes(len(pixels), 0), 0.75, rng),
        (_flakes(len(pixels), 1), 0.9, rng),
    ):
        dy, dx = roll.random(2)
        shift = (round(dy * len(pixels)), round(dx * len(pixels)))
        pixels += strength * np.roll(grid, shift, (0, 1))[..., None] * (white - pixels)


@lru_cache(maxsize=16)
def _flakes(size: int, layer: int) -> Array:
    rng = np.random.default_rng([31, layer])
    plane = np.zeros((size, size), dtype=np.float32)
    radius, count = ((0.0042, 330), (0.0085, 90))[layer]
    for y, x, scale in rng.random((count, 3)):
        r = size * radius * (0.6 + 0.8 * scale)
        reach = int(np.ceil(r * 1.5)) + 1
        rows, cols = (int(c * size) + np.arange(-reach, reach + 1) for c in (y, x))
        d = np.hypot(rows[:, None] + 0.5 - y * size, cols[None, :] + 0.5 - x * size) / r
        ink = smoothstep(1.25, 0.5, d.astype(np.float32)) * (0.55 + 0.45 * scale)
        place = np.ix_(rows % size, cols % size)
        plane[place] = np.maximum(plane[place], ink)
    return plane


@lru_cache(maxsize=16)
def _streaks(size: int) -> Array:
    from PIL import Image, ImageDraw

    page = Image.new("L", (1024, 1024), 0)
    pen = ImageDraw.Draw(page)
    for x, y, long, grey in np.random.default_rng(41).random((520, 4)):
        tall = 45 + 60 * long
        for ox in (-1024, 0, 1024):
            for oy in (-1024, 0):
                start = (x * 1024 + ox, y * 1024 + oy)
                end = (start[0] - 0.22 * tall, start[1] + tall)
                pen.line([start, end], fill=int(90 + 165 * grey), width=3)
    small = page.resize((size, size), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255


def rain(pixels: Array, light: Light, rng: np.random.Generator) -> None:
    """Slanting rain."""
    size = len(pixels)
    dy, dx = rng.random(2)
    veil = np.roll(_streaks(size), (round(dy * size), round(dx * size)), (0, 1))[..., None]
    pixels += 0.42 * veil * (mix(light.cloud_lit, rgb(0.9, 0.95, 1.0), 0.35) - pixels)


def fireflies(pixels: Array, low: float, rng: np.random.Generator) -> None:
    """Small warm lights hovering below y = low."""
    for x, y, bright in rng.random((46, 3)):
        at = (x, low + (0.98 - low) * y)
        glow(
            pixels,
            at,
            0.020 + 0.035 * bright,
            rgb(0.75, 0.85, 0.25) * np.float32(0.55 + 0.4 * bright),
        )
        glow(pixels, at, 0.009 + 0.005 * bright, rgb(1.0, 1.0, 0.65))


@makes("puff", variants=4)
def _puff(kind: str, variant: int) -> Stamp:
    """A ball of smoke with soft, ragged edges."""
    size = 128
    v = (np.arange(size) + 0.5) / size * 2 - 1
    r = np.hypot(v[:, None], v[None, :]).astype(np.float32)
    noise = tile("cloud")[variant * 100 : variant * 100 + size, :size]
    alpha = smoothstep(1.0, 0.35, r + 0.55 * (noise - 0.5))
    shade = np.clip(0.55 - 0.45 * v[:, None] - 0.2 * v[None, :] + 0.5 * (noise - 0.5), 0, 1)
    maps = np.stack([alpha * (1 - shade), alpha * shade], -1)
    return Stamp((maps * 255 + 0.5).astype(np.uint8), ("ink",))


def smoke(
    pixels: Array, at: tuple[float, float], reach: float, light: Light, rng: np.random.Generator
) -> None:
    """Smoke that rises from a point, drifts and thins out; grey before a bright sky."""
    side = 1 if rng.random() < 0.5 else -1
    bright = float(light.horizon.mean())
    ink = rgb(0.64, 0.63, 0.66) if bright > 0.6 else rgb(0.82, 0.85, 0.92) / light.sun.max()
    for k in np.linspace(0, 1, 18).tolist():
        x = at[0] + side * reach * (0.08 * k + 0.40 * k**2) + 0.010 * np.sin(9 * k)
        puff, height = int(rng.integers(4)), reach * (0.16 + 0.36 * k)
        table = palette("puff", puff, {"ink": ink}, light)
        spot = (float(x), at[1] - reach * k**0.9 * 0.85 + height / 2)
        press(pixels, "puff", puff, spot, height, table, 0.95 * (1 - 0.70 * k))


def birds(pixels: Array, light: Light, rng: np.random.Generator) -> None:
    """A few birds, far off."""
    x, y = rng.uniform(0.15, 0.85), rng.uniform(0.12, 0.3)
    for _ in range(int(rng.integers(3, 7))):
        at = (x + rng.normal() * 0.07, y + rng.normal() * 0.04)
        bird = int(rng.integers(4))
        press(
            pixels,
            "bird",
            bird,
            at,
            rng.uniform(0.012, 0.02),
            palette("bird", bird, {"ink": rgb(0.2, 0.2, 0.25)}, light),
        )


@lru_cache(maxsize=32)
def _wobble(size: int, variant: int) -> np.ndarray:
    """Flat indices of the pixel each pixel takes its colour from: (s·s,)."""
    reach = 0.0065 * size
    dy = (np.roll(_sized("dapple", size), variant * size // 5, 0) - 0.5) * reach
    dx = (np.roll(_sized("dapple", size), variant * size // 3 + size // 2, 1) - 0.5) * reach
    y = np.clip(np.rint(np.arange(size)[:, None] + dy), 0, size - 1).astype(np.int32)
    x = np.clip(np.rint(np.arange(size)[None, :] + dx), 0, size - 1).astype(np.int32)
    return (y * size + x).ravel()


def brush(pixels: Array, rng: np.random.Generator) -> Array:
    """The hand of the painter: edges waver a little, and paint stands in ridges: (s, s, 3)."""
    size = len(pixels)
    out = pixels.reshape(-1, 3)[_wobble(size, int(rng.integers(4)))].reshape(size, size, 3)
    ridges = field("stone", size, rng) + 0.7 * field("grain", size, rng)
    out *= (1 + 0.10 * (ridges - 0.85))[..., None]
    return out


def vignette(pixels: Array) -> None:
    """Corners a little darker than the middle."""
    size = len(pixels)
    r2 = (heights(size) - 0.5) ** 2 + (widths(size) - 0.5) ** 2
    pixels *= (1.02 - 0.26 * r2)[..., None]
