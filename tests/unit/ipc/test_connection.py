"""One end of a channel as a value: lanes, credit, greetings, incarnations, streams; and what each breach is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.ipc.core import frames
from procession.ipc.core.bounds import FRAME_BYTES_MAX, WIRE_VERSION, KiB, MiB
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.connection import Connection
from procession.ipc.core.limits import Limits
from procession.ipc.core.messages import (
    EMPTY,
    Answer,
    Ask,
    Boot,
    Call,
    Cancel,
    ClientHello,
    Credit,
    Failed,
    Inline,
    Ready,
    Refused,
    Reply,
    ServerHello,
    StreamChunk,
    StreamEnd,
    StreamOpen,
    encode,
)
from procession.ipc.core.streams import STREAM_WINDOW_BYTES, StreamReader, StreamWindow

CREDIT_BYTES = 32 * KiB


def boot(credit_bytes: int = CREDIT_BYTES, env: dict[str, str] | None = None) -> Boot:
    return Boot(
        WIRE_VERSION,
        1,
        "s1",
        "name",
        "/",
        msgspec.Raw(encode(env or {})),
        msgspec.Raw(encode(Limits())),
        "off",
        16,
        credit_bytes,
        0,
        0,
        (),
    )


def call(seq: int, size: int = 0, inc: int = 1) -> Call:
    return Call(inc, seq, "run", 5.0, EMPTY, Inline(b"x" * size) if size else None)


def pair(credit_bytes: int = CREDIT_BYTES) -> tuple[Connection, Connection]:
    """A host's end and a session's end that have greeted each other."""
    host, session = Connection("host", incarnation=1, credit_bytes=credit_bytes), Connection("session")
    host.send(boot(credit_bytes))
    assert [type(m) for m in session.feed(host.take())] == [Boot]
    session.send(Ready(WIRE_VERSION, 1, 99))
    assert [type(m) for m in host.feed(session.take())] == [Ready]
    return host, session


def everything(connection: Connection) -> bytes:
    out = b""
    while data := connection.take():
        out += data
    return out


def frame(message: Any, *, control: bool = False) -> bytes:
    return frames.encode(encode(message), control=control)


# --- lanes ------------------------------------------------------------------------------------------------------------
def test_a_control_message_overtakes_commands_already_queued():
    host, session = pair()
    for seq in range(3):
        host.send(call(seq))
    host.send(Cancel(1, 2), control=True)
    got = session.feed(everything(host))
    assert [type(m) for m in got] == [Cancel, Call, Call, Call]
    assert [m.seq for m in got[1:]] == [0, 1, 2]


def test_a_control_message_stands_between_the_frames_of_a_long_message():
    host, session = pair(credit_bytes=1 * MiB)
    host.send(call(7, size=3 * MiB))
    first = host.take()
    host.send(Cancel(1, 7), control=True)
    got = session.feed(first + host.take())
    assert got == [Cancel(1, 7)], "the cancel must not wait for the end of the message it overtakes"


def test_streams_of_a_session_come_after_its_replies():
    host, session = pair()
    session.send(StreamOpen(1, 5, 1, "stdout"), bulk=True)
    session.send(StreamChunk(1, 5, 1, b"out"), bulk=True)
    session.send(Reply(1, 4))
    assert [type(m) for m in host.feed(everything(session))] == [Reply, StreamOpen, StreamChunk]


def test_control_messages_of_one_read_come_first():
    _, session = pair()
    got = session.feed(frame(call(1)) + frame(call(2)) + frame(Cancel(1, 1), control=True))
    assert [type(m) for m in got] == [Cancel, Call, Call]


@given(st.lists(st.tuples(st.sampled_from(["data", "control", "bulk"]), st.integers(0, 40_000)), max_size=20))
@settings(max_examples=examples(60), deadline=None)
def test_every_message_arrives_once_and_each_lane_keeps_its_order(plan: list[tuple[str, int]]):
    host, session = pair()
    for number, (lane, size) in enumerate(plan):
        body = msgspec.Raw(msgspec.msgpack.encode(b"x" * size))
        if lane == "control":
            session.send(Failed(1, number, _error()), control=True)
        else:
            session.send(Reply(1, number, body), bulk=lane == "bulk")
    got: list[Any] = []
    while data := session.take(5000):
        got += host.feed(data)
    assert session.queued_bytes == 0
    assert not session.wants_write
    assert sorted(m.seq for m in got) == list(range(len(plan)))
    for lane in ("data", "control", "bulk"):
        numbers = [n for n, (kind, _) in enumerate(plan) if kind == lane]
        assert [m.seq for m in got if m.seq in numbers] == numbers


def _error() -> Any:
    from procession.ipc.core.errors import InvalidRequest, to_data

    return to_data(InvalidRequest("no"))


# --- wants_write ------------------------------------------------------------------------------------------------------
@given(
    st.lists(st.tuples(st.sampled_from(["data", "control", "grant", "take"]), st.integers(0, 60_000)), max_size=40),
    st.sampled_from([0, 16 * KiB, 32 * KiB, 512 * KiB]),
)
@settings(max_examples=examples(150), deadline=None)
def test_wants_write_says_exactly_whether_take_gives_something(steps: list[tuple[str, int]], credit_bytes: int):
    host, _session = pair(credit_bytes)
    for number, (what, size) in enumerate(steps):
        if what == "data":
            host.send(call(number, size))
        elif what == "control":
            host.send(Cancel(1, number), control=True)
        elif what == "grant":
            host.feed(frame(Credit(1, size), control=True))
        wanted = host.wants_write
        if what == "take":
            assert bool(host.take(max(1, size))) == wanted
    while host.wants_write:
        assert host.take()
    assert host.take() == b""


# --- credit -----------------------------------------------------------------------------------------------------------
def test_unread_commands_never_exceed_the_credit_and_control_still_passes():
    host, session = pair()
    for seq in range(100):
        host.send(call(seq, size=1000))
    in_pipe = everything(host)
    assert len(in_pipe) <= CREDIT_BYTES
    assert not host.wants_write
    host.send(Cancel(1, 3), control=True)
    assert host.wants_write
    control = everything(host)
    assert len(control) < 100
    assert type(session.feed(in_pipe + control)[0]) is Cancel


@given(st.lists(st.integers(0, 60_000), min_size=1, max_size=8), st.integers(300, 70_000))
@settings(max_examples=examples(60), deadline=None)
def test_whatever_is_sent_arrives_when_the_session_reads_on(sizes: list[int], read_bytes: int):
    host, session = pair()
    for seq, size in enumerate(sizes):
        host.send(call(seq, size))
    pipe, got = b"", []
    for _ in range(10_000):
        pipe += everything(host)
        assert len(pipe) <= CREDIT_BYTES
        if not pipe:
            break
        read, pipe = pipe[:read_bytes], pipe[read_bytes:]
        got += session.feed(read)
        host.feed(everything(session))
    assert [m.seq for m in got] == list(range(len(sizes)))
    assert host.queued_bytes == 0


def test_a_greeting_larger_than_the_credit_is_sent_and_costs_none():
    host, session = Connection("host", incarnation=1, credit_bytes=CREDIT_BYTES), Connection("session")
    host.send(boot(env={"BIG": "x" * 100_000}))
    host.send(call(1, size=8 * KiB))
    session.feed(everything(host))
    session.send(Ready(WIRE_VERSION, 1, 9))
    host.feed(everything(session))
    for seq in range(2, 300):  # were anything of it lost, the window would close in the course of this
        host.send(call(seq, size=8 * KiB))
        assert [m.seq for m in session.feed(everything(host))] == [seq]
        host.feed(everything(session))


def test_commands_that_come_with_the_greeting_are_granted_back():
    host, session = Connection("host", incarnation=1, credit_bytes=CREDIT_BYTES), Connection("session")
    host.send(boot())
    for seq in range(100):
        host.send(call(seq, size=1000))
    session.feed(everything(host))
    session.send(Ready(WIRE_VERSION, 1, 9))
    host.feed(everything(session))
    assert host.wants_write, "the window never opened again"


def test_what_a_host_streams_to_a_session_is_credited_too():
    host, session = pair()
    for _ in range(10):
        host.send(StreamChunk(1, 1, 0, b"x" * (16 * KiB)), bulk=True)
    in_pipe = everything(host)
    assert len(in_pipe) <= CREDIT_BYTES
    got = 0
    while in_pipe:
        got += len(session.feed(in_pipe))
        host.feed(everything(session))
        in_pipe = everything(host)
    assert got == 10


def test_a_forged_grant_opens_no_more_than_the_window():
    host, _ = pair()
    host.feed(frame(Credit(1, 10**9), control=True))
    host.feed(frame(Credit(1, -(10**9)), control=True))
    for seq in range(100):
        host.send(call(seq, size=1000))
    assert CREDIT_BYTES // 2 < len(everything(host)) <= CREDIT_BYTES


def test_replies_need_no_credit():
    host, session = pair()
    for seq in range(500):
        session.send(Reply(1, seq, msgspec.Raw(msgspec.msgpack.encode(b"x" * 1000))))
    assert len(host.feed(everything(session))) == 500


# --- sizes ------------------------------------------------------------------------------------------------------------
def test_a_message_over_the_limit_is_refused_and_nothing_is_queued():
    connection = Connection("client", message_bytes_max=1 * MiB)
    with pytest.raises(frames.FrameTooLarge):
        connection.send(Ask(1, "run", "s", 1.0, EMPTY, b"x" * (2 * MiB)))
    assert connection.queued_bytes == 0
    assert not connection.wants_write


def test_the_limit_of_a_connection_holds_both_ways():
    big = 20 * MiB
    client = Connection("client", message_bytes_max=big + KiB)
    server = Connection("server", message_bytes_max=big + KiB)
    client.send(ClientHello(WIRE_VERSION, "t", "p"))
    client.send(Ask(1, "run", "s", 1.0, EMPTY, b"x" * big))
    got: list[Any] = []
    while data := client.take():
        got += server.feed(data)
    assert [type(m) for m in got] == [ClientHello, Ask]
    assert len(got[1].payload) == big


def test_a_control_message_over_a_frame_is_refused():
    host, _ = pair()
    with pytest.raises(frames.FrameTooLarge):
        host.send(call(1, size=FRAME_BYTES_MAX), control=True)
    assert not host.wants_write


def test_queued_bytes_go_up_and_back_to_nothing():
    host, _ = pair(credit_bytes=0)
    sizes = [10, 200_000, 3, 1 * MiB]
    for seq, size in enumerate(sizes):
        host.send(call(seq, size))
    assert host.queued_bytes >= sum(sizes)
    everything(host)
    assert host.queued_bytes == 0


# --- breaches ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("role", "first"),
    [
        ("host", Reply(1, 1)),
        ("session", call(1)),
        ("client", Answer(1, EMPTY)),
        ("server", Ask(1, "run", "", 1.0, EMPTY)),
    ],
)
def test_anything_before_the_greeting_is_a_breach(role: Any, first: Any):
    with pytest.raises(ProtocolBreach, match="before the greeting"):
        Connection(role, incarnation=1).feed(frame(first))


@pytest.mark.parametrize(
    ("role", "greeting"),
    [
        ("host", Ready(1, 1, 1)),
        ("session", boot()),
        ("client", ServerHello(1, 1, "/")),
        ("server", ClientHello(1, "t", "p")),
    ],
)
def test_a_second_greeting_is_a_breach(role: Any, greeting: Any):
    connection = Connection(role, incarnation=1)
    assert len(connection.feed(frame(greeting))) == 1
    with pytest.raises(ProtocolBreach, match="second greeting"):
        connection.feed(frame(greeting))


def test_a_host_may_refuse_instead_of_greeting():
    client = Connection("client")
    assert [type(m) for m in client.feed(frame(Refused(0, _error())))] == [Refused]


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(frame(call(1)), id="a message of the other direction"),
        pytest.param(frames.encode(b"\xc1"), id="not msgpack"),
        pytest.param(frames.encode(b""), id="nothing"),
        pytest.param(b"\xff\xff\xff\xff", id="not a frame"),
        pytest.param(frame(StreamChunk(1, 1, 1, b"x")), id="bytes of a stream that is not open"),
        pytest.param(frame(StreamEnd(1, 1, 1)), id="the end of a stream that is not open"),
        pytest.param(frame(StreamOpen(1, 1, 1, "a")) * 2, id="a stream opened twice"),
        pytest.param(
            frame(StreamOpen(1, 1, 1, "a")) + frame(StreamChunk(1, 1, 1, b"x" * 200_000)) * 2,
            id="a stream over its credit",
        ),
    ],
)
def test_a_breach_is_final(bad: bytes):
    host, _ = pair()
    with pytest.raises(ProtocolBreach) as first:
        host.feed(bad)
    with pytest.raises(ProtocolBreach) as second:
        host.feed(frame(Reply(1, 1)))
    assert second.value.reason == first.value.reason
    assert host.partial_serial is None


@given(st.binary(max_size=200))
@settings(max_examples=examples(200), deadline=None)
def test_random_bytes_raise_nothing_but_a_breach(data: bytes):
    for role in ("host", "session", "client", "server"):
        connection = Connection(role, incarnation=1)
        try:
            messages = connection.feed(data)
        except ProtocolBreach:
            continue
        assert isinstance(messages, list)


# --- incarnations -----------------------------------------------------------------------------------------------------
def test_a_message_of_another_incarnation_is_dropped_and_counted():
    host, _ = pair()
    assert host.feed(frame(Reply(2, 1)) + frame(Reply(1, 1)) + frame(Reply(0, 1))) == [Reply(1, 1)]
    assert host.feed(frame(Reply(2, 9))) == []
    assert host.stale == 3


def test_a_session_takes_its_incarnation_from_its_boot():
    session = Connection("session")
    session.feed(frame(boot()))
    assert session.incarnation == 1


# --- streams ----------------------------------------------------------------------------------------------------------
def test_a_stream_flows_as_long_as_it_is_consumed():
    host, session = pair()
    session.send(StreamOpen(1, 1, 1, "stdout"), bulk=True)
    host.feed(everything(session))
    window = StreamWindow()
    moved = 0
    while moved < 4 * STREAM_WINDOW_BYTES:
        size = min(16 * KiB, window.room)
        assert size > 0, "the window closed for good"
        window.spend(size)
        session.send(StreamChunk(1, 1, 1, b"x" * size), bulk=True)
        host.feed(everything(session))
        window.grant(host.consumed(1, 1, size))
        moved += size
    session.send(StreamEnd(1, 1, 1), bulk=True)
    assert len(host.feed(everything(session))) == 1
    assert host.consumed(1, 1, 100) == 0, "a stream that is over grants nothing"


def test_a_window_believes_no_forged_grant():
    window = StreamWindow()
    window.grant(10**12)
    assert window.room == STREAM_WINDOW_BYTES
    window.grant(-5)
    assert window.room == STREAM_WINDOW_BYTES


@given(st.lists(st.integers(1, 40_000), max_size=100))
def test_a_reader_grants_back_exactly_what_was_used(sizes: list[int]):
    reader, window = StreamReader(), StreamWindow()
    granted = used = 0
    for size in sizes:
        size = min(size, window.room)
        window.spend(size)
        reader.receive(size)
        grant = reader.consumed(size)
        window.grant(grant)
        used, granted = used + size, granted + grant
        assert 0 <= used - granted < STREAM_WINDOW_BYTES / 2
        assert window.room == STREAM_WINDOW_BYTES - (used - granted)


# --- the rest ---------------------------------------------------------------------------------------------------------
def test_a_frame_that_has_begun_has_a_number_until_it_ends():
    host, _ = pair()
    data = frame(Reply(1, 1)) + frame(Reply(1, 2))
    assert host.partial_serial is None
    host.feed(data[:7])
    first = host.partial_serial
    assert first is not None
    host.feed(data[7:-2])
    assert host.partial_serial not in (None, first)
    host.feed(data[-2:])
    assert host.partial_serial is None


def test_repr_shows_role_and_lanes():
    host, _ = pair()
    host.send(call(1))
    assert repr(host) == "<Connection host inc=1 open control=0 data=1 bulk=0>"
    assert "new" in repr(Connection("session"))
