"""A disk that fails, below the real SQLite: a VFS that logs writes and syncs, and fails, waits or loses power on demand.

    SqliteStore ──▶ SQLite ──▶ this VFS ──▶ the default one ──▶ real files            images(rng): what a power cut leaves

It is written against the libsqlite3 that Python's own module is linked with, through ctypes: the default VFS is copied, its open
and delete and each file's write, truncate, sync and close are ours. What the store does itself comes through `disk.fdatasync`,
`disk.fsync` and `disk.rename`, which stand in for those of `os`.

The power cut's rule: what was synced is there; of what was not, any 512 bytes of any write may be there or not, in any order;
a file whose name was not synced may not be there, one whose deletion was not may be, and one may have its old name yet.
"""

import ctypes
import itertools
import os
import random
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

SECTOR_BYTES = 512
IOERR_WRITE, IOERR_FSYNC, IOERR_TRUNCATE, FULL = 778, 1034, 1546, 13
OK = 0

Op = Literal["write", "truncate", "sync", "delete", "create", "rename", "folder", "mark"]
_pointer, _int, _int64 = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_names = itertools.count()
_fsync, _rename = os.fsync, os.rename


class _Vfs(ctypes.Structure):
    """sqlite3_vfs, version 3."""


class _IoMethods(ctypes.Structure):
    """sqlite3_io_methods, version 3."""


class _File(ctypes.Structure):
    """sqlite3_file: the head of whatever a VFS keeps of an open file."""

    _fields_ = [("methods", ctypes.POINTER(_IoMethods))]


# A path is passed on as it came: SQLite keeps the pointer, and has more behind the text's end.
_OPEN = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _pointer, _int, _pointer)
_DELETE = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _int)
_CLOSE = ctypes.CFUNCTYPE(_int, _pointer)
_WRITE = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _int, _int64)
_TRUNCATE = ctypes.CFUNCTYPE(_int, _pointer, _int64)
_SYNC = ctypes.CFUNCTYPE(_int, _pointer, _int)

_Vfs._fields_ = [
    ("version", _int),
    ("file_bytes", _int),
    ("path_bytes", _int),
    ("next", _pointer),
    ("name", ctypes.c_char_p),
    ("data", _pointer),
    ("open", _OPEN),
    ("delete", _DELETE),
    *((f"more{n}", _pointer) for n in range(14)),
]
_IoMethods._fields_ = [
    ("version", _int),
    ("close", _CLOSE),
    ("read", _pointer),
    ("write", _WRITE),
    ("truncate", _TRUNCATE),
    ("sync", _SYNC),
    *((f"more{n}", _pointer) for n in range(13)),
]


def library_problem() -> str:
    """Say why there can be no such disk here; empty when there can."""
    return "" if _library_path() else "Python's sqlite3 module is not linked with a libsqlite3 of its own file"


def _library_path() -> str:
    assert sqlite3.sqlite_version  # the module is loaded, so that its library is
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return next((line.split()[-1] for line in maps if "libsqlite3" in line), "")


@dataclass
class Event:
    """One thing that was done to the disk. name: of a file, without its folder. data: written, or what a mark says."""

    op: Op
    name: str = ""
    offset: int = 0
    data: Any = b""


@dataclass
class Fault:
    """The n-th operation of a kind on files whose name ends so fails, and with `persistent` every later one."""

    op: Literal["write", "truncate", "sync"]
    code: int
    nth: int = 1
    persistent: bool = False
    suffix: str = ""
    seen: int = 0

    def strikes(self, op: str, name: str) -> bool:
        if op != self.op or not name.endswith(self.suffix):
            return False
        self.seen += 1
        return self.seen == self.nth or (self.persistent and self.seen > self.nth)


@dataclass
class _OnDisk:
    """One file as a power cut would find it: what is sure, and what is on its way."""

    sure: bytearray = field(default_factory=bytearray)
    pending: list[Event] = field(default_factory=list)
    name_is_sure: bool = True
    may_be_gone: bool = False
    former_name: str = ""


class FaultyDisk:
    """The disk of one VFS. log: everything, in order. fault: what fails. sync_s: how long each sync takes."""

    def __init__(self, name: str) -> None:
        self.vfs = name
        self.log: list[Event] = []
        self.fault: Fault | None = None
        self.sync_s = 0.0
        self.syncs = 0
        self.lock = threading.Lock()
        self._never = threading.Event()

    def mark(self, what: object) -> None:
        """Note in the log that this was told to somebody."""
        with self.lock:
            self.log.append(Event("mark", data=what))

    def fdatasync(self, fd: int) -> None:
        """Sync for a store: as os.fdatasync, through the faults."""
        code = self.begin("sync", os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        if code:
            raise OSError(5, "Input/output error (made by a test)")
        os.fdatasync(fd)
        self.done(Event("sync", os.path.basename(os.readlink(f"/proc/self/fd/{fd}")), data="data only"))

    def fsync(self, fd: int) -> None:
        """As os.fsync, of a file or of the folder."""
        _fsync(fd)
        path = os.readlink(f"/proc/self/fd/{fd}")
        self.done(Event("folder") if os.path.isdir(path) else Event("sync", os.path.basename(path), data="data only"))

    def rename(self, old: Path, new: Path) -> None:
        """As os.rename."""
        _rename(old, new)
        self.done(Event("rename", old.name, data=new.name))

    def begin(self, op: Literal["write", "truncate", "sync"], name: str) -> int:
        """Return the code that an operation fails with, 0 when it is to be done."""
        if op == "sync" and self.sync_s:
            self._never.wait(self.sync_s)
        with self.lock:
            self.syncs += op == "sync"
            return self.fault.code if self.fault is not None and self.fault.strikes(op, name) else OK

    def done(self, event: Event) -> None:
        """Log what was done. A sync is logged once it is over: what was written meanwhile is not sure."""
        with self.lock:
            self.log.append(event)

    # --- power cuts -----------------------------------------------------------------------------------------
    def image(self, length: int, rng: random.Random) -> dict[str, bytes]:
        """Return the files that a power cut after the first `length` events of the log may leave."""
        image = {}
        for name, of in disk_after(self.log[:length]).items():
            found = _survives(of, rng)
            if found is not None:
                image[of.former_name if of.former_name and rng.random() < 0.5 else name] = found
        return image


def disk_after(log: Sequence[Event]) -> dict[str, _OnDisk]:
    """Return what is sure and what is pending of every file after these events."""
    files: dict[str, _OnDisk] = {}
    for event in log:
        of = files.setdefault(event.name, _OnDisk()) if event.name else _OnDisk()
        match event.op:
            case "create":
                of.name_is_sure, of.may_be_gone = False, False
            case "write" | "truncate":
                of.pending.append(event)
            case "sync":
                for pending in of.pending:
                    _apply(of.sure, pending)
                of.pending.clear()
                of.name_is_sure = (
                    of.name_is_sure or event.data != "data only"
                )  # SQLite syncs the folder of a new file too
            case "delete":
                of.may_be_gone = True
                if event.data:
                    del files[event.name]
            case "rename":
                of.former_name = event.name
                files[event.data] = files.pop(event.name)
            case "folder":
                for name in [name for name, one in files.items() if one.may_be_gone]:
                    del files[name]
                for one in files.values():
                    one.name_is_sure, one.former_name = True, ""
    return files


def _survives(of: _OnDisk, rng: random.Random) -> bytes | None:
    if (of.may_be_gone or not of.name_is_sure) and rng.random() < 0.5:
        return None
    content = bytearray(of.sure)
    share = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    for event in of.pending:
        if event.op == "truncate":
            if rng.random() < share:
                _apply(content, event)
            continue
        for sector in _sectors(event):
            if rng.random() < share:
                _apply(content, sector)
    return bytes(content)


def _sectors(event: Event) -> Iterator[Event]:
    at, end = event.offset, event.offset + len(event.data)
    while at < end:
        upto = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield Event("write", event.name, at, event.data[at - event.offset : upto - event.offset])
        at = upto


def _apply(content: bytearray, event: Event) -> None:
    if event.op == "truncate":
        del content[event.offset :]
        content.extend(bytes(event.offset - len(content)))
        return
    if event.offset > len(content):
        content.extend(bytes(event.offset - len(content)))
    content[event.offset : event.offset + len(event.data)] = event.data


# --- the VFS ------------------------------------------------------------------------------------------------
@contextmanager
def faulty_disk() -> Iterator[FaultyDisk]:
    """Register a VFS of its own; `disk.vfs` is its name. Whatever is opened through it is closed before the end."""
    library = ctypes.CDLL(_library_path())
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
    disk = FaultyDisk(f"faulty-{next(_names)}")
    vfs = _Shim(library.sqlite3_vfs_find(None), disk)
    assert library.sqlite3_vfs_register(ctypes.byref(vfs.struct), 0) == OK
    try:
        yield disk
    finally:
        library.sqlite3_vfs_unregister(ctypes.byref(vfs.struct))
        assert not vfs.names, f"still open: {sorted(vfs.names.values())}"


class _Shim:
    """The functions of the VFS. names: of open files, by the address of SQLite's file."""

    def __init__(self, real: Any, disk: FaultyDisk) -> None:
        self.disk = disk
        self.names: dict[int, str] = {}
        self._real = real
        self._methods: dict[int, tuple[_IoMethods, _IoMethods]] = {}
        self.struct = _Vfs.from_buffer_copy(real.contents)
        self.struct.name = disk.vfs.encode()
        self.struct.next = None
        self.struct.open = _OPEN(self._open)
        self.struct.delete = _DELETE(self._delete)

    def _open(self, _vfs: int, path: int | None, file: int, flags: int, out: int | None) -> int:
        place = "" if path is None else ctypes.string_at(path).decode()
        is_new = bool(place) and not os.path.exists(place)
        code: int = self._real.contents.open(ctypes.cast(self._real, _pointer), path, file, flags, out)
        if code == OK and place:
            head = ctypes.cast(file, ctypes.POINTER(_File)).contents
            address = ctypes.addressof(head.methods.contents)
            if address not in self._methods:
                self._methods[address] = (head.methods.contents, self._ours(head.methods.contents))
            head.methods = ctypes.pointer(self._methods[address][1])
            name = os.path.basename(place)
            self.names[file] = name
            if is_new and os.path.exists(place):
                self.disk.done(Event("create", name))
        return code

    def _delete(self, _vfs: int, path: int, sync_folder: int) -> int:
        code: int = self._real.contents.delete(ctypes.cast(self._real, _pointer), path, sync_folder)
        if code == OK:
            self.disk.done(Event("delete", os.path.basename(ctypes.string_at(path)).decode(), data=bool(sync_folder)))
        return code

    def _ours(self, real: _IoMethods) -> _IoMethods:
        """Return the methods of a kind of file with ours in place of those that change it."""

        def close(file: int) -> int:
            self.names.pop(file)
            return int(real.close(file))

        def write(file: int, data: int, size: int, offset: int) -> int:
            name = self.names[file]
            code = self.disk.begin("write", name) or real.write(file, data, size, offset)
            if code == OK:
                self.disk.done(Event("write", name, offset, ctypes.string_at(data, size)))
            return int(code)

        def truncate(file: int, size: int) -> int:
            name = self.names[file]
            code = self.disk.begin("truncate", name) or real.truncate(file, size)
            if code == OK:
                self.disk.done(Event("truncate", name, size))
            return int(code)

        def sync(file: int, flags: int) -> int:
            name = self.names[file]
            code = self.disk.begin("sync", name) or real.sync(file, flags)
            if code == OK:
                self.disk.done(Event("sync", name))
            return int(code)

        ours = _IoMethods.from_buffer_copy(real)
        ours.close, ours.write, ours.truncate, ours.sync = (
            _CLOSE(close),
            _WRITE(write),
            _TRUNCATE(truncate),
            _SYNC(sync),
        )
        return ours


def write_image(image: dict[str, bytes], folder: Path) -> None:
    """Write the files of a power cut into a folder."""
    for name, content in image.items():
        (folder / name).write_bytes(content)
