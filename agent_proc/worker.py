"""What the forked worker of one `run` does, and the preparations that every child of a session makes first.

This is where user code runs and the only place that unpickles. It is *not* trusted: the session believes what comes out
of the result pipe as little as the host believes the session.

Rules: nothing of the session is left open here; what the user's code patches cannot reach the few system functions that
deliver the result (they are taken at import); whatever the exception does when it is turned into text, the worker ends.
"""

from __future__ import annotations

import errno
import faulthandler
import io
import os
import pickle
import sys
import traceback
import types
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from procession.agent_proc import rlimits
from procession.agent_proc.context import read_payload
from procession.agent_proc.core.worker_messages import AnyMessage, Finished, NotRun, Raised, Raising, Rejected, pack
from procession.ipc.core import inside
from procession.ipc.core.bounds import ERROR_TEXT_CHARS_MAX, RESULT_NODES_MAX, TRACEBACK_CHARS_MAX
from procession.ipc.core.errors import cut
from procession.ipc.core.limits import Limits
from procession.ipc.core.loading import loading
from procession.ipc.core.messages import Payload
from procession.ipc.core.value_hints import type_name
from procession.ipc.core.values import UnsupportedValue, encode_value

#: Making the text of an exception runs code of its class; longer than this and the worker is ended by a watchdog in C.
EXCEPTION_TEXT_S_MAX: Final = 1.0
_PAYLOAD_PART_BYTES: Final = 1 << 20

_write, _exit, _getpid = os.write, os._exit, os.getpid
_class_dict: Final = type.__dict__["__dict__"].__get__
_qualname: Final = type.__dict__["__qualname__"].__get__


@dataclass(frozen=True, slots=True)
class ChildFds:
    """The child's ends of its pipes. stdin: -1 for none, which reads as empty."""

    stdout: int
    stderr: int
    result: int
    stdin: int = -1

    def keep(self) -> Collection[int]:
        """List them for the keeper, which closes everything else."""
        return [fd for fd in (self.stdout, self.stderr, self.result, self.stdin) if fd >= 0]


# --- preparations -------------------------------------------------------------------------------------------
def settle_streams(fds: ChildFds) -> None:
    """Put the pipes in the places of the standard streams."""
    source = fds.stdin if fds.stdin >= 0 else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for fd, place in ((source, 0), (fds.stdout, 1), (fds.stderr, 2)):
        os.dup2(fd, place)
        os.close(fd)


def settle_python(import_paths: Collection[str]) -> None:
    """Give Python code fresh standard streams, its import paths, and a stack on stderr when it dies of a signal."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        raw = io.FileIO(fd, "w", closefd=False)
        stream = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.stdin = open(0, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    setattr(sys, "__stdin__", sys.stdin)  # noqa: B010 - typed as final, but programs look there too
    faulthandler.enable(2)
    sys.path[:0] = [path for path in import_paths if path not in sys.path]
    inside.IN_WORKER = True


# --- telling the session ------------------------------------------------------------------------------------
def tell(fd: int, message: AnyMessage, payload: bytes = b"") -> None:
    """Write a message, and the bytes behind it, whole."""
    data = pack(message)
    if len(payload) < _PAYLOAD_PART_BYTES:
        data, payload = data + payload, b""
    for part in (data, payload):
        view = memoryview(part)
        while view:
            view = view[_write(fd, view) :]


def plain(text: str, chars_max: int = ERROR_TEXT_CHARS_MAX) -> str:
    """Return `text` cut to size and free of what UTF-8 cannot say."""
    return cut(text, chars_max).encode("utf-8", "backslashreplace").decode("utf-8")


def exception_type(kind: type) -> str:
    """Return `ValueError` or `package.module.Name`, read past anything the class overrides."""
    module = _class_dict(kind).get("__module__", "builtins")
    name = str.__str__(_qualname(kind))
    if type(module) is str and module != "builtins":
        name = f"{module}.{name}"
    return plain(name, 200)


def exception_texts(error: BaseException, own_file: str) -> tuple[str, str]:
    """Return (text, traceback) of an exception, whatever its class does; without `own_file`'s frames at head and tail."""
    try:
        text = plain(str(error))
    except BaseException as problem:
        text = f"(its text cannot be made: {type_name(type(problem))})"
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == own_file:
        frames = frames.tb_next
    last = frames
    while last is not None and last.tb_next is not None:
        if last.tb_next.tb_frame.f_code.co_filename == own_file:
            last.tb_next = None
        else:
            last = last.tb_next
    try:
        lines = "".join(traceback.format_exception(type(error), error, frames))
        if len(lines) > TRACEBACK_CHARS_MAX:
            lines = "... (cut short)\n" + lines[-TRACEBACK_CHARS_MAX + 20 :]
        lines = plain(lines, TRACEBACK_CHARS_MAX)
    except BaseException as problem:
        lines = f"{exception_type(type(error))}: (its traceback cannot be made: {type_name(type(problem))})\n"
    return text, lines


def tell_raised(fd: int, error: BaseException) -> None:
    """Tell that the function raised: first its type, so that making the text may fail in any way at all."""
    kind = exception_type(type(error))
    tell(fd, Raising(kind))
    faulthandler.dump_traceback_later(EXCEPTION_TEXT_S_MAX, exit=True, file=2)
    text, lines = exception_texts(error, __file__)
    faulthandler.cancel_dump_traceback_later()
    tell(fd, Raised(kind, text, lines, errno=_errno_of(error), memory=isinstance(error, MemoryError)))


def _errno_of(error: BaseException) -> int:
    """Return the errno with which the kernel refused something, as far as the exception shows it."""
    if isinstance(error, OSError) and type(error.errno) is int and 0 < error.errno < 1 << 15:
        return error.errno
    return errno.EAGAIN if isinstance(error, RuntimeError) and error.args == ("can't start new thread",) else 0


def flush_streams() -> None:
    """Hand what Python still holds of the output to the pipes."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # closed or replaced by the user's code: theirs to lose
            pass


# --- the worker of one run ----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class RunOrder:
    """What the session hands to the worker of one `run`."""

    payload: Payload
    arena_in_fd: int
    limits: Limits
    lossy: bool
    import_paths: tuple[str, ...]
    payload_bytes_max: int


def run_worker(order: RunOrder, fds: ChildFds) -> NoReturn:
    """Run one function and tell what came of it; does not return."""
    settle_streams(fds)
    settle_python(order.import_paths)
    pid = _getpid()
    loaded = _load(order, fds.result)
    rlimits.apply_rlimits(order.limits)
    try:
        result = _call(*loaded)
    except SystemExit as end:
        if _getpid() == pid:
            _show_exit(end)
            flush_streams()
        _exit(exit_code_of(end))
    except BaseException as error:
        if _getpid() != pid:  # a child that the function forked and let return: it is not the worker
            _exit(1)
        flush_streams()
        tell_raised(fds.result, error)
        _exit(0)
    if _getpid() != pid:
        _exit(0)
    _deliver(result, order, fds.result)
    _exit(0)


def _load(order: RunOrder, result_fd: int) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Unpickle the function and its arguments; tell and end when that fails, for then nothing was run."""
    try:
        data = read_payload(order.payload, order.arena_in_fd)
        if order.arena_in_fd >= 0:
            os.close(order.arena_in_fd)
        with loading("what the function needs"):
            function, args, kwargs = pickle.loads(data)
        return function, args, kwargs
    except BaseException as error:
        hint = "pass its folder in import_paths=[...], or define it where it travels by value"
        if isinstance(error, ModuleNotFoundError) and type(error.name) is str:
            text = f"the worker cannot import {error.name!r}, which the function or an argument needs"
            told = NotRun("unpicklable_in_worker", plain(text), hint)
        else:
            text, _ = exception_texts(error, __file__)
            kind = exception_type(type(error))
            told = NotRun(
                "unpicklable_in_worker", plain(f"the call cannot be loaded in the worker: {kind}: {text}"), hint
            )
        flush_streams()
        tell(result_fd, told)
        _exit(0)


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    result = function(*args, **kwargs)
    if type(result) is types.CoroutineType:
        import asyncio

        return asyncio.run(result)
    return result


def _deliver(result: object, order: RunOrder, result_fd: int) -> None:
    """Encode and write the result, or say why it cannot be handed over."""
    try:
        data = encode_value(result, lossy=order.lossy, bytes_max=order.payload_bytes_max, nodes_max=RESULT_NODES_MAX)
    except UnsupportedValue as refusal:
        flush_streams()
        code = "too_large" if refusal.too_large else ""
        tell(result_fd, Rejected(code, plain(f"{refusal.path} is {refusal.what}"), plain(refusal.hint)))
        return
    except MemoryError as error:
        tell_raised(result_fd, error)
        return
    flush_streams()
    tell(result_fd, Finished(len(data)), data)


def exit_code_of(end: SystemExit) -> int:
    """Return the exit code a Python program ends with for this SystemExit."""
    try:
        code: object = end.code
        if code is None:
            return 0
        return int.__index__(code) & 0xFF if isinstance(code, int) else 1
    except BaseException:  # of a class of the user's
        return 1


def _show_exit(end: SystemExit) -> None:
    """Print the text of a SystemExit that has one, as Python would."""
    try:
        if end.code is not None and not isinstance(end.code, int):
            sys.stderr.write(f"{end.code}\n")
            sys.stderr.flush()
    except BaseException:
        pass
