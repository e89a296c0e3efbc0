"""The access log: how often and when something was used, as far back as a thousand uses."""

from __future__ import annotations

import datetime as dt

import pytest

from helpers.code_session import START, Played


@pytest.fixture
def session() -> Played:
    return Played()


def test_what_was_never_used_has_no_time(session: Played):
    assert session.ask("get_access_stats", key="framework") == {"frequency": 0, "recency": None}


def test_all_kinds_of_access_count_alike(session: Played):
    for access_type in ("read", "write", "query"):
        assert session.do("record_access", key="framework", access_type=access_type) is None
    session.do("record_access", key="current_task", access_type="read")
    assert session.ask("get_access_stats", key="framework") == {
        "frequency": 3,
        "recency": START + dt.timedelta(seconds=2),
    }


@pytest.mark.parametrize("key", [("memory", "m1"), ["memory", "m1"]])
def test_a_memory_is_a_key_of_its_own(session: Played, key: object):
    session.do("record_access", key=key)
    session.do("record_access", key="m1")
    assert [entry["key"] for entry in session.state["access_log"]] == [["memory", "m1"], "m1"]
    assert session.state["access_log"][0] == {"key": ["memory", "m1"], "access_type": "read", "timestamp": START}
    assert session.ask("get_access_stats", key=key)["frequency"] == 1


def test_the_newest_thousand_are_kept_oldest_first(session: Played):
    session.fill("record_access", ({"key": str(count)} for count in range(1002)))
    assert [entry["key"] for entry in session.state["access_log"]] == [str(count) for count in range(2, 1002)]
    assert session.ask("get_access_stats", key="0")["frequency"] == 0


@pytest.mark.parametrize("key", [None, 7, "", ("memory",), ("other", "m1"), ["memory", 7], ["memory", "m1", "x"]])
def test_what_is_no_key_is_refused(session: Played, key: object):
    session.refusal("invalid_access", "record_access", key=key)
    session.refusal("invalid_access", "get_access_stats", key=key)


def test_another_access_type_is_refused(session: Played):
    session.refusal("invalid_access", "record_access", key="framework", access_type="delete")
