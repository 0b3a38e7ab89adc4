"""What a scanner reads, as bits, and which of them are free to choose without changing it."""

from typing import NamedTuple

import torch
from torch import Tensor

from course.qr_codes.encoding import (
    capacity,
    number,
    pad_codewords,
    require_fits,
    text_bits,
    to_bits,
)

NUMERIC_MODE = 0b0001
DIGIT_BITS = {0: 0, 1: 4, 2: 7, 3: 10}  # how many bits a group of so many digits takes


class Message(NamedTuple):
    """A text's data codewords as bits, and which of those bits are free to choose."""

    bits: Tensor  # (8 · capacity,) bool
    free: Tensor  # (8 · capacity,) bool
    digits: tuple[int, int] = (0, 0)  # where the fragment's digits begin, and how many there are


def padding_message(text: str, version: int, level: str) -> Message:
    """The text alone: free are the padding codewords, which no reader looks at.

    Raises ValueError for an empty text, or one that is too long.
    """
    require_fits(text, version, level)
    used = len(text_bits(text, version))
    bits = to_bits(pad_codewords(text_bits(text, version), capacity(version, level)))
    # The terminator, and what fills its byte, stay.
    first_padding = -(-min(used + 4, len(bits)) // 8) * 8
    return Message(bits, torch.arange(len(bits)) >= first_padding)


def digits_width(version: int) -> int:
    """How many bits say how many digits follow, in numeric mode."""
    return 10 if version <= 9 else 12 if version <= 26 else 14


def fragment_message(text: str, version: int, level: str) -> Message:
    """The text, "#", and as many digits as there is room for: free are the digits.

    Three digits are ten bits and at most 999, so not every ten bits are three digits. Where the
    first bit of a group is 0, the others are free: up to 511 for three digits, 63 for two, 7 for
    one. Raises ValueError for a text that has a "#" already, is empty or too long.
    """
    if "#" in text:
        raise ValueError(f"The text has a fragment already: {text!r}. Qart would add its own.")
    width = digits_width(version)
    require_fits(text + "#" if text else text, version, level, reserve=4 + width + DIGIT_BITS[3])
    start = text_bits(text + "#", version)
    room = 8 * capacity(version, level) - len(start) - 4 - width
    rest = max(d for d in range(3) if DIGIT_BITS[d] <= room % 10)
    groups = [10] * (room // 10) + [DIGIT_BITS[rest]] * (rest > 0)
    count, first = 3 * (room // 10) + rest, len(start) + 4 + width
    head = torch.cat([start, number(NUMERIC_MODE, 4), number(count, width)])
    body = torch.cat([torch.arange(width) > 0 for width in groups])
    used = torch.cat([head, torch.zeros_like(body)])
    bits = to_bits(pad_codewords(used, capacity(version, level)))
    free = torch.zeros_like(bits)
    free[first : first + len(body)] = body
    return Message(bits, free, (first, count))


def read_digits(message: Message, bits: Tensor) -> str:
    """The digits that chosen bits spell: `message.digits` says where and how many."""
    place, count = message.digits
    text = ""
    while len(text) < count:
        group = min(3, count - len(text))
        width = DIGIT_BITS[group]
        value = int("".join(str(int(bit)) for bit in bits[place : place + width]), 2)
        text, place = text + f"{value:0{group}}", place + width
    return text
