"""The status page: one sealed 4 KiB memfd per session process, written by it and read by the host with pread.

Pure layout. It tells a busy loop from a stuck one and a started command from an undelivered one without a system call in
the session. The host believes nothing in it beyond that: a lying page can only hurt the session that wrote it.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

PAGE_BYTES: Final = 4096
_LAYOUT: Final = struct.Struct("<QQQQQQ")
#: What the host asks pread for.
USED_BYTES: Final = _LAYOUT.size
MAGIC: Final = 0x31306E6F69737365  # "ession01", so that a page nobody wrote is told from one

pack_into = _LAYOUT.pack_into


class StatusPage(NamedTuple):
    """tick: times the loop has turned. running: seq of the call the loop is in, 0 for none. runs: live workers."""

    tick: int
    running: int
    last_started: int
    last_finished: int
    runs: int


def write(buffer: bytearray | memoryview, page: StatusPage) -> None:
    """Write the page into a mapped buffer."""
    pack_into(buffer, 0, MAGIC, *page)


def read(data: bytes) -> StatusPage | None:
    """Read a page; None when the session has not written it yet, or wrote something else."""
    if len(data) < USED_BYTES:
        return None
    magic, *rest = _LAYOUT.unpack_from(data)
    return StatusPage(*rest) if magic == MAGIC else None
