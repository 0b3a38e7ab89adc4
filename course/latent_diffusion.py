"""Lesson 05: a small VAE, and a DDPM on its latents."""

import torch
from torch import Tensor, nn


class VAE(nn.Module):
    """28 × 28 pixels in, 4 × 7 × 7 latents between, 28 × 28 pixels out.

    `encode` gives the mean and the log-variance of q(z | x): two of (b, 4, 7, 7); `decode` gives an
    image (b, 1, 28, 28) from z.
    """

    def __init__(self, channels: int = 32, latent_channels: int = 4) -> None:
        super().__init__()
        wide, deep = channels, 2 * channels
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(4, wide, 3, padding=1), nn.SiLU(),
            nn.Conv2d(wide, deep, 3, stride=2, padding=1), nn.GroupNorm(8, deep), nn.SiLU(),
            nn.Conv2d(deep, deep, 3, padding=1), nn.GroupNorm(8, deep), nn.SiLU(),
            nn.Conv2d(deep, 2 * latent_channels, 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, deep, 3, padding=1), nn.GroupNorm(8, deep), nn.SiLU(),
            nn.Conv2d(deep, deep, 3, padding=1), nn.GroupNorm(8, deep), nn.SiLU(),
            nn.Upsample(scale_factor=2), nn.Conv2d(deep, wide, 3, padding=1), nn.SiLU(),
            nn.Conv2d(wide, wide, 3, padding=1), nn.GroupNorm(8, wide), nn.SiLU(),
            nn.Conv2d(wide, 4, 3, padding=1), nn.PixelShuffle(2),
        )  # fmt: skip

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.encoder(x).chunk(2, dim=1)
        return mean, logvar

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)


def reparameterise(mean: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """A draw of N(mean, exp(logvar)) through which gradients flow (Kingma & Welling 2014).

    mean, logvar, eps: (b, c, h, w), eps ~ N(0, I) -> z: (b, c, h, w).
    """
    return mean + torch.exp(0.5 * logvar) * eps


def kl_to_standard_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) ‖ N(0, I)) of each image, in nats: *summed* over its latents.

    mean, logvar: (b, c, h, w) -> (b,), never negative (Kingma & Welling 2014, appendix B).
    """
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(dim=1)


def vae_loss(vae: VAE, x: Tensor, eps: Tensor, kl_weight: float) -> Tensor:
    """−ELBO of a decoder with unit variance, up to constants and with the KL term weighted.

    ½ ‖x − decode(z)‖² *summed* over an image's pixels, plus `kl_weight` times its KL, averaged over
    the batch. x: (b, 1, 28, 28) in [−1, 1]; eps: (b, 4, 7, 7) ~ N(0, I) -> a scalar.
    """
    mean, logvar = vae.encode(x)
    reconstruction = vae.decode(reparameterise(mean, logvar, eps))
    squares = 0.5 * (x - reconstruction).square().flatten(1).sum(dim=1)
    return (squares + kl_weight * kl_to_standard_normal(mean, logvar)).mean()


def latent_scale(z: Tensor) -> float:
    """The factor that brings latents to variance 1: one over their standard deviation, as LDM's.

    z: (n, c, h, w), at least two numbers (Rombach et al. 2022, appendix G).
    """
    return 1 / z.std().item()
