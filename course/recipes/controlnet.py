"""The weights of lesson 08: a ControlNet for the outlines of digits."""

from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from course.classifier_free_guidance import drop_labels
from course.controlnet import (
    ControlNet,
    control_loss,
    controlled_eps_model,
    edge_f1,
    edges,
    load_base,
)
from course.data import mnist
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.metrics import accuracy, distance_to_mnist, load_judge
from course.recipes.base import Recipe, channels_last, draw_noise
from course.sampling import sample
from course.training import batch_indices
from course.weights import card


def mean_f1(x0: Tensor, wanted: Tensor, tolerance: int) -> float:
    """The mean `edge_f1` between the outlines of images and those wanted."""
    return round(edge_f1(edges(x0), wanted, tolerance).mean().item(), 3)


def mnist_controlnet(pairs: int | None = None, steps: int = 4_000) -> Recipe:
    """The ControlNet of lesson 08, on the shipped mnist-cfg; from the first `pairs` digits alone.

    Half of the labels are dropped, so that it learns to read the condition rather than the label.
    """
    images, labels = (x[:pairs] for x in mnist("train"))
    base, name = load_base(), "mnist-cfg"
    alpha_bars = alpha_bars_from_betas(cosine_schedule())
    T, batch_size, seed = len(alpha_bars), 32, 0
    # Its weights go with this very base, and with no other.
    config: dict[str, Any] = {"base": name, "base_sha256": card(name)["sha256"]}

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        i = batch_indices(len(images), batch_size, step, seed)
        t, eps = draw_noise(images[i], T, generator)
        u = torch.rand(batch_size, generator=generator)
        y = drop_labels(labels[i], u, drop=0.5, null=base.null)
        return images[i], t, eps, y, edges(images[i])

    def loss_fn(
        model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor, condition: Tensor
    ) -> Tensor:
        locked = base.to(x0.device)
        return control_loss(model, locked, x0, t, eps, y, condition, alpha_bars)

    def measure(control: nn.Module) -> dict[str, float]:
        digits, y = (x[:1000] for x in mnist("test"))
        noise = torch.randn(digits.shape, generator=torch.Generator().manual_seed(1))
        locked, wanted = base.to(noise.device), edges(digits)
        eps_model = controlled_eps_model(locked, control, wanted, y, alpha_bars, guidance_scale=2.0)
        walk = sample(eps_model, noise, alpha_bars, steps=25)
        *_, x0 = tqdm(walk, total=25, desc="measuring")
        return {
            "edge_f1_1000_samples_25_ddim_steps_scale_2": mean_f1(x0, wanted, tolerance=1),
            "edge_f1_without_tolerance": mean_f1(x0, wanted, tolerance=0),
            "frechet_distance": round(distance_to_mnist(x0), 2),
            "asked_for_label": accuracy(load_judge(), x0, y),
        }

    return Recipe(
        name="mnist-controlnet",
        about="A ControlNet on mnist-cfg: digits that follow an outline. Only the copy's weights.",
        build=lambda: channels_last(ControlNet(base)),
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
