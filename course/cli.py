"""`python -m course`: look at the set-up, train, sample, and see how far you are."""

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from course.errors import CourseError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="A hands-on course on diffusion models.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

OK, MISSING = "✓", "✗"
NEEDED = ["torch", "diffusers", "accelerate", "safetensors", "matplotlib", "jupyterlab"]
NEEDED += ["ipywidgets"]
SCANNERS = {"zxingcpp": "zxing-cpp", "pyzbar": "pyzbar", "cv2": "opencv-python-headless"}
GIB_NEEDED = 1.0


@app.command()
def doctor() -> None:
    """Say what is installed and what is missing. The exit code is 1 where a lesson cannot run."""
    problems = [*_check_packages(), *_check_files(), *_check_machine()]
    for problem in problems:
        typer.echo(f"{MISSING} {problem}")
    typer.echo("Everything the lessons need is here." if not problems else "See the ✗ above.")
    raise typer.Exit(1 if problems else 0)


def _check_packages() -> list[str]:
    """Print the version of each package that is needed; the ones missing, as problems."""
    problems = []
    typer.echo(f"{OK} Python {platform.python_version()}")
    for name in NEEDED:
        try:
            typer.echo(f"{OK} {name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{name} is not installed: run `pip install .` in the repository.")
    for module, package in SCANNERS.items():
        here = importlib.util.find_spec(module) is not None
        typer.echo(f"{OK if here else '·'} scanner {package}{'' if here else ': not installed'}")
    return problems


def _check_files() -> list[str]:
    """Read MNIST and every shipped weights file; what is missing or damaged, as problems."""
    from course.data import mnist
    from course.weights import available, card, read_weights

    problems = []
    try:
        for split, count in (("train", 60_000), ("test", 10_000)):
            images, _ = mnist(split)  # type: ignore[arg-type]
            if len(images) != count:
                problems.append(f"MNIST's {split} split has {len(images)} images, not {count}.")
        typer.echo(f"{OK} MNIST")
        names = available()
    except CourseError as error:
        return [str(error)]
    if not names:
        problems.append("No weights: restore them with `git checkout -- data/weights`.")
    for name in names:
        try:
            read_weights(name)
            typer.echo(f"{OK} weights {name} ({card(name)['parameters']:,} parameters)")
        except CourseError as error:
            problems.append(str(error))
    return problems


def _check_machine() -> list[str]:
    """Print the GPU and the free disk; too little of it, as a problem."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none, and none is needed"
    typer.echo(f"{OK} GPU: {gpu}")
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    typer.echo(f"{OK} free disk: {free:.1f} GiB")
    return [f"Only {free:.1f} GiB of disk are free here."] if free < GIB_NEEDED else []


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="the weights to train, as in data/weights")],
    out: Annotated[Path | None, typer.Option(help="the run's folder [runs/NAME]")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="instead of the recipe's own")] = None,
    warm_start: Annotated[bool, typer.Option(help="begin from the shipped weights")] = False,
    publish: Annotated[bool, typer.Option(help="also replace the shipped weights")] = False,
) -> None:
    """Train by the recipe of the shipped weights; go on where an interrupted run stopped."""
    from course.recipes import recipe
    from course.runs import launched_by_accelerate, run
    from course.weights import copy_weights

    folder = out or Path("runs") / name
    path = run(
        recipe(name),
        folder,
        steps=steps,
        warm_start=warm_start,
        accelerator=launched_by_accelerate(),
    )
    if path is None:
        return
    typer.echo(f"Trained: {path}")
    if publish:
        typer.echo(f"Published: {copy_weights(name, folder)}")


@app.command()
def sample(
    name: Annotated[str, typer.Argument(help="the weights to sample from")] = "mnist-ddpm",
    n: Annotated[int, typer.Option("--n", min=1, help="how many images")] = 64,
    steps: Annotated[int, typer.Option(min=1, help="network calls, up to 1000")] = 50,
    seed: Annotated[int, typer.Option(help="the same seed gives the same images")] = 0,
    out: Annotated[Path, typer.Option(help="a .png grid, or .npy of float32 in [0, 1]")] = Path(
        "samples.png"
    ),
    weights: Annotated[Path | None, typer.Option(help="a run's folder [data/weights]")] = None,
) -> None:
    """Draw images and save them: a grid as .png, or n × 1 × 28 × 28 numbers as .npy."""
    if out.suffix not in (".npy", ".png"):
        raise CourseError(f"--out ends in .npy or .png, unlike {out}.")
    from course.generate import generate, save_images

    save_images(generate(name, n, steps, seed, weights), out)
    typer.echo(f"Saved {n} images: {out}")


@app.command()
def build(
    lessons: Annotated[
        list[str] | None, typer.Argument(help="names, as 02_forward_process")
    ] = None,
    force: Annotated[bool, typer.Option(help="also where nothing changed")] = False,
) -> None:
    """For authors: build the notebooks from `solutions/*.py` (needs `pip install .[teach]`)."""
    try:
        from course.authoring.build import build_all
    except ImportError as error:
        raise CourseError(f"Building needs `pip install .[teach]`: {error}.") from error
    for lesson, reasons in build_all(lessons or None, force=force).items():
        typer.echo(f"{lesson}: {'; '.join(reasons) if reasons else 'fresh'}")


@app.command()
def progress(
    notebooks: Annotated[list[Path] | None, typer.Argument(help="[notebooks/*.ipynb]")] = None,
    details: Annotated[bool, typer.Option(help="also say what is wrong")] = False,
) -> None:
    """Say which exercises of your notebooks are right; the exit code is 1 while some are not."""
    from course.progress import notebook_progress

    paths = notebooks or sorted(Path("notebooks").glob("*.ipynb"))
    if not paths:
        raise CourseError("There are no notebooks here; run this in the repository's folder.")
    results = [result for path in paths for result in notebook_progress(path)]
    marks = {"right": OK, "wrong": MISSING, "deleted": "?"}
    for result in results:
        typer.echo(f"{marks.get(result.state, '○')} {result.notebook}  {result.exercise}")
        for line in result.lines if details else []:
            typer.echo(f"    {line}")
    right = sum(result.state == "right" for result in results)
    typer.echo(f"{right} of {len(results)} exercises are right.")
    if gone := [r.exercise for r in results if r.state == "deleted"]:
        typer.echo(f"? Deleted: {', '.join(gone)}. `git show HEAD:notebooks/NAME.ipynb` has them.")
    raise typer.Exit(0 if right == len(results) else 1)


def main() -> None:
    """Run the command line; what can be put right is one line, not a traceback."""
    try:
        app()
    except (CourseError, ValueError) as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        sys.exit(130)
