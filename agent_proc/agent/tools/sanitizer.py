"""Take secrets out of what a tool gave, before a model, a log or a screen sees it.

It is *not* a proof that none is left (secret_patterns.py says what it knows), and no access control: it is a net under
mistakes. Rules: it takes time in proportion to the size of what it is given, whatever that is; doing it again changes
nothing; the shape stays, so that what was JSON is JSON still.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from procession.agent_proc.agent.tools.secret_patterns import (
    SECRET_PATTERNS,
    SENSITIVE_ENDINGS,
    SENSITIVE_NAMES,
    SecretPattern,
)

#: Containers within containers; what is deeper was not made for reading, and is left out rather than let through.
DEPTH_MAX: Final = 50
REDACTED: Final = "[REDACTED]"
TOO_DEEP: Final = "[REDACTED:too_deep]"

#: A longer name of a field is looked at by its end.
_NAME_CHARS_MAX: Final = 100
_NOT_OF_NAMES: Final = re.compile(r"[^a-z0-9]")

T = TypeVar("T")


def sanitize(value: T) -> T:
    """Return a copy of `value` without the secrets that are known by their form or by the name of their field.

    value: text, bytes, or plain data (mappings, lists, tuples, sets of it); anything else comes back as it is.
    """
    clean: T = _sanitize(value, 0)
    return clean


def sanitize_text(text: str) -> str:
    """Return `text` with `[REDACTED:kind]` in place of each secret."""
    lower = text.lower()
    for pattern in SECRET_PATTERNS:
        if any(word in lower for word in pattern.needs):
            text = pattern.regex.sub(_replacement(pattern), text)
    return text


def _replacement(pattern: SecretPattern) -> Any:
    placeholder = f"[REDACTED:{pattern.kind}]"

    def replace(match: re.Match[str]) -> str:
        start, end = match.span(match.lastgroup or 0)
        return match.string[match.start() : start] + placeholder + match.string[end : match.end()]

    return replace


def _sanitize(value: Any, depth: int) -> Any:
    match value:
        case str():
            return sanitize_text(value)
        case bytes():
            return sanitize_text(value.decode("latin-1")).encode("latin-1")  # every byte is a character, and back
        case Mapping() | list() | tuple() | set() | frozenset():
            return TOO_DEEP if depth == DEPTH_MAX else _sanitize_container(value, depth + 1)
        case _:
            return value


def _sanitize_container(value: Any, depth: int) -> Any:
    match value:
        case Mapping():
            return _sanitize_mapping(value, depth)
        case list():
            return [_sanitize(item, depth) for item in value]
        case tuple():
            return tuple(_sanitize(item, depth) for item in value)
        case _:
            return type(value)(_sanitize(item, depth) for item in value)


def _sanitize_mapping(value: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
    clean: dict[Any, Any] = {}
    for key, item in value.items():
        safe_key = _sanitize(key, depth)
        if safe_key in clean:  # two keys that were secrets: no entry is lost
            safe_key = f"{safe_key}#{len(clean)}"
        # The name left in a key's place counts too: what stands beside an access key is as secret as the key.
        hidden = _hides(key, item) or _hides(safe_key, item)
        clean[safe_key] = REDACTED if hidden else _sanitize(item, depth)
    return clean


def _hides(key: object, item: object) -> bool:
    """Say whether the field's name makes a secret of its value; None, a bool, zero and an empty value are none."""
    if type(key) is not str or item is True or not item:
        return False
    name = _NOT_OF_NAMES.sub("", key[-_NAME_CHARS_MAX:].lower())
    return name in SENSITIVE_NAMES or name.endswith(SENSITIVE_ENDINGS)
