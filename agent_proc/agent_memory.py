"""The memory of a code session, as its process serves it: recall over an index, and promotion when it is due.

    a change that concerns memory ──▶ told to who listens; the timer armed, armed anew, or ended      promotion_wait_ms says
    recall ──▶ the index, kept in step with the state ──▶ a use counted, one commit ──▶ memories with their scores

It is *not* where memories are (the agent's state) nor what is kept (`promote`). Rules: made when something first concerns
memory; a session with nothing to promote has no timer; a promotion that is refused is tried again after the interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from procession.agent_proc.agent.code_session.long_term import memories, recall_wanted, told
from procession.agent_proc.agent.code_session.promotion import CLOSE_THRESHOLD, promotion_candidates, promotion_wait_ms
from procession.agent_proc.agent.signal_types import MEMORY_RECALLED
from procession.agent_proc.agent_values import now
from procession.ipc.core.errors import InvalidRequest, cut
from procession.ipc.core.state_ops import AnyOp, Value

if TYPE_CHECKING:
    from procession.agent_proc.agent_server import AgentServer
    from procession.agent_proc.loop import Timer
    from procession.agent_proc.recall_index import RecallIndex

PROMOTE: Final = "promote"


class Memories:
    """See the module's text."""

    def __init__(self, server: AgentServer) -> None:
        self._server = server
        self._index: RecallIndex | None = None
        self._timer: Timer | None = None
        self._wait_ms = 0

    # --- promotion ------------------------------------------------------------------------------------------
    def changed(self, ops: Sequence[AnyOp]) -> None:
        """Tell what these ops did, and look at the timer."""
        for type_, data in told(ops, self._session):
            self._server.tell_subscribers(type_, data)
        self.look()

    def look(self) -> None:
        """Arm the timer, arm it anew when it is to wait otherwise, or end it when there is nothing to wait for."""
        wait_ms = promotion_wait_ms(self._server.state, now().at)
        if wait_ms is None:
            self._disarm()
        elif self._timer is None or wait_ms != self._wait_ms:
            self._arm(wait_ms)

    @property
    def is_armed(self) -> bool:
        """Whether a promotion is to come by itself."""
        return self._timer is not None

    def close(self) -> None:
        """Promote what is worth it at the end of the session: one run, with a lower threshold."""
        state = self._server.state
        if state["promotion_enabled"] and promotion_candidates(state, now().at, CLOSE_THRESHOLD, 1):
            self._server.perform((PROMOTE, {"threshold": CLOSE_THRESHOLD}))
        self._disarm()
        if self._index is not None:
            self._index.close()
            self._index = None

    def _arm(self, wait_ms: int) -> None:
        self._disarm()
        self._wait_ms = wait_ms
        self._timer = self._server.context.loop.after(wait_ms / 1000.0, self._due)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        before = self._server.state
        if promotion_wait_ms(before, now().at) is None:  # an item of the context that nobody used since
            return
        self._server.perform(PROMOTE)
        if self._server.state is before:  # refused, which is told as the agent's error
            self._arm(before["promotion_interval_ms"])

    # --- recall ---------------------------------------------------------------------------------------------
    def recall(self, parameters: dict[str, Value]) -> list[dict[str, Any]]:
        """Return the memories that were looked for, the best first, each with its score, None for one of the latest.

        Counts as a use of each. Raises InvalidRequest: invalid_recall, invalid_parameters.
        """
        try:
            query, limit, min_confidence = recall_wanted(**parameters)
        except TypeError as error:  # its own signature says which names it takes
            raise InvalidRequest(cut(f"recall: {error}"), code="invalid_parameters") from None
        known = memories(self._server.state)
        sure = ((name, score) for name, score in self._found(query) if known[name]["confidence"] >= min_confidence)
        scores = dict(islice(sure, limit))
        used = self._server.do("record_recall", ids=list(scores)) if scores else []
        data = {"query": query, "results": list(scores), "count": len(scores), "session_id": self._session}
        self._server.tell_subscribers(MEMORY_RECALLED, data)
        return [{**memory, "score": scores[memory["id"]]} for memory in used]

    def _found(self, query: str | None) -> Iterable[tuple[str, float | None]]:
        known = memories(self._server.state)
        if query is None:
            return ((name, None) for name in reversed(list(known)) if known[name]["forgotten_at"] is None)
        if self._index is None:
            from procession.agent_proc.recall_index import RecallIndex  # SQLite, which most sessions never need

            self._index = RecallIndex()
        self._index.keep_in_step(known)
        return self._index.find(query)

    @property
    def _session(self) -> str:
        return self._server.context.booted.session
