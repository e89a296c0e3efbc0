"""Signals: what a valid one is, and that their JSON is CloudEvents 1.0 as another implementation reads and writes it."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.agent_proc.agent import cloudevents_json, signal_types
from procession.agent_proc.agent.change import Moment
from procession.agent_proc.agent.cloudevents_json import from_json, from_mapping, to_json
from procession.agent_proc.agent.signal_types import legacy_types, translated
from procession.agent_proc.agent.signals import EXTENSIONS_MAX, Signal, new_signal, trace_of, traced
from procession.ipc.core.errors import InvalidRequest

AT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
GOOD: dict[str, Any] = {"id": "1", "source": "/procession/session/x", "type": "order.paid"}

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=10)
json_data = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
extension_names: st.SearchStrategy[str] = st.text(
    "abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20
).filter(lambda name: bool(name not in Signal.__struct_fields__))
signals = st.builds(
    Signal,
    id=texts,
    source=st.sampled_from(["/procession/session/1", "https://example.org/a?b=c#d", "urn:uuid:1", "My.Agent"]),
    type=st.sampled_from(["a", "order.paid", "procession.tool.call"]),
    time=st.none() | st.datetimes(min_value=datetime(1900, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive
    data=json_data | st.binary(max_size=20),
    subject=st.none() | texts,
    datacontenttype=st.sampled_from([None, "application/json", "text/plain; charset=utf-8", "application/vnd.x+json"]),
    dataschema=st.sampled_from([None, "https://example.org/schema", "urn:x:y"]),
    extensions=st.dictionaries(extension_names, st.booleans() | st.integers(-(2**31), 2**31 - 1) | texts, max_size=3),
)


@pytest.mark.contract("2.3 CloudEvents")
@given(signals)
@settings(max_examples=examples(80), deadline=None)
def test_json_gives_back_the_same_signal(signal):
    before = copy.deepcopy(signal)
    assert from_json(to_json(signal)) == signal
    assert from_json(to_json(signal).encode()) == signal
    assert signal == before


@pytest.mark.contract("2.3 CloudEvents")
@given(signals.filter(lambda one: one.time is not None))
@settings(max_examples=examples(60), deadline=None)
def test_another_implementation_reads_what_we_write_and_we_read_what_it_writes(signal):
    theirs = JSONFormat().read(CloudEvent, to_json(signal))
    assert (theirs.get_id(), theirs.get_source(), theirs.get_type()) == (signal.id, signal.source, signal.type)
    assert (theirs.get_specversion(), theirs.get_subject(), theirs.get_time()) == ("1.0", signal.subject, signal.time)
    assert theirs.get_dataschema() == signal.dataschema
    assert theirs.get_datacontenttype() == signal.datacontenttype
    assert theirs.get_data() == signal.data
    assert {name: theirs.get_extension(name) for name in signal.extensions} == signal.extensions
    if signal.datacontenttype in (None, "application/json"):  # of other types theirs are texts, whatever they were
        assert from_json(JSONFormat().write(theirs)) == signal


@given(signals)
@settings(max_examples=examples(50), deadline=None)
def test_a_signal_crosses_a_process_as_it_is(signal):
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(signal), type=Signal) == signal


@pytest.mark.contract("2.3 attributes")
def test_a_new_signal_has_its_id_and_time_from_the_moment():
    signal = new_signal("a.b", {"x": 1}, source="/s", moment=Moment(AT, lambda: "id-1"), extensions={"traceid": "t"})
    assert signal == Signal(id="id-1", source="/s", type="a.b", time=AT, data={"x": 1}, extensions={"traceid": "t"})


@pytest.mark.contract("2.3 attributes")
@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("id", ""),
        ("id", None),
        ("id", "a\nb"),
        ("id", "x" * 1025),
        ("id", "\ud800"),
        ("source", ""),
        ("source", "two words"),
        ("source", "/ä"),
        ("source", "%zz"),
        ("type", ""),
        ("type", "a..b"),
        ("type", "a.*"),
        ("time", "2026-01-01T00:00:00Z"),
        ("time", AT.replace(tzinfo=None)),
        ("subject", ""),
        ("subject", 3),
        ("datacontenttype", "json"),
        ("datacontenttype", "a/b\n"),
        ("dataschema", "relative/path"),
        ("specversion", "0.3"),
        ("extensions", {"Upper": 1}),
        ("extensions", {"": 1}),
        ("extensions", {"data": 1}),
        ("extensions", {"subject": "x"}),
        ("extensions", {"a": 2**31}),
        ("extensions", {"a": 1.5}),
        ("extensions", {"a": None}),
        ("extensions", {"a": "\x00"}),
        ("extensions", {"a" * 65: 1}),
        ("extensions", {f"a{n}": n for n in range(EXTENSIONS_MAX + 1)}),
        ("extensions", [("a", 1)]),
    ],
)
def test_a_wrong_attribute_is_named_by_its_code(attribute, value):
    with pytest.raises(InvalidRequest) as caught:
        Signal(**{**GOOD, attribute: value})
    assert caught.value.code == f"invalid_signal_{attribute}"
    assert len(str(caught.value)) < 500


@pytest.mark.contract("2.3 attributes")
@pytest.mark.parametrize("attribute", ["id", "source", "type", "specversion"])
@pytest.mark.parametrize("gone", [True, False])
def test_a_required_attribute_that_is_missing_or_null_is_named(attribute, gone):
    event = {**GOOD, "specversion": "1.0"}
    if gone:
        del event[attribute]
    else:
        event[attribute] = None
    with pytest.raises(InvalidRequest, match=f"needs its {attribute}") as caught:
        from_mapping(event)
    assert caught.value.code == f"invalid_signal_{attribute}"


@pytest.mark.contract("2.3 CloudEvents")
@pytest.mark.parametrize("written", ["1.0", "1.0.1", "1.0.2"])
def test_a_patch_release_as_specversion_reads_as_one_point_nought(written):
    signal = from_mapping({**GOOD, "specversion": written})
    assert signal.specversion == "1.0"
    assert json.loads(to_json(signal))["specversion"] == "1.0"


@pytest.mark.contract("2.3 CloudEvents")
@pytest.mark.parametrize("version", ["0.3", "2.0", 1.0, "1"])
def test_another_version_is_refused(version):
    with pytest.raises(InvalidRequest) as caught:
        from_mapping({**GOOD, "specversion": version})
    assert caught.value.code == "invalid_signal_specversion"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-03-01T12:30:15.123456Z", AT),
        ("2026-03-01t12:30:15.123456z", AT),
        ("2026-03-01T12:30:15.123456789Z", AT),
        ("2026-03-01T14:30:15.123456+02:00", AT),
        ("2026-03-01T12:30:15Z", AT.replace(microsecond=0)),
    ],
)
def test_times_are_read_as_rfc_3339_has_them(written, read):
    assert from_mapping({**GOOD, "specversion": "1.0", "time": written}).time == read


@pytest.mark.parametrize(
    "written", ["", "2026-03-01", "2026-03-01T12:30:15", "2026-W09-7T12:30:15Z", "2026-13-01T00:00:00Z", 5]
)
def test_any_other_time_is_refused(written):
    with pytest.raises(InvalidRequest) as caught:
        from_mapping({**GOOD, "specversion": "1.0", "time": written})
    assert caught.value.code == "invalid_signal_time"


@pytest.mark.contract("2.3 attributes")
def test_a_time_of_another_zone_is_written_in_utc():
    there = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert json.loads(to_json(Signal(**GOOD, time=there)))["time"] == "2026-03-01T12:30:15.123456Z"


def test_a_datetime_in_the_data_is_written_as_text():
    assert json.loads(to_json(Signal(**GOOD, data={"at": [AT]})))["data"] == {"at": ["2026-03-01T12:30:15.123456Z"]}


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"a": [1, float("nan")]}, r"data\.a\[1\]"),
        ({"a": float("-inf")}, "data.a"),
        ({"a": (1, 2)}, "data.a: JSON has no tuple"),
        ({"a": {1: 2}}, "data.a: a key"),
        ({"a": b"x"}, "data.a: JSON has no bytes"),
        ([AT.replace(tzinfo=None)], r"data\[0\]"),
        (json.loads("[" * 40 + "]" * 40), "deeper than 32"),
    ],
)
def test_data_that_json_cannot_say_are_refused_with_the_place(data, where):
    with pytest.raises(InvalidRequest, match=where) as caught:
        to_json(Signal(**GOOD, data=data))
    assert caught.value.code == "invalid_signal_data"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "nonsense", b"\xff\xfe{}", "[" * 100_000, '{"a":NaN}', '{"a":' + "9" * 5_000 + "}", '"x"'],
)
def test_what_is_no_event_is_refused_whatever_it_is(text):
    with pytest.raises(InvalidRequest) as caught:
        from_json(text)
    assert caught.value.code == "invalid_signal"


def test_a_text_that_no_mailbox_takes_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(cloudevents_json, "SIGNAL_JSON_BYTES_MAX", 10)
    with pytest.raises(InvalidRequest, match="at most 10"):
        from_json('{"id":"12345"}')


@pytest.mark.parametrize("data", [{"data": 1, "data_base64": "YQ=="}, {"data_base64": "%%%"}, {"data_base64": 3}])
def test_wrong_data_members_are_refused(data):
    with pytest.raises(InvalidRequest) as caught:
        from_mapping({**GOOD, "specversion": "1.0", **data})
    assert caught.value.code == "invalid_signal_data"


OURS = {
    name: value
    for name, value in vars(signal_types).items()
    if isinstance(value, str) and name.isupper() and "." in value
}


@pytest.mark.contract("2.3 signal types")
def test_the_vocabulary_is_the_contracts():
    words = """
        session.message.appended session.state.changed session.config.updated tool.call tool.result tool.error
        file.read file.write file.list memory.stored memory.recalled memory.forgotten memory.promoted
        session.started session.stopped session.crashed session.restarted session.hibernated session.woken
        session.migrated session.failed
    """.split()
    assert {f"procession.{word}" for word in words} <= {*OURS.values(), *signal_types.LIFECYCLE}
    for type_ in (*OURS.values(), *signal_types.LIFECYCLE):
        assert type_.startswith("procession.")
        if type_ != signal_types.PREFIX:
            assert Signal(**{**GOOD, "type": type_}).type == type_


#: an older name, what it is taken for, and what it is offered for
LEGACY = [
    ("jido_code.session.message", "session.message", "session.message.appended"),
    ("jido_code.message.append", "session.message", "session.message.appended"),
    ("jido_code.session.state_changed", "session.state.update", "session.state.changed"),
    ("jido_code.state.change", "session.state.update", "session.state.changed"),
    ("jido_code.session.config", "session.config.update", "session.config.updated"),
    ("jido_code.tool.call", "tool.call", "tool.call"),
    ("jido_code.tool.result", "tool.result", "tool.result"),
    ("jido_code.tool.error", "tool.error", "tool.error"),
    ("jido_code.file.read", "file.read", "file.read"),
    ("jido_code.file.write", "file.write", "file.write"),
    ("jido_code.file.list", "file.list", "file.list"),
    ("jido_code.memory.stored", "memory.store", "memory.stored"),
    ("jido_code.memory.recalled", "memory.recalled", "memory.recalled"),
    ("jido_code.memory.forgotten", "memory.forget", "memory.forgotten"),
    ("jido_code.memory.promoted", "memory.promoted", "memory.promoted"),
    ("jido.agent.child.exit", "agent.child.exit", "agent.child.exit"),
    ("jido.cron_tick", "cron.tick", "cron.tick"),
]


@pytest.mark.contract("2.3 legacy names")
@pytest.mark.parametrize(("legacy", "taken_for", "offered_for"), LEGACY)
def test_a_name_of_either_plan_is_translated_on_the_way_in_and_offered_on_the_way_out(legacy, taken_for, offered_for):
    signal = Signal(**{**GOOD, "type": legacy, "data": {"a": 1}})
    assert translated(signal) == Signal(**{**GOOD, "type": f"procession.{taken_for}", "data": {"a": 1}})
    assert legacy in legacy_types(f"procession.{offered_for}")


@pytest.mark.contract("2.3 legacy names")
def test_any_other_type_stays_itself():
    signal = Signal(**{**GOOD, "type": "jido_code.something.else"})
    assert translated(signal) is signal
    assert legacy_types("order.paid") == ()


@pytest.mark.contract("3 telemetry")
def test_a_trace_is_carried_on_unless_there_is_one_or_no_room():
    plain, own = Signal(**GOOD), Signal(**{**GOOD, "extensions": {"traceparent": "mine", "lane": 1}})
    full = Signal(**{**GOOD, "extensions": {f"e{number}": number for number in range(EXTENSIONS_MAX)}})
    assert traced(plain, "") is plain
    assert traced(plain, "theirs").extensions == {"traceparent": "theirs"}
    assert traced(own, "theirs") is own
    assert traced(full, "theirs") is full
    assert [trace_of(one) for one in (plain, own, full)] == ["", "mine", ""]
    assert trace_of(Signal(**{**GOOD, "extensions": {"traceparent": 7}})) == ""
