"""Whether a session has had nothing to do for so long that it is put to sleep, or ended: judged from looks taken now and then.

    a look        calls came, or some are open, or it runs something              it was not idle until now
                  somebody is attached, or it has children                        it may sleep, and is not ended
    enough looks  nothing of that for as long as it may be idle                   ask it: only it knows what is to come
    its answer    it needs its process for nothing, and nobody called meanwhile   put it to sleep, or end it

Pure: it is handed what was seen, and when. Rules: what came between two looks counts as if it came at the second, so that
nobody is put to sleep or ended early; a look every eighth of the time is how late it may be. What sleeps is idle, and need
not be asked. Of those that may sleep for somebody else's sake, the one goes first that was used longest ago.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

LOOKS: Final = 8
"""In the time that a session may be idle."""
PERIOD_S_MIN: Final = 0.02
PERIOD_S_MAX: Final = 30.0

Verdict = Literal["wait", "ask", "sleep", "end"]


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen. calls: how many were ever made. busy: it has work, or is no session to judge.

    wanted: somebody minds if it ends, an owner or children. asleep: it has no process.
    """

    calls: int
    busy: bool
    wanted: bool = False
    asleep: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """What it said of itself. busy: it has work now or later. holds: something would be lost with its process."""

    busy: bool
    holds: bool = False


class Idleness:
    """See the module's text. end_after_s, sleep_after_s: of idleness, None for never; one of them is a number."""

    __slots__ = ("_asked_at", "_calls", "_unused_since", "_unwanted_since", "end_after_s", "sleep_after_s")

    def __init__(self, end_after_s: float | None, sleep_after_s: float | None, now: float) -> None:
        self.end_after_s = end_after_s
        self.sleep_after_s = sleep_after_s
        self._unused_since = now
        self._unwanted_since = now
        self._calls = -1
        self._asked_at: float | None = None

    @property
    def period_s(self) -> float:
        """How long until the next look."""
        shortest = min(after_s for after_s in (self.end_after_s, self.sleep_after_s) if after_s is not None)
        return min(max(shortest / LOOKS, PERIOD_S_MIN), PERIOD_S_MAX)

    def touch(self, now: float) -> None:
        """Somebody says that it is not idle."""
        self._unused_since = self._unwanted_since = now
        self._asked_at = None

    def look(self, look: Look, now: float) -> Verdict:
        """Judge what was seen; after `ask` its answer goes to `answered`."""
        if look.busy or look.calls != self._calls:
            self.touch(now)
        elif look.wanted:
            self._unwanted_since = now
        self._calls = look.calls
        if look.asleep:
            return "end" if self._is_to_end(now) else "wait"
        if not self._is_to_end(now) and not self._is_to_sleep(now):
            return "wait"
        self._asked_at = now
        return "ask"

    def answered(self, said: Said, look: Look, now: float) -> Verdict:
        """Judge its answer, with what is seen by then."""
        is_idle = self._asked_at is not None and not said.busy and not look.busy and look.calls == self._calls
        self._calls = look.calls
        self._asked_at = None
        if not is_idle:
            self.touch(now)
        elif self._is_to_end(now) and not look.wanted:
            return "end"
        elif not said.holds and self._is_to_sleep(now):
            return "sleep"
        else:
            self._unused_since = now  # it is asked again after as long as that
        return "wait"

    def _is_to_end(self, now: float) -> bool:
        return self.end_after_s is not None and now - self._unwanted_since >= self.end_after_s

    def _is_to_sleep(self, now: float) -> bool:
        return self.sleep_after_s is not None and now - self._unused_since >= self.sleep_after_s


class Candidate(NamedTuple):
    """A session that may be put to sleep for another one's sake. idle: it has no call and runs nothing. used_at: last."""

    id: str
    idle: bool
    used_at: float


def longest_idle(candidates: Iterable[Candidate]) -> str | None:
    """Return who is put to sleep first, None when all have something to do."""
    idle = [one for one in candidates if one.idle]
    return min(idle, key=lambda one: (one.used_at, one.id)).id if idle else None
