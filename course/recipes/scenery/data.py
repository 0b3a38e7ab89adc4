"""The painted world as arrays: drawn once, kept in $COURSE_CACHE, captioned anew at each step."""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from course.errors import CourseError
from course.scenery import caption, sample, scene
from course.scenery.world import Attributes
from course.weights import write_atomically

Array = NDArray[Any]
SIZE = 160
CHUNK = 100
# What captions say of a scene with a pattern in its light.
DAPPLED = "Dappled light"


def cache_dir() -> Path:
    """Where drawn scenes and latents are kept: $COURSE_CACHE, else `runs/cache`."""
    return Path(os.environ.get("COURSE_CACHE") or Path("runs") / "cache")


def cached(what: str, n: int, make: Callable[[range], Array]) -> Array:
    """The first n rows of an endless array, made in chunks and each chunk once: (n, …).

    `make(range(i, j))` gives rows i … j−1. A chunk is written whole or not at all, so that an
    interrupted call goes on where it stopped; one that is damaged is made again. Raises CourseError
    where the disk is full.
    """
    starts = range(0, n, CHUNK)
    missing = sum(not _path(what, start).exists() for start in starts)
    bar = tqdm(starts, desc=what, unit_scale=CHUNK, unit="row", disable=missing == 0)
    return np.concatenate([chunk(what, start, make) for start in bar])[:n]


def _path(what: str, start: int) -> Path:
    return cache_dir() / what / f"{start:06}.npy"


def chunk(what: str, start: int, make: Callable[[range], Array]) -> Array:
    """Rows start … start + CHUNK − 1 of `cached`, from the disk where they are there and whole."""
    path = _path(what, start)
    try:
        rows = np.load(path, allow_pickle=False)
        if len(rows) == CHUNK:
            return rows
    except (OSError, ValueError, EOFError):
        pass
    rows, file = make(range(start, start + CHUNK)), io.BytesIO()
    np.save(file, rows, allow_pickle=False)
    write_atomically(path, file.getvalue())
    return rows


def scenes(n: int, size: int = SIZE, first: int = 0) -> Array:
    """The scenes of seeds first … first + n − 1: (n, size, size, 3) uint8.

    Raises CourseError where those in the cache are not what today's `course.scenery` paints.
    """
    what = named(f"scenes-{size}", first)
    images = cached(what, n, lambda rows: _paint(rows, size, first))
    if not np.array_equal(images[0], np.asarray(scene(first, size).image)):
        raise CourseError(
            f"The scenes in {cache_dir() / what} were painted by another version of "
            "course.scenery; delete that folder to paint them again."
        )
    return images


def scene_chunk(rows: range, first: int = 0) -> Array:
    """The scenes of one whole chunk of rows: (CHUNK, 160, 160, 3) uint8."""
    return chunk(named(f"scenes-{SIZE}", first), rows.start, lambda r: _paint(r, SIZE, first))


def named(what: str, first: int) -> str:
    """The cache's name of rows whose seeds begin at `first`."""
    return f"{what}-from-{first}" if first else what


def _paint(rows: range, size: int, first: int) -> Array:
    return np.stack([np.asarray(scene(first + i, size).image) for i in rows])


def attributes(seed: int) -> Attributes:
    """What the scene of a seed holds; cheap, nothing is painted."""
    return sample(np.random.default_rng([seed, 0]))


def captions(
    chosen: Sequence[Attributes], generator: torch.Generator, dappled: Sequence[bool] = ()
) -> list[str]:
    """A caption for each scene, other words and another order at each call.

    Where `dappled`, it also says that light and shadow form a pattern of modules.
    """
    rng = numpy_rng(generator)
    said = [caption(a, rng) for a in chosen]
    flags = dappled or [False] * len(said)
    return [f"{s} {DAPPLED}." if flag else s for s, flag in zip(said, flags, strict=True)]


def numpy_rng(generator: torch.Generator) -> np.random.Generator:
    """NumPy's random numbers, continued from torch's."""
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))


def as_tensor(images: Array) -> Tensor:
    """(…, h, w, 3) uint8 -> (…, 3, h, w) float32 in [−1, 1]."""
    return torch.from_numpy(images).movedim(-1, -3).float().div_(127.5).sub_(1).contiguous()
