"""What every part of a session process shares: its loop, its connection, what Boot said, and the way to send and to end.

A plain holder; the session (session.py) makes it once and owns it. Nothing of it is used in a child, which has closed the
descriptors behind it.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from procession.agent_proc.loop import Loop
from procession.ipc.core.arena import ALIGN_BYTES, ArenaAllocator
from procession.ipc.core.bounds import INLINE_BYTES_MAX, MESSAGE_BYTES_MAX, MiB
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.connection import Connection
from procession.ipc.core.errors import ErrorData, ProcessionError
from procession.ipc.core.limits import Limits
from procession.ipc.core.messages import Arena, Boot, Failed, Inline, Message, Payload, Reply, encode
from procession.ipc.core.status_page import MAGIC, PAGE_BYTES, pack_into

#: Output waiting for a host that does not read: beyond this it is dropped and counted instead of kept.
BULK_QUEUED_BYTES_MAX: Final = 1 * MiB
#: A payload that finds no room in the arena may still go inside a message of this size.
INLINE_FALLBACK_BYTES_MAX: Final = MESSAGE_BYTES_MAX // 2
#: Freed regions above this give their memory back to the system at once.
_PUNCH_BYTES_MIN: Final = 1 * MiB


_LIMITS: Final = msgspec.msgpack.Decoder(Limits)
_ENV: Final = msgspec.msgpack.Decoder(dict[str, str])


class Work(Protocol):
    """A call that is not answered yet. Each method leads to exactly one answer."""

    def cancel(self) -> None:
        """Stop it because its caller asked for that."""

    def shutdown(self) -> None:
        """Stop it because the session ends."""

    def grant(self, stream: int, count: int) -> None:
        """Take a grant for one of its streams."""

    def abandon(self) -> None:
        """Never answer it: it was answered by somebody else."""


class Stoppable(Protocol):
    """A guarded child, as seen by the loop that notices stopped keepers."""

    def check_keeper(self) -> None:
        """Look whether the keeper was stopped."""

    def kill(self, how: bytes) -> None:
        """Send the keeper an order."""


class Page:
    """The status page, mapped; a few stores into memory, no system call."""

    __slots__ = ("finished", "memory", "runs", "started", "tick")

    def __init__(self) -> None:
        self.memory: mmap.mmap | bytearray = bytearray(PAGE_BYTES)
        self.tick = self.started = self.finished = self.runs = 0

    def map(self, page_fd: int) -> None:
        """Map the page and close its descriptor."""
        self.memory = mmap.mmap(page_fd, PAGE_BYTES)
        os.close(page_fd)
        self.write(0)

    def mark_started(self, seq: int) -> None:
        """Take note that a call is begun."""
        self.started = max(self.started, seq)
        self.write(seq)

    def write(self, running: int) -> None:
        """Write what the host looks at; `running` is the call that the loop itself is in."""
        pack_into(self.memory, 0, MAGIC, self.tick, running, self.started, self.finished, self.runs)


class ArenaFull(Exception):
    """There is no room for a payload until the host has read another one."""


class Context:
    """See the module's text."""

    def __init__(
        self,
        connection: Connection,
        arena_in_fd: int,
        arena_out_fd: int,
        host_pidfd: int,
        page: Page,
        child_signals: int,
        presence: int,
        check_keepers: Callable[[], None],
    ) -> None:
        self.loop = Loop()
        self.connection = connection
        self.arena_in_fd = arena_in_fd
        self.arena_out_fd = arena_out_fd
        self.host_pidfd = host_pidfd
        self.child_signals = child_signals
        self.presence = presence
        """What this process, and the keepers below it, hold until they are over; -1 for nothing."""
        self.page = page
        self.calls: dict[int, Work] = {}
        self.guests: set[Stoppable] = set()
        self.boot: Boot | None = None
        self._check_keepers = check_keepers
        self._own_pidfd = -1
        self._env: dict[str, str] | None = None
        self._entered = False
        self._limits: Limits | None = None
        self.stopping = False
        """Nothing new is begun; what runs is being ended."""
        self.escalating = False
        """A run could not be proved empty: the session ends itself once everything is flushed."""
        self.on_arena_room: list[Callable[[], None]] = []
        """Called, once each, when a region of the arena has been freed."""
        self._arena_bytes = 0
        self._arena: ArenaAllocator | None = None
        """Made for the first payload that needs it."""

    @property
    def incarnation(self) -> int:
        """The number that every message carries."""
        return self.connection.incarnation

    @property
    def booted(self) -> Boot:
        """What Boot said; there is always one before any other message."""
        assert self.boot is not None
        return self.boot

    @property
    def own_pidfd(self) -> int:
        """A pidfd of this process, for its keepers."""
        if self._own_pidfd < 0:
            self._own_pidfd = os.pidfd_open(os.getpid())
        return self._own_pidfd

    @property
    def env(self) -> dict[str, str]:
        """What runs get; this process's own environment only once `enter_environment` was called."""
        if self._env is None:
            self._env = _ENV.decode(self.booted.env)
        return self._env

    @property
    def limits(self) -> Limits:
        """The session's own limits, which hold for every run of it."""
        if self._limits is None:
            self._limits = _LIMITS.decode(self.booted.limits)
        return self._limits

    def begin_guest(self, guest: Stoppable) -> None:
        """Take note of a guarded child, and be told from now on when a keeper is stopped."""
        if not self.guests:
            self.loop.watch(self.child_signals, self._check_keepers)
        self.guests.add(guest)

    def end_guest(self, guest: Stoppable) -> None:
        """Forget a guarded child whose keeper was reaped."""
        self.guests.discard(guest)
        if not self.guests:
            self.loop.unwatch(self.child_signals)

    def set_boot(self, boot: Boot) -> None:
        """Take what Boot says."""
        self.boot = boot
        self._arena_bytes = boot.arena_bytes // ALIGN_BYTES * ALIGN_BYTES

    def send(self, message: Message, *, control: bool = False, bulk: bool = False) -> None:
        """Queue a message; it is written at the end of this turn of the loop."""
        self.connection.send(message, control=control, bulk=bulk)

    def bulk_room(self) -> int:
        """Return how many bytes of output may be queued now."""
        return max(0, BULK_QUEUED_BYTES_MAX - self.connection.queued_bytes)

    # --- answers --------------------------------------------------------------------------------------------
    def answer(self, seq: int, body: msgspec.Struct, payload: Payload = None, *, streamed: bool = False) -> None:
        """Answer a call. streamed: it printed something, so the answer waits in line behind its output."""
        self.calls.pop(seq, None)
        self.page.finished = max(self.page.finished, seq)
        bulk = streamed and not (isinstance(payload, Inline) and len(payload.data) > INLINE_BYTES_MAX)
        self.send(Reply(self.incarnation, seq, msgspec.Raw(encode(body)), payload), bulk=bulk)

    def refuse(self, seq: int, error: ErrorData, *, streamed: bool = False) -> None:
        """Answer a call with an error."""
        self.calls.pop(seq, None)
        self.page.finished = max(self.page.finished, seq)
        self.send(Failed(self.incarnation, seq, error), bulk=streamed)

    # --- payloads -------------------------------------------------------------------------------------------
    def arena_alloc(self, length: int) -> int | None:
        """Reserve a region of the arena to the host; None when there is no room."""
        if self._arena is None:
            if not self._arena_bytes:
                return None
            self._arena = ArenaAllocator(self._arena_bytes)
        return self._arena.alloc(length)

    def arena_free(self, offset: int, length: int) -> None:
        """Take a region back. Raises ProtocolBreach when the host names one that was not given."""
        if self._arena is None:
            raise ProtocolBreach("a region of an arena that has none")
        self._arena.check_region(offset, length)
        self._arena.free(offset)
        if length >= _PUNCH_BYTES_MIN:
            with mmap.mmap(self.arena_out_fd, length, offset=offset) as region:
                region.madvise(mmap.MADV_REMOVE)
        waiting, self.on_arena_room = self.on_arena_room, []
        for action in waiting:
            action()

    def arena_release(self, offset: int) -> None:
        """Take back a region that was never told to the host."""
        if self._arena is not None:
            self._arena.free(offset)

    def pack_payload(self, data: bytes) -> Payload:
        """Return `data` as a payload: inside the message when small, else in the arena. Raises ArenaFull."""
        if len(data) <= INLINE_BYTES_MAX:
            return Inline(data)
        offset = self.arena_alloc(len(data))
        if offset is not None:
            write_at(self.arena_out_fd, data, offset)
            return Arena(offset, len(data))
        if len(data) <= INLINE_FALLBACK_BYTES_MAX:
            return Inline(data)
        raise ArenaFull

    def read_payload(self, payload: Payload) -> bytes:
        """Return the bytes of a payload of the host's. Raises OSError, or EOFError for a region that is not there."""
        return read_payload(payload, self.arena_in_fd)

    def enter_environment(self) -> None:
        """Make the session's environment this process's, once, before the first child that goes on in this interpreter.

        Not at the start: seventy variables cost as much as a quarter of the whole start, and commands are given theirs.
        """
        if not self._entered:
            self._entered = True
            os.environ.clear()
            os.environ.update(self.env)

    def check_single_threaded(self) -> None:
        """Refuse to fork from a process with threads; raises ProcessionError."""
        if os.stat("/proc/self/task").st_nlink != 3:
            raise ProcessionError(
                "the session process has threads, so it cannot fork safely", code="has_threads", ran="no"
            )


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at a place of a memfd."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def read_payload(payload: Payload, arena_in_fd: int) -> bytes:
    """Return the bytes of a payload; a region is read with pread only."""
    if payload is None:
        return b""
    if isinstance(payload, Inline):
        return payload.data
    parts: list[bytes] = []
    offset, left = payload.offset, payload.length
    while left > 0:
        part = os.pread(arena_in_fd, left, offset)
        if not part:
            raise EOFError("the payload's region ends early")
        parts.append(part)
        offset += len(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
