"""Both reactors as tests use them: each with a thread of its own, so that one test is held by both."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from procession.ipc.transport.reactor import LoopReactor, Reactor, ThreadReactor

T = TypeVar("T")
WAIT_S = 10.0


@contextmanager
def running_reactor(kind: str) -> Iterator[Reactor]:
    """Give a running reactor: `thread`, `asyncio` or `uvloop`; what its callbacks raise fails the test."""
    surprises: list[BaseException] = []
    with _running(kind) as reactor:
        reactor.on_error = lambda problem, where: surprises.append(problem)
        yield reactor
    if surprises:
        raise surprises[0]


@contextmanager
def _running(kind: str) -> Iterator[Reactor]:
    if kind == "thread":
        own = ThreadReactor()
        try:
            yield own
        finally:
            own.close()
        return
    if kind == "uvloop":
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    made: list[LoopReactor] = []
    ready = threading.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        made.append(LoopReactor(loop))
        ready.set()
        loop.run_forever()
        made[0].close()
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(WAIT_S)
    try:
        yield made[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)


def in_loop(reactor: Reactor, function: Callable[[], T]) -> T:
    """Run a function in the reactor's thread and return what it returns or raise what it raises."""
    results: list[T] = []
    problems: list[BaseException] = []
    over = threading.Event()

    def run() -> None:
        try:
            results.append(function())
        except BaseException as problem:
            problems.append(problem)
        over.set()

    reactor.call_soon(run)
    assert over.wait(WAIT_S), "the reactor did not get to it"
    if problems:
        raise problems[0]
    return results[0]
