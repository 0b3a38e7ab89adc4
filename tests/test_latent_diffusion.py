"""Lesson 05 against torch.distributions, diffusers and plain integration; its shipped weights."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from course.data import mnist
from course.errors import CourseError
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.latent_diffusion import (
    VAE,
    active_latents,
    conv_flops,
    count_flops,
    decode_latents,
    encode_all,
    kl_to_standard_normal,
    latent_scale,
    load_latent_ddpm,
    load_vae,
    psnr,
    reparameterise,
    sample_latents,
    vae_loss,
)
from course.recipes import recipe
from course.recipes.latent_diffusion import scale_on
from course.sampling import as_eps_model, sample
from course.training import UNet
from course.weights import card, weights_dir


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- Against diffusers and torch.distributions ----------------------------------------------------


def test_the_kl_is_that_of_torch() -> None:
    mean, logvar = normal(5, 4, 3, 3), normal(5, 4, 3, 3, seed=1)
    q, p = Normal(mean, logvar.mul(0.5).exp()), Normal(torch.tensor(0.0), torch.tensor(1.0))
    expected = kl_divergence(q, p).flatten(1).sum(dim=1)
    torch.testing.assert_close(kl_to_standard_normal(mean, logvar), expected)


def test_the_kl_and_the_draw_are_those_of_diffusers() -> None:
    mean, logvar = normal(5, 4, 7, 7), normal(5, 4, 7, 7, seed=1)
    theirs = DiagonalGaussianDistribution(torch.cat([mean, logvar], dim=1))
    torch.testing.assert_close(kl_to_standard_normal(mean, logvar), theirs.kl())
    drawn = theirs.sample(torch.Generator().manual_seed(2))
    torch.testing.assert_close(reparameterise(mean, logvar, normal(5, 4, 7, 7, seed=2)), drawn)


def test_mean_and_logvar_lie_in_diffusers_order() -> None:
    vae, x = VAE(width=8), normal(2, 1, 28, 28)
    theirs = DiagonalGaussianDistribution(vae.encoder(x))
    mean, logvar = vae.encode(x)
    assert torch.equal(mean, theirs.mean)
    assert torch.equal(logvar, theirs.logvar)


def test_the_kl_is_never_negative_and_zero_at_the_prior() -> None:
    mean, logvar = 0.1 * normal(200, 1, 1, 1), 0.1 * normal(200, 1, 1, 1, seed=1)
    assert (kl_to_standard_normal(mean, logvar) > 0).all()
    assert (
        kl_to_standard_normal(torch.zeros(3, 2, 2, 2), torch.zeros(3, 2, 2, 2)).tolist() == [0] * 3
    )


def test_a_draw_has_the_mean_and_the_variance_asked_for() -> None:
    mean, logvar = torch.tensor([0.5]), torch.tensor([-1.0])
    z = reparameterise(mean, logvar, normal(200_000))
    assert z.mean().item() == pytest.approx(0.5, abs=0.01)
    assert z.var().item() == pytest.approx(math.exp(-1), rel=0.02)


# --- The ELBO -----------------------------------------------------------------------------------


def test_the_loss_is_the_log_likelihood_and_the_kl() -> None:
    vae, x, eps = VAE(width=8), normal(3, 1, 28, 28), normal(3, 4, 7, 7, seed=1)
    mean, logvar = vae.encode(x)
    decoded = Normal(vae.decode(reparameterise(mean, logvar, eps)), 1.0)
    constant = Normal(0.0, 1.0).log_prob(torch.tensor(0.0)) * 28 * 28
    surprise = constant - decoded.log_prob(x).flatten(1).sum(dim=1)
    expected = (surprise + 0.1 * kl_to_standard_normal(mean, logvar)).mean()
    torch.testing.assert_close(vae_loss(vae, x, eps, 0.1), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("variance", [0.02, 0.5])
def test_the_weighted_loss_is_the_elbo_of_a_decoder_of_that_variance(variance: float) -> None:
    """z ~ N(0, 1), x | z ~ N(2z, σ²): at the exact posterior, the ELBO is log p(x)."""
    x, n = 1.3, 1_000_000
    precision = 1 + 4 / variance
    mean, logvar = torch.full((n, 1), 2 * x / variance / precision), -math.log(precision)
    logvars = torch.full((n, 1), logvar)

    def vae(x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return 2 * reparameterise(mean, logvars, eps), mean, logvars

    loss = vae_loss(vae, torch.full((n, 1), x), normal(n, 1), variance)
    elbo = -loss.item() / variance - 0.5 * math.log(2 * math.pi * variance)
    evidence = Normal(0.0, math.sqrt(4 + variance)).log_prob(torch.tensor(x)).item()
    assert elbo == pytest.approx(evidence, abs=0.01)


def test_the_loss_works_on_a_wrapped_network() -> None:
    """As in several processes: only `forward` is called, on whatever wraps the VAE."""
    vae, x, eps = VAE(width=8), normal(2, 1, 28, 28), normal(2, 4, 7, 7)

    class Wrapped(nn.Module):
        def forward(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return vae(x, eps)

    assert torch.equal(vae_loss(Wrapped(), x, eps, 0.1), vae_loss(vae, x, eps, 0.1))


def test_every_weight_of_the_vae_gets_a_gradient() -> None:
    vae = VAE(width=8)
    vae_loss(vae, normal(2, 1, 28, 28), normal(2, 4, 7, 7), 0.1).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in vae.parameters())


@pytest.mark.parametrize(("width", "channels"), [(8, 1), (16, 4), (32, 8)])
def test_the_vaes_shapes(width: int, channels: int) -> None:
    vae, x = VAE(width, channels), normal(3, 1, 28, 28)
    reconstruction, mean, logvar = vae(x, normal(3, channels, 7, 7))
    assert reconstruction.shape == x.shape
    assert mean.shape == logvar.shape == (3, channels, 7, 7)


# --- What it keeps ------------------------------------------------------------------------------


def test_psnr_by_the_definition() -> None:
    x, off = normal(4, 1, 5, 5).clamp(-1, 1), torch.tensor([0.002, 0.02, 0.2, 2.0])
    shifted = x + off[:, None, None, None]
    torch.testing.assert_close(
        psnr(x, shifted), torch.tensor([60.0, 40.0, 20.0, 0.0]), atol=2e-3, rtol=0
    )
    assert psnr(x, x).tolist() == [math.inf] * 4


def test_active_are_the_latents_that_follow_the_image() -> None:
    mean = normal(500, 4, 7, 7)
    mean[:, 1] = 5.0  # far from 0, and always the same
    mean[:, 2] *= 0.05  # a variance of 0.0025
    active = active_latents(mean)
    assert active.shape == (4, 7, 7)
    assert active.flatten(1).all(dim=1).tolist() == [True, False, False, True]
    assert not active[1:3].any()
    assert active_latents(mean, threshold=0.001)[2].all()


def test_encoding_in_batches_is_encoding() -> None:
    vae, x = VAE(width=8).eval(), normal(25, 1, 28, 28)
    mean, logvar = encode_all(vae, x, batch_size=10)
    torch.testing.assert_close((mean, logvar), vae.encode(x))
    assert not mean.requires_grad


# --- Latents ------------------------------------------------------------------------------------


def test_scaled_latents_have_variance_one() -> None:
    z = 3.7 * normal(100, 4, 7, 7) + 2
    assert (z * latent_scale(z)).std().item() == pytest.approx(1)


@pytest.mark.parametrize("z", [torch.ones(2, 4, 7, 7), torch.full((2, 2), torch.nan)])
def test_latents_that_do_not_vary_are_refused(z: Tensor) -> None:
    with pytest.raises(ValueError, match=r"standard deviation of (0|nan)"):
        latent_scale(z)


def test_decoding_undoes_the_scaling() -> None:
    vae, z = VAE(width=8).eval(), normal(3, 4, 7, 7)
    expected = vae.decode(z).clamp(-1, 1)
    images = decode_latents(vae, 0.3 * z, 0.3)
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=1e-4)
    assert not images.requires_grad


def test_gaussian_latents_come_out_with_their_spread() -> None:
    """Latents N(0, 1) exactly: the best ε̂ is √(1 − ᾱ) x_t, and nothing may be clipped."""
    alpha_bars = alpha_bars_from_betas(cosine_schedule())

    def eps_model(xt: Tensor, t: Tensor) -> Tensor:
        return (1 - alpha_bars[t]).sqrt()[:, None, None, None] * xt

    class Same(nn.Module):
        def decode(self, z: Tensor) -> Tensor:
            return z / 10  # so that nothing is clipped here either

    zT = normal(2000, 1, 2, 2)
    images = sample_latents(eps_model, zT, alpha_bars, Same(), 2.0, steps=100)  # type: ignore[arg-type]
    assert (images * 20).std().item() == pytest.approx(1, abs=0.03)
    assert (images * 20).abs().max() > 2.5


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_sampling_is_lesson_04s_walk_then_one_decoding(eta: float) -> None:
    alpha_bars, vae = alpha_bars_from_betas(cosine_schedule(100)), VAE(width=8).eval()
    network = UNet(in_channels=4, channels=(8, 8), emb_dim=8, patch=1).eval()
    eps_model, zT = as_eps_model(network, alpha_bars), normal(2, 4, 7, 7)

    def seed() -> torch.Generator:
        return torch.Generator().manual_seed(5)

    walk = sample(eps_model, zT, alpha_bars, steps=7, eta=eta, clip=False, generator=seed())
    *_, z0 = walk
    images = sample_latents(eps_model, zT, alpha_bars, vae, 0.8, steps=7, eta=eta, generator=seed())
    assert torch.equal(images, decode_latents(vae, z0, 0.8))


def test_the_unet_of_lesson_03_takes_latents_of_an_odd_size() -> None:
    network = UNet(in_channels=4, channels=(8, 16), patch=1)
    assert network(normal(2, 4, 7, 7), torch.tensor([0, 999])).shape == (2, 4, 7, 7)


# --- FLOPs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_convolutions_flops_are_what_torch_counts(kernel: int, stride: int) -> None:
    conv = nn.Conv2d(3, 5, kernel, stride, padding=kernel // 2)
    x = normal(1, 3, 8, 12)
    h, w = conv(x).shape[-2:]
    assert conv_flops(conv, h, w) == count_flops(lambda: conv(x))


def test_flops_grow_with_the_batch() -> None:
    vae = VAE(width=8)
    once = count_flops(lambda: vae.encode(normal(1, 1, 28, 28)))
    assert count_flops(lambda: vae.encode(normal(3, 1, 28, 28))) == 3 * once > 0


# --- The shipped weights, and what happens without them -----------------------------------------


@pytest.fixture
def own_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped weights of this lesson in a data folder of their own, to spoil."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for path in weights_dir().glob("mnist-*"):
        if path.stem in ("mnist-vae", "mnist-latent-ddpm"):
            shutil.copy(path, folder)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    return folder


def test_the_shipped_vae_draws_test_digits_clearly() -> None:
    vae, _ = load_vae()
    x = mnist("test")[0][:500]
    mean, _ = encode_all(vae, x)
    reconstruction = decode_latents(vae, mean, 1.0)
    assert psnr(x, reconstruction).mean() > 22
    blank = torch.full_like(x, -1)
    assert psnr(x, blank).mean() < 12


def test_the_cards_scale_is_that_of_the_training_images() -> None:
    vae, scale = load_vae()
    assert scale_on(vae, mnist("train")[0][:2000]) == pytest.approx(scale, rel=0.02)


def test_the_latent_ddpm_belongs_to_the_shipped_vae() -> None:
    network, _, scale = load_latent_ddpm()
    config = card("mnist-latent-ddpm")["config"]
    assert config["vae_sha256"] == card("mnist-vae")["sha256"]
    assert scale == config["latent_scale"] == card("mnist-vae")["metrics"]["latent_scale"]
    assert network.stem.in_channels == 4


def test_the_recipe_draws_latents_of_variance_one() -> None:
    made = recipe("mnist-latent-ddpm")
    z0, t, eps = made.draw(0, torch.Generator().manual_seed(0))
    assert z0.shape == eps.shape == (made.batch_size, 4, 7, 7)
    assert z0.std().item() == pytest.approx(1, abs=0.1)
    again = made.draw(0, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip((z0, t, eps), again, strict=True))
    # Another generator: another draw of the same images' latents.
    other, _, _ = made.draw(0, torch.Generator().manual_seed(1))
    assert not torch.equal(other, z0)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_missing_vae_is_named_with_its_remedy(own_weights: Path, suffix: str) -> None:
    (own_weights / f"mnist-vae{suffix}").unlink()
    for call in (load_vae, load_latent_ddpm, lambda: recipe("mnist-latent-ddpm")):
        with pytest.raises(CourseError) as caught:
            call()
        message = str(caught.value)
        assert message.startswith("Latents need the weights mnist-vae.")
        assert "`python -m course train mnist-vae --publish`" in message
        assert "\n" not in message


def test_a_vae_that_was_trained_anew_is_noticed(own_weights: Path) -> None:
    path = own_weights / "mnist-latent-ddpm.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    about["config"]["vae_sha256"] = "0" * 64
    path.write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(CourseError, match=r"another mnist-vae.*train mnist-latent-ddpm --publish"):
        load_latent_ddpm()
