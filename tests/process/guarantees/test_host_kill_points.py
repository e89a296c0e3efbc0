"""A host killed at every named point of its own: nothing acknowledged is lost or doubled, and nothing of it is left."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.host_program import HostProgram
from helpers.kill_matrix import Case, Trigger, run_case
from procession import Host, Session

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(120)]

WRITING = {
    "memory": ("before_append", "mid_append", "after_append"),
    "batch": ("before_append", "mid_append", "after_append", "before_reply"),
    "sync": ("before_append", "mid_append", "after_append", "after_sync", "before_reply"),
}
"""Where an append may be when its host dies, by what was asked for."""
SNAPSHOTS = ("mid_snapshot", "after_snapshot")
BRIEFLY = {("batch", 8), ("sync", 8)}
"""What of the matrix is not left for a soak."""


def cells() -> list[object]:
    """List the matrix: every point that is reached, for one client and for eight."""
    return [
        pytest.param(
            point,
            clients,
            durability,
            id=f"{point}-{clients}-{durability}",
            marks=() if (durability, clients) in BRIEFLY else pytest.mark.soak,
        )
        for durability, points in WRITING.items()
        for point in points
        for clients in (1, 8)
    ]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[HostProgram]:
    made = HostProgram(tmp_path / "data")
    made.folder.mkdir(mode=0o700)
    yield made
    made.close()


def start_another(host: Host, _: Session) -> None:
    host.start_session(name="another")


def restart(_: Host, session: Session) -> None:
    session.restart()


def stop(host: Host, _: Session) -> None:
    other = host.start_session(name="other")
    other.append_message("user", "kept")
    other.stop()


TRIGGERS: dict[str, tuple[Trigger, ...]] = {"mid_spawn": (start_another, restart), "mid_stop": (stop,)}
"""What leads to the points that no append gets to."""


@pytest.mark.guarantee("R-29", "R-30", "R-32")
@pytest.mark.parametrize(("point", "clients", "durability"), cells())
def test_killed_while_it_writes(program: HostProgram, point: str, clients: int, durability: str) -> None:
    run_case(program, Case(point, clients, durability)).check(may_lose=durability == "memory")


@pytest.mark.guarantee("R-16", "R-31")
@pytest.mark.parametrize("clients", [pytest.param(1, marks=pytest.mark.soak), 8], ids=["one", "eight"])
@pytest.mark.parametrize("point", SNAPSHOTS)
def test_killed_while_it_takes_a_snapshot(program: HostProgram, point: str, clients: int) -> None:
    run_case(program, Case(point, clients)).check()


@pytest.mark.guarantee("R-26", "R-32")
@pytest.mark.parametrize("clients", [0, 8], ids=["idle", "eight"])
@pytest.mark.parametrize(
    ("point", "trigger"), [(point, trigger) for point, triggers in TRIGGERS.items() for trigger in triggers]
)
def test_killed_while_a_session_begins_or_ends(
    program: HostProgram, point: str, trigger: Trigger, clients: int
) -> None:
    run_case(program, Case(point, clients), trigger).check()
