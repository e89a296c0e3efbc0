"""The verbs that begin and end things: the host (`up`, `down`) and its sessions (`new restart hibernate kill stop rm`).

Rules: `up` has the prompt back within the stop grace of every session, and at once on a second Ctrl-C; `up -d` and `down`
return when the host answers and when its process is gone, never earlier.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final

import typer

from procession.api.cli import exit_codes, restarting
from procession.api.cli.app import AsJson, Cpu, DataDir, Memory, SandboxName, SessionNames
from procession.api.cli.client import Asker, check_sandbox, connected, data_dir_of, limits_of, named_values, project_of
from procession.api.cli.output import complain, count, note, print_json, receipt_words
from procession.api.cli.words import complain_of
from procession.api.core import plans
from procession.ipc.core.bounds import HIBERNATE_AFTER_S, SESSIONS_MAX, STOP_GRACE_S
from procession.ipc.core.errors import ProcessionError, StorageError

if TYPE_CHECKING:
    from procession.host.engine import Engine
    from procession.host.options import HostOptions

#: A detached host answers within a second; twenty times that is a machine in trouble.
_READY_S: Final = 20.0
#: A host that was told to end has this long: every session its grace, one after the other in small groups.
_DOWN_S: Final = 60.0
#: What a second Ctrl-C leaves for killing before the host simply goes (and its keepers end the rest).
_KILL_S: Final = 0.5
#: One press of Ctrl-C may be heard twice, from the terminal and from a wrapper that passes it on.
_SAME_PRESS_S: Final = 0.1
#: The end of a host's log that is shown when it did not come up.
_LOG_TAIL_LINES: Final = 12
LOG_NAME: Final = "host.log"
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Stands for no signal: the host is to be started again.
_RESTART: Final = 0

Grace = Annotated[
    float, typer.Option("--grace", metavar="SECONDS", min=0, help="How long to wait before the whole tree is killed.")
]


# --- the host -----------------------------------------------------------------------------------------------
def up(
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Come back when it answers and leave it running.")
    ] = False,
    max_sessions: Annotated[int, typer.Option(min=1, help="Sessions that may run at once.")] = SESSIONS_MAX,
    default_language: Annotated[
        str | None, typer.Option("--default-language", help="Of projects whose files show none (python).")
    ] = None,
    default_config: Annotated[
        list[str] | None,
        typer.Option(
            "--default-config",
            metavar="NAME=VALUE",
            help="Of sessions that say nothing: provider, model, temperature, max_tokens; give it again for each.",
        ),
    ] = None,
    durability: Annotated[
        str,
        typer.Option(
            "--durability",
            help="When a change is acknowledged: memory, batch (it is written), sync (it is on disk).",
        ),
    ] = "batch",
    restore: Annotated[
        str, typer.Option("--restore", help="Sessions that were up: `lazy` (by their next call) or `eager` (at once).")
    ] = "lazy",
    hibernate_after: Annotated[
        str,
        typer.Option(
            "--hibernate-after",
            metavar="SECONDS|never",
            help="Sessions with nothing to do give their process back then, and wake on the next call.",
        ),
    ] = f"{HIBERNATE_AFTER_S:g}",
    data_dir: DataDir = None,
    ready_fd: Annotated[int, typer.Option("--ready-fd", hidden=True)] = -1,
    was_up: Annotated[bool, typer.Option(restarting.AGAIN_OPTION, hidden=True)] = False,
) -> int:
    """Run a host that keeps its sessions in a data directory and answers the other verbs.

    Ctrl-C or SIGTERM stops its sessions and ends it; a second Ctrl-C kills them.
    """
    from procession.api.checks import check_defaults, check_durability, check_hibernate_after, check_restore
    from procession.host.options import HostOptions

    folder = data_dir_of(data_dir)
    words = default_config or []
    idle_s = check_hibernate_after(_seconds_or_never(hibernate_after), of_host=True)
    defaults = check_defaults(default_language, named_values(words, "--default-config") if words else None)
    if detach:
        own = [f"--default-config={word}" for word in words]
        if default_language is not None:
            own.append(f"--default-language={default_language}")
        own += [f"--durability={durability}", f"--restore={restore}", f"--hibernate-after={hibernate_after}"]
        return _up_detached(folder, max_sessions, own)
    options = HostOptions(
        data_dir=folder,
        sandbox="off",
        max_sessions=max_sessions,
        serve=True,
        defaults=defaults,
        durability=check_durability(durability),
        restore="eager" if was_up else check_restore(restore),
        hibernate_after_s=idle_s,
    )
    return _up(options, ready_fd)


def _seconds_or_never(text: str) -> float | str | None:
    """Read an option; what is neither is left to be refused with the rest."""
    try:
        return None if text == "never" else float(text)
    except ValueError:
        return text


def _up(options: HostOptions, ready_fd: int) -> int:
    from procession.host.engine import Engine

    with _stop_requests() as (asked, ask):
        engine = Engine(options)
        engine.on_shutdown = lambda: ask(signal.SIGTERM)
        engine.on_restart = lambda: ask(_RESTART)
        if ready_fd >= 0:
            os.write(ready_fd, b"%d\n" % engine.pid)
            os.close(ready_fd)
        note(f"host ready: pid {engine.pid}, data in {options.data_dir}")
        number = _next_request(asked)
        if number == _RESTART:
            engine.drain(restarting.DRAIN_S)
        was_asked_to_end = _close(engine, asked, number)
    if number == _RESTART and not was_asked_to_end:
        restarting.begin_again()
    return exit_codes.OK


def _close(engine: Engine, asked: int, number: int) -> bool:
    """Stop everything; a second request kills instead. Say whether there was one, of another kind."""
    engine.reserve.close()
    open_count = len(Asker(engine).ask(plans.list_sessions(every=False)))
    why = "restarting" if number == _RESTART else signal.Signals(number).name
    note(f"{why}: stopping {count(open_count, 'session')}")
    was_asked_to_end = False
    ended_r, ended_w = os.pipe()
    problems: list[Exception] = []

    def close() -> None:
        try:
            engine.close()
        except Exception as problem:  # noqa: BLE001 - told below, in the main thread
            problems.append(problem)
        finally:
            os.write(ended_w, b".")

    closing = threading.Thread(target=close, name="procession-close", daemon=True)
    closing.start()
    began = time.monotonic()
    while ended_r not in select.select([ended_r, asked], [], [])[0]:
        again = os.read(asked, 1)[0]
        # A polite signal twice is still polite (`timeout` sends it to us and to our group); so is one Ctrl-C heard twice.
        if again == signal.SIGINT and (number != signal.SIGINT or time.monotonic() - began > _SAME_PRESS_S):
            note("asked again: killing")
            engine.reactor.call_soon(engine.operations.kill_all)
            closing.join(_KILL_S)
            os._exit(exit_codes.SIGNAL_BASE + again)
        was_asked_to_end = was_asked_to_end or again != _RESTART
    closing.join()
    os.close(ended_r)
    os.close(ended_w)
    for problem in problems:
        raise problem
    note("stopped")
    return was_asked_to_end


@contextmanager
def _stop_requests() -> Iterator[tuple[int, Callable[[int], None]]]:
    """Turn the signals that end a host into bytes of a pipe; yields its end to read and a way to ask by hand."""
    asked_r, asked_w = os.pipe()
    os.set_blocking(asked_w, False)

    def ask(number: int, _: FrameType | None = None) -> None:
        try:
            os.write(asked_w, bytes([number]))
        except BlockingIOError:  # asked thousands of times already
            pass

    before = {number: signal.signal(number, ask) for number in _STOP_SIGNALS}
    try:
        yield asked_r, ask
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(asked_r)
        os.close(asked_w)


def _next_request(asked: int) -> int:
    """Wait to be asked to end; returns the signal's number."""
    return os.read(asked, 1)[0]


def _up_detached(folder: Path, max_sessions: int, options: Sequence[str]) -> int:
    """Start the host in a session of its own; return when it answers, or with its own exit code and last words."""
    log_path = folder / LOG_NAME
    log_fd = _open_log(log_path)
    ready_r, ready_w = os.pipe()
    # -P: the folder this is started in is nobody's to import from.
    command = [
        sys.executable,
        "-P",
        "-m",
        "procession",
        "up",
        "--data-dir",
        str(folder),
        "--max-sessions",
        str(max_sessions),
        *options,
        "--ready-fd",
        str(ready_w),
    ]
    with open(log_fd, "ab") as log:
        begin = log.tell()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(ready_w,),
            cwd="/",
        )
    os.close(ready_w)
    try:
        if not select.select([ready_r], [], [], _READY_S)[0]:
            child.kill()
            child.wait()
            complain(f"the host was not ready within {_READY_S:g} s and was killed", f"see {log_path}")
            return exit_codes.FAILED
        if not os.read(ready_r, 64):
            code = child.wait()
            _show_log(log_path, begin)
            return code or exit_codes.FAILED
    finally:
        os.close(ready_r)
    print(f"host ready: pid {child.pid}, data in {folder}, log in {log_path}", flush=True)
    child.returncode = 0  # it is not ours to wait for: keeps Popen from warning when it is forgotten
    return exit_codes.OK


def _open_log(path: Path) -> int:
    """Open the log of a host, in its folder, which is made; raises StorageError for one that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        why = "is not a folder" if isinstance(problem, FileExistsError) else problem.strerror
        raise StorageError(f"{problem.filename}: {why}", hint="--data-dir DIR takes another folder") from None


def _show_log(path: Path, begin: int) -> None:
    """Pass on what a host that ended at once has said."""
    with path.open("rb") as log:
        log.seek(begin)
        lines = log.read(64 * 1024).decode("utf-8", "replace").splitlines()
    sys.stderr.write("".join(f"{line}\n" for line in lines[-_LOG_TAIL_LINES:]))


def down(
    grace: Grace = STOP_GRACE_S,
    data_dir: DataDir = None,
) -> int:
    """Stop the host of the data directory, and wait until it is gone."""
    with connected(data_dir) as host:
        pid = host.ask(plans.statistics()).pid
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            pidfd = -1
        host.ask(plans.shutdown(grace))
    if pidfd >= 0:
        try:
            if not select.select([pidfd], [], [], _DOWN_S)[0]:
                complain(
                    f"the host (pid {pid}) was asked to end and is still there after {_DOWN_S:g} s",
                    f"kill -9 {pid} ends it and everything it runs",
                )
                return exit_codes.FAILED
        finally:
            os.close(pidfd)
    print(f"host stopped: pid {pid}", flush=True)
    return exit_codes.OK


# --- sessions -----------------------------------------------------------------------------------------------
def new(
    project: Annotated[Path | None, typer.Argument(metavar="[PROJECT]", help="Its folder (a private one).")] = None,
    name: Annotated[str | None, typer.Option("--name", help="A name for it (the folder's).")] = None,
    sandbox: SandboxName = "off",
    memory: Memory = None,
    cpu: Cpu = None,
    restart: Annotated[
        str,
        typer.Option("--restart", help="When it is started again: permanent, transient (after a crash), temporary."),
    ] = "transient",
    share: Annotated[bool, typer.Option("--share", help="Let the folder be open in other sessions too.")] = False,
    agent: Annotated[
        str | None,
        typer.Option(
            "--agent", metavar="MODULE:CLASS", help="An agent of your own (a code session); see --import-path."
        ),
    ] = None,
    tool: Annotated[
        list[str] | None,
        typer.Option("--tool", metavar="MODULE:NAME", help="A tool of your own; give it again for each."),
    ] = None,
    responder: Annotated[
        str | None,
        typer.Option(
            "--responder", metavar="MODULE:NAME", help="Who answers its messages: `echo`, or a function of yours."
        ),
    ] = None,
    import_path: Annotated[
        list[Path] | None, typer.Option("--import-path", metavar="DIR", help="Where its code is imported from (here).")
    ] = None,
    language: Annotated[str | None, typer.Option("--language", help="Of the project (what its files say).")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Start a session; prints its id."""
    from procession.api import verbs
    from procession.api.link import Link
    from procession.api.sandbox import Sandbox

    confinement: Sandbox = getattr(Sandbox, check_sandbox(sandbox))()
    limits = limits_of(memory, cpu)
    paths = import_path or ([Path.cwd()] if agent or responder or tool else [])
    folder = None if project is None else project_of(project)
    with connected(data_dir) as host:
        spec = verbs.start_body(
            Link(host.backend, is_local=False, defaults=host.defaults), folder,
            name=name, sandbox=confinement, limits=limits, restart=restart, exclusive=not share, preload=(),
            import_paths=paths, parallel_runs=None, agent=agent, language=language,
            responder=None if responder is None else verbs.found(responder, paths),
            tools=[verbs.found(one, paths) for one in tool or ()],
        )  # fmt: skip
        ref = host.ask(plans.start_session(spec))
    if sandbox == "off" and sys.stderr.isatty():
        note("sandbox off: limits and kill domain only, for crashy code, not for hostile code")
    if as_json:
        print_json(ref)
    else:
        print(ref.id, flush=True)
    return exit_codes.OK


def kill(sessions: SessionNames, data_dir: DataDir = None) -> int:
    """Kill the process tree of a session now; its next call starts it again."""
    return each_session(sessions, data_dir, lambda host, one: f"killed: {receipt_words(host.ask(plans.kill(one)))}")


def hibernate(sessions: SessionNames, data_dir: DataDir = None) -> int:
    """Give the process of a session back until its next call; one that needs it is left alone."""

    def sleep(host: Asker, session: str) -> str:
        host.ask(plans.hibernate(session))
        return "hibernated"

    return each_session(sessions, data_dir, sleep)


def stop(sessions: SessionNames, grace: Grace = STOP_GRACE_S, data_dir: DataDir = None) -> int:
    """Stop a session: its slot, name and folder are free again; `ps --all` still lists it."""
    return each_session(
        sessions, data_dir, lambda host, one: f"stopped: {receipt_words(host.ask(plans.stop(one, grace)))}"
    )


def rm(sessions: SessionNames, data_dir: DataDir = None) -> int:
    """Remove a session and its data; one that runs is stopped first."""

    def remove(host: Asker, session: str) -> str:
        host.ask(plans.remove_session(session))
        return "removed"

    return each_session(sessions, data_dir, remove)


def each_session(names: list[str], data_dir: str | None, act: Callable[[Asker, str], str]) -> int:
    """Do it to each session, by its id, and say so with name and id; one that fails is told and the others are done.

    Returns the first failure's code.
    """
    code = exit_codes.OK
    with connected(data_dir) as host:
        for name in names:
            try:
                ref = host.ask(plans.find_session(name))
                print(f"{ref.name} ({ref.id}) {act(host, ref.id)}", flush=True)
            except ProcessionError as error:
                complain_of(error)
                code = code or exit_codes.for_error(error, "plain")
    return code
