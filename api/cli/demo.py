"""`procession demo`: the main job of the package, shown on real code (see api/demo/)."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from procession.api.cli import exit_codes
from procession.api.cli.app import AsJson
from procession.api.cli.output import note, print_json
from procession.ipc.core.errors import InvalidRequest

if TYPE_CHECKING:
    from procession.api.demo.cases import Case


def demo(
    case: Annotated[
        list[str] | None, typer.Option("--case", metavar="NAME", help="Only this one (repeatable).")
    ] = None,
    list_them: Annotated[bool, typer.Option("--list", help="List the cases and leave.")] = False,
    as_json: AsJson = False,
) -> int:
    """Run code that misbehaves, one session per case, and show what happened to each.

    Exit code 0 only if every case ended as it should.
    """
    from procession.api.demo.cases import CASES

    known = {one.name: one for one in CASES}
    if list_them:
        for one in CASES:
            print(f"{one.name:<10}{one.title}")
        return exit_codes.OK
    unknown = [name for name in case or () if name not in known]
    if unknown:
        raise InvalidRequest(f"--case: there is no case {unknown[0]!r}", hint="one of " + ", ".join(known))
    chosen = [known[name] for name in dict.fromkeys(case)] if case else list(CASES)
    return _play_as_json(chosen) if as_json else _play_live(chosen)


def _play_live(chosen: list[Case]) -> int:
    from procession.api.demo import show
    from procession.api.demo.runner import play

    if sys.stderr.isatty():
        note("sandbox off in every case: limits and kill domain only, the confinement of hostile code comes later")
    began = time.monotonic()
    with show.live(len(chosen)) as tell:
        rows = play(chosen, tell)
    return exit_codes.OK if show.print_verdict(rows, time.monotonic() - began) else exit_codes.FAILED


def _play_as_json(chosen: list[Case]) -> int:
    from procession.api.demo.runner import play

    began = time.monotonic()
    rows = play(chosen, lambda _: None)
    good = not any(row.state == "wrong" for row in rows)
    print_json({"ok": good, "elapsed_s": round(time.monotonic() - began, 3), "cases": [row.asdict() for row in rows]})
    return exit_codes.OK if good else exit_codes.FAILED
