"""The future of a submitted call: a real `concurrent.futures.Future` that knows how to stop its work.

Rules: it is over when the work is, not when somebody asked for its end; a result is decoded and checked by whoever asks
for it, never in the host's own thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, Final, Generic, TypeVar, cast

from procession.api.core.plans import Plan, run_report
from procession.ipc.core.backend import Backend, Outcome, Response, Ticket
from procession.ipc.core.bounds import WORKER_TERM_GRACE_S
from procession.ipc.core.errors import CallCancelled, HostLost, ProcessionError
from procession.ipc.core.records import RunReport

T = TypeVar("T")

CANCEL_S_MAX: Final = WORKER_TERM_GRACE_S + 1.0
"""How long who stopped a work waits for its end: the kill ladder and a busy machine."""
_UNOPENED: Final = object()


class CallFuture(Future[T], Generic[T]):
    """The Future of a submitted call, which knows how to stop its work.

    cancel() asks for the work to be stopped and is True unless it is over already. Unlike with other futures it may be
    `cancelled()` only a moment later: once its end is known, a stopped call is, and `stopped_as` is the CallCancelled
    that says whether it ran; one that finished first has its result.
    """

    def __init__(
        self,
        finish: Callable[[Response], T],
        session: str | None = None,
        on_error: Callable[[ProcessionError], object] | None = None,
    ) -> None:
        super().__init__()
        self._pid = os.getpid()
        self._on_error = on_error
        self.stopped_as: ProcessionError | None = None
        self._finish = finish
        self._session = session
        self._ticket: Ticket | None = None
        self._asked = False
        self._opened: Any = _UNOPENED
        self._failure: BaseException | None = None
        self._open_lock = threading.Lock()

    @property
    def call_id(self) -> str:
        """The id to find or cancel the call by; "" before it was sent."""
        return "" if self._ticket is None else self._ticket.call_id

    def attach(self, session: str, on_error: Callable[[ProcessionError], object]) -> None:
        """Say which session it will be sent to, and who is told of an error."""
        self._session, self._on_error = session, on_error

    def send(self, backend: Backend, plan: Plan[T]) -> None:
        """Start the call."""
        self._ticket = backend.submit(plan.request, self.land)
        if self._asked:
            self._ticket.cancel()

    def land(self, outcome: Outcome) -> None:
        """Take the call's one outcome; from any thread."""
        if isinstance(outcome, Response):
            self.set_result(cast("T", outcome))
            return
        if outcome.session is None:
            outcome.session = self._session
        if self._on_error is not None:
            self._on_error(outcome)
        if self._asked and isinstance(outcome, CallCancelled):
            self.stopped_as = outcome
            self.withdraw()
        else:
            self.set_exception(outcome)

    def withdraw(self) -> bool:
        """Count as cancelled, now: the work was never begun, or is over."""
        if not super().cancel():
            return False
        self.set_running_or_notify_cancel()
        return True

    def cancel(self) -> bool:
        """Ask for the work to be stopped, running or not; True unless it is over. `cancelled()` once it has stopped."""
        if self.done():
            return self.cancelled()
        self._asked = True
        ticket = self._ticket
        if ticket is not None:
            ticket.cancel()
        return True

    def running(self) -> bool:
        """Whether it was sent and is not over."""
        return self._ticket is not None and not self.done()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result; raises what the work ended with, CancelledError, or TimeoutError."""
        self._check_process()
        try:
            response = super().result(timeout)
        except CancelledError:
            raise CancelledError(str(self.stopped_as or "cancelled before it was begun")) from None
        value, failure = self._open(response)
        if failure is not None:
            raise failure
        return cast("T", value)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end; returns what `result` would raise, None when there is a result."""
        self._check_process()
        error = super().exception(timeout)
        return self._open(super().result())[1] if error is None else error

    def report(self, timeout: float | None = None) -> RunReport | None:
        """Wait for the end; returns how the run went, of one that succeeded too. None when nothing was run."""
        self._check_process()
        error = super().exception(timeout)
        if error is not None:
            return error.report if isinstance(error, ProcessionError) else None
        response = super().result()
        return run_report(response) if isinstance(response, Response) else None

    def _check_process(self) -> None:
        """In a child of the program nobody would ever bring the outcome: raise HostLost, do not wait for it."""
        if self._pid != os.getpid() and not self.done():
            raise HostLost("this call belongs to the process that was forked from", code="forked", ran="maybe")

    def _open(self, response: object) -> tuple[Any, BaseException | None]:
        """Decode and check the result, once."""
        with self._open_lock:
            if self._opened is _UNOPENED and self._failure is None:
                try:
                    self._opened = self._finish(cast("Response", response))
                except BaseException as error:  # noqa: BLE001 - a validator of the program, or its on_output
                    self._failure = error
                    if isinstance(error, ProcessionError) and error.session is None:
                        error.session = self._session
            return self._opened, self._failure


class DoneFuture(CallFuture[T]):
    """The future of what was done in place."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(lambda _: work())
        self.set_result(cast("T", None))
        self.exception()


def submit(backend: Backend, plan: Plan[T], session: str | None = None) -> CallFuture[T]:
    """Start a plan's call and return its future."""
    future: CallFuture[T] = CallFuture(plan.finish, session)
    future.send(backend, plan)
    return future
