"""The tiny models of the painted world: loaded, checked, and put to their other uses.

`data/models/scenery` is a plain `StableDiffusionControlNetPipeline` folder, and the two
`data/models/scenery-pixel-*` are plain `DDPMPipeline` folders: diffusers loads them without this
package. What is here adds the checks, and the image encoder's scores, features and distances.
"""

import difflib
import functools
import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course.data import data_dir
from course.errors import CourseError
from course.scenery import ATTRIBUTES
from course.scenery.world import Attributes
from course.weights import Card, load_tensors

# Scenes from this seed on are in no training set.
HELD_OUT = 10_000_000
# What an image encoder looks at for scores and Fréchet distances.
ENCODER_SIZE = 80
WEIGHTS = "model.safetensors"
RESTORE = "Restore it with `git checkout -- data/models` in the repository."
SHIPPED = ("scenery", "scenery-pixel-a", "scenery-pixel-b")


# --- The image encoder ---------------------------------------------------------------------------


class ImageEncoder(nn.Module):
    """The image half of the tiny CLIP, and a classifier of what a scene holds.

    x: (b, 3, h, w) in [−1, 1], h and w multiples of 16 -> (b, dim). It was trained at 80 × 80.
    `attributes` names what it classifies, each with its number of values.
    """

    def __init__(
        self,
        attributes: dict[str, int],
        widths: tuple[int, ...] = (32, 64, 96, 128),
        dim: int = 128,
    ) -> None:
        super().__init__()
        self.config = {"attributes": attributes, "widths": list(widths), "dim": dim}
        pairs = zip((3, *widths), widths, strict=False)
        self.stages = nn.ModuleList(_stage(narrow, wide) for narrow, wide in pairs)
        self.project = nn.Linear(2 * widths[-1], dim)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * widths[-1], n) for name, n in attributes.items()}
        )

    def features(self, x: Tensor) -> list[Tensor]:
        """Each stage's output: (b, width, h/2, w/2), (b, width, h/4, w/4), …"""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def pooled(self, x: Tensor) -> Tensor:
        """The last stage's mean and maximum over the picture: (b, 2 · width)."""
        last = self.features(x)[-1]
        return torch.cat([last.mean(dim=(2, 3)), last.amax(dim=(2, 3))], dim=1)

    def classify(self, pooled: Tensor) -> dict[str, Tensor]:
        """The logits of each attribute's values, from `pooled`."""
        return {name: head(pooled) for name, head in self.heads.items()}

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.pooled(x))


class _Residual(nn.Module):
    """A convolution beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.conv(x)))


def _stage(narrow: int, wide: int) -> nn.Sequential:
    """Half the height and width, then one residual convolution."""
    return nn.Sequential(
        nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(wide),
        nn.ReLU(),
        _Residual(wide),
    )


def save_image_encoder(encoder: ImageEncoder, folder: Path) -> None:
    """Write its weights and its config.json into a folder."""
    from safetensors.torch import save_file

    save_file({k: x.contiguous() for k, x in encoder.state_dict().items()}, folder / WEIGHTS)
    text = json.dumps(encoder.config, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8", newline="\n")


@functools.cache
def load_image_encoder() -> ImageEncoder:
    """The shipped image encoder, in float32. Raises CourseError where it is missing or damaged."""
    from safetensors.torch import load_file

    folder = models_dir() / "scenery" / "image_encoder"
    check_models(folder.parent)
    encoder = ImageEncoder(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
    load_tensors(encoder, load_file(folder / WEIGHTS), str(folder))
    return encoder.eval().requires_grad_(False)


# --- What it is good for -------------------------------------------------------------------------


def shrunk(images: Tensor) -> Tensor:
    """Pictures at the size the encoder was trained at: (b, 3, h, w) -> (b, 3, 80, 80)."""
    return F.interpolate(images, (ENCODER_SIZE, ENCODER_SIZE), mode="area")


@torch.no_grad()
def image_features(images: Tensor, encoder: ImageEncoder | None = None) -> Tensor:
    """What Fréchet distances are measured on: (n, 3, h, w) in [−1, 1] -> (n, 256)."""
    encoder = encoder or load_image_encoder()
    return torch.cat([encoder.pooled(shrunk(x)) for x in images.split(50)])


@torch.no_grad()
def seen_attributes(images: Tensor, encoder: ImageEncoder | None = None) -> list[Attributes]:
    """What the encoder's classifier sees in each of (n, 3, h, w) in [−1, 1]."""
    encoder = encoder or load_image_encoder()
    logits = encoder.classify(image_features(images, encoder))
    picks = {name: x.argmax(dim=1).tolist() for name, x in logits.items()}
    return [{k: ATTRIBUTES[k][picks[k][i]] for k in picks} for i in range(len(images))]


@torch.no_grad()
def clip_score(pipeline: Any, images: Tensor, prompts: Sequence[str]) -> Tensor:
    """The cosine between each picture and its prompt, in [−1, 1]: (n, 3, h, w) in [−1, 1] -> (n,).

    Its text encoder is the pipeline's; full-size scores are not comparable with these.
    """
    encoder, ids = load_image_encoder(), token_ids(pipeline.tokenizer, prompts)
    text = pipeline.text_encoder(input_ids=ids).pooler_output
    return F.cosine_similarity(encoder(shrunk(images)), text.float(), dim=1)


def perceptual_distance(a: Tensor, b: Tensor, encoder: ImageEncoder | None = None) -> Tensor:
    """How unlike two pictures look, in the form of LPIPS (Zhang et al. 2018): at least 0.

    a, b: (n, 3, h, w) in [−1, 1] -> (n,), differentiable. At every position of every stage the
    features are made unit vectors; their squared differences are averaged over positions and summed
    over stages, without LPIPS' learned weights.
    """
    encoder = encoder or load_image_encoder()
    stages = zip(encoder.features(a), encoder.features(b), strict=True)
    apart = [(F.normalize(x, dim=1) - F.normalize(y, dim=1)).square().sum(dim=1) for x, y in stages]
    return torch.stack([d.mean(dim=(1, 2)) for d in apart]).sum(dim=0)


# --- Words ---------------------------------------------------------------------------------------


def unknown_words(tokenizer: Any, prompt: str) -> list[str]:
    """The words of a prompt that the tiny text encoder has never seen, in their order."""
    words = re.sub(r"[^\w\s]", " ", prompt.lower()).split()
    return [word for word in words if tokenizer.convert_tokens_to_ids(word) == _unknown(tokenizer)]


def _unknown(tokenizer: Any) -> int:
    return int(tokenizer.unk_token_id)


def token_ids(tokenizer: Any, prompts: Sequence[str]) -> Tensor:
    """Prompts as numbers, each filled or cut to the tokenizer's length: (b, length) int64.

    Words that the tokenizer does not know are named in a warning, and count as one unknown word.
    """
    unknown = sorted({word for prompt in prompts for word in unknown_words(tokenizer, prompt)})
    if unknown:
        warnings.warn(
            f"The tiny text encoder does not know {', '.join(unknown)}; it reads on without. "
            "`course.scenery.vocabulary()` lists the words that it knows.",
            stacklevel=2,
        )
    packed = tokenizer(list(prompts), padding="max_length", truncation=True, return_tensors="pt")
    return torch.as_tensor(packed.input_ids)


# --- Folders of models ---------------------------------------------------------------------------


def models_dir() -> Path:
    """The folder of the shipped models in diffusers' format."""
    return data_dir() / "models"


def check_models(folder: Path) -> list[Card]:
    """The cards of a folder of models, after every file's SHA-256 was compared with its card's.

    Raises CourseError where the folder, a card or a file is missing or damaged.
    """
    if not folder.is_dir():
        raise CourseError(f"{folder} is missing. {RESTORE}")
    cards = []
    for path in sorted(folder.glob("*.json")):
        if path.name != "model_index.json":
            cards.append(_checked_card(path))
    if not cards:
        raise CourseError(f"{folder} holds no card of its models. {RESTORE}")
    return cards


def _checked_card(path: Path) -> Card:
    try:
        about: Card = json.loads(path.read_text(encoding="utf-8"))
        files = dict(about["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CourseError(f"{path} is damaged. {RESTORE}") from error
    for name, expected in files.items():
        file = path.parent / name
        if not file.is_file():
            raise CourseError(f"{file} is missing. {RESTORE}")
        if sha256(file) != expected:
            raise CourseError(f"{file} is damaged: its SHA-256 is not its card's. {RESTORE}")
    return about


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- Tiny or full size, loaded the same way ------------------------------------------------------


def load_pipeline(name: str = "scenery", controlnet: str | None = None) -> Any:
    """A StableDiffusionControlNetPipeline: the shipped one, a folder's, or one of the model hub.

    `controlnet` names the ControlNet of a full-size model, as "owner/name"; the shipped pipeline
    brings its own. Raises CourseError for an unknown name, shipped files that are missing or
    damaged, and a hub that cannot be reached.
    """
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

    parts = {"controlnet": _load(ControlNetModel, controlnet)} if controlnet else {}
    return _load(StableDiffusionControlNetPipeline, name, **parts)


def load_ddpm(name: str = "scenery-pixel-a") -> Any:
    """A DDPMPipeline of pixels, found as `load_pipeline` finds its own; the same errors."""
    from diffusers import DDPMPipeline

    return _load(DDPMPipeline, name)


def _load(kind: Any, name: str, **parts: Any) -> Any:
    folder = models_dir() / name
    # An absolute path "below" a folder is the path itself: somebody's own, without cards.
    if name in SHIPPED or (Path(name).name == name and folder.is_dir()):
        check_models(folder)
        if not (folder / "model_index.json").is_file():
            raise CourseError(f"{folder / 'model_index.json'} is missing. {RESTORE}")
        return kind.from_pretrained(folder, **parts)
    if Path(name).is_dir():
        return kind.from_pretrained(name, **parts)
    if "/" not in name:
        near = difflib.get_close_matches(name, SHIPPED, n=1)
        meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(SHIPPED)}."
        raise CourseError(f"No models are named {name!r}; {meant}")
    return _from_hub(kind, name, **parts)


def _from_hub(kind: Any, name: str, **parts: Any) -> Any:
    try:
        return kind.from_pretrained(name, **parts)
    except Exception as error:  # Of the hub, its network, its proxies: each raises its own.
        raise CourseError(
            f"{name} could not be had from the model hub ({type(error).__name__}). Without a "
            f"network, use the tiny models that are shipped: {', '.join(SHIPPED)}."
        ) from error


# --- Pictures ------------------------------------------------------------------------------------


def seeded(seed: int, place: int = 0) -> torch.Generator:
    """The generator of a picture's noise: the same for every method that draws this picture."""
    return torch.Generator().manual_seed(seed * 1_000_003 + place)


def generate(
    pipeline: Any,
    prompts: Sequence[str],
    seed: int = 0,
    codes: Tensor | None = None,
    control_scale: float = 1.0,
    steps: int = 25,
    guidance_scale: float = 4.0,
) -> Tensor:
    """One picture for each prompt by the tiny pipeline: (n, 3, 160, 160) in [−1, 1].

    codes: (n, m, m) bool, True = dark: modules whose light and dark the pictures are to follow,
    m a divisor of 160; None for no control. Unknown words are named in a warning.
    """
    token_ids(pipeline.tokenizer, prompts)
    size = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    blank = torch.zeros(len(prompts), 1, 1, dtype=torch.bool)
    grids = control_image(blank if codes is None else codes, size)
    generators = [seeded(seed, i) for i in range(len(prompts))]
    made = [
        pipeline(
            list(prompts[i : i + 10]),
            image=grids[i : i + 10],
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            controlnet_conditioning_scale=0.0 if codes is None else control_scale,
            generator=generators[i : i + 10],
            output_type="pt",
        ).images
        for i in range(0, len(prompts), 10)
    ]
    return torch.cat(made) * 2 - 1


def control_image(dark: Tensor, size: int) -> Tensor:
    """Modules as the picture a ControlNet is given: (b, n, n) bool -> (b, 3, size, size) in [0, 1].

    Dark modules are 0 and light ones 1, as in the printed code.
    """
    return F.interpolate(1 - dark[:, None].float(), (size, size)).expand(-1, 3, -1, -1)
