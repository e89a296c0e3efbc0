"""What user code leaves behind, and what becomes of it when its keeper is attacked: nothing survives, the receipt counts."""

import contextlib
import inspect
import json
import os
import signal
import threading
import time
from collections.abc import Iterable
from functools import partial

import pytest

from helpers.hosts import FIFTIETH_MIN, SLACK, EventWatch, count_of, kill, tree_below, wait_gone
from helpers.proc import ProcessSeen, look_at
from helpers.runs import User, run_python
from procession import Host, SessionDied, ToolCrashed, ToolTimedOut
from procession.api.core import plans
from procession.ipc.core.backend import Outcome
from procession.ipc.core.errors import ProcessionError
from procession.ipc.core.records import OutputChunk, RunReport

pytestmark = pytest.mark.process

GONE_S = 1.0
KEEPER_GONE_S = 2.0


def leaves_daemons_behind(wait: bool) -> list[int]:
    """Start a daemon in each of the ways that hide one; return their pids, or stay with them."""
    import os
    import subprocess
    import time

    told_r, told_w = os.pipe()

    def stay() -> None:
        os.write(told_w, b"%d\n" % os.getpid())
        while True:
            time.sleep(3600)  # payload: outlives its parent

    if os.fork() == 0:  # left alone by its parent
        stay()
    for hidden in (False, True):  # twice forked, in a session of its own; once with everything closed
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                if hidden:
                    os.dup2(told_w, 3)
                    os.chdir("/")
                    os.closerange(4, 256)
                    told_w = 3
                    for fd in (0, 1, 2):
                        os.close(fd)
                stay()
            os._exit(0)
    quiet = subprocess.DEVNULL
    immune = subprocess.Popen(["nohup", "setsid", "sleep", "3600"], stdin=quiet, stdout=quiet, stderr=quiet)
    if os.fork() == 0:  # deaf, and with another name
        import signal

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        stay()
    pids = [immune.pid]
    while len(pids) < 5:
        pids += [int(line) for line in os.read(told_r, 4096).split()]
    print(*pids, flush=True)
    if wait:
        time.sleep(3600)  # payload: is ended at its deadline
    return pids


def still_there(pids: Iterable[int]) -> list[str]:
    """List those that live; a pid is not used again within the seconds of a test."""
    return [str(seen) for seen in map(look_at, pids) if seen and seen.state != "Z"]


@pytest.mark.guarantee("R-12")
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_that_leaves_daemons_behind_is_ended_with_all_of_them(session, soak_factor: int) -> None:
    before = session.status().pid
    for _ in range(count_of(1000, soak_factor)):
        pids = session.run(leaves_daemons_behind, False)
        assert len(pids) == 5
        assert still_there(pids) == []  # not even for a moment after the answer
    assert (session.status().pid, session.status().restarts) == (before, 0)


@pytest.mark.guarantee("R-12")
def test_a_run_ended_at_its_deadline_counts_the_daemons_it_had(session) -> None:
    printed: list[OutputChunk] = []
    with pytest.raises(ToolTimedOut) as caught:
        session.run(leaves_daemons_behind, True, timeout=1, on_output=printed.append)
    pids = [int(word) for word in b"".join(chunk.data for chunk in printed).split()]
    assert len(pids) == 5
    assert still_there(pids) == []
    assert caught.value.report is not None
    assert caught.value.report.processes_found >= 5
    assert caught.value.report.processes_left == 0


AS_ANYBODY = """
import json, os, sys
from procession import Host, Sandbox, ToolTimedOut

def lives(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

with Host(sandbox=Sandbox.off()) as host:
    session = host.start_session()
    left = [sum(map(lives, session.run(leaves_daemons_behind, False))) for _ in range(int(sys.argv[1]))]
    try:
        session.run(leaves_daemons_behind, True, timeout=1)
    except ToolTimedOut as error:
        print(json.dumps([os.getuid(), left, error.report.processes_found, error.report.processes_left]))
"""


@pytest.mark.guarantee("R-12")
def test_a_plain_user_leaves_no_daemon_behind_either(plain_user: User, soak_factor: int) -> None:
    count = count_of(1000, soak_factor)
    script = inspect.getsource(leaves_daemons_behind) + AS_ANYBODY
    done = run_python(script, user=plain_user, args=(str(count),), timeout=1000)
    assert done.returncode == 0, done.stderr
    uid, left, found, left_at_deadline = json.loads(done.stdout)
    assert (uid, left, left_at_deadline) == (plain_user.uid, [0] * count, 0)
    assert found >= 5


ENDS = {
    "kill": lambda host, session: session.kill(),
    "stop": lambda host, session: session.stop(),
    "restart": lambda host, session: session.restart(),
    "remove": lambda host, session: host.remove_session(session.id),
    "kill -9": lambda host, session: kill(session.status().pid),
}


@pytest.mark.guarantee("R-12")
@pytest.mark.parametrize("end", ENDS)
def test_a_session_that_ends_takes_every_daemon_with_it(host: Host, end: str) -> None:
    session = host.start_session()
    session.start("setsid sleep 3600 & nohup sleep 3600 & wait")
    session.run_code("import subprocess; child = subprocess.Popen(['sleep', '3600'], start_new_session=True)")
    run = session.submit(leaves_daemons_behind, True)
    keeper = look_at(session.status().keeper_pid or 0)
    assert keeper is not None
    printed = b""
    with session.logs(follow=True) as logs:
        while printed.count(b" ") < 4:
            printed += next(logs).data
    tree = tree_below(keeper.pid)
    assert len(tree) >= 12  # session, three nested keepers with their own, three sleeps, five daemons
    ENDS[end](host, session)
    wait_gone(tree, timeout_s=GONE_S * SLACK)
    wait_gone([keeper], timeout_s=GONE_S * SLACK)
    assert isinstance(run.exception(), ProcessionError)
    if end != "remove":
        host.remove_session(session.id)


def _family(session) -> tuple[ProcessSeen, list[ProcessSeen]]:
    """Return the session's outer keeper and everything below it."""
    keeper = look_at(session.status().keeper_pid or 0)
    assert keeper is not None
    return keeper, tree_below(keeper.pid)


@pytest.mark.guarantee("R-77")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["SIGKILL", "SIGSTOP"])
def test_a_session_whose_keeper_is_lost_ends_and_comes_back(host: Host, start, events: EventWatch, number: int) -> None:
    session = start()
    run = session.submit(leaves_daemons_behind, True)
    with session.logs(follow=True) as logs:
        next(logs)
    keeper, tree = _family(session)
    assert len(tree) >= 8
    lost_at = kill(keeper.pid, number)
    ended = events.wait("session.ended", session)
    assert ended.at - lost_at <= KEEPER_GONE_S * SLACK
    wait_gone([keeper, *tree], timeout_s=max(0.1, KEEPER_GONE_S * SLACK - (time.monotonic() - lost_at)))
    assert isinstance(run.exception(), SessionDied)
    report = session.last_report()
    assert isinstance(report, RunReport)
    assert (report.ended, report.receipt.keeper_lost) == ("unknown", True)
    events.wait("session.ready", session, incarnation=2)
    assert session.run(len, "back") == 4


@pytest.mark.guarantee("R-77", "R-78")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["SIGKILL", "SIGSTOP"])
def test_a_run_whose_keeper_is_lost_cannot_be_proved_empty_so_its_session_ends(
    start, events: EventWatch, number: int
) -> None:
    session = start()
    run = session.submit(leaves_daemons_behind, True)
    with session.logs(follow=True) as logs:
        next(logs)
    keeper, tree = _family(session)
    pid = session.status().pid
    nested = [seen for seen in tree if seen.parent == pid]
    assert len(nested) == 1
    lost_at = kill(nested[0].pid, number)
    ended = events.wait("session.ended", session)
    wait_gone([keeper, *tree], timeout_s=max(0.1, KEEPER_GONE_S * SLACK - (time.monotonic() - lost_at)))
    error = run.exception()
    assert isinstance(error, ToolCrashed)
    assert error.report is not None
    assert (error.report.receipt.keeper_lost, error.report.receipt.escalated) == (True, True)
    assert "escalated" in str(ended.event.data["how"])
    report = session.last_report()
    assert report is not None
    assert (report.receipt.escalated, report.processes_left) == (True, 0)
    events.wait("session.ready", session, incarnation=2)
    assert session.run(len, "back") == 4


def told(over: threading.Event, outcome: Outcome) -> None:
    over.set()


@pytest.mark.guarantee("R-77")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["SIGKILL", "SIGSTOP"])
def test_a_keeper_lost_while_it_ends_its_session_changes_nothing_about_the_end(host: Host, number: int) -> None:
    """Hit at whatever moment of the end it then is at: before its order, in the middle of it, or just behind it."""
    for _ in range(FIFTIETH_MIN):
        session = host.start_session()
        run = session.submit(leaves_daemons_behind, True)
        with session.logs(follow=True) as logs:
            next(logs)
        keeper, tree = _family(session)
        pidfd = os.pidfd_open(keeper.pid)
        over = threading.Event()
        began = time.monotonic()
        session._link.backend.submit(plans.kill(session.id).request, partial(told, over))
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)
        os.close(pidfd)
        assert over.wait(KEEPER_GONE_S * SLACK)
        wait_gone([keeper, *tree], timeout_s=KEEPER_GONE_S * SLACK - (time.monotonic() - began))
        assert isinstance(run.exception(), ProcessionError)
        assert session.status().phase == "down"
        assert session.status().restarts <= 1  # when the keeper was quicker to die than the order to come
        assert session.run(len, "awake") == 5
        host.remove_session(session.id)
