"""An autoencoder that starts as principal components (lesson 01), and improves from there.

Every residual block of `AutoencoderKL` begins as its shortcut; what is left is convolutions, and
one normalisation and one SiLU at the end of each half. Both can be made to do nothing: a channel
beside its negative gives silu(x) − silu(−x) = x, and channels of a large constant keep the
normalisation's divisor nearly the same for every picture. So the whole encoder can compute, before
any training, the components of 8 × 8 squares, and the decoder a smooth picture of them.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# A constant channel's value: large beside the signals, which are of size 1.
STEADY = 3.0


def principal_squares(x: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """The `keep` first principal components of 2 × 2 squares, and what centres them.

    x: (n, c, h, w) -> the weight (keep, c, 2, 2) and the bias (keep,) of a convolution of stride 2.
    """
    squares = F.unfold(x, 2, stride=2).transpose(1, 2).reshape(-1, 4 * x.shape[1])
    mean = squares.mean(dim=0)
    _, vectors = torch.linalg.eigh((squares - mean).T.cov(correction=0))
    # The eigenvalues come in ascending order.
    components = vectors.flip(1)[:, :keep].T
    return components.reshape(keep, -1, 2, 2), -components @ mean


@torch.no_grad()
def start_as_components(vae: Any, images: Tensor) -> Any:
    """Set an untrained autoencoder's weights from some images: (n, 3, h, w) in [−1, 1]."""
    for name, parameter in vae.named_parameters():
        if ".conv2." in name:
            nn.init.zeros_(parameter)
    for conv in (vae.quant_conv, vae.post_quant_conv):
        pass_on(conv, conv.in_channels)
    _start_decoder(vae.decoder, _start_encoder(vae.encoder, images), images)
    return vae


def pass_on(conv: Any, channels: int) -> None:
    """The first channels go through a convolution unchanged; the others as chance had it."""
    nn.init.dirac_(conv.weight[:channels])
    nn.init.zeros_(conv.bias[:channels])


def _start_encoder(encoder: Any, images: Tensor) -> Tensor:
    """Components of components, three times over; returns the latents of the images."""
    pass_on(encoder.conv_in, 3)
    x = images
    for block in encoder.down_blocks[:-1]:
        conv = block.downsamplers[0].conv
        if block.resnets[0].conv_shortcut is not None:
            pass_on(block.resnets[0].conv_shortcut, x.shape[1])
        weight, bias = principal_squares(x, min(4 * x.shape[1], conv.out_channels))
        nn.init.zeros_(conv.weight[: len(bias)])
        conv.weight[: len(bias), : x.shape[1], :2, :2] = weight
        conv.bias[: len(bias)] = bias
        x = F.conv2d(x, weight, bias, stride=2)
    return _start_latents(encoder, x)


def _start_latents(encoder: Any, x: Tensor) -> Tensor:
    """The first components as latents, each scaled to the square root of its own size."""
    k = encoder.conv_out.out_channels // 2
    size = x[:, :k].std(dim=(0, 2, 3))
    scale = 1 / (size * size.mean()).sqrt()
    shortcut = encoder.down_blocks[-1].resnets[0].conv_shortcut
    steady = (shortcut.out_channels - 2 * k) // 4 * 2
    nn.init.zeros_(shortcut.weight[: 2 * k + steady])
    _read_signed(shortcut, torch.diag(scale), torch.zeros(k), steady)
    z = x[:, :k] * scale[:, None, None]
    others = shortcut.out_channels - 2 * k - steady
    # Chance's other channels: weights of variance 1/(3 · inputs) each.
    power = 2 * k * z.square().mean() + steady * STEADY**2 + others * x.square().mean() / 3
    _undo(encoder.conv_norm_out, power / shortcut.out_channels)
    _subtract_signs(encoder.conv_out, k)
    # Log-variances: a little noise, of 0.05.
    encoder.conv_out.bias[k:] = -6
    return z


def _start_decoder(decoder: Any, z: Tensor, images: Tensor) -> None:
    """The latents, enlarged smoothly three times, and the colours that fit them best."""
    k = z.shape[1]
    pass_on(decoder.conv_in, k)
    each, tent = torch.arange(k), torch.tensor([0.25, 0.5, 0.25])
    for block in decoder.up_blocks[:-1]:
        if block.resnets[0].conv_shortcut is not None:
            pass_on(block.resnets[0].conv_shortcut, k)
        # On doubled pixels, a tent interpolates linearly.
        conv = block.upsamplers[0].conv
        nn.init.zeros_(conv.weight[:k]), nn.init.zeros_(conv.bias[:k])
        conv.weight[each, each] = torch.outer(tent, tent)
        z = F.interpolate(z, scale_factor=2, mode="bilinear", align_corners=False)
    colours, grey = _best_colours(z, images)
    shortcut = decoder.up_blocks[-1].resnets[0].conv_shortcut
    nn.init.zeros_(shortcut.weight)
    steady = shortcut.out_channels - 6
    _read_signed(shortcut, colours, grey, steady)
    power = 6 * images.square().mean() + steady * STEADY**2
    _undo(decoder.conv_norm_out, power / shortcut.out_channels)
    _subtract_signs(decoder.conv_out, 3)


def _best_colours(z: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """The least-squares map from enlarged latents to RGB: (3, k) and (3,)."""
    pixels = z.movedim(1, -1).reshape(-1, z.shape[1])
    known = torch.cat([pixels, torch.ones(len(pixels), 1)], dim=1)
    fit = torch.linalg.lstsq(known, images.movedim(1, -1).reshape(-1, 3)).solution
    return fit[:-1].T, fit[-1]


def _read_signed(conv: Any, weight: Tensor, bias: Tensor, steady: int) -> None:
    """Channels weight · x + bias, then the same negated, then constants of both signs."""
    out, inputs = weight.shape
    for sign, first in ((1, 0), (-1, out)):
        conv.weight[first : first + out, :inputs, 0, 0] = sign * weight
        conv.bias[first : first + out] = sign * bias
    conv.bias[2 * out : 2 * out + steady : 2] = STEADY
    conv.bias[2 * out + 1 : 2 * out + steady : 2] = -STEADY


def _undo(norm: nn.GroupNorm, power: Tensor) -> None:
    """Multiply by what the normalisation will have divided by."""
    nn.init.constant_(norm.weight, power.sqrt().item())
    nn.init.zeros_(norm.bias)


def _subtract_signs(conv: Any, channels: int) -> None:
    """silu(x) − silu(−x) = x, for the channels that `_read_signed` made; nothing for the others."""
    nn.init.zeros_(conv.weight), nn.init.zeros_(conv.bias)
    middle, each = conv.weight[:, :, 1, 1], torch.arange(channels)
    middle[each, each] = 1
    middle[each, channels + each] = -1
