"""The keeper: parent and subreaper of one process, outside its sandbox; ends everything that process ever started.

    owner --ctl pipe: T K A I, EOF--> keeper --fork--> main process and all it starts  (the kill domain)
    owner <--status pipe: Born, Ended-- keeper

The same code keeps a session (forked by the zygote) and one run (forked by the session). It is *not* a supervisor: it
restarts nothing, and what its record means is its owner's business. What to do when is core/kill_ladder.py, how to
reach all of a domain is kill_domain.py.

Rules: single-threaded, every signal blocked but what a descriptor brings; once an end has begun nothing waits without a
bound; the domain is called empty only when `wait` says there is no child left; a keeper that cannot go on kills what it
can and dies, and its main process with it (PDEATHSIG).
"""

from __future__ import annotations

import gc
import os
import random
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, Literal, NoReturn

from procession.agent_proc import landlock, sysapi
from procession.agent_proc.core.kill_ladder import Action, Event, Ladder, Phase
from procession.agent_proc.keeper_watch import LimitsWatch, is_needed, reaped_cpu_s
from procession.agent_proc.kill_domain import KillDomain, may_signal
from procession.agent_proc.proctree import own_memory_bytes, start_ticks
from procession.ipc.core.frames import encode as encode_frame
from procession.ipc.core.limits import Limits
from procession.ipc.core.messages import Born, Ended, encode

#: Exit codes of a keeper. LEFT: it could not prove its domain empty, so its own reaper has to look for strays.
EXIT_DONE: Final = 0
EXIT_LEFT: Final = 3
EXIT_BUG: Final = 70
#: Reaped at one go before the rest of the loop gets a turn: a fork bomb must not keep us from its end.
_REAPED_AT_ONCE: Final = 4096
#: While sweeping, look again this often even if nothing died.
_SWEEP_PERIOD_S: Final = 0.005
_COMMANDS: Final = {b"T": Event.TERMINATE, b"K": Event.KILL, b"A": Event.ABORT, b"I": Event.INTERRUPT}
_COMMAND_BYTES: Final = 64
#: poll says a pipe is writable when it has room for this much; a complaint is never longer, so it never blocks.
_COMPLAINT_BYTES: Final = 4096

ChildMain = Callable[[], None]
#: What random.seed() comes down to, without the Python around it.
_python_random: Final[random.Random] = random._inst
_reseed_python: Final = super(random.Random, _python_random).seed


@dataclass(frozen=True, slots=True)
class Guarded:
    """A keeper as its owner holds it. ctl_w: commands to it, EOF ends it. status_r: frames of Born and Ended."""

    keeper_pid: int
    keeper_pidfd: int
    ctl_w: int
    status_r: int


@dataclass(frozen=True, slots=True)
class Charge:
    """What a keeper is given; made before the fork, so that the copies have as little as possible to do.

    probe_pidfd: the process that has to be out of its scope's reach (its parent's side).
    child_signals: what SIGCHLD comes through, opened with it blocked; each process that reads it reads its own.
    ruleset: see landlock.py.
    keep_fds: the main process's besides 0, 1 and 2.
    presence: what every process of the host holds until it is over, and its keeper with it (-1: there is no such thing).
    runs_user_code: the main process goes on in this interpreter with code that is not ours, so Python's and everybody's
    fork hooks are run for it.
    execs: the main process becomes another program, so that nothing of this one's memory is in it any more.
    unblocks: the main process begins with every signal let in.
    patience_ms: how long the keeper lets its main process go first, as long as nothing happens; the record of its birth
    waits as long.
    collects: the main process collects garbage.
    must_give_up: entering a scope still takes giving up privileges.
    may_probe: the probe is within reach before there is a scope.
    """

    ctl_r: int
    status_w: int
    host_pidfd: int
    parent_pidfd: int
    probe_pidfd: int
    child_signals: int
    ruleset: int
    keep_fds: Collection[int]
    limits: Limits | None
    term_grace_s: float
    label: str
    presence: int = -1
    method: Literal["auto", "sweep"] = "auto"
    runs_user_code: bool = True
    execs: bool = False
    unblocks: bool = True
    patience_ms: int = 0
    collects: bool = field(default_factory=gc.isenabled)
    must_give_up: bool = field(init=False)
    may_probe: bool = field(init=False)
    poller: select.poll = field(init=False)
    keeper_gaps: sysapi.Gaps = field(init=False)
    child_gaps: sysapi.Gaps = field(init=False)

    def __post_init__(self) -> None:
        pidfds = (self.host_pidfd, self.parent_pidfd, self.probe_pidfd)
        own = [0, 1, 2, self.ctl_r, self.status_w, self.child_signals, *pidfds]
        if self.presence >= 0:
            own.append(self.presence)
        object.__setattr__(self, "must_give_up", self.ruleset >= 0 and not sysapi.has_no_new_privs())
        object.__setattr__(self, "may_probe", may_signal(self.probe_pidfd) is True)
        poller = select.poll()  # only numbers until it is used
        for fd in (self.child_signals, self.ctl_r, self.host_pidfd, self.parent_pidfd):
            poller.register(fd, select.POLLIN)
        object.__setattr__(self, "poller", poller)
        object.__setattr__(self, "keeper_gaps", sysapi.gaps_between(own))
        object.__setattr__(self, "child_gaps", sysapi.gaps_between((0, 1, 2, *self.keep_fds)))


def fork_guarded(
    child_main: ChildMain,
    *,
    keep_fds: Collection[int],
    host_pidfd: int,
    parent_pidfd: int | None,
    limits: Limits | None,
    term_grace_s: float,
    label: str,
    presence: int = -1,
    method: Literal["auto", "sweep"] = "auto",
    runs_user_code: bool = True,
    execs: bool = False,
) -> Guarded:
    """Fork a keeper which forks a child to run `child_main`; return at once, before the child is born.

    `parent_pidfd` is a pidfd of this process (None: one is made for the occasion). The child has descriptors 0, 1, 2
    and `keep_fds`, nothing else. Raises OSError when the kernel refuses, RuntimeError when this process has threads.
    The caller reaps the keeper.
    """
    if threading.active_count() != 1:
        raise RuntimeError(f"a process with threads does not fork: {[thread.name for thread in threading.enumerate()]}")
    opened: list[int] = []
    keeper_pid = 0
    try:
        opened += os.pipe()
        opened += os.pipe()
        if parent_pidfd is None:
            parent_pidfd = os.pidfd_open(os.getpid())
            opened.append(parent_pidfd)
        child_signals = sysapi.child_signal_fd()
        opened.append(child_signals)
        ruleset = landlock.signal_ruleset()
        if ruleset >= 0:
            opened.append(ruleset)
        ctl_r, ctl_w, status_r, status_w = opened[:4]
        charge = Charge(
            ctl_r,
            status_w,
            host_pidfd,
            parent_pidfd,
            parent_pidfd,
            child_signals,
            ruleset,
            keep_fds,
            limits,
            term_grace_s,
            label,
            presence,
            method,
            runs_user_code,
            execs,
        )
        keeper_pid = fork_keeper(child_main, charge)
        keeper_pidfd = os.pidfd_open(keeper_pid)
    except OSError:
        for fd in opened:
            os.close(fd)
        if keeper_pid:  # no descriptor left for its pidfd: it sees its control pipe end, and ends its child
            os.waitpid(keeper_pid, 0)
        raise
    for fd in (ctl_r, status_w, *opened[4:]):
        os.close(fd)
    return Guarded(keeper_pid, keeper_pidfd, ctl_w, status_r)


def fork_keeper(child_main: ChildMain, charge: Charge) -> int:
    """Fork a keeper with this charge and return its pid. Raises OSError."""
    mask = sysapi.block_all_signals()  # no handler of ours may run in the copy
    try:
        pid = sysapi.fork_plain()
        if pid == 0:
            guard(child_main, charge)
        os.sched_yield()  # let it begin: our own work after this is not what the owner waits for
    finally:
        sysapi.restore_signals(mask)
    return pid


def guard(child_main: ChildMain, charge: Charge, begin: Callable[[], None] | None = None) -> NoReturn:
    """Be a keeper from just after the fork to the exit; every signal is blocked. Never returns and never raises.

    `begin` is called when all is ready for the main process's fork, and returns when that is wanted.
    """
    code = EXIT_BUG
    keeper: _Keeper | None = None
    try:
        gc.disable()  # a collection would copy every page it touches
        keeper_pid = os.getpid()
        sysapi.set_child_subreaper()
        if charge.must_give_up:
            sysapi.set_no_new_privs()
        scoped = charge.method == "auto" and landlock.enter(charge.ruleset)
        if begin is not None:
            begin()
        sysapi.set_name(f"keeper {charge.label}")
        try:
            pid = os.fork() if charge.runs_user_code else sysapi.fork_plain()
        except OSError as problem:
            _send(charge, Ended(-(problem.errno or 1), "fork", 0, 0, "none", 0.0, 0.0, 0, 0))
            os._exit(EXIT_DONE)
        if pid == 0:
            _be_child(child_main, charge, keeper_pid)
        # The main process goes first: it is what somebody waits for, and all that follows can be done later.
        if charge.patience_ms:
            charge.poller.poll(charge.patience_ms)  # what it shows stays to be seen
        else:
            os.sched_yield()
        keeper = _Keeper(charge, KillDomain(scoped and charge.may_probe, charge.probe_pidfd), pid)
        code = keeper.live()
    except BaseException:
        _complain(f"the keeper {charge.label} failed:\n{traceback.format_exc()}")
        if keeper is not None:
            keeper.domain.kill()
    finally:
        os._exit(code)


def _send(charge: Charge, message: Born | Ended) -> None:
    try:
        os.write(charge.status_w, encode_frame(encode(message)))  # 200 bytes in all: the pipe has room
    except BrokenPipeError:
        pass  # the owner is gone; the domain ends all the same


def _complain(text: str) -> None:
    poller = select.poll()
    poller.register(2, select.POLLOUT)
    if poller.poll(0):
        try:
            os.write(2, text.encode("utf-8", "replace")[-_COMPLAINT_BYTES:])
        except OSError:
            pass  # nobody reads it any more


class _Keeper:
    """One keeper's state, in its own process, once there is a main process."""

    def __init__(self, charge: Charge, domain: KillDomain, main_pid: int) -> None:
        self.charge = charge
        self.poller = charge.poller
        self.pid = os.getpid()
        self.main_pid = main_pid
        self.born = monotonic()
        self.raw_status: int | None = None
        self.max_rss_bytes = 0
        self.found = 0
        self.reaped_late = 0
        self.method = "none"
        self.domain = domain
        self.ladder = Ladder(charge.term_grace_s)
        self.watch: LimitsWatch | None = None

    # --- life -----------------------------------------------------------------------------------------------
    def live(self) -> int:
        """Set up what can be done beside the main process, watch until the domain is over; return the exit code."""
        charge = self.charge
        sysapi.close_gaps(charge.keeper_gaps)
        os.setsid()
        # What a fork begins with is not its own; after an exec nothing of it is left.
        self.resident_bytes, anonymous_bytes = (0, 0) if charge.execs else own_memory_bytes()
        self.main_pidfd = os.pidfd_open(self.main_pid)
        _send(charge, Born(self.main_pid, start_ticks(self.main_pid) or 0, self.domain.method))
        if charge.limits is not None and is_needed(charge.limits):
            self.watch = LimitsWatch(charge.limits, self.pid, anonymous_bytes, self.born)
        while self.ladder.phase is not Phase.OVER:
            ready = {fd for fd, _ in self.poller.poll(self._timeout_ms())}
            self._handle(ready)
        return self._record()

    def _timeout_ms(self) -> float | None:
        now = monotonic()
        waits = [self.ladder.wait_s(now)]
        if self.ladder.phase is Phase.KILLING:
            if self.method == "sweep":
                waits.append(_SWEEP_PERIOD_S)
        elif self.watch is not None:
            waits.append(self.watch.wait_s(now))
        known = [wait for wait in waits if wait is not None]
        return min(known) * 1000 if known else None  # poll rounds up: it never wakes just before a deadline

    def _handle(self, ready: set[int]) -> None:
        """Turn what is ready, and what is due, into events of the ladder."""
        charge = self.charge
        if charge.child_signals in ready:
            sysapi.drain(charge.child_signals)
            self._reap()
        if charge.host_pidfd in ready:
            self._never_again(charge.host_pidfd)
            self._tell(Event.HOST_GONE)
        if charge.parent_pidfd in ready:
            self._never_again(charge.parent_pidfd)
            self._tell(Event.PARENT_GONE)
        if charge.ctl_r in ready:
            self._read_commands()
        now = monotonic()
        if self.ladder.phase is Phase.KILLING:
            if self.method == "sweep":
                self._kill()
        elif self.watch is not None and self.watch.wait_s(now) == 0:
            over = self.watch.look()
            if over is not None:
                self._tell(over)
        if self.ladder.phase is not Phase.OVER and self.ladder.wait_s(monotonic()) == 0:
            self._tell(Event.DEADLINE)

    def _never_again(self, fd: int) -> None:
        try:
            self.poller.unregister(fd)  # it stays readable for good
        except KeyError:
            pass  # host and parent may be one process, and one descriptor

    def _read_commands(self) -> None:
        data = os.read(self.charge.ctl_r, _COMMAND_BYTES)
        if not data:
            self._never_again(self.charge.ctl_r)
            self._tell(Event.OWNER_CLOSED)
        for at in range(len(data)):
            event = _COMMANDS.get(data[at : at + 1])
            if event is None:
                raise ValueError(f"no such command: {data!r}")
            self._tell(event)

    def _reap(self) -> None:
        """Reap all that has died; tell of the main process, and of a domain that is empty."""
        for _ in range(_REAPED_AT_ONCE):
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                if self.ladder.phase is Phase.KILLING:
                    self._tell(Event.EMPTY)
                return
            if pid == 0:
                return
            if pid == self.main_pid:
                self.raw_status = status
                self.max_rss_bytes = usage.ru_maxrss * 1024
                self._tell(Event.MAIN_EXITED)
            elif self.ladder.began is not None:
                self.reaped_late += 1
        os.kill(self.pid, signal.SIGCHLD)  # there are more: come back to them

    # --- what the ladder asks for -----------------------------------------------------------------------------
    def _tell(self, event: Event) -> None:
        before = self.ladder
        self.ladder, action = before.step(event, monotonic())
        if before.began is None and self.ladder.began is not None and event is not Event.MAIN_EXITED:
            self._count()
        match action:
            case Action.INTERRUPT_MAIN:
                self._signal_main(signal.SIGINT)
            case Action.ABORT_MAIN:
                self._signal_main(signal.SIGABRT, signal.SIGCONT)
            case Action.TERMINATE_TREE:
                self.method = self.domain.signal(signal.SIGTERM, signal.SIGCONT)  # a stopped process dies only awake
            case Action.KILL_TREE:
                self._end(event)
            case Action.NOTHING | Action.RECORD:
                pass

    def _signal_main(self, *signals: int) -> None:
        if self.raw_status is None:  # not reaped, so the pid is its own
            for number in signals:
                signal.pidfd_send_signal(self.main_pidfd, number)

    def _count(self) -> None:
        """Count what is alive as the end begins, the main process not counted."""
        self.found = sum(stat.pid != self.main_pid for stat in self.domain.look())

    def _end(self, event: Event) -> None:
        """Kill what is left. Most often nothing is: then no look at /proc, no signal."""
        if event is Event.MAIN_EXITED:
            self._reap()
            if self.ladder.phase is Phase.OVER:
                return
            if self.method == "none":
                self._count()
        self._kill()
        self._reap()

    def _kill(self) -> None:
        self.method = self.domain.kill()

    # --- the record ---------------------------------------------------------------------------------------------
    def _record(self) -> int:
        """Write the one record; return the exit code."""
        now = monotonic()
        left = 0
        if self._has_children():
            left = max(1, len(self.domain.look()))
        cpu_s = reaped_cpu_s()
        grown = max(0, self.max_rss_bytes - self.resident_bytes)
        peak = grown if self.watch is None else max(grown, self.watch.peak_bytes)
        _send(
            self.charge,
            Ended(
                raw_status=-1 if self.raw_status is None else self.raw_status,
                cause=self._cause(cpu_s),
                found=max(self.found, self.reaped_late),
                left=left,
                method=self.method,
                elapsed_s=now - self.born,
                cpu_s=cpu_s,
                max_rss_bytes=grown,
                peak_memory_bytes=peak,
                end_s=0.0 if self.ladder.began is None else now - self.ladder.began,
            ),
        )
        return EXIT_LEFT if left else EXIT_DONE

    def _has_children(self) -> bool:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def _cause(self, cpu_s: float) -> str:
        """Name the cause; a death by the kernel's own CPU limit is one of the limit."""
        cause = self.ladder.cause
        limits = self.charge.limits
        if cause == "exit" and limits is not None and limits.cpu_s is not None and cpu_s >= limits.cpu_s:
            died_of = os.WTERMSIG(self.raw_status or 0) if self.raw_status is not None else 0
            if died_of in (signal.SIGXCPU, signal.SIGKILL):
                return "cpu"
        return cause


def _be_child(child_main: ChildMain, charge: Charge, keeper_pid: int) -> NoReturn:
    """Be the main process: cut loose from the keeper's descriptors, signals and scope, then run `child_main`."""
    code = 1
    try:
        sysapi.set_pdeathsig(signal.SIGKILL)
        if os.getppid() != keeper_pid:
            os._exit(1)  # the keeper died before the line above
        os.setsid()
        landlock.enter(charge.ruleset)  # nested: neither keeper nor owner can be signalled from here on
        sysapi.close_gaps(charge.child_gaps)
        sysapi.set_name(charge.label)
        if charge.unblocks:
            sysapi.unblock_all_signals()
        reseed()
        if charge.collects:
            gc.enable()
        child_main()
        code = 0
    except SystemExit as wanted:
        code = wanted.code if isinstance(wanted.code, int) else 0 if wanted.code is None else 1
    except BaseException:
        os.write(2, traceback.format_exc().encode("utf-8", "replace"))
    finally:
        os._exit(code & 0xFF)


def reseed() -> None:
    """Give this forked process random numbers of its own; a plain fork runs no hook that would."""
    _reseed_python()
    _python_random.gauss_next = None  # type: ignore[attr-defined]
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
