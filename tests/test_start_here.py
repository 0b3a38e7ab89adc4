"""Lesson 00 against MNIST's own bytes, diffusers, and the variance it promises to keep."""

import gzip
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from course.data import data_dir, mnist
from course.plots import to_uint8
from course.start_here import mix_with_noise, to_unit_range

AMOUNTS = [0.0, 0.05, 0.36, 0.5, 0.99, 1.0]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_every_byte_lands_where_a_line_puts_it() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    expected = np.linspace(-1, 1, 256).reshape(1, 1, 16, 16)
    out = to_unit_range(pixels)
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-6)


def test_pictures_undo_it() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(4, 8, 8)
    assert np.array_equal(to_uint8(to_unit_range(pixels))[..., 0], pixels.numpy())


def test_it_is_how_the_course_reads_mnist() -> None:
    packed = (data_dir() / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes()
    pixels = np.frombuffer(gzip.decompress(packed), np.uint8, offset=16).reshape(-1, 28, 28)
    assert torch.equal(to_unit_range(torch.from_numpy(pixels.copy())), mnist("test")[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_pixels_that_are_no_bytes_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"uint8, not {dtype}"):
        to_unit_range(torch.zeros(1, 2, 2, dtype=dtype))


@pytest.mark.parametrize("amount", AMOUNTS)
def test_mixing_is_what_diffusers_calls_adding_noise(amount: float) -> None:
    scheduler: Any = DDPMScheduler()
    scheduler.alphas_cumprod = torch.tensor([1 - amount])
    x0, eps = normal(4, 1, 8, 8), normal(4, 1, 8, 8, seed=1)
    expected = scheduler.add_noise(x0, eps, torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(mix_with_noise(x0, eps, amount), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("amount", AMOUNTS)
def test_the_variance_is_kept(amount: float) -> None:
    x0, eps = normal(200, 1, 28, 28), normal(200, 1, 28, 28, seed=1)
    # The variance of 156,800 draws is known to √(2 / 156,800) = 0.0036; three of those.
    assert mix_with_noise(x0, eps, amount).var().item() == pytest.approx(1, abs=0.011)


def test_the_ends_are_the_image_and_the_noise() -> None:
    x0, eps = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)
    assert torch.equal(mix_with_noise(x0, eps, 0), x0)
    assert torch.equal(mix_with_noise(x0, eps, 1), eps)


@pytest.mark.parametrize("amount", [-0.01, 1.01, float("nan")])
def test_an_amount_that_is_no_share_is_refused(amount: float) -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        mix_with_noise(torch.zeros(1), torch.zeros(1), amount)
