"""One locked channel: a connection, its outbound queue and its readers under one lock; the host's and the client's end.

    writing   whoever holds the lock writes; what a full pipe refuses stays queued until the reactor says it is writable
    reading   leader and follower: the reactor leads by default. A caller that waits becomes the leader: it polls with its own
              deadline, completes everybody's replies, and hands the role back; so its call crosses no loop and no thread.
              Callers that wait while another one leads follow: they sleep until their own reply, or until the role is free.
              Who waits for something long does not lead, lest each of the quick ones beside it cross two threads.
    parking   the last to leave lets the reading lie for a moment, so that a thread which calls again and again takes the lead
              without telling the kernel each time; then the reactor takes it back by itself.

What a message means is not decided here: `dispatch` is called with the lock held and returns what is to be run without it.
Rules: both ends are non-blocking; nothing is ever read without the lock; whoever leaves `wait` hands the role on.

Ctrl-C raises in the main thread between any two instructions, and nearly always right after a system call. So what `read`
and `write` return is put into a list by the same C call that makes them (`list.extend(map(...))`), before Python looks for
signals: it survives the interrupt, and the channel goes on. An interrupt in the middle of the few lines that take a
message apart makes the channel unusable, loudly: half a frame is never guessed at.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from procession.ipc.core.bounds import READ_BYTES
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.connection import Connection
from procession.ipc.core.frames import FrameTooLarge
from procession.ipc.core.messages import Message
from procession.ipc.transport.pipe_write import writer
from procession.ipc.transport.reactor import Reactor, tell_surprise

After = Sequence[Callable[[], None]]
#: Handles messages with the lock held; returns callbacks to run after it is released (None for none).
Dispatch = Callable[[list[Any]], After | None]
#: Told once when the channel is unusable: a breach of the other side, or a reason as text.
Lost = Callable[["ProtocolBreach | str"], None]

#: How long reading may lie when the last caller has left and no call is open. What comes unasked is read this much later;
#: that is far below what anybody sees (100 ms) and costs one wake-up for hundreds of calls.
PARK_S: Final = 0.005
#: The same while calls are open that nobody leads for: their answers come this much later at most, once.
PARK_BUSY_S: Final = 0.001
#: Who sleeps looks so often whether the reactor is stuck in a callback of the program's, and takes it for stuck after so long.
LOOK_S: Final = 0.1
BLOCKED_S: Final = 0.02
#: Longest single sleep in `wait`; what waits for ever does so in pieces that every kernel timeout can hold.
SLEEP_S_MAX: Final = 3600.0

_READ_SIZES: Final = (READ_BYTES,)
_FOR_EVER: Final = float("inf")

_monotonic = time.monotonic
_ident = threading.get_ident
_read = os.read


class Waitable(Protocol):
    """What a channel needs of a call that somebody waits for. `outcome` is set once, with the lock held."""

    outcome: Any
    items: deque[Any] | None
    gate: threading.Lock | None


class Waiter:
    """One call somebody waits for. `outcome` is set once, with the lock held; `items` are what it streamed meanwhile."""

    __slots__ = ("gate", "items", "outcome")

    def __init__(self) -> None:
        self.outcome: Any = None
        self.items: deque[Any] | None = None
        self.gate: threading.Lock | None = None


class Channel:
    """See the module's text.

    lock: the owner's, when the channel is part of a larger value. pending: says, with the lock held, whether any call is
    open; without it nothing is ever parked. on_room: called with the lock held when a full pipe has taken something again.
    """

    def __init__(
        self,
        read_fd: int,
        write_fd: int,
        connection: Connection,
        reactor: Reactor,
        dispatch: Dispatch,
        lost: Lost,
        lock: threading.Lock | None = None,
        *,
        pending: Callable[[], bool] | None = None,
        on_room: Callable[[], None] | None = None,
    ) -> None:
        self.lock = lock or threading.Lock()
        self.connection = connection
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.closed = False
        self._reactor = reactor
        self._dispatch = dispatch
        self._lost = lost
        self._pending = pending
        self._on_room = on_room
        self._unsent = b""
        self._written: list[int] = []  # what the last write took, until that is noted
        self._inbox: list[bytes] = []  # what the last read brought, until it is taken apart
        self._write_fds = (write_fd,)
        self._read_fds = (read_fd,)
        self._at_once = ((read_fd, select.POLLIN),)
        self._writing = False  # the reactor watches for room
        self._flush_due = False
        self._leader: Waitable | None = None
        self._leader_thread = 0
        self._leads = 0  # how often the lead was taken
        self._followers: deque[Waitable] = deque()
        self._sleepers: dict[int, Waitable] = {}  # who waits and will not lead, by id()
        self._paused = False  # the reactor does not read
        self._held = False  # nobody shall read
        self._park_due = False  # a timer will look whether the reactor should read again
        self._park_leads = 0
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wake_left = -1
        self._poll = select.poll()
        self._poll.register(read_fd, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        os.set_blocking(read_fd, False)
        os.set_blocking(write_fd, False)

    def start(self) -> None:
        """Let the reactor read."""
        self._reactor.add_reader(self.read_fd, self._readable)

    # --- writing --------------------------------------------------------------------------------------------
    def post(self, message: Message) -> None:
        """Send a data message and write what may be written. The lock is held. Raises frames.FrameTooLarge: nothing was sent."""
        if self.closed:
            return
        taking = False
        try:
            if self._unsent:
                self.connection.send(message)
            else:
                taking = True
                self._unsent = self.connection.send_through(message)
                taking = False
        except FrameTooLarge:
            raise
        except BaseException:
            if taking:
                self._spoil("interrupted in the middle of a write")
            raise
        if self._unsent:
            self.flush()

    def flush(self) -> None:
        """Write what may be written. The lock is held."""
        if self.closed:
            return
        connection, written = self.connection, self._written
        data = self._unsent
        taking = False
        try:
            while True:
                if not data:
                    taking = True
                    data = self._unsent = connection.take()
                    taking = False
                    if not data:
                        break
                try:
                    written.extend(map(writer(), self._write_fds, (data,)))
                except BlockingIOError:
                    self._watch_writable(True)
                    return
                except OSError:  # the reader is gone; its end is told by its keeper (law 8), so nothing is said here
                    self._unsent = b""
                    break
                data = self._unsent = data[written[0] :]
                written.clear()
                if data:
                    self._watch_writable(True)
                    return
                if not connection.wants_write:
                    break
            if self._writing:
                self._watch_writable(False)
        except BaseException:
            if taking:
                self._spoil("interrupted in the middle of a write")
            else:
                self._note_written(data)
            raise

    def _note_written(self, data: bytes) -> None:
        """Put right what an interrupt left, and have the reactor go on with it. The lock is held."""
        if self._written:
            self._unsent = data[self._written[0] :]
            self._written.clear()
        if not self._flush_due:
            self._flush_due = True
            self._reactor.call_soon(self._flush_turn)

    def flush_soon(self) -> None:
        """Write with the reactor's next turn, once for all that is queued by then. The lock is held, by the loop's thread."""
        if not self._flush_due:
            self._flush_due = True
            self._reactor.call_soon(self._flush_turn)

    def _flush_turn(self) -> None:
        with self.lock:
            self._flush_due = False
            self.flush()

    def _watch_writable(self, wanted: bool) -> None:
        if wanted != self._writing:
            self._writing = wanted
            self._reactor.want_write(self.write_fd, self._writable if wanted else None)

    def _writable(self) -> None:
        with self.lock:
            if self.closed:
                return
            self.flush()
            if self._on_room is not None:
                self._on_room()

    @property
    def unsent_bytes(self) -> int:
        """Bytes queued on this side."""
        return len(self._unsent) + self.connection.queued_bytes

    # --- reading --------------------------------------------------------------------------------------------
    def redirect(self, dispatch: Dispatch) -> None:
        """Have what comes from now on handled by another one. The lock is held."""
        self._dispatch = dispatch

    def _readable(self) -> None:
        """The reactor's turn, unless somebody has taken the lead since it looked."""
        with self.lock:
            if self._leader is not None or self.closed or self._held:
                return
            after, lost = self._read()
        self._settle(after, lost)

    def _read(self) -> tuple[After | None, ProtocolBreach | str | None]:
        """Read once and dispatch. The lock is held."""
        inbox = self._inbox
        try:
            if not inbox:
                inbox.extend(map(_read, self._read_fds, _READ_SIZES))
        except BlockingIOError:
            return None, None
        except OSError as problem:
            return None, problem.strerror or "read failed"
        except BaseException:
            if inbox:
                self._reactor.call_soon(self._readable)
            raise
        after: After | None = None
        try:
            data = inbox[0]
            if not data:
                return None, "end of file"
            messages = self.connection.feed(data)
            if len(messages) == 1:
                after = self._dispatch(messages)
            elif messages:
                after = both = list[Callable[[], None]]()
                for (
                    message
                ) in messages:  # one by one: what an earlier one completed is told, though a later one is a breach
                    both.extend(self._dispatch([message]) or ())
            inbox.clear()
            if self.connection.wants_write and not self._writing:
                self.flush()
        except ProtocolBreach as breach:
            return after, breach
        except BaseException:
            if inbox:
                self._spoil("interrupted in the middle of a read")
            elif after:
                self._reactor.call_soon(partial(self._run, after))
            raise
        return after, None

    def _settle(self, after: After | None, lost: ProtocolBreach | str | None) -> None:
        if after:
            self._run(after)
        if lost is not None and self.stop_reading():
            self._lost(lost)

    def _run(self, after: After) -> None:
        """Run callbacks; one that raises is an event, and an interrupt leaves the others to the reactor."""
        rest = iter(after)
        for callback in rest:
            try:
                callback()
            except Exception as problem:  # noqa: BLE001 - somebody else's: it is not the outcome of this thread's call
                tell_surprise(self._reactor, problem, callback)
            except BaseException:
                for left in rest:
                    self._reactor.call_soon(left)
                raise

    def hold(self, held: bool) -> None:
        """Read nothing until let go: the other side is sent more than it takes. The lock is held; nobody waits here."""
        if held != self._held and not self.closed:
            self._held = held
            self._poll.modify(self.read_fd, 0 if held else select.POLLIN)  # a leader's next poll; an end is still seen
            if held:
                self._pause()
            elif self._leader is None:
                self._resume()
            else:
                self._wake_leader()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._reactor.pause(self.read_fd)

    def _resume(self) -> None:
        if self._paused and not self._held:
            self._paused = False
            self._reactor.resume(self.read_fd)

    def stop_reading(self) -> bool:
        """Read no more and send everybody who waits away; False when that was done before."""
        with self.lock:
            return self._stop()

    def _stop(self) -> bool:
        if self.closed:
            return False
        self.closed = True
        self._reactor.remove(self.read_fd)
        if self._writing:
            self._watch_writable(False)
        self._wake_leader()
        while self._followers:
            self.wake(self._followers.popleft())
        while self._sleepers:
            self.wake(self._sleepers.popitem()[1])
        return True

    def _spoil(self, reason: str) -> None:
        """Correct or stopped (law 10): what was read or written is no longer known. The lock is held."""
        if self._stop():
            self._reactor.call_soon(lambda: self._lost(reason))

    def drain(self, rounds: int) -> None:
        """Read what is still in the pipe of an end that is over, at most `rounds` reads (the reactor's thread)."""
        for _ in range(rounds):
            with self.lock:
                if self.closed:
                    return
                after, lost = self._read()
            if after:
                self._run(after)
            if lost is not None:
                if self.stop_reading() and isinstance(lost, ProtocolBreach):
                    self._lost(lost)
                return

    # --- waiting --------------------------------------------------------------------------------------------
    def finish(self, waiter: Waitable, outcome: Any) -> None:
        """Give a waiter its outcome and wake it. The lock is held; a second outcome is a bug."""
        assert waiter.outcome is None
        waiter.outcome = outcome
        self.wake(waiter)

    def wake(self, waiter: Waitable) -> None:
        """Make a waiter look: it has an outcome, or something in `items`. The lock is held."""
        gate = waiter.gate
        if gate is not None:
            waiter.gate = None
            gate.release()
        elif waiter is self._leader and self._leader_thread != _ident():
            self._wake_leader()

    def _wake_leader(self) -> None:
        if self._leader is not None and self._wake >= 0:  # once closed, it has been woken already
            os.eventfd_write(self._wake, 1)

    def take_lead(self, waiter: Waitable) -> bool:
        """Make a waiter the leader if nobody is; it must go on to `lead`, or to `wait`, and at last `leave`. The lock is held."""
        if self._leader is not None or self.closed:
            return False
        self._leader = waiter
        self._leader_thread = _ident()
        self._leads += 1
        if not self._paused:
            self._pause()
        return True

    def lead(self, waiter: Waitable, until: float) -> None:
        """Wait as `wait` does, in the lead that was taken with `take_lead`."""
        try:
            self._lead(waiter, until)
        finally:
            if self._leader is waiter:
                with self.lock:
                    self._leave(waiter)

    def leave(self, waiter: Waitable) -> None:
        """Give up a lead that an interrupt may have left with a waiter."""
        if self._leader is waiter:
            with self.lock:
                self._leave(waiter)

    def wait(self, waiter: Waitable, until: float) -> None:
        """Wait until the waiter has an outcome or an item, monotonic time `until` has come, or the channel is closed."""
        followed = False
        try:
            while True:
                gate: threading.Lock | None = None
                with self.lock:
                    if waiter.outcome is not None or waiter.items or self.closed:
                        return
                    if self._leader is waiter or self.take_lead(waiter):  # its own: an interrupt may have left it there
                        self._leader_thread = _ident()
                    else:
                        gate = threading.Lock()
                        gate.acquire()
                        waiter.gate = gate
                        followed = True
                        self._followers.append(waiter)
                if gate is None:
                    self._lead(waiter, until)
                    return
                if not gate.acquire(timeout=min(max(0.0, until - _monotonic()), SLEEP_S_MAX)) and _monotonic() >= until:
                    return
        finally:
            if followed or self._leader is waiter:
                with self.lock:
                    self._leave(waiter)

    def sleep(self, waiter: Waitable, until: float) -> None:
        """Wait as `wait` does, for something long: in nobody's way, while the reactor or another caller reads.

        While something of the program's blocks the reactor nobody may be reading, so then it leads like any other.
        """
        while not self._is_blocked():
            gate = threading.Lock()
            gate.acquire()
            try:
                with self.lock:
                    if waiter.outcome is not None or waiter.items or self.closed:
                        return
                    waiter.gate = gate
                    self._sleepers[id(waiter)] = waiter
                    self.unpark()
                if gate.acquire(timeout=min(max(0.0, until - _monotonic()), LOOK_S)) or _monotonic() >= until:
                    return
            finally:
                with self.lock:
                    waiter.gate = None
                    self._sleepers.pop(id(waiter), None)
        self.wait(waiter, until)

    def _is_blocked(self) -> bool:
        since = self._reactor.busy_since()
        if since is None:
            return False
        return _monotonic() - since > BLOCKED_S or self._reactor.thread_id() == _ident()

    def _lead(self, waiter: Waitable, until: float) -> None:
        poll = self._poll.poll
        while not (waiter.outcome is not None or waiter.items or self.closed):
            left = SLEEP_S_MAX if until == _FOR_EVER else min(until - _monotonic(), SLEEP_S_MAX)
            if left <= 0:
                return
            for fd, _ in poll(left * 1000.0 + 0.5) if not self._inbox else self._at_once:
                if fd == self._wake:
                    self._drain_wake()
                    continue
                with self.lock:
                    if self.closed:
                        return  # type: ignore[unreachable]  # another thread closes it
                    after, lost = self._read()
                    if waiter.outcome is not None:
                        self._leave(waiter)  # type: ignore[unreachable]  # the read brought it
                if after or lost is not None:
                    self._settle(after, lost)

    def _drain_wake(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except (BlockingIOError, ValueError, OSError):
            pass  # taken, or closed meanwhile

    def _leave(self, waiter: Waitable) -> None:
        """Leave the lead, if it is ours, to a follower that still waits, else to the reactor. The lock is held."""
        if waiter.gate is not None:
            waiter.gate = None
            try:
                self._followers.remove(waiter)
            except ValueError:
                pass
        if self._leader is waiter:
            self._leader = None
            if self._wake_left >= 0:  # `close` left it to us: we were polling it
                os.close(self._wake_left)
                self._wake_left = -1
        if self._leader is not None or self.closed:
            return
        while self._followers:
            follower = self._followers.popleft()
            if follower.gate is not None:
                self.wake(follower)
                return
        if self._pending is None:
            self._resume()
        elif not self._park_due and self._paused:
            self._park()

    def _park(self) -> None:
        self._park_due = True
        self._park_leads = self._leads
        assert self._pending is not None, "without it nothing is parked"
        self._reactor.call_at(_monotonic() + (PARK_BUSY_S if self._pending() else PARK_S), self._unpark_turn)

    def _unpark_turn(self) -> None:
        with self.lock:
            self._park_due = False
            if self.closed or not self._paused:
                return
            if self._leader is None and not self._followers:
                self._resume()
            elif self._leads != self._park_leads:
                self._park()  # a thread that calls again and again; one that only waits arms it itself when it leaves

    def unpark(self) -> None:
        """Let the reactor read at once: a call is being sent that nobody will wait for. The lock is held."""
        if self._paused and self._leader is None and not self._followers:
            self._resume()

    # --- end ------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Stop reading and close the descriptors. The reactor's thread, or nobody else is left."""
        self.stop_reading()
        with self.lock:
            if self._wake < 0:
                return
            fds = {self.read_fd, self.write_fd}
            wake, self._wake = self._wake, -1
            if self._leader is not None:
                self._wake_left = wake
            else:
                fds.add(wake)
        for fd in fds:
            os.close(fd)

    def forget_after_fork(self) -> None:
        """In a forked child: close this process's copies, touch nothing shared."""
        self.closed = True
        for fd in {self.read_fd, self.write_fd, self._wake, self._wake_left}:
            try:
                os.close(fd)
            except OSError:
                pass
        self._wake = self._wake_left = -1

    def __repr__(self) -> str:
        lead = "caller" if self._leader is not None else "parked" if self._paused else "reactor"
        state = "closed" if self.closed else f"lead={lead} followers={len(self._followers)}"
        return f"<Channel {state} unsent={self.unsent_bytes} {self.connection!r}>"
