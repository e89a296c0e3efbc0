"""A session's record as the flat fields of an agent's state, and back: the two shapes that the source documents name.

    {id, project_path, config, …}  <->  {session_id, project_path, llm_config, promotion_enabled, …}

It is *not* the migration of a session (that also turns its lists round), and checks no
values but that a config is a map (invalid_config).

Rules: nothing is dropped in silence: what the other shape has no place for is named. A round trip gives back what went
in, an agent's `project_root` as `project_path`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from procession.agent_proc.agent.record.config import CONFIG_KEYS, PROMOTION_KEYS, config_reasons
from procession.agent_proc.agent.record.reasons import Reason, refusal, shown
from procession.ipc.core.state_ops import Value

AGENT_NAMES: Final[dict[str, str]] = {
    "id": "session_id",
    "name": "name",
    "project_path": "project_path",
    "config": "llm_config",
    "language": "language",
    "connection_status": "connection_status",
    "created_at": "created_at",
    "updated_at": "updated_at",
}
"""The fields of a record, and what an agent calls them."""
_SESSION_NAMES: Final = {agent: session for session, agent in AGENT_NAMES.items()} | {"project_root": "project_path"}


class Converted(NamedTuple):
    """The other shape, and the paths of what has no place in it."""

    fields: dict[str, Value]
    unsupported: tuple[str, ...]


def to_agent(session: Mapping[str, Value]) -> Converted:
    """Return a session's record as an agent's fields."""
    fields: dict[str, Value] = {}
    unsupported: list[str] = []
    for key, value in session.items():
        if key not in AGENT_NAMES:
            unsupported.append(key)
        elif key == "config":
            _check_map(value)
            fields["llm_config"] = {name: value[name] for name in value if name in CONFIG_KEYS}
            fields.update({name: value[name] for name in value if name in PROMOTION_KEYS})
            unsupported += [f"config.{name}" for name in value if name not in (*CONFIG_KEYS, *PROMOTION_KEYS)]
        else:
            fields[AGENT_NAMES[key]] = value
    return Converted(fields, tuple(unsupported))


def to_session(fields: Mapping[str, Value]) -> Converted:
    """Return an agent's fields as a session's record; its config is there when the agent's is, or has promotion fields."""
    session: dict[str, Value] = {}
    config: dict[str, Value] = {}
    unsupported: list[str] = []
    for key, value in fields.items():
        if key in PROMOTION_KEYS:
            config[key] = value
        elif key not in _SESSION_NAMES or (key == "project_root" and "project_path" in fields):
            unsupported.append(key)
        elif key == "llm_config":
            _check_map(value)
            config.update({name: value[name] for name in value if name in CONFIG_KEYS})
            unsupported += [f"llm_config.{name}" for name in value if name not in CONFIG_KEYS]
        else:
            session[_SESSION_NAMES[key]] = value
    if config or "llm_config" in fields:
        session["config"] = config
    return Converted(session, tuple(unsupported))


def _check_map(config: Value) -> None:
    if not isinstance(config, Mapping):
        raise refusal(*config_reasons(config))


def time_text(at: datetime) -> str:
    """Return a time as text: ISO 8601, in UTC, to the microsecond."""
    assert at.tzinfo is not None, "without a zone, it is no time"
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def time_of(text: str) -> datetime:
    """Return the time that a text of ISO 8601 means, in UTC. Raises InvalidRequest (invalid_timestamp)."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):  # not a time, not a text, a time of year 0
        pass
    raise refusal(Reason("invalid_timestamp", f"a time of ISO 8601 with its zone is needed, not {shown(text)}"))
