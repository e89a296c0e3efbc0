"""The limits watch of a keeper: looks at the whole tree of a run every so often and says which limit it is over.

It is *not* the kernel's limits (rlimits.py) and ends nothing itself. Memory is RssAnon + RssShmem of the tree less what
the main process started with. Pages that forked processes share are counted once for each of them, so before a tree is
called over, or is at a new peak, the kernel's proportional count, which divides them, has to agree.

Rule: it only runs when a limit asks for it, and takes at most a tenth of one processor.
"""

from __future__ import annotations

import resource
from time import monotonic
from typing import Final

from procession.agent_proc.core.kill_ladder import Event
from procession.agent_proc.proctree import Stat, TreeScan, memory_bytes, proportional_bytes, usage_of
from procession.ipc.core.limits import Limits

#: Between two looks: a bomb that writes 2 GB/s gets 100 MB in one; RLIMIT_DATA stands behind.
PERIOD_S: Final = 0.05
#: A look that takes long makes the next one later, so that it stays a tenth of the time.
_COST_FACTOR: Final = 10


def is_needed(limits: Limits | None) -> bool:
    """Say whether these limits have to be watched."""
    return limits is not None and not (limits.memory is limits.cpu_s is limits.processes is None)


class LimitsWatch:
    """The watch over one tree. peak_bytes: the most memory seen."""

    def __init__(self, limits: Limits, root: int, baseline_bytes: int, now: float) -> None:
        """`root`: the keeper's pid. `baseline_bytes`: anonymous memory of the main process at its fork."""
        self._limits = limits
        self._baseline = baseline_bytes
        self._scan = TreeScan(root)
        self.peak_bytes = 0
        self.due = now + PERIOD_S / 5  # the first one soon: it costs little and gives every run a peak

    def wait_s(self, now: float) -> float:
        """Return how long until the next look."""
        return max(0.0, self.due - now)

    def look(self) -> Event | None:
        """Look at the tree; return the limit it is over, None when it is within all."""
        began = monotonic()
        stats = self._scan.look()
        found = self._judge(stats)
        ended = monotonic()
        self.due = ended + max(PERIOD_S, (ended - began) * _COST_FACTOR)
        return found

    def _judge(self, stats: list[Stat]) -> Event | None:
        limits = self._limits
        usage = usage_of(stats)
        used = max(0, usage.rss_bytes - self._baseline)
        is_over = limits.memory_bytes is not None and used > limits.memory_bytes
        if is_over or (used > self.peak_bytes and usage.processes > 1):
            used = self._confirmed(stats, used)
        self.peak_bytes = max(self.peak_bytes, used)
        if limits.memory_bytes is not None and used > limits.memory_bytes:
            return Event.OVER_MEMORY
        if limits.cpu_s is not None and usage.cpu_s + reaped_cpu_s() > limits.cpu_s:
            return Event.OVER_CPU
        if limits.processes is not None and usage.processes > limits.processes:
            return Event.OVER_PROCESSES
        return None

    def _confirmed(self, stats: list[Stat], used: int) -> int:
        shares = 0
        for stat in stats:
            share = proportional_bytes(stat.pid)
            # One that cannot be read counts in full: it is undumpable, or ending, and then that is nothing.
            shares += memory_bytes(stat.pid) if share is None else share
        return min(used, shares)


def reaped_cpu_s() -> float:
    """Return the CPU seconds of everything this process has reaped, and what that had reaped."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
