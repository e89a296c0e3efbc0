"""Values that are almost what is wanted: subclasses of text and numbers, numbers of thousands of digits, secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from procession import Host, InvalidRequest, Limits, Sandbox, Session, tool

pytestmark = pytest.mark.process

HUGE = 10**5000
KEY = "AKIAIOSFODNN7EXAMPLE"


class Text(str):
    __slots__ = ()


class Number(int):
    __slots__ = ()


@tool
def fails_with_a_key() -> None:
    """Say what nobody should read."""
    raise ValueError(f"key {KEY}")


@tool
def tells_fields() -> dict[str, Any]:
    """Return secrets that only their fields tell."""
    return {"token": "zzz", "name": "Ann", "db": {"DB_PASSWORD": "correct horse battery"}}


@tool
def huge() -> int:
    """Return a number that Python does not write."""
    return HUGE


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off(), tools=[fails_with_a_key, tells_fields, huge]) as opened:
        opened.remove_session(opened.start_session().id)  # its zygote is the fixture's
        yield opened


@pytest.fixture
def session(host: Host) -> Iterator[Session]:
    started = host.start_session()
    yield started
    assert started.status().incarnation == 1
    assert started.get_state() == started.committed_state()
    host.remove_session(started.id)


@pytest.mark.contract("1.2 wrong types")
@pytest.mark.parametrize(
    "start",
    [
        {"limits": Limits(processes=Number(30))},
        {"restart": Text("temporary")},
        {"parallel_runs": Number(30)},
        {"language": Text("go")},
    ],
    ids=str,
)
def test_a_start_with_a_value_that_cannot_be_sent_is_refused_and_leaves_nothing(
    host: Host, start: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        host.start_session(**start)
    assert caught.value.code == "not_plain_data"
    assert host.list_sessions(all=True) == []


@pytest.mark.contract("1.2 wrong types")
@pytest.mark.parametrize(
    "work",
    [
        lambda session: session.grant_tier(Text("privileged")),
        lambda session: session.record_consent(Text("exec")),
        lambda session: session.run(len, "a", limits=Limits(processes=Number(30))),
        lambda session: session.run_code(Text("1")),
        lambda session: session.call_tool(Text("huge")),
        lambda session: session.send_message(Text("x")),
    ],
)
def test_a_call_with_one_is_refused_and_nothing_of_it_is_kept(
    session: Session, work: Callable[[Session], object]
) -> None:
    before = session.permissions()
    with pytest.raises(InvalidRequest) as caught:
        work(session)
    assert caught.value.code == "not_plain_data"
    assert session.permissions() == before


@pytest.mark.contract("1.2 wrong types")
@pytest.mark.parametrize(
    "work",
    [
        lambda session: session.set_scroll_offset(HUGE),
        lambda session: session.append_message("user", HUGE),
        lambda session: session.update_todos([HUGE]),
        lambda session: session.memory.set_promotion_interval(HUGE),
        lambda session: session.memory.recall("x", limit=HUGE),
        lambda session: session.get_state(timeout=HUGE),
        lambda session: session.grant_tier(HUGE),
        lambda session: Limits(memory=HUGE),
        lambda session: session.streaming.start([]),
        lambda session: session.streaming.start(""),
    ],
)
def test_a_number_that_cannot_be_written_is_told_by_its_size(
    session: Session, work: Callable[[Session], object]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        work(session)
    assert caught.value.ran == "no"


def test_a_tool_may_return_one(session: Session) -> None:
    assert session.call_tool("huge") == HUGE
    (result,) = session.execute_tool_calls({"id": "h", "name": "huge", "arguments": {}})
    assert (result.status, result.content) == ("ok", f"an integer of {HUGE.bit_length()} bits")


@pytest.mark.contract("2.5 sanitizer")
def test_neither_a_model_nor_the_record_is_told_a_secret(session: Session) -> None:
    calls: list[dict[str, Any]] = [
        {"id": name, "name": name, "arguments": {}} for name in ("fails_with_a_key", "tells_fields")
    ]
    failed, told = session.execute_tool_calls(calls)
    assert (failed.status, failed.content) == ("error", "ValueError: key [REDACTED:aws_access_key]")
    assert told.content == '{"token":"[REDACTED]","name":"Ann","db":{"DB_PASSWORD":"[REDACTED]"}}'
    records = {call.id: call for call in session.get_tool_calls()}
    assert KEY not in str(records)
    assert "correct horse" not in str(records)
    assert session.call_tool("tells_fields")["token"] == "zzz"


@pytest.mark.contract("1.3 set_promotion_interval")
def test_a_wrong_interval_is_told_before_the_session_is_looked_up(host: Host) -> None:
    gone = host.start_session()
    host.remove_session(gone.id)
    with pytest.raises(InvalidRequest) as caught:
        gone.memory.set_promotion_interval(0)
    assert caught.value.code == "invalid_interval"
