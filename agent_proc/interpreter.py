"""The stateful interpreter of a session: the child that keeps its names between cells.

It reads cells from a pipe, runs one at a time, and tells how each ended; what they print goes through its own stdout and
stderr. It is *not* the queue of cells (cells.py), and knows no deadline: it is interrupted by SIGINT, or ended.

Rules: SIGINT raises only while a cell runs; output is flushed before a cell's end is told; a process that a cell forked and
let return is ended, it is not the interpreter.
"""

from __future__ import annotations

import builtins
import linecache
import os
import signal
import sys
import types
from dataclasses import dataclass
from typing import Final, NoReturn

import msgspec

from procession.agent_proc import rlimits
from procession.agent_proc.core.cell_code import compile_cell
from procession.agent_proc.core.worker_messages import CellDone
from procession.agent_proc.worker import (
    ChildFds,
    exception_texts,
    exception_type,
    exit_code_of,
    flush_streams,
    plain,
    settle_python,
    settle_streams,
    tell,
)
from procession.ipc.core.bounds import READ_BYTES, KiB
from procession.ipc.core.frames import FrameDecoder
from procession.ipc.core.limits import Limits

#: The repr of a last value is cut here: it is for reading.
VALUE_CHARS_MAX: Final = 64 * KiB
#: Cells whose source is kept for tracebacks.
SOURCES_KEPT: Final = 1_000

_CELL: Final = msgspec.msgpack.Decoder(tuple[int, str])
_pack_cell: Final = msgspec.msgpack.Encoder().encode


def pack_cell(number: int, code: str) -> bytes:
    """Return the message that gives the interpreter a cell."""
    return _pack_cell((number, code))


@dataclass(frozen=True, slots=True)
class InterpreterOrder:
    """What the session hands to the interpreter. cells_r: the pipe that cells come through."""

    cells_r: int
    limits: Limits
    import_paths: tuple[str, ...]


def run_interpreter(order: InterpreterOrder, fds: ChildFds) -> NoReturn:
    """Run cells until the pipe ends or a cell asks for the end; does not return."""
    settle_streams(fds)
    settle_python(order.import_paths)
    sys.path.insert(0, "")  # as at any prompt: modules beside you can be imported
    rlimits.apply_rlimits(order.limits)
    interpreter = _Interpreter(fds.result)
    decoder = FrameDecoder()
    while True:
        data = os.read(order.cells_r, READ_BYTES)
        if not data:
            os._exit(0)
        for _, payload in decoder.feed(data):
            interpreter.run(*_CELL.decode(payload))


def _no_input(*_prompt: object) -> NoReturn:
    raise EOFError("input() is not available in a session: pass data as arguments")


class _Interpreter:
    """The names of the cells, and how one is run."""

    def __init__(self, result_fd: int) -> None:
        self._result_fd = result_fd
        self._pid = os.getpid()
        self._running = False
        self._sources: list[str] = []
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        self._names = main.__dict__
        self._names["__builtins__"] = builtins
        builtins.input = _no_input
        signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, _signal: int, _frame: types.FrameType | None) -> None:
        if self._running:
            raise KeyboardInterrupt

    def run(self, number: int, code: str) -> None:
        """Run a cell and tell how it ended; does not return when the cell ended the interpreter."""
        try:
            self._running = True
            try:
                done = self._execute(number, code)
            finally:
                self._running = False
        except BaseException:  # an interrupt just as the cell was over
            done = CellDone(number, error="KeyboardInterrupt\n", error_type="KeyboardInterrupt")
        if os.getpid() != self._pid:
            os._exit(0)
        flush_streams()
        tell(self._result_fd, done)
        if done.ending:
            os._exit(0)

    def _execute(self, number: int, code: str) -> CellDone:
        filename = f"<cell {number}>"
        self._keep_source(filename, code)
        try:
            body, last = compile_cell(code, filename)
        except BaseException as error:
            error.__traceback__ = None  # its frames are ours; where in the cell it is, is in its text
            return self._raised(number, error)
        try:
            if body is not None:
                exec(body, self._names)
            if last is None:
                return CellDone(number)
            value = eval(last, self._names)
            if value is None:
                return CellDone(number)
            self._names["_"] = value
            return CellDone(number, value=plain(repr(value), VALUE_CHARS_MAX))
        except SystemExit as end:
            text, _ = exception_texts(end, __file__)
            return CellDone(
                number,
                error=plain(f"SystemExit: {text}" if text else "SystemExit"),
                error_type="SystemExit",
                ending=True,
                exit_code=exit_code_of(end),
            )
        except BaseException as error:
            return self._raised(number, error)

    @staticmethod
    def _raised(number: int, error: BaseException) -> CellDone:
        _, lines = exception_texts(error, __file__)
        return CellDone(number, error=lines, error_type=exception_type(type(error)))

    def _keep_source(self, filename: str, code: str) -> None:
        """Let tracebacks show the lines of this cell."""
        linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)
        self._sources.append(filename)
        if len(self._sources) > SOURCES_KEPT:
            linecache.cache.pop(self._sources.pop(0), None)
