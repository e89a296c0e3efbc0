"""One client of the control socket: its handshake, its calls, and what is sent to it.

    new --ClientHello--> open --end of file, breach, stall, close--> over

It is *not* the socket server (control_server.py) and knows no session. The client's channel, calls and outbound queue are
one value under one lock; outcomes and streamed items come from any thread, everything else from the reactor's.

Rules: a call belongs to the host once it is accepted: a client that goes away loses the answer, not the work (R-56); only
what it follows, and what it asked to be cancelled with it, is. A client that does not read is not read from either, and
after `STALL_S` it is let go. Whatever bytes a client sends, the worst that happens is the end of this client.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from procession.host import clock
from procession.host.control_requests import follows, request_of
from procession.host.core.fair_shares import FairShares
from procession.host.core.served_calls import ServedCall, ServedCalls
from procession.ipc.core.backend import Backend, Item, Outcome, Request, Response
from procession.ipc.core.bounds import PAYLOAD_BYTES_MAX, WIRE_VERSION, KiB, MiB
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.connection import Connection
from procession.ipc.core.errors import (
    CallCancelled,
    HostOverloaded,
    MailboxFull,
    MessageTooLarge,
    PermissionDenied,
    ProcessionError,
    ProtocolError,
    to_data,
)
from procession.ipc.core.frames import FrameTooLarge
from procession.ipc.core.messages import (
    Answer,
    Ask,
    ClientHello,
    Push,
    Refused,
    ServerHello,
    SessionDefaults,
    Withdraw,
)
from procession.ipc.core.operations import is_work
from procession.ipc.core.pushed import encode_item
from procession.ipc.transport.channel import After, Channel
from procession.ipc.transport.reactor import Reactor, Timer, tell_surprise

#: Payloads travel inside the messages of this socket, with their envelope and body.
MESSAGE_BYTES_MAX: Final = PAYLOAD_BYTES_MAX + 1 * MiB
#: A client says who it is at once or is let go: it holds one of few places.
HELLO_TIMEOUT_S: Final = 2.0
#: Replies queued for a client that does not take them; above it nothing more is read from it.
QUEUED_BYTES_MAX: Final = 8 * MiB
#: Streams are sent piece by piece while less than this is queued: what waits longer waits in its ring, where it may be lost.
STREAM_AHEAD_BYTES: Final = 256 * KiB
#: A client that is owed more than QUEUED_BYTES_MAX and takes nothing for this long is let go; it would hold the memory for ever.
STALL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class HostIdentity:
    """What a client is told of the host, and what it has to know to be let in."""

    pid: int
    data_dir: str
    token: str
    defaults: SessionDefaults = ()


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """What the kernel says of a client."""

    pid: int
    uid: int


class SharedPlaces:
    """The fair shares of all clients of one server, under a lock of their own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shares = FairShares()
        self._clients = 0

    def join(self) -> int:
        """Return the number of a new client, which no other one has or had."""
        with self._lock:
            self._clients += 1
            return self._clients

    def enter(self, session: str, client: int) -> bool:
        """Take a place; False when the client has its share already."""
        with self._lock:
            return self._shares.enter(session, client, clock.monotonic())

    def leave(self, session: str, client: int) -> None:
        """Give a place back."""
        with self._lock:
            self._shares.leave(session, client)

    def forget(self, client: int) -> None:
        """The client is gone."""
        with self._lock:
            self._shares.forget(client)


class ControlClient:
    """See the module's text. `on_over(client, reason)` is called once, in the reactor's thread."""

    def __init__(
        self,
        fd: int,
        peer: PeerIdentity,
        host: HostIdentity,
        backend: Backend,
        reactor: Reactor,
        on_over: Callable[[ControlClient, ProtocolBreach | str], None],
        shares: SharedPlaces | None = None,
    ) -> None:
        self.peer = peer
        self.program = ""
        self.over = False
        self._host = host
        self._backend = backend
        self._reactor = reactor
        self._on_over = on_over
        self._shares = shares or SharedPlaces()
        self._number = self._shares.join()
        self._open = False
        self._refused = False
        self._when_idle: Callable[[], None] | None = None  # no call is begun any more
        self._calls = ServedCalls()
        self._held = False  # nothing is read: more is owed than is taken
        self._stall: Timer | None = None
        self._took = False  # something since the watch began
        connection = Connection("server", message_bytes_max=MESSAGE_BYTES_MAX)
        self._connection = connection
        self._channel = Channel(fd, fd, connection, reactor, self._dispatch, self.end, on_room=self._has_room)
        self._hello_due: Timer = reactor.call_at(reactor.now() + HELLO_TIMEOUT_S, self._no_hello)

    def start(self) -> None:
        """Begin to read."""
        self._channel.start()

    @property
    def open_calls(self) -> int:
        """Calls whose answer has not been queued yet."""
        return len(self._calls)

    @property
    def owed_bytes(self) -> int:
        """What the client has not taken yet, streams not counted (each has its own bound)."""
        return self._channel.unsent_bytes + self._calls.answer_bytes

    # --- the handshake --------------------------------------------------------------------------------------
    def refuse(self, error: ProcessionError) -> None:
        """Turn the client away with a reason; the reactor's thread."""
        with self._channel.lock:
            self._refuse(error)
        self.end("refused")

    def _refuse(self, error: ProcessionError) -> None:
        self._refused = True
        self._connection.send(Refused(0, to_data(error)))
        self._channel.flush()

    def _no_hello(self) -> None:
        if not (self._open or self.over):
            self.end(f"no greeting within {HELLO_TIMEOUT_S:g} s")

    def _greet(self, hello: ClientHello) -> After | None:
        self.program = hello.program[:80]
        error: ProcessionError | None = None
        if hello.version != WIRE_VERSION:
            error = ProtocolError(
                f"this host (pid {self._host.pid}) speaks protocol version {WIRE_VERSION}, the client version {hello.version}",
                code="version_skew",
                ran="no",
                hint="restart the host with the release the client has",
            )
        elif not hmac.compare_digest(hello.token.encode(), self._host.token.encode()):
            error = PermissionDenied(
                "the token is not this host's",
                code="wrong_token",
                hint="the host may have been restarted a moment ago: connect again",
            )
        if error is not None:
            self._refuse(error)
            return [lambda: self.end(error.code)]
        self._open = True
        self._hello_due.cancel()
        self._connection.send(ServerHello(WIRE_VERSION, self._host.pid, self._host.data_dir, self._host.defaults))
        self._channel.flush()
        return None

    # --- what the client says -------------------------------------------------------------------------------
    def _dispatch(self, messages: list[Any]) -> After | None:
        """Handle messages; the lock is held."""
        after: list[Callable[[], None]] = []
        for message in messages:
            if self._refused:
                break
            if isinstance(message, Ask):
                begin = self._ask(message)
                if begin is not None:
                    after.append(begin)
            elif isinstance(message, Withdraw):
                call = self._calls.withdraw(message.seq)
                if call is not None:
                    after.append(lambda call=call: self._cancel(call))  # type: ignore[misc]
            elif isinstance(message, ClientHello):
                after.extend(self._greet(message) or ())
        return after

    def _ask(self, ask: Ask) -> Callable[[], None] | None:
        """Accept a call, or refuse it; return what begins it."""
        wanted = self._calls.number(ask.seq)
        try:
            if not wanted:
                raise CallCancelled("the call was withdrawn before it was begun", code="not_sent", ran="no")
            request = request_of(ask)
            if self._when_idle is not None:
                raise _restarting()
            if self._calls.is_full(for_work=is_work(request.op, request.body)):
                raise HostOverloaded(
                    f"this client has {len(self._calls)} calls under way already", code="too_many_calls"
                )
            places = request.session if request.op.target == "session" and request.op.lane != "control" else ""
            if places and not self._shares.enter(places, self._number):
                raise MailboxFull(
                    "this client has its share of the session's mailbox, and others wait for theirs",
                    session=request.session,
                    hint="wait for some of its calls to end",
                )
        except ProcessionError as error:
            self._connection.send(Refused(ask.seq, to_data(error)))
            self._channel.flush()
            return None
        call = ServedCall(ask.seq, follows=follows(request.body), drop_with_client=ask.cancel_on_disconnect)
        call.places = places
        if ask.want_output or call.follows:
            request.on_item = lambda item: self._item(call, item)
        self._calls.add(call)
        return lambda: self._begin(call, request)

    def _begin(self, call: ServedCall, request: Request) -> None:
        try:
            call.ticket = self._backend.submit(request, lambda outcome: self._done(call, outcome))
        except ProcessionError as error:
            self._done(call, error)
        except Exception as problem:  # noqa: BLE001 - a bug of the host's: an event, and this call's error
            tell_surprise(self._reactor, problem, self._begin)
            self._done(call, ProcessionError("the host failed to begin this call", code="internal_error"))
        if call.withdrawn or (self.over and call.drop_with_client):
            self._cancel(call)

    @staticmethod
    def _cancel(call: ServedCall) -> None:
        if call.ticket is not None:  # else it is just being begun, and that looks again
            call.ticket.cancel()

    # --- what the host says ---------------------------------------------------------------------------------
    def _item(self, call: ServedCall, item: Item) -> None:
        with self._channel.lock:
            if self._calls.put(call, item):
                self._pump()

    def _done(self, call: ServedCall, outcome: Outcome) -> None:
        if call.places:
            self._shares.leave(call.places, self._number)
        with self._channel.lock:
            if self._calls.finish(call, outcome):
                self._pump()
            when_idle = None if self._calls.works else self._when_idle
        if when_idle is not None:
            self._reactor.call_soon(when_idle)

    def _has_room(self) -> None:
        self._took = True
        self._pump()

    def _pump(self) -> None:
        """Send what there is, streams only as fast as they are taken. The lock is held."""
        channel, calls = self._channel, self._calls
        while True:
            while calls.has_news and channel.unsent_bytes < STREAM_AHEAD_BYTES:
                call, news = calls.next()
                self._send(call.seq, news)
            channel.flush()
            if channel.closed or not calls.has_news or channel.unsent_bytes >= STREAM_AHEAD_BYTES:
                break
        owed = self.owed_bytes
        if owed > QUEUED_BYTES_MAX and not self._held:
            self._held = True
            channel.hold(True)
            self._watch_stall()
        elif self._held and owed < QUEUED_BYTES_MAX // 2:
            self._held = False
            if self._stall is not None:
                self._stall.cancel()
            channel.hold(False)

    def _send(self, seq: int, news: Item | Outcome) -> None:
        if isinstance(news, ProcessionError):
            self._connection.send(Refused(seq, to_data(news)))
        elif isinstance(news, Response):
            body = news.body
            raw = body if isinstance(body, msgspec.Raw) else msgspec.Raw(body or b"\x80")
            try:
                self._connection.send(Answer(seq, raw, news.payload))
            except FrameTooLarge:
                error = MessageTooLarge(
                    "the result is too large for the control socket", code="payload_too_large", ran="yes"
                )
                self._connection.send(Refused(seq, to_data(error)))
        else:
            self._connection.send(Push(seq, encode_item(news)))

    def _watch_stall(self) -> None:
        self._took = False
        self._stall = self._reactor.call_at(self._reactor.now() + STALL_S, self._look_for_stall)

    def _look_for_stall(self) -> None:
        with self._channel.lock:
            stuck = self._held and not self._took
            if self._held and not stuck:
                self._watch_stall()
        if stuck:
            self.end(f"took nothing for {STALL_S:g} s")

    # --- the end --------------------------------------------------------------------------------------------
    @property
    def works(self) -> bool:
        """Whether a call of it is under way that ends by itself."""
        with self._channel.lock:
            return self._calls.works

    def begin_no_more(self, when_idle: Callable[[], None]) -> None:
        """Say that this host is about to be started again; calls from now on are refused. The reactor's thread."""
        with self._channel.lock:
            self._when_idle = when_idle
            if self._open and not self._refused:
                self._connection.send(Refused(0, to_data(_restarting())))
                self._channel.flush()

    def end(self, reason: ProtocolBreach | str) -> None:
        """Let the client go; the reactor's thread. What it started goes on, what it followed does not."""
        if self.over:
            return
        with self._channel.lock:
            self.over = True
            self._channel.flush()
            doomed = self._calls.abandon()
            stall, self._stall = self._stall, None
        self._hello_due.cancel()
        if stall is not None:
            stall.cancel()
        self._channel.close()
        self._shares.forget(self._number)
        for call in doomed:
            self._cancel(call)
        self._on_over(self, reason)

    def forget_after_fork(self) -> None:
        """In a forked child: close our copy of the socket."""
        self.over = True
        self._channel.forget_after_fork()

    def __repr__(self) -> str:
        state = "over" if self.over else "open" if self._open else "new"
        return f"<ControlClient {self.program or '?'} pid={self.peer.pid} {state} calls={len(self._calls)}>"


def _restarting() -> HostOverloaded:
    return HostOverloaded("the host is being started again", code="restarting", hint="ask again in a moment")
