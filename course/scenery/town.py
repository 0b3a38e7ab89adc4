"""The old town square: a row of façades round a cobbled square."""

import numpy as np

from course.scenery import buildings, land, water
from course.scenery.fields import pick
from course.scenery.light import mix, rgb
from course.scenery.stage import SNOW, Stage, building, paint_sky, people, veil
from course.scenery.stamps import glow, palette, press, shadow


def town(stage: Stage) -> None:
    """Old European town square: a row of façades round a cobbled square."""
    rng, has = stage.rng("layout"), stage.has
    base = rng.uniform(0.66, 0.71)
    paint_sky(stage, base, (0.24, 0.42), low=(0.48, 0.54), high=(0.10, 0.16))
    if has["church_tower"]:
        _tower(stage, base)
    _cobbles(stage, base)
    row = [(0.10 + 0.185 * k, base, h) for k, h in enumerate(rng.uniform(0.33, 0.42, 6).tolist())]
    _houses(stage, row, 0.12, "row")
    veil(stage)
    _houses(stage, [(-0.02, base + 0.10, 0.62), (1.02, base + 0.08, 0.58)], 0.0, "wings")
    if has["weather"] == "rainy":
        _wet(stage, base + 0.01)
    if has["awnings"]:
        _terrace(stage, base)
    if rng.random() < 0.4:
        _fountain(stage, (rng.uniform(0.4, 0.6), base + 0.16))
    people(stage, 5, (base + 0.05, 0.93))
    if has["lanterns"]:
        _lamps(stage, base)


def _tower(stage: Stage, base: float) -> None:
    """The church tower behind the houses, floodlit at night."""
    rng = stage.rng("tower")
    wall = rgb(0.80, 0.72, 0.60) * np.float32(rng.uniform(0.85, 1.1))
    roof = pick(rng, (rgb(0.33, 0.52, 0.46), rgb(0.42, 0.30, 0.30)))
    at = (rng.uniform(0.56 if stage.orb else 0.3, 0.74), base - 0.02)
    variant, height = int(rng.integers(3)), rng.uniform(0.58, 0.66)
    face = buildings.COLOURS["trim"] * (stage.light.sun if stage.light.dark < 0.3 else 0.85)
    building(stage, "tower", variant, at, height, 0.14, wall=wall, roof=roof, litclock=face)
    if stage.light.dark > 0.3:
        lamps = rgb(1.0, 0.75, 0.45) * np.float32(0.4 * stage.light.dark)
        glow(stage.pixels, (at[0], at[1] - 0.72 * height), 0.30 * height, lamps)


def _fountain(stage: Stage, at: tuple[float, float]) -> None:
    shadow(stage.pixels, at, 0.16, 0.02, 0.4)
    table = palette("fountain", 0, buildings.COLOURS, stage.light)
    press(stage.pixels, "fountain", 0, at, 0.13, table)


ROOFS = (rgb(0.70, 0.33, 0.22), rgb(0.58, 0.28, 0.22), rgb(0.42, 0.36, 0.38))
SHUTTERS = (rgb(0.26, 0.47, 0.42), rgb(0.30, 0.38, 0.58), rgb(0.52, 0.28, 0.20))
AWNINGS = (rgb(0.82, 0.20, 0.18), rgb(0.18, 0.42, 0.34), rgb(0.22, 0.36, 0.66))
FLOWERS = (rgb(0.92, 0.22, 0.32), rgb(0.95, 0.50, 0.70))


def _houses(stage: Stage, spots: list[tuple[float, float, float]], haze: float, layer: str) -> None:
    """Houses at (x, base, height), no two walls alike, lamplight spilling from their windows."""
    rng, has = stage.rng(layer), stage.has
    kind = "house" + " awning" * bool(has["awnings"]) + " flowers" * bool(has["flowers"])
    walls = rng.permutation(len(buildings.WALLS))
    for k, (x, base, height) in enumerate(spots):
        colours = {
            "wall": buildings.WALLS[int(walls[k])],
            "roof": mix(pick(rng, ROOFS), SNOW * np.float32(0.86), 0.75 * stage.white),
            "shutter": pick(rng, SHUTTERS),
            "awning": pick(rng, AWNINGS),
            "flower": pick(rng, FLOWERS),
        }
        building(stage, kind, int(rng.integers(8)), (x, base), height, haze, **colours)
        if has["lit_windows"]:
            warm = rgb(1.0, 0.62, 0.25) * np.float32(0.08 + 0.22 * stage.light.dark)
            glow(stage.pixels, (x, base - 0.3 * height), height * 0.5, warm)
            glow(stage.pixels, (x, base + 0.02), height * 0.35, warm)


def _cobbles(stage: Stage, base: float) -> None:
    """The paving of the square, under trodden snow in winter."""
    stones = (rgb(0.36, 0.31, 0.29), rgb(0.80, 0.72, 0.62))
    colours = (rgb(0.66, 0.70, 0.80), SNOW) if stage.white else stones
    contrast, rng = 0.7 if stage.white else 1.0, stage.rng("cobbles")
    land.ground(stage.pixels, base - 0.03, colours, stage.light, rng, "cobble", contrast, 0.1)


def _wet(stage: Stage, shore: float) -> None:
    """Rain on the square mirrors the façades."""
    size = len(stage.pixels)
    top = round(shore * size)
    shine = water.mirror(
        stage.pixels, shore, stage.light, rgb(0.4, 0.42, 0.46), stage.rng("wet"), 0.85, 1.3
    )
    stage.pixels[top:] = 0.55 * stage.pixels[top:] + 0.42 * shine


def _terrace(stage: Stage, base: float) -> None:
    """Tables under parasols before the houses."""
    rng = stage.rng("terrace")
    cloth = pick(rng, (rgb(0.82, 0.20, 0.18), rgb(0.20, 0.46, 0.38), rgb(0.90, 0.60, 0.20)))
    for x in (0.14, 0.30, 0.74, 0.88):
        y, variant = base + rng.uniform(0.06, 0.14), int(rng.integers(3))
        table = palette("table", variant, buildings.COLOURS | {"awning": cloth}, stage.light)
        shadow(stage.pixels, (x + 0.02, y), 0.07, 0.012, 0.5)
        press(stage.pixels, "table", variant, (x + rng.uniform(-0.04, 0.04), y), 0.12, table)


def _lamps(stage: Stage, base: float) -> None:
    """Street lamps, lit in the dark."""
    rng, dark = stage.rng("lamps"), stage.light.dark
    table = palette("lamp", 0, buildings.colours(stage.light, dark > 0.3), stage.light)
    warm = rgb(1.0, 0.70, 0.33) * np.float32(0.75 * dark if dark > 0.3 else 0)
    for x, down, height in ((0.24, 0.10, 0.30), (0.78, 0.07, 0.26), (0.5, 0.03, 0.2)):
        at = (x + rng.uniform(-0.05, 0.05), base + down)
        press(stage.pixels, "lamp", 0, at, height, table)
        glow(stage.pixels, (at[0], at[1] - height * 0.86), height * 0.6, warm)
        glow(stage.pixels, (at[0], at[1] + 0.01), height * 0.55, warm * np.float32(0.5))
