"""One session as the bytes of one file: who it is, how it is started, and its state; written and read back.

    magic, version │ made: by what, when │ session: id, name, start, … │ state        a section: tag, length, crc32, bytes

Pure. It is *not* the file (host/write_file.py), nor what makes a session of it (host/moving.py). Rules: what is read is decoded
into declared types within bounds, and whatever is wrong with it is one InvalidRequest that names the archive and the place; a
later version, or a field that this one does not know, is refused by name and never passed over. Code that an archive holds or
names is bytes and text here: nothing of it is loaded.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec

from procession.host.core.state_fold import STATE_BYTES_MAX
from procession.ipc.core.bounds import PAYLOAD_BYTES_MAX, MiB
from procession.ipc.core.errors import InvalidRequest, MessageTooLarge
from procession.ipc.core.operations import StartBody

MAGIC: Final = b"\x89procession\r\n\x1a\n"
"""As PNG's: a transfer that takes the file for text, or stops at its end-of-file, changes it."""
VERSION: Final = 1
ABOUT_BYTES_MAX: Final = 64 * MiB
"""Of a section that is not the state: an agent's code by value, its tools and its responder are of some kilobytes."""
_HEADER: Final = struct.Struct(f"<{len(MAGIC)}sH")
_SECTION: Final = struct.Struct("<4sQI")
_MADE, _SESSION, _STATE = b"made", b"sess", b"stat"
_WORDS: Final = {_MADE: "what made it", _SESSION: "the session", _STATE: "the state"}


class Made(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What wrote an archive. version: of procession. at: seconds since the epoch."""

    version: str
    at: float


class _Spec(StartBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A StartBody, strictly: a field that is not known here would be lost without a word."""


class _Session(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    name: str
    created_at: float
    project: str
    number: int
    spec: _Spec


class Archive(NamedTuple):
    """A session as it was. project: the folder it worked in, on the machine it was on. number: of its last change there.

    spec: of its start, but for id, name, project and a code session's state. state: encoded, empty when its agent had not begun.
    """

    made: Made
    id: str
    name: str
    created_at: float
    project: str
    number: int
    spec: StartBody
    state: bytes


_encode: Final = msgspec.msgpack.Encoder().encode
_DECODERS: Final[dict[bytes, msgspec.msgpack.Decoder[Any]]] = {
    _MADE: msgspec.msgpack.Decoder(Made),
    _SESSION: msgspec.msgpack.Decoder(_Session),
}


def encode_archive(archive: Archive) -> bytes:
    """Return an archive as bytes. Raises MessageTooLarge for more than a call may bring."""
    spec = _Spec(**_fields(archive.spec))
    session = _Session(
        id=archive.id,
        name=archive.name,
        created_at=archive.created_at,
        project=archive.project,
        number=archive.number,
        spec=spec,
    )
    about = (_section(_MADE, _encode(archive.made)), _section(_SESSION, _encode(session)))
    size = _HEADER.size + sum(map(len, about)) + _SECTION.size + len(archive.state)
    if max(map(len, about)) > ABOUT_BYTES_MAX or size > PAYLOAD_BYTES_MAX:
        raise MessageTooLarge(
            f"an archive of {size} bytes is over the limit of {PAYLOAD_BYTES_MAX} bytes", code="payload_too_large"
        )
    return b"".join((_HEADER.pack(MAGIC, VERSION), *about, _section(_STATE, archive.state)))


def decode_archive(data: bytes, source: str) -> Archive:
    """Read an archive back. source: what errors call it. The state's own bytes are not looked into.

    Raises InvalidRequest: not_an_archive, archive_too_new, archive_damaged.
    """
    if len(data) < _HEADER.size or data[: len(MAGIC)] != MAGIC:
        raise InvalidRequest(f"{source}: this is no session archive", code="not_an_archive")
    version = _HEADER.unpack_from(data)[1]
    if version > VERSION:
        raise InvalidRequest(
            f"{source}: it is of version {version}, this procession reads versions up to {VERSION}",
            code="archive_too_new",
            hint="import it with the release that made it, or a later one",
        )
    if version < 1:
        raise damaged(source, f"there is no version {version}")
    reader = _Reader(data, source)
    made = reader.struct(_MADE)
    session = reader.struct(_SESSION)
    state = reader.section(_STATE, STATE_BYTES_MAX)
    if reader.offset != len(data):
        raise damaged(source, f"{len(data) - reader.offset} bytes follow its end")
    return Archive(
        made,
        session.id,
        session.name,
        session.created_at,
        session.project,
        session.number,
        StartBody(**_fields(session.spec)),
        state,
    )


def names_code(spec: StartBody) -> tuple[str, ...]:
    """Say what of an archive would run, or be imported, in a session made of it; nothing for a plain code session."""
    parts = {
        "an agent by value": spec.agent_code,
        f"the agent {spec.agent[:200]}": spec.agent,
        "a responder": spec.responder,
        "tools": spec.tools,
        "folders to import from": spec.import_paths,
        "modules to preload": spec.preload,
    }
    return tuple(words for words, found in parts.items() if found)


def damaged(source: str, what: str) -> InvalidRequest:
    """Say what is wrong with an archive."""
    return InvalidRequest(f"{source}: the archive is damaged: {what}", code="archive_damaged")


class _Reader:
    """Takes sections off the front, in their order."""

    def __init__(self, data: bytes, source: str) -> None:
        self.offset = _HEADER.size
        self._data = memoryview(data)
        self._source = source

    def section(self, tag: bytes, bytes_max: int) -> bytes:
        what = _WORDS[tag]
        start = self.offset + _SECTION.size
        if start > len(self._data):
            raise damaged(self._source, f"it ends before {what}")
        found, length, checksum = _SECTION.unpack_from(self._data, self.offset)
        if found != tag:
            raise damaged(self._source, f"at byte {self.offset} there should be {what}")
        if length > bytes_max:
            raise damaged(self._source, f"{what} would be of {length} bytes, over the limit of {bytes_max}")
        payload = self._data[start : start + length]
        if len(payload) != length:
            raise damaged(self._source, f"it ends in {what}: {len(payload)} of {length} bytes are there")
        if crc32(found + payload) != checksum:
            raise damaged(self._source, f"{what} does not have its checksum")
        self.offset = start + length
        return bytes(payload)

    def struct(self, tag: bytes) -> Any:
        payload = self.section(tag, ABOUT_BYTES_MAX)
        try:
            return _DECODERS[tag].decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
            raise damaged(self._source, f"{_WORDS[tag]} cannot be read: {str(problem)[:200]}") from None


def _section(tag: bytes, payload: bytes) -> bytes:
    return _SECTION.pack(tag, len(payload), crc32(tag + payload)) + payload


def _fields(spec: StartBody) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in StartBody.__struct_fields__}
