"""The one exception for bytes that break the protocol.

It is what every decoder of this room raises, and the only thing that hostile bytes may make it raise. It is *not* part
of the error tree that callers see (`errors.py`): a breach is not the outcome of a call, it ends the session that sent
the bytes, and the calls in flight then end with what that death means for them.

Rule: `reason` names what is wrong with the bytes and never quotes them, so that it can be logged as it is.
"""

from __future__ import annotations


class ProtocolBreach(Exception):
    """The other side sent bytes that no honest peer sends."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
