"""P12: a large argument and a large result of a run, beside the bandwidth of a pipe.

The time is that of the whole call: encoding, the run in a forked worker, decoding. The worker only holds the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bench.goals import Measured
from bench.ours import open_session
from bench.peers.raw import BulkPipe
from bench.timing import Effort, once_s, take_turns

SIZE_BYTES: Final = 64 * 1024 * 1024


def size_of(data: bytes) -> int:
    """Return the length: the cheapest use of an argument."""
    return len(data)


def make(size_bytes: int) -> bytes:
    """Return that many zero bytes."""
    return bytes(size_bytes)


def measure(effort: Effort) -> Iterator[Measured]:
    """Yield the lines of P12."""
    pipe = BulkPipe(SIZE_BYTES)
    data = bytes(SIZE_BYTES)
    with open_session() as (_, session):
        assert session.run(size_of, data) == SIZE_BYTES
        rate = take_turns(
            {
                "pipe": pipe.bytes_per_s,
                "argument": lambda: SIZE_BYTES / once_s(lambda: session.run(size_of, data)),
                "result": lambda: SIZE_BYTES / once_s(lambda: session.run(make, SIZE_BYTES)),
            },
            effort.rounds,
        )
    pipe.close()
    gb = {name: figure.scaled(1e-9) for name, figure in rate.items()}
    beside = "a pipe, 64 KiB at a time"
    yield Measured("P12/argument", "64 MiB argument of a run", "free", "GB/s", gb["argument"], beside, gb["pipe"])
    yield Measured("P12/result", "64 MiB result of a run", "free", "GB/s", gb["result"], beside, gb["pipe"])
