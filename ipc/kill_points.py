"""Named points at which a process kills itself, for tests of what a death there leaves: nothing happens unless one is armed.

    PROCESSION_KILL_POINT=after_append        SIGKILL the first time that point is reached
    PROCESSION_KILL_POINT=after_append:8      ... the eighth time
    PROCESSION_KILL_POINT=/tmp/t/order        ... as this file says while it is there; whoever dies of it takes it away first

Armed once, from the environment, when this module is imported; code calls `kill_points.reach("name")`, which is a function
that does nothing otherwise. A file arms processes that live already, and exactly one of them dies, once: a session that is
started again after its death lives. Rule: every name stands in KILL_POINTS, and a test holds the calls in the code to it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final

VARIABLE: Final = "PROCESSION_KILL_POINT"
KILL_POINTS: Final[dict[str, str]] = {
    "before_append": "host: a group of changes is about to be written",
    "mid_append": "host: inside the transaction, between its first item and its last",
    "after_append": "host: the group is written, nobody has been told",
    "after_sync": "host: the group is on disk, nobody has been told",
    "before_reply": "host: a change is kept, its answer is about to be let out",
    "mid_snapshot": "host: inside the transaction that writes a snapshot",
    "after_snapshot": "host: a snapshot is written, what it replaces is gone",
    "mid_spawn": "host: a session is on record, its process has not been asked for",
    "mid_stop": "host: a session's end is decided, nothing of it is on record",
    "mid_rename": "host: a file is written whole under its draft's name",
    "after_rename": "host: a file has its name, its folder is not on disk",
    "before_fork": "zygote: a fork was asked for",
    "after_fork": "zygote: the keeper is forked, nobody has been told",
    "after_bootstrap": "session: Boot is read, the agent is not loaded",
    "before_ready": "session: the agent has begun, Ready is not sent",
    "after_receive": "session: a call is read, nothing of it is done (an echo, which does nothing, does not get here)",
    "mid_step": "session: the action has run, nothing of it is adopted",
    "before_report": "session: the change is adopted, its answer is not written; Ready, the first thing it writes, counts too",
    "after_report": "session: the answer is written, or Ready",
}

Reach = Callable[[str], None]


def _nothing(_: str) -> None:
    """Reach a point that nobody has armed."""


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _order(text: str) -> tuple[str, int]:
    name, _, nth = text.strip().partition(":")
    assert name in KILL_POINTS, f"{VARIABLE}: there is no point {name!r}"
    return name, int(nth or 1)


def _armed(setting: str) -> Reach:
    name, left = _order(setting)

    def reach(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left == 0:
                _die()

    return reach


def _armed_by_file(path: str) -> Reach:
    count = 0

    def reach(point: str) -> None:
        nonlocal count
        try:
            with open(path, encoding="ascii") as file:
                name, nth = _order(file.read())
        except FileNotFoundError:
            count = 0
            return
        if point != name:
            return
        count += 1
        if count == nth:
            try:
                os.unlink(path)
            except FileNotFoundError:
                return  # another process got there first
            _die()

    return reach


def _arm(setting: str) -> Reach:
    if not setting:
        return _nothing
    return _armed_by_file(setting) if setting.startswith("/") else _armed(setting)


reach: Reach = _arm(os.environ.get(VARIABLE, ""))
