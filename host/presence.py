"""Whether a process of a host is left: a lock on a file that each of them holds until it is over, and no code of the user's does.

    host --its open file, locked--> zygote --fork--> keeper --fork--> session process --fork--> keeper of a run
                                                                      (worker, command, interpreter: closed)

The lock belongs to the open file, which they all share; so it is free when the last of them is gone, and not a moment earlier,
whatever ended them: the kernel says so, and no list of pids has to be right. What a keeper guards needs no lock: the keeper is
there until that is over. A host that finds the lock held waits for who is left of the former one (they are ending: they saw it
go), and gives up after a while rather than run a session beside its own past (R-32).
"""

from __future__ import annotations

import fcntl
import os
import select
from pathlib import Path
from typing import Final

from procession.host import clock
from procession.ipc.core.errors import StorageError

PRESENCE_NAME: Final = "processes.lock"
#: What a killed host leaves is gone within 2 s (R-26); the rest is for a busy machine.
PATIENCE_S: Final = 5.0
#: Who holds it is looked for again after this long at the latest: one that we cannot see may be the last.
_LOOK_AGAIN_S: Final = 0.25
#: Named in the error, and waited for at once; more than these wait their turn.
_SHOWN_MAX: Final = 8
_WATCHED_MAX: Final = 256


def take(folder: Path, patience_s: float = PATIENCE_S) -> int:
    """Return the locked file's descriptor, once nobody else holds it. Raises OSError, StorageError (`processes_left`)."""
    place = folder / PRESENCE_NAME
    fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        deadline = clock.monotonic() + patience_s
        while not _locked(fd):
            left_s = deadline - clock.monotonic()
            pids = holders(fd)
            if left_s <= 0:
                raise _still_there(folder, pids, patience_s)
            _wait_for(pids, min(left_s, _LOOK_AGAIN_S))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holders(fd: int) -> list[int]:
    """Return the pids of the other processes that have this file open; those of other users may not be seen."""
    ours = os.fstat(fd)
    return [
        int(name)
        for name in os.listdir("/proc")
        if name.isdigit() and int(name) != os.getpid() and _has_open(name, ours)
    ]


def _has_open(pid: str, wanted: os.stat_result) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        for number in os.listdir(folder):
            path = f"{folder}/{number}"
            if os.readlink(path).endswith(PRESENCE_NAME):  # first: to stat whatever is open there could take long
                found = os.stat(path)
                if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                    return True
    except OSError:
        pass  # it has ended, closed it just now, or is not ours to look at
    return False


def _wait_for(pids: list[int], span_s: float) -> None:
    """Wait until these processes have ended, for `span_s` at most."""
    until = clock.monotonic() + span_s
    poller, pidfds = select.poll(), set[int]()
    try:
        for pid in pids[:_WATCHED_MAX]:
            try:
                pidfds.add(os.pidfd_open(pid))
            except ProcessLookupError:
                pass
        for pidfd in pidfds:
            poller.register(pidfd, select.POLLIN)
        while (left_s := until - clock.monotonic()) > 0:
            for pidfd, _ in poller.poll(left_s * 1000):
                poller.unregister(pidfd)
                pidfds.discard(pidfd)
                os.close(pidfd)
            if pids and not pidfds:
                return
    finally:
        for pidfd in pidfds:
            os.close(pidfd)


def _still_there(folder: Path, pids: list[int], patience_s: float) -> StorageError:
    shown = ", ".join(map(str, pids[:_SHOWN_MAX])) + (", ..." if len(pids) > _SHOWN_MAX else "")
    who = f"{len(pids)} processes (pids {shown})" if pids else "a process that cannot be seen"
    return StorageError(
        f"{folder}: of the host that had it before, {who} did not end within {patience_s:g} s",
        code="processes_left",
        hint="its sessions must not run twice; end those processes, then start again",
    )
