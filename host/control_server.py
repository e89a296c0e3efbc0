"""The control socket: how programs of the same user reach a host that runs in another process.

    <data dir>/control/          0700
        host.sock                0600, a Unix stream socket
        token                    0600, 64 hex digits, written before the socket listens

It is *not* the engine: whatever a client asks goes through the same `Backend` as a call made in this process.

Rules: who may come in is decided thrice: the kernel says who the peer is (our user or root), the peer is no process that a
session of ours started (a path socket passes Landlock's rules), and it shows the token, which lies outside of every
sandbox's read set. Whatever a client sends ends that client at worst. The folder's lock is held by the host, so what lies
here from before is nobody's (R-73).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Final

from procession.host.control_client_state import ControlClient, HostIdentity, PeerIdentity, SharedPlaces
from procession.host.paths import control_folder, socket_address, socket_path, token_path
from procession.ipc.core.backend import Backend
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import HostOverloaded, PermissionDenied, ProcessionError, StorageError
from procession.ipc.core.messages import SessionDefaults
from procession.ipc.transport.reactor import Reactor

if TYPE_CHECKING:
    from procession.host.engine import Engine

#: Programs connected at once; each costs one descriptor and at most 8 MiB of answers.
CLIENTS_MAX: Final = 128
#: Connections the kernel keeps for us while the loop is busy.
_BACKLOG: Final = 128
#: Clients let in per turn of the loop, so that a crowd at the door holds nobody up.
_ACCEPTS_PER_TURN: Final = 16
#: Without descriptors there is nothing to accept with; look again this much later instead of spinning.
_ACCEPT_PAUSE_S: Final = 0.1
_TOKEN_BYTES: Final = 32
#: Parents looked at between a peer and its session's zygote; deeper than any tree of processes that a limit allows to be of use.
_PARENTS_MAX: Final = 256

EventData = dict[str, str | int | float | bool | None]
OnEvent = Callable[[str, EventData], None]


class ControlServer:
    """See the module's text. Made, used and closed in the reactor's thread (made before it runs, at the latest)."""

    def __init__(
        self,
        backend: Backend,
        reactor: Reactor,
        data_dir: Path,
        *,
        pid: int,
        on_event: OnEvent,
        refuse_pids: Callable[[int], bool] = lambda _: False,
        defaults: SessionDefaults = (),
        lend_for: Callable[[OSError], bool] = lambda _: False,
    ) -> None:
        self.path = socket_path(data_dir)
        self.clients: set[ControlClient] = set()
        self._backend = backend
        self._reactor = reactor
        self._on_event = on_event
        self._refuse_pids = refuse_pids
        self._lend_for = lend_for
        self._token_path = token_path(data_dir)
        self._closed = False
        self._listens = True
        self._shares = SharedPlaces()
        self._drained: Callable[[], None] | None = None  # whom to tell once no call is under way
        try:
            control_folder(data_dir).mkdir(mode=0o700, exist_ok=True)
            control_folder(data_dir).chmod(0o700)
            token = _write_token(self._token_path)
            self._socket = _listen(self.path)
        except OSError as problem:
            raise StorageError(f"{problem.filename or self.path}: {problem.strerror}", code="socket_path") from None
        self._host = HostIdentity(pid, str(data_dir), token, defaults)
        reactor.add_reader(self._socket.fileno(), self._acceptable)

    @classmethod
    def open(cls, engine: Engine) -> ControlServer:
        """Serve an engine's data directory; raises StorageError."""
        return cls(
            engine,
            engine.reactor,
            engine.data_dir,
            pid=engine.pid,
            on_event=lambda kind, data: engine.events.emit(kind, None, 0, **data),
            refuse_pids=lambda pid: descends_from(pid, engine.zygotes.pids, engine.reserve.lend_for),
            defaults=engine.options.defaults,
            lend_for=engine.reserve.lend_for,
        )

    # --- the door -------------------------------------------------------------------------------------------
    def _acceptable(self) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                peer, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as problem:
                if self._lend_for(problem):
                    continue
                self._pause(problem)
                return
            self._admit(peer)

    def _pause(self, problem: OSError) -> None:
        self._on_event("control.accept_failed", {"text": problem.strerror or str(problem)})
        fd = self._socket.fileno()
        self._reactor.pause(fd)
        self._reactor.call_at(
            self._reactor.now() + _ACCEPT_PAUSE_S, lambda: self._reactor.resume(fd) if self._listens else None
        )

    def _admit(self, peer: socket.socket) -> None:
        identity = _identity_of(peer)
        client = self._client(peer, identity)
        if client is None:
            return
        self.clients.add(client)
        error = self._objection(identity)
        if error is not None:
            client.refuse(error)
            self._on_event("control.refused", {"pid": identity.pid, "uid": identity.uid, "code": error.code})
        else:
            client.start()

    def _client(self, peer: socket.socket, identity: PeerIdentity) -> ControlClient | None:
        """Make the state of a client; None, and it is let go, when the descriptor that this takes is not to be had."""
        fd = peer.detach()
        while True:
            try:
                return ControlClient(fd, identity, self._host, self._backend, self._reactor, self._over, self._shares)
            except OSError as problem:
                if not self._lend_for(problem):
                    os.close(fd)
                    self._pause(problem)
                    return None

    def _objection(self, peer: PeerIdentity) -> ProcessionError | None:
        if peer.uid not in (0, os.geteuid()):
            return PermissionDenied(
                f"this host belongs to user {os.geteuid()}, not to user {peer.uid}", code="wrong_user"
            )
        if len(self.clients) > CLIENTS_MAX:
            return HostOverloaded(f"{CLIENTS_MAX} programs are connected to this host already", code="too_many_clients")
        if self._refuse_pids(peer.pid):
            return PermissionDenied("a process that a session started may not control its host", code="inside_session")
        return None

    def _over(self, client: ControlClient, reason: ProtocolBreach | str) -> None:
        self.clients.discard(client)
        self._look_drained()
        if isinstance(reason, ProtocolBreach):
            self._on_event("control.breach", {"pid": client.peer.pid, "program": client.program, "text": reason.reason})
        elif reason not in ("end of file", "closed", "refused"):
            self._on_event("control.ended", {"pid": client.peer.pid, "program": client.program, "text": reason})

    # --- the end --------------------------------------------------------------------------------------------
    def drain(self, patience_s: float, done: Callable[[], None]) -> None:
        """Let nobody in and begin no call any more; call `done` when none is under way, or after so long."""
        self._lock_the_door()
        for client in list(self.clients):
            client.begin_no_more(self._look_drained)
        self._drained = done
        self._reactor.call_at(self._reactor.now() + patience_s, self._give_up_draining)
        self._look_drained()

    def _look_drained(self) -> None:
        if self._drained is not None and not any(client.works for client in self.clients):
            self._give_up_draining()

    def _give_up_draining(self) -> None:
        done, self._drained = self._drained, None
        if done is not None:
            done()

    def close(self) -> None:
        """Let every client go and take the socket away; the reactor's thread."""
        if self._closed:
            return
        self._lock_the_door()
        self._closed = True
        for client in list(self.clients):
            client.end("closed")

    def _lock_the_door(self) -> None:
        if self._listens:
            self._listens = False
            self._reactor.remove(self._socket.fileno())
            for path in (self.path, self._token_path):
                try:
                    path.unlink(missing_ok=True)
                except OSError:
                    pass  # the folder is gone or read-only by now; the lock says that nobody is here
            self._socket.close()

    def forget_after_fork(self) -> None:
        """In a forked child: close our copies; the files are the host's."""
        self._closed = True
        self._socket.close()
        for client in self.clients:
            client.forget_after_fork()

    def __repr__(self) -> str:
        return f"<ControlServer {self.path} {'closed' if self._closed else f'clients={len(self.clients)}'}>"


def descends_from(pid: int, ancestors: Collection[int], lend_for: Callable[[OSError], bool] = lambda _: False) -> bool:
    """Say whether a process is one of `ancestors` or below one; a process that cannot be looked at is taken to be.

    Pid 0 is a peer outside of our pid namespace: nothing of ours is there. lend_for: gives a descriptor when there is none.
    """
    steps_left = _PARENTS_MAX
    while pid > 1:
        if pid in ancestors or steps_left == 0:
            return True
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except OSError as problem:
            if not lend_for(problem):
                return True
        except (ValueError, IndexError):
            return True
        steps_left -= 1
    return False


def _identity_of(peer: socket.socket) -> PeerIdentity:
    pid, uid, _gid = struct.unpack(
        "iII", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
    )
    return PeerIdentity(pid, uid)


def _write_token(path: Path) -> str:
    """Make a new token and put it where only its reader's user can; whole or not at all."""
    token = os.urandom(_TOKEN_BYTES).hex()
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o600)
        os.write(fd, token.encode())
    finally:
        os.close(fd)
    draft.rename(path)
    return token


def _listen(path: Path) -> socket.socket:
    """Bind and listen, never reachable with another mode than 0600."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        os.fchmod(listener.fileno(), 0o600)  # Linux gives the file the mode of its socket; the umask can only take away
        with socket_address(path) as address:
            listener.bind(address)
        path.chmod(0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
