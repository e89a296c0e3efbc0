"""What hints tell people to call: every name in one is there, in the form in which it is written."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import procession
import procession.agent
from procession import Host, Process, Session
from procession.api.agent_verbs import SessionContext, SessionFiles, SessionMemory, SessionPrompts, SessionStreaming

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("api", "agent_proc", "host")
NAMED: dict[str, Any] = {
    "session.context": SessionContext, "session.files": SessionFiles, "session.memory": SessionMemory,
    "session.prompts": SessionPrompts, "session.streaming": SessionStreaming, "session": Session, "host": Host,
}  # fmt: skip
OTHERS = {"list", "datetime.now", "signal.data.get"}
"""Of Python, or of whoever reads."""


def hints() -> Iterator[tuple[str, str]]:
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.keyword) and node.arg == "hint":
                    for part in ast.walk(node.value):
                        if isinstance(part, ast.Constant) and isinstance(part.value, str):
                            yield f"{file.relative_to(ROOT)}:{part.lineno}", part.value


def found(name: str) -> Any:
    """Return what a hint means by a name with an opening bracket after it, None for nothing."""
    owner, _, last = name.rpartition(".")
    if owner in NAMED:
        return getattr(NAMED[owner], last, None)
    if owner:
        return getattr(getattr(procession, owner, None) or getattr(procession.agent, owner, None), last, None)
    for place in (Session, Host, Process, procession, procession.agent):
        if hasattr(place, last):
            return getattr(place, last)
    return None


def test_what_hints_say_to_call_is_there_and_takes_what_they_say() -> None:
    told = 0
    for where, hint in hints():
        for name, arguments in re.findall(r"(?<![\w.])(\w[\w.]*)\(([^()]*)\)", hint):
            if name in OTHERS:
                continue
            told += 1
            meant = found(name)
            assert callable(meant), f"{where}: there is no {name}()"
            takes = inspect.signature(meant).parameters
            if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in takes.values()):
                continue
            for argument in re.findall(r"(\w+)=", arguments):
                assert argument in takes, f"{where}: {name}() has no {argument}="
    assert told > 20
