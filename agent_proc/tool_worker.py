"""The worker of one tool call: a user's tool is loaded, its arguments checked, and called; a built-in one is carried out.

    order ──▶ [load, bind] ──▶ Begun ──▶ the tool ──▶ ToolTold (words, files touched) ──▶ Finished and the value
         '──▶ NotRun, when it refuses:        '──▶ Rejected, when its result is no data, or not what it declares
              nothing was done

It is *not* trusted, like every worker. Rules: what is told about a call is made here, so that the session process decodes
nothing that a tool made; a refusal comes before any effect of the tool.
"""

from __future__ import annotations

import os
import pickle
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from procession.agent_proc import rlimits
from procession.agent_proc.agent.tools.define import Definition, definition_of
from procession.agent_proc.agent.tools.results import content_of
from procession.agent_proc.agent.tools.sanitizer import sanitize, sanitize_text
from procession.agent_proc.core.worker_messages import Begun, Finished, NotRun, Rejected, ToolTold
from procession.agent_proc.tools.carry_out import TOUCHES, carry_out
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
    tell_raised,
)
from procession.ipc.core.bounds import RESULT_NODES_MAX, KiB
from procession.ipc.core.errors import InvalidRequest, ToolResultInvalid
from procession.ipc.core.limits import Limits
from procession.ipc.core.loading import loading
from procession.ipc.core.values import UnsupportedValue, decode_value, encode_value

CONTENT_CHARS_MAX: Final = 16 * KiB
"""Of a result as a state keeps it: what a person or a model looks back at. The caller gets all of it."""
_TOLD_BYTES_MAX: Final = 256 * KiB
"""What is larger is not turned into words, of which only the beginning would be kept."""

Touched = dict[str, tuple[str, ...]]
_getpid, _exit = os.getpid, os._exit


@dataclass(frozen=True, slots=True)
class ToolOrder:
    """What the session hands to the worker. code: the pickled function, empty for a built-in tool; reads: files read before."""

    name: str
    arguments: dict[str, Any]
    code: bytes
    project_root: str
    session_id: str
    reads: frozenset[str]
    limits: Limits
    import_paths: tuple[str, ...]
    payload_bytes_max: int


def run_tool(order: ToolOrder, fds: ChildFds) -> NoReturn:
    """Run one tool and tell what came of it; does not return."""
    settle_streams(fds)
    settle_python(order.import_paths)
    pid = _getpid()
    try:
        call, definition = _prepared(order, fds.result) if order.code else (lambda: _built_in(order, fds.result), None)
        if order.code:
            tell(fds.result, Begun())
        rlimits.apply_rlimits(order.limits)
        value, touched = call()
        if _getpid() != pid:  # a child that the tool forked and let return: it is not the worker
            _exit(0)
        data = _encoded(value, order, fds.result)
        if definition is not None:
            _check(data, definition, fds.result)
    except SystemExit as end:
        flush_streams()
        _exit(exit_code_of(end))
    except BaseException as error:
        if _getpid() != pid:
            _exit(1)
        flush_streams()
        tell_raised(fds.result, error)
        _exit(0)
    _deliver(value, data, touched, fds.result)
    _exit(0)


def _refuse(result_fd: int, code: str, message: str, hint: str) -> NoReturn:
    flush_streams()
    tell(result_fd, NotRun(code, plain(message), plain(hint)))
    _exit(0)


def _prepared(order: ToolOrder, result_fd: int) -> tuple[Callable[[], tuple[object, Touched]], Definition]:
    """Load a user's tool and check its arguments; refuse when that fails, for then nothing was run."""
    try:
        with loading("the tool"):
            function: Callable[..., object] = pickle.loads(order.code)
        definition = definition_of(function)
    except BaseException as error:
        text, _ = exception_texts(error, __file__)
        told = f"the tool {order.name} cannot be loaded in the worker: {exception_type(type(error))}: {text}"
        _refuse(result_fd, "unpicklable_in_worker", told, "pass its folder in import_paths=[...]")
    try:
        bound = definition.bind(order.arguments)
    except InvalidRequest as error:
        _refuse(result_fd, error.code, error.message, error.hint)

    def call() -> tuple[object, dict[str, tuple[str, ...]]]:
        value = function(**bound)
        if type(value) is types.CoroutineType:
            import asyncio

            value = asyncio.run(value)
        return value, {}

    return call, definition


def _built_in(order: ToolOrder, result_fd: int) -> tuple[object, Touched]:
    done = carry_out(order.name, order.arguments, order.project_root, order.session_id, order.reads)
    if not done["ok"]:
        _refuse(result_fd, done["code"], done["message"], done["hint"])
    return done["value"], {touch: tuple(done[touch]) for touch in TOUCHES}


def _encoded(value: object, order: ToolOrder, result_fd: int) -> bytes:
    """Return the result as it travels, or say why it cannot be handed over."""
    try:
        return encode_value(value, lossy=True, bytes_max=order.payload_bytes_max, nodes_max=RESULT_NODES_MAX)
    except UnsupportedValue as refusal:
        code = "too_large" if refusal.too_large else ""
        _reject(result_fd, code, f"{refusal.path} is {refusal.what}", refusal.hint)


def _check(data: bytes, definition: Definition, result_fd: int) -> None:
    """Say so when the result, as the caller will have it, is not what the tool declares."""
    try:
        definition.check_result(decode_value(data, nodes_max=RESULT_NODES_MAX))
    except ToolResultInvalid as refusal:
        _reject(result_fd, refusal.code, refusal.message, refusal.hint)


def _reject(result_fd: int, code: str, message: str, hint: str) -> NoReturn:
    flush_streams()
    tell(result_fd, Rejected(code, plain(message), plain(hint)))
    _exit(0)


def _deliver(value: object, data: bytes, touched: Touched, result_fd: int) -> None:
    """Write the result, and tell about it."""
    told = f"({len(data)} bytes of data)"
    if len(data) <= _TOLD_BYTES_MAX:
        told = told_content(value if isinstance(value, str) else decode_value(data, nodes_max=RESULT_NODES_MAX))
    flush_streams()
    tell(result_fd, ToolTold(told, **touched))
    tell(result_fd, Finished(len(data)), data)


def told_content(value: object) -> str:
    """Return a result in words, without the secrets known by their form or field, at most CONTENT_CHARS_MAX of them."""
    text = sanitize_text(content_of(sanitize(value)))
    over = len(text) - CONTENT_CHARS_MAX
    return plain(
        text if over <= 0 else f"{text[:CONTENT_CHARS_MAX]}\n... ({over} more characters)", CONTENT_CHARS_MAX + 64
    )
