"""The tiny models of scenery: from a drawn scene to a folder that plain diffusers loads."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from course import cli, recipes, runs, scenery_models
from course.errors import CourseError
from course.recipes.base import Recipe
from course.recipes.scenery import clip, controlnet, data, patterns, pixel, unet, vae
from course.recipes.scenery.pca_start import principal_squares, start_as_components
from course.scenery import ATTRIBUTES, module_mask, vocabulary
from course.scenery_models import check_models, load_ddpm, load_pipeline, models_dir

CHAIN = {
    "scenery-vae": lambda: vae.scenery_vae((8, 12, 16, 24), latents=4, n=4),
    "scenery-clip": lambda: clip.scenery_clip(n=4, batch_size=4),
    "scenery-unet": lambda: unet.scenery_unet((16, 16, 16), n=4, patterned=4),
    "scenery-controlnet": lambda: controlnet.scenery_controlnet(n=4),
    "scenery-pixel-a": lambda: pixel.scenery_pixel("scenery-pixel-a", (8, 16), n=4),
}
# Enough for what starts at zero to have left it.
STEPS = 5
FOLDERS = {
    "vae": "scenery-vae",
    "text_encoder": "scenery-clip",
    "unet": "scenery-unet",
    "controlnet": "scenery-controlnet",
}


def picture(seed: int, size: int) -> np.ndarray:
    """Not a scene, but drawn in no time: a smooth pattern of its own for each seed."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC))


def quick(name: str) -> Recipe:
    """A recipe of the chain at the least size, and without its measurements."""
    return dataclasses.replace(CHAIN[name](), measure=lambda _: {"scaling_factor": 0.9})


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder in which every model was trained for a few steps and published."""
    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_DATA", str(root))
        patch.setenv("COURSE_CACHE", str(root / "cache"))
        patch.setattr(data, "CHUNK", 4)
        patch.setattr(data, "scene", lambda seed, size: SimpleNamespace(image=picture(seed, size)))
        patch.setattr(patterns, "draw", lambda _, seed, size, *__: picture(seed, size))
        for name in CHAIN:
            recipe = quick(name)
            runs.run(recipe, root / "runs" / name, steps=STEPS)
            runs.publish(recipe, root / "runs" / name)
        yield root


@pytest.fixture
def copy(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped models once more, to be damaged: the folder of the pipeline."""
    shutil.copytree(shipped / "models", tmp_path / "models")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    return tmp_path / "models" / "scenery"


def generate(pipe: Any, seed: int, prompt: str = "mountain lake at night", **how: Any) -> Tensor:
    pipe.set_progress_bar_config(disable=True)
    return scenery_models.generate(pipe, [prompt], seed, steps=2, **how)[0]


# --- The folders -------------------------------------------------------------------------------

# What somebody writes who has the folders and diffusers, and never heard of this course.
PLAIN = """
import sys
from diffusers import DDPMPipeline, StableDiffusionControlNetPipeline
from PIL import Image
for folder in sys.argv[1:]:
    if folder.endswith("scenery"):
        pipe = StableDiffusionControlNetPipeline.from_pretrained(folder)
        how = {"prompt": "meadow at night", "image": Image.new("RGB", (160, 160))}
    else:
        pipe, how = DDPMPipeline.from_pretrained(folder), {}
    print(pipe(num_inference_steps=1, **how).images[0].size)
print([name for name in sys.modules if name.split(".")[0] == "course"])
"""


def run_plainly(tmp_path: Path, *folders: Path) -> list[str]:
    command = [sys.executable, "-c", PLAIN, *map(str, folders)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_plain_diffusers_loads_and_runs_the_folders(shipped: Path, tmp_path: Path) -> None:
    folders = (shipped / "models" / name for name in ("scenery", "scenery-pixel-a"))
    assert run_plainly(tmp_path, *folders) == ["(160, 160)", "(64, 64)", "[]"]


def assert_saved_and_loaded_is_the_same(pipe: Any, folder: Path) -> None:
    """Save it and load it again: every weight and every setting of every part, to the bit."""
    pipe.save_pretrained(folder)
    again = type(pipe).from_pretrained(folder)
    for name, part in pipe.components.items():
        if isinstance(part, nn.Module):
            one, other = part.state_dict(), getattr(again, name).state_dict()
            assert one.keys() == other.keys()
            for key, x in one.items():
                assert torch.equal(x, other[key]), (name, key)
    assert dict(again.scheduler.config) == dict(pipe.scheduler.config)
    if hasattr(pipe, "tokenizer"):
        assert again.tokenizer.get_vocab() == pipe.tokenizer.get_vocab()


@pytest.mark.parametrize("load", [load_pipeline, load_ddpm])
def test_save_and_load_are_bit_identical(shipped: Path, tmp_path: Path, load: Any) -> None:
    assert_saved_and_loaded_is_the_same(load(), tmp_path / "again")


def test_a_saved_pipeline_draws_the_same_picture(shipped: Path, tmp_path: Path) -> None:
    load_pipeline().save_pretrained(tmp_path / "again")
    first = generate(load_pipeline(), 3)
    assert torch.equal(generate(load_pipeline(str(tmp_path / "again")), 3), first)


def test_a_picture_does_not_depend_on_those_drawn_beside_it(shipped: Path) -> None:
    pipe = load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    alone = scenery_models.generate(pipe, ["sea"], 4, steps=2)
    beside = scenery_models.generate(pipe, ["sea", "old town", "river"], 4, steps=2)
    assert (alone[0] - beside[0]).abs().mean() < 1e-4
    assert not torch.equal(beside[0], beside[1])


def test_a_seed_decides_the_picture(shipped: Path) -> None:
    pipe = load_pipeline()
    first = generate(pipe, 0)
    assert torch.equal(generate(load_pipeline(), 0), first)
    assert not torch.equal(generate(pipe, 1), first)
    assert not torch.equal(generate(pipe, 0, "town square in winter"), first)


def test_a_code_is_heard_as_loudly_as_was_asked(shipped: Path) -> None:
    pipe, code = load_pipeline(), patterns.patterns(1)
    silent, quiet, loud = (generate(pipe, 0, codes=code, control_scale=s) for s in (0.0, 0.5, 1.0))
    assert torch.equal(silent, generate(pipe, 0))
    assert 0 < (quiet - silent).abs().mean() < (loud - silent).abs().mean()
    other = generate(pipe, 0, codes=~code)
    assert not torch.equal(other, loud)


@pytest.mark.parametrize("part", FOLDERS)
def test_what_is_loaded_is_what_was_trained_to_the_bit(shipped: Path, part: str) -> None:
    name = FOLDERS[part]
    trained = load_file(shipped / "runs" / name / f"{name}.safetensors")
    if part == "text_encoder":
        trained = {k[5:]: x for k, x in trained.items() if k.startswith("text.")}
    loaded = getattr(load_pipeline(), part).state_dict()
    assert loaded.keys() == trained.keys()
    for key, x in trained.items():
        assert loaded[key].dtype == torch.float32, key
        assert torch.equal(loaded[key], x.float()), key


def test_publishing_again_writes_the_same_bytes(copy: Path, shipped: Path) -> None:
    shutil.rmtree(copy / "vae")
    runs.publish(quick("scenery-vae"), shipped / "runs" / "scenery-vae")
    for path in sorted((shipped / "models" / "scenery").rglob("*.*")):
        assert (copy / path.relative_to(shipped / "models" / "scenery")).read_bytes() == (
            path.read_bytes()
        ), path


def test_every_file_but_the_index_is_on_a_card(shipped: Path) -> None:
    folder = shipped / "models" / "scenery"
    named = {name for card in check_models(folder) for name in card["files"]}
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    cards = {f"{name}.json" for name in CHAIN if "pixel" not in name}
    assert there == named | cards | {"model_index.json"}


def test_the_autoencoder_knows_its_scale(shipped: Path) -> None:
    assert load_pipeline().vae.config.scaling_factor == 0.9
    assert unet.frozen_vae().config.scaling_factor == 0.9


def test_the_pipeline_gives_up_nothing_at_the_last_noise_level() -> None:
    alpha_bars = unet.latent_scheduler().alphas_cumprod
    assert 0.02 < alpha_bars[-1].sqrt() < 0.05
    assert not unet.latent_scheduler().config.clip_sample


# --- What is wrong with the files --------------------------------------------------------------


def complaint(call: Any, *args: Any) -> str:
    with pytest.raises(CourseError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["unet/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json"]
)
def test_a_damaged_file_is_named_with_its_remedy(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    message = complaint(load_pipeline)
    assert message.startswith(f"{copy / name} is damaged")
    assert "`git checkout -- data/models`" in message


def test_the_doctor_looks_at_models_too(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli._check_models() == []
    assert "models scenery (4 cards)" in capsys.readouterr().out
    (copy / "vae" / "config.json").write_text("{}")
    assert [text.split(" is ")[0] for text in cli._check_models()] == [
        str(copy / "vae" / "config.json")
    ]
    monkeypatch.setenv("COURSE_DATA", str(copy / "nowhere"))
    assert "COURSE_DATA" in cli._check_models()[0]


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "vae" / "config.json").unlink()
    assert complaint(load_pipeline).startswith(f"{copy / 'vae' / 'config.json'} is missing")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', "\xff"])
def test_a_damaged_card_is_named(copy: Path, text: str) -> None:
    (copy / "scenery-clip.json").write_bytes(text.encode("latin-1"))
    message = complaint(load_pipeline)
    assert message.startswith(f"{copy / 'scenery-clip.json'} is damaged")


def test_a_pipeline_without_its_index_is_named(copy: Path) -> None:
    (copy / "model_index.json").unlink()
    assert complaint(load_pipeline).startswith(f"{copy / 'model_index.json'} is missing. Restore")


def test_a_folder_without_cards_or_none_at_all(copy: Path) -> None:
    for path in copy.glob("scenery-*.json"):
        path.unlink()
    assert complaint(load_pipeline).startswith(f"{copy} holds no card")
    shutil.rmtree(copy)
    assert complaint(load_pipeline).startswith(f"{copy} is missing")
    assert complaint(load_ddpm, "scenery-pixel-b").startswith(f"{models_dir()}")


def test_an_unknown_name_gets_the_nearest(shipped: Path) -> None:
    assert "did you mean 'scenery-pixel-a'?" in complaint(load_ddpm, "scenery-pixel-aa")
    assert "there are scenery, scenery-pixel-a" in complaint(load_pipeline, "stable")


@pytest.mark.parametrize("load", [load_pipeline, load_ddpm])
def test_a_full_size_name_without_a_network(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = complaint(load, "somebody/a-model-of-full-size")
    assert message.startswith("somebody/a-model-of-full-size could not be had from the model hub")
    assert "scenery-pixel-a" in message


def test_a_folder_of_ones_own_is_loaded_as_it_is(copy: Path) -> None:
    (copy / "scenery-clip.json").unlink()
    assert load_pipeline(str(copy)).unet.config.in_channels == 4


def test_a_recipe_says_which_recipe_must_come_before(copy: Path) -> None:
    shutil.rmtree(copy / "unet")
    message = complaint(controlnet.scenery_controlnet, 2, 4)
    assert message.startswith(f"{copy / 'unet'} is missing")
    assert "`python -m course train scenery-unet --publish`" in message


# --- Words -------------------------------------------------------------------------------------


def test_every_word_of_a_caption_is_known_and_every_caption_fits() -> None:
    tokenizer, generator = clip.build_tokenizer(), torch.Generator().manual_seed(0)
    said = data.captions([data.attributes(i) for i in range(500)], generator, [True] * 500)
    ids = [tokenizer(text).input_ids for text in said]
    assert max(map(len, ids)) <= clip.MAX_WORDS
    assert tokenizer.unk_token_id not in {i for row in ids for i in row}
    words = re.sub(r"[^\w\s]", " ", said[0].lower()).split()
    assert tokenizer.convert_ids_to_tokens(ids[0]) == ["[BOS]", *words, "[END]"]


def test_case_and_punctuation_do_not_matter() -> None:
    tokenizer = clip.build_tokenizer()
    plain = tokenizer("cozy log cabin at night").input_ids
    assert tokenizer("Cozy log-cabin, at NIGHT!").input_ids == plain
    assert len(tokenizer) == len({*vocabulary(), "dappled", "light"}) + 4


def test_an_unknown_word_is_named_and_the_rest_is_read() -> None:
    tokenizer = clip.build_tokenizer()
    with pytest.warns(UserWarning, match="does not know unicorn, zeppelin;"):
        ids = scenery_models.token_ids(tokenizer, ["Zeppelin over the sea", "unicorn"])
    assert ids.shape == (2, clip.MAX_WORDS)
    assert tokenizer.decode(ids[0, :6]) == "[BOS] [UNK] over the sea [END]"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scenery_models.token_ids(tokenizer, ["sea"])


def test_a_prompt_with_an_unknown_word_still_runs(shipped: Path) -> None:
    pipe = load_pipeline()
    with pytest.warns(UserWarning, match="does not know zeppelin;"):
        picture = generate(pipe, 0, "zeppelin over the sea")
    assert picture.isfinite().all()
    assert not torch.equal(picture, generate(pipe, 0, "over the sea"))


def test_the_text_encoder_pools_at_the_first_end(shipped: Path) -> None:
    pipe = load_pipeline()
    ids = scenery_models.token_ids(pipe.tokenizer, ["mountain lake"])
    out = pipe.text_encoder(input_ids=ids)
    assert pipe.text_encoder.config.eos_token_id == pipe.tokenizer.eos_token_id != 2
    assert torch.equal(out.pooler_output[0], out.last_hidden_state[0, 3])


# --- Recipes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHAIN)
def test_a_step_draws_the_same_whatever_ran_before(shipped: Path, name: str) -> None:
    recipe = quick(name)
    draws = [recipe.draw(step, torch.Generator().manual_seed(step)) for step in (5, 0, 5)]
    assert all(torch.equal(x, y) for x, y in zip(draws[0], draws[2], strict=True))
    assert not all(torch.equal(x, y) for x, y in zip(draws[0], draws[1], strict=True))


@pytest.mark.parametrize("name", CHAIN)
def test_an_interrupted_run_goes_on_bit_for_bit(shipped: Path, tmp_path: Path, name: str) -> None:
    recipe, calls = quick(name), []

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        calls.append(step)
        if calls == [0, 1]:
            raise CourseError("the power fails")
        return recipe.draw(step, generator)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        with pytest.raises(CourseError, match="power"):
            runs.run(dataclasses.replace(recipe, draw=draw), tmp_path, steps=STEPS)
    runs.run(dataclasses.replace(recipe, draw=draw), tmp_path, steps=STEPS)
    assert calls == [0, 1, 1, 2, 3, 4]
    again, before = (f / f"{name}.safetensors" for f in (tmp_path, shipped / "runs" / name))
    assert again.read_bytes() == before.read_bytes()


@pytest.mark.parametrize("name", CHAIN)
def test_a_warm_start_begins_from_what_was_published(
    shipped: Path, tmp_path: Path, name: str
) -> None:
    # The first step's learning rate is 0: after it the model is still what it began from.
    runs.run(quick(name), tmp_path, steps=1, warm_start=True)
    after = load_file(tmp_path / f"{name}.safetensors")
    before = load_file(shipped / "runs" / name / f"{name}.safetensors")
    counted = ("log_scale", "running_mean", "running_var", "num_batches_tracked")
    assert [
        k for k in before if not k.endswith(counted) and not torch.equal(before[k], after[k])
    ] == []


def test_the_recipes_are_found_by_name() -> None:
    with pytest.raises(CourseError, match=r"Did you mean 'scenery-unet'\?"):
        recipes.recipe("scenery-unt")
    assert recipes.SCENERY.keys() >= CHAIN.keys()
    assert recipes.SCENERY.keys().isdisjoint(recipes.RECIPES)


# --- The cache ---------------------------------------------------------------------------------


def test_rows_are_made_once_and_again_where_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr(data, "CHUNK", 3)
    made: list[range] = []

    def make(rows: range) -> np.ndarray:
        made.append(rows)
        return np.array(rows)

    assert data.cached("rows", 4, make).tolist() == [0, 1, 2, 3]
    assert data.cached("rows", 6, make).tolist() == [0, 1, 2, 3, 4, 5]
    assert made == [range(3), range(3, 6)]
    (tmp_path / "rows" / "000003.npy").write_bytes(b"half of someth")
    np.save(tmp_path / "rows" / "000000.npy", np.arange(2))
    assert data.cached("rows", 6, make).tolist() == [0, 1, 2, 3, 4, 5]
    assert made[2:] == [range(3), range(3, 6)]


def test_scenes_of_another_painter_are_refused(shipped: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_CACHE", str(tmp_path))
        data.scenes(4, 32)
        patch.setattr(data, "scene", lambda *_: SimpleNamespace(image=picture(99, 32)))
        message = complaint(data.scenes, 4, 32)
    assert message.startswith(f"The scenes in {tmp_path / 'scenes-32'} were painted by another")


# --- The autoencoder's start and its pictures --------------------------------------------------


def smooth_images(n: int, size: int = 32) -> Tensor:
    return data.as_tensor(np.stack([picture(i, size) for i in range(n)]))


def test_principal_squares_are_orthonormal_and_centre_what_they_keep() -> None:
    x = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) + 2
    weight, bias = principal_squares(x, 12)
    rows = weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(12), atol=1e-4, rtol=0)
    out = nn.functional.conv2d(x, weight, bias, stride=2)
    means, sizes = out.mean(dim=(0, 2, 3)), out.var(dim=(0, 2, 3))
    torch.testing.assert_close(means, torch.zeros(12), atol=1e-4, rtol=0)
    assert (sizes.diff() <= 1e-4).all()


def test_an_untrained_autoencoder_already_shows_the_picture() -> None:
    images = smooth_images(24)
    fresh = start_as_components(vae.build_vae((8, 32, 32, 48), 8), images[:16])
    means, logvars = vae.encode(fresh, images[16:])
    assert 0.7 < means.std() < 1.3
    torch.testing.assert_close(logvars, torch.full_like(logvars, -6))
    reached = vae.psnr(vae.decode(fresh, means), images[16:])
    blank = vae.psnr(
        images[16:].mean(dim=(2, 3), keepdim=True).expand(images[16:].shape), images[16:]
    )
    assert reached > blank + 6


def test_relit_modules_have_the_brightness_they_were_given() -> None:
    images, generator = smooth_images(3, 64) * 0.8, torch.Generator().manual_seed(0)
    dark = vae.random_modules(3, 16, generator)
    same = vae.relit(images, dark, torch.zeros(3, 1, 1, 1))
    torch.testing.assert_close(same, images, atol=1e-5, rtol=0)
    out = vae.relit(images, dark, torch.full((3, 1, 1, 1), 0.9))
    for picture_, grid in zip(out, dark, strict=True):
        pixels = ((picture_ + 1) * 127.5).round().byte().movedim(0, -1).numpy()
        assert (module_mask(Image.fromarray(pixels), 16, 0.5) == grid[0].bool().numpy()).all()


# --- Codes and conditions ----------------------------------------------------------------------


def test_a_pattern_has_a_codes_three_finders_and_a_light_margin() -> None:
    for seed in range(20):
        grid = patterns.qr_like(np.random.default_rng(seed))
        assert grid.shape == (40, 40)
        windows = np.lib.stride_tricks.sliding_window_view(grid, (9, 9))
        assert (windows == patterns.finder()).all(axis=(2, 3)).sum() >= 3
        assert not grid[[0, 1, -1, -2]].any()
        assert not grid[:, [0, 1, -1, -2]].any()


def test_a_condition_is_white_where_modules_are_light() -> None:
    dark = torch.zeros(1, 40, 40, dtype=torch.bool)
    dark[0, 3, 5] = True
    image = scenery_models.control_image(dark, 160)
    assert image.shape == (1, 3, 160, 160)
    assert (image[0, :, 12:16, 20:24] == 0).all()
    assert image.sum() == 3 * (160**2 - 16)


def test_pairs_are_the_same_whenever_they_are_made() -> None:
    (grid, strength), (again, same) = patterns.pattern_of(7), patterns.pattern_of(7)
    assert (grid == again).all()
    assert strength == same
    assert 0.5 <= strength <= 0.9


# --- The image encoder -------------------------------------------------------------------------


def test_a_perceptual_distance_is_one(shipped: Path) -> None:
    a, b = smooth_images(4, 64)[:2], smooth_images(4, 64)[2:]
    near = scenery_models.perceptual_distance(a, a + 0.02 * torch.sign(b))
    far = scenery_models.perceptual_distance(a, b)
    assert (scenery_models.perceptual_distance(a, a) == 0).all()
    torch.testing.assert_close(far, scenery_models.perceptual_distance(b, a))
    assert (near > 0).all()
    assert (near < far).all()
    b.requires_grad_()
    scenery_models.perceptual_distance(a, b).sum().backward()
    assert b.grad is not None
    assert b.grad.abs().sum() > 0


def test_attributes_seen_are_attributes_there_are(shipped: Path) -> None:
    seen = scenery_models.seen_attributes(smooth_images(3, 160))
    assert all(value in ATTRIBUTES[name] for row in seen for name, value in row.items())
    assert [list(row) for row in seen] == [list(ATTRIBUTES)] * 3


def test_a_clip_score_is_a_cosine(shipped: Path) -> None:
    score = scenery_models.clip_score(load_pipeline(), smooth_images(2, 160), ["sea", "old town"])
    assert score.shape == (2,)
    assert (score.abs() <= 1).all()


# --- At the command line -----------------------------------------------------------------------


def course(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """`python -m course ARGUMENTS`, in this process: its exit code."""
    monkeypatch.setattr(sys, "argv", ["course", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_sample_draws_a_prompt(
    shipped: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, prompt = tmp_path / "a.npy", "zeppelin over the sea"
    how = ("--prompt", prompt, "--n", 2, "--steps", 2, "--seed", 5, "--out", out)
    assert course(monkeypatch, "sample", "scenery", *how) == 0
    said = capsys.readouterr()
    assert said.out == f"Saved 2 images: {out}\n"
    assert "Note: The tiny text encoder does not know zeppelin;" in said.err
    images = torch.from_numpy(np.load(out, allow_pickle=False)) * 2 - 1
    assert images.shape == (2, 3, 160, 160)
    with pytest.warns(UserWarning, match="zeppelin"):
        expected = scenery_models.generate(load_pipeline(), [prompt] * 2, 5, steps=2)
    torch.testing.assert_close(images, expected.clamp(-1, 1), atol=1e-5, rtol=0)


def test_sample_takes_captions_where_there_is_no_prompt(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.png"
    assert course(monkeypatch, "sample", "scenery", "--n", 4, "--steps", 1, "--out", out) == 0
    assert Image.open(out).size == (326, 326)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("scenery", "--label", 3), "told by --prompt what to draw: leave --label out"),
        (("scenery", "--weights", "runs"), "leave --weights out"),
        (("scenery", "--guidance-scale", "nan"), "guidance_scale is a finite number"),
        (("mnist-ddpm", "--prompt", "sea"), "'mnist-ddpm' reads no prompt"),
        (("mnist-cfg", "--prompt", "sea"), "or sample from scenery"),
    ],
)
def test_sample_refuses_options_of_other_models(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[object, ...],
    words: str,
) -> None:
    assert course(monkeypatch, "sample", *arguments, "--out", tmp_path / "a.png") == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()


def test_sample_without_the_models_says_so(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copy)
    assert course(monkeypatch, "sample", "scenery", "--out", copy.parent / "a.png") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"Error: {copy} is missing. Restore it with `git checkout")
    assert error.count("\n") == 1


# --- The models that are shipped ---------------------------------------------------------------

HERE = sorted((Path(__file__).parents[1] / "data" / "models").glob("scenery*"))
if_shipped = pytest.mark.skipif(
    not HERE, reason="data/models/scenery is not here; `python -m course train scenery-…` makes it"
)


@if_shipped
def test_plain_diffusers_loads_and_runs_what_is_shipped(tmp_path: Path) -> None:
    sizes = [str((160, 160) if path.name == "scenery" else (64, 64)) for path in HERE]
    assert run_plainly(tmp_path, *HERE) == [*sizes, "[]"]


@if_shipped
def test_what_is_shipped_is_saved_and_loaded_bit_identically(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COURSE_DATA", raising=False)
    for path in HERE:
        load = load_pipeline if path.name == "scenery" else load_ddpm
        assert_saved_and_loaded_is_the_same(load(path.name), tmp_path / path.name)


@if_shipped
def test_a_seed_decides_the_shipped_pipelines_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COURSE_DATA", raising=False)
    first, again, other = (generate(load_pipeline(), seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert (first - other).abs().mean() > 0.01


@pytest.mark.parametrize("folder", HERE, ids=lambda p: p.name)
def test_shipped_models_are_whole_small_and_told_of(folder: Path) -> None:
    limit = 24e6 if folder.name == "scenery" else 6e6
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= limit
    for card in check_models(folder):
        kinds = {"about": str, "command": str, "config": dict, "seed": int, "steps": int}
        kinds |= {"cpu_minutes": float, "metrics": dict, "files": dict}
        assert {key: type(card.get(key)) for key in kinds} == kinds
        assert json.dumps(card["metrics"]) != "{}"
