"""Lesson 09: what right answers satisfy, and the mistakes people make."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from course.checks.engine import Answer, Case, Exercise, Mistake
from course.qr_codes import (
    elimination,
    encoding,
    halftones,
    layout,
    pixels,
    reed_solomon,
    scanning,
    targets,
)
from course.qr_codes.encoding import PADDING, sent_places, to_bytes
from course.qr_codes.layout import data_path, function_mask
from course.qr_codes.reed_solomon import PRODUCTS
from course.qr_codes.scanning import local_mean


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(*shape: int, seed: int = 0, high: int = 256) -> Tensor:
    """Whole numbers in 0 … high − 1, of their own seed."""
    return torch.randint(high, shape, generator=generator(seed))


def coins(*shape: int, seed: int = 0, share: float = 0.5) -> Tensor:
    """Booleans, True with this share."""
    return torch.rand(shape, generator=generator(seed)) < share


def greys(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Brightnesses in [0, 1)."""
    return torch.rand(shape, generator=generator(seed), dtype=dtype)


# --- gf_multiply --------------------------------------------------------------------------------


def gf_cases() -> list[Case]:
    return [
        Case("2 · 128, the first product that has to be reduced",
             {"a": torch.tensor([128]), "b": torch.tensor([2])}),
        Case("3 · 3, without any carry", {"a": torch.tensor([3]), "b": torch.tensor([3])}),
        Case("a column by a row", {"a": numbers(5, 1), "b": numbers(6, seed=1)}),
        Case("many, one by one", {"a": numbers(300, seed=2), "b": numbers(300, seed=3)}),
        Case("zeros and scalars", {"a": torch.tensor([0, 1, 255]), "b": torch.tensor(255)}),
    ]  # fmt: skip


def gf_shifts(reduction: int, *, carry: bool = False, reduce: bool = True) -> Answer:
    """Shift and add, with another polynomial, with carries, or never reduced."""

    def answer(a: Tensor, b: Tensor) -> Tensor:
        a, b = torch.broadcast_tensors(a, b)
        product = torch.zeros_like(a)
        for k in range(8):
            term = torch.where((b >> k & 1).bool(), a, 0)
            product = product + term if carry else product ^ term
            a = a << 1
            if reduce:
                a = torch.where(a > 255, a ^ reduction, a)
        return product

    return answer


def gf_by_logarithms(a: Tensor, b: Tensor) -> Tensor:
    powers = [1]
    for _ in range(254):
        doubled = powers[-1] << 1
        powers.append(doubled ^ 0x11D if doubled > 255 else doubled)
    exp = torch.tensor(powers)
    log = torch.zeros(256, dtype=torch.int64)
    log[exp] = torch.arange(255)
    return torch.where((a == 0) | (b == 0), 0, exp[(log[a] + log[b]) % 255])


def gf_from_the_top(a: Tensor, b: Tensor) -> Tensor:
    product = torch.zeros_like(a + b)
    for k in range(7, -1, -1):
        product = product << 1
        product = torch.where(product > 255, product ^ 0x11D, product) ^ (b >> k & 1) * a
    return product


GF_MULTIPLY = Exercise(
    reed_solomon.gf_multiply,
    gf_cases,
    mistakes=[
        Mistake("That is the ordinary product modulo 256. Bytes are polynomials here: adding is XOR "
                "and nothing carries.", lambda a, b: a * b % 256),
        Mistake("That is the *sum* in GF(256); XOR adds. A product is a sum of shifted copies of a.",
                lambda a, b: a ^ b),
        Mistake("The product is not reduced: after each shift, take away x⁸ + x⁴ + x³ + x² + 1 "
                "(285) where a has outgrown a byte.", gf_shifts(0, reduce=False)),
        Mistake("You reduce by x⁸ + x⁴ + x³ + x + 1, which is the field of AES. QR codes reduce by "
                "x⁸ + x⁴ + x³ + x² + 1 = 285.", gf_shifts(0x11B)),
        Mistake("The shifted copies are added with carries; in this field they are added by XOR.",
                gf_shifts(0x11D, carry=True)),
        Mistake("You cut a back to a byte without the reduction: taking away x⁸ alone leaves out "
                "x⁴ + x³ + x² + 1.", gf_shifts(0x100)),
    ],
    alternatives=[gf_by_logarithms, gf_from_the_top],
    hints=[
        "Multiply as on paper: for every bit k of b that is 1, add a shifted by k. Add by XOR.",
        "Double a once a round; where it is above 255 afterwards, XOR it with 285 (REDUCTION).",
        "Bit k of b is `b >> k & 1`; broadcast a and b first, and start from zeros.",
    ],
)  # fmt: skip


# --- rs_generator -------------------------------------------------------------------------------


def generator_cases() -> list[Case]:
    return [
        Case("two roots: (x − 1)(x − 2)", {"count": 2}),
        Case("one root", {"count": 1}),
        Case("no root at all", {"count": 0}),
        Case("the seven of version 1, level L", {"count": 7}),
        Case("seventeen", {"count": 17}),
    ]


def poly_multiply(p: Tensor, q: Tensor) -> Tensor:
    """The product of two polynomials over GF(256), the highest power first."""
    out = torch.zeros(len(p) + len(q) - 1, dtype=torch.int64)
    for i in range(len(p)):
        out[i : i + len(q)] ^= PRODUCTS[p[i], q]
    return out


def generator_with(roots: Answer) -> Answer:
    """∏ (x − roots(i))."""

    def answer(count: int) -> Tensor:
        product = torch.tensor([1])
        for i in range(count):
            product = poly_multiply(product, torch.tensor([1, roots(i)]))
        return product

    return answer


def power_of_two(i: int) -> int:
    value = 1
    for _ in range(i):
        value = int(PRODUCTS[value, 2])
    return value


def generator_of_integers(count: int) -> Tensor:
    product = torch.tensor([1])
    for i in range(count):
        product = F.pad(product, (0, 1)) - F.pad(product * 2**i, (1, 0))
    return product


def generator_backwards(count: int) -> Tensor:
    product = torch.tensor([1])
    for i in range(count - 1, -1, -1):
        product = poly_multiply(torch.tensor([1, power_of_two(i)]), product)
    return product


RS_GENERATOR = Exercise(
    reed_solomon.rs_generator,
    generator_cases,
    mistakes=[
        Mistake("Your roots begin at α¹. QR codes begin at α⁰ = 1.",
                generator_with(lambda i: power_of_two(i + 1))),
        Mistake("Your roots are 1, 2, 3, 4 …; they are the *powers* of α = 2: 1, 2, 4, 8, …",
                generator_with(lambda i: i + 1)),
        Mistake("The lowest power comes first in yours; the highest should, so that the first "
                "coefficient is 1.", lambda count: generator_with(power_of_two)(count).flip(0)),
        Mistake("That is the product over the whole numbers. In GF(256), multiply with gf_multiply "
                "and add with XOR.", generator_of_integers),
        Mistake("The leading 1 is missing: count + 1 coefficients make a polynomial of degree count.",
                lambda count: generator_with(power_of_two)(count)[1:]),
        Mistake("You take the powers of 2 modulo 256; from 2⁸ on they are 0. Multiply by 2 in the "
                "field.", generator_with(lambda i: 2**i % 256)),
    ],
    alternatives=[generator_with(power_of_two), generator_backwards],
    hints=[
        "Start with the polynomial 1 and multiply by (x − αⁱ) for i = 0 … count − 1.",
        "Times x is a 0 appended at the end; times αⁱ is gf_multiply, one place further right.",
        "F.pad(p, (0, 1)) appends a 0, F.pad(p, (1, 0)) puts one in front; XOR the two.",
    ],
)  # fmt: skip


# --- rs_parity ----------------------------------------------------------------------------------


def parity_cases() -> list[Case]:
    return [
        Case("one data codeword, by hand", {"data": torch.tensor([1]), "count": 2}),
        Case("two data codewords", {"data": torch.tensor([1, 2]), "count": 2}),
        Case("less data than parity", {"data": numbers(5), "count": 7}),
        Case("three blocks at once", {"data": numbers(3, 16, seed=1), "count": 10}),
        Case("two axes of blocks", {"data": numbers(2, 2, 4, seed=2), "count": 3}),
        Case("no data but zeros", {"data": torch.zeros(1, 4, dtype=torch.int64), "count": 5}),
    ]


def long_division(data: Tensor, count: int) -> Tensor:
    """data(x) · x^count, divided by g(x) on paper: what is left over."""
    rest = F.pad(data, (0, count))
    whole = reed_solomon.rs_generator(count)
    for k in range(data.shape[-1]):
        rest[..., k : k + count + 1] ^= PRODUCTS[rest[..., k : k + 1], whole]
    return rest[..., data.shape[-1] :]


def parity_by_sums(data: Tensor, count: int) -> Tensor:
    """Linear: the XOR of what each codeword contributes."""
    out = torch.zeros(*data.shape[:-1], count, dtype=torch.int64)
    for k in range(data.shape[-1]):
        alone = torch.zeros_like(data)
        alone[..., k] = data[..., k]
        out = out ^ long_division(alone, count)
    return out


def parity_forgetful(data: Tensor, count: int) -> Tensor:
    tail = reed_solomon.rs_generator(count)[1:]
    rest = torch.zeros(*data.shape[:-1], count, dtype=torch.int64)
    for k in range(data.shape[-1]):
        rest = F.pad(rest[..., 1:], (0, 1)) ^ PRODUCTS[data[..., k : k + 1], tail]
    return rest


def parity_first_block(data: Tensor, count: int) -> Tensor:
    first = long_division(data.reshape(-1, data.shape[-1])[0], count)
    return first.expand(*data.shape[:-1], count).contiguous()


def parity_unshifted(data: Tensor, count: int) -> Tensor:
    """The remainder of data(x) itself."""
    rest, whole = data.clone(), reed_solomon.rs_generator(count)
    for k in range(data.shape[-1] - count):
        rest[..., k : k + count + 1] ^= PRODUCTS[rest[..., k : k + 1], whole]
    return F.pad(rest, (max(0, count - data.shape[-1]), 0))[..., -count:]


RS_PARITY = Exercise(
    reed_solomon.rs_parity,
    parity_cases,
    mistakes=[
        Mistake("You divided data(x); it is data(x) · x^count that is divided: append `count` zeros, "
                "one for each parity codeword.", parity_unshifted),
        Mistake("Your parity is back to front: the highest power comes first.",
                lambda data, count: long_division(data, count).flip(-1)),
        Mistake("The leading coefficient is the data's alone in yours. The remainder so far is still "
                "there: XOR its first coefficient in.", parity_forgetful),
        Mistake("You made the first block's parity and gave it to all; each block has its own.",
                parity_first_block),
        Mistake("You returned the data too; the function returns the parity alone.",
                lambda data, count: torch.cat([data, long_division(data, count)], dim=-1)),
    ],
    alternatives=[long_division, parity_by_sums],
    hints=[
        "Long division, one data codeword at a time: the leading coefficient says how often g(x) "
        "goes in; g(x) begins with 1, so no division is needed.",
        "Keep `count` coefficients of remainder. Each round: lead = data[k] XOR the first of them; "
        "shift them left by one; XOR with lead times g's other coefficients.",
        "PRODUCTS[lead, tail] multiplies; keep `lead` of shape (…, 1) so that it broadcasts.",
    ],
)  # fmt: skip


# --- zigzag -------------------------------------------------------------------------------------


def zigzag_cases() -> list[Case]:
    nothing = torch.zeros(9, 9, dtype=torch.bool)
    return [
        Case("nine by nine, nothing fixed", {"fixed": nothing}),
        Case("version 1", {"fixed": function_mask(1)}),
        Case("version 2, with an alignment pattern", {"fixed": function_mask(2)}),
        Case("here and there", {"fixed": coins(11, 11, share=0.3)}),
    ]


def zigzag_like(
    fixed: Tensor,
    columns: Answer | None = None,
    down_first: bool = False,
    turns: bool = True,
    left_first: bool = False,
    skip: bool = True,
) -> Tensor:
    n = len(fixed)
    rights = columns(n) if columns else [*range(n - 1, 6, -2), *range(5, 0, -2)]
    path = []
    for turn, right in enumerate(rights):
        down = (turn % 2 == 1) != down_first if turns else down_first
        rows = range(n) if down else reversed(range(n))
        sides = (right - 1, right) if left_first else (right, right - 1)
        path += [(i, j) for i in rows for j in sides if not (skip and fixed[i, j])]
    return torch.tensor(path)


def zigzag_by_sorting(fixed: Tensor) -> Tensor:
    """Every open module's own place in line, then sorted."""
    n = len(fixed)
    i, j = torch.nonzero(~fixed & (torch.arange(n) != 6)).unbind(1)
    k = j - (j > 6).long()  # columns without the sixth
    pair = (n - 2 - k) // 2
    down = pair % 2 == 1
    place = (pair * n + torch.where(down, i, n - 1 - i)) * 2 + (n - 2 - k) % 2
    return torch.stack([i, j], dim=1)[place.argsort()]


ZIGZAG = Exercise(
    layout.zigzag,
    zigzag_cases,
    mistakes=[
        Mistake("Column 6 is timing from top to bottom and belongs to no pair; left of it the pairs "
                "are 5 and 4, 3 and 2, 1 and 0.",
                lambda fixed: zigzag_like(fixed, lambda n: range(n - 1, 0, -2))),
        Mistake("You always go up; every second pair of columns is read downwards.",
                lambda fixed: zigzag_like(fixed, turns=False)),
        Mistake("Your first pair goes down; the path begins in the bottom right corner and goes up.",
                lambda fixed: zigzag_like(fixed, down_first=True)),
        Mistake("In each row the right module comes first, then the left.",
                lambda fixed: zigzag_like(fixed, left_first=True)),
        Mistake("The path runs over fixed modules; it has to pass over them.",
                lambda fixed: zigzag_like(fixed, skip=False)),
        Mistake("You gave (column, row); each step is (row, column).",
                lambda fixed: zigzag_like(fixed).flip(1)),
    ],
    alternatives=[zigzag_like, zigzag_by_sorting],
    hints=[
        "The right columns of the pairs are n − 1, n − 3, … down to 8, and then 5, 3, 1.",
        "Number the pairs 0, 1, 2, …: even ones run from the last row to the first, odd ones back.",
        "In a row: first (i, right), then (i, right − 1); keep those where fixed[i, j] is False.",
    ],
)  # fmt: skip


# --- mask_pattern -------------------------------------------------------------------------------


def mask_cases() -> list[Case]:
    return [
        *(Case(f"mask {mask}, six by six", {"mask": mask, "n": 6}) for mask in range(8)),
        *(Case(f"mask {mask} of version 1", {"mask": mask, "n": 21}) for mask in range(8)),
    ]


def mask_formula(mask: int, i: int, j: int) -> int:
    if mask < 4:
        return [(i + j) % 2, i % 2, j % 3, (i + j) % 3][mask]
    product = i * j
    return [
        (i // 2 + j // 3) % 2,
        product % 2 + product % 3,
        (product % 2 + product % 3) % 2,
        ((i + j) % 2 + product % 3) % 2,
    ][mask - 4]


def mask_by(formula: Answer, first: int = 0) -> Answer:
    """A mask pattern whose formula may be wrong, or whose counting begins elsewhere."""

    def answer(mask: int, n: int) -> Tensor:
        return torch.tensor(
            [[formula(mask, i + first, j + first) == 0 for j in range(n)] for i in range(n)]
        )

    return answer


MASK_PATTERN = Exercise(
    layout.mask_pattern,
    mask_cases,
    mistakes=[
        Mistake("Yours turns over the modules where the formula is *not* 0; it is those where it is.",
                mask_by(lambda mask, i, j: mask_formula(mask, i, j) == 0)),
        Mistake("Rows and columns have changed places: i is the row and j the column.",
                mask_by(lambda mask, i, j: mask_formula(mask, j, i))),
        Mistake("Rows and columns are counted from 0, not from 1.", mask_by(mask_formula, first=1)),
        Mistake("In mask 4 the row is halved and the column divided by three: ⌊i/2⌋ + ⌊j/3⌋.",
                mask_by(lambda mask, i, j: (i // 3 + j // 2) % 2 if mask == 4
                        else mask_formula(mask, i, j))),
        Mistake("Mask 5 is the *sum* ij mod 2 + ij mod 3, 0 only where both are; mask 6 takes that "
                "sum modulo 2.",
                mask_by(lambda mask, i, j: mask_formula(6 if mask == 5 else mask, i, j))),
        Mistake("Mask 7 begins with (i + j) mod 2; the product ij is only in its second part.",
                mask_by(lambda mask, i, j: (i * j % 2 + (i + j) % 3) % 2 if mask == 7
                        else mask_formula(mask, i, j))),
    ],
    alternatives=[
        mask_by(mask_formula),
        lambda mask, n: torch.stack([
            torch.tensor([mask_formula(mask, i, j) for i in range(n)]) == 0 for j in range(n)
        ], dim=1),
    ],
    hints=[
        "Make i a column (n, 1) and j a row (1, n) of numbers from 0; every formula broadcasts.",
        "Write the eight formulas as a list and pick one; masks 1 and 2 have to be expanded to (n, n).",
        "True where the formula gives 0.",
    ],
)  # fmt: skip


# --- pad_codewords ------------------------------------------------------------------------------


def pad_cases() -> list[Case]:
    return [
        Case("a byte, and three codewords of room", {"bits": coins(8), "capacity": 3}),
        Case("a text in byte mode: four bits short of a byte", {"bits": coins(20), "capacity": 6}),
        Case("one bit over a byte", {"bits": coins(9, seed=1), "capacity": 5}),
        Case("the terminator spills into a new byte", {"bits": coins(13, seed=2), "capacity": 5}),
        Case("room for two 0s of the terminator", {"bits": coins(22, seed=3), "capacity": 3}),
        Case("no room at all", {"bits": coins(24, seed=4), "capacity": 3}),
        Case("exactly the terminator's room", {"bits": coins(20, seed=5), "capacity": 3}),
    ]


def padded(
    bits: Tensor,
    capacity: int,
    terminator: int = 4,
    padding: tuple[int, int] = PADDING,
    extra: bool = False,
    reverse: bool = False,
) -> Tensor:
    row = bits.tolist()
    row += [False] * min(terminator, 8 * capacity - len(row))
    while len(row) % 8:
        row.append(False)
    if extra and len(row) < 8 * capacity and (len(bits) + 4) % 8 == 0:
        row += [False] * 8
    codewords = []
    for k in range(0, len(row), 8):
        byte = row[k : k + 8][::-1] if reverse else row[k : k + 8]
        codewords.append(sum(bit << (7 - i) for i, bit in enumerate(byte)))
    for k in range(capacity - len(codewords)):
        codewords.append(padding[k % 2])
    return torch.tensor(codewords)


def padded_up_to_length(bits: Tensor, capacity: int) -> Tensor:
    """Everything as one row of 0s and 1s, cut where the code is full."""
    aligned = F.pad(bits, (0, 4 + -(len(bits) + 4) % 8))[: 8 * capacity]
    stripes = encoding.to_bits(torch.tensor(PADDING)).repeat(capacity)
    return to_bytes(torch.cat([aligned, stripes])[: 8 * capacity])


PAD_CODEWORDS = Exercise(
    encoding.pad_codewords,
    pad_cases,
    mistakes=[
        Mistake("The terminator is missing: four 0s after the text, where there is room. Without it "
                "a reader takes the padding for text.",
                lambda bits, capacity: padded(bits, capacity, terminator=0)),
        Mistake("The padding begins with 236; 17 comes second.",
                lambda bits, capacity: padded(bits, capacity, padding=(17, 236))),
        Mistake("The room that is left is filled with 0s; it is filled with 236 and 17 by turns.",
                lambda bits, capacity: padded(bits, capacity, padding=(0, 0))),
        Mistake("236 stands everywhere in yours; 236 and 17 take turns.",
                lambda bits, capacity: padded(bits, capacity, padding=(236, 236))),
        Mistake("Where the terminator ends on a whole byte, nothing is left to fill: yours adds a "
                "byte of 0s there.", lambda bits, capacity: padded(bits, capacity, extra=True)),
        Mistake("The bits of each byte are back to front: the first is the most significant.",
                lambda bits, capacity: padded(bits, capacity, reverse=True)),
        Mistake("Your terminator is eight 0s; it is four.",
                lambda bits, capacity: padded(bits, capacity, terminator=8)),
    ],
    alternatives=[padded, padded_up_to_length],
    hints=[
        "Three steps: up to four 0s; 0s until the number of bits is a multiple of 8; 236, 17, 236, …",
        "How many 0s: min(4, 8 · capacity − len(bits)); and then −len(bits) % 8.",
        "`to_bytes(bits)` turns each eight bits into a number.",
    ],
)  # fmt: skip


# --- interleave ---------------------------------------------------------------------------------


def interleave_cases() -> list[Case]:
    return [
        Case("two blocks of two", {"blocks": [torch.tensor([1, 2]), torch.tensor([3, 4])]}),
        Case("the last blocks are longer", {
            "blocks": [numbers(3), numbers(3, seed=1), numbers(4, seed=2), numbers(4, seed=3)]}),
        Case("one block", {"blocks": [numbers(5, seed=4)]}),
        Case("three of different lengths", {
            "blocks": [numbers(2, seed=5), numbers(3, seed=6), numbers(5, seed=7)]}),
    ]  # fmt: skip


def interleave_by_sorting(blocks: list[Tensor]) -> Tensor:
    order = [(k, i) for i, block in enumerate(blocks) for k in range(len(block))]
    return torch.stack([blocks[i][k] for k, i in sorted(order)])


def interleave_padded(blocks: list[Tensor], fill: int = -1) -> Tensor:
    longest = max(map(len, blocks))
    table = torch.stack([F.pad(b, (0, longest - len(b)), value=fill) for b in blocks])
    return table.T.flatten()


INTERLEAVE = Exercise(
    encoding.interleave,
    interleave_cases,
    mistakes=[
        Mistake("You put whole blocks one after the other; a scratch would then hit a single block. "
                "Take one codeword of each in turn.", lambda blocks: torch.cat(blocks)),
        Mistake("You stop where the shortest block ends; the longer ones' last codewords still "
                "follow.", lambda blocks: torch.stack(
                    [x for row in zip(*blocks, strict=False) for x in row])),
        Mistake("Where a block has no more codewords, pass over it; yours puts a 0 there.",
                lambda blocks: interleave_padded(blocks, fill=0)),
        Mistake("The blocks are taken in reverse; the first block comes first in each round.",
                lambda blocks: interleave_by_sorting(blocks[::-1])),
    ],
    alternatives=[
        interleave_by_sorting,
        lambda blocks: (t := interleave_padded(blocks))[t >= 0],
    ],
    hints=["The outer loop runs over places 0, 1, 2, … up to the longest block, the inner over blocks.",
           "A block has a place k only if k < len(block)."],
)  # fmt: skip


# --- luminance ----------------------------------------------------------------------------------


def luminance_cases() -> list[Case]:
    pure = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]).T.reshape(1, 3, 1, 3)
    return [
        Case("a red, a green and a blue pixel", {"image": pure}),
        Case("two images", {"image": greys(2, 3, 4, 5)}),
        Case("float64", {"image": greys(1, 3, 3, 3, seed=1, dtype=torch.float64)}),
        Case("grey already", {"image": greys(2, 1, 4, 4, seed=2)}),
        Case("two channels, which is no colour", {"image": greys(1, 2, 4, 4)}),
        Case("three channels and no batch", {"image": greys(3, 3, 4)}),
        Case("a batch of grey without the channel", {"image": greys(1, 3, 4)}),
        Case("an axis too many", {"image": greys(1, 3, 1, 2, 2)}),
    ]


def weighed(red: float, green: float, blue: float, keep: bool = True) -> Answer:
    """A weighted sum of the channels that refuses what luminance refuses."""

    def answer(image: Tensor) -> Tensor:
        if image.ndim != 4 or image.shape[1] not in (1, 3):
            raise ValueError("not an image")
        if image.shape[1] == 1:
            return image
        out = red * image[:, :1] + green * image[:, 1:2] + blue * image[:, 2:]
        return out if keep else out[:, 0]

    return answer


def luminance_by_convolution(image: Tensor) -> Tensor:
    if image.ndim != 4 or image.shape[1] not in (1, 3):
        raise ValueError("not an image")
    kernel = torch.tensor([0.299, 0.587, 0.114]).to(image).reshape(1, 3, 1, 1)
    return F.conv2d(image.expand(-1, 3, -1, -1), kernel)


LUMINANCE = Exercise(
    scanning.luminance,
    luminance_cases,
    mistakes=[
        Mistake("That is the mean of the channels. The eye, and the scanner, see green as much "
                "brighter than blue.", weighed(1 / 3, 1 / 3, 1 / 3)),
        Mistake("Red and blue have changed places: the channels are red, green, blue.",
                weighed(0.114, 0.587, 0.299)),
        Mistake("Those are the weights of HDTV (BT.709). Scanners, and DiffQRCoder, use 0.299, 0.587 "
                "and 0.114.", weighed(0.2126, 0.7152, 0.0722)),
        Mistake("The channel axis is gone: keep it, (b, 1, h, w).",
                weighed(0.299, 0.587, 0.114, keep=False)),
        Mistake("The weights are right; now refuse, with a ValueError, what is not (b, 1 or 3, h, w).",
                lambda image: (image * torch.tensor([0.299, 0.587, 0.114]).to(image)
                               .reshape(3, 1, 1)).sum(-3, keepdim=True)),
    ],
    alternatives=[weighed(0.299, 0.587, 0.114), luminance_by_convolution],
    hints=["Red counts 0.299, green 0.587, blue 0.114: a weighted sum over the channel axis.",
           "A (1, 3, 1, 1) tensor of weights broadcasts; `sum(dim=1, keepdim=True)`.",
           "One channel needs no case of its own: the weights add up to 1. Any number but 1 and 3 is "
           "refused with a ValueError."],
)  # fmt: skip


# --- module_means -------------------------------------------------------------------------------


def means_cases() -> list[Case]:
    def image(n: int, s: int, margin: int, seed: int = 0) -> dict[str, object]:
        side = (n + 2 * margin) * s
        grey = greys(1, 1, side, side, seed=seed)
        return {"grey": grey, "n": n, "module_size": s, "margin": margin}

    return [
        Case("one module of 3 × 3 pixels, one module of margin", image(1, 3, 1)),
        Case("4 pixels a module", image(5, 4, 2, seed=1)),
        Case("9 pixels a module", image(4, 9, 3, seed=2)),
        Case("7 pixels, no margin", image(6, 7, 0, seed=3)),
        Case("2 pixels", image(5, 2, 1, seed=4)),
        Case("1 pixel", image(5, 1, 4, seed=5)),
        Case("an image of another size", {**image(5, 4, 2, seed=6), "margin": 3}),
        Case("a batch of two", {**image(2, 3, 1), "grey": greys(2, 1, 12, 12)}),
    ]


def means_by_loops(
    grey: Tensor,
    n: int,
    module_size: int,
    margin: int,
    middle: Answer = lambda s: (s // 3, s - s // 3),
    start: Answer = lambda s, margin: s * margin,
    swap: bool = False,
) -> Tensor:
    s, side = module_size, (n + 2 * margin) * module_size
    if grey.shape != (1, 1, side, side):
        raise ValueError("not the size of this code")
    out = torch.zeros(n, n).to(grey)
    a, b = middle(s)
    for i in range(n):
        for j in range(n):
            top, left = start(s, margin) + i * s, start(s, margin) + j * s
            part = grey[0, 0, top + a : top + b, left + a : left + b].mean()
            out[(j, i) if swap else (i, j)] = part
    return out


def means_by_pooling(grey: Tensor, n: int, module_size: int, margin: int) -> Tensor:
    s, side = module_size, (n + 2 * margin) * module_size
    if grey.shape != (1, 1, side, side):
        raise ValueError("not the size of this code")
    first = margin * s + s // 3
    return F.avg_pool2d(grey[..., first:, first:], s - 2 * (s // 3), stride=s)[0, 0, :n, :n]


def means_wrong(**how: object) -> Answer:
    return lambda grey, n, module_size, margin: means_by_loops(
        grey, n, module_size, margin, **how)  # type: ignore[arg-type]  # fmt: skip


MODULE_MEANS = Exercise(
    scanning.module_means,
    means_cases,
    mistakes=[
        Mistake("You averaged whole modules. The borders bleed into each other; leave out ⌊s/3⌋ "
                "pixels at either end.", means_wrong(middle=lambda s: (0, s))),
        Mistake("You looked at a single pixel of each module; the middle third is safer.",
                means_wrong(middle=lambda s: (s // 2, s // 2 + 1))),
        Mistake("The margin is in modules, not in pixels: the code begins at margin · module_size.",
                means_wrong(start=lambda s, margin: margin)),
        Mistake("You began in the image's corner: before the code there is the quiet zone.",
                means_wrong(start=lambda s, margin: 0)),
        Mistake("Rows and columns have changed places.", means_wrong(swap=True)),
        Mistake("You take ⌊s/3⌋ pixels; leave out ⌊s/3⌋ at either end and take the rest: with 5 "
                "pixels that is 3, not 1.",
                means_wrong(middle=lambda s: (s // 3, s // 3 + max(1, s // 3)))),
        Mistake("The means are right; now refuse a grey that is not (1, 1, h, w) with "
                "h = w = (n + 2 margin) · module_size, with a ValueError.",
                lambda grey, n, module_size, margin: F.avg_pool2d(
                    grey[:1, ..., margin * module_size + module_size // 3 :,
                         margin * module_size + module_size // 3 :],
                    module_size - 2 * (module_size // 3), stride=module_size)[0, 0, :n, :n]),
    ],
    alternatives=[means_by_loops, means_by_pooling],
    hints=[
        "Cut the quiet zone off: from margin · s to margin · s + n · s, along both axes.",
        "reshape(n, s, n, s) gives every module its own rows and columns of pixels: axes 1 and 3.",
        "Take [:, s//3 : s − s//3, :, s//3 : s − s//3] and the mean over axes 1 and 3.",
    ],
)  # fmt: skip


# --- codeword_errors ----------------------------------------------------------------------------


def spoilt(version: int, share: float, seed: int = 0) -> Tensor:
    n = layout.size_of(version)
    return coins(n, n, seed=seed, share=share)


def codeword_cases() -> list[Case]:
    one = torch.zeros(21, 21, dtype=torch.bool)
    one[20, 19:] = True  # two modules, and one codeword
    return [
        Case("two wrong modules of one codeword", {"errors": one, "version": 1, "level": "M"}),
        Case("a few, in one block", {"errors": spoilt(3, 0.05), "version": 3, "level": "L"}),
        Case("two blocks", {"errors": spoilt(3, 0.05, 1), "version": 3, "level": "Q"}),
        Case("blocks of two lengths", {"errors": spoilt(5, 0.02, 2), "version": 5, "level": "Q"}),
        Case("all wrong", {"errors": spoilt(2, 1.1), "version": 2, "level": "H"}),
    ]


def codewords_by_loops(
    errors: Tensor,
    version: int,
    level: str,
    count: Answer = lambda eight: int(any(eight)),
    places: Answer = sent_places,
) -> list[int]:
    rows, columns = data_path(version)
    wrong = [bool(errors[i, j]) for i, j in zip(rows.tolist(), columns.tolist(), strict=True)]
    return [
        sum(count(wrong[8 * k : 8 * k + 8]) for k in place.tolist())
        for place in places(version, level)
    ]


def codewords_by_division(errors: Tensor, version: int, level: str) -> list[int]:
    along = errors[data_path(version)]
    hit = set((torch.nonzero(along).flatten() // 8).tolist())
    return [len(hit & set(place.tolist())) for place in sent_places(version, level)]


def side_by_side(version: int, level: str) -> list[Tensor]:
    sizes = [data + parity for data, parity in encoding.blocks(version, level)]
    return list(torch.arange(sum(sizes)).split(sizes))


CODEWORD_ERRORS = Exercise(
    scanning.codeword_errors,
    codeword_cases,
    mistakes=[
        Mistake("You counted wrong modules; Reed–Solomon repairs whole codewords, and one wrong "
                "module of the eight or all eight cost the same.",
                lambda errors, version, level: codewords_by_loops(errors, version, level, sum)),
        Mistake("You took each block's codewords to stand together; they are interleaved: "
                "`sent_places` says where they are.",
                lambda errors, version, level: codewords_by_loops(
                    errors, version, level, places=side_by_side)),
        Mistake("You left the parity out; a wrong parity codeword spends the budget just as well.",
                lambda errors, version, level: codewords_by_loops(
                    errors, version, level,
                    places=lambda v, lv: [p[: b.data] for p, b in zip(
                        sent_places(v, lv), encoding.blocks(v, lv), strict=True)])),
        Mistake("A codeword is wrong as soon as one module is; you asked that all eight are.",
                lambda errors, version, level: codewords_by_loops(
                    errors, version, level, lambda eight: int(all(eight)))),
        Mistake("The blocks are repaired one by one: return a number for each, not one sum.",
                lambda errors, version, level: [sum(codewords_by_loops(errors, version, level))]),
        Mistake("You read the modules row by row; codewords lie along the zigzag path: "
                "errors[data_path(version)].",
                lambda errors, version, level: [
                    int(errors[~function_mask(version)][: 8 * sum(map(len, sent_places(version, level)))]
                        .reshape(-1, 8).any(1)[place].sum()) for place in sent_places(version, level)]),
    ],
    alternatives=[codewords_by_loops, codewords_by_division],
    hints=[
        "errors[data_path(version)] are the errors in the order of the path: eight in a row are one "
        "codeword. The last few may be remainder bits.",
        "Reshape to (total, 8) and ask `.any(dim=1)`.",
        "sent_places(version, level) gives, for each block, which of these codewords are its own.",
    ],
)  # fmt: skip


# --- module_weights -----------------------------------------------------------------------------


def weights_cases() -> list[Case]:
    half = torch.tensor(0.5)
    return [
        Case("three by three", {"modules": greys(3, 3), "threshold": half}),
        Case("version 1", {"modules": greys(21, 21, seed=1), "threshold": torch.tensor(0.4)}),
        Case("a threshold for each module",
             {"modules": greys(9, 9, seed=2), "threshold": greys(9, 9, seed=3)}),
        Case("one grey everywhere", {"modules": torch.full((5, 5), 0.8), "threshold": half}),
        Case("float64", {"modules": greys(7, 7, seed=4, dtype=torch.float64),
                         "threshold": half.double()}),
    ]  # fmt: skip


def contrast_by_windows(modules: Tensor, power: float = 0.5) -> Tensor:
    n = len(modules)
    out = torch.zeros_like(modules)
    for i in range(n):
        for j in range(n):
            part = modules[max(0, i - 2) : i + 3, max(0, j - 2) : j + 3]
            out[i, j] = part.var(unbiased=False) ** power
    return out


def weights_by(
    distance: Answer = torch.abs,
    contrast: Answer | None = None,
    near: Answer = lambda far: 1 - far / 2,
) -> Answer:
    """The three factors, each of which may be another."""

    def answer(modules: Tensor, threshold: Tensor) -> Tensor:
        sharp = contrast_by_windows(modules)
        sharp = contrast(sharp) if contrast else sharp / sharp.max().clamp(min=1e-3)
        n = len(modules)
        place = (torch.arange(n).to(modules) - (n - 1) / 2) / ((n - 1) / 2)
        far = (place[:, None] ** 2 + place**2).sqrt() / math.sqrt(2)
        return distance(modules - threshold) * (1 + sharp) * near(far)

    return answer


def weights_by_means(modules: Tensor, threshold: Tensor) -> Tensor:
    exact = modules.double()[None, None]
    mean = local_mean(exact, 2)
    spread = (local_mean(exact.square(), 2) - mean.square()).clamp(min=0).sqrt().to(modules)
    sharp = spread[0, 0] / max(spread.max().item(), 1e-3)
    x, y = torch.meshgrid(*[torch.linspace(-1, 1, len(modules)).to(modules)] * 2, indexing="ij")
    near = 1 - ((x**2 + y**2) / 2).sqrt() / 2
    return torch.abs(threshold - modules) * (1 + sharp) * near


MODULE_WEIGHTS = Exercise(
    targets.module_weights,
    weights_cases,
    mistakes=[
        Mistake("Without the absolute value, dark modules weigh less than nothing: both sides of the "
                "threshold matter.", weights_by(distance=lambda x: x)),
        Mistake("The factor 1 + contrast is missing: edges make a picture readable.",
                weights_by(contrast=torch.zeros_like)),
        Mistake("The contrast is a *standard* deviation, the root of the variance.",
                weights_by(contrast=lambda s: s**2 / (s**2).max().clamp(min=1e-3))),
        Mistake("The contrast is not divided by its largest value, so it hardly counts.",
                weights_by(contrast=lambda s: s)),
        Mistake("Nearness falls to ½ in the corners, not to 0: what is there may count little, but "
                "not nothing.", weights_by(near=lambda far: 1 - far)),
        Mistake("Yours begins at the border: nearness is 1 in the middle and ½ in the corners.",
                weights_by(near=lambda far: 0.5 + far / 2)),
    ],
    alternatives=[weights_by(), weights_by_means],
    hints=[
        "Three factors. The variance in a window is the mean of squares minus the square of the "
        "mean; `local_mean(x[None, None], 2)[0, 0]` is the mean in 5 × 5.",
        "Rounding can take a variance of 0 a hair below it: clamp before the root. Divide by the "
        "largest, which may be 0: clamp that too.",
        "torch.linspace(-1, 1, n) along both axes; the corner is √2 away from the middle.",
    ],
    atol=2e-3,  # a root near 0 magnifies rounding
)  # fmt: skip


# --- clear_column -------------------------------------------------------------------------------


def column_cases() -> list[Case]:
    small = torch.tensor([[0, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 1]]).bool()
    rows = coins(6, 12)
    rows[3, 5] = rows[0, 2] = True
    return [
        Case("three rows of four", {"rows": small, "pivot": 1, "column": 0}),
        Case("a pivot in the middle", {"rows": rows, "pivot": 3, "column": 5}),
        Case("the first row", {"rows": rows, "pivot": 0, "column": 2}),
        Case("the last row", {"rows": small, "pivot": 2, "column": 3}),
        Case("many", {"rows": coins(20, 40, seed=1) | torch.eye(20, 40).bool(), "pivot": 7,
                      "column": 7}),
    ]  # fmt: skip


def cleared(which: Answer, add: Answer = torch.logical_xor) -> Answer:
    """Row by row; `which(k, pivot, rows, column)` says where the pivot row is added."""

    def answer(rows: Tensor, pivot: int, column: int) -> Tensor:
        out = rows.clone()
        for k in range(len(rows)):
            if which(k, pivot, rows, column):
                out[k] = add(rows[k], rows[pivot])
        return out

    return answer


def cleared_in_place(rows: Tensor, pivot: int, column: int) -> Tensor:
    for k in range(len(rows)):
        if k != pivot and rows[k, column]:
            rows[k] ^= rows[pivot]
    return rows


def cleared_by_matrix(rows: Tensor, pivot: int, column: int) -> Tensor:
    change = torch.eye(len(rows))
    change[:, pivot] = rows[:, column].float()
    return (change @ rows.float() % 2).bool()


CLEAR_COLUMN = Exercise(
    elimination.clear_column,
    column_cases,
    mistakes=[
        Mistake("The pivot row was added to itself, and x + x = 0 over GF(2): it is gone. Leave it "
                "as it is.", cleared(lambda k, pivot, rows, column: rows[k, column])),
        Mistake("Rows are added with OR; over GF(2), adding is XOR, so that 1 + 1 = 0.",
                cleared(lambda k, pivot, rows, column: k != pivot and rows[k, column],
                        torch.logical_or)),
        Mistake("You cleared the rows below the pivot alone; those above must lose their 1 too, or "
                "setting one module upsets another.",
                cleared(lambda k, pivot, rows, column: k > pivot and rows[k, column])),
        Mistake("The pivot row was added to every other row; only to those with a 1 in the column.",
                cleared(lambda k, pivot, rows, column: k != pivot)),
        Mistake("You compared with the wrong row: a row takes part if *it* has a 1 in the column.",
                cleared(lambda k, pivot, rows, column: k != pivot and not rows[k, column])),
        Mistake("The rows are right, but you changed the ones you were given: work on a copy "
                "(`rows.clone()`), or out of place.",
                cleared_in_place),
    ],
    alternatives=[
        cleared(lambda k, pivot, rows, column: k != pivot and rows[k, column]),
        cleared_by_matrix,
    ],
    hints=[
        "Which rows? Those where rows[:, column] is True, without the pivot itself.",
        "A boolean column (f, 1) & the pivot row (1, k) is what is to be added to each row.",
        "`^` is XOR on booleans; clone the column before you change it.",
    ],
)  # fmt: skip


# --- halftone_cells -----------------------------------------------------------------------------


def cells_cases() -> list[Case]:
    def case(label: str, n: int, seed: int, share: float = 0.3) -> Case:
        return Case(label, {
            "code": coins(n, n, seed=seed), "dots": coins(3 * n, 3 * n, seed=seed + 1),
            "fixed": coins(n, n, seed=seed + 2, share=share)})  # fmt: skip

    return [
        Case("one dark module in a light picture", {
            "code": torch.tensor([[True]]), "dots": torch.zeros(3, 3, dtype=torch.bool),
            "fixed": torch.tensor([[False]])}),
        case("two by two", 2, 0),
        case("seven by seven", 7, 10),
        case("nothing fixed", 5, 20, share=0.0),
        case("all fixed", 5, 30, share=1.1),
    ]  # fmt: skip


def cells_by_loops(
    code: Tensor,
    dots: Tensor,
    fixed: Tensor,
    middle: int = 1,
    respect: bool = True,
    invert: bool = False,
    swap: bool = False,
    turned: bool = False,
) -> Tensor:
    out = dots.clone()
    for i in range(len(code)):
        for j in range(len(code)):
            if (respect and fixed[i, j]) or swap:
                out[3 * i : 3 * i + 3, 3 * j : 3 * j + 3] = code[i, j]
            if swap and not fixed[i, j]:
                out[3 * i + 1, 3 * j + 1] = dots[3 * i + 1, 3 * j + 1]
            if not swap:
                at = (j, i) if turned else (i, j)
                out[3 * i + middle, 3 * j + middle] = code[at] != invert
    return out


def cells_by_kron(code: Tensor, dots: Tensor, fixed: Tensor) -> Tensor:
    whole, cell = torch.ones(3, 3), torch.zeros(3, 3)
    cell[1, 1] = 1
    shown = torch.kron(fixed.float(), whole) + torch.kron(torch.ones(code.shape), cell) > 0
    return (torch.kron(code.float(), whole).bool() & shown) | (dots & ~shown)


def cells_wrong(**how: object) -> Answer:
    return lambda code, dots, fixed: cells_by_loops(code, dots, fixed, **how)  # type: ignore[arg-type]


HALFTONE_CELLS = Exercise(
    halftones.halftone_cells,
    cells_cases,
    mistakes=[
        Mistake("The code shows in the corner of each module; scanners look at the middle cell.",
                cells_wrong(middle=0)),
        Mistake("The fixed modules were dotted too; without whole finders a scanner finds no code.",
                cells_wrong(respect=False)),
        Mistake("Code and picture have changed places: the middle cell is the code's, the other "
                "eight the picture's.", cells_wrong(swap=True)),
        Mistake("The middle cells are inverted: True is dark in the code and in the dots.",
                cells_wrong(invert=True)),
        Mistake("The picture is gone: a module that is not fixed shows the code in its middle cell "
                "alone.", lambda code, dots, fixed: code.repeat_interleave(3, 0)
                .repeat_interleave(3, 1)),
    ],
    alternatives=[cells_by_loops, cells_by_kron],
    hints=[
        "Make the code three times as large: repeat_interleave(3, 0), then (3, 1). The same for fixed.",
        "Which cells show the code? All those of fixed modules, and the middle ones: [1::3, 1::3].",
        "torch.where(shown, code, dots).",
    ],
)  # fmt: skip


# --- code_loss ----------------------------------------------------------------------------------


def loss_cases() -> list[Case]:
    code = torch.tensor([[True, False], [True, False]])
    return [
        Case("two dark modules, two light; the lower two are wrong",
             {"means": torch.tensor([[0.1, 0.9], [0.6, 0.3]]), "code": code}),
        Case("right, but only just", {"means": torch.tensor([[0.4, 0.6], [0.34, 0.66]]), "code": code}),
        Case("a code of noise", {"means": greys(21, 21), "code": coins(21, 21, seed=1)}),
        Case("another slack", {"means": greys(9, 9, seed=2), "code": coins(9, 9, seed=3),
                               "slack": 0.3}),
        Case("no slack", {"means": greys(9, 9, seed=4), "code": coins(9, 9, seed=5), "slack": 0.0}),
        Case("on the edge of the slack, so not yet right",
             {"means": torch.tensor([[0.25, 0.75]]), "code": torch.tensor([[True, False]]), "slack": 0.25}),
        Case("float64", {"means": greys(5, 5, seed=6, dtype=torch.float64),
                         "code": coins(5, 5, seed=7)}),
    ]  # fmt: skip


def loss_by(
    stop: Answer = lambda gap, slack: gap > slack,
    error: Answer = torch.square,
    total: Answer = lambda x, active: x.mean(),
    wanted: Answer = lambda code: ~code,
) -> Answer:
    """`gap` is how far a module is on its right side of ½; each part may be another."""

    def code_loss(means: Tensor, code: Tensor, slack: float = 0.15) -> Tensor:
        gap = torch.where(code, 0.5 - means, means - 0.5)
        active = ~stop(gap, slack)
        return total(error(means - wanted(code).to(means)) * active, active)

    return code_loss


def loss_by_loops(means: Tensor, code: Tensor, slack: float = 0.15) -> Tensor:
    total = means.new_zeros(())
    for mean, dark in zip(means.flatten(), code.flatten(), strict=True):
        if dark and mean >= 0.5 - slack:
            total = total + mean**2
        if not dark and mean <= 0.5 + slack:
            total = total + (1 - mean) ** 2
    return total / means.numel()


CODE_LOSS = Exercise(
    pixels.code_loss,
    loss_cases,
    mistakes=[
        Mistake("There is no early stop: modules that are right already go on being pushed to black "
                "and white, and the picture is lost.",
                loss_by(stop=lambda gap, slack: torch.zeros_like(gap).bool())),
        Mistake("Your early stop is at ½ itself: a module has to be right by `slack` before it is "
                "left alone.", loss_by(stop=lambda gap, slack: gap > 0)),
        Mistake("The early stop is turned round: it is the modules that are right that count "
                "nothing.", loss_by(stop=lambda gap, slack: gap <= slack)),
        Mistake("Dark and light have changed places: in the code True is dark, and dark is 0.",
                loss_by(wanted=lambda code: code)),
        Mistake("You divided by the number of modules that are still wrong; divide by all n², so that "
                "the push eases off as they become right.",
                loss_by(total=lambda x, active: x.sum() / active.sum().clamp(min=1))),
        Mistake("That is the sum; take the mean over all n² modules.",
                loss_by(total=lambda x, active: x.sum())),
        Mistake("Each error is squared, not taken as its absolute value.",
                loss_by(error=torch.abs)),
    ],
    alternatives=[loss_by(), loss_by_loops],
    hints=[
        "Right already: a dark module below ½ − slack, a light one above ½ + slack.",
        "The goal is 0 for a dark module and 1 for a light one: (~code) as a float.",
        "Zero the squared error where the module is right (torch.where), then the mean over all.",
    ],
)  # fmt: skip


EXERCISES = [
    ZIGZAG, MASK_PATTERN, PAD_CODEWORDS, GF_MULTIPLY, RS_GENERATOR, RS_PARITY, INTERLEAVE,
    LUMINANCE, MODULE_MEANS, CODEWORD_ERRORS, MODULE_WEIGHTS, CLEAR_COLUMN, HALFTONE_CELLS, CODE_LOSS,
]  # fmt: skip
