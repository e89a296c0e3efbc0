"""What one run may use: sizes as numbers of bytes or as text such as `"256M"`.

Pure values. Enforcing them is the keeper's and the kernel's business.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from procession.ipc.core.errors import InvalidRequest

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(?:i?[bB])?\s*$")
_FACTOR = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
#: Below this an interpreter cannot even report its own MemoryError.
MEMORY_BYTES_MIN = 16 * 1024 * 1024
#: One exabyte: above every machine, below every overflow.
SIZE_BYTES_MAX = 1 << 60
#: Thirty years: above every run.
CPU_S_MAX = 1e9


_SHOWN_BITS: Final = 256
"""Of a whole number in an error: Python does not write one of thousands of digits at all."""


def parse_size(value: float | str, name: str = "size") -> int:
    """Read a size in bytes from a number or from text with a binary unit (`"512K"`, `"256M"`, `"1.5G"`).

    Raises InvalidRequest (code `invalid_limit`) for anything else, naming the limit and what was given.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise InvalidRequest(
            f"{name}: a size is a number of bytes or text like '256M', not {type(value).__name__}", code="invalid_limit"
        )
    if isinstance(value, str):
        found = _SIZE.match(value)
        if found is None:
            raise InvalidRequest(
                f"{name}: cannot read {value!r} as a size",
                code="invalid_limit",
                hint="write a number and K, M, G or T, for example '256M'",
            )
        value = float(found[1]) * _FACTOR[found[2].lower()]
    if not 0 < value <= SIZE_BYTES_MAX:  # NaN compares false, so it is refused here too
        raise InvalidRequest(f"{name}: {_shown(value)} is not a size above zero", code="invalid_limit")
    return int(value)


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return f"an integer of {value.bit_length()} bits"
    return f"{value!r:.80}"


def _count(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidRequest(f"{name}: must be a whole number of at least 1, not {_shown(value)}", code="invalid_limit")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= CPU_S_MAX:
        raise InvalidRequest(f"cpu_s: must be seconds above zero, not {_shown(value)}", code="invalid_limit")
    return float(value)


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bounds of one run; None leaves a resource unbounded.

    memory: bytes or "256M", for the whole process tree of the run. cpu_s: CPU seconds of the tree.
    processes: processes alive at once in the tree. open_files: descriptors of each process. file_size: bytes of any
    one file written. output: bytes printed in all (stdout and stderr); without it output is only trimmed, never fatal.
    """

    memory: int | str | None = None
    cpu_s: float | None = None
    processes: int | None = None
    open_files: int | None = None
    file_size: int | str | None = None
    output: int | str | None = None

    def __post_init__(self) -> None:
        put = msgspec.structs.force_setattr
        for name in ("memory", "file_size", "output"):
            value = getattr(self, name)
            if value is not None:
                put(self, name, parse_size(value, name))
        if self.memory is not None and int(self.memory) < MEMORY_BYTES_MIN:
            raise InvalidRequest(
                f"memory: {self.memory} bytes is less than an interpreter needs",
                code="invalid_limit",
                hint=f"give at least {MEMORY_BYTES_MIN // 1024**2}M",
            )
        for name in ("processes", "open_files"):
            value = getattr(self, name)
            if value is not None:
                _count(value, name)
        if self.open_files is not None and self.open_files < 16:
            raise InvalidRequest("open_files: a Python program needs at least 16", code="invalid_limit")
        cpu = self.cpu_s
        if cpu is not None:
            put(self, "cpu_s", _seconds(cpu))

    @property
    def memory_bytes(self) -> int | None:
        return None if self.memory is None else int(self.memory)

    @property
    def file_bytes(self) -> int | None:
        return None if self.file_size is None else int(self.file_size)

    @property
    def output_bytes(self) -> int | None:
        return None if self.output is None else int(self.output)

    def over(self, base: Limits | None) -> Limits:
        """Return these limits with every unset field taken from `base`."""
        if base is None:
            return self
        return Limits(
            **{n: getattr(base, n) if getattr(self, n) is None else getattr(self, n) for n in self.__struct_fields__}
        )


def merge(run: Limits | None, session: Limits | None) -> Limits:
    """Return the limits of a run: its own, else the session's, else none."""
    return (run or Limits()).over(session)
