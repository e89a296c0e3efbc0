"""Sessions as archives, archives as sessions, and a session made of another one's state: `export`, `import`, `fork`.

    export   state, start ─────────────▶ archive (bytes: whoever asked writes the file)
    import   archive ─▶ checked ─▶ state whose record is the new session's ─┐
    fork     state at a change ─▶ the project's folder copied, if asked ────┴─▶ a session like any other, started

It is *not* what reads or writes the caller's files, and unpickles nothing: code in an archive goes to a session process, as that
of a start does, and only for a caller who said that it may. Rules: what takes time (a disk, a large state, a folder) is done in
threads of its own, the session is made in the reactor's; whatever fails, is cancelled or runs out of time leaves nothing behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from procession._version import __version__
from procession.host import clock
from procession.host import registry as rules
from procession.host.copy_tree import Copied, copy_tree, remove_copy
from procession.host.core.archive import Archive, Made, decode_archive, encode_archive, names_code
from procession.host.core.moved_state import STAYS, check_state, moved
from procession.host.core.session_record import SessionRecord
from procession.host.read_pool import ReadPool
from procession.ipc.core.backend import Request, Response
from procession.ipc.core.errors import (
    CallCancelled,
    CallTimedOut,
    HostLost,
    HostOverloaded,
    InvalidRequest,
    PermissionDenied,
    ProcessionError,
)
from procession.ipc.core.names import NAME_CHARS_MAX, characters
from procession.ipc.core.operations import ForkBody, ImportBody, Nothing, SessionRef, StartBody
from procession.ipc.core.records import Event
from procession.ipc.transport.reactor import tell_surprise

if TYPE_CHECKING:
    from procession.host.engine import Engine, HostTicket
    from procession.host.host_operations import Finish
    from procession.host.session import SessionActor
    from procession.host.session_keeping import State

MOVES_MAX: Final = 16
"""Under way at once: each may hold an archive, or the state of one, in memory."""
CLOSE_S_MAX: Final = 10.0
"""How long a closing host waits for its copiers to hear of it: they look at every file and every few megabytes."""
TELL_PERIOD_S: Final = 0.5
"""How often whoever copies a folder is told how far it is: often enough for an eye."""
_encode = msgspec.msgpack.Encoder().encode


class _Move:
    """One call under way. check() raises what it is to end with."""

    def __init__(self, engine: Engine, request: Request, done: Finish, ticket: HostTicket) -> None:
        self._engine = engine
        self.request = request
        self.done = done
        self.is_cancelled = ticket.cancelled
        ticket.on_cancel = self._cancel
        self._deadline = clock.monotonic() + (request.timeout_s or float("inf"))
        self._told_at = clock.monotonic()

    def _cancel(self) -> None:
        self.is_cancelled = True

    def check(self) -> None:
        if self._engine.closed:
            raise HostLost("the host is closing", code="closed", ran="no")
        if self.is_cancelled:
            raise CallCancelled("cancelled; nothing was made", ran="no")
        if clock.monotonic() >= self._deadline:
            raise CallTimedOut(
                f"{self.request.op.name} took longer than {self.request.timeout_s:g} s; nothing was made", ran="no"
            )

    def look(self, copied: Copied) -> None:
        """Go on copying, unless it is to end, and tell who asked how far it is."""
        self.check()
        now, tell = clock.monotonic(), self.request.on_item
        if tell is not None and now - self._told_at >= TELL_PERIOD_S:
            self._told_at = now
            said: dict[str, str | int | float | bool | None] = {"entries": copied.entries, "bytes": copied.bytes}
            tell(Event(number=0, at=clock.wall(), type="session.copying", session=self.request.session, data=said))


class Moving:
    """See the module's text. `begin` is called in the reactor's thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pool = ReadPool()
        self._under_way = 0

    def begin(self, request: Request, done: Finish, ticket: HostTicket) -> None:
        """Start one of the three; `done` is told in any thread. Raises HostOverloaded, and as they do."""
        if self._under_way >= MOVES_MAX:
            raise HostOverloaded(f"{MOVES_MAX} sessions are being moved already", code="too_many_calls")
        acts = {"export_session": self._export, "import_session": self._import, "fork_session": self._fork}
        move = _Move(self._engine, request, self._counted(done), ticket)
        self._under_way += 1
        self._guarded(move, partial(acts[request.op.name], move))

    def close(self) -> None:
        """Wait until nothing is under way: the host is closed, which all of it looks at."""
        self._pool.close(CLOSE_S_MAX)

    def _counted(self, done: Finish) -> Finish:
        def over(result: msgspec.Struct | Response | ProcessionError) -> None:
            def count() -> None:
                self._under_way -= 1

            self._engine.reactor.call_soon(count)
            done(result)

        return over

    def _guarded(self, move: _Move, step: Callable[[], None], undo: Callable[[], None] | None = None) -> None:
        """Take a step of a move, which ends with whatever goes wrong in it."""
        try:
            move.check()
            step()
        except Exception as problem:  # noqa: BLE001 - whoever waits is told, whatever it was
            if undo is not None:
                undo()
            if not isinstance(problem, ProcessionError):
                tell_surprise(self._engine.reactor, problem, step)
                problem = ProcessionError("the host failed to do this", code="internal_error")
            move.done(problem)

    def _in_thread(self, move: _Move, step: Callable[[], None]) -> None:
        if not self._pool.submit(partial(self._guarded, move, step)):
            raise HostLost("the host is closing", code="closed", ran="no")

    # --- export ---------------------------------------------------------------------------------------------
    def _export(self, move: _Move) -> None:
        actor = self._engine.registry.find(move.request.session)
        self._read(move, actor, None, partial(self._pack, move, actor))

    def _pack(self, move: _Move, actor: SessionActor, found: State) -> None:
        state, number = found
        spec = msgspec.structs.replace(
            actor.spec, id="", name="", project=None, existing=False, temporary=False,
            state=b"" if _is_code_session(actor.spec) else actor.spec.state,
        )  # fmt: skip
        made = Made(version=__version__, at=clock.wall())
        data = encode_archive(Archive(made, actor.id, actor.name, actor.created_at, actor.project, number, spec, state))
        self._engine.events.emit("session.exported", actor.id, actor.incarnation, number=number, bytes=len(data))
        move.done(Response(_encode(Nothing()), data))

    def _read(self, move: _Move, actor: SessionActor, at: int | None, then: Callable[[State], None]) -> None:
        """Read a session's state, then go on in a thread of ours: the journal's are for those who restore sessions."""

        def was_read(found: State | ProcessionError) -> None:
            if isinstance(found, ProcessionError):
                move.done(found)
            else:
                self._guarded(move, partial(self._in_thread, move, partial(then, found)))

        self._in_thread(move, partial(actor.keeping.read, at, was_read, STAYS))

    # --- import ---------------------------------------------------------------------------------------------
    def _import(self, move: _Move) -> None:
        body = move.request.body
        assert isinstance(body, ImportBody)
        ident = self._new_id(body.id)
        self._in_thread(move, partial(self._unpack, move, body, ident))

    def _unpack(self, move: _Move, body: ImportBody, ident: str) -> None:
        archive = decode_archive(move.request.payload or b"", body.source)
        spec = archive.spec
        code = names_code(spec)
        if code and not body.trust_code:
            raise PermissionDenied(
                f"{body.source}: its session would run code that the archive holds or names: {', '.join(code)}",
                code="untrusted_code",
                hint="trust_code=True lets it, for an archive from somebody whose code you would run",
            )
        keeps = self._engine.journal is not None
        spec = msgspec.structs.replace(
            spec, project=body.project, sandbox=body.sandbox, partition=body.partition, existing=False, temporary=False,
            durability=spec.durability if keeps else "",
        )  # fmt: skip
        name = body.name or archive.name
        spec, state = self._begun(spec, archive.state, body.source, ident, name)
        make = partial(
            self._make, move, spec, state, partial(self._told, "session.imported", "", archive.number), body.start
        )
        self._in_loop(move, make, self._undo(spec, copied=False, was_there=True))

    # --- fork -----------------------------------------------------------------------------------------------
    def _fork(self, move: _Move) -> None:
        body = move.request.body
        assert isinstance(body, ForkBody)
        if body.at is not None and body.at < 0:
            raise InvalidRequest(f"at: the number of a change, not {body.at}", code="invalid_sequence")
        if body.project is not None and not os.path.isabs(body.project):
            raise InvalidRequest(
                f"a project path must be absolute here, not {body.project!r}", code="path_not_absolute"
            )
        actor = self._engine.registry.find(move.request.session)
        ident = self._new_id(body.id)
        self._read(move, actor, body.at, partial(self._copy, move, actor, body, ident))

    def _copy(self, move: _Move, actor: SessionActor, body: ForkBody, ident: str, found: State) -> None:
        state, number = found
        name = body.name or f"{''.join(characters(actor.name)[: NAME_CHARS_MAX - 9])}-{ident[:8]}"
        spec = msgspec.structs.replace(actor.spec, project=body.project, existing=False, temporary=False)
        spec, state = self._begun(spec, state, f"session {actor.id}", ident, name)
        target = Path(body.project or self._engine.folder.session_folder(ident))
        was_there = target.exists()
        copied = body.copy_project and (actor.spec.project is not None or os.path.isdir(actor.project))
        if copied:
            copy_tree(Path(actor.project), target, look=move.look, leave_out=(self._engine.data_dir,))
        make = partial(self._make, move, spec, state, partial(self._told, "session.forked", actor.id, number), True)
        self._in_loop(move, make, self._undo(spec, copied=copied, was_there=was_there))

    def _undo(self, spec: StartBody, *, copied: bool, was_there: bool) -> Callable[[], None]:
        """Return what takes the folder of a session away that is not to be: its private one, and a copy."""
        if spec.project is not None and not copied:
            return _nothing
        folder = Path(spec.project or self._engine.folder.session_folder(spec.id))
        remove = partial(remove_copy, folder, keep_folder=was_there and spec.project is not None)

        def undo() -> None:
            if spec.project is None and self._engine.registry.get(spec.id) is not None:
                return  # another session has the id by now, and the folder with it
            if not self._pool.submit(remove):
                remove()  # the host closes, and nobody is held up any more

        return undo

    # --- a session is made ----------------------------------------------------------------------------------
    def _new_id(self, given: str) -> str:
        """Return the id of a session that is to be; refused early when it is taken, and for good when it is made."""
        ident = rules.check_id(given) if given else rules.new_id()
        self._engine.registry.check_free(ident)
        return ident

    def _begun(self, spec: StartBody, state: bytes, source: str, ident: str, name: str) -> tuple[StartBody, bytes]:
        """Return a start and a state that are the new session's; no state for an agent that has yet to begin."""
        spec = msgspec.structs.replace(spec, id=ident, name=name)
        if not _is_code_session(spec):
            check_state(state, source)
            return spec, state
        project = spec.project or str(self._engine.folder.session_folder(ident))
        at = datetime.fromtimestamp(clock.wall(), UTC)
        state = moved(state, source, ident=ident, name=name, project=project, at=at)
        return msgspec.structs.replace(spec, state=state), state

    def _in_loop(self, move: _Move, step: Callable[[Callable[[], None]], None], undo: Callable[[], None]) -> None:
        self._engine.reactor.call_soon(partial(self._guarded, move, partial(step, undo), undo))

    def _make(
        self,
        move: _Move,
        spec: StartBody,
        state: bytes,
        tell: Callable[[SessionActor], None],
        start: bool,
        undo: Callable[[], None],
    ) -> None:
        """List the session and start it, or leave it down; the reactor's thread."""
        record = None
        if not start:
            record = SessionRecord(
                id=spec.id, name=spec.name, created_at=clock.wall(), spec=spec, phase="down", reason="imported"
            )
        operations = self._engine.operations

        def made() -> SessionActor:
            move.check()  # it may have waited for a slot
            actor = operations.make(spec, state=state, record=record)
            tell(actor)
            return actor

        if start:
            over = partial(_undone_if_failed, move.done, undo)
            self._engine.slots.have(lambda: operations.start(made(), over), over)
        else:
            actor = made()
            ref = SessionRef(id=actor.id, name=actor.name, project=actor.project)
            actor.keeping.save(lambda error: move.done(error or ref))

    def _told(self, event: str, source: str, number: int, actor: SessionActor) -> None:
        self._engine.events.emit(event, actor.id, 0, source=source or None, number=number)


def _undone_if_failed(
    done: Finish, undo: Callable[[], None], result: msgspec.Struct | Response | ProcessionError
) -> None:
    if isinstance(result, ProcessionError):
        undo()
    done(result)


def _nothing() -> None:
    """Undo nothing."""


def _is_code_session(spec: StartBody) -> bool:
    return not spec.agent and not spec.agent_code
