"""What the system says about a path, as the refusals of the contract.

It is *not* a catalogue of errno: what is about the machine and not about the path (no descriptors left, a broken disk) stays
the OSError it is, and the run fails with it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from procession.agent_proc.agent.record.reasons import Reason, refusal, shown
from procession.ipc.core.errors import InvalidRequest


class _Told(NamedTuple):
    code: str
    text: str
    hint: str = ""


_NOT_FOUND: Final = _Told("file_not_found", "there is no {}", "list_directory and glob show what is there")
_DENIED: Final = _Told("permission_denied", "{} may not be used in this way by this process")
_INVALID: Final = _Told("invalid_path", "{} is no path that leads anywhere")
_NO_SPACE: Final = _Told("path_no_space", "there is no space left for {}", "remove what is not needed")
_NOT_A_FILE: Final = _Told("not_a_file", "{} is a pipe, a socket or a device, and only files are read and written")

_BY_ERRNO: Final[Mapping[int, _Told]] = {
    errno.ENOENT: _NOT_FOUND,
    errno.ENOTDIR: _Told("not_a_directory", "{} is no folder, or leads through something that is none"),
    errno.EISDIR: _Told("is_a_directory", "{} is a folder", "list_directory shows what is in it"),
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: _DENIED,
    errno.ETXTBSY: _DENIED,
    errno.ELOOP: _Told("invalid_path", "{} leads through a loop of links"),
    errno.ENAMETOOLONG: _INVALID,
    errno.EINVAL: _INVALID,
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EFBIG: _Told("file_too_large", "{} would be larger than a file may be here"),
    errno.ENXIO: _NOT_A_FILE,
    errno.ENODEV: _NOT_A_FILE,
}


def refuse(code: str, text: str, hint: str = "") -> InvalidRequest:
    """Make a refusal."""
    return refusal(Reason(code, text, hint))


def about(number: int, path: str) -> InvalidRequest:
    """Make the refusal for what an errno of the table says about `path`."""
    told = _BY_ERRNO[number]
    return refuse(told.code, told.text.format(shown(path)), told.hint)


@contextmanager
def refusals(path: str) -> Iterator[None]:
    """Turn an OSError into the refusal that it is about `path`, where it is one."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno not in _BY_ERRNO:
            raise
        raise about(error.errno, path) from None
