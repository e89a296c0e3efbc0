"""Hosts for the guarantee tests: one a module, so that the leak guard's baseline has it, and sessions a test."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from helpers.hosts import EventWatch, StartSession
from procession import Host, Sandbox, Session


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Return a host that has run a session already: its zygote, its threads and its lazy imports are there."""
    with Host(sandbox=Sandbox.off()) as host:
        with host.temporary_session() as session:
            session.run(len, ())
        yield host


@pytest.fixture
def faulty_host() -> Iterator[Host]:
    """Return a host whose sessions do what `helpers.session_faults` tells them to."""
    with Host(sandbox=Sandbox.off(), preload=["helpers.session_faults"]) as host:
        yield host


@pytest.fixture
def start(host: Host) -> Iterator[StartSession]:
    """Return what starts sessions of the module's host; they are removed with the test."""
    with ExitStack() as stack:

        def start(**options: object) -> Session:
            session = host.start_session(**options)  # type: ignore[arg-type]
            stack.callback(host.remove_session, session.id)
            return session

        yield start


@pytest.fixture
def session(start: StartSession) -> Session:
    """Return a fresh session of the module's host."""
    return start()


@pytest.fixture
def events(host: Host) -> Iterator[EventWatch]:
    """Return the events of the module's host from now on."""
    with EventWatch(host) as watch:
        yield watch
