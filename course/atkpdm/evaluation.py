"""What protection is worth: edits with shared seeds, intervals over pictures, one table."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from course.atkpdm.attack import Budget
from course.atkpdm.budgets import ssim
from course.atkpdm.methods import methods_for, protected, require_method
from course.atkpdm.purifiers import Purifier, purifiers
from course.atkpdm.victims import Victim
from course.atkpdm.worlds import World
from course.latent_diffusion import psnr
from course.sdedit import sdedit
from course.weights import check_writable, write_atomically

STEPS = 20  # network calls of an edit
# A number for each picture, by the column's name.
Row = dict[str, Tensor]

COLUMNS = {
    "psnr": "picture: PSNR",
    "ssim": "SSIM",
    "perceptual": "perceptual",
    "edit_ssim": "edit and clean edit: SSIM",
    "edit_psnr": "PSNR",
    "edit_perceptual": "perceptual ",
    "carry_over": "SSIM(edit, its input)",
    "meaning": "meaning kept",
}
DIGITS = {"psnr": 1, "edit_psnr": 1}


def bootstrap_interval(
    values: Tensor, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The interval that holds the mean of such values with this confidence, by the bootstrap.

    values: (n,) finite, one for each picture -> the (1 ± level)/2 quantiles of the means of `draws`
    resamples of n values, with replacement (Efron 1979). Raises ValueError for no values.
    """
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"values is (n,) with n ≥ 1, not {tuple(values.shape)}.")
    x = values.double().cpu().numpy()
    picks = np.random.default_rng(seed).integers(len(x), size=(draws, len(x)))
    low, high = np.quantile(x[picks].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def edited(victim: Victim, x: Tensor, t: int, seed: int = 0, steps: int = STEPS) -> Tensor:
    """SDEdit of each picture with noises that depend on the seed alone: as x (η = 1)."""
    generator = torch.Generator(x.device).manual_seed(seed)
    *_, edit = sdedit(
        victim.eps_model, x, victim.alpha_bars, t, steps=steps, eta=1.0, generator=generator
    )
    return edit


def kept(world: World, x: Tensor, edit: Tensor) -> Tensor:
    """Which share of what the pictures mean their edits still mean: (b,) in [0, 1]."""
    assert world.meaning is not None
    return (world.meaning(x) == world.meaning(edit)).double().mean(dim=1)


@torch.no_grad()
def row(world: World, x: Tensor, x_adv: Tensor, clean_edit: Tensor, edit: Tensor) -> Row:
    """Every measure of some protected pictures and their edits, one number for each picture."""
    numbers = {
        "psnr": psnr(x, x_adv),
        "ssim": ssim(x, x_adv),
        "perceptual": world.perceptual(x, x_adv),
        "edit_ssim": ssim(clean_edit, edit),
        "edit_psnr": psnr(clean_edit, edit),
        "edit_perceptual": world.perceptual(clean_edit, edit),
        "carry_over": ssim(edit, x_adv),
    }
    if world.meaning is not None:
        numbers["meaning"] = kept(world, x, edit)
    return numbers


@dataclass
class Report:
    """What one evaluation found; every number is kept for each picture.

    table: a row for each method; purified: by purifier and method, the SSIM of the edit of the
    purified picture and the clean edit; transfer: by victim and method, the same; levels: by t and
    method, the same.
    """

    about: dict[str, object]
    table: dict[str, Row] = field(default_factory=dict)
    purified: dict[str, Row] = field(default_factory=dict)
    transfer: dict[str, Row] = field(default_factory=dict)
    levels: dict[str, Row] = field(default_factory=dict)


CLEAN, FLOOR = "no protection", "another seed of the clean edit"


def protect_all(
    world: World, x: Tensor, budget: Budget, names: Sequence[str], seed: int = 0
) -> Iterator[tuple[str, Tensor]]:
    """The pictures protected by each method, one after the other."""
    for name in names:
        yield name, protected(name, world, x, budget, seed)


def damage(world: World, x: Tensor, shields: dict[str, Tensor], seed: int = 0) -> dict[str, Row]:
    """The table: what each protection costs and what it does to the edit, beside the two floors."""
    clean = edited(world.victim, x, world.t, seed)
    other = edited(world.victim, x, world.t, seed + 1)
    rows = {CLEAN: row(world, x, x, clean, clean), FLOOR: row(world, x, x, clean, other)}
    for name, x_adv in shields.items():
        rows[name] = row(world, x, x_adv, clean, edited(world.victim, x_adv, world.t, seed))
    return rows


def edit_ssims(
    victim: Victim,
    x: Tensor,
    shields: dict[str, Tensor],
    t: int,
    seed: int = 0,
    purify: Purifier = lambda x: x,
) -> Row:
    """The SSIM of each purified picture's edit and the clean edit; and x itself."""
    clean = edited(victim, x, t, seed)
    return {
        name: ssim(clean, edited(victim, purify(x_adv), t, seed))
        for name, x_adv in {CLEAN: x, **shields}.items()
    }  # fmt: skip


def purifier_matrix(
    world: World, x: Tensor, shields: dict[str, Tensor], seed: int = 0
) -> dict[str, Row]:
    """By purifier: the SSIM of the edit of the purified picture and of the clean edit.

    The last row is an adaptive editor's, who tries every purifier on each picture and keeps the
    best: a bound on what can be had by choosing, for a real one cannot see the clean edit.
    """
    chosen = purifiers(world.victim)
    rows = {
        name: edit_ssims(world.victim, x, shields, world.t, seed, purify)
        for name, purify in chosen.items()
    }
    best = {
        name: torch.stack([r[name] for r in rows.values()]).amax(dim=0) for name in rows["none"]
    }
    return {**rows, "the best of them": best}


def evaluate(
    world: World,
    x: Tensor,
    budget: Budget,
    names: Sequence[str] | None = None,
    others: Sequence[Victim] = (),
    sweep: Sequence[int] = (),
    seed: int = 0,
    note: Callable[[str], None] = lambda _: None,
) -> Report:
    """Protect, edit, purify, transfer, sweep: everything that the lesson's tables say.

    x: (n, c, size, size) in [−1, 1]; names: of `METHODS`, by default all that this world can run;
    others: victims of the same size that the protection did not see; sweep: other t to edit from.
    `note` is told what is being done. Raises ValueError for unknown methods.
    """
    names = list(names or methods_for(world))
    for name in names:
        require_method(name, world)
    report = Report(
        {
            "victim": world.victim.name,
            "pictures": len(x),
            "t": world.t,
            "psnr": budget.psnr,
            "steps": budget.steps,
            "draws": budget.draws,
            "delta": budget.delta,
            "seed": seed,
        }
    )
    shields: dict[str, Tensor] = {}
    for name, x_adv in protect_all(world, x, budget, names, seed):
        note(name)
        shields[name] = x_adv
    note("edits")
    report.table = damage(world, x, shields, seed)
    note("purifiers")
    report.purified = purifier_matrix(world, x, shields, seed)
    for other in others:
        note(f"edits by {other.name}")
        report.transfer[other.name] = edit_ssims(other, x, shields, world.t, seed)
    for t in sweep:
        note(f"edits from t = {t}")
        report.levels[f"t = {t}"] = edit_ssims(world.victim, x, shields, t, seed)
    return report


# --- Said in Markdown ---------------------------------------------------------------------------


def shown(values: Tensor, digits: int = 2) -> str:
    """A mean and its 95 % interval: "0.84 [0.81, 0.87]"; a value that is infinite, as ∞."""
    if not bool(values.isfinite().all()):
        return "∞"
    low, high = bootstrap_interval(values)
    mean = float(values.double().mean())
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def markdown(rows: dict[str, Row], columns: dict[str, str] | None = None, corner: str = "") -> str:
    """Rows as a Markdown table of means and intervals; `columns` are keys and their headings."""
    first = next(iter(rows.values()))
    columns = columns or {name: name for name in first}
    columns = {key: title for key, title in columns.items() if key in first}
    lines = [f"| {corner} | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for name, numbers in rows.items():
        cells = (shown(numbers[key], DIGITS.get(key, 2)) for key in columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def full_text(report: Report) -> str:
    """The whole report in Markdown."""
    about = ", ".join(f"{key} {value}" for key, value in report.about.items())
    parts = [f"Means over the pictures and 95 % bootstrap intervals; {about}."]
    parts += ["**Damage**", markdown(report.table, COLUMNS, "protection")]
    matrices = {
        "Purifiers: SSIM of edit and clean edit": report.purified,
        "Other victims: the same": report.transfer,
        "Other t: the same": report.levels,
    }
    for title, rows in matrices.items():
        if rows:
            parts += [f"**{title}**", markdown(_turned(rows), corner="protection")]
    return "\n\n".join(parts) + "\n"


def _turned(rows: dict[str, Row]) -> dict[str, Row]:
    """A table's columns as its rows: methods down, purifiers across."""
    names = next(iter(rows.values()))
    return {name: {key: row[name] for key, row in rows.items()} for name in names}


def check_report(path: Path) -> None:
    """Raise ValueError or CourseError where `save_report` would: before long work, not after it."""
    if path.suffix not in (".md", ".json"):
        raise ValueError(f"A report ends in .md or .json, unlike {path}.")
    check_writable(path)


def save_report(report: Report, path: Path) -> None:
    """Write the Markdown to a .md file, or every number for each picture to a .json file.

    Raises ValueError for another ending, CourseError where it cannot be written.
    """
    check_report(path)
    text = full_text(report) if path.suffix == ".md" else json.dumps(_plain(report), indent=1)
    write_atomically(path, text.encode() + b"\n")


def _plain(report: Report) -> dict[str, object]:
    tables = {"table", "purified", "transfer", "levels"}
    return {"about": {k: str(v) for k, v in report.about.items()}} | {
        name: {
            row: {key: [round(v, 5) for v in x.tolist()] for key, x in numbers.items()}
            for row, numbers in getattr(report, name).items()
        }
        for name in sorted(tables)
    }
