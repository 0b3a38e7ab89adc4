"""How much a picture may change: PSNR, SSIM, a perceptual distance, and what keeps them."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from course.sampling import normal_like

Loss = Callable[[Tensor], Tensor]

RANGE = 2.0  # Pictures lie in [−1, 1].


def _window(size: int = 11, sigma: float = 1.5) -> Tensor:
    """A Gaussian window that adds up to 1: (1, 1, size, size)."""
    along = torch.exp(-((torch.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    along = along / along.sum()
    return (along[:, None] * along)[None, None]


def _blurred(x: Tensor) -> Tensor:
    """The weighted means of a picture's windows, those inside it alone."""
    window = _window().to(x).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(x, window, groups=x.shape[1])


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """The structural similarity of two pictures (Wang et al. 2004), 1 where they are equal.

    x, y: (b, c, h, w) in [−1, 1], h and w at least 11 -> (b,): the mean over all Gaussian windows
    of 11 × 11 inside the picture, and over channels; K₁ = 0.01, K₂ = 0.03, range 2.
    """
    c1, c2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    cov = _blurred(x * y) - mean_x * mean_y
    brightness = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * cov + c2) / (var_x + var_y + c2)
    return (brightness * structure).flatten(1).mean(dim=1)


def radius(x: Tensor, least_psnr: float) -> float:
    """How far, as a Euclidean length, a picture may go from x: (b, c, h, w) for this PSNR in dB."""
    return RANGE * 10 ** (-least_psnr / 20) * math.sqrt(x[0].numel())


def scaled(x: Tensor, delta: Tensor, s: Tensor) -> Tensor:
    """x with s times a perturbation, cut to [−1, 1]. x, delta: (b, …); s: (b,) -> (b, …)."""
    return (x + s.reshape(-1, *[1] * (x.ndim - 1)) * delta).clamp(-1, 1)


@torch.no_grad()
def border_scale(
    x: Tensor, delta: Tensor, allowed: float, most: Tensor, rounds: int = 60
) -> Tensor:
    """The largest s ≤ `most` for which `scaled(x, delta, s)` is within `allowed` of x: (b,).

    x, delta: (b, …), x in [−1, 1]; allowed: a Euclidean length; most: (b,) at least 0. Each picture
    has its own s, found by halving the interval from 0 to `most` as often as `rounds` says.
    """
    low, high = torch.zeros_like(most), most
    for _ in range(rounds):
        s = (low + high) / 2
        inside = (scaled(x, delta, s) - x).flatten(1).norm(dim=1) <= allowed
        low, high = torch.where(inside, s, low), torch.where(inside, high, s)
    return low


def project(x_adv: Tensor, x: Tensor, least_psnr: float) -> Tensor:
    """The nearest picture that is no worse than `least_psnr` dB and lies in [−1, 1].

    x_adv, x: (b, c, h, w), x in [−1, 1] -> (b, c, h, w): clip(x + s (x_adv − x)), with one s in
    [0, 1] for each picture, the largest that the PSNR allows. Exact: where both constraints bind,
    the multiplier of the first is 1/s − 1.
    """
    most = torch.ones(len(x)).to(x)
    s = border_scale(x, x_adv - x, radius(x, least_psnr), most)
    return scaled(x, x_adv - x, s)


def at_psnr(x_adv: Tensor, x: Tensor, wanted: float) -> Tensor:
    """A perturbation made as large as the PSNR `wanted` allows: how methods are compared.

    x_adv, x: (b, c, h, w), x in [−1, 1] -> (b, c, h, w) in [−1, 1], x plus a multiple, more or less
    than 1, of x_adv − x. Where no multiple comes to `wanted` dB, because it is cut at −1 and 1, the
    largest is taken. Raises ValueError where x_adv is x.
    """
    delta = x_adv - x
    lengths = delta.flatten(1).norm(dim=1)
    if not bool((lengths > 0).all()):
        raise ValueError("There is no perturbation to scale: x_adv is x.")
    allowed = radius(x, wanted)
    return scaled(x, delta, border_scale(x, delta, allowed, 1000 * allowed / lengths))


def random_start(x: Tensor, least_psnr: float, generator: torch.Generator | None = None) -> Tensor:
    """A random point inside the budget, where the feature distance has a slope to climb.

    x: (b, c, h, w) in [−1, 1] -> (b, c, h, w): x and white noise of half the length allowed, cut to
    [−1, 1]. The noise is one `normal_like(x, generator)`.
    """
    half = least_psnr + 20 * math.log10(2)
    return at_psnr(x + normal_like(x, generator), x, half)


def slope(loss: Loss, z: Tensor) -> Tensor:
    """The gradient, at z, of a loss that has one value for each picture: as z."""
    z = z.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(z).sum(), z)
    return gradient


def keep_faithful(z: Tensor, distance: Loss, delta: float, most: int = 10) -> Tensor:
    """Steps down a distance until it is at most `delta` for every picture, or `most` steps.

    z: (b, …), pictures or latents; distance: z -> (b,) at least 0 -> (b, …). The distance is taken
    anew before each step, and only pictures that are above `delta` move: by (d − delta) / ‖g‖²
    along their gradient g, which would end at `delta` were the distance linear.
    """
    for _ in range(most):
        with torch.no_grad():
            excess = (distance(z) - delta).clamp(min=0)
        if not bool(excess.any()):
            break
        g = slope(distance, z)
        length = excess / g.flatten(1).square().sum(dim=1).clamp(min=1e-12)
        z = z - length.reshape(-1, *[1] * (z.ndim - 1)) * g
    return z


def settle(x_adv: Tensor, x: Tensor, distance: Loss, delta: float, rounds: int = 20) -> Tensor:
    """x_adv, drawn back towards x as far as the budget of perceptual distance demands.

    x_adv, x: (b, c, h, w) -> (b, c, h, w). `distance` is to x, 0 at x; each picture's share of the
    perturbation is the largest found by halving, 1 where x_adv holds the budget already.
    """
    one = torch.ones(len(x)).to(x)
    holds = distance(x_adv) <= delta
    low, high = torch.zeros_like(one), one
    for _ in range(rounds):
        s = (low + high) / 2
        inside = distance(scaled(x, x_adv - x, s)) <= delta
        low, high = torch.where(inside, s, low), torch.where(inside, high, s)
    return scaled(x, x_adv - x, torch.where(holds, one, low))
