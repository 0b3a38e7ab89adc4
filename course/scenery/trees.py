"""Trees, bushes, grass and flowers as stamps, built from brush dabs, lit from the upper left."""

import numpy as np

from course.scenery.fields import Array, pick
from course.scenery.light import Colour, rgb
from course.scenery.stamps import Stamp, Stencil, makes, pressed, stamp

LEAVES = ("trunk", "leaf", "accent")
PINES = ("trunk", "leaf", "snow")

# What the leaves of a tree are made of, by kind of tree and by season.
GREENS = {
    "spring": (rgb(0.45, 0.62, 0.22), rgb(0.62, 0.74, 0.30)),
    "summer": (rgb(0.27, 0.48, 0.19), rgb(0.42, 0.58, 0.24)),
    "autumn": (rgb(0.46, 0.45, 0.18), rgb(0.66, 0.52, 0.18)),
    "winter": (rgb(0.36, 0.40, 0.32), rgb(0.50, 0.52, 0.46)),
}
AUTUMN = (
    (rgb(0.86, 0.42, 0.10), rgb(0.97, 0.66, 0.16)),
    (rgb(0.75, 0.20, 0.10), rgb(0.93, 0.42, 0.14)),
    (rgb(0.90, 0.63, 0.12), rgb(0.98, 0.80, 0.28)),
    (rgb(0.62, 0.25, 0.12), rgb(0.85, 0.50, 0.20)),
)
PINE = rgb(0.15, 0.32, 0.21)
BARK = rgb(0.34, 0.24, 0.17)
SNOW = rgb(0.93, 0.96, 1.0)


def leaf_colours(kind: str, season: str, rng: np.random.Generator) -> dict[str, Colour]:
    """Colours of the materials of one tree, each tree a little different."""
    jitter = np.array(rng.uniform(0.9, 1.1, 3), dtype=np.float32)
    if kind == "cherry":
        leaf, accent = rgb(0.95, 0.62, 0.74), rgb(1.0, 0.83, 0.88)
    elif kind == "autumn":
        leaf, accent = pick(rng, AUTUMN)
    else:
        leaf, accent = GREENS[season]
    pine = PINE * jitter
    leaves = {"leaf": leaf * jitter, "accent": accent * jitter} if kind != "evergreen" else {}
    return {"trunk": BARK, "snow": SNOW, "leaf": pine, "accent": pine} | leaves


@makes("pine", "pine snow", variants=6)
def _pine(kind: str, variant: int) -> Stamp:
    """A conifer: tiers of drooping boughs from the bottom up, snow on their upper sides."""
    pen = Stencil(320, 0.62, PINES, 100 + variant)
    rng, middle, snowy = pen.rng, 0.31, "snow" in kind
    spread = rng.uniform(0.20, 0.29)
    pen.box(middle - 0.014, 0.86, middle + 0.014, 1.0, "trunk", 0.3)
    core = [(middle, 0.05), (middle + spread * 0.55, 0.95), (middle - spread * 0.55, 0.95)]
    pen.shape(core, "leaf", 0.12)
    for level in np.linspace(0.95, 0.03, 30):
        width = spread * (level - 0.01) ** 0.85 * rng.uniform(0.75, 1.12)
        for side in rng.permutation(np.linspace(-1, 1, 13)):
            _bough(pen, middle, level, width, float(side), snowy)
    pen.stroke([(middle, 0.0), (middle, 0.06)], 0.008, "leaf", 0.6)
    return pen.stamp("leaf", 0.35)


def _bough(
    pen: Stencil, middle: float, level: float, width: float, side: float, snowy: bool
) -> None:
    rng = pen.rng
    length, droop = width * abs(side) * rng.uniform(0.75, 1.1), rng.uniform(0.02, 0.05)
    sign = 1 if side > 0 else -1
    root = (middle + sign * length * 0.3, level - 0.02)
    tip = (middle + sign * length, level + droop * abs(side) + rng.uniform(-0.01, 0.01))
    shade = 0.42 - 0.38 * side + rng.normal() * 0.12 - 0.15 * (1 - abs(side))
    pen.stroke([root, tip], 0.013, "leaf", shade)
    for u in rng.random(4):
        x, y = root[0] + u * (tip[0] - root[0]), root[1] + u * (tip[1] - root[1])
        end = (x + sign * rng.uniform(0.0, 0.022), y + rng.uniform(0.008, 0.030))
        pen.stroke([(x, y), end], 0.006, "leaf", shade + rng.normal() * 0.16)
    if snowy and rng.random() < 0.62:
        lift = -0.012
        start = (root[0] * 0.5 + tip[0] * 0.5, (root[1] + tip[1]) / 2 + lift)
        pen.stroke([start, (tip[0], tip[1] + lift)], 0.013, "snow", 0.62 - 0.4 * side)


def _branches(
    pen: Stencil, x: float, y: float, angle: float, length: float, width: float, depth: int
) -> None:
    """A limb and what grows on it."""
    bend = angle + pen.rng.normal() * 0.12
    end = (x + np.sin(bend) * length, y - np.cos(bend) * length)
    pen.stroke([(x, y), end], width, "trunk", 0.45 - 0.4 * np.sin(bend))
    for turn in pen.rng.uniform(0.25, 0.65, 2) * (-1, 1) if depth else ():
        _branches(pen, *end, bend + turn, length * 0.72, width * 0.62, depth - 1)


def _foliage(
    pen: Stencil, blobs: Array, count: int, size: float, accent: float, bright: float
) -> None:
    """Dabs over round clumps (x, y, r), from the shaded lower right to the sunlit upper left."""
    rng = pen.rng
    which = rng.integers(len(blobs), size=count)
    angle, far = rng.random(count) * 2 * np.pi, np.sqrt(rng.random(count))
    dx, dy = np.cos(angle) * far, np.sin(angle) * far
    x, y = blobs[which, 0] + dx * blobs[which, 2], blobs[which, 1] + dy * blobs[which, 2] * 0.85
    top, bottom = blobs[:, 1].min() - 0.1, blobs[:, 1].max() + 0.1
    height = (bottom - y) / (bottom - top)
    light = 0.42 * (-0.62 * dx - 0.78 * dy) + 0.50 * height + rng.normal(size=count) * 0.13
    light = bright * (light + 0.14)
    for k in np.argsort(light):
        material = "accent" if rng.random() < accent * (0.4 + light[k]) else "leaf"
        r = size * rng.uniform(0.6, 1.3)
        pen.dab(x[k], y[k], r, r * rng.uniform(0.55, 0.9), material, light[k])


def _clumps(rng: np.random.Generator, wide: float, tall: float, count: int, radius: float) -> Array:
    """Clumps of leaves (x, y, r) filling an uneven crown: a ring of small ones about large ones."""
    turn = (np.arange(count) + rng.uniform(-0.35, 0.35, count)) / count * 2 * np.pi
    far = np.where(
        np.arange(count) % 3 == 0, rng.uniform(0.1, 0.55, count), rng.uniform(0.68, 0.95, count)
    )
    x = 0.62 + wide * far * np.cos(turn)
    y = tall + 0.03 + tall * far * np.sin(turn)
    radii = radius * rng.uniform(0.75, 1.25, count) * (1.25 - 0.45 * far)
    return np.column_stack([x, np.maximum(y, radii * 0.9), radii])


# Trunk width and height, crown half-width and half-height, clumps and their radius, dabs, dab size,
# share of the accent colour.
SHAPES = {
    "leafy": (0.050, 0.27, 0.31, 0.33, 30, 0.092, 2600, 0.0108, 0.35),
    "autumn": (0.044, 0.27, 0.30, 0.33, 30, 0.090, 2600, 0.0108, 0.55),
    "cherry": (0.060, 0.27, 0.42, 0.30, 30, 0.085, 2600, 0.0104, 0.75),
    "oak": (0.125, 0.27, 0.48, 0.32, 36, 0.095, 3200, 0.0105, 0.25),
}


@makes("leafy", "autumn", "cherry", "oak", variants=6)
def _broadleaf(kind: str, variant: int) -> Stamp:
    """A trunk that forks and forks again, clumps of leaves about the limbs, some limbs showing."""
    width, trunk, wide, tall, count, radius, dabs, dab, accent = SHAPES[kind]
    pen = Stencil(320, 1.25, LEAVES, 200 + variant)
    fork = (0.62, 0.995 - trunk)
    clumps = _clumps(pen.rng, wide, tall, count, radius)
    _foliage(pen, clumps, dabs // 2, dab * 1.3, accent * 0.3, 0.62)
    _trunk(pen, fork, width)
    turns = np.array([-0.95, -0.45, 0.05, 0.5, 1.0]) + pen.rng.normal(size=5) * 0.12
    for turn in turns * (1.0 if wide > 0.35 else 0.6):
        _branches(pen, *fork, float(turn), 0.17, width * 0.5, 2)
    _foliage(pen, clumps, dabs, dab, accent, 1.0)
    return pen.stamp("leaf", 0.25)


def _trunk(pen: Stencil, fork: tuple[float, float], width: float) -> None:
    """A trunk flared at the root, its left side in the light."""
    x, top = fork
    base, flare = 0.998, width * 0.95
    left = [(x - flare, base), (x - width * 0.55, base - 0.06), (x - width * 0.42, top - 0.02)]
    right = [(x + width * 0.42, top - 0.02), (x + width * 0.55, base - 0.06), (x + flare, base)]
    pen.shape(left + right, "trunk", 0.25)
    inner = [
        (x - width * 0.08, top - 0.02),
        (x - width * 0.15, base - 0.05),
        (x - width * 0.35, base),
    ]
    pen.shape(left + inner, "trunk", 0.75)
    for u in pen.rng.random(14):
        at = x + width * 0.8 * (u - 0.5)
        pen.stroke(
            [(at, top), (at * 1.0 + 0.1 * width, base)],
            0.006,
            "trunk",
            pen.rng.uniform(0.1, 0.8) - 0.3 * u,
        )


@makes("bush", variants=5)
def _bush(kind: str, variant: int) -> Stamp:
    pen = Stencil(120, 1.9, LEAVES, 300 + variant)
    x = pen.rng.uniform(0.35, 1.55, 6)
    radii = pen.rng.uniform(0.2, 0.34, 6) * (1.15 - np.abs(x - 0.95) * 0.7)
    _foliage(pen, np.column_stack([x, 1.0 - radii * 0.75, radii]), 520, 0.05, 0.4, 1.0)
    return pen.stamp("leaf", 0.2)


@makes("grass", variants=3)
def _grass(kind: str, variant: int) -> Stamp:
    """A strip of blades, drawn from back to front; repeats in x."""
    return _blades(400 + variant, flowers=0)


@makes("flowers", variants=3)
def _flowers(kind: str, variant: int) -> Stamp:
    """A strip of blades and flower heads of two colours; repeats in x."""
    return _blades(420 + variant, flowers=95)


def _blades(seed: int, flowers: int) -> Stamp:
    aspect = 10.0
    pen = Stencil(88, aspect, ("blade", "petal", "petal2", "heart"), seed)
    rng = pen.rng
    for x, root, size, bend in rng.random((1500, 4)):
        y, tall = 0.62 + 0.45 * root, 0.30 + 0.30 * size
        tip = (x * aspect + (bend - 0.5) * 0.35, y - tall)
        for shift in (-aspect, 0, aspect):
            ends = [(x * aspect + shift, y), (tip[0] + shift, tip[1])]
            pen.stroke(ends, 0.03, "blade", 0.12 + 0.75 * rng.random())
    for x, y, size, which in rng.random((flowers, 4)):
        head, r = (x * aspect, 0.10 + 0.62 * y), 0.045 + 0.035 * size
        material = "petal" if which < 0.6 else "petal2"
        for shift in (-aspect, 0, aspect):
            pen.dab(head[0] + shift, head[1], r, r * 0.75, material, 0.35)
            pen.dab(head[0] + shift - r / 4, head[1] - r / 4, r * 0.7, r * 0.5, material, 0.95)
            pen.dab(head[0] + shift, head[1], r * 0.25, r * 0.2, "heart", 0.8)
    return pen.stamp("grass", 0.3)


TREELINES = {
    "line of pine": "pine",
    "line of pine snow": "pine snow",
    "line of leafy": "leafy",
    "line of autumn": "autumn",
    "line of cherry": "cherry",
}


@makes(*TREELINES, variants=3)
def _treeline(kind: str, variant: int) -> Stamp:
    """Many trees side by side; repeats in x."""
    rng = np.random.default_rng([500, variant, len(kind)])
    tree = TREELINES[kind]
    materials = stamp(tree, 0).materials
    rows, cols = 128, 1536
    page = np.zeros((rows, cols, 2 * len(materials)), dtype=np.float32)
    count = 110 if "pine" in kind else 90
    for height in np.sort(rng.choice([0.5, 0.57, 0.65, 0.74, 0.85, 1.0], count))[::-1]:
        cover, clear = pressed(tree, int(rng.integers(6)), round(height * rows))
        if "pine" not in kind:  # trunks stand hidden in undergrowth
            cover, clear = (part[: len(part) * 4 // 5] for part in (cover, clear))
        take = (int(rng.integers(cols)) + np.arange(cover.shape[1])) % cols
        page[-len(cover) :, take] *= clear
        page[-len(cover) :, take] += cover
    return Stamp((page * 255 + 0.5).astype(np.uint8), materials)
