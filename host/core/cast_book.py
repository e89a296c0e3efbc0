"""The signals that a session was given and has not handled to their end, and those that were set aside: an immutable life each.

    take ──▶ taken ──▶ over                    handled: forgotten
               │
               └──▶ aside ──▶ retry | drop     it was running at two deaths, or nobody could take it: somebody decides

Pure: time and ids are arguments. It is *not* the mailbox, where what is taken waits for its turn. Bounded: what is set aside
beyond its bounds pushes out the oldest, which is told.
"""

from __future__ import annotations

from typing import Final

import msgspec

from procession.host.core.journal_entries import Cast
from procession.ipc.core.bounds import MiB
from procession.ipc.core.errors import InvalidRequest

ASIDE_MAX: Final = 1_000
ASIDE_BYTES_MAX: Final = 16 * MiB
"""Of one session: somebody has to look at them one by one."""


class CastBook:
    """See the module's text."""

    __slots__ = ("_aside", "_aside_bytes", "_order", "_taken")

    def __init__(self) -> None:
        self._taken: dict[str, Cast] = {}
        self._aside: dict[str, Cast] = {}
        self._aside_bytes = 0
        self._order = 0

    @property
    def taken(self) -> list[Cast]:
        """Those that are to be handled, in their order."""
        return sorted(self._taken.values(), key=lambda cast: cast.order)

    @property
    def aside(self) -> list[Cast]:
        """Those that were set aside, the oldest first."""
        return list(self._aside.values())

    def take(self, ident: str, type_: str, signal: bytes, at: float) -> Cast:
        """Take a signal in. at: seconds since the epoch."""
        self._order += 1
        cast = self._taken[ident] = Cast(ident, self._order, at, type_, signal)
        return cast

    def restore(self, cast: Cast) -> None:
        """Take up one that a former host had."""
        self._order = max(self._order, cast.order)
        if cast.status == "aside":
            self._aside[cast.id] = cast
            self._aside_bytes += len(cast.signal)
        else:
            self._taken[cast.id] = cast

    def over(self, ident: str) -> bool:
        """It was handled. Say whether it was here."""
        return self._taken.pop(ident, None) is not None

    def set_aside(
        self, ident: str, code: str, text: str, deaths: int, *, at: float, signal: bytes = b"", type_: str = ""
    ) -> tuple[Cast, list[Cast]]:
        """Set one aside, of which only the mailbox knew when it is not here. Return it, and what had to go for it."""
        cast = self._taken.pop(ident, None)
        if cast is None:
            self._order += 1
            cast = Cast(ident, self._order, at, type_, signal)
        cast = msgspec.structs.replace(cast, status="aside", deaths=deaths, code=code, text=text)
        self._aside[ident] = cast
        self._aside_bytes += len(cast.signal)
        gone: list[Cast] = []
        while len(self._aside) > ASIDE_MAX or (self._aside_bytes > ASIDE_BYTES_MAX and len(self._aside) > 1):
            gone.append(self.drop(next(iter(self._aside))))
        return cast, gone

    def retry(self, ident: str) -> Cast:
        """Take one in again that was set aside, behind all that wait. Raises InvalidRequest (signal_not_found)."""
        cast = self.drop(ident)
        self._order += 1
        cast = msgspec.structs.replace(cast, status="taken", order=self._order, code="", text="")
        self._taken[ident] = cast
        return cast

    def drop(self, ident: str) -> Cast:
        """Forget one that was set aside. Raises InvalidRequest (signal_not_found)."""
        cast = self._aside.pop(ident, None)
        if cast is None:
            raise InvalidRequest(f"no signal {ident[:80]!r} was set aside", code="signal_not_found")
        self._aside_bytes -= len(cast.signal)
        return cast
