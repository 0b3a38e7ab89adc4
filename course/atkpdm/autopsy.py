"""How a measurement of protection goes wrong, to be run beside the right one."""

import torch
from torch import Tensor

from course.plots import to_uint8


def wrapped_psnr(x: Tensor, y: Tensor) -> Tensor:
    """The PSNR of two pictures as it comes out when bytes are subtracted and squared as bytes.

    x, y: (b, c, h, w) in [−1, 1] -> (b,) in dB. Bytes wrap at 256: −1 is 255 and 16² is 0. However
    unlike the pictures are, the mean of what is left of the squares stays near 100, and the PSNR
    near 28 dB.
    """
    a, b = (torch.from_numpy(to_uint8(z)).permute(0, 3, 1, 2) for z in (x, y))
    difference = a - b  # uint8, as a − b is of two arrays of bytes
    squares = difference * difference
    return 10 * torch.log10(255**2 / squares.double().flatten(1).mean(dim=1)).float()


def washed_out(x: Tensor) -> Tensor:
    """A picture in [−1, 1] that was taken for one in [0, 1] and "normalised" once more: x/2 + 1/2.

    Everything is at half contrast and as light as white; two such pictures are twice as near.
    """
    return x / 2 + 0.5
