"""Which exercises of a learner's notebooks are right, found without running whole notebooks."""

import ast
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from course.checks import exercises
from course.checks.engine import Verdict, judge_answer
from course.errors import CourseError


class Result(NamedTuple):
    """One exercise of one notebook. `state` is as in `Verdict`, or "deleted"."""

    notebook: str
    exercise: str
    state: str
    lines: list[str]


def notebook_progress(path: Path) -> Iterator[Result]:
    """Judge each exercise of a notebook in turn, running no more than their own cells.

    Raises CourseError for a file that is no notebook of the course.
    """
    cells = _code_cells(path)
    lesson = path.stem
    for name in _expected(lesson):
        definition = next((c for c in reversed(cells) if _defines(c, name)), None)
        verdict = Verdict("deleted") if definition is None else _judge(name, definition)
        yield Result(lesson, name, verdict.state, verdict.lines)


def _code_cells(path: Path) -> list[str]:
    """The sources of a notebook's code cells."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
        return ["".join(c["source"]) for c in cells]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CourseError(
            f"{path} is not a readable notebook. Restore it with "
            f"`git checkout -- {path.as_posix()}`, or take it from a backup of yours."
        ) from error


def _expected(lesson: str) -> list[str]:
    """The exercises that a lesson has, by the name of its module: "02_forward_process", say."""
    module = f"course.{lesson[3:]}"
    found = [n for n, e in exercises().items() if e.reference.__module__.startswith(module)]
    if not found:
        raise CourseError(f"{lesson} is not a lesson of this course; a notebook keeps its name.")
    return found


def _defines(source: str, name: str) -> bool:
    """Whether a cell defines a function or class of that name."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        # A cell that is being written may not parse; the name still tells which it is.
        return f"def {name}(" in source or f"class {name}(" in source
    kinds = (ast.FunctionDef, ast.ClassDef)
    return any(isinstance(node, kinds) and node.name == name for node in tree.body)


def _judge(name: str, source: str) -> Verdict:
    """Define the learner's answer among the names of the reference's module, and judge it."""
    exercise = exercises()[name]
    names: dict[str, Any] = dict(vars(sys.modules[exercise.reference.__module__]))
    # A module of its own, so that classes defined in it know where they are.
    names["__name__"] = "learner"
    sys.modules["learner"] = types.ModuleType("learner")
    try:
        exec(compile(source, f"<{name}>", "exec"), names)
    except Exception as error:
        return Verdict("wrong", [f"{type(error).__name__}: {error}"])
    return judge_answer(exercise, names[name])
