"""A folder is copied as it is found: links as links, special files left out, within bounds, and without a trace when it fails."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from procession import AlreadyExists, DiskFull, InvalidRequest, StorageError
from procession.host import copy_tree as copying
from procession.host.copy_tree import Bounds, Copied, copy_tree


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder with something of each kind in it."""
    top = tmp_path / "source"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "deep").write_bytes(b"deep" * 1000)
    (top / "script").write_text("#!/bin/sh\n")
    (top / "script").chmod(0o755)
    (top / "empty").touch()
    (top / "inside").symlink_to("a/b/deep")
    (top / "outside").symlink_to("/etc/passwd")
    (top / "dangling").symlink_to("nowhere")
    (top / "folder-link").symlink_to("a")
    return top


def described(top: Path) -> dict[str, object]:
    """Return what is in a folder: of links where they lead, of files mode, time of change and bytes."""
    found: dict[str, object] = {}
    for path in top.rglob("*"):
        name, seen = str(path.relative_to(top)), path.lstat()
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_dir():
            found[name] = stat.S_IMODE(seen.st_mode)
        else:
            found[name] = (stat.S_IMODE(seen.st_mode), seen.st_mtime_ns, path.read_bytes())
    return found


def test_it_is_as_it_was_found(source: Path, tmp_path: Path) -> None:
    os.utime(source / "script", ns=(1, 2_000_000_003))
    copied = copy_tree(source, tmp_path / "copy")
    assert described(tmp_path / "copy") == described(source)
    assert (copied.entries, copied.skipped) == (9, 0)
    assert copied.bytes == 4000 + len("#!/bin/sh\n")
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700


def test_special_files_are_left_out_and_counted(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(source / "fifo")
    monkeypatch.chdir(source)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        copied = copy_tree(source, tmp_path / "copy")
    assert copied.skipped == 2
    assert not {"fifo", "socket"} & set(os.listdir(tmp_path / "copy"))


def test_folders_nobody_may_write_in_are_filled_first(source: Path, tmp_path: Path) -> None:
    (source / "a").chmod(0o555)
    (source / "a" / "b" / "deep").chmod(0o400)
    copy_tree(source, tmp_path / "copy")
    assert (tmp_path / "copy" / "a").stat().st_mode & 0o777 == 0o555
    assert (tmp_path / "copy" / "a" / "b" / "deep").stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize("way", ["range", "range that gives nothing", "by hand"])
def test_each_way_copies_the_same(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    def no_clone(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    def no_range(*_: object) -> int:
        if way == "by hand":
            raise OSError(errno.EXDEV, "no")
        return 0

    monkeypatch.setattr("fcntl.ioctl", no_clone)
    if way != "range":
        monkeypatch.setattr(os, "copy_file_range", no_range)
    copy_tree(source, tmp_path / "copy")
    assert described(tmp_path / "copy") == described(source)


def test_blocks_are_shared_where_that_can_be(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def clone(to_fd: int, request: int, from_fd: int) -> None:
        assert request == 0x40049409
        os.write(to_fd, b"cloned")
        cloned.append(from_fd)

    cloned: list[int] = []
    monkeypatch.setattr("fcntl.ioctl", clone)
    copy_tree(source, tmp_path / "copy")
    assert len(cloned) == 2  # of the two that have bytes
    assert (tmp_path / "copy" / "script").read_text() == "cloned"


def test_a_copy_into_the_source_does_not_copy_itself(source: Path) -> None:
    copy_tree(source, source / "copy", leave_out=(source / "a",))
    assert sorted(os.listdir(source / "copy")) == sorted(set(os.listdir(source)) - {"copy", "a"})


# --- what stops it ------------------------------------------------------------------------------------------------------
def test_bounds_are_told_and_nothing_is_left(source: Path, tmp_path: Path) -> None:
    for bounds, words in ((Bounds(entries=3), "more than 3 files"), (Bounds(bytes=100), "more than 100 bytes")):
        with pytest.raises(InvalidRequest, match=words) as caught:
            copy_tree(source, tmp_path / "copy", bounds=bounds)
        assert caught.value.code == "project_too_large"
        assert not (tmp_path / "copy").exists()


def test_a_tree_too_deep_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "DEPTH_MAX", 3)
    (tmp_path / "source/1/2/3").mkdir(parents=True)
    assert copy_tree(tmp_path / "source", tmp_path / "copy").entries == 3
    (tmp_path / "source/1/2/3/4").mkdir()
    with pytest.raises(InvalidRequest, match="nested more than 3 deep"):
        copy_tree(tmp_path / "source", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_it_stops_at_any_moment_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    """Being told to stop at the first look, the second, and so on until it is through."""

    class Stopped(Exception):
        pass

    (tmp_path / "there").mkdir()
    for target in (tmp_path / "copy", tmp_path / "there"):
        for count in range(1, 100):
            looks = 0

            def look(_: Copied, count: int = count) -> None:
                nonlocal looks
                looks += 1
                if looks == count:
                    raise Stopped

            try:
                copy_tree(source, target, look=look)
            except Stopped:
                assert target.exists() == (target.name == "there")
                assert not target.exists() or os.listdir(target) == []
            else:
                break
        else:
            pytest.fail("it was never through")
        assert described(target) == described(source)


@pytest.mark.parametrize("call", ["mkdir", "symlink", "open", "copy_file_range", "fchmod", "utime"])
def test_a_failing_disk_leaves_nothing_at_each_call(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real = getattr(os, call)
    for number, error in ((errno.ENOSPC, DiskFull), (errno.EIO, StorageError)):
        if call == "copy_file_range" and number == errno.EIO:
            continue  # there the copying goes on by hand
        for nth in range(1, 60):
            left = nth

            def failing(*args: object, **kwargs: object) -> object:
                nonlocal left
                left -= 1
                if left == 0:
                    raise OSError(number, os.strerror(number))  # noqa: B023 - called within the turn
                return real(*args, **kwargs)

            monkeypatch.setattr(os, call, failing)
            try:
                copy_tree(source, tmp_path / "copy")
            except (error, InvalidRequest):
                monkeypatch.setattr(os, call, real)
                assert not (tmp_path / "copy").exists()
            else:
                monkeypatch.setattr(os, call, real)
                break
        else:
            pytest.fail("it never came through")
        os.rename(tmp_path / "copy", tmp_path / f"copy {number}")


def test_a_target_with_something_in_it_stays_as_it_is(source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    with pytest.raises(AlreadyExists) as caught:
        copy_tree(source, tmp_path / "mine")
    assert caught.value.code == "folder_not_empty"
    assert os.listdir(tmp_path / "mine") == ["file"]
    for target, code in ((source / "script", "path_not_directory"), (tmp_path / "no" / "where", "path_not_found")):
        with pytest.raises(InvalidRequest) as wrong:
            copy_tree(source, target)
        assert wrong.value.code == code


def test_a_folder_that_becomes_a_link_meanwhile_is_not_followed(source: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    (secret / "b").mkdir(parents=True)
    (secret / "b" / "key").write_text("secret")

    def swap(copied: Copied) -> None:
        if (source / "a").is_dir() and not (source / "a").is_symlink() and copied.entries >= 8:
            os.rename(source / "a", tmp_path / "moved")
            (source / "a").symlink_to(secret)

    with pytest.raises(StorageError):
        copy_tree(source, tmp_path / "copy", look=swap)
    assert not (tmp_path / "copy").exists()
    assert (secret / "b" / "key").read_text() == "secret"
