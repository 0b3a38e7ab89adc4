"""The autoencoder of the tiny Stable Diffusion: a slim `AutoencoderKL`, a latent cell each 8 px."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course.recipes.base import Recipe, channels_last
from course.recipes.scenery.data import SIZE, as_tensor, scenes
from course.recipes.scenery.pca_start import start_as_components
from course.recipes.scenery.publishing import PIPELINE, half, load_part, publish_folders
from course.scenery_models import HELD_OUT
from course.training import batch_indices
from course.weights import Card

LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


def build_vae(channels: tuple[int, ...], latents: int) -> nn.Module:
    """An untrained autoencoder, without attention: it takes pictures of any size."""
    from diffusers import AutoencoderKL

    n = len(channels)
    vae = AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * n,
        up_block_types=("UpDecoderBlock2D",) * n,
        layers_per_block=1,
        latent_channels=latents,
        norm_num_groups=1,
        sample_size=SIZE,
        force_upcast=False,
        mid_block_add_attention=False,
    )
    return channels_last(vae)


# --- What it learns from -------------------------------------------------------------------------


def crops(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A square out of each image, mirrored or not: (b, h, w, 3) uint8 -> (b, 3, size, size)."""
    high = images.shape[1] - size + 1
    corners = torch.randint(high, (len(images), 2), generator=generator).tolist()
    mirrored = (torch.rand(len(images), generator=generator) < 0.5).tolist()
    cut = [x[i : i + size, j : j + size] for x, (i, j) in zip(images, corners, strict=True)]
    cut = [x.flip(1) if flip else x for x, flip in zip(cut, mirrored, strict=True)]
    return as_tensor(torch.stack(cut).numpy())


def relit(images: Tensor, dark: Tensor, strength: Tensor, smooth: bool = False) -> Tensor:
    """Images whose modules are drawn towards light and dark, hue and texture kept.

    images: (b, 3, h, w) in [−1, 1]; dark: (b, 1, n, n), 1 = dark, one module each h/n pixels;
    strength: (b, 1, 1, 1) in [0, 1] -> as images. The luminance rule of
    `course.scenery.pattern.modulate`, with edges that are sharp or, where `smooth`, soft.
    """
    x = (images + 1) / 2
    luma = (x * LUMA).sum(dim=1, keepdim=True)
    means = F.avg_pool2d(luma, images.shape[-1] // dark.shape[-1])
    goal = means + strength * (0.88 - 0.76 * dark - means)
    gain = (goal / means.clamp(min=0.03)).clamp(0.2, 8.0)
    mode = {"mode": "bilinear", "align_corners": False} if smooth else {"mode": "nearest"}
    gain = F.interpolate(gain, images.shape[-2:], **mode)  # type: ignore[arg-type]
    x = luma * gain + (x - luma) * torch.minimum(gain, gain**0.6)
    return x.clamp(0, 1) * 2 - 1


def binary(dark: Tensor, colours: Tensor, size: int) -> Tensor:
    """Modules in two plain colours: (b, 1, n, n) and (b, 2, 3) in [−1, 1] -> (b, 3, size, size)."""
    light, ink = (c[:, :, None, None] for c in colours.unbind(dim=1))
    return F.interpolate(light + dark * (ink - light), size=(size, size))


def random_modules(b: int, n: int, generator: torch.Generator) -> Tensor:
    """Modules dark by chance, sparse or dense, some in blocks as in a finder: (b, 1, n, n)."""
    share = 0.3 + 0.4 * torch.rand(b, 1, 1, 1, generator=generator)
    fine = torch.rand(b, 1, n, n, generator=generator) < share
    coarse = torch.rand(b, 1, -(-n // 3), -(-n // 3), generator=generator) < share
    coarse = coarse.repeat_interleave(3, 2).repeat_interleave(3, 3)[..., :n, :n]
    mixed = torch.rand(b, 1, 1, 1, generator=generator) < 0.2
    return torch.where(mixed, coarse, fine).float()


def with_patterns(images: Tensor, generator: torch.Generator) -> Tensor:
    """A third of the images with modules of 4 or 8 pixels: relit, blended, or modules alone."""
    b, size = len(images), images.shape[-1]
    pixels = 4 if torch.rand((), generator=generator) < 0.7 else 8
    dark = random_modules(b, size // pixels, generator)
    strength = 0.3 + 0.6 * torch.rand(b, 1, 1, 1, generator=generator)
    smooth = bool(torch.rand((), generator=generator) < 0.4)
    colours = torch.rand(b, 2, 3, generator=generator).mul(0.4).add_(torch.tensor([[0.6], [0.0]]))
    colours = torch.where(torch.rand(b, 1, 1, generator=generator) < 0.5, colours.round(), colours)
    kind = torch.rand(b, 1, 1, 1, generator=generator)
    modules = binary(dark, colours * 2 - 1, size)
    out = torch.where(kind < 0.36, relit(images, dark, strength, smooth), images)
    out = torch.where(kind < 0.18, images + strength * (modules - images), out)
    return torch.where(kind < 0.08, modules, out)


# --- The loss ------------------------------------------------------------------------------------


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbouring pixels, across and down."""
    return x.diff(dim=-1), x.diff(dim=-2)


def reconstruction_loss(decoded: Tensor, images: Tensor) -> Tensor:
    """L1, L2, and L1 of the gradients and of the means of 4 × 4 squares (a module's brightness)."""
    error = decoded - images
    edges = sum(g.abs().mean() for g in gradients(error))
    return (
        error.abs().mean()
        + error.square().mean()
        + 0.5 * edges
        + (F.avg_pool2d(error, 4).abs().mean())
    )


def vae_loss(vae: Any, images: Tensor, eps: Tensor, kl_weight: float) -> Tensor:
    """Reconstruction from one draw of the latents, and their KL divergence from N(0, 1)."""
    posterior = vae.encode(images).latent_dist
    z = posterior.mean + posterior.std * eps
    return reconstruction_loss(vae.decode(z).sample, images) + kl_weight * posterior.kl().mean() / (
        z[0].numel()
    )


# --- The recipe ----------------------------------------------------------------------------------


@torch.no_grad()
def encode(vae: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """The latents' means and log-variances, not scaled: (n, 3, h, w) -> two of (n, c, h/8, w/8)."""
    posteriors = [vae.encode(x).latent_dist for x in images.split(10)]
    return torch.cat([p.mean for p in posteriors]), torch.cat([p.logvar for p in posteriors])


@torch.no_grad()
def decode(vae: Any, z: Tensor) -> Tensor:
    """Images of latents that are not scaled: (n, c, h, w) -> (n, 3, 8h, 8w) in [−1, 1]."""
    return torch.cat([vae.decode(part).sample for part in z.split(10)]).clamp(-1, 1)


def psnr(decoded: Tensor, images: Tensor) -> float:
    """Decibels between images in [−1, 1] and their reconstructions, the mean over images."""
    errors = (decoded - images).square().mean(dim=(1, 2, 3))
    return (10 * torch.log10(4 / errors)).mean().item()


def measure_vae(vae: nn.Module) -> dict[str, float]:
    """PSNR on unseen scenes, plain and relit; and the factor that scales the latents to 1."""
    images = as_tensor(scenes(100, first=HELD_OUT))[:50]
    generator = torch.Generator().manual_seed(1)
    dark = random_modules(len(images), SIZE // 4, generator)
    qr = relit(images, dark, torch.full((len(images), 1, 1, 1), 0.6))
    means, _ = encode(vae, images)
    return {
        "psnr_scenery": round(psnr(decode(vae, means), images), 2),
        "psnr_relit_by_modules": round(psnr(decode(vae, encode(vae, qr)[0]), qr), 2),
        "scaling_factor": round(1 / means.std().item(), 4),
    }


def publish_vae(vae: nn.Module, card: Card) -> Path:
    """Put it into the shipped pipeline, scaled as its card says."""
    kept = half(vae)
    kept.register_to_config(scaling_factor=card["metrics"]["scaling_factor"])
    return publish_folders(PIPELINE, "scenery-vae", card, {"vae": kept.save_pretrained})


# The sides of the crops, with how many make a batch and how often such a batch comes.
CROPS = ((48, 8, 0.5), (80, 3, 0.3), (SIZE, 1, 0.2))


def scenery_vae(
    channels: tuple[int, ...] = (8, 32, 64, 96),
    latents: int = 16,
    steps: int = 20_000,
    n: int = 6000,
) -> Recipe:
    """The autoencoder: f = 8, on crops of scenes, a third of them with patterns of modules."""
    images = torch.from_numpy(scenes(n))
    sketch = as_tensor(images[:60].numpy())
    batch_size, seed, kl_weight = CROPS[0][1], 0, 1e-4
    config = {"channels": channels, "latents": latents, "kl_weight": kl_weight, "scenes": n}

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        odds = torch.tensor([p for *_, p in CROPS])
        size, b, _ = CROPS[int(torch.multinomial(odds, 1, generator=generator))]
        i = batch_indices(len(images), batch_size, step, seed)[:b]
        x = with_patterns(crops(images[i], size, generator), generator)
        return x, torch.randn(b, latents, size // 8, size // 8, generator=generator)

    return Recipe(
        name="scenery-vae",
        about="The autoencoder of the tiny Stable Diffusion: 8 × 8 pixels a latent cell.",
        build=lambda: start_as_components(build_vae(channels, latents), sketch),
        draw=draw,
        loss_fn=lambda model, x, eps: vae_loss(model, x, eps, kl_weight),
        measure=measure_vae,
        steps=steps,
        batch_size=batch_size,
        lr=1e-3,
        ema_decay=0.998,
        config=config,
        seed=seed,
        publish=publish_vae,
        published=lambda model: load_part(model, "vae"),
    )
