"""`procession restart`: the process of a session, or with --host the host itself and everything it runs.

A host that is asked to takes no more calls, gives those under way a moment, closes its sessions with all their state on disk,
and becomes its successor by exec: same command line, same pid, so that a terminal or a service manager sees one process. The
successor starts the sessions that were up. It is *not* what `up` does otherwise (lifecycle.py).
"""

from __future__ import annotations

import os
import select
import sys
import time
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from procession.api.cli import exit_codes
from procession.api.cli.app import DataDir
from procession.api.cli.client import Asker, connected, data_dir_of
from procession.api.cli.output import complain, count
from procession.api.core import plans
from procession.ipc.core.errors import InvalidRequest, ProcessionError

if TYPE_CHECKING:
    from pathlib import Path

    from procession.api.remote import RemoteBackend

#: Calls under way have this long before a restart ends them; most end in milliseconds, and who waits is kept out meanwhile.
DRAIN_S: Final = 0.5
#: Of a command line: this host is its own successor.
AGAIN_OPTION: Final = "--was-up"
_READY_OPTION: Final = "--ready-fd"
#: Every session its grace, in small groups, and an interpreter's start.
_BACK_S: Final = 60.0
_LOOK_S: Final = 0.02
_UP: Final = frozenset({"starting", "ready"})


def restart(
    sessions: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Ids or names of sessions.")] = None,
    host: Annotated[
        bool, typer.Option("--host", help="The host itself, with every session: they go on where they were.")
    ] = False,
    data_dir: DataDir = None,
) -> int:
    """End the process of a session and start the next one, or those of all of them and the host's."""
    from procession.api.cli.lifecycle import each_session

    if host == bool(sessions):
        raise InvalidRequest("say which sessions, or --host", code="invalid_argument")
    return _restart_host(data_dir) if host else each_session(sessions or [], data_dir, _restart)


def _restart(host: Asker, session: str) -> str:
    host.ask(plans.restart(session))
    return "restarted"


# --- the host -----------------------------------------------------------------------------------------------
def begin_again() -> NoReturn:
    """Become this program anew, with the command line it was started with; every descriptor of ours is closed by that."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *_arguments(sys.orig_argv[1:])])


def _arguments(before: list[str]) -> list[str]:
    """Return the command line of a successor: what told the first one's parent that it was ready is of no use to it."""
    kept = [word for word in before if word != AGAIN_OPTION]
    if _READY_OPTION in kept:
        at = kept.index(_READY_OPTION)
        del kept[at : at + 2]
    return [*kept, AGAIN_OPTION]


def _restart_host(data_dir: str | None) -> int:
    """Ask for it, and come back when those sessions are up again that were, with how long they were away."""
    folder = data_dir_of(data_dir)
    with connected(data_dir) as host:
        pid = host.ask(plans.statistics()).pid
        up = {one.id for one in host.ask(plans.list_sessions(every=False)) if one.phase in _UP}
        pidfd = os.pidfd_open(pid)
        try:
            began = time.monotonic()
            host.ask(plans.restart_host())
            away = _wait_until_back(folder, host, pidfd, began, up)
        finally:
            os.close(pidfd)
    if away is None:
        complain(f"the host (pid {pid}) was asked to start again and is not back", f"see `procession up`, or {folder}")
        return exit_codes.FAILED
    print(f"host restarted: pid {pid}, {count(len(up), 'session')} up again after {away:.2f} s", flush=True)
    return exit_codes.OK


def _wait_until_back(folder: Path, before: Asker, pidfd: int, began: float, up: set[str]) -> float | None:
    """Return how long it was away, None when it ended or took too long."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    after: Asker | None = None
    try:
        while time.monotonic() < began + _BACK_S:
            try:
                if after is None and _is_lost(before):
                    after = Asker(_connection(folder))
                if after is not None and not up & _on_their_way(after):
                    return time.monotonic() - began
            except ProcessionError as error:  # nobody is there yet
                if error.ran != "no":
                    raise
            if poller.poll(_LOOK_S * 1000):
                return None
        return None
    finally:
        if after is not None:
            after.backend.close()


def _connection(folder: Path) -> RemoteBackend:
    from procession.api.remote import RemoteBackend

    return RemoteBackend(folder, program="procession")


def _is_lost(host: Asker) -> bool:
    return bool(getattr(host.backend, "closed", False))


def _on_their_way(host: Asker) -> set[str]:
    """Return the sessions that are neither ready nor failed; temporary ones are not there any more."""
    return {one.id for one in host.ask(plans.list_sessions(every=True)) if one.phase not in ("ready", "failed")}
