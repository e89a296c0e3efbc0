"""The project folder of a new session: what its path may say, and what the folder must allow.

It is *not* the look at the disk, whose findings come in as ProjectFacts, and not the paths of a session's tools
(tool_path.py).

Rules: the text of a path is judged before anything is looked at, and a folder before its content; the first thing wrong is
the reason. The path is kept as it was given (a link stays one): which folder it is, the host knows by device and inode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from procession.agent_proc.agent.record.reasons import Reason, refusal, shown

PATH_BYTES_MAX: Final = 4_096
"""Linux takes no longer path (PATH_MAX)."""


@dataclass(frozen=True, slots=True)
class ProjectFacts:
    """What was found at a project's path, links followed.

    link_target: what the path itself says as a link, None when it is none. can_list, can_write, has_space: whether the
    folder could be read, and a probe file made in it. found: `language.evidence` of its names.
    """

    exists: bool = True
    is_directory: bool = True
    link_target: str | None = None
    can_list: bool = True
    can_write: bool = True
    has_space: bool = True
    found: frozenset[str] = frozenset()


NOTHING_THERE: Final = ProjectFacts(exists=False, is_directory=False, can_list=False, can_write=False)


def path_bytes(path: str) -> bytes | None:
    """Return a path as the system's calls take it, None for text that no path reads as."""
    try:
        data = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None
    return None if b"\0" in data else data


def text_reason(given: object) -> Reason | None:
    """Say what is wrong with the text of a project's path: the first of five things."""
    if type(given) is not str or not given:
        return Reason("invalid_project_path", f"project: the path of a folder is needed, not {shown(given)}")
    data = path_bytes(given)
    if data is None:
        return Reason("invalid_project_path", f"project: {shown(given)} is not a path")
    if len(data) > PATH_BYTES_MAX:
        return Reason("path_too_long", f"project: a path has at most {PATH_BYTES_MAX} bytes, not {len(data)}")
    if ".." in given.split("/"):
        hint = "give the path of the folder itself, without `..`"
        return Reason("path_traversal_detected", f"project: {shown(given)} goes up with `..`", hint)
    if not given.startswith("/"):
        return Reason(
            "path_not_absolute", f"project: {shown(given)} is relative, and here to nothing", "give it from /"
        )
    return None


def plain_path(path: str) -> str:
    """Return an absolute path without doubled or trailing slashes and without `.`."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def path_to_look_at(given: object) -> str:
    """Return the path that a shell gathers the facts of. Raises InvalidRequest when its text is wrong."""
    reason = text_reason(given)
    if reason is not None:
        raise refusal(reason)
    assert type(given) is str
    return plain_path(given)


def place_reason(path: str, facts: ProjectFacts) -> Reason | None:
    """Say why a session cannot be in this place: nothing there, or no folder."""
    if not facts.exists:
        return Reason("path_not_found", f"project: there is no {shown(path)}")
    if not facts.is_directory:
        return Reason("path_not_directory", f"project: {shown(path)} is not a folder")
    return None


def folder_reason(path: str, facts: ProjectFacts) -> Reason | None:
    """Say why a session cannot begin in this folder, the place included."""
    reason = place_reason(path, facts)
    if reason is not None:
        return reason
    target = facts.link_target
    if target is not None and target.startswith("/") and ".." in target.split("/"):
        hint = "give the path of the folder itself"
        return Reason("symlink_escape", f"project: {shown(path)} is a link that goes up with `..`", hint)
    if not facts.can_list:
        return Reason("path_permission_denied", f"project: the folder {shown(path)} cannot be listed")
    if not facts.has_space:
        return Reason("path_no_space", f"project: there is no space left in {shown(path)}")
    if not facts.can_write:
        return Reason("path_permission_denied", f"project: no file can be made in {shown(path)}")
    return None
