"""Code of the program that blocks the host's loop: it is named while it does, and the sessions do not wait for it."""

import asyncio
import time

import pytest

from helpers.hosts import SLACK, WAIT_S, EventWatch
from helpers.waiting import wait_until
from procession import AsyncHost, Host, Sandbox
from procession.host.lag_monitor import LAG_WARN_S

pytestmark = pytest.mark.process

BLOCKED_S = 0.6
FIGURE_S = 0.1


def block_in_a_callback() -> None:
    time.sleep(BLOCKED_S)  # payload: what blocks the loop


def block_below_the_standard_library() -> None:
    import subprocess

    subprocess.run(["sleep", str(BLOCKED_S)], check=True)


def work_for_a_while(seconds: float) -> tuple[float, float]:
    """Say that it works; return when it began and ended."""
    began = time.monotonic()
    print("begun", flush=True)
    time.sleep(seconds)  # payload: work that ends while the loop is blocked
    return began, time.monotonic()


@pytest.mark.guarantee("R-37")
def test_a_callback_that_blocks_the_hosts_thread_is_named_while_sessions_go_on(host: Host, events: EventWatch) -> None:
    assert LAG_WARN_S == FIGURE_S
    with host.temporary_session() as session, host.temporary_session() as other:
        began: list[float] = []

        def blocks() -> None:
            began.append(time.monotonic())
            block_in_a_callback()

        warnings = host.statistics().lag_warnings
        host._link.backend.reactor.call_soon(blocks)  # type: ignore[attr-defined]
        wait_until(lambda: bool(began), "the callback that blocks")
        answered = 0
        while not events.of("host.lag"):
            assert session.echo(b"one") == b"one"  # a waiting caller reads for itself
            assert other.run(len, "three") == 5
            answered += 1
            assert time.monotonic() - began[0] < BLOCKED_S * SLACK
        told = events.of("host.lag")[0]
        assert FIGURE_S <= told.at - began[0] <= BLOCKED_S  # while it still blocks
        assert time.monotonic() - began[0] < BLOCKED_S, "the calls waited for the loop"
        assert answered >= 1
        assert "block_in_a_callback" in str(told.event.data["culprit"])
        assert f"({__file__}:" in str(told.event.data["culprit"])
        assert float(told.event.data["seconds"] or 0) >= FIGURE_S
        done = host.statistics()
        assert done.lag_culprit == told.event.data["culprit"]
        assert done.lag_warnings == warnings + 1
        assert done.lag_ms_max >= FIGURE_S * 1e3


@pytest.mark.guarantee("R-37")
def test_a_done_callback_of_a_future_is_named(host: Host, events: EventWatch) -> None:
    """The place where a program most easily blocks the host: what it hangs on a future runs in the host's thread."""
    with host.temporary_session() as session:
        future = session.submit(len, "three")
        future.add_done_callback(lambda _: block_in_a_callback())
        assert future.result(WAIT_S) == 5
        told = events.wait("host.lag")
        assert "block_in_a_callback" in str(told.event.data["culprit"])
        assert session.run(len, "goes on") == 7


@pytest.mark.guarantee("R-37")
def test_each_turn_that_blocks_is_told_once_and_none_that_does_not(host: Host, events: EventWatch) -> None:
    reactor = host._link.backend.reactor  # type: ignore[attr-defined]
    warnings = host.statistics().lag_warnings
    for number in (1, 2):
        reactor.call_soon(block_in_a_callback)
        events.wait("host.lag", count=number)
        with host.temporary_session() as session:
            assert session.run(len, "three") == 5
    assert len(events.of("host.lag")) == 2
    assert host.statistics().lag_warnings == warnings + 2


@pytest.mark.guarantee("R-37")
@pytest.mark.parametrize("blocks", [block_in_a_callback, block_below_the_standard_library])
def test_what_blocks_the_programs_own_loop_is_named_and_the_runs_go_on(blocks) -> None:
    async def main() -> None:
        async with AsyncHost(sandbox=Sandbox.off()) as host, host.temporary_session() as session:
            assert await session.run(len, "warm") == 4
            begun = asyncio.Event()
            working = session.submit(work_for_a_while, BLOCKED_S / 3, on_output=lambda _: begun.set())
            await begun.wait()
            began = time.monotonic()
            blocks()
            ended = time.monotonic()
            worked_from, worked_until = await working
            assert worked_from < began, "the test blocked too late"
            assert worked_until < ended, "the run waited for the loop"
            statistics = await host.statistics()
            (lag,) = [event for event in await host.events(since=0) if event.type == "host.lag"]
            assert lag.data["culprit"] == statistics.lag_culprit
            assert blocks.__name__ in statistics.lag_culprit
            assert FIGURE_S <= float(lag.data["seconds"] or 0) <= ended - began
            assert statistics.lag_warnings == 1
            assert await session.run(len, "goes on") == 7

    asyncio.run(main())
