"""The locked channel over real pipes: who reads, who waits, who writes, and how each of them ends."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from helpers.reactors import WAIT_S, in_loop, running_reactor
from helpers.runs import run_python
from helpers.waiting import poll_until, wait_until
from procession.ipc.core import frames
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.connection import Connection
from procession.ipc.core.messages import EMPTY, Call, Ready, Reply, decoder, encode
from procession.ipc.transport.channel import PARK_S, Channel, Waiter
from procession.ipc.transport.reactor import Reactor

_read_call = decoder("to_session")


class Line:
    """A channel whose other end is in the test's hand; calls are waiters by number."""

    def __init__(self, reactor: Reactor, *, parks: bool = True, over_socket: bool = False) -> None:
        self.reactor = reactor
        self.calls: dict[int, Waiter] = {}
        self.lost: list[Any] = []
        self.unasked: list[tuple[int, bool]] = []
        self.read_by: dict[int, int] = {}
        self.on_unasked: Callable[[int], None] | None = None
        self.news = threading.Event()
        self.rooms = 0
        if over_socket:
            ours, theirs = socket.socketpair()
            read_fd = write_fd = ours.detach()
            self.their_reader = self.their_writer = theirs.detach()
        else:
            read_fd, self.their_writer = os.pipe()
            self.their_reader, write_fd = os.pipe()
        self._decoder = frames.FrameDecoder()
        self.channel = Channel(
            read_fd,
            write_fd,
            Connection("host", incarnation=1),
            reactor,
            self._dispatch,
            self._lost,
            pending=(lambda: bool(self.calls)) if parks else None,
            on_room=self._room,
        )
        self.say(Ready(1, 1, 1))
        in_loop(reactor, self.channel.start)
        wait_until(lambda: self.channel.connection.greeted, "the greeting")

    def _room(self) -> None:
        self.rooms += 1

    def _lost(self, reason: Any) -> None:
        self.lost.append(reason)
        self.news.set()

    def _dispatch(self, messages: list[Any]) -> Any:
        after = []
        for message in messages:
            if isinstance(message, Ready):
                continue
            waiter = self.calls.pop(message.seq, None)
            if waiter is not None:
                self.read_by[message.seq] = threading.get_ident()
                self.channel.finish(waiter, message)
            else:
                after.append(lambda seq=message.seq: self._take_unasked(seq))
        return after

    def _take_unasked(self, seq: int) -> None:
        self.unasked.append((seq, self.reactor.in_loop()))
        if self.on_unasked is not None:
            self.on_unasked(seq)
        self.news.set()

    # the other end
    def say(self, *messages: Any) -> None:
        os.write(self.their_writer, b"".join(frames.encode(encode(m)) for m in messages))

    def reply(self, *numbers: int) -> None:
        self.say(*(Reply(1, number) for number in numbers))

    def hear(self) -> list[int]:
        """Read once, as a session does, and return the numbers of the calls that came whole."""
        data = os.read(self.their_reader, 65536)
        return [_read_call(payload).seq for _, payload in self._decoder.feed(data)]

    # this end
    def send(self, number: int, size: int = 0, waiter: Waiter | None = None) -> Waiter:
        waiter = waiter or Waiter()
        body = msgspec.Raw(msgspec.msgpack.encode(b"x" * size)) if size else EMPTY
        with self.channel.lock:
            self.calls[number] = waiter
            self.channel.connection.send(Call(1, number, "echo", 5.0, body))
            self.channel.flush()
        return waiter

    def wait(self, waiter: Waiter, timeout_s: float = WAIT_S) -> Any:
        self.channel.wait(waiter, time.monotonic() + timeout_s)
        return waiter.outcome

    def waiting_thread(self, waiter: Waiter, timeout_s: float = WAIT_S) -> threading.Thread:
        """Start a thread that waits, and return when it leads or follows."""
        channel = self.channel
        before = (channel._leads, len(channel._followers))
        thread = threading.Thread(target=self.wait, args=(waiter, timeout_s))
        thread.start()
        wait_until(lambda: (channel._leads, len(channel._followers)) != before, "the thread waits")
        return thread

    def close(self) -> None:
        in_loop(self.reactor, self.channel.close)
        for fd in {self.their_reader, self.their_writer}:
            if fd >= 0:
                os.close(fd)

    def hang_up(self) -> None:
        os.close(self.their_writer)
        if self.their_reader == self.their_writer:
            self.their_reader = -1
        self.their_writer = -1


@pytest.fixture(params=["thread", "asyncio"])
def reactor(request: pytest.FixtureRequest) -> Iterator[Reactor]:
    with running_reactor(request.param) as running:
        yield running


@pytest.fixture(params=["parks", "hands back"])
def line(request: pytest.FixtureRequest, reactor: Reactor) -> Iterator[Line]:
    made = Line(reactor, parks=request.param == "parks")
    yield made
    made.close()


# --- who reads --------------------------------------------------------------------------------------------------------
def test_a_waiting_caller_reads_its_own_reply(line: Line):
    def answer(number: int, waiter: Waiter) -> None:
        wait_until(lambda: line.channel._leader is waiter, "the caller leads")
        assert line.hear() == [number]
        line.reply(number)

    for number in range(1, 20):
        waiter = line.send(number)
        peer = threading.Thread(target=answer, args=(number, waiter))
        peer.start()
        assert line.wait(waiter) == Reply(1, number)
        peer.join(WAIT_S)
    assert line.read_by == dict.fromkeys(range(1, 20), threading.get_ident())


def test_without_a_waiting_caller_the_reactor_reads(line: Line):
    line.reply(77)
    assert line.news.wait(WAIT_S)
    assert line.unasked == [(77, True)]


def test_reading_goes_back_to_the_reactor_after_the_last_caller(line: Line):
    waiter = line.send(1)
    line.reply(1)
    assert line.wait(waiter) is not None
    start = time.monotonic()
    line.reply(77)
    assert line.news.wait(WAIT_S)
    assert line.unasked == [(77, True)]
    assert time.monotonic() - start < PARK_S + 1.0


def test_a_call_nobody_waits_for_is_read_though_the_reading_was_parked(reactor: Reactor):
    line = Line(reactor)
    try:
        waiter = line.send(1)
        line.reply(1)
        line.wait(waiter)
        with line.channel.lock:
            line.channel.unpark()
        line.send(2)
        line.reply(2)
        wait_until(lambda: 2 in line.read_by, "the reactor reads the reply")
        assert line.read_by[2] == reactor.thread_id()
    finally:
        line.close()


def test_an_idle_channel_is_parked_only_for_a_moment_whatever_was_called(reactor: Reactor):
    line = Line(reactor)
    try:
        for number in range(1, 300):
            waiter = line.send(number)
            line.reply(number)
            assert line.wait(waiter) is not None
        line.reply(1000)
        assert line.news.wait(WAIT_S)
        assert line.unasked == [(1000, True)]
    finally:
        line.close()


def test_a_wait_that_runs_out_leaves_the_reading_to_the_reactor(line: Line):
    waiter = line.send(1)
    start = time.monotonic()
    assert line.wait(waiter, 0.05) is None
    assert 0.05 <= time.monotonic() - start < 2.0
    line.reply(1)
    wait_until(lambda: waiter.outcome is not None, "the late reply is read")


def test_a_leader_completes_the_calls_of_its_followers(line: Line):
    first, second, third = (line.send(n) for n in (1, 2, 3))
    leader = line.waiting_thread(first)
    followers = [line.waiting_thread(second), line.waiting_thread(third)]
    line.reply(2, 3)
    for thread in followers:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert (second.outcome, third.outcome) == (Reply(1, 2), Reply(1, 3))
    assert leader.is_alive()
    assert line.read_by[2] == line.read_by[3] == leader.ident
    line.reply(1)
    leader.join(WAIT_S)
    assert first.outcome == Reply(1, 1)


def test_a_follower_takes_the_lead_when_the_leader_leaves(line: Line):
    first, second = line.send(1), line.send(2)
    leader, follower = line.waiting_thread(first), line.waiting_thread(second)
    line.reply(1)
    leader.join(WAIT_S)
    wait_until(lambda: line.channel._leader is second, "the follower leads")
    line.reply(2)
    follower.join(WAIT_S)
    assert line.read_by == {1: leader.ident, 2: follower.ident}


def test_a_follower_that_gives_up_is_not_handed_the_lead(line: Line):
    first, second, third = (line.send(n) for n in (1, 2, 3))
    leader = line.waiting_thread(first)
    impatient = line.waiting_thread(second, 0.02)
    patient = line.waiting_thread(third)
    impatient.join(WAIT_S)
    assert second.outcome is None
    line.reply(1)
    leader.join(WAIT_S)
    wait_until(lambda: line.channel._leader is third, "the patient one leads")
    line.reply(3)
    patient.join(WAIT_S)
    assert third.outcome == Reply(1, 3)


def sleeping_thread(line: Line, waiter: Waiter, timeout_s: float = WAIT_S) -> threading.Thread:
    """Start a thread that sleeps until a waiter has its outcome, and wait until it does sleep."""
    thread = threading.Thread(target=lambda: line.channel.sleep(waiter, time.monotonic() + timeout_s))
    thread.start()
    wait_until(lambda: waiter.gate is not None, "it sleeps")
    return thread


def test_who_sleeps_is_read_for_and_keeps_the_lead_from_nobody(line: Line):
    long, short = line.send(1), line.send(2)
    sleeper = sleeping_thread(line, long)
    with line.channel.lock:
        assert line.channel.take_lead(short)
    line.reply(2)
    line.channel.lead(short, time.monotonic() + WAIT_S)
    assert line.read_by[2] == threading.get_ident()
    line.reply(1)
    sleeper.join(WAIT_S)
    assert long.outcome.seq == 1
    assert line.read_by[1] != sleeper.ident


def test_who_sleeps_reads_for_itself_while_the_loop_is_blocked(line: Line):
    free, blocked = threading.Event(), threading.Event()

    def block() -> None:
        blocked.set()
        free.wait(WAIT_S)

    line.reactor.call_soon(block)
    assert blocked.wait(WAIT_S)
    try:
        long = line.send(1)
        line.reply(1)
        line.channel.sleep(long, time.monotonic() + WAIT_S)
        assert long.outcome.seq == 1
        assert line.read_by[1] == threading.get_ident()
    finally:
        free.set()


def test_a_sleep_that_runs_out_leaves_nothing(line: Line):
    long = line.send(1)
    line.channel.sleep(long, time.monotonic() + 0.01)
    assert (long.outcome, long.gate, line.channel._sleepers) == (None, None, {})


def test_who_sleeps_is_sent_away_when_reading_stops(line: Line):
    sleeper = sleeping_thread(line, line.send(1))
    assert line.channel.stop_reading()
    sleeper.join(WAIT_S)
    assert not sleeper.is_alive()


def test_many_threads_each_get_their_own_reply(reactor: Reactor):
    threads, each = 8, 100
    line = Line(reactor)
    wrong: list[str] = []

    def echo() -> None:
        left = threads * each
        while left:
            numbers = line.hear()
            left -= len(numbers)
            for number in reversed(numbers):
                line.reply(number)

    def work(base: int) -> None:
        for number in range(base, base + each):
            outcome = line.wait(line.send(number))
            if outcome != Reply(1, number):
                wrong.append(f"{number}: {outcome}")

    try:
        peer = threading.Thread(target=echo)
        workers = [threading.Thread(target=work, args=(1000 * (k + 1),)) for k in range(threads)]
        for thread in (peer, *workers):
            thread.start()
        for thread in (*workers, peer):
            thread.join(30)
        assert wrong == []
        assert line.calls == {}
    finally:
        line.close()


# --- woken from elsewhere ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("role", ["leader", "follower"])
def test_an_outcome_given_by_another_thread_wakes(line: Line, role: str):
    others = [line.waiting_thread(line.send(9))] if role == "follower" else []
    waiter = line.send(1)
    thread = line.waiting_thread(waiter)
    with line.channel.lock:
        line.channel.finish(waiter, "deadline")
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert waiter.outcome == "deadline"
    line.reply(9)
    for other in others:
        other.join(WAIT_S)


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_streamed_item_wakes(line: Line, role: str):
    from collections import deque

    others = [line.waiting_thread(line.send(9))] if role == "follower" else []
    waiter = line.send(1)
    waiter.items = deque()
    thread = line.waiting_thread(waiter)
    with line.channel.lock:
        waiter.items.append("line")
        line.channel.wake(waiter)
    thread.join(WAIT_S)
    assert waiter.outcome is None
    assert list(waiter.items) == ["line"]
    line.reply(9)
    for other in others:
        other.join(WAIT_S)


def test_an_outcome_that_is_there_needs_no_waiting(line: Line):
    waiter = line.send(1)
    line.reply(1)
    wait_until(lambda: waiter.outcome is not None, "the reactor reads")
    leads = line.channel._leads
    assert line.wait(waiter) == Reply(1, 1)
    assert line.channel._leads == leads


def test_a_second_outcome_is_a_bug_that_shows(line: Line):
    waiter = line.send(1)
    with line.channel.lock:
        line.channel.finish(waiter, "one")
        with pytest.raises(AssertionError):
            line.channel.finish(waiter, "two")


def test_waiting_for_ever_is_possible(line: Line):
    waiter = line.send(1)
    thread = threading.Thread(target=line.channel.wait, args=(waiter, float("inf")))
    thread.start()
    wait_until(lambda: line.channel._leader is waiter, "it leads")
    follower = line.send(2)
    second = threading.Thread(target=line.channel.wait, args=(follower, float("inf")))
    second.start()
    line.reply(1, 2)
    thread.join(WAIT_S)
    second.join(WAIT_S)
    assert (waiter.outcome, follower.outcome) == (Reply(1, 1), Reply(1, 2))


# --- ends -------------------------------------------------------------------------------------------------------------
def test_everybody_who_waits_is_sent_away_when_reading_stops(line: Line):
    waiters = [line.send(n) for n in (1, 2, 3)]
    threads = [line.waiting_thread(w) for w in waiters]
    assert line.channel.stop_reading()
    assert not line.channel.stop_reading()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert [w.outcome for w in waiters] == [None] * 3
    assert line.wait(line.send(4)) is None, "a closed channel must not be waited on"


def test_closing_under_a_polling_leader_leaves_nothing_open(line: Line):
    waiter = line.send(1)
    thread = line.waiting_thread(waiter)
    in_loop(line.reactor, line.channel.close)
    with line.channel.lock:
        line.channel.finish(waiter, "closed")  # the owner's turn, perhaps before the leader has noticed
    thread.join(WAIT_S)
    assert not thread.is_alive()


@pytest.mark.parametrize("leads", [True, False])
def test_the_end_of_the_other_side_is_told_once(line: Line, leads: bool):
    waiter = line.send(1)
    thread = line.waiting_thread(waiter) if leads else None
    line.hang_up()
    assert line.news.wait(WAIT_S)
    if thread is not None:
        thread.join(WAIT_S)
    in_loop(line.reactor, lambda: None)
    assert line.lost == ["end of file"]


def test_what_came_before_a_breach_is_told(line: Line):
    data = frames.encode(encode(Reply(1, 5))) + frames.encode(encode(Reply(1, 6)))
    os.write(line.their_writer, data)
    assert line.news.wait(WAIT_S)
    wait_until(lambda: len(line.unasked) == 2, "both are told")
    line.news.clear()
    os.write(line.their_writer, b"\xff" * 8)
    assert line.news.wait(WAIT_S)
    assert isinstance(line.lost[0], ProtocolBreach)
    assert line.channel.closed


def test_a_breach_found_by_the_owner_does_not_lose_what_came_with_it(reactor: Reactor):
    line = Line(reactor)
    try:
        dispatch = line._dispatch

        def strict(messages: list[Any]) -> Any:
            if any(m.seq == 666 for m in messages):
                raise ProtocolBreach("an answer to a call never made")
            return dispatch(messages)

        line.channel._dispatch = strict
        line.reply(5, 666, 7)
        wait_until(lambda: bool(line.lost), "the breach is told")
        assert [seq for seq, _ in line.unasked] == [5]
        assert str(line.lost[0]) == "an answer to a call never made"
    finally:
        line.close()


def test_drain_reads_what_a_dead_session_left(reactor: Reactor):
    line = Line(reactor)
    try:
        reactor.pause(line.channel.read_fd)
        in_loop(reactor, lambda: None)
        line.reply(1, 2, 3)
        line.hang_up()
        in_loop(reactor, lambda: line.channel.drain(10))
        assert [seq for seq, _ in line.unasked] == [1, 2, 3]
        assert line.lost == [], "the end is the keeper's to tell"
        assert line.channel.closed
    finally:
        line.close()


# --- interrupts and surprises -----------------------------------------------------------------------------------------
def test_an_interrupt_while_polling_leaves_the_channel_whole(line: Line):
    waiter = line.send(1)
    main = threading.get_ident()

    def interrupt() -> None:
        wait_until(lambda: line.channel._leader is waiter, "the main thread leads")
        signal.pthread_kill(main, signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        line.wait(waiter)
    helper.join(WAIT_S)
    line.reply(1)
    assert line.wait(waiter) == Reply(1, 1), "the same call can be waited for again"
    second = line.send(2)
    line.reply(2)
    assert line.wait(second) == Reply(1, 2)


@pytest.mark.parametrize("moment", ["as its bytes arrive", "as the reply arrives"])
def test_interrupts_around_system_calls_lose_nothing(line: Line, moment: str):
    """The peer interrupts the caller just when its write, or the read of its reply, has happened; each time the call lives."""
    rounds = 300
    main = threading.get_ident()

    def peer() -> None:
        for _ in range(rounds):
            (number,) = line.hear()
            if moment == "as the reply arrives":
                line.reply(number)
            signal.pthread_kill(main, signal.SIGINT)
            if moment == "as its bytes arrive":
                line.reply(number)

    def call(number: int, waiter: Waiter) -> None:
        line.send(number, waiter=waiter)
        line.wait(waiter)
        poll_until(lambda: False, timeout_s=WAIT_S)  # the signal may come a little later than the reply

    helper = threading.Thread(target=peer)
    helper.start()
    for number in range(1, rounds + 1):
        waiter = Waiter()
        with pytest.raises(KeyboardInterrupt):
            call(number, waiter)
        assert line.wait(waiter) == Reply(1, number)
    helper.join(WAIT_S)
    assert line.lost == []


def test_a_wait_takes_over_a_lead_that_an_interrupt_left_behind(line: Line):
    waiter = line.send(1)
    line.channel._leader = waiter  # as if the interrupt had hit between two instructions of `wait`
    line.reply(1)
    assert line.wait(waiter) == Reply(1, 1)
    second = line.send(2)
    line.reply(2)
    assert line.wait(second) == Reply(1, 2)


def test_an_interrupt_in_the_middle_of_a_read_ends_the_channel_loudly(line: Line):
    def interrupted(messages: list[Any]) -> None:
        raise KeyboardInterrupt

    waiter = line.send(1)
    line.channel._dispatch = interrupted
    reactor = line.reactor
    in_loop(reactor, lambda: reactor.pause(line.channel.read_fd))  # so that it is this thread that reads
    line.channel._paused = True
    line.reply(1)
    with pytest.raises(KeyboardInterrupt):
        line.wait(waiter)
    assert line.news.wait(WAIT_S)
    assert line.lost == ["interrupted in the middle of a read"]
    assert line.channel.closed


def test_a_callback_that_raises_is_an_event_and_the_others_still_run(line: Line):
    told: list[str] = []
    line.reactor.on_error = lambda problem, where: told.append(str(problem))

    def breaks(seq: int) -> None:
        if seq == 5:
            raise ValueError("boom")

    line.on_unasked = breaks
    line.reply(5, 6, 7)
    wait_until(lambda: len(line.unasked) == 3, "all are told")
    assert told == ["boom"]
    assert line.lost == []


def test_an_interrupt_in_a_callback_leaves_the_rest_to_the_reactor(line: Line):
    seen: list[tuple[int, bool]] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    def note(number: int) -> None:
        seen.append((number, line.reactor.in_loop()))

    with pytest.raises(KeyboardInterrupt):
        line.channel._run([lambda: note(1), interrupt, lambda: note(2), lambda: note(3)])
    in_loop(line.reactor, lambda: None)
    assert seen == [(1, False), (2, True), (3, True)]


# --- writing ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("over_socket", [False, True])
def test_what_a_full_pipe_refuses_is_sent_in_order_when_there_is_room(reactor: Reactor, over_socket: bool):
    line = Line(reactor, over_socket=over_socket)
    try:
        count = 60
        for number in range(count):
            line.send(number, size=50_000)
        assert line.channel.unsent_bytes > 1_000_000
        heard: list[int] = []
        while len(heard) < count:
            heard += line.hear()
        assert heard == list(range(count))
        wait_until(lambda: line.channel.unsent_bytes == 0, "nothing is queued")
        assert line.rooms > 0
    finally:
        line.close()


def test_calls_of_one_turn_leave_with_one_write(reactor: Reactor):
    line = Line(reactor)
    try:

        def turn() -> None:
            with line.channel.lock:
                for number in range(1, 6):
                    line.channel.connection.send(Call(1, number, "echo"))
                    line.channel.flush_soon()

        in_loop(reactor, turn)
        assert line.hear() == [1, 2, 3, 4, 5]
    finally:
        line.close()


def test_a_reader_that_is_gone_costs_no_exception(line: Line):
    os.close(line.their_reader)
    line.their_reader = -1
    for number in range(3):
        line.send(number, size=100_000)
    assert not line.channel.closed, "its end is told by what it says last, not by its pipe"


def test_held_reading_reads_nothing_until_let_go(line: Line):
    with line.channel.lock:
        line.channel.hold(True)
    line.reply(1)
    in_loop(line.reactor, lambda: None)
    turn = threading.Event()
    line.reactor.call_at(line.reactor.now() + 0.02, turn.set)
    assert turn.wait(WAIT_S)
    assert line.unasked == []
    with line.channel.lock:
        line.channel.hold(False)
    assert line.news.wait(WAIT_S)
    assert line.unasked == [(1, True)]


def test_a_broken_pipe_ends_no_program_that_wants_to_die_of_it():
    done = run_python(
        "import os, signal\n"
        "from procession.ipc.transport.pipe_write import writer\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "reader, write_fd = os.pipe()\n"
        "assert writer()(write_fd, b'abc') == 3\n"
        "os.close(reader)\n"
        "for _ in range(3):\n"
        "    try:\n"
        "        writer()(write_fd, b'x')\n"
        "    except BrokenPipeError:\n"
        "        print('told')\n"
        "assert signal.SIGPIPE not in signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
        "assert not signal.sigpending()\n"
        "print('alive', flush=True)\n"
    )
    assert done.stdout.split() == ["told", "told", "told", "alive"], done


# --- forks ------------------------------------------------------------------------------------------------------------
def test_a_forked_child_closes_its_copies_and_disturbs_nothing():
    done = run_python(
        "import os, sys\n"
        "from procession.ipc.core.connection import Connection\n"
        "from procession.ipc.transport.channel import Channel, Waiter\n"
        "from procession.ipc.transport.reactor import ThreadReactor\n"
        "import time, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "a, b = os.pipe(); c, d = os.pipe()\n"
        "reactor = ThreadReactor()\n"
        "heard = []\n"
        "channel = Channel(a, d, Connection('host', incarnation=1), reactor, lambda m: heard.extend(m), heard.append)\n"
        "channel.start()\n"
        "before = set(os.listdir('/proc/self/fd'))\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    channel.forget_after_fork(); reactor.forget_after_fork()\n"
        "    channel.wait(Waiter(), time.monotonic() + 5)\n"
        "    gone = len(before) - len(set(os.listdir('/proc/self/fd')))\n"
        "    os._exit(gone)\n"
        "gone = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "from procession.ipc.core import frames, messages\n"
        "os.write(b, frames.encode(messages.encode(messages.Ready(1, 1, 1))))\n"
        "until = time.monotonic() + 5\n"
        "while not heard and time.monotonic() < until: pass\n"
        "print(gone, len(heard))\n"
        "reactor.close()\n"
    )
    assert done.stdout.split() == ["5", "1"], (
        done
    )  # two pipes' ends, the channel's eventfd, the reactor's and its epoll


def test_repr_shows_who_reads(line: Line):
    assert repr(line.channel).startswith("<Channel lead=reactor followers=0 unsent=0 <Connection host")
    line.channel.stop_reading()
    assert "closed" in repr(line.channel)
