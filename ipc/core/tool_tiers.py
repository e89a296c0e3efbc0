"""What a tool may do, from least to most, and which of these each built-in tool needs: what the host and a session agree on.

It is *not* the decision (host/core/tool_permissions.py) nor the tools (agent_proc/agent/tools/builtin.py takes its tiers from
here). Rule: the host knows the names of the built-in tools and never the tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, cast, get_args

Tier = Literal["read_only", "write", "execute", "privileged"]
TIERS: Final[tuple[Tier, ...]] = get_args(Tier)
"""From least to most."""

DEFAULT_TIER: Final[Tier] = "execute"
"""What a user's tool needs unless it says otherwise, and what a session begins with: the sandbox is what bounds a tool."""

TOOL_NAME_CHARS_MAX: Final = 64
"""Both model APIs refuse a longer one."""


def tier_table(**rows: str) -> Mapping[str, Tier]:
    """Return a table of tools and tiers: `tier_table(write="edit_file todo")`."""
    return MappingProxyType({tool: cast("Tier", tier) for tier, tools in rows.items() for tool in tools.split()})


BUILTIN_TIERS: Final = tier_table(
    read_only="read_file list_directory glob grep recall",
    write="write_file edit_file multi_edit_file todo remember forget",
    execute="exec git python",
)
"""The built-in tools. None is privileged: that is for what an author marks so."""
