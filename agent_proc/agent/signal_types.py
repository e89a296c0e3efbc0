"""The types of procession's own signals, by name, and the names that the reference's plans gave to the same things.

It is *not* a list of what may be sent: any dotted type is somebody's. Rules: everything of ours begins with `procession.`;
inside there is one name for one thing, and the older names are translated on the way in and offered on the way out. Where
they had one name for what is to happen and for what has happened, on the way in it is taken for the former.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from procession.agent_proc.agent.signals import Signal

PREFIX: Final = "procession."

# -- what a code session is asked to do ------------------------------------------------------------------------------
MESSAGE: Final = PREFIX + "session.message"
TODOS_UPDATE: Final = PREFIX + "session.todos.update"
CONFIG_UPDATE: Final = PREFIX + "session.config.update"
LANGUAGE_UPDATE: Final = PREFIX + "session.language.update"
RENAME: Final = PREFIX + "session.rename"
STATE_UPDATE: Final = PREFIX + "session.state.update"
MEMORY_STORE: Final = PREFIX + "memory.store"
MEMORY_FORGET: Final = PREFIX + "memory.forget"

# -- what happened in a session --------------------------------------------------------------------------------------
MESSAGE_APPENDED: Final = PREFIX + "session.message.appended"
STATE_CHANGED: Final = PREFIX + "session.state.changed"
CONFIG_UPDATED: Final = PREFIX + "session.config.updated"

STREAM_START: Final = PREFIX + "session.stream.start"
STREAM_CHUNK: Final = PREFIX + "session.stream.chunk"
STREAM_END: Final = PREFIX + "session.stream.end"
STREAM_ERROR: Final = PREFIX + "session.stream.error"

TOOL_CALL: Final = PREFIX + "tool.call"
TOOL_RESULT: Final = PREFIX + "tool.result"
TOOL_ERROR: Final = PREFIX + "tool.error"

FILE_READ: Final = PREFIX + "file.read"
FILE_WRITE: Final = PREFIX + "file.write"
FILE_LIST: Final = PREFIX + "file.list"

MEMORY_STORED: Final = PREFIX + "memory.stored"
MEMORY_RECALLED: Final = PREFIX + "memory.recalled"
MEMORY_FORGOTTEN: Final = PREFIX + "memory.forgotten"
MEMORY_PROMOTED: Final = PREFIX + "memory.promoted"

# -- the life of a session -------------------------------------------------------------------------------------------
LIFECYCLE: Final = tuple(
    f"{PREFIX}session.{word}"
    for word in ("started", "stopped", "crashed", "restarted", "hibernated", "woken", "migrated", "failed")
)

# -- between an agent, its server and its children -------------------------------------------------------------------
AGENT_STOP: Final = PREFIX + "agent.stop"
AGENT_CANCEL: Final = PREFIX + "agent.cancel"
AGENT_ERROR: Final = PREFIX + "agent.error"
AGENT_ORPHANED: Final = PREFIX + "agent.orphaned"
CHILD_STARTED: Final = PREFIX + "agent.child.started"
CHILD_EXIT: Final = PREFIX + "agent.child.exit"
CALL_ANSWERED: Final = PREFIX + "agent.call.answered"
"""From the host to an agent that called another one: call_id, and result or reason. The server takes it, no route sees it."""
SCHEDULED: Final = PREFIX + "scheduled"
CRON_TICK: Final = PREFIX + "cron.tick"

ADVISORY: Final = frozenset({AGENT_CANCEL, AGENT_ERROR, AGENT_ORPHANED, CHILD_STARTED, CHILD_EXIT, TOOL_RESULT})
"""What the server tells an agent that may care: one that has no route for it has not made a mistake."""

_LEGACY: Final[Mapping[str, tuple[str, ...]]] = {
    MESSAGE_APPENDED: ("jido_code.session.message", "jido_code.message.append"),
    STATE_CHANGED: ("jido_code.session.state_changed", "jido_code.state.change"),
    CONFIG_UPDATED: ("jido_code.session.config",),
    TOOL_CALL: ("jido_code.tool.call",),
    TOOL_RESULT: ("jido_code.tool.result",),
    TOOL_ERROR: ("jido_code.tool.error",),
    FILE_READ: ("jido_code.file.read",),
    FILE_WRITE: ("jido_code.file.write",),
    FILE_LIST: ("jido_code.file.list",),
    MEMORY_STORED: ("jido_code.memory.stored",),
    MEMORY_RECALLED: ("jido_code.memory.recalled",),
    MEMORY_FORGOTTEN: ("jido_code.memory.forgotten",),
    MEMORY_PROMOTED: ("jido_code.memory.promoted",),
    AGENT_STOP: ("jido.agent.stop",),
    AGENT_CANCEL: ("jido.agent.cancel",),
    AGENT_ERROR: ("jido.agent.error",),
    AGENT_ORPHANED: ("jido.agent.orphaned",),
    CHILD_STARTED: ("jido.agent.child.started",),
    CHILD_EXIT: ("jido.agent.child.exit",),
    SCHEDULED: ("jido.scheduled",),
    CRON_TICK: ("jido.cron_tick",),
}
"""Ours, and what the two plans (and their runtime) called it, the name to offer first."""

ASKED_BY: Final[Mapping[str, str]] = {
    MESSAGE_APPENDED: MESSAGE,
    STATE_CHANGED: STATE_UPDATE,
    CONFIG_UPDATED: CONFIG_UPDATE,
    MEMORY_STORED: MEMORY_STORE,
    MEMORY_FORGOTTEN: MEMORY_FORGET,
}
"""What happened, and what asks for it; all other types are the same both ways."""

_TRANSLATED: Final[Mapping[str, str]] = {
    legacy: ASKED_BY.get(ours, ours) for ours, names in _LEGACY.items() for legacy in names
}


def translated(signal: Signal) -> Signal:
    """Return `signal` under our name for it; one that has no older name is returned as it is."""
    ours = _TRANSLATED.get(signal.type)
    return signal if ours is None else msgspec.structs.replace(signal, type=ours)


def legacy_types(type_: str) -> tuple[str, ...]:
    """Return the names under which a listener of the reference knows our `type_`, the usual one first."""
    return _LEGACY.get(type_, ())
