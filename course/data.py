"""Where the course's files are, and MNIST as tensors."""

import gzip
import hashlib
import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from course.errors import CourseError

# SHA-256 of each compressed file, as listed in data/README.md.
# fmt: off
MNIST_FILES = {
    "train-images-idx3-ubyte.gz":
        "7ff28fd295f802eefc6d40e461175dfe4b969b1842b2abc8c6dc8c20711cf79f",
    "train-labels-idx1-ubyte.gz":
        "81a978ae83d39ffdba0db3ce2fcaf80a8921e9629e874428996a2b03242d4b2a",
    "t10k-images-idx3-ubyte.gz":
        "197e111ae341b0770be9011ac5e622d0e6cd1c640b32eb0de5dc1dd26cc6e182",
    "t10k-labels-idx1-ubyte.gz":
        "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
}


def data_dir() -> Path:
    """The course's `data` folder: $COURSE_DATA, else beside the package, else above the cwd.

    Raises CourseError where there is none.
    """
    if chosen := os.environ.get("COURSE_DATA"):
        if not Path(chosen).is_dir():
            raise CourseError(
                f"COURSE_DATA names {chosen}, which is not a folder; set it to the course's `data` "
                "folder, or unset it."
            )
        return Path(chosen)
    roots = [Path(__file__).resolve().parents[1], Path.cwd(), *Path.cwd().parents]
    for root in roots:
        if (root / "data" / "mnist").is_dir():
            return root / "data"
    raise CourseError(
        "The course's `data/mnist` was not found; work inside a clone of the repository, restore "
        "it there with `git checkout -- data`, or set COURSE_DATA to a copy of its `data` folder."
    )


def mnist(split: Literal["train", "test"] = "train") -> tuple[Tensor, Tensor]:
    """MNIST's images and labels: ((n, 1, 28, 28) float32 in [−1, 1], (n,) int64).

    n is 60,000 for "train" and 10,000 for "test". Raises ValueError for another split, and
    CourseError for a file that is missing or damaged.
    """
    if split not in ("train", "test"):
        raise ValueError(f'split is "train" or "test", not {split!r}.')
    prefix = "train" if split == "train" else "t10k"
    pixels = _read_idx(data_dir() / "mnist" / f"{prefix}-images-idx3-ubyte.gz")
    labels = _read_idx(data_dir() / "mnist" / f"{prefix}-labels-idx1-ubyte.gz")
    images = torch.from_numpy(pixels).unsqueeze(1).float().div_(127.5).sub_(1)
    return images, torch.from_numpy(labels).long()


def _read_idx(path: Path) -> np.ndarray:
    """One gzipped IDX file as a uint8 array, after its SHA-256 was compared."""
    restore = f"Restore it with `git checkout -- data/mnist/{path.name}` in the repository."
    if "COURSE_DATA" in os.environ:
        restore += " (COURSE_DATA chose this folder; unset it to use the repository's.)"
    try:
        packed = path.read_bytes()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "is missing" if missing else f"cannot be read ({error.strerror})"
        raise CourseError(f"{path} {reason}. {restore}") from error
    if hashlib.sha256(packed).hexdigest() != MNIST_FILES[path.name]:
        raise CourseError(
            f"{path} is damaged: its SHA-256 is not the one in data/README.md. {restore}"
        )
    raw = gzip.decompress(packed)
    # IDX: two zero bytes, the type (8 = uint8), the number of axes, then each axis big-endian.
    axes = raw[3]
    shape = np.frombuffer(raw, ">u4", count=axes, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()
