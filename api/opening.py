"""How a host is opened: settings checked, then an engine of this process or a client of another one's.

Imports the host room only when a host is opened, so that naming a face costs nothing. A host that is still open when the
program ends is closed then: nothing of it is left, its temporary folder included.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from procession.api import checks
from procession.api.link import Reach, Tool
from procession.api.sandbox import Sandbox
from procession.ipc.core.backend import Backend
from procession.ipc.core.bounds import HIBERNATE_AFTER_S, RECYCLE_ABOVE_BYTES
from procession.ipc.core.limits import Limits

if TYPE_CHECKING:
    from procession.api.reconnecting import ReconnectingBackend
    from procession.host.engine import Engine
    from procession.host.options import Restore
    from procession.ipc.core.messages import SessionDefaults
    from procession.ipc.core.operations import Durability
    from procession.ipc.transport.reactor import Reactor


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What a host is opened with, checked."""

    data_dir: Path | None
    sandbox: str
    limits: Limits
    reach: Reach
    max_sessions: int
    spares: int
    parallel_runs: int
    serve: bool | None
    tools: Mapping[str, Tool]
    tool_rates: Mapping[str, int]
    defaults: SessionDefaults
    durability: Durability
    restore: Restore
    hibernate_after_s: float | None
    recycle_above: int | None

    @classmethod
    def check(
        cls,
        data_dir: str | os.PathLike[str] | None,
        sandbox: Sandbox,
        limits: Limits | None,
        preload: Iterable[str],
        import_paths: Iterable[str | os.PathLike[str]],
        max_sessions: int,
        spares: int,
        parallel_runs: int,
        serve: bool | None,
        tools: Iterable[Tool],
        tool_rates: Mapping[str, int] | None,
        default_language: str | None,
        default_config: Mapping[str, object] | None,
        durability: Durability = "batch",
        restore: Restore = "lazy",
        hibernate_after: float | None = HIBERNATE_AFTER_S,
        recycle_above: int | str | None = RECYCLE_ABOVE_BYTES,
    ) -> HostSettings:
        """Check the arguments of a host; raises InvalidRequest."""
        folder = checks.check_data_dir(data_dir)
        return cls(
            None if folder is None else Path(folder),
            checks.check_sandbox(sandbox),
            checks.check_limits(limits),
            Reach(checks.check_import_paths(import_paths), checks.check_preload(preload)),
            checks.check_count("max_sessions", max_sessions),
            checks.check_count("spares", spares, least=0),
            checks.check_count("parallel_runs", parallel_runs),
            serve,
            checks.check_tools(tools),
            checks.check_tool_rates(tool_rates),
            checks.check_defaults(default_language, default_config),
            checks.check_durability(durability),
            checks.check_restore(restore),
            checks.check_hibernate_after(hibernate_after, of_host=True),
            checks.check_recycle_above(recycle_above, of_host=True),
        )


def open_engine(settings: HostSettings, reactor: Reactor | None = None) -> Engine:
    """Open a host in this process; raises StorageError or AlreadyExists."""
    from procession.host.engine import Engine
    from procession.host.options import HostOptions, with_tools

    options = HostOptions(
        data_dir=settings.data_dir,
        sandbox=settings.sandbox,
        limits=settings.limits,
        preload=with_tools(settings.reach.preload) if settings.tools else settings.reach.preload,
        import_paths=settings.reach.import_paths,
        max_sessions=settings.max_sessions,
        spares=settings.spares,
        parallel_runs=settings.parallel_runs,
        serve=settings.serve,
        tool_rates=settings.tool_rates,
        defaults=settings.defaults,
        durability=settings.durability,
        restore=settings.restore,
        hibernate_after_s=settings.hibernate_after_s,
        recycle_above=settings.recycle_above,
    )
    engine = Engine(options, reactor)
    _open_engines.add(engine)
    return engine


def forget(backend: Backend) -> None:
    """Take note that a backend is closed, or about to be."""
    _open_engines.discard(backend)


def _close_at_exit() -> None:
    """Close what the program left open; a loop that is closed already can only be gone without."""
    while _open_engines:
        engine = _open_engines.pop()
        try:
            engine.close()
        except (RuntimeError, OSError):
            pass


_open_engines: set[Backend] = set()
atexit.register(_close_at_exit)
os.register_at_fork(after_in_child=_open_engines.clear)


def open_client(data_dir: str | os.PathLike[str] | None, reactor: Reactor | None = None) -> ReconnectingBackend:
    """Connect to the host of another process; raises HostLost when there is none."""
    from procession.api.reconnecting import ReconnectingBackend
    from procession.host.paths import default_data_dir

    given = checks.check_data_dir(data_dir)
    return ReconnectingBackend(default_data_dir() if given is None else Path(given), reactor)
