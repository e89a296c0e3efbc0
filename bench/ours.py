"""Procession's side, as a user would write it: a host, sessions without confinement, an echo.

`engine_of` reaches below the face for the one measurement that needs it (many calls under way from one thread).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from procession import Host, Sandbox, Session
from procession.ipc.core.backend import Backend, Request
from procession.ipc.core.operations import OPERATIONS, Nothing

#: What is echoed: the ping-pong's 64 bytes.
SMALL: Final = b"x" * 64
OFF: Final = Sandbox.off()
ECHO_TIMEOUT_S: Final = 5.0


@contextmanager
def open_session() -> Iterator[tuple[Host, Session]]:
    """Open a private host with one session."""
    with Host(sandbox=OFF) as host:
        yield host, host.start_session()


def echo_request(session: Session, data: bytes, timeout_s: float | None = ECHO_TIMEOUT_S) -> Request:
    """Return the request that `session.echo` makes."""
    return Request(OPERATIONS["echo"], session.id, Nothing(), data, timeout_s)


def backend_of(host: Host) -> Backend:
    """Return the backend a host stands on."""
    return host._backend


def private_bytes(pid: int) -> int:
    """Return the memory that only this process has: Private_Clean and Private_Dirty of its smaps."""
    total = 0
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
        for line in lines:
            name, _, rest = line.partition(":")
            if name in {"Private_Clean", "Private_Dirty"}:
                total += int(rest.split()[0]) * 1024
    return total


def is_alive(pid: int) -> bool:
    """Say whether a process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] not in {b"Z", b"X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(pid: int) -> list[int]:
    """Return the direct children of a process."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        return [int(child) for task in tasks for child in open(f"/proc/{pid}/task/{task}/children").read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
