"""A host for all tests of a file, whose zygote is there before the first of them."""

from collections.abc import Iterator

import pytest

from procession import Host, Sandbox


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Return a host that puts nobody to sleep by itself within a test's time."""
    with Host(sandbox=Sandbox.off(), preload=["pydantic"]) as opened:
        opened.remove_session(opened.start_session().id)
        yield opened
