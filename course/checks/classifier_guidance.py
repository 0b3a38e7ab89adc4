"""Lesson 06: what right answers satisfy, and the mistakes people make."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course import classifier_guidance as reference
from course.checks.engine import Answer, Case, Exercise, Inputs, Mistake, UnusableError, call
from course.checks.forward_process import ALPHA_BARS, noising_cases, normal, steps
from course.checks.training import like, module_runner
from course.classifier_guidance import (
    Classifier,
    Mixture,
    NoisyClassifier,
    component_log_probs,
    component_scores,
    guided_eps,
    log_prob_gradient,
    mixture_log_posterior,
)
from course.forward_process import at, q_sample
from course.sampling import EpsModel, predict_x0
from course.training import timestep_embedding

# √ᾱ is 0.8 and 0.6, √(1 − ᾱ) is 0.6 and 0.8.
HAND = torch.tensor([0.64, 0.36])
FALLING = torch.tensor([0.9, 0.64, 0.25])

# --- score_from_eps ---------------------------------------------------------------------------


def score_cases() -> list[Case]:
    return [
        Case("one pixel, by hand",
             {"eps": torch.full((1, 1, 1, 1), 1.2), "t": steps(0), "alpha_bars": HAND}),
        Case("three images, each at its own t",
             {"eps": normal(3, 1, 4, 4), "t": steps(5, 999, 500), "alpha_bars": ALPHA_BARS}),
        Case("as many images as columns, in colour",
             {"eps": normal(5, 3, 5, 5, seed=1), "t": steps(1, 2, 0, 2, 1), "alpha_bars": FALLING}),
        Case("points of the plane, float64",
             {"eps": normal(4, 2, dtype=torch.float64), "t": steps(0, 2, 1, 0),
              "alpha_bars": FALLING}),
    ]  # fmt: skip


def score_with(formula: Callable[[Tensor, Tensor], Tensor]) -> Answer:
    """score_from_eps by a formula of ε and ᾱ (b, 1, …)."""
    return lambda eps, t, alpha_bars: formula(eps, at(alpha_bars, t, eps))


def score_unshaped(eps: Tensor, t: Tensor, alpha_bars: Tensor) -> Tensor:
    return -eps / (1 - alpha_bars[t]).sqrt().to(eps)


def score_image_by_image(eps: Tensor, t: Tensor, alpha_bars: Tensor) -> Tensor:
    pairs = zip(eps, t.tolist(), strict=True)
    return torch.stack([-e / math.sqrt(1 - float(alpha_bars[i])) for e, i in pairs])


SCORE_FROM_EPS = Exercise(
    reference.score_from_eps,
    score_cases,
    mistakes=[
        Mistake("Your sign is wrong. Noise leads away from the data, and the score points to where "
                "data are dense: it points against the noise.",
                score_with(lambda e, a: e / (1 - a).sqrt())),
        Mistake("You divided by 1 − ᾱ. That is right for √(1 − ᾱ) ε, the whole of what was added; "
                "one of its roots cancels, so ε is divided by √(1 − ᾱ).",
                score_with(lambda e, a: -e / (1 - a))),
        Mistake("You divided by √ᾱ, the signal's factor; the noise stands with √(1 − ᾱ).",
                score_with(lambda e, a: -e / a.sqrt())),
        Mistake("You multiplied by √(1 − ᾱ): that turns a score into noise. Here it goes the other "
                "way.", score_with(lambda e, a: -e * (1 - a).sqrt())),
        Mistake("You flipped the sign and forgot the factor 1/√(1 − ᾱ): the less noise there is, "
                "the steeper log p.", score_with(lambda e, a: -e)),
        Mistake("You took the root of ᾱ alone: 1 − √ᾱ. The root is over the whole of 1 − ᾱ.",
                score_with(lambda e, a: -e / (1 - a.sqrt()))),
        Mistake("You took the first image's t for all; each image has its own.",
                lambda eps, t, alpha_bars: -eps / (1 - alpha_bars[t[0]]).sqrt().to(eps)),
        Mistake("alpha_bars[t] has shape (b,), the images (b, c, h, w): shape it (b, 1, 1, 1), or "
                "it meets the wrong axis. `at` does it.", score_unshaped),
    ],
    alternatives=[
        score_with(lambda e, a: -((1 - a) ** -0.5) * e),
        score_with(lambda e, a: -(1 - a).sqrt() * e / (1 - a)),
        score_image_by_image,
    ],
    hints=["log p of a normal variable with variance 1 − ᾱ is −(x_t − mean)² / (2 (1 − ᾱ)) + const; "
           "differentiate it, and write x_t − mean as noise.",
           "It is the noise, turned around, over its standard deviation.",
           "`at(alpha_bars, t, eps)` is ᾱ_t shaped (b, 1, …)."],
)  # fmt: skip


# --- mixture_log_posterior ----------------------------------------------------------------------


def line_mixture(dtype: torch.dtype = torch.float32) -> Mixture:
    """Two unlike humps on a line."""
    return Mixture(
        torch.tensor([0.25, 0.75], dtype=dtype),
        torch.tensor([[-1.0], [1.0]], dtype=dtype),
        torch.tensor([[[0.1]], [[0.2]]], dtype=dtype),
    )


def plane_mixture(dtype: torch.dtype = torch.float32) -> Mixture:
    """Three components in the plane, each with a shape of its own."""
    return Mixture(
        torch.tensor([0.5, 0.3, 0.2], dtype=dtype),
        torch.tensor([[-0.5, -0.3], [0.45, -0.2], [0.1, 0.5]], dtype=dtype),
        torch.tensor(
            [[[0.2, 0.12], [0.12, 0.15]], [[0.1, -0.06], [-0.06, 0.2]], [[0.3, 0.0], [0.0, 0.1]]],
            dtype=dtype,
        ),
    )


def mixture_cases() -> list[Case]:
    return [
        Case("one number on a line",
             {"mixture": line_mixture(), "xt": torch.zeros(1, 1), "t": steps(1),
              "alpha_bars": HAND}),
        Case("four points of the plane, each at its own t",
             {"mixture": plane_mixture(), "xt": normal(4, 2) / 2, "t": steps(0, 2, 1, 0),
              "alpha_bars": FALLING}),
        Case("as many points as components and dimensions, float64",
             {"mixture": line_mixture(torch.float64), "xt": normal(2, 1, dtype=torch.float64),
              "t": steps(900, 300), "alpha_bars": ALPHA_BARS}),
        Case("as many points as components",
             {"mixture": plane_mixture(), "xt": normal(3, 2, seed=2), "t": steps(1, 0, 2),
              "alpha_bars": FALLING}),
        Case("points far away from every component",
             {"mixture": plane_mixture(), "xt": torch.tensor([[30.0, -20.0], [-25.0, 40.0]]),
              "t": steps(0, 1), "alpha_bars": FALLING}),
    ]  # fmt: skip


def posterior_with(formula: Callable[[Tensor, Tensor], Tensor], clean: bool = False) -> Answer:
    """mixture_log_posterior by a formula of the weights (k,) and log p(x_t | y) (b, k)."""

    def answer(mixture: Mixture, xt: Tensor, t: Tensor, alpha_bars: Tensor) -> Tensor:
        levels = torch.ones_like(alpha_bars) if clean else alpha_bars
        return formula(mixture.weights, component_log_probs(mixture, xt, t, levels))

    return answer


def posterior_by_products(weights: Tensor, log_probs: Tensor) -> Tensor:
    joint = weights * log_probs.exp()
    return (joint / joint.sum(dim=1, keepdim=True)).log()


def posterior_by_library(mixture: Mixture, xt: Tensor, t: Tensor, alpha_bars: Tensor) -> Tensor:
    rows = []
    for x, i in zip(xt, t.tolist(), strict=True):
        a = alpha_bars[i].to(xt)
        covs = a * mixture.covs + (1 - a) * torch.eye(xt.shape[1], dtype=xt.dtype)
        parts = torch.distributions.MultivariateNormal(a.sqrt() * mixture.means, covs)
        joint = mixture.weights.log() + parts.log_prob(x)
        rows.append(joint - torch.logsumexp(joint, dim=0))
    return torch.stack(rows)


MIXTURE_LOG_POSTERIOR = Exercise(
    reference.mixture_log_posterior,
    mixture_cases,
    mistakes=[
        Mistake("The prior p(y) is missing: a label that is rare to begin with needs more evidence. "
                "Its logarithm is `mixture.weights.log()`.",
                posterior_with(lambda w, lp: torch.log_softmax(lp, dim=1))),
        Mistake("That is the logarithm of p(x_t, y), not yet divided by p(x_t): the probabilities "
                "of a row must add up to 1.", posterior_with(lambda w, lp: w.log() + lp)),
        Mistake("You added the weight itself to a logarithm; add its logarithm.",
                posterior_with(lambda w, lp: torch.log_softmax(w + lp, dim=1))),
        Mistake("You multiplied log p(x_t | y) by the weight. Probabilities multiply; their "
                "logarithms add.", posterior_with(lambda w, lp: torch.log_softmax(w * lp, dim=1))),
        Mistake("Your softmax runs over the points. The labels of one point compete: dim=1.",
                posterior_with(lambda w, lp: torch.log_softmax(w.log() + lp, dim=0))),
        Mistake("You returned probabilities; their logarithms are asked for.",
                posterior_with(lambda w, lp: torch.softmax(w.log() + lp, dim=1))),
        Mistake("That is Bayes' rule, and far from every component it fails: e^−500 is 0 in "
                "float32, and 0/0 is no probability. Stay in logarithms: log_softmax does.",
                posterior_with(posterior_by_products)),
        Mistake("You took the logarithm of a softmax: far from the components the softmax is 0, and "
                "its logarithm −∞. log_softmax does both at once, without that.",
                posterior_with(lambda w, lp: torch.softmax(w.log() + lp, dim=1).log())),
    ],
    alternatives=[
        posterior_by_library,
        posterior_with(lambda w, lp: (w.log() + lp)
                       - torch.logsumexp(w.log() + lp, dim=1, keepdim=True)),
        posterior_with(lambda w, lp: -torch.stack([
            torch.logsumexp(w.log() + lp - w[k].log() - lp[:, k : k + 1], dim=1)
            for k in range(len(w))], dim=1)),
    ],
    hints=["log p(x_t, y) = log p(y) + log p(x_t | y); what is left is to make each row's "
           "probabilities add up to 1.",
           "`component_log_probs(mixture, xt, t, alpha_bars)` is log p(x_t | y), of shape (b, k).",
           "log_softmax over the labels subtracts log p(x_t)."],
)  # fmt: skip


# --- mixture_score ------------------------------------------------------------------------------


def mixture_score_cases() -> list[Case]:
    return [case for case in mixture_cases() if "far away" not in case.label]


def mixture_score_with(formula: Callable[[Mixture, Tensor, Tensor], Tensor]) -> Answer:
    """mixture_score by a formula of the mixture, log p(y | x_t) (b, k), scores (b, k, d)."""

    def answer(mixture: Mixture, xt: Tensor, t: Tensor, alpha_bars: Tensor) -> Tensor:
        log_posterior = mixture_log_posterior(mixture, xt, t, alpha_bars)
        scores = component_scores(mixture, xt, t, alpha_bars)
        return formula(mixture, log_posterior, scores)

    return answer


def weighted(weights: Tensor, scores: Tensor) -> Tensor:
    return (weights[..., None] * scores).sum(dim=1)


def likeliest(mixture: Mixture, log_posterior: Tensor, scores: Tensor) -> Tensor:
    return scores[torch.arange(len(scores)), log_posterior.argmax(dim=1)]


def mixture_score_by_autograd(
    mixture: Mixture, xt: Tensor, t: Tensor, alpha_bars: Tensor
) -> Tensor:
    x = xt.clone().requires_grad_()
    joint = mixture.weights.log() + component_log_probs(mixture, x, t, alpha_bars)
    return torch.autograd.grad(torch.logsumexp(joint, dim=1).sum(), x)[0]


MIXTURE_SCORE = Exercise(
    reference.mixture_score,
    mixture_score_cases,
    mistakes=[
        Mistake("You weighted the components by their prior p(y). Having seen x_t we know more: the "
                "weights are p(y | x_t).",
                mixture_score_with(lambda m, lp, s: weighted(m.weights.expand_as(lp), s))),
        Mistake("All components count the same in yours. Each is weighted by p(y | x_t), how "
                "probable it is that x_t is from it.",
                mixture_score_with(lambda m, lp, s: s.mean(dim=1))),
        Mistake("The weights are missing: you added up the components' scores.",
                mixture_score_with(lambda m, lp, s: s.sum(dim=1))),
        Mistake("You took the score of the most probable component alone. Between two components "
                "both pull.", mixture_score_with(likeliest)),
        Mistake("Your weights are log p(y | x_t): take the exponential.",
                mixture_score_with(lambda m, lp, s: weighted(lp, s))),
        Mistake("Your sign is wrong: `component_scores` already points towards the means.",
                mixture_score_with(lambda m, lp, s: -weighted(lp.exp(), s))),
    ],
    alternatives=[
        mixture_score_by_autograd,
        mixture_score_with(lambda m, lp, s: torch.einsum("bk,bkd->bd", lp.exp(), s)),
        mixture_score_with(lambda m, lp, s: torch.stack([p @ row for p, row in
                                                         zip(lp.exp(), s, strict=True)])),
    ],
    hints=["The density is a sum, and ∇ log p = ∇p / p: each component's score is weighted by its "
           "share of p.",
           "That share is p(y | x_t), the exponential of what you have just written.",
           "Shapes: (b, k, 1) times (b, k, d), summed over the labels."],
)  # fmt: skip


# --- log_prob_gradient --------------------------------------------------------------------------


def two_pixels(xt: Tensor, t: Tensor) -> Tensor:
    """Two labels whose logits are the two pixels."""
    return xt


def curved(xt: Tensor, t: Tensor) -> Tensor:
    """Four labels, by a smooth function that is another at each t."""
    x = xt.flatten(1)
    numbers = torch.arange(4 * x.shape[1], dtype=x.dtype).reshape(4, -1)
    level = (t.to(x) + 1)[:, None]
    return torch.tanh(x @ torch.sin(numbers).T * level / 2) * 2 + torch.cos(numbers[:, 0] * level)


def gradient_cases() -> list[Case]:
    return [
        Case("one image of two pixels, by hand: the logits are the pixels",
             {"classifier": two_pixels, "xt": torch.zeros(1, 2), "t": steps(0), "y": steps(0)}),
        Case("three images, each with its own t and label",
             {"classifier": curved, "xt": normal(3, 1, 4, 4) / 2, "t": steps(0, 2, 1),
              "y": steps(3, 0, 2)}),
        Case("as many images as labels",
             {"classifier": curved, "xt": normal(4, 3, 2, 2, seed=1) / 2, "t": steps(1, 1, 0, 2),
              "y": steps(1, 2, 2, 0)}),
        Case("points of the plane, float64",
             {"classifier": curved, "xt": normal(5, 2, seed=2, dtype=torch.float64),
              "t": steps(2, 0, 1, 3, 1), "y": steps(0, 1, 3, 2, 1)}),
    ]  # fmt: skip


class NoGraphError(UnusableError):
    """No gradient could be taken."""


class GraphLeftError(UnusableError):
    """A result that still carries its graph."""


class MarkedError(UnusableError):
    """An input that now asks for gradients."""


def as_the_sampler_does(work: Callable[[], Any], xt: Tensor) -> Any:
    """Call something with gradients off, as `sample` is, and see what it leaves behind."""
    with torch.no_grad():
        try:
            out = work()
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
            raise NoGraphError(
                "There is nothing to differentiate: either x does not ask for gradients, or they "
                "are switched off, as `sample` does."
            ) from error
    if isinstance(out, Tensor) and out.requires_grad:
        raise GraphLeftError("Your result still carries the graph that made it.")
    if xt.requires_grad:
        raise MarkedError("Your code left its input xt asking for gradients; work on a copy.")
    return out


def run_gradient(answer: Answer, inputs: Inputs) -> Any:
    return as_the_sampler_does(lambda: call(answer, inputs), inputs["xt"])


Objective = Callable[[Tensor, Tensor], Tensor]


def chosen(values: Tensor, y: Tensor) -> Tensor:
    """Each row's value at its label."""
    return values[torch.arange(len(y)), y]


def sum_of_log_probs(logits: Tensor, y: Tensor) -> Tensor:
    return chosen(torch.log_softmax(logits, dim=1), y).sum()


def gradient_of(
    objective: Objective = sum_of_log_probs,
    told: Callable[[Tensor], Tensor] = lambda t: t,
) -> Answer:
    """log_prob_gradient of an objective of the logits and the labels; `told` changes t."""

    def answer(classifier: Classifier, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
        with torch.enable_grad():
            x = xt.detach().requires_grad_()
            return torch.autograd.grad(objective(classifier(x, told(t)), y), x)[0]

    return answer


def gradient_without_enabling(classifier: Classifier, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
    x = xt.detach().requires_grad_()
    return torch.autograd.grad(sum_of_log_probs(classifier(x, t), y), x)[0]


def gradient_with_graph(classifier: Classifier, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        x = xt.detach().requires_grad_()
        total = sum_of_log_probs(classifier(x, t), y)
        # Even where the second derivative is 0, as for a straight line.
        return torch.autograd.grad(total, x, create_graph=True)[0] + 0 * x


def gradient_marking_xt(classifier: Classifier, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        xt.requires_grad_()
        return torch.autograd.grad(sum_of_log_probs(classifier(xt, t), y), xt)[0]


def gradient_backward(classifier: Classifier, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        x = xt.clone().requires_grad_(True)
        (-F.cross_entropy(classifier(x, t), y, reduction="sum")).backward()
    assert x.grad is not None
    return x.grad


def gradient_image_by_image(classifier: Classifier, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
    rows = []
    for i in range(len(xt)):
        with torch.enable_grad():
            x = xt[i : i + 1].clone().requires_grad_()
            logits = classifier(x, t[i : i + 1])
            value = logits[0, y[i]] - torch.logsumexp(logits[0], dim=0)
        rows.append(torch.autograd.grad(value, x)[0])
    return torch.cat(rows)


def gradient_functional(classifier: Classifier, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return torch.func.grad(lambda x: sum_of_log_probs(classifier(x, t), y))(xt)


LOG_PROB_GRADIENT = Exercise(
    reference.log_prob_gradient,
    gradient_cases,
    mistakes=[
        Mistake("You differentiated the *mean* over the batch: every gradient is divided by the "
                "number of images, and guidance gets weaker the more you sample. Take the sum.",
                gradient_of(lambda logits, y: chosen(torch.log_softmax(logits, 1), y).mean())),
        Mistake("That is the gradient of the probability p(y | x_t). Bayes' rule for scores needs "
                "the one of its logarithm: where p is nearly 0, the former has nothing to say.",
                gradient_of(lambda logits, y: chosen(torch.softmax(logits, 1), y).sum())),
        Mistake("That is the gradient of the logit. Raising one logit does not make a label more "
                "probable when the others rise with it: log_softmax first.",
                gradient_of(lambda logits, y: chosen(logits, y).sum())),
        Mistake("Your gradient points downhill: the cross-entropy is −log p. Its gradient makes the "
                "label *less* probable.",
                gradient_of(lambda logits, y: F.cross_entropy(logits, y, reduction="sum"))),
        Mistake("Your gradient points downhill and is divided by the number of images: that is the "
                "one of F.cross_entropy as it is used in training.", gradient_of(F.cross_entropy)),
        Mistake("You followed the label that the classifier finds most probable. The one asked for "
                "is y.",
                gradient_of(lambda logits, y: sum_of_log_probs(logits, logits.argmax(dim=1)))),
        Mistake("You took the first image's label for all; each image has its own.",
                gradient_of(lambda logits, y: sum_of_log_probs(logits, y[:1].expand_as(y)))),
        Mistake("`log_probs[:, y]` pairs every image with every label. Pick one a row: "
                "`log_probs.gather(1, y[:, None])`, or `log_probs[torch.arange(len(y)), y]`.",
                gradient_of(lambda logits, y: torch.log_softmax(logits, 1)[:, y].sum())),
        Mistake("Your softmax runs over the batch; it runs over the labels, dim=1.",
                gradient_of(lambda logits, y: chosen(torch.log_softmax(logits, 0), y).sum())),
        Mistake("You tell the classifier t = 0, as if the image were clean. It must know how noisy "
                "it is: hand t on.", gradient_of(told=torch.zeros_like)),
        Mistake("`sample` switches gradients off, and there is nothing to differentiate then: wrap "
                "the work in `with torch.enable_grad():`.", gradient_without_enabling),
        Mistake("Your gradient carries a graph of its own (create_graph=True, or a missing "
                "detach). The sampler would keep it in memory, step after step.",
                gradient_with_graph),
        Mistake("Your code left the caller's xt asking for gradients. Work on "
                "`xt.detach().requires_grad_()`, a tensor of your own.", gradient_marking_xt),
    ],
    alternatives=[gradient_backward, gradient_image_by_image, gradient_functional],
    hints=["Inside `with torch.enable_grad():`, make an x of your own that requires gradients, and "
           "ask the classifier about it.",
           "One number is differentiated: the sum over the batch of each row's log-probability at "
           "its label.",
           "`torch.autograd.grad(number, x)` gives a tuple with one gradient in it."],
    run=run_gradient,
)  # fmt: skip


# --- guided_eps ---------------------------------------------------------------------------------


def guided_cases() -> list[Case]:
    one = torch.ones(1, 1, 1, 1)
    by_hand = {"eps_hat": one, "gradient": one / 2, "t": steps(0), "alpha_bars": HAND}
    return [
        Case("one pixel, by hand", by_hand),
        Case("the same, pushed twice as hard", {**by_hand, "guidance_scale": 2.0}),
        Case("three images, each at its own t",
             {"eps_hat": normal(3, 1, 4, 4), "gradient": normal(3, 1, 4, 4, seed=1),
              "t": steps(100, 999, 500), "alpha_bars": ALPHA_BARS, "guidance_scale": 3.5}),
        Case("as many images as columns, in colour",
             {"eps_hat": normal(5, 3, 5, 5, seed=2), "gradient": normal(5, 3, 5, 5, seed=3),
              "t": steps(1, 2, 0, 2, 1), "alpha_bars": FALLING, "guidance_scale": 0.5}),
        Case("points of the plane, float64",
             {"eps_hat": normal(4, 2, dtype=torch.float64),
              "gradient": normal(4, 2, seed=1, dtype=torch.float64), "t": steps(0, 2, 1, 0),
              "alpha_bars": FALLING, "guidance_scale": 10.0}),
        Case("no guidance", {**by_hand, "guidance_scale": 0.0}),
    ]  # fmt: skip


def guided_with(formula: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> Answer:
    """guided_eps by a formula of ε̂, the gradient, ᾱ (b, 1, …) and γ."""

    def answer(
        eps_hat: Tensor,
        gradient: Tensor,
        t: Tensor,
        alpha_bars: Tensor,
        guidance_scale: float = 1.0,
    ) -> Tensor:
        return formula(eps_hat, gradient, at(alpha_bars, t, eps_hat), guidance_scale)

    return answer


def guided_unshaped(
    eps_hat: Tensor, gradient: Tensor, t: Tensor, alpha_bars: Tensor, guidance_scale: float = 1.0
) -> Tensor:
    return eps_hat - guidance_scale * (1 - alpha_bars[t]).sqrt().to(eps_hat) * gradient


def guided_through_scores(
    eps_hat: Tensor, gradient: Tensor, t: Tensor, alpha_bars: Tensor, guidance_scale: float = 1.0
) -> Tensor:
    score = reference.score_from_eps(eps_hat, t, alpha_bars) + guidance_scale * gradient
    return reference.eps_from_score(score, t, alpha_bars)


def guided_image_by_image(
    eps_hat: Tensor, gradient: Tensor, t: Tensor, alpha_bars: Tensor, guidance_scale: float = 1.0
) -> Tensor:
    out = eps_hat.clone()
    for i, level in enumerate(t.tolist()):
        out[i] -= gradient[i] * (math.sqrt(1 - float(alpha_bars[level])) * guidance_scale)
    return out


GUIDED_EPS = Exercise(
    reference.guided_eps,
    guided_cases,
    mistakes=[
        Mistake("Your sign is wrong. The gradient is added to the *score*, which is −ε̂ up to a "
                "factor: from ε̂ it is taken away. As it stands you walk away from the label.",
                guided_with(lambda e, g, a, s: e + s * (1 - a).sqrt() * g)),
        Mistake("You used √ᾱ, the signal's factor. Scores and noise differ by √(1 − ᾱ).",
                guided_with(lambda e, g, a, s: e - s * a.sqrt() * g)),
        Mistake("You used 1 − ᾱ without the root. Multiplying the score's equation by −√(1 − ᾱ) "
                "gives the root once.", guided_with(lambda e, g, a, s: e - s * (1 - a) * g)),
        Mistake("The gradient is part of a score, ε̂ is a noise: without the factor √(1 − ᾱ) you add "
                "two different things.", guided_with(lambda e, g, a, s: e - s * g)),
        Mistake("You divided the gradient by √(1 − ᾱ); that turns a noise into a score. Multiply.",
                guided_with(lambda e, g, a, s: e - s * g / (1 - a).sqrt())),
        Mistake("`guidance_scale` has no effect in yours.",
                guided_with(lambda e, g, a, s: e - (1 - a).sqrt() * g)),
        Mistake("You scaled ε̂ as well. The scale weighs the classifier alone.",
                guided_with(lambda e, g, a, s: s * (e - (1 - a).sqrt() * g))),
        Mistake("You returned the guided score; turn it back into noise.",
                guided_with(lambda e, g, a, s: s * g - e / (1 - a).sqrt())),
        Mistake("alpha_bars[t] has shape (b,), the images (b, c, h, w): shape it (b, 1, 1, 1), or "
                "it meets the wrong axis. `at` does it.", guided_unshaped),
    ],
    alternatives=[guided_through_scores, guided_image_by_image,
                  guided_with(lambda e, g, a, s: torch.addcmul(e, (1 - a) ** 0.5, g, value=-s))],
    hints=["Write the guided score, score + γ · gradient, and turn it into noise.",
           "Turning a score into noise multiplies by −√(1 − ᾱ); ε̂ comes back unchanged.",
           "`at(alpha_bars, t, eps_hat)` is ᾱ_t shaped (b, 1, …)."],
)  # fmt: skip


# --- NoisyClassifier ----------------------------------------------------------------------------


def classifier_cases() -> list[Case]:
    return [
        Case("a small one",
             {"channels": (8, 8), "emb_dim": 4, "num_classes": 2, "size": 8,
              "xt": normal(1, 1, 8, 8), "t": steps(3)}),
        Case("all defaults", {"xt": normal(2, 1, 28, 28, seed=1), "t": steps(0, 999)}),
        Case("wider below, three labels, each image at its own t",
             {"channels": (8, 16), "emb_dim": 6, "num_classes": 3, "size": 12,
              "xt": normal(3, 1, 12, 12, seed=2), "t": steps(7, 500, 20)}),
        Case("wider above, eight by eight",
             {"channels": (16, 8), "emb_dim": 8, "num_classes": 5, "size": 8,
              "xt": normal(4, 1, 8, 8, seed=3), "t": steps(1, 40, 900, 3)}),
    ]  # fmt: skip


def effect_of_t(classifier: nn.Module, tensors: list[Tensor]) -> Tensor:
    """What t changes in an untrained classifier's answer: nothing, as in untrained blocks."""
    xt, t = tensors
    return classifier(xt, t) - classifier(xt, t + 100)


def classifier_with(
    told: Callable[[NoisyClassifier, Tensor], Tensor] = lambda self, t: self.time_mlp(
        timestep_embedding(t, self.emb_dim)
    ),
    first: Callable[[NoisyClassifier, Tensor, Tensor], Tensor] = lambda self, h, emb: self.block1(
        h, emb
    ),
    second: Callable[[NoisyClassifier, Tensor, Tensor], Tensor] = lambda self, h, emb: self.block2(
        h, emb
    ),
    finish: Callable[[NoisyClassifier, Tensor], Tensor] = lambda self, h: F.silu(self.norm(h)),
    last: Callable[[Tensor], Tensor] = lambda logits: logits,
) -> Answer:
    """A classifier some part of which is another."""

    def forward(self: NoisyClassifier, xt: Tensor, t: Tensor) -> Tensor:
        emb = told(self, t)
        h = first(self, self.stem(F.pixel_unshuffle(xt, 2)), emb)
        h = second(self, self.shrink(h), emb)
        return last(self.classify(finish(self, h).flatten(1)))

    return like(NoisyClassifier, forward=forward)


def classifier_by_slices(self: NoisyClassifier, xt: Tensor, t: Tensor) -> Tensor:
    emb = timestep_embedding(t, self.emb_dim)
    for layer in self.time_mlp:
        emb = layer(emb)
    folded = torch.cat([xt[:, :, i::2, j::2] for i in range(2) for j in range(2)], dim=1)
    h = self.block2(self.shrink(self.block1(self.stem(folded), emb)), emb)
    h = self.norm(h)
    return self.classify((h * torch.sigmoid(h)).reshape(len(xt), -1))


NOISY_CLASSIFIER = Exercise(
    NoisyClassifier,
    classifier_cases,
    mistakes=[
        Mistake("Your classifier does not know t: it says the same at every noise level. Embed t, "
                "send it through `time_mlp`, and tell both blocks.",
                classifier_with(lambda self, t: self.time_mlp(
                    timestep_embedding(torch.zeros_like(t), self.emb_dim)))),
        Mistake("The blocks get the bare sines and cosines; they go through `self.time_mlp` first.",
                classifier_with(lambda self, t: timestep_embedding(t, self.emb_dim))),
        Mistake("Only the first block is told t; the second needs it too.",
                classifier_with(second=lambda self, h, emb: self.block2(h, 0 * emb))),
        Mistake("Only the second block is told t; the first needs it too.",
                classifier_with(first=lambda self, h, emb: self.block1(h, 0 * emb))),
        Mistake("The first block is left out.", classifier_with(first=lambda self, h, emb: h)),
        Mistake("The second block is left out.", classifier_with(second=lambda self, h, emb: h)),
        Mistake("The last norm and SiLU, before `classify`, are missing.",
                classifier_with(finish=lambda self, h: h)),
        Mistake("The last SiLU, after the norm, is missing.",
                classifier_with(finish=lambda self, h: self.norm(h))),
        Mistake("The last norm, before the SiLU, is missing.",
                classifier_with(finish=lambda self, h: F.silu(h))),
        Mistake("You returned probabilities. The loss and the gradient want logits: return what "
                "`classify` gives.", classifier_with(last=lambda logits: logits.softmax(dim=1))),
        Mistake("You returned log-probabilities. Return what `classify` gives, the logits: the loss "
                "takes the softmax itself.",
                classifier_with(last=lambda logits: logits.log_softmax(dim=1))),
    ],
    alternatives=[classifier_with(), like(NoisyClassifier, forward=classifier_by_slices)],
    hints=["`self.time_mlp(timestep_embedding(t, self.emb_dim))` is what both blocks are told.",
           "F.pixel_unshuffle(xt, 2), stem, block1, shrink, block2: the way down of the UNet, "
           "without its attention.",
           "Then norm and SiLU, flatten(1), and classify."],
    run=module_runner(NoisyClassifier, effect_of_t),
)  # fmt: skip


# --- classifier_loss ----------------------------------------------------------------------------


def loss_cases() -> list[Case]:
    labels = [steps(2), steps(0, 3, 1), steps(3, 1, 0, 2, 2), steps(1, 0)]
    return [
        Case(case.label, {"classifier": curved, "y": y, **case.inputs})
        for case, y in zip(noising_cases(), labels, strict=True)
    ]


def loss_with(
    noise: Callable[..., Tensor] = q_sample,
    told: Callable[[Tensor], Tensor] = lambda t: t,
    score: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Answer:
    """classifier_loss with another x_t, another t for the classifier, or another end."""

    def answer(
        classifier: Classifier, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor, alpha_bars: Tensor
    ) -> Tensor:
        return score(classifier(noise(x0, t, eps, alpha_bars), told(t)), y)

    return answer


CLASSIFIER_LOSS = Exercise(
    reference.classifier_loss,
    loss_cases,
    mistakes=[
        Mistake("You showed the classifier the clean image. It will be asked about noisy ones: show "
                "it x_t, which `q_sample` makes.", loss_with(lambda x0, t, eps, alpha_bars: x0)),
        Mistake("You told the classifier t = 0 for a noisy image; tell it the t of that image.",
                loss_with(told=torch.zeros_like)),
        Mistake("You drew a noise of your own; ε is given.",
                loss_with(lambda x0, t, eps, a: q_sample(x0, t, torch.randn_like(x0), a))),
        Mistake("You added the noise unscaled. x_t = √ᾱ x_0 + √(1 − ᾱ) ε is what the sampler will "
                "show it: use `q_sample`.", loss_with(lambda x0, t, eps, a: x0 + eps)),
        Mistake("You took the sum over the batch; a loss is the mean.",
                loss_with(score=lambda logits, y: F.cross_entropy(logits, y, reduction="sum"))),
        Mistake("You took a softmax before the cross-entropy, which takes one itself.",
                loss_with(score=lambda logits, y: F.cross_entropy(logits.softmax(dim=1), y))),
        Mistake("Your sign is wrong: that is the mean of log p, which training would make small.",
                loss_with(score=lambda logits, y: -F.cross_entropy(logits, y))),
        Mistake("That is one minus the probability. The loss is −log p, which punishes being sure "
                "and wrong.",
                loss_with(score=lambda logits, y: 1 - chosen(logits.softmax(dim=1), y).mean())),
    ],
    alternatives=[
        loss_with(score=lambda logits, y: -chosen(logits.log_softmax(dim=1), y).mean()),
        loss_with(score=lambda logits, y: (logits.logsumexp(dim=1) - chosen(logits, y)).mean()),
        loss_with(lambda x0, t, eps, a: at(a, t, x0) ** 0.5 * x0 + (1 - at(a, t, x0)) ** 0.5 * eps,
                  score=lambda logits, y: F.nll_loss(logits.log_softmax(dim=1), y)),
    ],
    hints=["It is the loss of any classifier, on x_t instead of x_0.",
           "`q_sample` of lesson 02 makes x_t; the classifier takes (x_t, t).",
           "F.cross_entropy takes logits and labels, and averages over the batch."],
)  # fmt: skip


# --- classifier_guided_eps_model ------------------------------------------------------------------


class Leaning(nn.Module):
    """An eps_model with a weight that asks for gradients, as a network has."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        lean = torch.cos(t.to(xt)).reshape(-1, *[1] * (xt.ndim - 1))
        return self.weight.to(xt) * torch.sin(xt) + lean


def wrapper_cases() -> list[Case]:
    by_hand = {"eps_model": Leaning(), "classifier": two_pixels, "y": steps(1), "alpha_bars": HAND,
               "xt": torch.zeros(1, 2), "t": steps(0)}  # fmt: skip
    return [
        Case("two pixels, whose values are the classifier's logits", by_hand),
        Case("three images, each with its own t and label",
             {"eps_model": Leaning(), "classifier": curved, "y": steps(3, 0, 2),
              "alpha_bars": FALLING, "guidance_scale": 2.5, "xt": normal(3, 1, 4, 4) / 2,
              "t": steps(0, 2, 1)}),
        Case("four points of the plane, float64",
             {"eps_model": Leaning(), "classifier": curved, "y": steps(1, 2, 0, 3),
              "alpha_bars": ALPHA_BARS[::250], "guidance_scale": 0.5,
              "xt": normal(4, 2, seed=1, dtype=torch.float64), "t": steps(3, 2, 1, 1)}),
        Case("no guidance", {**by_hand, "guidance_scale": 0.0}),
    ]  # fmt: skip


SETTINGS = frozenset(inspect.signature(reference.classifier_guided_eps_model).parameters)


def run_wrapper(answer: Answer, inputs: Inputs) -> Any:
    """Make the eps_model, and call it at two points, as a sampler would."""
    xt, t = inputs["xt"], inputs["t"]
    eps_model = answer(**{k: v for k, v in inputs.items() if k in SETTINGS})
    if not callable(eps_model):
        raise UnusableError(
            "classifier_guided_eps_model returns a function (xt, t) -> eps_hat: define one inside, "
            "and return it without calling it."
        )
    first = as_the_sampler_does(lambda: eps_model(xt, t), xt)
    return [first, as_the_sampler_does(lambda: eps_model(xt / 2, t.flip(0)), xt)]


Steered = Callable[[EpsModel, Classifier, Tensor, Tensor, float, Tensor, Tensor], Tensor]


def wrapper_with(steered: Steered) -> Answer:
    """classifier_guided_eps_model by a function of all it is given, and xt and t."""

    def answer(
        eps_model: EpsModel,
        classifier: Classifier,
        y: Tensor,
        alpha_bars: Tensor,
        guidance_scale: float = 1.0,
    ) -> EpsModel:
        return lambda xt, t: steered(eps_model, classifier, y, alpha_bars, guidance_scale, xt, t)

    return answer


def wrapper_with_everything_on(
    eps_model: EpsModel,
    classifier: Classifier,
    y: Tensor,
    alpha_bars: Tensor,
    guidance_scale: float = 1.0,
) -> EpsModel:
    def guided(xt: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            gradient = log_prob_gradient(classifier, xt, t, y)
            return guided_eps(eps_model(xt, t), gradient, t, alpha_bars, guidance_scale)

    return guided


def steer_by_x0(
    eps_model: EpsModel,
    classifier: Classifier,
    y: Tensor,
    alpha_bars: Tensor,
    scale: float,
    xt: Tensor,
    t: Tensor,
) -> Tensor:
    eps_hat = eps_model(xt, t)
    x0_hat = predict_x0(xt, t, eps_hat, alpha_bars)
    gradient = log_prob_gradient(classifier, x0_hat, torch.zeros_like(t), y)
    return guided_eps(eps_hat, gradient, t, alpha_bars, scale)


def steer_in_one_go(
    eps_model: EpsModel,
    classifier: Classifier,
    y: Tensor,
    alpha_bars: Tensor,
    scale: float,
    xt: Tensor,
    t: Tensor,
) -> Tensor:
    with torch.enable_grad():
        x = xt.detach().clone().requires_grad_()
        loss = F.cross_entropy(classifier(x, t), y, reduction="sum")
        uphill = -torch.autograd.grad(loss, x)[0]
    return eps_model(xt, t) - scale * (1 - at(alpha_bars, t, xt)) ** 0.5 * uphill


def steer_through_scores(
    eps_model: EpsModel,
    classifier: Classifier,
    y: Tensor,
    alpha_bars: Tensor,
    scale: float,
    xt: Tensor,
    t: Tensor,
) -> Tensor:
    unconditional = reference.score_from_eps(eps_model(xt, t), t, alpha_bars)
    guided = unconditional + scale * log_prob_gradient(classifier, xt, t, y)
    return reference.eps_from_score(guided, t, alpha_bars)


CLASSIFIER_GUIDED_EPS_MODEL = Exercise(
    reference.classifier_guided_eps_model,
    wrapper_cases,
    mistakes=[
        Mistake("`guidance_scale` has no effect in yours: hand it on to `guided_eps`.",
                wrapper_with(lambda m, c, y, a, s, x, t:
                             guided_eps(m(x, t), log_prob_gradient(c, x, t, y), t, a))),
        Mistake("The classifier has no effect in yours: that is the eps_model alone.",
                wrapper_with(lambda m, c, y, a, s, x, t: m(x, t))),
        Mistake("You walk away from the label: the scale's sign is turned.",
                wrapper_with(lambda m, c, y, a, s, x, t:
                             guided_eps(m(x, t), log_prob_gradient(c, x, t, y), t, a, -s))),
        Mistake("You tell the classifier t = 0, as if x_t were clean; it needs the t at which it "
                "is asked.",
                wrapper_with(lambda m, c, y, a, s, x, t:
                             guided_eps(m(x, t), log_prob_gradient(c, x, 0 * t, y), t, a, s))),
        Mistake("You asked the classifier about x̂_0. Bayes' rule is about x_t, and so is the "
                "gradient.", wrapper_with(steer_by_x0)),
        Mistake("You moved x_t along the gradient and asked the network there. The gradient changes "
                "the noise, not the image: `guided_eps`.",
                wrapper_with(lambda m, c, y, a, s, x, t:
                             m(x + s * log_prob_gradient(c, x, t, y), t))),
        Mistake("You call the eps_model with gradients switched on. Its whole graph is then built "
                "and kept, for nothing: only the classifier is differentiated, inside "
                "`log_prob_gradient`.", wrapper_with_everything_on),
    ],
    alternatives=[wrapper_with(steer_in_one_go), wrapper_with(steer_through_scores)],
    hints=["Define a function of (xt, t) inside, and return it.",
           "In it: one call of `log_prob_gradient`, one of `eps_model`, one of `guided_eps`.",
           "Everything that is not xt or t comes from outside: the inner function remembers it."],
    run=run_wrapper,
)  # fmt: skip


# --- diversity ----------------------------------------------------------------------------------


def diversity_cases() -> list[Case]:
    triangle = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0], [9.0, 9.0]])
    return [
        Case("two pairs of points, by hand",
             {"features": torch.tensor([[0.0, 0.0], [3.0, 4.0], [9.0, 9.0], [9.0, 8.0]]),
              "labels": steps(0, 0, 1, 1)}),
        Case("a triangle and a point alone", {"features": triangle, "labels": steps(1, 1, 1, 7)}),
        Case("ten points, three labels, mixed up",
             {"features": normal(10, 5), "labels": steps(2, 0, 1, 0, 0, 2, 0, 1, 0, 2)}),
        Case("two images that are the same, float64",
             {"features": normal(5, 3, dtype=torch.float64)[[0, 1, 1, 2, 3]],
              "labels": steps(1, 1, 1, 0, 0)}),
        Case("no two with the same label", {"features": triangle, "labels": steps(0, 1, 2, 3)}),
    ]  # fmt: skip


def pairs_of(labels: Tensor) -> Tensor:
    """Which pairs of different images have the same label: (n, n) bool."""
    return (labels[:, None] == labels) & ~torch.eye(len(labels), dtype=torch.bool)


def refusing(measure: Callable[[Tensor, Tensor], Tensor]) -> Answer:
    """A diversity that also refuses labels without a pair."""

    def diversity(features: Tensor, labels: Tensor) -> float:
        if not pairs_of(labels).any():
            raise ValueError("no two images have the same label")
        return float(measure(features, labels))

    return diversity


def apart(features: Tensor) -> Tensor:
    """The distance of every two, (n, n)."""
    return (features[:, None] - features).norm(dim=-1)


def label_by_label(features: Tensor, labels: Tensor) -> Tensor:
    groups = [apart(features[labels == k]) for k in labels.unique() if (labels == k).sum() > 1]
    return torch.stack([g.sum() / (len(g) * (len(g) - 1)) for g in groups]).mean()


def pair_by_pair(features: Tensor, labels: Tensor) -> Tensor:
    n = len(labels)
    return torch.stack([
        torch.sqrt(((features[i] - features[j]) ** 2).sum())
        for i in range(n) for j in range(i + 1, n) if labels[i] == labels[j]
    ]).mean()  # fmt: skip


DIVERSITY = Exercise(
    reference.diversity,
    diversity_cases,
    mistakes=[
        Mistake("You counted each image's distance to itself, which is 0 and makes small groups "
                "look alike. Leave the diagonal out.",
                refusing(lambda f, y: apart(f)[y[:, None] == y].mean())),
        Mistake("You compared images of different labels. Of course a 1 is unlike a 7; the question "
                "is how unlike the 7s are.",
                refusing(lambda f, y: apart(f)[~torch.eye(len(y), dtype=torch.bool)].mean())),
        Mistake("You averaged the *squared* distances; take the root of each first.",
                refusing(lambda f, y: (apart(f) ** 2)[pairs_of(y)].mean())),
        Mistake("You took the sum; it grows with the number of images. Take the mean over pairs.",
                refusing(lambda f, y: apart(f)[pairs_of(y)].sum())),
        Mistake("You divided by all n² pairs, those of different labels among them; divide by the "
                "number of pairs that you added up.",
                refusing(lambda f, y: (apart(f) * pairs_of(y)).mean())),
        Mistake("You averaged label by label, then over labels. All pairs count the same here.",
                refusing(label_by_label)),
        Mistake("You added the differences up without squares: the distance is Euclidean.",
                refusing(lambda f, y: (f[:, None] - f).abs().sum(-1)[pairs_of(y)].mean())),
        Mistake("The value is right; now raise a ValueError where no two images have the same "
                "label: the mean of nothing is NaN, and NaN in a table helps nobody.",
                lambda features, labels: apart(features)[pairs_of(labels)].mean().item()),
    ],
    alternatives=[
        refusing(pair_by_pair),
        refusing(lambda f, y: apart(f)[pairs_of(y).triu()].mean()),
        refusing(lambda f, y: (torch.cdist(f, f) * pairs_of(y)).sum() / pairs_of(y).sum()),
    ],
    hints=["`labels[:, None] == labels` says for every two images whether they share a label.",
           "An image is no pair with itself: make the diagonal False.",
           "`torch.cdist(features, features)` is every distance at once; index it with the mask."],
)  # fmt: skip


EXERCISES = [
    SCORE_FROM_EPS,
    MIXTURE_LOG_POSTERIOR,
    MIXTURE_SCORE,
    LOG_PROB_GRADIENT,
    GUIDED_EPS,
    NOISY_CLASSIFIER,
    CLASSIFIER_LOSS,
    CLASSIFIER_GUIDED_EPS_MODEL,
    DIVERSITY,
]
