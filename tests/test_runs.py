"""Training that can be trusted: stop it anywhere, in any way, and it goes on bit for bit."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from course import recipes, runs
from course.errors import CourseError
from course.recipes.base import Recipe
from course.runs import launched_by_accelerate, load_checkpoint, run, save_checkpoint
from course.training import TrainState, train
from course.weights import card, load_weights, save_weights
from tests.tiny_course import tiny

ROOT = Path(__file__).parents[1]
STEPS = 60
POSIX = pytest.mark.skipif(
    sys.platform == "win32", reason="signals, limits and processes as POSIX has them"
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert run(tiny(), folder) == folder / "tiny.safetensors"
    return folder


def checkpoint(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "checkpoint.safetensors")


def log(folder: Path) -> list[dict[str, float]]:
    """The log without what no run repeats: how long it took."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(x).items() if k != "cpu_minutes"} for x in lines]


def expect_same(folder: Path, other: Path) -> None:
    """Model, average, moments, log and the weights to ship: the same bits."""
    mine, theirs = checkpoint(folder), checkpoint(other)
    assert mine.keys() == theirs.keys()
    assert {key.split(".")[0] for key in mine} == {"model", "ema", "optimizer"}
    assert [k for k in mine if not torch.equal(mine[k], theirs[k])] == []
    assert log(folder) == log(other)
    files = [path / "tiny.safetensors" for path in (folder, other)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert card("tiny", folder)["metrics"] == card("tiny", other)["metrics"]


def press_ctrl_c(at: int, recipe: Recipe) -> Recipe:
    """The recipe, with Ctrl-C pressed while that step computes."""

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        if step == at - 1:
            signal.raise_signal(signal.SIGINT)
        return recipe.draw(step, generator)

    return dataclasses.replace(recipe, draw=draw)


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)


# --- Without interruption ------------------------------------------------------------------------


def test_a_run_writes_weights_card_log_and_checkpoint(uninterrupted: Path) -> None:
    about = card("tiny", uninterrupted)
    assert about["command"] == "python -m course train tiny"
    assert (about["steps"], about["seed"], about["warm_start"]) == (STEPS, 0, False)
    assert about["config"] == {"channels": [16, 16], "emb_dim": 8}
    assert set(about["metrics"]) == {"mean_weight"}
    assert [line["step"] for line in log(uninterrupted)] == [25, 50]
    names = {path.name for path in uninterrupted.iterdir()}
    assert names == {"checkpoint.safetensors", "log.jsonl", "tiny.json", "tiny.safetensors"}


def test_the_weights_are_the_average_rounded(uninterrupted: Path) -> None:
    saved = load_file(uninterrupted / "tiny.safetensors")
    for key, x in checkpoint(uninterrupted).items():
        if key.startswith("ema."):
            assert torch.equal(saved[key.removeprefix("ema.")], x.half())


def test_the_loop_adds_nothing_to_what_it_computes(uninterrupted: Path) -> None:
    """The same as `train` by itself, without log, bar and files."""
    recipe = tiny()
    torch.manual_seed(recipe.seed)
    state = TrainState.start(recipe.build())
    settings: dict[str, Any] = {"lr": recipe.lr, "ema_decay": recipe.ema_decay}
    losses = [s.loss for s in train(state, recipe.draw, recipe.loss_fn, steps=STEPS, **settings)]
    assert losses[24] == log(uninterrupted)[0]["loss"]
    saved = checkpoint(uninterrupted)
    for key, x in state.ema.state_dict().items():
        assert torch.equal(saved[f"ema.{key}"], x)


def test_a_short_run_writes_one_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What slows a run is kept rare: a checkpoint a minute, and one at the end."""
    written: list[int] = []
    monkeypatch.setattr(runs, "save_checkpoint", lambda path, state, _: written.append(state.step))
    run(tiny(), tmp_path, steps=30)
    assert written == [30]


def test_a_finished_run_runs_no_step_again(uninterrupted: Path, tmp_path: Path) -> None:
    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        raise AssertionError(f"step {step} ran again")

    copy_run(uninterrupted, tmp_path)
    run(dataclasses.replace(tiny(), draw=draw), tmp_path)
    expect_same(tmp_path, uninterrupted)


def test_it_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    run(tiny(), tmp_path, steps=2)
    assert torch.equal(torch.get_rng_state(), before)


def copy_run(folder: Path, to: Path) -> None:
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())


# --- Interrupted ---------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [[1], [7, 33], [25, 26, 59]])
def test_ctrl_c_saves_and_the_run_goes_on_bit_for_bit(
    tmp_path: Path, uninterrupted: Path, at: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    for step in at:
        assert run(press_ctrl_c(step, tiny()), tmp_path) is None
        said = f"Stopped at step {step} of {STEPS}; the same command goes on from there."
        assert said in capsys.readouterr().out
        assert not (tmp_path / "tiny.safetensors").exists()
    run(tiny(), tmp_path)
    expect_same(tmp_path, uninterrupted)


def test_ctrl_c_in_the_last_step_ends_the_run_as_usual(tmp_path: Path, uninterrupted: Path) -> None:
    run(press_ctrl_c(STEPS, tiny()), tmp_path)
    expect_same(tmp_path, uninterrupted)


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it went on")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(dataclasses.replace(tiny(), draw=draw), tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


class Killed(BaseException):
    """Stands for a kill: nothing in the code catches it."""


@pytest.mark.parametrize("at", [3, 51])
def test_steps_after_the_last_checkpoint_run_again(
    tmp_path: Path, uninterrupted: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log already holds lines of steps that the checkpoint does not."""
    monkeypatch.setattr(runs, "STEPS_BETWEEN_LOG_LINES", 1)
    assert run(press_ctrl_c(2, tiny()), tmp_path) is None

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        if step == at:
            raise Killed
        return tiny().draw(step, generator)

    with pytest.raises(Killed):
        run(dataclasses.replace(tiny(), draw=draw), tmp_path)
    assert [line["step"] for line in log(tmp_path)] == list(range(1, at + 1))
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": ' + str(at + 1) + ', "loss": 0.')  # cut by the kill
    run(tiny(), tmp_path)
    assert [line["step"] for line in log(tmp_path)] == list(range(1, STEPS + 1))
    kept = [line for line in log(tmp_path) if line["step"] in (25, 50)]
    assert kept == log(uninterrupted)


class Judgelike(nn.Module):
    """A classifier whose batch norms keep running averages and a count."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def judgelike() -> Recipe:
    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.randn(6, 1, 8, 8, generator=generator), torch.arange(6) % 3

    def loss_fn(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(x), y)

    return dataclasses.replace(tiny(), build=Judgelike, draw=draw, loss_fn=loss_fn, config={})


def test_running_averages_go_on_as_well(tmp_path: Path) -> None:
    run(judgelike(), tmp_path / "whole", steps=20)
    run(press_ctrl_c(9, judgelike()), tmp_path / "parts", steps=20)
    run(judgelike(), tmp_path / "parts", steps=20)
    counts = checkpoint(tmp_path / "parts")["model.layers.1.num_batches_tracked"]
    assert counts == 20
    expect_same(tmp_path / "parts", tmp_path / "whole")


def test_a_run_reports_the_cpu_minutes_of_all_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 6000, 60))
    monkeypatch.setattr(time, "process_time", lambda: next(clock))
    run(press_ctrl_c(3, tiny()), tmp_path, steps=5)
    run(tiny(), tmp_path, steps=5)
    assert card("tiny", tmp_path)["cpu_minutes"] == 5


# --- The same as its user meets it: other processes ----------------------------------------------


def command(folder: Path, *options: str) -> list[str]:
    start = [sys.executable, "-m", "tests.tiny_course", "train", "tiny"]
    return [*start, "--out", str(folder), *options]


def start(folder: Path, pause: float) -> "subprocess.Popen[str]":
    """A run in a process of its own, each of whose steps takes `pause` seconds longer."""
    return subprocess.Popen(
        command(folder),
        cwd=ROOT,
        env={**os.environ, "TINY_PAUSE": str(pause)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def wait_for(process: "subprocess.Popen[str]", path: Path) -> None:
    """Until the run has written that file."""
    end = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def interrupted_children() -> Iterator[list["subprocess.Popen[str]"]]:
    """Processes that do not outlive their test."""
    children: list[subprocess.Popen[str]] = []
    yield children
    for child in children:
        if child.poll() is None:
            child.kill()
        child.communicate()


def test_a_kill_loses_no_more_than_the_steps_since_the_checkpoint(
    tmp_path: Path, uninterrupted: Path, interrupted_children: list["subprocess.Popen[str]"]
) -> None:
    """Killed anywhere, in the middle of a write even: this run writes at every step."""
    child = start(tmp_path, pause=0.05)
    interrupted_children.append(child)
    wait_for(child, tmp_path / "log.jsonl")
    wait_for(child, tmp_path / "checkpoint.safetensors")
    time.sleep(0.2)
    child.kill()
    child.communicate()
    assert not (tmp_path / "tiny.safetensors").exists()
    run(tiny(), tmp_path)
    expect_same(tmp_path, uninterrupted)


@POSIX
def test_ctrl_c_at_the_command_line(
    tmp_path: Path, uninterrupted: Path, interrupted_children: list["subprocess.Popen[str]"]
) -> None:
    child = start(tmp_path, pause=0.1)
    interrupted_children.append(child)
    wait_for(child, tmp_path / "checkpoint.safetensors")
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert f"of {STEPS}; the same command goes on from there." in out
    assert "Traceback" not in err
    run(tiny(), tmp_path)
    expect_same(tmp_path, uninterrupted)


@POSIX
def test_a_file_system_that_is_full_in_earnest(tmp_path: Path, uninterrupted: Path) -> None:
    """The system itself refuses the bytes, here by a limit on a file's size."""
    run(press_ctrl_c(5, tiny()), tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    limited = f"""
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) // 2},) * 2)
del sys.argv[0]
runpy.run_module("tests.tiny_course", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", limited, *command(tmp_path)[2:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    *_, last = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert last.startswith(f"Error: {tmp_path / 'checkpoint.safetensors'} could not be written (")
    assert "Traceback" not in done.stderr
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))
    run(tiny(), tmp_path)
    expect_same(tmp_path, uninterrupted)


def launch(options: list[str], folder: Path, steps: int) -> "subprocess.CompletedProcess[str]":
    """What `accelerate launch OPTIONS -m … train tiny` does."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *options]
    launcher += ["--main_process_port", "0", "-m"]
    return subprocess.run(
        launcher + command(folder, "--steps", str(steps))[2:],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    weights = [key for key in a if key.startswith(("model.", "ema."))]
    return max((a[key].float() - b[key].float()).abs().max().item() for key in weights)


@POSIX
def test_two_processes_give_the_weights_of_one(tmp_path: Path) -> None:
    steps = 25
    done = launch(["--multi_gpu", "--num_processes", "2"], tmp_path / "two", steps)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained: ") == 1
    run(tiny(), tmp_path / "one", steps=steps)
    start = TrainState.start(tiny().build())
    save_checkpoint(tmp_path / "start" / "checkpoint.safetensors", start, {})
    one, two = checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two")
    assert largest_difference(one, two) < 2e-4  # float32, after Adam has divided by small numbers
    assert largest_difference(one, checkpoint(tmp_path / "start")) > 2e-2
    assert [line["step"] for line in log(tmp_path / "two")] == [25]  # One process wrote it.
    assert log(tmp_path / "two")[0]["loss"] == pytest.approx(
        log(tmp_path / "one")[0]["loss"], rel=1e-4
    )
    assert card("tiny", tmp_path / "two")["command"].endswith(f"--steps {steps}")


@POSIX
def test_ctrl_c_reaches_every_process(
    tmp_path: Path, interrupted_children: list["subprocess.Popen[str]"]
) -> None:
    options = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "-m"]
    child = subprocess.Popen(
        [sys.executable, "-m", "accelerate.commands.launch", *options, *command(tmp_path)[2:]],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TINY_PAUSE": "0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    interrupted_children.append(child)
    wait_for(child, tmp_path / "checkpoint.safetensors")
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert out.count("the same command goes on from there.") == 1
    step = int(out.split("Stopped at step ")[1].split()[0])
    saved = TrainState.start(tiny().build())
    load_checkpoint(tmp_path / "checkpoint.safetensors", saved)
    assert saved.step == step < STEPS


def test_an_ordinary_process_needs_no_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "MASTER_PORT", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)
    assert launched_by_accelerate() is None


def test_it_says_that_cpu_makes_accelerate_start_one_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `accelerate launch --cpu --num_processes 2` sets the variables, without MPI."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert launched_by_accelerate() is None
    assert "give --multi_gpu in place of --cpu" in capsys.readouterr().err


# --- What may be wrong ---------------------------------------------------------------------------


def test_a_full_disk_leaves_the_last_checkpoint(
    tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(press_ctrl_c(10, tiny()), tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with monkeypatch.context() as full:
        full.setattr(runs, "_forget_after", lambda *_: fill_disk(full))  # full from the start on
        with pytest.raises(CourseError, match=r"checkpoint\.safetensors could not be written \(No"):
            run(press_ctrl_c(20, tiny()), tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    run(tiny(), tmp_path)
    expect_same(tmp_path, uninterrupted)


@pytest.mark.parametrize("at", [0, 10])
def test_a_log_that_cannot_be_written(tmp_path: Path, at: int) -> None:
    """From the start, or from some step on."""
    log = tmp_path / "log.jsonl"

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        if step == at:
            log.unlink()
            log.mkdir()
        return tiny().draw(step, generator)

    if at == 0:
        log.mkdir()
    with pytest.raises(CourseError, match=r"log\.jsonl could not be written") as caught:
        run(dataclasses.replace(tiny(), draw=draw), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("no folder")
    with pytest.raises(CourseError, match="could not be written"):
        run(tiny(), tmp_path / "run")


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def empty(content: bytes) -> bytes:
    return b""


def alter(content: bytes) -> bytes:
    return content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]


def strip_metadata(content: bytes) -> bytes:
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    del header["__metadata__"]
    packed = json.dumps(header).encode().ljust(size)
    return content[:8] + packed + content[8 + size :]


@pytest.mark.parametrize("damage", [truncate, empty, alter, strip_metadata])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: Any) -> None:
    run(press_ctrl_c(3, tiny()), tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CourseError) as caught:
        run(tiny(), tmp_path)
    assert str(caught.value).startswith(f"{path} is damaged or belongs to another model; delete it")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    run(press_ctrl_c(3, tiny()), tmp_path)
    with pytest.raises(CourseError, match="damaged or belongs to another model"):
        run(judgelike(), tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"steps": 70}, "steps = 60, not 70"),
        ({"seed": 1}, "seed = 0, not 1"),
        ({"lr": 0.1}, "lr = 0.003, not 0.1"),
        ({"batch_size": 4}, "batch_size = 8, not 4"),
        ({"ema_decay": 0.5}, "ema_decay = 0.9, not 0.5"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    run(press_ctrl_c(3, tiny()), tmp_path)
    with pytest.raises(CourseError, match=f"was made with {complaint}"):
        run(dataclasses.replace(tiny(), **change), tmp_path)


def test_other_steps_are_refused(tmp_path: Path) -> None:
    run(press_ctrl_c(3, tiny()), tmp_path, steps=20)
    with pytest.raises(CourseError, match="was made with steps = 20, not 60"):
        run(tiny(), tmp_path)


def test_a_checkpoint_from_before_a_setting_was_kept_goes_on(
    tmp_path: Path, uninterrupted: Path
) -> None:
    """The first ones held steps, seed and warm_start alone, and no hash."""
    run(press_ctrl_c(30, tiny()), tmp_path)
    path, state = tmp_path / "checkpoint.safetensors", TrainState.start(tiny().build())
    about = load_checkpoint(path, state)
    for key in ("config", "lr", "batch_size", "ema_decay"):
        del about[key]
    save_checkpoint(path, state, about)
    run(tiny(), tmp_path)
    expect_same(tmp_path, uninterrupted)


@pytest.mark.parametrize("steps", [0, -5])
def test_too_few_steps_are_refused(tmp_path: Path, steps: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, not {steps}"):
        run(tiny(), tmp_path, steps=steps)


def test_a_diverging_run_keeps_its_last_good_checkpoint(tmp_path: Path) -> None:
    run(press_ctrl_c(10, tiny()), tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()

    def loss_fn(model: nn.Module, *batch: Tensor) -> Tensor:
        return tiny().loss_fn(model, *batch) * float("nan")

    with pytest.raises(CourseError, match="diverged: its loss is nan at step 11"):
        run(dataclasses.replace(tiny(), loss_fn=loss_fn), tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


# --- From the shipped weights --------------------------------------------------------------------


def test_a_warm_start_begins_from_the_shipped_weights(
    tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    shipped = load_weights(tiny().build(), "tiny", uninterrupted)
    save_weights(shipped, "tiny", {}, torch.float16)
    # The first step's learning rate is 0: after it the model is still what it began from.
    run(tiny(), tmp_path / "warm", steps=1, warm_start=True)
    after = checkpoint(tmp_path / "warm")
    for key, x in shipped.state_dict().items():
        assert torch.equal(after[f"model.{key}"], x), key
    assert card("tiny", tmp_path / "warm")["command"].endswith("--steps 1 --warm-start")
    with pytest.raises(CourseError, match="warm_start = True, not False"):
        run(tiny(), tmp_path / "warm", steps=1)


def test_a_warm_start_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights load for use; a batch norm in training keeps counting."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    save_weights(Judgelike(), "tiny", {}, torch.float16)
    run(judgelike(), tmp_path / "warm", steps=4, warm_start=True)
    assert checkpoint(tmp_path / "warm")["model.layers.1.num_batches_tracked"] == 4


def test_a_warm_start_without_shipped_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(CourseError, match="No weights are named 'tiny'"):
        run(tiny(), tmp_path / "warm", warm_start=True)


# --- The recipes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_each_recipe_takes_a_step(name: str) -> None:
    """A whole training is a command of its own; here, that its parts fit together."""
    recipe = recipes.recipe(name)
    state = TrainState.start(recipe.build())
    assert recipe.name == name
    first = next(train(state, recipe.draw, recipe.loss_fn, steps=recipe.steps, lr=recipe.lr))
    # The VAE's loss is a sum over 784 pixels; every other one is a mean, and near 1 at the start.
    assert 0 < first.loss < (1000 if name == "mnist-vae" else 10)


def test_an_unknown_recipe_gets_the_nearest_name() -> None:
    with pytest.raises(CourseError, match=r"Did you mean 'mnist-ddpm'\?"):
        recipes.recipe("mnist-dpm")
    with pytest.raises(CourseError, match="there are mnist-judge, mnist-ddpm"):
        recipes.recipe("")
