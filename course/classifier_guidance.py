"""Lesson 06: the score, Bayes' rule for it, and a classifier that steers the sampler."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course.forward_process import at, q_sample
from course.sampling import EpsModel, normal_like
from course.training import ResidualBlock, timestep_embedding

Classifier = Callable[[Tensor, Tensor], Tensor]

# --- The score -------------------------------------------------------------------------------


def score_from_eps(eps: Tensor, t: Tensor, alpha_bars: Tensor) -> Tensor:
    """The score ∇ log p(x_t) = −ε / √(1 − ᾱ_t) that predicted noise stands for.

    eps: (b, …); t: (b,) int64 in 0…T−1; alpha_bars: (T,) -> (b, …), as eps (Dhariwal & Nichol 2021,
    eq. 11).
    """
    return -eps / torch.sqrt(1 - at(alpha_bars, t, eps))


def eps_from_score(score: Tensor, t: Tensor, alpha_bars: Tensor) -> Tensor:
    """The noise −√(1 − ᾱ_t) ∇ log p(x_t) that a score stands for; shapes as `score_from_eps`."""
    return -torch.sqrt(1 - at(alpha_bars, t, score)) * score


# --- A world where everything is known: a mixture of Gaussians ---------------------------------


class Mixture(NamedTuple):
    """A mixture of k Gaussians in d dimensions; the component that a point is from is its label.

    weights: (k,), adding up to 1; means: (k, d); covs: (k, d, d).
    """

    weights: Tensor
    means: Tensor
    covs: Tensor


def noised(mixture: Mixture, t: Tensor, alpha_bars: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the covariance of each component at each t, after the noise of q(x_t | x_0).

    t: (b,) int64; alpha_bars: (T,) -> means √ᾱ m: (b, k, d), covs ᾱ Σ + (1 − ᾱ) I: (b, k, d, d).
    """
    means, covs = (x.expand(len(t), *x.shape) for x in (mixture.means, mixture.covs))
    identity = torch.eye(means.shape[-1]).to(covs)
    alpha_bar = at(alpha_bars, t, covs)
    return at(alpha_bars, t, means).sqrt() * means, alpha_bar * covs + (1 - alpha_bar) * identity


def component_log_probs(mixture: Mixture, xt: Tensor, t: Tensor, alpha_bars: Tensor) -> Tensor:
    """log p(x_t | y) for every component y. xt: (b, d); t: (b,) -> (b, k)."""
    means, covs = noised(mixture, t, alpha_bars)
    away = xt[:, None] - means
    squared = (away * torch.linalg.solve(covs, away)).sum(dim=-1)
    return -0.5 * (squared + torch.logdet(covs) + xt.shape[1] * math.log(2 * math.pi))


def component_scores(mixture: Mixture, xt: Tensor, t: Tensor, alpha_bars: Tensor) -> Tensor:
    """∇ log p(x_t | y) = −C⁻¹ (x_t − m) for every component y. xt: (b, d); t: (b,) -> (b, k, d)."""
    means, covs = noised(mixture, t, alpha_bars)
    return -torch.linalg.solve(covs, xt[:, None] - means)


def mixture_log_posterior(mixture: Mixture, xt: Tensor, t: Tensor, alpha_bars: Tensor) -> Tensor:
    """log p(y | x_t) for every component y: Bayes' rule, in logarithms so that nothing underflows.

    xt: (b, d); t: (b,) int64; alpha_bars: (T,) -> (b, k); the exponentials of a row add up to 1.
    """
    log_joint = mixture.weights.log() + component_log_probs(mixture, xt, t, alpha_bars)
    return torch.log_softmax(log_joint, dim=1)


def mixture_score(mixture: Mixture, xt: Tensor, t: Tensor, alpha_bars: Tensor) -> Tensor:
    """∇ log p(x_t) of the whole mixture: its components' scores, weighted by p(y | x_t).

    xt: (b, d); t: (b,) int64; alpha_bars: (T,) -> (b, d).
    """
    posterior = mixture_log_posterior(mixture, xt, t, alpha_bars).exp()
    scores = component_scores(mixture, xt, t, alpha_bars)
    return (posterior[:, :, None] * scores).sum(dim=1)


# --- The classifier --------------------------------------------------------------------------


class NoisyClassifier(nn.Module):
    """A classifier of noisy images that is told how noisy they are.

    xt: (b, 1, size, size), size a multiple of 4; t: (b,) -> logits (b, num_classes). Its blocks are
    those of lesson 03; `channels` are the widths at the two resolutions, multiples of 8.
    """

    def __init__(
        self,
        channels: tuple[int, int] = (32, 64),
        emb_dim: int = 64,
        num_classes: int = 10,
        size: int = 28,
    ) -> None:
        super().__init__()
        wide, deep = channels
        self.emb_dim = emb_dim
        self.time_mlp = nn.Sequential(
            nn.Linear(emb_dim, emb_dim), nn.SiLU(), nn.Linear(emb_dim, emb_dim)
        )
        # Each 2 × 2 square of pixels is folded into 4 channels first.
        self.stem = nn.Conv2d(4, wide, 3, padding=1)
        self.block1 = ResidualBlock(wide, wide, emb_dim)
        self.shrink = nn.Conv2d(wide, deep, 3, stride=2, padding=1)
        self.block2 = ResidualBlock(deep, deep, emb_dim)
        self.norm = nn.GroupNorm(8, deep)
        self.classify = nn.Linear(deep * (size // 4) ** 2, num_classes)

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        emb = self.time_mlp(timestep_embedding(t, self.emb_dim))
        h = self.block1(self.stem(F.pixel_unshuffle(xt, 2)), emb)
        h = self.block2(self.shrink(h), emb)
        return self.classify(F.silu(self.norm(h)).flatten(1))


def classifier_loss(
    classifier: Classifier, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor, alpha_bars: Tensor
) -> Tensor:
    """The cross-entropy of the labels, given the *noised* images and how noisy they are.

    x0, eps: (b, c, h, w); t, y: (b,) int64; alpha_bars: (T,) -> a scalar, the mean over the batch.
    """
    xt = q_sample(x0, t, eps, alpha_bars)
    return F.cross_entropy(classifier(xt, t), y)


@torch.no_grad()
def accuracy_at(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    t: int,
    alpha_bars: Tensor,
    generator: torch.Generator,
) -> float:
    """The share of images, noised to step t, whose largest logit is their label's.

    images: (n, c, h, w) in [−1, 1]; labels: (n,) int64; the noise is drawn from `generator`.
    """
    right = 0
    for x0, y in zip(images.split(250), labels.split(250), strict=True):
        now = torch.full_like(y, t)
        xt = q_sample(x0, now, normal_like(x0, generator), alpha_bars)
        right += int((classifier(xt, now).argmax(dim=1) == y).sum())
    return right / len(labels)


# --- The guidance ----------------------------------------------------------------------------


def log_prob_gradient(classifier: Classifier, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """∇ log p(y | x_t) with respect to x_t, for each image on its own.

    classifier: (xt, t) -> logits (b, k); xt: (b, …); t, y: (b,) int64 -> as xt. Works where the
    caller has switched gradients off, leaves xt as it was, and returns no graph.
    """
    with torch.enable_grad():
        x = xt.detach().requires_grad_()
        log_probs = torch.log_softmax(classifier(x, t), dim=1)
        # An image's probability depends on that image alone, so the sum keeps them apart.
        chosen = log_probs.gather(1, y[:, None]).sum()
        return torch.autograd.grad(chosen, x)[0]


def guided_eps(
    eps_hat: Tensor, gradient: Tensor, t: Tensor, alpha_bars: Tensor, guidance_scale: float = 1.0
) -> Tensor:
    """ε̂ − γ √(1 − ᾱ_t) ∇ log p(y | x_t), with γ = `guidance_scale`.

    eps_hat, gradient: (b, …); t: (b,) int64; alpha_bars: (T,) -> (b, …) (Dhariwal & Nichol 2021,
    algorithm 2). γ = 0 ignores the label, γ = 1 is the conditional noise.
    """
    return eps_hat - guidance_scale * torch.sqrt(1 - at(alpha_bars, t, eps_hat)) * gradient


def classifier_guided_eps_model(
    eps_model: EpsModel,
    classifier: Classifier,
    y: Tensor,
    alpha_bars: Tensor,
    guidance_scale: float = 1.0,
) -> EpsModel:
    """The guided noise as the function (xt, t) -> eps_hat that samplers call.

    y: (b,) int64, the label wanted for each image. Gradients flow through the classifier alone.
    """

    def guided(xt: Tensor, t: Tensor) -> Tensor:
        gradient = log_prob_gradient(classifier, xt, t, y)
        return guided_eps(eps_model(xt, t), gradient, t, alpha_bars, guidance_scale)

    return guided


# --- What it costs ---------------------------------------------------------------------------


def diversity(features: Tensor, labels: Tensor) -> float:
    """How unlike each other images of one label are: the mean distance of their features.

    features: (n, d); labels: (n,) int64. The mean of ‖f_i − f_j‖ over all pairs of different images
    with the same label. Raises ValueError where there is no such pair.
    """
    same = labels[:, None] == labels
    same.fill_diagonal_(False)
    if not same.any():
        raise ValueError("No two images have the same label, so there is nothing to compare.")
    return torch.cdist(features.double(), features.double())[same].mean().item()
