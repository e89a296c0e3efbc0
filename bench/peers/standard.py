"""The standard library at the same jobs: multiprocessing's Pipe, its forkserver, and a ProcessPoolExecutor.

Each is used as its documentation says, with the functions it needs at module level.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Final

#: A peer that is silent for this long is broken, not slow.
PEER_TIMEOUT_S: Final = 30.0


def _echo_objects(connection: Connection) -> None:
    try:
        while True:
            connection.send(connection.recv())
    except EOFError:
        pass


def _send_one(connection: Connection) -> None:
    connection.send(1)
    connection.close()


def same(value: object) -> object:
    """Return what was given: the call that a pool is asked for."""
    return value


class PipeEcho:
    """A process of multiprocessing (fork) that sends back each object it is sent."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_echo_objects, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def ping(self, data: bytes) -> object:
        """Send a small object and wait for it to come back."""
        self._ours.send(data)
        return self._ours.recv()

    def calls_per_s(self, data: bytes, count: int, window: int) -> float:
        """Make `count` calls with at most `window` under way, each with its number; return the rate."""
        ours = self._ours
        began = time.perf_counter()
        for number in range(window):
            ours.send((number, data))
        for number in range(window, count):
            ours.recv()
            ours.send((number, data))
        for _ in range(window):
            ours.recv()
        return count / (time.perf_counter() - began)

    def close(self) -> None:
        self._ours.close()
        # The child inherited a copy of our end, as children by fork do, so it sees no EOF: end it.
        self._process.terminate()
        self._process.join(PEER_TIMEOUT_S)


class PoolEcho:
    """A ProcessPoolExecutor with one worker (fork)."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
        self._pool.submit(same, 0).result(PEER_TIMEOUT_S)

    def ping(self, data: bytes) -> object:
        """Make one call and wait for its result."""
        return self._pool.submit(same, data).result(PEER_TIMEOUT_S)

    def calls_per_s(self, data: bytes, count: int, window: int) -> float:
        """Make `count` calls with at most `window` under way; return the rate."""
        pool = self._pool
        began = time.perf_counter()
        under_way = {pool.submit(same, data) for _ in range(window)}
        sent = window
        while under_way:
            over, under_way = wait(under_way, PEER_TIMEOUT_S, return_when=FIRST_COMPLETED)
            if not over:
                raise TimeoutError("the pool gave no result")
            for _ in range(min(len(over), count - sent)):
                under_way.add(pool.submit(same, data))
                sent += 1
        return count / (time.perf_counter() - began)

    def close(self) -> None:
        self._pool.shutdown()


class ForkServer:
    """multiprocessing's forkserver with the same modules preloaded: its own answer to a slow start."""

    def __init__(self, preload: Sequence[str]) -> None:
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["__main__", *preload, __name__])
        self.start_s()  # the server itself starts with the first process

    def start_s(self) -> float:
        """Return the seconds from starting a process to the first object it sends."""
        began = time.perf_counter()
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_send_one, args=(theirs,))
        process.start()
        theirs.close()
        if not ours.poll(PEER_TIMEOUT_S):
            raise TimeoutError("a process of the forkserver sent nothing")
        ours.recv()
        took = time.perf_counter() - began
        process.join(PEER_TIMEOUT_S)
        ours.close()
        return took

    def close(self) -> None:
        from multiprocessing import forkserver

        # _stop has no public name; without it the server lives until the interpreter's exit, which is soon.
        stop = getattr(forkserver, "_forkserver", None)
        if stop is not None:
            stop._stop()
