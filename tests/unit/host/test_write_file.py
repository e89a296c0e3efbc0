"""A file that is written has its old bytes or its new ones under its name, never half; a failure leaves no draft."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from procession import AlreadyExists, DiskFull, InvalidRequest, StorageError
from procession.host.write_file import write_file


def test_it_is_written_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"data")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"data", 0o600)
    with pytest.raises(AlreadyExists) as caught:
        write_file(path, b"other")
    assert (caught.value.code, path.read_bytes()) == ("file_exists", b"data")
    write_file(path, b"other", overwrite=True)
    assert path.read_bytes() == b"other"
    assert os.listdir(tmp_path) == ["file"]


def test_what_cannot_be_a_file_is_refused(tmp_path: Path) -> None:
    for path, code in ((tmp_path, "path_not_file"), (tmp_path / "no" / "file", "path_not_found")):
        with pytest.raises(InvalidRequest) as caught:
            write_file(path, b"", overwrite=True)
        assert caught.value.code == code
    write_file(tmp_path / ("n" * 255), b"a long name")
    with pytest.raises(StorageError):
        write_file(tmp_path / ("n" * 256), b"", overwrite=True)
    assert len(os.listdir(tmp_path)) == 1


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"real")
    link = tmp_path / "link"
    link.symlink_to("real")
    with pytest.raises(AlreadyExists):
        write_file(link, b"new")
    write_file(link, b"new", overwrite=True)
    assert not link.is_symlink()
    assert (tmp_path / "real").read_bytes() == b"real"


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_comes_in_the_last_moment_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    path = tmp_path / "file"
    link = os.link

    def raced(*args: object, **kwargs: object) -> None:
        path.write_bytes(b"theirs")
        if not has_links:
            raise OSError(errno.EPERM, "no hard links here")
        link(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", raced)
    with pytest.raises(AlreadyExists):
        write_file(path, b"ours")
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", none)
    write_file(tmp_path / "file", b"data")
    assert (tmp_path / "file").read_bytes() == b"data"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.guarantee("R-63")
@pytest.mark.parametrize("overwrite", [True, False])
def test_bytes_are_on_disk_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    """The order that a power cut cannot break: between any two of these the name stands for the old file or the new one."""
    order: list[str] = []

    def noted(call: str) -> Callable[..., object]:
        real: Callable[..., object] = getattr(os, call)

        def note(*args: object, **kwargs: object) -> object:
            is_folder = call == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)  # type: ignore[arg-type]
            order.append("fsync folder" if is_folder else call)
            return real(*args, **kwargs)

        return note

    for call in ("write", "fsync", "rename", "link"):
        monkeypatch.setattr(os, call, noted(call))
    write_file(tmp_path / "file", b"data", overwrite=overwrite)
    assert order == ["write", "fsync", "rename" if overwrite else "link", "fsync folder"]


@pytest.mark.guarantee("R-31")
def test_drafts_of_the_dead_are_taken_away_and_no_others(tmp_path: Path) -> None:
    others = [".file.deadbeef.part", ".other.deadbeef.part", ".file.part", "file.part", ".file.x.part.txt"]
    for name in others:
        (tmp_path / name).touch()
    alive = os.open(tmp_path / ".file.abcdabcd.part", os.O_CREAT | os.O_WRONLY)
    fcntl.flock(alive, fcntl.LOCK_EX)
    write_file(tmp_path / "file", b"data")
    os.close(alive)
    assert set(os.listdir(tmp_path)) == {"file", ".file.abcdabcd.part", *others[1:]}


@pytest.mark.guarantee("R-63")
@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, StorageError)]
)
def test_a_failure_at_any_call_leaves_the_old_bytes_or_the_new_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[StorageError], overwrite: bool
) -> None:
    path = tmp_path / "file"
    outcomes = set()
    for call in ("open", "write", "fsync", "close", "rename" if overwrite else "link"):
        real = getattr(os, call)
        for nth in range(1, 10):
            path.unlink(missing_ok=True)
            if overwrite:
                path.write_bytes(b"old")
            left = nth

            def failing(*args: object, **kwargs: object) -> object:
                nonlocal left
                left -= 1
                if left == 0:
                    if call == "close":  # noqa: B023 - called within the turn
                        real(*args, **kwargs)  # noqa: B023
                    raise OSError(number, os.strerror(number))
                return real(*args, **kwargs)  # noqa: B023

            monkeypatch.setattr(os, call, failing)
            try:
                write_file(path, b"new", overwrite=overwrite)
                error = None
            except StorageError as problem:
                error = type(problem)
            finally:
                monkeypatch.setattr(os, call, real)
            assert error is (None if left > 0 else kind)
            found = path.read_bytes() if path.exists() else None
            assert found in ((b"old", b"new") if overwrite else (None, b"new"))
            assert set(os.listdir(tmp_path)) <= {"file"}
            outcomes.add(found)
            if error is None:
                assert found == b"new"
                break
        else:
            pytest.fail("it never came through")
    assert len(outcomes) == 2
