"""Reed–Solomon over GF(256) from scratch: the field, the generator polynomial, the parity."""

import torch
import torch.nn.functional as F
from torch import Tensor

REDUCTION = 0b100011101  # x⁸ + x⁴ + x³ + x² + 1, the polynomial by which QR codes reduce


def gf_multiply(a: Tensor, b: Tensor) -> Tensor:
    """The product in GF(256), where bytes are polynomials over GF(2) modulo x⁸ + x⁴ + x³ + x² + 1.

    a, b: int64 in 0…255, of shapes that broadcast -> int64 in 0…255, of the broadcast shape.
    """
    a, b = torch.broadcast_tensors(a, b)
    product = torch.zeros_like(a)
    for k in range(8):
        product = product ^ torch.where((b >> k & 1).bool(), a, 0)
        a = a << 1
        a = torch.where(a > 255, a ^ REDUCTION, a)
    return product


# The whole multiplication table, once: PRODUCTS[a, b] is gf_multiply(a, b).
PRODUCTS = gf_multiply(torch.arange(256).reshape(-1, 1), torch.arange(256))


def rs_generator(count: int) -> Tensor:
    """The coefficients of ∏ (x − αⁱ), i = 0 … count − 1, with α = 2: (count + 1,) int64.

    The highest power comes first, so the first coefficient is 1. In GF(256), − is + is XOR.
    """
    generator, root = torch.tensor([1]), torch.tensor(1)
    for _ in range(count):
        generator = F.pad(generator, (0, 1)) ^ F.pad(gf_multiply(generator, root), (1, 0))
        root = gf_multiply(root, torch.tensor(2))
    return generator


def rs_parity(data: Tensor, count: int) -> Tensor:
    """The `count` parity codewords of each block: the remainder of data(x) · x^count by g(x).

    data: (…, k) int64 in 0…255, the highest power first -> (…, count) int64. g is
    `rs_generator(count)`; data and parity together are a multiple of it.
    """
    tail = rs_generator(count)[1:]
    remainder = torch.zeros(count, dtype=torch.int64)
    for k in range(data.shape[-1]):
        lead = data[..., k : k + 1] ^ remainder[..., :1]
        remainder = F.pad(remainder[..., 1:], (0, 1)) ^ PRODUCTS[lead, tail]
    return remainder


def syndromes(block: Tensor, count: int) -> Tensor:
    """The block's polynomial at α⁰ … α^(count − 1): all 0 where no codeword is wrong.

    block: (…, k) int64, data and then parity -> (…, count) int64.
    """
    roots = torch.ones(count, dtype=torch.int64)
    for i in range(1, count):
        roots[i] = PRODUCTS[roots[i - 1], 2]
    value = torch.zeros(*block.shape[:-1], count, dtype=torch.int64)
    for k in range(block.shape[-1]):
        value = PRODUCTS[value, roots] ^ block[..., k : k + 1]
    return value
