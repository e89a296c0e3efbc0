"""A handle's view of its session with which calls are made otherwise: under an id, more or less durable, without waiting.

It is *not* a session of its own: `session.using(call_id="order-17")` is equal to `session`, and lives as long as it is used.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from procession.api.checks import check_durability, check_flag, check_text
from procession.api.link import Link
from procession.ipc.core.backend import Backend, Done, Request, Response, Ticket
from procession.ipc.core.errors import InvalidRequest

CALL_ID_CHARS_MAX: Final = 200
"""As long as an error tells it."""


class Using(NamedTuple):
    """How calls are to be made; None leaves it as it is."""

    call_id: str | None = None
    durability: str | None = None
    fail_fast: bool | None = None
    wait: bool | None = None


class UsingBackend:
    """A backend that makes the calls of one session otherwise, and hands on everything else as it is."""

    def __init__(self, backend: Backend, using: Using) -> None:
        self._backend = backend
        self._using = using

    @property
    def data_dir(self) -> Path:
        return self._backend.data_dir

    def _changed(self, request: Request) -> Request:
        if request.op.target != "session":
            return request
        call_id, durability, fail_fast, wait = self._using
        if call_id is not None:
            request.call_id = call_id
        if durability is not None:
            request.durability = durability
        if fail_fast is not None:
            request.fail_fast = fail_fast
        if wait is not None:
            request.wait = wait
        return request

    def call(self, request: Request) -> Response:
        return self._backend.call(self._changed(request))

    def submit(self, request: Request, done: Done) -> Ticket:
        return self._backend.submit(self._changed(request), done)

    def close(self) -> None:
        self._backend.close()


def plainly(link: Link) -> Link:
    """Return the link whose calls are made as they are: what was said of one session's is not meant for another's."""
    backend = link.backend
    return replace(link, backend=backend._backend) if isinstance(backend, UsingBackend) else link


def using(link: Link, call_id: str | None, durability: str | None, fail_fast: bool | None, wait: bool | None) -> Link:
    """Return a link whose calls are made so. Raises InvalidRequest: invalid_call_id, invalid_durability, invalid_argument."""
    if call_id is not None and not 0 < len(check_text("call_id", call_id)) <= CALL_ID_CHARS_MAX:
        raise InvalidRequest(f"call_id: must have 1 to {CALL_ID_CHARS_MAX} characters", code="invalid_call_id")
    if durability is not None:
        check_durability(durability)
    check_flag("fail_fast", fail_fast)
    check_flag("wait", wait)
    return replace(link, backend=UsingBackend(link.backend, Using(call_id, durability, fail_fast, wait)))
