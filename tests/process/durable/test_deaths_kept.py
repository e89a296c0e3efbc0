"""A session dies around its answer: what it had said counts, whatever the journal takes; what it had not is told as it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.agents import Counter
from helpers.hosts import count_of
from helpers.waiting import wait_until
from procession import Host, Sandbox, Session, SessionDied
from procession.ipc import kill_points

pytestmark = pytest.mark.process


@pytest.fixture
def order(tmp_path: Path) -> Path:
    """Return the file that arms a point while it is there."""
    return tmp_path / "point"


@pytest.fixture
def session(order: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setenv(kill_points.VARIABLE, str(order))
    with Host(folder, sandbox=Sandbox.off()) as host:
        yield host.start_session(agent=Counter, restart="permanent")


def arm(order: Path, point: str) -> None:
    draft = order.with_suffix(".draft")
    draft.write_text(point)
    draft.rename(order)


def notes(session: Session) -> list[str]:
    state = session.get_state(timeout=20)
    assert isinstance(state, dict)
    return list(state["notes"])


@pytest.mark.guarantee("R-03")
@pytest.mark.parametrize("durability", ["memory", "batch", "sync"])
def test_what_was_answered_is_answered_though_its_process_is_gone(
    session: Session, order: Path, durability: str, soak_factor: int
) -> None:
    kept = session.using(durability=durability)  # type: ignore[arg-type]
    count = count_of(300, soak_factor) // 5
    for number in range(count):
        arm(order, "after_report")
        kept.call("counter.note", {"text": str(number)}, timeout=20)
        wait_until(lambda: not order.exists(), "the death right after the answer", timeout_s=20)
        session.restart()  # so that it is not given up as a crash loop
    assert notes(session) == [str(number) for number in range(count)]


@pytest.mark.guarantee("R-03")
def test_a_large_answer_is_read_from_what_the_dead_process_left(session: Session, order: Path) -> None:
    text = "x" * 200_000
    session.call("counter.note", {"text": text}, timeout=20)
    arm(order, "after_report")
    assert notes(session) == [text]


@pytest.mark.guarantee("R-02")
def test_what_was_not_said_did_not_happen_and_that_is_told(session: Session, order: Path) -> None:
    arm(order, "before_report")
    with pytest.raises(SessionDied) as caught:
        session.call("counter.note", {"text": "lost"}, timeout=20)
    assert (caught.value.ran, caught.value.applied) == ("maybe", False)
    assert caught.value.report is not None
    assert (caught.value.report.applied, caught.value.report.restored_to) == (False, session.status().number)
    assert notes(session) == []
    once = session.using(call_id="again")
    arm(order, "before_report")
    with pytest.raises(SessionDied):
        once.call("counter.note", {"text": "once"}, timeout=20)
    once.call("counter.note", {"text": "once"}, timeout=20)  # nothing of it was kept, so it is no outcome
    assert notes(session) == ["once"]
