"""The control socket: who is let in, what a call over it becomes, and how little a bad or absent client costs the host."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from helpers.control import NOTHING, RawClient, Served, ask, bytes_of, request, serving
from helpers.reactors import WAIT_S, in_loop
from helpers.runs import User, run_python
from helpers.waiting import wait_until
from procession import Host, Sandbox
from procession.api import remote, remote_call
from procession.api.remote import RemoteBackend
from procession.host import control_client_state, control_server
from procession.host.control_client_state import PeerIdentity
from procession.host.control_server import descends_from
from procession.host.core.served_calls import CALLS_MAX, ORDERS_MAX
from procession.host.paths import control_folder, socket_path, token_path
from procession.ipc.core import frames
from procession.ipc.core.backend import Outcome, Response
from procession.ipc.core.bounds import PAYLOAD_BYTES_MAX, WIRE_VERSION, KiB, MiB
from procession.ipc.core.errors import (
    CallCancelled,
    CallTimedOut,
    HostLost,
    HostOverloaded,
    MessageTooLarge,
    PermissionDenied,
    ProcessionError,
    ProtocolError,
    ToolRaised,
)
from procession.ipc.core.item_ring import RING_BYTES_MAX
from procession.ipc.core.messages import Answer, Ask, ClientHello, Push, Refused, ServerHello, Withdraw, encode
from procession.ipc.core.operations import OPERATIONS, FollowBody, Nothing
from procession.ipc.core.pushed import decode_item
from procession.ipc.core.records import OutputChunk
from procession.ipc.transport.reactor import LoopReactor

pytestmark = pytest.mark.process


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as running:
        yield running


@pytest.fixture
def client(served: Served) -> Iterator[RemoteBackend]:
    backend = RemoteBackend(served.data_dir)
    yield backend
    backend.close()


class Landing:
    """A `done` that a test waits for."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self._over = threading.Event()

    def __call__(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._over.set()

    def wait(self) -> Outcome:
        assert self._over.wait(WAIT_S), "no outcome came"
        return self.outcomes[0]


# --- the files --------------------------------------------------------------------------------------------------------
def test_socket_and_token_are_for_their_user_alone_and_gone_at_the_end(tmp_path: Path):
    before = os.umask(0)
    try:
        with serving(tmp_path) as served:
            assert stat.S_IMODE(control_folder(tmp_path).stat().st_mode) == 0o700
            assert stat.S_IMODE(socket_path(tmp_path).stat().st_mode) == 0o600
            assert stat.S_ISSOCK(socket_path(tmp_path).stat().st_mode)
            assert stat.S_IMODE(token_path(tmp_path).stat().st_mode) == 0o600
            token = token_path(tmp_path).read_text()
            assert len(bytes.fromhex(token)) == 32
            assert repr(served.server) == f"<ControlServer {socket_path(tmp_path)} clients=0>"
    finally:
        os.umask(before)
    assert list(control_folder(tmp_path).iterdir()) == []


@pytest.mark.guarantee("R-73")
def test_what_a_killed_host_left_is_replaced_with_another_token(tmp_path: Path):
    control_folder(tmp_path).mkdir()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(socket_path(tmp_path)))
    stale.close()
    token_path(tmp_path).write_text("old")
    start = time.monotonic()
    with serving(tmp_path):
        assert time.monotonic() - start < 3 * 0.2
        assert token_path(tmp_path).read_text() != "old"
        backend = RemoteBackend(tmp_path)
        assert backend.call(request("echo", payload=b"x")).payload == b"x"
        backend.close()


def test_a_folder_with_a_long_path_is_served_all_the_same(tmp_path: Path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with serving(deep):
        backend = RemoteBackend(deep)
        assert backend.call(request("echo", payload=b"deep")).payload == b"deep"
        backend.close()


# --- calls ------------------------------------------------------------------------------------------------------------
def test_a_call_crosses_with_its_payload_both_ways(client: RemoteBackend):
    for size in (0, 1, 100_000, 20 * MiB):
        payload = os.urandom(min(size, 1000)) * max(1, size // 1000)
        assert client.call(request("echo", payload=payload)).payload == payload
    assert client.call(request("echo")).payload is None


def test_every_field_of_a_request_arrives(served: Served, client: RemoteBackend):
    landing = Landing()
    client.submit(request(label="held", timeout_s=12.5, wait=True, fail_fast=True, call_id="mine"), landing)
    (held,) = served.backend.wait_held()
    got = held.request
    assert (got.op.name, got.session, got.wait, got.fail_fast, got.call_id) == ("run", "s", True, True, "mine")
    assert 12.0 < (got.timeout_s or 0) <= 12.5
    assert got.on_item is None
    held.finish(Response(NOTHING, b"done", "mine"))
    outcome = landing.wait()
    assert isinstance(outcome, Response)
    assert (outcome.payload, outcome.call_id) == (b"done", "mine")


def test_an_error_arrives_with_its_class_report_and_cause(client: RemoteBackend):
    with pytest.raises(ToolRaised, match="boom") as caught:
        client.call(request(label="raise"))
    assert caught.value.report is not None
    assert caught.value.report.processes_found == 2
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_error_at_the_door_of_the_backend_is_the_calls_outcome(client: RemoteBackend):
    with pytest.raises(ProcessionError, match="before it began") as caught:
        client.call(request(label="refuse"))
    assert caught.value.code == "refused_here"


def test_a_bug_of_the_backend_ends_that_call_and_is_an_event(served: Served, client: RemoteBackend):
    with pytest.raises(ProcessionError) as caught:
        client.call(request(label="bug"))
    assert caught.value.code == "internal_error"
    assert [str(problem) for problem in served.surprises] == ["a bug of the backend"]
    served.surprises.clear()
    assert client.call(request("echo", payload=b"alive")).payload == b"alive"


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (Ask(1, "no_such_thing", "s", 1.0, NOTHING), "unknown_operation"),
        (Ask(1, "run", "s", 1.0, msgspec.Raw(msgspec.msgpack.encode({"label": 5}))), "invalid_body"),
        (Ask(1, "run", "s", 1.0, msgspec.Raw(msgspec.msgpack.encode([1, 2]))), "invalid_body"),
        (Ask(1, "exec", "s", 1.0, NOTHING), "invalid_body"),
        (Ask(1, "run", "s", -1.0, NOTHING), "invalid_timeout"),
        (Ask(1, "run", "s", 0.0, NOTHING), "invalid_timeout"),
        (Ask(1, "run", "s", float("nan"), NOTHING), "invalid_timeout"),
        (Ask(1, "run", "s", float("inf"), NOTHING), "invalid_timeout"),
        (Ask(1, "run", "s" * 5000, 1.0, NOTHING), "invalid_session_id"),
    ],
)
def test_a_bad_request_is_refused_and_costs_that_call_only(served: Served, bad: Ask, code: str):
    with RawClient(served.data_dir) as raw:
        assert isinstance(raw.next(), ServerHello)
        raw.send(bad)
        refused = raw.next()
        assert isinstance(refused, Refused)
        assert (refused.seq, refused.error.kind, refused.error.code) == (1, "InvalidRequest", code)
        assert served.backend.requests == []
        raw.send(ask(2, "echo", payload=b"alive"))
        assert raw.next().payload == b"alive"


def test_an_operation_without_a_timeout_gets_its_own(served: Served):
    with RawClient(served.data_dir) as raw:
        raw.next()
        raw.send(Ask(1, "echo", "s", None, NOTHING))
        raw.next()
        assert served.backend.requests[0].timeout_s == OPERATIONS["echo"].timeout_s
        raw.send(Ask(2, "logs", "s", None, msgspec.Raw(msgspec.msgpack.encode(FollowBody(follow=True)))))
        served.backend.wait_held()
        assert served.backend.requests[1].timeout_s is None
        assert served.backend.requests[1].on_item is not None, "what follows needs somebody to tell, asked for or not"


def test_a_payload_over_the_limit_is_not_sent(served: Served, client: RemoteBackend):
    with pytest.raises(MessageTooLarge) as caught:
        client.call(request("echo", payload=bytes(PAYLOAD_BYTES_MAX + 1)))
    assert caught.value.ran == "no"
    assert served.backend.requests == []
    assert client.call(request("echo", payload=b"alive")).payload == b"alive"


def test_threads_share_one_connection(client: RemoteBackend):
    wrong: list[object] = []

    def work(base: int) -> None:
        for number in range(100):
            payload = b"%d" % (base + number)
            if client.call(request("echo", payload=payload)).payload != payload:
                wrong.append(payload)

    threads = [threading.Thread(target=work, args=(1000 * k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert repr(client).endswith("calls=0>")


def test_a_client_of_an_asyncio_loop_is_told_in_the_loop(served: Served):
    async def main() -> list[bytes | None]:
        loop = asyncio.get_running_loop()
        backend = RemoteBackend(served.data_dir, LoopReactor(loop))
        try:

            async def one(payload: bytes) -> bytes | None:
                future: asyncio.Future[Outcome] = loop.create_future()
                backend.submit(request("echo", payload=payload), future.set_result)  # only right in the loop's thread
                outcome = await future
                assert isinstance(outcome, Response)
                return outcome.payload

            return list(await asyncio.gather(*(one(b"%d" % n) for n in range(50))))
        finally:
            backend.close()

    assert asyncio.run(main(), debug=True) == [b"%d" % n for n in range(50)]


def test_a_host_in_an_asyncio_loop_serves(tmp_path: Path):
    with serving(tmp_path, "asyncio") as served:
        backend = RemoteBackend(tmp_path)
        assert backend.call(request("echo", payload=b"x" * MiB)).payload == b"x" * MiB
        assert served.backend.threads == {served.reactor.thread_id()}
        backend.close()


# --- streams ----------------------------------------------------------------------------------------------------------
def test_output_is_handed_to_the_waiting_thread_before_the_result(client: RemoteBackend):
    got: list[tuple[bytes, int]] = []
    wanted = request(label="print 500")
    wanted.on_item = lambda item: got.append((bytes_of(item), threading.get_ident()))
    client.call(wanted)
    assert got == [(b"%d\n" % n, threading.get_ident()) for n in range(500)]


def test_output_of_a_submitted_call_comes_before_its_outcome(client: RemoteBackend):
    story: list[object] = []
    landing = Landing()
    wanted = request(label="print 50")
    wanted.on_item = lambda item: story.append(bytes_of(item))

    def done(outcome: Outcome) -> None:
        story.append("done")
        landing(outcome)

    client.submit(wanted, done)
    landing.wait()
    assert story == [b"%d\n" % n for n in range(50)] + ["done"]


def test_a_line_is_seen_while_the_command_goes_on(served: Served, client: RemoteBackend):
    seen = threading.Event()
    landing = Landing()
    wanted = request(label="held")
    wanted.on_item = lambda item: seen.set()
    client.submit(wanted, landing)
    (held,) = served.backend.wait_held()
    start = time.monotonic()
    held.print(b"first line\n")
    assert seen.wait(WAIT_S)
    assert time.monotonic() - start < 3 * 0.1
    assert landing.outcomes == []
    held.finish(Response(NOTHING))
    landing.wait()


def test_an_on_item_that_raises_ends_the_call_and_not_the_connection(served: Served, client: RemoteBackend):
    wanted = request(label="held")

    def breaks(item: object) -> None:
        raise ZeroDivisionError

    wanted.on_item = breaks
    printer = threading.Thread(target=lambda: served.backend.wait_held()[0].print(b"x"))
    printer.start()
    with pytest.raises(ZeroDivisionError):
        client.call(wanted)
    printer.join(WAIT_S)
    served.backend.wait_cancelled(served.backend.held[0])
    assert client.call(request("echo", payload=b"alive")).payload == b"alive"


@pytest.mark.guarantee("R-57")
def test_a_client_that_does_not_read_costs_a_mebibyte_and_slows_nobody(served: Served, client: RemoteBackend):
    chunk, count = b"x" * (16 * KiB), 3000
    with RawClient(served.data_dir) as lazy:
        lazy.next()
        lazy.send(ask(1, label="held", want_output=True))
        (held,) = served.backend.wait_held()
        state = next(c for c in served.server.clients if c.program == "raw")
        start = time.monotonic()
        for number in range(count):
            held.print(chunk)
            if number % 100 == 0:
                assert client.call(request("echo", payload=b"x")).payload == b"x"
        took_s = time.monotonic() - start
        assert took_s < 10.0
        assert state.owed_bytes + RING_BYTES_MAX < 2 * MiB
        held.finish(Response(NOTHING, b"end"))
        items, answer = lazy.next_not_push()
        assert isinstance(answer, Answer)
        assert answer.payload == b"end"
        assert sum(len(item.data) + item.dropped for item in items) == count * len(chunk), "every lost byte is counted"
        assert any(item.dropped for item in items)
        assert sum(len(item.data) for item in items) < 4 * MiB


def test_one_flood_does_not_hold_up_the_other_calls_of_its_client(served: Served):
    with RawClient(served.data_dir) as raw:
        raw.next()
        raw.send(ask(1, label="held", want_output=True), ask(2, label="held", want_output=True))
        flood, quiet = served.backend.wait_held(2)
        for _ in range(200):
            flood.print(b"x" * 16 * KiB)
        quiet.print(b"quiet")
        quiet.finish(Response(NOTHING))
        seen_of_flood = 0
        while True:
            message = raw.next()
            if isinstance(message, Answer):
                break
            if message.seq == 1:
                seen_of_flood += len(bytes_of(decode_item(message.body)))
        assert message.seq == 2
        assert seen_of_flood < 2 * MiB, "its turn came only after the whole flood"
        flood.finish(Response(NOTHING))


# --- cancelling -------------------------------------------------------------------------------------------------------
def test_a_cancelled_call_ends_with_what_became_of_it(served: Served, client: RemoteBackend):
    landing = Landing()
    ticket = client.submit(request(label="held"), landing)
    served.backend.wait_held()
    ticket.cancel()
    outcome = landing.wait()
    assert isinstance(outcome, CallCancelled)
    assert (outcome.code, outcome.ran) == ("cancelled_in_session", "maybe")
    ticket.cancel()
    assert client.call(request("echo", payload=b"alive")).payload == b"alive"
    assert len(landing.outcomes) == 1


def test_a_withdrawal_that_overtakes_its_call_keeps_it_from_running(served: Served):
    with RawClient(served.data_dir) as raw:
        raw.next()
        raw.send(Withdraw(1), control=True)
        raw.send(ask(1, label="held"))
        refused = raw.next()
        assert (refused.seq, refused.error.kind, refused.error.code, refused.error.ran) == (
            1,
            "CallCancelled",
            "not_sent",
            "no",
        )
        assert served.backend.requests == []


def test_a_withdrawal_that_comes_too_late_is_nothing(served: Served):
    with RawClient(served.data_dir) as raw:
        raw.next()
        raw.send(ask(1, "echo", payload=b"x"))
        assert raw.next().payload == b"x"
        raw.send(Withdraw(1), control=True)
        raw.send(ask(2, "echo", payload=b"y"))
        assert raw.next().payload == b"y"


def test_an_interrupt_cancels_the_work_and_says_what_became_of_it(served: Served, client: RemoteBackend):
    main = threading.get_ident()

    def interrupt() -> None:
        served.backend.wait_held()
        signal.pthread_kill(main, signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        client.call(request(label="held"))
    helper.join(WAIT_S)
    assert served.backend.held[0].cancelled
    assert caught.value.__notes__ == ["procession: run was cancelled (cancelled_in_session, 2 processes found, 0 left)"]
    assert client.call(request("echo", payload=b"alive")).payload == b"alive"


def test_an_interrupt_waits_a_bounded_time_for_work_that_does_not_end(
    served: Served, client: RemoteBackend, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(remote, "INTERRUPT_WAIT_S", 0.1)
    main = threading.get_ident()

    def interrupt() -> None:
        served.backend.wait_held()
        signal.pthread_kill(main, signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        client.call(request(label="stubborn"))
    helper.join(WAIT_S)
    assert caught.value.__notes__ == ["procession: run was told to stop; its end is not known yet"]
    served.backend.held[0].finish(Response(NOTHING))  # late, and nobody's
    assert client.call(request("echo", payload=b"alive")).payload == b"alive"


@pytest.mark.parametrize("sync", [True, False])
def test_a_host_that_keeps_silent_past_the_deadline_is_not_waited_for(
    served: Served, client: RemoteBackend, monkeypatch: pytest.MonkeyPatch, sync: bool
):
    monkeypatch.setattr(remote_call, "DEADLINE_SLACK_S", 0.1)
    monkeypatch.setattr(remote, "DEADLINE_SLACK_S", 0.1)
    start = time.monotonic()
    silent = request(label="stubborn", timeout_s=0.1)
    if sync:
        with pytest.raises(CallTimedOut) as caught:
            client.call(silent)
        error: object = caught.value
    else:
        landing = Landing()
        client.submit(silent, landing)
        error = landing.wait()
    assert isinstance(error, CallTimedOut)
    assert error.ran == "maybe"
    assert 0.2 <= time.monotonic() - start < 5.0
    held = served.backend.held[0]
    served.backend.wait_cancelled(held)
    held.finish(Response(NOTHING))
    assert client.call(request("echo", payload=b"alive")).payload == b"alive"


# --- clients that go away ---------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-56")
def test_the_call_of_a_client_that_went_away_goes_on_and_what_it_followed_does_not(served: Served):
    with RawClient(served.data_dir) as raw:
        raw.next()
        raw.send(
            ask(1, label="held", want_output=True),
            ask(2, label="held", cancel_on_disconnect=True),
            ask(3, "logs", body=FollowBody(follow=True), timeout_s=None),
        )
        plain, bound, followed = served.backend.wait_held(3)
    served.wait_clients(0)
    served.backend.wait_cancelled(bound)
    served.backend.wait_cancelled(followed)
    assert not plain.cancelled
    plain.print(b"into the void")
    plain.finish(Response(NOTHING, b"recorded"))
    assert served.surprises == []


@pytest.mark.guarantee("R-56")
def test_clients_that_go_away_in_the_middle_leave_nothing_behind(served: Served, soak_factor: int):
    count = 200 * soak_factor
    states: list[weakref.ref[object]] = []
    for number in range(count):
        with RawClient(served.data_dir) as raw:
            raw.next()
            states.extend(weakref.ref(c) for c in served.server.clients)
            raw.send(ask(1, label="held"), ask(2, "echo", payload=b"x" * 1000))
            if number % 3 == 0:
                raw.next()
    served.wait_clients(0)
    for held in served.backend.wait_held(count):
        held.finish(Response(NOTHING))
    del held  # it knows whom to tell
    served.backend.held.clear()
    served.backend.requests.clear()

    def alive() -> int:
        gc.collect()
        return sum(1 for ref in states if ref() is not None)

    wait_until(lambda: alive() == 0, "the states of the clients are freed")
    assert served.surprises == []


def test_closing_a_client_ends_its_calls_and_stops_nothing(served: Served):
    client = RemoteBackend(served.data_dir)
    landing = Landing()
    client.submit(request(label="held"), landing)
    (held,) = served.backend.wait_held()
    client.close()
    client.close()
    outcome = landing.wait()
    assert isinstance(outcome, HostLost)
    assert (outcome.code, outcome.ran) == ("closed", "maybe")
    with pytest.raises(HostLost) as caught:
        client.call(request("echo"))
    assert (caught.value.code, caught.value.ran) == ("closed", "no")
    assert client.closed
    served.wait_clients(0)
    assert not held.cancelled


def test_a_waiting_thread_is_told_when_its_connection_is_closed(served: Served):
    client = RemoteBackend(served.data_dir)
    errors: list[ProcessionError] = []

    def wait() -> None:
        try:
            client.call(request(label="held"))
        except ProcessionError as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    served.backend.wait_held(3)
    client.close()
    for thread in threads:
        thread.join(WAIT_S)
    assert [(type(e), e.code) for e in errors] == [(HostLost, "closed")] * 3


# --- who is let in ----------------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-58")
def test_another_version_is_refused_with_both_named(served: Served):
    start = time.monotonic()
    with RawClient(served.data_dir, version=99) as raw:
        refused = raw.next()
        took_s = time.monotonic() - start
        assert isinstance(refused, Refused)
        assert (refused.error.kind, refused.error.code, refused.error.ran) == ("ProtocolError", "version_skew", "no")
        assert f"version {WIRE_VERSION}," in refused.error.message
        assert "version 99" in refused.error.message
        assert took_s < 3 * 0.1
        with pytest.raises(EOFError):
            raw.next()


@pytest.mark.guarantee("R-58")
def test_a_client_refuses_a_host_of_another_version_with_both_named(tmp_path: Path):
    control_folder(tmp_path).mkdir()
    token_path(tmp_path).write_text("t")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path(tmp_path)))
        listener.listen()

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(frames.encode(encode(ServerHello(99, 4711, "/there"))))
                peer.recv(1)

        host = threading.Thread(target=answer)
        host.start()
        with pytest.raises(ProtocolError, match=f"version 99.*version {WIRE_VERSION}") as caught:
            RemoteBackend(tmp_path)
        host.join(WAIT_S)
    assert (caught.value.code, caught.value.ran) == ("version_skew", "no")


def test_a_wrong_token_is_refused(served: Served):
    for token in ("", "0" * 64, "ä" * 10):
        with RawClient(served.data_dir, token=token) as raw:
            refused = raw.next()
            assert (refused.error.kind, refused.error.code) == ("PermissionDenied", "wrong_token")
            with pytest.raises(EOFError):
                raw.next()
    served.wait_clients(0)


def test_a_call_sent_with_a_wrong_token_is_not_made(served: Served):
    with RawClient(served.data_dir, hello=False) as raw:
        raw.send(ClientHello(WIRE_VERSION, "wrong", "raw"), ask(1, "echo"))
        assert isinstance(raw.next(), Refused)
        with pytest.raises(EOFError):
            raw.next()
    assert served.backend.requests == []


def test_a_process_below_a_session_is_turned_away(tmp_path: Path):
    asked: list[int] = []

    def refuse(pid: int) -> bool:
        asked.append(pid)
        return True

    with serving(tmp_path, refuse_pids=refuse) as served:
        with pytest.raises(PermissionDenied) as caught:
            RemoteBackend(tmp_path)
        assert caught.value.code == "inside_session"
        assert asked == [os.getpid()]
        assert served.wait_event("control.refused")["pid"] == os.getpid()


def test_descent_is_seen_through_every_parent():
    inner = "import os; print(os.getpid(), flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        assert descends_from(grandchild, {child.pid})
        assert descends_from(grandchild, {os.getpid()})
        assert descends_from(child.pid, {child.pid})
        assert not descends_from(os.getpid(), {child.pid})
        assert not descends_from(grandchild, set())
        assert not descends_from(0, {child.pid}), "outside of our pid namespace is not below us"
        child.communicate("\n", timeout=WAIT_S)
    assert descends_from(grandchild, {child.pid}), "who cannot be looked at is not let in"


def test_another_user_is_kept_out(served: Served, plain_user: User):
    if not plain_user.is_somebody_else:
        pytest.skip("becoming another user needs root")
    done = run_python(
        "from pathlib import Path\n"
        "from procession.api.remote import RemoteBackend\n"
        "from procession.ipc.core.errors import PermissionDenied\n"
        "try:\n"
        f"    RemoteBackend(Path({str(served.data_dir)!r}))\n"
        "except PermissionDenied as error:\n"
        "    print(error.code)\n",
        user=plain_user,
    )
    assert done.stdout.strip() == "permission_denied", done


def test_the_kernels_word_counts_more_than_the_files_mode(served: Served):
    stranger = PeerIdentity(pid=os.getpid(), uid=os.geteuid() + 12345)
    objection = served.server._objection(stranger)
    assert isinstance(objection, PermissionDenied)
    assert objection.code == "wrong_user"
    assert served.server._objection(PeerIdentity(pid=os.getpid(), uid=0)) is None


def test_too_many_clients_are_told_so_and_a_place_that_came_free_is_given(
    served: Served, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(control_server, "CLIENTS_MAX", 2)
    clients = [RemoteBackend(served.data_dir) for _ in range(2)]
    with pytest.raises(HostOverloaded) as caught:
        RemoteBackend(served.data_dir)
    assert caught.value.code == "too_many_clients"
    clients.pop().close()
    served.wait_clients(1)
    clients.append(RemoteBackend(served.data_dir))
    for client in clients:
        assert client.call(request("echo", payload=b"x")).payload == b"x"
        client.close()


def test_a_client_that_says_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(control_client_state, "HELLO_TIMEOUT_S", 0.05)
    with serving(tmp_path) as served, RawClient(tmp_path, hello=False) as raw:
        with pytest.raises(EOFError):
            raw.next()
        served.wait_clients(0)
        assert "no greeting" in served.wait_event("control.ended")["text"]


# --- clients that misbehave -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="http"),
        pytest.param(b"\xff" * 64, id="no frame"),
        pytest.param(frames.encode(b"\xc1\xc1"), id="no message"),
        pytest.param(frames.encode(encode(Push(1, NOTHING))), id="a message of the other direction"),
        pytest.param(frames.encode(encode(ask(1, "echo"))) * 2, id="a number twice"),
        pytest.param(frames.encode(encode(ask(0, "echo"))), id="no number"),
        pytest.param(b"".join(frames.encode(encode(Withdraw(n))) for n in range(1, 1000)), id="withdrawals of nothing"),
        pytest.param(frames.encode(encode(ClientHello(WIRE_VERSION, "t", "p"))) * 2, id="two greetings"),
    ],
)
@pytest.mark.parametrize("greeted", [True, False])
def test_garbage_ends_its_client_and_nothing_else(served: Served, client: RemoteBackend, bad: bytes, greeted: bool):
    with RawClient(served.data_dir, hello=greeted) as raw:
        if greeted:
            raw.next()
        raw.send_bytes(bad)
        with pytest.raises(EOFError):
            [raw.next() for _ in range(10)]
    served.wait_clients(1)
    assert served.wait_event("control.breach")["pid"] == os.getpid()
    assert client.call(request("echo", payload=b"alive")).payload == b"alive"


def test_a_client_that_stops_in_the_middle_of_a_message_hangs_nobody(served: Served, client: RemoteBackend):
    with RawClient(served.data_dir) as raw:
        raw.next()
        raw.send_bytes(frames.encode(encode(ask(1, "echo", payload=b"x" * 1000)))[:500])
        assert client.call(request("echo", payload=b"alive")).payload == b"alive"
    served.wait_clients(1)


def test_the_calls_of_one_client_are_bounded(served: Served):
    with RawClient(served.data_dir) as raw:
        raw.next()
        raw.send(*(ask(n, label="held") for n in range(1, 260)))
        refused = [raw.next() for _ in range(3)]
        assert [r.seq for r in refused] == [257, 258, 259]
        assert {(r.error.kind, r.error.code, r.error.ran) for r in refused} == {
            ("HostOverloaded", "too_many_calls", "no")
        }
        for held in served.backend.wait_held(256):
            held.finish(Response(NOTHING))
        assert [raw.next().seq for _ in range(256)] == list(range(1, 257))
        raw.send(ask(300, "echo", payload=b"x"))
        assert raw.next().payload == b"x"


def test_a_client_that_has_flooded_the_host_can_still_look_and_kill(tmp_path: Path) -> None:
    with Host(tmp_path / "data", sandbox=Sandbox.off()), Host.connect(tmp_path / "data") as client:
        session = client.start_session(sandbox=Sandbox.off())
        futures = [session.submit(time.sleep, 60) for _ in range(CALLS_MAX)]
        verbs = {
            "run": lambda: session.run(len, "x"),
            "exec": lambda: session.exec(["true"]),
            "new": client.start_session,
        }
        for name, verb in verbs.items():
            with pytest.raises(HostOverloaded) as refused:
                verb()
            assert refused.value.code == "too_many_calls"
            assert ("wait=True" in refused.value.hint) == (name == "run")
        assert session.ping() > 0
        assert session.status().phase == "ready"
        assert client.statistics().pid == os.getpid()
        assert [status.id for status in client.list_sessions()] == [session.id]
        last = [call for call in session.calls() if call.op == "run"][-1]
        assert session.cancel(last.id) in {"cancelling", "not_sent"}
        assert session.kill().left == 0
        for future in futures:
            assert isinstance(future.exception(20), ProcessionError)
        assert session.run(len, "room again") == 10


def test_looks_and_orders_of_one_client_have_places_of_their_own_and_are_bounded_too(served: Served):
    with RawClient(served.data_dir) as raw:
        raw.next()
        raw.send(*(ask(n, label="held") for n in range(1, CALLS_MAX + 1)))
        served.backend.wait_held(CALLS_MAX)
        raw.send(ask(301, "ping"))
        assert isinstance(raw.next(), Answer)
        raw.send(*(ask(400 + n, "status") for n in range(ORDERS_MAX)))
        served.backend.wait_held(CALLS_MAX + ORDERS_MAX)
        for number, op in enumerate(("status", "ping", "echo"), start=500):
            raw.send(ask(number, op))
            refused = raw.next()
            assert (refused.seq, refused.error.code) == (number, "too_many_calls")


def test_more_calls_than_places_wait_if_they_may_and_are_refused_if_not(served: Served, client: RemoteBackend):
    landings = [Landing() for _ in range(300)]
    for landing in landings:
        client.submit(request(label="held", wait=True), landing)
    with pytest.raises(HostOverloaded) as caught:
        client.call(request("echo"))
    assert (caught.value.code, caught.value.ran) == ("too_many_calls", "no")
    late = Landing()
    client.submit(request(label="held", wait=True), late).cancel()
    outcome = late.wait()
    assert isinstance(outcome, CallCancelled)
    assert (outcome.code, outcome.ran) == ("not_sent", "no")
    finished = 0
    while finished < 300:
        held = served.backend.wait_held(finished + 1)
        for call in held[finished:]:
            call.finish(Response(NOTHING))
        finished = len(held)
    for landing in landings:
        assert isinstance(landing.wait(), Response)


def test_a_client_that_takes_no_answers_is_not_read_from_and_then_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(control_client_state, "QUEUED_BYTES_MAX", 1 * MiB)
    monkeypatch.setattr(control_client_state, "STALL_S", 0.3)
    with serving(tmp_path) as served, RawClient(tmp_path) as raw:
        raw.next()
        for number in range(1, 6):
            raw.send(ask(number, label="held"))
        for held in served.backend.wait_held(5):
            held.finish(Response(NOTHING, bytes(1 * MiB)))
        raw.send(ask(6, "echo"))
        served.wait_clients(0)
        assert len(served.backend.requests) == 5, "it was read from although it took nothing"
        assert "took nothing" in served.wait_event("control.ended")["text"]


def test_a_client_that_takes_its_answers_late_gets_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(control_client_state, "QUEUED_BYTES_MAX", 1 * MiB)
    with serving(tmp_path) as served, RawClient(tmp_path) as raw:
        raw.next()
        raw.send(*(ask(number, label="held") for number in range(1, 5)))
        for number, held in enumerate(served.backend.wait_held(4), 1):
            held.finish(Response(NOTHING, bytes([number]) * MiB))
        raw.send(ask(5, "echo", payload=b"last"))
        got = [raw.next() for _ in range(5)]
        assert [(m.seq, m.payload[:1]) for m in got] == [
            (1, b"\x01"),
            (2, b"\x02"),
            (3, b"\x03"),
            (4, b"\x04"),
            (5, b"l"),
        ]
        assert len(served.backend.requests) == 5


# --- no host, and hosts that go ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("what", ["no folder", "empty folder", "stale socket", "a file"])
def test_no_host_is_said_at_once(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "data"
    if what == "a file":
        folder.write_text("")
    elif what != "no folder":
        folder.mkdir()
    if what == "stale socket":
        control_folder(folder).mkdir()
        token_path(folder).write_text("t")
        monkeypatch.chdir(control_folder(folder))  # its whole path may be too long for an address
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(socket_path(folder).name)
    start = time.monotonic()
    with pytest.raises(HostLost, match=r"no host is running for .*start one with `procession up") as caught:
        RemoteBackend(folder)
    assert time.monotonic() - start < 3 * 0.1
    assert (caught.value.code, caught.value.ran) == ("no_host", "no")


@pytest.mark.parametrize("garbage", [b"", b"SSH-2.0-OpenSSH_9.6\r\n"])
def test_something_else_that_listens_there_is_no_host(tmp_path: Path, garbage: bytes):
    control_folder(tmp_path).mkdir()
    token_path(tmp_path).write_text("t")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path(tmp_path)))
        listener.listen()

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(garbage)

        other = threading.Thread(target=answer)
        other.start()
        with pytest.raises((HostLost, ProtocolError)) as caught:
            RemoteBackend(tmp_path)
        other.join(WAIT_S)
    assert caught.value.ran == "no"


def test_a_host_that_does_not_answer_the_door_is_said_to_be_stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from procession.api import remote_hello

    monkeypatch.setattr(remote_hello, "GREETING_TIMEOUT_S", 0.1)
    control_folder(tmp_path).mkdir()
    token_path(tmp_path).write_text("t")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path(tmp_path)))
        listener.listen(1)
        crowd = []
        with pytest.raises(HostLost) as caught:
            RemoteBackend(tmp_path)
        for _ in range(5):  # fill the backlog: now not even the connection is taken
            queued = socket.socket(socket.AF_UNIX)
            queued.setblocking(False)
            crowd.append(queued)
            try:
                queued.connect(str(socket_path(tmp_path)))
            except BlockingIOError:
                break
        with pytest.raises(HostLost) as again:
            RemoteBackend(tmp_path)
        for queued in crowd:
            queued.close()
    assert [(e.value.code, e.value.ran) for e in (caught, again)] == [("host_unresponsive", "no")] * 2


def test_calls_in_flight_end_when_the_host_goes_and_later_ones_at_once(served: Served, client: RemoteBackend):
    landing = Landing()
    client.submit(request(label="held"), landing)
    errors: list[ProcessionError] = []

    def wait() -> None:
        try:
            client.call(request(label="held"))
        except ProcessionError as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    served.backend.wait_held(4)
    served.close()
    outcome = landing.wait()
    for thread in threads:
        thread.join(WAIT_S)
    assert isinstance(outcome, HostLost)
    assert {(type(e), e.ran) for e in [outcome, *errors]} == {(HostLost, "maybe")}
    assert len(errors) == 3
    start = time.monotonic()
    with pytest.raises(HostLost) as caught:
        client.call(request("echo"))
    assert caught.value.ran == "no"
    assert time.monotonic() - start < 1.0
    assert len(landing.outcomes) == 1


def test_a_host_that_breaks_the_protocol_is_not_believed(tmp_path: Path):
    control_folder(tmp_path).mkdir()
    token_path(tmp_path).write_text("t")
    for lie in (
        b"\xff" * 16,
        frames.encode(encode(Answer(5, NOTHING))),
        frames.encode(encode(Push(1, msgspec.Raw(b"\x01")))),
    ):
        socket_path(tmp_path).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(socket_path(tmp_path)))
            listener.listen()

            def answer(lie: bytes = lie, listener: socket.socket = listener) -> None:
                peer, _ = listener.accept()
                with peer:
                    peer.recv(1000)
                    peer.sendall(frames.encode(encode(ServerHello(WIRE_VERSION, 1, "/"))))
                    peer.recv(1000)
                    peer.sendall(lie)
                    peer.recv(1000)

            host = threading.Thread(target=answer)
            host.start()
            client = RemoteBackend(tmp_path)
            with pytest.raises(HostLost) as caught:
                client.call(request("echo"))
            assert (caught.value.code, caught.value.ran) == ("protocol_error", "maybe")
            client.close()
            host.join(WAIT_S)


def test_a_forked_child_has_no_connection_and_its_parents_lives(tmp_path: Path):
    done = run_python(
        "import os, warnings\n"
        "from pathlib import Path\n"
        "warnings.simplefilter('ignore')\n"
        "from procession.api.remote import RemoteBackend\n"
        "from procession.host.engine import Engine\n"
        "from procession.host.options import HostOptions\n"
        "from procession.ipc.core.backend import Request\n"
        "from procession.ipc.core.errors import HostLost\n"
        "from procession.ipc.core.operations import OPERATIONS, Nothing\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "engine = Engine(HostOptions(data_dir=folder))\n"
        "client = RemoteBackend(folder)\n"
        "ask = Request(OPERATIONS['statistics'], '', Nothing(), None, 5.0)\n"
        "client.call(ask)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    try:\n"
        "        client.call(ask)\n"
        "    except HostLost as error:\n"
        "        left = [os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if int(n) > 2 and "
        "os.path.exists(f'/proc/self/fd/{n}')]\n"
        "        sockets = [name for name in left if name.startswith('socket')]\n"
        "        client.close()\n"
        "        os._exit(7 if (error.code, error.ran, sockets) == ('forked', 'no', []) else 1)\n"
        "    os._exit(2)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        "client.call(ask)\n"
        "client.close(); engine.close()\n"
        "print('alive')\n"
    )
    assert done.stdout.split() == ["7", "alive"], done


def test_a_killed_host_ends_the_calls_of_its_clients(tmp_path: Path):
    from procession.ipc.core.operations import ExecBody, StartBody

    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from procession.host.engine import Engine\n"
        "from procession.host.options import HostOptions\n"
        "engine = Engine(HostOptions(data_dir=Path(sys.argv[1])))\n"
        "print('up', flush=True)\n"
        "sys.stdin.read()\n"
        "engine.close()\n"
    )
    from procession.ipc.core.backend import Request

    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "up\n"
        client = RemoteBackend(tmp_path)
        assert client.pid == host.pid
        client.call(Request(OPERATIONS["start_session"], "", StartBody(name="s"), None, 30.0))
        printed = threading.Event()
        killed_at: list[float] = []

        def kill() -> None:
            assert printed.wait(WAIT_S)
            killed_at.append(time.monotonic())
            host.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(HostLost) as caught:
            client.call(
                Request(
                    OPERATIONS["exec"],
                    "s",
                    ExecBody(argv=("sh", "-c", "echo here; sleep 60")),
                    None,
                    30.0,
                    on_item=lambda item: printed.set(),
                )
            )
        assert time.monotonic() - killed_at[0] < 2.0
        killer.join(WAIT_S)
        assert caught.value.ran == "maybe"
        with pytest.raises(HostLost) as later:
            client.call(Request(OPERATIONS["statistics"], "", Nothing(), None, 5.0))
        assert later.value.ran == "no"
        client.close()
        with pytest.raises(HostLost) as gone:
            RemoteBackend(tmp_path)
        assert gone.value.code == "no_host"


def test_a_tool_cannot_control_the_host_it_runs_in(tmp_path: Path):
    from procession.host.engine import Engine
    from procession.host.options import HostOptions
    from procession.ipc.core.backend import Request
    from procession.ipc.core.operations import ExecBody, StartBody

    engine = Engine(HostOptions(data_dir=tmp_path))
    try:
        client = RemoteBackend(tmp_path)
        client.call(Request(OPERATIONS["start_session"], "", StartBody(name="s"), None, 30.0))
        code = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from procession.api.remote import RemoteBackend\n"
            "from procession.ipc.core.errors import PermissionDenied\n"
            "if os.fork() == 0:\n"
            "    os.setsid()\n"
            "    if os.fork():\n"
            "        os._exit(0)\n"  # a daemon: its parent is the keeper by now
            "    try:\n"
            f"        RemoteBackend(Path({str(tmp_path)!r}))\n"
            "    except PermissionDenied as error:\n"
            "        print(error.code, flush=True)\n"
            "    os._exit(0)\n"
            "sys.stdin.read()\n"
        )
        printed: list[bytes] = []
        told = threading.Event()

        def take(item: object) -> None:
            assert isinstance(item, OutputChunk)
            printed.append(item.data)
            if b"\n" in item.data:
                told.set()

        landing = Landing()
        ticket = client.submit(
            Request(
                OPERATIONS["exec"],
                "s",
                ExecBody(argv=(sys.executable, "-c", f"{code}\nimport time\ntime.sleep(30)")),
                None,
                30.0,
                on_item=take,
            ),
            landing,
        )
        assert told.wait(WAIT_S)
        ticket.cancel()
        landing.wait()
        assert b"".join(printed).strip() == b"inside_session"
        client.close()
    finally:
        engine.close()


def test_the_loop_of_the_host_makes_no_thread_for_clients(served: Served, client: RemoteBackend):
    before = threading.active_count()
    others = [RawClient(served.data_dir) for _ in range(10)]
    for other in others:
        other.next()
    assert threading.active_count() == before
    for other in others:
        other.socket.close()
    assert in_loop(served.reactor, lambda: len(served.server.clients)) <= 11
