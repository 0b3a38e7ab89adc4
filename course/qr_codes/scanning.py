"""What a scanner does, by hand; the scanners that are here; and a report on what they found."""

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from course.qr_codes.encoding import error_budget, sent_places
from course.qr_codes.layout import data_path, function_mask, read_format, version_of

LUMA = (0.299, 0.587, 0.114)

Pixels = np.ndarray  # (h, w) or (h, w, 3) uint8
Scanner = Callable[[Pixels], str | None]


# --- Photo → grey → threshold → module centres → bits -----------------------------------------


def luminance(image: Tensor) -> Tensor:
    """How bright each pixel is: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).

    image: (b, 3, h, w), or (b, 1, h, w) which is grey already and stays as it is, because the
    weights add up to 1 -> (b, 1, h, w). Raises ValueError for another shape.
    """
    if image.ndim != 4 or image.shape[1] not in (1, 3):
        raise ValueError(f"image is (b, 1 or 3, h, w), not {tuple(image.shape)}.")
    weights = torch.tensor(LUMA).to(image).reshape(1, 3, 1, 1)
    return (image * weights).sum(dim=1, keepdim=True)


def local_mean(grey: Tensor, reach: int) -> Tensor:
    """The mean of each pixel's surroundings, a threshold that follows shadows: as grey.

    grey: (b, 1, h, w); reach: how many pixels the surroundings go to each side, inside the image.
    """
    return F.avg_pool2d(grey, 2 * reach + 1, 1, reach, count_include_pad=False)


def module_means(grey: Tensor, n: int, module_size: int, margin: int) -> Tensor:
    """The mean of the middle of each module: (n, n).

    grey: (1, 1, h, w) with h = w = (n + 2 margin) · module_size; margin: the quiet zone, in
    modules. Of s = module_size pixels along a side, ⌊s/3⌋ are left out at either end. Raises
    ValueError for another shape.
    """
    s, start = module_size, margin * module_size
    side = (n + 2 * margin) * s
    if grey.shape != (1, 1, side, side):
        raise ValueError(f"grey is (1, 1, {side}, {side}) for this code, not {tuple(grey.shape)}.")
    code = grey[..., start : start + n * s, start : start + n * s]
    middle = slice(s // 3, s - s // 3)
    return code.reshape(n, s, n, s)[:, middle, :, middle].mean(dim=(1, 3))


def read_modules(
    image: Tensor, n: int, module_size: int, margin: int, threshold: float | Tensor = 0.5
) -> Tensor:
    """Which modules of an image are dark: (n, n) bool, the middle of each against the threshold.

    image: (1, 1 or 3, h, w) in [0, 1] with h = w = (n + 2 margin) · module_size; margin: in
    modules; threshold: a level, or a (1, 1, h, w) image of levels (`local_mean`). Raises ValueError
    for another shape.
    """
    return module_means(luminance(image) - threshold, n, module_size, margin) < 0


def module_errors(
    image: Tensor, code: Tensor, module_size: int, margin: int, threshold: float | Tensor = 0.5
) -> Tensor:
    """Which modules an image shows on the wrong side of the threshold: (n, n) bool.

    code: (n, n) bool, True = dark; the rest as in `read_modules`.
    """
    return read_modules(image, len(code), module_size, margin, threshold) != code


def codeword_errors(errors: Tensor, version: int, level: str) -> list[int]:
    """How many codewords of each block hold a wrong module: what the error budget is spent on.

    errors: (n, n) bool -> one number for each block. Eight modules are a codeword, and one wrong
    module or eight make it wrong alike. Function patterns and remainder bits belong to none.
    """
    places = sent_places(version, level)
    total = sum(len(place) for place in places)
    wrong = errors[data_path(version)][: 8 * total].reshape(total, 8).any(dim=1)
    return [int(wrong[place].sum()) for place in places]


# --- The scanners that are here ---------------------------------------------------------------


def _zxing() -> Scanner:
    import zxingcpp

    qr, plain = zxingcpp.BarcodeFormat.QRCode, zxingcpp.TextMode.Plain

    def read(pixels: Pixels) -> str | None:
        found = zxingcpp.read_barcodes(pixels, formats=qr, text_mode=plain)  # type: ignore[arg-type]
        return found[0].text if found else None

    return read


def _pyzbar() -> Scanner:
    from pyzbar import pyzbar

    qr = [pyzbar.ZBarSymbol.QRCODE]

    def read(pixels: Pixels) -> str | None:
        # Of an array with colours it would look at the first alone.
        grey = Image.fromarray(pixels[..., ::-1] if pixels.ndim == 3 else pixels).convert("L")
        found = pyzbar.decode(grey, symbols=qr)
        return found[0].data.decode("utf-8", errors="replace") if found else None

    return read


def _opencv() -> Scanner:
    import cv2

    detector = cv2.QRCodeDetector()

    def read(pixels: Pixels) -> str | None:
        try:
            text, *_ = detector.detectAndDecode(pixels)
        except (cv2.error, UnicodeDecodeError):
            return None
        return text or None

    return read


SCANNERS = {"zxing-cpp": _zxing, "pyzbar": _pyzbar, "opencv": _opencv}


@functools.cache
def scanners() -> dict[str, Scanner]:
    """The scanners that this computer has, each as a function from pixels to a text or None."""
    here = {}
    for name, load in SCANNERS.items():
        # pyzbar, say, may be there without the library that it wraps, and raises what it likes.
        with contextlib.suppress(Exception):
            here[name] = load()
    return here


def scan(image: Tensor) -> dict[str, str | None]:
    """What each scanner that is here reads in an image; None where it reads nothing.

    image: (1, 1 or 3, h, w) in [0, 1]. `python -m course doctor` lists the scanners. Raises
    ValueError for another shape.
    """
    if image.ndim != 4 or image.shape[0] != 1 or image.shape[1] not in (1, 3):
        raise ValueError(f"image is (1, 1 or 3, h, w), not {tuple(image.shape)}.")
    pixels = image[0].detach().cpu().float().mul(255).round().clamp(0, 255).to(torch.uint8)
    # Scanners take channels last, and colours as OpenCV holds them: blue first.
    array = np.ascontiguousarray(pixels.flip(0).permute(1, 2, 0).numpy())
    if len(pixels) == 1:
        array = array.squeeze(-1)
    return {name: read(array) for name, read in scanners().items()}


# --- The report -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScanReport:
    """What is wrong with an image of a code, and who can read it all the same."""

    errors: Tensor  # (n, n) bool: modules on the wrong side of the threshold
    in_patterns: int  # how many of them lie in function patterns
    wrong: list[int]  # wrong codewords in each block
    budget: int  # wrong codewords that can be repaired in each block
    texts: dict[str, str | None]  # what each scanner read

    @property
    def spent(self) -> list[float]:
        """The share of each block's error budget that is spent; above 1 it cannot be repaired."""
        return [count / self.budget for count in self.wrong]

    @property
    def repairable(self) -> bool:
        """Whether every block can be repaired, if a scanner gets as far as its bits."""
        return max(self.wrong) <= self.budget

    def __str__(self) -> str:
        count, total = int(self.errors.sum()), self.errors.numel()
        lines = [
            f"modules wrong: {count} of {total} ({count / total:.1%}), "
            f"{self.in_patterns} of them in function patterns",
            *(
                f"block {i}: {wrong} codewords wrong of {self.budget} that can be repaired"
                for i, wrong in enumerate(self.wrong, start=1)
            ),
            *(
                f"{name}: {'does not scan' if text is None else repr(text)}"
                for name, text in self.texts.items()
            ),
        ]
        return "\n".join(lines)


def scan_report(
    image: Tensor, code: Tensor, module_size: int, margin: int, threshold: float | Tensor = 0.5
) -> ScanReport:
    """Compare an image with the code that it should show, and let every scanner try.

    Arguments as in `module_errors`. Version and level are read from the code itself. Raises
    ValueError for an image that does not fit, or a `code` that is none.
    """
    version, (level, _) = version_of(code), read_format(code)
    errors = module_errors(image, code, module_size, margin, threshold)
    in_patterns = int((errors & function_mask(version)).sum())
    wrong = codeword_errors(errors, version, level)
    return ScanReport(errors, in_patterns, wrong, error_budget(version, level), scan(image))
