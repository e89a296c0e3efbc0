"""The last bytes of a stream, with an exact count of what came before them.

It is *not* a queue: nobody reads from its front while it fills. Rule: `dropped + len(kept) == total`, always.
"""

from __future__ import annotations

from procession.ipc.core.bounds import OUTPUT_RING_BYTES


class Ring:
    """Keeps the last `bytes_max` bytes; appending costs what it brings, whatever the sizes."""

    __slots__ = ("_bytes_max", "_kept", "total")

    def __init__(self, bytes_max: int = OUTPUT_RING_BYTES) -> None:
        if bytes_max < 1:
            raise ValueError(f"a ring of {bytes_max} bytes")
        self._bytes_max = bytes_max
        self._kept = bytearray()  # at most twice the bound, so that trimming is paid once for many appends
        self.total = 0

    def append(self, data: bytes) -> None:
        """Add bytes at the end."""
        self.total += len(data)
        if len(data) >= self._bytes_max:
            self._kept[:] = data[-self._bytes_max :]
            return
        self._kept += data
        if len(self._kept) >= 2 * self._bytes_max:
            del self._kept[: -self._bytes_max]

    @property
    def dropped(self) -> int:
        """How many bytes are no longer here."""
        return max(0, self.total - self._bytes_max)

    def content(self) -> bytes:
        """Return what is kept."""
        return self.tail(self._bytes_max)

    def tail(self, count: int) -> bytes:
        """Return the last `count` bytes, or all that is kept when that is less."""
        count = min(count, self._bytes_max)
        return bytes(self._kept[-count:]) if count > 0 else b""

    def clear(self) -> None:
        """Forget everything, the counts included."""
        self._kept.clear()
        self.total = 0
