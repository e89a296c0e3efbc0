"""One host for a file of contract tests, and a session for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from procession import Host, Sandbox, Session


@pytest.fixture(scope="module")
def contract_host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off()) as opened:
        opened.remove_session(opened.start_session().id)  # its zygote is the fixture's, not the first test's
        yield opened


@pytest.fixture
def chat(contract_host: Host) -> Iterator[Session]:
    """A code session; what it answers at the end of a test is what its host has too."""
    session = contract_host.start_session()
    yield session
    session.memory.disable_promotion()  # so that nothing comes between the two looks
    assert session.get_state() == session.committed_state()
    contract_host.remove_session(session.id)
