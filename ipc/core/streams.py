"""Flow control of one stream inside a connection: how much may be sent before its reader says that it has room again.

Pure counting, both sides. A sender without credit drops and counts (output) or waits (input); a reader that is sent more
than it granted has met a breach.
"""

from __future__ import annotations

from typing import Final

from procession.ipc.core.bounds import KiB
from procession.ipc.core.breach import ProtocolBreach

#: What a sender may have under way at first: one second of output at the rate limit.
STREAM_WINDOW_BYTES: Final = 256 * KiB
#: Open streams of one connection: two for each run a session can hold, with room for long-lived commands.
STREAMS_MAX: Final = 2048


class StreamWindow:
    """The sender's side: `room` bytes may be sent now."""

    __slots__ = ("room",)

    def __init__(self, room: int = STREAM_WINDOW_BYTES) -> None:
        self.room = room

    def spend(self, count: int) -> None:
        assert 0 <= count <= self.room
        self.room -= count

    def grant(self, count: int) -> None:
        """Take a grant of the reader; what is over the window is not believed."""
        self.room = min(self.room + max(count, 0), STREAM_WINDOW_BYTES)


class StreamReader:
    """The reader's side: refuses more than it granted, and says when to grant more."""

    __slots__ = ("_left", "_used")

    def __init__(self) -> None:
        self._left = STREAM_WINDOW_BYTES
        self._used = 0

    def receive(self, count: int) -> None:
        """Count bytes that came; raises ProtocolBreach when they are more than was granted."""
        if count > self._left:
            raise ProtocolBreach("a stream sent more than its credit")
        self._left -= count

    def consumed(self, count: int) -> int:
        """Count bytes that were used up; return how many to grant now (0: not yet worth a message)."""
        self._used += count
        if self._used * 2 < STREAM_WINDOW_BYTES:
            return 0
        grant, self._used = self._used, 0
        self._left += grant
        return grant
