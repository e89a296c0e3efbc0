"""Run the command line as a user does: a process of its own, with a data directory, pipes or a terminal of its own."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from helpers.proc import look_at
from helpers.runs import SOURCE

TIMEOUT_S = 40.0


@dataclass(frozen=True)
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str
    elapsed_s: float

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)

    def refused(self, code: int, *words: str) -> None:
        """Check that it failed as it should: that code, one readable line with those words, no traceback."""
        assert self.code == code, f"exit code {self.code}: {self.err}"
        assert self.err.startswith("procession: "), self.err
        assert "Traceback" not in self.err
        assert len(self.err.splitlines()) <= 3, self.err
        for word in words:
            assert word in self.err


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a command line: ours, able to import procession, without a data directory or a terminal's size.

    Whoever starts pytest may have loaded readline, which puts LINES and COLUMNS into the environment of its children.
    """
    path = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH", "")]))
    ours = {name: text for name, text in os.environ.items() if name not in {"PROCESSION_DATA_DIR", "LINES", "COLUMNS"}}
    return {**ours, "PYTHONPATH": path, **(extra or {})}


def command(*args: str | Path) -> list[str]:
    """Return the command that is `procession ARGS`."""
    return [sys.executable, "-m", "procession", *map(str, args)]


def procession(
    *args: str | Path,
    input: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Ended:
    """Run `procession ARGS` to its end; without `input` its standard input is empty."""
    began = time.monotonic()
    done = subprocess.run(
        command(*args),
        check=False,
        capture_output=True,
        input=input or b"",
        env=environment(env),
        cwd=cwd,
        timeout=timeout_s,
    )
    elapsed_s = time.monotonic() - began
    return Ended(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"), elapsed_s)


def is_over(pid: int) -> bool:
    """Say whether that process has ended; one whose new parent has not looked at it yet has, too."""
    seen = look_at(pid)
    return seen is None or seen.state == "Z"


@contextlib.contextmanager
def running(
    *args: str | Path, env: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start `procession ARGS` with pipes for its output; it is gone after the `with`, however that ends."""
    process = subprocess.Popen(
        command(*args), env=environment(env), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(stream: IO[bytes] | None) -> str:
    """Read a line, for as long as a command line may take."""
    assert stream is not None
    ready, _, _ = select.select([stream], [], [], TIMEOUT_S)
    assert ready, "no line came"
    return stream.readline().decode()


def rest_of(stream: IO[bytes] | None) -> str:
    """Read to the end."""
    assert stream is not None
    return stream.read().decode(errors="replace")


@contextlib.contextmanager
def host_up(data_dir: Path, *options: str) -> Iterator[Path]:
    """Run `procession up -d` for the time of a `with`, and `down` after it."""
    up = procession("up", "-d", "--data-dir", data_dir, *options)
    assert up.code == 0, up.err
    try:
        yield data_dir
    finally:
        down = procession("down", "--data-dir", data_dir)
    assert down.code in (0, 4), down.err  # 4: the test ended it already


class Terminal:
    """A command line in a terminal of its own, as the foreground of a session of its own."""

    def __init__(self, *args: str | Path, env: Mapping[str, str] | None = None, size: tuple[int, int] = (0, 0)) -> None:
        """size: rows and columns; without it the terminal does not say, and 80 columns are taken."""
        self._us, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self._seen = b""

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command(*args),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=environment({"TERM": "xterm", **(env or {})}),
            preexec_fn=take_terminal,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._us)

    def type(self, text: str) -> None:
        """Type at the keyboard; `\\x03` is Ctrl-C."""
        os.write(self._us, text.encode())

    @property
    def shown(self) -> str:
        """Everything that the terminal has shown so far."""
        return self._seen.decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        """The lines it has shown, as written: without colours, and what was drawn over an earlier line is one of its own."""
        plain = re.sub(r"\x1b\[[0-9;]*m", "", self.shown)
        return [re.split(r"\x1b\[[0-9;?]*[A-Za-z]", line.rstrip("\r"))[-1].rstrip() for line in plain.split("\n")]

    def wait_for(self, words: str, *, times: int = 1, timeout_s: float = TIMEOUT_S) -> None:
        """Read the screen until `words` are on it, so often at least."""
        deadline = time.monotonic() + timeout_s
        while self.shown.count(words) < times:
            assert self._read(deadline), f"{words!r} was not shown: {self.shown!r}"

    def read_for(self, span_s: float) -> None:
        """Only look at the screen for a while, as one who is about to press a key again does."""
        deadline = time.monotonic() + span_s
        while self._read(deadline):
            pass

    def wait(self, *, timeout_s: float = TIMEOUT_S) -> int:
        """Read the screen until the command is over; return its exit code."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._us], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._us, 65536)
        except OSError:  # EIO: the last one who had the terminal open is gone
            return False
        self._seen += data
        return bool(data)
