"""A kill domain: everything below one keeper, and how to signal all of it.

    scoped   the keeper is in a Landlock domain of its own that was proved to hold signals in: kill(-1, sig) then
             reaches exactly what it started, atomically, and outruns any fork
    sweep    best effort: every descendant that /proc shows, stopped and then killed, again until none is left

It is *not* the proof that a domain is empty: that is the keeper's, which as subreaper waits until it has no child left.

Rules: kill(-1) happens in one function, which tests the scope again each time. A process found by looking is signalled
through a pidfd, and only if its start time still is the one seen.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from typing import Final, Literal

from procession.agent_proc.proctree import Stat, TreeScan, start_ticks

Method = Literal["scoped", "sweep"]
#: Processes looked at to say how many there were; beyond it the number is what was reaped.
_COUNTED_MAX: Final = 512


def may_signal(pidfd: int) -> bool | None:
    """Say whether that process could be signalled; None when it is dead, which proves nothing."""
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except PermissionError:
        return False
    except ProcessLookupError:
        return None
    return True


class KillDomain:
    """The domain of the process that makes it.

    scoped: it has entered a signal scope before it had children. probe_pidfd: a process that it could signal until then;
    that it cannot any more is the proof of the scope. Without a "yes" before, a "no" after would say nothing.
    """

    def __init__(self, scoped: bool = False, probe_pidfd: int = -1) -> None:
        self._pid = os.getpid()
        self._probe = probe_pidfd
        self._scan = TreeScan(self._pid)
        self._proved = scoped and may_signal(probe_pidfd) is False

    @property
    def method(self) -> Method:
        """Say how this domain would be ended now."""
        return "scoped" if self._proved else "sweep"

    def signal(self, *signals: int) -> Method:
        """Send the signals to everything in the domain but this process; return how."""
        if self._signal_scope(signals):
            return "scoped"
        self._signal_found(signals, self.look())
        return "sweep"

    def kill(self, spare: Collection[int] = ()) -> Method:
        """SIGKILL everything in the domain, once. After a sweep look again: what it did not see goes on.

        `spare`: children left alone with all below them, which a scope cannot do.
        """
        if not spare and self._signal_scope((signal.SIGKILL,)):
            return "scoped"
        # Stopped first, all of them: then none can answer the death of another by a fork.
        self._signal_found((signal.SIGSTOP,), self.look(spare))
        self._signal_found((signal.SIGKILL,), self.look(spare))
        return "sweep"

    def look(self, spare: Collection[int] = (), most: int = _COUNTED_MAX) -> list[Stat]:
        """Return the living processes of the domain, this one not counted."""
        return [stat for stat in self._scan.look(spare, most) if stat.is_alive]

    def has_any(self, spare: Collection[int] = ()) -> bool:
        """Say whether there is any process, a zombie included. Only "no" is a proof, and only `look` counts.

        A process that dies hands its children up in the moment it becomes a zombie, so a look that read us before and it
        after saw neither them here nor there. But the zombie itself stays with us until we reap it.
        """
        return bool(self._scan.look(spare, 1))

    def _signal_scope(self, signals: Collection[int]) -> bool:
        """Send to all that may be signalled, if that is proved to be the domain; say whether it was.

        An unguarded kill(-1) would end the user's desktop: so the proof is asked for again, and its owner must be us.
        """
        if not self._proved or os.getpid() != self._pid:
            return False
        if may_signal(self._probe) is True:
            self._proved = False
            return False
        for number in signals:
            try:
                os.kill(-1, number)
            except OSError:
                pass  # ESRCH: nobody is left in it
        return True

    def _signal_found(self, signals: Collection[int], found: list[Stat]) -> None:
        for stat in found:
            try:
                pidfd = os.pidfd_open(stat.pid)
            except OSError:
                continue  # gone, or no descriptor left: the next look tries again
            try:
                # A child of ours keeps its pid until we reap it; another may have died and its pid be reused.
                if stat.parent == self._pid or start_ticks(stat.pid) == stat.start_ticks:
                    for number in signals:
                        signal.pidfd_send_signal(pidfd, number)
            except OSError:
                pass
            finally:
                os.close(pidfd)
