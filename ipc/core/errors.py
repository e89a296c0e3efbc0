"""The one error tree. Each error answers a question first: did it run? (`.ran`: "no", "yes", "maybe")

`NotDelivered` never ran (safe to send again), `OutcomeUnknown` may have, `ToolFailed` and `AgentError` did.
Errors cross processes as `ErrorData` (plain data, cut to size); the class comes from the closed table below, never by
looking a name up. Texts that came from a session are text only.
"""

from __future__ import annotations

import builtins
from typing import Any, ClassVar, Final

import msgspec

from procession.ipc.core.bounds import ERROR_TEXT_CHARS_MAX, TRACEBACK_CHARS_MAX
from procession.ipc.core.records import RunReport, Transition


class ErrorData(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An error as data. `kind` is a class name of this file; anything else reads as ProcessionError."""

    kind: str
    message: str
    code: str = ""
    ran: str | None = None
    applied: bool | None = None
    session: str | None = None
    call_id: str | None = None
    elapsed_s: float | None = None
    report: RunReport | None = None
    hint: str = ""
    phase: str = ""
    limit: str = ""
    exception_type: str = ""
    traceback: str = ""
    story: tuple[Transition, ...] = ()
    codes: tuple[str, ...] = ()
    retry_after_s: float | None = None


class ProcessionError(Exception):
    """Base of every error procession raises.

    ran: whether the work was run. applied: whether its change of state was kept (None: not known or none). code: a
    stable word for programs, codes: all of them, in order, where several things are wrong at once. retryable: sending the
    same again may succeed and cannot do the work twice; retry_after_s: when, where that is known.
    """

    default_ran: ClassVar[str] = "maybe"
    default_code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "",
        ran: str | None = None,
        applied: bool | None = None,
        session: str | None = None,
        call_id: str | None = None,
        elapsed_s: float | None = None,
        report: RunReport | None = None,
        hint: str = "",
        phase: str = "",
        limit: str = "",
        exception_type: str = "",
        traceback: str = "",
        story: tuple[Transition, ...] = (),
        codes: tuple[str, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.ran = ran or self.default_ran
        self.applied = applied
        self.session = session
        self.call_id = call_id
        self.elapsed_s = elapsed_s
        self.report = report
        self.hint = hint
        self.phase = phase
        self.limit = limit
        self.exception_type = exception_type
        self.traceback = traceback
        self.story = story
        self._codes = codes
        self.retry_after_s = retry_after_s

    @property
    def codes(self) -> tuple[str, ...]:
        """The code of everything that is wrong, in the order in which it is checked."""
        return self._codes or (self.code,)

    def __str__(self) -> str:
        text = self.message or self.code
        if self.hint:
            text += f" (hint: {self.hint})"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        return from_data, (to_data(self),)


class NotDelivered(ProcessionError):
    """The work was never started; sending it again is safe."""

    default_ran = "no"
    default_code = "not_delivered"
    retryable = True


class SessionNotFound(NotDelivered, LookupError):
    """No session has that id or name."""

    default_code = "not_found"
    retryable = False


class SessionNotRunning(NotDelivered):
    """The session is stopped, failed, or was ended before the call reached it."""

    default_code = "not_running"


class SessionRestarting(NotDelivered):
    """The session is between two incarnations and the caller asked not to wait."""

    default_code = "restarting"


class MailboxFull(NotDelivered):
    """The session's mailbox is at its bound; wait, or pass `wait=` to queue."""

    default_code = "mailbox_full"


class ExpiredInQueue(NotDelivered, TimeoutError):
    """The deadline passed before the call was started; it was taken out of the queue and will not run."""

    default_code = "expired_in_queue"


class MessageTooLarge(NotDelivered):
    """The call is over a size limit and was not sent."""

    default_code = "message_too_large"
    retryable = False


class HostOverloaded(NotDelivered):
    """The host refuses new work to protect what it has."""

    default_code = "host_overloaded"


class InvalidRequest(NotDelivered, ValueError):
    """An argument is wrong; nothing was sent."""

    default_code = "invalid_request"
    retryable = False


class AlreadyExists(NotDelivered):
    """It is there already: code session_exists, project_already_open or already_started."""

    default_code = "session_exists"
    retryable = False


class SessionLimitReached(NotDelivered):
    """The host runs as many sessions as it may."""

    default_code = "session_limit_reached"


class PermissionDenied(NotDelivered):
    """The caller may not do this."""

    default_code = "permission_denied"
    retryable = False


class RateLimited(NotDelivered):
    """Too many requests of this kind just now."""

    default_code = "rate_limited"


class CallCycle(NotDelivered):
    """The call would wait for itself through a chain of calls."""

    default_code = "call_cycle"
    retryable = False


class OutcomeUnknown(ProcessionError):
    """The work may have run; nobody can tell from here."""

    default_ran = "maybe"
    default_code = "outcome_unknown"


class CallTimedOut(OutcomeUnknown, TimeoutError):
    """No answer by the deadline; the session is ended if the call is still running after its grace."""

    default_code = "timeout"


class SessionDied(OutcomeUnknown):
    """The session process ended while the call was with it."""

    default_code = "session_died"


class HostLost(OutcomeUnknown):
    """The connection to the host is gone (it ended, or this process was forked from the one that had it)."""

    default_code = "host_lost"


class ToolOutcomeUnknown(OutcomeUnknown):
    """Given to an agent whose process died in the middle of a tool."""

    default_code = "tool_outcome_unknown"


class ToolFailed(ProcessionError):
    """The tool ran and did not give a result."""

    default_ran = "yes"
    default_code = "tool_failed"


class ToolRaised(ToolFailed):
    """The tool raised; `.exception_type` and `.traceback` are text, a builtin exception is the `__cause__` too."""

    default_code = "raised"


class ToolTimedOut(ToolFailed, TimeoutError):
    """The tool was still running at its deadline; its whole process tree has been ended."""

    default_code = "timeout"


class ToolCrashed(ToolFailed):
    """The tool's process ended without a result: a signal, `os._exit`, or a non-zero exit with `check=True`."""

    default_code = "crashed"


class ToolLimitExceeded(ToolFailed):
    """The tool went over a limit and was ended; `.limit` names it."""

    default_code = "limit_exceeded"


class ToolOutOfMemory(ToolLimitExceeded):
    """The tool's processes used more memory than allowed."""

    default_code = "out_of_memory"


class ToolResultInvalid(ToolFailed):
    """The tool returned something that cannot be handed over as data, or that is not what was declared."""

    default_code = "result_invalid"


class AgentError(ProcessionError):
    """The agent's action raised; its state is unchanged."""

    default_ran = "yes"
    default_code = "agent_error"


class CallCancelled(ProcessionError):
    """The call was cancelled; code not_sent, cancelled_in_session or too_late, and `.ran` says which it was."""

    default_code = "cancelled"


class StartFailed(ProcessionError):
    """A session could not be started; `.phase` is import, fork, resources, boot, handshake or ready."""

    default_ran = "no"
    default_code = "start_failed"


class SandboxUnavailable(ProcessionError):
    """The asked-for confinement cannot be had here; nothing was started with less."""

    default_ran = "no"
    default_code = "sandbox_unavailable"


class ProtocolError(ProcessionError):
    """A peer broke the protocol, or speaks another version of it."""

    default_code = "protocol_error"


class StorageError(ProcessionError):
    """The data directory cannot be used."""

    default_ran = "no"
    default_code = "storage_error"


class DiskFull(StorageError):
    """There is no room left where the data lives."""

    default_code = "disk_full"


class JournalCorrupt(StorageError):
    """A journal record does not read back as it was written."""

    default_code = "journal_corrupt"


class InvalidTransition(ProcessionError):
    """A state machine was given an event it has no cell for; `.story` is what led there."""

    default_ran = "no"
    default_code = "invalid_transition"

    def __str__(self) -> str:
        lines = [super().__str__()]
        lines += [f"  {t.at:.3f} {t.event}: {t.before} -> {t.after} {t.detail}".rstrip() for t in self.story]
        return "\n".join(lines)


def _family(base: type[ProcessionError]) -> dict[str, type[ProcessionError]]:
    found = {base.__name__: base}
    for sub in base.__subclasses__():
        found |= _family(sub)
    return found


#: The closed table that turns a `kind` into a class.
ERROR_TYPES: Final[dict[str, type[ProcessionError]]] = _family(ProcessionError)

#: Builtin exceptions that come back as the `__cause__` of ToolRaised; a closed table, taken at import.
BUILTIN_EXCEPTIONS: Final[dict[str, type[Exception]]] = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type)
    and issubclass(kind, Exception)
    and not issubclass(kind, (UnicodeError, ExceptionGroup, Warning))
}

CODES_MAX: Final = 32
"""Reasons in one error: a session's parameters cannot be wrong in more ways that matter."""
_WORD_CHARS_MAX: Final = 200
"""Of what is a word or a name, in an error: far more than any of ours has."""
_RAN: Final = ("no", "maybe", "yes")
_SECONDS_MAX: Final = 10**9
"""A whole number of seconds that is more is none of ours: thirty years."""
_FIELDS: Final = tuple(f for f in ErrorData.__struct_fields__ if f != "kind")


def cut(text: str, chars: int = ERROR_TEXT_CHARS_MAX) -> str:
    """Return `text` cut to `chars` characters, saying so when it was."""
    return text if len(text) <= chars else text[: chars - 16] + "... (cut short)"


def to_data(error: ProcessionError) -> ErrorData:
    """Turn an error into data that fits the wire, whatever an author of agents or tools has put into one of ours."""
    return ErrorData(
        kind=type(error).__name__,
        message=_sendable(error.message),
        code=_sendable(error.code, _WORD_CHARS_MAX),
        ran=error.ran if error.ran in _RAN else error.default_ran,
        applied=error.applied if type(error.applied) is bool else None,
        session=None if error.session is None else _sendable(error.session, _WORD_CHARS_MAX),
        call_id=None if error.call_id is None else _sendable(error.call_id, _WORD_CHARS_MAX),
        elapsed_s=_seconds(error.elapsed_s),
        report=error.report,
        hint=_sendable(error.hint),
        phase=_sendable(error.phase, _WORD_CHARS_MAX),
        limit=_sendable(error.limit, _WORD_CHARS_MAX),
        exception_type=_sendable(error.exception_type, _WORD_CHARS_MAX),
        traceback=_sendable(str(error.traceback)[-TRACEBACK_CHARS_MAX:], TRACEBACK_CHARS_MAX),
        story=error.story,
        codes=tuple(_sendable(code, _WORD_CHARS_MAX) for code in error._codes[:CODES_MAX]),
        retry_after_s=_seconds(error.retry_after_s),
    )


def _sendable(text: object, chars: int = ERROR_TEXT_CHARS_MAX) -> str:
    """Return a text that UTF-8 has a form for: of half a surrogate pair, as odd file names have, its escape."""
    if type(text) is not str:
        try:
            text = str(text)
        except Exception:  # noqa: BLE001 - an author's own class, and this is where its error is told
            text = f"a {type(text).__name__}"
    if not text.isascii():
        text = text[: chars + 1].encode("utf-8", "backslashreplace").decode()
    return cut(text, chars)


def _seconds(value: object) -> float | None:
    if type(value) is int and -_SECONDS_MAX <= value <= _SECONDS_MAX:
        return float(value)
    return value if type(value) is float else None


def from_data(data: ErrorData) -> ProcessionError:
    """Turn data back into the error it describes; a builtin exception named in it becomes the `__cause__`."""
    kind = ERROR_TYPES.get(data.kind, ProcessionError)
    error = kind(**{name: getattr(data, name) for name in _FIELDS})
    error._codes = data.codes[:CODES_MAX]
    if isinstance(error, ToolRaised):
        error.__cause__ = _cause_of(data)
    return error


class _AsWritten(str):
    """The argument of a KeyError, which shows its argument's repr: this one's is the text itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _cause_of(data: ErrorData) -> Exception | None:
    """Make the builtin exception that a tool raised, with the same text; None for any other."""
    kind = BUILTIN_EXCEPTIONS.get(data.exception_type.removeprefix("builtins."))
    if kind is None:
        return None
    text = data.message.removeprefix(data.exception_type).removeprefix(": ")
    if not text:
        return kind()
    if kind is KeyError:
        key = text[1:-1]
        return kind(key) if text == repr(key) else kind(_AsWritten(text))
    return kind(text)
