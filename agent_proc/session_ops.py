"""What each operation of the table does in a session process: one method a row, and the one place where a call can fail.

It is *not* the mailbox (session.py). Rules: a call that is refused, malformed or hit by a bug of ours is answered and the
session goes on; nothing here waits.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from procession.agent_proc.agent_server import AgentServer
from procession.agent_proc.cells import Cell, Cells
from procession.agent_proc.context import Context
from procession.agent_proc.processes import Processes
from procession.agent_proc.runs import ExecJob, RunJob, RunQueue, not_sent
from procession.ipc.core.bounds import MAILBOX_COMMANDS_MAX, RESULT_NODES_MAX
from procession.ipc.core.errors import ErrorData, InvalidRequest, MailboxFull, ProcessionError, cut, to_data
from procession.ipc.core.messages import Arena, Call, Cancel, Notice, Reply, encode
from procession.ipc.core.operations import (
    OPERATIONS,
    ActBody,
    AskBody,
    AwaitBody,
    CodeBody,
    ExecBody,
    LaunchBody,
    ModuleList,
    Nothing,
    ProcessBody,
    ProcessSignalBody,
    ProcessWriteBody,
    RunBody,
    SendBody,
    SignalBody,
    ToolBody,
)
from procession.ipc.core.values import encode_value

if TYPE_CHECKING:
    from procession.agent_proc.tool_jobs import Tools

#: Cancels kept that came before their calls: as many as a mailbox holds calls.
EARLY_CANCELS_MAX: Final = 256
_BODY_DECODERS: Final[dict[str, Callable[[msgspec.Raw], Any]]] = {
    row.name: msgspec.msgpack.Decoder(row.params).decode for row in OPERATIONS.values() if row.target == "session"
}
_CONTROL_OPS: Final = frozenset(row.name for row in OPERATIONS.values() if row.lane == "control")
_NOTHING: Final = msgspec.Raw(encode(Nothing()))


class Operations:
    """See the module's text."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._early_cancels: OrderedDict[int, None] = OrderedDict()
        self.seen = 0
        """The highest number of a call that came on the data lane."""
        self.queue = RunQueue(self._runs_changed)
        self.cells = Cells(context)
        self.processes = Processes(context)
        self.agent = AgentServer(context)
        self._own_tools: Tools | None = None
        self._table: Final[dict[str, Callable[[Call, Any], None]]] = {
            "ping": self._ping,
            "quiet": self._quiet,
            "echo": self._echo,
            "modules": self._modules,
            "run": self._run,
            "exec": self._exec,
            "run_code": self._run_code,
            "start": self._start,
            "interrupt": self._interrupt,
            "processes": self._processes,
            "process_wait": self._process_wait,
            "process_signal": self._process_signal,
            "process_write": self._process_write,
            "act": self._act,
            "ask": self._ask,
            "signal": self._signal,
            "send_message": self._send_message,
            "tool": self._tool,
            "tools": self._list_tools,
            "await_result": self._await_result,
            "agent_status": lambda call, _: context.answer(call.seq, self.agent.status),
            "connect": self._connect,
            "debug_events": self.agent.debug_events,
        }

    def call(self, call: Call) -> None:
        """Do an operation, or begin it."""
        op, seq = call.op, call.seq
        if op not in _CONTROL_OPS:
            self.seen = max(self.seen, seq)
            if self._early_cancels and seq in self._early_cancels:
                del self._early_cancels[seq]
                self._context.refuse(seq, not_sent(op))
                return
        try:
            handler = self._table.get(op)
            if handler is None:
                raise InvalidRequest(cut(f"a session has no operation {op!r}", 200), code="unknown_operation")
            if self._context.stopping:
                text = f"{op}: the session is being stopped"
                self._context.refuse(seq, ErrorData(kind="SessionNotRunning", message=text, ran="no"))
                return
            handler(call, _BODY_DECODERS[op](call.body))
        except ProcessionError as error:
            self._context.refuse(seq, to_data(error))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            text = cut(f"{op}: the request's body is not what the operation takes: {error}")
            self._context.refuse(seq, ErrorData(kind="InvalidRequest", message=text, code="bad_body", ran="no"))
        except Exception as error:
            if (work := self._context.calls.get(seq)) is not None:
                work.abandon()
            text = cut(f"{op}: a bug in the session process: {type(error).__name__}: {error}")
            self._context.refuse(seq, ErrorData(kind="ProcessionError", message=text, code="session_bug", ran="maybe"))

    @property
    def has_early_cancels(self) -> bool:
        """Whether a cancel waits for its call."""
        return bool(self._early_cancels)

    def cancel(self, message: Cancel) -> None:
        """Stop a call: one that is here, or one that is still on its way."""
        work = self._context.calls.get(message.seq)
        if work is not None:
            work.cancel()
        elif message.seq > self.seen:
            self._early_cancels[message.seq] = None
            if len(self._early_cancels) > EARLY_CANCELS_MAX:
                self._early_cancels.popitem(last=False)

    def grant(self, seq: int, stream: int, count: int) -> None:
        """Take a grant for a stream."""
        work = self._context.calls.get(seq)
        if work is not None:
            work.grant(stream, count)
        else:
            self.processes.grant(seq, stream, count)

    def shutdown(self, *, for_good: bool) -> None:
        """Begin to end everything; what waits is answered at once, what runs when it is over."""
        try:
            if for_good:
                self.agent.close()
        except Exception as error:  # a stop is a stop, whatever its agent still had to do
            text = cut(f"at its stop: {type(error).__name__}: {error}", 300)
            self._context.send(Notice(self._context.incarnation, "session_bug", text))
        self._context.stopping = True
        self.agent.status_may_have_changed(is_last=True)
        for work in list(self._context.calls.values()):
            work.shutdown()
        self.processes.shutdown()
        self.cells.shutdown()

    def _runs_changed(self, live: int) -> None:
        self._context.page.runs = live

    def _check_room(self) -> None:
        most = MAILBOX_COMMANDS_MAX + self.queue.parallel_max  # what the host lets wait, beside what runs
        if len(self._context.calls) >= most:
            raise MailboxFull(f"{most} calls are open in this session already")

    # --- one method a row ---------------------------------------------------------------------------------------
    def _ping(self, call: Call, _body: Nothing) -> None:
        self._context.send(Reply(self._context.incarnation, call.seq, _NOTHING), control=True)

    def _quiet(self, call: Call, _body: Nothing) -> None:
        """Say what this process is still needed for; behind everything that was said before."""
        from procession.agent_proc.quiet import quiet  # asked for seldom

        self._context.answer(call.seq, quiet(self))

    def _echo(self, call: Call, _body: Nothing) -> None:
        context = self._context
        payload = call.payload
        if isinstance(payload, Arena):  # it came by the other direction's arena
            payload = context.pack_payload(context.read_payload(payload))
        context.send(Reply(context.incarnation, call.seq, call.body, payload))

    def _modules(self, call: Call, _body: Nothing) -> None:
        self._context.answer(call.seq, ModuleList(modules=tuple(sorted(sys.modules))))

    def _run(self, call: Call, body: RunBody) -> None:
        self._check_room()
        self.queue.add(RunJob(self._context, call, body, self.queue))

    def _exec(self, call: Call, body: ExecBody) -> None:
        self._check_room()
        self.queue.add(ExecJob(self._context, call, body, self.queue))

    def _run_code(self, call: Call, body: CodeBody) -> None:
        self._check_room()
        self.cells.add(Cell(self._context, call, body, self.cells))

    def _start(self, call: Call, body: LaunchBody) -> None:
        self.processes.start(call, body)

    def _interrupt(self, call: Call, _body: Nothing) -> None:
        self.cells.interrupt()
        self._context.send(Reply(self._context.incarnation, call.seq, _NOTHING), control=True)

    def _processes(self, call: Call, _body: Nothing) -> None:
        self._context.answer(call.seq, self.processes.listing())

    def _process_wait(self, call: Call, body: ProcessBody) -> None:
        self._check_room()
        self._context.page.mark_started(call.seq)
        self.processes.wait(call, body.process)

    def _process_signal(self, call: Call, body: ProcessSignalBody) -> None:
        self._check_room()
        self._context.page.mark_started(call.seq)
        self.processes.signal(call, body)

    def _act(self, call: Call, body: ActBody) -> None:
        self._context.page.mark_started(call.seq)
        self.agent.act(call, body)

    def _ask(self, call: Call, body: AskBody) -> None:
        self.agent.ask(call, body)

    def _send_message(self, call: Call, body: SendBody) -> None:
        self._check_room()
        from procession.agent_proc.agent_replies import ReplyJob  # only sessions that have a responder need it

        self.queue.add(ReplyJob(self._context, call, body, self.queue, self.agent))

    def _connect(self, call: Call, _body: Nothing) -> None:
        """Note in the record whether there is somebody who could answer."""
        self.agent.check_code_session("connect")
        self._context.page.mark_started(call.seq)
        if not self._context.booted.responder:
            from procession.agent_proc.agent_replies import no_responder

            self.agent.do("set_connection_status", status="error")
            raise no_responder()
        record = self.agent.do("set_connection_status", status="connected")
        self._context.answer(call.seq, Nothing(), self._context.pack_payload(encode_value(record)))

    @property
    def _tools(self) -> Tools:
        if self._own_tools is None:
            from procession.agent_proc.tool_jobs import Tools  # most sessions call none

            self._own_tools = Tools(self.agent, self.queue, self.cells)
        return self._own_tools

    def _tool(self, call: Call, body: ToolBody) -> None:
        self._check_room()
        self._tools.call(call, body, self._context.read_payload(call.payload))

    def _list_tools(self, call: Call, _body: Nothing) -> None:
        data = encode_value(self._tools.listing(), nodes_max=RESULT_NODES_MAX)
        self._context.answer(call.seq, Nothing(), self._context.pack_payload(data))

    def _await_result(self, call: Call, body: AwaitBody) -> None:
        self._check_room()
        self._context.page.mark_started(call.seq)
        self.agent.await_result(call, body)

    def _signal(self, call: Call, body: SignalBody) -> None:
        self._context.page.mark_started(call.seq)
        self.agent.signal(call, body)

    def _process_write(self, call: Call, body: ProcessWriteBody) -> None:
        self._context.page.mark_started(call.seq)
        self.processes.write(call, body)
