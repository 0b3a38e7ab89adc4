"""The weights of lesson 05: the VAE, and the DDPM on its latents."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from course.data import mnist
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.latent_diffusion import (
    VAE,
    encode_all,
    kl_to_standard_normal,
    latent_scale,
    load_vae,
    psnr,
    reparameterise,
    sample_latents,
    vae_loss,
)
from course.metrics import distance_to_mnist
from course.recipes.base import Recipe, channels_last, draw_noise
from course.sampling import as_eps_model, normal_like
from course.training import UNet, batch_indices, v_loss
from course.weights import card

KL_WEIGHT = 0.02


def scale_on(vae: VAE, images: Tensor) -> float:
    """The `latent_scale` of one draw of every image's latents, to four digits."""
    mean, logvar = encode_all(vae, images)
    eps = normal_like(mean, torch.Generator().manual_seed(0))
    return float(f"{latent_scale(reparameterise(mean, logvar, eps)):.4g}")


def mnist_vae(steps: int = 6_000) -> Recipe:
    """The autoencoder of lesson 05, whose card also holds the scale of its latents."""
    images, _ = mnist("train")
    batch_size, seed = 64, 0
    config: dict[str, Any] = {"width": 32, "latent_channels": 4}

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = images[batch_indices(len(images), batch_size, step, seed)]
        return x, torch.randn(batch_size, config["latent_channels"], 7, 7, generator=generator)

    def measure(vae: nn.Module) -> dict[str, float]:
        assert isinstance(vae, VAE)
        x, _ = mnist("test")
        mean, logvar = encode_all(vae, x)
        reconstruction = torch.cat([vae.decode(z) for z in mean.split(100)]).clamp(-1, 1)
        return {
            "test_psnr": round(psnr(x, reconstruction).mean().item(), 2),
            "test_kl_nats": round(kl_to_standard_normal(mean, logvar).mean().item(), 1),
            "latent_scale": scale_on(vae, images),
        }

    return Recipe(
        name="mnist-vae",
        about=f"The MNIST VAE: 28 × 28 pixels to 4 × 7 × 7 latents; KL weight {KL_WEIGHT}.",
        build=lambda: channels_last(VAE(**config)),
        draw=draw,
        loss_fn=lambda vae, x, eps: vae_loss(vae, x, eps, KL_WEIGHT),
        measure=torch.no_grad()(measure),
        steps=steps,
        batch_size=batch_size,
        lr=3e-3,
        ema_decay=0.999,
        config=config,
        seed=seed,
    )


def mnist_latent_ddpm(channels: tuple[int, int] = (32, 64), steps: int = 30_000) -> Recipe:
    """mnist-ddpm on the scaled latents of the shipped mnist-vae: its card holds that SHA-256."""
    vae, scale = load_vae()
    alpha_bars = alpha_bars_from_betas(cosine_schedule())
    T, batch_size, seed = len(alpha_bars), 32, 0
    unet: dict[str, Any] = {"in_channels": 4, "channels": channels, "patch": 1}
    # Its weights go with this very VAE, and with no other.
    config = {"vae_sha256": card("mnist-vae")["sha256"], "latent_scale": scale, "network": unet}

    @functools.cache
    def moments() -> tuple[Tensor, Tensor]:
        """Every training image's mean and log-variance, encoded when first asked for."""
        return encode_all(vae, mnist("train")[0])

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        mean, logvar = (x[batch_indices(len(x), batch_size, step, seed)] for x in moments())
        z0 = scale * reparameterise(mean, logvar, normal_like(mean, generator))
        return z0, *draw_noise(z0, T, generator)

    def measure(network: nn.Module) -> dict[str, float]:
        zT = torch.randn(1000, 4, 7, 7, generator=torch.Generator().manual_seed(1))
        eps_model = as_eps_model(network, alpha_bars)
        x0 = sample_latents(eps_model, zT, alpha_bars, vae, scale, steps=50)
        return {"frechet_distance_1000_samples_50_ddim_steps": round(distance_to_mnist(x0), 2)}

    return Recipe(
        name="mnist-latent-ddpm",
        about="A DDPM on the latents of mnist-vae: predicts v, cosine schedule, T = 1000.",
        build=lambda: channels_last(UNet(**unet)),
        draw=draw,
        loss_fn=lambda model, z0, t, eps: v_loss(model, z0, t, eps, alpha_bars),
        measure=measure,
        steps=steps,
        batch_size=batch_size,
        lr=3e-3,
        ema_decay=0.999,
        config=config,
        seed=seed,
    )
