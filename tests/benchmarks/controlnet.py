"""Lesson 08: how well samples follow their outlines, and how many pairs that takes."""

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from course.classifier_free_guidance import ConditionalUNet
from course.controlnet import ControlNet, controlled_eps_model, edge_f1, edges, load_controlnet
from course.data import mnist
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.metrics import accuracy, distance_to_mnist, load_judge
from course.recipes.controlnet import mnist_controlnet
from course.sampling import sample
from course.training import TrainState, train
from tests.benchmarks.row import Row

N, STEPS, SCALE = 1000, 25, 2.0
ALPHA_BARS = alpha_bars_from_betas(cosine_schedule())
SETTING = f"{STEPS} DDIM calls, γ = {SCALE:g}"
# Each study's training: short, so that four of them take minutes.
PAIRS, TRAINING_STEPS = (10, 100, 1_000, 60_000), 600


def draw(
    base: ConditionalUNet, control: ControlNet, wanted: Tensor, y: Tensor, strength: float = 1.0
) -> Tensor:
    """A sample for each wanted outline and label, always from the same noise."""
    noise = torch.randn(len(y), 1, 28, 28, generator=torch.Generator().manual_seed(1))
    eps_model = controlled_eps_model(base, control, wanted, y, ALPHA_BARS, SCALE, strength)
    for x0 in tqdm(sample(eps_model, noise, ALPHA_BARS, steps=STEPS), total=STEPS, desc="samples"):  # noqa: B007
        pass
    return x0


def f1s(x0: Tensor, wanted: Tensor) -> str:
    """The mean F1 within one pixel, and without any tolerance."""
    one, none = (edge_f1(edges(x0), wanted, k).mean().item() for k in (1, 0))
    return f"{one:.3f} ({none:.3f})"


def contradicting(labels: Tensor) -> Tensor:
    """A wrong label for each: 1 to 9 further on."""
    generator = torch.Generator().manual_seed(2)
    return (labels + torch.randint(1, 10, labels.shape, generator=generator)) % 10


def follows(n: int = N) -> list[Row]:
    """Test digits' outlines, with right and with wrong labels; what is drawn has outlines too."""
    base, control = load_controlnet()
    judge, (digits, labels) = load_judge(), (x[:n] for x in mnist("test"))
    wanted, rows = edges(digits), []
    what = f"edge F1 within one pixel (without tolerance), {SETTING}, N = {n:,}"
    for kind, y in (("right", labels), ("contradicting", contradicting(labels))):
        alone, x0 = (draw(base, control, wanted, y, strength) for strength in (0.0, 1.0))
        outline, asked = (accuracy(judge, x0, which) for which in (labels, y))
        rows += [
            Row(f"no control, {kind} labels: {what}", f1s(alone, wanted), "—"),
            Row(f"ControlNet, {kind} labels: {what}", f1s(x0, wanted), "≥ 0.95"),
            Row(f"ControlNet, {kind} labels: the judge sees the outline's digit / the label's",
                f"{outline:.1%} / {asked:.1%}", "—"),
            Row(f"ControlNet, {kind} labels: Fréchet distance, N = {n:,}",
                f"{distance_to_mnist(x0):.1f}", "—"),
        ]  # fmt: skip
    return rows


def train_on(pairs: int, steps: int) -> tuple[ControlNet, float]:
    """A ControlNet trained on the first `pairs` digits, and its loss over the last 100 steps."""
    made = mnist_controlnet(pairs)
    torch.manual_seed(0)
    state = TrainState.start(made.build())
    walk = train(state, made.draw, made.loss_fn, steps=steps, lr=made.lr, ema_decay=0.99)
    losses = [step.loss for step in tqdm(walk, total=steps, desc=f"{pairs} pairs")]
    return state.ema, sum(losses[-100:]) / len(losses[-100:])  # type: ignore[return-value]


def control_pairs(n: int = 300, steps: int = TRAINING_STEPS) -> list[Row]:
    """Quality against the number of training pairs, the same number of steps for each."""
    base, _ = load_controlnet()
    digits, labels = (x[:n] for x in mnist("test"))
    wanted, rows = edges(digits), []
    for pairs in PAIRS:
        control, loss = train_on(pairs, steps)
        x0 = draw(base, control, wanted, labels)
        distance = distance_to_mnist(x0)
        rows += [
            Row(f"ControlNet from {pairs:,} pairs, {steps:,} steps of 32: edge F1 within one pixel "
                f"(without tolerance) on test outlines, {SETTING}, N = {n}",
                f1s(x0, wanted), "—"),
            Row(f"from {pairs:,} pairs: Fréchet distance, N = {n}; loss of the last 100 steps",
                f"{distance:.1f}; {loss:.3f}", "—"),
        ]  # fmt: skip
    return rows


MEASURES: dict[str, Callable[[], list[Row]]] = {
    "control": follows,
    "control-pairs": control_pairs,
}
