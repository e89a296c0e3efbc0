"""How the places of a session's mailbox are shared by the clients of the control socket, when there are more calls than places.

    half of the places free   everybody may take some
    else                      each client that asked within the last second has an equal share, and is refused beyond it

So one that floods a session with calls cannot keep the others out: they are refused for as long as its surplus takes to be
done, and have their share from then on (R-74). It is *not* the mailbox, whose bound stands whoever calls. Pure; its owner locks.
"""

from __future__ import annotations

from typing import Final

from procession.ipc.core.bounds import MAILBOX_COMMANDS_MAX

#: Who has not asked for so long is not waiting for a place.
WANTS_S: Final = 1.0


class FairShares:
    """See the module's text. Clients are numbers."""

    __slots__ = ("_asked", "_open", "_places")

    def __init__(self, places: int = MAILBOX_COMMANDS_MAX) -> None:
        self._places = places
        self._open: dict[str, dict[int, int]] = {}
        self._asked: dict[str, dict[int, float]] = {}

    def enter(self, session: str, client: int, now: float) -> bool:
        """Take a place for a client's call; False when it has its share already."""
        of_session = self._open.setdefault(session, {})
        asked = self._asked.setdefault(session, {})
        asked[client] = now
        own = of_session.get(client, 0)
        if sum(of_session.values()) >= self._places // 2:
            for other in [other for other, at in asked.items() if now - at > WANTS_S and other not in of_session]:
                del asked[other]
            if own >= max(1, self._places // len(asked)):
                return False
        of_session[client] = own + 1
        return True

    def leave(self, session: str, client: int) -> None:
        """Give the place of a call that is over back."""
        of_session = self._open.get(session)
        own = of_session.get(client, 0) if of_session is not None else 0
        if of_session is None or own == 0:
            return  # its client was forgotten meanwhile
        if own > 1:
            of_session[client] = own - 1
            return
        del of_session[client]
        if not of_session:
            del self._open[session]
            self._asked.pop(session, None)

    def forget(self, client: int) -> None:
        """A client is gone: what it has under way goes on, and takes nobody's share."""
        for session in [session for session, of_session in self._open.items() if client in of_session]:
            self._open[session][client] = 1
            self.leave(session, client)
        for asked in self._asked.values():
            asked.pop(client, None)
