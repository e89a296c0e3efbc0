"""What a responder is given: the text to answer, and the session as it then is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation.

    text: what was said last. messages: all of them, oldest first, the last one included, as the state has them. config:
    provider, model, temperature and max_tokens of the session. session: its id. All of it is a copy.
    """

    text: str
    messages: list[dict[str, Any]]
    config: dict[str, Any]
    session: str


def echo(turn: Turn) -> list[str]:
    """Answer with the same words, one by one: the responder for tests."""
    words = turn.text.split(" ")
    return [word if at == 0 else f" {word}" for at, word in enumerate(words)]
