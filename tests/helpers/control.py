"""Both ends of a control socket for tests: a backend that does what its requests say, and a client that may misbehave."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from helpers.reactors import WAIT_S, in_loop, running_reactor
from helpers.waiting import wait_until
from procession.host.control_client_state import MESSAGE_BYTES_MAX
from procession.host.control_server import ControlServer
from procession.host.paths import socket_address, socket_path, token_path
from procession.ipc.core.backend import Done, Item, Outcome, Request, Response
from procession.ipc.core.bounds import WIRE_VERSION
from procession.ipc.core.connection import Connection
from procession.ipc.core.errors import CallCancelled, ProcessionError, ToolRaised
from procession.ipc.core.messages import Ask, ClientHello, Message, Push
from procession.ipc.core.operations import OPERATIONS, Nothing, RunBody, RunDone
from procession.ipc.core.pushed import decode_item
from procession.ipc.core.records import KillReceipt, OutputChunk, RunReport
from procession.ipc.transport.reactor import Reactor

_encode = msgspec.msgpack.encode
NOTHING = msgspec.Raw(_encode(Nothing()))
REPORT = RunReport(tool="boom", pid=7, ended="exit", receipt=KillReceipt(found=2, left=0))


class Held:
    """A call that the backend keeps until it is told."""

    def __init__(self, backend: "ActedBackend", request: Request, done: Done) -> None:
        self.backend = backend
        self.request = request
        self.call_id = request.call_id
        self.cancelled = False
        self._done = done

    def print(self, data: bytes) -> None:
        assert self.request.on_item is not None
        self.request.on_item(OutputChunk(stream="stdout", data=data))

    def finish(self, outcome: Outcome) -> None:
        self._done(outcome)

    def cancel(self) -> None:
        self.cancelled = True
        with self.backend.news:
            self.backend.news.notify_all()
        if "stubborn" not in getattr(self.request.body, "label", ""):
            self.finish(CallCancelled("cancelled", code="cancelled_in_session", ran="maybe", report=REPORT))


class ActedBackend:
    """`echo` gives its payload back; `run` does what its label says; what follows goes on until it is cancelled."""

    data_dir = Path("/data")

    def __init__(self) -> None:
        self.held: list[Held] = []
        self.requests: list[Request] = []
        self.news = threading.Condition()
        self.threads: set[int] = set()

    def submit(self, request: Request, done: Done) -> Held:
        call = Held(self, request, done)
        self.threads.add(threading.get_ident())
        self.requests.append(request)
        label = getattr(request.body, "label", "")
        if request.op.name == "echo":
            done(Response(NOTHING, request.payload))
        elif request.op.name == "ping":
            done(Response(b""))
        elif label == "raise":
            done(ToolRaised("ValueError: boom", exception_type="builtins.ValueError", report=REPORT))
        elif label == "refuse":
            raise ProcessionError("refused before it began", code="refused_here")
        elif label == "bug":
            raise RuntimeError("a bug of the backend")
        elif label.startswith("print "):
            for number in range(int(label.split()[1])):
                call.print(b"%d\n" % number)
            done(Response(_encode(RunDone(report=REPORT))))
        else:
            with self.news:
                self.held.append(call)
                self.news.notify_all()
        return call

    def call(self, request: Request) -> Response:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def wait_held(self, count: int = 1) -> list[Held]:
        """Wait until that many calls are held, and return all of them."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.held) >= count, WAIT_S), (
                f"{len(self.held)} of {count} calls came"
            )
            return list(self.held)

    def wait_cancelled(self, call: Held) -> None:
        with self.news:
            assert self.news.wait_for(lambda: call.cancelled, WAIT_S), "the call was not cancelled"


class Served:
    """A control server over an acted backend."""

    def __init__(self, reactor: Reactor, data_dir: Path, refuse_pids: Callable[[int], bool] = lambda _: False) -> None:
        self.reactor = reactor
        self.data_dir = data_dir
        self.backend = ActedBackend()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.surprises: list[BaseException] = []
        reactor.on_error = lambda problem, where: self.surprises.append(problem)
        self.server = in_loop(
            reactor,
            lambda: ControlServer(
                self.backend,
                reactor,
                data_dir,
                pid=os.getpid(),
                refuse_pids=refuse_pids,
                on_event=lambda kind, data: self.events.append((kind, data)),
            ),
        )

    def wait_event(self, kind: str) -> dict[str, Any]:
        wait_until(lambda: any(k == kind for k, _ in self.events), f"an event {kind} (there were {self.events})")
        return next(data for k, data in self.events if k == kind)

    def wait_clients(self, count: int) -> None:
        wait_until(lambda: len(self.server.clients) == count, f"{count} clients")

    def close(self) -> None:
        in_loop(self.reactor, self.server.close)


@contextmanager
def serving(data_dir: Path, kind: str = "thread", **options: Any) -> Iterator[Served]:
    """Serve a folder; a surprise in the host's loop that the test has not taken out fails it."""
    with running_reactor(kind) as reactor:
        served = Served(reactor, data_dir, **options)
        try:
            yield served
        finally:
            served.close()
        surprises = served.surprises
        reactor.on_error = None
    assert surprises == []


class RawClient:
    """A client without manners: sends whatever messages or bytes it is given, and reads only when told."""

    def __init__(
        self, data_dir: Path, *, version: int = WIRE_VERSION, token: str | None = None, hello: bool = True
    ) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(WAIT_S)
        with socket_address(socket_path(data_dir)) as address:
            self.socket.connect(address)
        self.connection = Connection("client", message_bytes_max=MESSAGE_BYTES_MAX)
        self._got: list[Any] = []
        if hello:
            self.send(ClientHello(version, token_path(data_dir).read_text() if token is None else token, "raw"))

    def send(self, *messages: Message, control: bool = False) -> None:
        for message in messages:
            self.connection.send(message, control=control)
        while data := self.connection.take():
            self.socket.sendall(data)

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def next(self) -> Any:
        """Return the next message; EOFError when there is none any more."""
        while not self._got:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError
            self._got += self.connection.feed(data)
        return self._got.pop(0)

    def next_not_push(self) -> tuple[list[Any], Any]:
        """Return the items up to the next answer, and that."""
        items = []
        while isinstance(message := self.next(), Push):
            items.append(decode_item(message.body))
        return items, message

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()


def ask(seq: int, op: str = "run", label: str = "", **fields: Any) -> Ask:
    """Make a call of a raw client."""
    body = msgspec.Raw(_encode(RunBody(label=label) if op == "run" else fields.pop("body", Nothing())))
    return Ask(seq, op, "s", fields.pop("timeout_s", 5.0), body, **fields)


def request(op: str = "run", label: str = "", payload: bytes | None = None, **fields: Any) -> Request:
    """Make a call of a backend."""
    body = RunBody(label=label) if op == "run" else fields.pop("body", Nothing())
    return Request(OPERATIONS[op], "s", body, payload, fields.pop("timeout_s", 5.0), **fields)


def bytes_of(item: Item) -> bytes:
    assert isinstance(item, OutputChunk)
    return item.data


__all__ = [
    "NOTHING",
    "REPORT",
    "ActedBackend",
    "Held",
    "RawClient",
    "Served",
    "ask",
    "bytes_of",
    "request",
    "serving",
]
