"""Asking a host: one typed question over the operations table, to a host of our own or over the control socket.

It is *not* the Python face: the command line is a face of its own, on the same table. Rule: a timeout is checked before it
is sent; None takes the operation's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from procession.ipc.core.backend import Backend, Item, Request
from procession.ipc.core.errors import HostLost, InvalidRequest
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import OPERATIONS, Nothing

NOTHING: Final = Nothing()

R = TypeVar("R", bound=msgspec.Struct)


class Asker:
    """A backend, asked in words of the table."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def ask(
        self, op: str, result: type[R], session: str = "", body: msgspec.Struct = NOTHING, *,
        timeout_s: float | None = None, on_item: Callable[[Item], None] | None = None,
    ) -> R:
        """Make a call and return its typed result; raises the ProcessionError it ended with."""
        return self.ask_with_payload(op, result, session, body, timeout_s=timeout_s, on_item=on_item)[0]

    def ask_with_payload(
        self, op: str, result: type[R], session: str = "", body: msgspec.Struct = NOTHING, payload: bytes | None = None,
        *, timeout_s: float | None = None, on_item: Callable[[Item], None] | None = None,
    ) -> tuple[R, bytes]:
        """Make a call that takes or gives bytes beside its body."""
        row = OPERATIONS[op]
        assert row.result is result, f"{op} answers with {row.result.__name__}"
        request = Request(op=row, session=session, body=body, payload=payload, on_item=on_item, wait=True,
                          timeout_s=row.timeout_s if timeout_s is None else timeout_s)
        response = self.backend.call(request)
        return msgspec.msgpack.decode(response.body, type=result), response.payload or b""

    def follow(self, op: str, session: str, body: msgspec.Struct, on_item: Callable[[Item], None]) -> None:
        """Receive what an operation streams until it is interrupted or the host goes."""
        self.backend.call(Request(op=OPERATIONS[op], session=session, body=body, timeout_s=None, on_item=on_item))


def data_dir_of(given: Path | None) -> Path:
    """Return the folder of the host that is meant."""
    if given is not None:
        return given.expanduser().absolute()
    from procession.host.paths import default_data_dir

    return Path(default_data_dir())


@contextmanager
def connected(data_dir: Path | None) -> Iterator[Asker]:
    """Connect to the running host of a folder; raises HostLost (`no_host`) when there is none."""
    folder = data_dir_of(data_dir)
    if not os.path.lexists(folder / "control" / "host.sock"):
        raise no_host(folder)
    from procession.api.remote import RemoteBackend

    try:
        backend = RemoteBackend(folder)
    except (FileNotFoundError, ConnectionRefusedError):
        raise no_host(folder) from None
    try:
        yield Asker(backend)
    finally:
        backend.close()


def no_host(folder: Path) -> HostLost:
    """Say that nobody is there, and how to change that."""
    return HostLost(f"no host is running in {folder}", code="no_host", ran="no", hint="start one with `procession up -d`")


def limits_of(memory: str | None = None, cpu: str | None = None) -> Limits:
    """Read limits as they are written on a command line; raises InvalidRequest (`invalid_limit`)."""
    cpu_s = None
    if cpu is not None:
        try:
            cpu_s = float(cpu)
        except ValueError:
            raise InvalidRequest(f"--cpu: {cpu!r} is not a number of seconds", code="invalid_limit") from None
    return Limits(memory=memory, cpu_s=cpu_s)


def timeout_of(text: str | None, op: str) -> float | None:
    """Read a timeout in seconds; None takes the operation's own. Raises InvalidRequest (`invalid_timeout`)."""
    if text is None:
        return OPERATIONS[op].timeout_s
    from procession.api.checks import check_timeout

    try:
        value = float(text)
    except ValueError:
        raise InvalidRequest(f"--timeout: {text!r} is not a number of seconds", code="invalid_timeout") from None
    return check_timeout(value, OPERATIONS[op])


def check_sandbox(name: str) -> str:
    """Return the confinement's name; raises InvalidRequest for one that does not exist (its absence is the host's to tell)."""
    if name not in ("off", "standard", "strict"):
        raise InvalidRequest(f"--sandbox: {name!r} is not one of off, standard, strict", code="invalid_sandbox")
    return name
