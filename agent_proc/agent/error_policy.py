"""What an agent's errors lead to: nothing, a signal, or its end. A decision; the server logs and carries it out.

| policy | what is decided |
|---|---|
| LogOnly (the default) | go on |
| StopOnError | stop at the first error that counts |
| MaxErrors(n) | stop at the n-th error that counts; the count is never reset |
| EmitErrors(to) | tell each error as procession.agent.error, and go on |
| Custom(function) | what the function says; when it fails or says neither "ok" nor "stop", go on |

Rule: a request that was refused before anything ran is its sender's error, not the agent's, and does not count: no wrong
argument ends an agent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, assert_never

from procession.agent_proc.agent.directives import Emit, Error, Target
from procession.agent_proc.agent.signal_types import AGENT_ERROR
from procession.agent_proc.agent.texts import TEXT_CHARS_MAX, shown
from procession.ipc.core.errors import InvalidRequest, cut
from procession.ipc.core.state_ops import Value

Verdict = Literal["ok", "stop"]


@dataclass(frozen=True, slots=True)
class LogOnly:
    """Go on, whatever failed: the error is in the events of the session. The default."""


@dataclass(frozen=True, slots=True)
class StopOnError:
    """End the session at the first error that counts."""


@dataclass(frozen=True, slots=True)
class MaxErrors:
    """End the session at the `count`-th error that counts; never reset. Raises InvalidRequest, code invalid_error_policy."""

    count: int

    def __post_init__(self) -> None:
        if type(self.count) is not int or self.count < 1:
            raise InvalidRequest(
                f"an agent stops after at least 1 error, not {shown(self.count)}", code="invalid_error_policy"
            )


@dataclass(frozen=True, slots=True)
class EmitErrors:
    """Tell each error as procession.agent.error, and go on. to: None is where the agent's signals go by default."""

    to: Target | None = None


@dataclass(frozen=True, slots=True)
class Custom:
    """Do what the function (error, state) says: "ok" or "stop"; go on when it fails or says neither."""

    function: Callable[[Error, Mapping[str, Value]], Verdict]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InvalidRequest(
                f"a policy of one's own is a function (error, state), not {shown(self.function)}",
                code="invalid_error_policy",
            )


ErrorPolicy: TypeAlias = LogOnly | StopOnError | MaxErrors | EmitErrors | Custom
POLICIES: Final = (LogOnly, StopOnError, MaxErrors, EmitErrors, Custom)


@dataclass(frozen=True, slots=True)
class GoOn:
    """Nothing but the log. note: what was wrong with the policy itself, for the log."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class Tell:
    """Send this, and go on."""

    emit: Emit


@dataclass(frozen=True, slots=True)
class End:
    """Stop the agent, for this reason."""

    reason: str


Decision: TypeAlias = GoOn | Tell | End


def counts(error: Error) -> bool:
    """Say whether `error` is the agent's: something ran, or may have."""
    return error.error.ran != "no"


def decide(policy: ErrorPolicy, error: Error, counted_before: int, state: Mapping[str, Value]) -> Decision:
    """Decide about one error. counted_before: how many of the agent's errors before this one counted."""
    match policy:
        case LogOnly():
            return GoOn()
        case StopOnError():
            return End(_cut(f"agent_error: {error.error.message}")) if counts(error) else GoOn()
        case MaxErrors(count):
            reached = counts(error) and counted_before + 1 >= count
            return End(f"max_errors_exceeded: {count}") if reached else GoOn()
        case EmitErrors(to):
            data = {
                "kind": error.error.kind,
                "code": error.error.code,
                "message": error.error.message,
                "context": error.context,
                "action": error.action,
            }
            return Tell(Emit(AGENT_ERROR, data, to))
        case Custom(function):
            return _custom(function, error, state)
        case _:
            assert_never(policy)


def _custom(
    function: Callable[[Error, Mapping[str, Value]], object], error: Error, state: Mapping[str, Value]
) -> Decision:
    try:
        verdict = function(error, state)
    except BaseException as failure:  # SystemExit too: to end, a policy says "stop"
        return GoOn(_cut(f"the error policy raised {type(failure).__name__}: {failure}"))
    if type(verdict) is str and verdict == "ok":
        return GoOn()
    if type(verdict) is str and verdict == "stop":
        return End(_cut(f"agent_error: {error.error.message}"))
    return GoOn(f"the error policy returned {shown(verdict)}, not 'ok' or 'stop'")


def _cut(text: str) -> str:
    return cut(text, TEXT_CHARS_MAX)
