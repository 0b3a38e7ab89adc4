"""Lesson 13 against closed forms, scipy, diffusers, the continuity equation, and lesson 04."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor

from course.flow_matching import (
    Velocity,
    as_velocity,
    eps_as_flow,
    euler_step,
    flow_as_eps,
    flow_loss,
    flow_sample,
    flow_to_eps,
    heun_step,
    logit_normal,
    matched_alpha_bars,
    matched_times,
    mixture_velocity,
    path_scale,
    per_image,
    predict_both,
    straight_path,
)
from course.forward_process import alpha_bars_from_betas, cosine_schedule, linear_schedule, q_sample
from course.recipes import recipe
from course.sampling import as_eps_model, ddim_step, sample
from course.training import UNet, v_loss, v_target

MEANS = torch.tensor([[-0.6], [0.4]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
STD = 0.15
COSINE = alpha_bars_from_betas(cosine_schedule().double())


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def full(value: float, b: int) -> Tensor:
    return torch.full((b,), value, dtype=torch.float64)


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def last(walk: Any) -> Tensor:
    *_, x0 = walk
    return x0


def mixture(x: Tensor, t: Tensor) -> Tensor:
    return mixture_velocity(x, t, MEANS, WEIGHTS, STD)


def gaussian(mean: float, std: float) -> Velocity:
    """The exact velocity of one normal distribution: a linear function of x."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        s = per_image(t, x)
        var = (1 - s) ** 2 * std**2 + s**2
        return (s - (1 - s) * std**2) / var * (x - (1 - s) * mean) - mean

    return velocity


def gaussian_flow(x1: Tensor, t: float, mean: float, std: float) -> Tensor:
    """Where the ODE takes x1 by time t: it keeps how many standard deviations from the mean."""
    return (1 - t) * mean + math.sqrt((1 - t) ** 2 * std**2 + t**2) * x1


def density(x: Tensor, t: float) -> Tensor:
    """The mixture's density at time t. x: (n,)."""
    spread = math.sqrt((1 - t) ** 2 * STD**2 + t**2)
    humps = torch.exp(-(((x[:, None] - (1 - t) * MEANS[:, 0]) / spread) ** 2) / 2)
    return (WEIGHTS * humps).sum(dim=1) / (spread * math.sqrt(2 * math.pi))


def field(x: Tensor, t: float) -> Tensor:
    """The mixture's velocity at time t. x: (n,)."""
    return mixture(x[:, None], full(t, len(x)))[:, 0]


# --- The path and its velocity --------------------------------------------------------------------


def test_the_path_begins_at_the_data_and_ends_at_the_noise() -> None:
    x0, eps = normal(3, 1, 4, 4), normal(3, 1, 4, 4, seed=1)
    assert torch.equal(straight_path(x0, full(0, 3), eps), x0)
    assert torch.equal(straight_path(x0, full(1, 3), eps), eps)


def test_the_target_is_the_derivative_of_the_path() -> None:
    x0, eps, t = normal(5, 3), normal(5, 3, seed=1), torch.rand(5, dtype=torch.float64) * 0.9
    slope = (straight_path(x0, t + 1e-4, eps) - straight_path(x0, t, eps)) / 1e-4
    # Of the velocity u = slope the loss is zero, and of u + 1 it is one.
    assert float(flow_loss(lambda xt, t: slope, x0, t, eps)) < 1e-12
    assert float(flow_loss(lambda xt, t: slope + 1, x0, t, eps)) == pytest.approx(1)


@pytest.mark.parametrize("std", [0.05, 0.5, 1.0, 2.0])
def test_one_normal_is_the_linear_field(std: float) -> None:
    x, t = normal(200, 1), torch.linspace(0, 1, 200, dtype=torch.float64)
    mean = torch.tensor([[0.3]], dtype=torch.float64)
    ours = mixture_velocity(x, t, mean, torch.ones(1, dtype=torch.float64), std)
    assert apart(ours, gaussian(0.3, std)(x, t)) < 1e-10


@pytest.mark.parametrize("t", [0.2, 0.5, 0.9])
def test_the_velocity_is_the_mean_over_the_pairs_that_pass(t: float) -> None:
    """Brute force: among a million pairs, the mean of ε − x_0 over those near x at time t."""
    n = 1_000_000
    which = torch.rand(n, generator=torch.Generator().manual_seed(1)) < 0.3
    x0 = torch.where(which, -0.6, 0.4).double() + STD * normal(n, seed=2)
    eps = normal(n, seed=3)
    xt = straight_path(x0[:, None], full(t, n), eps[:, None])[:, 0]
    for x in (-0.5, 0.0, 0.3):
        near = (xt - x).abs() < 0.02
        mean = float((eps - x0)[near].mean())
        assert float(field(torch.tensor([x]).double(), t)) == pytest.approx(mean, abs=0.03)


@pytest.mark.parametrize("t", [0.05, 0.3, 0.6, 0.95])
def test_the_velocity_carries_the_density(t: float) -> None:
    """∂p/∂t + ∂(p u)/∂x = 0, by central differences."""
    x, h = torch.linspace(-2.5, 2.5, 501, dtype=torch.float64), 1e-4
    grows = (density(x, t + h) - density(x, t - h)) / (2 * h)
    flux = [density(x + d, t) * field(x + d, t) for d in (h, -h)]
    flows_out = (flux[0] - flux[1]) / (2 * h)
    assert apart(grows, -flows_out) < 1e-4
    assert float(grows.abs().max()) > 0.1


def test_the_mixture_in_the_plane_is_its_axes() -> None:
    """Normals on a grid of two axes: each coordinate moves as its own mixture does."""
    corners = torch.cartesian_prod(MEANS[:, 0], MEANS[:, 0])
    weights = torch.outer(WEIGHTS, WEIGHTS).flatten()
    x, t = normal(50, 2), torch.rand(50, dtype=torch.float64)
    both = mixture_velocity(x, t, corners, weights, STD)
    assert apart(both, torch.cat([mixture(x[:, i : i + 1], t) for i in (0, 1)], dim=1)) < 1e-9


def test_both_losses_have_the_same_gradient() -> None:
    """The theorem: against ε − x_0 or against its mean, in expectation the same gradient."""
    n = 400_000
    which = torch.rand(n, generator=torch.Generator().manual_seed(1)) < 0.3
    x0 = (torch.where(which, -0.6, 0.4).double() + STD * normal(n, seed=2))[:, None]
    eps, t = (
        normal(n, 1, seed=3),
        torch.rand(n, generator=torch.Generator().manual_seed(4)).double(),
    )
    xt = straight_path(x0, t, eps)

    def gradient(target: Tensor) -> Tensor:
        a = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64, requires_grad=True)
        u = a[0] * xt + a[1] * torch.cos(2 * xt) + a[2] * t[:, None]
        (slope,) = torch.autograd.grad((u - target).square().mean(), a)
        return slope

    marginal = gradient(mixture(xt, t))
    assert apart(gradient(eps - x0), marginal) < 0.01
    assert float(marginal.abs().min()) > 0.05


# --- Walking --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_the_walk_comes_to_the_exact_map_with_its_order(method: Any, order: int) -> None:
    x1, velocity = normal(101, 1), gaussian(0.3, 0.4)
    exact = gaussian_flow(x1, 0, 0.3, 0.4)

    def error(steps: int) -> float:
        return apart(last(flow_sample(velocity, x1, steps=steps, method=method)), exact)

    assert error(200) < 0.02
    assert error(400) / error(200) == pytest.approx(0.5**order, rel=0.1)


@pytest.mark.parametrize(("step", "order"), [(euler_step, 1), (heun_step, 2)])
def test_one_step_is_right_to_its_order(step: Any, order: int) -> None:
    x, velocity = normal(50, 1), gaussian(0.3, 0.4)
    spread = [math.sqrt((1 - t) ** 2 * 0.16 + t**2) for t in (0.5, 0.4, 0.45)]

    def error(s: float, to: float) -> float:
        exact = (1 - s) * 0.3 + to / spread[0] * (x - 0.5 * 0.3)
        return apart(step(velocity, x, full(0.5, 50), full(s, 50)), exact)

    # The error of one step falls with one power more than that of a walk.
    ratio = error(0.45, spread[2]) / error(0.4, spread[1])
    assert ratio == pytest.approx(0.5 ** (order + 1), rel=0.15)


def test_the_walk_is_scipys_solution_of_the_ode() -> None:
    x1 = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]

    def slope(t: float, x: Any) -> Any:
        return mixture(torch.from_numpy(x)[:, None], full(t, len(x)))[:, 0].numpy()

    solved = integrate.solve_ivp(slope, (1, 0), x1[:, 0].numpy(), rtol=1e-8, atol=1e-8)
    ours = last(flow_sample(mixture, x1, steps=800, method="heun"))
    assert np.abs(ours[:, 0].numpy() - solved.y[:, -1]).max() < 1e-4


@pytest.mark.parametrize("method", ["euler", "heun"])
def test_the_mixture_comes_out_as_it_is(method: Any) -> None:
    n = 4_000
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    x0 = last(flow_sample(mixture, torch.special.ndtri(u)[:, None], steps=200, method=method))
    parts = [round(n * w) for w in WEIGHTS.tolist()]
    truth = [
        m + STD * torch.special.ndtri((torch.arange(c, dtype=torch.float64) + 0.5) / c)
        for m, c in zip(MEANS[:, 0].tolist(), parts, strict=True)
    ]
    assert stats.wasserstein_distance(x0[:, 0], torch.cat(truth)) < 0.01


@pytest.mark.parametrize(("method", "calls"), [("euler", 7), ("heun", 13)])
def test_network_calls_are_counted_as_promised(method: Any, calls: int) -> None:
    told: list[Tensor] = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        told.append(t)
        return x / 2

    walk = list(flow_sample(velocity, normal(2, 3), steps=7, method=method))
    assert (len(walk), len(told)) == (7, calls)
    assert all(t.shape == (2,) and t.is_floating_point() for t in told)
    assert float(told[0][0]) == 1
    # The network is never asked at t = 0, where there is no noise to see.
    assert min(float(t.min()) for t in told) == pytest.approx(1 / 7)


def test_the_sampler_is_lazy_and_leaves_its_input_alone() -> None:
    asked: list[Tensor] = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        asked.append(t)
        return torch.ones_like(x, requires_grad=True)

    x1 = normal(2, 1, 3, 3, dtype=torch.float32)
    before = x1.clone()
    walk = flow_sample(velocity, x1, steps=5)
    assert asked == []
    first = next(walk)
    assert len(asked) == 1
    assert (first.dtype, first.requires_grad) == (torch.float32, False)
    list(walk)
    assert torch.equal(x1, before)


def test_fifty_steps_of_euler_are_the_default() -> None:
    x1 = normal(4, 1)
    default = list(flow_sample(mixture, x1))
    chosen = list(flow_sample(mixture, x1, steps=50, method="euler", start=1.0))
    assert len(default) == 50
    assert all(torch.equal(a, b) for a, b in zip(default, chosen, strict=True))


def test_a_walk_from_the_middle_is_the_rest_of_a_whole_one() -> None:
    whole = list(flow_sample(mixture, normal(6, 1), steps=10, method="heun"))
    rest = list(flow_sample(mixture, whole[3], steps=6, method="heun", start=0.6))
    assert all(apart(a, b) < 1e-9 for a, b in zip(whole[4:], rest, strict=True))


def test_there_and_back() -> None:
    """Steps towards the noise undo steps towards the data."""
    x0 = MEANS.repeat(10, 1) + STD * normal(20, 1)
    x, times = x0, torch.linspace(0, 1, 401, dtype=torch.float64)
    for t, s in pairwise(times):
        x = heun_step(mixture, x, t.expand(20), s.expand(20))
    assert apart(last(flow_sample(mixture, x, steps=400, method="heun")), x0) < 1e-3


# --- Against diffusers ----------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 10, 50])
def test_euler_is_diffusers_step_for_step(steps: int) -> None:
    scheduler: Any = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)
    # Its own default stops the sigmas at 1/1000; these are the sampler's times.
    scheduler.set_timesteps(sigmas=np.linspace(1, 0, steps + 1)[:-1])
    assert scheduler.sigmas.numpy() == pytest.approx(np.linspace(1, 0, steps + 1), abs=1e-6)
    x = x1 = normal(2, 1, 4, 4, dtype=torch.float32)

    def network(x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(3 * x) + t.reshape(-1, 1, 1, 1) / 1000

    walk = flow_sample(as_velocity(network), x1, steps=steps)
    for t, ours in zip(scheduler.timesteps, walk, strict=True):
        x = scheduler.step(network(x, t.expand(2)), t, x).prev_sample
        assert apart(ours, x) < 1e-5


def test_the_path_is_diffusers() -> None:
    scheduler: Any = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    x0, eps = (
        normal(3, 1, 4, 4, dtype=torch.float32),
        normal(3, 1, 4, 4, seed=1, dtype=torch.float32),
    )
    picks = torch.tensor([0, 499, 998])
    theirs = scheduler.scale_noise(x0, scheduler.timesteps[picks], eps)
    assert apart(straight_path(x0, scheduler.sigmas[picks], eps), theirs) < 1e-6


def test_logit_normal_has_its_law() -> None:
    many = logit_normal(20_000, 0.4, 1.3, torch.Generator().manual_seed(6)).double()
    assert stats.kstest(torch.logit(many).numpy(), "norm", (0.4, 1.3)).pvalue > 0.01
    plain = logit_normal(20_000, generator=torch.Generator().manual_seed(6)).double()
    assert stats.kstest(torch.logit(plain).numpy(), "norm").pvalue > 0.01


# --- The same thing as a diffusion ----------------------------------------------------------------


def test_the_true_velocity_gives_data_and_noise_back() -> None:
    x0, eps, t = normal(6, 1, 2, 2), normal(6, 1, 2, 2, seed=1), torch.linspace(0, 1, 6).double()
    x0_hat, eps_hat = predict_both(straight_path(x0, t, eps), t, eps - x0)
    assert apart(x0_hat, x0) < 1e-12
    assert apart(eps_hat, eps) < 1e-12


@given(st.floats(0, 1))
def test_matched_times_and_alpha_bars_are_inverse(t: float) -> None:
    time = torch.tensor([t], dtype=torch.float64)
    assert float(matched_times(matched_alpha_bars(time))) == pytest.approx(t, abs=1e-7)


@pytest.mark.parametrize("alpha_bars", [COSINE, alpha_bars_from_betas(linear_schedule().double())])
def test_a_rescaled_state_is_a_diffusions(alpha_bars: Tensor) -> None:
    x0, eps, step = normal(5, 2), normal(5, 2, seed=1), torch.tensor([0, 100, 500, 900, 999])
    t = matched_times(alpha_bars)[step]
    xt = straight_path(x0, t, eps) / per_image(path_scale(t), x0)
    assert apart(xt, q_sample(x0, step, eps, alpha_bars)) < 1e-12
    assert apart(matched_alpha_bars(t), alpha_bars[step]) < 1e-12


@pytest.mark.parametrize("steps", [2, 7, 40])
def test_euler_on_the_straight_path_is_ddim(steps: int) -> None:
    """Step for step, for any velocity: DDIM's states are the flow's, divided by c."""
    times = torch.linspace(0.999, 0.001, steps + 1, dtype=torch.float64)
    alpha_bars = matched_alpha_bars(times.flip(0))

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(3 * x) + per_image(t, x)

    eps_model = flow_as_eps(velocity, alpha_bars)
    flow = normal(8, 2)
    vp = flow / path_scale(times[0])
    for k, (t, s) in enumerate(pairwise(times)):
        flow = euler_step(velocity, flow, t.expand(8), s.expand(8))
        step = torch.full((8,), steps - k)
        vp = ddim_step(vp, step, eps_model(vp, step), alpha_bars, clip=False)
        assert apart(flow / path_scale(s), vp) < 1e-9


def test_a_flow_drives_lesson_04s_sampler() -> None:
    """The one sampler of the course, with a flow in it, draws the mixture."""
    n = 2_000
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    x = torch.special.ndtri(u)[:, None]
    x0 = last(sample(flow_as_eps(mixture, COSINE), x, COSINE, steps=250, clip=False))
    assert (
        stats.wasserstein_distance(x0[:, 0], last(flow_sample(mixture, x, steps=250))[:, 0]) < 0.01
    )
    assert float((x0 < -0.1).double().mean()) == pytest.approx(0.3, abs=0.01)


def test_there_and_back_between_the_two_kinds() -> None:
    velocity = eps_as_flow(flow_as_eps(mixture, COSINE), COSINE)
    picks = torch.tensor([0, 1, 300, 700, 998])
    x, t = normal(5, 1), matched_times(COSINE)[picks]
    assert apart(velocity(x, t), mixture(x, t)) < 1e-6
    between = torch.linspace(0.05, 0.95, 5).double()
    assert apart(velocity(x, between), mixture(x, between)) < 0.1


def test_velocity_and_v() -> None:
    """u = (v + (2t − 1) x)/c, for a diffusion's state x."""
    x0, eps, step = normal(5, 2), normal(5, 2, seed=1), torch.tensor([0, 100, 500, 900, 999])
    t = per_image(matched_times(COSINE)[step], x0)
    v, x = v_target(x0, step, eps, COSINE), q_sample(x0, step, eps, COSINE)
    assert apart((v + (2 * t - 1) * x) / path_scale(t), eps - x0) < 1e-12


def test_the_flow_loss_is_the_v_loss_of_the_cosine_schedule() -> None:
    """∫ dt of the squared error of u is ∫ dφ of that of v, where φ is the cosine's angle.

    Gauss's rule in each variable, for one network seen as either kind.
    """
    nodes, weights = np.polynomial.legendre.leggauss(60)
    x0, eps = normal(40, 2), normal(40, 2, seed=1)

    def v_hat(x: Tensor, alpha_bar: float) -> Tensor:
        return torch.tanh(x + 3 * alpha_bar)

    def u_error(t: float) -> float:
        c, alpha_bar = path_scale(full(t, 1)), float(matched_alpha_bars(full(t, 1)))

        def velocity(xt: Tensor, now: Tensor) -> Tensor:
            return (v_hat(xt / c, alpha_bar) + (2 * t - 1) * xt / c) / c

        return float(flow_loss(velocity, x0, full(t, 40), eps))

    def v_error(angle: float) -> float:
        alpha_bar = math.cos(angle) ** 2
        step = torch.zeros(40, dtype=torch.int64)
        return float(v_loss(lambda x, _: v_hat(x, alpha_bar), x0, step, eps, full(alpha_bar, 1)))

    quarter = math.pi / 2
    over_t = sum(w / 2 * u_error((z + 1) / 2) for z, w in zip(nodes, weights, strict=True))
    over_angle = sum(
        w * quarter / 2 * v_error((z + 1) / 2 * quarter)
        for z, w in zip(nodes, weights, strict=True)
    )
    assert over_t == pytest.approx(over_angle, rel=1e-6)
    assert over_t > 0.5


# --- The network and its recipe -------------------------------------------------------------------


def test_the_network_is_told_a_thousand_t() -> None:
    told = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        told.append(t.tolist())
        return x

    x, t = normal(3, 1), torch.tensor([0.0, 0.25, 1.0])
    as_velocity(network)(x, t)
    as_velocity(network, T=10)(x, t)
    assert told == [[0, 250, 1000], [0, 2.5, 10]]


def test_the_unet_tells_the_ends_of_a_unit_clock_apart_only_with_its_scale() -> None:
    torch.manual_seed(0)
    network = UNet(channels=(8, 8))
    ends = network.embed(torch.tensor([0.5, 0.51])), network.embed(torch.tensor([500.0, 510.0]))
    close, far = ((e[0] - e[1]).norm() / e[0].norm() for e in ends)
    assert far > 10 * close


def test_the_recipe_is_mnist_ddpms() -> None:
    flow, ddpm = recipe("mnist-flow"), recipe("mnist-ddpm")
    for same in ("steps", "batch_size", "lr", "ema_decay", "config", "seed", "dtype"):
        assert getattr(flow, same) == getattr(ddpm, same), same
    a, b = (made.build().state_dict() for made in (flow, ddpm))
    assert {k: v.shape for k, v in a.items()} == {k: v.shape for k, v in b.items()}


def test_the_recipe_draws_what_mnist_ddpm_draws() -> None:
    flow, ddpm = recipe("mnist-flow"), recipe("mnist-ddpm")
    for step in (0, 7):
        x0, t, eps = flow.draw(step, torch.Generator().manual_seed(step))
        same_x0, k, same_eps = ddpm.draw(step, torch.Generator().manual_seed(step))
        assert torch.equal(x0, same_x0)
        assert torch.equal(eps, same_eps)
        assert torch.equal((1000 * t.double()).floor().long(), k)
        assert bool(((t >= 0) & (t < 1)).all())


def test_the_recipes_loss_is_told_a_thousand_t() -> None:
    x0, eps, t = normal(4, 1, 2, 2), normal(4, 1, 2, 2, seed=1), torch.rand(4).double()

    def network(xt: Tensor, now: Tensor) -> Tensor:
        assert torch.equal(now, 1000 * t)
        return eps - x0

    assert float(recipe("mnist-flow").loss_fn(network, x0, t, eps)) == 0


# --- Bad input ------------------------------------------------------------------------------------


def test_a_step_number_for_a_time_is_refused() -> None:
    x = normal(2, 1)
    with pytest.raises(TypeError, match="a time in"):
        straight_path(x, torch.tensor([0, 1]), x)


@pytest.mark.parametrize("t", [-0.1, 1.1, 500.0, math.nan])
def test_a_time_out_of_range_is_refused(t: float) -> None:
    x = normal(2, 1)
    for call in (
        lambda: straight_path(x, full(t, 2), x),
        lambda: flow_loss(mixture, x, full(t, 2), x),
        lambda: predict_both(x, full(t, 2), x),
        lambda: euler_step(mixture, x, full(t, 2), full(0, 2)),
        lambda: heun_step(mixture, x, full(1, 2), full(t, 2)),
        lambda: mixture(x, full(t, 2)),
    ):
        with pytest.raises(ValueError, match="t lies in"):
            call()


def test_a_time_of_another_shape_is_refused() -> None:
    x = normal(2, 1)
    with pytest.raises(ValueError, match=r"shape \(2,\) here, not \(3,\)"):
        straight_path(x, full(0.5, 3), x)
    with pytest.raises(ValueError, match=r"not \(\)"):
        straight_path(x, torch.tensor(0.5), x)


@pytest.mark.parametrize(
    ("chosen", "what"),
    [
        ({"method": "rk4"}, '"euler" or "heun", not \'rk4\''),
        ({"steps": 0}, "steps is at least 1"),
        ({"start": 0.0}, "not 50 and 0"),
        ({"start": 1.01}, "not 50 and 1.01"),
        ({"start": math.nan}, "not 50 and nan"),
    ],
)
def test_a_walk_that_makes_no_sense_is_refused(chosen: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        next(flow_sample(mixture, normal(2, 1), **chosen))


def test_a_step_out_of_the_schedule_is_refused() -> None:
    x = normal(2, 1)
    with pytest.raises(IndexError):
        flow_to_eps(mixture, x, torch.tensor([3, 1000]), COSINE)
    eps_model = as_eps_model(lambda x, t: x, COSINE)
    assert eps_as_flow(eps_model, COSINE)(x, full(1, 2)).shape == x.shape
