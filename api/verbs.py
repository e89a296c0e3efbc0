"""From a caller's arguments to a plan: checked, packed, and the same for every face.

It is *not* where anything is called or awaited. What needs neither a check nor packing goes to `core/plans.py` directly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import CoroutineType
from typing import Any

from procession.api import checks
from procession.api.core import plans
from procession.api.core.plans import Plan
from procession.api.link import Link, Reach
from procession.api.results import annotation_of, decode_result, is_lossy, prepare_returns
from procession.api.sandbox import Sandbox
from procession.api.travel import pack_call
from procession.ipc.core.backend import Item, Response
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.file_names import shown
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import OPERATIONS, StartBody
from procession.ipc.core.records import CodeResult, CommandResult, OutputChunk, ProcessInfo

OnOutput = Callable[[OutputChunk], object]
Command = str | Sequence[str | os.PathLike[str]]
Input = str | bytes | bytearray | memoryview
PathLike = str | os.PathLike[str]

_RUN, _EXEC, _CODE = OPERATIONS["run"], OPERATIONS["exec"], OPERATIONS["run_code"]


class OutputSink:
    """Hands output to the caller's function; the first exception of that is kept and raised with the result."""

    def __init__(self, on_output: OnOutput) -> None:
        self._on_output = on_output
        self.error: Exception | None = None

    def __call__(self, item: Item) -> None:
        if self.error is None and isinstance(item, OutputChunk):
            try:
                _refuse_awaitable(self._on_output(item))
            except Exception as error:  # noqa: BLE001 - raised in the caller's own thread, by `finish`
                self.error = error

    def watch(self, plan: Plan[Any]) -> None:
        """Take a plan's output, and raise what the caller's function raised once the call is over."""
        plan.request.on_item = self
        finish = plan.finish

        def finish_and_tell(response: Response) -> Any:
            if self.error is not None:
                raise self.error
            return finish(response)

        plan.finish = finish_and_tell


def _watch(plan: Plan[Any], on_output: OnOutput | None) -> None:
    if on_output is not None:
        checks.check_callable(on_output)
        if is_async(on_output):
            raise _not_awaited()
        OutputSink(on_output).watch(plan)


def is_async(fn: object) -> bool:
    """Whether calling `fn` only makes a coroutine."""
    import inspect

    return callable(fn) and any(map(inspect.iscoroutinefunction, (fn, type(fn).__call__)))


def _refuse_awaitable(told: object) -> None:
    """Refuse what an on_output returned to be awaited: nobody would."""
    if told is not None and hasattr(type(told), "__await__"):
        if isinstance(told, CoroutineType):
            told.close()
        raise _not_awaited()


def _not_awaited() -> InvalidRequest:
    return InvalidRequest(
        "on_output: what it returns would have to be awaited, and nobody does",
        code="async_output",
        hint="pass a plain function, or an `async def` itself to a verb of an AsyncSession",
    )


def run(
    session: str,
    reach: Reach,
    fn: Callable[..., Any],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    *,
    timeout: float | None,
    returns: object = None,
    limits: Limits | None = None,
    wait: bool = False,
    on_output: OnOutput | None = None,
    label: str = "",
) -> Plan[Any]:
    """Plan the run of a function in a worker of its own."""
    checks.check_callable(fn)
    timeout_s = checks.check_timeout(timeout, _RUN)
    if returns is None:
        returns = annotation_of(fn)
    else:
        prepare_returns(returns)
    plan = plans.run(
        session,
        pack_call(fn, args, kwargs, import_paths=reach.import_paths, preload=reach.preload),
        partial(decode_result, returns=returns) if returns is not None else decode_result,
        label=label or label_of(fn),
        lossy=is_lossy(returns),
        limits=checks.check_limits(limits),
        timeout_s=timeout_s,
        wait=bool(wait),
        on_item=None,
    )
    _watch(plan, on_output)
    return plan


def label_of(fn: object) -> str:
    """Return how reports name a function."""
    name = getattr(fn, "__qualname__", None)
    if not isinstance(name, str):
        inner = getattr(fn, "func", None)  # a functools.partial
        name = label_of(inner) if inner is not None else type(fn).__qualname__
    return shown(name.replace("<locals>.", "")[:200])


def exec_command(
    session: str,
    command: Command,
    *,
    timeout: float | None,
    cwd: PathLike | None,
    env: Mapping[str, str] | None,
    input: Input | None,
    check: bool,
    on_output: OnOutput | None,
    limits: Limits | None,
) -> Plan[CommandResult]:
    """Plan a command that is run to its end."""
    argv, shell = checks.check_command(command)
    plan = plans.exec_command(
        session,
        argv,
        shell=shell,
        cwd=checks.check_cwd(cwd),
        env=checks.check_env(env),
        data=checks.check_input(input),
        limits=checks.check_limits(limits),
        timeout_s=checks.check_timeout(timeout, _EXEC),
        check=bool(check),
        on_item=None,
    )
    _watch(plan, on_output)
    return plan


def start(
    session: str, command: Command, *, cwd: PathLike | None, env: Mapping[str, str] | None, limits: Limits | None
) -> Plan[ProcessInfo]:
    """Plan a command that lives on its own."""
    argv, shell = checks.check_command(command)
    return plans.start(
        session,
        argv,
        shell=shell,
        cwd=checks.check_cwd(cwd),
        env=checks.check_env(env),
        limits=checks.check_limits(limits),
    )


def run_code(
    session: str, code: str, *, timeout: float | None, on_output: OnOutput | None, limits: Limits | None
) -> Plan[CodeResult]:
    """Plan a cell of the session's interpreter."""
    plan = plans.run_code(
        session,
        checks.check_text("code", code),
        limits=checks.check_limits(limits),
        timeout_s=checks.check_timeout(timeout, _CODE),
        on_item=None,
    )
    _watch(plan, on_output)
    return plan


def start_body(
    link: Link,
    project: PathLike | None,
    *,
    name: str | None,
    sandbox: Sandbox | None,
    limits: Limits | None,
    restart: str,
    exclusive: bool,
    preload: Iterable[str],
    import_paths: Iterable[PathLike],
    parallel_runs: int | None,
    existing: bool = False,
    temporary: bool = False,
) -> StartBody:
    """Check what a new session shall be and say it as the wire does; `None` is what the host has."""
    return StartBody(
        project=checks.check_project(project),
        name=checks.check_name(name),
        sandbox=checks.check_sandbox(link.sandbox if sandbox is None else sandbox),
        limits=checks.check_limits(limits),
        restart=checks.check_restart(restart),
        exclusive=bool(exclusive),
        preload=checks.check_preload(preload),
        import_paths=checks.check_import_paths(import_paths),
        parallel_runs=link.parallel_runs
        if parallel_runs is None
        else checks.check_count("parallel_runs", parallel_runs),
        existing=existing,
        temporary=temporary,
    )


def describe(name: str, status: object) -> str:
    """Return the middle of a session's repr: its name and, when a status is known, its state."""
    from procession.ipc.core.records import SessionStatus

    if not isinstance(status, SessionStatus):
        return name
    return f"{name} {status.phase} inc={status.incarnation} calls={status.calls} up={status.uptime_s:.1f}s"
