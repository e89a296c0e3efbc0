"""Messages: what one must have, which are kept, and pages of them."""

from __future__ import annotations

import datetime as dt
import timeit

import pytest

from helpers.code_session import START, Played
from procession.agent_proc.agent.code_session.messages import ROLES, get_messages
from procession.ipc.core.state_ops import AppendItems, PrependItems, SetState


def user(content: object = "hello", **fields: object) -> dict[str, object]:
    return {"role": "user", "content": content, **fields}


@pytest.fixture
def session() -> Played:
    return Played()


def test_a_new_session_has_no_messages(session: Played):
    assert session.messages() == []


def test_a_message_is_kept_with_id_time_and_empty_metadata(session: Played):
    reply = session.do("append_message", message=user())
    assert reply == {"id": "new-1", "role": "user", "content": "hello", "timestamp": START, "metadata": {}}
    assert session.messages() == [reply]


def test_messages_are_read_oldest_first(session: Played):
    for text in ("one", "two", "three"):
        session.do("append_message", message=user(text))
    assert session.contents() == ["one", "two", "three"]
    assert session.contents() == [message["content"] for message in session.ask("get_state")["messages"]]


@pytest.mark.parametrize("role", ROLES)
def test_every_role_is_taken(session: Played, role: str):
    assert session.do("append_message", message={"role": role, "content": ""})["role"] == role


@pytest.mark.parametrize(
    "content",
    ["", "text", "with \ud800 half a character", [], [{"type": "text", "text": "x"}, {"type": "image", "data": b"x"}]],
)
def test_content_is_a_text_or_a_list_of_parts(session: Played, content: object):
    assert session.do("append_message", message=user(content))["content"] == content


def test_content_may_be_none_beside_tool_calls(session: Played):
    calls = [{"id": "c1", "name": "read", "arguments": {"path": "a.py"}}]
    reply = session.do("append_message", message={"role": "assistant", "content": None, "tool_calls": calls})
    assert reply["content"] is None
    assert reply["tool_calls"] == calls


def test_other_keys_are_kept_in_metadata_and_win_over_what_is_there(session: Played):
    message = user(metadata={"a": 1, "b": 1}, b=2, name="Ada")
    assert session.do("append_message", message=message)["metadata"] == {"a": 1, "b": 2, "name": "Ada"}


def test_a_message_that_was_read_can_be_added_again_as_it_is(session: Played):
    made = session.do("append_message", message=user(extra=1))
    assert session.do("append_message", message=made) == made


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2024-02-29T10:00:00Z", dt.datetime(2024, 2, 29, 10, tzinfo=dt.UTC)),
        ("2024-02-29T10:00:00+02:00", dt.datetime(2024, 2, 29, 8, tzinfo=dt.UTC)),
        (
            dt.datetime(2024, 2, 29, 10, tzinfo=dt.timezone(dt.timedelta(hours=-1))),
            dt.datetime(2024, 2, 29, 11, tzinfo=dt.UTC),
        ),
    ],
)
def test_a_time_that_was_given_is_kept_in_utc(session: Played, given: object, kept: dt.datetime):
    timestamp = session.do("append_message", message=user(timestamp=given))["timestamp"]
    assert timestamp == kept
    assert timestamp.tzinfo is dt.UTC


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("hello", "message must be a dict"),
        ({}, "role"),
        ({1: 2}, "texts as keys"),
        (user(role="robot"), "role must be one of system, developer, user, assistant, tool, not 'robot'"),
        (user(role=["user"]), "role"),
        ({"role": "user"}, "content must be"),
        (user(None), "content must be"),
        (user(None, tool_calls=[]), "content must be"),
        (user(7), "not 7"),
        (user(("a",)), "content must be"),
        (user(["a"]), "content[0]"),
        (user([{"type": "text"}, {1: 2}]), "content[1]"),
        (user(tool_calls="x"), "tool_calls must be a list"),
        (user(tool_calls=[{}, 1]), "tool_calls[1]"),
        (user(id=""), "id has 1 to 256 characters"),
        (user(id=7), "id must be a text"),
        (user(id="x" * 257), "257"),
        (user(metadata=[]), "metadata"),
        (user(timestamp="yesterday"), "timestamp"),
        (user(timestamp=7.5), "timestamp"),
        (user(timestamp=dt.datetime(2024, 1, 1)), "time zone"),  # noqa: DTZ001 - the naive one is the point
        (user(timestamp=dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))), "timestamp"),
        (user(when=object()), "metadata"),
        (user([{"deep": {"x": [object()]}}]), "['x'][0]"),
    ],
)
def test_what_is_no_message_is_refused_by_name_and_changes_nothing(session: Played, message: object, named: str):
    session.do("append_message", message=user())
    error = session.refusal("invalid_message", "append_message", message=message)
    assert named in str(error)
    assert error.ran == "no"


def test_data_that_nest_too_deep_are_refused(session: Played):
    deep: object = "x"
    for _ in range(40):
        deep = [deep]
    assert "deep" in str(session.refusal("invalid_message", "append_message", message=user(nested=deep)))


def test_data_that_contain_themselves_are_refused(session: Played):
    loop: list[object] = []
    loop.append(loop)
    session.refusal("invalid_message", "append_message", message=user(nested=loop))


def test_the_newest_thousand_are_kept(session: Played):
    session.fill("append_message", ({"message": user(str(count))} for count in range(1003)))
    assert session.contents() == [str(count) for count in range(3, 1003)]


@pytest.mark.contract("2.2 builders")
def test_appending_is_one_op_for_the_message_and_one_for_its_size(session: Played):
    ops = session.change("append_message", message=user()).ops
    assert [type(op) for op in ops] == [AppendItems, SetState]
    assert isinstance(ops[0], AppendItems)
    assert [item["content"] for item in ops[0].items] == ["hello"]


@pytest.mark.contract("2.2 builders")
def test_prepending_puts_a_message_before_all_others(session: Played):
    session.do("append_message", message=user("one"))
    ops = session.change("prepend_message", message=user("zero")).ops
    assert isinstance(ops[0], PrependItems)
    session.do("prepend_message", message=user("zero"))
    assert session.contents() == ["zero", "one"]


def test_prepending_to_a_full_list_is_refused(session: Played):
    session.fill("append_message", ({"message": user()} for _ in range(1000)))
    session.refusal("messages_full", "prepend_message", message=user())


@pytest.mark.contract("2.2 builders")
def test_clearing_leaves_none_and_frees_their_size(session: Played):
    session.do("append_message", message=user())
    assert session.do("clear_messages") == []
    assert session.messages() == []
    assert session.state["sizes"]["messages"] == 0
    assert session.change("clear_messages").ops == ()


@pytest.mark.contract("2.2 builders")
def test_setting_replaces_all_and_keeps_the_newest(session: Played):
    session.do("append_message", message=user("old"))
    reply = session.do("set_messages", messages=[user(str(count)) for count in range(1002)])
    assert session.messages() == reply
    assert session.contents() == [str(count) for count in range(2, 1002)]
    assert session.do("set_messages", messages=[]) == []


def test_setting_names_the_bad_one_and_changes_nothing(session: Played):
    messages = [user(), user(), user(role="robot")]
    assert "messages[2]: role" in str(session.refusal("invalid_message", "set_messages", messages=messages))
    session.refusal("invalid_message", "set_messages", messages={"role": "user"})
    assert "messages[1]" in str(
        session.refusal("invalid_message", "set_messages", messages=[user(), user(extra=object())])
    )


# -- pages -----------------------------------------------------------------------------------------------------------


def meta(total: int, offset: int, limit: int, returned: int, *, has_more: bool) -> dict[str, object]:
    return {"total": total, "offset": offset, "limit": limit, "returned": returned, "has_more": has_more}


@pytest.mark.parametrize(
    ("count", "asked", "expected", "first"),
    [
        (10, {"offset": 0, "limit": 5}, meta(10, 0, 5, 5, has_more=True), "0"),
        (10, {"offset": 5, "limit": 5}, meta(10, 5, 5, 5, has_more=False), "5"),
        (10, {"offset": 4, "limit": 5}, meta(10, 4, 5, 5, has_more=True), "4"),
        (10, {"offset": 8, "limit": 5}, meta(10, 8, 5, 2, has_more=False), "8"),
        (10, {"offset": 10, "limit": 5}, meta(10, 10, 5, 0, has_more=False), None),
        (10, {"offset": 99, "limit": 5}, meta(10, 99, 5, 0, has_more=False), None),
        (10, {"offset": 3}, meta(10, 3, 10, 7, has_more=False), "3"),
        (10, {}, meta(10, 0, 10, 10, has_more=False), "0"),
        (0, {"offset": 0, "limit": 10}, meta(0, 0, 10, 0, has_more=False), None),
        (0, {}, meta(0, 0, 0, 0, has_more=False), None),
    ],
)
def test_a_page_says_where_it_is(session: Played, count: int, asked: dict[str, int], expected: object, first: object):
    session.fill("append_message", ({"message": user(str(number))} for number in range(count)))
    page = session.ask("get_messages", **asked)
    assert page["meta"] == expected
    assert len(page["messages"]) == page["meta"]["returned"]
    assert [message["content"] for message in page["messages"][:1]] == ([] if first is None else [first])


@pytest.mark.parametrize(
    "asked", [{"offset": -1}, {"offset": True}, {"offset": "0"}, {"limit": 0}, {"limit": -1}, {"limit": 1.0}]
)
def test_a_page_that_cannot_be_is_refused(session: Played, asked: dict[str, object]):
    session.refusal("invalid_page", "get_messages", **asked)


def test_a_page_costs_the_same_among_ten_and_among_a_thousand(session: Played):
    session.fill("append_message", ({"message": user()} for _ in range(10)))
    few = session.state
    session.fill("append_message", ({"message": user()} for _ in range(990)))
    many = session.state

    def seconds(state: object) -> float:
        return min(timeit.repeat(lambda: get_messages(state, 2, 5), number=500, repeat=9))  # type: ignore[arg-type]

    assert seconds(many) < 2 * seconds(few)  # a scan of the thousand would be a hundredfold
