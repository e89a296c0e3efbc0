"""One action, hook or phase: call the function with what it may see, and turn its Change into ops on the whole state.

It is *not* a command (`cmd.py` runs several and says what a failure means). Rules: all of a change or none; a skill's ops
stay inside its key, and an agent's outside of its skills'; a declared state fits its model afterwards; whatever the
function raises comes out as an error of the one tree.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeVar

from procession.agent_proc.agent.actor import Actor
from procession.agent_proc.agent.change import LATER, Change, Moment
from procession.agent_proc.agent.directives import DATA_FIELDS, DIRECTIVES, AnyDirective, completed
from procession.agent_proc.agent.parts import Part, changed_fields
from procession.agent_proc.agent.signals import Signal
from procession.agent_proc.agent.state_model import Unfit, is_unchanged, plain, with_plain_data
from procession.agent_proc.agent.texts import shown
from procession.ipc.core.bounds import ERROR_TEXT_CHARS_MAX, RESULT_NODES_MAX
from procession.ipc.core.errors import AgentError, ProcessionError, cut
from procession.ipc.core.state_op_types import OPS
from procession.ipc.core.state_ops import AnyOp, InvalidOp, Value, apply, decode_ops, encode_ops
from procession.ipc.core.values import UnsupportedValue, decode_value, encode_value

T = TypeVar("T")

_IMMUTABLE: Final = frozenset({type(None), bool, int, float, str, bytes})

OP_DATA_FIELDS: Final = frozenset({"attrs", "state", "value", "items"})
"""Of the ops, those that hold an author's data."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What every function of one command sees besides the state."""

    moment: Moment
    signal: Signal | None
    context: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Acted:
    """The state after one function, the ops that lead there, its answer, and its effects."""

    state: dict[str, Value]
    ops: tuple[AnyOp, ...]
    reply: Value
    directives: tuple[AnyDirective, ...]


def act(part: Part, state: dict[str, Value], seen: Seen, what: str, call: Callable[[Any], object]) -> Acted:
    """Run one method of an actor and apply its Change. what: its name in errors.

    Raises AgentError for all that goes wrong in it, and whatever error of ours it raises itself.
    """
    change = observe(part, state, seen, what, call)
    if change is None:
        return Acted(state, (), None, ())
    checked = checked_change(change, what)
    try:
        reply = LATER if checked.reply is LATER else _own(plain(checked.reply))
        asked = tuple(with_plain_data(directive, DATA_FIELDS) for directive in checked.directives)
    except UnsupportedValue as error:
        raise AgentError(f"{what} returned what is no plain data: {error}", code="invalid_change") from None
    after, ops = _applied(part, state, checked, what)
    return Acted(after, ops, reply, finished(asked, seen.moment))


def observe(part: Part, state: Mapping[str, Value], seen: Seen, what: str, call: Callable[[Any], T]) -> T:
    """Run one method of an actor that only looks at its state, and return what it returned. Raises as `act`."""
    own = part.own(state)
    try:
        kept = None if part.model is None else part.model.load(own)
        shows: Any = MappingProxyType(_own(own)) if part.model is None or kept is None else part.model.copy(kept)
    except Unfit as error:
        raise AgentError(f"the state does not fit {part.actor.__name__}: {error}", code="invalid_state") from None
    actor: Actor[Any] = part.actor(shows, seen.moment, seen.signal, seen.context)
    answer = guarded(what, lambda: call(actor))
    try:
        unchanged = kept is None or is_unchanged(shows, kept)
    except Unfit:  # what was put there cannot even be dumped
        unchanged = False
    if not unchanged:
        raise AgentError(
            f"{what} changed its state in place, which is not kept",
            code="state_changed_in_place",
            hint="return a Change, as in Change.set(count=self.state.count + 1)",
        )
    return answer


def guarded(what: str, call: Callable[[], T]) -> T:
    """Return what `call` returns. Raises errors of ours as they are, any other exception, SystemExit too, as AgentError."""
    try:
        return call()
    except ProcessionError:
        raise
    except BaseException as error:
        name = type(error).__name__
        raise AgentError(
            cut(f"{what} raised {name}: {error}", ERROR_TEXT_CHARS_MAX),
            exception_type=name,
            traceback="".join(traceback.format_exception(error)),
        ) from error


def checked_change(answer: object, what: str) -> Change:
    """Return `answer` if it is a Change of ops and directives. Raises AgentError, code invalid_change."""
    if not isinstance(answer, Change):
        hint = "return Change(...), Change.set(...) or None; `Change().replying(value)` only answers"
        raise AgentError(f"{what} returned {shown(answer)}, not a Change", code="invalid_change", hint=hint)
    if type(answer.ops) is not tuple or type(answer.directives) is not tuple:
        raise AgentError(f"{what} returned ops or directives that are no tuple", code="invalid_change")
    for op in answer.ops:
        if type(op) not in OPS:
            raise AgentError(f"{what} returned {shown(op)} among its ops", code="invalid_change")
    for directive in answer.directives:
        if type(directive) not in DIRECTIVES:
            raise AgentError(f"{what} asked for {shown(directive)}, which is no directive", code="invalid_change")
    return answer


def finished(directives: tuple[Any, ...], moment: Moment) -> tuple[AnyDirective, ...]:
    """Return `directives` with ids where they had none."""
    return tuple(completed(directive, moment) for directive in directives) if directives else ()


# -- ops -------------------------------------------------------------------------------------------------------------


def _applied(
    part: Part, state: dict[str, Value], change: Change, what: str
) -> tuple[dict[str, Value], tuple[AnyOp, ...]]:
    if not change.ops:
        return state, ()
    try:
        ops = _encodable(change.ops)
        whole = part.on_whole(ops, state, what)
        after = apply(state, whole, checked=whole is ops)  # others are deeper than what was looked at
    except InvalidOp as error:
        raise AgentError(f"{what} asked for an impossible change: {error}", code="invalid_op") from None
    if part.model is None:
        return after, whole
    try:
        settling = tuple(part.model.settle(part.own(after), changed_fields(ops)))
    except Unfit as error:
        raise AgentError(f"{what} would break the state: {error}", code="invalid_state") from None
    if not settling:
        return after, whole
    more = part.on_whole(settling, after, what)
    return apply(after, more), (*whole, *more)


def _encodable(ops: tuple[AnyOp, ...]) -> tuple[AnyOp, ...]:
    """Return `ops` with plain data of their own in them: what an author's lists and models hold now. Raises InvalidOp."""
    try:
        data = encode_ops(ops)
    except InvalidOp:
        data = encode_ops(tuple(_plain_op(op, at) for at, op in enumerate(ops)))
    return tuple(decode_ops(data))


def _own(value: Value) -> Value:
    """Return a copy that an author's code has no hold on."""
    if type(value) in _IMMUTABLE:
        return value
    return decode_value(encode_value(value, nodes_max=RESULT_NODES_MAX), nodes_max=RESULT_NODES_MAX)


def _plain_op(op: AnyOp, at: int) -> AnyOp:
    try:
        return with_plain_data(op, OP_DATA_FIELDS)
    except UnsupportedValue as error:
        raise InvalidOp(at, str(error)) from None
