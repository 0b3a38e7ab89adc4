"""Linear algebra over GF(2): which bits of a block can be set at will, and setting them."""

from typing import NamedTuple

import torch
from torch import Tensor


class Span(NamedTuple):
    """A block's free choices: each row turns its own pivot over, and no other row's."""

    rows: Tensor  # (f, k) bool
    pivots: Tensor  # (f,) int64, positions among the block's k bits


def clear_column(rows: Tensor, pivot: int, column: int) -> Tensor:
    """Add row `pivot` to every other row that has a 1 in `column`: afterwards no other has.

    rows: (f, k) bool with rows[pivot, column] True -> (f, k) bool. Over GF(2), adding is XOR.
    """
    others = rows[:, column].clone()
    others[pivot] = False
    return rows ^ (others[:, None] & rows[pivot])


def eliminate(rows: Tensor, order: Tensor) -> Span:
    """Give each row a pivot: the first columns of `order` that can be set independently.

    rows: (f, k) bool, independent; order: a permutation of the k columns -> rows in which column
    pivots[i] is 1 in row i and 0 in every other. Columns that earlier ones determine are passed
    over. The greedy choice is the best: no other independent set weighs more (independent columns
    form a matroid).
    """
    waiting = torch.ones(len(rows), dtype=torch.bool)
    pivots = torch.full((len(rows),), -1)
    for column in order.tolist():
        candidates = rows[:, column] & waiting
        if candidates.any():
            pivot = int(candidates.int().argmax())
            rows = clear_column(rows, pivot, column)
            waiting[pivot], pivots[pivot] = False, column
            if not waiting.any():
                break
    return Span(rows, pivots)


def solve(span: Span, bits: Tensor, wanted: Tensor) -> Tensor:
    """The block of the span that has the wanted bit at every pivot. bits, wanted: (k,) bool."""
    wrong = (bits ^ wanted)[span.pivots]
    # A sum of rows, modulo 2; the counts are small whole numbers, exact in float.
    return bits ^ (wrong.float() @ span.rows.float() % 2).bool()


def refine(span: Span, bits: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Add single rows as long as one makes the weight of all wrong bits smaller.

    A row turns its pivot over and with it about half of the bits that nobody chose: worth it where
    these gain more than the pivot loses. bits, wanted: (k,) bool; weights: (k,) -> (k,) bool.
    """
    table = span.rows.to(weights)
    while len(table):
        gain = table @ torch.where(bits ^ wanted, weights, -weights)
        best = int(gain.argmax())
        if gain[best] <= 1e-6 * weights.sum():
            break
        bits = bits ^ span.rows[best]
    return bits
