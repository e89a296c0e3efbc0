"""Which session a name means: names may repeat, so a verb is never given to one of several by chance.

Pure. A session that was stopped has given its name up; the others hold theirs. It is *not* the look-up by id.

Rules: among those that are looked at first, one is the answer, several are ambiguous, and only when there is none the others
are looked at, by the same rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from procession.ipc.core.errors import InvalidRequest

#: Sessions an error lists; a name that more share is not told apart by reading.
LISTED_MAX: Final = 8


class Named(NamedTuple):
    """One session that was once given the name."""

    id: str
    phase: str
    age_s: float

    @property
    def holds_name(self) -> bool:
        return self.phase != "stopped"


def choose(name: str, sessions: Sequence[Named], *, stopped_first: bool = False) -> str | None:
    """Return the id of the one that `name` means, None when there is none; raises InvalidRequest (`ambiguous_name`).

    stopped_first: of a verb that brings a stopped session back.
    """
    holders = [one for one in sessions if one.holds_name]
    stopped = [one for one in sessions if not one.holds_name]
    for group in (stopped, holders) if stopped_first else (holders, stopped):
        if group:
            return only_one(name, group)
    return None


def choose_holder(name: str, sessions: Sequence[Named]) -> str | None:
    """Return the id of the one that holds `name`, None when nobody does; raises InvalidRequest (`ambiguous_name`)."""
    holders = [one for one in sessions if one.holds_name]
    return only_one(name, holders) if holders else None


def only_one(name: str, group: Sequence[Named]) -> str:
    """Return the id of the only one; raises InvalidRequest (`ambiguous_name`) with all of them, the oldest first."""
    if len(group) == 1:
        return group[0].id
    oldest_first = sorted(group, key=lambda one: -one.age_s)
    shown = [f"{one.id} ({one.phase}, {_age(one.age_s)} old)" for one in oldest_first[:LISTED_MAX]]
    if len(group) > LISTED_MAX:
        shown.append(f"and {len(group) - LISTED_MAX} more")
    raise InvalidRequest(
        f"{name!r} may mean {len(group)} sessions: {', '.join(shown)}",
        code="ambiguous_name",
        hint="give the id of the one you mean",
    )


def _age(age_s: float) -> str:
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if age_s >= seconds:
            return f"{age_s / seconds:.0f} {unit}"
    return f"{max(age_s, 0.0):.0f} s"
