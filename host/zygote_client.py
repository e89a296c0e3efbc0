"""The host's end of one zygote: starts the interpreter that forks sessions, asks it for forks, notices when it is gone.

It is *not* the pool (that is zygote_pool.py) and knows nothing of sessions. The zygote's packets are data like a session's:
decoded strictly, never executed.

Rules: a zygote that does not answer a fork in 5 s, or dies, is over: `on_lost` is told once, everything waiting gets
its error, and the process is ended through its pidfd.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from procession.ipc import kill_points
from procession.ipc.core.bounds import FORK_ACK_TIMEOUT_S, READY_TIMEOUT_S, WIRE_VERSION, KiB
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import ProcessionError, StartFailed, cut
from procession.ipc.core.messages import (
    Fork,
    Forked,
    ForkFailed,
    KeeperGone,
    ZygoteFailed,
    ZygoteHello,
    decoder,
    encode,
)
from procession.ipc.transport.reactor import Reactor, Timer

#: The zygote's interpreter is isolated (-I): no PYTHON* variables, no user site, no folder of the caller in sys.path but
#: what the host sends as data.
_SNIPPET: Final = """\
import json, socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
config = json.loads(sock.recv(1 << 20))
sys.path[:] = config["sys_path"]
from procession.agent_proc.zygote import main
main(sock, config, int(sys.argv[2]))
"""
#: Variables of the host that its zygotes get; runs get their session's environment, not this one.
_ENV_KEPT: Final = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "PROCESSION_TEST_MARK",
    kill_points.VARIABLE,
)
_PACKET_BYTES_MAX: Final = 256 * KiB
_OUTPUT_TAIL_BYTES: Final = 8 * KiB
#: An interpreter whose owner hangs up before its first line: 20 ms, and a bound for a busy machine.
_ENDS_BY_ITSELF_S: Final = 1.0
_read_packet = decoder("from_zygote")

ForkDone = Callable[["ForkedKeeper | ProcessionError"], None]


@dataclass(frozen=True)
class ForkedKeeper:
    """A keeper the zygote made: its pid for reports, its pidfd for everything else."""

    pid: int
    pidfd: int


@dataclass
class ZygoteEvents:
    """What the owner wants to know; each is called in the reactor's thread."""

    ready: Callable[[ZygoteClient], None]
    lost: Callable[[ZygoteClient, ProcessionError], None]
    keeper_gone: Callable[[KeeperGone], None] = field(default=lambda _: None)


@dataclass(slots=True)
class _Request:
    """A fork that is not answered; its clock runs once it has been sent."""

    done: ForkDone
    fds: list[int]
    closed_then: list[int]
    timer: Timer = field(default_factory=lambda: Timer(0.0, None))

    def settle(self) -> None:
        self.timer.cancel()
        _close_all(self.closed_then)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENV_KEPT if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("LC_")}
    return kept


def search_path() -> list[str]:
    """Return this process's sys.path with every entry absolute, as the zygote is to have it."""
    return [os.path.abspath(entry) for entry in sys.path]


class ZygoteClient:
    """One zygote, from its start to its end."""

    def __init__(
        self, reactor: Reactor, preload: Sequence[str], host_pidfd: int, presence_fd: int, events: ZygoteEvents
    ) -> None:
        self.preload = tuple(preload)
        self.pid = 0
        self.ready = False
        self.over = False
        self._reactor = reactor
        self._events = events
        self._tail = b""
        self._requests: dict[int, _Request] = {}
        self._unsent: list[int] = []
        self._next_req = 1
        self._start(host_pidfd, presence_fd)

    def _start(self, host_pidfd: int, presence_fd: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        output_r, output_w = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _SNIPPET, str(theirs.fileno()), str(host_pidfd)],
                stdin=subprocess.DEVNULL,
                stdout=output_w,
                stderr=output_w,
                cwd="/",
                env=_environment(),
                pass_fds=(theirs.fileno(), host_pidfd),
                start_new_session=True,
            )
        except OSError as problem:
            ours.close()
            os.close(output_r)
            raise StartFailed(
                f"the zygote's interpreter does not start: {problem}", phase="resources", code="zygote_not_started"
            ) from problem
        finally:
            theirs.close()
            os.close(output_w)
        self.pid = self._process.pid
        self._sock = ours
        self._output = output_r
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:  # no descriptor left: nobody could hold it
            ours.close()  # it reads nothing, and ends by itself
            os.close(output_r)
            try:
                self._process.wait(_ENDS_BY_ITSELF_S)
            except subprocess.TimeoutExpired:
                pass
            raise
        ours.setblocking(False)
        os.set_blocking(output_r, False)
        config = {
            "version": WIRE_VERSION,
            "sys_path": search_path(),
            "preload": list(self.preload),
            "host_pid": os.getpid(),
        }
        ours.send(json.dumps(config).encode())
        # It lies there until the preloads, which may fork, are done.
        socket.send_fds(ours, [b"presence"], [presence_fd])
        self._reactor.add_reader(ours.fileno(), self._readable)
        self._reactor.add_reader(output_r, self._output_readable)
        self._reactor.add_reader(self._pidfd, self._died)
        self._deadline = self._reactor.call_at(self._reactor.now() + READY_TIMEOUT_S, self._not_ready)

    # --- forking --------------------------------------------------------------------------------------------
    def fork(self, fds: Sequence[int], closed_then: Sequence[int], done: ForkDone) -> None:
        """Ask for a keeper and a session with these descriptors; `closed_then` are closed once they have been sent."""
        if self.over:
            _close_all(closed_then)
            done(StartFailed("the zygote has ended", phase="fork", code="zygote_lost"))
            return
        req = self._next_req
        self._next_req += 1
        self._requests[req] = _Request(done, list(fds), list(closed_then))
        if not self.ready or self._unsent:
            self._unsent.append(req)
        else:
            self._send(req)

    def _send(self, req: int) -> None:
        request = self._requests[req]
        request.timer = self._reactor.call_at(self._reactor.now() + FORK_ACK_TIMEOUT_S, self._hangs)
        try:
            socket.send_fds(self._sock, [encode(Fork(req))], request.fds)
        except BlockingIOError:
            request.timer.cancel()
            self._unsent.append(req)
            self._reactor.want_write(self._sock.fileno(), self._send_more)
        except OSError:
            pass  # it is ending: its pidfd tells, and answers this request

    def _send_more(self) -> None:
        self._reactor.want_write(self._sock.fileno(), None)
        waiting, self._unsent = self._unsent, []
        for req in waiting:
            if req not in self._requests:
                continue
            if self._unsent:
                self._unsent.append(req)
            else:
                self._send(req)

    # --- what it says ---------------------------------------------------------------------------------------
    def _readable(self) -> None:
        for _ in range(64):  # bounded: other descriptors get their turn
            if self.over:
                return
            try:
                data, fds, flags, _ = socket.recv_fds(self._sock, _PACKET_BYTES_MAX, 1)
            except BlockingIOError:
                return
            except OSError:
                data, fds, flags = b"", [], 0
            if not data:
                self._reactor.remove(self._sock.fileno())  # EOF is a hint; the pidfd says the truth (law 8)
                return
            try:
                self._handle(_read_packet(data), fds, lacks_fds=bool(flags & socket.MSG_CTRUNC))
            except ProtocolBreach as breach:
                _close_all(fds)
                self._end(
                    StartFailed(f"the zygote broke the protocol: {breach.reason}", phase="fork", code="zygote_breach")
                )

    def _handle(self, packet: object, fds: list[int], *, lacks_fds: bool) -> None:
        match packet:
            case ZygoteHello():
                self._hello(packet)
            case Forked(req=req, keeper_pid=pid):
                done = self._answered(req)
                if done is None or len(fds) != (0 if lacks_fds else 1):
                    raise ProtocolBreach("a fork that nobody asked for")
                if lacks_fds:  # ours ran out, not the zygote's: the keeper ends with the pipes that are closed now
                    done(
                        StartFailed(
                            "no descriptor is left for the session's keeper", phase="resources", code="no_descriptors"
                        )
                    )
                else:
                    done(ForkedKeeper(pid, fds.pop()))
            case ForkFailed(req=req):
                done = self._answered(req)
                if done is None:
                    raise ProtocolBreach("an answer to a fork that nobody asked for")
                done(
                    StartFailed(
                        f"the session process could not be forked: {cut(packet.text)}",
                        phase="resources",
                        code="fork_failed",
                    )
                )
            case KeeperGone():
                self._events.keeper_gone(packet)
            case ZygoteFailed():
                self._end(_preload_error(packet))
        _close_all(fds)

    def _hello(self, hello: ZygoteHello) -> None:
        if hello.version != WIRE_VERSION:
            self._end(
                StartFailed(
                    f"the zygote speaks version {hello.version}, this host {WIRE_VERSION}",
                    phase="handshake",
                    code="version_skew",
                )
            )
            return
        self._deadline.cancel()
        self.ready = True
        self._events.ready(self)
        self._send_more()

    def _answered(self, req: int) -> ForkDone | None:
        found = self._requests.pop(req, None)
        if found is None:
            return None
        found.settle()
        return found.done

    def _output_readable(self) -> None:
        try:
            data = os.read(self._output, _OUTPUT_TAIL_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._reactor.remove(self._output)
        self._tail = (self._tail + data)[-_OUTPUT_TAIL_BYTES:]

    # --- ends -----------------------------------------------------------------------------------------------
    def _not_ready(self) -> None:
        modules = ", ".join(self.preload) or "none"
        self._end(
            StartFailed(
                f"the zygote was not ready after {READY_TIMEOUT_S:g} s (preload: {modules})",
                phase="import",
                code="ready_timeout",
                hint=self._output_text(),
            )
        )

    def _hangs(self) -> None:
        self._end(
            StartFailed(
                f"the zygote acknowledged no fork in {FORK_ACK_TIMEOUT_S:g} s and was replaced",
                phase="fork",
                code="zygote_hangs",
            )
        )

    def _died(self) -> None:
        self._readable()  # what it said before it died
        if not self.over:
            self._output_readable()
            text = self._output_text()
            phase = "fork" if self.ready else "import"
            self._end(StartFailed("the zygote died" + (f": {text}" if text else ""), phase=phase, code="zygote_lost"))

    def _output_text(self) -> str:
        return cut(self._tail.decode("utf-8", "replace").strip())

    def _end(self, error: ProcessionError) -> None:
        """Be over: end the process, answer everything, tell the owner. Once."""
        if self.over:
            return
        self.over = True
        self._deadline.cancel()
        for fd in (self._sock.fileno(), self._output, self._pidfd):
            self._reactor.remove(fd)
        self._kill()
        self._sock.close()
        os.close(self._output)
        requests, self._requests = self._requests, {}
        for request in requests.values():
            request.settle()
            request.done(error)
        self._events.lost(self, error)

    def _kill(self) -> None:
        """End the zygote and reap it. Its keepers notice by its pidfd and end their sessions."""
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except OSError:
            pass
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        poller.poll(1000)  # SIGKILL to a dead process takes under a millisecond; the bound is for a D state
        self._process.poll()
        if self._process.returncode is None:
            self._process.returncode = -signal.SIGKILL  # unkillable for now: never waited for again
        os.close(self._pidfd)

    def close(self) -> None:
        """Let it end by itself (its keepers end their sessions first), bounded; then end it."""
        if self.over:
            return
        self.over = True
        self._deadline.cancel()
        for fd in (self._sock.fileno(), self._output, self._pidfd):
            self._reactor.remove(fd)
        self._sock.close()
        os.close(self._output)
        for request in self._requests.values():
            request.settle()
            request.done(StartFailed("the host is closing", phase="fork", code="closing"))
        self._requests = {}
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        poller.poll(2500)  # the zygote itself waits 2 s for its keepers
        self._kill()

    def forget_after_fork(self) -> None:
        """In a forked child: drop the copies, wait for nothing."""
        self.over = True
        self._process.returncode = 0
        for fd in (self._sock.detach(), self._output, self._pidfd):
            _close_all([fd])


def _preload_error(packet: ZygoteFailed) -> StartFailed:
    if packet.phase == "threads":
        return StartFailed(
            f"preloading {packet.module} started threads: {cut(packet.text)}",
            phase="import",
            code="preload_threads",
            hint=f"take {packet.module} out of preload= and import it in the function",
        )
    return StartFailed(
        f"preloading {packet.module} failed: {cut(packet.text)}",
        phase="import",
        code="preload_failed",
        hint="the import must succeed in a fresh interpreter",
        traceback=packet.text,
    )


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass
