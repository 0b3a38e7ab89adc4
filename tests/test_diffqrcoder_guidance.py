"""DiffQRCoder's guidance, objective, refinement and pipeline, on networks of a few weights."""

import copy
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, DDIMScheduler
from PIL import Image
from torch import Tensor, nn

from course import cli
from course.diffqrcoder import codes, create, guidance, objective, refinement
from course.diffqrcoder.codes import PlacedCode, unmet
from course.diffqrcoder.create import try_seeds
from course.diffqrcoder.objective import Weights
from course.diffqrcoder.pipeline import DiffQRCoderPipeline, Guidance, _Walk, conditions
from course.errors import CourseError
from course.forward_process import q_sample
from course.qr_codes import function_mask, make_code, render, scan
from course.recipes.scenery import controlnet, unet, vae
from course.recipes.scenery.clip import TinyCLIP, build_tokenizer
from course.sampling import predict_x0, to_eps
from course.scenery_models import ImageEncoder

ALPHA_BARS = torch.linspace(0.999, 0.01, 1000)
CODE = make_code("https://example.org", 3, "M")
PLACED = PlacedCode(CODE)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def far_apart(a: Tensor, b: Tensor) -> Tensor:
    """A perceptual distance for tests: the mean squared difference."""
    return (a - b).square().mean(dim=(1, 2, 3))


# --- A code in its place --------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "grid", "place"), [(29, 40, 6), (29, 37, 4), (21, 40, 10)])
def test_a_code_lies_on_latent_cells_where_there_is_room(n: int, grid: int, place: int) -> None:
    placed = PlacedCode(make_code("hello", (n - 17) // 4, "M"), grid)
    assert placed.place == place
    assert grid - place - n >= codes.QUIET


def test_the_target_is_the_printed_code_with_a_white_margin() -> None:
    printed = render(CODE, 4, 6)[..., :160, :160]
    assert torch.equal(PLACED.target, printed)
    assert torch.equal(PLACED.crop(PLACED.target), render(CODE, 4, 0))


def test_patterns_and_quiet_zone_are_where_the_standard_has_them() -> None:
    inside = PLACED.crop(PLACED.patterns)[0, 0, ::4, ::4]
    assert torch.equal(inside, function_mask(3))
    assert not PLACED.crop(PLACED.quiet).any()
    assert PLACED.quiet.sum() == ((29 + 8) ** 2 - 29**2) * 16


def test_a_code_too_large_for_its_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="need a picture of 37 modules, not 36"):
        PlacedCode(CODE, 36)
    with pytest.raises(ValueError, match="3 pixels or more, not 2"):
        PlacedCode(CODE, 40, 2)


def test_nothing_is_unmet_in_the_code_itself_and_everything_in_its_negative() -> None:
    image = PLACED.target.expand(2, 3, -1, -1).clone()
    image[1] = 1 - image[1]
    modules, spent, patterns = unmet(image, PLACED)
    assert modules.tolist() == [0, 1]
    assert spent[0] == 0
    assert spent[1] > 1
    assert patterns.tolist() == [0, int(function_mask(3).sum())]


def test_slack_asks_for_more_than_the_right_side() -> None:
    pale = (0.56 - 0.12 * (1 - PLACED.target)).expand(1, 3, -1, -1)  # 0.56 and 0.44
    assert unmet(pale, PLACED).modules == 0
    assert unmet(pale, PLACED, slack=0.05).modules == 0
    assert unmet(pale, PLACED, slack=0.07).modules == 1


def test_one_wrong_codeword_is_one_share_of_the_budget() -> None:
    image = PLACED.target.expand(1, 3, -1, -1).clone()
    rows, columns = torch.nonzero(~function_mask(3), as_tuple=True)
    i, j = (4 * (6 + int(k[0])) for k in (rows, columns))
    image[..., i : i + 4, j : j + 4] = 1 - image[..., i : i + 4, j : j + 4]
    assert unmet(image, PLACED).spent.item() == pytest.approx(1 / 13)


# --- The objective --------------------------------------------------------------------------------


def test_the_code_itself_costs_nothing() -> None:
    image = PLACED.target.expand(1, 3, -1, -1)
    assert objective.code_loss(image, PLACED, Weights()).item() == 0


def test_pattern_and_quiet_losses_by_hand() -> None:
    black = torch.zeros(1, 3, 160, 160)
    white = 1 - black
    light = PLACED.target[PLACED.patterns].mean().item()  # the share of light pattern pixels
    assert objective.pattern_loss(black, PLACED).item() == pytest.approx(light * 1.5)
    assert objective.pattern_loss(white, PLACED).item() == pytest.approx((1 - light) * 1.3)
    assert objective.quiet_loss(black, PLACED).item() == pytest.approx(1.5)
    assert objective.quiet_loss(0.7 * white, PLACED).item() == pytest.approx(0.1, abs=1e-5)
    assert objective.quiet_loss(0.75 * white, PLACED).item() == pytest.approx(0, abs=1e-6)


def test_a_batch_costs_what_its_images_cost_alone() -> None:
    images, reference = normal(3, 3, 160, 160).mul(0.2).add(0.5), normal(3, 3, 160, 160, seed=1)
    how = (Weights(), far_apart)
    together = objective.objective(images, PLACED, reference, *how)
    alone = [
        objective.objective(a, PLACED, b, *how)
        for a, b in zip(images.split(1), reference.split(1), strict=True)
    ]
    assert torch.allclose(together, torch.cat(alone))


def test_each_weight_weighs_its_own_part() -> None:
    image, reference = normal(1, 3, 160, 160).mul(0.3).add(0.5), torch.full((1, 3, 160, 160), 0.5)

    def cost(**weights: float) -> float:
        none = {"scan": 1.0, "perceptual": 0.0, "pattern": 0.0, "quiet": 0.0}
        chosen = Weights(**{**none, **weights})
        return objective.objective(image, PLACED, reference, chosen, far_apart).item()

    plain = cost()
    pattern = objective.pattern_loss(image, PLACED).item()
    quiet = objective.quiet_loss(image, PLACED).item()
    apart = far_apart(2 * image - 1, 2 * reference - 1).item()
    assert cost(pattern=3) == pytest.approx(plain + 3 * pattern, rel=1e-5)
    assert cost(quiet=5) == pytest.approx(plain + 5 * quiet, rel=1e-5)
    assert cost(perceptual=7) == pytest.approx(plain + 7 * apart, rel=1e-5)
    assert cost(scan=2) == pytest.approx(2 * plain, rel=1e-5)


def test_lpips_without_its_backbone_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CourseError, match="perceptual_distance"):
        objective.lpips_distance()


def test_lpips_has_a_gradient() -> None:
    lpips = pytest.importorskip("lpips")
    network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    distance = objective._per_image(network)
    a = normal(2, 3, 64, 64).tanh().requires_grad_()
    losses = distance(a, normal(2, 3, 64, 64, seed=1).tanh())
    assert losses.shape == (2,)
    (gradient,) = torch.autograd.grad(losses.sum(), a)
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_the_distance_goes_where_the_pictures_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's "meta" stands for a GPU: it, too, refuses to mix with tensors of the CPU."""
    encoder = ImageEncoder({"sky": 2}, (4, 4, 4, 4), 8).eval()
    monkeypatch.setattr(objective, "load_image_encoder", lambda: encoder)
    a, b = (torch.zeros(2, 3, 32, 32, device="meta") for _ in range(2))
    assert objective.tiny_distance(a, b).device.type == "meta"
    assert objective._per_image(nn.PairwiseDistance())(a, b).shape == (2 * 3 * 32,)
    assert objective.tiny_distance(*(normal(2, 3, 32, 32, seed=i) for i in (0, 1))).min() > 0
    assert {p.device.type for p in encoder.parameters()} == {"cpu"}


# --- SRPG -----------------------------------------------------------------------------------------


class Linear(nn.Module):
    """A network whose Jacobian is a number: k · z_t."""

    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = k

    def forward(self, zt: Tensor, t: Tensor) -> Tensor:
        return self.k * zt


def total(z: Tensor) -> Tensor:
    return z.sum(dim=(1, 2, 3))


@pytest.mark.parametrize("kind", ["eps", "v"])
def test_the_gradient_goes_through_the_network_or_past_it(kind: Any) -> None:
    k, t = 0.3, torch.tensor([100, 900])
    a = ALPHA_BARS[t].reshape(-1, 1, 1, 1)
    slope = {"eps": torch.full_like(a, k), "v": a.sqrt() * k + (1 - a).sqrt()}[kind]
    for jacobian, through in ((True, slope), (False, 0 * slope)):
        zt = normal(2, 1, 2, 2).requires_grad_()
        eps_hat, z0 = guidance.predicted_z0(Linear(k), zt, t, ALPHA_BARS, kind, jacobian)
        _, gradient = guidance.loss_gradient(total, z0, zt)
        assert torch.allclose(eps_hat, slope * zt, atol=1e-6)
        expected = (1 - (1 - a).sqrt() * through) / a.sqrt()
        assert torch.allclose(gradient, expected.expand_as(zt), rtol=1e-4)


@pytest.mark.parametrize("jacobian", [True, False])
def test_the_gradient_is_that_of_finite_differences(jacobian: bool) -> None:
    torch.manual_seed(0)
    network, t = nn.Conv2d(2, 2, 3, padding=1).double(), torch.tensor([300])

    def loss(z0: Tensor) -> Tensor:
        return z0.pow(3).sum(dim=(1, 2, 3))

    def call(z: Tensor, _: Tensor) -> Tensor:
        return network(z)

    bars = ALPHA_BARS.double()
    zt = normal(1, 2, 4, 4).double().requires_grad_()
    eps_hat, z0 = guidance.predicted_z0(call, zt, t, bars, "v", jacobian)
    _, gradient = guidance.loss_gradient(loss, z0, zt)

    def value(z: Tensor) -> Tensor:
        kept = eps_hat if not jacobian else to_eps(network(z), z, t, bars, "v")
        return loss(predict_x0(z, t, kept, bars))

    nudge = torch.zeros_like(zt)
    nudge[0, 1, 2, 1] = 1e-5
    with torch.no_grad():
        slope = (value(zt + nudge) - value(zt - nudge)) / 2e-5
    assert gradient[0, 1, 2, 1].item() == pytest.approx(slope.item(), rel=1e-6)


def test_the_papers_term_is_the_root_of_the_noise_times_the_gradient() -> None:
    gradient, t = normal(2, 1, 3, 3), torch.tensor([0, 999])
    term = guidance.srpg_term(gradient, t, ALPHA_BARS)
    expected = [(1 - ALPHA_BARS[i]).sqrt() * x for i, x in zip(t.tolist(), gradient, strict=True)]
    assert torch.allclose(term, torch.stack(expected))


@pytest.mark.parametrize("t", [5, 400, 990])
def test_a_step_moves_the_prediction_by_its_length_against_the_gradient(t: int) -> None:
    zt, eps_hat, gradient = (normal(2, 4, 5, 5, seed=i) for i in range(3))
    times, step = torch.full((2,), t), torch.tensor([0.3, 0.0])
    term = guidance.srpg_term(gradient, times, ALPHA_BARS, step)
    before = predict_x0(zt, times, eps_hat, ALPHA_BARS)
    moved = predict_x0(zt, times, eps_hat + term, ALPHA_BARS) - before
    assert moved[0].square().mean().sqrt().item() == pytest.approx(0.3, rel=1e-3)
    along = -gradient[0] / gradient[0].square().mean().sqrt() * 0.3
    assert torch.allclose(moved[0], along, atol=2e-3)
    assert torch.equal(moved[1], torch.zeros_like(moved[1]))


def test_for_a_network_of_v_the_term_is_divided_by_the_root_of_alpha_bar() -> None:
    zt, v, term, t = normal(1, 1, 3, 3), normal(1, 1, 3, 3, seed=1), normal(1, 1, 3, 3, seed=2), 600
    times = torch.tensor([t])
    bent = to_eps(v, zt, times, ALPHA_BARS, "v") + term
    same = to_eps(v + term / ALPHA_BARS[t].sqrt(), zt, times, ALPHA_BARS, "v")
    assert torch.allclose(bent, same, atol=1e-5)


def test_a_zero_gradient_stays_zero() -> None:
    assert torch.equal(guidance.unit(torch.zeros(1, 1, 2, 2)), torch.zeros(1, 1, 2, 2))


def test_steps_get_shorter_as_the_loss_does() -> None:
    lengths = guidance.step_length(torch.tensor([0.0, 0.25, 0.5, 3.0]), most=0.2, ease=0.5)
    assert torch.allclose(lengths, torch.tensor([0.0, 0.1, 0.2, 0.2]))


# --- SR-MPGD --------------------------------------------------------------------------------------


def test_a_step_of_mpgd_is_eta_times_the_gradient() -> None:
    z = normal(2, 1, 3, 3)
    moved = refinement.mpgd_step(z, lambda x: x.square().sum(dim=(1, 2, 3)), eta=0.1)
    assert torch.allclose(moved, z - 0.1 * 2 * z)
    assert not moved.requires_grad


def test_refinement_moves_only_what_is_not_done_and_counts() -> None:
    z = torch.tensor([1.0, 0.1, 100.0]).reshape(3, 1, 1, 1)
    refined, taken = refinement.refine(
        z,
        lambda x: x.square().sum(dim=(1, 2, 3)),
        lambda x: x.abs().amax(dim=(1, 2, 3)) > 0.3,
        eta=0.25,
        steps=4,
    )
    assert taken.tolist() == [2, 0, 4]  # each step halves
    assert torch.allclose(refined.flatten(), torch.tensor([0.25, 0.1, 6.25]))


# --- The pipeline ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipe() -> DiffQRCoderPipeline:
    """All parts at their least, their weights as they are born."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    text = TinyCLIP(len(tokenizer)).text
    denoiser: Any = unet.build_unet((16, 16, 16), 4, text.config.hidden_size)
    autoencoder: Any = vae.build_vae((8, 12, 16, 24), 4)
    parts = {
        "vae": autoencoder,
        "text_encoder": text,
        "tokenizer": tokenizer,
        "unet": denoiser,
        "controlnet": controlnet.build_controlnet(denoiser),
        "scheduler": unet.latent_scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
    }
    made = DiffQRCoderPipeline(**parts, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return made


QUICK = Guidance(refine_steps=1)


def run(
    pipe: Any, prompts: Any = "lake at night", texts: Any = "hi", seeds: Any = (0,), **how: Any
) -> Any:
    settings = {"num_inference_steps": 3, "perceptual": far_apart, "guidance": QUICK}
    generator = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipe(prompts, texts, generator=generator, output_type="pt", **{**settings, **how})


def test_it_gives_pictures_codes_and_reports(pipe: DiffQRCoderPipeline) -> None:
    out = run(pipe, keep_trajectory=True)
    assert out.images.shape == out.stage1.shape == (1, 3, 160, 160)
    assert 0 <= out.images.min() <= out.images.max() <= 1
    assert len(out.errors) == len(out.trajectory) == 2  # 0.6 of three steps
    assert out.reports[0].errors.shape == (29, 29)
    assert out.codes[0].side == 160


def test_the_same_seed_gives_the_same_picture_and_another_another(
    pipe: DiffQRCoderPipeline,
) -> None:
    first, again, other = (run(pipe, seeds=(seed,)).images for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_batch_is_its_pictures_one_by_one(pipe: DiffQRCoderPipeline) -> None:
    prompts, texts = ["lake at night", "snow"], ["hi", "https://example.org"]
    together = run(pipe, prompts, texts, (3, 4))
    for i, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        alone = run(pipe, prompt, text, (3 + i,))
        assert torch.equal(together.codes[i].code, alone.codes[0].code)
        assert (together.images[i] - alone.images[0]).abs().max() < 0.02


def test_guidance_brings_the_modules_towards_the_code(pipe: DiffQRCoderPipeline) -> None:
    still = dataclasses.replace(QUICK, step=0.0, refine_steps=0)
    pushed = dataclasses.replace(QUICK, step=1.0, refine_steps=0)
    losses = []
    for how in (still, pushed):
        out = run(pipe, guidance=how, num_inference_steps=8)
        losses.append(objective.code_loss(out.images, out.codes[0], Weights()).item())
    # An untrained decoder hardly changes its light; what it can, it does.
    assert losses[1] < 0.95 * losses[0]


def test_what_is_asked_for_can_be_left_out(pipe: DiffQRCoderPipeline) -> None:
    plain = run(pipe, guidance=dataclasses.replace(QUICK, qart=False))
    assert torch.equal(plain.codes[0].code, make_code("hi", 3, "M"))
    one = run(pipe, guidance=dataclasses.replace(QUICK, stage_two=False, refine_steps=0))
    assert one.errors == []
    assert one.refined.tolist() == [0]


def test_without_the_jacobian_the_picture_is_another(pipe: DiffQRCoderPipeline) -> None:
    through, past = (
        run(pipe, guidance=dataclasses.replace(QUICK, jacobian=jacobian)).images
        for jacobian in (True, False)
    )
    assert not torch.equal(through, past)


def test_callbacks_see_every_step_and_may_change_it(pipe: DiffQRCoderPipeline) -> None:
    seen = []

    def callback(_: Any, i: int, t: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append((i, int(t)))
        return {"latents": torch.zeros_like(values["latents"])}

    changed = run(pipe, callback_on_step_end=callback)
    assert [i for i, _ in seen] == [0, 1]
    assert seen[0][1] > seen[1][1]
    assert not torch.equal(changed.images, run(pipe).images)


def test_saving_memory_changes_no_picture(pipe: DiffQRCoderPipeline) -> None:
    before = run(pipe).images
    pipe.save_memory()
    assert not any(p.requires_grad for p in pipe.unet.parameters())
    try:
        assert (run(pipe).images - before).abs().max() < 0.01
    finally:
        for part in (pipe.unet, pipe.controlnet, pipe.vae):
            part.disable_gradient_checkpointing()


def test_half_precision_keeps_gradients_that_it_could_not_hold(pipe: DiffQRCoderPipeline) -> None:
    """A loss weighed with 10⁻⁵ leaves each pixel a gradient below what float16 calls a number."""
    parts = {**pipe.components, "vae": copy.deepcopy(pipe.vae).half()}
    half: Any = DiffQRCoderPipeline(**parts, requires_safety_checker=False)
    faint = Guidance(weights=Weights(scan=1e-5, perceptual=0), ease=1e-9, step=1.0)
    walk = _Walk([PLACED], torch.zeros(1, 3, 160, 160), faint, far_apart, ALPHA_BARS, "v")
    z, t = normal(1, 4, 20, 20), torch.tensor([500])
    bent, image = half._guided(lambda z, _: torch.zeros_like(z), z, t, walk)
    alone = to_eps(torch.zeros_like(z), z, t, ALPHA_BARS, "v")
    moved = predict_x0(z, t, bent, ALPHA_BARS) - predict_x0(z, t, alone, ALPHA_BARS)
    assert torch.isfinite(image).all()
    assert moved.square().mean().sqrt().item() == pytest.approx(1.0, rel=1e-3)


def test_without_the_prompt_it_runs_too(pipe: DiffQRCoderPipeline) -> None:
    assert torch.isfinite(run(pipe, guidance_scale=0.0).images).all()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"texts": ["a", "b"]}, "2 texts for 1 prompts"),
        ({"texts": "x" * 60}, "holds at most 42"),
        ({"grid": 41, "module_size": 4}, "not whole latent cells"),
    ],
)
def test_what_does_not_fit_is_refused(
    pipe: DiffQRCoderPipeline, how: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(pipe, **how)


def test_a_network_that_predicts_epsilon_is_guided_alike(pipe: DiffQRCoderPipeline) -> None:
    kept = pipe.scheduler
    pipe.scheduler = DDIMScheduler.from_config(kept.config, prediction_type="epsilon")
    try:
        assert torch.isfinite(run(pipe).images).all()
    finally:
        pipe.scheduler = kept


def test_it_is_saved_and_loaded_as_diffusers_would(
    pipe: DiffQRCoderPipeline, tmp_path: Path
) -> None:
    pipe.save_pretrained(tmp_path)
    again = DiffQRCoderPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    # The layout in memory is another, and with it the last bits.
    assert (run(again).images - run(pipe).images).abs().max() < 0.02


def test_a_hub_out_of_reach_names_the_tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def no_network(*_: Any, **__: Any) -> None:
        raise OSError("offline")

    monkeypatch.setattr(ControlNetModel, "from_pretrained", no_network)
    with pytest.raises(CourseError, match="data/models/scenery"):
        DiffQRCoderPipeline.from_pretrained("owner/name", controlnet="owner/control")


def test_the_condition_is_the_code_in_its_place() -> None:
    assert torch.equal(conditions([PLACED]), PLACED.target.expand(1, 3, -1, -1))


def test_without_guidance_and_refinement_the_walk_is_ddim(pipe: DiffQRCoderPipeline) -> None:
    """Stage 2 with a step of 0, step for step as diffusers' scheduler does it."""
    still = dataclasses.replace(QUICK, step=0.0, refine_steps=0, strength=1.0)
    latents: list[Tensor] = []

    def callback(_: Any, i: int, t: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        latents.append(values["latents"])
        return values

    # 4 divides 1000; where the steps do not, diffusers goes on to one t and continues at another.
    out = run(pipe, guidance=still, callback_on_step_end=callback, num_inference_steps=4)
    told, untold = pipe.encode_prompt(["lake at night"], pipe.device, 1, True)
    words = torch.cat([untold, told])
    network = pipe.network(words, conditions(out.codes), 4.0, still.control_scale)
    scheduler: Any = DDIMScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(4)
    with torch.no_grad():
        for t, before, after in zip(scheduler.timesteps[1:], latents, latents[1:], strict=False):
            output = network(before, t[None])
            stepped = scheduler.step(output, t, before).prev_sample
            if t != scheduler.timesteps[-1]:  # where the course goes to ᾱ = 1 and not to ᾱ_0
                assert torch.allclose(stepped, after, atol=1e-4)


# --- Tries ----------------------------------------------------------------------------------------


class Stub:
    """A pipeline whose pictures are read from the given try on."""

    def __init__(self, tokenizer: Any, good: Callable[[int], bool]) -> None:
        self.tokenizer, self.good, self.calls = tokenizer, good, 0

    def __call__(self, prompt: str, text: str, **_: Any) -> Any:
        self.calls += 1
        placed = PlacedCode(make_code(text, 3, "M"))
        shown = placed.target if self.good(self.calls) else torch.ones_like(placed.target)
        image = shown.expand(-1, 3, -1, -1)
        return type("Out", (), {"images": image})()


@pytest.mark.parametrize(("good", "calls", "seed"), [(1, 1, 7), (2, 2, 8), (9, 3, 7)])
def test_tries_end_where_every_scanner_reads_or_at_their_bound(
    pipe: DiffQRCoderPipeline, good: int, calls: int, seed: int
) -> None:
    stub: Any = Stub(pipe.tokenizer, lambda k: k >= good)
    best = try_seeds(stub, "hello", "lake", seed=7, tries=3)
    assert (stub.calls, best.seed) == (calls, seed)
    assert bool(best.read_by) == (good <= 3)


def test_noising_in_stage_two_is_the_forward_process() -> None:
    z, noise, t = normal(2, 1, 2, 2), normal(2, 1, 2, 2, seed=1), torch.tensor([700, 700])
    scheduler: Any = unet.latent_scheduler()
    ours = q_sample(z, t, noise, scheduler.alphas_cumprod)
    assert torch.allclose(ours, scheduler.add_noise(z, noise, t[:1]), atol=1e-6)


# --- The command line -----------------------------------------------------------------------------


@pytest.fixture
def command(
    pipe: DiffQRCoderPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """`python -m course qr TEXT …` with stubs for pipelines, in this process: its exit code."""

    def run_command(text: str, good: int, *arguments: object) -> int:
        stub = Stub(pipe.tokenizer, lambda k: k >= good)
        monkeypatch.setattr(create, "qr_pipeline", lambda name: stub)
        monkeypatch.setattr(sys, "argv", ["course", "qr", text, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    return run_command


def test_qr_says_what_read_it_and_at_which_try(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.png"
    assert command("hello", 2, "--prompt", "lake", "--seed", 4, "--out", out) == 0
    first, second, saved = capsys.readouterr().out.splitlines()
    assert first.startswith("Seed 4: ✗ zxing-cpp")
    assert second.startswith("Seed 5: ✓ zxing-cpp")
    assert saved.startswith("Saved try 2 (seed 5), read by zxing-cpp")
    image = torch.from_numpy(np.array(Image.open(out))).permute(2, 0, 1)[None] / 255
    assert image.shape == (1, 3, 640, 640)
    assert scan(image)["zxing-cpp"] == "hello"


def test_qr_that_nobody_reads_is_an_error_that_keeps_the_picture(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.png"
    assert command("hello", 9, "--prompt", "lake", "--tries", 2, "--out", out) == 1
    assert "No scanner here reads any of 2 pictures" in capsys.readouterr().err
    assert out.exists()


@pytest.mark.parametrize(
    ("text", "out", "words"),
    [
        ("x" * 60, "a.png", "version 3 at level M holds at most 42"),
        ("x" * 50, "a.png", "Shorten it, or take level L."),
        ("x" * 60, "a.png", "for a larger code. Shorten it."),
        ("", "a.png", "The text is empty"),
        ("hello", "a.jpg", "--out ends in .png"),
        ("hello", ".", "--out ends in .png"),
    ],
)
def test_qr_refuses_what_cannot_be_drawn(
    command: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    out: str,
    words: str,
) -> None:
    assert command(text, 1, "--prompt", "lake", "--out", tmp_path / out) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_qr_notes_an_unknown_word_and_runs(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("hello", 1, "--prompt", "zebra lake", "--out", tmp_path / "a.png") == 0
    assert "does not know zebra" in capsys.readouterr().err
