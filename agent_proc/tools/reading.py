r"""read_file: a part of a text file, with the numbers of its lines; and what every tool takes for text.

Rules: lines end in \n, and a \r before it is not shown; bytes that are no UTF-8 are shown as U+FFFD, and what is left out
or cut is told where it was.
"""

from __future__ import annotations

from io import BytesIO
from itertools import islice
from typing import Final

from procession.agent_proc.agent.record.reasons import shown
from procession.agent_proc.agent.record.tool_path import ToolPath
from procession.agent_proc.tools.confined import Root
from procession.agent_proc.tools.refusals import refuse
from procession.agent_proc.tools.work import Work
from procession.ipc.core.bounds import KiB, MiB

LINE_BYTES_MAX: Final = 2_000
"""The contract's: beyond is a minified file or data, of which a model sees enough in so much."""
TEXT_BYTES_MAX: Final = 1 * MiB
"""Of one answer: the message of a tool's result has room for as many characters."""
BINARY_PROBE_BYTES: Final = 8 * KiB
"""The contract's: a NUL in so many first bytes makes a file binary."""
_NUMBER_CHARS_MIN: Final = 6
_CHARACTER_BYTES_MAX: Final = 4


def read_file(work: Work, path: str, offset: int, limit: int) -> str:
    """Return lines from number `offset` on, each as `     1→text`. Raises InvalidRequest."""
    place = work.place(path)
    with work.open_root() as root:
        data = read_text(root, place)
    if not data:
        return "[the file is empty]"
    count = data.count(b"\n") + (not data.endswith(b"\n"))
    if offset > count:
        return f"[the file has {count} lines: there is none from {offset} on]"
    told, size = [], 0
    for number, line in enumerate(islice(BytesIO(data), offset - 1, offset - 1 + limit), start=offset):
        text = f"{number:>{_NUMBER_CHARS_MIN}}→{line_text(line)}"
        size += len(text.encode()) + 1
        if size > TEXT_BYTES_MAX:
            break
        told.append(text)
    following = offset + len(told)
    if following <= count:
        told.append(f"[lines {offset} to {following - 1} of {count}; go on with offset={following}]")
    return "\n".join(told)


def read_text(root: Root, place: ToolPath) -> bytes:
    """Read a text file whole. Raises InvalidRequest: binary_file, file_too_large, file_not_found, …"""
    data = root.read(place.parts)
    if is_binary(data):
        raise refuse(
            "binary_file",
            f"{shown(place.relative)} is binary: it has a NUL in its first {BINARY_PROBE_BYTES} bytes",
            "exec can run a program that understands it, as in `file` or `xxd`",
        )
    return data


def is_binary(data: bytes) -> bool:
    """Say whether the beginning of a file shows that it is no text."""
    return b"\0" in data[:BINARY_PROBE_BYTES]


def line_text(line: bytes) -> str:
    """Return a line without its end as text, cut to LINE_BYTES_MAX, which is told."""
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    if len(line) <= LINE_BYTES_MAX:
        return line.decode("utf-8", "replace")
    end = LINE_BYTES_MAX
    while end > LINE_BYTES_MAX - _CHARACTER_BYTES_MAX and line[end] & 0xC0 == 0x80:
        end -= 1  # no character is cut in two
    return f"{line[:end].decode('utf-8', 'replace')}... [cut: the line has {len(line)} bytes]"
