"""What a host is opened with: one frozen value. Checking what users wrote is the face's business (api/checks.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from procession.ipc.core.bounds import HIBERNATE_AFTER_S, PARALLEL_RUNS_MAX, RECYCLE_ABOVE_BYTES, SESSIONS_MAX
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.limits import Limits
from procession.ipc.core.messages import SessionDefaults
from procession.ipc.core.operations import DURABILITIES, Durability

TOOLS_PRELOAD: Final = ("procession.agent_proc.tool_jobs", "procession.agent_proc.pydantic_preload")
"""What the zygote of sessions with tools of the program's own has besides: loading it in each worker would take 0.1 s a call."""


def with_tools(preload: tuple[str, ...]) -> tuple[str, ...]:
    """Return `preload` and what tools need."""
    return (*preload, *(module for module in TOOLS_PRELOAD if module not in preload))


Restore = Literal["lazy", "eager"]
RESTORES: Final[tuple[Restore, ...]] = ("lazy", "eager")


@dataclass(frozen=True, slots=True)
class HostOptions:
    """Options of one host; everything has a default.

    data_dir: the durable folder, None for a private one that is gone at close. sandbox: of sessions that do not say.
    limits: of runs that do not say. preload: modules imported once, in the zygote. import_paths: folders made
    importable in workers. max_sessions: processes at once. spares: sessions forked in advance. parallel_runs: of one
    session. serve: whether to open the control socket; None means when there is a data_dir. tool_rates: tier to calls of one
    tool in a minute, for calls that a model chose. defaults: what the faces put under what a session says. program: who
    opened it, for people to read. durability: when a change of a session that says nothing is acknowledged, on a host with a
    data_dir. restore: whether sessions of a former host that were up are started at once (eager), or by their next call.
    hibernate_after_s: of a session with nothing to do, that does not say; None: never, and not for another one's sake either.
    recycle_above: bytes of memory of a session's process that does not say; None: however many.
    """

    data_dir: Path | None = None
    sandbox: str = "off"
    limits: Limits = field(default_factory=Limits)
    preload: tuple[str, ...] = ()
    import_paths: tuple[str, ...] = ()
    max_sessions: int = SESSIONS_MAX
    spares: int = 0
    parallel_runs: int = PARALLEL_RUNS_MAX
    serve: bool | None = None
    tool_rates: Mapping[str, int] = field(default_factory=dict)
    defaults: SessionDefaults = ()
    program: str = ""
    durability: Durability = "batch"
    restore: Restore = "lazy"
    hibernate_after_s: float | None = HIBERNATE_AFTER_S
    recycle_above: int | None = RECYCLE_ABOVE_BYTES

    def __post_init__(self) -> None:
        for name, least in (("max_sessions", 1), ("spares", 0), ("parallel_runs", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidRequest(
                    f"{name}: must be a whole number of at least {least}, not {value!r}", code="invalid_option"
                )
        for name, values in (("durability", DURABILITIES), ("restore", RESTORES)):
            if getattr(self, name) not in values:
                raise InvalidRequest(
                    f"{name}: must be one of {', '.join(values)}, not {getattr(self, name)!r}", code="invalid_option"
                )

    @property
    def serves(self) -> bool:
        """Say whether the control socket is to be opened."""
        return self.data_dir is not None if self.serve is None else self.serve
