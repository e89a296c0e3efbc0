"""The prompt history: newest first, untrimmed, no blanks, the last hundred."""

from __future__ import annotations

import pytest

from helpers.code_session import Played


@pytest.fixture
def session() -> Played:
    return Played()


def test_the_newest_prompt_is_first(session: Played):
    session.do("add_to_prompt_history", prompt="one")
    assert session.do("add_to_prompt_history", prompt="two") == ["two", "one"]
    assert session.ask("get_prompt_history") == ["two", "one"]


def test_a_prompt_is_kept_as_it_was_typed_as_often_as_it_was(session: Played):
    session.do("add_to_prompt_history", prompt="  x ")
    assert session.do("add_to_prompt_history", prompt="  x ") == ["  x ", "  x "]


@pytest.mark.parametrize("blank", ["", " ", "\n\t"])
def test_a_blank_prompt_is_ignored(session: Played, blank: str):
    session.do("add_to_prompt_history", prompt="one")
    assert session.change("add_to_prompt_history", prompt=blank).ops == ()
    assert session.do("add_to_prompt_history", prompt=blank) == ["one"]
    assert session.do("set_prompt_history", prompts=["a", blank, "b"]) == ["a", "b"]


def test_the_newest_hundred_are_kept(session: Played):
    session.fill("add_to_prompt_history", ({"prompt": str(count)} for count in range(102)))
    assert session.ask("get_prompt_history") == [str(count) for count in reversed(range(2, 102))]


def test_setting_keeps_the_first_hundred(session: Played):
    session.do("add_to_prompt_history", prompt="old")
    prompts = [str(count) for count in range(120)]
    assert session.do("set_prompt_history", prompts=prompts) == prompts[:100]
    assert session.ask("get_prompt_history") == prompts[:100]
    assert session.do("set_prompt_history", prompts=[]) == []


def test_what_is_no_text_is_refused_by_name(session: Played):
    session.refusal("invalid_prompt", "add_to_prompt_history", prompt=None)
    session.refusal("invalid_prompt", "set_prompt_history", prompts="ab")
    assert "prompts[1]" in str(session.refusal("invalid_prompt", "set_prompt_history", prompts=["a", 7]))
