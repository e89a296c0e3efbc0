"""What a code session tells those who follow it, read off the ops of a change: which field, what was done, to which elements.

    ops of one change ──▶ (type, data), ...         message.appended  file.read|write  stream.*  config.updated  state.changed

It is *not* who decides whether anybody is told (the server, which asks only while somebody follows), and not about memories
that are kept for long (`long_term.told`) or tools that run. Rules: ops are all that changes a state, so no action can be
forgotten here; values are not told, but messages and pieces of an answer; everything that is told is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias, assert_never

from procession.agent_proc.agent.code_session.sizes import held_bytes
from procession.agent_proc.agent.signal_types import (
    CONFIG_UPDATED,
    FILE_READ,
    FILE_WRITE,
    MESSAGE_APPENDED,
    STATE_CHANGED,
    STREAM_CHUNK,
    STREAM_END,
    STREAM_START,
)
from procession.ipc.core.bounds import KiB
from procession.ipc.core.state_op_types import (
    AppendItems,
    AppendText,
    DeleteKeys,
    DeletePath,
    PrependItems,
    PutEntry,
    RemoveItems,
    ReplaceState,
    SetPath,
    SetState,
    UpdateItem,
)
from procession.ipc.core.state_ops import AnyOp, Path, State, Value

TEXT_CHARS_MAX: Final = 32 * KiB
"""Of a message or a piece that is told: with the signal around it, it stays well within one frame."""
IDS_MAX: Final = 32
"""Ids, or keys, of elements that are told; what is beyond is only counted."""

News: TypeAlias = list[tuple[str, dict[str, Value]]]

_UNTOLD: Final = frozenset({"sizes", "budgets", "memories"})
_STREAM: Final = frozenset({"is_streaming", "streaming_message", "streaming_message_id"})
_FILES: Final[Mapping[str, str]] = {"file_reads": FILE_READ, "file_writes": FILE_WRITE}
_NESTED: Final[Mapping[str, tuple[str, ...]]] = {
    "working_context": ("items",),
    "pending_memories": ("items", "agent_decisions"),
}
"""Fields that are maps of a fixed form, and what in them has elements; the rest of them is counts, which go with these."""


def news(before: State, after: State, ops: Sequence[AnyOp], session_id: str) -> News:
    """Return the signals, type and data, about a change that led by `ops` from one state to the other."""
    made = _News(before, after)
    for op in ops:
        made.take(op)
    for _, data in made.told:
        data["session_id"] = session_id
    return made.told


class _News:
    """The news of one change, as far as its ops were read."""

    def __init__(self, before: State, after: State) -> None:
        self.told: News = []
        self._before = before
        self._after = after
        self._changes: dict[tuple[str, str], dict[str, Value]] = {}

    def take(self, op: AnyOp) -> None:
        match op:
            case AppendItems(("messages",), items):
                self.told += [(MESSAGE_APPENDED, _message(item)) for item in items]
            case AppendText(("streaming_message",), text):
                self._pieces(text)
            case PutEntry((field,), key, value) if field in _FILES:
                self.told.append((_FILES[field], {"path": key, "timestamp": value}))
            case SetState(attrs):
                self._merged(attrs)
            case SetPath(("session", *inner)):
                self._record(inner)
            case SetPath(path, value):
                self._set(path, value)
            case AppendItems(path, items) | PrependItems(path, items):
                self._change(path[0], "added" if items else "trimmed", map(_id, items))
            case UpdateItem(path, _, id):
                self._change(path[0], "updated", (id,))
            case RemoveItems(path, _, ids):
                self._change(path[0], "removed", ids)
            case PutEntry(path, key):
                self._change(path[0], "added", (key,))
            case DeletePath(path):
                self._change(path[0], "removed", path[-1:])
            case AppendText(path):
                self._change(path[0], "added")
            case DeleteKeys(keys):
                for key in keys:
                    self._change(key, "removed")
            case ReplaceState():
                self._change("*", "replaced")
            case _:
                assert_never(op)

    # --- kinds of changes -----------------------------------------------------------------------------------
    def _merged(self, attrs: Mapping[str, Value]) -> None:
        if "is_streaming" in attrs:
            self._stream(has_begun=attrs["is_streaming"])
        for field, value in attrs.items():
            if field in _NESTED:
                self._change(field, "updated", [key for part in _NESTED[field] for key in value.get(part, ())])
            elif field not in _STREAM:
                self._change(field, "set")

    def _set(self, path: Path, value: Value) -> None:
        field = path[0]
        if field in _NESTED and len(path) > 1:
            if path[1] not in _NESTED[field]:
                return
            if len(path) > 2:
                self._change(field, "updated", path[2:3])
                return
        if type(value) is list:
            self._change(field, "replaced" if value else "cleared", map(_id, value))
        elif type(value) is dict:
            self._change(field, "replaced" if value else "cleared", value)
        else:
            self._change(field, "set")

    def _record(self, inner: Sequence[str]) -> None:
        if inner[0] == "config":
            if not any(type_ == CONFIG_UPDATED for type_, _ in self.told):
                self.told.append((CONFIG_UPDATED, {"config": dict(self._after["session"]["config"])}))
        elif inner[0] != "updated_at":
            self._change(f"session.{inner[0]}", "set")

    def _stream(self, *, has_begun: bool) -> None:
        if has_begun:
            self.told.append((STREAM_START, {"message_id": self._after["streaming_message_id"]}))
        else:
            is_kept = self._before["messages"] is not self._after["messages"]
            self.told.append((STREAM_END, {"message_id": self._before["streaming_message_id"], "is_kept": is_kept}))

    def _pieces(self, text: str) -> None:
        message_id = self._after["streaming_message_id"]
        for at in range(0, len(text), TEXT_CHARS_MAX):
            self.told.append((STREAM_CHUNK, {"message_id": message_id, "text": text[at : at + TEXT_CHARS_MAX]}))

    def _change(self, field: str, change: str, ids: Iterable[object] = ()) -> None:
        """Tell of a change of a field; what was done twice by one change is told once, of all it was done to."""
        if field in _UNTOLD:
            return
        data = self._changes.get((field, change))
        if data is None:
            data = self._changes[field, change] = {"field": field, "change": change, "ids": [], "count": 0}
            self.told.append((STATE_CHANGED, data))
        for found in ids:
            data["count"] += 1
            if type(found) is str and len(data["ids"]) < IDS_MAX:
                data["ids"].append(found)


def _id(item: Value) -> Value:
    """Return what an element is found by; None for one that is only a text."""
    return item.get("id") if type(item) is dict else None


def _message(message: Mapping[str, Value]) -> dict[str, Value]:
    """Return what is told of a message: its beginning when it is long, and that it is cut."""
    content = message["content"]
    told = {"message_id": message["id"], "role": message["role"], "timestamp": message["timestamp"]}
    if type(content) is str and len(content) > TEXT_CHARS_MAX:
        return {**told, "content": content[:TEXT_CHARS_MAX], "is_cut": True}
    if type(content) is list and held_bytes(content) > TEXT_CHARS_MAX:
        return {**told, "content": None, "is_cut": True}
    return {**told, "content": content, "is_cut": False}
