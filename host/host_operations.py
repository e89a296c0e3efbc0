"""The host's own operations, row by row of the operations table: what is read at once, what is done in the loop.

`answer` serves the rows that only read (any thread); `begin` starts the others in the reactor's thread and tells `done`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from procession.host import registry as rules
from procession.host.session import SessionActor
from procession.ipc.core.backend import Request, Response
from procession.ipc.core.errors import InvalidRequest, PermissionDenied, ProcessionError, SandboxUnavailable
from procession.ipc.core.operations import (
    CallList,
    CancelBody,
    CancelDone,
    ChunkList,
    EventList,
    FollowBody,
    ListBody,
    Nothing,
    ReportDone,
    SessionList,
    SessionRef,
    StartBody,
    StopBody,
)
from procession.ipc.core.records import KillReceipt, OutputChunk

if TYPE_CHECKING:
    from procession.host.engine import Engine, HostTicket

Finish = Callable[[msgspec.Struct | ProcessionError], None]
#: Sessions that are stopped at once when a host closes; the others follow in reverse order of their start.
_CLOSE_PARALLEL: Final = 32
_encode = msgspec.msgpack.Encoder().encode


class HostOperations:
    """See the module's text."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._follows: dict[HostTicket, tuple[str, Callable[[ProcessionError | None], None]]] = {}
        self._reads: dict[str, Callable[[Request], msgspec.Struct | None]] = {
            "find_session": lambda r: self._ref(self._actor(r)),
            "list_sessions": self._list,
            "status": lambda r: self._actor(r).status(),
            "story": lambda r: self._actor(r).tell(),
            "last_report": lambda r: ReportDone(report=self._actor(r).last_report),
            "calls": lambda r: CallList(calls=tuple(self._actor(r).calls.infos())),
            "cancel": self._cancel,
            "logs": self._logs,
            "events": self._events,
            "statistics": lambda _: engine.statistics(),
        }
        self._acts: dict[str, Callable[[Request, Finish], None]] = {
            "start_session": self._start,
            "resume_session": self._resume,
            "remove_session": self._remove,
            "stop_session": self._stop,
            "kill_session": lambda r, done: self._actor(r).kill(done),
            "restart_session": self._restart,
            "shutdown": self._shutdown,
        }

    def answer(self, request: Request) -> Response | None:
        """Answer a row that only reads; None for one that has to be done in the loop. Raises ProcessionError."""
        read = self._reads.get(request.op.name)
        if read is None:
            return None
        result = read(request)
        return None if result is None else Response(_encode(result))

    def begin(self, request: Request, done: Finish, ticket: HostTicket) -> None:
        """Start what is not only read; the reactor's thread."""
        if request.op.streams:
            self._follow(request, done, ticket)
            return
        self._acts[request.op.name](request, done)

    def _actor(self, request: Request) -> SessionActor:
        return self._engine.registry.find(request.session)

    @staticmethod
    def _ref(actor: SessionActor) -> SessionRef:
        return SessionRef(id=actor.id, name=actor.name, project=actor.project)

    # --- reads ----------------------------------------------------------------------------------------------
    def _list(self, request: Request) -> SessionList:
        body = request.body
        assert isinstance(body, ListBody)
        found = (actor.status() for actor in self._engine.registry.all() if body.all or actor.takes_slot)
        return SessionList(sessions=tuple(found))

    def _cancel(self, request: Request) -> CancelDone:
        body = request.body
        assert isinstance(body, CancelBody)
        calls = self._actor(request).calls
        call = calls.find(body.call)
        if call is not None:
            return CancelDone(verdict=calls.cancel(call))
        return CancelDone(verdict="too_late" if calls.outcome_of(body.call) is not None else "unknown_call")

    def _logs(self, request: Request) -> ChunkList | None:
        body = request.body
        assert isinstance(body, FollowBody)
        actor = self._actor(request)
        if body.follow:
            return None
        chunks, dropped = actor.output.chunks(body.call)
        return ChunkList(chunks=chunks, dropped=dropped)

    def _events(self, request: Request) -> EventList | None:
        body = request.body
        assert isinstance(body, FollowBody)
        if body.follow:
            return None
        found = self._engine.events.since(body.since or 0)
        if request.session:
            session = self._actor(request).id
            found = [event for event in found if event.session == session]
        return EventList(events=tuple(found))

    # --- following ------------------------------------------------------------------------------------------
    def _follow(self, request: Request, done: Finish, ticket: HostTicket) -> None:
        body = request.body
        assert isinstance(body, FollowBody)
        assert request.on_item is not None
        on_item = request.on_item
        actor = self._actor(request) if request.session else None
        session = actor.id if actor is not None else ""
        if request.op.name == "logs":
            output = (actor or self._actor(request)).output
            replay = _Replay(lambda chunk: on_item(chunk) if body.call in (None, chunk.call) else None)
            number, before = output.follow(replay)
            replay.begin(before)

            def stop() -> None:
                output.unfollow(number)

            last: msgspec.Struct = ChunkList()
        else:
            events = self._engine.events

            def give(event: Any) -> None:
                if not session or event.session == session:
                    on_item(event)

            stop = events.follow(give, since=body.since)
            last = EventList()

        def end(error: ProcessionError | None) -> None:
            if self._follows.pop(ticket, None) is not None:  # the one that takes it out ends it, in whichever thread
                stop()
                done(error or last)

        self._follows[ticket] = (session, end)
        ticket.on_cancel = lambda: end(None)
        if ticket.cancelled:  # before it had begun
            end(None)

    def end_follows(self, error: ProcessionError | None, session: str = "") -> None:
        """End what follows one session that is gone, or all of it because the host is."""
        for of, end in list(self._follows.values()):
            if not session or of == session:
                end(error)

    # --- acts -----------------------------------------------------------------------------------------------
    def _start(self, request: Request, done: Finish) -> None:
        engine = self._engine
        spec = request.body
        assert isinstance(spec, StartBody)
        check_sandbox(spec.sandbox)
        if spec.existing:
            known = engine.registry.named(rules.check_name(spec.name))
            if known is not None:
                done(self._ref(known))
                return
        ident = rules.check_id(spec.id) if spec.id else rules.new_id()
        folder = None
        if spec.project is not None:
            if not os.path.isabs(spec.project):
                raise InvalidRequest(
                    f"a project path must be absolute here, not {spec.project!r}", code="path_not_absolute"
                )
            folder = rules.folder_key(spec.project)
        name = rules.check_name(spec.name or default_name(spec.project, ident))
        actor = SessionActor(engine, spec, ident, name)
        engine.registry.add(actor, folder, spec.exclusive)

        def started(error: ProcessionError | None) -> None:
            if error is not None:
                engine.registry.remove(actor)
                actor.forget()
            done(error or self._ref(actor))

        actor.start(started)

    def _restart(self, request: Request, done: Finish) -> None:
        actor = self._actor(request)
        actor.restart(lambda error: done(error or self._ref(actor)))

    def _resume(self, request: Request, done: Finish) -> None:
        actor = self._engine.registry.find(request.session, stopped_first=True)
        self._engine.registry.reclaim(actor)
        actor.resume(lambda error: done(error or self._ref(actor)))

    def _stop(self, request: Request, done: Finish) -> None:
        body = request.body
        assert isinstance(body, StopBody)
        actor = self._actor(request)

        def stopped(receipt: KillReceipt | ProcessionError) -> None:
            self._engine.registry.release_folder(actor)
            if actor.spec.temporary:
                self._forget(actor)
            done(receipt)

        actor.stop(body.grace_s, stopped)

    def _remove(self, request: Request, done: Finish) -> None:
        actor = self._actor(request)

        def stopped(_: KillReceipt | ProcessionError) -> None:
            self._forget(actor)
            done(Nothing())

        actor.stop(1.0, stopped)

    def _forget(self, actor: SessionActor) -> None:
        self._engine.registry.remove(actor)
        actor.forget()
        self._engine.folder.remove_session(actor.id)
        self._engine.events.emit("session.removed", actor.id, actor.incarnation)
        self.end_follows(None, actor.id)

    def _shutdown(self, _: Request, done: Finish) -> None:
        """`procession down`: the answer goes out first, then the host ends. A host inside a program is that program's."""
        stop = self._engine.on_shutdown
        if stop is None:
            raise PermissionDenied(
                f"this host belongs to the program with pid {self._engine.pid}; only that program ends it",
                hint="close it there, or end that program",
            )
        done(Nothing())
        stop()

    # --- all of them ----------------------------------------------------------------------------------------
    def close_all(self, done: Callable[[], None]) -> None:
        """End every session, the youngest first, a bounded number at once; then call `done`."""
        waiting = list(self._engine.registry.all())
        open_count = 0

        def next_one(_: Any = None) -> None:
            nonlocal open_count
            open_count -= 1
            fill()

        def fill() -> None:
            nonlocal open_count
            while waiting and open_count < _CLOSE_PARALLEL:
                actor = waiting.pop()
                open_count += 1
                actor.close(next_one)
            if not waiting and open_count == 0:
                done()

        open_count = 1
        next_one()

    def kill_all(self) -> None:
        """End every session without waiting."""
        for actor in self._engine.registry.all():
            actor.kill_now()


def default_name(project: str | None, ident: str) -> str:
    """Return a session's name when none is given: its folder's, else its id's first part."""
    name = os.path.basename(project.rstrip("/")) if project else ""
    return (name or f"session-{ident[:8]}")[: rules.NAME_CHARS_MAX]


def check_sandbox(sandbox: str) -> None:
    """Refuse a confinement that cannot be had; never start with less (raises SandboxUnavailable)."""
    if sandbox != "off":
        raise SandboxUnavailable(
            f"the sandbox {sandbox!r} needs confinement layers (namespaces, Landlock rules, seccomp) that this version does "
            "not have",
            hint="pass sandbox=Sandbox.off(): limits and kill domain only, for crashy code, not for hostile code",
        )


class _Replay:
    """A follower that gets what was there before it, then what comes, in order; another thread may bring it meanwhile."""

    def __init__(self, give: Callable[[OutputChunk], object]) -> None:
        self._give = give
        self._lock = threading.Lock()
        self._early: list[OutputChunk] | None = []

    def __call__(self, chunk: OutputChunk) -> None:
        with self._lock:
            if self._early is not None:
                self._early.append(chunk)
            else:
                self._give(chunk)

    def begin(self, before: tuple[OutputChunk, ...]) -> None:
        for chunk in before:
            self._give(chunk)
        with self._lock:
            early, self._early = self._early, None
            for chunk in early or ():
                self._give(chunk)
