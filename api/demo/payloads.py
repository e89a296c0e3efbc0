"""What the cases of the demo run: real code that misbehaves. Each runs in a worker and never in the host.

Every function imports what it uses itself and needs nothing else of this file, so it travels to a worker as it stands.
"""

from __future__ import annotations


def count_words(text: str) -> dict[str, int]:
    """Do ordinary work and return ordinary data."""
    import collections

    return dict(collections.Counter(text.lower().split()).most_common(3))


def parse_port(text: str) -> int:
    """Raise as a tool does that was given nonsense."""
    return int(text)


def segfault() -> None:
    """Read the memory at address 0, in C."""
    import ctypes

    ctypes.string_at(0)


def leave() -> None:
    """End the process behind Python's back."""
    import os

    os._exit(3)


def spin_and_ignore_sigterm() -> None:
    """Never end, and refuse to be asked."""
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        pass


def eat_memory() -> int:
    """Take memory 8 MiB at a time, for ever, touching every page of it."""
    hoard = []
    while True:
        hoard.append(b"x" * (8 << 20))


class Bomb:
    """Something that runs a command in whoever unpickles it."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Say how it is to be rebuilt: by running a shell command."""
        import os

        return os.system, (f"echo exploded > {self.marker}",)


def return_a_bomb(marker: str) -> object:
    """Return the bomb as a result."""
    from procession.api.demo.payloads import Bomb

    return Bomb(marker)


def write_a_bomb(marker: str) -> None:
    """Write a pickled bomb, as bytes, into everything that this process can write to but its standard streams."""
    import os
    import pickle

    from procession.api.demo.payloads import Bomb

    bomb, places = pickle.dumps(Bomb(marker)) * 64, 0
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                places += os.write(int(name), bomb) > 0
            except OSError:
                continue
    os.write(2, b"written to %d places" % places)
    os._exit(0)


def wait_for_ever(marker: str) -> None:
    """Say that it runs, then wait."""
    import signal
    from pathlib import Path

    Path(marker).write_text("running", encoding="ascii")
    while True:
        signal.pause()


FLOOD = """
import os
block = b"the same line again and again\\n" * 2184  # a little under 64 KiB
for _ in range({blocks}):
    os.write(1, block)
os.write(1, b"the last line\\n")
"""
"""A command's code: print as fast as the kernel takes it."""

DAEMON = """
import os, signal, sys
if os.fork():
    sys.exit()          # the parent goes on and is done at once
os.setsid()             # a session of its own: no group or terminal reaches it
if os.fork():
    os._exit(0)         # and its parent is gone
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
os.closerange(0, 256)   # nothing is left that would end it
while True:
    signal.pause()
"""
"""A command's code: detach by the book, twice forked, and stay for ever."""
