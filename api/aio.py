"""The async host: `Host`, awaited. Same verbs, parameters, records and errors; it lives in the caller's event loop.

    async with AsyncHost(...) as host:              its engine's callbacks run in this loop; no thread is made
    async with AsyncHost.connect(...) as host:      a client; closing it ends nothing

Made in a running loop it is open at once; made outside of one it opens with `async with` or `await host`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar, overload

from procession.api import verbs
from procession.api.aio_session import AsyncProcess, AsyncSession
from procession.api.bridge import AsyncFollow, backend_of, perform
from procession.api.checks import check_grace, check_import_paths, check_preload, check_session, check_since
from procession.api.core import plans
from procession.api.core.plans import Plan
from procession.api.link import DEFAULT_SANDBOX, Link, Reach
from procession.api.opening import HostSettings, forget, open_client, open_engine
from procession.api.sandbox import Sandbox
from procession.api.verbs import PathLike
from procession.ipc.core.backend import Response
from procession.ipc.core.bounds import PARALLEL_RUNS_MAX, SESSIONS_MAX
from procession.ipc.core.errors import HostLost, SessionNotFound
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import SessionRef
from procession.ipc.core.records import Event, KillReceipt, SessionStatus, Statistics

if TYPE_CHECKING:
    from procession.ipc.transport.reactor import Reactor

__all__ = ["AsyncHost", "AsyncProcess", "AsyncSession"]

T = TypeVar("T")
Opener = Callable[[asyncio.AbstractEventLoop, "Reactor"], Link]

#: Closing a host ends a hundred sessions within this: stop grace, kill and reap, several at a time.
_CLOSE_S_MAX: Final = 60.0


class AsyncHost:
    """`Host`, awaited, in the event loop that opens it; use it in an `async with`.

    data_dir: a durable folder, which other programs can `connect` to; without one it is private and gone at `close`.
    sandbox, limits, preload, import_paths: what every session of it gets unless it says otherwise. max_sessions: running at
    once. spares: session processes kept ready. parallel_runs: runs at once in one session. serve: answer clients (as a
    rule exactly when there is a data_dir). Raises StorageError, or AlreadyExists (`already_started`).
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        sandbox: Sandbox = DEFAULT_SANDBOX,
        limits: Limits | None = None,
        preload: Iterable[str] = (),
        import_paths: Iterable[str | os.PathLike[str]] = (),
        max_sessions: int = SESSIONS_MAX,
        spares: int = 0,
        parallel_runs: int = PARALLEL_RUNS_MAX,
        serve: bool | None = None,
    ) -> None:
        settings = HostSettings.check(
            data_dir, sandbox, limits, preload, import_paths, max_sessions, spares, parallel_runs, serve
        )

        def open_here(loop: asyncio.AbstractEventLoop, reactor: Reactor) -> Link:
            return Link(
                open_engine(settings, reactor), is_local=True, sandbox=sandbox, reach=settings.reach,
                parallel_runs=settings.parallel_runs, loop=loop,
            )  # fmt: skip

        self._prepare(open_here)

    @classmethod
    def connect(cls, data_dir: str | os.PathLike[str] | None = None, *, sandbox: Sandbox = DEFAULT_SANDBOX) -> Self:
        """Return a client of the host that runs on `data_dir` (as a rule the user's own); raises HostLost without one."""
        host = cls.__new__(cls)
        host._prepare(
            lambda loop, reactor: Link(open_client(data_dir, reactor), is_local=False, sandbox=sandbox, loop=loop)
        )
        return host

    def _prepare(self, opener: Opener) -> None:
        self._opener = opener
        self._opened: Link | None = None
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # it opens in the loop that first uses it
            return
        self._open()

    def _open(self) -> Link:
        """Open in the running loop, once."""
        if self._opened is None:
            from procession.ipc.transport.reactor import LoopReactor

            loop = asyncio.get_running_loop()
            reactor = LoopReactor(loop)
            try:
                self._opened = self._opener(loop, reactor)
            except BaseException:
                reactor.close()
                raise
        return self._opened

    @property
    def _link(self) -> Link:
        return self._open() if self._opened is None else self._opened

    def __repr__(self) -> str:
        link = self._opened
        state = (
            "not open yet" if link is None else "closed" if self.closed else "open" if link.is_local else "connected"
        )
        return f"<AsyncHost {state}{'' if link is None else f' {self.data_dir}'}>"

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _do(self, plan: Plan[T], undo: Callable[[Response], Plan[None]] | None = None) -> T:
        return await perform(backend_of(self._link), plan, undo=undo)

    # --- the host itself --------------------------------------------------------------------------------------------
    @property
    def data_dir(self) -> Path:
        """Where its data is."""
        return Path(getattr(self._link.backend, "data_dir", os.curdir))

    @property
    def pid(self) -> int:
        """The process that the host is in; a client's is another one's."""
        return int(getattr(self._link.backend, "pid", 0))

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        link = self._opened
        return link is not None and (link.closed or bool(getattr(link.backend, "closed", False)))

    async def close(self) -> None:
        """End every process of this host, or only the connection of a client. May be called twice."""
        link = self._opened
        if link is None or link.closed:
            return
        link.closed = True
        forget(link.backend)
        close_async: Callable[[Callable[[], None]], None] | None = getattr(link.backend, "close_async", None)
        if close_async is None:
            link.backend.close()
            return
        over = asyncio.get_running_loop().create_future()
        close_async(lambda: None if over.done() else over.set_result(None))
        await asyncio.wait([over], timeout=_CLOSE_S_MAX)  # a cancelled task does not stop the closing, only its waiting

    async def shutdown(self, grace: float | None = None) -> None:
        """End the host itself, for a client too, and close.

        A client is refused (PermissionDenied) by a host that lives inside another program: only that program ends it.
        """
        if self._link.is_local:
            check_grace(grace)
        else:
            await self._do(plans.shutdown(check_grace(grace)))
        await self.close()

    async def statistics(self) -> Statistics:
        """Return what the host has counted since it started."""
        return await self._do(plans.statistics())

    @overload
    def events(self, since: int | None = None, follow: Literal[False] = False) -> Coroutine[Any, Any, list[Event]]: ...
    @overload
    def events(self, since: int | None = None, *, follow: Literal[True]) -> AsyncFollow[Event]: ...
    def events(
        self, since: int | None = None, follow: bool = False
    ) -> Coroutine[Any, Any, list[Event]] | AsyncFollow[Event]:
        """Await it for the events after number `since`; with `follow`, an async iterator that goes on with what comes."""
        if not follow:
            return self._do(plans.events("", check_since(since)))
        return AsyncFollow(
            backend_of(self._link), plans.follow("events", "", since=check_since(since), call=None), None
        )

    # --- sessions ---------------------------------------------------------------------------------------------------
    async def start_session(
        self,
        project: PathLike | None = None,
        *,
        name: str | None = None,
        sandbox: Sandbox | None = None,
        limits: Limits | None = None,
        restart: Literal["permanent", "transient", "temporary"] = "transient",
        exclusive: bool = True,
        preload: Iterable[str] = (),
        import_paths: Iterable[PathLike] = (),
        parallel_runs: int | None = None,
    ) -> AsyncSession:
        """Start a session in `project`, or in a folder of its own, and return its handle once it is ready.

        restart: when a process that ended is replaced. exclusive: refuse a second session in the same folder. Raises
        AlreadyExists, SessionLimitReached, SandboxUnavailable, StartFailed.
        """
        preload, import_paths = check_preload(preload), check_import_paths(import_paths)
        body = verbs.start_body(
            self._link, project, name=name, sandbox=sandbox, limits=limits, restart=restart, exclusive=exclusive,
            preload=preload, import_paths=import_paths, parallel_runs=parallel_runs,
        )  # fmt: skip
        return self._session(await self._do(plans.start_session(body), _remove_started), Reach(import_paths, preload))

    async def get_or_start_session(
        self,
        name: str,
        project: PathLike | None = None,
        *,
        sandbox: Sandbox | None = None,
        limits: Limits | None = None,
        restart: Literal["permanent", "transient", "temporary"] = "transient",
        exclusive: bool = True,
        preload: Iterable[str] = (),
        import_paths: Iterable[PathLike] = (),
        parallel_runs: int | None = None,
    ) -> AsyncSession:
        """Return the session of that name, starting it when there is none; then the other arguments count.

        A name that several sessions hold is an InvalidRequest (`ambiguous_name`); one that was stopped holds none.
        """
        preload, import_paths = check_preload(preload), check_import_paths(import_paths)
        body = verbs.start_body(
            self._link, project, name=check_session(name), sandbox=sandbox, limits=limits, restart=restart,
            exclusive=exclusive, preload=preload, import_paths=import_paths, parallel_runs=parallel_runs, existing=True,
        )  # fmt: skip
        return self._session(await self._do(plans.start_session(body)), Reach(import_paths, preload))

    @asynccontextmanager
    async def temporary_session(
        self,
        project: PathLike | None = None,
        *,
        sandbox: Sandbox | None = None,
        limits: Limits | None = None,
        preload: Iterable[str] = (),
        import_paths: Iterable[PathLike] = (),
        parallel_runs: int | None = None,
    ) -> AsyncIterator[AsyncSession]:
        """Give a session with a folder of its own for the time of a `with`; afterwards nothing of it is left."""
        preload, import_paths = check_preload(preload), check_import_paths(import_paths)
        body = verbs.start_body(
            self._link, project, name=None, sandbox=sandbox, limits=limits, restart="transient", exclusive=True,
            preload=preload, import_paths=import_paths, parallel_runs=parallel_runs, temporary=True,
        )  # fmt: skip
        session = self._session(
            await self._do(plans.start_session(body), _remove_started), Reach(import_paths, preload)
        )
        try:
            yield session
        finally:
            try:
                await self._do(plans.remove_session(session.id))
            except (SessionNotFound, HostLost):  # removed already, or gone with its host
                pass

    async def session(self, id_or_name: str) -> AsyncSession:
        """Return the handle of a session; raises SessionNotFound.

        A name means the session that holds it, and a stopped one only when none does; several are an InvalidRequest
        (`ambiguous_name`) that lists them. So it is with every verb here that takes a name.
        """
        return self._session(await self._do(plans.find_session(check_session(id_or_name))))

    async def list_sessions(self, all: bool = False) -> list[SessionStatus]:
        """List the sessions; with `all` those that were stopped too."""
        return await self._do(plans.list_sessions(every=bool(all)))

    async def stop_session(self, id_or_name: str, grace: float | None = None) -> KillReceipt:
        """End a session for good, after `grace` seconds by force; `resume_session` brings it back."""
        return await self._do(plans.stop(check_session(id_or_name), check_grace(grace)))

    async def resume_session(self, id_or_name: str) -> AsyncSession:
        """Bring a stopped or failed session back; a name means a stopped one first."""
        return self._session(await self._do(plans.resume_session(check_session(id_or_name))))

    async def remove_session(self, id_or_name: str) -> None:
        """End a session and delete its data."""
        await self._do(plans.remove_session(check_session(id_or_name)))

    def _session(self, ref: SessionRef, reach: Reach | None = None) -> AsyncSession:
        return AsyncSession(self._link, ref.id, ref.name, self._link.reach.of_session(reach or Reach()))


def _remove_started(response: Response) -> Plan[None]:
    """Undo a start whose caller has been cancelled: nobody has a handle of that session."""
    ref: SessionRef = plans.read_ref(response)
    return plans.remove_session(ref.id)
