"""Our standard input, handed to a program: it starts at once and reads as it goes, and what it leaves is still ours.

    ours ──shown, not yet taken──▶ a FIFO of one page ──▶ the program, which opened it by name
      ◀──taken, once the program has read it──'

A page is shown when the one before has been read: a file's is read in place, a pipe's duplicated (tee), a socket's peeked.
So what the program does not read stays where it is, for whoever reads after it; only of a device a page may be lost. A
terminal is not handed on: the keyboard stays ours, for Ctrl-C, and the program's input is empty.

It is *not* the mailbox's way in (`ExecBody.payload` has to be whole before anything starts), and a thread of its own. What
only some inputs need is imported for them alone: most programs are given none, and `procession run` is to be quick.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: What comes before a command so that it reads from a path: the shell opens it and becomes the command.
_OPENING: Final = ("/bin/sh", "-c", 'exec <"$1"; shift; exec "$@"', "procession")
#: A pipe of one page has room again only when all that was in it has been read: that is how we know.
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_NULL_DEVICE: Final = os.makedev(1, 3)
_SPLICE_F_NONBLOCK: Final = 2


@contextmanager
def handed_on(fd: int = 0, *, nothing: bool = False) -> Iterator[tuple[str, ...]]:
    """Yield the words to put before a command so that it reads what `fd` holds; none when that is nothing."""
    source = None if nothing or _is_empty(fd) else _source_of(fd)
    if source is None:
        yield ()
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="procession-input-", ignore_cleanup_errors=True) as folder:
        path = os.path.join(folder, "input")
        os.mkfifo(path, 0o600)
        feeding = _Feeding(source, path)
        feeding.start()
        try:
            yield (*_OPENING, path)
        finally:
            feeding.stop()


def _is_empty(fd: int) -> bool:
    """Say whether nothing can come from `fd`, or nothing that we hand on."""
    try:
        found = os.fstat(fd)
        if os.isatty(fd) or (stat.S_ISCHR(found.st_mode) and found.st_rdev == _NULL_DEVICE):
            return True
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
            return True
        if stat.S_ISREG(found.st_mode):
            return not os.pread(fd, 1, os.lseek(fd, 0, os.SEEK_CUR))
    except OSError:  # closed, or it cannot be read
        return True
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return any(event & select.POLLHUP and not event & select.POLLIN for _, event in poll.poll(0))


def _source_of(fd: int) -> _Source:
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return _File(fd)
    if stat.S_ISFIFO(mode):
        return _Pipe(fd)
    return _Socket(fd) if stat.S_ISSOCK(mode) else _Source(fd)


class _Source:
    """What is read once and for all: a device."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def show(self, out: int) -> int:
        """Put at most a page of what comes next into the pipe `out`; return how much, 0 at the end of the input."""
        data = os.read(self.fd, _PAGE_BYTES)
        return os.write(out, data) if data else 0

    def take(self, count: int) -> None:
        """Go on by `count` bytes that have been shown."""


class _File(_Source):
    """A file: shown from where it stands."""

    def show(self, out: int) -> int:
        data = os.pread(self.fd, _PAGE_BYTES, os.lseek(self.fd, 0, os.SEEK_CUR))
        return os.write(out, data) if data else 0

    def take(self, count: int) -> None:
        os.lseek(self.fd, count, os.SEEK_CUR)


class _Pipe(_Source):
    """A pipe: what is in it is duplicated, and read once the program has read it."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        import ctypes

        self._errno = ctypes.get_errno
        self._tee = ctypes.CDLL(None, use_errno=True).tee
        self._tee.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint)
        self._tee.restype = ctypes.c_ssize_t

    def show(self, out: int) -> int:
        count = int(self._tee(self.fd, out, _PAGE_BYTES, _SPLICE_F_NONBLOCK))
        if count < 0:
            raise OSError(self._errno(), "tee")
        return count

    def take(self, count: int) -> None:
        count = min(count, _held(self.fd))  # less when somebody else reads it too: wait for nothing
        if count:
            os.read(self.fd, count)


class _Socket(_Source):
    """A socket, as some programs give their children instead of a pipe."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        from socket import MSG_DONTWAIT, MSG_PEEK, socket

        self._socket = socket(fileno=os.dup(fd))
        self._peek, self._at_once = MSG_PEEK | MSG_DONTWAIT, MSG_DONTWAIT

    def show(self, out: int) -> int:
        data = self._socket.recv(_PAGE_BYTES, self._peek)
        return os.write(out, data) if data else 0

    def take(self, count: int) -> None:
        while count:
            count -= len(self._socket.recv(count, self._at_once)) or count


def _held(fd: int) -> int:
    """Return how many bytes wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)


class _Feeding(threading.Thread):
    """Shows a source to whoever opened the FIFO, page by page, until one of the two ends or it is stopped."""

    def __init__(self, source: _Source, path: str) -> None:
        super().__init__(name="procession-input", daemon=True)
        self._source = source
        self._path = path
        self._stop_r, self._stop_w = os.pipe()

    def stop(self) -> None:
        """End it; our input is then where the program left it."""
        os.close(self._stop_w)
        if self.is_alive():  # nobody may have opened the other end: then it still waits for that
            os.close(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        self.join()
        os.close(self._stop_r)

    def run(self) -> None:
        out = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        shown = 0
        try:
            fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, _PAGE_BYTES)
            while self._wait(self._source.fd, select.POLLIN) and (shown := self._source.show(out)):
                if not self._wait(out, select.POLLOUT):
                    break
                self._source.take(shown)
                shown = 0
            if shown:
                self._source.take(shown - _held(out))
        except OSError:  # what cannot be read has ended, and a program that closed its input wants no more
            pass
        finally:
            os.close(out)

    def _wait(self, fd: int, event: int) -> bool:
        """Wait until `fd` is ready; False when it is time to stop, or the program reads no more."""
        poll = select.poll()
        poll.register(fd, event)
        poll.register(self._stop_r, select.POLLIN)
        ready = dict(poll.poll())
        return self._stop_r not in ready and not (event == select.POLLOUT and ready[fd] & select.POLLERR)
