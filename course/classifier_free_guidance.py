"""Lesson 07: one network with and without a label, and the step beyond the label."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from course.sampling import EpsModel, Kind, to_eps
from course.training import UNet

NetworkWithLabel = Callable[[Tensor, Tensor, Tensor], Tensor]


class ConditionalUNet(UNet):
    """The UNet of lesson 03, told a label beside the time; the label `null` means "none given".

    xt: (b, in_channels, h, w); t: (b,); y: (b,) int64 in 0…null -> (b, in_channels, h, w). `null`
    is `num_classes`: a label of its own, which is no class.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        channels: tuple[int, int] = (32, 64),
        emb_dim: int = 128,
        patch: int = 2,
    ) -> None:
        super().__init__(in_channels, channels, emb_dim, patch)
        self.null = num_classes
        self.label_embedding = nn.Embedding(num_classes + 1, emb_dim)

    def embed_with(self, t: Tensor, y: Tensor) -> Tensor:
        """What every block is told: time and label, (b,), (b,) -> (b, emb_dim)."""
        return self.embed(t) + self.label_embedding(y)

    def forward(self, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        emb = self.embed_with(t, y)
        return self.decode(*self.encode(xt, emb), emb)


def drop_labels(y: Tensor, u: Tensor, drop: float, null: int) -> Tensor:
    """The labels with a share `drop` of them replaced by `null` (Ho & Salimans 2021, algorithm 1).

    y: (b,) int64; u: (b,) uniform in [0, 1): a label is dropped where u < drop -> (b,) int64.
    """
    return torch.where(u < drop, null, y)


def guide(eps_cond: Tensor, eps_uncond: Tensor, guidance_scale: float) -> Tensor:
    """The guided noise γ ε(x, t, y) + (1 − γ) ε(x, t, ∅), with γ = `guidance_scale`.

    Both noises and the result: (b, c, h, w). γ = 0 ignores the label, γ = 1 is the conditional
    noise, γ > 1 goes beyond it.
    """
    return guidance_scale * eps_cond + (1 - guidance_scale) * eps_uncond


def scale_from_w(w: float) -> float:
    """γ from the paper's w, whose guided noise is (1 + w) ε(x, t, y) − w ε(x, t, ∅)."""
    return 1 + w


def cfg_eps_model(
    network: NetworkWithLabel,
    y: Tensor,
    null: int,
    alpha_bars: Tensor,
    guidance_scale: float,
    kind: Kind = "v",
) -> EpsModel:
    """The guided noise as the function (xt, t) -> eps_hat that samplers call.

    y: (b,) int64, a label for each image. With and without the label go through the network
    together, as one batch of 2b.
    """

    def eps_model(xt: Tensor, t: Tensor) -> Tensor:
        labels = torch.cat([y, torch.full_like(y, null)])
        twice, times = torch.cat([xt, xt]), torch.cat([t, t])
        eps_hat = to_eps(network(twice, times, labels), twice, times, alpha_bars, kind)
        eps_cond, eps_uncond = eps_hat.chunk(2)
        return guide(eps_cond, eps_uncond, guidance_scale)

    return eps_model
