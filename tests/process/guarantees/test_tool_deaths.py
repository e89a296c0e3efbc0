"""Code that dies: in a tool, where it costs one run, and in the session process itself, where it costs one incarnation."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.hosts import SLACK, Counted, EventWatch, median
from helpers.session_faults import FAULT
from procession import Host, Limits, SessionDied, ToolCrashed, ToolOutOfMemory, ToolRaised
from procession.ipc.core.records import RunReport

pytestmark = pytest.mark.process

MiB = 1 << 20


def last_words() -> None:
    print("last words", file=sys.stderr, flush=True)


def segfaults() -> None:
    last_words()
    ctypes.string_at(0)


def aborts() -> None:
    last_words()
    os.abort()


def exits_at_once() -> None:
    last_words()
    os._exit(0)


def exits_with_three() -> None:
    last_words()
    os._exit(3)


def leaves_politely() -> None:
    last_words()
    sys.exit(0)


def leaves_with_a_word() -> None:
    last_words()
    sys.exit("I am leaving")


def kills_itself() -> None:
    last_words()
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


DEATHS: list[tuple[Callable[[], None], str, int | None, str | None]] = [
    (segfaults, "signal", None, "SIGSEGV"),
    (aborts, "signal", None, "SIGABRT"),
    (exits_at_once, "exit", 0, None),
    (exits_with_three, "exit", 3, None),
    (leaves_politely, "exit", 0, None),
    (leaves_with_a_word, "exit", 1, None),
    (kills_itself, "signal", None, "SIGKILL"),
]


@pytest.mark.guarantee("R-05")
@pytest.mark.parametrize(("death", "ended", "code", "name"), DEATHS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_tool_that_dies_is_a_crash_with_its_kind_and_last_words(session, death, ended, code, name) -> None:
    before = session.status()
    with pytest.raises(ToolCrashed) as caught:
        session.run(death)
    report = caught.value.report
    assert isinstance(report, RunReport)
    assert (report.ended, report.exit_code, report.signal) == (ended, code, name)
    assert "last words" in report.stderr_tail
    assert caught.value.ran == "yes"
    assert (name or f"exit code {code}") in str(caught.value)
    if death in (segfaults, aborts):
        assert death.__name__ in report.stack
    assert session.run(len, "it lives") == 8
    assert (session.status().pid, session.status().restarts) == (before.pid, 0)


SESSION_DEATHS = [
    ("segfault", "signal", "SIGSEGV", None),
    ("abort", "signal", "SIGABRT", None),
    ("SIGKILL", "signal", "SIGKILL", None),
    ("exit 0", "exit", None, 0),
    ("exit 3", "exit", None, 3),
    ("sys.exit", "exit", None, 1),
    ("raise", "exit", None, 1),
]


@pytest.mark.guarantee("R-05")
def test_a_session_that_dies_in_a_call_dies_abnormally_whatever_its_code(faulty_host: Host) -> None:
    for order, ended, name, code in SESSION_DEATHS:
        with EventWatch(faulty_host) as events:
            session = faulty_host.start_session()
            Path(session.status().project or "", FAULT).write_text(order)
            with pytest.raises(SessionDied) as caught:
                session.modules()
            report = caught.value.report
            assert isinstance(report, RunReport), order
            assert (report.ended, report.signal, report.exit_code) == (ended, name, code), order
            assert f"last words before: {order}" in report.stderr_tail
            assert caught.value.ran == "maybe"
            events.wait("session.crashed", session)
            events.wait("session.ready", session, incarnation=2)
            assert session.status().restarts == 1
            faulty_host.remove_session(session.id)


def takes_ever_more() -> None:
    held = []
    while True:
        held.append(bytearray(8 * MiB))
        for at in range(0, 8 * MiB, 4096):
            held[-1][at] = 1


def asks_for_too_much() -> int:
    return len(bytearray(1 << 62))


def takes_it_in_children() -> None:
    for _ in range(4):
        if os.fork() == 0:
            held = bytearray(b"x" * (48 * MiB))
            time.sleep(60)  # payload: holds what it has
            os._exit(len(held) and 0)
    time.sleep(60)  # payload: waits to be ended


@pytest.mark.guarantee("R-07")
@pytest.mark.parametrize("bomb", [takes_ever_more, takes_it_in_children])
def test_a_tool_over_its_memory_is_ended_and_says_how_much_it_had(session, bomb) -> None:
    before = session.status()
    with pytest.raises(ToolOutOfMemory) as caught:
        session.run(bomb, limits=Limits(memory="96M"))
    report = caught.value.report
    assert isinstance(report, RunReport)
    assert report.ended == "memory" or caught.value.exception_type == "MemoryError"
    assert caught.value.limit == "memory"
    assert report.peak_memory_bytes > 48 * MiB
    assert report.processes_left == 0
    assert session.run(len, "it lives") == 8
    assert (session.status().pid, session.status().restarts) == (before.pid, 0)


@pytest.mark.guarantee("R-07")
def test_a_memory_error_is_out_of_memory_too(session) -> None:
    with pytest.raises(ToolOutOfMemory) as caught:
        session.run(asks_for_too_much)
    assert caught.value.exception_type == "MemoryError"
    assert isinstance(caught.value.__cause__, MemoryError) or not isinstance(caught.value, ToolRaised)


@pytest.mark.guarantee("R-07")
def test_a_sibling_answers_as_fast_while_one_is_ended_for_its_memory(start) -> None:
    """Medians of both in turn, in one run: the machine's own noise is in both."""
    sibling, bomber = start(), start()
    quiet, beside = [], []
    for _ in range(5):
        quiet += [sibling.ping() for _ in range(40)]
        bomb = Counted(bomber, takes_it_in_children, limits=Limits(memory="96M"))
        while not bomb.outcomes:
            beside.append(sibling.ping())
        assert isinstance(bomb.wait(), ToolOutOfMemory)
    # 1.2 is the figure beside an idle core; here five processes that write memory share two cores with the host
    assert median(beside) <= 1.2 * SLACK * median(quiet)
