"""Read the tool calls out of a model's reply, as OpenAI's Chat Completions or Anthropic's Messages API gives it.

    OpenAI      {"choices": [{"message": {"tool_calls": [...]}}]}, the message, its tool_calls, one of them, or a list
    a call      {"id", "type": "function", "function": {"name", "arguments"}} or {"id", "name", "arguments"}
    Anthropic   {"content": [{"type": "tool_use", "id", "name", "input"}, ...]}, the content, one block, or a list

It does *not* look tools up and checks no argument against a schema. Rules: a reply is a stranger's: everything in it is
bounded before it is walked, and what comes out is plain JSON data. A reply is taken whole or not at all. The objects of
the two APIs' Python packages are read by their `model_dump()`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NoReturn

import msgspec

from procession.ipc.core.bounds import BODY_DEPTH_MAX, BODY_NODES_MAX, MiB
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.tool_tiers import TOOL_NAME_CHARS_MAX

#: Calls of one reply; a model is given at most as many tools.
CALLS_MAX: Final = 128
#: All arguments of one reply together. A model writes at most some 100 000 tokens, which is half of this.
ARGUMENTS_BYTES_MAX: Final = 1 * MiB
#: Ids of both APIs are some 30 characters; they are kept in the session's state.
ID_CHARS_MAX: Final = 128
#: Choice in message in reply, in a list: calls lie no deeper.
_NESTING_MAX: Final = 4
#: Containers in containers, the arguments themselves counted. They end up in a state, within some lists and messages.
ARGUMENTS_DEPTH_MAX: Final = BODY_DEPTH_MAX - 8
#: Parts of a reply that are looked through; besides calls, a content has some texts, thoughts and images.
_PARTS_MAX: Final = 10_000

_REFUSED_HINT: Final = "nothing of the reply is run: answer each of its calls, by its id, with this text, and ask again"
_CALL_TYPES: Final = ("function", "tool_use")
_CALL_KEYS: Final = frozenset({"function", "id", "name", "arguments", "input"})


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call that a model asks for. `name` need not be a tool's, nor `arguments` be right for it."""

    id: str
    name: str
    arguments: dict[str, Any] = {}


def parse_tool_calls(reply: object, *, new_id: Callable[[], str]) -> list[ToolCall]:
    """Return the calls of `reply`, in order. A call without an id (local models leave it out) gets one from `new_id`.

    Raises InvalidRequest: code no_tool_calls when there are none, invalid_tool_call with the place and the reason when
    one of them is wrong; then none is returned.
    """
    budget = _Budget()
    calls: list[ToolCall] = []
    for found in _calls_in(reply, budget, 0):
        if len(calls) == CALLS_MAX:
            _refuse(f"there are more than {CALLS_MAX} calls in one reply")
        calls.append(_read_call(found, len(calls) + 1, budget, new_id))
    if not calls:
        raise InvalidRequest(
            "the reply holds no tool calls",
            code="no_tool_calls",
            hint="give the reply, the message or the list of calls as OpenAI's Chat Completions or Anthropic's Messages API "
            "returns them; a reply that is only a text asks for none",
        )
    seen = set[str]()
    for call in calls:
        if call.id in seen:
            _refuse(f"two calls have the id {call.id!r}, so their results could not be told apart")
        seen.add(call.id)
    return calls


class _Budget:
    """What may still be read of one reply."""

    __slots__ = ("bytes", "nodes", "parts")

    def __init__(self) -> None:
        self.parts = _PARTS_MAX
        self.bytes = ARGUMENTS_BYTES_MAX
        self.nodes = BODY_NODES_MAX

    def take_part(self) -> None:
        self.parts -= 1
        if self.parts < 0:
            _refuse(f"the reply has more than {_PARTS_MAX} parts")

    def take(self, size: int) -> None:
        self.nodes -= 1
        self.bytes -= size
        if self.bytes < 0:
            _refuse(f"the arguments are larger than {ARGUMENTS_BYTES_MAX} bytes together")
        if self.nodes < 0:
            _refuse(f"the arguments have more than {BODY_NODES_MAX} values together")


def _refuse(why: str) -> NoReturn:
    raise InvalidRequest(f"invalid tool call: {why}", code="invalid_tool_call", hint=_REFUSED_HINT) from None


# -- where the calls are ---------------------------------------------------------------------------------------------


def _calls_in(node: object, budget: _Budget, nesting: int) -> Iterator[Mapping[str, Any]]:
    """List what looks like a call in a reply, a message, a content, or a list of any of them."""
    node = _plain(node)
    if nesting > _NESTING_MAX:
        _refuse("the reply is nested too deeply")
    budget.take_part()
    if isinstance(node, list | tuple):
        for item in node:
            yield from _calls_in(item, budget, nesting + 1)
    elif isinstance(node, Mapping):
        yield from _calls_of(node, budget, nesting)


def _calls_of(node: Mapping[str, Any], budget: _Budget, nesting: int) -> Iterator[Mapping[str, Any]]:
    """List the calls in a mapping. A text, a thought or an image is passed over: it asks for nothing."""
    if "choices" in node:
        choices = _plain(node["choices"])
        first = _plain(choices[0]) if isinstance(choices, list | tuple) and choices else None
        if isinstance(first, Mapping):
            yield from _calls_in(first.get("message"), budget, nesting + 1)
    elif node.get("tool_calls"):
        # Here nothing may be passed over: the API wants an answer to each.
        calls = _plain(node["tool_calls"])
        for call in calls if isinstance(calls, list | tuple) else (calls,):
            budget.take_part()
            yield _call_of_list(_plain(call))
    elif _looks_like_call(node):
        yield node
    elif isinstance(node.get("content"), list | tuple):
        yield from _calls_in(node["content"], budget, nesting + 1)


def _looks_like_call(node: Mapping[str, Any]) -> bool:
    """Say whether a mapping is meant as a call; one that says neither what it is nor whose is taken by its keys."""
    if "type" in node:
        return node["type"] in _CALL_TYPES
    return "role" not in node and not _CALL_KEYS.isdisjoint(node)


def _call_of_list(call: object) -> Mapping[str, Any]:
    if not isinstance(call, Mapping):
        _refuse(f"a call is a mapping, not a {type(call).__name__}")
    if call.get("type", "function") not in _CALL_TYPES:
        _refuse(f"there is no call of type {str(call['type'])[:TOOL_NAME_CHARS_MAX]!r}; a tool is a function")
    return call


def _plain(node: object) -> object:
    """Return an object of an API's package as the plain data it stands for."""
    dump = getattr(node, "model_dump", None)
    return dump() if callable(dump) else node


# -- one call --------------------------------------------------------------------------------------------------------


def _read_call(found: Mapping[str, Any], position: int, budget: _Budget, new_id: Callable[[], str]) -> ToolCall:
    given = found.get("id")
    if given is not None and (type(given) is not str or not 0 < len(given) <= ID_CHARS_MAX or not _is_unicode(given)):
        _refuse(f"call {position}: its id is not a text of at most {ID_CHARS_MAX} characters")
    call = f"call {position}" if given is None else f"call {position} (id {given!r})"
    inner = _plain(found["function"]) if "function" in found else found
    if not isinstance(inner, Mapping):
        _refuse(f"{call}: its function is a {type(inner).__name__}, not a mapping")
    name = inner.get("name")
    if type(name) is not str or not 0 < len(name) <= TOOL_NAME_CHARS_MAX or not _is_unicode(name):
        _refuse(f"{call}: it needs a name, a text of at most {TOOL_NAME_CHARS_MAX} characters")
    raw = inner.get("input") if found.get("type") == "tool_use" else inner.get("arguments")
    arguments = _read_arguments(raw, f"{call} of {name}", budget)
    return ToolCall(id=new_id() if given is None else given, name=name, arguments=arguments)


def _read_arguments(raw: object, call: str, budget: _Budget) -> dict[str, Any]:
    if raw is None or raw == "":  # what models write for a tool without parameters
        return {}
    value = _parsed(raw, call, budget) if isinstance(raw, str) else raw
    if not isinstance(value, Mapping):
        _refuse(f"{call}: its arguments are a {type(value).__name__}, not an object of names and values")
    plain = _plain_json(value, call, budget, ARGUMENTS_DEPTH_MAX)
    assert type(plain) is dict
    return plain


def _parsed(text: str, call: str, budget: _Budget) -> object:
    if len(text) > budget.bytes:  # before it is parsed: a byte is at least a character
        budget.take(len(text))
    try:
        return json.loads(text)
    except RecursionError:
        _refuse(f"{call}: its arguments are nested more than {ARGUMENTS_DEPTH_MAX} deep")
    except ValueError as error:  # also an integer of thousands of digits
        _refuse(f"{call}: its arguments are not JSON ({error})")


def _plain_json(value: object, call: str, budget: _Budget, depth_left: int) -> object:
    """Return a copy of `value` made of plain data, counted against the budget."""
    match value:
        case None | bool():
            budget.take(1)
        case str():
            if not _is_unicode(value):
                _refuse(f"{call}: a text of its arguments is not Unicode (it has half of a surrogate pair)")
            budget.take(len(value.encode()))
        case int():
            budget.take(1 + value.bit_length() // 8)
        case float():
            if not math.isfinite(value):
                _refuse(f"{call}: {value} is no number of JSON")
            budget.take(8)
        case Mapping() | list() | tuple():
            budget.take(1)
            if depth_left == 0:
                _refuse(f"{call}: its arguments are nested more than {ARGUMENTS_DEPTH_MAX} deep")
            if not isinstance(value, Mapping):
                return [_plain_json(item, call, budget, depth_left - 1) for item in value]
            return {
                _key(key, call, budget): _plain_json(item, call, budget, depth_left - 1) for key, item in value.items()
            }
        case _:
            _refuse(f"{call}: its arguments hold a {type(value).__name__}, which JSON does not have")
    return value


def _key(key: object, call: str, budget: _Budget) -> str:
    if type(key) is not str:
        _refuse(f"{call}: its arguments have a {type(key).__name__} for a name")
    plain = _plain_json(key, call, budget, 0)
    assert type(plain) is str
    return plain


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
