"""One guarded child of the session: a nested keeper with a worker, a command or the interpreter below it.

    fork_guarded -> keeper -> child          ctl: our orders to the keeper        status: its Born and its Ended
                                             stdout, stderr: captured             result: what the child tells us

It is *not* a call: whose answer it is, and what its end means, is its owner's (runs.py, processes.py, cells.py).

Rules: `over` is told exactly once, after Ended (or the loss of the keeper) and with every byte read that the child wrote;
a keeper that is stopped, or does not end its domain in time, is killed, which counts as lost and escalates.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Final

from procession.agent_proc.capture import Output
from procession.agent_proc.context import Context
from procession.agent_proc.core.outcome import Cause, Facts, must_escalate
from procession.agent_proc.core.worker_messages import AnyMessage
from procession.agent_proc.keeper import fork_guarded
from procession.agent_proc.loop import Timer, monotonic
from procession.agent_proc.proctree import state
from procession.agent_proc.results import ResultPipe
from procession.agent_proc.worker import ChildFds
from procession.ipc.core.bounds import PROOF_TIMEOUT_S, READ_BYTES, WORKER_TERM_GRACE_S, KiB
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import cut
from procession.ipc.core.frames import FrameDecoder
from procession.ipc.core.gap import STOPPED_GRACE_S
from procession.ipc.core.limits import Limits
from procession.ipc.core.messages import Born, Ended, Notice, decoder

TERM: Final = b"T"
KILL: Final = b"K"
INTERRUPT: Final = b"I"
#: How long a keeper has from an order to its record: SIGTERM's grace, the proof, and a busy machine's delay.
ORDER_S_MAX: Final = WORKER_TERM_GRACE_S + 2 * PROOF_TIMEOUT_S + 0.75
#: What of stderr is looked through for a stack; the report itself shows less.
_STDERR_BYTES: Final = 16 * KiB

_read_status = decoder("from_keeper")


class Guest:
    """See the module's text. Made and forked by `start`; from then on the loop drives it."""

    def __init__(self, context: Context, label: str, limits: Limits, over: Callable[[], None]) -> None:
        self._context = context
        self._over = over
        self._status = FrameDecoder(64 * KiB)
        self._insisting: Timer | None = None
        self._reaped = False
        self.label = label
        self.limits = limits
        self.cause: Cause = "none"
        """Why we ended it, if we did."""
        self.on_born: Callable[[Born], None] | None = None
        self.pid = 0
        self.ended: Ended | None = None
        self.is_over = False
        self.started_at = monotonic()
        self.ended_at = 0.0

    def start(
        self,
        main: Callable[[ChildFds], None],
        *,
        stdin: int = -1,
        keep: tuple[int, ...] = (),
        told: Callable[[AnyMessage], None] | None = None,
        runs_user_code: bool = True,
    ) -> None:
        """Fork it. Raises OSError or ProcessionError; then nothing is left.

        stdin: the child's, taken over and closed here. runs_user_code: False when it only execs.
        """
        self._context.check_single_threaded()
        if runs_user_code:
            self._context.enter_environment()
        ours: list[int] = []
        theirs: list[int] = [stdin] if stdin >= 0 else []
        try:
            for _ in range(3):
                read_end, write_end = os.pipe2(os.O_CLOEXEC)
                ours.append(read_end)
                theirs.append(write_end)
            fds = ChildFds(theirs[-3], theirs[-2], theirs[-1], stdin)
            guarded = fork_guarded(
                partial(main, fds),
                keep_fds=[*fds.keep(), *keep],
                host_pidfd=self._context.host_pidfd,
                parent_pidfd=self._context.own_pidfd,
                limits=self.limits,
                term_grace_s=WORKER_TERM_GRACE_S,
                label=self.label,
                presence=self._context.presence,
                runs_user_code=runs_user_code,
                execs=not runs_user_code,
            )
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self._ctl_w, self._status_r, self._keeper_pidfd = guarded.ctl_w, guarded.status_r, guarded.keeper_pidfd
        self._keeper_pid = guarded.keeper_pid
        os.set_blocking(self._status_r, False)
        os.set_blocking(self._ctl_w, False)
        context = self._context
        self.output = Output(context, ours[0], ours[1], self._output_over)
        self.result = ResultPipe(context, ours[2], told=told)
        context.loop.watch(self._status_r, self._read_status)
        context.loop.watch(self._keeper_pidfd, self._reap)
        context.begin_guest(self)

    # --- orders ---------------------------------------------------------------------------------------------
    def stop(self, cause: Cause, how: bytes = TERM) -> None:
        """End the whole tree, for this cause unless there is one already."""
        if self.cause == "none":
            self.cause = cause
        self.kill(how)

    def kill(self, how: bytes) -> None:
        """Send the keeper an order."""
        if self.is_over:
            return
        try:
            os.write(self._ctl_w, how)
        except (BlockingIOError, BrokenPipeError):  # a keeper that does not read is dealt with by `_insist`
            pass
        if how != INTERRUPT and self._insisting is None:
            self._insisting = self._context.loop.after(ORDER_S_MAX, self._kill_keeper)

    def _output_over(self) -> None:
        self.stop("output", KILL)

    def _kill_keeper(self) -> None:
        """Give the keeper up: it did not end its domain in time, or was stopped."""
        self._insisting = None
        if not self._reaped:
            signal.pidfd_send_signal(self._keeper_pidfd, signal.SIGKILL)

    def check_keeper(self) -> None:
        """Look whether the keeper was stopped; a guard that stands still guards nothing."""
        if self._reaped:
            return
        try:
            stopped = os.waitid(os.P_PIDFD, self._keeper_pidfd, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:  # it is dead already, and about to be reaped
            return
        if stopped is not None:
            self._look_again()

    def _look_again(self) -> None:
        """Give the keeper up if it is still stopped in a while: with everything else, it may be woken any moment (R-69)."""
        due = monotonic() + STOPPED_GRACE_S

        def look() -> None:
            if self._reaped or state(self._keeper_pid) not in ("T", "t"):
                return
            if monotonic() - due > STOPPED_GRACE_S:  # we were stopped ourselves, and are perhaps the first to be woken
                self._look_again()
            else:
                self._kill_keeper()

        self._context.loop.at(due, look)

    # --- what the keeper tells --------------------------------------------------------------------------------
    def _read_status(self) -> None:
        try:
            data = os.read(self._status_r, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._finish()
            return
        try:
            for _, payload in self._status.feed(data):
                message = _read_status(payload)
                if isinstance(message, Born):
                    self.pid = message.pid
                    if self.on_born is not None:
                        self.on_born(message)
                else:
                    self.ended = message
        except ProtocolBreach:  # a keeper is ours: if it writes nonsense it is lost
            self._kill_keeper()
            self._finish()
            return
        if self.ended is not None:
            self._finish()

    def _finish(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        self.ended_at = monotonic()
        loop = self._context.loop
        self.output.drain()
        self.result.drain()
        self.output.close()
        self.result.close()
        loop.unwatch(self._status_r)
        os.close(self._status_r)
        os.close(self._ctl_w)
        if self.ended is None:
            self._kill_keeper()
        if must_escalate(self.facts()):
            self._context.escalating = True
            text = "its keeper was lost" if self.ended is None else f"{self.ended.left} processes are left"
            self._context.send(Notice(self._context.incarnation, "run_escalated", cut(f"{self.label}: {text}", 300)))
        self._over()

    def _reap(self) -> None:
        if os.waitid(os.P_PIDFD, self._keeper_pidfd, os.WEXITED | os.WNOHANG) is None:
            return
        self._reaped = True
        if self._insisting is not None:
            self._insisting.cancel()
        self._context.end_guest(self)
        self._context.loop.unwatch(self._keeper_pidfd)
        os.close(self._keeper_pidfd)
        if not self.is_over:  # its record, if there is one, lies in the pipe already
            self._read_status()
            self._finish()

    def facts(self, timeout_s: float | None = None) -> Facts:
        """Put together what is known of its end."""
        return Facts(
            label=self.label,
            elapsed_s=(self.ended_at or monotonic()) - self.started_at,
            pid=self.pid,
            ended=self.ended,
            cause=self.cause,
            message=self.result.message,
            whole=self.result.whole,
            limits=self.limits,
            stderr=self.output.stderr.ring.tail(_STDERR_BYTES),
            timeout_s=timeout_s,
        )
