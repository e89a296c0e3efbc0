"""A real `concurrent.futures.Executor` whose every call is a fresh fork; nothing a call does can break it.

It is *not* a pool of workers: `max_workers` says how many calls are under way at once, the others wait here. One crash
fails one future. The processes are those of `default_host.py`.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar

from procession.api import checks, default_host, verbs
from procession.api.core.plans import Plan
from procession.api.futures import CallFuture, DoneFuture
from procession.api.isolated import make_options
from procession.api.link import DEFAULT_SANDBOX
from procession.api.sandbox import Sandbox
from procession.ipc.core import inside
from procession.ipc.core.bounds import PARALLEL_RUNS_MAX
from procession.ipc.core.limits import Limits

P = ParamSpec("P")
T = TypeVar("T")

#: More workers than one session runs at once need a session of their own kind; more than this is a typing error.
WORKERS_MAX: Final = 256


@dataclass(slots=True, eq=False)
class _Work:
    future: CallFuture[Any]
    plan: Plan[Any]


class IsolatedExecutor(Executor):
    """A concurrent.futures.Executor whose every call is a process of its own; nothing a call does can break it.

    max_workers: calls under way at once, by default one for each core (16 at most). timeout, memory, limits: of each call.
    submit() packs the arguments at once; what cannot travel is the future's exception.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        timeout: float = 30,
        memory: int | str | None = None,
        sandbox: Sandbox = DEFAULT_SANDBOX,
        limits: Limits | None = None,
    ) -> None:
        if max_workers is None:
            max_workers = min(os.cpu_count() or 1, PARALLEL_RUNS_MAX)
        checks.check_count("max_workers", max_workers)
        self._max_workers = min(max_workers, WORKERS_MAX)
        self._options = make_options(
            timeout=timeout, memory=memory, sandbox=sandbox, limits=limits,
            parallel_runs=max(PARALLEL_RUNS_MAX, self._max_workers),
        )  # fmt: skip
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._waiting: deque[_Work] = deque()
        self._under_way = 0
        self._is_shut = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn(*args, **kwargs)` in a fresh process as soon as there is room; returns its Future."""
        if inside.IN_WORKER:
            return DoneFuture(lambda: fn(*args, **kwargs))
        if self._is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        options = self._options
        default_host.ground_for(options.key)
        try:
            plan = verbs.run(
                "", options.key.reach, fn, args, kwargs, timeout=options.timeout_s, limits=options.limits, wait=True
            )
        except Exception as error:  # noqa: BLE001 - as with any executor, what a call comes to is its future's
            failed: CallFuture[T] = CallFuture(lambda _: None)  # type: ignore[arg-type, return-value]
            failed.set_exception(error)
            return failed
        future: CallFuture[T] = _QueuedFuture(plan.finish, self)
        with self._lock:
            if self._is_shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.append(_Work(future, plan))
        self._fill()
        return future

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """Run `fn` for each item and give the results in order; chunksize means nothing here, each call is a process."""
        return super().map(fn, *iterables, timeout=timeout, chunksize=chunksize)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. wait: until those there are over. cancel_futures: drop those that wait their turn."""
        with self._lock:
            self._is_shut = True
            dropped = list(self._waiting) if cancel_futures else []
            if cancel_futures:
                self._waiting.clear()
        for work in dropped:
            work.future.withdraw()
        if wait:
            with self._idle:
                self._idle.wait_for(lambda: not self._waiting and not self._under_way)

    # --- the queue --------------------------------------------------------------------------------------------------
    def _fill(self) -> None:
        """Send what there is room for."""
        while True:
            with self._lock:
                if not self._waiting or self._under_way >= self._max_workers:
                    return
                work = self._waiting.popleft()
                self._under_way += 1
            self._send(work)

    def _send(self, work: _Work) -> None:
        try:
            ground = default_host.ground_for(self._options.key)
        except Exception as error:  # noqa: BLE001 - whatever keeps a host from starting is what the call came to
            work.future.set_exception(error)
            self._over()
            return
        work.plan.request.session = ground.session.id
        work.future.attach(ground.session.id, ground.note)
        work.future.add_done_callback(lambda _: self._over())
        work.future.send(ground.session._link.backend, work.plan)

    def _over(self) -> None:
        """Count a call as over and send the next one.

        This may be the host's own thread, which must not wait for a new host: if one is needed, a thread makes it.
        """
        with self._lock:
            self._under_way -= 1
            waiting = bool(self._waiting)
            self._idle.notify_all()
        if not waiting:
            return
        if default_host.has_ground(self._options.key):
            self._fill()
        else:
            threading.Thread(target=self._fill, name="procession-refill", daemon=True).start()

    def drop(self, future: CallFuture[Any]) -> bool:
        """Take a call that waits out of the queue; False when it was sent already."""
        with self._lock:
            for work in self._waiting:
                if work.future is future:
                    self._waiting.remove(work)
                    self._idle.notify_all()
                    return True
        return False


class _QueuedFuture(CallFuture[T]):
    """A future that may still wait its turn in an executor."""

    def __init__(self, finish: Callable[[Any], T], executor: IsolatedExecutor) -> None:
        super().__init__(finish)
        self._executor = weakref.ref(executor)

    def cancel(self) -> bool:
        """Leave the queue, or ask for the work to be stopped."""
        executor = self._executor()
        if executor is not None and executor.drop(self):
            return self.withdraw()
        return super().cancel()
