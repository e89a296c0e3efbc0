"""A keeper's promises, each with real processes: what is recorded, what dies, when, and what cannot be reached."""

import errno
import json
import os
import signal
import subprocess
import uuid
from pathlib import Path
from typing import Any, Self

import pytest

from helpers.guarded import CASE_VARIABLE, pids_with, state_of
from helpers.runs import REPOSITORY, User, python_for, run_python
from helpers.waiting import wait_until
from procession.agent_proc import landlock
from procession.ipc.core.bounds import MiB

pytestmark = pytest.mark.process

TESTS = REPOSITORY / "tests"
PRELUDE = f"""
import os, signal, sys, time
sys.path.insert(0, {str(TESTS)!r})
from helpers.guarded import *
"""
needs_scope = pytest.mark.skipif(
    landlock.abi() < landlock.SIGNAL_SCOPE_ABI, reason="this kernel's Landlock does not scope signals"
)
BOTH_METHODS = pytest.mark.parametrize("method", [pytest.param("auto", marks=needs_scope), "sweep"])
BOTH_USERS = pytest.mark.parametrize("as_plain_user", [False, True], ids=["as ourselves", "as a plain user"])


def run_script(body: str, user: User | None = None, *args: str) -> list[Any]:
    """Run a script with the helpers at hand; return the values it reported."""
    env = os.environ | {CASE_VARIABLE: uuid.uuid4().hex}
    done = run_python(PRELUDE + body, user=user, env=env, args=args)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def only(values: list[Any]) -> Any:
    assert len(values) == 1, values
    return values[0]


class Script:
    """A script that the test keeps a hand on: it says a line, then waits to be dealt with."""

    def __init__(self, body: str) -> None:
        self.case = uuid.uuid4().hex
        python = python_for(None)
        env = python.environment(os.environ | {CASE_VARIABLE: self.case}, None)
        self.process = subprocess.Popen(
            [python.executable, "-c", PRELUDE + body], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
        )

    def line(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def pids(self) -> list[int]:
        return pids_with(f"{CASE_VARIABLE}={self.case}\0".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


# --- what is recorded ---------------------------------------------------------------------------------------------
def test_a_normal_exit_is_recorded_and_finds_nothing() -> None:
    outcome = only(run_script("report(guard(lambda: None))"))
    assert outcome["ended"] | {"elapsed_s": 0, "cpu_s": 0, "max_rss_bytes": 0, "peak_memory_bytes": 0, "end_s": 0} == {
        "raw_status": 0,
        "cause": "exit",
        "found": 0,
        "left": 0,
        "method": "none",
        "elapsed_s": 0,
        "cpu_s": 0,
        "max_rss_bytes": 0,
        "peak_memory_bytes": 0,
        "end_s": 0,
    }
    assert outcome["keeper_status"] == 0
    assert outcome["survivors"] == 0


@pytest.mark.parametrize(
    ("main", "raw_status"),
    [
        ("lambda: os._exit(3)", 3 << 8),
        ("lambda: sys.exit(4)", 4 << 8),
        ("lambda: os.kill(os.getpid(), signal.SIGKILL)", signal.SIGKILL),
        ("lambda: signal.raise_signal(signal.SIGSEGV)", signal.SIGSEGV),
        ("lambda: 1 / 0", 1 << 8),
    ],
)
def test_the_raw_status_is_recorded(main: str, raw_status: int) -> None:
    ended = only(run_script(f"report(guard({main}))"))["ended"]
    assert (ended["raw_status"] & ~0x80, ended["cause"]) == (raw_status, "exit")


def test_an_exception_shows_its_traceback_on_the_standard_error() -> None:
    body = "r, w = os.pipe()\nos.dup2(w, 2)\nos.close(w)\nguard(lambda: 1 / 0)\nreport([os.read(r, 4096).decode()])"
    assert "ZeroDivisionError: division by zero" in only(run_script(body))[0]


@pytest.mark.guarantee("R-67")
def test_the_birth_record_names_the_process_beyond_its_pid() -> None:
    body = """
from procession.agent_proc.proctree import start_ticks
run = Run(wait_for_ever)
run.wait_said()
ticks = start_ticks(run.born.pid)
run.command(b"K")
report(run.outcome(ticks=ticks))
"""
    outcome = only(run_script(body))
    assert outcome["born"]["start_ticks"] == outcome["notes"]["ticks"] > 0


@needs_scope
def test_a_scope_is_proved_where_the_kernel_has_one() -> None:
    assert only(run_script("report(guard(lambda: None))"))["born"]["method"] == "scoped"


def test_time_and_memory_are_those_of_the_run_alone() -> None:
    body = f"""
def main():
    data = bytearray({64 * MiB})
    began = time.process_time()
    while time.process_time() < began + 0.3:
        pass
report(guard(main))
"""
    ended = only(run_script(body))["ended"]
    assert 48 * MiB < ended["peak_memory_bytes"] < 80 * MiB
    assert 0.25 < ended["cpu_s"] < 1


def test_a_child_that_cannot_be_forked_is_recorded(plain_user: User) -> None:
    if not plain_user.is_somebody_else:
        pytest.skip("only root can become a user that has no other process")
    body = """
import resource, select
os.setgid(64200); os.setuid(64200)
resource.setrlimit(resource.RLIMIT_NPROC, (2, 2))
from procession.agent_proc.keeper import fork_guarded
g = fork_guarded(lambda: None, keep_fds=(), host_pidfd=os.pidfd_open(os.getpid()), parent_pidfd=None, limits=None,
                 term_grace_s=0.25, label="x")
records = list(read_records(g.status_r))
os.waitpid(g.keeper_pid, 0)
report([[r.cause, r.raw_status] for r in records])
"""
    assert only(run_script(body)) == [["fork", -errno.EAGAIN]]


# --- what dies ----------------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-12")
@BOTH_USERS
@BOTH_METHODS
def test_a_daemon_left_behind_ends_with_its_run(
    method: str, as_plain_user: bool, plain_user: User, soak_factor: int
) -> None:
    body = f"report(*[guard(leave_daemon, method={method!r}) for _ in range({5 * soak_factor})])"
    for outcome in run_script(body, plain_user if as_plain_user else None):
        ended = outcome["ended"]
        assert (ended["cause"], ended["raw_status"], ended["found"], ended["left"]) == ("exit", 0, 1, 0)
        assert ended["method"] == ("scoped" if method == "auto" else "sweep")
        assert outcome["survivors"] == 0


@pytest.mark.guarantee("R-12")
@BOTH_USERS
@BOTH_METHODS
def test_a_fork_hopper_ends_with_its_run(method: str, as_plain_user: bool, plain_user: User) -> None:
    body = f"report(guard(lambda: (hop(), time.sleep(0.05)), method={method!r}))  # payload: lets it hop"
    outcome = only(run_script(body, plain_user if as_plain_user else None))
    assert (outcome["ended"]["found"] >= 1, outcome["ended"]["left"], outcome["survivors"]) == (True, 0, 0)


@BOTH_METHODS
def test_a_fork_bomb_ends_with_its_run(method: str) -> None:
    body = f"""
def main():
    for _ in range(7):
        os.fork()
    say("x")
    time.sleep(60)  # payload: 128 of them
run = Run(main, method={method!r})
while len(run.wait_said()) and len(survivors()) < 100:
    pass
run.command(b"K")
report(run.outcome())
"""
    outcome = only(run_script(body))
    assert (outcome["ended"]["left"], outcome["survivors"]) == (0, 0)
    assert outcome["ended"]["found"] >= 90


@BOTH_METHODS
def test_a_loop_that_ignores_sigterm_is_killed_when_the_grace_is_over(method: str) -> None:
    outcome = only(run_script(f"report(guard(ignore_sigterm, b'T', method={method!r}))"))
    ended = outcome["ended"]
    assert (ended["raw_status"], ended["cause"], ended["left"]) == (signal.SIGKILL, "asked", 0)
    assert 0.25 <= outcome["took_s"] < 1


@BOTH_METHODS
def test_sigterm_lets_the_main_process_choose_its_end(method: str) -> None:
    body = f"""
def main():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    wait_for_ever()
report(guard(main, b"T", method={method!r}))
"""
    outcome = only(run_script(body))
    assert (outcome["ended"]["raw_status"], outcome["ended"]["cause"]) == (7 << 8, "asked")
    assert outcome["took_s"] < 0.25


def test_strays_get_no_grace_of_their_own() -> None:
    body = """
def main():
    leave_daemon()
    wait_for_ever()
report(guard(main, b"T", term_grace_s=5.0))
"""
    outcome = only(run_script(body))
    assert (outcome["ended"]["found"], outcome["ended"]["left"], outcome["survivors"]) == (1, 0, 0)
    assert outcome["took_s"] < 2


@pytest.mark.parametrize("command", ["T", "K", "A"])
@BOTH_METHODS
def test_a_stopped_process_can_be_ended(command: str, method: str) -> None:
    body = f"""
run = Run(wait_for_ever, method={method!r})
run.wait_said()
os.kill(run.born.pid, signal.SIGSTOP)
while state_of(run.born.pid) != "T":
    os.sched_yield()
run.command({command!r}.encode())
report(run.outcome())
"""
    ended = only(run_script(body))["ended"]
    expected = {"T": signal.SIGTERM, "K": signal.SIGKILL, "A": signal.SIGABRT}[command]
    assert (ended["raw_status"] & ~0x80, ended["cause"], ended["left"]) == (expected, "asked", 0)


def test_an_abort_that_is_ignored_becomes_a_kill_after_a_second() -> None:
    body = """
def main():
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    wait_for_ever()
report(guard(main, b"A"))
"""
    outcome = only(run_script(body))
    assert outcome["ended"]["raw_status"] == signal.SIGKILL
    assert 1 <= outcome["took_s"] < 2


def test_an_interrupt_reaches_the_main_process_only() -> None:
    body = """
def main():
    if os.fork() == 0:
        signal.signal(signal.SIGINT, lambda *_: say("interrupted"))
        say("b")
        wait_for_ever()
    try:
        time.sleep(60)  # payload
    except KeyboardInterrupt:
        os._exit(5)
run = Run(main)
run.wait_said()
run.command(b"I")
outcome = run.outcome()
report(outcome, [os.read(run.said_r, 4096).decode()])
"""
    outcome, heard = run_script(body)
    assert (outcome["ended"]["raw_status"], outcome["ended"]["cause"], outcome["ended"]["found"]) == (5 << 8, "exit", 1)
    assert "interrupted" not in heard[0]


@pytest.mark.guarantee("R-70")
def test_orphans_that_die_during_a_run_do_not_pile_up() -> None:
    body = """
def main():
    for _ in range(200):
        if os.fork() == 0:
            os.fork()
            os._exit(0)
        os.wait()
    say()
    time.sleep(60)  # payload: looked at meanwhile
run = Run(main)
run.wait_said()
from procession.agent_proc.proctree import TreeScan
end = time.monotonic() + 5
while len(seen := TreeScan(run.guarded.keeper_pid).look()) > 1 and time.monotonic() < end:
    os.sched_yield()
run.command(b"K")
report(run.outcome(beside_main=len(seen) - 1))
"""
    outcome = only(run_script(body))
    assert (outcome["notes"]["beside_main"], outcome["ended"]["found"], outcome["ended"]["left"]) == (0, 0, 0)


# --- whose end ends it --------------------------------------------------------------------------------------------
TREE = """
def tree():
    leave_daemon()
    if os.fork() == 0:
        os.setsid()
        ignore_sigterm()
    wait_for_ever()
"""


@pytest.mark.guarantee("R-26")
def test_kill_9_of_the_owner_ends_everything() -> None:
    body = TREE + "run = Run(tree)\nrun.wait_said()\nreport({'keeper': run.guarded.keeper_pid})\ntime.sleep(60)"
    with Script(body) as script:
        script.line()
        assert len(script.pids()) >= 4
        script.process.kill()
        wait_until(lambda: not script.pids(), "everything below the owner gone", timeout_s=2)


def test_the_death_of_the_host_ends_everything_and_is_the_cause() -> None:
    body = (
        TREE
        + """
import subprocess
host = subprocess.Popen(["sleep", "60"], env={})
run = Run(tree, host_pidfd=os.pidfd_open(host.pid))
run.wait_said()
host.kill()
report(run.outcome())
"""
    )
    outcome = only(run_script(body))
    assert (outcome["ended"]["cause"], outcome["ended"]["left"], outcome["survivors"]) == ("host_gone", 0, 0)
    assert outcome["ended"]["found"] >= 1


def test_a_closed_control_pipe_ends_everything() -> None:
    body = TREE + "run = Run(tree)\nrun.wait_said()\nos.close(run.guarded.ctl_w)\nreport(run.outcome())"
    outcome = only(run_script(body))
    assert (outcome["ended"]["cause"], outcome["ended"]["left"], outcome["survivors"]) == ("asked", 0, 0)


NESTED = (
    TREE
    + """
def session():
    inner = Run(tree)
    inner.wait_said()
    say(str(inner.guarded.keeper_pid))
    ended = next(inner._records, None)
    say("lost" if ended is None else ended.cause)
    time.sleep(60)  # payload: the session goes on
outer = Run(session)
keeper = int(outer.wait_said())
"""
)


@pytest.mark.guarantee("R-77")
def test_kill_9_of_a_nested_keeper_leaves_nothing_that_the_outer_one_does_not_find() -> None:
    body = (
        NESTED
        + """
os.kill(keeper, signal.SIGKILL)
heard = outer.wait_said().decode()
outer.command(b"K")
report(outer.outcome(heard=heard))
"""
    )
    outcome = only(run_script(body))
    assert outcome["notes"]["heard"] == "lost"
    assert (outcome["ended"]["found"] >= 1, outcome["ended"]["left"], outcome["survivors"]) == (True, 0, 0)


@pytest.mark.guarantee("R-77")
def test_a_stopped_nested_keeper_does_not_save_its_run() -> None:
    body = (
        NESTED
        + """
os.kill(keeper, signal.SIGSTOP)
outer.command(b"K")
report(outer.outcome())
"""
    )
    outcome = only(run_script(body))
    assert (outcome["ended"]["cause"], outcome["ended"]["left"], outcome["survivors"]) == ("asked", 0, 0)


@BOTH_METHODS
def test_the_end_of_the_outer_domain_is_the_end_of_the_nested_ones(method: str) -> None:
    body = NESTED.replace("Run(session)", f"Run(session, method={method!r})")
    outcome = only(run_script(body + "outer.command(b'T')\nreport(outer.outcome())"))
    assert (outcome["ended"]["cause"], outcome["ended"]["left"], outcome["survivors"]) == ("asked", 0, 0)
    assert outcome["ended"]["found"] >= 4


# --- what it cannot reach -----------------------------------------------------------------------------------------
@needs_scope
@BOTH_USERS
def test_the_guarded_process_can_signal_neither_keeper_nor_owner(as_plain_user: bool, plain_user: User) -> None:
    body = """
def main():
    heard = []
    owner = int(open(f"/proc/{os.getppid()}/stat").read().rpartition(")")[2].split()[1])
    for pid in (os.getppid(), owner, -1):
        for number in (0, signal.SIGSTOP, signal.SIGKILL):
            try:
                os.kill(pid, number)
                heard.append("sent")
            except OSError as problem:
                heard.append(type(problem).__name__)
    say(" ".join(heard))
run = Run(main)
heard = run.wait_said().decode().split()
report(run.outcome(heard=heard, owner_alive=True))
"""
    outcome = only(run_script(body, plain_user if as_plain_user else None))
    heard = outcome["notes"]["heard"]
    assert heard[:6] == ["PermissionError"] * 6
    assert len(heard) == 9  # kill(-1) may say what it likes: we are all still here to read it
    assert (outcome["ended"]["raw_status"], outcome["ended"]["cause"]) == (0, "exit")


def test_the_guarded_process_has_the_descriptors_it_was_given_and_no_others() -> None:
    body = """
extra = os.open("/dev/null", os.O_RDONLY)
given = os.open("/dev/zero", os.O_RDONLY)
run = Run(lambda: say(" ".join(sorted(os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")[3:]
          if os.path.exists(f"/proc/self/fd/{n}")))), keep_fds=[given])
heard = run.wait_said().decode()
report(run.outcome(heard=heard))
"""
    heard = only(run_script(body))["notes"]["heard"].split()
    assert [name for name in heard if not name.startswith("pipe:")] == ["/dev/zero"]
    assert len(heard) == 2


def test_the_guarded_process_leads_a_session_and_blocks_no_signal() -> None:
    body = """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
def main():
    say(repr((signal.pthread_sigmask(signal.SIG_BLOCK, []), os.getsid(0) == os.getpid())))
run = Run(main)
heard = run.wait_said().decode()
report(run.outcome(heard=heard))
"""
    assert only(run_script(body))["notes"]["heard"] == "(set(), True)"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_keeper_minds_no_signal_but_those_nobody_can_refuse(number: int) -> None:
    body = f"""
run = Run(wait_for_ever)
run.wait_said()
os.kill(run.guarded.keeper_pid, {int(number)})
run.command(b"K")
report(run.outcome())
"""
    outcome = only(run_script(body))
    assert (outcome["ended"]["cause"], outcome["keeper_status"]) == ("asked", 0)


def test_a_process_with_threads_is_refused() -> None:
    body = """
import threading
stop = threading.Event()
threading.Thread(target=stop.wait, name="one-too-many").start()
try:
    Run(lambda: None)
except RuntimeError as problem:
    report([str(problem)])
stop.set()
"""
    assert "one-too-many" in only(run_script(body))[0]


# --- limits -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "bomb",
    [
        "hold = []\n    while True:\n        hold.append(bytearray(1 << 20)); time.sleep(0.002)  # payload",
        "if os.fork() == 0:\n        hold = [bytearray(96 << 20)]\n        time.sleep(60)  # payload\n    os.wait()",
    ],
    ids=["slowly", "in a child"],
)
def test_a_tree_over_its_memory_is_killed(bomb: str) -> None:
    body = f"def main():\n    {bomb}\nreport(guard(main, limits=limits(memory='64M')))"
    outcome = only(run_script(body))
    ended = outcome["ended"]
    assert (ended["cause"], ended["raw_status"], ended["left"]) == ("memory", signal.SIGKILL, 0)
    assert ended["peak_memory_bytes"] > 64 * MiB


def test_a_bomb_faster_than_the_watch_meets_the_kernel_first() -> None:
    body = """
from procession.agent_proc.rlimits import apply_rlimits
def main():
    apply_rlimits(limits(memory="64M"))
    hold = []
    try:
        while True:
            hold.append(bytearray(64 << 20))
    except MemoryError:
        say(str(len(hold)))
run = Run(main, limits=limits(memory="64M"))
import select
ready = select.poll()
ready.register(run.said_r, select.POLLIN)
ready.poll(10_000)
heard = os.read(run.said_r, 100).decode()
report(run.outcome(heard=heard))
"""
    outcome = only(run_script(body))
    # Either the kernel refused it (at most 2 x 64 + 64 MiB more), or the watch happened to look in time.
    assert outcome["ended"]["cause"] == "memory" or int(outcome["notes"]["heard"]) <= 3
    assert 60 * MiB < outcome["ended"]["peak_memory_bytes"] < 260 * MiB


def test_numpy_can_be_imported_within_256_mib() -> None:
    pytest.importorskip("numpy", reason="numpy is a development dependency only")
    body = """
from procession.agent_proc.rlimits import apply_rlimits
wanted = limits(memory="256M")
def main():
    apply_rlimits(wanted)
    import numpy
    say(str(numpy.ones((1000, 1000)).dot(numpy.ones((1000, 1000))).sum()))
run = Run(main, limits=wanted)
heard = run.wait_said().decode()
report(run.outcome(heard=heard))
"""
    outcome = only(run_script(body))
    assert (outcome["ended"]["cause"], outcome["notes"]["heard"]) == ("exit", "1000000000.0")


def test_pages_that_forked_children_share_are_not_charged_again_and_again() -> None:
    body = f"""
def main():
    shared = os.urandom({48 * MiB})
    for _ in range(4):
        if os.fork() == 0:
            time.sleep(0.4)  # payload: seen by the watch
            os._exit(0)
    for _ in range(4):
        os.wait()
report(guard(main, limits=limits(memory="96M")))
"""
    ended = only(run_script(body))["ended"]
    assert (ended["cause"], ended["raw_status"]) == ("exit", 0)
    assert 40 * MiB < ended["peak_memory_bytes"] < 96 * MiB


@pytest.mark.parametrize("where", ["here", "in children"])
def test_a_tree_over_its_cpu_time_is_killed(where: str) -> None:
    body = f"""
def main():
    if {where == "here"}:
        while True: pass
    while True:
        if os.fork() == 0:
            end = time.process_time() + 0.1
            while time.process_time() < end: pass
            os._exit(0)
        os.wait()
report(guard(main, limits=limits(cpu_s=0.5)))
"""
    ended = only(run_script(body))["ended"]
    assert (ended["cause"], ended["raw_status"], ended["left"]) == ("cpu", signal.SIGKILL, 0)
    assert 0.45 <= ended["cpu_s"] < 1.5


def test_a_tree_with_too_many_processes_is_killed() -> None:
    body = """
def main():
    for _ in range(30):
        if os.fork() == 0:
            time.sleep(60)  # payload
    time.sleep(60)  # payload
report(guard(main, limits=limits(processes=8)))
"""
    outcome = only(run_script(body))
    ended = outcome["ended"]
    assert (ended["cause"], ended["left"], outcome["survivors"]) == ("processes", 0, 0)
    assert ended["found"] >= 8


def test_a_run_within_its_limits_is_left_alone() -> None:
    body = """
def main():
    data = bytearray(8 << 20)
    if os.fork() == 0:
        os._exit(0)
    os.wait()
    time.sleep(0.2)  # payload: seen by the watch
report(guard(main, limits=limits(memory="64M", cpu_s=5, processes=4)))
"""
    ended = only(run_script(body))["ended"]
    assert (ended["cause"], ended["raw_status"], ended["method"]) == ("exit", 0, "none")
    assert 7 * MiB < ended["peak_memory_bytes"] < 24 * MiB


def test_the_kernel_holds_files_sizes_and_cores() -> None:
    body = """
import errno, resource, tempfile
from procession.agent_proc.rlimits import apply_rlimits
def main():
    apply_rlimits(limits(open_files=32, file_size="64K"))
    heard = [resource.getrlimit(resource.RLIMIT_CORE)[1]]
    with tempfile.TemporaryFile() as file:
        try:
            os.pwrite(file.fileno(), b"x", 1 << 20)
        except OSError as problem:
            heard.append(errno.errorcode[problem.errno])
    try:
        hold = [os.open("/dev/null", os.O_RDONLY) for _ in range(64)]
    except OSError as problem:
        heard.append(errno.errorcode[problem.errno])
    say(repr(heard))
run = Run(main)
heard = run.wait_said().decode()
report(run.outcome(heard=heard))
"""
    assert only(run_script(body))["notes"]["heard"] == "[0, 'EFBIG', 'EMFILE']"


def test_the_helpers_see_processes_of_a_case(tmp_path: Path) -> None:
    with Script("report([os.getpid()])\ntime.sleep(60)") as script:
        pid = script.line()[0]
        assert script.pids() == [pid]
        assert state_of(pid) in {"S", "R"}
