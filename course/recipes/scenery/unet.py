"""The denoiser of the tiny Stable Diffusion: latents of scenery, told what is in the picture."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from course.recipes.base import Recipe, channels_last, draw_noise
from course.recipes.scenery.clip import TinyCLIP, build_tokenizer
from course.recipes.scenery.data import (
    SIZE,
    Array,
    as_tensor,
    attributes,
    cached,
    captions,
    named,
    scene_chunk,
)
from course.recipes.scenery.patterns import pair_chunk
from course.recipes.scenery.publishing import (
    PARTS,
    PIPELINE,
    digest,
    half,
    load_part,
    part_config,
    publish_folders,
    write_index,
)
from course.recipes.scenery.vae import build_vae, encode
from course.scenery.world import Attributes
from course.scenery_models import HELD_OUT, token_ids
from course.training import batch_indices, v_loss
from course.weights import Card

if TYPE_CHECKING:
    from diffusers import DDIMScheduler


def latent_scheduler() -> "DDIMScheduler":
    """Stable Diffusion's kind of noise levels: at the last one √ᾱ is 0.03, and not zero."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.016,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def build_unet(channels: tuple[int, ...], latents: int, words: int) -> nn.Module:
    """An untrained network: captions are read at all resolutions but the first.

    `words` is the width of the text encoder's vectors.
    """
    from diffusers import UNet2DConditionModel

    n = len(channels) - 1
    unet = UNet2DConditionModel(
        sample_size=SIZE // 8,
        in_channels=latents,
        out_channels=latents,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * n,
        up_block_types=("CrossAttnUpBlock2D",) * n + ("UpBlock2D",),
        cross_attention_dim=words,
        attention_head_dim=4,
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
    )
    for name, module in unet.named_modules():
        if isinstance(module, nn.Conv2d) and name.endswith(("conv2", "proj_out", "conv_out")):
            nn.init.zeros_(module.weight)
    return channels_last(unet)


# --- What is frozen ------------------------------------------------------------------------------


def frozen(model: nn.Module, part: str) -> Any:
    """A part of the shipped pipeline, not to be trained further."""
    return load_part(model, part).eval().requires_grad_(False)


def frozen_vae() -> Any:
    """The shipped autoencoder, and with it its scaling factor in its config."""
    config = part_config("vae")
    vae = frozen(build_vae(tuple(config["block_out_channels"]), config["latent_channels"]), "vae")
    vae.register_to_config(scaling_factor=config["scaling_factor"])
    return vae


def frozen_text_encoder() -> Any:
    """The shipped text encoder."""
    return frozen(TinyCLIP(len(build_tokenizer())).text, "text_encoder")


# --- Latents -------------------------------------------------------------------------------------


def encoded(what: str, n: int, images: Callable[[range], Array], vae: Any) -> Tensor:
    """The latents of n images, kept in the cache for this very VAE: (n, 2, c, h, w) float16.

    Along axis 1: the mean and the standard deviation, both scaled. `images` gives those of some
    rows, (b, h, w, 3) uint8.
    """

    def make(rows: range) -> Array:
        mean, logvar = encode(vae, as_tensor(images(rows)))
        pair = torch.stack([mean, (logvar / 2).exp()], dim=1) * vae.config.scaling_factor
        return pair.half().numpy()

    return torch.from_numpy(cached(f"{what}-latents-{digest('vae')[:12]}", n, make))


def scene_latents(n: int, vae: Any, first: int = 0) -> Tensor:
    """Those of n scenes, and of their mirror images after them: (2n, 2, c, h, w)."""
    what = named(f"scenes-{SIZE}", first)
    plain = encoded(what, n, lambda rows: scene_chunk(rows, first), vae)
    turned = encoded(f"mirrored-{what}", n, lambda rows: _mirrored(scene_chunk(rows, first)), vae)
    return torch.cat([plain, turned])


def _mirrored(images: Array) -> Array:
    return images[:, :, ::-1].copy()


def pair_latents(n: int, vae: Any, first: int = 0) -> Tensor:
    """Those of n scenes with a pattern in their light: (n, 2, c, h, w)."""
    what = named(f"pairs-{SIZE}", first)
    return encoded(what, n, lambda rows: pair_chunk(rows, first), vae)


def drawn_latents(pairs: Tensor, generator: torch.Generator) -> Tensor:
    """One draw from each posterior: (b, 2, c, h, w) float16 -> (b, c, h, w) float32."""
    mean, std = pairs.float().unbind(dim=1)
    return mean + std * torch.randn(mean.shape, generator=generator)


def drawn_ids(
    tokenizer: Any,
    chosen: Sequence[Attributes],
    drop: float,
    generator: torch.Generator,
    dappled: Sequence[bool] = (),
) -> Tensor:
    """The tokens of a new caption for each scene, or of none for a share `drop`: (b, 48) int64."""
    kept = (torch.rand(len(chosen), generator=generator) >= drop).tolist()
    said = captions(chosen, generator, dappled)
    return token_ids(tokenizer, [text * keep for text, keep in zip(said, kept, strict=True)])


# --- The recipe ----------------------------------------------------------------------------------


def told(model: nn.Module, words: Tensor, **control: Any) -> Any:
    """The network as a function (x_t, t) -> v, given the text encoder's vectors."""
    return lambda xt, t: model(xt, t, words, return_dict=False, **control)[0]


def publish_unet(unet: nn.Module, card: Card) -> Path:
    """Put it into the shipped pipeline, with the scheduler and the list of parts."""
    save = {"unet": half(unet).save_pretrained, "scheduler": latent_scheduler().save_pretrained}
    path = publish_folders(PIPELINE, "scenery-unet", card, save)
    write_index(PIPELINE, "StableDiffusionControlNetPipeline", PARTS)
    return path


def scenery_unet(
    channels: tuple[int, ...] = (64, 128, 112),
    steps: int = 10_000,
    n: int = 6000,
    patterned: int = 4000,
) -> Recipe:
    """The denoiser: predicts v, a tenth of the captions dropped for classifier-free guidance.

    Besides n scenes and their mirror images it learns some with a pattern in their light, captioned
    as such: what a ControlNet or a guidance asks for later must be in its reach.
    """
    vae, text = frozen_vae(), frozen_text_encoder()
    tokenizer, chosen = build_tokenizer(), [attributes(i) for i in range(max(n, patterned))]
    rows = torch.cat([scene_latents(n, vae), pair_latents(patterned, vae)])
    owners = [*range(n), *range(n), *range(patterned)]
    alpha_bars = latent_scheduler().alphas_cumprod
    T, batch_size, seed = len(alpha_bars), 32, 0
    latents, width = vae.config.latent_channels, text.config.hidden_size

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        i = batch_indices(len(rows), batch_size, step, seed)
        z = drawn_latents(rows[i], generator)
        told_of = [chosen[owners[k]] for k in i.tolist()]
        ids = drawn_ids(tokenizer, told_of, 0.1, generator, (i >= 2 * n).tolist())
        return z, *draw_noise(z, T, generator), ids

    def loss_fn(model: nn.Module, z: Tensor, t: Tensor, eps: Tensor, ids: Tensor) -> Tensor:
        with torch.no_grad():
            words = text.to(ids.device)(input_ids=ids).last_hidden_state
        return v_loss(told(model, words), z, t, eps, alpha_bars)

    @torch.no_grad()
    def measure(model: nn.Module) -> dict[str, float]:
        generator = torch.Generator().manual_seed(1)
        z = drawn_latents(scene_latents(200, vae, HELD_OUT)[:200], generator)
        seen = [attributes(HELD_OUT + i) for i in range(len(z))]
        ids = drawn_ids(tokenizer, seen, 0.0, generator)
        drawn = [x.split(50) for x in (z, *draw_noise(z, T, generator), ids)]
        losses = [loss_fn(model, *part) for part in zip(*drawn, strict=True)]
        return {"v_loss_on_200_unseen_scenes": round(torch.stack(losses).mean().item(), 4)}

    return Recipe(
        name="scenery-unet",
        about="The denoiser of the tiny Stable Diffusion: predicts v from latents and a caption.",
        build=lambda: build_unet(channels, latents, width),
        draw=draw,
        loss_fn=loss_fn,
        measure=measure,
        steps=steps,
        batch_size=batch_size,
        lr=1.2e-3,
        ema_decay=0.9995,
        config={
            "channels": channels,
            "scenes": n,
            "patterned_scenes": patterned,
            "vae_sha256": digest("vae"),
            "text_encoder_sha256": digest("text_encoder"),
        },
        seed=seed,
        publish=publish_unet,
        published=lambda model: load_part(model, "unet"),
    )
