"""How important something is to remember: one formula over how recent, how often used, how sure and of what kind it is.

0.2 recency + 0.3 frequency + 0.25 confidence + 0.25 salience          each from 0 to 1
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final

RECENCY_WEIGHT, FREQUENCY_WEIGHT, CONFIDENCE_WEIGHT, SALIENCE_WEIGHT = 0.2, 0.3, 0.25, 0.25
RECENCY_HALF_MINUTES: Final = 30.0
"""After so many minutes the recency is one half."""
FREQUENCY_COUNT_MAX: Final = 10
"""What was used so often could not be used more often, as far as this goes."""

_SALIENCE: Final[Mapping[str, float]] = {
    **dict.fromkeys(
        ("decision", "architectural_decision", "convention", "coding_standard", "lesson_learned", "risk"), 1.0
    ),
    "discovery": 0.8,
    "fact": 0.7,
    "hypothesis": 0.5,
    "assumption": 0.4,
}
_OTHER_SALIENCE: Final = 0.3


def importance(*, minutes: float, count: int, confidence: float, memory_type: str | None) -> float:
    """Return the importance, 0 to 1, of what was last used `minutes` ago and `count` times in all."""
    return (
        RECENCY_WEIGHT * recency(minutes)
        + FREQUENCY_WEIGHT * frequency(count)
        + CONFIDENCE_WEIGHT * confidence
        + SALIENCE_WEIGHT * salience(memory_type)
    )


def recency(minutes: float) -> float:
    """Return how recent that is, 1 for now; a clock that went back makes nothing more recent than that."""
    return 1.0 / (1.0 + max(0.0, minutes) / RECENCY_HALF_MINUTES)


def frequency(count: int) -> float:
    """Return how often that is, 1 for FREQUENCY_COUNT_MAX times and more."""
    return min(count / FREQUENCY_COUNT_MAX, 1.0)


def salience(memory_type: str | None) -> float:
    """Return how much a memory of this type matters; types that the table does not name are as unknown ones."""
    return _OTHER_SALIENCE if memory_type is None else _SALIENCE.get(memory_type, _OTHER_SALIENCE)


def minutes_between(earlier: dt.datetime, later: dt.datetime) -> float:
    """Return the minutes from `earlier` to `later`."""
    return (later - earlier) / dt.timedelta(minutes=1)
