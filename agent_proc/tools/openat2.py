"""openat2(2): open a path that the kernel itself keeps beneath a folder, whatever is renamed or linked meanwhile.

It is *not* a policy: what a refusal means is said in confined.py. Rule: failures raise OSError with the kernel's errno;
a kernel before 5.6 says ENOSYS, and a filter of system calls EPERM.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

_SYS_OPENAT2: Final = 437  # the same on every architecture
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_BENEATH: Final = 0x08
#: struct open_how: flags, mode, resolve.
_OPEN_HOW: Final = struct.Struct("=QQQ")
_BENEATH: Final = _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS

_syscall: Final = ctypes.CDLL(None, use_errno=True).syscall
_syscall.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
_syscall.restype = ctypes.c_long


def open_beneath(dir_fd: int, path: bytes, flags: int) -> int:
    """Open what exists at `path` beneath the folder `dir_fd`, close-on-exec; raises OSError.

    EXDEV: the path leads out, or through an absolute link. ELOOP: a loop, or a link that is none on disk, as in /proc.
    EAGAIN: something was renamed on the way of a `..`; trying again may succeed.
    """
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, 0, _BENEATH)
    while True:
        fd = int(_syscall(_SYS_OPENAT2, dir_fd, path, how, _OPEN_HOW.size))
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
