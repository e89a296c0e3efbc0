"""The two arenas of one incarnation, as the host uses them: where payloads too large for the mailbox lie.

Both are sealed memfds the host made. The host writes arguments and reads results with pwrite and pread only: nothing a session
does to its mapping can fault the host. A region the session names is checked before it is read (sandbox.md, codec).
"""

from __future__ import annotations

import mmap
import os
from typing import Final

from procession.ipc.core.arena import ArenaAllocator
from procession.ipc.core.bounds import INLINE_BYTES_MAX, PAYLOAD_BYTES_MAX, MiB
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.messages import Arena, Inline

#: Regions of at least this many bytes give their memory back when they are freed; smaller ones are soon written over.
_PUNCH_BYTES_MIN: Final = 1 * MiB


class PayloadArena:
    """See the module's text; its owner's lock guards the allocator, reading and writing need none."""

    def __init__(self, fd_in: int, fd_out: int, size_bytes: int) -> None:
        self._fd_in = fd_in
        self._fd_out = fd_out
        self._size_bytes = size_bytes
        self._regions = ArenaAllocator(size_bytes)
        self._lengths: dict[int, int] = {}

    def place(self, data: bytes) -> Inline | Arena | None:
        """Find a place for a payload: in the message, in the arena (then write it with `fill`), or nowhere just now."""
        if len(data) <= INLINE_BYTES_MAX:
            return Inline(data)
        offset = self._regions.alloc(len(data))
        if offset is None:
            return None
        self._lengths[offset] = len(data)
        return Arena(offset, len(data))

    def fill(self, place: Arena, data: bytes) -> None:
        """Write a payload where it was placed."""
        write_region(self._fd_in, place, data)

    def free(self, offset: int) -> None:
        """The session has read this region, or never will; a large one gives its memory back at once."""
        self._regions.free(offset)
        length = self._lengths.pop(offset)
        if length >= _PUNCH_BYTES_MIN:
            # The only mapping the host ever makes of it, for the one call that Python has for punching a hole: sealed
            # against shrinking it cannot fault, and nothing is read through it.
            with mmap.mmap(self._fd_in, length, offset=offset) as region:
                region.madvise(mmap.MADV_REMOVE)

    def check(self, place: Arena) -> None:
        """Refuse a region that is not one of the session-to-host arena."""
        end = place.offset + place.length
        if place.offset < 0 or not 0 <= place.length <= PAYLOAD_BYTES_MAX or end > self._size_bytes:
            raise ProtocolBreach("a payload outside its arena")

    def open_results(self) -> int:
        """Return a descriptor of the session-to-host arena that stays good when the session ends; the caller closes it."""
        return os.dup(self._fd_out)


def write_region(fd: int, place: Arena, data: bytes) -> None:
    """Write all of `data` at a place of an arena."""
    view = memoryview(data)
    at = 0
    while at < len(data):
        at += os.pwrite(fd, view[at:], place.offset + at)


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
