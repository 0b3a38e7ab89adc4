"""A painting under way, and what several kinds of place are made of."""

import zlib
from dataclasses import dataclass

import numpy as np

from course.scenery import air, buildings, land, sky, trees, water
from course.scenery.fields import Array, pick
from course.scenery.light import Colour, Light, mix, rgb
from course.scenery.stamps import gap, glow, palette, press, press_strip, shadow
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


SNOW = land.SNOW


def paint_sky(
    stage: Stage,
    horizon: float,
    across: tuple[float, float] = (0.16, 0.5),
    low: tuple[float, float] = (0.20, 0.26),
    high: tuple[float, float] = (0.10, 0.18),
) -> None:
    """Everything above the horizon that is not land.

    Sun or moon stand at x within `across`, y within `high`, or `low` above the horizon at dawn
    and sunset: where the place keeps the sky free.
    """
    s, light, has = stage.pixels, stage.light, stage.has
    stage.horizon = horizon
    sky.gradient(s, light, horizon, stage.rng("sky"))
    if has["stars"]:
        sky.stars(s, horizon, stage.rng("stars"))
    if has["aurora"]:
        sky.aurora(s, horizon, stage.rng("aurora"))
    _orb(stage, across, low, high)
    cover = {"clear": 0.0, "cloudy": 0.62, "misty": 0.25, "rainy": 0.85, "snowy": 0.72}
    amount = cover[str(has["weather"])]
    rng = stage.rng("clouds")
    wisps = 0.0 if has["time_of_day"] == "night" else rng.uniform(0.02, 0.17)
    sky.clouds(s, light, horizon, max(amount * rng.uniform(0.9, 1.1), wisps), stage.orb, rng)


Span = tuple[float, float]


def _orb(stage: Stage, across: Span, low_above: Span, high: Span) -> None:
    rng, light, what = stage.rng("orb"), stage.light, stage.has["celestial"]
    low = stage.has["time_of_day"] in ("dawn", "sunset")
    x = rng.uniform(*across)
    y = stage.horizon - rng.uniform(*low_above) if low else rng.uniform(*high)
    if what == "none":
        return
    stage.orb = (x, y)
    if what == "sun":
        sky.sun(stage.pixels, (x, y), light, low)
    else:
        sky.moon(stage.pixels, (x, y), light, what == "crescent moon")


def mountains(
    stage: Stage, base: float, height: float, kind: str = "range", haze: float = 0.35
) -> None:
    """One or two ranges, the far one paler."""
    rng = stage.rng("mountains")
    rock = mix(land.ROCK, rgb(0.50, 0.40, 0.36), rng.random())
    colours = {"rock": rock, "snow": SNOW, "mist": stage.light.haze}
    for k, (far, scale) in enumerate(((haze + 0.25, 1.0), (haze, 0.72))):
        variant = int(rng.integers(5))
        table = palette(kind, variant, colours, stage.light, far)
        table[-2:] = stage.light.haze
        shift = gap(kind, variant, stage.orb[0] if stage.orb else 0.3, 1.6, rng)
        press_strip(stage.pixels, kind, variant, base + 0.02 * k, height * scale, table, shift, 1.6)


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
        press_strip(stage.pixels, name, variant, base, height * scale, table, rng.random())


def _species(kind: str) -> str:
    return "evergreen" if kind.startswith("pine") else kind


def tree(
    stage: Stage,
    kind: str,
    x: float,
    base: float,
    height: float,
    haze: float,
    rng: np.random.Generator,
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
    stage: Stage,
    kind: str,
    variant: int,
    at: tuple[float, float],
    height: float,
    haze: float = 0.0,
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
    roof = pick(rng, (rgb(0.36, 0.27, 0.22), rgb(0.45, 0.22, 0.17), rgb(0.30, 0.32, 0.30)))
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
        press_strip(
            stage.pixels, kind, variant, base, height, table, rng.random(), max(1.0, 10 * height)
        )


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
        return pick(rng, options)
    near, far = trees.GREENS[str(stage.has["season"])]
    return near * np.float32(rng.uniform(0.85, 1.05)), far * np.float32(rng.uniform(0.9, 1.1))


PETALS = (
    (rgb(0.92, 0.20, 0.20), rgb(0.98, 0.95, 0.90)),
    (rgb(0.62, 0.38, 0.82), rgb(0.98, 0.84, 0.30)),
    (rgb(0.98, 0.96, 0.92), rgb(0.95, 0.55, 0.70)),
    (rgb(0.96, 0.80, 0.22), rgb(0.32, 0.45, 0.90)),
)


def petals(stage: Stage) -> tuple[Colour, Colour]:
    """The two colours of this scene's wild flowers."""
    return pick(stage.rng("petals"), PETALS)


def scatter(
    stage: Stage, kind: str, crest: Array, count: int, height: float, haze: float, layer: str
) -> None:
    """Single trees along the slope below a crest."""
    rng = stage.rng(layer)
    for x, u, v in sorted(rng.random((count, 3)).tolist(), key=lambda spot: spot[1]):
        base = float(crest[int(x * (len(crest) - 1))]) + 0.015 + 0.05 * u
        tree(stage, kind, x, base, height * (0.7 + 0.6 * v), haze, rng)


def rocks(
    stage: Stage, bank: Array, count: int, heights: tuple[float, float] = (0.04, 0.09)
) -> None:
    rng = stage.rng("rocks")
    cap = SNOW if stage.white else rgb(0.56, 0.53, 0.50)
    for _ in range(count):
        x, variant = rng.uniform(0.05, 0.95), int(rng.integers(4))
        y = float(bank[int(x * len(bank))]) + rng.uniform(0.015, 0.05)
        table = palette(
            "rocks",
            variant,
            {"rock": mix(rgb(0.5, 0.48, 0.46), cap, 0.4), "moss": cap},
            stage.light,
        )
        press(stage.pixels, "rocks", variant, (x, y), rng.uniform(*heights), table)


def boats(stage: Stage, shore: float, scale: tuple[float, float], nearest: float = 0.2) -> None:
    """Boats on the water between the shore and `nearest` from the foot of the picture."""
    what, rng = stage.has["boats"], stage.rng("boats")
    count = {"none": 0, "rowboat": 1, "sailboats": int(rng.integers(2, 4))}[str(what)]
    for k in range(count):
        x, near = 0.34 + 0.19 * k + rng.uniform(-0.06, 0.06), (0.75, 0.45, 0.25)[k]
        height = scale[0] + (scale[1] - scale[0]) * near
        at = (x, shore + (0.88 - nearest - shore) * near + 0.03)
        if what == "sailboats":
            _afloat(stage, "sailboat", k, at, height, 0.15 * (1 - near), rng)
        else:
            _afloat(stage, "rowboat", k, at, height * 0.42, 0.0, rng)


def _afloat(
    stage: Stage,
    kind: str,
    variant: int,
    at: tuple[float, float],
    height: float,
    haze: float,
    rng: np.random.Generator,
) -> None:
    """A boat and its broken reflection."""
    hull = pick(rng, (rgb(0.62, 0.16, 0.13), rgb(0.16, 0.28, 0.48), rgb(0.48, 0.31, 0.18)))
    table = palette(kind, variant, buildings.COLOURS | {"hull": hull}, stage.light, haze)
    below = (at[0], at[1] + height * 0.72)
    dim = table * np.float32(0.8)
    press(stage.pixels, kind, variant, below, height * 0.75, dim, opacity=0.5, upside=True)
    shadow(stage.pixels, at, height * 0.5, height * 0.05, 0.4)
    press(stage.pixels, kind, variant, at, height, table)


def people(stage: Stage, count: int, rows: tuple[float, float], river: Array | None = None) -> None:
    """Passers-by, none of them in the river."""
    rng = stage.rng("people")
    for y in np.sort(rng.uniform(*rows, count)):
        coat = np.array(rng.uniform(0.15, 0.85, 3), dtype=np.float32)
        variant, x = int(rng.integers(6)), rng.uniform(0.12, 0.88)
        if river is not None and wet_at(river, x, float(y)):
            continue
        height = 0.075 + 0.16 * (float(y) - rows[0])
        shadow(stage.pixels, (x + 0.02, float(y)), height * 0.45, height * 0.08, 0.5)
        table = palette("person", variant, buildings.COLOURS | {"coat": coat}, stage.light)
        press(stage.pixels, "person", variant, (x, float(y)), height, table)


def wet_at(river: Array, x: float, y: float) -> bool:
    """Whether there is water about (x, y)."""
    size = len(river)
    row, reach = river[min(round(y * size), size - 1)], round(0.05 * size)
    middle = round(x * size)
    return bool(row[max(middle - reach, 0) : middle + reach].max() > 0.2)


def winding_river(stage: Stage, top: float) -> None:
    rng = stage.rng("river")
    wide, at = rng.uniform(0.17, 0.25), rng.uniform(0.35, 0.65)
    mask = water.river_mask(len(stage.pixels), top, wide, at, rng)
    water.river(stage.pixels, top, mask, stage.light, rgb(0.16, 0.36, 0.48), rng)
    if stage.orb:
        water.glitter(stage.pixels, top, stage.orb[0], stage.light, rng, mask)


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
        air.falling(s, "petal", 95, (0.014, 0.044), inks, light, drifting)
    elif has["drifting"] == "leaves":
        inks = [rgb(0.90, 0.42, 0.10), rgb(0.96, 0.72, 0.18), rgb(0.76, 0.20, 0.10)]
        air.falling(s, "fallen leaf", 64, (0.018, 0.052), inks, light, drifting)
