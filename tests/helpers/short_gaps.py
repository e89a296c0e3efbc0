"""Preloaded by a zygote, or imported by a host: what counts as a gap of a process is a fraction of what it is (ipc/core/gap.py).

So that a test need not stand still for as long as a machine that was suspended.
"""

from procession.ipc.core import gap

gap.HOST_GAP_S = 0.4  # type: ignore[misc]
gap.SESSION_GAP_S = 0.8  # type: ignore[misc]
gap.LOOK_S = 0.1  # type: ignore[misc]
