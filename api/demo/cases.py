"""The cases of the demo: what each does in its session, and what has to come of it.

A case is data and one function that plays it; `runner.py` gives it a session and judges what it saw. Every case states its
sandbox: this version has only `Sandbox.off()`, limits and kill domain.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Final

from procession.api.demo import payloads
from procession.api.demo.survival import Survival
from procession.api.sandbox import Sandbox
from procession.api.session import Session
from procession.ipc.core import errors
from procession.ipc.core.errors import ProcessionError
from procession.ipc.core.limits import Limits
from procession.ipc.core.records import KillReceipt, RunReport

#: Longer than any case takes on a busy machine; a case that needs it has gone wrong.
CASE_TIMEOUT_S: Final = 20.0
_LOOP_S: Final = 0.5
_MEMORY: Final = "128M"
_FLOOD_BLOCKS: Final = 512
_FLOOD_BYTES: Final = _FLOOD_BLOCKS * 30 * 2184 + len("the last line\n")
_POLL_S: Final = 0.005


@dataclass(frozen=True)
class Stage:
    """What a case has: its session, and a folder that is the session's project."""

    session: Session
    folder: Path


@dataclass(frozen=True)
class Seen:
    """What a case saw. ended: in words. got: what the caller got, in words. wrong: what was not as it should be.

    skipped: why the case could not be played here.
    """

    ended: str
    got: str
    receipt: KillReceipt | None = None
    wrong: list[str] = field(default_factory=list)
    skipped: str = ""


@dataclass(frozen=True)
class Case:
    """name: for `--case`. title: for the table. expected: in words. play: does it; every check of its is in `Seen.wrong`."""

    name: str
    title: str
    expected: str
    play: Callable[[Stage], Seen]
    sandbox: Sandbox
    limits: Limits | None = None
    left_max: int = 0


class _Checks:
    """Collects what is not as it should be."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def that(self, is_so: bool, words: str) -> None:
        """Note `words` unless it is so."""
        if not is_so:
            self.wrong.append(words)


def _failing(stage: Stage, call: Callable[[], object], kind: type[ProcessionError], checks: _Checks) -> ProcessionError:
    """Make a call that has to fail in one way, and check that the session still answers after it."""
    error: ProcessionError
    try:
        result = call()
    except ProcessionError as problem:
        error = problem
    else:
        error = ProcessionError(f"a result, {result!r}", code="result")
    checks.that(type(error) is kind, f"{kind.__name__} was expected, not {type(error).__name__}: {error}")
    _check_alive(stage, checks)
    return error


def _check_alive(stage: Stage, checks: _Checks) -> None:
    words = stage.session.run(payloads.count_words, "still here still", timeout=CASE_TIMEOUT_S)
    checks.that(words == {"still": 2, "here": 1}, "the session does not answer afterwards")


def _seen(error: ProcessionError, got: str, checks: _Checks) -> Seen:
    report = error.report or RunReport()
    return Seen(report.how(), got, report.receipt, checks.wrong)


# --- the cases ----------------------------------------------------------------------------------------------
def _works(stage: Stage) -> Seen:
    checks = _Checks()
    result = stage.session.run(payloads.count_words, "to be or not to be that is", timeout=CASE_TIMEOUT_S)
    checks.that(result == {"to": 2, "be": 2, "or": 1}, "the result is another one")
    return Seen("returned", f"its result, {result}", KillReceipt(), checks.wrong)


def _raises(stage: Stage) -> Seen:
    checks = _Checks()
    error = _failing(stage, lambda: stage.session.run(payloads.parse_port, "eighty"), errors.ToolRaised, checks)
    checks.that(type(error.__cause__) is ValueError, "its __cause__ is no ValueError")
    checks.that("parse_port" in error.traceback, "the traceback does not name the function")
    return Seen("raised", f"ToolRaised from {error.exception_type}, with traceback", _receipt(error), checks.wrong)


def _segfaults(stage: Stage) -> Seen:
    checks = _Checks()
    error = _failing(stage, lambda: stage.session.run(payloads.segfault), errors.ToolCrashed, checks)
    report = error.report or RunReport()
    checks.that(report.signal == "SIGSEGV", f"the report says {report.how()}")
    checks.that("string_at" in report.stack, "the report has no stack")
    return _seen(error, "ToolCrashed, with the Python stack", checks)


def _leaves(stage: Stage) -> Seen:
    checks = _Checks()
    error = _failing(stage, lambda: stage.session.run(payloads.leave), errors.ToolCrashed, checks)
    checks.that((error.report or RunReport()).exit_code == 3, "the report has another exit code")
    return _seen(error, "ToolCrashed, with its exit code", checks)


def _never_ends(stage: Stage) -> Seen:
    checks = _Checks()
    error = _failing(
        stage, lambda: stage.session.run(payloads.spin_and_ignore_sigterm, timeout=_LOOP_S), errors.ToolTimedOut, checks
    )
    checks.that((error.report or RunReport()).ended == "deadline", "the report names no deadline")
    return _seen(error, f"ToolTimedOut after {_LOOP_S:g} s; SIGTERM, then SIGKILL", checks)


def _eats_memory(stage: Stage) -> Seen:
    checks = _Checks()
    error = _failing(stage, lambda: stage.session.run(payloads.eat_memory), errors.ToolOutOfMemory, checks)
    return _seen(error, f"ToolOutOfMemory at {_MEMORY}", checks)


def _floods(stage: Stage) -> Seen:
    checks = _Checks()
    code = payloads.FLOOD.format(blocks=_FLOOD_BLOCKS)
    result = stage.session.exec([sys.executable, "-c", code], timeout=CASE_TIMEOUT_S)
    kept = len(result.stdout)
    checks.that(result.ok, f"exit code {result.exit_code}")
    checks.that(
        kept + result.stdout_dropped == _FLOOD_BYTES, f"{kept} kept + {result.stdout_dropped} dropped are not all"
    )
    checks.that(result.stdout.endswith(b"the last line\n"), "the last line is missing")
    _check_alive(stage, checks)
    got = f"the last {kept >> 10} KiB; {result.stdout_dropped} bytes counted as dropped"
    return Seen(result.report.how(), got, result.report.receipt, checks.wrong)


def _detaches(stage: Stage) -> Seen:
    checks = _Checks()
    marker = stage.folder / "daemon.pid"
    # The shell waits for the daemon's word, so that the run ends after the daemon is in place and not before.
    wait = f"until [ -s {marker.name} ]; do sleep 0.01; done"
    result = stage.session.exec(
        f'"$PYTHON" -c "$DAEMON" {marker.name} && {wait}',
        timeout=CASE_TIMEOUT_S,
        env={"PYTHON": sys.executable, "DAEMON": payloads.DAEMON},
    )
    checks.that(result.ok, f"exit code {result.exit_code}: {result.stderr[-200:]!r}")
    checks.that(result.report.processes_found >= 1, "the daemon was not found")
    pid = int(marker.read_text(encoding="ascii"))
    checks.that(not _runs(pid, marker), f"the daemon (pid {pid}) still runs")
    _check_alive(stage, checks)
    return Seen(
        result.report.how(), f"exit code 0; its daemon, pid {pid}, is gone", result.report.receipt, checks.wrong
    )


def _bombs(stage: Stage) -> Seen:
    checks = _Checks()
    marker = stage.folder / "exploded"
    run = stage.session.run
    first = _failing(
        stage, lambda: run(payloads.return_a_bomb, str(marker), returns=dict), errors.ToolResultInvalid, checks
    )
    second = _failing(stage, lambda: run(payloads.write_a_bomb, str(marker)), errors.ToolCrashed, checks)
    places = re.search(r"written to (\d+) places", (second.report or RunReport()).stderr_tail)
    checks.that(places is not None and int(places[1]) > 0, "the bomb could not be written anywhere")
    checks.that(not marker.exists(), "the bomb went off")
    got = f"{type(first).__name__}, then {type(second).__name__}; nothing was unpickled"
    return Seen("refused twice", got, _receipt(second), checks.wrong)


def _is_killed(stage: Stage) -> Seen:
    checks = _Checks()
    session, marker = stage.session, stage.folder / "running"
    before = session.status()
    future = session.submit(payloads.wait_for_ever, str(marker), timeout=CASE_TIMEOUT_S)
    checks.that(_wait_for(marker.exists), "the run did not begin")
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)  # the session process itself; the one place where a bare pid is meant
    error = future.exception(timeout=CASE_TIMEOUT_S)
    checks.that(type(error) is errors.SessionDied, f"SessionDied was expected, not {error!r}")
    _check_alive(stage, checks)
    after = session.status()
    checks.that(after.pid != before.pid and after.restarts == before.restarts + 1, "it was not restarted once")
    report = session.last_report() or RunReport()
    checks.that(report.signal == "SIGKILL", f"the report says {report.how()}")
    got = f"{type(error).__name__}, then answers again: pid {before.pid} -> {after.pid}"
    return Seen(report.how(), got, report.receipt, checks.wrong)


def _tests(stage: Stage) -> Seen:
    checks = _Checks()
    result = stage.session.exec(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", "."],
        timeout=CASE_TIMEOUT_S,
        env={"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": "", "NO_COLOR": "1"},
    )
    lines = result.text.strip().splitlines()
    summary = re.sub(r" in [\d.]+s.*", "", lines[-1]) if lines else result.stderr.decode("utf-8", "replace")[-200:]
    if "No module named pytest" in result.stderr.decode("utf-8", "replace"):
        why = "pytest is not installed: pip install pytest"
        return Seen("not played", why, result.report.receipt, skipped=why)
    checks.that(result.exit_code == 1, f"exit code {result.exit_code}")
    checks.that(summary == "1 failed, 5 passed", f"its last line is {summary!r}")
    return Seen(result.report.how(), f"pytest's own words: {summary}", result.report.receipt, checks.wrong)


def _receipt(error: ProcessionError) -> KillReceipt | None:
    return None if error.report is None else error.report.receipt


def _runs(pid: int, marker: Path) -> bool:
    """Say whether the process that wrote `marker` is there: that pid, started before the file was written."""
    try:
        started = os.stat(f"/proc/{pid}").st_ctime
    except FileNotFoundError:
        return False
    return started <= marker.stat().st_mtime


def _wait_for(condition: Callable[[], bool]) -> bool:
    """Wait for what sends no event: a file that other code writes."""
    deadline = time.monotonic() + CASE_TIMEOUT_S / 2
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(_POLL_S)
    return True


def prepare_sample(folder: Path) -> None:
    """Put a copy of the sample project into `folder`."""
    for file in files("procession.api.demo").joinpath("sample_project").iterdir():
        if file.name.endswith(".py"):
            with file.open("rb") as source, (folder / file.name).open("wb") as target:
                shutil.copyfileobj(source, target)


_OFF: Final = Sandbox.off()


def _survives(stage: Stage) -> Seen:
    checks = _Checks()
    tally = Survival(stage.folder / "host").play()
    checks.that(not tally.lost, f"{len(tally.lost)} acknowledged messages are lost: {tally.lost[:3]}")
    checks.that(not tally.doubled, f"{len(tally.doubled)} messages are there twice: {tally.doubled[:3]}")
    checks.that(tally.is_ordered, "the messages are not in the order in which they were acknowledged")
    got = f"{len(tally.acknowledged)} acknowledged, {len(tally.lost)} lost, {len(tally.doubled)} doubled"
    return Seen(f"{tally.killed.total()} x kill -9", got, KillReceipt(), checks.wrong)


CASES: Final = (
    Case("works", "a working tool", "its result", _works, _OFF),
    Case("raises", "a raised exception", "ToolRaised from ValueError", _raises, _OFF),
    Case("segfault", "a segfault in C", "ToolCrashed by SIGSEGV", _segfaults, _OFF),
    Case("os-exit", "os._exit(3)", "ToolCrashed with exit code 3", _leaves, _OFF),
    Case("endless", "an endless loop, SIGTERM ignored", "ToolTimedOut", _never_ends, _OFF),
    Case("memory", "a memory bomb", "ToolOutOfMemory", _eats_memory, _OFF, Limits(memory=_MEMORY)),
    Case("flood", "a flood of output, 32 MiB", "its end, and the rest counted", _floods, _OFF),
    Case("daemon", "a daemon that detaches", "found and ended", _detaches, _OFF),
    Case("bomb", "a reply that is a pickle bomb", "refused, and nothing was run", _bombs, _OFF),
    Case("kill-9", "a session killed with kill -9", "SessionDied, then restarted", _is_killed, _OFF),
    Case("survives", "200 messages amid kill -9 of all", "0 lost, 0 doubled", _survives, _OFF),
    Case("pytest", "pytest of a sample project", "1 failed, 5 passed", _tests, _OFF),
)
