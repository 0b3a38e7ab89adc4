"""The weights of lesson 13: a network of velocities."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from course.flow_matching import as_velocity, flow_loss, flow_sample
from course.metrics import distance_to_mnist
from course.recipes.base import Recipe
from course.recipes.ddpm import mnist_ddpm


def mnist_flow() -> Recipe:
    """mnist-ddpm on straight paths: the same network, images, noise, clock, steps and rates."""
    ddpm = mnist_ddpm()

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        x0, k, eps = ddpm.draw(step, generator)
        # k is a whole number of thousandths; a random fraction fills the gaps between them.
        t = (k + torch.rand(len(k), generator=generator)) / 1000
        return x0, t, eps

    def measure(network: nn.Module) -> dict[str, float]:
        noise = torch.randn(1000, 1, 28, 28, generator=torch.Generator().manual_seed(1))
        *_, x0 = tqdm(flow_sample(as_velocity(network), noise), total=50, desc="measuring")
        distance = distance_to_mnist(x0.clamp(-1, 1))
        return {"frechet_distance_1000_samples_50_euler_steps": round(distance, 2)}

    return replace(
        ddpm,
        name="mnist-flow",
        about="The unconditional MNIST flow: predicts ε − x_0 along straight paths, told 1000 · t.",
        draw=draw,
        loss_fn=lambda model, x0, t, eps: flow_loss(as_velocity(model), x0, t, eps),
        measure=measure,
    )
