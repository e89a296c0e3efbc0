"""A walk over msgpack that builds nothing: it says whether bytes are safe to decode before any object is made of them.

1 MiB of empty maps becomes 70 MiB of objects, and a million nested arrays exhaust a decoder's stack; both are known
here at the price of one pass. It is *not* a decoder: whether text is UTF-8 is left to the one that builds it.

Rules: work is bounded by `nodes_max` and by the length of the input, whatever the bytes say; what is not plain data
(ext types but msgpack's own timestamp, map keys that are no text, the unused code) is a breach; so are bytes after the
value.
"""

from __future__ import annotations

from procession.ipc.core.bounds import BODY_DEPTH_MAX, BODY_NODES_MAX
from procession.ipc.core.breach import ProtocolBreach

# What an object costs in memory, measured on CPython 3.11 and rounded up: the point is the order of magnitude.
_CHILD_BYTES = 40
_ARRAY_BYTES, _SLOT_BYTES = 72, 8
_MAP_EMPTY_BYTES, _MAP_BYTES, _ENTRY_BYTES = 80, 160, 32
WIDE_CHAR_BYTES = 4
"""One astral character makes a whole text take four bytes a character."""


def _fixed_sizes() -> bytes:
    """Return, for each first byte, the whole size of its value when that is fixed and it holds no other; else 0."""
    size = bytearray(256)
    for code in (*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3):
        size[code] = 1
    for code in range(0xA0, 0xC0):
        size[code] = 1 + (code & 0x1F)
    for code, width in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8), (0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8)):
        size[code] = 1 + width
    size[0xCA], size[0xCB] = 5, 9
    return bytes(size)


FIXED_SIZE = _fixed_sizes()
"""`FIXED_SIZE[data[0]] == len(data)`: the bytes are one scalar, whole, and need no walk."""

_IS_TEXT = bytes(0xA0 <= code <= 0xBF or 0xD9 <= code <= 0xDB for code in range(256))
_LENGTH_WIDTH = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
"""How many bytes of length follow the first byte; a first byte that is in no table is ext or unused."""
_TIMESTAMPS = ((b"\xd7\xff", 10), (b"\xd6\xff", 6), (b"\xc7\x0c\xff", 15))
"""The three forms of msgpack's timestamp, the usual one first, and how long each is."""


def prescan(data: bytes, *, depth_max: int = BODY_DEPTH_MAX, nodes_max: int = BODY_NODES_MAX) -> int:
    """Return how many values `data` holds, map keys and the value itself included. Raises ProtocolBreach."""
    if data and FIXED_SIZE[data[0]] == len(data) and nodes_max:
        return 1  # one small scalar, what most replies are
    return measure(data, depth_max=depth_max, nodes_max=nodes_max)[0]


def measure(data: bytes, *, depth_max: int = BODY_DEPTH_MAX, nodes_max: int = BODY_NODES_MAX) -> tuple[int, int]:
    """Return (values, bytes): as `prescan`, and about the memory the decoded objects take beyond the input's length.

    A container holds its children at one depth more; a bare scalar has depth 0. Raises ProtocolBreach.
    """
    at, end = 0, len(data)
    nodes, object_bytes = 1, _CHILD_BYTES
    left, in_map = 1, False  # values missing in the container at hand, and in those around it
    around: list[tuple[int, bool]] = []
    if nodes > nodes_max:
        raise ProtocolBreach("too many values")
    try:
        while True:
            while not left:
                if not around:
                    if at != end:
                        raise ProtocolBreach("bytes after the value" if at < end else "the value is cut short")
                    return nodes, object_bytes
                left, in_map = around.pop()
            code = data[at]
            if in_map and not left & 1 and not _IS_TEXT[code]:
                raise ProtocolBreach("a map key is no text")
            left -= 1
            size = FIXED_SIZE[code]
            if size:
                at += size
                continue
            if code < 0xA0:  # fixmap and fixarray
                is_map = code < 0x90
                count = code & 0x0F
                at += 1
            else:
                width = _LENGTH_WIDTH.get(code)
                if width is None:
                    whole = next((whole for head, whole in _TIMESTAMPS if data.startswith(head, at)), 0)
                    if not whole:
                        raise ProtocolBreach("an ext type or an unused code")
                    at += whole
                    continue
                count = int.from_bytes(data[at + 1 : at + 1 + width], "big")
                at += 1 + width
                if code < 0xDC:  # text and bytes
                    if code >= 0xD9 and not data[at : at + count].isascii():
                        object_bytes += count * WIDE_CHAR_BYTES
                    at += count
                    continue
                is_map = code >= 0xDE
            if count > end - at:  # each needs a byte at the least: refuse before counting on it
                raise ProtocolBreach("the value is cut short")
            if is_map:
                object_bytes += _MAP_BYTES + count * (2 * _CHILD_BYTES + _ENTRY_BYTES) if count else _MAP_EMPTY_BYTES
                count *= 2
            else:
                object_bytes += _ARRAY_BYTES + count * (_CHILD_BYTES + _SLOT_BYTES)
            nodes += count
            if nodes > nodes_max:
                raise ProtocolBreach("too many values")
            if len(around) >= depth_max:
                raise ProtocolBreach("nested too deep")
            around.append((left, in_map))
            left, in_map = count, is_map
    except IndexError:
        raise ProtocolBreach("the value is cut short") from None
