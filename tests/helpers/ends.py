"""The ends of a session and what is left after each: one table, from which docs/lifecycle.md and a test take theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class End:
    """One way to end. None: there is no such host, or no such session, to ask any more.

    phase: in which it is then. listed: by list_sessions(); with all=True every session is that is not removed. slot, folder:
    whether they are free. readable: its state. wakes: on the next call, or it answers anyway. resumes: by resume_session.
    reopened: its phase on a host that is opened again on the folder, None: not there.
    """

    name: str
    how: str
    phase: str | None
    listed: bool | None
    slot: bool | None
    folder: bool | None
    readable: bool | None
    wakes: bool | None
    resumes: bool | None
    reopened: str | None


ENDS: Final = (
    #                                                    phase         listed slot   folder readable wakes resumes reopened
    End("close", "`host.close()`",                       None,         None,  None,  None,  None,  None,  None,  "down"),
    End("stop", "`stop()`, a normal exit",               "stopped",    False, True,  True,  True,  False, True,  "stopped"),
    End("kill", "`kill()`",                              "down",       True,  True,  False, True,  True,  True,  "down"),
    End("restart", "`restart()`",                        "ready",      True,  False, False, True,  True,  True,  "down"),
    End("hibernate", "`hibernate()`, idle",              "hibernated", True,  True,  False, True,  True,  True,  "hibernated"),
    End("remove", "`remove_session()`",                  None,         False, True,  True,  False, False, False, None),
    End("crash", "a crash that policy restarts",         "ready",      True,  False, False, True,  True,  True,  "down"),
    End("failed", "a crash that it does not",            "failed",     True,  True,  False, True,  False, True,  "failed"),
)  # fmt: skip

_HEAD: Final = (
    "how it ends", "phase", "listed", "slot", "name and folder", "state", "on the next call", "`resume_session`",
    "on a host reopened",
)  # fmt: skip


def markdown() -> str:
    """Return the table as the page has it."""
    lines = [f"| {' | '.join(_HEAD)} |", f"|{'---|' * len(_HEAD)}"]
    return "\n".join([*lines, *map(_row, ENDS)]) + "\n"


def _row(end: End) -> str:
    calls = "answers" if end.phase == "ready" else "wakes" if end.wakes else "refused"
    cells = (
        end.how,
        f"`{end.phase}`" if end.phase else "",
        _word(end.listed, "yes", "" if end.phase is None else "with `all=True`"),
        _word(end.slot, "free", "its own"),
        _word(end.folder, "free", "its own"),
        _word(end.readable, "readable", "deleted"),
        "" if end.wakes is None else calls,
        _word(end.resumes, "brings it back", "`SessionNotFound`"),
        f"`{end.reopened}`" if end.reopened else "not there",
    )
    return f"| {' | '.join(cells)} |"


def _word(value: bool | None, yes: str, no: str) -> str:
    return "" if value is None else yes if value else no
