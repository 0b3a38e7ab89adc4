"""Lesson 12: what right answers satisfy, and the mistakes people make."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course.atkpdm import attack, autopsy, baselines, budgets, distance, evaluation, purifiers
from course.atkpdm import victims as victims_module
from course.atkpdm.distance import Distance, feature_l2, positions, wasserstein2
from course.atkpdm.victims import Victim, layer_outputs
from course.checks.engine import Answer, Case, Exercise, Inputs, Mistake
from course.checks.forward_process import normal
from course.checks.sampling import SHORT
from course.forward_process import at, q_sample
from course.plots import to_uint8
from course.sampling import normal_like


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(*shape: int, seed: int = 0) -> Tensor:
    """Pictures in [−1, 1], of their own seed."""
    return torch.rand(shape, generator=seeded(seed)) * 2 - 1


# --- A victim small enough to be one line -----------------------------------------------------


class Tiny(nn.Module):
    """Two layers that know of t: a network whose hooks and gradients can be followed."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 1, 3, padding=1)
        self.calls = 0
        for k, p in enumerate(self.parameters()):
            p.data = torch.randn(p.shape, generator=seeded(100 * seed + k)) / p[0].numel() ** 0.5
            p.requires_grad_(False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.second(torch.tanh(self.first(x)) * (1 + t.reshape(-1, 1, 1, 1) / 10))
        self.calls += 1
        return self.last(torch.tanh(h))


def tiny_victim(
    layers: Sequence[str] = ("first", "second"), alpha_bars: Tensor = SHORT, size: int = 5
) -> Victim:
    network = Tiny()
    return Victim("tiny", network, network, alpha_bars, size, 1, tuple(layers))


def with_victim(answer: Answer, inputs: Inputs) -> Any:
    """The answer with a victim made of the names of its layers."""
    given = {k: v for k, v in inputs.items() if k != "layers"}
    return answer(victim=tiny_victim(inputs.get("layers", ("second",))), **given)


# --- wasserstein2 -----------------------------------------------------------------------------


def map_cases() -> list[Case]:
    def case(label: str, x: Tensor, y: Tensor) -> Case:
        return Case(label, {"x": x, "y": y})

    row = lambda *v: torch.tensor(v, dtype=torch.float32).reshape(1, 1, 1, -1)
    return [
        case("one channel, two positions: (1 − 3)² and nothing else", row(0.0, 2.0), row(4.0, 2.0)),
        case("one channel, spread 1 and spread 2", row(-1.0, 1.0), row(-2.0, 2.0)),
        case("more positions than channels", normal(2, 3, 4, 5), 1.5 * normal(2, 3, 4, 5, seed=1)),
        case("more channels than positions", normal(2, 7, 2, 2, seed=2), normal(2, 7, 2, 2, seed=3)),
        case("means far apart", normal(1, 3, 3, 3, seed=4) + 3, normal(1, 3, 3, 3, seed=5)),
        case("equal maps", normal(2, 3, 3, 2, seed=6), normal(2, 3, 3, 2, seed=6)),
        case("float64", normal(1, 2, 3, 3).double(), normal(1, 2, 3, 3, seed=1).double()),
    ]  # fmt: skip


def w2_cases() -> list[Case]:
    def refused(label: str, x: Tensor, y: Tensor) -> Case:
        return Case(label, {"x": x, "y": y})

    return [
        *map_cases(),
        refused("maps of different shapes, which have no distance", normal(1, 2, 3, 3), normal(1, 2, 3, 4)),
        refused("the same the other way round", normal(1, 2, 3, 4), normal(1, 2, 3, 3)),
        refused("a map without its batch", normal(2, 3, 3), normal(2, 3, 3)),
        refused("a map of five axes", normal(1, 2, 3, 3, 1), normal(1, 2, 3, 3, 1)),
    ]  # fmt: skip


def refuse_maps(x: Tensor, y: Tensor) -> None:
    if x.ndim != 4 or x.shape != y.shape:
        raise ValueError("no two maps of one shape")


def nuclear(x: Tensor) -> Tensor:
    return torch.linalg.svdvals(x).sum(dim=-1)


def w2_with(
    rows: Callable[[Tensor], Tensor] = lambda x: x.flatten(2).transpose(1, 2),
    centre: bool = True,
    divide: Callable[[int], float] = lambda n: n,
    cross: Callable[[Tensor], Tensor] = nuclear,
    mean_term: Callable[[Tensor], Tensor] = lambda d: d.square().sum(dim=-1),
    twice: float = 2.0,
    out: Callable[[Tensor], Tensor] = lambda d: d,
    guard: bool = True,
) -> Answer:
    """wasserstein2 with its parts exchanged."""

    def answer(x: Tensor, y: Tensor) -> Tensor:
        if guard:
            refuse_maps(x, y)
        a, b = rows(x), rows(y)
        means = a.mean(dim=1), b.mean(dim=1)
        a, b = (z - m[:, None] if centre else z for z, m in zip((a, b), means, strict=True))
        n = divide(a.shape[1])
        spread = (a.square().sum(dim=(1, 2)) + b.square().sum(dim=(1, 2))) / n
        shared = cross(a @ b.transpose(1, 2)) / n
        return out(mean_term(means[0] - means[1]) + spread - twice * shared)

    return answer


def w2_by_covariances(x: Tensor, y: Tensor) -> Tensor:
    """Σ_x^½ Σ_y Σ_x^½ itself, in float64."""
    refuse_maps(x, y)
    (mean_x, a), (mean_y, b) = positions(x.double()), positions(y.double())
    cov_x, cov_y = (z.transpose(1, 2) @ z / z.shape[1] for z in (a, b))
    values, vectors = torch.linalg.eigh(cov_x)
    root = vectors * values.clamp(min=0).sqrt()[:, None] @ vectors.transpose(1, 2)
    cross = torch.linalg.eigvalsh(root @ cov_y @ root).clamp(min=0).sqrt().sum(dim=1)
    trace = lambda m: m.diagonal(dim1=1, dim2=2).sum(dim=1)
    total = (mean_x - mean_y).square().sum(dim=1) + trace(cov_x) + trace(cov_y) - 2 * cross
    return total.to(x.dtype)


def w2_one_by_one(x: Tensor, y: Tensor) -> Tensor:
    refuse_maps(x, y)
    return torch.cat([w2_with()(a[None], b[None]) for a, b in zip(x, y, strict=True)])


WASSERSTEIN2 = Exercise(
    distance.wasserstein2,
    w2_cases,
    mistakes=[
        Mistake("Channels and positions have changed places. Each of the h·w positions is a point, "
                "and its c channels are its coordinates.", w2_with(rows=lambda x: x.flatten(2))),
        Mistake("The rows are not centred: a covariance is of departures from the mean.",
                w2_with(centre=False)),
        Mistake("Nothing is divided by n: these are scatter matrices, n times the covariances, and "
                "the means hardly count beside them.", w2_with(divide=lambda n: 1)),
        Mistake("You divided by n − 1; here covariances are divided by n.",
                w2_with(divide=lambda n: max(n - 1, 1))),
        Mistake("The distance between the means is missing.",
                w2_with(mean_term=lambda d: 0 * d.sum(dim=-1))),
        Mistake("The squared difference of the means is averaged over channels; it is added up.",
                w2_with(mean_term=lambda d: d.square().mean(dim=-1))),
        Mistake("The last trace stands with a factor 2, as in (a − b)² = a² + b² − 2ab.",
                w2_with(twice=1.0)),
        Mistake("Your norm of X Yᵀ is Frobenius', the root of its squares' sum; the nuclear norm is "
                "the sum of the singular values.", w2_with(cross=torch.linalg.matrix_norm)),
        Mistake("You took the trace of X Yᵀ itself, which pairs each position with its own; that is "
                "the squared distance of the maps. The nuclear norm takes the best pairing.",
                w2_with(cross=lambda m: m.diagonal(dim1=1, dim2=2).sum(dim=1))),
        Mistake("That is the distance; *squared* is asked, whose slope does not blow up near 0.",
                w2_with(out=lambda d: d.clamp(min=0).sqrt())),
        Mistake("One number for each picture of the batch is asked, not one for all.",
                w2_with(out=lambda d: d.mean())),
        Mistake("Maps of different shapes have no distance here: raise a ValueError.",
                lambda x, y: w2_with(guard=False)(x, y[..., : x.shape[3]])),
    ],
    alternatives=[w2_by_covariances, w2_one_by_one, w2_with()],
    hints=[
        "`positions` gives the mean (b, c) and the centred rows (b, n, c) of a map; you need both "
        "maps' means, traces, and one nuclear norm.",
        "tr Σ is the sum of all squares of the centred rows, divided by n.",
        "`torch.linalg.matrix_norm(…, ord=\"nuc\")` works on the last two axes: give it X Yᵀ.",
    ],
    atol=1e-4,
)  # fmt: skip


# --- published_distance -------------------------------------------------------------------------


def published_cases() -> list[Case]:
    small = map_cases()
    floors = [0.1, 0.5, 0.1, 0.1, 0.1, 0.1, 0.01]
    cases = [
        Case(case.label, case.inputs if floor == 0.1 else {**case.inputs, "floor": floor})
        for case, floor in zip(small, floors, strict=True)
    ]
    few = {"x": normal(1, 6, 1, 2, seed=9), "y": normal(1, 6, 1, 2, seed=9)}
    return [*cases, Case("equal maps of two positions and six channels", few)]


def published_with(
    mean_term: Callable[[Tensor], Tensor] = lambda d: d.square().mean(dim=1),
    divide: bool = False,
    clip: Callable[[Tensor, float], Tensor] = lambda v, floor: v.clamp(min=floor).sqrt(),
    twice: float = 2.0,
) -> Answer:
    """The published distance by its c eigenvalues; n × n alternatives lack the zeros it clips."""

    def answer(x: Tensor, y: Tensor, floor: float = 0.1) -> Tensor:
        (mean_x, a), (mean_y, b) = positions(x), positions(y)
        n = a.shape[1] if divide else 1
        # The eigenvalues of S_x^½ S_y S_x^½: squares of X Yᵀ's singular values, and zeros up to c.
        found = torch.linalg.svdvals(a @ b.transpose(1, 2)).square() / n**2
        c = a.shape[2]
        values = F.pad(found, (0, max(0, c - found.shape[1])))[:, :c]
        spread = (a.square().sum(dim=(1, 2)) + b.square().sum(dim=(1, 2))) / n
        return mean_term(mean_x - mean_y) + spread - twice * clip(values, floor).sum(dim=1)

    return answer


def published_by_roots(x: Tensor, y: Tensor, floor: float = 0.1) -> Tensor:
    """The eigenvalues of S_x S_y, which are the same."""
    (mean_x, a), (mean_y, b) = positions(x.double()), positions(y.double())
    s_x, s_y = a.transpose(1, 2) @ a, b.transpose(1, 2) @ b
    values = torch.linalg.eigvals(s_x @ s_y).real
    spread = (a.square() + b.square()).sum(dim=(1, 2))
    total = (mean_x - mean_y).square().mean(dim=1) + spread
    return (total - 2 * values.clamp(min=floor).sqrt().sum(dim=1)).to(x.dtype)


PUBLISHED_DISTANCE = Exercise(
    distance.published_distance,
    published_cases,
    mistakes=[
        Mistake("You mended it: where the published code clips at `floor`, yours clips at 0. Write "
                "down what it does, not what it should do.",
                published_with(clip=lambda v, floor: v.clamp(min=0).sqrt())),
        Mistake("You mended it: S is the scatter matrix, not the covariance; nothing is divided by "
                "n.", published_with(divide=True)),
        Mistake("The squared difference of the means is *averaged* over channels in this variant.",
                published_with(mean_term=lambda d: d.square().sum(dim=1))),
        Mistake("The eigenvalues are clipped before the root is taken, not the roots after.",
                published_with(clip=lambda v, floor: v.sqrt().clamp(min=floor))),
        Mistake("The last sum stands with a factor 2.", published_with(twice=1.0)),
        Mistake("That is the right distance, `wasserstein2`. The exercise is to write down the "
                "published one.", lambda x, y, floor=0.1: wasserstein2(x, y)),
    ],
    alternatives=[published_with(), published_by_roots],
    hints=[
        "The scatter matrix of centred rows X (n × c) is Xᵀ X: c × c.",
        "S_x^½ by `torch.linalg.eigh`: vectors · √values · vectorsᵀ, with values clamped at 0.",
        "`torch.linalg.eigvalsh` of S_x^½ S_y S_x^½ gives the c eigenvalues λ to clip at `floor`.",
    ],
    rtol=1e-3,
    atol=2e-2,
)  # fmt: skip


# --- layer_outputs ------------------------------------------------------------------------------


class Pair(nn.Module):
    """A layer that puts out a tuple, as the blocks of diffusers do on their way down."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 1)
        for k, p in enumerate(self.parameters()):
            p.data = torch.randn(p.shape, generator=seeded(50 + k))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(x), x


class Layered(nn.Module):
    """Three layers in a row; the second puts out a tuple, and the last one may break."""

    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(1, 3, 1), Pair(), nn.Conv2d(3, 1, 1)
        self.broken, self.reached = broken, 0
        for k, p in enumerate(self.parameters()):
            p.data = torch.randn(p.shape, generator=seeded(k))

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.two(self.one(x).sin())
        if self.broken:
            raise RuntimeError("this network breaks")
        self.reached += 1
        return self.three(h)


def layer_cases() -> list[Case]:
    def case(label: str, layers: list[str], broken: bool = False) -> Case:
        return Case(label, {"layers": layers, "broken": broken, "x": normal(2, 1, 2, 3)})

    return [
        case("the first layer", ["one"]),
        case("a layer that puts out a tuple", ["two"]),
        case("a layer inside another, by its full name", ["two.inner"]),
        case("three layers, asked for in another order", ["three", "one", "two"]),
        case("a name that is none", ["four"]),
        case("a network that breaks half-way", ["one", "three"], broken=True),
    ]


def run_layers(answer: Answer, inputs: Inputs) -> Any:
    """The outputs, how many hooks stay behind, and whether the call went on after the last layer."""
    network = Layered(inputs["broken"])
    failed = ""
    out: Any = None
    try:
        out = answer(
            network=network, layers=inputs["layers"], run=lambda: network(inputs["x"].clone())
        )
    except (NotImplementedError, ValueError):
        raise
    except Exception as error:
        failed = type(error).__name__
    left = sum(len(m._forward_hooks) for m in network.modules())
    return {"outputs": out, "failed": failed, "hooks left": left, "went on": network.reached}


class _DoneError(Exception):
    """The last layer has spoken."""


def layers_with(
    remove: str = "always",
    guard: bool = True,
    stop: bool = True,
    first_of_tuple: bool = True,
    order: Callable[[Sequence[str], dict[str, Any]], list[str]] = lambda names, found: list(names),
    inputs_instead: bool = False,
) -> Answer:
    """layer_outputs with its parts exchanged; `remove` is "always", "after" or "never"."""

    def answer(
        network: nn.Module, layers: Sequence[str], run: Callable[[], object]
    ) -> dict[str, Tensor]:
        modules = dict(network.named_modules())
        if guard and set(layers) - set(modules):
            raise ValueError("no such layer")
        found: dict[str, Tensor] = {}

        def keep(name: str, given: Any, output: Any) -> None:
            value = output[0] if first_of_tuple and isinstance(output, tuple) else output
            found[name] = given[0] if inputs_instead else value
            if stop and len(found) == len(layers):
                raise _DoneError

        hooks = [
            modules[name].register_forward_hook(lambda m, i, o, name=name: keep(name, i, o))
            for name in layers
            if name in modules
        ]
        try:
            with contextlib.suppress(_DoneError):
                run()
        except Exception:
            if remove == "always":
                _ = [hook.remove() for hook in hooks]
            raise
        if remove != "never":
            _ = [hook.remove() for hook in hooks]
        return {name: found[name] for name in order(layers, found) if name in found}

    return answer


def layers_in_a_stack(
    network: nn.Module, layers: Sequence[str], run: Callable[[], object]
) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(_DoneError))
        for name in layers:
            try:
                module = network.get_submodule(name)
            except AttributeError as error:
                raise ValueError(name) from error

            def hook(_: Any, __: Any, output: Any, name: str = name) -> None:
                found[name] = output if isinstance(output, Tensor) else output[0]
                if set(found) == set(layers):
                    raise _DoneError

            stack.callback(module.register_forward_hook(hook).remove)
        run()
    return {name: found[name] for name in layers}


LAYER_OUTPUTS = Exercise(
    victims_module.layer_outputs,
    layer_cases,
    run=run_layers,
    mistakes=[
        Mistake("Your hooks stay in the network. From now on every call of it keeps their outputs "
                "alive, and the next attack hears all of them: remove each.",
                layers_with(remove="never")),
        Mistake("Where the network breaks, your hooks stay behind: remove them in a `finally`.",
                layers_with(remove="after")),
        Mistake("A name that is none is passed over. Refuse it with a ValueError that lists the "
                "names there are: a typing error must not become an attack on nothing.",
                layers_with(guard=False)),
        Mistake("The call goes on to its end. An attack needs the middle of the network alone: stop "
                "when the last layer has put out, for half the price.", layers_with(stop=False)),
        Mistake("Of a layer that puts out a tuple, the first element is asked.",
                layers_with(first_of_tuple=False)),
        Mistake("The outputs come in the order in which the layers ran; asked is the order of "
                "`layers`.", layers_with(order=lambda names, found: list(found))),
        Mistake("You kept what goes *into* the layers; a hook is called with (module, inputs, "
                "output).", layers_with(inputs_instead=True)),
    ],
    alternatives=[layers_with(), layers_in_a_stack],
    hints=[
        "`dict(network.named_modules())` finds a module by its name; `register_forward_hook(f)` "
        "calls f(module, inputs, output) after it ran, and returns a handle with `remove()`.",
        "Keep outputs in a dict. To stop the call, raise an exception of your own in the hook of "
        "the last layer, and swallow it around `run()`.",
        "try: … finally: remove every handle. In a loop, bind the name: `lambda m, i, o, name=name:`.",
    ],
)  # fmt: skip


# --- feature_loss -------------------------------------------------------------------------------


def feature_cases() -> list[Case]:
    def case(label: str, n: int, layers: Sequence[str], t: list[int], **chosen: Any) -> Case:
        x = pictures(n, 1, 5, 5, seed=n)
        inputs = {
            "layers": tuple(layers),
            "x": x,
            "x_adv": x + 0.1 * normal(n, 1, 5, 5, seed=7),
            "t": torch.tensor(t),
            "eps": normal(n, 1, 5, 5, seed=8),
        }
        return Case(label, {**inputs, **chosen})

    same = pictures(1, 1, 5, 5, seed=3)
    return [
        case("one picture, one layer", 1, ["second"], [2]),
        case("two layers", 2, ["first", "second"], [0, 9]),
        case("by the squared distance of the maps", 2, ["second"], [4, 5], distance=feature_l2),
        case("x_adv is x: nothing moves", 1, ["second"], [3], x=same, x_adv=same.clone()),
    ]


def run_feature_loss(answer: Answer, inputs: Inputs) -> Any:
    """The loss, and its gradients at x_adv and at x."""
    x_adv, x = (inputs[name].clone().requires_grad_() for name in ("x_adv", "x"))
    loss = with_victim(answer, {**inputs, "x_adv": x_adv, "x": x})
    if not isinstance(loss, Tensor):
        return loss
    if not loss.requires_grad:
        return [loss, "no gradient", "no gradient"]
    slopes = torch.autograd.grad(loss.sum(), [x_adv, x], allow_unused=True)
    names = ["none" if g is None else "some" for g in slopes]
    rounding = not bool((x_adv - x).abs().max() > 0)
    at_adv = torch.zeros_like(x_adv) if slopes[0] is None or rounding else slopes[0]
    return [loss.detach(), at_adv, *names]


def feature_with(
    noise: Callable[[Tensor], Tensor] = lambda eps: eps,
    noised: bool = True,
    against: str = "clean",
    detach: bool = True,
    detach_ours: bool = False,
    reduce: Callable[[Tensor], Tensor] = lambda d: d.sum(dim=0),
    which: Callable[[Sequence[str]], Sequence[str]] = lambda names: names,
    levels: Callable[[Tensor], Tensor] = lambda t: t,
    out: Callable[[Tensor], Tensor] = lambda d: d,
    fixed: Distance | None = None,
) -> Answer:
    """feature_loss with its parts exchanged."""

    def answer(
        victim: Victim,
        x: Tensor,
        x_adv: Tensor,
        t: Tensor,
        eps: Tensor,
        distance: Distance = wasserstein2,
    ) -> Tensor:
        def seen(z: Tensor, e: Tensor) -> dict[str, Tensor]:
            zt = q_sample(z, levels(t), e, victim.alpha_bars) if noised else z
            return layer_outputs(
                victim.network, victim.layers, lambda: victim.eps_model(zt, levels(t))
            )

        clean, ours = seen(x, noise(eps)), seen(x_adv, eps)
        if detach:
            clean = {k: v.detach() for k, v in clean.items()}
        if detach_ours:
            ours = {k: v.detach() for k, v in ours.items()}
        measure = fixed or distance
        each = [measure(ours[n], clean[n]) for n in which(victim.layers)]
        return out(reduce(torch.stack(each)))

    return answer


def feature_by_two(
    victim: Victim,
    x: Tensor,
    x_adv: Tensor,
    t: Tensor,
    eps: Tensor,
    distance: Distance = wasserstein2,
) -> Tensor:
    """Both pictures in one call."""
    both = torch.cat([x.detach(), x_adv])
    xt = q_sample(both, t.repeat(2), eps.repeat(2, 1, 1, 1), victim.alpha_bars)
    found = layer_outputs(
        victim.network, victim.layers, lambda: victim.eps_model(xt, t.repeat(2))
    ).values()
    total = torch.zeros(len(x))
    for map_ in found:
        clean, ours = map_.chunk(2)
        total = total + distance(ours, clean)
    return total


FEATURE_LOSS = Exercise(
    attack.feature_loss,
    feature_cases,
    run=run_feature_loss,
    mistakes=[
        Mistake("The two pictures are noised by different ε. Their features then differ by the "
                "noise, and the attack climbs what the noise did: use the same.",
                feature_with(noise=lambda eps: eps.flip(3))),
        Mistake("The pictures are not noised; the victim only ever sees x_t.",
                feature_with(noised=False)),
        Mistake("A gradient reaches x, the original: take its features under `torch.no_grad()`.",
                feature_with(detach=False)),
        Mistake("No gradient reaches x_adv, so there is nothing to climb: keep its features in the "
                "graph.", feature_with(detach_ours=True)),
        Mistake("Only the first of the victim's layers counts in yours; their distances add up.",
                feature_with(which=lambda names: names[:1])),
        Mistake("The layers' distances are averaged in yours; they add up.",
                feature_with(reduce=lambda d: d.mean(dim=0))),
        Mistake("One number for each picture is asked; yours is one for all.",
                feature_with(out=lambda d: d.sum())),
        Mistake("Your distance is always `wasserstein2`: use the parameter `distance`.",
                feature_with(fixed=wasserstein2)),
        Mistake("You noised to another t than the network is told, or than was asked.",
                feature_with(levels=lambda t: (t + 1).clamp(max=9))),
    ],
    alternatives=[feature_with(), feature_by_two],
    hints=[
        "Noise both with `q_sample` to the same t and with the same eps.",
        "`features(victim, xt, t)` gives a dict of maps, one for each of `victim.layers`.",
        "x's features under `torch.no_grad()`; then add up distance(ours[name], clean[name]).",
    ],
    rtol=1e-3,
    atol=1e-4,
)  # fmt: skip


# --- border_scale -------------------------------------------------------------------------------


def border_cases() -> list[Case]:
    def case(label: str, x: Tensor, delta: Tensor, allowed: float, most: list[float]) -> Case:
        inputs = {"x": x, "delta": delta, "allowed": allowed, "most": torch.tensor(most)}
        return Case(label, inputs)

    grey, right = torch.zeros(1, 1, 1, 2), torch.tensor([[[[3.0, 4.0]]]])
    x, d = pictures(3, 1, 3, 3), normal(3, 1, 3, 3, seed=1)
    return [
        case("by hand: a step of length 5, and 0.5 is allowed", grey, right, 0.5, [1.0]),
        case("a step that is allowed as it is", grey, right / 10, 2.0, [1.0]),
        case("one is cut at 1, so that the other may go on", grey, torch.tensor([[[[8.0, 1.0]]]]),
             1.1, [1.0]),
        case("three pictures", x, d, 0.7, [1.0, 1.0, 1.0]),
        case("larger than it is", x, d / 50, 0.7, [100.0, 2.0, 50.0]),
    ]  # fmt: skip


def border_with(
    clip: bool = True,
    per_picture: bool = True,
    start: Callable[[Tensor], Tensor] = lambda most: most,
    norm: float = 2.0,
    rounds_used: int | None = None,
) -> Answer:
    """border_scale with its parts exchanged."""

    def answer(x: Tensor, delta: Tensor, allowed: float, most: Tensor, rounds: int = 60) -> Tensor:
        def far(s: Tensor) -> Tensor:
            y = x + s.reshape(-1, *[1] * (x.ndim - 1)) * delta
            lengths = ((y.clamp(-1, 1) if clip else y) - x).flatten(1).norm(norm, dim=1)
            return lengths if per_picture else lengths.max().expand(len(x))

        low, high = torch.zeros_like(most), start(most).clone()
        for _ in range(rounds_used or rounds):
            s = (low + high) / 2
            inside = far(s) <= allowed
            low, high = torch.where(inside, s, low), torch.where(inside, high, s)
        return low

    return answer


def border_by_steps(
    x: Tensor, delta: Tensor, allowed: float, most: Tensor, rounds: int = 60
) -> Tensor:
    """One picture at a time, adding ever smaller powers of two."""
    out = []
    for a, d, top in zip(x, delta, most, strict=True):
        s, step = 0.0, float(top)
        for _ in range(rounds):
            if s + step <= top and ((a + (s + step) * d).clamp(-1, 1) - a).norm() <= allowed:
                s += step
            step /= 2
        out.append(s)
    return torch.tensor(out)


BORDER_SCALE = Exercise(
    budgets.border_scale,
    border_cases,
    mistakes=[
        Mistake("You measured before cutting to [−1, 1]. Cut pixels use up less of the budget than "
                "you counted, so the picture could go further.", border_with(clip=False)),
        Mistake("One s for the whole batch: the picture that is first at its border stops all. Each "
                "has its own.", border_with(per_picture=False)),
        Mistake("Your search begins at 1, so that nothing is ever made larger; it begins at `most`.",
                border_with(start=torch.ones_like)),
        Mistake("That is the length by the sum of absolute values; PSNR is of squares: Euclid's.",
                border_with(norm=1.0)),
        Mistake("Too few halvings: use all `rounds`.", border_with(rounds_used=6)),
    ],
    alternatives=[border_with(), border_by_steps],
    hints=[
        "Halve an interval for each picture: low = 0 always fits, high = most may not.",
        "`scaled(x, delta, s)` is the cut picture; it fits while (scaled − x).flatten(1).norm(dim=1) "
        "≤ allowed. Where s fits, low becomes s, elsewhere high does: `torch.where`.",
        "At the end `low` is the largest s that was seen to fit.",
    ],
    rtol=1e-3,
    atol=1e-4,
)  # fmt: skip


# --- keep_faithful ------------------------------------------------------------------------------


def bowl(z: Tensor) -> Tensor:
    """A distance whose slope changes as one goes: the fourth power of the length, in parts."""
    return z.flatten(1).square().sum(dim=1) ** 2 / 4


def cone(z: Tensor) -> Tensor:
    return 3 * z.flatten(1).norm(dim=1)


def faithful_cases() -> list[Case]:
    def case(label: str, z: Tensor, far: Any, delta: float, **chosen: int) -> Case:
        return Case(label, {"z": z, "distance": far, "delta": delta, **chosen})

    two = torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 0.1)])
    return [
        case("a cone, where one step is enough", torch.ones(1, 1, 1, 1), cone, 1.0),
        case("a bowl, which takes several", torch.full((1, 1, 1, 1), 2.0), bowl, 0.1),
        case("two pictures, one within its budget already", two, bowl, 0.05),
        case("latents of three axes more", normal(3, 4, 2, 2), bowl, 1.0),
        case("ten steps are not enough", torch.full((1, 1, 1, 1), 2.0), bowl, 1e-6),
        case("no more than two steps", torch.full((1, 1, 1, 1), 3.0), bowl, 0.01, most=2),
        case("nothing to do", torch.zeros(1, 1, 2, 2) + 0.01, bowl, 1.0),
    ]


def faithful_with(
    stale: bool = False,
    all_move: bool = False,
    up: float = 1.0,
    power: int = 2,
    target: Callable[[float], float] = lambda delta: delta,
    count: Callable[[int], int] = lambda most: most,
    once: bool = False,
    average: bool = False,
) -> Answer:
    """keep_faithful with its parts exchanged."""

    def answer(z: Tensor, distance: Callable, delta: float, most: int = 10) -> Tensor:
        first = budgets.slope(distance, z)
        excess_at_first = (distance(z).detach() - target(delta)).clamp(min=0)
        for _ in range(1 if once else count(most)):
            d = distance(z).detach()
            excess = (d - target(delta)) if all_move else (d - target(delta)).clamp(min=0)
            if average:
                excess = (d.mean() - delta).clamp(min=0).expand(len(z))
            if not bool((d > target(delta)).any()):
                break
            g = first if stale else budgets.slope(distance, z)
            if stale:
                excess = torch.where(d > target(delta), excess_at_first, 0 * excess)
            size = g.flatten(1).norm(dim=1).clamp(min=1e-6) ** power
            z = z - up * (excess / size).reshape(-1, *[1] * (z.ndim - 1)) * g
        return z

    return answer


def faithful_one_by_one(z: Tensor, distance: Callable, delta: float, most: int = 10) -> Tensor:
    out = []
    for picture in z:
        one = picture[None]
        for _ in range(most):
            d = float(distance(one))
            if d <= delta:
                break
            g = budgets.slope(distance, one)
            one = one - (d - delta) * g / (g * g).sum()
        out.append(one)
    return torch.cat(out)


KEEP_FAITHFUL = Exercise(
    budgets.keep_faithful,
    faithful_cases,
    mistakes=[
        Mistake("Distance and gradient are taken once, before the loop, and used again and again. "
                "After a step both are other ones: take them anew.", faithful_with(stale=True)),
        Mistake("You took one step and did not look whether the budget holds now.",
                faithful_with(once=True)),
        Mistake("Pictures within their budget move too, away from the original: only the excess "
                "above delta counts, and it is not below 0.", faithful_with(all_move=True)),
        Mistake("Your steps go up. To come nearer, go against the gradient.",
                faithful_with(up=-1.0)),
        Mistake("The gradient is divided by its length; by its *squared* length, or a step does not "
                "end where the linear distance is delta.", faithful_with(power=1)),
        Mistake("You walk on to a distance of 0; the budget allows delta, and the attack wants it.",
                faithful_with(target=lambda delta: 0.0)),
        Mistake("The budget is of each picture; yours holds on the average.",
                faithful_with(average=True)),
        Mistake("One step too many: at most `most` of them.",
                faithful_with(count=lambda most: most + 1)),
    ],
    alternatives=[faithful_with(), faithful_one_by_one],
    hints=[
        "In each round: the excess (distance(z) − delta), not below 0; stop where no picture has any.",
        "`slope(distance, z)` is the gradient. The step is excess / ‖g‖² times g, for each picture.",
        "‖g‖² is `g.flatten(1).square().sum(dim=1)`; reshape (b,) to (b, 1, …) before multiplying.",
    ],
)  # fmt: skip


# --- over_noise ---------------------------------------------------------------------------------


def weighed(x: Tensor, x_adv: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """A loss that every one of its arguments can be read from."""
    return ((x_adv - 0.5 * x) * (eps + 0.1 * t.reshape(-1, 1, 1, 1))).flatten(1).sum(dim=1)


def over_cases() -> list[Case]:
    def case(label: str, n: int, levels: tuple[int, int], draws: int, seed: int | None) -> Case:
        x = pictures(n, 1, 2, 2, seed=n)
        inputs = {"loss": weighed, "x": x, "levels": levels, "draws": draws}
        return Case(label, {**inputs, "generator": None if seed is None else seeded(seed)})

    return [
        case("one picture, one draw, t = 3 alone", 1, (3, 3), 1, 1),
        case("two pictures, three draws", 2, (0, 9), 3, 2),
        case("the top level must come up", 4, (7, 8), 4, 3),
        case("without a generator", 2, (2, 5), 2, None),
        Case("the defaults", {"loss": weighed, "x": pictures(2, 1, 2, 2), "levels": (1, 6)}),
    ]


def run_over(answer: Answer, inputs: Inputs) -> Any:
    """The loss at two points, one after the other."""
    loss = answer(**inputs)
    x = inputs["x"]
    return [loss(x + 0.1), loss(x - 0.2)]


def over_with(
    repeat: Callable[[Tensor, int], Tensor] = lambda x, draws: x.repeat(draws, 1, 1, 1),
    top: int = 1,
    same_noise: bool = False,
    reduce: Callable[[Tensor, int, int], Tensor] = lambda v, k, b: v.reshape(k, b).mean(dim=0),
    seed_t: bool = True,
    frozen: bool = False,
    one_t: bool = False,
) -> Answer:
    def answer(
        loss: Answer,
        x: Tensor,
        levels: tuple[int, int],
        draws: int = 1,
        generator: torch.Generator | None = None,
    ) -> Answer:
        many = repeat(x, draws)
        kept: list[tuple[Tensor, Tensor]] = []

        def draw() -> tuple[Tensor, Tensor]:
            source = generator if seed_t else None
            count = 1 if one_t else len(many)
            t = torch.randint(levels[0], levels[1] + top, (count,), generator=source)
            eps = normal_like(x if same_noise else many, generator)
            return t.expand(len(many)), repeat(eps, draws) if same_noise else eps

        def averaged(x_adv: Tensor) -> Tensor:
            if not kept or not frozen:
                kept.append(draw())
            t, eps = kept[-1]
            return reduce(loss(many, repeat(x_adv, draws), t, eps), draws, len(x))

        return averaged

    return answer


OVER_NOISE = Exercise(
    attack.over_noise,
    over_cases,
    run=run_over,
    mistakes=[
        Mistake("t and ε are drawn once and kept. The attack then learns one noise by heart; the "
                "editor will draw another. Draw anew at each call.", over_with(frozen=True)),
        Mistake("You draw t beyond levels[1]: `torch.randint` leaves its upper end out, so it is "
                "levels[1] + 1, no more.", over_with(top=2)),
        Mistake("All draws of a picture share one noise: draw as many as there are pictures times "
                "draws.", over_with(same_noise=True)),
        Mistake("All share one t: draw one for each.", over_with(one_t=True)),
        Mistake("The draws are added up; their mean is asked.",
                over_with(reduce=lambda v, k, b: v.reshape(k, b).sum(dim=0))),
        Mistake("You mixed the pictures: `repeat` lays the batch draws times one after the other, so "
                "the values are (draws, b), not (b, draws).",
                over_with(reduce=lambda v, k, b: v.reshape(b, k).mean(dim=1))),
        Mistake("t does not come from `generator`: nobody can repeat the attack.",
                over_with(seed_t=False)),
    ],
    alternatives=[
        over_with(),
        over_with(repeat=lambda x, draws: torch.cat([x] * draws),
                  reduce=lambda v, k, b: torch.stack(v.split(b)).mean(dim=0)),
    ],
    hints=[
        "Repeat x draws times along the batch, once; x_adv at each call of the inner function.",
        "First `torch.randint(low, high + 1, (draws · b,), generator=generator)`, then "
        "`normal_like` of the repeated x.",
        "The loss gives (draws · b,): reshape to (draws, b) and average over the first axis.",
    ],
)  # fmt: skip


# --- ascend -------------------------------------------------------------------------------------


def uphill(z: Tensor) -> Tensor:
    return torch.cos(3 * z) + 0.3


def into_a_hole(z: Tensor) -> Tensor:
    """A gradient that is NaN as soon as one goes beyond 0.5."""
    return torch.where(z.abs().max() > 0.5, torch.full_like(z, torch.nan), torch.ones_like(z))


def half_box(z: Tensor) -> Tensor:
    return z.clamp(-0.6, 0.6)


def round_off(z: Tensor) -> Tensor:
    return torch.round(z * 8) / 8


def ascend_cases() -> list[Case]:
    def case(label: str, start: Tensor, gradient: Any, keep: Any, steps: int, size: float) -> Case:
        inputs = {"start": start, "gradient": gradient, "keep": keep}
        return Case(label, {**inputs, "steps": steps, "step_size": size})

    return [
        case("two steps, by hand", torch.tensor([[0.0]]), torch.ones_like, half_box, 2, 0.25),
        case("the start itself has to be kept", torch.tensor([[2.0, -2.0]]), uphill, half_box, 1, 0.1),
        case("a batch", normal(3, 1, 2, 2), uphill, half_box, 4, 0.05),
        case("a budget that rounds", normal(2, 3), uphill, round_off, 3, 0.3),
        case("a gradient that is 0 in places", torch.tensor([[0.1, 0.9]]), torch.round, half_box, 2, 0.1),
        case("no steps", normal(1, 2), uphill, half_box, 0, 0.1),
        case("a gradient that turns NaN", torch.zeros(1, 2), into_a_hole, half_box, 5, 0.2),
    ]  # fmt: skip


def run_ascend(answer: Answer, inputs: Inputs) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = answer(**inputs)
        return list(out) if isinstance(out, Iterator) else out


def ascend_with(
    direction: Callable[[Tensor], Tensor] = torch.sign,
    up: float = 1.0,
    keep_start: bool = True,
    keep_steps: bool = True,
    yield_start: bool = True,
    stop: str = "stop",
    accumulate: bool = True,
) -> Answer:
    """ascend with its parts exchanged; `stop` is what a NaN does: "stop", "go on" or "yield"."""

    def answer(
        start: Tensor, gradient: Answer, keep: Answer, steps: int, step_size: float
    ) -> Iterator[Tensor]:
        z = keep(start) if keep_start else start
        if yield_start:
            yield z
        first = z
        for _ in range(steps):
            g = gradient(z)
            if stop != "go on" and not g.isfinite().all():
                if stop == "yield":
                    yield z * torch.nan
                return
            moved = (z if accumulate else first) + up * step_size * direction(g)
            z = keep(moved) if keep_steps else moved
            yield z

    return answer


ASCEND = Exercise(
    attack.ascend,
    ascend_cases,
    run=run_ascend,
    mistakes=[
        Mistake("You go down; the attack makes its loss large.", ascend_with(up=-1.0)),
        Mistake("Your steps are as long as the gradient says; by its sign, each pixel moves by "
                "`step_size`.", ascend_with(direction=lambda g: g)),
        Mistake("The result of a step is not brought back by `keep`: the missing projection. What "
                "you measure then is a perturbation larger than allowed.",
                ascend_with(keep_steps=False)),
        Mistake("The start is not brought back by `keep`: it may lie outside the budgets.",
                ascend_with(keep_start=False)),
        Mistake("The start is not yielded: where the first gradient fails, nothing would be left.",
                ascend_with(yield_start=False)),
        Mistake("A gradient that is not finite does not end the walk, and its NaN spreads into the "
                "picture.", ascend_with(stop="go on")),
        Mistake("You yield a picture of NaN at the end; the last good one must stand.",
                ascend_with(stop="yield")),
        Mistake("Every step starts from the beginning again: start from where the last one ended.",
                ascend_with(accumulate=False)),
    ],
    alternatives=[
        ascend_with(),
        ascend_with(direction=lambda g: (g > 0).float() - (g < 0).float()),
    ],
    hints=[
        "It is a generator: `yield` the start, brought back by `keep`, and then each step's result.",
        "A step: z + step_size · sign(gradient(z)), brought back by `keep`.",
        "Before the step: `if not g.isfinite().all()`, warn and `return`.",
    ],
)  # fmt: skip


# --- denoising_loss and sds_gradient --------------------------------------------------------------


def noised_cases() -> list[Case]:
    def case(label: str, t: list[int]) -> Case:
        n = len(t)
        inputs = {"x_adv": pictures(n, 1, 5, 5, seed=n), "t": torch.tensor(t)}
        return Case(label, {**inputs, "eps": normal(n, 1, 5, 5, seed=n)})

    return [
        case("one picture", [4]),
        case("three, at the first, a middle and the last t", [0, 5, 9]),
        case("five pictures, as many as columns", [1, 2, 3, 4, 5]),
    ]


def denoising_with(
    noised: bool = True,
    aim: str = "eps",
    reduce: Callable[[Tensor], Tensor] = lambda e: e.flatten(1).mean(dim=1),
    power: Callable[[Tensor], Tensor] = torch.square,
    detach: bool = False,
) -> Answer:
    def answer(victim: Victim, x_adv: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        xt = q_sample(x_adv, t, eps, victim.alpha_bars) if noised else x_adv
        target = {"eps": eps, "x": x_adv, "xt": xt}[aim]
        out = reduce(power(victim.eps_model(xt, t) - target))
        return out.detach() if detach else out

    return answer


def run_denoising(answer: Answer, inputs: Inputs) -> Any:
    """The loss and its gradient at x_adv."""
    x_adv = inputs["x_adv"].clone().requires_grad_()
    loss = with_victim(answer, {**inputs, "x_adv": x_adv})
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        return loss
    (g,) = torch.autograd.grad(loss.sum(), x_adv, allow_unused=True)
    return [loss.detach(), g]


DENOISING_LOSS = Exercise(
    baselines.denoising_loss,
    noised_cases,
    run=run_denoising,
    mistakes=[
        Mistake("The picture is not noised: the victim predicts the noise in x_t.",
                denoising_with(noised=False)),
        Mistake("You compared the predicted noise with the picture; it is compared with ε.",
                denoising_with(aim="x")),
        Mistake("You compared the predicted noise with x_t; it is compared with ε.",
                denoising_with(aim="xt")),
        Mistake("One number for each picture is asked; yours is the mean over the batch.",
                denoising_with(reduce=lambda e: e.mean())),
        Mistake("The squared errors are added up; their mean is asked.",
                denoising_with(reduce=lambda e: e.flatten(1).sum(dim=1))),
        Mistake("The error is not squared.", denoising_with(power=torch.abs)),
        Mistake("No gradient comes through: AdvDM goes back through the whole network.",
                denoising_with(detach=True)),
    ],
    alternatives=[
        denoising_with(),
        lambda victim, x_adv, t, eps: torch.stack([
            F.mse_loss(victim.eps_model(q_sample(a[None], s[None], e[None], victim.alpha_bars),
                                        s[None]), e[None])
            for a, s, e in zip(x_adv, t, eps, strict=True)]),
    ],
    hints=[
        "Noise with `q_sample`, ask `victim.eps_model(xt, t)`, compare with eps.",
        "Lesson 03's simple loss, but one number for each picture: average over all axes but the "
        "first.",
    ],
)  # fmt: skip


def sds_with(
    weight: Callable[[Tensor], Tensor] = torch.sqrt,
    sign: float = 1.0,
    noised: bool = True,
    through: bool = False,
    minus_noise: bool = True,
) -> Answer:
    def answer(victim: Victim, x_adv: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        xt = q_sample(x_adv, t, eps, victim.alpha_bars) if noised else x_adv
        if through:
            loss = lambda z: denoising_with()(victim, z, t, eps) * z[0].numel() / 2
            return budgets.slope(loss, x_adv)
        error = victim.eps_model(xt, t) - (eps if minus_noise else 0)
        return sign * weight(at(victim.alpha_bars, t, x_adv)) * error

    return answer


def sds_by_a_fixed_error(victim: Victim, x_adv: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """The gradient of ½‖error‖², were the network's output x_t plus something fixed."""
    z = x_adv.detach().requires_grad_()
    xt = q_sample(z, t, eps, victim.alpha_bars)
    error = (victim.eps_model(xt, t) - eps).detach()
    (g,) = torch.autograd.grad((error * xt).sum(), z)
    return g


SDS_GRADIENT = Exercise(
    baselines.sds_gradient,
    noised_cases,
    run=with_victim,
    mistakes=[
        Mistake("That is the whole gradient, through the network. The point of SDS is to leave the "
                "network's Jacobian out: √ᾱ_t (ε̂ − ε) and no backward pass.",
                sds_with(through=True)),
        Mistake("The factor √ᾱ_t is missing: x_t holds x scaled by it.",
                sds_with(weight=torch.ones_like)),
        Mistake("You used ᾱ_t; x stands in x_t with its root.", sds_with(weight=lambda a: a)),
        Mistake("The sign is turned: ε̂ − ε, up the loss.", sds_with(sign=-1.0)),
        Mistake("The picture is not noised.", sds_with(noised=False)),
        Mistake("ε is not subtracted: what counts is the error of ε̂.",
                sds_with(minus_noise=False)),
    ],
    alternatives=[sds_with(), sds_by_a_fixed_error],
    hints=[
        "The derivative of ½‖ε̂(x_t) − ε‖² by x is Jᵀ(ε̂ − ε) times dx_t/dx. Put J = 1.",
        "dx_t/dx is √ᾱ_t: `at(victim.alpha_bars, t, x_adv).sqrt()`.",
    ],
)  # fmt: skip


# --- straight_through ---------------------------------------------------------------------------


def through_cases() -> list[Case]:
    def case(label: str, purify: Any, x: Tensor) -> Case:
        return Case(label, {"purify": purify, "x": x})

    return [
        case("rounding, whose gradient is 0", torch.round, normal(1, 1, 2, 2)),
        case("a purifier without any gradient", purifiers.jpeg, pictures(2, 1, 8, 8)),
        case("one with a gradient of its own, which is not asked for", torch.sin, normal(2, 3)),
    ]


def run_through(answer: Answer, inputs: Inputs) -> Any:
    """The value, and the gradient of its sum of squares."""
    f = answer(purify=inputs["purify"])
    z = inputs["x"].clone().requires_grad_()
    out = f(z)
    if not out.requires_grad:
        return [out, "no gradient"]
    (g,) = torch.autograd.grad(out.square().sum(), z)
    return [out.detach(), g]


class _Identity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


STRAIGHT_THROUGH = Exercise(
    purifiers.straight_through,
    through_cases,
    run=run_through,
    mistakes=[
        Mistake("The purifier's own gradient goes through, and of rounding or a file there is none.",
                lambda purify: purify),
        Mistake("The value is x itself: the attack would not see the purifier.",
                lambda purify: lambda x: x + 0 * purify(x).detach()),
        Mistake("Nothing has a gradient: detach the *difference* alone, not all of it.",
                lambda purify: lambda x: purify(x).detach()),
        Mistake("The difference is not detached: its gradient −1 takes the identity's away again.",
                lambda purify: lambda x: x + (purify(x.detach()) - x)),
        Mistake("The sign is turned: x plus what the purifier changes, purify(x) − x.",
                lambda purify: lambda x: x - (purify(x) - x).detach()),
    ],
    alternatives=[
        lambda purify: lambda x: purify(x).detach() + x - x.detach(),
        lambda purify: lambda x: _Identity.apply(x, purify(x.detach())),
    ],
    hints=[
        "It returns a function of x: `lambda x: …`.",
        "x plus what the purifier changes; the change counts as a constant: `detach` it.",
    ],
)  # fmt: skip


# --- bootstrap_interval -------------------------------------------------------------------------


def bootstrap_cases() -> list[Case]:
    def case(label: str, values: Tensor, **chosen: Any) -> Case:
        return Case(label, {"values": values, **chosen})

    return [
        case("0 and 1", torch.tensor([0.0, 1.0])),
        case("one value: it is the interval", torch.tensor([3.0])),
        case("twenty values", normal(20)),
        case("half as sure", normal(12, seed=1), level=0.5),
        case("few resamples, another seed", normal(7, seed=2), draws=50, seed=4),
        case("float64, skewed", normal(15, seed=3).double().exp(), draws=400),
        case("no values", torch.zeros(0)),
        case("a matrix", torch.zeros(2, 3)),
    ]


def bootstrap_with(
    size: Callable[[int], int] = lambda n: n,
    quantiles: Callable[[float], list[float]] = lambda p: [(1 - p) / 2, (1 + p) / 2],
    centre: Callable[..., Any] = np.mean,
    spread: bool = False,
    values_only: bool = False,
    rounds: Callable[[int], int] = lambda draws: draws,
    ordinary_seed: bool = True,
    shuffled: bool = False,
) -> Answer:
    def answer(
        values: Tensor, draws: int = 2000, level: float = 0.95, seed: int = 0
    ) -> tuple[float, float]:
        if values.ndim != 1 or len(values) == 0:
            raise ValueError("no values")
        x = values.double().numpy()
        generator = np.random.default_rng(seed if ordinary_seed else 0)
        picks = generator.integers(len(x), size=(rounds(draws), size(len(x))))
        if shuffled:
            picks = np.argsort(picks, axis=1)
        means = centre(x[picks], axis=1)
        if values_only:
            means = x
        low, high = np.quantile(means, quantiles(level))
        if spread:
            half = means.std()
            return float(x.mean() - half), float(x.mean() + half)
        return float(low), float(high)

    return answer


def bootstrap_sorted(
    values: Tensor, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    if values.ndim != 1 or not values.numel():
        raise ValueError("no values")
    n = len(values)
    picks = torch.from_numpy(np.random.default_rng(seed).integers(n, size=(draws, n)))
    means = values.double()[picks].mean(dim=1)
    ends = torch.tensor([(1 - level) / 2, 1 - (1 - level) / 2], dtype=torch.float64)
    low, high = torch.quantile(means, ends).tolist()
    return low, high


BOOTSTRAP_INTERVAL = Exercise(
    evaluation.bootstrap_interval,
    bootstrap_cases,
    mistakes=[
        Mistake("Those are quantiles of the values: where single pictures lie. Asked is how sure "
                "their *mean* is: resample, average, and take quantiles of the means.",
                bootstrap_with(values_only=True)),
        Mistake("Your resamples are drawn without replacement: each holds every value once, and all "
                "their means are the same.", bootstrap_with(shuffled=True)),
        Mistake("Your resamples have one value each; each must have n, as the sample has.",
                bootstrap_with(size=lambda n: 1)),
        Mistake("The tails are too small by half: 95 % leaves 2.5 % on *each* side, so the quantiles "
                "are (1 ± level)/2.", bootstrap_with(quantiles=lambda p: [1 - p, p])),
        Mistake("You take the resamples' medians; the mean's interval is asked.",
                bootstrap_with(centre=np.median)),
        Mistake("That is the mean ± one standard error, which holds 68 % and is symmetric where the "
                "data are not.", bootstrap_with(spread=True)),
        Mistake("The number of resamples is `draws`.", bootstrap_with(rounds=lambda d: 1000)),
        Mistake("The generator is not seeded with `seed`.", bootstrap_with(ordinary_seed=False)),
    ],
    alternatives=[bootstrap_with(), bootstrap_sorted],
    hints=[
        "`np.random.default_rng(seed).integers(n, size=(draws, n))` draws the indices of all "
        "resamples at once, with replacement.",
        "Average each resample (axis 1): that is `draws` means.",
        "`np.quantile(means, [(1 - level) / 2, (1 + level) / 2])`, as two floats.",
    ],
)  # fmt: skip


# --- wrapped_psnr -------------------------------------------------------------------------------


def wrapped_cases() -> list[Case]:
    def case(label: str, x: Tensor, y: Tensor) -> Case:
        return Case(label, {"x": x, "y": y})

    grey = torch.zeros(1, 1, 2, 2)
    x = pictures(3, 3, 6, 6)
    return [
        case("one level apart", grey, grey + 1 / 127.5),
        case("16 levels apart, whose square is 256", grey, grey + 17 / 127.5),
        case("black and white", -torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)),
        case("pictures that have nothing to do with each other", x, pictures(3, 3, 6, 6, seed=1)),
        case("nearly equal pictures", x, (x + 0.02 * normal(3, 3, 6, 6)).clamp(-1, 1)),
    ]


def wrapped_with(
    difference: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda a, b: a - b,
    square: Callable[[np.ndarray], np.ndarray] = lambda d: d * d,
    peak: float = 255.0,
    mean: Callable[[np.ndarray], np.ndarray] = lambda e: e.reshape(len(e), -1).mean(axis=1),
) -> Answer:
    def answer(x: Tensor, y: Tensor) -> Tensor:
        a, b = to_uint8(x), to_uint8(y)
        error = mean(square(difference(a, b)).astype(np.float64))
        with np.errstate(divide="ignore"):
            decibels = 10 * np.log10(peak**2 / error)
        return torch.from_numpy(decibels).float()

    return answer


def wrapped_by_remainders(x: Tensor, y: Tensor) -> Tensor:
    a, b = (torch.from_numpy(to_uint8(z).astype(np.int64)) for z in (x, y))
    squares = (a - b) ** 2 % 256
    return 10 * torch.log10(255**2 / squares.flatten(1).float().mean(dim=1))


WRAPPED_PSNR = Exercise(
    autopsy.wrapped_psnr,
    wrapped_cases,
    mistakes=[
        Mistake("You mended it: your squares do not wrap. The exercise is the mistake itself, bytes "
                "squared as bytes.",
                wrapped_with(lambda a, b: a.astype(np.int64) - b)),
        Mistake("Your difference wraps, but not its square: everything stays a byte.",
                wrapped_with(square=lambda d: d.astype(np.int64) ** 2)),
        Mistake("The peak of bytes is 255, not 2.", wrapped_with(peak=2.0)),
        Mistake("The peak of bytes is 255: 256 values, the largest of which is 255.",
                wrapped_with(peak=256.0)),
        Mistake("One number for each picture is asked.",
                wrapped_with(mean=lambda e: np.full(len(e), e.mean()))),
    ],
    alternatives=[wrapped_with(), wrapped_by_remainders],
    hints=[
        "`to_uint8` makes bytes (n, h, w, c) of pictures; NumPy and PyTorch subtract bytes as bytes.",
        "Square by multiplying the uint8 differences; go to float only for the mean.",
    ],
    rtol=1e-3,
)  # fmt: skip


EXERCISES = [
    WASSERSTEIN2,
    PUBLISHED_DISTANCE,
    LAYER_OUTPUTS,
    FEATURE_LOSS,
    BORDER_SCALE,
    KEEP_FAITHFUL,
    OVER_NOISE,
    ASCEND,
    DENOISING_LOSS,
    SDS_GRADIENT,
    STRAIGHT_THROUGH,
    BOOTSTRAP_INTERVAL,
    WRAPPED_PSNR,
]
