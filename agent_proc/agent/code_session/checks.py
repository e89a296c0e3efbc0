"""Checks of what callers give: each returns the value as the state keeps it, or refuses it by name.

It is *not* a schema: what a message or a todo must have is said in the file of that noun. Rules: a refusal is an
InvalidRequest with the code of whatever was asked for, and says what was given and what is allowed; types are exact,
so True is no number.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Mapping
from typing import Final

from procession.agent_proc.agent.change import Moment
from procession.agent_proc.agent.code_session.bounds import ID_CHARS_MAX
from procession.agent_proc.agent.texts import check_map, check_text, shown
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import Value

_ISO_CHARS_MAX: Final = 40
"""`2025-01-31T23:59:59.123456+00:00:00.000000` is the longest form there is."""


def a_choice(value: object, what: str, choices: Collection[str], *, code: str) -> str:
    """Return `value` if it is one of the words in `choices`."""
    if type(value) is str and value in choices:
        return value
    raise InvalidRequest(f"{what} must be one of {', '.join(choices)}, not {shown(value)}", code=code)


def a_text(value: object, what: str, *, code: str) -> str:
    """Return `value` if it is a text, of any length: budgets are counted elsewhere."""
    if type(value) is str:
        return value
    raise InvalidRequest(f"{what} must be a text, not {shown(value)}", code=code)


def a_filled_text(value: object, what: str, *, code: str) -> str:
    """Return `value` if it is a text with more in it than blanks."""
    if type(value) is str and value.strip():
        return value
    raise InvalidRequest(f"{what} must be a text that is not blank, not {shown(value)}", code=code)


def a_whole_number(value: object, what: str, least: int, most: int | None = None, *, code: str) -> int:
    """Return `value` if it is an int from `least` to `most`."""
    if type(value) is int and least <= value and (most is None or value <= most):
        return value
    until = "" if most is None else f" to {most}"
    raise InvalidRequest(f"{what} must be a whole number from {least}{until}, not {shown(value)}", code=code)


def a_number(value: object, what: str, *, code: str) -> float:
    """Return `value` as a float if it is a number that has a place among numbers (NaN has none)."""
    if type(value) is float and not math.isnan(value):
        return value
    if type(value) is int:
        return float(
            min(max(value, -1), 2)
        )  # whoever asks has bounds of 0 and 1, and an int may be too large for a float
    raise InvalidRequest(f"{what} must be a number, not {shown(value)}", code=code)


def a_share(value: object, what: str, *, code: str) -> float:
    """Return `value` as a float if it is a number from 0 to 1."""
    number = a_number(value, what, code=code)
    if 0.0 <= number <= 1.0:
        return number
    raise InvalidRequest(f"{what} must be a number from 0 to 1, not {shown(value)}", code=code)


def a_list(value: object, what: str, *, code: str) -> list[Value]:
    """Return `value` if it is a list."""
    if type(value) is list:
        return value
    raise InvalidRequest(f"{what} must be a list, not {shown(value)}", code=code)


def an_id(value: object, what: str, *, code: str) -> str:
    """Return `value` if it can name an element."""
    check_text(value, what, code=code, chars_max=ID_CHARS_MAX)
    assert type(value) is str
    return value


def id_of(given: Mapping[str, Value], what: str, moment: Moment, *, code: str) -> str:
    """Return the id that was given, a new one when none was."""
    value = given.get("id")
    return moment.new_id() if value is None else an_id(value, f"{what}: id", code=code)


def time_of(given: Mapping[str, Value], what: str, moment: Moment, *, key: str = "timestamp", code: str) -> dt.datetime:
    """Return the time that was given, in UTC, that of the moment when none was. A text is read as ISO 8601."""
    value = given.get(key)
    if value is None:
        return moment.at
    time = _parsed(value) if type(value) is str else value
    if type(time) is dt.datetime and time.utcoffset() is not None:
        if time.tzinfo is dt.UTC:
            return time
        try:
            return time.astimezone(dt.UTC)
        except OverflowError:  # year 1 or 9999, and a zone that moves it out
            pass
    raise InvalidRequest(
        f"{what}: {key} must be a datetime with a time zone, or one as ISO 8601 text, not {shown(value)}",
        code=code,
        hint="leave it out for the present time, or give datetime.now(UTC)",
    )


def _parsed(text: str) -> object:
    try:
        return dt.datetime.fromisoformat(text) if len(text) <= _ISO_CHARS_MAX else None
    except ValueError:
        return None


def an_element(given: object, what: str, *, code: str) -> Mapping[str, Value]:
    """Return `given` if it is a mapping with texts as keys."""
    check_map(given, what, code=code)
    assert isinstance(given, dict)
    return given


def metadata_of(given: Mapping[str, Value], what: str, known: frozenset[str], *, code: str) -> dict[str, Value]:
    """Return `given["metadata"]` with every key of `given` that is not known; the latter win."""
    metadata = given.get("metadata")
    if metadata is None:
        metadata = {}
    else:
        check_map(metadata, f"{what}: metadata", code=code)
    if given.keys() <= known:
        return dict(metadata)
    return {**metadata, **{key: value for key, value in given.items() if key not in known}}
