"""Lesson 06 against finite differences, scipy, and a mixture whose conditional score is known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from course.classifier_guidance import (
    Mixture,
    NoisyClassifier,
    accuracy_at,
    classifier_guided_eps_model,
    classifier_loss,
    component_log_probs,
    component_scores,
    diversity,
    eps_from_score,
    guided_eps,
    log_prob_gradient,
    mixture_log_posterior,
    mixture_score,
    noised,
    score_from_eps,
)
from course.data import mnist
from course.forward_process import alpha_bars_from_betas, cosine_schedule, q_sample
from course.sampling import predict_x0, sample
from course.weights import card, load_weights

ALPHA_BARS = alpha_bars_from_betas(cosine_schedule())
MIXTURE = Mixture(
    torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
    torch.tensor([[-0.5, -0.3], [0.45, -0.2], [0.1, 0.5]], dtype=torch.float64),
    torch.tensor(
        [
            [[0.02, 0.012], [0.012, 0.015]],
            [[0.01, -0.006], [-0.006, 0.02]],
            [[0.03, 0.0], [0.0, 0.006]],
        ],
        dtype=torch.float64,
    ),
)
T = torch.tensor([0, 20, 300, 700, 999])


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def bayes(xt: Tensor, t: Tensor) -> Tensor:
    """The best classifier of the mixture, whose gradient is exact."""
    return mixture_log_posterior(MIXTURE, xt, t, ALPHA_BARS)


def mixture_eps(xt: Tensor, t: Tensor) -> Tensor:
    return eps_from_score(mixture_score(MIXTURE, xt, t, ALPHA_BARS), t, ALPHA_BARS)


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


# --- Scores and noise -----------------------------------------------------------------------------


def test_the_score_of_the_closed_form_is_its_noise() -> None:
    """∇ log N(√ᾱ x_0, (1 − ᾱ) I) at x_t, by torch's density and autograd."""
    x0, eps, t = normal(5, 3), normal(5, 3, seed=1), T
    alpha_bar = ALPHA_BARS[t][:, None].double()
    xt = q_sample(x0, t, eps, ALPHA_BARS).requires_grad_()
    density = torch.distributions.Normal(alpha_bar.sqrt() * x0, (1 - alpha_bar).sqrt())
    (expected,) = torch.autograd.grad(density.log_prob(xt).sum(), xt)
    assert torch.allclose(score_from_eps(eps, t, ALPHA_BARS), expected, rtol=1e-5)


def test_score_and_noise_are_each_others_inverse() -> None:
    eps = normal(5, 1, 4, 4)
    there_and_back = eps_from_score(score_from_eps(eps, T, ALPHA_BARS), T, ALPHA_BARS)
    assert apart(there_and_back, eps) < 1e-12


# --- The mixture ----------------------------------------------------------------------------------


def test_component_densities_are_scipys() -> None:
    xt = normal(5, 2)
    means, covs = noised(MIXTURE, T, ALPHA_BARS)
    expected = [
        [stats.multivariate_normal(m, c).logpdf(x) for m, c in zip(ms, cs, strict=True)]
        for x, ms, cs in zip(xt.numpy(), means.numpy(), covs.numpy(), strict=True)
    ]
    assert apart(component_log_probs(MIXTURE, xt, T, ALPHA_BARS), torch.tensor(expected)) < 1e-8


def test_noised_moments_are_those_of_noised_draws() -> None:
    n, t = 200_000, 400
    for k in range(3):
        root = torch.linalg.cholesky(MIXTURE.covs[k])
        x0 = MIXTURE.means[k] + normal(n, 2, seed=k) @ root.T
        eps = normal(n, 2, seed=10 + k)
        xt = q_sample(x0, torch.full((n,), t), eps, ALPHA_BARS)
        means, covs = noised(MIXTURE, torch.tensor([t]), ALPHA_BARS)
        assert apart(xt.mean(0), means[0, k]) < 0.01
        assert apart(xt.T.cov(), covs[0, k]) < 0.01


def test_the_posterior_is_bayes_rule() -> None:
    xt = normal(5, 2)
    joint = MIXTURE.weights * component_log_probs(MIXTURE, xt, T, ALPHA_BARS).exp()
    expected = joint / joint.sum(dim=1, keepdim=True)
    assert apart(bayes(xt, T).exp(), expected) < 1e-12


def test_the_posterior_does_not_underflow() -> None:
    far = torch.tensor([[1e3, -1e3]], dtype=torch.float64)
    assert bayes(far, torch.tensor([0])).isfinite().all()


def test_the_mixtures_score_is_the_gradient_of_its_log_density() -> None:
    xt = normal(5, 2).requires_grad_()
    joint = MIXTURE.weights.log() + component_log_probs(MIXTURE, xt, T, ALPHA_BARS)
    (expected,) = torch.autograd.grad(torch.logsumexp(joint, dim=1).sum(), xt)
    assert torch.allclose(mixture_score(MIXTURE, xt, T, ALPHA_BARS), expected, rtol=1e-6)


def test_scores_obey_bayes_rule() -> None:
    """∇ log p(x_t | y) = ∇ log p(x_t) + ∇ log p(y | x_t), at every label and level."""
    for k in range(3):
        xt, y = normal(5, 2, seed=k), torch.full((5,), k)
        bottom_up = mixture_score(MIXTURE, xt, T, ALPHA_BARS) + log_prob_gradient(bayes, xt, T, y)
        exact = component_scores(MIXTURE, xt, T, ALPHA_BARS)[:, k]
        assert torch.allclose(bottom_up, exact, rtol=1e-6)


def test_tweedie_gives_the_posterior_mean() -> None:
    """x̂_0 from the mixture's score is E[x_0 | x_t], here by brute force over draws of x_0."""
    n, t = 400_000, torch.tensor([500])
    labels = torch.multinomial(
        MIXTURE.weights, n, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    roots = torch.linalg.cholesky(MIXTURE.covs)[labels]
    x0 = MIXTURE.means[labels] + (roots @ normal(n, 2, 1)).squeeze(-1)
    xt = torch.tensor([[0.2, 0.1]], dtype=torch.float64)
    alpha_bar = ALPHA_BARS[500].double()
    away = (xt - alpha_bar.sqrt() * x0).square().sum(dim=1)
    likelihood = torch.exp(-away / (2 * (1 - alpha_bar)))
    expected = (likelihood[:, None] * x0).sum(dim=0) / likelihood.sum()
    x0_hat = predict_x0(xt, t, mixture_eps(xt, t), ALPHA_BARS)
    assert apart(x0_hat[0], expected) < 0.005


# --- The gradient ---------------------------------------------------------------------------------


def random_classifier(k: int, d: int) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(d, 16), nn.Tanh(), nn.Linear(16, k)).double()

    class Timed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, xt: Tensor, t: Tensor) -> Tensor:
            return layers(xt) * (1 + t[:, None] / 1000)

    return Timed(), layers


def test_the_gradient_is_that_of_finite_differences() -> None:
    classifier, _ = random_classifier(4, 6)
    xt, t, y = normal(3, 1, 2, 3), torch.tensor([0, 500, 999]), torch.tensor([3, 0, 2])
    gradient = log_prob_gradient(classifier, xt, t, y)
    small = 1e-5
    for i, j in [(0, 0), (1, 3), (2, 5)]:
        step = torch.zeros(3, 6, dtype=torch.float64)
        step[i, j] = small
        up, down = (
            torch.log_softmax(classifier(xt + sign * step.reshape(xt.shape), t), dim=1)[i, y[i]]
            for sign in (1, -1)
        )
        assert apart(gradient.flatten(1)[i, j], (up - down) / (2 * small)) < 1e-8


@given(st.integers(1, 6))
def test_an_images_gradient_does_not_depend_on_its_neighbours(b: int) -> None:
    classifier, _ = random_classifier(4, 6)
    xt, t, y = normal(b, 1, 2, 3), torch.arange(b) * 100, torch.arange(b) % 4
    together = log_prob_gradient(classifier, xt, t, y)
    for i in range(b):
        alone = log_prob_gradient(classifier, xt[i : i + 1], t[i : i + 1], y[i : i + 1])
        assert apart(together[i : i + 1], alone) < 1e-12


def test_the_gradients_over_all_labels_average_to_zero() -> None:
    """Σ_y p(y | x) ∇ log p(y | x) = ∇ Σ_y p(y | x) = 0."""
    classifier, _ = random_classifier(4, 6)
    xt, t = normal(2, 6), torch.tensor([3, 700])
    probabilities = torch.softmax(classifier(xt, t), dim=1)
    total = sum(
        probabilities[:, k : k + 1] * log_prob_gradient(classifier, xt, t, torch.full((2,), k))
        for k in range(4)
    )
    assert isinstance(total, Tensor)
    assert apart(total, torch.zeros_like(total)) < 1e-12


@torch.no_grad()
def test_nothing_is_left_behind() -> None:
    classifier, layers = random_classifier(4, 6)
    xt = normal(2, 6)
    gradient = log_prob_gradient(classifier, xt, torch.tensor([1, 2]), torch.tensor([0, 1]))
    assert not gradient.requires_grad
    assert not xt.requires_grad
    assert all(p.grad is None for p in layers.parameters())
    assert not torch.is_grad_enabled()


# --- The guidance ---------------------------------------------------------------------------------


def test_scale_0_is_unconditional_and_1_is_conditional() -> None:
    xt, t, y = normal(5, 2), T, torch.tensor([0, 1, 2, 0, 1])
    exact = component_scores(MIXTURE, xt, t, ALPHA_BARS)[torch.arange(5), y]
    for scale, score in [(0.0, mixture_score(MIXTURE, xt, t, ALPHA_BARS)), (1.0, exact)]:
        guided = classifier_guided_eps_model(mixture_eps, bayes, y, ALPHA_BARS, scale)(xt, t)
        expected = eps_from_score(score, t, ALPHA_BARS)
        assert torch.allclose(guided, expected, rtol=1e-5, atol=1e-9)


def test_the_scale_is_gamma_of_classifier_free_guidance() -> None:
    """ε̂ is γ ε(x, y) + (1 − γ) ε(x): one scale for lessons 06 and 07."""
    xt, t, y, gamma = normal(5, 2), T, torch.tensor([2, 1, 0, 2, 1]), 2.7
    exact = component_scores(MIXTURE, xt, t, ALPHA_BARS)[torch.arange(5), y]
    conditional = eps_from_score(exact, t, ALPHA_BARS)
    guided = classifier_guided_eps_model(mixture_eps, bayes, y, ALPHA_BARS, gamma)(xt, t)
    mixed = gamma * conditional + (1 - gamma) * mixture_eps(xt, t)
    assert torch.allclose(guided, mixed, rtol=1e-5, atol=1e-9)


def test_guidance_moves_x0_hat_by_tweedie() -> None:
    """x̂_0 moves by γ (1 − ᾱ)/√ᾱ times the gradient."""
    xt, eps_hat, gradient = (
        normal(3, 1, 4, 4),
        normal(3, 1, 4, 4, seed=1),
        normal(3, 1, 4, 4, seed=2),
    )
    t, scale = torch.tensor([10, 400, 800]), 3.0
    alpha_bar = ALPHA_BARS[t].double().reshape(-1, 1, 1, 1)
    moved = predict_x0(xt, t, guided_eps(eps_hat, gradient, t, ALPHA_BARS, scale), ALPHA_BARS)
    expected = scale * (1 - alpha_bar) / alpha_bar.sqrt() * gradient
    assert apart(moved - predict_x0(xt, t, eps_hat, ALPHA_BARS), expected) < 1e-6


def drawn(label: int, scale: float, n: int = 2000) -> Tensor:
    """Samples of the mixture, guided to a label by the exact classifier."""
    y = torch.full((n,), label)
    eps_model = classifier_guided_eps_model(mixture_eps, bayes, y, ALPHA_BARS, scale)
    *_, x0 = sample(eps_model, normal(n, 2), ALPHA_BARS, steps=200, clip=False)
    return x0


def test_unguided_samples_fall_into_components_by_their_weights() -> None:
    shares = bayes(drawn(0, 0.0), torch.zeros(2000, dtype=torch.int64)).exp().mean(dim=0)
    assert apart(shares, MIXTURE.weights) < 0.04


@pytest.mark.parametrize("label", range(3))
def test_guided_samples_have_their_components_mean_and_covariance(label: int) -> None:
    x0 = drawn(label, 1.0)
    right = bayes(x0, torch.zeros(2000, dtype=torch.int64)).argmax(dim=1) == label
    assert right.double().mean() > 0.995
    assert apart(x0.mean(dim=0), MIXTURE.means[label]) < 0.015
    assert apart(x0.T.cov(), MIXTURE.covs[label]) < 0.003


def test_beyond_scale_1_samples_crowd_together() -> None:
    assert drawn(0, 3.0).T.cov().trace() < 0.6 * MIXTURE.covs[0].trace()


def test_gradients_flow_through_the_classifier_alone() -> None:
    weight = nn.Parameter(torch.tensor(2.0))
    seen = []

    def eps_model(xt: Tensor, t: Tensor) -> Tensor:
        seen.append(torch.is_grad_enabled())
        return weight * xt

    y = torch.tensor([0, 1])
    guided = classifier_guided_eps_model(eps_model, bayes, y, ALPHA_BARS)
    *_, x0 = sample(guided, normal(2, 2), ALPHA_BARS, steps=3)
    assert seen == [False] * 3
    assert not x0.requires_grad


# --- The classifier -------------------------------------------------------------------------------


def test_the_loss_of_a_classifier_that_knows_nothing_is_log_k() -> None:
    x0, eps, t = normal(4, 1, 4, 4), normal(4, 1, 4, 4, seed=1), torch.tensor([0, 1, 2, 999])
    y = torch.tensor([0, 3, 9, 5])
    loss = classifier_loss(lambda xt, t: torch.zeros(len(xt), 10), x0, t, eps, y, ALPHA_BARS)
    assert loss.item() == pytest.approx(math.log(10))


def test_the_loss_sees_the_noised_image_and_its_t() -> None:
    x0, eps, t = normal(2, 1, 4, 4), normal(2, 1, 4, 4, seed=1), torch.tensor([3, 800])
    seen: list[Tensor] = []

    def classifier(xt: Tensor, told: Tensor) -> Tensor:
        seen.extend([xt, told])
        return torch.zeros(2, 10)

    classifier_loss(classifier, x0, t, eps, torch.tensor([1, 2]), ALPHA_BARS)
    assert torch.equal(seen[0], q_sample(x0, t, eps, ALPHA_BARS))
    assert torch.equal(seen[1], t)


def test_an_untrained_classifier_has_the_shape_of_its_labels() -> None:
    classifier = NoisyClassifier(channels=(8, 16), num_classes=7, size=12)
    assert classifier(torch.zeros(3, 1, 12, 12), torch.tensor([0, 5, 999])).shape == (3, 7)


def test_accuracy_at_counts_right_answers() -> None:
    images, labels = torch.zeros(600, 1, 2, 2), torch.arange(600) % 3
    generator = torch.Generator().manual_seed(0)

    def always_1(xt: Tensor, t: Tensor) -> Tensor:
        assert (t == 7).all()
        return torch.tensor([[0.0, 1.0, 0.0]]).expand(len(xt), 3)

    share = accuracy_at(always_1, images, labels, 7, ALPHA_BARS, generator)
    assert share == pytest.approx(1 / 3)


def test_the_shipped_classifier_reads_noisy_digits() -> None:
    name = "mnist-noisy-classifier"
    classifier = load_weights(NoisyClassifier(**card(name)["config"]), name)
    images, labels = (x[:500] for x in mnist("test"))
    generator = torch.Generator().manual_seed(0)
    clean, half = (
        accuracy_at(classifier, images, labels, t, ALPHA_BARS, generator) for t in (0, 500)
    )
    assert clean > 0.97
    assert half > 0.85


# --- Diversity ------------------------------------------------------------------------------------


def test_diversity_of_a_known_cloud() -> None:
    """Two points of N(0, I) in d dimensions are E χ_d · √2 apart."""
    d = 8
    features = normal(1500, d)
    expected = math.sqrt(2) * stats.chi(d).mean()
    measured = diversity(features, torch.zeros(1500, dtype=torch.int64))
    assert measured == pytest.approx(expected, rel=0.01)


def test_diversity_looks_within_labels_only() -> None:
    features = torch.tensor([[0.0], [1.0], [100.0], [101.0]])
    assert diversity(features, torch.tensor([0, 0, 1, 1])) == 1


def test_diversity_of_no_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="same label"):
        diversity(torch.zeros(3, 2), torch.arange(3))
