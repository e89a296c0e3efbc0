"""Whether this process is a tool worker: the one fact that `@isolated` must know to run a function in place.

Set once, by the worker itself, before user code; nobody else writes it.
"""

from __future__ import annotations

#: True in a tool worker and in a session's interpreter, and in whatever those fork.
IN_WORKER: bool = False
