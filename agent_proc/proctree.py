"""Read process trees from /proc: who descends from whom, what they use, whether they still are who they were.

It is *not* psutil: no caches beyond one scan, no names, no users. A keeper lives on this, so it is cheap.

Rules: a process is (pid, start ticks), never a bare pid; one that vanishes while it is read is simply not there.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Final

_READ_BYTES: Final = 8192
_PAGE_BYTES: Final = os.sysconf("SC_PAGESIZE")
#: Scans after which pids once seen as foreign are read again: a foreign pid may have been reused by one of ours.
_FOREIGN_SCANS: Final = 16
#: The most processes one look returns: the kernel's own limit on pids is 4 194 304, a tree that large is not walked.
PROCESSES_MAX: Final = 100_000
_DEAD_STATES: Final = frozenset("ZXx")


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat that matter. cpu_ticks: its own time and that of children it has waited for."""

    pid: int
    parent: int
    state: str
    start_ticks: int
    cpu_ticks: int

    @property
    def is_alive(self) -> bool:
        return self.state not in _DEAD_STATES


@dataclass(frozen=True, slots=True)
class TreeUsage:
    """What a set of processes uses. rss_bytes: anonymous and shared memory, pages of files not counted."""

    rss_bytes: int
    cpu_s: float
    processes: int


def _read(path: str) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, _READ_BYTES)
    except OSError:  # ESRCH: it died between open and read
        return None
    finally:
        os.close(fd)


def read_stat(pid: int) -> Stat | None:
    """Read one process; None when there is none (a zombie is one, with state Z)."""
    data = _read(f"/proc/{pid}/stat")
    if not data:
        return None
    fields = data[data.rindex(b")") + 2 :].split()
    cpu = int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])
    return Stat(pid, int(fields[1]), chr(fields[0][0]), int(fields[19]), cpu)


def start_ticks(pid: int) -> int | None:
    """Return when the process started, in clock ticks since boot; None when there is none."""
    data = _read(f"/proc/{pid}/stat")
    if not data:
        return None
    return int(data[data.rindex(b")") + 2 :].split(b" ", 20)[19])


def state(pid: int) -> str | None:
    """Return the state letter of the process (R, S, D, T, Z, ...); None when there is none."""
    stat = read_stat(pid)
    return None if stat is None else stat.state


@cache
def clock_ticks_s() -> int:
    """Return the kernel's clock ticks per second."""
    return os.sysconf("SC_CLK_TCK")


@cache
def has_children_files() -> bool:
    """Say whether this kernel lists a task's children (CONFIG_PROC_CHILDREN); without it every pid must be read."""
    pid = os.getpid()
    return os.path.exists(f"/proc/{pid}/task/{pid}/children")


class TreeScan:
    """Looks at the descendants of one process, again and again; remembers who does not belong to it.

    A process that is no descendant never becomes one (only its pid can be reused), so most of /proc is read rarely.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self._foreign: set[int] = set()
        self._scans = 0

    def look(self, spare: Collection[int] = (), most: int = PROCESSES_MAX) -> list[Stat]:
        """Return the descendants, zombies included, parents before children; `most` of them at most.

        Nothing at or below a pid of `spare` is looked at.
        """
        if has_children_files():
            return self._by_children_files(spare, most)
        return self._by_reading_all(spare)[:most]

    def _by_children_files(self, spare: Collection[int], most: int) -> list[Stat]:
        found: list[Stat] = []
        seen = {self.root, *spare}
        queue = [self.root]
        for pid in queue:  # grows while it is walked
            if len(found) >= most:
                break
            for child in _children(pid):
                if child in seen:
                    continue
                seen.add(child)
                stat = read_stat(child)
                if stat is not None:
                    found.append(stat)
                    queue.append(child)
        return found

    def _by_reading_all(self, spare: Collection[int]) -> list[Stat]:
        self._scans += 1
        if self._scans % _FOREIGN_SCANS == 0:
            self._foreign.clear()
        stats: dict[int, Stat] = {}
        pids = {int(name) for name in os.listdir("/proc") if name[0] <= "9" and name.isdigit()}
        self._foreign &= pids
        for pid in pids - self._foreign:
            stat = read_stat(pid)
            if stat is not None:
                stats[pid] = stat
        below: dict[int, list[Stat]] = {}
        for stat in stats.values():
            below.setdefault(stat.parent, []).append(stat)
        ours = list(below.get(self.root, ()))
        for stat in ours:  # grows while it is walked; a pid has one parent, so it ends
            ours.extend(below.get(stat.pid, ()))
        self._foreign |= stats.keys() - {stat.pid for stat in ours}
        if not spare:
            return ours
        found = [stat for stat in below.get(self.root, ()) if stat.pid not in spare]
        for stat in found:
            found.extend(child for child in below.get(stat.pid, ()) if child.pid not in spare)
        return found


def _children(pid: int) -> list[int]:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for task in tasks:
        path = f"/proc/{pid}/task/{task}/children"
        try:
            with open(path, "rb") as file:  # may be longer than one read
                found.extend(int(word) for word in file.read().split())
        except OSError:
            continue
    return found


def descendants(pid: int) -> list[int]:
    """Return the pids of all that descend from `pid` and are alive, parents before children."""
    return [stat.pid for stat in TreeScan(pid).look() if stat.is_alive]


def own_memory_bytes() -> tuple[int, int]:
    """Return what is resident of this process, and how much of that is anonymous: the values a child starts from."""
    data = _read("/proc/self/statm")
    if not data:
        return 0, 0
    _, resident, shared, *_ = data.split()
    return int(resident) * _PAGE_BYTES, (int(resident) - int(shared)) * _PAGE_BYTES


def own_data_bytes() -> int:
    """Return the address space that this process has mapped for data, as RLIMIT_DATA counts it."""
    data = _read("/proc/self/status")
    return 0 if data is None else _kilobytes(data, b"\nVmData:")


def memory_bytes(pid: int) -> int:
    """Return RssAnon + RssShmem of one process, 0 when there is none."""
    data = _read(f"/proc/{pid}/status")
    return 0 if data is None else _kilobytes(data, b"\nRssAnon:") + _kilobytes(data, b"\nRssShmem:")


def proportional_bytes(pid: int) -> int | None:
    """Return its share of anonymous and shared memory, each page divided by those who map it; None if unreadable.

    Walks its page tables (a millisecond per 100 MiB): for the moment of doubt, not for every tick.
    """
    data = _read(f"/proc/{pid}/smaps_rollup")
    if not data or b"\nPss_Anon:" not in data:
        return None
    return _kilobytes(data, b"\nPss_Anon:") + _kilobytes(data, b"\nPss_Shmem:")


def _kilobytes(data: bytes, key: bytes) -> int:
    at = data.find(key)
    return 0 if at < 0 else int(data[at + len(key) : data.index(b"\n", at + 1)].split()[0]) * 1024


def usage_of(stats: list[Stat]) -> TreeUsage:
    """Sum what these processes use; zombies count for their time only."""
    alive = [stat for stat in stats if stat.is_alive]
    ticks = sum(stat.cpu_ticks for stat in stats)
    return TreeUsage(sum(memory_bytes(stat.pid) for stat in alive), ticks / clock_ticks_s(), len(alive))


def tree_usage(pids: list[int]) -> TreeUsage:
    """Sum what these pids use; those that are gone count for nothing."""
    return usage_of([stat for stat in map(read_stat, pids) if stat is not None])
