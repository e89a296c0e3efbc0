"""The book of a pool: who is free, who is lent, and when one more may be started."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from helpers.counts import examples
from procession.api.core.pool_book import STRATEGIES, PoolBook, Room, Strategy


def full_book(size: int = 3, overflow: int = 0, strategy: Strategy = "lifo") -> PoolBook:
    book = PoolBook(size, overflow, strategy)
    for number in range(size):
        book.add(f"w{number}")
    return book


@pytest.mark.parametrize(("strategy", "next_one"), [("lifo", "w0"), ("fifo", "w1")])
def test_the_strategy_says_who_is_lent_next(strategy: Strategy, next_one: str) -> None:
    book = full_book(2, strategy=strategy)
    taken = {book.take(), book.take()}
    assert taken == {"w0", "w1"}
    assert book.give_back("w1", good=True)
    assert book.give_back("w0", good=True)
    assert book.take() == next_one


def test_nobody_is_lent_twice_and_a_full_pool_says_so() -> None:
    book = full_book(2)
    assert {book.take(), book.take()} == {"w0", "w1"}
    assert book.take() is Room.FULL
    assert (book.free, book.lent) == (0, 2)


def test_the_overflow_is_started_when_needed_and_ended_when_it_is_not() -> None:
    book = full_book(1, overflow=1)
    book.take()
    assert book.take() is Room.START
    assert book.take() is Room.FULL  # the place is held
    book.started("more")
    assert book.take() is Room.FULL
    assert not book.give_back("more", good=True)
    assert (book.free, book.lent) == (0, 1)
    assert book.take() is Room.START
    book.started("again")
    book.waiting = 1
    assert book.give_back("again", good=True)
    assert book.take() == "again"


def test_a_start_that_fails_gives_its_place_back() -> None:
    book = full_book(1, overflow=1)
    book.take()
    assert book.take() is Room.START
    book.not_started()
    assert book.take() is Room.START


def test_a_worker_that_is_no_good_is_replaced_when_one_is_needed() -> None:
    book = full_book(1)
    assert book.take() == "w0"
    assert not book.give_back("w0", good=False)
    assert (book.all, book.take()) == ([], Room.START)


class AnyUse(RuleBasedStateMachine):
    """Any use of a pool: never too many, nobody twice, and nothing is forgotten."""

    @initialize(size=st.integers(1, 4), overflow=st.integers(0, 3), strategy=st.sampled_from(STRATEGIES))
    def begin(self, size: int, overflow: int, strategy: Strategy) -> None:
        self.book = full_book(size, overflow, strategy)
        self.lent: list[str] = []
        self.starting = self.made = 0

    @rule()
    def take(self) -> None:
        there = set(self.book.all) - set(self.lent)
        found = self.book.take()
        if isinstance(found, str):
            assert found in there
            self.lent.append(found)
        else:
            assert not there
            self.starting += found is Room.START

    @rule(works=st.booleans())
    def end_a_start(self, works: bool) -> None:
        if self.starting:
            self.starting -= 1
            self.made += 1
            if works:
                self.book.started(f"new{self.made}")
                self.lent.append(f"new{self.made}")
            else:
                self.book.not_started()

    @rule(at=st.integers(0, 10), good=st.booleans(), waiting=st.integers(0, 1))
    def give_back(self, at: int, good: bool, waiting: int) -> None:
        if self.lent:
            worker = self.lent.pop(at % len(self.lent))
            self.book.waiting = waiting
            kept = self.book.give_back(worker, good=good)
            assert kept == (worker in self.book.all)
            assert good or not kept

    @invariant()
    def it_adds_up(self) -> None:
        if hasattr(self, "book"):
            assert self.book.lent == len(self.lent)
            assert self.book.free + self.book.lent + self.starting <= self.book.size + self.book.overflow


TestAnyUse = AnyUse.TestCase
TestAnyUse.settings = settings(max_examples=examples(60), stateful_step_count=30)
