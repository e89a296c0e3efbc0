"""The session as a whole: its state, its record, the scroll offset, and the tables of all functions."""

from __future__ import annotations

import inspect

import pytest

from helpers.code_session import RECORD, Played
from procession.agent_proc.agent.code_session.functions import ACTIONS, QUERIES
from procession.agent_proc.agent.code_session.state import COLLECTIONS, Budgets, empty_state
from procession.ipc.core.errors import InvalidRequest


@pytest.fixture
def session() -> Played:
    return Played()


CONTRACT_ACTIONS = """
    append_message clear_messages start_streaming update_streaming end_streaming set_scroll_offset update_todos
    add_reasoning_step clear_reasoning_steps add_tool_call update_tool_call add_to_prompt_history set_prompt_history
    track_file_read track_file_write update_context get_context clear_context add_pending_memory add_agent_memory_decision
    clear_promoted_memories record_access enable_promotion disable_promotion set_promotion_interval
    prepend_message set_messages add_todo update_todo complete_todo remove_todo clear_file_tracking clear_tool_calls set_context
""".split()
CONTRACT_QUERIES = """
    get_session get_state get_messages get_todos get_reasoning_steps get_tool_calls get_prompt_history file_was_read
    get_file_read_time get_all_context get_context_item get_pending_memories get_access_stats get_promotion_stats
""".split()


def test_every_function_of_the_contract_is_in_the_tables():
    assert set(ACTIONS) - set(CONTRACT_ACTIONS) == {
        "cancel_streaming",
        "promote",
        "remember",
        "forget",
        "record_recall",
    }
    assert set(CONTRACT_ACTIONS) <= set(ACTIONS)
    assert set(QUERIES) - set(CONTRACT_QUERIES) == {"promotion_candidates", "get_memory", "get_memories"}
    assert set(CONTRACT_QUERIES) <= set(QUERIES)


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_takes_the_state_the_moment_and_named_parameters(name: str):
    first, second, *rest = inspect.signature(ACTIONS[name]).parameters.values()
    assert (first.annotation, second.annotation) == ("State", "Moment")
    assert {parameter.annotation for parameter in rest} <= {"Value"}  # each checks its own
    assert all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in rest)


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_takes_the_state_and_named_parameters(name: str):
    first, *_ = inspect.signature(QUERIES[name]).parameters.values()
    assert first.annotation == "State"


@pytest.mark.parametrize("name", [*ACTIONS, *QUERIES])
def test_every_function_says_what_it_does(name: str):
    assert (ACTIONS.get(name) or QUERIES[name]).__doc__


@pytest.mark.contract("2.1 state schema")
def test_a_new_session_is_empty(session: Played):
    assert session.ask("get_state") == {
        "session": RECORD,
        "session_id": RECORD["id"],
        "messages": [],
        "reasoning_steps": [],
        "tool_calls": [],
        "todos": [],
        "scroll_offset": 0,
        "is_streaming": False,
        "streaming_message": None,
        "streaming_message_id": None,
        "prompt_history": [],
        "file_reads": {},
        "file_writes": {},
        "working_context": {"items": {}, "current_tokens": 0, "max_tokens": 12_000},
        "pending_memories": {"items": {}, "agent_decisions": []},
        "memories": {},
        "access_log": [],
        "promotion_enabled": True,
        "promotion_interval_ms": 30_000,
        "promotion_stats": {"last_run": None, "total_promoted": 0, "runs": 0},
        "sizes": dict.fromkeys(COLLECTIONS, 0),
        "budgets": {"element_bytes_max": 4 << 20, "state_bytes_max": 64 << 20},
    }


def test_two_new_states_share_nothing_that_could_change():
    one, other = empty_state(), empty_state()
    assert [key for key, value in one.items() if isinstance(value, (list, dict)) and value is other[key]] == []


def test_the_record_is_shown(session: Played):
    assert session.ask("get_session") == RECORD


def test_the_scroll_offset_is_set_and_overwritten(session: Played):
    assert session.do("set_scroll_offset", offset=10) == 10
    assert session.do("set_scroll_offset", offset=0) == 0
    assert session.state["scroll_offset"] == 0


@pytest.mark.parametrize("offset", [-1, 1.0, "1", None, True, 2**53])
def test_an_offset_that_is_none_is_refused(session: Played, offset: object):
    session.refusal("invalid_scroll_offset", "set_scroll_offset", offset=offset)


@pytest.mark.parametrize(
    "budgets",
    [
        {"state_bytes_max": 1},
        {"state_bytes_max": (64 << 20) + 1},
        {"element_bytes_max": 0},
        {"element_bytes_max": (64 << 20) + 1},
        {"context_tokens_max": 0},
        {"context_tokens_max": "many"},
    ],
)
def test_budgets_that_cannot_be_held_are_refused(budgets: dict[str, object]):
    with pytest.raises(InvalidRequest) as caught:
        Budgets(**budgets)  # type: ignore[arg-type]
    assert caught.value.code == "invalid_budget"
