"""For tests of a host with real session processes: see its events as they come, count completions, look at its trees.

Rules: every wait is by an event and has a bound; a process is (pid, start time), never a bare pid.
"""

import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from helpers.proc import ProcessSeen, descends_from, is_blank_keeper, list_pids, look_at
from helpers.waiting import wait_until
from procession import Host, Limits, Session
from procession.api import verbs
from procession.api.core import plans
from procession.ipc.core.backend import Backend, Outcome
from procession.ipc.core.records import Event

StartSession = Callable[..., Session]
WAIT_S = 20.0
SLACK = 3.0
"""Times are asserted with this factor: the figures are measured exactly by the benchmarks, not on a shared machine."""
FIFTIETH_MIN = 20


def count_of(full: int, soak_factor: int) -> int:
    """Return how often a row runs now: a fiftieth of its count, at least 20, or all of it in a soak."""
    return full if soak_factor > 1 else min(full, max(FIFTIETH_MIN, full // 50))


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def pid_of(session: Session) -> int:
    """Return the pid of the session's process, which must be there."""
    pid = session.status().pid
    assert pid is not None, "the session has no process"
    return pid


# --- events -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Seen:
    """An event and when it was told (monotonic seconds)."""

    event: Event
    at: float


class EventWatch:
    """The events of a host in the order they were told, from the moment it was made; close it, or use `with`."""

    def __init__(self, host: Host) -> None:
        self.seen: list[Seen] = []
        self._news = threading.Condition()
        plan = plans.follow("events", "", since=None, call=None)
        plan.request.on_item = self._take
        self._over = threading.Event()
        self._ticket = backend_of(host).submit(plan.request, lambda outcome: self._over.set())

    def _take(self, item: object) -> None:
        assert isinstance(item, Event)
        with self._news:
            self.seen.append(Seen(item, time.monotonic()))
            self._news.notify_all()

    def wait(
        self,
        kind: str,
        session: Session | None = None,
        *,
        incarnation: int = 0,
        count: int = 1,
        timeout_s: float = WAIT_S,
    ) -> Seen:
        """Wait for the event, the count-th of those that fit; AssertionError with all of them when it does not come."""

        def fitting() -> list[Seen]:
            return [
                seen
                for seen in self.seen
                if seen.event.type == kind
                and (session is None or seen.event.session == session.id)
                and incarnation in (0, seen.event.incarnation)
            ]

        with self._news:
            came = self._news.wait_for(lambda: len(fitting()) >= count, timeout_s)
            told = "\n".join(str(seen.event) for seen in self.seen[-40:])
            assert came, f"not within {timeout_s:g} s: {kind} of {session}, {count} times; what came:\n{told}"
            return fitting()[count - 1]

    def of(self, kind: str, session: Session | None = None) -> list[Seen]:
        """Return those of one kind that have come."""
        with self._news:
            return [s for s in self.seen if s.event.type == kind and (session is None or s.event.session == session.id)]

    def close(self) -> None:
        self._ticket.cancel()
        assert self._over.wait(WAIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def backend_of(host: Host) -> Backend:
    return host._link.backend


def zygote_pids(host: Host) -> set[int]:
    """Return the pids of the host's live zygotes."""
    return set(host._link.backend.zygotes.pids)  # type: ignore[attr-defined]


# --- completions ------------------------------------------------------------------------------------------------------
class Counted:
    """One call whose completions are counted, not presumed: all outcomes it was given, and when the first came."""

    def __init__(
        self, session: Session, fn: Callable[..., object], *args: object, limits: Limits | None = None
    ) -> None:
        self.outcomes: list[Outcome] = []
        self.printed = threading.Event()
        self._over = threading.Event()
        plan = verbs.run(
            session.id, session._reach, fn, args, {}, timeout=30, limits=limits, on_output=lambda _: self.printed.set()
        )
        self.at = 0.0
        self.ticket = session._link.backend.submit(plan.request, self._done)

    def _done(self, outcome: Outcome) -> None:
        self.at = self.at or time.monotonic()
        self.outcomes.append(outcome)
        self._over.set()

    def wait_printed(self) -> None:
        """Wait for its first output."""
        assert self.printed.wait(WAIT_S), self.outcomes

    def wait(self) -> Outcome:
        """Wait for its end."""
        assert self._over.wait(WAIT_S), "the call never ended"
        return self.outcomes[0]


# --- processes --------------------------------------------------------------------------------------------------------
def kill(pid: int, number: int = signal.SIGKILL) -> float:
    """Send a signal to a process that is known to live; return when (monotonic seconds)."""
    assert pid > 1, "not a process of its own"
    at = time.monotonic()
    os.kill(pid, number)
    return at


def tree_below(*pids: int) -> list[ProcessSeen]:
    """List the living processes below these; zombies are left out, and the keepers that zygotes fork ahead."""
    found = (look_at(pid) for pid in list_pids())
    below = [seen for seen in found if seen and seen.state != "Z" and any(descends_from(seen, pid) for pid in pids)]
    return [seen for seen in below if not is_blank_keeper(seen.pid)]


def blank_keepers(host: Host) -> set[int]:
    """Return the keepers that the host's live zygotes have forked ahead."""
    zygotes = zygote_pids(host)
    found = (look_at(pid) for pid in list_pids())
    return {seen.pid for seen in found if seen and seen.parent in zygotes and is_blank_keeper(seen.pid)}


def zombies_below(pid: int) -> list[ProcessSeen]:
    """List the dead processes below this one that nobody has reaped."""
    found = (look_at(each) for each in list_pids())
    return [seen for seen in found if seen and seen.state == "Z" and descends_from(seen, pid)]


def alive(processes: Iterable[ProcessSeen]) -> list[ProcessSeen]:
    """Return those that still are."""
    now = ((seen, look_at(seen.pid)) for seen in processes)
    return [seen for seen, found in now if found and found.start_ticks == seen.start_ticks and found.state != "Z"]


def wait_gone(processes: Iterable[ProcessSeen], *, timeout_s: float) -> None:
    """Wait until all of them have ended."""
    watched = list(processes)
    wait_until(lambda: not alive(watched), f"the end of {[str(seen) for seen in watched]}", timeout_s=timeout_s)


def wait_zombie_free(pid: int, *, timeout_s: float = 2.0) -> None:
    """Wait until every dead process below this one is reaped."""
    wait_until(lambda: not zombies_below(pid), f"an end of the zombies {zombies_below(pid)}", timeout_s=timeout_s)
