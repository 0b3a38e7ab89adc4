"""Lesson 00: what right answers satisfy, and the mistakes people make."""

import math

import torch
from torch import Tensor

from course import start_here as reference
from course.checks.engine import Answer, Case, Exercise, Mistake
from course.start_here import to_unit_range


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """A standard normal tensor of its own seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_bytes(*shape: int, low: int = 0, high: int = 256, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, shape, generator=generator, dtype=torch.uint8)


# --- to_unit_range ----------------------------------------------------------------------------


def to_unit_range_cases() -> list[Case]:
    by_hand = torch.tensor([[[0, 51, 204, 255]]], dtype=torch.uint8)
    return [
        Case("four pixels, by hand", {"pixels": by_hand}),
        Case("three images, wider than high", {"pixels": random_bytes(3, 4, 5)}),
        Case("images without black and white", {"pixels": random_bytes(2, 6, 3, low=60, high=200)}),
        Case("one large image", {"pixels": random_bytes(1, 28, 28, seed=1)}),
    ]


def stretched_to_its_own_range(pixels: Tensor) -> Tensor:
    x = pixels.unsqueeze(1).float()
    return 2 * (x - x.min()) / (x.max() - x.min()) - 1


def standardised(pixels: Tensor) -> Tensor:
    x = pixels.unsqueeze(1).float()
    return (x - x.mean()) / x.std()


def unit_range_in_a_loop(pixels: Tensor) -> Tensor:
    images = [
        [[[value / 255 * 2 - 1 for value in row] for row in image]] for image in pixels.tolist()
    ]
    return torch.tensor(images)


TO_UNIT_RANGE = Exercise(
    reference.to_unit_range,
    to_unit_range_cases,
    mistakes=[
        Mistake("Your values run from 0 to 1. This course's images run from −1 (black) to 1 "
                "(white): twice as far, and centred on 0.",
                lambda pixels: pixels.unsqueeze(1).float() / 255),
        Mistake("Your values run from 0 to 1 and not from −1 to 1; and the channel axis is "
                "missing: (n, h, w) becomes (n, 1, h, w).",
                lambda pixels: pixels.float() / 255),
        Mistake("Your values run from 0 to 2: the last step, moving them down by 1, is missing.",
                lambda pixels: pixels.unsqueeze(1).float() / 127.5),
        Mistake("The values are right, but the channel axis is missing: (n, h, w) becomes "
                "(n, 1, h, w).",
                lambda pixels: pixels.float() / 127.5 - 1),
        Mistake("The values are right, but the channel axis is last. PyTorch keeps it second: "
                "(n, 1, h, w).",
                lambda pixels: pixels.unsqueeze(-1).float() / 127.5 - 1),
        Mistake("You multiplied bytes. A byte holds 0…255, so 2 · 204 = 408 wraps round to 152: "
                "turn the pixels into floats first.",
                lambda pixels: pixels.unsqueeze(1) * 2 / 255 - 1),
        Mistake("The values are right, but in float64; networks compute in float32, at half the "
                "memory.",
                lambda pixels: pixels.unsqueeze(1).double() / 127.5 - 1),
        Mistake("White (255) does not come out as 1: half of 255 is 127.5, not 128.",
                lambda pixels: pixels.unsqueeze(1).float() / 128 - 1),
        Mistake("Black and white have changed places: 0 is black and becomes −1.",
                lambda pixels: 1 - pixels.unsqueeze(1).float() / 127.5),
        Mistake("You stretched the batch to its own darkest and brightest pixel. The same byte "
                "must always become the same number, whatever else is in the batch.",
                stretched_to_its_own_range),
        Mistake("You gave the batch mean 0 and standard deviation 1. Here 0 … 255 always becomes "
                "−1 … 1, whatever the images show.", standardised),
    ],
    alternatives=[
        lambda pixels: (pixels.float()[:, None] - 127.5) / 127.5,
        lambda pixels: torch.from_numpy((pixels.numpy()[:, None] / 255 * 2 - 1).astype("float32")),
        unit_range_in_a_loop,
    ],
    hints=["Two points fix a straight line: 0 must become −1 and 255 must become 1. Which number "
           "must 127.5 become?",
           "Turn the bytes into floats before you compute: `.float()`. Then divide, then subtract.",
           "`pixels.unsqueeze(1)` gives (n, 1, h, w)."],
)  # fmt: skip


# --- mix_with_noise ---------------------------------------------------------------------------


def mix_cases() -> list[Case]:
    one = torch.ones(1, 1, 1, 1)
    gray = to_unit_range(random_bytes(3, 4, 5))
    colour = normal(2, 3, 4, 4, seed=2)
    return [
        Case("one pixel, by hand", {"x0": one, "eps": -one / 2, "amount": 0.36}),
        Case("mostly noise", {"x0": gray, "eps": normal(3, 1, 4, 5, seed=1), "amount": 0.9}),
        Case("no noise at all", {"x0": gray, "eps": normal(3, 1, 4, 5, seed=1), "amount": 0.0}),
        Case("noise alone", {"x0": gray, "eps": normal(3, 1, 4, 5, seed=1), "amount": 1.0}),
        Case("colour, in float64", {"x0": colour.double(), "amount": 0.1,
                                    "eps": normal(2, 3, 4, 4, seed=3, dtype=torch.float64)}),
    ]  # fmt: skip


def mix_of(signal: Answer, noise: Answer) -> Answer:
    """mix_with_noise with other factors, each a function of the amount."""

    def mix_with_noise(x0: Tensor, eps: Tensor, amount: float) -> Tensor:
        return signal(amount) * x0 + noise(amount) * eps

    return mix_with_noise


def own_noise(x0: Tensor, eps: Tensor, amount: float) -> Tensor:
    return math.sqrt(1 - amount) * x0 + math.sqrt(amount) * torch.randn_like(x0)


def mix_on_a_quarter_circle(x0: Tensor, eps: Tensor, amount: float) -> Tensor:
    angle = math.asin(math.sqrt(amount))
    return math.cos(angle) * x0 + math.sin(angle) * eps


def mix_pixel_by_pixel(x0: Tensor, eps: Tensor, amount: float) -> Tensor:
    pairs = zip(x0.flatten().tolist(), eps.flatten().tolist(), strict=True)
    mixed = [(1 - amount) ** 0.5 * x + amount**0.5 * e for x, e in pairs]
    return torch.tensor(mixed, dtype=x0.dtype).reshape(x0.shape)


MIX_WITH_NOISE = Exercise(
    reference.mix_with_noise,
    mix_cases,
    mistakes=[
        Mistake("Both roots are missing. `amount` is a share of the *variance*, and a number that "
                "is scaled by s has its variance scaled by s².",
                mix_of(lambda a: 1 - a, lambda a: a)),
        Mistake("The noise is scaled by `amount`, its variance; it is scaled by the root of it.",
                mix_of(lambda a: math.sqrt(1 - a), lambda a: a)),
        Mistake("The image is scaled by 1 − amount; it is scaled by the root of that.",
                mix_of(lambda a: 1 - a, math.sqrt)),
        Mistake("Image and noise have changed places: amount = 0 is the image itself.",
                mix_of(math.sqrt, lambda a: math.sqrt(1 - a))),
        Mistake("You scaled the image by 1 − √amount. The root is over the whole of 1 − amount.",
                mix_of(lambda a: 1 - math.sqrt(a), math.sqrt)),
        Mistake("The image is not scaled down, so the variance grows instead of being kept.",
                mix_of(lambda a: 1, math.sqrt)),
        Mistake("You took `amount` for the noise's scale. It is the noise's variance: no square "
                "is needed, but a root is.",
                mix_of(lambda a: math.sqrt(1 - a * a), lambda a: a)),
        Mistake("You drew noise of your own. Mix in the `eps` that is given.", own_noise),
    ],
    alternatives=[
        lambda x0, eps, amount: x0 * (1 - amount) ** 0.5 + eps * amount**0.5,
        mix_on_a_quarter_circle,
        mix_pixel_by_pixel,
    ],
    hints=["Two terms are added: a number times the image, and a number times the noise.",
           "The squares of the two numbers add up to 1; the second square is `amount`.",
           "`math.sqrt` takes the root of a float."],
)  # fmt: skip

EXERCISES = [TO_UNIT_RANGE, MIX_WITH_NOISE]
