"""Running a notebook, and leaving nothing in its outputs that differs without reason."""

import copy
import json
import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from course.errors import CourseError

WIDGET = "application/vnd.jupyter.widget-view+json"
CELL_TIMEOUT = 300  # seconds

# A memory address, as in <object at 0x7f3c…>, and what stands for all of them.
ADDRESS, NO_ADDRESS = r"\bat 0x[0-9a-fA-F]+", "at 0x0"


def run(nb: NotebookNode, lesson: str, root: Path) -> NotebookNode:
    """A copy of a solved notebook, executed in `solutions` with one thread, as the tests do.

    Raises CourseError, naming the lesson and the cell, where a cell fails, takes more than
    `CELL_TIMEOUT` seconds, kills its kernel, or prints what only this machine would print.
    """
    done = copy.deepcopy(nb)
    reached = [0]
    client = NotebookClient(
        done,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(root / "solutions")}},
        on_cell_start=lambda cell, cell_index: reached.append(cell_index),
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    try:
        client.execute(env=kernel_environment())
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        where = _where(lesson, done, reached[-1])
        raise CourseError(f"{where}: {_what_happened(error)}") from error
    done.metadata = copy.deepcopy(nb.metadata)  # Without the version that the kernel reported.
    for index, cell in enumerate(done.cells):
        if cell.cell_type == "code":
            cell.outputs = _clean(cell.outputs)
            _refuse_this_machine(cell.outputs, _where(lesson, done, index), root)
    return done


def kernel_environment() -> dict[str, str]:
    """The variables under which a notebook computes and draws the same wherever it is run."""
    kept = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    return {**kept, "OMP_NUM_THREADS": "1"}


def _clean(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs without widgets, which are dead without their kernel, and without addresses."""
    alive = [out for out in outputs if WIDGET not in out.get("data", {})]
    return [nbformat.from_dict(_each_text(out)) for out in alive]


def _each_text(value: object) -> object:
    """An output with the addresses in its texts made equal; pictures hold none."""
    if isinstance(value, dict):
        return {k: v if k.startswith("image/") else _each_text(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_each_text(item) for item in value]
    return re.sub(ADDRESS, NO_ADDRESS, value) if isinstance(value, str) else value


def _refuse_this_machine(outputs: list[NotebookNode], where: str, root: Path) -> None:
    """Raise CourseError for an output with a path of this machine, as most warnings have."""
    told = json.dumps(outputs, ensure_ascii=False)
    for private in (str(root), sys.prefix, "ipykernel_"):
        if json.dumps(private, ensure_ascii=False)[1:-1] in told:
            raise CourseError(f"{where}: the output holds {private!r}, which differs elsewhere.")


def _where(lesson: str, nb: NotebookNode, index: int) -> str:
    first, *_ = nb.cells[index].source.split("\n")
    return f"{lesson}, cell {index + 1} ({first})"


def _what_happened(error: Exception) -> str:
    """One line on an error, as a traceback ends."""
    if isinstance(error, CellExecutionError):
        first, *_ = error.evalue.strip().split("\n")
        return f"{error.ename}: {first}"
    if isinstance(error, CellTimeoutError):
        return f"it took more than {CELL_TIMEOUT} s."
    return "the kernel died."
