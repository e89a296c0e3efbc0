"""Read the process table: what /proc says, as values. Not psutil: the guard must cost less than the tests it guards.

Rules: a process that vanishes while it is read is simply not there; a process is (pid, start time), never a bare pid.
"""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

MARK_VARIABLE = "PROCESSION_TEST_MARK"


@dataclass(frozen=True)
class ProcessSeen:
    """One line of the process table."""

    pid: int
    parent: int
    start_ticks: int
    state: str
    command: str

    def __str__(self) -> str:
        """Tell who it is as one would want to read it in a failure."""
        return f"pid {self.pid} (parent {self.parent}, {self.state}) {self.command}"


def is_blank_keeper(pid: int) -> bool:
    """Say whether it is a keeper that no session has yet."""
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "keeper blank\n"
    except OSError:
        return False


def list_pids() -> set[int]:
    """List every pid of the system."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def look_at(pid: int) -> ProcessSeen | None:
    """Read one process; None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    name, _, rest = stat.partition(b"(")[2].rpartition(b")")
    fields = rest.split()
    return ProcessSeen(
        pid=pid,
        parent=int(fields[1]),
        start_ticks=int(fields[19]),
        state=fields[0].decode(),
        command=command[:200] or f"[{name.decode(errors='replace')}]",
    )


def carries_mark(pid: int, mark: str) -> bool:
    """Say whether the process was started with our environment marker."""
    try:
        return f"{MARK_VARIABLE}={mark}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone, a zombie, or another user's
        return False


def descends_from(process: ProcessSeen, ancestor_pid: int) -> bool:
    """Say whether `ancestor_pid` is its parent, or its parent's parent, and so on."""
    parent, steps_left = process.parent, 64  # 64: deeper than any tree of ours; ends a loop made by reused pids
    while parent > 1 and steps_left:
        if parent == ancestor_pid:
            return True
        above = look_at(parent)
        if above is None:
            return False
        parent, steps_left = above.parent, steps_left - 1
    return False


def kill_for_good(process: ProcessSeen) -> None:
    """SIGKILL exactly that process, through a pidfd, and only if its start time still is the one seen."""
    if sys.platform != "linux":
        return
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        now = look_at(process.pid)
        if now is not None and now.start_ticks == process.start_ticks:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
