"""The one place of this room that reads a clock or draws a random number.

Decisions are made with `monotonic` only; `wall` is for what people read (event times, "created at"). Whoever decides
gets time and chance as arguments, so that a test can give it others.
"""

from __future__ import annotations

import random as _random
import time as _time
from typing import Final

#: Seconds that only go forward and do not jump; not comparable between machines or boots.
monotonic: Final = _time.monotonic
#: Seconds since the epoch; jumps when somebody sets the clock. Never decides anything (R-68).
wall: Final = _time.time
#: Uniform in [0, 1), for jitter. Not for secrets.
random: Final = _random.random
