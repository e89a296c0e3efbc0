"""What a session has said that may not be believed yet: changes on their way to the journal, and what came after them.

    change(ops, what) ──▶ [ c1 ][ w ][ c2 ][ w ][ w ]        behind(what) ──▶ at the end
    kept(c1)          ──▶  c1 and what stands behind it, up to the next change, may leave, in order
    refused(c1)       ──▶  nothing of all that may: what came after could have seen it

Pure: it writes nothing, tells nobody and knows no durability; its owner locks. Rules: what leaves, leaves in the order in which
it came; nothing leaves before a change that stands before it. The journal settles changes in the order in which they were made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

BYTES_MAX: Final = 32 * 1024 * 1024
"""Of changes of one session that wait: with more the session is not read until some are kept."""


class Held(NamedTuple, Generic[T]):
    """One thing that waits. ticket: of a change, 0 for what only stands behind one. ops: encoded, empty for none."""

    ticket: int
    ops: bytes
    what: T


class CommitQueue(Generic[T]):
    """See the module's text."""

    __slots__ = ("_items", "_next", "bytes")

    def __init__(self) -> None:
        self.bytes = 0
        self._items: deque[Held[T]] = deque()
        self._next = 1

    def __len__(self) -> int:
        return len(self._items)

    def change(self, ops: bytes, what: T) -> int:
        """Add a change, or something else that has to be kept first; return its ticket."""
        ticket = self._next
        self._next += 1
        self._items.append(Held(ticket, ops, what))
        self.bytes += len(ops)
        return ticket

    def behind(self, what: T) -> None:
        """Add what may not leave before the changes that are here."""
        assert self._items, "nothing stands before it"
        self._items.append(Held(0, b"", what))

    def kept(self, ticket: int) -> list[Held[T]]:
        """A change is kept: return what may leave now, in order. Nothing, for one that was refused meanwhile."""
        items = self._items
        if not items or items[0].ticket != ticket:
            assert not any(held.ticket == ticket for held in items), "changes are settled in their order"
            return []
        leaves = [items.popleft()]
        while items and not items[0].ticket:
            leaves.append(items.popleft())
        self.bytes -= len(leaves[0].ops)
        return leaves

    def refused(self, ticket: int) -> list[Held[T]]:
        """A change cannot be kept: return it and all that came after it. Nothing, for one that went with another."""
        if not any(held.ticket == ticket for held in self._items):
            return []
        assert self._items[0].ticket == ticket, "changes are settled in their order"
        return self.clear()

    def clear(self) -> list[Held[T]]:
        """Return all that waits, and forget it."""
        lost = list(self._items)
        self._items.clear()
        self.bytes = 0
        return lost

    def map(self, change: Callable[[T], T]) -> None:
        """Put something else in the place of each thing that waits."""
        self._items = deque(held._replace(what=change(held.what)) for held in self._items)
