"""Which files the session read and wrote, and when; and the rule that what is there is read before it is written.

It is *not* access to files. Rules: a path is compared by its components, so `src/./a.py` is `src/a.py`; who knows the
project's folder gives paths from there on; to write a file is not to have read it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from itertools import islice
from typing import Final, Literal

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.code_session.bounds import FILES_MAX, PATH_BYTES_MAX
from procession.agent_proc.agent.code_session.sizes import accounted, held_bytes
from procession.agent_proc.agent.texts import shown
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import AnyOp, PutEntry, SetPath, State, Value

CODE: Final = "invalid_path"

_Tracked = Literal["file_reads", "file_writes"]


def same_path(path: object) -> str:
    """Return the one way to say a path: without empty components, `.` and `..`. Raises InvalidRequest, code invalid_path."""
    if type(path) is not str or not path or "\0" in path or not _fits(path):
        raise InvalidRequest(f"path must be a path of at most {PATH_BYTES_MAX} bytes, not {shown(path)}", code=CODE)
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part == ".." and path.startswith("/"):
            continue  # the root's parent is the root
        elif part not in ("", "."):
            parts.append(part)
    root = "/" if path.startswith("/") else ""
    return root + "/".join(parts) or "."


def _fits(path: str) -> bool:
    """Say whether a path is one that the system could take; bytes that are no text come as surrogates."""
    try:
        return len(path.encode("utf-8", "surrogateescape")) <= PATH_BYTES_MAX
    except UnicodeEncodeError:
        return False


def track_file_read(state: State, moment: Moment, path: Value) -> Change:
    """Note that a file was read, and answer with the time; the one read longest ago goes when there are too many."""
    return _track(state, moment, "file_reads", same_path(path))


def track_file_write(state: State, moment: Moment, path: Value) -> Change:
    """Note that a file was written, and answer with the time; the one written longest ago goes when there are too many."""
    return _track(state, moment, "file_writes", same_path(path))


def clear_file_tracking(state: State, _moment: Moment) -> Change:
    """Forget all reads and writes."""
    ops: list[AnyOp] = [SetPath((field,), {}) for field in ("file_reads", "file_writes") if state[field]]
    sizes = state["sizes"]
    forgotten = accounted(state, {field: -sizes[field] for field in ("file_reads", "file_writes")})
    return Change((*ops, *forgotten))


def file_was_read(state: State, path: Value) -> bool:
    """Say whether the session read this file, as far back as it remembers."""
    return same_path(path) in state["file_reads"]


def get_file_read_time(state: State, path: Value) -> dt.datetime | None:
    """Return when the session last read this file, None when it did not."""
    time: dt.datetime | None = state["file_reads"].get(same_path(path))
    return time


def may_write(state: State, path: Value, *, exists: bool) -> None:
    """Refuse to write a file that exists and was not read: InvalidRequest, code read_before_write_required."""
    if exists and not file_was_read(state, path):
        raise InvalidRequest(
            f"{shown(path)} exists and was not read in this session",
            code="read_before_write_required",
            hint="read it first, so that what is in it is not lost by mistake",
        )


def _track(state: State, moment: Moment, field: _Tracked, path: str) -> Change:
    tracked: Mapping[str, Value] = state[field]
    growth = 0
    if path not in tracked:
        over = max(0, len(tracked) + 1 - FILES_MAX)
        gone = sum(held_bytes([old, tracked[old]]) for old in islice(tracked, over))
        growth = held_bytes([path, moment.at]) - gone
    return Change((PutEntry((field,), path, moment.at, FILES_MAX), *accounted(state, {field: growth})), moment.at)
