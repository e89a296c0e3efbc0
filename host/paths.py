"""Where things lie: the user's data folder, and the control socket in it.

A Unix socket's address holds 107 bytes and a data folder's path may be longer. Then the socket is reached through a
descriptor of its folder (`/proc/self/fd/N/host.sock`), so there is one socket in one place whatever the path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from procession.ipc.core.errors import StorageError

#: sizeof(sockaddr_un.sun_path) is 108, the last byte a NUL.
SOCKET_PATH_BYTES_MAX: Final = 107
#: Names the folder of `procession up` instead of the user's own.
DATA_DIR_VARIABLE: Final = "PROCESSION_DATA_DIR"

CONTROL_FOLDER: Final = "control"
SOCKET_NAME: Final = "host.sock"
TOKEN_NAME: Final = "token"  # noqa: S105 - the name of a file


def default_data_dir() -> Path:
    """Return the folder that `procession up` owns: $PROCESSION_DATA_DIR, else the user's (XDG) data folder."""
    given = os.environ.get(DATA_DIR_VARIABLE)
    if given:
        return Path(given).absolute()
    import platformdirs  # here: `import procession` pays for nothing it may not need

    return Path(platformdirs.user_data_dir("procession", appauthor=False))


def control_folder(data_dir: Path) -> Path:
    """Return the folder of the control socket and its token, 0700."""
    return data_dir / CONTROL_FOLDER


def socket_path(data_dir: Path) -> Path:
    """Return where the control socket is, however long that path; see `socket_address` for reaching it."""
    return control_folder(data_dir) / SOCKET_NAME


def token_path(data_dir: Path) -> Path:
    """Return the file that a client proves itself with, 0600."""
    return control_folder(data_dir) / TOKEN_NAME


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """Give an address to bind or connect the socket at `path` with, valid inside the block.

    Raises StorageError (code `socket_path`) when there is none that fits, or no such folder.
    """
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        yield os.fspath(path)
        return
    try:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise StorageError(f"{path.parent}: {problem.strerror}", code="socket_path") from None
    try:
        short = f"/proc/self/fd/{folder}/{path.name}"
        if len(os.fsencode(short)) > SOCKET_PATH_BYTES_MAX or not os.path.isdir(os.path.dirname(short)):
            raise StorageError(
                f"{path}: the path of a Unix socket has at most {SOCKET_PATH_BYTES_MAX} bytes, and there is no /proc to "
                "shorten it by",
                code="socket_path",
                hint="use a data folder with a shorter path",
            )
        yield short
    finally:
        os.close(folder)
