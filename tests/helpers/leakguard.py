"""The leak guard: what a test may not leave behind, looked at before and after each one.

It is not a sandbox and reports only what the test itself began: descriptors and threads of this process, processes that
carry this run's mark or descend from this process, files in this run's own temporary folder, shared memory of ours.

Rules: the baseline is taken after the fixtures of wider scope, so what those hold is theirs; a process that a wider
fixture's process starts (a restart below a shared zygote) is theirs too. What ends by itself gets `SETTLE_S` to do so.
Survivors fail the test and are killed by pidfd, so that one leak is one failure.
"""

import gc
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from helpers.proc import ProcessSeen, carries_mark, descends_from, is_blank_keeper, kill_for_good, list_pids, look_at
from helpers.waiting import poll_until

SETTLE_S = 2.0  # the kernel frees a killed tree within milliseconds; two seconds is a busy two-core machine
SHARED_MEMORY = Path("/dev/shm")
OWN_SHARED_MEMORY_PREFIX = "procession"
KEPT_IN_TEMP = ("pytest-of-", "pymp-")  # pytest's tmp_path root; multiprocessing's folder, removed at exit


@dataclass(frozen=True)
class Holdings:
    """What this run holds at one moment."""

    descriptors: dict[int, str]
    threads: frozenset[threading.Thread]
    pids: frozenset[int]
    temp_entries: frozenset[str]
    shared_memory: frozenset[str]


@dataclass
class Leaks:
    """What was not there before."""

    descriptors: list[str] = field(default_factory=list)
    threads: list[str] = field(default_factory=list)
    processes: list[ProcessSeen] = field(default_factory=list)
    temp_entries: list[str] = field(default_factory=list)
    shared_memory: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Say whether there is any."""
        return any((self.descriptors, self.threads, self.processes, self.temp_entries, self.shared_memory))

    def __str__(self) -> str:
        """List them, one a line."""
        lines = [f"descriptor {text}" for text in self.descriptors]
        lines += [f"thread {text}" for text in self.threads]
        lines += [f"process {seen}" for seen in self.processes]
        lines += [f"temporary file {text}" for text in self.temp_entries]
        lines += [f"shared memory {text}" for text in self.shared_memory]
        return "\n".join(lines)


class LeakGuard:
    """Compares what one pytest process holds before and after a test."""

    def __init__(self, mark: str, temp_folder: Path) -> None:
        self.mark = mark
        self.temp_folder = temp_folder

    def look(self) -> Holdings:
        """Take the present holdings; about half a millisecond."""
        return Holdings(
            descriptors=_open_descriptors(),
            threads=frozenset(threading.enumerate()),
            pids=frozenset(list_pids()),
            temp_entries=_temp_entries(self.temp_folder),
            shared_memory=_own_shared_memory(),
        )

    def leaks_since(self, before: Holdings) -> Leaks:
        """Tell what is new since then and should not be."""
        now = self.look()
        return Leaks(
            descriptors=[
                f"{number} -> {target}"
                for number, target in now.descriptors.items()
                if before.descriptors.get(number) != target
            ],
            threads=[repr(thread) for thread in now.threads - before.threads if thread.is_alive()],
            processes=self._leaked_processes(now.pids - before.pids, before.pids),
            temp_entries=sorted(now.temp_entries - before.temp_entries),
            shared_memory=sorted(now.shared_memory - before.shared_memory),
        )

    def settle(self, before: Holdings) -> Leaks:
        """Wait until nothing is new, for `SETTLE_S` at most; return what then still is.

        A poll, because the processes that a test must not have left are by definition ones it holds no handle of.
        """
        leaks = self.leaks_since(before)
        if not leaks:
            return leaks
        gc.collect()  # a descriptor in a reference cycle is not a leak of the program's, only late
        poll_until(lambda: not self.leaks_since(before), timeout_s=SETTLE_S)
        return self.leaks_since(before)

    def end_survivors(self, leaks: Leaks) -> None:
        """Kill the processes left, reap those that are ours, and drop the descriptors no object owns."""
        for process in leaks.processes:
            kill_for_good(process)
        for process in leaks.processes:
            if process.parent == os.getpid():
                try:
                    os.waitpid(process.pid, 0)
                except ChildProcessError:
                    pass

    def marked_processes(self) -> list[ProcessSeen]:
        """List everything in the system that this run started and that still is there."""
        return self._leaked_processes(frozenset(list_pids()), frozenset())

    def _leaked_processes(self, candidates: frozenset[int], known_before: frozenset[int]) -> list[ProcessSeen]:
        own_pid = os.getpid()
        leaked = []
        for pid in sorted(candidates):
            seen = None if pid == own_pid else look_at(pid)
            if seen is None or not (carries_mark(pid, self.mark) or descends_from(seen, own_pid)):
                continue
            ahead = is_blank_keeper(pid)  # a daemon's zygote forks one whenever it has used the last
            if seen.parent != own_pid and seen.parent in known_before and (ahead or descends_from(seen, own_pid)):
                continue  # below a process of a wider fixture, and that one's to end
            leaked.append(seen)
        return leaked


def shut_default_host() -> None:
    """End the process-wide host of ``@isolated``, if the test made one."""
    module = sys.modules.get("procession.api.isolated")
    if module is not None:
        cast("Callable[[], None]", module.shutdown_default_host)()


def _open_descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the descriptor of this very listing
            continue
    return found


def _temp_entries(folder: Path) -> frozenset[str]:
    return frozenset(name for name in os.listdir(folder) if not name.startswith(KEPT_IN_TEMP))


def _own_shared_memory() -> frozenset[str]:
    try:
        return frozenset(name for name in os.listdir(SHARED_MEMORY) if name.startswith(OWN_SHARED_MEMORY_PREFIX))
    except FileNotFoundError:
        return frozenset()
