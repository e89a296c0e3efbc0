# ruff: noqa: ASYNC109 - `timeout` is the deadline that the session keeps, the same parameter as the sync face's
"""The async handle of a session: `Session`, awaited. Same verbs, parameters, records and errors.

It belongs to the loop of its AsyncHost. Cancelling a task that awaits a verb cancels the work (`bridge.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, overload

from procession.api import verbs
from procession.api.aio_agent_verbs import AsyncAgentVerbs
from procession.api.aio_tool_verbs import AsyncToolVerbs
from procession.api.awaiting import CHILD_LOOK_S, child_with, no_child
from procession.api.bridge import AsyncFollow, backend_of, perform, perform_handing
from procession.api.checks import check_grace, check_input, check_since, check_text, check_timeout
from procession.api.core import plans
from procession.api.core.plans import Plan
from procession.api.link import Link, Reach
from procession.api.session import call_of, find_process
from procession.api.verbs import Command, Input, OnOutput, PathLike, split_output
from procession.ipc.core.agent_records import AgentStatus, Finished
from procession.ipc.core.bounds import CHILD_TIMEOUT_S
from procession.ipc.core.errors import ProcessionError
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

T = TypeVar("T")
R = TypeVar("R")

_PING, _ECHO, _MODULES, _INTERRUPT = (OPERATIONS[name] for name in ("ping", "echo", "modules", "interrupt"))
_WAIT, _AWAIT = OPERATIONS["process_wait"], OPERATIONS["await_result"]


class AsyncSession(AsyncAgentVerbs, AsyncToolVerbs):
    """`Session`, awaited: run functions, commands and code in a session, look at it, end it.

    Made by an AsyncHost; `id` is for programs, `name` for people. It is cheap, equal to any other of the same id, and good
    over restarts; letting go of it ends nothing. Cancelling a task that awaits a verb ends the work.
    """

    __slots__ = ("_last", "_link", "_reach", "id", "name")

    def __init__(self, link: Link, id: str, name: str, reach: Reach | None = None) -> None:
        self._link = link
        self._reach = link.reach if reach is None else reach
        self._last: SessionStatus | None = None
        self.id = id
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncSession) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        status: SessionStatus | None = self._last
        if self._link.is_local:
            plan = plans.status(self.id)
            try:
                status = plan.finish(self._link.backend.call(plan.request))  # known here, so answered at once
            except ProcessionError:
                status = None
        return f"<AsyncSession {verbs.describe(self.name, status)}>"

    async def _do(self, plan: Plan[T], on_output: OnOutput | None = None) -> T:
        """Make a call. on_output: an async one, which is awaited; a plain one is the plan's."""
        if on_output is None:
            return await perform(backend_of(self._link), plan, self.id)
        return await perform_handing(backend_of(self._link), plan, self.id, on_output)

    def using(
        self,
        *,
        call_id: str | None = None,
        durability: Literal["memory", "batch", "sync"] | None = None,
        fail_fast: bool | None = None,
        wait: bool | None = None,
    ) -> AsyncSession:
        """Return this session as a handle with which calls are made otherwise; equal to this one.

        call_id: what the calls are called. Made once more with the same one, within an hour, a call is answered as it was the
            first time and not run again: for a retry after HostLost or CallTimedOut. Give each call one of its own.
        durability: when a change is acknowledged: memory (it outlives its process), batch (written, it outlives the host), sync
            (on disk, it outlives a power loss).
        fail_fast: SessionRestarting at once, instead of waiting for the next process. wait: queue instead of MailboxFull.

        Raises InvalidRequest.
        """
        from procession.api.using import using

        return AsyncSession(using(self._link, call_id, durability, fail_fast, wait), self.id, self.name, self._reach)

    # --- code and commands ------------------------------------------------------------------------------------------
    @overload
    async def run(
        self, fn: Callable[..., T], /, *args: object, timeout: float = ..., returns: None = None,
        limits: Limits | None = ..., wait: bool = ..., on_output: OnOutput | None = ..., **kwargs: object,
    ) -> T: ...  # fmt: skip
    @overload
    async def run(
        self, fn: Callable[..., object], /, *args: object, timeout: float = ..., returns: type[R],
        limits: Limits | None = ..., wait: bool = ..., on_output: OnOutput | None = ..., **kwargs: object,
    ) -> R: ...  # fmt: skip
    @overload
    async def run(
        self, fn: Callable[..., object], /, *args: object, timeout: float = ..., returns: UnionType,
        limits: Limits | None = ..., wait: bool = ..., on_output: OnOutput | None = ..., **kwargs: object,
    ) -> object: ...  # fmt: skip
    async def run(
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
        else the function's annotation. wait: queue instead of MailboxFull. on_output: gets what it prints, piece by piece;
        an async function is awaited for each, in order. Raises ToolFailed and the rest of the tree.
        """
        plain, awaited = split_output(on_output)
        return await self._do(
            verbs.run(
                self.id, self._reach, fn, args, kwargs,
                timeout=timeout, returns=returns, limits=limits, wait=wait, on_output=plain,
            ),
            awaited,
        )  # fmt: skip

    @overload
    def submit(
        self, fn: Callable[..., T], /, *args: object, timeout: float = ..., returns: None = None,
        limits: Limits | None = ..., wait: bool = ..., on_output: OnOutput | None = ..., **kwargs: object,
    ) -> asyncio.Task[T]: ...  # fmt: skip
    @overload
    def submit(
        self, fn: Callable[..., object], /, *args: object, timeout: float = ..., returns: type[R],
        limits: Limits | None = ..., wait: bool = ..., on_output: OnOutput | None = ..., **kwargs: object,
    ) -> asyncio.Task[R]: ...  # fmt: skip
    @overload
    def submit(
        self, fn: Callable[..., object], /, *args: object, timeout: float = ..., returns: UnionType,
        limits: Limits | None = ..., wait: bool = ..., on_output: OnOutput | None = ..., **kwargs: object,
    ) -> asyncio.Task[object]: ...  # fmt: skip
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
    ) -> asyncio.Task[Any]:
        """Start what `run` runs and return its Task; the arguments are packed now."""
        plain, awaited = split_output(on_output)
        plan = verbs.run(
            self.id, self._reach, fn, args, kwargs,
            timeout=timeout, returns=returns, limits=limits, wait=wait, on_output=plain,
        )  # fmt: skip
        return asyncio.get_running_loop().create_task(self._do(plan, awaited))

    async def exec(
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
        plain, awaited = split_output(on_output)
        return await self._do(
            verbs.exec_command(
                self.id, command,
                timeout=timeout, cwd=cwd, env=env, input=input, check=check, on_output=plain, limits=limits,
            ),
            awaited,
        )  # fmt: skip

    async def start(
        self,
        command: Command,
        *,
        cwd: PathLike | None = None,
        env: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        restart: Literal["permanent", "transient", "temporary"] = "temporary",
    ) -> AsyncProcess:
        """Start a command that lives on its own, until it ends or its session does: a server of tools, a watcher.

        restart: when it is started again, by the policy that sessions have: transient (after a crash), permanent (after any
        end). All that it had started is ended first, and five crashes in 30 s end it for good.
        """
        info = await self._do(verbs.start(self.id, command, cwd=cwd, env=env, limits=limits, restart=restart))
        return AsyncProcess(self, info)

    async def run_code(
        self, code: str, *, timeout: float = 30, on_output: OnOutput | None = None, limits: Limits | None = None
    ) -> CodeResult:
        """Run a cell in the session's own interpreter, where names stay; what it raises is in the result."""
        plain, awaited = split_output(on_output)
        return await self._do(verbs.run_code(self.id, code, timeout=timeout, on_output=plain, limits=limits), awaited)

    async def interrupt(self, *, timeout: float = 5) -> None:
        """Interrupt the cell that runs, as Ctrl-C would."""
        await self._do(plans.interrupt(self.id, check_timeout(timeout, _INTERRUPT)))

    # --- the session process ----------------------------------------------------------------------------------------
    async def ping(self, *, timeout: float = 5) -> float:
        """Return how many seconds a sign of life takes; it overtakes everything else."""
        plan = plans.ping(self.id, check_timeout(timeout, _PING))
        began = time.perf_counter()
        await self._do(plan)
        return time.perf_counter() - began

    async def echo(self, data: Input = b"", *, timeout: float = 5) -> bytes:
        """Send bytes to the session process and back."""
        data = data if type(data) is bytes else check_input(data) or b""
        return await self._do(plans.echo(self.id, data, check_timeout(timeout, _ECHO)))

    async def modules(self, *, timeout: float = 5) -> tuple[str, ...]:
        """List the modules that the session process has loaded."""
        return await self._do(plans.modules(self.id, check_timeout(timeout, _MODULES)))

    async def processes(self) -> list[AsyncProcess]:
        """List the commands that `start` started."""
        return [AsyncProcess(self, info) for info in await self._do(plans.processes(self.id))]

    # --- what the host knows ----------------------------------------------------------------------------------------
    async def status(self) -> SessionStatus:
        """Look at the session; this asks the host, not the session process."""
        self._last = status = await self._do(plans.status(self.id))
        return status

    async def story(self) -> StoryDone:
        """Return the session's status, its steps so far, its last end and the output before that."""
        return await self._do(plans.story(self.id))

    async def last_report(self) -> RunReport | None:
        """Return how the last session process ended, None when none has.

        How one run went is told elsewhere: by the `report` of its error or of its CommandResult.
        """
        return await self._do(plans.last_report(self.id))

    async def calls(self) -> list[CallInfo]:
        """List calls that run and calls that are over, as far as they are kept."""
        found = await self._do(plans.calls(self.id))
        return list(found)

    async def cancel(self, call_id: str) -> str:
        """Cancel a call by its id; returns not_sent, cancelling (its own outcome follows), too_late or unknown_call."""
        return await self._do(plans.cancel(self.id, check_text("call_id", call_id)))

    @overload
    def logs(self, follow: Literal[False] = False) -> Coroutine[Any, Any, list[OutputChunk]]: ...
    @overload
    def logs(self, follow: Literal[True]) -> AsyncFollow[OutputChunk]: ...
    def logs(self, follow: bool = False) -> Coroutine[Any, Any, list[OutputChunk]] | AsyncFollow[OutputChunk]:
        """Await it for the output that is kept; with `follow` it is an async iterator that goes on with what comes."""
        return self._logs(follow, None)

    def _logs(
        self, follow: bool, call: int | None
    ) -> Coroutine[Any, Any, list[OutputChunk]] | AsyncFollow[OutputChunk]:
        if not follow:
            return self._do(plans.logs(self.id, call))
        plan = plans.follow("logs", self.id, since=None, call=call)
        return AsyncFollow(backend_of(self._link), plan, self.id)

    @overload
    def events(self, since: int | None = None, follow: Literal[False] = False) -> Coroutine[Any, Any, list[Event]]: ...
    @overload
    def events(self, since: int | None = None, *, follow: Literal[True]) -> AsyncFollow[Event]: ...
    def events(
        self, since: int | None = None, follow: bool = False
    ) -> Coroutine[Any, Any, list[Event]] | AsyncFollow[Event]:
        """Await it for this session's events after number `since`; with `follow`, an async iterator that goes on."""
        if not follow:
            return self._do(plans.events(self.id, check_since(since)))
        return AsyncFollow(
            backend_of(self._link), plans.follow("events", self.id, since=check_since(since), call=None), self.id
        )

    @overload
    def signals(
        self, follow: Literal[False] = False, since: int | None = None
    ) -> Coroutine[Any, Any, list[AgentSignal]]: ...
    @overload
    def signals(self, follow: Literal[True], since: int | None = None) -> AsyncFollow[AgentSignal]: ...
    def signals(
        self, follow: bool = False, since: int | None = None
    ) -> Coroutine[Any, Any, list[AgentSignal]] | AsyncFollow[AgentSignal]:
        """Await it for what its agent told its subscribers after number `since`; with `follow`, an iterator that goes on.

        What a code session tells of its own changes is only told while somebody follows; what an agent emits is always kept.
        """
        if not follow:
            return self._do(plans.signals(self.id, check_since(since)))
        plan = plans.follow("signals", self.id, since=check_since(since), call=None)
        return AsyncFollow(backend_of(self._link), plan, self.id, plans.signal_of)

    def follow_agent_status(self) -> AsyncFollow[AgentStatus]:
        """Return an async iterator of how the agent is doing: now, and whenever that changes, until the session stops.

        The agent tells it by itself, quick changes at most twenty times a second.
        """
        return AsyncFollow(backend_of(self._link), plans.follow_agent_status(self.id), self.id, plans.status_of)

    async def set_aside(self) -> list[AsideSignal]:
        """List the signals that it could not handle, the oldest first: they were running at two deaths, or it was stopped."""
        return await self._do(plans.aside(self.id))

    async def retry_signal(self, id: str) -> None:
        """Give it once more a signal that was set aside. Raises InvalidRequest (signal_not_found)."""
        await self._do(plans.aside(self.id, retry=check_text("id", id)))

    async def drop_signal(self, id: str) -> None:
        """Forget a signal that was set aside. Raises InvalidRequest (signal_not_found)."""
        await self._do(plans.aside(self.id, drop=check_text("id", id)))

    async def children(self) -> list[ChildInfo]:
        """List the children that its agent has now."""
        return await self._do(plans.children(self.id))

    async def await_child(self, tag: str, *, timeout: float = CHILD_TIMEOUT_S) -> Finished:
        """Wait until the agent has a child with this tag, and that one is finished; return how. Raises CallTimedOut."""
        tag, deadline = check_text("tag", tag), time.monotonic() + (check_timeout(timeout, _AWAIT) or 0.0)
        while (child := child_with(tag, await self.children())) is None:
            if time.monotonic() >= deadline:
                raise no_child(tag, timeout)
            await asyncio.sleep(CHILD_LOOK_S)
        left_s = max(deadline - time.monotonic(), CHILD_LOOK_S)
        return await AsyncSession(self._link, child.session, child.name).await_completion(timeout=left_s)

    # --- not being idle ---------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def attach(self) -> AsyncIterator[None]:
        """Own the session for the time of an `async with`: its idle timeout does not end it. Who goes away lets go of it, too."""
        await self.touch()
        async with AsyncFollow(backend_of(self._link), plans.attach(self.id), self.id):
            yield

    async def touch(self) -> None:
        """Say that it is not idle; its idle timeout begins anew."""
        await self._do(plans.touch(self.id))

    # --- moving and copying -----------------------------------------------------------------------------------------
    async def export(self, path: PathLike, *, overwrite: bool = False) -> Path:
        """Write all that was acknowledged of this session to one file, and return its path once it is on disk.

        It may run, be down, stopped or failed, and stays as it is. The file holds who it is, how it is started and its state, not
        its project's folder; `AsyncHost.import_session` makes a session of it, here or on another machine.

        Raises AlreadyExists (file_exists) unless overwrite, InvalidRequest, DiskFull, StorageError.
        """
        from procession.api import moves

        place = moves.archive_to_write(path, overwrite)
        data = await self._do(plans.export_session(self.id))
        return await asyncio.to_thread(moves.write_archive, place, data, overwrite)

    async def fork(
        self,
        *,
        at: int | None = None,
        name: str | None = None,
        project: PathLike | None = None,
        copy_project: bool = False,
    ) -> AsyncSession:
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
        plan = plans.fork_session(self.id, body)
        ref = await perform(backend_of(self._link), plan, self.id, undo=plans.remove_started)
        self._link.tools.share(ref.id, self.id)
        return AsyncSession(plainly(self._link), ref.id, ref.name, self._reach)

    # --- ends -------------------------------------------------------------------------------------------------------
    async def restart(self) -> None:
        """End the session process and start the next one."""
        await self._do(plans.restart(self.id))

    async def hibernate(self) -> None:
        """Give the session's process back; its folder and its name stay its own, and the next call starts it again.

        Raises InvalidRequest (`session_busy`) while it needs its process, naming for what, and SessionNotRunning when it was
        stopped or has failed.
        """
        await self._do(plans.hibernate(self.id))

    async def stop(self, grace: float | None = None) -> KillReceipt:
        """End the session for good, after `grace` seconds by force; `Host.resume_session` brings it back."""
        return await self._do(plans.stop(self.id, check_grace(grace)))

    async def kill(self) -> KillReceipt:
        """Kill the session's whole process tree now; the next call starts it again.

        A session that was stopped or has failed has nothing to kill and stays as it is: resume or restart it.
        """
        return await self._do(plans.kill(self.id))


class AsyncProcess:
    """A long-lived command of a session; a cheap handle, as AsyncSession is."""

    __slots__ = ("_session", "argv", "id", "pid")

    def __init__(self, session: AsyncSession, info: ProcessInfo) -> None:
        self._session = session
        self.id = info.id
        self.pid = info.pid
        self.argv = info.argv

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncProcess) and (other._session, other.id) == (self._session, self.id)

    def __hash__(self) -> int:
        return hash((self._session, self.id))

    def __repr__(self) -> str:
        return f"<AsyncProcess {self.id} pid={self.pid} of {self._session.name}: {' '.join(self.argv)[:60]}>"

    async def status(self) -> ProcessInfo:
        """Look at it. Raises InvalidRequest (`unknown_process`) when the session no longer lists it."""
        return find_process(await self._session._do(plans.processes(self._session.id)), self.id, self._session.id)

    async def wait(self, timeout: float = 30) -> ProcessInfo:
        """Wait for its end, for `timeout` seconds; then CallTimedOut, and the command runs on."""
        plan = plans.process_wait(self._session.id, self.id, check_timeout(timeout, _WAIT))
        return await self._session._do(plan)

    async def interrupt(self) -> ProcessInfo:
        """Send SIGINT to the command itself."""
        return await self._session._do(plans.process_signal(self._session.id, self.id, "interrupt"))

    async def terminate(self) -> ProcessInfo:
        """End its tree: SIGTERM, a moment, SIGKILL."""
        return await self._session._do(plans.process_signal(self._session.id, self.id, "terminate"))

    async def kill(self) -> ProcessInfo:
        """Kill its tree."""
        return await self._session._do(plans.process_signal(self._session.id, self.id, "kill"))

    async def write(self, data: Input) -> None:
        """Give it input; text goes as UTF-8."""
        plan = plans.process_write(self._session.id, self.id, check_input(data), close=False)
        await self._session._do(plan)

    async def close_stdin(self) -> None:
        """Tell it that there is no more input."""
        await self._session._do(plans.process_write(self._session.id, self.id, None, close=True))

    @overload
    def logs(self, follow: Literal[False] = False) -> Coroutine[Any, Any, list[OutputChunk]]: ...
    @overload
    def logs(self, follow: Literal[True]) -> AsyncFollow[OutputChunk]: ...
    def logs(self, follow: bool = False) -> Coroutine[Any, Any, list[OutputChunk]] | AsyncFollow[OutputChunk]:
        """Await it for what it printed and is kept; with `follow`, an async iterator that goes on with what comes."""
        return self._session._logs(follow, call_of(self.id))
