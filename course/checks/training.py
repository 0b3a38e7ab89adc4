"""Lesson 03: what right answers satisfy, and the mistakes people make."""

import copy
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course import training as reference
from course.checks.engine import (
    Answer,
    Case,
    Exercise,
    Inputs,
    Mistake,
    UnusableError,
    give_weights,
)
from course.checks.forward_process import noising_cases, normal, steps
from course.forward_process import at, q_sample
from course.training import ResidualBlock, SelfAttention, Step, TrainState, UNet

# --- simple_loss ------------------------------------------------------------------------------


class Guess(nn.Module):
    """A stand-in for a network, with one weight: ε̂ = weight · x_t + t/10."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        return self.weight * xt + t.to(xt).reshape(-1, *[1] * (xt.ndim - 1)) / 10


def loss_cases() -> list[Case]:
    return [Case(case.label, {"model": Guess(), **case.inputs}) for case in noising_cases()]


def run_loss(answer: Answer, inputs: Inputs) -> dict[str, Any]:
    """The loss, and what training would get from it: its gradient, None where it has none."""
    loss = answer(**inputs)
    slope = None
    if isinstance(loss, Tensor) and loss.requires_grad:
        (slope,) = torch.autograd.grad(loss.sum(), list(inputs["model"].parameters()))
    return {"the loss": loss, "the gradient of its weight": slope}


Network = Callable[[Tensor, Tensor], Tensor]


def loss_of(measure: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Answer:
    """A loss that is some function of ε̂, ε, x_0 and x_t."""

    def simple_loss(
        model: Network, x0: Tensor, t: Tensor, eps: Tensor, alpha_bars: Tensor
    ) -> Tensor:
        xt = q_sample(x0, t, eps, alpha_bars)
        return measure(model(xt, t), eps, x0, xt)

    return simple_loss


def loss_of_clean_images(
    model: Network, x0: Tensor, t: Tensor, eps: Tensor, alpha_bars: Tensor
) -> Tensor:
    return F.mse_loss(model(x0, t), eps)


def loss_with_its_own_noise(
    model: Network, x0: Tensor, t: Tensor, eps: Tensor, alpha_bars: Tensor
) -> Tensor:
    eps = torch.randn_like(x0)
    return F.mse_loss(model(q_sample(x0, t, eps, alpha_bars), t), eps)


def loss_against_other_noise(
    model: Network, x0: Tensor, t: Tensor, eps: Tensor, alpha_bars: Tensor
) -> Tensor:
    return F.mse_loss(model(q_sample(x0, t, eps, alpha_bars), t), torch.randn_like(x0))


def loss_in_a_loop(
    model: Network, x0: Tensor, t: Tensor, eps: Tensor, alpha_bars: Tensor
) -> Tensor:
    total = torch.zeros((), dtype=x0.dtype)
    for i in range(len(x0)):
        one = slice(i, i + 1)
        alpha_bar = alpha_bars[t[i]].to(x0)
        xt = alpha_bar**0.5 * x0[one] + (1 - alpha_bar) ** 0.5 * eps[one]
        total = total + ((eps[one] - model(xt, t[one])) ** 2).sum()
    return total / x0.numel()


SIMPLE_LOSS = Exercise(
    reference.simple_loss,
    loss_cases,
    mistakes=[
        Mistake("You compare the prediction with x_0. This network predicts the *noise*: compare "
                "it with ε.", loss_of(lambda eps_hat, eps, x0, xt: F.mse_loss(eps_hat, x0))),
        Mistake("You compare the prediction with x_t, which the network was given; compare it "
                "with ε.", loss_of(lambda eps_hat, eps, x0, xt: F.mse_loss(eps_hat, xt))),
        Mistake("You sum the squares. Take their mean, or the loss grows with the batch and the "
                "image's size, and so would every step.",
                loss_of(lambda eps_hat, eps, x0, xt: F.mse_loss(eps_hat, eps, reduction="sum"))),
        Mistake("You sum each image's squares and average over images. The course averages over "
                "pixels too: the mean over every element.",
                loss_of(lambda eps_hat, eps, x0, xt:
                        ((eps_hat - eps) ** 2).flatten(1).sum(dim=1).mean())),
        Mistake("You return one loss per image; training needs one number, their mean.",
                loss_of(lambda eps_hat, eps, x0, xt:
                        ((eps_hat - eps) ** 2).flatten(1).mean(dim=1))),
        Mistake("That is the mean *absolute* error. A KL between Gaussians gives squares.",
                loss_of(lambda eps_hat, eps, x0, xt: F.l1_loss(eps_hat, eps))),
        Mistake("You took the root of the mean square; the loss is the mean square itself.",
                loss_of(lambda eps_hat, eps, x0, xt: F.mse_loss(eps_hat, eps).sqrt())),
        Mistake("The mean of plain differences: errors of opposite sign cancel. Square them.",
                loss_of(lambda eps_hat, eps, x0, xt: (eps_hat - eps).mean())),
        Mistake("Your loss carries no gradient (`detach`, `item` or `no_grad`): nothing could be "
                "trained with it.",
                loss_of(lambda eps_hat, eps, x0, xt: F.mse_loss(eps_hat, eps).detach())),
        Mistake("The network sees the clean image. Add the noise first: it is given x_t.",
                loss_of_clean_images),
        Mistake("You draw noise of your own; use the `eps` that is passed in, so that a step can "
                "be repeated.", loss_with_its_own_noise),
        Mistake("You compare with noise that was never in the image. The target is the very ε "
                "that made x_t.", loss_against_other_noise),
    ],
    alternatives=[
        loss_of(lambda eps_hat, eps, x0, xt: (eps - eps_hat).pow(2).mean()),
        loss_of(lambda eps_hat, eps, x0, xt:
                torch.einsum("i,i", (eps - eps_hat).flatten(), (eps - eps_hat).flatten())
                / eps.numel()),
        loss_in_a_loop,
    ],
    hints=["Noise the images with `q_sample`, ask the model, compare with what you added.",
           "The model is called as model(xt, t).",
           "F.mse_loss averages over every element."],
    run=run_loss,
)  # fmt: skip


# --- v_target ---------------------------------------------------------------------------------


def v_wrong(of_eps: Answer, of_x0: Answer) -> Answer:
    """v with other factors, each a function of ᾱ (T,)."""

    def v_target(x0: Tensor, t: Tensor, eps: Tensor, alpha_bars: Tensor) -> Tensor:
        return at(of_eps(alpha_bars), t, x0) * eps + at(of_x0(alpha_bars), t, x0) * x0

    return v_target


def v_by_turning(x0: Tensor, t: Tensor, eps: Tensor, alpha_bars: Tensor) -> Tensor:
    angle = at(torch.acos(alpha_bars.double().sqrt()), t, x0.double())
    return (torch.cos(angle) * eps - torch.sin(angle) * x0).to(x0.dtype)


def v_in_a_loop(x0: Tensor, t: Tensor, eps: Tensor, alpha_bars: Tensor) -> Tensor:
    each = [alpha_bars[i].to(x0) for i in t]
    parts = zip(each, x0, eps, strict=True)
    return torch.stack([a**0.5 * e - (1 - a) ** 0.5 * x for a, x, e in parts])


def v_misaligned(x0: Tensor, t: Tensor, eps: Tensor, alpha_bars: Tensor) -> Tensor:
    return alpha_bars[t].sqrt() * eps - (1 - alpha_bars[t]).sqrt() * x0


V_TARGET = Exercise(
    reference.v_target,
    noising_cases,
    mistakes=[
        Mistake("Your v has the opposite sign: it is √ᾱ ε − √(1 − ᾱ) x_0, the direction in which "
                "x_t moves as noise is added.",
                v_wrong(lambda a: -a.sqrt(), lambda a: (1 - a).sqrt())),
        Mistake("You added the two parts; in v the image is *subtracted*.",
                v_wrong(torch.sqrt, lambda a: (1 - a).sqrt())),
        Mistake("The factors have changed places: √ᾱ goes with ε, √(1 − ᾱ) with x_0. (In x_t it is "
                "the other way round.)", v_wrong(lambda a: (1 - a).sqrt(), lambda a: -a.sqrt())),
        Mistake("That is x_t. v has the same two factors, but changed over and with a minus.",
                v_wrong(lambda a: (1 - a).sqrt(), torch.sqrt)),
        Mistake("Both roots are missing: the factors are √ᾱ and √(1 − ᾱ), so that their squares "
                "add up to 1.", v_wrong(lambda a: a, lambda a: a - 1)),
        Mistake("You scaled x_0 by 1 − √ᾱ. The root is over the whole of 1 − ᾱ.",
                v_wrong(torch.sqrt, lambda a: a.sqrt() - 1)),
        Mistake("That is ε − x_0, the target of flow matching (lesson 13). v weights the two by √ᾱ "
                "and √(1 − ᾱ).", v_wrong(torch.ones_like, lambda a: -torch.ones_like(a))),
        Mistake("alpha_bars[t] has shape (b,), the images (b, c, h, w): shape it (b, 1, 1, 1), or "
                "it meets the wrong axis. `at` does it.", v_misaligned),
    ],
    alternatives=[v_by_turning, v_in_a_loop],
    hints=["Look the images' ᾱ up with `at(alpha_bars, t, x0)`.",
           "√ᾱ scales the noise and √(1 − ᾱ) the image, which is subtracted."],
)  # fmt: skip


# --- timestep_embedding -------------------------------------------------------------------------


def embedding_cases() -> list[Case]:
    return [
        Case("one step, two frequencies", {"t": steps(1), "dim": 4}),
        Case("a base of 100, so that the frequencies are 1 and 1/10",
             {"t": steps(2, 5), "dim": 4, "max_period": 100.0}),
        Case("five steps, as many as in training", {"t": steps(0, 1, 10, 500, 999), "dim": 128}),
        Case("t between steps", {"t": torch.tensor([0.5, 2.25, 100.0]), "dim": 6}),
    ]  # fmt: skip


def embedding_with(
    exponent: Callable[[Tensor, int], Tensor],
    arrange: Callable[[Tensor, Tensor], Tensor] = lambda s, c: torch.cat([s, c], dim=1),
    scale: float = 1.0,
) -> Answer:
    """An embedding whose frequency i is max_period^exponent(i, dim/2)."""

    def timestep_embedding(t: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
        half = dim // 2
        i = torch.arange(half, dtype=torch.float64)
        angles = (t[:, None].double() * scale) * max_period ** exponent(i, half)
        return arrange(angles.sin(), angles.cos()).float()

    return timestep_embedding


def falling(i: Tensor, half: int) -> Tensor:
    return -i / half


def embedding_in_a_loop(t: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    half = dim // 2
    frequencies = [1 / max_period ** (i / half) for i in range(half)]
    return torch.tensor([
        [math.sin(u * f) for f in frequencies] + [math.cos(u * f) for f in frequencies]
        for u in t.tolist()
    ])  # fmt: skip


def embedding_on_the_circle(t: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    half = dim // 2
    frequencies = torch.logspace(0, -math.log10(max_period), half + 1)[:-1]
    turned = torch.polar(torch.ones(len(t), half), torch.outer(t.float(), frequencies))
    return torch.cat([turned.imag, turned.real], dim=1)


TIMESTEP_EMBEDDING = Exercise(
    reference.timestep_embedding,
    embedding_cases,
    mistakes=[
        Mistake("Your cosines come first. Here the sines fill the first half (networks trained "
                "either way work, but not with each other's weights).",
                embedding_with(falling, lambda s, c: torch.cat([c, s], dim=1))),
        Mistake("Sines and cosines alternate in yours. Here all sines come first, then all "
                "cosines.", embedding_with(falling, lambda s, c: torch.stack([s, c], 2).flatten(1))),
        Mistake("You divided by dim/2 − 1, which reaches 1/max_period exactly. Here the divisor is "
                "dim/2, so the last frequency stops just short of it.",
                embedding_with(lambda i, half: -i / (half - 1))),
        Mistake("You divided i by dim; the frequencies then only fall to 1/√max_period. There are "
                "dim/2 of them: divide by dim/2.", embedding_with(lambda i, half: -i / (2 * half))),
        Mistake("Your frequencies grow. They start at 1 and *fall* to almost 1/max_period: the "
                "exponent is negative.", embedding_with(lambda i, half: i / half)),
        Mistake("Your frequencies begin with i = 1; the first is 1, at i = 0.",
                embedding_with(lambda i, half: -(i + 1) / half)),
        Mistake("Your frequencies are all the same (or evenly spaced in i): they fall by the same "
                "*factor* from each to the next.", embedding_with(lambda i, half: 0 * i)),
        Mistake("You multiplied by 2π. Here a frequency of 1 is one radian a step.",
                embedding_with(falling, scale=2 * math.pi)),
        Mistake("You divided t by 1000. t stays a step number: 0, 1, 2, …",
                embedding_with(falling, scale=1e-3)),
    ],
    alternatives=[embedding_with(falling), embedding_in_a_loop, embedding_on_the_circle],
    hints=["First the dim/2 frequencies: max_period ** (−i / (dim/2)) for i = 0, 1, 2, …",
           "The angles are every t times every frequency: (b, 1) against (dim/2,).",
           "torch.cat([sines, cosines], dim=1)."],
    atol=3e-4,  # sin(999) in float32 is only this exact
)  # fmt: skip


# --- Classes: built, given weights, called ------------------------------------------------------

Untrained = Callable[[nn.Module, list[Tensor]], Tensor]


def module_runner(kind: type[nn.Module], untrained: Untrained) -> Callable[[Answer, Inputs], Any]:
    """How a class of modules is used.

    Inputs that `__init__` knows build it; the others go to `forward` in order. The output is what
    it gives with weights drawn at random, and what `untrained` makes of one as it is born.
    """
    settings_of_init = inspect.signature(kind).parameters

    def run(answer: Answer, inputs: Inputs) -> dict[str, Any]:
        settings = {k: x for k, x in inputs.items() if k in settings_of_init}
        tensors = [x for k, x in inputs.items() if k not in settings]
        born = answer(**settings)
        module = give_weights(copy.deepcopy(born), kind, settings).to(tensors[0].dtype)
        return {
            "its output": module(*tensors),
            "what an untrained one does": untrained(born.to(tensors[0].dtype), tensors),
        }

    return run


def like(kind: type[nn.Module], **methods: Answer) -> type[nn.Module]:
    """A class like the reference, with some methods written otherwise."""
    return type(kind.__name__, (kind,), methods)


# --- ResidualBlock ------------------------------------------------------------------------------


def block_cases() -> list[Case]:
    return [
        Case("two by two pixels",
             {"in_channels": 8, "out_channels": 8, "emb_dim": 2,
              "x": normal(1, 8, 2, 2), "emb": normal(1, 2, seed=1)}),
        Case("more channels out than in",
             {"in_channels": 8, "out_channels": 16, "emb_dim": 4,
              "x": normal(3, 8, 5, 7, seed=2), "emb": normal(3, 4, seed=3)}),
        Case("fewer channels out than in, float64",
             {"in_channels": 16, "out_channels": 8, "emb_dim": 6,
              "x": normal(2, 16, 4, 3, dtype=torch.float64, seed=4),
              "emb": normal(2, 6, dtype=torch.float64, seed=5)}),
        Case("as many images as channels, rows and columns",
             {"in_channels": 8, "out_channels": 8, "emb_dim": 3,
              "x": normal(8, 8, 8, 8, seed=6), "emb": normal(8, 3, seed=7)}),
    ]  # fmt: skip


def effect_of_emb(block: nn.Module, tensors: list[Tensor]) -> Tensor:
    """What a change of the embedding changes in an untrained block: nothing."""
    x, emb = tensors
    return block(x, emb) - block(x, 0 * emb)


def block_with(
    first: Callable[[ResidualBlock, Tensor], Tensor] = lambda self, x: F.silu(self.norm1(x)),
    told: Callable[[ResidualBlock, Tensor], Tensor] = lambda self, emb: self.project(F.silu(emb)),
    second: Callable[[ResidualBlock, Tensor], Tensor] = lambda self, h: F.silu(self.norm2(h)),
    shortcut: Callable[[ResidualBlock, Tensor], Tensor] = lambda self, x: self.shortcut(x),
    last: Callable[[Tensor], Tensor] = lambda h: h,
) -> Answer:
    """A block some part of which is another."""

    def forward(self: ResidualBlock, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(first(self, x)) + told(self, emb)[:, :, None, None]
        return last(self.conv2(second(self, h)) + shortcut(self, x))

    return like(ResidualBlock, forward=forward)


def block_misaligned(self: ResidualBlock, x: Tensor, emb: Tensor) -> Tensor:
    h = self.conv1(F.silu(self.norm1(x))) + self.project(F.silu(emb))
    return self.conv2(F.silu(self.norm2(h))) + self.shortcut(x)


def block_told_late(self: ResidualBlock, x: Tensor, emb: Tensor) -> Tensor:
    h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
    return h + self.project(F.silu(emb))[:, :, None, None] + self.shortcut(x)


def block_not_zeroed(
    self: ResidualBlock, in_channels: int, out_channels: int, emb_dim: int
) -> None:
    ResidualBlock.__init__(self, in_channels, out_channels, emb_dim)
    self.conv2.reset_parameters()


def block_spelled_out(self: ResidualBlock, x: Tensor, emb: Tensor) -> Tensor:
    def silu(z: Tensor) -> Tensor:
        return z * torch.sigmoid(z)

    told = silu(emb) @ self.project.weight.T + self.project.bias
    h = F.conv2d(silu(self.norm1(x)), self.conv1.weight, self.conv1.bias, padding="same")
    h = torch.einsum("bchw,bc->bchw", torch.ones_like(h), told) + h
    return self.shortcut(x) + self.conv2(silu(self.norm2(h)))


def block_image_by_image(self: ResidualBlock, x: Tensor, emb: Tensor) -> Tensor:
    one = [ResidualBlock.forward(self, x[i : i + 1], emb[i : i + 1]) for i in range(len(x))]
    return torch.cat(one)


RESIDUAL_BLOCK = Exercise(
    ResidualBlock,
    block_cases,
    mistakes=[
        Mistake("The shortcut is missing: without it the block must relearn its input, and an "
                "untrained one passes nothing on.", block_with(shortcut=lambda self, x: 0 * self.shortcut(x))),
        Mistake("You add x itself. Where the number of channels changes, x goes through "
                "`self.shortcut` first.", block_with(shortcut=lambda self, x: x)),
        Mistake("The embedding has no effect on your block: add its projection between the two "
                "convolutions, or the block cannot know t.", block_with(told=lambda self, emb: 0 * self.project(emb))),
        Mistake("The embedding goes through a SiLU before it is projected.",
                block_with(told=lambda self, emb: self.project(emb))),
        Mistake("You applied the SiLU to the projected embedding; it belongs before the "
                "projection.", block_with(told=lambda self, emb: F.silu(self.project(emb)))),
        Mistake("The projected embedding has shape (b, c), the features (b, c, h, w): give it two "
                "axes more, [:, :, None, None], or it meets rows and columns.",
                like(ResidualBlock, forward=block_misaligned)),
        Mistake("You add the embedding after the second convolution: there it can only shift the "
                "output. Between the two it decides what the second one sees.",
                like(ResidualBlock, forward=block_told_late)),
        Mistake("SiLU first, then norm, in yours. The order is norm, SiLU, convolution.",
                block_with(lambda self, x: self.norm1(F.silu(x)),
                           second=lambda self, h: self.norm2(F.silu(h)))),
        Mistake("The norms are missing: each convolution is preceded by its norm and a SiLU.",
                block_with(lambda self, x: F.silu(x), second=lambda self, h: F.silu(h))),
        Mistake("The activations are missing: two convolutions in a row are but one.",
                block_with(lambda self, x: self.norm1(x), second=lambda self, h: self.norm2(h))),
        Mistake("You used ReLU. The block's activation is SiLU, x · sigmoid(x).",
                block_with(lambda self, x: F.relu(self.norm1(x)),
                           second=lambda self, h: F.relu(self.norm2(h)))),
        Mistake("You applied an activation to the sum. The shortcut ends in a plain addition, so "
                "that the block can hand its input on unchanged.", block_with(last=F.silu)),
        Mistake("The second convolution no longer starts with weights of zero: keep that line of "
                "`__init__`, so that an untrained block is its shortcut.",
                like(ResidualBlock, __init__=block_not_zeroed)),
    ],
    alternatives=[
        block_with(),
        like(ResidualBlock, forward=block_spelled_out),
        like(ResidualBlock, forward=block_image_by_image),
    ],
    hints=["Two times norm, SiLU, convolution; all layers are there in `__init__`.",
           "Between the two, add self.project(F.silu(emb)), shaped (b, c, 1, 1).",
           "At the end, add self.shortcut(x)."],
    run=module_runner(ResidualBlock, effect_of_emb),
)  # fmt: skip


# --- SelfAttention ------------------------------------------------------------------------------


def attention_cases() -> list[Case]:
    return [
        Case("two positions and one head", {"channels": 8, "heads": 1, "x": normal(1, 8, 1, 2)}),
        Case("four positions, in a row, and two heads",
             {"channels": 8, "heads": 2, "x": normal(1, 8, 1, 4, seed=4)}),
        Case("three images of 3 × 5, and as many heads as the default says",
             {"channels": 16, "x": normal(3, 16, 3, 5, seed=1)}),
        Case("as many positions as channels in a head",
             {"channels": 16, "heads": 4, "x": normal(2, 16, 2, 2, seed=2)}),
        Case("float64, two heads",
             {"channels": 24, "heads": 2, "x": normal(2, 24, 4, 3, seed=3, dtype=torch.float64)}),
    ]  # fmt: skip


def mixing_of_the_untrained(attention: nn.Module, tensors: list[Tensor]) -> Tensor:
    """How what an untrained attention adds differs from place to place: not at all."""
    (x,) = tensors
    added = attention(x) - x
    return added - added[:1, :, :1, :1]


def attention_with(
    weights: Callable[[Tensor, int], Tensor] = lambda scores, d: (scores / d**0.5).softmax(-1),
    heads: Callable[[SelfAttention], int] = lambda self: self.heads,
    norm: Callable[[SelfAttention, Tensor], Tensor] = lambda self, x: self.norm(x),
    last: Callable[[SelfAttention, Tensor, Tensor], Tensor] = lambda self, x, y: x + self.out(y),
    roles: tuple[int, int, int] = (0, 1, 2),
    turn_back: bool = True,
) -> Answer:
    """Attention some part of which is another. `weights` makes weights of scores and a head's size."""

    def forward(self: SelfAttention, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        n, d = heads(self), c // heads(self)
        parts = self.qkv(norm(self, x)).reshape(b, 3, n, d, h * w).transpose(-1, -2)
        q, k, v = (parts[:, role] for role in roles)
        mixed = weights(q @ k.transpose(-1, -2), d) @ v
        mixed = mixed.transpose(-1, -2) if turn_back else mixed
        return last(self, x, mixed.reshape(b, c, h, w))

    return like(SelfAttention, forward=forward)


def attention_between_channels(self: SelfAttention, x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    q, k, v = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).unbind(1)
    return x + self.out(F.scaled_dot_product_attention(q, k, v).reshape(b, c, h, w))


def attention_heads_interleaved(self: SelfAttention, x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    qkv = self.qkv(self.norm(x)).reshape(b, 3, c // self.heads, self.heads, h * w)
    q, k, v = qkv.permute(1, 0, 3, 4, 2)
    mixed = F.scaled_dot_product_attention(q, k, v)
    return x + self.out(mixed.permute(0, 3, 1, 2).reshape(b, c, h, w))


def attention_by_einsum(self: SelfAttention, x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    d = c // self.heads
    q, k, v = (
        part.reshape(b, self.heads, d, h * w) for part in self.qkv(self.norm(x)).chunk(3, dim=1)
    )
    weights = torch.einsum("bndi,bndj->bnij", q, k).div(d**0.5).softmax(dim=-1)
    mixed = torch.einsum("bnij,bndj->bndi", weights, v)
    return x + self.out(mixed.reshape(b, c, h, w))


def attention_head_by_head(self: SelfAttention, x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, dim=1)
    size = c // self.heads
    mixed = []
    for q_, k_, v_ in zip(q.split(size, 1), k.split(size, 1), v.split(size, 1), strict=True):
        scores = q_.transpose(1, 2) @ k_ / math.sqrt(size)
        mixed.append(v_ @ scores.softmax(dim=2).transpose(1, 2))
    return x + self.out(torch.cat(mixed, dim=1).reshape(b, c, h, w))


SELF_ATTENTION = Exercise(
    SelfAttention,
    attention_cases,
    mistakes=[
        Mistake("The shortcut is missing: what attention finds is *added* to x.",
                attention_with(last=lambda self, x, y: self.out(y))),
        Mistake("The last convolution, `self.out`, is missing.",
                attention_with(last=lambda self, x, y: x + y + 0 * self.out(y))),
        Mistake("The norm is missing: x is normalised before queries, keys and values are made.",
                attention_with(norm=lambda self, x: x)),
        Mistake("The scores are not divided by √(channels of a head): they grow with that number, "
                "and the softmax would look at one position alone.",
                attention_with(lambda scores, d: scores.softmax(-1))),
        Mistake("You divide the scores by the head's size; it is divided by its root.",
                attention_with(lambda scores, d: (scores / d).softmax(-1))),
        Mistake("Your softmax runs over the queries. The weights of one query add up to 1 over the "
                "*keys*: the last axis of q kᵀ.",
                attention_with(lambda scores, d: (scores / d**0.5).softmax(-2))),
        Mistake("You use one head for all channels; split them into `self.heads` groups.",
                attention_with(heads=lambda self: 1)),
        Mistake("Your first axis of three is not queries, keys, values in that order.",
                attention_with(roles=(1, 0, 2))),
        Mistake("You forgot to turn positions and channels back before the last reshape: shapes "
                "fit, but numbers land in other places.", attention_with(turn_back=False)),
        Mistake("Your attention is between channels. It is between positions: put those on the "
                "axis before the last, (b, heads, h·w, channels / heads).",
                like(SelfAttention, forward=attention_between_channels)),
        Mistake("Your heads take every n-th channel. A head's channels lie side by side: "
                "split c into (heads, c / heads), in that order.",
                like(SelfAttention, forward=attention_heads_interleaved)),
    ],
    alternatives=[
        attention_with(),
        like(SelfAttention, forward=attention_by_einsum),
        like(SelfAttention, forward=attention_head_by_head),
    ],
    hints=["self.qkv(self.norm(x)) is (b, 3c, h, w): reshape it to (b, 3, heads, c/heads, h·w).",
           "Swap the last two axes, take the three apart with unbind(dim=1), and hand them to "
           "F.scaled_dot_product_attention.",
           "Swap the axes back, reshape to (b, c, h, w), apply self.out and add x."],
    run=module_runner(SelfAttention, mixing_of_the_untrained),
)  # fmt: skip


# --- UNet ---------------------------------------------------------------------------------------


def unet_cases() -> list[Case]:
    return [
        Case("a small one", {"channels": (8, 8), "emb_dim": 4,
                             "xt": normal(1, 1, 8, 8), "t": steps(3)}),
        Case("all defaults", {"xt": normal(2, 1, 8, 8, seed=1), "t": steps(0, 999)}),
        Case("in colour, no folding",
             {"in_channels": 3, "channels": (8, 16), "emb_dim": 6, "patch": 1,
              "xt": normal(3, 3, 6, 10, seed=2), "t": steps(7, 500, 20)}),
        Case("folded by four, an odd size in the middle",
             {"channels": (16, 8), "emb_dim": 8, "patch": 4,
              "xt": normal(2, 1, 12, 20, seed=3), "t": steps(1, 40)}),
    ]  # fmt: skip


def effect_of_everything(unet: nn.Module, tensors: list[Tensor]) -> Tensor:
    """What its inputs change in an untrained network's output: nothing."""
    xt, t = tensors
    return unet(xt, t) - unet(-xt, t + 100)


def encode_with(
    skip1: Callable[[Tensor, Tensor], Tensor] = lambda before, after: after,
    attend: Callable[[UNet, Tensor], tuple[Tensor, Tensor]] = lambda self, h: (
        (self.attention(h),) * 2
    ),
    middle: Callable[[UNet, Tensor, Tensor], Tensor] = lambda self, h, emb: self.middle(h, emb),
) -> Answer:
    """The way down, some part of which is another. `attend` gives the skip and what goes on."""

    def encode(self: UNet, xt: Tensor, emb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stem = self.stem(F.pixel_unshuffle(xt, self.patch))
        h = self.down1(stem, emb)
        skip2, deep = attend(self, self.down2(self.shrink(h), emb))
        return skip1(stem, h), skip2, middle(self, deep, emb)

    return like(UNet, encode=encode)


def join(h: Tensor, skip: Tensor) -> Tensor:
    return torch.cat([h, skip], dim=1)


def enlarge_then_grow(self: UNet, h: Tensor, size: torch.Size) -> Tensor:
    return self.grow(F.interpolate(h, size=size))


def decode_with(
    joined: Callable[[Tensor, Tensor], Tensor] = join,
    enlarge: Callable[[UNet, Tensor, torch.Size], Tensor] = enlarge_then_grow,
    finish: Callable[[UNet, Tensor], Tensor] = lambda self, h: self.head(F.silu(self.norm(h))),
    unfold: Callable[[Tensor, int], Tensor] = F.pixel_shuffle,
) -> Answer:
    """The way up, some part of which is another."""

    def decode(self: UNet, skip1: Tensor, skip2: Tensor, h: Tensor, emb: Tensor) -> Tensor:
        h = self.up2(joined(h, skip2), emb)
        h = enlarge(self, h, skip1.shape[-2:])
        h = self.up1(joined(h, skip1), emb)
        return unfold(finish(self, h), self.patch)

    return like(UNet, decode=decode)


def unet_with(emb: Callable[[UNet, Tensor], Tensor]) -> Answer:
    """A network that is told of t in another way."""

    def forward(self: UNet, xt: Tensor, t: Tensor) -> Tensor:
        told = emb(self, t)
        return self.decode(*self.encode(xt, told), told)

    return like(UNet, forward=forward)


def fold_by_slices(xt: Tensor, p: int) -> Tensor:
    """pixel_unshuffle as strided slices: channel by channel, then row and column in the patch."""
    parts = [xt[:, :, i::p, j::p] for i in range(p) for j in range(p)]
    return torch.stack(parts, dim=2).flatten(1, 2)


def unet_in_one_go(self: UNet, xt: Tensor, t: Tensor) -> Tensor:
    emb = self.time_mlp(reference.timestep_embedding(t, self.emb_dim))
    wide = self.down1(self.stem(fold_by_slices(xt, self.patch)), emb)
    deep = self.attention(self.down2(self.shrink(wide), emb))
    h = self.up2(torch.cat((self.middle(deep, emb), deep), 1), emb)
    rows, columns = wide.shape[2:]
    h = h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)[:, :, :rows, :columns]
    h = self.up1(torch.cat((self.grow(h), wide), 1), emb)
    out = self.head(F.silu(self.norm(h)))
    b, _, rows, columns = out.shape
    p = self.patch
    out = out.reshape(b, -1, p, p, rows, columns).permute(0, 1, 4, 2, 5, 3)
    return out.reshape(b, -1, rows * p, columns * p)


def decode_through_add(self: UNet, skip1: Tensor, skip2: Tensor, h: Tensor, emb: Tensor) -> Tensor:
    h = self.up2(torch.hstack((h, skip2)), emb)
    h = self.grow(nn.Upsample(size=tuple(skip1.shape[-2:]), mode="nearest")(h))
    h = self.up1(torch.hstack((h, skip1)), emb)
    return nn.PixelShuffle(self.patch)(self.head(nn.SiLU()(self.norm(h))))


UNET = Exercise(
    UNet,
    unet_cases,
    mistakes=[
        Mistake("Your first skip is the stem's output. A skip is taken *after* its block: after "
                "`down1`.", encode_with(skip1=lambda before, after: before)),
        Mistake("Your second skip is taken before the attention; it is the attention's output.",
                encode_with(attend=lambda self, h: (h, self.attention(h)))),
        Mistake("The attention is left out.", encode_with(attend=lambda self, h: (h, h))),
        Mistake("The attention comes last in yours; its place is between `down2` and `middle`.",
                encode_with(attend=lambda self, h: (h, h),
                            middle=lambda self, h, emb: self.attention(self.middle(h, emb)))),
        Mistake("The middle block is left out.", encode_with(middle=lambda self, h, emb: h)),
        Mistake("You join the skip before h. Which comes first is a convention, but the weights "
                "know it: [h, skip].", decode_with(lambda h, skip: join(skip, h))),
        Mistake("You add the skips. They are joined as further channels, torch.cat(…, dim=1), "
                "which is why up1 and up2 take twice as many.", decode_with(lambda h, skip: h + skip)),
        Mistake("You double the size on the way up. An odd size was rounded on the way down "
                "(3 → 2 → 4): enlarge to the size of the skip.",
                decode_with(enlarge=lambda self, h, size: self.grow(F.interpolate(h, scale_factor=2)))),
        Mistake("You enlarge after `grow`. Enlarge first: `grow` then smooths the blocks that "
                "repeating pixels makes.",
                decode_with(enlarge=lambda self, h, size: F.interpolate(self.grow(h), size=size))),
        Mistake("You enlarge bilinearly; here each pixel is repeated (mode nearest, the default).",
                decode_with(enlarge=lambda self, h, size:
                            self.grow(F.interpolate(h, size=size, mode="bilinear")))),
        Mistake("The last norm and SiLU, before `head`, are missing.",
                decode_with(finish=lambda self, h: self.head(h))),
        Mistake("Your output is still folded: pixel_shuffle turns channels back into pixels.",
                decode_with(unfold=lambda h, patch: h)),
        Mistake("The blocks get the bare sines and cosines; `self.embed(t)` also sends them "
                "through the small network `time_mlp`.",
                unet_with(lambda self, t: reference.timestep_embedding(t, self.emb_dim))),
        Mistake("t has no effect on your network.", unet_with(lambda self, t: self.embed(0 * t))),
    ],
    alternatives=[
        like(UNet, forward=unet_in_one_go),
        like(UNet, decode=decode_through_add),
    ],
    hints=["Down: fold with F.pixel_unshuffle, stem, down1 (the first skip), shrink, down2, "
           "attention (the second skip), middle.",
           "Up: join h and the second skip, up2; enlarge to the first skip's size with "
           "F.interpolate, grow; join the first skip, up1; norm, SiLU, head; unfold.",
           "forward: emb = self.embed(t), then encode, then decode, with the same emb."],
    run=module_runner(UNet, effect_of_everything),
)  # fmt: skip


# --- ema_update ---------------------------------------------------------------------------------


def one_weight(value: float) -> nn.Module:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


def some_module(seed: int) -> nn.Module:
    """A layer and a batch norm, whose buffers are a running mean, a variance and a count."""
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for x in module.state_dict().values():
            count = not x.is_floating_point()
            x.copy_(torch.tensor(40 + seed) if count else torch.randn(x.shape, generator=generator))
    return module


def ema_cases() -> list[Case]:
    def pair(average: nn.Module, model: nn.Module, decay: float) -> Inputs:
        return {"ema": average.requires_grad_(False), "model": model, "decay": decay}

    several = [(decay, seed) for seed, decay in enumerate((0.999, 0.5, 0.0, 1.0))]
    trainable = {"ema": some_module(6), "model": some_module(7), "decay": 0.75}
    return [
        Case("one weight, by hand: the average is 2, the model has 4",
             pair(one_weight(2.0), one_weight(4.0), 0.9)),
        *[Case(f"decay {decay}", pair(some_module(2 * seed), some_module(2 * seed + 1), decay))
          for decay, seed in several],
        Case("the average's weights ask for gradients", trainable),
    ]  # fmt: skip


def run_ema(answer: Answer, inputs: Inputs) -> dict[str, Any]:
    """The average afterwards, and whether a graph for gradients hangs on its weights."""
    answer(**inputs)
    graph = any(p.grad_fn is not None for p in inputs["ema"].parameters())
    return {"the average": inputs["ema"], "a graph hangs on it": graph}


def mix_parameters(
    ema: nn.Module, model: nn.Module, new: Callable[[Tensor, Tensor], Tensor]
) -> None:
    with torch.no_grad():
        for average, current in zip(ema.parameters(), model.parameters(), strict=True):
            average.copy_(new(average, current))


def copy_buffers(ema: nn.Module, model: nn.Module) -> None:
    for kept, buffer in zip(ema.buffers(), model.buffers(), strict=True):
        kept.copy_(buffer)


def ema_with(new: Callable[[Tensor, Tensor, float], Tensor]) -> Answer:
    """An average whose weights become new(average, current, decay)."""

    def ema_update(ema: nn.Module, model: nn.Module, decay: float) -> None:
        mix_parameters(ema, model, lambda a, c: new(a, c, decay))
        copy_buffers(ema, model)

    return ema_update


def ema_without_buffers(ema: nn.Module, model: nn.Module, decay: float) -> None:
    mix_parameters(ema, model, lambda a, c: decay * a + (1 - decay) * c)


@torch.no_grad()
def ema_of_the_state(ema: nn.Module, model: nn.Module, decay: float) -> None:
    new = model.state_dict()
    for key, average in ema.state_dict().items():
        average.copy_(decay * average + (1 - decay) * new[key])


def ema_rebound(ema: nn.Module, model: nn.Module, decay: float) -> None:
    average: Tensor
    for average, current in zip(ema.parameters(), model.parameters(), strict=True):
        average = decay * average + (1 - decay) * current
    copy_buffers(ema, model)


def ema_with_gradients(ema: nn.Module, model: nn.Module, decay: float) -> None:
    for average, current in zip(ema.parameters(), model.parameters(), strict=True):
        average.mul_(decay).add_(current, alpha=1 - decay)
    copy_buffers(ema, model)


def ema_the_other_way(ema: nn.Module, model: nn.Module, decay: float) -> None:
    mix_parameters(model, ema, lambda current, average: decay * average + (1 - decay) * current)
    copy_buffers(ema, model)


def ema_by_data(ema: nn.Module, model: nn.Module, decay: float) -> None:
    for average, current in zip(ema.parameters(), model.parameters(), strict=True):
        average.data = average.data + (1 - decay) * (current.data - average.data)
    for kept, buffer in zip(ema.buffers(), model.buffers(), strict=True):
        kept.data = buffer.clone()


def ema_by_loading(ema: nn.Module, model: nn.Module, decay: float) -> None:
    weights = dict(ema.named_parameters())
    state = {k: x.detach().clone() for k, x in model.state_dict().items()}
    for key, average in weights.items():
        state[key] = state[key] * (1 - decay) + average.detach() * decay
    ema.load_state_dict(state)


EMA_UPDATE = Exercise(
    reference.ema_update,
    ema_cases,
    mistakes=[
        Mistake("`decay` and 1 − `decay` have changed places: with a decay of 0.995 the average "
                "keeps 99.5 % of itself.", ema_with(lambda a, c, decay: (1 - decay) * a + decay * c)),
        Mistake("You copied the model: nothing of the old average is left.",
                ema_with(lambda a, c, decay: c)),
        Mistake("The old average is not scaled down by `decay`, so the weights grow without end.",
                ema_with(lambda a, c, decay: a + (1 - decay) * c)),
        Mistake("You took the plain mean of the two; the weights are `decay` and 1 − `decay`.",
                ema_with(lambda a, c, decay: (a + c) / 2)),
        Mistake("Your average's weights stay as they were: `average = …` in a loop gives the *name* "
                "a new value. Change the tensor itself, in place (mul_, add_, copy_).", ema_rebound),
        Mistake("You left the buffers out. A batch norm's running statistics belong to the weights "
                "they were measured with: copy them.", ema_without_buffers),
        Mistake("You averaged the buffers too. They are averages or counts already: copy them.",
                ema_of_the_state),
        Mistake("Gradients are tracked through your average: decorate the function with "
                "@torch.no_grad(), or the graph grows with every step.", ema_with_gradients),
        Mistake("You changed the model and left the average: it is `ema` that moves.",
                ema_the_other_way),
    ],
    alternatives=[
        ema_by_data,
        ema_by_loading,
        ema_with(lambda a, c, decay: torch.lerp(c, a, decay)),
    ],
    hints=["Walk over zip(ema.parameters(), model.parameters()).",
           "In place: first shrink with mul_(decay), then add_ the model's part.",
           "Afterwards copy each buffer; and none of it needs gradients."],
    run=run_ema,
    may_change=frozenset({"ema"}),
)  # fmt: skip


# --- train --------------------------------------------------------------------------------------


class SecondOfTwo:
    """What `accelerate` looks like to the second of two processes, with the other imagined."""

    num_processes, process_index = 2, 1

    def prepare(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        return lambda x: model(x) + 1  # so that a loop which calls the bare model is found out

    def reduce(self, loss: Tensor, how: str) -> Tensor:
        return loss + 0.5


def train_cases() -> list[Case]:
    other = {"lr": 0.1, "ema_decay": 0.3, "clip": 0.05, "seed": 7}
    return [
        Case("three steps", {"steps": 3}),
        Case("five steps, with other settings", {"steps": 5, **other}),
        Case("a run that goes on after step 2", {"begin": 2, "steps": 5}),
        Case("the end of a long run", {"begin": 2000, "steps": 2003, "lr": 0.5}),
        Case("a run that is over", {"begin": 4, "steps": 3}),
        Case("the second of two processes", {"steps": 3, "processes": 2}),
    ]


def run_train(answer: Answer, inputs: Inputs) -> dict[str, Any]:
    """A run of a tiny model: what it yields, and the state that it leaves.

    `begin` is the step it goes on from, `processes` makes it the second of two; the other inputs
    are those of `train`.
    """
    settings = {k: x for k, x in inputs.items() if k not in ("begin", "processes")}
    settings["accelerator"] = SecondOfTwo() if "processes" in inputs else None
    begin, end = inputs.get("begin", 0), settings["steps"]
    state = TrainState.start(tiny_model(3))
    if begin:
        state.step, state.ema = begin, tiny_model(4)
    draws, most = itertools.count(), max(0, end - begin) + 2

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        if next(draws) > most:
            raise UnusableError("Your loop draws on and on: does it end at `steps`, and yield?")
        x, y = torch.randn(2, 4, 3, generator=generator)
        # Gradients of steps 0, 2, 4, … are small, the others large: clipping changes their ratio.
        return x, 5 * y, torch.full((4, 1), 3.0 if step % 2 else 0.03)

    def loss_fn(net: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        return (scale * (net(x) - y) ** 2).mean()

    walk = answer(state=state, draw=draw, loss_fn=loss_fn, **settings)
    if not isinstance(walk, Iterable):
        raise UnusableError("Your train yields nothing: after each step, `yield Step(…)`.")
    yielded = list(itertools.islice(walk, most))
    values = [value for step in yielded if isinstance(step, tuple) for value in step]
    return {
        "what it yields": yielded,
        "the state's step": state.step,
        "the model": state.model,
        "the average": state.ema,
        "a graph hangs on what it yields": any(
            isinstance(value, Tensor) and value.requires_grad for value in values
        ),
    }


def tiny_model(seed: int) -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return model


def flawed_train(flaw: str = "") -> Answer:
    """The loop with one flaw, or with none."""

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
        accelerator: Any = None,
    ) -> Iterator[Any]:
        weights = list(state.model.parameters())
        accelerator = None if flaw == "no accelerator" else accelerator
        net = state.model if accelerator is None else accelerator.prepare(state.model)
        net = state.model if flaw == "bare model" else net

        def average() -> None:
            warm = (1 + state.step) / (10 + state.step)
            decay = ema_decay if flaw == "no warm-up" else min(ema_decay, warm)
            reference.ema_update(state.ema, state.model, decay)

        if flaw == "from the start":
            state.step = 0
        while state.step < steps - (flaw == "last step missed"):
            rate = reference.learning_rate((state.step + (flaw == "late rate")) / steps, lr)
            rate = lr if flaw == "constant rate" else rate
            for group in state.optimizer.param_groups:
                group["lr"] = group["lr"] if flaw == "no rate" else rate
            same = flaw == "same draw"
            generator = reference.step_generator(seed, 0 if same else state.step)
            batch = draw(state.step, generator)
            whole = flaw == "whole batch"
            share = [x if whole else reference.own_share(x, accelerator) for x in batch]

            loss = loss_fn(net, *share)
            if flaw not in ("no zero_grad", "zero_grad last"):
                state.optimizer.zero_grad()
            loss.backward()
            if flaw == "gradients wiped":
                state.optimizer.zero_grad()
            late = flaw == "clip too late"
            free = late or flaw == "clip by value"
            norm = nn.utils.clip_grad_norm_(weights, math.inf if free else clip)
            if flaw == "clip by value":
                nn.utils.clip_grad_value_(weights, clip)
            if flaw == "early average":
                average()
            state.optimizer.step()
            if late:
                nn.utils.clip_grad_norm_(weights, clip)
            if flaw not in ("no average", "early average"):
                average()
            if flaw == "zero_grad last":  # no flaw at all: the next step finds them at zero
                state.optimizer.zero_grad()

            state.step += flaw not in ("stands still", "counts from 0")
            mean: Any = reference.mean_loss(loss.detach(), accelerator)
            if flaw == "graph kept":
                mean = loss + (mean - loss.item())
            yield Step(state.step, mean, norm.item(), rate)
            state.step += flaw == "counts from 0"

    return train


def train_as_a_for_loop(
    state: TrainState,
    draw: Callable[[int, torch.Generator], tuple[Tensor, ...]],
    loss_fn: Callable[..., Tensor],
    *,
    steps: int,
    lr: float = 2e-3,
    ema_decay: float = 0.995,
    clip: float = 1.0,
    seed: int = 0,
    accelerator: Any = None,
) -> list[tuple[int, float, float, float]]:
    """Another way: a for loop, gradients wiped first, clipped by hand; plain tuples in a list."""
    net = accelerator.prepare(state.model) if accelerator else state.model
    seen = []
    for step in range(state.step, steps):
        for p in state.model.parameters():
            p.grad = None
        batch = draw(step, reference.step_generator(seed, step))
        loss = loss_fn(net, *(reference.own_share(x, accelerator) for x in batch))
        loss.backward()
        slopes = [p.grad for p in state.model.parameters() if p.grad is not None]
        norm = torch.sqrt(sum((g.square().sum() for g in slopes), torch.zeros(())))
        for g in slopes:
            g.mul_(min(1.0, clip / (norm.item() + 1e-6)))
        rate = reference.learning_rate(step / steps, lr)
        state.optimizer.param_groups[0]["lr"] = rate
        state.optimizer.step()
        decay = min(ema_decay, (step + 1) / (step + 10))
        reference.ema_update(state.ema, state.model, decay)
        state.step = step + 1
        with torch.no_grad():
            seen.append((state.step, reference.mean_loss(loss, accelerator), norm.item(), rate))
    return seen


TRAIN = Exercise(
    reference.train,
    train_cases,
    mistakes=[
        Mistake("The gradients are never set to zero: each backward() adds to those of all steps "
                "before.", flawed_train("no zero_grad")),
        Mistake("You set the gradients to zero between backward() and step(): the optimizer sees "
                "none. Do it before backward().", flawed_train("gradients wiped")),
        Mistake("The average is never updated: the weights that sampling uses would stay at their "
                "random start.", flawed_train("no average")),
        Mistake("You update the average before the optimizer's step, so it is one step behind; it "
                "takes in the new weights.", flawed_train("early average")),
        Mistake("The average's decay has no warm-up: early on it would remember the random start. "
                "Use min(ema_decay, (1 + step) / (10 + step)), with the step before it advances.",
                flawed_train("no warm-up")),
        Mistake("The gradients that the optimizer uses are not clipped. Clip their norm to `clip` "
                "between backward() and step(): afterwards is too late.",
                flawed_train("clip too late")),
        Mistake("You clip each gradient by value; the *norm* of all of them together is clipped, "
                "which keeps their direction.", flawed_train("clip by value")),
        Mistake("The learning rate is never set. The optimizer was made with a rate of 0, so "
                "nothing moves: set group[\"lr\"] in every step.", flawed_train("no rate")),
        Mistake("Your learning rate is `lr` all the time; it is learning_rate(state.step / steps, "
                "lr), which warms up and falls to 0.", flawed_train("constant rate")),
        Mistake("Your learning rate is the next step's: set it before state.step advances.",
                flawed_train("late rate")),
        Mistake("state.step never advances: every step sees the same batch, and the loop does not "
                "end.", flawed_train("stands still")),
        Mistake("state.step advances after the yield: what you report counts from 0, and a run "
                "stopped there would do its last step twice.", flawed_train("counts from 0")),
        Mistake("The last step is missing: after it, state.step equals `steps`.",
                flawed_train("last step missed")),
        Mistake("You begin at step 0 again. A state may come from an interrupted run: go on from "
                "state.step.", flawed_train("from the start")),
        Mistake("Every step has the same generator; step_generator(seed, state.step) gives each "
                "its own.", flawed_train("same draw")),
        Mistake("You yield the loss with its graph: whoever keeps it keeps every layer's "
                "activations too. Yield a number.", flawed_train("graph kept")),
        Mistake("The accelerator is ignored: the model goes through accelerator.prepare, the batch "
                "through own_share, the loss through mean_loss.", flawed_train("no accelerator")),
        Mistake("The loss is computed with state.model. With an accelerator, it is the prepared "
                "model that shares gradients between the processes.", flawed_train("bare model")),
        Mistake("Every process computes the whole batch; own_share(x, accelerator) is its part.",
                flawed_train("whole batch")),
    ],
    alternatives=[flawed_train(), flawed_train("zero_grad last"), train_as_a_for_loop],
    hints=["The order: rate, batch, loss, zero_grad, backward, clip, optimizer step, average, "
           "advance, yield.",
           "while state.step < steps. The batch is draw(state.step, step_generator(seed, "
           "state.step)).",
           "nn.utils.clip_grad_norm_ clips in place and returns the norm before clipping.",
           "The average's decay is min(ema_decay, (1 + state.step) / (10 + state.step)); only then "
           "does state.step grow, and you yield Step(state.step, loss, norm, rate)."],
    run=run_train,
)  # fmt: skip

EXERCISES = [
    SIMPLE_LOSS,
    V_TARGET,
    TIMESTEP_EMBEDDING,
    RESIDUAL_BLOCK,
    SELF_ATTENTION,
    UNET,
    EMA_UPDATE,
    TRAIN,
]
