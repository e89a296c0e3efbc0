"""What a tool is told of the session it works for, and the one way to its files.

It is *not* the session's state: what was read comes along, and what a tool read or wrote is told in carry_out's answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from procession.agent_proc.agent.record.reasons import shown
from procession.agent_proc.agent.record.tool_path import ToolPath, tool_path
from procession.agent_proc.tools.confined import Root
from procession.agent_proc.tools.refusals import refuse


@dataclass(frozen=True, slots=True)
class Work:
    """One run's order. reads: what the session has read, as `ToolPath.relative` says it."""

    project_root: str
    session_id: str
    reads: frozenset[str]

    def place(self, path: str) -> ToolPath:
        """Return the place that a path means in the project. Raises InvalidRequest as `tool_path`."""
        return tool_path(self.project_root, path)

    def open_root(self) -> Root:
        """Open the project's folder."""
        return Root(self.project_root)

    def must_have_read(self, place: ToolPath) -> None:
        """Refuse to change a file unread: InvalidRequest, code read_before_write_required."""
        if place.relative not in self.reads:
            raise refuse(
                "read_before_write_required",
                f"{shown(place.relative)} exists and was not read in this session",
                "read it first, so that what is in it is not lost by mistake",
            )
