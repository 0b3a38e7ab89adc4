"""Lesson 08: what right answers satisfy, and the mistakes people make."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course import controlnet as reference
from course.checks.engine import (
    Answer,
    Case,
    Exercise,
    Inputs,
    Mistake,
    UnusableError,
    give_weights,
)
from course.checks.forward_process import normal, steps
from course.classifier_free_guidance import ConditionalUNet, cfg_eps_model, guide
from course.controlnet import (
    DECODER,
    Control,
    ControlNet,
    controlled,
    freeze,
    one_each,
    share_near,
)
from course.forward_process import alpha_bars_from_betas, cosine_schedule, q_sample
from course.sampling import EpsModel, to_eps
from course.training import v_target

Network = Callable[[Tensor, Tensor, Tensor], Tensor]

ALPHA_BARS = alpha_bars_from_betas(cosine_schedule(10))


# --- edges ------------------------------------------------------------------------------------


def image(*rows: str) -> Tensor:
    """A small picture: `#` is 1, `+` is 0.25, `o` is 0 and `.` is −1; (1, 1, h, w)."""
    grey = {"#": 1.0, "+": 0.25, "o": 0.0, ".": -1.0}
    return torch.tensor([[[[grey[c] for c in row] for row in rows]]])


def edges_cases() -> list[Case]:
    stroke = image(".......", "..##...", "..##+..", "..o##..", ".......", "....+..")
    return [
        Case("one pixel of ink", {"images": image(".....", ".....", "..#..", ".....", ".....")}),
        Case("a stroke, grey beside it, and ink at the border", {"images": stroke}),
        Case("ink in a corner, and a hole in it",
             {"images": image("###...", "#.#...", "###...", "......")}),
        Case("another threshold", {"images": stroke, "threshold": 0.5}),
        Case("a threshold below 0", {"images": normal(2, 1, 6, 5) / 2, "threshold": -0.5}),
        Case("three pictures of noise, float64",
             {"images": normal(3, 1, 5, 8, seed=1, dtype=torch.float64).clamp(-1, 1)}),
    ]  # fmt: skip


def grown(x: Tensor, reach: int = 1) -> Tensor:
    """Every 1 spread to the pixels within `reach` of it."""
    return F.max_pool2d(x, 2 * reach + 1, stride=1, padding=reach)


def shrunk(x: Tensor) -> Tensor:
    return -grown(-x)


def edges_of(line: Callable[[Tensor], Tensor]) -> Answer:
    """edges by a function of the ink (b, 1, h, w), which is 0 and 1."""
    return lambda images, threshold=0.0: line((images > threshold).to(images))


def edges_to_four_sides(ink: Tensor) -> Tensor:
    up_down = F.max_pool2d(ink, (3, 1), stride=1, padding=(1, 0))
    sideways = F.max_pool2d(ink, (1, 3), stride=1, padding=(0, 1))
    return torch.maximum(up_down, sideways) - ink


def edges_by_counting(images: Tensor, threshold: float = 0.0) -> Tensor:
    ink = images > threshold
    kernel = torch.ones(1, 1, 3, 3, dtype=images.dtype)
    neighbours = F.conv2d(ink.to(images), kernel, padding=1)
    return ((neighbours > 0.5) & ~ink).to(images.dtype)


def edges_by_shifting(images: Tensor, threshold: float = 0.0) -> Tensor:
    b, c, h, w = images.shape
    ink = F.pad(images > threshold, (1, 1, 1, 1))
    near = torch.zeros(b, c, h, w, dtype=torch.bool)
    for i in range(3):
        for j in range(3):
            near |= ink[:, :, i : i + h, j : j + w]
    return torch.where(near & (images <= threshold), 1.0, 0.0).to(images)


EDGES = Exercise(
    reference.edges,
    edges_cases,
    mistakes=[
        Mistake("That is the ink's own rim. The outline lies just *outside* the ink: a thin stroke "
                "is all rim, and would be copied whole.", edges_of(lambda ink: ink - shrunk(ink))),
        Mistake("That is a line on both sides of the rim, two pixels wide. Take away the ink "
                "itself, so that only the pixels outside it are left.",
                edges_of(lambda ink: grown(ink) - shrunk(ink))),
        Mistake("That is the ink made fatter. Take the ink itself away again.", edges_of(grown)),
        Mistake("That is the ink alone; the outline is what surrounds it.", edges_of(lambda ink: ink)),
        Mistake("Your ink is what is *darker* than the threshold. Digits are bright on dark: ink is "
                "what is brighter.",
                lambda images, threshold=0.0: grown((images < threshold).to(images))
                - (images < threshold).to(images)),
        Mistake("You look at the 4 nearest neighbours; here all 8 count, the diagonal ones too.",
                edges_of(edges_to_four_sides)),
        Mistake("Your outline is two pixels wide: look at a 3 × 3 window, one pixel to each side.",
                edges_of(lambda ink: grown(ink, 2) - ink)),
        Mistake("The grey values are still in it. First decide what is ink, 0 or 1; then look for "
                "the outline.", lambda images, threshold=0.0: grown(images) - images),
        Mistake("Your edge map is in [−1, 1]. A condition is 0 and 1 here.",
                edges_of(lambda ink: 2 * (grown(ink) - ink) - 1)),
        Mistake("`threshold` has no effect in yours.",
                lambda images, threshold=0.0: reference.edges(images)),
        Mistake("Your edge map is bool. Give it the images' dtype, so that a convolution can "
                "read it.", lambda images, threshold=0.0: reference.edges(images, threshold) > 0.5),
    ],
    alternatives=[edges_by_counting, edges_by_shifting],
    hints=["First the ink: (images > threshold), as 0 and 1 in the images' dtype.",
           "The largest value in the 3 × 3 window around a pixel is 1 where it, or a neighbour, is "
           "ink: F.max_pool2d with stride 1 and padding 1.",
           "From that, take the ink itself away."],
)  # fmt: skip


# --- edge_f1 ----------------------------------------------------------------------------------


def one_line(column: int, rows: int = 6, width: int = 7) -> Tensor:
    """An edge map with one upright line."""
    line = torch.zeros(1, 1, rows, width)
    line[..., column] = 1
    return line


def f1_cases() -> list[Case]:
    half = one_line(2)
    half[..., 3:, :] = 0
    random = (normal(5, 1, 9, 6) > 0.9).float()
    other = (normal(5, 1, 9, 6, seed=1) > 0.5).float()
    empty = torch.zeros(1, 1, 6, 7)
    return [
        Case("two lines, one pixel apart", {"found": one_line(2), "wanted": one_line(3)}),
        Case("half of a line was found", {"found": half, "wanted": one_line(2)}),
        Case("the line, and another that nobody wanted",
             {"found": one_line(1) + one_line(5), "wanted": one_line(1)}),
        Case("two lines, two pixels apart", {"found": one_line(2), "wanted": one_line(4)}),
        Case("the same, and two pixels are forgiven",
             {"found": one_line(2), "wanted": one_line(4), "tolerance": 2}),
        Case("five maps of noise", {"found": random, "wanted": other}),
        Case("nothing is forgiven", {"found": random, "wanted": other, "tolerance": 0}),
        Case("float64", {"found": other.double(), "wanted": random.double()}),
        Case("nothing was found", {"found": empty, "wanted": one_line(2)}),
        Case("nothing was found, and nothing wanted", {"found": empty, "wanted": empty}),
    ]  # fmt: skip


def f1_from(combine: Callable[[Tensor, Tensor], Tensor], exact: bool = False) -> Answer:
    """edge_f1 by a function of precision and recall."""

    def edge_f1(found: Tensor, wanted: Tensor, tolerance: int = 1) -> Tensor:
        reach = 0 if exact else tolerance
        return combine(share_near(found, wanted, reach), share_near(wanted, found, reach))

    return edge_f1


def harmonic(p: Tensor, r: Tensor) -> Tensor:
    return 2 * p * r / (p + r).clamp(min=1e-12)


def f1_of_the_batch(found: Tensor, wanted: Tensor, tolerance: int = 1) -> Tensor:
    return f1_from(harmonic)(found, wanted, tolerance).mean()


def f1_of_grown_maps(found: Tensor, wanted: Tensor, tolerance: int = 1) -> Tensor:
    a, b = (grown(x, tolerance) for x in (found, wanted))
    return 2 * (a * b).sum(dim=(1, 2, 3)) / (a + b).sum(dim=(1, 2, 3)).clamp(min=1e-12)


def f1_by_distances(found: Tensor, wanted: Tensor, tolerance: int = 1) -> Tensor:
    def one(a: Tensor, b: Tensor) -> float:
        here, there = a[0].nonzero().double(), b[0].nonzero().double()
        if len(here) == 0 or len(there) == 0:
            return float(len(here) == len(there))
        near = torch.cdist(here, there, p=torch.inf) <= tolerance
        p, r = near.any(dim=1).double().mean(), near.any(dim=0).double().mean()
        return float(2 / (1 / p + 1 / r)) if p * r > 0 else 0.0

    pairs = zip(found, wanted, strict=True)
    return torch.tensor([one(a, b) for a, b in pairs], dtype=found.dtype)


EDGE_F1 = Exercise(
    reference.edge_f1,
    f1_cases,
    mistakes=[
        Mistake("`tolerance` has no effect: an edge that is off by one pixel counts as missed.",
                f1_from(harmonic, exact=True)),
        Mistake("That is the precision alone. Whoever finds one right pixel and nothing else has a "
                "precision of 1.", f1_from(lambda p, r: p)),
        Mistake("That is the recall alone. Whoever calls every pixel an edge has a recall of 1.",
                f1_from(lambda p, r: r)),
        Mistake("That is the plain mean of precision and recall. Their *harmonic* mean, 2PR/(P + R), "
                "is small as soon as one of them is.", f1_from(lambda p, r: (p + r) / 2)),
        Mistake("That is P · R/(P + R): the factor 2 is missing, and a perfect map would get ½.",
                f1_from(lambda p, r: harmonic(p, r) / 2)),
        Mistake("That is the geometric mean, √(PR); F1 is the harmonic one.",
                f1_from(lambda p, r: (p * r).sqrt())),
        Mistake("You return one number for all; give one for each map, shape (b,).", f1_of_the_batch),
        Mistake("You made both maps fatter and compared those. Each *thin* map is compared with the "
                "other one grown, once in each direction.", f1_of_grown_maps),
        Mistake("Where P and R are both 0, yours divides 0 by 0. Their F1 is 0.",
                f1_from(lambda p, r: 2 * p * r / (p + r))),
    ],
    alternatives=[
        f1_by_distances,
        f1_from(lambda p, r: torch.where(p * r > 0, 2 / (1 / p + 1 / r), torch.zeros_like(p))),
    ],
    hints=["Precision: the share of `found` near `wanted`. Recall: the share of `wanted` near "
           "`found`. Each is one call of `share_near`.",
           "F1 = 2PR/(P + R); where both are 0, keep the divisor above 0 with clamp."],
)  # fmt: skip


# --- zero_conv --------------------------------------------------------------------------------


def zero_conv_cases() -> list[Case]:
    return [
        Case("one channel in, one out", {"in_channels": 1, "out_channels": 1}),
        Case("three channels in, five out", {"in_channels": 3, "out_channels": 5}),
        Case("as many out as in", {"in_channels": 8, "out_channels": 8}),
    ]


def facts(x: Any) -> dict[str, Any]:
    """What matters of a parameter at its birth, whatever numbers it was given."""
    if x is None:
        return {"shape": None, "is zero": None, "asks for a gradient": None}
    return {
        "shape": tuple(x.shape),
        "is zero": bool((x == 0).all()),
        "asks for a gradient": x.requires_grad,
    }


def run_zero_conv(answer: Answer, inputs: Inputs) -> dict[str, Any]:
    """How the layer is born, and what it does once it has other weights."""
    conv = answer(**inputs)
    if not isinstance(conv, nn.Conv2d):
        raise UnusableError("zero_conv returns a layer: an nn.Conv2d.")
    born = {name: facts(getattr(conv, name)) for name in ("weight", "bias")}
    with torch.no_grad():
        for i, parameter in enumerate(conv.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=i))
    return {**born, "its output, once trained": conv(normal(2, inputs["in_channels"], 3, 4))}


def conv_with(
    weight: float = 0.0, bias: float = 0.0, *, size: int = 1, has_bias: bool = True,
    trains: bool = True, swap: bool = False,
) -> Answer:  # fmt: skip
    """A convolution whose weight and bias start as given; NaN leaves them as they were born."""

    def zero_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
        ends = (out_channels, in_channels) if swap else (in_channels, out_channels)
        conv = nn.Conv2d(*ends, size, padding=size // 2, bias=has_bias)
        for parameter, value in zip(conv.parameters(), (weight, bias), strict=False):
            if value == value:
                nn.init.constant_(parameter, value)
        return conv.requires_grad_(trains)

    return zero_conv


AS_BORN = float("nan")


def zero_conv_by_hand(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=1)
    conv.weight.data.zero_()
    conv.bias.data.zero_()  # type: ignore[union-attr]
    return conv


def zero_conv_by_loading(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, (1, 1))
    conv.load_state_dict({k: torch.zeros_like(x) for k, x in conv.state_dict().items()})
    return conv


ZERO_CONV = Exercise(
    reference.zero_conv,
    zero_conv_cases,
    mistakes=[
        Mistake("The bias is not zero. Then the layer adds a constant from the first step on, and "
                "the untrained network is no longer the base.", conv_with(bias=AS_BORN)),
        Mistake("The weight does not start at zero, only the bias does.", conv_with(weight=AS_BORN)),
        Mistake("That is an ordinary convolution: PyTorch draws its weight and bias at random. Set "
                "both to zero.", conv_with(AS_BORN, AS_BORN)),
        Mistake("Your layer has no bias. A zero convolution has one; it only starts at zero.",
                conv_with(has_bias=False)),
        Mistake("Yours is 3 × 3. A zero convolution mixes the channels of one place: 1 × 1.",
                conv_with(size=3)),
        Mistake("Yours is locked (requires_grad is False): it would stay zero for ever. It *starts* "
                "at zero, and learns.", conv_with(trains=False)),
        Mistake("The channels have changed places: nn.Conv2d takes those that come in first.",
                conv_with(swap=True)),
    ],
    alternatives=[conv_with(), zero_conv_by_hand, zero_conv_by_loading],
    hints=["nn.Conv2d(in_channels, out_channels, 1) has two parameters: weight and bias.",
           "nn.init.zeros_ fills a parameter with zeros, in place."],
    run=run_zero_conv,
)  # fmt: skip


# --- zero_conv_gradient ----------------------------------------------------------------------


def gradient_cases() -> list[Case]:
    def full(value: float) -> Tensor:
        return torch.full((1, 1, 1, 1), value)

    def case(label: str, b: int, i: int, o: int, h: int, w: int, zero: bool, **kind: Any) -> Case:
        weight = normal(o, i, 1, 1, seed=1, **kind)
        return Case(label, {
            "x": normal(b, i, h, w, **kind), "weight": 0 * weight if zero else weight,
            "grad_out": normal(b, o, h, w, seed=2, **kind),
        })  # fmt: skip

    return [
        Case("one pixel, by hand", {"x": full(2.0), "weight": full(0.0), "grad_out": full(3.0)}),
        Case("one pixel, and a weight of 5",
             {"x": full(2.0), "weight": full(5.0), "grad_out": full(3.0)}),
        case("two images of 2 × 3, all weights zero", 2, 3, 4, 2, 3, True),
        case("two images of 2 × 3, weights that are not zero", 2, 3, 4, 2, 3, False),
        case("as many channels in as out, as images, as rows, as columns", 3, 3, 3, 3, 3, False),
        case("float64", 1, 2, 5, 4, 3, False, dtype=torch.float64),
    ]  # fmt: skip


def gradient_with(
    of_weight: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    of_bias: Callable[[Tensor], Tensor] | None = None,
    of_x: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> Answer:
    """The three gradients, some of them otherwise: functions of (x, weight, grad_out)."""

    def zero_conv_gradient(
        x: Tensor, weight: Tensor, grad_out: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        a, b, c = reference.zero_conv_gradient(x, weight, grad_out)
        return (
            a if of_weight is None else of_weight(x, weight, grad_out),
            b if of_bias is None else of_bias(grad_out),
            c if of_x is None else of_x(x, weight, grad_out),
        )

    return zero_conv_gradient


def gradient_by_autograd(
    x: Tensor, weight: Tensor, grad_out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    bias = torch.zeros(len(weight), dtype=x.dtype, requires_grad=True)
    leaves = [weight.clone().requires_grad_(), bias, x.clone().requires_grad_()]
    with torch.enable_grad():
        out = F.conv2d(leaves[2], leaves[0], bias)
        a, b, c = torch.autograd.grad(out, leaves, grad_out)
    return a, b, c


def gradient_in_a_loop(
    x: Tensor, weight: Tensor, grad_out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    grad_weight, grad_x = torch.zeros_like(weight), torch.zeros_like(x)
    for o in range(weight.shape[0]):
        for i in range(weight.shape[1]):
            grad_weight[o, i, 0, 0] = (grad_out[:, o] * x[:, i]).sum()
            grad_x[:, i] += weight[o, i, 0, 0] * grad_out[:, o]
    return grad_weight, grad_out.flatten(2).sum(dim=2).sum(dim=0), grad_x


def _outer(x: Tensor, grad_out: Tensor) -> Tensor:
    return torch.einsum("bohw,bihw->oi", grad_out, x)[:, :, None, None]


ZERO_CONV_GRADIENT = Exercise(
    reference.zero_conv_gradient,
    gradient_cases,
    mistakes=[
        Mistake("You multiplied the weight's gradient by the weight, so at zero nothing could ever "
                "be learned. In w · x, the derivative by w is x: w itself does not occur.",
                gradient_with(lambda x, w, g: w * _outer(x, g))),
        Mistake("The gradient of the weight is averaged over images and places; the chain rule "
                "*sums* over every use of a weight.",
                gradient_with(lambda x, w, g: _outer(x, g) * x.shape[1] / x.numel())),
        Mistake("The weight's gradient leaves x out: it is Σ g · x, each output's gradient times "
                "the input that the weight was multiplied by.",
                gradient_with(lambda x, w, g: _outer(torch.ones_like(x), g))),
        Mistake("Your gradient of the weight has inputs and outputs changed over. The weight is "
                "(o, i, 1, 1): the rows belong to the outputs.",
                gradient_with(lambda x, w, g: _outer(x, g).transpose(0, 1))),
        Mistake("The gradient of the weight lacks its two last axes: it is shaped like the weight, "
                "(o, i, 1, 1).", gradient_with(lambda x, w, g: _outer(x, g)[:, :, 0, 0])),
        Mistake("The gradient of the bias is averaged; it is the *sum* of g over images and places.",
                gradient_with(of_bias=lambda g: g.mean(dim=(0, 2, 3)))),
        Mistake("The bias gets a gradient too: it is added to every output, so it is Σ g.",
                gradient_with(of_bias=lambda g: 0 * g.sum(dim=(0, 2, 3)))),
        Mistake("The gradient of x leaves the weight out. x is multiplied by the weight on its way, "
                "and so is its gradient on the way back: while the weight is zero, nothing arrives.",
                gradient_with(of_x=lambda x, w, g: g.sum(dim=1, keepdim=True).expand_as(x))),
    ],
    alternatives=[gradient_by_autograd, gradient_in_a_loop],
    hints=["At one place, out_o = Σ_i w_oi x_i + b_o. Differentiate by w_oi, by b_o and by x_i, and "
           "multiply by g_o, the gradient that arrives.",
           "A weight is used at every place of every image: sum over b, h and w.",
           "torch.einsum(\"bohw,bihw->oi\", grad_out, x) sums over all that does not come out."],
)  # fmt: skip


# --- freeze -----------------------------------------------------------------------------------


def a_network(nested: bool) -> nn.Module:
    """A network with parts that train and eval mode tell apart."""
    block = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    with torch.no_grad():
        for i, parameter in enumerate(block.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=i))
    return nn.Sequential(block, nn.Linear(4, 2)).requires_grad_() if nested else block


def freeze_cases() -> list[Case]:
    half = a_network(nested=True)
    half[1].requires_grad_(False).eval()  # type: ignore[index]
    return [
        Case("three layers", {"network": a_network(nested=False)}),
        Case("layers within layers", {"network": a_network(nested=True)}),
        Case("a network half of which is locked already", {"network": half}),
    ]


def run_freeze(answer: Answer, inputs: Inputs) -> dict[str, Any]:
    """What became of the network, by its parts."""
    network = inputs["network"]
    given = answer(**inputs)
    if not isinstance(given, nn.Module):
        raise UnusableError("freeze returns the network that it was given.")
    return {
        "the same network": given is network,
        "asks for gradients": [p.requires_grad for p in network.parameters()],
        "in train mode": [part.training for part in network.modules()],
        "its weights": dict(network.state_dict()),
        "its output": given(normal(5, 3)),
    }


def _first_part(network: nn.Module) -> nn.Module:
    next(iter(network.children())).requires_grad_(False)
    return network.eval()


def _by_parameter(network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        parameter.requires_grad = False
    return network.train(False)


def _by_part(network: nn.Module) -> nn.Module:
    for part in network.modules():
        part.training = False
        for parameter in part.parameters(recurse=False):
            parameter.requires_grad_(False)
    return network


def _to_zero(network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return freeze(network)


FREEZE = Exercise(
    reference.freeze,
    freeze_cases,
    mistakes=[
        Mistake("The network stays in train mode. There a batch norm goes on changing its averages "
                "and dropout goes on dropping: a locked network is in eval mode.",
                lambda network: network.requires_grad_(False)),
        Mistake("The parameters still ask for gradients. (`network.requires_grad = False` only "
                "makes a new attribute; the method is `requires_grad_`, with an underscore. And "
                "eval mode changes no parameter's mind.)", lambda network: network.eval()),
        Mistake("You locked a copy. The network that was passed in is still free.",
                lambda network: freeze(copy.deepcopy(network))),
        Mistake("Only the first part is locked; the other parameters still ask for gradients.",
                _first_part),
        Mistake("You set the weights to zero. Locking keeps them as they are.", _to_zero),
    ],
    alternatives=[_by_parameter, _by_part,
                  lambda network: network.eval().requires_grad_(requires_grad=False)],
    hints=["Two things: no parameter asks for a gradient, and every part is in eval mode.",
           "nn.Module has a method for each, and both return the module: requires_grad_(False) "
           "and eval()."],
    run=run_freeze,
    may_change=frozenset({"network"}),
)  # fmt: skip


# --- Tiny networks for the rest -------------------------------------------------------------------


def drawn(network: nn.Module, seed: int) -> nn.Module:
    """A network with every weight drawn at random, those that start at zero too; in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            # Over √(inputs a weight has), so that no output grows with the size of the layer.
            p.copy_(torch.randn(p.shape, generator=generator) / p[0].numel() ** 0.5)
    return network


def tiny_base(
    seed: int = 0, patch: int = 2, channels: tuple[int, int] = (8, 16)
) -> ConditionalUNet:
    """A small UNet for three classes, with weights at random."""
    base = ConditionalUNet(3, channels=channels, emb_dim=8, patch=patch)
    drawn(base, seed)
    return base


def tiny_pair(seed: int = 0, **settings: Any) -> tuple[ConditionalUNet, ControlNet]:
    """A small locked base, and a ControlNet for it that is no longer zero."""
    base = tiny_base(seed, **settings)
    freeze(base)
    control = ControlNet(base)
    drawn(control, seed + 1)
    return base, control


def some_edges(*shape: int, seed: int = 0) -> Tensor:
    """A map of 0 and 1."""
    return (normal(*shape, seed=seed) > 0).float()


# --- trainable_copy -----------------------------------------------------------------------------


def copy_cases() -> list[Case]:
    locked, wide = tiny_base(), tiny_base(1, patch=1, channels=(16, 8))
    freeze(locked)
    return [
        Case("a base that is locked", {"base": locked}),
        Case("a base that is not, of another width", {"base": wide}),
    ]


def run_copy(answer: Answer, inputs: Inputs) -> dict[str, Any]:
    """What the copy is, what it does, what it shares with the base and what became of the base."""
    base = inputs["base"]
    twin = answer(**inputs)
    if not isinstance(twin, ConditionalUNet):
        raise UnusableError("trainable_copy returns a network of the base's kind.")
    t, y, xt = steps(3, 7), steps(1, 3), normal(2, 1, 8, 8)
    theirs = {x.data_ptr() for x in base.parameters()}
    return {
        "the copy's weights": dict(twin.state_dict()),
        "the copy asks for gradients": [p.requires_grad for p in twin.parameters()],
        "the copy is in train mode": [part.training for part in twin.modules()],
        "shared with the base": any(p.data_ptr() in theirs for p in twin.parameters()),
        "the base asks for gradients": [p.requires_grad for p in base.parameters()],
        "the copy's way down": list(twin.encode(xt, twin.embed_with(t, y))),
    }


def copy_with(
    twin_of: Callable[[ConditionalUNet], ConditionalUNet] = copy.deepcopy,
    gradients: bool | None = True,
    train: bool = True,
    leave_out: tuple[str, ...] = DECODER,
) -> Answer:
    """A copy some step of which is another."""

    def trainable_copy(base: ConditionalUNet) -> ConditionalUNet:
        twin = twin_of(base)
        if gradients is not None:
            twin.requires_grad_(gradients)
        if train:
            twin.train()
        for part in leave_out:
            delattr(twin, part)
        return twin

    return trainable_copy


def rebuilt(base: ConditionalUNet) -> ConditionalUNet:
    """A network of the same architecture, as it is born."""
    channels = (base.stem.out_channels, base.shrink.out_channels)
    return ConditionalUNet(base.null, 1, channels, base.emb_dim, base.patch)


def _reloaded(base: ConditionalUNet) -> ConditionalUNet:
    twin = rebuilt(base)
    twin.load_state_dict(base.state_dict())
    return twin


def _copy_without_up(base: ConditionalUNet) -> ConditionalUNet:
    twin = copy.deepcopy(base)
    for part in DECODER:
        del twin._modules[part]
    for parameter in twin.parameters():
        parameter.requires_grad = True
    return twin.train(True)


TRAINABLE_COPY = Exercise(
    reference.trainable_copy,
    copy_cases,
    mistakes=[
        Mistake("That is the base itself, under a second name: no copy was made. Training it would "
                "train the base, and what you leave out is gone from the base as well. Use "
                "copy.deepcopy.", copy_with(lambda base: base)),
        Mistake("The copy is locked: deepcopy copies the lock too. Unlock it with "
                "requires_grad_(True), or nothing can learn.", copy_with(gradients=None)),
        Mistake("The copy is locked. The base is the one that is locked; the copy trains.",
                copy_with(gradients=False)),
        Mistake("The copy is in eval mode, as the base was. What trains is in train mode.",
                copy_with(train=False)),
        Mistake("The copy still has the way up: the parts named in DECODER would be stored and "
                "never used.", copy_with(leave_out=())),
        Mistake("The middle block is missing. It ends the way down, and is copied too: leave out "
                "the parts named in DECODER and no others.",
                copy_with(leave_out=(*DECODER, "middle"))),
        Mistake("That is a new network, not a copy: its weights are not the base's. The copy starts "
                "with everything the base has learned.", copy_with(rebuilt)),
    ],
    alternatives=[copy_with(_reloaded), _copy_without_up],
    hints=["copy.deepcopy(base) is a network with weights of its own.",
           "A copy of a locked network is locked, too: requires_grad_(True), and train().",
           "delattr(twin, name) takes a part out."],
    run=run_copy,
)  # fmt: skip


# --- ControlNet -------------------------------------------------------------------------------


def controlnet_cases() -> list[Case]:
    plain = tiny_base()
    freeze(plain)
    return [
        Case("one image", {
            "base": plain, "xt": normal(1, 1, 4, 4), "t": steps(3), "y": steps(1),
            "condition": some_edges(1, 1, 4, 4, seed=1)}),
        Case("three images, each with its own t, label and condition", {
            "base": plain, "xt": normal(3, 1, 8, 12), "t": steps(0, 5, 9), "y": steps(2, 3, 0),
            "condition": some_edges(3, 1, 8, 12, seed=1)}),
        Case("no edges at all", {
            "base": plain, "xt": normal(2, 1, 8, 8, seed=2), "t": steps(9, 9), "y": steps(3, 3),
            "condition": torch.zeros(2, 1, 8, 8)}),
        Case("pixels that are not folded, other widths", {
            "base": tiny_base(1, patch=1, channels=(16, 8)), "xt": normal(2, 1, 8, 8, seed=3),
            "t": steps(1, 8), "y": steps(0, 2), "condition": some_edges(2, 1, 8, 8, seed=2)}),
        Case("folds of 4 × 4", {
            "base": tiny_base(2, patch=4), "xt": normal(2, 1, 8, 16, seed=4),
            "t": steps(4, 2), "y": steps(1, 2), "condition": some_edges(2, 1, 8, 16, seed=3)}),
    ]  # fmt: skip


def run_controlnet(answer: Answer, inputs: Inputs) -> dict[str, Any]:
    """What it gives with weights drawn at random, and as it is born: zeros."""
    base, *tensors = inputs.values()
    born = answer(base=base)
    control = give_weights(copy.deepcopy(born), ControlNet, {"base": base})
    return {"its output": control(*tensors), "what an untrained one gives": born(*tensors)}


def controlnet_with(**steps_: Callable[..., Any]) -> Answer:
    """A ControlNet some step of which is another; each step is a function of (self, …)."""
    plan: dict[str, Callable[..., Any]] = {
        "emb": lambda self, t, y: self.twin.embed_with(t, y),
        "enter": lambda self, xt, c: (
            self.twin.stem(F.pixel_unshuffle(xt, self.twin.patch)) + self.embed_condition(c)
        ),
        "down1": lambda self, h, emb, c: self.twin.down1(h, emb),
        "down2": lambda self, h, emb: self.twin.attention(
            self.twin.down2(self.twin.shrink(h), emb)
        ),
        "middle": lambda self, h, emb: self.twin.middle(h, emb),
        "leave": lambda self, a, b, c: (self.out1(a), self.out2(b), self.out_middle(c)),
        **steps_,
    }

    def forward(self: ControlNet, xt: Tensor, t: Tensor, y: Tensor, condition: Tensor) -> Any:
        emb = plan["emb"](self, t, y)
        skip1 = plan["down1"](self, plan["enter"](self, xt, condition), emb, condition)
        skip2 = plan["down2"](self, skip1, emb)
        return plan["leave"](self, skip1, skip2, plan["middle"](self, skip2, emb))

    return type("ControlNet", (ControlNet,), {"forward": forward})


def _on_xt(self: ControlNet, xt: Tensor, c: Tensor) -> Tensor:
    return self.twin.stem(F.pixel_unshuffle(xt + c, self.twin.patch))


def _chained(self: ControlNet, xt: Tensor, t: Tensor, y: Tensor, condition: Tensor) -> Any:
    twin, emb = self.twin, self.twin.embed_with(t, y)
    h = twin.stem(F.pixel_unshuffle(xt, twin.patch)) + self.embed_condition(condition)
    skip1 = self.out1(twin.down1(h, emb))
    skip2 = self.out2(twin.attention(twin.down2(twin.shrink(skip1), emb)))
    return skip1, skip2, self.out_middle(twin.middle(skip2, emb))


def _by_encode(self: ControlNet, xt: Tensor, t: Tensor, y: Tensor, condition: Tensor) -> Any:
    pushed = self.embed_condition(condition)
    handle = self.twin.stem.register_forward_hook(lambda _, __, out: out + pushed)
    try:
        parts = self.twin.encode(xt, self.twin.embed_with(t, y))
    finally:
        handle.remove()
    outs = (self.out1, self.out2, self.out_middle)
    return tuple(out(part) for out, part in zip(outs, parts, strict=True))


def _one_by_one(self: ControlNet, *inputs: Tensor) -> Any:
    each = [
        ControlNet.forward(self, *(x[i : i + 1] for x in inputs)) for i in range(len(inputs[0]))
    ]
    return tuple(torch.cat(parts) for parts in zip(*each, strict=True))


def like(**methods: Answer) -> Answer:
    return type("ControlNet", (ControlNet,), methods)


def _born_with_bias(self: ControlNet, base: ConditionalUNet) -> None:
    ControlNet.__init__(self, base)
    nn.init.ones_(self.out_middle.bias)  # type: ignore[arg-type]


CONTROLNET = Exercise(
    ControlNet,
    controlnet_cases,
    mistakes=[
        Mistake("You added the condition to x_t itself. x_t must stay what the copy knows: noise and "
                "image. The condition is *embedded*, and added to what the stem makes of x_t.",
                controlnet_with(enter=_on_xt)),
        Mistake("The condition has no effect in yours: add self.embed_condition(condition) after "
                "the stem.",
                controlnet_with(enter=lambda self, xt, c:
                                self.twin.stem(F.pixel_unshuffle(xt, self.twin.patch)))),
        Mistake("Your copy sees the condition and not x_t. It needs both: it must know what is there "
                "already.", controlnet_with(enter=lambda self, xt, c: self.embed_condition(c))),
        Mistake("You add the condition after `down1`; it belongs right after the stem, so that the "
                "whole copy sees it.",
                controlnet_with(enter=lambda self, xt, c:
                                self.twin.stem(F.pixel_unshuffle(xt, self.twin.patch)),
                                down1=lambda self, h, emb, c:
                                self.twin.down1(h, emb) + self.embed_condition(c))),
        Mistake("The first skip leaves without its zero convolution: an untrained ControlNet would "
                "disturb the base.",
                controlnet_with(leave=lambda self, a, b, c: (a, self.out2(b), self.out_middle(c)))),
        Mistake("The second skip leaves without its zero convolution: an untrained ControlNet would "
                "disturb the base.",
                controlnet_with(leave=lambda self, a, b, c: (self.out1(a), b, self.out_middle(c)))),
        Mistake("The middle leaves without its zero convolution: an untrained ControlNet would "
                "disturb the base.",
                controlnet_with(leave=lambda self, a, b, c: (self.out1(a), self.out2(b), c))),
        Mistake("No zero convolution at the exits: `out1`, `out2` and `out_middle` are for them.",
                controlnet_with(leave=lambda self, a, b, c: (a, b, c))),
        Mistake("`out2` and `out_middle` have changed places.",
                controlnet_with(leave=lambda self, a, b, c:
                                (self.out1(a), self.out_middle(b), self.out2(c)))),
        Mistake("You go on from what has left through a zero convolution. At first that is zero, and "
                "the copy would be blind: go on from the features themselves.",
                like(forward=_chained)),
        Mistake("You add the copy's features to what leaves. Only the zero convolutions' outputs "
                "leave; the base has its own features.",
                controlnet_with(leave=lambda self, a, b, c:
                                (a + self.out1(a), b + self.out2(b), c + self.out_middle(c)))),
        Mistake("Your copy is not told the label: `twin.embed_with(t, y)` knows time and label.",
                controlnet_with(emb=lambda self, t, y: self.twin.embed(t))),
        Mistake("The attention is missing after `down2`: the copy makes each step of the base's "
                "`encode`.",
                controlnet_with(down2=lambda self, h, emb:
                                self.twin.down2(self.twin.shrink(h), emb))),
        Mistake("The middle block is missing: the third output is what `twin.middle` makes of the "
                "second skip.", controlnet_with(middle=lambda self, h, emb: h)),
        Mistake("An untrained one already gives something: leave `__init__` as it is, with zero "
                "convolutions at every exit.", like(__init__=_born_with_bias)),
    ],
    alternatives=[controlnet_with(), like(forward=_by_encode), like(forward=_one_by_one)],
    hints=["Follow `UNet.encode` line by line, with `self.twin` in the place of `self`.",
           "One line differs: after the stem, self.embed_condition(condition) is added.",
           "Return self.out1(skip1), self.out2(skip2) and self.out_middle(middle)."],
    run=run_controlnet,
)  # fmt: skip


# --- controlled -------------------------------------------------------------------------------


def controlled_cases() -> list[Case]:
    base, control = tiny_pair()
    xt, t, y = normal(4, 1, 8, 8), steps(0, 3, 6, 9), steps(0, 1, 2, 3)
    given = {"base": base, "control": control, "xt": xt, "t": t, "y": y}
    four = some_edges(4, 1, 8, 8, seed=1)
    return [
        Case("one image",
             {**given, "condition": four[:1], "xt": xt[:1], "t": t[:1], "y": y[:1]}),
        Case("four images, each with its condition", {**given, "condition": four}),
        Case("half the strength", {**given, "condition": four, "strength": 0.5}),
        Case("twice the strength", {**given, "condition": four, "strength": 2.0}),
        Case("no strength", {**given, "condition": four, "strength": 0.0}),
        Case("two conditions for a batch that guidance has doubled",
             {**given, "condition": four[:2], "strength": 0.7}),
        Case("one condition for all", {**given, "condition": four[2:3]}),
        Case("three conditions for four images, which cannot be", {**given, "condition": four[:3]}),
    ]  # fmt: skip


def run_controlled(answer: Answer, inputs: Inputs) -> dict[str, Any]:
    """Its prediction, and whether the ControlNet could learn from it."""
    call = [inputs.pop(name) for name in ("xt", "t", "y")]
    network = answer(**inputs)
    if not callable(network):
        raise UnusableError("controlled returns a function (xt, t, y) -> prediction.")
    out = network(*call)
    inputs.update(zip(("xt", "t", "y"), call, strict=True))
    return {"its output": out, "a gradient reaches the ControlNet": out.requires_grad}


Add = Callable[[Tensor, Tensor, float], Tensor]


def pushed(part: Tensor, push: Tensor, strength: float) -> Tensor:
    return part + strength * push


def controlled_with(
    skip: Add = pushed,
    middle: Add = pushed,
    share: Callable[[Tensor, int], Tensor] = one_each,
    see: Callable[[Tensor, float], Tensor] = lambda condition, strength: condition,
    grad: bool = True,
) -> Answer:
    """A controlled network some step of which is another."""

    def controlled(
        base: ConditionalUNet, control: Control, condition: Tensor, strength: float = 1.0
    ) -> Network:
        def network(xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
            emb = base.embed_with(t, y)
            a, b, c = base.encode(xt, emb)
            p, q, r = control(xt, t, y, see(share(condition, len(xt)), strength))
            return base.decode(
                skip(a, p, strength), skip(b, q, strength), middle(c, r, strength), emb
            )

        return network if grad else torch.no_grad()(network)

    return controlled


def _interleaved(condition: Tensor, n: int) -> Tensor:
    if n % len(condition):
        raise ValueError
    return condition.repeat_interleave(n // len(condition), dim=0)


def _first_for_all(condition: Tensor, n: int) -> Tensor:
    return one_each(condition, n)[:1].expand(n, -1, -1, -1)


def controlled_spelled_out(
    base: ConditionalUNet, control: Control, condition: Tensor, strength: float = 1.0
) -> Network:
    def network(xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
        if len(xt) % len(condition):
            raise ValueError("conditions do not fit")
        each = torch.cat([condition] * (len(xt) // len(condition)))
        emb = base.embed(t) + base.label_embedding(y)
        skip1, skip2, h = base.encode(xt, emb)
        push1, push2, push = control(xt, t, y, each)
        return base.decode(
            torch.add(skip1, push1, alpha=strength),
            torch.add(skip2, push2, alpha=strength),
            torch.add(h, push, alpha=strength),
            emb,
        )

    return network


CONTROLLED = Exercise(
    reference.controlled,
    controlled_cases,
    mistakes=[
        Mistake("The strength multiplies the base's skips. It belongs to what the ControlNet adds: "
                "skip + strength · push.", controlled_with(lambda a, p, s: s * a + p, lambda a, p, s: s * a + p)),
        Mistake("The strength multiplies the sum, the base's part too. At strength 0 the base must "
                "be left as it is.",
                controlled_with(lambda a, p, s: s * (a + p), lambda a, p, s: s * (a + p))),
        Mistake("`strength` has no effect in yours.",
                controlled_with(lambda a, p, s: a + p, lambda a, p, s: a + p)),
        Mistake("You multiply the *condition* by the strength. A ControlNet fed with zeros still "
                "pushes; multiply what it gives.",
                controlled_with(lambda a, p, s: a + p, lambda a, p, s: a + p,
                                see=lambda c, s: s * c)),
        Mistake("Only the middle is controlled. The skips are, too, and they hold the fine detail.",
                controlled_with(skip=lambda a, p, s: a)),
        Mistake("The middle is not controlled, only the skips are.",
                controlled_with(middle=lambda a, p, s: a)),
        Mistake("The strength reaches the skips and not the middle.",
                controlled_with(middle=lambda a, p, s: a + p)),
        Mistake("The pushes replace the base's features. They are *added* to them.",
                controlled_with(lambda a, p, s: s * p, lambda a, p, s: s * p)),
        Mistake("You mix: (1 − strength) · base + strength · push. The base's features stay whole, "
                "and the push is added.",
                controlled_with(lambda a, p, s: (1 - s) * a + s * p,
                                lambda a, p, s: (1 - s) * a + s * p)),
        Mistake("Each condition is repeated beside itself (repeat_interleave). Guidance puts the "
                "whole batch twice in a row, so the whole set of conditions is repeated: `one_each`.",
                controlled_with(share=_interleaved)),
        Mistake("All images get the first condition; each has its own.",
                controlled_with(share=_first_for_all)),
        Mistake("No gradient reaches the ControlNet (`no_grad`). The base's weights are locked, but "
                "gradients must pass *through* the base.", controlled_with(grad=False)),
    ],
    alternatives=[controlled_with(), controlled_spelled_out],
    hints=["Inside, define network(xt, t, y) and return it.",
           "emb = base.embed_with(t, y); base.encode(xt, emb) gives three features, and control(xt, "
           "t, y, one_each(condition, len(xt))) what to add to each.",
           "`base.decode` takes the three, each plus strength · push, and emb."],
    run=run_controlled,
)  # fmt: skip


# --- control_loss -----------------------------------------------------------------------------


def control_loss_cases() -> list[Case]:
    base, control = tiny_pair()
    given = {
        "control": control, "base": base, "x0": normal(3, 1, 8, 8).clamp(-1, 1),
        "t": steps(1, 5, 8), "eps": normal(3, 1, 8, 8, seed=1), "y": steps(0, 2, 3),
        "condition": some_edges(3, 1, 8, 8, seed=2), "alpha_bars": ALPHA_BARS,
    }  # fmt: skip
    one = {k: x[:1] if isinstance(x, Tensor) and k != "alpha_bars" else x for k, x in given.items()}
    other, its_control = tiny_pair(4)
    return [
        Case("one image", one),
        Case("three images", given),
        Case("other networks", {**given, "control": its_control, "base": other}),
    ]


def run_control_loss(answer: Answer, inputs: Inputs) -> dict[str, Any]:
    """The loss, and the gradients that the ControlNet gets from it: None where it gets none."""
    loss = answer(**inputs)
    slopes = None
    if isinstance(loss, Tensor) and loss.requires_grad:
        parameters = list(inputs["control"].parameters())
        slopes = list(torch.autograd.grad(loss.sum(), parameters, materialize_grads=True))
    return {"the loss": loss, "its gradients": slopes}


def loss_of(
    measure: Callable[[Tensor, Tensor], Tensor] = F.mse_loss,
    target: Callable[..., Tensor] = lambda x0, t, eps, a: v_target(x0, t, eps, a),
    see: Callable[..., Tensor] = q_sample,
    condition_of: Callable[[Tensor], Tensor] = lambda condition: condition,
    label_of: Callable[[Tensor, int], Tensor] = lambda y, null: y,
    strength: float = 1.0,
) -> Answer:
    """A loss some part of which is another."""

    def control_loss(
        control: Control, base: ConditionalUNet, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor,
        condition: Tensor, alpha_bars: Tensor,
    ) -> Tensor:  # fmt: skip
        network = controlled(base, control, condition_of(condition), strength)
        v_hat = network(see(x0, t, eps, alpha_bars), t, label_of(y, base.null))
        return measure(v_hat, target(x0, t, eps, alpha_bars))

    return control_loss


def loss_of_the_noised_condition(
    control: Control, base: ConditionalUNet, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor,
    condition: Tensor, alpha_bars: Tensor,
) -> Tensor:  # fmt: skip
    noised = q_sample(condition, t, eps, alpha_bars)
    return loss_of()(control, base, x0, t, eps, y, noised, alpha_bars)


def loss_image_by_image(
    control: Control, base: ConditionalUNet, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor,
    condition: Tensor, alpha_bars: Tensor,
) -> Tensor:  # fmt: skip
    each = []
    for i in range(len(x0)):
        a = alpha_bars[t[i]]
        xt = a.sqrt() * x0[i : i + 1] + (1 - a).sqrt() * eps[i : i + 1]
        v = a.sqrt() * eps[i : i + 1] - (1 - a).sqrt() * x0[i : i + 1]
        network = controlled(base, control, condition[i : i + 1])
        each.append(((network(xt, t[i : i + 1], y[i : i + 1]) - v) ** 2).mean())
    return torch.stack(each).mean()


CONTROL_LOSS = Exercise(
    reference.control_loss,
    control_loss_cases,
    mistakes=[
        Mistake("The target is ε in yours. The base was trained to predict v, and the ControlNet "
                "learns with the base's own loss.", loss_of(target=lambda x0, t, eps, a: eps)),
        Mistake("The target is x_0 in yours; the base predicts v.",
                loss_of(target=lambda x0, t, eps, a: x0)),
        Mistake("The network sees the clean image. Noise it first: `v_loss` does.",
                loss_of(see=lambda x0, t, eps, a: x0)),
        Mistake("You put noise on the condition. It stays clean at every t: it is what the image "
                "shall become.", loss_of_the_noised_condition),
        Mistake("The condition does not arrive: your network gets an empty map.",
                loss_of(condition_of=torch.zeros_like)),
        Mistake("The label does not arrive: your network is always told `null`. Whether a label is "
                "dropped is decided outside.", loss_of(label_of=lambda y, null: torch.full_like(y, null))),
        Mistake("Your loss is the base's alone (strength 0): the ControlNet has no part in it and "
                "gets no gradient.", loss_of(strength=0.0)),
        Mistake("You sum the squares; take their mean, as the base's loss does.",
                loss_of(lambda a, b: F.mse_loss(a, b, reduction="sum"))),
        Mistake("Your loss carries no gradient (`detach` or `no_grad`): nothing could be trained "
                "with it.", loss_of(lambda a, b: F.mse_loss(a, b).detach())),
    ],
    alternatives=[loss_of(), loss_of(lambda a, b: (b - a).pow(2).mean()), loss_image_by_image],
    hints=["`controlled(base, control, condition)` is a network (xt, t, y) that predicts v.",
           "`v_loss` of lesson 03 noises x_0, asks the network and compares with v. Its network is a "
           "function (xt, t): a lambda that already knows y."],
    run=run_control_loss,
)  # fmt: skip


# --- controlled_eps_model -----------------------------------------------------------------------


def eps_model_cases() -> list[Case]:
    base, control = tiny_pair()
    given = {
        "base": base, "control": control, "condition": some_edges(3, 1, 8, 8, seed=1),
        "y": steps(0, 2, 1), "alpha_bars": ALPHA_BARS, "xt": normal(3, 1, 8, 8, seed=3),
        "t": steps(6, 2, 4),
    }  # fmt: skip
    return [
        Case("label and condition, neither amplified", given),
        Case("guidance of 3", {**given, "guidance_scale": 3.0}),
        Case("no label", {**given, "guidance_scale": 0.0}),
        Case("half the strength", {**given, "strength": 0.5}),
        Case("guidance of 2, twice the strength",
             {**given, "guidance_scale": 2.0, "strength": 2.0}),
        Case("guidance and no control", {**given, "guidance_scale": 1.5, "strength": 0.0}),
    ]  # fmt: skip


def run_eps_model(answer: Answer, inputs: Inputs) -> Any:
    """The noise it gives for one batch."""
    call = [inputs.pop(name) for name in ("xt", "t")]
    eps_model = answer(**inputs)
    inputs.update(zip(("xt", "t"), call, strict=True))
    if not callable(eps_model):
        raise UnusableError("controlled_eps_model returns a function (xt, t) -> eps_hat.")
    return eps_model(*call)


def eps_model_with(
    combine: Callable[..., EpsModel],
) -> Answer:
    """An eps_model by a function of (base, control, condition, y, ᾱ, γ, strength)."""

    def controlled_eps_model(
        base: ConditionalUNet, control: Control, condition: Tensor, y: Tensor, alpha_bars: Tensor,
        guidance_scale: float = 1.0, strength: float = 1.0,
    ) -> EpsModel:  # fmt: skip
        return combine(base, control, condition, y, alpha_bars, guidance_scale, strength)

    return controlled_eps_model


def two_calls(
    uncontrolled: Callable[[Network, Network], Network] = lambda base, network: network,
    mix: Callable[[Tensor, Tensor, float], Tensor] = guide,
) -> Answer:
    """With the label and without it in two calls; which network is asked without it may change."""

    def combine(
        base: ConditionalUNet, control: Control, condition: Tensor, y: Tensor, alpha_bars: Tensor,
        guidance_scale: float, strength: float,
    ) -> EpsModel:  # fmt: skip
        network = controlled(base, control, condition, strength)
        other = uncontrolled(base, network)

        def eps_model(xt: Tensor, t: Tensor) -> Tensor:
            null = torch.full_like(y, base.null)
            cond = to_eps(network(xt, t, y), xt, t, alpha_bars, "v")
            uncond = to_eps(other(xt, t, null), xt, t, alpha_bars, "v")
            return mix(cond, uncond, guidance_scale)

        return eps_model

    return eps_model_with(combine)


CONTROLLED_EPS_MODEL = Exercise(
    reference.controlled_eps_model,
    eps_model_cases,
    mistakes=[
        Mistake("`guidance_scale` and `strength` have changed places.",
                eps_model_with(lambda base, control, c, y, a, g, s:
                               cfg_eps_model(controlled(base, control, c, g), y, base.null, a, s))),
        Mistake("`strength` has no effect in yours: hand it on to `controlled`.",
                eps_model_with(lambda base, control, c, y, a, g, s:
                               cfg_eps_model(controlled(base, control, c), y, base.null, a, g))),
        Mistake("`guidance_scale` has no effect in yours: hand it on to `cfg_eps_model`.",
                eps_model_with(lambda base, control, c, y, a, g, s:
                               cfg_eps_model(controlled(base, control, c, s), y, base.null, a, 1.0))),
        Mistake("That is the base without control: give `cfg_eps_model` the controlled network.",
                eps_model_with(lambda base, control, c, y, a, g, s:
                               cfg_eps_model(base, y, base.null, a, g))),
        Mistake("Your unlabelled half goes to the base alone. Then guidance amplifies the condition "
                "together with the label; here both halves are under the same control.",
                two_calls(lambda base, network: base)),
        Mistake("Your null label is class 0. \"No label\" is `base.null`.",
                eps_model_with(lambda base, control, c, y, a, g, s:
                               cfg_eps_model(controlled(base, control, c, s), y, 0, a, g))),
        Mistake("You use the paper's w, with (1 + w) and w. Here γ multiplies the conditional noise "
                "and 1 − γ the other: `guide`.",
                two_calls(mix=lambda cond, uncond, g: (1 + g) * cond - g * uncond)),
        Mistake("The network's output is taken for noise. It predicts v: leave `kind` at \"v\".",
                eps_model_with(lambda base, control, c, y, a, g, s:
                               cfg_eps_model(controlled(base, control, c, s), y, base.null, a, g,
                                             kind="eps"))),
    ],
    alternatives=[
        two_calls(),
        two_calls(mix=lambda cond, uncond, g: torch.lerp(uncond, cond, g)),
    ],
    hints=["`controlled` gives a network (xt, t, y); `cfg_eps_model` of lesson 07 takes one.",
           "The null label is base.null."],
    run=run_eps_model,
)  # fmt: skip

EXERCISES = [
    EDGES, EDGE_F1, ZERO_CONV, ZERO_CONV_GRADIENT, FREEZE, TRAINABLE_COPY, CONTROLNET, CONTROLLED,
    CONTROL_LOSS, CONTROLLED_EPS_MODEL,
]  # fmt: skip
