"""The verbs that only look: `status ps stats inspect why logs events`. They wake nothing and change nothing.

Rules: each has `--json` with all the fields of its record; following verbs print one JSON document a line and end on
Ctrl-C with exit code 0.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable
from typing import Annotated, Final

import typer

from procession.api.cli import exit_codes
from procession.api.cli.app import AsJson, DataDir, SessionName
from procession.api.cli.client import Asker, connected
from procession.api.cli.output import Cell, clean, count, print_json, receipt_words, seconds, size
from procession.api.cli.tables import Column, console, print_pairs, print_table, rich_table, under_home
from procession.api.core import plans
from procession.ipc.core.backend import Item
from procession.ipc.core.errors import ProcessionError
from procession.ipc.core.operations import StoryDone
from procession.ipc.core.records import CallInfo, Event, OutputChunk, RunReport, SessionStatus

#: `ps --watch` looks this often: quick for an eye, nothing for a host.
_WATCH_S: Final = 1.0
_PRIVATE: Final = re.compile(r"/sessions/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(/|$)")


def _brief_folder(path: str) -> str:
    """Say a session's folder in a few words: a private one is known by the session's id in it."""
    return "(private)" if _PRIVATE.search(path) else under_home(path)


_COLUMNS: Final = (
    Column("ID"),
    Column("NAME", shrinks="end"),
    Column("PHASE"),
    Column("PID", goes=2),
    Column("INC", goes=5),
    Column("RESTARTS", goes=3),
    Column("OPEN", goes=4),
    Column("UP", goes=1),
    Column("PROJECT", shrinks="start", brief=_brief_folder),
    Column("WHY", shrinks="end"),
)
_CALL_COLUMNS: Final = ("NUMBER", "CALL", "OP", "STATE", "AGE", Column("OUTCOME", shrinks="wraps", least=24))
_STORY_COLUMNS: Final = ("AGO", "EVENT", "FROM", "TO", Column("DETAIL", shrinks="wraps", least=24))
_EVENT_TEXT_CHARS: Final = 400

Follow = Annotated[bool, typer.Option("-f", "--follow", help="Go on until Ctrl-C.")]


# --- the host -----------------------------------------------------------------------------------------------
def status(
    session: Annotated[str | None, typer.Argument(metavar="[ID]", help="A session (the host itself).")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Say how the host is, or one session. Exit code 4 when no host is running."""
    with connected(data_dir) as host:
        if session is not None:
            found = host.ask(plans.status(session))
            print_json(found) if as_json else print_pairs(_status_pairs(found))
            return exit_codes.OK
        figures = host.ask(plans.statistics())
        sessions = host.ask(plans.list_sessions(every=True))
    phases: dict[str, int] = {}
    for one in sessions:
        phases[one.phase] = phases.get(one.phase, 0) + 1
    if as_json:
        print_json({"running": True, "statistics": figures, "phases": phases})
        return exit_codes.OK
    print_pairs(
        [
            ("host", ("running", "good")),
            ("pid", str(figures.pid)),
            ("up", seconds(figures.uptime_s)),
            ("sessions", ", ".join(f"{number} {phase}" for phase, number in sorted(phases.items())) or "none"),
            ("calls so far", f"{figures.calls}, {figures.failed} failed"),
            ("memory", size(figures.rss_bytes)),
        ]
    )
    return exit_codes.OK


def stats(as_json: AsJson = False, data_dir: DataDir = None) -> int:
    """Print the counters of the host."""
    with connected(data_dir) as host:
        figures = host.ask(plans.statistics())
    if as_json:
        print_json(figures)
    else:
        print_pairs((name.replace("_", " "), _figure(getattr(figures, name))) for name in figures.__struct_fields__)
    return exit_codes.OK


def _figure(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def events(
    follow: Follow = False,
    since: Annotated[
        int, typer.Option("--since", metavar="N", min=0, help="Begin after event N (the first kept).")
    ] = 0,
    session: Annotated[str, typer.Option("--session", metavar="ID", help="Those of one session.")] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Print what has happened, and with -f what happens then."""

    def show(event: Item) -> None:
        assert isinstance(event, Event)
        if as_json:
            print_json(event, line=True)
        else:
            sys.stdout.write(_event_line(event) + "\n")
            sys.stdout.flush()

    with connected(data_dir) as host:
        if follow:
            return _follow(host, plans.follow("events", session, since=since, call=None), show)
        found = host.ask(plans.events(session, since))
    if as_json:
        print_json(found)
        return exit_codes.OK
    for event in found:
        show(event)
    return exit_codes.OK


def _event_line(event: Event) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(event.at))
    who = f" {event.session[:8]}#{event.incarnation}" if event.session else ""
    what = " ".join(f"{name}={value}" for name, value in event.data.items() if value not in (None, ""))
    lost = f"({count(event.dropped, 'event')} before this no longer kept)\n" if event.dropped else ""
    return lost + f"{event.number:>6}  {when}  {event.type}{who}  {clean(what)[:_EVENT_TEXT_CHARS]}".rstrip()


# --- sessions -----------------------------------------------------------------------------------------------
def ps(
    every: Annotated[bool, typer.Option("-a", "--all", help="Stopped ones too.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing them until Ctrl-C.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """List the sessions."""
    with connected(data_dir) as host:
        if watch:
            return _watch(host, every, as_json)
        found = host.ask(plans.list_sessions(every=every))
    print_json(found) if as_json else print_table(_COLUMNS, map(_row, found))
    return exit_codes.OK


def _row(one: SessionStatus) -> tuple[Cell, ...]:
    return (
        one.id[:8],
        one.name,
        (one.phase, one.phase),
        str(one.pid or "-"),
        str(one.incarnation),
        str(one.restarts),
        str(one.calls),
        seconds(one.uptime_s) if one.pid else "-",
        one.project or "-",
        one.reason or one.health,
    )


def _watch(host: Asker, every: bool, as_json: bool) -> int:
    """Show the table again and again: in place on a terminal, one JSON line or one table a look elsewhere."""
    try:
        if as_json or not sys.stdout.isatty():
            while True:
                found = host.ask(plans.list_sessions(every=every))
                print_json(found, line=True) if as_json else print_table(_COLUMNS, map(_row, found))
                time.sleep(_WATCH_S)
        from rich.live import Live

        with Live(console=console(), auto_refresh=False) as live:
            while True:
                found = host.ask(plans.list_sessions(every=every))
                live.update(rich_table(_COLUMNS, map(_row, found)), refresh=True)
                time.sleep(_WATCH_S)
    except KeyboardInterrupt:
        return exit_codes.OK


def inspect(session: SessionName, as_json: AsJson = False, data_dir: DataDir = None) -> int:
    """Tell everything about a session: status, calls, commands and children of it that run, how its last process ended."""
    with connected(data_dir) as host:
        found = host.ask(plans.status(session))
        calls = host.ask(plans.calls(session))
        children = host.ask(plans.children(session))
        report = host.ask(plans.last_report(session))
        # Asking a session that is down for its commands would start it, and looking starts nothing.
        commands = host.ask(plans.processes(session)) if found.phase == "ready" else ()
    if as_json:
        print_json(
            {"status": found, "calls": calls, "processes": commands, "children": children, "last_report": report}
        )
        return exit_codes.OK
    print_pairs(_status_pairs(found))
    if report is not None:
        print("\nlast end")
        print_pairs(_report_pairs(report))
    if commands:
        print("\ncommands")
        print_table(
            ("ID", "PID", "RUNS", Column("COMMAND", shrinks="end")),
            (
                (
                    one.id,
                    str(one.pid or "-"),
                    "yes" if one.running else f"no, exit code {one.exit_code}",
                    " ".join(one.argv),
                )
                for one in commands
            ),
        )
    if children:
        print("\nchildren")
        print_table(("TAG", "ID", "NAME", "PHASE"), ((one.tag, one.session, one.name, one.phase) for one in children))
    if calls:
        print("\ncalls")
        print_table(_CALL_COLUMNS, map(_call_row, calls))
    return exit_codes.OK


def _call_row(call: CallInfo) -> tuple[Cell, ...]:
    return str(call.seq), call.id[:8], call.op, call.state, seconds(call.age_s), call.outcome


def _status_pairs(one: SessionStatus) -> Iterable[tuple[str, Cell]]:
    yield "id", one.id
    yield "name", one.name
    yield "phase", (one.phase, one.phase)
    yield "why", one.reason
    yield "health", one.health
    yield "pid", str(one.pid or "")
    yield "keeper", str(one.keeper_pid or "")
    yield "incarnation", str(one.incarnation)
    yield "restarts", f"{one.restarts} ({one.restart})"
    yield "changes", str(one.number)
    yield "open calls", f"{one.calls}, {one.queued} queued"
    yield "up", seconds(one.uptime_s) if one.pid else ""
    yield "parent", one.parent or ""
    yield "orphaned from", one.orphaned_from or ""
    yield "project", one.project or ""
    yield "sandbox", one.sandbox


def _report_pairs(report: RunReport) -> Iterable[tuple[str, Cell]]:
    yield "what", report.tool
    yield "ended", report.how()
    yield "pid", str(report.pid or "")
    yield "after", seconds(report.elapsed_s)
    yield "peak memory", size(report.peak_memory_bytes) if report.peak_memory_bytes else ""
    yield "CPU", seconds(report.cpu_s) if report.cpu_s else ""
    yield "processes", receipt_words(report.receipt)
    yield "limits hit", ", ".join(report.limits_hit)
    yield "stderr", report.stderr_tail.rstrip()
    yield "stack", report.stack.rstrip()


def why(session: SessionName, as_json: AsJson = False, data_dir: DataDir = None) -> int:
    """Tell a session's story: what happened to it, how its last process ended, what it printed last."""
    with connected(data_dir) as host:
        found = host.ask(plans.story(session))
    print_json(found) if as_json else _tell(found)
    return exit_codes.OK


def _tell(found: StoryDone) -> None:
    one = found.status
    reason = f": {one.reason}" if one.reason else ""
    print(clean(f"{one.name} ({one.id[:8]}) is {one.phase}{reason}"))
    if found.story:
        print("\nstory")
        now = time.monotonic()  # the same clock as the host's: one per machine since its start
        print_table(
            _STORY_COLUMNS,
            (
                (seconds(max(0.0, now - step.at)), step.event, step.before, step.after, step.detail)
                for step in found.story
            ),
        )
    if found.report is not None:
        print("\nlast end")
        print_pairs(_report_pairs(found.report))
    if found.output_tail:
        print("\nlast output")
        print(clean(found.output_tail.rstrip(), lines=True))
    sys.stdout.flush()


def logs(
    session: SessionName,
    follow: Follow = False,
    call: Annotated[int | None, typer.Option("--call", metavar="N", help="Only what call N printed.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Print what the code of a session has printed, and with -f what it prints."""

    def show(chunk: Item) -> None:
        assert isinstance(chunk, OutputChunk)
        if as_json:
            print_json(chunk, line=True)
        else:
            _show_chunk(chunk)

    with connected(data_dir) as host:
        if follow:
            return _follow(host, plans.follow("logs", session, since=None, call=call), show)
        found = host.ask(plans.logs(session, call))
        if call is not None and not found:
            _check_call(host, session, call)
    if as_json:
        print_json(found)
        return exit_codes.OK
    for chunk in found:
        show(chunk)
    return exit_codes.OK


def _check_call(host: Asker, session: str, call: int) -> None:
    """Raise for a number that no call has; one that printed nothing is no mistake."""
    if call not in [one.seq for one in host.ask(plans.calls(session))]:
        raise ProcessionError(
            f"there is no call {call} in session {session!r}, or not any more",
            code="no_such_call",
            hint=f"`procession inspect {session}` lists them",
        )


def _show_chunk(chunk: OutputChunk) -> None:
    """Write a chunk where it belongs: its own bytes into a pipe, only what can do no harm to a terminal."""
    stream = sys.stderr if chunk.stream == "stderr" else sys.stdout
    if chunk.dropped:
        sys.stderr.write(f"[{count(chunk.dropped, 'byte')} of {chunk.stream} lost]\n")
    if stream.isatty():
        stream.write(clean(chunk.text, lines=True))
    else:
        stream.flush()
        stream.buffer.write(chunk.data)
    stream.flush()


def _follow(host: Asker, plan: plans.Plan[None], show: plans.OnItem) -> int:
    try:
        host.follow(plan, show)
    except KeyboardInterrupt:
        pass
    return exit_codes.OK
