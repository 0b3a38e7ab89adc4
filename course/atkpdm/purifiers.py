"""What an editor may do to a picture first: JPEG, blur, resizing, fewer bits, diffusion."""

import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from course.atkpdm.victims import Victim
from course.plots import to_uint8
from course.sdedit import sdedit

Purifier = Callable[[Tensor], Tensor]


def from_uint8(pixels: np.ndarray) -> Tensor:
    """Bytes (n, h, w, c) as pictures (n, c, h, w) in [−1, 1]: what `plots.to_uint8` undoes."""
    return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1


def as_published(x: Tensor) -> Tensor:
    """The picture that a file of 8 bits holds: x rounded to 256 levels in [−1, 1]."""
    return from_uint8(to_uint8(x)).to(x)


def jpeg(x: Tensor, quality: int = 50) -> Tensor:
    """Through a JPEG file and back. x: (b, 1 or 3, h, w) in [−1, 1] -> as x. No gradient."""
    pages = []
    for pixels in to_uint8(x):
        file = io.BytesIO()
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(
            file, "JPEG", quality=quality
        )
        pages.append(np.asarray(Image.open(file)).reshape(pixels.shape))
    return from_uint8(np.stack(pages)).to(x)


def blur(x: Tensor, sigma: float = 1.0) -> Tensor:
    """A Gaussian blur that repeats the border. x: (b, c, h, w); sigma: in pixels -> as x."""
    reach = max(1, round(3 * sigma))
    along = torch.exp(-(torch.arange(-reach, reach + 1).to(x) ** 2) / (2 * sigma**2))
    window = (along / along.sum()).expand(x.shape[1], 1, 1, -1)
    padded = F.pad(x, (reach,) * 4, mode="replicate")
    rows = F.conv2d(padded, window, groups=x.shape[1])
    return F.conv2d(rows, window.transpose(2, 3), groups=x.shape[1])


def resize(x: Tensor, factor: float = 0.5) -> Tensor:
    """Made smaller by `factor` and large again, both bilinear. x: (b, c, h, w) -> as x."""
    small = F.interpolate(x, scale_factor=factor, mode="bilinear", antialias=True)
    return F.interpolate(small, x.shape[-2:], mode="bilinear")


def bit_depth(x: Tensor, bits: int = 3) -> Tensor:
    """Rounded to 2^bits evenly spaced levels of [−1, 1], both ends among them. No gradient."""
    steps = 2**bits - 1
    return torch.round((x + 1) / 2 * steps) / steps * 2 - 1


def diffpure(
    x: Tensor, victim: Victim, t: int, steps: int = 10, generator: torch.Generator | None = None
) -> Tensor:
    """Noise to a small t and walk back (Nie et al. 2022): SDEdit as a purifier. No gradient.

    x: (b, c, h, w) in [−1, 1] -> as x; t: an int in 0…T−1. Fresh noise on the way (η = 1).
    """
    walk = sdedit(
        victim.eps_model, x, victim.alpha_bars, t, steps=steps, eta=1.0, generator=generator
    )
    *_, pure = walk
    return pure


def straight_through(purify: Purifier) -> Purifier:
    """A purifier whose value is its own and whose gradient is the identity's.

    So that an attack can look through what has no useful gradient: rounding, a file, a sampler.
    """
    return lambda x: x + (purify(x) - x).detach()


def purifiers(victim: Victim, seed: int = 0) -> dict[str, Purifier]:
    """The editor's purifiers by name, "none" first. Each gives the same result each time."""
    t = len(victim.alpha_bars) // 10
    return {
        "none": lambda x: x,
        "JPEG 50": jpeg,
        "blur σ = 1": blur,
        "resize ½": resize,
        "3 bits": bit_depth,
        "DiffPure": lambda x: diffpure(
            x, victim, t, generator=torch.Generator(x.device).manual_seed(seed)
        ),
    }


def mixed(chosen: dict[str, Purifier]) -> Purifier:
    """One purifier for each part of a batch, straight through: the protector's expectation.

    The batch is cut into as many parts as there are purifiers, or fewer where it is smaller.
    """
    through = [straight_through(purify) for purify in chosen.values()]

    def purify(x: Tensor) -> Tensor:
        parts = x.tensor_split(len(through))
        return torch.cat([f(part) for f, part in zip(through, parts, strict=True) if len(part)])

    return purify
