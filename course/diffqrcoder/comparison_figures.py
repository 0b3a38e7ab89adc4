"""The comparison to look at: two planes, and sheets of pictures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from course.diffqrcoder.comparison import Estimate, Summary
from course.plots import COLOURS, STYLE

OURS = "diffqrcoder"
PAD = 4


def planes(summaries: Mapping[str, Summary], path: Path) -> Path:
    """SSR against perceptual distance, and against R²: the best place is at the top left."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(11, 4.5), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        _plane(left, summaries, lambda s: s.distance)
        _plane(right, summaries, lambda s: s.r2)
        left.set(xlabel="perceptual distance to the picture without a code", ylabel="SSR")
        right.set(xlabel="R²: luminance that the code explains")
        figure.savefig(path, dpi=120)
    return path


def _plane(
    axes: Axes, summaries: Mapping[str, Summary], cost: Callable[[Summary], Estimate]
) -> None:
    for name, summary in summaries.items():
        x, y = cost(summary), max(summary.clean.values())
        colour = COLOURS[1] if name.startswith(OURS) else COLOURS[0]
        reach = [[[v.mean - v.low], [v.high - v.mean]] for v in (x, y)]
        axes.errorbar(x.mean, y.mean, reach[1], reach[0], fmt="o", color=colour, alpha=0.8)
        axes.annotate(name, (x.mean, y.mean), xytext=(5, 5), textcoords="offset points", fontsize=8)
    axes.set_ylim(-0.05, 1.08)


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
