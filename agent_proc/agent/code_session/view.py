"""What a client sees of the session as a whole, and where it looks: the state, the record, the scroll offset."""

from __future__ import annotations

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.code_session.bounds import SCROLL_OFFSET_MAX
from procession.agent_proc.agent.code_session.checks import a_whole_number
from procession.ipc.core.state_ops import State, Value


def set_scroll_offset(_state: State, _moment: Moment, offset: Value) -> Change:
    """Note how far the client has scrolled, and answer with it. Raises InvalidRequest, code invalid_scroll_offset."""
    a_whole_number(offset, "offset", 0, SCROLL_OFFSET_MAX, code="invalid_scroll_offset")
    return Change.set(scroll_offset=offset).replying(offset)


def get_state(state: State) -> dict[str, Value]:
    """Return the whole state, every list oldest first but the prompts."""
    return dict(state)


def get_session(state: State) -> dict[str, Value]:
    """Return the session's record."""
    return dict(state["session"])
