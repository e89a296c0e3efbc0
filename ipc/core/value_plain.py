"""Whether a value is small and plain: data that msgpack writes as they are and gives back the same, with no tag needed.

Nearly everything that an agent is told is, and then one look here takes the place of the longer ways of `value_encode.py`
and `value_decode.py`. It is *not* a validation: what is not plain may still be of the closed table.

Rules: types are compared by identity, as there: a subclass is not plain, nor is what only equals plain data; what is not
small is not looked through to its end.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from procession.ipc.core.value_tags import looks_tagged

PLAIN_DEPTH_MAX: Final = 8
"""Containers in one another: within every bound on depth, wherever the value is put."""
PLAIN_BYTES_MAX: Final = 16 * 1024
"""Of an encoded value: too few bytes to hold more values, or more memory, than any bound allows."""
_ITEMS_MAX: Final = 64
"""Of one container: where there are more, the longer ways are quick too, for each."""
_LEAVES: Final = frozenset(map(id, (type(None), bool, int, float, str, bytes)))
_UTC: Final = UTC


def is_plain(value: Any, depth_max: int = PLAIN_DEPTH_MAX) -> bool:
    """Say whether `value` is small, plain, and nests at most `depth_max` containers.

    An int of more than 64 bits and a text with lone surrogates pass: the encoder refuses those itself.
    """
    kind = type(value)
    if id(kind) in _LEAVES:
        return True
    if kind is dict:
        if not depth_max or len(value) > _ITEMS_MAX:
            return False
        for key, item in value.items():
            if type(key) is not str or (id(type(item)) not in _LEAVES and not is_plain(item, depth_max - 1)):
                return False
        return len(value) != 1 or not looks_tagged(next(iter(value)))
    if kind is list:
        if not depth_max or len(value) > _ITEMS_MAX:
            return False
        return all(id(type(item)) in _LEAVES or is_plain(item, depth_max - 1) for item in value)
    if kind is datetime:
        return value.tzinfo is _UTC and not value.fold
    return False
