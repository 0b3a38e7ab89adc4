"""One thread everywhere, and guards against what nbval 0.11 lets pass."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # Before torch is imported; notebooks' kernels inherit it.

import subprocess
import time
from queue import Empty

import nbval.plugin
import pytest
import torch
from nbval.kernel import RunningKernel, start_new_kernel
from nbval.plugin import IPyNbCell

from course.authoring.execute import kernel_environment, without_addresses

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


class GuardedCell(IPyNbCell):
    """nbval's cell that also fails where the kernel says so without raising: a failed magic."""

    def runtest(self) -> None:
        try:
            super().runtest()
        except KernelDiedError:
            self.raise_cell_error("The kernel died while it ran this cell.")
        if self.parent.kernel.status != "ok" and not self.options["check_exception"]:
            printed = "".join(out.text for out in self.test_outputs if out.get("name") == "stderr")
            self.raise_cell_error("The kernel reports that this cell failed.", printed)

    def sanitize(self, s: object) -> object:
        s = super().sanitize(s)
        return without_addresses(s) if isinstance(s, str) else s


def pytest_configure(config: pytest.Config) -> None:
    nbval.plugin.RunningKernel = GuardedKernel
    nbval.plugin.IPyNbCell = GuardedCell
    notebooks = config.getoption("nbval") or config.getoption("nbval_lax")
    if notebooks and config.getoption("dist", "no") not in ("no", "loadfile"):
        raise pytest.UsageError(
            "A notebook's cells must run in one process: with pytest-xdist, add --dist loadfile."
        )
