"""Which session is meant: by its exact id, by the folder it works in, or by a name that several may have.

It is *not* the host's own search (`Host.session` takes an id, a name, or the beginning of an id, and refuses what is
ambiguous). Rule: it looks at one list of the host's sessions, oldest first, stopped ones left out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from procession.api.checks import check_project, check_session, check_session_id
from procession.ipc.core.errors import InvalidRequest, SessionNotFound
from procession.ipc.core.operations import SessionRef
from procession.ipc.core.records import SessionStatus


def exact_id(given: object) -> str:
    """Return an id in its one spelling. Raises InvalidRequest (invalid_session, invalid_session_id)."""
    return check_session_id(check_session(given))


def by_path(sessions: Sequence[SessionStatus], path: str | os.PathLike[str]) -> SessionRef:
    """Return the session that works in this folder, by whichever of its names; the oldest of several.

    Raises SessionNotFound, for a folder that is not there too; InvalidRequest for what is no path (missing_project_path, ...).
    """
    if path is None:
        raise InvalidRequest("path: a folder is needed", code="missing_project_path")
    try:
        folder = str(check_project(path))
    except InvalidRequest as error:
        if error.code not in ("path_not_found", "path_not_directory"):
            raise
        folder = os.path.abspath(os.path.expanduser(os.fspath(path)))
    wanted = _folder_key(folder)
    for one in sessions:
        if one.project and _folder_key(one.project) == wanted:
            return SessionRef(id=one.id, name=one.name)
    raise SessionNotFound(f"no session works in {folder}", hint="list_sessions() says where they do")


def by_name(sessions: Sequence[SessionStatus], name: str, partition: str | None) -> SessionRef:
    """Return the session of this name, the oldest of several. partition: whose names are meant. Raises SessionNotFound."""
    wanted = check_session(name)
    for one in sessions:
        if one.name == wanted and one.partition == (partition or ""):
            return SessionRef(id=one.id, name=one.name)
    raise SessionNotFound(f"no session is called {wanted!r}", hint="list_sessions() lists them")


def _folder_key(path: str) -> tuple[int, int] | str:
    """Return what tells one folder from another, links followed; its path when it is gone."""
    try:
        found = os.stat(path)
    except OSError:
        return path
    return found.st_dev, found.st_ino
