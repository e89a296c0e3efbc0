"""How an agent is doing, told by itself to those who follow it; and whether its session is connected."""

from __future__ import annotations

import asyncio
import os
import signal as signals
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from helpers.agents import Counter
from helpers.four_faces import FACES, play
from helpers.hosts import pid_of
from helpers.waiting import wait_until
from procession import AgentStatus, AsyncHost, Host, InvalidRequest, Sandbox, Session, SessionNotFound
from procession.agent import Turn, echo
from procession.agent_proc.status_teller import PAUSE_S

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off(), preload=["pydantic"]) as opened:
        opened.remove_session(opened.start_session().id)  # its zygote is the fixture's
        yield opened


@pytest.fixture
def start(host: Host) -> Iterator[Callable[..., Session]]:
    started: list[Session] = []

    def begin(**spec: Any) -> Session:
        started.append(host.start_session(**spec))
        return started[-1]

    yield begin
    for session in started:
        try:
            host.remove_session(session.id)
        except SessionNotFound:
            pass


def until(
    following: Iterator[AgentStatus], wanted: Callable[[AgentStatus], bool], most: int = 200
) -> list[AgentStatus]:
    """Return what is told until it is as wanted."""
    seen: list[AgentStatus] = []
    for status in following:
        seen.append(status)
        if wanted(status):
            return seen
        assert len(seen) < most, seen
    raise AssertionError(f"it ended: {seen}")


def says_and_waits(turn: Turn) -> Iterator[str]:
    yield "well, "
    time.sleep(60)  # payload: until it is ended


@pytest.mark.contract("3 state / status / stream_status")
def test_who_follows_is_told_how_it_is_and_whatever_is_new(start: Callable[..., Session]) -> None:
    counter = start(agent=Counter)
    with counter.follow_agent_status() as following:
        first = next(following)
        assert first == counter.agent_status()
        assert (first.agent, first.status, first.finished, first.errors) == ("Counter", "idle", "", 0)
        counter.call("counter.later", {"ms": 3_600_000})
        counter.call("counter.cron", {"job": "nightly"})
        counter.cast("counter.fail")
        seen = until(following, lambda one: one.errors == 1 and one.schedules == 1 and one.status == "idle")
        assert seen[-1] == counter.agent_status()
        assert seen[-1].jobs == ("nightly",)
        counter.call("counter.finish")
        assert until(following, lambda one: one.finished == "completed")[-1].status == "idle"


@pytest.mark.contract("3 state / status / stream_status")
def test_an_agent_that_is_busy_is_told_a_few_times_and_the_last_is_how_it_is(start: Callable[..., Session]) -> None:
    counter = start(agent=Counter)
    began = time.monotonic()
    with counter.follow_agent_status() as following:
        next(following)
        for round_ in range(1, 21):
            counter.call("counter.emit", {"count": 250, "to": "self"})
            wait_until(lambda done=250 * round_: counter.query_state("count") == done, "it has done it all")  # type: ignore[misc]
        counter.call("counter.finish")
        seen = until(following, lambda one: one.finished == "completed" and one.queued == 0)
    assert any(one.status == "processing" and one.queued > 0 for one in seen)
    assert all(one != other for one, other in pairwise(seen))
    assert len(seen) <= (time.monotonic() - began) / PAUSE_S + 2


@pytest.mark.contract("1.11 is_processing")
def test_a_session_that_gives_an_answer_is_processing(start: Callable[..., Session]) -> None:
    session = start(responder=says_and_waits)
    assert session.is_processing() is False
    with session.follow_agent_status() as following:
        assert next(following).status == "idle"
        with session.send_message_stream("hello") as answer:
            assert next(answer) == "well, "
            assert until(following, lambda one: one.status == "processing")
            assert session.is_processing() is True
        until(following, lambda one: one.status == "idle")
    assert session.is_processing() is False


@pytest.mark.contract("3 state / status / stream_status")
def test_each_that_asks_is_told_at_once_and_nobody_twice(start: Callable[..., Session]) -> None:
    counter = start(agent=Counter)
    with counter.follow_agent_status() as first:
        assert next(first).status == "idle"
        with counter.follow_agent_status() as second:
            assert next(second).status == "idle"
        counter.call("counter.finish")
        assert [one.finished for one in until(first, lambda one: bool(one.finished))] == ["completed"]


@pytest.mark.contract("3 state / status / stream_status")
def test_a_new_process_tells_how_it_is_and_the_end_of_the_session_is_the_end(
    host: Host, start: Callable[..., Session]
) -> None:
    counter = start(agent=Counter)
    with counter.follow_agent_status() as following:
        counter.call("counter.later", {"ms": 3_600_000})
        until(following, lambda one: one.schedules == 1)
        os.kill(pid_of(counter), signals.SIGKILL)
        until(following, lambda one: one.schedules == 0)  # what is delayed is lost with its process
        counter.stop()
        assert [one.status for one in following][-1:] == ["stopping"]
        assert list(following) == []
    with counter.follow_agent_status() as late:
        assert list(late) == []
    host.resume_session(counter.id)
    with counter.follow_agent_status() as again:
        assert next(again).status == "idle"


def test_closing_it_ends_who_waits_for_news(start: Callable[..., Session]) -> None:
    counter = start(agent=Counter)
    following = counter.follow_agent_status()
    next(following)
    rest: list[AgentStatus] = []
    reader = threading.Thread(target=lambda: rest.extend(following))
    reader.start()
    following.close()
    reader.join(10)
    assert not reader.is_alive()
    assert rest == []


def test_who_asks_how_an_agent_is_gets_no_signals_and_makes_none(start: Callable[..., Session]) -> None:
    session = start()
    with session.follow_agent_status() as following:
        next(following)
        session.append_message("user", "unheard")
    assert session.signals() == []


@pytest.mark.contract("3 state / status / stream_status")
@pytest.mark.parametrize("face", FACES)
def test_it_is_followed_on_every_face(face: str, tmp_path: Path) -> None:
    async def scenario(host: Any) -> None:
        session = await host.start_session()
        async with session.follow_agent_status() as following:
            assert (await anext(following)).agent == "code_session"
            await session.streaming.start()
            assert (await anext(following)).status == "processing"
            assert await session.is_processing() is True
        await session.stop()

    play(face, tmp_path, scenario)


# --- connecting -------------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.11 connection status", "1.9 start_agent / stop_agent / agent_running?")
@pytest.mark.parametrize("face", FACES)
def test_a_session_with_a_responder_connects_and_another_cannot(face: str, tmp_path: Path) -> None:
    async def scenario(host: Any) -> None:
        session, silent = await host.start_session(responder=echo), await host.start_session()
        assert await session.connection_status() == "disconnected"
        assert (await session.connect()).connection_status == "connected"
        assert await session.connection_status() == "connected"
        assert (await session.disconnect()).connection_status == "disconnected"
        assert (await session.disconnect()).connection_status == "disconnected"
        with pytest.raises(InvalidRequest) as caught:
            await silent.connect()
        assert caught.value.code == "no_responder"
        assert await silent.connection_status() == "error"
        assert await silent.get_state() == await silent.committed_state()

    play(face, tmp_path, scenario)


def test_an_agent_of_one_s_own_has_nothing_to_connect(start: Callable[..., Session]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        start(agent=Counter).connect()
    assert caught.value.code == "not_a_code_session"


def test_the_async_face_closes_it_too() -> None:
    async def go() -> None:
        async with AsyncHost(sandbox=Sandbox.off()) as host:
            session = await host.start_session()
            following = session.follow_agent_status()
            assert (await anext(following)).status == "idle"
            waiting = asyncio.ensure_future(anext(following))
            await asyncio.sleep(0)
            await following.aclose()
            with pytest.raises(StopAsyncIteration):
                await waiting

    asyncio.run(go())
