"""How each of the shipped weights is made: `python -m course train NAME`."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from course.classifier_free_guidance import ConditionalUNet, cfg_eps_model, drop_labels
from course.data import mnist
from course.errors import CourseError
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.metrics import Judge, accuracy, distance_to_mnist, load_judge
from course.sampling import as_eps_model, sample
from course.training import UNet, batch_indices, v_loss

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


def mnist_judge() -> Recipe:
    """The classifier on whose features Fréchet distances are measured."""
    images, labels = mnist("train")
    batch_size, seed = 128, 0

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        i = batch_indices(len(images), batch_size, step, seed)
        shift = torch.randint(-2, 3, (2,), generator=generator).tolist()
        return torch.roll(images[i], shift, dims=(2, 3)), labels[i]

    def loss_fn(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x), y)

    return Recipe(
        name="mnist-judge",
        about="A LeNet-like MNIST classifier; its features measure samples.",
        build=Judge,
        draw=draw,
        loss_fn=loss_fn,
        measure=lambda judge: {"test_accuracy": accuracy(judge, *mnist("test"))},
        steps=2500,
        batch_size=batch_size,
        lr=3e-3,
        ema_decay=0.99,
        config={},
        seed=seed,
    )


def mnist_ddpm(channels: tuple[int, int] = (32, 64), steps: int = 26_000) -> Recipe:
    """The unconditional DDPM of lessons 03 and 04: v-prediction under the cosine schedule."""
    images, _ = mnist("train")
    alpha_bars = alpha_bars_from_betas(cosine_schedule())
    T, batch_size, seed = len(alpha_bars), 32, 0
    config: dict[str, Any] = {"channels": channels}

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        x0 = images[batch_indices(len(images), batch_size, step, seed)]
        return x0, *draw_noise(x0, T, generator)

    def measure(network: nn.Module) -> dict[str, float]:
        noise = torch.randn(1000, 1, 28, 28, generator=torch.Generator().manual_seed(1))
        walk = sample(as_eps_model(network, alpha_bars), noise, alpha_bars, steps=50)
        *_, x0 = tqdm(walk, total=50, desc="measuring")
        return {"frechet_distance_1000_samples_50_ddim_steps": round(distance_to_mnist(x0), 2)}

    return Recipe(
        name="mnist-ddpm",
        about="The unconditional MNIST DDPM: predicts v, cosine schedule, T = 1000.",
        build=lambda: channels_last(UNet(**config)),
        draw=draw,
        loss_fn=lambda model, x0, t, eps: v_loss(model, x0, t, eps, alpha_bars),
        measure=measure,
        steps=steps,
        batch_size=batch_size,
        lr=3e-3,
        ema_decay=0.999,
        config=config,
        seed=seed,
    )


def mnist_cfg(channels: tuple[int, int] = (32, 64), steps: int = 26_000) -> Recipe:
    """The network of lesson 07: as mnist-ddpm, told the label nine times in ten."""
    images, labels = mnist("train")
    alpha_bars = alpha_bars_from_betas(cosine_schedule())
    T, batch_size, seed, null = len(alpha_bars), 32, 0, 10
    config: dict[str, Any] = {"channels": channels}

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        i = batch_indices(len(images), batch_size, step, seed)
        t, eps = draw_noise(images[i], T, generator)
        u = torch.rand(batch_size, generator=generator)
        return images[i], t, eps, drop_labels(labels[i], u, drop=0.1, null=null)

    def loss_fn(model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor) -> Tensor:
        return v_loss(lambda xt, t: model(xt, t, y), x0, t, eps, alpha_bars)

    def measure(network: nn.Module) -> dict[str, float]:
        noise = torch.randn(1000, 1, 28, 28, generator=torch.Generator().manual_seed(1))
        y = torch.arange(1000) % null
        eps_model = cfg_eps_model(network, y, null, alpha_bars, guidance_scale=2.0)
        walk = sample(eps_model, noise, alpha_bars, steps=25)
        *_, x0 = tqdm(walk, total=25, desc="measuring")
        return {
            "frechet_distance_1000_samples_25_ddim_steps_scale_2": round(distance_to_mnist(x0), 2),
            "asked_for_label": accuracy(load_judge(), x0, y),
        }

    return Recipe(
        name="mnist-cfg",
        about="The MNIST DDPM with labels, dropped one time in ten: predicts v, cosine schedule.",
        build=lambda: channels_last(ConditionalUNet(**config)),
        draw=draw,
        loss_fn=loss_fn,
        measure=measure,
        steps=steps,
        batch_size=batch_size,
        lr=3e-3,
        ema_decay=0.999,
        config=config,
        seed=seed,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "mnist-judge": mnist_judge,
    "mnist-ddpm": mnist_ddpm,
    "mnist-cfg": mnist_cfg,
}


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises CourseError, with the names there are, for another."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise CourseError(f"No recipe is named {name!r};{meant} there are {', '.join(RECIPES)}.")
    return RECIPES[name]()
