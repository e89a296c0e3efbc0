"""A cast is taken at once, however busy the agent is, and handled; what cannot be handled is set aside and said so."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from helpers.four_faces import FACES, play
from helpers.hosts import EventWatch
from helpers.waiting import wait_until
from procession import ExpiredInQueue, Host, InvalidRequest, Sandbox, Session
from procession.agent import Agent, AppendItems, Change, action
from procession.ipc.core.bounds import MAILBOX_COMMANDS_MAX

pytestmark = [pytest.mark.process, pytest.mark.contract("3 cast")]


class Taken(BaseModel):
    items: list[int] = []


class Taker(Agent[Taken]):
    @action("take")
    def take(self, item: int) -> Change:
        return Change((AppendItems(("items",), (item,)),)).replying(item)

    @action("block")
    def block(self, fifo: str) -> Change:
        """Wait until somebody writes: an action does no such thing, but one may be slow."""
        with open(fifo, "rb") as waiting:
            select.select([waiting], [], [])
        return Change()

    @action("die")
    def die(self, seen: str) -> Change:
        with open(seen, "a") as file:
            file.write("x")
        os._exit(7)

    @action("taken.exact")
    def exact(self, item: int) -> Change:
        return Change().replying(f"exact {item}")

    @action("taken.*")
    def pattern(self, **data: object) -> Change:
        return Change().replying("pattern")


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off()) as opened:
        opened.remove_session(opened.start_session(agent=Taker).id)  # its zygote is the fixture's
        yield opened


@pytest.fixture
def session(host: Host) -> Iterator[Session]:
    started = host.start_session(agent=Taker)
    yield started
    host.remove_session(started.id)


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return str(path)


def let_go(fifo: str) -> None:
    """End a `block`."""
    with open(fifo, "wb") as writing:
        writing.write(b"x")


def test_who_casts_goes_on_though_the_agent_is_at_work(session: Session, fifo: str) -> None:
    began = time.monotonic()
    session.cast("block", {"fifo": fifo})
    ids = [session.cast("take", {"item": number}, timeout=0.001) for number in range(50)]
    assert time.monotonic() - began < 5
    assert session.committed_state() == {"items": []}
    let_go(fifo)
    assert session.await_result(ids[-1]) == 49
    assert session.get_state()["items"] == list(range(50))


def test_who_casts_more_than_the_mailbox_holds_waits_for_room_and_nothing_is_lost(session: Session) -> None:
    count = 2 * MAILBOX_COMMANDS_MAX

    def cast(first: int) -> None:
        for number in range(first, first + count):
            session.cast("take", {"item": number}, timeout=60)

    casting = [threading.Thread(target=cast, args=(first,)) for first in (0, count, 2 * count)]
    for one in casting:
        one.start()
    for one in casting:
        one.join(60)
    last = session.cast("take", {"item": -1})
    session.await_result(last, timeout=60)
    items = session.get_state()["items"]
    assert sorted(items) == list(range(-1, 3 * count))
    for first in (0, count, 2 * count):
        own = [item for item in items if first <= item < first + count]
        assert own == sorted(own)


def test_a_cast_with_a_full_mailbox_waits_as_long_as_it_is_told(session: Session, fifo: str) -> None:
    session.cast("block", {"fifo": fifo})
    with open(fifo, "wb") as gate:  # which opens once the action waits at it
        for number in range(MAILBOX_COMMANDS_MAX):
            session.cast("take", {"item": number})
        with pytest.raises(ExpiredInQueue) as caught:
            session.cast("take", {"item": -1}, timeout=0.2)
        assert caught.value.ran == "no"
        gate.write(b"x")
    wait_until(
        lambda: len((session.committed_state() or {})["items"]) == MAILBOX_COMMANDS_MAX, "all that was taken is handled"
    )


def test_one_that_kills_its_process_is_given_once_more_and_then_set_aside(
    host: Host, session: Session, tmp_path: Path
) -> None:
    with EventWatch(host) as events:
        session.cast("die", {"seen": str(tmp_path / "seen")})
        set_aside = events.wait("session.signal_set_aside", session)
    assert (set_aside.event.data["about"], (tmp_path / "seen").read_text()) == ("die", "xx")
    assert session.call("take", {"item": 1}, timeout=15) == 1


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"type": "no type!"}, "invalid_signal_type"),
        ({"type": 3}, "invalid_signal_type"),
        ({"type": "take", "id": ""}, "invalid_signal_id"),
        ({"type": "take", "extensions": {"Not Small": 1}}, "invalid_signal_extensions"),
        ({"type": "take", "extensions": 3}, "invalid_signal_extensions"),
    ],
)
def test_what_is_no_signal_is_told_who_casts_it(session: Session, given: dict[str, object], code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        session.send_signal(**given)  # type: ignore[arg-type]
    assert caught.value.code.startswith(code)


@pytest.mark.contract("2.3 all that match run", "3 call")
def test_a_call_is_answered_by_the_most_exact_route_its_error_too(session: Session) -> None:
    assert session.call("taken.exact", {"item": 3}) == "exact 3"
    assert session.call("taken.other") == "pattern"
    with pytest.raises(InvalidRequest, match="wrong parameters for exact"):
        session.call("taken.exact", {"item": "three"})
    assert session.await_result(session.cast("taken.exact", {"item": 4})) == "exact 4"


@pytest.mark.parametrize("face", FACES)
def test_every_face_goes_on_at_once(face: str, tmp_path: Path, fifo: str) -> None:
    async def scenario(host: Any) -> None:
        session = await host.start_session(agent=Taker)
        await session.cast("block", {"fifo": fifo})
        ids = [await session.send_signal("take", {"item": number}, timeout=0.5) for number in range(3)]
        let_go(fifo)
        assert await session.await_result(ids[-1]) == 2
        with pytest.raises(InvalidRequest):
            await session.cast("no type!")

    play(face, tmp_path, scenario)
