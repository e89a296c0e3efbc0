r"""What a child prints: read at full speed, the last part kept, the first part forwarded as a stream within its rate.

    pipe --64 KiB reads--> ring (last 1 MiB)             the answer's stdout and stderr, and the report's tail
                      \--> StreamChunk (256 KiB/s)       what does not fit rate or credit is dropped, and counted

A call may ask for all of it (`lossless`): then nothing is dropped, and a reader that is slow makes the writer wait.

Rules: a turn reads a bounded amount, so a flood delays nobody; the writer is never blocked longer than a turn; every byte is
either forwarded or counted as dropped, exactly. Nothing here ever touches the mailbox's own descriptors.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import Final

from procession.agent_proc.context import Context
from procession.agent_proc.core.rate import TokenBucket
from procession.agent_proc.core.ring import Ring
from procession.agent_proc.loop import monotonic
from procession.ipc.core.bounds import OUTPUT_CHUNK_BYTES, OUTPUT_RATE_BYTES_S, PIPE_BYTES, READ_BYTES, MiB
from procession.ipc.core.messages import StreamChunk, StreamEnd, StreamOpen
from procession.ipc.core.streams import StreamWindow

STDOUT: Final = 1
STDERR: Final = 2
LABELS: Final = {STDOUT: "stdout", STDERR: "stderr"}
#: What one pipe may bring in one turn of the loop: four reads, about a tenth of a millisecond.
TURN_BYTES_MAX: Final = 4 * READ_BYTES
#: What may be forwarded at once before the rate counts: a whole ring.
BURST_BYTES: Final = 1 * MiB
#: What a lossless stream keeps of its window for the end: all that the pipe may hold when its writer is over.
LOSSLESS_RESERVE_BYTES: Final = PIPE_BYTES
#: Once something had to be dropped, forward only pieces worth a message of their own.
PIECE_BYTES_MIN: Final = 4 * 1024


class Pipe:
    """One of the two output pipes of a child."""

    __slots__ = ("_context", "_dropped", "_fd", "_open", "_output", "_seq", "_stream", "lossless", "ring", "window")

    def __init__(self, output: Output, context: Context, fd: int, stream: int) -> None:
        os.set_blocking(fd, False)
        self._output = output
        self._context = context
        self._fd = fd
        self._stream = stream
        self._seq = 0
        self._open = False
        self._dropped = 0
        self.lossless = False
        self.ring = Ring()
        self.window = StreamWindow()
        context.loop.watch(fd, self._turn)

    def read(self, bytes_max: int = TURN_BYTES_MAX, *, piece_bytes: int = READ_BYTES) -> bool:
        """Take what is there, up to `bytes_max` and a piece; say whether there may be more."""
        left = bytes_max
        while left > 0 and self._fd >= 0:
            try:
                data = os.read(self._fd, min(piece_bytes, left) if self.lossless else READ_BYTES)
            except BlockingIOError:
                return False
            if not data:
                self.close()
                return False
            left -= len(data)
            self.ring.append(data)
            self._output.count(len(data))
            if self._seq:
                self._forward(data)
        return self._fd >= 0

    def _turn(self) -> None:
        if not self.lossless:
            self.read()
            return
        room = self.window.room - LOSSLESS_RESERVE_BYTES
        if room > 0:
            self.read(min(room, TURN_BYTES_MAX), piece_bytes=min(room, READ_BYTES))
        else:
            self._context.loop.unwatch(self._fd)  # its writer waits until the reader has caught up

    def grant(self, count: int) -> None:
        """Take the reader's grant, and read on if that was what was missing."""
        self.window.grant(count)
        if self.lossless and self._fd >= 0 and not self._context.loop.is_watched(self._fd):
            self._context.loop.watch(self._fd, self._turn)

    def drain(self) -> None:
        """Take everything that was written before this moment: what the pipe can hold, and no more."""
        if self._fd >= 0:
            capacity = max(fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ), PIPE_BYTES)
            self.read(capacity)

    def begin(self, seq: int) -> None:
        """Forward what comes from now on as a stream of call `seq`."""
        self._seq = seq

    def finish(self) -> bool:
        """End the stream of the call, if anything was printed; say whether there was one."""
        opened, seq, dropped = self._open, self._seq, self._dropped
        self._seq, self._open, self._dropped = 0, False, 0
        self.window = StreamWindow()
        if opened:
            self._context.send(StreamEnd(self._context.incarnation, seq, self._stream, dropped), bulk=True)
        return opened

    def close(self) -> None:
        """Close the pipe; what was kept stays readable."""
        if self._fd >= 0:
            self._context.loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _forward(self, data: bytes) -> None:
        incarnation, send = self._context.incarnation, self._context.send
        if not self._open:
            self._open = True
            send(StreamOpen(incarnation, self._seq, self._stream, LABELS[self._stream]), bulk=True)
        size = len(data)
        if self.lossless:
            allowed = min(size, self.window.room)
        else:
            allowed = min(size, self.window.room, self._output.bucket.available(monotonic()), self._context.bulk_room())
        if allowed < size and allowed < PIECE_BYTES_MIN and not self.lossless:
            allowed = 0
        for at in range(0, allowed, OUTPUT_CHUNK_BYTES):
            piece = data[at : min(at + OUTPUT_CHUNK_BYTES, allowed)]
            send(StreamChunk(incarnation, self._seq, self._stream, piece, self._dropped), bulk=True)
            self._dropped = 0
        self.window.spend(allowed)
        if not self.lossless:
            self._output.bucket.take(allowed)
        self._dropped += size - allowed


class Output:
    """Both output pipes of one child, with the rate they share and the limit on what they print in all."""

    def __init__(self, context: Context, stdout_fd: int, stderr_fd: int, over: Callable[[], None]) -> None:
        self.bucket = TokenBucket(OUTPUT_RATE_BYTES_S, BURST_BYTES, monotonic())
        self._bytes_max: int | None = None
        self._over = over
        self._printed = 0
        self.stdout = Pipe(self, context, stdout_fd, STDOUT)
        self.stderr = Pipe(self, context, stderr_fd, STDERR)
        self._pipes = {STDOUT: self.stdout, STDERR: self.stderr}

    def count(self, size: int) -> None:
        """Count printed bytes; tells the owner once they are over the limit."""
        self._printed += size
        if self._bytes_max is not None and self._printed > self._bytes_max:
            self._printed = -(1 << 62)  # told once is enough
            self._over()

    def begin(self, seq: int, bytes_max: int | None, *, lossless: bool = False) -> None:
        """Forward what is printed from now on as streams of call `seq`; count it against this limit, from zero."""
        self._printed = 0
        self._bytes_max = bytes_max
        for pipe in self._pipes.values():
            pipe.lossless = lossless
            pipe.begin(seq)

    def finish(self) -> bool:
        """End the call's streams; say whether there were any."""
        ended = [pipe.finish() for pipe in self._pipes.values()]
        return any(ended)

    def grant(self, stream: int, count: int) -> None:
        """Take the reader's grant."""
        if (pipe := self._pipes.get(stream)) is not None:
            pipe.grant(count)

    def drain(self) -> None:
        """Take what was printed before this moment."""
        for pipe in self._pipes.values():
            pipe.drain()

    def close(self) -> None:
        """Close both pipes."""
        for pipe in self._pipes.values():
            pipe.close()
