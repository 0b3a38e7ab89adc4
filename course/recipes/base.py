"""What a recipe is, and what several of them share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course.weights import Card

Draw = Callable[[int, torch.Generator], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Recipe:
    """One model's training, whole: what is built, from what, how long, and how it is measured.

    `draw` and `loss_fn` are as in `course.training.train`; `build` makes an untrained model;
    `measure` gives the numbers on the weights' card; `dtype` is what the weights are stored in.
    Weights are shipped in data/weights; or where `publish` puts them, given the trained model and
    its card, and `published` reads them from again, into an untrained model.
    """

    name: str
    about: str
    build: Callable[[], nn.Module]
    draw: Draw
    loss_fn: Callable[..., Tensor]
    measure: Callable[[nn.Module], dict[str, float]]
    steps: int
    batch_size: int
    lr: float
    ema_decay: float
    config: dict[str, Any]
    seed: int = 0
    dtype: torch.dtype = torch.float16
    publish: Callable[[nn.Module, Card], Path] | None = None
    published: Callable[[nn.Module], nn.Module] | None = None


def channels_last(model: nn.Module) -> nn.Module:
    """The memory layout in which convolutions are about a tenth faster on a CPU."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def draw_noise(x0: Tensor, T: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A noise level t and a noise for each image: (b,) int64 in 0…T−1, and ε of x0's shape.

    The t of a batch are spread evenly, one random shift for all (Kingma et al. 2021, appendix I.1),
    and are more often of the middle, where a digit's shape is decided: t/T is logit-normal, as in
    Esser et al. 2024, section 3.1, here with mean 0 and standard deviation 1.3.
    """
    places = torch.arange(len(x0)) / len(x0)
    u = (torch.rand(1, generator=generator) + places) % 1
    t = (T * torch.sigmoid(1.3 * torch.special.ndtri(u))).long().clamp(0, T - 1)
    return t, torch.randn(x0.shape, generator=generator)
