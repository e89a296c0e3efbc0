"""The chain of a call: the sessions whose agents wait for its answer, the first one first.

    program ── call A ── A calls B ── B calls A        the chain of the last is (A, B): a cycle

It is *not* about work in workers, which cannot call sessions at all. Rule: a call to a session that is in its own chain
would wait for itself; it is refused at once (CallCycle) and waits for no deadline.
"""

from __future__ import annotations

from typing import Final

from procession.ipc.core.errors import CallCycle

CHAIN_MAX: Final = 16
"""Agents that wait one for the other: a program that needs more has lost count."""


def check_chain(chain: tuple[str, ...], session: str) -> None:
    """Refuse a call that would wait for itself, or a chain without end. Raises CallCycle."""
    if session in chain:
        path = " -> ".join(one[:8] for one in (*chain[chain.index(session) :], session))
        raise CallCycle(
            f"the session {session} waits for this call itself ({path})",
            session=session,
            hint="answer from what the signal brings, or ask an agent that is not in the chain",
        )
    if len(chain) >= CHAIN_MAX:
        raise CallCycle(f"{len(chain)} agents wait one for the other", code="call_chain_too_long", session=session)
