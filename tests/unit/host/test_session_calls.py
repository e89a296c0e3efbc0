"""The calls of a session over a real channel, the session's end played by the test: one outcome each, whatever happens."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from helpers.mailbox_peer import SESSION, Peer, open_peer, request
from helpers.reactors import WAIT_S, in_loop, running_reactor
from helpers.waiting import wait_until
from procession.host.core.allowance import Pace
from procession.ipc.core.backend import Request, Response
from procession.ipc.core.bounds import INLINE_BYTES_MAX, MAILBOX_COMMANDS_MAX, READ_BYTES
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import (
    CallCancelled,
    CallTimedOut,
    ExpiredInQueue,
    MailboxFull,
    MessageTooLarge,
    SessionDied,
    SessionNotRunning,
    SessionRestarting,
    ToolTimedOut,
)
from procession.ipc.core.messages import Arena, Deliver, Inline, Notice, StreamChunk, StreamEnd, StreamOpen, Subscribers
from procession.ipc.core.operations import OPERATIONS, SignalBody

SOON_S = 0.03
"""A deadline that is waited for: by the outcome that it brings, never by sleeping."""


@pytest.fixture(params=["thread", "asyncio"])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    with running_reactor(request.param) as reactor, open_peer(reactor) as made:
        yield made


class CallingThread(threading.Thread):
    """A thread that makes one call."""

    def __init__(self, peer: Peer, what: Any) -> None:
        super().__init__()
        self._peer = peer
        self._what = what
        self.outcome: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self._peer.calls.call(self._what)
        except Exception as error:
            self.outcome = error

    def wait(self) -> Any:
        self.join(WAIT_S)
        assert not self.is_alive()
        return self.outcome


# --- one call -----------------------------------------------------------------------------------------------
def test_a_call_is_answered_in_the_thread_that_makes_it(peer: Peer) -> None:
    caller = CallingThread(peer, request(payload=b"hello", call_id="mine"))
    call = peer.hear()
    assert (call.op, call.payload, call.inc) == ("echo", Inline(b"hello"), 1)
    assert 0 < call.timeout_s <= WAIT_S
    peer.reply(call.seq)
    response = caller.wait()
    assert (bytes(response.body), response.payload, response.call_id) == (b"\x80", None, "mine")
    assert (peer.calls.served, peer.calls.failed, peer.calls.open) == (1, 0, 0)
    assert peer.calls.outcome_of("mine") == "ok"


def test_many_threads_call_at_once_and_each_gets_its_own_answer(peer: Peer) -> None:
    callers = [CallingThread(peer, request(call_id=f"caller {n}")) for n in range(8)]
    heard = [peer.hear().seq for _ in callers]
    assert sorted(heard) == list(range(1, 9))
    for seq in reversed(heard):
        peer.reply(seq)
    assert [caller.wait().call_id for caller in callers] == [f"caller {n}" for n in range(8)]


def test_a_failure_is_raised_with_its_session_and_call(peer: Peer) -> None:
    caller = CallingThread(peer, request())
    peer.fail(peer.hear().seq, CallTimedOut("too slow"))
    error = caller.wait()
    assert (type(error), error.session, error.call_id) == (CallTimedOut, SESSION, "c1")
    assert error.elapsed_s >= 0
    assert peer.calls.failed == 1


def test_what_is_too_large_is_refused_before_it_has_a_number(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("procession.host.call_mailbox.PAYLOAD_BYTES_MAX", 10)
    with pytest.raises(MessageTooLarge) as refused:
        peer.calls.call(request(payload=b"x" * 11))
    assert refused.value.code == "payload_too_large"
    peer.submit("large", request(payload=b"x" * 11))
    assert isinstance(peer.outcome("large"), MessageTooLarge)
    peer.submit("small", request())
    assert peer.hear().seq == 1


def test_output_is_handed_out_in_the_waiting_thread_or_told(peer: Peer) -> None:
    got: list[tuple[str, bytes, int, bool]] = []

    def take(name: str) -> Any:
        return lambda chunk: got.append((name, chunk.data, chunk.dropped, threading.current_thread() is caller))

    caller = CallingThread(peer, request("run", b"", on_item=take("call")))
    first = peer.hear().seq
    peer.submit("told", request("run", b"", on_item=take("told")))
    second = peer.hear().seq
    for seq in (first, second):
        peer.say(StreamOpen(1, seq, 1, "stdout"), StreamChunk(1, seq, 1, b"text", 0), StreamEnd(1, seq, 1, 5))
        peer.reply(seq)
    assert isinstance(caller.wait(), Response)
    assert isinstance(peer.outcome("told"), Response)
    assert [row[:3] for row in got if row[0] == "call"] == [("call", b"text", 0), ("call", b"", 5)]
    assert [row[:3] for row in got if row[0] == "told"] == [("told", b"text", 0), ("told", b"", 5)]
    assert all(row[3] for row in got if row[0] == "call")
    wait_until(lambda: len(peer.chunks) == 4, "the log has it too")


def test_a_stream_of_a_number_that_no_operation_has_is_a_breach(peer: Peer) -> None:
    peer.submit("run", request("run", b""))
    seq = peer.hear().seq
    peer.say(StreamOpen(1, seq, 9, "x"), StreamChunk(1, seq, 9, b"text", 0))
    wait_until(lambda: bool(peer.lost), "the breach")


# --- deadlines ----------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-51")
def test_a_call_given_up_and_answered_later_is_late_exactly_once(peer: Peer) -> None:
    peer.submit("slow", request(timeout_s=SOON_S))
    seq = peer.hear().seq
    error = peer.outcome("slow")
    assert (type(error), error.ran) == (ExpiredInQueue, "no")
    assert peer.hear_cancel() == seq
    assert peer.calls.late == 0
    peer.reply(seq)
    wait_until(lambda: peer.calls.late == 1, "the late answer is counted")
    peer.submit("other", request())
    peer.reply(peer.hear().seq)
    assert isinstance(peer.outcome("other"), Response)
    assert (peer.calls.late, peer.calls.served, peer.lost) == (1, 2, [])
    peer.reply(seq)
    wait_until(lambda: bool(peer.lost), "a second answer is a breach")
    assert isinstance(peer.lost[0], ProtocolBreach)
    assert (peer.calls.late, peer.outcomes.all["slow"]) == (1, [error])


@pytest.mark.guarantee("R-51")
def test_a_waiting_caller_is_told_of_its_deadline_and_the_late_answer_is_nobodys(peer: Peer) -> None:
    caller = CallingThread(peer, request(timeout_s=SOON_S))
    first = peer.hear().seq
    assert isinstance(caller.wait(), ExpiredInQueue)
    assert peer.hear_cancel() == first
    following = CallingThread(peer, request())
    second = peer.hear().seq
    peer.reply(first)
    peer.reply(second)
    assert isinstance(following.wait(), Response)
    assert peer.calls.late == 1


def test_a_query_that_the_session_is_in_has_timed_out_and_the_session_has_its_grace(peer: Peer) -> None:
    call = peer.submit("busy", request("modules", timeout_s=SOON_S))
    seq = peer.hear().seq
    peer.started(0, running=seq)
    error = peer.outcome("busy")
    assert (type(error), error.ran) == (CallTimedOut, "maybe")
    assert peer.calls.patience_of(seq) == call.deadline + 2.0
    peer.reply(seq)
    wait_until(lambda: peer.calls.late == 1, "the late answer")
    assert peer.calls.patience_of(seq) is None


def test_a_ping_without_an_answer_times_out_and_the_session_is_given_no_patience(peer: Peer) -> None:
    peer.submit("ping", request("ping", timeout_s=SOON_S))
    error = peer.outcome("ping")
    assert (type(error), peer.calls.patience_of(1)) == (CallTimedOut, None)


def test_a_run_that_was_not_begun_is_withdrawn_a_little_after_its_deadline(peer: Peer) -> None:
    peer.submit("run", request("run", b"", timeout_s=SOON_S))
    seq = peer.hear().seq
    assert isinstance(peer.outcome("run"), ExpiredInQueue)
    assert peer.hear_cancel() == seq
    assert peer.overdue == []


def test_a_run_far_beyond_its_deadline_has_its_session_ended(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("procession.host.call_mailbox.RUN_SLACK_S", SOON_S)
    call = peer.submit("run", request("run", b"", timeout_s=SOON_S))
    peer.started(peer.hear().seq)
    wait_until(lambda: peer.overdue == [call], "the host steps in")
    assert peer.outcomes.all == {}
    peer.die()
    error = peer.outcome("run")
    assert (type(error), error.ran, error.call_id) == (ToolTimedOut, "yes", "c1")


def test_a_session_is_told_who_follows_it_before_any_call_that_comes_after(peer: Peer) -> None:
    peer.followed = (True, False)
    peer.calls.tell_followed()
    peer.submit("call", request("ask"))
    assert peer.hear(Subscribers) == Subscribers(1, signals=True, status=False)
    peer.reply(peer.hear().seq)
    peer.followed = (False, True)
    peer.calls.tell_followed()
    assert peer.hear(Subscribers) == Subscribers(1, signals=False, status=True)


def test_a_new_process_is_told_who_follows_it_before_its_first_call_and_not_that_nobody_does(peer: Peer) -> None:
    peer.die()
    peer.calls.tell_followed()  # nobody is there to be told
    peer.submit("early", request("ask"))
    peer.be_born()
    peer.reply(peer.hear_first().seq)
    peer.die()
    peer.followed = (True, True)
    peer.submit("waiting", request("ask"))
    peer.be_born()
    assert peer.hear_first() == Subscribers(3, signals=True, status=True)
    peer.reply(peer.hear().seq)


def test_without_a_process_calls_expire_and_are_never_sent(peer: Peer) -> None:
    peer.die()
    peer.submit("waits", request(timeout_s=SOON_S))
    assert isinstance(peer.outcome("waits"), ExpiredInQueue)
    assert isinstance(CallingThread(peer, request(timeout_s=SOON_S)).wait(), ExpiredInQueue)
    peer.submit("stays", request())
    peer.be_born()
    assert peer.hear().seq == 3


# --- the mailbox --------------------------------------------------------------------------------------------
def fill_mailbox(peer: Peer) -> None:
    for n in range(MAILBOX_COMMANDS_MAX):
        peer.submit(f"call {n}", request())


@pytest.mark.guarantee("R-40")
def test_a_full_mailbox_refuses_at_once_and_control_calls_pass(peer: Peer) -> None:
    fill_mailbox(peer)
    with pytest.raises(MailboxFull) as full:
        peer.calls.call(request())
    assert (full.value.session, full.value.ran) == (SESSION, "no")
    peer.submit("ping", request("ping"))
    peer.submit("refused", request())
    assert isinstance(peer.outcome("refused"), MailboxFull)
    assert (peer.calls.open, peer.calls.waiting) == (MAILBOX_COMMANDS_MAX + 1, 0)


def test_the_status_page_says_when_there_is_room_again(peer: Peer) -> None:
    fill_mailbox(peer)
    peer.started(1)
    peer.submit("fits", request())
    assert "fits" not in peer.outcomes.all
    assert peer.calls.open == MAILBOX_COMMANDS_MAX + 1


def test_calls_that_wait_for_room_are_sent_in_order_and_their_time_goes_on(peer: Peer) -> None:
    fill_mailbox(peer)
    for n in range(3):
        peer.submit(f"waits {n}", request(wait=True))
    peer.submit("expires", request(wait=True, timeout_s=SOON_S))
    assert isinstance(peer.outcome("expires"), ExpiredInQueue)
    assert (peer.calls.open, peer.calls.waiting) == (MAILBOX_COMMANDS_MAX, 3)
    for _ in range(MAILBOX_COMMANDS_MAX):
        peer.reply(peer.hear().seq)
    assert [peer.hear().seq for _ in range(3)] == [MAILBOX_COMMANDS_MAX + 1 + n for n in range(3)]


def test_a_caller_who_waits_for_room_waits_in_its_own_thread(peer: Peer) -> None:
    fill_mailbox(peer)
    caller = CallingThread(peer, request(wait=True))
    wait_until(lambda: peer.calls.waiting == 1, "it waits for room")
    for _ in range(MAILBOX_COMMANDS_MAX + 1):
        peer.reply(peer.hear().seq)
    assert isinstance(caller.wait(), Response)


def test_a_cancelled_call_in_the_mailbox_makes_no_room_twice(peer: Peer) -> None:
    fill_mailbox(peer)
    waiting = [peer.submit(f"waits {n}", request(wait=True)) for n in range(2)]
    assert peer.calls.cancel(waiting[0]) == "not_sent"
    error = peer.outcome("waits 0")
    assert (type(error), error.code, error.ran) == (CallCancelled, "not_sent", "no")
    assert peer.calls.cancel(waiting[0]) == "too_late"
    peer.reply(peer.hear().seq)
    wait_until(lambda: peer.calls.waiting == 0, "the next in turn has the room")


def test_payloads_that_find_no_room_in_the_arena_wait_for_it() -> None:
    size = INLINE_BYTES_MAX * 2
    with running_reactor("thread") as reactor, open_peer(reactor, arena_bytes=size) as peer:
        peer.submit("first", request(payload=b"a" * size))
        peer.submit("second", request(payload=b"b" * size))
        peer.submit("small", request(payload=b"c"))
        first, small = peer.hear(), peer.hear()
        assert (first.payload, small.payload) == (Arena(0, size), Inline(b"c"))
        assert peer.calls.waiting == 1
        peer.reply(first.seq)
        second = peer.hear()
        assert (second.seq, second.payload) == (2, Arena(0, size))


# --- incarnations -------------------------------------------------------------------------------------------
def test_a_death_answers_what_had_begun_and_the_next_process_gets_the_rest_in_order(peer: Peer) -> None:
    for n in range(6):
        peer.submit(f"call {n}", request(timeout_s=None))
    peer.submit("ping", request("ping"))
    cancelled = peer.submit("cancelled", request())
    assert peer.calls.cancel(cancelled) == "cancelling"
    peer.started(2)
    assert peer.calls.started_open == 2
    peer.die()
    for name in ("call 0", "call 1", "ping"):
        error = peer.outcome(name)
        assert (type(error), error.ran) == (SessionDied, "maybe"), name
    assert peer.outcome("cancelled").code == "not_sent"
    peer.be_born()
    heard = [peer.hear() for _ in range(4)]
    assert [call.seq for call in heard] == [3, 4, 5, 6]
    assert {(call.inc, call.timeout_s) for call in heard} == {(2, None)}
    for call in heard:
        peer.reply(call.seq)
    assert all(isinstance(peer.outcome(f"call {n}"), Response) for n in range(2, 6))


@pytest.mark.guarantee("R-21")
def test_calls_that_were_only_sent_do_not_count_as_taken_up(peer: Peer) -> None:
    peer.submit("first", request())
    peer.submit("second", request("run", b""))
    peer.submit("ping", request("ping"))
    assert (peer.calls.open, peer.calls.started_open) == (3, 0)
    peer.started(1)
    assert peer.calls.started_open == 1
    peer.reply(1)
    peer.outcome("first")
    assert (peer.calls.open, peer.calls.started_open) == (2, 0)


def test_when_no_process_will_come_each_call_has_a_refusal_of_its_own(peer: Peer) -> None:
    for n in range(3):
        peer.submit(f"call {n}", request())
    peer.started(1)
    peer.die(keep=False)
    assert isinstance(peer.outcome("call 0"), SessionDied)
    refusals = [peer.outcome(f"call {n}") for n in (1, 2)]
    assert [(type(e), e.ran, e.call_id) for e in refusals] == [
        (SessionNotRunning, "no", "c2"),
        (SessionNotRunning, "no", "c3"),
    ]
    peer.submit("queued", request())
    shared = SessionNotRunning("it was stopped", code="stopped")
    in_loop(peer.reactor, lambda: peer.calls.refuse_all(lambda: shared))
    refused = peer.outcome("queued")
    assert (refused.code, refused.call_id, refused is shared) == ("stopped", "c4", False)


def test_a_waiting_caller_outlives_the_process_when_its_call_was_not_begun(peer: Peer) -> None:
    caller = CallingThread(peer, request(payload=b"again"))
    assert peer.hear().inc == 1
    peer.die()
    wait_until(lambda: peer.calls.waiting == 1, "the call is queued")
    peer.be_born()
    call = peer.hear()
    assert (call.seq, call.inc, call.payload) == (1, 2, Inline(b"again"))
    peer.reply(call.seq)
    assert isinstance(caller.wait(), Response)


def test_a_call_without_a_process_asks_for_one_and_waits_for_it_unless_it_fails_fast(peer: Peer) -> None:
    peer.die()
    with pytest.raises(SessionRestarting):
        peer.calls.call(request(fail_fast=True))
    assert (peer.wanted, peer.calls.waiting) == (1, 0)  # else a session that sleeps would refuse it for ever
    peer.submit("queued", request())
    assert (peer.wanted, peer.calls.waiting) == (2, 1)


def test_calls_that_are_held_wait_in_order_and_none_fails_fast(peer: Peer) -> None:
    peer.calls.hold()
    for name, fast in (("first", False), ("second", True)):
        peer.submit(name, request(fail_fast=fast))
    assert (peer.calls.waiting, peer.calls.open, peer.calls.is_clear) == (2, 0, True)
    peer.calls.release()
    assert (peer.calls.waiting, peer.calls.open, peer.calls.is_clear) == (0, 2, False)


def test_closed_calls_refuse_each_with_an_error_of_its_own(peer: Peer) -> None:
    shared = SessionNotRunning("the host is closing", code="closed")
    peer.calls.close(shared)
    told = []
    for _ in range(2):
        with pytest.raises(SessionNotRunning) as refused:
            peer.calls.call(request())
        told.append(refused.value)
    assert told[0] is not told[1]
    assert shared.__traceback__ is None
    assert {error.code for error in told} == {"closed"}


# --- looking and stopping -----------------------------------------------------------------------------------
def test_the_listing_shows_each_call_as_far_as_it_is(peer: Peer) -> None:
    for name in ("begun", "sent"):
        peer.submit(name, request(call_id=name))
    peer.submit("over", request(call_id="over"))
    peer.reply(3)
    peer.outcome("over")
    peer.started(1)
    assert [(c.id, c.seq, c.state, c.incarnation, c.outcome) for c in peer.calls.infos()] == [
        ("begun", 1, "running", 1, ""), ("sent", 2, "sent", 1, ""), ("over", 3, "over", 1, "ok"),
    ]  # fmt: skip
    found = peer.calls.find("sent")
    assert found is not None
    assert found.seq == 2
    assert (peer.calls.find("over"), peer.calls.outcome_of("over"), peer.calls.outcome_of("never")) == (
        None,
        "ok",
        None,
    )


@pytest.mark.guarantee("R-52")
def test_a_cancel_is_sent_once_and_its_outcome_says_the_rest(peer: Peer) -> None:
    call = peer.submit("run", request("run", b""))
    peer.started(peer.hear().seq)
    assert [peer.calls.cancel(call), peer.calls.cancel(call)] == ["cancelling", "cancelling"]
    assert peer.hear_cancel() == 1
    peer.fail(1, CallCancelled("stopped", code="cancelled_in_session", ran="maybe"))
    assert peer.outcome("run").code == "cancelled_in_session"
    assert peer.calls.cancel(call) == "too_late"
    peer.submit("next", request())
    assert peer.hear().seq == 2  # and no second cancel before it


@pytest.mark.parametrize("answered", [True, False])
def test_ctrl_c_cancels_the_call_and_says_what_became_of_it(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    monkeypatch.setattr("procession.host.call_waiting.INTERRUPT_WAIT_S", WAIT_S if answered else SOON_S)
    main = threading.get_ident()

    def play() -> None:
        seq = peer.hear().seq
        signal.pthread_kill(main, signal.SIGINT)
        assert peer.hear_cancel() == seq
        if answered:
            peer.fail(seq, CallCancelled("stopped", code="cancelled_in_session", ran="maybe"))

    helper = threading.Thread(target=play)
    helper.start()
    with pytest.raises(KeyboardInterrupt) as interrupted:
        peer.calls.call(request("run", b""))
    helper.join(WAIT_S)
    (note,) = interrupted.value.__notes__
    assert ("cancelled_in_session" in note) == answered
    assert ("not known yet" in note) != answered
    following = CallingThread(peer, request())
    peer.reply(peer.hear().seq)
    assert isinstance(following.wait(), Response)  # nobody was left with the lead


def test_a_flood_of_notices_is_read_slowly_and_calls_still_end(peer: Peer) -> None:
    for _ in range(12):
        peer.say(*(Notice(1, "flood", "x" * 10) for _ in range(100)))
    wait_until(lambda: peer.calls._slowed or peer.calls.notices.refused > 0, "it is slowed down")
    peer.submit("echo", request())
    peer.reply(peer.hear().seq)
    assert isinstance(peer.outcome("echo"), Response)
    assert len(peer.others) <= 800


# --- casts and effects ------------------------------------------------------------------------------------------------
def cast_of(data: bytes) -> Any:
    return Request(OPERATIONS["signal"], SESSION, SignalBody(wait=False), data)


def test_a_cast_that_a_process_dies_with_is_given_to_the_next_once_more_and_before_what_came_later(peer: Peer) -> None:
    peer.submit("poison", cast_of(b"poison"))
    peer.submit("later", cast_of(b"later"))
    peer.submit("call", request())
    poison, *_ = (peer.hear() for _ in range(3))
    peer.started(poison.seq)
    peer.die()
    peer.be_born()
    again = [peer.hear() for _ in range(3)]
    assert [(call.inc, getattr(call.payload, "data", None)) for call in again] == [
        (2, b"poison"),
        (2, b"later"),
        (2, None),
    ]
    assert again[0].seq == poison.seq
    peer.started(again[0].seq)
    peer.die()
    assert (type(peer.outcome("poison")), peer.outcome("poison").ran) == (SessionDied, "maybe")
    peer.be_born()
    left = [peer.hear() for _ in range(2)]
    assert [getattr(call.payload, "data", None) for call in left] == [b"later", None]
    for call in left:
        peer.reply(call.seq)
    assert isinstance(peer.outcome("later"), Response)
    assert isinstance(peer.outcome("call"), Response)


def test_a_cast_that_was_begun_is_not_repeated_when_no_process_follows_or_it_was_cancelled(peer: Peer) -> None:
    cancelled = peer.submit("cancelled", cast_of(b"x"))
    peer.started(peer.hear().seq)
    assert peer.calls.cancel(cancelled) == "cancelling"
    peer.die()
    assert isinstance(peer.outcome("cancelled"), SessionDied)
    peer.be_born()
    peer.submit("last", cast_of(b"x"))
    peer.started(peer.hear().seq)
    peer.die(keep=False)
    assert (type(peer.outcome("last")), peer.outcome("last").ran) == (SessionDied, "maybe")


def test_a_large_cast_is_written_anew_for_the_next_process(peer: Peer) -> None:
    data = b"x" * (INLINE_BYTES_MAX + 1)
    peer.submit("large", cast_of(data))
    call = peer.hear()
    assert isinstance(call.payload, Arena)
    peer.started(call.seq)
    peer.die()
    peer.be_born()
    again = peer.hear()
    assert isinstance(again.payload, Arena)
    assert peer.read(again.payload) == data
    peer.reply(again.seq)
    assert isinstance(peer.outcome("large"), Response)


def test_effects_are_handed_on_in_order_and_a_flood_of_them_is_slowed_and_loses_nothing(peer: Peer) -> None:
    count, rate_s, in_one_read = 3_000, 10_000, 2 * READ_BYTES // 200
    sent = [Deliver(1, "session", str(number), b"x" * 200) for number in range(count)]
    began = time.monotonic()
    peer.calls._effects = Pace(rate_s, 100, began)

    def write() -> None:
        for at in range(0, count, 100):
            peer.say(*sent[at : at + 100])

    writing = threading.Thread(target=write)
    writing.start()
    wait_until(lambda: len(peer.others) == count, "all of them", timeout_s=WAIT_S)
    writing.join(WAIT_S)
    assert peer.others == sent
    assert time.monotonic() - began > (count - 100 - in_one_read) / rate_s
    wait_until(lambda: not peer.calls._slowed, "it is read again", timeout_s=WAIT_S)
    peer.submit("echo", request())
    peer.reply(peer.hear().seq)
    assert isinstance(peer.outcome("echo"), Response)


def test_last_words_are_handed_on_before_the_end_and_one_that_spoils_costs_no_other(peer: Peer) -> None:
    surprises: list[BaseException] = []
    peer.reactor.on_error = lambda problem, _: surprises.append(problem)

    def take(message: Deliver) -> None:
        peer.others.append(message)
        assert message.who

    peer.calls._other = take
    words = [Deliver(1, "session", who, b"") for who in ("a", "", "b")]

    def at_the_end() -> None:
        with peer.calls.lock:
            peer.calls.dispatch(words)
        peer.calls.hand_on()

    in_loop(peer.reactor, at_the_end)
    assert [message.who for message in peer.others] == ["a", "", "b"]
    assert [type(problem) for problem in surprises] == [AssertionError]
