"""One plan per verb: the request to make, and how its response is read. What all faces share, written once.

A plan does nothing: the sync face calls the backend with it, the async face awaits it. Arguments have been checked
(`api/checks.py`) and packed already. Rule: one builder per operation of the table, and a test that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, Literal, TypeVar

import msgspec

from procession.ipc.core.backend import Item, Request, Response
from procession.ipc.core.errors import ToolCrashed, ToolResultInvalid
from procession.ipc.core.file_names import is_text, shown, to_bytes
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import (
    OPERATIONS,
    CallList,
    CancelBody,
    CancelDone,
    ChunkList,
    CodeBody,
    CodeDone,
    EventList,
    ExecBody,
    ExecDone,
    FollowBody,
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
    SessionList,
    SessionRef,
    StartBody,
    StopBody,
    StoryDone,
)
from procession.ipc.core.records import (
    CallInfo,
    CodeResult,
    CommandResult,
    Event,
    KillReceipt,
    OutputChunk,
    ProcessInfo,
    RunReport,
    SessionStatus,
    Statistics,
)

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)
OnItem = Callable[[Item], None]

#: What of a failed command's output is part of its error's text.
_TAIL_CHARS: Final = 2_000
_NOTHING: Final = Nothing()


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
) -> Plan[ProcessInfo]:
    """Start a command that lives on its own."""
    body = _exec_body(argv, shell=shell, cwd=cwd, env=env, limits=limits)
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


def follow(op: Literal["logs", "events"], session: str, *, since: int | None, call: int | None) -> Plan[None]:
    """Go on reading until cancelled; what comes goes to the request's `on_item`."""
    request = _request(op, session, FollowBody(since=since, follow=True, call=call))
    request.timeout_s = None
    return Plan(request, _none)


# --- the host -------------------------------------------------------------------------------------------------------


def start_session(body: StartBody) -> Plan[SessionRef]:
    """Start a session."""
    return Plan(_request("start_session", "", body), read_ref)


def find_session(session: str) -> Plan[SessionRef]:
    """Find a session by id or name."""
    return Plan(_request("find_session", session), read_ref)


def list_sessions(*, every: bool) -> Plan[list[SessionStatus]]:
    """List sessions."""
    return Plan(_request("list_sessions", "", ListBody(all=every)), lambda r: list(_read_sessions(r).sessions))


def resume_session(session: str) -> Plan[SessionRef]:
    """Bring a stopped session back."""
    return Plan(_request("resume_session", session), read_ref)


def remove_session(session: str) -> Plan[None]:
    """Delete a session's data."""
    return Plan(_request("remove_session", session), _none)


def statistics() -> Plan[Statistics]:
    """Count what the host did."""
    return Plan(_request("statistics", ""), _read_statistics)


def shutdown(grace_s: float) -> Plan[None]:
    """Ask the host to end."""
    return Plan(_request("shutdown", "", StopBody(grace_s=grace_s)), _none)
