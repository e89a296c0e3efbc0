"""What the calls of one session stream: whose bytes they are, the credit they use up, and who is told.

It is *not* the log (that is `output`) and waits for nobody: a caller who waits finds its items with its call, one who does not
is told. All of it with the lock of the session's calls held.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Literal

from procession.host.host_call import HostCall
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.messages import StreamChunk, StreamCredit, StreamEnd, StreamOpen
from procession.ipc.core.records import OutputChunk
from procession.ipc.transport.channel import Channel
from procession.ipc.transport.reactor import Reactor
from procession.ipc.transport.telling import Telling

_NAMES: Final[dict[int, Literal["stdout", "stderr"]]] = {1: "stdout", 2: "stderr"}
_SAID: Final = "send_message"
"""What its responder yields comes as its stdout: that is in the conversation, and no output. What it prints is its stderr."""
_NUMBERS: Final = {name: number for number, name in _NAMES.items()}


class CallStreams:
    """See the module's text. `output` takes every chunk, for the log."""

    def __init__(self, reactor: Reactor, output: Callable[[OutputChunk], None]) -> None:
        self._reactor = reactor
        self._output = output
        self._log: Telling | None = None  # made with the first output
        self._owners: dict[tuple[int, int], HostCall | None] = {}

    def open(self, message: StreamOpen, owner: HostCall | None) -> None:
        """A stream begins; nobody waits for it when its call is over."""
        self._owners[message.seq, message.stream] = owner

    def take(self, message: StreamChunk | StreamEnd, channel: Channel, after: list[Callable[[], None]]) -> None:
        """Take a chunk or an end (the connection has checked that the stream is open); raises ProtocolBreach."""
        key = (message.seq, message.stream)
        if isinstance(message, StreamEnd):
            owner = self._owners.pop(key, None)
            if message.dropped:
                self._pass_on(owner, message, b"", channel, after)
            return
        owner = self._owners.get(key)
        if owner is None or not _takes_itself(owner):
            grant_credit(channel, message.seq, message.stream, len(message.data))
        self._pass_on(owner, message, message.data, channel, after)

    def _pass_on(
        self,
        owner: HostCall | None,
        message: StreamChunk | StreamEnd,
        data: bytes,
        channel: Channel,
        after: list[Callable[[], None]],
    ) -> None:
        name = _NAMES.get(message.stream)
        if name is None:
            raise ProtocolBreach(f"a stream number {message.stream} that no operation has")
        chunk = OutputChunk(stream=name, data=data, call=message.seq, dropped=max(0, message.dropped))
        if owner is None or owner.op != _SAID or name != "stdout":
            if self._log is None:
                self._log = Telling(self._reactor)
            self._log.add(partial(self._output, chunk), after)
        if owner is None or owner.request.on_item is None:
            return
        if owner.items is not None:
            owner.items.append(chunk)
            channel.wake(owner)
        elif owner.done is not None:
            if owner.telling is None:
                owner.telling = Telling(self._reactor)
            owner.telling.add(partial(owner.request.on_item, chunk), after)

    def clear(self) -> None:
        """Forget them: their process is over."""
        self._owners.clear()


def _takes_itself(owner: HostCall) -> bool:
    """Say whether the chunk waits for its caller's thread: then credit comes when it has been handed over, not before.

    So what lies between a session and a slow caller is bounded by the stream's window.
    """
    return owner.items is not None and owner.request.on_item is not None and owner.outcome is None


def grant_credit(channel: Channel, seq: int, stream: int, count: int) -> bool:
    """Say that bytes of a stream were used up; True when there is a credit to be written."""
    connection = channel.connection
    grant = connection.consumed(seq, stream, count)
    if grant:
        connection.send(StreamCredit(connection.incarnation, seq, stream, grant), control=True)
    return bool(grant)


def credit_taken(channel: Channel, chunk: OutputChunk) -> None:
    """The caller has taken this chunk. The lock is held."""
    if grant_credit(channel, chunk.call, _NUMBERS[chunk.stream], len(chunk.data)):
        channel.flush()
