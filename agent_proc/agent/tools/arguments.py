"""Check the arguments of a call against the tool's parameters: names first, then types, choices and values.

Rules: the order is the contract's, and all that is wrong is told at once, since a model corrects itself in one step when
it is told everything. What a parameter has as its default is what a call without it gets; a null for a parameter that
has a default and takes no null counts as not given (models write it so).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, get_args

from procession.agent_proc.agent.tools.spec import ToolSpec
from procession.agent_proc.agent.tools.validation import Problem, ProblemCode, Refused, validate
from procession.ipc.core.errors import InvalidRequest

if TYPE_CHECKING:
    from pydantic_core import SchemaValidator

#: What is beyond is only counted: a list of a thousand wrong items is one mistake.
PROBLEMS_SHOWN_MAX: Final = 20
#: Names that a model made up, and paths into its arguments, are shown up to here.
_SHOWN_CHARS: Final = 80

_ORDER: Final[tuple[ProblemCode, ...]] = get_args(ProblemCode)


def check_names(spec: ToolSpec, arguments: Mapping[str, object]) -> None:
    """Refuse missing and unknown parameters: InvalidRequest, code missing_parameter or unknown_parameter."""
    raise_if_any(spec, name_problems(spec, arguments))


def name_problems(spec: ToolSpec, arguments: Mapping[str, object]) -> list[Problem]:
    """List the parameters that are missing, then those that the tool does not have."""
    known = spec.parameters["properties"]
    missing = [Problem("missing_parameter", name, "is required") for name in spec.required if name not in arguments]
    unknown = [str(name) for name in arguments if name not in known]
    meant = [_meant(name, known) for name in unknown[:PROBLEMS_SHOWN_MAX]]  # no search for what will not be told
    return missing + [
        Problem("unknown_parameter", name, f"is no parameter of this tool{did_you}")
        for name, did_you in zip_longest(unknown, meant, fillvalue="")
    ]


def bind(
    spec: ToolSpec,
    validators: Mapping[str, SchemaValidator],
    defaults: Mapping[str, object],
    arguments: Mapping[str, object],
) -> dict[str, Any]:
    """Return a value of the declared type for every parameter of the tool.

    Raises InvalidRequest whose text names every problem and whose code is the first one's, in the order missing_parameter,
    unknown_parameter, invalid_type, invalid_choice, invalid_value.
    """
    problems = name_problems(spec, arguments)
    bound: dict[str, Any] = {}
    for name, validator in validators.items():
        if name not in arguments:
            if name in defaults:
                bound[name] = defaults[name]
            continue
        try:
            bound[name] = validate(validator, arguments[name], name)
        except Refused as refused:
            if arguments[name] is None and name in defaults:
                bound[name] = defaults[name]
            else:
                problems += refused.problems
    raise_if_any(spec, problems)
    return bound


def raise_if_any(spec: ToolSpec, problems: list[Problem]) -> None:
    """Raise InvalidRequest for what is wrong with the arguments of a tool, if anything is."""
    if not problems:
        return
    problems = sorted(problems, key=lambda problem: _ORDER.index(problem.code))  # stable: by kind, then by parameter
    told = [f"{_shown(problem.where)}: {problem.text}" for problem in problems[:PROBLEMS_SHOWN_MAX]]
    if len(problems) > PROBLEMS_SHOWN_MAX:
        told.append(f"and {len(problems) - PROBLEMS_SHOWN_MAX} more")
    raise InvalidRequest(
        f"wrong arguments for {spec.name}: " + "; ".join(told), code=problems[0].code, hint=_parameters_of(spec)
    )


def _parameters_of(spec: ToolSpec) -> str:
    names = [name if name in spec.required else f"{name} (optional)" for name in spec.parameters["properties"]]
    return f"{spec.name} takes " + (", ".join(names) or "no parameters")


def _meant(name: str, known: Iterable[str]) -> str:
    import difflib  # only mistakes need it

    close = difflib.get_close_matches(name[:_SHOWN_CHARS], list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
