"""The host's copy of a session's state: the same fold, whoever reads and whenever; bytes of another process within bounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.host.core.state_fold import WAITING_BYTES_MAX, WAITING_MAX, StateFold, named_in
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.state_ops import AppendItems, DeleteKeys, ReplaceState, SetPath, apply, encode_ops
from procession.ipc.core.values import decode_value, encode_value

words = st.sampled_from(["a", "b", "c"])
values = st.none() | st.integers(-5, 5) | st.text(max_size=3) | st.lists(st.integers(0, 3), max_size=3)
ops = st.one_of(
    st.builds(SetPath, st.tuples(words), values),
    st.builds(DeleteKeys, st.tuples(words)),
    st.builds(ReplaceState, st.dictionaries(words, values, max_size=2)),
    st.builds(AppendItems, st.just(("list",)), st.tuples(values), st.just(3)),
)


@given(st.lists(st.tuples(st.lists(ops, max_size=3), st.booleans()), max_size=90))
@settings(max_examples=examples(60), deadline=None)
def test_any_commits_fold_to_what_the_session_has_wherever_somebody_reads(commits) -> None:
    fold, state = StateFold(encode_value({"list": []})), dict[str, object](list=[])
    for number, (batch, reads) in enumerate(commits, 1):
        try:
            after = apply(state, batch)
        except ValueError:  # a list where none is: an honest session refuses that
            continue
        fold.commit(encode_ops(batch))
        state = after
        if reads:
            assert fold.state == state
        assert fold.number <= number
    assert decode_value(fold.encoded) == fold.state == state


def test_what_waits_is_bounded_in_number_and_in_bytes() -> None:
    fold = StateFold(encode_value({}))
    for _ in range(WAITING_MAX - 1):
        fold.commit(encode_ops([SetPath(("n",), 1)]))
    assert len(fold._waiting) == WAITING_MAX - 1
    fold.commit(encode_ops([SetPath(("n",), 2)]))
    assert (fold._waiting, fold.state) == ([], {"n": 2})
    fold.commit(encode_ops([SetPath(("text",), "x" * WAITING_BYTES_MAX)]))
    assert fold._waiting == []


def test_only_the_first_that_waits_asks_to_be_settled() -> None:
    fold = StateFold()
    assert [fold.commit(encode_ops([SetPath(("n",), n)])) for n in range(3)] == [True, False, False]
    fold.settle()
    assert fold.commit(encode_ops([SetPath(("n",), 3)])) is True


def test_nothing_is_known_before_something_was_told() -> None:
    fold = StateFold()
    assert (fold.is_known, fold.state) == (False, {})
    fold.commit(encode_ops([ReplaceState({"a": 1})]))
    assert fold.is_known
    assert decode_value(fold.encoded) == {"a": 1}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0",
        b"\x93\x01\x02\x03",
        b"\x91\x93\xa3set\x90\x01",  # a path without a part
        b"\x91\x93\xa3set\x91\x01\x01",  # a path of a number
        b"\x91\x92\xa5merge\xc0",
        b"\x91\x92\xa7nothing\x80",
        encode_value([["append", ["n"], [1], None]]),  # to what is no list
        b"\xdd\xff\xff\xff\xff",
        encode_value([["set", ["a"], 1]]) + b"\x00",
        b"\x91\x93\xa3set\x91\xa1a" + b"\x91" * 900 + b"\xc0",
    ],
)
def test_ops_that_are_none_are_a_breach_and_what_was_before_stays(data: bytes) -> None:
    fold = StateFold(encode_value({"n": 1}))
    fold.commit(encode_ops([SetPath(("n",), 2)]))
    fold.commit(data)
    fold.commit(encode_ops([SetPath(("n",), 3)]))
    with pytest.raises(ProtocolBreach):
        fold.settle()
    assert fold.state == {"n": 2}


def test_a_state_beyond_its_limit_is_a_breach_and_one_that_only_changes_much_is_not() -> None:
    fold = StateFold(encode_value({}), bytes_max=1_000)
    for number in range(200):
        fold.commit(encode_ops([SetPath(("text",), f"{number:0300}")]))
    assert fold.state == {"text": f"{199:0300}"}
    fold.commit(encode_ops([SetPath(("more",), "x" * 900)]))
    with pytest.raises(ProtocolBreach, match="over the limit of 1000"):
        fold.settle()
    assert set(fold.state) == {"text"}


def test_one_key_can_be_left_out() -> None:
    fold = StateFold(encode_value({"a": 1, "b": 2}))
    assert decode_value(fold.without({"a"})) == {"b": 2}
    assert decode_value(fold.without({"c"})) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("state", "name"),
    [
        ({"session": {"name": "new"}}, "new"),
        ({"session": {"name": ""}}, "old"),
        ({"session": {"name": "  "}}, "old"),
        ({"session": {"name": 3}}, "old"),
        ({"session": {"name": "x" * 3_000}}, "old"),
        ({"session": "new"}, "old"),
        ({}, "old"),
    ],
)
def test_the_name_of_a_session_is_its_records_if_that_can_be_one(state: dict[str, object], name: str) -> None:
    assert named_in(state, "old") == name
