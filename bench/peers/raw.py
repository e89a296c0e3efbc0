"""By hand: a ping-pong over two pipes with a forked child, and the bandwidth of a pipe.

Make these before a host is opened: they fork, and a process that has threads should not.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

READ_BYTES: Final = 65536


def fork_child(main: Callable[[], None]) -> int:
    """Fork a child that does `main` and nothing else; return its pid."""
    pid = os.fork()
    if not pid:
        try:
            main()
        finally:
            os._exit(0)
    return pid


def end_child(pid: int) -> None:
    """End a child of ours that has not been waited for. Its pipes may be open in later children, so EOF ends nobody."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


class EchoPipe:
    """A forked child that sends back whatever it reads, over two pipes, with os.read and os.write."""

    def __init__(self) -> None:
        theirs_r, self._w = os.pipe()
        self._r, theirs_w = os.pipe()
        ours = (self._w, self._r)

        def echo() -> None:
            for fd in ours:
                os.close(fd)
            while data := os.read(theirs_r, READ_BYTES):
                os.write(theirs_w, data)

        self._pid = fork_child(echo)
        os.close(theirs_r)
        os.close(theirs_w)

    def ping(self, data: bytes) -> bytes:
        """Send a small message and wait for it to come back."""
        os.write(self._w, data)
        return os.read(self._r, READ_BYTES)

    def close(self) -> None:
        os.close(self._w)
        os.close(self._r)
        end_child(self._pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class BulkPipe:
    """A forked child that writes `size` bytes down a pipe each time it is asked to."""

    def __init__(self, size_bytes: int) -> None:
        asked_r, self._ask = os.pipe()
        self._r, bulk_w = os.pipe()
        self._size = size_bytes
        ours = (self._ask, self._r)

        def serve() -> None:
            for fd in ours:
                os.close(fd)
            block = memoryview(bytes(READ_BYTES))
            while os.read(asked_r, 1):
                left = size_bytes
                while left:
                    left -= os.write(bulk_w, block[: min(left, READ_BYTES)])

        self._pid = fork_child(serve)
        os.close(asked_r)
        os.close(bulk_w)
        self._into = bytearray(size_bytes)

    def bytes_per_s(self) -> float:
        """Read one payload into memory that is there already; return the bandwidth."""
        into, at = memoryview(self._into), 0
        began = time.perf_counter()
        os.write(self._ask, b"g")
        while at < self._size:
            at += os.readv(self._r, [into[at : at + READ_BYTES]])
        return self._size / (time.perf_counter() - began)

    def close(self) -> None:
        os.close(self._ask)
        os.close(self._r)
        end_child(self._pid)
