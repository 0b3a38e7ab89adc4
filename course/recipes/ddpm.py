"""The weights of lessons 03 and 04: the judge, and the unconditional DDPM."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from course.data import mnist
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.metrics import Judge, accuracy, distance_to_mnist
from course.recipes.base import Recipe, channels_last, draw_noise
from course.sampling import as_eps_model, sample
from course.training import UNet, batch_indices, v_loss


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


def mnist_ddpm(channels: tuple[int, int] = (32, 64), steps: int = 30_000) -> Recipe:
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
