"""A session killed at every named point of its own: each call ends once, what was acknowledged is there, nothing runs twice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers.agents import Counter
from helpers.hosts import EventWatch, kill, pid_of
from helpers.waiting import wait_until
from procession import Host, ProcessionError, Sandbox, Session, SessionDied
from procession.ipc import kill_points

pytestmark = [pytest.mark.process, pytest.mark.slow]

STARTING = ("after_bootstrap", "before_ready")
CALLED = ("after_receive", "mid_step", "before_report", "after_report")
WITHOUT_A_TRACE = ("mid_step", "before_report")
"""Whoever dies there has begun, and told nobody: nothing of what it was at is kept."""


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file that arms a point while it is there."""
    return tmp_path_factory.mktemp("order") / "point"


@pytest.fixture(scope="module")
def armed_host(order: Path) -> Iterator[Host]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(kill_points.VARIABLE, str(order))
        with Host(sandbox=Sandbox.off()) as host:
            host.remove_session(host.start_session(agent=Counter).id)
            yield host


@pytest.fixture
def session(armed_host: Host) -> Iterator[Session]:
    session = armed_host.start_session(agent=Counter)
    yield session
    armed_host.remove_session(session.id)


def arm(order: Path, point: str) -> None:
    draft = order.with_suffix(".draft")
    draft.write_text(point)
    draft.rename(order)


def note(session: Session, text: str) -> ProcessionError | None:
    """Have the agent keep a note; the error it ended with, if it did."""
    try:
        session.call("counter.note", {"text": text}, timeout=20)
    except ProcessionError as error:
        return error
    return None


def notes(session: Session) -> list[str]:
    state = session.get_state()
    assert isinstance(state, dict)
    return list(state["notes"])


def wait_for_the_death(order: Path) -> None:
    wait_until(lambda: not order.exists(), "the death at the point", timeout_s=20)


@pytest.mark.guarantee("R-02", "R-04", "R-13")
@pytest.mark.parametrize("count", [0, 1, 8], ids=["idle", "one", "eight"])
@pytest.mark.parametrize("kind", ["call", "cast"])
@pytest.mark.parametrize("point", STARTING)
def test_killed_while_it_starts_again(
    armed_host: Host, session: Session, order: Path, point: str, kind: str, count: int
) -> None:
    """The process that follows a death dies too: what waits for it waits for the next one, and is run once, in order."""
    assert note(session, "before") is None
    with EventWatch(armed_host) as events:
        arm(order, point)
        kill(pid_of(session))
        sent = [f"note {number}" for number in range(count)]
        if kind == "cast":
            for text in sent:
                session.cast("counter.note", {"text": text})
        else:
            with ThreadPoolExecutor(8) as pool:
                assert list(pool.map(lambda text: note(session, text), sent)) == [None] * count
        wait_for_the_death(order)
        events.wait("session.ready", session)
    found = notes(session)
    assert found == ["before", *sent] if kind == "cast" else sorted(found) == sorted(["before", *sent])
    assert (session.status().incarnation, session.status().restarts) == (3, 2)


@pytest.mark.guarantee("R-02", "R-04")
@pytest.mark.parametrize("count", [1, 8], ids=["one", "eight"])
@pytest.mark.parametrize("point", CALLED)
def test_killed_in_a_call(session: Session, order: Path, point: str, count: int) -> None:
    """What was begun ends unknown, or with its answer if that had been written; what was not is run once, by the next one."""
    assert note(session, "before") is None
    sent = [f"note {number}" for number in range(count)]
    arm(order, point)
    with ThreadPoolExecutor(8) as pool:
        ended = dict(zip(sent, pool.map(lambda text: note(session, text), sent), strict=True))
    wait_for_the_death(order)
    assert all(error is None or isinstance(error, SessionDied) for error in ended.values())
    acknowledged = [text for text, error in ended.items() if error is None]
    found = notes(session)
    assert len(found) == len(set(found))
    assert set(found) == {"before", *acknowledged}
    assert (len(acknowledged) < count) == (point in WITHOUT_A_TRACE)
    assert (session.status().incarnation, session.status().restarts) == (2, 1)


@pytest.mark.guarantee("R-04", "R-17")
@pytest.mark.parametrize("count", [1, 8], ids=["one", "eight"])
@pytest.mark.parametrize("point", CALLED)
def test_killed_with_a_signal(session: Session, order: Path, point: str, count: int) -> None:
    """Nobody waits for a signal: it is given to the next process unless it was done, and all of them stay in order."""
    assert note(session, "before") is None
    arm(order, point)
    sent = [f"note {number}" for number in range(count)]
    for text in sent:
        session.cast("counter.note", {"text": text})
    wait_for_the_death(order)
    assert note(session, "after") is None
    assert notes(session) == ["before", *sent, "after"]
    assert (session.status().incarnation, session.status().restarts) == (2, 1)
