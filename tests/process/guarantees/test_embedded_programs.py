"""procession inside programs of every kind: ones that fork, that are typed in, that have threads or a loop, that just end.

What `@isolated` does in them is in test_isolated.py; here it is hosts and sessions.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from helpers.hosts import WAIT_S, tree_below, wait_gone
from helpers.proc import ProcessSeen, look_at
from helpers.runs import python_for, run_python
from helpers.waiting import wait_until
from procession import AsyncHost, Host, HostLost, Sandbox, Session, isolated

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(120)]

THREADS = 8


def run_script(script: str, *args: str) -> dict[str, Any]:
    done = run_python(script, args=args, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told: dict[str, Any] = json.loads(done.stdout)
    return told


FORKS = """
import asyncio, json, os, sys, threading, traceback, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # Python 3.12 says so of any fork
from procession import AsyncHost, Host, HostLost, Sandbox

def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass
    return found

before = descriptors()
host = Host(sys.argv[1] or None, sandbox=Sandbox.off(), spares=1)
session = host.start_session()
command = session.start("sleep 1000")
future = session.submit(len, "abc")
future.result()
running = session.submit(__import__("time").sleep, 0.5)
following = host.events(follow=True)
folder = host.data_dir

def child():
    told = {"lost": {}, "left open": [], "folder": False}
    calls = {
        "run": lambda: session.run(len, "abc"),
        "submit": lambda: session.submit(len, "abc").result(5),
        "running": lambda: running.result(5),
        "exec": lambda: session.exec("true"),
        "status": session.status,
        "kill": session.kill,
        "command": command.kill,
        "start": host.start_session,
        "statistics": host.statistics,
        "list": host.list_sessions,
        "follow": lambda: next(following),
    }
    for name, call in calls.items():
        try:
            told["lost"][name] = repr(call())
        except HostLost as lost:
            told["lost"][name] = [lost.code, lost.ran]
        except BaseException as other:
            told["lost"][name] = repr(other)
    told["left open"] = [f"{fd} {what}" for fd, what in descriptors().items()
                         if fd not in before and fd not in (read, write) and "/proc/" not in what]
    host.close()
    told["folder"] = folder.is_dir()
    # and the child may have a host of its own
    with Host(sandbox=Sandbox.off()) as own, own.temporary_session() as mine:
        told["own"] = mine.run(len, "own")
    return told

read, write = os.pipe()
if os.fork() == 0:
    try:
        text = json.dumps(child())
    except BaseException:
        text = json.dumps({"failed": traceback.format_exc()})
    os.write(write, text.encode())
    os._exit(0)
os.close(write)
with os.fdopen(read) as pipe:
    told = {"child": json.loads(pipe.read())}
os.wait()
told["parent"] = [running.result(10), session.run(len, "abc"), session.status().incarnation, command.status().running]
told["surprises"] = [str(e) for e in host.events(since=0) if e.type in ("host.bug", "zygote.lost", "session.ended")]
following.close()
host.close()
print(json.dumps(told))
"""


@pytest.mark.parametrize("kind", ["ephemeral", "durable, with clients' socket"])
def test_a_program_that_forks_keeps_its_host_and_its_child_has_none(kind: str, tmp_path: Path) -> None:
    told = run_script(FORKS, "" if kind == "ephemeral" else str(tmp_path / "data"))
    child = told["child"]
    assert "failed" not in child, child["failed"]
    assert {name: how for name, how in child["lost"].items() if how[0] != "forked"} == {}
    assert {how[1] for name, how in child["lost"].items() if name not in ("running", "follow")} == {"no"}
    assert child["left open"] == []
    assert child["folder"], "closing its copy took the parent's folder away"
    assert child["own"] == 3
    assert told["parent"] == [None, 3, 1, True]
    assert told["surprises"] == []


REPL = """
from procession import Host, Sandbox
host = Host(sandbox=Sandbox.off())
s = host.start_session()

def double(n):
    return helper(n) * 2

def helper(n):
    return n

print("typed", s.run(double, 21))
print("lambda", s.run(lambda: helper(7)))
print("raised", end=" ")
try:
    s.run(lambda: 1 / 0)
except Exception as error:
    print(type(error).__name__, type(error.__cause__).__name__)

print("pid", s.status().pid)
"""


@pytest.mark.parametrize("ends", ["closed", "left open"])
def test_it_works_typed_into_an_interpreter(ends: str) -> None:
    python = python_for(None)
    done = subprocess.run(
        [python.executable, "-i", "-q"], check=False, capture_output=True, text=True, timeout=60,
        input=REPL + ("host.close()\n" if ends == "closed" else ""), env=python.environment(None, None),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.rpartition(">>> ")[2] for line in done.stdout.splitlines()]
    assert lines[:3] == ["typed 42", "lambda 7", "raised ToolRaised ZeroDivisionError"], done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert look_at(int(lines[3].split()[1])) is None, "the interpreter ended and its session did not"


def in_threads(work: Callable[[int], object]) -> list[object]:
    """Do it in all of them at the same moment; return what each got."""
    together = threading.Barrier(THREADS)

    def begin(number: int) -> object:
        together.wait(WAIT_S)
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


def meet(folder: str, number: int, count: int) -> int:
    """Come back once all the others are there too: only runs that are truly side by side ever do."""
    Path(folder, str(number)).touch()
    while len(os.listdir(folder)) < count:
        pass
    return number


def test_eight_threads_share_one_session_and_their_runs_are_side_by_side(host: Host, tmp_path: Path) -> None:
    with host.temporary_session() as session:
        assert in_threads(lambda number: session.run(meet, str(tmp_path), number, THREADS)) == list(range(THREADS))


def test_eight_threads_mix_every_kind_of_call_through_one_session(host: Host) -> None:
    with host.temporary_session() as session:

        def work(number: int) -> list[object]:
            got: list[object] = []
            for turn in range(5):
                got.append(session.echo(bytes([number]) * 1000) == bytes([number]) * 1000)
                got.append(session.run(pow, number, turn) == number**turn)
                got.append(session.submit(str, number).result(WAIT_S) == str(number))
                got.append(session.exec(["echo", str(number)]).text == f"{number}\n")
            return got

        assert in_threads(work) == [[True] * 20] * THREADS


def test_eight_threads_start_and_end_their_own_sessions(host: Host) -> None:
    def work(number: int) -> int:
        with host.temporary_session() as session:
            return session.run(pow, number, 2)

    assert in_threads(work) == [number**2 for number in range(THREADS)]
    assert host.list_sessions() == []


@isolated(timeout=30, sandbox=Sandbox.off())
def isolated_meet(folder: str, number: int) -> int:
    Path(folder, str(number)).touch()
    while len(os.listdir(folder)) < THREADS:
        pass
    return number


def test_eight_threads_call_isolated_side_by_side(tmp_path: Path) -> None:
    assert in_threads(lambda number: isolated_meet(str(tmp_path), number)) == list(range(THREADS))


def test_a_sync_host_works_inside_a_running_loop_and_in_its_threads(host: Host) -> None:
    async def main() -> None:
        with host.temporary_session() as session:
            assert session.run(len, "blocks the loop") == 15
            in_thread = asyncio.to_thread(session.run, len, "does not")
            async with AsyncHost(sandbox=Sandbox.off()) as other, other.temporary_session() as theirs:
                assert list(await asyncio.gather(in_thread, theirs.run(len, "beside it"))) == [8, 9]
            assert await asyncio.wrap_future(session.submit(len, "a future")) == 8

    asyncio.run(main())


XDIST = """
import os, time
import pytest
from procession import Host, Sandbox, ToolTimedOut, isolated

@pytest.fixture(scope="session")
def session():
    with Host(sandbox=Sandbox.off()) as host, host.temporary_session() as session:
        yield session

@isolated(timeout=20, sandbox=Sandbox.off())
def double(n):
    return os.environ["PYTEST_XDIST_WORKER"], n * 2

@pytest.mark.parametrize("n", range(6))
def test_it(session, n):
    assert session.run(pow, n, 2) == n ** 2
    assert double(n) == (os.environ["PYTEST_XDIST_WORKER"], n * 2)
    with pytest.raises(ToolTimedOut):
        session.run(time.sleep, 60, timeout=0.2)
"""


def test_it_works_under_pytest_xdist(tmp_path: Path) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    (tmp_path / "test_sample.py").write_text(XDIST)
    python = python_for(None)
    done = subprocess.run(
        [python.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "test_sample.py"],
        check=False, capture_output=True, text=True, timeout=90, cwd=tmp_path, env=python.environment(None, None),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout


CTRL_C = """
import json, os, sys, time
from procession import Host, Sandbox

def work():
    os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "1000")
    print("begun", flush=True)
    time.sleep(1000)

def show(chunk):
    print(chunk.text.strip(), flush=True)

with Host(sandbox=Sandbox.off()) as host, host.temporary_session() as session:
    session.run(len, "warm")
    told = {}
    try:
        if sys.argv[1] == "run":
            session.run(work, timeout=60, on_output=show)
        elif sys.argv[1] == "exec":
            session.exec("sleep 1000 & echo begun; sleep 1000", timeout=60, on_output=show)
        else:
            call = session.submit(work, timeout=60, on_output=show)
            call.result()
    except KeyboardInterrupt as interrupt:
        told["notes"] = interrupt.__notes__ if hasattr(interrupt, "__notes__") else []
    told["calls"] = [call.outcome for call in session.calls()]
    told["incarnation"] = session.status().incarnation
    told["again"] = session.run(len, "again")
print(json.dumps(told))
"""


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_ctrl_c_in_a_call_ends_its_work_and_says_so(verb: str) -> None:
    python = python_for(None)
    with subprocess.Popen(
        [python.executable, "-c", CTRL_C, verb], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=python.environment(None, None), start_new_session=True,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        assert program.stdout.readline() == "begun\n"
        sleepers: list[ProcessSeen] = []

        def sleep_began() -> bool:  # "begun" may be said before the fork has become the command
            sleepers[:] = [seen for seen in tree_below(program.pid) if "sleep 1000" in seen.command]
            return bool(sleepers)

        wait_until(sleep_began, "the child of the work sleeps")
        program.send_signal(signal.SIGINT)
        out, error = program.communicate(timeout=WAIT_S)
    assert error == ""
    assert program.returncode == 0
    told = json.loads(out)
    (note,) = told["notes"]
    assert "was cancelled (cancelled_in_session" in note
    assert "0 processes left" in note or "0 left" in note
    assert any("cancel" in outcome for outcome in told["calls"]), told["calls"]
    assert (told["incarnation"], told["again"]) == (1, 5), "the session itself was not touched"
    wait_gone(sleepers, timeout_s=2)


def work_with_a_child() -> None:
    os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "1000")
    print("begun", flush=True)
    signal.pause()


def test_a_cancelled_task_ends_the_work_of_its_call_and_says_so() -> None:
    async def main() -> None:
        async with AsyncHost(sandbox=Sandbox.off()) as host, host.temporary_session() as session:
            begun = asyncio.Event()
            task = asyncio.create_task(session.run(work_with_a_child, on_output=lambda _: begun.set()))
            await asyncio.wait_for(begun.wait(), WAIT_S)
            status = await session.status()
            assert status.pid is not None
            works = tree_below(status.pid)
            assert len(works) >= 3  # keeper, worker, its child
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert any("cancelled_in_session" in note for note in caught.value.__notes__)
            wait_gone(works, timeout_s=2)
            assert await session.run(len, "again") == 5
            assert (await session.status()).pid == status.pid

    asyncio.run(main())


def test_a_timeout_block_around_a_call_ends_its_work_too() -> None:
    async def main() -> None:
        async with AsyncHost(sandbox=Sandbox.off()) as host, host.temporary_session() as session:
            await session.run(len, "warm")
            pid = (await session.status()).pid
            assert pid is not None
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await session.run(work_with_a_child)
            wait_until(lambda: not tree_below(pid), "the end of the run's tree", timeout_s=2)
            assert await session.run(len, "again") == 5

    asyncio.run(main())


ENDS = """
import asyncio, os, sys, threading
from procession import AsyncHost, Host, Sandbox

how = sys.argv[1]

def use(host, session):
    session.start("trap '' TERM; sleep 1000")
    session.exec("setsid nohup sleep 1000 >/dev/null 2>&1 & echo")
    session.submit(__import__("signal").pause)
    print(host.data_dir, session.status().pid, *host._link.backend.zygotes.pids, flush=True)

async def in_a_loop():
    host = AsyncHost(sandbox=Sandbox.off())
    session = await host.start_session()
    await session.start("sleep 1000")
    print(host.data_dir, (await session.status()).pid, *host._link.backend.zygotes.pids, flush=True)
    input()

if how == "a loop that is left":
    asyncio.run(in_a_loop())
else:
    host = Host(sandbox=Sandbox.off())
    use(host, host.start_session())
    input()
    if how == "sys.exit":
        sys.exit(0)
    if how == "an exception":
        raise LookupError("of the program")
    if how == "os._exit":
        os._exit(0)
    if how == "in a thread":
        threading.Thread(target=lambda: host.statistics()).start()
"""


@pytest.mark.parametrize(
    "how", ["falls off the end", "sys.exit", "an exception", "in a thread", "os._exit", "a loop that is left"]
)
def test_an_interpreter_that_ends_with_an_open_host_leaves_nothing(how: str) -> None:
    python = python_for(None)
    with subprocess.Popen(
        [python.executable, "-c", ENDS, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=python.environment(None, None),
    ) as program:  # fmt: skip
        assert program.stdout is not None
        folder, *pids = program.stdout.readline().split()
        tree = tree_below(program.pid)
        assert {int(pid) for pid in pids} <= {seen.pid for seen in tree}
        assert any("sleep" in seen.command for seen in tree)
        _, error = program.communicate("\n", timeout=WAIT_S)
    assert program.returncode == (1 if how == "an exception" else 0)
    told = [line for line in error.splitlines() if line and not line.startswith((" ", "Traceback"))]
    assert told == (["LookupError: of the program"] if how == "an exception" else [])
    wait_gone(tree, timeout_s=2)
    if how == "os._exit":  # nobody could tidy up: the next host on this machine does
        with Host(sandbox=Sandbox.off()):
            pass
    assert not Path(folder).exists()


def test_what_follows_a_host_ends_with_it() -> None:
    """A reader that waits for the next event is told that none will come; one of a session that is removed just ends."""
    ends: list[object] = []
    begun = threading.Semaphore(0)

    def follow(of: Host | Session, kind: str) -> None:
        following = of.events(follow=True) if isinstance(of, Host) or kind == "events" else of.logs(follow=True)
        begun.release()
        try:
            for _ in following:
                pass
            ends.append((kind, "over"))
        except HostLost as lost:
            ends.append((kind, lost.code))

    with Host(sandbox=Sandbox.off()) as host:
        session = host.start_session()
        readers = [
            threading.Thread(target=follow, args=(of, kind))
            for of, kind in ((host, "host"), (session, "events"), (session, "logs"))
        ]
        for reader in readers:
            reader.start()
        for _ in readers:
            assert begun.acquire(timeout=WAIT_S)
        host.remove_session(session.id)
        for reader in readers[1:]:
            reader.join(WAIT_S)
        assert sorted(map(str, ends)) == ["('events', 'over')", "('logs', 'over')"]
    readers[0].join(WAIT_S)
    assert ends[2:] == [("host", "closed")]


def test_a_host_may_be_made_used_and_closed_by_different_threads() -> None:
    hosts: list[Host] = []

    def make() -> None:
        hosts.append(Host(sandbox=Sandbox.off()))

    def close() -> None:
        hosts[0].close()

    maker = threading.Thread(target=make)
    maker.start()
    maker.join(WAIT_S)
    session = hosts[0].start_session()
    assert session.run(len, "abc") == 3
    closer = threading.Thread(target=close)
    closer.start()
    closer.join(WAIT_S)
    with pytest.raises(HostLost):
        session.run(len, "abc")
    assert sys.exc_info() == (None, None, None)
