"""list_directory, glob and grep: what is in a folder, which files fit a pattern, which lines hold one.

They are *not* an index: every call walks. Rules: sorted and bounded, and `truncated` tells when something was left out;
a link is named and never entered; nothing that cannot be read stops a search.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from contextlib import closing
from stat import S_ISDIR
from typing import Any, Final

from procession.agent_proc.agent.record.reasons import shown
from procession.agent_proc.agent.record.tool_path import ToolPath, tool_path
from procession.agent_proc.tools.confined import Root, read_at_most, reopen
from procession.agent_proc.tools.patterns import ANY_DEPTH, Pattern, States
from procession.agent_proc.tools.reading import is_binary, line_text, read_text
from procession.agent_proc.tools.refusals import refuse
from procession.agent_proc.tools.walking import Entry, Walk
from procession.agent_proc.tools.work import Work
from procession.ipc.core.bounds import MiB
from procession.ipc.core.errors import InvalidRequest

PATHS_MAX: Final = 2_000
"""Of one answer: some 100 KiB, more than a model makes use of."""
GREP_FILE_BYTES_MAX: Final = 4 * MiB
"""A larger file is data; it is passed over, and counted."""
GREP_BYTES_MAX: Final = 128 * MiB
"""Of all files together: some seconds of searching."""
TEXT_CHARS_MAX: Final = 1 * MiB
"""Of the lines of one answer: as much as the message of a tool's result has room for."""
_MARKS: Final = {"folder": "/", "link": "@"}
_OWN_DATA_OF_GIT: Final = ".git"
_SEEN: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


# -- names -----------------------------------------------------------------------------------------------------------


def list_directory(work: Work, path: str, recursive: bool) -> dict[str, Any]:
    """List a folder, hidden names too; with `recursive` all below it, but for what is inside `.git`."""
    place = work.place(path)
    found: list[str] = []
    with work.open_root() as root, closing(iter(walk := Walk(root, place))) as folders:
        for folder in folders:
            inside = folder.parts[len(place.parts) :]
            found += ("/".join((*inside, entry.name)) + _MARKS.get(entry.kind, "") for entry in folder.entries)
            if not recursive or len(found) > PATHS_MAX:
                break
            if _OWN_DATA_OF_GIT in folder.enter:
                folder.enter.remove(_OWN_DATA_OF_GIT)
    return {"entries": sorted(found)[:PATHS_MAX], "truncated": walk.is_cut or len(found) > PATHS_MAX}


def glob(work: Work, pattern: str, path: str) -> dict[str, Any]:
    """List the files whose path from `path` on fits a pattern; the folders, if the pattern ends with a slash."""
    place = work.place(path)
    of_folders = pattern.endswith("/")
    found: list[str] = []
    with work.open_root() as root:
        search = _Search(root, place, _pattern(place, pattern))
        with closing(iter(search)) as matches:
            for _, parts, entry in matches:
                if (entry.kind == "folder") is of_folders:
                    found.append("/".join((*parts, entry.name)))
                    if len(found) > PATHS_MAX:
                        break
    return {"paths": sorted(found[:PATHS_MAX]), "truncated": search.is_cut or len(found) > PATHS_MAX}


def _pattern(place: ToolPath, pattern: str) -> Pattern:
    """Read a pattern, which is confined as paths are. Raises InvalidRequest."""
    parts = tool_path(str(place), pattern).parts
    if not parts:
        raise refuse("invalid_pattern", f"the pattern {shown(pattern)} names nothing", "give one as `**/*.py`")
    return Pattern(parts)


class _Search:
    """The entries below a place that fit a pattern: (descriptor of their folder, its parts, entry)."""

    def __init__(self, root: Root, place: ToolPath, pattern: Pattern) -> None:
        self._walk = Walk(root, place)
        self._place = place
        self._pattern = pattern

    @property
    def is_cut(self) -> bool:
        return self._walk.is_cut

    def __iter__(self) -> Generator[tuple[int, tuple[str, ...], Entry], None, None]:
        pattern = self._pattern
        reached: dict[tuple[str, ...], States] = {self._place.parts: pattern.start()}
        with closing(iter(self._walk)) as folders:
            for folder in folders:
                states = reached.pop(folder.parts)
                after = {entry.name: pattern.step(states, entry.name) for entry in folder.entries}
                folder.enter[:] = [name for name in folder.enter if after[name]]
                reached |= {(*folder.parts, name): after[name] for name in folder.enter}
                for entry in folder.entries:
                    if pattern.is_match(after[entry.name]):
                        yield folder.fd, folder.parts, entry


# -- lines -----------------------------------------------------------------------------------------------------------


def grep(
    work: Work, pattern: str, path: str, include: str | None, ignore_case: bool, context: int, limit: int
) -> dict[str, Any]:
    """List the lines in which a regular expression of Python's `re` is found, as file:line:text.

    path: a file, or a folder, whose hidden names are passed over unless `include` names them. Some expressions take longer
    than any bound of ours (`(a+)+$`): the deadline of the run ends those, and the worker with them.
    """
    place = work.place(path)
    found = _Found(_expression(pattern, ignore_case), context, limit)
    with work.open_root() as root:
        if not S_ISDIR(root.stat(place.parts).st_mode):
            found.search(place.relative, read_text(root, place))
            return found.answer(is_cut=False)
        search = _Search(root, place, _included(place, include))
        with closing(iter(search)) as matches:
            for dir_fd, parts, entry in matches:
                if entry.kind == "file":
                    found.search("/".join((*parts, entry.name)), _content(dir_fd, entry.name))
                if found.is_cut:
                    break
    return found.answer(is_cut=search.is_cut)


def _expression(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except (re.error, RecursionError, OverflowError) as error:
        raise refuse(
            "invalid_pattern",
            f"{shown(pattern)} is no regular expression: {error}",
            "put a backslash before ( ) [ ] { } . * + ? ^ $ | that stand for themselves",
        ) from None


def _included(place: ToolPath, include: str | None) -> Pattern:
    """Read `include`: without a slash it is about the name of a file, in whatever folder."""
    if include is None:
        return Pattern((ANY_DEPTH, "*"))
    return _pattern(place, include if "/" in include else f"{ANY_DEPTH}/{include}")


def _content(dir_fd: int, name: str) -> bytes | None:
    """Read a file of a search: b"" for one that cannot be read, None for one that is too large."""
    try:
        seen = os.open(name, _SEEN, dir_fd=dir_fd)
        try:
            fd = reopen(seen, name)
        finally:
            os.close(seen)
        try:
            return read_at_most(fd, GREP_FILE_BYTES_MAX)
        finally:
            os.close(fd)
    except (OSError, InvalidRequest):
        return b""


class _Found:
    """The lines of an answer, and what is still left of its bounds."""

    def __init__(self, expression: re.Pattern[str], context: int, limit: int) -> None:
        self._find = expression.search
        self._context = context
        self._limit = limit
        self._lines: list[str] = []
        self._matches = self._files = self._too_large = self._chars = self._bytes = 0
        self.is_cut = False

    def answer(self, *, is_cut: bool) -> dict[str, Any]:
        return {
            "lines": self._lines,
            "matches": self._matches,
            "files_searched": self._files,
            "files_too_large": self._too_large,
            "truncated": self.is_cut or is_cut,
        }

    def search(self, name: str, data: bytes | None) -> None:
        """Search one file; None is one that is too large, and a binary one is passed over."""
        if data is None:
            self._too_large += 1
            return
        if is_binary(data):
            return
        self._files += 1
        self._bytes += len(data)
        if self._bytes > GREP_BYTES_MAX:
            self.is_cut = True
            return
        self._search_lines(name, data.removesuffix(b"\n").split(b"\n"))

    def _search_lines(self, name: str, lines: list[bytes]) -> None:
        told = 0  # lines of this file up to here are told
        following = 0  # lines that are still to be told after a match
        for index, line in enumerate(lines):
            if self._find(line.removesuffix(b"\r").decode("utf-8", "replace")):
                if self._matches == self._limit:
                    self.is_cut = True
                    return
                self._matches += 1
                first = max(told, index - self._context)
                if self._context and self._lines and (first > told or not told):
                    self._lines.append("--")
                for before in range(first, index):
                    self._tell(name, "-", before, lines)
                self._tell(name, ":", index, lines)
                told, following = index + 1, self._context
            elif following:
                self._tell(name, "-", index, lines)
                told, following = index + 1, following - 1
            if self.is_cut:
                return

    def _tell(self, name: str, sign: str, index: int, lines: list[bytes]) -> None:
        text = f"{name}{sign}{index + 1}{sign}{line_text(lines[index])}"
        self._chars += len(text)
        if self._chars > TEXT_CHARS_MAX:
            self.is_cut = True
        else:
            self._lines.append(text)
