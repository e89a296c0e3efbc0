"""Types of signals and the patterns that match them: what is well formed, what matches, and which is more exact."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.agent_proc.agent.patterns import SEGMENTS_MAX, TYPE_CHARS_MAX, check_type, parse_pattern
from procession.ipc.core.errors import InvalidRequest

segments = st.sampled_from(["a", "b", "c", "order"])
types = st.lists(segments, min_size=1, max_size=5).map(".".join)
patterns = (
    st.lists(st.one_of(segments, st.sampled_from(["*", "**"])), min_size=1, max_size=5)
    .filter(lambda parts: all(pair != ("**", "**") for pair in itertools.pairwise(parts)))
    .map(".".join)
)


def matches_by_definition(pattern: list[str], parts: list[str]) -> bool:
    """The contract's sentence, word by word; slow, and with no cleverness to be wrong about."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(matches_by_definition(pattern[1:], parts[taken:]) for taken in range(len(parts) + 1))
    return bool(parts) and pattern[0] in ("*", parts[0]) and matches_by_definition(pattern[1:], parts[1:])


@pytest.mark.contract("2.3 patterns")
@given(patterns, types)
@settings(max_examples=examples(150), deadline=None)
def test_a_pattern_matches_what_its_definition_says(pattern, type_):
    assert parse_pattern(pattern).matches(type_) == matches_by_definition(pattern.split("."), type_.split("."))


@pytest.mark.contract("2.3 patterns")
@pytest.mark.parametrize(
    ("pattern", "type_", "expected"),
    [
        ("order.paid", "order.paid", True),
        ("order.paid", "order.paid.twice", False),
        ("order.*", "order.paid", True),
        ("order.*", "order", False),
        ("order.*", "order.paid.twice", False),
        ("order.**", "order", True),
        ("order.**", "order.paid.twice", True),
        ("**", "anything.at.all", True),
        ("**.paid", "paid", True),
        ("order.**.paid", "order.paid", True),
        ("order.**.paid", "order.a.b.paid", True),
        ("order.**.paid", "order.a.b", False),
        ("*.*", "order.paid", True),
    ],
)
def test_one_segment_or_any_number(pattern, type_, expected):
    assert parse_pattern(pattern).matches(type_) is expected


def test_the_worst_pattern_costs_no_more_than_its_segments_squared():
    pattern = parse_pattern(".".join(["**", "a"] * (SEGMENTS_MAX // 2)))
    assert not pattern.matches(".".join(["a"] * (SEGMENTS_MAX - 1) + ["b"]))


@pytest.mark.parametrize(
    "type_",
    [
        "a",
        "order.paid",
        "com.github.pull_request.opened",
        "A-b_c.9",
        "x" * TYPE_CHARS_MAX,
        ".".join("a" * SEGMENTS_MAX),
    ],
)
def test_a_type_is_segments_joined_by_dots(type_):
    check_type(type_)


@pytest.mark.contract("2.3 patterns")
@pytest.mark.parametrize(
    "type_",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "a b",
        "a.*",
        "ä",
        "a/b",
        "a\n",
        "x" * (TYPE_CHARS_MAX + 1),
        None,
        3,
        b"a",
        ".".join("a" * (SEGMENTS_MAX + 1)),
    ],
)
def test_anything_else_is_no_type(type_):
    with pytest.raises(InvalidRequest) as caught:
        check_type(type_)
    assert caught.value.code == "invalid_signal_type"
    assert len(str(caught.value)) < 500


@pytest.mark.contract("2.3 patterns")
@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "1 to 255"),
        ("a..b", "empty"),
        ("a.", "empty"),
        ("a.b*", "'b\\*'"),
        ("a.***", "stands alone"),
        ("a.**.**", "side by side"),
        ("a b", "letters"),
        (".".join("a" * (SEGMENTS_MAX + 1)), "33 segments"),
        (None, "1 to 255"),
    ],
)
def test_a_wrong_pattern_is_told_why(pattern, why):
    with pytest.raises(InvalidRequest, match=why) as caught:
        parse_pattern(pattern)
    assert caught.value.code == "invalid_pattern"


@pytest.mark.parametrize(
    ("more", "less"),
    [
        ("order.paid", "order.*"),
        ("order.paid", "order.**"),
        ("order.paid", "order.*.**"),
        ("order.paid", "order.paid.**"),
        ("order.*", "order.**"),
        ("order.**", "*.paid"),
        ("*.paid", "**.paid"),
        ("order.*.paid", "order.**.paid"),
        ("*", "**"),
    ],
)
def test_the_more_exact_pattern_is_the_one_with_the_longer_exact_beginning(more, less):
    assert parse_pattern(more).specificity > parse_pattern(less).specificity


@given(patterns, types)
@settings(max_examples=examples(100), deadline=None)
def test_no_wildcard_is_above_the_type_itself(pattern, type_):
    parsed = parse_pattern(pattern)
    if parsed.matches(type_) and not parsed.is_exact:
        assert parsed.specificity < parse_pattern(type_).specificity
