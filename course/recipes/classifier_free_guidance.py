"""The weights of lesson 07: a DDPM with labels."""

from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from course.classifier_free_guidance import (
    GUIDANCE_SCALE,
    ConditionalUNet,
    cfg_eps_model,
    cfg_loss,
)
from course.data import mnist
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.metrics import accuracy, distance_to_mnist, load_judge
from course.recipes.base import Recipe, channels_last, draw_noise
from course.sampling import sample
from course.training import batch_indices


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
        return images[i], t, eps, labels[i], u

    def loss_fn(
        model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor, u: Tensor
    ) -> Tensor:
        return cfg_loss(model, x0, t, eps, y, u, alpha_bars, null, drop=0.1)

    def measure(network: nn.Module) -> dict[str, float]:
        noise = torch.randn(1000, 1, 28, 28, generator=torch.Generator().manual_seed(1))
        y = torch.arange(1000) % null
        eps_model = cfg_eps_model(network, y, null, alpha_bars, GUIDANCE_SCALE)
        walk = sample(eps_model, noise, alpha_bars, steps=25)
        *_, x0 = tqdm(walk, total=25, desc="measuring")
        return {
            "guidance_scale": GUIDANCE_SCALE,
            "frechet_distance_1000_samples_25_ddim_steps": round(distance_to_mnist(x0), 2),
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
