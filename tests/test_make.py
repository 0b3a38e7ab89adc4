"""`make lab` on machines that are not as it would like them."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("make") is None, reason="the Makefile is for make"
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """As much of a fresh clone as `make lab` looks at."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "notebooks").mkdir()
    empty = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    (tmp_path / "notebooks" / "00_start_here.ipynb").write_text(empty, encoding="utf-8")
    return tmp_path


def make(clone: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["make", *arguments]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=60)


def python_that_is(version: str, clone: Path) -> str:
    """An interpreter that says it has another version."""
    path = clone / "other_python"
    parts = tuple(map(int, version.split(".")))
    path.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        f"sys.version_info, sys.version = {parts}, '{version} (main)'\n"
        "exec(sys.argv[2])\n",
        encoding="utf-8",
    )
    path.chmod(0o755)
    return str(path)


def test_a_python_that_is_too_old(clone: Path) -> None:
    done = make(clone, "lab", f"PYTHON={python_that_is('3.10.4', clone)}")
    assert done.returncode != 0
    said, *_ = done.stderr.splitlines()
    assert said == (
        "The course needs Python 3.11 or newer; this is 3.10.4. "
        "Name another with: make lab PYTHON=python3.12"
    )
    assert not (clone / ".venv").exists()


def test_no_python_at_all(clone: Path) -> None:
    done = make(clone, "lab", "PYTHON=no_such_python")
    assert done.returncode != 0
    assert "no_such_python" in done.stderr


def set_up(clone: Path) -> None:
    """As if a first `make lab` had gone well."""
    (clone / ".venv").mkdir()
    (clone / ".venv" / ".lab").touch()


def test_the_set_up_is_done_once_and_again_when_its_list_changes(clone: Path) -> None:
    assert "pip install" in make(clone, "-n", "lab").stdout
    set_up(clone)
    assert "pip" not in make(clone, "-n", "lab").stdout
    later = time.time() + 10
    os.utime(clone / "pyproject.toml", (later, later))
    assert "pip install" in make(clone, "-n", "lab").stdout


def test_torchs_cpu_build_comes_first_where_it_is_asked_for(clone: Path) -> None:
    planned = make(clone, "-n", "lab", "TORCH=cpu").stdout
    assert planned.index("/whl/cpu") < planned.index("pip install -e .")
    assert "/whl/cpu" not in make(clone, "-n", "lab").stdout


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.fixture
def lab(clone: Path, busy_port: int) -> Iterator["subprocess.Popen[str]"]:
    """`make lab` with everything installed, where Jupyter's own port is taken."""
    set_up(clone)
    child = subprocess.Popen(
        ["make", "lab", f"BIN={Path(sys.executable).parent}"],
        cwd=clone,
        env={
            **os.environ,
            "HOME": str(clone / "home"),
            "JUPYTER_PORT": str(busy_port),
            "BROWSER": "true",  # A test opens no windows.
        },
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    timer = threading.Timer(120, os.killpg, (child.pid, signal.SIGKILL))
    timer.start()
    yield child
    timer.cancel()
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def test_a_port_in_use_and_no_browser(lab: "subprocess.Popen[str]", busy_port: int) -> None:
    """Jupyter takes the next port and prints where it is; the page is there."""
    assert lab.stderr is not None
    addresses = (re.search(r"http://\S+token=\w+", line) for line in lab.stderr)
    address = next(match[0] for match in addresses if match)
    port = re.search(r":(\d+)/", address)
    assert port is not None
    assert int(port[1]) != busy_port
    assert "/lab/tree/notebooks/00_start_here.ipynb?" in address
    assert "JupyterLab" in page(address)


def page(address: str) -> str:
    """A page's text; Jupyter prints its address a moment before it listens there."""
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                return str(answer.read().decode())
        except urllib.error.URLError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
