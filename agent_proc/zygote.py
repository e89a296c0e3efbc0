"""The zygote: a warm interpreter that forks keepers, and through them session processes, on request.

    host --packets: Fork + 8 descriptors--> zygote --fork--> keeper --fork--> session process
    host <--Hello, Forked + pidfd, ForkFailed, KeeperGone-- zygote

It is *not* a supervisor and knows nothing of sessions. It runs no user code but the preloads, and only until it says
Hello.

Rules: single-threaded, checked before every fork; the subreaper of all that a lost keeper leaves behind, and the only
one that waits for it; it outlives neither its host nor a packet it does not understand.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Collection
from functools import partial
from time import monotonic
from typing import Final, NoReturn, TypedDict

from procession.agent_proc import landlock, session, sysapi
from procession.agent_proc.blank_keeper import BlankKeeper
from procession.agent_proc.descriptors import FORK_FDS, FORK_FDS_BYTES, Places, fds_in
from procession.agent_proc.keeper import Charge, guard
from procession.agent_proc.kill_domain import KillDomain
from procession.agent_proc.proctree import TreeScan, state
from procession.agent_proc.zygote_preload import PreloadFailed, count_tasks, preload, python_threads
from procession.ipc import kill_points
from procession.ipc.core.bounds import REAP_TIMEOUT_S, WIRE_VERSION, WORKER_TERM_GRACE_S, KiB
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.gap import STOPPED_GRACE_S
from procession.ipc.core.messages import (
    Fork,
    Forked,
    ForkFailed,
    FromZygote,
    KeeperGone,
    ZygoteFailed,
    ZygoteHello,
    decoder,
    encode,
)

_FDS_SPACE: Final = socket.CMSG_SPACE(FORK_FDS_BYTES)
_PACKET_BYTES_MAX: Final = 4 * KiB  # a Fork is a number
#: After a keeper is lost, its nested keepers see their session die and end their runs by better means than ours: so
#: long we let them.
_STRAYS_GRACE_S: Final = 0.03
_SWEEP_PERIOD_S: Final = 0.005
#: A session needs two thirds of this from its fork to its first answer. So long its keeper and we let it go first, as long
#: as nothing happens; on a machine with idle processors that costs nothing, on a busy one it is a third of a start.
_PATIENCE_MS: Final = 3
#: A blank keeper that somebody ended is replaced this much later.
_BLANK_RETRY_S: Final = 1.0
_REAPED_AT_ONCE: Final = 4096
EXIT_BUG: Final = 70

_read_packet = decoder("to_zygote")


class Config(TypedDict, total=False):
    """The first packet."""

    version: int
    sys_path: list[str]
    preload: list[str]
    host_pid: int


def main(sock: socket.socket, config: Config, host_pidfd: int) -> NoReturn:
    """Import, say Hello, fork until the host is gone. Never returns."""
    code = EXIT_BUG
    complaints = 2
    try:
        # A zygote that somebody stopped would see neither its host's end nor the end of anything. It is only woken, not
        # killed: its parent is a thread, which may end before the host does, and its duty at the end is still to do.
        sysapi.set_pdeathsig(signal.SIGCONT)
        complaints = os.dup(2)
        code = _serve(sock, config, host_pidfd)
    except BaseException:
        os.write(complaints, traceback.format_exc().encode("utf-8", "replace"))
    finally:
        os._exit(code)


def _serve(sock: socket.socket, config: Config, host_pidfd: int) -> int:
    if config.get("version") != WIRE_VERSION:
        # Told by the Hello, which carries our version: the host names both.
        _presence(sock)
        sock.send(encode(ZygoteHello(WIRE_VERSION, os.getpid(), 0)))
        return EXIT_BUG
    sysapi.set_child_subreaper()
    sysapi.reset_reserved()
    sysapi.reset_handlers()
    try:
        tasks = preload(config.get("preload", ()))
    except PreloadFailed as failed:
        _presence(sock)
        sock.send(encode(ZygoteFailed(failed.phase, failed.module, failed.text)))
        return 1
    presence = _presence(sock)
    sysapi.reset_handlers()  # a preload may have had ideas of its own
    sysapi.block_all_signals()  # for good: only its host ends it, and what it forks begins with every signal blocked
    faulthandler.enable(2)  # for the sessions: the copies have it
    _redirect_streams()
    sysapi.set_name("zygote")
    own_pidfd, ruleset = os.pidfd_open(os.getpid()), landlock.signal_ruleset()
    if ruleset >= 0:
        sysapi.set_no_new_privs()  # here once for all that is forked: a scope asks for it
    places = Places.reserve(host_pidfd, sysapi.child_signal_fd())
    charge = _charge(places, own_pidfd, presence, ruleset)
    main = session.prepare(
        places.mail_r,
        places.mail_w,
        places.page,
        places.arena_in,
        places.arena_out,
        places.host_pidfd,
        places.child_signals,
        presence,
    )
    gc.collect()
    gc.freeze()  # collections in the copies leave these pages shared
    zygote = _Zygote(sock, places, charge, main, tasks)
    zygote.tell(ZygoteHello(WIRE_VERSION, os.getpid(), len(sys.modules)))
    return zygote.run()


def _presence(sock: socket.socket) -> int:
    """Return the descriptor that every process of the host holds until it is over. Not before the preloads are done.

    What those start is not ours to end, so it must not hold it: until now it lay in the socket. Nor may it lie there at our
    end: the host would be told of that, and not what we sent last.
    """
    _, fds, _, _ = socket.recv_fds(sock, _PACKET_BYTES_MAX, 1, socket.MSG_CMSG_CLOEXEC)
    (fd,) = fds
    return fd


def _charge(places: Places, own_pidfd: int, presence: int, ruleset: int) -> Charge:
    return Charge(
        ctl_r=places.ctl_r,
        status_w=places.status_w,
        host_pidfd=places.host_pidfd,
        parent_pidfd=own_pidfd,
        probe_pidfd=places.host_pidfd,
        child_signals=places.child_signals,
        ruleset=ruleset,
        keep_fds=(*places.of_the_session, presence),
        presence=presence,
        limits=None,
        term_grace_s=WORKER_TERM_GRACE_S,
        label="session",
        runs_user_code=False,
        unblocks=False,
        patience_ms=_PATIENCE_MS,
    )


def _redirect_streams() -> None:
    """Point 0, 1 and 2 at nothing: what the zygote was started with is not for its sessions."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # a preload closed or replaced it
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


class _Zygote:
    """The zygote's state once it serves."""

    def __init__(
        self,
        sock: socket.socket,
        places: Places,
        charge: Charge,
        main: Callable[[], None],
        tasks: int,
    ) -> None:
        self._sock = sock
        self._places = places
        self._charge = charge
        self._session_main = main
        self._host_pidfd = places.host_pidfd
        self._poller = select.poll()
        for fd in (sock.fileno(), places.host_pidfd, places.child_signals):
            self._poller.register(fd, select.POLLIN)
        self._tasks = tasks
        self._keepers: dict[int, int] = {}
        self._blank: BlankKeeper | None = None
        self._blank_due: float | None = monotonic()
        self._domain = KillDomain()
        #: What a preload started is not ours to end (it ends with its pipes, as it would in any program).
        self._own_children = frozenset(stat.pid for stat in TreeScan(os.getpid()).look())
        self._lost: list[tuple[int, int]] = []
        self._strays = 0
        self._sweep_due: float | None = None
        self._stopped: set[int] = set()
        self._stopped_due: float | None = None
        self._sweep_end = 0.0
        self._wakeup = places.child_signals

    def tell(self, message: FromZygote, fds: Collection[int] = ()) -> None:
        """Send a packet; a host that is gone hears nothing (its pidfd tells us)."""
        try:
            if fds:
                socket.send_fds(self._sock, [encode(message)], list(fds))
            else:
                self._sock.send(encode(message))
        except (BrokenPipeError, ConnectionResetError):
            pass

    # --- the loop ---------------------------------------------------------------------------------------------
    def run(self) -> int:
        """Serve until the host is gone or hangs up; then see everything end. Return the exit code."""
        serving = True
        while serving:
            ready = {fd for fd, _ in self._poller.poll(self._timeout_ms())}
            self._look_after_children(ready)
            if self._host_pidfd in ready:
                serving = False
            elif self._sock.fileno() in ready:
                serving = self._take_packet()
            elif self._blank_due is not None and monotonic() >= self._blank_due:
                self._fork_blank()
        self._end()
        return 0

    def _timeout_ms(self) -> float | None:
        due = [at for at in (self._sweep_due, self._blank_due, self._stopped_due) if at is not None]
        return max(0.0, min(due) - monotonic()) * 1000 if due else None

    def _look_after_children(self, ready: Collection[int]) -> None:
        if self._wakeup in ready:
            sysapi.drain(self._wakeup)
            self._reap()
        if self._sweep_due is not None and monotonic() >= self._sweep_due:
            self._sweep()
        if self._stopped_due is not None and monotonic() >= self._stopped_due:
            self._end_stopped()

    def _end(self) -> None:
        """Wait for the keepers, which see for themselves that it is over; then end what is left."""
        self._drop_blank()
        self._blank_due = None
        deadline = monotonic() + REAP_TIMEOUT_S
        poller = select.poll()
        poller.register(self._wakeup, select.POLLIN)
        while (self._keepers or self._lost) and (left_s := deadline - monotonic()) > 0:
            wait_ms = self._timeout_ms()
            poller.poll(left_s * 1000 if wait_ms is None else min(wait_ms, left_s * 1000))
            self._look_after_children({self._wakeup})
        for pidfd in self._keepers.values():
            _kill(pidfd)
        # A keeper takes its main process along (PDEATHSIG); the rest comes to us.
        self._keepers.clear()
        deadline = monotonic() + REAP_TIMEOUT_S
        while self._domain.has_any(self._own_children) and monotonic() < deadline:
            self._domain.kill(self._own_children)
            poller.poll(_SWEEP_PERIOD_S * 1000)
            sysapi.drain(self._wakeup)
            self._reap()

    # --- forking ----------------------------------------------------------------------------------------------
    def _take_packet(self) -> bool:
        """Answer one packet; False when the host has hung up. Raises ProtocolBreach for anything but a whole Fork."""
        try:
            data, extra, flags, _ = self._sock.recvmsg(_PACKET_BYTES_MAX, _FDS_SPACE, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return False
        if not data:
            return False
        fds = fds_in(extra)
        try:
            request = _read_packet(data)
            if flags & socket.MSG_TRUNC or not isinstance(request, Fork):
                raise ProtocolBreach("the zygote takes nothing but a Fork")
            if flags & socket.MSG_CTRUNC:  # no descriptor left for one of them
                self.tell(ForkFailed(request.req, 0, "the zygote has no room for more descriptors"))
            elif len(fds) != FORK_FDS:
                raise ProtocolBreach(f"a Fork with {len(fds)} descriptors")
            else:
                self._fork(request.req, fds)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _fork(self, req: int, fds: list[int]) -> None:
        problem = self._why_not_fork()
        if problem:
            self.tell(ForkFailed(req, 0, problem))
            return
        kill_points.reach("before_fork")
        try:
            pid = self._hand_over(fds) or self._fork_keeper(fds)
        except OSError as refused:
            self.tell(ForkFailed(req, refused.errno or 0, f"fork: {refused.strerror}"))
            return
        kill_points.reach("after_fork")
        self.tell(Forked(req, pid), [self._keepers[pid]])
        # The session is what the host waits for: it goes first, unless there is more to do.
        self._poller.poll(_PATIENCE_MS)
        self._blank_due = monotonic()  # once nothing else is to do

    def _hand_over(self, fds: list[int]) -> int:
        """Have the blank keeper fork; return its pid, 0 when there is none."""
        blank, self._blank = self._blank, None
        if blank is None:
            return 0
        try:
            self._keepers[blank.pid] = blank.hand_over(fds)
        except OSError:  # it is dead, and about to be reaped
            blank.end()
            return 0
        return blank.pid

    def _fork_keeper(self, fds: list[int]) -> int:
        """Fork one now, with the crash pipe for its streams from the first instruction on. Raises OSError."""
        self._places.take(fds)
        self._places.speak_there()
        try:
            pid = sysapi.fork_plain()
            if pid == 0:
                guard(self._session_main, self._charge)
        finally:
            os.dup2(0, 1)
            os.dup2(0, 2)
        try:
            self._keepers[pid] = os.pidfd_open(pid)
        except OSError:  # no descriptor left: a keeper that nobody can hold is not to live
            os.kill(pid, signal.SIGKILL)  # our child, not reaped: the pid is its own
            raise
        return pid

    def _fork_blank(self) -> None:
        """Fork the next keeper ahead; one that the kernel refuses is not missed."""
        self._blank_due = None
        if self._blank is None and not self._why_not_fork():
            try:
                self._blank = BlankKeeper.fork(self._places, partial(guard, self._session_main, self._charge))
            except OSError:
                pass  # the next start forks its own, and says so if it cannot

    def _why_not_fork(self) -> str:
        """Return why this process must not fork now: a copy has one thread, whatever the others held stays locked."""
        if count_tasks() == self._tasks and len(sys._current_frames()) == 1:
            return ""
        if threading.current_thread() is not threading.main_thread():
            return f"not in the main thread but in {threading.current_thread().name}"
        if threading.active_count() != 1:
            return f"the zygote has threads: {', '.join(python_threads())}"
        if (tasks := count_tasks()) != self._tasks:
            if threads := python_threads():
                return f"the zygote has threads: {', '.join(threads)}"
            return f"the zygote has {tasks} native threads, it had {self._tasks} after its preload"
        return ""

    # --- children ---------------------------------------------------------------------------------------------
    def _reap(self) -> None:
        for _ in range(_REAPED_AT_ONCE):
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                if pid in self._keepers:  # it guards nothing
                    self._stopped.add(pid)
                    self._stopped_due = monotonic() + STOPPED_GRACE_S
            elif pid in self._keepers:
                os.close(self._keepers.pop(pid))
                self._keeper_gone(pid, status)
            if self._blank is not None and pid == self._blank.pid:  # dead or stopped
                self._drop_blank()
        os.kill(os.getpid(), signal.SIGCHLD)  # there are more: come back to them

    def _end_stopped(self) -> None:
        """Kill the keepers that are still stopped; with everything else, they may be woken any moment (R-69)."""
        assert self._stopped_due is not None
        now = monotonic()
        late_s, self._stopped_due = now - self._stopped_due, None
        if late_s > STOPPED_GRACE_S:  # we were stopped ourselves, and are perhaps the first to be woken
            self._stopped_due = now + STOPPED_GRACE_S
            return
        stopped, self._stopped = self._stopped, set()
        for pid in stopped & self._keepers.keys():
            if state(pid) in ("T", "t"):
                _kill(self._keepers[pid])

    def _drop_blank(self) -> None:
        """Give up a blank keeper that somebody stopped or killed; another one in a while, not at once for ever."""
        if self._blank is not None:
            self._blank.end()
            self._blank = None
            self._blank_due = monotonic() + _BLANK_RETRY_S

    def _keeper_gone(self, pid: int, status: int) -> None:
        if status == 0:  # it proved its domain empty
            self.tell(KeeperGone(pid, status, 0))
            return
        now = monotonic()
        self._lost.append((pid, status))
        if self._sweep_due is None:
            self._sweep_due = now + _STRAYS_GRACE_S
            self._strays = 0
        self._sweep_end = now + _STRAYS_GRACE_S + REAP_TIMEOUT_S

    def _sweep(self) -> None:
        """End what lost keepers have left, again and again until nothing is."""
        self._reap()
        spare = {*self._keepers, *self._own_children}
        if self._blank is not None:
            spare.add(self._blank.pid)
        found = self._domain.look(spare)
        self._strays = max(self._strays, len(found))
        if found:
            self._domain.kill(spare)
        now = monotonic()
        more = self._domain.has_any(spare)
        if not more or now >= self._sweep_end:
            for pid, status in self._lost:
                self.tell(KeeperGone(pid, status, self._strays))
            self._lost.clear()
        self._sweep_due = now + _SWEEP_PERIOD_S if more else None


def _kill(pidfd: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
