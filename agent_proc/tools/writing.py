r"""write_file, edit_file and multi_edit_file: a file replaced whole, or not touched.

They are *not* the memory of what was read: the session keeps that, and gives it with the work. Rules: a file that exists
is changed only when the session has read it; texts are found byte by byte, so what is not edited stays exactly as it was,
in whatever encoding; a file whose lines end in \r\n is edited as if they ended in \n, and keeps its ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from procession.agent_proc.agent.record.reasons import shown
from procession.agent_proc.tools.confined import FILE_BYTES_MAX
from procession.agent_proc.tools.reading import read_text
from procession.agent_proc.tools.refusals import refuse
from procession.agent_proc.tools.work import Work


def write_file(work: Work, path: str, content: str) -> dict[str, Any]:
    """Write a file whole, making its folders. Raises InvalidRequest."""
    place = work.place(path)
    data = _bytes_of(content, "content")
    _check_size(len(data), place.relative)
    with work.open_root() as root:
        exists = root.exists(place.parts)
        if exists:
            if place.parts:  # the project's folder is refused as one, below
                work.must_have_read(place)
        else:
            root.make_parents(place.parts)
        root.replace(place.parts, data)
    return {"path": place.relative, "bytes": len(data), "created": not exists}


def edit_file(work: Work, path: str, old_string: str, new_string: str, replace_all: bool) -> dict[str, Any]:
    """Replace a text in a file: one place, or all with `replace_all`. Raises InvalidRequest."""
    edit = {"old_string": old_string, "new_string": new_string, "replace_all": replace_all}
    return _edited(work, path, [("", edit)])


def multi_edit_file(work: Work, path: str, edits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Make edits one after the other, each in what the one before made; all of them or none. Raises InvalidRequest."""
    return _edited(work, path, [(f"edits[{index}]: ", edit) for index, edit in enumerate(edits)])


def _edited(work: Work, path: str, edits: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    place = work.place(path)
    with work.open_root() as root:
        data = read_text(root, place)
        work.must_have_read(place)
        replaced = 0
        for what, edit in edits:
            data, count = _edit(data, edit, what, place.relative)
            replaced += count
        root.replace(place.parts, data)
    return {"path": place.relative, "bytes": len(data), "replaced": replaced}


def _edit(data: bytes, edit: Mapping[str, Any], what: str, path: str) -> tuple[bytes, int]:
    """Return `data` after one edit, and in how many places it was made."""
    old = _bytes_of(edit["old_string"], f"{what}old_string")
    new = _bytes_of(edit["new_string"], f"{what}new_string")
    if not old:
        raise refuse("empty_old_string", f"{what}old_string is empty", "write_file makes a file from nothing")
    if old == new:
        raise refuse("identical_strings", f"{what}old_string and new_string are the same: nothing would change")
    if _ends_in_crlf(data) and b"\r" not in old:
        old, new = old.replace(b"\n", b"\r\n"), new.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    count = data.count(old)
    if count == 0:
        raise refuse(
            "old_string_not_found",
            f"{what}old_string is not in {shown(path)}",
            "give it exactly as it is in the file, blanks included, without the numbers that read_file shows",
        )
    if count > 1 and not edit.get("replace_all", False):
        raise refuse(
            "old_string_not_unique",
            f"{what}old_string is {count} times in {shown(path)}",
            "give more of the lines around it, or replace_all=true for all of them",
        )
    _check_size(len(data) + count * (len(new) - len(old)), path)  # before it is made
    return data.replace(old, new), count


def _ends_in_crlf(data: bytes) -> bool:
    r"""Say whether every line of a file ends in \r\n."""
    count = data.count(b"\n")
    return count > 0 and data.count(b"\r\n") == count


def _bytes_of(text: str, what: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise refuse("invalid_text", f"{what} has a character that no file can hold (a lone surrogate)") from None


def _check_size(size: int, path: str) -> None:
    if size > FILE_BYTES_MAX:
        raise refuse(
            "file_too_large",
            f"{shown(path)} would have {size} bytes; a file written here has at most {FILE_BYTES_MAX}",
            "exec can run a program that writes more",
        )
