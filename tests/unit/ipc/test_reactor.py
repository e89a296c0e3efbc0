"""The port of the host's loop, held by all of its adapters: order, time, descriptors, surprises, ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from helpers.reactors import WAIT_S, in_loop, running_reactor
from procession.ipc.transport.reactor import Reactor, ThreadReactor
from procession.ipc.transport.timers import SWEEP_ABOVE, Timer, TimerHeap

KINDS = ("thread", "asyncio", "uvloop")


@pytest.fixture(scope="module", autouse=True)
def _uvloop_has_its_signal_pipe() -> None:
    """Its first loop opens a pipe for the whole process and keeps it."""
    with running_reactor("uvloop"):
        pass


@pytest.fixture(params=KINDS)
def reactor(request: pytest.FixtureRequest) -> Iterator[Reactor]:
    with running_reactor(request.param) as running:
        yield running


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield ends
    for fd in ends:
        os.close(fd)


# --- callbacks and timers ---------------------------------------------------------------------------------------------
def test_callbacks_run_in_order_in_the_loops_thread(reactor: Reactor):
    seen: list[tuple[int, bool]] = []

    def note(number: int) -> None:
        seen.append((number, reactor.in_loop()))

    for number in range(200):
        reactor.call_soon(partial(note, number))
    in_loop(reactor, lambda: None)
    assert seen == [(number, True) for number in range(200)]
    assert not reactor.in_loop()


def test_no_hand_over_of_many_threads_is_lost(reactor: Reactor):
    total, threads = 2000, 4
    seen: list[int] = []
    over = threading.Event()

    def count(number: int) -> None:
        seen.append(number)
        if len(seen) == total * threads:
            over.set()

    def hand_over(start: int) -> None:
        for number in range(total):
            reactor.call_soon(partial(count, start + number))

    senders = [threading.Thread(target=hand_over, args=(k * total,)) for k in range(threads)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert over.wait(WAIT_S)
    assert len(seen) == total * threads


@pytest.mark.parametrize("from_loop", [True, False])
def test_timers_fire_in_time_order_and_not_early(reactor: Reactor, from_loop: bool):
    fired: list[tuple[float, float]] = []
    over = threading.Event()
    delays = [0.05, 0.01, 0.03, 0.0, 0.02]

    def fire(when: float) -> None:
        fired.append((when, reactor.now()))

    def arm() -> None:
        base = reactor.now()
        for delay in delays:
            reactor.call_at(base + delay, partial(fire, base + delay))
        reactor.call_at(base + 0.06, over.set)

    if from_loop:
        in_loop(reactor, arm)
    else:
        arm()
    assert over.wait(WAIT_S)
    assert [when for when, _ in fired] == sorted(when for when, _ in fired)
    assert len(fired) == len(delays)
    assert all(now >= when for when, now in fired)


def test_an_earlier_timer_of_another_thread_wakes_a_sleeping_loop(reactor: Reactor):
    reactor.call_at(reactor.now() + 3600, lambda: None)
    in_loop(reactor, lambda: None)
    over = threading.Event()
    reactor.call_at(reactor.now() + 0.01, over.set)
    assert over.wait(WAIT_S)


def test_a_cancelled_timer_does_not_fire(reactor: Reactor):
    fired: list[str] = []
    over = threading.Event()
    now = reactor.now()
    timer = reactor.call_at(now + 0.01, lambda: fired.append("cancelled"))
    reactor.call_at(now + 0.02, over.set)
    timer.cancel()
    timer.cancel()
    assert over.wait(WAIT_S)
    assert fired == []


def test_a_timer_may_cancel_another_that_is_due_at_the_same_moment(reactor: Reactor):
    fired: list[str] = []
    over = threading.Event()

    def arm() -> None:
        now = reactor.now() - 1.0
        timers: list[Timer] = []
        reactor.call_at(now, lambda: timers[0].cancel())
        timers.append(reactor.call_at(now, lambda: fired.append("second")))
        reactor.call_at(now, over.set)

    in_loop(reactor, arm)
    assert over.wait(WAIT_S)
    assert fired == []


def test_cancelled_timers_give_their_places_back():
    heap = TimerHeap()
    for number in range(100_000):
        heap.add(1000.0 + number, lambda: None).cancel()
        assert len(heap) <= SWEEP_ABOVE + 1
    living = [heap.add(float(n), lambda: None) for n in range(10 * SWEEP_ABOVE)]
    assert heap.nearest() == 0.0
    assert heap.take_due(float(len(living))) == living
    assert heap.nearest() is None or heap.nearest() >= 1000.0  # type: ignore[operator]


def test_timers_of_one_moment_keep_their_age():
    heap = TimerHeap()
    timers = [heap.add(1.0, lambda: None) for _ in range(50)]
    assert heap.take_due(1.0) == timers


# --- descriptors ------------------------------------------------------------------------------------------------------
def test_a_reader_is_called_while_there_is_something_to_read(reactor: Reactor, pipe: tuple[int, int]):
    reader, writer = pipe
    got: list[bytes] = []
    over = threading.Event()

    def read() -> None:
        got.append(os.read(reader, 2))
        if sum(map(len, got)) == 6:
            over.set()

    in_loop(reactor, lambda: reactor.add_reader(reader, read))
    os.write(writer, b"abcdef")
    assert over.wait(WAIT_S)
    in_loop(reactor, lambda: reactor.remove(reader))
    assert b"".join(got) == b"abcdef"


def test_a_paused_reader_is_left_alone_and_misses_nothing(reactor: Reactor, pipe: tuple[int, int]):
    reader, writer = pipe
    got: list[bytes] = []
    over = threading.Event()

    def read() -> None:
        got.append(os.read(reader, 100))
        over.set()

    in_loop(reactor, lambda: reactor.add_reader(reader, read))
    reactor.pause(reader)
    in_loop(reactor, lambda: None)
    os.write(writer, b"x")
    turn = threading.Event()
    reactor.call_at(reactor.now() + 0.02, turn.set)
    assert turn.wait(WAIT_S)
    assert got == []
    reactor.resume(reader)
    assert over.wait(WAIT_S)
    assert got == [b"x"]
    in_loop(reactor, lambda: reactor.remove(reader))


def test_a_hang_up_while_paused_costs_no_spinning_and_is_seen_after(pipe: tuple[int, int]):
    with running_reactor("thread") as reactor:
        reader, other = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        over = threading.Event()
        in_loop(reactor, lambda: reactor.add_reader(reader, lambda: over.set() if os.read(reader, 1) == b"" else None))
        reactor.pause(reader)
        os.close(other)
        in_loop(reactor, lambda: None)
        before = _thread_cpu_s(reactor)
        turn = threading.Event()
        reactor.call_at(reactor.now() + 0.1, turn.set)
        assert turn.wait(WAIT_S)
        assert _thread_cpu_s(reactor) - before < 0.05
        assert not over.is_set()
        reactor.resume(reader)
        assert over.wait(WAIT_S)
        in_loop(reactor, lambda: reactor.remove(reader))
        os.close(reader)


def _thread_cpu_s(reactor: Reactor) -> float:
    return in_loop(reactor, time.thread_time)


def test_room_to_write_is_told_until_nobody_asks(reactor: Reactor, pipe: tuple[int, int]):
    reader, writer = pipe
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        pass
    room = threading.Event()

    def writable() -> None:
        reactor.want_write(writer, None)
        room.set()

    reactor.want_write(writer, writable)
    in_loop(reactor, lambda: None)
    assert not room.is_set()
    while True:
        try:
            os.read(reader, 65536)
        except BlockingIOError:
            break
    assert room.wait(WAIT_S)


def test_one_descriptor_may_be_read_and_written(reactor: Reactor):
    import socket

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    read, room = threading.Event(), threading.Event()

    def readable() -> None:
        ours.recv(100)
        read.set()

    def writable() -> None:
        reactor.want_write(ours.fileno(), None)
        room.set()

    in_loop(reactor, lambda: reactor.add_reader(ours.fileno(), readable))
    reactor.want_write(ours.fileno(), writable)
    assert room.wait(WAIT_S)
    theirs.send(b"x")
    assert read.wait(WAIT_S)
    reactor.want_write(ours.fileno(), writable)
    in_loop(reactor, lambda: reactor.remove(ours.fileno()))
    in_loop(reactor, lambda: reactor.remove(ours.fileno()))
    ours.close()
    theirs.close()


def test_a_number_given_out_again_gets_no_event_of_its_predecessor():
    """Two descriptors are readable in one turn; the first callback replaces the second by a silent one of its number."""
    with running_reactor("thread") as reactor:
        called: list[str] = []
        ends = [os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) for _ in range(2)]
        fresh = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

        def replace(own: int, other: int) -> None:
            if called:
                called.append("the successor was called for what its predecessor had")
                return
            called.append("first")
            reactor.remove(own)
            reactor.remove(other)
            os.dup2(fresh[0], other, inheritable=False)  # closes it and gives its number to the silent one
            reactor.add_reader(other, lambda: called.append("the successor was called for what its predecessor had"))

        def arrange() -> None:
            for (own, _), (other, _) in ((ends[0], ends[1]), (ends[1], ends[0])):
                reactor.add_reader(own, partial(replace, own, other))
            for _, writer in ends:
                os.write(writer, b"x")

        in_loop(reactor, arrange)
        for _ in range(3):
            in_loop(reactor, lambda: None)
        assert called == ["first"]
        for reader, _ in ends:
            in_loop(reactor, partial(reactor.remove, reader))
        for pair in (*ends, fresh):
            for fd in pair:
                os.close(fd)


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_another_threads_removal_meets_a_number_given_out_again(kind: str, pipe: tuple[int, int]):
    """A loop learns of another thread's removal late; by then the number may be somebody else's, who must be heard."""
    with running_reactor(kind) as reactor:
        old_reader, old_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        heard = threading.Event()
        in_loop(reactor, lambda: reactor.add_reader(old_reader, lambda: None))

        def swap() -> None:
            remover = threading.Thread(target=reactor.remove, args=(old_reader,))
            remover.start()
            remover.join()  # in the loop: what it asked for can only be done after this callback
            os.dup2(pipe[0], old_reader, inheritable=False)
            reactor.add_reader(old_reader, lambda: heard.set() if os.read(old_reader, 1) else None)

        in_loop(reactor, swap)
        in_loop(reactor, lambda: None)
        os.write(pipe[1], b"x")
        assert heard.wait(WAIT_S)
        in_loop(reactor, lambda: reactor.remove(old_reader))
        os.close(old_reader)
        os.close(old_writer)


# --- surprises --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_a_raising_callback_is_told_and_the_loop_goes_on(kind: str):
    told: list[tuple[str, str]] = []
    with running_reactor(kind) as reactor:
        reactor.on_error = lambda problem, where: told.append((str(problem), where))

        def breaks() -> None:
            raise ValueError("boom")

        reactor.call_soon(breaks)
        reactor.call_at(reactor.now(), breaks)
        over = threading.Event()
        reactor.call_at(reactor.now() + 0.01, over.set)
        assert over.wait(WAIT_S)
        in_loop(reactor, lambda: None)
    assert [text for text, _ in told] == ["boom", "boom"]
    assert all("breaks" in where for _, where in told)


def test_not_even_an_exit_or_a_broken_reporter_ends_the_thread(capsys: pytest.CaptureFixture[str]):
    with running_reactor("thread") as reactor:

        def report(problem: BaseException, where: str) -> None:
            raise RuntimeError("the reporter is broken too")

        def leave() -> None:
            raise SystemExit(3)

        reactor.on_error = report
        reactor.call_soon(leave)
        assert in_loop(reactor, lambda: 7) == 7
    assert "the reporter is broken too" in capsys.readouterr().err


def test_busy_since_tells_a_callback_that_holds_the_loop(reactor: Reactor):
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        leave.wait(WAIT_S)

    before = time.monotonic()
    reactor.call_soon(hold)
    assert entered.wait(WAIT_S)
    assert not threading.Event().wait(0.15)  # the time that the callback takes is what is measured
    since = reactor.busy_since()
    leave.set()
    assert since is not None
    assert before - 0.1 <= since <= time.monotonic()


# --- ends -------------------------------------------------------------------------------------------------------------
def test_a_closed_reactor_takes_calls_without_touching_descriptors_of_others():
    reactor = ThreadReactor()
    reactor.close()
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  # very likely the numbers it had
    try:
        for _ in range(10):
            reactor.call_soon(lambda: None)
            reactor.call_at(0.0, lambda: None)
        reactor.remove(reader)
        reactor.want_write(writer, None)
        reactor.close()
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)


def test_a_reactor_may_be_closed_by_its_own_callback():
    reactor = ThreadReactor()
    thread = next(t for t in threading.enumerate() if t.ident == reactor.thread_id())
    reactor.call_soon(reactor.close)
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_a_hand_over_to_a_closed_loop_is_dropped():
    with running_reactor("asyncio") as reactor:
        pass
    reactor.call_soon(lambda: pytest.fail("called"))
    reactor.call_at(0.0, lambda: pytest.fail("called"))


def test_repr_shows_state():
    reactor = ThreadReactor()
    assert repr(reactor) == "<ThreadReactor procession-host readers=0 timers=0>"
    reactor.close()
    assert "closed" in repr(reactor)
