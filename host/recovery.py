"""A host takes up what a former one on its folder left: its sessions, the signals they had been given, and who is whose child.

It is *not* the restoring of a session's state, which happens when it is next needed (session_keeping.py), or at once for a
host that is told to. Rules: nothing is started here; a record that cannot be read is a session that has failed, with its data
kept, never one that is missing; what was put right is told as events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from procession.host import families
from procession.host.core.journal_entries import Cast, DeleteSession, PutNote
from procession.host.core.session_record import SessionRecord, decode_session
from procession.host.registry import folder_key
from procession.host.session import SessionActor
from procession.ipc.core.errors import InvalidRequest, JournalCorrupt, ProcessionError
from procession.ipc.core.operations import StartBody

if TYPE_CHECKING:
    from procession.host.engine import Engine
    from procession.host.storage.port import Store

EVENTS_NOTE: Final = "events"
#: Numbers of events that are set aside at once, so that none is ever used twice: a host that is killed leaves a gap.
EVENTS_RESERVED: Final = 10_000
_read_cast = msgspec.msgpack.Decoder(Cast).decode
_read_number = msgspec.msgpack.Decoder(int).decode
_encode = msgspec.msgpack.Encoder().encode


def recover(engine: Engine, store: Store) -> None:
    """List the sessions of a former host, at rest. Raises StorageError when the folder cannot be read at all."""
    for ident, data in store.sessions():
        _take_up(engine, ident, data)
    assert engine.journal is not None
    for left in [actor for actor in engine.registry.all() if actor.spec.temporary]:  # whoever had it is gone
        engine.registry.remove(left)
        engine.journal.submit([DeleteSession(left.id)], "memory", None)
    casts = 0
    for session, data in store.casts():
        actor = engine.registry.get(session)
        if actor is not None:
            actor.casts.restore(_read_cast(data))
            casts += 1
    engine.families.restore(store.note(families.NOTE))
    removed = engine.folder.sweep_sessions({actor.id for actor in engine.registry.all()})
    found = len(engine.registry.all())
    if found or removed:
        engine.events.emit("host.recovered", None, 0, sessions=found, signals=casts, folders_removed=len(removed))


def _take_up(engine: Engine, ident: str, data: bytes) -> None:
    try:
        record = decode_session(ident, data)
    except JournalCorrupt as error:
        engine.events.emit("session.repaired", ident, 0, text=error.message)
        record = SessionRecord(
            id=ident,
            name=ident[:8],
            created_at=0.0,
            spec=StartBody(name=ident[:8]),
            phase="failed",
            reason=error.message,
        )
    actor = SessionActor(engine, record.spec, ident, record.name, record)
    try:
        folder = folder_key(record.spec.project) if record.spec.project is not None else None
    except InvalidRequest:
        folder = None  # it is not there just now; a start will say so
    engine.registry.take_up(actor, folder)
    try:
        engine.tools.restore(ident, record.tier, record.consented)
    except ProcessionError as error:
        engine.events.emit("session.repaired", ident, 0, text=f"its grants cannot be read: {error.message}")


def wake(engine: Engine) -> None:
    """Start those that were up, where the host is to; and those that somebody waits for: signals, jobs."""
    for actor in engine.registry.all():
        if actor.phase not in ("down", "hibernated"):
            actor.casts.set_all_aside()
            continue
        if actor.casts.pending:
            actor.casts.deliver()
        elif actor.keeping.has_jobs or (actor.was_up and engine.options.restore == "eager"):
            actor.wake()


def number_events(engine: Engine, store: Store) -> None:
    """Go on numbering events where the former host may have been, and keep doing so."""
    assert engine.journal is not None
    journal = engine.journal
    data = store.note(EVENTS_NOTE)
    begun = 0 if data is None else _read_number(data)

    def reserve(upto: int) -> None:
        journal.submit([PutNote(EVENTS_NOTE, _encode(upto))], "memory", None)

    engine.events.go_on_from(begun, EVENTS_RESERVED, reserve)
