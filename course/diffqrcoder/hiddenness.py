"""How well a code hides: how much of a picture's light and dark is the code's."""

import torch
from torch import Tensor

from course.diffqrcoder.codes import PlacedCode
from course.qr_codes import luminance


def explained_variance(image: Tensor, placed: PlacedCode) -> Tensor:
    """R², the share of the luminance's variance that the modules' dark and light explain: (b,).

    image: (b, 1 or 3, side, side). Of the pixels in the data area, that is without function
    patterns and what is around the code, each is predicted by the mean of its kind, dark or light;
    1 − (variance left)/(variance) is in [0, 1]: 1 for a code in two greys, about 0 for a picture
    that knows nothing of the code, and 0 for a picture of one grey. Raises ValueError for an image
    of another size.
    """
    if image.shape[2:] != (placed.side, placed.side):
        raise ValueError(
            f"image is {placed.side} × {placed.side} pixels for this code, "
            f"not {tuple(image.shape[2:])}."
        )
    data = placed.crop(~placed.patterns)[0, 0]
    light = placed.crop(placed.target)[0, 0][data]
    pixels = placed.crop(luminance(image))[:, 0, data].double()
    return squared_correlation(pixels, light.to(pixels))


def squared_correlation(x: Tensor, y: Tensor) -> Tensor:
    """x: (b, k), y: (k,) -> (b,); between a number and one of two kinds it is R²."""
    x, y = x - x.mean(dim=1, keepdim=True), y - y.mean()
    spread = x.square().sum(dim=1) * y.square().sum()
    # Of what does not vary rounding leaves a little; nothing is explained there.
    varies = spread > (1e-12 * x.shape[1]) ** 2
    return torch.where(varies, (x @ y).square() / spread.where(varies, 1), 0)
