"""What SRPG and SR-MPGD descend on: does it scan, and does it look like the reference?"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from course.diffqrcoder.codes import PlacedCode
from course.diffqrcoder.scan_loss import scanning_robust_loss
from course.errors import CourseError
from course.qr_codes import luminance
from course.scenery_models import load_image_encoder, perceptual_distance

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""(b, 3, h, w) in [−1, 1], twice -> (b,): how unlike two pictures look."""

# Function patterns want more contrast than data modules: they are what a scanner looks for.
PATTERN_WHITE, PATTERN_DARK = 0.75, 0.35
QUIET_GREY = 0.75  # light enough for every scanner, and dark enough for mist and snow


def pattern_loss(image: Tensor, placed: PlacedCode) -> Tensor:
    """How far the function patterns are from being found, every pixel counting alike: (b,).

    The mean of 2 · relu(0.75 − g) over white and of 2 · relu(g − 0.35) over dark pixels: finders
    are found by the proportions of their stripes, so that a module's edges matter as much as its
    middle. image: (b, 3, side, side), [0, 1] but not clamped to it.
    """
    where = placed.patterns.to(image.device)
    grey, white = luminance(image), placed.target.to(image.device) > 0.5
    errors = 2 * torch.where(white, F.relu(PATTERN_WHITE - grey), F.relu(grey - PATTERN_DARK))
    return (errors * where).sum(dim=(1, 2, 3)) / where.sum()


def quiet_loss(image: Tensor, placed: PlacedCode) -> Tensor:
    """How much the quiet zone is too dark: the mean of 2 · relu(0.75 − g) over its pixels: (b,)."""
    where = placed.quiet.to(image.device)
    errors = 2 * F.relu(QUIET_GREY - luminance(image)) * where
    return errors.sum(dim=(1, 2, 3)) / where.sum()


@dataclass(frozen=True)
class Weights:
    """λ1, λ2, and what function patterns and quiet zone add to L_SR.

    The paper's λ1 = 500 and λ2 = 3 belong to its own scaling of the losses and of the gradient.
    Here each loss is a mean of about 1 for a picture that knows nothing of the code, and the
    gradient's length is set apart (`guidance.step_length`), so that only ratios count.
    """

    scan: float = 1.0
    perceptual: float = 0.3
    pattern: float = 4.0
    quiet: float = 3.0


def code_loss(image: Tensor, placed: PlacedCode, weights: Weights) -> Tensor:
    """L_SR, with what function patterns and quiet zone add to it: (b, 3, side, side) -> (b,)."""
    target = placed.crop(placed.target.to(image)).expand(len(image), -1, -1, -1)
    scan = scanning_robust_loss(placed.crop(image), target, placed.module_size)
    return (
        scan
        + weights.pattern * pattern_loss(image, placed)
        + weights.quiet * quiet_loss(image, placed)
    )


def objective(
    image: Tensor, placed: PlacedCode, reference: Tensor, weights: Weights, perceptual: Perceptual
) -> Tensor:
    """λ1 L_SR + λ2 L_LPIPS of each picture: (b,).

    image, reference: (b, 3, side, side), [0, 1] but not clamped to it.
    """
    total = weights.scan * code_loss(image, placed, weights)
    if weights.perceptual:
        total = total + weights.perceptual * perceptual(2 * image - 1, 2 * reference - 1)
    return total


def lpips_distance(download: bool = False, net: str = "vgg") -> Perceptual:
    """LPIPS (Zhang et al. 2018) with its real backbone, for full-size pictures.

    Raises CourseError where the backbone is not in torch's cache and may not be downloaded.
    """
    try:
        import lpips
    except ImportError as error:
        raise CourseError("LPIPS needs the package lpips: pip install lpips.") from error
    from torchvision import models

    name = {"vgg": "VGG16_Weights", "alex": "AlexNet_Weights", "squeeze": "SqueezeNet1_1_Weights"}
    file = Path(getattr(models, name[net]).IMAGENET1K_V1.url).name
    cached = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not (download or cached.is_file()):
        raise CourseError(
            f"LPIPS needs {file}, which is not in {cached.parent}. Allow the download "
            "(download=True), or use the tiny image encoder's `perceptual_distance`."
        )
    return _per_image(lpips.LPIPS(net=net, verbose=False).eval().requires_grad_(False))


def _per_image(network: Any) -> Perceptual:
    return lambda a, b: network.to(a.device)(a, b).flatten()


def perceptual_here() -> Perceptual:
    """LPIPS where its backbone is cached, else the tiny image encoder's distance of its form."""
    try:
        return lpips_distance()
    except CourseError:
        return tiny_distance


def tiny_distance(a: Tensor, b: Tensor) -> Tensor:
    """`perceptual_distance` on the pictures' own device, with a copy of the encoder there."""
    encoder = load_image_encoder()
    if a.device.type != "cpu":
        encoder = copy.deepcopy(encoder).to(a.device)
    return perceptual_distance(a, b, encoder)
