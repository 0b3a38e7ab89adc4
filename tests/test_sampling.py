"""Lesson 04 against diffusers' schedulers, brute-force Bayes, and data whose best ε̂ is known."""

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from course.forward_process import (
    alpha_bars_from_betas,
    at,
    cosine_schedule,
    linear_schedule,
    q_sample,
)
from course.sampling import (
    EpsModel,
    as_eps_model,
    ddim_step,
    ddpm_step,
    normal_like,
    posterior_mean,
    posterior_std,
    posterior_var,
    predict_x0,
    sample,
    timesteps,
    to_eps,
)
from course.training import v_target

T = 1000
BETAS = {"linear": linear_schedule(T), "cosine": cosine_schedule(T)}
ALPHA_BARS = {name: alpha_bars_from_betas(betas) for name, betas in BETAS.items()}
SHAPE = (2, 1, 4, 4)

each_schedule = pytest.mark.parametrize("schedule", BETAS)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def full(value: int, b: int = SHAPE[0]) -> Tensor:
    return torch.full((b,), value)


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


# --- Against diffusers ----------------------------------------------------------------------------

COMMON: dict[str, Any] = {"num_train_timesteps": T, "timestep_spacing": "trailing"}


def ddpm_scheduler(schedule: str, steps: int) -> Any:
    betas = BETAS[schedule].numpy()
    scheduler: Any = DDPMScheduler(
        **COMMON, trained_betas=betas, variance_type="fixed_small", clip_sample=True
    )
    scheduler.set_timesteps(steps)
    return scheduler


def ddim_scheduler(schedule: str, steps: int, clip: bool = True) -> Any:
    betas = BETAS[schedule].numpy()
    scheduler: Any = DDIMScheduler(
        **COMMON, trained_betas=betas, clip_sample=clip, set_alpha_to_one=True
    )
    scheduler.set_timesteps(steps)
    return scheduler


@each_schedule
@pytest.mark.parametrize("steps", [T, 50, 8])
def test_ddpm_step_is_diffusers_step_for_step(schedule: str, steps: int) -> None:
    scheduler = ddpm_scheduler(schedule, steps)
    walk = timesteps(T, steps)
    for k, (t, s) in enumerate(zip(walk, [*walk[1:], -1], strict=True)):
        xt, eps_hat = normal(*SHAPE, seed=2 * k), normal(*SHAPE, seed=2 * k + 1)
        theirs = scheduler.step(eps_hat, t, xt, generator=torch.Generator().manual_seed(k))
        noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(k))
        ours = ddpm_step(xt, full(t), eps_hat, ALPHA_BARS[schedule], noise, full(s))
        assert apart(ours, theirs.prev_sample) < 1e-5, (t, s)


@each_schedule
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("steps", "clip"), [(T, True), (50, True), (50, False), (8, False)])
def test_ddim_step_is_diffusers_step_for_step(
    schedule: str, steps: int, eta: float, clip: bool
) -> None:
    scheduler = ddim_scheduler(schedule, steps, clip)
    alpha_bars, walk = ALPHA_BARS[schedule], timesteps(T, steps)
    for k, (t, s) in enumerate(zip(walk, [*walk[1:], -1], strict=True)):
        x0, eps_hat = normal(*SHAPE, seed=2 * k), normal(*SHAPE, seed=2 * k + 1)
        xt, noise = q_sample(x0, full(t), eps_hat, alpha_bars), normal(*SHAPE, seed=3 * k)
        theirs = scheduler.step(
            eps_hat, t, xt, eta=eta, use_clipped_model_output=True, variance_noise=noise
        )
        ours = ddim_step(xt, full(t), eps_hat, alpha_bars, full(s), eta, noise, clip)
        assert apart(ours, theirs.prev_sample) < 1e-5, (t, s)


@each_schedule
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_whole_walk_is_diffusers(schedule: str, kind: str) -> None:
    alpha_bars, scheduler = ALPHA_BARS[schedule], ddim_scheduler(schedule, 50)
    scheduler.register_to_config(prediction_type=kind)
    ours_kind = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}[kind]

    def network(xt: Tensor, t: Tensor) -> Tensor:
        return torch.sin(3 * xt) * (1 + t.reshape(-1, 1, 1, 1) / T) / 2

    x = xt = normal(*SHAPE)
    for t in scheduler.timesteps:
        output = network(x, t.expand(len(x)))
        x = scheduler.step(output, t, x, use_clipped_model_output=True).prev_sample
    eps_model = as_eps_model(network, alpha_bars, ours_kind)  # type: ignore[arg-type]
    *_, ours = sample(eps_model, xt, alpha_bars, steps=50)
    assert apart(ours, x) < 1e-4


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 7, 8, 10, 20, 25, 30, 50, 100, 250, 500, 1000])
def test_timesteps_are_diffusers_trailing_ones(steps: int) -> None:
    assert timesteps(T, steps) == ddim_scheduler("linear", steps).timesteps.tolist()


# --- The posterior --------------------------------------------------------------------------------


def bayes_on_a_grid(x0: float, xt: float, a: float, a_s: float) -> tuple[float, float]:
    """Mean and variance of p(x_t | x_s) p(x_s | x_0), normalised by summing; one pixel."""
    centre, spread = math.sqrt(a_s) * x0, math.sqrt(1 - a_s)
    grid = torch.linspace(centre - 12 * spread, centre + 12 * spread, 400_001, dtype=torch.float64)
    alpha = a / a_s
    log_prior = -((grid - centre) ** 2) / (2 * (1 - a_s))
    log_likelihood = -((xt - math.sqrt(alpha) * grid) ** 2) / (2 * (1 - alpha))
    p = torch.softmax(log_prior + log_likelihood, dim=0)
    mean = (p * grid).sum()
    return float(mean), float((p * (grid - mean) ** 2).sum())


@each_schedule
@pytest.mark.parametrize(
    ("t", "s"), [(1, 0), (10, 9), (400, 399), (999, 998), (999, 500), (600, 3), (50, 0), (999, 0)]
)
@pytest.mark.parametrize(("x0", "eps"), [(0.7, -0.4), (-1.0, 1.5)])
def test_posterior_is_bayes_rule(schedule: str, t: int, s: int, x0: float, eps: float) -> None:
    alpha_bars = alpha_bars_from_betas(BETAS[schedule].double())
    a, a_s = float(alpha_bars[t]), float(alpha_bars[s])
    xt = math.sqrt(a) * x0 + math.sqrt(1 - a) * eps
    mean, var = bayes_on_a_grid(x0, xt, a, a_s)
    pixel = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    ours = posterior_mean(x0 * pixel, xt * pixel, full(t, 1), alpha_bars, full(s, 1))
    assert float(ours) == pytest.approx(mean, abs=1e-6)
    assert float(posterior_var(full(t, 1), alpha_bars, full(s, 1))) == pytest.approx(var, rel=1e-6)


@each_schedule
def test_before_step_0_is_the_data(schedule: str) -> None:
    alpha_bars, x0, xt = ALPHA_BARS[schedule], normal(*SHAPE), normal(*SHAPE, seed=1)
    for t in (0, 19, 999):
        mean = posterior_mean(x0, xt, full(t), alpha_bars, full(-1))
        assert apart(mean, x0) < 1e-6
        assert posterior_var(full(t), alpha_bars, full(-1)).tolist() == [0, 0]


@each_schedule
def test_posterior_by_default_is_one_step(schedule: str) -> None:
    betas, t = BETAS[schedule].double(), torch.arange(1, T)
    alpha_bars = alpha_bars_from_betas(betas)
    beta_tilde = (1 - alpha_bars[:-1]) / (1 - alpha_bars[1:]) * betas[1:]
    assert apart(posterior_var(t, alpha_bars), beta_tilde) < 1e-12
    assert bool((beta_tilde < betas[1:]).all())


def test_posterior_std_multiplies_images() -> None:
    t, alpha_bars = torch.tensor([0, 500]), ALPHA_BARS["cosine"]
    std = posterior_std(normal(2, 3, 4, 5, dtype=torch.float64), t, alpha_bars)
    assert (std.shape, std.dtype) == ((2, 1, 1, 1), torch.float64)
    assert apart(std.flatten() ** 2, posterior_var(t, alpha_bars)) < 1e-8


# --- Predictions and steps ------------------------------------------------------------------------


@each_schedule
def test_every_kind_of_output_gives_the_noise_back(schedule: str) -> None:
    alpha_bars = ALPHA_BARS[schedule].double()
    t = torch.tensor([0, 1, 250, 500, 750, 990, 999])
    x0, eps = (normal(7, 1, 4, 4, seed=i, dtype=torch.float64) for i in (0, 1))
    xt = q_sample(x0, t, eps, alpha_bars)
    outputs = {"eps": eps, "v": v_target(x0, t, eps, alpha_bars), "x0": x0}
    for kind, output in outputs.items():
        eps_hat = to_eps(output, xt, t, alpha_bars, kind)  # type: ignore[arg-type]
        assert apart(eps_hat, eps) < 1e-9
        assert apart(predict_x0(xt, t, eps_hat, alpha_bars), x0) < 1e-6
        eps_model = as_eps_model(lambda xt, t, output=output: output, alpha_bars, kind)  # type: ignore[misc,arg-type]
        assert torch.equal(eps_model(xt, t), eps_hat)


def test_v_is_the_default_kind() -> None:
    xt, t, alpha_bars = normal(*SHAPE), full(500), ALPHA_BARS["cosine"]
    eps_hat = as_eps_model(lambda xt, t: xt / 2, alpha_bars)(xt, t)
    assert torch.equal(eps_hat, to_eps(xt / 2, xt, t, alpha_bars, "v"))


@each_schedule
@pytest.mark.parametrize("stride", [1, 7, 100])
def test_eta_1_is_the_ancestral_step(schedule: str, stride: int) -> None:
    alpha_bars = ALPHA_BARS[schedule].double()
    t = torch.arange(0, T, 13)
    s = (t - stride).clamp(min=-1)
    xt, eps_hat, noise = (normal(len(t), 1, 3, 3, seed=i, dtype=torch.float64) for i in range(3))
    ancestral = ddpm_step(xt, t, eps_hat, alpha_bars, noise, s)
    assert apart(ddim_step(xt, t, eps_hat, alpha_bars, s, 1.0, noise), ancestral) < 1e-9


@each_schedule
@pytest.mark.parametrize("t", [0, 19, 999])
def test_the_last_step_gives_the_clipped_prediction(schedule: str, t: int) -> None:
    alpha_bars = ALPHA_BARS[schedule]
    xt, eps_hat, noise = (normal(*SHAPE, seed=i) for i in range(3))
    x0_hat = predict_x0(xt, full(t), eps_hat, alpha_bars)
    args = (xt, full(t), eps_hat, alpha_bars)
    assert apart(ddpm_step(*args, noise, full(-1)), x0_hat.clamp(-1, 1)) < 1e-6
    for eta in (0.0, 0.5, 1.0):
        assert torch.equal(ddim_step(*args, full(-1), eta, noise), x0_hat.clamp(-1, 1))
    assert torch.equal(ddim_step(*args, full(-1), clip=False), x0_hat)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_step_with_the_true_noise_keeps_the_marginal(eta: float) -> None:
    """With ε itself in place of ε̂, x_s is N(√ᾱ_s x_0, 1 − ᾱ_s), whatever η is."""
    alpha_bars, n = ALPHA_BARS["cosine"].double(), 200_000
    x0 = torch.full((n, 1), 0.8, dtype=torch.float64)
    eps, noise = (normal(n, 1, seed=i, dtype=torch.float64) for i in (0, 1))
    t, s = full(600, n), full(350, n)
    xs = ddim_step(q_sample(x0, t, eps, alpha_bars), t, eps, alpha_bars, s, eta, noise)
    a_s = float(alpha_bars[350])
    assert float(xs.mean()) == pytest.approx(math.sqrt(a_s) * 0.8, abs=0.006)
    assert float(xs.var()) == pytest.approx(1 - a_s, rel=0.02)


# --- Whole walks, on data whose best ε̂ is known --------------------------------------------------

WEIGHTS, MEANS, STD = (0.3, 0.7), (-0.6, 0.4), 0.15


def best_eps(alpha_bars: Tensor, weights: Any = WEIGHTS, means: Any = MEANS) -> EpsModel:
    """E[ε | x_t] for data from a mixture of normals of standard deviation STD, written as a score.

    ε* = −√(1−ᾱ) ∇ log p(x_t), by automatic differentiation of the mixture's log density.
    """

    def log_density(x: Tensor, a: Tensor) -> Tensor:
        var = a * STD**2 + 1 - a
        parts = [
            math.log(w) - (x - a.sqrt() * m) ** 2 / (2 * var)
            for w, m in zip(weights, means, strict=True)
        ]
        return torch.logsumexp(torch.stack(parts), dim=0)

    def eps_model(xt: Tensor, t: Tensor) -> Tensor:
        a = at(alpha_bars, t, xt)
        with torch.enable_grad():
            x = xt.detach().requires_grad_()
            (score,) = torch.autograd.grad(log_density(x, a).sum(), x)
        return -torch.sqrt(1 - a) * score

    return eps_model


def quantiles(n: int) -> Tensor:
    """n normal numbers without chance: the middle of each of n equally likely intervals."""
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.special.ndtri(u).reshape(n, 1, 1, 1)


def test_ddim_follows_the_flow_of_gaussian_data() -> None:
    """One Gaussian: the ODE maps x_T onto the data by a straight line, known in closed form."""
    alpha_bars, xT = ALPHA_BARS["cosine"].double(), quantiles(101)
    model = best_eps(alpha_bars, (1.0,), (0.3,))
    a = float(alpha_bars[-1])
    exact = 0.3 + STD * (xT - math.sqrt(a) * 0.3) / math.sqrt(a * STD**2 + 1 - a)

    def error(steps: int) -> float:
        *_, x0 = sample(model, xT, alpha_bars, steps=steps, clip=False)
        return apart(x0, exact)

    assert error(T) < 0.01
    # Euler's method: twice the steps, half the error.
    assert error(200) / error(100) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("steps", "eta"), [(300, 1.0), (300, 0.0), (300, 0.5)])
def test_gaussian_data_comes_out_with_its_mean_and_spread(steps: int, eta: float) -> None:
    alpha_bars, xT = alpha_bars_from_betas(cosine_schedule(300).double()), quantiles(5_000)
    model = best_eps(alpha_bars, (1.0,), (0.3,))
    generator = torch.Generator().manual_seed(0)
    *_, x0 = sample(model, xT, alpha_bars, steps=steps, eta=eta, generator=generator)
    assert float(x0.mean()) == pytest.approx(0.3, abs=0.006)
    assert float(x0.std()) == pytest.approx(STD, rel=0.05)


@pytest.mark.parametrize(("steps", "eta", "tolerance"), [(300, 1.0, 0.015), (100, 0.0, 0.01)])
def test_a_mixture_comes_out_as_it_is(steps: int, eta: float, tolerance: float) -> None:
    alpha_bars, n = alpha_bars_from_betas(cosine_schedule(300).double()), 4_000
    generator = torch.Generator().manual_seed(0)
    walk = sample(
        best_eps(alpha_bars), quantiles(n), alpha_bars, steps=steps, eta=eta, generator=generator
    )
    *_, x0 = walk
    counts = [round(n * w) for w in WEIGHTS]
    truth = torch.cat([m + STD * quantiles(c) for m, c in zip(MEANS, counts, strict=True)])
    assert stats.wasserstein_distance(x0.flatten(), truth.flatten()) < tolerance
    assert float((x0 < -0.1).double().mean()) == pytest.approx(0.3, abs=0.015)


def test_ancestral_sampling_by_hand_is_the_sampler_with_eta_1() -> None:
    alpha_bars = alpha_bars_from_betas(cosine_schedule(100).double())
    xT = normal(5, 1, 2, 2, dtype=torch.float64)
    model, generator = best_eps(alpha_bars), torch.Generator().manual_seed(3)
    x = xT
    for t in reversed(range(100)):
        now, eps_hat = full(t, 5), model(x, full(t, 5))
        x = ddpm_step(x, now, eps_hat, alpha_bars, normal_like(x, generator))
    generator.manual_seed(3)
    *_, ours = sample(model, xT, alpha_bars, steps=100, eta=1.0, generator=generator)
    assert apart(ours, x) < 1e-9


@each_schedule
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_no_number_of_steps_rounds_to_nan(schedule: str, eta: float) -> None:
    for steps in range(1, 21):
        *_, x0 = sample(lambda x, t: x, normal(*SHAPE), ALPHA_BARS[schedule], steps=steps, eta=eta)
        assert bool(x0.isfinite().all()), steps


# --- The sampler as a program ---------------------------------------------------------------------


class Recorder:
    """An ε̂ that remembers which t it was told."""

    def __init__(self) -> None:
        self.told: list[Tensor] = []
        self.scale = torch.ones((), requires_grad=True)

    def __call__(self, xt: Tensor, t: Tensor) -> Tensor:
        self.told.append(t)
        return self.scale * xt / 2


def test_one_network_call_a_step_each_told_its_t() -> None:
    model = Recorder()
    walk = list(sample(model, normal(*SHAPE), ALPHA_BARS["linear"], steps=7))
    assert len(walk) == 7
    assert all(t.dtype == torch.int64 and t.shape == (2,) for t in model.told)
    assert [t.tolist() for t in model.told] == [[t, t] for t in timesteps(T, 7)]
    assert not any(x.requires_grad for x in walk)


def test_the_default_is_fifty_steps_of_ddim() -> None:
    xt, alpha_bars = normal(*SHAPE), ALPHA_BARS["linear"]
    default = list(sample(Recorder(), xt, alpha_bars))
    chosen = list(sample(Recorder(), xt, alpha_bars, steps=50, eta=0.0, start=T - 1, clip=True))
    assert len(default) == 50
    assert all(torch.equal(a, b) for a, b in zip(default, chosen, strict=True))


def test_the_sampler_is_lazy() -> None:
    model = Recorder()
    walk = sample(model, normal(*SHAPE), ALPHA_BARS["linear"], steps=50)
    assert len(model.told) == 0
    next(walk)
    next(walk)
    assert len(model.told) == 2


def test_the_starting_noise_is_left_alone() -> None:
    xt = normal(*SHAPE)
    before = xt.clone()
    list(sample(Recorder(), xt, ALPHA_BARS["linear"], steps=3))
    assert torch.equal(xt, before)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_same_generator_gives_the_same_walk(eta: float) -> None:
    def walk(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        xt, alpha_bars = normal(*SHAPE), ALPHA_BARS["cosine"]
        *_, x0 = sample(Recorder(), xt, alpha_bars, steps=9, eta=eta, generator=generator)
        return x0

    assert torch.equal(walk(1), walk(1))
    assert torch.equal(walk(1), walk(2)) == (eta == 0)


def test_global_randomness_is_untouched() -> None:
    generator = torch.Generator().manual_seed(1)
    before = torch.get_rng_state()
    xt, alpha_bars = normal(*SHAPE), ALPHA_BARS["cosine"]
    list(sample(Recorder(), xt, alpha_bars, steps=5, eta=1.0, generator=generator))
    list(sample(Recorder(), xt, alpha_bars, steps=5))
    assert torch.equal(before, torch.get_rng_state())


def test_ddim_draws_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    list(sample(Recorder(), normal(*SHAPE), ALPHA_BARS["cosine"], steps=5, generator=generator))
    assert torch.equal(before, generator.get_state())


def test_a_walk_may_start_in_the_middle() -> None:
    model = Recorder()
    walk = list(sample(model, normal(*SHAPE), ALPHA_BARS["cosine"], steps=5, start=399))
    assert len(walk) == 5
    assert [int(t[0]) for t in model.told] == [399, 319, 239, 159, 79]


def test_a_noised_image_is_denoised_from_its_own_t() -> None:
    """An image noised to t = 80 and walked back with the best ε̂ comes out near where it was."""
    alpha_bars = ALPHA_BARS["cosine"].double()
    x0 = torch.full((500, 1, 1, 1), -0.6, dtype=torch.float64)
    xt = q_sample(x0, full(80, 500), normal(500, 1, 1, 1, dtype=torch.float64), alpha_bars)
    *_, back = sample(best_eps(alpha_bars), xt, alpha_bars, steps=40, start=80)
    assert float((back < -0.1).double().mean()) > 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_walk_keeps_its_dtype(dtype: torch.dtype) -> None:
    xt = normal(*SHAPE, dtype=dtype)
    for eta in (0.0, 1.0):
        walk = sample(lambda x, t: x / 2, xt, ALPHA_BARS["cosine"], steps=4, eta=eta)
        assert all(x.dtype == dtype and x.shape == xt.shape for x in walk)


def test_normal_like_is_normal_and_like() -> None:
    x = torch.zeros(4, 3, 50, 50, dtype=torch.float64)
    noise = normal_like(x, torch.Generator().manual_seed(0))
    assert (noise.shape, noise.dtype) == (x.shape, x.dtype)
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 0.01
    assert torch.equal(noise, normal_like(x, torch.Generator().manual_seed(0)))


@given(st.integers(1, 2000).flatmap(lambda T: st.tuples(st.just(T), st.integers(1, T))))
def test_timesteps_are_evenly_spread_and_fall(chosen: tuple[int, int]) -> None:
    T, steps = chosen
    walk = timesteps(T, steps)
    assert len(walk) == steps
    assert walk[0] == T - 1
    assert walk[-1] >= 0
    assert all(a > b for a, b in pairwise(walk))
    for k, t in enumerate(walk):
        assert abs(t + 1 - (T - Fraction(k * T, steps))) <= Fraction(1, 2) + Fraction(1, 10**6)


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, -1, T + 1])
def test_impossible_numbers_of_steps_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=r"steps lies in 1…1000.*not -?\d"):
        timesteps(T, steps)
    with pytest.raises(ValueError, match="steps lies in 1…1000"):
        next(sample(Recorder(), normal(*SHAPE), ALPHA_BARS["linear"], steps=steps))


def test_more_steps_than_are_left_are_refused() -> None:
    with pytest.raises(ValueError, match="steps lies in 1…10"):
        next(sample(Recorder(), normal(*SHAPE), ALPHA_BARS["linear"], steps=11, start=9))


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_eta_out_of_range_is_refused(eta: float) -> None:
    x, alpha_bars = normal(*SHAPE), ALPHA_BARS["linear"]
    with pytest.raises(ValueError, match="eta lies in 0…1"):
        ddim_step(x, full(3), x, alpha_bars, eta=eta, noise=x)
    with pytest.raises(ValueError, match="eta lies in 0…1"):
        next(sample(Recorder(), x, alpha_bars, eta=eta))


def test_noise_is_asked_for() -> None:
    x = normal(*SHAPE)
    with pytest.raises(ValueError, match="needs `noise`"):
        ddim_step(x, full(3), x, ALPHA_BARS["linear"], eta=0.5)


@pytest.mark.parametrize("t", [-1, T])
def test_t_out_of_range_is_refused(t: int) -> None:
    x, alpha_bars = normal(*SHAPE), ALPHA_BARS["linear"]
    for call in (
        lambda: predict_x0(x, full(t), x, alpha_bars),
        lambda: to_eps(x, x, full(t), alpha_bars, "v"),
        lambda: posterior_mean(x, x, full(t), alpha_bars),
        lambda: posterior_var(full(t), alpha_bars),
        lambda: ddpm_step(x, full(t), x, alpha_bars, x),
        lambda: ddim_step(x, full(t), x, alpha_bars),
    ):
        with pytest.raises(ValueError, match="t lies in 0…999"):
            call()


@pytest.mark.parametrize("start", [T, -1])
def test_a_start_out_of_range_is_refused(start: int) -> None:
    with pytest.raises(ValueError):
        next(sample(Recorder(), normal(*SHAPE), ALPHA_BARS["linear"], start=start, steps=1))


def test_t_of_another_shape_or_dtype_is_refused() -> None:
    x, alpha_bars = normal(*SHAPE), ALPHA_BARS["linear"]
    with pytest.raises(TypeError, match="int64"):
        predict_x0(x, torch.tensor([0.5, 0.5]), x, alpha_bars)
    with pytest.raises(ValueError, match="one step per image"):
        ddim_step(x, full(3, 3), x, alpha_bars)


def test_an_unknown_kind_is_refused() -> None:
    x = normal(*SHAPE)
    with pytest.raises(ValueError, match='"eps", "v" or "x0", not \'noise\''):
        to_eps(x, x, full(3), ALPHA_BARS["linear"], "noise")  # type: ignore[arg-type]
