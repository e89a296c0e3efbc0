"""R-08: a session process that grows is replaced when it is quiet: no call fails, nothing is lost, nothing is counted."""

from __future__ import annotations

import os
import threading

import pytest
from pydantic import BaseModel

from helpers.hosts import EventWatch, count_of, pid_of
from helpers.waiting import wait_until
from procession import Host, InvalidRequest, Session
from procession.agent import Agent, Change, action

pytestmark = pytest.mark.process

MiB = 1024 * 1024
CALLS_FULL = 1_000_000
"""Of a day: as many as one caller makes that calls twelve times a second."""
HOST_SLOPE_BYTES = 24 * MiB
"""What the host may grow in such a day: 1 MiB in an hour of it."""
ROOM_BYTES = 24 * MiB
"""What the agent leaks until its process is over its limit."""
CALLERS = 4


class LeakyState(BaseModel):
    count: int = 0


class Leaky(Agent[LeakyState]):
    """Counts, and forgets to let go of something at each call."""

    @action("leaky.call")
    def call(self, leak_bytes: int) -> Change:
        _HELD.append(b"x" * leak_bytes)
        return Change.set(count=self.state.count + 1).replying(os.getpid())


_HELD: list[bytes] = []


def rss_of(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def limited(host: Host, **fields: object) -> Session:
    """Start a session that may grow by so much; its agent's own need is found out first."""
    probe = host.start_session(agent=Leaky)
    probe.call("leaky.call", {"leak_bytes": 0})
    needed = rss_of(pid_of(probe))
    host.remove_session(probe.id)
    return host.start_session(agent=Leaky, recycle_above=needed + ROOM_BYTES, **fields)  # type: ignore[arg-type]


@pytest.mark.guarantee("R-08")
@pytest.mark.timeout(3_600)
def test_a_leak_ends_with_its_process_and_no_call_notices(host: Host, soak_factor: int) -> None:
    calls_each = count_of(CALLS_FULL, soak_factor) // CALLERS
    session = limited(host)
    leak_bytes = 3 * ROOM_BYTES // (CALLERS * calls_each)
    failures: list[Exception] = []
    pids: set[object] = set()

    def call() -> None:
        for _ in range(calls_each):
            try:
                pids.add(session.call("leaky.call", {"leak_bytes": leak_bytes}, timeout=20))
            except Exception as error:
                failures.append(error)

    with EventWatch(host) as watch:
        _warm(session)
        before = rss_of(os.getpid())
        callers = [threading.Thread(target=call) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        grown = rss_of(os.getpid()) - before
        event = watch.wait("session.recycled", session).event
    assert failures == []
    assert event.data["rss_bytes"] > event.data["above"]  # type: ignore[operator]
    state = session.committed_state()
    assert state is not None
    assert state["count"] == CALLERS * calls_each + WARM_CALLS
    status = session.status()
    assert len(pids) == status.incarnation >= 2
    assert status.restarts == 0
    assert grown <= HOST_SLOPE_BYTES
    host.remove_session(session.id)


WARM_CALLS = 2_000


def _warm(session: Session) -> None:
    """Let the host allocate what it needs once, so that its growth is seen alone."""
    for _ in range(WARM_CALLS):
        session.call("leaky.call", {"leak_bytes": 0})


@pytest.mark.guarantee("R-08")
def test_what_a_new_process_would_lose_is_left_alone_until_it_is_not_there_any_more(host: Host) -> None:
    session = limited(host)
    command = session.start(["sleep", "60"])
    session.call("leaky.call", {"leak_bytes": 2 * ROOM_BYTES})
    pid = pid_of(session)
    with EventWatch(host) as watch:
        run = session.submit(_wait, 2.5)  # longer than the host takes to look twice
        run.result(20)
        assert pid_of(session) == pid
        command.kill()
        wait_until(lambda: not command.status().running, "its command is over")
        watch.wait("session.recycled", session)
        watch.wait("session.ready", session)
    assert pid_of(session) != pid
    assert session.call("leaky.call", {"leak_bytes": 0}) == pid_of(session)
    host.remove_session(session.id)


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def test_one_whose_state_alone_is_too_large_is_not_replaced_again_and_again(host: Host) -> None:
    session = host.start_session(agent=Leaky, recycle_above=1)
    with EventWatch(host) as watch:
        watch.wait("session.recycled", session)
        watch.wait("session.ready", session)
        session.submit(_wait, 2.5).result(20)
        assert [seen.event.type for seen in watch.seen].count("session.recycled") == 1
    host.remove_session(session.id)


@pytest.mark.parametrize("given", [0, -1, "much", True])
def test_a_size_that_is_none_is_refused(host: Host, given: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        host.start_session(recycle_above=given)  # type: ignore[arg-type]
    assert refused.value.code == "invalid_limit"
