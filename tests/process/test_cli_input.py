"""Standard input on the command line: a program starts at once, reads as it goes, and what it does not read is still ours."""

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import command, environment, host_up, line_of, procession
from helpers.runs import User, run_python

pytestmark = pytest.mark.process

NOTHING = "print('ran')"
TWO_BYTES = "import os; print(os.read(0, 2).decode(), end='', flush=True)"
LINE_BY_LINE = "import sys\nfor line in sys.stdin: print('got', line, end='', flush=True)"
HASH = "import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"
LARGE = bytes(range(256)) * 20_000 + b"the end"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(NOTHING)
    return path


@contextlib.contextmanager
def input_of(kind: str, folder: Path, data: bytes) -> Iterator[int]:
    """Give a descriptor of that kind with `data` to read from it, and its end behind it when it is a file."""
    if kind == "file":
        (folder / "data").write_bytes(data)
        with (folder / "data").open("rb") as file:
            yield file.fileno()
    elif kind == "socket":
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(data)
            yield theirs.fileno()
    else:
        path = folder / "fifo"
        if kind == "fifo":
            os.mkfifo(path)
        read, write = os.pipe() if kind == "pipe" else (os.open(path, os.O_RDWR), os.open(path, os.O_WRONLY))
        os.write(write, data)
        try:
            yield read
        finally:
            os.close(read)
            os.close(write)


def run(stdin: int, *words: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(*words), stdin=stdin, env=environment(), capture_output=True, check=False, timeout=40)


# --- it starts at once --------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket"])
def test_input_that_never_comes_keeps_no_program_from_running(tmp_path: Path, script: Path, kind: str) -> None:
    with input_of(kind, tmp_path, b"") as stdin:
        done = run(stdin, "run", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"ran\n", b"")


def test_it_reads_while_it_runs(script: Path) -> None:
    script.write_text(LINE_BY_LINE)
    process = subprocess.Popen(
        command("run", script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), bufsize=0
    )
    with process:
        assert process.stdin is not None
        for word in ("one", "two"):
            process.stdin.write(f"{word}\n".encode())
            assert line_of(process.stdout) == f"got {word}\n"
        process.stdin.close()
        assert process.wait(timeout=20) == 0


def test_its_deadline_counts_from_its_start(script: Path) -> None:
    script.write_text("input()")
    read, write = os.pipe()
    try:
        done = run(read, "run", "--timeout", "0.3", script)
    finally:
        os.close(read)
        os.close(write)
    assert done.returncode == 124
    assert b"killed" in done.stderr


# --- it gets all of it --------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_it_gets_every_byte(tmp_path: Path, script: Path, kind: str) -> None:
    script.write_text(HASH)
    wanted = hashlib.sha256(LARGE).hexdigest() + "\n"
    if kind == "pipe":
        assert procession("run", script, input=LARGE).out == wanted
    else:
        with input_of(kind, tmp_path, LARGE) as stdin:
            assert run(stdin, "run", script).stdout.decode() == wanted


def test_code_from_standard_input() -> None:
    ended = procession("run", "-", "a", input=b"import sys; print(sys.argv)")
    assert (ended.code, ended.out) == (0, "['-', 'a']\n")
    assert procession("run", "-").code == 0


def test_a_device_is_read_as_it_is(script: Path) -> None:
    script.write_text("import os; print(os.read(0, 3))")
    with open("/dev/zero", "rb") as zero:
        assert run(zero.fileno(), "run", script).stdout == b"b'\\x00\\x00\\x00'\n"


def test_what_cannot_be_read_is_empty(tmp_path: Path, script: Path) -> None:
    script.write_text("import sys; print(repr(sys.stdin.read()))")
    with (tmp_path / "new").open("wb") as written:
        assert run(written.fileno(), "run", script).stdout == b"''\n"


def test_it_can_be_given_none(tmp_path: Path, script: Path) -> None:
    script.write_text("import sys; print(repr(sys.stdin.read()))")
    for option in ("-n", "--no-stdin"):
        with input_of("file", tmp_path, b"words") as stdin:
            assert run(stdin, "run", option, script).stdout == b"''\n"
            assert os.lseek(stdin, 0, os.SEEK_CUR) == 0


def test_a_pipe_of_another_user_will_do(plain_user: User) -> None:
    line = "import sys; from procession.api.cli.main import run; sys.exit(run(sys.argv[1:]))"
    path = plain_user.home / "script.py"
    path.write_text(TWO_BYTES)
    path.chmod(0o644)
    # The pipe is ours, and the program's user may not open it by its name.
    assert run_python(line, user=plain_user, args=("run", str(path)), input="ab").stdout == "ab"


# --- and leaves the rest ------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["file", "pipe", "fifo", "socket"])
def test_what_it_does_not_read_is_still_there(tmp_path: Path, script: Path, kind: str) -> None:
    script.write_text(TWO_BYTES)
    with input_of(kind, tmp_path, b"abcdefgh") as stdin:
        for wanted in (b"ab", b"cd"):
            assert run(stdin, "run", script).stdout == wanted
        script.write_text(NOTHING)
        assert run(stdin, "run", script).returncode == 0
        assert os.read(stdin, 100) == b"efgh"


@pytest.mark.parametrize("source", ["< list", "< <(cat list)"])
def test_a_loop_over_lines_goes_on(tmp_path: Path, script: Path, source: str) -> None:
    (tmp_path / "list").write_text("1\n2\n3\n")
    line = f"while read x; do echo $x; {' '.join(command('run', script))}; done {source}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, check=True, timeout=40
    )
    assert done.stdout == b"1\nran\n2\nran\n3\nran\n"


def test_a_script_on_standard_input_goes_on(tmp_path: Path, script: Path) -> None:
    (tmp_path / "lines").write_text(f"echo before\n{' '.join(command('run', script))}\necho after\n")
    with (tmp_path / "lines").open() as lines:
        done = subprocess.run(["sh"], stdin=lines, env=environment(), capture_output=True, check=True, timeout=20)
    assert done.stdout == b"before\nran\nafter\n"


def test_nothing_is_left_behind(tmp_path: Path, script: Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    script.write_text(TWO_BYTES)
    assert procession("run", script, input=b"abcd", env={"TMPDIR": str(folder)}).out == "ab"
    assert list(folder.iterdir()) == []


# --- exec ---------------------------------------------------------------------------------------------------
def test_exec_hands_it_on_as_well(tmp_path: Path) -> None:
    with host_up(tmp_path / "host") as data_dir:
        session = procession("new", "--data-dir", data_dir).out.strip()
        at = ("exec", "--data-dir", data_dir)
        with input_of("pipe", tmp_path, b"abcdefgh") as stdin:
            assert run(stdin, *at, session, "--", sys.executable, "-c", TWO_BYTES).stdout == b"ab"
            assert run(stdin, *at, "-n", session, "--", "cat").stdout == b""
            assert run(stdin, *at, session, "true").returncode == 0
            assert run(stdin, *at, session, "--", "no-such-command").returncode == 127
            assert os.read(stdin, 100) == b"cdefgh"
        procession(*at, "--cwd", "nowhere", session, "--", "true", input=b"x").refused(125, "nowhere")
