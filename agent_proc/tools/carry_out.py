"""What a worker calls to run a built-in tool: names and plain data in, plain data out.

It is *not* where tools are described (`agent/tools/builtin.py`) or allowed (the host). Rules: the file of a tool is loaded
when that tool is run; a refusal is an answer, and any other exception is the worker's to report.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Any, Final, Literal, NamedTuple

from procession.agent_proc.agent.tools.builtin import check_arguments
from procession.agent_proc.tools.work import Work
from procession.ipc.core.errors import InvalidRequest

Touch = Literal["reads", "writes", "lists"]
TOUCHES: Final[tuple[Touch, ...]] = ("reads", "writes", "lists")


class _Tool(NamedTuple):
    """touches: what a run that ends well has done to its `path`."""

    file: str
    function: str
    touches: tuple[Touch, ...] = ()


#: Who wrote a file knows what is in it, so that it need not be read before it is written again.
_TOOLS: Final[Mapping[str, _Tool]] = {
    "read_file": _Tool("reading", "read_file", ("reads",)),
    "write_file": _Tool("writing", "write_file", ("reads", "writes")),
    "edit_file": _Tool("writing", "edit_file", ("reads", "writes")),
    "multi_edit_file": _Tool("writing", "multi_edit_file", ("reads", "writes")),
    "list_directory": _Tool("searching", "list_directory", ("lists",)),
    "glob": _Tool("searching", "glob", ("lists",)),
    "grep": _Tool("searching", "grep", ("lists",)),
    "exec": _Tool("commands", "run_exec"),
    "git": _Tool("git", "run_git"),
}


def carry_out(
    name: str, arguments: Mapping[str, Any], project_root: str, session_id: str, reads: Collection[str]
) -> dict[str, Any]:
    """Run a built-in tool of workers; return its value and the paths it touched, or why it was refused."""
    try:
        return _carried_out(name, arguments, Work(project_root, session_id, frozenset(reads)))
    except InvalidRequest as refusal:
        return {"ok": False, "code": refusal.code, "message": refusal.message, "hint": refusal.hint}


def _carried_out(name: str, arguments: Mapping[str, Any], work: Work) -> dict[str, Any]:
    checked = check_arguments(name, arguments)
    tool = _TOOLS.get(name)
    if tool is None:
        raise InvalidRequest(f"{name} is not run in a worker", code="not_found")
    function = getattr(import_module(f"procession.agent_proc.tools.{tool.file}"), tool.function)
    value = function(work, **checked)
    path = work.place(checked["path"]).relative if tool.touches else ""
    return {"ok": True, "value": value, **{touch: [path] if touch in tool.touches else [] for touch in TOUCHES}}
