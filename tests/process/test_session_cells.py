"""`run_code` in a real session process: one interpreter that keeps its names, is interrupted, and is replaced when it dies."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.session_harness import SessionProcess
from procession.ipc.core.bounds import OUTPUT_RING_BYTES, KiB, MiB
from procession.ipc.core.limits import Limits

pytestmark = pytest.mark.process

STUBBORN = "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException: pass"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[SessionProcess]:
    with SessionProcess(tmp_path) as session:
        yield session


def test_names_stay_and_the_first_cell_is_fresh(session: SessionProcess) -> None:
    first = session.code("x = 20\nprint('out')\nimport sys; print('err', file=sys.stderr)\nx + 1").cell
    assert (first.stdout, first.stderr, first.value, first.error, first.fresh) == ("out\n", "err\n", "21", None, True)
    second = session.code("x * 2").cell
    assert (second.stdout, second.value, second.fresh) == ("", "40", False)
    assert session.code("_ + 1").cell.value == "41"
    assert session.code("x = 1").cell.value is None
    assert session.code("None").cell.value is None
    assert session.code("_").cell.value == "41"
    assert session.code("__name__").cell.value == "'__main__'"


def test_cells_queue_in_their_order(session: SessionProcess) -> None:
    outcomes = [session.begin_code(f"l = [*globals().get('l', ()), {number}]; l") for number in range(20)]
    session.wait(*outcomes)
    assert [outcome.cell.value for outcome in outcomes] == [repr(list(range(number + 1))) for number in range(20)]
    assert [outcome.cell.fresh for outcome in outcomes] == [True] + [False] * 19


def test_classes_and_dataclasses_of_cells_work(session: SessionProcess) -> None:
    session.code(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int"
    )
    assert session.code("import pickle; pickle.loads(pickle.dumps(P(3))) == P(3)").cell.value == "True"


@pytest.mark.parametrize(
    ("code", "kind", "lines"),
    [
        ("1 / 0", "ZeroDivisionError", ["<cell 1>", "1 / 0", "ZeroDivisionError: division by zero"]),
        ("def f():\n    raise KeyError('k')\nf()", "KeyError", ["in f", "raise KeyError('k')"]),
        ("x = = 1", "SyntaxError", ["<cell 1>", "x = = 1", "SyntaxError"]),
        ("input('name? ')", "EOFError", ["input() is not available in a session: pass data as arguments"]),
        ("class E(Exception):\n    def __str__(self): raise RuntimeError\nraise E", "__main__.E", ["raise E"]),
        ("class R:\n    def __repr__(self): raise RuntimeError('no repr')\nR()", "RuntimeError", ["no repr"]),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ["KeyboardInterrupt"]),
        ("x\0", "", ["null bytes"]),
        ("import asyncio\nawait asyncio.sleep(0)", "SyntaxError", ["<cell 1>", "'await' outside function"]),
        ("(" * 10_000, "", []),
    ],
)
def test_an_error_of_a_cell_is_its_result(session: SessionProcess, code: str, kind: str, lines: list[str]) -> None:
    cell = session.code(code).cell
    assert cell.error is not None
    assert cell.error_type == kind or kind == ""
    for line in lines:
        assert line in cell.error
    for own_file in ("interpreter.py", "worker.py", "cell_code.py", "ast.py"):
        assert own_file not in cell.error
    assert cell.exit_code is None
    after = session.code("1").cell
    assert (after.value, after.fresh) == ("1", False)


@pytest.mark.parametrize(
    ("said", "exit_code", "error"),
    [
        ("3", 3, "SystemExit: 3"),
        ("", 0, "SystemExit"),
        ("None", 0, "SystemExit"),
        ("0", 0, "SystemExit: 0"),
        ("True", 1, "SystemExit: True"),
        ("-1", 255, "SystemExit: -1"),
        ("'no way'", 1, "SystemExit: no way"),
        ("[1]", 1, "SystemExit: [1]"),
    ],
)
def test_a_cell_that_exits_ends_the_interpreter(session: SessionProcess, said: str, exit_code: int, error: str) -> None:
    session.code("x = 1")
    outcome = session.code(f"import sys; sys.exit({said})")
    cell = outcome.cell
    assert (cell.error, cell.error_type, cell.exit_code) == (error, "SystemExit", exit_code)
    after = session.code("'x' in globals()").cell
    assert (after.value, after.fresh) == ("False", True)


@pytest.mark.parametrize(
    ("code", "exit_code", "by_signal"),
    [
        ("import os; os._exit(3)", 3, None),
        ("import ctypes; ctypes.string_at(0)", None, "SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", None, "SIGKILL"),
        ("import os; os.closerange(3, 100)", None, None),
    ],
)
def test_a_crash_is_told_and_the_next_cell_is_fresh(
    session: SessionProcess, code: str, exit_code: int | None, by_signal: str | None
) -> None:
    session.code("x = 1")
    outcome = session.code(f"print('before', flush=True)\n{code}")
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.ran) == ("ToolCrashed", "yes")
    if exit_code is not None or by_signal:
        assert (outcome.report.exit_code, outcome.report.signal) == (exit_code, by_signal)
    assert outcome.streamed(1) == b"before\n"
    after = session.code("'x' in globals()").cell
    assert (after.value, after.fresh) == ("False", True)


def test_an_interpreter_that_dies_between_cells_is_replaced(session: SessionProcess) -> None:
    pid = session.code("import os; os.getpid()").cell.value
    assert pid is not None
    session.code("import threading, os\nt = threading.Timer(0.05, os._exit, (0,)); t.start()")
    os.close(os.pidfd_open(int(pid)))
    fresh = False
    deadline = time.monotonic() + 10
    while not fresh and time.monotonic() < deadline:
        outcome = session.code("1")
        fresh = outcome.error is None and outcome.cell.fresh
    assert fresh


# --- deadlines, interrupts and cancels --------------------------------------------------------------------------
@pytest.mark.guarantee("R-50")
def test_a_cell_that_heeds_the_interrupt_keeps_the_interpreter(session: SessionProcess) -> None:
    session.code("x = 5")
    before = time.monotonic()
    outcome = session.code("import time\nprint('on')\ntime.sleep(60)", timeout_s=0.3)
    assert 0.3 <= time.monotonic() - before < 1.2
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.ran, outcome.report.ended) == ("ToolTimedOut", "yes", "deadline")
    after = session.code("x").cell
    assert (after.value, after.fresh) == ("5", False)


@pytest.mark.guarantee("R-50")
@pytest.mark.parametrize(
    "code",
    [
        STUBBORN,
        "import signal as s\ns.signal(s.SIGINT, s.SIG_IGN)\ns.signal(s.SIGTERM, s.SIG_IGN)\nwhile True: pass",
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    ],
    ids=["catches-all", "ignores-all", "stopped"],
)
def test_a_cell_that_does_not_is_ended_with_its_interpreter(session: SessionProcess, code: str) -> None:
    session.code("x = 5")
    before = time.monotonic()
    outcome = session.code(code, timeout_s=0.2)
    took = time.monotonic() - before
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.report.ended) == ("ToolTimedOut", "deadline")
    assert 1.2 <= took < 3.0  # the deadline and the second for the interrupt
    after = session.code("'x' in globals()").cell
    assert (after.value, after.fresh) == ("False", True)


def test_a_cell_whose_process_has_children_takes_them_along_only_when_killed(session: SessionProcess) -> None:
    session.code("import subprocess; p = subprocess.Popen(['sleep', '60'])")
    outcome = session.code("while True: pass", timeout_s=0.2)
    assert outcome.error is not None
    assert session.code("p.poll()").cell.value is None  # it lives on with the interpreter
    outcome = session.code(STUBBORN, timeout_s=0.2)
    assert outcome.error is not None
    assert outcome.report.receipt.found == 1
    assert outcome.report.receipt.left == 0


def test_an_interrupt_is_a_keyboard_interrupt_in_the_running_cell(session: SessionProcess) -> None:
    cell = session.begin_code("import time\nprint('on', flush=True)\ntime.sleep(60)")
    session.pump_until(lambda: bool(cell.chunks))
    assert session.ask("interrupt", control=True).error is None
    session.wait(cell)
    assert cell.cell.error_type == "KeyboardInterrupt"
    assert not session.code("1").cell.fresh


def test_an_interrupt_never_hits_a_later_cell(session: SessionProcess) -> None:
    session.code("x = 0")
    for _ in range(50):
        session.call("interrupt", control=True)
        first = session.begin_code("x += 1")
        session.call("interrupt", control=True)
        second = session.begin_code("1")
        session.wait(first, second)
        assert second.cell.error_type in {None, "KeyboardInterrupt"}
    before = session.code("x").cell
    assert before.fresh is False
    quiet = [session.code("sum(range(1000))").cell for _ in range(20)]
    assert {cell.value for cell in quiet} == {"499500"}


@pytest.mark.guarantee("R-52")
def test_cancels_of_a_live_and_of_a_queued_cell(session: SessionProcess) -> None:
    live = session.begin_code("import time\nprint('on', flush=True)\ntime.sleep(60)")
    queued = session.begin_code("y = 1")
    session.pump_until(lambda: bool(live.chunks))
    session.cancel(queued.seq)
    session.wait(queued)
    assert not live.answered_at
    session.cancel(live.seq)
    session.wait(live)
    assert live.error is not None
    assert queued.error is not None
    assert (live.error.kind, live.error.code, live.error.ran) == ("CallCancelled", "cancelled_in_session", "maybe")
    assert (queued.error.kind, queued.error.code, queued.error.ran) == ("CallCancelled", "not_sent", "no")
    after = session.code("'y' in globals()").cell
    assert (after.value, after.fresh) == ("False", False)


@pytest.mark.guarantee("R-49")
def test_a_cell_that_expires_in_the_queue_never_runs(session: SessionProcess) -> None:
    live = session.begin_code("import time\ntime.sleep(0.5)")
    queued = session.begin_code("y = 1", timeout_s=0.05)
    session.wait(queued, live)
    assert queued.error is not None
    assert (queued.error.kind, queued.error.ran) == ("ExpiredInQueue", "no")
    assert session.code("'y' in globals()").cell.value == "False"


# --- output -------------------------------------------------------------------------------------------------------
def test_the_output_of_each_cell_is_its_own(session: SessionProcess) -> None:
    outcomes = [session.begin_code(f"print('{number}' * 3000)\n{number}") for number in range(30)]
    session.wait(*outcomes)
    for number, outcome in enumerate(outcomes):
        assert outcome.cell.stdout == f"{number}" * 3000 + "\n"
        assert outcome.streamed(1).decode() == outcome.cell.stdout
        assert outcome.streams_open == set()


def test_a_flood_of_a_cell_is_cut_and_counted(session: SessionProcess) -> None:
    cell = session.code(f"import os\nfor _ in range(8): os.write(1, b'x' * {MiB})").cell
    assert len(cell.stdout) == OUTPUT_RING_BYTES
    assert cell.stdout_dropped == 8 * MiB - OUTPUT_RING_BYTES
    assert session.code("print('after')").cell.stdout == "after\n"


def test_a_long_value_is_cut(session: SessionProcess) -> None:
    value = session.code("'x' * 1_000_000").cell.value
    assert value is not None
    assert len(value) <= 64 * KiB
    assert value.endswith("(cut short)")


def test_output_over_its_limit_ends_the_interpreter(session: SessionProcess) -> None:
    outcome = session.code("while True: print('x' * 1000)", limits=Limits(output="1M"))
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.limit) == ("ToolLimitExceeded", "output")
    assert session.code("1").cell.fresh


def test_memory_over_the_limit_ends_the_interpreter(tmp_path: Path) -> None:
    with SessionProcess(tmp_path, limits=Limits(memory="64M")) as session:
        outcome = session.code("l = []\nwhile True: l.append(b'x' * (1 << 20) + bytes(len(l)))")
        assert outcome.error is not None or outcome.cell.error_type == "MemoryError"
        if outcome.error is not None:
            assert (outcome.error.kind, outcome.error.limit) == ("ToolOutOfMemory", "memory")
        assert session.code("1").cell.value == "1"


def test_a_cell_that_forks_and_falls_through_has_one_end(session: SessionProcess) -> None:
    for _ in range(5):
        cell = session.code(
            "import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\n'child' if pid == 0 else 'parent'"
        ).cell
        assert cell.value == "'parent'"


def test_runs_go_on_beside_a_busy_interpreter(session: SessionProcess) -> None:
    cell = session.begin_code("import time\nprint('on', flush=True)\ntime.sleep(60)")
    session.pump_until(lambda: bool(cell.chunks))
    assert session.run(os.getcwd).value == str(session.cwd)
    assert session.exec("true").body.exit_code == 0
    assert not cell.answered_at
