"""What the command line prints: words for figures, JSON with stable keys, and text that cannot harm a terminal."""

import io
import json

import pytest

from procession.api.cli import output, tables
from procession.api.cli.tables import Column
from procession.ipc.core.records import Event, KillReceipt, OutputChunk, SessionStatus


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0 ms"), (0.0124, "12 ms"), (0.9994, "999 ms"), (0.9996, "1.0 s"), (3.44, "3.4 s"), (99.9, "99.9 s"),
        (300, "5 min"), (5400, "1.5 h"), (259_200, "3 d"),
    ],
)  # fmt: skip
def test_a_span_of_time_in_words(value: float, words: str) -> None:
    assert output.seconds(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (1 << 20, "1 MiB"), (5 << 40, "5120 GiB")],
)
def test_a_size_in_words(value: int, words: str) -> None:
    assert output.size(value) == words


def test_a_receipt_in_words() -> None:
    receipt = KillReceipt(found=1, left=0, method="scoped", elapsed_s=0.012)
    assert output.receipt_words(receipt) == "1 process found, 0 left (scoped)"
    assert output.receipt_words(KillReceipt()) == "0 processes found, 0 left"
    lost = KillReceipt(found=2, left=1, escalated=True, keeper_lost=True)
    assert output.receipt_words(lost) == "2 processes found, 1 left (escalated, keeper lost)"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain äöü 漢字", "plain äöü 漢字"), ("\x1b[2J", "\\x1b[2J"), ("a\rb", "a\\rb"), ("a\nb\tc", "a\\nb\\tc"),
        ("\u202ereversed", "\\u202ereversed"), ("\x00\x07", "\\x00\\x07"), ("\U000e0001", "\\U000e0001"),
    ],
)  # fmt: skip
def test_control_characters_are_shown_not_obeyed(text: str, shown: str) -> None:
    assert output.clean(text) == shown


def test_lines_may_be_kept() -> None:
    assert output.clean("a\n\tb\r\x1b", lines=True) == "a\n\tb\\r\\x1b"


def test_json_has_every_key_of_a_record_also_those_at_their_defaults() -> None:
    found = output.plain(SessionStatus(id="1", name="n", phase="ready"))
    assert set(found) == set(SessionStatus.__struct_fields__)
    assert json.loads(json.dumps(output.plain(Event(number=1, at=2.0, type="t", data={"a": None}))))["data"] == {
        "a": None
    }


def test_json_of_output_has_text_and_its_very_bytes() -> None:
    found = output.plain([OutputChunk(stream="stdout", data=b"\xffa", call=3)])
    assert found == [{"stream": "stdout", "call": 3, "dropped": 0, "text": "\ufffda", "data": "/2E="}]


def test_a_plain_table_is_aligned_and_nothing_of_it_is_cut() -> None:
    long = "x" * 300
    table = tables.plain_table(("A", "LONGER", "C"), [("1", ("2", "good"), long), ("11111", "\x1b", "")])
    assert table.splitlines() == ["A      LONGER  C", f"1      2       {long}", "11111  \\x1b"]


COLUMNS = (
    Column("ID"),
    Column("NAME", shrinks="end"),
    Column("PID", goes=1),
    Column("INC", goes=2),
    Column("FOLDER", shrinks="start", brief=lambda text: text.replace("/its-home", "~")),
)
ROW = ["0123abcd", "n" * 30, "1234567", "12", "/its-home/" + "d" * 39]


@pytest.mark.parametrize(
    ("width", "kept", "widths"),
    [
        (200, [0, 1, 2, 3, 4], [8, 30, 7, 3, 49]),
        (104, [0, 1, 2, 3, 4], [8, 30, 7, 3, 41]),  # the folder is said with ~, and that is enough
        (80, [0, 1, 2, 3, 4], [8, 27, 7, 3, 27]),
        (50, [0, 1, 2, 3, 4], [8, 12, 7, 3, 12]),
        (49, [0, 1, 2, 4], [8, 14, 7, 14]),
        (40, [0, 1, 4], [8, 14, 14]),
        (10, [0, 1, 4], [8, 12, 12]),  # nothing is left that could give way
    ],
)
def test_a_table_gives_way_to_its_terminal(width: int, kept: list[int], widths: list[int]) -> None:
    found = tables.fit(COLUMNS, [ROW], width)
    assert (found.kept, found.widths) == (kept, widths)
    assert sum(found.widths) + 2 * (len(kept) - 1) <= max(width, 36)


def test_a_table_that_fits_is_left_alone() -> None:
    assert tables.fit(COLUMNS, [ROW], 105).texts == [ROW]
    assert tables.fit(COLUMNS, [ROW], 104).texts[0][4] == "~/" + "d" * 39
    assert tables.fit(COLUMNS, [], 10).widths == [2, 4, 6]


@pytest.mark.parametrize(
    ("width", "shrinks", "short"),
    [(6, "end", "abcdef"), (5, "end", "abcd…"), (5, "start", "…cdef"), (1, "start", "…"), (1, "end", "…")],
)
def test_a_text_is_cut_where_it_says_so(width: int, shrinks: str, short: str) -> None:
    assert tables.shorten("abcdef", width, shrinks) == short


def test_the_home_folder_is_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/h/me/")
    assert [tables.under_home(path) for path in ("/h/me", "/h/me/x", "/h/mean/x")] == [
        "~",
        "~/x",
        "/h/mean/x",
    ]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_need_a_terminal_and_no_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert output.colours(_Terminal())
    assert not output.colours(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.colours(_Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not output.colours(_Terminal())


def test_a_complaint_is_one_line_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    output.complain("it went\nwrong \x1b[31m", "do this")
    assert capsys.readouterr().err == "procession: it went\n  wrong \\x1b[31m\n  hint: do this\n"
    output.complain("\n".join(map(str, range(1000))))
    assert len(capsys.readouterr().err.splitlines()) == output.LINES_MAX + 1


def test_a_long_line_is_broken_between_words_for_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    line = "a line of words that is rather-long for it " + "x" * 40
    assert output.wrapped(line, io.StringIO(), indent=2) == [line]
    broken = ["a line of words that is", "rather-long for it", "x" * 40]
    assert output.wrapped(line, _Terminal(), indent=2) == broken
    assert output.wrapped("", _Terminal()) == [""]
