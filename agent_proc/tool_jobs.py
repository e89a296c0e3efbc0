"""One call of a tool: in a worker of its own, as a cell of the interpreter, or by the agent itself. And the tools there are.

    worker       a fork under its own keeper, ended with its whole tree at the deadline      files, commands, users' tools
    interpreter  a cell, which keeps its names                                               python
    agent        an action of the code session, at once                                      todo remember recall forget

It is *not* where a model's calls are allowed (the host did that) nor where a tool is (tools/, or the user's code). Rules: a call
is answered once, and has ended in the state and for who listens before its answer leaves; nothing here loads a user's code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from procession.agent_proc.agent.code_session_agent import CodeSessionAgent
from procession.agent_proc.agent.texts import near, shown
from procession.agent_proc.agent.tools.builtin import BUILTIN, BuiltIn, check_arguments
from procession.agent_proc.agent_values import decoded_map
from procession.agent_proc.cells import Cell, Cells
from procession.agent_proc.core.outcome import judge, report
from procession.agent_proc.core.worker_messages import AnyMessage, Begun, ToolTold
from procession.agent_proc.loop import monotonic
from procession.agent_proc.runs import Job, RunQueue
from procession.agent_proc.tool_life import ToolLife
from procession.agent_proc.tool_worker import ToolOrder, run_tool, told_content
from procession.ipc.core.bounds import RESULT_NODES_MAX
from procession.ipc.core.errors import ErrorData, InvalidRequest, ProcessionError, to_data
from procession.ipc.core.messages import Call, Payload
from procession.ipc.core.operations import CodeBody, CodeDone, ToolBody, ToolDone
from procession.ipc.core.records import CodeResult, RunReport
from procession.ipc.core.state_ops import Value
from procession.ipc.core.tool_table import SentTool, read_tools
from procession.ipc.core.values import encode_value

if TYPE_CHECKING:
    from procession.agent_proc.agent_server import AgentServer
    from procession.agent_proc.context import Context

READS_MAX: Final = 1_000
"""Files that an agent of one's own is known to have read; a code session keeps as many in its state."""
_code_result: Final = msgspec.msgpack.Decoder(CodeResult).decode


class Tools:
    """The tools of one session. Made when the first of them is called, or they are listed."""

    def __init__(self, server: AgentServer, queue: RunQueue, cells: Cells) -> None:
        self.server = server
        self._queue = queue
        self._cells = cells
        self._own = {tool.name: tool for tool in read_tools(server.context.booted.tools)}
        self._reads: dict[str, None] = {}

    @property
    def reads(self) -> frozenset[str]:
        """Which files were read in this session."""
        if self.server.agent is CodeSessionAgent:
            return frozenset(self.server.state["file_reads"])
        return frozenset(self._reads)

    def touched(self, told: ToolTold, life: ToolLife) -> None:
        """Take note of the files that a tool touched."""
        if self.server.agent is not CodeSessionAgent:
            for path in told.reads:
                self._reads[path] = None
                if len(self._reads) > READS_MAX:
                    del self._reads[next(iter(self._reads))]
        life.touch(told.reads, told.writes, told.lists)

    def listing(self) -> list[Value]:
        """Describe all tools, the built-in ones first; those that the agent itself carries out are a code session's alone."""
        has_all = self.server.agent is CodeSessionAgent
        built_in = [
            {
                **msgspec.to_builtins(tool.spec),
                "tier": tool.spec.tier,
                "description": tool.spec.description,
                "builtin": True,
            }
            for tool in BUILTIN.values()
            if has_all or tool.runs != "agent"
        ]
        own = [
            {
                "name": tool.name,
                "tier": tool.tier,
                "description": tool.description,
                "parameters": tool.parameters,
                "builtin": False,
            }
            for tool in self._own.values()
        ]
        return [*built_in, *own]

    def call(self, call: Call, body: ToolBody, data: bytes) -> None:
        """Begin a call. Raises InvalidRequest: unknown_tool, and what is wrong with the arguments of a built-in tool."""
        arguments = decoded_map(data, f"the arguments of {shown(body.name)}")
        own, built_in = self._own.get(body.name), BUILTIN.get(body.name)
        if own is None and built_in is None:
            raise InvalidRequest(
                f"this session has no tool {shown(body.name)}",
                code="unknown_tool",
                hint=near(body.name, (*BUILTIN, *self._own)),
            )
        context = self.server.context
        life = ToolLife(self.server, body.name, body.call_id, arguments)
        life.accept()
        if built_in is not None:
            try:
                arguments = self._checked(built_in, body.name, arguments)
            except ProcessionError as error:
                life.fail(to_data(error))
                raise
            if built_in.runs == "agent":
                self._by_agent(call, life, arguments)
                return
            if built_in.runs == "interpreter":
                self._cells.add(
                    ToolCell(context, call, CodeBody(code=arguments["code"], limits=body.limits), self._cells, life)
                )
                return
        self._queue.add(ToolJob(context, call, body, self._queue, self, life, arguments, own))

    def _checked(self, built_in: BuiltIn, name: str, arguments: dict[str, Value]) -> dict[str, Any]:
        if built_in.runs == "agent":
            self.server.check_code_session(name)
        return check_arguments(name, arguments)

    def _by_agent(self, call: Call, life: ToolLife, arguments: dict[str, Any]) -> None:
        context = self.server.context
        context.page.mark_started(call.seq)
        began = monotonic()
        life.begin()
        try:
            value = self._actions[life.name](self.server, arguments)
        except ProcessionError as error:
            life.fail(to_data(error))
            raise
        life.complete(told_content(value))
        done = ToolDone(report=RunReport(tool=life.name, elapsed_s=monotonic() - began, ended="exit"))
        context.answer(call.seq, done, context.pack_payload(encode_value(value, nodes_max=RESULT_NODES_MAX)))

    _actions: Final[dict[str, Callable[[AgentServer, dict[str, Any]], Any]]] = {
        "todo": lambda server, arguments: server.do("update_todos", **arguments),
        "remember": lambda server, arguments: server.do("remember", **arguments),
        "recall": lambda server, arguments: server.recall(arguments),
        "forget": lambda server, arguments: server.do("forget", **arguments),
    }


class ToolJob(Job):
    """One call in a worker of its own."""

    def __init__(
        self,
        context: Context,
        call: Call,
        body: ToolBody,
        queue: RunQueue,
        tools: Tools,
        life: ToolLife,
        arguments: dict[str, Any],
        own: SentTool | None,
    ) -> None:
        self._tools = tools
        self._life = life
        self._arguments = arguments
        self._own = own
        self._told = ToolTold("")
        super().__init__(context, call, body.name, body.limits, queue)

    def fork(self) -> None:
        booted, own = self.context.booted, self._own
        order = ToolOrder(
            self._life.name,
            self._arguments,
            b"" if own is None else own.code,
            booted.cwd,
            booted.session,
            self._tools.reads,
            self.limits,
            booted.import_paths,
            booted.payload_bytes_max,
        )
        self.guest.start(partial(run_tool, order), told=self._take)
        if own is None:  # its arguments were checked
            self._life.begin()

    def _take(self, message: AnyMessage) -> None:
        match message:
            case Begun() if self._own is not None:
                self._life.begin()
            case ToolTold():
                self._told = message
            case _:
                pass

    def conclude(self, *, streamed: bool) -> None:
        facts = self.guest.facts(self.timeout_s)
        run_report = report(facts)
        error = judge(facts, run_report)
        if error is not None:
            self.guest.result.discard()
            self.refuse(error, streamed=streamed)
            return
        if self._own is None:  # a user's tool may write anything into its pipe, and has no say in this
            self._tools.touched(self._told, self._life)
        self._life.complete(self._told.content)
        self.answer(ToolDone(report=run_report), self.guest.result.payload(), streamed=streamed)

    def refuse(self, error: ErrorData, *, streamed: bool = False) -> None:
        self._life.fail(error)
        super().refuse(error, streamed=streamed)


class ToolCell(Cell):
    """One call of the python tool."""

    op = "python"

    def __init__(self, context: Context, call: Call, body: CodeBody, cells: Cells, life: ToolLife) -> None:
        self._life = life
        super().__init__(context, call, body, cells)

    def begun(self) -> None:
        self._life.begin()

    def answer(self, body: msgspec.Struct, payload: bytes | Payload = None, *, streamed: bool = False) -> None:
        assert isinstance(body, CodeDone)
        assert isinstance(payload, bytes)
        value = {name: given for name, given in msgspec.to_builtins(_code_result(payload)).items() if given is not None}
        self._life.complete(told_content(value))
        super().answer(ToolDone(report=body.report), encode_value(value), streamed=streamed)

    def refuse(self, error: ErrorData, *, streamed: bool = False) -> None:
        self._life.fail(error)
        super().refuse(error, streamed=streamed)
