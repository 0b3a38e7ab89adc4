"""Long training runs: progress, a log, and checkpoints from which a run goes on bit for bit."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from course.errors import CourseError
from course.recipes import Recipe
from course.training import Step, TrainState, train
from course.weights import Card, load_tensors, load_weights, save_weights, write_atomically

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
    metadata = {"step": str(state.step), "about": json.dumps(about)}
    # contiguous() so that channels-last tensors can be written; copying back restores the layout.
    tensors = {k: x.detach().cpu().contiguous().clone() for k, x in tensors.items()}
    write_atomically(path, save(tensors, metadata))


def load_checkpoint(path: Path, state: TrainState) -> dict[str, Any]:
    """Put a checkpoint into a fresh state; returns what was saved beside it.

    Raises CourseError for a damaged file or one of another model.
    """
    from safetensors import SafetensorError, safe_open

    damaged = f"{path} is damaged or belongs to another model; delete it to start this run afresh."
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - not a dict
        load_tensors(state.model, _below("model.", tensors), str(path))
        load_tensors(state.ema, _below("ema.", tensors), str(path))
        _load_optimizer(state.optimizer, _below("optimizer.", tensors))
        state.step = int(metadata["step"])
        return json.loads(metadata["about"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise CourseError(damaged) from error


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): x for k, x in tensors.items() if k.startswith(prefix)}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for key, x in tensors.items():
        index, name = key.split(".")
        moments.setdefault(int(index), {})[name] = x
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
    CourseError where the disk is full, or for a checkpoint that is damaged or of other settings.
    """
    steps = steps or recipe.steps
    first = accelerator is None or accelerator.is_main_process
    state, about = _begin(recipe, folder, steps, warm_start)
    state.model.to(_device(accelerator))
    state.ema.to(_device(accelerator))

    log, cpu_before = folder / "log.jsonl", about["cpu_minutes"]
    _forget_after(log, state.step)
    started, saved = time.process_time(), time.monotonic()
    walk = train(
        state,
        recipe.draw,
        recipe.loss_fn,
        steps=steps,
        lr=recipe.lr,
        ema_decay=recipe.ema_decay,
        seed=recipe.seed,
        accelerator=accelerator,
    )
    bar = tqdm(walk, total=steps, initial=state.step, desc=recipe.name, disable=not first)
    with _stop_after_step() as stop:
        for step in bar:
            about["cpu_minutes"] = cpu_before + (time.process_time() - started) / 60
            bar.set_postfix(loss=f"{step.loss:.4f}", refresh=False)
            if not first:
                continue
            if step.step % STEPS_BETWEEN_LOG_LINES == 0:
                _append(log, step, about["cpu_minutes"])
            due = time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
            if due or stop or step.step == steps:
                save_checkpoint(folder / "checkpoint.safetensors", state, about)
                saved = time.monotonic()
            if stop:
                break
    if state.step < steps:
        tqdm.write(f"Stopped at step {state.step} of {steps}; the same command goes on from there.")
        return None
    return _finish(recipe, folder, state, about) if first else None


def _begin(
    recipe: Recipe, folder: Path, steps: int, warm_start: bool
) -> tuple[TrainState, dict[str, Any]]:
    torch.manual_seed(recipe.seed)
    model = recipe.build()
    if warm_start:
        load_weights(model, recipe.name).train()
    state = TrainState.start(model)
    about = {"steps": steps, "seed": recipe.seed, "warm_start": warm_start, "cpu_minutes": 0.0}
    checkpoint = folder / "checkpoint.safetensors"
    if not checkpoint.exists():
        return state, about
    saved = load_checkpoint(checkpoint, state)
    unlike = [k for k in ("steps", "seed", "warm_start") if saved.get(k) != about[k]]
    if unlike:
        raise CourseError(
            f"{checkpoint} was made with {unlike[0]} = {saved.get(unlike[0])}, not "
            f"{about[unlike[0]]}. Use the same setting to go on, or another folder for a new run."
        )
    return state, saved


def _device(accelerator: "Accelerator | None") -> torch.device:
    if accelerator is not None:
        return accelerator.device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
    with log.open("a", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(line) + "\n")


def _forget_after(log: Path, step: int) -> None:
    """Drop log lines of steps that the checkpoint does not hold: they are about to run again."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if not log.exists():
        return
    lines = log.read_text(encoding="utf-8").splitlines()
    # The last line may have been cut by a kill.
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    write_atomically(log, "".join(line + "\n" for line in kept).encode())


def _finish(recipe: Recipe, folder: Path, state: TrainState, about: Card) -> Path:
    """Measure the average's weights as they will be shipped, and write them with their card."""
    parameters = sum(p.numel() for p in state.ema.parameters())
    story = {
        "about": recipe.about,
        "command": f"python -m course train {recipe.name}",
        "config": recipe.config,
        "parameters": parameters,
        "lr": recipe.lr,
        "batch_size": recipe.batch_size,
        "ema_decay": recipe.ema_decay,
        **about,
        "cpu_minutes": round(about["cpu_minutes"], 1),
    }
    save_weights(state.ema, recipe.name, story, recipe.dtype, folder)
    shipped = load_weights(recipe.build(), recipe.name, folder)
    story["metrics"] = recipe.measure(shipped)
    return save_weights(state.ema, recipe.name, story, recipe.dtype, folder)


def launched_by_accelerate() -> "Accelerator | None":
    """The accelerator of `accelerate launch`, or None in an ordinary process."""
    if "WORLD_SIZE" not in os.environ:
        return None
    from accelerate import Accelerator

    return Accelerator(cpu=not torch.cuda.is_available())
