"""What happens to a code between a screen and a scanner: twelve distortions, each from a seed."""

import io
import math
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

# images: (b, 3, h, w) in [0, 1]. All images of a batch meet the same draw, so that a batch is its
# images one by one.
Distortion = Callable[[Tensor, torch.Generator], Tensor]

Kind = TypeVar("Kind", Tensor, np.ndarray)

TABLE = 0.5  # the grey around a picture that no longer fills the frame


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """One number between low and high."""
    return low + (high - low) * torch.rand((), generator=generator).item()


# --- From further away, from the side ------------------------------------------------------------


def resized(images: Tensor, factor: float) -> Tensor:
    """Another number of pixels: (b, 3, h, w) -> (b, 3, ⌊factor · h⌉, ⌊factor · w⌉)."""
    size = [max(1, round(factor * side)) for side in images.shape[2:]]
    return F.interpolate(images, size, mode="bilinear", antialias=True).clamp(0, 1)


def small(images: Tensor, generator: torch.Generator) -> Tensor:
    """Seen from further away: 70 to 80 % of the width."""
    return resized(images, uniform(generator, 0.7, 0.8))


def large(images: Tensor, generator: torch.Generator) -> Tensor:
    """Seen from nearby: 1.5 to 3 times the width."""
    return resized(images, uniform(generator, 1.5, 3.0))


def warped(images: Tensor, matrix: Tensor) -> Tensor:
    """The frame seen through a homography; what lies outside the picture is grey.

    matrix: (3, 3), from a place in the new frame to one in the picture, both in [−1, 1].
    """
    identity = torch.eye(2, 3).repeat(len(images), 1, 1)
    places = F.affine_grid(identity, list(images.shape), align_corners=False).to(images)
    there = torch.cat([places, torch.ones_like(places[..., :1])], dim=-1) @ matrix.to(images).T
    grid = there[..., :2] / there[..., 2:]
    return F.grid_sample(images - TABLE, grid, align_corners=False).add(TABLE).clamp(0, 1)


def rotation(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turned by 10 to 35 degrees either way, in a frame large enough to hold it."""
    turn = math.radians(uniform(generator, 10, 35))
    turn = turn if uniform(generator, 0, 1) < 0.5 else -turn
    cos, sin = math.cos(turn), math.sin(turn)
    framed = _framed(images, (abs(sin) + cos - 1) / 2)
    return warped(framed, torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]))


def perspective(images: Tensor, generator: torch.Generator) -> Tensor:
    """Held at a slant: each corner up to 12 % of the width nearer to the middle."""
    corners = torch.tensor([[-1.0, -1.0], [1, -1], [1, 1], [-1, 1]])
    drawn = corners * (1 - 0.24 * torch.rand(4, 2, generator=generator))
    return warped(images, homography(drawn, corners))


def homography(places: Tensor, images: Tensor) -> Tensor:
    """The homography that takes four places to four others, by its eight linear equations: (3, 3).

    places, images: (4, 2); the entry in the corner is 1.
    """
    x, y = places.double().T
    u, v = images.double().T
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    first = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=1)
    second = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=1)
    solution = torch.linalg.solve(torch.cat([first, second]), torch.cat([u, v]))
    return torch.cat([solution, solution.new_ones(1)]).reshape(3, 3).float()


def _framed(images: Tensor, share: float) -> Tensor:
    """More table around: `share` of the width on every side."""
    return F.pad(images, (math.ceil(share * images.shape[-1]),) * 4, value=TABLE)


# --- Out of focus --------------------------------------------------------------------------------


def filtered(images: Tensor, kernel: Tensor) -> Tensor:
    """A convolution of each channel, the rim repeated. kernel: (k, k), k odd, adding up to 1."""
    half = len(kernel) // 2
    padded = F.pad(images, (half,) * 4, mode="replicate")
    return F.conv2d(padded, kernel.to(images).expand(3, 1, -1, -1), groups=3).clamp(0, 1)


def gaussian(sigma: float) -> Tensor:
    """A Gaussian as a kernel (k, k), as wide as three of its standard deviations each way."""
    half = math.ceil(3 * sigma)
    bell = torch.exp(-(torch.arange(-half, half + 1.0) ** 2) / (2 * sigma**2))
    return bell[:, None] * bell / bell.sum() ** 2


def blur(images: Tensor, generator: torch.Generator) -> Tensor:
    """Out of focus: a Gaussian of 0.5 to 0.8 % of the width."""
    return filtered(images, gaussian(uniform(generator, 0.005, 0.008) * images.shape[-1]))


def motion(images: Tensor, generator: torch.Generator) -> Tensor:
    """A shaken hand: a straight stroke of 2 to 3 % of the width, in any direction."""
    length = uniform(generator, 0.02, 0.03) * images.shape[-1]
    angle, half = uniform(generator, 0, math.pi), math.ceil(length / 2)
    place = torch.arange(-half, half + 1.0)
    along = place * math.cos(angle) + place[:, None] * math.sin(angle)
    across = place[:, None] * math.cos(angle) - place * math.sin(angle)
    kernel = (length / 2 + 0.5 - along.abs()).clamp(0, 1) * (1 - across.abs()).clamp(0, 1)
    return filtered(images, kernel / kernel.sum())


# --- Sensor and file -----------------------------------------------------------------------------


def noise(images: Tensor, generator: torch.Generator) -> Tensor:
    """A sensor in the dark: Gaussian noise of 0.06 to 0.12 in every value."""
    sigma = uniform(generator, 0.06, 0.12)
    drawn = torch.randn(images.shape[1:], generator=generator).to(images)
    return (images + sigma * drawn).clamp(0, 1)


def jpeg(images: Tensor, generator: torch.Generator) -> Tensor:
    """Saved as JPEG at a quality of 15 to 35."""
    return _saved(images, round(uniform(generator, 15, 35)))


def _saved(images: Tensor, quality: int) -> Tensor:
    """What is left of images after JPEG of that quality."""
    pixels = images.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    read = []
    for array in pixels:
        file = io.BytesIO()
        Image.fromarray(array).save(file, "JPEG", quality=quality)
        read.append(np.array(Image.open(file)))
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).to(images).div(255)


# --- Light ---------------------------------------------------------------------------------------


def contrast(images: Tensor, generator: torch.Generator) -> Tensor:
    """A faded print: the range of brightness shrinks to 45 to 65 %, around a grey."""
    left, grey = uniform(generator, 0.45, 0.65), uniform(generator, 0.4, 0.6)
    return grey + left * (images - grey)


def dark(images: Tensor, generator: torch.Generator) -> Tensor:
    """Underexposed: 35 to 60 % of the light, and the tones between pulled down."""
    return images ** uniform(generator, 1.1, 1.4) * uniform(generator, 0.35, 0.6)


def uneven(images: Tensor, generator: torch.Generator) -> Tensor:
    """A lamp at one side: the light falls to 35 to 55 % across the picture."""
    angle, least = uniform(generator, 0, 2 * math.pi), uniform(generator, 0.35, 0.55)
    y, x = (torch.linspace(-1, 1, side) for side in images.shape[2:])
    along = x * math.cos(angle) + y[:, None] * math.sin(angle)
    way = (along - along.min()) / (along.max() - along.min())
    return images * (1 - (1 - least) * way).to(images)


def photo(images: Tensor, generator: torch.Generator) -> Tensor:
    """A photo of a screen: twice as large, at a slant, a little of all the rest, as JPEG."""
    seen = perspective(resized(_framed(images, 0.1), 2.0), generator)
    seen = filtered(seen, gaussian(uniform(generator, 0.002, 0.004) * seen.shape[-1]))
    lit = (seen + uneven(seen, generator)) / 2
    cast = 1 - 0.15 * torch.rand(3, 1, 1, generator=generator)
    grain = 0.03 * torch.randn(seen.shape[1:], generator=generator)
    return _saved((lit * cast.to(lit) + grain.to(lit)).clamp(0, 1), 60)


DISTORTIONS: dict[str, Distortion] = {
    f.__name__: f
    for f in (
        small, large, rotation, perspective, blur, motion, noise, jpeg, contrast, dark, uneven,
        photo,
    )
}  # fmt: skip


def distort(image: Kind, name: str, seed: int = 0) -> Kind:
    """An image as a scanner may meet it; the same seed gives the same to the bit.

    image: a tensor (b, 3, h, w), or an array or tensor (h, w, 3), floats in [0, 1]; what comes back
    is of the same kind, perhaps of another height and width. name: one of `DISTORTIONS`. Raises
    ValueError for another name, and TypeError and ValueError for anything but such an image.
    """
    if name not in DISTORTIONS:
        raise ValueError(f"name is one of {', '.join(DISTORTIONS)}, not {name!r}.")
    batch = _as_batch(image)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + zlib.crc32(name.encode()))
    made = DISTORTIONS[name](batch, generator)
    as_it_came: Any = made if image.ndim == 4 else made[0].permute(1, 2, 0)
    if isinstance(image, np.ndarray):
        as_it_came = as_it_came.numpy().astype(image.dtype)
    return as_it_came


def _as_batch(image: Tensor | np.ndarray) -> Tensor:
    x = torch.from_numpy(image) if isinstance(image, np.ndarray) else image
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError("image is floats in [0, 1], a tensor or an array.")
    if x.ndim == 3 and x.shape[-1] == 3:
        x = x.permute(2, 0, 1)[None]
    if x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape:
        raise ValueError(f"image is (b, 3, h, w) or (h, w, 3), not {tuple(image.shape)}.")
    if not (x.min() >= 0 and x.max() <= 1):
        raise ValueError("image lies in [0, 1], 1 being white.")
    return x.float()
