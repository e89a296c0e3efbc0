"""Read a function as a tool: which parameters it has, of what type, with what default. Refuses what no model could call.

It is *not* where types are understood (schema.py asks pydantic). Rules: a model gives every argument by name, so each
parameter has a name and a type; a function is a plain one or `async def`, and answers once.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from procession.agent_proc.agent.tools.spec import invalid_tool

_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Signature:
    """annotations: of each parameter, in order. defaults: of those that have one. returns: Any when nothing is said."""

    annotations: Mapping[str, Any]
    defaults: Mapping[str, object]
    returns: Any


def read_signature(function: Callable[..., object], name: str) -> Signature:
    """Return the signature of `function`, its annotations resolved. Raises InvalidRequest, code invalid_tool."""
    _check_kind(function, name)
    parameters = inspect.signature(function).parameters.values()
    hints = _hints(function, name)
    for parameter in parameters:
        _check_parameter(parameter, name)
    return Signature(
        annotations={parameter.name: hints[parameter.name] for parameter in parameters},
        defaults={p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty},
        returns=hints.get("return", Any),
    )


def _check_kind(function: object, name: str) -> None:
    if isinstance(function, staticmethod | classmethod | property | types.MethodType):
        raise invalid_tool(name, "it is a method", "write a function that calls it; or put @tool below @staticmethod")
    if not isinstance(function, types.FunctionType):
        raise invalid_tool(name, f"its type is {type(function).__name__}, not function", "write `def` around it")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise invalid_tool(name, "it is a generator, and a tool answers once", "return a list")


def _check_parameter(parameter: inspect.Parameter, name: str) -> None:
    if parameter.kind not in _BY_NAME:
        how = {
            inspect.Parameter.POSITIONAL_ONLY: "takes {} by position only",
            inspect.Parameter.VAR_POSITIONAL: "takes any number of arguments as *{}",
            inspect.Parameter.VAR_KEYWORD: "takes any names as **{}",
        }[parameter.kind]
        raise invalid_tool(
            name, f"it {how.format(parameter.name)}", "a model gives each argument by its name: list the parameters"
        )
    if parameter.annotation is inspect.Parameter.empty:
        hint = f"write its type, as in `{parameter.name}: str`"
        if parameter.name in {"self", "cls"}:
            hint = "a method is not a tool: write a function that calls it"
        raise invalid_tool(name, f"its parameter {parameter.name!r} has no annotation", hint)


def _hints(function: Callable[..., object], name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise invalid_tool(
            name, f"an annotation of it names {error.name!r}, which is not known there", unknown_name_hint(error.name)
        ) from None
    except (TypeError, SyntaxError, AttributeError) as error:
        raise invalid_tool(
            name, f"an annotation of it is no type ({error})", "annotate parameters with types"
        ) from None


def unknown_name_hint(name: str | None) -> str:
    """Return what to do about a name in an annotation that is not found."""
    return (
        f"define or import {name} above it, at the level of the module; what is defined in a function is found only without "
        "`from __future__ import annotations`, which makes all annotations texts"
    )
