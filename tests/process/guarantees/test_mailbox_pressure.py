"""R-40, R-41, R-48: a session that does not read, both directions full at once, control traffic beside large messages."""

import random
import statistics
import time

import pytest

from helpers.hosts import SLACK, StartSession, count_of, pid_of
from helpers.stopping import continue_process, stop_process
from helpers.waiting import wait_until
from procession import Host, MailboxFull, ProcessionError, Session
from procession.ipc.core.bounds import MAILBOX_BYTES_MAX, MAILBOX_COMMANDS_MAX

pytestmark = pytest.mark.process

MiB = 1024 * 1024


def echo_median_s(session: Session, count: int = 60) -> float:
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        session.echo()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


@pytest.mark.guarantee("R-40")
def test_a_session_that_does_not_read_fills_its_own_mailbox_only(start: StartSession) -> None:
    deaf, sibling = start(), start()
    quiet = echo_median_s(sibling)
    pid = pid_of(deaf)
    stop_process(pid)
    try:
        futures = [deaf.submit(len, b"x" * 30_000, timeout=30) for _ in range(MAILBOX_COMMANDS_MAX)]
        for _ in range(200):
            with pytest.raises(MailboxFull) as full:
                deaf.run(len, b"x" * 30_000, timeout=1)
            assert full.value.ran == "no"
        status = deaf.status()
        assert status.calls + status.queued <= MAILBOX_COMMANDS_MAX
        loud = echo_median_s(sibling)
        assert loud <= quiet * 1.2 * 3
    finally:
        continue_process(pid)
    assert [future.result(30) for future in futures] == [30_000] * len(futures)


@pytest.mark.guarantee("R-40")
def test_the_mailbox_is_bounded_in_bytes_too(start: StartSession) -> None:
    deaf = start()
    pid = pid_of(deaf)
    stop_process(pid)
    taken = 0
    try:
        futures = []
        while taken <= 4 * MAILBOX_BYTES_MAX:
            future = deaf.submit(len, b"x" * 32_000, timeout=30)
            if future.done() and isinstance(future.exception(), MailboxFull):
                break
            futures.append(future)
            taken += 32_000
        assert taken <= MAILBOX_BYTES_MAX
    finally:
        continue_process(pid)
    assert all(future.result(30) == 32_000 for future in futures)


@pytest.mark.guarantee("R-40")
def test_waiting_for_room_instead_of_an_error(start: StartSession) -> None:
    deaf = start()
    pid = pid_of(deaf)
    stop_process(pid)
    futures = [deaf.submit(len, (), timeout=30) for _ in range(MAILBOX_COMMANDS_MAX)]
    late = deaf.submit(len, (1,), timeout=30, wait=True)
    assert not late.done()
    continue_process(pid)
    assert late.result(30) == 1
    assert all(future.result(30) == 0 for future in futures)


@pytest.mark.guarantee("R-41")
def test_both_directions_full_at_once_make_progress(start: StartSession, soak_factor: int) -> None:
    session = start()
    rng = random.Random(41)
    pairs = count_of(10_000, soak_factor) // 2
    for _ in range(max(pairs // 8, 10)):
        sizes = [
            (rng.choice([10, 20_000, 70_000, MiB, 4 * MiB]), rng.choice([10, 40_000, MiB, 3 * MiB])) for _ in range(8)
        ]
        futures = [
            session.submit(lambda data, size: (len(data), b"r" * size), b"a" * given, back, timeout=60)
            for given, back in sizes
        ]
        for future, (given, back) in zip(futures, sizes, strict=True):
            length, result = future.result(60)
            assert (length, len(result)) == (given, back)


@pytest.mark.guarantee("R-41")
def test_a_16_mib_argument_and_result(session: Session) -> None:
    data = bytes(range(256)) * (64 * 1024)
    assert session.run(lambda given: given[::-1], data, timeout=60) == data[::-1]


@pytest.mark.guarantee("R-48")
def test_control_overtakes_large_messages(session: Session) -> None:
    quiet = statistics.median(session.ping() for _ in range(50))
    pings: list[float] = []
    for _ in range(20):
        streams = [session.submit(lambda data: data, b"z" * (8 * MiB), timeout=60) for _ in range(4)]
        while not all(future.done() for future in streams):
            pings.append(session.ping())
        for future in streams:
            assert len(future.result(60)) == 8 * MiB
        if len(pings) >= 5:  # one alone might be the one that a busy machine holds up
            break
    assert len(pings) >= 5, "the streams were over before they were pinged"
    assert min(pings) <= max(
        0.010 * SLACK, quiet * 20
    )  # the least: a busy machine may hold one up, a queue holds up all


def test_an_error_of_one_call_leaves_the_others_alone(host: Host, session: Session) -> None:
    good = session.submit(len, (1, 2), timeout=20)
    with pytest.raises(ProcessionError):
        session.run(lambda: 1 / 0, timeout=20)
    assert good.result(20) == 2
    wait_until(lambda: session.status().calls == 0, "every call is over")
    assert host.statistics().failed >= 1
