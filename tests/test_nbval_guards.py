"""What nbval 0.11 lets pass, shown without the guards of conftest.py, and caught with them."""

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from course.authoring.build import to_bytes
from course.authoring.execute import run
from course.authoring.lesson import NOTEBOOK_METADATA, ROOT

Results = dict[tuple[str, str], tuple[str, float, str]]


def notebook(*cells: str) -> NotebookNode:
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nb.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    return nb


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny notebooks; those with outputs are stored as the builder stores them."""
    folder = tmp_path_factory.mktemp("guards") / "solutions"
    folder.mkdir()
    executed = {
        "quiet": notebook("x = 3", "x;", "x  # shown", "x + 1;  # not shown"),
        "address": notebook("object()", "print(object())"),
        "ignored": notebook("# NBVAL_IGNORE_OUTPUT\nimport time\ntime.time()"),
    }
    executed["ignored"].cells[0].metadata["tags"] = ["nbval-ignore-output"]
    executed["ignored"].cells[0].source = "import time\ntime.time()"
    stored = {name: run(nb, name, folder.parent) for name, nb in executed.items()}
    stored["changed"] = notebook("1 + 1")
    stored["changed"].cells[0].update(
        execution_count=1,
        outputs=[nbformat.v4.new_output("execute_result", {"text/plain": "3"}, execution_count=1)],
    )
    stored["magic"] = notebook("1", "%nosuchmagic", "%%nosuchmagic\n1", "1")
    stored["expected"] = notebook("1 / 0")
    stored["expected"].cells[0].metadata["tags"] = ["raises-exception"]
    stored["dead"] = notebook("1", "import os\nos._exit(1)", "1")
    stored["order"] = notebook("a = 1", "b = a + 1", "c = b + 1", "assert c == 3")
    for name, nb in stored.items():
        (folder / f"{name}.ipynb").write_bytes(to_bytes(nb))
    return folder


def pytest_run(
    folder: Path, *arguments: str, guarded: bool = True
) -> subprocess.CompletedProcess[str]:
    """pytest --nbval in its own process, on a folder with this repository's conftest or none."""
    conftest = folder / "conftest.py"
    conftest.unlink(missing_ok=True)
    if guarded:
        shutil.copy(ROOT / "tests" / "conftest.py", conftest)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval"]
    return subprocess.run(
        [*command, f"--rootdir={folder}", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        encoding="utf-8",
        capture_output=True,
        timeout=240,
    )


def results(folder: Path, *arguments: str, guarded: bool = True) -> Results:
    """(outcome, seconds, message) of every cell, by (notebook, cell)."""
    report = folder.parent / f"guarded-{guarded}.xml"
    done = pytest_run(folder, f"--junit-xml={report}", *arguments, guarded=guarded)
    assert report.is_file(), done.stdout + done.stderr
    found: Results = {}
    for case in ET.parse(report).iter("testcase"):
        failure = case.find("failure")
        message = "" if failure is None else f"{failure.get('message')}\n{failure.text}"
        outcome = "passed" if failure is None else "failed"
        key = Path(case.attrib["file"]).stem if "file" in case.attrib else case.attrib["classname"]
        found[key.split(".")[0], case.attrib["name"]] = (
            outcome,
            float(case.attrib["time"]),
            message,
        )
    return found


@pytest.fixture(scope="module")
def guarded(notebooks: Path) -> Results:
    return results(notebooks, guarded=True)


@pytest.fixture(scope="module")
def unguarded(notebooks: Path) -> Results:
    """What nbval says by itself; the dead kernel is left out, it would take 2,000 seconds."""
    return results(notebooks, "--ignore=dead.ipynb", guarded=False)


def test_a_failed_magic_fails_its_cell(guarded: Results, unguarded: Results) -> None:
    for cell in ("Cell 1", "Cell 2"):
        assert unguarded["magic", cell][0] == "passed"
        outcome, _, message = guarded["magic", cell]
        assert outcome == "failed"
        assert "The kernel reports that this cell failed." in message
        assert "nosuchmagic` not found" in message
    assert guarded["magic", "Cell 0"][0] == guarded["magic", "Cell 3"][0] == "passed"


def test_an_expected_exception_passes(guarded: Results) -> None:
    assert guarded["expected", "Cell 0"][0] == "passed"


def test_a_dead_kernel_fails_within_seconds(guarded: Results) -> None:
    outcome, seconds, message = guarded["dead", "Cell 1"]
    assert outcome == "failed"
    assert "The kernel died while it ran this cell." in message
    assert seconds < 15
    assert guarded["dead", "Cell 0"][0] == "passed"
    assert guarded["dead", "Cell 2"][0] == "failed"


def test_a_trailing_semicolon_is_honoured(guarded: Results, unguarded: Results) -> None:
    cells = [f"Cell {i}" for i in range(4)]
    assert [unguarded["quiet", cell][0] for cell in cells] == [
        "passed", "failed", "passed", "failed",
    ]  # fmt: skip
    assert [guarded["quiet", cell][0] for cell in cells] == ["passed"] * 4


def test_memory_addresses_are_not_compared(guarded: Results, unguarded: Results) -> None:
    assert [unguarded["address", f"Cell {i}"][0] for i in (0, 1)] == ["failed", "failed"]
    assert [guarded["address", f"Cell {i}"][0] for i in (0, 1)] == ["passed", "passed"]


def test_outputs_are_compared_unless_tagged(guarded: Results) -> None:
    assert guarded["changed", "Cell 0"][0] == "failed"
    assert "Cell outputs differ" in guarded["changed", "Cell 0"][2]
    assert guarded["ignored", "Cell 0"][0] == "passed"


@pytest.mark.parametrize("flag", ["--dist=load", "--dist=worksteal", "-n2"])
def test_xdist_is_refused_where_it_tears_notebooks_apart(notebooks: Path, flag: str) -> None:
    arguments = [flag] if flag == "-n2" else ["-n2", flag]
    done = pytest_run(notebooks, *arguments, "order.ipynb")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "with pytest-xdist, add --dist loadfile" in done.stderr
    assert "Traceback" not in done.stderr


def test_xdist_runs_notebooks_whole(notebooks: Path) -> None:
    done = pytest_run(notebooks, "-n2", "--dist=loadfile", "order.ipynb", "quiet.ipynb")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout


def test_xdist_is_none_of_our_business_without_notebooks(notebooks: Path) -> None:
    (notebooks / "test_nothing.py").write_text("def test_nothing(): pass\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n2"]
    shutil.copy(ROOT / "tests" / "conftest.py", notebooks / "conftest.py")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([*command, "test_nothing.py"], cwd=notebooks, env=env).returncode == 0
