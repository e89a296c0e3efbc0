"""The life of one tool call as others see it: in the state of a code session, and in signals to who listens.

    pending ──▶ running ──▶ completed | error | timeout          procession.tool.call ──▶ .tool.result | .tool.error

It is *not* the run (tool_jobs.py). Rules: a call is announced once its arguments are known to be right, and its outcome always;
what is kept of arguments and results is bounded; a call that its process died in is closed by the next one, as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from procession.agent_proc.agent.code_session.tool_calls import OPEN, TOOL_CALLS
from procession.agent_proc.agent.code_session_agent import CodeSessionAgent
from procession.agent_proc.agent.signal_types import FILE_LIST, TOOL_CALL, TOOL_ERROR, TOOL_RESULT
from procession.agent_proc.agent_values import new_id
from procession.agent_proc.loop import monotonic
from procession.ipc.core.agent_keys import TOOLS_KEY
from procession.ipc.core.bounds import KiB
from procession.ipc.core.errors import ErrorData, ProcessionError, cut
from procession.ipc.core.state_ops import DeletePath, PutEntry, Value

if TYPE_CHECKING:
    from procession.agent_proc.agent_server import AgentServer

TEXT_CHARS_MAX: Final = 4 * KiB
"""Of each text among the arguments as they are kept: a file that is written is in the file."""
PARTS_MAX: Final = 1_000
"""Of arguments as they are kept; a call of more was made by no person and no model."""
_ERROR_CHARS_MAX: Final = 2_000
UNKNOWN: Final = "the session process ended while the tool ran: whether it took effect is unknown"
_CUT: Final = "... (cut)"


class ToolLife:
    """See the module's text."""

    def __init__(self, server: AgentServer, name: str, call_id: str, arguments: Mapping[str, Value]) -> None:
        self.id = call_id or new_id()
        self.name = name
        self._server = server
        self._arguments = kept_arguments(arguments)
        self._is_kept = server.agent is CodeSessionAgent
        self._began: float | None = None
        self._is_over = False

    def accept(self) -> None:
        """Keep the call. Raises what the agent refuses with: duplicate_tool_call, invalid_tool_call, state_too_large."""
        if self._is_kept:
            call: dict[str, Any] = {"id": self.id, "name": self.name, "arguments": self._arguments}
            self._server.do("add_tool_call", tool_call=call)
            self._server.commit(PutEntry((TOOLS_KEY,), self.id, self.name))

    def begin(self) -> None:
        """Its arguments are right, and it runs; told again by a worker that misbehaves, it counts once."""
        if self._began is not None or self._is_over:
            return
        self._began = monotonic()
        self._update(status="running")
        self._tell(TOOL_CALL, params=self._arguments)

    def complete(self, content: str) -> None:
        """It gave a result, in words."""
        if not self._is_over:
            self._end(status="completed", result=content)
            self._tell(TOOL_RESULT, result=content, duration_ms=self.duration_ms)

    def fail(self, error: ErrorData) -> None:
        """It was refused, or failed."""
        if not self._is_over:
            from procession.agent_proc.agent.tools.sanitizer import sanitize_text

            message = sanitize_text(cut(error.message, _ERROR_CHARS_MAX))
            self._end(status="timeout" if _is_late(error) else "error", error=f"{error.code or error.kind}: {message}")
            reason = {"code": error.code or error.kind, "message": message, "ran": error.ran}
            self._tell(TOOL_ERROR, reason=reason, duration_ms=self.duration_ms)

    def touch(self, reads: Iterable[str], writes: Iterable[str], lists: Iterable[str]) -> None:
        """Note which files it read, wrote and listed. Paths that a worker made up are refused by the agent, and left out."""
        for action, paths in (("track_file_read", reads), ("track_file_write", writes)):
            for path in paths:
                try:
                    self._server.do(action, path=path)
                except ProcessionError:
                    continue
        for path in lists:
            self._server.tell_subscribers(FILE_LIST, {"path": path, "session_id": self._session})

    @property
    def duration_ms(self) -> int:
        """How long it ran."""
        return 0 if self._began is None else round((monotonic() - self._began) * 1000)

    @property
    def _session(self) -> str:
        return self._server.context.booted.session

    def _end(self, **attrs: Value) -> None:
        self._is_over = True
        self._update(**attrs)
        if self._is_kept:
            self._server.commit(DeletePath((TOOLS_KEY, self.id)))

    def _update(self, **attrs: Value) -> None:
        if not self._is_kept:
            return
        try:
            self._server.do("update_tool_call", id=self.id, **attrs)
        except ProcessionError:  # somebody cleared the calls, or updated this one, while it ran
            pass

    def _tell(self, type_: str, **more: Value) -> None:
        data = {"call_id": self.id, "tool_name": self.name, "session_id": self._session, **more}
        self._server.tell_subscribers(type_, data)


def close_left(server: AgentServer, left: Mapping[str, Value]) -> None:
    """Close the calls that the last process of this session died in."""
    for call_id in left:
        call = TOOL_CALLS.find(server.state, call_id)
        if call is not None and call["status"] in OPEN:
            server.do("update_tool_call", id=call_id, status="error", error=f"tool_outcome_unknown: {UNKNOWN}")
    server.commit(DeletePath((TOOLS_KEY,)))


def kept_arguments(arguments: Mapping[str, Value]) -> dict[str, Value]:
    """Return arguments as a state keeps them: texts and lists are cut to a bound."""
    left = [PARTS_MAX]
    return {name: _kept(value, left) for name, value in arguments.items()}


def _kept(value: Value, left: list[int]) -> Value:
    left[0] -= 1
    if left[0] < 0:
        return _CUT
    match value:
        case str():
            return value if len(value) <= TEXT_CHARS_MAX else value[:TEXT_CHARS_MAX] + _CUT
        case bytes():
            return value if len(value) <= TEXT_CHARS_MAX else value[:TEXT_CHARS_MAX]
        case list():
            return [_kept(item, left) for item in value[: left[0] + 1]]
        case dict():
            return {key: _kept(item, left) for key, item in list(value.items())[: left[0] + 1]}
        case _:
            return value


def _is_late(error: ErrorData) -> bool:
    return error.kind in ("ToolTimedOut", "CallTimedOut", "ExpiredInQueue")
