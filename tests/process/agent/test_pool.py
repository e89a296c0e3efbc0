"""Pools of sessions that are ready before anybody asks: lending, overflow, waiting, and workers that die."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from helpers.agents import Counter, send, state_of
from helpers.hosts import pid_of
from helpers.waiting import wait_until
from procession import (
    AsyncHost,
    ExpiredInQueue,
    Host,
    InvalidRequest,
    PoolStatus,
    Sandbox,
    Session,
    SessionLimitReached,
    SessionNotRunning,
    StartFailed,
    WorkerPool,
)

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off(), preload=["pydantic"], max_sessions=20) as opened:
        opened.remove_session(
            opened.start_session(agent=Counter).id
        )  # its zygote is the fixture's, not the first test's
        yield opened


@pytest.fixture
def pool(host: Host) -> Iterator[WorkerPool]:
    with host.pool(agent=Counter, size=2) as made:
        yield made
    assert host.list_sessions(all=True) == []


@pytest.mark.contract("3 WorkerPool")
def test_its_workers_are_there_before_anybody_asks_and_gone_with_it(host: Host) -> None:
    with host.pool(agent=Counter, size=3, state={"count": 5}) as pool:
        assert [one.phase for one in host.list_sessions()] == ["ready"] * 3
        assert pool.status() == PoolStatus(size=3, overflow=0, free=3, lent=0, waiting=0)
        assert repr(pool) == "<WorkerPool size=3 free=3 lent=0>"
        assert pool.call("counter.increment") == 6
    assert host.list_sessions(all=True) == []
    for _ in range(2):
        with pytest.raises(SessionNotRunning):
            pool.call("counter.increment")
    pool.close()


@pytest.mark.contract("3 WorkerPool")
def test_state_stays_from_one_borrower_to_the_next(pool: WorkerPool) -> None:
    with pool.session() as first:
        assert send(first, "counter.increment") == 1
    with pool.session() as again:  # the last that was given back
        assert (again, send(again, "counter.increment")) == (first, 2)


@pytest.mark.contract("3 WorkerPool")
def test_fifo_uses_them_all_alike(host: Host) -> None:
    with host.pool(agent=Counter, size=3, strategy="fifo") as pool:
        assert [pool.call("counter.increment") for _ in range(6)] == [1, 1, 1, 2, 2, 2]


def test_a_cast_is_taken_at_once(pool: WorkerPool) -> None:
    sent = pool.cast("counter.increment", {"by": 3})
    with pool.session() as session:
        wait_until(lambda: state_of(session)["count"] == 3, "it was handled")
    assert len(sent) == 36


@pytest.mark.contract("3 WorkerPool")
def test_who_waits_gets_the_first_that_is_given_back_or_is_told_in_time(pool: WorkerPool) -> None:
    got: list[Session] = []

    def wait() -> None:
        with pool.session(timeout=10) as session:
            got.append(session)

    waiting = threading.Thread(target=wait)
    with pool.session() as first, pool.session():
        with pytest.raises(ExpiredInQueue) as refused:
            pool.call("counter.increment", timeout=0.05)
        assert (refused.value.code, refused.value.ran) == ("pool_timeout", "no")
        waiting.start()
        wait_until(lambda: pool.status().waiting == 1, "it waits")
        assert got == []
    waiting.join(10)
    assert len(got) == 1
    assert pool.status() == PoolStatus(size=2, overflow=0, free=2, lent=0, waiting=0)
    assert first.status().phase == "ready"


@pytest.mark.contract("3 WorkerPool")
def test_an_overflow_is_started_while_all_are_busy_and_ended_when_it_is_not_needed(host: Host) -> None:
    with host.pool(agent=Counter, size=1, overflow=1) as pool:
        with pool.session() as first, pool.session() as second:
            assert first != second
            assert pool.status().lent == 2
            with pytest.raises(ExpiredInQueue):
                pool.call("counter.increment", timeout=0.05)
        assert len(host.list_sessions(all=True)) == 1
        assert pool.status().free == 1


@pytest.mark.parametrize("verb", ["stop", "remove"])
def test_a_worker_that_was_ended_is_replaced(host: Host, pool: WorkerPool, verb: str) -> None:
    with pool.session() as lent:
        pass
    lent.stop() if verb == "stop" else host.remove_session(lent.id)
    with pool.session() as one, pool.session() as two:
        assert lent not in (one, two)
        assert send(one, "counter.increment") + send(two, "counter.increment") == 2
    assert {session.id for session in (one, two)} == {status.id for status in host.list_sessions(all=True)}


@pytest.mark.contract("3 WorkerPool")
def test_a_worker_that_crashes_is_restarted_and_lent_again(pool: WorkerPool) -> None:
    with pool.session() as lent:
        assert send(lent, "counter.increment") == 1
        os.kill(pid_of(lent), signal.SIGKILL)
    with pool.session() as again:
        assert (again, send(again, "counter.increment")) == (lent, 2)


def test_many_threads_share_a_few_workers(host: Host) -> None:
    with host.pool(agent=Counter, size=3) as pool:
        threads = [
            threading.Thread(target=lambda: [pool.call("counter.increment", timeout=30) for _ in range(10)])
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        with pool.session() as a, pool.session() as b, pool.session() as c:
            assert sum(state_of(one)["count"] for one in (a, b, c)) == 120


def test_a_pool_that_cannot_be_filled_leaves_nothing(host: Host) -> None:
    before = host.list_sessions(all=True)
    with pytest.raises(StartFailed):
        host.pool(agent="no_such_module_anywhere:Thing", size=2)
    with pytest.raises(SessionLimitReached):
        host.pool(agent=Counter, size=21)
    wait_until(lambda: host.list_sessions(all=True) == before, "nothing is left")


@pytest.mark.parametrize(
    "settings", [{"size": 0}, {"size": True}, {"overflow": -1}, {"strategy": "random"}, {"agent": int}]
)
def test_what_is_no_pool_is_refused(host: Host, settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        host.pool(**{"agent": Counter, "size": 1, **settings})


@pytest.mark.contract("3 WorkerPool")
def test_a_worker_is_lent_and_waited_for_in_a_loop_too() -> None:
    async def use() -> None:
        async with (
            AsyncHost(sandbox=Sandbox.off(), preload=["pydantic"]) as host,
            await host.pool(agent=Counter, size=2, overflow=1) as pool,
        ):
            assert max(await asyncio.gather(*(pool.call("counter.increment", timeout=20) for _ in range(9)))) >= 3
            assert len(await pool.cast("counter.increment")) == 36
            async with pool.session(), pool.session(), pool.session():
                assert (await pool.status()).lent == 3
                with pytest.raises(ExpiredInQueue):
                    await pool.call("counter.increment", timeout=0.05)
                waiting = asyncio.create_task(pool.call("counter.increment", timeout=20))
                await asyncio.sleep(0)  # it begins to wait
                assert (await pool.status()).waiting == 1
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert (await pool.status()).waiting == 0
            assert (await pool.status()) == PoolStatus(size=2, overflow=1, free=2, lent=0, waiting=0)
            async with pool.session() as lent:
                await lent.stop()
            async with pool.session() as one, pool.session() as two:
                assert lent not in (one, two)
            assert len(await host.list_sessions(all=True)) == 2
        with pytest.raises(SessionNotRunning):
            await pool.call("counter.increment")

    asyncio.run(use())
