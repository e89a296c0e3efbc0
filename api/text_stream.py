"""An answer as it is said: the iterator behind `send_message_stream` of the sync face.

Closing it, or letting go of it, before its end stops who is answering; what was said by then is kept in the conversation.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from typing import TYPE_CHECKING, Self

from procession.api.core.text_buffer import TextBuffer
from procession.api.futures import CANCEL_S_MAX
from procession.ipc.core.backend import Item
from procession.ipc.core.errors import HostLost

if TYPE_CHECKING:
    from procession.api.core.plans import Plan
    from procession.api.futures import CallFuture


class _Mailbox:
    """Where the text arrives, from whatever thread. It is not the stream itself, which whoever reads may let go of."""

    def __init__(self) -> None:
        self.news = threading.Condition()
        self.text = TextBuffer()

    def put(self, item: Item) -> None:
        with self.news:
            self.text.put(item)
            self.news.notify_all()

    def over(self, _: object) -> None:
        with self.news:
            self.news.notify_all()


class TextStream(Iterator[str]):
    """The pieces of an answer, as an iterator that waits for them; together they are the whole answer.

    What was said while nobody looked comes in one piece. An error comes when everything said before it was read.
    """

    def __init__(self, plan: Plan[str], start: Callable[[Plan[str]], CallFuture[str]]) -> None:
        self._mailbox = _Mailbox()
        self._is_over = False
        self._pid = os.getpid()
        plan.request.on_item = self._mailbox.put
        self._future = start(plan)
        self._future.add_done_callback(self._mailbox.over)

    def __iter__(self) -> TextStream:
        return self

    def __next__(self) -> str:
        mailbox = self._mailbox
        if self._pid != os.getpid():  # in a child of the program: whoever would bring news stayed behind, lock and all
            raise HostLost("this answer belongs to the process that was forked from", code="forked", ran="maybe")
        with mailbox.news:
            mailbox.news.wait_for(lambda: mailbox.text or self._future.done() or self._is_over)
            text = "" if self._is_over else mailbox.text.take()
        if not text and not self._is_over:
            self._is_over = True
            answer = self._future.result()
            with mailbox.news:
                text = mailbox.text.rest(answer)
        if not text:
            raise StopIteration
        return text

    def result(self, timeout: float | None = None) -> str:
        """Wait for the end of the answer and return all of it; raises what it ended with, CancelledError, or TimeoutError."""
        return self._future.result(timeout)

    def close(self) -> None:
        """Read no more, and stop who is answering unless that is over; returns when it has stopped. May be called twice.

        Good for any thread. It waits a second or so at most, longer than who is answering can resist.
        """
        if self._stop():
            wait([self._future], timeout=CANCEL_S_MAX)

    def _stop(self) -> bool:
        """Ask for the end of what goes on, without waiting; say whether something did."""
        if self._pid != os.getpid():
            return False
        self._is_over = True
        self._mailbox.over(None)
        return not self._future.done() and self._future.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if "_future" in self.__dict__ and not self._future.done():
            self._stop()
