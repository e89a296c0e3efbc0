"""The sync handle of a session: what one does with it, and with the commands it runs.

It is *not* the session: a handle is cheap, is equal to any other of the same id, and stays good over restarts. It keeps
nothing alive. Every verb blocks its caller's thread until its deadline at most, in an event loop too (`AsyncSession` is the
one that awaits).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, overload

from procession.api import verbs
from procession.api.agent_verbs import AgentVerbs
from procession.api.at_rest import carry_out
from procession.api.checks import check_grace, check_input, check_since, check_text, check_timeout
from procession.api.core import plans
from procession.api.core.plans import Plan
from procession.api.follow import Follow
from procession.api.futures import CallFuture, submit
from procession.api.link import Link, Reach
from procession.api.sandbox import Sandbox
from procession.api.tool_verbs import ToolVerbs
from procession.api.verbs import Command, Input, OnOutput, PathLike
from procession.ipc.core.agent_records import AgentStatus, Finished
from procession.ipc.core.bounds import CHILD_TIMEOUT_S, QUERY_TIMEOUT_S
from procession.ipc.core.errors import InvalidRequest, ProcessionError
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import OPERATIONS, StoryDone
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
    SessionStatus,
)

__all__ = ["Process", "Sandbox", "Session"]

T = TypeVar("T")
R = TypeVar("R")

_PING, _ECHO, _MODULES, _INTERRUPT = (OPERATIONS[name] for name in ("ping", "echo", "modules", "interrupt"))
_WAIT, _AWAIT = OPERATIONS["process_wait"], OPERATIONS["await_result"]
_ACT, _ASK = OPERATIONS["act"], OPERATIONS["ask"]


class Session(AgentVerbs, ToolVerbs):
    """A handle on one session: run functions, commands and code in it, look at it, end it.

    Made by a Host; `id` is for programs, `name` for people. It is cheap, equal to any other of the same id, and good over
    restarts; letting go of it ends nothing. Every verb waits in the caller's thread, until its deadline at most.
    """

    __slots__ = ("_last", "_link", "_reach", "id", "name")

    def __init__(self, link: Link, id: str, name: str, reach: Reach | None = None) -> None:
        self._link = link
        self._reach = link.reach if reach is None else reach
        self._last: SessionStatus | None = None
        self.id = id
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Session) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        status: SessionStatus | None = self._last
        if self._link.is_local:
            try:
                status = self.status()
            except ProcessionError:
                status = None
        return f"<Session {verbs.describe(self.name, status)}>"

    def _do(self, plan: Plan[T]) -> T:
        try:
            return carry_out(self._link.backend, plan)
        except ProcessionError as error:
            if error.session is None:
                error.session = self.id
            raise

    def _start(self, plan: Plan[T]) -> CallFuture[T]:
        return submit(self._link.backend, plan, self.id)

    # --- the agent --------------------------------------------------------------------------------------------------
    def _act(self, action: str, timeout: float = QUERY_TIMEOUT_S, /, **parameters: object) -> Any:
        return self._do(plans.act(self.id, action, parameters, check_timeout(timeout, _ACT)))

    def _ask(self, query: str, timeout: float = QUERY_TIMEOUT_S, /, **parameters: object) -> Any:
        return self._do(plans.ask(self.id, query, parameters, check_timeout(timeout, _ASK)))

    def using(
        self,
        *,
        call_id: str | None = None,
        durability: Literal["memory", "batch", "sync"] | None = None,
        fail_fast: bool | None = None,
        wait: bool | None = None,
    ) -> Session:
        """Return this session as a handle with which calls are made otherwise; equal to this one.

        call_id: what the calls are called. Made once more with the same one, within an hour, a call is answered as it was the
            first time and not run again: for a retry after HostLost or CallTimedOut. Give each call one of its own.
        durability: when a change is acknowledged: memory (it outlives its process), batch (written, it outlives the host), sync
            (on disk, it outlives a power loss).
        fail_fast: SessionRestarting at once, instead of waiting for the next process. wait: queue instead of MailboxFull.

        Raises InvalidRequest.
        """
        from procession.api.using import using

        return Session(using(self._link, call_id, durability, fail_fast, wait), self.id, self.name, self._reach)

    # --- code and commands ------------------------------------------------------------------------------------------
    @overload
    def run(
        self, fn: Callable[..., T], /, *args: object, timeout: float = ..., returns: None = None,
        limits: Limits | None = ..., wait: bool = ..., on_output: OnOutput | None = ..., **kwargs: object,
    ) -> T: ...  # fmt: skip
    @overload
    def run(
        self, fn: Callable[..., object], /, *args: object, timeout: float = ..., returns: type[R],
        limits: Limits | None = ..., wait: bool = ..., on_output: OnOutput | None = ..., **kwargs: object,
    ) -> R: ...  # fmt: skip
    @overload
    def run(
        self, fn: Callable[..., object], /, *args: object, timeout: float = ..., returns: UnionType,
        limits: Limits | None = ..., wait: bool = ..., on_output: OnOutput | None = ..., **kwargs: object,
    ) -> object: ...  # fmt: skip
    def run(
        self,
        fn: Callable[..., Any],
        /,
        *args: object,
        timeout: float = 30,
        returns: object = None,
        limits: Limits | None = None,
        wait: bool = False,
        on_output: OnOutput | None = None,
        **kwargs: object,
    ) -> Any:
        """Run `fn(*args, **kwargs)` in a worker of its own and return its result.

        At `timeout` seconds its whole process tree is ended (ToolTimedOut). returns: the type to check the result against,
        else the function's annotation. wait: queue instead of MailboxFull. on_output: gets what it prints, piece by piece.
        Raises ToolFailed and the rest of the tree.
        """
        return self._do(
            verbs.run(
                self.id, self._reach, fn, args, kwargs,
                timeout=timeout, returns=returns, limits=limits, wait=wait, on_output=on_output,
            )
        )  # fmt: skip

    @overload
    def submit(
        self, fn: Callable[..., T], /, *args: object, timeout: float = ..., returns: None = None,
        limits: Limits | None = ..., wait: bool = ..., on_output: OnOutput | None = ..., **kwargs: object,
    ) -> CallFuture[T]: ...  # fmt: skip
    @overload
    def submit(
        self, fn: Callable[..., object], /, *args: object, timeout: float = ..., returns: type[R],
        limits: Limits | None = ..., wait: bool = ..., on_output: OnOutput | None = ..., **kwargs: object,
    ) -> CallFuture[R]: ...  # fmt: skip
    @overload
    def submit(
        self, fn: Callable[..., object], /, *args: object, timeout: float = ..., returns: UnionType,
        limits: Limits | None = ..., wait: bool = ..., on_output: OnOutput | None = ..., **kwargs: object,
    ) -> CallFuture[object]: ...  # fmt: skip
    def submit(
        self,
        fn: Callable[..., Any],
        /,
        *args: object,
        timeout: float = 30,
        returns: object = None,
        limits: Limits | None = None,
        wait: bool = False,
        on_output: OnOutput | None = None,
        **kwargs: object,
    ) -> CallFuture[Any]:
        """Start what `run` runs and return its Future; on_output is called in the host's own thread."""
        plan = verbs.run(
            self.id, self._reach, fn, args, kwargs,
            timeout=timeout, returns=returns, limits=limits, wait=wait, on_output=on_output,
        )  # fmt: skip
        return submit(self._link.backend, plan, self.id)

    def exec(
        self,
        command: Command,
        *,
        timeout: float = 30,
        cwd: PathLike | None = None,
        env: Mapping[str, str] | None = None,
        input: Input | None = None,
        check: bool = False,
        on_output: OnOutput | None = None,
        limits: Limits | None = None,
    ) -> CommandResult:
        """Run a command to its end: a list is its argv, a text is for `sh -c`.

        cwd: where, from the project. env: variables to add. check: raise ToolCrashed for an exit code that is not 0.
        """
        return self._do(
            verbs.exec_command(
                self.id, command,
                timeout=timeout, cwd=cwd, env=env, input=input, check=check, on_output=on_output, limits=limits,
            )
        )  # fmt: skip

    def start(
        self,
        command: Command,
        *,
        cwd: PathLike | None = None,
        env: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        restart: Literal["permanent", "transient", "temporary"] = "temporary",
    ) -> Process:
        """Start a command that lives on its own, until it ends or its session does: a server of tools, a watcher.

        restart: when it is started again, by the policy that sessions have: transient (after a crash), permanent (after any
        end). All that it had started is ended first, and five crashes in 30 s end it for good.
        """
        info = self._do(verbs.start(self.id, command, cwd=cwd, env=env, limits=limits, restart=restart))
        return Process(self, info)

    def run_code(
        self, code: str, *, timeout: float = 30, on_output: OnOutput | None = None, limits: Limits | None = None
    ) -> CodeResult:
        """Run a cell in the session's own interpreter, where names stay; what it raises is in the result."""
        return self._do(verbs.run_code(self.id, code, timeout=timeout, on_output=on_output, limits=limits))

    def interrupt(self, *, timeout: float = 5) -> None:
        """Interrupt the cell that runs, as Ctrl-C would."""
        self._do(plans.interrupt(self.id, check_timeout(timeout, _INTERRUPT)))

    # --- the session process ----------------------------------------------------------------------------------------
    def ping(self, *, timeout: float = 5) -> float:
        """Return how many seconds a sign of life takes; it overtakes everything else."""
        plan = plans.ping(self.id, check_timeout(timeout, _PING))
        began = time.perf_counter()
        self._do(plan)
        return time.perf_counter() - began

    def echo(self, data: Input = b"", *, timeout: float = 5) -> bytes:
        """Send bytes to the session process and back."""
        data = data if type(data) is bytes else check_input(data) or b""
        return self._do(plans.echo(self.id, data, check_timeout(timeout, _ECHO)))

    def modules(self, *, timeout: float = 5) -> tuple[str, ...]:
        """List the modules that the session process has loaded."""
        return self._do(plans.modules(self.id, check_timeout(timeout, _MODULES)))

    def processes(self) -> list[Process]:
        """List the commands that `start` started."""
        return [Process(self, info) for info in self._do(plans.processes(self.id))]

    # --- what the host knows ----------------------------------------------------------------------------------------
    def status(self) -> SessionStatus:
        """Look at the session; this asks the host, not the session process."""
        self._last = status = self._do(plans.status(self.id))
        return status

    def story(self) -> StoryDone:
        """Return the session's status, its steps so far, its last end and the output before that."""
        return self._do(plans.story(self.id))

    def last_report(self) -> RunReport | None:
        """Return how the last session process ended, None when none has.

        How one run went is told elsewhere: by the `report` of its error, of its CommandResult, or of its future.
        """
        return self._do(plans.last_report(self.id))

    def calls(self) -> list[CallInfo]:
        """List calls that run and calls that are over, as far as they are kept."""
        found = self._do(plans.calls(self.id))
        return list(found)

    def cancel(self, call_id: str) -> str:
        """Cancel a call by its id; returns not_sent, cancelling (its own outcome follows), too_late or unknown_call."""
        return self._do(plans.cancel(self.id, check_text("call_id", call_id)))

    @overload
    def logs(self, follow: Literal[False] = False) -> list[OutputChunk]: ...
    @overload
    def logs(self, follow: Literal[True]) -> Follow[OutputChunk]: ...
    def logs(self, follow: bool = False) -> list[OutputChunk] | Follow[OutputChunk]:
        """Return the output that is kept, or an iterator that goes on with what comes."""
        return self._logs(follow, None)

    def _logs(self, follow: bool, call: int | None) -> list[OutputChunk] | Follow[OutputChunk]:
        if not follow:
            return self._do(plans.logs(self.id, call))
        plan = plans.follow("logs", self.id, since=None, call=call)
        return Follow(self._link.backend, plan, self.id)

    @overload
    def events(self, since: int | None = None, follow: Literal[False] = False) -> list[Event]: ...
    @overload
    def events(self, since: int | None = None, *, follow: Literal[True]) -> Follow[Event]: ...
    def events(self, since: int | None = None, follow: bool = False) -> list[Event] | Follow[Event]:
        """Return this session's events after number `since`, or an iterator that goes on with what comes."""
        if not follow:
            return self._do(plans.events(self.id, check_since(since)))
        return Follow(self._link.backend, plans.follow("events", self.id, since=check_since(since), call=None), self.id)

    @overload
    def signals(self, follow: Literal[False] = False, since: int | None = None) -> list[AgentSignal]: ...
    @overload
    def signals(self, follow: Literal[True], since: int | None = None) -> Follow[AgentSignal]: ...
    def signals(self, follow: bool = False, since: int | None = None) -> list[AgentSignal] | Follow[AgentSignal]:
        """Return what its agent told its subscribers after number `since`, or an iterator that goes on with what comes.

        What a code session tells of its own changes is only told while somebody follows; what an agent emits is always kept.
        """
        if not follow:
            return self._do(plans.signals(self.id, check_since(since)))
        plan = plans.follow("signals", self.id, since=check_since(since), call=None)
        return Follow(self._link.backend, plan, self.id, plans.signal_of)

    def follow_agent_status(self) -> Follow[AgentStatus]:
        """Return an iterator of how the agent is doing: now, and whenever that changes, until the session stops.

        The agent tells it by itself, quick changes at most twenty times a second.
        """
        return Follow(self._link.backend, plans.follow_agent_status(self.id), self.id, plans.status_of)

    def set_aside(self) -> list[AsideSignal]:
        """List the signals that it could not handle, the oldest first: they were running at two deaths, or it was stopped."""
        return self._do(plans.aside(self.id))

    def retry_signal(self, id: str) -> None:
        """Give it once more a signal that was set aside. Raises InvalidRequest (signal_not_found)."""
        self._do(plans.aside(self.id, retry=check_text("id", id)))

    def drop_signal(self, id: str) -> None:
        """Forget a signal that was set aside. Raises InvalidRequest (signal_not_found)."""
        self._do(plans.aside(self.id, drop=check_text("id", id)))

    def children(self) -> list[ChildInfo]:
        """List the children that its agent has now."""
        return self._do(plans.children(self.id))

    def await_child(self, tag: str, *, timeout: float = CHILD_TIMEOUT_S) -> Finished:
        """Wait until the agent has a child with this tag, and that one is finished; return how. Raises CallTimedOut."""
        from procession.api.awaiting import CHILD_LOOK_S, child_with, no_child

        tag, deadline = check_text("tag", tag), time.monotonic() + (check_timeout(timeout, _AWAIT) or 0.0)
        while (child := child_with(tag, self.children())) is None:
            if time.monotonic() >= deadline:
                raise no_child(tag, timeout)
            time.sleep(CHILD_LOOK_S)
        left_s = max(deadline - time.monotonic(), CHILD_LOOK_S)
        return Session(self._link, child.session, child.name).await_completion(timeout=left_s)

    # --- not being idle ---------------------------------------------------------------------------------------------
    @contextmanager
    def attach(self) -> Iterator[None]:
        """Own the session for the time of a `with`: its idle timeout does not end it. Who goes away lets go of it, too."""
        self.touch()
        with Follow(self._link.backend, plans.attach(self.id), self.id):
            yield

    def touch(self) -> None:
        """Say that it is not idle; its idle timeout begins anew."""
        self._do(plans.touch(self.id))

    # --- moving and copying -----------------------------------------------------------------------------------------
    def export(self, path: PathLike, *, overwrite: bool = False) -> Path:
        """Write all that was acknowledged of this session to one file, and return its path once it is on disk.

        It may run, be down, stopped or failed, and stays as it is. The file holds who it is, how it is started and its state, not
        its project's folder; `Host.import_session` makes a session of it, here or on another machine.

        Raises AlreadyExists (file_exists) unless overwrite, InvalidRequest, DiskFull, StorageError.
        """
        from procession.api import moves

        place = moves.archive_to_write(path, overwrite)
        return moves.write_archive(place, self._do(plans.export_session(self.id)), overwrite)

    def fork(
        self,
        *,
        at: int | None = None,
        name: str | None = None,
        project: PathLike | None = None,
        copy_project: bool = False,
    ) -> Session:
        """Start a session of its own with this one's state, and return its handle; this one stays as it is.

        at: the number of the change after which the state is taken (`status().number` is the last), now unless given; as far
            back as the journal goes. name: this one's with the beginning of the new id, unless given.
        project: the folder it works in, else one of its own. copy_project: what is in this one's folder is copied there; the
            folder is made, or is empty.

        Raises InvalidRequest (sequence_gone, project_too_large, ...), AlreadyExists, SessionLimitReached, StartFailed, DiskFull.
        """
        from procession.api import moves
        from procession.api.using import plainly

        body = moves.fork_body(at=at, name=name, project=project, copy_project=copy_project)
        ref = self._do(plans.fork_session(self.id, body))
        self._link.tools.share(ref.id, self.id)
        return Session(plainly(self._link), ref.id, ref.name, self._reach)

    # --- ends -------------------------------------------------------------------------------------------------------
    def restart(self) -> None:
        """End the session process and start the next one."""
        self._do(plans.restart(self.id))

    def hibernate(self) -> None:
        """Give the session's process back; its folder and its name stay its own, and the next call starts it again.

        Raises InvalidRequest (`session_busy`) while it needs its process, naming for what, and SessionNotRunning when it was
        stopped or has failed.
        """
        self._do(plans.hibernate(self.id))

    def stop(self, grace: float | None = None) -> KillReceipt:
        """End the session for good, after `grace` seconds by force; `Host.resume_session` brings it back."""
        return self._do(plans.stop(self.id, check_grace(grace)))

    def kill(self) -> KillReceipt:
        """Kill the session's whole process tree now; the next call starts it again.

        A session that was stopped or has failed has nothing to kill and stays as it is: resume or restart it.
        """
        return self._do(plans.kill(self.id))


class Process:
    """A long-lived command of a session; a cheap handle, as Session is."""

    __slots__ = ("_session", "argv", "id", "pid")

    def __init__(self, session: Session, info: ProcessInfo) -> None:
        self._session = session
        self.id = info.id
        self.pid = info.pid
        self.argv = info.argv

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Process) and (other._session, other.id) == (self._session, self.id)

    def __hash__(self) -> int:
        return hash((self._session, self.id))

    def __repr__(self) -> str:
        return f"<Process {self.id} pid={self.pid} of {self._session.name}: {' '.join(self.argv)[:60]}>"

    def status(self) -> ProcessInfo:
        """Look at it. Raises InvalidRequest (`unknown_process`) when the session no longer lists it."""
        return find_process(self._session._do(plans.processes(self._session.id)), self.id, self._session.id)

    def wait(self, timeout: float = 30) -> ProcessInfo:
        """Wait for its end, for `timeout` seconds; then CallTimedOut, and the command runs on."""
        plan = plans.process_wait(self._session.id, self.id, check_timeout(timeout, _WAIT))
        return self._session._do(plan)

    def interrupt(self) -> ProcessInfo:
        """Send SIGINT to the command itself."""
        return self._session._do(plans.process_signal(self._session.id, self.id, "interrupt"))

    def terminate(self) -> ProcessInfo:
        """End its tree: SIGTERM, a moment, SIGKILL."""
        return self._session._do(plans.process_signal(self._session.id, self.id, "terminate"))

    def kill(self) -> ProcessInfo:
        """Kill its tree."""
        return self._session._do(plans.process_signal(self._session.id, self.id, "kill"))

    def write(self, data: Input) -> None:
        """Give it input; text goes as UTF-8."""
        plan = plans.process_write(self._session.id, self.id, check_input(data), close=False)
        self._session._do(plan)

    def close_stdin(self) -> None:
        """Tell it that there is no more input."""
        self._session._do(plans.process_write(self._session.id, self.id, None, close=True))

    @overload
    def logs(self, follow: Literal[False] = False) -> list[OutputChunk]: ...
    @overload
    def logs(self, follow: Literal[True]) -> Follow[OutputChunk]: ...
    def logs(self, follow: bool = False) -> list[OutputChunk] | Follow[OutputChunk]:
        """Return what it printed and is kept, or an iterator that goes on with what comes."""
        return self._session._logs(follow, call_of(self.id))


def call_of(process: str) -> int | None:
    """Return the number of the call that started a process, which its output carries."""
    digits = process.lstrip("abcdefghijklmnopqrstuvwxyz-")
    return int(digits) if digits.isdecimal() else None


def find_process(processes: tuple[ProcessInfo, ...], process: str, session: str) -> ProcessInfo:
    """Return the one of that id; raises InvalidRequest (`unknown_process`)."""
    for info in processes:
        if info.id == process:
            return info
    raise InvalidRequest(f"there is no process {process} in this session", code="unknown_process", session=session)
