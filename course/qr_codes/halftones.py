"""Halftone codes: a picture in dots around the middle of each module (Chu et al. 2013)."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from course.qr_codes.encoding import render
from course.qr_codes.layout import function_mask, version_of
from course.qr_codes.targets import picture_modules


def dither(picture: Tensor, size: int) -> Tensor:
    """A picture in black and white dots whose density is its darkness (Floyd–Steinberg, by Pillow).

    picture: (1, 1 or 3, h, h) in [0, 1], h ≥ size -> (size, size) bool, True = dark. Raises as
    `picture_modules` does.
    """
    grey = picture_modules(picture, size).mul(255).round().to(torch.uint8)
    dots = Image.fromarray(grey.numpy()).convert("1", dither=Image.Dither.FLOYDSTEINBERG)
    return ~torch.from_numpy(np.array(dots))


def halftone_cells(code: Tensor, dots: Tensor, fixed: Tensor) -> Tensor:
    """Each module as 3 × 3 cells: the middle one shows the code, the other eight the picture.

    code, fixed: (n, n) bool; dots: (3n, 3n) bool, True = dark -> (3n, 3n) bool. A module that is
    `fixed` shows the code in all nine cells.
    """
    whole = code.repeat_interleave(3, 0).repeat_interleave(3, 1)
    shown = fixed.repeat_interleave(3, 0).repeat_interleave(3, 1)
    shown[1::3, 1::3] = True
    return torch.where(shown, whole, dots)


def halftone(code: Tensor, picture: Tensor, module_size: int = 9, margin: int = 4) -> Tensor:
    """A halftone code: (1, 1, h, w) with h = w = (n + 2 margin) · module_size, 1 = white.

    code: (n, n) bool; picture: (1, 1 or 3, h, h) in [0, 1], 3n pixels or more a side; module_size:
    a multiple of 3. The finders and all other function patterns stay whole. Raises ValueError for
    another module size, and as `picture_modules` and `render` do.
    """
    if module_size % 3:
        raise ValueError(f"module_size is a multiple of 3, for 3 × 3 cells, not {module_size}.")
    fixed = function_mask(version_of(code))
    cells = halftone_cells(code, dither(picture, 3 * len(code)), fixed)
    return render(cells, module_size // 3, 3 * margin)
