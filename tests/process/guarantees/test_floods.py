"""A session that floods, with output, notices, children or calls: its own limits, not the host's problem."""

import concurrent.futures
import os
import threading
import time
from pathlib import Path

import pytest

from helpers.hosts import SLACK, WAIT_S, EventWatch, median
from helpers.session_faults import FAULT
from procession import Host, MailboxFull, Session, SessionLimitReached
from procession.ipc.core.bounds import EVENT_BURST, EVENT_RATE_S

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.guarantee("R-22")]

HOST_CPU = 0.20
MEASURED_S = 2.0
STARTED_MAX = 64
PROMPT_S = 0.002  # a ping takes 0.05 ms; not beside a busy flooder on a small machine


def host_cpu_during(seconds: float) -> float:
    """Return which part of one core this process used."""
    began, used = time.monotonic(), time.process_time()
    threading.Event().wait(seconds)  # what is measured is what the host does meanwhile
    return (time.process_time() - used) / (time.monotonic() - began)


def prints_bytes() -> None:
    block = b"x" * 65536
    while True:
        os.write(1, block)


def prints_lines() -> None:
    while True:
        print("a line of output")


@pytest.mark.parametrize(("flood", "share"), [(prints_bytes, HOST_CPU), (prints_lines, HOST_CPU * SLACK)])
def test_a_flood_of_output_costs_the_host_little(session: Session, flood, share: float) -> None:
    got = [0]
    run = session.submit(flood, on_output=lambda chunk: got.__setitem__(0, got[0] + len(chunk.data)))
    assert host_cpu_during(MEASURED_S) <= share
    assert 0 < got[0] <= 8 << 20
    run.cancel()


def test_a_flood_of_notices_costs_the_host_little_and_is_counted(faulty_host: Host) -> None:
    flooder, sibling = faulty_host.start_session(), faulty_host.start_session()
    with EventWatch(faulty_host) as events:
        Path(flooder.status().project or "", FAULT).write_text("notices")
        began = time.monotonic()
        flooder.modules()
        events.wait("session.notice", flooder, count=EVENT_BURST // 2)
        assert host_cpu_during(MEASURED_S) <= HOST_CPU
        beside = [sibling.ping() for _ in range(100)]
        told = events.of("session.notice", flooder)
        assert len(told) <= EVENT_BURST + EVENT_RATE_S * (time.monotonic() - began) * SLACK
        assert sum(int(seen.event.data.get("dropped") or 0) + seen.event.dropped for seen in told) > 0
    assert median(beside) <= PROMPT_S * SLACK
    assert flooder.run(len, "it answers") == 10  # slowly, which is its own affair
    assert flooder.kill().left == 0


def test_more_commands_than_a_session_may_have_are_refused(session: Session) -> None:
    for _ in range(STARTED_MAX):
        session.start(["sleep", "3600"])
    with pytest.raises(SessionLimitReached) as caught:
        session.start(["sleep", "3600"])
    assert caught.value.ran == "no"
    assert session.run(len, "it goes on") == 10
    session.processes()[0].kill()
    session.processes()[0].wait()
    session.start(["sleep", "3600"])


def waits_for(place: str) -> None:
    with open(place, "rb") as fifo:
        fifo.read()


def test_more_calls_than_a_mailbox_holds_are_refused_at_once(start, tmp_path: Path) -> None:
    session, sibling = start(parallel_runs=1), start()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    calls, waits, most = [], [], 0
    for _ in range(600):
        began = time.monotonic()
        calls.append(session.submit(waits_for, str(gate)))
        waits.append(time.monotonic() - began)
        most = max(most, session.status().calls)
    assert most <= 256 + 16  # what waits, and what runs
    assert median(waits) <= 0.010 * SLACK
    assert median(sibling.ping() for _ in range(100)) <= PROMPT_S * SLACK
    refused = [call for call in calls if call.done()]
    assert len(refused) >= 600 - 2 * (256 + 16)
    assert all(isinstance(call.exception(), MailboxFull) for call in refused)
    for call in calls:
        call.cancel()
    assert not concurrent.futures.wait(calls, timeout=WAIT_S).not_done
    held = [call for call in calls if call.cancelled() or not isinstance(call.exception(), MailboxFull)]
    assert len(held) <= 512  # 256 in the mailbox, 256 in the session; what the session itself refused was not held
