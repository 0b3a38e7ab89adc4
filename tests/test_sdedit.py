"""Lesson 11 against diffusers, pasting by hand, and Gaussian data whose edits are known exactly."""

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionImg2ImgPipeline
from scipy import stats
from torch import Tensor

from course.data import mnist
from course.forward_process import (
    alpha_bars_from_betas,
    at,
    cosine_schedule,
    linear_schedule,
    q_sample,
    snr,
)
from course.metrics import fit_gaussian, judge_features, load_judge
from course.sampling import EpsModel, as_eps_model, ddim_step, timesteps
from course.sdedit import (
    balance,
    coarse,
    distance_to_segment,
    faithfulness,
    keep_outside,
    noise_outside,
    noise_to,
    paint,
    realism,
    sdedit,
    snr_matched_t,
    strength_timesteps,
    typed,
)
from course.training import UNet
from course.weights import card, load_weights

T = 1000
BETAS = {"linear": linear_schedule(T), "cosine": cosine_schedule(T)}
ALPHA_BARS = {name: alpha_bars_from_betas(betas) for name, betas in BETAS.items()}
SHAPE = (2, 1, 4, 4)

each_schedule = pytest.mark.parametrize("schedule", BETAS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def mixing(xt: Tensor, t: Tensor) -> Tensor:
    """A model of the noise in which every pixel's answer depends on its neighbours."""
    around = torch.roll(xt, 1, dims=-1) + torch.roll(xt, 1, dims=-2)
    return torch.sin(2 * xt + around) * (1 + t.reshape(-1, 1, 1, 1) / T) / 2


# --- Against diffusers ----------------------------------------------------------------------------


@each_schedule
@pytest.mark.parametrize("t", [0, 1, 300, 500, 998, 999])
def test_noising_is_diffusers_add_noise(schedule: str, t: int) -> None:
    scheduler = DDPMScheduler(num_train_timesteps=T, trained_betas=BETAS[schedule].numpy())
    x = normal(*SHAPE).clamp(-1, 1)
    eps = torch.randn(SHAPE, generator=seeded(1))
    theirs = scheduler.add_noise(x, eps, torch.full((2,), t))
    assert apart(noise_to(x, t, ALPHA_BARS[schedule], seeded(1)), theirs) < 1e-5


def img2img_timesteps(strength: float, inference_steps: int, spacing: str) -> list[int]:
    """What diffusers' own image-to-image pipeline would visit."""
    scheduler: Any = DDIMScheduler(num_train_timesteps=T, timestep_spacing=spacing)
    scheduler.set_timesteps(inference_steps)
    pipeline: Any = SimpleNamespace(scheduler=scheduler)
    get: Any = StableDiffusionImg2ImgPipeline.get_timesteps
    visited, calls = get(pipeline, inference_steps, strength, "cpu")
    assert len(visited) == calls
    return visited.tolist()


@pytest.mark.parametrize("strength", [0.05, 0.2, 0.3, 0.5, 0.77, 0.8, 1.0])
@pytest.mark.parametrize("inference_steps", [20, 25, 50, 100])
def test_strength_is_what_diffusers_pipelines_make_of_it(
    strength: float, inference_steps: int
) -> None:
    ours = strength_timesteps(strength, inference_steps, T)
    assert ours == img2img_timesteps(strength, inference_steps, "trailing")


@pytest.mark.parametrize(("strength", "inference_steps"), [(0.5, 20), (0.8, 50), (0.2, 25)])
def test_diffusers_other_spacing_starts_a_little_lower(
    strength: float, inference_steps: int
) -> None:
    """The "leading" spacing of many shipped pipelines: one stride and a step below ours."""
    leading = img2img_timesteps(strength, inference_steps, "leading")
    ours = strength_timesteps(strength, inference_steps, T)
    stride = T // inference_steps
    assert [t - (stride - 1) for t in ours] == leading


class Recorder:
    """A model of the noise that remembers which t it was told."""

    def __init__(self) -> None:
        self.told: list[Tensor] = []
        self.scale = torch.ones((), requires_grad=True)

    def __call__(self, xt: Tensor, t: Tensor) -> Tensor:
        self.told.append(t)
        return self.scale * xt / 2


@pytest.mark.parametrize(
    ("strength", "inference_steps"), [(0.5, 20), (0.8, 50), (0.36, 25), (1, 8)]
)
def test_sdedit_visits_what_diffusers_visits(strength: float, inference_steps: int) -> None:
    theirs = strength_timesteps(strength, inference_steps, T)
    model = Recorder()
    x, alpha_bars = normal(*SHAPE), ALPHA_BARS["cosine"]
    list(sdedit(model, x, alpha_bars, theirs[0], steps=len(theirs), generator=seeded()))
    assert [int(t[0]) for t in model.told] == theirs
    assert theirs[0] + 1 == strength * T


@each_schedule
def test_a_whole_edit_is_diffusers(schedule: str) -> None:
    scheduler: Any = DDIMScheduler(
        num_train_timesteps=T,
        trained_betas=BETAS[schedule].numpy(),
        timestep_spacing="trailing",
        set_alpha_to_one=True,
    )
    scheduler.set_timesteps(50)
    x = normal(*SHAPE).clamp(-1, 1)
    start = scheduler.timesteps[20:]  # strength 0.6
    theirs = scheduler.add_noise(x, torch.randn(SHAPE, generator=seeded(3)), start[:1])
    for t in start:
        eps_hat = mixing(theirs, t.expand(2))
        theirs = scheduler.step(eps_hat, t, theirs, use_clipped_model_output=True).prev_sample
    *_, ours = sdedit(mixing, x, ALPHA_BARS[schedule], 599, steps=30, generator=seeded(3))
    assert apart(ours, theirs) < 1e-4


# --- Gaussian data, where the edit is known exactly -----------------------------------------------

MEAN, STD, FROM = 0.3, 0.2, -0.5  # the data are N(MEAN, STD²); the picture that is edited is FROM


def best_eps(alpha_bars: Tensor) -> EpsModel:
    """E[ε | x_t] for the Gaussian data."""

    def eps_model(xt: Tensor, t: Tensor) -> Tensor:
        a = at(alpha_bars, t, xt)
        return torch.sqrt(1 - a) * (xt - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)

    return eps_model


def kept_share(alpha_bar: float) -> float:
    """g = √(c² SNR / (1 + c² SNR)): how much of its distance from the data's mean an edit keeps."""
    c2snr = STD**2 * alpha_bar / (1 - alpha_bar)
    return math.sqrt(c2snr / (1 + c2snr))


@each_schedule
@pytest.mark.parametrize("t", [50, 250, 500, 900])
def test_a_deterministic_edit_moves_as_the_ode_says(schedule: str, t: int) -> None:
    """Each single edit: m + c (x_t − √ᾱ m) / √(ᾱ c² + 1 − ᾱ)."""
    alpha_bars = ALPHA_BARS[schedule].double()
    x = torch.full((200, 1, 1, 1), FROM, dtype=torch.float64)
    a = float(alpha_bars[t])
    xt = noise_to(x, t, alpha_bars, seeded(1))
    exact = MEAN + STD * (xt - math.sqrt(a) * MEAN) / math.sqrt(a * STD**2 + 1 - a)
    *_, edit = sdedit(best_eps(alpha_bars), x, alpha_bars, t, steps=t + 1, clip=False,
                      generator=seeded(1))  # fmt: skip
    assert apart(edit, exact) < 0.01


@pytest.mark.parametrize("t", [60, 150, 240])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_edits_have_the_mean_and_the_spread_that_the_lesson_derives(t: int, eta: float) -> None:
    """The ODE keeps the share g of the distance, the SDE g²; the variance is c²(1 − share²)."""
    alpha_bars, n = alpha_bars_from_betas(cosine_schedule(300).double()), 20_000
    x = torch.full((n, 1, 1, 1), FROM, dtype=torch.float64)
    *_, edit = sdedit(best_eps(alpha_bars), x, alpha_bars, t, steps=t + 1, eta=eta, clip=False,
                      generator=seeded(2))  # fmt: skip
    g = kept_share(float(alpha_bars[t]))
    share = g**2 if eta else g
    assert float(edit.mean()) == pytest.approx(MEAN + share * (FROM - MEAN), abs=0.01)
    assert float(edit.std()) == pytest.approx(STD * math.sqrt(1 - share**2), rel=0.04)


# --- The two ends ---------------------------------------------------------------------------------


def test_at_t_0_almost_nothing_changes() -> None:
    x = normal(50, 1, 4, 4).clamp(-1, 1)
    for alpha_bars in ALPHA_BARS.values():
        *_, edit = sdedit(mixing, x, alpha_bars, 0, generator=seeded())
        assert apart(edit, x) < 6 * math.sqrt(1 - float(alpha_bars[0]))


def test_at_the_last_t_nothing_is_left() -> None:
    """Many inputs, one noise each: the correlation of input and edit is that of strangers."""
    alpha_bars, n = ALPHA_BARS["cosine"].double(), 4000
    x = MEAN + 2 * STD * normal(n, 1, 1, 1, seed=3, dtype=torch.float64)
    correlations = []
    for t in (100, T - 1):
        *_, edit = sdedit(best_eps(alpha_bars), x, alpha_bars, t, clip=False, generator=seeded(4))
        correlations.append(float(np.corrcoef(x.flatten(), edit.flatten())[0, 1]))
    assert correlations[0] > 0.9
    assert abs(correlations[1]) < 0.05


@pytest.fixture(scope="module")
def shipped() -> EpsModel:
    network = load_weights(UNet(**card("mnist-ddpm")["config"]), "mnist-ddpm")
    return as_eps_model(network.to(memory_format=torch.channels_last), ALPHA_BARS["cosine"])


def test_digits_are_kept_less_the_further_the_edit_goes(shipped: EpsModel) -> None:
    images, _ = mnist("test")
    x, strangers = images[:60], images[60:120]
    kept = []
    for t in (0, 400, 700, T - 1):
        *_, edit = sdedit(shipped, x, ALPHA_BARS["cosine"], t, steps=6, generator=seeded())
        kept.append(faithfulness(edit, x, strangers))
    assert all(a > b for a, b in pairwise(kept))
    assert kept[0] > 0.99
    assert kept[1] > 0.85
    assert kept[3] < 0.15


def test_coarse_pictures_become_more_like_digits(shipped: EpsModel) -> None:
    images, _ = mnist("test")
    real = fit_gaussian(judge_features(load_judge(), images[1000:4000]))
    x = coarse(images[:60])
    *_, edit = sdedit(shipped, x, ALPHA_BARS["cosine"], 600, steps=8, generator=seeded())
    assert realism(edit, x, real) > 0.3
    assert faithfulness(edit, x, images[60:120]) > 0.5


# --- sdedit as a program --------------------------------------------------------------------------


def test_the_walk_is_spread_over_t_to_0() -> None:
    model = Recorder()
    walk = list(sdedit(model, normal(*SHAPE), ALPHA_BARS["cosine"], 399, steps=5))
    assert [t.tolist() for t in model.told] == [[t, t] for t in (399, 319, 239, 159, 79)]
    assert all(t.dtype == torch.int64 for t in model.told)
    assert len(walk) == 5
    assert not any(x.requires_grad for x in walk)


@pytest.mark.parametrize("t", [0, 3, 48, 49, 50, 400])
def test_no_level_is_visited_twice(t: int) -> None:
    model = Recorder()
    list(sdedit(model, normal(*SHAPE), ALPHA_BARS["cosine"], t))
    assert [int(now[0]) for now in model.told] == timesteps(t + 1, min(50, t + 1))


def test_an_edit_is_lazy_repeatable_and_leaves_its_input_alone() -> None:
    x, alpha_bars, model = normal(*SHAPE), ALPHA_BARS["cosine"], Recorder()
    before, state = x.clone(), torch.get_rng_state()
    walk = sdedit(model, x, alpha_bars, 300, steps=9, eta=1.0, generator=seeded(1))
    assert model.told == []
    next(walk)
    assert len(model.told) == 1
    ends = [
        list(sdedit(model, x, alpha_bars, 300, steps=9, eta=1.0, generator=seeded(seed)))[-1]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_edit_keeps_its_dtype(dtype: torch.dtype) -> None:
    walk = sdedit(mixing, normal(*SHAPE, dtype=dtype), ALPHA_BARS["linear"], 200, steps=3, eta=1.0)
    assert all(x.dtype == dtype and x.shape == SHAPE for x in walk)


# --- Masks ----------------------------------------------------------------------------------------


def pasted_by_hand(x: Tensor, mask: Tensor, alpha_bars: Tensor, t: int, steps: int) -> Tensor:
    """DDIM, and after each step the original, noised to the new level, pasted outside the mask."""
    eps = normal(*x.shape, seed=5).to(x)
    xt = q_sample(x, torch.full((len(x),), t), eps, alpha_bars)
    for now, then in pairwise([*timesteps(t + 1, steps), -1]):
        n, s = torch.full((len(x),), now), torch.full((len(x),), then)
        xt = ddim_step(xt, n, mixing(xt, n), alpha_bars, s)
        known = x if then < 0 else q_sample(x, s, eps, alpha_bars)
        xt = torch.where(mask > 0, xt, known)
    return xt


@each_schedule
@pytest.mark.parametrize("t", [100, 600, 999])
def test_the_masked_walk_is_pasting_after_every_step(schedule: str, t: int) -> None:
    alpha_bars = ALPHA_BARS[schedule].double()
    x = normal(3, 2, 6, 6, dtype=torch.float64).clamp(-1, 1)
    mask = torch.zeros(1, 1, 6, 6)
    mask[..., 2:5, 1:4] = 1
    model = keep_outside(mixing, x, mask, alpha_bars)
    *_, ours = sdedit(model, x, alpha_bars, t, steps=12, generator=seeded(5))
    assert apart(ours, pasted_by_hand(x, mask, alpha_bars, t, 12)) < 1e-6


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_outside_the_mask_the_walk_is_the_original_at_its_level(eta: float) -> None:
    """Mean √ᾱ_s x and variance 1 − ᾱ_s, however much noise is fresh, and x itself at the end."""
    alpha_bars, n = ALPHA_BARS["cosine"].double(), 4000
    x = torch.full((n, 1, 1, 2), 0.6, dtype=torch.float64)
    mask = torch.tensor([1.0, 0.0])
    model = keep_outside(lambda xt, t: xt / 2, x, mask, alpha_bars)
    walk = list(sdedit(model, x, alpha_bars, 799, steps=8, eta=eta, generator=seeded(6)))
    for xs, s in zip(walk[:-1], timesteps(800, 8)[1:], strict=True):
        outside, a = xs[..., 1], float(alpha_bars[s])
        assert float(outside.mean()) == pytest.approx(math.sqrt(a) * 0.6, abs=0.06)
        assert float(outside.var()) == pytest.approx(1 - a, rel=0.08)
    assert apart(walk[-1][..., 1], x[..., 1]) < 1e-6
    assert apart(walk[-1][..., 0], x[..., 0]) > 0.1


def test_a_soft_mask_blends_the_predicted_images() -> None:
    alpha_bars, t = ALPHA_BARS["cosine"].double(), torch.tensor([100, 700])
    x, xt, eps_hat = (normal(*SHAPE, seed=i, dtype=torch.float64) for i in range(3))
    a = at(alpha_bars, t, xt)

    def predicted(eps: Tensor) -> Tensor:
        return (xt - (1 - a).sqrt() * eps) / a.sqrt()

    mask = torch.linspace(0, 1, 4, dtype=torch.float64)
    blend = predicted(noise_outside(eps_hat, x, mask, xt, t, alpha_bars))
    assert apart(blend, mask * predicted(eps_hat) + (1 - mask) * x) < 1e-9


# --- Strokes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("block", "levels"), [(1, 2), (2, 3), (4, 3), (7, 6)])
def test_coarse_is_the_mean_of_each_square_moved_to_the_nearest_grey(
    block: int, levels: int
) -> None:
    x = torch.rand(2, 3, 28, 28, generator=seeded(block)) * 2 - 1
    out = coarse(x, block, levels).numpy()
    allowed = np.linspace(-1, 1, levels)
    for i in range(0, 28, block):
        for j in range(0, 28, block):
            square = out[:, :, i : i + block, j : j + block]
            mean = x[:, :, i : i + block, j : j + block].numpy().mean(axis=(2, 3))
            nearest = allowed[np.abs(mean[..., None] - allowed).argmin(axis=-1)]
            assert np.abs(square - nearest[..., None, None]).max() < 1e-6


def test_coarse_does_nothing_to_what_is_coarse() -> None:
    x = coarse(mnist("test")[0][:20])
    assert torch.equal(coarse(x), x)
    assert set(x.unique().tolist()) == {-1.0, 0.0, 1.0}


def test_distance_to_a_segment_is_the_least_over_its_points() -> None:
    for a, b in [((3.0, 4.0), (20.0, 9.5)), ((8.0, 8.0), (8.0, 8.0)), ((25.0, 2.0), (1.0, 26.0))]:
        along = np.linspace(0, 1, 20_001)[:, None]
        points = np.array(a) * (1 - along) + np.array(b) * along
        centres = np.array([(x + 0.5, y + 0.5) for y in range(28) for x in range(28)])
        least = [np.hypot(*(points - c).T).min() for c in centres]
        ours = distance_to_segment(a, b, 28).flatten().numpy()
        assert np.abs(ours - least).max() < 1e-3


@pytest.mark.parametrize("width", [2.0, 3.0, 5.0])
def test_a_stroke_has_the_ink_of_its_shape(width: float) -> None:
    """A line of length l and a round brush: w · l + π w² / 4; a point alone is the brush."""
    ends, point = [(6.0, 7.0), (20.0, 19.0)], [(14.0, 14.0)]
    line, dot = (float((paint([s], width) + 1).sum() / 2) for s in (ends, point))
    brush = math.pi * width**2 / 4
    assert dot == pytest.approx(brush, rel=0.12)
    assert line == pytest.approx(width * math.hypot(14, 12) + brush, rel=0.02)


def test_x_is_to_the_right_and_y_down() -> None:
    picture = paint([[(2, 5), (12, 5)]], width=2, size=16)[0, 0]
    assert picture.shape == (16, 16)
    assert picture[5, 3:11].min() > 0
    assert picture[12, 5] == picture[5, 14] == -1


def test_strokes_join_and_do_not_add_up() -> None:
    one, other = [(3.0, 3.0), (20.0, 20.0)], [(3.0, 20.0), (20.0, 3.0)]
    both = paint([one, other])
    assert torch.equal(both, torch.maximum(paint([one]), paint([other])))
    assert (both.min(), both.max()) == (-1, 1)


def test_typed_pictures_are_what_was_typed() -> None:
    picture = typed(
        """
        .#
        +.
        """,
        size=4,
    )
    expected = [[-1, -1, 1, 1], [-1, -1, 1, 1], [0, 0, -1, -1], [0, 0, -1, -1]]
    assert picture[0, 0].tolist() == expected
    assert typed("....... " * 7).shape == (1, 1, 28, 28)


# --- Measures -------------------------------------------------------------------------------------


def test_faithfulness_has_its_ends() -> None:
    x, strangers = normal(5, 1, 8, 8), normal(5, 1, 8, 8, seed=1)
    assert faithfulness(x, x, strangers) == 1
    assert faithfulness(strangers, x, strangers) == 0
    assert faithfulness(2 * strangers - x, x, strangers) == 0
    halfway = (x + strangers) / 2
    assert faithfulness(halfway, x, strangers) == pytest.approx(0.75)


def test_faithfulness_does_not_see_what_is_finer_than_its_squares() -> None:
    x, strangers = normal(3, 1, 8, 8), normal(3, 1, 8, 8, seed=1)
    grain = torch.tensor([1.0, -1.0]).repeat(4)[None, None, None, :]
    assert faithfulness(x + grain, x, strangers, block=2) == pytest.approx(1)
    assert faithfulness(x + grain, x, strangers, block=1) < 0.6


def test_realism_has_its_ends() -> None:
    images, _ = mnist("test")
    real = fit_gaussian(judge_features(load_judge(), images[1000:4000]))
    x = coarse(images[:200])
    assert realism(x, x, real) == 0
    assert realism(images[:200], x, real) > 0.9
    assert realism(normal(200, 1, 28, 28).clamp(-1, 1), x, real) == 0


def test_balance_is_scipys_harmonic_mean() -> None:
    f, r = (torch.rand(50, generator=seeded(i), dtype=torch.float64) + 0.01 for i in (0, 1))
    assert np.abs(balance(f, r).numpy() - stats.hmean(torch.stack([f, r]).numpy())).max() < 1e-12
    assert balance(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 0.7])).tolist() == [0, 0]


# --- The same t at another size -------------------------------------------------------------------


@each_schedule
@pytest.mark.parametrize(("k", "t"), [(2, 300), (4, 500), (9, 500), (9, 700)])
def test_averaged_down_the_large_picture_has_the_matched_levels_snr(
    schedule: str, k: int, t: int
) -> None:
    """Noise a large picture of large squares, average it down, and measure signal and noise."""
    alpha_bars = ALPHA_BARS[schedule].double()
    small = torch.sign(normal(1, 1, 100, 100, dtype=torch.float64))
    large = small.repeat_interleave(k, dim=2).repeat_interleave(k, dim=3)
    xt = torch.nn.functional.avg_pool2d(noise_to(large, t, alpha_bars, seeded(7)), k)
    scale = float((xt * small).mean())  # small is ±1: the least-squares factor
    measured = scale**2 / float((xt - scale * small).var())
    matched = snr_matched_t(t, alpha_bars, 28 * k, 28)
    assert measured == pytest.approx(float(snr(alpha_bars)[matched]), rel=0.06)


def test_256_pixels_to_28_from_the_schedules_own_formulas() -> None:
    factor = (256 / 28) ** 2
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, T))
    ratio = alpha_bar / (1 - alpha_bar)
    linear = int(np.abs(np.log(ratio / (factor * ratio[500]))).argmin())
    assert snr_matched_t(500, ALPHA_BARS["linear"], 256, 28) == linear
    # Cosine: ᾱ after step t is f(t + 1)/f(0), f = cos², so that its inverse is an arc cosine.
    f0 = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    a = math.cos((0.501 + 0.008) / 1.008 * math.pi / 2) ** 2 / f0
    wanted = factor * a / (1 - a)
    u = math.acos(math.sqrt(f0 * wanted / (1 + wanted))) * 2 / math.pi * 1.008 - 0.008
    assert abs(snr_matched_t(500, ALPHA_BARS["cosine"], 256, 28) - (u * T - 1)) <= 1


@each_schedule
def test_matching_goes_back_and_forth_and_in_order(schedule: str) -> None:
    alpha_bars = ALPHA_BARS[schedule]
    for t in (200, 500, 800):
        down = [snr_matched_t(t, alpha_bars, size, 28) for size in (28, 56, 112, 256)]
        assert down[0] == t
        assert all(a > b for a, b in pairwise(down))
        assert abs(snr_matched_t(down[-1], alpha_bars, 28, 256) - t) <= 5


def test_matching_crosses_schedules() -> None:
    for t in (100, 500, 900):
        other = snr_matched_t(t, ALPHA_BARS["linear"], 28, 28, ALPHA_BARS["cosine"])
        log_snr = {name: snr(alpha_bars).log() for name, alpha_bars in ALPHA_BARS.items()}
        off = float(log_snr["cosine"][other] - log_snr["linear"][t])
        gap = float(log_snr["cosine"][other - 1] - log_snr["cosine"][other + 1])
        assert abs(off) < gap / 2


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [-1, 1000])
def test_a_t_out_of_range_is_refused(t: int) -> None:
    x, alpha_bars = normal(*SHAPE), ALPHA_BARS["linear"]
    with pytest.raises(ValueError, match=r"t lies in 0…999"):
        noise_to(x, t, alpha_bars)
    with pytest.raises(ValueError, match=r"t lies in 0…999"):
        list(sdedit(mixing, x, alpha_bars, t))


@pytest.mark.parametrize("strength", [0.0, 0.01, -0.3, 1.2])
def test_a_strength_without_a_call_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="strength"):
        strength_timesteps(strength, 20, T)


@pytest.mark.parametrize("strokes", [[], [[]], [[(1.0, 1.0)], []]])
def test_nothing_to_paint_is_refused(strokes: Any) -> None:
    with pytest.raises(ValueError, match="no stroke"):
        paint(strokes)


@pytest.mark.parametrize("text", ["", "..\n.", ".x\n..", "...\n...\n..."])
def test_a_picture_that_is_not_typed_right_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="n lines of n characters"):
        typed(text)
