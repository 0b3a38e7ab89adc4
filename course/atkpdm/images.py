"""Picture files of any size and mode, as tensors and back: same size out, metadata kept."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from course.errors import CourseError
from course.weights import write_atomically

MOST_PIXELS = 50_000_000
LEAST_SIDE = 11  # the window of SSIM
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF",
           ".tiff": "TIFF", ".bmp": "BMP"}  # fmt: skip
# How each format is written so that it changes the picture least.
BEST: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}
DEEP = ("I;16", "I;16B", "I;16L", "I")


@dataclass(frozen=True)
class Picture:
    """A picture file: x, its colours (1, 1 or 3, h, w) in [−1, 1]; and what else it holds.

    alpha: (h, w) uint8, None where there is none; deep: whether x came from 16 bits a pixel; info:
    what the file says beside the pixels.
    """

    x: Tensor
    alpha: np.ndarray | None
    deep: bool
    info: dict[str, Any]


def read_picture(path: Path) -> Picture:
    """A picture of any mode: greys as one channel, all else as three, transparency set aside.

    Raises CourseError for a file that is missing, empty, no picture, damaged, animated, smaller
    than 11 pixels or of more than 50 million.
    """
    try:
        if path.stat().st_size == 0:
            raise CourseError(f"{path} is empty: it holds no picture.")
        image = Image.open(path)
        _refuse_unfit(path, image)
        image.load()
    except UnidentifiedImageError as error:
        raise CourseError(
            f"{path} is not a picture that can be read: use a PNG, JPEG, WebP, TIFF or BMP file."
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise CourseError(f"{path} could not be read as a picture ({reason}).") from error
    return _taken_apart(image)


def _too_large(path: Path) -> CourseError:
    return CourseError(
        f"{path} has more than {MOST_PIXELS // 10**6} million pixels: make it smaller, or cut it."
    )


def _refuse_unfit(path: Path, image: Image.Image) -> None:
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise CourseError(f"{path} has {frames} frames: give one still picture.")
    if image.width * image.height > MOST_PIXELS:
        raise _too_large(path)
    if min(image.size) < LEAST_SIDE:
        size = f"{image.width} × {image.height}"
        raise CourseError(f"{path} is {size} pixels: at least {LEAST_SIDE} each way are needed.")


def _taken_apart(image: Image.Image) -> Picture:
    info = {str(key): value for key, value in image.info.items()}
    if image.mode in DEEP:
        values = np.asarray(image).astype(np.float32) / 65535
        return Picture(_tensor(values[..., None]), None, True, info)
    see_through = "A" in image.getbands() or "transparency" in image.info
    alpha = np.asarray(image.convert("RGBA"))[..., 3] if see_through else None
    grey = image.mode in ("L", "LA", "1")
    pixels = np.asarray(image.convert("RGBA").convert("RGB") if not grey else image.convert("L"))
    return Picture(_tensor(np.atleast_3d(pixels) / 255), alpha, False, info)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).permute(2, 0, 1)[None].float() * 2 - 1


def rounded(picture: Picture, x: Tensor) -> Tensor:
    """x as the file will hold it: to 8 or 16 bits. x: as picture.x."""
    most = 65535 if picture.deep else 255
    return torch.round((x.clamp(-1, 1) + 1) / 2 * most) / most * 2 - 1


def as_image(picture: Picture, x: Tensor) -> Image.Image:
    """The colours x with the picture's transparency, in its depth."""
    values = ((x.clamp(-1, 1) + 1) / 2)[0].permute(1, 2, 0).cpu().double().numpy()
    if picture.deep:
        return Image.fromarray((values[..., 0] * 65535).round().astype(np.uint16))
    pixels = (values * 255).round().astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    return image


def check_format(path: Path) -> str:
    """The format that a path's ending asks for. Raises CourseError for one that is not known."""
    if path.suffix.lower() not in FORMATS:
        raise CourseError(f"--out ends in {', '.join(FORMATS)}, unlike {path}.")
    return FORMATS[path.suffix.lower()]


def write_picture(path: Path, picture: Picture, x: Tensor) -> Tensor:
    """Write the colours x beside all else that the picture held; returns what the file now shows.

    EXIF, colour profile, resolution and a PNG's texts are kept as far as the format can. Raises
    CourseError for an unknown ending, for transparency or 16 bits in JPEG and BMP, and where the
    file cannot be written.
    """
    kind = check_format(path)
    image = as_image(picture, x)
    flat = kind in ("JPEG", "BMP")
    if flat and (picture.alpha is not None or picture.deep):
        lost = "transparency" if picture.alpha is not None else "16 bits a pixel"
        raise CourseError(f"{kind} cannot hold the picture's {lost}: let --out end in .png.")
    if kind == "WEBP" and picture.deep:
        raise CourseError("WEBP cannot hold the picture's 16 bits a pixel: let --out end in .png.")
    file = io.BytesIO()
    image.save(file, kind, **BEST.get(kind, {}), **_metadata(picture.info, kind))
    write_atomically(path, file.getvalue())
    return read_picture(path).x


def _metadata(info: dict[str, Any], kind: str) -> dict[str, Any]:
    """What `Image.save` takes of what `Image.open` found."""
    kept = {key: info[key] for key in ("exif", "icc_profile", "dpi") if info.get(key)}
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        texts = PngInfo()
        for key, value in info.items():
            if isinstance(value, str):
                texts.add_itxt(key, value)
        kept["pnginfo"] = texts
    return kept if kind != "BMP" else {key: kept[key] for key in ("dpi",) if key in kept}
