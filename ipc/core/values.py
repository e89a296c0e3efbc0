"""Values across processes: plain data and a closed table of tags, both ways.

The one door to `value_encode`, `value_decode`, `value_tags` and `value_hints`. It is *not* pickle: what comes back is
data of types that the table names, and nothing that was sent can choose what runs.

Rules: what `encode_value` takes comes back equal and of the same type (a pure path as a Path), unless `lossy` was asked
for; what it does not take is an `UnsupportedValue` that names the place; hostile bytes are a `ProtocolBreach`.
"""

from __future__ import annotations

from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.value_decode import decode_value
from procession.ipc.core.value_encode import UnsupportedValue, encode_value, warm

__all__ = ["ProtocolBreach", "UnsupportedValue", "decode_value", "encode_value", "warm"]
