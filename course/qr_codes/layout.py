"""Where everything stands in a QR code: function patterns, the data's path, masks, the format."""

from functools import cache
from itertools import product

import torch
from qrcode.util import pattern_position
from torch import Tensor

# Each level's two bits in the format information; the order is that of growing error correction.
LEVEL_BITS = {"L": 0b01, "M": 0b00, "Q": 0b11, "H": 0b10}

# Where the fifteen bits of the format information stand, the copy around the top left finder.
FORMAT_PLACES = [
    *((8, column) for column in (0, 1, 2, 3, 4, 5, 7, 8)),
    *((row, 8) for row in (7, 5, 4, 3, 2, 1, 0)),
]
FORMAT_GENERATOR, FORMAT_MASK = 0b10100110111, 0b101010000010010
FORMAT_REPAIRS = 3  # wrong bits that the fifteen can lose and still be told apart


def check_version(version: int) -> None:
    """Raise TypeError or ValueError unless `version` is one of 1…40."""
    if isinstance(version, bool) or not isinstance(version, int):
        raise TypeError(f"version is a whole number in 1…40, not {version!r}.")
    if not 1 <= version <= 40:
        raise ValueError(f"version lies in 1…40, not {version}.")


def check_level(level: str) -> None:
    """Raise ValueError unless `level` is one of "L", "M", "Q", "H"."""
    if level not in LEVEL_BITS:
        raise ValueError(f'level is "L", "M", "Q" or "H", not {level!r}.')


def check_mask(mask: int) -> None:
    """Raise TypeError or ValueError unless `mask` is one of 0…7."""
    if isinstance(mask, bool) or not isinstance(mask, int):
        raise TypeError(f"mask is a whole number in 0…7, or None for the best, not {mask!r}.")
    if not 0 <= mask <= 7:
        raise ValueError(f"mask lies in 0…7, not {mask}.")


def size_of(version: int) -> int:
    """The number n of modules along a side: 21 for version 1, and 4 more for each version.

    Raises as `check_version` does.
    """
    check_version(version)
    return 17 + 4 * version


def version_of(code: Tensor) -> int:
    """The version of a code (n, n). Raises ValueError where no version has that size."""
    n = len(code)
    if code.ndim != 2 or code.shape != (n, n) or n % 4 != 1 or not 21 <= n <= 177:
        raise ValueError(
            f"A code is (n, n) with n = 21, 25, … 177 modules, not {tuple(code.shape)}."
        )
    return (n - 17) // 4


def alignment_centres(version: int) -> list[tuple[int, int]]:
    """Row and column of the middle of each alignment pattern; version 1 has none."""
    places = pattern_position(version)
    if not places:
        return []
    first, last = places[0], places[-1]
    under_finders = {(first, first), (first, last), (last, first)}
    return [centre for centre in product(places, places) if centre not in under_finders]


def function_mask(version: int) -> Tensor:
    """Which modules are function patterns or format and version information: no data there.

    -> (n, n) bool. Finders come with their white separators, and the format information with the
    one module beside it that is always dark. Raises as `check_version` does.
    """
    n = size_of(version)
    fixed = torch.zeros(n, n, dtype=torch.bool)
    fixed[6, :] = fixed[:, 6] = True  # timing
    fixed[:9, :9] = fixed[:9, -8:] = fixed[-8:, :9] = True  # finders and format
    for row, column in alignment_centres(version):
        fixed[row - 2 : row + 3, column - 2 : column + 3] = True
    if version >= 7:
        fixed[:6, -11:-8] = fixed[-11:-8, :6] = True  # version information
    return fixed


def zigzag(fixed: Tensor) -> Tensor:
    """The path of the data bits: row and column of each module that is not fixed, in order.

    fixed: (n, n) bool, n odd -> (k, 2) int64. Pairs of columns from the right, the first pair
    upwards, the next downwards, and so on; in each row the right module first. Column 6, which is
    all timing, belongs to no pair: the pairs left of it begin at column 5.
    """
    n, path = len(fixed), []
    for turn, right in enumerate([*range(n - 1, 6, -2), *range(5, 0, -2)]):
        rows = range(n) if turn % 2 else range(n - 1, -1, -1)
        path += [(i, j) for i in rows for j in (right, right - 1) if not fixed[i, j]]
    return torch.tensor(path)


@cache
def data_path(version: int) -> tuple[Tensor, Tensor]:
    """`zigzag` of a version as two index tensors, rows (k,) and columns (k,): code[data_path(v)].

    The last 0 to 7 of the k modules are remainder bits, which carry nothing.
    """
    rows, columns = zigzag(function_mask(version)).unbind(dim=1)
    return rows, columns


def mask_pattern(mask: int, n: int) -> Tensor:
    """Which modules a mask turns over: (n, n) bool (ISO/IEC 18004, table 10).

    With row i and column j from 0, the formula of `mask` in 0…7 is 0 there: (i + j) mod 2; i mod 2;
    j mod 3; (i + j) mod 3; (⌊i/2⌋ + ⌊j/3⌋) mod 2; ij mod 2 + ij mod 3; (ij mod 2 + ij mod 3) mod 2;
    ((i + j) mod 2 + ij mod 3) mod 2. Function patterns are not left out here.
    """
    i, j = torch.arange(n).reshape(-1, 1), torch.arange(n).reshape(1, -1)
    formulas = [
        (i + j) % 2,
        i % 2,
        j % 3,
        (i + j) % 3,
        (i // 2 + j // 3) % 2,
        i * j % 2 + i * j % 3,
        (i * j % 2 + i * j % 3) % 2,
        ((i + j) % 2 + i * j % 3) % 2,
    ]
    return formulas[mask].expand(n, n) == 0


def format_word(level: str, mask: int) -> int:
    """The fifteen bits that tell a scanner level and mask: five of data, ten to repair them.

    A BCH code: the word without its own mask is a multiple of x¹⁰+x⁸+x⁵+x⁴+x²+x+1 over GF(2).
    """
    data = LEVEL_BITS[level] << 3 | mask
    remainder = data << 10
    for k in range(14, 9, -1):
        if remainder >> k & 1:
            remainder ^= FORMAT_GENERATOR << (k - 10)
    return (data << 10 | remainder) ^ FORMAT_MASK


def read_format(code: Tensor) -> tuple[str, int]:
    """Level and mask of a code (n, n) bool, from the format information around its top left.

    Raises ValueError where that is no QR code's: more than three bits from all 32 words.
    """
    version_of(code)
    read = int("".join(str(int(code[place])) for place in FORMAT_PLACES), 2)
    far = {
        (level, mask): (read ^ format_word(level, mask)).bit_count()
        for level, mask in product(LEVEL_BITS, range(8))
    }
    nearest = min(far, key=far.__getitem__)
    if far[nearest] > FORMAT_REPAIRS:
        raise ValueError(
            f"The format information is {far[nearest]} bits from any word that means something; "
            f"{FORMAT_REPAIRS} can be repaired."
        )
    return nearest
