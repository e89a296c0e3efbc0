"""Any sequence of actions: bounds, orders and sizes hold, ops fold to the next state, and replies agree with queries.

The bounds and sizes, that nothing given is changed, and that ops survive the journal are checked by `Played.do`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.code_session import Played
from helpers.counts import examples
from procession.agent_proc.agent.code_session.functions import ACTIONS
from procession.agent_proc.agent.code_session.state import Budgets
from procession.agent_proc.agent.code_session.working_context import KEYS, SOURCES
from procession.ipc.core.errors import InvalidRequest, MessageTooLarge

texts = st.text(st.sampled_from("ab \nä語"), max_size=5) | st.sampled_from(["x" * 3_000, "語" * 9_000])
ids = st.sampled_from(["a", "b", "c"])
data = st.recursive(
    st.none() | st.booleans() | st.integers() | texts | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ids, inner, max_size=2),
    max_leaves=4,
)
messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant"]),
        "content": texts | st.lists(st.fixed_dictionaries({"text": texts})),
    },
    optional={"id": ids, "extra": data, "metadata": st.dictionaries(ids, data, max_size=2)},
)
todos = st.fixed_dictionaries(
    {"content": st.sampled_from(["x", "yy"])},
    optional={"id": ids, "status": st.sampled_from(["pending", "completed"]), "extra": data},
)
memories = st.fixed_dictionaries(
    {
        "content": st.sampled_from(["x", "y" * 2_000]),
        "memory_type": st.sampled_from(["fact", "risk"]),
        "confidence": st.floats(0, 1) | st.just("high"),
        "source_type": st.just("tool"),
    },
    optional={"id": ids, "importance_score": st.floats(0, 1), "extra": data},
)
paths = st.sampled_from(["a.py", "./a.py", "src/b.py", "/c"])
keys = st.sampled_from(KEYS)

PARAMETERS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "append_message": {"message": messages},
    "prepend_message": {"message": messages},
    "set_messages": {"messages": st.lists(messages, max_size=4)},
    "clear_messages": {},
    "start_streaming": {"message_id": ids},
    "update_streaming": {"chunk": texts},
    "end_streaming": {},
    "cancel_streaming": {},
    "add_reasoning_step": {"step": st.fixed_dictionaries({"content": texts}, optional={"type": data})},
    "clear_reasoning_steps": {},
    "add_tool_call": {
        "tool_call": st.fixed_dictionaries(
            {"name": st.just("read")},
            optional={"id": ids, "status": st.sampled_from(["pending", "running", "completed"]), "extra": data},
        )
    },
    "update_tool_call": {"id": ids, "status": st.sampled_from(["running", "completed", "error"]), "result": data},
    "clear_tool_calls": {},
    "update_todos": {"todos": st.lists(todos, max_size=3)},
    "add_todo": {"todo": todos},
    "update_todo": {"id": ids, "content": st.just("z") | st.none(), "status": st.just("completed") | st.none()},
    "complete_todo": {"id": ids},
    "remove_todo": {"id": ids},
    "add_to_prompt_history": {"prompt": texts},
    "set_prompt_history": {"prompts": st.lists(texts, max_size=4)},
    "track_file_read": {"path": paths},
    "track_file_write": {"path": paths},
    "clear_file_tracking": {},
    "update_context": {"key": keys, "value": data, "source": st.sampled_from(SOURCES), "confidence": st.floats(-1, 2)},
    "set_context": {"values": st.dictionaries(keys, data, max_size=3)},
    "get_context": {"key": keys},
    "clear_context": {},
    "add_pending_memory": {"item": memories},
    "add_agent_memory_decision": {"item": memories},
    "clear_promoted_memories": {"ids": st.lists(ids, max_size=2)},
    "record_access": {"key": ids | ids.map(lambda one: ("memory", one))},
    "enable_promotion": {},
    "disable_promotion": {},
    "set_promotion_interval": {"interval_ms": st.integers(1, 100)},
    "promote": {"threshold": st.floats(0, 1), "count_max": st.integers(1, 4)},
    "remember": {"content": st.sampled_from(["x", "y" * 2_000]), "id": ids | st.none(), "metadata": st.none() | data},
    "forget": {"memory_id": ids, "reason": texts | st.none(), "replacement_id": ids | st.none()},
    "record_recall": {"ids": st.lists(ids, max_size=2)},
    "set_scroll_offset": {"offset": st.integers(0, 99)},
}

calls = st.sampled_from(sorted(PARAMETERS)).flatmap(
    lambda name: st.tuples(st.just(name), st.fixed_dictionaries(PARAMETERS[name]))
)

WHOLE_LISTS = {
    "clear_messages": "messages",
    "set_messages": "messages",
    "clear_reasoning_steps": "reasoning_steps",
    "clear_tool_calls": "tool_calls",
    "update_todos": "todos",
    "add_to_prompt_history": "prompt_history",
    "set_prompt_history": "prompt_history",
}
LAST_OF = {
    "append_message": "messages",
    "end_streaming": "messages",
    "add_reasoning_step": "reasoning_steps",
    "add_tool_call": "tool_calls",
    "add_todo": "todos",
}
BY_ID = {"update_tool_call": "tool_calls", "update_todo": "todos", "complete_todo": "todos"}


def check_reply(session: Played, name: str, params: dict[str, Any], reply: Any) -> None:
    """Check that what an action answered is what is there to be read."""
    state = session.ask("get_state")
    if name in WHOLE_LISTS:
        assert reply == state[WHOLE_LISTS[name]]
    elif name in LAST_OF:
        assert reply == state[LAST_OF[name]][-1]
    elif name in BY_ID:
        assert reply == [item for item in state[BY_ID[name]] if item["id"] == params["id"]][-1]
    elif name == "prepend_message":
        assert reply == session.messages()[0]
    elif name == "remove_todo":
        assert reply["id"] not in [todo["id"] for todo in session.ask("get_todos")]
    elif name == "start_streaming":
        assert reply == state["streaming_message_id"]
    elif name == "track_file_read":
        assert reply == session.ask("get_file_read_time", path=params["path"])
    elif name == "update_context":
        assert reply == session.ask("get_context_item", key=params["key"])
    elif name == "set_context":
        assert reply == session.ask("get_all_context")
    elif name == "get_context":
        assert reply == session.ask("get_all_context")[params["key"]]
    elif name == "add_pending_memory":
        assert reply == state["pending_memories"]["items"][reply["id"]]
    elif name == "add_agent_memory_decision":
        assert reply in session.ask("get_pending_memories")
    elif name == "promote":
        assert reply <= params["count_max"]
    elif name in ("remember", "forget"):
        assert reply == session.ask("get_memory", memory_id=reply["id"])
    elif name == "record_recall":
        assert reply == [session.ask("get_memory", memory_id=one) for one in params["ids"]]
    elif name == "set_scroll_offset":
        assert reply == state["scroll_offset"]


def test_every_action_takes_part():
    assert set(PARAMETERS) == set(ACTIONS)


@given(st.lists(calls, max_size=25))
@settings(max_examples=examples(100), deadline=None)
def test_any_sequence_keeps_every_rule(sequence: list[tuple[str, dict[str, Any]]]):
    session = Played(Budgets(element_bytes_max=40_000, state_bytes_max=1 << 20, context_tokens_max=3_000))
    for name, params in sequence:
        before = session.state
        try:
            reply = session.do(name, **params)
        except (InvalidRequest, MessageTooLarge):
            assert session.state is before
        else:
            check_reply(session, name, params, reply)


@given(st.lists(messages, max_size=12))
@settings(max_examples=examples(50), deadline=None)
def test_messages_come_back_in_the_order_and_with_the_content_they_had(given_messages: list[dict[str, Any]]):
    session = Played()
    for message in given_messages:
        session.do("append_message", message=message)
    assert session.contents() == [message["content"] for message in given_messages]
    paged = [session.ask("get_messages", offset=at, limit=1)["messages"] for at in range(len(given_messages))]
    assert [message for page in paged for message in page] == session.messages()
