"""One group of measurements in a process of its own: `python -m bench.child GROUP pin0|free quick|usual|soak OUT_FD`.

Its results go to a file of their own, so that whatever a peer prints cannot be mistaken for one.
"""

from __future__ import annotations

import importlib
import os
import sys

from bench.goals import dump
from bench.timing import effort_of, pin_to_one_core


def main() -> None:
    """Measure and report."""
    group, mode, effort, out_fd = sys.argv[1:5]
    os.set_inheritable(int(out_fd), False)
    if mode == "pin0":
        pin_to_one_core()
    measure = importlib.import_module(f"bench.groups.{group}").measure
    with os.fdopen(int(out_fd), "w", encoding="utf-8") as out:
        for measured in measure(effort_of(quick=effort == "quick", soak=effort == "soak")):
            print(dump(measured), file=out, flush=True)


if __name__ == "__main__":
    main()
