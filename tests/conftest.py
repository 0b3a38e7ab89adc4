"""One thread everywhere, and guards against what nbval 0.11 lets pass."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # Before torch is imported; notebooks' kernels inherit it.

import subprocess
import time
from collections.abc import Iterator
from queue import Empty

import nbval.plugin
import pytest
from nbval.kernel import RunningKernel, start_new_kernel
from nbval.plugin import IPyNbCell, IPyNbFile

from course.authoring.execute import ADDRESS, NO_ADDRESS, kernel_environment


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Sums come out the same, and tests that run side by side do not fight for cores."""
    import torch  # Here, because a run over notebooks alone does without it.

    torch.set_num_threads(1)


class KernelDiedError(Exception):
    """The kernel's process ended while a cell was running."""


class GuardedKernel(RunningKernel):
    """nbval's kernel that sees a trailing `;`, its own death, and how each cell ended."""

    status: str | None = None  # Of the last cell's reply: "ok", "error", or None before it came.

    def __init__(self, kernel_name: str, cwd: str | None = None, startup_timeout: int = 60) -> None:
        self.km, self.kc = start_new_kernel(
            startup_timeout,
            kernel_name,
            cwd=cwd,
            env=kernel_environment(),
            stderr=subprocess.DEVNULL,
            # What tests ran does not belong in the user's own history.
            extra_arguments=["--HistoryManager.hist_file=:memory:"],
        )
        self._ensure_iopub_up()

    def execute_cell_input(self, cell_input: str, allow_stdin: bool | None = None) -> str:
        """Send a cell. IPython looks for a trailing `;` in its history, so the cell goes there."""
        self.status = None
        return self.kc.execute(
            cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False
        )

    def await_reply(self, msg_id: str, timeout: float | None = None) -> None:
        """Wait for a cell's reply. Raises Empty after `timeout` s, and KernelDiedError at once."""
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            try:
                message = self.get_message("shell", timeout=1)
            except Empty:
                if not self.is_alive():
                    raise KernelDiedError from None
                if time.monotonic() > end:
                    raise
                continue
            if message["parent_header"].get("msg_id") == msg_id:
                self.status = message["content"]["status"]
                return


def pytest_configure(config: pytest.Config) -> None:
    nbval.plugin.RunningKernel = GuardedKernel
    notebooks = config.getoption("nbval") or config.getoption("nbval_lax")
    if notebooks and config.getoption("dist", "no") not in ("no", "loadfile"):
        raise pytest.UsageError(
            "A notebook's cells must run in one process: with pytest-xdist, add --dist loadfile."
        )


def pytest_collectstart(collector: pytest.Collector) -> None:
    if isinstance(collector, IPyNbFile):
        collector.sanitize_patterns[ADDRESS] = NO_ADDRESS


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A cell also fails where the kernel says so without raising: nbval passes a failed magic."""
    if not isinstance(item, IPyNbCell):
        return (yield)
    try:
        yield
    except KernelDiedError:
        item.raise_cell_error("The kernel died while it ran this cell.")
    if item.parent.kernel.status != "ok" and not item.options["check_exception"]:
        printed = "".join(out.text for out in item.test_outputs if out.get("name") == "stderr")
        item.raise_cell_error("The kernel reports that this cell failed.", printed)
