"""Names of sessions: what may be one, how long it is, and what a session is called that was given none.

One rule for whoever names a session (a face, the host, an agent that renames its own), and so in a place that all of them
may import. It is *not* the look-up by name, nor the rule of what is taken: both are the host's.

Rules: a name is text that can be shown in a line, 1 to 50 characters long and not blank. A character is what a reader sees
as one (`characters`), so that a name is as long in one script as in another.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from procession.ipc.core.errors import InvalidRequest

NAME_CHARS_MAX: Final = 50
"""A name is a label for people, shown in tables."""
NAME_BYTES_MAX: Final = 2_048
"""Fifty of the longest emoji (a flag spelt in tags, 28 bytes) fit; a pile of marks on one letter has an end."""

_SHOWN_CHARS_MAX: Final = 80
_ZERO_WIDTH_JOINER: Final = "\u200d"
_JOINERS: Final = frozenset("\u200c" + _ZERO_WIDTH_JOINER)
_MARKS: Final = frozenset(("Mn", "Mc", "Me"))
_UNSEEN: Final = frozenset(("Cc", "Cs", "Zl", "Zp"))
"""Controls, halves of characters, ends of lines: they break the table they are shown in."""


class NameProblem(NamedTuple):
    """Why something is no name. code: invalid_name or name_too_long."""

    code: str
    text: str


def name_problem(name: object) -> NameProblem | None:
    """Say why this is no name: invalid_name, then name_too_long."""
    if type(name) is not str:
        return NameProblem("invalid_name", f"name: a text is needed, not a {type(name).__name__}")
    if len(name) <= NAME_CHARS_MAX and name.isascii() and name.isprintable() and not name.isspace() and name:
        return None  # nearly every name: a start is to take milliseconds
    import unicodedata  # seldom needed, and a part of every fork

    if all(char.isspace() or unicodedata.category(char) == "Cf" for char in name):
        return NameProblem("invalid_name", f"name: it cannot be blank, as {_shown(name)} is")
    if any(unicodedata.category(char) in _UNSEEN for char in name[:NAME_BYTES_MAX]):
        return NameProblem("invalid_name", f"name: {_shown(name)} has characters that cannot be shown in a line")
    size = len(name.encode()) if len(name) <= NAME_BYTES_MAX else len(name)
    if size > NAME_BYTES_MAX:
        return NameProblem("name_too_long", f"name: it has at most {NAME_BYTES_MAX} bytes, not {size}")
    if len(name) <= NAME_CHARS_MAX:  # a character is at least one code point
        return None
    length = len(characters(name))
    if length <= NAME_CHARS_MAX:
        return None
    return NameProblem("name_too_long", f"name: it has at most {NAME_CHARS_MAX} characters, not {length}")


def check_name(name: object) -> str:
    """Return the name. Raises InvalidRequest: invalid_name, name_too_long."""
    problem = name_problem(name)
    if problem is not None:
        raise InvalidRequest(problem.text, code=problem.code)
    assert type(name) is str
    return name


def default_name(project: str | None, ident: str) -> str:
    """Return what a session is called that was given no name: as its folder, as far as that is a name, else by its id."""
    if project is None:
        return f"session-{ident[:8]}"
    import unicodedata

    folder = project.rstrip("/").rpartition("/")[2]
    showable = "".join("?" if unicodedata.category(char) in _UNSEEN else char for char in folder)
    name = "".join(characters(showable)[:NAME_CHARS_MAX])
    return name if name_problem(name) is None else f"session-{ident[:8]}"


def characters(text: str) -> list[str]:
    """Split a text into what a reader sees as its characters.

    The grapheme clusters of Unicode, but for what only their full tables know (prefixed signs, conjuncts of Indic
    scripts): a letter with its marks, an emoji with its tone or joined to others, a flag, a Korean syllable are one.
    """
    found: list[str] = []
    before = ""
    flag_open = False
    for char in text:
        indicator = "\U0001f1e6" <= char <= "\U0001f1ff"
        if found and (_belongs(char) or before == _ZERO_WIDTH_JOINER or (indicator and flag_open)):
            found[-1] += char
            flag_open = False
        else:
            found.append(char)
            flag_open = indicator
        before = char
    return found


def _belongs(char: str) -> bool:
    """Say whether a code point is always a part of the character before it."""
    import unicodedata

    return (
        char in _JOINERS
        or unicodedata.category(char) in _MARKS
        or "\U0001f3fb" <= char <= "\U0001f3ff"  # tones of skin
        or "\U000e0020" <= char <= "\U000e007f"  # tags, which spell some flags
        or "\u1160" <= char <= "\u11ff"  # vowels and ends of Korean syllables
    )


def _shown(name: str) -> str:
    return repr(name) if len(name) <= _SHOWN_CHARS_MAX else f"{name[:_SHOWN_CHARS_MAX]!r}..."
