"""A lesson's source, turned into its two notebooks: solved, and with the exercises left open."""

import ast
from collections.abc import Callable
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode
from nbgrader.preprocessors import ClearHiddenTests, ClearOutput, ClearSolutions, LockCells

from course.authoring import exercises
from course.authoring.fingerprint import fingerprint
from course.authoring.setup_cell import setup_cell, with_badge
from course.errors import CourseError

ROOT = Path(__file__).resolve().parents[2]

# What a cell of a source may carry: `# %% exercise="sampling.sample" tags=["…"]`.
CELL_METADATA = {"exercise", "inline", "lines", "stub", "tags", "jupyter"}

# Nothing here tells which machine built the notebook.
NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    },
}


def lessons(root: Path = ROOT) -> list[str]:
    """The names of all lessons, in the order they are taught; the appendices come last."""
    return sorted(path.stem for path in (root / "solutions").glob("[0-9A][0-9]_*.py"))


def solved_notebook(lesson: str, root: Path = ROOT) -> NotebookNode:
    """The lesson with every exercise filled in from the package, not executed.

    Raises CourseError for a lesson that is not there or whose source breaks a rule.
    """
    return _notebook(lesson, root, lambda name, *_: exercises.solution(name, root))


def student_notebook(lesson: str, root: Path = ROOT) -> NotebookNode:
    """The lesson with each exercise cut down to its signature, docstring and a stub.

    Raises CourseError as `solved_notebook` does.
    """
    nb = _notebook(
        lesson, root, lambda name, stub, lines: exercises.marked(name, root, stub, lines)
    )
    steps = [
        ClearSolutions(code_stub={"python": "raise NotImplementedError"}),
        ClearHiddenTests(),
        LockCells(),
        ClearOutput(),
    ]
    try:
        for step in steps:
            nb, _ = step.preprocess(nb, {})
    except RuntimeError as error:
        raise CourseError(f"solutions/{lesson}.py: {error}") from error
    return nb


def source_hash(lesson: str, root: Path = ROOT) -> str:
    """The hash of all that decides the solved notebook's outputs; its prose does not."""
    cells = [c for c in solved_notebook(lesson, root).cells if c.cell_type == "code"]
    named = [c.metadata.exercise.rpartition(".")[0] for c in cells if "exercise" in c.metadata]
    # A capstone's exercises lie in the files of its folder, its checks in one.
    modules = [f"course.{name}" for name in named]
    modules += [f"course.checks.{name.partition('.')[0]}" for name in named]
    return fingerprint((c.source for c in cells), _source(lesson, root), modules, root)


def _source(lesson: str, root: Path) -> str:
    path = root / "solutions" / f"{lesson}.py"
    if not path.is_file():
        known = ", ".join(lessons(root)) or "none"
        raise CourseError(f"There is no lesson {lesson!r} in solutions; the lessons are: {known}.")
    text = path.read_text(encoding="utf-8")
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise CourseError(
            f"solutions/{lesson}.py, line {error.lineno} is not Python ({error.msg}); a magic is "
            "written as a comment, `# %magic`."
        ) from error
    return text


def _notebook(
    lesson: str, root: Path, exercise_text: Callable[[str, str, int | None], str]
) -> NotebookNode:
    """The notebook whose exercises read as `exercise_text(name, stub, lines)` says."""
    cells = jupytext.reads(_source(lesson, root), fmt="py:percent").cells
    for number, cell in enumerate(cells):
        following = cells[number + 1] if number + 1 < len(cells) else None
        try:
            _fill(cell, following, exercise_text, root)
        except CourseError as error:
            raise CourseError(f"solutions/{lesson}.py, cell {number + 1}: {error}") from error
    _refuse_doubles(lesson, cells)
    nb = nbformat.v4.new_notebook(cells=_open(cells, lesson, root))
    nb.metadata = nbformat.from_dict({**NOTEBOOK_METADATA, "course": {"lesson": lesson}})
    for number, cell in enumerate(nb.cells):
        cell.id = f"{lesson}-{number:02d}"
    nbformat.validate(nb)
    return nb


def _fill(
    cell: NotebookNode,
    following: NotebookNode | None,
    exercise_text: Callable[[str, str, int | None], str],
    root: Path,
) -> None:
    """Give one cell of a source its text and metadata, and its check's where it is an exercise."""
    cell.metadata.pop("lines_to_next_cell", None)
    if unknown := sorted(set(cell.metadata) - CELL_METADATA - {"nbgrader"}):
        raise CourseError(f"unknown metadata {unknown[0]!r}; known: {', '.join(CELL_METADATA)}.")
    exercise, shown = cell.metadata.get("exercise"), cell.metadata.pop("inline", None)
    stub, lines = cell.metadata.pop("stub", ""), cell.metadata.pop("lines", None)
    name = exercise or shown
    if name is None:
        return
    if exercise and shown:
        raise CourseError(f"{name} is either an exercise or shown with `inline`, not both.")
    if any(not line.startswith("#") for line in cell.source.split("\n") if line):
        raise CourseError(f"the cell of {name} holds code, but its code comes from the package.")
    if shown:
        cell.source = exercises.solution(shown, root)
        return
    cell.source = exercise_text(name, stub, lines)
    _require_check(name, following)
    assert following is not None
    cell.metadata["nbgrader"] = _nbgrader(name.replace(".", "-"), solution=True)
    following.metadata["nbgrader"] = _nbgrader(name.replace(".", "-") + "-check", solution=False)


def _require_check(name: str, following: NotebookNode | None) -> None:
    """Raise CourseError unless the cell holds `f = check(f)` for the exercise above it."""
    symbol = name.rpartition(".")[2]
    source = following.source if following and following.cell_type == "code" else ""
    try:
        statements = [ast.unparse(statement) for statement in ast.parse(source).body]
    except SyntaxError:
        statements = []
    if f"{symbol} = check({symbol})" not in statements:
        raise CourseError(f"the cell after {name} must hold `{symbol} = check({symbol})`.")


def _nbgrader(grade_id: str, *, solution: bool) -> dict[str, object]:
    """What nbgrader must know of a cell: an exercise is written, its check is locked and graded."""
    points = {} if solution else {"points": 1}
    return {
        "cell_type": "code",
        "grade": not solution,
        "grade_id": grade_id,
        "locked": not solution,
        "schema_version": 3,
        "solution": solution,
        "task": False,
        **points,
    }


def _refuse_doubles(lesson: str, cells: list[NotebookNode]) -> None:
    names = [cell.metadata.exercise for cell in cells if "exercise" in cell.metadata]
    for name in names:
        if names.count(name) > 1:
            raise CourseError(f"solutions/{lesson}.py has the exercise {name} twice.")


def _open(cells: list[NotebookNode], lesson: str, root: Path) -> list[NotebookNode]:
    """The cells with the badge under the title and the setup cell after it."""
    titled = 1 if cells and cells[0].cell_type == "markdown" else 0
    if titled:
        cells[0].source = with_badge(cells[0].source, lesson, root)
    return [*cells[:titled], nbformat.v4.new_code_cell(setup_cell(root)), *cells[titled:]]
