"""The real engine in a simulation: every part of the host as it is, but for the zygotes, the clock and the disk."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from helpers.simulation.processes import Processes
from helpers.simulation.virtual import SimReactor, Time
from procession.host.engine import Engine
from procession.host.event_log import EventLog
from procession.host.families import Families
from procession.host.host_operations import HostOperations
from procession.host.idle_watch import IdleWatch
from procession.host.journal import Journal
from procession.host.options import HostOptions
from procession.host.recovery import number_events, recover
from procession.host.registry import Registry
from procession.host.session_lull import Lulls
from procession.host.slots import Slots
from procession.host.starts import Starts
from procession.host.storage.memory_store import MemoryStore
from procession.host.tool_gate import ToolGate
from procession.ipc.core.messages import encode

_FOLDER = Path(tempfile.gettempdir()) / "procession-simulation"


class SimFolder:
    """Where sessions would have their folders: nothing is kept there."""

    path = _FOLDER

    def session_folder(self, session: str) -> Path:
        return _FOLDER

    def remove_session(self, session: str) -> bool:
        return True

    def sweep_sessions(self, known: Iterable[str]) -> list[str]:
        return []

    def close(self) -> None:
        """Nothing is held."""


class _NoWatch:
    """There is nothing in /proc to look at."""

    def close(self) -> None:
        """Nothing runs."""


class SimEngine(Engine):
    """One life of a host over a store; see the module's text. JOURNAL_S: how long the disk takes for a group, at most."""

    def __init__(self, made: Time, reactor: SimReactor, store: MemoryStore, *, restore: str = "lazy") -> None:
        _FOLDER.mkdir(exist_ok=True)
        self.options = HostOptions(data_dir=None, restore=restore)  # type: ignore[arg-type]
        self.started_at = made.now
        self.pid = 1
        self.closed = False
        self._lost = None
        self._own_reactor = False
        self.folder = SimFolder()  # type: ignore[assignment]
        self.data_dir = _FOLDER
        self.reactor = reactor
        self.events = EventLog(monotonic=made.monotonic, wall=made.wall)
        self.registry = Registry(self.options.max_sessions)
        self.zygotes: Processes = Processes(made, reactor)  # type: ignore[assignment]
        self.starts = Starts(self)
        self.watch = _NoWatch()  # type: ignore[assignment]
        self.lag = _NoWatch()  # type: ignore[assignment]
        self._env_encoded = ({}, msgspec.Raw(encode({})))
        self.families = Families(self)
        self.lulls = Lulls(reactor)
        self.slots = Slots(self)
        self.idle = IdleWatch(self)
        self.tools = ToolGate(self.options.tool_rates)
        self.operations = HostOperations(self)
        self.breaches = 0
        self.on_shutdown = None
        self._server = None
        self.disk_s = 0.0005
        self._time = made
        self._stepping = False
        self.journal = Journal(
            store,
            on_event=self._storage_event,
            on_recovered=self._has_room_again,
            monotonic=made.monotonic,
            threaded=False,
        )
        submit = self.journal.submit

        def submitted(*args: object) -> None:
            submit(*args)  # type: ignore[arg-type]
            self._step_soon()

        self.journal.submit = submitted  # type: ignore[assignment,method-assign]
        number_events(self, store)
        recover(self, store)
        store.sync()
        reactor.call_soon(self._warm)

    def environment(self) -> msgspec.Raw:
        return self._env_encoded[1]

    def _step_soon(self) -> None:
        """Let the journal do one thing, after the time that its disk takes; it is asked again until nothing is due."""
        if not self._stepping:
            self._stepping = True
            self._time.after(self._time.random.random() * self.disk_s, self._step)

    def _step(self) -> None:
        self._stepping = False
        if self.closed or self.journal is None:
            return
        if self.journal.step():
            self._step_soon()
            return
        due = self.journal.due_in_s()
        if due is not None:
            self._stepping = True
            self._time.after(due + self._time.random.random() * self.disk_s, self._step)

    def is_killed(self) -> None:
        """This host is gone at once: its descriptors are closed, and nothing of it runs any more."""
        self.closed = True
        self.reactor.close()
        for actor in self.registry.all():
            process = actor.process
            if process is not None:
                process._drop_fds()
        for spare in self.starts._spares:
            spare._drop_fds()
        self.zygotes.close()


def remove_folder() -> None:
    """Take away what simulations made."""
    if _FOLDER.exists():
        for name in os.listdir(_FOLDER):
            os.unlink(_FOLDER / name)
        _FOLDER.rmdir()
