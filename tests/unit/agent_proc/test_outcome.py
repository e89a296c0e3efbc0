"""The table of outcomes: keeper's record x worker's message x what we did -> what the caller gets."""

import errno
import signal

import pytest

from procession.agent_proc.core.outcome import (
    Cause,
    Facts,
    find_stack,
    judge,
    judge_cell,
    judge_command,
    must_escalate,
    report,
)
from procession.agent_proc.core.worker_messages import AnyMessage, Finished, NotRun, Raised, Raising, Rejected
from procession.ipc.core.errors import ERROR_TYPES
from procession.ipc.core.limits import Limits
from procession.ipc.core.messages import Ended

DONE = Finished(3)
RAISED = Raised("ValueError", "no", "tb")
EXIT_0, EXIT_3 = 0, 3 << 8
SEGV, KILLED, TERMED = signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM


def ended(status: int = EXIT_0, cause: str = "exit", *, found: int = 0, left: int = 0) -> Ended:
    return Ended(status, cause, found, left, "scoped", 0.5, 0.1, 1 << 20, 2 << 20)


def facts(record: Ended | None, message: AnyMessage | None = None, cause: Cause = "none", **more: object) -> Facts:
    whole = isinstance(message, Finished) and more.pop("whole", True) is True
    return Facts(label="f", elapsed_s=1.0, pid=9, ended=record, message=message, whole=whole, cause=cause, **more)  # type: ignore[arg-type]


RUNS = [
    # record, message, cause -> error kind, code, ran, report.ended, how
    (ended(), DONE, "none", None, "", "", "exit", "exit code 0"),
    (ended(), RAISED, "none", "ToolRaised", "", "yes", "exit", "exit code 0"),
    (ended(), Raising("E"), "none", "ToolRaised", "", "yes", "exit", "exit code 0"),
    (ended(SEGV), Raising("E"), "none", "ToolRaised", "", "yes", "signal", "SIGSEGV"),
    (ended(), Raised("MemoryError", "", "", 0, True), "none", "ToolOutOfMemory", "", "yes", "exit", "exit code 0"),
    (ended(), Rejected("too_large", "t"), "none", "ToolResultInvalid", "too_large", "yes", "exit", "exit code 0"),
    (
        ended(),
        NotRun("unpicklable_in_worker", "t"),
        "none",
        "InvalidRequest",
        "unpicklable_in_worker",
        "no",
        "exit",
        "",
    ),
    (ended(), None, "none", "ToolCrashed", "", "yes", "exit", "exit code 0"),
    (ended(EXIT_3), None, "none", "ToolCrashed", "", "yes", "exit", "exit code 3"),
    (ended(SEGV), None, "none", "ToolCrashed", "", "yes", "signal", "SIGSEGV"),
    (ended(SEGV | 128), None, "none", "ToolCrashed", "", "yes", "signal", "SIGSEGV"),
    (ended(KILLED), None, "none", "ToolCrashed", "", "yes", "signal", "SIGKILL"),
    # ended at its deadline; or it was over by itself a moment before
    (ended(TERMED, "asked"), None, "deadline", "ToolTimedOut", "", "yes", "deadline", "deadline"),
    (ended(TERMED, "asked"), DONE, "deadline", "ToolTimedOut", "", "yes", "deadline", "deadline"),
    (ended(EXIT_0, "asked"), RAISED, "deadline", "ToolTimedOut", "", "yes", "deadline", "deadline"),
    (ended(), DONE, "deadline", None, "", "", "exit", "exit code 0"),
    (ended(), RAISED, "deadline", "ToolRaised", "", "yes", "exit", "exit code 0"),
    (ended(SEGV), None, "deadline", "ToolCrashed", "", "yes", "signal", "SIGSEGV"),
    # cancelled, and the session's end
    (ended(TERMED, "asked"), None, "cancelled", "CallCancelled", "cancelled_in_session", "maybe", "cancelled", ""),
    (ended(), DONE, "cancelled", None, "", "", "exit", "exit code 0"),
    (ended(TERMED, "asked"), None, "shutdown", "CallCancelled", "cancelled_in_session", "maybe", "cancelled", ""),
    (ended(KILLED, "host_gone"), None, "shutdown", "CallCancelled", "cancelled_in_session", "maybe", "cancelled", ""),
    # limits come before everything else
    (ended(KILLED, "memory"), None, "none", "ToolOutOfMemory", "", "yes", "memory", "out of memory"),
    (ended(KILLED, "memory"), None, "deadline", "ToolOutOfMemory", "", "yes", "memory", "out of memory"),
    (ended(KILLED, "cpu"), DONE, "none", "ToolLimitExceeded", "", "yes", "cpu", "cpu"),
    (ended(KILLED, "processes"), None, "none", "ToolLimitExceeded", "", "yes", "processes", "processes"),
    (ended(KILLED, "asked"), None, "output", "ToolLimitExceeded", "", "yes", "output", "output"),
    (ended(), DONE, "output", "ToolLimitExceeded", "", "yes", "output", "output"),
    # the keeper was lost
    (None, None, "none", "ToolCrashed", "", "maybe", "unknown", "unknown (keeper lost)"),
    (None, DONE, "none", None, "", "", "unknown", "unknown (keeper lost)"),
    (None, DONE, "deadline", None, "", "", "unknown", "unknown (keeper lost)"),
    (None, RAISED, "none", "ToolRaised", "", "yes", "unknown", "unknown (keeper lost)"),
    (None, None, "deadline", "ToolTimedOut", "", "yes", "unknown", "unknown (keeper lost)"),
    # the system refused the fork
    (ended(-errno.EAGAIN, "fork"), None, "none", "HostOverloaded", "resources", "no", "unknown", ""),
]


@pytest.mark.parametrize(("record", "message", "cause", "kind", "code", "ran", "end", "how"), RUNS)
def test_the_outcome_of_a_run(
    record: Ended | None,
    message: AnyMessage | None,
    cause: Cause,
    kind: str | None,
    code: str,
    ran: str,
    end: str,
    how: str,
) -> None:
    known = facts(record, message, cause)
    run_report = report(known)
    error = judge(known, run_report)
    assert run_report.ended == end
    if how:
        assert run_report.how() == how
    if kind is None:
        assert error is None
        return
    assert error is not None
    assert (error.kind, error.code, error.ran) == (kind, code, ran)
    assert kind in ERROR_TYPES
    assert error.message


def test_a_torn_result_is_a_crash() -> None:
    known = facts(ended(), DONE, whole=False)
    error = judge(known, report(known))
    assert error is not None
    assert error.kind == "ToolCrashed"
    assert "middle of its result" in error.message


@pytest.mark.parametrize(("status", "code"), [(EXIT_0, 0), (EXIT_3, 3), (SEGV, -11), (KILLED, -9)])
def test_a_command_that_ended_by_itself_is_its_exit_code(status: int, code: int) -> None:
    known = facts(ended(status))
    assert judge_command(known, report(known)) is None
    assert known.exit_code == code


@pytest.mark.parametrize(
    ("known", "kind"),
    [
        (facts(ended(127 << 8), NotRun("command_not_found", "t")), "InvalidRequest"),
        (facts(ended(TERMED, "asked"), cause="deadline"), "ToolTimedOut"),
        (facts(ended(KILLED, "memory")), "ToolOutOfMemory"),
        (facts(None), "ToolCrashed"),
    ],
)
def test_a_command_that_did_not(known: Facts, kind: str) -> None:
    error = judge_command(known, report(known))
    assert error is not None
    assert error.kind == kind


@pytest.mark.parametrize(
    ("known", "kind"),
    [
        (facts(ended(SEGV)), "ToolCrashed"),
        (facts(ended(KILLED, "asked"), cause="deadline"), "ToolTimedOut"),
        (facts(ended(1 << 8), cause="deadline"), "ToolTimedOut"),
        (facts(ended(1 << 8), cause="cancelled"), "CallCancelled"),
        (facts(ended(KILLED, "memory"), cause="deadline"), "ToolOutOfMemory"),
        (facts(ended(KILLED, "asked"), cause="output"), "ToolLimitExceeded"),
    ],
)
def test_a_cell_whose_interpreter_ended(known: Facts, kind: str) -> None:
    assert judge_cell(known, report(known)).kind == kind


@pytest.mark.guarantee("R-78")
@pytest.mark.parametrize(
    ("record", "escalates", "lost"),
    [(ended(), False, False), (ended(found=5), False, False), (ended(left=1), True, False), (None, True, True)],
)
def test_what_cannot_be_proved_empty_escalates(record: Ended | None, escalates: bool, lost: bool) -> None:
    known = facts(record, DONE)
    receipt = report(known).receipt
    assert must_escalate(known) is escalates
    assert (receipt.escalated, receipt.keeper_lost) == (escalates, lost)


@pytest.mark.parametrize(
    ("number", "limits", "hit"),
    [
        (errno.EFBIG, Limits(file_size=100), ("file_size",)),
        (errno.EMFILE, Limits(open_files=20), ("open_files",)),
        (errno.EAGAIN, Limits(processes=2), ("processes",)),
        (errno.EFBIG, Limits(), ()),
        (errno.ENOENT, Limits(file_size=100, open_files=20), ()),
    ],
)
def test_a_limit_the_kernel_refused_for_shows_in_the_report(number: int, limits: Limits, hit: tuple[str, ...]) -> None:
    assert report(facts(ended(), Raised("OSError", "t", "tb", number), limits=limits)).limits_hit == hit


def test_the_kernels_cpu_and_file_limits_are_signals() -> None:
    limits = Limits(cpu_s=1, file_size=10)
    known = facts(ended(signal.SIGXCPU), limits=limits)
    error = judge(known, report(known))
    assert error is not None
    assert (error.kind, error.limit) == ("ToolLimitExceeded", "cpu")
    assert report(facts(ended(signal.SIGXFSZ), limits=limits)).limits_hit == ("file_size",)


def test_the_stack_is_found_only_for_a_death_by_signal() -> None:
    text = b"noise\nFatal Python error: Segmentation fault\n\nCurrent thread 0x1:\n  File x\n"
    assert report(facts(ended(SEGV), stderr=text)).stack.startswith("Fatal Python error: Segmentation fault")
    assert report(facts(ended(), DONE, stderr=text)).stack == ""
    assert find_stack("nothing of the kind") == ""


def test_the_tail_of_stderr_is_bounded_and_readable() -> None:
    tail = report(facts(ended(), DONE, stderr=b"\xff" * 100_000)).stderr_tail
    assert set(tail) == {"�"}
    assert len(tail) <= 4096


@pytest.mark.parametrize(
    ("timeout_s", "said"),
    [(0.2999871, "after 0.3 s"), (1234.5, "after 1234.5 s"), (0.001, "after 1 ms"), (0.01, "0.01 s")],
)
def test_a_deadline_is_told_in_seconds_that_are_not_none(timeout_s: float, said: str) -> None:
    known = facts(ended(TERMED, "asked"), cause="deadline", timeout_s=timeout_s)
    error = judge_command(known, report(known))
    assert error is not None
    assert error.message.endswith(said)
