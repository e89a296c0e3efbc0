"""What a thousand sessions that sleep cost their host, and that their state is all that is kept of them in memory."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import pytest

from helpers.hosts import SLACK, backend_of, count_of, median
from procession import Host, Sandbox, Session

pytestmark = pytest.mark.process

ASLEEP_FULL = 1_000
EACH_BYTES_MAX = 16 * 1024
"""Of the host's memory, beside the state of the session."""
WOKEN = 20


def anonymous_bytes() -> int:
    """Return the memory of this process that is its own."""
    gc.collect()
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Anonymous:"))


def put_to_sleep(host: Host) -> Session:
    session = host.start_session()
    session.append_message("user", "x" * 200)
    session.exec(["echo", "last words"])
    session.hibernate()
    return session


@pytest.mark.timeout(600)
@pytest.mark.parametrize("durable", [False, True], ids=["in memory", "durable"])
def test_each_costs_kilobytes_beside_its_state(durable: bool, tmp_path: Path, soak_factor: int) -> None:
    count = count_of(ASLEEP_FULL, soak_factor) * 5 if soak_factor == 1 else ASLEEP_FULL
    with Host(tmp_path / "data" if durable else None, sandbox=Sandbox.off(), serve=False) as host:
        first = [put_to_sleep(host) for _ in range(20)]
        for _ in range(10_000):  # the ring of events is the host's, and full some day
            backend_of(host).events.emit("session.ready", first[0].id, 1)  # type: ignore[attr-defined]
        before = anonymous_bytes()
        sessions = [put_to_sleep(host) for _ in range(count)]
        each = (anonymous_bytes() - before) / count
        keeping = backend_of(host).registry.find(sessions[0].id).keeping  # type: ignore[attr-defined]
        state_bytes = 0 if durable else len(keeping.fold._encoded)
        assert (keeping.fold is None) is durable
        print(f"{each - state_bytes:.0f} bytes each, beside {state_bytes} of state, {count} sessions")
        assert each - state_bytes <= SLACK * EACH_BYTES_MAX
        assert sessions[0].logs()[-1].text == "last words\n"
        assert sessions[0].committed_state() is not None


def test_waking_costs_about_what_a_start_does(host: Host) -> None:
    sleepers = [put_to_sleep(host) for _ in range(WOKEN)]
    woken, started = [], []
    for sleeper in sleepers:  # in turn, so that both meet the same machine
        began = time.perf_counter()
        sleeper.echo(b"x")
        between = time.perf_counter()
        fresh = host.start_session()
        started.append(time.perf_counter() - between)
        woken.append(between - began)
        for session in (sleeper, fresh):
            host.remove_session(session.id)
    assert median(woken) <= SLACK * median(started)
