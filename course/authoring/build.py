"""The builder: `solutions/NN_name.py` → the solved notebook beside it and the student's."""

from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from tqdm import tqdm

from course.authoring.execute import run
from course.authoring.lesson import (
    ROOT,
    lessons,
    solved_notebook,
    source_hash,
    student_notebook,
)
from course.errors import CourseError
from course.weights import write_atomically

__all__ = ["build", "build_all", "lessons", "solved_notebook", "stale", "student_notebook"]


def build(
    lesson: str, *, execute: bool = True, force: bool = False, root: Path = ROOT
) -> list[str]:
    """Write a lesson's two notebooks where they are stale, and return why; [] when all was fresh.

    Cells run only when what they compute may have changed: new prose keeps the outputs. `force`
    runs them in any case, and overwrites a student notebook that was worked in. Without `execute`
    the solved notebook has no outputs and stays stale. Raises CourseError for a source that breaks
    a rule or a cell that fails; the old notebooks then stay as they were.
    """
    reasons = ["it was forced"] if force else stale(lesson, root)
    if not reasons:
        return []
    student = student_path(lesson, root)
    if not force and _worked_in(student):
        raise CourseError(
            f"{student.relative_to(root).as_posix()} holds outputs, so somebody worked in it: save "
            "a copy of it elsewhere, then build with force."
        )
    solved = _with_outputs(lesson, root, force) if execute else solved_notebook(lesson, root)
    write_atomically(solved_path(lesson, root), to_bytes(solved))
    write_atomically(student, to_bytes(student_notebook(lesson, root)))
    return reasons


def build_all(
    names: Iterable[str] | None = None,
    *,
    execute: bool = True,
    force: bool = False,
    root: Path = ROOT,
) -> dict[str, list[str]]:
    """`build` each named lesson, or every one, under a progress bar: its reasons by its name."""
    bar = tqdm(lessons(root) if names is None else list(names), unit="lesson")
    built = {}
    for lesson in bar:
        bar.set_description(lesson)
        built[lesson] = build(lesson, execute=execute, force=force, root=root)
    return built


def stale(lesson: str, root: Path = ROOT) -> list[str]:
    """Why a lesson's notebooks must be built, one reason each; nothing is executed to find out."""
    student, solved = student_path(lesson, root), solved_path(lesson, root)
    reasons = []
    if not student.is_file():
        reasons.append(f"notebooks/{lesson}.ipynb is missing")
    elif student.read_bytes() != to_bytes(student_notebook(lesson, root)):
        reasons.append(f"notebooks/{lesson}.ipynb is not what its source builds")
    stored = _read(solved)
    if stored is None:
        reasons.append(f"solutions/{lesson}.ipynb is missing or unreadable")
    elif not _was_run(stored, fresh := solved_notebook(lesson, root), source_hash(lesson, root)):
        reasons.append(f"solutions/{lesson}.ipynb was not run since its code changed")
    elif to_bytes(_without_outputs(stored)) != to_bytes(fresh):
        reasons.append(f"solutions/{lesson}.ipynb is not what its source builds")
    return reasons


def student_path(lesson: str, root: Path = ROOT) -> Path:
    return root / "notebooks" / f"{lesson}.ipynb"


def solved_path(lesson: str, root: Path = ROOT) -> Path:
    return root / "solutions" / f"{lesson}.ipynb"


def to_bytes(nb: NotebookNode) -> bytes:
    """A notebook as its file's bytes, the same on every system."""
    return (nbformat.writes(nb) + "\n").encode("utf-8")


def _with_outputs(lesson: str, root: Path, force: bool) -> NotebookNode:
    """The solved notebook with the outputs it has, where they still hold, and else executed."""
    nb, current = solved_notebook(lesson, root), source_hash(lesson, root)
    stored = _read(solved_path(lesson, root))
    if stored is not None and _was_run(stored, nb, current) and not force:
        for new, old in zip(_code_cells(nb), _code_cells(stored), strict=True):
            new.outputs, new.execution_count = old.outputs, old.execution_count
    else:
        nb = run(nb, lesson, root)
    nb.metadata.course["source_hash"] = current
    return nb


def _was_run(stored: NotebookNode, fresh: NotebookNode, current: str) -> bool:
    """Whether every cell of a stored notebook was executed, on the code with this hash."""
    old, new = _code_cells(stored), _code_cells(fresh)
    same = stored.metadata.get("course", {}).get("source_hash") == current
    unaltered = [cell.source for cell in old] == [cell.source for cell in new]
    return same and unaltered and all(c.execution_count for c in old if c.source.strip())


def _without_outputs(stored: NotebookNode) -> NotebookNode:
    """A stored notebook as it was before it ran."""
    del stored.metadata.course["source_hash"]
    for cell in _code_cells(stored):
        cell.outputs, cell.execution_count = [], None
    return stored


def _code_cells(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def _read(path: Path) -> NotebookNode | None:
    """A notebook's file, or None where it is missing or is no notebook."""
    try:
        nb = nbformat.reads(path.read_text(encoding="utf-8"), as_version=nbformat.NO_CONVERT)
        nbformat.validate(nb)
    except (OSError, ValueError, AttributeError, nbformat.ValidationError):
        return None
    return nb


def _worked_in(student: Path) -> bool:
    """Whether a student notebook was executed, or cannot be read: a built one has no outputs."""
    nb = _read(student)
    if nb is None:
        return student.exists()
    return any(cell.outputs or cell.execution_count for cell in _code_cells(nb))
