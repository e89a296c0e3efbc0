"""Signals of the host's own: what a session said is spliced in undecoded, last of all, and spoils at most that signal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.agent_proc.agent.signals import Signal
from procession.host.families import _signal
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.values import decode_value, encode_value

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
@settings(max_examples=examples(100))
def test_what_a_session_said_comes_back_as_it_was(meta: object) -> None:
    told = decode_value(_signal("agent.child.exit", {"tag": "a", "reason": None}, ("meta", encode_value(meta))))
    assert isinstance(told, dict)
    assert told["data"] == {"tag": "a", "reason": None, "meta": meta}
    signal = Signal(**told)
    assert (signal.source, signal.type) == ("/procession/host", "procession.agent.child.exit")
    assert signal.time is not None
    assert abs(datetime.now(UTC) - signal.time) < timedelta(minutes=1)


def test_nothing_said_is_none() -> None:
    assert decode_value(_signal("agent.child.exit", {}, ("meta", b"")))["data"] == {"meta": None}  # type: ignore[index]
    assert decode_value(_signal("agent.orphaned", {"parent": "p"}))["data"] == {"parent": "p"}  # type: ignore[index]


def test_every_signal_has_an_id_of_its_own() -> None:
    ids = {decode_value(_signal("agent.orphaned", {}))["id"] for _ in range(100)}  # type: ignore[index]
    assert len(ids) == 100


@given(st.binary(min_size=1, max_size=40))
@settings(max_examples=examples(100))
def test_bytes_that_are_no_value_spoil_their_signal_and_change_nothing_else_of_it(said: bytes) -> None:
    data = _signal("agent.call.answered", {"call_id": "mine"}, ("result", said))
    try:
        told = decode_value(data)
    except ProtocolBreach:
        return
    assert isinstance(told, dict)
    assert told["type"] == "procession.agent.call.answered"
    assert told["data"]["call_id"] == "mine"
    assert set(told["data"]) == {"call_id", "result"}


def test_what_is_cut_short_swallows_nothing_that_follows() -> None:
    with pytest.raises(ProtocolBreach):
        decode_value(_signal("agent.call.answered", {"call_id": "mine"}, ("result", b"\x92\x01")))
