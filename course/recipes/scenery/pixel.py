"""Two DDPMs of pixels, 64 × 64: what lesson 12 protects pictures from."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from course.recipes.base import Recipe, channels_last, draw_noise
from course.recipes.scenery.data import as_tensor, scenes
from course.recipes.scenery.publishing import (
    DDPM_PARTS,
    half,
    load_part,
    publish_folders,
    write_index,
)
from course.scenery_models import HELD_OUT
from course.training import batch_indices, v_loss
from course.weights import Card

if TYPE_CHECKING:
    from diffusers import DDPMScheduler

SIZE = 64


def ddpm_scheduler() -> "DDPMScheduler":
    """T = 1000 under the cosine schedule; the network predicts v."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")


def build_pixel_unet(channels: tuple[int, ...]) -> nn.Module:
    """An untrained network: one residual block a resolution, attention at the lowest alone."""
    from diffusers import UNet2DModel

    n = len(channels)
    unet = UNet2DModel(
        sample_size=SIZE,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * (n - 1) + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (n - 1),
        attention_head_dim=16,
        norm_num_groups=8,
        time_embedding_dim=192,
        resnet_time_scale_shift="scale_shift",
    )
    for name, module in unet.named_modules():
        if isinstance(module, nn.Conv2d) and name.endswith(("conv2", "conv_out")):
            nn.init.zeros_(module.weight)
    return channels_last(unet)


def predict(model: nn.Module) -> Any:
    """A diffusers network as a function (x_t, t) -> its prediction."""
    return lambda xt, t: model(xt, t, return_dict=False)[0]


def scenery_pixel(
    name: str, channels: tuple[int, ...], seed: int = 0, steps: int = 6_000, n: int = 8000
) -> Recipe:
    """A DDPM of pixels with these widths, from the biggest picture to the smallest."""
    images = torch.from_numpy(scenes(n, SIZE))
    alpha_bars = ddpm_scheduler().alphas_cumprod
    T, batch_size = len(alpha_bars), 16

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        x0 = as_tensor(images[batch_indices(len(images), batch_size, step, seed)].numpy())
        mirrored = torch.rand(batch_size, 1, 1, 1, generator=generator) < 0.5
        x0 = torch.where(mirrored, x0.flip(3), x0)
        return x0, *draw_noise(x0, T, generator)

    @torch.no_grad()
    def measure(model: nn.Module) -> dict[str, float]:
        x0 = as_tensor(scenes(200, SIZE, HELD_OUT))
        t, eps = draw_noise(x0, T, torch.Generator().manual_seed(1))
        parts = zip(x0.split(20), t.split(20), eps.split(20), strict=True)
        losses = [v_loss(predict(model), *part, alpha_bars) for part in parts]
        return {"v_loss_on_200_unseen_scenes": round(torch.stack(losses).mean().item(), 4)}

    def publish(model: nn.Module, card: Card) -> Path:
        parts = {"unet": half(model).save_pretrained, "scheduler": ddpm_scheduler().save_pretrained}
        path = publish_folders(name, name, card, parts)
        write_index(name, "DDPMPipeline", DDPM_PARTS)
        return path

    return Recipe(
        name=name,
        about="A DDPM of scenery at 64 × 64 pixels: predicts v, cosine schedule, T = 1000.",
        build=lambda: build_pixel_unet(channels),
        draw=draw,
        loss_fn=lambda model, x0, t, eps: v_loss(predict(model), x0, t, eps, alpha_bars),
        measure=measure,
        steps=steps,
        batch_size=batch_size,
        lr=1.5e-3,
        ema_decay=0.999,
        config={"channels": channels, "scenes": n},
        seed=seed,
        publish=publish,
        published=lambda model: load_part(model, "unet", name),
    )


def scenery_pixel_a() -> Recipe:
    """The first victim of lesson 12, and the one that attacks are made on."""
    return scenery_pixel("scenery-pixel-a", (24, 48, 80, 112))


def scenery_pixel_b() -> Recipe:
    """Another width and another seed: does an attack on the first one carry over?"""
    return scenery_pixel("scenery-pixel-b", (16, 32, 64, 112), seed=1)
