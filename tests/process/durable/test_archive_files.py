"""Writing an archive, and dying in it: whatever moment it is, its name stands for the old file or for the new one."""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from procession.host.core.archive import decode_archive
from procession.ipc import kill_points

pytestmark = pytest.mark.process
OLD, NEW = b"old" * 1000, b"new" * 100_000

WRITE = """
import sys
from pathlib import Path
from procession.host.write_file import write_file
write_file(Path(sys.argv[1]), b"new" * 100_000, overwrite=len(sys.argv) > 2)
"""
FILL = """
import os, sys
from pathlib import Path
from procession import DiskFull
from procession.host.write_file import write_file
print("begun")
path = Path(sys.argv[1])
write_file(path, b"old")
try:
    write_file(path, b"new" * 100_000, overwrite=True)
except DiskFull as full:
    print(full.code)
print(os.listdir(path.parent), path.read_text())
"""
EXPORT = """
import sys
from procession import Host, Sandbox
with Host(sys.argv[1], sandbox=Sandbox.off()) as host:
    session = host.start_session()
    session.append_message("user", "hello")
    session.export(sys.argv[2], overwrite=True)
"""


def run(program: str, *args: object, point: str = "", fsize: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program with a kill point armed, or with a limit on the files that it may write."""

    def limit() -> None:
        if fsize is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (fsize, fsize))

    env = {**os.environ, **({kill_points.VARIABLE: point} if point else {})}
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, args)], env=env, preexec_fn=limit, capture_output=True, text=True, timeout=60
    )  # fmt: skip


@pytest.mark.guarantee("R-31")
@pytest.mark.guarantee("R-63")
@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("point", ["mid_rename", "after_rename"])
def test_a_writer_that_is_killed_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, point: str, overwrite: bool
) -> None:
    path = tmp_path / "file"
    if overwrite:
        path.write_bytes(OLD)
    ended = run(WRITE, path, *(["overwrite"] if overwrite else []), point=point)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    if point == "after_rename":
        assert path.read_bytes() == NEW
    elif overwrite:
        assert path.read_bytes() == OLD
    else:
        assert not path.exists()
    drafts = [name for name in os.listdir(tmp_path) if name != "file"]
    assert all(name.startswith(".file.") and name.endswith(".part") for name in drafts)
    assert len(drafts) == (1 if point == "mid_rename" else 0)
    assert run(WRITE, path, "overwrite").returncode == 0
    assert path.read_bytes() == NEW
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.guarantee("R-63")
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_that_may_not_grow_so_large_leaves_no_draft(tmp_path: Path, overwrite: bool) -> None:
    path = tmp_path / "file"
    if overwrite:
        path.write_bytes(OLD)
    ended = run(WRITE, path, *(["overwrite"] if overwrite else []), fsize=10_000)
    assert ended.returncode == 1
    assert "StorageError" in ended.stderr
    assert os.strerror(errno.EFBIG) in ended.stderr
    assert os.listdir(tmp_path) == (["file"] if overwrite else [])
    assert not overwrite or path.read_bytes() == OLD


@pytest.mark.guarantee("R-63")
def test_a_full_disk_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    """On a tmpfs of 256 KiB, in a mount namespace of its own."""
    mount = f'mount -t tmpfs -o size=256k,mode=0700 none {tmp_path} && exec "$@"'
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", FILL, str(tmp_path / "file")],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if "begun" not in ended.stdout:
        pytest.skip(f"no file system can be mounted here: {ended.stderr.strip()[-200:]}")
    assert ended.stdout.split() == ["begun", "disk_full", "['file']", "old"], ended.stderr


@pytest.mark.guarantee("R-31")
@pytest.mark.parametrize("point", ["mid_rename", "after_rename"])
def test_an_export_that_is_killed_leaves_a_whole_archive_or_the_one_before(tmp_path: Path, point: str) -> None:
    path = tmp_path / "a"
    assert run(EXPORT, tmp_path / "data", path).returncode == 0
    before = path.read_bytes()
    ended = run(EXPORT, tmp_path / "data", path, point=point)
    assert ended.returncode == -signal.SIGKILL
    after = path.read_bytes()
    assert (after == before) == (point == "mid_rename")
    assert decode_archive(after, "a").name.startswith("session-")
