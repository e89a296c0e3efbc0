# ruff: noqa: ASYNC109 - `timeout` is a deadline of the pool's own, the same parameter as the sync face's
"""A pool of sessions, awaited: `pool.WorkerPool` for the loop of an AsyncHost. Same verbs, parameters, records and errors.

    async with await host.pool(agent=Parser, size=5) as pool:
        await pool.call("parse.file", {"path": "a.txt"})
        async with pool.session(timeout=5) as session: ...

A task that is cancelled gives its worker back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from procession.api.aio_session import AsyncSession
from procession.api.checks import check_timeout
from procession.api.core.pool_book import PoolBook, Room
from procession.api.pool import SIGNAL, closed_pool, described, is_good, no_worker, signal_plan
from procession.ipc.core.bounds import QUERY_TIMEOUT_S
from procession.ipc.core.errors import ProcessionError
from procession.ipc.core.records import PoolStatus


class AsyncWorkerPool:
    """`WorkerPool`, awaited: sessions that are ready before anybody asks, lent one at a time; `AsyncHost.pool` makes one.

    It belongs to the loop of its host. `close`, or an `async with`, ends its workers.
    """

    def __init__(
        self,
        book: PoolBook,
        start: Callable[[], Awaitable[AsyncSession]],
        remove: Callable[[str], Awaitable[None]],
    ) -> None:
        self._book = book
        self._start = start
        self._remove = remove
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._sessions: dict[str, AsyncSession] = {}
        self._closed = False

    def add(self, session: AsyncSession) -> None:
        """Take in a worker that was started ahead."""
        self._sessions[session.id] = session
        self._book.add(session.id)

    def __repr__(self) -> str:
        book = self._book
        return (
            f"<AsyncWorkerPool {'closed ' if self._closed else ''}size={book.size} free={book.free} lent={book.lent}>"
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.close()

    # --- lending ----------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def session(self, timeout: float = 5) -> AsyncIterator[AsyncSession]:
        """Lend a worker for the time of an `async with`. Raises ExpiredInQueue (`pool_timeout`) when none is free in time."""
        session = await self._take(check_timeout(timeout, SIGNAL) or QUERY_TIMEOUT_S)
        try:
            yield session
        finally:
            await asyncio.shield(self._give_back(session))

    async def call(self, type: str, data: object = None, *, timeout: float = 5) -> Any:
        """Have any worker handle a signal and return what came of it; `timeout` is for a worker, and then for its answer."""
        async with self.session(timeout) as session:
            return await session._do(signal_plan(session.id, type, data, wait=True, timeout=timeout))

    async def cast(self, type: str, data: object = None, *, timeout: float = 5) -> str:
        """Give any worker a signal and return its id; the worker handles it when it comes to it."""
        async with self.session(timeout) as session:
            sent: str = await session._do(signal_plan(session.id, type, data, wait=False, timeout=timeout))
            return sent

    async def status(self) -> PoolStatus:
        """Look at it."""
        return described(self._book)

    async def close(self) -> None:
        """End all its workers, those too that are lent. May be called twice."""
        self._closed = True
        sessions, self._sessions = self._sessions, {}
        while self._waiters:
            self._tell()
        for session in sessions:
            await self._end(session)

    # --- inside -----------------------------------------------------------------------------------------------------
    async def _take(self, timeout_s: float) -> AsyncSession:
        try:
            async with asyncio.timeout(timeout_s) as limit:
                while True:
                    found = await self._wait_for_room()
                    if not isinstance(found, str):
                        limit.reschedule(None)  # a start has a deadline of its own
                        return await self._start_one()
                    session, good = self._sessions[found], False
                    try:
                        good = await _looks_good(session)
                    finally:
                        if not good:
                            await asyncio.shield(self._give_back(session))
                    if good:
                        return session
        except TimeoutError:
            raise no_worker(self._book, timeout_s) from None

    async def _wait_for_room(self) -> str | Room:
        while True:
            if self._closed:
                raise closed_pool()
            found = self._book.take()
            if found is not Room.FULL:
                return found
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            self._book.waiting += 1
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():  # it was told just now: the next one is
                    self._tell()
                raise
            finally:
                self._book.waiting -= 1
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    def _tell(self) -> None:
        """Have the one that has waited longest look again."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _start_one(self) -> AsyncSession:
        try:
            session = await self._start()
        except BaseException:
            self._book.not_started()
            self._tell()
            raise
        self._book.started(session.id)
        if self._closed:
            await self._end(session.id)
            raise closed_pool()
        self._sessions[session.id] = session
        return session

    async def _give_back(self, session: AsyncSession) -> None:
        good = False
        try:
            good = await _looks_good(session)
        finally:
            ends = not self._closed and not self._book.give_back(session.id, good=good)
            if ends:
                del self._sessions[session.id]
            self._tell()
        if ends:
            await self._end(session.id)

    async def _end(self, session: str) -> None:
        try:
            await self._remove(session)
        except ProcessionError:  # removed already, or gone with its host
            pass


async def _looks_good(session: AsyncSession) -> bool:
    try:
        return is_good(await session.status())
    except ProcessionError:
        return False
