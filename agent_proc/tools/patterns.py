"""Patterns of paths: `*`, `?`, `[...]` within a name, and `**` for any number of folders.

It is *not* the walk (walking.py), which asks here what to enter. Rules: a hidden name (`.git`, `.env`) is matched only by a
part of a pattern that begins with a dot itself; upper and lower case differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from typing import Final

ANY_DEPTH: Final = "**"

States = frozenset[int]
"""The parts of a pattern that the next name may meet."""


class Pattern:
    """A pattern's parts, from a folder inwards."""

    __slots__ = ("_parts",)

    def __init__(self, parts: tuple[str, ...]) -> None:
        self._parts = tuple(None if part == ANY_DEPTH else (part[0] == ".", _compiled(part)) for part in parts)

    def start(self) -> States:
        """Return where matching begins."""
        return self._with_nothing_between({0})

    def step(self, states: States, name: str) -> States:
        """Return where matching stands after one more name; nothing when nothing below can match."""
        hidden = name.startswith(".")
        after = set()
        for index in states:
            if index == len(self._parts):
                continue
            part = self._parts[index]
            if part is None:
                if not hidden:
                    after.add(index)
            elif hidden <= part[0] and part[1](name):
                after.add(index + 1)
        return self._with_nothing_between(after)

    def is_match(self, states: States) -> bool:
        """Say whether the names so far are all that the pattern asks for."""
        return len(self._parts) in states

    def _with_nothing_between(self, states: set[int]) -> States:
        """Add what follows a `**` that stands for no folder at all."""
        for index in sorted(states):
            following = index
            while following < len(self._parts) and self._parts[following] is None:
                following += 1
                states.add(following)
        return frozenset(states)


def _compiled(part: str) -> Callable[[str], object]:
    return re.compile(translate(part)).match
