"""Lesson 10's loss against loops over pixels, and what it must not be blind to."""

import math

import pytest
import torch
from torch import Tensor

from course.diffqrcoder import scanning_robust_loss
from course.diffqrcoder.scan_loss import module_window


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def checkered(b: int, n: int, s: int, seed: int = 1) -> Tensor:
    """Random modules as an image: (b, 1, n·s, n·s) of 0 and 1."""
    code = (rand(b, 1, n, n, seed=seed) > 0.5).double()
    return code.repeat_interleave(s, 2).repeat_interleave(s, 3)


def by_hand(image: Tensor, target: Tensor, s: int, sigma: float = 1.5) -> float:
    """One image's loss by loops: image (3, h, w), target (h, w)."""
    h, w = target.shape
    middle = (s - 1) / 2
    bell = [
        [math.exp(-((i - middle) ** 2 + (j - middle) ** 2) / (2 * sigma**2)) for j in range(s)]
        for i in range(s)
    ]
    low, high = min(map(min, bell)), max(map(max, bell))
    total = 0.0
    for top in range(0, h, s):
        for left in range(0, w, s):
            error, inner = 0.0, []
            for i in range(s):
                for j in range(s):
                    r, g, b = (float(image[c, top + i, left + j]) for c in range(3))
                    grey = 0.299 * r + 0.587 * g + 0.114 * b
                    white = target[top + i, left + j] == 1
                    weight = (bell[i][j] - low) / (high - low)
                    if weight >= 0.1:
                        off = 0.65 - grey if white else grey - 0.45
                        error += weight * 2 * max(0.0, off)
                    if max(abs(i - middle), abs(j - middle)) <= math.ceil(s / 6) - (s % 2 == 0) / 2:
                        inner.append(grey)
            mean = sum(inner) / len(inner)
            white = target[top + s // 2, left + s // 2] == 1
            right = mean >= 0.65 if white else mean <= 0.45
            total += 0.0 if right else error
    return total / (h // s * (w // s))


@pytest.mark.parametrize("s", [3, 4, 5, 8, 13, 16])
def test_the_loss_is_what_loops_give(s: int) -> None:
    image, target = rand(2, 3, 3 * s, 3 * s, seed=s), checkered(2, 3, s)
    expected = [by_hand(x, y[0], s) for x, y in zip(image, target, strict=True)]
    ours = scanning_robust_loss(image, target, s)
    torch.testing.assert_close(ours, torch.tensor(expected).double(), rtol=1e-6, atol=1e-6)
    assert ours.min() > 0


@pytest.mark.parametrize("sigma", [0.7, 3.0, 100.0])
def test_other_widths(sigma: float) -> None:
    image, target = rand(1, 3, 16, 16), checkered(1, 2, 8)
    ours = scanning_robust_loss(image, target, 8, sigma=sigma).item()
    assert ours == pytest.approx(by_hand(image[0], target[0, 0], 8, sigma), rel=1e-5)


def test_a_batch_is_its_images_one_by_one() -> None:
    image, target = rand(4, 3, 20, 20), checkered(4, 5, 4)
    singles = [scanning_robust_loss(image[i : i + 1], target[i : i + 1], 4) for i in range(4)]
    torch.testing.assert_close(scanning_robust_loss(image, target, 4), torch.cat(singles))


@pytest.mark.parametrize("margin", [1, 4, 7])
def test_the_margin_does_not_count(margin: int) -> None:
    inner, target = rand(1, 3, 20, 20), checkered(1, 5, 4)
    pad = (margin,) * 4
    around = torch.nn.functional.pad(inner, pad, value=0.5)
    code = torch.nn.functional.pad(target, pad, value=1.0)
    with_margin = scanning_robust_loss(around, code, 4, margin=margin)
    torch.testing.assert_close(with_margin, scanning_robust_loss(inner, target, 4))


def test_the_code_itself_costs_nothing_and_its_inverse_the_most() -> None:
    target = checkered(1, 4, 6)
    code = target.expand(-1, 3, -1, -1)
    assert scanning_robust_loss(code, target, 6) == 0
    worst = scanning_robust_loss(1 - code, target, 6)
    assert worst > scanning_robust_loss(torch.full_like(code, 0.55), target, 6) > 0


def test_a_saturated_wrong_module_is_still_pulled_back() -> None:
    """Clamping before the loss would leave these pixels without a gradient for ever."""
    target = torch.ones(1, 1, 4, 4)
    image = torch.full((1, 3, 4, 4), -0.2, requires_grad=True)
    scanning_robust_loss(image, target, 4).sum().backward()
    assert image.grad is not None
    assert (image.grad[:, :, 1:3, 1:3] < 0).all()


def test_a_module_that_scans_is_left_alone_whatever_its_rim() -> None:
    target = torch.ones(1, 1, 8, 8)
    image = torch.full((1, 3, 8, 8), 0.0)
    image[:, :, 2:6, 2:6] = 0.7
    image.requires_grad_()
    loss = scanning_robust_loss(image, target, 8)
    assert loss == 0
    (gradient,) = torch.autograd.grad(loss.sum(), image)
    assert gradient.abs().max() == 0


def test_gradient_by_finite_differences() -> None:
    target = checkered(1, 3, 4)
    # Away from the kinks of relu and of the early stop.
    image = (0.5 + 0.04 * (rand(1, 3, 12, 12) - 0.5)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: scanning_robust_loss(x, target, 4), (image,))


def test_the_window_peaks_at_one_and_ends_in_zeros() -> None:
    for s in (3, 4, 16):
        window = module_window(s)
        assert window.max() == 1
        assert window[0, 0] == 0
        assert ((window == 0) | (window >= 0.1)).all()
        assert torch.equal(window, window.T)
    # The default width is in pixels, whatever the module: large modules are read at their middle.
    assert module_window(16)[3, 3] == 0


@pytest.mark.parametrize(
    ("image", "target", "s", "margin", "says"),
    [
        ((1, 1, 8, 8), (1, 1, 8, 8), 4, 0, r"image is \(b, 3, h, w\)"),
        ((2, 3, 8, 8), (1, 1, 8, 8), 4, 0, r"target is \(2, 1, 8, 8\)"),
        ((1, 3, 8, 8), (1, 1, 8, 8), 2, 0, "module_size ≥ 3"),
        ((1, 3, 9, 8), (1, 1, 9, 8), 4, 0, "not whole modules of 4"),
        ((1, 3, 8, 8), (1, 1, 8, 8), 4, 4, "not whole modules"),
    ],
)
def test_what_does_not_fit_is_named(
    image: tuple[int, ...], target: tuple[int, ...], s: int, margin: int, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        scanning_robust_loss(torch.zeros(image), torch.zeros(target), s, margin=margin)
