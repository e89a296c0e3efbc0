"""R-74: a hundred clients with more calls than one session can take: fair turns, refusals instead of delays, bounded memory."""

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers.host_program import HostProgram
from procession import HostOverloaded, MailboxFull
from procession.api.remote import RemoteBackend
from procession.ipc.core.backend import Outcome, Request, Response
from procession.ipc.core.bounds import MiB
from procession.ipc.core.operations import OPERATIONS, Nothing
from procession.ipc.transport.reactor import ThreadReactor

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(300)]

CLIENTS = 100
AHEAD = 8
"""Calls that a client has under way: a hundred times that is three times what the mailbox takes."""
PAUSE_S = 0.05
"""Before one that was refused asks again; all of them offer more than the session answers, and no more than one loop can send."""
RATIO_MAX = 4.0
SLACK = 2.5
"""The clients are threads of one process here, and their own turns are in what is measured."""
RSS_BYTES_MAX = 64 * MiB
_ECHO = OPERATIONS["echo"]


class Client:
    """One that always has calls under way: each that ends is followed by another, until it is told to stop."""

    def __init__(self, folder: Path, reactor: ThreadReactor, session: str, ahead: int) -> None:
        self.backend = RemoteBackend(folder, reactor)
        self.answered: list[float] = []
        self.refused: list[float] = []
        self.surprises: list[Outcome] = []
        self.over = threading.Event()
        self._reactor = reactor
        self._session = session
        self._ahead = self._open = ahead
        self._stop = False

    def begin(self) -> None:
        for _ in range(self._ahead):
            self._call()

    def _call(self) -> None:
        began = time.monotonic()

        def done(outcome: Outcome) -> None:
            took = time.monotonic() - began
            if isinstance(outcome, Response):
                self.answered.append(took)
            elif isinstance(outcome, MailboxFull | HostOverloaded):
                self.refused.append(took)
                self._reactor.call_at(time.monotonic() + PAUSE_S, self._next)
                return
            else:
                self.surprises.append(outcome)
            self._next()

        self.backend.submit(Request(_ECHO, self._session, Nothing(), b"x" * 64, 30.0), done)

    def _next(self) -> None:
        if not self._stop:
            self._call()
            return
        self._open -= 1
        if self._open == 0:
            self.over.set()

    def stop(self) -> None:
        self._stop = True


@pytest.fixture
def program(tmp_path: Path) -> Iterator[HostProgram]:
    made = HostProgram(tmp_path / "data")
    made.folder.mkdir(mode=0o700)
    yield made
    made.close()


def crowd(stack: ExitStack, program: HostProgram, session: str, ahead: list[int]) -> list[Client]:
    """Connect clients; one loop reads for all of them."""
    reactor = ThreadReactor("crowd")
    stack.callback(reactor.close)
    clients = [Client(program.folder, reactor, session, count) for count in ahead]
    for client in clients:
        stack.callback(client.backend.close)
    return clients


def work_for(clients: list[Client], span_s: float) -> None:
    for client in clients:
        client.begin()
    time.sleep(span_s)  # payload: so long they call
    for client in clients:
        client.stop()
    assert all(client.over.wait(60) for client in clients), "a call never ended"
    assert [client.surprises for client in clients if client.surprises] == []


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


@pytest.mark.guarantee("R-74")
def test_a_hundred_clients_have_fair_turns_and_no_long_waits(program: HostProgram, soak_factor: int) -> None:
    with program.up() as host, ExitStack() as stack:
        session = host.start_session(name="popular")
        before = host.statistics().rss_bytes
        clients = crowd(stack, program, session.id, [AHEAD] * CLIENTS)
        work_for(clients, 3.0 if soak_factor == 1 else 60.0)
        took = [one for client in clients for one in client.answered]
        served = [len(client.answered) for client in clients]
        assert sum(len(client.refused) for client in clients) > 0, "they offered less than it takes"
        assert percentile(took, 0.99) <= RATIO_MAX * SLACK * statistics.median(took)
        assert min(served) > 0
        assert min(served) >= statistics.median(served) / 4, sorted(served)
        assert host.statistics().rss_bytes - before <= RSS_BYTES_MAX
        assert session.echo(b"after") == b"after"
        assert session.status().incarnation == 1


@pytest.mark.guarantee("R-74")
def test_one_that_floods_a_session_does_not_keep_the_others_out(program: HostProgram) -> None:
    with program.up() as host, ExitStack() as stack:
        session = host.start_session(name="popular")
        flood, *modest = crowd(stack, program, session.id, [250, 1, 1, 1, 1])
        work_for([flood, *modest], 2.0)
        for client in modest:
            assert len(client.answered) >= 20
            assert len(client.refused) <= len(client.answered) * 0.2
        assert len(flood.answered) > len(modest[0].answered), "what the others leave is its own"
