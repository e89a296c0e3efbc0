"""The calls of one session with the session's end of the mailbox in the test's hand: real pipes, page and arenas, no process."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from helpers.reactors import WAIT_S, in_loop
from helpers.waiting import wait_until
from procession.host.host_call import HostCall
from procession.host.payload_arena import PayloadArena
from procession.host.session_calls import SessionCalls
from procession.ipc.core import frames, status_page
from procession.ipc.core.backend import Outcome, Request
from procession.ipc.core.connection import Connection
from procession.ipc.core.errors import ProcessionError, SessionDied, SessionNotRunning, to_data
from procession.ipc.core.messages import Arena, Call, Cancel, Failed, Message, Ready, Reply, decoder, encode
from procession.ipc.core.operations import OPERATIONS, Nothing
from procession.ipc.core.records import OutputChunk
from procession.ipc.core.status_page import StatusPage
from procession.ipc.transport.channel import After, Channel
from procession.ipc.transport.reactor import Reactor

SESSION = "the-session"
NOTHING = msgspec.Raw(encode(Nothing()))
_read = decoder("to_session")


def request(op: str = "echo", payload: bytes | None = None, timeout_s: float | None = WAIT_S, **more: Any) -> Request:
    """Return a request with no parameters; more: fields of Request."""
    return Request(OPERATIONS[op], SESSION, Nothing(), payload, timeout_s, **more)


class Outcomes:
    """Takes outcomes of submitted calls by name; every call must have exactly one."""

    def __init__(self) -> None:
        self.all: dict[str, list[Outcome]] = {}
        self._news = threading.Condition()

    def of(self, name: str) -> "_Done":
        return _Done(self, name)

    def add(self, name: str, outcome: Outcome) -> None:
        with self._news:
            self.all.setdefault(name, []).append(outcome)
            self._news.notify_all()

    def wait(self, name: str) -> Any:
        """Return the one outcome of a call."""
        with self._news:
            assert self._news.wait_for(lambda: name in self.all, WAIT_S), f"no outcome of {name}"
            (outcome,) = self.all[name]
            return outcome


class _Done:
    def __init__(self, outcomes: Outcomes, name: str) -> None:
        self._outcomes = outcomes
        self._name = name

    def __call__(self, outcome: Outcome) -> None:
        self._outcomes.add(self._name, outcome)


class Peer:
    """See the module's text. `be_born` makes an incarnation, `die` ends it; in between `hear`, `say`, `started`."""

    def __init__(self, reactor: Reactor, arena_bytes: int = 1 << 20) -> None:
        self.reactor = reactor
        self.overdue: list[HostCall] = []
        self.others: list[Any] = []
        self.chunks: list[OutputChunk] = []
        self.wanted = 0
        self.lost: list[Any] = []
        self.outcomes = Outcomes()
        self.inc = 0
        self.commits: list[bytes] = []
        self.followed = (False, False)
        self.calls = SessionCalls(
            reactor,
            session=SESSION,
            overdue=self.overdue.append,
            other=self.others.append,
            output=self.chunks.append,
            wake=self._wake,
            commit=self.commits.append,
            followed=lambda: self.followed,
        )
        self._arena_bytes = arena_bytes
        self._heard: list[Any] = []
        self.channel: Channel | None = None

    def _wake(self) -> None:
        self.wanted += 1

    # --- its life -------------------------------------------------------------------------------------------
    def be_born(self) -> None:
        """A process comes: the greeting, then the calls are given its channel."""
        self.inc += 1
        ours_r, self._w = os.pipe()
        self._r, ours_w = os.pipe()
        self._memory = [os.memfd_create(name) for name in ("page", "in", "out")]
        for fd, size in zip(self._memory, (status_page.PAGE_BYTES, self._arena_bytes, self._arena_bytes), strict=True):
            os.ftruncate(fd, size)
        self._decoder = frames.FrameDecoder()
        connection = Connection("host", incarnation=self.inc)
        channel = self.channel = Channel(
            ours_r,
            ours_w,
            connection,
            self.reactor,
            self._dispatch,
            self.lost.append,
            lock=self.calls.lock,
            pending=self.calls.pending,
        )
        in_loop(self.reactor, channel.start)
        self.say(Ready(1, self.inc, 1))
        wait_until(lambda: connection.greeted, "the greeting")
        arena = PayloadArena(self._memory[1], self._memory[2], self._arena_bytes)
        in_loop(self.reactor, lambda: self.calls.attach(channel, self.inc, self._memory[0], arena))

    def _dispatch(self, messages: list[Any]) -> After | None:
        rest = [message for message in messages if type(message) is not Ready]
        return self.calls.dispatch(rest) if rest else None

    def die(self, *, keep: bool = True) -> None:
        """The process ends, as its keeper would tell."""
        assert self.channel is not None
        error = SessionDied("the session process ended (SIGKILL) while the call was with it", session=SESSION)
        shared = SessionNotRunning("the session has failed", session=SESSION)
        in_loop(self.reactor, lambda: self.calls.detach(error, lambda: shared, keep=keep))
        self.bury()

    def bury(self) -> None:
        """Close what is left of an incarnation."""
        if self.channel is None:
            return
        channel, self.channel = self.channel, None
        in_loop(self.reactor, channel.close)
        for fd in (self._r, self._w, *self._memory):
            os.close(fd)
        self._heard.clear()

    # --- the session's end ----------------------------------------------------------------------------------
    def say(self, *messages: Message) -> None:
        os.write(self._w, b"".join(frames.encode(encode(message)) for message in messages))

    def reply(self, seq: int) -> None:
        self.say(Reply(self.inc, seq, NOTHING))

    def fail(self, seq: int, error: ProcessionError) -> None:
        self.say(Failed(self.inc, seq, to_data(error)))

    def started(self, last: int, running: int = 0) -> None:
        """Write the status page."""
        page = bytearray(status_page.USED_BYTES)
        status_page.write(page, StatusPage(1, running, last, 0, 0))
        os.pwrite(self._memory[0], page, 0)

    def read(self, place: Arena) -> bytes:
        """Read what the host put into the arena."""
        return os.pread(self._memory[1], place.length, place.offset)

    def hear(self, kind: type[Message] = Call) -> Any:
        """Return the next message of a kind, reading for it; others before it are dropped."""
        while type(message := self.hear_first()) is not kind:
            pass
        return message

    def hear_first(self) -> Any:
        """Return the next message, whatever it is."""
        while not self._heard:
            self._heard += [_read(payload) for _, payload in self._decoder.feed(os.read(self._r, 65536))]
        return self._heard.pop(0)

    def hear_cancel(self) -> int:
        """Return the number that a cancel names."""
        message = self.hear(Cancel)
        assert isinstance(message, Cancel)
        return message.seq

    # --- the host's end -------------------------------------------------------------------------------------
    def submit(self, name: str, what: Request) -> HostCall:
        return self.calls.submit(what, self.outcomes.of(name))

    def outcome(self, name: str) -> Any:
        return self.outcomes.wait(name)


@contextmanager
def open_peer(reactor: Reactor, arena_bytes: int = 1 << 20) -> Iterator[Peer]:
    """Give a peer whose first incarnation is there."""
    peer = Peer(reactor, arena_bytes)
    peer.be_born()
    try:
        yield peer
    finally:
        peer.bury()
        peer.calls.close(SessionNotRunning("the test is over"))
