"""Long training runs: progress, a log, and checkpoints from which a run goes on bit for bit."""

import contextlib
import hashlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from course.errors import CourseError
from course.recipes.base import Recipe
from course.training import Step, TrainState, train
from course.weights import (
    Card,
    card,
    copy_weights,
    load_tensors,
    load_weights,
    save_weights,
    write_atomically,
    writing,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

SECONDS_BETWEEN_CHECKPOINTS = 60.0
STEPS_BETWEEN_LOG_LINES = 25


def save_checkpoint(path: Path, state: TrainState, about: dict[str, Any]) -> None:
    """Write all of a run's state to one file; a kill or a full disk leaves the last good one.

    Raises CourseError where it cannot be written.
    """
    from safetensors.torch import save

    tensors = {f"model.{k}": x for k, x in state.model.state_dict().items()}
    tensors |= {f"ema.{k}": x for k, x in state.ema.state_dict().items()}
    for i, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": x for k, x in moments.items()}
    # contiguous() so that channels-last tensors can be written; copying back restores the layout.
    tensors = {k: x.detach().cpu().contiguous().clone() for k, x in tensors.items()}
    metadata = {"step": str(state.step), "about": json.dumps(about), "sha256": _digest(tensors)}
    write_atomically(path, save(tensors, metadata))


def load_checkpoint(path: Path, state: TrainState) -> dict[str, Any]:
    """Put a checkpoint into a fresh state; returns what was saved beside it.

    Raises CourseError for a damaged file or one of another model.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - not a dict
        if metadata.get("sha256", digest := _digest(tensors)) != digest:
            raise ValueError("the SHA-256 differs")
        load_tensors(state.model, _below("model.", tensors), str(path))
        load_tensors(state.ema, _below("ema.", tensors), str(path))
        _load_optimizer(state.optimizer, _below("optimizer.", tensors))
        state.step = int(metadata["step"])
        return dict(json.loads(metadata["about"]))
    except (SafetensorError, CourseError, OSError, LookupError, ValueError, TypeError) as error:
        raise CourseError(
            f"{path} is damaged or belongs to another model; delete it to start this run afresh."
        ) from error


def _digest(tensors: dict[str, Tensor]) -> str:
    """The SHA-256 of tensors and their names, in whatever order they come."""
    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        sha256.update(name.encode())
        sha256.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): x for k, x in tensors.items() if k.startswith(prefix)}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give the optimizer its moments back, each laid out in memory like its parameter."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, x in tensors.items():
        index, name = key.split(".")
        like = parameters[int(index)]
        kept = torch.empty_like(like).copy_(x) if x.shape == like.shape else x.clone()
        moments.setdefault(int(index), {})[name] = kept
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def run(
    recipe: Recipe,
    folder: Path,
    *,
    steps: int | None = None,
    warm_start: bool = False,
    accelerator: "Accelerator | None" = None,
) -> Path | None:
    """Train a recipe in `folder`, from its checkpoint where there is one; write its weights there.

    `steps` replaces the recipe's own number; `warm_start` begins from the shipped weights. Returns
    the weights' path, or None where Ctrl-C stopped the run (the same call goes on). Raises
    CourseError where the disk is full, for a checkpoint that is damaged or of other settings, and
    for a loss that is no longer a number.
    """
    settings = _settings(recipe, steps, warm_start)
    state, about = _begin(recipe, folder, settings, _device(accelerator))
    _walk(recipe, folder, state, about, accelerator)
    first = accelerator is None or accelerator.is_main_process
    if first and state.step < about["steps"]:
        where = f"step {state.step} of {about['steps']}"
        tqdm.write(f"Stopped at {where}; the same command goes on from there.")
    elif first:
        _finish(recipe, folder, state, about)
    return folder / f"{recipe.name}.safetensors" if state.step == about["steps"] else None


def _settings(recipe: Recipe, steps: int | None, warm_start: bool) -> dict[str, Any]:
    """What must stay the same when a run goes on, as its checkpoint and its card hold it."""
    steps = recipe.steps if steps is None else steps
    if steps < 1:
        raise ValueError(f"steps is at least 1, not {steps}.")
    return {
        "config": json.loads(json.dumps(recipe.config)),
        "lr": recipe.lr,
        "batch_size": recipe.batch_size,
        "ema_decay": recipe.ema_decay,
        "steps": steps,
        "seed": recipe.seed,
        "warm_start": warm_start,
    }


def _begin(
    recipe: Recipe, folder: Path, settings: dict[str, Any], device: torch.device
) -> tuple[TrainState, dict[str, Any]]:
    """A run's state, new or from its checkpoint, and what is known of the run."""
    model = _build(recipe)
    if settings["warm_start"]:
        _load_shipped(recipe, model).train()
    # On its device before the optimizer's moments are loaded: they go where the parameters are.
    state = TrainState.start(model.to(device))
    checkpoint = folder / "checkpoint.safetensors"
    if not checkpoint.exists():
        return state, {**settings, "cpu_minutes": 0.0}
    saved = load_checkpoint(checkpoint, state)
    for key, value in settings.items():
        if key in saved and saved[key] != value:
            raise CourseError(
                f"{checkpoint} was made with {key} = {saved[key]}, not {value}. Use the same "
                "setting to go on, or another folder for a new run."
            )
    return state, {**settings, **saved}


def _load_shipped(recipe: Recipe, model: nn.Module) -> nn.Module:
    """Put the shipped weights into a model. Raises CourseError where they cannot be read."""
    return recipe.published(model) if recipe.published else load_weights(model, recipe.name)


def _build(recipe: Recipe) -> nn.Module:
    """The untrained model; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return recipe.build()


def _device(accelerator: "Accelerator | None") -> torch.device:
    if accelerator is not None:
        return accelerator.device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _walk(
    recipe: Recipe,
    folder: Path,
    state: TrainState,
    about: dict[str, Any],
    accelerator: "Accelerator | None",
) -> None:
    """Train to the last step or to Ctrl-C; the main process keeps the log and the checkpoint."""
    first = accelerator is None or accelerator.is_main_process
    log, checkpoint = folder / "log.jsonl", folder / "checkpoint.safetensors"
    if first:
        _forget_after(log, state.step)
    cpu_before, started, saved = about["cpu_minutes"], time.process_time(), time.monotonic()
    steps = _training(recipe, state, about["steps"], accelerator)
    bar = tqdm(steps, total=about["steps"], initial=state.step, desc=recipe.name, disable=not first)
    with _stop_after_step() as pressed, bar:
        for step in bar:
            cpu = time.process_time() - started
            stop, cpu_seconds = _total([len(pressed), cpu], accelerator)
            about["cpu_minutes"] = cpu_before + cpu_seconds / 60
            bar.set_postfix(loss=f"{step.loss:.4f}", refresh=False)
            _refuse_divergence(step)
            if first and step.step % STEPS_BETWEEN_LOG_LINES == 0:
                _append(log, step, about["cpu_minutes"])
            due = time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
            if first and (due or stop or step.step == about["steps"]):
                save_checkpoint(checkpoint, state, about)
                saved = time.monotonic()
            if stop:
                return


def _training(
    recipe: Recipe, state: TrainState, steps: int, accelerator: "Accelerator | None"
) -> Iterator[Step]:
    return train(
        state,
        recipe.draw,
        recipe.loss_fn,
        steps=steps,
        lr=recipe.lr,
        ema_decay=recipe.ema_decay,
        seed=recipe.seed,
        accelerator=accelerator,
    )


def _total(numbers: list[float], accelerator: "Accelerator | None") -> list[float]:
    """Each number, summed over the processes: what all of them know alike."""
    if accelerator is None:
        return numbers
    mine = torch.tensor(numbers, dtype=torch.float64, device=accelerator.device)
    return list(accelerator.reduce(mine, "sum").tolist())


def _refuse_divergence(step: Step) -> None:
    if not math.isfinite(step.loss) or not math.isfinite(step.grad_norm):
        raise CourseError(
            f"This training diverged: its loss is {step.loss} at step {step.step}. The checkpoint "
            "is from before that; use a smaller learning rate, and another folder."
        )


@contextlib.contextmanager
def _stop_after_step() -> Iterator[list[int]]:
    """A list that Ctrl-C fills, so that no step is cut in half; a second Ctrl-C stops at once."""
    pressed: list[int] = []

    def on_press(number: int, frame: Any) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = signal.signal(signal.SIGINT, on_press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _append(log: Path, step: Step, cpu_minutes: float) -> None:
    line = {**step._asdict(), "cpu_minutes": round(cpu_minutes, 3)}
    with writing(log), log.open("a", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(line) + "\n")


def _forget_after(log: Path, step: int) -> None:
    """Drop log lines of steps that the checkpoint does not hold: they are about to run again."""
    with writing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    kept = [line for line in text.splitlines() if (_step_of(line) or step + 1) <= step]
    write_atomically(log, "".join(line + "\n" for line in kept).encode())


def _step_of(line: str) -> int | None:
    """The step of a log line; None where a kill cut the line short."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, LookupError, TypeError):
        return None


def _finish(recipe: Recipe, folder: Path, state: TrainState, about: Card) -> None:
    """Measure the average's weights as they will be shipped, and write them with their card."""
    story = {
        "about": recipe.about,
        "command": _command(recipe, about),
        "parameters": sum(p.numel() for p in state.ema.parameters()),
        **about,
        "cpu_minutes": round(about["cpu_minutes"], 1),
    }
    save_weights(state.ema, recipe.name, story, recipe.dtype, folder)
    shipped = load_weights(_build(recipe), recipe.name, folder)
    story["metrics"] = recipe.measure(shipped)
    save_weights(state.ema, recipe.name, story, recipe.dtype, folder)


def publish(recipe: Recipe, folder: Path) -> Path:
    """Make the weights of a run in `folder` the shipped ones; returns where they are now."""
    if recipe.publish is None:
        return copy_weights(recipe.name, folder)
    trained = load_weights(_build(recipe), recipe.name, folder)
    return recipe.publish(trained, card(recipe.name, folder))


def _command(recipe: Recipe, about: Card) -> str:
    """What makes these weights again."""
    steps = "" if about["steps"] == recipe.steps else f" --steps {about['steps']}"
    warm = " --warm-start" if about["warm_start"] else ""
    return f"python -m course train {recipe.name}{steps}{warm}"


def launched_by_accelerate() -> "Accelerator | None":
    """The accelerator of `accelerate launch`, or None in an ordinary process.

    Processes without GPUs come from `accelerate launch --multi_gpu`, for all its name.
    """
    if "WORLD_SIZE" not in os.environ:
        if os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_PORT" in os.environ:
            # With --cpu it starts one process, however many were asked for, and says nothing.
            tqdm.write("One process: for more, give --multi_gpu in place of --cpu.", sys.stderr)
        return None
    from accelerate import Accelerator

    return Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")
