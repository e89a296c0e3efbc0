"""The host's own operations, row by row of the operations table: what is read at once, what is done in the loop.

`answer` serves the rows that only read (any thread); `begin` starts the others in the reactor's thread and tells `done`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from procession.host import registry as rules
from procession.host.call_errors import not_durable
from procession.host.follows import Follows
from procession.host.session import SessionActor
from procession.host.session_keeping import State
from procession.ipc.core.backend import Request, Response
from procession.ipc.core.errors import InvalidRequest, PermissionDenied, ProcessionError, SandboxUnavailable
from procession.ipc.core.names import check_name, default_name
from procession.ipc.core.operations import (
    DURABILITIES,
    AsideBody,
    AsideList,
    AuditBody,
    AuditList,
    CallList,
    CancelBody,
    CancelDone,
    ChunkList,
    EventList,
    FindBody,
    FollowBody,
    GrantBody,
    ListBody,
    Nothing,
    ReportDone,
    SessionList,
    SessionRef,
    SignalList,
    StartBody,
    StateDone,
    StopBody,
)
from procession.ipc.core.records import KillReceipt, Permissions

if TYPE_CHECKING:
    from procession.host.core.session_record import SessionRecord
    from procession.host.engine import Engine, HostTicket
    from procession.host.moving import Moving

Finish = Callable[[msgspec.Struct | Response | ProcessionError], None]
#: Sessions that are stopped at once when a host closes; the others follow in reverse order of their start.
_CLOSE_PARALLEL: Final = 32
_MOVES: Final = frozenset(("export_session", "import_session", "fork_session"))
_encode = msgspec.msgpack.Encoder().encode


class HostOperations:
    """See the module's text."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.follows = Follows(engine)
        self._moving: Moving | None = None  # made for the first archive or fork
        self._reads: dict[str, Callable[[Request], msgspec.Struct | None]] = {
            "find_session": self._find,
            "list_sessions": self._list,
            "status": lambda r: self._actor(r).status(),
            "story": lambda r: self._actor(r).tell(),
            "last_report": lambda r: ReportDone(report=self._actor(r).last_report),
            "calls": lambda r: CallList(calls=tuple(self._actor(r).calls.infos())),
            "cancel": self._cancel,
            "logs": self._logs,
            "events": self._events,
            "signals": self._signals,
            "permissions": self._permissions,
            "audit": self._audit,
            "children": lambda r: engine.families.children(self._actor(r).id),
            "statistics": lambda _: engine.statistics(),
        }
        self._acts: dict[str, Callable[[Request, Finish], None]] = {
            "start_session": self._start,
            "resume_session": self._resume,
            "remove_session": self._remove,
            "stop_session": self._stop,
            "kill_session": self._kill,
            "hibernate_session": self._hibernate,
            "restart_session": self._restart,
            "touch": self._touch,
            "aside": self._aside,
            "state": self._state,
            "shutdown": self._shutdown,
            "restart_host": self._restart_host,
        }

    def answer(self, request: Request) -> Response | None:
        """Answer a row that only reads; None for one that has to be done in the loop. Raises ProcessionError."""
        if request.op.name == "state":
            actor = self._actor(request)
            return Response(_state_of(actor), actor.keeping.state()) if actor.keeping.fold is not None else None
        read = self._reads.get(request.op.name)
        if read is None:
            return None
        result = read(request)
        return None if result is None else Response(_encode(result))

    def begin(self, request: Request, done: Finish, ticket: HostTicket) -> None:
        """Start what is not only read; the reactor's thread."""
        if request.op.streams:
            self.follows.begin(request, done, ticket)
            return
        if request.op.name in _MOVES:
            self._moves().begin(request, done, ticket)
            return
        self._acts[request.op.name](request, done)

    def _moves(self) -> Moving:
        if self._moving is None:
            from procession.host.moving import Moving

            self._moving = Moving(self._engine)
        return self._moving

    def close(self) -> None:
        """Wait for what is done in threads of their own; the host is closed, and no session is left."""
        if self._moving is not None:
            self._moving.close()

    def _actor(self, request: Request) -> SessionActor:
        return self._engine.registry.find(request.session)

    @staticmethod
    def _ref(actor: SessionActor) -> SessionRef:
        return SessionRef(id=actor.id, name=actor.name, project=actor.project)

    # --- reads ----------------------------------------------------------------------------------------------
    def _find(self, request: Request) -> SessionRef:
        body = request.body
        assert isinstance(body, FindBody)
        registry = self._engine.registry
        return self._ref(registry.find(request.session, stopped_first=body.stopped_first, within=body.partition))

    def _list(self, request: Request) -> SessionList:
        body = request.body
        assert isinstance(body, ListBody)
        listed = (actor for actor in self._engine.registry.all() if body.partition in (None, actor.spec.partition))
        found = (actor.status() for actor in listed if body.all or actor.holds_folder)
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

    def _signals(self, request: Request) -> SignalList | None:
        body = request.body
        assert isinstance(body, FollowBody)
        actor = self._actor(request)
        return None if body.follow else SignalList(signals=tuple(actor.signals.since(body.since or 0)))

    def _permissions(self, request: Request) -> Permissions:
        body = request.body
        assert isinstance(body, GrantBody)
        return self._engine.tools.permissions(self._actor(request), body)

    def _audit(self, request: Request) -> AuditList:
        body = request.body
        assert isinstance(body, AuditBody)
        return self._engine.tools.audit(self._actor(request).id if request.session else None, body)

    # --- acts -----------------------------------------------------------------------------------------------
    def make(self, spec: StartBody, *, state: bytes = b"", record: SessionRecord | None = None) -> SessionActor:
        """Check a child spec and list its session, which is not started yet. Raises as `start_session`.

        state: what it goes on with that was another one's. record: of one that is made at rest.
        """
        check_sandbox(spec.sandbox)
        check_idle(spec)
        ident = rules.check_id(spec.id) if spec.id else rules.new_id()
        folder = None
        if spec.project is not None:
            if not os.path.isabs(spec.project):
                raise InvalidRequest(
                    f"a project path must be absolute here, not {spec.project!r}", code="path_not_absolute"
                )
            folder = rules.folder_key(spec.project)
        name = check_name(spec.name or default_name(spec.project, ident))
        if spec.durability and spec.durability not in DURABILITIES:
            raise InvalidRequest(f"{spec.durability[:80]!r} is no durability", code="invalid_durability")
        journal = self._engine.journal
        if journal is None and spec.durability not in ("", "memory"):
            raise not_durable(spec.durability)
        refusal = None if journal is None else journal.refusal()
        if refusal is not None:
            raise refusal
        actor = SessionActor(self._engine, spec, ident, name, record)
        self._engine.registry.add(actor, folder)
        if state or record is not None:
            actor.keeping.begin_with(state)
        actor.keeping.create()
        return actor

    def _state(self, request: Request, done: Finish) -> None:
        """Read a state that is only on disk."""
        actor = self._actor(request)

        def was_read(found: State | ProcessionError) -> None:
            done(found if isinstance(found, ProcessionError) else Response(_state_of(actor), found[0] or None))

        actor.keeping.read(None, was_read)

    def _aside(self, request: Request, done: Finish) -> None:
        body = request.body
        assert isinstance(body, AsideBody)
        casts = self._actor(request).casts
        if body.retry:
            casts.retry(body.retry)
        if body.drop:
            casts.drop(body.drop)
        done(AsideList(signals=casts.aside()))

    def _start(self, request: Request, done: Finish) -> None:
        spec = request.body
        assert isinstance(spec, StartBody)
        if spec.existing:
            check_sandbox(spec.sandbox)
            known = self._engine.registry.named(check_name(spec.name), spec.partition)
            if known is not None and known.phase == "stopping" and known.is_ending:  # then it holds the name no more
                again = partial(self._start, request, done)
                known.when_over(lambda _: self._engine.reactor.call_soon(again))
                return
            if known is not None:
                done(self._ref(known))
                return
        self._engine.slots.have(lambda: self.start(self.make(spec), done), done, timeout_s=request.timeout_s)

    def start(self, actor: SessionActor, done: Finish) -> None:
        """Start a session that was just made; one that does not come up is taken off the list again."""

        def started(error: ProcessionError | None) -> None:
            if error is None:
                done(self._ref(actor))
                return
            self._engine.registry.remove(actor)
            self._engine.idle.forget(actor.id)
            actor.forget()
            actor.keeping.delete(lambda _: done(error))

        actor.start(started)

    def _restart(self, request: Request, done: Finish) -> None:
        actor = self._actor(request)

        def restart() -> None:
            self._engine.registry.reclaim(actor)
            actor.restart(lambda error: done(error or self._ref(actor)))

        self._engine.slots.have(restart, done, timeout_s=request.timeout_s)

    def _resume(self, request: Request, done: Finish) -> None:
        actor = self._engine.registry.find(request.session, stopped_first=True)

        def resume() -> None:
            self._engine.registry.reclaim(actor)
            actor.resume(lambda error: done(error or self._ref(actor)))

        self._engine.slots.have(resume, done, timeout_s=request.timeout_s)

    def _stop(self, request: Request, done: Finish) -> None:
        body = request.body
        assert isinstance(body, StopBody)
        self.end(self._actor(request), body.grace_s, done)

    def end(self, actor: SessionActor, grace_s: float, done: Finish, reason: str = "") -> None:
        """End a session for good, and the children that end with it; `done` is told when all of them are over."""

        def stopped(receipt: KillReceipt | ProcessionError) -> None:
            def over() -> None:
                self._engine.families.after(actor.id, lambda: done(receipt))

            if actor.spec.temporary:
                self._forget(actor, over)
            else:
                over()

        actor.stop(grace_s, stopped, reason)

    def _kill(self, request: Request, done: Finish) -> None:
        actor = self._actor(request)
        actor.kill(lambda receipt: self._engine.families.after(actor.id, lambda: done(receipt)))

    def _hibernate(self, request: Request, done: Finish) -> None:
        self._actor(request).hibernate(
            lambda outcome: done(outcome if isinstance(outcome, ProcessionError) else Nothing())
        )

    def _remove(self, request: Request, done: Finish) -> None:
        self.remove(self._actor(request), lambda: done(Nothing()))

    def remove(self, actor: SessionActor, then: Callable[[], None]) -> None:
        """End a session and delete its data; `then` is called when that is done."""

        def stopped(_: KillReceipt | ProcessionError) -> None:
            self._forget(actor, lambda: self._engine.families.after(actor.id, then))

        actor.stop(1.0, stopped)

    def _forget(self, actor: SessionActor, then: Callable[[], None]) -> None:
        """Take a session off every list, its data with it; `then` is called once none of it can come back."""
        self._engine.registry.remove(actor)
        actor.forget()
        self._engine.families.forget(actor.id)
        self._engine.idle.forget(actor.id)
        self._engine.tools.forget(actor.id)
        self._engine.events.emit("session.removed", actor.id, actor.incarnation)
        self.follows.end(None, actor.id)

        def deleted(_: ProcessionError | None) -> None:
            self._engine.folder.remove_session(actor.id)
            then()

        actor.keeping.delete(deleted)

    def _touch(self, request: Request, done: Finish) -> None:
        self._engine.idle.touch(self._actor(request))
        done(Nothing())

    def _shutdown(self, _: Request, done: Finish) -> None:
        """`procession down`: the answer goes out first, then the host ends. A host inside a program is that program's."""
        self._leave(self._engine.on_shutdown, done)

    def _restart_host(self, _: Request, done: Finish) -> None:
        """`procession restart --host`: the same, and whoever runs it starts it again."""
        self._leave(self._engine.on_restart, done)

    def _leave(self, leave: Callable[[], None] | None, done: Finish) -> None:
        if leave is None:
            raise PermissionDenied(
                f"this host belongs to the program with pid {self._engine.pid}; only that program ends it",
                hint="close it there, or end that program",
            )
        done(Nothing())
        leave()

    # --- all of them ----------------------------------------------------------------------------------------
    def close_all(self, done: Callable[[], None]) -> None:
        """End every session, the youngest first, a bounded number at once; then call `done`."""
        waiting = list(self._engine.registry.all())
        open_count, filling = 0, False

        def fill() -> None:
            nonlocal open_count, filling
            filling = True
            while waiting and open_count < _CLOSE_PARALLEL:
                open_count += 1
                waiting.pop().close(one_over)
            filling = False
            if open_count == 0:
                done()

        def one_over(_: Any = None) -> None:
            nonlocal open_count
            open_count -= 1
            if not filling:  # one that is at rest is over at once
                fill()

        fill()

    def kill_all(self) -> None:
        """End every session without waiting."""
        for actor in self._engine.registry.all():
            actor.kill_now()


def _state_of(actor: SessionActor) -> bytes:
    """Say whose a state is, whose bytes go with it."""
    return _encode(StateDone(agent=actor.spec.agent or ("by value" if actor.spec.agent_code else "")))


def check_idle(spec: StartBody) -> None:
    """Refuse times that are none, and sizes; the faces have said so better. Raises InvalidRequest."""
    for seconds in (spec.idle_timeout_s, spec.hibernate_after_s):
        if seconds is not None and not 0 <= seconds < math.inf:
            raise InvalidRequest(f"{seconds} seconds are no time to be idle", code="invalid_timeout")
    if spec.recycle_above is not None and spec.recycle_above < 0:
        raise InvalidRequest(f"{spec.recycle_above} bytes are no size", code="invalid_limit")


def check_sandbox(sandbox: str) -> None:
    """Refuse a confinement that cannot be had; never start with less (raises SandboxUnavailable)."""
    if sandbox != "off":
        raise SandboxUnavailable(
            f"the sandbox {sandbox!r} needs confinement layers (namespaces, Landlock rules, seccomp) that this version does "
            "not have",
            hint="pass sandbox=Sandbox.off(): limits and kill domain only, for crashy code, not for hostile code",
        )
