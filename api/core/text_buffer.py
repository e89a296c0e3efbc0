"""The text of an answer between who brings it and who reads it: what came since the reader last looked.

It is *not* the waiting for it. Rules: what was read, together with `rest`, is the whole answer, whatever was lost on its way
here or not kept; a reader who stands still costs a bounded amount.
"""

from __future__ import annotations

import codecs
from typing import Final

from procession.ipc.core.backend import Item
from procession.ipc.core.bounds import KiB
from procession.ipc.core.records import OutputChunk

KEPT_CHARS_MAX: Final = 256 * KiB
"""Unread: a mebibyte at most, as of any other stream. What is beyond comes with the end of the answer."""
PIECES_MAX: Final = 1_000
"""Unread: more are joined, for a text of one character costs fifty times that."""


class TextBuffer:
    """See the module's text. Not locked: its owner is."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._unread: list[str] = []
        self._unread_chars = self._seen_chars = 0
        self._has_gap = False

    def __bool__(self) -> bool:
        """Say whether there is something to read."""
        return self._unread_chars > 0

    def put(self, item: Item) -> None:
        """Take a piece of the answer; what is behind a gap waits for the end."""
        if not isinstance(item, OutputChunk) or item.stream != "stdout":
            return
        if item.dropped or self._unread_chars + len(item.data) > KEPT_CHARS_MAX:
            self._has_gap = True
        if self._has_gap:
            return
        text = self._decode(item.data)
        self._seen_chars += len(text)
        self._unread_chars += len(text)
        self._unread.append(text)
        if len(self._unread) > PIECES_MAX:
            self._unread = ["".join(self._unread)]

    def take(self) -> str:
        """Return what came since this was last called."""
        text = "".join(self._unread)
        self._unread, self._unread_chars = [], 0
        return text

    def rest(self, answer: str) -> str:
        """Return what of the whole answer has not come; nothing that comes later counts."""
        self._has_gap = True
        text = answer[self._seen_chars :]
        self._seen_chars = len(answer)
        return text
