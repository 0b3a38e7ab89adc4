"""The shipped weights: safetensors beside a card that says how they were made."""

import contextlib
import difflib
import hashlib
import json
import os
from collections.abc import Iterator
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
    """The names of the shipped weights, sorted; a card or a file without the other counts too."""
    kinds = ("*.safetensors", "*.json")
    return sorted({path.stem for kind in kinds for path in weights_dir().glob(kind)})


def card(name: str, folder: Path | None = None) -> Card:
    """What is known of some weights: recipe, seed, steps, CPU minutes, metrics, SHA-256.

    `folder` is by default that of the shipped weights. Raises CourseError for an unknown name, or
    where the card is missing or damaged.
    """
    path = (folder or weights_dir()) / f"{name}.json"
    if not path.is_file():
        raise _no_card(path, folder)
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(about["sha256"], str):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CourseError(f"{path} is damaged. {_restore(path, folder)}") from error
    return about


def _no_card(path: Path, folder: Path | None) -> CourseError:
    """Why there is no card: it was lost, or the weights have another name."""
    if path.with_suffix(".safetensors").is_file():
        return CourseError(f"{path} is missing. {_restore(path, folder)}")
    known = sorted(card.stem for card in path.parent.glob("*.json"))
    near = difflib.get_close_matches(path.stem, known, n=1)
    meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known) or 'none yet'}."
    return CourseError(f"No weights are named {path.stem!r} in {path.parent}; {meant}")


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
        raise CourseError(f"{path} is missing. {_restore(path, folder)}")
    packed = path.read_bytes()
    if hashlib.sha256(packed).hexdigest() != expected:
        raise CourseError(
            f"{path} is damaged: its SHA-256 is not its card's. {_restore(path, folder)}"
        )
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

    `folder` is by default that of the shipped weights. Returns the weights' path. Raises
    CourseError where they cannot be written, and ValueError for weights that are not finite in
    `dtype`: the old ones then stay.
    """
    from safetensors.torch import save

    tensors = {
        key: (x.to(dtype) if x.is_floating_point() else x).detach().cpu().contiguous()
        for key, x in model.state_dict().items()
    }
    if unfit := [key for key, x in tensors.items() if not x.isfinite().all()]:
        raise ValueError(f"{name}: {unfit[0]} is not finite in {dtype}; its training diverged.")
    packed = save(tensors)
    text = json.dumps({**about, "sha256": hashlib.sha256(packed).hexdigest()}, indent=2)
    path = (folder or weights_dir()) / f"{name}.safetensors"
    _write_together({path: packed, path.with_suffix(".json"): text.encode() + b"\n"})
    return path


def copy_weights(name: str, folder: Path) -> Path:
    """Make a run's weights the shipped ones, card and all; returns their new path."""
    read_weights(name, folder)
    names = [f"{name}.safetensors", f"{name}.json"]
    _write_together({weights_dir() / file: (folder / file).read_bytes() for file in names})
    return weights_dir() / names[0]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or, where that fails, leave the old one. Raises CourseError."""
    _write_together({path: content})


def check_writable(path: Path) -> None:
    """Raise CourseError where `write_atomically` would: before long work, not after it."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        partial = _partial(path)
        partial.touch()
        partial.unlink()


def _write_together(files: dict[Path, bytes]) -> None:
    """Write whole files or, where one fails, leave all the old ones. Raises CourseError."""
    try:
        for path, content in files.items():
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                _write_to_disk(_partial(path), content)
        for path in files:
            with writing(path):
                _partial(path).replace(path)
    finally:
        for path in files:
            with contextlib.suppress(OSError):
                _partial(path).unlink()


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _write_to_disk(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of what is inside into the CourseError that says what to do."""
    try:
        yield
    except OSError as error:
        raise CourseError(
            f"{path} could not be written ({error.strerror}); what was there is still there. "
            "Free some space, or choose another folder, and run the same command again."
        ) from error


def _restore(path: Path, folder: Path | None) -> str:
    """What to do about a file that is lost: the repository has the shipped ones alone."""
    if folder is None:
        return f"Restore it with `git checkout -- data/weights/{path.name}` in the repository."
    return f"Make it again with `python -m course train {path.stem} --out {folder}`."
