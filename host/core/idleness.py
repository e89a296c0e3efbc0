"""Whether a session has had nothing to do for so long that it is ended: judged from looks that are taken now and then.

    a look        calls came, or some are open, or somebody is attached, ...      it was not idle until now
    enough looks  nothing of that for `timeout_s`                                 ask it: only it knows its commands
    its answer    nothing runs, and nobody called meanwhile                       end it

Pure: it is handed what was seen, and when. Rule: what came between two looks counts as if it came at the second, so that
nobody is ended early; a look every eighth of the time is how late it may be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

LOOKS: Final = 8
"""In one idle timeout."""
PERIOD_S_MIN: Final = 0.02
PERIOD_S_MAX: Final = 30.0

Verdict = Literal["wait", "ask", "end"]


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen. calls: how many were ever made. busy: it has work, an owner or children, or is no session to judge."""

    calls: int
    busy: bool


class Idleness:
    """See the module's text."""

    __slots__ = ("_asked_at", "_calls", "_since", "timeout_s")

    def __init__(self, timeout_s: float, now: float) -> None:
        self.timeout_s = timeout_s
        self._since = now
        self._calls = -1
        self._asked_at: float | None = None

    @property
    def period_s(self) -> float:
        """How long until the next look."""
        return min(max(self.timeout_s / LOOKS, PERIOD_S_MIN), PERIOD_S_MAX)

    def touch(self, now: float) -> None:
        """Somebody says that it is not idle."""
        self._since = now
        self._asked_at = None

    def look(self, look: Look, now: float) -> Verdict:
        """Judge what was seen; after `ask`, which is a call, its answer goes to `answered`."""
        if look.busy or look.calls != self._calls:
            self.touch(now)
        self._calls = look.calls
        if now - self._since < self.timeout_s:
            return "wait"
        self._asked_at = now
        return "ask"

    def answered(self, look: Look, now: float) -> Verdict:
        """Judge its answer. look.busy: something runs in it, or it did not say."""
        alone = self._asked_at is not None and not look.busy and look.calls == self._calls + 1
        self._calls = look.calls
        if alone:
            return "end"
        self.touch(now)
        return "wait"
