"""Cabins, town houses, towers, lighthouses, windmills, bridges, boats, lamps: as stamps."""

import numpy as np

from course.scenery.light import Colour, Light, rgb
from course.scenery.stamps import Points, Stamp, Stencil, makes

# Colours of materials; a painter overrides what varies from house to house.
COLOURS: dict[str, Colour] = {
    "wall": rgb(0.93, 0.84, 0.66),
    "trim": rgb(0.95, 0.93, 0.86),
    "beam": rgb(0.33, 0.22, 0.15),
    "roof": rgb(0.70, 0.33, 0.22),
    "stone": rgb(0.62, 0.57, 0.52),
    "pane": rgb(0.26, 0.32, 0.42),
    "lit": rgb(1.0, 0.80, 0.36),
    "shutter": rgb(0.26, 0.47, 0.42),
    "flower": rgb(0.92, 0.22, 0.32),
    "green": rgb(0.24, 0.48, 0.20),
    "awning": rgb(0.82, 0.20, 0.18),
    "cream": rgb(0.97, 0.93, 0.82),
    "log": rgb(0.52, 0.33, 0.20),
    "snow": rgb(0.95, 0.97, 1.0),
    "white": rgb(0.96, 0.95, 0.92),
    "red": rgb(0.82, 0.17, 0.14),
    "dark": rgb(0.16, 0.14, 0.17),
    "gold": rgb(0.90, 0.72, 0.30),
    "sail": rgb(0.98, 0.95, 0.88),
    "hull": rgb(0.45, 0.20, 0.14),
    "skin": rgb(0.85, 0.65, 0.52),
}
WALLS = (
    rgb(0.95, 0.82, 0.55),
    rgb(0.90, 0.62, 0.48),
    rgb(0.93, 0.88, 0.76),
    rgb(0.72, 0.80, 0.74),
    rgb(0.80, 0.55, 0.46),
    rgb(0.70, 0.77, 0.86),
    rgb(0.96, 0.76, 0.70),
)


def colours(light: Light, lit: bool, **changes: Colour) -> dict[str, Colour]:
    """The colours of a building; unlit windows show dark panes instead of lamplight."""
    glass = COLOURS["lit"] if lit else COLOURS["pane"] * (light.shade + light.sun) / 2
    return COLOURS | {"lit": glass} | changes


HOUSE = ("wall", "trim", "beam", "roof", "pane", "lit", "shutter", "flower", "green", "awning")


def _window(
    pen: Stencil, x: float, y: float, w: float, h: float, flowers: bool, shut: bool
) -> None:
    if shut:
        for side in (-1, 1):
            c = x + side * w * 0.82
            pen.box(c - w * 0.27, y, c + w * 0.27, y + h, "shutter", 0.75 - 0.15 * side)
    pen.box(x - w * 0.58, y - 0.008, x + w * 0.58, y + h + 0.008, "trim", 0.8)
    material = "lit" if pen.rng.random() < 0.62 else "pane"
    pen.box(x - w * 0.46, y, x + w * 0.46, y + h, material, 0.75)
    pen.box(x - w * 0.46, y, x + w * 0.46, y + h * 0.16, material, 0.25)
    pen.stroke([(x, y), (x, y + h)], 0.006, "trim", 0.6)
    pen.stroke([(x - w * 0.46, y + h * 0.45), (x + w * 0.46, y + h * 0.45)], 0.006, "trim", 0.6)
    if flowers:
        for dx in pen.rng.uniform(-0.75, 0.75, 13):
            material = "flower" if pen.rng.random() < 0.66 else "green"
            at = (x + dx * w, y + h + pen.rng.uniform(-0.014, 0.022))
            pen.dab(*at, 0.016, 0.014, material, pen.rng.uniform(0.4, 1))


def _gable(pen: Stencil, style: int, x0: float, x1: float, eaves: float) -> None:
    """The top of a façade: a pointed gable, a stepped one, a roof seen from the eaves, a hip."""
    middle = (x0 + x1) / 2
    if style == 0:
        pen.shape([(x0 - 0.02, eaves), (middle, 0.02), (x1 + 0.02, eaves)], "roof", 0.75)
        pen.shape([(x0 + 0.02, eaves), (middle, 0.07), (x1 - 0.02, eaves)], "wall", 0.72)
    elif style == 1:
        for k in range(4):
            inset = (x1 - x0) * 0.12 * k
            y = eaves - (eaves - 0.03) * (k + 1) / 4
            pen.box(x0 + inset, y, x1 - inset, eaves, "wall", 0.72)
            pen.box(x0 + inset, y, x1 - inset, y + 0.013, "trim", 0.9)
    else:
        _eaves_roof(pen, 0.03 if style == 2 else 0.11, x0, x1, eaves)
    if style < 2:
        _window(pen, middle, eaves * 0.55, 0.07, 0.09, False, False)


def _eaves_roof(pen: Stencil, lean: float, x0: float, x1: float, eaves: float) -> None:
    """A tiled roof seen from its eaves, with a chimney and a dormer."""
    middle = (x0 + x1) / 2
    top = 0.07
    pen.shape(
        [(x0 - 0.02, eaves), (x0 + lean, top), (x1 - lean, top), (x1 + 0.02, eaves)],
        "roof",
        0.7,
    )
    for y in np.arange(top + 0.02, eaves, 0.022):
        inset = (lean + 0.02) * (eaves - y) / (eaves - top) - 0.015
        ends = [(x0 + inset, y), (x1 - inset, y + 0.003)]
        pen.stroke(ends, 0.006, "roof", pen.rng.uniform(0.3, 0.6))
    pen.box(x1 - 0.12, 0.02, x1 - 0.07, top + 0.05, "beam", 0.6)
    pen.box(middle - 0.05, top + 0.05, middle + 0.05, eaves - 0.02, "wall", 0.8)
    pen.shape(
        [(middle - 0.07, top + 0.06), (middle, top), (middle + 0.07, top + 0.06)], "roof", 0.9
    )
    pen.box(middle - 0.03, top + 0.07, middle + 0.03, eaves - 0.03, "lit", 0.7)


def _timber(pen: Stencil, x0: float, x1: float, y0: float, y1: float) -> None:
    for y in (y0, (y0 + y1) / 2, y1):
        pen.stroke([(x0, y), (x1, y)], 0.015, "beam", 0.5)
    for x in np.linspace(x0, x1, 5):
        pen.stroke([(x, y0), (x, y1)], 0.013, "beam", 0.5)
    for k in range(4):
        w = (x1 - x0) / 4
        ends: Points = [(x0 + w * k, y1), (x0 + w * (k + 1), (y0 + y1) / 2)]
        pen.stroke(
            ends if k % 2 else [(ends[0][0] + w, y1), (ends[1][0] - w, ends[1][1])],
            0.01,
            "beam",
            0.5,
        )


@makes("house", "house awning", "house flowers", "house awning flowers", variants=8)
def _house(kind: str, variant: int) -> Stamp:
    """A town house: shop or door below, two storeys of windows, one of four gables."""
    width = 0.46 + 0.03 * (variant % 3)
    pen = Stencil(400, width + 0.06, HOUSE, 600 + variant)
    x0, x1, eaves = 0.03, 0.03 + width, 0.27 + 0.02 * (variant % 2)
    _gable(pen, variant % 4, x0, x1, eaves)
    pen.box(x0, eaves, x1, 1.0, "wall", 0.74)
    pen.box(x1 - 0.03, eaves, x1, 1.0, "wall", 0.45)
    pen.box(x0, eaves, x1, eaves + 0.02, "wall", 0.3)
    pen.stroke([(x0, eaves), (x1, eaves)], 0.014, "trim", 0.7)
    if variant in (1, 4, 6):
        _timber(pen, x0, x1, eaves + 0.02, 0.70)
    columns = 3 if variant % 3 else 2
    for y in (eaves + 0.06, eaves + 0.24):
        for x in (np.arange(columns) + 0.5) / columns * width + x0:
            _window(pen, x, y, 0.075, 0.11, "flowers" in kind, variant % 2 == 0)
    _shop(pen, x0, x1, "awning" in kind)
    return pen.stamp("stone", 0.30)


def _shop(pen: Stencil, x0: float, x1: float, awning: bool) -> None:
    """The ground floor: a door, a shop window, perhaps a striped awning over it."""
    pen.box(x0, 0.965, x1, 1.0, "beam", 0.75)
    pen.box(x0 + 0.04, 0.80, x0 + 0.14, 1.0, "trim", 0.7)
    pen.box(x0 + 0.055, 0.815, x0 + 0.125, 1.0, "shutter", 0.45)
    pen.box(x0 + 0.18, 0.80, x1 - 0.03, 0.955, "trim", 0.75)
    pen.box(x0 + 0.195, 0.815, x1 - 0.045, 0.945, "lit", 0.7)
    pen.stroke([((x0 + x1) / 2 + 0.08, 0.815), ((x0 + x1) / 2 + 0.08, 0.945)], 0.008, "trim", 0.5)
    if not awning:
        return
    left, right, stripes = x0 + 0.0, x1 + 0.01, 8
    w = (right - left) / stripes
    for k in range(stripes):
        a = left + w * k
        corners = [(a + 0.015, 0.745), (a + w + 0.005, 0.745), (a + w, 0.845), (a, 0.845)]
        pen.shape(corners, "awning" if k % 2 == 0 else "trim", 0.9)
        pen.dab(a + w / 2, 0.847, w / 2, 0.018, "awning" if k % 2 == 0 else "trim", 0.55)
    pen.stroke([(left, 0.872), (right, 0.872)], 0.012, "wall", 0.15)


@makes("tower", variants=3)
def _tower(kind: str, variant: int) -> Stamp:
    """A church tower with a clock under a spire or an onion dome."""
    pen = Stencil(420, 0.34, ("wall", "trim", "roof", "dark", "gold", "litclock"), 640 + variant)
    x0, x1, top = 0.07, 0.27, 0.42
    middle = 0.17
    if variant == 1:
        pen.dab(middle, 0.34, 0.115, 0.10, "roof", 0.6)
        pen.dab(middle - 0.03, 0.32, 0.06, 0.07, "roof", 0.95)
        pen.shape([(middle - 0.045, 0.27), (middle, 0.05), (middle + 0.045, 0.27)], "roof", 0.7)
    else:
        pen.shape([(x0 - 0.02, top), (middle, 0.04), (x1 + 0.02, top)], "roof", 0.35)
        pen.shape([(x0 - 0.02, top), (middle, 0.04), (middle + 0.02, top)], "roof", 0.9)
    pen.stroke([(middle, 0.0), (middle, 0.07)], 0.008, "gold", 0.9)
    pen.box(x0, top, x1, 1.0, "wall", 0.78)
    pen.box(middle + 0.045, top, x1, 1.0, "wall", 0.4)
    for y in (top, 0.62, 0.83):
        pen.box(x0 - 0.012, y, x1 + 0.012, y + 0.018, "trim", 0.75)
    pen.dab(middle - 0.01, 0.525, 0.055, 0.052, "gold", 0.8)
    pen.dab(middle - 0.01, 0.525, 0.043, 0.041, "litclock", 0.95)
    pen.stroke(
        [(middle - 0.01, 0.495), (middle - 0.01, 0.525), (middle + 0.015, 0.54)], 0.008, "dark", 0.2
    )
    for y in (0.66, 0.87):
        pen.box(middle - 0.035, y, middle + 0.015, y + 0.10, "dark", 0.3)
        pen.dab(middle - 0.01, y, 0.025, 0.025, "dark", 0.3)
    return pen.stamp("stone", 0.28)


@makes("cabin", "cabin snow", variants=3)
def _cabin(kind: str, variant: int) -> Stamp:
    """A log cabin in three-quarter view: gable with the door, long wall, stone chimney."""
    pen = Stencil(300, 1.5, ("log", "beam", "roof", "snow", "stone", "pane", "lit"), 660 + variant)
    snowy = "snow" in kind
    chimney = 1.02 - 0.12 * variant
    pen.box(chimney - 0.06, 0.06, chimney + 0.06, 0.36, "stone", 0.65)
    pen.box(chimney + 0.02, 0.06, chimney + 0.06, 0.36, "stone", 0.3)
    pen.box(0.52, 0.55, 1.36, 0.98, "log", 0.4)
    pen.shape([(0.14, 0.98), (0.14, 0.55), (0.34, 0.24), (0.54, 0.55), (0.54, 0.98)], "log", 0.8)
    _logs(pen)
    cover = "snow" if snowy else "roof"
    pen.shape([(0.33, 0.17), (1.22, 0.17), (1.44, 0.60), (0.57, 0.60)], cover, 0.8)
    for x, y in pen.rng.random((90, 2)):
        at = (0.36 + 0.22 * y + 0.78 * x, 0.19 + 0.39 * y)
        pen.stroke([at, (at[0] + 0.09, at[1])], 0.014, cover, pen.rng.uniform(0.5, 1.0))
    pen.stroke([(0.58, 0.60), (1.44, 0.60)], 0.03, cover, 0.35)
    pen.stroke([(0.07, 0.63), (0.335, 0.19), (0.59, 0.63)], 0.055, cover, 0.92)
    pen.stroke([(0.09, 0.665), (0.335, 0.245), (0.58, 0.665)], 0.02, "beam", 0.25)
    if snowy:
        pen.dab(chimney, 0.06, 0.075, 0.025, "snow", 0.9)
    _cabin_openings(pen, snowy)
    return pen.stamp("stone", 0.25)


def _logs(pen: Stencil) -> None:
    for y in np.arange(0.34, 0.98, 0.05):
        half = min(0.2, (y - 0.24) * 0.65)
        pen.stroke([(0.34 - half, y), (0.34 + half, y)], 0.014, "log", 0.30)
        if y > 0.6:
            pen.stroke([(0.54, y), (1.36, y)], 0.014, "log", 0.06)
            pen.stroke([(0.54, y - 0.024), (1.36, y - 0.024)], 0.010, "log", 0.58)


def _cabin_openings(pen: Stencil, snowy: bool) -> None:
    pen.box(0.27, 0.66, 0.41, 0.98, "beam", 0.55)
    pen.box(0.285, 0.68, 0.395, 0.80, "lit", 0.9)
    pen.dab(0.34, 0.46, 0.045, 0.045, "lit", 0.9)
    for x in (0.68, 0.94, 1.2):
        pen.box(x - 0.085, 0.67, x + 0.085, 0.87, "beam", 0.6)
        pen.box(x - 0.07, 0.685, x + 0.07, 0.855, "lit", 0.95)
        pen.stroke([(x, 0.685), (x, 0.855)], 0.014, "beam", 0.5)
        pen.stroke([(x - 0.07, 0.77), (x + 0.07, 0.77)], 0.014, "beam", 0.5)
        if snowy:
            pen.stroke([(x - 0.09, 0.88), (x + 0.09, 0.88)], 0.022, "snow", 0.8)
    if snowy:
        for x in np.linspace(0.1, 1.42, 18):
            pen.dab(x, 1.0, 0.09, pen.rng.uniform(0.02, 0.05), "snow", pen.rng.uniform(0.45, 0.9))


@makes("chapel", variants=2)
def _chapel(kind: str, variant: int) -> Stamp:
    """A small white church: nave, tower, pointed spire."""
    pen = Stencil(260, 0.9, ("white", "roof", "dark", "gold"), 680 + variant)
    pen.box(0.30, 0.68, 0.86, 1.0, "white", 0.5)
    pen.shape([(0.30, 0.46), (0.80, 0.46), (0.89, 0.70), (0.30, 0.70)], "roof", 0.62)
    for x in (0.46, 0.60, 0.74):
        pen.box(x - 0.022, 0.78, x + 0.022, 0.92, "dark", 0.5)
    pen.box(0.12, 0.40, 0.34, 1.0, "white", 0.9)
    pen.box(0.28, 0.40, 0.34, 1.0, "white", 0.5)
    pen.shape([(0.09, 0.42), (0.23, 0.03), (0.37, 0.42)], "roof", 0.45)
    pen.shape([(0.09, 0.42), (0.23, 0.03), (0.25, 0.42)], "roof", 0.95)
    pen.stroke([(0.23, 0.0), (0.23, 0.06)], 0.012, "gold", 0.9)
    pen.box(0.18, 0.48, 0.25, 0.60, "dark", 0.3)
    pen.box(0.16, 0.80, 0.26, 1.0, "dark", 0.5)
    return pen.stamp("stone", 0.25)


@makes("lighthouse", variants=2)
def _lighthouse(kind: str, variant: int) -> Stamp:
    """A white tower with red bands, lantern room and gallery, the keeper's house at its foot."""
    pen = Stencil(420, 0.62, ("white", "red", "roof", "dark", "lit", "pane"), 690 + variant)
    x, top, wide, narrow = 0.22, 0.19, 0.085, 0.052
    for k in range(24):
        y0, y1 = (top + (1 - top) * j / 24 for j in (k, k + 1))
        half = narrow + (wide - narrow) * (k + 0.5) / 24
        material = "red" if (k // 4) % 2 == (0 if variant else 1) else "white"
        for j, shade in enumerate((0.95, 0.9, 0.75, 0.55, 0.35, 0.2)):
            a, b = x - half + half * j / 3, x - half + half * (j + 1) / 3
            pen.box(a, y0, b, y1, material, shade)
    pen.box(x - 0.075, top - 0.012, x + 0.075, top + 0.012, "dark", 0.6)
    pen.box(x - 0.042, 0.10, x + 0.042, top, "lit", 0.95)
    for dx in (-0.042, -0.014, 0.014, 0.042):
        pen.stroke([(x + dx, 0.10), (x + dx, top)], 0.006, "dark", 0.5)
    pen.shape([(x - 0.058, 0.105), (x, 0.03), (x + 0.058, 0.105)], "roof", 0.75)
    pen.stroke([(x, 0.0), (x, 0.05)], 0.007, "dark", 0.4)
    for y in (0.36, 0.56, 0.76):
        pen.box(x - 0.016, y, x + 0.012, y + 0.045, "dark", 0.4)
    pen.box(0.30, 0.84, 0.56, 1.0, "white", 0.72)
    pen.shape([(0.28, 0.85), (0.33, 0.75), (0.53, 0.75), (0.585, 0.85)], "roof", 0.75)
    for c in (0.37, 0.45, 0.52):
        pen.box(c - 0.018, 0.89, c + 0.018, 0.945, "pane", 0.6)
    return pen.stamp("stone", 0.22)


@makes("windmill", variants=3)
def _windmill(kind: str, variant: int) -> Stamp:
    """A tapered mill with a cap and four lattice sails."""
    pen = Stencil(320, 0.9, ("wall", "roof", "dark", "cream", "trim"), 700 + variant)
    x, hub = 0.45, 0.40
    for j, shade in enumerate((0.95, 0.85, 0.7, 0.5, 0.3)):
        a, b = -1 + j * 0.4, -1 + (j + 1) * 0.4
        pen.shape(
            [(x + a * 0.09, 0.42), (x + b * 0.09, 0.42), (x + b * 0.15, 1.0), (x + a * 0.15, 1.0)],
            "wall",
            shade,
        )
    pen.shape(
        [(x - 0.115, 0.43), (x - 0.06, 0.31), (x + 0.05, 0.30), (x + 0.115, 0.43)], "roof", 0.7
    )
    for y in (0.55, 0.72):
        pen.box(x - 0.03, y, x + 0.015, y + 0.06, "dark", 0.4)
    pen.box(x - 0.05, 0.86, x + 0.03, 1.0, "dark", 0.5)
    for k in range(4):
        _mill_sail(pen, x - 0.02, hub, 0.35 + 0.5 * variant + k * np.pi / 2)
    pen.dab(x - 0.02, hub, 0.02, 0.02, "dark", 0.5)
    return pen.stamp("stone", 0.22)


def _mill_sail(pen: Stencil, x: float, y: float, turn: float) -> None:
    c, s = np.cos(turn), np.sin(turn)
    place = lambda along, across: (x + along * c - across * s, y + along * s + across * c)  # noqa: E731
    pen.shape(
        [place(0.09, 0), place(0.37, 0), place(0.37, 0.07), place(0.09, 0.055)], "cream", 0.85
    )
    for along in np.linspace(0.10, 0.36, 7):
        pen.stroke([place(along, 0), place(along, 0.065)], 0.006, "dark", 0.6)
    pen.stroke([place(0, 0), place(0.38, 0)], 0.014, "dark", 0.5)


@makes("pagoda", variants=2)
def _pagoda(kind: str, variant: int) -> Stamp:
    """Three storeys under sweeping roofs."""
    pen = Stencil(360, 0.8, ("wall", "roof", "beam", "lit", "red", "gold"), 720 + variant)
    x = 0.40
    pen.stroke([(x, 0.0), (x, 0.16)], 0.012, "gold", 0.9)
    pen.box(x - 0.30, 0.955, x + 0.30, 1.0, "beam", 0.75)
    for k in range(3):
        y, half = 0.12 + 0.28 * k, 0.13 + 0.045 * k
        body = half * 0.95
        pen.box(x - body, y + 0.10, x + body, y + 0.29, "wall", 0.7)
        pen.box(x + body * 0.5, y + 0.10, x + body, y + 0.29, "wall", 0.35)
        for dx in np.linspace(-body, body, 5):
            pen.stroke([(x + dx, y + 0.10), (x + dx, y + 0.28)], 0.013, "red", 0.7)
        for dx in (-0.55, 0.0, 0.55):
            pen.box(x + dx * body - 0.03, y + 0.165, x + dx * body + 0.03, y + 0.25, "lit", 0.85)
        pen.stroke([(x - body, y + 0.27), (x + body, y + 0.27)], 0.013, "red", 0.6)
        _sweep(pen, x, y, half + 0.13)
    return pen.stamp("stone", 0.22)


def _sweep(pen: Stencil, x: float, y: float, half: float) -> None:
    """A roof whose eaves turn up."""
    u = np.linspace(-1, 1, 21)
    lower = [(x + half * t, y + 0.135 - 0.045 * abs(t) ** 3) for t in u]
    upper = [(x + half * t, y + 0.02 + 0.085 * abs(t) ** 0.8) for t in u[::-1]]
    pen.shape(lower + upper, "roof", 0.55)
    pen.stroke(upper, 0.014, "roof", 0.95)
    pen.stroke(lower, 0.014, "roof", 0.15)


@makes("bridge", variants=1)
def _bridge(kind: str, variant: int) -> Stamp:
    """A red arched bridge."""
    pen = Stencil(160, 3.0, ("red", "beam"), 740)
    u = np.linspace(-1, 1, 33)
    arch = lambda rise: [(1.5 + 1.45 * t, 0.95 - rise + 0.55 * t * t * 0.9) for t in u]  # noqa: E731
    deck = arch(0.52)
    pen.shape(deck + [(x, y + 0.14) for x, y in deck[::-1]], "red", 0.45)
    pen.stroke(deck, 0.05, "beam", 0.6)
    pen.stroke(arch(0.86), 0.055, "red", 0.95)
    pen.stroke(arch(0.70), 0.03, "red", 0.6)
    for t in u[::3]:
        y = 0.95 - 0.52 + 0.495 * t * t
        pen.box(1.5 + 1.45 * t - 0.03, y - 0.40, 1.5 + 1.45 * t + 0.03, y + 0.08, "red", 0.7)
    for t in (-0.5, 0.5):
        pen.box(1.5 + 1.45 * t - 0.04, 0.60, 1.5 + 1.45 * t + 0.04, 1.0, "red", 0.3)
    return pen.stamp("stone", 0.2)


@makes("sailboat", variants=3)
def _sailboat(kind: str, variant: int) -> Stamp:
    pen = Stencil(200, 0.95, ("sail", "hull", "white", "beam"), 750 + variant)
    mast = 0.45 + 0.03 * variant
    pen.stroke([(mast, 0.02), (mast, 0.88)], 0.018, "beam", 0.5)
    pen.shape([(mast - 0.02, 0.05), (mast - 0.02, 0.78), (0.10, 0.80)], "sail", 0.95)
    pen.shape([(mast - 0.02, 0.05), (mast - 0.02, 0.78), (mast - 0.12, 0.79)], "sail", 0.6)
    pen.shape([(mast + 0.02, 0.12), (mast + 0.03, 0.76), (0.80, 0.78)], "sail", 0.55)
    pen.shape([(0.08, 0.85), (0.90, 0.83), (0.78, 1.0), (0.18, 1.0)], "hull", 0.6)
    pen.stroke([(0.07, 0.855), (0.91, 0.835)], 0.035, "white", 0.9)
    return pen.stamp("stone", 0.2)


@makes("rowboat", variants=2)
def _rowboat(kind: str, variant: int) -> Stamp:
    pen = Stencil(90, 3.0, ("hull", "white", "beam"), 760 + variant)
    pen.shape([(0.1, 0.25), (2.9, 0.20), (2.5, 0.95), (0.6, 0.98)], "hull", 0.5)
    pen.shape([(0.25, 0.30), (2.75, 0.26), (2.4, 0.50), (0.7, 0.52)], "beam", 0.25)
    pen.stroke([(0.08, 0.26), (1.5, 0.36), (2.92, 0.20)], 0.13, "white", 0.85)
    for x in (1.0, 1.8):
        pen.stroke([(x, 0.30), (x + 0.1, 0.52)], 0.14, "hull", 0.9)
    return pen.stamp("stone", 0.2)


@makes("lantern", variants=2)
def _lantern(kind: str, variant: int) -> Stamp:
    """A paper lantern."""
    pen = Stencil(90, 0.9, ("litpaper", "beam"), 770 + variant)
    pen.dab(0.45, 0.5, 0.40, 0.42, "litpaper", 0.55)
    pen.dab(0.42, 0.55, 0.24, 0.30, "litpaper", 1.0)
    for y in (0.28, 0.42, 0.56, 0.70):
        pen.stroke([(0.1, y), (0.8, y)], 0.02, "litpaper", 0.15)
    pen.box(0.28, 0.02, 0.62, 0.12, "beam", 0.4)
    pen.box(0.28, 0.88, 0.62, 0.98, "beam", 0.4)
    return pen.stamp("stone", 0.1)


@makes("lamp", variants=1)
def _lamp(kind: str, variant: int) -> Stamp:
    """A street lamp on an iron post."""
    pen = Stencil(240, 0.24, ("dark", "lit"), 780)
    pen.stroke([(0.12, 0.2), (0.12, 1.0)], 0.032, "dark", 0.45)
    pen.box(0.085, 0.93, 0.155, 1.0, "dark", 0.5)
    pen.shape([(0.055, 0.08), (0.185, 0.08), (0.155, 0.21), (0.085, 0.21)], "lit", 1.0)
    pen.shape([(0.035, 0.09), (0.12, 0.01), (0.205, 0.09)], "dark", 0.6)
    for x in (0.07, 0.12, 0.17):
        pen.stroke([(x, 0.08), (0.12 + (x - 0.12) * 0.6, 0.2)], 0.008, "dark", 0.4)
    return pen.stamp("stone", 0.1)


@makes("table", variants=3)
def _table(kind: str, variant: int) -> Stamp:
    """A café table with two chairs under a parasol."""
    pen = Stencil(150, 1.0, ("awning", "cream", "dark", "trim"), 790 + variant)
    pen.stroke([(0.5, 0.1), (0.5, 0.98)], 0.025, "dark", 0.5)
    for k in range(6):
        a, b = 0.06 + 0.147 * k, 0.06 + 0.147 * (k + 1)
        pen.shape(
            [(a, 0.36), (0.5, 0.06), (b, 0.36)], "cream" if k % 2 else "awning", 0.95 - 0.1 * k
        )
    pen.dab(0.5, 0.70, 0.22, 0.05, "trim", 0.9)
    for x in (0.18, 0.82):
        pen.stroke([(x, 0.58), (x, 0.98)], 0.03, "dark", 0.5)
        pen.stroke([(x, 0.79), (x + (0.14 if x < 0.5 else -0.14), 0.79)], 0.035, "dark", 0.7)
    return pen.stamp("stone", 0.2)


@makes("stall", variants=1)
def _stall(kind: str, variant: int) -> Stamp:
    """A market stall: striped roof on posts, a counter with goods."""
    pen = Stencil(130, 1.3, ("beam", "cream", "awning", "lit", "flower"), 795)
    pen.box(0.18, 0.38, 1.12, 0.70, "lit", 0.35)
    for x in (0.17, 1.13):
        pen.stroke([(x, 0.30), (x, 1.0)], 0.05, "beam", 0.5)
    pen.box(0.12, 0.68, 1.18, 1.0, "beam", 0.75)
    for x in pen.rng.uniform(0.2, 1.1, 16):
        pen.dab(x, 0.66, 0.05, 0.045, "flower" if pen.rng.random() < 0.5 else "cream", 0.8)
    for k in range(8):
        a, b = 0.05 + 0.15 * k, 0.05 + 0.15 * (k + 1)
        top = [(0.2 + 0.1125 * k, 0.05), (0.2 + 0.1125 * (k + 1), 0.05)]
        pen.shape([*top, (b, 0.36), (a, 0.36)], "cream" if k % 2 else "awning", 0.95 - 0.06 * k)
        pen.dab((a + b) / 2, 0.36, 0.075, 0.06, "cream" if k % 2 else "awning", 0.6)
    return pen.stamp("stone", 0.2)


@makes("person", variants=6)
def _person(kind: str, variant: int) -> Stamp:
    """A passer-by in a few strokes."""
    pen = Stencil(110, 0.5, ("coat", "skin", "dark"), 800 + variant)
    lean = 0.03 * (variant % 3 - 1)
    pen.stroke([(0.20, 0.62), (0.17 - lean, 0.98)], 0.10, "dark", 0.4)
    pen.stroke([(0.30, 0.62), (0.34 + lean, 0.98)], 0.10, "dark", 0.2)
    hem = 0.86 if variant % 2 else 0.68
    pen.shape([(0.14, 0.22), (0.36, 0.22), (0.42, hem), (0.09, hem)], "coat", 0.6)
    pen.shape([(0.14, 0.22), (0.22, 0.22), (0.2, hem), (0.09, hem)], "coat", 0.95)
    pen.dab(0.25, 0.13, 0.085, 0.10, "skin", 0.8)
    pen.dab(0.26, 0.08, 0.09, 0.07, "dark", 0.3)
    return pen.stamp("stone", 0.2)


@makes("fountain", variants=1)
def _fountain(kind: str, variant: int) -> Stamp:
    pen = Stencil(150, 1.6, ("stone", "white"), 810)
    pen.shape([(0.1, 0.72), (1.5, 0.72), (1.4, 1.0), (0.2, 1.0)], "stone", 0.65)
    pen.dab(0.8, 0.73, 0.7, 0.075, "stone", 0.9)
    pen.dab(0.8, 0.735, 0.62, 0.055, "white", 0.45)
    pen.box(0.74, 0.3, 0.86, 0.74, "stone", 0.6)
    pen.dab(0.8, 0.38, 0.3, 0.06, "stone", 0.85)
    for side in (-1, 1):
        for reach in (0.14, 0.26, 0.36):
            arc = [
                (0.8 + side * reach * t, 0.30 - 0.25 * t + 0.75 * t * t)
                for t in np.linspace(0, 1, 9)
            ]
            pen.stroke(arc, 0.022, "white", 0.95)
    return pen.stamp("stone", 0.2)


@makes("rocks", variants=4)
def _rocks(kind: str, variant: int) -> Stamp:
    """A heap of boulders."""
    pen = Stencil(160, 2.2, ("rock", "moss"), 820 + variant)
    for _ in range(26):
        x = pen.rng.uniform(0.15, 2.05)
        r = pen.rng.uniform(0.10, 0.30) * (1.1 - abs(x - 1.1) * 0.6)
        y = 1.0 - r * pen.rng.uniform(0.2, 1.0)
        turn = np.sort(pen.rng.random(7)) * 2 * np.pi
        outline = [(x + r * np.cos(t) * 1.25, y + r * np.sin(t)) for t in turn]
        pen.shape(outline, "rock", 0.25)
        top = [(px - r * 0.12, y + (py - y) * 0.75 - r * 0.2) for px, py in outline]
        pen.shape([(x + (px - x) * 0.75, py) for px, py in top], "rock", pen.rng.uniform(0.6, 0.95))
    return pen.stamp("stone", 0.5)


@makes("fence", variants=2)
def _fence(kind: str, variant: int) -> Stamp:
    """A wooden fence; repeats in x."""
    aspect = 12.0
    pen = Stencil(80, aspect, ("beam",), 830 + variant)
    for y in (0.35, 0.65):
        pen.stroke([(0, y), (aspect, y)], 0.09, "beam", 0.7)
    for k in range(16):
        x = aspect * (k + 0.5) / 16 + pen.rng.normal() * 0.03
        pen.box(x - 0.06, 0.08, x + 0.06, 1.0, "beam", 0.55)
        pen.box(x - 0.06, 0.08, x - 0.01, 1.0, "beam", 0.95)
    return pen.stamp("stone", 0.3)
