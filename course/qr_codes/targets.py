"""What a picture asks of a code: a brightness for each module, and how much each matters."""

import torch
import torch.nn.functional as F
from torch import Tensor

from course.qr_codes.scanning import local_mean, luminance


def picture_modules(picture: Tensor, n: int) -> Tensor:
    """A picture's brightness, one value a module: (n, n) in [0, 1].

    picture: (1, 1 or 3, h, h) floats in [0, 1], h ≥ n. Raises TypeError and ValueError for anything
    else.
    """
    if not isinstance(picture, Tensor) or not picture.is_floating_point():
        raise TypeError("picture is a tensor of floats in [0, 1], not another kind of thing.")
    shape = tuple(picture.shape)
    if len(shape) != 4 or shape[0] != 1 or shape[1] not in (1, 3):
        raise ValueError(f"picture is (1, 1 or 3, h, h), not {shape}.")
    if shape[2] != shape[3] or shape[2] < n:
        raise ValueError(f"picture is square, {n} pixels or more a side here, not {shape[2:]}.")
    if not (picture.min() >= 0 and picture.max() <= 1):
        raise ValueError("picture lies in [0, 1], 1 being white.")
    return F.adaptive_avg_pool2d(luminance(picture), n)[0, 0]


def module_weights(modules: Tensor, threshold: Tensor) -> Tensor:
    """How much each module matters: |brightness − threshold| · (1 + contrast) · nearness.

    modules: (n, n) brightness in [0, 1]; threshold: a scalar, or (n, n) -> (n, n) ≥ 0. Contrast is
    the standard deviation (dividing by the count) in the 5 × 5 modules around, fewer at the border,
    over its largest value, or over 0.001 where that is larger. Nearness falls linearly from 1 in
    the middle to ½ in the corners.
    """
    centred = (modules - modules.mean())[None, None]  # or rounding would look like contrast
    variance = local_mean(centred**2, 2) - local_mean(centred, 2) ** 2
    contrast = variance.clamp(min=0).sqrt().reshape(modules.shape)
    contrast = contrast / contrast.max().clamp(min=1e-3)
    middle = torch.linspace(-1, 1, len(modules)).to(modules)
    distance = torch.hypot(middle[:, None], middle[None, :]) / 2**0.5
    return (modules - threshold).abs() * (1 + contrast) * (1 - 0.5 * distance)
