"""Starts that fail, that fail again and again, and many at once: told with their phase, backed off, never all together."""

import itertools
import os
import signal
import time
from pathlib import Path

import pytest

from helpers.hosts import SLACK, WAIT_S, EventWatch, kill, pid_of, tree_below, wait_gone, zygote_pids
from helpers.proc import look_at
from helpers.session_faults import BOOT_FAULT, FAULT
from helpers.waiting import wait_until
from procession import Host, Sandbox, Session, SessionNotRunning, StartFailed
from procession.host.core import lifecycle_moves
from procession.ipc.core import bounds

pytestmark = [pytest.mark.process, pytest.mark.slow]

NOTICE_S = 0.050
READY_TIMEOUT_S = 20.0
MANY = 50


def order(folder: str | None, name: str, what: str) -> None:
    Path(folder or "", name).write_text(what)


@pytest.mark.guarantee("R-13")
@pytest.mark.parametrize(
    ("what", "how"),
    [("segfault", "SIGSEGV"), ("exit 0", "exit 0"), ("exit 3", "exit code 3"), ("raise", "exit code 1")],
)
def test_a_crash_while_booting_is_told_with_its_phase_and_output(
    faulty_host: Host, tmp_path: Path, what: str, how: str
) -> None:
    faulty_host.start_session()
    order(str(tmp_path), BOOT_FAULT, what)
    with EventWatch(faulty_host) as events:
        began = time.monotonic()
        with pytest.raises(StartFailed) as caught:
            faulty_host.start_session(tmp_path)
        took = time.monotonic() - began
        assert events.of("session.ready") == []
    assert took <= (NOTICE_S + 0.1) * SLACK  # the start itself is part of it
    assert caught.value.phase == "boot"
    assert caught.value.ran == "no"
    assert how in str(caught.value)
    assert f"booting into: {what}" in str(caught.value)
    assert len(faulty_host.list_sessions(all=True)) == 1  # a start that failed leaves no session behind
    os.unlink(tmp_path / BOOT_FAULT)
    assert faulty_host.start_session(tmp_path).echo(b"now") == b"now"


@pytest.mark.guarantee("R-13")
@pytest.mark.timeout(120)
def test_a_hang_while_booting_is_cut_at_the_ready_deadline(
    faulty_host: Host, tmp_path: Path, soak_factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bounds.READY_TIMEOUT_S == READY_TIMEOUT_S
    timeout_s = READY_TIMEOUT_S if soak_factor > 1 else 1.0  # the same code on a shorter clock
    monkeypatch.setattr(lifecycle_moves, "READY_TIMEOUT_S", timeout_s)
    faulty_host.start_session()
    order(str(tmp_path), BOOT_FAULT, "sleep")
    before = tree_below(*zygote_pids(faulty_host))
    began = time.monotonic()
    with pytest.raises(StartFailed) as caught:
        faulty_host.start_session(tmp_path)
    assert timeout_s <= time.monotonic() - began <= timeout_s + 0.5 * SLACK
    assert caught.value.phase == "ready"
    assert f"not ready in {timeout_s:g} s" in str(caught.value)
    assert "booting into: sleep" in str(caught.value)
    known = {seen.pid for seen in before}
    wait_gone([seen for seen in tree_below(*zygote_pids(faulty_host)) if seen.pid not in known], timeout_s=2)


@pytest.mark.guarantee("R-13", "R-14")
@pytest.mark.contract("1.9 Session.Supervisor")
@pytest.mark.timeout(120)
def test_a_crash_loop_is_backed_off_and_given_up_with_its_reason(faulty_host: Host) -> None:
    """A process that dies, and whose every successor dies while it boots: each counts, and six are enough."""
    with EventWatch(faulty_host) as events:
        session = faulty_host.start_session()
        order(session.status().project, BOOT_FAULT, "exit 3")
        kill(pid_of(session))
        waiting = session.submit(len, "waits for a process")
        failed = events.wait("session.failed", session)
        starts = [seen.at for seen in events.of("session.starting", session)]
    assert len(starts) == 6  # the first, and five restarts
    assert failed.at - starts[0] <= 30
    waits = [later - earlier for earlier, later in itertools.pairwise(starts[1:])]
    for wait, least in zip(waits, (0.1, 0.2, 0.4, 0.8), strict=True):
        assert least <= wait <= least * 1.25 + 0.1 * SLACK
    assert isinstance(waiting.exception(), SessionNotRunning)
    status = session.status()
    assert status.phase == "failed"
    assert "6 ends within 30 s" in status.reason
    assert "exit code 3" in status.reason
    began = time.monotonic()
    with pytest.raises(SessionNotRunning) as caught:
        session.run(len, "at once")
    assert time.monotonic() - began <= 0.050 * SLACK
    assert caught.value.ran == "no"
    assert "6 ends within 30 s" in str(caught.value)
    assert session.story().story[-1].after == "failed"
    os.unlink(Path(status.project or "", BOOT_FAULT))
    faulty_host.resume_session(session.id)
    assert session.run(len, "back") == 4


@pytest.mark.guarantee("R-15")
@pytest.mark.timeout(120)
def test_fifty_sessions_that_crash_together_come_back_in_order() -> None:
    with Host(sandbox=Sandbox.off()) as host, EventWatch(host) as events:
        sessions = [host.start_session() for _ in range(MANY)]
        pids = [pid_of(session) for session in sessions]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        crashed_at = time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        back = [events.wait("session.ready", session, incarnation=2, timeout_s=60).at for session in sessions]
        assert max(back) - crashed_at <= 15 * SLACK
        starts = sorted(seen.at for seen in events.of("session.ready") if seen.at > crashed_at)
        assert len(starts) == MANY
        for at in starts:
            assert sum(1 for other in starts if at <= other < at + 2) <= 40 + 8  # let in by 2 s, ready a moment later
        assert [session.echo(b"up") for session in sessions] == [b"up"] * MANY
        assert host.statistics().lag_ms_max <= 100 * SLACK
        assert host.statistics().restarts == MANY


LEAVING = [
    ("permanent", "ready", 2),
    ("transient", "stopped", 1),
    ("temporary", "stopped", 1),
]


@pytest.mark.guarantee("R-21")
@pytest.mark.parametrize(("restart", "phase", "incarnation"), LEAVING)
def test_a_session_that_leaves_normally_is_restarted_only_if_permanent(
    faulty_host: Host, restart: str, phase: str, incarnation: int
) -> None:
    with EventWatch(faulty_host) as events:
        session = faulty_host.start_session(restart=restart)  # type: ignore[arg-type]
        order(session.status().project, FAULT, "leave")
        session.modules()
        ended = events.wait("session.ended", session)
        assert ended.event.data["how"] == "exit 0"
        if restart == "permanent":
            events.wait("session.ready", session, incarnation=2)
            assert session.echo(b"again") == b"again"
        else:
            events.wait("session.stopped", session)
            with pytest.raises(SessionNotRunning) as caught:
                session.run(len, "nobody")
            assert caught.value.ran == "no"
            assert f"restart type {restart}" in str(caught.value)
        status = session.status()
        assert (status.phase, status.incarnation) == (phase, incarnation)


@pytest.mark.guarantee("R-21")
def test_calls_that_a_leaving_session_never_read_do_not_make_its_end_a_crash(faulty_host: Host) -> None:
    with EventWatch(faulty_host) as events:
        session = faulty_host.start_session()
        pid = pid_of(session)
        order(session.status().project, FAULT, "leave unread")
        session.modules()
        wait_until(lambda: (seen := look_at(pid)) is not None and seen.state == "T", "it is stopped")
        unread = [session.submit(len, "unread") for _ in range(3)]
        assert session.status().calls == 3
        os.kill(pid, signal.SIGCONT)
        assert events.wait("session.ended", session).event.data["how"] == "exit 0"
        for call in unread:
            error = call.exception(WAIT_S)
            assert isinstance(error, SessionNotRunning)
            assert (error.ran, error.session) == ("no", session.id)
        assert len({getattr(call.exception(), "call_id", "") for call in unread}) == 3
        status = session.status()
        assert (status.phase, status.restarts, status.calls) == ("stopped", 0, 0)


@pytest.mark.guarantee("R-21")
def test_a_session_that_crashes_is_restarted_unless_temporary(faulty_host: Host) -> None:
    with EventWatch(faulty_host) as events:
        for restart in ("permanent", "transient", "temporary"):
            session: Session = faulty_host.start_session(restart=restart)
            kill(pid_of(session))
            if restart == "temporary":
                events.wait("session.failed", session)
                with pytest.raises(SessionNotRunning):
                    session.run(len, "nobody")
            else:
                events.wait("session.ready", session, incarnation=2)
                assert session.run(len, "back") == 4
