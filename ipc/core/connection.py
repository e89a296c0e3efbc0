"""A protocol as a value: bytes in, messages out; messages in, bytes out. No descriptor, no clock, no thread.

Four roles share it: `host` and `session` over a mailbox, `client` and `server` over the control socket.

Rules:
- Control messages overtake commands and replies; streams (`bulk`) come last; one lane keeps its order.
- Command bytes towards a session are credited: what may lie unread in its pipe is half the pipe's capacity, so that a control
  message always finds room. Replies, streams and credits never need that credit. What a host streams to a session is
  commands too; a greeting is neither limited nor counted, since the credit is in it.
- The first message of each side is its greeting, and comes once. Any message out of its place is a breach, and final.
- A message of another incarnation is dropped and counted (law 9).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, Literal

from procession.ipc.core import frames
from procession.ipc.core.bounds import FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, READ_BYTES
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.frames import pack_header
from procession.ipc.core.messages import (
    DECODERS,
    Boot,
    Call,
    ClientHello,
    Credit,
    Message,
    Ready,
    Refused,
    Reply,
    ServerHello,
    StreamChunk,
    StreamEnd,
    StreamOpen,
    decoder,
    encode,
)
from procession.ipc.core.streams import STREAMS_MAX, StreamReader

Role = Literal["host", "session", "client", "server"]

_INBOUND: Final = {"host": "to_host", "session": "to_session", "client": "to_client", "server": "to_server"}
#: The greeting that must come first, and only then. A server may refuse instead of greeting.
_FIRST: Final[dict[str, tuple[type[Message], ...]]] = {
    "host": (Ready,),
    "session": (Boot,),
    "client": (ServerHello, Refused),
    "server": (ClientHello,),
}
_GREETINGS: Final[dict[str, type[Message]]] = {
    "host": Ready,
    "session": Boot,
    "client": ServerHello,
    "server": ClientHello,
}


class _Spent:
    """Stands in for the decoder after a breach: nothing more is believed."""

    has_partial = False
    partial_serial = 0

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def whole(self, _data: bytes) -> bytes | None:
        return None

    def feed(self, _data: bytes) -> list[tuple[bool, bytes]]:
        raise ProtocolBreach(self._reason)


class Connection:
    """One end of one channel. `message_bytes_max` holds for both directions."""

    __slots__ = (
        "_bulk",
        "_chunk_bytes",
        "_control",
        "_control_in",
        "_credit",
        "_credit_bytes",
        "_credited",
        "_data",
        "_data_in",
        "_decode",
        "_decode_quick",
        "_decoder",
        "_fed",
        "_first",
        "_greeting",
        "_head",
        "_message_bytes_max",
        "_middle",
        "_role",
        "_said_ready",
        "_streams",
        "greeted",
        "incarnation",
        "queued_bytes",
        "stale",
    )

    def __init__(
        self, role: Role, *, incarnation: int = 0, credit_bytes: int = 0, message_bytes_max: int = MESSAGE_BYTES_MAX
    ) -> None:
        self._role = role
        self._decode = decoder(_INBOUND[role])
        self._decode_quick = DECODERS[_INBOUND[role]].decode
        self._message_bytes_max = message_bytes_max
        self._decoder: frames.FrameDecoder | _Spent = frames.FrameDecoder(message_bytes_max)
        self._first = _FIRST[role]
        self._greeting = _GREETINGS[role]
        self.greeted = False
        self.incarnation = incarnation
        self.stale = 0
        """Messages of another incarnation that were dropped."""
        self.queued_bytes = 0
        """Bytes of the messages queued and not yet taken, about (the headers of chunks are not counted)."""
        self._control: deque[bytes] = deque()
        self._data: deque[bytes | Iterator[bytes]] = deque()
        self._bulk: deque[bytes] = deque()
        self._middle: Iterator[bytes] | None = None  # the rest of a data message that has begun
        self._head = b""  # its next frame
        self._credited = False  # our commands need credit
        self._said_ready = False  # a session grants nothing before its greeting
        self._credit_bytes = 0
        self._credit = 0
        self._chunk_bytes = READ_BYTES
        self._fed = 0
        self._control_in = 0
        self._data_in = 0  # command bytes already granted back
        self._streams: dict[tuple[int, int], StreamReader] = {}
        if credit_bytes:
            self.set_credit(credit_bytes)

    def set_credit(self, credit_bytes: int) -> None:
        """Limit what may lie unread of our commands (host), or say how much we granted (session)."""
        self._credit_bytes = self._credit = credit_bytes
        if self._role == "host":
            self._credited = credit_bytes > 0
            self._chunk_bytes = min(FRAME_BYTES_MAX, credit_bytes // 2) if credit_bytes else READ_BYTES

    # --- out ------------------------------------------------------------------------------------------------
    def send(self, message: Message, *, control: bool = False, bulk: bool = False) -> None:
        """Queue a message. Raises frames.FrameTooLarge, and then nothing was queued."""
        payload = encode(message)
        size = len(payload)
        kind = type(message)
        if control or kind is Boot or kind is Ready:
            self._control.append(frames.encode(payload, control=True))
            if kind is Ready:
                self._said_ready = True
                self._grant()
        elif bulk and self._role != "host":
            self._bulk.append(frames.encode(payload))
        elif size + frames.HEADER_BYTES <= self._chunk_bytes:
            self._data.append(frames.encode(payload))
        else:
            self._data.append(
                frames.chunks(
                    payload, self._chunk_bytes - frames.HEADER_BYTES, message_bytes_max=self._message_bytes_max
                )
            )
        self.queued_bytes += size + frames.HEADER_BYTES

    def send_through(self, message: Message) -> bytes:
        """Queue a data message and take what may be written now: the same as `send` and `take`, without the queue when it is
        the only one. What is returned must be written. Raises frames.FrameTooLarge, and then nothing was queued.
        """
        if not (self._data or self._head or self._control or self._bulk):
            payload = encode(message)
            size = len(payload)
            framed = size + frames.HEADER_BYTES
            if framed <= self._chunk_bytes and (not self._credited or framed <= self._credit):
                self._credit -= framed
                return pack_header(size) + payload
        self.send(message)
        return self.take()

    @property
    def wants_write(self) -> bool:
        """Whether `take` would give something now."""
        if self._control:
            return True
        if self._head:
            return not self._credited or len(self._head) <= self._credit
        if self._data:
            first = self._data[0]
            return not self._credited or (len(first) if isinstance(first, bytes) else self._chunk_bytes) <= self._credit
        return bool(self._bulk)

    def take(self, max_bytes: int = READ_BYTES) -> bytes:
        """Return the next bytes to write, about `max_bytes` of them; empty when nothing may be written now.

        What was taken must be written, and before anything taken later.
        """
        control, data = self._control, self._data
        if len(data) == 1 and not control and not self._head and not self._bulk:  # one small message: the usual case
            frame = data[0]
            if isinstance(frame, bytes) and (not self._credited or len(frame) <= self._credit):
                data.popleft()
                self._credit -= len(frame)
                self.queued_bytes = 0
                return frame
        out: list[bytes] = []
        room = max_bytes
        while control and room > 0:
            out.append(control.popleft())
            room -= len(out[-1])
        while room > 0 and (frame := self._next_data()):
            out.append(frame)
            room -= len(frame)
        if not self._head and not data:
            while self._bulk and room > 0:
                out.append(self._bulk.popleft())
                room -= len(out[-1])
        taken = b"".join(out)
        if control or data or self._bulk or self._head:
            self.queued_bytes = max(0, self.queued_bytes - len(taken))
        else:
            self.queued_bytes = 0
        return taken

    def _next_data(self) -> bytes:
        """Take the next frame of the data lane; empty when there is none, or no credit for it."""
        frame = self._head
        if not frame:
            if not self._data:
                return b""
            first = self._data[0]
            if isinstance(first, bytes):
                if self._credited and len(first) > self._credit:
                    return b""
                self._data.popleft()
                self._credit -= len(first)
                return first
            self._data.popleft()
            self._middle = first
            frame = self._head = next(first)
        if self._credited and len(frame) > self._credit:
            return b""
        assert self._middle is not None
        self._head = next(self._middle, b"")
        if not self._head:
            self._middle = None
        self._credit -= len(frame)
        return frame

    # --- in -------------------------------------------------------------------------------------------------
    def feed(self, data: bytes) -> list[Any]:
        """Return the messages that `data` completes, the control lane's first. Raises ProtocolBreach, then for ever."""
        try:
            payload = self._decoder.whole(data)
            if payload is not None and self.greeted:  # the usual case: one small message, a whole one
                try:
                    message = self._decode_quick(payload)
                except Exception:  # noqa: BLE001 - whatever it is, the strict way makes a breach of it
                    message = self._decode(payload)
                kind = type(message)
                if kind is Reply and message.inc == self.incarnation:
                    return [message]
                if kind is Call:
                    self._fed += len(data)
                    if self._said_ready and (self._fed - self._control_in - self._data_in) * 2 >= self._credit_bytes:
                        self._grant()
                    return [message]
            found = self._decoder.feed(data)
            if len(found) == 1:
                control, payload = found[0]
                message = self._decode(payload)
                accepted = self._accept(message)
                if control:
                    self._control_in += len(payload) + frames.HEADER_BYTES
                out = [message] if accepted else []
            else:
                out = self._several(found)
            if self._role == "session":
                self._fed += len(data)
                if self._said_ready:
                    self._grant()
            return out
        except ProtocolBreach as breach:
            self._decoder = _Spent(breach.reason)
            raise

    def _several(self, found: list[tuple[bool, bytes]]) -> list[Any]:
        if len(found) > 1 and any(control for control, _ in found):
            found = [f for f in found if f[0]] + [f for f in found if not f[0]]
        decode, accept = self._decode, self._accept
        out = []
        for control, payload in found:
            if control:
                self._control_in += len(payload) + frames.HEADER_BYTES
            message = decode(payload)
            if accept(message):
                out.append(message)
        return out

    @property
    def partial_serial(self) -> int | None:
        """Names the frame that has begun and not ended, None when there is none; for the completion deadline."""
        return self._decoder.partial_serial if self._decoder.has_partial else None

    def _grant(self) -> None:
        """Grant back what has been read of the commands, in halves of the window."""
        unread = self._fed - self._control_in - self._data_in
        if self._credit_bytes and unread * 2 >= self._credit_bytes:
            self._data_in += unread
            self.send(Credit(self.incarnation, unread), control=True)

    def _accept(self, message: Any) -> bool:
        if not self.greeted:
            if not isinstance(message, self._first):
                raise ProtocolBreach(f"{type(message).__name__} before the greeting")
            self.greeted = True
            if isinstance(message, Boot):
                self.incarnation = message.inc
                self.set_credit(message.credit_bytes)
                return True
        elif isinstance(message, self._greeting):
            raise ProtocolBreach("a second greeting")
        if self._role == "host":
            if message.inc != self.incarnation:
                self.stale += 1
                return False
            return self._accept_from_session(message)
        return True

    def _accept_from_session(self, message: Any) -> bool:
        kind = type(message)
        if kind is Credit:
            self._credit = min(self._credit + max(0, message.count), self._credit_bytes)
            return False
        if kind is StreamChunk:
            stream = self._streams.get((message.seq, message.stream))
            if stream is None:
                raise ProtocolBreach("bytes of a stream that is not open")
            stream.receive(len(message.data))
        elif kind is StreamOpen:
            key = (message.seq, message.stream)
            if key in self._streams or len(self._streams) >= STREAMS_MAX:
                raise ProtocolBreach("a stream was opened twice, or one too many")
            self._streams[key] = StreamReader()
        elif kind is StreamEnd and self._streams.pop((message.seq, message.stream), None) is None:
            raise ProtocolBreach("the end of a stream that is not open")
        return True

    def consumed(self, seq: int, stream: int, count: int) -> int:
        """Say that bytes of a stream were used up; return how many to grant with a StreamCredit (0: none yet)."""
        reader = self._streams.get((seq, stream))
        return reader.consumed(count) if reader is not None else 0

    def __repr__(self) -> str:
        lanes = f"control={len(self._control)} data={len(self._data)} bulk={len(self._bulk)}"
        return f"<Connection {self._role} inc={self.incarnation} {'open' if self.greeted else 'new'} {lanes}>"
