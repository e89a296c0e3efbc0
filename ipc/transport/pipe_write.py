"""One write that can meet a reader who is gone, without taking the program down with it.

Python ignores SIGPIPE, but a program may have asked for the system's own way (`signal(SIGPIPE, SIG_DFL)` is common in command
line tools), and then a session that dies at the wrong moment would end its host. Sockets have MSG_NOSIGNAL, pipes have not.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, cast

try:
    from _signal import getsignal as _getsignal  # type: ignore[import-not-found]  # signal.getsignal less 0.4 us of enum
except ImportError:
    _getsignal = signal.getsignal

_handler_of = cast("Callable[[int], Any]", _getsignal)
_SIGPIPE = int(signal.SIGPIPE)
_DEFAULT = _handler_of(int(signal.SIGKILL))  # nobody can have set another one for this
_os_write = os.write


def writer() -> Callable[[int, bytes], int]:
    """Return what writes now: os.write, or one that raises BrokenPipeError and no signal when nobody reads any more."""
    return _os_write if _handler_of(_SIGPIPE) is not _DEFAULT else _write_masked


def _write_masked(fd: int, data: bytes) -> int:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGPIPE,))
    try:
        return _os_write(fd, data)
    except BrokenPipeError:
        signal.sigtimedwait(
            (signal.SIGPIPE,), 0
        )  # it is pending for this very thread: take it, so that it never arrives
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
