"""The case of the demo that kills everything: a durable host, its zygote and its session, at random, while messages are appended.

It is *not* like the other cases, which share a host: this one's host is `procession up` in a process of its own, on a folder of
its own. Whoever appends gives each message an id of its call and, told that something is gone, asks again with the same one.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from procession.api.host import Host
from procession.api.sandbox import Sandbox
from procession.api.session import Session
from procession.ipc.core.errors import HostLost, ProcessionError, StorageError

MESSAGES: Final = 200
#: How often each is killed, spread over the messages.
KILLS: Final[dict[str, int]] = {"session": 6, "zygote": 3, "host": 3}
_READY_S: Final = 20.0
#: A kill comes this much after the message that it waits for, at most: in the middle of the next ones.
_SPREAD_S: Final = 0.003

Victim = Literal["session", "zygote", "host"]


@dataclass
class Tally:
    """What came of it. asked: attempts in all. killed: by kind. lost, doubled: of the acknowledged messages."""

    acknowledged: list[str] = field(default_factory=list)
    asked: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    is_ordered: bool = True


class HostProcess:
    """`procession up` on a folder; it may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def up(self) -> Host:
        """Start it, once its folder is free, and return a client. Raises StorageError when it does not come up."""
        self.kill()
        command = [sys.executable, "-P", "-m", "procession", "up", "--data-dir", str(self._folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        stderr = self._process.stderr
        assert stderr is not None
        line = stderr.readline() if select.select([stderr], [], [], _READY_S)[0] else b""
        if b"ready" not in line:
            raise StorageError(f"the host did not come up: {line.decode(errors='replace').strip()}")
        return Host.connect(self._folder, sandbox=Sandbox.off())

    def kill(self) -> None:
        """Kill it, if it runs, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


class Survival:
    """One play of it. seed: of what is killed when."""

    def __init__(self, folder: Path, *, messages: int = MESSAGES, kills: dict[str, int] = KILLS, seed: int = 0) -> None:
        self.tally = Tally()
        self._messages = messages
        self._random = random.Random(seed)
        victims = [victim for victim, count in kills.items() for _ in range(count)]
        self._random.shuffle(victims)
        at = sorted(self._random.randrange(1, messages) for _ in victims)
        self._plan = list(zip(at, victims, strict=True))
        self._process = HostProcess(folder)
        self._progress = threading.Condition()
        self._over = False
        self._host: Host | None = None
        self._session = ""

    def play(self) -> Tally:
        """Append, kill, and count. Raises ProcessionError for what is none of the deaths."""
        killer = threading.Thread(target=self._kill_all, name="demo-killer", daemon=True)
        try:
            self._host = self._process.up()
            self._session = self._host.start_session(name="survivor").id
            killer.start()
            for number in range(self._messages):
                self._append(f"message {number}")
            self._count()
        finally:
            with self._progress:
                self._over = True
                self._progress.notify_all()
            if killer.ident is not None:
                killer.join()
            if self._host is not None:
                self._host.close()
            self._process.kill()
        return self.tally

    def _append(self, text: str) -> None:
        """Append one message, asking again under the same id until it is acknowledged."""
        while True:
            self.tally.asked += 1
            try:
                self._handle().using(call_id=text).append_message("user", text, timeout=_READY_S)
            except HostLost:
                assert self._host is not None
                self._host.close()
                self._host = self._process.up()
            except ProcessionError as error:
                if error.code not in ("session_died", "not_running", "restarting"):
                    raise
            else:
                break
        with self._progress:
            self.tally.acknowledged.append(text)
            self._progress.notify_all()

    def _handle(self) -> Session:
        assert self._host is not None
        return self._host.session(self._session)

    # --- the killer's thread --------------------------------------------------------------------------------
    def _kill_all(self) -> None:
        for at, victim in self._plan:
            with self._progress:
                self._progress.wait_for(lambda at=at: self._over or len(self.tally.acknowledged) >= at)  # type: ignore[misc]
                if self._over:
                    return
            time.sleep(self._random.random() * _SPREAD_S)
            if self._kill_one(victim):
                self.tally.killed[victim] += 1

    def _kill_one(self, victim: str) -> bool:
        """Kill one of them; False when it is not there just now."""
        host = self._host
        try:
            if host is None or host.closed:
                return False
            if victim == "host":
                return _kill(host.pid)
            status = host.session(self._session).status()
            if victim == "session":
                return _kill(status.pid)
            return _kill(_parent_of(status.keeper_pid))
        except ProcessionError:
            return False

    # --- afterwards -----------------------------------------------------------------------------------------
    def _count(self) -> None:
        """Compare what was acknowledged with what is there, by a host that was killed once more."""
        self._process.kill()
        assert self._host is not None
        self._host.close()
        self._host = self._process.up()
        self.tally.killed["host"] += 1
        found = [str(message.content) for message in self._handle().get_messages(timeout=_READY_S)]
        there = Counter(found)
        self.tally.lost = [text for text in self.tally.acknowledged if not there[text]]
        self.tally.doubled = [text for text, count in there.items() if count > 1]
        self.tally.is_ordered = list(dict.fromkeys(found)) == self.tally.acknowledged


def _kill(pid: int | None) -> bool:
    """Kill a process, if it is there."""
    if pid is None:
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def _parent_of(pid: int | None) -> int | None:
    """Return a process's parent: a keeper's is its zygote."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            parent = int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return parent if parent > 1 else None
