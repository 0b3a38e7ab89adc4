"""One picture that scans, from the command line: bounded tries, and what each came to."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from course.diffqrcoder.pipeline import DiffQRCoderPipeline, as_qr_pipeline
from course.plots import to_uint8
from course.qr_codes import scan
from course.qr_codes.encoding import capacity, header_bits, smallest_version
from course.scenery_models import load_pipeline, perceptual_distance, seeded, token_ids
from course.weights import writing

VERSION = 3  # the largest that has room in a picture of 40 modules, its quiet zone included
ENLARGED = 4  # pixels of the file for each of the picture, so that phones see it


class Try(NamedTuple):
    """One seed's picture as its file will show it, and what each scanner here reads in that."""

    seed: int
    image: Tensor  # (1, 3, h, w) in [0, 1], of 256 levels
    texts: dict[str, str | None]
    read_by: list[str]  # the scanners that read exactly the text that was put in


def require_room(text: str, level: str) -> None:
    """Raise ValueError for a text that is empty or too long, naming the largest that fits."""
    if smallest_version(text, level) <= VERSION:
        return
    way_out = ", or take level L" if smallest_version(text, "L") <= VERSION else ""
    largest = (8 * capacity(VERSION, level) - header_bits(text, VERSION)) // 8
    raise ValueError(
        f"The text is {len(text.encode('utf-8'))} bytes long; version {VERSION} at level {level} "
        f"holds at most {largest}, and the picture has no room for a larger code. "
        f"Shorten it{way_out}."
    )


def enlarged(image: Tensor) -> Tensor:
    """A picture as its file shows it: (1, 3, h, w) -> (1, 3, 4h, 4w) in [0, 1], of 256 levels."""
    large = F.interpolate(image, scale_factor=ENLARGED, mode="bicubic").clamp(0, 1)
    return large.mul(255).round().div(255)


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
    require_room(text, level)
    token_ids(pipeline.tokenizer, [prompt])
    best: Try | None = None
    for attempt in range(seed, seed + tries):
        out = pipeline(
            prompt,
            text,
            version=VERSION,
            level=level,
            generator=[seeded(attempt)],
            perceptual=perceptual_distance,
            output_type="pt",
        )
        image = enlarged(out.images)
        texts = scan(image)
        made = Try(attempt, image, texts, [name for name, read in texts.items() if read == text])
        said(made)
        if best is None or len(made.read_by) > len(best.read_by):
            best = made
        if len(made.read_by) == len(texts):
            break
    assert best is not None
    return best


def save(image: Tensor, path: Path) -> None:
    """Write (1, 3, h, w) in [0, 1] as a PNG. Raises CourseError where it cannot be written."""
    with writing(path):
        Image.fromarray(to_uint8(image * 2 - 1)[0]).save(path)


def qr_pipeline(name: str = "scenery") -> DiffQRCoderPipeline:
    """The shipped pipeline under DiffQRCoder; errors as in `scenery_models.load_pipeline`."""
    return as_qr_pipeline(load_pipeline(name))
