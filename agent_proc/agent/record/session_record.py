"""The record of a session: the one place where its name, config, language and connection are kept, and what changes them.

    state["session"] = {id, name, project_path, config, language, connection_status, created_at, updated_at}

It is *not* the session's collections (messages, todos, …), and not the host's view of it: names and paths of many
sessions are ruled by `host/registry.py`.

Rules: a change says only which fields it changes, so none can undo another; what is wrong changes nothing; a change to
what is there already is none. Validation at creation is the validation of any later time (`record_reasons`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final, Literal, get_args

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.record.config import CONFIG_KEYS, config_reasons, merged
from procession.agent_proc.agent.record.language import LANGUAGES, normalized, unknown
from procession.agent_proc.agent.record.names import id_text, name_reason
from procession.agent_proc.agent.record.project_path import ProjectFacts, place_reason, text_reason
from procession.agent_proc.agent.record.reasons import Reason, refusal, shown
from procession.ipc.core.state_ops import SetPath, State, Value

Record = dict[str, Value]

ConnectionStatus = Literal["disconnected", "connected", "error"]
CONNECTION_STATUSES: Final[tuple[ConnectionStatus, ...]] = get_args(ConnectionStatus)

KEY: Final = "session"
"""Where the record lies in the state."""
FIELDS: Final = (
    "id",
    "name",
    "project_path",
    "config",
    "language",
    "connection_status",
    "created_at",
    "updated_at",
)

# -- what a record must be -------------------------------------------------------------------------------------------


def record_reasons(record: Mapping[str, object], path: Reason | None) -> list[Reason]:
    """List everything that is wrong with a record, in the contract's order; `path` is what is wrong with its path.

    The contract's nine come first; a language and a connection status, which it does not check, come after them.
    """
    found = [_id_reason(record.get("id")), name_reason(record.get("name")), path]
    found += config_reasons(record.get("config"))
    found += [_time_reason(record.get(field), field) for field in ("created_at", "updated_at")]
    found += [_language_reason(record.get("language")), _status_reason(record.get("connection_status"))]
    return [reason for reason in found if reason is not None]


def validate(record: Mapping[str, object], facts: ProjectFacts) -> None:
    """Check a whole record against the rules and what was found at its path. Raises InvalidRequest with all codes."""
    path = record.get("project_path")
    wrong = text_reason(path)
    if wrong is None:
        wrong = place_reason(str(path), facts)
    reasons = record_reasons(record, wrong)
    if reasons:
        raise refusal(*reasons)


def _id_reason(given: object) -> Reason | None:
    if given is not None and id_text(given) == given:
        return None
    return Reason("invalid_id", f"a session id is a UUID in small letters, not {shown(given)}")


def _time_reason(given: object, field: str) -> Reason | None:
    if type(given) is datetime and given.utcoffset() == timedelta(0):
        return None
    return Reason(f"invalid_{field}", f"{field}: a time in UTC is needed, not {shown(given)}")


def _language_reason(given: object) -> Reason | None:
    return None if given in LANGUAGES else unknown(given)


def _status_reason(given: object) -> Reason | None:
    if type(given) is str and given in CONNECTION_STATUSES:
        return None
    text = f"connection_status: one of {', '.join(CONNECTION_STATUSES)} is needed, not {shown(given)}"
    return Reason("invalid_connection_status", text)


# -- what changes it -------------------------------------------------------------------------------------------------


def rename_session(state: State, moment: Moment, *, name: str) -> Change:
    """Give the session another name; the reply is its record. Raises InvalidRequest: invalid_name, name_too_long."""
    reason = name_reason(name)
    if reason is not None:
        raise refusal(reason)
    return _changed(state, moment, {("name",): name})


def update_session_config(state: State, moment: Moment, *, config: Mapping[str, Value]) -> Change:
    """Merge what is given into the config; the reply is the record.

    Raises InvalidRequest with a code for each value of the merged config that is wrong, or with invalid_config.
    """
    whole = merged(state[KEY]["config"], config)
    reasons = config_reasons(whole)
    if reasons:
        raise refusal(*reasons)
    return _changed(state, moment, {("config", name): whole[name] for name in CONFIG_KEYS})


def update_language(state: State, moment: Moment, *, language: str) -> Change:
    """Set the language, by any name it has; the reply is the record. Raises InvalidRequest: invalid_language."""
    return _changed(state, moment, {("language",): normalized(language)})


def set_connection_status(state: State, moment: Moment, *, status: ConnectionStatus) -> Change:
    """Note how the session stands with its model's provider; the reply is the record.

    Every status may follow every other: a first attempt fails, a connection breaks, one in error is given up.
    Raises InvalidRequest: invalid_connection_status.
    """
    reason = _status_reason(status)
    if reason is not None:
        raise refusal(reason)
    return _changed(state, moment, {("connection_status",): status})


def _changed(state: State, moment: Moment, values: Mapping[tuple[str, ...], Value]) -> Change:
    """Put those of the values that are other ones into the record, and the time with them."""
    record: Record = {**state[KEY], "config": dict(state[KEY]["config"])}
    new = [(path, value) for path, value in values.items() if not _has(record, path, value)]
    if new:
        new.append((("updated_at",), moment.at))
    for path, value in new:
        _inner(record, path)[path[-1]] = value
    return Change(ops=tuple(SetPath((KEY, *path), value) for path, value in new), reply=record)


def _inner(record: Record, path: tuple[str, ...]) -> Record:
    return record if len(path) == 1 else record[path[0]]


def _has(record: Record, path: tuple[str, ...], value: Value) -> bool:
    """Say whether this value is there already, of the same type: 1 is not 1.0."""
    inner = _inner(record, path)
    return path[-1] in inner and type(inner[path[-1]]) is type(value) and inner[path[-1]] == value


# -- what can be asked -----------------------------------------------------------------------------------------------


def get_session(state: State) -> Record:
    """Return the record."""
    record: Record = state[KEY]
    return record


def get_connection_status(state: State) -> ConnectionStatus:
    """Return how the session stands with its model's provider."""
    status: ConnectionStatus = state[KEY]["connection_status"]
    return status


ACTIONS: Final[Mapping[str, Callable[..., Change]]] = {
    action.__name__: action
    for action in (rename_session, update_session_config, update_language, set_connection_status)
}
QUERIES: Final[Mapping[str, Callable[..., Value]]] = {
    query.__name__: query for query in (get_session, get_connection_status)
}
