"""What a Push carries: one item of a stream with a tag that says which kind it is.

    [1, OutputChunk]    [2, Event]    [3, SentSignal]

Rule: an item is decoded into its declared type or it is a breach; the tag is looked up in a closed table.
"""

from __future__ import annotations

from typing import Final

import msgspec

from procession.ipc.core.backend import Item
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.records import Event, OutputChunk, SentSignal

_OUTPUT: Final = 1
_EVENT: Final = 2
_SIGNAL: Final = 3
_Tagged = tuple[int, msgspec.Raw]

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_tagged: Final = msgspec.msgpack.Decoder(_Tagged).decode
_decode_output: Final = msgspec.msgpack.Decoder(OutputChunk).decode
_decode_event: Final = msgspec.msgpack.Decoder(Event).decode
_decode_signal: Final = msgspec.msgpack.Decoder(SentSignal).decode
_TAGS: Final[dict[type[Item], int]] = {OutputChunk: _OUTPUT, Event: _EVENT, SentSignal: _SIGNAL}


def encode_item(item: Item) -> msgspec.Raw:
    """Return the body of a Push."""
    return msgspec.Raw(_encode((_TAGS[type(item)], item)))


def decode_item(body: msgspec.Raw) -> Item:
    """Return the item of a Push; raises ProtocolBreach."""
    try:
        tag, item = _decode_tagged(body)
        if tag == _OUTPUT:
            return _decode_output(item)
        if tag == _EVENT:
            return _decode_event(item)
        if tag == _SIGNAL:
            return _decode_signal(item)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as problem:
        raise ProtocolBreach(f"not an item of a stream: {str(problem)[:200]}") from None
    raise ProtocolBreach("an item of an unknown kind")
