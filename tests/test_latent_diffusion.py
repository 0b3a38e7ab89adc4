"""Lesson 05's formulas against torch.distributions, and its VAE's shapes."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from course.latent_diffusion import (
    VAE,
    kl_to_standard_normal,
    latent_scale,
    reparameterise,
    vae_loss,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_kl_is_that_of_torch() -> None:
    mean, logvar = normal(5, 4, 3, 3), normal(5, 4, 3, 3, seed=1)
    q, p = Normal(mean, logvar.mul(0.5).exp()), Normal(torch.tensor(0.0), torch.tensor(1.0))
    expected = kl_divergence(q, p).flatten(1).sum(dim=1)
    torch.testing.assert_close(kl_to_standard_normal(mean, logvar), expected)


def test_a_draw_has_the_mean_and_the_variance_asked_for() -> None:
    mean, logvar = torch.tensor([0.5]), torch.tensor([-1.0])
    z = reparameterise(mean, logvar, normal(200_000))
    assert z.mean().item() == pytest.approx(0.5, abs=0.01)
    assert z.var().item() == pytest.approx(torch.tensor(-1.0).exp().item(), rel=0.02)


def test_the_loss_is_the_log_likelihood_and_the_kl() -> None:
    vae, x, eps = VAE(channels=8), normal(3, 1, 28, 28), normal(3, 4, 7, 7, seed=1)
    mean, logvar = vae.encode(x)
    decoded = Normal(vae.decode(reparameterise(mean, logvar, eps)), 1.0)
    constant = Normal(0.0, 1.0).log_prob(torch.tensor(0.0)) * 28 * 28
    surprise = constant - decoded.log_prob(x).flatten(1).sum(dim=1)
    expected = (surprise + 0.1 * kl_to_standard_normal(mean, logvar)).mean()
    torch.testing.assert_close(vae_loss(vae, x, eps, 0.1), expected, rtol=1e-4, atol=1e-3)


def test_scaled_latents_have_variance_one() -> None:
    z = 3.7 * normal(100, 4, 7, 7)
    assert (z * latent_scale(z)).std().item() == pytest.approx(1)
