"""From a text to a code: bits, codewords, blocks and their interleaving; drawn by `qrcode`."""

from typing import NamedTuple

import torch
from qrcode import QRCode, constants
from qrcode.base import rs_blocks
from torch import Tensor

from course.qr_codes.layout import LEVEL_BITS, check_level, check_mask, check_version
from course.qr_codes.reed_solomon import rs_parity

BYTE_MODE, ECI_MODE, UTF_8 = 0b0100, 0b0111, 26
PADDING = (0xEC, 0x11)
LIBRARY_LEVELS = {level: getattr(constants, f"ERROR_CORRECT_{level}") for level in LEVEL_BITS}


class Block(NamedTuple):
    """One Reed–Solomon block: how many of its codewords are data, and how many parity."""

    data: int
    parity: int


def blocks(version: int, level: str) -> list[Block]:
    """The blocks that the codewords are cut into, in order (ISO/IEC 18004, table 9).

    Raises TypeError and ValueError for a version or level that does not exist.
    """
    check_version(version)
    check_level(level)
    made = rs_blocks(version, LIBRARY_LEVELS[level])
    return [Block(b.data_count, b.total_count - b.data_count) for b in made]


def capacity(version: int, level: str) -> int:
    """How many data codewords a code holds. Raises as `blocks` does."""
    return sum(block.data for block in blocks(version, level))


def error_budget(version: int, level: str) -> int:
    """How many wrong codewords a decoder can repair in each block: half its parity, rounded down.

    Raises as `blocks` does. (For versions 1 to 3 the standard asks decoders to leave some of it
    unused, as a guard against reading a wrong text; zxing-cpp, for one, uses all of it.)
    """
    return blocks(version, level)[0].parity // 2


# --- Bits and codewords ---------------------------------------------------------------------------


def to_bits(values: Tensor, width: int = 8) -> Tensor:
    """Numbers as bits, the most significant first. values: (…, k) int64 -> (…, k · width) bool."""
    places = torch.arange(width - 1, -1, -1)
    return (values.unsqueeze(-1) >> places & 1).bool().flatten(-2)


def to_bytes(bits: Tensor) -> Tensor:
    """Eight bits each as a number, the most significant first. bits: (…, 8k) bool -> (…, k)."""
    places = 2 ** torch.arange(7, -1, -1)
    return (bits.unflatten(-1, (-1, 8)) * places).sum(dim=-1)


def number(value: int, width: int) -> Tensor:
    """One number as (width,) bits."""
    return to_bits(torch.tensor([value]), width)


def count_width(version: int) -> int:
    """How many bits say how many bytes follow, in byte mode."""
    return 8 if version <= 9 else 16


def text_bits(text: str, version: int) -> Tensor:
    """The text in byte mode, as (k,) bool: mode, number of bytes, the bytes of its UTF-8.

    Where the text is not all ASCII, an ECI header before it says that the bytes are UTF-8, so that
    a scanner has not to guess. Raises ValueError for an empty text, and for one that has no UTF-8.
    """
    if not text:
        raise ValueError("The text is empty; a code needs at least one character.")
    try:
        raw = list(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise ValueError(f"The text cannot be written as UTF-8: {error.reason}.") from error
    header = [] if text.isascii() else [number(ECI_MODE, 4), number(UTF_8, 8)]
    header += [number(BYTE_MODE, 4), number(len(raw), count_width(version))]
    return torch.cat([*header, to_bits(torch.tensor(raw))])


def header_bits(text: str, version: int) -> int:
    """How many bits stand before the text's own bytes."""
    return 4 + count_width(version) + (0 if text.isascii() else 12)


def require_fits(text: str, version: int, level: str, reserve: int = 0) -> None:
    """Raise ValueError where the text is too long, naming the largest that fits.

    reserve: bits that are needed besides.
    """
    room = 8 * capacity(version, level)
    if len(text_bits(text, version)) + reserve <= room:
        return
    largest = max(0, (room - reserve - header_bits(text, version)) // 8)
    larger = _smallest_that_fits(text, level, reserve)
    way_out = f", or take version {larger}" if larger else ""
    raise ValueError(
        f"The text is {len(text.encode('utf-8'))} bytes long; version {version} at level {level} "
        f"holds at most {largest}. Shorten it{way_out}."
    )


def _smallest_that_fits(text: str, level: str, reserve: int = 0) -> int | None:
    fitting = (
        v for v in range(1, 41) if len(text_bits(text, v)) + reserve <= 8 * capacity(v, level)
    )
    return next(fitting, None)


def smallest_version(text: str, level: str) -> int:
    """The smallest version that holds the text. Raises ValueError for one that none holds."""
    check_level(level)
    version = _smallest_that_fits(text, level)
    if version is None:
        require_fits(text, 40, level)
    assert version is not None
    return version


def pad_codewords(bits: Tensor, capacity: int) -> Tensor:
    """Bits as exactly `capacity` codewords: terminator, filling to a byte, padding codewords.

    bits: (k,) bool, k ≤ 8 · capacity -> (capacity,) int64 in 0…255. The terminator is four 0s, or
    as many as there is room for; 0s fill the last byte; 236 and 17 take turns in what is left.
    """
    bits = torch.cat([bits, torch.zeros(min(4, 8 * capacity - len(bits)), dtype=torch.bool)])
    bits = torch.cat([bits, torch.zeros(-len(bits) % 8, dtype=torch.bool)])
    used = to_bytes(bits)
    padding = [PADDING[k % 2] for k in range(capacity - len(used))]
    return torch.cat([used, torch.tensor(padding, dtype=torch.int64)])


def interleave(blocks: list[Tensor]) -> Tensor:
    """The first codeword of every block, then the second of every block, and so on.

    blocks: tensors (k_i,), of which the last may be longer -> (Σ k_i,). A block that has no more is
    passed over.
    """
    longest = max(len(block) for block in blocks)
    return torch.stack([block[k] for k in range(longest) for block in blocks if k < len(block)])


def sent_places(version: int, level: str) -> list[Tensor]:
    """Where each block's codewords stand among those sent: one (data + parity,) int64 a block.

    What is sent are all blocks' data, interleaved, and then all blocks' parity, interleaved.
    """
    sizes = blocks(version, level)
    data = torch.arange(capacity(version, level)).split([b.data for b in sizes])
    first = capacity(version, level)
    parity = (first + torch.arange(sum(b.parity for b in sizes))).split([b.parity for b in sizes])
    # What stands at each place, turned round: where each thing stands.
    place = torch.cat([interleave(list(data)), interleave(list(parity))]).argsort()
    return [torch.cat([place[d], place[p]]) for d, p in zip(data, parity, strict=True)]


def send(data: Tensor, version: int, level: str) -> Tensor:
    """All codewords of a code in the order of its path: parity added, blocks interleaved.

    data: (capacity,) int64 -> (total,) int64.
    """
    sizes = blocks(version, level)
    pieces = data.split([block.data for block in sizes])
    parity = [rs_parity(x, block.parity) for x, block in zip(pieces, sizes, strict=True)]
    return torch.cat([interleave(list(pieces)), interleave(parity)])


# --- A code ---------------------------------------------------------------------------------------


def draw(sent: Tensor, version: int, level: str, mask: int | None = None) -> Tensor:
    """A code's modules, drawn by the library `qrcode`: (n, n) bool, True = dark.

    sent: every codeword in the order of the path; mask: 0…7, or None for the one with the fewest
    penalty points.
    """
    drawing: QRCode = QRCode(version, LIBRARY_LEVELS[level], mask_pattern=mask)
    drawing.data_cache = sent.tolist()
    drawing.make(fit=False)
    return torch.tensor(drawing.modules)


def make_code(
    text: str, version: int | None = None, level: str = "M", mask: int | None = None
) -> Tensor:
    """The QR code of a text, without its quiet zone: (n, n) bool, True = dark, n = 17 + 4 version.

    version: 1…40, or None for the smallest that holds the text; level: "L", "M", "Q" or "H"; mask:
    0…7, or None for the one with the fewest penalty points. The text is written in byte mode, where
    it is not all ASCII as UTF-8 announced by an ECI header. Raises TypeError and ValueError for
    arguments that do not exist, an empty text, or one that is too long, naming the largest that
    fits.
    """
    if mask is not None:
        check_mask(mask)
    if version is None:
        version = smallest_version(text, level)
    check_version(version)
    check_level(level)
    require_fits(text, version, level)
    data = pad_codewords(text_bits(text, version), capacity(version, level))
    return draw(send(data, version, level), version, level, mask)


def render(
    code: Tensor, module_size: int = 8, margin: int = 4, dark: float = 0.0, light: float = 1.0
) -> Tensor:
    """A code as an image: (1, 1, h, w) float32 with h = w = (n + 2 margin) · module_size.

    code: (n, n) bool; module_size: pixels along a module's side; margin: the quiet zone, in
    modules; dark, light: the two greys, 0 black and 1 white. Raises ValueError for a code of
    another shape or dtype, module_size < 1 or margin < 0.
    """
    if code.ndim != 2 or code.dtype != torch.bool:
        raise ValueError(f"code is (n, n) bool, not {tuple(code.shape)} {code.dtype}.")
    if module_size < 1 or margin < 0:
        raise ValueError(
            f"module_size is at least 1 and margin at least 0, not {module_size} and {margin}."
        )
    framed = torch.nn.functional.pad(code, (margin,) * 4)
    large = framed.repeat_interleave(module_size, 0).repeat_interleave(module_size, 1)
    return torch.where(large, dark, light)[None, None]
