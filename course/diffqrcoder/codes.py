"""A code in its place in a picture: which pixels belong to what, and what they should be."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from course.diffqrcoder.scan_loss import central_mean, modules
from course.qr_codes import (
    ScanReport,
    codeword_errors,
    error_budget,
    function_mask,
    luminance,
    read_format,
    scan,
    scan_report,
    version_of,
)

QUIET = 4  # modules of quiet zone that a scanner may expect around a code


@dataclass(frozen=True)
class PlacedCode:
    """A code among the modules of a square picture.

    code: (n, n) bool, True = dark; grid: modules along a side of the picture; module_size: pixels
    along a side of a module. `place` modules lie above and left of the code, and `QUIET` or more
    on every side. Raises ValueError where they do not.
    """

    code: Tensor
    grid: int = 40
    module_size: int = 4

    def __post_init__(self) -> None:
        version_of(self.code)
        if self.grid < len(self.code) + 2 * QUIET:
            raise ValueError(
                f"A code of {len(self.code)} modules and its quiet zone need a picture of "
                f"{len(self.code) + 2 * QUIET} modules, not {self.grid}."
            )
        if self.module_size < 3:
            raise ValueError(f"module_size is 3 pixels or more, not {self.module_size}.")

    @property
    def place(self) -> int:
        """Even, so that module edges fall on latent cells of two modules, or else in the middle."""
        spare = self.grid - len(self.code)
        return -(-spare // 2) // 2 * 2 if spare >= 2 * QUIET + 2 else spare // 2

    @property
    def side(self) -> int:
        """The picture's side in pixels."""
        return self.grid * self.module_size

    def in_grid(self, inner: Tensor) -> Tensor:
        """Values of the code's modules, and 0 around them: (n, n) -> (grid, grid)."""
        after = self.grid - self.place - len(self.code)
        return F.pad(inner, (self.place, after, self.place, after))

    @property
    def modules(self) -> Tensor:
        """The picture's modules: (grid, grid) bool, True = dark, light around the code."""
        return self.in_grid(self.code)

    def crop(self, image: Tensor) -> Tensor:
        """The code's pixels of a picture: (…, side, side) -> (…, n·s, n·s)."""
        start = self.place * self.module_size
        inside = slice(start, start + len(self.code) * self.module_size)
        return image[..., inside, inside]

    def pixels(self, grid: Tensor) -> Tensor:
        """A value for each module as one for each pixel: (grid, grid) -> (1, 1, side, side)."""
        s = self.module_size
        return grid.repeat_interleave(s, 0).repeat_interleave(s, 1)[None, None]

    @property
    def target(self) -> Tensor:
        """The code as an image: (1, 1, side, side), 1 = white."""
        return 1 - self.pixels(self.modules).float()

    @property
    def patterns(self) -> Tensor:
        """Which pixels are function patterns: (1, 1, side, side) bool."""
        return self.pixels(self.in_grid(function_mask(version_of(self.code))))

    @property
    def quiet(self) -> Tensor:
        """Which pixels are the quiet zone: (1, 1, side, side) bool."""
        code = self.pixels(self.in_grid(torch.ones_like(self.code))).float()
        reach = QUIET * self.module_size
        return (F.max_pool2d(code, 2 * reach + 1, 1, reach) - code) > 0


class Unmet(NamedTuple):
    """How much of a code a picture does not show, each (b,)."""

    modules: Tensor  # the share of modules on the wrong side of their threshold
    spent: Tensor  # of the error budget, in the block where most is spent
    patterns: Tensor  # how many modules of function patterns are wrong


def unmet(image: Tensor, placed: PlacedCode, slack: float = 0.0) -> Unmet:
    """What is wrong with pictures of one code, module by module, without asking a scanner.

    image: (b, 3, side, side) in [0, 1]; slack: a dark module's centre must be below 0.5 − slack, a
    light one's above 0.5 + slack.
    """
    code, version = placed.code, version_of(placed.code)
    level, _ = read_format(code)
    squares = modules(luminance(placed.crop(image.detach().float())), placed.module_size)
    centre = central_mean(squares).reshape(len(image), *code.shape).cpu()
    wrong = torch.where(code, centre > 0.5 - slack, centre < 0.5 + slack)
    budget = error_budget(version, level)
    spent = [max(codeword_errors(x, version, level)) / budget for x in wrong]
    return Unmet(
        wrong.float().mean(dim=(1, 2)),
        torch.tensor(spent),
        (wrong & function_mask(version)).sum(dim=(1, 2)),
    )


def report(image: Tensor, placed: PlacedCode) -> ScanReport:
    """What every scanner reads in the whole picture, and which modules are wrong.

    image: (1, 3, side, side) in [0, 1]. The scanners see the picture to its edges.
    """
    return replace(
        scan_report(placed.crop(image), placed.code, placed.module_size, margin=0),
        texts=scan(image),
    )
