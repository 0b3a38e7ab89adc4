"""Lesson 12: the speed of one feature-attack step, one picture's cost, and what protection does."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from course.atkpdm.attack import Budget
from course.atkpdm.budgets import slope
from course.atkpdm.distance import positions, wasserstein2
from course.atkpdm.evaluation import CLEAN, FLOOR, Report, evaluate, shown
from course.atkpdm.methods import protected
from course.atkpdm.protect import budget_for
from course.atkpdm.victims import Victim, load_victim
from course.atkpdm.worlds import load_world, pictures
from course.errors import CourseError
from tests.benchmarks.row import Row


def by_two_eigh(x: Tensor, y: Tensor) -> Tensor:
    """The same distance through eigenvalues of two c × c matrices, as it is usually written."""
    (mean_x, a), (mean_y, b) = positions(x), positions(y)
    cov_x, cov_y = (z.transpose(1, 2) @ z / z.shape[1] for z in (a, b))
    values, vectors = torch.linalg.eigh(cov_x)
    root = vectors * values.clamp(min=0).sqrt()[:, None] @ vectors.transpose(1, 2)
    # A root's slope at 0 is infinite: the usual way out is a floor.
    cross = torch.linalg.eigh(root @ cov_y @ root)[0].clamp(min=1e-6).sqrt().sum(dim=1)
    traces = sum(z.diagonal(dim1=1, dim2=2).sum(dim=1) for z in (cov_x, cov_y))
    return (mean_x - mean_y).square().sum(dim=1) + traces - 2 * cross


def seconds(step: Callable[[], object]) -> float:
    """The processor's seconds that one call takes."""
    start = time.process_time()
    step()
    return time.process_time() - start


def speed(rounds: int = 7) -> list[Row]:
    """One value and gradient at c = 512, n = 64, by turns; the ratio of the medians."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(1, 512, 8, 8, generator=generator)
    x = clean + 0.1 * torch.randn(clean.shape, generator=generator)
    times: dict[str, list[float]] = {"nuclear": [], "eigh": []}
    for _ in range(rounds):
        times["nuclear"].append(seconds(lambda: slope(lambda z: wasserstein2(z, clean), x)))
        times["eigh"].append(seconds(lambda: slope(lambda z: by_two_eigh(clean, z), x)))
    nuclear, eigh = (sorted(t)[rounds // 2] for t in times.values())
    return [
        Row("one step of the feature distance, c = 512, n = 64 (value and gradient, 1 thread, "
            f"median of {rounds}): nuclear norm, two eigh of c × c, ratio",
            f"{nuclear * 1000:.1f} ms, {eigh * 1000:.0f} ms, {eigh / nuclear:.1f}", "ratio ≥ 3"),
    ]  # fmt: skip


def cost(name: str = "scenery-pixel-a") -> list[Row]:
    """One picture protected as `protect` does by default: 100 steps of 2 draws."""
    world = load_world(name)
    x, budget = pictures(world, 1), budget_for(world, Budget(delta=0.15))
    taken = seconds(lambda: protected("AtkPDM", world, x, budget))
    what = f"one picture of {world.victim.size} px protected by AtkPDM ({budget.steps} steps), CPU"
    return [Row(what, f"{taken:.0f} s", "≤ 60 s")]


SHORT_NAMES = ["white noise", "smooth noise", "random steps within δ", "AdvDM", "AdvDM within δ",
               "Diff-Protect, down", "AtkPDM", "AtkPDM without δ", "AtkPDM, L2",
               "AtkPDM, another's", "AtkPDM, untrained surrogate"]  # fmt: skip


def rows(report: Report, aim: str) -> list[Row]:
    """The table's middle columns, a row for each method."""
    about = report.about
    first = (
        f"edits of {about['pictures']} pictures by {about['victim']} from t = {about['t']}, "
        f"{about['psnr']} dB: SSIM of edit and clean edit, SSIM of edit and its input, "
    )
    return [
        Row(f"{first}meaning kept: {name}" if k == 0 else name,
            "; ".join(shown(numbers[key]) for key in ("edit_ssim", "carry_over", "meaning")),
            aim if name == "AtkPDM" else "—")
        for k, (name, numbers) in enumerate(report.table.items())
    ]  # fmt: skip


def gap(report: Report) -> Row:
    """AdvDM's edit SSIM less AtkPDM's, picture by picture."""
    apart = report.table["AdvDM"]["edit_ssim"] - report.table["AtkPDM"]["edit_ssim"]
    return Row("AdvDM's SSIM of the edits less AtkPDM's, by picture", shown(apart), "≥ 0.15")


def digits() -> list[Row]:
    """MNIST: 24 digits at 20 dB."""
    world = load_world("mnist-ddpm")
    budget = budget_for(world, Budget(psnr=20, delta=0.15, steps=60))
    report = evaluate(world, pictures(world, 24), budget, SHORT_NAMES)
    return [*rows(report, "—"), gap(report)]


def scenes() -> list[Row]:
    """Scenery: 24 held-out scenes at 25 dB, every method, and edits by other networks."""
    world = load_world("scenery-pixel-a")
    budget = budget_for(world, Budget(psnr=25, delta=0.15, steps=60))
    report = evaluate(world, pictures(world, 24), budget, others=second_editor())
    others = [
        Row(f"edits by {name}: SSIM of edit and clean edit: {method}", shown(values), "—")
        for name, transferred in report.transfer.items()
        for method, values in transferred.items()
        if method in (CLEAN, FLOOR, "white noise", "AtkPDM", "AtkPDM+")
    ]
    return [*rows(report, "gap to AdvDM ≥ 0.15"), gap(report), *others]


def second_editor() -> list[Victim]:
    """The second shipped victim, where it is shipped."""
    try:
        return [load_victim("scenery-pixel-b")]
    except CourseError:
        return []


MEASURES: dict[str, Callable[[], list[Row]]] = {
    "feature-distance": speed,
    "protect-cost": cost,
    "protection-digits": digits,
    "protection-scenes": scenes,
}
