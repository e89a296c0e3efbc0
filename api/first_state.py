"""What a new session's agent begins with: the record of a code session, put together and checked, or an agent of one's own.

It is *not* the rules (StateInitializer has them) nor what is taken already (the host knows): here the project's folder is
looked at, and what travels is packed. Loaded by the first session that is started, not by `import procession`.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import msgspec

from procession.agent_proc.agent.agent import Agent, check_agent
from procession.agent_proc.agent.change import Moment
from procession.agent_proc.agent.code_session.state import empty_state
from procession.agent_proc.agent.code_session_agent import CodeSessionAgent
from procession.agent_proc.agent.record.config import Defaults
from procession.agent_proc.agent.record.initializer import StateInitializer
from procession.agent_proc.agent.record.language import evidence
from procession.agent_proc.agent.record.project_path import NOTHING_THERE, ProjectFacts, path_to_look_at
from procession.agent_proc.agent.record.session_record import KEY
from procession.agent_proc.agent.references import parse_reference
from procession.api.core.agent_plans import not_plain
from procession.api.travel import goes_by_value, pack_value
from procession.ipc.core.bounds import RESULT_NODES_MAX
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.messages import SessionDefaults
from procession.ipc.core.state_ops import Value
from procession.ipc.core.values import UnsupportedValue, encode_value

HOSTS_MAX: Final = 16
"""Defaults that are kept made up: a program has one host, a test a few."""
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_encode: Final = msgspec.msgpack.Encoder().encode
_SESSION_ID, _SESSION = _encode("session_id"), _encode(KEY)
_PRIVATE: Final = ProjectFacts()
"""Of the folder that the host makes for a session of its own: there, empty and writable."""


def code_session(
    ident: str,
    name: str,
    project: str | None,
    private: str,
    language: Value,
    config: Value,
    defaults: SessionDefaults = (),
) -> bytes:
    """Return the first state of a code session, encoded. ident, name: checked. defaults: of its host.

    project: the absolute path of its folder; private: of the one the host will make, when there is none. Raises
    InvalidRequest with all codes, in the contract's order.
    """
    if project is None and language is None and config is None:
        return _usual(defaults)(ident, name, private)
    path = private if project is None else project
    facts = _PRIVATE if project is None else look_at(path)
    try:
        return encode_value(_made(defaults, ident, name, path, facts, language, config), path="state")
    except UnsupportedValue as error:
        raise InvalidRequest(str(error), code="not_plain_data") from None


def _made(
    defaults: SessionDefaults, ident: str, name: str, path: str, facts: ProjectFacts, language: Value, config: Value
) -> dict[str, Value]:
    moment = Moment(datetime.now(UTC), lambda: ident)
    params = {"session_id": ident, "name": name, "project_path": path, "language": language, "config": config}
    return _initializer(defaults).init(params, facts, empty_state(), moment)


@lru_cache(HOSTS_MAX)
def _initializer(defaults: SessionDefaults) -> StateInitializer:
    given: dict[str, Any] = dict(defaults)
    return StateInitializer(Defaults(**given))


@lru_cache(HOSTS_MAX)
def _usual(defaults: SessionDefaults) -> Callable[[str, str, str], bytes]:
    """Return what makes the first state of a session that asks for nothing: one that was made before, with other names.

    A start is to take milliseconds, and what is the same every time is put together, checked and encoded once.
    """
    state = _made(defaults, str(UUID(int=0)), "name", "/", _PRIVATE, None, None)
    record = state.pop(KEY)
    count = len(state) + 1
    del state["session_id"]
    assert 15 < count < 1 << 16, "a map of 16 bits"
    rest = (
        b"\xde" + count.to_bytes(2, "big") + b"".join(_encode(name) + _encode(value) for name, value in state.items())
    )

    def make(ident: str, name: str, private: str) -> bytes:
        now = datetime.now(UTC)
        own = {**record, "id": ident, "name": name, "project_path": private, "created_at": now, "updated_at": now}
        return b"".join((rest, _SESSION_ID, _encode(ident), _SESSION, _encode(own)))

    return make


def look_at(given: str) -> ProjectFacts:
    """Find out what a session has to know of its project's folder; makes, and removes, one hidden file in it.

    Raises InvalidRequest for a text that is no path.
    """
    path = path_to_look_at(given)
    if not os.path.isdir(path):
        return (
            ProjectFacts(exists=True, is_directory=False)
            if os.path.lexists(path) and os.path.exists(path)
            else NOTHING_THERE
        )
    names, can_list = _names(path)
    can_write, has_space = _probe(path)
    return ProjectFacts(
        link_target=os.readlink(path) if os.path.islink(path) else None,
        can_list=can_list,
        can_write=can_write,
        has_space=has_space,
        found=names,
    )


def _names(path: str) -> tuple[frozenset[str], bool]:
    try:
        with os.scandir(path) as entries:
            return evidence(entry.name for entry in entries), True
    except OSError:
        return frozenset(), False


def _probe(path: str) -> tuple[bool, bool]:
    try:
        fd, probe = tempfile.mkstemp(prefix=".procession-probe-", dir=path)
    except OSError as problem:
        return False, problem.errno not in _NO_SPACE
    os.close(fd)
    os.unlink(probe)
    return True, True


def is_code_session(agent: object) -> bool:
    """Say whether a session with this agent is a code session: it was given none, or its own class."""
    return agent is None or agent is CodeSessionAgent


def own_agent(agent: type[Agent[Any]] | str, reach: tuple[tuple[str, ...], tuple[str, ...]]) -> tuple[str, bytes]:
    """Return how an agent is named to the host: `module:Class`, or the class itself by value.

    reach: import_paths and preload of the session. A class of the program's own modules goes by value; what its module
    needs besides goes with it. Raises InvalidRequest: not_an_agent, invalid_agent_reference, unpicklable_argument.
    """
    if isinstance(agent, str):
        return str(parse_reference(agent)), b""
    kind = check_agent(agent)
    if goes_by_value(kind.__module__) or "<locals>" in kind.__qualname__:
        return "", pack_value(kind, import_paths=reach[0], preload=reach[1])
    return f"{kind.__module__}:{kind.__qualname__}", b""


def packed_responder(responder: object, reach: tuple[tuple[str, ...], tuple[str, ...]]) -> bytes:
    """Return who answers a session's messages, for its workers to unpack. Raises InvalidRequest (not_callable, …)."""
    if not callable(responder):
        raise InvalidRequest(f"responder: a function of a turn, not a {type(responder).__name__}", code="not_callable")
    return pack_value(responder, import_paths=reach[0], preload=reach[1])


def given_state(state: Mapping[str, object] | None) -> bytes:
    """Return what an agent of the program's own is given to begin with, encoded. Raises InvalidRequest (invalid_state)."""
    if state is None:
        return b""
    if not isinstance(state, Mapping):
        raise InvalidRequest(f"state: a mapping of names, not a {type(state).__name__}", code="invalid_state")
    try:
        return encode_value(dict(state), path="state", nodes_max=RESULT_NODES_MAX)
    except UnsupportedValue as error:
        raise not_plain(error, "invalid_state") from None
