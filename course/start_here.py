"""Lesson 00: a first checked answer. Pixels as numbers, and noise mixed into them."""

import math

import torch
from torch import Tensor


def to_unit_range(pixels: Tensor) -> Tensor:
    """Images as this course holds them: floats from −1 (black) to 1 (white), with a channel axis.

    pixels: (n, h, w) uint8, from 0 (black) to 255 (white) -> (n, 1, h, w) float32 in [−1, 1].
    Raises TypeError for pixels that are not uint8.
    """
    if pixels.dtype != torch.uint8:
        raise TypeError(f"pixels holds bytes: uint8, not {pixels.dtype}.")
    return pixels.unsqueeze(1).float() / 127.5 - 1


def mix_with_noise(x0: Tensor, eps: Tensor, amount: float) -> Tensor:
    """An image with noise mixed in: √(1 − amount) x_0 + √amount ε.

    x0: (n, c, h, w); eps: as x0, N(0, I); amount: the noise's share of the variance, from 0 (the
    image) to 1 (noise alone) -> (n, c, h, w). Raises ValueError for an amount outside [0, 1].
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"amount is the noise's share of the variance, in [0, 1], not {amount}.")
    return math.sqrt(1 - amount) * x0 + math.sqrt(amount) * eps
