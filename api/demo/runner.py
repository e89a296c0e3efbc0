"""Plays the cases of the demo, one session each, a few at a time, and tells whoever listens how each stands.

It is *not* the table: `show.py` draws what is told here. Rule: a case is right only if all it checked was so and no process
of it is left; anything unexpected is a wrong case, never a traceback.
"""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from procession.api.demo.cases import Case, Seen, Stage, prepare_sample
from procession.api.host import Host
from procession.ipc.core.errors import ProcessionError

#: Cases at once: enough to be quick on two cores, few enough that deadlines still mean what they say.
PARALLEL: Final = 4


@dataclass(frozen=True)
class Row:
    """A case as it stands. state: waiting, running, right, wrong or skipped."""

    case: Case
    state: str = "waiting"
    elapsed_s: float = 0.0
    seen: Seen | None = None
    wrong: tuple[str, ...] = ()

    @property
    def found(self) -> str:
        """How many processes were found at its end."""
        return "-" if self.seen is None or self.seen.receipt is None else str(self.seen.receipt.found)

    @property
    def left(self) -> str:
        """How many were left."""
        return "-" if self.seen is None or self.seen.receipt is None else str(self.seen.receipt.left)

    def asdict(self) -> dict[str, object]:
        """Return it for JSON; the keys are stable."""
        seen, receipt = self.seen, self.seen.receipt if self.seen else None
        return {
            "case": self.case.name,
            "title": self.case.title,
            "expected": self.case.expected,
            "sandbox": self.case.sandbox.level,
            "ok": self.state in ("right", "skipped"),
            "state": self.state,
            "ended": seen.ended if seen else None,
            "got": seen.got if seen else None,
            "elapsed_s": round(self.elapsed_s, 3),
            "processes_found": receipt.found if receipt else None,
            "processes_left": receipt.left if receipt else None,
            "wrong": list(self.wrong),
        }


Tell = Callable[[Sequence[Row]], None]


def play(cases: Sequence[Case], tell: Tell) -> list[Row]:
    """Play the cases in a host of its own; `tell` gets all rows in this thread whenever one changes."""
    rows = [Row(case) for case in cases]
    news: queue.SimpleQueue[tuple[int, Row]] = queue.SimpleQueue()
    waiting = iter(list(enumerate(cases)))
    lock = threading.Lock()
    tell(rows)
    with tempfile.TemporaryDirectory(prefix="procession-demo-") as folder, Host() as host:

        def work() -> None:
            while True:
                with lock:
                    index, case = next(waiting, (-1, cases[0]))
                if index < 0:
                    return
                news.put((index, Row(case, "running")))
                news.put((index, _play_one(host, case, Path(folder))))

        threads = [
            threading.Thread(target=work, name=f"demo-{n}", daemon=True) for n in range(min(PARALLEL, len(cases)))
        ]
        for thread in threads:
            thread.start()
        while any(row.state in ("waiting", "running") for row in rows):
            index, rows[index] = news.get()
            tell(rows)
        for thread in threads:
            thread.join()
    return rows


def _play_one(host: Host, case: Case, parent: Path) -> Row:
    """Play one case in a session of its own; whatever happens is a row."""
    folder = parent / case.name
    began = time.monotonic()
    try:
        folder.mkdir()
        if case.name == "pytest":
            prepare_sample(folder)
        session = host.start_session(folder, name=case.name, sandbox=case.sandbox, limits=case.limits)
        began = time.monotonic()
        seen = case.play(Stage(session, folder))
        elapsed_s = time.monotonic() - began
        session.stop()
    except ProcessionError as error:
        return Row(case, "wrong", time.monotonic() - began, wrong=(f"{type(error).__name__}: {error}",))
    except Exception as problem:  # noqa: BLE001 - a case that cannot be played is a row, and the others go on
        return Row(case, "wrong", time.monotonic() - began, wrong=(f"{type(problem).__name__}: {problem}",))
    wrong = list(seen.wrong)
    if seen.receipt is not None and seen.receipt.left:
        wrong.append(f"{seen.receipt.left} processes could not be proved gone")
    state = "wrong" if wrong else "skipped" if seen.skipped else "right"
    return Row(case, state, elapsed_s, seen, tuple(wrong))
