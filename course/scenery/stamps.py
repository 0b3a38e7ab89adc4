"""Stamps: trees, houses, boats drawn once, then pressed on the canvas in any light.

A stamp does not hold colours but *coverage by material*: for each material two maps, how much
of the pixel is that material in the shade and in the sun. Painting is then one matrix product
with a palette (2m, 3), so season, hour and distance cost nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from course.scenery.fields import Array, tile
from course.scenery.light import Colour, Light

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Stamp:
    """maps: (h, w, 2m) uint8, a shade and a sun map per material; the anchor is bottom centre."""

    maps: NDArray[np.uint8]
    materials: tuple[str, ...]


class Stencil:
    """Draws strokes and shapes, each with a material and a shade (0 dark … 1 sunlit).

    Coordinates are in units of the stamp's height, x from 0 to `aspect`, y downwards from 0 to 1.
    """

    def __init__(self, height: int, aspect: float, materials: tuple[str, ...], seed: int):
        self.scale, self.materials = height * 2, materials
        shape = (round(height * aspect) * 2, height * 2)
        self.labels, self.shades = Image.new("L", shape, 0), Image.new("L", shape, 0)
        self.pens = ImageDraw.Draw(self.labels), ImageDraw.Draw(self.shades)
        self.rng = np.random.default_rng(seed)

    def _fills(self, material: str, shade: float) -> tuple[int, int]:
        return self.materials.index(material) + 1, int(min(max(shade, 0.0), 1.0) * 255)

    def shape(self, points: Points, material: str, shade: float) -> None:
        """A filled polygon."""
        scaled = [(x * self.scale, y * self.scale) for x, y in points]
        for pen, fill in zip(self.pens, self._fills(material, shade), strict=True):
            pen.polygon(scaled, fill=fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, material: str, shade: float) -> None:
        """A filled rectangle."""
        self.shape([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], material, shade)

    def dab(self, x: float, y: float, rx: float, ry: float, material: str, shade: float) -> None:
        """A filled ellipse."""
        box = [(x - rx) * self.scale, (y - ry) * self.scale, (x + rx) * self.scale]
        for pen, fill in zip(self.pens, self._fills(material, shade), strict=True):
            pen.ellipse([*box, (y + ry) * self.scale], fill=fill)

    def stroke(self, points: Points, width: float, material: str, shade: float) -> None:
        """A line of a brush that wide."""
        scaled = [(x * self.scale, y * self.scale) for x, y in points]
        for pen, fill in zip(self.pens, self._fills(material, shade), strict=True):
            pen.line(scaled, fill=fill, width=max(1, round(width * self.scale)), joint="curve")

    def clear(self, points: Points) -> None:
        """Cut a polygon out."""
        scaled = [(x * self.scale, y * self.scale) for x, y in points]
        for pen in self.pens:
            pen.polygon(scaled, fill=0)

    def stamp(self, texture: str = "stone", contrast: float = 0.3) -> Stamp:
        """The finished stamp: brush texture added to the shades, edges antialiased."""
        labels, shades = np.asarray(self.labels), np.asarray(self.shades, dtype=np.float32) / 255
        h, w = labels.shape
        grain = tile(texture)[np.ix_(np.arange(h) % 512, np.arange(w) % 512)]
        shades = np.clip(shades + contrast * (grain - 0.5), 0, 1)
        maps = []
        for label in range(1, len(self.materials) + 1):
            cover = (labels == label).astype(np.float32)
            maps += [_halved(cover * (1 - shades)), _halved(cover * shades)]
        return Stamp(_trimmed(np.stack(maps, -1)), self.materials)


def _trimmed(maps: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Maps without the empty columns that both sides have, so that the anchor stays."""
    inked = np.flatnonzero(maps.any((0, 2)))
    margin = min(inked[0], maps.shape[1] - 1 - inked[-1])
    return maps[:, margin : maps.shape[1] - margin] if margin > 8 else maps


def _halved(plane: Array) -> NDArray[np.uint8]:
    rows = plane[0::2] + plane[1::2]
    return ((rows[:, 0::2] + rows[:, 1::2]) * (255 / 4) + 0.5).astype(np.uint8)


Maker = Callable[[str, int], Stamp]
MAKERS: dict[str, tuple[Maker, int]] = {}


def makes(*kinds: str, variants: int) -> Callable[[Maker], Maker]:
    """Register the function that draws `kinds`, each in that many variants."""

    def register(maker: Maker) -> Maker:
        MAKERS.update(dict.fromkeys(kinds, (maker, variants)))
        return maker

    return register


@cache
def stamp(kind: str, variant: int) -> Stamp:
    """The stamp of that kind, drawn at its first use."""
    maker, variants = MAKERS[kind]
    return maker(kind, variant % variants)


def steps(height: float, octave: int = 8) -> float:
    """A height rounded to so many sizes an octave, so that resized stamps can be shared."""
    return float(2 ** (np.round(np.log2(height) * octave) / octave))


def pressed(kind: str, variant: int, rows: int) -> tuple[Array, Array]:
    """A stamp that many rows high: coverage (rows, cols, 2m) and 1 − α (rows, cols, 1)."""
    h, w = stamp(kind, variant).maps.shape[:2]
    return resampled(kind, variant, rows, max(1, round(rows * w / h)))


Maps = tuple[Array, Array]
_KEPT: dict[tuple[str, int, int, int], Maps] = {}
KEPT_BYTES = 320 * 2**20


def resampled(kind: str, variant: int, rows: int, cols: int) -> Maps:
    """Coverage maps at a size and 1 − α: (rows, cols, 2m), (rows, cols, 1); the last are kept."""
    key = (kind, variant, rows, cols)
    if key not in _KEPT:
        _KEPT[key] = _shrunk(stamp(kind, variant).maps, rows, cols)
        while sum(c.nbytes + a.nbytes for c, a in _KEPT.values()) > KEPT_BYTES and len(_KEPT) > 1:
            del _KEPT[next(iter(_KEPT))]
    return _KEPT[key]


def _shrunk(maps: NDArray[np.uint8], rows: int, cols: int) -> Maps:
    planes = [Image.fromarray(np.ascontiguousarray(maps[..., k])) for k in range(maps.shape[2])]
    way = Image.Resampling.BILINEAR
    small = [np.asarray(p.resize((cols, rows), way, reducing_gap=2.0)) for p in planes]
    cover = np.stack(small, -1).astype(np.float32) / 255
    return cover, 1 - np.clip(cover.sum(-1, keepdims=True), 0, 1)


def palette(
    kind: str, variant: int, colours: Mapping[str, Colour], light: Light, haze: float = 0.0
) -> Array:
    """The colour of each map of a stamp in that light and distance: (2m, 3).

    Materials called lit… shine by themselves.
    """
    rows: list[Colour] = []
    for name in stamp(kind, variant).materials:
        colour = colours[name]
        glows = name.startswith("lit")
        rows += [colour * 0.8, colour] if glows else [colour * light.shade, colour * light.sun]
    table = np.array(rows, dtype=np.float32)
    return table + np.float32(haze) * (light.haze - table)


def press(
    pixels: Array,
    kind: str,
    variant: int,
    at: tuple[float, float],
    height: float,
    table: Array,
    opacity: float = 1.0,
    upside: bool = False,
) -> None:
    """Paint a stamp in place, its bottom centre at (x, y); all lengths in picture heights.

    pixels: (s, s, 3) in [0, 1]; table: (2m, 3) from `palette`.
    """
    size = len(pixels)
    rows = max(2, round(steps(height) * size))
    cover, clear = pressed(kind, variant, rows)
    if upside:
        cover, clear = cover[::-1], clear[::-1]
    top, left = round(at[1] * size) - rows, round(at[0] * size - cover.shape[1] / 2)
    blend(pixels, cover, clear, top, left, table, opacity)


def blend(
    pixels: Array,
    cover: Array,
    clear: Array,
    top: int,
    left: int,
    table: Array,
    opacity: float = 1.0,
) -> None:
    """Lay coverage maps over the picture with their top left corner at (top, left), clipped."""
    size = len(pixels)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + cover.shape[0], size), min(left + cover.shape[1], size)
    if y0 >= y1 or x0 >= x1:
        return
    cut = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    region, paint = pixels[y0:y1, x0:x1], cover[cut] @ table
    if opacity < 1:
        region *= 1 - opacity * (1 - clear[cut])
        region += opacity * paint
        return
    region *= clear[cut]
    region += paint


def press_strip(
    pixels: Array,
    kind: str,
    variant: int,
    base: float,
    height: float,
    table: Array,
    shift: float,
    width: float = 2.0,
) -> None:
    """Paint a strip that repeats in x (a range, a treeline, grass) across the whole picture.

    The strip's bottom lies at y = base; its period is `width` picture widths, its phase `shift`.
    """
    size = len(pixels)
    rows, cols = max(2, round(steps(height, 4) * size)), round(steps(width, 4) * size)
    cover, clear = resampled(kind, variant, rows, cols)
    take = (np.arange(size) + round(shift * cols)) % cols
    top = round(base * size) - rows
    blend(pixels, cover[:, take], clear[:, take], top, 0, table)


@lru_cache(maxsize=64)
def profile(kind: str, variant: int) -> Array:
    """How high a strip reaches at each of its columns, as a share of its height: (w,)."""
    solid = stamp(kind, variant).maps.sum(-1) > 127
    return (solid.any(0) * (1 - solid.argmax(0) / len(solid))).astype(np.float32)


def gap(kind: str, variant: int, x: float, width: float, rng: np.random.Generator) -> float:
    """A phase at which a strip of that width lies low about the picture's x, out of ten tried."""
    reach, shifts = profile(kind, variant), rng.random(10)
    near = (x + np.linspace(-0.07, 0.07, 9)) / width
    columns = ((shifts[:, None] + near[None, :]) % 1 * len(reach)).astype(int)
    return float(shifts[reach[columns].max(1).argmin()])


@lru_cache(maxsize=128)
def _halo(radius: int) -> Array:
    r = np.arange(-radius, radius + 1, dtype=np.float32) / radius
    d2 = r[:, None] ** 2 + r[None, :] ** 2
    return np.clip(np.exp(-4.5 * d2) - np.exp(-4.5), 0, None).astype(np.float32)[..., None]


def glow(pixels: Array, at: tuple[float, float], radius: float, colour: Colour) -> None:
    """Light that colour around a point in place (a screen blend: never beyond white)."""
    size = len(pixels)
    r = max(1, round(radius * size))
    top, left = round(at[1] * size) - r, round(at[0] * size) - r
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + 2 * r + 1, size), min(left + 2 * r + 1, size)
    if y0 >= y1 or x0 >= x1:
        return
    halo = _halo(r)[y0 - top : y1 - top, x0 - left : x1 - left]
    region = pixels[y0:y1, x0:x1]
    region += halo * colour * np.clip(1 - region, 0, 1)


def shadow(
    pixels: Array, at: tuple[float, float], wide: float, tall: float, strength: float
) -> None:
    """Darken a soft ellipse on the ground in place: half axes `wide` and `tall`."""
    size = len(pixels)
    rx, ry = max(1, round(wide * size)), max(1, round(tall * size))
    top, left = round(at[1] * size) - ry, round(at[0] * size) - rx
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + 2 * ry + 1, size), min(left + 2 * rx + 1, size)
    if y0 >= y1 or x0 >= x1:
        return
    cover = _ellipse(rx, ry)[y0 - top : y1 - top, x0 - left : x1 - left]
    pixels[y0:y1, x0:x1] *= 1 - np.float32(strength) * cover


@lru_cache(maxsize=512)
def _ellipse(rx: int, ry: int) -> Array:
    x, y = np.arange(-rx, rx + 1) / rx, np.arange(-ry, ry + 1) / ry
    d2 = x[None, :] ** 2 + y[:, None] ** 2
    return np.clip(1 - d2, 0, 1).astype(np.float32)[..., None]
