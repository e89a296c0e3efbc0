"""What waits for the journal leaves in the order in which it came, and nothing leaves before a change that stands before it."""

import random
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from procession.host.core.commit_queue import CommitQueue, Held

T = TypeVar("T")


def whats(leaves: list[Held[T]]) -> list[T]:
    return [held.what for held in leaves]


def test_a_change_takes_what_stands_behind_it_along() -> None:
    queue: CommitQueue[str] = CommitQueue()
    first = queue.change(b"ops", "first")
    queue.behind("read 1")
    queue.behind("read 2")
    second = queue.change(b"more", "second")
    queue.behind("read 3")
    assert (len(queue), queue.bytes) == (5, 7)
    assert whats(queue.kept(first)) == ["first", "read 1", "read 2"]
    assert whats(queue.kept(second)) == ["second", "read 3"]
    assert (len(queue), queue.bytes) == (0, 0)


def test_a_refusal_takes_all_that_came_after() -> None:
    queue: CommitQueue[str] = CommitQueue()
    first, second, third = (queue.change(b"x", name) for name in ("first", "second", "third"))
    queue.behind("read")
    assert whats(queue.kept(first)) == ["first"]
    assert whats(queue.refused(second)) == ["second", "third", "read"]
    assert queue.refused(third) == []
    assert queue.kept(third) == []
    assert (len(queue), queue.bytes) == (0, 0)
    again = queue.change(b"x", "again")
    assert again not in (first, second, third)
    assert whats(queue.kept(again)) == ["again"]


def test_what_waits_can_be_replaced_in_its_place() -> None:
    queue: CommitQueue[str] = CommitQueue()
    first = queue.change(b"x", "a")
    queue.behind("b")
    queue.map(str.upper)
    assert whats(queue.kept(first)) == ["A", "B"]


@given(st.lists(st.sampled_from(["change", "behind", "settle"]), max_size=60), st.integers())
def test_whatever_comes_leaves_once_and_in_order(steps: list[str], seed: int) -> None:
    queue: CommitQueue[int] = CommitQueue()
    rng = random.Random(seed)
    came = 0
    left: list[int] = []
    lost: list[int] = []
    open_tickets: list[int] = []
    for step in steps:
        if step == "change":
            open_tickets.append(queue.change(b"ops", came))
            came += 1
        elif step == "behind" and len(queue):
            queue.behind(came)
            came += 1
        elif step == "settle" and open_tickets:
            ticket = open_tickets.pop(0)
            if rng.random() < 0.8:
                left += whats(queue.kept(ticket))
            else:
                lost += whats(queue.refused(ticket))
                open_tickets.clear()
    for ticket in open_tickets:
        left += whats(queue.kept(ticket))
    assert left == sorted(left)
    assert sorted([*left, *lost]) == list(range(came))
