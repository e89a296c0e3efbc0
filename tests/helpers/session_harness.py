"""A real session process without a host: the harness plays the host's part over the same pipes, arenas and messages.

A small interpreter takes the zygote's place: it forks the session under a real outer keeper and passes orders and records
through. Everything below is what a session has in production; only supervision, ledger and deadlines of the host are absent.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import cloudpickle  # type: ignore[import-untyped]
import msgspec

from helpers.proc import MARK_VARIABLE
from procession.ipc.core.bounds import PAYLOAD_BYTES_MAX, WIRE_VERSION
from procession.ipc.core.connection import Connection
from procession.ipc.core.errors import ErrorData
from procession.ipc.core.frames import FrameDecoder
from procession.ipc.core.limits import Limits
from procession.ipc.core.messages import (
    Arena,
    ArenaFree,
    Boot,
    Call,
    Cancel,
    Ended,
    Failed,
    Inline,
    Message,
    Ready,
    Reply,
    Shutdown,
    StreamChunk,
    StreamCredit,
    StreamEnd,
    StreamOpen,
    decoder,
    encode,
)
from procession.ipc.core.operations import CodeBody, CodeDone, ExecBody, ExecDone, Nothing, RunBody, RunDone
from procession.ipc.core.records import CodeResult, RunReport
from procession.ipc.core.status_page import PAGE_BYTES, StatusPage
from procession.ipc.core.status_page import read as read_page
from procession.ipc.core.values import decode_value

INCARNATION = 7
ARENA_BYTES = 64 * 1024 * 1024
WAIT_S = 20.0

_STAND_IN = """
import os, select, sys
from procession.agent_proc.keeper import fork_guarded
from procession.agent_proc import sysapi
from procession.agent_proc.session import prepare
mail_r, mail_w, page, arena_in, arena_out, crash_w, host = map(int, sys.argv[1:8])
def main():
    os.dup2(crash_w, 1)
    os.dup2(crash_w, 2)
    os.set_blocking(mail_w, False)
    prepare(mail_r, mail_w, page, arena_in, arena_out, host, sysapi.child_signal_fd())()
sysapi.reset_reserved()  # as the zygote does
guarded = fork_guarded(main, keep_fds=[mail_r, mail_w, page, arena_in, arena_out, crash_w, host], host_pidfd=host,
                       parent_pidfd=None, limits=None, term_grace_s=0.25, label="session")
for fd in (mail_r, mail_w, page, arena_in, arena_out, crash_w):
    os.close(fd)
poller = select.poll()
poller.register(0, select.POLLIN)
poller.register(guarded.status_r, select.POLLIN)
while True:
    for fd, _ in poller.poll():
        data = os.read(fd, 4096)
        if fd == 0:
            if data:
                os.write(guarded.ctl_w, data)
            else:
                os.close(guarded.ctl_w)
                poller.unregister(0)
        elif data:
            os.write(1, data)
        else:
            os.waitpid(guarded.keeper_pid, 0)
            sys.exit(0)
"""


@dataclass
class Outcome:
    """How one call was answered, and what it streamed meanwhile."""

    seq: int
    body: Any = None
    payload: bytes | None = None
    error: ErrorData | None = None
    chunks: list[StreamChunk] = field(default_factory=list)
    streams_open: set[int] = field(default_factory=set)
    dropped: int = 0
    answered_at: float = 0.0
    first_output_at: float = 0.0

    @property
    def report(self) -> RunReport:
        if self.error is not None:
            assert self.error.report is not None, self.error
            return self.error.report
        return self.body.report  # type: ignore[no-any-return]

    @property
    def value(self) -> object:
        assert self.error is None, self.error
        assert self.payload is not None
        return decode_value(self.payload)

    @property
    def cell(self) -> CodeResult:
        assert self.error is None, self.error
        assert self.payload is not None
        return msgspec.msgpack.decode(self.payload, type=CodeResult)

    @property
    def output(self) -> tuple[bytes, bytes]:
        assert self.error is None, self.error
        assert self.payload is not None
        out, err = msgspec.msgpack.decode(self.payload, type=tuple[bytes, bytes])
        return out, err

    def streamed(self, stream: int) -> bytes:
        return b"".join(chunk.data for chunk in self.chunks if chunk.stream == stream)


RESULTS = {"run": RunDone, "exec": ExecDone, "run_code": CodeDone}


def memfd(size_bytes: int) -> int:
    fd = os.memfd_create("procession-test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size_bytes)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


class SessionProcess:
    """See the module's text. Use it in `with`; leaving ends the session and checks nothing."""

    def __init__(
        self,
        cwd: Path,
        *,
        limits: Limits | None = None,
        parallel_runs: int = 4,
        version: int = WIRE_VERSION,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
        arena_bytes: int = ARENA_BYTES,
        import_paths: tuple[str, ...] = (),
        boot: bool = True,
    ) -> None:
        self.cwd = cwd
        self.outcomes: dict[int, Outcome] = {}
        self.messages: list[Message] = []
        self.other: list[Message] = []
        self.auto_credit = True
        self.reading = True
        self.ready: Ready | None = None
        self.ended: Ended | None = None
        self.is_gone = False
        self._ops: dict[int, str] = {}
        self._seq = 0
        mail_in, self.mail_w = os.pipe()
        self.mail_r, mail_out = os.pipe()
        self.crash_r, crash_w = os.pipe()
        self.page_fd, self.arena_in, self.arena_out = memfd(PAGE_BYTES), memfd(arena_bytes), memfd(arena_bytes)
        host = os.pidfd_open(os.getpid())
        theirs = (mail_in, mail_out, self.page_fd, self.arena_in, self.arena_out, crash_w, host)
        self.stand_in = subprocess.Popen(
            [sys.executable, "-c", _STAND_IN, *map(str, theirs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=theirs,
            env={**os.environ, "HOST_SECRET": "not for sessions"},
        )
        for fd in (mail_in, mail_out, crash_w, host):
            os.close(fd)
        for fd in (self.mail_w, self.mail_r, self.crash_r):
            os.set_blocking(fd, False)
        assert self.stand_in.stdin is not None
        assert self.stand_in.stdout is not None
        os.set_blocking(self.stand_in.stdout.fileno(), False)
        self._status = FrameDecoder()
        self._read_record = decoder("from_keeper")
        self._unwritten = b""
        self.crash_output = b""
        self.connection = Connection("host", incarnation=INCARNATION, credit_bytes=32 * 1024)
        env = {"PATH": os.environ["PATH"], "HOME": str(cwd), MARK_VARIABLE: os.environ[MARK_VARIABLE]}
        self._boot = Boot(
            version,
            INCARNATION,
            "s1",
            "test",
            str(cwd),
            msgspec.Raw(encode(env)),
            msgspec.Raw(encode(limits or Limits())),
            "off",
            parallel_runs,
            32 * 1024,
            arena_bytes,
            payload_bytes_max,
            import_paths,
        )
        if boot:
            self.boot()
            self.pump_until(lambda: self.ready is not None)

    def boot(self) -> None:
        self.send(self._boot)

    # --- the wire -------------------------------------------------------------------------------------------
    def send(self, message: Message, *, control: bool = False) -> None:
        self.connection.send(message, control=control)
        self._flush()

    def write_raw(self, data: bytes) -> None:
        os.write(self.mail_w, data)

    def _flush(self) -> None:
        while self._unwritten or self.connection.wants_write:
            if not self._unwritten:
                self._unwritten = self.connection.take()
                if not self._unwritten:
                    return
            try:
                self._unwritten = self._unwritten[os.write(self.mail_w, self._unwritten) :]
            except (BlockingIOError, BrokenPipeError):
                return

    def pump(self, timeout_s: float) -> None:
        """Move bytes both ways, waiting at most that long for some to come."""
        poller = select.poll()
        watched = [self.crash_r, self.stand_in.stdout.fileno()]  # type: ignore[union-attr]
        if self.reading:
            watched.append(self.mail_r)
        for fd in watched:
            poller.register(fd, select.POLLIN)
        self._flush()
        if self._unwritten:
            poller.register(self.mail_w, select.POLLOUT)
        for fd, _ in poller.poll(timeout_s * 1000):
            if fd == self.mail_w:
                self._flush()
                continue
            try:
                data = os.read(fd, 65536)
            except BlockingIOError:
                continue
            if fd == self.crash_r:
                self.crash_output += data
            elif fd == self.mail_r:
                if not data:
                    self.reading = False
                    continue
                for message in self.connection.feed(data):
                    self._take(message)
            elif data:
                for _, payload in self._status.feed(data):
                    record = self._read_record(payload)
                    if isinstance(record, Ended):
                        self.ended = record
            else:
                self.is_gone = True

    def pump_until(self, condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"nothing came in {timeout_s} s; {self.connection} {self.outcomes} {self.crash_output!r}"
            if self.is_gone and not self.reading:
                raise AssertionError(f"the session is gone: {self.ended} {self.crash_output.decode(errors='replace')}")
            self.pump(left)

    def _take(self, message: Any) -> None:
        self.messages.append(message)
        now = time.monotonic()
        if isinstance(message, Ready):
            self.ready = message
            return
        outcome = self.outcomes.get(getattr(message, "seq", -1))
        if outcome is None:
            self.other.append(message)
        elif isinstance(message, Reply):
            assert not outcome.answered_at, f"a second answer: {message}"
            op = self._ops[message.seq]
            outcome.body = msgspec.msgpack.decode(message.body, type=RESULTS.get(op, object))
            outcome.payload = self._payload(message.payload)
            outcome.answered_at = now
        elif isinstance(message, Failed):
            assert not outcome.answered_at, f"a second answer: {message}"
            outcome.error, outcome.answered_at = message.error, now
        elif isinstance(message, StreamOpen):
            outcome.streams_open.add(message.stream)
        elif isinstance(message, StreamChunk):
            outcome.chunks.append(message)
            outcome.dropped += message.dropped
            outcome.first_output_at = outcome.first_output_at or now
            grant = self.connection.consumed(message.seq, message.stream, len(message.data)) if self.auto_credit else 0
            if grant:
                self.send(StreamCredit(INCARNATION, message.seq, message.stream, grant), control=True)
        elif isinstance(message, StreamEnd):
            outcome.dropped += message.dropped
            outcome.streams_open.discard(message.stream)

    def _payload(self, payload: Inline | Arena | None) -> bytes | None:
        if not isinstance(payload, Arena):
            return None if payload is None else payload.data
        data = os.pread(self.arena_out, payload.length, payload.offset)
        self.send(ArenaFree(INCARNATION, payload.offset, payload.length), control=True)
        return data

    # --- calls ----------------------------------------------------------------------------------------------
    def call(
        self,
        op: str,
        body: msgspec.Struct | bytes | None = None,
        *,
        payload: Inline | Arena | bytes | None = None,
        timeout_s: float | None = WAIT_S,
        control: bool = False,
    ) -> Outcome:
        """Send a call and return at once."""
        self._seq += 1
        seq = self._seq
        self.outcomes[seq] = Outcome(seq)
        self._ops[seq] = op
        raw = body if isinstance(body, bytes) else encode(Nothing() if body is None else body)
        packed = Inline(payload) if isinstance(payload, bytes) else payload
        self.send(Call(INCARNATION, seq, op, timeout_s, msgspec.Raw(raw), packed), control=control)
        return self.outcomes[seq]

    def next_seq(self) -> int:
        return self._seq + 1

    def wait(self, *outcomes: Outcome, timeout_s: float = WAIT_S) -> Outcome:
        """Wait until these are answered; return the first."""
        self.pump_until(lambda: all(outcome.answered_at for outcome in outcomes), timeout_s)
        return outcomes[0]

    def ask(self, op: str, body: msgspec.Struct | bytes | None = None, **kwargs: Any) -> Outcome:
        return self.wait(self.call(op, body, **kwargs))

    def begin_run(
        self,
        function: Callable[..., object],
        *args: object,
        limits: Limits | None = None,
        lossy: bool = False,
        timeout_s: float | None = WAIT_S,
        arena: bool = False,
        label: str = "",
    ) -> Outcome:
        data = by_value(function, *args)
        payload: Inline | Arena = Inline(data)
        if arena:
            os.pwrite(self.arena_in, data, 8192)
            payload = Arena(8192, len(data))
        body = RunBody(label=label or function.__name__, limits=limits or Limits(), lossy=lossy)
        return self.call("run", body, payload=payload, timeout_s=timeout_s)

    def run(self, function: Callable[..., object], *args: object, **kwargs: Any) -> Outcome:
        return self.wait(self.begin_run(function, *args, **kwargs))

    def run_pickled(self, data: bytes) -> Outcome:
        return self.ask("run", RunBody(label="raw"), payload=data)

    def exec(self, *argv: str, payload: bytes | None = None, timeout_s: float | None = WAIT_S, **body: Any) -> Outcome:
        return self.wait(self.call("exec", ExecBody(argv=argv, **body), payload=payload, timeout_s=timeout_s))

    def begin_code(self, code: str, timeout_s: float | None = WAIT_S, **body: Any) -> Outcome:
        return self.call("run_code", CodeBody(code=code, **body), timeout_s=timeout_s)

    def code(self, code: str, timeout_s: float | None = WAIT_S, **body: Any) -> Outcome:
        return self.wait(self.begin_code(code, timeout_s, **body))

    def cancel(self, seq: int) -> None:
        self.send(Cancel(INCARNATION, seq), control=True)

    def shutdown(self, grace_s: float = 5.0) -> None:
        self.send(Shutdown(INCARNATION, grace_s), control=True)

    def page(self) -> StatusPage:
        page = read_page(os.pread(self.page_fd, PAGE_BYTES, 0))
        assert page is not None
        return page

    @property
    def pid(self) -> int:
        assert self.ready is not None
        return self.ready.pid

    # --- the end --------------------------------------------------------------------------------------------
    def wait_gone(self, timeout_s: float = WAIT_S) -> Ended:
        """Wait until the outer keeper has written its record and everything is over."""
        deadline = time.monotonic() + timeout_s
        while not (self.is_gone and (not self.reading or self.ended is not None)):
            left = deadline - time.monotonic()
            assert left > 0, "the session does not end"
            self.pump(left)
        while self.reading:
            self.pump(1.0)
        assert self.ended is not None, self.crash_output
        return self.ended

    def end(self) -> None:
        """End the whole domain, if it is still there, and close everything."""
        assert self.stand_in.stdin is not None
        assert self.stand_in.stdout is not None
        try:
            self.stand_in.stdin.close()  # the end of the owner's pipe is an order to kill
            self.stand_in.wait(10)
        except subprocess.TimeoutExpired:
            self.stand_in.send_signal(signal.SIGKILL)
            self.stand_in.wait(10)
            raise
        finally:
            self.stand_in.stdout.close()
            for fd in (self.mail_w, self.mail_r, self.crash_r, self.page_fd, self.arena_in, self.arena_out):
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def by_value(function: Callable[..., object], *args: object) -> bytes:
    """Pickle a call so that the worker needs none of the tests' own modules."""
    module = sys.modules[function.__module__]
    cloudpickle.register_pickle_by_value(module)
    try:
        data: bytes = cloudpickle.dumps((function, args, {}))
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    return data
