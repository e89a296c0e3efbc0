"""The verbs about a session's tools: `tools` lists them, `tool` calls one as a program would.

Rules: an argument is written name=value, and its schema says whether a value is read as JSON; a result that is text is printed
as it is, everything else as JSON; whatever a tool prints itself goes to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from procession.api import tool_plans
from procession.api.checks import check_limits
from procession.api.cli import exit_codes
from procession.api.cli.app import AsJson, DataDir, SessionName
from procession.api.cli.client import connected, timeout_of
from procession.api.cli.output import clean, print_json, say
from procession.api.cli.tables import Column, print_table
from procession.api.core import plans
from procession.ipc.core.backend import Item
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.records import OutputChunk, ToolInfo


def tools(session: SessionName, as_json: AsJson = False, data_dir: DataDir = None) -> int:
    """List the tools of a session: what each is called, needs and does."""
    with connected(data_dir) as host:
        found = host.ask(tool_plans.tools(session, None))
    if as_json:
        print_json(found)
    else:
        print_table(
            (
                "TOOL",
                "TIER",
                Column("TAKES", shrinks="wraps", least=12),
                Column("WHAT IT DOES", shrinks="wraps", least=24),
            ),
            ((tool.name, tool.tier, _takes(tool), _first_sentence(tool.description)) for tool in found),
        )
    return exit_codes.OK


def _takes(tool: ToolInfo) -> str:
    required = tool.parameters.get("required", ())
    names = tool.parameters.get("properties", {})
    return " ".join(str(name) if name in required else f"[{name}]" for name in names)


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".")


def tool(
    session: SessionName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tool; `procession tools ID` lists them.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]...", help="Its arguments, or one JSON object with all of them."),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="SECONDS", help="End it, with all it started, after this (30).")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Call one of a session's tools and print its result."""
    timeout_s = timeout_of(timeout, "tool")
    words = arguments or []

    def show(item: Item) -> None:
        if isinstance(item, OutputChunk):
            sys.stderr.buffer.write(item.data)
            sys.stderr.flush()

    with connected(data_dir, ends_with_us=True) as host:
        found = {one.name: one for one in host.ask(tool_plans.tools(session, None))}
        given = _arguments(words, found.get(name))
        plan = tool_plans.call_tool(
            session, name, given, plans.plain_value, timeout_s=timeout_s, limits=check_limits(None), on_item=show
        )
        result = host.ask(plan)
    if as_json or not isinstance(result, str):
        print_json(result)
    else:
        say(clean(result, lines=True).rstrip("\n"))
    return exit_codes.OK


def _arguments(words: Sequence[str], tool: ToolInfo | None) -> dict[str, Any]:
    """Read arguments as they are written on a command line. Raises InvalidRequest, code invalid_arguments."""
    if len(words) == 1 and words[0].startswith("{"):
        try:
            whole = json.loads(words[0])
        except ValueError as problem:
            raise InvalidRequest(f"the arguments are not JSON: {problem}", code="invalid_json") from None
        assert isinstance(whole, dict)
        return whole
    schemas = {} if tool is None else tool.parameters.get("properties", {})
    given: dict[str, Any] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or not key:
            raise InvalidRequest(
                f"{word!r} is not name=value", code="invalid_arguments", hint="for example path=README.md limit=20"
            )
        if key in given:
            raise InvalidRequest(f"{key} is given twice", code="invalid_arguments")
        given[key] = _value(text, schemas.get(key))
    return given


def _value(text: str, schema: object) -> Any:
    """Return what a text means for a parameter: itself where that is a text, else what it says as JSON."""
    if isinstance(schema, dict) and schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
