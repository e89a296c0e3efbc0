"""Which parts of an arena are in use: first fit over a sorted list of free blocks that are joined when they meet.

It is *not* the memory: the arena itself (a sealed memfd, read with pread) is elsewhere, and so is all IO. Only the side
that made the arena allocates; the other one is told offsets, and what it names back is checked here.

Rules: free blocks are disjoint, never adjacent, and with the live regions cover the arena exactly.
"""

from __future__ import annotations

from bisect import bisect_left

from procession.ipc.core.breach import ProtocolBreach

ALIGN_BYTES = 4096
"""A page: regions then never share one, and punching a hole gives their memory back whole."""


class ArenaAllocator:
    """The free list and the live regions of one arena."""

    __slots__ = ("_align", "_free_at", "_free_bytes", "_live", "size_bytes", "used_bytes")

    def __init__(self, size_bytes: int, align: int = ALIGN_BYTES) -> None:
        if align < 1 or size_bytes < align or size_bytes % align:
            raise ValueError(f"an arena of {size_bytes} bytes is no multiple of {align}")
        self.size_bytes = size_bytes
        self.used_bytes = 0  # with what alignment adds
        self._align = align
        self._free_at = [0]  # offsets, ascending
        self._free_bytes = [size_bytes]  # their sizes
        self._live: dict[int, int] = {}  # offset -> size, aligned

    def __repr__(self) -> str:
        used = f"used={self.used_bytes}/{self.size_bytes}"
        return f"<ArenaAllocator {used} regions={len(self._live)} free_blocks={len(self._free_at)}>"

    @property
    def largest_free_bytes(self) -> int:
        """The largest region that could be had now."""
        return max(self._free_bytes, default=0)

    def alloc(self, size_bytes: int) -> int | None:
        """Return the offset of a new region of at least `size_bytes`, or None when no free block is as large."""
        if size_bytes < 0:
            raise ValueError(f"a region of {size_bytes} bytes")
        size = max(1, -(-size_bytes // self._align)) * self._align
        for index, free_bytes in enumerate(self._free_bytes):
            if free_bytes < size:
                continue
            offset = self._free_at[index]
            if free_bytes == size:
                del self._free_at[index], self._free_bytes[index]
            else:
                self._free_at[index] = offset + size
                self._free_bytes[index] = free_bytes - size
            self._live[offset] = size
            self.used_bytes += size
            return offset
        return None

    def free(self, offset: int) -> None:
        """Give the region at `offset` back. Raises ValueError when there is none: two owners are our own fault."""
        size = self._live.pop(offset, None)
        if size is None:
            raise ValueError(f"no region at offset {offset}")
        self.used_bytes -= size
        index = bisect_left(self._free_at, offset)
        if index < len(self._free_at) and offset + size == self._free_at[index]:
            size += self._free_bytes[index]
            del self._free_at[index], self._free_bytes[index]
        if index and self._free_at[index - 1] + self._free_bytes[index - 1] == offset:
            self._free_bytes[index - 1] += size
            return
        self._free_at.insert(index, offset)
        self._free_bytes.insert(index, size)

    def check_region(self, offset: int, length: int) -> None:
        """Check that the other side names a live region, from its start and within its size. Raises ProtocolBreach."""
        if type(offset) is not int or type(length) is not int or length < 0:
            raise ProtocolBreach("an arena region that is none")
        size = self._live.get(offset)
        if size is None:
            raise ProtocolBreach("an arena region that was not given")
        if length > size:
            raise ProtocolBreach("an arena region longer than it was given")
