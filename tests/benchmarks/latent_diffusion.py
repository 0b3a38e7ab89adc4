"""Lesson 05: what the VAE keeps, and diffusion on its latents beside diffusion on pixels."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from course.data import mnist
from course.latent_diffusion import (
    VAE,
    count_flops,
    encode_all,
    load_latent_ddpm,
    load_vae,
    psnr,
    reparameterise,
    sample_latents,
)
from course.metrics import distance_floor, distance_to_mnist
from course.sampling import as_eps_model, normal_like, sample
from course.weights import card
from tests.benchmarks.ddpm import ALPHA_BARS, N, cpu_seconds, draw, noise, shipped, train_ours
from tests.benchmarks.row import Row


def latent_noise(n: int) -> Tensor:
    return torch.randn(n, 4, 7, 7, generator=torch.Generator().manual_seed(1))


def draw_latent(network: nn.Module, vae: VAE, scale: float, steps: int = 50, n: int = N) -> Tensor:
    """n images of a network that predicts v of scaled latents."""
    eps_model = as_eps_model(network, ALPHA_BARS)
    return sample_latents(eps_model, latent_noise(n), ALPHA_BARS, vae, scale, steps=steps)


# --- The autoencoder alone ----------------------------------------------------------------------


@torch.no_grad()
def decoded(vae: VAE, z: Tensor) -> Tensor:
    return torch.cat([vae.decode(part) for part in z.split(100)]).clamp(-1, 1)


def reconstruction(n: int = N) -> list[Row]:
    """How much of the 10,000 test images comes back, from the mean and from a draw of q(z | x)."""
    vae, _ = load_vae()
    x, _ = mnist("test")
    mean, logvar = encode_all(vae, x)
    eps = normal_like(mean, torch.Generator().manual_seed(0))
    from_mean, from_draw = decoded(vae, mean), decoded(vae, reparameterise(mean, logvar, eps))
    quality = psnr(x, from_mean)
    error = (x - from_mean).square().mean()
    some = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:n]
    floor = distance_floor(n)
    minutes = card("mnist-vae")["cpu_minutes"]
    return [
        Row(f"shipped `mnist-vae` ({minutes:.0f} CPU-minutes): mean squared error of its "
            "reconstructions of the test set, pixels in [−1, 1]", f"{error:.4f}", "—"),
        Row("the same as PSNR, mean and worst of 10,000 digits",
            f"{quality.mean():.1f} dB, {quality.min():.1f} dB", "—"),
        Row(f"Fréchet distance of {n:,} reconstructed test digits, from the mean and from a draw "
            f"(floor {floor:.1f})",
            f"{distance_to_mnist(from_mean[some]):.1f}, {distance_to_mnist(from_draw[some]):.1f}",
            "—"),
    ]  # fmt: skip


# --- Latents beside pixels ------------------------------------------------------------------------


def quality(n: int = N) -> list[Row]:
    """The shipped latent DDPM."""
    network, vae, scale = load_latent_ddpm()
    distance = distance_to_mnist(draw_latent(network, vae, scale, n=n))
    minutes = card("mnist-latent-ddpm")["cpu_minutes"]
    return [
        Row(f"shipped `mnist-latent-ddpm` ({minutes:.0f} CPU-minutes), 50 DDIM calls, N = {n:,}",
            f"{distance:.1f}", "—"),
    ]  # fmt: skip


def budget(n: int = N) -> list[Row]:
    """5 CPU minutes on one thread for each recipe; the VAE's own training is not in them."""
    vae, scale = load_vae()
    images, _ = mnist("train")
    start = time.process_time()
    encode_all(vae, images)
    encoding = time.process_time() - start
    latent = distance_to_mnist(draw_latent(train_ours("mnist-latent-ddpm"), vae, scale, n=n))
    pixel = distance_to_mnist(draw(train_ours("mnist-ddpm"), 50, n=n))
    return [
        Row(f"Fréchet distance after 5 CPU-minutes of training, on pixels, N = {n:,}",
            f"{pixel:.0f}", "—"),
        Row("the same on latents; not counted: the VAE's own "
            f"{card('mnist-vae')['cpu_minutes']:.0f} CPU-minutes, and {encoding:.0f} CPU-seconds "
            "to encode the training set once", f"{latent:.0f}", "—"),
        Row("ratio, latents to pixels", f"{latent / pixel:.2f}", "≤ 1"),
    ]  # fmt: skip


def cost(rounds: int = 8, n: int = 64, steps: int = 10) -> list[Row]:
    """FLOPs of one network call, and CPU seconds a sample, interleaved; decoding is counted."""
    pixel_net, (network, vae, scale) = shipped(), load_latent_ddpm()
    pixel_net = pixel_net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    t = torch.zeros(1, dtype=torch.int64)
    pixel_flops = count_flops(lambda: pixel_net(noise(1), t))
    latent_flops = count_flops(lambda: network(latent_noise(1), t))

    def on_pixels() -> None:
        *_, _x0 = sample(as_eps_model(pixel_net, ALPHA_BARS), noise(n), ALPHA_BARS, steps=steps)

    def on_latents() -> None:
        draw_latent(network, vae, scale, steps, n)

    pixels, latents = least_seconds([on_pixels, on_latents], rounds)
    return [
        Row("FLOPs of one network call, pixels and latents, millions",
            f"{pixel_flops / 1e6:.1f}, {latent_flops / 1e6:.1f}", "—"),
        Row("ratio of FLOPs, latents to pixels", f"{latent_flops / pixel_flops:.2f}", "< 1"),
        Row(f"CPU milliseconds a digit at {steps} calls, pixels and latents (decoding included)",
            f"{1e3 * pixels / n:.1f}, {1e3 * latents / n:.1f}", "—"),
        Row("ratio of times, latents to pixels", f"{latents / pixels:.2f}", "< 1"),
    ]  # fmt: skip


def least_seconds(works: list[Callable[[], None]], rounds: int) -> list[float]:
    """The least CPU time of each of some works, done in turns: the rest is other processes."""
    for work in works:
        work()
    spent = [[cpu_seconds(work) for work in works] for _ in tqdm(range(rounds), desc="rounds")]
    return [min(times) for times in zip(*spent, strict=True)]


MEASURES: dict[str, Callable[[], list[Row]]] = {
    "reconstruction": reconstruction,
    "latent-quality": quality,
    "latent-budget": budget,
    "latent-cost": cost,
}
