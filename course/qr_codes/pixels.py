"""An ArtCoder-style code: pixels optimised until they scan (Su et al. 2021), without a network.

The published method measures content and style with the features of a large classifier. Here a few
fixed filters stand in: colours, edges and spots at three scales. They see no objects, so the
"style" is a palette and a texture, no more.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from course.qr_codes.encoding import render
from course.qr_codes.layout import function_mask, version_of
from course.qr_codes.scanning import luminance

# What each filter sees: the colour itself, edges across and along, spots.
FILTERS = torch.tensor([
    [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    [[0, 0, 0], [-1, 0, 1], [0, 0, 0]],
    [[0, -1, 0], [0, 0, 0], [0, 1, 0]],
    [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
], dtype=torch.float32)  # fmt: skip
SCALES = (1, 2, 4)


def features(image: Tensor) -> list[Tensor]:
    """What the filters see. image: (1, 3, h, w) -> (1, 12, h/s, w/s) for each s in SCALES."""
    bank = FILTERS.to(image).repeat(3, 1, 1).unsqueeze(1)
    small = (F.avg_pool2d(image, scale) for scale in SCALES)
    return [F.conv2d(F.pad(x, (1,) * 4, mode="replicate"), bank, groups=3) for x in small]


def gram(feature: Tensor) -> Tensor:
    """Which filters answer together, wherever that is: (1, c, h, w) -> (c, c), over pixels."""
    flat = feature.flatten(2)[0]
    return flat @ flat.T / flat.shape[1]


def sampled(image: Tensor, n: int, module_size: int, margin: int) -> Tensor:
    """What a scanner is likely to read in each module: (n, n), grey under a Gaussian.

    image: (1, 1 or 3, h, w) in [0, 1]. The Gaussian sits in the middle of the module, has a
    standard deviation of a fifth of its side, and sums to 1.
    """
    place = (torch.arange(module_size) - (module_size - 1) / 2) / (module_size / 5)
    bell = torch.exp(-(place**2) / 2).to(image)
    window = bell[:, None] * bell / bell.sum() ** 2
    start, end = margin * module_size, (margin + n) * module_size
    grey = luminance(image)[..., start:end, start:end]
    return F.conv2d(grey, window[None, None], stride=module_size)[0, 0]


def code_loss(means: Tensor, code: Tensor, slack: float = 0.15) -> Tensor:
    """The squared error of the modules that are not yet right: its sum, divided by all n².

    means: (n, n) in [0, 1], 1 = white; code: (n, n) bool, True = dark -> scalar. Dark modules
    should become 0 and light ones 1, but one that is darker than ½ − slack, or lighter than
    ½ + slack, is right already and counts nothing: the early stop.
    """
    right = torch.where(code, means < 0.5 - slack, means > 0.5 + slack)
    error = (means - (~code).to(means)) ** 2
    return torch.where(right, torch.zeros_like(error), error).mean()


class Weights(NamedTuple):
    """What each part of the loss counts."""

    code: float = 20.0
    content: float = 1.0
    style: float = 5.0


WEIGHTS = Weights()


def framed(picture: Tensor, n: int, module_size: int, margin: int) -> Tensor:
    """A picture in the code's place, with a white quiet zone: (1, 3, h, w)."""
    side = n * module_size
    placed = F.interpolate(picture, size=(side, side), mode="bilinear", antialias=True)
    return F.pad(placed, (margin * module_size,) * 4, value=1.0)


def distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """The squared differences of two lists of features, each a mean, added up."""
    return torch.stack([F.mse_loss(x, y) for x, y in zip(a, b, strict=True)]).sum()


def artcoder(
    code: Tensor,
    content: Tensor,
    style: Tensor | None = None,
    *,
    module_size: int = 8,
    margin: int = 4,
    steps: int = 60,
    lr: float = 0.03,
    weights: Weights = WEIGHTS,
    slack: float = 0.15,
) -> Iterator[Tensor]:
    """Optimise the pixels of a code, yielding each image on the way; the last is the result.

    code: (n, n) bool; content, style: (1, 3, h, h) in [0, 1], of any size. Each image is
    (1, 3, h, w) in [0, 1] with h = w = (n + 2 margin) · module_size. The walk starts at the
    content; function patterns and the quiet zone are the code's from the start. Without `style`
    the content's own is kept. `slack` as in `code_loss`. Raises ValueError for pictures of another
    shape.
    """
    for picture in (content, content if style is None else style):
        if picture.ndim != 4 or picture.shape[:2] != (1, 3):
            raise ValueError(f"content and style are (1, 3, h, h), not {tuple(picture.shape)}.")
    n, target = len(code), render(code, module_size, margin)
    # 1 where the pixels are free; 0 in function patterns and the quiet zone, which are given.
    given = render(~function_mask(version_of(code)), module_size, margin, dark=1, light=0) < 1
    start = framed(content, n, module_size, margin)
    goal = features(start)
    grams = [gram(x) for x in (goal if style is None else features(style))]

    pixels = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=lr)
    for _ in range(steps):
        image = torch.where(given, target, pixels)
        seen = features(image)
        read = sampled(image, n, module_size, margin)
        loss = (
            weights.code * code_loss(read, code, slack)
            + weights.content * distance(seen, goal)
            + weights.style * distance([gram(x) for x in seen], grams)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        # Back into range after the step, not before the loss: there a clamp would stop gradients.
        pixels.data.clamp_(0, 1)
        yield torch.where(given, target, pixels).detach()
