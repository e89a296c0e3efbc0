"""How large the state of an agent of one's own may become, and one change of any agent: told before anything is adopted.

It is *not* what a code session holds, which counts that itself, element by element (agent/code_session/sizes.py). Rule: what
came since the last look is added up, and the state is only measured when that sum might have reached a limit.
"""

from __future__ import annotations

from collections.abc import Mapping

from procession.ipc.core.bounds import BODY_DEPTH_MAX, CHANGE_BYTES_MAX, RESULT_NODES_MAX, RESULT_OBJECT_BYTES_MAX
from procession.ipc.core.errors import MessageTooLarge
from procession.ipc.core.prescan import prescan
from procession.ipc.core.state_ops import Value
from procession.ipc.core.values import UnsupportedValue, encode_value

STATE_BYTES_MAX = RESULT_OBJECT_BYTES_MAX
"""As of a code session, and what a snapshot may be to be read back."""


class StateBudget:
    """See the module's text. encoded_bytes: of the state that it begins with."""

    def __init__(self, encoded_bytes: int) -> None:
        self._bytes_at_most = self._values_at_most = encoded_bytes  # a value has at least one byte

    def check(self, ops_bytes: int, state: Mapping[str, Value]) -> None:
        """Count a change in, or refuse it. state: after it. Raises MessageTooLarge, code state_too_large."""
        size, values = self._bytes_at_most + ops_bytes, self._values_at_most + ops_bytes
        if size > STATE_BYTES_MAX or values > RESULT_NODES_MAX:
            try:
                data = encode_value(dict(state), path="state", nodes_max=RESULT_NODES_MAX, bytes_max=STATE_BYTES_MAX)
            except UnsupportedValue as error:
                raise MessageTooLarge(
                    f"the state would be larger than it may be: {error}",
                    code="state_too_large",
                    ran="yes",
                    applied=False,
                ) from None
            size, values = len(data), prescan(data, depth_max=2 * BODY_DEPTH_MAX, nodes_max=RESULT_NODES_MAX)
        self._bytes_at_most, self._values_at_most = size, values


def check_change(ops_bytes: int) -> None:
    """Refuse a change that does not fit a message. Raises MessageTooLarge, code change_too_large."""
    if ops_bytes > CHANGE_BYTES_MAX:
        raise MessageTooLarge(
            f"a change of {ops_bytes} bytes is over the limit of {CHANGE_BYTES_MAX} bytes",
            code="change_too_large",
            ran="yes",
            applied=False,
            hint="make it in several steps, or keep what is large in a file",
        )
