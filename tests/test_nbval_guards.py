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
    """Tiny notebooks; those with outputs are executed and stored as the builder does it."""
    folder = tmp_path_factory.mktemp("guards") / "solutions"
    folder.mkdir()
    quiet = notebook("x = 3", "x;", "x  # shown", "x + 1;  # not shown", "object()")
    mixed = notebook("1 + 1", "import time\ntime.time()", "1 / 0")
    mixed.cells[1].metadata["tags"] = ["nbval-ignore-output"]
    mixed.cells[2].metadata["tags"] = ["raises-exception"]
    stored = {
        "quiet": run(quiet, "quiet", folder.parent),
        "mixed": run(mixed, "mixed", folder.parent),
        "magic": notebook("1", "%nosuchmagic", "%%nosuchmagic\n1", "1"),
        "dead": notebook("1", "import os\nos._exit(1)", "1"),
        "order": notebook("a = 1", "b = a + 1", "c = b + 1", "assert c == 3"),
    }
    stored["mixed"].cells[0].outputs[0].data["text/plain"] = "3"
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


def results(folder: Path, *names: str, guarded: bool) -> Results:
    """(outcome, seconds, message) of every cell of the named notebooks, by (notebook, cell)."""
    report = folder.parent / f"guarded-{guarded}.xml"
    files = [f"{name}.ipynb" for name in names]
    done = pytest_run(folder, f"--junit-xml={report}", *files, guarded=guarded)
    assert report.is_file(), done.stdout + done.stderr
    found: Results = {}
    for case in ET.parse(report).iter("testcase"):
        failure = case.find("failure")
        outcome = "passed" if failure is None else "failed"
        message = "" if failure is None else f"{failure.get('message')}\n{failure.text}"
        key = case.attrib["classname"].split(".")[0], case.attrib["name"]
        found[key] = outcome, float(case.attrib["time"]), message
    return found


@pytest.fixture(scope="module")
def guarded(notebooks: Path) -> Results:
    return results(notebooks, "quiet", "mixed", "magic", "dead", guarded=True)


@pytest.fixture(scope="module")
def unguarded(notebooks: Path) -> Results:
    """What nbval says by itself; without the dead kernel, for which it waits 2,000 seconds."""
    return results(notebooks, "quiet", "magic", guarded=False)


def outcomes(found: Results, name: str) -> list[str]:
    return [outcome for (stem, _), (outcome, *_) in found.items() if stem == name]


def test_a_failed_magic_fails_its_cell(guarded: Results, unguarded: Results) -> None:
    assert outcomes(unguarded, "magic") == ["passed"] * 4
    assert outcomes(guarded, "magic") == ["passed", "failed", "failed", "passed"]
    for cell in ("Cell 1", "Cell 2"):
        message = guarded["magic", cell][2]
        assert "The kernel reports that this cell failed." in message
        assert "nosuchmagic` not found" in message


def test_a_dead_kernel_fails_within_seconds(guarded: Results) -> None:
    assert outcomes(guarded, "dead") == ["passed", "failed", "failed"]
    _, seconds, message = guarded["dead", "Cell 1"]
    assert "The kernel died while it ran this cell." in message
    assert seconds < 20


def test_a_trailing_semicolon_is_honoured(guarded: Results, unguarded: Results) -> None:
    assert outcomes(unguarded, "quiet")[:4] == ["passed", "failed", "passed", "failed"]
    assert outcomes(guarded, "quiet")[:4] == ["passed"] * 4


def test_memory_addresses_are_not_compared(guarded: Results, unguarded: Results) -> None:
    assert outcomes(unguarded, "quiet")[4:] == ["failed"]
    assert outcomes(guarded, "quiet")[4:] == ["passed"]


def test_outputs_are_compared_unless_tagged(guarded: Results) -> None:
    assert outcomes(guarded, "mixed") == ["failed", "passed", "passed"]
    assert "Cell outputs differ" in guarded["mixed", "Cell 0"][2]


@pytest.mark.parametrize("flags", [["-n2"], ["-n2", "--dist=worksteal"]])
def test_xdist_is_refused_where_it_tears_notebooks_apart(notebooks: Path, flags: list[str]) -> None:
    done = pytest_run(notebooks, *flags, "order.ipynb")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "with pytest-xdist, add --dist loadfile" in done.stderr
    assert "Traceback" not in done.stderr


def test_xdist_runs_notebooks_whole(notebooks: Path) -> None:
    done = pytest_run(notebooks, "-n2", "--dist=loadfile", "order.ipynb")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
