"""An answer as it is said: the async iterator behind `send_message_stream` of the async face; as `text_stream.TextStream`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Self

from procession.api.core.text_buffer import TextBuffer
from procession.ipc.core.backend import Item

if TYPE_CHECKING:
    from procession.api.core.plans import Plan


class _Mailbox:
    """Where the text arrives, from whatever thread; it wakes the loop's task."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.news = asyncio.Event()
        self.lock = threading.Lock()
        self.text = TextBuffer()

    def put(self, item: Item) -> None:
        with self.lock:
            self.text.put(item)
        try:
            self.loop.call_soon_threadsafe(self.news.set)
        except RuntimeError:  # the loop is closed: nobody reads any more
            pass

    def over(self, task: asyncio.Task[str]) -> None:
        if not task.cancelled():
            task.exception()  # it is known: whoever reads on, or asks for the result, gets it
        self.news.set()


class AsyncTextStream(AsyncIterator[str]):
    """The pieces of an answer, as an async iterator; together they are the whole answer.

    What was said while nobody looked comes in one piece. An error comes when everything said before it was read.
    """

    def __init__(self, plan: Plan[str], start: Callable[[Plan[str]], asyncio.Task[str]]) -> None:
        self._mailbox = _Mailbox()
        self._is_over = False
        plan.request.on_item = self._mailbox.put
        self._task = start(plan)
        self._task.add_done_callback(self._mailbox.over)

    def __aiter__(self) -> AsyncTextStream:
        return self

    async def __anext__(self) -> str:
        mailbox = self._mailbox
        while not self._is_over:
            mailbox.news.clear()
            with mailbox.lock:
                text = mailbox.text.take()
            if text:
                return text
            if self._task.done():
                self._is_over = True
                answer = self._task.result()
                with mailbox.lock:
                    text = mailbox.text.rest(answer)
                if text:
                    return text
            else:
                await mailbox.news.wait()
        raise StopAsyncIteration

    async def result(self) -> str:
        """Wait for the end of the answer and return all of it; raises what it ended with."""
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if not self._task.cancelled():  # it goes on: whoever asks has been cancelled
                raise
            raise asyncio.CancelledError("the answer was closed before its end") from None

    async def aclose(self) -> None:
        """Read no more, and stop who is answering unless that is over; returns when it has stopped. May be called twice."""
        self._is_over = True
        self._mailbox.news.set()
        self._task.cancel()
        await asyncio.wait([self._task])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if "_task" in self.__dict__ and not self._task.done() and not self._mailbox.loop.is_closed():
            self._mailbox.loop.call_soon_threadsafe(self._task.cancel)
