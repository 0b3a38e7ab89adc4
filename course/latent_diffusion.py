"""Lesson 05: a small VAE, and a DDPM on its latents."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from course.errors import CourseError
from course.sampling import EpsModel, sample
from course.training import UNet
from course.weights import card, load_weights

# --- The autoencoder -------------------------------------------------------------------------


def reparameterise(mean: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """A draw of N(mean, exp(logvar)) through which gradients flow (Kingma & Welling 2014, 2.4).

    mean, logvar, eps: (b, c, h, w), eps ~ N(0, I) -> z: (b, c, h, w).
    """
    return mean + torch.exp(0.5 * logvar) * eps


def make_encoder(width: int, latent_channels: int) -> nn.Sequential:
    """(b, 1, 28, 28) -> (b, 2 · latent_channels, 7, 7): the means, then the log-variances."""
    deep = 2 * width
    return nn.Sequential(
        nn.PixelUnshuffle(2), nn.Conv2d(4, width, 3, padding=1), nn.SiLU(),
        nn.Conv2d(width, deep, 3, stride=2, padding=1), nn.GroupNorm(8, deep), nn.SiLU(),
        nn.Conv2d(deep, deep, 3, padding=1), nn.GroupNorm(8, deep), nn.SiLU(),
        nn.Conv2d(deep, 2 * latent_channels, 1),
    )  # fmt: skip


def make_decoder(width: int, latent_channels: int) -> nn.Sequential:
    """(b, latent_channels, 7, 7) -> (b, 1, 28, 28)."""
    deep = 2 * width
    return nn.Sequential(
        nn.Conv2d(latent_channels, deep, 3, padding=1), nn.GroupNorm(8, deep), nn.SiLU(),
        nn.Conv2d(deep, deep, 3, padding=1), nn.GroupNorm(8, deep), nn.SiLU(),
        nn.Upsample(scale_factor=2), nn.Conv2d(deep, width, 3, padding=1), nn.SiLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU(),
        nn.Conv2d(width, 4, 3, padding=1), nn.PixelShuffle(2),
    )  # fmt: skip


class VAE(nn.Module):
    """28 × 28 pixels in, latents of 7 × 7 between, 28 × 28 pixels out.

    x: (b, 1, 28, 28) in [−1, 1]; eps: (b, latent_channels, 7, 7) ~ N(0, I) -> the reconstruction,
    shaped like x, and the mean and log-variance of q(z | x), each shaped like eps.
    """

    def __init__(self, width: int = 32, latent_channels: int = 4) -> None:
        super().__init__()
        self.encoder = make_encoder(width, latent_channels)
        self.decoder = make_decoder(width, latent_channels)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and the log-variance of q(z | x)."""
        mean, logvar = self.encoder(x).chunk(2, dim=1)
        return mean, logvar

    def decode(self, z: Tensor) -> Tensor:
        """The mean of p(x | z): an image, not clipped."""
        return self.decoder(z)

    def forward(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, logvar = self.encode(x)
        return self.decode(reparameterise(mean, logvar, eps)), mean, logvar


def kl_to_standard_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) ‖ N(0, I)) of each image, in nats: *summed* over its latents.

    mean, logvar: (b, c, h, w) -> (b,), never negative (Kingma & Welling 2014, appendix B).
    """
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(dim=1)


def vae_loss(
    vae: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]],
    x: Tensor,
    eps: Tensor,
    kl_weight: float,
) -> Tensor:
    """σ² times the negative ELBO for a decoder of variance σ² = `kl_weight`, up to a constant.

    ½ ‖x − x̂‖² *summed* over an image's pixels, plus `kl_weight` times its KL, which is summed over
    its latents; then the mean over the batch. `vae(x, eps)` gives the reconstruction x̂, the mean
    and the log-variance; x: (b, 1, 28, 28); eps: (b, 4, 7, 7) ~ N(0, I) -> a scalar.
    """
    reconstruction, mean, logvar = vae(x, eps)
    squares = 0.5 * (x - reconstruction).square().flatten(1).sum(dim=1)
    return (squares + kl_weight * kl_to_standard_normal(mean, logvar)).mean()


# --- What it keeps and what it loses ----------------------------------------------------------


def psnr(x: Tensor, reconstruction: Tensor) -> Tensor:
    """The peak signal-to-noise ratio of each image in decibels: 10 log₁₀(2² / mean squared error).

    x, reconstruction: (b, c, h, w) in [−1, 1], a range of 2 -> (b,); larger is better.
    """
    mse = (x - reconstruction).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(4 / mse)


def active_latents(mean: Tensor, threshold: float = 0.01) -> Tensor:
    """Which latents say something: those whose mean varies from image to image.

    mean: (n, c, h, w), of n ≥ 2 images -> (c, h, w) bool: True where the variance over the images
    is above `threshold` (Burda et al. 2016, section 5.2).
    """
    return mean.var(dim=0) > threshold


@torch.no_grad()
def encode_all(vae: VAE, images: Tensor, batch_size: int = 100) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of many images. images: (n, 1, 28, 28) -> two of (n, 4, 7, 7)."""
    means, logvars = zip(*(vae.encode(x) for x in images.split(batch_size)), strict=True)
    return torch.cat(means), torch.cat(logvars)


# --- Diffusion between encoder and decoder ----------------------------------------------------


def latent_scale(z: Tensor) -> float:
    """The factor that brings latents to variance 1: one over the standard deviation of all of them.

    z: (n, c, h, w), all numbers taken together (Rombach et al. 2022, appendix G). Raises ValueError
    where they do not vary.
    """
    std = z.std().item()
    if not std > 0:
        raise ValueError(f"The latents have a standard deviation of {std:g}: no factor scales it.")
    return 1 / std


@torch.no_grad()
def decode_latents(vae: VAE, z: Tensor, scale: float) -> Tensor:
    """Images from scaled latents, clipped to [−1, 1].

    z: (b, c, h, w), latents times `scale` as the diffusion model knows them -> (b, 1, 28, 28).
    """
    return vae.decode(z / scale).clamp(-1, 1)


def sample_latents(
    eps_model: EpsModel,
    zT: Tensor,
    alpha_bars: Tensor,
    vae: VAE,
    scale: float,
    *,
    steps: int = 50,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Images by walking from noise to latents with lesson 04's sampler, then decoding once.

    zT: (b, c, h, w) ~ N(0, I) -> (b, 1, 28, 28) in [−1, 1]. `eps_model` knows scaled latents, which
    have no fixed range: nothing is clipped on the walk. `steps`, `eta`, `generator` as in `sample`.
    """
    walk = sample(eps_model, zT, alpha_bars, steps=steps, eta=eta, clip=False, generator=generator)
    *_, z0 = walk
    return decode_latents(vae, z0, scale)


class LatentDDPM(NamedTuple):
    """A network that predicts v of scaled latents, and what turns those into images."""

    network: UNet
    vae: VAE
    scale: float


def load_vae() -> tuple[VAE, float]:
    """The shipped VAE, and the scale of its latents. Raises CourseError where it is missing."""
    try:
        about = card("mnist-vae")
        vae = load_weights(VAE(**about["config"]), "mnist-vae")
    except CourseError as error:
        raise CourseError(
            f"Latents need the weights mnist-vae. {error} Or make them anew with `python -m course "
            "train mnist-vae --publish`."
        ) from error
    # The layout in which convolutions are faster on a CPU; the numbers are the same.
    return vae.to(memory_format=torch.channels_last), about["metrics"]["latent_scale"]  # type: ignore[call-overload]


def load_latent_ddpm(folder: Path | None = None) -> LatentDDPM:
    """The shipped latent DDPM, or a run's in `folder`, with the shipped VAE it was trained on.

    Raises CourseError where either is missing, and where the VAE is no longer the same.
    """
    config = card("mnist-latent-ddpm", folder)["config"]
    vae, _ = load_vae()
    if card("mnist-vae")["sha256"] != config["vae_sha256"]:
        raise CourseError(
            "The weights mnist-latent-ddpm belong to another mnist-vae than the one shipped; train "
            "them again with `python -m course train mnist-latent-ddpm --publish`."
        )
    network = load_weights(UNet(**config["network"]), "mnist-latent-ddpm", folder)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return LatentDDPM(network, vae, config["latent_scale"])


# --- What it costs ----------------------------------------------------------------------------


def conv_flops(conv: nn.Conv2d, h: int, w: int) -> int:
    """The multiplications and additions of one convolution on one image; its bias is not counted.

    conv: one of square, ungrouped kernels; h, w: the size of its *output*. For every output number:
    one multiplication and one addition for each number under the kernel.
    """
    under_kernel = conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]
    return 2 * under_kernel * conv.out_channels * h * w


def count_flops(work: Callable[[], Any]) -> int:
    """The multiplications and additions in the matrix products and convolutions of `work()`."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return counter.get_total_flops()
