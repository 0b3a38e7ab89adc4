"""Mountain lake and seaside."""

import numpy as np

from course.scenery import air, buildings, land, sky, water
from course.scenery.fields import Array, field, pick, smoothstep
from course.scenery.light import Colour, Light, mix, rgb
from course.scenery.stage import (
    Stage,
    boats,
    cabin,
    foreground,
    hill_colours,
    mountains,
    paint_sky,
    rocks,
    treeline,
    veil,
    wood,
)
from course.scenery.stamps import glow, palette, press


def mountain_lake(stage: Stage) -> None:
    """A lake that mirrors peaks and woods."""
    rng, s, light, has = stage.rng("layout"), stage.pixels, stage.light, stage.has
    shore = rng.uniform(0.50, 0.58)
    paint_sky(stage, shore, (0.28, 0.5), low=(0.24, 0.32))
    mountains(stage, shore + 0.01, rng.uniform(0.34, 0.42), "peaks", 0.22)
    kind = {"evergreen": "pine", "autumn": "autumn"}[str(has["trees"])] + " snow" * stage.white
    _far_shore(stage, kind, shore + 0.012)
    water.lake(s, shore + 0.012, light, rgb(0.10, 0.30, 0.40), stage.rng("lake"))
    if stage.orb:
        water.glitter(s, shore + 0.012, stage.orb[0], light, stage.rng("glitter"))
    boats(stage, shore, (0.09, 0.2))
    veil(stage)
    _near_shore(stage, kind)


def _far_shore(stage: Stage, kind: str, base: float) -> None:
    """Woods along the water and perhaps a cabin."""
    rng, own = stage.rng("shore"), stage.rng("bank")
    treeline(stage, kind, base - 0.008, rng.uniform(0.07, 0.10), 0.38, "far trees")
    land.hill(stage.pixels, base, 0.035, hill_colours(stage, own), stage.light, 0.25, own)
    spots = [(0.3 * x, base - 0.004, 0.10 + 0.10 * u) for x, u in rng.random((7, 2)).tolist()]
    wood(stage, kind, spots, "shore wood")
    home, height = (rng.uniform(0.64, 0.80), base + 0.002), rng.uniform(0.15, 0.18)
    if stage.has["building"] == "cabin":
        cabin(stage, home, height, 0.06)


def _near_shore(stage: Stage, kind: str) -> None:
    """Our bank: stones, grass, flowers, one tall tree that hides nothing."""
    rng, own = stage.rng("near shore"), stage.rng("front bank")
    colours, rise = hill_colours(stage, own), rng.uniform(0.10, 0.16)
    bank = land.hill(stage.pixels, 1.02, rise, colours, stage.light, 0.0, own, 1.7)
    rocks(stage, bank, 3)
    if not stage.white:
        foreground(stage, "grass", [(0.99, 0.06), (1.04, 0.10)], "grass")
    if stage.has["flowers"]:
        foreground(stage, "flowers", [(1.0, 0.08), (1.05, 0.13)], "wild flowers")
    x = pick(rng, (0.0, 0.06) if stage.has["building"] == "cabin" else (0.03, 0.08, 0.92, 0.98))
    wood(stage, kind, [(x, 1.0, rng.uniform(0.55, 0.8))], "front tree")


def seaside(stage: Stage) -> None:
    """The sea, a beach, a headland with a lighthouse."""
    rng, s, light, has = stage.rng("layout"), stage.pixels, stage.light, stage.has
    horizon = rng.uniform(0.46, 0.56)
    paint_sky(stage, horizon, low=(0.06, 0.16))
    water.sea(s, horizon, light, rgb(0.08, 0.38, 0.50), stage.rng("sea"))
    if stage.orb:
        water.glitter(s, horizon, stage.orb[0], light, stage.rng("glitter"))
    far = rng.uniform(0.02, 0.05)
    _headland(stage, horizon + 0.012, far, 0.6, 0.25, 0.55, "far headland")
    if has["building"] == "lighthouse":
        _lighthouse(stage, horizon, rng)
    boats(stage, horizon + 0.05, (0.10, 0.22), 0.12)
    veil(stage)
    slope = np.linspace(rng.uniform(0.72, 0.86), rng.uniform(0.84, 1.0), len(s), dtype=np.float32)
    wave = (sky.widths(len(s))[0] * 7 + rng.uniform(0, 6)).astype(np.float32)
    beach = slope + 0.018 * np.sin(wave)
    water.surf(s, beach, light, (rgb(0.66, 0.52, 0.36), rgb(0.93, 0.82, 0.62)), stage.rng("surf"))
    rocks(stage, beach - 0.03, 5, (0.05, 0.13))
    if rng.random() < 0.6:
        foreground(stage, "grass", [(1.03, 0.09), (1.06, 0.13)], "grass")
    if has["time_of_day"] != "night" and has["weather"] in ("clear", "cloudy"):
        air.birds(s, light, stage.rng("birds"))


def _headland(
    stage: Stage, base: float, rise: float, x0: float, reach: float, haze: float, layer: str
) -> Array:
    """Land that runs into the sea from the right: its top is y at each column (s,)."""
    pixels, rng = stage.pixels, stage.rng(layer)
    size = len(pixels)
    x, y = sky.widths(size)[0], sky.heights(size)
    ramp = np.clip((x - x0) / reach, 0, 1)
    bumps = 0.22 * np.sin(x * 21 + rng.uniform(0, 6)) + 0.12 * np.sin(x * 47 + 2)
    top = (base - rise * ramp**0.45 * (1 + bumps * ramp)).astype(np.float32)
    paint = _cliff(stage.light, (y - top) / np.maximum(base - top, 1e-3), haze, rng)
    inside = smoothstep(-0.003, 0.003, y - top) * smoothstep(0.004, -0.004, y - base) * (ramp > 0)
    pixels += inside[..., None] * (paint - pixels)
    edge = np.exp(-(((y - base) / 0.006) ** 2)) * (ramp > 0)
    pixels += (0.6 * edge)[..., None] * (stage.light.cloud_lit - pixels)
    return top


def _cliff(light: Light, down: Array, haze: float, rng: np.random.Generator) -> Array:
    """Rock with turf on top; down is 0 at the top of the cliff, 1 at its foot: (s, s, 3)."""
    rock, folds = field("stone", len(down), rng), field("folds", len(down), rng)
    shade = np.clip(0.5 + 0.7 * (folds - 0.5) + 0.6 * (rock - 0.5), 0, 1)
    grass = smoothstep(0.35, 0.15, down + 0.6 * (rock - 0.5))[..., None]
    stone = _broken(light, rgb(0.46, 0.38, 0.32), rgb(0.80, 0.70, 0.58), haze, shade)
    turf = _broken(light, rgb(0.32, 0.46, 0.20), rgb(0.50, 0.62, 0.30), haze, shade)
    return stone + grass * (turf - stone)


def _broken(light: Light, low: Colour, high: Colour, haze: float, shade: Array) -> Array:
    """Colours from `low` in the shade to `high` in the sun: (h, w) -> (h, w, 3)."""
    dark, lit = (mix(c, light.haze, haze) for c in (low * light.shade, high * light.sun))
    return dark + shade[..., None] * (lit - dark)


def _lighthouse(stage: Stage, horizon: float, rng: np.random.Generator) -> None:
    light, s = stage.light, stage.pixels
    base = horizon + rng.uniform(0.07, 0.12)
    x0 = rng.uniform(0.46, 0.6)
    top = _headland(stage, base, rng.uniform(0.15, 0.20), x0, 0.22, 0.05, "near headland")
    x, height = x0 + rng.uniform(0.2, 0.28), rng.uniform(0.34, 0.42)
    foot = float(top[min(int(x * len(top)), len(top) - 1)]) + 0.02
    height = min(height, (foot - 0.04) / 1.05)
    variant = int(rng.integers(2))
    dark = light.dark > 0.3
    lit = buildings.COLOURS["lit"] if dark else rgb(0.75, 0.8, 0.85) * light.sun
    lamp = (x - 0.09 * height, foot - 0.855 * height)
    if stage.has["beam"]:
        _beam(s, lamp, light)
    table = palette("lighthouse", variant, buildings.COLOURS | {"lit": lit}, light, 0.04)
    press(s, "lighthouse", variant, (x, foot), height, table)
    if dark:
        glow(s, lamp, 0.10, rgb(1.0, 0.85, 0.5) * np.float32(0.9))


def _beam(pixels: Array, lamp: tuple[float, float], light: Light) -> None:
    """A cone of light from the lamp out over the sea."""
    size = len(pixels)
    dx, dy = lamp[0] - sky.widths(size), sky.heights(size) - lamp[1]
    off = np.abs(dy + 0.10 * dx) / (np.maximum(dx, 0.001) * 0.13 + 0.012)
    cone = np.clip(1 - off, 0, 1) * (dx > 0) * np.exp(-1.1 * dx)
    pixels += (0.75 * cone)[..., None].astype(np.float32) * (rgb(1.0, 0.93, 0.68) - pixels)
