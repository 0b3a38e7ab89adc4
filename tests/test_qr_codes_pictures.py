"""Lesson 09: Qart, halftone and optimised pixels: the picture changes, the text does not."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from course import qr_codes
from course.qr_codes import elimination, encoding, halftones, messages, pixels, targets
from course.qr_codes.encoding import blocks, make_code
from course.qr_codes.layout import data_path, function_mask, read_format

TEXT = "https://example.com/"
LEVELS = st.sampled_from("LMQH")


def noise(seed: int, size: int = 60, channels: int = 3) -> Tensor:
    """A picture of coarse random patches: (1, channels, size, size) in [0, 1]."""
    coarse = torch.rand(1, channels, 8, 8, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return smooth.clamp(0, 1)


# --- Linear algebra -------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 7))
def test_elimination_against_brute_force(seed: int, f: int) -> None:
    """Pivots are the greedy choice, and `solve` reaches every pattern on them, inside the span."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.cat([torch.eye(f), torch.rand(f, 5, generator=generator).round()], dim=1).bool()
    order = torch.randperm(f + 5, generator=generator)
    span = elimination.eliminate(rows, order)
    every = {
        tuple(row) for c in itertools.product([0, 1], repeat=f)
        for row in [(torch.tensor(c).float() @ rows.float() % 2).bool().tolist()]
    }  # fmt: skip

    chosen: list[int] = []
    for column in order.tolist():
        if len({tuple(v[k] for k in [*chosen, column]) for v in every}) == 2 ** (len(chosen) + 1):
            chosen.append(column)
    assert sorted(chosen) == sorted(span.pivots.tolist())

    base = torch.rand(f + 5, generator=generator) < 0.5
    wanted = torch.rand(f + 5, generator=generator) < 0.5
    out = elimination.solve(span, base, wanted)
    assert torch.equal(out[span.pivots], wanted[span.pivots])
    assert tuple((out ^ base).tolist()) in every
    better = elimination.refine(span, out, wanted, torch.ones(f + 5))
    assert (better ^ wanted).sum() <= (out ^ wanted).sum()
    assert tuple((better ^ base).tolist()) in every


def test_block_rows_are_what_the_encoder_does() -> None:
    """Turning over one free bit changes the encoder's block by exactly that row."""
    from course.qr_codes.drawing import block_rows
    from course.qr_codes.reed_solomon import rs_parity

    free = torch.rand(80, generator=torch.Generator().manual_seed(0)) < 0.3
    rows = block_rows(free, 7)
    data = torch.rand(80, generator=torch.Generator().manual_seed(1)) < 0.5

    def block(bits: Tensor) -> Tensor:
        return torch.cat([bits, encoding.to_bits(rs_parity(encoding.to_bytes(bits), 7))])

    for k, row in zip(free.nonzero().flatten().tolist(), rows, strict=True):
        turned = data.clone()
        turned[k] ^= True
        assert torch.equal(block(turned) ^ block(data), row)


# --- Qart -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "controlled"), [("L", 264), ("M", 176)])
def test_twenty_bytes_in_version_3(level: str, controlled: int) -> None:
    made = qr_codes.qart_codes(TEXT, noise(0), version=3, level=level, refined=False)
    assert [q.mask for q in sorted(made, key=lambda q: q.mask)] == list(range(8))
    for q in made:
        assert int(q.controlled.sum()) == controlled
        assert torch.equal(q.code[q.controlled], q.target[q.controlled])
        assert read_format(q.code) == (level, q.mask)
        assert qr_codes.scan(qr_codes.render(q.code))["zxing-cpp"] == TEXT
    assert made[0].missed == min(q.missed for q in made)


def test_refining_helps_and_the_mask_is_respected() -> None:
    rough, fine = (
        qr_codes.qart_codes(TEXT, noise(1), mask=5, refined=refined)[0] for refined in (False, True)
    )
    assert fine.missed < rough.missed
    assert fine.mask == 5
    assert read_format(fine.code) == ("L", 5)


@settings(max_examples=12, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.integers(1, 10),
    LEVELS,
    st.integers(0, 7),
    st.booleans(),
)
def test_the_text_is_exactly_unchanged(
    text: str, version: int, level: str, mask: int, fragment: bool
) -> None:
    needed = len(encoding.text_bits(text, version)) + fragment * (8 + 4 + 14 + 10)
    assume(needed <= 8 * encoding.capacity(version, level) and not (fragment and "#" in text))
    made = qr_codes.qart_codes(text, noise(2), version, level, mask, fragment=fragment)[0]
    assert qr_codes.scan(qr_codes.render(made.code))["zxing-cpp"] == made.text
    if fragment:
        assert made.text.startswith(text + "#")
        assert made.text[len(text) + 1 :].isdigit()
    else:
        assert made.text == text


@pytest.mark.parametrize(("version", "level"), [(3, "Q"), (5, "H"), (7, "M")])
def test_nothing_but_padding_and_parity_is_touched(version: int, level: str) -> None:
    made = qr_codes.qart(TEXT, noise(3), version, level, mask=0)
    plain = make_code(TEXT, version, level, mask=0)
    fixed = function_mask(version)
    assert torch.equal(made[fixed], plain[fixed])
    same = (made == plain)[data_path(version)]
    used = len(encoding.text_bits(TEXT, version)) + 4
    for place, start in zip(
        encoding.sent_places(version, level),
        itertools.accumulate((b.data for b in blocks(version, level)), initial=0),
        strict=False,
    ):
        texts = max(0, min(used // 8 - start, len(place)))
        for k in place[:texts].tolist():
            assert same[8 * k : 8 * k + 8].all()


def test_no_codeword_is_wrong() -> None:
    """The error budget is whole: every block of a Qart code is a multiple of its generator."""
    from course.qr_codes.layout import mask_pattern
    from course.qr_codes.reed_solomon import syndromes

    code = qr_codes.qart(TEXT, noise(4), 5, "Q", mask=1)
    bits = (code ^ mask_pattern(1, 37))[data_path(5)]
    sent = encoding.to_bytes(bits[: len(bits) // 8 * 8])
    for place, block in zip(encoding.sent_places(5, "Q"), blocks(5, "Q"), strict=True):
        assert not syndromes(sent[place], block.parity).any()


def test_a_full_code_has_nothing_to_choose() -> None:
    text = "x" * 53
    made = qr_codes.qart_codes(text, noise(5), 3, "L", mask=2)[0]
    assert not made.controlled.any()
    assert torch.equal(made.code, make_code(text, 3, "L", 2))


def test_thresholds_and_tones() -> None:
    picture = noise(6, channels=1)
    plain = targets.picture_modules(picture, 29)
    by_number = qr_codes.qart_codes(TEXT, picture, mask=0, threshold=0.4)[0]
    by_map = qr_codes.qart_codes(TEXT, picture, mask=0, threshold=torch.full((29, 29), 0.4))[0]
    assert torch.equal(by_number.target, plain < 0.4)
    assert torch.equal(by_number.code, by_map.code)
    half = qr_codes.qart_codes(TEXT, picture, mask=0)[0].target.float().mean()
    assert abs(half - 0.5) < 0.01
    assert torch.equal(qr_codes.qart(TEXT, picture), qr_codes.qart(TEXT, picture))


def test_digits_are_digits() -> None:
    """Whatever the free bits are, each group of digits is one that numeric mode can hold."""
    message = messages.fragment_message(TEXT, 4, "L")
    first, count = message.digits
    digits = messages.read_digits(message, message.bits | message.free)
    groups = [digits[k : k + 3] for k in range(0, count, 3)]
    assert len(digits) == count
    assert set(groups[:-1]) == {"511"}
    assert int(groups[-1]) in (511, 63, 7)
    assert not message.free[:first].any()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"text": ""}, ValueError, "empty"),
        ({"text": "", "fragment": True}, ValueError, "empty"),
        ({"text": "x" * 54}, ValueError, "at most 53.*version 4"),
        ({"text": "a#b", "fragment": True}, ValueError, "fragment already"),
        ({"text": "x" * 52, "fragment": True}, ValueError, "at most"),
        ({"version": 0}, ValueError, "1…40"),
        ({"version": "3"}, TypeError, "whole number"),
        ({"level": "l"}, ValueError, '"L", "M", "Q" or "H"'),
        ({"mask": -1}, ValueError, "0…7"),
        ({"picture": noise(0)[0]}, ValueError, r"\(1, 1 or 3, h, h\)"),
        ({"picture": noise(0)[..., :40]}, ValueError, "square"),
        ({"picture": noise(0, size=20)}, ValueError, "29 pixels or more"),
        ({"picture": 255 * noise(0)}, ValueError, r"\[0, 1\]"),
        ({"picture": noise(0) * torch.nan}, ValueError, r"\[0, 1\]"),
        ({"picture": noise(0).bool()}, TypeError, "floats"),
        ({"threshold": torch.zeros(5, 5)}, ValueError, r"\(29, 29\)"),
    ],
)
def test_bad_arguments_are_named(wrong: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        qr_codes.qart(**{"text": TEXT, "picture": noise(0), **wrong})


# --- Halftone and pixels --------------------------------------------------------------------------


@pytest.mark.parametrize("module_size", [3, 6, 9])
def test_a_halftone_code_has_no_wrong_module(module_size: int) -> None:
    code = make_code(TEXT, 3, "M")
    image = qr_codes.halftone(code, noise(7, size=120), module_size)
    assert image.shape == (1, 1, 37 * module_size, 37 * module_size)
    report = qr_codes.scan_report(image, code, module_size, 4)
    assert not report.errors.any()
    assert report.texts["zxing-cpp"] in (TEXT, None)
    assert report.texts["zxing-cpp"] == TEXT or module_size == 3


def test_dots_are_as_dark_as_the_picture() -> None:
    for grey in (0.2, 0.5, 0.8):
        dots = halftones.dither(torch.full((1, 1, 90, 90), grey), 90)
        assert dots.dtype == torch.bool
        assert abs(dots.float().mean() - (1 - grey)) < 0.02


def test_halftone_wants_thirds() -> None:
    with pytest.raises(ValueError, match="multiple of 3"):
        qr_codes.halftone(make_code(TEXT), noise(0, size=120), module_size=8)


def test_optimised_pixels_become_a_code_and_stay_a_picture() -> None:
    picture = noise(8, size=120)
    code = qr_codes.qart(TEXT, picture, 3, "L", mask=0)
    walk = list(qr_codes.artcoder(code, picture, module_size=6, steps=40))
    first, last = (pixels.code_loss(pixels.sampled(x, 29, 6, 4), code) for x in (walk[0], walk[-1]))
    assert last < 0.05 * first
    report = qr_codes.scan_report(walk[-1], code, 6, 4)
    assert int(report.errors.sum()) == 0
    assert report.texts["zxing-cpp"] == TEXT
    start = pixels.framed(picture, 29, 6, 4)
    hard = qr_codes.render(code, 6)
    free = ~function_mask(3)
    inside = qr_codes.render(free, 6, dark=1, light=0).bool().expand(1, 3, -1, -1)
    assert (walk[-1] - start)[inside].square().mean() < (hard - start)[inside].square().mean()
    assert walk[-1].min() >= 0
    assert walk[-1].max() <= 1
    given = (~inside)[0, 0]
    assert torch.equal(walk[-1][0, :, given], hard.expand(1, 3, -1, -1)[0, :, given])


def test_another_style_changes_the_colours() -> None:
    how: dict[str, Any]
    picture = torch.full((1, 3, 60, 60), 0.5)
    red = torch.tensor([0.9, 0.2, 0.2]).reshape(1, 3, 1, 1).expand(1, 3, 60, 60)
    code = make_code("x")
    how = {"module_size": 4, "steps": 15, "weights": pixels.Weights(content=0.1, style=20)}
    *_, plain = qr_codes.artcoder(code, picture, **how)
    *_, styled = qr_codes.artcoder(code, picture, red, **how)
    free = qr_codes.render(~function_mask(1), 4, dark=1, light=0)[0, 0] > 0
    redness = [(x[0, 0] - x[0, 2])[free].mean() for x in (plain, styled)]
    assert redness[1] > redness[0] + 0.05


def test_modules_that_are_right_get_no_gradient() -> None:
    means = torch.tensor([[0.1, 0.9], [0.6, 0.4]], requires_grad=True)
    code = torch.tensor([[True, False], [True, False]])
    pixels.code_loss(means, code).backward()
    assert means.grad is not None
    assert (means.grad[0] == 0).all()
    assert means.grad[1, 0] > 0 > means.grad[1, 1]


def test_content_of_another_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, h, h\)"):
        next(qr_codes.artcoder(make_code("x"), torch.zeros(1, 1, 60, 60)))
