"""Samples from the shipped networks, by name."""

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from course.errors import CourseError
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.plots import grid
from course.sampling import as_eps_model, sample
from course.training import UNet
from course.weights import card, load_weights, write_atomically


def generate(
    name: str, n: int, steps: int, seed: int, folder: Path | None = None, batch_size: int = 250
) -> Tensor:
    """Draw n images with DDIM. Returns (n, 1, 28, 28) in [−1, 1].

    `folder` is a run's, by default that of the shipped weights. Raises CourseError for weights that
    are not an unconditional MNIST network's, and ValueError for n < 1 or steps outside 1…1000.
    """
    config = card(name, folder).get("config", {})
    if "channels" not in config:
        raise CourseError(f"{name!r} does not draw images; mnist-ddpm does.")
    if n < 1:
        raise ValueError(f"n is at least 1, not {n}.")
    network = load_weights(UNet(**config), name, folder)
    alpha_bars = alpha_bars_from_betas(cosine_schedule())
    noise = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    batches = noise.split(batch_size)
    drawn = []
    with tqdm(total=steps * len(batches), desc=f"{n} images", unit="call") as bar:
        for batch in batches:
            walk = sample(as_eps_model(network, alpha_bars), batch, alpha_bars, steps=steps)
            for x in walk:  # noqa: B007 - the last one is used
                bar.update()
            drawn.append(x)
    return torch.cat(drawn)


def save_images(images: Tensor, path: Path) -> None:
    """Write a grid (.png), or float32 in [0, 1] of the images' shape (.npy)."""
    buffer = io.BytesIO()
    if path.suffix == ".npy":
        np.save(buffer, images.add(1).div(2).clamp(0, 1).numpy(), allow_pickle=False)
    else:
        grid(images).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())
