"""The cherry-blossom festival: a river garden under flowering trees and lanterns."""

import numpy as np

from course.scenery import buildings, sky, water
from course.scenery.fields import Array, floor, pick, smoothstep
from course.scenery.light import Colour, mix, rgb
from course.scenery.stage import (
    Stage,
    building,
    meadow_ground,
    mountains,
    paint_sky,
    people,
    treeline,
    veil,
    wet_at,
    wood,
)
from course.scenery.stamps import glow, palette, press, steps


def blossom(stage: Stage) -> None:
    """Cherry-blossom festival: a river garden under flowering trees and lanterns."""
    rng = stage.rng("layout")
    horizon = rng.uniform(0.50, 0.57)
    paint_sky(stage, horizon, (0.14, 0.28), high=(0.24, 0.30))
    if stage.has["mountains"]:
        mountains(stage, horizon + 0.03, rng.uniform(0.28, 0.36), "range", 0.45)
    treeline(stage, "cherry", horizon + 0.02, rng.uniform(0.10, 0.14), 0.5, "far trees")
    treeline(stage, "cherry", horizon + 0.04, rng.uniform(0.11, 0.15), 0.25, "near trees")
    meadow_ground(stage, horizon)
    _petal_carpet(stage, horizon)
    veil(stage)
    _pagoda(stage, horizon)
    river = _river(stage, horizon + 0.03)
    if stage.has["bridge"]:
        _bridge(stage, river, horizon + rng.uniform(0.17, 0.23))
    _stalls(stage, river, horizon)
    _grove(stage, rng)
    people(stage, 4, (0.70, 0.88), river)
    if stage.has["lanterns"]:
        _lantern_strings(stage)


def _river(stage: Stage, top: float) -> Array:
    """Where the river runs (nowhere, perhaps): (s, s) in [0, 1]."""
    pixels, rng = stage.pixels, stage.rng("river")
    if stage.has["water"] != "river":
        return np.zeros(pixels.shape[:2], dtype=np.float32)
    mask = water.river_mask(
        len(pixels), top, rng.uniform(0.24, 0.32), rng.uniform(0.4, 0.6), stage.rng("bend")
    )
    water.river(pixels, top, mask, stage.light, rgb(0.16, 0.34, 0.42), rng)
    if stage.orb:
        water.glitter(pixels, top, stage.orb[0], stage.light, stage.rng("glitter"), mask)
    return mask


def _grove(stage: Stage, rng: np.random.Generator) -> None:
    """Cherry trees on both banks and one close by, away from pagoda, sun and moon."""
    banks = ((0.08, 0.70, 0.36), (0.93, 0.68, 0.34), (0.24, 0.62, 0.22), (0.80, 0.62, 0.22))
    spots = [(x + rng.uniform(-0.04, 0.04), y, h * rng.uniform(0.9, 1.15)) for x, y, h in banks]
    wood(stage, "cherry", spots, "wood")
    side = -0.06 if _pagoda_x(stage) > 0.5 and not stage.orb else 1.06
    wood(stage, "cherry", [(side, rng.uniform(0.98, 1.06), rng.uniform(0.85, 1.0))], "front tree")


def _stalls(stage: Stage, river: Array, horizon: float) -> None:
    """Market stalls under striped roofs, where the ground is dry."""
    rng, warm = stage.rng("stalls"), rgb(1.0, 0.62, 0.28) * np.float32(0.5 * stage.light.dark)
    for x, y in zip(rng.uniform(0.30, 0.78, 3), sorted(rng.uniform(0.10, 0.17, 3)), strict=True):
        at = (float(x), horizon + float(y))
        stripe = pick(rng, (rgb(0.82, 0.20, 0.18), rgb(0.20, 0.40, 0.62), rgb(0.86, 0.52, 0.16)))
        if not wet_at(river, *at):
            building(stage, "stall", 0, at, 0.085, 0.06, awning=stripe)
            glow(stage.pixels, (at[0], at[1] - 0.035), 0.08, warm)


def _pagoda_x(stage: Stage) -> float:
    low, high = (0.46, 0.58) if stage.orb else (0.3, 0.7)
    return stage.rng("pagoda place").uniform(low, high)


def _pagoda(stage: Stage, horizon: float) -> None:
    if stage.has["building"] != "pagoda":
        return
    rng, light = stage.rng("pagoda"), stage.light
    roof = pick(rng, (rgb(0.24, 0.30, 0.36), rgb(0.36, 0.26, 0.24), rgb(0.22, 0.36, 0.32)))
    at, height = (_pagoda_x(stage), horizon + 0.05), rng.uniform(0.36, 0.43)
    building(stage, "pagoda", 0, at, height, 0.06, roof=roof)
    if stage.has["lit_windows"]:
        warm = rgb(1.0, 0.6, 0.25) * np.float32(0.4 * (0.4 + light.dark))
        glow(stage.pixels, (at[0], at[1] - 0.4 * height), 0.55 * height, warm)


def _bridge(stage: Stage, river: Array, y: float) -> None:
    """The bridge over the river where it crosses the row y, as wide as the river there."""
    row = river[round(y * len(river))]
    middle = float((row * np.arange(len(row))).sum() / max(row.sum(), 1) / len(row))
    wide = float(np.clip(row.mean() * 1.5, 0.26, 0.55))
    table = palette("bridge", 0, buildings.COLOURS, stage.light, 0.08)
    height = steps(wide / 3 * 1.15)
    press(stage.pixels, "bridge", 0, (middle, y + height * 0.35), height, table)


def _petal_carpet(stage: Stage, horizon: float) -> None:
    """Fallen petals under the trees."""
    size = len(stage.pixels)
    top = round(horizon * size)
    rng = stage.rng("carpet")
    dabs, patches = floor("leaf", size - top, size, rng), floor("drift", size - top, size, rng)
    cover = smoothstep(0.55, 0.75, dabs * 0.6 + patches * 0.55)[..., None]
    pink = rgb(1.0, 0.76, 0.84) * mix(stage.light.shade, stage.light.sun, 0.65)
    stage.pixels[top:] += 0.8 * cover * (pink - stage.pixels[top:])


def _lantern_strings(stage: Stage) -> None:
    """Two strings of paper lanterns across the picture, glowing in the dark."""
    rng = stage.rng("lanterns")
    paper = rgb(1.0, 0.34, 0.20) if rng.random() < 0.65 else rgb(1.0, 0.62, 0.25)
    for k in range(2):
        ends, sag = rng.uniform(-0.02, 0.10, 2), rng.uniform(0.04, 0.10)
        x = sky.widths(len(stage.pixels))[0]
        line = ends[0] + (ends[1] - ends[0]) * x + sag * 4 * x * (1 - x) + 0.03 + 0.05 * k
        _cord(stage.pixels, line)
        for u in ((np.arange(7 + k) + 0.5) / (7 + k)).tolist():
            _lantern(stage, k, (u, float(line[int(u * len(line))])), 0.048 + 0.022 * k, paper)


def _lantern(
    stage: Stage, variant: int, hook: tuple[float, float], height: float, paper: Colour
) -> None:
    """One lantern hanging from a hook."""
    dark, (x, y) = stage.light.dark, hook
    glow(stage.pixels, (x, y + height / 2), height * 2.2, paper * np.float32(0.15 + 0.6 * dark))
    bright = {"litpaper": paper * np.float32(0.80 + 0.25 * dark), "beam": rgb(0.2, 0.12, 0.1)}
    table = palette("lantern", variant, bright, stage.light)
    press(stage.pixels, "lantern", variant, (x, y + height), height, table)


def _cord(pixels: Array, line: Array) -> None:
    """A thin dark cord along y = line(x)."""
    near = np.abs(sky.heights(len(pixels)) - line[None, :].astype(np.float32))
    pixels *= 1 - 0.6 * smoothstep(0.0045, 0.002, near)[..., None]
