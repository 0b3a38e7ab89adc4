"""What a recipe is, and what several of them share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Draw = Callable[[int, torch.Generator], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Recipe:
    """One model's training, whole: what is built, from what, how long, and how it is measured.

    `draw` and `loss_fn` are as in `course.training.train`; `build` makes an untrained model;
    `measure` gives the numbers on the weights' card; `dtype` is what the weights are stored in.
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


def channels_last(model: nn.Module) -> nn.Module:
    """The memory layout in which convolutions are about a tenth faster on a CPU."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def draw_noise(x0: Tensor, T: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A noise level t and a noise for each image: (b,) int64 in 0…T−1, and ε of x0's shape."""
    t = torch.randint(T, (len(x0),), generator=generator)
    return t, torch.randn(x0.shape, generator=generator)
