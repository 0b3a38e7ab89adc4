"""Lesson 12 against scipy, finite differences and brute force, and what its attacks promise."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DModel
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize
from torch import Tensor, nn

from course.atkpdm import (
    Budget,
    Victim,
    at_psnr,
    atkpdm,
    atkpdm_plus,
    feature_loss,
    load_victim,
    project,
    ssim,
    wasserstein2,
)
from course.atkpdm.attack import ascend, over_noise
from course.atkpdm.autopsy import washed_out, wrapped_psnr
from course.atkpdm.baselines import (
    advdm,
    anothers,
    denoising_loss,
    diff_protect,
    encoder_attack,
    low_frequencies,
    sds_gradient,
    wander,
    white_noise,
)
from course.atkpdm.budgets import keep_faithful, radius, random_start, settle, slope
from course.atkpdm.distance import feature_l2, published_distance
from course.atkpdm.latent_attack import decode, encode
from course.atkpdm.purifiers import (
    as_published,
    bit_depth,
    blur,
    diffpure,
    jpeg,
    mixed,
    purifiers,
    resize,
    straight_through,
)
from course.atkpdm.victims import as_victim, features, layer_outputs, random_twin
from course.latent_diffusion import psnr


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def by_scipy(x: Tensor, y: Tensor) -> float:
    """The distance of two maps (c, h, w) by matrix square roots of their covariances."""
    a, b = (z.flatten(1).numpy() for z in (x, y))
    cov_a, cov_b = (np.atleast_2d(np.cov(z, bias=True)) for z in (a, b))
    root = sqrtm(cov_a)
    cross = sqrtm(root @ cov_b @ root)
    means = np.square(a.mean(axis=1) - b.mean(axis=1)).sum()
    return float(np.real(means + np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(cross)))


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 3), (8, 4, 4), (5, 2, 9)])
def test_the_distance_is_scipys(shape: tuple[int, int, int]) -> None:
    x, y = normal(2, *shape), 1.5 * normal(2, *shape, seed=1) + 0.3
    ours = wasserstein2(x, y)
    expected = [by_scipy(a, b) for a, b in zip(x, y, strict=True)]
    torch.testing.assert_close(ours, torch.tensor(expected).double(), rtol=1e-6, atol=1e-6)


def test_it_is_exact_where_the_covariances_are_singular() -> None:
    """Fewer positions than channels: between diagonal covariances the distance is known."""
    x, y = torch.zeros(1, 6, 1, 2).double(), torch.zeros(1, 6, 1, 2).double()
    x[0, 0, 0] = torch.tensor([-1.0, 1.0])
    y[0, 0, 0] = torch.tensor([-3.0, 3.0])
    assert wasserstein2(x, y).item() == pytest.approx(4)  # (3 − 1)², along one axis
    y[0, 0], y[0, 1] = 0, x[0, 0]
    assert wasserstein2(x, y).item() == pytest.approx(2)  # variance 1 here, variance 1 there


def test_a_permutation_of_the_positions_changes_nothing() -> None:
    x = normal(1, 4, 5, 5)
    shuffled = x.flatten(2)[..., torch.randperm(25, generator=torch.Generator().manual_seed(2))]
    assert abs(wasserstein2(x, shuffled.reshape(x.shape)).item()) < 1e-12
    y = normal(1, 4, 5, 5, seed=3)
    torch.testing.assert_close(wasserstein2(shuffled.reshape(x.shape), y), wasserstein2(x, y))


def test_value_and_gradient_vanish_between_equal_maps() -> None:
    """So an attack that starts at the image itself would follow rounding noise."""
    x = normal(1, 4, 4, 4)
    moved = x.clone().requires_grad_()
    value = wasserstein2(moved, x)
    (gradient,) = torch.autograd.grad(value.sum(), moved)
    assert abs(value.item()) < 1e-12
    assert gradient.abs().max() < 1e-12
    elsewhere = (x + 0.1 * normal(1, 4, 4, 4, seed=4)).requires_grad_()
    (gradient,) = torch.autograd.grad(wasserstein2(elsewhere, x).sum(), elsewhere)
    assert gradient.abs().max() > 1e-4


@pytest.mark.parametrize("shape", [(1, 3, 2, 3), (2, 2, 3, 3)])
def test_gradient_by_finite_differences(shape: tuple[int, ...]) -> None:
    """Of x as well as of y: full-rank clouds, where the distance is smooth."""
    maps = (normal(*shape).requires_grad_(), normal(*shape, seed=5).requires_grad_())
    assert torch.autograd.gradcheck(wasserstein2, maps)


def test_equal_singular_values_have_a_finite_gradient() -> None:
    x = torch.eye(4).double().reshape(1, 4, 2, 2).requires_grad_()
    y = 2 * torch.eye(4).double().reshape(1, 4, 2, 2)
    (gradient,) = torch.autograd.grad(wasserstein2(x, y).sum(), x)
    assert gradient.isfinite().all()


def test_maps_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        wasserstein2(normal(1, 2, 3, 3), normal(1, 2, 3, 4))


def test_plain_l2_is_never_below_the_wasserstein_distance() -> None:
    """It is the cost of one pairing of the positions; the other is the least over Gaussians'."""
    x, y = normal(5, 3, 4, 4), normal(5, 3, 4, 4, seed=1)
    assert bool((feature_l2(x, y) >= wasserstein2(x, y)).all())
    torch.testing.assert_close(feature_l2(x, x + 2), torch.full((5,), 12.0).double())


def test_the_published_variant_is_negative_between_equal_maps() -> None:
    """Six channels, two positions: at least five eigenvalues are 0 and count as 0.1."""
    x = normal(1, 6, 1, 2)
    assert published_distance(x, x).item() == pytest.approx(-2 * 5 * math.sqrt(0.1), abs=1e-3)
    assert published_distance(x, x, floor=0.0).item() == pytest.approx(0, abs=1e-5)


# --- Victims --------------------------------------------------------------------------------------

SIZE = 16


@pytest.fixture(scope="module")
def victim() -> Victim:
    """A DDPM in diffusers' format, at the least size and with weights that nothing trained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=SIZE,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
            norm_num_groups=4,
        )
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    return as_victim("tiny", unet, scheduler)


@pytest.fixture(scope="module")
def vae() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=4,
        )
    return model.eval().requires_grad_(False)


def pictures(n: int = 2, channels: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, SIZE, SIZE, generator=generator) * 1.6 - 0.8


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hooks_of(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) for m in network.modules())


def test_predicted_v_becomes_predicted_noise(victim: Victim) -> None:
    """Against the x̂_0 that diffusers' own scheduler takes from v."""
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False
    )
    xt, t = pictures(1), torch.tensor([300])
    with torch.no_grad():
        v, eps_hat = victim.network(xt, t).sample, victim.eps_model(xt, t)
    x0 = scheduler.step(v, 300, xt).pred_original_sample
    alpha_bar = victim.alpha_bars[300]
    torch.testing.assert_close(alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps_hat, xt)


def test_features_come_by_name_and_leave_no_hook(victim: Victim) -> None:
    both = replace(victim, layers=("mid_block", "down_blocks.0"))
    found = features(both, pictures(), torch.tensor([5, 900]))
    assert {k: tuple(x.shape) for k, x in found.items()} == {
        "mid_block": (2, 16, 8, 8),
        "down_blocks.0": (2, 8, 8, 8),
    }
    assert list(found) == ["mid_block", "down_blocks.0"]
    assert hooks_of(victim.network) == 0


def test_a_network_that_breaks_keeps_no_hook(victim: Victim) -> None:
    with pytest.raises(RuntimeError):
        layer_outputs(
            victim.network, ["mid_block"], lambda: victim.network(torch.zeros(1, 5, 8, 8), 0)
        )
    assert hooks_of(victim.network) == 0


def test_an_unknown_layer_is_answered_with_the_real_ones(victim: Victim) -> None:
    with pytest.raises(ValueError, match=r"'middle'; there are .*mid_block"):
        layer_outputs(victim.network, ["middle"], lambda: None)
    with pytest.raises(ValueError, match=r"'mid_block'; there are .*middle"):
        load_victim("mnist-ddpm", ["mid_block"])


def test_the_middle_costs_no_way_up(victim: Victim) -> None:
    ran = []
    first: Any = victim.network.get_submodule("up_blocks.0")
    hook = first.register_forward_hook(lambda *_: ran.append(1))
    features(victim, pictures(), torch.tensor([1, 2]))
    hook.remove()
    assert not ran


def test_an_untrained_twin_is_another_network(victim: Victim) -> None:
    before = {k: x.clone() for k, x in victim.network.state_dict().items()}
    twin = random_twin(victim, seed=3)
    x, t = pictures(), torch.tensor([10, 20])
    assert not torch.allclose(
        features(twin, x, t)["mid_block"], features(victim, x, t)["mid_block"]
    )
    again = random_twin(victim, seed=3)
    assert torch.equal(features(twin, x, t)["mid_block"], features(again, x, t)["mid_block"])
    assert all(torch.equal(before[k], x) for k, x in victim.network.state_dict().items())


def test_mnists_network_is_a_victim() -> None:
    mnist = load_victim("mnist-ddpm", ["down2", "middle"])
    found = features(mnist, torch.zeros(1, 1, 28, 28), torch.tensor([100]))
    assert {k: x.shape[-1] for k, x in found.items()} == {"down2": 7, "middle": 7}


# --- The loss -------------------------------------------------------------------------------------


def test_at_the_picture_itself_there_is_no_slope_and_at_a_random_start_there_is(
    victim: Victim,
) -> None:
    x, t = pictures(), torch.tensor([50, 400])
    eps = normal(2, 3, SIZE, SIZE).float()
    at_x = slope(lambda z: feature_loss(victim, x, z, t, eps), x)
    start = random_start(x, 25, seeded())
    away = slope(lambda z: feature_loss(victim, x, z, t, eps), start)
    assert at_x.abs().max() < 1e-2 * away.abs().max()
    assert psnr(x, start).min() > 25


def test_the_expectation_is_the_mean_over_its_draws(victim: Victim) -> None:
    x, told = pictures(), []

    def loss(x: Tensor, x_adv: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        told.append((t, eps))
        return t.float() + (x_adv - x).flatten(1).sum(dim=1)

    value = over_noise(loss, x, (3, 7), draws=50, generator=seeded())(x)
    t, eps = told[0]
    assert sorted(set(t.tolist())) == [3, 4, 5, 6, 7]
    torch.testing.assert_close(value, t.reshape(50, 2).float().mean(dim=0))
    assert abs(eps.mean()) < 0.05
    assert eps.shape == (100, 3, SIZE, SIZE)


# --- Budgets --------------------------------------------------------------------------------------


def test_ssim_by_brute_force() -> None:
    """Window by window, in NumPy."""
    x, y = pictures(1, 1).double(), (pictures(1, 1) + 0.2 * pictures(1, 1, seed=1)).double()
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    weights = np.outer(line, line) / np.outer(line, line).sum()
    values = []
    for i in range(SIZE - 10):
        for j in range(SIZE - 10):
            a, b = (z[0, 0, i : i + 11, j : j + 11].numpy() for z in (x, y))
            ma, mb = (weights * a).sum(), (weights * b).sum()
            va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
            cov = (weights * (a - ma) * (b - mb)).sum()
            c1, c2 = 0.02**2, 0.06**2
            values.append(
                (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
            )
    assert ssim(x, y).item() == pytest.approx(np.mean(values), abs=1e-6)
    assert ssim(x, x).item() == pytest.approx(1)


def test_the_projection_is_the_nearest_point() -> None:
    """Against a general solver, with both constraints binding."""
    x = torch.tensor([0.9, -0.95, 0.1, 0.0]).double().reshape(1, 1, 2, 2)
    x_adv = torch.tensor([2.0, -1.5, 0.9, -0.6]).double().reshape(1, 1, 2, 2)
    ours, r = project(x_adv, x, 12), radius(x, 12)
    flat, aim = x.flatten().numpy(), x_adv.flatten().numpy()
    found = minimize(
        lambda z: ((z - aim) ** 2).sum(),
        flat,
        bounds=[(-1, 1)] * 4,
        constraints={"type": "ineq", "fun": lambda z: r**2 - ((z - flat) ** 2).sum()},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(ours.flatten().numpy(), found.x, atol=1e-5)
    assert psnr(x, ours).item() == pytest.approx(12, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.001, 20), st.floats(10, 40))
def test_what_is_projected_is_within_both_and_stays(seed: int, size: float, least: float) -> None:
    x = pictures(3, seed=seed).double()
    x_adv = x + size * normal(3, 3, SIZE, SIZE, seed=seed)
    inside = project(x_adv, x, least)
    assert psnr(x, inside).min() >= least - 1e-6
    assert inside.abs().max() <= 1
    torch.testing.assert_close(project(inside, x, least), inside, atol=1e-9, rtol=0)
    allowed = project(x + 1e-4 * (x_adv - x) / size, x, 60)
    torch.testing.assert_close(allowed, x + 1e-4 * (x_adv - x) / size)


@pytest.mark.parametrize("wanted", [15, 25, 40])
def test_methods_are_compared_at_exactly_one_psnr(wanted: float) -> None:
    x = pictures(3).double()
    noise = torch.stack([normal(3, SIZE, SIZE, seed=k) * 10.0**k for k in (-3, 0, 1)])
    same = at_psnr(x + noise, x, wanted)
    torch.testing.assert_close(psnr(x, same), torch.full((3,), wanted).double())
    assert same.abs().max() <= 1


def test_where_the_cut_forbids_a_psnr_the_largest_perturbation_is_taken() -> None:
    white = torch.ones(1, 1, 2, 2)
    assert torch.equal(at_psnr(white + 0.5, white, 25), white)
    with pytest.raises(ValueError, match="no perturbation"):
        at_psnr(white, white.clone(), 25)


def test_a_budget_of_distance_holds_afterwards() -> None:
    far: Callable[[Tensor], Tensor] = lambda z: z.flatten(1).square().sum(dim=1)  # noqa: E731
    z = normal(4, 1, 3, 3)
    kept = keep_faithful(z, far, 0.5, most=30)
    assert far(kept).max() <= 0.5 + 1e-3
    within = far(z) <= 0.5
    assert torch.equal(kept[within], z[within])
    settled = settle(z, torch.zeros_like(z), far, 0.3)
    assert far(settled).max() <= 0.3
    assert far(settled).min() > 0.29


# --- Attacks --------------------------------------------------------------------------------------

QUICK = Budget(psnr=25, steps=6, step_size=0.05, draws=2, levels=(100, 300))


def apart(x: Tensor, y: Tensor) -> Tensor:
    """A stand-in for a perceptual distance: of the pictures' blurred selves."""
    return (blur(x, 2) - blur(y, 2)).square().flatten(1).mean(dim=1)


def judged(victim: Victim, x: Tensor, x_adv: Tensor) -> float:
    """The mean feature distance over fresh draws."""
    seen = over_noise(lambda *given: feature_loss(victim, *given), x, QUICK.levels, 20, seeded(99))
    with torch.no_grad():
        return float(seen(x_adv).mean())


def test_atkpdm_moves_features_further_than_noise_does_and_keeps_its_budgets(
    victim: Victim,
) -> None:
    x = pictures()
    *_, x_adv = atkpdm(victim, x, QUICK, generator=seeded())
    assert psnr(x, x_adv).min() >= 25 - 1e-4
    assert x_adv.abs().max() <= 1
    moved = judged(victim, x, at_psnr(x_adv, x, 25))
    assert moved > 1.5 * judged(victim, x, white_noise(x, 25, seeded(5)))
    *_, again = atkpdm(victim, x, QUICK, generator=seeded())
    assert torch.equal(again, x_adv)


@pytest.mark.parametrize("delta", [1e-5, 1e-3])
def test_the_fidelity_budget_holds(victim: Victim, delta: float) -> None:
    x, budget = pictures(), replace(QUICK, delta=delta)
    *_, x_adv = atkpdm(victim, x, budget, perceptual=apart, generator=seeded())
    assert apart(x_adv, x).max() <= delta
    assert psnr(x, x_adv).min() >= 25 - 1e-4
    assert (x_adv != x).any()


def test_an_attack_through_purifiers_sees_them(victim: Victim) -> None:
    x = pictures()
    plain, through = (
        list(atkpdm(victim, x, QUICK, purify=purify, generator=seeded()))[-1]
        for purify in (None, straight_through(lambda x: bit_depth(x, 2)))
    )
    assert not torch.allclose(plain, through)


@pytest.mark.parametrize("residual", [True, False])
def test_the_latent_attack_keeps_its_budgets_and_moves_features(
    victim: Victim, vae: Any, residual: bool
) -> None:
    x = decode(vae, encode(vae, pictures())).detach().clamp(-1, 1)
    walk = list(
        atkpdm_plus(
            victim,
            vae,
            x,
            replace(QUICK, delta=0.02, step_size=0.2),
            perceptual=apart,
            residual=residual,
            generator=seeded(),
        )
    )
    assert psnr(x, walk[-1]).min() >= 25 - 1e-3
    assert apart(walk[-1], x).max() <= 0.02
    if residual:
        assert judged(victim, x, walk[-2]) > judged(victim, x, walk[0])


def test_a_budget_that_the_vae_alone_breaks_is_said_so(victim: Victim, vae: Any) -> None:
    budget = replace(QUICK, delta=1e-9)
    with pytest.raises(ValueError, match=r"broken before the attack: .* Raise delta"):
        next(atkpdm_plus(victim, vae, pictures(), budget, perceptual=apart, residual=False))


def test_a_gradient_that_is_not_finite_stops_and_the_best_so_far_stands() -> None:
    slopes = iter([1.0, 1.0, math.nan])
    with pytest.warns(UserWarning, match="Step 2: the gradient is not finite"):
        walk = list(
            ascend(
                torch.zeros(1, 1),
                lambda z: torch.full_like(z, next(slopes)),
                lambda z: z.clamp(-1, 1),
                steps=10,
                step_size=0.25,
            )
        )
    assert [z.item() for z in walk] == [0, 0.25, 0.5]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 1, SIZE, SIZE), r"tiny edits pictures \(b, 3, 16, 16\), not"),
        (torch.zeros(3, SIZE, SIZE), "edits pictures"),
        (torch.full((1, 3, SIZE, SIZE), 200.0), r"lie in \[−1, 1\]"),
        (torch.full((1, 3, SIZE, SIZE), math.nan), r"lie in \[−1, 1\]"),
    ],
)
def test_pictures_that_are_not_the_victims_are_refused(
    victim: Victim, x: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        next(atkpdm(victim, x, QUICK))


def test_a_budget_of_distance_needs_a_distance(victim: Victim) -> None:
    with pytest.raises(ValueError, match="needs `perceptual`"):
        next(atkpdm(victim, pictures(), replace(QUICK, delta=0.1)))


# --- Baselines ------------------------------------------------------------------------------------


def test_sds_is_the_gradient_where_the_networks_jacobian_is_the_identity() -> None:
    """A network that puts out x_t + c: the whole gradient of ½‖ε̂ − ε‖² is SDS."""
    alpha_bars = torch.linspace(0.99, 0.01, 10)
    shift = Victim("shift", nn.Identity(), lambda xt, t: xt + 0.3, alpha_bars, 4, 1, ())
    x, t, eps = normal(2, 1, 4, 4).float(), torch.tensor([2, 7]), normal(2, 1, 4, 4, seed=1).float()
    whole = slope(lambda z: denoising_loss(shift, z, t, eps) * 16 / 2, x)
    torch.testing.assert_close(sds_gradient(shift, x, t, eps), whole)


def test_advdm_climbs_its_loss_and_diff_protect_goes_both_ways(victim: Victim) -> None:
    x = pictures()

    def wrong(x_adv: Tensor) -> float:
        seen = over_noise(
            lambda x, z, t, eps: denoising_loss(victim, z, t, eps), x, QUICK.levels, 20, seeded(9)
        )
        with torch.no_grad():
            return float(seen(x_adv).mean())

    up = advdm(victim, x, QUICK, seeded())
    assert wrong(up) > wrong(x)
    sds = {s: diff_protect(victim, x, QUICK, seeded(), sign=s) for s in (1.0, -1.0)}
    assert wrong(sds[1.0]) > wrong(sds[-1.0])
    for x_adv in (up, *sds.values(), wander(x, QUICK, apart, seeded())):
        assert psnr(x, x_adv).min() >= 25 - 1e-4


def test_the_encoder_attack_moves_latents(vae: Any) -> None:
    x = pictures()
    x_adv = encoder_attack(vae, x, QUICK, seeded())
    moved = (encode(vae, x_adv) - encode(vae, x)).norm()
    assert moved > (encode(vae, white_noise(x, 25, seeded(1))) - encode(vae, x)).norm()


def test_perturbations_that_know_nothing() -> None:
    x = pictures(3)
    torch.testing.assert_close(psnr(x, white_noise(x, 20, seeded())), torch.full((3,), 20.0))
    smooth = low_frequencies(torch.zeros(1, 1, 64, 64), cells=4, generator=seeded())
    power = torch.fft.fft2(smooth).abs().square()[0, 0]
    assert power[:8, :8].sum() + power[:8, -8:].sum() > 0.4 * power.sum()
    x_adv = x + 0.1 * torch.arange(1, 4).reshape(3, 1, 1, 1)
    given = (anothers(x_adv, x, 40) - x).flatten(1).mean(dim=1)
    assert bool((given > 0).all())
    with pytest.raises(ValueError, match="two pictures"):
        anothers(x[:1], x[:1] + 0.1, 40)


# --- Purifiers ------------------------------------------------------------------------------------


def test_blur_is_scipys() -> None:
    x = pictures(1, 1).double()
    theirs = gaussian_filter(x[0, 0].numpy(), 1.0, mode="nearest", radius=3)
    torch.testing.assert_close(blur(x)[0, 0], torch.from_numpy(theirs))


def test_purifiers_keep_the_shape_and_repeat_themselves(victim: Victim) -> None:
    for channels in (1, 3):
        x = pictures(2, channels)
        for name, purify in purifiers(victim).items():
            if name == "DiffPure" and channels == 1:
                continue
            pure = purify(x)
            assert pure.shape == x.shape, name
            assert torch.equal(pure, purify(x)), name
            assert torch.equal(pure, x) == (name == "none"), name


def test_what_purifiers_do_to_pictures_they_should_leave_alone() -> None:
    flat = torch.full((1, 3, SIZE, SIZE), 0.25)
    for purify in (blur, resize):
        torch.testing.assert_close(purify(flat), flat)
    assert (jpeg(flat, 90) - flat).abs().max() < 2 / 127.5
    assert sorted(set(bit_depth(pictures(), 1).flatten().tolist())) == [-1, 1]
    x = as_published(pictures())
    assert torch.equal(as_published(x), x)
    assert (x - pictures()).abs().max() <= 0.5 / 127.5 + 1e-6


def test_a_little_diffusion_changes_a_little(victim: Victim) -> None:
    x = pictures()
    near, far = (diffpure(x, victim, t, steps=3, generator=seeded()) for t in (5, 600))
    assert (near - x).abs().mean() < (far - x).abs().mean()


def test_each_part_of_a_batch_meets_its_own_purifier() -> None:
    x = pictures(4).requires_grad_()
    pure = mixed({"a": lambda x: x, "b": torch.zeros_like})(x)
    assert torch.equal(pure[:2], x[:2])
    assert pure[2:].abs().max() < 1e-6
    (g,) = torch.autograd.grad(pure.sum(), x)
    assert torch.equal(g, torch.ones_like(g))


# --- Autopsy --------------------------------------------------------------------------------------


def test_bytes_that_wrap_end_near_28_db() -> None:
    x, y = pictures(3), pictures(3, seed=1)
    assert psnr(x, y).max() < 10
    assert 26 < wrapped_psnr(x, y).min() <= wrapped_psnr(x, y).max() < 30


def test_normalising_twice_halves_every_distance() -> None:
    x, y = pictures(3), pictures(3, seed=1)
    twice = psnr(washed_out(x), washed_out(y))
    torch.testing.assert_close(twice, psnr(x, y) + 20 * math.log10(2))
