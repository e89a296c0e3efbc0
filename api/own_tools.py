"""The tools of a program's own: functions made tools by `@tool`, packed for sessions, and how their results are read.

It is *not* loaded by a program that has none. Rule: what is wrong with a tool is told where it is given, before anything is
started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from procession.agent_proc.agent.tools.define import definition_of
from procession.api.travel import pack_value
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.tool_table import SentTool

if TYPE_CHECKING:
    from procession.api.link import Reach

Tool = Callable[..., object]


def named(tools: object) -> dict[str, Tool]:
    """Return tools by their names. Raises InvalidRequest: invalid_tool, invalid_tools, already_registered."""
    if callable(tools) or isinstance(tools, str | bytes) or not isinstance(tools, Iterable):
        raise InvalidRequest(
            "tools: a list of functions with @tool above them", code="invalid_tools", hint="tools=[...]"
        )
    found: dict[str, Tool] = {}
    for tool in tools:
        name = definition_of(tool).spec.name
        if found.setdefault(name, tool) is not tool:
            raise InvalidRequest(
                f"two tools are named {name!r}", code="already_registered", hint="rename one: @tool(name=...)"
            )
    return found


def sent(tools: Iterable[Tool], reach: Reach) -> tuple[SentTool, ...]:
    """Return tools as they travel. Raises InvalidRequest (unpicklable_argument) for one that cannot."""
    return tuple(_sent(tool, reach) for tool in tools)


def _sent(tool: Tool, reach: Reach) -> SentTool:
    spec = definition_of(tool).spec
    return SentTool(
        name=spec.name,
        tier=spec.tier,
        description=spec.description,
        parameters=spec.parameters,
        code=pack_value(tool, import_paths=reach.import_paths, preload=reach.preload),
    )
