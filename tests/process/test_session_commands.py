"""`exec` and `start` in a real session process: commands, their output, and the processes that stay."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from helpers.session_harness import Outcome, SessionProcess
from procession.ipc.core.bounds import OUTPUT_RING_BYTES, KiB, MiB
from procession.ipc.core.limits import Limits
from procession.ipc.core.messages import Arena
from procession.ipc.core.operations import ExecBody, ProcessBody, ProcessSignalBody, ProcessWriteBody
from procession.ipc.core.records import ProcessInfo

pytestmark = pytest.mark.process


@pytest.fixture
def session(tmp_path: Path) -> Iterator[SessionProcess]:
    with SessionProcess(tmp_path) as session:
        yield session


# --- exec -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("argv", "shell", "exit_code", "out", "err"),
    [
        (("echo", "a b", "*"), False, 0, b"a b *\n", b""),
        (("echo a  b | tr a-z A-Z; echo no >&2; exit 3",), True, 3, b"A B\n", b"no\n"),
        (("sh", "-c", "kill -TERM $$"), False, -15, b"", b""),
        (("printf", r"\377\000x"), False, 0, b"\xff\0x", b""),
        (("cat",), False, 0, b"", b""),
        (("false",), False, 1, b"", b""),
    ],
    ids=["argv", "shell", "signal", "bytes", "empty-stdin", "exit1"],
)
def test_a_command_gives_its_output_and_exit_code(
    session: SessionProcess, argv: tuple[str, ...], shell: bool, exit_code: int, out: bytes, err: bytes
) -> None:
    outcome = session.exec(*argv, shell=shell)
    assert outcome.output == (out, err)
    assert outcome.body.exit_code == exit_code
    assert outcome.streamed(1) == out
    assert outcome.streamed(2) == err
    assert outcome.report.signal == ("SIGTERM" if exit_code == -15 else None)


def test_the_peak_of_a_command_is_its_own_whole_one(session: SessionProcess) -> None:
    code = "import resource; b'x' * (64 << 20); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    for limits in (Limits(), Limits(memory="512M")):
        outcome = session.exec(sys.executable, "-c", code, limits=limits)
        own_peak = int(outcome.output[0]) * KiB
        assert 0 <= outcome.report.peak_memory_bytes - own_peak < 4 * MiB


@pytest.mark.parametrize("size", [0, 5, 200_000])
def test_input_is_what_was_given(session: SessionProcess, size: int) -> None:
    data = os.urandom(size)
    assert session.exec("cat", payload=data).output[0] == data
    os.pwrite(session.arena_in, data, 4096)
    outcome = session.ask("exec", ExecBody(argv=("cat",)), payload=Arena(4096, size))
    assert outcome.output[0] == data


def test_where_and_with_which_environment_a_command_runs(session: SessionProcess) -> None:
    (session.cwd / "sub").mkdir()
    out = session.exec("sh", "-c", "pwd; env", cwd="sub", env={"EXTRA": "ä", "HOME": "/elsewhere"}).output[0].decode()
    assert out.splitlines()[0] == str(session.cwd / "sub")
    assert "EXTRA=ä" in out
    assert "HOME=/elsewhere" in out
    assert f"PATH={os.environ['PATH']}" in out
    assert "HOST_SECRET" not in out


def test_a_command_has_no_descriptor_but_the_three(session: SessionProcess) -> None:
    out = session.exec(sys.executable, "-c", "import os; print(os.listdir('/proc/self/fd'))").output[0]
    assert out == b"['0', '1', '2', '3']\n"  # 3 is the listing's own


def test_a_command_gets_the_signals_of_a_fresh_program(session: SessionProcess) -> None:
    out = session.exec("sh", "-c", "yes | head -n 1; grep -E 'Sig(Blk|Ign)' /proc/self/status", timeout_s=10).output[0]
    assert out.startswith(b"y\n")
    assert out.splitlines()[1:] == [b"SigBlk:\t" + b"0" * 16, b"SigIgn:\t" + b"0" * 16]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (ExecBody(argv=("no-such-command-here",)), "command_not_found"),
        (ExecBody(argv=("/no/such/command",)), "command_not_found"),
        (ExecBody(argv=("./plain.txt",)), "not_executable"),
        (ExecBody(argv=("./nonsense",)), "not_executable"),
        (ExecBody(argv=("true",), cwd="no-such-folder"), "cwd_missing"),
        (ExecBody(argv=("true",), cwd="plain.txt"), "cwd_missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.argv[0],
)
@pytest.mark.parametrize("op", ["exec", "start"])
def test_what_cannot_be_started_was_not_run(session: SessionProcess, op: str, body: ExecBody, code: str) -> None:
    (session.cwd / "plain.txt").write_text("text")
    (session.cwd / "nonsense").write_bytes(b"\x7fELFnot really")
    (session.cwd / "nonsense").chmod(0o755)
    error = session.ask(op, body).error
    assert error is not None
    assert (error.kind, error.code, error.ran) == ("InvalidRequest", code, "no")
    assert session.ask("processes").body == {}


def test_a_command_past_its_deadline_is_ended_with_its_tree(session: SessionProcess) -> None:
    outcome = session.exec("sh", "-c", "trap '' TERM; sleep 60 & sleep 60", timeout_s=0.3)
    assert outcome.error is not None
    assert outcome.error.kind == "ToolTimedOut"
    assert outcome.report.receipt.found >= 1
    assert outcome.report.receipt.left == 0


def test_what_a_command_leaves_behind_is_ended_with_it(session: SessionProcess) -> None:
    before = time.monotonic()
    outcome = session.exec("sh", "-c", "setsid sleep 60 & echo started")
    assert time.monotonic() - before < 5.0
    assert outcome.output[0] == b"started\n"
    assert outcome.report.receipt.found == 1


# --- output ---------------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-46")
def test_the_first_line_of_a_long_command_is_seen_at_once(session: SessionProcess) -> None:
    before = time.monotonic()
    outcome = session.call("exec", ExecBody(argv=("sh", "-c", "echo first; sleep 60")))
    session.pump_until(lambda: bool(outcome.chunks))
    assert outcome.first_output_at - before < 0.5  # 100 ms on a machine at rest
    assert outcome.streamed(1) == b"first\n"
    session.cancel(outcome.seq)
    session.wait(outcome)


@pytest.mark.guarantee("R-46")
@pytest.mark.parametrize("mebibytes", [64, pytest.param(1024, marks=pytest.mark.soak)])
def test_a_flood_is_finished_and_every_byte_of_it_counted(session: SessionProcess, mebibytes: int) -> None:
    size = mebibytes * MiB
    outcome = session.exec("head", "-c", str(size), "/dev/zero", timeout_s=55)
    out, _ = outcome.output
    assert len(out) == OUTPUT_RING_BYTES
    assert outcome.body.stdout_dropped == size - OUTPUT_RING_BYTES
    assert len(outcome.streamed(1)) + outcome.dropped == size
    assert 1 * MiB <= len(outcome.streamed(1)) <= 32 * MiB
    assert outcome.streams_open == set()


@pytest.mark.guarantee("R-46")
def test_a_flood_keeps_nobody_from_being_answered(session: SessionProcess) -> None:
    outcome = session.call("exec", ExecBody(argv=("cat", "/dev/zero")))
    session.pump_until(lambda: outcome.dropped > 0)
    worst = 0.0
    for _ in range(50):
        before = time.monotonic()
        session.ask("ping", control=True)
        worst = max(worst, time.monotonic() - before)
    assert worst < 0.5
    session.cancel(outcome.seq)
    session.wait(outcome)


@pytest.mark.guarantee("R-46")
def test_bytes_that_are_no_text_come_through_a_run_and_a_command(session: SessionProcess) -> None:
    data = bytes(range(256)) * 40
    outcome = session.run(lambda: os.write(1, data) and None)
    assert outcome.error is None
    assert outcome.streamed(1) == data
    assert session.exec("cat", payload=data).output[0] == data


def test_a_reader_without_credit_is_sent_its_window_and_the_rest_is_counted(session: SessionProcess) -> None:
    session.auto_credit = False
    outcome = session.exec("head", "-c", str(800 * KiB), "/dev/zero")
    assert len(outcome.streamed(1)) <= 256 * KiB
    assert len(outcome.streamed(1)) + outcome.dropped == 800 * KiB
    assert len(outcome.output[0]) == 800 * KiB


def test_a_silent_run_streams_nothing_and_an_answer_comes_after_its_output(session: SessionProcess) -> None:
    silent = session.exec("true")
    assert silent.chunks == []
    loud = session.exec("seq", "20000")
    assert loud.streamed(1) == loud.output[0]
    assert loud.streams_open == set()
    assert loud.first_output_at <= loud.answered_at


def test_output_over_its_limit_ends_a_command(session: SessionProcess) -> None:
    outcome = session.exec("cat", "/dev/zero", limits=Limits(output="2M"))
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.limit) == ("ToolLimitExceeded", "output")


# --- start ----------------------------------------------------------------------------------------------------
def info(outcome: Outcome) -> ProcessInfo:
    assert outcome.error is None, outcome.error
    return msgspec.convert(outcome.body, ProcessInfo)


def start(session: SessionProcess, *argv: str) -> tuple[ProcessInfo, Outcome]:
    outcome = session.ask("start", ExecBody(argv=argv))
    return info(outcome), outcome


def listed(session: SessionProcess) -> list[ProcessInfo]:
    return [msgspec.convert(one, ProcessInfo) for one in session.ask("processes").body.get("processes", ())]


def test_a_started_process_is_listed_streams_and_is_waited_for(session: SessionProcess) -> None:
    process, outcome = start(session, "sh", "-c", "echo hello; read line; echo got $line; exit 4")
    assert (process.id, process.running, process.exit_code) == ("p1", True, None)
    assert process.pid
    session.pump_until(lambda: outcome.streamed(1) == b"hello\n")
    assert [one.id for one in listed(session)] == ["p1"]
    wait = session.call("process_wait", ProcessBody(process="p1"))
    session.ask("process_write", ProcessWriteBody(process="p1"), payload=b"one line\n")
    session.wait(wait)
    over = info(wait)
    assert (over.running, over.exit_code) == (False, 4)
    assert over.report is not None
    assert over.report.receipt.left == 0
    assert outcome.streamed(1) == b"hello\ngot one line\n"
    assert outcome.streams_open == set()
    again = info(session.ask("process_wait", ProcessBody(process="p1")))
    assert again.exit_code == 4
    assert [one.running for one in listed(session)] == [False]


def test_the_end_of_input_is_told_to_the_process(session: SessionProcess) -> None:
    _, outcome = start(session, "cat")
    data = os.urandom(300_000)
    session.ask("process_write", ProcessWriteBody(process="p1"), payload=data[:250_000])
    session.ask("process_write", ProcessWriteBody(process="p1", close=True), payload=data[250_000:])
    over = info(session.ask("process_wait", ProcessBody(process="p1")))
    assert over.exit_code == 0
    assert len(outcome.streamed(1)) + outcome.dropped == 300_000
    error = session.ask("process_write", ProcessWriteBody(process="p1"), payload=b"x").error
    assert error is not None
    assert error.code == "input_closed"


def test_input_that_nobody_reads_is_bounded(session: SessionProcess) -> None:
    start(session, "sleep", "60")
    write = ProcessWriteBody(process="p1")
    outcomes = [session.ask("process_write", write, payload=b"x" * 500_000) for _ in range(20)]
    assert outcomes[0].error is None
    refused = outcomes[-1].error
    assert refused is not None
    assert (refused.kind, refused.code) == ("MailboxFull", "input_full")


@pytest.mark.parametrize(
    ("how", "exit_code"), [("interrupt", -signal.SIGINT), ("terminate", -signal.SIGTERM), ("kill", -signal.SIGKILL)]
)
def test_a_process_is_signalled(session: SessionProcess, how: str, exit_code: int) -> None:
    start(session, "sleep", "60")
    outcome = session.ask("process_signal", ProcessSignalBody(process="p1", how=how))  # type: ignore[arg-type]
    told = info(outcome)
    if how != "interrupt":
        assert not told.running
    over = info(session.ask("process_wait", ProcessBody(process="p1")))
    assert over.exit_code == exit_code
    assert not info(session.ask("process_signal", ProcessSignalBody(process="p1", how="kill"))).running


def test_a_wait_that_is_given_up_leaves_the_process_alone(session: SessionProcess) -> None:
    start(session, "sleep", "60")
    timed = session.ask("process_wait", ProcessBody(process="p1"), timeout_s=0.05)
    assert timed.error is not None
    assert (timed.error.kind, timed.error.ran) == ("CallTimedOut", "yes")
    wait = session.call("process_wait", ProcessBody(process="p1"))
    session.cancel(wait.seq)
    session.wait(wait)
    assert wait.error is not None
    assert wait.error.kind == "CallCancelled"
    assert [one.running for one in listed(session)] == [True]


def test_ended_processes_stay_listed_up_to_a_number(session: SessionProcess) -> None:
    ids = []
    for _ in range(70):
        process, _ = start(session, "true")
        session.ask("process_wait", ProcessBody(process=process.id))
        ids.append(process.id)
    assert [one.id for one in listed(session)] == ids[-64:]


def test_processes_end_with_their_session(session: SessionProcess) -> None:
    start(session, "sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60")
    start(session, "sleep", "60")
    session.shutdown(2.0)
    ended = session.wait_gone()
    assert (os.waitstatus_to_exitcode(ended.raw_status), ended.left) == (0, 0)


def test_lossless_output_loses_nothing_and_waits_for_its_reader(session: SessionProcess) -> None:
    """Forty times the window, read by a host that grants as it reads; then the same to one that never grants."""
    total = 40 * 256 * 1024
    run = session.ask("exec", ExecBody(argv=("head", "-c", str(total), "/dev/zero"), lossless=True), timeout_s=30)
    assert run.error is None
    assert sum(len(chunk.data) for chunk in run.chunks) == total
    assert all(chunk.dropped == 0 for chunk in run.chunks)
