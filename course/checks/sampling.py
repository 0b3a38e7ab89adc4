"""Lesson 04: what right answers satisfy, and the mistakes people make."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from course import sampling as reference
from course.checks.engine import Answer, Case, Exercise, Inputs, Mistake, call
from course.checks.forward_process import normal, steps
from course.forward_process import alpha_bars_from_betas, at, cosine_schedule, linear_schedule
from course.sampling import ddim_step, earlier, normal_like, predict_x0, timesteps

Levels = Callable[..., tuple[Tensor, Tensor]]

# Two levels whose roots are short: √ᾱ is 0.8 and 0.6, √(1 − ᾱ) is 0.6 and 0.8.
HAND = torch.tensor([0.64, 0.36])
SHORT = alpha_bars_from_betas(torch.linspace(0.05, 0.6, 10))
LINEAR = alpha_bars_from_betas(linear_schedule())
COSINE = alpha_bars_from_betas(cosine_schedule())


def pair(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Two unlike standard normal tensors of one shape."""
    return normal(*shape, seed=seed, dtype=dtype), normal(*shape, seed=seed + 1, dtype=dtype)


def wide(values: Tensor, x: Tensor) -> Tensor:
    """(b,) -> (b, 1, …), as many axes as x."""
    return values.to(x).reshape(-1, *[1] * (x.ndim - 1))


def each_image(answer: Callable[..., Tensor], t: Tensor, *images: Tensor) -> Tensor:
    """An answer for single images, in a loop: `answer(t, *image)` with t an int."""
    return torch.stack([answer(int(i), *rest) for i, *rest in zip(t, *images, strict=True)])


# --- predict_x0 -----------------------------------------------------------------------------------


def predict_x0_cases() -> list[Case]:
    xt, eps_hat = torch.full((1, 1, 1, 1), 1.1), torch.full((1, 1, 1, 1), 0.5)
    cases = [Case("one pixel, by hand", {"xt": xt, "t": steps(0), "eps_hat": eps_hat})]
    cases[0].inputs["alpha_bars"] = HAND
    for label, x, t, alpha_bars in [
        ("three images, each at its own t", pair(3, 1, 4, 4), steps(0, 900, 500), LINEAR),
        ("as many images as columns, in colour", pair(5, 3, 5, 5), steps(9, 2, 0, 4, 1), SHORT),
        ("float64", pair(2, 4, 3, 6, dtype=torch.float64), steps(7, 9), SHORT),
    ]:
        inputs = {"xt": x[0], "t": t, "eps_hat": x[1], "alpha_bars": alpha_bars}
        cases.append(Case(label, inputs))
    return cases


def predict_with(formula: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Answer:
    """predict_x0 by a formula of x_t, ε̂ and ᾱ (b, 1, 1, 1)."""
    return lambda xt, t, eps_hat, alpha_bars: formula(xt, eps_hat, at(alpha_bars, t, xt))


def _predict_image(alpha_bars: Tensor) -> Callable[..., Tensor]:
    return lambda i, x, e: (x - (1 - float(alpha_bars[i])) ** 0.5 * e) / float(alpha_bars[i]) ** 0.5


PREDICT_X0 = Exercise(
    reference.predict_x0,
    predict_x0_cases,
    mistakes=[
        Mistake("You divided by ᾱ; x_0 was scaled by √ᾱ, so divide by √ᾱ.",
                predict_with(lambda x, e, a: (x - (1 - a).sqrt() * e) / a)),
        Mistake("You took away (1 − ᾱ) ε̂. 1 − ᾱ is the noise's *variance*; in x_t the noise "
                "stands with √(1 − ᾱ).",
                predict_with(lambda x, e, a: (x - (1 - a) * e) / a.sqrt())),
        Mistake("You added the noise where it has to be taken away.",
                predict_with(lambda x, e, a: (x + (1 - a).sqrt() * e) / a.sqrt())),
        Mistake("You took the noise away but did not undo the scaling: what is left is √ᾱ x_0.",
                predict_with(lambda x, e, a: x - (1 - a).sqrt() * e)),
        Mistake("Only the noise is divided by √ᾱ. The whole of x_t − √(1 − ᾱ) ε̂ is: mind the "
                "parentheses.",
                predict_with(lambda x, e, a: x - (1 - a).sqrt() * e / a.sqrt())),
        Mistake("You noised x_t once more. Solve x_t = √ᾱ x_0 + √(1 − ᾱ) ε for x_0.",
                predict_with(lambda x, e, a: a.sqrt() * x + (1 - a).sqrt() * e)),
        Mistake("You clipped. Here x_0 comes back as the formula gives it; the step clips it.",
                predict_with(lambda x, e, a: ((x - (1 - a).sqrt() * e) / a.sqrt()).clamp(-1, 1))),
        Mistake("You took the first image's t for all; each image has its own.",
                lambda xt, t, eps_hat, alpha_bars:
                predict_x0(xt, t[:1].expand_as(t), eps_hat, alpha_bars)),
        Mistake("alpha_bars[t] has shape (b,), the images (b, c, h, w): shape it (b, 1, 1, 1), or "
                "it meets the wrong axis. `at` does it.",
                lambda xt, t, eps_hat, alpha_bars:
                (xt - (1 - alpha_bars[t]).sqrt() * eps_hat) / alpha_bars[t].sqrt()),
    ],
    alternatives=[
        predict_with(lambda x, e, a: x / a.sqrt() - (1 / a - 1).sqrt() * e),
        lambda xt, t, eps_hat, alpha_bars:
            each_image(_predict_image(alpha_bars), t, xt, eps_hat),
        lambda xt, t, eps_hat, alpha_bars:
            predict_x0(xt.double(), t, eps_hat.double(), alpha_bars.double()).to(xt.dtype),
    ],
    hints=["x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε has one unknown once ε is replaced by ε̂.",
           "Take the noise away first, then undo the scaling of x_0.",
           "`at(alpha_bars, t, xt)` is ᾱ_t shaped (b, 1, 1, 1)."],
)  # fmt: skip


# --- to_eps ---------------------------------------------------------------------------------------


def spelled(kind: str) -> str:
    """A kind as a new string: equal to the literal, and not the same object."""
    return "".join(list(kind))


def to_eps_cases() -> list[Case]:
    output, xt = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 2.0)
    by_hand = {"output": output, "xt": xt, "t": steps(0), "alpha_bars": HAND}
    cases = [
        Case(f"one pixel, by hand, where the network predicts {kind}", {**by_hand, "kind": kind})
        for kind in ("v", "x0", "eps")
    ]
    for label, x, t, alpha_bars in [
        ("three images, each at its own t", pair(3, 1, 4, 4), steps(5, 999, 500), LINEAR),
        ("as many images as columns", pair(5, 3, 5, 5, seed=2), steps(9, 2, 0, 4, 1), SHORT),
        ("float64", pair(2, 4, 3, 6, dtype=torch.float64), steps(7, 9), SHORT),
    ]:
        inputs = {"output": x[0], "xt": x[1], "t": t, "alpha_bars": alpha_bars}
        cases += [
            Case(f"{label}, {kind}", {**inputs, "kind": spelled(kind)})
            for kind in ("eps", "v", "x0")
        ]
    bad = ["alpha", "score", "xt"]
    return cases + [Case(f"{k!r} is no kind", {**by_hand, "kind": spelled(k)}) for k in bad]


Formula = Callable[[Tensor, Tensor, Tensor], Tensor]


def _output(out: Tensor, x: Tensor, a: Tensor) -> Tensor:
    return out


def _from_v(out: Tensor, x: Tensor, a: Tensor) -> Tensor:
    return a.sqrt() * out + (1 - a).sqrt() * x


def _from_x0(out: Tensor, x: Tensor, a: Tensor) -> Tensor:
    return (x - a.sqrt() * out) / (1 - a).sqrt()


def to_eps_with(
    eps: Formula = _output,
    v: Formula = _from_v,
    x0: Formula = _from_x0,
    other: Formula | None = None,
) -> Answer:
    """to_eps by a formula of the output, x_t and ᾱ for each kind; `other` for an unknown one."""

    def answer(output: Tensor, xt: Tensor, t: Tensor, alpha_bars: Tensor, kind: str) -> Tensor:
        formula = {"eps": eps, "v": v, "x0": x0}.get(kind, other)
        if formula is None:
            raise ValueError(kind)
        return formula(output, xt, at(alpha_bars, t, xt))

    return answer


TO_EPS = Exercise(
    reference.to_eps,
    to_eps_cases,
    mistakes=[
        Mistake("Your sign is wrong for v: √ᾱ v − √(1 − ᾱ) x_t is not the noise. Put v and x_t in "
                "terms of x_0 and ε; x_0 must cancel.",
                to_eps_with(v=lambda out, x, a: a.sqrt() * out - (1 - a).sqrt() * x)),
        Mistake("From v you made x_0: that is √ᾱ x_t − √(1 − ᾱ) v. The noise is asked for.",
                to_eps_with(v=lambda out, x, a: a.sqrt() * x - (1 - a).sqrt() * out)),
        Mistake("For v, √ᾱ and √(1 − ᾱ) have changed places.",
                to_eps_with(v=lambda out, x, a: (1 - a).sqrt() * out + a.sqrt() * x)),
        Mistake("For v, the roots are missing: v and x_t stand with √ᾱ and √(1 − ᾱ).",
                to_eps_with(v=lambda out, x, a: a * out + (1 - a) * x)),
        Mistake("You passed v on as if it were ε.", to_eps_with(v=_output)),
        Mistake("You passed x_0 on as if it were ε.", to_eps_with(x0=_output)),
        Mistake("For x0 you divided by √ᾱ. Solve the closed form for ε: what stands with ε is "
                "√(1 − ᾱ).",
                to_eps_with(x0=lambda out, x, a: (x - a.sqrt() * out) / a.sqrt())),
        Mistake("For x0 you divided by 1 − ᾱ; the noise was scaled by its root.",
                to_eps_with(x0=lambda out, x, a: (x - a.sqrt() * out) / (1 - a))),
        Mistake("An unknown kind is taken for ε without a word; raise a ValueError that says which "
                "kinds there are.", to_eps_with(other=_output)),
        Mistake("An unknown kind is taken for x0 without a word; raise a ValueError that says which "
                "kinds there are.", to_eps_with(other=_from_x0)),
        Mistake("An unknown kind is taken for v without a word; raise a ValueError that says which "
                "kinds there are.", to_eps_with(other=_from_v)),
    ],
    alternatives=[
        # v says what x_0 is, and x_0 what ε is.
        to_eps_with(v=lambda out, x, a: _from_x0(a.sqrt() * x - (1 - a).sqrt() * out, x, a)),
        to_eps_with(x0=lambda out, x, a: x / (1 - a).sqrt() - (a / (1 - a)).sqrt() * out),
        to_eps_with(v=lambda out, x, a: torch.lerp(x, out, a.sqrt() / (a.sqrt() + (1 - a).sqrt()))
                    * (a.sqrt() + (1 - a).sqrt())),
    ],
    hints=["\"eps\" needs no work, and \"x0\" is the closed form solved for ε.",
           "For v, write √ᾱ v + √(1 − ᾱ) x_t with v = √ᾱ ε − √(1 − ᾱ) x_0 and see what cancels.",
           "Anything that is left over is not a kind: raise ValueError."],
)  # fmt: skip


# --- posterior_mean -------------------------------------------------------------------------------


def posterior_steps() -> list[tuple[str, Tensor, Tensor | None, Tensor]]:
    """What a step is called, t, s and the schedule: of 3, 3, 5 and 2 images."""
    return [
        ("three images, each at its own t", steps(100, 999, 500), None, LINEAR),
        ("t = 0 among others: the data is next", steps(0, 5, 9), None, SHORT),
        ("as many images as columns, long steps", steps(9, 2, 0, 4, 7), steps(4, 1, -1, -1, 0), SHORT),
        ("float64, long steps", steps(900, 640), steps(799, -1), COSINE),
    ]  # fmt: skip


SHAPES = [(3, 1, 4, 4), (3, 1, 4, 4), (5, 3, 5, 5), (2, 4, 3, 6)]


def posterior_mean_cases() -> list[Case]:
    x0, xt = torch.full((1, 1, 1, 1), 1.0), torch.full((1, 1, 1, 1), 2.0)
    by_hand = {"x0": x0, "xt": xt, "t": steps(1), "alpha_bars": HAND}
    cases = [Case("one pixel, by hand", by_hand)]
    for (label, t, s, alpha_bars), shape in zip(posterior_steps(), SHAPES, strict=True):
        x0, xt = pair(*shape, dtype=torch.float64 if "float64" in label else torch.float32)
        inputs = {"x0": x0, "xt": xt, "t": t, "alpha_bars": alpha_bars}
        cases.append(Case(label, inputs if s is None else {**inputs, "s": s}))
    return cases


def right_levels(
    x: Tensor, t: Tensor, alpha_bars: Tensor, s: Tensor | None
) -> tuple[Tensor, Tensor]:
    """ᾱ_t and ᾱ_s, shaped like `at` shapes them."""
    return at(alpha_bars, t, x), earlier(alpha_bars, t - 1 if s is None else s, x)


def wrapped_levels(
    x: Tensor, t: Tensor, alpha_bars: Tensor, s: Tensor | None
) -> tuple[Tensor, Tensor]:
    """With alpha_bars[-1] before step 0."""
    s = t - 1 if s is None else s
    return at(alpha_bars, t, x), at(alpha_bars, s % len(alpha_bars), x)


def one_step_levels(
    x: Tensor, t: Tensor, alpha_bars: Tensor, s: Tensor | None
) -> tuple[Tensor, Tensor]:
    """With t − 1 for s, whatever s is."""
    return right_levels(x, t, alpha_bars, None)


def mean_weights(a: Tensor, a_s: Tensor) -> tuple[Tensor, Tensor]:
    """What x_0 and x_t are multiplied by, given ᾱ_t and ᾱ_s."""
    alpha = a / a_s
    return a_s.sqrt() * (1 - alpha) / (1 - a), alpha.sqrt() * (1 - a_s) / (1 - a)


def mean_with(
    weights: Callable[..., tuple[Tensor, Tensor]], levels: Levels = right_levels
) -> Answer:
    """posterior_mean by the weights of x_0 and x_t as functions of ᾱ_t and ᾱ_s."""

    def answer(
        x0: Tensor, xt: Tensor, t: Tensor, alpha_bars: Tensor, s: Tensor | None = None
    ) -> Tensor:
        from_x0, from_xt = weights(*levels(xt, t, alpha_bars, s))
        return from_x0 * x0 + from_xt * xt

    return answer


def mean_short_alpha(
    x0: Tensor, xt: Tensor, t: Tensor, alpha_bars: Tensor, s: Tensor | None = None
) -> Tensor:
    a, a_s = right_levels(xt, t, alpha_bars, s)
    alpha = a / earlier(alpha_bars, t - 1, xt)
    return (a_s.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - a_s) * xt) / (1 - a)


def mean_unshaped(
    x0: Tensor, xt: Tensor, t: Tensor, alpha_bars: Tensor, s: Tensor | None = None
) -> Tensor:
    padded = F.pad(alpha_bars, (1, 0), value=1.0)
    from_x0, from_xt = mean_weights(padded[t + 1], padded[(t - 1 if s is None else s) + 1])
    return (from_x0 * x0 + from_xt * xt).to(xt)


def _by_precision(a: Tensor, a_s: Tensor) -> tuple[Tensor, Tensor]:
    """Two measurements of x_s, weighted by their precisions; x_0's is infinite at s = −1."""
    alpha = a / a_s
    from_xt, from_x0 = alpha / (1 - alpha), 1 / (1 - a_s)
    share = torch.where(a_s == 1, torch.ones_like(a), from_x0 / (from_x0 + from_xt))
    return a_s.sqrt() * share, (1 - share) / alpha.sqrt()


def mean_towards_the_noise(
    x0: Tensor, xt: Tensor, t: Tensor, alpha_bars: Tensor, s: Tensor | None = None
) -> Tensor:
    a, a_s = right_levels(xt, t, alpha_bars, s)
    eps = (xt - a.sqrt() * x0) / (1 - a).sqrt()
    return a_s.sqrt() * x0 + (1 - a_s) * (a / a_s / (1 - a)).sqrt() * eps


def mean_in_a_loop(
    x0: Tensor, xt: Tensor, t: Tensor, alpha_bars: Tensor, s: Tensor | None = None
) -> Tensor:
    out = torch.empty_like(xt)
    for i in range(len(xt)):
        now, then = int(t[i]), int(t[i]) - 1 if s is None else int(s[i])
        a, a_s = (
            alpha_bars[now].double(),
            alpha_bars[then].double() if then >= 0 else torch.ones(()),
        )
        from_x0, from_xt = mean_weights(a, a_s)
        out[i] = from_x0 * x0[i] + from_xt * xt[i]
    return out


POSTERIOR_MEAN = Exercise(
    reference.posterior_mean,
    posterior_mean_cases,
    mistakes=[
        Mistake("Before step 0 you used alpha_bars[-1], which in Python is the *last* ᾱ: pure "
                "noise. Before step 0 is the data, and ᾱ_{−1} = 1. `earlier` knows it.",
                mean_with(mean_weights, wrapped_levels)),
        Mistake("You ignore `s`: the step is not always to t − 1.",
                mean_with(mean_weights, one_step_levels)),
        Mistake("You took the α_t of one step. The step from t to s is as long as all the steps "
                "between together: its α is ᾱ_t / ᾱ_s.", mean_short_alpha),
        Mistake("Your α is upside down: it is the later ᾱ_t over the earlier ᾱ_s, below 1.",
                mean_with(lambda a, a_s: (a_s.sqrt() * (1 - a_s / a) / (1 - a),
                                          (a_s / a).sqrt() * (1 - a_s) / (1 - a)))),
        Mistake("The weights of x_0 and x_t have changed places.",
                mean_with(lambda a, a_s: mean_weights(a, a_s)[::-1])),
        Mistake("x_0 stands with √ᾱ_s; you forgot the root.",
                mean_with(lambda a, a_s: (a_s.sqrt() * mean_weights(a, a_s)[0],
                                          mean_weights(a, a_s)[1]))),
        Mistake("x_t stands with √α; you forgot the root.",
                mean_with(lambda a, a_s: (mean_weights(a, a_s)[0],
                                          (a / a_s).sqrt() * mean_weights(a, a_s)[1]))),
        Mistake("x_0 stands with √ᾱ of the *earlier* step s, not of t: that is how x_0 is scaled "
                "inside x_s.",
                mean_with(lambda a, a_s: ((a / a_s).sqrt() * mean_weights(a, a_s)[0],
                                          mean_weights(a, a_s)[1]))),
        Mistake("Below the line is 1 − ᾱ_t, of the later step; you have 1 − ᾱ_s, which is 0 at "
                "s = −1.",
                mean_with(lambda a, a_s: (a_s.sqrt() * (1 - a / a_s) / (1 - a_s),
                                          (a / a_s).sqrt()))),
        Mistake("Your ᾱ have shape (b,), the images (b, c, h, w): shape them (b, 1, 1, 1), or they "
                "meet the wrong axis. `at` and `earlier` do it.", mean_unshaped),
    ],
    alternatives=[mean_with(_by_precision), mean_towards_the_noise, mean_in_a_loop],
    hints=["Two ᾱ are all you need: `at(alpha_bars, t, xt)` and `earlier(alpha_bars, s, xt)`.",
           "The step's own α is their ratio, and its β is 1 − α.",
           "The mean is a weighted sum of x_0 and x_t; both weights are divided by 1 − ᾱ_t."],
)  # fmt: skip


# --- posterior_var --------------------------------------------------------------------------------


def posterior_var_cases() -> list[Case]:
    cases = [Case("one step, by hand", {"t": steps(1), "alpha_bars": HAND})]
    for label, t, s, alpha_bars in posterior_steps():
        double = "float64" in label
        inputs = {"t": t, "alpha_bars": alpha_bars.double() if double else alpha_bars}
        cases.append(Case(label, inputs if s is None else {**inputs, "s": s}))
    return cases


def variance(a: Tensor, a_s: Tensor) -> Tensor:
    """β̃ given ᾱ_t and ᾱ_s."""
    return (1 - a_s) / (1 - a) * (1 - a / a_s)


def var_with(formula: Callable[[Tensor, Tensor], Tensor], levels: Levels = right_levels) -> Answer:
    """posterior_var as a function of ᾱ_t and ᾱ_s."""
    return lambda t, alpha_bars, s=None: formula(*levels(t.to(alpha_bars), t, alpha_bars, s))


def var_short_beta(t: Tensor, alpha_bars: Tensor, s: Tensor | None = None) -> Tensor:
    a, a_s = right_levels(t.to(alpha_bars), t, alpha_bars, s)
    beta = 1 - a / earlier(alpha_bars, t - 1, t.to(alpha_bars))
    return (1 - a_s) / (1 - a) * beta


def var_in_a_loop(t: Tensor, alpha_bars: Tensor, s: Tensor | None = None) -> Tensor:
    out = []
    for now, then in zip(t.tolist(), (t - 1 if s is None else s).tolist(), strict=True):
        a, a_s = float(alpha_bars[now]), float(alpha_bars[then]) if then >= 0 else 1.0
        out.append((1 - a_s) / (1 - a) * (1 - a / a_s))
    return torch.tensor(out, dtype=alpha_bars.dtype)


POSTERIOR_VAR = Exercise(
    reference.posterior_var,
    posterior_var_cases,
    mistakes=[
        Mistake("That is β, the variance of the step *forward*. Knowing x_0 leaves less doubt: "
                "β̃ = (1 − ᾱ_s)/(1 − ᾱ_t) · β, and at the last step none.",
                var_with(lambda a, a_s: 1 - a / a_s)),
        Mistake("That is β̃ except at the last step, where you left β. There x_0 itself is next, "
                "and it is known: the variance is 0.",
                var_with(lambda a, a_s: torch.where(a_s == 1, 1 - a, variance(a, a_s)))),
        Mistake("Before step 0 you used alpha_bars[-1], which in Python is the *last* ᾱ: pure "
                "noise. Before step 0 is the data, and ᾱ_{−1} = 1. `earlier` knows it.",
                var_with(variance, wrapped_levels)),
        Mistake("You returned the standard deviation √β̃; the variance is asked for.",
                var_with(lambda a, a_s: variance(a, a_s).sqrt())),
        Mistake("Your first fraction is upside down: 1 − ᾱ_s, the smaller, is above.",
                var_with(lambda a, a_s: (1 - a) / (1 - a_s) * (1 - a / a_s))),
        Mistake("Your α is upside down: it is the later ᾱ_t over the earlier ᾱ_s, below 1.",
                var_with(lambda a, a_s: (1 - a_s) / (1 - a) * (1 - a_s / a))),
        Mistake("You ignore `s`: the step is not always to t − 1.",
                var_with(variance, one_step_levels)),
        Mistake("You took the β_t of one step. The step from t to s is as long as all the steps "
                "between together: its β is 1 − ᾱ_t / ᾱ_s.", var_short_beta),
        Mistake("Your result has the shape (b, 1); one number a step is asked for: (b,).",
                lambda t, alpha_bars, s=None: reference.posterior_var(t, alpha_bars, s)[:, None]),
        Mistake("Your result has the shape (b, 1, 1, 1); one number a step is asked for: (b,).",
                lambda t, alpha_bars, s=None:
                reference.posterior_var(t, alpha_bars, s)[:, None, None, None]),
    ],
    alternatives=[
        # One over the sum of the precisions, at s = −1 with an infinite one.
        var_with(lambda a, a_s: 1 / (a / a_s / (1 - a / a_s) + 1 / (1 - a_s))),
        var_with(lambda a, a_s: (1 - a_s) - a / a_s * (1 - a_s) ** 2 / (1 - a)),
        var_in_a_loop,
    ],
    hints=["It is β of the step, 1 − ᾱ_t / ᾱ_s, times a fraction below 1.",
           "The fraction is 1 − ᾱ_s over 1 − ᾱ_t: the noise before and after.",
           "`at` and `earlier` shape like their last argument: give them a tensor of shape (b,)."],
)  # fmt: skip


# --- ddpm_step ------------------------------------------------------------------------------------


def ddpm_step_cases() -> list[Case]:
    x, one = torch.full((1, 1, 1, 1), 1.1), torch.ones(1, 1, 1, 1)
    by_hand = {"xt": x, "t": steps(1), "eps_hat": one, "alpha_bars": HAND, "noise": one}
    cases = [
        Case("one pixel, by hand", by_hand),
        Case("one pixel, by hand: the last step", {**by_hand, "t": steps(0)}),
    ]
    for (label, t, s, alpha_bars), shape in zip(posterior_steps(), SHAPES, strict=True):
        dtype = torch.float64 if "float64" in label else torch.float32
        xt, eps_hat = pair(*shape, dtype=dtype)
        noise = normal(*shape, seed=2, dtype=dtype)
        inputs = {"xt": xt, "t": t, "eps_hat": eps_hat, "alpha_bars": alpha_bars, "noise": noise}
        cases.append(Case(label, inputs if s is None else {**inputs, "s": s}))
    return cases


def clipped(x: Tensor) -> Tensor:
    return x.clamp(-1, 1)


def ddpm_with(
    std: Callable[[Tensor, Tensor], Tensor] = lambda a, a_s: variance(a, a_s).sqrt(),
    clip: Callable[[Tensor], Tensor] = clipped,
    levels: Levels = right_levels,
) -> Answer:
    """ddpm_step with the noise's scale as a function of ᾱ_t and ᾱ_s, and another clip of x̂_0."""

    def answer(
        xt: Tensor,
        t: Tensor,
        eps_hat: Tensor,
        alpha_bars: Tensor,
        noise: Tensor,
        s: Tensor | None = None,
    ) -> Tensor:
        a, a_s = levels(xt, t, alpha_bars, s)
        from_x0, from_xt = mean_weights(a, a_s)
        x0_hat = clip(predict_x0(xt, t, eps_hat, alpha_bars))
        return from_x0 * x0_hat + from_xt * xt + std(a, a_s) * noise

    return answer


def ddpm_first_decides(
    xt: Tensor,
    t: Tensor,
    eps_hat: Tensor,
    alpha_bars: Tensor,
    noise: Tensor,
    s: Tensor | None = None,
) -> Tensor:
    last = int(t[0]) == 0 if s is None else int(s[0]) == -1
    return reference.ddpm_step(xt, t, eps_hat, alpha_bars, noise * (not last), s)


def ddpm_unshaped(
    xt: Tensor,
    t: Tensor,
    eps_hat: Tensor,
    alpha_bars: Tensor,
    noise: Tensor,
    s: Tensor | None = None,
) -> Tensor:
    std = reference.posterior_var(t, alpha_bars, s).sqrt()
    return reference.ddpm_step(xt, t, eps_hat, alpha_bars, 0 * noise, s) + std * noise


def ddpm_by_eq_11(
    xt: Tensor,
    t: Tensor,
    eps_hat: Tensor,
    alpha_bars: Tensor,
    noise: Tensor,
    s: Tensor | None = None,
) -> Tensor:
    """DDPM's equation 11, with the noise that the clipped x̂_0 implies."""
    a, a_s = right_levels(xt, t, alpha_bars, s)
    x0_hat = clipped(predict_x0(xt, t, eps_hat, alpha_bars))
    eps = (xt - a.sqrt() * x0_hat) / (1 - a).sqrt()
    mean = (xt - (1 - a / a_s) / (1 - a).sqrt() * eps) / (a / a_s).sqrt()
    return mean + variance(a, a_s).sqrt() * noise


DDPM_STEP = Exercise(
    reference.ddpm_step,
    ddpm_step_cases,
    mistakes=[
        Mistake("You add noise at the last step, where s = −1: there the draw is x̂_0 itself. "
                "β̃ is 0 there; β is not.",
                ddpm_with(std=lambda a, a_s:
                          torch.where(a_s == 1, 1 - a, variance(a, a_s)).sqrt())),
        Mistake("You scaled the noise by √β, at the last step too. The step back has the variance "
                "β̃, which is smaller and, at the last step, 0.",
                ddpm_with(std=lambda a, a_s: (1 - a / a_s).sqrt())),
        Mistake("You scaled the noise by √β. The step back has the variance β̃, which is smaller: "
                "`posterior_var`.",
                ddpm_with(std=lambda a, a_s:
                          torch.where(a_s == 1, 0.0, 1 - a / a_s).sqrt())),
        Mistake("You scaled the noise by β̃. β̃ is its *variance*; the noise itself is scaled by √β̃.",
                ddpm_with(std=variance)),
        Mistake("No noise is added: that is the mean. A draw is the mean plus √β̃ times `noise`.",
                ddpm_with(std=lambda a, a_s: torch.zeros_like(a))),
        Mistake("x̂_0 is never clipped. Pixels lie in [−1, 1]; while x_t is nearly all noise, x̂_0 "
                "comes out far beyond, and the walk leaves with it.",
                ddpm_with(clip=lambda x: x)),
        Mistake("You clipped x̂_0 to [0, 1]; the course's pixels lie in [−1, 1].",
                ddpm_with(clip=lambda x: x.clamp(0, 1))),
        Mistake("You clipped the result. x_s is noisy and may leave [−1, 1]; x̂_0 may not.",
                lambda xt, t, eps_hat, alpha_bars, noise, s=None:
                ddpm_with(clip=lambda x: x)(xt, t, eps_hat, alpha_bars, noise, s).clamp(-1, 1)),
        Mistake("You clipped the result as well as x̂_0. x_s is noisy and may leave [−1, 1].",
                lambda xt, t, eps_hat, alpha_bars, noise, s=None:
                ddpm_with()(xt, t, eps_hat, alpha_bars, noise, s).clamp(-1, 1)),
        Mistake("You ignore `s`: the step is not always to t − 1. Pass it on to both "
                "`posterior_mean` and `posterior_var`.", ddpm_with(levels=one_step_levels)),
        Mistake("Whether noise is added is decided by the first image for all; each has its own t.",
                ddpm_first_decides),
        Mistake("posterior_var has shape (b,), the images (b, c, h, w): shape its root "
                "(b, 1, 1, 1), or it meets the wrong axis. `posterior_std` does it.",
                ddpm_unshaped),
    ],
    alternatives=[
        ddpm_by_eq_11,
        lambda xt, t, eps_hat, alpha_bars, noise, s=None:
            ddim_step(xt, t, eps_hat, alpha_bars, s, 1.0, noise),
        ddpm_with(clip=lambda x: torch.minimum(torch.maximum(x, -torch.ones_like(x)),
                                               torch.ones_like(x))),
    ],
    hints=["Three lines: predict x_0 and clip it, take the posterior's mean, add its noise.",
           "`posterior_mean` wants x̂_0 where x_0 stands, and `s` passed on.",
           "`posterior_std(xt, t, alpha_bars, s)` is √β̃ in the shape to multiply `noise`."],
)  # fmt: skip


# --- ddim_step ------------------------------------------------------------------------------------


def ddim_step_cases() -> list[Case]:
    x, one = torch.full((1, 1, 1, 1), 1.1), torch.ones(1, 1, 1, 1)
    by_hand = {"xt": x, "t": steps(1), "eps_hat": one / 2, "alpha_bars": HAND}
    # Here σ² takes all of 1 − ᾱ_s and, rounded, a little more; x_t is small, so that what is lost
    # by it is far below the tolerance.
    small = torch.full((1, 1, 1, 1), 0.01)
    nearly_all: Inputs = {"xt": small, "t": steps(999), "eps_hat": one, "alpha_bars": COSINE}
    nearly_all |= {"s": steps(799), "eta": 1.0, "noise": one}
    cases = [
        Case("one pixel, by hand, η = 0", by_hand),
        Case("one pixel, by hand, η = 1", {**by_hand, "eta": 1.0, "noise": one}),
        Case("one pixel, x̂_0 clipped", {**by_hand, "eps_hat": -one}),
        Case("the first of five steps, η = 1", nearly_all),
    ]
    choices: list[Inputs] = [{"eta": 0.5}, {"eta": 0.7, "clip": False}, {"eta": 1.0}, {"eta": 0.3}]
    for (label, t, s, alpha_bars), shape, chosen in zip(
        posterior_steps(), SHAPES, choices, strict=True
    ):
        dtype = torch.float64 if "float64" in label else torch.float32
        xt, eps_hat = pair(*shape, dtype=dtype)
        inputs = {"xt": xt, "t": t, "eps_hat": eps_hat, "alpha_bars": alpha_bars}
        inputs |= {} if s is None else {"s": s}
        noise = normal(*shape, seed=2, dtype=dtype)
        cases += [
            Case(f"{label}, η = 0", inputs),
            Case(f"{label}, η = {chosen['eta']}", {**inputs, **chosen, "noise": noise}),
        ]
    no_clip = {**by_hand, "eps_hat": -one, "clip": False}
    cases.append(Case("one pixel, x̂_0 not clipped", no_clip))
    return [
        *cases,
        Case("η > 0 without noise", {**by_hand, "eta": 0.5}),
        Case("η below 0", {**by_hand, "eta": -0.5, "noise": one}),
        Case("η above 1", {**by_hand, "eta": 1.5, "noise": one}),
    ]


def bad_eta(inputs: Inputs) -> bool:
    eta = inputs.get("eta", 0.0)
    return not 0 <= eta <= 1 or (eta > 0 and inputs.get("noise") is None)


def _sigma(a: Tensor, a_s: Tensor, eta: float) -> Tensor:
    return eta * variance(a, a_s).sqrt()


def ddim_with(
    sigma: Callable[..., Tensor] = _sigma,
    rest: Callable[..., Tensor] = lambda a, a_s, sigma: (1 - a_s - sigma**2).clamp(min=0).sqrt(),
    clip_to: Callable[[Tensor], Tensor] = clipped,
    always: bool | None = None,
    agree: bool = True,
    levels: Levels = right_levels,
    refuse: Callable[[Inputs], bool] = bad_eta,
) -> Answer:
    """ddim_step with its parts exchanged.

    sigma(ᾱ_t, ᾱ_s, η) scales the noise, rest(ᾱ_t, ᾱ_s, σ) scales ε; `always` overrules `clip`;
    `agree` says whether ε is recomputed after clipping; `refuse` which inputs raise.
    """

    def answer(
        xt: Tensor,
        t: Tensor,
        eps_hat: Tensor,
        alpha_bars: Tensor,
        s: Tensor | None = None,
        eta: float = 0.0,
        noise: Tensor | None = None,
        clip: bool = True,
    ) -> Tensor:
        if refuse({"eta": eta, "noise": noise}):
            raise ValueError(eta)
        a, a_s = levels(xt, t, alpha_bars, s)
        x0_hat = predict_x0(xt, t, eps_hat, alpha_bars)
        if clip if always is None else always:
            x0_hat = clip_to(x0_hat)
            eps_hat = (xt - a.sqrt() * x0_hat) / (1 - a).sqrt() if agree else eps_hat
        scale = sigma(a, a_s, eta)
        mean = a_s.sqrt() * x0_hat + rest(a, a_s, scale) * eps_hat
        return mean if noise is None else mean + scale * noise

    return answer


def ddim_half_eta(
    xt: Tensor,
    t: Tensor,
    eps_hat: Tensor,
    alpha_bars: Tensor,
    s: Tensor | None = None,
    eta: float = 0.0,
    noise: Tensor | None = None,
    clip: bool = True,
) -> Tensor:
    """η on the noise alone: what is left for ε is as if η were 1."""
    a, a_s = right_levels(xt, t, alpha_bars, s)
    full = variance(a, a_s)
    return ddim_with(rest=lambda a, a_s, _: (1 - a_s - full).clamp(min=0).sqrt())(
        xt, t, eps_hat, alpha_bars, s, eta, noise, clip
    )


def ddim_from_the_mean(
    xt: Tensor,
    t: Tensor,
    eps_hat: Tensor,
    alpha_bars: Tensor,
    s: Tensor | None = None,
    eta: float = 0.0,
    noise: Tensor | None = None,
    clip: bool = True,
) -> Tensor:
    """In float64, from x_t instead of ε: √(rest/(1 − ᾱ_t)) (x_t − √ᾱ_t x̂_0)."""
    if bad_eta({"eta": eta, "noise": noise}):
        raise ValueError(eta)
    a, a_s = right_levels(xt.double(), t, alpha_bars.double(), s)
    x0_hat = (xt - (1 - a).sqrt() * eps_hat) / a.sqrt()
    x0_hat = clipped(x0_hat) if clip else x0_hat
    var = eta**2 * (1 - a_s) * (1 - a / a_s) / (1 - a)
    keep = ((1 - a_s - var) / (1 - a)).clamp(min=0).sqrt()
    mean = (a_s.sqrt() - keep * a.sqrt()) * x0_hat + keep * xt
    return (mean if noise is None else mean + var.sqrt() * noise).to(xt.dtype)


def ddim_in_a_loop(
    xt: Tensor,
    t: Tensor,
    eps_hat: Tensor,
    alpha_bars: Tensor,
    s: Tensor | None = None,
    eta: float = 0.0,
    noise: Tensor | None = None,
    clip: bool = True,
) -> Tensor:
    if eta > 0 and noise is None:
        raise ValueError("noise")
    if eta < 0 or eta > 1:
        raise ValueError("eta")
    s = t - 1 if s is None else s
    zero = torch.zeros_like(xt) if noise is None else noise
    one_by_one = zip(
        xt.split(1), t.split(1), eps_hat.split(1), s.split(1), zero.split(1), strict=True
    )
    step = ddim_with(refuse=lambda inputs: False)
    return torch.cat([step(x, i, e, alpha_bars, j, eta, z, clip) for x, i, e, j, z in one_by_one])


DDIM_STEP = Exercise(
    reference.ddim_step,
    ddim_step_cases,
    mistakes=[
        Mistake("σ² is not taken away under the root: with the new noise, x_s would have more "
                "variance than 1 − ᾱ_s.",
                ddim_with(rest=lambda a, a_s, sigma: (1 - a_s).sqrt())),
        Mistake("Under the root you took away σ; variances add, so it is σ².",
                ddim_with(rest=lambda a, a_s, sigma: (1 - a_s - sigma).clamp(min=0).sqrt())),
        Mistake("You took σ away outside the root: √(1 − ᾱ_s) − σ is not √(1 − ᾱ_s − σ²).",
                ddim_with(rest=lambda a, a_s, sigma: (1 - a_s).sqrt() - sigma)),
        Mistake("You ignore η: whatever it is, no noise is added.",
                ddim_with(sigma=lambda a, a_s, eta: torch.zeros_like(a))),
        Mistake("η scales your noise, but not the σ² under the root: both are the same σ = η √β̃.",
                ddim_half_eta),
        Mistake("Your σ is η β̃. β̃ is a variance; σ = η √β̃.",
                ddim_with(sigma=lambda a, a_s, eta: eta * variance(a, a_s))),
        Mistake("Your σ is √(η β̃). η stands outside the root: σ = η √β̃.",
                ddim_with(sigma=lambda a, a_s, eta: (max(eta, 0.0) * variance(a, a_s)).sqrt())),
        Mistake("Your σ is η √β, of the step forward; σ = η √β̃.",
                ddim_with(sigma=lambda a, a_s, eta: eta * (1 - a / a_s).sqrt())),
        Mistake("x̂_0 is clipped, but ε̂ still belongs to the unclipped one. Recompute it: together "
                "they must give x_t.", ddim_with(agree=False)),
        Mistake("x̂_0 is never clipped, though `clip` is True by default.", ddim_with(always=False)),
        Mistake("x̂_0 is always clipped, though `clip` may be False.", ddim_with(always=True)),
        Mistake("You clipped x̂_0 to [0, 1]; the course's pixels lie in [−1, 1].",
                ddim_with(clip_to=lambda x: x.clamp(0, 1))),
        Mistake("Before step 0 you used alpha_bars[-1], which in Python is the *last* ᾱ: pure "
                "noise. Before step 0 is the data, and ᾱ_{−1} = 1. `earlier` knows it.",
                ddim_with(levels=wrapped_levels)),
        Mistake("You ignore `s`: the step is not always to t − 1.",
                ddim_with(levels=one_step_levels)),
        Mistake("ε̂ is scaled for the old noise level: it is 1 − ᾱ_s − σ² under the root, not "
                "1 − ᾱ_t − σ².",
                ddim_with(rest=lambda a, a_s, sigma: (1 - a - sigma**2).clamp(min=0).sqrt())),
        Mistake("η > 0 without `noise` goes on without noise; raise a ValueError that says so.",
                ddim_with(refuse=lambda inputs: not 0 <= inputs["eta"] <= 1)),
        Mistake("η outside 0…1 is not refused: above 1 the root would be of a negative number. "
                "Raise a ValueError.",
                ddim_with(refuse=lambda inputs: inputs["eta"] > 0 and inputs["noise"] is None)),
        Mistake("Neither η outside 0…1 nor η > 0 without `noise` is refused: raise a ValueError.",
                ddim_with(refuse=lambda inputs: False)),
        Mistake("1 − ᾱ_s − σ² is rounded, and where σ² is nearly all of it the result can fall a "
                "hair below 0: its root is NaN. Clamp it at 0 first.",
                ddim_with(rest=lambda a, a_s, sigma: (1 - a_s - sigma**2).sqrt())),
    ],
    alternatives=[ddim_from_the_mean, ddim_in_a_loop],
    hints=["x_s = √ᾱ_s x̂_0 + √(1 − ᾱ_s − σ²) ε̂ + σ · noise: start with σ = 0.",
           "When x̂_0 was clipped, ε̂ is what is left of x_t: solve the closed form for ε.",
           "σ is η times `posterior_std(xt, t, alpha_bars, s)`; clamp 1 − ᾱ_s − σ² at 0."],
)  # fmt: skip


# --- timesteps ------------------------------------------------------------------------------------


def timesteps_cases() -> list[Case]:
    """None where a value lies halfway between two: each way of rounding is right."""
    choices = [(10, 5), (1000, 4), (1000, 1), (1000, 50), (1000, 7), (100, 30), (12, 12), (1, 1)]
    good = [Case(f"{n} of {T}", {"T": T, "steps": n}) for T, n in choices]
    bad = [Case(f"{n} of {T} cannot be", {"T": T, "steps": n}) for T, n in [(10, 0), (10, 11)]]
    return good + bad


def bad_steps(inputs: Inputs) -> bool:
    return not 1 <= inputs["steps"] <= inputs["T"]


def timesteps_with(
    walk: Callable[[int, int], list[int]], refuse: Callable[[Inputs], bool] = bad_steps
) -> Answer:
    """timesteps by another rule, that refuses what must be refused."""

    def answer(T: int, steps: int) -> list[int]:
        if refuse({"T": T, "steps": steps}):
            raise ValueError(steps)
        return walk(T, steps)

    return answer


def trailing(T: int, steps: int) -> list[int]:
    return [round(T - k * T / steps) - 1 for k in range(steps)]


def from_the_top_to_zero(T: int, steps: int) -> list[int]:
    return torch.linspace(T - 1, 0, steps).round().int().tolist()


TIMESTEPS = Exercise(
    reference.timesteps,
    timesteps_cases,
    mistakes=[
        Mistake("Your walk never visits T − 1. It starts from pure noise, which is what T − 1 means; "
                "told a smaller t, the network looks for a signal that is not there. "
                "(This is the \"leading\" spacing.)",
                timesteps_with(lambda T, n: [k * (T // n) for k in reversed(range(n))])),
        Mistake("Your walk never visits T − 1. It starts from pure noise, which is what T − 1 means. "
                "(This is the \"leading\" spacing, rounded.)",
                timesteps_with(lambda T, n: [round(k * T / n) for k in reversed(range(n))])),
        Mistake("Your values run from T − 1 to 0, both included. The data, s = −1, is the end of the "
                "walk: steps of T/steps lead from T − 1 to there, so the last t is T/steps − 1.",
                timesteps_with(from_the_top_to_zero)),
        Mistake("Your walk rises. Sampling starts at the noisiest, T − 1, and falls.",
                timesteps_with(lambda T, n: trailing(T, n)[::-1])),
        Mistake("Your values are 1 too large: t runs from 0 to T − 1, so T is out of range.",
                timesteps_with(lambda T, n: [t + 1 for t in trailing(T, n)])),
        Mistake("You cut the fractions off; round to the nearest.",
                timesteps_with(lambda T, n: [int(T - k * T / n) - 1 for k in range(n)])),
        Mistake("Your gap is T // steps. Where steps does not divide T, that walk does not reach the "
                "end, or has too many values.",
                timesteps_with(lambda T, n: list(range(T - 1, -1, -(T // n))))),
        Mistake("Your gap is T // steps. Where steps does not divide T, that walk stops before it "
                "has come to the data.",
                timesteps_with(lambda T, n: [T - 1 - k * (T // n) for k in range(n)])),
        Mistake("The data, −1, is among your values; no network call is made there.",
                timesteps_with(lambda T, n: [*trailing(T, n), -1])),
        Mistake("steps outside 1…T is not refused: raise a ValueError that names the range.",
                timesteps_with(lambda T, n: trailing(T, n) if n else [],
                               refuse=lambda inputs: False)),
        Mistake("More steps than T are not refused: raise a ValueError that names the range.",
                timesteps_with(trailing, refuse=lambda inputs: inputs["steps"] < 1)),
        Mistake("No steps at all are not refused: raise a ValueError that names the range.",
                timesteps_with(lambda T, n: trailing(T, n) if n else [],
                               refuse=lambda inputs: inputs["steps"] > inputs["T"])),
    ],
    alternatives=[
        # Whole numbers alone, halves rounded up.
        timesteps_with(lambda T, n: [(2 * (n - k) * T + n) // (2 * n) - 1 for k in range(n)]),
        timesteps_with(lambda T, n: torch.linspace(0, T, n + 1).round().int().sub(1).tolist()[:0:-1]),
    ],
    hints=["Mark the way from T down to 0 at `steps` equal distances, T itself among the marks.",
           "Mark k is T − k · T/steps; round it, and take 1 away because t counts from 0.",
           "T=10, steps=5 gives [9, 7, 5, 3, 1]."],
)  # fmt: skip


# --- sample ---------------------------------------------------------------------------------------


def gaussian_model(alpha_bars: Tensor, mean: float = 0.3, std: float = 0.5) -> reference.EpsModel:
    """The best possible ε̂ for data whose pixels are N(mean, std²), with a parameter in it."""
    one = torch.ones((), requires_grad=True)

    def eps_model(xt: Tensor, t: Tensor) -> Tensor:
        a = at(alpha_bars, t, xt)
        return one * (1 - a).sqrt() * (xt - a.sqrt() * mean) / (a * std**2 + 1 - a)

    return eps_model


def sample_cases() -> list[Case]:
    def case(label: str, alpha_bars: Tensor, xt: Tensor, seed: int, **chosen: Any) -> Case:
        generator = torch.Generator().manual_seed(seed)
        inputs = {"eps_model": gaussian_model(alpha_bars), "xt": xt, "alpha_bars": alpha_bars}
        return Case(label, {**inputs, "generator": generator, **chosen})

    pixel = torch.ones(1, 1, 1, 1)
    return [
        case("one pixel, two steps", HAND, pixel, 1, steps=2),
        case("five steps of DDIM", SHORT, normal(2, 1, 3, 3), 2, steps=5),
        case("all the defaults", COSINE, normal(2, 1, 2, 2, seed=3), 3),
        case("ancestral, every step", SHORT, normal(3, 2, 2, 2, seed=4), 4, steps=10, eta=1.0),
        case("η in between", COSINE, normal(2, 1, 3, 3, seed=5), 5, steps=7, eta=0.4),
        case("η without a generator", SHORT, normal(2, 1, 3, 3), 6, steps=3, eta=1.0, generator=None),
        case("from the middle", COSINE, normal(2, 1, 3, 3, seed=7), 7, steps=6, start=399),
        case("without clipping", SHORT, 3 * normal(2, 1, 3, 3), 8, steps=4, clip=False),
        case("float64", SHORT, normal(2, 1, 3, 3, dtype=torch.float64), 9, steps=4),
    ]  # fmt: skip


def run_sample(answer: Answer, inputs: Inputs) -> Any:
    """The walk as a list; or what is wrong with it where it holds on to every step's graph."""
    walk = call(answer, inputs)
    keeps = isinstance(walk, list) and any(getattr(x, "requires_grad", False) for x in walk)
    return "a walk that keeps every step's graph for gradients" if keeps else walk


def sample_with(
    step: Callable[..., Tensor] = ddim_step,
    times: Callable[[int, int], list[int]] = lambda T, steps: [*timesteps(T, steps), -1],
    told: Callable[[int, int], int] = lambda t, s: t,
    first: Callable[[int, int | None], int] = lambda T, start: T if start is None else start + 1,
    noise: Callable[[Tensor, torch.Generator | None], Tensor] = normal_like,
    out: Callable[[list[Tensor]], list[Tensor]] = lambda xs: xs[1:],
    **chosen: Any,
) -> Answer:
    """`sample` with its parts exchanged; `chosen` overrules what the caller chose.

    told(t, s) is the step that the network is told; first(T, start) is how many levels there are to
    walk through; out(xs) picks what is yielded from the list that starts with the noise.
    """

    @torch.no_grad()
    def answer(
        eps_model: reference.EpsModel,
        xt: Tensor,
        alpha_bars: Tensor,
        *,
        steps: int = 50,
        eta: float = 0.0,
        start: int | None = None,
        clip: bool = True,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        eta, clip = chosen.get("eta", eta), chosen.get("clip", clip)
        xs = [xt]
        for t, s in pairwise(times(first(len(alpha_bars), start), steps)):
            now = torch.full((len(xt),), t)
            z = noise(xt, generator) if eta > 0 else None
            eps_hat = eps_model(xs[-1], torch.full_like(now, told(t, s)))
            later = torch.full_like(now, s)
            xs.append(step(xs[-1], now, eps_hat, alpha_bars, later, eta, z, clip))
        yield from out(xs)

    return answer


def step_to_x0(xt: Tensor, t: Tensor, eps_hat: Tensor, alpha_bars: Tensor, *rest: Any) -> Tensor:
    return predict_x0(xt, t, eps_hat, alpha_bars).clamp(-1, 1)


def step_to_t_minus_1(
    xt: Tensor, t: Tensor, eps_hat: Tensor, alpha_bars: Tensor, s: Tensor, *rest: Any
) -> Tensor:
    return ddim_step(xt, t, eps_hat, alpha_bars, None, *rest)


def one_noise() -> Callable[[Tensor, torch.Generator | None], Tensor]:
    """Noise drawn once for a walk and used at each of its steps."""
    drawn: dict[int, Tensor] = {}

    def noise(x: Tensor, generator: torch.Generator | None) -> Tensor:
        if id(generator) not in drawn:
            drawn.clear()
            drawn[id(generator)] = normal_like(x, generator)
        return drawn[id(generator)]

    return noise


def same_noise_each_step(eps_model: Any, xt: Tensor, alpha_bars: Tensor, **chosen: Any) -> Any:
    return sample_with(noise=one_noise())(eps_model, xt, alpha_bars, **chosen)


def sample_one_t(eps_model: Any, xt: Tensor, alpha_bars: Tensor, **chosen: Any) -> Any:
    def one_t(x: Tensor, t: Tensor) -> Tensor:
        return eps_model(x, t[0])

    return sample_with()(one_t, xt, alpha_bars, **chosen)


def sample_with_graph(
    eps_model: reference.EpsModel,
    xt: Tensor,
    alpha_bars: Tensor,
    *,
    steps: int = 50,
    eta: float = 0.0,
    start: int | None = None,
    clip: bool = True,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    walk = [*timesteps(len(alpha_bars) if start is None else start + 1, steps), -1]
    for t, s in pairwise(walk):
        now = torch.full((len(xt),), t)
        z = normal_like(xt, generator) if eta > 0 else None
        eps_hat = eps_model(xt, now)
        xt = ddim_step(xt, now, eps_hat, alpha_bars, torch.full_like(now, s), eta, z, clip)
        yield xt


def sample_by_hand(
    eps_model: reference.EpsModel,
    xt: Tensor,
    alpha_bars: Tensor,
    *,
    steps: int = 50,
    eta: float = 0.0,
    start: int | None = None,
    clip: bool = True,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """A while loop, the formula written out, no_grad around the network alone."""
    walk = timesteps(len(alpha_bars) if start is None else start + 1, steps)
    while walk:
        t, walk = walk[0], walk[1:]
        a = float(alpha_bars[t])
        a_s = float(alpha_bars[walk[0]]) if walk else 1.0
        with torch.no_grad():
            eps_hat = eps_model(xt, torch.tensor([t] * len(xt)))
        x0_hat = (xt - (1 - a) ** 0.5 * eps_hat) / a**0.5
        x0_hat = x0_hat.clamp(-1, 1) if clip else x0_hat
        eps_hat = (xt - a**0.5 * x0_hat) / (1 - a) ** 0.5
        var = eta**2 * (1 - a_s) / (1 - a) * (1 - a / a_s)
        xt = a_s**0.5 * x0_hat + max(1 - a_s - var, 0.0) ** 0.5 * eps_hat
        if eta > 0:
            xt = xt + var**0.5 * torch.randn(xt.shape, generator=generator)
        yield xt


SAMPLE = Exercise(
    reference.sample,
    sample_cases,
    run=run_sample,
    mistakes=[
        Mistake("The network is told s, where the step leads, instead of t, where x_t is.",
                sample_with(told=lambda t, s: max(s, 0))),
        Mistake("The network is given one t without a batch axis. Each image has its own: t has "
                "shape (b,), here filled with one value.", sample_one_t),
        Mistake("Your walk ends at the smallest t, one step before the data: the last step leads to "
                "s = −1.", sample_with(times=timesteps)),
        Mistake("Each step goes to t − 1, though the next t is further down: pass s on.",
                sample_with(step=step_to_t_minus_1)),
        Mistake("You yield x̂_0 and go on from it. Each step leads to the noisy x_s: only the last "
                "one is clean.", sample_with(step=step_to_x0)),
        Mistake("You yield the noise you were given too; the first value is the first step's result.",
                sample_with(out=lambda xs: xs)),
        Mistake("You yield only the end. Yield each x on the way, so that a walk can be watched.",
                sample_with(out=lambda xs: xs[-1:])),
        Mistake("You ignore `eta`.", sample_with(eta=0.0)),
        Mistake("You ignore `clip`.", sample_with(clip=True)),
        Mistake("You ignore `start`.", sample_with(first=lambda T, start: T)),
        Mistake("Your walk begins one below `start`: t = start is visited, so there are start + 1 "
                "levels to walk through.",
                sample_with(first=lambda T, start: T if start is None else start)),
        Mistake("Your noise is not drawn from `generator`, so nobody can repeat the walk.",
                sample_with(noise=lambda x, generator: normal_like(x))),
        Mistake("Each step adds the same noise; draw it afresh, inside the loop.",
                same_noise_each_step),
        Mistake("The steps' graphs are kept for gradients that nobody asks for, and memory grows "
                "with every step. Keep `@torch.no_grad()` above the function.", sample_with_graph),
    ],
    alternatives=[sample_by_hand, sample_with()],
    hints=["The pairs (t, s) are neighbours in [*timesteps(…), -1]; `pairwise` gives them.",
           "In each round: ε̂ from x_t and t, noise where η > 0, `ddim_step`, `yield`.",
           "`torch.full((len(xt),), t)` is the same t for every image."],
)  # fmt: skip

EXERCISES = [
    POSTERIOR_MEAN,
    POSTERIOR_VAR,
    PREDICT_X0,
    TO_EPS,
    DDPM_STEP,
    DDIM_STEP,
    TIMESTEPS,
    SAMPLE,
]
