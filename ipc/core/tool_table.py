"""A user's tools on their way to a session: what each is called and needs, and for its worker how it is run.

    Host(tools=) ──▶ SentTool, encoded ──▶ the host reads names and tiers ──▶ Boot ──▶ the session: specs ──▶ its worker: code

It is *not* opened on the way: the host and the session process hand `code` on as bytes; a worker of the session loads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from procession.ipc.core.bounds import MiB
from procession.ipc.core.errors import InvalidRequest, MessageTooLarge
from procession.ipc.core.tool_tiers import BUILTIN_TIERS

#: With the built-in ones no more than a model can be given at once.
TOOLS_MAX: Final = 112
#: All of them together: each new process of the session is sent them.
CODE_BYTES_MAX: Final = 16 * MiB


class SentTool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One tool. parameters: its JSON schema. code: the function, pickled."""

    name: str
    tier: str
    description: str
    parameters: dict[str, Any]
    code: bytes


_decode: Final = msgspec.msgpack.Decoder(tuple[SentTool, ...]).decode
_encode: Final = msgspec.msgpack.Encoder().encode


def pack_tools(tools: Iterable[SentTool]) -> bytes:
    """Return tools as they travel, nothing for none.

    Raises InvalidRequest (already_registered, too_many_tools), MessageTooLarge (tools_too_large).
    """
    listed = tuple(tools)
    if not listed:
        return b""
    names = set(BUILTIN_TIERS)
    for tool in listed:
        if tool.name in names:
            raise InvalidRequest(
                f"there is a tool named {tool.name!r} already",
                code="already_registered",
                hint="give yours another name: @tool(name=...)",
            )
        names.add(tool.name)
    if len(listed) > TOOLS_MAX:
        raise InvalidRequest(
            f"{len(listed)} tools are more than the {TOOLS_MAX} a session can have", code="too_many_tools"
        )
    data = _encode(listed)
    if len(data) > CODE_BYTES_MAX:
        raise MessageTooLarge(
            f"the tools take {len(data)} bytes, and may take {CODE_BYTES_MAX}",
            code="tools_too_large",
            hint="what a tool needs of data it can read from a file",
        )
    return data


def read_tools(data: bytes) -> tuple[SentTool, ...]:
    """Return the tools that `pack_tools` packed. Raises InvalidRequest, code invalid_tools."""
    try:
        return _decode(data) if data else ()
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"tools that cannot be read: {error}", code="invalid_tools") from None
