"""What every test gets: its own temporary world, the leak guard, and a plain user to run as.

The leak guard is an autouse fixture of function scope: pytest sets it up after the fixtures of wider scope and before
the test's other ones, and tears it down after the test's own and before the wider ones. That is the window it judges.
"""

import faulthandler
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

from helpers.leakguard import LeakGuard, shut_default_host
from helpers.proc import MARK_VARIABLE, kill_for_good
from helpers.runs import UNUSED_ID, User

KEEP_TEMP_VARIABLE = "PROCESSION_KEEP_TMP"
SOAK_VARIABLE = "PROCESSION_SOAK"

_guard_key = pytest.StashKey[LeakGuard]()


def pytest_configure(config: pytest.Config) -> None:
    """Give this pytest process a mark, a temporary folder and XDG folders of its own."""
    mark = uuid.uuid4().hex
    folder = Path(tempfile.mkdtemp(prefix="pt-", dir="/tmp"))  # short: a Unix socket's path has 107 bytes
    folder.chmod(0o711)  # a plain user of a test may pass through to a folder of theirs, not list it
    private = folder / "pytest-of-us"
    for name in ("DATA", "STATE", "CONFIG", "CACHE", "RUNTIME"):
        place = private / name.lower()
        place.mkdir(parents=True, mode=0o700)
        os.environ["XDG_RUNTIME_DIR" if name == "RUNTIME" else f"XDG_{name}_HOME"] = str(place)
    os.environ[MARK_VARIABLE] = mark
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    config.stash[_guard_key] = LeakGuard(mark, folder)
    os.kill = _kill_one
    for number in (
        signal.SIGINT,
        signal.SIGQUIT,
    ):  # what a shell puts into the background ignores them; tests send them
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)


_kill = os.kill


def _kill_one(pid: int, number: int) -> None:
    """Signal one process: 0 and below are whole groups, ours among them, and a test that lost a pid would stop this run."""
    assert pid > 0, f"a test would have signalled process group {pid}"
    _kill(pid, number)


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """Give what is left of a failed test (its teardown) a hard stop again: pytest takes it away at the failure."""
    after_s = float(node.config.getini("faulthandler_timeout"))
    faulthandler.dump_traceback_later(after_s, exit=True, file=node.config.stash[fault_handler_stderr_fd_key])


def pytest_unconfigure(config: pytest.Config) -> None:
    """End whatever this run started and is still there, and remove its folder."""
    guard = config.stash.get(_guard_key, None)
    if guard is None:
        return
    shut_default_host()
    survivors = guard.marked_processes()
    for process in survivors:
        kill_for_good(process)
    if survivors and not hasattr(config, "workerinput"):
        print("left at the end of the run and killed:", *survivors, sep="\n  ", file=sys.stderr)
    if os.environ.get(KEEP_TEMP_VARIABLE) != "1":
        shutil.rmtree(guard.temp_folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the soak tests out unless they were asked for."""
    if os.environ.get(SOAK_VARIABLE) == "1":
        return
    for item in items:
        if item.get_closest_marker("soak") is not None:
            item.add_marker(pytest.mark.skip(reason=f"full counts: only with {SOAK_VARIABLE}=1 (make soak)"))


@pytest.fixture(scope="session")
def leak_guard(request: pytest.FixtureRequest) -> LeakGuard:
    """Return the guard of this run, for tests that measure leaks themselves."""
    return request.config.stash[_guard_key]


@pytest.fixture(autouse=True)
def _leaves_nothing(leak_guard: LeakGuard) -> Iterator[None]:
    """Fail the test that leaves a descriptor, thread, process, temporary file or shared memory behind."""
    before = leak_guard.look()
    yield
    shut_default_host()
    leaks = leak_guard.settle(before)
    if leaks:
        leak_guard.end_survivors(leaks)
        pytest.fail(f"left behind by this test:\n{leaks}", pytrace=False)


@pytest.fixture
def plain_user() -> Iterator[User]:
    """Return a user without privileges: an unused id when we are root, ourselves otherwise."""
    home = Path(tempfile.mkdtemp(prefix="home-"))
    user = User(UNUSED_ID, UNUSED_ID, home) if os.getuid() == 0 else User(os.getuid(), os.getgid(), home)
    if user.is_somebody_else:
        os.chown(home, user.uid, user.gid)
    yield user
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def soak_factor() -> int:
    """Return how many times the small counts to run: 1, or 50 under `make soak`."""
    return 50 if os.environ.get(SOAK_VARIABLE) == "1" else 1
