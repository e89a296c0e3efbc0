"""The writing end of a child's pipe: bytes are taken at once and written as the child reads.

Bounded by its users: what is not written yet is `waiting`.
"""

from __future__ import annotations

import os

from procession.agent_proc.loop import Loop


class Feeder:
    """See the module's text."""

    def __init__(self, loop: Loop, fd: int) -> None:
        os.set_blocking(fd, False)
        self._loop = loop
        self._fd = fd
        self._held = bytearray()
        self._watching = False
        self._closing = False

    @property
    def waiting(self) -> int:
        """How many bytes the child has not taken yet."""
        return len(self._held)

    @property
    def is_open(self) -> bool:
        """Whether more can be fed."""
        return self._fd >= 0 and not self._closing

    def feed(self, data: bytes, *, close: bool = False) -> None:
        """Write `data`, now or as room comes; `close`: end of input behind it."""
        self._held += data
        self._closing = self._closing or close
        self._flush()

    def _flush(self) -> None:
        try:
            while self._held:
                written = os.write(self._fd, self._held)
                del self._held[:written]
        except BlockingIOError:
            if not self._watching:
                self._watching = True
                self._loop.watch_writable(self._fd, self._flush)
            return
        except BrokenPipeError:  # the child closed its end: what it did not want is dropped
            self.close()
            return
        if self._watching:
            self._watching = False
            self._loop.unwatch_writable(self._fd)
        if self._closing:
            self.close()

    def close(self) -> None:
        """Close the pipe and drop what was not written."""
        if self._fd < 0:
            return
        if self._watching:
            self._loop.unwatch_writable(self._fd)
            self._watching = False
        os.close(self._fd)
        self._fd = -1
        self._held.clear()
