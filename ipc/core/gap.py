"""Whether this process was gone for a while: suspended, stopped, or starved. Judged by how late it comes to what was due.

A process that was gone cannot tell what it missed from what did not happen: a deadline that passed meanwhile has no news in it,
for the answer may lie there unread, and who should have answered may have been gone too. So after a gap every clock starts
afresh: what was left of a time before it is left after it, and a little more (R-69).

Pure: whoever has the clock says how late it is. Rules: the host judges by itself. A session cannot know whether it was stopped
alone, when its host's clocks went on; it takes a gap for everybody's only when it is longer than the host would have let it live.
"""

from __future__ import annotations

from typing import Final

from procession.ipc.core.bounds import STOPPED_END_S

#: A loop that comes this late to a timer was not running. Far above any turn of it, and a busy machine's delays.
HOST_GAP_S: Final = 5.0
#: A session alone that is stopped is ended after STOPPED_END_S, and a look or two; one that lives on had a host that was gone.
SESSION_GAP_S: Final = STOPPED_END_S + 3.0
#: Everything has this much more than it had: for what lies there unread, and for those who wake a moment later than we.
GRACE_S: Final = 1.0
#: While it keeps deadlines, a session's loop looks at least this often whether there was a gap.
LOOK_S: Final = 1.0
#: A guard that was seen stopped is looked at again after this long, and given up if it still is; by whoever was not gone itself.
STOPPED_GRACE_S: Final = 0.5


def lost_s(late_s: float, gap_s: float) -> float:
    """Return by how much every clock is to be put back; 0 when `late_s` is no gap, which is more than `gap_s`."""
    return late_s + GRACE_S if late_s > gap_s else 0.0
