"""`python -m bench [--quick|--soak] [--only P1,P5] [--json FILE]`: run the groups one after the other, print one table.

Each group runs in a process of its own, pinned to one core (`pin0`, latencies) or free (throughput). A goal that is
missed is printed as a miss and the exit code stays 0; it is 1 only when a measurement broke.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.goals import Measured, load
from bench.report import as_data, summary, table


@dataclass(frozen=True)
class Group:
    """A file of bench/groups/: its name, its mode, the goals it measures."""

    name: str
    mode: str
    goals: tuple[str, ...]


GROUPS: Final = (
    Group("echo", "pin0", ("P1",)),
    Group("awaited", "pin0", ("P2",)),
    Group("pipelined", "free", ("P3", "P4")),
    Group("starts", "pin0", ("P5", "P6")),
    Group("memory", "free", ("P7",)),
    Group("deaths", "pin0", ("P8",)),
    Group("deadlines", "free", ("P9",)),
    Group("journal", "free", ("P10",)),
    Group("recovery", "free", ("R33", "R64")),
    Group("payloads", "free", ("P12",)),
    Group("runs", "pin0", ("P13",)),
    Group("acts", "pin0", ("A1", "A2")),
    Group("blocked", "pin0", ("A3",)),
)
#: A group that takes this long hangs: it is ended and reported as broken. Under --soak P9 alone takes ten minutes.
GROUP_S_MAX: Final = 120.0
SOAK_GROUP_S_MAX: Final = 1800.0


def run_group(group: Group, effort: str) -> tuple[list[Measured], str]:
    """Run one group; return what it measured and, when it broke, why."""
    results = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed once it has been read
    why = ""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.child", group.name, group.mode, effort, str(results.fileno())],
        cwd=Path(__file__).resolve().parent.parent,
        pass_fds=(results.fileno(),),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
        errors="replace",
    )
    try:
        _, errors = process.communicate(timeout=SOAK_GROUP_S_MAX if effort == "soak" else GROUP_S_MAX)
        if process.returncode:
            why = (errors.strip().splitlines() or ["no message"])[-1]
            print(errors, file=sys.stderr)
    except subprocess.TimeoutExpired:
        why = "did not finish in time"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    with results:
        results.seek(0)
        return [load(line) for line in results], why


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="fewer rounds and repetitions; for a glance")
    how.add_argument("--soak", action="store_true", help="the full counts (1000 deadlines); takes long")
    parser.add_argument("--only", default="", metavar="P1,P5", help="only the groups that measure these goals")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rounds of every line too")
    return parser.parse_args()


def main() -> int:
    """Run, print, and say with the exit code whether anything broke."""
    asked = arguments()
    only = {goal.strip().upper() for goal in asked.only.split(",") if goal.strip()}
    known = {goal for group in GROUPS for goal in group.goals}
    if unknown := sorted(only - known):
        print(f"no such goal: {', '.join(unknown)}; there are {', '.join(sorted(known))}", file=sys.stderr)
        return 2
    effort = "quick" if asked.quick else "soak" if asked.soak else "usual"
    began = time.monotonic()
    rows: list[Measured] = []
    broken: list[str] = []
    for group in GROUPS:
        if only and not only.intersection(group.goals):
            continue
        print(f"{', '.join(group.goals)}: {group.name} ({group.mode})...", end="", file=sys.stderr, flush=True)
        at = time.monotonic()
        measured, why = run_group(group, effort)
        print(f" {time.monotonic() - at:.1f} s{', ' + why if why else ''}", file=sys.stderr)
        rows += measured
        if why:
            broken.append(f"{group.name} ({why})")
    print(
        f"\n{platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.release()} "
        f"{platform.machine()}, {os.cpu_count()} cores; medians of the rounds, ratios formed within a round\n"
    )
    print(table(rows))
    print(f"\n{summary(rows, broken)}; {time.monotonic() - began:.0f} s in all")
    if asked.json is not None:
        asked.json.write_text(
            json.dumps({"rows": [as_data(row) for row in rows], "broken": broken}, indent=1) + "\n", encoding="utf-8"
        )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
