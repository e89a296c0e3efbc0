"""Reading trees from /proc, with real processes: both ways of looking agree, what is gone is gone, a pid is not a name."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.waiting import wait_until
from procession.agent_proc import proctree
from procession.agent_proc.kill_domain import KillDomain
from procession.agent_proc.proctree import Stat, TreeScan, descendants, read_stat, start_ticks, state, tree_usage
from procession.ipc.core.bounds import MiB

pytestmark = pytest.mark.process

NS_LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
TREE = """
import os, sys, time
for _ in range(2):
    if os.fork() == 0:
        if os.fork() == 0:
            hold = bytearray(16 << 20)
        sys.stdout.write("x"); sys.stdout.flush()
        time.sleep(60)  # payload: a tree to look at
sys.stdout.write("x"); sys.stdout.flush()
time.sleep(60)  # payload: a tree to look at
"""


@pytest.fixture
def tree() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    for _ in range(5):
        assert process.stdout.read(1) == b"x"
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture(params=["children files", "reading all"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "children files":
        proctree.has_children_files.cache_clear()
        if not proctree.has_children_files():
            pytest.skip("this kernel has no children files")
    monkeypatch.setattr(proctree, "has_children_files", lambda: request.param == "children files")
    return str(request.param)


def test_descendants_are_found_parents_first(tree: subprocess.Popen[bytes], way: str) -> None:
    found = TreeScan(tree.pid).look()
    assert len(found) == 4
    assert [stat.parent for stat in found[:2]] == [tree.pid] * 2
    assert {stat.parent for stat in found[2:]} == {stat.pid for stat in found[:2]}
    assert descendants(tree.pid) == [stat.pid for stat in found]


def test_nothing_at_or_below_a_spared_child_is_seen(tree: subprocess.Popen[bytes], way: str) -> None:
    first, second, *_ = TreeScan(tree.pid).look()
    left = TreeScan(tree.pid).look(spare={first.pid})
    assert {stat.pid for stat in left} == {second.pid, *descendants(second.pid)}
    assert len(left) == 2


def test_a_scan_sees_what_was_born_after_its_first_look(way: str, tree: subprocess.Popen[bytes]) -> None:
    scan = TreeScan(os.getpid())
    before = {stat.pid for stat in scan.look()}
    late = subprocess.Popen(["sleep", "60"])
    try:
        assert {stat.pid for stat in scan.look()} - before == {late.pid}
    finally:
        late.kill()
        late.wait()


def test_a_look_stops_at_its_bound(tree: subprocess.Popen[bytes], way: str) -> None:
    assert 1 <= len(TreeScan(tree.pid).look(most=1)) <= 2


def test_usage_is_memory_and_processes_of_those_that_live(tree: subprocess.Popen[bytes]) -> None:
    usage = tree_usage(descendants(tree.pid))
    assert usage.processes == 4
    assert 32 * MiB < usage.rss_bytes < 96 * MiB
    assert usage.cpu_s >= 0
    assert tree_usage([2**22 + 1]).processes == 0


def test_a_process_that_is_gone_is_not_there() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert state(child.pid) == "Z"
    stat = read_stat(child.pid)
    assert stat is not None
    assert not stat.is_alive
    child.wait()
    assert (read_stat(child.pid), start_ticks(child.pid), state(child.pid)) == (None, None, None)


def test_a_name_with_brackets_and_spaces_confuses_nobody(tmp_path: Path) -> None:
    program = tmp_path / ") R 1 (x y"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([program, "60"])
    try:
        wait_until(lambda: b") R 1 (x y" in Path(f"/proc/{child.pid}/comm").read_bytes(), "its name is set")
        stat = read_stat(child.pid)
        assert stat is not None
        assert stat.parent == os.getpid()
    finally:
        child.kill()
        child.wait()


def fork_one() -> int:
    """Fork a process that waits to be killed."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    return child


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def reuse_a_pid() -> tuple[Stat, int]:
    """Return a process as it was seen before it ended, and another one that has its pid now."""
    for _ in range(200):  # the machine forks too, and may take the pid first
        first = fork_one()
        seen = read_stat(first)
        end(first)
        assert seen is not None
        wait_for_a_tick_after(seen.start_ticks)
        NS_LAST_PID.write_text(str(first - 1))
        second = fork_one()
        if second == first:
            return seen, second
        end(second)
    raise AssertionError("no pid of 200 could be had again")


@pytest.mark.guarantee("R-67")
def test_a_reused_pid_gets_no_signal_meant_for_its_former_owner() -> None:
    if os.geteuid() != 0 or not os.access(NS_LAST_PID, os.W_OK):  # its mode lets anybody write, the kernel does not
        pytest.skip("only root can have a pid given out again")
    seen, second = reuse_a_pid()
    # As seen in a sweep: somebody's child, not our own.
    stale = Stat(seen.pid, 1, seen.state, seen.start_ticks, 0)
    domain = KillDomain()
    domain._signal_found((signal.SIGKILL,), [stale])
    assert os.waitpid(second, os.WNOHANG) == (0, 0)
    fresh = read_stat(second)
    assert fresh is not None
    domain._signal_found((signal.SIGKILL,), [Stat(fresh.pid, 1, fresh.state, fresh.start_ticks, 0)])
    assert os.waitpid(second, 0)[1] == signal.SIGKILL


def wait_for_a_tick_after(ticks: int) -> None:
    def has_ticked() -> bool:
        uptime_s = float(Path("/proc/uptime").read_text().split()[0])
        return int(uptime_s * proctree.clock_ticks_s()) > ticks

    wait_until(has_ticked, "the clock that tells two processes apart has ticked")
