"""Lesson 07: what right answers satisfy, and the mistakes people make."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course import classifier_free_guidance as reference
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
from course.checks.sampling import HAND, LINEAR, SHORT, each_image, pair, spelled, wide
from course.checks.training import like
from course.classifier_free_guidance import ConditionalUNet, NetworkWithLabel, drop_labels
from course.forward_process import at, q_sample
from course.sampling import EpsModel, Kind, predict_x0, to_eps
from course.training import UNet, timestep_embedding, v_loss, v_target

# --- implicit_gradient --------------------------------------------------------------------------


def gradient_cases() -> list[Case]:
    cond, uncond = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 0.2)
    cases = [Case("one pixel, by hand", {"eps_cond": cond, "eps_uncond": uncond, "t": steps(0)})]
    cases[0].inputs["alpha_bars"] = HAND
    for label, eps, t, alpha_bars in [
        ("three images, each at its own t", pair(3, 1, 4, 4), steps(3, 900, 500), LINEAR),
        ("as many images as columns", pair(5, 3, 5, 5, seed=2), steps(9, 2, 0, 4, 1), SHORT),
        ("points of a plane", pair(2, 2, seed=4), steps(1, 7), SHORT),
        ("float64", pair(2, 4, 3, 6, dtype=torch.float64), steps(7, 9), SHORT),
    ]:
        inputs = {"eps_cond": eps[0], "eps_uncond": eps[1], "t": t, "alpha_bars": alpha_bars}
        cases.append(Case(label, inputs))
    return cases


def gradient_with(formula: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Answer:
    """implicit_gradient by a formula of both noises and of ᾱ (b, 1, …)."""
    return lambda eps_cond, eps_uncond, t, alpha_bars: formula(
        eps_cond, eps_uncond, at(alpha_bars, t, eps_cond)
    )


def gradient_image_by_image(
    eps_cond: Tensor, eps_uncond: Tensor, t: Tensor, alpha_bars: Tensor
) -> Tensor:
    def one(i: int, c: Tensor, u: Tensor) -> Tensor:
        return (u - c) / (1 - float(alpha_bars[i])) ** 0.5

    return each_image(one, t, eps_cond, eps_uncond)


def gradient_of_images(
    eps_cond: Tensor, eps_uncond: Tensor, t: Tensor, alpha_bars: Tensor
) -> Tensor:
    """By where the two noises see x_0: scores differ by √ᾱ/(1 − ᾱ) times as much."""
    nowhere = torch.zeros_like(eps_cond)
    seen, unseen = (predict_x0(nowhere, t, e, alpha_bars) for e in (eps_cond, eps_uncond))
    alpha_bar = at(alpha_bars, t, eps_cond)
    return alpha_bar.sqrt() / (1 - alpha_bar) * (seen - unseen)


IMPLICIT_GRADIENT = Exercise(
    reference.implicit_gradient,
    gradient_cases,
    mistakes=[
        Mistake("Your sign is turned round. A score is *minus* the noise over √(1 − ᾱ): it points "
                "to cleaner images, the noise away from them.",
                gradient_with(lambda c, u, a: (c - u) / (1 - a).sqrt())),
        Mistake("That is a difference of noises. Each is a score only after division by "
                "−√(1 − ᾱ).", gradient_with(lambda c, u, a: u - c)),
        Mistake("You divided by 1 − ᾱ, the noise's variance; the score is divided by its root.",
                gradient_with(lambda c, u, a: (u - c) / (1 - a))),
        Mistake("You divided by √ᾱ, which belongs to the image; the noise goes with √(1 − ᾱ).",
                gradient_with(lambda c, u, a: (u - c) / a.sqrt())),
        Mistake("You multiplied by √(1 − ᾱ): that turns a score into noise. From noise to score, "
                "divide.", gradient_with(lambda c, u, a: (u - c) * (1 - a).sqrt())),
        Mistake("You added the two scores. Bayes' rule subtracts: with the label minus without.",
                gradient_with(lambda c, u, a: -(c + u) / (1 - a).sqrt())),
        Mistake("That is the score with the label, ∇ log p(x_t | y). Take away the score without "
                "it, and the label's own part is left.",
                gradient_with(lambda c, u, a: -c / (1 - a).sqrt())),
        Mistake("alpha_bars[t] has shape (b,), the images (b, c, h, w): shape it (b, 1, 1, 1), or "
                "it meets the wrong axis. `at` and `score_from_eps` do it.",
                lambda eps_cond, eps_uncond, t, alpha_bars:
                (eps_uncond - eps_cond) / (1 - alpha_bars[t]).sqrt()),
    ],
    alternatives=[
        gradient_with(lambda c, u, a: (u - c) / (1 - a).sqrt()),
        gradient_image_by_image,
        gradient_of_images,
    ],
    hints=["Write ∇ log p(y | x_t) as a difference of two scores, with the label and without.",
           "Lesson 06's `score_from_eps(eps, t, alpha_bars)` turns each noise into its score."],
)  # fmt: skip


# --- guide ----------------------------------------------------------------------------------------


def guide_cases() -> list[Case]:
    by_hand = {
        "eps_cond": torch.full((1, 1, 1, 1), 0.5),
        "eps_uncond": torch.full((1, 1, 1, 1), 0.2),
    }
    cond, uncond = pair(3, 1, 4, 4, seed=2)
    precise = pair(2, 3, 5, 2, dtype=torch.float64, seed=4)
    return [
        Case("one pixel, by hand", {**by_hand, "guidance_scale": 2.0}),
        *(
            Case(f"three images, γ = {scale:g}",
                 {"eps_cond": cond, "eps_uncond": uncond, "guidance_scale": scale})
            for scale in (3.5, 1.0, 0.5, 0.0)
        ),
        Case("γ below 0: away from the label",
             {"eps_cond": cond, "eps_uncond": uncond, "guidance_scale": -1.0}),
        Case("float64 and a whole number",
             {"eps_cond": precise[0], "eps_uncond": precise[1], "guidance_scale": 4}),
    ]  # fmt: skip


def guide_with(formula: Callable[[Tensor, Tensor, float], Tensor]) -> Answer:
    """guide by a formula of both noises and γ."""
    return lambda eps_cond, eps_uncond, guidance_scale: formula(
        eps_cond, eps_uncond, guidance_scale
    )


GUIDE = Exercise(
    reference.guide,
    guide_cases,
    mistakes=[
        Mistake("Your scale is Ho & Salimans's w: (1 + w) ε(y) − w ε(∅). With the course's γ the "
                "weights are γ and 1 − γ; γ = 1 is the conditional noise, not more.",
                guide_with(lambda c, u, g: (1 + g) * c - g * u)),
        Mistake("The two noises have changed places: γ goes with the label, 1 − γ without.",
                guide_with(lambda c, u, g: g * u + (1 - g) * c)),
        Mistake("Your weights do not add up to 1: (1 − γ) is *added*. For γ > 1 it is negative by "
                "itself.", guide_with(lambda c, u, g: g * c - (1 - g) * u)),
        Mistake("That is only the way from ε(∅) towards ε(y). Start it somewhere: at ε(∅).",
                guide_with(lambda c, u, g: g * (c - u))),
        Mistake("You add γ ε(y) on top of ε(∅). It is γ times their *difference* that is added.",
                guide_with(lambda c, u, g: u + g * c)),
        Mistake("You go the other way, from ε(y) towards ε(∅) and beyond: away from the label.",
                guide_with(lambda c, u, g: u - g * (c - u))),
        Mistake("You hold γ between 0 and 1. Guidance begins where γ is larger than 1.",
                guide_with(lambda c, u, g: u + min(max(g, 0), 1) * (c - u))),
        Mistake("For γ ≤ 1 you return the conditional noise. diffusers' pipelines do so; here γ = 0 "
                "ignores the label, and between 0 and 1 lies what is between.",
                guide_with(lambda c, u, g: g * c + (1 - g) * u if g > 1 else c)),
        Mistake("You take the mean, weighted by γ and 1. Guidance is no compromise between the two "
                "noises: for γ > 1 it lies outside, beyond ε(y).",
                guide_with(lambda c, u, g: (g * c + u) / (1 + g) if g != -1 else u)),
        Mistake("You multiply the conditional noise by γ. That makes the whole noise larger, and "
                "says nothing of the label.", guide_with(lambda c, u, g: g * c)),
    ],
    alternatives=[
        guide_with(lambda c, u, g: u + g * (c - u)),
        guide_with(lambda c, u, g: c + (g - 1) * (c - u)),
        guide_with(lambda c, u, g: torch.lerp(u, c, float(g))),
    ],
    hints=["γ = 0 must give ε(∅), and γ = 1 must give ε(y).",
           "It is a straight line in γ through these two: a weighted sum, weights γ and 1 − γ."],
)  # fmt: skip


# --- guidance_scale_from --------------------------------------------------------------------------


def convention_cases() -> list[Case]:
    named = [
        Case(f"{value:g} in the convention {name!r}",
             {"value": value, "convention": spelled(name)})
        for name in ("ho_salimans", "imagen", "slides", "diffusers")
        for value in (3.0, 0.5, 1.0, 0.0, -1.0, 1.5)
    ]  # fmt: skip
    unknown = [
        Case(f"{name!r} is no convention", {"value": 0.5, "convention": spelled(name)})
        for name in ("gamma", "w", "cfg", "images", "")
    ]
    return named + unknown


Number = Callable[[float], float]


def _same(x: float) -> float:
    return x


def convention_with(
    slides: Number = _same,
    ho_salimans: Number = lambda w: 1 + w,
    imagen: Number = _same,
    diffusers: Number = lambda s: s if s > 1 else 1.0,
    other: Number | None = None,
) -> Answer:
    """guidance_scale_from by a function for each convention; `other` for an unknown one."""
    known = {
        "slides": slides,
        "ho_salimans": ho_salimans,
        "imagen": imagen,
        "diffusers": diffusers,
    }

    def guidance_scale_from(value: float, convention: str) -> float:
        translate = known.get(convention, other)
        if translate is None:
            raise ValueError(convention)
        return translate(value)

    return guidance_scale_from


def convention_matched(value: float, convention: str) -> float:
    match convention:
        case "ho_salimans":
            return value - (-1)
        case "diffusers" if value <= 1:
            return 1
        case "slides" | "imagen" | "diffusers":
            return value
    raise ValueError(f"unknown: {convention}")


GUIDANCE_SCALE_FROM = Exercise(
    reference.guidance_scale_from,
    convention_cases,
    mistakes=[
        Mistake("You took Ho & Salimans's w for γ. Their w = 0 is the conditional noise, which is "
                "γ = 1.", convention_with(ho_salimans=_same)),
        Mistake("You translated Ho & Salimans's w the wrong way: γ is one *more* than w.",
                convention_with(ho_salimans=lambda w: w - 1)),
        Mistake("For Ho & Salimans you returned −w, the weight of ε(∅); γ is the weight of ε(y).",
                convention_with(ho_salimans=lambda w: -w)),
        Mistake("Imagen's w is not Ho & Salimans's: it weighs ε(y) with w and ε(∅) with 1 − w. One "
                "letter, two meanings.", convention_with(imagen=lambda w: 1 + w)),
        Mistake("The slides' γ is ours, and needs no translation.",
                convention_with(slides=lambda g: 1 + g)),
        Mistake("With a guidance_scale of 1 or less, diffusers' pipelines do not guide: they take "
                "the conditional noise, which is γ = 1.", convention_with(diffusers=_same)),
        Mistake("Not to guide is not to ignore the label: at 1 and below, diffusers' pipelines "
                "return the *conditional* noise, γ = 1, not γ = 0.",
                convention_with(diffusers=lambda s: s if s > 1 else 0.0)),
        Mistake("diffusers' guidance_scale is not w: above 1 it is γ itself.",
                convention_with(diffusers=lambda s: 1 + s if s > 1 else 1.0)),
        Mistake("An unknown convention passes for γ without a word; raise a ValueError that says "
                "which there are.", convention_with(other=_same)),
        Mistake("An unknown convention passes for diffusers' without a word; raise a ValueError "
                "that says which there are.",
                convention_with(other=lambda s: s if s > 1 else 1.0)),
    ],
    alternatives=[convention_with(), convention_matched],
    hints=["In each convention, read off the number that stands with ε(x, t, y): that is γ.",
           "`scale_from_w` translates Ho & Salimans's w.",
           "diffusers: the number itself above 1; at 1 and below, what the conditional noise is."],
)  # fmt: skip


# --- drop_labels ----------------------------------------------------------------------------------


def drop_cases() -> list[Case]:
    many = torch.rand(200, generator=torch.Generator().manual_seed(0))
    digits = torch.arange(200) % 10
    edges = {"y": steps(2, 1, 0), "u": torch.tensor([0.25, 0.2499, 0.2501])}
    return [
        Case("four labels, by hand",
             {"y": steps(3, 7, 0, 5), "u": torch.tensor([0.5, 0.05, 0.03, 0.95]),
              "drop": 0.1, "null": 10}),
        Case("two hundred", {"y": digits, "u": many, "drop": 0.1, "null": 10}),
        Case("more dropped than kept, three classes",
             {"y": steps(0, 1, 2, 0, 2), "u": torch.tensor([0.1, 0.69, 0.71, 0.99, 0.4]),
              "drop": 0.7, "null": 3}),
        Case("one u is exactly `drop`", {**edges, "drop": 0.25, "null": 3}),
        Case("nothing is dropped", {"y": digits[:9], "u": many[:9] * 0, "drop": 0.0, "null": 10}),
        Case("everything is dropped", {"y": digits[:9], "u": many[:9], "drop": 1.0, "null": 10}),
    ]  # fmt: skip


def drop_with(chosen: Callable[[Tensor, float], Tensor]) -> Answer:
    """drop_labels where `chosen(u, drop)`: (b,) bool says which."""
    return lambda y, u, drop, null: torch.where(chosen(u, drop), null, y)


def drop_in_place(y: Tensor, u: Tensor, drop: float, null: int) -> Tensor:
    y[u < drop] = null
    return y


def drop_on_a_copy(y: Tensor, u: Tensor, drop: float, null: int) -> Tensor:
    told = y.clone()
    told[u < drop] = null
    return told


def drop_one_by_one(y: Tensor, u: Tensor, drop: float, null: int) -> Tensor:
    pairs = zip(y.tolist(), u.tolist(), strict=True)
    return torch.tensor([null if chance < drop else label for label, chance in pairs])


DROP_LABELS = Exercise(
    reference.drop_labels,
    drop_cases,
    mistakes=[
        Mistake("Your null label is 0, which is a class: the network would learn that \"no label\" "
                "means a zero. Use `null`, a number of its own.",
                lambda y, u, drop, null: torch.where(u < drop, 0, y)),
        Mistake("Your null label is −1. An embedding has no row −1; `null` is one of its rows.",
                lambda y, u, drop, null: torch.where(u < drop, -1, y)),
        Mistake("Your null label is always 10; with other classes it is another: use `null`.",
                lambda y, u, drop, null: torch.where(u < drop, 10, y)),
        Mistake("You keep a share `drop` and drop the rest: 1 − p for p. Dropped is where u is "
                "*below* `drop`.", drop_with(lambda u, drop: u >= drop)),
        Mistake("The whole batch is dropped together, or none of it: each label has a u of its "
                "own.", drop_with(lambda u, drop: (u[0] < drop).expand_as(u))),
        Mistake("You drop the first labels of the batch, a share `drop` of them. Let each label's u "
                "decide.", drop_with(lambda u, drop: torch.arange(len(u)) < drop * len(u))),
        Mistake("A u that equals `drop` is dropped in yours. u lies in [0, 1) and may be 0: with "
                "drop = 0 nothing may be dropped, so take u < drop.",
                drop_with(lambda u, drop: u <= drop)),
        Mistake("`drop` has no effect: a tenth is dropped whatever it says.",
                drop_with(lambda u, drop: u < 0.1)),
        Mistake("You draw random numbers of your own; use the `u` that is passed in, so that a "
                "step can be repeated.",
                drop_with(lambda u, drop: torch.rand(len(u)) < drop)),
        Mistake("You took the dropped labels out of the batch. Their images stay, so their places "
                "stay too: put `null` there.", lambda y, u, drop, null: y[u >= drop]),
        Mistake("You overwrite the labels you were given: the data's own would be lost, a tenth "
                "more of them in every epoch. Work on a copy, or use torch.where.", drop_in_place),
        Mistake("Your labels are no longer whole numbers (int64), which an embedding needs.",
                lambda y, u, drop, null: torch.where(u < drop, float(null), y)),
    ],
    alternatives=[
        drop_on_a_copy,
        drop_one_by_one,
        lambda y, u, drop, null: y.masked_fill(u < drop, null),
        lambda y, u, drop, null: y * (u >= drop) + null * (u < drop),
    ],
    hints=["u < drop is a tensor of True and False, one for each label.",
           "torch.where(condition, a, b) takes a where it is True and b elsewhere."],
)  # fmt: skip


# --- ConditionalUNet --------------------------------------------------------------------------------


def network_cases() -> list[Case]:
    same = normal(1, 1, 8, 8, seed=5)
    return [
        Case("a small one", {"num_classes": 3, "channels": (8, 8), "emb_dim": 4,
                             "xt": normal(1, 1, 8, 8), "t": steps(3), "y": steps(1)}),
        Case("all defaults, one label given and one not",
             {"xt": normal(2, 1, 8, 8, seed=1), "t": steps(0, 999), "y": steps(7, 10)}),
        Case("in colour, no folding",
             {"num_classes": 4, "in_channels": 3, "channels": (8, 16), "emb_dim": 6, "patch": 1,
              "xt": normal(3, 3, 6, 10, seed=2), "t": steps(7, 500, 20), "y": steps(4, 0, 3)}),
        Case("one image under four labels",
             {"num_classes": 3, "channels": (8, 8), "emb_dim": 4, "xt": same.repeat(4, 1, 1, 1),
              "t": steps(5, 5, 5, 5), "y": steps(0, 1, 2, 3)}),
    ]  # fmt: skip


def run_network(answer: Answer, inputs: Inputs) -> dict[str, Any]:
    """What a network of random weights makes of its inputs, and what it would tell its blocks."""
    settings_of_init = inspect.signature(ConditionalUNet).parameters
    settings = {k: x for k, x in inputs.items() if k in settings_of_init}
    xt, t, y = (inputs[k] for k in ("xt", "t", "y"))
    network = give_weights(answer(**settings), ConditionalUNet, settings)
    told = getattr(network, "embed_with", None)
    if told is None:
        raise UnusableError("Your ConditionalUNet has lost its method `embed_with(t, y)`.")
    return {
        "what `embed_with` gives": told(t, y),
        "its output": network(xt, t, y),
        "`null`": getattr(network, "null", None),
    }


def embedding(told: Callable[[ConditionalUNet, Tensor, Tensor], Tensor]) -> Answer:
    """A network that tells its blocks something else."""
    return like(ConditionalUNet, embed_with=told)


def network_with(
    forward: Callable[[ConditionalUNet, Tensor, Tensor, Tensor], Tensor],
) -> Answer:
    return like(ConditionalUNet, forward=forward)


def told_before_the_mlp(self: ConditionalUNet, t: Tensor, y: Tensor) -> Tensor:
    return self.time_mlp(timestep_embedding(t, self.emb_dim) + self.label_embedding(y))


def way_up_without_label(self: ConditionalUNet, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return self.decode(*self.encode(xt, self.embed_with(t, y)), self.embed(t))


def way_down_without_label(self: ConditionalUNet, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return self.decode(*self.encode(xt, self.embed(t)), self.embed_with(t, y))


def told_by_one_hot(self: ConditionalUNet, t: Tensor, y: Tensor) -> Tensor:
    table = self.label_embedding.weight
    return F.one_hot(y, self.null + 1).to(table) @ table + self.embed(t)


def image_by_image(self: ConditionalUNet, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
    parts = zip(xt.split(1), t.split(1), y.split(1), strict=True)
    return torch.cat([ConditionalUNet.forward(self, *one) for one in parts])


def one_line_each(self: ConditionalUNet, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
    told = self.embed_with(t, y)
    skip1, skip2, h = self.encode(xt, told)
    return self.decode(skip1, skip2, h, told)


CONDITIONAL_UNET = Exercise(
    ConditionalUNet,
    network_cases,
    mistakes=[
        Mistake("The label has no effect on what your blocks are told: add its row of "
                "`label_embedding`.", embedding(lambda self, t, y: self.embed(t))),
        Mistake("The time is lost: blocks must be told t *and* y. Add the two.",
                embedding(lambda self, t, y: self.label_embedding(y))),
        Mistake("You multiply the two embeddings. They are added.",
                embedding(lambda self, t, y: self.embed(t) * self.label_embedding(y))),
        Mistake("You embed the label as if it were a time. A label is a name, no quantity: 3 is not "
                "between 2 and 4. It has a learned row of its own in `label_embedding`.",
                embedding(lambda self, t, y: self.embed(t) + self.embed(y))),
        Mistake("You look the *time* up in the table of labels (or the label in that of times).",
                embedding(lambda self, t, y:
                          self.embed(y) + self.label_embedding(t % (self.null + 1)))),
        Mistake("You add the label before the small network `time_mlp`. `self.embed(t)` has already "
                "been through it; the label is added after.", embedding(told_before_the_mlp)),
        Mistake("Every image is told the first one's label; each has its own.",
                embedding(lambda self, t, y: self.embed(t) + self.label_embedding(y[:1]))),
        Mistake("Every image is told that no label was given: use y.",
                embedding(lambda self, t, y:
                          self.embed(t) + self.label_embedding(torch.full_like(y, self.null)))),
        Mistake("Your forward is lesson 03's: it never passes the label on. Use `embed_with`.",
                network_with(lambda self, xt, t, y: UNet.forward(self, xt, t))),
        Mistake("The way up is not told the label: `decode` gets the same embedding as `encode`.",
                network_with(way_up_without_label)),
        Mistake("The way down is not told the label: `encode` gets the same embedding as `decode`.",
                network_with(way_down_without_label)),
    ],
    alternatives=[
        like(ConditionalUNet, embed_with=told_by_one_hot),
        network_with(image_by_image),
        network_with(one_line_each),
    ],
    hints=["`self.embed(t)` is (b, emb_dim), and so is `self.label_embedding(y)`: add them.",
           "forward is lesson 03's, with `embed_with` in the place of `embed`.",
           "`encode` gives three things and `decode` takes the same three, then the embedding."],
    run=run_network,
)  # fmt: skip


# --- cfg_loss -------------------------------------------------------------------------------------


class GuessWithLabel(nn.Module):
    """A stand-in for a network, with one weight, that answers every label in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.weight * (1 + wide(y, xt)) * xt + wide(t, xt) / 10 - wide(y, xt) ** 2 / 5


def cfg_loss_cases() -> list[Case]:
    labels: list[tuple[str, Tensor, list[float], Inputs]] = [
        ("one pixel whose label is dropped", steps(1), [0.05], {"null": 10}),
        ("three images, drop = 0.5", steps(2, 0, 9), [0.6, 0.4, 0.49],
         {"null": 10, "drop": 0.5}),
        ("five images, three classes, `drop` as it comes", steps(1, 0, 2, 2, 1),
         [0.2, 0.09, 0.95, 0.11, 0.03], {"null": 3}),
        ("float64, nothing dropped", steps(4, 3), [0.0, 0.9], {"null": 5, "drop": 0.0}),
    ]  # fmt: skip
    return [
        Case(label, {"network": GuessWithLabel(), "y": y, "u": torch.tensor(u), **more,
                     **case.inputs})
        for case, (label, y, u, more) in zip(noising_cases(), labels, strict=True)
    ]  # fmt: skip


def run_cfg_loss(answer: Answer, inputs: Inputs) -> dict[str, Any]:
    """The loss, the gradient it gives (None where it gives none), and the calls that it takes."""
    network, calls = inputs["network"], []
    hook = network.register_forward_hook(lambda *_: calls.append(1))
    try:
        loss = answer(**inputs)
    finally:
        hook.remove()
    slope = None
    if isinstance(loss, Tensor) and loss.requires_grad:
        (slope,) = torch.autograd.grad(loss.sum(), list(network.parameters()))
    return {"the loss": loss, "the gradient of its weight": slope, "network calls": len(calls)}


Labels = Callable[[Tensor, Tensor, float, int], Tensor]
Measure = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def cfg_loss_with(
    told: Labels = drop_labels,
    measure: Measure = lambda out, v, eps, x0: F.mse_loss(out, v),
    given: Callable[[Tensor, Tensor], Tensor] = lambda xt, x0: xt,
) -> Answer:
    """A loss some part of which is another: the labels told, the comparison, or what is shown."""

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
        xt = q_sample(x0, t, eps, alpha_bars)
        out = network(given(xt, x0), t, told(y, u, drop, null))
        return measure(out, v_target(x0, t, eps, alpha_bars), eps, x0)

    return cfg_loss


def cfg_loss_twice(
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
    def loss(labels: Tensor) -> Tensor:
        return v_loss(lambda xt, t: network(xt, t, labels), x0, t, eps, alpha_bars)

    return (1 - drop) * loss(y) + drop * loss(torch.full_like(y, null))


def cfg_loss_of_the_kept(
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
    xt, v = q_sample(x0, t, eps, alpha_bars), v_target(x0, t, eps, alpha_bars)
    error = (network(xt, t, y) - v).square().flatten(1).mean(dim=1)
    return (error * (u >= drop)).mean()


def cfg_loss_in_a_loop(
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
    labels = torch.tensor([null if u[i] < drop else int(y[i]) for i in range(len(y))])
    signal, noise = at(alpha_bars, t, x0) ** 0.5, (1 - at(alpha_bars, t, x0)) ** 0.5
    out = network(signal * x0 + noise * eps, t, labels)
    errors = [(out[i] - signal[i] * eps[i] + noise[i] * x0[i]).pow(2).mean() for i in range(len(y))]
    return torch.stack(errors).mean()


CFG_LOSS = Exercise(
    reference.cfg_loss,
    cfg_loss_cases,
    mistakes=[
        Mistake("No label is ever dropped. The network would never learn what to say without one, "
                "and guidance would have nothing to compare with.",
                cfg_loss_with(lambda y, u, drop, null: y)),
        Mistake("Every label is dropped: the network would learn nothing of labels.",
                cfg_loss_with(lambda y, u, drop, null: torch.full_like(y, null))),
        Mistake("You keep a share `drop` of the labels and drop the rest: 1 − p for p.",
                cfg_loss_with(lambda y, u, drop, null: torch.where(u < drop, y, null))),
        Mistake("The whole batch loses its labels together, or keeps them. Each has its own u.",
                cfg_loss_with(lambda y, u, drop, null: drop_labels(y, u[:1], drop, null))),
        Mistake("Your null label is 0, which is a class. Use `null`.",
                cfg_loss_with(lambda y, u, drop, null: drop_labels(y, u, drop, 0))),
        Mistake("`drop` has no effect: a tenth is dropped whatever it says.",
                cfg_loss_with(lambda y, u, drop, null: drop_labels(y, u, 0.1, null))),
        Mistake("You draw random numbers of your own for the labels; use the `u` that is passed in, "
                "so that a step can be repeated.",
                cfg_loss_with(lambda y, u, drop, null:
                              drop_labels(y, torch.rand(len(y)), drop, null))),
        Mistake("You compare the output with ε. This network predicts v: use lesson 03's `v_loss`.",
                cfg_loss_with(measure=lambda out, v, eps, x0: F.mse_loss(out, eps))),
        Mistake("You compare the output with x_0. This network predicts v: use lesson 03's "
                "`v_loss`.", cfg_loss_with(measure=lambda out, v, eps, x0: F.mse_loss(out, x0))),
        Mistake("You sum the squares; the loss is their mean over every element.",
                cfg_loss_with(measure=lambda out, v, eps, x0: (out - v).square().sum())),
        Mistake("The network sees the clean images. It is given x_t; only the target knows x_0.",
                cfg_loss_with(given=lambda xt, x0: x0)),
        Mistake("Your loss carries no gradient (`detach`, `item` or `no_grad`): nothing could be "
                "trained with it.",
                cfg_loss_with(measure=lambda out, v, eps, x0: F.mse_loss(out, v).detach())),
        Mistake("You compute both losses, with all labels and with none, and weigh them. On average "
                "that is right, for twice the computing: the trick of label dropout is one call.",
                cfg_loss_twice),
        Mistake("Images whose label is dropped do not count in your loss. They do: it is from them "
                "that the network learns what `null` means.", cfg_loss_of_the_kept),
    ],
    alternatives=[
        cfg_loss_with(),
        cfg_loss_with(measure=lambda out, v, eps, x0: (v - out).pow(2).mean()),
        cfg_loss_in_a_loop,
    ],
    hints=["First decide with `drop_labels` what the network is told.",
           "v_loss calls its model as model(xt, t): hand it a function that adds the labels."],
    run=run_cfg_loss,
)  # fmt: skip


# --- cfg_eps_model ----------------------------------------------------------------------------------


class Counted:
    """A network that answers each image, time and label in its own way, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        return torch.sin(2 * xt) * (1 + wide(y, xt)) + wide(t, xt) / 10 - wide(y, xt) ** 2 / 7


def eps_model_cases() -> list[Case]:
    one = {"xt": torch.full((1, 1, 1, 1), 0.5), "t": steps(1), "y": steps(2), "null": 3}
    xt, again = pair(3, 1, 4, 4), steps(0, 2, 5)
    three = {"xt": xt[0], "t": steps(9, 4, 1), "y": steps(0, 2, 1), "null": 3, "alpha_bars": SHORT}
    precise = normal(2, 3, 2, 5, seed=3, dtype=torch.float64)
    return [
        Case("one pixel, by hand", {**one, "alpha_bars": HAND, "guidance_scale": 2.0}),
        Case("three images, each with its own t and label", {**three, "guidance_scale": 3.0}),
        Case("the label ignored, γ = 0", {**three, "t": again, "guidance_scale": 0.0}),
        Case("the conditional noise, γ = 1", {**three, "t": again, "guidance_scale": 1.0}),
        Case("four images, of which two are alike",
             {"xt": xt[1][[0, 1, 2, 0]], "t": steps(3, 3, 3, 3), "y": steps(4, 0, 9, 10),
              "null": 10, "alpha_bars": SHORT, "guidance_scale": 1.5}),
        Case("a network that predicts noise, float64",
             {"xt": precise, "t": steps(8, 0), "y": steps(1, 4), "null": 5, "alpha_bars": SHORT,
              "guidance_scale": 4.0, "kind": spelled("eps")}),
        Case("a network that predicts x_0",
             {**three, "guidance_scale": 2.5, "kind": spelled("x0")}),
    ]  # fmt: skip


def run_eps_model(answer: Answer, inputs: Inputs) -> dict[str, Any]:
    """Two steps of the guided noise, as a sampler asks for them, and the network calls they take.

    xt and t are the sampler's; the other inputs are those of `cfg_eps_model`.
    """
    settings = {k: x for k, x in inputs.items() if k not in ("xt", "t")}
    network, xt, t = Counted(), inputs["xt"], inputs["t"]
    eps_model = answer(network=network, **settings)
    if not callable(eps_model):
        raise UnusableError("Your cfg_eps_model returns no function: samplers call it as (xt, t).")
    return {
        "the guided noise": eps_model(xt, t),
        "the same one step later": eps_model(-0.5 * xt, t.flip(0)),
        "network calls for two steps": network.calls,
    }


Ask = Callable[[NetworkWithLabel, Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]
Mix = Callable[[Tensor, Tensor, float], Tensor]


def both(
    network: NetworkWithLabel, xt: Tensor, t: Tensor, y: Tensor, null: int
) -> tuple[Tensor, Tensor]:
    """The network's outputs with and without the label, in one call."""
    labels = torch.cat([y, torch.full_like(y, null)])
    cond, uncond = network(torch.cat([xt, xt]), torch.cat([t, t]), labels).chunk(2)
    return cond, uncond


def null_first(
    network: NetworkWithLabel, xt: Tensor, t: Tensor, y: Tensor, null: int
) -> tuple[Tensor, Tensor]:
    labels = torch.cat([torch.full_like(y, null), y])
    uncond, cond = network(torch.cat([xt, xt]), t.repeat(2), labels).chunk(2)
    return cond, uncond


def one_after_the_other(
    network: NetworkWithLabel, xt: Tensor, t: Tensor, y: Tensor, null: int
) -> tuple[Tensor, Tensor]:
    return network(xt, t, y), network(xt, t, torch.full_like(y, null))


def interleaved(
    network: NetworkWithLabel, xt: Tensor, t: Tensor, y: Tensor, null: int
) -> tuple[Tensor, Tensor]:
    labels = torch.stack([y, torch.full_like(y, null)], dim=1).flatten()
    out = network(xt.repeat_interleave(2, dim=0), t.repeat_interleave(2), labels)
    return out[::2], out[1::2]


def split_as_if_interleaved(
    network: NetworkWithLabel, xt: Tensor, t: Tensor, y: Tensor, null: int
) -> tuple[Tensor, Tensor]:
    out = torch.cat(both(network, xt, t, y, null))
    return out[::2], out[1::2]


def images_interleaved(
    network: NetworkWithLabel, xt: Tensor, t: Tensor, y: Tensor, null: int
) -> tuple[Tensor, Tensor]:
    labels = torch.cat([y, torch.full_like(y, null)])
    cond, uncond = network(
        xt.repeat_interleave(2, dim=0), t.repeat_interleave(2), labels
    ).chunk(2)  # fmt: skip
    return cond, uncond


def line(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    return uncond + scale * (cond - uncond)


def eps_model_with(
    ask: Ask = both,
    mix: Mix = line,
    convert: Callable[[Kind], Kind | None] = lambda kind: kind,
) -> Answer:
    """cfg_eps_model with another way to ask or to mix. `convert` is the kind, None for no change."""

    def cfg_eps_model(
        network: NetworkWithLabel,
        y: Tensor,
        null: int,
        alpha_bars: Tensor,
        guidance_scale: float,
        kind: Kind = "v",
    ) -> EpsModel:
        def eps_model(xt: Tensor, t: Tensor) -> Tensor:
            taken_as = convert(kind)
            cond, uncond = (
                out if taken_as is None else to_eps(out, xt, t, alpha_bars, taken_as)
                for out in ask(network, xt, t, y, null)
            )
            return mix(cond, uncond, guidance_scale)

        return eps_model

    return cfg_eps_model


def guide_the_output(
    network: NetworkWithLabel,
    y: Tensor,
    null: int,
    alpha_bars: Tensor,
    guidance_scale: float,
    kind: Kind = "v",
) -> EpsModel:
    """Guidance of whatever the network predicts; what comes out is converted once."""

    def eps_model(xt: Tensor, t: Tensor) -> Tensor:
        guided = line(*both(network, xt, t, y, null), guidance_scale)
        return to_eps(guided, xt, t, alpha_bars, kind)

    return eps_model


def convert_half(
    network: NetworkWithLabel,
    y: Tensor,
    null: int,
    alpha_bars: Tensor,
    guidance_scale: float,
    kind: Kind = "v",
) -> EpsModel:
    def eps_model(xt: Tensor, t: Tensor) -> Tensor:
        cond, uncond = both(network, xt, t, y, null)
        return line(to_eps(cond, xt, t, alpha_bars, kind), uncond, guidance_scale)

    return eps_model


CFG_EPS_MODEL = Exercise(
    reference.cfg_eps_model,
    eps_model_cases,
    mistakes=[
        Mistake("The noise is right, but each step calls the network twice. Put both questions into "
                "one batch, twice as long: one call, and a GPU will hardly notice the difference.",
                eps_model_with(one_after_the_other)),
        Mistake("With and without the label have changed places. The first half of the answer "
                "belongs to the first half of the labels.",
                eps_model_with(mix=lambda c, u, g: line(u, c, g))),
        Mistake("You take every other image for conditional. Your batch holds *all* images with "
                "their labels and then all without: split it in two halves, `chunk(2)`.",
                eps_model_with(split_as_if_interleaved)),
        Mistake("`repeat_interleave` puts each image beside its own copy, but your labels come as "
                "all y, then all ∅: images meet other images' labels. Repeat both in one order.",
                eps_model_with(images_interleaved)),
        Mistake("Your null label is 0, which is a class. Use `null`.",
                eps_model_with(lambda network, xt, t, y, null: both(network, xt, t, y, 0))),
        Mistake("γ has no effect: yours is the conditional noise, whatever γ is. Is the second half "
                "of the batch told `null`, and does `guide` get both halves?",
                eps_model_with(lambda network, xt, t, y, null: (both(network, xt, t, y, null)[0],) * 2)),
        Mistake("Every image gets the first one's label; each has its own.",
                eps_model_with(lambda network, xt, t, y, null:
                               both(network, xt, t, y[:1].expand_as(y), null))),
        Mistake("Your scale is Ho & Salimans's w. With the course's γ, 1 is the conditional noise: "
                "use `guide`.", eps_model_with(mix=lambda c, u, g: (1 + g) * c - g * u)),
        Mistake("You return what the network predicts. Samplers want noise: send it through "
                "`to_eps`, with its kind.", eps_model_with(convert=lambda kind: None)),
        Mistake("You converted only the conditional half: a v was then mixed with a noise.",
                convert_half),
        Mistake("You take the output for v whatever `kind` says.",
                eps_model_with(convert=lambda kind: "v")),
    ],
    alternatives=[
        eps_model_with(),
        eps_model_with(null_first),
        eps_model_with(interleaved),
        guide_the_output,
    ],
    hints=["Build a batch of 2b: the images twice, their times twice, and the labels once as they "
           "are and once as `null`.",
           "torch.full_like(y, null) is the second half of the labels; torch.cat joins halves.",
           "Convert the whole answer with `to_eps` (of 2b too), take it apart with chunk(2), and "
           "let `guide` mix the halves."],
    run=run_eps_model,
)  # fmt: skip

EXERCISES = [
    IMPLICIT_GRADIENT,
    GUIDE,
    GUIDANCE_SCALE_FROM,
    CONDITIONAL_UNET,
    DROP_LABELS,
    CFG_LOSS,
    CFG_EPS_MODEL,
]
