"""The comparison of lesson 10: its methods, its cases, its arithmetic, and that it goes on."""

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from course import cli, scenery_models
from course.diffqrcoder import ablations, baselines, comparison
from course.diffqrcoder.baselines import BASELINES, Case, Made
from course.diffqrcoder.codes import PlacedCode
from course.diffqrcoder.hiddenness import explained_variance
from course.diffqrcoder.pipeline import DEFAULT
from course.errors import CourseError
from course.qr_codes import make_code, scan, scanners, scanning
from course.recipes.scenery.clip import TinyCLIP, build_tokenizer
from course.recipes.scenery.controlnet import build_controlnet
from course.recipes.scenery.unet import build_unet, latent_scheduler
from course.recipes.scenery.vae import build_vae
from course.scenery import ATTRIBUTES

CASE = Case("tea at five", "M", "Mountain lake at night, full moon.", 3)


@pytest.fixture(scope="session")
def pipeline() -> Any:
    """A pipeline of the shipped kind, as small as can be, its weights random."""
    from diffusers import StableDiffusionControlNetPipeline

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = build_tokenizer()
        unet = build_unet((16, 16, 16), 4, 16)
        parts: dict[str, Any] = {
            "vae": build_vae((8, 8, 8, 8), 4),
            "text_encoder": TinyCLIP(len(tokenizer), dim=16, layers=1).text,
            "unet": unet,
            "controlnet": build_controlnet(unet),
        }
    for part in parts.values():
        part.eval().requires_grad_(False)
    made = StableDiffusionControlNetPipeline(
        **parts,
        tokenizer=tokenizer,
        scheduler=latent_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image encoder with random weights in place of the shipped one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {name: len(values) for name, values in ATTRIBUTES.items()}
        random = scenery_models.ImageEncoder(sizes, (8, 8, 8, 8), 16).eval().requires_grad_(False)
    monkeypatch.setattr(scenery_models, "load_image_encoder", lambda: random)


# --- Methods -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BASELINES)
def test_a_method_gives_a_picture_and_its_code_from_a_seed(pipeline: Any, name: str) -> None:
    made = BASELINES[name](pipeline, CASE)
    side = made.placed.side
    assert made.image.shape == (1, 3, side, side)
    assert 0 <= made.image.min() <= made.image.max() <= 1
    assert torch.equal(BASELINES[name](pipeline, CASE).image, made.image)
    # Its code is one of this text, whatever the picture shows of it.
    assert scan(made.placed.target)["zxing-cpp"] == CASE.text


def test_methods_that_know_the_code_can_be_read(pipeline: Any) -> None:
    for name in ("blended", "qart", "halftone", "artcoder"):
        assert scan(BASELINES[name](pipeline, CASE).image)["zxing-cpp"] == CASE.text, name
    assert set(scan(baselines.scenery_alone(pipeline, CASE).image).values()) == {None}


def test_blending_goes_from_the_picture_to_the_code(pipeline: Any) -> None:
    picture, placed = baselines.picture_of(pipeline, CASE), baselines.plain(CASE)
    none, half, whole = (baselines.blended(pipeline, CASE, s).image for s in (0.0, 0.5, 1.0))
    torch.testing.assert_close(none, picture)
    r2 = [explained_variance(x, placed).item() for x in (none, half, whole)]
    assert r2 == sorted(r2)
    assert r2[2] > 0.9


def test_diffqrcoder_is_a_method_of_the_same_form(pipeline: Any, encoder: None) -> None:
    quick = dataclasses.replace(DEFAULT, strength=0.1, refine_steps=1)
    made = ablations.diffqrcoder(pipeline, CASE, quick)
    assert made.image.shape == (1, 3, 160, 160)
    assert made.reference is not None
    assert scan(made.placed.target)["zxing-cpp"] == CASE.text
    assert torch.equal(ablations.diffqrcoder(pipeline, CASE, quick).image, made.image)


def test_an_ablation_changes_one_thing() -> None:
    """And each changes another one, so that no two are the same."""

    def flat(guidance: Any) -> dict[str, Any]:
        fields = dataclasses.asdict(guidance)
        return {**fields.pop("weights"), **fields}

    whole = flat(DEFAULT)
    changed = [{k: v for k, v in flat(g).items() if v != whole[k]}
               for g in ablations.changes().values()]  # fmt: skip
    assert [len(c) for c in changed] == [1] * len(changed)
    assert len({str(c) for c in changed}) == len(changed)
    assert {k for c in changed for k in c} >= {
        "scan", "perceptual", "qart", "stage_two", "refine_steps"
    }  # fmt: skip


# --- Cases ---------------------------------------------------------------------------------------


def test_sixty_cases_have_all_texts_with_many_prompts() -> None:
    chosen = comparison.cases(60)
    assert len(set(chosen)) == 60
    assert comparison.cases(7) == chosen[:7]
    assert {(c.text, c.level) for c in chosen} == set(comparison.TEXTS)
    assert len({c.prompt for c in chosen}) == 20
    assert len({c.seed for c in chosen}) == 60
    assert len({(c.text, c.level, c.prompt) for c in chosen}) == 60
    with pytest.raises(ValueError, match="at least 1"):
        comparison.cases(0)


@pytest.mark.parametrize(("text", "level"), comparison.TEXTS)
def test_every_text_fits_and_every_scanner_reads_it_plain(text: str, level: str) -> None:
    target = PlacedCode(make_code(text, 3, level)).target
    assert scan(target) == dict.fromkeys(scanners(), text)


def test_every_prompt_names_what_is_true_of_its_scene() -> None:
    for k in range(20):
        prompt = comparison.scene_prompt(k)
        said = prompt.count(",") + 1
        assert len(comparison.named_attributes(prompt)) == said, prompt


def test_attribute_accuracy_by_hand() -> None:
    prompt = "Mountain lake, at night, full moon, a unicorn."
    seen = {"kind": "mountain lake", "time_of_day": "night", "celestial": "none"}
    assert comparison.attribute_accuracy(prompt, seen) == pytest.approx(2 / 3)
    assert math.isnan(comparison.attribute_accuracy("a unicorn", seen))


# --- Arithmetic ----------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(1, 60))
@settings(deadline=None)
def test_a_rates_interval_is_scipys(yes: int, n: int) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    yes = min(yes, n)
    found = comparison.rate([True] * yes + [False] * (n - yes))
    expected = scipy_stats.binomtest(yes, n).proportion_ci(method="wilson")
    assert found == pytest.approx((yes / n, expected.low, expected.high), abs=1e-6)
    assert found.low < found.high


def test_the_bootstrap_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        found = comparison.bootstrap(rng.normal(3.0, 1.0, 50), draws=400)
        hits += found.low <= 3.0 <= found.high
    assert 0.88 <= hits / 200 <= 0.99
    assert comparison.bootstrap([1.0, float("nan"), 3.0]).mean == 2.0
    assert comparison.bootstrap([0.0, 1.0, 5.0]) == comparison.bootstrap([0.0, 1.0, 5.0])
    for empty in ([], [float("nan")]):
        with pytest.raises(ValueError, match="no value"):
            comparison.bootstrap(empty)
    with pytest.raises(ValueError, match="no trial"):
        comparison.rate([])


def record(clean: bool, survived: int, **numbers: Any) -> comparison.Record:
    """A record as `compare` keeps it: how many of the twelve distortions "one" survives."""
    names = list(comparison.DISTORTIONS)
    read = {name: {"one": i < survived, "two": False} for i, name in enumerate(names)}
    given = {"distance": 1.0, "clip": 0.1, "attributes": 0.5, "r2": 0.4, "cpu_seconds": 2.0}
    return {"read": {"clean": {"one": clean, "two": False}, **read}, "r2_reference": None,
            **given, **numbers}  # fmt: skip


def test_a_summary_by_hand() -> None:
    found = comparison.summarise([record(True, 12), record(True, 6), record(False, 0, r2=0.7)])
    assert found.cases == 3
    assert found.clean["one"].mean == pytest.approx(2 / 3)
    assert found.clean["two"].mean == 0
    assert found.best_distorted.mean == pytest.approx(0.5)
    assert found.by_distortion["small"] == {"one": pytest.approx(2 / 3), "two": 0}
    assert found.r2.mean == pytest.approx(0.5)
    assert found.r2_reference is None
    head, rule, line = comparison.table({"a": found}).splitlines()
    assert head.count("|") == rule.count("|") == line.count("|")
    assert line.startswith("| a | 67 [21, 94] | 0 [0, 56] | 50 [0, 100] |")


def test_who_dominates_whom() -> None:
    good, bad, cheap = (
        comparison.summarise([record(clean, 0, r2=r2)])
        for clean, r2 in [(True, 0.4), (False, 0.4), (False, 0.1)]
    )

    def dominates(a: Any, b: Any) -> bool:
        return comparison.dominates(a, b, lambda s: s.r2.mean)

    pairs = itertools.permutations({"good": good, "bad": bad, "cheap": cheap}.items(), 2)
    assert [(a, b) for (a, x), (b, y) in pairs if dominates(x, y)] == [
        ("good", "bad"), ("cheap", "bad")
    ]  # fmt: skip
    assert not dominates(good, good)


# --- It runs, stops and goes on ------------------------------------------------------------------


def shows_its_code(_: Any, case: Case) -> Made:
    placed = baselines.plain(case)
    return Made(placed.target.expand(-1, 3, -1, -1), placed, torch.full((1, 3, 160, 160), 0.5))


def shows_nothing(_: Any, case: Case) -> Made:
    return Made(torch.full((1, 3, 240, 240), 0.5), baselines.plain(case, 6))


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch, encoder: None) -> list[tuple[str, int]]:
    """Two methods that cost nothing, and a list of what they were asked."""
    asked: list[tuple[str, int]] = []

    def watched(name: str, method: Any) -> Any:
        def ask(pipeline: Any, case: Case) -> Made:
            asked.append((name, case.seed))
            return method(pipeline, case)

        return ask

    methods = {"good": watched("good", shows_its_code), "bad": watched("bad", shows_nothing)}
    grey = torch.full((1, 3, 160, 160), 0.4)
    monkeypatch.setattr(comparison, "all_methods", lambda: methods)
    monkeypatch.setattr(comparison, "picture_of", lambda *_: grey)
    monkeypatch.setattr(comparison, "DISTORTIONS", {"small": comparison.DISTORTIONS["small"]})
    comparison._plain.cache_clear()
    return asked


def test_a_case_that_is_done_is_not_done_again(
    pipeline: Any, stubbed: list[tuple[str, int]], tmp_path: Path
) -> None:
    paths = list(comparison.evaluate(pipeline, 2, [], tmp_path))
    assert stubbed == [("good", 0), ("bad", 0), ("good", 1), ("bad", 1)]
    assert all(path.is_file() for path in paths)
    before = {p.name: p.read_bytes() for p in paths if p.suffix != ".png"}

    stubbed.clear()
    (tmp_path / "bad" / "001.json").write_text("{", encoding="utf-8")
    (tmp_path / "good" / "000.png").unlink()
    list(comparison.evaluate(pipeline, 3, [], tmp_path))
    assert stubbed == [("good", 0), ("bad", 1), ("good", 2), ("bad", 2)]

    stubbed.clear()
    list(comparison.evaluate(pipeline, 2, [], tmp_path))
    assert stubbed == []
    after = json.loads((tmp_path / "results.json").read_text("utf-8"))
    for name, old in json.loads(before["results.json"]).items():
        seconds = {"cpu_seconds": after[name].pop("cpu_seconds")}
        assert seconds
        assert {**after[name]} == {k: v for k, v in old.items() if k != "cpu_seconds"}


def test_what_is_written_is_what_was_seen(
    pipeline: Any, stubbed: list[tuple[str, int]], tmp_path: Path
) -> None:
    list(comparison.evaluate(pipeline, 1, [], tmp_path))
    found = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert found["good"]["clean"]["zxing-cpp"][0] == 1
    assert found["bad"]["clean"]["zxing-cpp"][0] == 0
    assert found["good"]["r2"][0] == pytest.approx(1)
    assert found["good"]["r2_reference"][0] == 0
    assert found["bad"]["r2_reference"] is None
    kept = np.asarray(Image.open(tmp_path / "good" / "000.png"))
    shown = baselines.plain(comparison.cases(1)[0]).target[0, 0].mul(255).numpy()
    assert np.array_equal(kept[..., 0], shown)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (168, 332)


def test_other_models_need_another_folder(
    pipeline: Any, stubbed: list[tuple[str, int]], tmp_path: Path
) -> None:
    list(comparison.evaluate(pipeline, 1, ["good"], tmp_path))
    (tmp_path / "models.sha256").write_text("0" * 64, encoding="utf-8")
    with pytest.raises(CourseError, match="pictures of other models; give another --out"):
        list(comparison.evaluate(pipeline, 1, ["good"], tmp_path))


def test_no_method_asks_a_scanner(
    pipeline: Any, encoder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the SSR would be a tautology: the report at the end is all that may ask."""

    def refuse() -> None:
        raise AssertionError("a scanner was asked")

    monkeypatch.setattr(scanning, "scanners", refuse)
    monkeypatch.setattr("course.diffqrcoder.pipeline.report", lambda *_: None)
    quick = dataclasses.replace(DEFAULT, strength=0.1, refine_steps=1)
    methods = [*BASELINES.values(), lambda p, c: ablations.diffqrcoder(p, c, quick)]
    with pytest.raises(AssertionError, match="was asked"):
        scan(baselines.plain(CASE).target)
    for method in methods:
        method(pipeline, CASE)


def test_the_command(
    pipeline: Any,
    stubbed: list[tuple[str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scenery_models, "load_pipeline", lambda _: pipeline)
    command = ["evaluate", "qr", "--cases", "1", "--out", str(tmp_path)]
    done = CliRunner().invoke(cli.app, [*command, "--methods", "good, bad"])
    assert done.exit_code == 0, done.output
    assert "| good | 100 [21, 100] |" in done.output
    asked = CliRunner().invoke(cli.app, [*command, "--methods", "godo"])
    assert isinstance(asked.exception, CourseError)
    assert "No method is named 'godo'; there are good, bad." in str(asked.exception)
