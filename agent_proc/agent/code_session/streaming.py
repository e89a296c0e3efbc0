"""An answer that is still being written: a message whose content grows, until it ends and joins the others.

    start_streaming --> update_streaming* --> end_streaming | cancel_streaming

It is *not* how chunks travel. Rules: the size of the message that it will be is counted from the start, so that ending one
never fails for want of room; a chunk that is too much changes nothing; nothing unfinished is dropped unless asked for.
"""

from __future__ import annotations

from typing import Final

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.code_session.checks import a_text, an_id
from procession.agent_proc.agent.code_session.messages import MESSAGES, new_message
from procession.agent_proc.agent.code_session.sizes import TOO_LARGE, Size, accounted, size_of, utf8_bytes
from procession.ipc.core.errors import InvalidRequest, MessageTooLarge
from procession.ipc.core.prescan import WIDE_CHAR_BYTES
from procession.ipc.core.state_ops import AnyOp, AppendText, SetState, State, Value

_CODE: Final = "invalid_stream"


def start_streaming(state: State, moment: Moment, message_id: Value) -> Change:
    """Begin an answer, and answer with its id.

    Raises InvalidRequest: invalid_stream for what is no id, already_streaming while there is another one.
    """
    new_id = an_id(message_id, "message_id", code=_CODE)
    if state["is_streaming"]:
        raise InvalidRequest(
            "an answer is being streamed already",
            code="already_streaming",
            hint="session.streaming.end() keeps what came of it, session.streaming.cancel() drops it",
        )
    held = _size_when_empty(new_id, moment).held_bytes
    begun = SetState({"is_streaming": True, "streaming_message": "", "streaming_message_id": new_id})
    return Change((begun, *accounted(state, {"streaming_message": held})), new_id)


def update_streaming(state: State, moment: Moment, chunk: Value) -> Change:
    """Add a chunk to the answer; without one it is ignored.

    Raises InvalidRequest, code invalid_stream, and MessageTooLarge when the message would be larger than one may be.
    """
    added = a_text(chunk, "chunk", code=_CODE)
    if not state["is_streaming"] or not added:
        return Change()
    count = utf8_bytes(added)
    if count < 0:
        raise InvalidRequest("chunk has half a character (a lone surrogate)", code=_CODE)
    text: str = state["streaming_message"]
    empty = _size_when_empty(state["streaming_message_id"], moment)
    held = state["sizes"]["streaming_message"] - empty.held_bytes
    written = len(text) if text.isascii() else held // WIDE_CHAR_BYTES
    bytes_max: int = state["budgets"]["element_bytes_max"]
    if empty.written_bytes + written + count > bytes_max:
        raise MessageTooLarge(
            f"the streamed message would be larger than {bytes_max} bytes, the most that one may have",
            code=TOO_LARGE,
            hint="session.streaming.end() keeps what came so far",
        )
    is_ascii = text.isascii() and added.isascii()
    growth = count if is_ascii else WIDE_CHAR_BYTES * (written + count) - held
    return Change((AppendText(("streaming_message",), added), *accounted(state, {"streaming_message": growth})))


def end_streaming(state: State, moment: Moment) -> Change:
    """End the answer: it becomes the last message, and what this answers with. Raises InvalidRequest, code not_streaming."""
    _check_streaming(state)
    message = _message(state["streaming_message_id"], state["streaming_message"], moment)
    held = state["sizes"]["streaming_message"]
    return Change((_ENDED, *MESSAGES.append_sized(state, message, held, streaming_message=-held)), message)


def cancel_streaming(state: State, _moment: Moment) -> Change:
    """Drop the answer, and answer with the text that came of it. Raises InvalidRequest, code not_streaming."""
    _check_streaming(state)
    ops: tuple[AnyOp, ...] = (_ENDED, *accounted(state, {"streaming_message": -state["sizes"]["streaming_message"]}))
    return Change(ops, state["streaming_message"])


_ENDED: Final = SetState({"is_streaming": False, "streaming_message": None, "streaming_message_id": None})


def _check_streaming(state: State) -> None:
    if not state["is_streaming"]:
        raise InvalidRequest(
            "no answer is being streamed", code="not_streaming", hint="begin with session.streaming.start()"
        )


def _message(id: str, content: str, moment: Moment) -> dict[str, Value]:
    return new_message({"id": id, "role": "assistant", "content": content}, moment)


def _size_when_empty(id: str, moment: Moment) -> Size:
    return size_of(_message(id, "", moment))
