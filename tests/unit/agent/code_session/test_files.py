"""Files: what was read and written, one name for one path, and read before write."""

from __future__ import annotations

import pytest

from helpers.code_session import START, Played
from procession.agent_proc.agent.code_session.files import may_write, same_path
from procession.ipc.core.errors import InvalidRequest


@pytest.fixture
def session() -> Played:
    return Played()


@pytest.mark.contract("2.2 builders")
def test_a_read_is_noted_with_its_time(session: Played):
    assert session.do("track_file_read", path="a.py") == START
    assert session.ask("file_was_read", path="a.py") is True
    assert session.ask("get_file_read_time", path="a.py") == START


def test_reading_again_overwrites_the_time(session: Played):
    session.do("track_file_read", path="a.py")
    second = session.do("track_file_read", path="a.py")
    assert second > START
    assert session.ask("get_file_read_time", path="a.py") == second


def test_what_was_never_read_has_no_time(session: Played):
    assert session.ask("file_was_read", path="a.py") is False
    assert session.ask("get_file_read_time", path="a.py") is None


def test_to_write_is_not_to_have_read(session: Played):
    assert session.do("track_file_write", path="a.py") == START
    assert session.ask("file_was_read", path="a.py") is False
    assert session.state["file_writes"] == {"a.py": START}


def test_the_thousand_last_used_are_kept(session: Played):
    for name in ("track_file_read", "track_file_write"):
        session.fill(name, ({"path": f"{count}.py"} for count in range(1000)))
        session.fill(name, [{"path": "0.py"}, {"path": "new.py"}])
    for field in ("file_reads", "file_writes"):
        assert len(session.state[field]) == 1000
        assert "0.py" in session.state[field]
        assert "1.py" not in session.state[field]
        assert list(session.state[field])[-2:] == ["0.py", "new.py"]


@pytest.mark.contract("2.2 builders")
def test_clearing_forgets_both(session: Played):
    session.do("track_file_read", path="a.py")
    session.do("track_file_write", path="a.py")
    session.do("clear_file_tracking")
    assert session.state["file_reads"] == session.state["file_writes"] == {}
    assert session.change("clear_file_tracking").ops == ()


@pytest.mark.parametrize(
    ("path", "same"),
    [
        ("a.py", "a.py"),
        ("./a.py", "a.py"),
        ("src//a.py", "src/a.py"),
        ("src/./a.py", "src/a.py"),
        ("src/x/../a.py", "src/a.py"),
        ("../a.py", "../a.py"),
        ("../../a", "../../a"),
        ("a/../../b", "../b"),
        ("/src/a.py", "/src/a.py"),
        ("/../a.py", "/a.py"),
        ("/", "/"),
        (".", "."),
        ("a/..", "."),
        ("a..b/c", "a..b/c"),
        (" a", " a"),
        ("\udcff", "\udcff"),
    ],
)
def test_two_ways_to_say_a_path_are_one(session: Played, path: str, same: str):
    assert same_path(path) == same
    assert same_path(same) == same
    session.do("track_file_read", path=path)
    assert session.ask("file_was_read", path=same) is True


@pytest.mark.parametrize("path", ["", None, 7, b"a", "a\0b", "x" * 4097, "ä" * 2049, "\ud800"])
def test_what_is_no_path_is_refused(session: Played, path: object):
    for name in ("track_file_read", "track_file_write", "file_was_read", "get_file_read_time"):
        session.refusal("invalid_path", name, path=path)


@pytest.mark.parametrize(
    ("was_read", "exists", "allowed"),
    [(True, True, True), (True, False, True), (False, False, True), (False, True, False)],
)
def test_what_exists_must_have_been_read_before_it_is_written(
    session: Played, was_read: bool, exists: bool, allowed: bool
):
    if was_read:
        session.do("track_file_read", path="./a.py")
    session.do("track_file_write", path="a.py")
    if allowed:
        may_write(session.state, "a.py", exists=exists)
    else:
        with pytest.raises(InvalidRequest) as caught:
            may_write(session.state, "a.py", exists=exists)
        assert caught.value.code == "read_before_write_required"
        assert "a.py" in str(caught.value)
