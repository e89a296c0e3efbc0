"""The last signals that a session's agent gave its subscribers, numbered: a ring by number and by bytes.

It is *not* who reads them (host/signal_log.py), and never looks into one: a signal is bytes here. Rules: numbers go up by
one and are never used again; the oldest goes first; whoever begins where nothing is kept any more is told how many it lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Final

import msgspec

from procession.ipc.core.bounds import MiB
from procession.ipc.core.records import SentSignal

SIGNALS_KEPT: Final = 1_000
SIGNAL_BYTES_KEPT: Final = 4 * MiB
"""Beside their number: a session full of large signals costs its host no more than its output ring four times."""
ITEM_BYTES: Final = 200
"""What one costs beside its bytes, about."""


class SignalRing:
    """See the module's text. Not locked: its owner is."""

    __slots__ = ("_bytes", "_bytes_max", "_count_max", "_items", "_session", "last_number")

    _items: Collection[SentSignal]

    def __init__(self, session: str, count_max: int = SIGNALS_KEPT, bytes_max: int = SIGNAL_BYTES_KEPT) -> None:
        self._session = session
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._items = ()  # a deque as soon as there is anything: most sessions tell nobody
        self._bytes = 0
        self.last_number = 0

    def add(self, data: bytes, at: float) -> SentSignal:
        """Keep a signal and return it with its number; one that is larger than the ring is numbered and not kept."""
        self.last_number += 1
        item = SentSignal(number=self.last_number, at=at, data=data, session=self._session)
        if type(self._items) is not deque:
            self._items = deque(self._items)
        self._items.append(item)
        self._bytes += len(data)
        while len(self._items) > self._count_max or self._bytes > self._bytes_max:
            self._bytes -= len(self._items.popleft().data)
        return item

    def shrink(self, bytes_max: int) -> None:
        """Keep only the last signals that fit into so many bytes."""
        kept: list[SentSignal] = []
        left = bytes_max
        for item in reversed(tuple(self._items)):
            left -= len(item.data) + ITEM_BYTES
            if left < 0:
                break
            kept.append(item)
        self._items = tuple(reversed(kept))
        self._bytes = sum(len(item.data) for item in kept)

    def since(self, number: int) -> list[SentSignal]:
        """Return what is kept after `number`; the first of it says how many are kept no longer."""
        found = [item for item in self._items if item.number > number]
        lost = found[0].number - max(0, number) - 1 if found else 0
        if lost > 0:
            found[0] = msgspec.structs.replace(found[0], dropped=lost)
        return found
