"""SRPG, scanning-robust perceptual guidance: the denoiser's noise, bent towards a code."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from course.forward_process import at
from course.sampling import Kind, predict_x0, to_eps

Network = Callable[[Tensor, Tensor], Tensor]
"""(z_t, t) -> what the network predicts, guided by the prompt already: (b, c, h, w)."""
Loss = Callable[[Tensor], Tensor]
"""Pictures, or clean latents -> each one's loss (b,)."""


def controlled(
    unet: Any,
    controlnet: Any,
    words: Tensor,
    condition: Tensor,
    guidance_scale: float,
    control_scale: float = 1.0,
) -> Network:
    """UNet and ControlNet under classifier-free guidance, as a function (z_t, t) -> output.

    words: (2b, l, d), those of the empty prompts first; condition: (b, 3, H, W) in [0, 1].
    """
    twice = condition.repeat(2, 1, 1, 1).to(words.dtype)

    def predict(z: Tensor, t: Tensor) -> Tensor:
        pair, both = torch.cat([z, z]).to(words.dtype), torch.cat([t, t])
        down, middle = controlnet(
            pair, both, words, twice, conditioning_scale=control_scale, return_dict=False
        )
        outputs = unet(
            pair,
            both,
            words,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        without, told = outputs.chunk(2)
        return (without + guidance_scale * (told - without)).float()

    return predict


def decoded(vae: Any, z: Tensor) -> Tensor:
    """Scaled latents as pictures, in [0, 1] but not clamped: (b, c, h, w) -> (b, 3, H, W)."""
    z = (z / vae.config.scaling_factor).to(vae.dtype)
    return vae.decode(z).sample.float() / 2 + 0.5


def predicted_z0(
    network: Network, zt: Tensor, t: Tensor, alpha_bars: Tensor, kind: Kind, jacobian: bool = True
) -> tuple[Tensor, Tensor]:
    """The network's ε̂ and the clean latent z̃_{0|t} that it implies, as functions of z_t.

    Without `jacobian` the network is called outside the gradient and ε̂ counts as a constant: z̃_0
    depends on z_t through the closed form alone.
    """
    with torch.set_grad_enabled(jacobian):
        eps_hat = to_eps(network(zt, t), zt, t, alpha_bars, kind)
    return eps_hat, predict_x0(zt, t, eps_hat, alpha_bars)


def loss_gradient(loss: Loss, x: Tensor, zt: Tensor) -> tuple[Tensor, Tensor]:
    """Each image's loss at x, (b,), and its gradient by z_t, on which x depends: as zt.

    The losses are added up, not averaged: no image's gradient depends on what is beside it.
    """
    losses = loss(x)
    (gradient,) = torch.autograd.grad(losses.sum(), zt)
    return losses.detach(), gradient


def unit(gradient: Tensor) -> Tensor:
    """Each image's gradient scaled to a mean square of 1; one that is 0 stays 0: as gradient."""
    size = gradient.float().square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return (gradient.float() / size.clamp(min=1e-12)).to(gradient.dtype)


def srpg_term(
    gradient: Tensor, t: Tensor, alpha_bars: Tensor, step: Tensor | None = None
) -> Tensor:
    """What guidance adds to ε̂ (DiffQRCoder's SRPG): as gradient.

    gradient: of the weighted losses by z_t. Without `step` it is the paper's √(1 − ᾱ_t) ∇. With
    `step`, (b,), the direction is kept, but its length is such that z̃_0 moves by `step`, as a root
    mean square: raw gradients are huge at some t and nothing at others.
    """
    alpha_bar = at(alpha_bars, t, gradient)
    if step is None:
        return torch.sqrt(1 - alpha_bar) * gradient
    length = step.to(gradient).reshape(-1, 1, 1, 1) * torch.sqrt(alpha_bar / (1 - alpha_bar))
    return length * unit(gradient)


def step_length(losses: Tensor, most: float, ease: float = 0.5) -> Tensor:
    """How far one guided step moves z̃_0: `most`, and less once a loss is below `ease`: (b,)."""
    return most * (losses / ease).clamp(max=1)
