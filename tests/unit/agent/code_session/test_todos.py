"""Todos: a plan in its order, replaced as a whole or changed one by one."""

from __future__ import annotations

import pytest

from helpers.code_session import Played
from procession.agent_proc.agent.code_session.bounds import TODOS_MAX
from procession.ipc.core.state_ops import RemoveItems, UpdateItem


@pytest.fixture
def session() -> Played:
    return Played()


def todo(id: str, content: str = "do it", status: str = "pending") -> dict[str, object]:
    return {"id": id, "content": content, "status": status, "metadata": {}}


PLAN = [todo("a"), todo("b", status="in_progress"), todo("c", status="completed")]


def test_a_plan_is_replaced_as_a_whole_and_keeps_its_order(session: Played):
    session.do("update_todos", todos=[todo("z")])
    assert session.do("update_todos", todos=PLAN) == PLAN
    assert session.ask("get_todos") == PLAN
    assert session.do("update_todos", todos=[]) == []
    assert session.ask("get_todos") == []


def test_what_is_not_given_is_filled_in(session: Played):
    assert session.do("update_todos", todos=[{"content": "x", "priority": "high"}]) == [
        {"id": "new-1", "content": "x", "status": "pending", "metadata": {"priority": "high"}}
    ]


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ("x", "todos[1] must be a dict"),
        ({}, "todos[1]: content"),
        ({"content": " \n"}, "not blank"),
        ({"content": "x", "status": "done"}, "pending, in_progress, completed, not 'done'"),
        ({"content": "x", "id": 7}, "todos[1]: id"),
    ],
)
def test_a_bad_todo_is_named_and_the_plan_stays(session: Played, bad: object, named: str):
    session.do("update_todos", todos=PLAN)
    assert named in str(session.refusal("invalid_todo", "update_todos", todos=[todo("a"), bad]))


def test_two_todos_with_one_id_are_refused(session: Played):
    assert "todos[2]" in str(session.refusal("duplicate_todo", "update_todos", todos=[todo("a"), todo("b"), todo("a")]))
    session.do("add_todo", todo=todo("a"))
    session.refusal("duplicate_todo", "add_todo", todo=todo("a"))


def test_a_plan_that_is_too_long_is_refused_not_cut(session: Played):
    session.do("update_todos", todos=[todo(str(count)) for count in range(TODOS_MAX)])
    session.refusal("too_many_todos", "update_todos", todos=[todo(str(count)) for count in range(TODOS_MAX + 1)])
    session.refusal("too_many_todos", "add_todo", todo=todo("one more"))


@pytest.mark.contract("2.2 builders")
def test_one_is_added_to_the_end(session: Played):
    session.do("update_todos", todos=PLAN)
    assert session.do("add_todo", todo=todo("d")) == todo("d")
    assert session.ask("get_todos") == [*PLAN, todo("d")]


@pytest.mark.contract("2.2 builders")
def test_one_is_changed_and_the_others_stay(session: Played):
    session.do("update_todos", todos=PLAN)
    change = session.change("update_todo", id="a", content="do that", status="in_progress")
    assert change.ops[0] == UpdateItem(("todos",), "id", "a", {"content": "do that", "status": "in_progress"})
    assert session.do("update_todo", id="a", content="do that", status="in_progress") == todo(
        "a", "do that", "in_progress"
    )
    assert session.do("complete_todo", id="b") == todo("b", status="completed")
    assert session.ask("get_todos") == [todo("a", "do that", "in_progress"), todo("b", status="completed"), PLAN[2]]


def test_a_change_that_changes_nothing_is_no_op(session: Played):
    session.do("update_todos", todos=PLAN)
    assert session.change("complete_todo", id="c").ops == ()
    assert session.do("complete_todo", id="c") == PLAN[2]


@pytest.mark.contract("2.2 builders")
def test_one_is_removed(session: Played):
    session.do("update_todos", todos=PLAN)
    assert session.change("remove_todo", id="b").ops[0] == RemoveItems(("todos",), "id", ("b",))
    assert session.do("remove_todo", id="b") == PLAN[1]
    assert session.ask("get_todos") == [PLAN[0], PLAN[2]]


@pytest.mark.parametrize("name", ["update_todo", "complete_todo", "remove_todo"])
def test_one_that_is_not_there_is_named(session: Played, name: str):
    assert "'zz'" in str(session.refusal("todo_not_found", name, id="zz"))
    session.refusal("invalid_todo", name, id=None)


@pytest.mark.parametrize("attrs", [{"content": ""}, {"content": 7}, {"status": "done"}])
def test_a_bad_change_is_refused(session: Played, attrs: dict[str, object]):
    session.do("update_todos", todos=PLAN)
    session.refusal("invalid_todo", "update_todo", id="a", **attrs)
