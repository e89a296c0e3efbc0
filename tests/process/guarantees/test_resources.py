"""The machine refuses: no process, no descriptor. A start that fails says so, is backed off, and harms nobody."""

import json
from typing import Any

import pytest

from helpers.runs import User, run_python

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(120)]

COMMON = """
import json, os, resource, signal, threading, time
from procession import Host, ProcessionError, Sandbox

def tell(error):
    return [type(error).__name__, error.code, getattr(error, "phase", "") or None, error.ran]

def unharmed(host, keep):
    return keep.run(len, "abcd") == 4 and keep.status().incarnation == 1 and keep.echo(b"x") == b"x"

def open_now():
    return {int(name) for name in os.listdir("/proc/self/fd")}

def still_open_beyond(count):
    # what a session had is closed just behind the answer that it is gone
    until = time.monotonic() + 5
    while (more := len(open_now()) - count) and time.monotonic() < until:
        time.sleep(0.005)
    return more

def fill_but(room):
    # take every descriptor but so many
    resource.setrlimit(NOFILE, (max(open_now()) + 1 + room, hard))
    fillers = []
    try:
        while True:
            fillers.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for _ in range(room):
        os.close(fillers.pop())
    return fillers

def give_back(fillers):
    for fd in fillers:
        os.close(fd)
    resource.setrlimit(NOFILE, (soft, hard))

NOFILE = resource.RLIMIT_NOFILE
soft, hard = resource.getrlimit(NOFILE)

def surprises(host):
    return [str(e) for e in host.events(since=0) if e.type in ("host.bug", "zygote.lost", "session.invalid_transition")]
"""

NO_PROCESS = (
    COMMON
    + """
NPROC = resource.RLIMIT_NPROC
_, hard = resource.getrlimit(NPROC)

def allow(pid, count):
    resource.prlimit(pid, NPROC, (count, hard))
    for child in open(f"/proc/{pid}/task/{pid}/children").read().split():
        try:
            if open(f"/proc/{child}/comm").read() == "keeper blank\\n":  # forked ahead, with the limit of that time
                resource.prlimit(int(child), NPROC, (count, hard))
        except (FileNotFoundError, ProcessLookupError):
            pass

def tasks_of_this_user():
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            pass
    return count

told = {"starts": [], "runs": []}
with Host(sandbox=Sandbox.off()) as host, host.temporary_session() as keep:
    told["served"] = keep.run(len, "abcd")
    (zygote,) = host._link.backend.zygotes.pids
    # every point of a start and of its first run at which a fork can be refused, one after the other
    used = tasks_of_this_user()
    for count in range(max(1, used - 3), used + 100):
        allow(zygote, count)
        try:
            session = host.start_session()
        except ProcessionError as error:
            told["starts"].append(tell(error))
        else:
            try:
                if session.run(len, "abc") == 3:
                    break
            except ProcessionError as error:
                told["runs"].append(tell(error))
            finally:
                host.remove_session(session.id)
        assert unharmed(host, keep), count
    told["sessions"] = len(host.list_sessions(all=True))

    # a session that dies while no process is to be had is backed off, keeps its calls, and comes back
    dies = host.start_session()
    allow(zygote, 1)
    waits, refused = [], threading.Event()
    def watch():
        for event in host.events(follow=True):
            if event.session == dies.id and event.type == "session.crashed":
                waits.append(event.number)
                if len(waits) == 3:
                    refused.set()
            elif event.session == dies.id and event.type == "session.ready":
                return
    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    host.events()
    os.kill(dies.status().pid, signal.SIGKILL)
    queued = dies.submit(len, "queued")
    assert refused.wait(10)
    told["reason"] = dies.status().reason
    assert unharmed(host, keep)
    allow(zygote, hard)
    told["queued"] = queued.result(20)
    watching.join(20)
    told["back"] = [dies.status().phase, dies.status().restarts >= 3]

    # a session that may not fork: each kind of work is refused before it ran, and works again afterwards
    pid = keep.status().pid
    allow(pid, 1)
    told["work"] = []
    for work in (lambda: keep.run(len, "x"), lambda: keep.exec("true"), lambda: keep.run_code("1"),
                 lambda: keep.start("sleep 9")):
        try:
            work()
        except ProcessionError as error:
            told["work"].append(tell(error))
    allow(pid, hard)
    assert unharmed(host, keep)
    told["surprises"] = surprises(host)
print(json.dumps(told))
"""
)

NO_DESCRIPTOR = (
    COMMON
    + """
import sys
preload = sys.argv[1:]  # a preload set of its own needs a zygote of its own
told = {"starts": []}
with Host(sandbox=Sandbox.off()) as host, host.temporary_session() as keep:
    told["served"] = keep.run(len, "abcd")
    before = host._link.backend.zygotes.pids
    held = len(open_now())
    for room in range(100):
        fillers = fill_but(room)
        try:
            session = host.start_session(preload=preload)
        except ProcessionError as error:
            session = None
            told["starts"].append(tell(error))
        harmless = unharmed(host, keep)
        give_back(fillers)
        assert harmless, room
        if session is not None:
            told["runs"] = session.run(len, "abc")
            host.remove_session(session.id)
            break
    told["sessions"] = len(host.list_sessions(all=True))
    told["zygote lives"] = before <= host._link.backend.zygotes.pids
    told["zygotes"] = len(host._link.backend.zygotes.pids)
    told["leaked"] = still_open_beyond(held + 3 * (told["zygotes"] - 1))  # a zygote has its socket, output and pidfd
    told["surprises"] = surprises(host)
print(json.dumps(told))
"""
)


def run_script(script: str, *args: str, user: User | None = None) -> dict[str, Any]:
    done = run_python(script, args=args, user=user, timeout=90)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told: dict[str, Any] = json.loads(done.stdout)
    return told


REFUSED = ["StartFailed", "fork_failed", "resources", "no"]
OVERLOADED = ["HostOverloaded", "resources", None, "no"]


@pytest.mark.guarantee("R-43")
def test_forks_that_are_refused_fail_typed_are_backed_off_and_harm_nobody(plain_user: User) -> None:
    told = run_script(NO_PROCESS, user=plain_user)
    assert told["served"] == 4
    assert len(told["starts"]) >= 2, "the keeper's fork and the session's are two points at least"
    assert [start for start in told["starts"] if start != REFUSED] == []
    assert told["runs"], "a start went through, and its run did not"
    assert [run for run in told["runs"] if run != OVERLOADED] == []
    assert told["sessions"] == 1, "a start that failed left a session behind"
    assert "could not be forked" in told["reason"]
    assert told["queued"] == 6
    assert told["back"] == ["ready", True]
    assert told["work"] == [OVERLOADED] * 4
    assert told["surprises"] == []


@pytest.mark.guarantee("R-42")
@pytest.mark.parametrize("preload", [(), ("colorsys",)], ids=["a session", "a zygote and a session"])
def test_a_start_without_descriptors_fails_typed_at_every_point_and_harms_nobody(preload: tuple[str, ...]) -> None:
    told = run_script(NO_DESCRIPTOR, *preload)
    assert told["served"] == 4
    assert len(told["starts"]) >= 13, "its pipes and files alone are that many points"
    assert [start for start in told["starts"] if start[0] != "StartFailed" or start[2:] != ["resources", "no"]] == []
    assert {start[1] for start in told["starts"]} <= {"no_descriptors", "zygote_not_started"}
    assert told["runs"] == 3, "it recovers once there are descriptors again"
    assert told["zygote lives"], "nobody else's session was ended"
    assert (told["sessions"], told["zygotes"], told["leaked"]) == (1, 1 + len(preload), 0)
    assert told["surprises"] == []
