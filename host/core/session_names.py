"""Which sessions a host has under which id, name and folder, and what a new one may take: one immutable value.

Pure: whoever holds the value replaces it under one lock, so that two starts can never both pass the same check. It is
*not* the session's own record, the rules of what a name may be, or the choice of the session that a verb's name means
(name_choice.py).

Rules: the limit is checked first, then the id, then the folder, and a refusal takes nothing. What a session holds
follows from its hold alone: a stopped one is listed and holds nothing, so that its slot, name and folder are free at
once; one at rest (failed, hibernated) keeps its folder and name, and gives its slot back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from procession.ipc.core.bounds import SESSIONS_MAX
from procession.ipc.core.errors import AlreadyExists, SessionLimitReached, SessionNotFound

FolderKey = tuple[int, int]
"""Device and inode: the same for every name of a folder."""

Hold = Literal["running", "resting", "stopped"]
"""running: a slot, its folder and name. resting: its folder and name. stopped: nothing but its id."""


@dataclass(frozen=True, slots=True)
class Registration:
    """One session. created_at: seconds of the wall clock. folder: None for a private one, which nobody else can ask for."""

    id: str
    name: str
    created_at: float
    folder: FolderKey | None = None
    exclusive: bool = True
    hold: Hold = "running"


@dataclass(frozen=True, slots=True)
class Registrations:
    """See the module's text."""

    sessions_max: int = SESSIONS_MAX
    by_id: Mapping[str, Registration] = field(default_factory=dict)

    # -- what may be taken -----------------------------------------------------------------------------------
    def check(self, candidate: Registration) -> None:
        """Refuse what a new session may not take.

        Raises SessionLimitReached, then AlreadyExists: session_exists, then project_already_open.
        """
        self._check_slot(candidate)
        if candidate.id in self.by_id:
            raise AlreadyExists(
                f"a session with the id {candidate.id} exists",
                code="session_exists",
                session=candidate.id,
                hint=f"resume {candidate.id}, or start one with another id",
            )
        self._check_folder(candidate)

    def added(self, candidate: Registration) -> Registrations:
        """Return the registrations with a new session. Raises as `check` does."""
        self.check(candidate)
        return self._with(candidate)

    def moved(self, id: str, hold: Hold) -> Registrations:
        """Return the registrations with a session that holds more or less than before.

        What it did not hold is checked as for a new session. Raises SessionNotFound, SessionLimitReached, AlreadyExists.
        """
        before = self.lookup(id)
        after = replace(before, hold=hold)
        if before.hold != "running":
            self._check_slot(after)
        if before.hold == "stopped":
            self._check_folder(after)
        return self._with(after)

    def renamed(self, id: str, name: str) -> Registrations:
        """Return the registrations with a session under another name; names may repeat. Raises SessionNotFound."""
        return self._with(replace(self.lookup(id), name=name))

    def removed(self, id: str) -> Registrations:
        """Return the registrations without a session; one that is not there is ignored."""
        return replace(self, by_id={key: one for key, one in self.by_id.items() if key != id})

    # -- what is there ---------------------------------------------------------------------------------------
    @property
    def running(self) -> int:
        """How many sessions hold a slot."""
        return sum(one.hold == "running" for one in self.by_id.values())

    def oldest_first(self, *, stopped: bool = False) -> list[Registration]:
        """List the sessions in the order in which they were created; `stopped` ones only when asked for."""
        listed = [one for one in self.by_id.values() if stopped or one.hold != "stopped"]
        return sorted(listed, key=lambda one: one.created_at)

    def lookup(self, id: str) -> Registration:
        """Return the session with this id, stopped or not. Raises SessionNotFound."""
        found = self.by_id.get(id)
        if found is None:
            raise SessionNotFound(f"there is no session with the id {id!r}", session=id)
        return found

    def lookup_by_folder(self, folder: FolderKey) -> Registration:
        """Return the session that works in this folder, the oldest of several. Raises SessionNotFound."""
        return self._oldest(lambda one: one.folder == folder, "no session works in this folder")

    def lookup_by_name(self, name: str) -> Registration:
        """Return the session that holds this name, the oldest of several. Raises SessionNotFound."""
        return self._oldest(lambda one: one.name == name, f"no session is called {name!r}")

    def default(self, configured: str | None = None) -> Registration:
        """Return the configured session if it is there, else the oldest. Raises SessionNotFound (no_sessions)."""
        found = self.by_id.get(configured) if configured is not None else None
        if found is not None and found.hold != "stopped":
            return found
        return self._oldest(lambda _: True, "there are no sessions", code="no_sessions")

    # -- inside ----------------------------------------------------------------------------------------------
    def _check_slot(self, candidate: Registration) -> None:
        running = self.running
        if candidate.hold == "running" and running >= self.sessions_max:
            raise SessionLimitReached(
                f"this host runs {running} sessions and may run {self.sessions_max}",
                hint="stop one, or give the host a larger max_sessions",
            )

    def _check_folder(self, candidate: Registration) -> None:
        if candidate.folder is None or not candidate.exclusive or candidate.hold == "stopped":
            return
        for other in self.oldest_first():
            if other.folder == candidate.folder and other.exclusive:
                raise AlreadyExists(
                    f"session {other.id} has this project folder open",
                    code="project_already_open",
                    session=other.id,
                    hint=f"resume {other.id}, or pass exclusive=False to share the folder",
                )

    def _with(self, session: Registration) -> Registrations:
        return replace(self, by_id={**self.by_id, session.id: session})

    def _oldest(self, wanted: Callable[[Registration], bool], text: str, *, code: str = "") -> Registration:
        found = next(filter(wanted, self.oldest_first()), None)
        if found is None:
            raise SessionNotFound(text, code=code)
        return found
