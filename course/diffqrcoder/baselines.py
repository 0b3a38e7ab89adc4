"""What DiffQRCoder is compared with: other ways from a text and a prompt to a picture that scans.

Each is a function of a pipeline and a `Case`. All of them place version 3's 29 × 29 modules in a
grid of 40 × 40 and start from the same noise, so that
`picture_of` is what each of them would be without a code. QR Diffusion and QRBTF are closed
services: they cannot be run here.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from course.diffqrcoder.codes import PlacedCode
from course.qr_codes import artcoder, halftone, luminance, make_code, qart
from course.scenery_models import generate, seeded, token_ids

VERSION = 3


class Case(NamedTuple):
    """What is asked of a method. `seed` decides the picture."""

    text: str
    level: str
    prompt: str
    seed: int


class Made(NamedTuple):
    """What a method gives: a picture, and the code that it should be read as, in its place."""

    image: Tensor  # (1, 3, side, side) in [0, 1]
    placed: PlacedCode
    reference: Tensor | None = None  # x̂, where the method has one: (1, 3, side, side) in [0, 1]


Method = Callable[[Any, Case], Made]


# --- The common ground ---------------------------------------------------------------------------


def picture_of(pipeline: Any, case: Case) -> Tensor:
    """The picture of the same prompt and seed at conditioning scale 0: (1, 3, 160, 160), [0, 1]."""
    return _unit(generate(pipeline, [case.prompt], case.seed))


def plain(case: Case, module_size: int = 4) -> PlacedCode:
    """The case's own code, its padding the standard's, in its place."""
    return PlacedCode(make_code(case.text, VERSION, case.level), module_size=module_size)


def framed(core: Tensor, placed: PlacedCode) -> Tensor:
    """The picture of a code, white around it: (1, c, n·s, n·s) -> (1, 3, side, side)."""
    before = placed.place * placed.module_size
    after = placed.side - before - core.shape[-1]
    return F.pad(core, (before, after, before, after), value=1.0).expand(-1, 3, -1, -1)


def behind(picture: Tensor, placed: PlacedCode) -> Tensor:
    """The part of a picture that a code will cover, at its size: (1, 3, n·s, n·s)."""
    size = (placed.side, placed.side)
    large = F.interpolate(picture, size, mode="bilinear", antialias=True)
    return placed.crop(large.clamp(0, 1))


def _unit(images: Tensor) -> Tensor:
    """[−1, 1] as [0, 1]."""
    return ((images + 1) / 2).clamp(0, 1)


# --- The methods ---------------------------------------------------------------------------------


def scenery_alone(pipeline: Any, case: Case) -> Made:
    """No code at all: what the others are measured from."""
    return Made(picture_of(pipeline, case), plain(case))


def controlnet_only(pipeline: Any, case: Case, scale: float = 1.0) -> Made:
    """The ControlNet is shown the code; nothing checks what becomes of it."""
    placed = plain(case)
    shown = placed.modules[None]
    made = generate(pipeline, [case.prompt], case.seed, shown, control_scale=scale)
    return Made(_unit(made), placed)


def image_to_image(
    pipeline: Any, case: Case, strength: float = 0.85, scale: float = 1.0, steps: int = 25
) -> Made:
    """ControlNet, and the walk begins at the noised code (what QR Code AI Art does)."""
    from diffusers import StableDiffusionControlNetImg2ImgPipeline

    token_ids(pipeline.tokenizer, [case.prompt])
    walk: Any = StableDiffusionControlNetImg2ImgPipeline(
        **pipeline.components, requires_safety_checker=False
    )
    walk.set_progress_bar_config(disable=True)
    placed = plain(case)
    shown = placed.target.expand(-1, 3, -1, -1)
    images = walk(
        [case.prompt],
        image=shown,
        control_image=shown,
        strength=strength,
        num_inference_steps=steps,
        guidance_scale=4.0,
        controlnet_conditioning_scale=scale,
        generator=[seeded(case.seed)],
        output_type="pt",
    ).images
    return Made(images.float().clamp(0, 1), placed)


def blended(pipeline: Any, case: Case, share: float = 0.5) -> Made:
    """The picture's luminance moved towards the code's by `share`; its colours stay."""
    picture, placed = picture_of(pipeline, case), plain(case)
    moved = picture + share * (placed.target - luminance(picture))
    return Made(moved.clamp(0, 1), placed)


def qart_alone(pipeline: Any, case: Case) -> Made:
    """A black and white code whose padding draws the picture."""
    picture = behind(picture_of(pipeline, case), plain(case))
    placed = PlacedCode(qart(case.text, picture, VERSION, case.level))
    return Made(placed.target.expand(-1, 3, -1, -1), placed)


def halftoned(pipeline: Any, case: Case) -> Made:
    """Dots around the middle of each module; a module needs 3 × 3 of them, so it is larger."""
    placed = plain(case, module_size=6)
    picture = behind(picture_of(pipeline, case), placed)
    core = halftone(placed.code, picture, placed.module_size, margin=0)
    return Made(framed(core, placed), placed)


def optimised(pipeline: Any, case: Case, steps: int = 60) -> Made:
    """Pixels optimised to look like the picture and to scan, in the manner of ArtCoder."""
    placed = plain(case)
    picture, s = behind(picture_of(pipeline, case), placed), placed.module_size
    *_, core = artcoder(placed.code, picture, module_size=s, margin=0, steps=steps)
    return Made(framed(core, placed), placed)


BASELINES: dict[str, Method] = {
    "no code": scenery_alone,
    **{
        f"controlnet {scale}": functools.partial(controlnet_only, scale=scale)
        for scale in (0.5, 1.0, 1.5, 2.0)
    },
    "image-to-image": image_to_image,
    "blended": blended,
    "qart": qart_alone,
    "halftone": halftoned,
    "artcoder": optimised,
}
