"""Lesson 02 against diffusers, simulation and closed forms."""

import math

import pytest
import torch
from diffusers import DDPMScheduler

from course.forward_process import (
    alpha_bars_from_betas,
    at,
    cosine_schedule,
    forward_step,
    linear_schedule,
    q_sample,
    snr,
)

THEIRS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
OURS = {"linear": linear_schedule, "cosine": cosine_schedule}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("T", [10, 100, 1000])
def test_schedules_are_those_of_diffusers(name: str, T: int) -> None:
    scheduler = DDPMScheduler(num_train_timesteps=T, beta_schedule=THEIRS[name])
    torch.testing.assert_close(OURS[name](T), scheduler.betas, rtol=1e-5, atol=1e-7)
    alpha_bars = alpha_bars_from_betas(OURS[name](T))
    torch.testing.assert_close(alpha_bars, scheduler.alphas_cumprod, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", OURS)
def test_q_sample_is_add_noise(name: str) -> None:
    scheduler = DDPMScheduler(beta_schedule=THEIRS[name])
    x0, eps, t = normal(16, 1, 8, 8), normal(16, 1, 8, 8, seed=1), torch.arange(0, 1000, 63)
    alpha_bars = alpha_bars_from_betas(OURS[name]())
    expected = scheduler.add_noise(x0, eps, t)
    torch.testing.assert_close(q_sample(x0, t, eps, alpha_bars), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", OURS)
def test_a_schedule_goes_from_data_to_noise(name: str) -> None:
    alpha_bars = alpha_bars_from_betas(OURS[name]())
    assert (alpha_bars.diff() < 0).all()
    assert alpha_bars[0] > 0.999
    assert alpha_bars[-1] < 1e-4
    assert alpha_bars[-1] > 0


def test_the_cosine_curve_is_the_papers_until_it_is_clipped() -> None:
    u = (torch.arange(999, dtype=torch.float64) + 1) / 1000
    f = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    f0 = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    alpha_bars = alpha_bars_from_betas(cosine_schedule().double())[:-1]
    torch.testing.assert_close(alpha_bars, f / f0, rtol=1e-3, atol=1e-6)
    assert cosine_schedule()[-1] == pytest.approx(0.999)


def test_walking_and_jumping_have_the_same_moments() -> None:
    betas = torch.linspace(0.01, 0.2, 12)
    alpha_bars = alpha_bars_from_betas(betas)
    x0 = torch.tensor([-1.0, 0.3, 2.0]).reshape(1, 1, 1, 3)
    x = x0.expand(40_000, 1, 1, 3)
    for step in range(12):
        t = torch.full((len(x),), step)
        x = forward_step(x, t, normal(*x.shape, seed=step), betas)
    mean, std = x.mean(dim=0).flatten(), x.std(dim=0).flatten()
    torch.testing.assert_close(mean, alpha_bars[-1].sqrt() * x0.flatten(), rtol=0, atol=0.02)
    torch.testing.assert_close(std, (1 - alpha_bars[-1]).sqrt().expand(3), rtol=0, atol=0.02)


def test_two_steps_compose_exactly() -> None:
    """The mean's factor and the variance of two steps, read off with no noise and unit noise."""
    betas = torch.tensor([0.1, 0.3], dtype=torch.float64)
    one, zero = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1).double()
    first, second = torch.tensor([0]), torch.tensor([1])
    mean = forward_step(forward_step(one, first, zero, betas), second, zero, betas)
    from_first = forward_step(forward_step(zero, first, one, betas), second, zero, betas)
    from_second = forward_step(zero, second, one, betas)
    alpha_bar = alpha_bars_from_betas(betas)[1]
    torch.testing.assert_close(mean.squeeze(), alpha_bar.sqrt())
    torch.testing.assert_close((from_first**2 + from_second**2).squeeze(), 1 - alpha_bar)


def test_snr_is_a_ratio_of_measured_variances() -> None:
    alpha_bars = alpha_bars_from_betas(linear_schedule())
    t = torch.full((200_000,), 300)
    signal = q_sample(normal(200_000, 1), t, torch.zeros(200_000, 1), alpha_bars)
    noise = q_sample(torch.zeros(200_000, 1), t, normal(200_000, 1, seed=1), alpha_bars)
    measured = (signal.var() / noise.var()).item()
    assert measured == pytest.approx(snr(alpha_bars)[300].item(), rel=0.02)


def test_at_shapes_for_any_number_of_axes() -> None:
    values, t = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2, 0])
    assert at(values, t, torch.zeros(2, 1, 4, 4)).shape == (2, 1, 1, 1)
    assert at(values, t, torch.zeros(2)).tolist() == [3.0, 1.0]
    assert at(values, t, torch.zeros(2, 3, dtype=torch.float64)).dtype == torch.float64


def test_a_step_number_is_an_integer() -> None:
    with pytest.raises(TypeError, match="int64"):
        at(torch.ones(5), torch.tensor([1.0]), torch.zeros(1))


def test_there_is_one_t_per_image() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        at(torch.ones(5), torch.tensor([1]), torch.zeros(3, 1, 2, 2))


@pytest.mark.parametrize("t", [-1, 5])
def test_t_lies_in_the_schedule(t: int) -> None:
    with pytest.raises(ValueError, match=r"0…4"):
        q_sample(torch.zeros(1, 1), torch.tensor([t]), torch.zeros(1, 1), torch.full((5,), 0.5))


@pytest.mark.parametrize("beta", [-0.1, 0.0, 1.0, 1.5])
def test_a_beta_out_of_range_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match="strictly between"):
        alpha_bars_from_betas(torch.tensor([0.1, beta]))
