"""The zygotes of a host: one per preload set, started when first needed, replaced when it dies or hangs.

Rules: a fork request that meets a dying zygote is tried once more on its successor; a preload that fails is remembered with its
error and tried again only by the next explicit start (never in a loop); the pool waits for no zygote on the hot path.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

from procession.host.zygote_client import ForkedKeeper, ZygoteClient, ZygoteEvents
from procession.ipc.core.errors import HostOverloaded, ProcessionError, StartFailed
from procession.ipc.core.messages import KeeperGone
from procession.ipc.transport.reactor import Reactor

#: Preload sets of one host; each is an interpreter of its own.
ZYGOTES_MAX: Final = 16
#: Attempts of one fork, each on another zygote.
_TRIES: Final = 2

ForkDone = Callable[["ForkedKeeper | ProcessionError", int], None]
MakeFds = Callable[[], tuple[list[int], list[int]]]


class ZygotePool:
    """All zygotes of one host; the reactor's thread only."""

    def __init__(
        self,
        reactor: Reactor,
        presence_fd: int,
        *,
        on_event: Callable[[str, dict[str, str | int | float | bool | None]], None],
        on_keeper_gone: Callable[[KeeperGone], None],
    ) -> None:
        self._reactor = reactor
        self._presence_fd = presence_fd
        self._on_event = on_event
        self._on_keeper_gone = on_keeper_gone
        self._clients: dict[tuple[str, ...], ZygoteClient] = {}
        self._host_pidfd = os.pidfd_open(os.getpid())
        os.set_inheritable(self._host_pidfd, False)
        self._closed = False

    @property
    def pids(self) -> set[int]:
        """Pids of the live zygotes (every process of a session descends from one of them)."""
        return {client.pid for client in self._clients.values() if not client.over}

    def warm(self, preload: Sequence[str] = ()) -> None:
        """Start the zygote of a preload set ahead of its first use."""
        self._client(tuple(preload))

    def fork(self, preload: Sequence[str], make_fds: MakeFds, done: ForkDone) -> None:
        """Fork a keeper and a session. `make_fds` gives the descriptors to send and those to close then, for each attempt.

        `done` gets the keeper, or the error, and the pid of the zygote it came from.
        """
        self._attempt(tuple(preload), make_fds, done, _TRIES)

    def _attempt(self, preload: tuple[str, ...], make_fds: MakeFds, done: ForkDone, tries: int) -> None:
        client: ZygoteClient | None = None

        def answered(result: ForkedKeeper | ProcessionError) -> None:
            lost = isinstance(result, StartFailed) and result.code in ("zygote_lost", "zygote_hangs")
            if lost and tries > 1 and not self._closed and client is not None and client.ready:
                self._attempt(preload, make_fds, done, tries - 1)
            else:
                done(result, client.pid if client is not None else 0)

        try:
            client = self._client(preload)
            fds, closed_then = make_fds()
        except ProcessionError as error:
            done(error, 0)
            return
        except OSError as problem:
            done(StartFailed(f"no descriptors for a session: {problem}", phase="resources", code="no_descriptors"), 0)
            return
        client.fork(fds, closed_then, answered)

    def _client(self, preload: tuple[str, ...]) -> ZygoteClient:
        if self._closed:
            raise StartFailed("the host is closing", phase="fork", code="closing")
        client = self._clients.get(preload)
        if client is None or client.over:
            if sum(1 for other in self._clients.values() if not other.over) >= ZYGOTES_MAX:
                raise HostOverloaded(
                    f"this host has {ZYGOTES_MAX} preload sets running already",
                    hint="use the same preload= for sessions that can share it",
                )
            events = ZygoteEvents(ready=self._ready, lost=self._lost, keeper_gone=self._on_keeper_gone)
            client = ZygoteClient(self._reactor, preload, self._host_pidfd, self._presence_fd, events)
            self._clients[preload] = client
            self._on_event("zygote.started", {"pid": client.pid, "preload": ",".join(preload)})
        return client

    def _ready(self, client: ZygoteClient) -> None:
        self._on_event("zygote.ready", {"pid": client.pid})

    def _lost(self, client: ZygoteClient, error: ProcessionError) -> None:
        self._on_event("zygote.lost", {"pid": client.pid, "reason": error.message})

    def close(self) -> None:
        """End every zygote; what they forked has ended or ends with them."""
        self._closed = True
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        os.close(self._host_pidfd)

    def forget_after_fork(self) -> None:
        was_closed, self._closed = self._closed, True
        for client in self._clients.values():
            if not client.over:
                client.forget_after_fork()
        if not was_closed:
            os.close(self._host_pidfd)
