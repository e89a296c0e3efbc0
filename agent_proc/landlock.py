"""Landlock, as far as signals go: a domain whose processes can signal nobody outside it.

It is *not* the sandbox: no file and no network rule is here. Entering a domain is irrevocable and inherited.

Rules: an old or missing Landlock is a plain False, never an exception; nothing here decides what False means.
"""

from __future__ import annotations

import errno
import struct
from typing import Final

from procession.agent_proc import sysapi

_SYS_CREATE_RULESET: Final = 444  # 444 and 446 are the same on every architecture
_SYS_RESTRICT_SELF: Final = 446
_CREATE_RULESET_VERSION: Final = 1
_SCOPE_SIGNAL: Final = 1 << 1
#: struct landlock_ruleset_attr: handled_access_fs, handled_access_net, scoped.
_SIGNAL_SCOPE_ONLY: Final = struct.pack("=QQQ", 0, 0, _SCOPE_SIGNAL)
#: The first ABI that scopes signals (Linux 6.12).
SIGNAL_SCOPE_ABI: Final = 6


def abi() -> int:
    """Return the kernel's Landlock ABI, 0 where there is none or it is turned off."""
    try:
        return sysapi.syscall(_SYS_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def signal_ruleset() -> int:
    """Open a ruleset that only scopes signals, close-on-exec, for `enter`; -1 where the kernel has no such thing.

    One serves any number of processes: each `enter` makes a domain of its own.
    """
    try:
        return sysapi.syscall(_SYS_CREATE_RULESET, _SIGNAL_SCOPE_ONLY, len(_SIGNAL_SCOPE_ONLY), 0)
    except OSError as problem:
        if problem.errno in _NOT_HERE:
            return -1
        raise


def enter(ruleset: int) -> bool:
    """Enter a new domain of this ruleset, nested in the present one; say whether it was entered.

    The process must have given up gaining privileges. The kernel stacks 16 domains; below that depth the answer is False.
    """
    if ruleset < 0:
        return False
    try:
        sysapi.syscall_of_ints(_SYS_RESTRICT_SELF, ruleset, 0)
    except OSError as problem:
        if problem.errno in _NOT_HERE:
            return False
        raise
    return True


#: No such call, turned off at boot, attribute newer than the kernel, forbidden by a filter, too deep, no memory for it.
_NOT_HERE: Final = frozenset(
    {
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.E2BIG,
        errno.EINVAL,
        errno.ENOMSG,
        errno.EPERM,
        errno.EACCES,
        errno.ENOMEM,
    }
)
