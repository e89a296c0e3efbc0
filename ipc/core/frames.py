"""The frame codec: bytes as a pipe gives them <-> whole messages on two lanes.

    u32, little endian      0..18 payload length    30 CONTROL    31 MORE    the other bits are zero
    data     one message is one frame, or several: MORE on all of them but the last
    control  one message is one frame, and may stand between two frames of a data message (that is how it overtakes)

It is *not* a transport (it reads and writes nothing) and knows nothing of what a message holds.

Rules: every byte is kept at most once until its message is whole, so a feed costs what it brings and no more, whatever
the sizes of the reads; a breach is final; what a peer can make us hold is bounded by `message_bytes_max`.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from procession.ipc.core.bounds import FRAME_BYTES_MAX, MESSAGE_BYTES_MAX
from procession.ipc.core.breach import ProtocolBreach

__all__ = [
    "FRAME_BYTES_MAX",
    "HEADER_BYTES",
    "MESSAGE_BYTES_MAX",
    "FrameBreach",
    "FrameDecoder",
    "FrameTooLarge",
    "chunks",
    "encode",
    "pack_header",
]

HEADER_BYTES = 4

_MORE = 1 << 31
_CONTROL = 1 << 30
_LENGTH_MASK = (1 << 19) - 1
_RESERVED = ~(_MORE | _CONTROL | _LENGTH_MASK) & 0xFFFF_FFFF

_PARTS_MAX = 1024
"""Pieces kept apart before they are joined: a peer that sends byte by byte must not cost an object for each byte."""

_HEADER = Struct("<I")
pack_header = _HEADER.pack
_unpack_from = _HEADER.unpack_from


class FrameBreach(ProtocolBreach):
    """The stream is no longer one of frames; the decoder that raised it is spent."""


class FrameTooLarge(ValueError):
    """A message of ours does not fit its lane; nothing was encoded."""

    def __init__(self, size_bytes: int, bytes_max: int) -> None:
        super().__init__(f"a message of {size_bytes} bytes is over the limit of {bytes_max} bytes")
        self.size_bytes = size_bytes
        self.bytes_max = bytes_max


def encode(payload: bytes, *, control: bool = False) -> bytes:
    """Return the one frame of a message of at most `FRAME_BYTES_MAX` bytes.

    Raises FrameTooLarge beyond; a larger data message is for `chunks`.
    """
    size = len(payload)
    if size > FRAME_BYTES_MAX:
        raise FrameTooLarge(size, FRAME_BYTES_MAX)
    if control:
        return pack_header(size | _CONTROL) + payload
    return pack_header(size) + payload


def chunks(
    payload: bytes, chunk_bytes: int = FRAME_BYTES_MAX, *, message_bytes_max: int = MESSAGE_BYTES_MAX
) -> Iterator[bytes]:
    """Return the frames of a data message, each of at most `chunk_bytes` of payload.

    The limit is checked at the call and not at the first frame. Raises FrameTooLarge.
    """
    if not 1 <= chunk_bytes <= FRAME_BYTES_MAX:
        raise ValueError(f"chunk_bytes must be 1 to {FRAME_BYTES_MAX}, not {chunk_bytes}")
    if len(payload) > message_bytes_max:
        raise FrameTooLarge(len(payload), message_bytes_max)
    return _chunks(payload, chunk_bytes)


def _chunks(payload: bytes, chunk_bytes: int) -> Iterator[bytes]:
    last = max(0, (len(payload) - 1) // chunk_bytes * chunk_bytes)
    view = memoryview(payload)
    for start in range(0, last, chunk_bytes):
        yield b"".join((pack_header(chunk_bytes | _MORE), view[start : start + chunk_bytes]))
    yield b"".join((pack_header(len(payload) - last), view[last:]))


class _Pile:
    """Pieces of one message, joined at the end; in two levels, so that tiny ones cost neither time nor memory."""

    __slots__ = ("_joined", "_parts", "size_bytes")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._joined: list[bytes] = []
        self.size_bytes = 0

    def add(self, part: bytes) -> None:
        self._parts.append(part)
        self.size_bytes += len(part)
        if len(self._parts) >= _PARTS_MAX:
            self._joined.append(b"".join(self._parts))
            self._parts.clear()

    def take(self) -> bytes:
        parts = self._joined + self._parts
        self._joined = []
        self._parts = []
        self.size_bytes = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)


class FrameDecoder:
    """Turns what reads give into whole messages; one per direction of one incarnation."""

    __slots__ = (
        "_breach",
        "_control",
        "_data",
        "_head",
        "_header",
        "_idle",
        "_left",
        "_message_bytes_max",
        "_open",
        "partial_serial",
    )

    def __init__(self, message_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self._message_bytes_max = message_bytes_max
        self._idle = True  # nothing is held and nothing is broken: a read may take the short way
        self._head = b""  # 0 to 3 bytes of a header that is not whole
        self._header = 0  # the frame being read
        self._left = 0  # payload bytes it still lacks
        self._open = False  # a data message has had MORE and not its last frame
        self._data = _Pile()
        self._control = _Pile()
        self._breach: str | None = None
        self.partial_serial = 0
        """Changes whenever another frame becomes the incomplete one: a shell times each from its first byte."""

    @property
    def pending_bytes(self) -> int:
        """Bytes held for messages that are not whole."""
        return len(self._head) + self._data.size_bytes + self._control.size_bytes

    @property
    def has_partial(self) -> bool:
        """Whether a frame has begun and not ended; between the frames of one message this is False."""
        return self._left > 0 or bool(self._head)

    @property
    def has_open_message(self) -> bool:
        """Whether a data message has had a frame with MORE and not its last one."""
        return self._open

    def feed(self, data: bytes) -> list[tuple[bool, bytes]]:
        """Return the messages that `data` completes as (is control, payload), in the order of their last bytes.

        Raises FrameBreach, then and at every later call. The messages before the fault in the same read are dropped: a
        peer that breaks the protocol is not believed a few bytes earlier.
        """
        payload = self.whole(data)
        if payload is not None:
            return [(False, payload)]
        size = len(data) - HEADER_BYTES
        if self._idle and 0 <= size <= FRAME_BYTES_MAX and _unpack_from(data)[0] == size | _CONTROL:
            return [(True, data[4:])]  # the same for a control message
        return self._feed(data)

    def whole(self, data: bytes) -> bytes | None:
        """Return the message when `data` is exactly one data frame and nothing is held; else None, and nothing was taken."""
        size = len(data) - HEADER_BYTES
        # What nearly every read of an echo brings; equality also proves that no flag is set.
        if self._idle and 0 <= size <= FRAME_BYTES_MAX and _unpack_from(data)[0] == size <= self._message_bytes_max:
            return data[4:]
        return None

    def _feed(self, data: bytes) -> list[tuple[bool, bytes]]:
        if self._breach is not None:
            raise FrameBreach(self._breach)
        out: list[tuple[bool, bytes]] = []
        begun = self.has_partial
        at = 0  # where the frame in hand starts; 0 while it is the one that an earlier read began
        if self._left:
            at = self._continue(data, out)
        elif self._head:
            data = self._head + data
            self._head = b""
        if not self._left:
            at = self._whole_frames(data, at, out)
            self._begin(data, at)
        if self.has_partial and (at or not begun):
            self.partial_serial += 1
        self._idle = not (self._left or self._head or self._open)
        return out

    def _continue(self, data: bytes, out: list[tuple[bool, bytes]]) -> int:
        """Add to the frame that an earlier read began; return where the next one starts, or 0 when it is not whole."""
        took = min(self._left, len(data))
        self._pile(self._header).add(data[:took])
        self._left -= took
        if self._left:
            return 0
        self._end(self._header, out)
        return took

    def _whole_frames(self, data: bytes, at: int, out: list[tuple[bool, bytes]]) -> int:
        end = len(data)
        plain_max = min(FRAME_BYTES_MAX, self._message_bytes_max)
        while end - at >= HEADER_BYTES:
            header: int = _unpack_from(data, at)[0]
            start = at + HEADER_BYTES
            stop = start + header
            if header <= plain_max and stop <= end and not self._open:  # no flag is set: the frame is a message
                out.append((False, data[start:stop]))
                at = stop
                continue
            stop = start + (header & _LENGTH_MASK)
            self._check(header, stop - start)
            if stop > end:
                break
            at = stop
            if header & _CONTROL:
                out.append((True, data[start:stop]))
            elif header & _MORE or self._open:
                self._data.add(data[start:stop])
                self._end(header, out)
            else:
                out.append((False, data[start:stop]))
        return at

    def _begin(self, data: bytes, at: int) -> None:
        """Keep what `data` has of a frame that is not whole."""
        if len(data) - at < HEADER_BYTES:
            self._head = data[at:]
            return
        self._header = _unpack_from(data, at)[0]
        start = at + HEADER_BYTES
        self._left = start + (self._header & _LENGTH_MASK) - len(data)
        self._pile(self._header).add(data[start:])

    def _end(self, header: int, out: list[tuple[bool, bytes]]) -> None:
        """Close a frame whose payload lies in its pile."""
        self._open = bool(header & _MORE) or (self._open and bool(header & _CONTROL))
        if header & _CONTROL:
            out.append((True, self._control.take()))
        elif not self._open:
            out.append((False, self._data.take()))

    def _pile(self, header: int) -> _Pile:
        return self._control if header & _CONTROL else self._data

    def _check(self, header: int, length: int) -> None:
        if header & _RESERVED:
            raise self._fail("a reserved bit of a frame header is set")
        if length > FRAME_BYTES_MAX:
            raise self._fail("a frame is over the limit")
        if header & _CONTROL:
            if header & _MORE:
                raise self._fail("a control message is chunked")
        elif self._data.size_bytes + length > self._message_bytes_max:
            raise self._fail("a message is over the limit")
        elif header & _MORE and not length:
            raise self._fail("a chunk is empty")

    def _fail(self, reason: str) -> FrameBreach:
        """Spend the decoder: drop what it holds, and refuse every later feed."""
        self._breach = reason
        self._idle = False
        self._head = b""
        self._left = 0
        self._data = _Pile()
        self._control = _Pile()
        return FrameBreach(reason)
