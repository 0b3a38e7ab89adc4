"""SR-MPGD: the finished latent, walked downhill until every module is right with a margin."""

from collections.abc import Callable

import torch
from torch import Tensor

from course.diffqrcoder.guidance import Loss, loss_gradient

Unfinished = Callable[[Tensor], Tensor]
"""A clean latent -> which images are not done yet: (b,) bool."""


def mpgd_step(z: Tensor, loss: Loss, eta: float) -> Tensor:
    """z − η ∇_z loss, each image for itself (DiffQRCoder's SR-MPGD): as z.

    loss: z -> (b,), the decoder inside it. The gradient is taken as it is, so that η means what it
    says.
    """
    z = z.detach().requires_grad_()
    _, gradient = loss_gradient(loss, z, z)
    return (z - eta * gradient).detach()


def refine(
    z: Tensor, loss: Loss, unfinished: Unfinished, eta: float, steps: int
) -> tuple[Tensor, Tensor]:
    """SR-MPGD steps for the images that need them: the latents, and each one's steps, (b,) int64.

    An image that is done is not moved again. No scanner is asked: a code that was made until a
    scanner read it says nothing about that scanner.
    """
    taken = torch.zeros(len(z), dtype=torch.int64)
    for _ in range(steps):
        left = unfinished(z)
        if not left.any():
            break
        z = torch.where(left.to(z.device).reshape(-1, 1, 1, 1), mpgd_step(z, loss, eta), z)
        taken += left.long().cpu()
    return z, taken
