"""How often a session may call a tool: so many calls in any 60 seconds, counted for each session and tool.

Pure: the time is an argument. It is *not* an Allowance (a bucket that fills): a window gives the exact time after which
one more call fits. Rules: off unless set; a refused call is not counted; a session has room for TOOLS_MAX tools, and a
call that there is no room to count is refused. How many sessions there are, the host bounds, and tells who is gone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from procession.host.core.tool_permissions import check_tier
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.tool_tiers import TIERS, Tier

WINDOW_S: Final = 60.0
#: The most calls of one tool in a window that can be asked for: as many times are kept.
CALLS_MAX: Final = 1_000
#: Tools counted for one session; a model is shown at most 128 at once.
TOOLS_MAX: Final = 128
#: Never "now": a caller that waits for nothing would spin.
RETRY_AFTER_S_MIN: Final = 0.001

RateLimits = Mapping[str, int]
"""Tier to calls in a window; a tier that is left out has no limit."""
_Windows = OrderedDict[str, deque[float]]
"""Of one session: tool to the times of its last calls, as many as the limit."""

LEGACY_RATES: Final[RateLimits] = MappingProxyType({"read_only": 100, "write": 30, "execute": 10, "privileged": 5})
"""The reference's numbers, calls in 60 seconds, for the legacy adapter."""


def check_rates(rates: RateLimits) -> RateLimits:
    """Return `rates` if they are some. Raises InvalidRequest, code invalid_tier or invalid_rate_limit."""
    for tier, calls in rates.items():
        check_tier(tier)
        if type(calls) is not int or not 1 <= calls <= CALLS_MAX:
            raise InvalidRequest(
                f"the rate of {tier} is {calls!r}, not a whole number of 1 to {CALLS_MAX} calls in {WINDOW_S:g} s",
                code="invalid_rate_limit",
                hint="leave a tier out to have no limit for it",
            )
    return {tier: rates[tier] for tier in TIERS if tier in rates}


class ToolRates:
    """See the module's text. Not locked: its owner is."""

    __slots__ = ("_limits", "_sessions")

    def __init__(self, limits: RateLimits | None = None) -> None:
        self._limits = check_rates(limits or {})
        # Both levels in the order of the last call counted, so that the first of each is the first to be over.
        self._sessions: OrderedDict[str, _Windows] = OrderedDict()

    def __len__(self) -> int:
        """Count the windows that are kept."""
        return sum(map(len, self._sessions.values()))

    def take(self, session: str, tool: str, tier: Tier, now: float) -> float | None:
        """Count a call; or return after how many seconds one would fit, and count nothing.

        tier: what the tool needs. now: monotonic seconds.
        """
        limit = self._limits.get(tier)
        if limit is None:
            return None
        self._drop_sessions(now)
        windows = self._sessions.get(session, OrderedDict())
        while windows and _is_over(windows[first := next(iter(windows))], now):
            del windows[first]
        window = windows.get(tool, deque(maxlen=limit))
        if not window and len(windows) == TOOLS_MAX:
            return _wait(next(iter(windows.values()))[-1], now)
        if len(window) == limit and window[0] + WINDOW_S > now:
            return _wait(window[0], now)
        window.append(now)
        windows[tool] = window
        windows.move_to_end(tool)
        self._sessions[session] = windows
        self._sessions.move_to_end(session)
        return None

    def forget(self, session: str) -> None:
        """Forget a session that is gone."""
        self._sessions.pop(session, None)

    def _drop_sessions(self, now: float) -> None:
        """Drop the sessions whose last call counts no more. Each is dropped once, so this costs nothing per call."""
        while self._sessions:
            session, windows = next(iter(self._sessions.items()))
            if not _is_over(windows[next(reversed(windows))], now):
                return
            del self._sessions[session]


def _is_over(window: deque[float], now: float) -> bool:
    return window[-1] + WINDOW_S <= now


def _wait(counted_at: float, now: float) -> float:
    return max(RETRY_AFTER_S_MIN, counted_at + WINDOW_S - now)
