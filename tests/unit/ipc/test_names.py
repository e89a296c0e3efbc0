"""How long a name is, what is none, and what a session is called that was given none."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.names import (
    NAME_BYTES_MAX,
    NAME_CHARS_MAX,
    characters,
    check_name,
    default_name,
    name_problem,
)

IDENT = "12345678-0000-4000-8000-000000000000"
OF_ID = "session-12345678"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
FLAG = "\U0001f1e9\U0001f1ea"
WALES = "\U0001f3f4\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f"


def code(name: object) -> str | None:
    problem = name_problem(name)
    if problem is None:
        assert check_name(name) == name
        return None
    with pytest.raises(InvalidRequest) as refused:
        check_name(name)
    assert refused.value.code == problem.code
    return problem.code


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("abc", 3),
        ("e\u0301", 1),
        ("ne\u0301e", 3),
        (FAMILY, 1),
        (FAMILY + FAMILY, 2),
        ("\U0001f44d\U0001f3fd", 1),
        ("\u2764\ufe0f", 1),
        (FLAG, 1),
        (FLAG + FLAG, 2),
        (FLAG + FLAG[0], 2),
        (WALES, 1),
        ("\u1112\u1161\u11ab", 1),
        ("\ud55c\uad6d", 2),
        ("\u0915\u093f", 1),
        ("\u0301", 1),
    ],
)
def test_a_character_is_what_a_reader_sees_as_one(text: str, count: int) -> None:
    assert len(characters(text)) == count


#: What joins, what is joined, what breaks a line, what cannot be seen, and letters.
TRICKY = (
    "ab \u3000\t\n\0\u2028\u0301\u200b\u200c\u200d\ufe0f\ud800\udce9\u1112\u1161\u11ab\ud55c" + FAMILY + FLAG + WALES
)


@given(st.text(TRICKY))
def test_characters_are_the_text_and_never_more_than_its_code_points(text: str) -> None:
    assert "".join(characters(text)) == text
    assert all(characters(text))


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "my project",
        " padded ",
        "a" * NAME_CHARS_MAX,
        FAMILY * 50,
        WALES * 50,
        FLAG * 50,
        "日本語",
        "\u0646\u0627\u0645\u200c\u0647\u0627",
        "a..b",
    ],
)
def test_a_name_of_one_to_fifty_characters_is_taken(name: str) -> None:
    assert code(name) is None


@pytest.mark.parametrize(
    "name",
    [None, 3, b"name", ["a"], "", " ", "\t\n", "\u3000", "\u200b", "a\nb", "a\0", "\x1b[2J", "a\ud800", "a\u2028b"],
)
def test_what_is_blank_no_text_or_cannot_be_shown_is_no_name(name: object) -> None:
    assert code(name) == "invalid_name"


@pytest.mark.parametrize(
    "name", ["a" * 51, (FAMILY * 51), "e\u0301" * 51, "a" + "\u0301" * 1_024, "a" * 1_000_000, " a" * 26]
)
def test_more_than_fifty_characters_or_their_bytes_are_too_long(name: str) -> None:
    assert code(name) == "name_too_long"


def test_the_reason_names_the_bound_that_was_passed() -> None:
    long, heavy = name_problem("a" * 51), name_problem("a" + "\u0301" * 1_024)
    assert long is not None
    assert "at most 50 characters, not 51" in long.text
    assert heavy is not None
    assert f"at most {NAME_BYTES_MAX} bytes, not 2049" in heavy.text


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/srv/me/app", "app"),
        ("/a..b", "a..b"),
        ("/app/", "app"),
        ("/", OF_ID),
        ("", OF_ID),
        (None, OF_ID),
        ("/ ", OF_ID),
        ("/two\nlines", "two?lines"),
        ("/caf\udce9", "caf?"),
        ("/" + "x" * 60, "x" * 50),
        ("/" + FAMILY * 51, FAMILY * 50),
    ],
)
def test_a_session_is_called_as_its_folder(path: str | None, name: str) -> None:
    assert default_name(path, IDENT) == name


@given(st.text(TRICKY))
@settings(max_examples=examples(200))
def test_a_default_name_is_always_a_name(folder: str) -> None:
    assert code(default_name("/" + folder, IDENT)) is None


@given(st.text(TRICKY, max_size=60) | st.text("ab", min_size=45, max_size=55))
def test_a_name_is_refused_for_what_can_be_seen_in_it(name: str) -> None:
    blank = all(char.isspace() or unicodedata.category(char) == "Cf" for char in name)
    broken = any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in name)
    long = len(characters(name)) > NAME_CHARS_MAX
    expected = "invalid_name" if blank or broken else "name_too_long" if long else None
    assert code(name) == expected
