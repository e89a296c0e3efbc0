"""Reasoning steps: a text each, oldest first, the last hundred."""

from __future__ import annotations

import pytest

from helpers.code_session import START, Played


@pytest.fixture
def session() -> Played:
    return Played()


def test_a_step_is_kept_with_id_time_and_what_else_it_has(session: Played):
    step = session.do("add_reasoning_step", step={"content": "look", "type": "plan"})
    assert step == {"id": "new-1", "content": "look", "timestamp": START, "metadata": {"type": "plan"}}
    assert session.ask("get_reasoning_steps") == [step]


def test_the_newest_hundred_are_kept_oldest_first(session: Played):
    session.fill("add_reasoning_step", ({"step": {"content": str(count)}} for count in range(102)))
    assert [step["content"] for step in session.ask("get_reasoning_steps")] == [str(count) for count in range(2, 102)]


def test_clearing_leaves_none(session: Played):
    session.do("add_reasoning_step", step={"content": "look"})
    assert session.do("clear_reasoning_steps") == []
    assert session.ask("get_reasoning_steps") == []


@pytest.mark.parametrize(
    "step", [None, "look", {}, {"content": None}, {"content": ["look"]}, {"content": "x", "id": 1}]
)
def test_what_is_no_step_is_refused(session: Played, step: object):
    session.refusal("invalid_reasoning_step", "add_reasoning_step", step=step)
