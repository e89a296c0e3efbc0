"""Whether this process is loading code of the program's by its name, as a session does with an agent: no host opens in it then.

A module that starts a host when it is imported would start one in every process that it is imported in, each of which
imports it again. Not locked: whoever loads does so before it has threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from procession.ipc.core.errors import InvalidRequest

_under_way: list[str] = []


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Say what is being loaded, for as long as that takes."""
    _under_way.append(what)
    try:
        yield
    finally:
        _under_way.pop()


def check_not_loading() -> None:
    """Refuse what a module must not do while it is imported. Raises InvalidRequest, code host_while_loading."""
    if _under_way:
        raise InvalidRequest(
            f"a host would be started while {_under_way[-1]} is imported by one of procession's processes",
            code="host_while_loading",
            hint='put what starts it under `if __name__ == "__main__":`',
        )
