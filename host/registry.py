"""The sessions of a host by id, by name and by project folder; every rule about them is checked in one step under one lock.

Rules: an id is a UUID and taken once; an exclusive project folder (known by device and inode, so that a symlink is no
second one) has one session until that session is stopped or removed; `sessions_max` counts sessions that run. What a session
holds follows from its phase (core/lifecycle_values.py), so that nothing has to be given back; what it does not hold, it takes
here before it gets a process: the reactor's thread, where phases change, takes and starts in one go.
Names may repeat; which session a name means is core/name_choice.py's. A name is one of its partition, and not known in another.
"""

from __future__ import annotations

import os
import stat
import threading
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from procession.host.core.name_choice import Named, choose, choose_holder, only_one
from procession.ipc.core.errors import AlreadyExists, InvalidRequest, SessionLimitReached, SessionNotFound

if TYPE_CHECKING:
    from procession.host.session import SessionActor

FolderKey = tuple[int, int]

#: The beginning of an id that tables show is enough to name a session by.
SHORT_ID_CHARS_MIN = 8


def new_id() -> str:
    """Return a fresh session id."""
    return str(uuid.uuid4())


def check_id(given: str) -> str:
    """Return the id in its one spelling; raises InvalidRequest (invalid_session_id)."""
    try:
        return str(uuid.UUID(given))
    except ValueError:
        raise InvalidRequest(f"a session id is a UUID, not {given!r}", code="invalid_session_id") from None


def folder_key(path: str) -> FolderKey:
    """Return what identifies a folder whatever it is called; raises InvalidRequest (path_not_found, path_not_directory)."""
    try:
        found = os.stat(path)
    except OSError as problem:
        raise InvalidRequest(
            f"the project folder {path!r} cannot be used: {problem.strerror}", code="path_not_found"
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise InvalidRequest(f"the project path {path!r} is not a folder", code="path_not_directory")
    return found.st_dev, found.st_ino


class Tally(NamedTuple):
    """What sessions have done so far."""

    calls: int = 0
    failed: int = 0
    late: int = 0
    restarts: int = 0
    starts: int = 0


class Registry:
    """See the module's text; thread-safe."""

    def __init__(self, sessions_max: int) -> None:
        self.sessions_max = sessions_max
        self._lock = threading.RLock()
        self._sessions: dict[str, SessionActor] = {}
        self._removed = Tally()

    def add(self, actor: SessionActor, folder: FolderKey | None) -> None:
        """Take a slot, an id and a folder for a session, all or none.

        Raises SessionLimitReached, then AlreadyExists: session_exists, then project_already_open.
        """
        with self._lock:
            if actor.holds_slot:
                self._check_slot(actor)
            self.check_free(actor.id)
            actor.folder = folder
            self._check_folder(actor)
            self._sessions[actor.id] = actor

    def check_free(self, ident: str) -> None:
        """Raise AlreadyExists (session_exists) for the id of a session that is there."""
        if ident in self._sessions:
            raise AlreadyExists(f"a session with the id {ident} exists", code="session_exists", session=ident)

    def take_up(self, actor: SessionActor, folder: FolderKey | None) -> None:
        """List a session of a former host, which checked it when it was made."""
        with self._lock:
            actor.folder = folder
            self._sessions[actor.id] = actor

    def reclaim(self, actor: SessionActor) -> None:
        """Check that a session at rest may have a process again: a slot, and its folder. Raises as `add` does."""
        with self._lock:
            self._check_slot(actor)
            self._check_folder(actor)

    def _check_slot(self, actor: SessionActor) -> None:
        running = sum(1 for other in self._sessions.values() if other.holds_slot and other is not actor)
        if running >= self.sessions_max:
            raise SessionLimitReached(
                f"this host runs {running} sessions and may run {self.sessions_max}",
                hint="stop one, or give the host a larger max_sessions",
            )

    def _check_folder(self, actor: SessionActor) -> None:
        if actor.folder is None or not actor.spec.exclusive:
            return
        for other in self._sessions.values():
            if other.folder == actor.folder and other.holds_folder and other is not actor:
                raise AlreadyExists(
                    f"session {other.id} has this project folder open",
                    code="project_already_open",
                    session=other.id,
                    hint=f"resume {other.id}, or pass exclusive=False to share the folder",
                )

    def remove(self, actor: SessionActor) -> None:
        """Take a session off the list, and with it all that it holds."""
        with self._lock:
            if self._sessions.pop(actor.id, None) is not None:
                self._removed = _sum([self._removed, _tally(actor)])

    def tally(self) -> Tally:
        """Count what its sessions have done, those included that were removed: counters never go back."""
        with self._lock:
            return _sum([self._removed, *map(_tally, self._sessions.values())])

    def get(self, id: str) -> SessionActor | None:
        """Return the session with this id, None when there is none."""
        return self._sessions.get(id)

    def find(self, id_or_name: str, *, stopped_first: bool = False, within: str | None = None) -> SessionActor:
        """Return the session with this id, this name, or an id that begins like this; raises SessionNotFound.

        A name or beginning that means several is an InvalidRequest (`ambiguous_name`). stopped_first: look for a name
        among the stopped sessions before the others. within: the one partition to look in; else a name is looked for where no
        partition was named, an id everywhere.
        """
        known = self._sessions.get(id_or_name)  # on the path of every call, and one look-up needs no lock
        if known is not None and within in (None, known.spec.partition):
            return known
        with self._lock:
            found = choose(id_or_name, self._candidates(id_or_name, within or ""), stopped_first=stopped_first)
            if found is None and len(id_or_name) >= SHORT_ID_CHARS_MIN:
                begun = self._described(
                    actor
                    for actor in self._sessions.values()
                    if actor.id.startswith(id_or_name) and within in (None, actor.spec.partition)
                )
                found = only_one(id_or_name, begun) if begun else None
            if found is not None:
                return self._sessions[found]
        raise SessionNotFound(
            f"there is no session {id_or_name!r} on this host",
            session=id_or_name,
            hint="list_sessions(all=True) lists them all",
        )

    def named(self, name: str, partition: str) -> SessionActor | None:
        """Return the session that holds this name, None when none does; raises InvalidRequest (`ambiguous_name`)."""
        with self._lock:
            found = choose_holder(name, self._candidates(name, partition))
            return None if found is None else self._sessions[found]

    def _candidates(self, name: str, partition: str) -> list[Named]:
        return self._described(
            actor for actor in self._sessions.values() if actor.name == name and actor.spec.partition == partition
        )

    @staticmethod
    def _described(actors: Iterable[SessionActor]) -> list[Named]:
        return [Named(one.id, one.phase, one.age_s) for one in actors if one.phase != "gone"]

    def all(self) -> list[SessionActor]:
        """Return the sessions, oldest first."""
        with self._lock:
            return list(self._sessions.values())


def _tally(actor: SessionActor) -> Tally:
    calls = actor.calls
    return Tally(calls.served, calls.failed, calls.late, actor.restarts, actor.incarnation)


def _sum(tallies: list[Tally]) -> Tally:
    return Tally(*map(sum, zip(*tallies, strict=True)))
