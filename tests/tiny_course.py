"""The course's command line with one recipe more, `tiny`: trained in a second, without MNIST.

`python -m tests.tiny_course train tiny …` is the real command, loop and files; only the network and
its data are small. It writes a checkpoint at every step. TINY_PAUSE makes each step wait so many
seconds, so that a test can end the run in its middle.
"""

import os
import time

import torch
from torch import Tensor, nn

from course import cli, recipes, runs
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.recipes.base import Recipe, channels_last
from course.training import UNet, batch_indices, v_loss

BATCH = 8


def tiny(lr: float = 3e-3) -> Recipe:
    """The course's own UNet and loss, at the least size that has every part of them."""
    images = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    alpha_bars = alpha_bars_from_betas(cosine_schedule(20))
    config = {"channels": (16, 16), "emb_dim": 8}

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        time.sleep(float(os.environ.get("TINY_PAUSE", "0")))
        x0 = images[batch_indices(len(images), BATCH, step, 0)]
        t = torch.randint(20, (BATCH,), generator=generator)
        return x0, t, torch.randn(x0.shape, generator=generator)

    return Recipe(
        name="tiny",
        about="For tests.",
        build=lambda: channels_last(UNet(channels=(16, 16), emb_dim=8)),
        draw=draw,
        loss_fn=lambda model, x0, t, eps: v_loss(model, x0, t, eps, alpha_bars),
        measure=mean_weight,
        steps=60,
        batch_size=BATCH,
        lr=lr,
        ema_decay=0.9,
        config=config,
    )


def mean_weight(model: nn.Module) -> dict[str, float]:
    return {"mean_weight": sum(p.mean().item() for p in model.parameters())}


if __name__ == "__main__":
    torch.set_num_threads(1)
    recipes.RECIPES["tiny"] = tiny
    runs.SECONDS_BETWEEN_CHECKPOINTS = 0.0
    cli.main()
