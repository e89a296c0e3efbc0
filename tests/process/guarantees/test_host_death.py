"""R-26: kill -9 of the host ends every session, worker, keeper and zygote, three deep, daemons included."""

import json
import shutil
import signal
import statistics
import subprocess
import time

import pytest

from helpers.hosts import count_of
from helpers.proc import look_at
from helpers.runs import User, python_for
from helpers.stopping import stop_process
from helpers.waiting import poll_until

pytestmark = pytest.mark.process

SURVIVORS_S = 2.0
P50_S = 0.05 * 3

HOST = """
import json, os, sys, threading
from procession import Host, Sandbox

def deep():
    import os, subprocess, time
    subprocess.Popen(["sh", "-c", "setsid sleep 600 & sleep 600 & wait"])
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 64)
            time.sleep(600)  # payload: a daemon
        os._exit(0)
    print("up", flush=True)
    time.sleep(600)  # payload: a run that never ends

host = Host(sandbox=Sandbox.off())
sessions = [host.start_session(preload=["json"] * (n > 1)) for n in range(int(sys.argv[1]))]
up = threading.Semaphore(0)
if sys.argv[2] == "busy":
    for session in sessions:
        session.submit(deep, timeout=100, on_output=lambda chunk: up.release())
    for session in sessions:
        up.acquire()

def below(pid):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = open(f"/proc/{entry}/stat").read()
            except OSError:
                continue
            fields = stat[stat.rfind(")") + 2:].split()
            found.append((int(entry), int(fields[1]), int(fields[19])))
    tree, grown = {pid}, True
    while grown:
        grown = False
        for child, parent, _ in found:
            if parent in tree and child not in tree:
                tree.add(child)
                grown = True
    return [(child, ticks) for child, _, ticks in found if child in tree and child != pid]

print(json.dumps([str(host.data_dir), below(os.getpid())]), flush=True)
sys.stdin.read()
"""


def stop_zygotes(host: int, tree: list[list[int]]) -> None:
    """Stop every zygote of the host, which are its children, and see that they are."""
    zygotes = [pid for pid, _ in tree if (seen := look_at(pid)) is not None and seen.parent == host]
    assert len(zygotes) == 2
    for pid in zygotes:
        stop_process(pid)


def kill_a_host(kind: str, user: User | None = None, *, stopped: bool = False) -> tuple[float, int]:
    """Run a host, kill -9 it; seconds until nothing of it was left, and how many processes it had had.

    stopped: its zygotes are stopped by then.
    """
    python = python_for(user)
    somebody = user is not None and user.is_somebody_else
    host = subprocess.Popen(
        [python.executable, "-c", HOST, "3" if stopped else "2", kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=python.environment(None, user),
        cwd="/",
        user=user.uid if user is not None and somebody else None,
        group=user.gid if user is not None and somebody else None,
        extra_groups=[] if somebody else None,
    )
    assert host.stdin is not None
    assert host.stdout is not None
    with host.stdin, host.stdout:
        data_dir, tree = json.loads(host.stdout.readline())
        if stopped:
            stop_zygotes(host.pid, tree)
        begun = time.monotonic()
        host.send_signal(signal.SIGKILL)
        host.wait()

        def survivors() -> list[int]:  # the zygote's body is buried by init, in init's own time: a zombie is gone
            seen = [(pid, look_at(pid)) for pid, _ in tree]
            return [
                pid
                for (pid, process), (_, ticks) in zip(seen, tree, strict=True)
                if process is not None and process.start_ticks == ticks and process.state != "Z"
            ]

        shutil.rmtree(data_dir)  # a private host that is killed cannot remove it; the next one would
        gone = poll_until(lambda: not survivors(), timeout_s=SURVIVORS_S * 3)
        took = time.monotonic() - begun
        assert gone, f"survivors: {[look_at(pid) for pid in survivors()]}"
    return took, len(tree)


@pytest.mark.guarantee("R-26")
@pytest.mark.parametrize("kind", ["idle", "busy"])
def test_nothing_survives_the_host(kind: str, soak_factor: int) -> None:
    times = []
    for _ in range(count_of(200, soak_factor) // 2 or 10):
        took, count = kill_a_host(kind)
        assert count >= (5 if kind == "idle" else 11), "the tree was not there to begin with"
        times.append(took)
    assert statistics.median(times) <= P50_S
    assert max(times) <= SURVIVORS_S * 3


@pytest.mark.guarantee("R-26")
def test_nothing_survives_the_host_of_a_plain_user(plain_user: User) -> None:
    for _ in range(3):
        took, count = kill_a_host("busy", plain_user)
        assert count >= 11
        assert took <= SURVIVORS_S * 3


@pytest.mark.guarantee("R-26")
@pytest.mark.parametrize("kind", ["idle", "busy"])
def test_zygotes_that_were_stopped_end_with_their_host_too(kind: str) -> None:
    for _ in range(3):
        took, count = kill_a_host(kind, stopped=True)
        assert count >= 8
        assert took <= SURVIVORS_S * 3


def test_a_closed_host_leaves_nothing() -> None:
    """The orderly end, seen from outside: what was below the host is gone when it exits."""
    python = python_for(None)
    code = HOST.replace("sys.stdin.read()", "host.close()")
    done = subprocess.run(
        [python.executable, "-c", code, "2", "busy"],
        capture_output=True,
        text=True,
        check=True,
        env=python.environment(None, None),
        timeout=30,
    )
    _, tree = json.loads(done.stdout.splitlines()[-1])
    assert len(tree) >= 11
    assert [pid for pid, ticks in tree if (p := look_at(pid)) is not None and p.start_ticks == ticks] == []
