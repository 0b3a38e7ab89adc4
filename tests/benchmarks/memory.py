"""Lesson 10: the memory of one guided step at full size, counted on fake tensors."""

from collections.abc import Callable

from course.diffqrcoder.memory import GIB, Savings, simulated_peak
from tests.benchmarks.row import Row

STEPS = {
    "as it is": (Savings(), "—"),
    "without the UNet's Jacobian": (Savings(jacobian=False), "—"),
    "with checkpoints": (Savings(checkpointing=True), "≤ 8 GiB"),
    "with checkpoints, decoded in tiles": (Savings(True, True), "≤ 8 GiB"),
    "with checkpoints, in tiles, without the Jacobian": (Savings(True, True, False), "≤ 8 GiB"),
}


def memory() -> list[Row]:
    """Peaks hold the models: UNet, ControlNet, VAE and VGG; the text encoder would be 0.23 more."""
    return [
        Row(
            f"Stable Diffusion 1.5, float16, 736 px: peak of a guided step {name}",
            f"{simulated_peak(savings).step / GIB:.1f} GiB",
            aim,
        )
        for name, (savings, aim) in STEPS.items()
    ]


MEASURES: dict[str, Callable[[], list[Row]]] = {"memory": memory}
