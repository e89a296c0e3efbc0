"""A zygote's promises, asked of it as its host asks: over its socket, with real forks behind it."""

import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from helpers.guarded import CASE_VARIABLE, pids_with, read_records, state_of, wait_readable
from helpers.proc import look_at
from helpers.runs import REPOSITORY, User, python_for
from helpers.waiting import wait_until
from procession.agent_proc.descriptors import FORK_FDS
from procession.agent_proc.proctree import TreeScan
from procession.agent_proc.zygote import EXIT_BUG
from procession.ipc import kill_points
from procession.ipc.core.bounds import WIRE_VERSION
from procession.ipc.core.messages import (
    Born,
    Ended,
    Fork,
    Forked,
    ForkFailed,
    KeeperGone,
    ZygoteFailed,
    ZygoteHello,
    decoder,
    encode,
)

pytestmark = pytest.mark.process

TESTS = str(REPOSITORY / "tests")
SNIPPET = """\
import json, socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
config = json.loads(sock.recv(1 << 20))
sys.path[:] = config["sys_path"]
from procession.agent_proc.zygote import main
main(sock, config, int(sys.argv[2]))
"""
ANSWER_S = 20.0
_read = decoder("from_zygote")


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _is_asleep(pid: int) -> bool:
    seen = look_at(pid)
    return seen is not None and seen.state == "S"


class Forkling:
    """One forked session as the test holds it."""

    def __init__(self, theirs: list[int], ours: dict[str, int]) -> None:
        self.theirs = theirs
        self.fds = ours
        self.keeper_pid = 0
        self.born: Born | None = None
        self._records = read_records(ours["status"])

    @property
    def pid(self) -> int:
        assert self.born is not None
        return self.born.pid

    def script(self, text: str) -> None:
        os.write(self.fds["mail"], text.encode())

    def heard(self) -> str:
        wait_readable(self.fds["reply"])
        return os.read(self.fds["reply"], 65536).decode().strip()

    def record(self) -> Born | Ended | None:
        return next(self._records, None)

    def close(self) -> None:
        for fd in [*self.theirs, *self.fds.values()]:
            os.close(fd)
        self.theirs, self.fds = [], {}

    def close_theirs(self) -> None:
        for fd in self.theirs:
            os.close(fd)
        self.theirs = []


class Zygote:
    """A zygote started as a host starts it."""

    def __init__(
        self,
        *preload: str,
        host_pid: int | None = None,
        folder: Path | None = None,
        user: User | None = None,
        kill_point: str = "",
        scripted: bool = True,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.case = uuid.uuid4().hex
        self.forklings: list[Forkling] = []
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(ANSWER_S)
        host_pidfd = os.pidfd_open(host_pid or os.getpid())
        python = python_for(user)
        env = python.environment(os.environ | {CASE_VARIABLE: self.case, kill_points.VARIABLE: kill_point}, user)
        other = user is not None and user.is_somebody_else
        self.process = subprocess.Popen(
            [python.executable, "-I", "-c", SNIPPET, str(theirs.fileno()), str(host_pidfd)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd="/",
            pass_fds=(theirs.fileno(), host_pidfd),
            start_new_session=True,
            preexec_fn=prepare,
            user=user.uid if user and other else None,
            group=user.gid if user and other else None,
            extra_groups=[] if other else None,
        )
        theirs.close()
        os.close(host_pidfd)
        own_path = [entry for entry in sys.path if os.path.isabs(entry)]
        path = own_path if python.executable == sys.executable else _path_of(python.executable)
        folders = [TESTS, *python.import_path.split(os.pathsep), *path] + ([str(folder)] if folder else [])
        config = {
            "version": WIRE_VERSION,
            "sys_path": folders,
            "preload": [*(["helpers.scripted_session"] if scripted else []), *preload],
            "host_pid": os.getpid(),
        }
        self.sock.send(json.dumps(config).encode())
        presence = os.memfd_create("presence")
        socket.send_fds(self.sock, [b"presence"], [presence])
        os.close(presence)

    def packet(self) -> tuple[Any, list[int]]:
        data, fds, _, _ = socket.recv_fds(self.sock, 65536, 1)
        return (_read(data) if data else None), fds

    def answer(self) -> Any:
        message, fds = self.packet()
        for fd in fds:
            os.close(fd)
        return message

    def hello(self) -> Self:
        message = self.answer()
        assert isinstance(message, ZygoteHello), message
        return self

    def ask(self, req: int = 1) -> Forkling:
        """Send a Fork with eight descriptors; the answer is still to be read."""
        mail_r, mail_w = os.pipe()
        reply_r, reply_w = os.pipe()
        ctl_r, ctl_w = os.pipe()
        status_r, status_w = os.pipe()
        crash_r, crash_w = os.pipe()
        memory = [os.memfd_create(name) for name in ("page", "in", "out")]
        forkling = Forkling(
            [mail_r, reply_w, *memory, crash_w, ctl_r, status_w],
            {"mail": mail_w, "reply": reply_r, "ctl": ctl_w, "status": status_r, "crash": crash_r},
        )
        self.forklings.append(forkling)
        assert len(forkling.theirs) == FORK_FDS
        socket.send_fds(self.sock, [encode(Fork(req))], forkling.theirs)
        return forkling

    def fork(self, script: str | None = None, req: int = 1) -> Forkling:
        """Fork a session and let it run a script."""
        forkling = self.ask(req)
        forked, fds = self.packet()
        assert isinstance(forked, Forked), forked
        assert forked.req == req
        assert len(fds) == 1
        forkling.fds["pidfd"] = fds[0]
        forkling.keeper_pid = forked.keeper_pid
        forkling.close_theirs()
        born = forkling.record()
        assert isinstance(born, Born)
        forkling.born = born
        if script is not None:
            forkling.script(script)
        return forkling

    def everything(self) -> list[int]:
        """List every living process of this zygote's, itself included."""
        return pids_with(f"{CASE_VARIABLE}={self.case}\0".encode())

    def pids(self) -> list[int]:
        """List the same, but for the keeper that is forked ahead."""
        return [pid for pid in self.everything() if _name_of(pid) != "keeper blank"]

    def blank(self) -> int:
        """Wait until a keeper is forked ahead and waits for its order, bound to its zygote by then; return its pid."""
        found: list[int] = []

        def waits() -> bool:
            found[:] = [pid for pid in self.everything() if _name_of(pid) == "keeper blank" and _is_asleep(pid)]
            return bool(found)

        wait_until(waits, "a keeper is forked ahead")
        return found[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
        for forkling in self.forklings:
            forkling.close()
        try:
            self.process.communicate(timeout=10)
        finally:
            self.process.kill()
            self.process.communicate(timeout=10)  # what it left may hold the pipe: that is a failure, not a wait


def _path_of(executable: str) -> list[str]:
    told = subprocess.run(
        [executable, "-I", "-c", "import json, sys; print(json.dumps(sys.path))"],
        check=True,
        capture_output=True,
        text=True,
        timeout=10,
    )
    return [entry for entry in json.loads(told.stdout) if entry]


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    with Zygote() as started:
        yield started.hello()


def write_module(folder: Path, text: str, name: str = "preloaded") -> str:
    (folder / f"{name}.py").write_text(text)
    return name


DAEMON = f"""
import sys; sys.path.insert(0, {TESTS!r})
from helpers.guarded import leave_daemon, hop
"""
#: A session with a daemon, a child that ignores SIGTERM in a session of its own, and a run under a nested keeper.
TREE = (
    DAEMON
    + """
import os, signal, time
leave_daemon()
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True: time.sleep(60)
from procession.agent_proc.keeper import fork_guarded
ready_r, ready_w = os.pipe()
def run():
    leave_daemon()
    os.write(ready_w, b"x")
    time.sleep(60)
fork_guarded(run, keep_fds=[ready_w], host_pidfd=host_pidfd, parent_pidfd=None, limits=None, term_grace_s=0.25, label="r")
os.read(ready_r, 1)
say("ready")
while True: time.sleep(60)
"""
)
TREE_PROCESSES = 7  # outer keeper, session, its daemon and child; nested keeper, run, its daemon


# --- forking ------------------------------------------------------------------------------------------------------
def test_a_forked_session_stands_below_its_keeper_and_that_below_the_zygote(zygote: Zygote) -> None:
    session = zygote.fork("import os; say(os.getppid()); os.read(mail_r, 1)")
    assert session.heard() == str(session.keeper_pid)
    assert look_at(session.keeper_pid).parent == zygote.process.pid  # type: ignore[union-attr]
    session.script("x")
    ended = session.record()
    assert isinstance(ended, Ended)
    assert (ended.raw_status, ended.cause, ended.found, ended.left) == (0, "exit", 0, 0)
    gone = zygote.answer()
    assert gone == KeeperGone(session.keeper_pid, 0, 0)


@pytest.mark.guarantee("R-70")
def test_many_forks_leave_no_zombie_and_no_descriptor(zygote: Zygote, soak_factor: int) -> None:
    def held() -> int:
        return len(os.listdir(f"/proc/{zygote.process.pid}/fd"))

    zygote.blank()
    before = held()
    for req in range(1, 20 * soak_factor + 1):
        session = zygote.fork("say('x')", req)
        assert session.heard() == "x"
        assert zygote.answer() == KeeperGone(session.keeper_pid, 0, 0)
        session.close()
        zygote.forklings.clear()
    blank = zygote.blank()
    assert [stat.pid for stat in TreeScan(zygote.process.pid).look()] == [blank]
    assert held() == before


def test_a_session_has_its_own_streams_and_descriptors_only(zygote: Zygote) -> None:
    session = zygote.fork(
        "import os; os.write(1, b'out '); os.write(2, b'err');"
        "names = [f'/proc/self/fd/{n}' for n in sorted(os.listdir('/proc/self/fd'), key=int)];"
        "say('|'.join(os.readlink(name) for name in names if os.path.exists(name)))"
    )
    targets = session.heard().split("|")
    wait_readable(session.fds["crash"])
    assert os.read(session.fds["crash"], 100) == b"out err"
    assert targets[0] == "/dev/null"
    kinds = sorted(target.partition(":")[0] for target in targets[1:])
    # page, two arenas and the host's presence; the host, and what SIGCHLD comes through; crash twice, mailbox twice
    assert kinds == ["/memfd", "/memfd", "/memfd", "/memfd", "anon_inode", "anon_inode", "pipe", "pipe", "pipe", "pipe"]
    own = [os.readlink(f"/proc/{zygote.process.pid}/fd/{n}") for n in range(3)]
    assert own == ["/dev/null"] * 3


@pytest.mark.guarantee("R-28")
def test_no_two_forks_draw_the_same_random_numbers(soak_factor: int) -> None:
    pytest.importorskip("numpy", reason="numpy is a development dependency only")
    script = "import random, uuid, numpy; say(f'{random.random()} {uuid.uuid4()} {numpy.random.random()}')"
    drawn: list[set[str]] = [set(), set(), set()]
    forks = 20 * soak_factor
    with Zygote("numpy.random", "uuid") as zygote:
        zygote.hello()
        for req in range(1, forks + 1):
            session = zygote.fork(script, req)
            for numbers, number in zip(drawn, session.heard().split(), strict=True):
                numbers.add(number)
            assert isinstance(zygote.answer(), KeeperGone)
            session.close()
            zygote.forklings.clear()
    assert [len(numbers) for numbers in drawn] == [forks] * 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_only_its_host_ends_a_zygote(zygote: Zygote, number: int) -> None:
    os.kill(zygote.process.pid, number)
    assert zygote.fork("say('alive')").heard() == "alive"


def test_a_plain_user_has_all_of_it(plain_user: User) -> None:
    with Zygote(user=plain_user) as zygote:
        zygote.hello()
        session = zygote.fork(TREE)
        assert session.heard() == "ready"
        os.write(session.fds["ctl"], b"K")
        ended = session.record()
        assert isinstance(ended, Ended)
        assert (ended.cause, ended.left) == ("asked", 0)
        assert ended.found >= 4
        assert zygote.answer() == KeeperGone(session.keeper_pid, 0, 0)
        wait_until(lambda: zygote.pids() == [zygote.process.pid], "only the zygote is left")


def test_a_fork_that_the_kernel_refuses_is_answered_with_its_reason(plain_user: User) -> None:
    full = write_module(plain_user.home, "import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (1, 1))")
    with Zygote(full, user=plain_user, folder=plain_user.home) as zygote:
        zygote.hello()
        zygote.ask(7)
        answer = zygote.answer()
        assert isinstance(answer, ForkFailed)
        assert (answer.req, answer.errno) == (7, errno.EAGAIN)


def test_a_fork_without_room_for_its_descriptors_is_answered_and_the_next_one_served(zygote: Zygote) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.prlimit(zygote.process.pid, resource.RLIMIT_NOFILE, (8, limits[1]))
    zygote.ask(1)
    answer = zygote.answer()
    assert isinstance(answer, ForkFailed)
    assert "descriptor" in answer.text
    resource.prlimit(zygote.process.pid, resource.RLIMIT_NOFILE, limits)
    assert zygote.fork("say('served')", 2).heard() == "served"


# --- keepers forked ahead -----------------------------------------------------------------------------------------
def test_a_start_takes_the_keeper_that_was_forked_ahead_and_another_one_is(zygote: Zygote) -> None:
    blank = zygote.blank()
    session = zygote.fork("say('x'); import os; os.read(mail_r, 1)")
    assert (session.keeper_pid, session.heard()) == (blank, "x")
    assert zygote.blank() != blank


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_keeper_forked_ahead_that_is_lost_is_nobodys_loss(zygote: Zygote, number: int) -> None:
    blank = zygote.blank()
    os.kill(blank, number)
    # Reaped, not only dying: the kernel takes a process's memory, by which it is known, some time before its descriptors.
    wait_until(lambda: not Path(f"/proc/{blank}").exists(), "it is gone", timeout_s=5)
    session = zygote.fork("say('x'); import os; os.read(mail_r, 1)")
    assert session.heard() == "x"
    os.kill(session.keeper_pid, signal.SIGKILL)
    assert zygote.answer().keeper_pid == session.keeper_pid  # and of the other one nothing was said
    wait_until(lambda: _name_of(zygote.blank()) == "keeper blank", "there is another one")


def test_a_keeper_forked_ahead_ends_with_its_zygote_even_when_it_is_stopped(zygote: Zygote) -> None:
    blank = zygote.blank()
    zygote.process.send_signal(signal.SIGSTOP)  # so that it cannot see to it
    os.kill(blank, signal.SIGSTOP)
    zygote.process.kill()
    wait_until(lambda: zygote.everything() == [], "both are gone", timeout_s=2)


@pytest.mark.parametrize("spoil", ["", "os.close(spare)", "fds.reverse(); names.reverse()"])
def test_descriptors_are_put_in_their_places_wherever_they_come(spoil: str) -> None:
    script = f"""
import os
from procession.agent_proc.descriptors import FORK_FDS, Places
spare, host, signals = os.dup(0), os.memfd_create("host"), os.memfd_create("signals")
places = Places.reserve(host, signals)
names = [f"m{{n}}" for n in range(FORK_FDS)]
if {spoil!r}.startswith("os.close"):
    {spoil or "pass"}
fds = [os.memfd_create(name) for name in names]
if {spoil!r}.startswith("fds"):
    {spoil or "pass"}
places.take(fds)
assert fds == list(range(places.mail_r, places.status_w + 1))
for fd, name in zip((places.host_pidfd, places.child_signals, *fds), ["host", "signals", *names], strict=True):
    assert f"memfd:{{name}} " in os.readlink(f"/proc/self/fd/{{fd}}"), (fd, name)
    assert not os.get_inheritable(fd)
print(len(os.listdir("/proc/self/fd")))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert done.stderr == ""
    assert done.stdout


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="makes a raw system call by its x86-64 number")
def test_signals_that_glibc_keeps_for_itself_are_not_ignored_in_a_session() -> None:
    """A program started by posix_spawn, make's for one, has 32 and 33 ignored, and so would all that it executes."""

    def ignore() -> None:
        for number in (32, 33):
            ignored = (1).to_bytes(8, "little") + bytes(56)
            assert ctypes.CDLL(None).syscall(13, number, ignored, None, 8) == 0

    with Zygote(prepare=ignore) as zygote:
        zygote.hello()
        heard = zygote.fork("say([l for l in open('/proc/self/status') if l.startswith('SigIgn')])").heard()
        assert heard == "['SigIgn:\\t0000000001001000\\n']"  # SIGPIPE and SIGXFSZ, as in any Python


# --- preloads -----------------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-23")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import not_there_at_all", "No module named 'not_there_at_all'"),
        ("1 / 0", "ZeroDivisionError"),
        ("def broken(:", "SyntaxError"),
        ("import sys; sys.exit('no')", "SystemExit: no"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_a_preload_that_fails_is_told_with_its_traceback(text: str, expected: str, tmp_path: Path) -> None:
    with Zygote(write_module(tmp_path, text), folder=tmp_path) as zygote:
        failed = zygote.answer()
        assert isinstance(failed, ZygoteFailed)
        assert (failed.phase, failed.module) == ("import", "preloaded")
        assert "Traceback" in failed.text
        assert expected in failed.text
        assert zygote.process.wait(5) == 1


PYTHON_THREAD = "import threading\nthreading.Thread(target=threading.Event().wait, name='idler', daemon=True).start()"
BARE_THREAD = "import _thread, time\n_thread.start_new_thread(time.sleep, (60,))"
NATIVE_THREAD = (
    "import ctypes\nlibc = ctypes.CDLL(None)\nthread = ctypes.c_ulong()\n"
    "libc.pthread_create(ctypes.byref(thread), None, libc.pause, None)"
)


@pytest.mark.guarantee("R-25")
@pytest.mark.parametrize(
    ("text", "expected"), [(PYTHON_THREAD, "idler"), (BARE_THREAD, "thread"), (NATIVE_THREAD, "1 native thread")]
)
def test_a_preload_that_starts_threads_is_refused_by_name(text: str, expected: str, tmp_path: Path) -> None:
    innocent = write_module(tmp_path, "", "innocent")
    with Zygote(innocent, write_module(tmp_path, text), folder=tmp_path) as zygote:
        failed = zygote.answer()
        assert isinstance(failed, ZygoteFailed)
        assert (failed.phase, failed.module) == ("threads", "preloaded")
        assert expected in failed.text


@pytest.mark.guarantee("R-25")
@pytest.mark.parametrize(
    ("thread", "expected"), [(PYTHON_THREAD, "threads: idler"), (NATIVE_THREAD, "2 native threads")]
)
def test_a_zygote_that_has_got_threads_does_not_fork(thread: str, expected: str, tmp_path: Path) -> None:
    late = f"import gc\ndef later():\n    exec({thread!r}, {{}})\ngc.freeze = later"  # freezing is the last step before Hello
    with Zygote(write_module(tmp_path, late), folder=tmp_path) as zygote:
        zygote.hello()
        zygote.ask(3)
        answer = zygote.answer()
        assert isinstance(answer, ForkFailed)
        assert answer.req == 3
        assert expected in answer.text
        assert zygote.pids() == [zygote.process.pid]


def test_numpy_is_preloaded_with_one_thread() -> None:
    pytest.importorskip("numpy", reason="numpy is a development dependency only")
    with Zygote("numpy") as zygote:
        zygote.hello()
        session = zygote.fork(
            "import sys, os; loaded = 'numpy' in sys.modules; import numpy;"
            "total = float(numpy.ones((200, 200)).dot(numpy.ones((200, 200))).sum());"
            "say((loaded, total, len(os.listdir('/proc/self/task'))))"
        )
        assert session.heard() == "(True, 8000000.0, 1)"


def test_what_a_preload_prints_goes_to_the_host_and_what_it_starts_is_left_alone(tmp_path: Path) -> None:
    text = "import subprocess\nprint('hello from the preload')\nhelper = subprocess.Popen(['sleep', '60'])"
    with Zygote(write_module(tmp_path, text), folder=tmp_path) as zygote:
        zygote.hello()
        assert zygote.process.stdout is not None
        assert zygote.process.stdout.readline() == b"hello from the preload\n"
        session = zygote.fork("import preloaded; say(preloaded.helper.pid); os = __import__('os'); os.read(mail_r, 1)")
        helper = int(session.heard())
        os.kill(session.keeper_pid, signal.SIGKILL)
        assert zygote.answer() == KeeperGone(session.keeper_pid, signal.SIGKILL, 0)
        assert state_of(helper) == "S"
        os.kill(helper, signal.SIGKILL)


# --- lost keepers -------------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-77")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_keeper_takes_its_tree_along(zygote: Zygote, number: int) -> None:
    session, neighbour = zygote.fork(TREE, 1), zygote.fork("import os; say('x'); os.read(mail_r, 1)", 2)
    assert (session.heard(), neighbour.heard()) == ("ready", "x")
    wait_until(lambda: len(zygote.pids()) == 1 + TREE_PROCESSES + 2, "all are there")
    os.kill(session.keeper_pid, number)
    wait_until(lambda: len(zygote.pids()) == 3, "only the zygote and the neighbour are left", timeout_s=2)
    gone = zygote.answer()
    assert (gone.keeper_pid, gone.raw_status) == (session.keeper_pid, signal.SIGKILL)
    assert gone.strays >= 2
    assert session.record() is None
    assert state_of(neighbour.pid) == "S"


@pytest.mark.guarantee("R-77")
def test_a_keeper_lost_during_its_kill_leaves_nothing(zygote: Zygote) -> None:
    session = zygote.fork(TREE)
    assert session.heard() == "ready"
    os.write(session.fds["ctl"], b"T")
    os.kill(session.keeper_pid, signal.SIGKILL)
    wait_until(lambda: zygote.pids() == [zygote.process.pid], "only the zygote is left", timeout_s=2)


def test_a_fork_hopper_does_not_survive_its_lost_keeper(zygote: Zygote) -> None:
    session = zygote.fork(DAEMON + "import os, time\nhop(20000)\nsay('hopping')\ntime.sleep(60)")
    assert session.heard() == "hopping"
    os.kill(session.keeper_pid, signal.SIGKILL)
    gone = zygote.answer()
    assert (gone.keeper_pid, gone.raw_status) == (session.keeper_pid, signal.SIGKILL)
    wait_until(lambda: zygote.pids() == [zygote.process.pid], "only the zygote is left", timeout_s=2)


# --- ends ---------------------------------------------------------------------------------------------------------
def kill_zygote(zygote: Zygote) -> None:
    zygote.process.kill()


def hang_up(zygote: Zygote) -> None:
    zygote.sock.close()


def send_nonsense(zygote: Zygote) -> None:
    zygote.sock.send(b"\xc1 not a message")


def send_a_fork_without_descriptors(zygote: Zygote) -> None:
    zygote.sock.send(encode(Fork(9)))


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (kill_zygote, -signal.SIGKILL),
        (hang_up, 0),
        (send_nonsense, EXIT_BUG),
        (send_a_fork_without_descriptors, EXIT_BUG),
    ],
)
def test_the_end_of_a_zygote_is_the_end_of_its_sessions(
    zygote: Zygote, end: Callable[[Zygote], None], code: int
) -> None:
    sessions = [zygote.fork(TREE, req) for req in (1, 2)]
    assert [session.heard() for session in sessions] == ["ready", "ready"]
    zygote.blank()
    wait_until(lambda: len(zygote.pids()) == 1 + 2 * TREE_PROCESSES, "all are there")
    end(zygote)
    limit_s = 4.5 if end is hang_up else 2  # a zygote that is hung up on gives its keepers 2 s before it ends them
    wait_until(lambda: zygote.everything() == [], "everything below the zygote is gone", timeout_s=limit_s)
    assert zygote.process.wait(2) == code


def test_a_zygote_that_does_not_understand_says_why(zygote: Zygote) -> None:
    send_nonsense(zygote)
    output, _ = zygote.process.communicate(timeout=5)
    assert b"ProtocolBreach" in output


@pytest.mark.guarantee("R-26")
def test_the_death_of_the_host_ends_zygotes_keepers_and_sessions() -> None:
    host = subprocess.Popen(["sleep", "60"])
    try:
        with Zygote(host_pid=host.pid) as zygote:
            zygote.hello()
            session = zygote.fork(TREE)
            assert session.heard() == "ready"
            host.kill()
            wait_until(lambda: zygote.pids() == [], "everything is gone", timeout_s=2)
            output, _ = zygote.process.communicate(timeout=2)
            assert (zygote.process.returncode, output) == (0, b"")
            ended = session.record()
            assert isinstance(ended, Ended)
            assert (ended.cause, ended.left) == ("host_gone", 0)
    finally:
        host.kill()
        host.wait()


@pytest.mark.parametrize("point", ["before_fork", "after_fork"])
def test_a_zygote_killed_while_it_forks_leaves_no_orphan(point: str) -> None:
    with Zygote(kill_point=point) as zygote:
        zygote.hello()
        forkling = zygote.ask()
        forkling.close_theirs()
        assert zygote.process.wait(5) == -signal.SIGKILL
        wait_until(lambda: zygote.pids() == [], "nothing half-born is left", timeout_s=2)
        # EOF: nobody holds the other end. A dying process loses its memory, by which we looked, before its descriptors.
        assert select.select([forkling.fds["reply"]], [], [], 2)[0]
        assert os.read(forkling.fds["reply"], 1) == b""
