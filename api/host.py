"""The sync host: it starts sessions, lists them and ends them. The front door of the package.

    Host()                 private: a temporary folder, gone at close
    Host(data_dir=...)     durable: takes the folder's lock, answers clients on its control socket
    Host.connect(...)      a client of the host that `procession up` or another program runs; closing it ends nothing

Open at once; `close()` or `with` ends every process it started. Methods may be called from any thread. In a process forked
from this one every call raises HostLost.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar, overload

from procession.api import verbs
from procession.api.checks import check_grace, check_import_paths, check_preload, check_session, check_since
from procession.api.core import plans
from procession.api.core.plans import Plan
from procession.api.follow import Follow
from procession.api.link import DEFAULT_SANDBOX, Link, Reach
from procession.api.opening import HostSettings, forget, open_client, open_engine
from procession.api.sandbox import Sandbox
from procession.api.session import Session
from procession.api.verbs import PathLike
from procession.ipc.core.bounds import PARALLEL_RUNS_MAX, SESSIONS_MAX
from procession.ipc.core.errors import HostLost, SessionNotFound
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import SessionRef
from procession.ipc.core.records import Event, KillReceipt, SessionStatus, Statistics

T = TypeVar("T")


class Host:
    """The processes of this program's sessions: starts sessions, finds, lists and ends them; use it in a `with`.

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
        engine = open_engine(settings)
        self._link = Link(
            engine, is_local=True, sandbox=sandbox, reach=settings.reach, parallel_runs=settings.parallel_runs
        )

    @classmethod
    def connect(cls, data_dir: str | os.PathLike[str] | None = None, *, sandbox: Sandbox = DEFAULT_SANDBOX) -> Self:
        """Return a client of the host that runs on `data_dir` (as a rule the user's own); raises HostLost without one."""
        host = cls.__new__(cls)
        host._link = Link(open_client(data_dir), is_local=False, sandbox=sandbox)
        return host

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open" if self._link.is_local else "connected"
        return f"<Host {state} {self.data_dir}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _do(self, plan: Plan[T]) -> T:
        return plan.finish(self._link.backend.call(plan.request))

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
        return self._link.closed or bool(getattr(self._link.backend, "closed", False))

    def close(self) -> None:
        """End every process of this host, or only the connection of a client. May be called twice."""
        self._link.closed = True
        forget(self._link.backend)
        self._link.backend.close()

    def shutdown(self, grace: float | None = None) -> None:
        """End the host itself, for a client too, and close.

        A client is refused (PermissionDenied) by a host that lives inside another program: only that program ends it.
        """
        if self._link.is_local:
            check_grace(grace)
        else:
            self._do(plans.shutdown(check_grace(grace)))
        self.close()

    def statistics(self) -> Statistics:
        """Return what the host has counted since it started."""
        return self._do(plans.statistics())

    @overload
    def events(self, since: int | None = None, follow: Literal[False] = False) -> list[Event]: ...
    @overload
    def events(self, since: int | None = None, *, follow: Literal[True]) -> Follow[Event]: ...
    def events(self, since: int | None = None, follow: bool = False) -> list[Event] | Follow[Event]:
        """Return the events after number `since`, or an iterator that goes on with what comes."""
        if not follow:
            return self._do(plans.events("", check_since(since)))
        return Follow(self._link.backend, plans.follow("events", "", since=check_since(since), call=None), None)

    # --- sessions ---------------------------------------------------------------------------------------------------
    def start_session(
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
    ) -> Session:
        """Start a session in `project`, or in a folder of its own, and return its handle once it is ready.

        restart: when a process that ended is replaced. exclusive: refuse a second session in the same folder. Raises
        AlreadyExists, SessionLimitReached, SandboxUnavailable, StartFailed.
        """
        preload, import_paths = check_preload(preload), check_import_paths(import_paths)
        body = verbs.start_body(
            self._link, project, name=name, sandbox=sandbox, limits=limits, restart=restart, exclusive=exclusive,
            preload=preload, import_paths=import_paths, parallel_runs=parallel_runs,
        )  # fmt: skip
        return self._session(self._do(plans.start_session(body)), Reach(import_paths, preload))

    def get_or_start_session(
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
    ) -> Session:
        """Return the session of that name, starting it when there is none; then the other arguments count.

        A name that several sessions hold is an InvalidRequest (`ambiguous_name`); one that was stopped holds none.
        """
        preload, import_paths = check_preload(preload), check_import_paths(import_paths)
        body = verbs.start_body(
            self._link, project, name=check_session(name), sandbox=sandbox, limits=limits, restart=restart,
            exclusive=exclusive, preload=preload, import_paths=import_paths, parallel_runs=parallel_runs, existing=True,
        )  # fmt: skip
        return self._session(self._do(plans.start_session(body)), Reach(import_paths, preload))

    @contextmanager
    def temporary_session(
        self,
        project: PathLike | None = None,
        *,
        sandbox: Sandbox | None = None,
        limits: Limits | None = None,
        preload: Iterable[str] = (),
        import_paths: Iterable[PathLike] = (),
        parallel_runs: int | None = None,
    ) -> Iterator[Session]:
        """Give a session with a folder of its own for the time of a `with`; afterwards nothing of it is left."""
        preload, import_paths = check_preload(preload), check_import_paths(import_paths)
        body = verbs.start_body(
            self._link, project, name=None, sandbox=sandbox, limits=limits, restart="transient", exclusive=True,
            preload=preload, import_paths=import_paths, parallel_runs=parallel_runs, temporary=True,
        )  # fmt: skip
        session = self._session(self._do(plans.start_session(body)), Reach(import_paths, preload))
        try:
            yield session
        finally:
            try:
                self._do(plans.remove_session(session.id))
            except (SessionNotFound, HostLost):  # removed already, or gone with its host
                pass

    def session(self, id_or_name: str) -> Session:
        """Return the handle of a session; raises SessionNotFound.

        A name means the session that holds it, and a stopped one only when none does; several are an InvalidRequest
        (`ambiguous_name`) that lists them. So it is with every verb here that takes a name.
        """
        return self._session(self._do(plans.find_session(check_session(id_or_name))))

    def list_sessions(self, all: bool = False) -> list[SessionStatus]:
        """List the sessions; with `all` those that were stopped too."""
        return self._do(plans.list_sessions(every=bool(all)))

    def stop_session(self, id_or_name: str, grace: float | None = None) -> KillReceipt:
        """End a session for good, after `grace` seconds by force; `resume_session` brings it back."""
        return self._do(plans.stop(check_session(id_or_name), check_grace(grace)))

    def resume_session(self, id_or_name: str) -> Session:
        """Bring a stopped or failed session back; a name means a stopped one first."""
        return self._session(self._do(plans.resume_session(check_session(id_or_name))))

    def remove_session(self, id_or_name: str) -> None:
        """End a session and delete its data."""
        self._do(plans.remove_session(check_session(id_or_name)))

    def _session(self, ref: SessionRef, reach: Reach | None = None) -> Session:
        return Session(self._link, ref.id, ref.name, self._link.reach.of_session(reach or Reach()))
