"""The comparison to look at: two planes, and sheets of pictures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from course.diffqrcoder.comparison import Estimate, Summary
from course.plots import COLOURS, STYLE

OURS = "diffqrcoder"
MARKERS = "osD^vP*X<>phd"
PAD = 4


def planes(summaries: Mapping[str, Summary], path: Path) -> Path:
    """SSR against perceptual distance, and against R²: the best place is at the top left."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(12, 4.5), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        _plane(left, summaries, lambda s: s.distance)
        _plane(right, summaries, lambda s: s.r2)
        left.set(xlabel="perceptual distance to the picture without a code", ylabel="SSR, clean")
        right.set(xlabel="R²: the luminance that the code explains")
        figure.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize=8)
        figure.savefig(path, dpi=120)
    return path


def _plane(
    axes: Axes, summaries: Mapping[str, Summary], cost: Callable[[Summary], Estimate]
) -> None:
    """Each method with both its intervals; the SSR is the better scanner's."""
    for (name, summary), marker in zip(summaries.items(), cycle(MARKERS), strict=False):
        x, y = cost(summary), max(summary.clean.values())
        colour = COLOURS[1] if name.startswith(OURS) else COLOURS[0]
        across, up = ([[v.mean - v.low], [v.high - v.mean]] for v in (x, y))
        alpha = 1.0 if name == OURS else 0.6
        axes.errorbar(x.mean, y.mean, up, across, fmt=marker, color=colour, alpha=alpha, label=name)
    axes.set_ylim(-0.05, 1.05)


def sheets(folder: Path, methods: Sequence[str], n: int) -> Iterator[Path]:
    """One sheet of all methods on a few cases, and one of each method on all of its cases."""
    few = [folder / name / f"{k:03}.png" for name in methods for k in range(min(n, 8))]
    yield _sheet(few, min(n, 8), folder / "sheet.png", side=160)
    for name in methods:
        pictures = [folder / name / f"{k:03}.png" for k in range(n)]
        yield _sheet(pictures, 10, folder / name / "sheet.png", side=160)


def _sheet(paths: Sequence[Path], columns: int, out: Path, side: int) -> Path:
    """Pictures side by side, each pixel as it is; larger ones are shrunk to `side`."""
    rows = -(-len(paths) // columns)
    step = side + PAD
    sheet = Image.new("RGB", (columns * step + PAD, rows * step + PAD), "white")
    for i, path in enumerate(paths):
        with Image.open(path) as picture:
            small = picture.resize((side, side), Image.Resampling.BOX)
        sheet.paste(small, (PAD + i % columns * step, PAD + i // columns * step))
    sheet.save(out)
    return out
