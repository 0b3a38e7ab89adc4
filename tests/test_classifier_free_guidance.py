"""Lesson 07's formulas: the two conventions, label dropout, and one call for both noises."""

import pytest
import torch

from course.classifier_free_guidance import (
    ConditionalUNet,
    cfg_eps_model,
    drop_labels,
    guide,
    scale_from_w,
)
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.sampling import to_eps

ALPHA_BARS = alpha_bars_from_betas(cosine_schedule())


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("w", [-1.0, 0.0, 0.5, 3.0])
def test_the_papers_w_gives_the_same_noise(w: float) -> None:
    cond, uncond = normal(2, 1, 4, 4), normal(2, 1, 4, 4, seed=1)
    expected = (1 + w) * cond - w * uncond
    torch.testing.assert_close(guide(cond, uncond, scale_from_w(w)), expected)


def test_scale_0_ignores_the_label_and_scale_1_is_the_conditional_noise() -> None:
    cond, uncond = normal(2, 1, 4, 4), normal(2, 1, 4, 4, seed=1)
    assert torch.equal(guide(cond, uncond, 0.0), uncond)
    assert torch.equal(guide(cond, uncond, 1.0), cond)


def test_the_share_of_dropped_labels() -> None:
    y = torch.arange(100_000) % 10
    u = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    dropped = drop_labels(y, u, 0.1, null=10)
    assert (dropped == 10).float().mean().item() == pytest.approx(0.1, abs=0.005)
    assert torch.equal(dropped[dropped != 10], y[dropped != 10])


def test_one_batched_call_is_the_two_calls() -> None:
    torch.manual_seed(0)
    network = ConditionalUNet(channels=(8, 16), emb_dim=16)
    for parameter in network.parameters():  # Untrained, it would not listen to the label.
        torch.nn.init.normal_(parameter, std=0.3)
    xt, t, y = normal(3, 1, 28, 28), torch.tensor([5, 300, 900]), torch.tensor([1, 0, 9])
    with torch.no_grad():
        got = cfg_eps_model(network, y, 10, ALPHA_BARS, 2.5)(xt, t)
        cond, uncond = (
            to_eps(network(xt, t, labels), xt, t, ALPHA_BARS, "v")
            for labels in (y, torch.full_like(y, 10))
        )
    assert not torch.allclose(cond, uncond, atol=1e-3)
    torch.testing.assert_close(got, 2.5 * cond - 1.5 * uncond, rtol=1e-4, atol=1e-4)
