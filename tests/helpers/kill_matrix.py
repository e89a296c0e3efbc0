"""Kill a host at a named point while clients are at work, start the next one on its folder, and compare.

    Case ──▶ host in a process of its own, armed ──▶ clients append ──▶ it dies ──▶ the next host ──▶ Aftermath

What clients were told is what has to be there: an append that was answered, exactly once; one that ended unknown, at most once,
and exactly once after it was asked again by its call id; nothing else. It is *not* a test: tests choose the cases and what more
leads to a point than appending (`Trigger`).
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from helpers.host_program import HostProgram
from helpers.proc import MARK_VARIABLE, ProcessSeen, carries_mark, descends_from, list_pids, look_at
from helpers.waiting import wait_until
from procession import Host, HostLost, OutcomeUnknown, ProcessionError, Session
from procession.ipc import kill_points

NAME = "work"
FILLED = 8
"""Messages that are there, and acknowledged, before anything is armed."""
APPENDS_MAX = 400
"""Of one client: more than two snapshots' worth, so that every point of writing is reached."""
WAIT_S = 20.0

Trigger = Callable[[Host, Session], object]


@dataclass(frozen=True)
class Case:
    """point: and, behind a colon, at which time it kills. clients: how many append at once, 0 for none."""

    point: str
    clients: int
    durability: str = "batch"


@dataclass
class Told:
    """What the clients were told, by text of the message."""

    acknowledged: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Aftermath:
    """What was told, and what the next host has. again: the answers to those that were unknown, asked by the next host."""

    told: Told
    found: list[str]
    after_asking: list[str]
    again: dict[str, str]
    left_behind: list[ProcessSeen]
    sessions: list[str]
    folders: list[str]
    control: list[str]

    def check(self, *, may_lose: bool = False) -> None:
        """Compare: AssertionError with all that is known. may_lose: what was acknowledged was only in memory."""
        told, found, later = self.told, Counter(self.found), Counter(self.after_asking)
        assert not [text for text, times in later.items() if times > 1], f"doubled: {self}"
        assert set(found) <= {*told.acknowledged, *told.unknown}, f"refused, and there: {self}"
        assert set(told.unknown) <= set(later), f"asked again, and not there: {self}"
        if not may_lose:
            assert set(told.acknowledged) <= set(found), f"lost: {set(told.acknowledged) - set(found)}"
        assert set(self.again) == set(told.unknown)
        assert self.left_behind == []
        assert set(self.folders) <= set(self.sessions), f"folders of nobody: {self}"
        assert sorted(self.control) == ["host.sock", "token"], self.control


def run_case(program: HostProgram, case: Case, trigger: Trigger | None = None) -> Aftermath:
    """Do it all. trigger: what else leads to the point; it may end with any error, for its host dies."""
    order = program.folder.parent / "order"
    with program.up("--durability", case.durability, **{kill_points.VARIABLE: str(order)}) as host:
        session = host.start_session(name=NAME)
        told = Told()
        for number in range(FILLED):
            _append(session, f"filled {number}", told)
        assert len(told.acknowledged) == FILLED
        _arm(order, case.point)
        clients = [threading.Thread(target=_client, args=(session, n, told, order)) for n in range(case.clients)]
        for client in clients:
            client.start()
        if trigger is not None:
            try:
                trigger(host, session)
            except ProcessionError:
                pass  # it was not told how it ended; what there is, is compared
        for client in clients:
            client.join(WAIT_S)
        wait_until(lambda: not order.exists(), f"the death at {case.point}", timeout_s=WAIT_S)
        assert program.wait() == -signal.SIGKILL
    with program.up("--durability", case.durability) as host:
        return _aftermath(program, host, told)


def _arm(order: Path, point: str) -> None:
    draft = order.with_suffix(".draft")
    draft.write_text(point)
    draft.rename(order)


def _client(session: Session, number: int, told: Told, order: Path) -> None:
    for count in range(APPENDS_MAX):
        if not _append(session, f"client {number} message {count}", told) and not order.exists():
            return


def _append(session: Session, text: str, told: Told) -> bool:
    try:
        session.using(call_id=text).append_message("user", text)
    except OutcomeUnknown as error:
        (told.refused if isinstance(error, HostLost) and error.ran == "no" else told.unknown).append(text)
        return False
    except ProcessionError:
        told.refused.append(text)
        return False
    told.acknowledged.append(text)
    return True


def _messages(session: Session) -> list[str]:
    return [str(message.content) for message in session.get_messages()]


def _aftermath(program: HostProgram, host: Host, told: Told) -> Aftermath:
    left = _strangers(program.pid)
    session = host.session(NAME)
    found = _messages(session)
    again = {text: str(session.using(call_id=text).append_message("user", text).content) for text in told.unknown}
    return Aftermath(
        told=told,
        found=found,
        after_asking=_messages(session),
        again=again,
        left_behind=left,
        sessions=[one.id for one in host.list_sessions(all=True)],
        folders=os.listdir(program.folder / "sessions"),
        control=os.listdir(program.folder / "control"),
    )


def _strangers(host_pid: int) -> list[ProcessSeen]:
    """Return the processes of this test run that neither we nor the new host have: those of the host that was killed."""
    mark = os.environ[MARK_VARIABLE]
    marked = (look_at(pid) for pid in list_pids() if carries_mark(pid, mark))
    ours = {host_pid, os.getpid()}
    return [
        seen for seen in marked if seen and seen.pid not in ours and not any(descends_from(seen, pid) for pid in ours)
    ]
