"""The session's side of its interpreter: cells in the order they came, one at a time, each with its deadline.

    cell queued --> running --CellDone--> answered; the interpreter stays
                       '--deadline or cancel: SIGINT, 1 s, SIGTERM, 0.25 s, SIGKILL; the cell's answer says so
    an interpreter that ends, for whatever reason, is replaced for the next cell, whose result says `fresh`

Rules: one interpreter at most; a cell is answered exactly once; what was printed before a cell's end is in its answer; an
interrupt reaches its process before the next cell does, so it never hits a later one.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from functools import partial
from typing import Final

import msgspec

from procession.agent_proc import proctree
from procession.agent_proc.context import Context
from procession.agent_proc.core.outcome import Cause, ended_on_purpose, judge_cell, report
from procession.agent_proc.core.worker_messages import AnyMessage, CellDone
from procession.agent_proc.feeder import Feeder
from procession.agent_proc.guest import INTERRUPT, TERM, Guest
from procession.agent_proc.interpreter import InterpreterOrder, pack_cell, run_interpreter
from procession.agent_proc.loop import Timer, monotonic
from procession.agent_proc.runs import QueuedCall, no_resources
from procession.ipc.core.bounds import INTERPRETER_INT_GRACE_S
from procession.ipc.core.errors import ProcessionError, to_data
from procession.ipc.core.frames import chunks
from procession.ipc.core.limits import merge
from procession.ipc.core.messages import Born, Call
from procession.ipc.core.operations import CodeBody, CodeDone
from procession.ipc.core.records import CodeResult, RunReport

_encode: Final = msgspec.msgpack.Encoder().encode
LABEL: Final = "run_code"


class Cell(QueuedCall):
    """One call of `run_code`."""

    op = LABEL

    def __init__(self, context: Context, call: Call, body: CodeBody, cells: Cells) -> None:
        self.body = body
        self.cells = cells
        self.number = 0
        self.fresh = False
        self.cause: Cause = "none"
        self.started_at = 0.0
        super().__init__(context, call)

    @property
    def is_live(self) -> bool:
        return self.cells.current is self

    def begun(self) -> None:
        """It is this cell's turn."""

    def leave_queue(self) -> None:
        self.cells.waiting.remove(self)

    def end(self, cause: str) -> None:
        assert cause in {"deadline", "cancelled", "shutdown"}
        if self.cause == "none":
            self.cause = cause  # type: ignore[assignment]
            self.cells.end_current()

    def grant(self, stream: int, count: int) -> None:
        if self.is_live and self.cells.guest is not None:
            self.cells.guest.output.grant(stream, count)


class Cells:
    """The queue of cells and the one interpreter."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.waiting: deque[Cell] = deque()
        self.current: Cell | None = None
        self.guest: Guest | None = None
        self._feeder: Feeder | None = None
        self._pidfd = -1
        self._number = 0
        self._leaving = False  # the interpreter said that it ends: the next cell waits until it has
        self._grace: Timer | None = None

    def add(self, cell: Cell) -> None:
        """Take a cell, and run it when nothing else does."""
        self.waiting.append(cell)
        self._next()

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the running cell, if there is one."""
        if self.current is not None:
            self._signal()

    def shutdown(self) -> None:
        """Begin to end an interpreter that runs no cell; a cell's own end comes first."""
        if self.guest is not None and self.current is None:
            self.guest.stop("shutdown")

    def end_current(self) -> None:
        """Begin to end the running cell: politely, and after a second with its interpreter."""
        self._signal()
        self._grace = self._context.loop.after(INTERPRETER_INT_GRACE_S, self._stop)

    def _stop(self) -> None:
        self._grace = None
        if self.guest is not None and self.current is not None:
            self.guest.stop(self.current.cause, TERM)

    def _signal(self) -> None:
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGINT)
            except ProcessLookupError:
                pass
        elif self.guest is not None:  # it is being born: its keeper knows it before we do
            self.guest.kill(INTERRUPT)

    # --- the life of a cell -----------------------------------------------------------------------------------
    def _next(self) -> None:
        if self._context.stopping:
            self.shutdown()
        while self.current is None and self.waiting and not self._leaving and not self._context.stopping:
            cell = self.waiting.popleft()
            self._context.page.mark_started(cell.seq)
            try:
                if self.guest is None:
                    self._start()
                    cell.fresh = True
            except ProcessionError as error:
                cell.refuse(to_data(error))
                continue
            except OSError as error:
                cell.refuse(no_resources(cell.op, error))
                continue
            self._begin(cell)

    def _start(self) -> None:
        limits = self._context.limits
        guest = Guest(self._context, LABEL, limits, self._over)
        guest.on_born = self._born
        cells_r, cells_w = os.pipe2(os.O_CLOEXEC)
        try:
            order = InterpreterOrder(cells_r, limits, self._context.booted.import_paths)
            guest.start(partial(run_interpreter, order), keep=(cells_r,), told=self._told)
        except BaseException:
            os.close(cells_w)
            raise
        finally:
            os.close(cells_r)
        self.guest = guest
        self._feeder = Feeder(self._context.loop, cells_w)

    def _born(self, record: Born) -> None:
        try:
            pidfd = os.pidfd_open(record.pid)
        except OSError:
            return
        if proctree.start_ticks(record.pid) == record.start_ticks:
            self._pidfd = pidfd
        else:  # it died already and another one has its pid
            os.close(pidfd)

    def _begin(self, cell: Cell) -> None:
        assert self.guest is not None
        assert self._feeder is not None
        self._number += 1
        cell.number = self._number
        cell.started_at = monotonic()
        self.current = cell
        cell.begun()
        self.guest.output.begin(cell.seq, merge(cell.body.limits, self.guest.limits).output_bytes)
        for frame in chunks(pack_cell(cell.number, cell.body.code)):
            self._feeder.feed(frame)

    def _told(self, message: AnyMessage) -> None:
        """Take the end of a cell; whatever else comes through the pipe is the cell's own mischief."""
        cell, guest = self.current, self.guest
        if cell is None or guest is None or not isinstance(message, CellDone) or message.number != cell.number:
            return
        guest.output.drain()
        if guest.cause == "output":  # printed more than it may: its end is under way, and answers the cell
            return
        self._leaving = message.ending
        self._finish_current(guest, message)
        self._next()

    def _finish_current(self, guest: Guest, done: CellDone) -> None:
        cell = self.current
        assert cell is not None
        self.current = None
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        elapsed_s = monotonic() - cell.started_at
        out, err = guest.output.stdout.ring, guest.output.stderr.ring
        result = CodeResult(
            stdout=out.content().decode("utf-8", "replace"),
            stderr=err.content().decode("utf-8", "replace"),
            value=done.value,
            error=done.error,
            error_type=done.error_type,
            exit_code=done.exit_code,
            fresh=cell.fresh,
            stdout_dropped=out.dropped,
            stderr_dropped=err.dropped,
            elapsed_s=elapsed_s,
        )
        run_report = RunReport(
            tool=LABEL,
            pid=guest.pid or None,
            elapsed_s=elapsed_s,
            ended="exit",
            exit_code=done.exit_code or 0,
            stderr_tail=result.stderr[-1000:],
        )
        streamed = guest.output.finish()
        out.clear()
        err.clear()
        if cell.cause != "none":
            facts = guest.facts(cell.timeout_s)
            kept = msgspec.structs.replace(
                run_report, ended="deadline" if cell.cause == "deadline" else "cancelled", exit_code=None
            )
            cell.refuse(ended_on_purpose(cell.cause, facts, kept), streamed=streamed)
        else:
            cell.answer(CodeDone(report=run_report), _encode(result), streamed=streamed)

    def _over(self) -> None:
        """Take the end of the interpreter, and of the cell it was in."""
        guest, cell = self.guest, self.current
        assert guest is not None
        assert self._feeder is not None
        self._feeder.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self.guest, self.current, self._feeder, self._pidfd, self._leaving = None, None, None, -1, False
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        if cell is not None:
            streamed = guest.output.finish()
            if guest.cause == "none":
                guest.cause = cell.cause
            facts = guest.facts(cell.timeout_s)
            cell.refuse(judge_cell(facts, report(facts)), streamed=streamed)
        self._next()
