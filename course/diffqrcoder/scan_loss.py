"""The scanning-robust loss L_SR: how far a picture is from being read as a given code."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from course.qr_codes import luminance

WHITE, DARK = 0.65, 0.45  # a white pixel should be at least as bright, a dark one at most


def pixel_error(grey: Tensor, target: Tensor) -> Tensor:
    """2 · relu(0.65 − g) where the target is white, 2 · relu(g − 0.45) where it is dark.

    grey, target: (b, 1, h, w), the target 1 for white and 0 for dark -> (b, 1, h, w), at least 0.
    """
    return torch.where(target > 0.5, 2 * F.relu(WHITE - grey), 2 * F.relu(grey - DARK))


def module_window(module_size: int, sigma: float = 1.5) -> Tensor:
    """How much each pixel of a module counts: a Gaussian with its peak of 1 in the middle.

    sigma: in pixels -> (module_size, module_size) in [0, 1]: shifted and scaled so that it runs
    from 0 to 1, and 0 wherever it would be below 0.1.
    """
    place = torch.arange(module_size, dtype=torch.float64) - (module_size - 1) / 2
    bell = torch.exp(-(place[:, None] ** 2 + place**2) / (2 * sigma**2))
    window = (bell - bell.min()) / (bell.max() - bell.min())
    return torch.where(window < 0.1, 0, window).float()


def modules(image: Tensor, module_size: int) -> Tensor:
    """The squares of an image, one after the other: (b, 1, n·s, m·s) -> (b, n·m, s, s)."""
    b, _, h, w = image.shape
    s = module_size
    grid = image.reshape(b, h // s, s, w // s, s).transpose(2, 3)
    return grid.reshape(b, -1, s, s)


def central_mean(squares: Tensor) -> Tensor:
    """The mean of the pixels within ⌈s/6⌉ of each square's middle: (b, k, s, s) -> (b, k)."""
    s = squares.shape[-1]
    half = math.ceil(s / 6)
    # An even square has its middle between two pixels, an odd one in a pixel.
    middle = slice(s // 2 - half, s // 2 + half + s % 2)
    return squares[..., middle, middle].mean(dim=(2, 3))


def scanning_robust_loss(
    image: Tensor, target: Tensor, module_size: int, *, margin: int = 0, sigma: float = 1.5
) -> Tensor:
    """L_SR of each image: the error of its modules, those that scan already left out (DiffQRCoder).

    image: (b, 3, h, w), [0, 1] but not clamped to it, so that pixels beyond the range are still
    pulled back; target: (b, 1, h, w), 1 = white; module_size: pixels a module, at least 3; margin:
    pixels at each side that do not count -> (b,). Within a module the pixel errors are summed under
    `module_window(module_size, sigma)`; a module whose central mean is on the right side already
    (at least 0.65, or at most 0.45) counts as 0; the mean is over all modules. Raises ValueError
    for shapes that do not fit.
    """
    require_modules(image, target, module_size, margin)
    inside = slice(margin, -margin or None)
    image, target = image[..., inside, inside], target[..., inside, inside]
    grey = luminance(image)
    window = module_window(module_size, sigma).to(image)
    errors = (modules(pixel_error(grey, target), module_size) * window).sum(dim=(2, 3))
    centre = central_mean(modules(grey, module_size))
    white = central_mean(modules(target, module_size)) > 0.5
    wrong = torch.where(white, centre < WHITE, centre > DARK)
    return (errors * wrong).mean(dim=1)


def require_modules(image: Tensor, target: Tensor, module_size: int, margin: int) -> None:
    """Raise ValueError unless image and target are of whole modules, as L_SR takes them."""
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"image is (b, 3, h, w), not {tuple(image.shape)}.")
    if target.shape != (len(image), 1, *image.shape[2:]):
        wanted = (len(image), 1, *image.shape[2:])
        raise ValueError(f"target is {wanted} for this image, not {tuple(target.shape)}.")
    if module_size < 3 or margin < 0:
        raise ValueError(f"module_size ≥ 3 and margin ≥ 0, not {module_size} and {margin}.")
    h, w = (side - 2 * margin for side in image.shape[2:])
    if h < module_size or w < module_size or h % module_size or w % module_size:
        raise ValueError(
            f"{h} × {w} pixels inside the margin are not whole modules of {module_size}."
        )
