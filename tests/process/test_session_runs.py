"""`run` in a real session process: results, exceptions, deaths, deadlines, cancels, limits and what is left behind."""

import ctypes
import datetime as dt
import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.proc import look_at
from helpers.session_harness import SessionProcess
from helpers.waiting import wait_until
from procession.ipc.core.bounds import ESCALATE_EXIT, MAILBOX_COMMANDS_MAX, KiB, MiB
from procession.ipc.core.limits import Limits
from procession.ipc.core.messages import Arena

pytestmark = pytest.mark.process


@pytest.fixture
def session(tmp_path: Path) -> Iterator[SessionProcess]:
    with SessionProcess(tmp_path) as session:
        yield session


# --- payloads -----------------------------------------------------------------------------------------------
def identity(value: object) -> object:
    return value


def spin() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("spinning", flush=True)
    while True:
        pass


def sleep_long() -> None:
    print("sleeping", flush=True)
    time.sleep(60)  # payload: has to be ended


def daemonize() -> int:
    """Detach in the classic way, and say the pid of what stays."""
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(write_end, str(os.getpid()).encode())
        os.closerange(0, 64)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)  # payload: has to be ended
        os._exit(0)
    os.wait()
    os.close(write_end)
    return int(os.read(read_end, 20))


def pid_is_gone(pid: int) -> bool:
    seen = look_at(pid)
    return seen is None or seen.state == "Z"


# --- results --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "value", [None, 0, 1 << 70, "text", b"bytes\0", [1, (2, {3})], {"a": dt.date(2020, 1, 2)}, "x" * 100_000], ids=repr
)
def test_a_result_comes_back_as_it_was(session: SessionProcess, value: object) -> None:
    outcome = session.run(identity, value)
    assert outcome.value == value
    assert type(outcome.value) is type(value)
    report = outcome.report
    assert (report.ended, report.exit_code, report.signal, report.receipt.left) == ("exit", 0, None, 0)
    assert report.pid
    assert report.tool == "identity"


def test_arguments_may_come_through_the_arena(session: SessionProcess) -> None:
    assert session.run(len, b"x" * 3 * MiB, arena=True).value == 3 * MiB


def test_large_results_go_through_the_arena_and_its_room_is_used_again(session: SessionProcess) -> None:
    for _ in range(6):  # together more than the arena holds
        outcome = session.run(lambda: bytes(range(256)) * 4 * 20 * KiB)
        assert outcome.value == bytes(range(256)) * 4 * 20 * KiB
    reply = session.messages[-1]
    assert isinstance(reply.payload, Arena)  # type: ignore[attr-defined]


def test_results_that_do_not_fit_the_arena_together_wait_for_room(tmp_path: Path) -> None:
    with SessionProcess(tmp_path, arena_bytes=24 * MiB) as session:
        outcomes = [session.begin_run(lambda: b"x" * (20 * MiB)) for _ in range(3)]
        session.wait(*outcomes)
        assert [len(outcome.value) for outcome in outcomes] == [20 * MiB] * 3  # type: ignore[arg-type]


@pytest.mark.guarantee("R-47")
def test_a_result_over_the_limit_is_refused_and_the_session_goes_on(tmp_path: Path) -> None:
    with SessionProcess(tmp_path, payload_bytes_max=1 * MiB) as session:
        error = session.run(lambda: b"x" * (1 * MiB)).error
        assert error is not None
        assert (error.kind, error.code, error.ran) == ("ToolResultInvalid", "too_large", "yes")
        assert session.run(lambda: b"x" * (1 * MiB - 100)).error is None


def test_a_coroutine_function_is_run_to_its_end(session: SessionProcess) -> None:
    async def answer() -> int:
        import asyncio

        await asyncio.sleep(0)
        return 42

    assert session.run(answer).value == 42


def test_runs_are_fresh_forks_side_by_side(tmp_path: Path) -> None:
    with SessionProcess(tmp_path, parallel_runs=4) as session:
        names = [str(tmp_path / f"gate{number}") for number in range(4)]
        readers = []
        for name in names:
            os.mkfifo(name)
            readers.append(os.open(name, os.O_RDWR))  # so that no open waits
        outcomes = [session.begin_run(_meet, number, names) for number in range(4)]
        session.wait(*outcomes)
        for reader in readers:
            os.close(reader)
        assert len({outcome.value for outcome in outcomes}) == 4


def _meet(number: int, names: list[str]) -> int:
    """Return only after all the others have begun: each gives one byte to every gate and takes as many from its own."""
    for name in names:
        with open(name, "wb", buffering=0) as gate:
            gate.write(b".")
    with open(names[number], "rb", buffering=0) as gate:
        seen = 0
        while seen < len(names):
            seen += len(gate.read(len(names) - seen) or b"")
    return os.getpid()


def test_a_worker_has_nothing_of_the_session(session: SessionProcess) -> None:
    def look() -> dict[str, object]:
        from procession.ipc.core import inside

        targets = {}
        for name in os.listdir("/proc/self/fd"):
            try:
                targets[int(name)] = os.readlink(f"/proc/self/fd/{name}")
            except FileNotFoundError:
                continue
        return {
            "fds": targets,
            "env": dict(os.environ),
            "cwd": os.getcwd(),
            "stdin": sys.stdin.read(),
            "inside": inside.IN_WORKER,
            "encoding": sys.stdout.encoding,
        }

    seen = session.run(look).value
    assert isinstance(seen, dict)
    assert seen["stdin"] == ""
    assert seen["inside"] is True
    assert seen["encoding"] == "utf-8"
    assert "HOST_SECRET" not in seen["env"]
    assert seen["cwd"] == str(session.cwd)
    beyond = {number: target for number, target in seen["fds"].items() if number > 2}
    assert len(beyond) == 1, beyond
    assert next(iter(beyond.values())).startswith("pipe:")  # the result's


# --- exceptions -------------------------------------------------------------------------------------------------
def test_an_exception_crosses_as_text(session: SessionProcess) -> None:
    class Odd(Exception):
        pass

    def fails() -> None:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise Odd("outer \ud800 text") from inner

    error = session.run(fails).error
    assert error is not None
    assert (error.kind, error.ran) == ("ToolRaised", "yes")
    assert error.exception_type.endswith("Odd")
    assert error.message.endswith("Odd: outer \\ud800 text")
    assert "KeyError: 'inner'" in error.traceback
    assert "in fails" in error.traceback
    assert "worker.py" not in error.traceback


@pytest.mark.parametrize(
    ("raising", "kind", "message"),
    [
        (lambda: [].pop(), "IndexError", "IndexError: pop from empty list"),
        (lambda: (_ for _ in ()).throw(KeyboardInterrupt), "KeyboardInterrupt", "KeyboardInterrupt"),
        (lambda: (_ for _ in ()).throw(OSError(2, "gone")), "FileNotFoundError", "FileNotFoundError: [Errno 2] gone"),
    ],
)
def test_a_builtin_exception_goes_by_its_plain_name(
    session: SessionProcess, raising: Callable[[], object], kind: str, message: str
) -> None:
    error = session.run(raising).error
    assert error is not None
    assert (error.kind, error.exception_type, error.message) == ("ToolRaised", kind, message)


def raise_evil(how: str) -> None:
    def act(*_: object) -> object:
        if how == "raises":
            raise RuntimeError("no text")
        if how == "exits":
            raise SystemExit(3)
        if how == "os._exit":
            os._exit(5)
        if how == "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        if how == "loops":
            while True:
                pass
        if how == "catches all":
            while True:
                try:
                    time.sleep(60)  # payload: nothing in Python can end it
                except BaseException:
                    pass
        return 5 if how == "is no text" else "x" * 50_000_000

    kind = type("Evil", (Exception,), {"__str__": act, "__repr__": act})
    raise kind("some", "arguments")


@pytest.mark.guarantee("R-20")
@pytest.mark.parametrize(
    "how", ["raises", "exits", "os._exit", "crashes", "loops", "catches all", "is no text", "is huge"]
)
def test_an_exception_that_resists_being_read_is_still_told(session: SessionProcess, how: str) -> None:
    before = time.monotonic()
    outcome = session.run(raise_evil, how)
    assert time.monotonic() - before < 5.0
    error = outcome.error
    assert error is not None
    assert error.kind == "ToolRaised"
    assert error.exception_type.endswith("Evil")
    assert "Evil" in error.message
    assert len(error.message) <= 2_000
    assert len(error.traceback) <= 16_000
    assert session.run(identity, 1).value == 1


DUNDERS = (
    "__iter__ __next__ __len__ __getitem__ __contains__ __reversed__ __missing__ __eq__ __hash__ __repr__ __str__ "
    "__format__ __bytes__ __bool__ __int__ __index__ __float__ __complex__ __fspath__ __reduce__ __reduce_ex__ "
    "__getstate__ __copy__ __deepcopy__ __dir__ __sizeof__ __getattribute__ __getattr__ __instancecheck__ __call__ "
    "__add__ __del__ keys items values get copy encode decode tolist model_dump"
).split()


def make_nasty(name: str, how: str) -> object:
    def act(*_: object, **__: object) -> object:
        if how == "raises":
            raise RuntimeError("nasty")
        if how == "exits":
            raise SystemExit(3)
        if how == "loops":
            while True:
                pass
        if how == "endless":
            return iter(int, 1)
        return 1 << 40

    base = [object, dict, list, str, int][len(name) % 5]
    return type("Nasty", (base,), {name: act})()


@pytest.mark.guarantee("R-20")
@pytest.mark.parametrize("how", ["raises", "exits", "loops", "endless", "lies"])
def test_forty_nasty_results_of_a_kind_are_refused_or_told_and_none_hangs(session: SessionProcess, how: str) -> None:
    outcomes = [session.begin_run(make_nasty, name, how) for name in DUNDERS]
    session.wait(*outcomes)
    for name, outcome in zip(DUNDERS, outcomes, strict=True):
        assert outcome.error is not None, name
        assert outcome.error.kind in {"ToolResultInvalid", "ToolRaised", "ToolCrashed"}, (name, outcome.error)
        assert outcome.error.hint or outcome.error.kind != "ToolResultInvalid"
    assert session.run(identity, 1).value == 1


def test_a_result_of_no_known_type_names_its_place_and_what_to_do(session: SessionProcess) -> None:
    error = session.run(lambda: {"a": [1, threading.Lock()]}).error
    assert error is not None
    assert (error.kind, error.code) == ("ToolResultInvalid", "")
    assert "result['a'][1]" in error.message
    assert error.hint


def test_what_cannot_be_loaded_was_not_run(session: SessionProcess) -> None:
    for data, word in (
        (b"\x80\x05cno_such_module\nthing\n.", "no_such_module"),
        (b"garbage", "cannot be loaded"),
        (b"", "cannot be loaded"),
        (pickle.dumps((1, 2)), "cannot be loaded"),
    ):
        error = session.run_pickled(data).error
        assert error is not None
        assert (error.kind, error.code, error.ran) == ("InvalidRequest", "unpicklable_in_worker", "no")
        assert word in error.message
        assert error.hint


def test_import_paths_are_there_in_workers_and_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "of_the_user.py").write_text("VALUE = 5\n")
    with SessionProcess(tmp_path, import_paths=(str(folder),)) as session:
        assert session.run(lambda: __import__("of_the_user").VALUE).value == 5
        assert session.code("import of_the_user; of_the_user.VALUE").cell.value == "5"
        assert "of_the_user" not in session.ask("modules").body["modules"]


# --- deaths -----------------------------------------------------------------------------------------------------
def print_and(action: Callable[[], object]) -> None:
    print("last words", file=sys.stderr)
    action()


def end_from_a_thread() -> None:
    threading.Thread(target=os._exit, args=(4,)).start()
    time.sleep(60)  # payload: ended by the thread


@pytest.mark.guarantee("R-05")
@pytest.mark.parametrize(
    ("action", "exit_code", "by_signal"),
    [
        (lambda: os._exit(0), 0, None),
        (lambda: os._exit(3), 3, None),
        (sys.exit, 0, None),
        (lambda: sys.exit(7), 7, None),
        (lambda: sys.exit("a reason"), 1, None),
        (lambda: ctypes.string_at(0), None, "SIGSEGV"),
        (os.abort, None, "SIGABRT"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), None, "SIGKILL"),
        (lambda: end_from_a_thread(), 4, None),
    ],
    ids=["_exit0", "_exit3", "exit", "exit7", "exit-text", "segfault", "abort", "kill", "thread"],
)
def test_a_death_inside_a_run_is_a_crash_whatever_the_code(
    session: SessionProcess, action: Callable[[], object], exit_code: int | None, by_signal: str | None
) -> None:
    outcome = session.run(print_and, action)
    error, report = outcome.error, outcome.report
    assert error is not None
    assert (error.kind, error.ran) == ("ToolCrashed", "yes")
    assert (report.exit_code, report.signal) == (exit_code, by_signal)
    assert "last words" in report.stderr_tail
    if by_signal in {"SIGSEGV", "SIGABRT"}:
        assert report.stack.startswith("Fatal Python error")
        assert "in print_and" in report.stack
    assert session.run(identity, 2).value == 2


def test_a_torn_result_is_a_crash(session: SessionProcess) -> None:
    def tear() -> None:
        from procession.agent_proc.core.worker_messages import Finished, pack

        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                try:
                    os.write(int(name), pack(Finished(100)) + b"only this")
                except OSError:
                    continue
        os._exit(0)

    error = session.run(tear).error
    assert error is not None
    assert error.kind == "ToolCrashed"


@pytest.mark.parametrize("junk", [b"\xff" * 100_000, b"\x05\0\0\0junk!", b"\x01\0\0\0\xc1"])
def test_junk_on_the_result_pipe_is_a_crash_and_nothing_worse(session: SessionProcess, junk: bytes) -> None:
    def write_junk(data: bytes) -> None:
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                try:
                    os.write(int(name), data)
                except OSError:
                    continue

    error = session.run(write_junk, junk).error
    assert error is not None
    assert error.kind == "ToolCrashed"
    assert session.run(identity, 2).value == 2


def test_a_function_that_forks_and_returns_twice_has_one_result(session: SessionProcess) -> None:
    def twice() -> str:
        return "child" if os.fork() == 0 else "parent"

    for _ in range(5):
        assert session.run(twice).value == "parent"


# --- what is left behind ------------------------------------------------------------------------------------------
def test_what_a_finished_run_leaves_is_ended_with_it(session: SessionProcess) -> None:
    outcome = session.run(daemonize)
    pid = outcome.value
    assert isinstance(pid, int)
    assert pid_is_gone(pid)
    assert outcome.report.receipt.found >= 1
    assert outcome.report.receipt.left == 0


def test_threads_that_still_run_do_not_keep_a_result_back(session: SessionProcess) -> None:
    def starts_a_thread() -> int:
        threading.Thread(target=lambda: time.sleep(60)).start()  # payload: not waited for
        return 1

    before = time.monotonic()
    assert session.run(starts_a_thread).value == 1
    assert time.monotonic() - before < 5.0


# --- deadlines and cancels ----------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-50")
def test_a_deadline_ends_the_whole_tree_and_the_answer_comes_after(session: SessionProcess) -> None:
    def with_children() -> None:
        daemonize()
        subprocess.Popen(["sleep", "60"])
        spin()

    before = time.monotonic()
    outcome = session.begin_run(with_children, timeout_s=0.5)
    session.wait(outcome)
    took = time.monotonic() - before
    error, report = outcome.error, outcome.report
    assert error is not None
    assert (error.kind, error.ran, report.ended) == ("ToolTimedOut", "yes", "deadline")
    assert 0.5 <= took < 2.0
    assert report.receipt.found >= 2
    assert report.receipt.left == 0
    wait_until(lambda: _children_of(session.pid) == [], "no process is left below the session")


def _children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_run_that_heeds_sigterm_ends_at_its_deadline_without_the_grace(session: SessionProcess) -> None:
    before = time.monotonic()
    outcome = session.run(sleep_long, timeout_s=0.3)
    assert time.monotonic() - before < 0.5
    assert outcome.error is not None
    assert outcome.error.kind == "ToolTimedOut"


@pytest.mark.guarantee("R-49")
def test_a_run_that_expires_in_the_queue_never_runs(tmp_path: Path) -> None:
    with SessionProcess(tmp_path, parallel_runs=1) as session:
        live = session.begin_run(sleep_long, timeout_s=1.0)
        session.pump_until(lambda: bool(live.chunks))
        trace = tmp_path / "trace"
        queued = [session.begin_run(lambda: trace.write_text("ran"), timeout_s=0.05) for _ in range(50)]
        session.wait(*queued)
        assert not live.answered_at
        session.wait(live)
        for outcome in queued:
            assert outcome.error is not None
            assert (outcome.error.kind, outcome.error.ran) == ("ExpiredInQueue", "no")
        assert session.run(identity, 1).value == 1
        assert not trace.exists()


def test_queued_runs_begin_in_the_order_they_came(tmp_path: Path) -> None:
    with SessionProcess(tmp_path, parallel_runs=1) as session:
        trace = tmp_path / "trace"

        def note(number: int) -> None:
            with trace.open("a") as file:
                file.write(f"{number} ")

        outcomes = [session.begin_run(note, number) for number in range(8)]
        session.wait(*outcomes)
        assert trace.read_text() == "0 1 2 3 4 5 6 7 "


def test_more_runs_than_a_session_takes_are_refused_at_once(tmp_path: Path) -> None:
    with SessionProcess(tmp_path, parallel_runs=1) as session:
        most = MAILBOX_COMMANDS_MAX + 1  # as many as a host lets wait, beside the one that runs
        outcomes = [session.begin_run(sleep_long, timeout_s=30) for _ in range(most + 4)]
        session.wait(*outcomes[most:])
        for outcome in outcomes[most:]:
            assert outcome.error is not None
            assert (outcome.error.kind, outcome.error.ran) == ("MailboxFull", "no")
        assert not any(outcome.answered_at for outcome in outcomes[:most])


@pytest.mark.guarantee("R-52")
def test_a_cancel_of_a_live_run_ends_it_and_says_maybe(session: SessionProcess) -> None:
    outcome = session.begin_run(spin)
    session.pump_until(lambda: bool(outcome.chunks))
    session.cancel(outcome.seq)
    session.wait(outcome)
    error = outcome.error
    assert error is not None
    assert (error.kind, error.code, error.ran) == ("CallCancelled", "cancelled_in_session", "maybe")
    assert outcome.report.ended == "cancelled"
    assert outcome.report.receipt.left == 0


@pytest.mark.guarantee("R-52")
def test_a_cancel_of_a_queued_run_says_no_and_it_never_runs(tmp_path: Path) -> None:
    with SessionProcess(tmp_path, parallel_runs=1) as session:
        trace = tmp_path / "trace"
        live = session.begin_run(sleep_long)
        queued = session.begin_run(lambda: trace.write_text("ran"))
        session.cancel(queued.seq)
        session.wait(queued)
        error = queued.error
        assert error is not None
        assert (error.kind, error.code, error.ran) == ("CallCancelled", "not_sent", "no")
        session.cancel(live.seq)
        session.wait(live)
        session.run(identity, 1)
        assert not trace.exists()


@pytest.mark.guarantee("R-52")
def test_a_cancel_that_overtakes_its_call_keeps_it_from_running(session: SessionProcess, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    session.cancel(session.next_seq())
    outcome = session.run(lambda: trace.write_text("ran"))
    error = outcome.error
    assert error is not None
    assert (error.kind, error.code, error.ran) == ("CallCancelled", "not_sent", "no")
    echo_seq = session.next_seq()
    session.cancel(echo_seq)
    cancelled = session.ask("echo", b"\xc0").error
    assert cancelled is not None
    assert cancelled.code == "not_sent"
    assert session.run(identity, 1).value == 1
    assert not trace.exists()


@pytest.mark.guarantee("R-52")
def test_a_cancel_that_comes_too_late_changes_nothing(session: SessionProcess) -> None:
    outcome = session.run(identity, 1)
    answers = len(session.messages)
    session.cancel(outcome.seq)
    session.ask("ping", control=True)
    assert len(session.messages) == answers + 1
    assert session.run(identity, 2).value == 2


@pytest.mark.guarantee("R-51")
def test_results_that_race_their_deadline_are_answered_once(session: SessionProcess) -> None:
    def nap(seconds: float) -> str:
        time.sleep(seconds)  # payload: ends about when its deadline does
        return "done"

    outcomes = [session.begin_run(nap, 0.1 + 0.002 * step, timeout_s=0.12) for step in range(16)]
    session.wait(*outcomes)  # the harness refuses a second answer
    session.ask("ping", control=True)
    kinds = {outcome.error.kind if outcome.error else "result" for outcome in outcomes}
    assert kinds <= {"result", "ToolTimedOut", "ExpiredInQueue"}


# --- limits -------------------------------------------------------------------------------------------------------
def test_output_over_its_limit_ends_the_run(session: SessionProcess) -> None:
    def flood() -> None:
        while True:
            print("x" * 1000)

    outcome = session.run(flood, limits=Limits(output="1M"))
    error = outcome.error
    assert error is not None
    assert (error.kind, error.limit, outcome.report.ended) == ("ToolLimitExceeded", "output", "output")


def test_memory_over_its_limit_ends_the_run(session: SessionProcess) -> None:
    def hoard() -> None:
        held = []
        while True:
            held.append(bytearray(b"x" * MiB))

    outcome = session.run(hoard, limits=Limits(memory="64M"))
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.limit) == ("ToolOutOfMemory", "memory")


def test_a_memory_error_is_out_of_memory(session: SessionProcess) -> None:
    outcome = session.run(lambda: bytearray(8 << 30), limits=Limits(memory="64M"))
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.limit) == ("ToolOutOfMemory", "memory")


@pytest.mark.parametrize(
    ("limits", "hit", "number"),
    [(Limits(file_size="64K"), "file_size", errno.EFBIG), (Limits(open_files=32), "open_files", errno.EMFILE)],
)
def test_what_the_kernel_refuses_is_an_os_error_and_shows_in_the_report(
    session: SessionProcess, limits: Limits, hit: str, number: int
) -> None:
    def overdo(which: str) -> None:
        if which == "file_size":
            with open("big", "wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 1024)
        held = []
        while True:
            held.append(open(os.devnull))  # noqa: SIM115

    outcome = session.run(overdo, hit, limits=limits)
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.exception_type) == ("ToolRaised", "OSError")
    assert f"[Errno {number}]" in outcome.error.message
    assert outcome.report.limits_hit == (hit,)


def test_a_session_limit_holds_for_runs_that_set_none(tmp_path: Path) -> None:
    with SessionProcess(tmp_path, limits=Limits(open_files=40)) as session:
        import resource

        assert session.run(lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0]).value == 40
        assert (
            session.run(lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0], limits=Limits(open_files=50)).value == 50
        )


# --- the keeper ---------------------------------------------------------------------------------------------------
def keeper_of(pid: int) -> int:
    seen = look_at(pid)
    assert seen is not None
    return seen.parent


def test_a_run_has_the_signals_of_a_fresh_interpreter(session: SessionProcess) -> None:
    def signals() -> tuple[list[str], int]:
        lines = Path("/proc/self/status").read_text().splitlines()
        masks = [line for line in lines if line.startswith(("SigBlk", "SigIgn"))]
        return masks, sum(callable(signal.getsignal(n)) for n in range(1, 32) if n != signal.SIGINT)

    value = session.run(signals).value
    blocked, ignored = "SigBlk:\t" + "0" * 16, "SigIgn:\t0000000001001000"  # SIGPIPE and SIGXFSZ
    assert value == ([blocked, ignored], 0)


@pytest.mark.guarantee("R-78")
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_run_whose_keeper_is_stopped_or_killed_ends_the_whole_session(
    session: SessionProcess, how: signal.Signals
) -> None:
    def detach_and_stay() -> None:
        daemonize()
        print(os.getpid(), flush=True)
        time.sleep(60)  # payload: has to be ended

    outcome = session.begin_run(detach_and_stay)
    session.pump_until(lambda: b"\n" in outcome.streamed(1))
    worker = int(outcome.streamed(1))
    os.kill(keeper_of(worker), how)
    session.wait(outcome)
    error = outcome.error
    assert error is not None
    assert (error.kind, error.ran) == ("ToolCrashed", "maybe")
    assert (outcome.report.receipt.escalated, outcome.report.receipt.keeper_lost) == (True, True)
    ended = session.wait_gone()
    assert os.waitstatus_to_exitcode(ended.raw_status) == ESCALATE_EXIT
    assert ended.left == 0
    assert pid_is_gone(worker)


def test_a_stopped_worker_is_still_ended_at_its_deadline(session: SessionProcess) -> None:
    outcome = session.run(lambda: os.kill(os.getpid(), signal.SIGSTOP), timeout_s=0.3)
    assert outcome.error is not None
    assert outcome.error.kind == "ToolTimedOut"
    assert outcome.report.receipt.left == 0


def test_a_run_that_kills_all_it_can_reaches_neither_keeper_nor_session(session: SessionProcess) -> None:
    def rampage(session_pid: int) -> list[str]:
        results = []
        for pid in (session_pid, os.getppid(), 1):
            try:
                os.kill(pid, signal.SIGKILL)
                results.append("killed")
            except PermissionError:
                results.append("refused")
        return results

    assert session.run(rampage, session.pid).value == ["refused"] * 3
    assert session.run(identity, 1).value == 1
