"""A stream that goes on: the iterator behind `logs`, `events` and `signals` with `follow=True` of the sync face.

Bounded (ipc/core/item_ring.py): a reader that is slow loses the oldest and is told how much. It ends when it is closed, when
its session is removed, or with the error that ended the stream.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, cast

from procession.api.core.plans import Plan
from procession.ipc.core.backend import Backend, Item, Outcome, Ticket
from procession.ipc.core.errors import CallCancelled, HostLost, ProcessionError
from procession.ipc.core.item_ring import ItemRing

I = TypeVar("I")  # noqa: E741 - an item, as its reader sees it


class Follow(Iterator[I], Generic[I]):
    """What comes, as an iterator that waits for it. Use it in a `for`, close it when done (`with` does).

    read: makes of an item what its reader sees, in the thread that takes it.
    """

    def __init__(
        self, backend: Backend, plan: Plan[None], session: str | None, read: Callable[[Item], I] | None = None
    ) -> None:
        self._read = read
        self._pid = os.getpid()
        self._session = session
        self._ring = ItemRing()
        self._news = threading.Condition()
        self._outcome: Outcome | None = None
        self._closed = False
        plan.request.on_item = self._put
        self._ticket: Ticket = backend.submit(plan.request, self._done)

    def _put(self, item: Item) -> None:
        with self._news:
            self._ring.put(item)
            self._news.notify()

    def _done(self, outcome: Outcome) -> None:
        with self._news:
            self._outcome = outcome
            self._news.notify_all()

    def __iter__(self) -> Follow[I]:
        return self

    def __next__(self) -> I:
        if self._pid != os.getpid():  # in a child of the program: whoever would bring news stayed behind, lock and all
            raise HostLost("this stream belongs to the process that was forked from", code="forked", ran="no")
        with self._news:
            self._news.wait_for(lambda: len(self._ring) or self._outcome is not None or self._closed)
            item = None if self._closed else self._ring.take()
        if item is None:
            raise ending(self._outcome, self._session)
        return cast("I", item) if self._read is None else self._read(item)

    def close(self) -> None:
        """Stop following; safe from any thread, and twice."""
        if self._pid != os.getpid():
            return
        with self._news:
            self._closed = True
            over = self._outcome is not None
            self._news.notify_all()
        if not over:
            self._ticket.cancel()

    def __enter__(self) -> Follow[I]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self.__dict__.get("_closed", True) and "_ticket" in self.__dict__:
            self.close()


def ending(outcome: Outcome | None, session: str | None, stop: type[Exception] = StopIteration) -> Exception:
    """Return what an iterator raises at the end of a stream: its error, or just its end."""
    if isinstance(outcome, ProcessionError) and not isinstance(outcome, CallCancelled):
        if outcome.session is None:
            outcome.session = session
        return outcome
    return stop()
