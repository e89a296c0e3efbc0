"""Which agent a session process has: the code session, a class that is imported, or one that came by value.

It is *not* imported by a session that has the built-in agent alone. Rule: this runs code of the program's author in the
session process, before it is ready; whatever goes wrong there is told as the reason why the session did not start.
"""

from __future__ import annotations

import importlib
import pickle  # host to session only: the host never loads what comes back
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from procession.agent_proc.agent.agent import Agent, check_agent
from procession.agent_proc.agent.references import parse_reference
from procession.ipc.core.errors import InvalidRequest, ProcessionError
from procession.ipc.core.loading import loading

FRAMES_TOLD_MAX: Final = 8
"""Of the program's own lines on the way to an error: the last ones, which are the nearest."""
_OURS: Final = str(Path(__file__).parent) + "/"


def why_not(problem: BaseException) -> str:
    """Return why an agent cannot begin: an error of ours as it is, any other with the lines of the program's that led to it."""
    if isinstance(problem, ProcessionError):
        return str(problem)
    said = "".join(traceback.format_exception_only(problem)).rstrip()
    frames = [
        f"  {frame.filename}:{frame.lineno}, in {frame.name}" + (f"\n    {frame.line}" if frame.line else "")
        for frame in traceback.extract_tb(problem.__traceback__)
        if not frame.filename.startswith((_OURS, "<frozen ")) and "/importlib/" not in frame.filename
    ]
    return "\n".join(("the agent cannot begin: " + said, *frames[-FRAMES_TOLD_MAX:]))


def packed(kind: type[Agent[Any]]) -> bytes:
    """Return an agent class by value where it cannot be imported, for a child that has no more than we have."""
    import cloudpickle  # type: ignore[import-untyped, unused-ignore]

    data: bytes = cloudpickle.dumps(kind)
    return data


def load_agent(reference: str, code: bytes, import_paths: Sequence[str]) -> type[Agent[Any]]:
    """Return the agent class. Raises InvalidRequest (not_an_agent, agent_not_found), and whatever its module raises."""
    sys.path[:0] = [path for path in import_paths if path not in sys.path]
    if code:
        with loading("the agent"):
            return check_agent(pickle.loads(code))
    where = parse_reference(reference)
    with loading(where.module):
        module = importlib.import_module(where.module)
    found: Any = module
    for name in where.path:
        found = getattr(found, name, None)
        if found is None:
            raise InvalidRequest(f"there is no {name} in {where}", code="agent_not_found")
    return check_agent(found, where)
