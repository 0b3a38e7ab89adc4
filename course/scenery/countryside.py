"""Open country: winter wonderland, forest clearing, autumn hills, meadow."""

import numpy as np

from course.scenery import air, land, trees, water
from course.scenery.fields import Array, field, floor, pick, smoothstep
from course.scenery.light import mix, rgb
from course.scenery.stage import (
    Stage,
    building,
    cabin,
    foreground,
    hill_colours,
    meadow_ground,
    mountains,
    paint_sky,
    petals,
    scatter,
    treeline,
    veil,
    winding_river,
    wood,
)
from course.scenery.stamps import glow, palette, press, shadow


def winter(stage: Stage) -> None:
    """Winter wonderland: pines in snow, a log cabin, mountains, aurora."""
    rng = stage.rng("layout")
    horizon = rng.uniform(0.50, 0.60)
    paint_sky(stage, horizon, (0.26, 0.5))
    if stage.has["mountains"]:
        mountains(stage, horizon + 0.03, rng.uniform(0.26, 0.38), "peaks")
    treeline(stage, "pine snow", horizon + 0.015, 0.11, 0.55, "far trees")
    treeline(stage, "pine snow", horizon + 0.035, 0.155, 0.32, "near trees")
    land.snowfield(stage.pixels, horizon, stage.light, stage.rng("snow"))
    _winter_near(stage, horizon, rng)


def _winter_near(stage: Stage, horizon: float, rng: np.random.Generator) -> None:
    """Single pines, the cabin and its path, tall pines at both sides."""
    spots = [
        (x, horizon + 0.05 + 0.05 * u, 0.16 + 0.12 * v) for x, u, v in rng.random((5, 3)).tolist()
    ]
    wood(stage, "pine snow", spots, "middle wood")
    veil(stage)
    base = horizon + rng.uniform(0.15, 0.20)
    home, height = (rng.uniform(0.36, 0.62), base), rng.uniform(0.20, 0.27)
    if stage.has["building"] == "cabin":
        _trodden(stage, home)
        cabin(stage, home, height)
    left, right = rng.uniform(0.0, 0.16), rng.uniform(0.84, 1.0)
    sides = [
        (left + 0.10, base + 0.06, rng.uniform(0.32, 0.42)),
        (right - 0.09, base + 0.08, rng.uniform(0.34, 0.46)),
        (left, rng.uniform(0.96, 1.05), rng.uniform(0.62, 0.88)),
        (right, rng.uniform(0.92, 1.0), rng.uniform(0.5, 0.75)),
    ]
    wood(stage, "pine snow", sides[: int(rng.integers(3, 5))], "front wood")


def _trodden(stage: Stage, door: tuple[float, float]) -> None:
    """A path trodden through the snow to the door."""
    size = len(stage.pixels)
    path = water.river_mask(size, door[1], 0.13, door[0] - 0.08, stage.rng("path"))
    stage.pixels *= 1 - path[..., None] * rgb(0.20, 0.17, 0.10)


def forest(stage: Stage) -> None:
    """A clearing among dark woods, an old oak, fireflies."""
    rng, has = stage.rng("layout"), stage.has
    horizon = rng.uniform(0.58, 0.64)
    paint_sky(stage, horizon, (0.22, 0.34), low=(0.36, 0.42))
    leaves = "leafy" if has["season"] == "summer" else "autumn"
    treeline(stage, "pine", horizon + 0.01, rng.uniform(0.24, 0.30), 0.72, "far trees")
    treeline(stage, leaves, horizon + 0.02, 0.22, 0.5, "middle trees")
    treeline(stage, "pine", horizon + 0.03, rng.uniform(0.24, 0.30), 0.28, "near trees")
    meadow_ground(stage, horizon)
    shine = stage.light.sun * rgb(0.40, 0.50, 0.36)
    glow(stage.pixels, (rng.uniform(0.4, 0.6), horizon + 0.16), 0.42, shine)
    veil(stage)
    _forest_near(stage, rng)


def _forest_near(stage: Stage, rng: np.random.Generator) -> None:
    """Dark pines at the sides, the oak, grass, flowers, fireflies."""
    sides = ((-0.02, 0.76, 0.62), (0.10, 0.70, 0.46), (0.92, 0.70, 0.5), (1.03, 0.78, 0.66))
    spots = [(x + rng.uniform(-0.03, 0.03), y, h * rng.uniform(0.9, 1.1)) for x, y, h in sides]
    wood(stage, "pine", spots, "sides")
    oak = (rng.uniform(0.64, 0.72), rng.uniform(0.82, 0.87), rng.uniform(0.56, 0.68))
    if stage.has["trees"] == "oak":
        wood(stage, "oak", [oak], "oak")
    foreground(stage, "grass", GRASS[1:], "grass")
    if stage.has["flowers"]:
        foreground(stage, "flowers", [(0.90, 0.07), (0.98, 0.10), (1.06, 0.14)], "wild flowers")
    if stage.has["drifting"] == "fireflies":
        air.fireflies(stage.pixels, 0.5, stage.rng("fireflies"))


# Rows of grass at (base, height): each hides the roots of the one behind.
GRASS = [(0.83, 0.05), (0.88, 0.08), (0.94, 0.105), (1.01, 0.135), (1.08, 0.16)]


def hills(stage: Stage) -> None:
    """Autumn hills, wood behind wood."""
    rng = stage.rng("layout")
    horizon = rng.uniform(0.42, 0.50)
    paint_sky(stage, horizon + 0.06, (0.2, 0.5), low=(0.20, 0.26))
    if stage.has["mountains"]:
        mountains(stage, horizon + 0.06, rng.uniform(0.30, 0.40), "range", 0.45)
    for k in range(3):
        haze, base, rise = 0.50 - 0.17 * k, horizon + 0.07 + 0.105 * k, rng.uniform(0.05, 0.09)
        treeline(stage, "autumn", base + 0.01, 0.035 + rise + 0.03 * k, haze, f"trees {k}")
        own = stage.rng(f"hill {k}")
        crest = land.hill(
            stage.pixels, base, rise, hill_colours(stage, own), stage.light, haze, own
        )
        scatter(stage, "autumn", crest, 6, 0.06 + 0.03 * k, haze * 0.8, f"scatter {k}")
    veil(stage)
    _hill_building(stage, horizon)
    _hills_near(stage, horizon, rng)


def _hill_building(stage: Stage, horizon: float) -> None:
    rng = stage.rng("building")
    if stage.has["building"] == "chapel":
        at = (rng.uniform(0.35, 0.7), horizon + 0.24)
        building(stage, "chapel", 0, at, rng.uniform(0.17, 0.22), 0.1, roof=rgb(0.48, 0.25, 0.2))
    elif stage.has["building"] == "cabin":
        cabin(stage, (rng.uniform(0.38, 0.66), horizon + 0.27), rng.uniform(0.15, 0.19), 0.06)


def _hills_near(stage: Stage, horizon: float, rng: np.random.Generator) -> None:
    """The nearest slope with its river or its trees, one large tree in front."""
    wet = stage.has["water"] == "river"
    base, own = horizon + (0.30 if wet else 0.37), stage.rng("near hill")
    crest = land.hill(stage.pixels, base, 0.06, hill_colours(stage, own), stage.light, 0.03, own)
    if wet:
        winding_river(stage, base - 0.01)
    else:
        scatter(stage, "autumn", crest, 4, 0.16, 0.05, "near trees")
    foreground(stage, "grass", [(1.0, 0.05), (1.06, 0.09)], "grass")
    x = pick(rng, (0.90, 0.96, 1.0) if stage.orb else (-0.02, 0.08, 0.90, 1.0))
    wood(stage, "autumn", [(x, rng.uniform(0.96, 1.02), rng.uniform(0.6, 0.8))], "front tree")


def meadow(stage: Stage) -> None:
    """A flowering meadow under a wide sky."""
    rng, leafy = stage.rng("layout"), stage.has["trees"] == "leafy"
    horizon = rng.uniform(0.50, 0.60)
    paint_sky(stage, horizon, low=(0.18, 0.24))
    if stage.has["mountains"]:
        mountains(stage, horizon + 0.03, rng.uniform(0.34, 0.42), "range", 0.42)
    _slope(stage, horizon + 0.03, 0.07, 0.5, "far hill", "leaf")
    if leafy:
        treeline(stage, "leafy", horizon + 0.03, 0.07, 0.42, "far trees")
    crest = _slope(stage, horizon + 0.08, 0.08, 0.22, "hill", "leaf")
    if leafy:
        scatter(stage, "leafy", crest, 5, 0.13, 0.2, "hill trees")
    _meadow_building(stage, crest)
    meadow_ground(stage, horizon + 0.085)
    for k in range(2):
        _slope(stage, horizon + 0.175 + 0.10 * k, 0.055, 0.12 - 0.07 * k, f"fold {k}", "grass")
    _meadow_near(stage, horizon + 0.10, rng)


def _slope(stage: Stage, base: float, rise: float, haze: float, layer: str, texture: str) -> Array:
    """A grassy rise, its crest soft where it is covered with grass."""
    rng, soft = stage.rng(layer), 0.03 if texture == "grass" else 0.004
    colours = hill_colours(stage, rng)
    return land.hill(stage.pixels, base, rise, colours, stage.light, haze, rng, 2.1, texture, soft)


def _meadow_near(stage: Stage, top: float, rng: np.random.Generator) -> None:
    """Flowers, a river or a path, bushes, high grass, one large tree."""
    has = stage.has
    if has["flowers"]:
        _bloom(stage, top)
    wet = has["water"] == "river"
    (winding_river if wet else _path)(stage, top)
    if has["trees"] == "leafy":
        _bushes(stage, top)
    veil(stage)
    rows = GRASS[1 if has["flowers"] and not wet else 2 :]
    foreground(stage, "flowers" if has["flowers"] else "grass", rows, "grass")
    x = pick(rng, (0.88, 0.95, 1.0) if stage.orb else (0.02, 0.14, 0.88, 1.0))
    if has["trees"] == "leafy" and rng.random() < 0.7:
        wood(stage, "leafy", [(x, rng.uniform(0.84, 0.95), rng.uniform(0.5, 0.68))], "front tree")
    if has["time_of_day"] == "day":
        air.birds(stage.pixels, stage.light, stage.rng("birds"))


def _bloom(stage: Stage, top: float) -> None:
    """Drifts of far flowers: flecks of two colours that gather in patches."""
    size, rng = len(stage.pixels), stage.rng("bloom")
    start = round(top * size)
    patches = floor("drift", size - start, size, rng)
    for colour in petals(stage):
        dabs = floor("leaf", size - start, size, rng)
        cover = smoothstep(0.62, 0.74, 0.62 * dabs + 0.40 * patches)[..., None]
        lit = colour * mix(stage.light.shade, stage.light.sun, 0.8)
        stage.pixels[start:] += 0.85 * cover * (lit - stage.pixels[start:])


def _path(stage: Stage, top: float) -> None:
    """A path of bare earth through the grass."""
    rng, size, light = stage.rng("path"), len(stage.pixels), stage.light
    mask = water.river_mask(size, top, rng.uniform(0.06, 0.10), rng.uniform(0.35, 0.65), rng)
    grain = field("stone", size, rng)[..., None]
    earth = rgb(0.72, 0.60, 0.42) * (light.shade + (light.sun - light.shade) * grain)
    stage.pixels += 0.75 * mask[..., None] * (earth - stage.pixels)


def _bushes(stage: Stage, top: float) -> None:
    """Bushes about the middle distance."""
    rng = stage.rng("bushes")
    for x, u, v in sorted(rng.random((6, 3)).tolist(), key=lambda spot: spot[1]):
        base, height = top + 0.12 * u, (0.035 + 0.05 * u) * (0.7 + 0.6 * v)
        variant = int(rng.integers(5))
        colours = trees.leaf_colours("leafy", str(stage.has["season"]), rng)
        shadow(stage.pixels, (x + 0.02, base), height * 1.1, height * 0.2, 0.5)
        table = palette("bush", variant, colours, stage.light, 0.25 * (1 - u))
        press(stage.pixels, "bush", variant, (x, base), height, table)


def _meadow_building(stage: Stage, crest: Array) -> None:
    rng, what = stage.rng("building"), stage.has["building"]
    x = rng.uniform(0.50 if stage.orb else 0.40, 0.64)
    at = (x, min(float(crest[int(x * len(crest))]) + 0.03, stage.horizon + 0.09))
    if what == "windmill":
        wall = pick(rng, (rgb(0.88, 0.82, 0.72), rgb(0.62, 0.42, 0.30)))
        variant, height = int(rng.integers(3)), rng.uniform(0.30, 0.38)
        building(stage, "windmill", variant, at, height, 0.06, wall=wall)
    elif what == "chapel":
        building(stage, "chapel", 0, at, rng.uniform(0.19, 0.24), 0.08)
