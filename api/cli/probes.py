"""What this machine has of what procession uses: each layer tried, not looked up; and a probe session that really runs.

It is *not* a report: `doctor.py` prints one. Rule: a probe changes nothing, leaves nothing, and never raises; a layer that
cannot be had says so and what that means.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from procession.api.cli.client import Asker
from procession.api.cli.output import size
from procession.api.core import plans
from procession.ipc.core.errors import ProcessionError
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import StartBody

State = Literal["on", "off", "unavailable"]

_PR_GET_CHILD_SUBREAPER: Final = 37
_PR_GET_NO_NEW_PRIVS: Final = 39
_SYS_LANDLOCK_CREATE_RULESET: Final = 444  # the same on every architecture
_LANDLOCK_CREATE_RULESET_VERSION: Final = 1
#: The first ABI that scopes signals (Linux 6.12).
_SIGNAL_SCOPE_ABI: Final = 6
#: A session takes about a dozen descriptors of its host; below this the default of 100 sessions does not fit.
_OPEN_FILES_WANTED: Final = 2048
_PROBE_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True)
class Layer:
    """One thing that is used. needed: without it nothing starts. hint: what its absence means, or what helps."""

    name: str
    state: State
    detail: str
    needed: bool = True
    hint: str = ""

    @property
    def is_missing(self) -> bool:
        """Whether it has to be there and is not."""
        return self.needed and self.state != "on"


def _layer(name: str, probe: Callable[[], str], *, needed: bool = True, hint: str = "") -> Layer:
    """Try a layer: what `probe` returns is its detail, an OSError or AttributeError means that it cannot be had."""
    try:
        return Layer(name, "on", probe(), needed)
    except (OSError, AttributeError, ValueError) as problem:
        text = os.strerror(problem.errno) if isinstance(problem, OSError) and problem.errno else str(problem)
        return Layer(name, "unavailable", text, needed, hint)


def layers(data_dir: Path) -> list[Layer]:
    """Try everything but the probe session."""
    return [
        _python(),
        _layer("pidfd", _pidfd, hint="Linux 5.3 or newer is needed"),
        _layer("memfd sealing", _memfd, hint="Linux 3.17 or newer is needed"),
        _layer("subreaper", lambda: f"prctl answers {_prctl(_PR_GET_CHILD_SUBREAPER)}", hint="Linux 3.4 or newer"),
        _layer("no new privileges", _no_new_privileges),
        _landlock(),
        _layer("/proc", _proc, hint="mount /proc, without hidepid=2"),
        _open_files(),
        _processes(),
        _data_dir(data_dir),
        _layer("temporary folder", _temporary_folder, hint="set TMPDIR to a folder that can be written"),
        _layer("clock", _clock),
        Layer("confinement", "unavailable", "not part of this version", needed=False,
              hint="only --sandbox off starts: limits, deadlines and the kill domain hold, files and network are open"),
    ]  # fmt: skip


def _python() -> Layer:
    state: State = "on" if sys.version_info >= (3, 11) else "unavailable"
    return Layer("python", state, f"{sys.version.split()[0]} at {sys.executable}", hint="3.11 or newer is needed")


def _pidfd() -> str:
    os.close(os.pidfd_open(os.getpid()))
    return f"pidfd_open works, Linux {os.uname().release}"


def _memfd() -> str:
    fd = os.memfd_create("procession-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    finally:
        os.close(fd)
    return "sealed memory files work"


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(question: int) -> int:
    answer = ctypes.c_int(0)
    # PR_GET_CHILD_SUBREAPER writes to its argument, PR_GET_NO_NEW_PRIVS returns the answer and takes zeros.
    first = ctypes.byref(answer) if question == _PR_GET_CHILD_SUBREAPER else ctypes.c_ulong(0)
    zero = ctypes.c_ulong(0)
    result: int = _libc().prctl(question, first, zero, zero, zero)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer.value if question == _PR_GET_CHILD_SUBREAPER else result


def _no_new_privileges() -> str:
    return "set here already" if _prctl(_PR_GET_NO_NEW_PRIVS) else "can be set"


def _landlock() -> Layer:
    """Landlock scopes the signal that ends a tree; without it a tree is ended by a sweep."""
    abi = _libc().syscall(_SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION)
    hint = "trees are ended by a sweep through /proc, which a fast enough fork bomb may outrun for a while"
    if abi < 0:
        return Layer("landlock", "unavailable", os.strerror(ctypes.get_errno()), needed=False, hint=hint)
    if abi < _SIGNAL_SCOPE_ABI:
        return Layer("landlock", "off", f"ABI {abi}, signals are scoped from ABI {_SIGNAL_SCOPE_ABI} on (Linux 6.12)",
                     needed=False, hint=hint)  # fmt: skip
    return Layer("landlock", "on", f"ABI {abi}, signal scope", needed=False)


def _proc() -> str:
    Path("/proc/self/stat").read_bytes()
    Path("/proc/1/stat").read_bytes()  # hidden with hidepid=2
    children = Path(f"/proc/self/task/{os.getpid()}/children").exists()
    return "readable" + (", with lists of children" if children else "; no lists of children, whole scans instead")


def _open_files() -> Layer:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = soft if soft != resource.RLIM_INFINITY else sys.maxsize
    state: State = "on" if limit >= _OPEN_FILES_WANTED else "off"
    detail = f"{_limit(soft)}, at most {_limit(hard)}"
    return Layer("open files", state, detail, needed=False, hint=f"ulimit -n {_OPEN_FILES_WANTED} for 100 sessions")


def _processes() -> Layer:
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    return Layer("processes", "on", f"{_limit(soft)}, at most {_limit(hard)}", needed=False)


def _limit(value: int) -> str:
    return "no limit" if value == resource.RLIM_INFINITY else str(value)


def _data_dir(folder: Path) -> Layer:
    """Say whether a host could live in the folder, or in the first folder above it that exists."""
    here = next(place for place in (folder, *folder.parents) if place.exists())
    space = os.statvfs(here)
    free = size(space.f_bavail * space.f_frsize)
    if not here.is_dir():
        return Layer("data directory", "unavailable", f"{here} is not a folder", needed=False, hint="give --data-dir")
    if not os.access(here, os.W_OK | os.X_OK):
        return Layer("data directory", "unavailable", f"{here} cannot be written", needed=False, hint="give --data-dir")
    owner = here.stat().st_uid
    if here == folder and owner != os.getuid():
        return Layer("data directory", "unavailable", f"{folder} belongs to user {owner}", needed=False)
    return Layer("data directory", "on", f"{folder}, {free} free", needed=False)


def _temporary_folder() -> str:
    with tempfile.TemporaryFile(prefix="procession-doctor-") as file:
        file.write(b".")
    return tempfile.gettempdir()


def _clock() -> str:
    tick_ns = round(time.clock_getres(time.CLOCK_MONOTONIC) * 1e9)
    first = time.monotonic()
    if time.monotonic() < first:
        raise OSError("the monotonic clock went back")
    return f"monotonic, {tick_ns} ns"


# --- the probe session --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Probe:
    """What a real session, started and ended just now, showed. error: why there was none."""

    ok: bool
    pid: int = 0
    host_start_ms: float = 0.0
    session_start_ms: float = 0.0
    run_ms: float = 0.0
    kill_method: str = ""
    found: int = 0
    left: int = 0
    error: str = ""


def probe_session() -> Probe:
    """Start a host and a session, run a command that leaves a process behind, and see that it is ended."""
    from procession.host.engine import Engine
    from procession.host.options import HostOptions

    began = time.perf_counter()
    try:
        engine = Engine(HostOptions(sandbox="off", max_sessions=1, serve=False))
    except (ProcessionError, OSError) as problem:
        return Probe(ok=False, error=str(problem))
    try:
        opened = time.perf_counter()
        host = Asker(engine)
        session = host.ask(plans.start_session(StartBody(sandbox="off", restart="temporary", temporary=True))).id
        started = time.perf_counter()
        # In the background and deaf to SIGHUP: what a careless tool leaves behind.
        plan = plans.exec_command(
            session, ("sh", "-c", "nohup sleep 60 >/dev/null 2>&1 & echo here"), shell=False, cwd=None, env=None, data=None,
            limits=Limits(), timeout_s=_PROBE_TIMEOUT_S, check=True, on_item=None,
        )  # fmt: skip
        result = host.ask(plan)
        ended = time.perf_counter()
        receipt, pid = result.report.receipt, host.ask(plans.status(session)).pid
    except (ProcessionError, OSError) as problem:
        return Probe(ok=False, error=str(problem))
    finally:
        engine.close()
    return Probe(
        ok=receipt.left == 0 and receipt.found >= 1, pid=pid or 0, host_start_ms=_ms(opened - began), found=receipt.found,
        session_start_ms=_ms(started - opened), run_ms=_ms(ended - started), kill_method=receipt.method,
        left=receipt.left, error="" if receipt.found else "the process left behind was not found",
    )  # fmt: skip


def _ms(span_s: float) -> float:
    return round(span_s * 1000, 2)
