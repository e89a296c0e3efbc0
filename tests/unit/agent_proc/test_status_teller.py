"""How an agent is doing is told at once, then now and then, and last of all as it is; over the session's own loop."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from procession.agent_proc.loop import Loop, monotonic
from procession.agent_proc.status_teller import PAUSE_S, StatusTeller
from procession.ipc.core.agent_records import AgentStatus


class Telling:
    """An agent whose status is a count, and those who follow it."""

    def __init__(self, quiet_fd: int) -> None:
        self.loop = Loop()
        self.loop.watch(quiet_fd, lambda: None)  # a session has its mailbox there
        self.errors = 0
        self.told: list[int] = []
        self.teller = StatusTeller(self.loop, self._look, lambda status: self.told.append(status.errors))

    def _look(self) -> AgentStatus:
        return AgentStatus(agent="a", status="idle", errors=self.errors)

    def change(self, times: int = 1) -> None:
        for _ in range(times):
            self.errors += 1
            self.teller.changed()

    def rest(self) -> None:
        """Let the loop run until nothing is to come."""
        until = monotonic() + 10
        while self.loop.has_timers and monotonic() < until:
            self.loop.turn(PAUSE_S)


@pytest.fixture
def telling() -> Iterator[Telling]:
    quiet, silent = os.pipe()
    made = Telling(quiet)
    yield made
    if made.loop._epoll is not None:  # a session's is closed by its end
        made.loop._epoll.close()
    os.close(quiet)
    os.close(silent)


def test_the_first_change_is_told_at_once_and_many_more_as_one(telling: Telling) -> None:
    telling.change(1_000)
    assert telling.told == [1]
    telling.rest()
    assert telling.told == [1, 1_000]


def test_what_changed_back_or_not_at_all_is_not_told(telling: Telling) -> None:
    telling.teller.tell()
    telling.change()
    telling.errors = 0
    telling.rest()
    telling.teller.changed()
    telling.rest()
    assert telling.told == [0]


def test_who_asks_is_told_though_nothing_changed_and_nothing_is_told_twice(telling: Telling) -> None:
    telling.change(2)
    telling.teller.tell()
    assert telling.told == [1, 2]
    telling.rest()
    assert telling.told == [1, 2]


def test_nothing_comes_after_the_end(telling: Telling) -> None:
    telling.change(2)
    telling.teller.close()
    assert not telling.loop.has_timers
    assert telling.told == [1]
