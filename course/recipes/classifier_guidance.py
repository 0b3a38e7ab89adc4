"""The weights of lesson 06: a classifier of noisy digits."""

from typing import Any

import torch
from torch import Tensor, nn

from course.classifier_guidance import NoisyClassifier, accuracy_at, classifier_loss
from course.data import mnist
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.recipes.base import Recipe, channels_last
from course.training import batch_indices


def mnist_noisy_classifier(steps: int = 4_000) -> Recipe:
    """The classifier of lesson 06, trained on digits noised to every t alike."""
    images, labels = mnist("train")
    alpha_bars = alpha_bars_from_betas(cosine_schedule())
    T, batch_size, seed = len(alpha_bars), 64, 0
    config: dict[str, Any] = {"channels": (32, 64)}

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        i = batch_indices(len(images), batch_size, step, seed)
        # A sampler asks it once at each t, so each t counts the same: not `draw_noise`.
        t = torch.randint(T, (batch_size,), generator=generator)
        eps = torch.randn(images[i].shape, generator=generator)
        return images[i], t, eps, labels[i]

    def loss_fn(model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor) -> Tensor:
        return classifier_loss(model, x0, t, eps, y, alpha_bars)

    def measure(classifier: nn.Module) -> dict[str, float]:
        generator = torch.Generator().manual_seed(1)
        digits, y = mnist("test")
        return {
            f"test_accuracy_at_t_{t}": accuracy_at(classifier, digits, y, t, alpha_bars, generator)
            for t in (0, 250, 500, 750)
        }

    return Recipe(
        name="mnist-noisy-classifier",
        about="A classifier of noisy MNIST digits that is told t; cosine schedule, T = 1000.",
        build=lambda: channels_last(NoisyClassifier(**config)),
        draw=draw,
        loss_fn=loss_fn,
        measure=measure,
        steps=steps,
        batch_size=batch_size,
        lr=3e-3,
        ema_decay=0.99,
        config=config,
        seed=seed,
    )
