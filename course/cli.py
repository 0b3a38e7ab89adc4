"""`python -m course`: look at the set-up, train, sample, and see how far you are."""

import importlib
import importlib.metadata
import io
import platform
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from course.errors import CourseError

app = typer.Typer(
    add_completion=False,
    help="A hands-on course on diffusion models.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

OK, MISSING = "✓", "✗"
SCANNERS = {"zxingcpp": "zxing-cpp", "pyzbar": "pyzbar", "cv2": "opencv-python-headless"}
GIB_NEEDED = 1.0
INTERRUPTED = 130  # what shells expect of a command that Ctrl-C ended

# Typer brings click along, or a copy of it under another name: what they raise for a wrong option.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


@app.callback(invoke_without_command=True)
def help_by_default(context: typer.Context) -> None:
    """Print the help where no command is given."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def doctor() -> None:
    """Say what is installed and what is missing. The exit code is 1 where a lesson cannot run."""
    problems = [*_check_packages(), *_check_disk()]
    try:
        problems += [*_check_mnist(), *_check_weights(), *_check_models()]
        _show_gpu()
    except ImportError as error:
        problems.append(f"MNIST and the weights were not looked at: {error}.")
    for problem in problems:
        typer.echo(f"{MISSING} {problem}")
    typer.echo("Everything the lessons need is here." if not problems else "See the ✗ above.")
    raise typer.Exit(1 if problems else 0)


def _check_packages() -> list[str]:
    """Print the version of each package that is needed; missing and old ones, as problems."""
    problems = []
    typer.echo(f"{OK} Python {platform.python_version()}")
    for name, least in needed_packages().items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{name} is not installed: run `pip install .` in the repository.")
            continue
        if _numbers(version) < _numbers(least):
            problems.append(f"{name} {version} is too old: run `pip install '{name}>={least}'`.")
        else:
            typer.echo(f"{OK} {name} {version}")
    for module, package in SCANNERS.items():
        here = _can_import(module)
        typer.echo(f"{OK if here else '·'} scanner {package}{'' if here else ': not installed'}")
    return problems


def needed_packages() -> dict[str, str]:
    """The packages that a learner needs, each with its least version."""
    project = Path(__file__).parents[1] / "pyproject.toml"
    if project.is_file():
        lines = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    else:
        lines = importlib.metadata.requires("diffusion-course") or []
    found = (re.fullmatch(r"([\w-]+)>=([\d.]+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def _numbers(version: str) -> list[int]:
    """A version's leading numbers: "2.4.1+cpu" as [2, 4, 1]."""
    return [int(n) for n in re.match(r"[\d.]*", version)[0].split(".") if n]  # type: ignore[index]


def _can_import(module: str) -> bool:
    """Whether a scanner works: its package may be here and the library that it wraps may not."""
    try:
        importlib.import_module(module)
    except Exception:
        return False
    return True


def _check_disk() -> list[str]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    if free < GIB_NEEDED:
        return [f"Only {free:.1f} GiB of disk are free here: the lessons want {GIB_NEEDED:.0f}."]
    typer.echo(f"{OK} free disk: {free:.1f} GiB")
    return []


def _check_mnist() -> list[str]:
    """Read MNIST; a file that is missing or damaged, as a problem."""
    from course.data import mnist

    try:
        mnist("train"), mnist("test")
    except CourseError as error:
        return [str(error)]
    typer.echo(f"{OK} MNIST")
    return []


def _check_weights() -> list[str]:
    """Read every shipped weights file; those missing or damaged, as problems."""
    from course.weights import available, read_weights

    problems = []
    try:
        names = available()
    except CourseError as error:
        return [str(error)]
    for name in names:
        try:
            count = sum(x.numel() for x in read_weights(name).values())
            typer.echo(f"{OK} weights {name} ({count:,} numbers)")
        except CourseError as error:
            problems.append(str(error))
    return problems if names else ["No weights: restore them with `git checkout -- data/weights`."]


def _check_models() -> list[str]:
    """Compare every file of the shipped models with its card; what differs, as problems."""
    from course.scenery_models import check_models, models_dir

    problems = []
    try:
        folders = sorted(models_dir().glob("*"))
    except CourseError as error:
        return [str(error)]
    for folder in folders:
        try:
            typer.echo(f"{OK} models {folder.name} ({len(check_models(folder))} cards)")
        except CourseError as error:
            problems.append(str(error))
    return problems


def _show_gpu() -> None:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none, and none is needed"
    typer.echo(f"{OK} GPU: {gpu}")


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="the weights to train, as in data/weights")],
    out: Annotated[Path | None, typer.Option(help="the run's folder [runs/NAME]")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="instead of the recipe's own")] = None,
    warm_start: Annotated[
        bool, typer.Option("--warm-start", help="begin from the shipped weights")
    ] = False,
    publish: Annotated[
        bool, typer.Option("--publish", help="also replace the shipped weights")
    ] = False,
) -> None:
    """Train by the recipe of the shipped weights; go on where an interrupted run stopped.

    In two processes: `accelerate launch --multi_gpu --num_processes 2 -m course train NAME`,
    without GPUs too.
    """
    from course import runs
    from course.recipes import recipe

    folder = out or Path("runs") / name
    chosen, accelerator = recipe(name), runs.launched_by_accelerate()
    path = runs.run(chosen, folder, steps=steps, warm_start=warm_start, accelerator=accelerator)
    if path is None:
        raise typer.Exit(INTERRUPTED)
    if accelerator is None or accelerator.is_main_process:
        typer.echo(f"Trained: {path}")
        if publish:
            typer.echo(f"Published: {runs.publish(chosen, folder)}")
    if accelerator is not None:
        accelerator.end_training()


@app.command()
def sample(
    name: Annotated[str, typer.Argument(help="the weights to sample from")] = "mnist-ddpm",
    n: Annotated[int, typer.Option("--n", min=1, help="how many images")] = 64,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="network calls for each")] = 50,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="the same seed gives the same images")
    ] = 0,
    out: Annotated[Path, typer.Option(help="a .png grid, or .npy of float32 in [0, 1]")] = Path(
        "samples.png"
    ),
    weights: Annotated[Path | None, typer.Option(help="a run's folder [data/weights]")] = None,
    label: Annotated[
        int | None, typer.Option(min=0, max=9, help="for mnist-cfg: the digit [all in turn]")
    ] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="for mnist-cfg: γ, 1 for no guidance [the lesson's]")
    ] = None,
) -> None:
    """Draw images and save them: a grid as .png, or n × 1 × 28 × 28 numbers as .npy."""
    if out.suffix not in (".npy", ".png"):
        raise CourseError(f"--out ends in .npy or .png, unlike {out}.")
    from course.generate import generate, save_images
    from course.weights import check_writable

    check_writable(out)
    images = generate(name, n, steps, seed, weights, label=label, guidance_scale=guidance_scale)
    save_images(images, out)
    typer.echo(f"Saved {n} images: {out}")


@app.command()
def build(
    lessons: Annotated[
        list[str] | None, typer.Argument(help="names, as 02_forward_process")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="also where nothing changed")] = False,
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
    details: Annotated[bool, typer.Option("--details", help="also say what is wrong")] = False,
) -> None:
    """Say which exercises of your notebooks are right; the exit code is 1 while some are not."""
    from course.progress import lesson_notebooks, notebook_progress

    right, total, unread = 0, 0, []
    for path in notebooks or lesson_notebooks(Path("notebooks")):
        try:
            for result in notebook_progress(path):
                total, right = total + 1, right + (result.state == "right")
                _show_result(result.notebook, result.exercise, result.state)
                for line in result.lines if details else []:
                    typer.echo(f"    {line}")
        except CourseError as error:
            unread.append(str(error))
    typer.echo(f"{right} of {total} exercises are right.")
    if unread:
        raise CourseError(" ".join(unread))
    raise typer.Exit(0 if right == total else 1)


def _show_result(notebook: str, exercise: str, state: str) -> None:
    marks = {"right": OK, "wrong": MISSING, "deleted": "?"}
    restore = f": its cell was deleted; `git show HEAD:notebooks/{notebook}.ipynb` has it"
    note = restore if state == "deleted" else ""
    typer.echo(f"{marks.get(state, '○')} {notebook}  {exercise}{note}")


def main() -> None:
    """Run the command line; what can be put right is one line, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A pipe on Windows may not know the ✓.
            stream.reconfigure(errors="replace")
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        code = app(prog_name="python -m course", standalone_mode=False) or 0
    except UsageError as error:
        return _fail(error.format_message(), 2)  # type: ignore[attr-defined]
    except ModuleNotFoundError as error:
        return _fail(f"{error}; run `pip install .` in the repository.")
    except (CourseError, ValueError, OSError) as error:
        return _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        typer.echo("Interrupted.", err=True)
    return int(code)


def _fail(message: str, code: int = 1) -> int:
    """Say an error in one line; the exit code."""
    typer.echo(f"Error: {' '.join(message.split())}", err=True)
    return code
