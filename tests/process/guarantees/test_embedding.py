"""The host inside a program: the program's children and signals are its own, and nothing piles up over many lives."""

import gc
import json
import os
import resource
import threading

import pytest

from helpers.hosts import count_of, pid_of, wait_zombie_free
from helpers.runs import run_python
from helpers.waiting import poll_until
from procession import Host, Sandbox

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(1200)]

MiB = 1 << 20
RSS_GROWN_MAX = 5 * MiB


@pytest.mark.guarantee("R-70")
def test_no_zombie_is_left_after_many_lives(host: Host, soak_factor: int) -> None:
    lives = count_of(1000, soak_factor)
    session = host.start_session()
    for number in range(lives):
        session.run(os.fork)  # the child returns too, and ends
        if number % 10 == 0:
            session.exec("sleep 0 & setsid sleep 0 &")
            session.restart()
    host.remove_session(session.id)
    wait_zombie_free(os.getpid())


LIVES = """
import json, os, signal, subprocess, sys, threading, time
from procession import Host, Sandbox, ToolCrashed

def zombies():
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{name}/stat").read().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] == "Z" and int(fields[1]) in (os.getpid(), *zygotes):
            found.append(int(name))
    return found

def work(number):
    if number % 3 == 2:
        os._exit(3)
    return number

def live(host, lives):
    done = 0
    for number in range(lives):
        with host.temporary_session() as session:
            try:
                done += session.run(work, number) == number
            except ToolCrashed as crash:
                done += crash.report.exit_code == 3
            if number % 4 == 3:
                os.kill(session.status().pid, signal.SIGKILL)
                done += session.run(work, 0) == 0
                done -= 1
    return done

told = {}
zygotes = ()
lives = int(sys.argv[1])
"""

IGNORES = (
    LIVES
    + """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
with Host(sandbox=Sandbox.off()) as host:
    zygotes = tuple(host._link.backend.zygotes.pids)
    told["done"] = live(host, lives)
    (zygote,) = host._link.backend.zygotes.pids
    os.kill(zygote, signal.SIGKILL)
    told["done"] += live(host, 5)
    told["zombies"] = zombies()
told["handler"] = signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
print(json.dumps(told))
"""
)

REAPS = (
    LIVES
    + """
import queue
wanted, reaped, over = {}, {}, threading.Event()

def reap_everything():
    while not over.is_set():
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pid = 0
        if pid:
            reaped[pid] = os.waitstatus_to_exitcode(status)
        else:
            time.sleep(0.0005)

reaper = threading.Thread(target=reap_everything)
reaper.start()
with Host(sandbox=Sandbox.off()) as host:
    zygotes = tuple(host._link.backend.zygotes.pids)
    told["done"] = 0
    for number in range(lives // 5):
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {number % 7}"], os.environ)
        wanted[pid] = number % 7
        told["done"] += live(host, 5)
    (zygote,) = host._link.backend.zygotes.pids
    os.kill(zygote, signal.SIGKILL)
    told["done"] += live(host, 5)
    told["zombies"] = zombies()
until = time.monotonic() + 10
while not all(pid in reaped for pid in wanted) and time.monotonic() < until:
    time.sleep(0.01)
over.set()
reaper.join()
told["own"] = all(reaped.get(pid) == code for pid, code in wanted.items()) and len(wanted)
print(json.dumps(told))
"""
)

OWN_CHILDREN = (
    LIVES
    + """
seen = []
signal.signal(signal.SIGCHLD, lambda number, frame: seen.append(number))
own = [subprocess.Popen(["sh", "-c", f"exit {code}"]) for code in range(5)]
with Host(sandbox=Sandbox.off()) as host:
    zygotes = tuple(host._link.backend.zygotes.pids)
    told["done"] = live(host, lives)
    told["zombies"] = [pid for pid in zombies() if pid not in {child.pid for child in own}]
    own += [subprocess.Popen(["sh", "-c", f"exit {code}"]) for code in range(5, 10)]
told["codes"] = [child.wait() for child in own]
told["handler"] = signal.getsignal(signal.SIGCHLD) not in (signal.SIG_DFL, signal.SIG_IGN)
print(json.dumps(told))
"""
)


def run_script(script: str, lives: int) -> dict[str, object]:
    done = run_python(script, args=(str(lives),), timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told: dict[str, object] = json.loads(done.stdout)
    return told


@pytest.mark.guarantee("R-70")
def test_a_program_that_ignores_sigchld_changes_nothing(soak_factor: int) -> None:
    lives = count_of(1000, soak_factor)
    told = run_script(IGNORES, lives)
    assert told == {"done": lives + 5, "zombies": [], "handler": True}


@pytest.mark.guarantee("R-70")
def test_a_program_that_reaps_everything_changes_nothing(soak_factor: int) -> None:
    lives = count_of(1000, soak_factor)
    told = run_script(REAPS, lives)
    assert told == {"done": lives + 5, "zombies": [], "own": lives // 5}


@pytest.mark.guarantee("R-70")
def test_the_programs_own_children_and_handler_are_its_own(soak_factor: int) -> None:
    lives = count_of(1000, soak_factor)
    told = run_script(OWN_CHILDREN, lives)
    assert told == {"done": lives, "zombies": [], "codes": list(range(10)), "handler": True}


def holdings() -> dict[str, int]:
    """Return what piles up when something leaks."""
    gc.collect()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "kernel threads": len(os.listdir("/proc/self/task")),
    }


def baseline() -> dict[str, int]:
    """Return the holdings once what the last cycle held is closed: the least that is seen in a moment."""
    seen = [holdings()]
    poll_until(lambda: bool(seen.append(holdings())), timeout_s=0.2)  # type: ignore[func-returns-value]
    return min(seen, key=lambda each: sum(each.values()))


def assert_nothing_more(than: dict[str, int]) -> None:
    """Assert that all of it is back; the last session's own descriptors are closed just behind its answer."""
    poll_until(lambda: holdings() == than, timeout_s=2)
    assert holdings() == than


def rss_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.guarantee("R-76")
@pytest.mark.parametrize("end", ["stop and remove", "kill and remove", "remove", "crash and remove"])
def test_sessions_created_and_stopped_leave_nothing(host: Host, soak_factor: int, end: str) -> None:
    folder = host.data_dir / "sessions"

    def cycle() -> None:
        session = host.start_session()
        assert session.run(len, "abc") == 3
        session.echo(b"x" * 100_000)
        if end.startswith("stop"):
            session.stop()
        elif end.startswith("kill"):
            session.kill()
        elif end.startswith("crash"):
            os.kill(pid_of(session), 9)
        host.remove_session(session.id)

    for _ in range(10):
        cycle()
    before, rss, files = baseline(), rss_bytes(), sorted(folder.iterdir()) if folder.exists() else []
    for _ in range(count_of(1000, soak_factor)):
        cycle()
    assert_nothing_more(before)
    assert rss_bytes() - rss <= RSS_GROWN_MAX
    assert (sorted(folder.iterdir()) if folder.exists() else []) == files
    assert host.list_sessions(all=True) == []
    wait_zombie_free(os.getpid())


@pytest.mark.guarantee("R-76")
def test_hosts_opened_and_closed_leave_nothing(soak_factor: int) -> None:
    def cycle() -> None:
        with Host(sandbox=Sandbox.off()) as host, host.temporary_session() as session:
            assert session.run(len, "abc") == 3

    for _ in range(3):
        cycle()
    before, rss = baseline(), rss_bytes()
    for _ in range(count_of(200, soak_factor)):
        cycle()
    assert_nothing_more(before)
    assert rss_bytes() - rss <= RSS_GROWN_MAX
    wait_zombie_free(os.getpid())
