"""The verbs that look at a session's agent and talk to it: `messages todos files state memory signal send aside`.

Rules: what is shown is what the agent answers, oldest first; `--json` gives the records as the Python face has them; an
answer of `send` is passed on as it comes.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from procession.api.casting import cast_plan
from procession.api.cli import exit_codes
from procession.api.cli.app import AsJson, DataDir, SessionName
from procession.api.cli.client import connected, timeout_of
from procession.api.cli.output import clean, print_json, say
from procession.api.cli.tables import Column, print_pairs, print_table
from procession.api.core import agent_plans, plans
from procession.api.verbs import send_message, text_of_output
from procession.ipc.core.agent_records import Message
from procession.ipc.core.errors import InvalidRequest

_TIME: str = "%Y-%m-%d %H:%M:%S"


def messages(
    session: SessionName,
    offset: Annotated[int, typer.Option("--offset", min=0, metavar="N", help="Begin at message N (the oldest).")] = 0,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="At most so many (all).")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Print the messages of a session, oldest first."""
    with connected(data_dir) as host:
        found = host.ask(agent_plans.get_messages(session, offset, limit, None))
    if as_json:
        print_json(found)
    else:
        for message in found:
            say(f"{message.timestamp:{_TIME}}  {message.role}: {clean(_text(message), lines=True)}")
    return exit_codes.OK


def _text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    what = message.tool_calls if message.content is None else message.content
    return json.dumps(what, ensure_ascii=False, default=str)


def todos(session: SessionName, as_json: AsJson = False, data_dir: DataDir = None) -> int:
    """Print the todos of a session."""
    with connected(data_dir) as host:
        found = host.ask(agent_plans.get_todos(session, None))
    if as_json:
        print_json(found)
    else:
        print_table(
            ("ID", "STATUS", Column("TODO", shrinks="wraps", least=24)),
            ((todo.id[:8], todo.status, todo.content) for todo in found),
        )
    return exit_codes.OK


def files(session: SessionName, as_json: AsJson = False, data_dir: DataDir = None) -> int:
    """Print which files a session has read and written, and when last."""
    with connected(data_dir) as host:
        state = host.ask(agent_plans.get_state(session, None))
    reads, writes = _map(state, "file_reads"), _map(state, "file_writes")
    if as_json:
        print_json({"reads": reads, "writes": writes})
    else:
        print_table(
            (Column("FILE", shrinks="start"), "READ", "WRITTEN"),
            ((path, _when(reads.get(path)), _when(writes.get(path))) for path in sorted({*reads, *writes})),
        )
    return exit_codes.OK


def state(
    session: SessionName,
    path: Annotated[
        str | None, typer.Argument(metavar="[PATH]", help="A place in it, with dots: session.language (all of it).")
    ] = None,
    data_dir: DataDir = None,
) -> int:
    """Print a session's state as JSON."""
    with connected(data_dir) as host:
        if path is None:
            print_json(host.ask(agent_plans.get_state(session, None)))
        else:
            print_json(host.ask(agent_plans.query_state(session, path, agent_plans.MISSING, None)))
    return exit_codes.OK


def _map(state: dict[str, Any], name: str) -> dict[str, Any]:
    found = state.get(name)
    if not isinstance(found, dict):
        raise InvalidRequest(f"this session's agent has no {name}", code="not_a_code_session")
    return found


def _when(time: Any) -> str:
    return "" if time is None else f"{time:{_TIME}}"


def memory(
    session: SessionName,
    query: Annotated[
        str | None, typer.Argument(metavar="[QUERY]", help="Words to look for in what is remembered.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Print what a session knows of its task, what it remembers, and what waits to be; or, of a QUERY, what it recalls."""
    if query is not None:
        return _recall(session, query, as_json, data_dir)
    with connected(data_dir) as host:
        context = host.ask(agent_plans.get_all_context(session, None))
        kept = host.ask(agent_plans.get_memories(session, False, None))
        pending = host.ask(agent_plans.pending_memories(session, None))
        promotion = host.ask(agent_plans.promotion_stats(session, None))
    if as_json:
        print_json({"context": context, "kept": kept, "pending": pending, "promotion": promotion})
        return exit_codes.OK
    print_pairs((key, json.dumps(value, ensure_ascii=False, default=str)) for key, value in context.items())
    print_table(
        ("ID", "", "SCORE", "TYPE", Column("MEMORY", shrinks="wraps", least=24)),
        (
            (one.id[:8], state, f"{one.importance_score:.2f}", one.memory_type, one.content)
            for state, memories in (("kept", kept), ("waits", pending))
            for one in memories
        ),
    )
    return exit_codes.OK


def _recall(session: str, query: str, as_json: bool, data_dir: DataDir) -> int:
    with connected(data_dir) as host:
        found = host.ask(agent_plans.recall(session, {"query": query}, None))
    if as_json:
        print_json(found)
    else:
        print_table(
            ("ID", "FITS", "TYPE", Column("MEMORY", shrinks="wraps", least=24)),
            ((one.id[:8], f"{one.score or 0.0:.2f}", one.memory_type, one.content) for one in found),
        )
    return exit_codes.OK


def signal(
    session: SessionName,
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="Its type, for example counter.increment.")],
    data: Annotated[str | None, typer.Argument(metavar="[JSON]", help="Its data.")] = None,
    cast: Annotated[bool, typer.Option("--cast", help="Print its id and do not wait for what comes of it.")] = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="SECONDS", help="How long to wait for the answer (5).")
    ] = None,
    data_dir: DataDir = None,
) -> int:
    """Give a session's agent a signal, and print what its action answers as JSON."""
    given, timeout_s = _data(data), timeout_of(timeout, "signal")
    with connected(data_dir) as host:
        if cast:
            say(host.ask(cast_plan(session, type_, given, timeout_s)))
        else:
            print_json(host.ask(agent_plans.signal(session, type_, given, timeout_s)))
    return exit_codes.OK


def _data(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as problem:
        raise InvalidRequest(
            f"the data are not JSON: {problem}",
            code="invalid_json",
            hint="""for example '{"by": 2}', in single quotes""",
        ) from None


def send(
    session: SessionName,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to say; - reads it from standard input.")],
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="SECONDS", help="End the answer after this (60).")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Send a message to a session and pass on what its responder answers, as it comes."""
    said = sys.stdin.read() if text == "-" else text

    def show(piece: str) -> None:
        sys.stdout.write(piece)
        sys.stdout.flush()

    timeout_s = timeout_of(timeout, "send_message")
    with connected(data_dir, ends_with_us=True) as host:
        answer = host.ask(
            send_message(session, said, timeout=timeout_s, on_text=None if as_json else text_of_output(show))
        )
    if as_json:
        print_json(answer)
    elif not answer.endswith("\n"):
        say("")
    return exit_codes.OK


def aside(
    session: SessionName,
    retry: Annotated[str, typer.Option("--retry", metavar="SIGNAL", help="Give it to the session once more.")] = "",
    drop: Annotated[str, typer.Option("--drop", metavar="SIGNAL", help="Forget it.")] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """List the signals that a session could not handle, retry one, or drop one."""
    with connected(data_dir) as host:
        found = host.ask(plans.aside(session, retry=retry, drop=drop))
    if as_json:
        print_json(found)
    else:
        print_table(
            ("ID", "GIVEN", "TYPE", Column("WHY IT WAS SET ASIDE", shrinks="wraps", least=24)),
            ((one.id, f"{datetime.fromtimestamp(one.at, UTC):{_TIME}}", one.type, one.reason) for one in found),
        )
    return exit_codes.OK
