"""list_directory, glob, grep and the walk below them: sorted, bounded, hidden names, links, races, hostile trees."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.builtin_tools import Tool
from helpers.counts import examples
from procession.agent_proc.agent.record.tool_path import tool_path
from procession.agent_proc.tools import searching, walking
from procession.agent_proc.tools.confined import Root
from procession.agent_proc.tools.patterns import Pattern
from procession.agent_proc.tools.walking import DEPTH_MAX, Walk

pytestmark = pytest.mark.usefixtures("opening")


@pytest.fixture
def tree(project: Path, outside: Path) -> Path:
    """Return the project with some files, hidden ones, and links in and out of it."""
    for path in (
        "a.py", "b.txt", "src/c.py", "src/deep/d.py", "src/deep/e.md", ".hidden.py", ".git/config", ".git/x.py",
        "src/.cache/f.py", "src/[x].py",
    ):  # fmt: skip
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(f"line one\nneedle in {path}\nline three\n")
    (project / "inner").symlink_to("src/deep")
    (project / "link.py").symlink_to("a.py")
    (project / "out").symlink_to(outside)
    os.mkfifo(project / "src/pipe")
    return project


# -- list_directory --------------------------------------------------------------------------------------------------


@pytest.mark.contract("1.10 list_dir")
def test_a_folder_is_listed_sorted_with_folders_and_links_marked(tool: Tool, tree: Path) -> None:
    found = tool("list_directory")
    assert found["value"] == {
        "entries": [".git/", ".hidden.py", "a.py", "b.txt", "inner@", "link.py@", "out@", "src/"],
        "truncated": False,
    }
    assert (found["reads"], found["writes"], found["lists"]) == ([], [], ["."])
    assert tool("list_directory", path="./src//deep")["lists"] == ["src/deep"]


def test_a_link_to_a_folder_inside_is_listed_by_its_name_and_one_that_leads_out_is_not(tool: Tool, tree: Path) -> None:
    assert tool("list_directory", path="inner")["value"]["entries"] == ["d.py", "e.md"]
    assert tool("list_directory", path="out")["code"] == "symlink_escapes_boundary"
    assert tool("list_directory", path="a.py")["code"] == "not_a_directory"
    assert tool("list_directory", path="nothing")["code"] == "file_not_found"


def test_a_recursive_list_enters_neither_links_nor_the_data_of_git(tool: Tool, tree: Path) -> None:
    assert tool("list_directory", recursive=True)["value"]["entries"] == [
        ".git/", ".hidden.py", "a.py", "b.txt", "inner@", "link.py@", "out@", "src/", "src/.cache/", "src/.cache/f.py",
        "src/[x].py", "src/c.py", "src/deep/", "src/deep/d.py", "src/deep/e.md", "src/pipe",
    ]  # fmt: skip
    assert tool("list_directory", path="src/deep", recursive=True)["value"]["entries"] == ["d.py", "e.md"]


def test_names_of_any_bytes_are_listed_as_they_are(tool: Tool, project: Path) -> None:
    names = ["two\nlines", "caf\udce9", "\x1b[31m", " "]
    for name in names:
        (project / name).touch()
    assert tool("list_directory")["value"]["entries"] == sorted(names)
    assert tool("glob", pattern="*")["value"]["paths"] == sorted(names)


def test_a_list_too_long_is_cut_and_says_so(tool: Tool, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        (project / f"{number:02}").touch()
    monkeypatch.setattr(searching, "PATHS_MAX", 20)
    expected = [f"{number:02}" for number in range(20)]
    assert tool("list_directory")["value"] == {"entries": expected, "truncated": True}
    assert tool("glob", pattern="*")["value"] == {"paths": expected, "truncated": True}
    monkeypatch.setattr(searching, "PATHS_MAX", 30)
    assert tool("list_directory")["value"]["truncated"] is False
    monkeypatch.setattr(walking, "ENTRIES_MAX", 10)
    assert len(tool("list_directory")["value"]["entries"]) == 10
    assert tool("list_directory")["value"]["truncated"] is True
    assert tool("grep", pattern="x")["value"]["truncated"] is True


# -- the walk --------------------------------------------------------------------------------------------------------


def test_a_folder_replaced_by_a_link_between_listing_and_opening_is_not_entered(project: Path, outside: Path) -> None:
    (project / "sub").mkdir()
    (project / "then").mkdir()
    seen = []
    with Root(str(project)) as root:
        for folder in Walk(root, tool_path(str(project), "")):
            seen.append("/".join(folder.parts))
            if not folder.parts:
                (project / "sub").rmdir()
                (project / "sub").symlink_to(outside)
    assert seen == ["", "then"]


def test_a_tree_deeper_than_descriptors_reach_is_cut(tool: Tool, project: Path) -> None:
    fd = os.open(project, os.O_PATH)
    for _ in range(DEPTH_MAX * 3):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_PATH, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    found = tool("list_directory", recursive=True)["value"]
    assert (len(found["entries"]), found["truncated"]) == (DEPTH_MAX, True)
    assert tool("glob", pattern="**/*.py")["value"] == {"paths": [], "truncated": True}


def test_a_walk_left_early_keeps_nothing_open(project: Path) -> None:
    (project / "a/b").mkdir(parents=True)
    with Root(str(project)) as root:
        folders = iter(Walk(root, tool_path(str(project), "")))
        fds = [next(folders).fd, next(folders).fd]
        folders.close()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


# -- glob ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        ({"pattern": "*.py"}, ["a.py", "link.py"]),
        ({"pattern": "**/*.py"}, ["a.py", "link.py", "src/[x].py", "src/c.py", "src/deep/d.py"]),
        ({"pattern": "**/**/d.py"}, ["src/deep/d.py"]),
        ({"pattern": "src/**"}, ["src/[x].py", "src/c.py", "src/deep/d.py", "src/deep/e.md", "src/pipe"]),
        ({"pattern": "src/*/"}, ["src/deep"]),
        ({"pattern": "**/"}, ["src", "src/deep"]),
        ({"pattern": "s?c/[cd].py"}, ["src/c.py"]),
        ({"pattern": "src/[!c].py"}, []),
        ({"pattern": "src/[[]x].py"}, ["src/[x].py"]),
        ({"pattern": ".*"}, [".hidden.py"]),
        ({"pattern": ".git/*"}, [".git/config", ".git/x.py"]),
        ({"pattern": "**/.cache/*"}, ["src/.cache/f.py"]),
        ({"pattern": "*", "path": "src/deep"}, ["src/deep/d.py", "src/deep/e.md"]),
        ({"pattern": "*", "path": "inner"}, ["inner/d.py", "inner/e.md"]),
        ({"pattern": "deep/../c.py", "path": "src"}, ["src/c.py"]),
        ({"pattern": "{root}/src/*.py"}, ["src/[x].py", "src/c.py"]),
        ({"pattern": "out/*"}, []),
        ({"pattern": "A.PY"}, []),
        ({"pattern": "nothing"}, []),
    ],
)
def test_a_pattern_finds_what_it_names(tool: Tool, tree: Path, arguments: dict[str, str], paths: list[str]) -> None:
    arguments = {name: text.format(root=tree) for name, text in arguments.items()}
    assert tool("glob", **arguments)["value"] == {"paths": paths, "truncated": False}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"pattern": "../*"}, "path_escapes_boundary"),
        ({"pattern": "../*", "path": "src"}, "path_escapes_boundary"),
        ({"pattern": "/etc/*"}, "path_outside_boundary"),
        ({"pattern": "*", "path": "out"}, "symlink_escapes_boundary"),
        ({"pattern": "."}, "invalid_pattern"),
        ({"pattern": "/"}, "path_outside_boundary"),
        ({"pattern": ""}, "invalid_value"),
    ],
)
def test_a_pattern_that_leads_out_or_names_nothing_is_refused(
    tool: Tool, tree: Path, arguments: dict[str, str], code: str
) -> None:
    assert tool("glob", **arguments)["code"] == code


_NAMES = st.lists(st.sampled_from(["a", "b", "ab", ".h"]), min_size=1, max_size=5)


@given(st.lists(st.sampled_from(["a", "b", "*", "?", "a*", "**", ".*"]), min_size=1, max_size=5), _NAMES)
@settings(max_examples=examples(300), deadline=None)
def test_a_pattern_matches_as_the_regular_expression_it_stands_for(parts: list[str], names: list[str]) -> None:
    in_names = {"*": r"[^/.][^/]*", "?": r"[^/.]", "a*": r"a[^/]*", ".*": r"\.[^/]*"}
    expression = "".join(r"(?:[^/.][^/]*/)*" if part == "**" else in_names.get(part, part) + "/" for part in parts)
    pattern = Pattern(tuple(parts))
    states = pattern.start()
    for name in names:
        states = pattern.step(states, name)
    assert pattern.is_match(states) == (re.fullmatch(expression, "".join(f"{name}/" for name in names)) is not None)


# -- grep ------------------------------------------------------------------------------------------------------------


def test_matching_lines_are_given_with_file_and_number(tool: Tool, tree: Path) -> None:
    found = tool("grep", pattern=r"n[e]{2}dle in")
    assert found["value"] == {
        "lines": [
            "a.py:2:needle in a.py",
            "b.txt:2:needle in b.txt",
            "src/[x].py:2:needle in src/[x].py",
            "src/c.py:2:needle in src/c.py",
            "src/deep/d.py:2:needle in src/deep/d.py",
            "src/deep/e.md:2:needle in src/deep/e.md",
        ],
        "matches": 6,
        "files_searched": 6,
        "files_too_large": 0,
        "truncated": False,
    }
    assert found["lists"] == ["."]


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        ({"include": "*.md"}, ["src/deep/e.md"]),
        ({"include": "src/*.py"}, ["src/[x].py", "src/c.py"]),
        ({"include": ".*"}, [".hidden.py"]),
        ({"include": ".git/*"}, [".git/config", ".git/x.py"]),
        ({"path": ".git"}, [".git/config", ".git/x.py"]),
        ({"path": "src", "include": "deep/*"}, ["src/deep/d.py", "src/deep/e.md"]),
        ({"path": "a.py"}, ["a.py"]),
        ({"path": "link.py"}, ["link.py"]),
        ({"path": "inner"}, ["inner/d.py", "inner/e.md"]),
    ],
)
def test_what_is_searched_can_be_chosen(tool: Tool, tree: Path, arguments: dict[str, str], files: list[str]) -> None:
    lines = tool("grep", pattern="needle", **arguments)["value"]["lines"]
    assert [line.partition(":")[0] for line in lines] == files


def test_context_is_marked_and_groups_are_parted(tool: Tool, project: Path) -> None:
    (project / "f").write_text("a\nx\nb\nc\nx\nx\nd\ne\nf\nx\n")
    (project / "g").write_text("x\n")
    assert tool("grep", pattern="x", context=1)["value"]["lines"] == [
        "f-1-a", "f:2:x", "f-3-b", "f-4-c", "f:5:x", "f:6:x", "f-7-d", "--", "f-9-f", "f:10:x", "--", "g:1:x",
    ]  # fmt: skip


def test_anchors_and_case_are_about_one_line(tool: Tool, project: Path) -> None:
    (project / "f").write_bytes(b"Foo\r\nbar foo\nno\nfo\xe9")
    assert tool("grep", pattern="^foo$", ignore_case=True)["value"]["lines"] == ["f:1:Foo"]
    assert tool("grep", pattern="foo")["value"]["lines"] == ["f:2:bar foo"]
    assert tool("grep", pattern="fo.$")["value"]["lines"] == ["f:2:bar foo", "f:4:fo�"]
    assert tool("grep", pattern="o\nb")["value"]["lines"] == []


def test_a_search_ends_at_its_bounds_and_says_so(tool: Tool, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "a").write_text("x\n" * 5)
    (project / "b").write_text("x\n")
    found = tool("grep", pattern="x", limit=5)["value"]
    assert (found["matches"], found["truncated"]) == (5, True)
    assert tool("grep", pattern="x", limit=6)["value"]["truncated"] is False
    monkeypatch.setattr(searching, "TEXT_CHARS_MAX", 12)
    found = tool("grep", pattern="x")["value"]
    assert (found["lines"], found["truncated"]) == (["a:1:x", "a:2:x"], True)
    monkeypatch.undo()
    monkeypatch.setattr(searching, "GREP_BYTES_MAX", 10)
    found = tool("grep", pattern="x")["value"]
    assert (found["matches"], found["truncated"]) == (5, True)


def test_binary_large_and_protected_files_and_links_are_passed_over(tool: Tool, project: Path, outside: Path) -> None:
    (project / "binary").write_bytes(b"needle\0")
    (project / "link").symlink_to(outside / "secret.txt")
    (project / ".jido_code").mkdir()
    (project / ".jido_code/settings.json").write_text("needle")
    with open(project / "big", "wb") as big:
        big.truncate(3 << 30)
    os.mkfifo(project / "pipe")
    (project / "last").write_text("needle")
    found = tool("grep", pattern="needle|not for")["value"]
    assert (found["lines"], found["files_too_large"], found["truncated"]) == (["last:1:needle"], 1, False)
    assert tool("grep", pattern="needle", path=".jido_code")["value"]["lines"] == []
    assert tool("grep", pattern="needle", path="big")["code"] == "file_too_large"
    assert tool("grep", pattern="needle", path="binary")["code"] == "binary_file"
    assert tool("grep", pattern="needle", path="pipe")["code"] == "not_a_file"


def test_a_file_swapped_for_a_link_after_it_was_listed_is_not_read(project: Path, outside: Path) -> None:
    (project / "file").write_text("inside")
    fd = os.open(project, os.O_RDONLY)
    inside = searching._content(fd, "file")
    (project / "file").unlink()
    (project / "file").symlink_to(outside / "secret.txt")
    swapped = searching._content(fd, "file")
    os.close(fd)
    assert (inside, swapped) == (b"inside", b"")


@pytest.mark.parametrize("pattern", ["(", "[", "*", "a{2", "(?P<x>", "\\", "a**", "(?<=a+)b"])
def test_what_is_no_expression_is_refused_with_the_reason(tool: Tool, project: Path, pattern: str) -> None:
    found = tool("grep", pattern=pattern)
    if pattern == "a{2":  # Python takes it as text
        assert found["ok"]
    else:
        assert (found["code"], bool(found["hint"])) == ("invalid_pattern", True)
