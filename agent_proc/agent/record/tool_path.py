"""Paths that a session's tools are given: which place inside the project a text means, or why it means none.

It is *not* what keeps a tool inside: text cannot know what is a link. It gives the components below the project's folder,
which a shell opens one by one, by descriptor and without following links; that shell answers what only it can see with
`symlink_escapes_boundary`, and a loop of links with `invalid_path`.

Rules: a path that leaves the folder is refused and never cut to fit; `..` is taken out before anything is opened;
missing files are fine. The codes and their order are the contract's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from procession.agent_proc.agent.record.project_path import PATH_BYTES_MAX, path_bytes, plain_path
from procession.agent_proc.agent.record.reasons import Reason, refusal, shown
from procession.ipc.core.errors import InvalidRequest

PROTECTED: Final = (".jido_code", "settings.json")
"""The ends of a path that no tool may touch: a session does not configure its own host."""
_ENCODINGS_MAX: Final = 2
"""A percent sign is decoded once by a server and once more by a careless one; nobody decodes a third time."""


@dataclass(frozen=True, slots=True)
class ToolPath:
    """A place inside a project: the folder, and the components below it (none: the folder itself)."""

    root: str
    parts: tuple[str, ...]

    @property
    def relative(self) -> str:
        """The path from the project's folder, `.` for the folder itself."""
        return "/".join(self.parts) or "."

    def __str__(self) -> str:
        return "/".join((self.root.rstrip("/"), *self.parts)) or "/"


def tool_path(root: str, given: object) -> ToolPath:
    """Return the place that a path means in the project at `root`, "" being the project's folder.

    Raises InvalidRequest: invalid_path, path_escapes_boundary, path_outside_boundary, protected_settings_file.
    """
    if type(given) is not str:
        raise _refused("invalid_path", f"path: a text is needed, not {shown(given)}")
    data = path_bytes(given)
    if data is None or len(data) > PATH_BYTES_MAX:
        raise _refused("invalid_path", f"path: {shown(given)} is not a path of at most {PATH_BYTES_MAX} bytes")
    if _hides_traversal(given):
        raise _refused("path_escapes_boundary", f"path: {shown(given)} has an encoded `..`")
    base = _components(root)
    is_absolute = given.startswith("/")
    place = _collapsed(() if is_absolute else base, given)
    if place[: len(base)] != base:
        if is_absolute:
            raise _refused("path_outside_boundary", f"path: {shown(given)} is outside the project {shown(root)}")
        raise _refused("path_escapes_boundary", f"path: {shown(given)} leads out of the project")
    found = ToolPath(plain_path(root), place[len(base) :])
    if is_protected(place):
        raise _refused("protected_settings_file", f"path: {shown(str(found))} holds settings that no tool may touch")
    return found


def is_protected(parts: tuple[str, ...]) -> bool:
    """Say whether these are the last components of a protected file, in any case: some file systems know none."""
    return tuple(part.casefold() for part in parts[-len(PROTECTED) :]) == PROTECTED


def _refused(code: str, text: str) -> InvalidRequest:
    hint = "" if code == "protected_settings_file" else "give a path inside the project"
    return refusal(Reason(code, text, hint))


def _components(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part not in ("", "."))


def _collapsed(base: tuple[str, ...], path: str) -> tuple[str, ...]:
    """Return the components of `path` after `base` with every `..` taken out; above the root there is only the root."""
    parts = list(base)
    for part in _components(path):
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
    return tuple(parts)


def _hides_traversal(path: str) -> bool:
    """Say whether a path goes up more often once its percent signs are decoded than its own text shows."""
    for _ in range(_ENCODINGS_MAX):
        decoded = unquote(path, errors="surrogateescape")
        if _ups(decoded) > _ups(path):
            return True
        path = decoded
    return False


def _ups(path: str) -> int:
    return path.replace("\\", "/").split("/").count("..")
