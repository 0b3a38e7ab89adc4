"""Trees, bushes, grass and flowers as stamps, built from brush dabs, lit from the upper left."""

import numpy as np

from course.scenery.fields import Array
from course.scenery.light import Colour, rgb
from course.scenery.stamps import Stamp, Stencil, makes, stamp

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
        leaf, accent = AUTUMN[int(rng.integers(len(AUTUMN)))]
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
    for level in np.linspace(0.94, 0.03, 26):
        width = spread * (level - 0.01) ** 0.85 * rng.uniform(0.8, 1.1)
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
    pen.stroke([root, tip], 0.016, "leaf", shade)
    if snowy and rng.random() < 0.62:
        lift = -0.012
        start = (root[0] * 0.5 + tip[0] * 0.5, (root[1] + tip[1]) / 2 + lift)
        pen.stroke([start, (tip[0], tip[1] + lift)], 0.013, "snow", 0.62 - 0.4 * side)


def _branches(
    pen: Stencil, x: float, y: float, angle: float, length: float, width: float, depth: int
) -> list[tuple[float, float]]:
    """A limb and what grows on it; returns where its twigs end."""
    bend = angle + pen.rng.normal() * 0.12
    end = (x + np.sin(bend) * length, y - np.cos(bend) * length)
    pen.stroke([(x, y), end], width, "trunk", 0.45 - 0.4 * np.sin(bend))
    if depth == 0:
        return [end]
    ends = []
    for turn in pen.rng.uniform(0.25, 0.65, 2) * (-1, 1):
        ends += _branches(pen, *end, bend + turn, length * 0.72, width * 0.62, depth - 1)
    return ends


def _foliage(pen: Stencil, blobs: Array, count: int, size: float, accent: float) -> None:
    """Dabs over round clumps (x, y, r), from the shaded lower right to the sunlit upper left."""
    rng = pen.rng
    which = rng.integers(len(blobs), size=count)
    angle, far = rng.random(count) * 2 * np.pi, np.sqrt(rng.random(count))
    dx, dy = np.cos(angle) * far, np.sin(angle) * far
    x, y = blobs[which, 0] + dx * blobs[which, 2], blobs[which, 1] + dy * blobs[which, 2] * 0.85
    top, bottom = blobs[:, 1].min() - 0.1, blobs[:, 1].max() + 0.1
    height = (bottom - y) / (bottom - top)
    light = 0.5 * (-0.62 * dx - 0.78 * dy) + 0.55 * height + rng.normal(size=count) * 0.10
    for k in np.argsort(light):
        material = "accent" if rng.random() < accent * (0.4 + light[k]) else "leaf"
        r = size * rng.uniform(0.6, 1.3)
        pen.dab(x[k], y[k], r, r * rng.uniform(0.55, 0.9), material, light[k] + 0.08)


def _clumps(rng: np.random.Generator, ends: list[tuple[float, float]], radius: float) -> Array:
    """A clump of leaves about every twig."""
    points = np.array(ends)
    radii = radius * rng.uniform(0.7, 1.25, len(points))
    return np.column_stack([points + rng.normal(size=points.shape) * 0.015, radii])


# Trunk width, length of the first limb, spread, clump radius, dabs, dab size, accent share.
SHAPES = {
    "leafy": (0.050, 0.30, 0.0, 0.105, 900, 0.019, 0.35),
    "autumn": (0.046, 0.30, 0.0, 0.105, 900, 0.019, 0.55),
    "cherry": (0.060, 0.25, 0.15, 0.092, 950, 0.017, 0.75),
    "oak": (0.120, 0.22, 0.12, 0.110, 1500, 0.017, 0.25),
}


@makes("leafy", "autumn", "cherry", "oak", variants=6)
def _broadleaf(kind: str, variant: int) -> Stamp:
    """A trunk that forks four times, clumps of leaves at the ends, some limbs showing."""
    width, limb, lean, radius, dabs, dab, accent = SHAPES[kind]
    pen = Stencil(320, 1.25, LEAVES, 200 + variant)
    x, base = 0.62, 0.995
    flare = width * 0.9
    crown = base - limb
    pen.shape(
        [(x - flare, base), (x - width / 2, base - 0.06), (x - width * 0.4, crown)]
        + [(x + width * 0.4, crown), (x + width / 2, base - 0.06), (x + flare, base)],
        "trunk",
        0.30,
    )
    pen.shape(
        [(x - flare, base), (x - width / 2, base - 0.06), (x - width * 0.4, crown)]
        + [(x - width * 0.1, crown), (x - width * 0.12, base - 0.05), (x - width * 0.3, base)],
        "trunk",
        0.75,
    )
    ends: list[tuple[float, float]] = []
    turns = np.array([-0.75, -0.2, 0.3, 0.8]) * (1 + lean) + pen.rng.normal(size=4) * 0.12
    for turn in turns:
        ends += _branches(pen, x, crown + 0.03, float(turn), 0.19, width * 0.5, 2)
    clumps = _clumps(pen.rng, ends, radius)
    clumps[:, 1] = np.maximum(clumps[:, 1], clumps[:, 2] * 0.85 + 0.01)
    _foliage(pen, clumps, dabs, dab, accent)
    for turn in turns[1:3]:
        if kind in ("cherry", "oak"):
            _branches(pen, x, crown + 0.03, float(turn), 0.15, width * 0.38, 1)
    _foliage(pen, clumps[::2], dabs // 4, dab, accent)
    return pen.stamp("leaf", 0.25)


@makes("bush", variants=5)
def _bush(kind: str, variant: int) -> Stamp:
    pen = Stencil(120, 1.9, LEAVES, 300 + variant)
    x = pen.rng.uniform(0.35, 1.55, 6)
    radii = pen.rng.uniform(0.2, 0.34, 6) * (1.15 - np.abs(x - 0.95) * 0.7)
    _foliage(pen, np.column_stack([x, 1.0 - radii * 0.75, radii]), 520, 0.05, 0.4)
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
    for x, y, size, pick in rng.random((flowers, 4)):
        head, r = (x * aspect, 0.10 + 0.62 * y), 0.045 + 0.035 * size
        material = "petal" if pick < 0.6 else "petal2"
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
    count = 110 if "pine" in kind else 64
    for height in np.sort(rng.uniform(0.5, 1.0, count))[::-1]:
        maps = stamp(tree, int(rng.integers(6))).maps
        small = _shrunk(maps[:, :: int(rng.choice([1, -1]))], round(height * rows))
        left, down = int(rng.integers(cols)), rows - small.shape[0]
        take = (left + np.arange(small.shape[1])) % cols
        page[down:, take] *= 1 - np.clip(small.sum(-1, keepdims=True), 0, 1)
        page[down:, take] += small
    return Stamp((page * 255 + 0.5).astype(np.uint8), materials)


def _shrunk(maps: np.ndarray, rows: int) -> Array:
    from PIL import Image

    cols = round(rows * maps.shape[1] / maps.shape[0])
    planes = [Image.fromarray(np.ascontiguousarray(maps[..., k])) for k in range(maps.shape[2])]
    small = [np.asarray(p.resize((cols, rows), Image.Resampling.BILINEAR)) for p in planes]
    return np.stack(small, -1).astype(np.float32) / 255
