"""The idle timeout of a session: what ends it, what does not, and who may hold it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.agents import Counter, send
from helpers.hosts import EventWatch
from helpers.waiting import wait_until
from procession import AsyncHost, Host, InvalidRequest, Sandbox, Session, SessionNotFound, SessionNotRunning

pytestmark = pytest.mark.process

IDLE_S = 0.4


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off()) as opened:
        opened.remove_session(opened.start_session().id)  # its zygote is the fixture's, not the first test's
        yield opened


def wait_stopped(session: Session, timeout_s: float = 10.0) -> None:
    wait_until(lambda: session.status().phase == "stopped", f"{session} is idle for too long", timeout_s=timeout_s)
    assert session.status().reason == "idle_timeout"


def outlives(session: Session, work: Callable[[], object] = object) -> None:
    """Have something go on, now and then, for longer than the idle timeout; the session is there all the time."""
    until = time.monotonic() + 2.5 * IDLE_S
    while time.monotonic() < until:
        threading.Event().wait(IDLE_S / 10)
        work()
        assert session.status().phase == "ready", session.status()


@pytest.mark.contract("3 idle timeout")
def test_a_session_that_nobody_calls_is_stopped_in_order(host: Host) -> None:
    with EventWatch(host) as watch:
        began = time.monotonic()
        session = host.start_session(idle_timeout=IDLE_S)
        seen = watch.wait("session.stopped", session)
        assert seen.at - began >= IDLE_S
        assert seen.event.data["detail"] == "idle_timeout"
    status = session.status()
    assert (status.phase, status.reason, status.restarts) == ("stopped", "idle_timeout", 0)
    with pytest.raises(SessionNotRunning):
        session.echo(b"x")


@pytest.mark.contract("3 idle timeout")
def test_one_without_an_idle_timeout_stays(host: Host) -> None:
    session = host.start_session()
    outlives(session)
    host.remove_session(session.id)


@pytest.mark.contract("3 idle timeout")
def test_calls_runs_commands_and_signals_keep_it(host: Host) -> None:
    session = host.start_session(agent=Counter, idle_timeout=IDLE_S)
    outlives(session, lambda: session.echo(b"x"))
    outlives(session, lambda: send(session, "counter.increment", wait=False))
    session.run(time.sleep, 2.5 * IDLE_S)
    assert session.status().phase == "ready"
    command = session.start(["sleep", "60"])
    outlives(session)
    command.kill()
    wait_stopped(session)


@pytest.mark.contract("3 attach / detach / touch")
def test_an_owner_and_a_touch_keep_it(host: Host) -> None:
    session = host.start_session(idle_timeout=IDLE_S)
    with session.attach(), session.attach():
        outlives(session)
    outlives(session, session.touch)
    wait_stopped(session)
    with pytest.raises(SessionNotFound), host_session_of_nobody(host).attach():
        pass


def host_session_of_nobody(host: Host) -> Session:
    """Return a handle on a session that is no more."""
    session = host.start_session()
    host.remove_session(session.id)
    return session


@pytest.mark.contract("3 idle timeout")
def test_it_is_watched_again_when_it_is_resumed(host: Host) -> None:
    session = host.start_session(idle_timeout=IDLE_S)
    wait_stopped(session)
    host.resume_session(session.id)
    assert (session.status().phase, session.status().reason) == ("ready", "")
    wait_stopped(session)


@pytest.mark.contract("3 InstanceManager")
def test_a_name_whose_session_was_idle_for_too_long_is_free(host: Host) -> None:
    first = host.get_or_start_session("keyed", idle_timeout=IDLE_S)
    assert host.get_or_start_session("keyed").id == first.id
    wait_stopped(first)
    again = host.get_or_start_session("keyed", idle_timeout=IDLE_S)
    assert again.id != first.id
    wait_stopped(again)


@pytest.mark.parametrize("given", [0, -1, float("nan"), float("inf"), True, "1"])
def test_a_timeout_that_is_none_is_refused(host: Host, given: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        host.start_session(idle_timeout=given)  # type: ignore[arg-type]
    assert refused.value.code == "invalid_timeout"


@pytest.mark.contract("3 attach / detach / touch")
def test_an_async_owner_keeps_it() -> None:
    async def own() -> str:
        async with AsyncHost(sandbox=Sandbox.off()) as host:
            session = await host.start_session(idle_timeout=IDLE_S)
            began = time.monotonic()
            async with session.events(follow=True) as events:
                async with session.attach():
                    while time.monotonic() - began < 2.5 * IDLE_S:
                        assert (await session.status()).phase == "ready"
                async for event in events:
                    if event.type == "session.stopped":
                        break
            return (await session.status()).reason

    assert asyncio.run(own()) == "idle_timeout"


@pytest.mark.contract("3 attach / detach / touch")
def test_an_owner_that_goes_away_without_a_word_lets_go(tmp_path: Path) -> None:
    with Host(tmp_path / "host", sandbox=Sandbox.off()) as host:
        session = host.start_session(idle_timeout=IDLE_S)
        client = subprocess.Popen(
            [sys.executable, "-c", _OWNER, str(tmp_path / "host"), session.id],
            stdout=subprocess.PIPE, stdin=subprocess.PIPE,
        )  # fmt: skip
        with client:
            assert client.stdout is not None
            with session.attach():  # for as long as it takes to start another program
                assert client.stdout.readline() == b"attached\n"
            outlives(session)
            client.kill()
        wait_stopped(session)


_OWNER = """
import sys
from procession import Host
with Host.connect(sys.argv[1]) as host, host.session(sys.argv[2]).attach():
    print("attached", flush=True)
    sys.stdin.read()
"""


def test_a_name_asked_for_while_its_session_ends_is_given_to_a_new_one(host: Host) -> None:
    first = host.get_or_start_session("ending")
    first.start(
        [
            sys.executable,
            "-c",
            "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(60)",
        ]
    )
    wait_until(lambda: any("deaf" in chunk.text for chunk in first.logs()), "it hears no SIGTERM")
    ending = threading.Thread(target=first.stop)
    ending.start()
    wait_until(lambda: first.status().phase == "stopping", "it ends")
    second = host.get_or_start_session("ending")
    ending.join(30)
    assert second.id != first.id
    assert second.get_todos() == []
    assert host.session("ending") == second
    host.remove_session(second.id)
