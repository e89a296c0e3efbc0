"""`procession up` in the foreground: Ctrl-C and SIGTERM end it and everything of it, on time and without a traceback."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from helpers.cli import Terminal, is_over, line_of, procession, rest_of, running
from helpers.hosts import pid_of
from helpers.waiting import wait_until
from procession import Host, Sandbox

pytestmark = pytest.mark.process

GRACEFUL_S_MAX = 7.0
SECOND_S_MAX = 1.0
SIGTERM_S_MAX = 10.0
PRESS_AGAIN_S = 0.2  # one press that is heard twice, by way of a wrapper, is no second press
SESSIONS = 20


def _start_sessions(data_dir: Path, count: int) -> list[int]:
    with Host.connect(data_dir) as host:
        return [pid_of(host.start_session(sandbox=Sandbox.off())) for _ in range(count)]


def _deaf_run(data_dir: Path, marker: Path) -> list[str | Path]:
    """Return the command line of a run, in the host's only session, that ignores SIGTERM and writes its pid to `marker`."""
    (session,) = procession("ps", "--json", "--data-dir", data_dir).json
    line = 'trap "" TERM; echo $$ > "$0.new"; mv "$0.new" "$0"; while :; do sleep 1; done'
    return ["exec", "--data-dir", data_dir, session["id"], "--", "sh", "-c", line, marker]


@pytest.mark.guarantee("R-38")
def test_ctrl_c_stops_the_host_and_the_prompt_is_back(tmp_path: Path) -> None:
    with Terminal("up", "--data-dir", tmp_path) as terminal:
        terminal.wait_for("host ready")
        pids = _start_sessions(tmp_path, 3)
        began = time.monotonic()
        terminal.type("\x03")
        assert terminal.wait() == 0
        assert time.monotonic() - began < GRACEFUL_S_MAX
    assert "SIGINT: stopping 3 sessions" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert all(map(is_over, pids))


@pytest.mark.guarantee("R-38")
def test_ctrl_c_with_a_run_that_ignores_sigterm(tmp_path: Path) -> None:
    with Terminal("up", "--data-dir", tmp_path) as terminal:
        terminal.wait_for("host ready")
        _start_sessions(tmp_path, 1)
        marker = tmp_path / "deaf"
        with running(*_deaf_run(tmp_path, marker)) as client:
            wait_until(marker.exists, "the run has begun")
            began = time.monotonic()
            terminal.type("\x03")
            assert terminal.wait() == 0
            assert time.monotonic() - began < GRACEFUL_S_MAX
            told = rest_of(client.stderr)
            assert client.wait(timeout=20) != 0
    assert told.startswith("procession: ")
    assert "Traceback" not in told + terminal.shown
    assert is_over(int(marker.read_text()))


@pytest.mark.guarantee("R-38")
def test_a_second_ctrl_c_kills_at_once(tmp_path: Path) -> None:
    with Terminal("up", "--data-dir", tmp_path) as terminal:
        terminal.wait_for("host ready")
        (pid,) = _start_sessions(tmp_path, 1)
        # A session process that is stopped cannot heed a polite request: only the kill ends it.
        subprocess.run(["kill", "-STOP", str(pid)], check=True, timeout=10)
        terminal.type("\x03")
        terminal.wait_for("stopping 1 session")
        terminal.read_for(PRESS_AGAIN_S)
        began = time.monotonic()
        terminal.type("\x03")
        assert terminal.wait() == 130
        assert time.monotonic() - began < SECOND_S_MAX
    assert "Traceback" not in terminal.shown
    wait_until(lambda: is_over(pid), "the session is gone", timeout_s=2.0)


@pytest.mark.guarantee("R-39")
def test_sigterm_stops_many_sessions_and_exits_0(tmp_path: Path) -> None:
    with running("up", "--data-dir", tmp_path) as process:
        assert "host ready" in line_of(process.stderr)
        pids = _start_sessions(tmp_path, SESSIONS)
        assert len(pids) == SESSIONS
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        told = rest_of(process.stderr)
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - began < SIGTERM_S_MAX
    assert told.splitlines() == [f"procession: SIGTERM: stopping {SESSIONS} sessions", "procession: stopped"]
    assert all(map(is_over, pids))
