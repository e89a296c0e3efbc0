"""What one client has under way, as values: numbers, turns, order and bounds; and how a request is read."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.host.control_requests import follows, request_of
from procession.host.core.served_calls import CALLS_MAX, EARLY_MAX, ORDERS_MAX, ServedCall, ServedCalls
from procession.ipc.core.backend import Response
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import CallCancelled, InvalidRequest, ToolRaised
from procession.ipc.core.messages import Ask
from procession.ipc.core.operations import OPERATIONS, FollowBody
from procession.ipc.core.pushed import decode_item, encode_item
from procession.ipc.core.records import Event, OutputChunk


def chunk(number: int, size: int = 0) -> OutputChunk:
    return OutputChunk(stream="stdout", data=b"%d" % number + b"x" * size)


def opened(calls: ServedCalls, seq: int, *, follows: bool = False, drop: bool = False) -> ServedCall:
    assert calls.number(seq)
    call = ServedCall(seq, follows=follows, drop_with_client=drop)
    calls.add(call)
    return call


# --- numbers ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("numbers", [(1, 1), (2, 1), (0,), (-1,), (5, 7, 6)])
def test_numbers_that_do_not_grow_are_a_breach(numbers: tuple[int, ...]):
    calls = ServedCalls()
    with pytest.raises(ProtocolBreach, match="does not grow"):
        [calls.number(number) for number in numbers]


def test_a_withdrawal_ahead_of_its_call_is_remembered_once():
    calls = ServedCalls()
    assert calls.withdraw(3) is None
    assert calls.number(1)
    assert not calls.number(3)
    assert calls.number(4)


def test_withdrawals_of_calls_never_made_are_bounded():
    calls = ServedCalls()
    for seq in range(1, EARLY_MAX + 1):
        calls.withdraw(seq)
        calls.withdraw(seq)
    with pytest.raises(ProtocolBreach):
        calls.withdraw(EARLY_MAX + 1)


def test_a_withdrawal_of_what_is_over_is_nothing():
    calls = ServedCalls()
    call = opened(calls, 1)
    assert calls.withdraw(1) is call
    assert call.withdrawn
    calls.finish(call, Response(b""))
    calls.next()
    assert calls.withdraw(1) is None


def test_the_bound_counts_what_has_not_been_sent():
    calls = ServedCalls()
    made = [opened(calls, seq) for seq in range(1, CALLS_MAX + 1)]
    assert calls.is_full(for_work=True)
    calls.finish(made[0], Response(b""))
    assert calls.is_full(for_work=True)
    calls.next()
    assert not calls.is_full(for_work=True)


def test_looks_and_orders_have_places_of_their_own_and_no_more():
    calls = ServedCalls()
    for seq in range(1, CALLS_MAX + 1):
        opened(calls, seq)
    for seq in range(CALLS_MAX + 1, CALLS_MAX + ORDERS_MAX + 1):
        assert calls.is_full(for_work=True)
        assert not calls.is_full(for_work=False)
        opened(calls, seq)
    assert calls.is_full(for_work=False)


# --- order ------------------------------------------------------------------------------------------------------------
def test_an_answer_leaves_after_what_its_call_streamed():
    calls = ServedCalls()
    call = opened(calls, 1)
    done = Response(b"")
    for number in range(3):
        assert calls.put(call, chunk(number))
    assert calls.finish(call, done)
    sent = []
    while calls.has_news:
        sent.append(calls.next()[1])
    assert sent == [chunk(0), chunk(1), chunk(2), done]
    assert len(calls) == 0


def test_calls_take_turns():
    calls = ServedCalls()
    one, two = opened(calls, 1), opened(calls, 2)
    for number in range(3):
        calls.put(one, chunk(number))
    calls.put(two, chunk(9))
    assert [calls.next()[0].seq for _ in range(4)] == [1, 2, 1, 1]


def test_nothing_follows_an_outcome():
    calls = ServedCalls()
    call = opened(calls, 1)
    assert calls.finish(call, Response(b"first"))
    assert not calls.finish(call, Response(b"second"))
    assert not calls.put(call, chunk(1))
    assert calls.next() == (call, Response(b"first"))
    assert not calls.has_news


def test_a_client_that_is_gone_wants_nothing_and_ends_what_it_followed():
    calls = ServedCalls()
    plain, bound, followed = opened(calls, 1), opened(calls, 2, drop=True), opened(calls, 3, follows=True)
    over = opened(calls, 4, follows=True)
    calls.finish(over, Response(b"x" * 100))
    assert calls.abandon() == [bound, followed]
    for call in (plain, bound, followed, over):
        assert not calls.put(call, chunk(1))
        assert not calls.finish(call, Response(b""))
    assert (len(calls), calls.has_news, calls.answer_bytes) == (0, False, 0)


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["put", "finish", "next"])), max_size=60))
@settings(max_examples=examples(100), deadline=None)
def test_every_outcome_leaves_once_after_its_items_whatever_the_order(steps: list[tuple[int, str]]):
    calls = ServedCalls()
    made = {seq: opened(calls, seq) for seq in range(1, 5)}
    put: dict[int, list[bytes]] = {seq: [] for seq in made}
    got: dict[int, list[object]] = {seq: [] for seq in made}

    def send() -> None:
        call, news = calls.next()
        got[call.seq].append(news.data if isinstance(news, OutputChunk) else "done")

    for number, (seq, what) in enumerate(steps):
        if what == "put" and calls.put(made[seq], chunk(number)):
            put[seq].append(b"%d" % number)
        elif what == "finish":
            calls.finish(made[seq], ToolRaised("x" * 10))
        elif what == "next" and calls.has_news:
            send()
    for call in made.values():
        calls.finish(call, CallCancelled("end"))
    while calls.has_news:
        send()
    assert got == {seq: [*items, "done"] for seq, items in put.items()}
    assert calls.answer_bytes == 0


@pytest.mark.guarantee("R-57")
def test_a_stream_that_is_not_taken_loses_its_oldest_and_counts_them():
    calls = ServedCalls()
    call = opened(calls, 1)
    total = 0
    for number in range(1000):
        item = chunk(number, size=8000)
        total += len(item.data)
        calls.put(call, item)
    calls.finish(call, Response(b""))
    got: list[OutputChunk] = []
    while calls.has_news:
        news = calls.next()[1]
        if isinstance(news, OutputChunk):
            got.append(news)
    assert sum(len(item.data) for item in got) < 1024 * 1024
    assert sum(len(item.data) + item.dropped for item in got) == total
    assert got[-1].data.startswith(b"999")


# --- requests ---------------------------------------------------------------------------------------------------------
def test_every_operation_of_the_table_can_be_asked_for():
    for name, op in OPERATIONS.items():
        fields: dict[str, object] = {
            "exec": {"argv": ["true"]},
            "start": {"argv": ["true"]},
            "run_code": {"code": "1"},
            "cancel": {"call": "c1"},
            "process_wait": {"process": "p"},
            "process_signal": {"process": "p", "how": "kill"},
            "process_write": {"process": "p"},
            "act": {"action": "a"},
            "ask": {"query": "q"},
            "send_message": {"text": "t"},
            "tool": {"name": "t"},
            "import_session": {"source": "f"},
        }.get(name, {})  # type: ignore[assignment]
        request = request_of(Ask(1, name, "s", None, msgspec.Raw(msgspec.msgpack.encode(fields))))
        assert isinstance(request.body, op.params)
        assert request.timeout_s == op.timeout_s
        assert not follows(request.body)


def test_what_follows_has_no_deadline_unless_it_asks_for_one():
    body = msgspec.Raw(msgspec.msgpack.encode(FollowBody(follow=True)))
    assert request_of(Ask(1, "events", "", None, body)).timeout_s is None
    assert request_of(Ask(1, "events", "", 3.0, body)).timeout_s == 3.0


@given(st.binary(max_size=60), st.sampled_from(sorted(OPERATIONS)))
@settings(max_examples=examples(200), deadline=None)
def test_a_body_of_random_bytes_is_refused_or_read_and_nothing_else(data: bytes, op: str):
    try:
        request = request_of(Ask(1, op, "s", 1.0, msgspec.Raw(data)))
    except InvalidRequest as error:
        refusal: InvalidRequest | None = error
    else:
        refusal = None
        assert isinstance(request.body, OPERATIONS[op].params)
    assert refusal is None or (refusal.code, refusal.ran) == ("invalid_body", "no")


# --- items ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "item",
    [
        OutputChunk(stream="stderr", data=b"\x00\xff", call=7, dropped=3),
        Event(number=4, at=1.5, type="session.ready", session="s1", incarnation=2, data={"a": 1, "b": None}, dropped=9),
    ],
)
def test_an_item_crosses_as_it_is(item: OutputChunk | Event):
    assert decode_item(encode_item(item)) == item


@given(st.binary(max_size=80))
@settings(max_examples=examples(200), deadline=None)
def test_random_bytes_are_an_item_or_a_breach(data: bytes):
    try:
        item = decode_item(msgspec.Raw(data))
    except ProtocolBreach:
        return
    assert isinstance(item, (OutputChunk, Event))


@pytest.mark.parametrize("body", [[3, {}], [1, {"stream": "other", "data": b""}], [2, {}], [], [1], 5])
def test_an_item_of_no_known_kind_is_a_breach(body: object):
    with pytest.raises(ProtocolBreach):
        decode_item(msgspec.Raw(msgspec.msgpack.encode(body)))
