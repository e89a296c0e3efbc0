"""What a reader has not read yet of a stream: a bounded ring that loses its oldest and says how much.

It is *not* a queue that makes a sender wait: a slow reader never slows a session. Rule: what is lost is counted, and the
count is said by the `dropped` of the next item of the same kind.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from procession.ipc.core.backend import Item
from procession.ipc.core.bounds import KiB
from procession.ipc.core.records import OutputChunk, SentSignal

#: R-57: a reader that stands still costs at most a mebibyte; an item costs about this much besides its bytes.
RING_BYTES_MAX: Final = 1024 * KiB
_ITEM_BYTES: Final = 256


class ItemRing:
    """See the module's text. Not locked: its owner is."""

    def __init__(self, bytes_max: int = RING_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._lost: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Add an item, losing the oldest ones if there is no room."""
        self._items.append(item)
        self._bytes += _size(item)
        while self._bytes > self._bytes_max and len(self._items) > 1:
            old = self._items.popleft()
            self._bytes -= _size(old)
            self._lost[_kind(old)] = self._lost.get(_kind(old), 0) + _weight(old) + old.dropped

    def take(self) -> Item | None:
        """Take the oldest item, None when there is none."""
        if not self._items:
            return None
        item = self._items.popleft()
        self._bytes -= _size(item)
        lost = self._lost.pop(_kind(item), 0)
        return msgspec.structs.replace(item, dropped=item.dropped + lost) if lost else item


def _kind(item: Item) -> str:
    return item.stream if isinstance(item, OutputChunk) else "event"


def _size(item: Item) -> int:
    return _ITEM_BYTES + (len(item.data) if isinstance(item, OutputChunk | SentSignal) else 0)


def _weight(item: Item) -> int:
    """Return what one item counts as when it is lost: its bytes, or itself."""
    return len(item.data) if isinstance(item, OutputChunk) else 1
