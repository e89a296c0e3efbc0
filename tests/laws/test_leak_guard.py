"""The guard itself is tested: each kind of leak is seen, is named, and is gone afterwards."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import pytest

from helpers.leakguard import LeakGuard
from helpers.proc import look_at
from helpers.runs import REPOSITORY
from helpers.waiting import poll_until, wait_until

COST_MS_MAX = 5.0  # a guard that doubles the time of a unit test would be switched off


def test_nothing_is_reported_when_nothing_was_left(leak_guard: LeakGuard) -> None:
    before = leak_guard.look()
    assert not leak_guard.settle(before)


def test_a_descriptor_is_seen(leak_guard: LeakGuard) -> None:
    before = leak_guard.look()
    read_end, write_end = os.pipe()
    leaks = leak_guard.leaks_since(before)
    os.close(read_end)
    os.close(write_end)
    assert {text.split()[0] for text in leaks.descriptors} == {str(read_end), str(write_end)}
    assert not leak_guard.leaks_since(before)


def test_a_thread_is_seen(leak_guard: LeakGuard) -> None:
    before = leak_guard.look()
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="left-over")
    thread.start()
    leaks = leak_guard.leaks_since(before)
    release.set()
    thread.join()
    assert len(leaks.threads) == 1
    assert "left-over" in leaks.threads[0]


def test_a_file_in_the_temporary_folder_is_seen(leak_guard: LeakGuard) -> None:
    before = leak_guard.look()
    handle, name = tempfile.mkstemp(prefix="procession-")
    os.close(handle)
    leaks = leak_guard.leaks_since(before)
    Path(name).unlink()
    assert leaks.temp_entries == [Path(name).name]


@pytest.mark.process
def test_a_child_is_seen_and_killed(leak_guard: LeakGuard) -> None:
    before = leak_guard.look()
    with subprocess.Popen(["sleep", "60"]) as child:
        leaks = leak_guard.leaks_since(before)
        leak_guard.end_survivors(leaks)
        child.returncode = 0  # the guard has reaped it
    assert [seen.pid for seen in leaks.processes] == [child.pid]
    assert look_at(child.pid) is None


@pytest.mark.process
def test_a_daemon_that_left_the_tree_is_seen_by_its_mark(leak_guard: LeakGuard) -> None:
    before = leak_guard.look()
    daemon = "import os, sys; os.fork() and os._exit(0); os.setsid(); os.execvp('sleep', ['sleep', '60'])"
    subprocess.run([sys.executable, "-c", daemon], check=True, timeout=10)
    wait_until(lambda: any("sleep" in str(seen) for seen in leak_guard.leaks_since(before).processes), "daemon seen")
    leaks = leak_guard.leaks_since(before)
    leak_guard.end_survivors(leaks)
    assert not leak_guard.settle(before)


def test_the_guard_is_cheap(leak_guard: LeakGuard) -> None:
    spent_ms = []
    for _ in range(20):
        began = time.perf_counter()
        before = leak_guard.look()
        leaks = leak_guard.leaks_since(before)
        spent_ms.append((time.perf_counter() - began) * 1000)
        assert not leaks
    assert median(spent_ms) < COST_MS_MAX


def test_a_wait_that_fails_names_what_it_waited_for() -> None:
    assert not poll_until(lambda: False, timeout_s=0.01)
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: the moon"):
        wait_until(lambda: False, "the moon", timeout_s=0.01)


LEAKING_TEST = """
import os, subprocess, tempfile

def test_leaks():
    os.dup(1)
    open(tempfile.mktemp(prefix="procession-"), "w").close()
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    print("left", child.pid)
    child.returncode = 0
    assert os.getuid() >= 0
"""


@pytest.mark.process
def test_a_test_that_leaks_is_an_error_that_names_each_leak_and_its_process_is_ended(tmp_path: Path) -> None:
    (tmp_path / "test_leaks.py").write_text(LEAKING_TEST)
    command = [sys.executable, "-m", "pytest", "-c", str(REPOSITORY / "pyproject.toml"), "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*command, "-p", "conftest", "-p", "no:cacheprovider", "-s", "test_leaks.py"],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "tests")},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "1 passed, 1 error" in done.stdout, done.stdout + done.stderr
    told = done.stdout.partition("left behind by this test:")[2]
    left_pid = int(done.stdout.partition("left ")[2].split()[0])
    for wanted in ("descriptor ", f"process pid {left_pid} ", "temporary file procession-"):
        assert wanted in told
    assert look_at(left_pid) is None
