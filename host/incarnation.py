"""One session process from its fork to its end: descriptors, keeper and channel of exactly one incarnation.

    forking -> blank (a spare: no Boot yet) -> booting -> ready -> over

The Boot message may be in the pipe before the process exists, so a start costs one request to the zygote and one Ready back.
What the process is for is its owner's business (session.py); what is true about its end comes from its keeper alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from procession.host.keeper_link import KeeperLink
from procession.host.payload_arena import write_region
from procession.host.session_fds import ARENA_BYTES, SessionFds
from procession.host.zygote_client import ForkedKeeper
from procession.host.zygote_pool import ZygotePool
from procession.ipc.core import status_page
from procession.ipc.core.bounds import INLINE_BYTES_MAX, READ_BYTES, WIRE_VERSION
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.connection import Connection
from procession.ipc.core.errors import ProcessionError, StartFailed
from procession.ipc.core.limits import Limits
from procession.ipc.core.messages import Arena, Boot, Born, Ended, Inline, Payload, Ready, Shutdown, encode
from procession.ipc.transport.channel import After, Channel
from procession.ipc.transport.reactor import Reactor

#: Reads of a dead session's pipe: it held 64 KiB at most, so this is every answer it had still written.
_DRAIN_READS = 8


@dataclass
class Owner:
    """What a session wants to know of its process; all in the reactor's thread."""

    born: Callable[[], None]
    ready: Callable[[Ready], None]
    start_failed: Callable[[ProcessionError, bool], None]  # the error, and whether the zygote was to blame
    over: Callable[[Ended | None], None]  # None: the keeper was lost
    breach: Callable[[str], None]
    crash_output: Callable[[bytes], None]


class Incarnation:
    """See the module's text; the reactor's thread only, but for the channel."""

    def __init__(self, reactor: Reactor, zygotes: ZygotePool, preload: Sequence[str]) -> None:
        self.preload = tuple(preload)
        self.number = 0
        self.pid = 0
        self.keeper_pid = 0
        self.zygote_pid = 0
        self.start_ticks = 0
        self.forked = False
        self.over = False
        self.asked_at = reactor.now()
        self.channel: Channel | None = None
        self.fds: SessionFds
        self._reactor = reactor
        self._owner: Owner | None = None
        self._dispatch: Callable[[list[Any]], After | None] | None = None
        self._pending: Callable[[], bool] | None = None
        self._keeper: KeeperLink | None = None
        self._boot: tuple[Boot, threading.Lock] | None = None
        self._pending_crash = b""
        self._early_ready: Ready | None = None
        self._failure: tuple[ProcessionError, bool] | None = None  # it failed before anybody was there to be told
        self._fds_open = False
        self._attempt = 0
        """Which fork it is: what one that came to nothing still said is not to be heard by the next."""
        zygotes.fork(preload, self._make_fds, self._forked)

    # --- fork -----------------------------------------------------------------------------------------------
    def _make_fds(self) -> tuple[list[int], list[int]]:
        """Make the descriptors, anew for every attempt; return what to send, and what of it to close then."""
        if self._fds_open:
            self._drop_fds()
        self._attempt += 1
        self._early_ready = None
        self.fds = SessionFds.make()
        self._fds_open = True
        self._keeper = KeeperLink(self._reactor, self.fds.ctl_w, self.fds.status_r, self._born, self._ended)
        self._reactor.add_reader(self.fds.crash_r, self._crash_readable)
        if self._boot is not None:
            self._open_channel()
        sent, self.fds.theirs = self.fds.theirs, []
        mail_r, mail_w, ctl_r, status_w, crash_w = sent
        fds = self.fds
        return [mail_r, mail_w, fds.page, fds.arena_in, fds.arena_out, crash_w, ctl_r, status_w], sent

    def _forked(self, result: ForkedKeeper | ProcessionError, zygote_pid: int) -> None:
        self.zygote_pid = zygote_pid
        if isinstance(result, ProcessionError):
            if not self.over:
                self._fail(result, result.code in ("zygote_lost", "zygote_hangs"))
            return
        self.forked = True
        self.keeper_pid = result.pid
        if self.over or self._keeper is None:
            os.close(result.pidfd)
            return
        self._keeper.adopt(result.pid, result.pidfd)
        ready, self._early_ready = self._early_ready, None
        if ready is not None:
            self._greeted(self._attempt, ready)

    def _fail(self, error: ProcessionError, zygote: bool) -> None:
        """There will be no process: tell the owner, or the one who adopts it."""
        self.over = True
        self._drop_fds()
        if self._owner is not None:
            self._owner.start_failed(error, zygote)
        else:
            self._failure = (error, zygote)

    # --- adoption -------------------------------------------------------------------------------------------
    def adopt(
        self,
        owner: Owner,
        boot: Boot,
        lock: threading.Lock,
        dispatch: Callable[[list[Any]], After | None],
        pending: Callable[[], bool],
    ) -> None:
        """Give the process its Boot and its owner. lock, dispatch, pending: of the owner's calls, for the channel."""
        assert self._owner is None
        self._owner = owner
        self.number = boot.inc
        self._dispatch = dispatch
        self._pending = pending
        self._boot = (boot, lock)
        self.asked_at = self._reactor.now()
        if self._failure is not None:
            owner.start_failed(*self._failure)
        if self.over:
            return
        try:
            if self._fds_open:
                self._open_channel()
        except OSError as problem:
            self._fail(
                StartFailed(f"no descriptors for a session: {problem}", phase="resources", code="no_descriptors"), False
            )
            return
        if self._pending_crash:
            owner.crash_output(self._pending_crash)
        if self._keeper is not None and self._keeper.born is not None:
            owner.born()

    def _open_channel(self) -> None:
        assert self._boot is not None
        boot, lock = self._boot
        connection = Connection("host", incarnation=boot.inc)
        channel = self.channel = Channel(
            self.fds.mail_r,
            self.fds.mail_w,
            connection,
            self._reactor,
            partial(self._messages, self._attempt),
            partial(self._lost, self._attempt),
            lock=lock,
            pending=self._pending,
        )
        boot = msgspec.structs.replace(
            boot, credit_bytes=self.fds.pipe_bytes // 2, arena_bytes=ARENA_BYTES, state=self._placed(boot.state)
        )
        with lock:
            connection.send(boot)
            channel.flush()
            connection.set_credit(self.fds.pipe_bytes // 2)  # the greeting itself needs none
        channel.start()

    def _placed(self, state: Payload) -> Payload:
        """Put a large state where the session reads it before it is ready, when nothing else is in its arena."""
        if not isinstance(state, Inline) or len(state.data) <= INLINE_BYTES_MAX:
            return state
        place = Arena(0, len(state.data))
        write_region(self.fds.arena_in, place, state.data)
        return place

    # --- what comes -----------------------------------------------------------------------------------------
    def _messages(self, attempt: int, messages: list[Any]) -> After | None:
        """Take the greeting out; everything after it is the session's (the lock is held)."""
        first = messages[0]
        if type(first) is Ready:
            rest = messages[1:]
            self._reactor.call_soon(lambda: self._greeted(attempt, first))
            if self.channel is not None and self._dispatch is not None:
                self.channel.redirect(self._dispatch)  # it comes once: nothing more to take out
            if not rest:
                return None
            messages = rest
        assert self._dispatch is not None
        return self._dispatch(messages)

    def _greeted(self, attempt: int, ready: Ready) -> None:
        """Tell that it is ready. It may be quicker than its own birth record, which its keeper writes when it has time.

        Then what it says of its pid stands until the keeper says the same; nothing is ever signalled by that number.
        """
        assert self._owner is not None
        if self.over or attempt != self._attempt:  # of one whose zygote died as it was born
            return
        if not self.forked:  # the zygote's answer may come later, and may be that we cannot hold the keeper
            self._early_ready = ready
            return
        if not self.pid:
            self.pid = ready.pid
            self._owner.born()
        self._owner.ready(ready)

    def _lost(self, attempt: int, what: ProtocolBreach | str) -> None:
        """The mailbox is at its end: a hint (the keeper tells the truth), unless the session broke the protocol."""
        if isinstance(what, ProtocolBreach):
            reason = what.reason
            self._reactor.call_soon(lambda: self._breach(reason) if attempt == self._attempt else None)

    def _breach(self, reason: str) -> None:
        if self._owner is not None and not self.over:
            self._owner.breach(reason)

    def _born(self, born: Born) -> None:
        said, self.pid = self.pid, born.pid
        self.start_ticks = born.start_ticks
        if self._owner is None:
            return
        if not said:
            self._owner.born()
        elif said != born.pid:
            self._owner.breach(f"it says that its pid is {said}")

    def _crash_readable(self) -> None:
        try:
            data = os.read(self.fds.crash_r, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._reactor.remove(self.fds.crash_r)
        elif self._owner is not None:
            self._owner.crash_output(data)
        else:
            self._pending_crash = (self._pending_crash + data)[-4096:]

    def _ended(self, record: Ended | None) -> None:
        """The keeper's record, or its loss. What the session had still answered counts."""
        if self.over:
            return
        if self.channel is not None:
            self.channel.drain(_DRAIN_READS)
        self._crash_readable()
        self.over = True
        owner = self._owner
        if owner is not None:
            owner.over(record)
        self._drop_fds()

    # --- orders ---------------------------------------------------------------------------------------------
    def shut_down(self, grace_s: float, *, for_good: bool = True) -> None:
        """Ask the session to end by itself."""
        channel = self.channel
        if channel is None or channel.closed:
            self.kill()
            return
        with channel.lock:
            channel.connection.send(Shutdown(self.number, grace_s, for_good), control=True)
            channel.flush()

    def kill(self) -> None:
        """Have the keeper end the whole domain now."""
        if self._keeper is not None:
            self._keeper.command(b"K")

    def abort(self) -> None:
        """Have the keeper end the session with SIGABRT first, for the stack it prints."""
        if self._keeper is not None:
            self._keeper.command(b"A")

    def end_keeper(self) -> None:
        """End a keeper that does not obey."""
        if self._keeper is not None:
            self._keeper.end_it()

    def page(self) -> status_page.StatusPage | None:
        """Read the status page."""
        if not self._fds_open:
            return None
        return status_page.read(os.pread(self.fds.page, status_page.USED_BYTES, 0))

    def discard(self) -> None:
        """Drop a spare: EOF on its pipes ends it."""
        self.over = True
        self._drop_fds()

    def _drop_fds(self) -> None:
        if not self._fds_open:
            return
        self._fds_open = False
        if self._keeper is not None:
            self._keeper.close()
        self._reactor.remove(self.fds.crash_r)
        os.close(self.fds.crash_r)
        if self.channel is not None:
            self.channel.close()
        else:
            os.close(self.fds.mail_r)
            os.close(self.fds.mail_w)
        for fd in (self.fds.page, self.fds.arena_in, self.fds.arena_out, *self.fds.theirs):
            os.close(fd)
        self.fds.theirs = []

    def forget_after_fork(self) -> None:
        """In a forked child: close the copies."""
        self.over = True
        if not self._fds_open:
            return
        self._fds_open = False
        if self._keeper is not None:
            self._keeper.forget_after_fork()
        fds = [self.fds.crash_r, self.fds.page, self.fds.arena_in, self.fds.arena_out]
        if self.channel is None:
            fds += [self.fds.mail_r, self.fds.mail_w]
        for fd in fds:
            try:
                os.close(fd)
            except OSError:
                pass


def boot_message(
    *,
    inc: int,
    session: str,
    name: str,
    cwd: str,
    env: msgspec.Raw,
    limits: Limits,
    sandbox: str,
    parallel_runs: int,
    payload_bytes_max: int,
    import_paths: tuple[str, ...],
    agent: str,
    agent_code: bytes,
    fresh: bool,
    state: bytes,
    responder: bytes,
    tools: bytes,
) -> Boot:
    """Make the greeting; the sizes of its pipe and arena are filled in with the descriptors."""
    return Boot(
        WIRE_VERSION,
        inc,
        session,
        name,
        cwd,
        env,
        msgspec.Raw(encode(limits)),
        sandbox,
        parallel_runs,
        0,
        0,
        payload_bytes_max,
        import_paths,
        agent,
        agent_code,
        fresh,
        Inline(state),
        responder,
        tools,
    )
