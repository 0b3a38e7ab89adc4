"""Lesson 12's files, command lines and tables: any picture in, the same size out, and tables."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scipy.stats import bootstrap
from torch import Tensor
from typer.testing import CliRunner

from course import cli
from course.atkpdm import Budget, bootstrap_interval, evaluate, evaluation, worlds
from course.atkpdm import protect as protect_module
from course.atkpdm.evaluation import CLEAN, FLOOR, edited, full_text, markdown, save_report, shown
from course.atkpdm.images import as_image, read_picture, write_picture
from course.atkpdm.methods import METHODS, methods_for, protected
from course.atkpdm.protect import as_seen, budget_for, protect_file, tiles
from course.atkpdm.worlds import World, load_world, paper_t, pictures
from course.errors import CourseError
from course.latent_diffusion import psnr

QUICK = Budget(psnr=22, delta=0.3, steps=2, draws=1)


@pytest.fixture(scope="module")
def world() -> World:
    """MNIST's: its weights are shipped, and small."""
    return load_world("mnist-ddpm")


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    small = generator.integers(30, 226, (4, 4, channels), dtype=np.uint8)
    layers = [
        np.asarray(Image.fromarray(small[..., c]).resize((width, height))) for c in range(channels)
    ]
    return np.stack(layers, axis=2)


def picture_of(mode: str) -> Image.Image:
    grey = Image.fromarray(noise(20, 31, 1)[..., 0])
    if mode == "I;16":
        return Image.fromarray(noise(20, 31, 1)[..., 0].astype(np.uint16) * 257)
    colour = Image.fromarray(noise(20, 31))
    if mode in ("LA", "RGBA"):
        image = (colour if mode == "RGBA" else grey).convert(mode)
        image.putalpha(Image.fromarray(noise(20, 31, 1, seed=1)[..., 0]))
        return image
    return (grey if mode in ("L", "1") else colour).convert(mode)


# --- Pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGB", "RGBA", "P", "CMYK", "I;16", "HSV"])
def test_a_picture_of_any_mode_comes_back(mode: str, tmp_path: Path) -> None:
    ending = {"CMYK": "tif", "HSV": "png"}.get(mode, "png")
    given = picture_of(mode).convert("RGB") if mode == "HSV" else picture_of(mode)
    given.save(tmp_path / f"in.{ending}")
    picture = read_picture(tmp_path / f"in.{ending}")
    assert picture.x.shape == (1, 1 if mode in ("L", "1", "LA", "I;16") else 3, 20, 31)
    assert -1 <= picture.x.min() < picture.x.max() <= 1
    shown_again = write_picture(tmp_path / "out.png", picture, picture.x)
    assert (shown_again - picture.x).abs().max() < 1e-4
    out = Image.open(tmp_path / "out.png")
    assert out.size == (31, 20)
    if mode == "I;16":
        assert np.array_equal(np.asarray(out), np.asarray(given))
    if mode in ("LA", "RGBA"):
        assert out.mode == mode
        assert np.array_equal(np.asarray(out)[..., -1], np.asarray(given)[..., -1])


def test_metadata_is_kept(tmp_path: Path) -> None:
    exif, texts = Image.Exif(), PngInfo()
    exif[0x010E] = "a photo of mine"
    texts.add_text("Author", "me")
    image = picture_of("RGB")
    image.save(tmp_path / "a.png", exif=exif, dpi=(300, 300), pnginfo=texts)
    image.save(tmp_path / "a.jpg", exif=exif, dpi=(300, 300))
    for name in ("a.png", "a.jpg"):
        picture = read_picture(tmp_path / name)
        out = tmp_path / f"out-{name}"
        write_picture(out, picture, picture.x)
        after = Image.open(out)
        assert after.getexif()[0x010E] == "a photo of mine"
        assert round(after.info["dpi"][0]) == 300
    assert Image.open(tmp_path / "out-a.png").info["Author"] == "me"


def broken(tmp_path: Path, what: str) -> Path:
    path = tmp_path / "x.png"
    if what == "missing":
        return path
    if what == "empty":
        path.write_bytes(b"")
    if what == "a text":
        path.write_text("not a picture", encoding="utf-8")
    if what == "cut off":
        picture_of("RGB").save(path)
        path.write_bytes(path.read_bytes()[:200])
    if what == "tiny":
        Image.new("RGB", (8, 8)).save(path)
    if what == "animated":
        path = path.with_suffix(".gif")
        frames = [Image.fromarray(noise(20, 20, seed=k)) for k in range(2)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    return path


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "could not be read"),
        ("empty", "is empty"),
        ("a text", "not a picture that can be read"),
        ("cut off", "could not be read"),
        ("tiny", "8 × 8 pixels: at least 11"),
        ("animated", "2 frames: give one still picture"),
    ],
)
def test_what_is_no_picture_is_said_in_one_line(what: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CourseError, match=message):
        read_picture(broken(tmp_path, what))


def test_a_huge_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture_of("RGB").save(tmp_path / "x.png")
    monkeypatch.setattr("course.atkpdm.images.MOST_PIXELS", 600)
    with pytest.raises(CourseError, match="more than 0 million pixels"):
        read_picture(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("mode", "name", "message"),
    [
        ("RGBA", "out.jpg", "JPEG cannot hold the picture's transparency"),
        ("I;16", "out.bmp", "BMP cannot hold the picture's 16 bits"),
        ("I;16", "out.webp", "WEBP cannot hold"),
        ("RGB", "out.txt", "--out ends in"),
    ],
)
def test_a_format_that_would_lose_something_is_refused(
    mode: str, name: str, message: str, tmp_path: Path
) -> None:
    picture_of(mode).save(tmp_path / "in.png")
    picture = read_picture(tmp_path / "in.png")
    with pytest.raises(CourseError, match=message):
        write_picture(tmp_path / name, picture, picture.x)
    assert not (tmp_path / name).exists()


# --- Protecting one -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_a_protected_picture_has_the_size_and_the_psnr_that_were_asked(
    mode: str, tmp_path: Path
) -> None:
    picture_of(mode).save(tmp_path / "in.png")
    out, show = tmp_path / "out.png", tmp_path / "show.png"
    told: list[tuple[int, int]] = []
    cost = protect_file(
        tmp_path / "in.png",
        out,
        "mnist-ddpm",
        replace(QUICK, delta=math.inf),
        show=show,
        progress=lambda done, of: told.append((done, of)),
    )
    assert Image.open(out).size == (31, 20)
    assert Image.open(show).width > 3 * 31
    assert cost.psnr == pytest.approx(22, abs=0.3)
    before, after = read_picture(tmp_path / "in.png").x, read_picture(out).x
    assert psnr(before, after).item() == pytest.approx(cost.psnr, abs=1e-3)
    assert 0 < cost.ssim < 1
    assert told[-1] == (2, 2)
    assert told == sorted(told)


def test_the_perceptual_budget_holds_for_the_file(tmp_path: Path) -> None:
    picture_of("L").save(tmp_path / "in.png")
    cost = protect_file(
        tmp_path / "in.png", tmp_path / "out.png", "mnist-ddpm", replace(QUICK, delta=0.05)
    )
    assert cost.perceptual <= 0.06  # 8 bits round it
    assert cost.psnr >= 21.9


def test_tiles_cover_and_stay_inside() -> None:
    seen = torch.zeros(60, 100)
    for i, j in tiles(60, 100, 28):
        assert seen[i : i + 28, j : j + 28].shape == (28, 28)
        seen[i : i + 28, j : j + 28] += 1
    assert seen.min() == 1
    with pytest.raises(CourseError, match="takes 1296 tiles of 28 × 28, and 64 are the limit"):
        tiles(1000, 1000, 28)
    with pytest.raises(CourseError, match="A tile is 28 × 28, and the picture 100 × 20"):
        tiles(20, 100, 28)


def test_a_tiled_picture_is_changed_everywhere(tmp_path: Path) -> None:
    Image.fromarray(noise(40, 60)).save(tmp_path / "in.png")
    budget = replace(QUICK, delta=math.inf)
    protect_file(tmp_path / "in.png", tmp_path / "out.png", "mnist-ddpm", budget, tiled=True)
    before, after = (read_picture(tmp_path / f"{n}.png").x for n in ("in", "out"))
    changed = (before != after).any(dim=1)[0].float()
    for part in changed.reshape(2, 20, 3, 20).mean(dim=(1, 3)).flatten():
        assert part > 0.2


def test_what_the_editor_sees_is_small(world: World) -> None:
    assert as_seen(torch.zeros(1, 3, 90, 50), world).shape == (1, 1, 28, 28)


def run(*words: str) -> Any:
    return CliRunner().invoke(cli.app, list(words))


def test_protect_from_the_command_line(tmp_path: Path) -> None:
    picture_of("RGB").save(tmp_path / "in.png")
    out = str(tmp_path / "out.png")
    words = ["protect", str(tmp_path / "in.png"), "--out", out, "--victim", "mnist-ddpm"]
    done = run(*words, "--steps", "2", "--psnr", "30")
    assert done.exit_code == 0, done.output
    assert "PSNR 30." in done.output or "PSNR 29.9" in done.output
    first = Path(out).read_bytes()
    run(*words, "--steps", "2", "--psnr", "30")
    assert Path(out).read_bytes() == first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--victim", "scenery-pixel-z"], "did you mean 'scenery-pixel-"),
        (["--victim", "mnist-ddpm", "--plus"], "has no VAE here"),
    ],
)
def test_what_cannot_be_done_is_said(words: list[str], message: str, tmp_path: Path) -> None:
    picture_of("RGB").save(tmp_path / "in.png")
    done = run("protect", str(tmp_path / "in.png"), "--out", str(tmp_path / "o.png"), *words)
    assert isinstance(done.exception, CourseError)
    assert message in str(done.exception)
    assert not (tmp_path / "o.png").exists()


# --- What it is worth ---------------------------------------------------------------------------


def test_the_bootstrap_is_scipys() -> None:
    values = torch.randn(40, generator=torch.Generator().manual_seed(0)).exp()
    low, high = bootstrap_interval(values, draws=20_000)
    theirs = bootstrap(
        (values.numpy(),), np.mean, n_resamples=20_000, method="percentile", rng=0
    ).confidence_interval
    assert low == pytest.approx(theirs.low, abs=0.02)
    assert high == pytest.approx(theirs.high, abs=0.02)
    with pytest.raises(ValueError, match="n ≥ 1"):
        bootstrap_interval(torch.zeros(0))


def test_an_interval_holds_the_mean_as_often_as_it_says() -> None:
    """Of 300 samples of 25 from N(0, 1), about 93 % (a bootstrap of 25 is a little too sure)."""
    generator = torch.Generator().manual_seed(1)
    held = 0
    for seed in range(300):
        low, high = bootstrap_interval(torch.randn(25, generator=generator), 400, seed=seed)
        held += low <= 0 <= high
    assert 0.89 < held / 300 < 0.97


def test_t_is_the_papers_in_the_victims_terms(world: World) -> None:
    assert world.t == paper_t(world.victim) == 222  # lesson 11's number
    assert budget_for(world, QUICK).levels == (111, 222)


def test_edits_share_their_noise(world: World) -> None:
    x = pictures(world, 2)
    assert torch.equal(edited(world.victim, x, 100, steps=3), edited(world.victim, x, 100, steps=3))
    other = edited(world.victim, x, 100, seed=1, steps=3)
    assert not torch.equal(edited(world.victim, x, 100, steps=3), other)


def test_every_method_comes_at_the_same_psnr_in_8_bits(world: World) -> None:
    x = pictures(world, 2)
    for name in methods_for(world):
        x_adv = protected(name, world, x, budget_for(world, QUICK))
        assert (psnr(x, x_adv) - 22).abs().max() < 0.3, name
        steps = (x_adv + 1) * 127.5
        assert (steps - steps.round()).abs().max() < 1e-3, name
    assert set(METHODS) - set(methods_for(world)) == {
        "encoder attack",
        "AtkPDM+",
        "AtkPDM+ without residual",
    }


def test_unknown_and_impossible_methods_are_refused(world: World) -> None:
    x = pictures(world, 2)
    with pytest.raises(ValueError, match="'AtkPMD'; there are white noise"):
        protected("AtkPMD", world, x, QUICK)
    with pytest.raises(ValueError, match="needs a VAE"):
        protected("AtkPDM+", world, x, QUICK)


def test_nothing_is_protected_for_a_list_with_an_unknown_method(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "protected", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(ValueError, match="'AtkPMD'; there are white noise"):
        evaluate(world, pictures(world, 2), QUICK, ["white noise", "AtkPMD"])


def test_a_report_that_cannot_be_saved_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worlds, "load_world", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(ValueError, match=r"\.md or \.json"):
        cli.evaluate_protection(out=tmp_path / "a.txt")
    (tmp_path / "a.md").mkdir()
    with pytest.raises(CourseError, match="it is a folder"):
        cli.evaluate_protection(out=tmp_path / "a.md")


@pytest.fixture(scope="module")
def report(world: World) -> Any:
    x = pictures(world, 3)
    names = ["white noise", "AtkPDM"]
    budget = budget_for(world, QUICK)
    return evaluate(world, x, budget, names, others=[world.victim], sweep=[60])


def test_a_report_holds_every_table_and_its_floors(report: Any) -> None:
    assert list(report.table) == [CLEAN, FLOOR, "white noise", "AtkPDM"]
    clean, floor = report.table[CLEAN], report.table[FLOOR]
    assert torch.equal(clean["edit_ssim"].round(decimals=4), torch.ones(3))
    assert bool((floor["edit_ssim"] < 0.99).all())
    for row in report.table.values():
        assert {len(values) for values in row.values()} == {3}
        assert bool(((row["meaning"] >= 0) & (row["meaning"] <= 1)).all())
    assert next(iter(report.purified)) == "none"
    assert torch.equal(report.purified["none"]["AtkPDM"], report.table["AtkPDM"]["edit_ssim"])
    best = report.purified["the best of them"]["AtkPDM"]
    assert bool((best >= report.purified["JPEG 50"]["AtkPDM"]).all())
    assert bool((report.purified["blur σ = 1"][CLEAN] < 1).all())
    assert torch.equal(report.transfer["mnist-ddpm"]["AtkPDM"], report.purified["none"]["AtkPDM"])
    assert not torch.equal(report.levels["t = 60"]["AtkPDM"], report.purified["none"]["AtkPDM"])


def test_a_report_is_written_as_text_and_as_numbers(report: Any, tmp_path: Path) -> None:
    text = full_text(report)
    for part in ("victim mnist-ddpm, pictures 3, t 222", "| AtkPDM |", "| ∞ |", "JPEG 50"):
        assert part in text
    save_report(report, tmp_path / "a.json")
    numbers = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert len(numbers["table"]["AtkPDM"]["edit_ssim"]) == 3
    with pytest.raises(ValueError, match=r"\.md or \.json"):
        save_report(report, tmp_path / "a.txt")


def test_a_cell_is_a_mean_and_its_interval() -> None:
    assert shown(torch.tensor([0.5, 0.5])) == "0.50 [0.50, 0.50]"
    assert shown(torch.tensor([0.5, math.inf])) == "∞"
    table = markdown({"a": {"x": torch.ones(2)}}, corner="who")
    assert table.splitlines() == ["| who | x |", "|---|---|", "| a | 1.00 [1.00, 1.00] |"]


def test_the_table_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "table.md"
    words = ["evaluate", "protection", "--victim", "mnist-ddpm", "--images", "2", "--steps", "1"]
    done = run(*words, "--methods", "white noise; AtkPDM", "--sweep", "50", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert "| AtkPDM |" in out.read_text(encoding="utf-8")


def test_a_folder_of_pictures(world: World, tmp_path: Path) -> None:
    for k in range(2):
        Image.fromarray(noise(40, 70, seed=k)).save(tmp_path / f"{k}.png")
    assert pictures(world, 2, tmp_path).shape == (2, 1, 28, 28)
    with pytest.raises(CourseError, match="holds 2 pictures, and 3 were asked for"):
        pictures(world, 3, tmp_path)
    stranger = replace(world, victim=replace(world.victim, name="someone/else"))
    with pytest.raises(CourseError, match="name a folder"):
        pictures(stranger, 1)


def test_a_picture_can_be_made_of_any_values() -> None:
    """Colours beyond the range are cut, not wrapped."""
    picture = read_values(torch.tensor([[-3.0, 3.0], [0.0, 1.0]])[None, None])
    assert np.asarray(as_image(picture, picture.x)).tolist() == [[0, 255], [128, 255]]


def read_values(x: Tensor) -> Any:
    return protect_module.Picture(x, None, False, {})
