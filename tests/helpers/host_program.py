"""A durable host in a process of its own: connect to it, kill it, start it again on the same folder."""

import signal
import subprocess
from pathlib import Path

from helpers.cli import command, environment, line_of
from procession import Host, Sandbox


class HostProgram:
    """`procession up` on a folder, in a process of its own: connect to it, kill it, start it again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def up(self, *options: str, **env: str) -> Host:
        """Start it and return a client."""
        self._process = subprocess.Popen(
            command("up", "--data-dir", self.folder, *options),
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        line = line_of(self._process.stderr)
        assert "host ready" in line, line
        return Host.connect(self.folder, sandbox=Sandbox.off())

    def kill(self) -> None:
        """End it with SIGKILL and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self.wait()

    def down(self) -> int:
        """End it as its user would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; return its exit code."""
        assert self._process is not None
        process, self._process = self._process, None
        process.communicate(timeout=60)
        return process.returncode

    def close(self) -> None:
        """Kill it if it runs."""
        if self._process is not None:
            self.kill()

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid
