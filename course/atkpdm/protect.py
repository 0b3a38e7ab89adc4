"""`python -m course protect`: one picture of one's own, protected as far as that goes."""

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from course.atkpdm.attack import Budget, atkpdm
from course.atkpdm.budgets import at_psnr, settle, ssim
from course.atkpdm.images import Picture, check_format, read_picture, rounded, write_picture
from course.atkpdm.latent_attack import atkpdm_plus
from course.atkpdm.worlds import World, load_world, on_device
from course.errors import CourseError
from course.latent_diffusion import psnr
from course.plots import grid
from course.weights import check_writable, write_atomically

MOST_TILES = 64
# (what has been done, of how much)
Progress = Callable[[int, int], None]


class Protected(NamedTuple):
    """What protection cost, as measured on the file that was written."""

    psnr: float
    ssim: float
    perceptual: float


def tiles(height: int, width: int, size: int) -> list[tuple[int, int]]:
    """Top left corners of size × size tiles that cover a picture; the last ones overlap.

    Raises CourseError for a picture smaller than a tile, or of more than `MOST_TILES`.
    """
    if min(height, width) < size:
        raise CourseError(f"A tile is {size} × {size}, and the picture {width} × {height} pixels.")
    down, across = (
        [min(k * size, length - size) for k in range(math.ceil(length / size))]
        for length in (height, width)
    )
    if len(down) * len(across) > MOST_TILES:
        raise CourseError(
            f"The picture takes {len(down) * len(across)} tiles of {size} × {size}, and "
            f"{MOST_TILES} are the limit: make it smaller, or leave --tiled out."
        )
    return [(top, left) for top in down for left in across]


def as_seen(x: Tensor, world: World) -> Tensor:
    """A picture as the victim's editor would shrink it: (1, 1 or 3, h, w) -> (1, c, size, size)."""
    size, channels = world.victim.size, world.victim.channels
    small = F.interpolate(x, (size, size), mode="bilinear", antialias=True)
    return _in_channels(small, channels)


def _in_channels(x: Tensor, channels: int) -> Tensor:
    """x in another number of channels: grey repeated, or colours averaged."""
    if x.shape[1] == channels:
        return x
    return x.expand(-1, channels, -1, -1) if channels > 1 else x.mean(dim=1, keepdim=True)


def perturbation(
    x: Tensor, world: World, budget: Budget, tiled: bool, plus: bool, seed: int, progress: Progress
) -> Tensor:
    """What to add to a picture x: (1, 1 or 3, h, w), before it is scaled to the budget: as x.

    By default it is made on the picture as the editor shrinks it, and enlarged; `tiled` makes it in
    full detail, for an editor who cuts the picture into squares of the victim's size.
    """
    size = world.victim.size
    if tiled:
        corners = tiles(x.shape[-2], x.shape[-1], size)
        pieces = [x[..., i : i + size, j : j + size] for i, j in corners]
        small = _in_channels(torch.cat(pieces), world.victim.channels)
    else:
        small = as_seen(x, world)
    changed = _last(_climb(small, world, budget, plus, seed), budget.steps, progress) - small
    changed = _in_channels(changed, x.shape[1])
    if not tiled:
        return F.interpolate(changed, x.shape[-2:], mode="bicubic")
    out = torch.zeros_like(x)
    for (i, j), piece in zip(corners, changed, strict=True):
        out[0, :, i : i + size, j : j + size] = piece
    return out


def _climb(x: Tensor, world: World, budget: Budget, plus: bool, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator(x.device).manual_seed(seed)
    if not plus:
        return atkpdm(world.victim, x, budget, perceptual=world.perceptual, generator=generator)
    if world.vae is None:
        raise CourseError(f"{world.victim.name} has no VAE here: leave --plus out.")
    return atkpdm_plus(
        world.victim, world.vae, x, budget, perceptual=world.perceptual, generator=generator
    )


def _last(walk: Iterator[Tensor], steps: int, progress: Progress) -> Tensor:
    for step, x in enumerate(walk):  # noqa: B007 - the last one
        progress(min(step, steps), steps)
    return x


def protect_picture(
    picture: Picture,
    world: World,
    budget: Budget,
    *,
    tiled: bool = False,
    plus: bool = False,
    seed: int = 0,
    progress: Progress = lambda done, of: None,
) -> Tensor:
    """A picture's colours, protected: as picture.x, within `budget` at the picture's own size.

    Rounded as the file will hold it; perceptual distance is measured as the victim sees it. Raises
    what `perturbation` does.
    """
    x = picture.x
    found = perturbation(x, world, budget, tiled, plus, seed, progress)
    x_adv = at_psnr(x + found, x, budget.psnr)
    if math.isfinite(budget.delta):
        with torch.no_grad():
            x_adv = settle(x_adv, x, lambda z: seen_distance(z, x, world), budget.delta)
    return rounded(picture, x_adv)


def seen_distance(x_adv: Tensor, x: Tensor, world: World) -> Tensor:
    """The perceptual distance of two pictures of any size as the victim's editor shrinks them."""
    return world.perceptual(as_seen(x_adv, world), as_seen(x, world))


def protect_file(
    path: Path,
    out: Path,
    victim: str,
    budget: Budget,
    *,
    tiled: bool = False,
    plus: bool = False,
    seed: int = 0,
    device: str = "cpu",
    checkpointing: bool = False,
    show: Path | None = None,
    progress: Progress = lambda done, of: None,
) -> Protected:
    """Read, protect, write; and the costs measured on the file that was written.

    `show` is where a before/after picture goes, a .png. `checkpointing` trades time for memory in a
    full-size victim. Raises CourseError for files that cannot be read or written, and what
    `load_world` and `protect_picture` raise.
    """
    check_format(out)
    for file in (out, show) if show else (out,):
        check_writable(file)
    picture = read_picture(path)
    world = on_device(load_world(victim), device)
    if checkpointing:
        _trade_time_for_memory(world.victim.network)
    picture = Picture(picture.x.to(device), picture.alpha, picture.deep, picture.info)
    fitted = budget_for(world, budget)
    x_adv = protect_picture(
        picture, world, fitted, tiled=tiled, plus=plus, seed=seed, progress=progress
    )
    written = write_picture(out, picture, x_adv).to(device)
    if show:
        write_atomically(show, _before_after(picture.x, written))
    with torch.no_grad():
        far = seen_distance(written, picture.x, world)
    return Protected(float(psnr(picture.x, written)), float(ssim(picture.x, written)), float(far))


def _trade_time_for_memory(network: Any) -> None:
    """Gradient checkpointing, where the network has it: diffusers' does so in training mode."""
    if hasattr(network, "enable_gradient_checkpointing"):
        network.train()
        network.enable_gradient_checkpointing()


def budget_for(world: World, budget: Budget) -> Budget:
    """The budget with its levels up to the t from which the world's editor edits."""
    return replace(budget, levels=(world.t // 2, world.t))


def _before_after(x: Tensor, x_adv: Tensor) -> bytes:
    """Before, after, and ten times their difference, side by side, as a PNG's bytes."""
    file = io.BytesIO()
    grid(torch.cat([x, x_adv, (10 * (x_adv - x)).clamp(-1, 1)]), columns=3).save(file, "PNG")
    return file.getvalue()
