"""P7: the private memory of an idle session, all its processes counted.

Private_Clean and Private_Dirty of each process that is this session's: its keeper, itself, and any child it has.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Final

from bench.goals import Measured
from bench.ours import OFF, SMALL, children_of, private_bytes
from bench.timing import Effort, Figure
from procession import Host

MB: Final = 1e6


def measure(effort: Effort) -> Iterator[Measured]:
    """Yield the line of P7: one round per session."""
    totals, keepers = [], []
    with Host(sandbox=OFF) as host:
        gc.collect()
        for _ in range(effort.rounds):
            session = host.start_session()
            for _ in range(effort.count(500, quick=100)):
                session.echo(SMALL)
            status = session.status()
            assert status.keeper_pid is not None
            assert status.pid is not None
            pids = {status.keeper_pid, status.pid, *children_of(status.pid)}
            totals.append(sum(private_bytes(pid) for pid in pids) / MB)
            keepers.append(private_bytes(status.keeper_pid) / MB)
    yield Measured(
        "P7/idle",
        "private memory of an idle session",
        "free",
        "MB",
        Figure(tuple(totals)),
        note=f"keeper and session process; of it the keeper: {Figure(tuple(keepers)).median:.2f} MB",
    )
