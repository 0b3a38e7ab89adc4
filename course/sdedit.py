"""Lesson 11: editing by noising and denoising; what it keeps; what t means at another size."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from course.forward_process import at, q_sample, snr
from course.metrics import Gaussian, frechet_distance, judge_features, load_judge
from course.sampling import EpsModel, normal_like, sample, timesteps

Point = tuple[float, float]

# --- The editor -----------------------------------------------------------------------------------


def noise_to(
    x: Tensor, t: int, alpha_bars: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """The forward process's x_t of every image, all at the same t: where an edit begins.

    x: (b, c, h, w) in [−1, 1]; t: an int in 0…T−1; alpha_bars: (T,) -> (b, c, h, w). The noise is
    one `normal_like(x, generator)`. Raises ValueError for another t.
    """
    same = torch.full((len(x),), t, device=x.device)
    return q_sample(x, same, normal_like(x, generator), alpha_bars)


def sdedit(
    eps_model: EpsModel,
    x: Tensor,
    alpha_bars: Tensor,
    t: int,
    *,
    steps: int = 50,
    eta: float = 0.0,
    clip: bool = True,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Noise x to t and walk back to data, yielding each x on the way; the edit is last.

    x: (b, c, h, w) in [−1, 1]; t: an int in 0…T−1, how far the edit may go (Meng et al. 2022). All
    `steps` network calls are spread over t…0; where there are fewer levels, each is visited once.
    The noise comes first from `generator`, then what `sample` draws. `eta` and `clip` as in
    `sample`. Raises ValueError for another t.
    """
    xt = noise_to(x, t, alpha_bars, generator)
    yield from sample(
        eps_model,
        xt,
        alpha_bars,
        steps=min(steps, t + 1),
        eta=eta,
        start=t,
        clip=clip,
        generator=generator,
    )


def noise_outside(
    eps_hat: Tensor, x: Tensor, mask: Tensor, xt: Tensor, t: Tensor, alpha_bars: Tensor
) -> Tensor:
    """The predicted noise inside the mask; outside, the noise that leads back to x itself.

    eps_hat, x, xt: (b, c, h, w), x being the original; mask: of a shape that broadcasts to theirs,
    1 where x may change and 0 where it may not, a blend of the two noises between; t: (b,) int64;
    alpha_bars: (T,) -> (b, c, h, w). Outside, it is the noise with which the closed form gives x_t
    from x.
    """
    alpha_bar = at(alpha_bars, t, xt)
    known = (xt - torch.sqrt(alpha_bar) * x) / torch.sqrt(1 - alpha_bar)
    return mask * eps_hat + (1 - mask) * known


def keep_outside(eps_model: EpsModel, x: Tensor, mask: Tensor, alpha_bars: Tensor) -> EpsModel:
    """A model of the noise under which a walk changes x inside the mask alone.

    x: (b, c, h, w) in [−1, 1]; mask as in `noise_outside`.
    """
    return lambda xt, t: noise_outside(eps_model(xt, t), x, mask, xt, t, alpha_bars)


def strength_timesteps(strength: float, inference_steps: int, T: int) -> list[int]:
    """The values of t that diffusers' image-to-image pipelines visit ("trailing" spacing).

    They lay `inference_steps` values over all of T−1…0, as `timesteps` does, and take only the last
    ⌊strength · inference_steps⌋ of them, as a list. Raises ValueError unless strength lies in 0…1
    and leaves at least one.
    """
    calls = int(strength * inference_steps)
    if calls < 1 or strength > 1:
        raise ValueError(f"strength {strength:g} of {inference_steps} steps leaves {calls} calls.")
    return timesteps(T, inference_steps)[-calls:]


# --- Strokes --------------------------------------------------------------------------------------


def coarse(x: Tensor, block: int = 4, levels: int = 3) -> Tensor:
    """A picture as a child with few crayons would fill it in: one of a few greys for each square.

    x: (b, c, h, w) in [−1, 1], h and w multiples of `block` -> the same shape. Each block × block
    square holds its mean, moved to the nearest of `levels` ≥ 2 values evenly spaced over [−1, 1],
    both ends among them.
    """
    share = (F.avg_pool2d(x, block) + 1) / 2
    greys = torch.round(share * (levels - 1)) / (levels - 1)
    return F.interpolate(greys * 2 - 1, scale_factor=block)


def distance_to_segment(a: Point, b: Point, size: int) -> Tensor:
    """How far each pixel's centre is from the straight line between two points: (size, size).

    Points are (x, y) in pixels from the top left corner, x to the right and y down.
    """
    centres = torch.arange(size) + 0.5
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    (ax, ay), (bx, by) = a, b
    dx, dy = bx - ax, by - ay
    # Where along the line the nearest point lies: 0 at a, 1 at b, and never beyond the ends.
    along = ((x - ax) * dx + (y - ay) * dy) / max(dx**2 + dy**2, 1e-9)
    along = along.clamp(0, 1)
    return torch.hypot(x - ax - along * dx, y - ay - along * dy)


def paint(strokes: Sequence[Sequence[Point]], width: float = 3.0, size: int = 28) -> Tensor:
    """White strokes of a round brush on black: (1, 1, size, size) in [−1, 1].

    Each stroke is a list of points (x, y), as in `distance_to_segment`, joined by straight lines;
    one point alone is a dot. `width` is in pixels. Raises ValueError where there is nothing to
    paint.
    """
    if not strokes or not all(strokes):
        raise ValueError("There is no stroke to paint: give at least one, each of a point or more.")
    segments = [ends for stroke in strokes for ends in pairwise([*stroke, stroke[-1]])]
    near = torch.stack([distance_to_segment(a, b, size) for a, b in segments]).amin(dim=0)
    ink = (width / 2 - near + 0.5).clamp(0, 1)  # an edge one pixel wide, not a staircase
    return (ink * 2 - 1).reshape(1, 1, size, size)


GREYS = {".": -1.0, "+": 0.0, "#": 1.0}


def typed(text: str, size: int = 28) -> Tensor:
    """A picture typed with . for black, + for grey and # for white: (1, 1, size, size).

    `text` has n lines of n characters, spaces and empty lines aside, and n divides `size`. Raises
    ValueError for anything else.
    """
    rows = text.split()
    n = len(rows)
    if not n or size % n or any(len(row) != n or set(row) - set(GREYS) for row in rows):
        raise ValueError(f"Type n lines of n characters of . + #, n a divisor of {size}.")
    picture = torch.tensor([[GREYS[c] for c in row] for row in rows])
    return F.interpolate(picture[None, None], scale_factor=size // n)


# --- How good is an edit? -------------------------------------------------------------------------


def faithfulness(edit: Tensor, x: Tensor, strangers: Tensor, block: int = 4) -> float:
    """How much closer the edits are to their inputs than images that never saw them.

    edit, x, strangers: (b, c, h, w) -> 1 − d(edit, x) / d(strangers, x), not below 0. d is the mean
    squared difference of the means of block × block squares: 1 is identical at that scale, 0 is no
    closer than a stranger.
    """
    edit, x, strangers = (F.avg_pool2d(images, block) for images in (edit, x, strangers))
    near, far = F.mse_loss(edit, x), F.mse_loss(strangers, x)
    return max(0.0, 1 - float(near / far))


def realism(edit: Tensor, x: Tensor, real: Gaussian) -> float:
    """The share of the inputs' distance from real digits that the edits leave behind.

    edit, x: (n, 1, 28, 28) in [−1, 1]; real: the Gaussian of real digits' judge features ->
    1 − F(edit) / F(x), not below 0, where F is the Fréchet distance to `real`. State n beside it.
    """
    judge = load_judge()
    left, before = (frechet_distance(judge_features(judge, i), real) for i in (edit, x))
    return max(0.0, 1 - left / before)


def balance(faithful: Tensor, realistic: Tensor) -> Tensor:
    """How good edits are in both ways at once: the harmonic mean 2fr / (f + r) of the two numbers.

    faithful, realistic: (n,) in [0, 1] -> (n,) in [0, 1]. It is 0 where either of them is.
    """
    total = faithful + realistic
    return torch.where(total > 0, 2 * faithful * realistic / total, 0)


# --- The same t at another resolution -------------------------------------------------------------


def snr_matched_t(
    t: int, alpha_bars: Tensor, size: int, to_size: int, to_alpha_bars: Tensor | None = None
) -> int:
    """The t' that does to pictures of side `to_size` what t does to the same at side `size`.

    Averaging noise over k × k pixels divides its variance by k², so t' is where the signal-to-noise
    ratio is nearest, as a ratio, to (size / to_size)² SNR(t) (Hoogeboom, Heek & Salimans 2023).
    t: an int in 0…T−1; alpha_bars: (T,), of t; to_alpha_bars: of t', by default the same.
    """
    wanted = (size / to_size) ** 2 * snr(alpha_bars)[t]
    ratios = snr(alpha_bars if to_alpha_bars is None else to_alpha_bars) / wanted
    return int(ratios.log().abs().argmin())
