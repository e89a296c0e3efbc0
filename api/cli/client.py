"""Asking a host: the plans of the faces, carried out by a host of our own or over the control socket; and reading options.

It is *not* the Python face: the command line is a face of its own, on the same plans. Rule: every option is read and
checked here, before anything is sent, and what is wrong with it is said with the option's name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from procession.api.at_rest import carry_out
from procession.api.core.plans import Plan
from procession.ipc.core.backend import Backend, Item
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.limits import Limits
from procession.ipc.core.messages import SessionDefaults
from procession.ipc.core.operations import OPERATIONS

T = TypeVar("T")


class Asker:
    """A backend that carries out plans. defaults: of the code sessions it starts."""

    def __init__(self, backend: Backend, defaults: SessionDefaults = ()) -> None:
        self.backend = backend
        self.defaults = defaults

    def ask(self, plan: Plan[T]) -> T:
        """Carry out a plan and return its result; raises the ProcessionError it ended with."""
        return carry_out(self.backend, plan)

    def follow(self, plan: Plan[None], on_item: Callable[[Item], None]) -> None:
        """Hand on what a plan streams, until it is interrupted or the host goes."""
        plan.request.on_item = on_item
        self.ask(plan)


def data_dir_of(given: str | None) -> Path:
    """Return the folder of the host that is meant; raises InvalidRequest (`invalid_data_dir`) for what is no path."""
    if given is not None:
        from procession.api.checks import check_data_dir

        return Path(check_data_dir(given) or "")
    from procession.host.paths import default_data_dir

    return Path(default_data_dir())


@contextmanager
def connected(data_dir: str | None, *, ends_with_us: bool = False) -> Iterator[Asker]:
    """Connect to the running host of a folder; raises HostLost (`no_host`) when there is none.

    ends_with_us: what was asked over this connection is ended with it, even when this process is killed.
    """
    from procession.api.remote import RemoteBackend

    backend = RemoteBackend(data_dir_of(data_dir), program="procession", cancel_on_disconnect=ends_with_us)
    try:
        yield Asker(backend, backend.defaults)
    finally:
        backend.close()


def limits_of(memory: str | None = None, cpu: str | None = None) -> Limits:
    """Read limits as they are written on a command line; raises InvalidRequest (`invalid_limit`)."""
    cpu_s = None
    if cpu is not None:
        try:
            cpu_s = float(cpu)
        except ValueError:
            raise InvalidRequest(f"--cpu: {cpu!r} is not a number of seconds", code="invalid_limit") from None
    return Limits(memory=memory, cpu_s=cpu_s)


def project_of(given: Path) -> Path:
    """Return the project folder that is meant: where somebody types it, `..` is the folder above, and said by its own path.

    A path without `..` stays as it is, a link included. The Python face refuses `..`: there it may come from anybody.
    """
    return Path(os.path.realpath(given.expanduser())) if ".." in given.parts else given


def named_values(words: Sequence[str], option: str) -> dict[str, object]:
    """Read what is written as NAME=VALUE: JSON, or else text. Raises InvalidRequest (`invalid_config`)."""
    import json

    found: dict[str, object] = {}
    for word in words:
        name, sign, text = word.partition("=")
        if not sign or not name:
            raise InvalidRequest(f"{option}: {word!r} is not NAME=VALUE", code="invalid_config")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


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
