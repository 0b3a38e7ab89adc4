"""The course's pictures: grids of images, strips of a trajectory, and animations."""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from IPython.display import Image as DisplayedImage

# Colour-blind safe (Okabe & Ito 2008); in this order in every figure.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]

STYLE: dict[str, Any] = {
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "figure.dpi": 90,
    "figure.figsize": (6.4, 3.4),
    "font.size": 10,
    "legend.frameon": False,
}


def set_style() -> None:
    """Use the course's look for every figure drawn from here on."""
    plt.rcParams.update(STYLE)  # type: ignore[arg-type]


def to_uint8(images: Tensor) -> np.ndarray:
    """Images as bytes, clipped. images: (n, c, h, w) in [−1, 1] -> (n, h, w, c) uint8."""
    pixels = images.detach().cpu().float().add(1).mul(127.5).round().clamp(0, 255)
    return pixels.to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _require_images(images: Tensor) -> None:
    if images.ndim != 4 or len(images) == 0 or images.shape[1] not in (1, 3):
        raise ValueError(f"images is (n, 1 or 3, h, w) with n ≥ 1, not {tuple(images.shape)}.")


def grid(images: Tensor, columns: int | None = None, pad: int = 2) -> Image.Image:
    """Images side by side on white, row by row. images: (n, 1 or 3, h, w) in [−1, 1].

    `columns` is by default about √n; `pad` is the gap in pixels. Raises ValueError for no images.
    """
    _require_images(images)
    pixels = to_uint8(images)
    n, h, w, c = pixels.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (h + pad) + pad, columns * (w + pad) + pad, c), 255, np.uint8)
    for i, image in enumerate(pixels):
        top, left = pad + i // columns * (h + pad), pad + i % columns * (w + pad)
        sheet[top : top + h, left : left + w] = image
    return Image.fromarray(sheet.squeeze(-1) if c == 1 else sheet)


def show(
    images: Tensor,
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    title: str | None = None,
    size: float = 1.1,
) -> Figure:
    """A figure of images, each with its title. images: (n, 1 or 3, h, w) in [−1, 1].

    `columns` is by default n, up to 10; `size` is an image's width in inches. Raises ValueError for
    no images, and where titles has not one for each.
    """
    n = len(images)
    _require_images(images)
    if titles is not None and len(titles) != n:
        raise ValueError(f"There are {len(titles)} titles for {n} images.")
    columns = columns or min(n, 10)
    rows = math.ceil(n / columns)
    height = size * (1.25 if titles else 1.05) * rows + (0.35 if title else 0)
    figure, axes = plt.subplots(
        rows, columns, figsize=(size * columns, height), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for i, image in enumerate(to_uint8(images)):
        axis = axes.flat[i]
        axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
        if titles:
            axis.set_title(titles[i], fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def strip(trajectory: Sequence[Tensor], frames: int = 10) -> Tensor:
    """Every few steps of a trajectory as one grid's rows, first and last among them.

    trajectory: steps of (n, c, h, w) -> (n · frames, c, h, w), an image's frames side by side.
    """
    return torch.stack(_spread(trajectory, frames), dim=1).flatten(0, 1)


def _spread(trajectory: Sequence[Tensor], frames: int) -> list[Tensor]:
    """Up to `frames` steps of a trajectory, evenly spread, first and last among them.

    Raises ValueError for an empty trajectory, or no frames.
    """
    if len(trajectory) == 0 or frames < 1:
        raise ValueError(f"{frames} frames of {len(trajectory)} steps: at least one of each.")
    picks = torch.linspace(0, len(trajectory) - 1, min(frames, len(trajectory))).round().long()
    return [trajectory[i] for i in picks.tolist()]


def animate(
    trajectory: Sequence[Tensor], columns: int | None = None, frames: int = 40, zoom: int = 2
) -> "DisplayedImage":
    """A looping GIF of a trajectory, to show in a notebook.

    trajectory: steps of (n, c, h, w) in [−1, 1]. `frames` of them are kept; the last is held.
    """
    from IPython.display import Image as DisplayedImage

    sheets = [grid(step, columns) for step in _spread(trajectory, frames)]
    sheets = [s.resize((s.width * zoom, s.height * zoom), Image.Resampling.NEAREST) for s in sheets]
    durations = [60] * (len(sheets) - 1) + [1500]
    buffer = io.BytesIO()
    sheets[0].save(
        buffer, "GIF", save_all=True, append_images=sheets[1:], duration=durations, loop=0
    )
    return DisplayedImage(data=buffer.getvalue(), format="gif")
