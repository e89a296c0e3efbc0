"""How the work of a verb is carried out: its output passed on as it comes, its end told, its signals heeded.

It is *not* a verb and knows no typer, so that `procession run` need not load it. Rules: output goes out byte for byte; Ctrl-C,
SIGTERM, SIGHUP and a reader that went away end the work first; what was lost is counted and said.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from procession.api.cli import exit_codes
from procession.api.cli.client import Asker
from procession.api.cli.output import complain, count, note, receipt_words, seconds
from procession.api.core import plans
from procession.ipc.core import errors
from procession.ipc.core.backend import Item
from procession.ipc.core.bounds import PAYLOAD_BYTES_MAX
from procession.ipc.core.errors import ProcessionError
from procession.ipc.core.records import CommandResult, OutputChunk

#: One read of standard input.
_READ_BYTES: Final = 1 << 20


class OutputClosed(KeyboardInterrupt):
    """Our output cannot be written any more: as Ctrl-C, the work is ended. problem: why, None when nobody reads it."""

    def __init__(self, problem: OSError | None = None) -> None:
        super().__init__()
        self._problem = problem

    def told(self) -> int:
        """Say why, if there is anything to say, and return the exit code."""
        if self._problem is None:
            return exit_codes.BROKEN_PIPE
        complain(f"standard output cannot be written: {self._problem.strerror or self._problem}")
        return exit_codes.OURS


class Terminated(KeyboardInterrupt):
    """A signal asked us to end: as Ctrl-C, the work is ended first."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _write(fd: int, data: memoryview) -> int:
    """Write what fits; a descriptor that somebody made non-blocking is waited for."""
    try:
        return os.write(fd, data)
    except BlockingIOError:
        select.select([], [fd], [])
        return 0


class Pump:
    """Writes what comes to our own stdout and stderr, whole, and counts what never came."""

    def __init__(self) -> None:
        self.dropped = {"stdout": 0, "stderr": 0}

    def __call__(self, item: Item) -> None:
        assert isinstance(item, OutputChunk)
        self.dropped[item.stream] += item.dropped
        view = memoryview(item.data)
        try:
            while view:
                view = view[_write(1 if item.stream == "stdout" else 2, view) :]
        except BrokenPipeError:
            raise OutputClosed from None
        except OSError as problem:
            raise OutputClosed(problem) from None

    def tell_dropped(self) -> None:
        """Say what was lost, to the byte: nothing is lost in silence."""
        for stream, lost in self.dropped.items():
            if lost:
                note(f"{stream} came faster than it is passed on: {lost} bytes of it were dropped")


def carry_out(host: Asker, plan: plans.Plan[CommandResult], name: str, *, memory: str | None = None) -> int:
    """Run a command, pass on what it prints, and say how it ended where its exit code does not. memory: its limit."""
    pump = Pump()
    plan.request.on_item = pump
    try:
        result = host.ask(plan)
    except OutputClosed as closed:
        return closed.told()
    except KeyboardInterrupt as interrupt:
        return interrupted(interrupt, name)
    except ProcessionError as error:
        pump.tell_dropped()
        return told(error, name)
    pump.tell_dropped()
    _explain(result, memory)
    left = result.report.processes_left
    if left:
        note(f"{count(left, 'process', 'processes')} of it could not be proved gone")
    return exit_codes.for_exit(result.exit_code)


def _explain(result: CommandResult, memory: str | None) -> None:
    """Say what of ours the program met and took for its own failure."""
    for limit in result.report.limits_hit:
        note(f"it met its {limit.replace('_', ' ')} limit")
    if not result.exit_code:
        return
    # Of these the kernel tells the program alone, and one in Python says them with its last line.
    last = result.report.stderr_tail.rstrip().rpartition("\n")[2]
    if memory is not None and last.startswith("MemoryError"):
        note(f"it asked for more memory than its limit lets it have: --memory {memory}")
    if last.startswith("EOFError") and os.isatty(0):
        note("the keyboard is not handed on to it: give it a file or a pipe to read")


def told(error: ProcessionError, name: str) -> int:
    """Say in one line what ended the program, and return its code."""
    report = error.report
    after = f" after {seconds(report.elapsed_s)}" if report is not None else ""
    receipt = f": {receipt_words(report.receipt)}" if report is not None else ""
    code = exit_codes.for_error(error, "program")
    match error:
        case errors.ToolTimedOut():
            complain(f"killed {name} at its deadline{after}{receipt}", "--timeout SECONDS gives it longer")
        case errors.ToolLimitExceeded():
            complain(f"killed {name} over its {error.limit or 'memory'} limit{after}{receipt}")
        case _:
            raise error
    return code


def interrupted(interrupt: KeyboardInterrupt, name: str, became: str = "") -> int:
    """Say what became of the program after Ctrl-C or a signal to us. became: in words, if it was not killed."""
    for text in getattr(interrupt, "__notes__", ()):
        note(text.removeprefix("procession: "))
    number = interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT
    complain(f"{signal.Signals(number).name}: {became or f'killed {name} and all it started'}")
    return exit_codes.SIGNAL_BASE + number


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the work as Ctrl-C does, while this is open."""

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one is not waited for; what we started ends with us
        raise Terminated(number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def own_host() -> Iterator[Asker]:
    """Open a private host, gone with its folder when this closes; a second Ctrl-C meanwhile leaves at once."""
    from procession.host.engine import Engine
    from procession.host.options import HostOptions

    engine = Engine(HostOptions(sandbox="off", max_sessions=1, serve=False))
    try:
        yield Asker(engine)
    finally:
        try:
            engine.close()
        except KeyboardInterrupt:
            os._exit(exit_codes.INTERRUPTED)  # every process of ours ends with us: the keepers see to it


def read_standard_input(timeout_s: float | None) -> bytes:
    """Read code from our standard input to its end, a terminal's too, at most what a payload may hold.

    Raises ExpiredInQueue when it does not end, MessageTooLarge when it is over the limit.
    """
    if not _is_open(0):
        return b""
    until = None if timeout_s is None else time.monotonic() + timeout_s
    parts: list[bytes] = []
    held = 0
    while held <= PAYLOAD_BYTES_MAX:
        left = None if until is None else max(0.0, until - time.monotonic())
        if not select.select([0], [], [], left)[0]:
            raise errors.ExpiredInQueue(
                f"the code on standard input did not end within {timeout_s:g} s, so nothing was started",
                hint="end it, or give the code as an argument",
            )
        data = os.read(0, _READ_BYTES)
        if not data:
            return b"".join(parts)
        parts.append(data)
        held += len(data)
    raise errors.MessageTooLarge(
        f"the code on standard input is over the limit of {PAYLOAD_BYTES_MAX} bytes",
        code="payload_too_large",
        hint="import it from a file instead",
    )


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
