"""A record and an agent's fields: both ways and back without a loss, and what has no place is named."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession.agent_proc.agent.record.converters import (
    AGENT_NAMES,
    Converted,
    time_of,
    time_text,
    to_agent,
    to_session,
)
from procession.agent_proc.agent.record.session_record import FIELDS
from procession.ipc.core.errors import InvalidRequest

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
times = st.datetimes(timezones=st.just(UTC))
texts = st.none() | st.text("aé ", max_size=5)
config_keys: dict[Any, st.SearchStrategy[Any]] = {
    "provider": texts,
    "model": texts,
    "temperature": st.floats(0, 2),
    "max_tokens": st.integers(),
}
promotion: dict[Any, st.SearchStrategy[Any]] = {
    "promotion_enabled": st.booleans(),
    "promotion_interval_ms": st.integers(),
}
plain: dict[Any, st.SearchStrategy[Any]] = {
    "name": texts,
    "project_path": texts,
    "language": texts,
    "connection_status": texts,
    "created_at": times,
    "updated_at": times,
}
records = st.fixed_dictionaries(
    {}, optional={"id": texts, "config": st.fixed_dictionaries({}, optional=config_keys | promotion), **plain}
)
agents = st.fixed_dictionaries(
    {"llm_config": st.fixed_dictionaries({}, optional=config_keys)},
    optional={"session_id": texts, **plain, **promotion},
)


@pytest.mark.slow
@pytest.mark.contract("2.1 converters")
@given(records)
def test_a_record_comes_back_as_it_went(record: dict[str, Any]) -> None:
    fields, unsupported = to_agent(record)
    assert unsupported == ()
    assert to_session(fields) == Converted(record, ())


@pytest.mark.contract("2.1 converters")
@given(agents)
def test_an_agents_fields_come_back_as_they_went(fields: dict[str, Any]) -> None:
    record, unsupported = to_session(fields)
    assert unsupported == ()
    assert to_agent(record) == Converted(fields, ())


@pytest.mark.contract("2.1 converters")
def test_the_names_are_those_of_the_documents() -> None:
    record = {
        "id": "1",
        "name": "n",
        "project_path": "/p",
        "config": {"model": "m", "promotion_enabled": False},
        "language": "go",
        "connection_status": "error",
        "created_at": NOW,
        "updated_at": NOW,
    }
    assert tuple(record) == FIELDS == tuple(AGENT_NAMES)
    assert to_agent(record).fields == {
        "session_id": "1",
        "name": "n",
        "project_path": "/p",
        "llm_config": {"model": "m"},
        "promotion_enabled": False,
        "language": "go",
        "connection_status": "error",
        "created_at": NOW,
        "updated_at": NOW,
    }


@pytest.mark.contract("2.1 converters")
def test_a_project_root_is_a_project_path_unless_there_is_one() -> None:
    assert to_session({"project_root": "/a"}) == Converted({"project_path": "/a"}, ())
    both = Converted({"project_path": "/b"}, ("project_root",))
    assert to_session({"project_root": "/a", "project_path": "/b"}) == both
    assert to_session({"project_path": "/b", "project_root": "/a"}) == both


@pytest.mark.contract("2.1 converters")
def test_what_has_no_place_is_named() -> None:
    assert to_agent({"id": "1", "pid": 4, "config": {"x": 1, "model": "m"}}) == Converted(
        {"session_id": "1", "llm_config": {"model": "m"}}, ("pid", "config.x")
    )
    assert to_session({"messages": [], "llm_config": {"promotion_enabled": True}}) == Converted(
        {"config": {}}, ("messages", "llm_config.promotion_enabled")
    )


@pytest.mark.parametrize("config", [None, "x", [("model", "m")]])
def test_a_config_is_a_map(config: object) -> None:
    for convert, field in ((to_agent, "config"), (to_session, "llm_config")):
        with pytest.raises(InvalidRequest) as caught:
            convert({field: config})
        assert caught.value.code == "invalid_config"


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_comes_back_from_its_text(at: datetime) -> None:
    text = time_text(at)
    assert time_of(text) == at
    assert time_of(text).utcoffset() == timedelta(0)
    assert len(text) == len("2026-01-02T03:04:05.000006Z")


def test_a_time_is_written_in_utc() -> None:
    assert time_text(NOW) == "2026-01-02T03:04:05.000006Z"
    assert time_text(NOW.astimezone(timezone(timedelta(hours=5)))) == "2026-01-02T03:04:05.000006Z"
    assert time_of("2026-01-02T05:04:05.000006+02:00") == NOW


@pytest.mark.parametrize("text", ["", "now", "2026-01-02", "2026-01-02T03:04:05", None, 5, "0001-01-01T00:00:00+05:00"])
def test_what_is_no_time_is_refused(text: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        time_of(text)
    assert caught.value.code == "invalid_timestamp"
