"""The index of recall: what a query finds, in which order, with SQLite's full-text search and without; and that it keeps step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.agent_proc import recall_index
from procession.agent_proc.recall_index import RecallIndex

Texts = Mapping[str, str]


def memories(texts: Texts, forgotten: frozenset[str] = frozenset()) -> dict[str, dict[str, Any]]:
    return {
        name: {"content": content, "forgotten_at": "then" if name in forgotten else None}
        for name, content in texts.items()
    }


_made: list[RecallIndex] = []


def made() -> RecallIndex:
    """Return an empty index, which is closed at the end of the test."""
    _made.append(RecallIndex())
    return _made[-1]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _made:
        _made.pop().close()


def index_of(texts: Texts) -> RecallIndex:
    index = made()
    index.keep_in_step(memories(texts))
    return index


def names(index: RecallIndex, query: str) -> list[str]:
    return [match.id for match in index.find(query)]


@pytest.fixture
def without_fts5(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall_index, "_TABLE", "CREATE VIRTUAL TABLE memory USING no_such_module(content)")
    assert not made().has_full_text


def test_sqlite_has_full_text_search_here() -> None:
    assert made().has_full_text


def test_what_has_more_of_the_words_comes_first_of_equals_the_newest() -> None:
    others = {f"other {number}": "blue sky" for number in range(10)}
    index = index_of({"one": "red", "both": "red green", "rare": "green", "last": "red", **others})
    assert names(index, "green red") == ["both", "rare", "last", "one"]  # and the rarer word counts for more
    assert [match.score for match in index.find("blue")] == [1.0] * 10
    scores = [match.score for match in index.find("green red")]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 1.0
    assert scores[-1] > 0.0


def test_a_long_text_with_a_word_in_it_is_behind_a_short_one() -> None:
    assert names(index_of({"long": "tabs " + "and so on " * 50, "short": "tabs"}), "tabs") == ["short", "long"]


def test_forms_of_a_word_and_letters_with_accents_are_found() -> None:
    index = index_of({"a": "Indenting files", "b": "the Café's menu"})
    assert names(index, "INDENT") == names(index, "file") == ["a"]
    assert names(index, "cafe") == ["b"]


def test_without_fts5_words_are_looked_for_as_they_are(without_fts5: None) -> None:
    index = index_of({"one": "red", "both": "Red green", "none": "blue", "last": "redder"})
    assert [tuple(match) for match in index.find("green RED")] == [("both", 1.0), ("last", 0.5), ("one", 0.5)]
    assert index.find("zebra") == []
    index.keep_in_step(memories({"one": "green"}))
    assert names(index, "green red") == ["one"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("dent", ["tabs"]),
        ("=>", ["sign"]),
        ("語の", ["japanese"]),
        ("_", ["sign"]),
        ("\ud800", ["half"]),
        ("\0", ["half"]),
        ("zebra", []),
        ('"', []),
        ("*", []),
    ],
)
def test_what_is_no_whole_word_is_looked_for_as_it_is(query: str, found: list[str]) -> None:
    index = index_of(
        {"tabs": "indenting", "sign": "a => b_c", "japanese": "日本語のテスト", "half": "half\0 \ud800 pair"}
    )
    assert names(index, query) == found


@given(st.text(max_size=40))
@settings(max_examples=examples(200), deadline=None)
def test_no_query_is_syntax(query: str) -> None:
    assert "all" in names(index_of({"all": f"{query} tabs"}), f"{query} tabs")


contents = st.sampled_from(["red", "green", "red green", "blue sky", "x\0y", "ä\ud800"])
maps = st.dictionaries(st.sampled_from("abcd"), contents)


@pytest.mark.slow
@given(st.lists(st.tuples(maps, st.frozensets(st.sampled_from("abcd"))), max_size=8))
@settings(max_examples=examples(100), deadline=None)
def test_an_index_that_kept_step_finds_what_a_new_one_does(steps: list[tuple[Texts, frozenset[str]]]) -> None:
    index = made()
    for texts, forgotten in steps:
        index.keep_in_step(memories(texts, forgotten))
        for query in ("red", "green sky", "x", "ä"):
            fresh = made()
            fresh.keep_in_step(memories(texts, forgotten))
            scores = dict(fresh.find(query))
            assert dict(index.find(query)) == {name: pytest.approx(score) for name, score in scores.items()}
            assert {match.id for match in index.find(query)}.isdisjoint(forgotten)
