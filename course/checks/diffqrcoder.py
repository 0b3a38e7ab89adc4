"""Lesson 10: what right answers satisfy, and the mistakes people make."""

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course.checks.engine import Answer, Case, Exercise, Inputs, Mistake, call
from course.checks.forward_process import normal, steps
from course.diffqrcoder import codes, guidance, hiddenness, objective, refinement, scan_loss
from course.diffqrcoder.codes import PlacedCode, Unmet
from course.diffqrcoder.scan_loss import DARK, WHITE, modules, require_modules
from course.forward_process import alpha_bars_from_betas, at, cosine_schedule, linear_schedule
from course.qr_codes import (
    codeword_errors,
    error_budget,
    function_mask,
    luminance,
    make_code,
    read_format,
    version_of,
)

ALPHA_BARS = alpha_bars_from_betas(linear_schedule())
FEW = alpha_bars_from_betas(cosine_schedule(10))


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers in [0, 1), of their own seed."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def beyond(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Pictures from −0.3 to 1.3: what a decoder gives is not clamped."""
    return rand(*shape, seed=seed, dtype=dtype) * 1.6 - 0.3


def coins(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Zeros and ones."""
    return (rand(*shape, seed=seed) > 0.5).to(dtype)


def with_gradient(name: str, answer: Answer, inputs: Inputs) -> Any:
    """An answer's losses, and their gradient by the input `name`; 0 where they do not depend on it.

    What a loss cannot see has no gradient: two losses of one value can teach a picture differently.
    """
    x = inputs[name].detach().clone().requires_grad_()
    out = answer(**{**inputs, name: x})
    return (out, gradient_by(x, out)) if isinstance(out, Tensor) else out


def gradient_by(x: Tensor, out: Tensor) -> Tensor:
    if not out.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(out.sum(), x, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient


# --- pixel_error --------------------------------------------------------------------------------


def row(*values: float) -> Tensor:
    return torch.tensor(values).reshape(1, 1, 1, -1)


def pixel_cases() -> list[Case]:
    return [
        Case("two white pixels, then two dark ones, by hand",
             {"grey": row(0.5, 0.9, 0.3, 0.6), "target": row(1, 1, 0, 0)}),
        Case("between the thresholds", {"grey": row(0.55, 0.55), "target": row(1, 0)}),
        Case("pixels beyond the range", {"grey": row(-0.2, 1.2), "target": row(1, 0)}),
        Case("two pictures", {"grey": beyond(2, 1, 4, 6), "target": coins(2, 1, 4, 6, seed=1)}),
        Case("float64", {"grey": beyond(1, 1, 5, 3, seed=2, dtype=torch.float64),
                         "target": coins(1, 1, 5, 3, seed=3, dtype=torch.float64)}),
    ]  # fmt: skip


def pixel_by(light: Answer, dark: Answer) -> Answer:
    """The error where the target is white, and where it is dark."""
    return lambda grey, target: torch.where(target > 0.5, light(grey), dark(grey))


def too_dark(grey: Tensor) -> Tensor:
    return 2 * F.relu(WHITE - grey)


def too_light(grey: Tensor) -> Tensor:
    return 2 * F.relu(grey - DARK)


def pixel_by_sign(grey: Tensor, target: Tensor) -> Tensor:
    """One hinge for both: what is wanted is turned to be up."""
    up = 2 * target - 1
    threshold = DARK + (WHITE - DARK) * target
    return (2 * up * (threshold - grey)).clamp(min=0)


PIXEL_ERROR = Exercise(
    scan_loss.pixel_error,
    pixel_cases,
    mistakes=[
        Mistake("White and dark have changed places: the target is 1 where the code is *white*.",
                pixel_by(too_light, too_dark)),
        Mistake("The factor 2 is missing: 2 · relu(…), so that the error of grey is near 0.2 either "
                "way and that of black for white above 1.",
                pixel_by(lambda g: F.relu(WHITE - g), lambda g: F.relu(g - DARK))),
        Mistake("Your threshold is ½ for both. White has to reach 0.65 and dark 0.45: a pixel just "
                "past the middle is lost as soon as a shadow falls on it.",
                pixel_by(lambda g: 2 * F.relu(0.5 - g), lambda g: 2 * F.relu(g - 0.5))),
        Mistake("The two thresholds have changed places: 0.65 is white's, 0.45 is dark's. Yours "
                "call a mid-grey right for both.",
                pixel_by(lambda g: 2 * F.relu(DARK - g), lambda g: 2 * F.relu(g - WHITE))),
        Mistake("Your hinges are turned round: a white pixel costs something while it is *below* 0.65, "
                "a dark one while it is *above* 0.45.",
                pixel_by(lambda g: 2 * F.relu(g - WHITE), lambda g: 2 * F.relu(DARK - g))),
        Mistake("There is no hinge: a pixel that is past its threshold costs nothing, and is not "
                "pushed on to pure white or black. Use relu.",
                pixel_by(lambda g: 2 * (WHITE - g), lambda g: 2 * (g - DARK))),
        Mistake("You take the distance to the threshold on both sides: what is brighter than 0.65 "
                "would be pulled back to it. Use relu, not abs.",
                pixel_by(lambda g: 2 * (WHITE - g).abs(), lambda g: 2 * (g - DARK).abs())),
        Mistake("You clamped the grey to [0, 1] first. Where a pixel lies beyond, its gradient is "
                "then 0, and a wrong pixel that is saturated can never be repaired.",
                pixel_by(lambda g: too_dark(g.clamp(0, 1)), lambda g: too_light(g.clamp(0, 1)))),
        Mistake("The error is not squared.",
                pixel_by(lambda g: too_dark(g) ** 2, lambda g: too_light(g) ** 2)),
    ],
    alternatives=[
        pixel_by_sign,
        lambda grey, target: target * too_dark(grey) + (1 - target) * too_light(grey),
        pixel_by(lambda g: torch.maximum(1.3 - 2 * g, torch.zeros_like(g)),
                 lambda g: (2 * g - 0.9) * (g > DARK)),
    ],
    hints=[
        "Compute both errors for every pixel, and let torch.where choose by the target.",
        "relu(a) is a where it is above 0, and else 0: F.relu(WHITE - grey) for a white pixel.",
        "Mind what a pixel beyond [0, 1] costs: no clamp.",
    ],
    run=functools.partial(with_gradient, "grey"),
)  # fmt: skip


# --- module_window ------------------------------------------------------------------------------


def window_cases() -> list[Case]:
    return [
        Case("three pixels, by hand", {"module_size": 3}),
        Case("four: the middle lies between pixels", {"module_size": 4}),
        Case("seven: the corners are cut", {"module_size": 7}),
        Case("sixteen pixels, the same width", {"module_size": 16}),
        Case("a narrower window", {"module_size": 5, "sigma": 0.8}),
        Case("a wide one", {"module_size": 9, "sigma": 4.0}),
    ]


def bell(module_size: int, sigma: float, middle: float | None = None) -> Tensor:
    place = torch.arange(module_size) - ((module_size - 1) / 2 if middle is None else middle)
    return torch.exp(-(place[:, None] ** 2 + place**2) / (2 * sigma**2))


def stretched(x: Tensor) -> Tensor:
    return (x - x.min()) / (x.max() - x.min())


def cut(x: Tensor) -> Tensor:
    return torch.where(x < 0.1, 0.0, x)


def window_by(
    width: Answer = lambda s, sigma: sigma,
    shape: Answer = bell,
    finish: Answer = lambda x: cut(stretched(x)),
) -> Answer:
    return lambda module_size, sigma=1.5: finish(shape(module_size, width(module_size, sigma)))


def window_by_loops(module_size: int, sigma: float = 1.5) -> Tensor:
    middle = (module_size - 1) / 2
    rows = [
        [math.exp(-math.hypot(i - middle, j - middle) ** 2 / 2 / sigma**2)
         for j in range(module_size)] for i in range(module_size)
    ]  # fmt: skip
    return cut(stretched(torch.tensor(rows, dtype=torch.float64))).float()


def window_by_product(module_size: int, sigma: float = 1.5) -> Tensor:
    place = torch.linspace(-1, 1, module_size).double() * (module_size - 1) / 2
    one = torch.exp(-0.5 * (place / sigma) ** 2)
    both = torch.outer(one, one)
    both = both - both[0, 0]
    both = both / both[module_size // 2, module_size // 2]
    return (both * (both >= 0.1)).float()


MODULE_WINDOW = Exercise(
    scan_loss.module_window,
    window_cases,
    mistakes=[
        Mistake("Your window is normalised to a sum of 1. Its *peak* is 1: a module's error is a sum "
                "over its pixels, so larger modules may cost more.",
                window_by(finish=lambda x: (lambda w: w / w.sum())(cut(stretched(x))))),
        Mistake("Your width grows with the module. sigma is in pixels and stays: a scanner reads the "
                "middle of a large module just as it does that of a small one.",
                window_by(width=lambda s, sigma: s / 3 * sigma / 1.5)),
        Mistake("You took sigma as a share of the module; it is in pixels.",
                window_by(width=lambda s, sigma: s * sigma)),
        Mistake("The Gaussian is not shifted: its smallest value has to become 0 and its largest 1, "
                "(bell − min) / (max − min), before what is below 0.1 is cut.",
                window_by(finish=cut)),
        Mistake("The small values are still there: what is below 0.1 after scaling becomes 0.",
                window_by(finish=stretched)),
        Mistake("You raised what is below 0.1 to 0.1; it becomes 0.",
                window_by(finish=lambda x: stretched(x).clamp(min=0.1))),
        Mistake("You cut before you shifted and scaled: the 0.1 is of the finished window.",
                window_by(finish=lambda x: stretched(cut(x)))),
        Mistake("The window is shifted but its peak is below 1: divide by max − min.",
                window_by(finish=lambda x: cut(x - x.min()))),
        Mistake("Your peak is not in the middle: pixels 0 … s − 1 have theirs at (s − 1)/2, which for "
                "an even s lies between two pixels.",
                window_by(shape=lambda s, sigma: bell(s, sigma, s // 2))),
        Mistake("The 2 of 2σ² is missing: exp(−r² / 2σ²).",
                window_by(width=lambda s, sigma: sigma / 2**0.5)),
        Mistake("You divide by 2σ; it is 2σ².", window_by(width=lambda s, sigma: sigma**0.5)),
    ],
    alternatives=[window_by(), window_by_loops, window_by_product],
    hints=[
        "place = torch.arange(module_size) − (module_size − 1)/2 is 0 in the middle, also between "
        "two pixels.",
        "place[:, None] ** 2 + place ** 2 is each pixel's squared distance from the middle.",
        "First shift and scale to 0 … 1, then torch.where(window < 0.1, 0, window).",
    ],
)  # fmt: skip


# --- central_mean -------------------------------------------------------------------------------


def central_cases() -> list[Case]:
    nine = torch.arange(9.0).reshape(1, 1, 3, 3) ** 2
    return [
        Case("three pixels: the middle is all of it, by hand", {"squares": nine}),
        Case("four pixels: the inner 2 × 2", {"squares": rand(1, 2, 4, 4)}),
        *(Case(f"{s} pixels", {"squares": rand(2, 3, s, s, seed=s)}) for s in (5, 6, 7, 8, 12, 13)),
        Case("float64", {"squares": rand(1, 4, 10, 10, seed=9, dtype=torch.float64)}),
    ]


def central_by(first: Answer, last: Answer) -> Answer:
    """The mean over rows and columns first(s) … last(s) − 1."""

    def answer(squares: Tensor) -> Tensor:
        s = squares.shape[-1]
        inside = slice(first(s), last(s))
        return squares[..., inside, inside].mean(dim=(2, 3))

    return answer


def reach(s: int) -> int:
    return math.ceil(s / 6)


def central_first(s: int) -> int:
    return s // 2 - reach(s)


def central_last(s: int) -> int:
    return s // 2 + reach(s) + s % 2


def central_by_distance(squares: Tensor) -> Tensor:
    s = squares.shape[-1]
    near = (torch.arange(s) - (s - 1) / 2).abs() <= math.ceil(s / 6)
    weight = torch.outer(near, near).to(squares)
    return (squares * weight).sum(dim=(-2, -1)) / weight.sum()


def central_by_peeling(squares: Tensor) -> Tensor:
    s, wide = squares.shape[-1], 2 * math.ceil(squares.shape[-1] / 6) + squares.shape[-1] % 2
    while s > wide:
        squares, s = squares[..., 1:-1, 1:-1], s - 2
    return squares.mean(dim=3).mean(dim=2)


CENTRAL_MEAN = Exercise(
    scan_loss.central_mean,
    central_cases,
    mistakes=[
        Mistake("You took the mean of the whole module. Scanners read its middle; its rim is the "
                "picture's.", lambda squares: squares.mean(dim=(2, 3))),
        Mistake("You round s/6 down; ⌈s/6⌉ rounds up. For s = 4 yours has no pixel left.",
                central_by(lambda s: s // 2 - s // 6, lambda s: s // 2 + s // 6 + s % 2)),
        Mistake("For an even s your middle is off by half a pixel: it lies between two pixels, so "
                "as many pixels are taken to its left as to its right.",
                central_by(central_first, lambda s: s // 2 + reach(s) + 1)),
        Mistake("For an odd s the last row and column of the middle are missing: a slice ends before "
                "its second number.", central_by(central_first, lambda s: s // 2 + reach(s))),
        Mistake("That is lesson 09's middle third. Here it is ⌈s/6⌉ pixels around the middle.",
                central_by(lambda s: s // 3, lambda s: s - s // 3)),
        Mistake("That is a single pixel. A mean over the middle is what blur leaves of it.",
                central_by(lambda s: s // 2, lambda s: s // 2 + 1)),
        Mistake("That is the sum; take the mean.",
                lambda squares: central_by_distance(squares) * squares[0, 0].numel()
                / squares[0, 0].numel() * (2 * reach(squares.shape[-1]) + squares.shape[-1] % 2) ** 2),
        Mistake("You averaged over the modules too; each module has its own mean: (b, k).",
                lambda squares: central_by_distance(squares).mean(dim=1)),
    ],
    alternatives=[central_by_distance, central_by_peeling, central_by(central_first, central_last)],
    hints=[
        "An odd s has its middle in pixel s // 2, an even one between s // 2 − 1 and s // 2.",
        "half = math.ceil(s / 6); for even s the pixels s//2 − half … s//2 + half − 1, for odd s one more.",
        "One slice serves for rows and columns; then .mean(dim=(2, 3)).",
    ],
)  # fmt: skip


# --- scanning_robust_loss -----------------------------------------------------------------------


def target_of(b: int, rows: int, columns: int, s: int, margin: int = 0, seed: int = 0) -> Tensor:
    """Random modules as an image of 0 and 1, with as random a margin: (b, 1, h, w)."""
    grid = coins(b, 1, rows, columns, seed=seed)
    inner = grid.repeat_interleave(s, 2).repeat_interleave(s, 3)
    h, w = (side + 2 * margin for side in inner.shape[2:])
    whole = coins(b, 1, h, w, seed=seed + 1)
    whole[..., margin : h - margin, margin : w - margin] = inner
    return whole


def faint(b: int, target: Tensor, seed: int = 0, noise: float = 1.0) -> Tensor:
    """Pictures that show a target weakly, so that some of its modules are right."""
    h, w = target.shape[2:]
    return 0.45 + 0.2 * target + noise * (rand(b, 3, h, w, seed=seed) - 0.5)


def srl_case(label: str, b: int, rows: int, columns: int, s: int, **more: Any) -> Case:
    noise, margin = more.pop("noise", 1.0), more.get("margin", 0)
    target = target_of(b, rows, columns, s, margin)
    image = faint(b, target, noise=noise)
    return Case(label, {"image": image, "target": target, "module_size": s, **more})


def srl_cases() -> list[Case]:
    grey, dark = torch.full((1, 3, 3, 3), 0.6), torch.zeros(1, 1, 3, 3)
    wide = srl_case("pixels beyond the range", 2, 2, 3, 5, noise=2.6)
    return [
        Case("one dark module of 3 pixels, all grey 0.6, by hand",
             {"image": grey, "target": dark, "module_size": 3}),
        Case("the same where it should be white", {"image": grey, "target": 1 - dark, "module_size": 3}),
        srl_case("two pictures of 4 × 5 modules", 2, 4, 5, 4),
        srl_case("a margin that is not whole modules", 1, 3, 3, 4, margin=3),
        srl_case("another width", 1, 3, 2, 6, sigma=2.5),
        srl_case("a margin and large modules", 2, 2, 2, 8, margin=1),
        wide,
        Case("one channel", {"image": grey[:, :1], "target": dark, "module_size": 3}),
        Case("pixels that are not whole modules", {"image": grey, "target": dark, "module_size": 4}),
    ]  # fmt: skip


def srl_by(
    *,
    before: Answer = lambda image: image,
    grey: Answer = luminance,
    white: Answer = lambda target: target,
    window: Answer = scan_loss.module_window,
    wrong: Answer = lambda centre, light: torch.where(light, centre < WHITE, centre > DARK),
    combine: Answer = lambda errors, wrong: (errors * wrong).mean(dim=1),
    crop: bool = True,
) -> Answer:
    """L_SR with one of its parts made otherwise."""

    def answer(
        image: Tensor, target: Tensor, module_size: int, *, margin: int = 0, sigma: float = 1.5
    ) -> Tensor:
        require_modules(image, target, module_size, margin)
        inside = slice(margin, -margin or None) if crop else slice(None)
        image, target = before(image[..., inside, inside]), white(target[..., inside, inside])
        g = grey(image)
        weights = window(module_size, sigma).to(image)
        each = modules(scan_loss.pixel_error(g, target), module_size) * weights
        light = scan_loss.central_mean(modules(target, module_size)) > 0.5
        stop = wrong(scan_loss.central_mean(modules(g, module_size)), light)
        return torch.as_tensor(combine(each.sum(dim=(2, 3)), stop))

    return answer


def srl_by_loops(
    image: Tensor, target: Tensor, module_size: int, *, margin: int = 0, sigma: float = 1.5
) -> Tensor:
    require_modules(image, target, module_size, margin)
    s, (h, w) = module_size, image.shape[2:]
    g = (image * torch.tensor([0.299, 0.587, 0.114]).to(image).reshape(3, 1, 1)).sum(dim=1)
    weights, totals = scan_loss.module_window(s, sigma).to(image), []
    corners = [(i, j) for i in range(margin, h - margin, s) for j in range(margin, w - margin, s)]
    for k in range(len(image)):
        total = g[k].sum() * 0
        for i, j in corners:
            square = g[k, i : i + s, j : j + s]
            middle = central_by_distance(square[None, None])[0, 0]
            if target[k, 0, i, j] == 1 and middle < WHITE:
                total = total + (weights * too_dark(square)).sum()
            if target[k, 0, i, j] == 0 and middle > DARK:
                total = total + (weights * too_light(square)).sum()
        totals.append(total / len(corners))
    return torch.stack(totals)


def srl_by_convolution(
    image: Tensor, target: Tensor, module_size: int, *, margin: int = 0, sigma: float = 1.5
) -> Tensor:
    """The window as the kernel of a convolution that jumps from module to module."""
    require_modules(image, target, module_size, margin)
    if margin:
        image, target = (x[..., margin:-margin, margin:-margin] for x in (image, target))
    s, g = module_size, luminance(image)
    near = ((torch.arange(s) - (s - 1) / 2).abs() <= math.ceil(s / 6)).to(image)
    kernel = torch.outer(near, near)[None, None]
    centre = F.conv2d(g, kernel / kernel.sum(), stride=s)
    sums = F.conv2d(
        pixel_by_sign(g, target), scan_loss.module_window(s, sigma)[None, None], stride=s
    )
    light = target[..., ::s, ::s] == 1
    right = (light & (centre >= WHITE)) | (~light & (centre <= DARK))
    return sums.masked_fill(right, 0).flatten(1).mean(dim=1)


def plain_mean(image: Tensor) -> Tensor:
    return image.mean(dim=1, keepdim=True)


SCANNING_ROBUST_LOSS = Exercise(
    scan_loss.scanning_robust_loss,
    srl_cases,
    mistakes=[
        Mistake("There is no early stop. A module whose central mean is already on the right side "
                "counts as 0; else all modules are pushed until they are plain, and the picture is "
                "lost.", srl_by(combine=lambda errors, wrong: errors.mean(dim=1))),
        Mistake("The early stop is turned round: it is the modules that are *right* that count "
                "nothing.",
                srl_by(combine=lambda errors, wrong: (errors * ~wrong).mean(dim=1))),
        Mistake("Your early stop is at ½. A module is left alone when its centre is at least 0.65, "
                "or at most 0.45: with a margin.",
                srl_by(wrong=lambda c, light: torch.where(light, c < 0.5, c > 0.5))),
        Mistake("You clamped the image first. Beyond [0, 1] the gradient is then 0, so that a wrong "
                "module that is saturated can never be repaired.",
                srl_by(before=lambda image: image.clamp(0, 1))),
        Mistake("The batch is averaged into one number. Each image has its own loss, (b,): what "
                "guides one must not depend on what is beside it.",
                srl_by(combine=lambda errors, wrong: (errors * wrong).mean())),
        Mistake("You divide by the modules that are still wrong. Divide by all of them, so that the "
                "loss falls as they become right.",
                srl_by(combine=lambda errors, wrong: (errors * wrong).sum(dim=1)
                       / wrong.sum(dim=1).clamp(min=1))),
        Mistake("That is the sum over the modules; take their mean.",
                srl_by(combine=lambda errors, wrong: (errors * wrong).sum(dim=1))),
        Mistake("Within a module the errors are *summed* under the window, not averaged.",
                srl_by(window=lambda s, sigma: scan_loss.module_window(s, sigma) / s**2)),
        Mistake("Your window is normalised; its peak is 1, as module_window gives it.",
                srl_by(window=lambda s, sigma: (lambda w: w / w.sum())(
                    scan_loss.module_window(s, sigma)))),
        Mistake("Every pixel counts alike in yours: weigh a module's pixels by module_window, whose "
                "middle is what a scanner reads.",
                srl_by(window=lambda s, sigma: torch.ones(s, s))),
        Mistake("You do not hand `sigma` on to module_window.",
                srl_by(window=lambda s, sigma: scan_loss.module_window(s))),
        Mistake("White and dark have changed places: the target is 1 where it should be white.",
                srl_by(white=lambda target: 1 - target)),
        Mistake("You took the mean of red, green and blue; a scanner's grey is the luminance, in "
                "which green counts most.", srl_by(grey=plain_mean)),
        Mistake("The margin is still there: those pixels are no modules and do not count.",
                srl_by(crop=False)),
    ],
    alternatives=[srl_by(), srl_by_loops, srl_by_convolution],
    hints=[
        "Cut the margin off, make it grey, and cut it into modules: modules(x, module_size) is "
        "(b, number of modules, s, s).",
        "pixel_error on the whole picture, then modules(…) * window, summed over the last two axes: "
        "an error for each module.",
        "central_mean(modules(grey, s)) tells which modules are right already; multiply by those that "
        "are not, and take the mean over dim=1.",
        "slice(margin, -margin or None) cuts a margin that may be 0.",
    ],
    run=functools.partial(with_gradient, "image"),
)  # fmt: skip


# --- pattern_loss -------------------------------------------------------------------------------


@functools.cache
def placed_code(text: str, version: int, level: str, grid: int, size: int) -> PlacedCode:
    return PlacedCode(make_code(text, version, level, mask=2), grid, size)


SMALL = placed_code("diffusion", 1, "L", 29, 3)
ROOMY = placed_code("tea", 1, "M", 33, 4)
TWO_BLOCKS = placed_code("tea at five", 3, "H", 38, 3)


def small() -> PlacedCode:
    return SMALL


def roomy() -> PlacedCode:
    return ROOMY


def two_blocks() -> PlacedCode:
    return TWO_BLOCKS


def on_code(run: Answer) -> Answer:
    """A `run` of cases whose `placed` is a function that gives the code: it is not to be copied."""
    return lambda answer, inputs: run(answer, {**inputs, "placed": inputs["placed"]()})


def pictures_of(placed: PlacedCode, b: int, seed: int = 0, noise: float = 1.0) -> Tensor:
    """Pictures that show a code weakly."""
    return faint(b, placed.target, seed, noise)


def placed_cases() -> list[Case]:
    grey = torch.full((1, 3, SMALL.side, SMALL.side), 0.6)
    return [
        Case("all grey 0.6", {"image": grey, "placed": small}),
        Case("two pictures of a code", {"image": pictures_of(SMALL, 2), "placed": small}),
        Case("room around the quiet zone", {"image": pictures_of(ROOMY, 1, seed=1), "placed": roomy}),
        Case("pixels beyond the range",
             {"image": pictures_of(SMALL, 1, seed=2, noise=2.6), "placed": small}),
    ]  # fmt: skip


def pattern_error(grey: Tensor, target: Tensor) -> Tensor:
    """The pixel error at the thresholds of function patterns."""
    white, dark = objective.PATTERN_WHITE - grey, grey - objective.PATTERN_DARK
    return 2 * torch.where(target == 1, white, dark).clamp(min=0)


def pattern_by(
    where: Answer = lambda placed: placed.patterns,
    error: Answer = pattern_error,
    total: Answer = lambda x, where: x.sum(dim=(1, 2, 3)) / where.sum(),
) -> Answer:
    def answer(image: Tensor, placed: PlacedCode) -> Tensor:
        inside = where(placed)
        target = placed.target.expand(len(image), -1, -1, -1)
        return torch.as_tensor(total(error(luminance(image), target) * inside, inside))

    return answer


def pattern_by_picking(image: Tensor, placed: PlacedCode) -> Tensor:
    inside = placed.patterns[0, 0]
    wanted = placed.target[0, 0][inside]
    return pattern_error(luminance(image)[:, 0, inside], wanted).mean(dim=1)


def pattern_by_loop(image: Tensor, placed: PlacedCode) -> Tensor:
    each = [pattern_error(luminance(x), placed.target) for x in image.split(1)]
    return torch.stack([x[placed.patterns].mean() for x in each])


def windowed(placed: PlacedCode) -> Tensor:
    window = scan_loss.module_window(placed.module_size)
    return placed.patterns * window.repeat(placed.grid, placed.grid)


PATTERN_LOSS = Exercise(
    objective.pattern_loss,
    placed_cases,
    mistakes=[
        Mistake("You averaged over the whole picture; divide by the number of pattern pixels alone.",
                pattern_by(total=lambda x, where: x.mean(dim=(1, 2, 3)))),
        Mistake("That is the sum over the pattern pixels; take their mean.",
                pattern_by(total=lambda x, where: x.sum(dim=(1, 2, 3)))),
        Mistake("You weighed the pixels by module_window. Here every pixel counts alike: a finder is "
                "found by where its stripes *end*.",
                pattern_by(where=windowed)),
        Mistake("Data modules are in it; `placed.patterns` says which pixels are function patterns.",
                pattern_by(where=lambda placed: torch.ones_like(placed.patterns))),
        Mistake("Those are all pixels that are *not* function patterns.",
                pattern_by(where=lambda placed: ~placed.patterns)),
        Mistake("The batch is averaged into one number; each image has its own loss, (b,).",
                pattern_by(total=lambda x, where: x.sum() / where.sum() / len(x))),
        Mistake("You clamped the image first; beyond [0, 1] nothing pulls it back any more.",
                pattern_by(error=lambda g, target: pattern_error(g.clamp(0, 1), target))),
        Mistake("White and dark have changed places: `placed.target` is 1 where it is white.",
                pattern_by(error=lambda g, target: pattern_error(g, 1 - target))),
        Mistake("Those are the thresholds of data modules. Function patterns want more contrast: "
                "PATTERN_WHITE and PATTERN_DARK.", pattern_by(error=scan_loss.pixel_error)),
        Mistake("The factor 2 is missing: 2 · relu(…), as in pixel_error.",
                pattern_by(error=lambda g, target: pattern_error(g, target) / 2)),
    ],
    alternatives=[pattern_by(), pattern_by_picking, pattern_by_loop],
    hints=[
        "As in pixel_error, with PATTERN_WHITE and PATTERN_DARK; placed.target > 0.5 says which pixels are "
        "to be white, for every picture of the batch.",
        "Multiply by placed.patterns, sum over all axes but the first, divide by placed.patterns.sum().",
    ],
    run=on_code(functools.partial(with_gradient, "image")),
)  # fmt: skip


# --- unmet --------------------------------------------------------------------------------------


def unmet_cases() -> list[Case]:
    pale = (0.56 - 0.12 * (1 - SMALL.target)).expand(1, 3, -1, -1)  # 0.56 and 0.44
    return [
        Case("the code itself", {"image": SMALL.target.expand(1, 3, -1, -1).clone(), "placed": small}),
        Case("a pale code, asked for more", {"image": pale.clone(), "placed": small, "slack": 0.07}),
        Case("two pictures", {"image": pictures_of(SMALL, 2), "placed": small}),
        Case("with slack", {"image": pictures_of(SMALL, 1, seed=1), "placed": small, "slack": 0.1}),
        Case("room around it", {"image": pictures_of(ROOMY, 1, seed=2), "placed": roomy}),
        Case("a code of two blocks",
             {"image": pictures_of(TWO_BLOCKS, 2, seed=3, noise=1.6), "placed": two_blocks, "slack": 0.02}),
    ]  # fmt: skip


def unmet_by(
    mean: Answer = scan_loss.central_mean,
    wrong: Answer = lambda dark, centre, slack: torch.where(
        dark, centre > 0.5 - slack, centre < 0.5 + slack
    ),
    share: Answer = lambda wrong, version: wrong.float().mean(dim=(1, 2)),
    spent: Answer = lambda counts, budget: max(counts) / budget,
    count: Answer = codeword_errors,
    patterns: Answer = lambda wrong, version: (wrong & function_mask(version)).sum(dim=(1, 2)),
) -> Answer:
    """`unmet` with one of its parts made otherwise."""

    def answer(image: Tensor, placed: PlacedCode, slack: float = 0.0) -> Unmet:
        version, (level, _) = version_of(placed.code), read_format(placed.code)
        squares = modules(luminance(placed.crop(image.detach().float())), placed.module_size)
        centre = mean(squares).reshape(len(image), *placed.code.shape)
        off = wrong(placed.code, centre, slack)
        budget = error_budget(version, level)
        each = [spent(count(x, version, level), budget) for x in off]
        return Unmet(share(off, version), torch.tensor(each), patterns(off, version))

    return answer


def unmet_by_loops(image: Tensor, placed: PlacedCode, slack: float = 0.0) -> Unmet:
    n, version = len(placed.code), version_of(placed.code)
    level, _ = read_format(placed.code)
    shares, spent, patterns = [], [], []
    for picture in image.split(1):
        squares = modules(luminance(placed.crop(picture)), placed.module_size)
        centre = central_by_distance(squares).reshape(n, n)
        sure = torch.where(placed.code, 0.5 - centre, centre - 0.5) > slack
        shares.append(1 - sure.float().mean())
        counts = codeword_errors(~sure, version, level)
        spent.append(max(count / error_budget(version, level) for count in counts))
        patterns.append(int((~sure)[function_mask(version)].sum()))
    return Unmet(torch.stack(shares), torch.tensor(spent), torch.tensor(patterns))


UNMET = Exercise(
    codes.unmet,
    unmet_cases,
    mistakes=[
        Mistake("Dark and light have changed places: in the code True is dark, and a dark module is "
                "wrong when its centre is too *bright*.",
                unmet_by(wrong=lambda dark, c, slack: torch.where(dark, c < 0.5 - slack, c > 0.5 + slack))),
        Mistake("`slack` is not used: a module is right only when it is past ½ *by the slack*.",
                unmet_by(wrong=lambda dark, c, slack: torch.where(dark, c > 0.5, c < 0.5))),
        Mistake("Your slack forgives instead of asking for more: a dark module must be below "
                "0.5 − slack, a light one above 0.5 + slack.",
                unmet_by(wrong=lambda dark, c, slack: torch.where(dark, c > 0.5 + slack, c < 0.5 - slack))),
        Mistake("You took the mean of each whole module; a scanner reads its middle: central_mean.",
                unmet_by(mean=lambda squares: squares.mean(dim=(2, 3)))),
        Mistake("You spread the spending over the blocks. Each block has a budget of its own and the "
                "worst one decides: take the largest.",
                unmet_by(spent=lambda counts, budget: sum(counts) / len(counts) / budget)),
        Mistake("`spent` is a share: divide the wrong codewords by the error budget.",
                unmet_by(spent=lambda counts, budget: float(max(counts)))),
        Mistake("You counted wrong modules against the budget. It is counted in *codewords*, of eight "
                "modules each: codeword_errors.",
                unmet_by(count=lambda wrong, version, level: [int((wrong & ~function_mask(version)).sum())])),
        Mistake("`patterns` counts the wrong modules of function patterns alone.",
                unmet_by(patterns=lambda wrong, version: wrong.sum(dim=(1, 2)))),
        Mistake("`modules` is a share of all modules, not their number.",
                unmet_by(share=lambda wrong, version: wrong.float().sum(dim=(1, 2)))),
        Mistake("Function patterns are missing from `modules`: it is the share of *all* modules.",
                unmet_by(share=lambda wrong, version: wrong[:, ~function_mask(version)].float().mean(dim=1))),
    ],
    alternatives=[unmet_by(), unmet_by_loops],
    hints=[
        "placed.crop cuts the code out; luminance, modules and central_mean give (b, n²) brightnesses.",
        "wrong = torch.where(code, centre > 0.5 − slack, centre < 0.5 + slack), shaped (b, n, n).",
        "codeword_errors(wrong[i], version, level) counts each block's wrong codewords; the largest "
        "over error_budget(version, level) is `spent`.",
        "function_mask(version) is True in function patterns; `wrong & mask` summed over the last axes.",
    ],
    run=on_code(call),
)  # fmt: skip


# --- predicted_z0 -------------------------------------------------------------------------------


class Pointwise(nn.Module):
    """A network of one 1 × 1 convolution and a curve."""

    def __init__(self, channels: int = 2, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        weight = normal(channels, channels, 1, 1, seed=5, dtype=dtype)
        self.weight = nn.Parameter(0.6 * weight, requires_grad=False)

    def forward(self, zt: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(F.conv2d(zt, self.weight)) + t.reshape(-1, 1, 1, 1) / 1000


def half(zt: Tensor, t: Tensor) -> Tensor:
    """A network that returns z_t / 2."""
    return zt / 2


def z0_case(label: str, network: Any, zt: Tensor, t: Tensor, kind: str, **more: Any) -> Case:
    bars = more.pop("alpha_bars", ALPHA_BARS)
    return Case(
        label, {"network": network, "zt": zt, "t": t, "alpha_bars": bars, "kind": kind, **more}
    )


def z0_cases() -> list[Case]:
    one, four = torch.ones(1, 1, 1, 1), torch.tensor([0.9, 0.64, 0.36, 0.1])
    two, net = normal(2, 2, 3, 3), Pointwise()
    exact = Pointwise(dtype=torch.float64)
    return [
        z0_case("one number, ᾱ = 0.64, an ε-network", half, one, steps(1), "eps", alpha_bars=four),
        z0_case("the same, a v-network", half, one, steps(1), "v", alpha_bars=four),
        z0_case("the same, past the network", half, one, steps(1), "v", alpha_bars=four, jacobian=False),
        z0_case("ε, two images at different t", net, two, steps(100, 700), "eps"),
        z0_case("v, two images at different t", net, two, steps(800, 300), "v"),
        z0_case("ε, past the network", net, two, steps(500, 20), "eps", jacobian=False),
        z0_case("v, past the network, float64", exact, normal(1, 2, 2, 4, seed=1, dtype=torch.float64),
                steps(400), "v", jacobian=False),
    ]  # fmt: skip


def run_z0(answer: Answer, inputs: Inputs) -> Any:
    """ε̂ and z̃_0, and the gradient of a loss of z̃_0 by z_t."""
    zt = inputs["zt"].detach().clone().requires_grad_()
    out = answer(**{**inputs, "zt": zt})
    if not (isinstance(out, tuple) and len(out) == 2 and isinstance(out[1], Tensor)):
        return out
    return out[0], out[1], gradient_by(zt, out[1].square())


def z0_by(
    eps_of: Answer | None = None,
    solve: Answer | None = None,
    through: Answer = lambda jacobian: jacobian,
    shown: Answer = lambda output, eps_hat: eps_hat,
) -> Answer:
    """predicted_z0 with another conversion, another closed form or another use of `jacobian`."""

    def answer(
        network: Any, zt: Tensor, t: Tensor, alpha_bars: Tensor, kind: str, jacobian: bool = True
    ) -> tuple[Tensor, Tensor]:
        a = at(alpha_bars, t, zt)
        with torch.set_grad_enabled(through(jacobian)):
            output = network(zt, t)
            v = (eps_of or v_to_eps)(output, zt, a)
            eps_hat = output if kind == "eps" else v
        return shown(output, eps_hat), (solve or closed_form)(zt, eps_hat, a)

    return answer


def v_to_eps(output: Tensor, zt: Tensor, a: Tensor) -> Tensor:
    return a.sqrt() * output + (1 - a).sqrt() * zt


def closed_form(zt: Tensor, eps_hat: Tensor, a: Tensor) -> Tensor:
    return (zt - (1 - a).sqrt() * eps_hat) / a.sqrt()


def z0_with_detach(
    network: Any, zt: Tensor, t: Tensor, alpha_bars: Tensor, kind: str, jacobian: bool = True
) -> tuple[Tensor, Tensor]:
    a, output = at(alpha_bars, t, zt), network(zt, t)
    eps_hat = output if kind == "eps" else v_to_eps(output, zt, a)
    if not jacobian:
        eps_hat = eps_hat.detach()
    return eps_hat, zt / a.sqrt() - (1 / a - 1).sqrt() * eps_hat


def z0_without_any(
    network: Any, zt: Tensor, t: Tensor, alpha_bars: Tensor, kind: str, jacobian: bool = True
) -> tuple[Tensor, Tensor]:
    if jacobian:
        return z0_with_detach(network, zt, t, alpha_bars, kind)
    with torch.no_grad():
        return z0_with_detach(network, zt, t, alpha_bars, kind)


def z0_half_detached(
    network: Any, zt: Tensor, t: Tensor, alpha_bars: Tensor, kind: str, jacobian: bool = True
) -> tuple[Tensor, Tensor]:
    """The output is constant without the Jacobian, but the conversion of v is not."""
    a, output = at(alpha_bars, t, zt), network(zt, t)
    if not jacobian:
        output = output.detach()
    eps_hat = output if kind == "eps" else v_to_eps(output, zt, a)
    return eps_hat, closed_form(zt, eps_hat, a)


PREDICTED_Z0 = Exercise(
    guidance.predicted_z0,
    z0_cases,
    mistakes=[
        Mistake("√ᾱ and √(1−ᾱ) have changed places: z̃_0 = (z_t − √(1−ᾱ) ε̂) / √ᾱ.",
                z0_by(solve=lambda zt, e, a: (zt - a.sqrt() * e) / (1 - a).sqrt())),
        Mistake("ᾱ is there without its root: z̃_0 = (z_t − √(1−ᾱ) ε̂) / √ᾱ.",
                z0_by(solve=lambda zt, e, a: (zt - (1 - a) * e) / a)),
        Mistake("The division by √ᾱ is missing: z_t holds √ᾱ z_0, not z_0.",
                z0_by(solve=lambda zt, e, a: zt - (1 - a).sqrt() * e)),
        Mistake("You took the output for ε̂ whatever `kind` says. A v-network's has to be converted "
                "first: ε̂ = √ᾱ v + √(1−ᾱ) z_t. to_eps does it.",
                z0_by(eps_of=lambda output, zt, a: output)),
        Mistake("In v's conversion the roots have changed places: ε̂ = √ᾱ v + √(1−ᾱ) z_t.",
                z0_by(eps_of=lambda output, zt, a: (1 - a).sqrt() * output + a.sqrt() * zt)),
        Mistake("z̃_0 is right, but you return the network's raw output beside it; return ε̂, which "
                "is what guidance adds to.", z0_by(shown=lambda output, eps_hat: output)),
        Mistake("`jacobian` is not used: without it the network is called where no gradient is "
                "recorded (torch.set_grad_enabled(jacobian)).", z0_by(through=lambda jacobian: True)),
        Mistake("The gradient never goes through the network, though `jacobian` is True by default.",
                z0_by(through=lambda jacobian: False)),
        Mistake("`jacobian` is turned round: True means that the gradient goes through the network.",
                z0_by(through=lambda jacobian: not jacobian)),
        Mistake("Without the Jacobian only ε̂ is a constant. z̃_0 still depends on z_t, through the "
                "closed form: keep that line outside the block without gradients.", z0_without_any),
        Mistake("Without the Jacobian the whole of ε̂ counts as a constant, v's conversion too: put "
                "to_eps into the block as well.", z0_half_detached),
        Mistake("You clipped z̃_0 to [−1, 1]. Latents have no such range.",
                z0_by(solve=lambda zt, e, a: closed_form(zt, e, a).clamp(-1, 1))),
    ],
    alternatives=[z0_with_detach, z0_by()],
    hints=[
        "Two lines of lesson 04: to_eps(output, zt, t, alpha_bars, kind), then "
        "predict_x0(zt, t, eps_hat, alpha_bars).",
        "`with torch.set_grad_enabled(jacobian):` around the network and the conversion, not around "
        "predict_x0.",
    ],
    run=run_z0,
)  # fmt: skip


# --- loss_gradient ------------------------------------------------------------------------------


def squares(x: Tensor) -> Tensor:
    """Each image's sum of squares."""
    return x.square().sum(dim=(1, 2, 3))


def cubes(x: Tensor) -> Tensor:
    """Each image's mean of cubes, and a little of its first pixel."""
    return x.pow(3).mean(dim=(1, 2, 3)) + x[:, 0, 0, 0]


def thrice(zt: Tensor) -> Tensor:
    """x = 3 z_t."""
    return 3 * zt


def mixed(zt: Tensor) -> Tensor:
    """x depends on several values of z_t."""
    return zt.roll(1, dims=-1) * zt + 0.5 * zt.flip(2)


def gradient_cases() -> list[Case]:
    return [
        Case("one image of one pixel: x = 3 z_t, loss = x²",
             {"loss": squares, "x": thrice, "zt": torch.full((1, 1, 1, 1), 2.0)}),
        Case("three images", {"loss": squares, "x": thrice, "zt": normal(3, 2, 2, 2)}),
        Case("another loss", {"loss": cubes, "x": mixed, "zt": normal(4, 1, 3, 3, seed=1)}),
        Case("float64", {"loss": cubes, "x": mixed, "zt": normal(2, 3, 2, 5, seed=2, dtype=torch.float64)}),
    ]  # fmt: skip


def run_gradient(answer: Answer, inputs: Inputs) -> Any:
    """`x` is given as a function of z_t, so that it is one. Losses must be let go of their graph."""
    zt = inputs["zt"].detach().clone().requires_grad_()
    out = answer(loss=inputs["loss"], x=inputs["x"](zt), zt=zt)
    if isinstance(out, tuple) and isinstance(out[0], Tensor):
        return (*out, out[0].requires_grad)
    return out


def gradient_of(
    of: Answer = lambda losses: losses.sum(),
    change: Answer = lambda gradient: gradient,
    give: Answer = lambda losses: losses.detach(),
    by: Answer = lambda x, zt: zt,
) -> Answer:
    def answer(loss: Any, x: Tensor, zt: Tensor) -> tuple[Tensor, Tensor]:
        losses = loss(x)
        (gradient,) = torch.autograd.grad(of(losses), by(x, zt))
        return give(losses), change(gradient)

    return answer


def gradient_image_by_image(loss: Any, x: Tensor, zt: Tensor) -> tuple[Tensor, Tensor]:
    losses = loss(x)
    each = [torch.autograd.grad(v, zt, retain_graph=True)[0][i] for i, v in enumerate(losses)]
    return losses.detach(), torch.stack(each)


def gradient_backward(loss: Any, x: Tensor, zt: Tensor) -> tuple[Tensor, Tensor]:
    losses = loss(x)
    losses.backward(torch.ones_like(losses))
    assert zt.grad is not None
    return losses.detach(), zt.grad


def gradient_elsewhere(loss: Any, x: Tensor, zt: Tensor) -> tuple[Tensor, Tensor]:
    losses = loss(zt)
    return losses.detach(), torch.autograd.grad(losses.sum(), zt)[0]


LOSS_GRADIENT = Exercise(
    guidance.loss_gradient,
    gradient_cases,
    mistakes=[
        Mistake("You averaged the losses. Then every gradient is divided by the size of the batch, and "
                "a picture is guided less the more pictures are beside it. Add them up.",
                gradient_of(of=lambda losses: losses.mean())),
        Mistake("That is the gradient by x. The guided step moves z_t, so the gradient has to be taken "
                "by z_t, through all that lies between.", gradient_of(by=lambda x, zt: x)),
        Mistake("The sign is turned round. Return the gradient itself, uphill; it is *adding* it to ε̂ "
                "that goes downhill.", gradient_of(change=lambda gradient: -gradient)),
        Mistake("The losses still hold the whole graph, and with it the memory of every activation: "
                "return losses.detach().", gradient_of(give=lambda losses: losses)),
        Mistake("You took the loss at z_t; it is a loss of x, the picture that z_t leads to.",
                gradient_elsewhere),
        Mistake("You return one loss for all images; return each one's, (b,).",
                gradient_of(give=lambda losses: losses.sum().detach())),
        Mistake("You normalised the gradient. Return it as it is; how long a step is comes later.",
                gradient_of(change=lambda g: g / g.norm())),
    ],
    alternatives=[gradient_of(), gradient_image_by_image, gradient_backward],
    hints=[
        "torch.autograd.grad(number, zt) returns a tuple of one gradient.",
        "The number is losses.sum(): image i's loss does not depend on image j's z_t, so the "
        "gradients stay apart.",
    ],
    run=run_gradient,
)  # fmt: skip


# --- unit ---------------------------------------------------------------------------------------


def unit_cases() -> list[Case]:
    some_zero = normal(3, 2, 2, 3, seed=1)
    some_zero[1] = 0
    return [
        Case("four numbers, by hand", {"gradient": torch.tensor([3.0, -3.0, 1.0, 1.0]).reshape(1, 1, 2, 2)}),
        Case("two images, one much larger",
             {"gradient": normal(2, 3, 4, 4) * torch.tensor([1.0, 100.0]).reshape(2, 1, 1, 1)}),
        Case("one image of zeros", {"gradient": some_zero}),
        Case("very small numbers", {"gradient": 1e-9 * normal(2, 1, 3, 3, seed=2)}),
        Case("half precision, small numbers", {"gradient": (1e-5 * normal(1, 2, 3, 3, seed=3)).half()}),
        Case("float64, not around 0",
             {"gradient": 1 + normal(2, 1, 5, 2, seed=4, dtype=torch.float64)}),
    ]  # fmt: skip


def unit_by(size: Answer, divide: Answer = lambda x, size: x / size.clamp(min=1e-12)) -> Answer:
    """The gradient over a size that is measured in float32."""
    return lambda gradient: divide(gradient.float(), size(gradient.float())).to(gradient.dtype)


def rms(x: Tensor) -> Tensor:
    return x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


def unit_by_normalize(gradient: Tensor) -> Tensor:
    flat = gradient.double().flatten(1)
    out = F.normalize(flat, dim=1, eps=1e-12) * flat.shape[1] ** 0.5
    return out.reshape(gradient.shape).to(gradient.dtype)


def unit_by_loop(gradient: Tensor) -> Tensor:
    each = []
    for x in gradient.double():
        size = x.norm() / x.numel() ** 0.5
        each.append(x / size if size > 0 else x)
    return torch.stack(each).to(gradient.dtype)


UNIT = Exercise(
    guidance.unit,
    unit_cases,
    mistakes=[
        Mistake("Your vectors have the length 1. Here the *mean* square is 1, so that a step means the "
                "same for latents of every size.",
                unit_by(lambda x: x.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1))),
        Mistake("You measured the whole batch at once: a picture beside a louder one would hardly be "
                "guided. Each image has its own size.", unit_by(lambda x: x.square().mean().sqrt())),
        Mistake("Every channel has its own size in yours, which changes the direction; one number an "
                "image.", unit_by(lambda x: x.square().mean(dim=(2, 3), keepdim=True).sqrt())),
        Mistake("That is the largest number, not the root mean square.",
                unit_by(lambda x: x.abs().amax(dim=(1, 2, 3), keepdim=True))),
        Mistake("That is the mean of absolute values, not the root mean square.",
                unit_by(lambda x: x.abs().mean(dim=(1, 2, 3), keepdim=True))),
        Mistake("That is the standard deviation, from which the mean is taken away first; the root "
                "mean square is measured from 0.",
                unit_by(lambda x: x.std(dim=(1, 2, 3), keepdim=True, correction=0))),
        Mistake("The root is missing: divide by the root of the mean square.",
                unit_by(lambda x: x.square().mean(dim=(1, 2, 3), keepdim=True))),
        Mistake("A gradient of 0 becomes NaN: 0/0. A picture that needs no guidance has just that; keep "
                "the size away from 0.", unit_by(rms, lambda x, size: x / size)),
        Mistake("What you add to the size against 0/0 is so large that small gradients vanish; "
                "1e-12 is enough.", unit_by(rms, lambda x, size: x / (size + 1e-6))),
        Mistake("That is the sign of each number; the direction has to stay.",
                lambda gradient: gradient.sign()),
        Mistake("In half precision the squares of small numbers are 0. Measure in float32, and give "
                "the result back in the gradient's dtype.",
                lambda gradient: gradient / rms(gradient).clamp(min=1e-7)
                if gradient.dtype == torch.float16 else unit_by(rms)(gradient)),
    ],
    alternatives=[unit_by(rms), unit_by_normalize, unit_by_loop],
    hints=[
        "gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() is (b, 1, 1, 1) and broadcasts.",
        "size.clamp(min=1e-12) keeps 0/0 away; .float() first and .to(gradient.dtype) last.",
    ],
)  # fmt: skip


# --- srpg_term ----------------------------------------------------------------------------------


def srpg_cases() -> list[Case]:
    bars = torch.tensor([0.9, 0.64, 0.36, 0.1])
    one = torch.full((1, 1, 1, 1), 2.0)
    two = normal(2, 2, 3, 3)
    return [
        Case("one number, ᾱ = 0.64, as in the paper", {"gradient": one, "t": steps(1), "alpha_bars": bars}),
        Case("the same with a step of 0.3",
             {"gradient": one, "t": steps(1), "alpha_bars": bars, "step": torch.tensor([0.3])}),
        Case("two images at different t", {"gradient": two, "t": steps(3, 0), "alpha_bars": bars}),
        Case("two images, two steps",
             {"gradient": two, "t": steps(100, 800), "alpha_bars": ALPHA_BARS,
              "step": torch.tensor([0.5, 0.1])}),
        Case("one of them does not move",
             {"gradient": two, "t": steps(2, 2), "alpha_bars": bars, "step": torch.tensor([0.0, 0.2])}),
        Case("float64", {"gradient": normal(1, 1, 2, 4, seed=1, dtype=torch.float64), "t": steps(5),
                         "alpha_bars": FEW, "step": torch.tensor([0.25])}),
    ]  # fmt: skip


def srpg_by(
    paper: Answer = lambda a: (1 - a).sqrt(),
    factor: Answer = lambda a: (a / (1 - a)).sqrt(),
    direction: Answer = guidance.unit,
    sign: float = 1,
) -> Answer:
    def answer(
        gradient: Tensor, t: Tensor, alpha_bars: Tensor, step: Tensor | None = None
    ) -> Tensor:
        a = at(alpha_bars, t, gradient)
        if step is None:
            return sign * paper(a) * gradient
        return sign * step.to(gradient).reshape(-1, 1, 1, 1) * factor(a) * direction(gradient)

    return answer


def srpg_ignoring_step(
    gradient: Tensor, t: Tensor, alpha_bars: Tensor, step: Tensor | None = None
) -> Tensor:
    return srpg_by()(gradient, t, alpha_bars)


def srpg_by_images(
    gradient: Tensor, t: Tensor, alpha_bars: Tensor, step: Tensor | None = None
) -> Tensor:
    terms = []
    for i, g in enumerate(gradient):
        a = float(alpha_bars[t[i]])
        if step is None:
            terms.append(math.sqrt(1 - a) * g)
        else:
            terms.append(float(step[i]) / math.sqrt(1 / a - 1) * guidance.unit(g[None])[0])
    return torch.stack(terms)


SRPG_TERM = Exercise(
    guidance.srpg_term,
    srpg_cases,
    mistakes=[
        Mistake("The sign is turned round. Noise is *subtracted* on the way to z̃_0, so adding the "
                "gradient to ε̂ walks downhill.", srpg_by(sign=-1)),
        Mistake("The factor is √(1−ᾱ), not √ᾱ: it comes from ε = −√(1−ᾱ) · score.",
                srpg_by(paper=lambda a: a.sqrt())),
        Mistake("The root is missing in the paper's form: √(1−ᾱ).", srpg_by(paper=lambda a: 1 - a)),
        Mistake("The factor √(1−ᾱ) is missing: as it stands, the gradient belongs to the score, not "
                "to the noise.", srpg_by(paper=lambda a: torch.ones_like(a))),
        Mistake("`step` is not used.", srpg_ignoring_step),
        Mistake("With `step`, your factor is upside down. ε̂ reaches z̃_0 times √(1−ᾱ)/√ᾱ, so what you "
                "add to ε̂ is divided by that.", srpg_by(factor=lambda a: ((1 - a) / a).sqrt())),
        Mistake("With `step`, yours is how far ε̂ moves. It is z̃_0 that should move by `step`, and ε̂ "
                "reaches it times √(1−ᾱ)/√ᾱ.", srpg_by(factor=lambda a: torch.ones_like(a))),
        Mistake("With `step`, you divide by √(1−ᾱ) only; z̃_0 is also divided by √ᾱ.",
                srpg_by(factor=lambda a: 1 / (1 - a).sqrt())),
        Mistake("The root is missing where `step` is given: √(ᾱ / (1−ᾱ)).",
                srpg_by(factor=lambda a: a / (1 - a))),
        Mistake("With `step` the gradient's own length must not count any more: take its `unit`.",
                srpg_by(direction=lambda gradient: gradient)),
    ],
    alternatives=[srpg_by(), srpg_by_images],
    hints=[
        "at(alpha_bars, t, gradient) is each image's ᾱ, shaped to multiply.",
        "Without `step`: torch.sqrt(1 − ᾱ) * gradient.",
        "With `step`: z̃_0 = (z_t − √(1−ᾱ) ε̂)/√ᾱ, so adding d to ε̂ moves z̃_0 by √(1−ᾱ)/√ᾱ · d. "
        "Choose d so that this is step · unit(gradient).",
    ],
)  # fmt: skip


# --- step_length --------------------------------------------------------------------------------


def length_cases() -> list[Case]:
    return [
        Case("far away, near, nearer, there",
             {"losses": torch.tensor([3.0, 0.5, 0.2, 0.0]), "most": 0.4}),
        Case("another `ease`", {"losses": torch.tensor([0.9, 0.3]), "most": 0.1, "ease": 1.5}),
        Case("float64", {"losses": rand(6, dtype=torch.float64), "most": 0.25, "ease": 0.7}),
        Case("losses near `ease`", {"losses": torch.tensor([0.49, 0.51, 0.6]), "most": 1.0}),
    ]  # fmt: skip


def length_by(share: Answer) -> Answer:
    return lambda losses, most, ease=0.5: most * share(losses, ease)


STEP_LENGTH = Exercise(
    guidance.step_length,
    length_cases,
    mistakes=[
        Mistake("Your steps never get shorter: near the goal they jump back and forth over it.",
                length_by(lambda losses, ease: torch.ones_like(losses))),
        Mistake("Nothing holds your steps back: `most` is the longest, also where the loss is large.",
                length_by(lambda losses, ease: losses / ease)),
        Mistake("It is turned round: yours are at *least* `most`. clamp(max=1), not min.",
                length_by(lambda losses, ease: (losses / ease).clamp(min=1))),
        Mistake("It is upside down: losses / ease is small where the loss is.",
                length_by(lambda losses, ease: (ease / losses).clamp(max=1))),
        Mistake("You multiply by `ease`; the step begins to shrink where the loss is *at* `ease`: divide.",
                length_by(lambda losses, ease: (losses * ease).clamp(max=1))),
        Mistake("Your step is either `most` or nothing. It shrinks in proportion to the loss.",
                length_by(lambda losses, ease: (losses >= ease).to(losses))),
    ],
    alternatives=[
        lambda losses, most, ease=0.5: torch.where(losses < ease, most * losses / ease, most).to(losses),
        length_by(lambda losses, ease: torch.minimum(losses, torch.full_like(losses, ease)) / ease),
    ],
    hints=["losses / ease is 1 where the loss is at `ease`.", "clamp(max=1), times `most`."],
)  # fmt: skip


# --- mpgd_step ----------------------------------------------------------------------------------


def mpgd_cases() -> list[Case]:
    return [
        Case("one number: loss = z², η = 0.1", {"z": torch.full((1, 1, 1, 1), 2.0), "loss": squares, "eta": 0.1}),
        Case("three latents", {"z": normal(3, 2, 2, 2), "loss": cubes, "eta": 0.7}),
        Case("a large η", {"z": normal(2, 1, 3, 3, seed=1), "loss": squares, "eta": 60.0}),
        Case("z asks for a gradient already",
             {"z": normal(1, 2, 2, 2, seed=2, dtype=torch.float64).requires_grad_(), "loss": cubes, "eta": 2.0}),
    ]  # fmt: skip


def run_mpgd(answer: Answer, inputs: Inputs) -> Any:
    """The new latents; and whether they still hold the graph, which would grow from step to step."""
    z = inputs["z"].detach().clone().requires_grad_(inputs["z"].requires_grad)
    out = answer(**{**inputs, "z": z})
    return (out, out.requires_grad) if isinstance(out, Tensor) else out


def mpgd_by(
    of: Answer = lambda losses: losses.sum(),
    move: Answer = lambda z, gradient, eta: z - eta * gradient,
    give: Answer = lambda z: z.detach(),
) -> Answer:
    def answer(z: Tensor, loss: Any, eta: float) -> Tensor:
        z = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(of(loss(z)), z)
        return torch.as_tensor(give(move(z, gradient, eta)))

    return answer


def mpgd_by_optimiser(z: Tensor, loss: Any, eta: float) -> Tensor:
    z = z.detach().clone().requires_grad_()
    loss(z).sum().backward()
    torch.optim.SGD([z], lr=eta).step()
    return z.detach()


def mpgd_one_by_one(z: Tensor, loss: Any, eta: float) -> Tensor:
    return torch.cat([mpgd_by()(x, loss, eta) for x in z.split(1)])


MPGD_STEP = Exercise(
    refinement.mpgd_step,
    mpgd_cases,
    mistakes=[
        Mistake("You went uphill: z − η ∇.", mpgd_by(move=lambda z, g, eta: z + eta * g)),
        Mistake("`eta` is not used: z − ∇. Then nobody can tune how far a step goes.", mpgd_by(move=lambda z, g, eta: z - g)),
        Mistake("You normalised the gradient; here it is taken as it is, so that steps get shorter by "
                "themselves as the loss gets flat.",
                mpgd_by(move=lambda z, g, eta: z - eta * guidance.unit(g))),
        Mistake("You took only the signs of the gradient, as adversarial attacks do. Here its size "
                "counts.", mpgd_by(move=lambda z, g, eta: z - eta * g.sign())),
        Mistake("You averaged the losses over the batch, so every image's step is divided by its size. "
                "Add them up.", mpgd_by(of=lambda losses: losses.mean())),
        Mistake("Your new z still holds the graph, which would grow with every step: detach it.",
                mpgd_by(give=lambda z: z)),
        Mistake("You return the step alone; return where it leads, z − η ∇.",
                mpgd_by(move=lambda z, g, eta: -eta * g)),
    ],
    alternatives=[mpgd_by(), mpgd_by_optimiser, mpgd_one_by_one],
    hints=[
        "z = z.detach().requires_grad_() starts a new graph at z.",
        "loss_gradient(loss, z, z) gives each loss and the gradient by z.",
        "Return z − eta · gradient, detached.",
    ],
    run=run_mpgd,
)  # fmt: skip


# --- explained_variance -------------------------------------------------------------------------


def explained_cases() -> list[Case]:
    two_greys = (0.4 + 0.1 * SMALL.target).expand(1, 3, -1, -1).clone()
    flat = torch.full((1, 3, SMALL.side, SMALL.side), 0.3)
    return [
        Case("a code in two greys", {"image": two_greys, "placed": small}),
        Case("two pictures that show a code weakly",
             {"image": pictures_of(SMALL, 2, noise=0.5), "placed": small}),
        Case("the same, one of them turned over",
             {"image": torch.cat([two_greys, 1 - pictures_of(SMALL, 1, seed=1)]), "placed": small}),
        Case("a picture of one grey", {"image": flat, "placed": small}),
        Case("room around it, one channel",
             {"image": pictures_of(ROOMY, 1, seed=2, noise=0.3)[:, :1], "placed": roomy}),
        Case("a picture that is too small", {"image": flat[..., 1:], "placed": small}),
        Case("one that is too large", {"image": F.pad(flat, (3, 3, 3, 3)), "placed": small}),
    ]  # fmt: skip


def run_explained(answer: Answer, inputs: Inputs) -> Any:
    """Single and double precision are both fine."""
    out = answer(**inputs)
    single = isinstance(out, Tensor) and out.dtype == torch.float32
    return out.double() if single else out


def explained_by(
    where: Answer = lambda placed: placed.crop(~placed.patterns),
    picture: Answer = lambda placed, image: placed.crop(image),
    result: Answer = lambda left, total: torch.where(
        total > 1e-12, 1 - left / total.clamp(min=1e-12), 0
    ),
    pool: bool = False,
) -> Answer:
    """R² by two means: what is left of the variance when each kind's mean is taken away."""

    def answer(image: Tensor, placed: PlacedCode) -> Tensor:
        if image.shape[2:] != (placed.side, placed.side):
            raise ValueError("another size")
        data = where(placed)[0, 0]
        pixels = picture(placed, luminance(image))[:, 0, data].double()
        light = picture(placed, placed.target)[0, 0, data] == 1
        total = pixels.var(dim=1, correction=0)
        left = sum(
            pixels[:, kind].var(dim=1, correction=0) * kind.double().mean()
            for kind in (light, ~light)
        )
        if pool:
            left, total = left.mean().expand(len(image)), total.mean().expand(len(image))
        return torch.as_tensor(result(left, total))

    return answer


def explained_by_loop(image: Tensor, placed: PlacedCode) -> Tensor:
    if image.shape[-2:] != (placed.side, placed.side):
        raise ValueError("another size")
    data = placed.crop(~placed.patterns)
    light = placed.crop(placed.target)[data].double()
    found = []
    for x in image.split(1):
        pixels = placed.crop(luminance(x))[data].double()
        if pixels.max() - pixels.min() < 1e-6:
            found.append(0.0)
        else:
            found.append(float(torch.corrcoef(torch.stack([pixels, light]))[0, 1] ** 2))
    return torch.tensor(found)


EXPLAINED_VARIANCE = Exercise(
    hiddenness.explained_variance,
    explained_cases,
    mistakes=[
        Mistake("Function patterns are still in it. They have to be dark and light whatever the "
                "picture; what can hide is the data.",
                explained_by(where=lambda placed: placed.crop(torch.ones_like(placed.patterns)))),
        Mistake("You measured the whole picture, with all that is around the code.",
                explained_by(where=lambda placed: ~placed.patterns, picture=lambda placed, x: x)),
        Mistake("That is the share that is left over, 1 − R²: yours is 0 for a plain code.",
                explained_by(result=lambda left, total: torch.where(
                    total > 1e-12, left / total.clamp(min=1e-12), 1))),
        Mistake("That is the correlation; its square is the share of the variance.",
                explained_by(result=lambda left, total: torch.where(
                    total > 1e-12, (1 - left / total.clamp(min=1e-12)).clamp(min=0).sqrt(), 0))),
        Mistake("A picture of one grey gives 0/0. Nothing varies there, so nothing is explained: 0.",
                explained_by(result=lambda left, total: torch.where(
                    total > 1e-12, 1 - left / total, torch.nan))),
        Mistake("You pooled the batch; every picture has its own R².", explained_by(pool=True)),
        Mistake("That is the variance explained, not its share: divide by the whole variance.",
                explained_by(result=lambda left, total: total - left)),
    ],
    alternatives=[explained_by(), explained_by_loop],
    hints=[
        "placed.crop(~placed.patterns)[0, 0] says which pixels are data; index the cropped luminance "
        "and the cropped target with it.",
        "squared_correlation(pixels, light) is R² where `light` has two values only.",
        "Compare image.shape[2:] with placed.side first, and raise ValueError.",
    ],
    run=on_code(run_explained),
)  # fmt: skip


EXERCISES = [
    PIXEL_ERROR, MODULE_WINDOW, CENTRAL_MEAN, SCANNING_ROBUST_LOSS, PATTERN_LOSS, UNMET, PREDICTED_Z0,
    LOSS_GRADIENT, UNIT, SRPG_TERM, STEP_LENGTH, MPGD_STEP, EXPLAINED_VARIANCE,
]  # fmt: skip
