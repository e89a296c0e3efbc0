"""The session's end of a child's result pipe: messages, and the bytes of a large result straight into the arena.

It is *not* where a result is understood: its bytes are opaque and the session never decodes them (nor unpickles anything).

Rules: a result counts only when it is whole; a large one is spliced from the pipe to the arena, so the session's own
memory stays small whatever the child returns; while the arena is full the pipe is left alone and the child waits.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import Final

from procession.agent_proc.context import INLINE_FALLBACK_BYTES_MAX, Context
from procession.agent_proc.core.worker_messages import AnyMessage, Finished, MessageReader
from procession.ipc.core.bounds import INLINE_BYTES_MAX, READ_BYTES, MiB
from procession.ipc.core.messages import Arena, Inline, Payload

#: A pipe this large lets a large result cross with few turns; more needs a privilege.
_PIPE_BYTES: Final = 1 * MiB
#: Reads of one turn of the loop, 64 KiB each or one splice of what the pipe holds.
_TURN_READS_MAX: Final = 4


class ResultPipe:
    """See the module's text. `message` is the last one; `over` says that nothing more will come."""

    def __init__(self, context: Context, fd: int, *, told: Callable[[AnyMessage], None] | None = None) -> None:
        os.set_blocking(fd, False)
        self._context = context
        self._fd = fd
        self._told = told
        self._reader = MessageReader()
        self._buffer = bytearray()
        self._offset: int | None = None
        self._length = 0
        self._have = 0
        self.message: AnyMessage | None = None
        self.over = False
        self.on_over: Callable[[], None] | None = None
        context.loop.watch(fd, self.read)

    @property
    def whole(self) -> bool:
        """Whether a Finished came with all its bytes."""
        return isinstance(self.message, Finished) and self._have == self._length

    def read(self) -> None:
        """Take a turn's worth of what is there."""
        for _ in range(_TURN_READS_MAX):
            if self._fd < 0 or not self._read_once():
                return

    def drain(self) -> None:
        """Take everything that is there; the child is over, so it is at most what the pipe holds."""
        while self._fd >= 0 and self._read_once():
            pass

    def _read_once(self) -> bool:
        left = self._length - self._have
        try:
            if left and self._offset is not None:
                count = os.splice(self._fd, self._context.arena_out_fd, left, offset_dst=self._offset + self._have)
                self._have += count
            elif isinstance(self.message, Finished) and not self._place():
                return False
            else:
                data = os.read(self._fd, READ_BYTES)
                count = len(data)
                self._take(data)
        except BlockingIOError:
            return False
        if not count or self._reader.broken or self.whole:
            self.close()
            return False
        return True

    def _take(self, data: bytes) -> None:
        if isinstance(self.message, Finished):
            self._store(data)
            return
        self._reader.feed(data)
        while (message := self._reader.next()) is not None:
            self.message = message
            if isinstance(message, Finished):
                self._begin_payload(message.length)
                return
            if self._told is not None:
                self._told(message)

    def _begin_payload(self, length: int) -> None:
        if not 0 <= length <= self._context.booted.payload_bytes_max:
            self._reader.broken = True
            self.message = None
            return
        self._length = length
        rest = self._reader.rest()
        if length > INLINE_BYTES_MAX:
            try:
                fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            except OSError:  # the user's share of pipe memory is used up: it only takes more turns
                pass
        self._place()
        self._store(rest)

    def _place(self) -> bool:
        """Find room for the payload; False while there is none, and then the pipe is not looked at."""
        if self._offset is not None or self._length <= INLINE_BYTES_MAX:
            return True
        self._offset = self._context.arena_alloc(self._length)
        if self._offset is not None:
            if self._buffer:
                self._write(bytes(self._buffer))
                self._buffer.clear()
            return True
        if self._length <= INLINE_FALLBACK_BYTES_MAX:
            return True
        self._context.loop.unwatch(self._fd)
        self._context.on_arena_room.append(self._try_again)
        return False

    def _try_again(self) -> None:
        if self._fd >= 0 and self._place():
            self._context.loop.watch(self._fd, self.read)

    def _store(self, data: bytes) -> None:
        data = data[: self._length - self._have]
        if self._offset is not None:
            self._write(data, self._have)
        else:
            self._buffer += data
        self._have += len(data)

    def _write(self, data: bytes, at: int = 0) -> None:
        assert self._offset is not None
        view = memoryview(data)
        while view:
            written = os.pwrite(self._context.arena_out_fd, view, self._offset + at)
            view, at = view[written:], at + written

    def payload(self) -> Payload:
        """Give the whole result away as a payload."""
        assert self.whole
        offset, self._offset = self._offset, None
        return Inline(bytes(self._buffer)) if offset is None else Arena(offset, self._length)

    def discard(self) -> None:
        """Give back what a result that does not count had reserved."""
        if self._offset is not None:
            self._context.arena_release(self._offset)
            self._offset = None

    def close(self) -> None:
        """Stop reading; what came stays readable."""
        if self._fd < 0:
            return
        if self._context.loop.is_watched(self._fd):
            self._context.loop.unwatch(self._fd)
        os.close(self._fd)
        self._fd = -1
        self.over = True
        if self.on_over is not None:
            self.on_over()
