"""The ControlNet of the tiny Stable Diffusion: pictures whose light and dark follow a code."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course.recipes.base import Recipe, channels_last, draw_noise
from course.recipes.scenery.clip import build_tokenizer
from course.recipes.scenery.data import SIZE, attributes
from course.recipes.scenery.patterns import patterns
from course.recipes.scenery.publishing import (
    PIPELINE,
    digest,
    half,
    load_part,
    part_config,
    publish_folders,
)
from course.recipes.scenery.unet import (
    build_unet,
    drawn_ids,
    drawn_latents,
    frozen,
    frozen_text_encoder,
    frozen_vae,
    latent_scheduler,
    pair_latents,
    told,
)
from course.scenery_models import HELD_OUT, control_image
from course.training import batch_indices, v_loss
from course.weights import Card

# Three halvings: the condition arrives at the size of the latents.
EMBEDDING = (8, 16, 32, 64)


def frozen_unet() -> Any:
    """The shipped denoiser."""
    config = part_config("unet")
    channels, width = tuple(config["block_out_channels"]), config["cross_attention_dim"]
    return frozen(build_unet(channels, config["in_channels"], width), "unet")


def build_controlnet(unet: Any) -> nn.Module:
    """A copy of the denoiser's way down, and an embedding of the condition.

    The convolutions into the denoiser start at zero; diffusers starts the embedding's last one at
    zero as well, where one zero is enough: behind two in a row, nothing is learned for long.
    """
    from diffusers import ControlNetModel

    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=EMBEDDING)
    control.controlnet_cond_embedding.conv_out.reset_parameters()
    return channels_last(control)


def controlled(control: nn.Module, unet: nn.Module, words: Tensor, condition: Tensor) -> Any:
    """The denoiser under control, as a function (x_t, t) -> v."""

    def predict(xt: Tensor, t: Tensor) -> Tensor:
        down, mid = control(xt, t, words, condition, return_dict=False)
        added = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        return told(unet, words, **added)(xt, t)

    return predict


def publish_controlnet(control: nn.Module, card: Card) -> Path:
    """Put it into the shipped pipeline."""
    save = {"controlnet": half(control).save_pretrained}
    return publish_folders(PIPELINE, "scenery-controlnet", card, save)


def scenery_controlnet(steps: int = 4_000, n: int = 4000) -> Recipe:
    """Trained on pictures with a pattern in their luminance, beside the frozen denoiser.

    Three captions in ten are dropped, so that it learns to read the condition, and half of the
    others do not say that there is a pattern, as a prompt will not.
    """
    vae, text, unet = frozen_vae(), frozen_text_encoder(), frozen_unet()
    tokenizer, chosen = build_tokenizer(), [attributes(i) for i in range(n)]
    rows, dark = pair_latents(n, vae), patterns(n)
    alpha_bars = latent_scheduler().alphas_cumprod
    T, batch_size, seed = len(alpha_bars), 24, 0

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        i = batch_indices(n, batch_size, step, seed)
        z = drawn_latents(rows[i], generator)
        dappled = (torch.rand(batch_size, generator=generator) < 0.5).tolist()
        ids = drawn_ids(tokenizer, [chosen[k] for k in i.tolist()], 0.3, generator, dappled)
        return z, *draw_noise(z, T, generator), ids, dark[i]

    def loss_fn(
        control: nn.Module, z: Tensor, t: Tensor, eps: Tensor, ids: Tensor, codes: Tensor
    ) -> Tensor:
        with torch.no_grad():
            words = text.to(ids.device)(input_ids=ids).last_hidden_state
        model = controlled(control, unet.to(z.device), words, control_image(codes, SIZE))
        return v_loss(model, z, t, eps, alpha_bars)

    @torch.no_grad()
    def measure(control: nn.Module) -> dict[str, float]:
        generator = torch.Generator().manual_seed(1)
        z = drawn_latents(pair_latents(100, vae, HELD_OUT), generator)
        ids = drawn_ids(tokenizer, [attributes(HELD_OUT + i) for i in range(100)], 0.0, generator)
        drawn = z, *draw_noise(z, T, generator), ids, patterns(100, HELD_OUT)
        batches = list(zip(*(x.split(25) for x in drawn), strict=True))
        losses = [loss_fn(control, *batch) for batch in batches]
        plain = [
            v_loss(told(unet, text(input_ids=ids).last_hidden_state), x0, t, eps, alpha_bars)
            for x0, t, eps, ids, _ in batches
        ]
        return {
            "v_loss_on_100_unseen_pairs": round(torch.stack(losses).mean().item(), 4),
            "v_loss_without_control": round(torch.stack(plain).mean().item(), 4),
        }

    return Recipe(
        name="scenery-controlnet",
        about="A ControlNet for module patterns: a code's light and dark in a picture of scenery.",
        build=lambda: build_controlnet(unet),
        draw=draw,
        loss_fn=loss_fn,
        measure=measure,
        steps=steps,
        batch_size=batch_size,
        lr=1e-3,
        ema_decay=0.998,
        config={"pairs": n, "unet_sha256": digest("unet"), "vae_sha256": digest("vae")},
        seed=seed,
        publish=publish_controlnet,
        published=lambda model: load_part(model, "controlnet"),
    )
