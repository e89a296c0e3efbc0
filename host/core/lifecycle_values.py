"""The values of the session lifecycle: its phases, events, actions, and the state between two steps.

Plain frozen data. What follows from what is in lifecycle.py; doing it is the shell's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from procession.ipc.core.bounds import STOP_GRACE_S
from procession.ipc.core.records import Transition
from procession.ipc.core.restart_policy import Exit, RestartHistory, RestartPolicy

Phase = Literal["new", "starting", "ready", "backoff", "stopping", "stopped", "down", "hibernated", "failed", "gone"]
#: down: killed or closed, wakes on the next call. hibernated: put to sleep, wakes on the next call too, and is not gone for its
#: family. gone: removed; nobody sees it but a late event.
PHASES: Final[tuple[Phase, ...]] = (
    "new",
    "starting",
    "ready",
    "backoff",
    "stopping",
    "stopped",
    "down",
    "hibernated",
    "failed",
    "gone",
)

#: What a session holds follows from its phase alone. Its name and folder are its own until it is stopped or removed; one
#: of the host's slots, while it has a process or is to get one without being asked.
HOLDS_FOLDER: Final = frozenset(PHASES) - {"stopped", "gone"}
HOLDS_SLOT: Final = HOLDS_FOLDER - {"down", "hibernated", "failed"}

EventKind = Literal[
    "start",
    "resume",
    "restart",
    "stop",
    "kill",
    "hibernate",
    "close",
    "remove",
    "call",
    "forked",
    "ready",
    "start_failed",
    "condemned",
    "zygote_lost",
    "ended",
    "backoff_over",
    "ready_timeout",
    "stop_timeout",
    "reap_timeout",
]
#: What people ask for, what happens to the process, what a timer says.
VERBS: Final[tuple[EventKind, ...]] = (
    "start",
    "resume",
    "restart",
    "stop",
    "kill",
    "hibernate",
    "close",
    "remove",
    "call",
)
FACTS: Final[tuple[EventKind, ...]] = ("forked", "ready", "start_failed", "condemned", "zygote_lost", "ended")
TIMEOUTS: Final[tuple[EventKind, ...]] = ("backoff_over", "ready_timeout", "stop_timeout", "reap_timeout")
EVENT_KINDS: Final[tuple[EventKind, ...]] = (*VERBS, *FACTS, *TIMEOUTS)

#: Who asks for these waits for an answer: until it is up, or until it is over.
WAITS_UP: Final[frozenset[EventKind]] = frozenset({"start", "resume", "restart"})
WAITS_OVER: Final[frozenset[EventKind]] = frozenset({"stop", "kill", "hibernate", "close", "remove"})

TimerName = Literal["ready", "stop", "reap", "backoff"]
Group = Literal["up", "over"]
#: Why something did not happen, or `ready` and `over` when it did. busy: of who is to be put to sleep and is being started.
Answer = Literal[
    "ready",
    "over",
    "busy",
    "start_failed",
    "failed",
    "stopped",
    "killed",
    "hibernated",
    "closed",
    "removed",
    "finished",
]


@dataclass(frozen=True, slots=True)
class LifecycleEvent:
    """Something that happened.

    exit: how it ended or why it must (`ended`, `start_failed`, `condemned`). inc: the incarnation a fact is about, 0
    when it is about whichever there is; a fact about an earlier one is late and changes nothing. grace_s: of `stop`,
    `restart`, `hibernate` and `close`; 0 ends the process without asking it.
    """

    kind: EventKind
    exit: Exit | None = None
    inc: int = 0
    grace_s: float = STOP_GRACE_S


@dataclass(frozen=True, slots=True)
class Fork:
    """Have a process made, through the start gate.

    After it comes exactly one of `start_failed` (there is none) and `ended` (there was one). restart: after a crash, so
    the gate's rate applies. KillDomain before `forked` withdraws it when that is still possible.
    """

    incarnation: int
    restart: bool


@dataclass(frozen=True, slots=True)
class SendShutdown:
    """Ask the process to answer what it has and exit. for_good: its agent is to do what it does at its end."""

    grace_s: float
    for_good: bool = True


@dataclass(frozen=True, slots=True)
class KillDomain:
    """End the process and all it started, now. Idempotent. abort: SIGABRT first, for the stack of what is stuck."""

    abort: bool = False


@dataclass(frozen=True, slots=True)
class Abandon:
    """It was killed and its record has not come: end the keeper too and report `ended` (keeper lost) at once."""


@dataclass(frozen=True, slots=True)
class ArmTimer:
    """Step with `<name>_timeout` in `after_s` seconds."""

    name: TimerName
    after_s: float


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """That timer is not wanted any more; none may be running."""

    name: TimerName


@dataclass(frozen=True, slots=True)
class BeginBackoff:
    """Step with `backoff_over` in `after_s` seconds; CancelTimer("backoff") takes it back."""

    after_s: float


@dataclass(frozen=True, slots=True)
class SettleCalls:
    """The process is over: calls it had started end with it; the others are kept, or answered with `kind`.

    Where they are kept and it is hibernated then, each of them is a `call`.
    """

    keep: bool
    kind: Answer


@dataclass(frozen=True, slots=True)
class FailPending:
    """Answer every call that waits for a process: none will come, and this is why."""

    kind: Answer


@dataclass(frozen=True, slots=True)
class Flush:
    """There is a process that listens: give it what waits, in order."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Record an event."""

    type: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AnswerWaiters:
    """Answer all who wait in a group: for the session to be up, or for its end."""

    group: Group
    kind: Answer


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete the session's data and take it off the list."""


Action = (
    Fork
    | SendShutdown
    | KillDomain
    | Abandon
    | ArmTimer
    | CancelTimer
    | BeginBackoff
    | SettleCalls
    | FailPending
    | Flush
    | Announce
    | AnswerWaiters
    | Forget
)

#: What is to be once the process is over; the last verb that was accepted sets it.
Intent = Literal["run", "stop", "kill", "hibernate", "close", "remove"]
#: asked: a fork is under way. live: there is a keeper to talk to.
ProcessState = Literal["none", "asked", "live"]


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """A session between two steps.

    explicit: the start under way is what somebody asked for and waits for, so its failure is told and not tried again.
    killing: KillDomain has been sent to this process. doomed: why the host itself is ending it; counts as its exit.
    closed: the host is closing, nothing starts any more. up_waiting, over_waiting: somebody waits in that group.
    """

    policy: RestartPolicy = field(default_factory=RestartPolicy)
    history: RestartHistory = field(default_factory=RestartHistory)
    phase: Phase = "new"
    intent: Intent = "run"
    process: ProcessState = "none"
    incarnation: int = 0
    explicit: bool = False
    killing: bool = False
    doomed: Exit | None = None
    closed: bool = False
    up_waiting: bool = False
    over_waiting: bool = False
    zygotes_lost: int = 0
    ready_at: float | None = None
    reason: str = ""
    story: tuple[Transition, ...] = ()

    @property
    def takes_calls(self) -> bool:
        """Say whether a call goes straight to the process; in every other phase it waits and is told as `call`."""
        return self.phase == "ready"

    @property
    def is_asleep(self) -> bool:
        """Say whether it is hibernated, or will be when its process is over."""
        return self.phase == "hibernated" or (self.phase == "stopping" and self.intent == "hibernate")

    @property
    def settled(self) -> bool:
        """Say whether nothing is under way."""
        return self.phase not in {"starting", "backoff", "stopping"}

    def uptime_s(self, now: float) -> float:
        """Return how long the process has been ready, 0 when it is not."""
        return 0.0 if self.ready_at is None else max(0.0, now - self.ready_at)

    def __repr__(self) -> str:
        return f"<Lifecycle {self.phase} inc={self.incarnation} intent={self.intent} process={self.process}>"
