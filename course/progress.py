"""Which exercises of a learner's notebooks are right, found without running whole notebooks."""

import ast
import contextlib
import io
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from course.checks import exercises
from course.checks.engine import Exercise, Verdict, judge_answer
from course.errors import CourseError


class Result(NamedTuple):
    """One exercise of one notebook. `state` is as in `Verdict`, or "deleted"."""

    notebook: str
    exercise: str
    state: str
    lines: list[str]


def lesson_notebooks(folder: Path) -> list[Path]:
    """The lessons' notebooks in a folder, in order; copies and a learner's own are left out.

    Raises CourseError where there is none.
    """
    found = [path for path in sorted(folder.glob("*.ipynb")) if _exercises_of(path.stem)]
    if not found:
        raise CourseError(f"There are no lessons in {folder}; run this in the repository's folder.")
    return found


def notebook_progress(path: Path) -> Iterator[Result]:
    """Judge each exercise of a notebook in turn: its cell, with the notebook's imports and helpers.

    Raises CourseError for a file that is no notebook of the course.
    """
    expected = _exercises_of(path.stem)
    if not expected:
        raise CourseError(f"{path.stem} is not a lesson of this course; a notebook keeps its name.")
    cells = _code_cells(path)
    for exercise in expected:
        definition = next((c for c in reversed(cells) if _defines(c, exercise.name)), None)
        verdict = Verdict("deleted") if definition is None else _judge(exercise, definition, cells)
        yield Result(path.stem, exercise.name, verdict.state, verdict.lines)


def _exercises_of(lesson: str) -> list[Exercise]:
    """A lesson's exercises, found by the name of its module: "02_forward_process", say."""
    module = f"course.{lesson[3:]}"
    homes = ((e, e.reference.__module__) for e in exercises().values())
    return [e for e, home in homes if home == module or home.startswith(f"{module}.")]


def _code_cells(path: Path) -> list[str]:
    """The sources of a notebook's code cells, without the lines that only IPython understands."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
        sources = ["".join(c["source"]) for c in cells]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CourseError(
            f"{path} is not a readable notebook. Restore it with "
            f"`git checkout -- {path.as_posix()}`, or take it from a backup of yours."
        ) from error
    return ["\n".join(x for x in s.split("\n") if not x.startswith(("%", "!"))) for s in sources]


def _defines(source: str, name: str) -> bool:
    """Whether a cell defines a function or class of that name."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        # A cell that is being written may not parse; the name still tells which it is.
        return f"def {name}(" in source or f"class {name}(" in source
    kinds = (ast.FunctionDef, ast.ClassDef)
    return any(isinstance(node, kinds) and node.name == name for node in tree.body)


def _judge(exercise: Exercise, source: str, cells: list[str]) -> Verdict:
    """Define the learner's answer among the names that its cell may use, and judge it."""
    names: dict[str, Any] = dict(vars(sys.modules[exercise.reference.__module__]))
    # A module of its own, so that classes defined in it know where they are.
    names["__name__"] = "learner"
    sys.modules["learner"] = types.ModuleType("learner")
    with contextlib.redirect_stdout(io.StringIO()):
        for helper in _helpers(cells):
            with contextlib.suppress(Exception):
                exec(helper, names)
        try:
            exec(compile(source, f"<{exercise.name}>", "exec"), names)
            return judge_answer(exercise, names[exercise.name])
        except (Exception, SystemExit) as error:
            return Verdict("wrong", [f"{type(error).__name__}: {error}"])


def _helpers(cells: list[str]) -> Iterator[types.CodeType]:
    """What a notebook imports, and the functions and classes in it that are no exercises."""
    for cell in cells:
        with contextlib.suppress(SyntaxError, ValueError):
            for node in ast.parse(cell).body:
                imports = isinstance(node, ast.Import | ast.ImportFrom)
                defines = isinstance(node, ast.FunctionDef | ast.ClassDef)
                if imports or (defines and node.name not in exercises()):  # type: ignore[attr-defined]
                    yield compile(ast.Module([node], []), "<your notebook>", "exec")
