"""Names and ids of sessions: what may be one, how long a name is, and what a session is called that was given none.

It is *not* the look-up by name, nor the rule of what is taken: both are the host's.

Rules: an id is a UUID in one spelling; a name is text that can be shown, 1 to 50 characters long and not blank. A
character is what a reader sees as one (`characters`), so that a name is as long in one script as in another.
"""

from __future__ import annotations

import unicodedata
import uuid
from typing import Final

from procession.agent_proc.agent.record.reasons import Reason, shown

NAME_CHARS_MAX: Final = 50
"""A name is a label for people, shown in tables."""
NAME_BYTES_MAX: Final = 2_048
"""Fifty of the longest emoji (a flag spelt in tags, 28 bytes) fit; a pile of marks on one letter has an end."""
NAMELESS: Final = "project"
"""Of a folder whose own name is no name for a session."""

_ZERO_WIDTH_JOINER: Final = "\u200d"
_JOINERS: Final = frozenset("\u200c" + _ZERO_WIDTH_JOINER)
_MARKS: Final = frozenset(("Mn", "Mc", "Me"))
_UNSEEN: Final = frozenset(("Cc", "Cs", "Zl", "Zp"))
"""Controls, halves of characters, ends of lines: they break the table they are shown in."""


def id_text(given: object) -> str | None:
    """Return an id in its one spelling, None for what is no UUID."""
    if type(given) is not str:
        return None
    try:
        return str(uuid.UUID(given))
    except ValueError:
        return None


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
    return (
        char in _JOINERS
        or unicodedata.category(char) in _MARKS
        or "\U0001f3fb" <= char <= "\U0001f3ff"  # tones of skin
        or "\U000e0020" <= char <= "\U000e007f"  # tags, which spell some flags
        or "\u1160" <= char <= "\u11ff"  # vowels and ends of Korean syllables
    )


def name_reason(name: object) -> Reason | None:
    """Say why this is no name: invalid_name, then name_too_long."""
    if type(name) is not str:
        return Reason("invalid_name", f"name: a text is needed, not {shown(name)}")
    if all(char.isspace() or unicodedata.category(char) == "Cf" for char in name):
        return Reason("invalid_name", f"name: it cannot be blank, as {shown(name)} is")
    if any(unicodedata.category(char) in _UNSEEN for char in name[:NAME_BYTES_MAX]):
        return Reason("invalid_name", f"name: {shown(name)} has characters that cannot be shown in a line")
    size = len(name.encode()) if len(name) <= NAME_BYTES_MAX else len(name)
    if size > NAME_BYTES_MAX:
        return Reason("name_too_long", f"name: it has at most {NAME_BYTES_MAX} bytes, not {size}")
    if len(name) <= NAME_CHARS_MAX:  # a character is at least one code point
        return None
    length = len(characters(name))
    if length <= NAME_CHARS_MAX:
        return None
    return Reason("name_too_long", f"name: it has at most {NAME_CHARS_MAX} characters, not {length}")


def default_name(project_path: str) -> str:
    """Return what a session is called that was given no name: as its folder, as far as that is a name."""
    folder = project_path.rstrip("/").rpartition("/")[2]
    showable = "".join("?" if unicodedata.category(char) in _UNSEEN else char for char in folder)
    name = "".join(characters(showable)[:NAME_CHARS_MAX])
    return name if name_reason(name) is None else NAMELESS
