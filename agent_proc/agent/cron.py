"""Cron expressions: which minutes they name, and when the next one is. Pure: the time zone comes with the time.

    minute (0-59)  hour (0-23)  day of month (1-31)  month (1-12, JAN-DEC)  day of week (0-7, SUN-SAT; 0 and 7 are Sunday)

It is *not* a clock and keeps no jobs. Rules: each field is `*`, a number, a range `1-5`, a list `1,3`, with steps `*/15`
or `8-18/2`; when day of month and day of week both do not begin with `*`, a day that is either counts (as in every cron).
A minute that a clock change leaves out does not come; one that it repeats comes once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from procession.agent_proc.agent.texts import NAME_CHARS_MAX, shown
from procession.ipc.core.errors import InvalidRequest

CRON_CHARS_MAX: Final = 256
"""Five lists of every minute and hour would be longer, and are written with `*`."""
_DAYS_AHEAD_MAX: Final = 8 * 366 + 1
"""29 February comes at least every eight years (1896 to 1904, 2096 to 2104); what does not come until then never does."""


class _Field(NamedTuple):
    name: str
    least: int
    most: int
    words: Mapping[str, int]


_MONTHS: Final = {word: at for at, word in enumerate("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), 1)}
_DAYS: Final = {word: at for at, word in enumerate("SUN MON TUE WED THU FRI SAT".split())}
_FIELDS: Final = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of month", 1, 31, {}),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)
_MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_PART: Final = re.compile(r"(?:(\*)|(\w{1,3})(?:-(\w{1,3}))?)(?:/(\d{1,2}))?", re.ASCII)
_TIME_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class CronExpression:
    """What each field allows, sorted. either_day: a day counts when its month day or its week day does."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    month_days: frozenset[int]
    months: frozenset[int]
    week_days: frozenset[int]
    either_day: bool

    def next_after(self, at: datetime) -> datetime | None:
        """Return the first time after `at`, in its time zone; None when there is none, as for 30 February."""
        assert at.tzinfo is not None, "a time without a zone names no moment"
        local = at.replace(second=0, microsecond=0, fold=0)
        for day in range(_DAYS_AHEAD_MAX):
            date = local + timedelta(days=day)
            if date.month in self.months and self._names_day(date):
                for hour in self.hours:
                    for minute in self.minutes:
                        found = date.replace(hour=hour, minute=minute)
                        if found > local and _exists(found) and found.astimezone(UTC) > at.astimezone(UTC):
                            return found
        return None

    def _names_day(self, date: datetime) -> bool:
        in_month, in_week = date.day in self.month_days, date.isoweekday() % 7 in self.week_days
        return in_month or in_week if self.either_day else in_month and in_week


def _exists(local: datetime) -> bool:
    """Say whether a clock in that zone shows this time at all: one hour of spring it does not."""
    return local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None) == local.replace(tzinfo=None)


def parse_cron(text: object) -> CronExpression:
    """Return what `text` says. Raises InvalidRequest, code invalid_cron."""
    if type(text) is not str or len(text) > CRON_CHARS_MAX:
        raise _invalid(text, f"it must be a text of at most {CRON_CHARS_MAX} characters")
    parts = _MACROS.get(text.strip().lower(), text).upper().split()
    if len(parts) != len(_FIELDS):
        raise _invalid(text, f"it has {len(parts)} fields, not {len(_FIELDS)}")
    minutes, hours, month_days, months, week_days = (
        _read(field, part, text) for field, part in zip(_FIELDS, parts, strict=True)
    )
    return CronExpression(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        month_days=frozenset(month_days),
        months=frozenset(months),
        week_days=frozenset(day % 7 for day in week_days),
        either_day=not parts[2].startswith("*") and not parts[4].startswith("*"),
    )


def check_time_zone(name: object) -> None:
    """Refuse what cannot be the name of a time zone; whether there is one is the shell's to find."""
    if type(name) is not str or len(name) > NAME_CHARS_MAX or _TIME_ZONE.fullmatch(name) is None:
        raise InvalidRequest(
            f"{shown(name)} is no name of a time zone", code="invalid_timezone", hint="as in 'UTC' or 'Europe/Berlin'"
        )


def _read(field: _Field, part: str, text: str) -> set[int]:
    found: set[int] = set()
    for piece in part.split(","):
        match = _PART.fullmatch(piece)
        if match is None:
            raise _invalid(text, f"its {field.name} {piece!r} cannot be read")
        star, first, last, step = match.groups()
        least, most = field.least, field.most
        if not star:
            least = _number(field, first, text)
            most = _number(field, last, text) if last else field.most if step else least
        if least > most or step in ("0", "00"):
            raise _invalid(text, f"its {field.name} {piece!r} names nothing")
        found.update(range(least, most + 1, int(step or 1)))
    return found


def _number(field: _Field, word: str, text: str) -> int:
    value = field.words.get(word, -1) if not word.isdigit() else int(word)
    if not field.least <= value <= field.most:
        raise _invalid(text, f"its {field.name} has {word!r}; {field.least} to {field.most} are allowed")
    return value


def _invalid(text: object, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"{shown(text)} is no cron expression: {why}",
        code="invalid_cron",
        hint="five fields, as in '*/5 * * * *' or '0 9 * * MON-FRI', or @hourly, @daily, @weekly, @monthly, @yearly",
    )
