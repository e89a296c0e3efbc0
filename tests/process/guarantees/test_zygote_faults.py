"""The zygote fails: cannot import, gets threads, is killed or stopped. Never silent, and every session comes back."""

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from helpers.hosts import SLACK, Counted, EventWatch, blank_keepers, count_of, kill, tree_below, wait_gone, zygote_pids
from helpers.leakguard import LeakGuard
from helpers.proc import look_at
from helpers.waiting import wait_until
from procession import Host, Sandbox, SessionDied, StartFailed
from procession.ipc import kill_points

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(600)]

BACK_S = 1.0 + 0.3
HANG_S = 6.0
PYTHON_THREAD = "import threading\nthreading.Thread(target=threading.Event().wait, name='idler', daemon=True).start()\n"
LATE_THREAD = (
    f"import gc\ndef later():\n    exec({PYTHON_THREAD!r}, {{}})\ngc.freeze = later\n"  # freezing is the last step
)


@pytest.fixture
def own_host() -> Iterator[Host]:
    """Return a host of this test alone: its zygote is going to change."""
    with Host(sandbox=Sandbox.off()) as host:
        yield host


def only_zygote(host: Host) -> int:
    (pid,) = zygote_pids(host)
    return pid


@pytest.mark.guarantee("R-23")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import not_there_at_all", "No module named 'not_there_at_all'"),
        ("1 / 0", "ZeroDivisionError"),
        ("import os; os._exit(3)", "zygote died"),
        ("import ctypes; ctypes.string_at(0)", "zygote died"),
    ],
)
def test_a_preload_that_fails_fails_the_start_with_its_traceback(
    own_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    module = tmp_path / "broken_preload.py"
    module.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StartFailed) as caught:
        own_host.start_session(preload=["broken_preload"])
    assert caught.value.phase == "import"
    assert caught.value.ran == "no"
    assert expected in str(caught.value)
    if "died" not in expected:
        assert "Traceback" in caught.value.traceback
        assert "broken_preload" in str(caught.value)
    assert own_host.list_sessions(all=True) == []
    assert own_host.start_session().run(len, "others start") == 12
    module.write_text("mended = True")
    assert "broken_preload" not in str(own_host.start_session(preload=["broken_preload"]).status().reason)


@pytest.mark.guarantee("R-23")
def test_a_host_whose_own_preload_fails_says_so_at_every_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_preload.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with Host(sandbox=Sandbox.off(), preload=["broken_preload"]) as host:
        for _ in range(2):
            with pytest.raises(StartFailed, match="ZeroDivisionError") as caught:
                host.start_session()
            assert caught.value.phase == "import"


@pytest.mark.guarantee("R-23", "R-25")
def test_a_preload_that_starts_threads_is_refused_by_name(
    own_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "threaded_preload.py").write_text(PYTHON_THREAD)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StartFailed, match=r"threaded_preload.*idler") as caught:
        own_host.start_session(preload=["threaded_preload"])
    assert (caught.value.phase, caught.value.code) == ("import", "preload_threads")


@pytest.mark.guarantee("R-25")
def test_a_zygote_that_has_got_threads_refuses_to_fork(
    own_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_preload.py").write_text(LATE_THREAD)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StartFailed, match="threads: idler"):
        own_host.start_session(preload=["late_preload"])
    assert tree_below(*zygote_pids(own_host)) == []


def stays() -> None:
    print("running", flush=True)
    time.sleep(60)  # payload: runs when its zygote is killed


@pytest.mark.guarantee("R-24")
def test_sessions_of_a_killed_zygote_come_back_on_a_new_one(
    own_host: Host, leak_guard: LeakGuard, soak_factor: int
) -> None:
    sessions = [own_host.start_session(restart=kind) for kind in ("permanent", "transient", "transient")]
    for incarnation in range(1, count_of(200, soak_factor) + 1):
        with EventWatch(own_host) as events:
            zygote = look_at(only_zygote(own_host))
            assert zygote is not None
            before = [zygote, *tree_below(zygote.pid)]
            call = Counted(sessions[0], stays)
            call.wait_printed()
            before += tree_below(zygote.pid)
            killed_at = kill(zygote.pid)
            back = [events.wait("session.ready", each, incarnation=incarnation + 1).at for each in sessions]
            assert max(back) - killed_at <= BACK_S * SLACK
            outcome = call.wait()
            assert isinstance(outcome, SessionDied)
            assert len(call.outcomes) == 1
            wait_gone(before, timeout_s=2)
            assert only_zygote(own_host) != zygote.pid
            assert all(events.of("zygote.lost"))
    assert [each.run(len, "back") for each in sessions] == [4, 4, 4]
    assert {(each.status().phase, each.status().restarts) for each in sessions} == {("ready", 0)}  # not their doing
    known = {seen.pid for seen in tree_below(os.getpid())} | blank_keepers(own_host)
    marked = leak_guard.marked_processes()  # afterwards: a keeper of the last run may still be about to go
    assert [seen for seen in marked if seen.pid not in known] == []


def has_zygote(host: Host) -> bool:
    return bool(zygote_pids(host))


@pytest.mark.guarantee("R-24")
@pytest.mark.parametrize("point", ["before_fork", "after_fork"])
def test_a_fork_request_that_meets_a_dying_zygote_is_retried(
    leak_guard: LeakGuard, monkeypatch: pytest.MonkeyPatch, point: str, soak_factor: int
) -> None:
    for _ in range(count_of(200, soak_factor)):
        monkeypatch.setenv(kill_points.VARIABLE, point)  # for the first zygote, not for its successor
        with Host(sandbox=Sandbox.off()) as host, EventWatch(host) as events:
            wait_until(partial(has_zygote, host), "the first zygote")
            monkeypatch.delenv(kill_points.VARIABLE)
            session = host.start_session()
            assert len(events.of("zygote.lost")) == 1
            assert (session.status().incarnation, session.status().restarts) == (1, 0)
            assert session.run(len, "born once") == 9
            marked = leak_guard.marked_processes()
            alone = {only_zygote(host), session.status().keeper_pid, session.status().pid, *blank_keepers(host)}
            strangers = [seen for seen in marked if seen.pid not in alone]
            wait_gone(strangers, timeout_s=1)  # a half-born session of the first zygote


@pytest.mark.guarantee("R-27")
def test_a_stopped_zygote_is_replaced_and_its_sessions_come_back(own_host: Host) -> None:
    with EventWatch(own_host) as events:
        sessions = [own_host.start_session() for _ in range(2)]
        zygote = look_at(only_zygote(own_host))
        assert zygote is not None
        before = [zygote, *tree_below(zygote.pid)]
        kill(zygote.pid, signal.SIGSTOP)
        began = time.monotonic()
        late = own_host.start_session()
        took = time.monotonic() - began
        assert 4.5 <= took <= HANG_S + 0.3 * SLACK
        assert late.run(len, "born") == 4
        for session in sessions:
            events.wait("session.ready", session, incarnation=2)
            assert session.run(len, "back") == 4
        wait_gone(before, timeout_s=2)
        lost = events.of("zygote.lost")
        assert [seen.event.data["pid"] for seen in lost] == [zygote.pid]


def dice(with_numpy: bool) -> tuple[object, ...]:
    """Throw every die that a fork could have copied."""
    import os
    import random
    import secrets
    import tempfile
    import uuid

    thrown: list[object] = [
        random.random(),
        random.Random().random(),
        str(uuid.uuid4()),
        secrets.token_hex(),
        os.urandom(8).hex(),
        next(tempfile._get_candidate_names()),  # type: ignore[attr-defined]
    ]
    if with_numpy:
        import numpy as np

        thrown += [float(np.random.random()), float(np.random.default_rng().random())]
    return tuple(thrown)


@pytest.mark.guarantee("R-28")
@pytest.mark.parametrize("preload", [(), ("numpy", "random", "uuid", "tempfile")], ids=["plain", "numpy"])
def test_no_two_forks_throw_the_same_dice(own_host: Host, soak_factor: int, preload: tuple[str, ...]) -> None:
    if preload:
        pytest.importorskip("numpy", reason="numpy is a development dependency only")
    with_numpy = "numpy" in preload
    session = own_host.start_session(preload=preload)
    throws = [session.run(dice, with_numpy) for _ in range(count_of(1000, soak_factor))]
    for _ in range(5):
        with own_host.temporary_session(preload=preload) as other:
            throws.append(other.run(dice, with_numpy))
    for column in zip(*throws, strict=True):
        assert len(set(column)) == len(throws)


@pytest.mark.guarantee("R-28")
def test_an_incarnation_has_a_number_of_its_own(own_host: Host) -> None:
    session = own_host.start_session()
    numbers = [session.status().incarnation]
    for _ in range(3):
        session.restart()
        numbers.append(session.status().incarnation)
        assert session.run(len, "it is told in its Boot") == 22
    assert numbers == [1, 2, 3, 4]
