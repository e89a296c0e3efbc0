"""A pool of sessions that are ready before anybody asks, all alike, lent one at a time. The sync face.

    with host.pool(agent=Parser, size=5) as pool:
        pool.call("parse.file", {"path": "a.txt"})          any free worker, for one call
        with pool.session(timeout=5) as session: ...        one worker, for as long as the `with` lasts

A worker is a session like any other: its state stays from one borrower to the next, and it is restarted when it crashes. One
that was stopped or has failed for good is not lent again; another takes its place when it is needed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

from procession.api.casting import cast_plan
from procession.api.checks import check_count, check_text, check_timeout
from procession.api.core import agent_plans, plans
from procession.api.core.pool_book import STRATEGIES, PoolBook, Room
from procession.api.session import Session
from procession.ipc.core.bounds import QUERY_TIMEOUT_S
from procession.ipc.core.errors import ExpiredInQueue, InvalidRequest, ProcessionError, SessionNotRunning
from procession.ipc.core.operations import OPERATIONS
from procession.ipc.core.records import PoolStatus, SessionStatus

SIGNAL: Final = OPERATIONS["signal"]
_GOOD: Final = frozenset({"starting", "ready", "backoff", "down"})
"""Phases of a worker that a call reaches now or soon."""


def pool_book(size: int, overflow: int, strategy: object) -> PoolBook:
    """Check what a pool shall be; raises InvalidRequest."""
    if strategy not in STRATEGIES:
        raise InvalidRequest(f"strategy: must be lifo or fifo, not {strategy!r}", code="invalid_strategy")
    return PoolBook(check_count("size", size), check_count("overflow", overflow, least=0), strategy)


def is_good(status: SessionStatus) -> bool:
    """Say whether a worker can be lent."""
    return status.phase in _GOOD


def no_worker(book: PoolBook, timeout_s: float) -> ExpiredInQueue:
    """Say that no worker was free in time."""
    return ExpiredInQueue(
        f"all {book.lent} workers of the pool were busy for {timeout_s:g} s",
        code="pool_timeout",
        hint="wait longer, or give the pool a larger size or an overflow",
    )


def closed_pool() -> SessionNotRunning:
    """Say that the pool is closed."""
    return SessionNotRunning("this pool is closed", code="closed")


def described(book: PoolBook) -> PoolStatus:
    """Describe a pool."""
    return PoolStatus(size=book.size, overflow=book.overflow, free=book.free, lent=book.lent, waiting=book.waiting)


def signal_plan(session: str, type: str, data: object, *, wait: bool, timeout: float) -> plans.Plan[Any]:
    """Plan a signal of the program to a worker."""
    timeout_s = check_timeout(timeout, SIGNAL)
    return (agent_plans.signal if wait else cast_plan)(session, check_text("type", type), data, timeout_s)


class WorkerPool:
    """A pool of sessions that are ready before anybody asks, lent one at a time; `Host.pool` makes one.

    Good for any thread. `close`, or a `with`, ends its workers.
    """

    def __init__(self, book: PoolBook, start: Callable[[], Session], remove: Callable[[str], None]) -> None:
        self._book = book
        self._start = start
        self._remove = remove
        self._news = threading.Condition()
        self._sessions: dict[str, Session] = {}
        self._closed = False

    def add(self, session: Session) -> None:
        """Take in a worker that was started ahead."""
        self._sessions[session.id] = session
        self._book.add(session.id)

    def __repr__(self) -> str:
        book = self._book
        return f"<WorkerPool {'closed ' if self._closed else ''}size={book.size} free={book.free} lent={book.lent}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    # --- lending ----------------------------------------------------------------------------------------------------
    @contextmanager
    def session(self, timeout: float = 5) -> Iterator[Session]:
        """Lend a worker for the time of a `with`. Raises ExpiredInQueue (`pool_timeout`) when none is free in time."""
        session = self._take(check_timeout(timeout, SIGNAL) or QUERY_TIMEOUT_S)
        try:
            yield session
        finally:
            self._give_back(session)

    def call(self, type: str, data: object = None, *, timeout: float = 5) -> Any:
        """Have any worker handle a signal and return what came of it; `timeout` is for a worker, and then for its answer."""
        with self.session(timeout) as session:
            return session._do(signal_plan(session.id, type, data, wait=True, timeout=timeout))

    def cast(self, type: str, data: object = None, *, timeout: float = 5) -> str:
        """Give any worker a signal and return its id; the worker handles it when it comes to it."""
        with self.session(timeout) as session:
            sent: str = session._do(signal_plan(session.id, type, data, wait=False, timeout=timeout))
            return sent

    def status(self) -> PoolStatus:
        """Look at it."""
        with self._news:
            return described(self._book)

    def close(self) -> None:
        """End all its workers, those too that are lent. May be called twice."""
        with self._news:
            self._closed = True
            sessions, self._sessions = self._sessions, {}
            self._news.notify_all()
        for session in sessions:
            self._end(session)

    # --- inside -----------------------------------------------------------------------------------------------------
    def _take(self, timeout_s: float) -> Session:
        deadline = time.monotonic() + timeout_s
        while True:
            with self._news:
                found = self._wait_for_room(deadline, timeout_s)
                session = self._sessions[found] if isinstance(found, str) else None
            if session is None:
                return self._start_one()
            good = False
            try:
                good = _looks_good(session)
            finally:
                if not good:
                    self._give_back(session)
            if good:
                return session

    def _wait_for_room(self, deadline: float, timeout_s: float) -> str | Room:
        while True:
            if self._closed:
                raise closed_pool()
            found = self._book.take()
            if found is not Room.FULL:
                return found
            self._book.waiting += 1
            try:
                if not self._news.wait(max(0.0, deadline - time.monotonic())) and deadline <= time.monotonic():
                    raise no_worker(self._book, timeout_s)
            finally:
                self._book.waiting -= 1

    def _start_one(self) -> Session:
        try:
            session = self._start()
        except BaseException:
            with self._news:
                self._book.not_started()
                self._news.notify()
            raise
        with self._news:
            self._book.started(session.id)
            if not self._closed:
                self._sessions[session.id] = session
                return session
        self._end(session.id)
        raise closed_pool()

    def _give_back(self, session: Session) -> None:
        good = False
        try:
            good = _looks_good(session)
        finally:
            with self._news:
                ends = not self._closed and not self._book.give_back(session.id, good=good)
                if ends:
                    del self._sessions[session.id]
                self._news.notify()
        if ends:
            self._end(session.id)

    def _end(self, session: str) -> None:
        try:
            self._remove(session)
        except ProcessionError:  # removed already, or gone with its host
            pass


def _looks_good(session: Session) -> bool:
    try:
        return is_good(session.status())
    except ProcessionError:
        return False
