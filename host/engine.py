"""The host itself: its registry, zygotes, events and sessions, and the one door through which every face calls them.

An engine is a `Backend`: `call` waits in the caller's thread, `submit` tells a callback. Calls on a session go straight to that
session's mailbox; the host's own operations run in the reactor's thread, reads in the thread that asks. It runs no
tool code, unpickles nothing, is no subreaper and waits for no process of the program that embeds it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from procession.host import clock
from procession.host.awaiting import awaited, looked_up
from procession.host.data_dir import DataDir
from procession.host.event_log import EventLog
from procession.host.families import Families
from procession.host.fd_reserve import FdReserve
from procession.host.host_call import HostCall
from procession.host.host_operations import HostOperations
from procession.host.idle_watch import IdleWatch
from procession.host.lag_monitor import LagMonitor
from procession.host.options import HostOptions
from procession.host.registry import Registry
from procession.host.session_lull import Lulls
from procession.host.session_watch import SessionWatch
from procession.host.slots import Slots
from procession.host.starts import Starts
from procession.host.tool_gate import ToolGate
from procession.host.zygote_pool import ZygotePool
from procession.ipc.core.backend import Done, Outcome, Request, Response
from procession.ipc.core.errors import HostLost, ProcessionError
from procession.ipc.core.loading import check_not_loading
from procession.ipc.core.messages import KeeperGone, encode
from procession.ipc.core.operations import OPERATIONS, Nothing, SignalBody, ToolBody
from procession.ipc.core.records import Statistics
from procession.ipc.core.request_body import encoded_body
from procession.ipc.transport.reactor import Reactor, ThreadReactor

if TYPE_CHECKING:
    from procession.host.journal import Journal

_encode = msgspec.msgpack.Encoder().encode
_ASK = OPERATIONS["ask"]
_AWAIT = OPERATIONS["await_result"]
_SIGNAL = OPERATIONS["signal"]
_TAKEN = Response(_encode(Nothing()))
_TOOL = OPERATIONS["tool"]
_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class HostTicket:
    """A host operation under way; only what follows (logs, events) can be cancelled."""

    def __init__(self, call_id: str = "") -> None:
        self.call_id = call_id
        self.cancelled = False
        self.on_cancel: Callable[[], None] | None = None

    def cancel(self) -> None:
        self.cancelled = True
        if self.on_cancel is not None:
            self.on_cancel()


class SessionTicket:
    """A session call under way."""

    def __init__(self, engine: Engine, session: str, call: HostCall) -> None:
        self._engine = engine
        self._session = session
        self._call = call

    @property
    def call_id(self) -> str:
        return self._call.call_id

    def cancel(self) -> None:
        self._engine.registry.find(self._session).calls.cancel(self._call)


class Engine:
    """See the module's text. Opening raises StorageError, AlreadyExists(already_started), InvalidRequest(host_while_loading)."""

    def __init__(self, options: HostOptions, reactor: Reactor | None = None) -> None:
        check_not_loading()
        self.options = options
        self.started_at = clock.monotonic()
        self.pid = os.getpid()
        self.closed = False
        self._lost: ProcessionError | None = None
        self._own_reactor = reactor is None
        self.folder = DataDir.open(options.data_dir)
        self.data_dir = self.folder.path
        self.journal: Journal | None = None
        self.reactor: Reactor = reactor or ThreadReactor()
        self.reactor.on_error = self._surprise
        self.reactor.on_gap = self._was_gone
        self.reserve = FdReserve(self.reactor)
        self.events = EventLog()
        self.registry = Registry(options.max_sessions)
        self.zygotes = ZygotePool(
            self.reactor, self.folder.presence_fd, on_event=self._zygote_event, on_keeper_gone=self._keeper_gone
        )
        self.starts = Starts(self)
        self.watch = SessionWatch(self)
        self.lag = LagMonitor(self.reactor, self._lagging)
        self._env_encoded: tuple[dict[Any, Any], msgspec.Raw] = ({}, msgspec.Raw(encode({})))
        self.families = Families(self)
        self.lulls = Lulls(self.reactor)
        self.slots = Slots(self)
        self.idle = IdleWatch(self)
        self.tools = ToolGate(options.tool_rates)
        self.operations = HostOperations(self)
        self.breaches = 0
        if options.data_dir is not None:
            try:
                self._open_journal(options.data_dir)
            except BaseException:
                self._abandon()
                raise
        self.on_shutdown: Callable[[], None] | None = None
        """What `procession down` asks for: set by whoever runs the host in the foreground."""
        self.on_restart: Callable[[], None] | None = None
        """What `procession restart --host` asks for, likewise."""
        self._server: Any = None
        if options.serve or (options.serve is None and options.data_dir is not None):
            from procession.host.control_server import ControlServer

            self._server = ControlServer.open(self)
        _engines.add(self)
        self.events.emit("host.started", None, 0, pid=self.pid)
        self.reactor.call_soon(self._warm)

    def _open_journal(self, folder: Path) -> None:
        """Open what is kept on disk, and list the sessions of the host that was here before. Raises StorageError."""
        from procession.host.journal import Journal
        from procession.host.recovery import number_events, recover
        from procession.host.storage.sqlite_store import SqliteStore

        store = SqliteStore.open(folder)
        self.journal = Journal(store, on_event=self._storage_event, on_recovered=self._has_room_again)
        number_events(self, store)
        recover(self, store)
        store.sync()  # what the former host had written and not synced is told again from here on, as if it were on disk

    def _abandon(self) -> None:
        """Let go of what was opened so far: there will be no host."""
        self.closed = True
        self.reserve.close()
        self.watch.close()
        self.lag.close()
        if self.journal is not None:
            self.journal.close()
        self.reactor.close()
        self.folder.close()

    def _storage_event(self, kind: str, data: dict[str, str | int | float | bool | None]) -> None:
        self.events.emit(kind, None, 0, **data)

    def _has_room_again(self) -> None:
        """The disk was full and is not any more (the journal's thread)."""

        def catch_up() -> None:
            for actor in self.registry.all():
                actor.keeping.catch_up()

        self.reactor.call_soon(catch_up)

    def _warm(self) -> None:
        """Start the zygote before the first session asks for it, and the spares if any are wanted."""
        if self.closed:
            return
        if self.journal is not None:
            from procession.host.recovery import wake

            wake(self)
        try:
            self.zygotes.warm(self.options.preload)
            self.starts.fill_spares()
        except ProcessionError as error:
            self.events.emit("host.warning", None, 0, text=str(error))

    # --- Backend --------------------------------------------------------------------------------------------
    def call(self, request: Request) -> Response:
        """Make a call and wait for its outcome; raises the error it ended with."""
        if self._lost is not None:
            raise self._lost
        if request.op.target == "session" and not (request.op is _TOOL and _by_model(request)):
            actor = self.registry.find(request.session)
            if request.op is _SIGNAL and not _is_awaited(request):
                taken = _Latch()
                if actor.casts.cast(request, lambda error: taken(error or _TAKEN)):
                    return taken.wait(self._patience(request))
                request.wait = True  # its answer, once it is handled, is what keeps back who casts too fast
            if request.op is _ASK:
                actor.check_awake()
            elif request.op is _AWAIT:
                return awaited(actor, request)
            return actor.calls.call(request)
        if type(request.body) is not Nothing:
            encoded_body(request)  # what cannot travel is refused here too, before it is anybody's state
        quick = self.operations.answer(request)
        if quick is not None:
            return quick
        done = _Latch()
        self.submit(request, done)
        return done.wait(self._patience(request))

    def _patience(self, request: Request) -> float:
        return request.timeout_s + 10.0 if request.timeout_s is not None else 86_400.0

    def submit(self, request: Request, done: Done) -> HostTicket | SessionTicket:
        """Start a call; `done` gets its one outcome."""
        if self._lost is not None:
            done(self._lost)
            return HostTicket()
        if request.op.target == "session":
            try:
                actor = self.registry.find(request.session)
                if request.op is _TOOL and _by_model(request):
                    done = self.tools.admit(actor, request, done)
                elif request.op is _SIGNAL and not _is_awaited(request):
                    if actor.casts.cast(request, lambda error: done(error or _TAKEN)):
                        return HostTicket(request.call_id)
                    request.wait = True
                elif request.op is _ASK:
                    actor.check_awake()
                elif request.op is _AWAIT:
                    done = looked_up(actor, request, done)
            except ProcessionError as error:
                done(error)
                return HostTicket()
            return SessionTicket(self, actor.id, actor.calls.submit(request, done))
        ticket = HostTicket(request.call_id)
        try:
            if type(request.body) is not Nothing:
                encoded_body(request)
            quick = self.operations.answer(request)
        except ProcessionError as error:
            done(error)
            return ticket
        if quick is not None:
            done(quick)
        elif self.reactor.in_loop():
            self._begin(request, done, ticket)
        elif request.op.streams:  # what happens from now on is seen by who follows it
            self._run_in_loop(lambda: self._begin(request, done, ticket))
        else:
            self.reactor.call_soon(lambda: self._begin(request, done, ticket))
        return ticket

    def _begin(self, request: Request, done: Done, ticket: HostTicket) -> None:
        def finish(result: msgspec.Struct | Response | ProcessionError) -> None:
            done(result if isinstance(result, ProcessionError | Response) else Response(_encode(result)))

        try:
            self.operations.begin(request, finish, ticket)
        except ProcessionError as error:
            finish(error)

    # --- events of the parts --------------------------------------------------------------------------------
    def _surprise(self, problem: BaseException, where: str) -> None:
        """An unexpected exception in a callback: an event, never silence (and never a dead loop)."""
        import traceback

        text = "".join(traceback.format_exception(problem))[-4000:]
        self.events.emit("host.bug", None, 0, where=where, text=text)
        if os.environ.get("PROCESSION_DEBUG"):
            os.write(2, text.encode())

    def _zygote_event(self, kind: str, data: dict[str, str | int | float | bool | None]) -> None:
        self.events.emit(kind, None, 0, **data)
        if kind == "zygote.lost":
            self.starts.drop_spares()

    def _keeper_gone(self, gone: KeeperGone) -> None:
        if gone.strays:
            self.events.emit("zygote.strays", None, 0, keeper=gone.keeper_pid, count=gone.strays)

    def _lagging(self, lag_s: float, place: str) -> None:
        self.events.emit("host.lag", None, 0, seconds=round(lag_s, 3), culprit=place)

    def _was_gone(self, by_s: float) -> None:
        """Every clock starts afresh after a suspend or a stop of this process; the timers were put back by so much (R-69)."""
        self.events.emit("host.gap", None, 0, seconds=round(by_s, 1))
        for actor in self.registry.all():
            actor.calls.put_back(by_s)
        self.watch.put_back(by_s)
        self.idle.start_afresh()

    def environment(self) -> msgspec.Raw:
        """Return the environment of runs under `Sandbox.off()`, encoded: the host's own, but for what is not text."""
        now = getattr(
            os.environ, "_data", None
        )  # as it is kept, in bytes: compared at a fiftieth of what encoding costs
        if now is None or now != self._env_encoded[0]:
            env = {name: value for name, value in os.environ.items() if _is_text(name) and _is_text(value)}
            self._env_encoded = (dict(now or {}), msgspec.Raw(encode(env)))
        return self._env_encoded[1]

    def statistics(self) -> Statistics:
        """Count what this host has done so far."""
        actors, tally = self.registry.all(), self.registry.tally()
        return Statistics(
            pid=self.pid,
            uptime_s=clock.monotonic() - self.started_at,
            sessions=len(actors),
            running=sum(1 for a in actors if a.running),
            calls=tally.calls,
            failed=tally.failed,
            late=tally.late,
            restarts=tally.restarts,
            starts=tally.starts,
            breaches=self.breaches,
            events=self.events.last_number,
            events_dropped=self.events.dropped,
            lag_ms_max=round(self.lag.lag_s_max * 1e3, 3),
            lag_warnings=self.lag.warnings,
            lag_culprit=self.lag.culprit,
            rss_bytes=self._rss_bytes(),
        )

    def _rss_bytes(self) -> int:
        try:
            return _rss_bytes()
        except OSError as problem:
            return _rss_bytes() if self.reserve.lend_for(problem) else 0

    # --- ends -----------------------------------------------------------------------------------------------
    def close(self) -> None:
        """End every process of this host and let go of its folder. Idempotent; returns when nothing is left."""
        if self.closed or self._lost is not None:
            return
        self.closed = True
        if self.reactor.in_loop():
            self._close_now()
        else:
            latch = _Latch()
            self.reactor.call_soon(lambda: self.operations.close_all(lambda: latch(Response(b""))))
            latch.wait(60.0)
            self._finish_close()

    def drain(self, patience_s: float) -> None:
        """Take no call over the control socket any more, and give those that are under way so long; not from the loop."""
        if self._server is not None:
            latch = _Latch()
            self.reactor.call_soon(lambda: self._server.drain(patience_s, lambda: latch(_TAKEN)))
            latch.wait(patience_s + 10.0)

    def close_async(self, done: Callable[[], None]) -> None:
        """The same for a host that lives in a loop: returns at once, `done` is called when nothing is left."""
        if self.closed or self._lost is not None:
            done()
            return
        self.closed = True

        def finished() -> None:
            self._finish_close()
            done()

        self.operations.close_all(finished)

    def _close_now(self) -> None:
        """From within the loop there is no waiting for the loop: kill and go."""
        self.operations.kill_all()
        self._finish_close()

    def _finish_close(self) -> None:
        self.reserve.close()
        self.watch.close()
        self.lag.close()
        if self._server is not None:
            self._run_in_loop(self._server.close)
        lost = HostLost("this host is closed", code="closed", ran="no")
        self._run_in_loop(lambda: self.operations.follows.end(lost))
        self.operations.close()
        self._run_in_loop(self.starts.drop_spares)
        self._run_in_loop(self.zygotes.close)
        if self.journal is not None:
            self.events.stop_numbering()
            self.journal.close()
        if self._own_reactor:
            self.reactor.close()
        else:
            self.reactor.close()
        self.folder.close()
        self._lost = lost
        _engines.discard(self)

    def _run_in_loop(self, action: Callable[[], None]) -> None:
        if self.reactor.in_loop():
            action()
            return
        latch = _Latch()

        def run() -> None:
            try:
                action()
            finally:
                latch(Response(b""))

        self.reactor.call_soon(run)
        latch.wait(30.0)

    def forget_after_fork(self) -> None:
        """In a forked child of the application: every handle raises HostLost, our copies of the descriptors are closed."""
        error = HostLost("this process was forked from the one that has the host", code="forked", ran="no")
        self._lost = error
        self.closed = True
        for actor in self.registry.all():
            actor.forget_after_fork(error)
        self.zygotes.forget_after_fork()
        if self.journal is not None:
            self.journal.forget_after_fork()
        self.starts.forget_after_fork()
        self.reserve.forget_after_fork()
        if self._server is not None:
            self._server.forget_after_fork()
        forget = getattr(self.reactor, "forget_after_fork", None)
        if forget is not None:
            forget()
        self.folder.forget_after_fork()


def _is_awaited(request: Request) -> bool:
    return not isinstance(request.body, SignalBody) or request.body.wait


def _by_model(request: Request) -> bool:
    return isinstance(request.body, ToolBody) and request.body.by_model


class _Latch:
    """A `done` that a thread waits for."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._outcome: Outcome | None = None

    def __call__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._event.set()

    def wait(self, timeout_s: float) -> Response:
        if not self._event.wait(timeout_s):
            raise HostLost(f"the host's loop did not answer in {timeout_s:g} s", code="loop_stuck")
        outcome = self._outcome
        if isinstance(outcome, ProcessionError):
            raise outcome
        assert outcome is not None
        return outcome


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _rss_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def _after_fork_in_child() -> None:
    for engine in list(_engines):
        engine.forget_after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
