r"""The closed table of tags: how a value that msgpack has no form for is said in a form that it has.

A tagged value is a map of exactly one entry whose key is two characters, NUL and a letter: `{"\0t": [1, 2]}` is the
tuple (1, 2). It is *not* an extension point: what is not in this table is not sent, and another letter is a breach.

Rule: a dict of the program that looks like a tag is itself sent as PAIRS, so nothing it says is mistaken for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from decimal import Decimal

TUPLE: Final = "\0t"  # [item, ...]
SET: Final = "\0s"  # [item, ...]
FROZENSET: Final = "\0f"  # [item, ...]
PAIRS: Final = "\0d"  # a dict: [key, value, key, value, ...]
ORDERED: Final = "\0O"  # an OrderedDict, as PAIRS
COUNTER: Final = "\0C"  # a Counter, as PAIRS
DEQUE: Final = "\0q"  # [maxlen or nil, item, ...]
BYTEARRAY: Final = "\0b"  # bytes
INTEGER: Final = "\0i"  # bytes: two's complement, big endian; what does not fit 64 bits
TEXT: Final = "\0u"  # bytes: UTF-8 with lone surrogates
COMPLEX: Final = "\0c"  # [real, imaginary]
DATETIME: Final = "\0D"  # [year, month, day, hour, minute, second, microsecond, fold, ...ZONE]; in UTC a timestamp
DATE: Final = "\0a"  # [year, month, day]
TIME: Final = "\0T"  # [hour, minute, second, microsecond, fold, ...ZONE]
TIMEDELTA: Final = "\0l"  # [days, seconds, microseconds]
DECIMAL: Final = "\0n"  # text
UUID: Final = "\0U"  # 16 bytes
PATH: Final = "\0p"  # text, or TEXT
# ZONE: nothing when naive; else utc offset in microseconds or nil, name or nil, key of the zone or nil.

TAG_CHARS: Final = 2
MARK: Final = b"\x81\xa2\x00"
"""Every tagged value of ours starts with these bytes: without them a body is plain and needs no second look."""

INTEGER_BYTES_MAX: Final = 64 * 1024
"""Turning digits into an int and back is quadratic, but only for text; 64 KiB still multiply in milliseconds."""
DECIMAL_CHARS_MAX: Final = 10_000
DECIMAL_EXPONENT_MAX: Final = 10_000
"""decimal128 ends at 6144; beyond, `int(value)` of a short text would fill the memory."""
ZONE_CHARS_MAX: Final = 64
"""The longest key of the zone database has 32."""


def looks_tagged(key: str) -> bool:
    """Whether a map whose one key is `key` would be read as a tag."""
    return len(key) == TAG_CHARS and key[0] == "\0"


def wire_depth(depth_max: int) -> int:
    """Return how deep msgpack may nest for values `depth_max` deep: a tag is one map more, and a leaf may be tagged."""
    return 2 * depth_max + 2


def decimal_fits(value: Decimal) -> bool:
    """Whether no arithmetic on `value` is out of all proportion to its text."""
    return not value.is_finite() or -DECIMAL_EXPONENT_MAX <= value.adjusted() <= DECIMAL_EXPONENT_MAX


def zone_key_fits(key: str) -> bool:
    """Whether `key` has the form of one of the zone database: nothing else is looked up."""
    if len(key) > ZONE_CHARS_MAX or not key.isascii():
        return False
    return all(part.translate(_ZONE_SIGNS).isalnum() for part in key.split("/"))


def zone_name_fits(name: str) -> bool:
    """Whether `name` is one that a person could have given a time zone."""
    return len(name) <= ZONE_CHARS_MAX and name.isprintable()


_ZONE_SIGNS: Final = str.maketrans("", "", "_+-")
