"""What a configuration may be: ranges, codes in order, and what merging a part of one does."""

import dataclasses
import math

import pytest

from procession.agent_proc.agent.record.config import (
    CONFIG_KEYS,
    CONFIG_TEXT_CHARS_MAX,
    Defaults,
    config_reasons,
    defaults_of,
    merged,
)
from procession.agent_proc.agent.record.reasons import shown
from procession.ipc.core.errors import InvalidRequest

GOOD = {"provider": "anthropic", "model": "m", "temperature": 0.5, "max_tokens": 10}


def codes(config: object) -> list[str]:
    return [reason.code for reason in config_reasons(config)]


def test_the_defaults_are_the_contracts() -> None:
    assert Defaults().config() == {
        "provider": "anthropic",
        "model": "claude-3-5-sonnet-20241022",
        "temperature": 0.7,
        "max_tokens": 4096,
    }
    assert Defaults().language == "python"
    assert codes(Defaults().config()) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("provider", None),
        ("provider", "x"),
        ("model", None),
        ("model", "m" * CONFIG_TEXT_CHARS_MAX),
        ("temperature", 0.0),
        ("temperature", 2.0),
        ("temperature", 0),
        ("temperature", 2),
        ("max_tokens", 1),
        ("max_tokens", 2**63 - 1),
    ],
)
def test_a_value_in_its_range_is_taken(key: str, value: object) -> None:
    assert codes({**GOOD, key: value}) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("provider", ""),
        ("provider", 1),
        ("provider", "p" * (CONFIG_TEXT_CHARS_MAX + 1)),
        ("model", ""),
        ("model", ["m"]),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", 3),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", True),
        ("temperature", "0.5"),
        ("temperature", None),
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", 1.0),
        ("max_tokens", True),
        ("max_tokens", None),
        ("max_tokens", 2**63),
        pytest.param("max_tokens", 10**5000, id="max_tokens-huge"),
    ],
)
def test_a_value_out_of_its_range_has_its_code(key: str, value: object) -> None:
    assert codes({**GOOD, key: value}) == [f"invalid_{key}"]
    (reason,) = config_reasons({**GOOD, key: value})
    assert reason.text.startswith(f"config: {key} is ")
    assert len(reason.text) < 200


def test_all_reasons_come_in_the_order_of_the_keys() -> None:
    wrong = {"max_tokens": 0, "temperature": 9, "model": "", "provider": ""}
    assert codes(wrong) == ["invalid_provider", "invalid_model", "invalid_temperature", "invalid_max_tokens"]
    assert codes({}) == ["invalid_temperature", "invalid_max_tokens"]


@pytest.mark.parametrize("given", [None, 3, "provider", [("provider", "x")], object()])
def test_what_is_no_map_is_one_reason(given: object) -> None:
    assert codes(given) == ["invalid_config"]
    assert merged(GOOD, given) is given


def test_merging_takes_the_four_keys_and_a_present_none_wins() -> None:
    before = dict(GOOD)
    assert merged(GOOD, {"model": "n", "promotion_enabled": True, "temprature": 1}) == {**GOOD, "model": "n"}
    assert merged(GOOD, {"provider": None}) == {**GOOD, "provider": None}
    assert merged(GOOD, {}) == GOOD
    assert before == GOOD


def test_defaults_out_of_range_are_refused_with_all_codes() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Defaults(temperature=3, max_tokens=0, language="py")  # type: ignore[arg-type]
    assert caught.value.codes == ("invalid_temperature", "invalid_max_tokens", "invalid_language")
    assert caught.value.code == "invalid_temperature"


@pytest.mark.contract("4.2 defaults")
@pytest.mark.parametrize(
    ("language", "config", "expected"),
    [
        (None, None, ()),
        ("Rs", {"model": None}, ()),
        ("cobol", None, ("invalid_language",)),
        (None, 3, ("invalid_config",)),
        (None, {"modle": "m"}, ("invalid_config",)),
        (3, {"max_tokens": 0, "temprature": 1}, ("invalid_config", "invalid_max_tokens", "invalid_language")),
    ],
)
def test_what_a_host_is_told_to_give_is_checked_as_a_whole(
    language: object, config: object, expected: tuple[str, ...]
) -> None:
    if expected:
        with pytest.raises(InvalidRequest) as caught:
            defaults_of(language, config)
        assert caught.value.codes == expected
    elif config is None:
        assert defaults_of(language, config) == Defaults()
    else:
        assert defaults_of(language, config) == Defaults(model=None, language="rust")


def test_a_whole_temperature_is_the_same_default_as_its_float() -> None:
    assert type(defaults_of(config={"temperature": 1}).temperature) is float


def test_defaults_and_keys_are_the_same_four() -> None:
    assert {field.name for field in dataclasses.fields(Defaults)} == {*CONFIG_KEYS, "language"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a'b", '"a\'b"'),
        ("\ud800", r"'\ud800'"),
        ("x" * 200, "'" + "x" * 80 + "'..."),
        (None, "None"),
        (True, "True"),
        (-7, "-7"),
        pytest.param(10**5000, "an integer of 16610 bits", id="huge"),
        (b"secret", "a bytes"),
        ({"k": 1}, "a dict"),
    ],
)
def test_what_was_given_is_shown_short_and_encodable(value: object, text: str) -> None:
    assert shown(value) == text
    assert shown(value).encode()
