"""P10: changes of an agent's state per second at each durability, many under way, beside echoes and beside a sync for each row.

The change is the smallest that a code session has (its scroll offset): one action, one op, one record. 64 are under way, to
one session, as in P3. `sync` is compared with a bare SQLite that syncs after each row, on the same disk in the same run. What
the same change costs a host that keeps nothing on disk is reported, and not judged: what is left to an echo is the action.
"""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.goals import Measured
from bench.ours import OFF, SMALL, backend_of, echo_request
from bench.timing import Effort, take_turns
from procession import Host, ProcessionError, Session
from procession.api.core import agent_plans
from procession.ipc.core.backend import Outcome, Request

WINDOW: Final = 64
ROUND_TIMEOUT_S: Final = 60.0
_ROW: Final = b"x" * 64


class Changes:
    """Calls of one session, `WINDOW` of them under way; each completion makes the next."""

    def __init__(self, host: Host, session: Session, request: Request, durability: str = "") -> None:
        request.session, request.durability = session.id, durability
        self._request = request
        self._submit = backend_of(host).submit
        self._unsent = self._unanswered = 0
        self._over = threading.Event()
        self._failed: ProcessionError | None = None

    def calls_per_s(self, count: int) -> float:
        """Make `count` calls; return the rate."""
        self._over.clear()
        self._unsent, self._unanswered = count - WINDOW, count
        began = time.perf_counter()
        for _ in range(WINDOW):
            self._submit(self._request, self._done)
        if not self._over.wait(ROUND_TIMEOUT_S):
            raise TimeoutError("the pipelined calls did not all end")
        if self._failed is not None:
            raise self._failed
        return count / (time.perf_counter() - began)

    def _done(self, outcome: Outcome) -> None:
        if isinstance(outcome, ProcessionError):
            self._failed = outcome
            self._over.set()
            return
        self._unanswered -= 1
        if self._unsent > 0:
            self._unsent -= 1
            self._submit(self._request, self._done)
        elif not self._unanswered:
            self._over.set()


def _synced_rows_per_s(folder: Path, count: int) -> float:
    """Write rows to a database, each on disk before the next; return the rate."""
    with sqlite3.connect(folder / "rows.db", isolation_level=None) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE IF NOT EXISTS rows (data BLOB)")
        began = time.perf_counter()
        for _ in range(count):
            database.execute("INSERT INTO rows VALUES (?)", (_ROW,))
        took = time.perf_counter() - began
    database.close()
    return count / took


def _change(session: Session) -> Request:
    return agent_plans.set_scroll_offset(session.id, 7, 30.0).request


def measure(effort: Effort) -> Iterator[Measured]:
    """Yield the lines of P10."""
    count, rows = effort.count(4000, quick=1000), effort.count(400, quick=100)
    with (
        tempfile.TemporaryDirectory() as folder,
        Host(Path(folder) / "data", sandbox=OFF) as host,
        Host(sandbox=OFF) as bare,
    ):
        session, other = host.start_session(), bare.start_session()
        echo = Changes(host, session, echo_request(session, SMALL))
        kept = {name: Changes(host, session, _change(session), name) for name in ("memory", "batch", "sync")}
        unkept = Changes(bare, other, _change(other))
        rate = take_turns(
            {
                "echo": lambda: echo.calls_per_s(count),
                "memory": lambda: kept["memory"].calls_per_s(count),
                "batch": lambda: kept["batch"].calls_per_s(count),
                "sync": lambda: kept["sync"].calls_per_s(count),
                "unkept": lambda: unkept.calls_per_s(count),
                "rows": lambda: _synced_rows_per_s(Path(folder), rows),
            },
            effort.rounds,
        )
    what = f"state changes, {WINDOW} under way, "
    for name in ("memory", "batch"):
        yield Measured(f"P10/{name}", what + name, "free", "calls/s", rate[name], "pipelined echo", rate["echo"])
    yield Measured("P10/sync", what + "sync", "free", "calls/s", rate["sync"], "SQLite, a sync a row", rate["rows"])
    yield Measured("P10/unkept", what + "no journal", "free", "calls/s", rate["unkept"], "pipelined echo", rate["echo"])
