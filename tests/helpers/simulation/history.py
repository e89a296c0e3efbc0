"""What clients asked for and were told, and the laws that it is held to afterwards.

The model is a log: what a session kept of the texts it was given, in order. Each text is given by one client under one name, so
it is known of each how often it may be there.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from procession.ipc.core.errors import HostLost, ProcessionError

UNSYNCED_S = 1.0
"""Before a power cut: what was acknowledged as `batch` then may be gone. (The promise is 50 ms; the disk here may be slow.)"""


@dataclass
class Told:
    """One outcome of one attempt."""

    at: float
    outcome: Any
    host: int

    @property
    def error(self) -> ProcessionError | None:
        return self.outcome if isinstance(self.outcome, ProcessionError) else None


@dataclass
class Asked:
    """One thing that a client wanted: made once, or again and again under one id, until it is told how it ended."""

    kind: str
    text: str
    session: str
    client: int
    durability: str
    call_id: str
    at: float
    told: list[Told] = field(default_factory=list)
    attempts: int = 0
    read: list[str] | None = None

    @property
    def acknowledged(self) -> Told | None:
        return next((told for told in self.told if told.error is None), None)


@dataclass
class Disaster:
    """The end of a host: `kill` keeps what was written, `power` only what was on disk."""

    at: float
    kind: str
    host: int


class Broken(AssertionError):
    """A law does not hold."""


class History:
    """Everything that happened, and `check`."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.disasters: list[Disaster] = []
        self.deaths = 0
        self.sync_failures: list[float] = []
        self.runs: Counter[str] = Counter()

    def tell(self, asked: Asked, told: Told) -> None:
        """Note an outcome: exactly one of each attempt (law 1)."""
        asked.told.append(told)
        if len(asked.told) > asked.attempts:
            raise Broken(f"{asked.text}: {len(asked.told)} outcomes of {asked.attempts} attempts (law 1)")

    def _may_be_gone(self, durability: str, since: Told) -> bool:
        for disaster in self.disasters:
            if disaster.host < since.host or disaster.at < since.at:
                continue
            if durability == "memory":
                return True
            unsynced_since = [disaster.at, *(at for at in self.sync_failures if at <= disaster.at)]
            if disaster.kind == "power" and durability == "batch" and since.at > min(unsynced_since) - UNSYNCED_S:
                return True
        return False

    def check(self, final: dict[str, list[str]], aside: dict[str, list[str]]) -> None:
        """Hold the history to the laws. final: what each session has at the end; aside: texts that were set aside."""
        counts = {session: Counter(texts) for session, texts in final.items()}
        for asked in self.asked:
            if len(asked.told) != asked.attempts:
                raise Broken(f"{asked.text}: {asked.attempts} attempts, {len(asked.told)} outcomes (law 1)")
            count = counts[asked.session][asked.text]
            if asked.kind in ("append", "fail"):
                self._check_call(asked, count)
            elif asked.kind == "cast":
                self._check_cast(asked, count, asked.text in aside[asked.session])
            elif asked.kind == "read" and asked.read is not None:
                self._check_read(asked, final[asked.session])
        self._check_order(final)

    def _check_call(self, asked: Asked, count: int) -> None:
        if self.runs[asked.text] > asked.attempts:
            raise Broken(f"{asked.text} was run {self.runs[asked.text]} times, and asked for {asked.attempts} times")
        if count > 1:
            raise Broken(f"{asked.text} is there {count} times")
        kept = asked.acknowledged
        if kept is None and asked.kind == "fail":
            kept = next((told for told in asked.told if told.error is not None and told.error.applied), None)
        if kept is not None and count == 0 and not self._may_be_gone(asked.durability, kept):
            raise Broken(f"{asked.text} was acknowledged as {asked.durability} at {kept.at:.4f} and is gone (law 3)")
        if kept is None and count == 1:
            errors = [told.error for told in asked.told]
            if all(error is not None and (error.ran == "no" or error.applied is False) for error in errors):
                raise Broken(f"{asked.text} is there, and was said not to be: {errors} (law 2)")

    def _check_cast(self, asked: Asked, count: int, is_aside: bool) -> None:
        if asked.text.startswith("poison"):
            if count:
                raise Broken(f"{asked.text} killed its session and is there")
            return
        kept = asked.acknowledged
        if kept is not None and count == 0 and not is_aside and not self._may_be_gone(asked.durability, kept):
            raise Broken(
                f"{asked.text} was taken as {asked.durability} at {kept.at:.4f}, and is neither there nor aside"
            )
        if count > 1 + self.deaths + len(self.disasters):
            raise Broken(f"{asked.text} is there {count} times")

    def _check_read(self, asked: Asked, final: list[str]) -> None:
        """What was read had been kept: it is still there, but for what no host, or no power cut, was promised to survive."""
        told = asked.acknowledged
        assert told is not None
        assert asked.read is not None
        there = set(final)
        by_text = {one.text: one for one in self.asked}
        for text in asked.read:
            if text not in there and not self._may_be_gone(by_text[text].durability, told):
                raise Broken(f"{text} was read at {told.at:.4f} and is gone: it was not kept when it was shown (law 3)")

    def _check_order(self, final: dict[str, list[str]]) -> None:
        """A client waits for one outcome before it asks for the next: so its acknowledged texts are there in that order."""
        for session, texts in final.items():
            place = {text: index for index, text in enumerate(texts)}
            last: dict[int, tuple[int, str]] = {}
            for asked in self.asked:
                told = asked.acknowledged
                if asked.kind != "append" or asked.session != session or told is None or asked.text not in place:
                    continue
                before = last.get(asked.client)
                if before is not None and before[0] > place[asked.text]:
                    raise Broken(f"{asked.text} stands before {before[1]}, after which it was asked for")
                last[asked.client] = (place[asked.text], asked.text)


def is_over(error: ProcessionError) -> bool:
    """Whether a client that has an id for its call asks again after this."""
    return not isinstance(error, HostLost) and error.ran != "no" and error.applied is not False
