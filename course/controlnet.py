"""Lesson 08: a locked network, a trainable copy of its encoder, and zero convolutions between."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course.classifier_free_guidance import ConditionalUNet, NetworkWithLabel, cfg_eps_model
from course.errors import CourseError
from course.sampling import EpsModel
from course.training import v_loss
from course.weights import card, load_weights

# (xt, t, y, condition) -> what is added to each skip and to the middle: a ControlNet, say.
Control = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]

# --- The condition, and how well it is kept ----------------------------------------------------


def edges(images: Tensor, threshold: float = 0.0) -> Tensor:
    """The outline of the ink: 1 where a pixel is no ink and one of its 8 neighbours is, else 0.

    images: (b, 1, h, w) in [−1, 1]; ink is what is brighter than `threshold` -> (b, 1, h, w) of 0
    and 1, in the images' dtype.
    """
    ink = (images > threshold).to(images)
    return F.max_pool2d(ink, 3, stride=1, padding=1) - ink


def share_near(these: Tensor, those: Tensor, tolerance: int) -> Tensor:
    """The share of the pixels of `these` that have a pixel of `those` within `tolerance`.

    these, those: (b, 1, h, w) of 0 and 1 -> (b,) in [0, 1]; 1 where `these` is empty. A pixel is
    within 1 of itself and of its 8 neighbours.
    """
    near = F.max_pool2d(those, 2 * tolerance + 1, stride=1, padding=tolerance)
    hits, count = (these * near).sum(dim=(1, 2, 3)), these.sum(dim=(1, 2, 3))
    return torch.where(count > 0, hits / count.clamp(min=1), 1.0)


def edge_f1(found: Tensor, wanted: Tensor, tolerance: int = 1) -> Tensor:
    """How well each edge map follows another, forgiving shifts of up to `tolerance` pixels.

    found, wanted: (b, 1, h, w) of 0 and 1 -> (b,) in [0, 1]: F1 = 2PR/(P + R), where the precision
    P is the share of found edges near a wanted one, and the recall R the share of wanted edges
    near a found one; 0 where both are 0.
    """
    precision = share_near(found, wanted, tolerance)
    recall = share_near(wanted, found, tolerance)
    return 2 * precision * recall / (precision + recall).clamp(min=1e-12)


# --- Zero convolution, lock and copy -------------------------------------------------------------


def zero_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 1 × 1 convolution whose weight and bias start at zero (ControlNet, section 3.1).

    (b, in_channels, h, w) -> (b, out_channels, h, w): zeros, until it is trained.
    """
    conv = nn.Conv2d(in_channels, out_channels, 1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def zero_conv_gradient(
    x: Tensor, weight: Tensor, grad_out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients that a 1 × 1 convolution gets, by the chain rule: of weight, bias and x.

    x: (b, i, h, w); weight: (o, i, 1, 1), zero or not; grad_out: (b, o, h, w), the gradient of the
    loss by the convolution's output -> (o, i, 1, 1), (o,), (b, i, h, w).
    """
    grad_weight = torch.einsum("bohw,bihw->oi", grad_out, x)[:, :, None, None]
    grad_bias = grad_out.sum(dim=(0, 2, 3))
    grad_x = torch.einsum("bohw,oi->bihw", grad_out, weight[:, :, 0, 0])
    return grad_weight, grad_bias, grad_x


def freeze(network: nn.Module) -> nn.Module:
    """Lock a network, in place: no parameter asks for a gradient, every part is in eval mode.

    Returns the same network.
    """
    return network.requires_grad_(False).eval()


# What leads up again, and is not copied.
DECODER = ("up2", "grow", "up1", "norm", "head")


def trainable_copy(base: ConditionalUNet) -> ConditionalUNet:
    """A copy of the network's way down, with weights of its own: they ask for gradients.

    The parts named in DECODER are left out. `base` stays as it is, locked or not.
    """
    twin = copy.deepcopy(base).requires_grad_(True).train()
    for part in DECODER:
        delattr(twin, part)
    return twin


class ControlNet(nn.Module):
    """What a condition adds to a locked UNet: to each of its skips, and to its middle.

    xt: (b, in_channels, h, w); t: (b,); y: (b,) int64; condition: (b, 1, h, w) -> three tensors,
    shaped like what `base.encode` gives (Zhang et al. 2023, section 3.2). The copy sees x_t and,
    after its stem, the embedded condition; each output leaves through a zero convolution.
    """

    def __init__(self, base: ConditionalUNet) -> None:
        super().__init__()
        wide, deep = base.stem.out_channels, base.shrink.out_channels
        self.twin = trainable_copy(base)
        self.embed_condition = nn.Sequential(
            nn.PixelUnshuffle(base.patch),
            nn.Conv2d(base.patch**2, wide, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(wide, wide, 3, padding=1),
            nn.SiLU(),
            zero_conv(wide, wide),
        )
        self.out1 = zero_conv(wide, wide)
        self.out2 = zero_conv(deep, deep)
        self.out_middle = zero_conv(deep, deep)

    def forward(
        self, xt: Tensor, t: Tensor, y: Tensor, condition: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        twin, emb = self.twin, self.twin.embed_with(t, y)
        h = twin.stem(F.pixel_unshuffle(xt, twin.patch)) + self.embed_condition(condition)
        skip1 = twin.down1(h, emb)
        skip2 = twin.attention(twin.down2(twin.shrink(skip1), emb))
        middle = twin.middle(skip2, emb)
        return self.out1(skip1), self.out2(skip2), self.out_middle(middle)


# --- The two together ----------------------------------------------------------------------------


def one_each(condition: Tensor, n: int) -> Tensor:
    """The conditions repeated in order until there are n. (b, 1, h, w) -> (n, 1, h, w).

    Guidance doubles a batch by putting it twice in a row, and so are its conditions. Raises
    ValueError where n is no multiple of b.
    """
    if n % len(condition):
        raise ValueError(f"{len(condition)} conditions cannot be shared out over {n} images.")
    return condition.repeat(n // len(condition), 1, 1, 1)


def controlled(
    base: ConditionalUNet, control: Control, condition: Tensor, strength: float = 1.0
) -> NetworkWithLabel:
    """The base under control, as a function (xt, t, y) -> its prediction, like the base's own.

    condition: (b, 1, h, w), repeated as `one_each` says; xt: (n, c, h, w) -> (n, c, h, w). What the
    ControlNet gives is added to the skips and the middle of the base, times `strength`: 0 is the
    base alone.
    """

    def network(xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
        emb = base.embed_with(t, y)
        pushes = control(xt, t, y, one_each(condition, len(xt)))
        parts = zip(base.encode(xt, emb), pushes, strict=True)
        skip1, skip2, h = (part + strength * push for part, push in parts)
        return base.decode(skip1, skip2, h, emb)

    return network


def control_loss(
    control: Control,
    base: ConditionalUNet,
    x0: Tensor,
    t: Tensor,
    eps: Tensor,
    y: Tensor,
    condition: Tensor,
    alpha_bars: Tensor,
) -> Tensor:
    """The loss that the base was trained with, of the base under control at full strength.

    x0, eps: (b, c, h, w); t, y: (b,) int64; condition: (b, 1, h, w); alpha_bars: (T,) -> a scalar:
    the mean squared error of the predicted v.
    """
    network = controlled(base, control, condition)
    return v_loss(lambda xt, t: network(xt, t, y), x0, t, eps, alpha_bars)


def controlled_eps_model(
    base: ConditionalUNet,
    control: Control,
    condition: Tensor,
    y: Tensor,
    alpha_bars: Tensor,
    guidance_scale: float = 1.0,
    strength: float = 1.0,
) -> EpsModel:
    """Label and condition at once: the guided noise (xt, t) -> eps_hat of the base under control.

    condition: (b, 1, h, w); y: (b,) int64; alpha_bars: (T,). With the label and without it, the
    network is under the same control: the guidance amplifies the label alone.
    """
    network = controlled(base, control, condition, strength)
    return cfg_eps_model(network, y, base.null, alpha_bars, guidance_scale)


# --- The shipped weights -------------------------------------------------------------------------


def load_base(name: str = "mnist-cfg") -> ConditionalUNet:
    """The shipped network of lesson 07, locked. Raises CourseError as `load_weights` does."""
    base = load_weights(ConditionalUNet(**card(name)["config"]), name)
    freeze(base)
    return base.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load_controlnet(
    name: str = "mnist-controlnet", folder: Path | None = None
) -> tuple[ConditionalUNet, ControlNet]:
    """A trained ControlNet, and before it the locked base that it was trained on.

    Raises CourseError as `load_weights` does, and where the shipped base is another than that one.
    """
    trained_on = card(name, folder)["config"]
    base_name, here = trained_on["base"], card(trained_on["base"])["sha256"]
    if here != trained_on["base_sha256"]:
        raise CourseError(
            f"The weights {name!r} belong to another {base_name!r}: to the one with the SHA-256 "
            f"{trained_on['base_sha256'][:8]}…, and here is {here[:8]}…. Train them on this one: "
            f"`python -m course train {name} --publish`."
        )
    base = load_base(base_name)
    control = load_weights(ControlNet(base), name, folder)
    return base, control.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
