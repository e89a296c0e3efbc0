"""Pids that are used again and clocks that jump: nobody else is signalled, and nothing is decided by the time of day."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.hosts import count_of
from helpers.runs import python_for, run_python

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(1200)]

REUSED_PIDS = """
import json, os, random, signal, subprocess, sys, threading, time
from procession import Host, ProcessionError, Sandbox

LAST_PID = "/proc/sys/kernel/ns_last_pid"
DEALT_ANEW = 4  # lives: each takes five numbers or more
lives = int(sys.argv[1])
bystanders = []

def start_at(pid):
    # the next number the kernel gives out; only ever written in a pid namespace of this script's own
    with open(LAST_PID, "w") as file:
        file.write(str(pid))

def wait_free(pid):
    until = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < until, f"pid {pid} is not reaped"
        time.sleep(0.001)

def take_over(pid):
    # become a bystander who has the pid of one that is dead
    wait_free(pid)
    for _ in range(200):
        start_at(pid - 1)
        child = subprocess.Popen(["sleep", "1000"])
        bystanders.append(child)
        if child.pid == pid:
            return
    raise AssertionError(f"pid {pid} was not to be had")

def unharmed():
    states = {}
    for child in bystanders:
        try:
            states[child.pid] = open(f"/proc/{child.pid}/stat").read().rpartition(")")[2].split()[0]
        except OSError:
            states[child.pid] = "gone"
    return {pid: state for pid, state in states.items() if state not in "SR"}

def go_on(work):
    try:
        work()
    except ProcessionError:
        pass

def wait_ended(call):
    try:
        call.result(20)
    except Exception:
        pass

def of(parent):
    with open(f"/proc/{parent}/task/{parent}/children") as file:
        return [int(pid) for pid in file.read().split()]

def name_of(pid):
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""

def started(**options):
    # with the next keeper forked ahead already: it would take the number that is to be had
    session = host.start_session(**options)
    (zygote,) = host._link.backend.zygotes.pids
    until = time.monotonic() + 10
    while "keeper blank" not in map(name_of, of(zygote)):
        assert time.monotonic() < until, "no keeper was forked ahead"
        time.sleep(0.001)
    return session

told = {"taken": [], "harmed": {}, "lives": 0, "again": 0}

def check(what):
    told["taken"].append(what)
    if harmed := unharmed():
        told["harmed"][what] = harmed

with Host(sandbox=Sandbox.off()) as host:
    # a session process: dead, its pid somebody else's; then every verb that ends a session
    for verb in ("kill", "stop", "restart", "remove"):
        session = started(restart="temporary")
        pid = session.status().pid
        os.kill(pid, signal.SIGKILL)
        take_over(pid)
        if verb == "remove":
            host.remove_session(session.id)
        else:
            go_on(getattr(session, verb))
            host.remove_session(session.id)
        check(f"session, {verb}")

    # its keeper
    session = started(restart="temporary")
    keeper = session.status().keeper_pid
    os.kill(keeper, signal.SIGKILL)
    take_over(keeper)
    go_on(session.kill)
    host.remove_session(session.id)
    check("keeper, kill")

    # what a run started: a worker and its keeper, then a cancel, a deadline, the end of the session
    for verb in ("cancel", "kill"):
        session = started()
        call = session.submit(signal.pause)
        until = time.monotonic() + 10
        while not (keepers := of(session.status().pid)) or not (workers := of(keepers[0])):
            assert time.monotonic() < until
            time.sleep(0.001)
        os.kill(workers[0], signal.SIGKILL)
        take_over(workers[0])
        if verb == "cancel":
            call.cancel()
        else:
            session.kill()
        wait_ended(call)
        host.remove_session(session.id)
        check(f"worker, {verb}")

    # a long-lived command, signalled after its end in every way there is
    session = started()
    command = session.start("sleep 1000")
    os.kill(command.pid, signal.SIGKILL)
    take_over(command.pid)
    for verb in ("interrupt", "terminate", "kill"):
        go_on(getattr(command, verb))
    host.remove_session(session.id)
    check("command, its three signals")

    # the interpreter of a session
    session = started()
    pid = int(session.run_code("import os; os.getpid()").value)
    os.kill(pid, signal.SIGKILL)
    take_over(pid)
    go_on(session.interrupt)
    session.run_code("1")
    host.remove_session(session.id)
    check("interpreter, interrupt")

    # the zygote: killed, replaced, and closed at the end below
    (zygote,) = host._link.backend.zygotes.pids
    os.kill(zygote, signal.SIGKILL)
    take_over(zygote)
    with host.temporary_session() as session:
        assert session.run(len, "abc") == 3
    check("zygote, kill -9")

    # many lives in a space of few numbers, which are dealt out again and again
    dice = random.Random(67)
    seen = {}
    standing = list(bystanders)
    for life in range(lives):
        if life % DEALT_ANEW == 0:
            start_at(20)
        session = started(restart="temporary")
        pid = session.status().pid
        told["again"] += pid in seen
        seen[pid] = life
        call = session.submit(os.fork) if life % 3 else session.submit(signal.pause)
        if life % 2:
            os.kill(pid, signal.SIGKILL)
        standing.append(subprocess.Popen(["sleep", "1000"]))
        told["again"] += standing[-1].pid in seen
        seen[standing[-1].pid] = life
        go_on(dice.choice([session.kill, session.restart, call.cancel, lambda: session.stop(grace=0)]))
        host.remove_session(session.id)
        wait_ended(call)
        if len(standing) > 60:
            bystanders[:] = standing
            assert not unharmed(), unharmed()
            for child in standing[:40]:
                child.kill()
                child.wait()
            del standing[:40]
        told["lives"] += 1
    bystanders[:] = standing
    check("many lives")
check("the host is closed")
for child in bystanders:
    child.kill()
    child.wait()
print(json.dumps(told))
"""


def run_in_pid_namespace(script: str, *args: str) -> dict[str, Any]:
    """Run a script where pids are its own to deal out; skip, with the reason, where no such place can be made."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no unshare(1) here to make a pid namespace with")
    users = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    space = [unshare, *users, "--pid", "--fork", "--kill-child", "--mount-proc"]
    tried = subprocess.run(
        [*space, "sh", "-c", "echo 100 > /proc/sys/kernel/ns_last_pid"], check=False, capture_output=True, text=True
    )
    if tried.returncode != 0:
        pytest.skip(f"no pid namespace of one's own here: {tried.stderr.strip()}")
    done = subprocess.run(
        # the shell is the namespace's init: it reaps what loses its parent, as an init does
        [*space, "sh", "-c", '"$@"; exit $?', "init", sys.executable, "-c", script, *args],
        check=False, capture_output=True, text=True, timeout=900, env=python_for(None).environment(None, None),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.guarantee("R-67")
def test_whoever_got_a_dead_ones_pid_is_never_signalled(soak_factor: int) -> None:
    lives = count_of(1000, soak_factor)
    told = run_in_pid_namespace(REUSED_PIDS, str(lives))
    assert told["harmed"] == {}
    assert len(told["taken"]) == 12
    assert told["lives"] == lives
    assert told["again"] > 0, "no pid was used again: the test shows nothing"


JUMPING_CLOCK = """
# the time of day of this process and of all it forks: it jumps by two hours, seven times a second
import time
_time, _time_ns, _monotonic = time.time, time.time_ns, time.monotonic

def _offset():
    return 3600 if int(_monotonic() * 7) % 2 else -3600

time.time = lambda: _time() + _offset()
time.time_ns = lambda: _time_ns() + _offset() * 1_000_000_000
"""

VERDICTS = """
import json, os, signal, sys, time
preload = sys.argv[1:]
real = time.time
for name in preload:
    __import__(name)  # before anything of ours has looked at a clock
from procession import Host, ProcessionError, Sandbox

told = {"verdicts": [], "late": {}, "waits": []}

def judge(what, work, due):
    began = time.monotonic()
    try:
        verdict = repr(work())
    except ProcessionError as error:
        verdict = [type(error).__name__, error.code, error.ran]
    told["late"][what] = time.monotonic() - began - due
    told["verdicts"].append([what, verdict])

def off_by(seconds):
    return abs(time.time() - seconds)

with Host(sandbox=Sandbox.off(), preload=preload, parallel_runs=1) as host:
    session = host.start_session()
    told["off here"] = off_by(real())
    told["off there"] = session.run(off_by, real())
    for number in range(3):
        judge(f"deadline {number}", lambda: session.run(time.sleep, 1000, timeout=0.3), 0.3)
        judge(f"in time {number}", lambda: session.run(time.sleep, 0.3, timeout=20), 0.3)
    judge("a cell's deadline", lambda: session.run_code("while True: pass", timeout=0.3), 0.3)
    judge("a command's deadline", lambda: session.exec("sleep 1000", timeout=0.3), 0.3)
    judge("a query in time", lambda: session.echo(b"x"), 0.0)
    running = session.submit(time.sleep, 0.6)
    judge("queued past its deadline", lambda: session.run(len, "x", timeout=0.2), 0.2)
    judge("and what ran meanwhile", running.result, 0.4)
    for number in range(4):  # the back-off: at once, then 0.1, 0.2, 0.4 s
        os.kill(session.status().pid, signal.SIGKILL)
        session.run(len, "x")
    story = [(step.at, step.event) for step in session.story().story]
    told["waits"] = [
        after[0] - before[0] for before, after in zip(story, story[1:]) if (before[1], after[1]) == ("ended", "backoff_over")
    ]
    status = session.status()
    told["verdicts"].append([status.phase, status.incarnation, status.restarts, status.health, status.reason])
    told["events"] = sorted({event.type for event in host.events(since=0)})
    at = [event.at for event in host.events(since=0)]
    told["spread of the times shown"] = max(at) - min(at)
    judge("stop", lambda: session.stop(grace=5).left, 0.0)
print(json.dumps(told))
"""

LATE_MAX_S = 0.25 + 0.5  # the grace after SIGTERM, and a busy machine
HOUR_S = 3600


@pytest.mark.guarantee("R-68")
def test_a_wall_clock_that_jumps_by_hours_changes_no_verdict(tmp_path: Path) -> None:
    """Twice the same work, on a steady clock and on one that jumps two hours, forth and back, all the time."""
    (tmp_path / "jumping_clock.py").write_text(JUMPING_CLOCK)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    told: dict[str, dict[str, Any]] = {}
    for clock in ("steady", "jumping"):
        args = ("jumping_clock",) if clock == "jumping" else ()
        done = run_python(VERDICTS, args=args, env=environment, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        told[clock] = json.loads(done.stdout)
    steady, jumping = told["steady"], told["jumping"]
    assert min(jumping["off here"], jumping["off there"], jumping["spread of the times shown"]) > HOUR_S / 2
    assert max(steady["off here"], steady["off there"], steady["spread of the times shown"]) < HOUR_S / 2
    assert jumping["verdicts"] == steady["verdicts"]
    assert jumping["events"] == steady["events"]
    assert [what for what, late in jumping["late"].items() if not -0.05 <= late <= LATE_MAX_S] == []
    assert len(jumping["waits"]) == 4
    for wait, least in zip(jumping["waits"], (0.0, 0.1, 0.2, 0.4), strict=True):
        assert least <= wait <= least * 1.25 + 0.3
