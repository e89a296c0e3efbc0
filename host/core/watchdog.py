"""Is a session process well, busy, stopped or stuck? Judged from samples taken from outside; one watchdog an incarnation.

Pure: it is handed what was read (status page, /proc/PID/stat) and when, and reads nothing itself. It is *not* the keeper
of deadlines, but for the one that a sample names.

    tick moves                                              ok or busy
    state T                                                 stopped: ended after 10 s (R-09); no effect when continued
    tick stands, nothing running, sleeping, no CPU, no mail idle: a loop blocked in its read is as it should be
    tick stands otherwise                                   stuck: a warning after 10 s, ended after 30 s (R-10)
    a running call is past the time the host gives it       overrun: ended

Rule: a gap in the samples themselves (suspend, SIGSTOP of the host) proves nothing, so every clock starts afresh (R-69).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from procession.ipc.core.bounds import STOPPED_END_S

STUCK_WARN_S: Final = 10.0
STUCK_END_S: Final = 30.0
#: The host missed its own samples when two are further apart than this many periods and a little.
GAP_PERIODS: Final = 3.0
GAP_SLACK_S: Final = 2.0

_STOPPED_STATES: Final = frozenset("Tt")
#: S sleeping, I idle, D in the kernel: what a blocked read shows.
_WAITING_STATES: Final = frozenset("SID")

Kind = Literal["ok", "busy", "stopped", "stuck", "overrun"]
Act = Literal["none", "warn", "end"]


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at `now` (monotonic seconds).

    tick, running, last_started: from the status page. state: the letter of /proc/PID/stat. cpu_ticks: utime + stime.
    unread_bytes: of its mailbox still in the pipe; mail that lies there while the loop sleeps is not idleness.
    running_due: when the host's patience with the call in `running` ends, None for no such end.
    """

    now: float
    tick: int
    running: int
    last_started: int
    state: str
    cpu_ticks: int
    unread_bytes: int = 0
    running_due: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What it is, for how many seconds it has been so, and what to do about it now. `warn` is said once an episode."""

    kind: Kind
    for_s: float = 0.0
    act: Act = "none"

    @property
    def health(self) -> str:
        """Return it in words, empty when all is well."""
        return "" if self.kind in {"ok", "busy"} else f"{self.kind} for {self.for_s:.0f} s"


class Watchdog:
    """See the module's text. period_s: how far apart samples are meant to be."""

    __slots__ = ("_last", "_period_s", "_still_since", "_stopped_since", "_warned")

    def __init__(self, period_s: float = 1.0) -> None:
        self._period_s = period_s
        self._last: Sample | None = None
        self._stopped_since: float | None = None
        self._still_since: float | None = None
        self._warned = False

    def observe(self, sample: Sample) -> Verdict:
        """Judge a sample in the light of the ones before."""
        last, self._last = self._last, sample
        if last is None or sample.now - last.now > GAP_PERIODS * self._period_s + GAP_SLACK_S:
            self._start_afresh()
            last = None
        if sample.state in _STOPPED_STATES:
            return self._stopped(sample)
        self._stopped_since = None
        if last is None:
            return Verdict("ok")
        if sample.running and sample.running_due is not None and sample.now >= sample.running_due:
            return Verdict("overrun", sample.now - sample.running_due, "end")
        moved = sample.tick != last.tick
        if moved or _idle(sample, last):
            self._still_since = None
            self._warned = False
            return Verdict("busy" if moved and (sample.running or sample.cpu_ticks != last.cpu_ticks) else "ok")
        return self._still(sample, last)

    def _start_afresh(self) -> None:
        self._stopped_since = self._still_since = None
        self._warned = False

    def _stopped(self, sample: Sample) -> Verdict:
        self._still_since = None
        if self._stopped_since is None:
            self._stopped_since = sample.now
        for_s = sample.now - self._stopped_since
        return Verdict("stopped", for_s, "end" if for_s >= STOPPED_END_S else "none")

    def _still(self, sample: Sample, last: Sample) -> Verdict:
        """Judge a loop that has not turned though it should have."""
        if self._still_since is None:
            self._still_since = sample.now if last.state in _STOPPED_STATES else last.now
        for_s = sample.now - self._still_since
        if for_s >= STUCK_END_S:
            return Verdict("stuck", for_s, "end")
        if for_s >= STUCK_WARN_S:
            warned, self._warned = self._warned, True
            return Verdict("stuck", for_s, "none" if warned else "warn")
        return Verdict("busy", for_s)


def _idle(sample: Sample, last: Sample) -> bool:
    """Say whether a loop that does not turn is waiting for mail, as it should."""
    return (
        sample.running == 0
        and sample.unread_bytes == 0
        and sample.state in _WAITING_STATES
        and sample.cpu_ticks == last.cpu_ticks
    )
