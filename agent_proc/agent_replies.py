"""A message to a code session and its answer: both kept in the state, the answer as it comes.

    start_streaming -> append_message(user) -> [worker: piece -> update_streaming] ... -> end_streaming -> the caller

It is *not* the responder (responding.py runs it in a worker) nor the conversation (`agent/code_session/`). Rules: one answer
at a time; an answer that breaks off keeps what was said, one that its session dies with too.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from procession.agent_proc.agent.signal_types import STREAM_ERROR
from procession.agent_proc.agent.turn import Turn
from procession.agent_proc.agent_values import new_id
from procession.agent_proc.core.outcome import judge, report
from procession.agent_proc.core.worker_messages import AnyMessage, Piece
from procession.agent_proc.guest import KILL
from procession.agent_proc.responding import ResponderOrder, run_responder
from procession.agent_proc.runs import Job
from procession.ipc.core.agent_keys import ANSWER_KEY
from procession.ipc.core.errors import ErrorData, InvalidRequest, ProcessionError, cut, to_data
from procession.ipc.core.messages import Call
from procession.ipc.core.operations import SendBody, SendDone
from procession.ipc.core.state_ops import DeletePath, SetPath
from procession.ipc.core.values import encode_value

if TYPE_CHECKING:
    from procession.agent_proc.agent_server import AgentServer
    from procession.agent_proc.context import Context
    from procession.agent_proc.runs import RunQueue

TEXT_BYTES_MAX: Final = 10_000
"""Of one message that is sent: the contract's limit; what is longer belongs into a file."""


def check_text(text: str) -> str:
    """Return the text of a message. Raises InvalidRequest: empty_message, message_too_long."""
    if not text.strip():
        raise InvalidRequest("the message is empty", code="empty_message")
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > TEXT_BYTES_MAX:
        raise InvalidRequest(
            f"the message has {size} bytes, and may have {TEXT_BYTES_MAX}",
            code="message_too_long",
            hint="put what is long into a file and name it",
        )
    return text


def no_responder() -> InvalidRequest:
    """Return the error for a session that has nobody who answers."""
    return InvalidRequest(
        "this session has no responder",
        code="no_responder",
        hint="give it one when it is started: start_session(responder=...)",
    )


class ReplyJob(Job):
    """One message and its answer."""

    lossless = True

    def __init__(self, context: Context, call: Call, body: SendBody, queue: RunQueue, server: AgentServer) -> None:
        self._server = server
        self._text = check_text(body.text)
        self._answer_id = new_id()
        self._failure: ProcessionError | None = None
        if not context.booted.responder:
            raise no_responder()
        server.check_code_session("send_message")
        super().__init__(context, call, "responder", body.limits, queue)

    def begin(self) -> None:
        """Keep the message, begin the answer, and fork who gives it."""
        try:
            self._server.do("start_streaming", message_id=self._answer_id)  # refused while there is another one
            self._server.commit(SetPath((ANSWER_KEY,), self._answer_id))
            self._server.do("append_message", message={"role": "user", "content": self._text})
        except ProcessionError as error:
            data = to_data(error)
            if error.code != "already_streaming":
                self._end(data)
            self.refuse(data)
            return
        super().begin()
        if not self.is_live:  # the fork was refused, and that was told to the caller
            self._end(ErrorData(kind="ToolFailed", message="the responder could not be started", ran="no"))

    def fork(self) -> None:
        context, state = self.context, self._server.state
        turn = Turn(self._text, state["messages"], state["session"]["config"], context.booted.session)
        order = ResponderOrder(context.booted.responder, turn, self.limits, context.booted.import_paths)
        self.guest.start(partial(run_responder, order), told=self._told)

    def _told(self, message: AnyMessage) -> None:
        if not isinstance(message, Piece) or self._failure is not None:
            return
        try:
            self._server.do("update_streaming", chunk=message.text)
        except ProcessionError as error:  # it says more than a message may hold
            error.ran = "yes"  # the refusal is of a piece: the message was answered up to there
            self._failure = error
            self.guest.stop("cancelled", KILL)

    def conclude(self, *, streamed: bool) -> None:
        facts = self.guest.facts(self.timeout_s)
        run_report = report(facts)
        error = to_data(self._failure) if self._failure is not None else judge(facts, run_report)
        content = self._end(error)
        if error is not None:
            self.refuse(error, streamed=streamed)
            return
        self.answer(SendDone(report=run_report), encode_value(content), streamed=streamed)

    def _end(self, error: ErrorData | None) -> str:
        """Keep what was said, and return it; of an answer that failed before it had begun nothing is kept."""
        server = self._server
        if error is not None:
            reason = {"code": error.code or error.kind, "message": cut(error.message)}
            session = self.context.booted.session
            data = {"message_id": self._answer_id, "reason": reason, "session_id": session}
            server.tell_subscribers(STREAM_ERROR, data)
        server.commit(DeletePath((ANSWER_KEY,)))
        state = server.state
        if not state["is_streaming"]:  # somebody else ended it meanwhile
            return ""
        if error is not None and not state["streaming_message"]:
            server.do("cancel_streaming")
            return ""
        content: str = server.do("end_streaming")["content"]
        return content
