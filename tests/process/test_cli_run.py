"""`procession run`: any script, isolated, exactly as python would run it; its exit code passed on, its end on time."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.cli import Terminal, command, environment, is_over, line_of, procession, rest_of, running
from helpers.runs import User, run_python
from helpers.waiting import wait_until

pytestmark = pytest.mark.process

SEGFAULT = "import ctypes; ctypes.string_at(0)"
DEAF_LOOP = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('looping', flush=True)\nwhile True: pass"
)
BOMB = "hoard = []\nwhile True: hoard.append(b'x' * (8 << 20))"


def script(folder: Path, text: str, name: str = "script.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


# --- exit codes ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 0),
        ("import sys; sys.exit(3)", 3),
        ("raise SystemExit('words')", 1),
        ("raise ValueError", 1),
        ("import os; os._exit(200)", 200),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
        pytest.param(SEGFAULT, 139, marks=pytest.mark.guarantee("R-05")),
    ],
)
def test_a_scripts_own_exit_code_is_passed_on(tmp_path: Path, text: str, code: int) -> None:
    ended = procession("run", script(tmp_path, text))
    assert ended.code == code
    assert "procession" not in ended.err


@pytest.mark.guarantee("R-50")
def test_at_its_deadline_it_is_killed_and_one_line_says_so(tmp_path: Path) -> None:
    ended = procession("run", "--timeout", "0.5", script(tmp_path, DEAF_LOOP))
    assert ended.code == 124
    assert ended.out == "looping\n"
    said = r"^procession: killed .*script\.py at its deadline after .*: \d+ processe?s? found, 0 left( \(.*\))?$"
    assert re.match(said, ended.err.splitlines()[0])
    assert ended.elapsed_s < 0.5 + 0.25 + 3.0


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    text = """
import subprocess, sys
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
print(child.pid, flush=True)
"""
    ended = procession("run", script(tmp_path, text))
    assert ended.code == 0
    assert is_over(int(ended.out))


def test_over_its_memory_it_is_killed(tmp_path: Path) -> None:
    ended = procession("run", "--memory", "128M", script(tmp_path, BOMB))
    ended.refused(137, "killed", "memory limit", "0 left")


def test_an_allocation_that_its_limit_refuses_is_told(tmp_path: Path) -> None:
    path = script(tmp_path, "x = b'x' * (1 << 30)")
    ended = procession("run", "--memory", "64M", path)
    assert ended.code == 1
    assert ended.err.endswith(
        "MemoryError\nprocession: it asked for more memory than its limit lets it have: --memory 64M\n"
    )


def test_over_its_cpu_time_it_is_killed(tmp_path: Path) -> None:
    ended = procession("run", "--cpu", "0.3", "--timeout", "20", script(tmp_path, "while True: pass"))
    ended.refused(137, "killed", "cpu limit")


@pytest.mark.guarantee("R-12")
def test_a_plain_user_can_run_and_leaves_nothing_behind(plain_user: User) -> None:
    line = "import sys; from procession.api.cli.main import run; sys.exit(run(sys.argv[1:]))"
    script(plain_user.home, "import os, sys; print(os.getuid()); sys.exit(3)").chmod(0o644)
    done = run_python(line, user=plain_user, args=("run", str(plain_user.home / "script.py")))
    assert (done.returncode, done.stdout, done.stderr) == (3, f"{plain_user.uid}\n", "")
    done = run_python(line, user=plain_user, args=("demo", "--case", "daemon", "--case", "endless"))
    assert done.returncode == 0, done.stdout + done.stderr


# --- bad input ----------------------------------------------------------------------------------------------
def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    procession("run", tmp_path / "absent.py").refused(127, "there is no file", "absent.py")
    procession("run", tmp_path / "absent").refused(127, "there is no file")


def test_a_file_that_cannot_be_run(tmp_path: Path) -> None:
    procession("run", script(tmp_path, "echo hi", "plain.sh")).refused(126, "not executable", "chmod +x")
    procession("run", tmp_path).refused(126, "is a folder")
    broken = script(tmp_path, "\x7fELF nonsense", "broken")
    broken.chmod(0o755)
    procession("run", broken).refused(126, "cannot be executed")
    orphan = script(tmp_path, "#!/no/such/interpreter\n", "orphan")
    orphan.chmod(0o755)
    procession("run", orphan).refused(127, "#! line", "orphan", "'/no/such/interpreter'")
    foreign = script(tmp_path, "#!/bin/sh\r\necho hi\r\n", "foreign")
    foreign.chmod(0o755)
    procession("run", foreign).refused(127, "'/bin/sh\\r'", "line ends")


def test_a_command_is_no_file_and_that_is_said(tmp_path: Path) -> None:
    procession("run", "sh", "-c", "x", cwd=tmp_path).refused(
        127, "no file 'sh'", "procession run /", "procession exec ID -- sh"
    )
    procession("run", "--", "sh", "x", cwd=tmp_path).refused(127, "no file 'sh'", "/sh x`")
    assert "hint" not in procession("run", "no-such-command", cwd=tmp_path).err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--timeout", "-1"], "timeout"),
        (["--timeout", "soon"], "--timeout"),
        (["--memory", "lots"], "memory"),
        (["--memory", "1K"], "memory"),
        (["--cpu", "0"], "cpu"),
        (["--cwd", "/no/such/folder"], "--cwd"),
        (["--sandbox", "of"], "--sandbox"),
        (["--bogus"], "no such option"),
        (["--timeout"], "missing argument"),  # FILE has become its value
    ],
)
def test_bad_options_are_ours_to_tell(tmp_path: Path, options: list[str], words: str) -> None:
    marker = tmp_path / "ran"
    procession("run", *options, script(tmp_path, f"open({str(marker)!r}, 'w')")).refused(125, words)
    assert not marker.exists()


def test_no_file_at_all() -> None:
    procession("run").refused(125, "missing argument")


def test_a_stronger_sandbox_is_refused_not_weakened(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    ended = procession("run", "--sandbox", "strict", script(tmp_path, f"open({str(marker)!r}, 'w')"))
    ended.refused(126, "strict", "--sandbox off")
    assert not marker.exists()


def test_with_debug_the_traceback_is_shown(tmp_path: Path) -> None:
    ended = procession("--debug", "run", tmp_path / "absent.py")
    assert ended.code == 127
    assert "Traceback" in ended.err


# --- as python would ----------------------------------------------------------------------------------------
WORLD = """
import json, os, sys
print(json.dumps([sys.argv, __name__, sys.path[0], os.getcwd(), sys.flags.isolated, os.environ.get("OURS"),
                  sys.executable, __file__, sys.stdin.read()]))
"""


def test_it_sees_what_python_would_show_it(tmp_path: Path) -> None:
    script(tmp_path, WORLD)
    args = ["script.py", "--timeout", "9", "-h", "--", "a b"]
    env = {"OURS": "äß"}
    ours = procession("run", *args, cwd=tmp_path, env=env)
    theirs = subprocess.run([sys.executable, *args], cwd=tmp_path, env=environment(env), capture_output=True, text=True,
                            check=True, input="", timeout=20)  # fmt: skip
    assert ours.code == 0, ours.err
    assert ours.out == theirs.stdout


def test_what_is_not_utf_8(tmp_path: Path) -> None:
    script(tmp_path, "import os, sys; print(ascii(sys.argv[1]), 'ODD' in os.environ)")
    ended = procession("run", "script.py", "\udcff", cwd=tmp_path, env={"ODD": "\udcff"})
    assert (ended.code, ended.out) == (0, "'\\udcff' False\n")
    assert ended.err == "procession: the environment variable ODD is not UTF-8 and is left out\n"


def test_another_folder(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    script(tmp_path, "import os; print(os.getcwd())")
    assert procession("run", "--cwd", "below", "script.py", cwd=tmp_path).out == f"{below}\n"


def test_a_terminal_is_not_handed_on(tmp_path: Path) -> None:
    with Terminal("run", script(tmp_path, "input()")) as terminal:
        assert terminal.wait() == 1
    assert "EOFError" in terminal.shown
    assert "the keyboard is not handed on" in terminal.shown


def test_closed_standard_streams_are_no_obstacle(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = script(tmp_path, f"open({str(marker)!r}, 'w').close()")
    line = " ".join(["exec", *command("run", path), "<&-", ">&-", "2>&-"])
    assert subprocess.run(["sh", "-c", line], env=environment(), check=False, timeout=20).returncode == 0
    assert marker.exists()


@pytest.mark.parametrize("verb", ["run", "--help"])
def test_a_full_disk_is_one_line(tmp_path: Path, verb: str) -> None:
    words = ["run", script(tmp_path, "print('x' * 100_000)")] if verb == "run" else ["--help"]
    with open("/dev/full", "w") as full:
        for unbuffered in ("", "1"):
            done = subprocess.run(command(*words), env=environment({"PYTHONUNBUFFERED": unbuffered}), stdout=full, text=True,
                                  stderr=subprocess.PIPE, check=False, timeout=20)  # fmt: skip
            assert done.stderr == "procession: standard output cannot be written: No space left on device\n"
            assert done.returncode == (125 if verb == "run" else 1)


def test_a_program_that_is_not_python() -> None:
    ended = procession("run", "/bin/sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ended.code, ended.out, ended.err) == (7, "out\n", "err\n")


def test_a_folder_with_a_main_file(tmp_path: Path) -> None:
    script(tmp_path, "print('main')", "__main__.py")
    assert procession("run", tmp_path).out == "main\n"


# --- output -------------------------------------------------------------------------------------------------
def test_output_is_passed_on_byte_for_byte(tmp_path: Path) -> None:
    text = "import os; os.write(1, bytes(range(256)) * 1000); os.write(2, b'\\0\\xff')"
    done = subprocess.run(command("run", script(tmp_path, text)), env=environment(), capture_output=True, check=True,
                          stdin=subprocess.DEVNULL, timeout=20)  # fmt: skip
    assert done.stdout == bytes(range(256)) * 1000
    assert done.stderr == b"\0\xff"


def test_output_comes_while_it_runs(tmp_path: Path) -> None:
    text = "import sys; print('first', flush=True); open(sys.argv[1]).read()"
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    with running("run", script(tmp_path, text), fifo) as process:
        assert line_of(process.stdout) == "first\n"  # and only now is it let go on
        with fifo.open("w"):
            pass
        assert process.wait(timeout=20) == 0


@pytest.mark.guarantee("R-46")
def test_a_flood_is_passed_on_whole(tmp_path: Path) -> None:
    total = 20 << 20
    text = f"import os\nfor n in range({total >> 16}): os.write(1, bytes([n % 251]) * 65536)"
    done = subprocess.run(command("run", script(tmp_path, text)), env=environment(), capture_output=True, check=True,
                          stdin=subprocess.DEVNULL, timeout=40)  # fmt: skip
    assert done.stderr == b""
    assert done.stdout == b"".join(bytes([n % 251]) * 65536 for n in range(total >> 16))


def test_a_reader_that_goes_away_ends_it(tmp_path: Path) -> None:
    text = "import os\nwhile True: os.write(1, b'y' * 65536)"
    line = " ".join([*command("run", script(tmp_path, text)), "| head -c 5; echo"])
    done = subprocess.run(["sh", "-c", line], env=environment(), capture_output=True, check=True, timeout=20,
                          stdin=subprocess.DEVNULL)  # fmt: skip
    assert (done.stdout, done.stderr) == (b"yyyyy\n", b"")


# --- signals ------------------------------------------------------------------------------------------------
WAITS = """
import os, signal, sys, time
with open(sys.argv[1] + ".new", "w") as file: file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
while True: signal.pause()
"""


def test_ctrl_c_ends_the_run_and_says_so(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    with Terminal("run", script(tmp_path, WAITS), marker) as terminal:
        wait_until(marker.exists, "the script runs")
        began = time.monotonic()
        terminal.type("\x03")
        assert terminal.wait() == 130
        assert time.monotonic() - began < 3.0
    assert "SIGINT: killed" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert is_over(int(marker.read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_to_us_ends_the_run(tmp_path: Path, number: signal.Signals) -> None:
    marker = tmp_path / "pid"
    with running("run", script(tmp_path, WAITS), marker) as process:
        wait_until(marker.exists, "the script runs")
        process.send_signal(number)
        told = rest_of(process.stderr)
        assert process.wait(timeout=20) == 128 + number
    assert f"{number.name}: killed" in told
    assert "Traceback" not in told
    assert is_over(int(marker.read_text()))


@pytest.mark.guarantee("R-26")
def test_killing_us_ends_the_run(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    # Its host's temporary folder stays behind, here: nobody is left to remove it.
    with running("run", script(tmp_path, WAITS), marker, env={"TMPDIR": str(tmp_path)}) as process:
        wait_until(marker.exists, "the script runs")
        process.kill()
        process.wait(timeout=20)
    wait_until(lambda: is_over(int(marker.read_text())), "the script is gone", timeout_s=2.0)
