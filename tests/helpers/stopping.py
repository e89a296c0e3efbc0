"""Stop and continue a process of the session tree from outside, and see that it is so."""

import os
import signal

from helpers.proc import look_at
from helpers.waiting import wait_until


def stop_process(pid: int) -> None:
    """Send SIGSTOP and wait until the kernel says that it is stopped."""
    os.kill(pid, signal.SIGSTOP)

    def stopped() -> bool:
        seen = look_at(pid)
        return seen is not None and seen.state == "T"

    wait_until(stopped, f"pid {pid} stops")


def continue_process(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)
