"""Names of files on the wire: Python shows one that is not UTF-8 as text with lone surrogates, which no message can hold.

So such a name travels as its bytes, beside a form of it that people can read.
"""

from __future__ import annotations


def is_text(name: str) -> bool:
    """Say whether the name has a form in UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def to_bytes(name: str) -> bytes:
    """Return a name's bytes. Raises UnicodeEncodeError for text that no bytes read as."""
    return name.encode("utf-8", "surrogateescape")


def from_bytes(name: bytes) -> str:
    """Return the text that `to_bytes` was given."""
    return name.decode("utf-8", "surrogateescape")


def shown(name: str) -> str:
    """Return a name as text that any message holds, with an escape for what is not UTF-8 in it."""
    return name.encode("utf-8", "backslashreplace").decode()
