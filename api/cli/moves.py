"""The verbs that move and copy sessions: `export import fork`.

Rules: files are read and written here, in the folder and on the machine of whoever types; a new session's id is all that is
printed on stdout; how far a long copy is stands on a terminal's stderr, and is gone when it is done.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from procession.api.cli import exit_codes
from procession.api.cli.app import AsJson, DataDir, SandboxName, SessionName
from procession.api.cli.client import check_sandbox, connected, project_of
from procession.api.cli.output import count, print_json, say, size
from procession.api.core import plans
from procession.ipc.core.backend import Item
from procession.ipc.core.operations import SessionRef
from procession.ipc.core.records import Event

Name = Annotated[str | None, typer.Option("--name", help="A name for it.")]
Project = Annotated[Path | None, typer.Option("--project", metavar="DIR", help="Its folder (a private one).")]


def export(
    session: SessionName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    data_dir: DataDir = None,
) -> int:
    """Write a session to a file: who it is, how it is started, and its state, but not its project's folder."""
    from procession.api import moves

    place = moves.archive_to_write(file, overwrite)
    with connected(data_dir) as host:
        data = host.ask(plans.export_session(session))
    moves.write_archive(place, data, overwrite)
    say(f"exported: {place}, {size(len(data))}")
    return exit_codes.OK


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `export` wrote.")],
    name: Name = None,
    project: Project = None,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Let its session run the code that the file holds or names.")
    ] = False,
    sandbox: SandboxName = "off",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Start a session with what is in a file that `export` wrote; prints its id."""
    from procession.api import moves
    from procession.api.link import Link
    from procession.api.sandbox import Sandbox

    confinement: Sandbox = getattr(Sandbox, check_sandbox(sandbox))()
    source, data = moves.read_archive(file)
    with connected(data_dir) as host:
        body = moves.import_body(
            Link(host.backend, is_local=False), source, name=name, project=None if project is None else project_of(project),
            session_id=None, trust_code=trust_code, start=True, sandbox=confinement,
        )  # fmt: skip
        ref = host.ask(plans.import_session(body, data))
    return _show(ref, as_json)


def fork(
    session: SessionName,
    at: Annotated[
        int | None, typer.Option("--at", metavar="N", min=0, help="As it was after change N (now); `status` tells N.")
    ] = None,
    name: Name = None,
    project: Project = None,
    copy_project: Annotated[
        bool, typer.Option("--copy-project", help="Copy what is in its project's folder to the new one's.")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Start a session with the state of another one; prints its id."""
    from procession.api import moves

    folder = None if project is None else project_of(project)
    body = moves.fork_body(at=at, name=name, project=folder, copy_project=copy_project)
    plan = plans.fork_session(session, body)
    with connected(data_dir, ends_with_us=True) as host:
        if copy_project and sys.stderr.isatty():
            plan.request.on_item = _show_progress
        try:
            ref = host.ask(plan)
        finally:
            if plan.request.on_item is not None:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
    return _show(ref, as_json)


def _show_progress(item: Item) -> None:
    if isinstance(item, Event) and item.type == "session.copying":
        entries, copied = item.data.get("entries"), item.data.get("bytes")
        if isinstance(entries, int) and isinstance(copied, int):
            sys.stderr.write(f"\r\x1b[Kcopying: {count(entries, 'file')}, {size(copied)}")
            sys.stderr.flush()


def _show(ref: SessionRef, as_json: bool) -> int:
    print_json(ref) if as_json else say(ref.id)
    return exit_codes.OK
