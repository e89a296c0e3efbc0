"""From what a client asks to a request of the host: every field checked, every body decoded into its declared type.

It decides nothing else and sends nothing. What is wrong is an InvalidRequest that says so; it costs the client that call only.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from procession.ipc.core.backend import Request
from procession.ipc.core.bounds import PAYLOAD_BYTES_MAX, TIMEOUT_S_MAX
from procession.ipc.core.errors import InvalidRequest, MessageTooLarge
from procession.ipc.core.messages import Ask
from procession.ipc.core.operations import DURABILITIES, OPERATIONS, FollowBody, Operation

#: Names and ids a client may send; what is longer is no session's.
_NAME_CHARS_MAX: Final = 4096

_DECODERS: Final[dict[str, msgspec.msgpack.Decoder[Any]]] = {
    name: msgspec.msgpack.Decoder(op.params) for name, op in OPERATIONS.items()
}


def request_of(ask: Ask) -> Request:
    """Return the request that a client asks for, without its `on_item`. Raises InvalidRequest or MessageTooLarge."""
    op = OPERATIONS.get(ask.op)
    if op is None:
        raise InvalidRequest(
            f"{ask.op[:80]!r} is no operation of this host",
            code="unknown_operation",
            hint="client and host may be of different releases",
        )
    if len(ask.session) > _NAME_CHARS_MAX or len(ask.call_id) > _NAME_CHARS_MAX:
        raise InvalidRequest("a session or call id is absurdly long", code="invalid_session_id")
    if ask.payload is not None and len(ask.payload) > PAYLOAD_BYTES_MAX:
        raise MessageTooLarge(
            f"a payload of {len(ask.payload)} bytes is over the limit of {PAYLOAD_BYTES_MAX} bytes",
            code="payload_too_large",
        )
    try:
        body = _DECODERS[op.name].decode(ask.body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as problem:
        raise InvalidRequest(f"{op.name}: {str(problem)[:200]}", code="invalid_body") from None
    return Request(
        op,
        ask.session,
        body,
        ask.payload,
        _timeout_of(ask, op, body),
        wait=ask.wait,
        fail_fast=ask.fail_fast,
        call_id=ask.call_id,
        durability=_durability_of(ask),
    )


def _durability_of(ask: Ask) -> str:
    if ask.durability and ask.durability not in DURABILITIES:
        raise InvalidRequest(f"{ask.durability[:80]!r} is no durability", code="invalid_durability")
    return ask.durability


def follows(body: msgspec.Struct) -> bool:
    """Say whether a call goes on until it is cancelled."""
    return isinstance(body, FollowBody) and body.follow


def _timeout_of(ask: Ask, op: Operation, body: msgspec.Struct) -> float | None:
    """Return the operation's timeout in seconds: finite, but for what goes on until it is cancelled."""
    timeout_s = ask.timeout_s
    if timeout_s is None:
        return None if follows(body) else op.timeout_s
    if not (math.isfinite(timeout_s) and 0 < timeout_s <= TIMEOUT_S_MAX):
        raise InvalidRequest(
            f"timeout must be above 0 and at most {TIMEOUT_S_MAX:g} s, not {timeout_s!r}", code="invalid_timeout"
        )
    return timeout_s
