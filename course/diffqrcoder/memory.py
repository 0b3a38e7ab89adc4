"""How much memory a guided step takes at full size, counted without a GPU and without the weights.

Stable Diffusion 1.5, its ControlNet and VGG are built from their dimensions as fake tensors, which
have a shape and a dtype but no numbers. Every operation, backward too, then runs in no time, and
what is counted is the bytes of the storages that are alive. Not counted: the GPU's own context,
the work space of its convolutions, and what the allocator loses between blocks.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from course.diffqrcoder.codes import PlacedCode
from course.diffqrcoder.guidance import (
    controlled,
    decoded,
    loss_gradient,
    predicted_z0,
    srpg_term,
)
from course.diffqrcoder.objective import Weights, objective

GIB = 2**30


# --- Counting ------------------------------------------------------------------------------------


class LiveStorages(TorchDispatchMode):
    """While it is entered, the bytes of all storages that were made since: `live`, and the `peak`.

    Storages are counted, not tensors: a view costs nothing, and what autograd has saved counts for
    as long as it is saved. Real and fake tensors alike.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}
        self._alive: dict[int, weakref.ref] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.count(leaf)
        return out

    def count(self, x: Tensor) -> None:
        """Add a tensor's storage, once; it is taken off again when it dies."""
        storage = x.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        # A storage may grow under our eyes: what counts is its size now.
        self.live += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        self.peak = max(self.peak, self.live)
        if key not in self._alive:
            self._alive[key] = weakref.ref(storage, lambda _: self._forget(key))

    def _forget(self, key: int) -> None:
        self.live -= self._sizes.pop(key)
        del self._alive[key]


@contextlib.contextmanager
def building(dtype: torch.dtype) -> Iterator[None]:
    """New tensors are of this dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


# --- The models at full size ---------------------------------------------------------------------

# Stable Diffusion 1.5 and the ControlNets made for it, as diffusers' constructors want them; what
# is not named is diffusers' default.
WIDTHS = (320, 640, 1280, 1280)
UNET = {"sample_size": 64, "block_out_channels": WIDTHS, "cross_attention_dim": 768}
CONTROLNET = {"block_out_channels": WIDTHS, "cross_attention_dim": 768}
VAE = {
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
# VGG16's convolutions: how wide, in five stages with a pooling between (Simonyan & Zisserman 2014).
VGG = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
WORDS = 77  # how many vectors the text encoder gives


class VGGDistance(nn.Module):
    """LPIPS with VGG16: the weighted squared distance of its stages' unit features.

    a, b: (b, 3, h, w) -> (b,). Built for its size; its weights are random.
    """

    def __init__(self, stages: tuple[tuple[int, ...], ...] = VGG) -> None:
        super().__init__()
        widths = [3, *(stage[-1] for stage in stages)]
        self.stages = nn.ModuleList(
            _vgg_stage(narrow, stage, pooled=i > 0)
            for i, (narrow, stage) in enumerate(zip(widths, stages, strict=False))
        )
        self.weights = nn.ModuleList(nn.Conv2d(w, 1, 1, bias=False) for w in widths[1:])

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        total = a.new_zeros(len(a))
        for stage, weight in zip(self.stages, self.weights, strict=True):
            a, b = stage(a), stage(b)
            apart = (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square()
            total = total + weight(apart).mean(dim=(1, 2, 3))
        return total


def _vgg_stage(narrow: int, widths: tuple[int, ...], pooled: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.MaxPool2d(2)] if pooled else []
    for before, width in zip((narrow, *widths), widths, strict=False):
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Parts(NamedTuple):
    """What one guided step needs."""

    unet: Any
    controlnet: Any
    vae: Any
    perceptual: nn.Module


def sd15_parts(dtype: torch.dtype = torch.float16) -> Parts:
    """Stable Diffusion 1.5, ControlNet and VGG, untrained; where tensors are fake, in no memory."""
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel

    with building(dtype):
        models = (UNet2DConditionModel(**UNET), ControlNetModel(**CONTROLNET))
        vae = AutoencoderKL(**VAE)
    # The losses are in float32 whatever the models are: sums over pixels overflow in float16.
    parts = Parts(*models, vae, VGGDistance())
    for part in parts:
        part.eval().requires_grad_(False)
    return parts


# --- One guided step -----------------------------------------------------------------------------


class Savings(NamedTuple):
    """What a step does to need less memory."""

    checkpointing: bool = False  # in UNet, ControlNet and the VAE's decoder
    tiling: bool = False  # decode in tiles; slices of a batch would save one picture nothing
    jacobian: bool = True  # differentiate through the UNet and the ControlNet, too


def apply_savings(parts: Parts, savings: Savings) -> None:
    """Switch checkpointing and tiles on or off in all parts that know them."""
    for part in (parts.unet, parts.controlnet, parts.vae):
        (part.enable_gradient_checkpointing if savings.checkpointing
         else part.disable_gradient_checkpointing)()  # fmt: skip
    (parts.vae.enable_tiling if savings.tiling else parts.vae.disable_tiling)()


def guided_step(
    parts: Parts, z: Tensor, words: Tensor, reference: Tensor, module_size: int, jacobian: bool
) -> Tensor:
    """One step's guided ε̂, with classifier-free guidance and control: as z.

    z: (1, 4, h, w); words: (2, 77, d), without and with the prompt; reference: x̂, (1, 3, 8h, 8w).
    The code, of version 3, is all light, the noise levels are made up, and the weights are random:
    here only sizes count.
    """
    code, grid = torch.zeros(29, 29, dtype=torch.bool), reference.shape[-1] // module_size
    placed = PlacedCode(code, grid, module_size)
    condition = placed.target.expand(1, 3, -1, -1)
    alpha_bars, t = torch.linspace(0.99, 0.01, 100).to(z), torch.tensor([50])

    def loss(z0: Tensor) -> Tensor:
        picture = decoded(parts.vae, z0)
        return objective(picture, placed, reference, Weights(), parts.perceptual)

    network = controlled(parts.unet, parts.controlnet, words, condition, guidance_scale=7.5)
    z = z.detach().requires_grad_()
    eps_hat, z0 = predicted_z0(network, z, t, alpha_bars, "eps", jacobian)
    _, gradient = loss_gradient(loss, z0, z)
    return eps_hat.detach() + srpg_term(gradient, t, alpha_bars)


# --- The simulation ------------------------------------------------------------------------------


class Peak(NamedTuple):
    """In bytes: what the parts take, and the most that was alive during a step, parts included."""

    parts: int
    step: int


def peak_memory(build: Callable[[], Parts], savings: Savings, size: int, module_size: int) -> Peak:
    """Build the parts and count one guided step of one picture of `size` × `size` pixels.

    Under FakeTensorMode nothing is computed; without it, everything is.
    """
    with LiveStorages() as count:
        parts = build()
        apply_savings(parts, savings)
        before = count.live
        words = torch.zeros(2, WORDS, parts.unet.config.cross_attention_dim).to(parts.unet.dtype)
        z = torch.zeros(1, parts.vae.config.latent_channels, size // 8, size // 8)
        reference = torch.zeros(1, 3, size, size)
        count.peak = count.live
        guided_step(parts, z, words, reference, module_size, savings.jacobian)
    return Peak(before, count.peak)


def simulated_peak(savings: Savings, size: int = 736, module_size: int = 16) -> Peak:
    """The peak of Stable Diffusion 1.5 with ControlNet, in float16, and VGG, on fake tensors.

    size: of the picture in pixels, a multiple of 8. Raises ValueError for another, and as
    `PlacedCode` does for one that version 3's modules do not fit.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    if size < 8 or size % 8:
        raise ValueError(f"size is a multiple of 8 pixels, not {size}.")
    with FakeTensorMode():
        return peak_memory(sd15_parts, savings, size, module_size)
