"""Samples from the shipped networks, by name."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from course import scenery, scenery_models
from course.classifier_free_guidance import GUIDANCE_SCALE, ConditionalUNet, cfg_eps_model
from course.errors import CourseError
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.plots import grid
from course.sampling import EpsModel, as_eps_model, sample
from course.training import UNet
from course.weights import card, load_weights, write_atomically

# What each of the weights that draw MNIST's pixels are the weights of.
NETWORKS: dict[str, type[UNet]] = {"mnist-ddpm": UNet, "mnist-cfg": ConditionalUNet}
# How many images, and how many network calls for each, where nobody says.
DEFAULTS = {"scenery": (9, 25)}


def generate(
    name: str,
    n: int,
    steps: int,
    seed: int,
    folder: Path | None = None,
    batch_size: int = 250,
    label: int | None = None,
    guidance_scale: float | None = None,
    prompt: str | None = None,
) -> Tensor:
    """Draw n images with DDIM. Returns (n, 1, 28, 28) in [−1, 1], of scenery (n, 3, 160, 160).

    `folder` is a run's, by default that of the shipped weights. For mnist-cfg, `label` is the digit
    to draw, by default 0, 1, …, 9 in turn, and `guidance_scale` is γ, by default `GUIDANCE_SCALE`.
    For scenery, `prompt` is what to draw, by default n captions of the painted world.
    Raises CourseError for weights that do not draw, and for a label, γ or prompt where they know
    none; ValueError for n < 1, steps outside 1…1000, or a label or γ that is none.
    """
    _refuse_nonsense(n, label, guidance_scale)
    if name == "scenery":
        if label is not None or folder is not None:
            what = "--label" if label is not None else "--weights"
            raise CourseError(f"'scenery' is told by --prompt what to draw: leave {what} out.")
        return _scenery(n, steps, seed, prompt, guidance_scale)
    if prompt is not None:
        raise CourseError(f"{name!r} reads no prompt: leave --prompt out, or sample from scenery.")
    network = _network(name, folder)
    if type(network) is UNet and (label, guidance_scale) != (None, None):
        raise CourseError(
            f"{name!r} knows no labels: leave --label and --guidance-scale out, or sample from "
            "mnist-cfg."
        )
    alpha_bars = alpha_bars_from_betas(cosine_schedule())
    scale = GUIDANCE_SCALE if guidance_scale is None else guidance_scale
    noise = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    y = torch.arange(n) % 10 if label is None else torch.full((n,), label)
    drawn = []
    with tqdm(total=steps * math.ceil(n / batch_size), desc=f"{n} images", unit="call") as bar:
        for batch, labels in zip(noise.split(batch_size), y.split(batch_size), strict=True):
            eps_model = _eps_model(network, labels, alpha_bars, scale)
            for x in sample(eps_model, batch, alpha_bars, steps=steps):  # noqa: B007 - the last one
                bar.update()
            drawn.append(x)
    return torch.cat(drawn)


def _scenery(n: int, steps: int, seed: int, prompt: str | None, scale: float | None) -> Tensor:
    """Pictures by the tiny Stable Diffusion: (n, 3, 160, 160)."""
    if not 1 <= steps <= 1000:
        raise ValueError(f"steps is at least 1 and at most 1000, not {steps}.")
    pipeline = scenery_models.load_pipeline()
    captions = (scenery.scene(seed + i, 16).caption for i in range(n))
    prompts = list(captions) if prompt is None else [prompt] * n
    more: dict[str, Any] = {} if scale is None else {"guidance_scale": scale}
    return scenery_models.generate(pipeline, prompts, seed, steps=steps, **more)


def _refuse_nonsense(n: int, label: int | None, guidance_scale: float | None) -> None:
    if n < 1:
        raise ValueError(f"n is at least 1, not {n}.")
    if label is not None and not 0 <= label <= 9:
        raise ValueError(f"label is a digit, 0…9, not {label}.")
    if guidance_scale is not None and not math.isfinite(guidance_scale):
        raise ValueError(f"guidance_scale is a finite number, not {guidance_scale}.")


def _network(name: str, folder: Path | None) -> UNet:
    config = card(name, folder).get("config", {})
    if name not in NETWORKS:
        known = ", ".join((*NETWORKS, *DEFAULTS))
        raise CourseError(f"`sample` draws from {known}; not from {name!r}.")
    return load_weights(NETWORKS[name](**config), name, folder)


def _eps_model(network: UNet, y: Tensor, alpha_bars: Tensor, guidance_scale: float) -> EpsModel:
    """The noise that the network predicts; with the labels y where it knows labels."""
    if isinstance(network, ConditionalUNet):
        return cfg_eps_model(network, y, network.null, alpha_bars, guidance_scale)
    return as_eps_model(network, alpha_bars)


def save_images(images: Tensor, path: Path) -> None:
    """Write a grid (.png), or float32 in [0, 1] of the images' shape (.npy)."""
    buffer = io.BytesIO()
    if path.suffix == ".npy":
        np.save(buffer, images.add(1).div(2).clamp(0, 1).numpy(), allow_pickle=False)
    else:
        grid(images).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())
