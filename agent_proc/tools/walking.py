"""A folder and all below it, by descriptor: each folder opened from the one above it, never through a link.

It is *not* os.walk: no name is resolved twice, so what is swapped for a link between listing and opening is passed over,
links lead to no loop, and a tree of any depth costs a bounded number of descriptors.

Rules: names are sorted; a link is listed and not entered; whatever is cut is told by `is_cut`.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Final, Literal, NamedTuple

from procession.agent_proc.agent.record.tool_path import ToolPath
from procession.agent_proc.tools.confined import Root
from procession.agent_proc.tools.refusals import refusals

ENTRIES_MAX: Final = 200_000
"""Names that one walk looks at: a large repository has fewer files, and sorting so many takes a tenth of a second."""
DEPTH_MAX: Final = 100
"""Folders in folders, each a descriptor while it is walked; a process has some hundreds."""

Kind = Literal["folder", "file", "link", "other"]
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry(NamedTuple):
    name: str
    kind: Kind


class Folder(NamedTuple):
    """A folder that is being walked. enter: the names of those in it that will be walked next; take out what need not."""

    fd: int
    parts: tuple[str, ...]
    entries: list[Entry]
    enter: list[str]


class Walk:
    """The folders from one place on, each before those in it. Read it to its end or close its iterator."""

    def __init__(self, root: Root, place: ToolPath) -> None:
        self._root = root
        self._place = place
        self._room = ENTRIES_MAX
        self.is_cut = False

    def __iter__(self) -> Generator[Folder, None, None]:
        stack: list[tuple[Folder, Iterator[str]]] = []
        try:
            yield self._listed(self._root.open_folder(self._place.parts), self._place.parts, stack)
            while stack:
                folder, names = stack[-1]
                name = next(names, None)
                if name is None:
                    os.close(stack.pop()[0].fd)
                elif len(stack) >= DEPTH_MAX or self._room <= 0:
                    self.is_cut = True
                    stack[-1] = (folder, iter(()))
                elif (fd := _opened(name, folder.fd)) >= 0:
                    yield self._listed(fd, (*folder.parts, name), stack)
        finally:
            for folder, _ in stack:
                os.close(folder.fd)

    def _listed(self, fd: int, parts: tuple[str, ...], stack: list[tuple[Folder, Iterator[str]]]) -> Folder:
        folder = Folder(fd, parts, [], [])
        stack.append((folder, iter(folder.enter)))  # from here on it is closed whatever happens
        with refusals("/".join(parts) or "."), os.scandir(fd) as found:
            for entry in found:
                if self._room <= 0:
                    self.is_cut = True
                    break
                self._room -= 1
                folder.entries.append(Entry(entry.name, _kind(entry)))
        folder.entries.sort()
        folder.enter.extend(entry.name for entry in folder.entries if entry.kind == "folder")
        return folder


def _opened(name: str, dir_fd: int) -> int:
    """Open a folder, -1 for what is gone, was made a link, or is not ours to look into."""
    try:
        return os.open(name, _FOLDER, dir_fd=dir_fd)
    except OSError:
        return -1


def _kind(entry: os.DirEntry[str]) -> Kind:
    try:
        if entry.is_symlink():
            return "link"
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        return "file" if entry.is_file(follow_symlinks=False) else "other"
    except OSError:  # gone since it was listed, where the file system tells no kinds
        return "other"
