"""The plan: todos, in the order in which they were given.

    {id, content, status, metadata}

Rules: content is a text that is not blank; the ids of one list differ; a list that is too long is refused, since to cut a
plan would be to change it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.code_session.bounded_lists import BoundedList
from procession.agent_proc.agent.code_session.bounds import TODOS_MAX
from procession.agent_proc.agent.code_session.checks import (
    a_choice,
    a_filled_text,
    a_list,
    an_element,
    an_id,
    id_of,
    metadata_of,
)
from procession.agent_proc.agent.texts import shown
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import State, Value

STATUSES: Final = ("pending", "in_progress", "completed")
CODE: Final = "invalid_todo"
TODOS: Final = BoundedList("todos", ("todos",), TODOS_MAX, CODE)

_KEYS: Final = frozenset({"id", "content", "status", "metadata"})


def _new_todo(given: object, moment: Moment, what: str) -> dict[str, Value]:
    fields = an_element(given, what, code=CODE)
    status = fields.get("status")
    return {
        "id": id_of(fields, what, moment, code=CODE),
        "content": a_filled_text(fields.get("content"), f"{what}: content", code=CODE),
        "status": "pending" if status is None else a_choice(status, f"{what}: status", STATUSES, code=CODE),
        "metadata": metadata_of(fields, what, _KEYS, code=CODE),
    }


def update_todos(state: State, moment: Moment, todos: Value) -> Change:
    """Replace the whole plan, and answer with it. Raises InvalidRequest: invalid_todo, duplicate_todo, too_many_todos."""
    given = a_list(todos, "todos", code=CODE)
    _check_room(len(given))
    made = [_new_todo(one, moment, f"todos[{index}]") for index, one in enumerate(given)]
    seen: set[str] = set()
    for index, todo in enumerate(made):
        if todo["id"] in seen:
            raise _duplicate(f"todos[{index}]", todo["id"])
        seen.add(todo["id"])
    return Change(TODOS.replace(state, made, "todos"), made)


def add_todo(state: State, moment: Moment, todo: Value) -> Change:
    """Add one todo to the end, and answer with it. Raises InvalidRequest: invalid_todo, duplicate_todo, too_many_todos."""
    made = _new_todo(todo, moment, "todo")
    _check_room(len(TODOS.items(state)) + 1)
    if TODOS.find(state, made["id"]) is not None:
        raise _duplicate("todo", made["id"])
    return Change(TODOS.append(state, made, "todo"), made)


def update_todo(state: State, _moment: Moment, id: Value, content: Value = None, status: Value = None) -> Change:
    """Change the content or the status of one todo, and answer with it. Raises InvalidRequest: todo_not_found, invalid_todo."""
    todo = _found(state, id)
    attrs: dict[str, Value] = {}
    if content is not None:
        attrs["content"] = a_filled_text(content, "content", code=CODE)
    if status is not None:
        attrs["status"] = a_choice(status, "status", STATUSES, code=CODE)
    changed = {key: value for key, value in attrs.items() if todo[key] != value}
    ops = TODOS.update(state, todo, changed, "todo") if changed else ()
    return Change(ops, {**todo, **changed})


def complete_todo(state: State, moment: Moment, id: Value) -> Change:
    """Mark one todo as completed, and answer with it. Raises InvalidRequest, code todo_not_found."""
    return update_todo(state, moment, id, status="completed")


def remove_todo(state: State, _moment: Moment, id: Value) -> Change:
    """Drop one todo, and answer with it. Raises InvalidRequest, code todo_not_found."""
    todo = _found(state, id)
    return Change(TODOS.remove(state, [todo["id"]]), dict(todo))


def get_todos(state: State) -> list[Value]:
    """Return the plan, in its order."""
    return TODOS.items(state)


def _found(state: State, id: Value) -> Mapping[str, Value]:
    todo = TODOS.find(state, an_id(id, "id", code=CODE))
    if todo is None:
        raise InvalidRequest(f"there is no todo {shown(id)}", code="todo_not_found", hint="get_todos() lists their ids")
    return todo


def _check_room(count: int) -> None:
    if count > TODOS_MAX:
        raise InvalidRequest(
            f"a plan has at most {TODOS_MAX} todos, not {count}", code="too_many_todos", hint="remove what is completed"
        )


def _duplicate(what: str, id: str) -> InvalidRequest:
    return InvalidRequest(f"{what}: there is a todo {shown(id)} already", code="duplicate_todo")
