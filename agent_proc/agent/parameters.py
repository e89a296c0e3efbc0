"""The parameters of an action, read from its signature: which there are, of what type, and what a call of it gets.

It is *not* where values are understood (that is pydantic, asked by `tools.validation.validate`, imported when a typed action
is read). Rules: every parameter has a name and a type; values are taken strictly ("3" is not 3), what is not declared is
refused by name, and all that is wrong is told at once. `**name` takes what is not declared.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from procession.agent_proc.agent.texts import near, shown
from procession.agent_proc.agent.tools.validation import Problem, Refused, validate
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import Value

if TYPE_CHECKING:
    from pydantic import TypeAdapter

PROBLEMS_SHOWN_MAX: Final = 20
"""What is beyond is only counted: a list of a thousand wrong items is one mistake."""

_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_BY_POSITION: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Parameters:
    """names: of all that are declared. adapters: what checks their types, if anything does.

    takes_more: others are taken as well, but `leading`: what the function is given besides its parameters.
    """

    names: frozenset[str]
    required: frozenset[str]
    takes_more: bool
    leading: frozenset[str]
    adapters: Mapping[str, TypeAdapter[Any]] | None = None

    def check_names(self, action: str, given: Mapping[str, Value]) -> None:
        """Refuse missing and unknown parameters: InvalidRequest, code missing_parameter or unknown_parameter."""
        if not (self.required <= given.keys() <= self.names) and (problems := self._name_problems(given)):
            raise self._refusal(action, problems)

    def bind(self, action: str, given: Mapping[str, Value]) -> dict[str, Any]:
        """Return `given`, each value as its declared type. Raises InvalidRequest; its code is the first problem's."""
        problems = self._name_problems(given)
        bound: dict[str, Any] = {}
        adapters = self.adapters or {}
        for name, value in given.items():
            adapter = adapters.get(name)
            try:
                bound[name] = value if adapter is None else validate(adapter, value, name)
            except Refused as refused:
                problems += refused.problems
        if problems:
            raise self._refusal(action, problems)
        return bound

    def _name_problems(self, given: Mapping[str, Value]) -> list[Problem]:
        problems = [
            Problem("missing_parameter", name, "is required") for name in sorted(self.required) if name not in given
        ]
        return problems + [
            Problem("unknown_parameter", name[:80], "is no parameter of this action; " + near(name, self.names))
            for name in given
            if name in self.leading or not (self.takes_more or name in self.names)
        ]

    def _refusal(self, action: str, problems: list[Problem]) -> InvalidRequest:
        told = [f"{problem.where}: {problem.text}" for problem in problems[:PROBLEMS_SHOWN_MAX]]
        if len(problems) > PROBLEMS_SHOWN_MAX:
            told.append(f"and {len(problems) - PROBLEMS_SHOWN_MAX} more")
        takes = [name if name in self.required else f"{name} (optional)" for name in sorted(self.names)]
        return InvalidRequest(
            f"wrong parameters for {action}: " + "; ".join(told),
            code=problems[0].code,
            hint=f"{action} takes " + (", ".join(takes) or "no parameters"),
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """What a method says about its parameters, its annotations resolved. Travels with it by value."""

    annotations: Mapping[str, Any]
    required: frozenset[str]
    takes_more: bool
    leading: frozenset[str]


def read_signature(method: Callable[..., object], name: str) -> Signature:
    """Return the signature of a method, `self` not counted. Raises InvalidRequest, code invalid_action."""
    leading, named, takes_more = _declared(method, name, leading=1)
    return Signature(_hints(method, named, name), _required(named), takes_more, leading)


def typed_parameters(signature: Signature, name: str) -> Parameters:
    """Return parameters whose values are checked. Raises InvalidRequest, code invalid_action, for types that cannot be."""
    adapters = {
        parameter: _adapter(annotation, parameter, name) for parameter, annotation in signature.annotations.items()
    }
    return Parameters(frozenset(adapters), signature.required, signature.takes_more, signature.leading, adapters)


def plain_parameters(function: Callable[..., object], name: str) -> Parameters:
    """Return the parameters of a plain action, which checks its own values; state and moment are not counted."""
    leading, named, takes_more = _declared(function, name, leading=2)
    return Parameters(frozenset(parameter.name for parameter in named), _required(named), takes_more, leading)


def _required(named: list[inspect.Parameter]) -> frozenset[str]:
    return frozenset(parameter.name for parameter in named if parameter.default is inspect.Parameter.empty)


class _Declared(NamedTuple):
    leading: frozenset[str]
    named: list[inspect.Parameter]
    takes_more: bool


def _declared(function: Callable[..., object], name: str, *, leading: int) -> _Declared:
    if not isinstance(function, types.FunctionType):
        raise invalid_action(name, f"it is {shown(function)}, not a function", "write it with def, @action on top")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise invalid_action(name, "it is async, and an action waits for nothing", "ask for effects by directives")
    if inspect.isgeneratorfunction(function):
        raise invalid_action(name, "it is a generator", "return one Change")
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) < leading or any(p.kind not in _BY_POSITION for p in parameters[:leading]):
        first = "self" if leading == 1 else "state and moment"
        raise invalid_action(name, f"it does not take {first} first", f"declare {first} before the parameters")
    for parameter in parameters[leading:]:
        if parameter.kind not in (*_BY_NAME, inspect.Parameter.VAR_KEYWORD):
            raise invalid_action(
                name, f"{parameter.name} is given by position", "parameters are given by name: list them"
            )
    named = [parameter for parameter in parameters[leading:] if parameter.kind in _BY_NAME]
    return _Declared(
        leading=frozenset(parameter.name for parameter in parameters[:leading]),
        named=named,
        takes_more=len(parameters) > leading + len(named),
    )


def _hints(function: Callable[..., Any], named: list[inspect.Parameter], name: str) -> dict[str, Any]:
    """Return the types of the parameters; what the action returns is not looked at, it may be known to checkers only."""
    for parameter in named:
        if parameter.annotation is inspect.Parameter.empty:
            raise invalid_action(
                name, f"its parameter {parameter.name} has no type", f"write it, as in `{parameter.name}: int`"
            )
    annotated = types.SimpleNamespace(__annotations__={p.name: p.annotation for p in named})
    try:
        return typing.get_type_hints(annotated, globalns=function.__globals__, include_extras=True)
    except NameError as error:
        raise invalid_action(
            name, f"an annotation names {error.name!r}, which is not known there", "define or import it at the top"
        ) from None
    except (TypeError, SyntaxError, AttributeError) as error:
        raise invalid_action(name, f"an annotation is no type ({error})", "annotate parameters with types") from None


def _adapter(annotation: Any, parameter: str, name: str) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

    try:
        return TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise invalid_action(
            name,
            f"values of its parameter {parameter} cannot be checked: {error.message.partition(chr(10))[0]}",
            "use str, int, float, bool, list[...], dict[str, ...], Literal, an Enum, a dataclass or a pydantic model",
        ) from None


def invalid_action(name: str, why: str, hint: str) -> InvalidRequest:
    """Make the error for what cannot be an action."""
    return InvalidRequest(f"{name} is no action: {why}", code="invalid_action", hint=hint)
