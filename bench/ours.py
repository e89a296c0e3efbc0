"""Procession's side, as a user would write it: a host, sessions without confinement, an echo.

`backend_of` reaches below the face, to what it stands on, where a measurement needs what the face does not offer: many
calls under way from one thread, and whether a spare is there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from procession import Host, Sandbox, Session
from procession.host.engine import Engine
from procession.ipc.core.backend import Backend, Request
from procession.ipc.core.operations import OPERATIONS, Nothing

#: What is echoed: the ping-pong's 64 bytes.
SMALL: Final = b"x" * 64
OFF: Final = Sandbox.off()
ECHO_TIMEOUT_S: Final = 5.0


class Starter:
    """A warm host whose sessions are started, asked once, and ended outside the timing; `spares` are forked ahead."""

    def __init__(self, spares: int = 0) -> None:
        self._host = Host(sandbox=OFF, spares=spares)
        self.start_s()  # the zygote has imported everything after the first

    def start_s(self) -> float:
        """Return the seconds from asking for a session to its first reply."""
        began = time.perf_counter()
        session = self._host.start_session()
        session.echo(SMALL)
        took = time.perf_counter() - began
        session.kill()
        self._host.remove_session(session.id)
        return took

    def has_spare(self) -> bool:
        """Say whether a forked session is waiting for its name."""
        engine = backend_of(self._host)
        assert isinstance(engine, Engine)
        return any(spare.forked and not spare.over for spare in engine.starts._spares)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._host.close()


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
    return host._link.backend


def private_bytes(pid: int) -> int:
    """Return the memory that only this process has: Private_Clean and Private_Dirty of its smaps."""
    total = 0
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
        for line in lines:
            name, _, rest = line.partition(":")
            if name in {"Private_Clean", "Private_Dirty"}:
                total += int(rest.split()[0]) * 1024
    return total


def _state(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return b""


def is_alive(pid: int) -> bool:
    """Say whether a process exists and is no zombie."""
    return _state(pid) not in {b"", b"Z", b"X"}


def children_of(pid: int) -> list[int]:
    """Return the direct children of a process."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
