"""The host is killed, or just ends, and nothing of its sessions is left: in a program of its own, as this user and as a plain one.

The program is a real one: an interpreter that starts a host, leaves daemons in a session three processes deep, and tells.
"""

import inspect
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from helpers.hosts import SLACK, alive, count_of, median, tree_below, wait_gone
from helpers.runs import Python, User, python_for
from procession import Host, Sandbox

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(1200)]

GONE_S = 2.0
GONE_MEDIAN_S = 0.050


def leaves_daemons(wait: bool) -> list[int]:
    """Leave a child, a daemon in a session of its own and one that is deaf; return their pids, or stay with them."""
    import os
    import signal
    import subprocess
    import time

    quiet = subprocess.DEVNULL
    child = subprocess.Popen(["sleep", "3600"], stdin=quiet, stdout=quiet, stderr=quiet)
    daemon = subprocess.Popen(["setsid", "nohup", "sleep", "3600"], stdin=quiet, stdout=quiet, stderr=quiet)
    told_r, told_w = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            os.write(told_w, b"%d" % os.getpid())
            while True:
                time.sleep(3600)  # payload: outlives its parent
        os._exit(0)
    pids = [child.pid, daemon.pid, int(os.read(told_r, 64))]
    print(*pids, flush=True)
    if wait:
        time.sleep(3600)  # payload: runs when its host is killed
    return pids


STAYS = """
from procession import Host, Sandbox
import os, sys, time
host = Host(sandbox=Sandbox.off())
session = host.start_session()
session.start("setsid sleep 3600 & sleep 3600")
session.run_code("import subprocess; child = subprocess.Popen(['sleep', '3600'], start_new_session=True)")
run = session.submit(leaves_daemons, True, on_output=lambda chunk: os.write(1, b"ready"))
time.sleep(3600)
"""

RUNS = """
from procession import Host, Sandbox
import json, os, sys
def lives(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
seen = []
with Host(sandbox=Sandbox.off()) as host:
    session = host.start_session()
    for _ in range(int(sys.argv[1])):
        seen.append(sum(map(lives, session.run(leaves_daemons, False))))
    try:
        session.run(leaves_daemons, True, timeout=1)
    except Exception as error:
        ended = [type(error).__name__, error.report.processes_found, error.report.processes_left, error.report.receipt.method]
print(json.dumps({"uid": os.getuid(), "seen": seen, "ended": ended}))
"""


@pytest.fixture(params=["this user", "a plain user"])
def user(request: pytest.FixtureRequest, plain_user: User) -> User | None:
    """Return None for ourselves."""
    return plain_user if request.param == "a plain user" else None


def begin(python: Python, user: User | None, temp: Path, script: str, *args: str) -> subprocess.Popen[bytes]:
    """Start the program, as anybody, with a temporary folder of its own: a host that is killed cannot remove its own."""
    other = user is not None and user.is_somebody_else
    return subprocess.Popen(
        [python.executable, "-c", inspect.getsource(leaves_daemons) + script, *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd="/",
        env=python.environment({**os.environ, "TMPDIR": str(temp)}, user),
        start_new_session=True,
        user=user.uid if other and user else None,
        group=user.gid if other and user else None,
        extra_groups=[] if other else None,
    )


@pytest.mark.guarantee("R-26")
def test_a_killed_host_leaves_nothing_alive(user: User | None, soak_factor: int, tmp_path: Path) -> None:
    python = python_for(user)
    took = []
    for _ in range(count_of(200, soak_factor)):
        with begin(python, user, tmp_path, STAYS) as program:
            assert program.stdout is not None
            readable, _, _ = select.select([program.stdout], [], [], 20)
            assert readable
            tree = tree_below(program.pid)
            assert len(tree) >= 12  # zygote, keeper, session, three nested keepers and what they guard
            killed_at = time.monotonic()
            os.kill(program.pid, signal.SIGKILL)
            wait_gone(tree, timeout_s=GONE_S * SLACK)
            took.append(time.monotonic() - killed_at)
            assert alive(tree) == []
    assert median(took) <= GONE_MEDIAN_S * SLACK


@pytest.mark.guarantee("R-12")
def test_daemons_end_with_their_run_for_any_user(user: User | None, soak_factor: int, tmp_path: Path) -> None:
    count = count_of(1000, soak_factor)
    with begin(python_for(user), user, tmp_path, RUNS, str(count)) as program:
        output, _ = program.communicate(timeout=1000)
    told = json.loads(output)
    assert program.returncode == 0
    assert told["uid"] == (user.uid if user is not None else os.getuid())
    assert told["seen"] == [0] * count
    name, found, left, _method = told["ended"]
    assert (name, left) == ("ToolTimedOut", 0)
    assert found >= 3


@pytest.mark.guarantee("R-12")
def test_a_host_that_closes_leaves_nothing_alive() -> None:
    host = Host(sandbox=Sandbox.off())
    session = host.start_session()
    session.start("setsid sleep 3600 & sleep 3600")
    run = session.submit(leaves_daemons, True)
    with session.logs(follow=True) as logs:
        next(logs)
    tree = tree_below(os.getpid())
    assert len(tree) >= 8
    host.close()
    assert alive(tree) == []
    assert run.exception() is not None
