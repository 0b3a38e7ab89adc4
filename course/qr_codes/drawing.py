"""Qart: a code whose own bits draw a picture, its text unchanged (Russ Cox, *QArt Codes*, 2012).

Readers stop at the terminator; the codewords after it are padding that nobody reads. Their bits are
free, and so, through them, is part of the parity: Reed–Solomon is linear over GF(2), so a block is
`base` XOR any sum of `rows`, one row for each free bit. Elimination turns the rows round until each
of them owns one module of our choice, data *or* parity, and that module can be set at will.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from course.qr_codes.elimination import Span, eliminate, refine, solve
from course.qr_codes.encoding import blocks, draw, send, sent_places, to_bits, to_bytes
from course.qr_codes.layout import (
    check_level,
    check_mask,
    data_path,
    mask_pattern,
    size_of,
    version_of,
)
from course.qr_codes.messages import Message, fragment_message, padding_message, read_digits
from course.qr_codes.reed_solomon import rs_parity
from course.qr_codes.targets import module_weights, picture_modules


@dataclass(frozen=True)
class Qart:
    """A code that draws a picture, and how well."""

    code: Tensor  # (n, n) bool, True = dark
    mask: int
    text: str  # what a scanner reads
    controlled: Tensor  # (n, n) bool: the modules that were chosen, one for each free bit
    target: Tensor  # (n, n) bool: the picture in modules, True = dark
    missed: float  # what the wrong data modules cost, as a share of what all of them would

    @property
    def agreement(self) -> float:
        """The share of modules outside the function patterns that are as the picture wants them."""
        path = data_path(version_of(self.code))
        return (self.code == self.target)[path].double().mean().item()


def block_rows(free: Tensor, parity: int) -> Tensor:
    """What each free bit of a block does to the block, parity included.

    free: (8 · data,) bool -> (f, 8 · (data + parity)) bool.
    """
    unit = torch.eye(len(free), dtype=torch.bool)[free]
    return torch.cat([unit, to_bits(rs_parity(to_bytes(unit), parity))], dim=1)


def bit_places(version: int, level: str) -> list[Tensor]:
    """Where each block's bits stand along the path: one (8 · (data + parity),) int64 a block."""
    places = sent_places(version, level)
    return [(8 * place[:, None] + torch.arange(8)).flatten() for place in places]


class Plan(NamedTuple):
    """All that the eight masks share: a mask turns bits over, and changes no row and no weight."""

    text: str
    version: int
    level: str
    message: Message
    target: Tensor  # (n, n) bool
    weights: Tensor  # (n, n)
    places: list[Tensor]
    spans: list[Span]


def plan(
    text: str,
    modules: Tensor,
    threshold: Tensor,
    version: int,
    level: str,
    fragment: bool = False,
) -> Plan:
    """The target, the weights, and each block's rows eliminated in the order of weight.

    modules: (n, n) brightness; threshold: a scalar, or (n, n). Raises as `qart` does.
    """
    message = (fragment_message if fragment else padding_message)(text, version, level)
    target, weights = modules < threshold, module_weights(modules, threshold)
    sizes, places = blocks(version, level), bit_places(version, level)
    free = message.free.split([8 * block.data for block in sizes])
    along = weights[data_path(version)]
    spans = [
        eliminate(block_rows(f, size.parity), along[place].argsort(descending=True, stable=True))
        for f, size, place in zip(free, sizes, places, strict=True)
    ]
    return Plan(text, version, level, message, target, weights, places, spans)


def with_mask(plan: Plan, mask: int, refined: bool = True) -> Qart:
    """The best code of a plan under one mask."""
    version, level, path = plan.version, plan.level, data_path(plan.version)
    wanted = (plan.target ^ mask_pattern(mask, len(plan.target)))[path]
    # What a wrong module costs: its weight, and as much again as the mean weight, because a speck
    # is seen even where the picture does not care.
    costs = plan.weights + plan.weights[path].mean()
    bits = to_bits(send(to_bytes(plan.message.bits), version, level))
    for span, place in zip(plan.spans, plan.places, strict=True):
        bits[place] = solve(span, bits[place], wanted[place])
        if refined:
            bits[place] = refine(span, bits[place], wanted[place], costs[path][place])
    code = draw(to_bytes(bits), version, level, mask)
    missed = float((costs * (code != plan.target))[path].sum() / costs[path].sum())
    text = plan.text + spelled(plan, bits)
    return Qart(code, mask, text, controlled(plan), plan.target, missed)


def spelled(plan: Plan, bits: Tensor) -> str:
    """The fragment that chosen bits spell, "#" and digits; "" where only padding was free."""
    if not plan.message.digits[1]:
        return ""
    sizes = blocks(plan.version, plan.level)
    data = [bits[p[: 8 * b.data]] for p, b in zip(plan.places, sizes, strict=True)]
    return "#" + read_digits(plan.message, torch.cat(data))


def controlled(plan: Plan) -> Tensor:
    """Which modules the pivots are: (n, n) bool, one for each free bit."""
    rows, columns = data_path(plan.version)
    chosen = torch.zeros_like(plan.target)
    for span, place in zip(plan.spans, plan.places, strict=True):
        chosen[rows[place[span.pivots]], columns[place[span.pivots]]] = True
    return chosen


def qart_codes(
    text: str,
    picture: Tensor,
    version: int = 3,
    level: str = "L",
    mask: int | None = None,
    threshold: float | Tensor | None = None,
    *,
    fragment: bool = False,
    refined: bool = True,
) -> list[Qart]:
    """The `Qart` of every mask, or of the one given, the likest to the picture first.

    Arguments and errors as in `qart`.
    """
    check_level(level)
    if mask is not None:
        check_mask(mask)
    modules = picture_modules(picture, size_of(version))
    limit = modules.median() if threshold is None else torch.as_tensor(threshold).to(modules)
    if limit.shape not in ((), modules.shape):
        raise ValueError(
            f"threshold is a number or {tuple(modules.shape)} here, not {tuple(limit.shape)}."
        )
    shared = plan(text, modules, limit, version, level, fragment)
    masks = range(8) if mask is None else [mask]
    return sorted((with_mask(shared, m, refined) for m in masks), key=lambda made: made.missed)


def qart(
    text: str,
    picture: Tensor,
    version: int = 3,
    level: str = "L",
    mask: int | None = None,
    threshold: float | Tensor | None = None,
    *,
    fragment: bool = False,
    refined: bool = True,
) -> Tensor:
    """A code of exactly this text that looks like the picture: (n, n) bool, True = dark.

    text: anything `make_code` takes; the shorter, the more of the code is free. picture: (1, 1 or
    3, h, h) in [0, 1], 1 = white, at least a pixel a module. version: 1…40; level: "L" leaves most
    to draw with, "H" least. mask: 0…7, or None to try all and keep the likest. threshold: below
    it a module should be dark; a number, (n, n) numbers, or None for the picture's median.

    With `fragment` the text, a web address, is followed by "#" and digits that do the drawing:
    browsers ignore them, and the padding stays as the standard has it. Otherwise the padding does
    it. Without `refined`, every controlled module is as the picture wants it; with it, some of them
    are given up where that puts more right elsewhere.

    Function patterns are never touched, and no error correction is spent. Raises TypeError and
    ValueError for a version, level or mask that does not exist, a picture or threshold of another
    shape or range, a text that is empty or too long, naming the largest that fits.
    """
    return qart_codes(
        text, picture, version, level, mask, threshold, fragment=fragment, refined=refined
    )[0].code
