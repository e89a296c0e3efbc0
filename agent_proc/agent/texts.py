"""Names and short texts that are part of the framework's values: checked once, where the value is made.

It is *not* a place for long texts or user content. Rule: a text that is refused is told by what it is, what it may be,
and never in full when it is long.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from procession.ipc.core.errors import InvalidRequest

#: Ids, sources, tags and reasons: a URL of a usual length fits, a document does not.
TEXT_CHARS_MAX: Final = 1_024
#: A name is read by people, in lists and in errors.
NAME_CHARS_MAX: Final = 64
_SHOWN_CHARS: Final = 80
_SHOWN_BITS: Final = 4 * _SHOWN_CHARS
"""Of a whole number: Python does not write one of thousands of digits at all."""
_NEAR_MAX: Final = 3

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)


def check_text(value: object, what: str, *, code: str, chars_max: int = TEXT_CHARS_MAX) -> None:
    """Refuse what is not a text of 1 to `chars_max` characters, none of them a control character."""
    if type(value) is not str:
        raise InvalidRequest(f"{what} must be a text, not a {type(value).__name__}", code=code)
    if not value or len(value) > chars_max:
        raise InvalidRequest(f"{what} has 1 to {chars_max} characters, not {len(value)}", code=code)
    if found := _CONTROL.search(value):
        raise InvalidRequest(f"{what} has a control character at {found.start()}: {shown(value)}", code=code)


def is_name(value: object) -> bool:
    """Say whether `value` is a name: a letter, then letters, digits and _, not more than NAME_CHARS_MAX of them."""
    return type(value) is str and len(value) <= NAME_CHARS_MAX and _NAME.fullmatch(value) is not None


def check_name(value: object, what: str, *, code: str) -> None:
    """Refuse what is no name."""
    if not is_name(value):
        raise InvalidRequest(
            f"{what} is a letter, then letters, digits and _, at most {NAME_CHARS_MAX} characters, not {shown(value)}",
            code=code,
        )


def check_map(value: object, what: str, *, code: str) -> None:
    """Refuse what is not a dict with texts as keys."""
    if type(value) is not dict or not all(type(key) is str for key in value):
        raise InvalidRequest(f"{what} must be a dict with texts as keys, not {shown(value)}", code=code)


def shown(value: object) -> str:
    """Return the repr of a value, cut to what an error text has room for."""
    if type(value) not in (str, int, bool, float, type(None)):
        return f"a {type(value).__name__}"
    if type(value) is int and value.bit_length() > _SHOWN_BITS:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value[: _SHOWN_CHARS + 1] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."


def near(name: str, names: Iterable[str]) -> str:
    """Return `did you mean ...?` for what was meant by `name`; without anything like it, the first of what there is."""
    known = list(dict.fromkeys(names))
    import difflib  # only mistakes need it

    close = difflib.get_close_matches(name[:_SHOWN_CHARS], known, n=_NEAR_MAX)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    if not known:
        return "there is none"
    more = f" and {len(known) - _NEAR_MAX} more" if len(known) > _NEAR_MAX else ""
    return "there is " + ", ".join(known[:_NEAR_MAX]) + more
