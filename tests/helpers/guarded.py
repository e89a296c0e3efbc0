"""For scripts that run in an interpreter of their own: guard a function with a real keeper and see what it recorded.

A script and not the test itself, because the one that forks keepers must be single-threaded and is their parent.
"""

import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from procession.agent_proc.keeper import Guarded, fork_guarded
from procession.ipc.core.frames import FrameDecoder
from procession.ipc.core.limits import Limits
from procession.ipc.core.messages import Born, Ended, decoder

CASE_VARIABLE = "PROCESSION_TEST_CASE"
RECORD_TIMEOUT_S = 20.0

_read = decoder("from_keeper")


@dataclass
class Outcome:
    """What a keeper told, and what was seen from outside."""

    born: Born
    ended: Ended | None
    keeper_status: int
    took_s: float
    survivors: int
    notes: dict[str, Any] = field(default_factory=dict)


class Run:
    """One guarded function, from its fork to its keeper's end."""

    def __init__(self, main: Callable[[], None], **options: Any) -> None:
        self.host_pidfd = os.pidfd_open(os.getppid())
        self.said_r, said_w = os.pipe()
        keep = {said_w, *options.pop("keep_fds", ())}

        def tell_and_run() -> None:
            global _said
            _said = said_w
            main()

        settings: dict[str, Any] = {
            "keep_fds": keep,
            "host_pidfd": self.host_pidfd,
            "parent_pidfd": None,
            "limits": None,
            "term_grace_s": 0.25,
            "label": "test",
        }
        self.guarded: Guarded = fork_guarded(tell_and_run, **(settings | options))
        os.close(said_w)
        self._records = read_records(self.guarded.status_r)
        born = next(self._records)
        assert isinstance(born, Born)
        self.born = born
        self.started = time.monotonic()

    def wait_said(self) -> bytes:
        """Wait until the guarded function says something with `say`."""
        wait_readable(self.said_r)
        return os.read(self.said_r, 4096)

    def command(self, letters: bytes) -> None:
        self.started = time.monotonic()
        os.write(self.guarded.ctl_w, letters)

    def outcome(self, **notes: Any) -> Outcome:
        """Wait for the record and for the keeper's own end."""
        ended = next(self._records, None)
        took = time.monotonic() - self.started
        assert ended is None or isinstance(ended, Ended)
        alive = sum(pid != self.guarded.keeper_pid for pid in survivors())
        wait_readable(self.guarded.keeper_pidfd)
        _, status = os.waitpid(self.guarded.keeper_pid, 0)
        return Outcome(self.born, ended, status, took, alive, notes)


def guard(main: Callable[[], None], commands: bytes = b"", **options: Any) -> Outcome:
    """Guard a function; with commands: send them once it has said something."""
    run = Run(main, **options)
    if commands:
        run.wait_said()
        run.command(commands)
    return run.outcome()


_said = -1


def say(text: str = "ready") -> None:
    """Tell the script, from inside a guarded function, that it may go on."""
    os.write(_said, text.encode())


def report(*outcomes: Outcome | dict[str, Any] | list[Any]) -> None:
    """Print what the test is to judge."""
    for outcome in outcomes:
        print(json.dumps(_plain(outcome)), flush=True)


def _plain(outcome: Outcome | dict[str, Any] | list[Any]) -> Any:
    if not isinstance(outcome, Outcome):
        return outcome
    plain = asdict(outcome)
    for name, record in (("born", outcome.born), ("ended", outcome.ended)):
        if record is not None:
            plain[name] = {key: getattr(record, key) for key in record.__struct_fields__}
    return plain


def read_records(fd: int) -> Iterator[Born | Ended]:
    """Yield the records of a status pipe until its end."""
    frames = FrameDecoder()
    while True:
        wait_readable(fd)
        data = os.read(fd, 65536)
        if not data:
            return
        for _, payload in frames.feed(data):
            yield _read(payload)


def wait_readable(fd: int, timeout_s: float = RECORD_TIMEOUT_S) -> None:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    if not poller.poll(timeout_s * 1000):
        raise TimeoutError(f"descriptor {fd}: nothing in {timeout_s} s")


def survivors() -> list[int]:
    """List the living processes of this test case but this one."""
    mark = f"{CASE_VARIABLE}={os.environ[CASE_VARIABLE]}\0".encode()
    return [pid for pid in pids_with(mark) if pid != os.getpid()]


def pids_with(mark: bytes) -> list[int]:
    """List the processes that were started with `mark` in their environment (zombies have none)."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if mark in file.read():
                    found.append(int(name))
        except OSError:
            continue
    return found


def state_of(pid: int) -> str | None:
    """Return the state letter of a process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return None


# --- things that guarded functions do ----------------------------------------------------------------------------
def leave_daemon() -> None:
    """Leave a process behind as thoroughly as one can: double fork, own session, no descriptors, no SIGTERM."""
    ready_r, ready_w = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            os.write(ready_w, b"x")
            os.closerange(0, 1024)
            while True:
                time.sleep(60)  # payload: a daemon
        os._exit(0)
    os.wait()
    os.read(ready_r, 1)


def hop(hops: int = 4000, period_s: float = 0.001) -> None:
    """Fork, exit, again in the child: always another pid, always another session. Bounded by its number of hops."""
    if os.fork() == 0:
        for _ in range(hops):
            os.setsid()
            time.sleep(period_s)  # payload: the hopper's period
            if os.fork() != 0:
                os._exit(0)
        os._exit(0)


def ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say()
    while True:
        time.sleep(1)  # payload: an endless loop


def wait_for_ever() -> None:
    say()
    while True:
        time.sleep(60)  # payload: an endless loop


def limits(**given: Any) -> Limits:
    return Limits(**given)
