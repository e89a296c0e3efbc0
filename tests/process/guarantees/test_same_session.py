"""R-35: one session started by many at once: one of them starts it, the others are told which one it is."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from operator import methodcaller
from pathlib import Path

import pytest

from helpers.hosts import count_of, tree_below
from procession import AlreadyExists, Host, Sandbox, Session

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(1800)]

RACERS = 8


@pytest.fixture(scope="module")
def served() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off(), serve=True) as host:
        host.remove_session(host.start_session().id)
        yield host


@pytest.fixture(params=["threads", "clients"])
def doors(request: pytest.FixtureRequest, served: Host) -> Iterator[list[Host]]:
    """Return the host as each racer has it: the same for all, or a client of its own over the control socket."""
    with ExitStack() as stack:
        if request.param == "threads":
            yield [served] * RACERS
        else:
            folder = Path(served.data_dir)
            yield [stack.enter_context(Host.connect(folder, sandbox=Sandbox.off())) for _ in range(RACERS)]


def race(doors: list[Host], start: Callable[[Host], Session]) -> tuple[list[Session], list[AlreadyExists]]:
    """Start from every door at once; those who did, and what the others were told."""
    line = threading.Barrier(len(doors))
    started: list[Session] = []
    refused: list[AlreadyExists] = []

    def run(door: Host) -> None:
        line.wait(20)
        try:
            started.append(start(door))
        except AlreadyExists as error:
            refused.append(error)

    racers = [threading.Thread(target=run, args=(door,)) for door in doors]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert len(started) + len(refused) == len(doors)
    return started, refused


def check_one_process(served: Host, session: Session) -> None:
    starts = [one for one in served.events() if one.session == session.id and one.type == "session.ready"]
    assert len(starts) == 1
    status = served.session(session.id).status()
    assert (status.phase, status.incarnation) == ("ready", 1)
    assert len(tree_below(status.keeper_pid or 0)) == 1


@pytest.mark.guarantee("R-35")
def test_one_id_is_started_once_and_the_others_are_told_which(
    served: Host, doors: list[Host], soak_factor: int
) -> None:
    for _ in range(count_of(1000, soak_factor)):
        ident = str(uuid.uuid4())
        started, refused = race(doors, methodcaller("start_session", session_id=ident))
        (session,) = started
        assert {(error.code, error.session, error.ran) for error in refused} == {("session_exists", ident, "no")}
        assert session.id == ident
        for door, error in zip(doors, refused, strict=False):
            assert error.session is not None
            assert door.session(error.session).echo(b"usable") == b"usable"
        check_one_process(served, session)
        served.remove_session(ident)


@pytest.mark.guarantee("R-35")
def test_one_name_is_started_once_and_everybody_has_it(served: Host, doors: list[Host], soak_factor: int) -> None:
    for number in range(count_of(1000, soak_factor)):
        name = f"named {number}"
        started, refused = race(doors, methodcaller("get_or_start_session", name))
        assert refused == []
        assert len({session.id for session in started}) == 1
        assert all(session.echo(b"usable") == b"usable" for session in started)
        check_one_process(served, started[0])
        served.remove_session(started[0].id)


@pytest.mark.guarantee("R-35")
def test_one_folder_is_opened_once(served: Host, doors: list[Host], tmp_path: Path, soak_factor: int) -> None:
    for _ in range(count_of(200, soak_factor)):
        started, refused = race(doors, lambda door: door.start_session(tmp_path))
        (session,) = started
        assert {(error.code, error.session) for error in refused} == {("project_already_open", session.id)}
        check_one_process(served, session)
        served.remove_session(session.id)
