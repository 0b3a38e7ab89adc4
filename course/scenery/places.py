"""The eight kinds of place: each composes sky, land, water, trees and buildings back to front.

Everything is lit from the left; `picture.draw` mirrors half of the scenes.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from course.scenery import air, buildings, land, sky, trees, water
from course.scenery.fields import Array, field, floor, smoothstep
from course.scenery.light import Colour, Light, mix, rgb
from course.scenery.stamps import glow, palette, press, press_strip, shadow, steps
from course.scenery.world import Attributes


@dataclass
class Stage:
    """A painting under way: pixels (s, s, 3), what it must hold, its light and its seed."""

    pixels: Array
    has: Attributes
    light: Light
    seed: int
    horizon: float = 0.55
    orb: tuple[float, float] | None = None

    def rng(self, layer: str) -> np.random.Generator:
        """The layer's own stream, so that leaving one layer out does not change the others."""
        return np.random.default_rng([self.seed, zlib.crc32(layer.encode())])

    @property
    def white(self) -> bool:
        """Whether snow lies on the ground."""
        return self.has["season"] == "winter"


Place = Callable[[Stage], None]
SNOW = land.SNOW


def paint_sky(stage: Stage, horizon: float) -> None:
    """Everything above the horizon that is not land."""
    s, light, has = stage.pixels, stage.light, stage.has
    stage.horizon = horizon
    sky.gradient(s, light, horizon, stage.rng("sky"))
    if has["stars"]:
        sky.stars(s, horizon, stage.rng("stars"))
    if has["aurora"]:
        sky.aurora(s, horizon, stage.rng("aurora"))
    _orb(stage)
    cover = {"clear": 0.0, "cloudy": 0.62, "misty": 0.25, "rainy": 0.85, "snowy": 0.72}
    amount = cover[str(has["weather"])]
    rng = stage.rng("clouds")
    wisps = 0.0 if has["time_of_day"] == "night" else rng.uniform(0.02, 0.17)
    sky.clouds(s, light, horizon, max(amount * rng.uniform(0.9, 1.1), wisps), 0.3, rng)
    if has["celestial"] == "full moon" and stage.orb:
        glow(s, stage.orb, 0.09, light.orb * np.float32(0.55))


def _orb(stage: Stage) -> None:
    rng, light, what = stage.rng("orb"), stage.light, stage.has["celestial"]
    low = stage.has["time_of_day"] in ("dawn", "sunset")
    x = rng.uniform(0.14, 0.5)
    y = stage.horizon * (rng.uniform(0.66, 0.86) if low else rng.uniform(0.2, 0.4))
    if what == "none":
        return
    stage.orb = (x, y)
    if what == "sun":
        sky.sun(stage.pixels, (x, y), light, low)
    else:
        sky.moon(stage.pixels, (x, y), light, what == "crescent moon")


def mountains(stage: Stage, base: float, height: float, kind: str = "range", haze: float = 0.35) -> None:
    """One or two ranges, the far one paler."""
    rng = stage.rng("mountains")
    rock = mix(land.ROCK, rgb(0.50, 0.40, 0.36), rng.random())
    colours = {"rock": rock, "snow": SNOW, "mist": stage.light.haze}
    for k, (far, scale) in enumerate(((haze + 0.25, 1.0), (haze, 0.72))):
        variant = int(rng.integers(5))
        table = palette(kind, variant, colours, stage.light, far)
        table[-2:] = stage.light.haze
        press_strip(stage.pixels, kind, variant, base + 0.02 * k, height * scale, table, rng, width=1.6)


def veil(stage: Stage) -> None:
    """Mist over what has been painted so far; what comes nearer stands out of it."""
    if stage.has["weather"] == "misty":
        land.mist(stage.pixels, stage.light, stage.horizon + 0.02, stage.rng("mist"))


def treeline(stage: Stage, kind: str, base: float, height: float, haze: float, layer: str) -> None:
    """A far edge of a wood."""
    rng = stage.rng(layer)
    name = "line of " + kind
    for scale in (1.0, 0.75)[: 2 if kind in ("autumn", "cherry") else 1]:
        colours = trees.leaf_colours(_species(kind), str(stage.has["season"]), rng)
        variant = int(rng.integers(3))
        table = palette(name, variant, colours, stage.light, haze)
        press_strip(stage.pixels, name, variant, base, height * scale, table, rng)


def _species(kind: str) -> str:
    return "evergreen" if kind.startswith("pine") else kind


def tree(
    stage: Stage, kind: str, x: float, base: float, height: float, haze: float, rng: np.random.Generator
) -> None:
    """One tree and its shadow."""
    variant = int(rng.integers(6))
    colours = trees.leaf_colours(_species(kind), str(stage.has["season"]), rng)
    wide = height * (0.22 if kind.startswith("pine") else 0.36)
    shadow(stage.pixels, (x + wide * 0.35, base - 0.004), wide, height * 0.05, 0.45)
    table = palette(kind, variant, colours, stage.light, haze)
    press(stage.pixels, kind, variant, (x, base), height, table)


def wood(stage: Stage, kind: str, spots: list[tuple[float, float, float]], layer: str) -> None:
    """Trees at (x, base, height), the far ones first and paler."""
    rng = stage.rng(layer)
    for x, base, height in sorted(spots, key=lambda spot: spot[1]):
        far = np.clip((0.80 - base) / (0.80 - stage.horizon + 1e-6), 0, 1)
        tree(stage, kind, x, base, height, 0.35 * float(far), rng)


def building(
    stage: Stage, kind: str, variant: int, at: tuple[float, float], height: float, haze: float = 0.0,
    **changes: Colour,
) -> None:
    """A building and its shadow."""
    colours = buildings.colours(stage.light, bool(stage.has["lit_windows"]), **changes)
    shadow(stage.pixels, (at[0] + height * 0.3, at[1] - 0.003), height * 0.8, height * 0.07, 0.5)
    table = palette(kind, variant, colours, stage.light, haze)
    press(stage.pixels, kind, variant, at, height, table)


def cabin(stage: Stage, at: tuple[float, float], height: float, haze: float = 0.0) -> None:
    """The log cabin, its light on the ground before it, its smoke."""
    rng, dark = stage.rng("cabin"), stage.light.dark
    kind = "cabin snow" if stage.white else "cabin"
    variant = int(rng.integers(3))
    roof = (rgb(0.36, 0.27, 0.22), rgb(0.45, 0.22, 0.17), rgb(0.30, 0.32, 0.30))[int(rng.integers(3))]
    building(stage, kind, variant, at, height, haze, roof=roof)
    if stage.has["lit_windows"]:
        warm = rgb(1.0, 0.62, 0.22) * np.float32(0.25 + 0.45 * dark)
        for x in (-0.41, -0.05, 0.2, 0.45):
            glow(stage.pixels, (at[0] + x * height, at[1] - 0.24 * height), height * 0.42, warm)
        glow(stage.pixels, (at[0], at[1] + 0.16 * height), height * 0.95, warm * np.float32(0.75))
    if stage.has["smoke"]:
        chimney = (at[0] + (0.27 - 0.12 * variant) * height, at[1] - 0.93 * height)
        air.smoke(stage.pixels, chimney, max(0.22, height * 1.1), stage.light, rng)


def foreground(stage: Stage, kind: str, rows: list[tuple[float, float]], layer: str) -> None:
    """Rows of grass or flowers at (base, height), nearer ones darker at the root."""
    rng = stage.rng(layer)
    blade = trees.GREENS[str(stage.has["season"])][0]
    petal, petal2 = petals(stage)
    colours = {"blade": blade, "petal": petal, "petal2": petal2, "heart": rgb(0.95, 0.75, 0.2)}
    for base, height in rows:
        variant = int(rng.integers(3))
        table = palette(kind, variant, colours, stage.light, 0.12 * (1.0 - base))
        press_strip(stage.pixels, kind, variant, base, height, table, rng, width=max(1.0, 10 * height))


def meadow_ground(stage: Stage, horizon: float) -> None:
    """Grass to the horizon."""
    near, far = trees.GREENS[str(stage.has["season"])]
    land.ground(stage.pixels, horizon, (near, far), stage.light, stage.rng("ground"))


def hill_colours(stage: Stage, rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Dark and light colour of a hillside in this season."""
    if stage.white:
        return rgb(0.84, 0.89, 1.0), SNOW
    if stage.has["season"] == "autumn":
        options = (
            (rgb(0.46, 0.34, 0.17), rgb(0.80, 0.64, 0.34)),
            (rgb(0.38, 0.40, 0.17), rgb(0.66, 0.64, 0.30)),
            (rgb(0.46, 0.28, 0.16), rgb(0.80, 0.52, 0.28)),
            (rgb(0.30, 0.38, 0.18), rgb(0.52, 0.56, 0.27)),
        )
        return options[int(rng.integers(4))]
    near, far = trees.GREENS[str(stage.has["season"])]
    return near * np.float32(rng.uniform(0.85, 1.05)), far * np.float32(rng.uniform(0.9, 1.1))


def winter(stage: Stage) -> None:
    """Winter wonderland: pines in snow, a log cabin, mountains, aurora."""
    rng, s, light = stage.rng("layout"), stage.pixels, stage.light
    horizon = rng.uniform(0.50, 0.60)
    paint_sky(stage, horizon)
    if stage.has["mountains"]:
        mountains(stage, horizon + 0.03, rng.uniform(0.26, 0.40), "peaks")
    treeline(stage, "pine snow", horizon + 0.015, rng.uniform(0.09, 0.13), 0.55, "far trees")
    treeline(stage, "pine snow", horizon + 0.035, rng.uniform(0.13, 0.18), 0.32, "near trees")
    land.snowfield(s, horizon, light, stage.rng("snow"))
    home = rng.uniform(0.36, 0.62)
    base = horizon + rng.uniform(0.15, 0.20)
    left, right = rng.uniform(0.0, 0.16), rng.uniform(0.84, 1.0)
    spots = [(float(x), horizon + 0.05 + 0.05 * float(u), 0.16 + 0.12 * float(v)) for x, u, v in rng.random((5, 3))]
    wood(stage, "pine snow", spots, "middle wood")
    veil(stage)
    if stage.has["building"] == "cabin":
        _trodden(stage, home, base)
        cabin(stage, (home, base), rng.uniform(0.20, 0.27))
    sides = [(left + 0.10, base + 0.06, rng.uniform(0.32, 0.42)), (right - 0.09, base + 0.08, rng.uniform(0.34, 0.46))]
    front = [(left, rng.uniform(0.96, 1.05), rng.uniform(0.62, 0.88)), (right, rng.uniform(0.92, 1.0), rng.uniform(0.5, 0.75))]
    wood(stage, "pine snow", sides + front[: int(rng.integers(1, 3))], "front wood")


def _trodden(stage: Stage, x: float, base: float) -> None:
    """A path trodden through the snow to the door."""
    size = len(stage.pixels)
    path = water.river_mask(size, base, 0.13, x - 0.08, stage.rng("path"))[..., None]
    stage.pixels *= 1 - path * (rgb(0.20, 0.17, 0.10))


def blossom(stage: Stage) -> None:
    """Cherry-blossom festival: a river garden under flowering trees and lanterns."""
    rng, s, light, has = stage.rng("layout"), stage.pixels, stage.light, stage.has
    horizon = rng.uniform(0.50, 0.57)
    paint_sky(stage, horizon)
    if has["mountains"]:
        mountains(stage, horizon + 0.03, rng.uniform(0.24, 0.34), "range", 0.5)
    treeline(stage, "cherry", horizon + 0.02, rng.uniform(0.10, 0.14), 0.5, "far trees")
    treeline(stage, "cherry", horizon + 0.04, rng.uniform(0.11, 0.15), 0.25, "near trees")
    meadow_ground(stage, horizon)
    _petal_carpet(stage, horizon)
    veil(stage)
    _pagoda(stage, horizon)
    river = None
    if has["water"] == "river":
        bend = stage.rng("bend")
        mask = water.river_mask(len(s), horizon + 0.03, rng.uniform(0.24, 0.32), rng.uniform(0.4, 0.6), bend)
        water.river(s, horizon + 0.03, mask, light, rgb(0.16, 0.34, 0.42), stage.rng("river"))
        if stage.orb:
            water.glitter(s, horizon + 0.03, stage.orb[0], light, stage.rng("glitter"), mask)
        river = mask
    if river is not None and has["bridge"]:
        _bridge(stage, river, horizon + rng.uniform(0.17, 0.23))
    spots = [(0.08, 0.70, 0.36), (0.93, 0.68, 0.34), (0.24, 0.62, 0.22), (0.80, 0.62, 0.22)]
    wood(stage, "cherry", [(x + rng.uniform(-0.04, 0.04), b, h * rng.uniform(0.9, 1.15)) for x, b, h in spots], "wood")
    side = -0.06 if _pagoda_x(stage) > 0.5 else 1.06
    wood(stage, "cherry", [(side, rng.uniform(0.98, 1.06), rng.uniform(0.85, 1.0))], "front tree")
    _people(stage, 3, (0.70, 0.88), river)
    if has["lanterns"]:
        _lantern_strings(stage)


def _pagoda_x(stage: Stage) -> float:
    return stage.rng("pagoda place").uniform(0.3, 0.7)


def _pagoda(stage: Stage, horizon: float) -> None:
    if stage.has["building"] != "pagoda":
        return
    rng, light = stage.rng("pagoda"), stage.light
    roof = (rgb(0.24, 0.30, 0.36), rgb(0.36, 0.26, 0.24), rgb(0.22, 0.36, 0.32))[int(rng.integers(3))]
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


def _people(
    stage: Stage, count: int, rows: tuple[float, float], river: Array | None = None
) -> None:
    """Passers-by, none of them in the river."""
    rng = stage.rng("people")
    for y in np.sort(rng.uniform(*rows, count)):
        coat = np.array(rng.uniform(0.15, 0.85, 3), dtype=np.float32)
        variant, x = int(rng.integers(6)), rng.uniform(0.12, 0.88)
        if river is not None and _wet_at(river, x, float(y)):
            continue
        height = 0.075 + 0.16 * (float(y) - rows[0])
        shadow(stage.pixels, (x + 0.02, float(y)), height * 0.45, height * 0.08, 0.5)
        table = palette("person", variant, buildings.COLOURS | {"coat": coat}, stage.light)
        press(stage.pixels, "person", variant, (x, float(y)), height, table)


def _wet_at(river: Array, x: float, y: float) -> bool:
    """Whether there is water about (x, y)."""
    size = len(river)
    row, reach = river[min(round(y * size), size - 1)], round(0.05 * size)
    middle = round(x * size)
    return bool(row[max(middle - reach, 0) : middle + reach].max() > 0.2)


def _lantern_strings(stage: Stage) -> None:
    """Strings of paper lanterns across the picture, glowing in the dark."""
    rng, dark = stage.rng("lanterns"), stage.light.dark
    paper = rgb(1.0, 0.34, 0.20) if rng.random() < 0.65 else rgb(1.0, 0.62, 0.25)
    bright = paper * np.float32(0.80 + 0.25 * dark)
    for k in range(2):
        left, right, sag = rng.uniform(-0.02, 0.10), rng.uniform(-0.02, 0.10), rng.uniform(0.04, 0.10)
        count, scale = 7 + k, 0.048 + 0.022 * k
        hang = lambda u: left + (right - left) * u + sag * 4 * u * (1 - u) + 0.03 + 0.05 * k  # noqa: E731
        _cord(stage.pixels, hang(sky.widths(len(stage.pixels))[0]))
        for u in (np.arange(count) + 0.5) / count:
            y = hang(u)
            at = (float(u), float(y))
            glow(stage.pixels, (at[0], at[1] + scale / 2), scale * 2.2, paper * np.float32(0.15 + 0.6 * dark))
            table = palette("lantern", k, {"litpaper": bright, "beam": rgb(0.2, 0.12, 0.1)}, stage.light)
            press(stage.pixels, "lantern", k, (at[0], at[1] + scale), scale, table)


def _cord(pixels: Array, line: Array) -> None:
    """A thin dark cord along y = line(x)."""
    near = np.abs(sky.heights(len(pixels)) - line[None, :].astype(np.float32))
    pixels *= 1 - 0.6 * smoothstep(0.0045, 0.002, near)[..., None]


def town(stage: Stage) -> None:
    """Old European town square: a row of façades round a cobbled square."""
    rng, s, light, has = stage.rng("layout"), stage.pixels, stage.light, stage.has
    base = rng.uniform(0.66, 0.71)
    paint_sky(stage, base)
    kind = "house" + " awning" * bool(has["awnings"]) + " flowers" * bool(has["flowers"])
    if has["church_tower"]:
        wall = rgb(0.80, 0.72, 0.60) * np.float32(rng.uniform(0.85, 1.1))
        roof = (rgb(0.33, 0.52, 0.46), rgb(0.42, 0.30, 0.30))[int(rng.integers(2))]
        at = (rng.uniform(0.3, 0.72), base - 0.02)
        building(stage, "tower", int(rng.integers(3)), at, rng.uniform(0.58, 0.66), 0.22, wall=wall, roof=roof)
    _cobbles(stage, base)
    middle = [(x, base, h) for x, h in zip(np.arange(0.10, 1.1, 0.185), rng.uniform(0.33, 0.42, 6), strict=False)]
    _houses(stage, kind, middle, 0.12, "row")
    veil(stage)
    _houses(stage, kind, [(-0.02, base + 0.10, 0.62), (1.02, base + 0.08, 0.58)], 0.0, "wings")
    if has["weather"] == "rainy":
        _wet(stage, base + 0.01)
    if has["awnings"]:
        _café(stage, base)
    if rng.random() < 0.4:
        x = rng.uniform(0.4, 0.6)
        shadow(s, (x, base + 0.16), 0.16, 0.02, 0.4)
        press(s, "fountain", 0, (x, base + 0.16), 0.13, palette("fountain", 0, buildings.COLOURS, light))
    _people(stage, 5, (base + 0.05, 0.93))
    if has["lanterns"]:
        _lamps(stage, base)


def _houses(stage: Stage, kind: str, spots: list[tuple[float, float, float]], haze: float, layer: str) -> None:
    rng = stage.rng(layer)
    roofs = (rgb(0.70, 0.33, 0.22), rgb(0.58, 0.28, 0.22), rgb(0.42, 0.36, 0.38))
    shutters = (rgb(0.26, 0.47, 0.42), rgb(0.30, 0.38, 0.58), rgb(0.52, 0.28, 0.20))
    awnings = (rgb(0.82, 0.20, 0.18), rgb(0.18, 0.42, 0.34), rgb(0.22, 0.36, 0.66))
    walls = rng.permutation(len(buildings.WALLS))
    for k, (x, base, height) in enumerate(spots):
        colours = {
            "wall": buildings.WALLS[int(walls[k])],
            "roof": mix(roofs[int(rng.integers(3))], SNOW, 0.85 if stage.white else 0.0),
            "shutter": shutters[int(rng.integers(3))],
            "awning": awnings[int(rng.integers(3))],
            "flower": (rgb(0.92, 0.22, 0.32), rgb(0.95, 0.5, 0.7))[int(rng.integers(2))],
        }
        building(stage, kind, int(rng.integers(8)), (float(x), base), float(height), haze, **colours)
        if stage.has["lit_windows"]:
            warm = rgb(1.0, 0.62, 0.25) * np.float32(0.08 + 0.22 * stage.light.dark)
            glow(stage.pixels, (float(x), base - 0.3 * float(height)), float(height) * 0.5, warm)
            glow(stage.pixels, (float(x), base + 0.02), float(height) * 0.35, warm)


def _cobbles(stage: Stage, base: float) -> None:
    pixels, light, rng = stage.pixels, stage.light, stage.rng("cobbles")
    if stage.white:
        land.ground(pixels, base - 0.03, (rgb(0.66, 0.70, 0.80), SNOW), light, rng, "cobble", 0.7, 0.1)
        return
    warm = rgb(0.36, 0.31, 0.29), rgb(0.80, 0.72, 0.62)
    land.ground(pixels, base - 0.03, warm, light, rng, "cobble", 1.0, 0.1)


def _wet(stage: Stage, shore: float) -> None:
    """Rain on the square mirrors the façades."""
    size = len(stage.pixels)
    top = round(shore * size)
    shine = water.mirror(stage.pixels, shore, stage.light, rgb(0.4, 0.42, 0.46), stage.rng("wet"), 0.85, 1.3)
    stage.pixels[top:] = 0.55 * stage.pixels[top:] + 0.42 * shine


def _café(stage: Stage, base: float) -> None:
    rng = stage.rng("café")
    awning = (rgb(0.82, 0.20, 0.18), rgb(0.20, 0.46, 0.38), rgb(0.90, 0.60, 0.20))[int(rng.integers(3))]
    for x in (0.14, 0.30, 0.74, 0.88):
        y, variant = base + rng.uniform(0.06, 0.14), int(rng.integers(3))
        table = palette("table", variant, buildings.COLOURS | {"awning": awning}, stage.light)
        shadow(stage.pixels, (x + 0.02, y), 0.07, 0.012, 0.5)
        press(stage.pixels, "table", variant, (x + rng.uniform(-0.04, 0.04), y), 0.12, table)


def _lamps(stage: Stage, base: float) -> None:
    rng, dark = stage.rng("lamps"), stage.light.dark
    lit = buildings.colours(stage.light, dark > 0.3)
    for x, y, height in ((0.24, base + 0.10, 0.30), (0.78, base + 0.07, 0.26), (0.5, base + 0.03, 0.2)):
        x += rng.uniform(-0.05, 0.05)
        press(stage.pixels, "lamp", 0, (x, y), height, palette("lamp", 0, lit, stage.light))
        if dark > 0.3:
            top = (x, y - height * 0.86)
            glow(stage.pixels, top, height * 0.6, rgb(1.0, 0.72, 0.35) * np.float32(0.75 * dark))
            glow(stage.pixels, (x, y + 0.01), height * 0.55, rgb(1.0, 0.66, 0.3) * np.float32(0.4 * dark))


def forest(stage: Stage) -> None:
    """A clearing among dark woods, an old oak, fireflies."""
    rng, s, light, has = stage.rng("layout"), stage.pixels, stage.light, stage.has
    horizon = rng.uniform(0.58, 0.64)
    paint_sky(stage, horizon)
    treeline(stage, "pine", horizon + 0.01, rng.uniform(0.24, 0.30), 0.72, "far trees")
    treeline(stage, "leafy" if has["season"] == "summer" else "autumn", horizon + 0.02, 0.22, 0.5, "middle trees")
    treeline(stage, "pine", horizon + 0.03, rng.uniform(0.24, 0.3), 0.28, "near trees")
    meadow_ground(stage, horizon)
    glow(s, (rng.uniform(0.4, 0.6), horizon + 0.16), 0.42, light.sun * rgb(0.5, 0.62, 0.45) * np.float32(0.8))
    veil(stage)
    sides = [(-0.02, 0.76, 0.62), (0.10, 0.70, 0.46), (0.92, 0.70, 0.5), (1.03, 0.78, 0.66)]
    wood(stage, "pine", [(x + rng.uniform(-0.03, 0.03), b, h * rng.uniform(0.9, 1.1)) for x, b, h in sides], "sides")
    if has["trees"] == "oak":
        at = (rng.uniform(0.56, 0.7), rng.uniform(0.80, 0.86))
        wood(stage, "oak", [(*at, rng.uniform(0.56, 0.68))], "oak")
    foreground(stage, "grass", [(0.83, 0.04), (0.88, 0.055), (0.94, 0.08), (1.01, 0.11), (1.08, 0.15)], "grass")
    if has["flowers"]:
        foreground(stage, "flowers", [(0.90, 0.07), (0.98, 0.10), (1.06, 0.14)], "wild flowers")
    if has["drifting"] == "fireflies":
        air.fireflies(s, 0.5, stage.rng("fireflies"))


def mountain_lake(stage: Stage) -> None:
    """A lake that mirrors peaks and woods."""
    rng, s, light, has = stage.rng("layout"), stage.pixels, stage.light, stage.has
    shore = rng.uniform(0.50, 0.58)
    paint_sky(stage, shore)
    mountains(stage, shore + 0.01, rng.uniform(0.38, 0.5), "peaks", 0.22)
    kind = {"evergreen": "pine", "autumn": "autumn"}[str(has["trees"])] + " snow" * stage.white
    treeline(stage, kind, shore + 0.004, rng.uniform(0.07, 0.10), 0.38, "far trees")
    land.hill(s, shore + 0.012, 0.035, hill_colours(stage, rng), light, 0.25, stage.rng("bank"))
    spots = [(float(x), shore + 0.008, 0.10 + 0.10 * float(u)) for x, u in rng.random((7, 2)) * (0.3, 1)]
    wood(stage, kind, spots, "shore wood")
    if has["building"] == "cabin":
        cabin(stage, (rng.uniform(0.62, 0.82), shore + 0.012), 0.12, 0.1)
    water.lake(s, shore + 0.012, light, rgb(0.10, 0.30, 0.40), stage.rng("lake"))
    if stage.orb:
        water.glitter(s, shore + 0.012, stage.orb[0], light, stage.rng("glitter"))
    _boats(stage, shore, (0.09, 0.2))
    veil(stage)
    bank = land.hill(s, 1.02, rng.uniform(0.10, 0.16), hill_colours(stage, rng), light, 0.0, stage.rng("front bank"), 1.7)
    _rocks(stage, bank, 3)
    if not stage.white:
        foreground(stage, "grass", [(0.99, 0.06), (1.04, 0.10)], "grass")
    if has["flowers"]:
        foreground(stage, "flowers", [(1.0, 0.08), (1.05, 0.13)], "wild flowers")
    x = float(rng.choice([0.03, 0.10, 0.92, 0.98]))
    wood(stage, kind, [(x, 1.0, rng.uniform(0.55, 0.8))], "front tree")


def _rocks(
    stage: Stage, bank: Array, count: int, heights: tuple[float, float] = (0.04, 0.09)
) -> None:
    rng = stage.rng("rocks")
    cap = SNOW if stage.white else rgb(0.56, 0.53, 0.50)
    for _ in range(count):
        x, variant = rng.uniform(0.05, 0.95), int(rng.integers(4))
        y = float(bank[int(x * len(bank))]) + rng.uniform(0.015, 0.05)
        table = palette("rocks", variant, {"rock": mix(rgb(0.5, 0.48, 0.46), cap, 0.4), "moss": cap}, stage.light)
        press(stage.pixels, "rocks", variant, (x, y), rng.uniform(*heights), table)


def _boats(
    stage: Stage, shore: float, scale: tuple[float, float], nearest: float = 0.2
) -> None:
    """Boats on the water between the shore and `nearest` from the foot, with their reflections."""
    what = stage.has["boats"]
    if what == "none":
        return
    rng = stage.rng("boats")
    kind = "sailboat" if what == "sailboats" else "rowboat"
    for k in range(int(rng.integers(2, 4)) if kind == "sailboat" else 1):
        x, near = (0.2 + 0.27 * k + rng.uniform(-0.1, 0.1)), (0.75, 0.45, 0.25)[k]
        y = shore + (0.88 - nearest - shore) * near + 0.03
        height = scale[0] + (scale[1] - scale[0]) * near
        height *= 1.0 if kind == "sailboat" else 0.38
        hull = (rgb(0.62, 0.16, 0.13), rgb(0.16, 0.28, 0.48), rgb(0.48, 0.31, 0.18))[int(rng.integers(3))]
        table = palette(kind, k, buildings.COLOURS | {"hull": hull}, stage.light, 0.15 * (1 - near))
        press(stage.pixels, kind, k, (x, y + height * 0.72), height * 0.75, table * np.float32(0.8), upside=True, opacity=0.5)
        shadow(stage.pixels, (x, y), height * 0.5, height * 0.05, 0.4)
        press(stage.pixels, kind, k, (x, y), height, table)


def seaside(stage: Stage) -> None:
    """The sea, a beach, a headland with a lighthouse."""
    rng, s, light, has = stage.rng("layout"), stage.pixels, stage.light, stage.has
    horizon = rng.uniform(0.46, 0.56)
    paint_sky(stage, horizon)
    water.sea(s, horizon, light, rgb(0.08, 0.38, 0.50), stage.rng("sea"))
    if stage.orb:
        water.glitter(s, horizon, stage.orb[0], light, stage.rng("glitter"))
    far = rng.uniform(0.02, 0.05)
    _headland(stage, horizon + 0.012, far, 0.6, 0.25, 0.55, "far headland")
    if has["building"] == "lighthouse":
        _lighthouse(stage, horizon, rng)
    _boats(stage, horizon + 0.05, (0.10, 0.22), 0.12)
    veil(stage)
    slope = np.linspace(rng.uniform(0.72, 0.86), rng.uniform(0.84, 1.0), len(s), dtype=np.float32)
    wave = (sky.widths(len(s))[0] * 7 + rng.uniform(0, 6)).astype(np.float32)
    beach = slope + 0.018 * np.sin(wave)
    water.surf(s, beach, light, (rgb(0.66, 0.52, 0.36), rgb(0.93, 0.82, 0.62)), stage.rng("surf"))
    _rocks(stage, beach - 0.03, 5, (0.05, 0.13))
    if rng.random() < 0.6:
        foreground(stage, "grass", [(1.03, 0.09), (1.06, 0.13)], "grass")
    if has["time_of_day"] != "night" and has["weather"] in ("clear", "cloudy"):
        air.birds(s, light, stage.rng("birds"))


def _headland(
    stage: Stage, base: float, rise: float, x0: float, reach: float, haze: float, layer: str
) -> Array:
    """Land that runs into the sea from the right: its top is y at each column (s,)."""
    pixels, light, rng = stage.pixels, stage.light, stage.rng(layer)
    size = len(pixels)
    x = sky.widths(size)[0]
    ramp = np.clip((x - x0) / reach, 0, 1)
    bumps = 0.22 * np.sin(x * 21 + rng.uniform(0, 6)) + 0.12 * np.sin(x * 47 + 2)
    top = (base - rise * ramp**0.45 * (1 + bumps * (ramp > 0) * ramp)).astype(np.float32)
    y = sky.heights(size)
    rock, folds = field("stone", size, rng), field("folds", size, rng)
    shade = np.clip(0.5 + 0.7 * (folds - 0.5) + 0.6 * (rock - 0.5), 0, 1)[..., None]
    grass = smoothstep(0.35, 0.15, (y - top) / np.maximum(base - top, 1e-3) + 0.6 * (rock - 0.5))[..., None]
    stone = mix(rgb(0.46, 0.38, 0.32) * light.shade, light.haze, haze) * (1 - shade) + shade * mix(
        rgb(0.80, 0.70, 0.58) * light.sun, light.haze, haze
    )
    turf = mix(rgb(0.32, 0.46, 0.20) * light.shade, light.haze, haze) * (1 - shade) + shade * mix(
        rgb(0.50, 0.62, 0.30) * light.sun, light.haze, haze
    )
    inside = (smoothstep(-0.003, 0.003, y - top) * smoothstep(0.004, -0.004, y - base) * (ramp > 0.0))[..., None]
    pixels += inside * (stone + grass * (turf - stone) - pixels)
    edge = np.exp(-(((y - base) / 0.006) ** 2)) * (ramp > 0)
    pixels += (0.6 * edge)[..., None] * (light.cloud_lit - pixels)
    return top


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


def hills(stage: Stage) -> None:
    """Autumn hills, wood behind wood."""
    rng, s, light, has = stage.rng("layout"), stage.pixels, stage.light, stage.has
    horizon = rng.uniform(0.42, 0.50)
    paint_sky(stage, horizon + 0.06)
    if has["mountains"]:
        mountains(stage, horizon + 0.06, rng.uniform(0.22, 0.30), "range", 0.55)
    for k in range(3):
        haze = 0.50 - 0.17 * k
        base, rise = horizon + 0.07 + 0.105 * k, rng.uniform(0.05, 0.09)
        treeline(stage, "autumn", base + 0.01, 0.035 + rise + 0.03 * k, haze, f"trees {k}")
        crest = land.hill(s, base, rise, hill_colours(stage, rng), light, haze, stage.rng(f"hill {k}"))
        _scatter(stage, "autumn", crest, 6, 0.06 + 0.03 * k, haze * 0.8, f"scatter {k}")
    if has["building"] == "chapel":
        at = (rng.uniform(0.35, 0.7), horizon + 0.24)
        building(stage, "chapel", 0, at, rng.uniform(0.17, 0.22), 0.1, roof=rgb(0.48, 0.25, 0.2))
    elif has["building"] == "cabin":
        cabin(stage, (rng.uniform(0.38, 0.66), horizon + 0.27), rng.uniform(0.14, 0.18), 0.06)
    veil(stage)
    near = horizon + (0.30 if has["water"] == "river" else 0.37)
    last = land.hill(s, near, 0.06, hill_colours(stage, rng), light, 0.03, stage.rng("near hill"))
    if has["water"] == "river":
        _meadow_river(stage, near - 0.01)
    else:
        _scatter(stage, "autumn", last, 4, 0.16, 0.05, "near trees")
    foreground(stage, "grass", [(1.0, 0.05), (1.06, 0.09)], "grass")
    x = float(rng.choice([-0.02, 0.08, 0.90, 1.0]))
    wood(stage, "autumn", [(x, rng.uniform(0.96, 1.02), rng.uniform(0.6, 0.8))], "front tree")


def _scatter(stage: Stage, kind: str, crest: Array, count: int, height: float, haze: float, layer: str) -> None:
    """Single trees along the slope below a crest."""
    rng = stage.rng(layer)
    for x, u, v in sorted(rng.random((count, 3)).tolist(), key=lambda spot: spot[1]):
        base = float(crest[int(x * (len(crest) - 1))]) + 0.015 + 0.05 * u
        tree(stage, kind, x, base, height * (0.7 + 0.6 * v), haze, rng)


def _meadow_river(stage: Stage, top: float) -> None:
    rng = stage.rng("river")
    wide, at = rng.uniform(0.17, 0.25), rng.uniform(0.35, 0.65)
    mask = water.river_mask(len(stage.pixels), top, wide, at, rng)
    water.river(stage.pixels, top, mask, stage.light, rgb(0.16, 0.36, 0.48), rng)
    if stage.orb:
        water.glitter(stage.pixels, top, stage.orb[0], stage.light, rng, mask)


def meadow(stage: Stage) -> None:
    """A flowering meadow under a wide sky."""
    rng, s, light, has = stage.rng("layout"), stage.pixels, stage.light, stage.has
    horizon = rng.uniform(0.50, 0.60)
    paint_sky(stage, horizon)
    if has["mountains"]:
        mountains(stage, horizon + 0.03, rng.uniform(0.22, 0.32), "range", 0.5)
    crest = land.hill(s, horizon + 0.03, 0.07, hill_colours(stage, rng), light, 0.5, stage.rng("far hill"))
    if has["trees"] == "leafy":
        treeline(stage, "leafy", horizon + 0.03, 0.07, 0.42, "far trees")
    crest = land.hill(s, horizon + 0.08, 0.08, hill_colours(stage, rng), light, 0.22, stage.rng("hill"), 2.3)
    _meadow_building(stage, crest, rng)
    if has["trees"] == "leafy":
        _scatter(stage, "leafy", crest, 5, 0.13, 0.2, "hill trees")
    meadow_ground(stage, horizon + 0.085)
    for k in range(2):
        fold = stage.rng(f"fold {k}")
        land.hill(s, horizon + 0.15 + 0.10 * k, 0.07, hill_colours(stage, rng), light, 0.12 - 0.07 * k, fold, 1.9, "grass", 0.03)
    if has["water"] == "river":
        _meadow_river(stage, horizon + 0.10)
    else:
        _path(stage, horizon + 0.10)
    if has["flowers"]:
        _bloom(stage, horizon + 0.10)
    if has["trees"] == "leafy":
        _bushes(stage, horizon + 0.10)
    veil(stage)
    rows = [(0.83, 0.04), (0.88, 0.055), (0.94, 0.08), (1.01, 0.11), (1.08, 0.15)]
    near = rows if has["water"] == "none" else rows[2:]
    foreground(stage, "flowers" if has["flowers"] else "grass", near, "grass")
    if has["trees"] == "leafy" and rng.random() < 0.7:
        x = float(rng.choice([0.02, 0.14, 0.88, 1.0]))
        wood(stage, "leafy", [(x, rng.uniform(0.84, 0.95), rng.uniform(0.5, 0.68))], "front tree")
    if has["time_of_day"] == "day":
        air.birds(s, light, stage.rng("birds"))


PETALS = (
    (rgb(0.92, 0.20, 0.20), rgb(0.98, 0.95, 0.90)),
    (rgb(0.62, 0.38, 0.82), rgb(0.98, 0.84, 0.30)),
    (rgb(0.98, 0.96, 0.92), rgb(0.95, 0.55, 0.70)),
    (rgb(0.96, 0.80, 0.22), rgb(0.32, 0.45, 0.90)),
)


def petals(stage: Stage) -> tuple[Colour, Colour]:
    """The two colours of this scene's wild flowers."""
    return PETALS[int(stage.rng("petals").integers(len(PETALS)))]


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
    rng, size = stage.rng("path"), len(stage.pixels)
    mask = water.river_mask(size, top, rng.uniform(0.06, 0.10), rng.uniform(0.35, 0.65), rng)
    grain = field("stone", size, rng)[..., None]
    earth = rgb(0.72, 0.60, 0.42) * (stage.light.shade + (stage.light.sun - stage.light.shade) * grain)
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


def _meadow_building(stage: Stage, crest: Array, rng: np.random.Generator) -> None:
    what, x = stage.has["building"], rng.uniform(0.35, 0.72)
    at = (x, float(crest[int(x * len(crest))]) + 0.03)
    if what == "windmill":
        wall = (rgb(0.88, 0.82, 0.72), rgb(0.62, 0.42, 0.30))[int(rng.integers(2))]
        building(stage, "windmill", int(rng.integers(3)), at, rng.uniform(0.30, 0.38), 0.06, wall=wall)
    elif what == "chapel":
        building(stage, "chapel", 0, at, rng.uniform(0.19, 0.24), 0.08)


PLACES: dict[str, Place] = {
    "winter wonderland": winter,
    "cherry blossom festival": blossom,
    "town square": town,
    "forest clearing": forest,
    "mountain lake": mountain_lake,
    "seaside": seaside,
    "autumn hills": hills,
    "meadow": meadow,
}


def weather(stage: Stage) -> None:
    """What hangs or falls in the air before everything else."""
    s, light, has = stage.pixels, stage.light, stage.has
    rng = stage.rng("weather")
    if has["weather"] == "rainy":
        air.rain(s, light, rng)
    elif has["weather"] == "snowy":
        air.snowfall(s, light, rng)
    drifting = stage.rng("drifting")
    if has["drifting"] == "petals":
        inks = [rgb(1.0, 0.70, 0.80), rgb(1.0, 0.86, 0.90)]
        air.falling(s, "petal", 70, (0.010, 0.034), inks, light, drifting)
    elif has["drifting"] == "leaves":
        inks = [rgb(0.90, 0.42, 0.10), rgb(0.96, 0.72, 0.18), rgb(0.76, 0.20, 0.10)]
        air.falling(s, "fallen leaf", 48, (0.012, 0.040), inks, light, drifting)
