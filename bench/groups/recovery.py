"""R-33 and R-64: how long it takes until what a former host left is there again.

recovery: a folder with 100 code sessions of 1000 changes each, none of them in a snapshot, which is more than a host ever leaves
(snapshot_policy.py); timed from opening the host until every session has a process and its state. `lazy`: until they are listed.
restore: one session after ever more changes, made through a host as any other, killed with it; timed from asking the next host
for a message until it is there. Whatever the age, it must not grow.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.goals import Measured
from bench.ours import OFF
from bench.timing import Effort, Figure
from procession import Host
from procession.host.core.journal import encode_record
from procession.host.core.journal_entries import Append, Record
from procession.host.storage.sqlite_store import SqliteStore
from procession.ipc.core.state_op_types import AppendItems
from procession.ipc.core.state_ops import encode_ops

SESSIONS: Final = 100
RECORDS: Final = 1000
AGES: Final = (100, 2_000, 20_000)
READY_S: Final = 60.0
_MESSAGES_KEPT: Final = 1000

_APPENDER: Final = """
import sys
from procession import Host, Sandbox
with Host(sys.argv[1], sandbox=Sandbox.off(), durability="memory") as host:
    session = host.start_session(name="old")
    for number in range(int(sys.argv[2])):
        session.append_message("user", f"message {number}")
    session.using(durability="batch").append_message("user", "the last")
    print("ready", flush=True)
    sys.stdin.read()
"""


def _changes(session: str) -> list[Append]:
    """Return what a session writes for that many messages."""
    found = []
    for number in range(1, RECORDS + 1):
        message = {
            "id": f"{session[:8]}-{number}",
            "role": "user",
            "content": f"message {number}",
            "timestamp": datetime.now(UTC),
            "metadata": {},
        }
        ops = bytes(encode_ops([AppendItems(("messages",), (message,), _MESSAGES_KEPT)]))
        found.append(Append(session, number, encode_record(Record(number, 1, number, 0.0, ops))))
    return found


def _fill(folder: Path) -> None:
    """Leave a folder behind as a host that was killed would."""
    with Host(folder, sandbox=OFF) as host:
        ids = [host.start_session(name=f"s{number}").id for number in range(SESSIONS)]
    store = SqliteStore.open(folder)
    for session in ids:
        changes = _changes(session)
        for first in range(0, RECORDS, 10):  # ten records a group: a busy session's
            store.write(changes[first : first + 10], sync=False)
    store.close()


def _recovered_s(folder: Path) -> tuple[float, float]:
    """Open a host on it; return the seconds until its sessions are listed, and until all are up."""
    began = time.perf_counter()
    with Host(folder, sandbox=OFF, restore="eager") as host:
        assert len(host.list_sessions()) == SESSIONS
        listed = time.perf_counter() - began
        while any(one.phase != "ready" for one in host.list_sessions()):
            if time.perf_counter() - began > READY_S:
                raise TimeoutError("not all sessions came up")
            time.sleep(0.005)
        took = time.perf_counter() - began
        state = host.session("s7").get_messages(limit=2)
        assert [message.content for message in state] == ["message 1", "message 2"]
    return listed, took


def _restored_s(folder: Path, age: int) -> float:
    """Make a session that old, kill its host, and return the seconds from asking the next one to the answer."""
    process = subprocess.Popen(
        [sys.executable, "-c", _APPENDER, str(folder), str(age)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with Host(folder, sandbox=OFF) as host:
        host.remove_session(host.start_session().id)  # the zygote is warm
        session = host.session("old")
        began = time.perf_counter()
        session.append_message("user", "again")
        took = time.perf_counter() - began
        assert session.get_messages()[-2].content == "the last"
    return took


def measure(effort: Effort) -> Iterator[Measured]:
    """Yield the lines of recovery."""
    rounds = 3 if effort.quick else 5
    listed, ups = [], []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        _fill(data)
        for _ in range(rounds):
            first, all_up = _recovered_s(data)
            listed.append(first)
            ups.append(all_up)
    what = f"{SESSIONS} sessions x {RECORDS} changes: "
    yield Measured("R33/eager", what + "all up", "free", "ms", Figure(tuple(ups)).scaled(1e3))
    yield Measured("R33/lazy", what + "listed", "free", "ms", Figure(tuple(listed)).scaled(1e3))
    ages = AGES[:2] if effort.quick else AGES
    for age in ages:
        with tempfile.TemporaryDirectory() as folder:
            took = [_restored_s(Path(folder) / str(n), age) for n in range(1 if age > AGES[1] else 3)]
        figure = Figure(tuple(took)).scaled(1e3)
        yield Measured(f"R64/{age}", f"a session of {age} changes answers again", "free", "ms", figure)
