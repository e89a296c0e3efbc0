"""Streams that go on until somebody ends them: output, events, signals, how an agent is doing, and being attached.

It is *not* what is followed: that is kept where it arises (output_log.py, event_log.py, signal_log.py). Rules: what was there
before comes first, then what comes, with nothing in between; a stream ends once, by whoever is first: its reader, the end of
what it follows, or the host's; a session tells what it does only while somebody follows it, and is told when that changes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from procession.ipc.core.backend import Item, Request
from procession.ipc.core.errors import InvalidRequest, ProcessionError
from procession.ipc.core.operations import ChunkList, EventList, FollowBody, Nothing, SignalList
from procession.ipc.core.records import OutputChunk, SentSignal

if TYPE_CHECKING:
    from procession.host.engine import Engine, HostTicket
    from procession.host.session import SessionActor

I = TypeVar("I", bound=OutputChunk | SentSignal)  # noqa: E741 - an item
Finish = Callable[[msgspec.Struct | ProcessionError], None]
Stop = Callable[[], None]
OnItem = Callable[[Item], object]

_STATUS: Final = "follow_agent_status"
_OVER: Final = frozenset({"stopped", "failed", "gone"})
"""Phases in which an agent does nothing any more, unless somebody brings it back."""


class Follows:
    """See the module's text. A stream begins in the reactor's thread, and is ended in whichever."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: dict[HostTicket, tuple[str, str, Callable[[ProcessionError | None], None]]] = {}
        self._begin: dict[str, Callable[[SessionActor, FollowBody, OnItem], tuple[Stop, msgspec.Struct]]] = {
            "logs": self._logs,
            "events": lambda actor, body, on_item: self._events(actor.id, body, on_item),
            "signals": self._signals,
            _STATUS: self._agent_status,
            "attach": self._attach,
        }

    def begin(self, request: Request, done: Finish, ticket: HostTicket) -> None:
        """Begin a stream; `done` is told when it ends. Raises what finding its session raises."""
        body, on_item, op = request.body, request.on_item, request.op.name
        assert isinstance(body, FollowBody)
        assert on_item is not None
        if op == "events" and not request.session:
            session, is_over = "", False
            stop, last = self._events(session, body, on_item)
        else:
            actor = self._engine.registry.find(request.session)
            session, is_over = actor.id, op == _STATUS and actor.phase in _OVER
            stop, last = self._begin[op](actor, body, on_item)

        def end(error: ProcessionError | None) -> None:
            if self._open.pop(ticket, None) is not None:  # the one that takes it out ends it, in whichever thread
                stop()
                done(error or last)

        self._open[ticket] = (session, op, end)
        ticket.on_cancel = lambda: end(None)
        if ticket.cancelled or is_over:
            end(None)

    def end(self, error: ProcessionError | None, session: str = "") -> None:
        """End what follows one session that is gone, or all of it because the host is."""
        for of, _, end in list(self._open.values()):
            if not session or of == session:
                end(error)

    def moved(self, actor: SessionActor) -> None:
        """A session is in another phase: what its agent does is over when it has stopped."""
        if actor.phase in _OVER:
            for of, op, end in list(self._open.values()):
                if of == actor.id and op == _STATUS:
                    end(None)

    # --- one kind each --------------------------------------------------------------------------------------
    def _logs(self, actor: SessionActor, body: FollowBody, on_item: OnItem) -> tuple[Stop, msgspec.Struct]:
        replay: _Replay[OutputChunk] = _Replay(
            lambda chunk: on_item(chunk) if body.call in (None, chunk.call) else None
        )
        number, before = actor.output.follow(replay)
        replay.begin(before)
        return partial(actor.output.unfollow, number), ChunkList()

    def _events(self, session: str, body: FollowBody, on_item: OnItem) -> tuple[Stop, msgspec.Struct]:
        def give(event: Any) -> None:
            if not session or event.session == session:
                on_item(event)

        return self._engine.events.follow(give, since=body.since), EventList()

    def _signals(self, actor: SessionActor, body: FollowBody, on_item: OnItem) -> tuple[Stop, msgspec.Struct]:
        replay: _Replay[SentSignal] = _Replay(on_item)
        number, kept = actor.signals.follow(replay, body.since)
        replay.begin(kept)
        actor.calls.tell_followed()

        def stop() -> None:
            actor.signals.unfollow(number)
            actor.calls.tell_followed()

        return stop, SignalList()

    def _agent_status(self, actor: SessionActor, _: FollowBody, on_item: OnItem) -> tuple[Stop, msgspec.Struct]:
        """Hand on what is new to this reader: whenever one more begins, the session tells all of them."""
        told = b""

        def give(status: SentSignal) -> None:
            nonlocal told
            if status.data != told:
                told = status.data
                on_item(status)

        number, _kept = actor.statuses.follow(give, None)
        actor.calls.tell_followed()

        def stop() -> None:
            actor.statuses.unfollow(number)
            actor.calls.tell_followed()

        return stop, Nothing()

    def _attach(self, actor: SessionActor, body: FollowBody, _: OnItem) -> tuple[Stop, msgspec.Struct]:
        if not body.follow:
            raise InvalidRequest("attaching lasts until it is cancelled", code="invalid_body")
        actor.owners += 1
        self._engine.idle.touch(actor)
        return partial(self._engine.reactor.call_soon, partial(self._detach, actor)), Nothing()

    def _detach(self, actor: SessionActor) -> None:
        """Somebody let go of a session, or is gone: its time begins to count."""
        actor.owners -= 1
        self._engine.idle.touch(actor)


class _Replay(Generic[I]):
    """A follower that gets what was there before it, then what comes, in order; another thread may bring it meanwhile."""

    def __init__(self, give: Callable[[I], object]) -> None:
        self._give = give
        self._lock = threading.Lock()
        self._early: list[I] | None = []

    def __call__(self, item: I) -> None:
        with self._lock:
            if self._early is not None:
                self._early.append(item)
            else:
                self._give(item)

    def begin(self, before: Iterable[I]) -> None:
        """Give what was there before, then what came since."""
        for item in before:
            self._give(item)
        with self._lock:
            early, self._early = self._early, None
            for item in early or ():
                self._give(item)
