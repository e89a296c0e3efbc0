"""What the tests of the built-in tools share: a tool called as a worker calls it, and kernels that open in other ways."""

import errno
import os
from collections.abc import Callable, Collection
from typing import Any, Protocol

from procession.agent_proc.tools import openat2

SECRET = "not for the project"


class Tool(Protocol):
    """Carries a tool out in the project; `reads` is what the session has read."""

    def __call__(self, name: str, /, *, reads: Collection[str] = (), **arguments: Any) -> dict[str, Any]: ...


def kernel_has_openat2() -> bool:
    """Say whether this kernel lets us open beneath."""
    here = os.open(".", os.O_PATH)
    try:
        os.close(openat2.open_beneath(here, b".", os.O_PATH))
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return False
        raise
    finally:
        os.close(here)
    return True


def refusing(number: int) -> Callable[[int, bytes, int], int]:
    """Return an openat2 that is always refused with this errno."""

    def refused(dir_fd: int, path: bytes, flags: int) -> int:
        raise OSError(number, os.strerror(number))

    return refused
