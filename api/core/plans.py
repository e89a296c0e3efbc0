"""One plan per verb: the request to make, and how its response is read. What all faces share, written once.

A plan does nothing: the sync face calls the backend with it, the async face awaits it. Arguments have been checked
(`api/checks.py`) and packed already. Rule: one builder per operation of the table, and a test that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from procession.ipc.core.agent_records import AgentStatus, Finished
from procession.ipc.core.backend import Item, Request, Response
from procession.ipc.core.bounds import RESULT_NODES_MAX
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import ToolCrashed, ToolResultInvalid
from procession.ipc.core.file_names import is_text, shown, to_bytes
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import (
    OPERATIONS,
    ActBody,
    AsideBody,
    AsideList,
    AskBody,
    AwaitBody,
    AwaitDone,
    CallList,
    CancelBody,
    CancelDone,
    ChildList,
    ChunkList,
    CodeBody,
    CodeDone,
    DebugBody,
    EventList,
    ExecBody,
    ExecDone,
    FindBody,
    FollowBody,
    ForkBody,
    ImportBody,
    LaunchBody,
    ListBody,
    ModuleList,
    Nothing,
    ProcessBody,
    ProcessList,
    ProcessSignalBody,
    ProcessWriteBody,
    ReportDone,
    RunBody,
    RunDone,
    SendBody,
    SessionList,
    SessionRef,
    SignalBody,
    SignalList,
    StartBody,
    StopBody,
    StoryDone,
)
from procession.ipc.core.records import (
    AgentSignal,
    AsideSignal,
    CallInfo,
    ChildInfo,
    CodeResult,
    CommandResult,
    Event,
    KillReceipt,
    OutputChunk,
    ProcessInfo,
    RunReport,
    SentSignal,
    SessionStatus,
    Statistics,
)
from procession.ipc.core.values import decode_value, encode_value

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)
OnItem = Callable[[Item], None]

#: What of a failed command's output is part of its error's text.
_TAIL_CHARS: Final = 2_000
_NOTHING: Final = Nothing()
_NONE: Final = encode_value(None)


@dataclass(slots=True)
class Plan(Generic[T]):
    """A request, and what to make of its response."""

    request: Request
    finish: Callable[[Response], T]


def _request(op: str, session: str, body: msgspec.Struct = _NOTHING, timeout_s: float | None = None) -> Request:
    row = OPERATIONS[op]
    return Request(row, session, body, None, row.timeout_s if timeout_s is None else timeout_s)


def _read(kind: type[R]) -> Callable[[Response], R]:
    """Return the reader of a response's body."""
    return partial(_decode, msgspec.msgpack.Decoder(kind).decode)


def _decode(decode: Callable[[msgspec.Raw | bytes], R], response: Response) -> R:
    try:
        return decode(response.body)
    except msgspec.MsgspecError as error:
        raise ToolResultInvalid(f"the answer cannot be read: {error}", code="result_unreadable") from None


_read_chunks: Final = _read(ChunkList)
_read_events: Final = _read(EventList)
_read_signals: Final = _read(SignalList)
_read_children: Final = _read(ChildList)
_read_aside: Final = _read(AsideList)
read_ref: Final = _read(SessionRef)
_read_status: Final = _read(SessionStatus)
_read_receipt: Final = _read(KillReceipt)
_read_process: Final = _read(ProcessInfo)
_read_processes: Final = _read(ProcessList)
_read_modules: Final = _read(ModuleList)
_read_sessions: Final = _read(SessionList)
_read_report: Final = _read(ReportDone)
_read_calls: Final = _read(CallList)
_read_cancel: Final = _read(CancelDone)
_read_story: Final = _read(StoryDone)
_read_await: Final = _read(AwaitDone)
_read_agent_status: Final = _read(AgentStatus)
_decode_agent_status: Final = msgspec.msgpack.Decoder(AgentStatus).decode
_read_statistics: Final = _read(Statistics)
_read_run: Final = _read(RunDone)
_read_exec: Final = _read(ExecDone)
_read_code: Final = _read(CodeDone)
_output_of: Final = msgspec.msgpack.Decoder(tuple[bytes, bytes]).decode
_code_result: Final = msgspec.msgpack.Decoder(CodeResult).decode


def _none(_: Response) -> None:
    return None


def _payload(response: Response) -> bytes:
    return response.payload or b""


# --- the agent --------------------------------------------------------------------------------------------------------


def act(session: str, action: str, parameters: Mapping[str, object], timeout_s: float | None = None) -> Plan[Any]:
    """Run an action of the session's agent; the result is what it answers."""
    return _valued("act", session, ActBody(action=action), encode_value(dict(parameters), path=action), timeout_s)


def ask(session: str, query: str, parameters: Mapping[str, object], timeout_s: float | None = None) -> Plan[Any]:
    """Ask the session's agent."""
    payload = encode_value(dict(parameters), path=query) if parameters else None
    return _valued("ask", session, AskBody(query=query), payload, timeout_s)


def signal(session: str, signal: bytes, type: str, *, wait: bool, timeout_s: float | None = None) -> Plan[Any]:
    """Give the session's agent an encoded signal; with `wait` the result is what came of it, else the signal's id.

    type: of the signal, for the texts of errors.
    """
    return _valued("signal", session, SignalBody(wait=wait, type=type), signal, timeout_s)


def state(session: str) -> Plan[dict[str, Any] | None]:
    """Read the host's own copy of the agent's state; None when the agent has not told it yet."""
    return Plan(_request("state", session), _value)


def await_result(session: str, signal_id: str, timeout_s: float | None = None) -> Plan[Any]:
    """Wait for the result of a signal, or with no id until the agent's own state says that it is finished."""
    return _valued("await_result", session, AwaitBody(id=signal_id), None, timeout_s)


def await_completion(session: str, timeout_s: float | None = None) -> Plan[Finished]:
    """Wait until the agent's own state says that it is finished."""
    request = _request("await_result", session, AwaitBody(), timeout_s)
    return Plan(request, lambda response: Finished(_read_await(response).status, _value(response)))


def agent_status(session: str, timeout_s: float | None = None) -> Plan[AgentStatus]:
    """Ask how the agent is doing."""
    return Plan(_request("agent_status", session, timeout_s=timeout_s), _read_agent_status)


def connect(session: str, timeout_s: float | None) -> Plan[Any]:
    """Note that the session is connected, if somebody could answer; the result is the record."""
    return _valued("connect", session, Nothing(), None, timeout_s)


def debug_events(session: str, keep: int | None, limit: int | None, timeout_s: float | None = None) -> Plan[Any]:
    """Read what happened to the agent, newest first; keep: how many to keep from now on."""
    return _valued("debug_events", session, DebugBody(keep=keep, limit=limit), None, timeout_s)


def send_message(session: str, text: str, timeout_s: float | None) -> Plan[Any]:
    """Send a message to the session's responder; the result is the whole answer."""
    return _valued("send_message", session, SendBody(text=text), None, timeout_s)


def _valued(op: str, session: str, body: msgspec.Struct, payload: bytes | None, timeout_s: float | None) -> Plan[Any]:
    request = _request(op, session, body, timeout_s)
    request.payload = payload
    return Plan(request, _value)


def _value(response: Response) -> Any:
    return plain_value(response.payload)


def plain_value(payload: bytes | None) -> Any:
    """Return what an encoded value says; None for no bytes. Raises ToolResultInvalid."""
    try:
        return decode_value(payload or _NONE, nodes_max=RESULT_NODES_MAX)
    except ProtocolBreach as breach:
        raise ToolResultInvalid(f"the answer cannot be read: {breach.reason}", code="result_unreadable") from None


# --- runs -----------------------------------------------------------------------------------------------------------


def run(
    session: str,
    payload: bytes,
    decode: Callable[[bytes | None], T],
    *,
    label: str,
    lossy: bool,
    limits: Limits,
    timeout_s: float | None,
    wait: bool,
    on_item: OnItem | None,
) -> Plan[T]:
    """Run a packed function in a worker; `decode` reads what it returned."""
    request = _request("run", session, RunBody(label=label, limits=limits, lossy=lossy), timeout_s)
    request.payload, request.wait, request.on_item = payload, wait, on_item
    return Plan(request, partial(_run_result, decode=decode))


def run_report(response: Response) -> RunReport:
    """Read how a run that gave a result went."""
    return _read_run(response).report


def _run_result(response: Response, *, decode: Callable[[bytes | None], T]) -> T:
    """Read what a run returned; the report of one whose result is not as declared goes with the error."""
    try:
        return decode(response.payload)
    except ToolResultInvalid as error:
        if error.report is None:
            error.report = run_report(response)
            error.elapsed_s = error.report.elapsed_s
            error.call_id = response.call_id or None
        raise


def exec_command(
    session: str,
    argv: tuple[str, ...],
    *,
    shell: bool,
    cwd: str | None,
    env: dict[str, str] | None,
    data: bytes | None,
    limits: Limits,
    timeout_s: float | None,
    check: bool,
    on_item: OnItem | None,
    lossless: bool = False,
) -> Plan[CommandResult]:
    """Run a command to its end. lossless: `on_item` gets every byte, and slows the command down if it is slow."""
    body = _exec_body(argv, shell=shell, cwd=cwd, env=env, limits=limits, lossless=lossless)
    request = _request("exec", session, body, timeout_s)
    request.payload, request.on_item = data, on_item
    return Plan(request, partial(_command_result, argv=("sh", "-c", *argv) if shell else argv, check=check))


def _exec_body(
    argv: tuple[str, ...],
    *,
    shell: bool,
    cwd: str | None,
    env: dict[str, str] | None,
    limits: Limits,
    lossless: bool = False,
) -> ExecBody:
    """Say a command as the wire does: words and folder may be names of files that are not UTF-8."""
    return ExecBody(
        argv=tuple(map(shown, argv)),
        shell=shell,
        cwd=None if cwd is None else shown(cwd),
        env=env,
        limits=limits,
        lossless=lossless,
        argv_bytes=() if all(map(is_text, argv)) else tuple(map(to_bytes, argv)),
        cwd_bytes=b"" if cwd is None or is_text(cwd) else to_bytes(cwd),
    )


def _command_result(response: Response, *, argv: tuple[str, ...], check: bool) -> CommandResult:
    done = _read_exec(response)
    try:
        stdout, stderr = _output_of(response.payload or b"\x92\xc4\x00\xc4\x00")
    except msgspec.MsgspecError as error:
        raise ToolResultInvalid(f"the command's output cannot be read: {error}", code="result_unreadable") from None
    result = CommandResult(
        argv=argv,
        exit_code=done.exit_code,
        stdout=stdout,
        stderr=stderr,
        stdout_dropped=done.stdout_dropped,
        stderr_dropped=done.stderr_dropped,
        elapsed_s=done.report.elapsed_s,
        report=done.report,
    )
    if check and result.exit_code != 0:
        raise _command_failed(result, response.call_id)
    return result


def _command_failed(result: CommandResult, call_id: str) -> ToolCrashed:
    how = (
        f"exit code {result.exit_code}"
        if result.exit_code > 0
        else result.report.signal or f"signal {-result.exit_code}"
    )
    tail = (result.stderr or result.stdout)[-4 * _TAIL_CHARS :].decode("utf-8", "replace").rstrip()[-_TAIL_CHARS:]
    shown = result.argv[-1] if result.argv[:2] == ("sh", "-c") else " ".join(result.argv)
    return ToolCrashed(
        f"the command {shown[:200]!r} ended with {how}" + (f":\n{tail}" if tail else ""),
        code="command_failed",
        report=result.report,
        elapsed_s=result.elapsed_s,
        call_id=call_id or None,
    )


def run_code(
    session: str, code: str, *, limits: Limits, timeout_s: float | None, on_item: OnItem | None
) -> Plan[CodeResult]:
    """Run a cell in the session's interpreter."""
    request = _request("run_code", session, CodeBody(code=code, limits=limits), timeout_s)
    request.on_item = on_item
    return Plan(request, _code)


def _code(response: Response) -> CodeResult:
    try:
        return _code_result(response.payload or b"\x80")
    except msgspec.MsgspecError as error:
        raise ToolResultInvalid(f"the cell's result cannot be read: {error}", code="result_unreadable") from None


def interrupt(session: str, timeout_s: float | None) -> Plan[None]:
    """Interrupt the cell that runs."""
    return Plan(_request("interrupt", session, timeout_s=timeout_s), _none)


# --- the session process --------------------------------------------------------------------------------------------


def ping(session: str, timeout_s: float | None) -> Plan[None]:
    """Ask for a sign of life; it overtakes everything."""
    return Plan(_request("ping", session, timeout_s=timeout_s), _none)


_ECHO: Final = OPERATIONS["echo"]


def echo(session: str, data: bytes, timeout_s: float | None) -> Plan[bytes]:
    """Send bytes there and back."""
    return Plan(Request(_ECHO, session, _NOTHING, data, timeout_s), _payload)


def modules(session: str, timeout_s: float | None) -> Plan[tuple[str, ...]]:
    """List what the session process has imported."""
    return Plan(_request("modules", session, timeout_s=timeout_s), lambda response: _read_modules(response).modules)


# --- long-lived commands --------------------------------------------------------------------------------------------


def start(
    session: str,
    argv: tuple[str, ...],
    *,
    shell: bool,
    cwd: str | None,
    env: dict[str, str] | None,
    limits: Limits,
    restart: Literal["permanent", "transient", "temporary"],
) -> Plan[ProcessInfo]:
    """Start a command that lives on its own."""
    body = _exec_body(argv, shell=shell, cwd=cwd, env=env, limits=limits)
    body = LaunchBody(**{name: getattr(body, name) for name in body.__struct_fields__}, restart=restart)
    return Plan(_request("start", session, body), _read_process)


def processes(session: str) -> Plan[tuple[ProcessInfo, ...]]:
    """List the long-lived commands."""
    return Plan(_request("processes", session), lambda response: _read_processes(response).processes)


def process_wait(session: str, process: str, timeout_s: float | None) -> Plan[ProcessInfo]:
    """Wait for a command's end."""
    return Plan(_request("process_wait", session, ProcessBody(process=process), timeout_s), _read_process)


def process_signal(session: str, process: str, how: Literal["interrupt", "terminate", "kill"]) -> Plan[ProcessInfo]:
    """End a command, or interrupt it."""
    return Plan(_request("process_signal", session, ProcessSignalBody(process=process, how=how)), _read_process)


def process_write(session: str, process: str, data: bytes | None, *, close: bool) -> Plan[None]:
    """Give a command input."""
    request = _request("process_write", session, ProcessWriteBody(process=process, close=close))
    request.payload = data
    return Plan(request, _none)


# --- a session, as the host sees it ---------------------------------------------------------------------------------


def status(session: str) -> Plan[SessionStatus]:
    """Look at a session."""
    return Plan(_request("status", session), _read_status)


def story(session: str) -> Plan[StoryDone]:
    """Tell what happened to a session."""
    return Plan(_request("story", session), _read_story)


def last_report(session: str) -> Plan[RunReport | None]:
    """Tell how the last incarnation ended."""
    return Plan(_request("last_report", session), lambda response: _read_report(response).report)


def calls(session: str) -> Plan[tuple[CallInfo, ...]]:
    """List calls under way and recently over."""
    return Plan(_request("calls", session), lambda response: _read_calls(response).calls)


def cancel(session: str, call: str) -> Plan[str]:
    """Cancel a call by its id."""
    return Plan(_request("cancel", session, CancelBody(call=call)), lambda response: _read_cancel(response).verdict)


def restart(session: str) -> Plan[SessionRef]:
    """End the session process and start the next one."""
    return Plan(_request("restart_session", session), read_ref)


def hibernate(session: str) -> Plan[None]:
    """Give a session's process back until the next call."""
    return Plan(_request("hibernate_session", session), _none)


def stop(session: str, grace_s: float) -> Plan[KillReceipt]:
    """End a session for good."""
    request = _request("stop_session", session, StopBody(grace_s=grace_s))
    request.timeout_s = (request.timeout_s or 0.0) + grace_s
    return Plan(request, _read_receipt)


def kill(session: str) -> Plan[KillReceipt]:
    """Kill the session's process tree now."""
    return Plan(_request("kill_session", session), _read_receipt)


def logs(session: str, call: int | None = None) -> Plan[list[OutputChunk]]:
    """Read the output that is kept."""
    return Plan(_request("logs", session, FollowBody(call=call)), _chunks)


def _chunks(response: Response) -> list[OutputChunk]:
    """Return the chunks; what was lost before the first is said by the first."""
    found = _read_chunks(response)
    chunks = list(found.chunks)
    if found.dropped and chunks and not chunks[0].dropped:
        chunks[0] = msgspec.structs.replace(chunks[0], dropped=found.dropped)
    return chunks


def events(session: str, since: int | None) -> Plan[list[Event]]:
    """Read the events that are kept."""
    return Plan(_request("events", session, FollowBody(since=since)), lambda r: list(_read_events(r).events))


def signals(session: str, since: int | None) -> Plan[list[AgentSignal]]:
    """Read the signals to subscribers that are kept."""
    return Plan(
        _request("signals", session, FollowBody(since=since)),
        lambda response: [signal_of(item) for item in _read_signals(response).signals],
    )


def signal_of(item: Item) -> AgentSignal:
    """Decode a signal to subscribers: in this process, of those who asked for it."""
    assert isinstance(item, SentSignal)
    try:
        said = decode_value(item.data, nodes_max=RESULT_NODES_MAX)
        if type(said) is not dict:
            raise ProtocolBreach("not a map")
        fields = {name: said.get(name) for name in ("type", "source", "id", "subject", "data")}
        fields["extensions"] = said.get("extensions") or {}
        return msgspec.convert(
            {"number": item.number, "at": item.at, "session": item.session, "dropped": item.dropped, **fields},
            AgentSignal,
        )
    except (ProtocolBreach, msgspec.ValidationError) as problem:
        raise ToolResultInvalid(f"signal {item.number} cannot be read: {problem}", code="result_unreadable") from None


def status_of(item: Item) -> AgentStatus:
    """Decode how an agent says it is doing: in this process, of those who asked for it."""
    assert isinstance(item, SentSignal)
    try:
        return _decode_agent_status(item.data)
    except msgspec.MsgspecError as problem:
        raise ToolResultInvalid(f"a status that cannot be read: {problem}", code="result_unreadable") from None


def children(session: str) -> Plan[list[ChildInfo]]:
    """List the children of a session's agent."""
    return Plan(_request("children", session), lambda response: list(_read_children(response).children))


def aside(session: str, *, retry: str = "", drop: str = "") -> Plan[list[AsideSignal]]:
    """List what was set aside of a session's signals, after one of it was retried or dropped."""
    body = AsideBody(retry=retry, drop=drop)
    return Plan(_request("aside", session, body), lambda response: list(_read_aside(response).signals))


def touch(session: str) -> Plan[None]:
    """Say that a session is not idle."""
    return Plan(_request("touch", session), _none)


def follow_agent_status(session: str) -> Plan[None]:
    """Go on being told how a session's agent is doing."""
    return follow("follow_agent_status", session, since=None, call=None)


def attach(session: str) -> Plan[None]:
    """Own a session until that is cancelled: it does not become idle."""
    return follow("attach", session, since=None, call=None)


def follow(
    op: Literal["logs", "events", "signals", "follow_agent_status", "attach"],
    session: str,
    *,
    since: int | None,
    call: int | None,
) -> Plan[None]:
    """Go on reading, or being attached, until cancelled; what comes goes to the request's `on_item`."""
    request = _request(op, session, FollowBody(since=since, follow=True, call=call))
    request.timeout_s = None
    return Plan(request, _none)


# --- the host -------------------------------------------------------------------------------------------------------


def start_session(body: StartBody) -> Plan[SessionRef]:
    """Start a session."""
    return Plan(_request("start_session", "", body), read_ref)


def export_session(session: str) -> Plan[bytes]:
    """Put a session into an archive."""
    return Plan(_request("export_session", session), _payload)


def import_session(body: ImportBody, archive: bytes) -> Plan[SessionRef]:
    """Make a session of an archive."""
    request = _request("import_session", "", body)
    request.payload = archive
    return Plan(request, read_ref)


def fork_session(session: str, body: ForkBody) -> Plan[SessionRef]:
    """Make a session of another one's state."""
    return Plan(_request("fork_session", session, body), read_ref)


def find_session(session: str, partition: str | None = None, *, stopped_first: bool = False) -> Plan[SessionRef]:
    """Find a session by id or name."""
    return Plan(_request("find_session", session, FindBody(partition=partition, stopped_first=stopped_first)), read_ref)


def list_sessions(*, every: bool, partition: str | None = None) -> Plan[list[SessionStatus]]:
    """List sessions."""
    body = ListBody(all=every, partition=partition)
    return Plan(_request("list_sessions", "", body), lambda r: list(_read_sessions(r).sessions))


def resume_session(session: str) -> Plan[SessionRef]:
    """Bring a stopped session back."""
    return Plan(_request("resume_session", session), read_ref)


def remove_session(session: str) -> Plan[None]:
    """Delete a session's data."""
    return Plan(_request("remove_session", session), _none)


def remove_started(response: Response) -> Plan[None]:
    """Undo a start whose caller has been cancelled: nobody has a handle of that session."""
    return remove_session(read_ref(response).id)


def statistics() -> Plan[Statistics]:
    """Count what the host did."""
    return Plan(_request("statistics", ""), _read_statistics)


def restart_host() -> Plan[None]:
    """Ask the host to end and to be started again in its own place; it answers before it does."""
    return Plan(_request("restart_host", ""), _none)


def shutdown(grace_s: float) -> Plan[None]:
    """Ask the host to end."""
    return Plan(_request("shutdown", "", StopBody(grace_s=grace_s)), _none)
