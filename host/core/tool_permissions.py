"""Who may call which tool: tiers, what a session has been granted, and one decision.

    read_only < write < execute < privileged        a tool needs a tier, a session has one, consent lets one tool through

Pure. It is *not* confinement: a sandbox bounds what a tool can do, this only says whether a model may ask for it. Rules:
it is asked for calls that a model chose, never for the program's own; the order is rate, then tier, then consent; a tool
that the table does not know needs DEFAULT_TIER, never less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from procession.ipc.core.errors import InvalidRequest, PermissionDenied, RateLimited
from procession.ipc.core.tool_tiers import (
    BUILTIN_TIERS,
    DEFAULT_TIER,
    TIERS,
    TOOL_NAME_CHARS_MAX,
    Tier,
    tier_table,
)

#: What a session of the legacy adapter begins with.
LEGACY_START_TIER: Final[Tier] = "read_only"
#: Tools that one session may have been given consent for; a model is shown at most 128 at once.
CONSENTS_MAX: Final = 1_000

LEGACY_TIERS: Final = tier_table(
    read_only="read_file list_directory file_info grep find_files fetch_elixir_docs web_fetch web_search recall todo_read",
    write="write_file edit_file create_directory delete_file livebook_edit remember forget todo_write",
    execute="run_command mix_task run_exunit git_command lsp_request",
    privileged="get_process_state inspect_supervisor ets_inspect spawn_task",
)
"""The 27 tools of the reference, by its names, for the legacy adapter alone."""


def check_tier(tier: str) -> Tier:
    """Return `tier` if it is one. Raises InvalidRequest, code invalid_tier."""
    if tier not in TIERS:
        raise InvalidRequest(
            f"there is no tier {str(tier)[:TOOL_NAME_CHARS_MAX]!r}",
            code="invalid_tier",
            hint="use one of " + ", ".join(TIERS),
        )
    return tier


def covers(granted: Tier, needed: Tier) -> bool:
    """Say whether a session of tier `granted` may call a tool that needs `needed`."""
    return TIERS.index(granted) >= TIERS.index(needed)


@dataclass(frozen=True, slots=True)
class ToolTiers:
    """The tier that each tool needs."""

    tiers: Mapping[str, Tier] = field(default_factory=lambda: BUILTIN_TIERS)

    def needed(self, tool: str) -> Tier:
        """Return the tier that `tool` needs."""
        return self.tiers.get(tool, DEFAULT_TIER)

    def declare(self, tools: Mapping[str, str]) -> ToolTiers:
        """Return a table with a user's tools too. Raises InvalidRequest, code invalid_tier or already_registered."""
        taken = sorted(tools.keys() & self.tiers.keys())
        if taken:
            raise InvalidRequest(
                f"there is a tool named {taken[0]!r} already",
                code="already_registered",
                hint="give yours another name: @tool(name=...)",
            )
        return ToolTiers({**self.tiers, **{name: check_tier(tier) for name, tier in tools.items()}})


@dataclass(frozen=True, slots=True)
class ToolGrants:
    """What a session has been granted: its tier, and tools that it may call whatever their tier."""

    tier: Tier = DEFAULT_TIER
    consented: frozenset[str] = field(default_factory=frozenset)

    def grant(self, tier: str) -> ToolGrants:
        """Return grants of a tier as high or higher. Raises InvalidRequest, code invalid_tier or tier_downgrade."""
        higher = check_tier(tier)
        if not covers(higher, self.tier):
            raise InvalidRequest(
                f"the session has {self.tier}, and {tier} is less",
                code="tier_downgrade",
                hint="a tier is granted for a session's life; start another session with less",
            )
        return replace(self, tier=higher)

    def record_consent(self, tool: str) -> ToolGrants:
        """Return grants with consent to `tool`, known or not: it may come later.

        Raises InvalidRequest, code invalid_tool (for its name), already_consented or too_many_consents.
        """
        if not 0 < len(tool) <= TOOL_NAME_CHARS_MAX:
            raise InvalidRequest(
                f"the name of a tool has 1 to {TOOL_NAME_CHARS_MAX} characters, not {len(tool)}",
                code="invalid_tool",
                hint="names are listed by the session's tools",
            )
        if tool in self.consented:
            raise InvalidRequest(f"there is consent to {tool!r} already", code="already_consented")
        if len(self.consented) >= CONSENTS_MAX:
            raise InvalidRequest(
                f"there is consent to {CONSENTS_MAX} tools, which is the most there can be",
                code="too_many_consents",
                hint="revoke some, or grant a higher tier",
            )
        return replace(self, consented=self.consented | {tool})

    def revoke_consent(self, tool: str) -> ToolGrants:
        """Return grants without consent to `tool`. Raises InvalidRequest, code not_consented."""
        if tool not in self.consented:
            raise InvalidRequest(
                f"there is no consent to {tool[:TOOL_NAME_CHARS_MAX]!r}",
                code="not_consented",
                hint="there is consent to " + (", ".join(sorted(self.consented)[:10]) or "no tool"),
            )
        return replace(self, consented=self.consented - {tool})


@dataclass(frozen=True, slots=True)
class Allow:
    """The call may be made. by: what lets it through."""

    by: Literal["tier", "consent"]


@dataclass(frozen=True, slots=True)
class Refuse:
    """The call is not made: the error to answer with."""

    error: PermissionDenied | RateLimited


def decide(grants: ToolGrants, tiers: ToolTiers, tool: str, retry_after_s: float | None = None) -> Allow | Refuse:
    """Decide about one call that a model chose.

    retry_after_s: what ToolRates.take answered; None means that the rate is not exceeded.
    """
    if retry_after_s is not None:
        return Refuse(_rate_limited(tool, retry_after_s))
    needed = tiers.needed(tool)
    if covers(grants.tier, needed):
        return Allow("tier")
    if tool in grants.consented:
        return Allow("consent")
    return Refuse(_denied(tool, needed, grants.tier))


def _rate_limited(tool: str, retry_after_s: float) -> RateLimited:
    return RateLimited(
        f"{tool[:TOOL_NAME_CHARS_MAX]} has been called too often in the last minute",
        hint=f"try again in {retry_after_s:.3f} s",
        retry_after_s=retry_after_s,
    )


def _denied(tool: str, needed: Tier, granted: Tier) -> PermissionDenied:
    shown = tool[:TOOL_NAME_CHARS_MAX]
    return PermissionDenied(
        f"{shown} needs the tier {needed}, and the session has {granted}",
        hint=f"grant the session {needed}, or consent to {shown} alone",
    )
