"""Whether a session's process has grown so large that it is replaced, as a normal restart, when it is quiet next.

Pure. What leaks does so slowly, and a new process begins with the state alone. Rules: the limit is a soft one, nothing is ended
for it that has work; a session whose state alone is over its limit is not restarted over and over.
"""

from __future__ import annotations

from typing import Final

RECYCLE_PAUSE_S: Final = 60.0
"""Between two replacements of one session: where the first did not help, the next one will not, and this is what it costs."""
RECYCLE_PATIENCE_S: Final = 0.1
"""Calls are held so long for those that are open to end: who is always at work has short calls, or is left alone."""


def is_due(rss_bytes: int, above: int | None, now: float, recycled_at: float | None) -> bool:
    """Say whether a process of this size is to be replaced. above: None for never. Times are monotonic seconds."""
    if above is None or rss_bytes <= above:
        return False
    return recycled_at is None or now - recycled_at >= RECYCLE_PAUSE_S
