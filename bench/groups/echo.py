"""P1: a sync echo through a session, from the thread that owns it and from another one, beside a raw ping-pong.

Every echo carries its default deadline. The other thread exists for the whole round; only its calls are timed.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from bench.goals import Measured
from bench.ours import SMALL, open_session
from bench.peers.raw import EchoPipe
from bench.peers.standard import PipeEcho
from bench.timing import Effort, per_call_s, take_turns


def measure(effort: Effort) -> Iterator[Measured]:
    """Yield the two lines of P1, and multiprocessing's own echo."""
    count = effort.count(1500, quick=400)
    raw, pipe = EchoPipe(), PipeEcho()
    with open_session() as (_, session), ThreadPoolExecutor(1) as other:
        assert session.echo(SMALL) == SMALL
        took = take_turns(
            {
                "raw": lambda: per_call_s(lambda: raw.ping(SMALL), count),
                "owner": lambda: per_call_s(lambda: session.echo(SMALL), count),
                "any": lambda: other.submit(per_call_s, lambda: session.echo(SMALL), count).result(),
                "pipe": lambda: per_call_s(lambda: pipe.ping(SMALL), count),
            },
            effort.rounds,
        )
    raw.close()
    pipe.close()
    us = {name: figure.scaled(1e6) for name, figure in took.items()}
    beside = "raw pipe ping-pong"
    yield Measured("P1/owner", "sync echo, owning thread", "pin0", "us", us["owner"], beside, us["raw"])
    yield Measured("P1/any", "sync echo, another thread", "pin0", "us", us["any"], beside, us["raw"])
    yield Measured("P1/peer", "peer: multiprocessing Pipe", "pin0", "us", us["pipe"], beside, us["raw"])
