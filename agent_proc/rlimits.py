"""The limits that the kernel holds for one process: set by a worker on itself, before any code of the user.

They are backstops behind the keeper's watch (keeper_watch.py), which sees the whole tree but only now and then, and the
only holders of open files, file size and core dumps.

Rule: a limit is only ever lowered; the hard limit goes with it, so that the code behind it cannot raise it again.
"""

from __future__ import annotations

import math
import resource
from typing import Final

from procession.agent_proc.proctree import own_data_bytes
from procession.ipc.core.bounds import MiB
from procession.ipc.core.limits import Limits

#: Address space for data beyond the limit: libraries map far more than they touch (numpy: 32 MiB a buffer), and the
#: watch counts what is touched. This stops a bomb that is faster than the watch before it takes the machine.
DATA_SLACK_BYTES: Final = 64 * MiB
DATA_FACTOR: Final = 2
#: CPU seconds between SIGXCPU and the kernel's SIGKILL.
CPU_HARD_SLACK_S: Final = 1


def apply_rlimits(limits: Limits | None) -> None:
    """Set this process's limits; raises OSError or ValueError when the kernel refuses."""
    _lower(resource.RLIMIT_CORE, 0)
    if limits is None:
        return
    if limits.memory_bytes is not None:
        data = own_data_bytes() + DATA_FACTOR * limits.memory_bytes + DATA_SLACK_BYTES
        _lower(resource.RLIMIT_DATA, data)
    if limits.cpu_s is not None:
        soft = math.ceil(limits.cpu_s) + 1
        _lower(resource.RLIMIT_CPU, soft, soft + CPU_HARD_SLACK_S)
    if limits.open_files is not None:
        _lower(resource.RLIMIT_NOFILE, limits.open_files)
    if limits.file_bytes is not None:
        _lower(resource.RLIMIT_FSIZE, limits.file_bytes)


def _lower(which: int, soft: int, hard: int | None = None) -> None:
    wanted = soft if hard is None else hard
    _, present = resource.getrlimit(which)
    if present != resource.RLIM_INFINITY:
        wanted = min(wanted, present)
    resource.setrlimit(which, (min(soft, wanted), wanted))
