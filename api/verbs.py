"""From a caller's arguments to a plan: checked, packed, and the same for every face.

It is *not* where anything is called or awaited. What needs neither a check nor packing goes to `core/plans.py` directly.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from types import CoroutineType
from typing import Any, Final, cast

from procession.api import checks
from procession.api.core import agent_plans, plans
from procession.api.core.plans import Plan
from procession.api.link import Link, Reach, Tool
from procession.api.results import annotation_of, decode_result, is_lossy, prepare_returns
from procession.api.sandbox import Sandbox
from procession.api.travel import pack_call
from procession.ipc.core.backend import Item, Response
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.file_names import shown
from procession.ipc.core.limits import Limits
from procession.ipc.core.names import default_name
from procession.ipc.core.operations import OPERATIONS, StartBody
from procession.ipc.core.records import CodeResult, CommandResult, OutputChunk, ProcessInfo

OnOutput = Callable[[OutputChunk], object]
OnText = Callable[[str], object]
Command = str | Sequence[str | os.PathLike[str]]
Input = str | bytes | bytearray | memoryview
PathLike = str | os.PathLike[str]

#: Of a host's tools, how often they are kept packed: for each of the ways in which its sessions import.
REACHES_MAX: Final = 16

_RUN, _EXEC, _CODE = OPERATIONS["run"], OPERATIONS["exec"], OPERATIONS["run_code"]
_SEND: Final = OPERATIONS["send_message"]


class OutputSink:
    """Hands output to the caller's function; the first exception of that is kept and raised with the result."""

    def __init__(self, on_output: OnOutput, name: str) -> None:
        self._on_output = on_output
        self._name = name
        self.error: Exception | None = None

    def __call__(self, item: Item) -> None:
        if self.error is None and isinstance(item, OutputChunk):
            try:
                _refuse_awaitable(self._on_output(item), self._name)
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


def watch(plan: Plan[Any], on_output: OnOutput | None, name: str = "on_output") -> None:
    """Have a plan's output handed to the caller's function, which the verb calls `name`."""
    if on_output is not None:
        checks.check_handler(name, on_output)
        if is_async(on_output):
            raise _not_awaited(name)
        OutputSink(on_output, name).watch(plan)


def split_output(on_output: OnOutput | None) -> tuple[OnOutput | None, OnOutput | None]:
    """Return (what is called, what is awaited) of an on_output."""
    return (None, on_output) if on_output is not None and is_async(on_output) else (on_output, None)


def is_async(fn: object) -> bool:
    """Whether calling `fn` only makes a coroutine."""
    import inspect

    return callable(fn) and any(map(inspect.iscoroutinefunction, (fn, type(fn).__call__)))


def _refuse_awaitable(told: object, name: str) -> None:
    """Refuse what an on_output returned to be awaited: nobody would."""
    if told is not None and hasattr(type(told), "__await__"):
        if isinstance(told, CoroutineType):
            told.close()
        raise _not_awaited(name)


def _not_awaited(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name}: what it returns would have to be awaited, and nobody does",
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
    watch(plan, on_output)
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
    watch(plan, on_output)
    return plan


def start(
    session: str,
    command: Command,
    *,
    cwd: PathLike | None,
    env: Mapping[str, str] | None,
    limits: Limits | None,
    restart: str,
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
        restart=checks.check_restart(restart),
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
    watch(plan, on_output)
    return plan


def send_message(session: str, text: str, *, timeout: float | None, on_text: OnOutput | None = None) -> Plan[str]:
    """Plan a message that the session's responder answers. on_text: made by `text_of_output`."""
    plan = agent_plans.send_message(session, checks.check_text("text", text), checks.check_timeout(timeout, _SEND))
    watch(plan, on_text, "on_text")
    return plan


def text_of_output(on_text: OnText | None) -> OnOutput | None:
    """Return what takes an answer as the output it travels as, and hands its text to the caller's function."""
    if on_text is None:
        return None
    checks.check_handler("on_text", on_text)
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def hand_on(chunk: OutputChunk) -> object:
        return on_text(decode(chunk.data)) if chunk.stream == "stdout" else None

    async def hand_on_awaited(chunk: OutputChunk) -> None:
        if chunk.stream == "stdout":
            await cast("Awaitable[object]", on_text(decode(chunk.data)))

    return hand_on_awaited if is_async(on_text) else hand_on


def _all_that_is_wrong(
    link: Link,
    session_id: str | None,
    name: str | None,
    project: PathLike | None,
    agent: object,
    language: str | None,
    config: Mapping[str, object] | None,
) -> InvalidRequest:
    """Return one error about all of a start's wrong parameters, in the contract's order."""
    from procession.api import first_state

    def as_a_code_session() -> None:
        if first_state.is_code_session(agent):
            first_state.code_session(checks.check_session_id(None), "name", None, "/", language, config, link.defaults)

    wrong: list[InvalidRequest] = []
    steps: tuple[Callable[[], object], ...] = (
        lambda: checks.check_session_id(session_id),
        lambda: checks.check_name(name),
        lambda: checks.check_project(project),
        as_a_code_session,
    )
    for check in steps:
        try:
            check()
        except InvalidRequest as error:
            wrong.append(error)
    said, codes = "; ".join(error.message for error in wrong), tuple(code for error in wrong for code in error.codes)
    return InvalidRequest(said, code=codes[0], hint=wrong[0].hint, codes=codes)


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
    agent: object = None,
    state: Mapping[str, object] | None = None,
    language: str | None = None,
    config: Mapping[str, object] | None = None,
    session_id: str | None = None,
    responder: object = None,
    tools: Iterable[Tool] = (),
    idle_timeout: float | None = None,
    hibernate_after: object = "host",
    recycle_above: object = "host",
    durability: str | None = None,
) -> StartBody:
    """Check what a new session shall be and say it as the wire does; `None` is what the host has."""
    from procession.api import first_state

    try:
        ident = checks.check_session_id(session_id)
        folder = checks.check_project(project)
        called = checks.check_name(name) or default_name(folder, ident)
    except InvalidRequest:
        raise _all_that_is_wrong(link, session_id, name, project, agent, language, config) from None
    if first_state.is_code_session(agent):
        checks.check_none("state", state, "a code session has its own")
        private = f"{link.backend.data_dir}/sessions/{ident}"
        code, begins = (
            ("", b""),
            first_state.code_session(ident, called, folder, private, language, config, link.defaults),
        )
    else:
        checks.check_none("language", language, "only a code session has one")
        checks.check_none("config", config, "only a code session has one")
        checks.check_none("responder", responder, "only a code session has one", "not_a_code_session")
        reach = _reach_of(link, import_paths, preload)
        code, begins = first_state.own_agent(agent, reach), first_state.given_state(state)  # type: ignore[arg-type]
    return StartBody(
        project=folder,
        name=called,
        id=ident,
        agent=code[0],
        agent_code=code[1],
        state=begins,
        responder=b"" if responder is None else first_state.packed_responder(responder, link.reach),
        tools=_packed_tools(link, ident, checks.check_tools(tools), import_paths, preload),
        sandbox=checks.check_sandbox(link.sandbox if sandbox is None else sandbox),
        limits=checks.check_limits(limits),
        restart=checks.check_restart(restart),
        exclusive=bool(exclusive),
        durability="" if durability is None else checks.check_durability(durability),
        preload=checks.check_preload(preload),
        import_paths=checks.check_import_paths(import_paths),
        parallel_runs=link.parallel_runs
        if parallel_runs is None
        else checks.check_count("parallel_runs", parallel_runs),
        existing=existing,
        idle_timeout_s=checks.check_idle_timeout(idle_timeout),
        hibernate_after_s=checks.check_hibernate_after(hibernate_after, of_host=False),
        recycle_above=checks.check_recycle_above(recycle_above, of_host=False),
        partition=link.partition or "",
        temporary=temporary,
    )


def _reach_of(link: Link, import_paths: Iterable[PathLike], preload: Iterable[str]) -> Reach:
    return link.reach.of_session(Reach(tuple(import_paths), tuple(preload)))  # type: ignore[arg-type]


def _packed_tools(
    link: Link, ident: str, own: Mapping[str, Tool], import_paths: Iterable[PathLike], preload: Iterable[str]
) -> bytes:
    """Pack the host's tools and the session's own, and remember how the results of these are read."""
    if not own and not link.tools.of_host:
        return b""
    reach = _reach_of(link, import_paths, preload)
    from procession.api import own_tools
    from procession.ipc.core.tool_table import pack_tools

    of_host = link.tools.packed.get(reach)
    if of_host is None:
        of_host = own_tools.sent(link.tools.of_host.values(), reach)
        if len(link.tools.packed) < REACHES_MAX:
            link.tools.packed[reach] = of_host
    packed = pack_tools((*of_host, *own_tools.sent(own.values(), reach)))
    link.tools.add(ident, own)
    return packed


def found(reference: str, paths: Iterable[PathLike]) -> Any:
    """Return what `module:name` means, imported from these folders too; `echo` is the responder for tests.

    Raises InvalidRequest (not_found_by_name).
    """
    import sys
    from importlib import import_module

    module, _, name = ("procession.agent", ":", "echo") if reference == "echo" else reference.partition(":")
    sys.path[:0] = [os.fspath(path) for path in paths]
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as problem:
        raise InvalidRequest(
            f"{reference}: {problem}", code="not_found_by_name", hint="write the module, a colon and the name"
        ) from None


def describe(name: str, status: object) -> str:
    """Return the middle of a session's repr: its name and, when a status is known, its state."""
    from procession.ipc.core.records import SessionStatus

    if not isinstance(status, SessionStatus):
        return name
    return f"{name} {status.phase} inc={status.incarnation} calls={status.calls} up={status.uptime_s:.1f}s"
