"""What every handle of one host shares: the backend it talks to and what is known about it.

It is *not* a face; it has no verbs. One link per Host or AsyncHost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from procession.api.sandbox import Sandbox
from procession.ipc.core.backend import Backend
from procession.ipc.core.bounds import PARALLEL_RUNS_MAX
from procession.ipc.core.errors import PermissionDenied

if TYPE_CHECKING:
    import asyncio

    from procession.ipc.core.messages import SessionDefaults
    from procession.ipc.core.tool_table import SentTool

#: The coming default. Until confinement lands it is refused, so that nobody is confined less than they believe.
DEFAULT_SANDBOX: Final = Sandbox.standard()


#: Of a host, sessions whose own tools are remembered; of one that is forgotten, results come back as plain data.
SESSIONS_WITH_TOOLS_MAX: Final = 10_000

Tool = Callable[..., object]


class Reach(NamedTuple):
    """What a session's workers can import besides what is installed."""

    import_paths: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()

    def of_session(self, own: Reach) -> Reach:
        """Return what a session of this host reaches: its own folders besides the host's, its preloads in their place."""
        paths = dict.fromkeys((*self.import_paths, *own.import_paths))
        return Reach(tuple(paths), own.preload or self.preload)


NO_REACH: Final = Reach()


class KnownTools:
    """Which tools of the program's own its sessions have: how the results of those are read."""

    __slots__ = ("_of_session", "of_host", "packed")

    def __init__(self, of_host: Mapping[str, Tool] = MappingProxyType({})) -> None:
        self.of_host = of_host
        self.packed: dict[Reach, tuple[SentTool, ...]] = {}
        self._of_session: OrderedDict[str, Mapping[str, Tool]] = OrderedDict()

    def add(self, session: str, tools: Mapping[str, Tool]) -> None:
        """Remember a session's own; of many sessions, those that were started last."""
        if tools:
            self._of_session[session] = tools
            if len(self._of_session) > SESSIONS_WITH_TOOLS_MAX:
                self._of_session.popitem(last=False)

    def share(self, session: str, other: str) -> None:
        """Remember that a session has the tools that another one has."""
        self.add(session, self._of_session.get(other, {}))

    def returns(self, session: str, name: object) -> object:
        """Return what a tool says that it returns; None for one that says nothing, or is not known here."""
        if not isinstance(name, str):  # refused a moment later, by name
            return None
        tool = self._of_session.get(session, {}).get(name) or self.of_host.get(name)
        if tool is None:
            return None
        from procession.api.results import annotation_of

        return annotation_of(tool)


@dataclass(slots=True, eq=False)
class Link:
    """is_local: the backend is this process's own engine, which answers what it knows without waiting.

    loop: the asyncio loop that the backend lives in, None for a backend with a thread of its own. partition: whose names are
    meant, None for the host itself. defaults: of its sessions.
    """

    backend: Backend
    is_local: bool
    sandbox: Sandbox = DEFAULT_SANDBOX
    reach: Reach = NO_REACH
    parallel_runs: int = PARALLEL_RUNS_MAX
    loop: asyncio.AbstractEventLoop | None = None
    closed: bool = False
    partition: str | None = None
    defaults: SessionDefaults = ()
    tools: KnownTools = field(default_factory=KnownTools)


def check_whole(link: Link) -> None:
    """Refuse to end a host by a view of it."""
    if link.partition is not None:
        raise PermissionDenied(
            f"the partition {link.partition!r} is a view of a host and does not end it", hint="end the host itself"
        )
