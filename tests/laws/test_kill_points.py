"""Kill points are named in one table: each of them is reached somewhere in the code, and nothing else is reached."""

import ast
from collections import defaultdict

from helpers.sources import local_names, resolved, room_sources
from procession.ipc.kill_points import KILL_POINTS

REACH = "procession.ipc.kill_points.reach"
ROOM_OF = {"host": "host", "zygote": "agent_proc", "session": "agent_proc"}


def reached() -> dict[str, set[str]]:
    """Return every name that is reached, with the rooms where it is."""
    found: dict[str, set[str]] = defaultdict(set)
    for source in room_sources():
        names = local_names(source)
        for node in ast.walk(source.tree()):
            if isinstance(node, ast.Call) and resolved(node.func, names) == REACH:
                (name,) = node.args
                assert isinstance(name, ast.Constant), f"{source}:{node.lineno}: a kill point's name is written out"
                found[str(name.value)].add(source.room)
    return found


def test_every_point_of_the_table_is_reached_in_its_room_and_no_other_is() -> None:
    assert reached() == {name: {ROOM_OF[where.partition(":")[0]]} for name, where in KILL_POINTS.items()}
