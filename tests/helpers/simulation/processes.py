"""Session processes of a simulation: they speak the real protocol over real pipes, run a tiny agent, and die when they are told.

fork ──▶ Boot ──▶ Ready ──▶ calls, one after the other: receive ─ step ─ adopt ─ write ──▶ ...
                                  dies at any of these, by a fault, by its keeper, or with its zygote
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from helpers.simulation.virtual import SimReactor, Time
from procession.host.zygote_client import ForkedKeeper
from procession.ipc.core import frames, status_page, values
from procession.ipc.core.bounds import READ_BYTES, WIRE_VERSION
from procession.ipc.core.connection import Connection
from procession.ipc.core.errors import AgentError, ProcessionError, StartFailed, to_data
from procession.ipc.core.messages import (
    EMPTY,
    Arena,
    Boot,
    Born,
    Call,
    Cancel,
    Commit,
    Ended,
    Failed,
    Inline,
    Payload,
    Ready,
    Reply,
    Shutdown,
    encode,
)
from procession.ipc.core.operations import ActBody, Nothing, QuietDone
from procession.ipc.core.state_ops import AppendItems, apply, encode_ops
from procession.ipc.core.values import encode_value

POINTS = ("after_receive", "mid_step", "before_report", "after_report")
_NOTHING = msgspec.Raw(encode(Nothing()))
_read_act = msgspec.msgpack.Decoder(ActBody).decode


def decoded(data: bytes | None) -> Any:
    """Return a value of a peer that is trusted here."""
    assert data is not None
    return values.decode_value(data)


FIRST_PID = 1 << 23
"""Above any real one: nobody looks at a process by mistake."""


class SimProcess:
    """One session process with its keeper; it owns the other ends of the host's descriptors."""

    def __init__(self, world: "Processes", fds: Sequence[int], pid: int) -> None:
        self.pid = pid
        self.over = False
        self.dies_at = ""
        """The point at which it dies next."""
        self._world = world
        self._time = world.time
        self._reactor = world.reactor
        self._mail_r, self._mail_w, self._page, self._arena_in, _out, _crash, self._ctl, self._status = map(os.dup, fds)
        os.close(_out)
        self._crash = _crash
        self.life_r, self._life_w = os.pipe()
        self._connection = Connection("session")
        self._state: dict[str, Any] = {}
        self._inc = 0
        self._queue: list[Call] = []
        self._busy = False
        self._tick = self._started = self._finished = 0
        for fd in (self._mail_r, self._mail_w, self._ctl):
            os.set_blocking(fd, False)
        self._reactor.add_reader(self._mail_r, self._mail)
        self._reactor.add_reader(self._ctl, self._ordered)
        self._tell(Born(pid, 1, "none"))

    # --- what comes -----------------------------------------------------------------------------------------
    def _mail(self) -> None:
        if self.is_over():
            return
        try:
            data = os.read(self._mail_r, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.die("parent_gone")
            return
        for message in self._connection.feed(data):
            self._take(message)
            if self.is_over():
                return
        self._write()

    def _take(self, message: Any) -> None:
        match message:
            case Boot():
                self._inc = message.inc
                self._state = dict(decoded(self._payload(message.state)))
                self._connection.set_credit(message.credit_bytes)
                if self.dies_at == "after_bootstrap":
                    self.die()
                else:
                    self._later(self._ready)
            case Call(op="ping"):
                self._send(Reply(self._inc, message.seq, _NOTHING, None, EMPTY), control=True)
            case Call():
                self._queue.append(message)
                self._go_on()
            case Cancel(seq=seq):
                kept = [call for call in self._queue if call.seq != seq]
                for call in self._queue:
                    if call.seq == seq:
                        error = ProcessionError("cancelled", code="cancelled_in_session", ran="no")
                        self._finish(call, Failed(self._inc, seq, to_data(error)))
                self._queue = kept
            case Shutdown():
                self._later(lambda: self.die("exit", status=0))

    def _ordered(self) -> None:
        """An order to its keeper."""
        if self.over:
            return
        try:
            letters = os.read(self._ctl, 16)
        except BlockingIOError:
            return
        self._reactor.remove(self._ctl)
        self._later(lambda: self.die("asked" if letters else "host_gone"))

    # --- what it does ---------------------------------------------------------------------------------------
    def _ready(self) -> None:
        if self.over:
            return
        if self.dies_at == "before_ready":
            self.die()
            return
        self._write_page(0)
        self._send(Ready(WIRE_VERSION, self._inc, self.pid), control=True)
        self._write()

    def _go_on(self) -> None:
        if self._queue and not self._busy and not self.over:
            self._busy = True
            self._later(self._receive)

    def _receive(self) -> None:
        if self.over:
            return
        if not self._queue:
            self._busy = False
            return
        call = self._queue.pop(0)
        self._started = max(self._started, call.seq)
        self._write_page(call.seq)
        if self._dies("after_receive"):
            return
        self._later(lambda: self._step(call))

    def _step(self, call: Call) -> None:
        if self.is_over() or self._dies("mid_step"):
            return
        answer = self._done(call)
        if self.is_over():
            return
        self._finish(call, answer)
        if self._dies("before_report"):
            return
        self._write()
        if self._dies("after_report"):
            return
        self._busy = False
        self._go_on()

    def _done(self, call: Call) -> Reply | Failed:
        if call.op == "act":
            body = _read_act(call.body)
            text = decoded(self._payload(call.payload))["text"]
            self._world.runs[text] += 1
            if body.action == "fail":  # its change is kept, its answer is an error
                self._send(Commit(self._inc, self._append(text), call.seq))
                return Failed(self._inc, call.seq, to_data(AgentError("it failed", applied=True)))
            return self._reply(call, len(self._items), self._append(text))
        if call.op == "signal":
            text = self._payload(call.payload).decode()
            if text.startswith("poison"):
                self.die()
                return Reply(self._inc, call.seq)
            self._send(Commit(self._inc, self._append(text), call.seq))
            return self._reply(call, None, EMPTY)
        if call.op == "quiet":
            return Reply(self._inc, call.seq, msgspec.Raw(encode(QuietDone())), None, EMPTY)
        return self._reply(call, self._items, EMPTY)

    @property
    def _items(self) -> list[str]:
        return list(self._state.get("items", ()))

    def _append(self, text: str) -> msgspec.Raw:
        ops = (AppendItems(("items",), (text,)),)
        self._state = apply(self._state, ops)
        return msgspec.Raw(encode_ops(ops))

    def _reply(self, call: Call, value: object, ops: msgspec.Raw) -> Reply:
        return Reply(self._inc, call.seq, _NOTHING, Inline(encode_value(value)), ops)

    def _finish(self, call: Call, answer: Reply | Failed) -> None:
        self._finished = max(self._finished, call.seq)
        self._write_page(0)
        self._send(answer)

    def is_over(self) -> bool:
        """Whether it has ended: any step may be its last."""
        return self.over

    # --- ends -----------------------------------------------------------------------------------------------
    def _dies(self, point: str) -> bool:
        if self.dies_at == point:
            self.die()
            return True
        return False

    def die(self, cause: str = "exit", *, status: int = 9) -> None:
        """End, with its keeper's record; cause "" takes the keeper along, so that there is none."""
        if self.over:
            return
        self.over = True
        self._reactor.remove(self._mail_r)
        self._reactor.remove(self._ctl)
        if cause:
            self._tell(Ended(status, cause, 0, 0, "none", 0.1, 0.0, 0, 0))
        for fd in (
            self._mail_r,
            self._mail_w,
            self._page,
            self._arena_in,
            self._ctl,
            self._status,
            self._life_w,
            self._crash,
        ):
            os.close(fd)
        self._world.ended(self)

    # --- means ----------------------------------------------------------------------------------------------
    def _later(self, action: Callable[[], None]) -> None:
        self._time.after(self._world.step_s(), action)

    def _payload(self, payload: Payload) -> bytes:
        if isinstance(payload, Inline):
            return payload.data
        assert isinstance(payload, Arena)
        return os.pread(self._arena_in, payload.length, payload.offset)

    def _send(self, message: Any, *, control: bool = False) -> None:
        self._connection.send(message, control=control)

    def _write(self) -> None:
        while not self.over and self._connection.wants_write:
            data = self._connection.take()
            if not data:
                return
            try:
                written = os.write(self._mail_w, data)
            except OSError:
                return  # nobody reads it any more
            assert written == len(data), "messages of a simulation fit its pipe"

    def _tell(self, record: Born | Ended) -> None:
        try:
            os.write(self._status, frames.encode(encode(record)))
        except OSError:
            pass  # the host is gone

    def _write_page(self, running: int) -> None:
        self._tick += 1
        page = bytearray(status_page.USED_BYTES)
        status_page.write(page, status_page.StatusPage(self._tick, running, self._started, self._finished, 0))
        os.pwrite(self._page, page, 0)


class Processes:
    """The zygote of one host, as the host's pool of zygotes would be used: it forks in its own time, and may refuse."""

    def __init__(self, made: Time, reactor: SimReactor) -> None:
        self.time = made
        self.reactor = reactor
        self.slow = 1.0
        self.refuses = 0.0
        self.alive: dict[int, SimProcess] = {}
        self.deaths = 0
        self.runs: Counter[str] = Counter()
        """How often each call was begun to be done."""
        self.closed = False
        self._next_pid = FIRST_PID

    pids: frozenset[int] = frozenset()

    def step_s(self) -> float:
        return self.time.random.random() * 0.002 * self.slow

    def warm(self, preload: Sequence[str] = ()) -> None:
        """Nothing has to be loaded."""

    def fork(self, preload: Sequence[str], make_fds: Callable[[], Any], done: Callable[[Any, int], None]) -> None:
        def forked() -> None:
            if self.closed:
                return
            if self.time.random.random() < self.refuses:
                done(StartFailed("the zygote died", phase="fork", code="zygote_lost"), 0)
                return
            fds, sent = make_fds()
            self._next_pid += 1
            process = self.alive[self._next_pid] = SimProcess(self, fds, self._next_pid)
            for fd in sent:
                os.close(fd)
            done(ForkedKeeper(self._next_pid, process.life_r), 1)

        self.time.after(self.step_s(), forked)

    def ended(self, process: SimProcess) -> None:
        self.alive.pop(process.pid, None)
        self.deaths += 1

    def zygote_dies(self) -> None:
        """Everything that it forked ends with it."""
        for process in list(self.alive.values()):
            process.die("parent_gone")

    def close(self) -> None:
        self.closed = True
        for process in list(self.alive.values()):
            process.die("host_gone")

    def forget_after_fork(self) -> None:
        """Nothing of it is anybody else's."""
