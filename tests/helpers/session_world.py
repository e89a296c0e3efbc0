"""A session's world without processes: carries out what the lifecycle decides and keeps count of what it owes.

It is strict: a fork while a process is there, an answer nobody waits for, a timer left behind, a delivery to no process
fail the test at once. What the world may do next is a list, so that a test can choose, in order or at random.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from procession.host.core.lifecycle import step
from procession.host.core.lifecycle_values import (
    WAITS_OVER,
    WAITS_UP,
    Abandon,
    Action,
    Announce,
    AnswerWaiters,
    ArmTimer,
    BeginBackoff,
    CancelTimer,
    EventKind,
    FailPending,
    Flush,
    Forget,
    Fork,
    KillDomain,
    Lifecycle,
    LifecycleEvent,
    SendShutdown,
    SettleCalls,
)
from procession.ipc.core.restart_policy import Exit, ExitKind, RestartPolicy

STEPS_MAX = 400  # a session that has not come to rest by then never will


@dataclass
class Waiter:
    """Somebody who asked for something."""

    group: str
    verb: str
    answer: str | None = None


@dataclass
class Call:
    """A call: waiting, with the process (perhaps started), or over."""

    state: str = "waiting"
    started: bool = False


@dataclass
class Process:
    """The one process there may be."""

    inc: int
    live: bool = False
    said_ready: bool = False
    told_to_end: bool = False
    killed: bool = False
    abandoned: bool = False


@dataclass
class World:
    """See the module's text."""

    policy: RestartPolicy = field(default_factory=RestartPolicy)
    rng: Callable[[], float] = lambda: 0.0
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.state = Lifecycle(policy=self.policy)
        self.process: Process | None = None
        self.waiters: list[Waiter] = []
        self.calls: list[Call] = []
        self.timers: dict[str, float] = {}
        self.forks: list[tuple[float, Fork]] = []
        self.announced: list[str] = []
        self.forgotten = 0
        self._numbers = count()

    # --- what people do -------------------------------------------------------------------------------------
    def verb(self, kind: EventKind, grace_s: float = 5.0) -> Waiter:
        """Ask for something; returns who waits for it."""
        waiter = Waiter("up" if kind in WAITS_UP else "over", kind)
        assert kind in WAITS_UP | WAITS_OVER
        self.waiters.append(waiter)
        self.send(LifecycleEvent(kind, grace_s=grace_s))
        return waiter

    def call(self) -> Call:
        """Call it."""
        call = Call()
        self.calls.append(call)
        if self.state.takes_calls:
            self._deliver(call)
        else:
            self.send(LifecycleEvent("call"))
        return call

    def _deliver(self, call: Call) -> None:
        assert self.process is not None
        assert self.process.said_ready
        call.state = "sent"
        call.started = next(self._numbers) % 2 == 0

    # --- the shell ------------------------------------------------------------------------------------------
    def send(self, event: LifecycleEvent) -> None:
        """Step, and carry out what it decides."""
        self.state, actions = step(self.state, event, self.now, self.rng)
        for action in actions:
            self._do(action)
        if self.state.phase == "hibernated" and any(call.state == "waiting" for call in self.calls):
            self.send(LifecycleEvent("call"))  # what was kept is a call
        self._check()

    def _do(self, action: Action) -> None:
        process = self.process
        match action:
            case Fork(incarnation):
                assert process is None, "a second process"
                self.process = Process(incarnation)
                self.forks.append((self.now, action))
            case SendShutdown():
                assert process is not None
                assert process.live
                process.told_to_end = True
            case KillDomain():
                assert process is not None
                process.killed = True
            case Abandon():
                assert process is not None
                process.abandoned = True
            case ArmTimer(name, after_s):
                self.timers[name] = self.now + after_s
            case BeginBackoff(after_s):
                self.timers["backoff"] = self.now + after_s
            case CancelTimer(name):
                self.timers.pop(name, None)
            case SettleCalls(keep):
                for call in self.calls:
                    if call.state == "sent":
                        call.state = "waiting" if keep and not call.started else "over"
                    elif call.state == "waiting" and not keep:
                        call.state = "over"
            case FailPending():
                for call in self.calls:
                    if call.state == "waiting":
                        call.state = "over"
            case Flush():
                for call in self.calls:
                    if call.state == "waiting":
                        self._deliver(call)
            case AnswerWaiters(group, kind):
                open_ones = [w for w in self.waiters if w.group == group and w.answer is None]
                assert kind != "busy" or len(open_ones) == 1, "only who wants it to sleep is told that"
                assert open_ones, f"nobody waits to hear {kind}"
                for waiter in open_ones:
                    waiter.answer = kind
            case Announce(type):
                self.announced.append(type)
            case Forget():
                self.forgotten += 1

    def _check(self) -> None:
        """Hold the state to the world after every step."""
        state = self.state
        assert (state.process == "none") == (self.process is None), state
        assert state.up_waiting == any(w.group == "up" and w.answer is None for w in self.waiters), state
        assert state.over_waiting == any(w.group == "over" and w.answer is None for w in self.waiters), state
        if state.settled:
            assert not self.timers, f"{state.phase} with timers {self.timers}"
            assert self.open_waiters == []
            assert (state.phase == "ready") == (self.process is not None)
            assert not any(call.state == "waiting" for call in self.calls)

    @property
    def open_waiters(self) -> list[Waiter]:
        """Who has not been answered."""
        return [waiter for waiter in self.waiters if waiter.answer is None]

    # --- what may happen next -------------------------------------------------------------------------------
    def fact(self, kind: EventKind, exit: Exit | None = None) -> None:
        """Tell a fact about the process there is."""
        assert self.process is not None
        inc = self.process.inc
        if kind in ("ended", "start_failed"):
            self.process = None
        self.send(LifecycleEvent(kind, exit=exit, inc=inc))

    def end(self, kind: ExitKind = ExitKind.SIGNAL) -> None:
        """The process is over."""
        self.fact("ended", Exit(kind))

    def forked(self) -> None:
        assert self.process is not None
        self.process.live = True
        self.fact("forked")

    def say_ready(self) -> None:
        assert self.process is not None
        self.process.said_ready = True
        self.fact("ready")

    def fire(self, name: str) -> None:
        """Let a timer run out, and time pass until then."""
        self.now = max(self.now, self.timers.pop(name))
        self.send(LifecycleEvent("backoff_over" if name == "backoff" else f"{name}_timeout"))  # type: ignore[arg-type]

    def honest(self) -> list[Callable[[], None]]:
        """What a world without faults may do next, the likeliest first."""
        process = self.process
        moves: list[Callable[[], None]] = []
        if process is not None and not process.live:
            if process.killed:
                moves.append(lambda: self.fact("start_failed", Exit(ExitKind.START_FAILED, "withdrawn")))
            moves.append(self.forked)
        elif process is not None:
            if process.killed or process.told_to_end:
                moves.append(lambda: self.end(ExitKind.SIGNAL if process.killed else ExitKind.NORMAL))
            elif not process.said_ready:
                moves.append(self.say_ready)
        if "backoff" in self.timers:
            moves.append(lambda: self.fire("backoff"))
        return moves

    def faults(self) -> list[Callable[[], None]]:
        """What else may happen."""
        process = self.process
        moves: list[Callable[[], None]] = [lambda name=name: self.fire(name) for name in self.timers]  # type: ignore[misc]
        if process is None:
            return moves
        if not process.live:
            moves.append(lambda: self.fact("start_failed", Exit(ExitKind.START_FAILED, "no fork")))
            moves.append(lambda: self.fact("start_failed", Exit(ExitKind.ZYGOTE_LOST)))
        else:
            moves += [lambda kind=kind: self.end(kind) for kind in ExitKind]  # type: ignore[misc]
            moves.append(lambda: self.fact("condemned", Exit(ExitKind.STUCK)))
            moves.append(lambda: self.fact("condemned", Exit(ExitKind.BREACH)))
        moves.append(lambda: self.fact("zygote_lost"))
        return moves

    def settle(self) -> None:
        """Let everything due happen, without faults, until the session is at rest."""
        for _ in range(STEPS_MAX):
            moves = self.honest()
            if self.state.settled or not moves:
                break
            moves[0]()
        assert self.state.settled, f"stuck: {self.state!r}\n{self.state.story}"
