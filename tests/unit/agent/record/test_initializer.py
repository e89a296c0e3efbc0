"""The first state: what is filled in, what is refused with which codes in which order, and that it is a good record."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession.agent_proc.agent.change import Moment
from procession.agent_proc.agent.record.config import Defaults
from procession.agent_proc.agent.record.initializer import StateInitializer
from procession.agent_proc.agent.record.project_path import NOTHING_THERE, ProjectFacts
from procession.agent_proc.agent.record.session_record import FIELDS, validate
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import state_bytes

NOW = datetime(2026, 1, 2, 3, tzinfo=UTC)
NEW_ID = "00000000-0000-4000-8000-000000000001"
GIVEN_ID = "0000ABCD-0000-4000-8000-000000000002"
MOMENT = Moment(NOW, lambda: NEW_ID)
EMPTY = {"messages": [], "promotion_enabled": True, "promotion_interval_ms": 30_000}
FACTS = ProjectFacts(found=frozenset({"Cargo.toml"}))


def made(facts: ProjectFacts | None = FACTS, defaults: Defaults | None = None, **params: Any) -> dict[str, Any]:
    return StateInitializer(defaults or Defaults()).init({"project_path": "/srv/app/", **params}, facts, EMPTY, MOMENT)


def refused(facts: ProjectFacts | None = FACTS, **params: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidRequest) as caught:
        made(facts, **params)
    codes = caught.value.codes
    assert caught.value.code == codes[0]
    return codes


@pytest.mark.contract("2.1 state schema", "4.2 defaults")
def test_a_path_alone_makes_a_whole_state() -> None:
    assert StateInitializer().init({"project_path": "/srv/app/"}, FACTS, EMPTY, MOMENT) == {
        "session_id": NEW_ID,
        "session": {
            "id": NEW_ID,
            "name": "app",
            "project_path": "/srv/app",
            "config": Defaults().config(),
            "language": "rust",
            "connection_status": "disconnected",
            "created_at": NOW,
            "updated_at": NOW,
        },
        "messages": [],
        "promotion_enabled": True,
        "promotion_interval_ms": 30_000,
    }


def test_what_is_given_is_taken() -> None:
    state = made(session_id=GIVEN_ID, name="mine", language="TS", config={"temperature": 2.0, "model": None})
    assert state["session_id"] == state["session"]["id"] == GIVEN_ID.lower()
    assert state["session"]["name"] == "mine"
    assert state["session"]["language"] == "typescript"
    assert state["session"]["config"] == {**Defaults().config(), "temperature": 2.0, "model": None}
    assert list(state["session"]) == list(FIELDS)


@pytest.mark.contract("4.2 defaults")
def test_none_is_as_not_given() -> None:
    assert made(session_id=None, name=None, language=None, config=None) == made()


@pytest.mark.contract("4.2 defaults")
def test_a_host_has_its_own_defaults() -> None:
    defaults = Defaults(model="mine", language="go")
    state = made(ProjectFacts(), defaults, config={"provider": None})
    assert state["session"]["config"] == {**defaults.config(), "provider": None}
    assert state["session"]["language"] == "go"
    assert made(FACTS, defaults)["session"]["language"] == "rust"


def test_promotion_settings_of_a_config_are_fields_of_the_state() -> None:
    state = made(config={"promotion_enabled": False, "promotion_interval_ms": 5, "other": 1})
    assert (state["promotion_enabled"], state["promotion_interval_ms"]) == (False, 5)
    assert state["session"]["config"] == Defaults().config()


@pytest.mark.contract("4.2 validation")
@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"session_id": ""}, "invalid_session_id"),
        ({"session_id": "session_1"}, "invalid_session_id"),
        ({"session_id": 7}, "invalid_session_id"),
        ({"name": ""}, "invalid_name"),
        ({"name": "  "}, "invalid_name"),
        ({"name": 1}, "invalid_name"),
        ({"name": "n" * 51}, "name_too_long"),
        ({"name": "n" * 300}, "name_too_long"),
        ({"config": "x"}, "invalid_config"),
        ({"config": {"provider": ""}}, "invalid_provider"),
        ({"config": {"model": 5}}, "invalid_model"),
        ({"config": {"temperature": 2.5}}, "invalid_temperature"),
        ({"config": {"temperature": None}}, "invalid_temperature"),
        ({"config": {"max_tokens": 0}}, "invalid_max_tokens"),
        ({"config": {"promotion_interval_ms": 0}}, "invalid_interval"),
        ({"config": {"promotion_interval_ms": True}}, "invalid_interval"),
        ({"config": {"promotion_enabled": 1}}, "invalid_promotion_enabled"),
        ({"language": "cobol"}, "invalid_language"),
        ({"language": 5}, "invalid_language"),
        ({"projekt": "/x"}, "unknown_parameter"),
    ],
)
def test_each_wrong_parameter_has_its_code(params: dict[str, Any], code: str) -> None:
    assert refused(**params) == (code,)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (None, "missing_project_path"),
        ("", "invalid_project_path"),
        (5, "invalid_project_path"),
        ("/" + "x" * 4_096, "path_too_long"),
        ("/a/../b", "path_traversal_detected"),
        ("a", "path_not_absolute"),
    ],
)
def test_a_path_that_nobody_could_look_at_needs_no_facts(path: object, code: str) -> None:
    assert refused(None, project_path=path) == (code,)


def test_a_state_needs_a_project_path() -> None:
    with pytest.raises(InvalidRequest) as caught:
        StateInitializer().init({}, None, EMPTY, MOMENT)
    assert caught.value.codes == ("missing_project_path",)


@pytest.mark.contract("4.2 validation")
@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (NOTHING_THERE, "path_not_found"),
        (ProjectFacts(is_directory=False), "path_not_directory"),
        (ProjectFacts(link_target="/a/../b"), "symlink_escape"),
        (ProjectFacts(can_list=False), "path_permission_denied"),
        (ProjectFacts(can_write=False), "path_permission_denied"),
        (ProjectFacts(has_space=False, can_write=False), "path_no_space"),
    ],
)
def test_what_was_found_at_the_path_is_judged(facts: ProjectFacts, code: str) -> None:
    assert refused(facts) == (code,)


def test_a_good_path_without_facts_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(AssertionError, match="what was found"):
        made(None)


@pytest.mark.contract("4.2 validation")
def test_all_reasons_are_told_at_once_in_the_contracts_order() -> None:
    config = {"max_tokens": 0, "temperature": 9, "model": "", "provider": "", "promotion_interval_ms": -1}
    assert refused(
        NOTHING_THERE, bad=1, worse=2, language="x", config={**config, "promotion_enabled": 0}, name="", session_id="1"
    ) == (
        "invalid_session_id",
        "invalid_name",
        "path_not_found",
        "invalid_provider",
        "invalid_model",
        "invalid_temperature",
        "invalid_max_tokens",
        "invalid_language",
        "invalid_interval",
        "invalid_promotion_enabled",
        "unknown_parameter",
        "unknown_parameter",
    )


def test_a_crowd_of_unknown_parameters_is_told_in_short() -> None:
    many: dict[str, Any] = {f"p{at}": 1 for at in range(1_000)}
    assert refused(**many) == ("unknown_parameter",) * 8


anything = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("aé \n\ud800", max_size=60) | st.lists(st.none())
)
good_names = st.text("ab ", min_size=1, max_size=50)


@pytest.mark.contract("4.2 validation")
@given(
    params=st.fixed_dictionaries(
        {},
        optional={
            "session_id": anything | st.uuids().map(str),
            "name": anything | good_names,
            "language": anything | st.sampled_from(["ex", "Go"]),
            "config": anything
            | st.dictionaries(st.sampled_from(["provider", "model", "temperature", "max_tokens"]), anything),
            "project_path": anything | st.just("/p"),
        },
    ),
    found=st.booleans(),
)
def test_whatever_is_given_it_is_refused_or_makes_a_record_that_stays_good(params: dict[str, Any], found: bool) -> None:
    facts = ProjectFacts() if found else NOTHING_THERE
    try:
        state = StateInitializer().init(params, facts, EMPTY, MOMENT)
    except InvalidRequest as refusal:
        codes, text = refusal.codes, str(refusal).encode()
        assert all(codes)
        assert text
        return
    validate(state["session"], facts)
    assert state["session_id"] == state["session"]["id"] == str(uuid.UUID(state["session"]["id"]))
    assert state["session"]["created_at"] == state["session"]["updated_at"] == NOW
    assert state_bytes(state) > 0


def test_nothing_that_was_given_is_changed() -> None:
    config = {"model": "m"}
    state = made(config=config)
    assert config == {"model": "m"}
    assert state["session"]["config"] is not config
    assert EMPTY == {"messages": [], "promotion_enabled": True, "promotion_interval_ms": 30_000}
