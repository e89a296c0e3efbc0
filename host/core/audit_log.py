"""What models had tools do: the last 10 000 calls, who made them, which tool, and how they ended.

Pure: the time is an argument. It is *not* the journal (nothing is rebuilt from it) and holds no arguments: a hash tells
whether two calls were the same and gives nothing away that could not be guessed. Rules: every call that a model chose is
recorded, the refused ones too; entries are numbered from 1 without gaps, and never change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from itertools import islice
from typing import Final

from procession.ipc.core.bounds import RESULT_NODES_MAX
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.records import AUDIT_STATUSES, AuditEntry, AuditStatus
from procession.ipc.core.values import encode_value

#: At some 400 bytes an entry, 4 MB.
ENTRIES_MAX: Final = 10_000
ROWS_DEFAULT: Final = 1_000
#: 128 bits: no two of the calls ever kept are alike by chance.
HASH_CHARS: Final = 32
#: Names come from a model; those of tools are at most this long.
NAME_CHARS_MAX: Final = 64
CODE_CHARS_MAX: Final = 64


class AuditLog:
    """See the module's text. Not locked: its owner is."""

    __slots__ = ("_entries", "_number")

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._entries: deque[AuditEntry] = deque(maxlen=entries_max)
        self._number = 0

    def __len__(self) -> int:
        return len(self._entries)

    def record(
        self,
        session: str,
        tool: str,
        status: AuditStatus,
        at: datetime,
        *,
        code: str = "",
        duration_ms: int = 0,
        arguments: Mapping[str, object] | None = None,
    ) -> AuditEntry:
        """Add a call, losing the oldest when there is no room. arguments: hashed, not kept."""
        if status not in AUDIT_STATUSES:
            raise InvalidRequest(
                f"there is no status {status!r}", code="invalid_status", hint="use one of " + ", ".join(AUDIT_STATUSES)
            )
        self._number += 1
        entry = AuditEntry(
            number=self._number,
            at=at,
            session=session,
            tool=tool[:NAME_CHARS_MAX],
            status=status,
            code=code[:CODE_CHARS_MAX],
            duration_ms=duration_ms,
            arguments_hash="" if arguments is None else hash_arguments(arguments),
        )
        self._entries.append(entry)
        return entry

    def rows(
        self, *, session: str | None = None, tool: str | None = None, limit: int = ROWS_DEFAULT
    ) -> list[AuditEntry]:
        """List entries, newest first, of one session and one tool if given. Raises InvalidRequest, code invalid_limit."""
        if type(limit) is not int or limit < 0:
            raise InvalidRequest(
                f"limit is {limit!r}, not a whole number of entries", code="invalid_limit", hint="0 or more"
            )
        found = (
            entry
            for entry in reversed(self._entries)
            if (session is None or entry.session == session) and (tool is None or entry.tool == tool)
        )
        return list(islice(found, limit))


def hash_arguments(arguments: Mapping[str, object]) -> str:
    """Return 32 hexadecimal digits that are the same for the same arguments, in whatever order they are named.

    arguments: data of the closed table; what is none raises UnsupportedValue.
    """
    data = encode_value(_in_order(arguments), path="arguments", nodes_max=RESULT_NODES_MAX)
    return sha256(data).hexdigest()[:HASH_CHARS]


def _in_order(value: object) -> object:
    """Return `value` with the entries of each mapping in one order."""
    if isinstance(value, Mapping):
        return {key: _in_order(value[key]) for key in sorted(value, key=repr)}
    if isinstance(value, list):
        return [_in_order(item) for item in value]
    return value
