"""The state of one session, as its host holds it: what it began with, and every op since, folded.

    what it began with ── commit(ops) ──▶ ops that wait ── settle() ──▶ state          the same fold as the session's own

It is *not* what answers a healthy session's readers (its agent does), and not the journal. Rules: ops are another
process's bytes: they are decoded within bounds and all apply, or the session broke the protocol; what waits is bounded, and
settled before anybody reads; what a session holds has a limit, and is only measured anew when what came since might have
reached it. To take ops in costs a caller nothing, to fold them is done for many at once: so an answer need not wait for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from procession.ipc.core.bounds import RESULT_NODES_MAX, MiB
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.names import name_problem
from procession.ipc.core.state_ops import InvalidOp, Value, apply, decode_ops, state_bytes
from procession.ipc.core.values import UnsupportedValue, decode_value, encode_value

WAITING_MAX: Final = 64
WAITING_BYTES_MAX: Final = 1 * MiB
"""Commits that may wait to be folded, and their bytes: more are folded at once, by whoever brings them."""
STATE_BYTES_MAX: Final = 128 * MiB
"""Twice what the code session lets itself hold (64 MiB): who gets here has stopped counting."""


class StateFold:
    """See the module's text. encoded: what it begins with, as `encode_value` writes it; empty when that is not known yet.

    Whatever reads raises ProtocolBreach for ops that were no ops; what was settled before them stays.
    """

    def __init__(self, encoded: bytes = b"", bytes_max: int = STATE_BYTES_MAX) -> None:
        self.number = 0
        """How many commits there were."""
        self._encoded: bytes | None = encoded or None
        self._state: dict[str, Value] | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._bytes_max = bytes_max
        self._bytes_at_most = len(encoded)

    @property
    def is_known(self) -> bool:
        """Whether there is a state: an agent of a program's own tells it with its first commit."""
        return self._state is not None or self._encoded is not None or bool(self._waiting)

    @property
    def state(self) -> dict[str, Value]:
        """The state; empty when nothing is known. To be read only: old and new states share what is equal."""
        self.settle()
        if self._state is None:
            self._state = {} if self._encoded is None else _decoded(self._encoded)
        return self._state

    @property
    def encoded(self) -> bytes:
        """The state as bytes."""
        state = self.state
        if self._encoded is None:
            self._encoded = encode_value(state, path="state", nodes_max=RESULT_NODES_MAX)
        return self._encoded

    def without(self, keys: Collection[str]) -> bytes:
        """Return the state as bytes, but for these keys."""
        if not any(key in self.state for key in keys):
            return self.encoded
        rest = {name: value for name, value in self.state.items() if name not in keys}
        return encode_value(rest, path="state", nodes_max=RESULT_NODES_MAX)

    def forget_decoded(self) -> None:
        """Keep the bytes alone: nobody is about to change it."""
        if self.is_known:
            self._encoded, self._state = self.encoded, None

    def commit(self, data: bytes) -> bool:
        """Take the ops of one commit in. Say whether they should be settled soon, which the caller sees to."""
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self.number += 1
        if len(self._waiting) >= WAITING_MAX or self._waiting_bytes > WAITING_BYTES_MAX:
            self.settle()
        return len(self._waiting) == 1

    def settle(self) -> None:
        """Fold what waits. Raises ProtocolBreach: then the rest of it is gone, and the state is as before what was wrong."""
        if not self._waiting:
            return
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for data in waiting:
            self._fold(data)

    def _fold(self, data: bytes) -> None:
        ops = decode_ops(data)
        before = self.state
        try:
            after = apply(before, ops, checked=True)
        except InvalidOp as error:
            raise ProtocolBreach(f"ops that do not apply: {error}") from None
        at_most = self._bytes_at_most + len(data)
        if at_most > self._bytes_max:
            at_most = _measured(after)
            if at_most > self._bytes_max:
                raise ProtocolBreach(f"a state of {at_most} bytes, over the limit of {self._bytes_max}")
        self._state, self._encoded, self._bytes_at_most = after, None, at_most


def named_in(state: Mapping[str, Value], name: str) -> str:
    """Return the name that the record of a code session has, which is `name` when it says nothing that can be one.

    One record of a session: its name is the agent's to change, and what the host calls it by follows.
    """
    record = state.get("session")
    found = record.get("name") if type(record) is dict else None
    return found if type(found) is str and name_problem(found) is None else name


def _decoded(encoded: bytes) -> dict[str, Value]:
    state = decode_value(encoded, nodes_max=RESULT_NODES_MAX)
    if type(state) is not dict:
        raise ProtocolBreach("a state that is no map")
    return state


def _measured(state: dict[str, Value]) -> int:
    try:
        return state_bytes(state)
    except UnsupportedValue as error:
        raise ProtocolBreach(f"a state that cannot be kept: {error}") from None
