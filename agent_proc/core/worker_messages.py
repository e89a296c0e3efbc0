"""What a worker tells its session, on a pipe of its own: one frame, and for a result its bytes right behind.

The worker runs user code and may write anything there, so this is decoded as strictly as a session's bytes are by the
host: declared types, bounded sizes, and whatever else comes is `None`, never an exception.
"""

from __future__ import annotations

from typing import Final

import msgspec

from procession.ipc.core.bounds import FRAME_BYTES_MAX
from procession.ipc.core.frames import HEADER_BYTES, encode


class WorkerMessage(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Base of the messages."""


class Finished(WorkerMessage, tag=1):
    """The function returned; `length` bytes of the encoded value follow."""

    length: int


class Raising(WorkerMessage, tag=2):
    """The function raised and its text is about to be made, which runs code of the exception's: Raised should follow."""

    kind: str


class Raised(WorkerMessage, tag=3):
    """The function raised. errno: of an OSError, else 0. memory: it was a MemoryError."""

    kind: str
    text: str
    traceback: str
    errno: int = 0
    memory: bool = False


class Rejected(WorkerMessage, tag=4):
    """The function returned what cannot be handed over."""

    code: str
    text: str
    hint: str = ""


class NotRun(WorkerMessage, tag=5):
    """Nothing was run: the arguments could not be loaded, or the command could not be started."""

    code: str
    text: str
    hint: str = ""


class CellDone(WorkerMessage, tag=6):
    """A cell of the interpreter is over. ending: the interpreter ends now, because the cell asked for it with exit_code."""

    number: int
    value: str | None = None
    error: str | None = None
    error_type: str | None = None
    ending: bool = False
    exit_code: int | None = None


class Piece(WorkerMessage, tag=7):
    """A piece of the text that a responder says."""

    text: str


class Begun(WorkerMessage, tag=8):
    """A tool's arguments are as it wants them: it is about to be called."""


class ToolTold(WorkerMessage, tag=9):
    """What a tool gave, in words, and the files of the project that it touched; its Finished follows."""

    content: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()


AnyMessage = Begun | ToolTold | Piece | Finished | Raising | Raised | Rejected | NotRun | CellDone

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(AnyMessage).decode


def pack(message: AnyMessage) -> bytes:
    """Return the frame of a message."""
    return encode(_encode(message))


class MessageReader:
    """Cuts messages out of a worker's pipe; after a Finished what follows are raw bytes, taken with `rest`."""

    __slots__ = ("_held", "broken")

    def __init__(self) -> None:
        self._held = bytearray()
        self.broken = False
        """The worker wrote what is no message; nothing further is believed."""

    def feed(self, data: bytes) -> None:
        """Add bytes of the pipe."""
        self._held += data

    def next(self) -> AnyMessage | None:
        """Return the next whole message, or None when there is none (yet)."""
        if self.broken or len(self._held) < HEADER_BYTES:
            return None
        length = int.from_bytes(self._held[:HEADER_BYTES], "little")
        if length > FRAME_BYTES_MAX:
            self.broken = True
            return None
        end = HEADER_BYTES + length
        if len(self._held) < end:
            return None
        try:
            message: AnyMessage = _decode(bytes(self._held[HEADER_BYTES:end]))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, OverflowError, ValueError):
            self.broken = True
            return None
        del self._held[:end]
        return message

    def rest(self) -> bytes:
        """Take the bytes behind the last message."""
        held = bytes(self._held)
        self._held.clear()
        return held
