"""The shipped weights: safetensors beside a card that says how they were made."""

import difflib
import hashlib
import json
import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from course.data import data_dir
from course.errors import CourseError

Card = dict[str, Any]
Model = TypeVar("Model", bound=nn.Module)


def weights_dir() -> Path:
    """The folder of the shipped weights."""
    return data_dir() / "weights"


def available() -> list[str]:
    """The names of the shipped weights, sorted."""
    return sorted(path.stem for path in weights_dir().glob("*.safetensors"))


def card(name: str, folder: Path | None = None) -> Card:
    """What is known of some weights: recipe, seed, steps, CPU minutes, metrics, SHA-256.

    `folder` is by default that of the shipped weights. Raises CourseError for an unknown name, or
    where the card is missing or damaged.
    """
    path = (folder or weights_dir()) / f"{name}.json"
    if not path.is_file():
        known = available()
        near = difflib.get_close_matches(name, known, n=1)
        meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
        raise CourseError(f"No weights are named {name!r}; {meant}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CourseError(f"{path} is damaged. {_restore(path)}") from error


def load_weights(model: Model, name: str, folder: Path | None = None) -> Model:
    """Put weights into a model of their architecture; returns it, in eval mode.

    `folder` is by default that of the shipped weights. Raises CourseError as `read_weights` does,
    and for a model of another architecture.
    """
    load_tensors(model, read_weights(name, folder), f"The weights {name!r}")
    return model.eval()


def read_weights(name: str, folder: Path | None = None) -> dict[str, Tensor]:
    """Some weights' tensors by their names.

    Raises CourseError for an unknown name, and for a file that is missing or is not the one that
    its card describes.
    """
    from safetensors.torch import load

    expected = card(name, folder)["sha256"]
    path = (folder or weights_dir()) / f"{name}.safetensors"
    if not path.is_file():
        raise CourseError(f"{path} is missing. {_restore(path)}")
    packed = path.read_bytes()
    if hashlib.sha256(packed).hexdigest() != expected:
        raise CourseError(f"{path} is damaged: its SHA-256 is not its card's. {_restore(path)}")
    return load(packed)


def load_tensors(model: nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    """Copy tensors into a model, in its own dtypes. Raises CourseError where they do not fit."""
    state = model.state_dict()
    unlike = [k for k in state if k not in tensors or tensors[k].shape != state[k].shape]
    unlike += [k for k in tensors if k not in state]
    if unlike:
        raise CourseError(
            f"{what} belong to another architecture: {unlike[0]} differs "
            f"({len(unlike)} of {len(state)} tensors). Build the model from their card's `config`."
        )
    model.load_state_dict(tensors)


def save_weights(
    model: nn.Module, name: str, about: Card, dtype: torch.dtype, folder: Path | None = None
) -> Path:
    """Write a model's weights, in `dtype` where they are floating-point, and their card.

    `folder` is by default that of the shipped weights. Returns the weights' path; raises
    CourseError where they cannot be written.
    """
    from safetensors.torch import save

    tensors = {
        key: (x.to(dtype) if x.is_floating_point() else x).detach().cpu().contiguous()
        for key, x in model.state_dict().items()
    }
    packed = save(tensors)
    path = (folder or weights_dir()) / f"{name}.safetensors"
    write_atomically(path, packed)
    text = json.dumps({**about, "sha256": hashlib.sha256(packed).hexdigest()}, indent=2)
    write_atomically(path.with_suffix(".json"), text.encode() + b"\n")
    return path


def copy_weights(name: str, folder: Path) -> Path:
    """Make a run's weights the shipped ones, card and all; returns their new path."""
    read_weights(name, folder)
    for suffix in (".safetensors", ".json"):
        path = folder / f"{name}{suffix}"
        write_atomically(weights_dir() / path.name, path.read_bytes())
    return weights_dir() / f"{name}.safetensors"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or, where that fails, leave the old one. Raises CourseError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CourseError(
            f"{path} could not be written ({error.strerror}); what was there is still there. "
            "Free some space, or choose another folder, and run the same command again."
        ) from error


def _restore(path: Path) -> str:
    return f"Restore it with `git checkout -- data/weights/{path.name}` in the course's repository."
