"""Exporting, importing and forking sessions: arguments checked, and the archive's file, which is the caller's own.

It is *not* what is in an archive (host/core/archive.py). Rule: the host sees bytes and never the file's path, so a client of a
host elsewhere names its own files; what a file may hold is what a call may bring.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from procession.api import checks
from procession.api.link import Link
from procession.api.sandbox import Sandbox
from procession.ipc.core.bounds import PAYLOAD_BYTES_MAX
from procession.ipc.core.errors import InvalidRequest, StorageError
from procession.ipc.core.operations import ForkBody, ImportBody

PathLike = str | os.PathLike[str]
_NUMBER_MAX: Final = 2**63 - 1
_NO_FILE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


def archive_to_write(path: PathLike, overwrite: bool) -> Path:
    """Return where an archive is to be written. Raises InvalidRequest, AlreadyExists (file_exists)."""
    from procession.host.write_file import check_target

    checks.check_flag("overwrite", overwrite)
    place = Path(checks.check_file("path", path))
    check_target(place, overwrite=bool(overwrite))
    return place


def write_archive(path: Path, data: bytes, overwrite: bool) -> Path:
    """Write an archive and return its path, once it is on disk. Raises as `archive_to_write`, and DiskFull, StorageError."""
    from procession.host.write_file import write_file

    write_file(path, data, overwrite=overwrite)
    return path


def read_archive(path: PathLike) -> tuple[str, bytes]:
    """Return an archive's path and bytes.

    Raises InvalidRequest (path_not_found, path_not_file, archive_too_large), StorageError.
    """
    place = checks.check_file("path", path)
    try:
        with open(place, "rb", opener=_opened) as file:
            data = file.read(PAYLOAD_BYTES_MAX + 1)
    except OSError as problem:
        if problem.errno in _NO_FILE:
            raise InvalidRequest(f"{place}: {problem.strerror}", code="path_not_found") from None
        raise StorageError(f"{place}: cannot be read: {problem.strerror}") from None
    if len(data) > PAYLOAD_BYTES_MAX:
        raise InvalidRequest(
            f"{place}: it has more than {PAYLOAD_BYTES_MAX} bytes, the limit of an archive", code="archive_too_large"
        )
    return place, data


def _opened(place: str, flags: int) -> int:
    """Open a file that is one: a pipe would keep its reader waiting."""
    fd = os.open(place, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise InvalidRequest(f"{place}: is no file", code="path_not_file")


def import_body(
    link: Link,
    source: str,
    *,
    name: str | None,
    project: PathLike | None,
    session_id: str | None,
    trust_code: bool,
    start: bool,
    sandbox: Sandbox | None,
) -> ImportBody:
    """Check what an archive's session shall be. source: the file's path, for errors. Raises InvalidRequest."""
    checks.check_flag("trust_code", trust_code)
    checks.check_flag("start", start)
    return ImportBody(
        source=source,
        id=checks.check_session_id(session_id),
        name=checks.check_name(name),
        project=checks.check_project(project),
        trust_code=bool(trust_code),
        start=bool(start),
        sandbox=checks.check_sandbox(link.sandbox if sandbox is None else sandbox),
        partition=link.partition or "",
    )


def fork_body(*, at: int | None, name: str | None, project: PathLike | None, copy_project: bool) -> ForkBody:
    """Check what a fork shall be. Raises InvalidRequest."""
    checks.check_flag("copy_project", copy_project)
    if at is not None and (type(at) is not int or not 0 <= at <= _NUMBER_MAX):
        raise InvalidRequest("at: the number of a change, from 0 on", code="invalid_sequence")
    return ForkBody(
        at=at,
        id=checks.check_session_id(None),
        name=checks.check_name(name),
        project=_new_folder(project) if copy_project else checks.check_project(project),
        copy_project=bool(copy_project),
    )


def _new_folder(project: PathLike | None) -> str | None:
    """Return a project folder that may have yet to be made."""
    try:
        return checks.check_project(project)
    except InvalidRequest as error:
        if error.code != "path_not_found":
            raise
        return checks.check_file("project", project)
