"""The state of a code session that becomes another session's: what its record says of itself is made true of the new one.

Pure. It is *not* a change of what was said or done in it: messages, todos and memories come along as they are. Rules: the
record changes by state ops, as it always does; what the agent server keeps beside a state (jobs, how it finished) is the old
session's, but what was under way comes along, so that the new one's process closes it as left by a death.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from procession.host.core.state_fold import StateFold
from procession.ipc.core.agent_keys import ANSWER_KEY, SERVER_KEYS, TOOLS_KEY
from procession.ipc.core.bounds import RESULT_NODES_MAX
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import AnyOp, InvalidOp, SetPath, apply
from procession.ipc.core.values import UnsupportedValue, encode_value

STAYS: Final[Collection[str]] = SERVER_KEYS - {ANSWER_KEY, TOOLS_KEY}
"""Beside a state, what does not go to another session with it."""
_RECORD: Final = "session"


def check_state(state: bytes, source: str) -> None:
    """Refuse bytes that are no state. Raises InvalidRequest (archive_damaged)."""
    if state:
        _state_of(state, source)


def moved(state: bytes, source: str, *, ident: str, name: str, project: str, at: datetime) -> bytes:
    """Return the state with a record that is the new session's. source: what errors call it.

    Raises InvalidRequest (archive_damaged) for what is no code session's state.
    """
    before = _state_of(state, source)
    record = before.get(_RECORD)
    if type(record) is not dict:
        raise _no_state(source, "it has no record of a session")
    new = {
        "id": ident,
        "name": name,
        "project_path": project,
        "connection_status": "disconnected",
        "created_at": at,
        "updated_at": at,
    }
    ops: list[AnyOp] = [SetPath(("session_id",), ident)]
    ops += [SetPath((_RECORD, key), value) for key, value in new.items()]
    try:
        return encode_value(apply(before, ops), path="state", nodes_max=RESULT_NODES_MAX)
    except (InvalidOp, UnsupportedValue) as error:
        raise _no_state(source, str(error)) from None


def _state_of(state: bytes, source: str) -> dict[str, object]:
    try:
        return StateFold(state).state
    except ProtocolBreach as breach:
        raise _no_state(source, breach.reason) from None


def _no_state(source: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"{source}: the state cannot be read: {what}", code="archive_damaged")
