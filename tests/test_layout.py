"""The house rules of the repository: who may import whom, and what must stay in step."""

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from course.checks import exercises

ROOT = Path(__file__).parents[1]

# In the order in which they are taught.
LESSONS = [
    "start_here",
    "data_manifold",
    "forward_process",
    "training",
    "sampling",
    "latent_diffusion",
    "classifier_guidance",
    "classifier_free_guidance",
    "controlnet",
    "qr_codes",
    "diffqrcoder",
    "sdedit",
    "atkpdm",
    "flow_matching",
]
CAPSTONES = {"qr_codes", "diffqrcoder", "atkpdm"}
APPENDICES = {"A1": "scenery"}
GROUND = {"errors", "data", "metrics", "weights", "plots"}
SOURCES = sorted((ROOT / "solutions").glob("*.py"))


# --- Who may import whom -----------------------------------------------------------------------


def modules() -> dict[str, Path]:
    """Every module of the package by its name: "course.checks.engine", say."""
    names = {}
    for path in sorted((ROOT / "course").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules that some code imports: each with the names that it takes from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms(name: str) -> set[str]:
    """The rooms of the course that a module imports from: "data", "checks", "training"."""
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    inside = (imported.split(".") for imported in imports(tree) if imported.startswith("course."))
    return {parts[1] for parts in inside} - {"__version__"}


def room(name: str) -> str:
    """The room that a module lies in; of the package itself, none."""
    return name.partition(".")[2].partition(".")[0]


def in_rooms(*names: str) -> list[str]:
    return [name for name in modules() if room(name) in names]


@pytest.mark.parametrize("name", in_rooms(*LESSONS))
def test_a_lesson_imports_the_ground_and_earlier_lessons_only(name: str) -> None:
    lesson = room(name)
    earlier = set(LESSONS[: LESSONS.index(lesson) + 1])
    world = {"scenery", "scenery_models"} if lesson in CAPSTONES else set()
    assert rooms(name) - earlier - GROUND - world == set()


@pytest.mark.parametrize("name", in_rooms(*GROUND))
def test_the_ground_imports_no_lesson(name: str) -> None:
    assert rooms(name) <= GROUND


@pytest.mark.parametrize("name", in_rooms("scenery"))
def test_the_scenery_stands_on_the_ground(name: str) -> None:
    assert rooms(name) <= {*GROUND, "scenery"}


def test_the_models_of_scenery_stand_on_it() -> None:
    assert rooms("course.scenery_models") <= {*GROUND, "scenery"}


@pytest.mark.parametrize("name", in_rooms("checks"))
def test_checks_import_lessons_and_the_ground_only(name: str) -> None:
    assert rooms(name) <= {*LESSONS, *GROUND, "checks", "scenery"}


@pytest.mark.parametrize("name", modules())
def test_checks_and_authoring_are_entered_by_few(name: str) -> None:
    may_check = {"checks", "authoring", "cli", "progress"}
    assert "checks" not in rooms(name) or room(name) in may_check
    assert "authoring" not in rooms(name) or room(name) in {"authoring", "cli"}


def test_the_rules_would_see_a_break() -> None:
    """The tests above pass on nothing else than what they mean."""
    text = "from course import training as t\ndef f():\n    import course.checks.engine"
    assert set(imports(ast.parse(text))) == {"course.training", "course.checks.engine"}
    assert "data" in rooms("course.metrics")
    assert "checks" in rooms("course.progress")
    assert room("course.checks.engine") == "checks"
    assert room("course") == ""


def test_importing_the_course_loads_nothing_heavier_than_torch() -> None:
    script = "import sys, course; print(*sys.modules)"
    loaded = run(sys.executable, "-c", script).split()
    heavy = {"diffusers", "transformers", "accelerate", "matplotlib", "scipy", "torchvision"}
    assert "course" in loaded
    assert heavy.isdisjoint(loaded)


def loaded_with(tree: ast.Module) -> set[str]:
    """The packages that importing a module loads at once: not those of functions and of types."""
    outside: list[ast.AST] = []
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            outside.append(node)
        elif isinstance(node, ast.ClassDef | ast.Try | ast.With) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test)
        ):
            waiting += ast.iter_child_nodes(node)
    return {imported.partition(".")[0] for node in outside for imported in imports(node)}


@pytest.mark.parametrize("path", sorted((ROOT / "course").glob("*.py")), ids=lambda p: p.stem)
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    loaded = loaded_with(ast.parse(path.read_text(encoding="utf-8")))
    assert loaded.isdisjoint({"diffusers", "transformers", "accelerate", "lpips"})


def test_loaded_with_tells_the_two_kinds_apart() -> None:
    text = (
        "import a\nif TYPE_CHECKING:\n    import b\ntry:\n    import c\nexcept E: ...\ndef f():\n"
    )
    assert loaded_with(ast.parse(text + "    import d\nif x:\n    import e.f")) == {"a", "c", "e"}


# --- One idea, one name, four places -----------------------------------------------------------


def test_there_are_lessons() -> None:
    assert SOURCES


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_a_lesson_has_its_places(source: Path) -> None:
    number, name = source.stem.split("_", 1)
    assert APPENDICES.get(number) == name or LESSONS.index(name) == int(number)
    code = ROOT / "course" / name
    assert code.is_dir() or code.with_suffix(".py").is_file()
    for place in (f"course/checks/{name}.py", f"tests/test_{name}.py"):
        assert (ROOT / place).is_file(), place
    for folder in ("solutions", "notebooks"):
        assert (ROOT / folder / f"{source.stem}.ipynb").is_file(), f"{folder}/{source.stem}.ipynb"


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_a_lesson_sets_the_exercises_that_have_checks(source: Path) -> None:
    name = source.stem.split("_", 1)[1]
    text = source.read_text(encoding="utf-8")
    set_here = re.findall(r'^# %%.*exercise="([\w.]+)"', text, re.MULTILINE)
    checked = [
        f"{e.reference.__module__.removeprefix('course.')}.{e.name}"
        for e in exercises().values()
        if room(e.reference.__module__) == name
    ]
    assert sorted(set_here) == sorted(checked)


def test_no_notebook_is_without_its_source() -> None:
    built = {
        p.stem for folder in ("solutions", "notebooks") for p in (ROOT / folder).glob("*.ipynb")
    }
    assert built <= {source.stem for source in SOURCES}


@pytest.mark.parametrize(
    "name",
    [
        "data.mnist",
        "forward_process.linear_schedule",
        "forward_process.cosine_schedule",
        "forward_process.forward_step",
        "forward_process.q_sample",
        "forward_process.snr",
        "training.timestep_embedding",
        "training.simple_loss",
        "training.ema_update",
        "sampling.predict_x0",
        "sampling.posterior_mean",
        "sampling.posterior_var",
        "sampling.ddpm_step",
        "sampling.ddim_step",
        "sampling.sample",
        "metrics.frechet_distance",
        "qr_codes.make_code",
        "qr_codes.render",
        "qr_codes.qart",
        "qr_codes.scan",
        "qr_codes.module_errors",
        "qr_codes.scan_report",
        "qr_codes.function_mask",
        "qr_codes.error_budget",
    ],
)
def test_names_that_others_rely_on(name: str) -> None:
    module, function = name.split(".")
    assert callable(getattr(importlib.import_module(f"course.{module}"), function))


# --- What is installed -------------------------------------------------------------------------

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}


def bounds(lines: list[str]) -> dict[str, str]:
    """Each package's lower bound: everything here is `name>=version`, and nothing else."""
    matches = {line: re.fullmatch(r"([\w.-]+)>=([\d.]+)", line) for line in lines}
    assert [line for line, match in matches.items() if match is None] == []
    return {match[1]: match[2] for match in matches.values() if match}


def conda_lines() -> list[str]:
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    return re.findall(r"^  - (\S+)$", text.partition("dependencies:")[2], re.MULTILINE)


def test_conda_and_pip_users_get_the_same() -> None:
    lines = [line for line in conda_lines() if line not in ("pip", "pip:")]
    conda = {CONDA_NAMES.get(name, name): least for name, least in bounds(lines).items()}
    assert conda.pop("python") == PROJECT["requires-python"].removeprefix(">=")
    assert conda == bounds(PROJECT["dependencies"])


def test_conda_users_get_the_course_itself() -> None:
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert text.rstrip().endswith("- pip:\n      - -e .")
    assert "jupyter lab notebooks/00_start_here.ipynb" in text


def test_extras_have_lower_bounds_and_no_pins() -> None:
    for extra in PROJECT["optional-dependencies"].values():
        bounds([line for line in extra if not line.startswith("diffusion-course")])


def test_the_course_command_is_the_one_of_python_m_course() -> None:
    module, function = PROJECT["scripts"]["course"].split(":")
    assert (module, function) == ("course.cli", "main")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_version_is_one() -> None:
    assert importlib.import_module("course").__version__ == PROJECT["version"]


# --- What the files say ------------------------------------------------------------------------


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, encoding="utf-8")
    return done.stdout


@cache
def texts() -> dict[str, str]:
    """Every text file that git has or would take, by its path."""
    found = {}
    for name in run("git", "ls-files", "-z", "-co", "--exclude-standard").split("\0"):
        path = ROOT / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            found[name] = content.decode("utf-8")
    return found


REGISTRIES = ["pypi" + ".org", "pythonhosted" + ".org", "anaconda" + ".org", "npmjs" + ".org"]
MACHINES = re.compile(r"(?<![\w.+/=<>-])/(?:work|root|tmp|home|Users)/\w")


def test_no_file_names_a_package_registry() -> None:
    assert [n for n, text in texts().items() if any(host in text for host in REGISTRIES)] == []


def test_no_file_holds_a_path_of_somebodys_machine() -> None:
    assert [name for name, text in texts().items() if MACHINES.search(text)] == []
    assert MACHINES.search('File "' + "/root" + '/venv/lib"')


def test_no_text_file_is_half_written() -> None:
    """A merge's marks, and line ends that differ from system to system."""
    marks = re.compile(r"^(<{7} |={7}$|>{7} )", re.MULTILINE)
    assert [name for name, text in texts().items() if marks.search(text) or "\r\n" in text] == []


COMMANDS = ["Makefile", ".github/workflows/test.yml", ".ci/run"]


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_refer_to_what_exists(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    paths = re.findall(r"(?<![\w./])(?:tests|solutions|notebooks|course|data)/[\w./-]+", text)
    for path in paths:
        assert (ROOT / path).exists(), path
    for module in re.findall(r"-m ((?:tests|course)[\w.]*)", text):
        place = ROOT.joinpath(*module.split("."))
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), module
    for target in re.findall(r"make ([a-z]+)", text):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def test_ci_runs_the_readmes_test_command() -> None:
    path = ROOT / ".ci" / "run"
    assert path.read_text(encoding="utf-8").rstrip().endswith("make test")
    assert run("git", "ls-files", "-s", ".ci/run").startswith("100755")


def test_workflows_cover_every_system_and_python() -> None:
    text = texts()[".github/workflows/test.yml"]
    for word in ("ubuntu-latest", "macos-latest", "windows-latest", '"3.11", "3.12", "3.13"'):
        assert word in text


def test_windows_runs_the_same_tests() -> None:
    """Where there is no make, the workflow repeats the Makefile's commands."""
    unfolded = {
        "Makefile": re.sub(r"\\\n\s*", "", texts()["Makefile"]),
        ".github/workflows/test.yml": re.sub(r"\n {10}", " ", texts()[COMMANDS[1]]),
    }
    makefile, workflow = (
        [" ".join(c.split()) for c in re.findall(r"python -m (pytest .*)", text)]
        for text in unfolded.values()
    )
    assert makefile == workflow


def test_the_readme_names_the_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("make lab", "make lab TORCH=cpu", "make test", "python -m course"):
        assert command in text


def test_the_readme_names_every_lesson() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [s.stem for s in SOURCES if s.stem not in text] == []


def test_the_readmes_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^):#]+)\)", text)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_no_large_file_slipped_in() -> None:
    """A clone stays small: MNIST and the trained weights are the largest that are meant."""
    names = run("git", "ls-files", "-z").split("\0")
    sizes = {name: os.path.getsize(ROOT / name) for name in names if (ROOT / name).is_file()}  # noqa: PTH202
    assert max(sizes, key=lambda name: sizes[name]).startswith("data/")
    assert sum(sizes.values()) <= 90e6
