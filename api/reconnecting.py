"""A client's backend that outlives its connections: when one is lost, the next call makes another.

    call ──▶ connection ──▶ answered, or lost on the way: HostLost, it may have run
      '── not delivered ──▶ connect again ──▶ the same call, once more

It is *not* a connection (remote.py) and repeats nothing that may have run. Rules: one that was lost is tried again once, so a
program goes on when somebody has started the host again; where the host said that it is being restarted, it is waited for,
for a bounded time. What is followed ends with its connection. The reactor is this one's, the same for all connections.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Final

from procession.api.remote import RemoteBackend
from procession.api.remote_hello import Greeted, connect
from procession.host.paths import default_data_dir
from procession.ipc.core.backend import Done, Outcome, Request, Response, Ticket
from procession.ipc.core.errors import HostLost, HostOverloaded, ProcessionError
from procession.ipc.core.messages import SessionDefaults
from procession.ipc.transport.reactor import Reactor, ThreadReactor

#: A host that is restarted stops its sessions (5 s at most) and is up again within two; then somebody should be told.
PATIENCE_S: Final = 15.0
#: A host that is not there yet is looked for again after this long.
_LOOK_S: Final = 0.02
_PROGRAM: Final = "python"
#: Connections that one call is tried over: a host that goes away under each of them is in trouble of its own.
_TRIES: Final = 3


class ReconnectingBackend:
    """See the module's text. Connecting raises as RemoteBackend does."""

    def __init__(self, data_dir: Path | None = None, reactor: Reactor | None = None) -> None:
        self.data_dir = data_dir or default_data_dir()
        greeted = connect(self.data_dir, _PROGRAM)
        try:
            self._reactor: Reactor = reactor or ThreadReactor("procession-client")
            self._connection = self._made(greeted)
        except BaseException:  # no descriptor or no thread is left
            os.close(greeted[0])
            if reactor is None and hasattr(self, "_reactor"):
                self._reactor.close()
            raise
        self._lock = threading.Lock()  # held while one thread connects: the others want the same
        self.closed = False

    def _made(self, greeted: Greeted) -> RemoteBackend:
        return RemoteBackend(self.data_dir, self._reactor, greeted=greeted)

    @property
    def pid(self) -> int:
        """The process of the host, as it was when we connected last."""
        return self._connection.pid

    @property
    def defaults(self) -> SessionDefaults:
        """What its code sessions get that say nothing, as it was when we connected last."""
        return self._connection.defaults

    # --- Backend --------------------------------------------------------------------------------------------
    def call(self, request: Request) -> Response:
        """Make a call and wait for its outcome in this thread; raises the ProcessionError it ended with."""
        for _ in range(_TRIES - 1):
            connection = self._connection
            try:
                return connection.call(request)
            except ProcessionError as error:
                if not self._may_try_again(connection, error):
                    raise
                self._connect_again(connection, error)
        return self._connection.call(request)

    def submit(self, request: Request, done: Done) -> Ticket:
        """Start a call; `done` gets its one outcome, from whatever thread reads it."""
        ticket = _Ticket()
        self._submit(ticket, request, done, _TRIES)
        return ticket

    def _submit(self, ticket: _Ticket, request: Request, done: Done, tries: int) -> None:
        connection = self._connection

        def told(outcome: Outcome) -> None:
            may = tries > 1 and not ticket.cancelled
            if may and isinstance(outcome, ProcessionError) and self._may_try_again(connection, outcome):
                error = outcome
                threading.Thread(target=lambda: again(error), name="procession-reconnect", daemon=True).start()
            else:
                done(outcome)

        def again(error: ProcessionError) -> None:
            try:
                self._connect_again(connection, error)
            except ProcessionError as problem:
                done(problem)
            else:
                self._reactor.call_soon(lambda: self._submit(ticket, request, done, tries - 1))

        ticket.follow(connection.submit(request, told))

    def close(self) -> None:
        """End the connection; what was begun goes on in the host. Idempotent."""
        if not self.closed:
            self.closed = True
            self._connection.close()
            self._reactor.close()

    # --- another connection ---------------------------------------------------------------------------------
    def _may_try_again(self, connection: RemoteBackend, error: ProcessionError) -> bool:
        """Say whether a call was not delivered for want of a connection, or of a host that takes calls just now."""
        if self.closed or error.ran != "no" or error.code == "forked":
            return False
        if isinstance(error, HostOverloaded):
            return error.code == "restarting"
        return isinstance(error, HostLost) and connection.closed

    def _connect_again(self, lost: RemoteBackend, error: ProcessionError) -> None:
        """Have another connection, made by whoever comes first. Raises HostLost (`no_host`) and whatever `connect` does."""
        with self._lock:
            if self._connection is not lost:
                return
            is_awaited = lost.is_restarting or error.code == "restarting"
            self._adopt(lost, self._connected(time.monotonic() + (PATIENCE_S if is_awaited else 0.0)))

    def _connected(self, until: float) -> Greeted:
        """Connect, as soon as there is somebody, until that time."""
        while True:
            try:
                return connect(self.data_dir, _PROGRAM)
            except ProcessionError as problem:
                # A token of the former host's: the new one has written its own between our two looks.
                if not (isinstance(problem, HostLost) or problem.code == "wrong_token"):
                    raise
                if self.closed or time.monotonic() >= until:
                    raise
            time.sleep(_LOOK_S)

    def _adopt(self, lost: RemoteBackend, greeted: Greeted) -> None:
        """Make the new connection in the reactor's thread, where one that lives in a program's loop has to be made."""
        made = threading.Event()

        def make() -> None:
            self._connection = self._made(greeted)
            lost.close()
            made.set()

        if self._reactor.in_loop() or isinstance(self._reactor, ThreadReactor):
            make()
        else:
            self._reactor.call_soon(make)
            made.wait(PATIENCE_S)


class _Ticket:
    """A call under way over whichever connection has it."""

    def __init__(self) -> None:
        self._now: Ticket | None = None
        self.cancelled = False

    @property
    def call_id(self) -> str:
        return "" if self._now is None else self._now.call_id

    def follow(self, ticket: Ticket) -> None:
        """Take note of the connection's own."""
        self._now = ticket
        if self.cancelled:
            ticket.cancel()

    def cancel(self) -> None:
        """Ask for the call to be stopped; its outcome still comes."""
        self.cancelled = True
        if self._now is not None:
            self._now.cancel()
