"""read_file, write_file, edit_file, multi_edit_file: what is shown, what must have been read, all or nothing."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.builtin_tools import SECRET, Tool
from helpers.counts import examples
from procession.agent_proc.tools.confined import FILE_BYTES_MAX
from procession.agent_proc.tools.reading import BINARY_PROBE_BYTES, LINE_BYTES_MAX, TEXT_BYTES_MAX, line_text

pytestmark = pytest.mark.usefixtures("opening")


def edit(old: str, new: str, **more: bool) -> dict[str, Any]:
    return {"old_string": old, "new_string": new, **more}


# -- read_file -------------------------------------------------------------------------------------------------------


@pytest.mark.contract("1.10 read_file")
@pytest.mark.parametrize(
    ("content", "arguments", "shown"),
    [
        (b"one\ntwo\n", {}, "     1→one\n     2→two"),
        (b"one\ntwo", {}, "     1→one\n     2→two"),
        (b"one\r\ntwo\r\n", {}, "     1→one\n     2→two"),
        (b"\n\n", {}, "     1→\n     2→"),
        (b"", {}, "[the file is empty]"),
        (b"a\nb\nc\nd\n", {"offset": 2, "limit": 2}, "     2→b\n     3→c\n[lines 2 to 3 of 4; go on with offset=4]"),
        (b"a\nb\nc\nd\n", {"offset": 3, "limit": 2}, "     3→c\n     4→d"),
        (b"a\nb\n", {"offset": 3}, "[the file has 2 lines: there is none from 3 on]"),
        ("grün\n".encode("latin-1"), {}, "     1→gr�n"),
        (b"\xef\xbb\xbfx\x0cy\x1cz", {}, "     1→\ufeffx\x0cy\x1cz"),
        (b"x\n" * 3, {"offset": None, "limit": None}, "     1→x\n     2→x\n     3→x"),
    ],
)
def test_lines_are_shown_with_their_numbers(
    tool: Tool, project: Path, content: bytes, arguments: dict[str, Any], shown: str
) -> None:
    (project / "file").write_bytes(content)
    assert tool("read_file", path="./file", **arguments) == {
        "ok": True,
        "value": shown,
        "reads": ["file"],
        "writes": [],
        "lists": [],
    }


def test_a_number_of_more_than_six_digits_has_the_room_it_needs(tool: Tool, project: Path) -> None:
    (project / "file").write_bytes(b"\n" * 1_000_000 + b"end")
    assert tool("read_file", path="file", offset=1_000_000)["value"] == "1000000→\n1000001→end"


@pytest.mark.contract("1.10 read_file")
def test_the_first_two_thousand_lines_are_shown_without_a_limit(tool: Tool, project: Path) -> None:
    (project / "file").write_bytes(b"x\n" * 2_001)
    lines = tool("read_file", path="file")["value"].split("\n")
    assert lines[1_999:] == ["  2000→x", "[lines 1 to 2000 of 2001; go on with offset=2001]"]


def test_an_answer_is_bounded_and_tells_where_to_go_on(tool: Tool, project: Path) -> None:
    (project / "file").write_bytes(b"y" * 1_990 + b"\n" + b"x" * 1_989 + b"\n" * 2_000)
    (project / "long").write_bytes((b"x" * 1_999 + b"\n") * 2_000)
    shown = tool("read_file", path="long")["value"]
    assert TEXT_BYTES_MAX - 2_100 < len(shown.encode()) < TEXT_BYTES_MAX + 100
    following = int(shown.rpartition("offset=")[2].rstrip("]"))
    assert tool("read_file", path="long", offset=following, limit=1)["value"].startswith(f"{following:>6}→xxx")


@pytest.mark.slow
@pytest.mark.contract("1.10 read_file")
@given(st.text(max_size=700), st.text(alphabet="aé漢😀", min_size=LINE_BYTES_MAX, max_size=LINE_BYTES_MAX + 50))
@settings(max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cut_line_is_a_beginning_of_it_without_half_characters(head: str, tail: str) -> None:
    line = (head + tail).replace("\n", "").replace("\r", "")
    shown, _, note = line_text(line.encode() + b"\r\n").rpartition("... ")
    if len(line.encode()) <= LINE_BYTES_MAX:
        assert line_text(line.encode() + b"\r\n") == line
    else:
        assert line.startswith(shown)
        assert LINE_BYTES_MAX - 3 <= len(shown.encode()) <= LINE_BYTES_MAX
        assert note == f"[cut: the line has {len(line.encode())} bytes]"


@pytest.mark.contract("1.10 read_file")
@pytest.mark.parametrize(("at", "code"), [(0, "binary_file"), (BINARY_PROBE_BYTES - 1, "binary_file"), (8_192, None)])
def test_a_nul_in_the_first_bytes_makes_a_file_binary(tool: Tool, project: Path, at: int, code: str | None) -> None:
    (project / "file").write_bytes(b"x" * at + b"\0")
    assert tool("read_file", path="file").get("code") == code
    assert tool("edit_file", path="file", reads=["file"], **edit("xx", "y", replace_all=True)).get("code") == code


@pytest.mark.parametrize("name", ["read_file", "edit_file", "multi_edit_file"])
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../outside/secret.txt", "path_escapes_boundary"),
        ("a/../../outside/secret.txt", "path_escapes_boundary"),
        ("%2e%2e/outside/secret.txt", "path_escapes_boundary"),
        ("/etc/hostname", "path_outside_boundary"),
        (".jido_code/settings.json", "protected_settings_file"),
        ("link", "symlink_escapes_boundary"),
        ("linkdir/secret.txt", "symlink_escapes_boundary"),
        ("nothing", "file_not_found"),
        ("big", "file_too_large"),
        ("", "is_a_directory"),
        ("nul\0", "invalid_path"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_code(
    tool: Tool, project: Path, outside: Path, name: str, path: str, code: str
) -> None:
    (project / "link").symlink_to(outside / "secret.txt")
    (project / "linkdir").symlink_to(outside)
    with open(project / "big", "wb") as big:
        big.truncate(3 << 30)
    of_each: dict[str, dict[str, Any]] = {
        "read_file": {},
        "edit_file": edit(SECRET, "x"),
        "multi_edit_file": {"edits": [edit(SECRET, "x")]},
    }
    found = tool(name, path=path, reads=[path], **of_each[name])
    assert (found["ok"], found["code"]) == (False, code)
    assert found["message"]
    assert (outside / "secret.txt").read_text() == SECRET


# -- write_file ------------------------------------------------------------------------------------------------------


@pytest.mark.contract("1.10 write_file")
def test_a_new_file_is_written_with_its_folders_and_counts_as_read(tool: Tool, project: Path) -> None:
    found = tool("write_file", path="a/b/../new.txt", content="grün\n")
    assert found == {
        "ok": True,
        "value": {"path": "a/new.txt", "bytes": 6, "created": True},
        "reads": ["a/new.txt"],
        "writes": ["a/new.txt"],
        "lists": [],
    }
    assert (project / "a/new.txt").read_bytes() == "grün\n".encode()
    again = tool("write_file", path="a/new.txt", content="", reads=found["reads"])
    assert again["value"] == {"path": "a/new.txt", "bytes": 0, "created": False}


@pytest.mark.contract("1.10 write_file")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("write_file", {"content": "new"}),
        ("edit_file", edit("old", "new")),
        ("multi_edit_file", {"edits": [edit("old", "new")]}),
    ],
)
def test_a_file_that_exists_is_changed_only_when_it_was_read(
    tool: Tool, project: Path, name: str, arguments: dict[str, Any]
) -> None:
    (project / "file").write_text("old")
    for reads in ((), ("other",), ("file/",), ("./file",)):
        assert tool(name, path="file", reads=reads, **arguments)["code"] == "read_before_write_required"
        assert (project / "file").read_text() == "old"
    assert tool(name, path="./x/../file", reads=["file"], **arguments)["ok"]
    assert (project / "file").read_text() == "new"


def test_what_is_behind_a_link_must_have_been_read_under_the_name_it_is_written_by(tool: Tool, project: Path) -> None:
    (project / "file").write_text("old")
    (project / "link").symlink_to("file")
    assert tool("write_file", path="link", content="new", reads=["file"])["code"] == "read_before_write_required"
    assert tool("write_file", path="link", content="new", reads=["link"])["ok"]
    assert (project / "file").read_text() == "new"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("linkdir/new", "symlink_escapes_boundary"),
        ("linkdir/x/y/new", "symlink_escapes_boundary"),
        ("../new", "path_escapes_boundary"),
        ("file/new", "not_a_directory"),
        ("folder", "is_a_directory"),
        (".", "is_a_directory"),
        ("pipe", "not_a_file"),
        ("deep/.jido_code/settings.json", "protected_settings_file"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_made(
    tool: Tool, project: Path, outside: Path, path: str, code: str
) -> None:
    (project / "linkdir").symlink_to(outside)
    (project / "file").touch()
    (project / "folder").mkdir()
    os.mkfifo(project / "pipe")
    before = sorted(project.parent.glob("**/*"))
    assert tool("write_file", path=path, content="x", reads=[path])["code"] == code
    assert sorted(project.parent.glob("**/*")) == before


def test_a_content_that_no_file_holds_or_that_is_too_large_is_refused(tool: Tool, project: Path) -> None:
    assert tool("write_file", path="new", content="\ud800")["code"] == "invalid_text"
    assert tool("write_file", path="new", content="é" * (FILE_BYTES_MAX // 2 + 1))["code"] == "file_too_large"
    assert tool("write_file", path="bytes", content="caf\udce9")["ok"]
    assert (project / "bytes").read_bytes() == b"caf\xe9"
    assert os.listdir(project) == ["bytes"]


# -- edits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "given_edit", "result", "replaced"),
    [
        (b"a b c", edit("b", "x"), b"a x c", 1),
        (b"a b a", edit("a", "x", replace_all=True), b"x b x", 2),
        (b"a b", edit("a b", ""), b"", 1),
        (b"aaa", edit("aa", "b"), b"ba", 1),
        (b"one\r\ntwo\r\n", edit("one\ntwo", "1\n2"), b"1\r\n2\r\n", 1),
        (b"one\r\ntwo\r\n", edit("one\r\ntwo", "1\r\n2"), b"1\r\n2\r\n", 1),
        (b"one\r\ntwo\r\n", edit("one", "1\r\n2\n3"), b"1\r\n2\r\n3\r\ntwo\r\n", 1),
        (b"one\r\ntwo\n", edit("two\n", "2\n"), b"one\r\n2\n", 1),
        (b"caf\xe9 \xff\n", edit("caf", "th"), b"th\xe9 \xff\n", 1),
        (b"caf\xe9", edit("f\udce9", "b\udce9"), b"cab\xe9", 1),
    ],
)
def test_an_edit_changes_what_it_names_and_no_other_byte(
    tool: Tool, project: Path, content: bytes, given_edit: dict[str, Any], result: bytes, replaced: int
) -> None:
    (project / "file").write_bytes(content)
    found = tool("edit_file", path="file", reads=["file"], **given_edit)
    assert found["value"] == {"path": "file", "bytes": len(result), "replaced": replaced}
    assert found["writes"] == found["reads"] == ["file"]
    assert (project / "file").read_bytes() == result


@pytest.mark.parametrize(
    ("given_edit", "code", "told"),
    [
        (edit("x", "y"), "old_string_not_found", "not in 'file'"),
        (edit("a", "y"), "old_string_not_unique", "3 times"),
        (edit("b", "b"), "identical_strings", "the same"),
        (edit("", "b"), "invalid_value", "at least 1"),
        (edit("\ud800", "b"), "invalid_text", "lone surrogate"),
    ],
)
def test_an_edit_that_cannot_be_made_is_refused_and_all_others_with_it(
    tool: Tool, project: Path, given_edit: dict[str, Any], code: str, told: str
) -> None:
    (project / "file").write_text("a b a c a")
    found = tool("edit_file", path="file", reads=["file"], **given_edit)
    assert (found["code"], told in found["message"]) == (code, True)
    found = tool("multi_edit_file", path="file", reads=["file"], edits=[edit("b", "B"), edit("c", "C"), given_edit])
    if code == "identical_strings":
        assert found["code"] == code
    else:
        assert (found["code"], "edits[2]" in found["message"]) == (code, True)
    assert (project / "file").read_text() == "a b a c a"


def test_each_edit_is_made_in_what_the_one_before_left(tool: Tool, project: Path) -> None:
    (project / "file").write_text("one")
    found = tool(
        "multi_edit_file",
        path="file",
        reads=["file"],
        edits=[edit("one", "two two"), edit("two", "x", replace_all=True)],
    )
    assert found["value"]["replaced"] == 3
    assert (project / "file").read_text() == "x x"


def test_an_edit_that_would_grow_a_file_too_large_is_refused_before_it_is_made(tool: Tool, project: Path) -> None:
    (project / "file").write_bytes(b"a" * 1_000_000)
    found = tool("edit_file", path="file", reads=["file"], **edit("a", "b" * 1_000_000, replace_all=True))
    assert found["code"] == "file_too_large"
    assert str(10**12) in found["message"]
