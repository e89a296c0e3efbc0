"""The few system calls that Python does not offer, each declared once: prctl, signalfd, close_range, signal masks.

It is *not* a binding of libc: what is not used is not here. Every function is a thin wrapper, safe after a fork.

Rules: failures raise OSError with the kernel's errno; nothing is looked up after import, so a fork pays for no lookup.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Final

_Handler = Callable[[int, FrameType | None], object] | signal.Handlers

_libc: Final = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_GET_NO_NEW_PRIVS: Final = 39
_SYS_CLOSE_RANGE: Final = 436  # the same on every architecture that has it
_SFD_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC
_SYS_RT_SIGACTION: Final = {"x86_64": 13, "aarch64": 134}.get(os.uname().machine, -1)
_SIGACTION_BYTES: Final = 64  # the kernel's struct has 32, on every architecture that is named above
_RESERVED: Final = (32, 33)
_SIGSET_BYTES: Final = 128  # glibc's and musl's sigset_t alike
_FD_MAX: Final = 0xFFFF_FFFF

_prctl: Final = _libc.prctl
_prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_prctl.restype = ctypes.c_int
#: The same call for options whose argument is text: another object, because argtypes belong to it.
_prctl_text: Final = ctypes.CDLL(None, use_errno=True).prctl
_prctl_text.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_prctl_text.restype = ctypes.c_int
_syscall: Final = _libc.syscall
_syscall.restype = ctypes.c_long
#: The same call with its argument types declared once: a conversion a call costs pages in every forked child.
_syscall_of_ints: Final = ctypes.CDLL(None, use_errno=True).syscall
_syscall_of_ints.argtypes = [ctypes.c_long, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_syscall_of_ints.restype = ctypes.c_long
_signalfd: Final = _libc.signalfd
_signalfd.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
_signalfd.restype = ctypes.c_int
#: Holds the interpreter's lock while it forks, as os.fork does.
_fork: Final = ctypes.PyDLL(None, use_errno=True).fork
_fork.argtypes = []
_fork.restype = ctypes.c_int
_pthread_sigmask: Final = _libc.pthread_sigmask
_pthread_sigmask.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
_pthread_sigmask.restype = ctypes.c_int


def syscall(number: int, *args: int | bytes | None) -> int:
    """Make a raw system call; integers go as longs. Raises OSError."""
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    result = int(_syscall(ctypes.c_long(number), *given))
    if result < 0:
        raise _last_error()
    return result


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def syscall_of_ints(number: int, first: int, second: int, third: int = 0) -> int:
    """Make a raw system call of up to three integers, the cheap way; raises OSError."""
    result = int(_syscall_of_ints(number, first, second, third))
    if result < 0:
        raise _last_error()
    return result


def fork_plain() -> int:
    """Fork without Python's own work before and after it; raises OSError.

    For a single-threaded process whose child runs code of ours only. os.fork then re-makes locks and thread states that
    nobody else can hold and calls every hook that was ever registered, which touches some 170 pages of the child: measured,
    five times the cost of the rest. Children that run user code are forked by os.fork, hooks and all.
    """
    pid = int(_fork())
    if pid < 0:
        raise _last_error()
    return pid


def _set(option: int, value: int) -> None:
    if _prctl(option, value, 0, 0, 0) != 0:
        raise _last_error()


def set_no_new_privs() -> None:
    """Give up gaining privileges by exec, for this process and all below it, for good."""
    _set(_PR_SET_NO_NEW_PRIVS, 1)


def has_no_new_privs() -> bool:
    """Say whether this process has given that up."""
    return bool(_prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)


def set_child_subreaper() -> None:
    """Become the parent of every descendant whose own parent dies. Not inherited."""
    _set(_PR_SET_CHILD_SUBREAPER, 1)


def set_pdeathsig(sig: int) -> None:
    """Get `sig` when the parent's forking thread ends. Check `getppid()` afterwards: it may have ended before this."""
    _set(_PR_SET_PDEATHSIG, sig)


def set_dumpable(dumpable: bool) -> None:
    """Let others of this uid look into this process (ptrace, /proc/PID/mem), or not."""
    _set(_PR_SET_DUMPABLE, int(dumpable))


def set_name(name: str) -> None:
    """Set the name that ps and /proc/PID/comm show; the kernel keeps 15 bytes."""
    _prctl_text(_PR_SET_NAME, name.encode("utf-8", "replace")[:15], 0, 0, 0)


Gaps = tuple[tuple[int, int], ...]


def gaps_between(keep: Iterable[int]) -> Gaps:
    """Return the ranges (first, last) of descriptors that are not listed; for `close_gaps`, made before a fork."""
    gaps, first = [], 0
    for fd in sorted(set(keep)):
        if fd > first:
            gaps.append((first, fd - 1))
        first = fd + 1
    return (*gaps, (first, _FD_MAX))


def close_gaps(gaps: Gaps) -> None:
    """Close every descriptor in these ranges, by one system call each."""
    for first, last in gaps:
        if _syscall_of_ints(_SYS_CLOSE_RANGE, first, last, 0) != 0:
            _close_each(first, last)


def _close_each(first: int, last: int) -> None:
    """Do the same on a kernel without close_range."""
    if last == _FD_MAX:
        for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
            if fd >= first:
                os.closerange(fd, fd + 1)
    else:
        os.closerange(first, last + 1)


def _signal_set(signals: Iterable[int]) -> ctypes.Array[ctypes.c_char]:
    bits = sum(1 << (number - 1) for number in signals)
    return ctypes.create_string_buffer(bits.to_bytes(_SIGSET_BYTES, "little"), _SIGSET_BYTES)


_NO_SIGNALS: Final = _signal_set(())
_ALL_SIGNALS: Final = _signal_set(signal.valid_signals())
_CHILD_SIGNAL: Final = _signal_set((signal.SIGCHLD,))
_SESSION_SIGNALS: Final = _signal_set((signal.SIGCHLD, signal.SIGINT))


def block_all_signals() -> ctypes.Array[ctypes.c_char]:
    """Block everything that can be blocked, and return the mask that was; `restore_signals` takes it."""
    before = ctypes.create_string_buffer(_SIGSET_BYTES)
    _pthread_sigmask(signal.SIG_SETMASK, _ALL_SIGNALS, before)
    return before


def restore_signals(mask: ctypes.Array[ctypes.c_char]) -> None:
    """Set a mask that `block_all_signals` returned."""
    _pthread_sigmask(signal.SIG_SETMASK, mask, None)


def unblock_all_signals() -> None:
    """Let every signal in."""
    _pthread_sigmask(signal.SIG_SETMASK, _NO_SIGNALS, None)


def block_session_signals() -> None:
    """Let every signal in but SIGCHLD, which a descriptor of `child_signal_fd` receives, and SIGINT, which is not for us."""
    _pthread_sigmask(signal.SIG_SETMASK, _SESSION_SIGNALS, None)


def child_signal_fd() -> int:
    """Open a non-blocking descriptor that is readable when a child has died or stopped. SIGCHLD must be blocked."""
    fd = int(_signalfd(-1, _CHILD_SIGNAL, _SFD_FLAGS))
    if fd < 0:
        raise _last_error()
    return fd


def drain(fd: int) -> None:
    """Empty a non-blocking descriptor of whatever woke us."""
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def reset_handlers() -> None:
    """Put every signal back to a fresh Python's: SIGINT raises, SIGPIPE and SIGXFSZ are errors, the rest default."""
    for number in _RESETTABLE:
        wanted: _Handler = _PYTHON_START.get(number, signal.SIG_DFL)
        if signal.getsignal(number) is not wanted:
            signal.signal(number, wanted)


def reset_reserved() -> None:
    """Put the two signals that glibc keeps for itself (32 and 33) back to their default if they are ignored.

    A program that make or any other user of posix_spawn started has them ignored, and so would everything it executes
    (glibc's __spawni_child). Python cannot name them.
    """
    for number in _RESERVED:
        old = ctypes.create_string_buffer(_SIGACTION_BYTES)
        if _syscall(_SYS_RT_SIGACTION, number, None, old, 8) != 0:
            return  # no such numbers here: this is not x86-64 or AArch64, or not glibc
        if int.from_bytes(old.raw[:8], "little") == signal.SIG_IGN:
            _syscall(_SYS_RT_SIGACTION, number, ctypes.create_string_buffer(_SIGACTION_BYTES), None, 8)


#: Python's own start: a broken pipe and a full file are exceptions, not deaths.
_PYTHON_START: Final[dict[int, _Handler]] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGPIPE: signal.SIG_IGN,
    signal.SIGXFSZ: signal.SIG_IGN,
}
_RESETTABLE: Final = tuple(
    sorted(
        number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP) and number < 32
    )
)
