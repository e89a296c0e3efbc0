"""Write docs/limits.md from ipc/core/bounds.py: every default and limit that more than one room keeps, with its reason.

`PYTHONPATH=tests .venv/bin/python -m helpers.limits_page` writes it; a test holds the page to the code. The reason is
the `#:` comment above the constant; what bounds.py leaves to its name is said here, once. A constant without either
is an error.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.sources import REPOSITORY
from procession.ipc.core import bounds

BOUNDS_FILE = Path("ipc/core/bounds.py")
PAGE_FILE = Path("docs/limits.md")
UNITS = frozenset({"KiB", "MiB", "GiB"})
SECTION = re.compile(r"^# --- (.+?) -*$")

HEAD = """# Limits and defaults

Every queue, wait, size and count is bounded, and hitting a bound is a typed error, never a hang. This page lists the
bounds that more than one part of procession keeps; it is generated from `ipc/core/bounds.py`, and a test holds it to
that file. A bound that only one file needs stands in that file, with its reason.

What a single run may use (memory, CPU time, processes, open files, file size, output) is unbounded until you say
otherwise: `Limits(memory="256M", cpu_s=10, processes=32, open_files=256, file_size="1G", output="8M")`, for a host, a
session, or one run. What a run does not say is its session's, and what a session does not say its host's. A limit that
procession enforces (memory, CPU time, processes, output) ends the run with `ToolLimitExceeded`, for memory its subclass
`ToolOutOfMemory`; one that the kernel refuses (open files, file size) reaches the tool as an `OSError`.
"""

REASONS = {
    "WIRE_VERSION": "Both ends of a channel refuse another one by name.",
    "RESULT_NODES_MAX": "The same for the result of a run, which its caller decodes and no other call waits for.",
    "RESULT_OBJECT_BYTES_MAX": "What a decoded result may weigh as objects: a small text can stand for much memory.",
    "BODY_DEPTH_MAX": "Deeper nesting exhausts decoders' stacks before it carries meaning.",
    "BODY_NODES_MAX": "1 MiB of empty maps would become 70 MiB of objects.",
    "TRACEBACK_CHARS_MAX": "A traceback is kept to its end, where the cause stands.",
    "MAILBOX_COMMANDS_MAX": "More waiting commands than this is a caller that does not listen: `MailboxFull`.",
    "MAILBOX_BYTES_MAX": "What one session that does not read may cost its host in memory.",
    "READY_TIMEOUT_S": "From the fork to the session's greeting; a start that takes longer hangs: `StartFailed`.",
    "FORK_ACK_TIMEOUT_S": "A zygote that acknowledges no fork in this time is replaced.",
    "WORKER_TERM_GRACE_S": "Between SIGTERM and SIGKILL of a run past its deadline: enough to flush a file.",
    "INTERPRETER_INT_GRACE_S": "Between SIGINT and SIGTERM of a cell past its deadline: time to end as an interrupt.",
    "SESSION_OVERRUN_GRACE_S": "A run past its deadline by this and the grace above ends its whole session.",
    "STOP_GRACE_S": "A session asked to stop may take this long before its whole tree is killed.",
    "REAP_TIMEOUT_S": "SIGKILL works within milliseconds; a process in uninterruptible sleep is not waited for longer.",
    "QUERY_TIMEOUT_S": "Default deadline of what a session answers from its loop.",
    "RUN_TIMEOUT_S": "Default deadline of a run, a command, a cell, a start. Always finite.",
    "OUTPUT_RING_BYTES": "What is kept of the output of a run: its last part.",
    "OUTPUT_RATE_BYTES_S": "What a run's output may cost its host each second; the rest is dropped and counted.",
    "STDERR_TAIL_BYTES": "What a report shows of standard error.",
    "SESSIONS_MAX": "Running session processes of one host: `SessionLimitReached` beyond.",
    "EVENTS_KEPT": "The last events of a host, for `events(since=...)`.",
    "EVENT_BURST": "Events one session may cause at once, before its rate counts.",
    "OUTCOMES_KEPT": "Outcomes kept so that the same call id gives the same answer.",
    "OUTCOME_KEPT_S": "The same, in time.",
}


@dataclass(frozen=True)
class Bound:
    """One named constant."""

    name: str
    section: str
    reason: str


def read_bounds(text: str) -> list[Bound]:
    """Read the constants of a file, with their sections and reasons; raise ValueError for one without a reason."""
    lines = text.splitlines()
    found, section = [], "General"
    starts = {node.lineno: node for node in ast.parse(text).body}
    for number, line in enumerate(lines, start=1):
        if match := SECTION.match(line):
            section = match[1].strip().capitalize()
        node = starts.get(number)
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.target.id in UNITS:
            continue
        name = node.target.id
        reason = " ".join(_comment_above(lines, number)) or REASONS.get(name, "")
        if not reason:
            raise ValueError(f"{name} has no reason: write it above the constant as a #: comment")
        found.append(Bound(name, section, reason))
    return found


def _comment_above(lines: list[str], number: int) -> Iterator[str]:
    first = number - 1
    while first > 0 and lines[first - 1].startswith("#:"):
        first -= 1
    yield from (line.removeprefix("#:").strip() for line in lines[first : number - 1])


def value_of(name: str) -> str:
    """Write a constant's value in the unit that its name says."""
    value: int | float = getattr(bounds, name)
    if "BYTES" in name:
        per_second = "/s" if name.endswith("_S") else ""
        for unit, size in (("MiB", bounds.MiB), ("KiB", bounds.KiB)):
            if value >= size and value % size == 0:
                return f"{value // size:g} {unit}{per_second}"
        return f"{value:,} bytes{per_second}"
    if "RATE" in name:
        return f"{value:,} each second"
    if name.endswith(("_S", "_S_MAX")):
        return _duration(value)
    return f"{value:,}"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3_600)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def render_page() -> str:
    """Write the page."""
    lines, section = [HEAD], ""
    for bound in read_bounds((REPOSITORY / BOUNDS_FILE).read_text(encoding="utf-8")):
        if bound.section != section:
            section = bound.section
            lines += [f"\n## {section}\n", "| constant | value | reason |", "|---|---|---|"]
        lines.append(f"| `{bound.name}` | {value_of(bound.name)} | {bound.reason} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    (REPOSITORY / PAGE_FILE).write_text(render_page(), encoding="utf-8")
    print(f"{PAGE_FILE} written")


if __name__ == "__main__":
    main()
