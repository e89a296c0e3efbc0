"""A code session to play with: it folds what actions return, and checks after each that they kept the rules.

The rules are those of every action: nothing it was given is changed, its ops survive the journal, collections stay within
their bounds, and `sizes` is what a count from nothing gives.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Iterable
from typing import Any, Final

import pytest

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.code_session import bounds
from procession.agent_proc.agent.code_session.functions import ACTIONS, QUERIES
from procession.agent_proc.agent.code_session.messages import new_message
from procession.agent_proc.agent.code_session.news import News, news
from procession.agent_proc.agent.code_session.sizes import held_bytes
from procession.agent_proc.agent.code_session.state import Budgets, empty_state
from procession.agent_proc.agent.directives import Directive
from procession.ipc.core.errors import InvalidRequest, MessageTooLarge
from procession.ipc.core.state_ops import State, apply, decode_ops, encode_ops, state_bytes

START: Final = dt.datetime(2025, 1, 31, 12, tzinfo=dt.UTC)
RECORD: Final = {"id": "1c0a4b1e-6a1d-4a58-9a0f-0d3a3f1f7a11", "name": "plain", "config": {}}


class Played:
    """A session whose clock goes on by a second with every action, unless it is set."""

    def __init__(self, budgets: Budgets | None = None) -> None:
        self.state: State = {"session": RECORD, "session_id": RECORD["id"], **empty_state(budgets)}
        self.at = START
        self.directives: tuple[Directive, ...] = ()
        self._ids = 0

    @property
    def moment(self) -> Moment:
        return Moment(self.at, self._new_id)

    def _new_id(self) -> str:
        self._ids += 1
        return f"new-{self._ids}"

    def wait(self, **duration: float) -> None:
        self.at += dt.timedelta(**duration)

    def change(self, name: str, **params: Any) -> Change:
        """Return what an action would do now; only its check of what it was given is made."""
        before = copy.deepcopy((self.state, params))
        change = ACTIONS[name](self.state, self.moment, **params)
        assert (self.state, params) == before, f"{name} changed what it was given"
        return change

    def do(self, name: str, **params: Any) -> Any:
        """Run an action, check the rules, and return its reply."""
        change = self.change(name, **params)
        ops = decode_ops(encode_ops(change.ops))
        assert tuple(ops) == change.ops, f"the ops of {name} do not survive the journal"
        before = copy.deepcopy(self.state)
        after = apply(self.state, ops, checked=True)
        assert self.state == before
        check_told(before, after, news(self.state, after, ops, str(RECORD["id"])))
        self.state = after
        self.directives = change.directives
        self.wait(seconds=1)
        check_bounds(after)
        return change.reply

    def fill(self, name: str, params: Iterable[dict[str, Any]]) -> None:
        """Run an action many times, without the checks that look at the whole state."""
        for one in params:
            self.state = apply(self.state, ACTIONS[name](self.state, self.moment, **one).ops, checked=True)
            self.wait(seconds=1)
        check_bounds(self.state)

    def ask(self, name: str, **params: Any) -> Any:
        before = copy.deepcopy((self.state, params))
        value = QUERIES[name](self.state, **params)
        assert (self.state, params) == before, f"{name} changed what it was given"
        return value

    def refusal(self, code: str, name: str, **params: Any) -> InvalidRequest | MessageTooLarge:
        """Run what must be refused with this code, before anything changes, and return the error."""
        given = (self.state, self.moment) if name in ACTIONS else (self.state,)
        function = ACTIONS.get(name) or QUERIES[name]
        before = copy.deepcopy(self.state)
        with pytest.raises((InvalidRequest, MessageTooLarge)) as caught:
            function(*given, **params)
        assert self.state == before
        error = caught.value
        assert isinstance(error, InvalidRequest | MessageTooLarge)
        assert error.code == code
        return error

    def messages(self) -> list[Any]:
        messages: list[Any] = self.ask("get_messages")["messages"]
        return messages

    def contents(self) -> list[Any]:
        return [message["content"] for message in self.messages()]


def check_bounds(state: State) -> None:
    """Check every bound of the contract, and that the sizes are those of a count from nothing."""
    assert len(state["messages"]) <= 1000
    assert len(state["reasoning_steps"]) <= 100
    assert len(state["tool_calls"]) <= 500
    assert len(state["todos"]) <= bounds.TODOS_MAX
    assert len(state["prompt_history"]) <= 100
    assert len(state["file_reads"]) <= 1000
    assert len(state["file_writes"]) <= 1000
    assert len(state["pending_memories"]["items"]) <= 500
    assert len(state["pending_memories"]["agent_decisions"]) <= 100
    assert len(state["access_log"]) <= 1000
    assert len(state["memories"]) <= 10_000
    assert all(memory["id"] == name for name, memory in state["memories"].items())
    context = state["working_context"]
    assert len(context["items"]) <= 11
    assert context["current_tokens"] == sum(item["tokens"] for item in context["items"].values())
    assert context["current_tokens"] <= context["max_tokens"]
    assert state["sizes"] == counted(state)
    assert sum(state["sizes"].values()) <= state["budgets"]["state_bytes_max"] - bounds.STATE_RESERVE_BYTES
    assert state_bytes(state) <= state["budgets"]["state_bytes_max"]
    assert state["is_streaming"] == (state["streaming_message"] is not None)
    assert state["is_streaming"] == (state["streaming_message_id"] is not None)


def check_told(before: State, after: State, told: News) -> None:
    """Check that who follows the session is told of every field that changed, but for the counts that go with them."""
    fields = {data.get("field") for _, data in told}
    types = {type_.removeprefix("procession.") for type_, _ in told}
    for field in before:
        if before[field] == after[field] or field in ("sizes", "memories"):
            continue
        if field in ("is_streaming", "streaming_message", "streaming_message_id"):
            assert any(type_.startswith("session.stream.") for type_ in types), f"{field} changed"
        else:
            own = {"messages": "session.message.appended", "file_reads": "file.read", "file_writes": "file.write"}
            assert field in fields or own.get(field) in types, f"{field} changed"


def counted(state: State) -> dict[str, int]:
    """Return the sizes of a state, counted from nothing."""
    pending = state["pending_memories"]
    sizes = {
        name: sum(map(held_bytes, state[name]))
        for name in ("messages", "reasoning_steps", "tool_calls", "todos", "prompt_history", "access_log")
    }
    return {
        **sizes,
        "streaming_message": held_bytes(_streamed(state)) if state["is_streaming"] else 0,
        "file_reads": sum(held_bytes([path, at]) for path, at in state["file_reads"].items()),
        "file_writes": sum(held_bytes([path, at]) for path, at in state["file_writes"].items()),
        "working_context": sum(map(held_bytes, state["working_context"]["items"].values())),
        "pending_memories": sum(map(held_bytes, pending["items"].values())),
        "agent_decisions": sum(map(held_bytes, pending["agent_decisions"])),
        "memories": sum(map(held_bytes, state["memories"].values())),
    }


def _streamed(state: State) -> dict[str, Any]:
    content, message_id = state["streaming_message"], state["streaming_message_id"]
    return new_message(
        {"id": message_id, "role": "assistant", "content": content}, Moment(START, lambda: "an id that was given")
    )
