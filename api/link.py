"""What every handle of one host shares: the backend it talks to and what is known about it.

It is *not* a face; it has no verbs. One link per Host or AsyncHost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from procession.api.sandbox import Sandbox
from procession.ipc.core.backend import Backend
from procession.ipc.core.bounds import PARALLEL_RUNS_MAX

if TYPE_CHECKING:
    import asyncio

#: The coming default. Until confinement lands it is refused, so that nobody is confined less than they believe.
DEFAULT_SANDBOX: Final = Sandbox.standard()


class Reach(NamedTuple):
    """What a session's workers can import besides what is installed."""

    import_paths: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()

    def of_session(self, own: Reach) -> Reach:
        """Return what a session of this host reaches: its own folders besides the host's, its preloads in their place."""
        paths = dict.fromkeys((*self.import_paths, *own.import_paths))
        return Reach(tuple(paths), own.preload or self.preload)


NO_REACH: Final = Reach()


@dataclass(slots=True, eq=False)
class Link:
    """is_local: the backend is this process's own engine, which answers what it knows without waiting.

    loop: the asyncio loop that the backend lives in, None for a backend with a thread of its own.
    """

    backend: Backend
    is_local: bool
    sandbox: Sandbox = DEFAULT_SANDBOX
    reach: Reach = NO_REACH
    parallel_runs: int = PARALLEL_RUNS_MAX
    loop: asyncio.AbstractEventLoop | None = None
    closed: bool = False
