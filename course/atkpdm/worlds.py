"""Where protection is measured: a victim, its pictures, and what counts as unlike and as the same.

Two worlds are shipped, MNIST's digits and the course's scenery; other victims are the model hub's.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from course.atkpdm.distance import Distance
from course.atkpdm.purifiers import from_uint8
from course.atkpdm.victims import MNIST, Victim, layer_outputs, load_victim
from course.data import mnist
from course.errors import CourseError
from course.forward_process import alpha_bars_from_betas, linear_schedule
from course.metrics import load_judge
from course.scenery import ATTRIBUTES, scene
from course.scenery_models import (
    HELD_OUT,
    SHIPPED,
    ImageEncoder,
    load_image_encoder,
    load_pipeline,
    perceptual_distance,
    seen_attributes,
)
from course.sdedit import snr_matched_t

PAPER_T, PAPER_SIZE = 500, 256
FULL_SIZE_VAE = "stabilityai/sd-vae-ft-mse"
JUDGE_LAYERS = ("convolutions.2", "convolutions.6", "convolutions.10")


@dataclass(frozen=True)
class World:
    """A victim and the measures of its pictures.

    `t`: from where the editor edits; perceptual: (b, …), (b, …) -> (b,); meaning: (b, …) -> (b, k)
    int64, what a picture shows, None where nobody can tell; vae: a diffusers AutoencoderKL of the
    pictures, None where there is none; eyes() is the network that both measures look with.
    """

    victim: Victim
    t: int
    perceptual: Distance
    meaning: Callable[[Tensor], Tensor] | None = None
    vae: Any = None
    eyes: Callable[[], nn.Module] = load_image_encoder


def paper_t(victim: Victim) -> int:
    """The t that does to the victim's pictures what the paper's t = 500 does at 256 pixels.

    The same signal-to-noise ratio at equal detail (lesson 11), under the victim's own schedule.
    """
    linear = alpha_bars_from_betas(linear_schedule())
    return snr_matched_t(PAPER_T, linear, PAPER_SIZE, victim.size, victim.alpha_bars)


def digit_distance(x: Tensor, y: Tensor) -> Tensor:
    """`perceptual_distance` of digits, on the judge's features. x, y: (b, 1, 28, 28) -> (b,)."""
    return perceptual_distance(x, y, cast(ImageEncoder, SimpleNamespace(features=_judge_features)))


def _judge_features(x: Tensor) -> list[Tensor]:
    judge = load_judge()
    found = layer_outputs(judge, JUDGE_LAYERS, lambda: judge.convolutions(x))
    return list(found.values())


@torch.no_grad()
def digit_meaning(x: Tensor) -> Tensor:
    """Which digit the judge reads: (b, 1, 28, 28) -> (b, 1) int64."""
    return load_judge()(x).argmax(dim=1, keepdim=True)


def scene_meaning(x: Tensor) -> Tensor:
    """What the image encoder sees of a scene: (b, 3, h, w) -> (b, attributes) int64."""
    rows = [
        [ATTRIBUTES[name].index(value) for name, value in seen.items()]
        for seen in seen_attributes(x)
    ]
    return torch.tensor(rows)


def load_world(name: str = "scenery-pixel-a", layers: Sequence[str] | None = None) -> World:
    """A world by its victim's name, as `load_victim` takes it; the same errors."""
    victim = load_victim(name, layers)
    if name == MNIST:
        return World(victim, paper_t(victim), digit_distance, digit_meaning, eyes=load_judge)
    if name in SHIPPED:
        vae = load_pipeline().vae.requires_grad_(False)
        return World(victim, paper_t(victim), perceptual_distance, scene_meaning, vae)
    return World(victim, paper_t(victim), perceptual_distance, None, _full_size_vae())


@functools.cache
def _full_size_vae() -> Any:
    from diffusers import AutoencoderKL

    try:
        return AutoencoderKL.from_pretrained(FULL_SIZE_VAE).eval().requires_grad_(False)
    except Exception as error:  # Of the hub, its network, its proxies: each raises its own.
        raise CourseError(
            f"{FULL_SIZE_VAE} could not be had from the model hub ({type(error).__name__}). "
            f"Without a network, use a victim that is shipped: {MNIST}, {', '.join(SHIPPED[1:])}."
        ) from error


def on_device(world: World, device: str) -> World:
    """The world with all its networks on a device, to attack there."""
    world.eyes().to(device)
    if world.vae is not None:
        world.vae.to(device)
    return replace(world, victim=victim_on_device(world.victim, device))


def victim_on_device(victim: Victim, device: str) -> Victim:
    """A victim with its network on a device."""
    victim.network.to(device)
    return replace(victim, alpha_bars=victim.alpha_bars.to(device))


def pictures(world: World, n: int, folder: Path | None = None) -> Tensor:
    """n pictures that the victim was not trained on: (n, c, size, size) in [−1, 1].

    MNIST's first test digits, held-out scenes, or a folder's picture files, cut square in the
    middle and resized. Raises CourseError where a folder holds fewer, and for a victim of the hub
    without one.
    """
    victim = world.victim
    if folder is not None:
        return _from_folder(folder, n, victim)
    if victim.name == MNIST:
        return mnist("test")[0][:n]
    if victim.name in SHIPPED:
        drawn = [np.asarray(scene(HELD_OUT + i, victim.size).image) for i in range(n)]
        return from_uint8(np.stack(drawn))
    raise CourseError(f"{victim.name} has no pictures of its own here: name a folder of them.")


def _from_folder(folder: Path, n: int, victim: Victim) -> Tensor:
    kinds = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() in kinds)[:n]
    if len(files) < n:
        raise CourseError(f"{folder} holds {len(files)} pictures, and {n} were asked for.")
    mode = "RGB" if victim.channels == 3 else "L"
    cut = [np.asarray(_square(Image.open(p).convert(mode), victim.size)) for p in files]
    return from_uint8(np.stack(cut).reshape(n, victim.size, victim.size, victim.channels))


def _square(image: Image.Image, size: int) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size, size), box=(left, top, left + side, top + side))
