"""Dotted types of signals, and the patterns that match them: `*` is exactly one segment, `**` any number, none included.

It is *not* the router, which holds many patterns and orders what matches. Rules: `*` and `**` stand alone in a segment,
no two `**` are neighbours, and matching costs at most segments x segments steps, whatever the pattern.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from procession.agent_proc.agent.texts import shown
from procession.ipc.core.errors import InvalidRequest

TYPE_CHARS_MAX: Final = 255
"""A type is a name that people filter and subscribe by; a domain name has as many."""
SEGMENTS_MAX: Final = 32
"""Bounds what one match costs: 32 x 32 comparisons."""

ONE: Final = "*"
ANY: Final = "**"

_SEGMENT: Final = "[A-Za-z0-9_-]+"
_TYPE: Final = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*", re.ASCII)
_PATTERN_SEGMENT: Final = re.compile(rf"{_SEGMENT}|\*\*?", re.ASCII)

_END: Final = 3
"""After the last segment: a pattern that ends is more exact than one that goes on with wildcards."""
_RANK: Final = {ONE: 1, ANY: 0}
_EXACT: Final = 2


def check_type(type_: object) -> None:
    """Refuse what is no type of a signal: InvalidRequest, code invalid_signal_type."""
    if (
        type(type_) is not str
        or len(type_) > TYPE_CHARS_MAX
        or _TYPE.fullmatch(type_) is None
        or type_.count(".") >= SEGMENTS_MAX
    ):
        raise InvalidRequest(
            f"{shown(type_)} is no signal type",
            code="invalid_signal_type",
            hint=f"write segments of letters, digits, _ and - joined by dots, as in 'order.paid'; at most {SEGMENTS_MAX} "
            f"segments and {TYPE_CHARS_MAX} characters",
        )


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern, parsed. `specificity` orders patterns that match the same type, the most exact one highest.

    Read from the left: an exact segment is above `*`, and `*` above `**`. So an exact type is above every wildcard.
    """

    text: str
    segments: tuple[str, ...]
    specificity: tuple[int, ...]

    @property
    def is_exact(self) -> bool:
        """Whether it has no wildcard, so that it matches one type only."""
        return ONE not in self.segments and ANY not in self.segments

    def matches(self, type_: str) -> bool:
        """Say whether `type_`, a valid type, is one of this pattern's."""
        return self.text == type_ if self.is_exact else _matches(self.segments, type_.split("."))


def parse_pattern(text: object) -> Pattern:
    """Return `text` as a pattern. Raises InvalidRequest, code invalid_pattern."""
    if type(text) is not str or not text or len(text) > TYPE_CHARS_MAX:
        raise _invalid(text, f"it must be a text of 1 to {TYPE_CHARS_MAX} characters")
    segments = tuple(text.split("."))
    if len(segments) > SEGMENTS_MAX:
        raise _invalid(text, f"it has {len(segments)} segments, at most {SEGMENTS_MAX} are allowed")
    for segment, following in zip(segments, (*segments[1:], ""), strict=True):
        if not segment:
            raise _invalid(text, "a segment is empty")
        if _PATTERN_SEGMENT.fullmatch(segment) is None:
            raise _invalid(text, f"{segment!r} is neither letters, digits, _ and -, nor a * or ** that stands alone")
        if segment == following == ANY:
            raise _invalid(text, "two ** side by side say no more than one")
    return Pattern(text, segments, (*(_RANK.get(segment, _EXACT) for segment in segments), _END))


def _invalid(text: object, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"{shown(text)} is no pattern of signal types: {why}",
        code="invalid_pattern",
        hint="as in 'order.paid', 'order.*' (one segment more) or 'order.**' (any number more)",
    )


def _matches(pattern: tuple[str, ...], parts: list[str]) -> bool:
    """Match with one place to come back to: when a later `**` is reached, what an earlier one took is settled."""
    at = taken = 0
    any_at, any_taken = -1, 0
    while taken < len(parts):
        if at < len(pattern) and pattern[at] == ANY:
            any_at, any_taken = at, taken
            at += 1
        elif at < len(pattern) and pattern[at] in (ONE, parts[taken]):
            at += 1
            taken += 1
        elif any_at >= 0:  # let the last ** take one segment more
            any_taken += 1
            at, taken = any_at + 1, any_taken
        else:
            return False
    return all(segment == ANY for segment in pattern[at:])
