"""What one client of the control socket has under way: calls, what they stream, and in which order answers may leave.

Pure: it sends nothing, waits for nothing and reads no clock. Its owner locks.

    open       the host works on it; what it streams gathers in a bounded ring
    answered   its outcome is known and leaves after the last item of its ring

Rules: numbers only grow; an answer never overtakes what its call streamed; calls take turns, so that a flood of one does
not hold up the others; a slow client loses the oldest items of a stream and is told how many (R-57).
"""

from __future__ import annotations

from collections import deque
from typing import Final

from procession.ipc.core.backend import Item, Outcome, Response, Ticket
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.item_ring import ItemRing

#: Calls of one client under way; as many as the mailbox of one session holds.
CALLS_MAX: Final = 256
#: Looks and orders (status, cancel, kill, ...) beyond those: whoever has flooded the host with work can still end it.
ORDERS_MAX: Final = 32
#: Withdrawals that may arrive before their call: they overtake, so at most one for each call that can be under way.
EARLY_MAX: Final = CALLS_MAX + ORDERS_MAX


class ServedCall:
    """One call of a client."""

    __slots__ = (
        "drop_with_client",
        "follows",
        "outcome",
        "places",
        "ring",
        "seq",
        "ticket",
        "waits_for_turn",
        "withdrawn",
    )

    def __init__(self, seq: int, *, follows: bool, drop_with_client: bool) -> None:
        self.seq = seq
        self.follows = follows
        self.drop_with_client = drop_with_client or follows
        self.ring = ItemRing()
        self.outcome: Outcome | None = None
        self.ticket: Ticket | None = None
        self.withdrawn = False
        self.places = ""
        """Whose mailbox has a place for it that counts towards its client's share."""
        self.waits_for_turn = False


class ServedCalls:
    """All calls of one client."""

    __slots__ = ("_calls", "_early", "_last_seq", "_turns", "answer_bytes")

    def __init__(self) -> None:
        self._calls: dict[int, ServedCall] = {}
        self._turns: deque[ServedCall] = deque()  # those with something to send
        self._early: set[int] = set()
        self._last_seq = 0
        self.answer_bytes = 0
        """Bytes of the outcomes that have not been taken yet."""

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def works(self) -> bool:
        """Whether a call is under way that ends by itself."""
        return any(not call.follows for call in self._calls.values())

    def is_full(self, *, for_work: bool) -> bool:
        """Say whether there is no place for one more call."""
        return len(self._calls) >= (CALLS_MAX if for_work else CALLS_MAX + ORDERS_MAX)

    def number(self, seq: int) -> bool:
        """Take the number of a new call; False when it was withdrawn before it came. Raises ProtocolBreach."""
        if seq <= self._last_seq:
            raise ProtocolBreach("the number of a call does not grow")
        self._last_seq = seq
        if seq in self._early:
            self._early.discard(seq)
            return False
        return True

    def add(self, call: ServedCall) -> None:
        assert call.seq not in self._calls
        self._calls[call.seq] = call

    def withdraw(self, seq: int) -> ServedCall | None:
        """Return the call to be cancelled, None when there is none (it is over, or has not come yet). Raises ProtocolBreach."""
        call = self._calls.get(seq)
        if call is not None:
            call.withdrawn = True
            return call
        if seq > self._last_seq and seq not in self._early:
            if len(self._early) >= EARLY_MAX:
                raise ProtocolBreach("too many withdrawals of calls that were never made")
            self._early.add(seq)
        return None

    def put(self, call: ServedCall, item: Item) -> bool:
        """Add what a call streams; say whether it is wanted at all."""
        if call.seq not in self._calls or call.outcome is not None:
            return False
        call.ring.put(item)
        self._take_turn(call)
        return True

    def finish(self, call: ServedCall, outcome: Outcome) -> bool:
        """Note a call's outcome; False when nobody waits for it any more."""
        if call.seq not in self._calls or call.outcome is not None:
            return False
        call.outcome = outcome
        self.answer_bytes += _size(outcome)
        self._take_turn(call)
        return True

    def _take_turn(self, call: ServedCall) -> None:
        if not call.waits_for_turn:
            call.waits_for_turn = True
            self._turns.append(call)

    @property
    def has_news(self) -> bool:
        return bool(self._turns)

    def next(self) -> tuple[ServedCall, Item | Outcome]:
        """Take what is to be sent next; a call whose outcome it is, is over."""
        call = self._turns.popleft()
        item = call.ring.take()
        if item is not None:
            if len(call.ring) or call.outcome is not None:
                self._turns.append(call)
            else:
                call.waits_for_turn = False
            return call, item
        assert call.outcome is not None
        del self._calls[call.seq]
        self.answer_bytes -= _size(call.outcome)
        return call, call.outcome

    def abandon(self) -> list[ServedCall]:
        """Forget everything, for the client is gone; return the calls that are to be cancelled for it."""
        doomed = [call for call in self._calls.values() if call.drop_with_client and call.outcome is None]
        self._calls.clear()
        self._turns.clear()
        self._early.clear()
        self.answer_bytes = 0
        return doomed


def _size(outcome: Outcome) -> int:
    if isinstance(outcome, Response):
        return len(memoryview(outcome.body)) + len(outcome.payload or b"")
    return len(outcome.message) + len(outcome.traceback)
