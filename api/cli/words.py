"""Errors in the words of a shell: where the Python face names its methods and arguments, these name verbs and options.

It is *not* where errors are made. Rule: an error is told by its code; one that is not in the table keeps its own hint, which
then must make sense in both faces.
"""

from __future__ import annotations

from typing import Final

from procession.api.cli.output import complain
from procession.ipc.core.errors import ProcessionError

#: By the error's code; {session} is the id of the session it is about.
HINTS: Final[dict[str, str]] = {
    "already_streaming": "wait until that answer has ended",
    "already_started": "the other verbs talk to it, and `procession down` ends it; --data-dir DIR is for a second host",
    "file_exists": "--overwrite replaces it",
    "failed": "`procession why {session}` tells what happened, `procession restart {session}` tries again",
    "invalid_data_dir": "leave it out, or give . for the current folder",
    "no_host": "start one with `procession up -d`",
    "no_responder": "give it one when it is made: `procession new --responder MODULE:NAME`",
    "not_found": "`procession ps --all` lists them",
    "not_running": "`procession restart {session}` brings it back, with its data",
    "project_already_open": "use that session, `procession stop` it, or open the folder in both with --share",
    "sandbox_unavailable": "--sandbox off: limits and kill domain only, for crashy code, not for hostile code",
    "session_limit_reached": "stop one, or start the host with a larger --max-sessions",
    "untrusted_code": "--trust-code lets it, for a file from somebody whose code you would run",
    "unknown_query": "`procession signal {session} TYPE` runs an action of its own",
    "stopped": "`procession restart {session}` brings it back, with its data",
}


def hint_of(error: ProcessionError) -> str:
    """Return what may be done about an error, as one who types would do it."""
    words = HINTS.get(error.code)
    return error.hint if words is None else words.format(session=error.session or "ID")


def complain_of(error: ProcessionError) -> None:
    """Write an error and what may be done about it to stderr."""
    complain(error.message or error.code, hint_of(error))
