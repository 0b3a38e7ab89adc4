"""Lesson 07's formulas, beside lesson 06's, diffusers' and mixtures whose scores are known."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from course.classifier_free_guidance import (
    GUIDANCE_SCALE,
    ConditionalUNet,
    cfg_eps_model,
    cfg_loss,
    drop_labels,
    guidance_scale_from,
    guide,
    implicit_gradient,
    scale_from_w,
)
from course.classifier_guidance import (
    Mixture,
    component_scores,
    eps_from_score,
    guided_eps,
    mixture_log_posterior,
    mixture_score,
)
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.metrics import accuracy, load_judge
from course.sampling import Kind, sample, to_eps
from course.weights import card, load_weights

ALPHA_BARS = alpha_bars_from_betas(cosine_schedule())


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def two_noises() -> tuple[Tensor, Tensor]:
    return normal(2, 1, 4, 4), normal(2, 1, 4, 4, seed=1)


def random_network() -> ConditionalUNet:
    """A small network with weights drawn at random: untrained, it would not listen to the label."""
    torch.manual_seed(0)
    network = ConditionalUNet(channels=(8, 16), emb_dim=16)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


# --- Conventions ------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [-1.0, 0.0, 0.5, 3.0])
def test_the_papers_w_gives_the_same_noise(w: float) -> None:
    cond, uncond = two_noises()
    expected = (1 + w) * cond - w * uncond
    torch.testing.assert_close(guide(cond, uncond, scale_from_w(w)), expected)
    torch.testing.assert_close(guide(cond, uncond, guidance_scale_from(w, "ho_salimans")), expected)


def test_scale_0_ignores_the_label_and_scale_1_is_the_conditional_noise() -> None:
    cond, uncond = two_noises()
    assert torch.equal(guide(cond, uncond, 0.0), uncond)
    assert torch.equal(guide(cond, uncond, 1.0), cond)


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 7.5])
def test_the_guiders_of_diffusers_in_both_their_formulations(scale: float) -> None:
    guiders = pytest.importorskip("diffusers.guiders")
    cond, uncond = two_noises()
    theirs = guiders.ClassifierFreeGuidance(guidance_scale=scale)
    torch.testing.assert_close(guide(cond, uncond, scale), theirs.forward(cond, uncond).pred)
    paper = guiders.ClassifierFreeGuidance(guidance_scale=scale, use_original_formulation=True)
    ours = guide(cond, uncond, guidance_scale_from(scale, "ho_salimans"))
    torch.testing.assert_close(ours, paper.forward(cond, uncond).pred)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.9, 1.0, 1.1, 7.5])
def test_diffusers_pipelines_guide_above_1_alone(scale: float) -> None:
    from diffusers import StableDiffusionPipeline

    config = SimpleNamespace(time_cond_proj_dim=None)
    pipeline = SimpleNamespace(_guidance_scale=scale, unet=SimpleNamespace(config=config))
    guides = StableDiffusionPipeline.do_classifier_free_guidance.fget(pipeline)
    assert guidance_scale_from(scale, "diffusers") == (scale if guides else 1.0)


@pytest.mark.parametrize("convention", ["gamma", "W", ""])
def test_an_unknown_convention(convention: str) -> None:
    with pytest.raises(ValueError, match=f'"slides", .*"diffusers", not {convention!r}'):
        guidance_scale_from(2.0, convention)  # type: ignore[arg-type]


# --- From classifier guidance -----------------------------------------------------------------

THREE = Mixture(
    weights=torch.tensor([0.5, 0.3, 0.2]).double(),
    means=torch.tensor([[0.0, 0.6], [-0.5, -0.3], [0.4, -0.4]]).double(),
    covs=torch.stack([torch.eye(2), torch.tensor([[1.0, 0.4], [0.4, 0.5]]), torch.eye(2) / 3])
    .double()
    .mul(0.2),
)


def mixture_noises(xt: Tensor, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The exact noises with and without the label, for the mixture THREE."""
    scores = component_scores(THREE, xt, t, ALPHA_BARS)[torch.arange(len(y)), y]
    plain = mixture_score(THREE, xt, t, ALPHA_BARS)
    return eps_from_score(scores, t, ALPHA_BARS), eps_from_score(plain, t, ALPHA_BARS)


def test_the_implicit_gradient_is_that_of_the_exact_classifier() -> None:
    xt, t, y = normal(6, 2).double(), torch.arange(6) * 150 + 10, torch.arange(6) % 3
    x = xt.clone().requires_grad_()
    chosen = mixture_log_posterior(THREE, x, t, ALPHA_BARS)[torch.arange(6), y].sum()
    (expected,) = torch.autograd.grad(chosen, x)
    ours = implicit_gradient(*mixture_noises(xt, t, y), t, ALPHA_BARS)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
def test_it_is_lesson_06_with_the_implicit_classifier(scale: float) -> None:
    cond, uncond = two_noises()
    t = torch.tensor([50, 700])
    gradient = implicit_gradient(cond, uncond, t, ALPHA_BARS)
    expected = guided_eps(uncond, gradient, t, ALPHA_BARS, scale)
    torch.testing.assert_close(guide(cond, uncond, scale), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["v", "x0"])
def test_whatever_is_predicted_may_be_guided(kind: Kind) -> None:
    """The conversion is affine, and the weights of the two add up to 1."""
    cond, uncond = two_noises()
    xt, t = normal(2, 1, 4, 4, seed=2), torch.tensor([100, 800])
    before = to_eps(guide(cond, uncond, 3.0), xt, t, ALPHA_BARS, kind)
    noises = [to_eps(out, xt, t, ALPHA_BARS, kind) for out in (cond, uncond)]
    after = guide(noises[0], noises[1], 3.0)
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-5)


def diffused_score(log_density: Tensor, x: Tensor, alpha_bar: float) -> Tensor:
    """The score of a density on a grid after noise was added: by summing over the grid."""
    away = x[:, None] - alpha_bar**0.5 * x
    log_joint = log_density - away**2 / (2 * (1 - alpha_bar))
    return (torch.softmax(log_joint, dim=1) * -away).sum(dim=1) / (1 - alpha_bar)


@pytest.mark.parametrize(("scale", "exact"), [(1.0, True), (3.0, False)])
def test_above_1_no_density_is_diffused_to_the_guided_scores(scale: float, exact: bool) -> None:
    """Guided scores at t are not those of p(x) p(y|x)^γ with noise added, except for γ ≤ 1."""
    humps = Mixture(
        torch.tensor([0.5, 0.5]).double(),
        torch.tensor([[-0.4], [0.4]]).double(),
        torch.full((2, 1, 1), 0.09).double(),
    )
    x, schedule = torch.linspace(-4, 4, 1601, dtype=torch.float64), ALPHA_BARS.double()
    clean = torch.ones(1, dtype=torch.float64)  # ᾱ = 1: no noise yet
    zero = torch.zeros(len(x), dtype=torch.int64)
    labelled = mixture_log_posterior(humps, x[:, None], zero, clean)[:, 1]
    plain = torch.logsumexp(-((x[:, None] - humps.means[:, 0]) ** 2) / 0.18, dim=1)
    t = 500
    wanted = diffused_score(plain + scale * labelled, x, schedule[t].item())

    now = zero + t
    cond = component_scores(humps, x[:, None], now, schedule)[:, 1, 0]
    guided = scale * cond + (1 - scale) * mixture_score(humps, x[:, None], now, schedule)[:, 0]
    off = (guided - wanted)[x.abs() < 1].abs().max().item()
    assert off < 1e-6 if exact else off > 0.1


# --- Labels and training ----------------------------------------------------------------------


def test_the_share_of_dropped_labels() -> None:
    y = torch.arange(100_000) % 10
    u = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    dropped = drop_labels(y, u, 0.1, null=10)
    assert (dropped == 10).float().mean().item() == pytest.approx(0.1, abs=0.005)
    assert torch.equal(dropped[dropped != 10], y[dropped != 10])


def test_the_null_label_is_no_class() -> None:
    network, image = random_network(), normal(1, 1, 28, 28).expand(11, -1, -1, -1)
    with torch.no_grad():
        out = network(image, torch.full((11,), 400), torch.arange(11))
    apart = torch.cdist(out.flatten(1), out.flatten(1)) + 100 * torch.eye(11)
    assert network.null == 10
    assert apart.min() > 0.1
    with pytest.raises(IndexError):
        network(image[:1], torch.tensor([400]), torch.tensor([11]))


class Table(nn.Module):
    """A network that knows nothing but the label: one number for each."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = nn.Embedding(3, 1)

    def forward(self, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.answers(y)[:, :, None, None].expand_as(xt)


def test_dropped_labels_teach_the_mean_over_all_classes() -> None:
    """Class 0 is −1 and class 1, three times as frequent, 1: without a label, half of 1."""
    network, n = Table(), 10_000
    y = (torch.arange(n) % 4 > 0).long()
    x0 = (2.0 * y - 1).reshape(-1, 1, 1, 1)
    t, eps = torch.full((n,), 999), normal(n, 1, 1, 1)
    u = torch.rand(n, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    for _ in range(100):
        optimizer.zero_grad()
        cfg_loss(network, x0, t, eps, y, u, ALPHA_BARS, null=2, drop=0.2).backward()
        optimizer.step()
    # At the last t, v is −x_0.
    learned = -network.answers.weight.detach().flatten()
    torch.testing.assert_close(learned, torch.tensor([-1.0, 1.0, 0.5]), rtol=0, atol=0.06)


# --- Sampling ---------------------------------------------------------------------------------


def test_one_batched_call_is_the_two_calls() -> None:
    network = random_network()
    xt, t, y = normal(3, 1, 28, 28), torch.tensor([5, 300, 900]), torch.tensor([1, 0, 9])
    with torch.no_grad():
        got = cfg_eps_model(network, y, 10, ALPHA_BARS, 2.5)(xt, t)
        cond, uncond = (
            to_eps(network(xt, t, labels), xt, t, ALPHA_BARS, "v")
            for labels in (y, torch.full_like(y, 10))
        )
    assert not torch.allclose(cond, uncond, atol=1e-3)
    torch.testing.assert_close(got, 2.5 * cond - 1.5 * uncond, rtol=1e-4, atol=1e-4)


def test_the_exact_guided_walk_of_a_mixture_ends_at_its_label() -> None:
    def network(xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
        cond, uncond = mixture_noises(xt, t, y.clamp(max=2))
        return torch.where((y == 3)[:, None], uncond, cond)

    y = torch.arange(600) % 3
    found = {}
    for scale in (1.0, 3.0):
        eps_model = cfg_eps_model(network, y, 3, ALPHA_BARS, scale, kind="eps")
        *_, x0 = sample(eps_model, normal(600, 2).double(), ALPHA_BARS, steps=50, clip=False)
        clean = torch.ones(1, dtype=torch.float64)
        log_posterior = mixture_log_posterior(THREE, x0, torch.zeros_like(y), clean)
        found[scale] = (log_posterior.argmax(dim=1) == y).double().mean().item()
    assert found[1.0] < 0.93 < 0.99 < found[3.0]


def test_the_shipped_weights_draw_what_they_are_asked_for() -> None:
    network = load_weights(ConditionalUNet(**card("mnist-cfg")["config"]), "mnist-cfg")
    y = torch.arange(20) % 10
    eps_model = cfg_eps_model(network, y, network.null, ALPHA_BARS, GUIDANCE_SCALE)
    *_, x0 = sample(eps_model, normal(20, 1, 28, 28), ALPHA_BARS, steps=10)
    assert accuracy(load_judge(), x0, y) >= 0.9
