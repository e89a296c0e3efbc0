"""The typed messages of every channel: mailbox, control socket, zygote socket, keeper status.

Declared types only: msgspec decodes an envelope strictly and leaves a body as raw bytes for its caller. What a session
may send is one closed union; anything else is a breach. No message carries a free-form field that the host's loop would
build objects from. `inc` is the incarnation, `seq` the number of a call in that incarnation's mailbox (law 9).
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import ErrorData

EMPTY: Final = msgspec.Raw(b"\xc0")


class Message(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of all messages."""


class Inline(Message, tag=1):
    """A payload inside the message."""

    data: bytes


class Arena(Message, tag=2):
    """A payload at a place in the arena of that direction, read with pread only."""

    offset: int
    length: int


Payload = Inline | Arena | None


# --- host to session ----------------------------------------------------------------------------------------
class Boot(Message, tag=1):
    """First message to a session process: who it is and what it may do. env, limits: decoded when a run needs them.

    agent: `module:Class`, "" for the code session; agent_code: the class itself, pickled, for one that travels by value. state:
    what its agent goes on with, or with `fresh` what a new agent of a program's own is given to begin with. responder: who
    answers its messages, pickled. tools: the program's own, as `tool_table` packs them.
    """

    version: int
    inc: int
    session: str
    name: str
    cwd: str
    env: msgspec.Raw
    limits: msgspec.Raw
    sandbox: str
    parallel_runs: int
    credit_bytes: int
    arena_bytes: int
    payload_bytes_max: int
    import_paths: tuple[str, ...]
    agent: str = ""
    agent_code: bytes = b""
    fresh: bool = False
    state: Payload = None
    responder: bytes = b""
    tools: bytes = b""


class Call(Message, tag=2):
    """Do `op`, within `timeout_s` seconds of receipt."""

    inc: int
    seq: int
    op: str
    timeout_s: float | None = None
    body: msgspec.Raw = EMPTY
    payload: Payload = None
    chain: tuple[str, ...] = ()


class Cancel(Message, tag=3):
    """Stop the call `seq`; its one outcome says what became of it. May overtake the call itself."""

    inc: int
    seq: int


class StreamCredit(Message, tag=4):
    """The reader of a stream of call `seq` has room for `count` more bytes."""

    inc: int
    seq: int
    stream: int
    count: int


class Shutdown(Message, tag=5):
    """End all runs, answer what is open, and exit within `grace_s` seconds. for_good: the session goes on in no other process."""

    inc: int
    grace_s: float
    for_good: bool = True


class ArenaFree(Message, tag=6):
    """The host has read this region of the session-to-host arena."""

    inc: int
    offset: int
    length: int


class Subscribers(Message, tag=7):
    """Whether anybody follows what the session tells now: its agent's signals, and how the agent is doing.

    Each that asks how it is doing has this said again, and is told at once.
    """

    inc: int
    signals: bool
    status: bool


# --- session to host ----------------------------------------------------------------------------------------
class Ready(Message, tag=20):
    """The session process has booted."""

    version: int
    inc: int
    pid: int


class Reply(Message, tag=21):
    """Call `seq` succeeded. `ops` are the state ops it made, still encoded."""

    inc: int
    seq: int
    body: msgspec.Raw = EMPTY
    payload: Payload = None
    ops: msgspec.Raw = EMPTY


class Failed(Message, tag=22):
    """Call `seq` did not; the error says why and whether it ran."""

    inc: int
    seq: int
    error: ErrorData


class Notice(Message, tag=23):
    """Something to be recorded as an event: a short name and a short text."""

    inc: int
    kind: str
    text: str


class Credit(Message, tag=24):
    """The session has read `count` more bytes of commands."""

    inc: int
    count: int


class StreamOpen(Message, tag=25):
    """A stream of call `seq` begins (1 stdout, 2 stderr, from 3 on the operation's own)."""

    inc: int
    seq: int
    stream: int
    label: str


class StreamChunk(Message, tag=26):
    """Bytes of a stream; `dropped` were lost just before them. Travels both ways."""

    inc: int
    seq: int
    stream: int
    data: bytes
    dropped: int = 0


class StreamEnd(Message, tag=27):
    """The stream is over; `dropped` bytes were lost at its end."""

    inc: int
    seq: int
    stream: int
    dropped: int = 0


class Commit(Message, tag=28):
    """State ops that no call's reply brings: what a signal, a timer or a child led to. seq: of the call in it, 0 for none."""

    inc: int
    ops: msgspec.Raw
    seq: int = 0


class Deliver(Message, tag=29):
    """A signal for others. to: parent, children, child (with the tag `who`), session (with the id or name), subscribers.

    Or, to `status`, how the agent is doing, for those who follow that.
    """

    inc: int
    to: str
    who: str
    signal: bytes


class CallAgent(Message, tag=34):
    """Have another agent handle a signal and tell what came of it. to, who: as in Deliver (parent, child, session).

    The answer comes back as a signal whose data have `call_id`. chain: ids of the sessions that wait for this one.
    """

    inc: int
    call_id: str
    to: str
    who: str
    signal: bytes
    timeout_s: float
    chain: tuple[str, ...]


class AskTool(Message, tag=35):
    """The agent wants a tool run. arguments: encoded. The outcome comes back as a signal whose data have `call_id`."""

    inc: int
    call_id: str
    tool: str
    arguments: bytes
    timeout_s: float


class Spawn(Message, tag=30):
    """Start a child session and keep it under `tag`. agent, agent_code, state: as in Boot; meta: encoded, for its signals."""

    inc: int
    tag: str
    agent: str
    agent_code: bytes
    name: str
    state: bytes
    meta: bytes
    restart: str
    on_parent_death: str


class Adopt(Message, tag=31):
    """Make a live session without a parent a child. child: its id or name."""

    inc: int
    tag: str
    child: str
    meta: bytes


class StopChild(Message, tag=32):
    """End the child with this tag, for good."""

    inc: int
    tag: str
    reason: str


class Leave(Message, tag=33):
    """The agent wants its session to end in an orderly way."""

    inc: int
    reason: str


# --- control socket: client and server ----------------------------------------------------------------------
SessionDefaults: TypeAlias = tuple[tuple[str, str | int | float | None], ...]
"""What a host gives a code session that says nothing itself: language and config, by name; nothing for the usual."""


class ClientHello(Message, tag=40):
    """First message of a client."""

    version: int
    token: str
    program: str


class ServerHello(Message, tag=41):
    """The host's answer to a client it accepts. defaults: of the sessions that this client starts."""

    version: int
    pid: int
    data_dir: str
    defaults: SessionDefaults = ()


class Ask(Message, tag=42):
    """A client's call: an operation of the table, on a session or on the host."""

    seq: int
    op: str
    session: str
    timeout_s: float | None
    body: msgspec.Raw
    payload: bytes | None = None
    want_output: bool = False
    wait: bool = False
    call_id: str = ""
    fail_fast: bool = False
    cancel_on_disconnect: bool = False
    durability: str = ""


class Answer(Message, tag=43):
    """The operation succeeded."""

    seq: int
    body: msgspec.Raw
    payload: bytes | None = None


class Refused(Message, tag=44):
    """The operation did not succeed."""

    seq: int
    error: ErrorData


class Push(Message, tag=45):
    """One item of what call `seq` streams (pushed.py)."""

    seq: int
    body: msgspec.Raw


class Withdraw(Message, tag=46):
    """The client cancels its call `seq`."""

    seq: int


# --- zygote socket (one packet a message; descriptors travel beside it) -------------------------------------
class ZygoteHello(Message, tag=60):
    """The zygote has imported everything and is ready to fork. `modules` counts what it has loaded."""

    version: int
    pid: int
    modules: int


class ZygoteFailed(Message, tag=61):
    """The zygote will not serve: a preload failed (`import`) or started threads (`threads`)."""

    phase: str
    module: str
    text: str


class Fork(Message, tag=62):
    """Fork a keeper and a session with the eight descriptors that come with this (see agent_proc/zygote.py)."""

    req: int


class Forked(Message, tag=63):
    """The keeper of request `req`; its pidfd comes with this."""

    req: int
    keeper_pid: int


class ForkFailed(Message, tag=64):
    """The kernel, or the zygote's own check, refused the fork."""

    req: int
    errno: int
    text: str


class KeeperGone(Message, tag=65):
    """A keeper has been reaped by the zygote, with its raw wait status; strays it left were ended."""

    keeper_pid: int
    raw_status: int
    strays: int


# --- keeper status pipe -------------------------------------------------------------------------------------
class Born(Message, tag=80):
    """The guarded process exists. start_ticks: its start time in clock ticks since boot (with the pid, its identity)."""

    pid: int
    start_ticks: int
    method: str


class Ended(Message, tag=81):
    """The guarded process and its whole domain are over: the keeper's one record.

    cause: exit, asked, host_gone, parent_gone, memory, cpu, processes, fork (there never was one; raw_status is -errno).
    method: how the domain was ended. elapsed_s: its whole life; end_s: from the beginning of its end to this record.
    """

    raw_status: int
    cause: str
    found: int
    left: int
    method: str
    elapsed_s: float
    cpu_s: float
    max_rss_bytes: int
    peak_memory_bytes: int
    end_s: float = 0.0


ToSession = Boot | Call | Cancel | StreamCredit | StreamChunk | StreamEnd | Shutdown | ArenaFree | Subscribers
Effect = Deliver | CallAgent | AskTool | Spawn | Adopt | StopChild | Leave
ToHost = (
    Ready | Reply | Failed | Commit | Deliver | CallAgent | AskTool | Spawn | Adopt | StopChild | Leave | Notice
    | Credit | StreamOpen | StreamChunk | StreamEnd | StreamCredit
)  # fmt: skip
ToServer = ClientHello | Ask | Withdraw
ToClient = ServerHello | Answer | Refused | Push
FromZygote = ZygoteHello | ZygoteFailed | Forked | ForkFailed | KeeperGone
ToZygote = Fork
FromKeeper = Born | Ended

encode: Final = msgspec.msgpack.Encoder().encode
DECODERS: Final[dict[str, msgspec.msgpack.Decoder[Any]]] = {
    "to_session": msgspec.msgpack.Decoder(ToSession),
    "to_host": msgspec.msgpack.Decoder(ToHost),
    "to_server": msgspec.msgpack.Decoder(ToServer),
    "to_client": msgspec.msgpack.Decoder(ToClient),
    "from_zygote": msgspec.msgpack.Decoder(FromZygote),
    "to_zygote": msgspec.msgpack.Decoder(ToZygote),
    "from_keeper": msgspec.msgpack.Decoder(FromKeeper),
}


def decoder(direction: str) -> Any:
    """Return the strict decode function of a direction (`to_session`, `to_host`, `to_server`, ...).

    It raises ProtocolBreach for anything that is not one of that direction's messages.
    """
    decode = DECODERS[direction].decode

    def read(data: bytes) -> Any:
        try:
            return decode(data)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, OverflowError, ValueError) as problem:
            raise ProtocolBreach(f"not a {direction} message: {str(problem)[:200]}") from None

    return read
