"""Lesson 03: a network that predicts the noise, its loss, and the course's one training loop."""

import copy
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course.forward_process import at, q_sample

if TYPE_CHECKING:
    from accelerate import Accelerator

# --- The network ---------------------------------------------------------------------------


def timestep_embedding(t: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Sines, then cosines, of t at dim/2 frequencies from 1 down to almost 1/max_period.

    t: (b,) -> (b, dim) float32 in [−1, 1]; frequency i is max_period^(−i/(dim/2)) (Vaswani et al.
    2017, section 3.5, with the sines first). Raises ValueError for an odd dim.
    """
    if dim % 2:
        raise ValueError(f"dim is even (half sines, half cosines), not {dim}.")
    half = dim // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, device=t.device) / half)
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class ResidualBlock(nn.Module):
    """Two convolutions, the time embedding added between them, and a shortcut around both.

    x: (b, in_channels, h, w); emb: (b, emb_dim) -> (b, out_channels, h, w). The weights of the
    second convolution start at zero: an untrained block is its shortcut, plus a constant a channel.
    """

    def __init__(self, in_channels: int, out_channels: int, emb_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.project = nn.Linear(emb_dim, out_channels)
        self.norm2 = nn.GroupNorm(8, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.project(F.silu(emb))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + self.shortcut(x)


class SelfAttention(nn.Module):
    """Every position looks at every other: multi-head attention with a shortcut.

    x: (b, channels, h, w) -> the same shape. `qkv` gives all queries, then all keys, then all
    values; in each, the first channels / heads channels are the first head's. The convolution `out`
    starts with weights of zero.
    """

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        # (b, 3c, h, w) -> three of (b, heads, h·w, c/heads): one row a position.
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(dim=1)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(-1, -2).reshape(b, c, h, w))


class UNet(nn.Module):
    """The network, at two resolutions; whether it predicts ε or v is decided by its loss.

    xt: (b, in_channels, h, w); t: (b,) -> (b, in_channels, h, w). `patch` folds each patch × patch
    square of pixels into channels first, so that no convolution runs at full size; h and w are
    multiples of it. `channels` are the widths at the two resolutions, multiples of 8.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: tuple[int, int] = (32, 64),
        emb_dim: int = 128,
        patch: int = 2,
    ) -> None:
        super().__init__()
        wide, deep = channels
        self.patch = patch
        self.emb_dim = emb_dim
        self.time_mlp = nn.Sequential(
            nn.Linear(emb_dim, emb_dim), nn.SiLU(), nn.Linear(emb_dim, emb_dim)
        )
        self.stem = nn.Conv2d(in_channels * patch**2, wide, 3, padding=1)
        self.down1 = ResidualBlock(wide, wide, emb_dim)
        self.shrink = nn.Conv2d(wide, deep, 3, stride=2, padding=1)
        self.down2 = ResidualBlock(deep, deep, emb_dim)
        self.attention = SelfAttention(deep)
        self.middle = ResidualBlock(deep, deep, emb_dim)
        self.up2 = ResidualBlock(deep + deep, deep, emb_dim)
        self.grow = nn.Conv2d(deep, wide, 3, padding=1)
        self.up1 = ResidualBlock(wide + wide, wide, emb_dim)
        self.norm = nn.GroupNorm(8, wide)
        self.head = nn.Conv2d(wide, in_channels * patch**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)

    def embed(self, t: Tensor) -> Tensor:
        """What every block is told about t: (b,) -> (b, emb_dim)."""
        return self.time_mlp(timestep_embedding(t, self.emb_dim))

    def encode(self, xt: Tensor, emb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The way down: the skip at each resolution, and the middle block's output."""
        h = self.stem(F.pixel_unshuffle(xt, self.patch))
        skip1 = self.down1(h, emb)
        skip2 = self.attention(self.down2(self.shrink(skip1), emb))
        return skip1, skip2, self.middle(skip2, emb)

    def decode(self, skip1: Tensor, skip2: Tensor, h: Tensor, emb: Tensor) -> Tensor:
        """The way up, each skip joined at its own resolution."""
        h = self.up2(torch.cat([h, skip2], dim=1), emb)
        h = self.grow(F.interpolate(h, size=skip1.shape[-2:]))
        h = self.up1(torch.cat([h, skip1], dim=1), emb)
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        emb = self.embed(t)
        return self.decode(*self.encode(xt, emb), emb)


# --- The loss and the average ----------------------------------------------------------------


def simple_loss(
    model: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    t: Tensor,
    eps: Tensor,
    alpha_bars: Tensor,
) -> Tensor:
    """The mean squared error between the noise and its prediction (DDPM eq. 14).

    x0, eps: (b, c, h, w); t: (b,) int64; alpha_bars: (T,) -> a scalar, the mean over every element.
    """
    xt = q_sample(x0, t, eps, alpha_bars)
    return F.mse_loss(model(xt, t), eps)


def v_target(x0: Tensor, t: Tensor, eps: Tensor, alpha_bars: Tensor) -> Tensor:
    """The velocity v = √ᾱ_t ε − √(1 − ᾱ_t) x_0 (Salimans & Ho 2022, appendix D).

    x0, eps: (b, c, h, w); t: (b,) int64; alpha_bars: (T,) -> (b, c, h, w). Mostly ε where the image
    is clean and mostly −x_0 where it is noise: a task of the same size at every t.
    """
    alpha_bar = at(alpha_bars, t, x0)
    return torch.sqrt(alpha_bar) * eps - torch.sqrt(1 - alpha_bar) * x0


def v_loss(
    model: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    t: Tensor,
    eps: Tensor,
    alpha_bars: Tensor,
) -> Tensor:
    """The mean squared error between v and its prediction; shapes as in `simple_loss`."""
    xt = q_sample(x0, t, eps, alpha_bars)
    return F.mse_loss(model(xt, t), v_target(x0, t, eps, alpha_bars))


@torch.no_grad()
def ema_update(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Move every parameter of `ema` a little towards `model`, in place.

    θ_ema ← decay · θ_ema + (1 − decay) · θ; decay in [0, 1]. Buffers (a batch norm's running
    statistics, say) are averages already and are copied.
    """
    for average, current in zip(ema.parameters(), model.parameters(), strict=True):
        average.mul_(decay).add_(current, alpha=1 - decay)
    for kept, buffer in zip(ema.buffers(), model.buffers(), strict=True):
        kept.copy_(buffer)


# --- The training loop -----------------------------------------------------------------------


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random numbers of one training step, whatever ran before it.

    A run that was interrupted, or that is spread over several processes, draws the same numbers.
    """
    # A 64-bit mix of two small integers, so that neighbouring steps are unrelated.
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9) % 2**63
    return torch.Generator().manual_seed(mixed)


@functools.lru_cache(maxsize=2)
def _shuffled(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=step_generator(seed, -1 - epoch))


def batch_indices(n: int, batch_size: int, step: int, seed: int = 0) -> Tensor:
    """Which of n examples training step `step` uses: (batch_size,) int64.

    Every epoch is a shuffle of its own, and no example is left out: a batch may end one epoch and
    begin the next.
    """
    positions = torch.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions // n
    parts = [_shuffled(n, seed, int(e))[positions[epochs == e] % n] for e in torch.unique(epochs)]
    return torch.cat(parts)


def learning_rate(done: float, peak: float, warmup: float = 0.02) -> float:
    """Up in a straight line for the first `warmup` of the run, then down a half cosine to 0.

    done: the fraction of the run behind us, in [0, 1]; peak: the largest learning rate.
    """
    if done < warmup:
        return peak * done / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


@dataclass
class TrainState:
    """All that a run needs to go on as if it had never stopped."""

    model: nn.Module
    ema: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def start(cls, model: nn.Module) -> "TrainState":
        """A run's beginning: its average is a copy of the model."""
        ema = copy.deepcopy(model).requires_grad_(False).eval()
        return cls(model, ema, torch.optim.Adam(model.parameters(), lr=0.0, betas=(0.9, 0.99)))


class Step(NamedTuple):
    """What one training step reports; `step` counts from 1."""

    step: int
    loss: float
    grad_norm: float
    lr: float


def train(
    state: TrainState,
    draw: Callable[[int, torch.Generator], tuple[Tensor, ...]],
    loss_fn: Callable[..., Tensor],
    *,
    steps: int,
    lr: float = 2e-3,
    ema_decay: float = 0.995,
    clip: float = 1.0,
    seed: int = 0,
    accelerator: "Accelerator | None" = None,
) -> Iterator[Step]:
    """Train `state.model` up to step `steps`, one step per `next()`, which gives its `Step`.

    `draw(step, generator)` gives everything random about a step: tensors whose first axis is the
    batch. `loss_fn(model, *tensors)` is a scalar and draws nothing. Gradients are clipped to a norm
    of `clip`. After step k (from 0) the average follows, with the decay
    min(ema_decay, (1 + k)/(10 + k)): early on it must not remember the random start. With an
    `accelerator`, each process computes its equal share of the same batch.
    """
    net = state.model if accelerator is None else accelerator.prepare(state.model)
    device = next(state.model.parameters()).device
    while state.step < steps:
        rate = learning_rate(state.step / steps, lr)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        batch = draw(state.step, step_generator(seed, state.step))
        batch = tuple(own_share(x, accelerator).to(device) for x in batch)

        loss = loss_fn(net, *batch)
        state.optimizer.zero_grad()
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(state.model.parameters(), clip)
        state.optimizer.step()
        # Early on the average has a short memory: its window grows with the run.
        ema_update(state.ema, state.model, min(ema_decay, (1 + state.step) / (10 + state.step)))

        state.step += 1
        yield Step(state.step, mean_loss(loss.detach(), accelerator), grad_norm.item(), rate)


def own_share(x: Tensor, accelerator: "Accelerator | None") -> Tensor:
    """This process's part of a batch: (b, …) -> (b / processes, …)."""
    if accelerator is None:
        return x
    if len(x) % accelerator.num_processes:
        raise ValueError(
            f"A batch of {len(x)} does not divide by {accelerator.num_processes} processes."
        )
    return x.chunk(accelerator.num_processes)[accelerator.process_index]


def mean_loss(loss: Tensor, accelerator: "Accelerator | None") -> float:
    """The loss over the whole batch, whoever computed which part."""
    return loss.item() if accelerator is None else accelerator.reduce(loss, "mean").item()
