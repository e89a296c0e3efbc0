"""The two arenas of one incarnation, as the host uses them: where payloads too large for the mailbox lie.

Both are sealed memfds the host made. The host writes arguments and reads results with pwrite and pread only: nothing a session
does to its mapping can fault the host. A region the session names is checked before it is read (sandbox.md, codec).
"""

from __future__ import annotations

import os

from procession.ipc.core.arena import ArenaAllocator
from procession.ipc.core.bounds import INLINE_BYTES_MAX, PAYLOAD_BYTES_MAX
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.messages import Arena, Inline


class PayloadArena:
    """See the module's text; its owner's lock guards the allocator, reading and writing need none."""

    def __init__(self, fd_in: int, fd_out: int, size_bytes: int) -> None:
        self._fd_in = fd_in
        self._fd_out = fd_out
        self._size_bytes = size_bytes
        self._regions = ArenaAllocator(size_bytes)

    def place(self, data: bytes) -> Inline | Arena | None:
        """Find a place for a payload: in the message, in the arena (then write it with `fill`), or nowhere just now."""
        if len(data) <= INLINE_BYTES_MAX:
            return Inline(data)
        offset = self._regions.alloc(len(data))
        return None if offset is None else Arena(offset, len(data))

    def fill(self, place: Arena, data: bytes) -> None:
        """Write a payload where it was placed."""
        view = memoryview(data)
        at = 0
        while at < len(data):
            at += os.pwrite(self._fd_in, view[at:], place.offset + at)

    def free(self, offset: int) -> None:
        """The session has read this region, or never will."""
        self._regions.free(offset)

    def check(self, place: Arena) -> None:
        """Refuse a region that is not one of the session-to-host arena."""
        end = place.offset + place.length
        if place.offset < 0 or not 0 <= place.length <= PAYLOAD_BYTES_MAX or end > self._size_bytes:
            raise ProtocolBreach("a payload outside its arena")

    def open_results(self) -> int:
        """Return a descriptor of the session-to-host arena that stays good when the session ends; the caller closes it."""
        return os.dup(self._fd_out)


def read_region(fd: int, place: Arena) -> bytes:
    """Read a checked region and close the descriptor."""
    try:
        parts = []
        at, end = place.offset, place.offset + place.length
        while at < end:
            part = os.pread(fd, end - at, at)
            if not part:  # it cannot shrink (sealed); the region was checked
                break
            parts.append(part)
            at += len(part)
    finally:
        os.close(fd)
    return parts[0] if len(parts) == 1 else b"".join(parts)
