"""`@isolated`: a function whose every call is a fresh fork of a warm process.

    parse(data)              waits for the result            parse.submit(data)   a Future
    parse.map(many)          results in order, in parallel   await parse.aio(data)

It is *not* a pool: no worker is used twice, so a global set in one call is absent in the next. The processes behind it are
`default_host.py`'s. Inside a worker the function runs in place, so isolated functions may call themselves and each other.
"""

from __future__ import annotations

import functools
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast, overload

from procession.api import checks, default_host, verbs
from procession.api.core.plans import Plan
from procession.api.default_host import Key, shutdown_default_host
from procession.api.futures import CallFuture, DoneFuture
from procession.api.link import DEFAULT_SANDBOX
from procession.api.results import prepare_returns
from procession.api.sandbox import Sandbox
from procession.api.travel import goes_by_value
from procession.api.verbs import PathLike
from procession.ipc.core import inside
from procession.ipc.core.bounds import PARALLEL_RUNS_MAX
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import OPERATIONS

__all__ = ["Isolated", "isolated", "shutdown_default_host"]

P = ParamSpec("P")
R = TypeVar("R")

#: Calls that `map` has under way at once: as many as one session runs, so that none waits in its mailbox.
MAP_WINDOW: Final = PARALLEL_RUNS_MAX


@dataclass(frozen=True, slots=True)
class Options:
    """How the calls of one function are run."""

    key: Key
    timeout_s: float
    limits: Limits
    returns: object = None


class Isolated(Generic[P, R]):
    """A function that runs in processes of its own; see the module's text. `fn` is the function itself."""

    fn: Callable[P, R]
    options: Options

    def __init__(self, fn: Callable[P, R], options: Options) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.options = options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run one call in a fresh worker and return its result."""
        if inside.IN_WORKER:
            return self.fn(*args, **kwargs)
        return default_host.call(self.options.key, self._planner(args, kwargs))

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> CallFuture[R]:
        """Start one call and return its Future."""
        if inside.IN_WORKER:
            return DoneFuture(lambda: self.fn(*args, **kwargs))
        return default_host.send(self.options.key, self._planner(args, kwargs))

    def map(self, *iterables: Iterable[Any]) -> Iterator[R]:
        """Call the function for each item (of several iterables, side by side) and give the results in order.

        As many calls as a session runs at once are under way, and no more are taken from the iterables. The first error
        is raised in its place and ends what is under way; so does closing the iterator.
        """
        if inside.IN_WORKER:
            return map(cast("Callable[..., R]", self.fn), *iterables)
        return self._map(zip(*iterables, strict=False))

    def _map(self, rows: Iterator[tuple[Any, ...]]) -> Iterator[R]:
        under_way: deque[CallFuture[R]] = deque()
        submit = cast("Callable[..., CallFuture[R]]", self.submit)
        try:
            for row in rows:
                under_way.append(submit(*row))
                if len(under_way) == MAP_WINDOW:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run one call and await its result; cancelling the task ends the worker."""
        if inside.IN_WORKER:
            result = self.fn(*args, **kwargs)
            return cast("R", await result) if isinstance(result, types.CoroutineType) else result
        import asyncio

        from procession.api.bridge import perform

        key = self.options.key
        if not default_host.has_ground(key):
            await asyncio.to_thread(default_host.ground_for, key)
        ground = default_host.ground_for(key)
        session = ground.session
        plan = self._planner(args, kwargs)(session.id)
        return await perform(session._link.backend, plan, session.id, on_error=ground.note)

    def _planner(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Callable[[str], Plan[R]]:
        """Return what plans one call in a session: checked and packed by then."""
        options = self.options

        def plan(session: str) -> Plan[R]:
            return verbs.run(
                session, options.key.reach, self._travelling(), args, kwargs,
                timeout=options.timeout_s, returns=self._returns(), limits=options.limits, wait=True,
                label=verbs.label_of(self.fn),
            )  # fmt: skip

        return plan

    def _returns(self) -> object:
        from procession.api.results import annotation_of

        return annotation_of(self.fn) if self.options.returns is None else self.options.returns

    # --- travelling -------------------------------------------------------------------------------------------------
    def _travelling(self) -> Callable[..., object]:
        """Return what is sent: this object where a worker can import it by name, else the function."""
        return self if self._is_importable() else self.fn

    def _is_importable(self) -> bool:
        """Whether a worker that imports the function's module finds this very object there."""
        module = self.__dict__.get("__module__")
        if not isinstance(module, str) or goes_by_value(module):
            return False
        found: Any = sys.modules.get(module)
        for name in str(self.__dict__.get("__qualname__", "")).split("."):
            found = getattr(found, name, None)
        return found is self

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self._is_importable():
            return str(self.__dict__["__qualname__"])
        return _blank, (), dict(self.__dict__)

    def __get__(self, instance: object, owner: type | None = None) -> Isolated[..., R]:
        """Bind to an instance, as a function does; the instance then travels with each call."""
        if instance is None:
            return self
        return Isolated(types.MethodType(self.fn, instance), self.options)

    def __repr__(self) -> str:
        return f"<isolated {verbs.label_of(self.fn)}>"


def _blank() -> Isolated[..., Any]:
    """Return an Isolated without its state: what is unpickled may refer to itself."""
    return Isolated.__new__(Isolated)


@overload
def isolated(fn: Callable[P, R], /) -> Isolated[P, R]: ...
@overload
def isolated(
    *,
    timeout: float = ...,
    memory: int | str | None = ...,
    sandbox: Sandbox = ...,
    limits: Limits | None = ...,
    preload: Iterable[str] = ...,
    import_paths: Iterable[PathLike] = ...,
    returns: object = ...,
) -> Callable[[Callable[P, R]], Isolated[P, R]]: ...
def isolated(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    timeout: float = 30,
    memory: int | str | None = None,
    sandbox: Sandbox = DEFAULT_SANDBOX,
    limits: Limits | None = None,
    preload: Iterable[str] = (),
    import_paths: Iterable[PathLike] = (),
    returns: object = None,
) -> Any:
    """Make every call of a function run in a fresh process that is ended at its deadline, whatever the function does.

    timeout: seconds a call may take. memory: bytes or "256M" for its process tree, short for `limits`. preload: modules to
    import once, before the first call. import_paths: folders that its workers import from. returns: what the result is
    checked against, else the function's annotation. Nothing is started before the first call.
    """
    options = make_options(
        timeout=timeout, memory=memory, sandbox=sandbox, limits=limits, preload=preload, import_paths=import_paths,
        returns=returns,
    )  # fmt: skip

    def decorate(function: Callable[P, R]) -> Isolated[P, R]:
        checks.check_callable(function)
        return Isolated(function, options)

    return decorate if fn is None else decorate(fn)


def make_options(
    *,
    timeout: float,
    memory: int | str | None,
    sandbox: Sandbox,
    limits: Limits | None,
    preload: Iterable[str] = (),
    import_paths: Iterable[PathLike] = (),
    returns: object = None,
    parallel_runs: int = PARALLEL_RUNS_MAX,
) -> Options:
    """Check how calls shall be run; raises InvalidRequest."""
    checks.check_sandbox(sandbox)
    timeout_s = checks.check_timeout(timeout, OPERATIONS["run"])
    assert timeout_s is not None  # runs always have a deadline
    prepare_returns(returns)
    key = Key(sandbox, checks.check_preload(preload), checks.check_import_paths(import_paths), parallel_runs)
    bounds = checks.check_limits(limits)
    return Options(key, timeout_s, Limits(memory=memory).over(bounds) if memory is not None else bounds, returns)
