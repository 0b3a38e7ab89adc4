"""Lesson 09: codes against two other encoders, Reed–Solomon, and what a reader sees."""

import random

import numpy as np
import pytest
import segno
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qrcode import QRCode
from qrcode.base import Polynomial
from qrcode.util import MODE_8BIT_BYTE, QRData
from torch import Tensor

from course import qr_codes
from course.qr_codes import encoding, layout, reed_solomon, scanning
from course.qr_codes.encoding import LIBRARY_LEVELS, blocks, capacity, to_bytes
from course.qr_codes.layout import data_path, function_mask, mask_pattern

VERSIONS, LEVELS, MASKS = st.integers(1, 10), st.sampled_from("LMQH"), st.integers(0, 7)
# All that UTF-8 can write; the text itself says how long it may be.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
QUICK = settings(max_examples=25, deadline=None)


def by_library(text: str, version: int, level: str, mask: int) -> Tensor:
    """The same code made by `qrcode` from the text on, not from our codewords."""
    drawing: QRCode = QRCode(version, LIBRARY_LEVELS[level], mask_pattern=mask)
    drawing.add_data(QRData(text.encode(), MODE_8BIT_BYTE))
    drawing.make(fit=False)
    return torch.tensor(drawing.modules)


def by_segno(text: str, version: int, level: str, mask: int, eci: bool = False) -> Tensor:
    made = segno.make_qr(
        text, version=version, error=level, mask=mask, mode="byte", boost_error=False, eci=eci,
        encoding="utf-8",
    )  # fmt: skip
    return torch.tensor([list(row) for row in made.matrix]).bool()


def codewords(code: Tensor) -> Tensor:
    """The data codewords of a code, read by hand."""
    version, (level, mask) = layout.version_of(code), layout.read_format(code)
    bits = (code ^ mask_pattern(mask, len(code)))[data_path(version)]
    sent = to_bytes(bits[: len(bits) // 8 * 8])
    places = encoding.sent_places(version, level)
    sizes = blocks(version, level)
    return torch.cat([sent[p[: b.data]] for p, b in zip(places, sizes, strict=True)])


# --- Against two other encoders -----------------------------------------------------------------


@pytest.mark.parametrize("level", "LMQH")
@pytest.mark.parametrize("version", [1, 2, 3, 5, 7, 10])
def test_a_code_is_the_librarys(version: int, level: str) -> None:
    for mask in range(version % 2, 8, 2):
        code = qr_codes.make_code("two words", version if version > 1 else 2, level, mask)
        assert torch.equal(
            code, by_library("two words", version if version > 1 else 2, level, mask)
        )


@pytest.mark.parametrize("level", "LMQH")
@pytest.mark.parametrize("version", [1, 4, 5, 8, 10])
def test_a_full_code_is_segnos(version: int, level: str) -> None:
    """Without padding all encoders agree; with it segno puts one codeword of 0s first."""
    room = capacity(version, level) - (2 if version < 10 else 3)
    text = "".join(random.Random(version).choices("abcdefgh/.:-", k=room))
    code = qr_codes.make_code(text, version, level, mask=version % 8)
    assert torch.equal(code, by_segno(text, version, level, version % 8))


def test_text_outside_ascii_is_announced_as_segno_does_it() -> None:
    ours = codewords(qr_codes.make_code("Grüße", 2, "M", 0))
    theirs = codewords(by_segno("Grüße", 2, "M", 0, eci=True))
    assert torch.equal(ours[:10], theirs[:10])  # the ECI header, the count, seven bytes


@QUICK
@given(VERSIONS, LEVELS, MASKS)
def test_the_format_information_is_read_back(version: int, level: str, mask: int) -> None:
    code = qr_codes.make_code("x", version, level, mask)
    assert qr_codes.version_of(code) == version
    for wrong in random.Random(mask).sample(layout.FORMAT_PLACES, 3):
        code[wrong] ^= True
    assert qr_codes.read_format(code) == (level, mask)


def test_format_information_beyond_repair_is_refused() -> None:
    code = qr_codes.make_code("x")
    code[8, :9], code[:9, 8] = False, False
    with pytest.raises(ValueError, match="format information"):
        qr_codes.read_format(code)


@pytest.mark.parametrize("version", range(1, 41))
def test_function_patterns_leave_exactly_the_codewords(version: int) -> None:
    n = layout.size_of(version)
    open_modules = int((~function_mask(version)).sum())
    total = sum(b.data + b.parity for b in blocks(version, "M"))
    assert 0 <= open_modules - 8 * total <= 7
    assert open_modules == n * n - int(function_mask(version).sum())


@pytest.mark.parametrize("version", [1, 2, 7])
def test_function_patterns_are_what_no_text_changes(version: int) -> None:
    """Codes of many texts under one mask agree exactly in the function patterns."""
    codes = torch.stack([
        qr_codes.make_code("".join(random.Random(k).choices("abcxyz", k=7)), version, "H", 2)
        for k in range(3)
    ] + [encoding.draw(torch.full((sum(b.data + b.parity for b in blocks(version, "H")),), byte),
                       version, "H", 2) for byte in (0, 255)])  # fmt: skip
    same = (codes == codes[0]).all(dim=0)
    path = data_path(version)
    remainder = len(path[0]) % 8
    expected = function_mask(version)
    if remainder:
        expected[path[0][-remainder:], path[1][-remainder:]] = True
    assert torch.equal(same, expected)


# --- Reed–Solomon ---------------------------------------------------------------------------------


def test_the_field_is_a_field() -> None:
    table = reed_solomon.PRODUCTS
    assert torch.equal(table, table.T)
    assert torch.equal(table[1], torch.arange(256))
    assert all(len(set(row.tolist())) == 256 for row in table[1:])  # so every row has a 1
    a, b, c = torch.randint(256, (3, 500), generator=torch.Generator().manual_seed(0))
    assert torch.equal(table[a, table[b, c]], table[table[a, b], c])
    assert torch.equal(table[a, b ^ c], table[a, b] ^ table[a, c])


@pytest.mark.parametrize("count", [7, 10, 18, 30])
def test_parity_is_the_librarys(count: int) -> None:
    data = torch.randint(1, 256, (20,), generator=torch.Generator().manual_seed(count))
    generator = Polynomial(reed_solomon.rs_generator(count).tolist(), 0)
    remainder = Polynomial(data.tolist(), count) % generator
    theirs = [remainder[i] for i in range(len(remainder))]
    assert reed_solomon.rs_parity(data, count).tolist() == [0] * (count - len(theirs)) + theirs


@QUICK
@given(st.integers(1, 40), st.integers(2, 30), st.integers(0, 2**31))
def test_a_block_has_no_syndrome_and_a_spoilt_one_has(k: int, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    data = torch.randint(256, (k,), generator=generator)
    block = torch.cat([data, reed_solomon.rs_parity(data, count)])
    assert not reed_solomon.syndromes(block, count).any()
    place = int(torch.randint(k + count, (), generator=generator))
    block[place] ^= int(torch.randint(1, 256, (), generator=generator))
    assert reed_solomon.syndromes(block, count).all()


@pytest.mark.parametrize(("version", "level"), [(1, "M"), (2, "L"), (3, "M"), (4, "H")])
def test_scanners_repair_as_much_as_the_budget_says(version: int, level: str) -> None:
    """`error_budget` wrong codewords in a block are repaired, and one more is not."""
    data = encoding.pad_codewords(encoding.text_bits("text", version), capacity(version, level))
    place = encoding.sent_places(version, level)[0]
    for extra in (0, 1):
        sent = encoding.send(data, version, level)
        sent[place[: qr_codes.error_budget(version, level) + extra]] ^= 0x5A
        image = qr_codes.render(encoding.draw(sent, version, level, 1))
        assert qr_codes.scan(image)["zxing-cpp"] == (None if extra else "text")


# --- Texts, sizes and margins ---------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.none() | VERSIONS, LEVELS, st.none() | MASKS, st.integers(2, 9), st.integers(2, 6))
def test_the_text_comes_back(
    text: str, version: int | None, level: str, mask: int | None, module_size: int, margin: int
) -> None:
    if version and len(encoding.text_bits(text, version)) > 8 * capacity(version, level):
        with pytest.raises(ValueError, match="holds at most"):
            qr_codes.make_code(text, version, level, mask)
        return
    code = qr_codes.make_code(text, version, level, mask)
    image = qr_codes.render(code, module_size, margin)
    report = qr_codes.scan_report(image, code, module_size, margin)
    assert report.texts["zxing-cpp"] == text
    assert report.texts.get("pyzbar") in (None, text) or "\0" in text or not text.isascii()
    assert not report.errors.any()
    assert max(report.wrong) == 0


@QUICK
@given(VERSIONS, LEVELS)
def test_the_message_names_the_largest_text_that_fits(version: int, level: str) -> None:
    with pytest.raises(ValueError, match="at most") as caught:
        qr_codes.make_code("x" * 400, version, level)
    largest = int(str(caught.value).split("at most ")[1].split(".")[0])
    assert len(qr_codes.make_code("x" * largest, version, level)) == layout.size_of(version)
    with pytest.raises(ValueError, match=f"at most {largest}"):
        qr_codes.make_code("x" * (largest + 1), version, level)


def test_the_smallest_version_is_found() -> None:
    assert qr_codes.version_of(qr_codes.make_code("x" * 14, level="M")) == 1
    assert qr_codes.version_of(qr_codes.make_code("x" * 15, level="M")) == 2


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"text": ""}, ValueError, "empty"),
        ({"text": "\ud800"}, ValueError, "UTF-8"),
        ({"text": "x" * 5000}, ValueError, "at most 2331"),
        ({"version": 0}, ValueError, "1…40"),
        ({"version": 41}, ValueError, "1…40"),
        ({"version": 2.0}, TypeError, "whole number"),
        ({"level": "X"}, ValueError, '"L", "M", "Q" or "H"'),
        ({"level": "LM"}, ValueError, '"L", "M", "Q" or "H"'),
        ({"mask": 8}, ValueError, "0…7"),
        ({"mask": "3"}, TypeError, "whole number"),
    ],
)
def test_bad_arguments_are_named(wrong: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        qr_codes.make_code(**{"text": "x", **wrong})


def test_render_places_every_pixel() -> None:
    code = qr_codes.make_code("x")
    image = qr_codes.render(code, module_size=3, margin=2, dark=0.2, light=0.9)
    assert image.shape == (1, 1, 75, 75)
    by_hand = np.kron(np.pad(code.numpy(), 2), np.ones((3, 3)))
    np.testing.assert_allclose(image[0, 0], np.where(by_hand > 0, 0.2, 0.9), atol=1e-6)
    with pytest.raises(ValueError, match="bool"):
        qr_codes.render(code.float())
    with pytest.raises(ValueError, match="at least"):
        qr_codes.render(code, module_size=0)
    with pytest.raises(ValueError, match="at least"):
        qr_codes.render(code, margin=-1)


# --- Reading --------------------------------------------------------------------------------------


@QUICK
@given(st.integers(1, 9), st.integers(0, 5), st.integers(0, 2**31))
def test_module_errors_are_the_modules_that_were_turned_over(
    module_size: int, margin: int, seed: int
) -> None:
    code = qr_codes.make_code("x")
    turned = torch.rand(code.shape, generator=torch.Generator().manual_seed(seed)) < 0.1
    image = qr_codes.render(code ^ turned, module_size, margin).expand(1, 3, -1, -1)
    assert torch.equal(qr_codes.module_errors(image, code, module_size, margin), turned)


def test_a_local_threshold_reads_in_the_shade() -> None:
    code = qr_codes.make_code("x")
    image = qr_codes.render(code) * torch.linspace(0.2, 1, 232)
    around = scanning.local_mean(image, 28)
    assert qr_codes.module_errors(image, code, 8, 4).any()
    assert not qr_codes.module_errors(image, code, 8, 4, threshold=around).any()


def test_the_report_tells_errors_from_verdicts() -> None:
    code = qr_codes.make_code("text", 3, "M")
    turned = torch.zeros_like(code)
    turned[12:15, 12:16] = True
    readable = qr_codes.scan_report(qr_codes.render(code ^ turned), code, 8, 4)
    assert (int(readable.errors.sum()), readable.in_patterns) == (12, 0)
    assert 0 < readable.spent[0] <= 1
    assert readable.repairable
    assert readable.texts["zxing-cpp"] == "text"

    dark = qr_codes.render(code)
    dark[..., :32, :] = dark[..., -32:, :] = dark[..., :32] = dark[..., -32:] = 0
    unreadable = qr_codes.scan_report(dark, code, 8, 4)
    assert not unreadable.errors.any()
    assert unreadable.texts["zxing-cpp"] is None
    assert "zxing-cpp: does not scan" in str(unreadable)
    assert "0 of 841" in str(unreadable)


def test_errors_in_patterns_cost_no_codeword() -> None:
    code = qr_codes.make_code("text", 3, "M")
    report = qr_codes.scan_report(qr_codes.render(code ^ function_mask(3)), code, 8, 4)
    assert report.in_patterns == int(function_mask(3).sum())
    assert report.wrong == [0]


def test_images_that_do_not_fit_are_named() -> None:
    code = qr_codes.make_code("x")
    with pytest.raises(ValueError, match="232"):
        qr_codes.module_errors(torch.zeros(1, 1, 200, 200), code, 8, 4)
    with pytest.raises(ValueError, match="1 or 3"):
        qr_codes.scan(torch.zeros(1, 2, 10, 10))
    with pytest.raises(ValueError, match="modules"):
        qr_codes.scan_report(torch.zeros(1, 1, 80, 80), torch.zeros(20, 20).bool(), 4, 0)


def test_scan_reads_colours_as_they_are() -> None:
    """Dark blue on light yellow reads; red on a green of the same luminance does not."""
    dark = ~(qr_codes.render(qr_codes.make_code("text")) > 0)

    def painted(ink: list[float], paper: list[float]) -> Tensor:
        dyes, sheet = (torch.tensor(c).reshape(1, 3, 1, 1) for c in (ink, paper))
        return torch.where(dark, dyes, sheet)

    good, bad = painted([0, 0, 0.5], [1, 1, 0.6]), painted([1.0, 0, 0], [0, 0.509, 0])
    assert set(qr_codes.scan(good).values()) == {"text"}
    assert set(qr_codes.scan(bad).values()) == {None}


def test_zxing_is_always_here() -> None:
    assert "zxing-cpp" in qr_codes.scanners()
