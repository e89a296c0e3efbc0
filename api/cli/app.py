"""The table of verbs and the typer application made from it; only the files of the verbs that are needed are imported.

It is *not* where anything is done. Rule: `procession run …` loads `work.py` alone; `--help` and completion load them all.
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Final, NamedTuple

import typer

from procession._version import __version__


class Verb(NamedTuple):
    """A verb: the file and function that carry it out, the panel of the help it stands in, and how its words are read."""

    module: str
    function: str
    panel: str
    #: Options come before the first word; everything after it belongs to the program.
    words_are_a_programs: bool = False


_HERE: Final = "procession.api.cli"

VERBS: Final[dict[str, Verb]] = {
    "run": Verb("work", "run", "Run", words_are_a_programs=True),
    "exec": Verb("work", "execute", "Run", words_are_a_programs=True),
    "python": Verb("work", "python", "Run"),
    "up": Verb("lifecycle", "up", "Host"),
    "down": Verb("lifecycle", "down", "Host"),
    "status": Verb("look", "status", "Host"),
    "stats": Verb("look", "stats", "Host"),
    "events": Verb("look", "events", "Host"),
    "new": Verb("lifecycle", "new", "Sessions"),
    "ps": Verb("look", "ps", "Sessions"),
    "inspect": Verb("look", "inspect", "Sessions"),
    "why": Verb("look", "why", "Sessions"),
    "logs": Verb("look", "logs", "Sessions"),
    "restart": Verb("restarting", "restart", "Sessions"),
    "hibernate": Verb("lifecycle", "hibernate", "Sessions"),
    "kill": Verb("lifecycle", "kill", "Sessions"),
    "stop": Verb("lifecycle", "stop", "Sessions"),
    "rm": Verb("lifecycle", "rm", "Sessions"),
    "export": Verb("moves", "export", "Sessions"),
    "import": Verb("moves", "import_", "Sessions"),
    "fork": Verb("moves", "fork", "Sessions"),
    "messages": Verb("agent", "messages", "Agents"),
    "todos": Verb("agent", "todos", "Agents"),
    "files": Verb("agent", "files", "Agents"),
    "state": Verb("agent", "state", "Agents"),
    "memory": Verb("agent", "memory", "Agents"),
    "tools": Verb("tools", "tools", "Agents"),
    "tool": Verb("tools", "tool", "Agents"),
    "signal": Verb("agent", "signal", "Agents"),
    "send": Verb("agent", "send", "Agents"),
    "aside": Verb("agent", "aside", "Agents"),
    "doctor": Verb("doctor", "doctor", "Check"),
    "demo": Verb("demo", "demo", "Check"),
}

DataDir = Annotated[
    str | None,
    typer.Option(
        "--data-dir",
        envvar="PROCESSION_DATA_DIR",
        show_default=False,
        metavar="DIR",
        help="The folder of the host to talk to (default: the one of `procession up`).",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SessionName = Annotated[str, typer.Argument(metavar="ID", help="A session's id, the first 8 of it, or its name.")]
SessionNames = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids or names of sessions.")]
SandboxName = Annotated[
    str, typer.Option("--sandbox", help="Confinement. Only `off` can be had in this version: limits and kill domain.")
]
Memory = Annotated[
    str | None, typer.Option("--memory", metavar="SIZE", help="Memory of the whole process tree, for example 256M.")
]
Cpu = Annotated[str | None, typer.Option("--cpu", metavar="SECONDS", help="CPU time of the whole process tree.")]


def build(argv: list[str]) -> typer.Typer:
    """Make the application for this command line: with its one verb, or with all when help or completion is asked for."""
    app = typer.Typer(
        name="procession",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        help="A process for every session: run crashy or untrusted code in supervised processes that end on time.",
    )
    app.callback()(_root)
    wanted = next((word for word in argv if not word.startswith("-")), "")
    for name in [wanted] if wanted in VERBS else VERBS:
        verb = VERBS[name]
        settings: dict[str, object] = {"help_option_names": ["-h", "--help"]}
        if verb.words_are_a_programs:
            settings["allow_interspersed_args"] = False
        function = getattr(import_module(f"{_HERE}.{verb.module}"), verb.function)
        app.command(name, rich_help_panel=verb.panel, context_settings=settings)(function)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"procession {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback behind an error.")] = False,
) -> None:
    # Both are read elsewhere: --version by its callback, --debug by main() before anything can go wrong.
    del version, debug
