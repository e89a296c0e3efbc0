"""A real session process: its mailbox, its status page, and how it ends. The harness plays the host."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.proc import look_at
from helpers.session_harness import INCARNATION, SessionProcess
from helpers.waiting import wait_until
from procession.agent_proc.session import BREACH_EXIT
from procession.ipc.core.bounds import BOOT_EXIT, WIRE_VERSION
from procession.ipc.core.connection import Connection
from procession.ipc.core.messages import Call, Inline, encode
from procession.ipc.core.operations import Nothing

pytestmark = pytest.mark.process


@pytest.fixture
def session(tmp_path: Path) -> Iterator[SessionProcess]:
    with SessionProcess(tmp_path) as session:
        yield session


def sleeper(seconds: float) -> None:
    time.sleep(seconds)  # payload: outlives its deadline


def ignores_sigterm(seconds: float) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ignoring", flush=True)
    time.sleep(seconds)  # payload: has to be killed


def test_ready_names_version_incarnation_and_pid(session: SessionProcess) -> None:
    assert session.ready is not None
    assert (session.ready.version, session.ready.inc) == (WIRE_VERSION, INCARNATION)
    seen = look_at(session.pid)
    assert seen is not None


def test_another_version_is_answered_with_our_own(tmp_path: Path) -> None:
    with SessionProcess(tmp_path, version=99) as session:
        assert session.ready is not None
        assert session.ready.version == WIRE_VERSION


def test_echo_gives_back_body_and_payload_as_they_are(session: SessionProcess) -> None:
    outcome = session.ask("echo", b"\x93\x01\x02\x03", payload=b"bytes\0\xff")
    assert outcome.body == [1, 2, 3]
    assert outcome.payload == b"bytes\0\xff"


def test_many_calls_at_once_are_all_answered(session: SessionProcess) -> None:
    outcomes = [session.call("echo", encode(number)) for number in range(2_000)]
    session.wait(*outcomes)
    assert [outcome.body for outcome in outcomes] == list(range(2_000))


def test_a_session_imports_nothing_heavy_and_lists_its_modules(session: SessionProcess) -> None:
    modules = session.ask("modules").body["modules"]
    assert modules == sorted(modules)
    heavy = {"asyncio", "pydantic", "typer", "rich", "psutil", "numpy", "multiprocessing", "uvloop"}
    assert not heavy.intersection(modules)


@pytest.mark.parametrize(
    ("op", "body", "code"),
    [
        ("no_such_operation", b"\xc0", "unknown_operation"),
        ("start_session", b"\xc0", "unknown_operation"),
        ("run", b"\x91\x01", "bad_body"),
        ("run", b"\xa3abc", "bad_body"),
        ("run", encode({"label": 5}), "bad_body"),
        ("run", encode({"limits": {"memory": "a lot"}}), "bad_body"),
        ("exec", encode({"argv": []}), "empty_command"),
        ("exec", encode({"argv": ["a\0b"]}), "null_byte"),
        ("exec", encode({"argv": ["true"], "env": {"A=B": "c"}}), "bad_variable"),
        ("run_code", encode({}), "bad_body"),
        ("process_wait", encode({"process": "p99"}), "no_such_process"),
        ("process_signal", encode({"process": "p1", "how": "gently"}), "bad_body"),
    ],
)
def test_a_bad_request_is_refused_and_the_session_goes_on(
    session: SessionProcess, op: str, body: bytes, code: str
) -> None:
    error = session.ask(op, body).error
    assert error is not None
    assert (error.kind, error.code, error.ran) == ("InvalidRequest", code, "no")
    assert session.ask("ping", control=True).error is None


def test_a_call_of_another_incarnation_is_dropped(session: SessionProcess) -> None:
    session.send(Call(INCARNATION + 1, 500, "ping"), control=True)
    assert session.ask("ping", control=True).error is None
    assert session.other == []


def test_bytes_that_are_no_protocol_end_the_session(session: SessionProcess) -> None:
    session.write_raw(b"\xff" * 64)
    ended = session.wait_gone()
    assert os.waitstatus_to_exitcode(ended.raw_status) == BREACH_EXIT
    assert b"broke the protocol" in session.crash_output


def test_the_end_of_the_mailbox_ends_the_session_and_what_it_runs(session: SessionProcess) -> None:
    run = session.begin_run(ignores_sigterm, 60)
    session.pump_until(lambda: bool(run.chunks))
    os.close(session.mail_w)
    session.mail_w = os.dup(session.crash_r)  # so that `end` has something to close
    ended = session.wait_gone()
    assert os.waitstatus_to_exitcode(ended.raw_status) == 0
    assert ended.left == 0


def test_shutdown_of_an_idle_session_is_a_clean_exit(session: SessionProcess) -> None:
    before = time.monotonic()
    session.shutdown()
    ended = session.wait_gone()
    assert (os.waitstatus_to_exitcode(ended.raw_status), ended.found, ended.left) == (0, 0, 0)
    assert time.monotonic() - before < 2.0


def test_shutdown_answers_what_runs_and_what_waits(tmp_path: Path) -> None:
    with SessionProcess(tmp_path, parallel_runs=1) as session:
        live = session.begin_run(ignores_sigterm, 60)
        queued = session.begin_run(sleeper, 60)
        cell = session.begin_code("import time\nprint('on', flush=True)\ntime.sleep(60)")
        process = session.ask("start", encode({"argv": ["sleep", "60"]}))
        session.pump_until(lambda: bool(live.chunks and cell.chunks))
        assert process.error is None
        before = time.monotonic()
        session.shutdown()
        session.wait(live, queued, cell)
        late = session.call("run")
        ended = session.wait_gone()
        assert time.monotonic() - before < 3.0
        assert live.error is not None
        assert queued.error is not None
        assert cell.error is not None
        assert (live.error.kind, live.error.ran) == ("CallCancelled", "maybe")
        assert (queued.error.kind, queued.error.ran) == ("SessionNotRunning", "no")
        assert (cell.error.kind, cell.error.ran) == ("CallCancelled", "maybe")
        assert late.error is None or late.error.kind == "SessionNotRunning"
        assert (os.waitstatus_to_exitcode(ended.raw_status), ended.left) == (0, 0)


def test_shutdown_without_time_ends_everything_at_once(session: SessionProcess) -> None:
    run = session.begin_run(ignores_sigterm, 60)
    session.pump_until(lambda: bool(run.chunks))
    before = time.monotonic()
    session.shutdown(grace_s=0.0)
    ended = session.wait_gone()
    assert time.monotonic() - before < 2.0
    assert ended.left == 0


@pytest.mark.guarantee("R-41")
def test_a_host_that_does_not_read_does_not_keep_the_session_from_reading(session: SessionProcess) -> None:
    session.connection = Connection("host", incarnation=INCARNATION)  # without credit: all at once
    session.connection.greeted = True
    session.reading = False
    body = encode(b"x" * 200_000)
    outcomes = [session.call("echo", body) for _ in range(40)]
    session.pump_until(lambda: not (session._unwritten or session.connection.wants_write))
    session.reading = True
    session.wait(*outcomes)
    assert all(outcome.body == b"x" * 200_000 for outcome in outcomes)


def test_a_control_call_overtakes_what_is_queued_before_it(session: SessionProcess) -> None:
    session.connection = Connection("host", incarnation=INCARNATION)
    session.connection.greeted = True
    session.reading = False
    big = [session.call("echo", encode(b"x" * 1_000_000)) for _ in range(8)]
    ping = session.call("ping", control=True)
    session.pump_until(lambda: not (session._unwritten or session.connection.wants_write))
    session.reading = True
    session.wait(ping, *big)
    assert ping.answered_at < min(outcome.answered_at for outcome in big[1:])


def test_the_status_page_tells_started_from_finished(session: SessionProcess) -> None:
    assert session.page().last_started == 0
    session.wait(*[session.call("echo", b"\xc0") for _ in range(3)])
    page = session.page()
    assert (page.last_started, page.last_finished, page.runs) == (3, 3, 0)
    run = session.begin_run(ignores_sigterm, 60)
    session.pump_until(lambda: bool(run.chunks))
    page = session.page()
    assert (page.last_started, page.last_finished, page.runs, page.running) == (4, 3, 1, 0)
    tick = page.tick
    session.ask("ping", control=True)
    assert session.page().tick > tick


def test_an_idle_session_wakes_for_nothing(session: SessionProcess) -> None:
    session.run(os.getpid)
    session.ask("echo", b"\xc0")
    stat = Path(f"/proc/{session.pid}/stat")
    wait_until(lambda: b") S " in stat.read_bytes(), "the session sleeps")
    wait_until(lambda: b"read" in _where(session.pid), "it sleeps in a plain read, not in a poll")


def _where(pid: int) -> bytes:
    """Name the system call that the process is in."""
    number = Path(f"/proc/{pid}/syscall").read_bytes().split()[0]
    return {b"0": b"read", b"7": b"poll", b"63": b"read", b"73": b"ppoll"}.get(number, number)


def test_a_missing_working_directory_is_said(tmp_path: Path) -> None:
    with SessionProcess(tmp_path) as probe:
        assert probe.run(os.getcwd).value == str(tmp_path)
    with SessionProcess(tmp_path / "gone", boot=False) as session:
        session.boot()
        ended = session.wait_gone()
        assert os.waitstatus_to_exitcode(ended.raw_status) == BOOT_EXIT
        assert b"cannot enter" in session.crash_output


def test_inline_and_empty_payloads_of_an_echo(session: SessionProcess) -> None:
    outcome = session.ask("echo", Nothing(), payload=Inline(b""))
    assert outcome.payload == b""
    assert session.ask("echo", Nothing()).payload is None
