"""Read a docstring of the Google, numpy or reST form: its first paragraph, and what it says of each parameter.

It is *not* a parser of documentation: what is not plain to read is left out, never guessed. Rule: nothing here raises,
since a docstring is prose and no tool should fail for its prose.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Final, NamedTuple

_NAME: Final = r"\*{0,2}(?P<name>[A-Za-z_]\w*)"
_REST_FIELD: Final = re.compile(rf":(?:param|parameter|arg|argument)\s+(?:[^:]*\s)?{_NAME}\s*:\s*(?P<text>.*)")
_GOOGLE_HEAD: Final = re.compile(r"(?:Args|Arguments|Parameters|Params|Keyword Args|Keyword Arguments):")
_GOOGLE_ENTRY: Final = re.compile(rf"{_NAME}\s*(?:\([^)]*\))?\s*:\s+(?P<text>.+)")
_NUMPY_ENTRY: Final = re.compile(rf"{_NAME}\s*(?::.*)?")
_ANY_HEAD: Final = re.compile(rf"{_GOOGLE_HEAD.pattern}|(?:Returns|Raises|Yields|Examples?|Notes?):|:[a-z]+[^:]*:.*")


class Described(NamedTuple):
    """What a docstring says: the tool's description, and its parameters' by name."""

    summary: str
    parameters: dict[str, str]


def read_docstring(docstring: str | None) -> Described:
    """Return the first paragraph and the parameters of `docstring`, each as one line of text."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    parameters = dict(_rest(lines)) or dict(_google(lines)) or dict(_numpy(lines))
    return Described(_summary(lines), parameters)


def _summary(lines: list[str]) -> str:
    """Return the lines before the first that is blank or begins a section."""
    if _is_underlined(lines, 0):
        return ""
    stripped = (line.strip() for line in lines)
    return " ".join(takewhile(lambda line: line and not _ANY_HEAD.fullmatch(line), stripped))


def _rest(lines: list[str]) -> Iterator[tuple[str, str]]:
    for at, line in enumerate(lines):
        field = _REST_FIELD.fullmatch(line.strip())
        if field:
            # The text goes on for as long as the lines below are deeper.
            yield field["name"], _joined(field["text"], _deeper(lines[at + 1 :], _indent(line)))


def _google(lines: list[str]) -> Iterator[tuple[str, str]]:
    for at, line in enumerate(lines):
        if _GOOGLE_HEAD.fullmatch(line.strip()):
            section = list(_deeper(lines[at + 1 :], _indent(line)))
            yield from _entries(section, _GOOGLE_ENTRY)


def _numpy(lines: list[str]) -> Iterator[tuple[str, str]]:
    for at, line in enumerate(lines):
        if line.strip() in {"Parameters", "Other Parameters"} and _is_underlined(lines, at):
            body = lines[at + 2 :]
            ends = (below for below in range(len(body)) if _is_underlined(body, below))
            yield from _entries(body[: next(ends, len(body))], _NUMPY_ENTRY)


def _entries(section: list[str], entry: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """List the entries at the outermost indent of a section, each with the deeper lines below it."""
    outer = min((_indent(line) for line in section if line.strip()), default=0)
    for at, line in enumerate(section):
        found = entry.fullmatch(line.strip()) if _indent(line) == outer else None
        if found:
            text = _joined(found.groupdict().get("text") or "", _deeper(section[at + 1 :], outer))
            if text:
                yield found["name"], text


def _deeper(lines: list[str], indent: int) -> Iterable[str]:
    """Return the lines up to the first that is no deeper than `indent`; blank ones do not count."""
    return takewhile(lambda line: not line.strip() or _indent(line) > indent, lines)


def _joined(first: str, more: Iterable[str]) -> str:
    """Return one paragraph as one line."""
    return " ".join(filter(None, (first.strip(), *(line.strip() for line in takewhile(str.strip, more)))))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_underlined(lines: list[str], at: int) -> bool:
    below = lines[at + 1].strip() if at + 1 < len(lines) else ""
    return len(below) >= 3 and not below.strip("-=")
