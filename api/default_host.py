"""The process-wide hosts behind `@isolated` and `IsolatedExecutor`: made when first needed, one per way to run.

Thread-safe. After a fork the child has none and makes its own; at exit, or by `shutdown_default_host`, every process they
started is ended. A session that has failed for good is replaced for the next call.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from procession.api.core.plans import Plan
from procession.api.futures import CallFuture
from procession.api.host import Host
from procession.api.link import Reach
from procession.api.sandbox import Sandbox
from procession.api.session import Session
from procession.ipc.core.bounds import PARALLEL_RUNS_MAX
from procession.ipc.core.errors import HostLost, ProcessionError, SessionNotFound, SessionNotRunning

T = TypeVar("T")

#: A call that finds its host gone is planned again on a new one, once: a second failure is news.
_ATTEMPTS: Final = 2

#: An isolated function that calls an isolated one carries it along: imported once here, not 35 ms in every worker.
_PRELOAD: Final = ("procession.api.isolated",)


class Key(NamedTuple):
    """What calls have to agree on to share a host."""

    sandbox: Sandbox
    preload: tuple[str, ...] = ()
    import_paths: tuple[str, ...] = ()
    parallel_runs: int = PARALLEL_RUNS_MAX

    @property
    def reach(self) -> Reach:
        """What their workers can import."""
        return Reach(self.import_paths, self.preload)


@dataclass(slots=True, eq=False)
class Ground:
    """A host and the session that the runs are made in."""

    host: Host
    session: Session
    is_lost: bool = False

    def note(self, error: ProcessionError) -> bool:
        """Take note of how a call ended; True when it never ran because this ground is no more."""
        if error.ran == "no" and isinstance(error, SessionNotRunning | SessionNotFound | HostLost):
            self.is_lost = True
            return True
        return False


_lock = threading.Lock()
_grounds: dict[Key, Ground] = {}
_end_registered_in = 0


def ground_for(key: Key) -> Ground:
    """Return the host and session for `key`, making them if there are none; raises what starting them raises."""
    ground = _grounds.get(key)
    if ground is not None and not ground.is_lost:
        return ground
    with _lock:
        ground = _grounds.get(key)
        if ground is not None and not ground.is_lost:
            return ground
        if ground is not None:
            _grounds.pop(key)
            ground.host.close()
        _grounds[key] = made = _make(key)
        return made


def has_ground(key: Key) -> bool:
    """Whether `ground_for` would return at once."""
    ground = _grounds.get(key)
    return ground is not None and not ground.is_lost


def _make(key: Key) -> Ground:
    host = Host(
        sandbox=key.sandbox,
        preload=(*key.preload, *_PRELOAD),
        import_paths=key.import_paths,
        parallel_runs=key.parallel_runs,
    )
    _register_end()
    try:
        return Ground(host, host.start_session(name="isolated", restart="permanent"))
    except BaseException:
        host.close()
        raise


def call(key: Key, plan_for: Callable[[str], Plan[T]]) -> T:
    """Make a call on the ground of `key` and wait for it; `plan_for` gets the session's id."""
    for attempt in range(_ATTEMPTS):
        ground = ground_for(key)
        try:
            return ground.session._do(plan_for(ground.session.id))
        except ProcessionError as error:
            if not ground.note(error) or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def send(key: Key, plan_for: Callable[[str], Plan[T]]) -> CallFuture[T]:
    """Start a call on the ground of `key` and return its future."""
    ground = ground_for(key)
    plan = plan_for(ground.session.id)
    future: CallFuture[T] = CallFuture(plan.finish, ground.session.id, on_error=ground.note)
    future.send(ground.session._link.backend, plan)
    return future


def shutdown_default_host() -> None:
    """End every process that `@isolated` and IsolatedExecutor have running; the next call starts anew."""
    with _lock:
        grounds = list(_grounds.values())
        _grounds.clear()
    for ground in grounds:
        ground.is_lost = True
        ground.host.close()


def _register_end() -> None:
    """In a child of multiprocessing, have `shutdown_default_host` called at its end: such a child runs no atexit.

    Asked of what the program has loaded, never imported: this package has no use for multiprocessing itself.
    """
    global _end_registered_in
    util = sys.modules.get("multiprocessing.util")
    if util is not None and _end_registered_in != os.getpid():
        _end_registered_in = os.getpid()
        util.Finalize(None, shutdown_default_host, exitpriority=100)


def _forget_after_fork() -> None:
    """In a forked child: the hosts are the parent's."""
    global _lock, _grounds
    _lock = threading.Lock()
    _grounds = {}


os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(shutdown_default_host)
