"""How a client finds a host and is let in: socket, token, one greeting each way. Blocking and bounded.

It is *not* the client (remote.py). No host, a stale socket and one that ends in the middle are one answer: HostLost
(`no_host`); a host that refuses says why itself.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from pathlib import Path
from typing import Final

from procession.api.remote_call import no_host
from procession.host.paths import socket_address, socket_path, token_path
from procession.ipc.core.bounds import PAYLOAD_BYTES_MAX, READ_BYTES, WIRE_VERSION, MiB
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.connection import Connection
from procession.ipc.core.errors import (
    HostLost,
    PermissionDenied,
    ProcessionError,
    ProtocolError,
    StorageError,
    from_data,
)
from procession.ipc.core.messages import ClientHello, Refused, ServerHello

#: Payloads travel inside the messages of this socket, with their envelope and body.
MESSAGE_BYTES_MAX: Final = PAYLOAD_BYTES_MAX + 1 * MiB
#: How long a host may take to answer the door; its loop turns in milliseconds.
GREETING_TIMEOUT_S: Final = 5.0
#: A host that has a full backlog is tried again after this long, within the time of the greeting.
_RETRY_S: Final = 0.02
_TOKEN_CHARS_MAX: Final = 256


Greeted = tuple[int, Connection, ServerHello]


def connect(data_dir: Path, program: str) -> Greeted:
    """Return the connected socket's descriptor (the caller's to close), its greeted connection and the host's greeting.

    Raises HostLost (`no_host`, `host_unresponsive`), PermissionDenied, HostOverloaded, ProtocolError
    (`version_skew`), or StorageError for a path that cannot be looked at.
    """
    deadline = time.monotonic() + GREETING_TIMEOUT_S
    token = _token(data_dir)
    peer = _connected(data_dir, deadline)
    try:
        connection = Connection("client", message_bytes_max=MESSAGE_BYTES_MAX)
        hello = _greeting(peer, connection, ClientHello(WIRE_VERSION, token, program), data_dir, deadline)
    except BaseException:
        peer.close()
        raise
    return peer.detach(), connection, hello


def _token(data_dir: Path) -> str:
    try:
        with open(token_path(data_dir), encoding="ascii", errors="replace") as file:
            return file.read(_TOKEN_CHARS_MAX)
    except (FileNotFoundError, NotADirectoryError):
        raise no_host(data_dir) from None
    except OSError as problem:
        raise _unreachable(token_path(data_dir), problem) from None


def _connected(data_dir: Path, deadline: float) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        peer.settimeout(GREETING_TIMEOUT_S)
        with socket_address(socket_path(data_dir)) as address:
            while True:
                try:
                    peer.connect(address)
                    return peer
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise _unresponsive(data_dir) from None
                    time.sleep(_RETRY_S)
    except StorageError:
        peer.close()
        raise no_host(data_dir) from None
    except OSError as problem:
        peer.close()
        if problem.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
            raise no_host(data_dir) from None
        raise _unreachable(socket_path(data_dir), problem) from None
    except BaseException:
        peer.close()
        raise


def _greeting(
    peer: socket.socket, connection: Connection, hello: ClientHello, data_dir: Path, deadline: float
) -> ServerHello:
    connection.send(hello)
    try:
        peer.sendall(connection.take())
    except (BrokenPipeError, ConnectionResetError):
        pass  # turned away already: the reason lies there to be read
    while True:
        peer.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data = peer.recv(READ_BYTES)
        except TimeoutError:
            raise _unresponsive(data_dir) from None
        except OSError:
            data = b""
        if not data:
            raise no_host(data_dir)
        try:
            messages = connection.feed(data)
        except ProtocolBreach as breach:
            raise ProtocolError(
                f"what listens in {data_dir} is no host of this version: {breach.reason}", code="version_skew", ran="no"
            ) from None
        if not messages:
            continue
        first = messages[0]
        if isinstance(first, Refused):
            raise from_data(first.error)
        if first.version != WIRE_VERSION:
            raise ProtocolError(
                f"the host (pid {first.pid}) speaks protocol version {first.version}, this client version {WIRE_VERSION}",
                code="version_skew",
                ran="no",
                hint="restart the host with this release",
            )
        os.set_blocking(peer.fileno(), False)
        return first  # type: ignore[no-any-return]


def _unreachable(path: Path, problem: OSError) -> ProcessionError:
    if problem.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(
            f"{path}: {problem.strerror}", code="permission_denied", hint="the host belongs to another user"
        )
    return StorageError(f"{path}: {problem.strerror}", code="data_dir")


def _unresponsive(data_dir: Path) -> HostLost:
    return HostLost(
        f"the host of {data_dir} did not answer within {GREETING_TIMEOUT_S:g} s",
        code="host_unresponsive",
        ran="no",
        hint="its process may be stopped or stuck",
    )
