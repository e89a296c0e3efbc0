# ruff: noqa: ASYNC109 - `timeout` is the deadline that the sessions keep, the same parameter as the sync face's
"""The async host: `Host`, awaited. Same verbs, parameters, records and errors; it lives in the caller's event loop.

    async with AsyncHost(...) as host:              its engine's callbacks run in this loop; no thread is made
    async with AsyncHost.connect(...) as host:      a client; closing it ends nothing

Made in a running loop it is open at once; made outside of one it opens with `async with` or `await host`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar, overload

from procession.api import lookup, verbs
from procession.api.aio_awaiting import all_finished, one_finished
from procession.api.aio_pool import AsyncWorkerPool
from procession.api.aio_session import AsyncProcess, AsyncSession
from procession.api.bridge import AsyncFollow, backend_of, perform
from procession.api.checks import (
    check_count,
    check_grace,
    check_import_paths,
    check_partition,
    check_preload,
    check_session,
    check_sessions,
    check_since,
    check_text,
    check_timeout,
)
from procession.api.core import plans
from procession.api.core.plans import Plan
from procession.api.link import DEFAULT_SANDBOX, KnownTools, Link, Reach, Tool, check_whole
from procession.api.opening import HostSettings, forget, open_client, open_engine
from procession.api.pool import pool_book
from procession.api.sandbox import Sandbox
from procession.api.verbs import PathLike
from procession.ipc.core.agent_records import Finished
from procession.ipc.core.backend import Response
from procession.ipc.core.bounds import (
    AWAIT_TIMEOUT_S,
    HIBERNATE_AFTER_S,
    PARALLEL_RUNS_MAX,
    RECYCLE_ABOVE_BYTES,
    SESSIONS_MAX,
)
from procession.ipc.core.errors import HostLost, SessionNotFound
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import OPERATIONS, Durability, SessionRef
from procession.ipc.core.records import AuditEntry, Event, KillReceipt, SessionStatus, Statistics

if TYPE_CHECKING:
    from procession.agent_proc.agent.agent import Agent
    from procession.agent_proc.agent.turn import Turn
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
        tools: Iterable[Tool] = (),
        tool_rates: Mapping[str, int] | None = None,
        default_language: str | None = None,
        default_config: Mapping[str, object] | None = None,
        durability: Durability = "batch",
        restore: Literal["lazy", "eager"] = "lazy",
        hibernate_after: float | None = HIBERNATE_AFTER_S,
        recycle_above: int | str | None = RECYCLE_ABOVE_BYTES,
    ) -> None:
        settings = HostSettings.check(
            data_dir, sandbox, limits, preload, import_paths, max_sessions, spares, parallel_runs, serve,
            tools, tool_rates, default_language, default_config, durability, restore, hibernate_after, recycle_above,
        )  # fmt: skip

        def open_here(loop: asyncio.AbstractEventLoop, reactor: Reactor) -> Link:
            return Link(
                open_engine(settings, reactor), is_local=True, sandbox=sandbox, reach=settings.reach,
                parallel_runs=settings.parallel_runs, loop=loop, tools=KnownTools(settings.tools),
                defaults=settings.defaults,
            )  # fmt: skip

        self._prepare(open_here)

    @classmethod
    def connect(cls, data_dir: str | os.PathLike[str] | None = None, *, sandbox: Sandbox = DEFAULT_SANDBOX) -> Self:
        """Return a client of the host that runs on `data_dir` (as a rule the user's own); raises HostLost without one.

        sandbox: of the sessions that this client starts and that name none themselves; it does not take over its host's.
        """
        host = cls.__new__(cls)

        def connect_here(loop: asyncio.AbstractEventLoop, reactor: Reactor) -> Link:
            backend = open_client(data_dir, reactor)
            return Link(backend, is_local=False, sandbox=sandbox, loop=loop, defaults=backend.defaults)

        host._prepare(connect_here)
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
        """End every process of this host, or only the connection of a client, or nothing of a view. May be called twice."""
        link = self._opened
        if link is None or link.closed:
            return
        link.closed = True
        if link.partition is not None:
            return
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

        A client is refused (PermissionDenied) by a host that lives inside another program: only that program ends it. So is a
        view.
        """
        check_whole(self._link)
        if self._link.is_local:
            check_grace(grace)
        else:
            await self._do(plans.shutdown(check_grace(grace)))
        await self.close()

    async def restart_host(self) -> None:
        """Have the host of another process, one of `procession up`, start again in its place, with the sessions that are up.

        It answers before it does; what is asked of it then waits until it is back. A host inside another program refuses
        (PermissionDenied), and so does a view.
        """
        check_whole(self._link)
        await self._do(plans.restart_host())

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

    async def audit(
        self, session: str | None = None, *, tool: str | None = None, limit: int = 1000
    ) -> list[AuditEntry]:
        """Return the last calls of tools that models chose, newest first, of one session or tool if given; 10 000 are kept.

        Raises InvalidRequest (invalid_limit), SessionNotFound.
        """
        from procession.api import tool_plans

        ident = "" if session is None else await self._id_of(session)
        wanted = None if tool is None else check_text("tool", tool)
        return await self._do(
            tool_plans.audit(ident, wanted, check_count("limit", limit, least=0, code="invalid_limit"))
        )

    def partition(self, name: str) -> Self:
        """Return a view of this host whose sessions have names of their own, for one of several tenants.

        It is a host to whoever uses it: it starts, finds, lists and pools its own sessions and sees no others; an agent of one
        reaches only those. What the host has for all is shared: limits, folders, events. Closing a view ends nothing.
        """
        view = type(self).__new__(type(self))
        view._opener = self._opener
        view._opened = replace(self._link, partition=check_partition(name))
        return view

    # --- sessions ---------------------------------------------------------------------------------------------------
    async def start_session(
        self,
        project: PathLike | None = None,
        *,
        name: str | None = None,
        agent: type[Agent[Any]] | str | None = None,
        state: Mapping[str, object] | None = None,
        language: str | None = None,
        config: Mapping[str, object] | None = None,
        session_id: str | None = None,
        responder: Callable[[Turn], object] | None = None,
        tools: Iterable[Tool] = (),
        sandbox: Sandbox | None = None,
        limits: Limits | None = None,
        restart: Literal["permanent", "transient", "temporary"] = "transient",
        idle_timeout: float | None = None,
        hibernate_after: float | Literal["host"] | None = "host",
        recycle_above: int | str | None = "host",
        durability: Durability | None = None,
        exclusive: bool = True,
        preload: Iterable[str] = (),
        import_paths: Iterable[PathLike] = (),
        parallel_runs: int | None = None,
    ) -> AsyncSession:
        """Start a session in `project`, or in a folder of its own, and return its handle once it is ready.

        agent: a class of your own, or "module:Class"; without one it is a code session, with messages, todos and memories.
        state: what an agent of your own begins with, by the names of its fields.
        responder: who answers `send_message`; a function of a Turn that returns the text, or pieces of it: a list, a
            generator, an async generator; it may be async itself. It runs in a worker of the session. Code sessions only.
        tools: functions with @tool, besides the host's and the built-in ones.
        config: provider, model, temperature, max_tokens of a code session; the host's defaults are merged under it.
        language: of a code session's project; found out by its files unless given.
        import_paths: folders that its code may import from, read-only. preload: modules imported once, before it starts.
        exclusive: refuse a second session in the same folder.
        restart: when a process that ended is replaced: transient (after a crash), permanent (after any end), temporary (never).
        durability: when a change of it is acknowledged, if not as the host says: see `using`.
        idle_timeout: seconds without anything to do after which it is stopped. parallel_runs: runs in it at once.
        hibernate_after: seconds without anything to do after which it gives its process back; it wakes on the next call. None:
            never by itself. recycle_above: bytes, or "256M", of memory above which its process is replaced when it is quiet.
            None: however many; either is what the host says unless it is given.

        Raises InvalidRequest, AlreadyExists, SessionLimitReached, SandboxUnavailable, StartFailed.
        """
        preload, import_paths = check_preload(preload), check_import_paths(import_paths)
        body = verbs.start_body(
            self._link, project, name=name, sandbox=sandbox, limits=limits, restart=restart, exclusive=exclusive,
            preload=preload, import_paths=import_paths, parallel_runs=parallel_runs,
            agent=agent, state=state, language=language, config=config, session_id=session_id,
            responder=responder, tools=tools, idle_timeout=idle_timeout,
            hibernate_after=hibernate_after, recycle_above=recycle_above, durability=durability,
        )  # fmt: skip
        return self._session(
            await self._do(plans.start_session(body), plans.remove_started), Reach(import_paths, preload)
        )

    async def get_or_start_session(
        self,
        name: str,
        project: PathLike | None = None,
        *,
        agent: type[Agent[Any]] | str | None = None,
        state: Mapping[str, object] | None = None,
        language: str | None = None,
        config: Mapping[str, object] | None = None,
        session_id: str | None = None,
        responder: Callable[[Turn], object] | None = None,
        tools: Iterable[Tool] = (),
        sandbox: Sandbox | None = None,
        limits: Limits | None = None,
        restart: Literal["permanent", "transient", "temporary"] = "transient",
        idle_timeout: float | None = None,
        hibernate_after: float | Literal["host"] | None = "host",
        recycle_above: int | str | None = "host",
        durability: Durability | None = None,
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
            agent=agent, state=state, language=language, config=config, session_id=session_id,
            responder=responder, tools=tools, idle_timeout=idle_timeout,
            hibernate_after=hibernate_after, recycle_above=recycle_above, durability=durability,
        )  # fmt: skip
        return self._session(await self._do(plans.start_session(body)), Reach(import_paths, preload))

    async def import_session(
        self,
        path: PathLike,
        *,
        name: str | None = None,
        project: PathLike | None = None,
        session_id: str | None = None,
        trust_code: bool = False,
        start: bool = True,
        sandbox: Sandbox | None = None,
    ) -> AsyncSession:
        """Make a session of what AsyncSession.export wrote, and return its handle once it is ready.

        It has an id of its own unless session_id says one that is free, its old name unless name says another, and works in
        `project`, or in a folder of its own: never in the one it had. Its agent's state is as it was; the record in it says what
        is true of the new session. It is confined as this host's sessions are, or as sandbox says, whatever it was before.

        trust_code: an archive may hold, or name, code that its session runs: an agent of a program's own, a responder, tools,
            modules to import. Whoever imports it runs that code, so it is refused unless this is True. An archive of a plain
            code session holds data only and needs no trust. start: False leaves the session down, and its next call starts it.

        Raises InvalidRequest (not_an_archive, archive_damaged, archive_too_new, ...), PermissionDenied (untrusted_code),
        AlreadyExists, SessionLimitReached, StartFailed.
        """
        from procession.api import moves

        source, data = await asyncio.to_thread(moves.read_archive, path)
        body = moves.import_body(
            self._link, source, name=name, project=project, session_id=session_id, trust_code=trust_code, start=start,
            sandbox=sandbox,
        )  # fmt: skip
        return self._session(await self._do(plans.import_session(body, data), plans.remove_started))

    async def pool(
        self,
        *,
        agent: type[Agent[Any]] | str | None = None,
        size: int = 5,
        overflow: int = 0,
        strategy: Literal["lifo", "fifo"] = "lifo",
        state: Mapping[str, object] | None = None,
        tools: Iterable[Tool] = (),
        sandbox: Sandbox | None = None,
        limits: Limits | None = None,
        preload: Iterable[str] = (),
        import_paths: Iterable[PathLike] = (),
        parallel_runs: int | None = None,
    ) -> AsyncWorkerPool:
        """Start `size` sessions, all alike, and return the pool that lends them.

        overflow: how many more may be started while all are busy, and are ended when they are not needed. strategy: lend the
        worker that was given back last (lifo), or first (fifo). Raises as `start_session`; then nothing is left of it.
        """
        book = pool_book(size, overflow, strategy)
        preload, import_paths = check_preload(preload), check_import_paths(import_paths)
        reach = Reach(import_paths, preload)

        def plan() -> Plan[SessionRef]:
            body = verbs.start_body(
                self._link, None, name=None, sandbox=sandbox, limits=limits, restart="transient", exclusive=True,
                preload=preload, import_paths=import_paths, parallel_runs=parallel_runs, agent=agent, state=state, tools=tools,
            )  # fmt: skip
            return plans.start_session(body)

        async def start() -> AsyncSession:
            return self._session(await self._do(plan(), plans.remove_started), reach)

        pool = AsyncWorkerPool(book, start, self.remove_session)
        started = await asyncio.gather(*(start() for _ in range(size)), return_exceptions=True)
        for worker in started:
            if isinstance(worker, AsyncSession):
                pool.add(worker)
        failed = [worker for worker in started if isinstance(worker, BaseException)]
        if failed:
            await pool.close()
            raise failed[0]
        return pool

    @asynccontextmanager
    async def temporary_session(
        self,
        project: PathLike | None = None,
        *,
        agent: type[Agent[Any]] | str | None = None,
        state: Mapping[str, object] | None = None,
        language: str | None = None,
        config: Mapping[str, object] | None = None,
        session_id: str | None = None,
        responder: Callable[[Turn], object] | None = None,
        tools: Iterable[Tool] = (),
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
            agent=agent, state=state, language=language, config=config, session_id=session_id,
            responder=responder, tools=tools,
        )  # fmt: skip
        session = self._session(
            await self._do(plans.start_session(body), plans.remove_started), Reach(import_paths, preload)
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
        return self._session(await self._find(id_or_name))

    async def get_session(self, session_id: str) -> AsyncSession:
        """Return the handle of the session with this whole id, stopped or not; raises SessionNotFound."""
        ident = lookup.exact_id(session_id)
        return self._session(await self._find(ident))

    async def get_session_by_path(self, path: PathLike) -> AsyncSession:
        """Return the handle of the session that works in this folder, by any of its names; the oldest of several.

        Stopped sessions hold no folder. Raises SessionNotFound; InvalidRequest (path_not_found, path_not_directory).
        """
        return self._session(lookup.by_path(await self.list_sessions(), path))

    async def lookup_by_name(self, name: str) -> AsyncSession:
        """Return the handle of the session of this name, the oldest of several; stopped ones are left out.

        Raises SessionNotFound. `session` refuses a name that several have.
        """
        return self._session(lookup.by_name(await self.list_sessions(), name, self._link.partition))

    async def list_sessions(self, all: bool = False) -> list[SessionStatus]:
        """List the sessions; with `all` those that were stopped too."""
        return await self._do(plans.list_sessions(every=bool(all), partition=self._link.partition))

    async def await_all(
        self, sessions: Iterable[AsyncSession], *, timeout: float = AWAIT_TIMEOUT_S
    ) -> dict[AsyncSession, Finished]:
        """Wait until the agents of all these sessions are finished, and return how each is; of none, at once.

        Raises the error of the first that cannot be any more, with its session, or CallTimedOut; the agents go on.
        """
        return await all_finished(self._waits(sessions, timeout))

    async def await_any(
        self, sessions: Iterable[AsyncSession], *, timeout: float = AWAIT_TIMEOUT_S
    ) -> tuple[AsyncSession, Finished]:
        """Wait until the agent of one of these sessions is finished, and return which and how; the others go on.

        Raises as `await_all`, and CallTimedOut at once when there is nobody to wait for.
        """
        return await one_finished(self._waits(sessions, timeout))

    def _waits(
        self, sessions: Iterable[AsyncSession], timeout: float
    ) -> dict[AsyncSession, Coroutine[Any, Any, Finished]]:
        timeout_s = check_timeout(timeout, OPERATIONS["await_result"])
        asked = check_sessions(sessions, AsyncSession)
        return {one: one._do(plans.await_completion(one.id, timeout_s)) for one in asked}

    async def stop_session(self, id_or_name: str, grace: float | None = None) -> KillReceipt:
        """End a session for good, after `grace` seconds by force; `resume_session` brings it back."""
        return await self._do(plans.stop(await self._id_of(id_or_name), check_grace(grace)))

    async def resume_session(self, id_or_name: str) -> AsyncSession:
        """Bring a stopped or failed session back; a name means a stopped one first."""
        return self._session(await self._do(plans.resume_session(await self._id_of(id_or_name, stopped_first=True))))

    async def remove_session(self, id_or_name: str) -> None:
        """End a session and delete its data."""
        await self._do(plans.remove_session(await self._id_of(id_or_name)))

    async def _find(self, id_or_name: str, *, stopped_first: bool = False) -> SessionRef:
        plan = plans.find_session(check_session(id_or_name), self._link.partition, stopped_first=stopped_first)
        return await self._do(plan)

    async def _id_of(self, id_or_name: str, *, stopped_first: bool = False) -> str:
        """Return what the host understands: a name of a partition is only one there."""
        if self._link.partition is None:
            return check_session(id_or_name)
        return (await self._find(id_or_name, stopped_first=stopped_first)).id

    def _session(self, ref: SessionRef, reach: Reach | None = None) -> AsyncSession:
        return AsyncSession(self._link, ref.id, ref.name, self._link.reach.of_session(reach or Reach()))
