"""Whether a session, or a command that it keeps running, is started again: when, and when to give up. One table, one window.

Pure: time and chance are arguments. It is *not* the lifecycle (that holds a policy and a history and asks), and it
starts nothing.

Rules: only an end that nobody asked for counts. More than `intensity` counted ends within `period_s` is a crash loop:
give up, with the reason. A process that was ready for `stable_after_s` begins with a clean slate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Literal, NamedTuple, assert_never

from procession.ipc.core.errors import InvalidRequest

RestartType = Literal["permanent", "transient", "temporary"]
RESTART_TYPES: Final[tuple[RestartType, ...]] = ("permanent", "transient", "temporary")

#: A custom intensity above this would make the window itself the load.
INTENSITY_MAX: Final = 1_000


class ExitKind(Enum):
    """The ways in which a session process ends. The value is the word for it in texts and tables."""

    NORMAL = "exit 0"
    NONZERO = "non-zero exit"
    SIGNAL = "signal"
    MEMORY = "out of memory"
    START_FAILED = "start failed"
    STUCK = "stuck"
    BREACH = "protocol breach"
    KEEPER_LOST = "keeper lost"
    ZYGOTE_LOST = "zygote lost"
    ESCALATED = "escalated"
    NOT_RESTORED = "state not restored"
    NOT_KEPT = "a change could not be kept"
    ASKED = "asked for"


@dataclass(frozen=True, slots=True)
class Exit:
    """One end of a session process.

    detail: `SIGSEGV`, `exit code 3`, the text of a failed start. pending: it had taken up calls and not answered them,
    so that leaving was abnormal whatever its exit code says (R-05).
    """

    kind: ExitKind
    detail: str = ""
    pending: bool = False

    @property
    def is_crash(self) -> bool:
        """Say whether nobody asked for this end and it was not a session's own orderly one."""
        if self.kind is ExitKind.NORMAL:
            return self.pending
        return self.kind is not ExitKind.ASKED

    def __str__(self) -> str:
        text = f"{self.kind.value} ({self.detail})" if self.detail else self.kind.value
        return f"{text} with calls pending" if self.kind is ExitKind.NORMAL and self.pending else text


def exit_of(raw_status: int, *, pending: bool = False) -> Exit:
    """Read a raw wait status as an exit; the words of signals are left to the shell, which knows their names."""
    signal = raw_status & 0x7F
    if signal:
        return Exit(ExitKind.SIGNAL, f"signal {signal}", pending)
    code = (raw_status >> 8) & 0xFF
    return Exit(ExitKind.NONZERO, f"exit code {code}", pending) if code else Exit(ExitKind.NORMAL, pending=pending)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How often, how soon, and until when. Seconds.

    backoff_s: the wait before the first, second, … restart of a window; beyond its end the last one doubles, up to
    backoff_s_max. Each wait is then lengthened by up to `jitter` of itself, so that many do not come back at once.
    memory_backoff_s: the waits after an end for want of memory, which needs time to become free (R-07).
    """

    type: RestartType = "transient"
    intensity: int = 5
    period_s: float = 30.0
    backoff_s: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4, 0.8)
    jitter: float = 0.25
    stable_after_s: float = 10.0
    backoff_s_max: float = 5.0
    memory_backoff_s: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 5.0)

    def __post_init__(self) -> None:
        if self.type not in RESTART_TYPES:
            raise InvalidRequest(
                f"restart: must be one of {', '.join(RESTART_TYPES)}, not {self.type!r}", code="invalid_restart"
            )
        if not 0 <= self.intensity <= INTENSITY_MAX or self.period_s <= 0 or not 0 <= self.jitter <= 1:
            raise InvalidRequest("restart: intensity, period or jitter out of range", code="invalid_restart")
        if not self.backoff_s or not self.memory_backoff_s or min(*self.backoff_s, *self.memory_backoff_s) < 0:
            raise InvalidRequest("restart: back-offs are one or more waits of at least 0 s", code="invalid_restart")

    def base_backoff_s(self, attempt: int, *, memory: bool = False) -> float:
        """Return the wait before restart number `attempt` (from 0) of a window, jitter not included."""
        ladder = self.memory_backoff_s if memory else self.backoff_s
        if attempt < len(ladder):
            return min(ladder[attempt], self.backoff_s_max)
        doublings = min(attempt - len(ladder) + 1, 64)  # 64: beyond any cap, below float overflow
        return min(ladder[-1] * 2.0**doublings, self.backoff_s_max)


@dataclass(frozen=True, slots=True)
class RestartHistory:
    """What the policy remembers: when the counted ends of the window were (at most `intensity`), and how many in all."""

    counted_at: tuple[float, ...] = ()
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Restart:
    """Start again in `after_s` seconds."""

    after_s: float
    counted: bool = True


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A crash loop: not started again until somebody asks."""

    reason: str


@dataclass(frozen=True, slots=True)
class Leave:
    """The type says that this end is the end. crash: it was one, so it is a failure and not a finish."""

    reason: str
    crash: bool


Decision = Restart | GiveUp | Leave
#: restart: counted. restart free: at once, not counted, for an end that is not the session's doing. leave: it is over.
Cell = Literal["restart", "restart free", "leave"]


class Case(NamedTuple):
    """A row's key: a kind of end; `pending` splits only the normal one."""

    kind: ExitKind
    pending: bool = False


#: The truth table: permanent, transient, temporary.
_TABLE: Final[dict[Case, tuple[Cell, Cell, Cell]]] = {
    Case(ExitKind.NORMAL): ("restart", "leave", "leave"),
    Case(ExitKind.NORMAL, pending=True): ("restart", "restart", "leave"),
    Case(ExitKind.NONZERO): ("restart", "restart", "leave"),
    Case(ExitKind.SIGNAL): ("restart", "restart", "leave"),
    Case(ExitKind.MEMORY): ("restart", "restart", "leave"),
    Case(ExitKind.START_FAILED): ("restart", "restart", "leave"),
    Case(ExitKind.STUCK): ("restart", "restart", "leave"),
    Case(ExitKind.BREACH): ("restart", "restart", "leave"),
    Case(ExitKind.KEEPER_LOST): ("restart", "restart", "leave"),
    Case(ExitKind.ESCALATED): ("restart", "restart", "leave"),
    Case(ExitKind.ZYGOTE_LOST): ("restart free", "restart free", "leave"),
    Case(ExitKind.NOT_RESTORED): ("leave", "leave", "leave"),
    Case(ExitKind.NOT_KEPT): ("restart free", "restart free", "leave"),
    Case(ExitKind.ASKED): ("leave", "leave", "leave"),
}


class Row(NamedTuple):
    """One cell of the truth table, spelled out."""

    type: RestartType
    exit: Exit
    cell: Cell


def truth_table() -> list[Row]:
    """List every cell: the one source of the tests and of the table in the docs."""
    return [
        Row(type_, Exit(case.kind, pending=case.pending), cell)
        for case, cells in _TABLE.items()
        for type_, cell in zip(RESTART_TYPES, cells, strict=True)
    ]


def table_markdown() -> str:
    """Draw the truth table for the docs."""
    lines = ["| how it ended | " + " | ".join(RESTART_TYPES) + " |", "|---|---|---|---|"]
    for case, cells in _TABLE.items():
        lines.append(f"| {Exit(case.kind, pending=case.pending)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def decide(
    policy: RestartPolicy, history: RestartHistory, exit: Exit, now: float, uptime_s: float, rng: Callable[[], float]
) -> tuple[RestartHistory, Decision]:
    """Decide about one end.

    now: monotonic seconds. uptime_s: how long it had been ready, 0 when it never was. rng: uniform in [0, 1).
    """
    pending = exit.pending and exit.kind is ExitKind.NORMAL
    cell = _TABLE[Case(exit.kind, pending)][RESTART_TYPES.index(policy.type)]
    if uptime_s >= policy.stable_after_s:
        history = replace(history, counted_at=())
    match cell:
        case "leave":
            return history, Leave(f"{exit}; restart type {policy.type}", exit.is_crash)
        case "restart free":
            return history, Restart(0.0, counted=False)
        case "restart":
            return _counted(policy, history, exit, now, rng)
        case _:
            assert_never(cell)


def _counted(
    policy: RestartPolicy, history: RestartHistory, exit: Exit, now: float, rng: Callable[[], float]
) -> tuple[RestartHistory, Decision]:
    recent = tuple(at for at in history.counted_at if now - at < policy.period_s)
    if len(recent) >= policy.intensity:
        reason = f"{len(recent) + 1} ends within {policy.period_s:g} s, the last: {exit}"
        return replace(history, counted_at=recent), GiveUp(reason)
    base = policy.base_backoff_s(len(recent), memory=exit.kind is ExitKind.MEMORY)
    after_s = base * (1.0 + policy.jitter * rng())
    return RestartHistory((*recent, now), history.restarts + 1), Restart(after_s)
