"""From a backend's callbacks to asyncio: one plan, awaited.

It is *not* a loop and makes no thread. Cancelling the task cancels the work, waits a bounded time for its end, and raises
on with a note that says what became of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar, cast

from procession.api.at_rest import ASK, from_state
from procession.api.core.plans import Plan
from procession.api.follow import ending
from procession.api.futures import CANCEL_S_MAX
from procession.api.link import Link
from procession.ipc.core.backend import Backend, Item, Outcome, Response, Ticket
from procession.ipc.core.bounds import INTERPRETER_INT_GRACE_S
from procession.ipc.core.errors import HostLost, InvalidRequest, ProcessionError, SessionNotRunning
from procession.ipc.core.item_ring import ItemRing
from procession.ipc.core.records import OutputChunk

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - an item, as its reader sees it


class _Landing:
    """Where a call's outcome lands, from whatever thread; wakes the loop's task."""

    __slots__ = ("_loop", "_thread", "future", "late", "outcome")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self.future: asyncio.Future[None] = loop.create_future()
        self.outcome: Outcome | None = None
        self.late: Callable[[Outcome], None] | None = None

    def __call__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        if threading.get_ident() == self._thread:
            self._wake()
            return
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    def _wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)
        elif self.late is not None and self.outcome is not None:
            self.late(self.outcome)


async def perform(
    backend: Backend,
    plan: Plan[T],
    session: str | None = None,
    undo: Callable[[Response], Plan[None]] | None = None,
    on_error: Callable[[ProcessionError], object] | None = None,
) -> T:
    """Make a call and return its result.

    undo: what to do should it succeed although its caller has been cancelled. on_error: told of the error it ends with.
    """
    landing = _Landing(asyncio.get_running_loop())
    ticket = backend.submit(plan.request, landing)
    if landing.outcome is None:
        try:
            await landing.future
        except asyncio.CancelledError as cancelled:
            await _withdraw(landing, ticket, cancelled, plan.request.op.name)
            if undo is not None:
                _undo(backend, landing, undo)
            raise
    outcome = cast("Outcome", landing.outcome)
    try:
        if isinstance(outcome, SessionNotRunning) and plan.request.op is ASK:
            return await perform(backend, from_state(plan, outcome))
        if isinstance(outcome, ProcessionError):
            raise outcome
        return plan.finish(outcome)
    except ProcessionError as error:
        if error.session is None:
            error.session = session
        if on_error is not None:
            on_error(error)
        raise


class _Handing:
    """Hands output to the caller's async function, one piece after the other; its first exception is kept, as a sync one's.

    Bounded (ipc/core/item_ring.py): a function that is slow loses the oldest and is told how much.
    """

    def __init__(self, on_output: Callable[[OutputChunk], object]) -> None:
        self.error: Exception | None = None
        self._on_output = on_output
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._ring = ItemRing()
        self._news = asyncio.Event()
        self._complete = False

    def put(self, item: Item) -> None:
        """Take a piece; from any thread."""
        with self._lock:
            self._ring.put(item)
        if threading.get_ident() == self._thread:
            self._news.set()
            return
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:  # the loop is closed: nobody takes it any more
            pass

    def finish(self) -> None:
        """Say that nothing more comes."""
        self._complete = True
        self._news.set()

    async def run(self) -> None:
        """Hand out all there is, until it is complete."""
        while self.error is None:
            self._news.clear()
            with self._lock:
                item = self._ring.take()
            if item is None:
                if self._complete:
                    return
                await self._news.wait()
            elif isinstance(item, OutputChunk):
                try:
                    await cast("Awaitable[object]", self._on_output(item))
                except Exception as error:  # noqa: BLE001 - raised to the caller once the call is over
                    self.error = error


async def perform_handing(
    backend: Backend, plan: Plan[T], session: str | None, on_output: Callable[[OutputChunk], object]
) -> T:
    """Make a call, awaiting `on_output` for each piece of its output, in order, before it returns or raises."""
    handing = _Handing(on_output)
    plan.request.on_item = handing.put
    task = asyncio.get_running_loop().create_task(handing.run())
    try:
        result = await perform(backend, plan, session)
    except ProcessionError:
        handing.finish()
        await task
        raise
    except BaseException:
        task.cancel()
        raise
    handing.finish()
    await task
    if handing.error is not None:
        raise handing.error
    return result


async def _withdraw(landing: _Landing, ticket: Ticket, cancelled: asyncio.CancelledError, op: str) -> None:
    """Stop the work of a cancelled task and note on `cancelled` how that went."""
    if landing.outcome is None:
        landing.future = asyncio.get_running_loop().create_future()
        ticket.cancel()
        if landing.outcome is None:  # another one; a call that nobody had begun is over at once
            patience_s = CANCEL_S_MAX + (INTERPRETER_INT_GRACE_S if op == "run_code" else 0.0)
            await asyncio.wait([landing.future], timeout=patience_s)
    cancelled.add_note(f"procession: {op}: {_fate(landing.outcome)}")


def _fate(outcome: Outcome | None) -> str:
    if outcome is None:
        return "asked to stop; its end was not seen yet"
    if isinstance(outcome, ProcessionError):
        return f"{outcome.code} (did it run: {outcome.ran}): {outcome.message}"
    return "too_late (did it run: yes): it had finished before it could be stopped"


def _undo(backend: Backend, landing: _Landing, undo: Callable[[Response], Plan[None]]) -> None:
    def late(outcome: Outcome) -> None:
        if isinstance(outcome, Response):
            backend.submit(undo(outcome).request, lambda _: None)

    if landing.outcome is not None:
        late(landing.outcome)
    else:
        landing.late = late


def backend_of(link: Link) -> Backend:
    """Return the backend of an AsyncHost; a loop that is not the one it lives in is an error, not a hang."""
    if link.closed:
        raise HostLost("this host is closed", code="closed", ran="no")
    if link.loop is not asyncio.get_running_loop():
        raise InvalidRequest(
            "this AsyncHost lives in another event loop", code="wrong_loop", hint="open it in the loop that uses it"
        )
    return link.backend


class AsyncFollow(AsyncIterator[I], Generic[I]):
    """The stream behind `logs`, `events` and `signals` with `follow=True`: as `follow.Follow`, awaited.

    Close it (`aclose`, `async with`) when done.
    """

    def __init__(
        self, backend: Backend, plan: Plan[None], session: str | None, read: Callable[[Item], I] | None = None
    ) -> None:
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._session = session
        self._lock = threading.Lock()
        self._ring = ItemRing()
        self._news = asyncio.Event()
        self._outcome: Outcome | None = None
        self._closed = False
        plan.request.on_item = self._put
        self._ticket: Ticket = backend.submit(plan.request, self._done)

    def _put(self, item: Item) -> None:
        with self._lock:
            self._ring.put(item)
        self._wake()

    def _done(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._wake()

    def _wake(self) -> None:
        if threading.get_ident() == self._thread:
            self._news.set()
            return
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:  # the loop is closed
            pass

    def __aiter__(self) -> AsyncFollow[I]:
        return self

    async def __anext__(self) -> I:
        while not self._closed:
            self._news.clear()
            with self._lock:
                item = self._ring.take()
            if item is not None:
                return cast("I", item) if self._read is None else self._read(item)
            if self._outcome is not None:
                raise ending(self._outcome, self._session, StopAsyncIteration)
            await self._news.wait()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop following; may be called twice."""
        self._closed = True
        self._news.set()
        if self._outcome is None:
            self._ticket.cancel()

    async def __aenter__(self) -> AsyncFollow[I]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
