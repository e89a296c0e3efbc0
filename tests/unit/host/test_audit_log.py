"""The audit log: the last so many calls, newest first, with a hash in place of the arguments."""

from __future__ import annotations

import datetime as dt
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.host.core.audit_log import (
    CODE_CHARS_MAX,
    ENTRIES_MAX,
    HASH_CHARS,
    NAME_CHARS_MAX,
    ROWS_DEFAULT,
    AuditLog,
    hash_arguments,
)
from procession.ipc.core.errors import InvalidRequest

AT = dt.datetime(2025, 1, 2, tzinfo=dt.UTC)


def filled(count: int, **options: int) -> AuditLog:
    log = AuditLog(**options)
    for n in range(count):
        log.record("ab"[n % 2], "xyz"[n % 3], "ok", AT + dt.timedelta(seconds=n))
    return log


def test_an_entry_says_who_what_when_and_how_it_ended():
    arguments = {"path": "secret.txt"}
    entry = AuditLog().record("s", "read", "error", AT, code="not_found", duration_ms=7, arguments=arguments)
    assert entry.asdict() == {
        "number": 1,
        "at": AT.isoformat().replace("+00:00", "Z"),
        "session": "s",
        "tool": "read",
        "status": "error",
        "code": "not_found",
        "duration_ms": 7,
        "arguments_hash": hash_arguments(arguments),
    }


@pytest.mark.contract("2.5 audit log")
def test_no_argument_is_kept():
    log = AuditLog()
    log.record("s", "read", "ok", AT, arguments={"path": "secret.txt"})
    assert "secret" not in repr(log.rows())


@pytest.mark.contract("2.5 audit log")
def test_the_newest_come_first_and_numbers_have_no_gaps():
    assert [entry.number for entry in filled(5).rows()] == [5, 4, 3, 2, 1]


@pytest.mark.contract("2.5 audit log")
def test_the_ring_keeps_the_last_ten_thousand():
    log = filled(ENTRIES_MAX + 3)
    assert len(log) == ENTRIES_MAX == 10_000
    numbers = [entry.number for entry in log.rows(limit=ENTRIES_MAX * 2)]
    assert numbers == list(range(ENTRIES_MAX + 3, 3, -1))


@pytest.mark.contract("2.5 audit log")
def test_a_thousand_rows_unless_asked_otherwise():
    log = filled(ROWS_DEFAULT + 5)
    assert [entry.number for entry in log.rows()] == list(range(1_005, 5, -1))
    assert len(log.rows(limit=1_005)) == 1_005
    assert log.rows(limit=0) == []


def test_rows_of_one_session_and_one_tool():
    log = filled(12)
    assert [entry.number for entry in log.rows(session="a")] == [11, 9, 7, 5, 3, 1]
    assert [entry.number for entry in log.rows(tool="x")] == [10, 7, 4, 1]
    assert [entry.number for entry in log.rows(session="a", tool="x")] == [7, 1]
    assert [entry.number for entry in log.rows(session="a", tool="x", limit=1)] == [7]
    assert log.rows(session="c") == []


@pytest.mark.parametrize("limit", [-1, 1.5, True, "3", None])
def test_a_limit_is_a_whole_number(limit):
    with pytest.raises(InvalidRequest) as caught:
        AuditLog().rows(limit=limit)
    assert caught.value.code == "invalid_limit"


@pytest.mark.parametrize("status", ["ok", "error", "timeout", "blocked"])
def test_a_status_is_one_of_four(status):
    assert AuditLog().record("s", "t", status, AT).status == status
    with pytest.raises(InvalidRequest, match="use one of ok, error, timeout, blocked") as caught:
        AuditLog().record("s", "t", status.upper(), AT)
    assert caught.value.code == "invalid_status"


def test_a_refused_status_takes_no_number():
    log = AuditLog()
    with pytest.raises(InvalidRequest):
        log.record("s", "t", "done", AT)  # type: ignore[arg-type]
    assert log.record("s", "t", "ok", AT).number == 1


def test_texts_of_a_model_are_cut():
    entry = AuditLog().record("s", "t" * 1_000, "blocked", AT, code="c" * 1_000)
    assert (len(entry.tool), len(entry.code)) == (NAME_CHARS_MAX, CODE_CHARS_MAX)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
arguments = st.dictionaries(st.text(max_size=4), plain, max_size=5)


def turned(value: object) -> object:
    """Return the same data with every mapping written the other way round."""
    match value:
        case dict():
            return {key: turned(value[key]) for key in reversed(value)}
        case list():
            return [turned(item) for item in value]
        case _:
            return value


@given(arguments)
@settings(max_examples=examples(100), deadline=None)
def test_the_order_of_names_does_not_matter_to_the_hash(given_arguments):
    digits = hash_arguments(given_arguments)
    assert len(digits) == HASH_CHARS == 32
    assert set(digits) <= set(string.hexdigits.lower())
    other_way = turned(given_arguments)
    assert isinstance(other_way, dict)
    assert hash_arguments(other_way) == digits


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": [1]}, {"a": (1,)}),
        ({"a": "x"}, {"a": b"x"}),
        ({}, {"a": None}),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": None}}),
    ],
    ids=repr,
)
def test_other_arguments_have_another_hash(one, other):
    assert hash_arguments(one) != hash_arguments(other)


def test_a_call_whose_arguments_could_not_be_read_has_no_hash():
    assert AuditLog().record("s", "t", "blocked", AT).arguments_hash == ""
