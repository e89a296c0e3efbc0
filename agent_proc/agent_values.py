"""What goes in and out of an agent, as bytes: parameters, signals, moments. A few lines each, shared by the server's parts."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from procession.agent_proc.agent.change import Moment
from procession.agent_proc.agent.signals import Signal
from procession.agent_proc.agent.texts import shown
from procession.ipc.core.bounds import RESULT_NODES_MAX
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import InvalidRequest, ProcessionError
from procession.ipc.core.state_ops import Value
from procession.ipc.core.values import decode_value, encode_value

_UTC: Final = UTC


def new_id() -> str:
    """Return a UUID of version 4 as text; from the kernel, so that no two forks draw the same."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def now() -> Moment:
    """Return this moment."""
    return Moment(datetime.now(_UTC), new_id)


def decoded(data: bytes) -> Any:
    """Return the value of a payload, an empty map for none. Raises InvalidRequest, code invalid_parameters."""
    try:
        return decode_value(data, nodes_max=RESULT_NODES_MAX) if data else {}
    except ProtocolBreach as breach:
        raise InvalidRequest(f"parameters that cannot be read: {breach.reason}", code="invalid_parameters") from None


def decoded_map(data: bytes, what: str) -> dict[str, Value]:
    """Return the parameters of a payload. Raises InvalidRequest, code invalid_parameters."""
    value = decoded(data)
    if type(value) is not dict or any(type(key) is not str for key in value):
        raise InvalidRequest(f"{what} are a map of names, not {shown(value)}", code="invalid_parameters")
    return value


def signal_from(data: bytes) -> Signal:
    """Return the signal of a payload. Raises InvalidRequest, code invalid_signal or as Signal."""
    fields = decoded(data)
    if type(fields) is dict and fields.get("time") is not None and type(fields["time"]) is not datetime:
        raise InvalidRequest(f"a signal's time is a datetime, not {shown(fields['time'])}", code="invalid_signal_time")
    try:
        return msgspec.convert(fields, Signal)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        if isinstance(cause, ProcessionError):
            raise cause from None
        raise InvalidRequest(f"not a signal: {error}", code="invalid_signal") from None


def signal_bytes(signal: Signal) -> bytes:
    """Return a signal as `signal_from` reads it."""
    fields = {name: getattr(signal, name) for name in signal.__struct_fields__}
    return encode_value(fields, path="signal", nodes_max=RESULT_NODES_MAX)
