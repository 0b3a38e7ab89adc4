"""Lesson 07: one network with and without a label, and the step beyond the label."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from course.classifier_guidance import score_from_eps
from course.sampling import EpsModel, Kind, to_eps
from course.training import UNet, v_loss

NetworkWithLabel = Callable[[Tensor, Tensor, Tensor], Tensor]
Convention = Literal["slides", "ho_salimans", "imagen", "diffusers"]

# The γ that suits mnist-cfg best: `python -m tests.benchmarks guidance` measures why.
GUIDANCE_SCALE = 1.5

# --- From two noises to one --------------------------------------------------------------------


def implicit_gradient(
    eps_cond: Tensor, eps_uncond: Tensor, t: Tensor, alpha_bars: Tensor
) -> Tensor:
    """∇ log p(y | x_t) with no classifier: the score with the label minus the score without it.

    eps_cond, eps_uncond: (b, …), the noise predicted with and without the label; t: (b,) int64;
    alpha_bars: (T,) -> (b, …) (Ho & Salimans 2021, section 3.2).
    """
    with_label = score_from_eps(eps_cond, t, alpha_bars)
    return with_label - score_from_eps(eps_uncond, t, alpha_bars)


def guide(eps_cond: Tensor, eps_uncond: Tensor, guidance_scale: float) -> Tensor:
    """The guided noise γ ε(x, t, y) + (1 − γ) ε(x, t, ∅), with γ = `guidance_scale`.

    Both noises and the result: (b, c, h, w). γ = 0 ignores the label, γ = 1 is the conditional
    noise, γ > 1 goes beyond it.
    """
    return guidance_scale * eps_cond + (1 - guidance_scale) * eps_uncond


def scale_from_w(w: float) -> float:
    """γ from the paper's w, whose guided noise is (1 + w) ε(x, t, y) − w ε(x, t, ∅)."""
    return 1 + w


def guidance_scale_from(value: float, convention: Convention) -> float:
    """γ from the number that somebody else calls the guidance scale.

    `convention` says whose number `value` is: "slides" (γ itself), "ho_salimans" and "imagen" (each
    paper's w), "diffusers" (its pipelines' `guidance_scale`). Raises ValueError for another.
    """
    if convention in ("slides", "imagen"):
        return value
    if convention == "ho_salimans":
        return scale_from_w(value)
    if convention == "diffusers":
        # Up to 1 its pipelines do not guide at all: they use the conditional noise.
        return max(value, 1.0)
    raise ValueError(
        f'convention is "slides", "ho_salimans", "imagen" or "diffusers", not {convention!r}.'
    )


# --- One network for both ------------------------------------------------------------------------


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


def cfg_loss(
    network: NetworkWithLabel,
    x0: Tensor,
    t: Tensor,
    eps: Tensor,
    y: Tensor,
    u: Tensor,
    alpha_bars: Tensor,
    null: int,
    drop: float = 0.1,
) -> Tensor:
    """The loss of lesson 03 for v, the network told each label unless it is dropped.

    x0, eps: (b, c, h, w); t, y: (b,) int64; u: (b,) uniform in [0, 1), which decides what is
    dropped, as in `drop_labels`; alpha_bars: (T,) -> a scalar, the mean over every element.
    """
    told = drop_labels(y, u, drop, null)
    return v_loss(lambda xt, t: network(xt, t, told), x0, t, eps, alpha_bars)


# --- Sampling ----------------------------------------------------------------------------------


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
