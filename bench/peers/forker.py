"""A bare fork and a bare death, in a process like the zygote: isolated, the same imports, one thread, frozen.

It runs as a process of its own and does the timing itself. A figure taken in the benchmark's own process would be that
of another heap, and that process has threads by then.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from procession.agent_proc.zygote_preload import _OURS

_SNIPPET: Final = """\
import json, sys
asked_r, answered_w, sys.path[:], modules = json.loads(sys.argv[1])
from bench.peers.forker import main
main(asked_r, answered_w, modules)
"""
_FIGURE: Final = struct.Struct("<d")
ANSWER_TIMEOUT_S: Final = 20.0
#: What a zygote without preloads has imported when it forks.
LIKE_THE_ZYGOTE: Final = ("procession.agent_proc.zygote", *_OURS)


class BareFork:
    """The process that forks; each method asks it for one timed event."""

    def __init__(self, modules: Sequence[str] = LIKE_THE_ZYGOTE) -> None:
        asked_r, self._ask = os.pipe()
        self._answer, answered_w = os.pipe()
        path = [os.path.abspath(entry) for entry in sys.path]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _SNIPPET, json.dumps([asked_r, answered_w, path, list(modules)])],
            pass_fds=(asked_r, answered_w),
            stdin=subprocess.DEVNULL,
        )
        os.close(asked_r)
        os.close(answered_w)
        self._read()  # it has imported everything

    @property
    def pid(self) -> int:
        return self._process.pid

    def fork_s(self) -> float:
        """Return the seconds of one fork to the child's first byte."""
        os.write(self._ask, b"f")
        return self._read()

    def death_s(self) -> float:
        """Return the seconds from SIGKILL of a sleeping forked child until its pidfd is readable."""
        os.write(self._ask, b"k")
        return self._read()

    def _read(self) -> float:
        if not select.select([self._answer], [], [], ANSWER_TIMEOUT_S)[0]:
            raise TimeoutError("the process that does the bare forks did not answer")
        data = os.read(self._answer, _FIGURE.size)
        if len(data) < _FIGURE.size:
            raise RuntimeError("the process that does the bare forks ended")
        figure: float = _FIGURE.unpack(data)[0]
        return figure

    def close(self) -> None:
        os.close(self._ask)
        os.close(self._answer)
        try:
            self._process.wait(ANSWER_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main(asked_r: int, answered_w: int, modules: Sequence[str]) -> None:
    """Serve until the asker is gone."""
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    os.write(answered_w, _FIGURE.pack(0.0))
    first_r, first_w = os.pipe()
    while asked := os.read(asked_r, 1):
        os.write(answered_w, _FIGURE.pack(_fork_s(first_r, first_w) if asked == b"f" else _death_s(first_r, first_w)))


def _fork_s(first_r: int, first_w: int) -> float:
    began = time.perf_counter()
    pid = os.fork()
    if not pid:
        os.write(first_w, b"1")
        os._exit(0)
    os.read(first_r, 1)
    took = time.perf_counter() - began
    os.waitpid(pid, 0)
    return took


def _death_s(first_r: int, first_w: int) -> float:
    pid = os.fork()
    if not pid:
        os.write(first_w, b"1")
        while True:
            signal.pause()
    os.read(first_r, 1)
    pidfd = os.pidfd_open(pid)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    began = time.perf_counter()
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    poller.poll(ANSWER_TIMEOUT_S * 1000)
    took = time.perf_counter() - began
    os.close(pidfd)
    os.waitpid(pid, 0)
    return took
