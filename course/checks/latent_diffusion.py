"""Lesson 05: what right answers satisfy, and the mistakes people make."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course import latent_diffusion as reference
from course.checks.engine import Answer, Case, Exercise, Inputs, Mistake
from course.checks.forward_process import normal
from course.checks.sampling import SHORT
from course.checks.training import like, module_runner, run_loss
from course.forward_process import alpha_bars_from_betas
from course.latent_diffusion import (
    VAE,
    count_flops,
    decode_latents,
    kl_to_standard_normal,
    reparameterise,
)
from course.sampling import sample

Formula = Callable[[Tensor, Tensor, Tensor], Tensor]


def moments(
    *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Means and log-variances, the latter around −1."""
    return normal(*shape, seed=seed, dtype=dtype), normal(*shape, seed=seed + 1, dtype=dtype) - 1


def one(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value)


# --- reparameterise -------------------------------------------------------------------------------


def reparameterise_cases() -> list[Case]:
    by_hand = {"mean": one(1.0), "logvar": one(2 * math.log(3)), "eps": one(-0.5)}
    cases = [Case("one latent of mean 1 and standard deviation 3, by hand", by_hand)]
    for label, shape, dtype in [
        ("three images", (3, 4, 2, 2), torch.float32),
        ("as many images as columns", (5, 2, 3, 5), torch.float32),
        ("float64", (2, 4, 3, 6), torch.float64),
    ]:
        mean, logvar = moments(*shape, dtype=dtype)
        eps = normal(*shape, seed=2, dtype=dtype)
        cases.append(Case(label, {"mean": mean, "logvar": logvar, "eps": eps}))
    return cases


def run_reparameterise(answer: Answer, inputs: Inputs) -> dict[str, Any]:
    """The draw, and what training would get through it: its slopes, None where there are none."""
    mean, logvar = (inputs[k].clone().requires_grad_() for k in ("mean", "logvar"))
    z = answer(mean=mean, logvar=logvar, eps=inputs["eps"])
    slopes: tuple[Tensor | None, ...] = (None, None)
    if isinstance(z, Tensor) and z.requires_grad:
        slopes = torch.autograd.grad(z.sum(), [mean, logvar], allow_unused=True)
    return {"z": z, "the slope of z by mean": slopes[0], "the slope of z by logvar": slopes[1]}


def draw_with(formula: Formula) -> Answer:
    """reparameterise by a formula of mean, log-variance and ε."""
    return lambda mean, logvar, eps: formula(mean, logvar, eps)


@torch.no_grad()
def draw_without_gradients(mean: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mean + (logvar / 2).exp() * eps


REPARAMETERISE = Exercise(
    reference.reparameterise,
    reparameterise_cases,
    run=run_reparameterise,
    mistakes=[
        Mistake("You scaled the noise by exp(logvar), the *variance*. A normal variable is its mean "
                "plus its standard deviation times ε: the root of that.",
                draw_with(lambda m, lv, e: m + lv.exp() * e)),
        Mistake("You scaled the noise by logvar itself. It is a *logarithm*, and may be negative; "
                "take it back with exp.", draw_with(lambda m, lv, e: m + lv * e)),
        Mistake("You scaled the noise by exp(logvar / 2) of the wrong sign: a large log-variance "
                "must give a wide draw.", draw_with(lambda m, lv, e: m + (-lv / 2).exp() * e)),
        Mistake("You scaled the noise by √logvar, which is NaN wherever the variance is below 1. "
                "First exp, then the root.", draw_with(lambda m, lv, e: m + lv.sqrt() * e)),
        Mistake("There is no noise in your draw: that is the mean.",
                draw_with(lambda m, lv, e: m + 0 * lv * e)),
        Mistake("You scaled the mean as well. Only the noise is scaled; the mean shifts it.",
                draw_with(lambda m, lv, e: (m + e) * (lv / 2).exp())),
        Mistake("You drew noise of your own. Use the `eps` that came in: then a run can be repeated.",
                draw_with(lambda m, lv, e: m + (lv / 2).exp() * torch.randn_like(m))),
        Mistake("One noise serves your whole batch. Each image has its own.",
                draw_with(lambda m, lv, e: m + (lv / 2).exp() * e[:1])),
        Mistake("The values are right, but no gradient flows through them, so the encoder would "
                "learn nothing. No `no_grad`, `detach` or `item` here.", draw_without_gradients),
    ],
    alternatives=[
        draw_with(lambda m, lv, e: m + lv.exp().sqrt() * e),
        draw_with(lambda m, lv, e: torch.addcmul(m, e, torch.exp(lv / 2))),
        lambda mean, logvar, eps: torch.stack([
            m + math.e ** (lv / 2) * e for m, lv, e in zip(mean, logvar, eps, strict=True)]),
    ],
    hints=["A normal variable with mean m and standard deviation s is m + s ε.",
           "logvar = log s². What is s? Mind the root.",
           "exp(½ log s²) = s."],
)  # fmt: skip


# --- VAE --------------------------------------------------------------------------------------------


def vae_cases() -> list[Case]:
    return [
        Case("one image, a narrow network",
             {"width": 8, "latent_channels": 1,
              "x": normal(1, 1, 28, 28), "eps": normal(1, 1, 7, 7, seed=1)}),
        Case("all defaults", {"x": normal(3, 1, 28, 28, seed=2), "eps": normal(3, 4, 7, 7, seed=3)}),
        Case("float64",
             {"width": 8, "latent_channels": 2,
              "x": normal(2, 1, 28, 28, seed=4, dtype=torch.float64),
              "eps": normal(2, 2, 7, 7, seed=5, dtype=torch.float64)}),
    ]  # fmt: skip


def vae_with(forward: Callable[..., Any]) -> type[nn.Module]:
    """A VAE whose forward is some function of itself, mean, log-variance and ε."""
    return like(VAE, forward=lambda self, x, eps: forward(self, *self.encode(x), eps))


class SpelledOutVAE(VAE):
    def forward(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        both = self.encoder(x)
        half = both.shape[1] // 2
        mean, logvar = both[:, :half], both[:, half:]
        return self.decoder(mean + logvar.exp().sqrt() * eps), mean, logvar


VAE_FORWARD = Exercise(
    VAE,
    vae_cases,
    run=module_runner(VAE, untrained=lambda vae, tensors: vae(*tensors)),
    mistakes=[
        Mistake("You decoded the mean. In training the decoder sees a *draw* from q(z | x): without "
                "its noise this is an ordinary autoencoder.",
                vae_with(lambda self, m, lv, e: (self.decode(m), m, lv))),
        Mistake("You decoded the noise: it has not met the image's mean and variance yet.",
                vae_with(lambda self, m, lv, e: (self.decode(e), m, lv))),
        Mistake("You returned mean and log-variance the other way round.",
                vae_with(lambda self, m, lv, e: (self.decode(reparameterise(m, lv, e)), lv, m))),
        Mistake("`reparameterise` takes the mean first, then the log-variance.",
                vae_with(lambda self, m, lv, e: (self.decode(reparameterise(lv, m, e)), m, lv))),
        Mistake("You returned the variance. The loss asks for its logarithm, as `encode` gave it.",
                vae_with(lambda self, m, lv, e: (self.decode(reparameterise(m, lv, e)), m, lv.exp()))),
        Mistake("You clipped the reconstruction. In training it stays as the decoder gives it: "
                "where it is clipped, no gradient would say how to mend it.",
                vae_with(lambda self, m, lv, e:
                         (self.decode(reparameterise(m, lv, e)).clamp(-1, 1), m, lv))),
        Mistake("Three things are to be returned: the reconstruction, the mean, the log-variance.",
                vae_with(lambda self, m, lv, e: self.decode(reparameterise(m, lv, e)))),
    ],
    alternatives=[
        SpelledOutVAE,
        vae_with(lambda self, m, lv, e: (self.decoder(torch.lerp(m, m + (lv / 2).exp(), e)), m, lv)),
    ],
    hints=["Three steps: encode x, draw z, decode z.",
           "`reparameterise(mean, logvar, eps)` is the draw."],
)  # fmt: skip


# --- kl_to_standard_normal --------------------------------------------------------------------------


def kl_cases() -> list[Case]:
    by_hand = {"mean": one(1.0), "logvar": one(2 * math.log(3))}
    cases = [Case("one latent of mean 1 and standard deviation 3, by hand", by_hand)]
    prior = {"mean": torch.zeros(2, 1, 2, 2), "logvar": torch.zeros(2, 1, 2, 2)}
    cases.append(Case("the standard normal itself", prior))
    for label, shape, dtype in [
        ("three images", (3, 4, 2, 2), torch.float32),
        ("as many images as columns", (5, 2, 3, 5), torch.float32),
        ("float64", (2, 4, 3, 6), torch.float64),
    ]:
        mean, logvar = moments(*shape, dtype=dtype)
        cases.append(Case(label, {"mean": mean, "logvar": logvar}))
    return cases


def kl_of(formula: Callable[[Tensor, Tensor], Tensor]) -> Answer:
    """The KL by a formula for each latent, summed over an image's latents."""
    return lambda mean, logvar: formula(mean, logvar).flatten(1).sum(dim=1)


def each_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """Every latent's own KL: (b, c, h, w)."""
    return (mean.square() + logvar.exp() - logvar - 1) / 2


def kl_in_a_loop(mean: Tensor, logvar: Tensor) -> Tensor:
    total = torch.zeros(len(mean), dtype=mean.dtype)
    for i, (m, v) in enumerate(zip(mean, logvar.exp(), strict=True)):
        total[i] = 0.5 * (m.norm() ** 2 + v.sum() - m.numel() - v.log().sum())
    return total


KL_TO_STANDARD_NORMAL = Exercise(
    reference.kl_to_standard_normal,
    kl_cases,
    mistakes=[
        Mistake("You averaged over an image's latents. The KL of independent latents is the *sum* of "
                "theirs; an average quietly makes its weight smaller, by the number of latents.",
                lambda mean, logvar: each_kl(mean, logvar).flatten(1).mean(dim=1)),
        Mistake("You summed over the batch as well. Each image has its own KL: (b,).",
                lambda mean, logvar: each_kl(mean, logvar).sum()),
        Mistake("You summed over the channels alone. An image's latents are all its channels, rows "
                "and columns: (b,) is left.",
                lambda mean, logvar: each_kl(mean, logvar).sum(dim=1)),
        Mistake("logvar has the wrong sign. A narrow posterior (logvar far below 0) must cost more: "
                "it says more.", kl_of(lambda m, lv: 0.5 * (m**2 + lv.exp() - 1 + lv))),
        Mistake("All of it has the wrong sign: a KL is never negative.",
                kl_of(lambda m, lv: -each_kl(m, lv))),
        Mistake("The factor ½ is missing.", kl_of(lambda m, lv: 2 * each_kl(m, lv))),
        Mistake("The −1 is missing: the KL from the standard normal to itself must be 0.",
                kl_of(lambda m, lv: each_kl(m, lv) + 0.5)),
        Mistake("You used the standard deviation where the variance belongs: exp(logvar), without ½.",
                kl_of(lambda m, lv: 0.5 * (m**2 + (lv / 2).exp() - 1 - lv))),
        Mistake("You took logvar for the variance. It is the variance's logarithm.",
                kl_of(lambda m, lv: 0.5 * (m**2 + lv - 1 - lv.log()))),
        Mistake("The mean is not squared.", kl_of(lambda m, lv: 0.5 * (m + lv.exp() - 1 - lv))),
        Mistake("That is the KL the other way round, from the standard normal to q. The average is "
                "over q's draws, so q comes first.",
                kl_of(lambda m, lv: 0.5 * ((m**2 + 1) / lv.exp() - 1 + lv))),
    ],
    alternatives=[
        kl_in_a_loop,
        lambda mean, logvar: -0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp(), (1, 2, 3)),
        lambda mean, logvar: torch.distributions.kl_divergence(
            torch.distributions.Normal(mean, (logvar / 2).exp()),
            torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean)),
        ).sum((1, 2, 3)),
    ],
    hints=["Start with one latent: ½ (mean² + variance − 1 − log variance).",
           "The variance is exp(logvar), and its logarithm is what you were given.",
           "`flatten(1)` makes (b, c·h·w) of (b, c, h, w); then sum over dim 1."],
)  # fmt: skip


# --- vae_loss ---------------------------------------------------------------------------------------


class StandIn(nn.Module):
    """In place of a VAE, with one weight: every output depends on it, and the first on ε."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        grey = x.flatten(1).mean(dim=1)[:, None, None, None]
        mean, logvar = self.weight + grey + eps.cos(), self.weight * eps.sin() - 1
        return self.weight * x + eps.flatten(1).mean(dim=1)[:, None, None, None], mean, logvar


def vae_loss_cases() -> list[Case]:
    def inputs(x: Tensor, eps: Tensor, kl_weight: float) -> Inputs:
        return {"vae": StandIn(), "x": x, "eps": eps, "kl_weight": kl_weight}

    double = {"dtype": torch.float64}
    return [
        Case("one pixel, one latent", inputs(one(1.0), one(0.5), 0.5)),
        Case("a small weight", inputs(normal(3, 1, 6, 6), normal(3, 2, 3, 3, seed=1), 0.05)),
        Case("a large one", inputs(normal(4, 1, 4, 8, seed=2), normal(4, 3, 2, 2, seed=3), 2.0)),
        Case("float64", inputs(normal(2, 1, 4, 4, **double), normal(2, 4, 2, 2, **double), 0.3)),  # type: ignore[arg-type]
    ]


def run_vae_loss(answer: Answer, inputs: Inputs) -> dict[str, Any]:
    """The loss and its gradient."""
    return run_loss(lambda model, vae, **rest: answer(vae=vae, **rest),
                    {"model": inputs["vae"], **inputs})  # fmt: skip


def vae_loss_of(combine: Callable[[Tensor, Tensor, float], Tensor]) -> Answer:
    """A loss of the squared differences (b, …), the KL of each image (b,), and the weight."""

    def vae_loss(vae: Answer, x: Tensor, eps: Tensor, kl_weight: float) -> Tensor:
        reconstruction, mean, logvar = vae(x, eps)
        squares = (x - reconstruction).square()
        return combine(squares, kl_to_standard_normal(mean, logvar), kl_weight)

    return vae_loss


def summed(x: Tensor) -> Tensor:
    return x.flatten(1).sum(dim=1)


def vae_loss_with_latent_mean(vae: Answer, x: Tensor, eps: Tensor, kl_weight: float) -> Tensor:
    reconstruction, mean, logvar = vae(x, eps)
    kl = each_kl(mean, logvar).flatten(1).mean(dim=1)
    return (summed((x - reconstruction).square()) / 2 + kl_weight * kl).mean()


def vae_loss_with_own_noise(vae: Answer, x: Tensor, eps: Tensor, kl_weight: float) -> Tensor:
    return reference.vae_loss(vae, x, torch.randn_like(eps), kl_weight)


def vae_loss_without_noise(vae: Answer, x: Tensor, eps: Tensor, kl_weight: float) -> Tensor:
    return reference.vae_loss(vae, x, torch.zeros_like(eps), kl_weight)


def vae_loss_in_a_loop(vae: Answer, x: Tensor, eps: Tensor, kl_weight: float) -> Tensor:
    total = torch.zeros((), dtype=x.dtype)
    for i in range(len(x)):
        back, mean, logvar = vae(x[i : i + 1], eps[i : i + 1])
        kl = each_kl(mean, logvar).sum()
        total = total + (back - x[i : i + 1]).pow(2).sum() / 2 + kl * kl_weight
    return total / len(x)


VAE_LOSS = Exercise(
    reference.vae_loss,
    vae_loss_cases,
    run=run_vae_loss,
    mistakes=[
        Mistake("You averaged the squares over pixels and summed the KL over latents. Both are sums "
                "over one image; otherwise the KL weighs as many times more as there are pixels.",
                vae_loss_of(lambda s, kl, w: (0.5 * s.flatten(1).mean(dim=1) + w * kl).mean())),
        Mistake("You averaged the KL over latents and summed the squares over pixels. Both are sums "
                "over one image; otherwise the KL hardly counts.", vae_loss_with_latent_mean),
        Mistake("You took the KL away. The ELBO has it with a minus, and the loss is the *negative* "
                "ELBO.", vae_loss_of(lambda s, kl, w: (0.5 * summed(s) - w * kl).mean())),
        Mistake("The ½ before the squares is missing; it comes from the normal density.",
                vae_loss_of(lambda s, kl, w: (summed(s) + w * kl).mean())),
        Mistake("The KL is not weighted.",
                vae_loss_of(lambda s, kl, w: (0.5 * summed(s) + kl).mean())),
        Mistake("The KL is missing. What is left is a plain autoencoder's loss.",
                vae_loss_of(lambda s, kl, w: (0.5 * summed(s)).mean())),
        Mistake("You weighted the squares. `kl_weight` belongs to the KL.",
                vae_loss_of(lambda s, kl, w: (0.5 * w * summed(s) + kl).mean())),
        Mistake("You summed over the batch. The loss is the batch's mean, so that it does not grow "
                "with the number of images.",
                vae_loss_of(lambda s, kl, w: (0.5 * summed(s) + w * kl).sum())),
        Mistake("You took the norm ‖x − x̂‖; the density has its square.",
                vae_loss_of(lambda s, kl, w: (0.5 * summed(s).sqrt() + w * kl).mean())),
        Mistake("You drew noise of your own. Hand `eps` on to the VAE.", vae_loss_with_own_noise),
        Mistake("You gave the VAE no noise. Hand `eps` on to it.", vae_loss_without_noise),
    ],
    alternatives=[
        vae_loss_in_a_loop,
        vae_loss_of(lambda s, kl, w: (s.sum() / 2 + w * kl.sum()) / len(kl)),
        vae_loss_of(lambda s, kl, w: 0.5 * s[0].numel() * s.mean() + w * kl.mean()),
    ],
    hints=["`vae(x, eps)` gives all three things you need.",
           "Squares: `.flatten(1).sum(dim=1)` leaves one number an image, as the KL does.",
           "Add the two for each image; average over the batch at the very end."],
)  # fmt: skip


# --- psnr -------------------------------------------------------------------------------------------


def psnr_cases() -> list[Case]:
    def inputs(*shape: int, dtype: torch.dtype = torch.float32) -> Inputs:
        x = normal(*shape, dtype=dtype).clamp(-1, 1)
        return {"x": x, "reconstruction": (x + 0.1 * normal(*shape, seed=1, dtype=dtype))}

    by_hand = {"x": torch.ones(1, 1, 2, 2), "reconstruction": torch.full((1, 1, 2, 2), 0.8)}
    perfect = inputs(3, 1, 4, 4)
    perfect["reconstruction"][1] = perfect["x"][1]
    return [
        Case("every pixel 0.2 off, by hand", by_hand),
        Case("three images, the second one perfect", perfect),
        Case("in colour", inputs(5, 3, 4, 5)),
        Case("float64", inputs(2, 1, 28, 28, dtype=torch.float64)),
    ]


def psnr_of(formula: Callable[[Tensor], Tensor]) -> Answer:
    """psnr by a formula of the differences (b, c·h·w)."""
    return lambda x, reconstruction: formula((reconstruction - x).flatten(1))


def mse_of(d: Tensor) -> Tensor:
    return d.square().mean(dim=1)


PSNR = Exercise(
    reference.psnr,
    psnr_cases,
    mistakes=[
        Mistake("You took 1 for the range of the pixels. They lie in [−1, 1]: a range of 2, squared 4.",
                psnr_of(lambda d: -10 * mse_of(d).log10())),
        Mistake("You took 255 for the range of the pixels. Here they lie in [−1, 1]: a range of 2.",
                psnr_of(lambda d: 10 * (255**2 / mse_of(d)).log10())),
        Mistake("The range is not squared, but the error is: 2² / mean squared error.",
                psnr_of(lambda d: 10 * (2 / mse_of(d)).log10())),
        Mistake("Your ratio is upside down: a better image must have *more* decibels.",
                psnr_of(lambda d: 10 * (mse_of(d) / 4).log10())),
        Mistake("That is the natural logarithm; decibels have base 10.",
                psnr_of(lambda d: 10 * (4 / mse_of(d)).log())),
        Mistake("The factor 10 is missing: that is bels, not decibels.",
                psnr_of(lambda d: (4 / mse_of(d)).log10())),
        Mistake("The factor 20 goes with a ratio of amplitudes; yours is of their squares: 10.",
                psnr_of(lambda d: 20 * (4 / mse_of(d)).log10())),
        Mistake("You averaged over the batch. Each image has its own PSNR: (b,).",
                psnr_of(lambda d: 10 * (4 / d.square().mean()).log10())),
        Mistake("You summed the squares; it is the *mean* squared error.",
                psnr_of(lambda d: 10 * (4 / d.square().sum(dim=1)).log10())),
        Mistake("You averaged the differences and squared afterwards, so errors cancel. Square first.",
                psnr_of(lambda d: 10 * (4 / d.mean(dim=1).square()).log10())),
    ],
    alternatives=[
        psnr_of(lambda d: 20 * (2 / mse_of(d).sqrt()).log10()),
        psnr_of(lambda d: 10 * math.log10(4) - 10 * mse_of(d).log10()),
        lambda x, reconstruction: torch.stack([
            10 * torch.log10(4 / F.mse_loss(a, b))
            for a, b in zip(x, reconstruction, strict=True)]),
    ],
    hints=["First the mean squared error of each image: (b,).",
           "The largest difference that two pixels can have is 2."],
)  # fmt: skip


# --- active_latents ---------------------------------------------------------------------------------


def active_cases() -> list[Case]:
    # Two images whose first latent differs by 1 and whose second differs by 0.1: variances 0.5
    # and 0.005. The third is far from 0, and always the same.
    two = torch.tensor([[0.0, 0.0, 3.0], [1.0, 0.1, 3.0]])[:, :, None, None]
    spread = torch.logspace(-2, 0, 12).reshape(3, 2, 2)
    many = normal(40, 3, 2, 2) * spread + normal(3, 2, 2, seed=1)
    # The same latents for all, but other spreads: rows that differ, images that do not.
    same = normal(1, 4, 5, 5, seed=2).expand(5, 4, 5, 5).clone()
    return [
        Case("two images, three latents", {"mean": two}),
        Case("forty images", {"mean": many}),
        Case("forty images, another threshold", {"mean": many, "threshold": 0.2}),
        Case("a collapsed encoder: every image the same", {"mean": same}),
        Case("float64", {"mean": normal(9, 2, 3, 4, dtype=torch.float64) / 9}),
    ]


def active_by(measure: Callable[[Tensor], Tensor]) -> Answer:
    """active_latents by another measure than the variance."""
    return lambda mean, threshold=0.01: measure(mean) > threshold


def active_in_a_loop(mean: Tensor, threshold: float = 0.01) -> Tensor:
    centre = sum(mean) / len(mean)
    squares = sum((m - centre) ** 2 for m in mean)
    return torch.as_tensor(squares > threshold * (len(mean) - 1))


ACTIVE_LATENTS = Exercise(
    reference.active_latents,
    active_cases,
    mistakes=[
        Mistake("You compared the standard deviation; the threshold is for the variance.",
                active_by(lambda mean: mean.std(dim=0))),
        Mistake("You looked at how far a latent is from 0. One that is always 3 says nothing: it has "
                "to *vary* from image to image.", active_by(lambda mean: mean.square().mean(dim=0))),
        Mistake("You took the variance over all latents together: (c, h, w) has to be left, one "
                "answer for each latent.", active_by(lambda mean: mean.var())),
        Mistake("You took the variance within each image. It is over the images: the first axis.",
                active_by(lambda mean: mean.flatten(1).var(dim=1))),
        Mistake("Those are the collapsed ones. Active are those *above* the threshold.",
                lambda mean, threshold=0.01: mean.var(dim=0) < threshold),
        Mistake("You ignored the threshold that was asked for.",
                lambda mean, threshold=0.01: mean.var(dim=0) > 0.01),
        Mistake("Those are the variances. The function returns whether each is above the threshold.",
                lambda mean, threshold=0.01: mean.var(dim=0)),
        Mistake("You counted them. The function returns True or False for each latent.",
                lambda mean, threshold=0.01: (mean.var(dim=0) > threshold).sum()),
    ],
    alternatives=[
        active_in_a_loop,
        active_by(lambda mean: mean.std(dim=0) ** 2),
        active_by(lambda mean: torch.cov(mean.flatten(1).T).diagonal().reshape(mean.shape[1:])),
    ],
    hints=["The images are the first axis; the variance over it leaves (c, h, w).",
           "Comparing a tensor with a number gives True or False for each entry."],
)  # fmt: skip


# --- latent_scale -----------------------------------------------------------------------------------


def scale_cases() -> list[Case]:
    channels = torch.tensor([0.5, 1.0, 2.0, 4.0])[:, None, None]
    offsets = torch.tensor([0.0, -3.0, 1.0, 0.0])[:, None, None]
    return [
        Case("latents three times too wide", {"z": 3 * normal(200, 4, 7, 7)}),
        Case("channels of unlike widths", {"z": channels * normal(200, 4, 7, 7, seed=1)}),
        Case("channels around unlike means, float64",
             {"z": 0.2 * (normal(200, 4, 7, 7, seed=2, dtype=torch.float64) + offsets)}),
        Case("latents that are all the same", {"z": torch.ones(2, 4, 7, 7)}),
        Case("a latent that is NaN", {"z": torch.tensor([0.0, 1.0, torch.nan]).reshape(3, 1, 1, 1)}),
    ]  # fmt: skip


def scale_by(
    std: Callable[[Tensor], Any], factor: Callable[[Any], Any] = lambda s: 1 / s
) -> Answer:
    """latent_scale from another measure of width, where the latents vary at all."""

    def latent_scale(z: Tensor) -> Any:
        if not z.isfinite().all() or bool(z.max() == z.min()):
            raise ValueError("the latents do not vary")
        return factor(std(z))

    return latent_scale


LATENT_SCALE = Exercise(
    reference.latent_scale,
    scale_cases,
    mistakes=[
        Mistake("That is the standard deviation itself. The factor is one over it: latents that are "
                "too wide are scaled down.", scale_by(torch.std, lambda s: s.item())),
        Mistake("You divided by the variance; dividing by the standard deviation makes the variance "
                "1.", scale_by(torch.var, lambda s: 1 / s.item())),
        Mistake("You did not take the mean away: √(mean of z²) is a standard deviation only where "
                "the mean is 0.",
                scale_by(lambda z: z.square().mean().sqrt(), lambda s: 1 / s.item())),
        Mistake("You scaled each channel for itself. LDM uses one number for all, which leaves the "
                "channels' proportions as the VAE made them.",
                scale_by(lambda z: z.transpose(0, 1).flatten(1).std(dim=1))),
        Mistake("You averaged the channels' standard deviations. Take all numbers together.",
                scale_by(lambda z: z.transpose(0, 1).flatten(1).std(dim=1).mean(),
                         lambda s: 1 / s.item())),
        Mistake("You scaled by the largest value. It depends on a single outlier; the SNR depends on "
                "the variance.", scale_by(lambda z: z.abs().max(), lambda s: 1 / s.item())),
        Mistake("The factor is right; now refuse latents that do not vary with a ValueError, before "
                "1 / 0 or NaN spoils a training.", lambda z: 1 / (z.std().item() or math.nan)),
    ],
    alternatives=[
        scale_by(lambda z: float(z.double().std()), lambda s: 1.0 / s),
        scale_by(lambda z: z.flatten().var(correction=0).item(), lambda v: v**-0.5),
        scale_by(lambda z: (z - z.mean()).square().mean().sqrt().item()),
    ],
    hints=["Which factor s makes the variance of s · z equal to 1?",
           "`z.std()` takes all numbers together; `.item()` makes a float of it.",
           "First: a standard deviation that is not above 0 (`if not std > 0` catches NaN too) is a "
           "ValueError."],
)  # fmt: skip


# --- decode_latents ---------------------------------------------------------------------------------


class Decoder(nn.Module):
    """A VAE's decoding half, for a few latents: bent, and sometimes outside [−1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))

    def decode(self, z: Tensor) -> Tensor:
        both = z.sum(dim=1, keepdim=True)
        return F.interpolate(self.weight * both + (2 * both).sin() / 2, scale_factor=4)


def decode_cases() -> list[Case]:
    return [
        Case("one latent", {"vae": Decoder(), "z": one(0.6), "scale": 2.0}),
        Case("latents that were scaled up",
             {"vae": Decoder(), "z": normal(3, 2, 2, 2), "scale": 1.7}),
        Case("latents that were scaled down",
             {"vae": Decoder(), "z": normal(5, 4, 2, 3, seed=1), "scale": 0.18}),
        Case("float64",
             {"vae": Decoder(), "z": normal(2, 3, 3, 3, dtype=torch.float64), "scale": 1.1}),
    ]  # fmt: skip


def run_decode(answer: Answer, inputs: Inputs) -> Any:
    """The images; or what is wrong with them where they hold on to the decoder's graph."""
    images = answer(**inputs)
    keeps = getattr(images, "requires_grad", False)
    return "images that keep the decoder's graph for gradients" if keeps else images


def decode_with(images: Callable[[Any, Tensor, float], Tensor]) -> Answer:
    return torch.no_grad()(lambda vae, z, scale: images(vae, z, scale))


def decode_one_by_one(vae: Any, z: Tensor, scale: float) -> Tensor:
    images = [vae.decode(x[None] * (1 / scale)).detach()[0] for x in z]
    return torch.stack(images).clip(-1.0, 1.0)


DECODE_LATENTS = Exercise(
    reference.decode_latents,
    decode_cases,
    run=run_decode,
    mistakes=[
        Mistake("You multiplied by the scale once more. The latents came in multiplied; the VAE "
                "wants them as they were: divide.",
                decode_with(lambda vae, z, s: vae.decode(z * s).clamp(-1, 1))),
        Mistake("The latents are not scaled back: the VAE never saw any of this size.",
                decode_with(lambda vae, z, s: vae.decode(z).clamp(-1, 1))),
        Mistake("You scaled the image back instead of the latents. The decoder is not linear: divide "
                "before it, not after.",
                decode_with(lambda vae, z, s: (vae.decode(z) / s).clamp(-1, 1))),
        Mistake("The images are not clipped. A decoder overshoots a little; pixels lie in [−1, 1].",
                decode_with(lambda vae, z, s: vae.decode(z / s))),
        Mistake("You clipped the latents. They have no fixed range; the *images* have.",
                decode_with(lambda vae, z, s: vae.decode(z.clamp(-1, 1) / s))),
        Mistake("You clipped to [0, 1]. The course's images lie in [−1, 1].",
                decode_with(lambda vae, z, s: vae.decode(z / s).clamp(0, 1))),
        Mistake("You clipped both the latents and the images. Latents have no fixed range.",
                decode_with(lambda vae, z, s: vae.decode((z / s).clamp(-1, 1)).clamp(-1, 1))),
        Mistake("The images are right, but they still hold the decoder's graph, memory that nobody "
                "needs: put `@torch.no_grad()` above the function.",
                lambda vae, z, scale: vae.decode(z / scale).clamp(-1, 1)),
    ],
    alternatives=[
        decode_one_by_one,
        decode_with(lambda vae, z, s: torch.minimum(
            torch.maximum(vae.decode(z.div(s)), -torch.ones((), dtype=z.dtype)),
            torch.ones((), dtype=z.dtype))),
    ],
    hints=["Undo the scaling first: the latents came in multiplied by `scale`.",
           "Then decode, then clip the image."],
)  # fmt: skip


# --- sample_latents ---------------------------------------------------------------------------------


# More levels than the default number of steps, none so noisy that every x̂_0 overshoots.
SIXTY = alpha_bars_from_betas(torch.linspace(0.001, 0.1, 60))


def eps_of(xt: Tensor, t: Tensor) -> Tensor:
    """A predicted noise that depends on which t are visited; its x̂_0 often leaves [−1, 1]."""
    return torch.tanh(xt / 2 + t.to(xt).sin().reshape(-1, 1, 1, 1))


def sample_latents_cases() -> list[Case]:
    def inputs(zT: Tensor, alpha_bars: Tensor, scale: float, **rest: Any) -> Inputs:
        return {"eps_model": eps_of, "zT": zT, "alpha_bars": alpha_bars, "vae": Decoder(),
                "scale": scale, **rest}  # fmt: skip

    seed = torch.Generator().manual_seed(3)
    return [
        Case("one latent, two steps", inputs(one(1.5), SHORT, 2.0, steps=2)),
        Case("latents that were scaled up, the default of 50 steps",
             inputs(normal(3, 2, 2, 2), SIXTY, 8.0)),
        Case("ancestral steps",
             inputs(normal(2, 4, 2, 3, seed=1), SHORT, 9.0, steps=5, eta=1.0, generator=seed)),
        Case("float64", inputs(normal(2, 2, 2, 2, dtype=torch.float64), SHORT, 1.1, steps=3)),
    ]  # fmt: skip


def sample_latents_with(
    decode: Callable[[Any, Tensor, float], Tensor] = decode_latents,
    start: Callable[[Tensor, float], Tensor] = lambda zT, scale: zT,
    out: Callable[[list[Tensor]], Tensor] = lambda walk: walk[-1],
    **chosen: Any,
) -> Answer:
    """`sample_latents` with its parts exchanged; `chosen` overrules what the caller chose."""

    def sample_latents(
        eps_model: Any,
        zT: Tensor,
        alpha_bars: Tensor,
        vae: Any,
        scale: float,
        *,
        steps: int = 50,
        eta: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        given = {"steps": steps, "eta": eta, "generator": generator, "clip": False, **chosen}
        walk = list(sample(eps_model, start(zT, scale), alpha_bars, **given))
        return decode(vae, out(walk), scale)

    return sample_latents


@torch.no_grad()
def sample_latents_by_hand(
    eps_model: Any,
    zT: Tensor,
    alpha_bars: Tensor,
    vae: Any,
    scale: float,
    steps: int = 50,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    z = zT
    for step in sample(
        eps_model, zT, alpha_bars, steps=steps, eta=eta, clip=False, generator=generator
    ):
        z = step
    return vae.decode(z / scale).clip(min=-1, max=1)


SAMPLE_LATENTS = Exercise(
    reference.sample_latents,
    sample_latents_cases,
    mistakes=[
        Mistake("The walk clips x̂_0 to [−1, 1], which is right for pixels. Latents of variance 1 "
                "reach to about ±4: pass clip=False.", sample_latents_with(clip=True)),
        Mistake("Those are the latents; the last thing is to decode them.",
                sample_latents_with(decode=lambda vae, z, s: z)),
        Mistake("Those are latents, scaled back; the last thing is to decode them.",
                sample_latents_with(decode=lambda vae, z, s: z / s)),
        Mistake("The latents are not scaled back before they are decoded: `decode_latents` does it, "
                "when it is told the scale.",
                sample_latents_with(decode=lambda vae, z, s: decode_latents(vae, z, 1.0))),
        Mistake("You multiplied by the scale once more before decoding; divide.",
                sample_latents_with(decode=lambda vae, z, s: decode_latents(vae, z, 1 / s))),
        Mistake("You scaled the starting noise. The scale is for latents of images; the noise has "
                "variance 1 as it is.", sample_latents_with(start=lambda zT, s: zT * s)),
        Mistake("You scaled the starting noise back. It has variance 1 as it is; only what comes out "
                "of the walk is scaled back.", sample_latents_with(start=lambda zT, s: zT / s)),
        Mistake("You decoded the first step of the walk. The clean latents are its last.",
                sample_latents_with(out=lambda walk: walk[0])),
        Mistake("You ignored `steps`.", sample_latents_with(steps=10)),
        Mistake("You ignored `eta`.", sample_latents_with(eta=0.0)),
    ],
    alternatives=[
        sample_latents_by_hand,
        sample_latents_with(decode=lambda vae, z, s:
                            vae.decode(z / s).detach().clamp(-1, 1)),
    ],
    hints=["`*_, z0 = sample(…)` keeps the last of the walk.",
           "Pixels are clipped to [−1, 1] on the walk. Are latents in that range?",
           "`decode_latents` does the rest: it scales back, decodes and clips."],
    run=run_decode,
)  # fmt: skip


# --- conv_flops -------------------------------------------------------------------------------------


def conv_cases() -> list[Case]:
    return [
        Case("one channel, one output pixel", {"conv": nn.Conv2d(1, 1, 3), "h": 1, "w": 1}),
        Case("from 2 channels to 5", {"conv": nn.Conv2d(2, 5, 3, padding=1), "h": 7, "w": 4}),
        Case("1 × 1", {"conv": nn.Conv2d(8, 3, 1), "h": 5, "w": 5}),
        Case(
            "with a stride of 2", {"conv": nn.Conv2d(4, 6, 3, stride=2, padding=1), "h": 6, "w": 3}
        ),
        Case("a kernel of 3 × 5", {"conv": nn.Conv2d(3, 2, (3, 5), bias=False), "h": 2, "w": 9}),
    ]


def flops_of(formula: Callable[[int, int, int, int, int], int]) -> Answer:
    """conv_flops by a formula of channels in and out, the kernel's area, and output h and w."""

    def conv_flops(conv: nn.Conv2d, h: int, w: int) -> int:
        area = conv.kernel_size[0] * conv.kernel_size[1]
        return formula(conv.in_channels, conv.out_channels, area, h, w)

    return conv_flops


def flops_by_counting(conv: nn.Conv2d, h: int, w: int) -> int:
    """On an image of the output's size, with a convolution that keeps it."""
    twin = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, padding="same")  # type: ignore[arg-type]
    return count_flops(lambda: twin(torch.zeros(1, conv.in_channels, h, w)))


CONV_FLOPS = Exercise(
    reference.conv_flops,
    conv_cases,
    mistakes=[
        Mistake("You counted the multiplications alone. Each comes with an addition: two operations.",
                flops_of(lambda i, o, k, h, w: i * o * k * h * w)),
        Mistake("You counted one side of the kernel; it covers an area.",
                lambda conv, h, w:
                2 * conv.in_channels * conv.kernel_size[0] * conv.out_channels * h * w),
        Mistake("You forgot that each output number looks at *all* input channels.",
                flops_of(lambda i, o, k, h, w: 2 * o * k * h * w)),
        Mistake("You counted one output channel; there are `out_channels`.",
                flops_of(lambda i, o, k, h, w: 2 * i * k * h * w)),
        Mistake("You counted one position; the kernel is applied at each of the h · w.",
                flops_of(lambda i, o, k, h, w: 2 * i * o * k)),
        Mistake("You multiplied the size by the stride, but h and w are the *output's* already.",
                lambda conv, h, w: reference.conv_flops(conv, h * conv.stride[0], w * conv.stride[1])),
        Mistake("You counted the bias as a weight. Here only what is under the kernel counts.",
                lambda conv, h, w: 2 * sum(p.numel() for p in conv.parameters()) * h * w),
    ],
    alternatives=[
        lambda conv, h, w: 2 * conv.weight.numel() * h * w,
        flops_by_counting,
        flops_of(lambda i, o, k, h, w: sum(2 * i * k for _ in range(o * h * w))),
    ],
    hints=["How many numbers of the output are there? How many numbers does each look at?",
           "`conv.in_channels`, `conv.out_channels` and `conv.kernel_size` (a pair) say it.",
           "A multiplication and an addition for each: times 2."],
)  # fmt: skip


EXERCISES = [
    REPARAMETERISE,
    VAE_FORWARD,
    KL_TO_STANDARD_NORMAL,
    VAE_LOSS,
    PSNR,
    ACTIVE_LATENTS,
    LATENT_SCALE,
    DECODE_LATENTS,
    SAMPLE_LATENTS,
    CONV_FLOPS,
]
