"""`python -m course`, as somebody meets it who gets things wrong."""

import inspect
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from course import cli, recipes
from course.checks import exercises
from course.classifier_free_guidance import GUIDANCE_SCALE
from course.errors import CourseError
from course.generate import generate
from course.metrics import load_judge
from course.progress import lesson_notebooks, notebook_progress
from tests.tiny_course import tiny

ROOT = Path(__file__).parents[1]
COMMANDS = ["doctor", "train", "sample", "qr", "build", "progress", "protect", "evaluate"]


class Said(NamedTuple):
    """How a command ended, and what it printed."""

    code: object
    out: str
    err: str


Course = Callable[..., Said]


@pytest.fixture
def course(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Course:
    """`python -m course ARGUMENTS`, in this process."""

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["course", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Said(ended.value.code, *capsys.readouterr())

    return call


def expect_error(said: Said, *words: str, code: int = 1) -> None:
    """One line on stderr that holds these words."""
    assert said.code == code
    assert said.err.startswith("Error: ")
    assert said.err.count("\n") == 1
    for word in words:
        assert word in said.err


def in_a_process(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "course", *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )


# --- The command line itself -------------------------------------------------------------------


def test_help_of_the_whole_names_every_command() -> None:
    done = in_a_process("--help")
    assert done.returncode == 0
    assert re.findall(r"^  ([a-z]+) ", done.stdout, re.MULTILINE) == COMMANDS
    assert done.stderr == ""


def test_no_command_is_a_wish_for_help(course: Course) -> None:
    assert course() == course("--help")
    assert course().code == 0


@pytest.mark.parametrize("command", [*COMMANDS[:-1], "evaluate qr", "evaluate protection"])
def test_help_of_each_command(command: str) -> None:
    done = CliRunner().invoke(cli.app, [*command.split(), "--help"])
    function = getattr(cli, command.replace(" ", "_"))
    summary, *_ = (inspect.getdoc(function) or "").split("\n")
    assert done.exit_code == 0
    assert summary[:50] in done.output
    options = inspect.signature(function).parameters
    for name in options:
        assert name in done.output or f"--{name.replace('_', '-')}" in done.output


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["sampel"], "sampel"),
        (["train"], "Missing argument"),
        (["sample", "--n", "0"], "--n"),
        (["sample", "--n", "two"], "--n"),
        (["sample", "--steps", "0"], "--steps"),
        (["sample", "--steps", "1001"], "--steps"),
        (["sample", "--seed", "-1"], "--seed"),
        (["sample", "--seed", str(2**64)], "--seed"),
        (["sample", "--sede", "1"], "--sede"),
        (["sample", "mnist-cfg", "--label", "10"], "--label"),
        (["sample", "mnist-cfg", "--label", "-1"], "--label"),
        (["sample", "mnist-cfg", "--label", "seven"], "--label"),
        (["sample", "mnist-cfg", "--guidance-scale", "much"], "--guidance-scale"),
        (["train", "mnist-ddpm", "--steps", "0"], "--steps"),
    ],
)
def test_wrong_options_are_one_line(course: Course, arguments: list[str], word: str) -> None:
    expect_error(course(*arguments), word, code=2)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CourseError("Do this.\nThen that."), "Error: Do this. Then that.\n"),
        (ValueError("steps is at least 1."), "Error: steps is at least 1.\n"),
        (OSError(28, "No space left on device"), "Error: [Errno 28] No space left on device\n"),
    ],
)
def test_what_can_be_put_right_is_one_line(
    course: Course, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    monkeypatch.setattr("course.generate.generate", raising(error))
    assert course("sample", "--out", "never.png") == Said(1, "", words)


def raising(error: BaseException) -> Callable[..., Any]:
    def call(*_: object, **__: object) -> None:
        raise error

    return call


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what its user can put right is made short."""
    monkeypatch.setattr("course.generate.generate", raising(AssertionError("a bug")))
    monkeypatch.setattr(sys, "argv", ["course", "sample", "--out", "never.png"])
    with pytest.raises(AssertionError, match="a bug"):
        cli.main()


def test_ctrl_c(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("course.generate.generate", raising(KeyboardInterrupt()))
    assert course("sample", "--out", "never.png") == Said(130, "", "Interrupted.\n")


def test_a_package_that_is_not_installed(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "course.generate")
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    expect_error(course("sample", "--out", "never.png"), "tqdm", "`pip install .`")


def test_signs_that_a_pipe_does_not_know(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where a pipe is cp1252 and has no ✓."""
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr("course.cli._check_mnist", list)
    monkeypatch.setattr("course.cli._check_weights", list)
    monkeypatch.setattr(sys, "stdout", pipe)
    code = course("doctor").code
    pipe.flush()
    assert code == 0
    assert b"? Python 3" in pipe.buffer.getvalue()  # type: ignore[attr-defined]


def test_python_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    monkeypatch.setattr(sys, "version", "3.10.4 (main, …)")
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer; this is 3\.10\.4"):
        runpy.run_module("course", run_name="__main__")


def test_a_python_that_is_not_the_courses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "course.cli")
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit, match=r"typer.*Try \.venv/bin/python -m course"):
        runpy.run_module("course", run_name="__main__")


# --- doctor ------------------------------------------------------------------------------------


@pytest.fixture
def copied_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "data", tmp_path / "data")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_doctor_where_all_is_well() -> None:
    done = in_a_process("doctor")
    assert done.returncode == 0
    assert "✗" not in done.stdout
    for word in ("torch", "MNIST", "weights mnist-ddpm", "weights mnist-judge", "GPU", "free disk"):
        assert f"✓ {word}" in done.stdout
    assert done.stdout.count("scanner") == 3
    assert done.stderr == ""


def test_doctor_finds_damaged_weights(course: Course, copied_data: Path) -> None:
    (copied_data / "weights" / "mnist-judge.safetensors").write_bytes(b"\0")
    said = course("doctor")
    assert said.code == 1
    assert re.search(r"✗ .*mnist-judge\.safetensors is damaged.*git checkout", said.out)
    assert "✓ weights mnist-ddpm" in said.out


@pytest.mark.parametrize("lost", ["mnist-judge.json", "mnist-judge.safetensors"])
def test_doctor_finds_lost_weights(course: Course, copied_data: Path, lost: str) -> None:
    (copied_data / "weights" / lost).unlink()
    said = course("doctor")
    assert said.code == 1
    assert re.search(rf"✗ .*{re.escape(lost)} is missing", said.out)


def test_doctor_finds_no_weights_at_all(course: Course, copied_data: Path) -> None:
    shutil.rmtree(copied_data / "weights")
    said = course("doctor")
    assert said.code == 1
    assert "✗ No weights: restore them with `git checkout -- data/weights`." in said.out


def test_doctor_finds_damaged_mnist(course: Course, copied_data: Path) -> None:
    (copied_data / "mnist" / "train-labels-idx1-ubyte.gz").write_bytes(b"\0")
    said = course("doctor")
    assert said.code == 1
    assert re.search(r"✗ .*train-labels-idx1-ubyte\.gz is damaged", said.out)


@pytest.fixture
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A doctor who looks at the machine alone."""
    monkeypatch.setattr("course.cli._check_mnist", list)
    monkeypatch.setattr("course.cli._check_weights", list)


@pytest.mark.usefixtures("no_files")
def test_doctor_finds_too_little_disk(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(ROOT)._replace(free=2**28)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    said = course("doctor")
    assert said.code == 1
    assert "✗ Only 0.2 GiB of disk are free here" in said.out


@pytest.mark.usefixtures("no_files")
def test_doctor_finds_missing_and_old_packages(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = {"torch": "99.1", "numpy": "1.26", "no-such-package": "1.0"}
    monkeypatch.setattr("course.cli.needed_packages", lambda: needed)
    said = course("doctor")
    assert said.code == 1
    assert re.search(r"✗ torch \S+ is too old: run `pip install 'torch>=99\.1'`", said.out)
    assert "✗ no-such-package is not installed: run `pip install .`" in said.out
    assert "✓ numpy" in said.out


def test_doctor_goes_on_without_torch(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "course.data")
    monkeypatch.setitem(sys.modules, "torch", None)
    said = course("doctor")
    assert said.code == 1
    assert "✗ MNIST and the weights were not looked at: " in said.out


def test_doctor_knows_the_packages_of_an_installed_course(monkeypatch: pytest.MonkeyPatch) -> None:
    requires = ["torch>=2.4", "pyzmq>=1; extra == 'dev'", "typer>=0.12"]
    monkeypatch.setattr("course.cli.__file__", "/somewhere/else/course/cli.py")
    monkeypatch.setattr("importlib.metadata.requires", lambda _: requires)
    assert cli.needed_packages() == {"torch": "2.4", "typer": "0.12"}


def test_a_scanner_whose_library_is_missing_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_scanner.py").write_text("raise ImportError('no libzbar')")
    monkeypatch.syspath_prepend(tmp_path)
    assert not cli._can_import("broken_scanner")
    assert cli._can_import("json")


# --- train -------------------------------------------------------------------------------------


def test_train_an_unknown_name(course: Course) -> None:
    expect_error(course("train", "mnist-dpm"), "Did you mean 'mnist-ddpm'?", "mnist-judge")


@pytest.fixture
def tiny_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipes.RECIPES, "tiny", tiny)


@pytest.mark.usefixtures("tiny_recipe")
def test_train_and_publish(course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    said = course("train", "tiny", "--steps", 3, "--publish")
    path = Path("runs") / "tiny" / "tiny.safetensors"
    published = tmp_path / "weights" / "tiny.safetensors"
    assert said.code == 0
    assert said.out == f"Trained: {path}\nPublished: {published}\n"
    assert published.read_bytes() == path.read_bytes()


@pytest.mark.usefixtures("tiny_recipe")
def test_train_where_nothing_can_be_written(course: Course, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("no folder")
    expect_error(course("train", "tiny", "--out", tmp_path / "run"), "could not be written")


@pytest.mark.usefixtures("tiny_recipe")
def test_an_interrupted_training_ends_with_ctrl_cs_exit_code(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("course.runs.run", lambda *_, **__: None)
    assert course("train", "tiny").code == 130


# --- sample ------------------------------------------------------------------------------------


def drawn(course: Course, path: Path, *options: object, name: str = "mnist-ddpm") -> Path:
    said = course("sample", name, "--n", 3, "--steps", 2, "--out", path, *options)
    assert (said.code, said.out) == (0, f"Saved 3 images: {path}\n")
    return path


def test_sample_npy(course: Course, tmp_path: Path) -> None:
    images = np.load(drawn(course, tmp_path / "a.npy"), allow_pickle=False)
    assert (images.shape, images.dtype) == ((3, 1, 28, 28), np.float32)
    assert 0 <= images.min() < images.max() <= 1


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    course: Course, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("a.npy", "b.npy", "c.npy")]
    a, b, c = (
        drawn(course, path, "--seed", seed).read_bytes()
        for path, seed in zip(paths, (5, 5, 6), strict=True)
    )
    assert a == b != c


def test_sample_png_is_a_grid_of_the_same_images(course: Course, tmp_path: Path) -> None:
    images = np.load(drawn(course, tmp_path / "a.npy"))
    sheet = np.asarray(Image.open(drawn(course, tmp_path / "new" / "a.png")))
    assert sheet.shape == (62, 62)  # Two rows of two, with gaps of two pixels.
    assert np.abs(sheet[2:30, 32:60] / 255 - images[1, 0]).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("name", ["mnist-ddpm", "mnist-cfg"])
def test_batches_change_nothing(name: str) -> None:
    whole, parts = (generate(name, 5, 2, 0, batch_size=size) for size in (5, 2))
    # A batch's size changes rounding, which the step from t = 999 magnifies 20,000 times.
    assert (whole - parts).abs().mean() < 1e-3


@pytest.mark.parametrize("out", ["a.jpg", "a", "a.npy.gz", ".png"])
def test_sample_to_a_file_of_another_kind(course: Course, tmp_path: Path, out: str) -> None:
    expect_error(course("sample", "--out", tmp_path / out), ".npy or .png", out)


def test_sample_checks_that_it_can_write_before_it_works(
    course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("course.generate.generate", raising(AssertionError("it was drawn first")))
    (tmp_path / "plain").write_text("no folder")
    (tmp_path / "folder.png").mkdir()
    for out in (tmp_path / "plain" / "a.png", tmp_path / "folder.png"):
        expect_error(course("sample", "--out", out), f"{out} could not be written (")


def test_sample_from_unknown_weights(course: Course, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    expect_error(course("sample", "mnist-dpm", "--out", out), "did you mean 'mnist-ddpm'?")
    said = course("sample", "mnist-judge", "--out", out)
    expect_error(said, "draws from mnist-ddpm, mnist-cfg, scenery; not from 'mnist-judge'")
    said = course("sample", "--weights", tmp_path, "--out", out)
    expect_error(said, "No weights are named 'mnist-ddpm'", "none yet")
    assert not out.exists()


def judged(images: torch.Tensor) -> list[int]:
    """The digits that the judge sees."""
    with torch.no_grad():
        return load_judge()(images).argmax(dim=1).tolist()


def test_sample_draws_all_digits_in_turn() -> None:
    seen = judged(generate("mnist-cfg", 20, 10, seed=0))
    assert sum(digit == i % 10 for i, digit in enumerate(seen)) >= 18


def test_sample_draws_the_digit_that_it_is_asked_for(course: Course, tmp_path: Path) -> None:
    path = tmp_path / "sevens.npy"
    said = course("sample", "mnist-cfg", "--label", 7, "--n", 8, "--steps", 10, "--out", path)
    assert said.code == 0
    images = torch.from_numpy(np.load(path, allow_pickle=False)) * 2 - 1
    assert judged(images).count(7) >= 7


def test_guidance_scales(course: Course, tmp_path: Path) -> None:
    options = {
        "default": [],
        "the lesson's": ["--guidance-scale", GUIDANCE_SCALE],
        "none": ["--guidance-scale", 0, "--label", 3],
        "none, another label": ["--guidance-scale", 0, "--label", 4],
    }
    saved = {
        name: drawn(course, tmp_path / f"{i}.npy", *more, name="mnist-cfg").read_bytes()
        for i, (name, more) in enumerate(options.items())
    }
    assert saved["default"] == saved["the lesson's"] != saved["none"]
    assert saved["none"] == saved["none, another label"]


@pytest.mark.parametrize("option", ["--label", "--guidance-scale"])
def test_sample_from_weights_that_know_no_labels(
    course: Course, tmp_path: Path, option: str
) -> None:
    out = tmp_path / "a.png"
    expect_error(course("sample", option, 3, "--out", out), "no labels", option, "mnist-cfg")
    assert not out.exists()


@pytest.mark.parametrize("scale", ["nan", "inf"])
def test_sample_with_a_scale_that_is_no_number(course: Course, tmp_path: Path, scale: str) -> None:
    said = course("sample", "mnist-cfg", "--guidance-scale", scale, "--out", tmp_path / "a.png")
    expect_error(said, "guidance_scale", scale)


def test_sample_from_damaged_weights(course: Course, copied_data: Path, tmp_path: Path) -> None:
    (copied_data / "weights" / "mnist-ddpm.safetensors").write_bytes(b"\0")
    expect_error(course("sample", "--out", tmp_path / "a.png"), "is damaged", "git checkout")


@pytest.mark.parametrize(("n", "steps"), [(0, 1), (-1, 1), (1, 0), (1, 1001)])
def test_generate_refuses_what_makes_no_sense(n: int, steps: int) -> None:
    with pytest.raises(ValueError, match=f"not {n if n < 1 else steps}"):
        generate("mnist-ddpm", n, steps, seed=0)


@pytest.mark.parametrize("label", [-1, 10])
def test_generate_refuses_labels_that_are_no_digit(label: int) -> None:
    with pytest.raises(ValueError, match=f"0…9, not {label}"):
        generate("mnist-cfg", 1, 1, seed=0, label=label)


# --- build -------------------------------------------------------------------------------------


def test_build_without_the_builders_packages(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "course.authoring.build", None)
    expect_error(course("build"), "`pip install .[teach]`")


def test_build_of_an_unknown_lesson(course: Course) -> None:
    said = course("build", "99_no_such_lesson")
    assert said.code == 1
    *_, last = said.err.splitlines()
    assert last.startswith("Error: ")
    assert "99_no_such_lesson" in last


# --- progress ----------------------------------------------------------------------------------

LESSON = "02_forward_process"
NAMES = [n for n, e in exercises().items() if e.reference.__module__ == "course.forward_process"]
STUB = "def {0}(*args, **kwargs):\n    raise NotImplementedError"


def write_notebook(folder: Path, cells: dict[str, str], *others: str) -> Path:
    """Lesson 02 with these cells of its exercises, stubs of the rest, and other cells before."""
    sources = [*others, *(cells.get(name, STUB.format(name)) for name in NAMES)]
    code = [{"cell_type": "code", "source": text.splitlines(keepends=True)} for text in sources]
    path = folder / f"{LESSON}.ipynb"
    content = {"cells": [{"cell_type": "markdown", "source": ["def snr("]}, *code]}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def states(path: Path) -> dict[str, str]:
    return {result.exercise: result.state for result in notebook_progress(path)}


def reference(name: str) -> str:
    return inspect.getsource(exercises()[name].reference)


def test_progress_in_untouched_notebooks(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    said = course("progress")
    assert said.code == 1
    *lines, last = said.out.splitlines()
    assert len(lines) > 5
    assert all(line.startswith("○ ") for line in lines)
    assert last == f"0 of {len(lines)} exercises are right."
    assert said.err == ""


def test_progress_in_the_solved_notebook(course: Course) -> None:
    said = course("progress", ROOT / "solutions" / f"{LESSON}.ipynb")
    assert said.code == 0
    assert said.out.splitlines()[-1] == f"{len(NAMES)} of {len(NAMES)} exercises are right."


def test_progress_in_a_notebook_half_done(course: Course, tmp_path: Path) -> None:
    cells = {
        "q_sample": reference("q_sample"),
        "snr": "def snr(alpha_bars):\n    return alpha_bars",
    }
    path = write_notebook(tmp_path, cells)
    said = course("progress", path, "--details")
    assert said.code == 1
    assert f"✓ {LESSON}  q_sample" in said.out
    assert re.search(rf"✗ {LESSON}  snr\n    \S", said.out)
    assert f"○ {LESSON}  forward_step" in said.out
    assert said.out.splitlines()[-1] == f"1 of {len(NAMES)} exercises are right."
    assert "    " not in course("progress", path).out


def test_progress_finds_a_deleted_exercise(course: Course, tmp_path: Path) -> None:
    said = course("progress", write_notebook(tmp_path, {"snr": "x = 1"}))
    assert said.code == 1
    where = f"`git show HEAD:notebooks/{LESSON}.ipynb` has it"
    assert f"? {LESSON}  snr: its cell was deleted; {where}\n" in said.out


def test_progress_in_a_notebook_without_cells(tmp_path: Path) -> None:
    path = tmp_path / f"{LESSON}.ipynb"
    path.write_text('{"cells": []}', encoding="utf-8")
    assert states(path) == dict.fromkeys(NAMES, "deleted")


@pytest.mark.parametrize(
    "answer",
    [
        "def snr(alpha_bars:\n    return",
        "def snr(alpha_bars):\nreturn 1",
        "raise ValueError\ndef snr(alpha_bars):\n    return 1",
        "def snr(alpha_bars):\n    exit()",
        "exit()\ndef snr(alpha_bars): ...",
        "def snr(alpha_bars):\n    return snr(alpha_bars)",
        "def snr(alpha_bars):\n    return no_such_name",
        "def snr(alpha_bars):\n    return '\0'",
        "class snr: ...",
    ],
)
def test_progress_survives_any_answer(tmp_path: Path, answer: str) -> None:
    found = states(write_notebook(tmp_path, {"snr": answer}))
    assert found.pop("snr") == "wrong"
    assert set(found.values()) == {"not done"}


@pytest.mark.parametrize(
    ("answer", "others"),
    [
        ("%%time\n" + reference("snr"), []),
        ("!ls\n" + reference("snr") + "\nprint('noise')", []),
        ("import math\n" + reference("snr"), []),
        (
            "def snr(alpha_bars):\n    return ratio(alpha_bars)",
            ["def ratio(x):\n    return op.truediv(x, 1 - x)", "import operator as op\nx = 1 / 0"],
        ),
        ("def snr(alpha_bars): ...\n\n" + reference("snr"), ["def snr(alpha_bars): return 0"]),
    ],
)
def test_progress_counts_what_the_notebook_counts(
    course: Course, tmp_path: Path, answer: str, others: list[str]
) -> None:
    """Magics, imports of one's own, a helper in another cell, a definition that comes later."""
    said = course("progress", write_notebook(tmp_path, {"snr": answer}, *others))
    assert f"✓ {LESSON}  snr\n" in said.out
    assert "noise" not in said.out


def test_an_open_exercise_does_not_fail_a_later_one(tmp_path: Path) -> None:
    """In the notebook `check` puts the reference in its place, and so does `progress`."""
    path = write_notebook(tmp_path, {}, STUB.format("predict_x0"), reference("ddpm_step"))
    found = states(path.rename(tmp_path / "04_sampling.ipynb"))
    assert "predict_x0(" in reference("ddpm_step")
    assert (found["ddpm_step"], found["predict_x0"]) == ("right", "not done")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"cells": 3}', '{"cells": [1]}', "\xff"])
def test_progress_names_a_garbled_notebook_and_goes_on(
    course: Course, tmp_path: Path, text: str
) -> None:
    good = write_notebook(tmp_path, {"snr": reference("snr")})
    bad = tmp_path / "garbled" / f"{LESSON}.ipynb"
    bad.parent.mkdir()
    bad.write_bytes(text.encode("latin-1"))
    said = course("progress", bad, good)
    expect_error(said, f"{bad} is not a readable notebook", "git checkout")
    assert f"1 of {len(NAMES)} exercises are right." in said.out


def test_progress_of_a_notebook_under_another_name(course: Course, tmp_path: Path) -> None:
    path = write_notebook(tmp_path, {}).rename(tmp_path / "mine.ipynb")
    expect_error(course("progress", path), "mine is not a lesson of this course")
    expect_error(course("progress", tmp_path / "02_forward_process.ipynb"), "not a readable")


def test_copies_are_left_alone(tmp_path: Path) -> None:
    path = write_notebook(tmp_path, {})
    for other in (f"{LESSON}-Copy1.ipynb", "Untitled.ipynb"):
        shutil.copy(path, tmp_path / other)
    assert lesson_notebooks(tmp_path) == [path]


def test_progress_away_from_the_repository(
    course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expect_error(course("progress"), "run this in the repository's folder")
