"""The worker that answers a message: it calls the responder and passes on its text as it comes.

    responder(turn) -> a text, pieces of one, or either of them awaited          each piece: to the caller, and to the state

It is *not* where a model is: the responder is the program's, runs here as a tool does, and is ended at its deadline. Rules:
what it prints is not its answer (it goes to stderr); what it yields is text, or it fails; nothing of the session is open.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from procession.agent_proc import rlimits
from procession.agent_proc.agent.turn import Turn
from procession.agent_proc.core.worker_messages import Finished, NotRun, Piece
from procession.agent_proc.worker import (
    ChildFds,
    exception_texts,
    exception_type,
    flush_streams,
    plain,
    settle_python,
    settle_streams,
    tell,
    tell_raised,
)
from procession.ipc.core.bounds import KiB
from procession.ipc.core.limits import Limits
from procession.ipc.core.loading import loading

#: A piece that is told at once; with its frame it stays well within one.
PIECE_CHARS_MAX: Final = 32 * KiB

_getpid, _exit, _write = os.getpid, os._exit, os.write


@dataclass(frozen=True, slots=True)
class ResponderOrder:
    """What the session hands to the worker. code: the pickled responder."""

    code: bytes
    turn: Turn
    limits: Limits
    import_paths: tuple[str, ...]


def run_responder(order: ResponderOrder, fds: ChildFds) -> NoReturn:
    """Call the responder and tell what it says; does not return."""
    settle_streams(fds)
    answer_fd = os.dup(1)
    os.dup2(2, 1)
    settle_python(order.import_paths)
    pid = _getpid()
    responder = _load(order.code, fds.result)
    rlimits.apply_rlimits(order.limits)
    try:
        _respond(responder, order.turn, lambda piece: _say(piece, answer_fd, fds.result))
    except BaseException as error:
        if _getpid() != pid:  # a child that the responder forked and let return: it is not the worker
            _exit(1)
        flush_streams()
        tell_raised(fds.result, error)
        _exit(0)
    if _getpid() == pid:
        flush_streams()
        tell(fds.result, Finished(0))
    _exit(0)


def _load(code: bytes, result_fd: int) -> Callable[[Turn], Any]:
    try:
        with loading("the responder"):
            responder: Callable[[Turn], Any] = pickle.loads(code)
    except BaseException as error:
        text, _ = exception_texts(error, __file__)
        kind = exception_type(type(error))
        told = plain(f"the responder cannot be loaded in the worker: {kind}: {text}")
        tell(result_fd, NotRun("unpicklable_in_worker", told, "pass its folder in import_paths=[...]"))
        _exit(0)
    return responder


def _respond(responder: Callable[[Turn], Any], turn: Turn, say: Callable[[object], None]) -> None:
    said = responder(turn)
    if hasattr(said, "__await__") or isinstance(said, AsyncIterator):
        import asyncio

        asyncio.run(_respond_later(said, say))
    else:
        _pass_on(said, say)


async def _respond_later(said: Any, say: Callable[[object], None]) -> None:
    if not isinstance(said, AsyncIterator):
        said = await said
    if isinstance(said, AsyncIterator):
        async for piece in said:
            say(piece)
    else:
        _pass_on(said, say)


def _pass_on(said: object, say: Callable[[object], None]) -> None:
    if isinstance(said, Iterator | list | tuple):
        for piece in said:
            say(piece)
    else:
        say(said)


def _say(piece: object, answer_fd: int, result_fd: int) -> None:
    """Pass a piece on: to the state first, so that nobody has seen what is not there."""
    if not isinstance(piece, str):
        raise TypeError(f"a responder says text, not {type(piece).__name__}")
    for at in range(0, len(piece), PIECE_CHARS_MAX):
        part = str(piece[at : at + PIECE_CHARS_MAX])
        data = part.encode()
        tell(result_fd, Piece(part))
        view = memoryview(data)
        while view:
            view = view[_write(answer_fd, view) :]
    sys.stderr.flush()
