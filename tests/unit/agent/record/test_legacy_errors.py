"""Legacy errors: each shape becomes the error that it means and comes back, and any error is a line of text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession.agent_proc.agent.record.legacy_errors import (
    ERROR,
    WITH_TEXT,
    Symbol,
    format_text,
    from_legacy,
    legacy_error,
)
from procession.ipc.core.errors import (
    AlreadyExists,
    CallTimedOut,
    InvalidRequest,
    ProcessionError,
    SessionLimitReached,
    SessionNotFound,
    SessionNotRunning,
    from_data,
    to_data,
)

NOT_FOUND = Symbol("not_found")
words = st.text("abc_", min_size=1, max_size=6).map(Symbol)
shapes = st.one_of(
    words,
    st.sampled_from([NOT_FOUND, Symbol("invalid_model"), Symbol("timeout")]),
    st.text("aé _:('"),
    st.tuples(st.sampled_from(sorted(WITH_TEXT)).map(Symbol), st.text("aé _:('", min_size=1)),
)


def test_a_symbol_is_equal_to_its_text_and_told_from_it() -> None:
    assert Symbol("a") == "a"
    assert hash(Symbol("a")) == hash("a")
    assert isinstance(Symbol("a"), Symbol)
    assert not isinstance("a", Symbol)
    assert repr((ERROR, NOT_FOUND)) == "(:error, :not_found)"
    assert str(NOT_FOUND) == f"{NOT_FOUND}" == "not_found"


@pytest.mark.contract("2.1 error converters")
@given(shapes, st.integers(0, 3))
def test_a_reason_comes_back_as_it_went(reason: object, wrapped: int) -> None:
    given = reason
    for _ in range(wrapped):
        given = (ERROR, given)
    back = legacy_error(from_legacy(given))
    assert back == (ERROR, reason)
    assert isinstance(back[1], Symbol) == isinstance(reason, Symbol)


@pytest.mark.contract("2.1 error converters")
@given(st.lists(words, min_size=1, max_size=5))
def test_a_list_of_reasons_comes_back_as_it_went(reasons: list[Symbol]) -> None:
    error = from_legacy((ERROR, reasons))
    assert error.codes == tuple(reasons)
    assert legacy_error(error, listed=True) == (ERROR, reasons)
    assert legacy_error(error) == (ERROR, reasons[0])


@pytest.mark.contract("2.1 error classes")
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("not_found", SessionNotFound),
        ("session_not_found", SessionNotFound),
        ("agent_not_found", SessionNotFound),
        ("no_sessions", SessionNotFound),
        ("session_exists", AlreadyExists),
        ("project_already_open", AlreadyExists),
        ("already_started", AlreadyExists),
        ("session_limit_reached", SessionLimitReached),
        ("not_running", SessionNotRunning),
        ("timeout", CallTimedOut),
        ("invalid_language", InvalidRequest),
        ("missing_project_path", InvalidRequest),
        ("path_not_found", InvalidRequest),
        ("name_too_long", InvalidRequest),
        ("symlink_escape", InvalidRequest),
        ("key_not_found", InvalidRequest),
        ("not_streaming", InvalidRequest),
        ("something_else", ProcessionError),
    ],
)
def test_a_code_is_an_error_of_its_type(code: str, kind: type[ProcessionError]) -> None:
    error = from_legacy(Symbol(code))
    assert type(error) is kind
    assert (error.code, error.message) == (code, code)
    assert type(from_data(to_data(error))) is kind


@pytest.mark.contract("2.1 error converters")
@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ((Symbol("not_found"), "no such thing"), "not_found", "no such thing"),
        (("error", ("error", Symbol("timeout"))), "timeout", "timeout"),
        ("it broke", "unknown", "it broke"),
        (Symbol("broken"), "broken", "broken"),
        (None, "unknown", "None"),
        (17, "unknown", "17"),
        ([], "unknown", "[]"),
        ((Symbol("lua_error"), "x", 1), "unknown", "(:lua_error, 'x', 1)"),
        (["a", "b"], "unknown", "['a', 'b']"),
        ((Symbol("session_limit_reached"), 10, 10), "unknown", "(:session_limit_reached, 10, 10)"),
        ({"message": "m"}, "unknown", "{'message': 'm'}"),
    ],
)
def test_a_legacy_reason_is_an_error(given: object, code: str, message: str) -> None:
    error = from_legacy(given)
    assert (error.code, error.message) == (code, message)


@pytest.mark.contract("2.1 error converters")
def test_one_of_ours_is_returned_as_it_is() -> None:
    error = InvalidRequest("x", code="invalid_name")
    assert from_legacy(error) is error
    assert from_legacy((ERROR, error)) is error


@pytest.mark.contract("2.1 error converters")
def test_our_errors_are_legacy_symbols_unless_their_reason_has_a_text() -> None:
    assert legacy_error(SessionNotFound("there is none", session="x")) == (ERROR, NOT_FOUND)
    assert legacy_error(InvalidRequest("too much", code="message_too_long")) == (
        ERROR,
        ("message_too_long", "too much"),
    )
    assert legacy_error(InvalidRequest("no", code="invalid_name"), listed=True) == (ERROR, ["invalid_name"])
    assert legacy_error(SessionNotFound(), listed=True) == (ERROR, NOT_FOUND)


@pytest.mark.contract("2.1 error texts")
@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("as it is", "as it is"),
        ("", ""),
        (NOT_FOUND, "not_found"),
        ((ERROR, NOT_FOUND), "not_found"),
        (("error", ("error", ("error", "deep"))), "deep"),
        (("lua_error", "attempt to index nil", object()), "attempt to index nil"),
        (("error", ("lua_error", ("error", "inner"), [])), "inner"),
        ({"message": "told", "code": 1}, "told"),
        ({"message": 5}, "{'message': 5}"),
        ((NOT_FOUND, "x"), "(:not_found, 'x')"),
        (["error", "x"], "['error', 'x']"),
        (None, "None"),
        (SessionNotFound("gone", hint="look"), "gone (hint: look)"),
    ],
)
def test_any_error_is_a_text(error: object, text: str) -> None:
    assert format_text(error) == text
    assert type(format_text(error)) is str


@pytest.mark.contract("2.1 error texts")
def test_a_deep_or_large_error_has_a_bounded_text() -> None:
    deep: object = "bottom"
    for _ in range(100_000):
        deep = ("error", deep)
    assert format_text(deep) == "bottom"
    assert len(format_text([0] * 100_000)) < 3_000
    while isinstance(deep, tuple):  # taken apart by hand: Python frees deep nests by recursion
        deep = deep[1]
