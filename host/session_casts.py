"""Signals on their way to one session, at least once: kept until they were handled, and set aside when nobody can take them.

    cast ──▶ mailbox, and the journal ──▶ told that it is taken, once it is written
                │
                ├──▶ handled                       forgotten, on disk after the change that it led to
                ├──▶ running at two deaths         set aside, listed, until somebody retries or drops it
                ├──▶ the session was stopped       set aside, too
                └──▶ the host is closed, or dies   the next host gives it to the session

It is *not* the mailbox, nor what decides (core/cast_book.py). Its own lock guards the book: casts come from any thread.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from procession.host import clock
from procession.host.core.cast_book import CastBook
from procession.host.core.journal_entries import Cast, DeleteCast, Item, PutCast
from procession.ipc.core.backend import Outcome, Request
from procession.ipc.core.errors import ProcessionError, SessionDied, SessionNotRunning, StorageError, cut
from procession.ipc.core.messages import encode
from procession.ipc.core.operations import OPERATIONS, SignalBody
from procession.ipc.core.records import AsideSignal

if TYPE_CHECKING:
    from procession.host.engine import Engine
    from procession.host.session import SessionActor

#: Processes that ended while they had a signal, when it is set aside: it is given to the session once more, not oftener.
DEATHS: Final = 2
_TEXT_CHARS_MAX: Final = 500
_SIGNAL: Final = OPERATIONS["signal"]

Told = Callable[[ProcessionError | None], None]


class SessionCasts:
    """See the module's text."""

    def __init__(self, engine: Engine, actor: SessionActor) -> None:
        self._engine = engine
        self._actor = actor
        self._lock = threading.Lock()
        self._book = CastBook()

    @property
    def pending(self) -> int:
        """How many are kept that were not handled yet."""
        return len(self._book.taken)

    # --- a signal comes -------------------------------------------------------------------------------------
    def cast(self, request: Request, told: Told) -> bool:
        """Take a signal in and tell when it is as safe as it is to be: at once, or in the journal's thread.

        False, and nothing is done, when it has to wait for room, or for a process. Raises DiskFull, StorageError,
        MessageTooLarge.
        """
        actor = self._actor
        journal = actor.keeping.journal
        level = "memory" if journal is None else journal.level(request.durability)
        ident = str(uuid.uuid4())
        body = request.body
        type_ = body.type if isinstance(body, SignalBody) else ""
        if level == "memory":
            if not actor.calls.cast(request, partial(self._failed, ident, type_, request.payload or b"")):
                return False
            told(None)
            return True
        assert journal is not None
        cast = self._take(ident, type_, request.payload or b"")
        both = _Both(told)
        self._write([PutCast(actor.id, ident, cast.order, encode(cast))], level, both.written)
        is_taken = False
        try:
            is_taken = actor.calls.cast(
                request, partial(self._failed, ident, type_, b""), partial(self._handled, ident)
            )
        finally:
            if not is_taken:  # it is not in the mailbox, so there is nothing to be kept
                self._handled(ident)
        if is_taken:
            both.taken()
        return is_taken

    def _take(self, ident: str, type_: str, signal: bytes) -> Cast:
        with self._lock:
            return self._book.take(ident, type_, signal, clock.wall())

    def _forget(self, ident: str) -> bool:
        with self._lock:
            return self._book.over(ident)

    def _handled(self, ident: str) -> None:
        """It was handled (any thread; the calls' lock may be held)."""
        if self._forget(ident):
            self._write([DeleteCast(self._actor.id, ident)], "memory", None)

    def _failed(self, ident: str, type_: str, signal: bytes, error: ProcessionError) -> None:
        """It ended with an error (any thread): what the session itself said of it counts as handled."""
        self._engine.reactor.call_soon(partial(self._settle, ident, type_, signal, error))

    def _settle(self, ident: str, type_: str, signal: bytes, error: ProcessionError) -> None:
        if self._engine.closed or error.code == "closed":
            return  # the next host gives it to the session
        if isinstance(error, SessionDied | SessionNotRunning | StorageError):  # or what it led to could not be kept
            self.set_aside(ident, type_, signal, error)
            return
        self._handled(ident)
        self._engine.families.lost(self._actor, "cast", error)

    def set_aside(self, ident: str, type_: str, signal: bytes, error: ProcessionError) -> None:
        """Keep a signal that nobody could take until somebody decides about it; the reactor's thread."""
        actor = self._actor
        deaths = DEATHS if isinstance(error, SessionDied) else 0
        text = cut(error.message, _TEXT_CHARS_MAX)
        with self._lock:
            cast, gone = self._book.set_aside(
                ident, error.code, text, deaths, at=clock.wall(), signal=signal, type_=type_
            )
        items: list[Item] = [PutCast(actor.id, ident, cast.order, encode(cast))]
        items += [DeleteCast(actor.id, one.id) for one in gone]
        self._write(items, "memory", None)
        emit = self._engine.events.emit
        emit("session.signal_set_aside", actor.id, actor.incarnation, id=ident, about=type_, code=error.code, text=text)
        if gone:
            emit("session.signals_dropped", actor.id, actor.incarnation, count=len(gone))

    def _write(self, items: list[Item], level: str, told: Told | None) -> None:
        journal = self._actor.keeping.journal
        if journal is not None:
            journal.submit(items, level, told)  # type: ignore[arg-type]

    def set_all_aside(self) -> None:
        """Set aside what a former host had for a session that is stopped, or has failed; the reactor's thread."""
        with self._lock:
            taken = self._book.taken
        error = SessionNotRunning("the session was stopped before it came to this", code="stopped")
        for cast in taken:
            self.set_aside(cast.id, cast.type, b"", error)

    # --- after a restart of the host ------------------------------------------------------------------------
    def restore(self, cast: Cast) -> None:
        """Take up a signal that a former host had."""
        with self._lock:
            self._book.restore(cast)

    def deliver(self) -> None:
        """Give the session what a former host had for it, in order."""
        with self._lock:
            taken = self._book.taken
        for cast in taken:
            self._deliver(cast)

    def _deliver(self, cast: Cast) -> None:
        failed = partial(self._failed, cast.id, cast.type, b"")

        def done(outcome: Outcome) -> None:
            if isinstance(outcome, ProcessionError):
                failed(outcome)
            else:
                self._handled(cast.id)

        body = SignalBody(wait=False, type=cast.type)
        self._actor.calls.submit(Request(_SIGNAL, self._actor.id, body, cast.signal, None, wait=True), done)

    # --- what was set aside ---------------------------------------------------------------------------------
    def aside(self) -> tuple[AsideSignal, ...]:
        """List what was set aside, the oldest first; any thread."""
        with self._lock:
            found = self._book.aside
        return tuple(
            AsideSignal(id=one.id, type=one.type, at=one.at, code=one.code, reason=one.text, deaths=one.deaths)
            for one in found
        )

    def retry(self, ident: str) -> None:
        """Give the session once more what was set aside. Raises InvalidRequest (signal_not_found)."""
        with self._lock:
            cast = self._book.retry(ident)
        self._write([PutCast(self._actor.id, ident, cast.order, encode(cast))], "batch", None)
        self._deliver(cast)

    def drop(self, ident: str) -> None:
        """Forget what was set aside. Raises InvalidRequest (signal_not_found)."""
        with self._lock:
            self._book.drop(ident)
        self._write([DeleteCast(self._actor.id, ident)], "batch", None)


class _Both:
    """Tells once a signal is both written and in the mailbox, in whichever order that comes, from whichever thread."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._lock = threading.Lock()
        self._is_taken = False
        self._written: tuple[ProcessionError | None] | None = None

    def written(self, error: ProcessionError | None) -> None:
        with self._lock:
            self._written = (error,)
            is_taken = self._is_taken
        if is_taken:
            self._told(error)

    def taken(self) -> None:
        with self._lock:
            self._is_taken = True
            written = self._written
        if written is not None:
            self._told(written[0])
