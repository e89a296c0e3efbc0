"""What the runs of one session printed, as the host has it: a bounded ring of chunks and its followers.

It is *not* the result of a command (that comes with the reply). Bytes are kept as they came; cleaning for a terminal is the
viewer's business. Rules: 1 MiB a session, the oldest goes first and is counted; a follower never slows the session.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection

from procession.ipc.core.bounds import OUTPUT_RING_BYTES, STDERR_TAIL_BYTES
from procession.ipc.core.records import OutputChunk

#: A chunk of no bytes still costs an object: this many of them at most.
CHUNKS_MAX = 4096
#: What one costs beside its bytes, about.
CHUNK_BYTES = 200

Follower = Callable[[OutputChunk], None]


class OutputLog:
    """The last output of a session; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks: Collection[OutputChunk] = ()  # a deque as soon as there is anything
        self._bytes = 0
        self._crash = b""
        self.dropped_bytes = 0
        """Bytes that are no longer here: lost on the way, or pushed out by later ones."""
        self._followers: dict[int, Follower] = {}
        self._next = 1

    def add(self, chunk: OutputChunk) -> None:
        """Keep a chunk and hand it to the followers."""
        with self._lock:
            if type(self._chunks) is not deque:
                self._chunks = deque(self._chunks)
            self._chunks.append(chunk)
            self._bytes += len(chunk.data)
            self.dropped_bytes += chunk.dropped
            while self._bytes > OUTPUT_RING_BYTES or len(self._chunks) > CHUNKS_MAX:
                old = self._chunks.popleft()
                self._bytes -= len(old.data)
                self.dropped_bytes += len(old.data)
            followers = list(self._followers.values())
        for follower in followers:
            follower(chunk)

    def add_crash_output(self, data: bytes) -> None:
        """Keep the tail of what the session process itself printed (a fatal error, an import that failed)."""
        with self._lock:
            self._crash = (self._crash + data)[-STDERR_TAIL_BYTES:]

    def crash_text(self) -> str:
        with self._lock:
            return self._crash.decode("utf-8", "replace").strip()

    def clear_crash(self) -> None:
        with self._lock:
            self._crash = b""

    def chunks(self, call: int | None = None) -> tuple[tuple[OutputChunk, ...], int]:
        """Return what is kept (of one call, when given) and how many bytes were lost."""
        with self._lock:
            return tuple(c for c in self._chunks if call is None or c.call == call), self.dropped_bytes

    def tail(self, count: int = 20) -> str:
        """Return the last lines printed, as text."""
        with self._lock:
            data = b"".join(c.data for c in list(self._chunks)[-64:])
        return "\n".join(data[-STDERR_TAIL_BYTES:].decode("utf-8", "replace").splitlines()[-count:])

    def shrink(self, bytes_max: int) -> None:
        """Keep only the last chunks that fit into so many bytes, each with what it costs; the rest is counted as dropped."""
        with self._lock:
            kept: list[OutputChunk] = []
            left = bytes_max
            for chunk in reversed(tuple(self._chunks)):
                left -= len(chunk.data) + CHUNK_BYTES
                if left < 0:
                    break
                kept.append(chunk)
            size = sum(len(chunk.data) for chunk in kept)
            self.dropped_bytes += self._bytes - size
            self._chunks, self._bytes = tuple(reversed(kept)), size

    def follow(self, follower: Follower) -> tuple[int, tuple[OutputChunk, ...]]:
        """Hand `follower` every chunk from now on; returns its number and what came before, with nothing in between."""
        with self._lock:
            number = self._next
            self._next += 1
            self._followers[number] = follower
            return number, tuple(self._chunks)

    def unfollow(self, number: int) -> None:
        with self._lock:
            self._followers.pop(number, None)
