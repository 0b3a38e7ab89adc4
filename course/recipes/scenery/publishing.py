"""Trained models put where diffusers finds them, with a card that holds every file's SHA-256."""

import copy
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course.errors import CourseError
from course.scenery_models import models_dir, sha256
from course.weights import Card, load_tensors, write_atomically, writing

PIPELINE = "scenery"
# The recipe that makes each part.
MAKERS = {
    "vae": "scenery-vae",
    "tokenizer": "scenery-clip",
    "text_encoder": "scenery-clip",
    "image_encoder": "scenery-clip",
    "unet": "scenery-unet",
    "controlnet": "scenery-controlnet",
}
# What a folder's `from_pretrained` builds of its parts.
PARTS = {
    "controlnet": ("diffusers", "ControlNetModel"),
    "feature_extractor": (None, None),
    "image_encoder": (None, None),
    "safety_checker": (None, None),
    "scheduler": ("diffusers", "DDIMScheduler"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "PreTrainedTokenizerFast"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "requires_safety_checker": False,
}
DDPM_PARTS = {"scheduler": ("diffusers", "DDPMScheduler"), "unet": ("diffusers", "UNet2DModel")}
Save = Callable[[Path], object]


def publish_folders(pipeline: str, name: str, card: Card, parts: Mapping[str, Save]) -> Path:
    """Write each part as a folder of data/models/`pipeline`, and the card `name`; returns its path.

    Each part is saved beside the old one, which goes only then. Raises CourseError where they
    cannot be written.
    """
    root = models_dir() / pipeline
    with writing(root):
        for part, save in parts.items():
            _save_beside(root / part, save)
        for part in parts:
            _replace(root / part)
    return _write_card(root / f"{name}.json", card, parts)


def _save_beside(folder: Path, save: Save) -> None:
    beside = folder.with_name(folder.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save(beside)


def _replace(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name(folder.name + ".part").rename(folder)


def _write_card(path: Path, card: Card, parts: Mapping[str, Save]) -> Path:
    """The card without the run's own hash, which is of another file."""
    found = (f for part in parts for f in sorted((path.parent / part).rglob("*")) if f.is_file())
    files = {f.relative_to(path.parent).as_posix(): sha256(f) for f in found}
    about = {key: value for key, value in card.items() if key != "sha256"} | {"files": files}
    write_atomically(path, json.dumps(about, indent=2).encode() + b"\n")
    return path


def half(model: nn.Module) -> Any:
    """A copy in float16 and in the usual memory layout: what is stored."""
    kept = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return kept.half()


def write_index(pipeline: str, kind: str, parts: Mapping[str, object]) -> None:
    """Write model_index.json, by which diffusers finds the parts of a pipeline of that class."""
    about = {"_class_name": kind, "_diffusers_version": "0.32.0", **parts}
    text = json.dumps(about, indent=2, sort_keys=True)
    write_atomically(models_dir() / pipeline / "model_index.json", text.encode() + b"\n")


def published(part: str, pipeline: str = PIPELINE) -> Path:
    """A part of the shipped pipeline. Raises CourseError, with the command that makes it."""
    folder = models_dir() / pipeline / part
    if not folder.is_dir():
        maker = MAKERS.get(part, pipeline)
        command = f"python -m course train {maker} --publish"
        raise CourseError(f"{folder} is missing; make it with `{command}`.")
    return folder


def load_part(model: nn.Module, part: str, pipeline: str = PIPELINE) -> nn.Module:
    """Put a shipped part's weights into a model of its architecture; returns it.

    Raises CourseError where they are missing or belong to another architecture.
    """
    from safetensors.torch import load_file

    folder = published(part, pipeline)
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(path)
    load_tensors(model, tensors, str(folder))
    return model


def digest(part: str, pipeline: str = PIPELINE) -> str:
    """The SHA-256 of a shipped part's weights: what was built on them goes with no others."""
    files = sorted(published(part, pipeline).glob("*.safetensors"))
    return sha256(files[0])


def part_config(part: str, pipeline: str = PIPELINE) -> dict[str, Any]:
    """The config.json of a shipped part."""
    text = (published(part, pipeline) / "config.json").read_text(encoding="utf-8")
    return dict(json.loads(text))
