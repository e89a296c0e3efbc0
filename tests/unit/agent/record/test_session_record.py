"""The record: what it must be, and that every change is small, complete and undoes no other."""

import copy
import itertools
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.record.project_path import NOTHING_THERE, ProjectFacts
from procession.agent_proc.agent.record.session_record import (
    ACTIONS,
    CONNECTION_STATUSES,
    FIELDS,
    QUERIES,
    get_connection_status,
    get_session,
    rename_session,
    set_connection_status,
    update_language,
    update_session_config,
    validate,
)
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import SetPath, apply, decode_ops, encode_ops

BEGAN = datetime(2026, 1, 2, tzinfo=UTC)
LATER = datetime(2026, 1, 3, 4, 5, 6, 7, tzinfo=UTC)
CONFIG = {"provider": "anthropic", "model": "m", "temperature": 0.5, "max_tokens": 10}


def moment(at: datetime = LATER) -> Moment:
    return Moment(at, lambda: str(uuid.UUID(int=1)))


def record(**changes: object) -> dict[str, Any]:
    return {
        "id": str(uuid.UUID(int=7)),
        "name": "app",
        "project_path": "/app",
        "config": dict(CONFIG),
        "language": "python",
        "connection_status": "disconnected",
        "created_at": BEGAN,
        "updated_at": BEGAN,
        **changes,
    }


def state(**changes: object) -> dict[str, Any]:
    return {"session": record(**changes), "messages": [{"id": "1"}]}


def refused(action: str, **params: object) -> tuple[str, ...]:
    before = state()
    kept = copy.deepcopy(before)
    with pytest.raises(InvalidRequest) as caught:
        ACTIONS[action](before, moment(), **params)
    assert before == kept
    return caught.value.codes


# -- what it must be ---------------------------------------------------------------------------------------------------


def validated(facts: ProjectFacts | None = None, **changes: Any) -> tuple[str, ...]:
    try:
        validate(record(**changes), facts or ProjectFacts())
    except InvalidRequest as error:
        return error.codes
    return ()


def test_a_record_has_these_fields_and_is_good() -> None:
    assert tuple(record()) == FIELDS
    assert validated() == ()


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("id", None, "invalid_id"),
        ("id", "", "invalid_id"),
        ("id", "session_1", "invalid_id"),
        ("id", str(uuid.UUID(int=0xABC)).upper(), "invalid_id"),
        ("name", "", "invalid_name"),
        ("name", None, "invalid_name"),
        ("name", "  ", "invalid_name"),
        ("name", "n" * 51, "name_too_long"),
        ("project_path", None, "invalid_project_path"),
        ("project_path", "", "invalid_project_path"),
        ("project_path", "app", "path_not_absolute"),
        ("project_path", "/a/../b", "path_traversal_detected"),
        ("config", None, "invalid_config"),
        ("config", {**CONFIG, "provider": ""}, "invalid_provider"),
        ("config", {**CONFIG, "model": 1}, "invalid_model"),
        ("config", {**CONFIG, "temperature": 2.5}, "invalid_temperature"),
        ("config", {"provider": None, "model": None, "temperature": 1}, "invalid_max_tokens"),
        ("created_at", None, "invalid_created_at"),
        ("created_at", BEGAN.replace(tzinfo=None), "invalid_created_at"),
        ("created_at", datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1))), "invalid_created_at"),
        ("updated_at", "2026-01-02T00:00:00Z", "invalid_updated_at"),
        ("language", "py", "invalid_language"),
        ("language", None, "invalid_language"),
        ("language", [], "invalid_language"),
        ("connection_status", "connecting", "invalid_connection_status"),
        ("connection_status", [], "invalid_connection_status"),
    ],
)
def test_each_wrong_field_has_its_code(field: str, value: Any, code: str) -> None:
    assert validated(**{field: value}) == (code,)


def test_all_reasons_come_in_the_contracts_order() -> None:
    wrong: dict[str, Any] = dict.fromkeys(reversed(FIELDS))
    config = {"provider": "", "model": "", "temperature": -1, "max_tokens": 0}
    assert validated(**wrong | {"config": config}) == (
        "invalid_id",
        "invalid_name",
        "invalid_project_path",
        "invalid_provider",
        "invalid_model",
        "invalid_temperature",
        "invalid_max_tokens",
        "invalid_created_at",
        "invalid_updated_at",
        "invalid_language",
        "invalid_connection_status",
    )


def test_a_folder_that_is_gone_is_found_out_and_a_full_disk_is_none_of_its_business() -> None:
    assert validated(NOTHING_THERE) == ("path_not_found",)
    assert validated(ProjectFacts(is_directory=False)) == ("path_not_directory",)
    assert validated(ProjectFacts(has_space=False, can_write=False, can_list=False)) == ()


def test_the_text_of_a_refusal_says_everything_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        validate(record(name=" ", config={**CONFIG, "temperature": 3}), ProjectFacts())
    assert str(caught.value) == (
        "name: it cannot be blank, as ' ' is; config: temperature is a number from 0.0 to 2.0, not 3"
    )


# -- what changes it ---------------------------------------------------------------------------------------------------


def at(*path: str, value: object) -> SetPath:
    return SetPath(("session", *path), value)


@pytest.mark.parametrize(
    ("action", "params", "ops"),
    [
        ("rename_session", {"name": "new"}, [at("name", value="new")]),
        ("update_language", {"language": " RS "}, [at("language", value="rust")]),
        ("set_connection_status", {"status": "connected"}, [at("connection_status", value="connected")]),
        ("update_session_config", {"config": {"model": "n"}}, [at("config", "model", value="n")]),
        ("update_session_config", {"config": {"provider": None}}, [at("config", "provider", value=None)]),
        (
            "update_session_config",
            {"config": {"max_tokens": 9, "temperature": 1, "model": "m"}},
            [at("config", "temperature", value=1), at("config", "max_tokens", value=9)],
        ),
    ],
)
def test_a_change_is_as_small_as_what_changes(action: str, params: dict[str, Any], ops: list[SetPath]) -> None:
    assert ACTIONS[action](state(), moment(), **params).ops == (*ops, at("updated_at", value=LATER))


@pytest.mark.parametrize(
    ("action", "params"),
    [
        ("rename_session", {"name": "app"}),
        ("update_language", {"language": "py"}),
        ("set_connection_status", {"status": "disconnected"}),
        ("update_session_config", {"config": {}}),
        ("update_session_config", {"config": dict(CONFIG)}),
        ("update_session_config", {"config": {"temprature": 1, "promotion_enabled": False}}),
    ],
)
def test_a_change_to_what_is_there_already_is_none(action: str, params: dict[str, Any]) -> None:
    assert ACTIONS[action](state(), moment(), **params) == Change(reply=record())


def test_one_is_another_value_than_one_point_nought() -> None:
    before = state(config={**CONFIG, "temperature": 1.0})
    change = update_session_config(before, moment(), config={"temperature": 1})
    assert change.ops[0] == at("config", "temperature", value=1)


@pytest.mark.parametrize(
    ("action", "params", "codes"),
    [
        ("rename_session", {"name": ""}, ("invalid_name",)),
        ("rename_session", {"name": "   "}, ("invalid_name",)),
        ("rename_session", {"name": None}, ("invalid_name",)),
        ("rename_session", {"name": "n" * 51}, ("name_too_long",)),
        ("update_language", {"language": None}, ("invalid_language",)),
        ("update_language", {"language": "cobol"}, ("invalid_language",)),
        ("set_connection_status", {"status": "lost"}, ("invalid_connection_status",)),
        ("set_connection_status", {"status": None}, ("invalid_connection_status",)),
        ("update_session_config", {"config": None}, ("invalid_config",)),
        ("update_session_config", {"config": [("model", "n")]}, ("invalid_config",)),
        ("update_session_config", {"config": {"model": "n", "temperature": None}}, ("invalid_temperature",)),
        (
            "update_session_config",
            {"config": {"max_tokens": 0, "provider": ""}},
            ("invalid_provider", "invalid_max_tokens"),
        ),
    ],
)
def test_what_is_wrong_changes_nothing(action: str, params: dict[str, object], codes: tuple[str, ...]) -> None:
    assert refused(action, **params) == codes


def test_the_whole_merged_config_is_checked() -> None:
    before = state(config={"provider": None, "model": None, "temperature": 0.1})
    with pytest.raises(InvalidRequest) as caught:
        update_session_config(before, moment(), config={"model": "n"})
    assert caught.value.codes == ("invalid_max_tokens",)
    assert update_session_config(before, moment(), config={"max_tokens": 5}).ops[0] == at(
        "config", "max_tokens", value=5
    )


@pytest.mark.parametrize(("old", "new"), list(itertools.permutations(CONNECTION_STATUSES, 2)))
def test_every_connection_status_may_follow_every_other(old: str, new: Any) -> None:
    before = state(connection_status=old)
    after = apply(before, set_connection_status(before, moment(), status=new).ops)
    assert get_connection_status(after) == new


changes = st.one_of(
    st.builds(lambda name: ("rename_session", {"name": name}), st.sampled_from(["app", "b", "c"])),
    st.builds(lambda word: ("update_language", {"language": word}), st.sampled_from(["py", "rs", "ex", "go"])),
    st.builds(lambda status: ("set_connection_status", {"status": status}), st.sampled_from(CONNECTION_STATUSES)),
    st.builds(
        lambda config: ("update_session_config", {"config": config}),
        st.fixed_dictionaries(
            {},
            optional={
                "provider": st.none() | st.just("p"),
                "model": st.sampled_from(["m", "n"]),
                "temperature": st.sampled_from([0, 0.0, 0.5, 2]),
                "max_tokens": st.integers(1, 3),
                "other": st.integers(),
            },
        ),
    ),
)


@given(st.lists(changes, max_size=8))
def test_any_changes_fold_to_their_replies_and_undo_none(done: list[tuple[str, dict[str, Any]]]) -> None:
    now = state()
    expected = record()
    for step, (action, params) in enumerate(done):
        before = copy.deepcopy(now)
        change = ACTIONS[action](now, moment(LATER + timedelta(seconds=step)), **params)
        assert now == before
        assert decode_ops(encode_ops(change.ops)) == list(change.ops)
        now = apply(now, change.ops)
        assert get_session(now) == change.reply
        match action:
            case "rename_session":
                expected["name"] = params["name"]
            case "update_language":
                expected["language"] = {"py": "python", "rs": "rust", "ex": "elixir", "go": "go"}[params["language"]]
            case "set_connection_status":
                expected["connection_status"] = params["status"]
            case _:
                expected["config"].update({key: value for key, value in params["config"].items() if key in CONFIG})
        assert {**now["session"], "updated_at": BEGAN} == expected
        assert (now["session"]["updated_at"] == LATER + timedelta(seconds=step)) == bool(change.ops)
        validate(now["session"], ProjectFacts())
    assert now["messages"] == state()["messages"]


def test_the_tables_name_every_action_and_query() -> None:
    assert dict(ACTIONS) == {
        "rename_session": rename_session,
        "update_session_config": update_session_config,
        "update_language": update_language,
        "set_connection_status": set_connection_status,
    }
    assert set(QUERIES) == {"get_session", "get_connection_status"}
