"""R-68: the wall clock decides nothing. It is read in few places of this room, all of them for people to read."""

import ast

import pytest

from helpers.sources import dotted, local_names, room_sources
from procession.host import clock

WALL_READERS = {
    "host/event_log.py": "when an event was",
    "host/session.py": "when a session was made",
    "host/families.py": "when a signal of the host's was made",
    "host/tool_gate.py": "when a call that a model chose was over",
    "host/signal_log.py": "when a signal to subscribers was taken",
    "host/session_journal.py": "when a change was kept",
    "host/session_casts.py": "when a signal was taken in",
    "host/moving.py": "when an archive, or a session of one, was made, and when a copy was how far",
    "host/call_mailbox.py": "how old an outcome is that another host may have kept, whose clock is gone",
}
DECIDERS = ("host/core/",)
OTHER_NAMES = {"time.time", "time.time_ns", "datetime.now", "datetime.datetime.now", "time.CLOCK_REALTIME"}


@pytest.mark.guarantee("R-68")
def test_only_what_people_read_is_stamped_with_the_wall_clock() -> None:
    readers = set()
    for source in room_sources("host"):
        names = local_names(source)
        for node in ast.walk(source.tree()):
            if isinstance(node, ast.Attribute) and dotted(node).endswith("clock.wall") and "clock" in names:
                readers.add(source.path.as_posix())
    assert readers <= set(WALL_READERS)
    assert "host/event_log.py" in readers
    assert not [path for path in readers if path.startswith(DECIDERS)]


@pytest.mark.guarantee("R-68")
def test_no_file_of_the_room_asks_for_the_date_by_another_name() -> None:
    found = []
    for source in room_sources("host"):
        if source.path.as_posix() == "host/clock.py":
            continue
        found += [
            f"{source}:{node.lineno} {dotted(node)}"
            for node in ast.walk(source.tree())
            if isinstance(node, ast.Attribute) and dotted(node) in OTHER_NAMES
        ]
    assert found == []


def test_the_clock_goes_forward_and_chance_is_between_nought_and_one() -> None:
    readings = [clock.monotonic() for _ in range(100)]
    assert readings == sorted(readings)
    assert all(0.0 <= clock.random() < 1.0 for _ in range(100))
