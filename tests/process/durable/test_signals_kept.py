"""Signals reach their session at least once: over the death of the host too, and set aside where nobody can take them."""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from helpers.cli import procession
from helpers.host_program import HostProgram
from helpers.hosts import EventWatch
from helpers.waiting import wait_until
from procession import Host, InvalidRequest, Sandbox, Session
from procession.agent import Agent, AppendItems, Change, action

pytestmark = pytest.mark.process


class Taken(BaseModel):
    items: list[int] = []


class Taker(Agent[Taken]):
    @action("take")
    def take(self, item: int) -> Change:
        return Change((AppendItems(("items",), (item,)),)).replying(item)

    @action("block")
    def block(self, fifo: str) -> Change:
        """Wait until somebody writes, or the host dies and this with it."""
        with open(fifo, "rb") as waiting:
            select.select([waiting], [], [])
        return Change()

    @action("die")
    def die(self, once: str) -> Change:
        """Die, unless that was done before as often as there are letters to read."""
        if Path(once).read_text():
            Path(once).write_text(Path(once).read_text()[1:])
            os._exit(7)
        return self.take(1)


def items(session: Session) -> list[int]:
    state = session.committed_state()
    assert isinstance(state, dict)
    return list(state["items"])


@pytest.fixture(params=["ephemeral", "durable"])
def host(request: pytest.FixtureRequest, folder: Path) -> Iterator[Host]:
    """Return a host that keeps nothing on disk, and one that does."""
    with Host(folder if request.param == "durable" else None, sandbox=Sandbox.off()) as opened:
        yield opened


def test_what_was_taken_is_handled_by_the_next_host(program: HostProgram, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with program.up() as host:
        session = host.start_session(name="taker", agent=Taker)
        session.cast("block", {"fifo": str(tmp_path / "fifo")})
        for number in range(100):
            session.cast("take", {"item": number})
        assert items(session) == []
        program.kill()
    os.unlink(tmp_path / "fifo")
    (tmp_path / "fifo").write_text("go on")  # a file: what blocked does not, the second time
    with program.up() as host:
        session = host.session("taker")
        wait_until(
            lambda: len(items(session)) == 100, "the next host has handed on what the first had taken", timeout_s=20
        )
        assert items(session) == list(range(100))
        assert session.set_aside() == []


@pytest.mark.guarantee("R-17")
def test_what_kills_its_session_is_set_aside_and_can_be_retried_or_dropped(host: Host, tmp_path: Path) -> None:
    deaths = tmp_path / "deaths"
    session = host.start_session(agent=Taker)
    with EventWatch(host) as events:
        for count in (1, 2):
            deaths.write_text("xx")
            session.cast("die", {"once": str(deaths)})
            events.wait("session.signal_set_aside", session, count=count)
            assert deaths.read_text() == ""  # exactly two deaths
            session.restart()
    first, second = session.set_aside()
    assert (first.type, first.code, first.deaths) == ("die", "session_died", 2)
    assert session.call("take", {"item": 0}) == 0
    session.retry_signal(first.id)
    wait_until(lambda: items(session) == [0, 1], "the one that was retried is handled")
    assert [one.id for one in session.set_aside()] == [second.id]
    session.drop_signal(second.id)
    assert session.set_aside() == []
    for again in (session.retry_signal, session.drop_signal):
        with pytest.raises(InvalidRequest) as caught:
            again(first.id)
        assert caught.value.code == "signal_not_found"


def test_what_a_stopped_session_had_not_handled_is_set_aside(host: Host, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    session = host.start_session(agent=Taker)
    session.cast("block", {"fifo": str(tmp_path / "fifo")})
    session.cast("take", {"item": 1})
    session.stop(grace=0)
    wait_until(lambda: len(session.set_aside()) > 0, "what was left over is set aside")
    assert session.set_aside()[-1].type == "take"


def test_what_is_set_aside_outlives_the_host_and_the_command_line_shows_it(
    program: HostProgram, tmp_path: Path
) -> None:
    deaths = tmp_path / "deaths"
    deaths.write_text("xx")
    with program.up() as host:
        session = host.start_session(name="taker", agent=Taker)
        with EventWatch(host) as events:
            session.cast("die", {"once": str(deaths)})
            events.wait("session.signal_set_aside", session)
        (before,) = session.set_aside()
        assert program.down() == 0
    with program.up() as host:
        assert host.session("taker").set_aside() == [before]
        shown = procession("aside", "taker", "--data-dir", program.folder)
        assert (shown.code, before.id in shown.out, "die" in shown.out) == (0, True, True)
        assert procession("aside", "taker", "--retry", before.id, "--json", "--data-dir", program.folder).json == []
        wait_until(lambda: items(host.session("taker")) == [1], "the one that was retried is handled")
