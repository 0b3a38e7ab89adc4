"""`python -m course`: look at the set-up, train, sample, and see how far you are."""

import contextlib
import importlib
import importlib.metadata
import io
import platform
import re
import shutil
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

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


@contextlib.contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """What the package warns of, as one line on the error stream."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: typer.echo(f"Note: {message}", err=True)
        yield


@app.command()
def sample(
    name: Annotated[str, typer.Argument(help="the weights to sample from")] = "mnist-ddpm",
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="how many images [64; of scenery 9]")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="network calls for each [50; of scenery 25]"),
    ] = None,
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
        float | None,
        typer.Option(help="for mnist-cfg and scenery: γ, 1 for no guidance [the lesson's; 4]"),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="for scenery: what to draw [captions of the painted world]")
    ] = None,
) -> None:
    """Draw images and save them: a grid as .png, or n × channels × height × width numbers as .npy.

    The names are mnist-ddpm, mnist-cfg and scenery, the tiny Stable Diffusion.
    """
    if out.suffix not in (".npy", ".png"):
        raise CourseError(f"--out ends in .npy or .png, unlike {out}.")
    from course.generate import DEFAULTS, generate, save_images
    from course.weights import check_writable

    check_writable(out)
    usual_n, usual_steps = DEFAULTS.get(name, (64, 50))
    how: dict[str, Any] = {"label": label, "guidance_scale": guidance_scale, "prompt": prompt}
    with _warnings_as_notes():
        images = generate(name, n or usual_n, steps or usual_steps, seed, weights, **how)
    save_images(images, out)
    typer.echo(f"Saved {len(images)} images: {out}")


@app.command()
def qr(
    text: Annotated[str, typer.Argument(help="what scanners are to read")],
    prompt: Annotated[
        str, typer.Option(help="what the picture shows, in the painted world's words")
    ],
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="the first seed to try")] = 0,
    tries: Annotated[int, typer.Option(min=1, max=100, help="seeds to try until all read it")] = 3,
    level: Annotated[str, typer.Option(help="error correction: L, M, Q or H")] = "M",
    out: Annotated[Path, typer.Option(help="a .png file")] = Path("qr.png"),
    models: Annotated[str, typer.Option(help="the pipeline's name or folder")] = "scenery",
) -> None:
    """Paint a picture that scans as a text (DiffQRCoder), and say what read it."""
    if out.suffix != ".png":
        raise CourseError(f"--out ends in .png, unlike {out}.")
    from course.diffqrcoder.create import Try, qr_pipeline, save, try_seeds
    from course.weights import check_writable

    check_writable(out)

    def say(made: Try) -> None:
        marks = (f"{OK if name in made.read_by else MISSING} {name}" for name in made.texts)
        typer.echo(f"Seed {made.seed}: {', '.join(marks)}")

    with _warnings_as_notes():
        try:
            best = try_seeds(qr_pipeline(models), text, prompt, seed, tries, level, say)
        except ValueError as error:
            raise CourseError(str(error)) from error
    save(best.image, out)
    which = f"try {best.seed - seed + 1} (seed {best.seed})"
    if not best.read_by:
        raise CourseError(
            f"No scanner here reads any of {tries} pictures. Try more --tries, a shorter text or "
            f"another prompt. {which}: {out}"
        )
    typer.echo(f"Saved {which}, read by {', '.join(best.read_by)}: {out}")


evaluations = typer.Typer(help="Measure the capstones, each against other methods.")
app.add_typer(evaluations, name="evaluate")


@evaluations.command("qr")
def evaluate_qr(
    n: Annotated[int, typer.Option("--cases", min=1, help="how many pictures a method")] = 60,
    methods: Annotated[str, typer.Option(help="names, with commas between [all]")] = "",
    out: Annotated[Path, typer.Option(help="the results' folder")] = Path("runs/evaluate-qr"),
    models: Annotated[str, typer.Option(help="the pipeline's name or folder")] = "scenery",
) -> None:
    """Compare DiffQRCoder with other ways to a picture that scans; go on where it stopped."""
    from course.diffqrcoder import comparison
    from course.scenery_models import load_pipeline
    from course.weights import check_writable

    names = [name.strip() for name in methods.split(",") if name.strip()]
    comparison.chosen_methods(names)
    check_writable(out / "table.md")
    pipeline = load_pipeline(models)
    pipeline.set_progress_bar_config(disable=True)
    for path in comparison.evaluate(pipeline, n, names, out):
        typer.echo(f"Written: {path}")
    typer.echo((out / "table.md").read_text(encoding="utf-8"))


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


@app.command()
def protect(
    image: Annotated[Path, typer.Argument(help="a picture of your own, of any size and mode")],
    out: Annotated[Path, typer.Option(help="where the protected picture goes")],
    victim: Annotated[
        str, typer.Option(help="mnist-ddpm, scenery-pixel-a or -b, a folder, or a hub's owner/name")
    ] = "scenery-pixel-a",
    psnr: Annotated[float, typer.Option(min=5, max=60, help="the least dB")] = 25.0,
    delta: Annotated[
        float, typer.Option(min=0, help="the most perceptual distance [no limit]")
    ] = float("inf"),
    steps: Annotated[int, typer.Option(min=1, help="how long to search")] = 100,
    plus: Annotated[bool, typer.Option("--plus", help="AtkPDM+: through a VAE")] = False,
    tiled: Annotated[
        bool, typer.Option("--tiled", help="square by square of the victim's size, in full detail")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="of the noise")] = 0,
    show: Annotated[
        Path | None, typer.Option(help="a .png of before, after, and 10 × the difference")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="less memory, more time")
    ] = False,
) -> None:
    """Lesson 12: make a picture harder to edit for one diffusion model. No promise of protection.

    Whoever edits moves second: another model, another t or a purifier may undo it.
    """
    from tqdm.auto import tqdm

    from course.atkpdm.attack import Budget
    from course.atkpdm.protect import protect_file

    budget = Budget(psnr=psnr, delta=delta, steps=steps)
    with tqdm(total=steps, desc="protecting", unit="step") as bar:
        cost = protect_file(
            image,
            out,
            victim,
            budget,
            tiled=tiled,
            plus=plus,
            seed=seed,
            device=device,
            checkpointing=checkpointing,
            show=show,
            progress=lambda done, _: bar.update(done - bar.n),
        )
    typer.echo(
        f"Protected: {out} (PSNR {cost.psnr:.1f} dB, SSIM {cost.ssim:.3f}, perceptual distance "
        f"{cost.perceptual:.3f})"
    )


@evaluations.command("protection")
def evaluate_protection(
    victim: Annotated[str, typer.Option(help="as of `protect`")] = "scenery-pixel-a",
    images: Annotated[int, typer.Option(min=2, help="how many pictures")] = 24,
    folder: Annotated[Path | None, typer.Option(help="of pictures [the victim's world]")] = None,
    psnr: Annotated[float, typer.Option(min=5, max=60, help="of every method, in dB")] = 25.0,
    delta: Annotated[float, typer.Option(min=0, help="of perceptual distance")] = 0.15,
    steps: Annotated[int, typer.Option(min=1, help="of every attack")] = 60,
    draws: Annotated[int, typer.Option(min=1, help="of t and noise in a step")] = 2,
    methods: Annotated[str | None, typer.Option(help="names, between semicolons [all]")] = None,
    transfer: Annotated[
        str | None, typer.Option(help="other victims, between commas, that the attack did not see")
    ] = None,
    sweep: Annotated[str | None, typer.Option(help="other t, between commas")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    out: Annotated[Path | None, typer.Option(help=".md, or .json of every number")] = None,
) -> None:
    """Lesson 12's tables: every protector at one PSNR, with 95 % intervals over pictures."""
    from course.atkpdm.attack import Budget
    from course.atkpdm.evaluation import check_report, evaluate, full_text, save_report
    from course.atkpdm.protect import budget_for
    from course.atkpdm.victims import load_victim
    from course.atkpdm.worlds import load_world, on_device, pictures, victim_on_device

    if out:
        check_report(out)
    world = on_device(load_world(victim), device)
    names = [name.strip() for name in (transfer or "").split(",") if name.strip()]
    others = [victim_on_device(load_victim(name), device) for name in names]
    budget = budget_for(world, Budget(psnr=psnr, delta=delta, steps=steps, draws=draws))
    report = evaluate(
        world,
        pictures(world, images, folder).to(device),
        budget,
        [name.strip() for name in methods.split(";")] if methods else None,
        others,
        [int(t) for t in (sweep or "").split(",") if t.strip()],
        seed,
        lambda what: typer.echo(what, err=True),
    )
    typer.echo(full_text(report))
    if out:
        save_report(report, out)
        typer.echo(f"Saved: {out}")


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
