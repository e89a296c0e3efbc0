"""Nothing outside is ever opened, whichever way the kernel offers: links, loops, races, pipes, magic links, odd names."""

import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from stat import S_IMODE
from typing import Any

import pytest

from helpers.builtin_tools import SECRET, refusing
from procession.agent_proc.tools import confined, openat2
from procession.agent_proc.tools.confined import FILE_BYTES_MAX, LINKS_MAX, Root, read_at_most
from procession.agent_proc.tools.refusals import refusals
from procession.ipc.core.errors import InvalidRequest

pytestmark = pytest.mark.usefixtures("opening")

SWAPS = 400


@pytest.fixture
def root(project: Path) -> Iterator[Root]:
    with Root(str(project)) as root:
        yield root


def parts(path: str) -> tuple[str, ...]:
    return tuple(path.split("/"))


def code(root: Root, path: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        root.read(parts(path))
    assert caught.value.ran == "no"
    return caught.value.code


# -- what is inside --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["plain", "with space", "two\nlines", "caf\udce9", "..x", "x..", "-n", "*", "\\", "é" * 100, "%2e%2e"]
)
def test_a_file_of_any_name_is_read_and_replaced(root: Root, project: Path, name: str) -> None:
    (project / "folder").mkdir()
    root.replace(("folder", name), b"first")
    root.replace(("folder", name), b"second")
    assert root.read(("folder", name)) == b"second"
    assert os.listdir(project / "folder") == [name]


@pytest.mark.parametrize(
    "target", ["real/file", "./real//file", "real/../real/file", "link", "../project/../project/real/file", "{inside}"]
)
def test_a_link_inside_is_followed_and_stays_a_link(root: Root, project: Path, target: str) -> None:
    (project / "real").mkdir()
    (project / "real/file").write_text("inside")
    (project / "link").symlink_to("real/file")
    (project / "there").symlink_to(target.format(inside=project / "real/file"))
    if target.startswith("../"):  # it goes out, though it comes in again: the kernel's rule, and ours
        assert code(root, "there") == "symlink_escapes_boundary"
        return
    assert root.read(("there",)) == b"inside"
    root.replace(("there",), b"new")
    assert (project / "there").is_symlink()
    assert (project / "real/file").read_text() == "new"


@pytest.mark.contract("1.10 path rules")
def test_folders_are_reached_through_links_inside(root: Root, project: Path) -> None:
    (project / "a/b").mkdir(parents=True)
    (project / "a/b/file").write_text("inside")
    (project / "up").symlink_to("a/b/..")
    (project / "absolute").symlink_to(project / "a")
    (project / "itself").symlink_to(".")
    assert root.read(parts("up/b/file")) == b"inside"
    assert root.read(parts("itself/absolute/b/file")) == b"inside"
    root.make_parents(parts("absolute/new/er/file"))
    assert (project / "a/new/er").is_dir()
    assert root.stat(("itself",)).st_ino == root.stat(()).st_ino == project.stat().st_ino


def test_a_link_in_a_project_opened_by_a_link_may_name_either(project: Path, tmp_path: Path) -> None:
    (project / "file").write_text("inside")
    (tmp_path / "alias").symlink_to("project")
    (project / "by_name").symlink_to(project / "file")
    (project / "by_alias").symlink_to(tmp_path / "alias/file")
    with Root(str(tmp_path / "alias")) as root:
        assert root.read(("by_name",)) == root.read(("by_alias",)) == b"inside"


def test_as_many_links_as_the_kernel_follows_are_followed(root: Root, project: Path) -> None:
    (project / "0").write_text("inside")
    for number in range(LINKS_MAX + 1):
        (project / str(number + 1)).symlink_to(str(number))
    assert root.read((str(LINKS_MAX),)) == b"inside"
    assert code(root, str(LINKS_MAX + 1)) == "invalid_path"


def test_a_dangling_link_inside_is_nothing_and_is_written_through(root: Root, project: Path) -> None:
    (project / "dangling").symlink_to("later")
    assert not root.exists(("dangling",))
    root.replace(("dangling",), b"now")
    assert (project / "later").read_text() == "now"


# -- what leads out --------------------------------------------------------------------------------------------------

CHANGES_AND_LOOKS: tuple[tuple[Any, ...], ...] = (
    (Root.replace, b"mine"),
    (Root.make_parents,),
    (Root.open_folder,),
    (Root.stat,),
)

LEADING_OUT = {
    "{outside}/secret.txt": "link",
    "../outside/secret.txt": "link",
    "../../../../../../../../../../../../../../etc/hostname": "link",
    "/": "link/etc/hostname",
    "/proc/self/root": "link/etc/hostname",
    "/proc/self/cwd": "link/pyproject.toml",
    "/dev/stdin": "link",
    "{outside}": "link/secret.txt",
    "../outside": "link/secret.txt",
    "..": "link/outside/secret.txt",
    "sub/../../outside": "link/secret.txt",
    "sub/up": "link/outside/secret.txt",
    "sub/out/..": "link/project/secret.txt",
    "{project}/../outside": "link/secret.txt",
    "{project}_similar/secret.txt": "link",
}


@pytest.mark.contract("1.10 path rules")
@pytest.mark.parametrize(("target", "path"), LEADING_OUT.items())
def test_a_link_that_leads_out_is_refused_for_every_use(
    root: Root, project: Path, outside: Path, target: str, path: str
) -> None:
    (project / "sub").mkdir()
    (project / "sub/up").symlink_to("../..")
    (project / "sub/out").symlink_to("../../outside")
    (project.parent / "project_similar").mkdir()
    (project.parent / "project_similar/secret.txt").touch()
    (project / "link").symlink_to(target.format(outside=outside, project=project))
    (project / "chain").symlink_to("link")
    before = {found: found.stat().st_mtime_ns for found in project.parent.glob("*/*")}
    for use in (path, "chain" + path.removeprefix("link")):
        assert code(root, use) == "symlink_escapes_boundary"
        for act, *arguments in CHANGES_AND_LOOKS:
            below = parts(use + "/x/y" if act is Root.make_parents else use)
            with pytest.raises(InvalidRequest) as caught:
                act(root, below, *arguments)
            assert caught.value.code == "symlink_escapes_boundary"
    assert {found: found.stat().st_mtime_ns for found in project.parent.glob("*/*")} == before


def test_the_links_of_proc_are_text_like_any_other() -> None:
    with Root("/proc/self") as root:
        for path in ("root/etc/hostname", "cwd/pyproject.toml", "exe", "fd/0/x"):
            assert code(root, path) in {"symlink_escapes_boundary", "file_not_found"}
        assert root.read(("comm",))


@pytest.mark.contract("1.10 path rules")
@pytest.mark.parametrize(
    ("links", "path"),
    [
        ({"a": "b", "b": "a"}, "a"),
        ({"a": "a"}, "a"),
        ({"a": "a/b"}, "a/x"),
        ({"a": "./b/c", "b": "a"}, "b/c"),
    ],
)
def test_a_loop_of_links_is_an_invalid_path(root: Root, project: Path, links: dict[str, str], path: str) -> None:
    for name, target in links.items():
        (project / name).symlink_to(target)
    assert code(root, path) == "invalid_path"


# -- what is no file -------------------------------------------------------------------------------------------------


def test_each_thing_that_is_no_file_is_refused_by_its_code(
    root: Root, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "file").touch()
    (project / "folder").mkdir()
    os.mkfifo(project / "pipe")
    monkeypatch.chdir(project)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    assert code(root, "nothing") == "file_not_found"
    assert code(root, "nothing/below") == "file_not_found"
    assert code(root, "folder") == "is_a_directory"
    assert code(root, "file/below") == "not_a_directory"
    assert code(root, "pipe") == code(root, "socket") == "not_a_file"
    assert code(root, "x" * 300) == "invalid_path"
    for name, expected in {"folder": "is_a_directory", "pipe": "not_a_file", "socket": "not_a_file"}.items():
        with pytest.raises(InvalidRequest) as caught:
            root.replace((name,), b"")
        assert caught.value.code == expected
    with pytest.raises(InvalidRequest) as caught:
        root.replace((), b"")
    assert caught.value.code == "is_a_directory"


def test_a_device_is_never_opened() -> None:
    with Root("/dev") as root:
        assert code(root, "null") == "not_a_file"


def test_a_pipe_is_only_looked_at(root: Root, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(project / "pipe")
    flags_used = []
    plain_open, kernels_open = os.open, openat2.open_beneath

    def open_noted(path: str, flags: int, *args: int, dir_fd: int | None = None) -> int:
        flags_used.append(flags)
        return plain_open(path, flags, *args, dir_fd=dir_fd)

    def kernels_open_noted(dir_fd: int, path: bytes, flags: int) -> int:
        flags_used.append(flags)
        return kernels_open(dir_fd, path, flags)

    monkeypatch.setattr(os, "open", open_noted)
    monkeypatch.setattr(openat2, "open_beneath", kernels_open_noted)
    assert code(root, "pipe") == "not_a_file"
    assert flags_used
    assert all(flags & os.O_PATH for flags in flags_used)


def test_what_this_process_may_not_do_is_permission_denied(root: Root, project: Path) -> None:
    project.chmod(0o777)  # a file of others can be renamed over here: that must not be the way around its mode
    for name, mode in {"unreadable": 0o000, "unwritable": 0o444}.items():
        (project / name).write_text("x")
        (project / name).chmod(mode)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65_534)  # who is root may do everything
    try:
        assert code(root, "unreadable") == "permission_denied"
        assert root.read(("unwritable",)) == b"x"
        with pytest.raises(InvalidRequest) as caught:
            root.replace(("unwritable",), b"new")
    finally:
        os.seteuid(was)
    assert caught.value.code == "permission_denied"
    assert (project / "unwritable").read_text() == "x"


def test_a_full_disk_is_told_and_an_error_of_the_machine_is_none_of_the_paths() -> None:
    with pytest.raises(InvalidRequest) as caught, refusals("big"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.code == "path_no_space"
    with pytest.raises(OSError, match="Too many open files"), refusals("any"):
        raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.contract("1.10 path rules")
@pytest.mark.parametrize("path", ["alias.json", "alias/settings.json", "alias/SETTINGS.json"])
def test_a_protected_file_is_protected_under_every_name(root: Root, project: Path, path: str) -> None:
    (project / "deep/.jido_code").mkdir(parents=True)
    (project / "deep/.jido_code/settings.json").write_text("{}")
    (project / "deep/.jido_code/SETTINGS.json").write_text("{}")
    (project / "alias.json").symlink_to("deep/.jido_code/settings.json")
    (project / "alias").symlink_to("deep/.jido_code")
    assert code(root, path) == "protected_settings_file"
    with pytest.raises(InvalidRequest) as caught:
        root.replace(parts(path), b"mine")
    assert caught.value.code == "protected_settings_file"


# -- sizes -----------------------------------------------------------------------------------------------------------


def test_a_file_of_three_gibibytes_is_refused_before_it_is_read(
    root: Root, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(project / "big", "wb") as big:
        big.truncate(3 << 30)
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("it was read"))
    assert code(root, "big") == "file_too_large"


def test_the_largest_file_is_read(root: Root, project: Path) -> None:
    with open(project / "big", "wb") as big:
        big.truncate(FILE_BYTES_MAX)
    assert len(root.read(("big",))) == FILE_BYTES_MAX


def test_a_file_that_grows_while_it_is_read_is_too_large(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "log").write_bytes(b"12345")
    plain_read = os.read

    def read_of_one_that_grows(fd: int, count: int) -> bytes:
        with open(project / "log", "ab") as log:
            log.write(b"12345")
        return plain_read(fd, count)

    fd = os.open(project / "log", os.O_RDONLY)
    monkeypatch.setattr(os, "read", read_of_one_that_grows)
    assert read_at_most(fd, 9) is None
    monkeypatch.undo()
    os.close(fd)


# -- replacing -------------------------------------------------------------------------------------------------------


def test_a_replaced_file_keeps_its_mode_and_a_new_one_takes_the_umask(root: Root, project: Path) -> None:
    (project / "script").write_text("old")
    (project / "script").chmod(0o751)
    before = (project / "script").stat()
    root.replace(("script",), b"new")
    after = (project / "script").stat()
    assert (S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o751, before.st_uid, before.st_gid)
    umask = os.umask(0o027)
    try:
        root.replace(("new",), b"new")
    finally:
        os.umask(umask)
    assert S_IMODE((project / "new").stat().st_mode) == 0o640


def test_the_owner_stays_where_we_may_give_files_away(root: Root, project: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root gives files to others")
    (project / "theirs").write_text("old")
    os.chown(project / "theirs", 12_345, 12_346)
    root.replace(("theirs",), b"new")
    found = (project / "theirs").stat()
    assert (found.st_uid, found.st_gid) == (12_345, 12_346)


def test_a_replacement_that_fails_leaves_the_old_file_and_nothing_else(
    root: Root, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "file").write_text("old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(InvalidRequest) as caught:
        root.replace(("file",), b"new")
    monkeypatch.undo()
    assert caught.value.code == "path_no_space"
    assert os.listdir(project) == ["file"]
    assert (project / "file").read_text() == "old"


def test_folders_are_made_once_and_not_through_a_file(root: Root, project: Path) -> None:
    root.make_parents(parts("a/b/c/file"))
    root.make_parents(parts("a/b/c/file"))
    assert (project / "a/b/c").is_dir()
    assert not (project / "a/b/c/file").exists()
    (project / "file").touch()
    with pytest.raises(InvalidRequest) as caught:
        root.make_parents(parts("file/x/y"))
    assert caught.value.code == "not_a_directory"


def test_a_project_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Root(str(tmp_path / "nowhere"))
    assert caught.value.code == "file_not_found"


# -- races -----------------------------------------------------------------------------------------------------------


def swap(project: Path, outside: Path) -> None:
    """Put a link to the outside in the place of the folder `sub`."""
    (project / "sub").rename(project / "away")
    (project / "sub").symlink_to(outside)


@pytest.mark.contract("1.10 path rules")
@pytest.mark.parametrize("act", ["read", "replace", "open_folder"])
def test_a_folder_swapped_after_it_was_seen_to_be_none_is_not_followed(
    root: Root, project: Path, outside: Path, monkeypatch: pytest.MonkeyPatch, opening: str, act: str
) -> None:
    (project / "sub").mkdir()
    (project / "sub/secret.txt").write_text("inside")
    (project / "entry").symlink_to(project / "sub")  # an absolute link is resolved by hand in either way
    link_target = confined._link_target

    def seen_then_swapped(name: str, dir_fd: int) -> str | None:
        target = link_target(name, dir_fd)
        if name == "sub" and target is None:
            swap(project, outside)
        return target

    monkeypatch.setattr(confined, "_link_target", seen_then_swapped)
    path = ("entry",) if act == "open_folder" else ("entry", "secret.txt")
    with pytest.raises(InvalidRequest) as caught:
        getattr(root, act)(path, *([b"mine"] if act == "replace" else []))
    assert caught.value.code in {"not_a_directory", "invalid_path"}
    assert (project / "sub").is_symlink()
    assert (outside / "secret.txt").read_text() == SECRET
    assert os.listdir(outside) == ["secret.txt"]


def test_a_file_swapped_for_a_link_before_it_is_replaced_is_not_written_through(
    root: Root, project: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "file").write_text("inside")
    walk = Root._walk

    def walked_then_swapped(self: Root, parts: tuple[str, ...]) -> object:
        place = walk(self, parts)
        (project / "file").unlink()
        (project / "file").symlink_to(outside / "secret.txt")
        return place

    monkeypatch.setattr(Root, "_walk", walked_then_swapped)
    with pytest.raises(InvalidRequest) as caught:
        root.replace(("file",), b"mine")
    assert caught.value.code == "not_a_file"
    assert (outside / "secret.txt").read_text() == SECRET


@pytest.mark.contract("1.10 path rules")
def test_whatever_is_swapped_meanwhile_only_what_is_inside_is_read(root: Root, project: Path, outside: Path) -> None:
    (project / "sub").mkdir()
    (project / "sub/secret.txt").write_text("inside")
    (project / "link").symlink_to(outside)

    def swap_there_and_back() -> None:
        for _ in range(SWAPS):
            os.rename(project / "sub", project / "away")
            os.rename(project / "link", project / "sub")
            os.rename(project / "sub", project / "link")
            os.rename(project / "away", project / "sub")

    thread = threading.Thread(target=swap_there_and_back)
    thread.start()
    seen = []
    while thread.is_alive():
        try:
            seen.append(root.read(("sub", "secret.txt")))
        except InvalidRequest as refusal:
            seen.append(refusal.code.encode())
    thread.join()
    allowed = {b"inside", b"file_not_found", b"symlink_escapes_boundary", b"not_a_directory", b"invalid_path"}
    assert set(seen) <= allowed
    assert root.read(("sub", "secret.txt")) == b"inside"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_without_openat2_or_with_a_filter_against_it_files_are_opened_by_hand(
    root: Root, project: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (project / "file").write_text("inside")
    monkeypatch.setattr(openat2, "open_beneath", refusing(number))
    assert root.read(("file",)) == b"inside"
    assert code(root, "nothing") == "file_not_found"


def test_a_kernel_that_never_stops_asking_to_try_again_is_not_asked_forever(
    root: Root, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "file").write_text("inside")
    asked = []

    def busy(dir_fd: int, path: bytes, flags: int) -> int:
        asked.append(path)
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(openat2, "open_beneath", busy)
    assert root.read(("file",)) == b"inside"
    assert asked == [b"file"] * confined.TRIES_MAX
