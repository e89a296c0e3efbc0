"""Errors as the legacy system writes them, `("error", reason)`, to and from ours; and any error as one line of text.

It is *not* the error tree (`ipc/core/errors.py`). The classes that the source documents ask for are these of ours:

    SessionNotFound  SessionNotFound                  MemoryNotFound  InvalidRequest, code not_found
    SessionInvalidState  SessionNotRunning            MemoryStorageFailed, MemoryPromotionFailed  StorageError
    SessionConfigError  InvalidRequest, invalid_…     InvalidParameters, SchemaValidationFailed  InvalidRequest
    ToolNotFound  InvalidRequest, code not_found      InvalidSessionId  InvalidRequest, code invalid_session_id
    ToolExecutionFailed  ToolFailed and below         ToolValidationFailed  InvalidRequest
    ToolTimeout  ToolTimedOut

Rules: a reason is a Symbol, a text, a pair of both or a list of Symbols; one of those survives the way to ours and back.
What is none of them becomes code `unknown` and the text that Python prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from procession.agent_proc.agent.record.reasons import Reason, refusal
from procession.ipc.core.errors import (
    AlreadyExists,
    CallTimedOut,
    InvalidRequest,
    ProcessionError,
    SessionLimitReached,
    SessionNotFound,
    SessionNotRunning,
    cut,
)


class Symbol(str):
    """A word of the legacy system's own, as `not_found`: equal to its text, and told from a text that people wrote."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f":{self}"


ERROR: Final = Symbol("error")
UNKNOWN: Final = "unknown"
"""The code of a reason that has none."""
WITH_TEXT: Final = frozenset({"empty_message", "message_too_long", "invalid_tool_call"})
"""Codes whose legacy reason is a pair with their text."""

_TYPES: Final[dict[str, type[ProcessionError]]] = {
    "not_found": SessionNotFound,
    "session_not_found": SessionNotFound,
    "agent_not_found": SessionNotFound,
    "no_sessions": SessionNotFound,
    "session_exists": AlreadyExists,
    "project_already_open": AlreadyExists,
    "already_started": AlreadyExists,
    "session_limit_reached": SessionLimitReached,
    "not_running": SessionNotRunning,
    "timeout": CallTimedOut,
    "name_too_long": InvalidRequest,
    "symlink_escape": InvalidRequest,
    "symlink_escapes_boundary": InvalidRequest,
    "protected_settings_file": InvalidRequest,
    "key_not_found": InvalidRequest,
    "not_streaming": InvalidRequest,
    "empty_message": InvalidRequest,
    "message_too_long": InvalidRequest,
}
_OF_REQUESTS: Final = ("invalid_", "missing_", "path_")
"""How the codes of what a caller gave begin."""


def from_legacy(given: object) -> ProcessionError:
    """Return the error that a legacy reason means, its `("error", …)` taken off; one of ours is returned as it is."""
    reason = _unwrapped(given)
    if isinstance(reason, tuple) and len(reason) == 2 and all(isinstance(part, str) for part in reason):
        return _error(str(reason[0]), str(reason[1]))
    if isinstance(reason, list) and reason and all(isinstance(code, Symbol) for code in reason):
        return refusal(*(Reason(str(code), str(code)) for code in reason))
    match reason:
        case ProcessionError():
            return reason
        case Symbol():
            return _error(str(reason), str(reason))
        case str():
            return ProcessionError(reason, code=UNKNOWN)
        case _:
            return ProcessionError(cut(repr(reason)), code=UNKNOWN)


def legacy_error(error: ProcessionError, *, listed: bool = False) -> tuple[Symbol, object]:
    """Return an error as the legacy system answers it.

    listed: for the operations that answer what is wrong with a value as the list of all reasons.
    """
    if listed and isinstance(error, InvalidRequest):
        return ERROR, [Symbol(code) for code in error.codes]
    if error.code == UNKNOWN:
        return ERROR, error.message
    if error.code in WITH_TEXT:
        return ERROR, (Symbol(error.code), error.message)
    return ERROR, Symbol(error.code)


def format_text(error: object) -> str:
    """Return any error as text.

    A text is itself, what wraps an error is that error, a map with a message is the message; anything else is what Python
    prints.
    """
    error = _unwrapped(error, lua=True)
    match error:
        case str() | ProcessionError():
            return str(error)
        case Mapping() if isinstance(error.get("message"), str):
            return str(error["message"])
        case _:
            return cut(repr(error))


def _unwrapped(given: object, *, lua: bool = False) -> object:
    """Take off every `("error", …)` and, with `lua`, every `("lua_error", …, its state)`, however deep they are."""
    while isinstance(given, tuple) and (
        (len(given) == 2 and given[0] == ERROR) or (lua and len(given) == 3 and given[0] == "lua_error")
    ):
        given = given[1]
    return given


def _error(code: str, text: str) -> ProcessionError:
    kind = _TYPES.get(code, InvalidRequest if code.startswith(_OF_REQUESTS) else ProcessionError)
    return kind(text, code=code)
