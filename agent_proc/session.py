"""The session process: one mailbox, one loop, control before commands; answerable while workers run. No asyncio, no threads.

    idle      read (blocking) -> feed -> dispatch -> encode -> write        nothing else to wait for: no poll
    busy      poll over the mailbox, the children's pipes and the nearest deadline; then the same

It is *not* where an operation is done (session_ops.py). Rules: reading never waits for writing; all answers of one turn go out
in one write; the end of the mailbox is the end of the session and of everything it started; what it cannot prove ended
makes it end itself, with a code that says so (R-78).
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Final, NoReturn

from procession.agent_proc import sysapi
from procession.agent_proc.context import Context, Page
from procession.agent_proc.guest import KILL
from procession.agent_proc.loop import monotonic
from procession.agent_proc.session_ops import Operations
from procession.ipc import kill_points
from procession.ipc.core.bounds import BOOT_EXIT, ESCALATE_EXIT, READ_BYTES, WIRE_VERSION
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.connection import Connection
from procession.ipc.core.messages import (
    Arena,
    ArenaFree,
    Boot,
    Call,
    Cancel,
    Message,
    Ready,
    Reply,
    Shutdown,
    StreamCredit,
    Subscribers,
)

#: Exit code of a session whose host broke the protocol; sysexits' EX_PROTOCOL.
BREACH_EXIT: Final = 76
#: One write of this much fills an empty pipe; what does not fit is written when there is room.
_WRITE_BYTES: Final = READ_BYTES
#: Last answers get this long to leave before the process ends.
_LAST_FLUSH_S: Final = 1.0


def prepare(
    mail_r: int,
    mail_w: int,
    page_fd: int,
    arena_in_fd: int,
    arena_out_fd: int,
    host_pidfd: int,
    child_signals: int,
    presence: int = -1,
) -> Callable[[], NoReturn]:
    """Put a session together on these descriptors, open or not yet; return what is then called in its process.

    So most of a start is done once, in the zygote, and only shared by the forks of it. The mailbox has to be blocking for
    reads and non-blocking for writes; SIGCHLD comes through `child_signals`. What is called does not return.
    """
    return Session(mail_r, mail_w, page_fd, arena_in_fd, arena_out_fd, host_pidfd, child_signals, presence).main


class Session:
    """The mailbox of one session process and its loop."""

    def __init__(
        self,
        mail_r: int,
        mail_w: int,
        page_fd: int,
        arena_in_fd: int,
        arena_out_fd: int,
        host_pidfd: int,
        child_signals: int,
        presence: int,
    ) -> None:
        self._mail_r = mail_r
        self._mail_w = mail_w
        self._page_fd = page_fd
        self._connection = Connection("session")
        self._page = Page()
        self._context = Context(
            self._connection,
            arena_in_fd,
            arena_out_fd,
            host_pidfd,
            self._page,
            child_signals,
            presence,
            self._check_keepers,
        )
        self._loop = self._context.loop
        self._prepared = Operations(self._context)
        self._operations: Operations | None = None
        self._unwritten: bytes | memoryview | None = None
        self._watching_write = False
        self._give_up_at: float | None = None
        self._loop.expect(mail_r, self._read)

    def main(self) -> NoReturn:
        """Be a session process until its mailbox ends; does not return."""
        sysapi.block_session_signals()
        self._page.map(self._page_fd)
        try:
            self.serve()
        except ProtocolBreach as breach:
            _say(f"the host broke the protocol: {breach.reason}")
            os._exit(BREACH_EXIT)

    # --- the loop -------------------------------------------------------------------------------------------
    def serve(self) -> NoReturn:
        """Read, do, answer, for ever."""
        loop, page, connection = self._loop, self._page, self._connection
        while True:
            if loop.watched == 1 and not loop.has_timers:  # the mailbox
                self._read()
            else:
                loop.turn()
            page.tick += 1
            page.write(0)  # before the answers leave: who has an answer sees its call finished
            if connection.wants_write if self._unwritten is None else not self._watching_write:
                kill_points.reach("before_report")
                self._write()
                kill_points.reach("after_report")
            if self._context.escalating or self._give_up_at is not None:
                self._consider_ending()

    def _read(self) -> None:
        data = os.read(self._mail_r, READ_BYTES)
        if not data:
            self._host_gone()
        operations, page, connection = self._operations, self._page, self._connection
        messages = connection.feed(data)
        alone = len(messages) == 1 and self._unwritten is None
        for message in messages:
            if operations is None:
                operations = self._begin(message)
                continue
            if message.inc != connection.incarnation:
                continue
            if type(message) is Call:
                if message.op == "echo" and self._echo(message, operations, alone):
                    continue
                kill_points.reach("after_receive")
                seq = message.seq
                page.write(seq)
                operations.call(message)
            else:
                self._other(message, operations)

    def _echo(self, call: Call, operations: Operations, alone: bool) -> bool:
        """Answer a small echo at once, the one operation without an effect to guard; False: it goes the way of all others."""
        payload = call.payload
        if type(payload) is Arena or self._context.stopping or operations.has_early_cancels:
            return False
        page, connection = self._page, self._connection
        page.started = page.finished = operations.seen = call.seq
        reply = Reply(call.inc, call.seq, call.body, payload)
        if alone:
            self._unwritten = connection.send_through(reply) or None
        else:
            connection.send(reply)
        return True

    def _other(self, message: Message, operations: Operations) -> None:
        match message:
            case Cancel():
                operations.cancel(message)
            case StreamCredit(seq=seq, stream=stream, count=count):
                operations.grant(seq, stream, count)
            case ArenaFree(offset=offset, length=length):
                self._context.arena_free(offset, length)
            case Shutdown(grace_s=grace_s, for_good=for_good):
                self._shut_down(grace_s, for_good, operations)
            case Subscribers():
                operations.agent.followed_by(message)
            case _:  # streams towards a session: no operation of the table has one
                pass

    # --- writing --------------------------------------------------------------------------------------------
    def _write(self) -> None:
        """Write what is queued, until there is nothing more or the pipe is full."""
        connection = self._connection
        while True:
            if self._unwritten is None:
                data = connection.take(_WRITE_BYTES)
                if not data:
                    break
                self._unwritten = data
            try:
                written = os.write(self._mail_w, self._unwritten)
            except BlockingIOError:
                if not self._watching_write:
                    self._watching_write = True
                    self._loop.watch_writable(self._mail_w, self._write)
                return
            except BrokenPipeError:
                self._host_gone()
            self._unwritten = memoryview(self._unwritten)[written:] if written < len(self._unwritten) else None
            if self._unwritten is None and not connection.wants_write:
                break
        if self._watching_write:
            self._watching_write = False
            self._loop.unwatch_writable(self._mail_w)

    def _flush_for_good(self) -> None:
        """Write everything that is queued, waiting for room a bounded time."""
        deadline = monotonic() + _LAST_FLUSH_S
        poller = select.poll()
        poller.register(self._mail_w, select.POLLOUT)
        while self._connection.wants_write or self._unwritten is not None:
            self._write()
            left = deadline - monotonic()
            if self._unwritten is None or left <= 0 or not poller.poll(left * 1000):
                return

    # --- beginning and ending -------------------------------------------------------------------------------
    def _begin(self, boot: Boot) -> Operations:
        """Take Boot and answer Ready; another version is answered too, and the host refuses it by name."""
        self._context.set_boot(boot)
        kill_points.reach("after_bootstrap")
        if boot.version == WIRE_VERSION:
            try:
                os.chdir(boot.cwd)
            except OSError as error:
                _say(f"cannot enter {boot.cwd!r}: {error.strerror}")
                os._exit(BOOT_EXIT)
        operations = self._operations = self._prepared
        operations.queue.parallel_max = max(1, boot.parallel_runs)
        if boot.version == WIRE_VERSION:
            self._begin_agent(operations)
        kill_points.reach("before_ready")
        self._context.send(Ready(WIRE_VERSION, boot.inc, os.getpid()))
        return operations

    def _begin_agent(self, operations: Operations) -> None:
        """Have the agent begin; one that cannot is why there is no session, and says so in its own words."""
        try:
            operations.agent.begin()
        except BaseException as problem:  # a module of the program's may raise SystemExit or worse
            from procession.agent_proc.agent_loading import why_not

            _say(why_not(problem))
            os._exit(BOOT_EXIT)

    def _shut_down(self, grace_s: float, for_good: bool, operations: Operations) -> None:
        if self._give_up_at is None:
            self._give_up_at = monotonic() + max(0.0, grace_s)
            operations.shutdown(for_good=for_good)
            self._loop.at(self._give_up_at, self._kill_all)

    def _kill_all(self) -> None:
        for guest in list(self._context.guests):
            guest.kill(KILL)
        self._give_up_at = monotonic()

    def _consider_ending(self) -> None:
        """End once everything is over and answered, or there is no more time for that."""
        if self._context.escalating:
            self._flush_for_good()
            os._exit(ESCALATE_EXIT)
        assert self._give_up_at is not None
        if (not self._context.guests and not self._context.calls) or monotonic() >= self._give_up_at:
            self._flush_for_good()
            os._exit(0)

    def _host_gone(self) -> NoReturn:
        """End with everything: the keepers see our end of their pipes close, and our own keeper ends what is left."""
        for guest in self._context.guests:
            guest.kill(KILL)
        os._exit(0)

    # --- children -------------------------------------------------------------------------------------------
    def _check_keepers(self) -> None:
        """Look whether a keeper was stopped; its end is told by its own descriptors."""
        sysapi.drain(self._context.child_signals)
        for guest in list(self._context.guests):
            guest.check_keeper()


def _say(text: str) -> None:
    """Leave a last word where the host looks for one."""
    os.write(2, f"{text}\n".encode("utf-8", "replace"))
