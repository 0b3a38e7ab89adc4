"""One picture that scans, from the command line: bounded tries, and what each came to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from course.diffqrcoder.pipeline import DiffQRCoderOutput, DiffQRCoderPipeline
from course.qr_codes import make_code
from course.scenery_models import load_pipeline, perceptual_distance, token_ids
from course.weights import writing


class Try(NamedTuple):
    """One seed's picture, and which scanners read the text that was put in."""

    seed: int
    image: Tensor  # (1, 3, h, w) in [0, 1]
    read_by: list[str]
    output: DiffQRCoderOutput


def as_qr_pipeline(pipeline: Any) -> DiffQRCoderPipeline:
    """A StableDiffusionControlNetPipeline's parts under DiffQRCoder."""
    parts = {name: part for name, part in pipeline.components.items() if part is not None}
    optional = {name: None for name in pipeline.components if name not in parts}
    return DiffQRCoderPipeline(**parts, **optional, requires_safety_checker=False)


def seeded(seed: int) -> torch.Generator:
    """The generator of a picture's noise, the same for every method that is compared."""
    return torch.Generator().manual_seed(seed * 1_000_003)


def try_seeds(
    pipeline: DiffQRCoderPipeline,
    text: str,
    prompt: str,
    seed: int = 0,
    tries: int = 3,
    level: str = "M",
    said: Callable[[Try], None] = lambda _: None,
) -> Try:
    """The first of the seeds `seed`, `seed` + 1, … whose picture every scanner here reads.

    Where none is read by all, the one that most read. `said` is told of each try. Raises ValueError
    for a text that does not fit, before anything is drawn.
    """
    make_code(text, 3, level)
    token_ids(pipeline.tokenizer, [prompt])
    best: Try | None = None
    for attempt in range(seed, seed + tries):
        out = pipeline(
            prompt,
            text,
            level=level,
            generator=[seeded(attempt)],
            perceptual=perceptual_distance,
            output_type="pt",
        )
        texts = out.reports[0].texts
        made = Try(attempt, out.images, [name for name, read in texts.items() if read == text], out)
        said(made)
        if best is None or len(made.read_by) > len(best.read_by):
            best = made
        if len(made.read_by) == len(texts):
            break
    assert best is not None
    return best


def save(image: Tensor, path: Path, scale: int = 4) -> None:
    """Write (1, 3, h, w) in [0, 1] as a PNG, each pixel `scale` × `scale`, so that phones see it.

    Raises CourseError where it cannot be written.
    """
    array = image[0].mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(array)
    large = picture.resize(
        (picture.width * scale, picture.height * scale), Image.Resampling.BICUBIC
    )
    with writing(path):
        large.save(path)


def qr_pipeline(name: str = "scenery") -> DiffQRCoderPipeline:
    """The shipped pipeline under DiffQRCoder; errors as in `scenery_models.load_pipeline`."""
    return as_qr_pipeline(load_pipeline(name))
