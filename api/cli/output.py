"""What the command line prints: lines, JSON, errors, and words for figures; tables are in tables.py.

A terminal gets colours, not with NO_COLOR. Rules: text of a session never reaches a terminal with its control characters;
the keys of `--json` are those of the records, all of them, always.
"""

from __future__ import annotations

import base64
import os
import sys
from typing import Any, Final, TextIO

import msgspec

from procession.ipc.core.records import KillReceipt, OutputChunk

#: A message is for reading: longer ones are in `--json`, `why` and `inspect`.
LINES_MAX: Final = 40

#: Text is not wrapped into less than this.
WRAPPED_CHARS_MIN: Final = 24

Cell = str | tuple[str, str]
"""Text, or text with the name of a style."""

_JOINERS: Final = "\u200c\u200d"
#: What a phase, an ending or a verdict looks like; anything else is plain.
STYLES: Final = {
    "good": "green",
    "bad": "red",
    "odd": "yellow",
    "dim": "dim",
    "ready": "green",
    "starting": "yellow",
    "backoff": "yellow",
    "stopping": "yellow",
    "failed": "red",
    "down": "dim",
    "stopped": "dim",
}


def colours(stream: TextIO) -> bool:
    """Say whether `stream` takes colours: a terminal, and NO_COLOR is not set to anything."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def clean(text: str, *, lines: bool = False) -> str:
    """Make text of a session safe for a terminal: control characters are shown, not obeyed. lines: newlines and tabs stay.

    What joins characters to one, a family of emoji for example, stays too.
    """
    kept = _JOINERS + ("\n\t" if lines else "")
    return "".join(c if c in kept or c.isprintable() else _shown(c) for c in text)


def _shown(character: str) -> str:
    if character in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


# --- error lines --------------------------------------------------------------------------------------------
def complain(message: str, hint: str = "") -> None:
    """Write one error line, and its hint under it, to stderr."""
    first, *rest = clean(message, lines=True).splitlines() or [""]
    red, dim, off = ("\x1b[31m", "\x1b[2m", "\x1b[0m") if colours(sys.stderr) else ("", "", "")
    begin, *more = wrapped(f"procession: {first}", sys.stderr, indent=2)
    lines = [f"{red}procession:{off}{begin.removeprefix('procession:')}"]
    lines += [f"  {line}" for line in (*more, *rest[:LINES_MAX])]
    if hint:
        lines += [f"  {dim}{line}{off}" for line in wrapped(f"hint: {clean(hint)}", sys.stderr, indent=2)]
    _write_err("\n".join(lines) + "\n")


def note(text: str) -> None:
    """Write one line of ours to stderr, dim on a terminal."""
    dim, off = ("\x1b[2m", "\x1b[0m") if colours(sys.stderr) else ("", "")
    _write_err(dim + "\n  ".join(wrapped(f"procession: {clean(text)}", sys.stderr, indent=2)) + off + "\n")


def _write_err(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:  # nobody reads it, or its disk is full: there is no one to tell
        let_go_of(2)
    except ValueError:  # it is closed
        pass


def let_go_of(fd: int) -> None:
    """Nobody takes what is still to be written: keep the interpreter from complaining when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), fd)


# --- JSON ---------------------------------------------------------------------------------------------------
def plain(value: object) -> Any:
    """Turn a record into what JSON has: every field present, bytes as base64 text, times as ISO 8601, other values as text."""
    if isinstance(value, OutputChunk):
        return {
            "stream": value.stream,
            "call": value.call,
            "dropped": value.dropped,
            "text": value.text,
            "data": plain(value.data),
        }
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if value is None or isinstance(value, str | int | float):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)  # of a session's state, whatever it holds


def print_json(value: object, *, line: bool = False) -> None:
    """Print a JSON document; line: on one line, for following verbs."""
    import json

    text = json.dumps(plain(value), ensure_ascii=False, indent=None if line else 2)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# --- lines -------------------------------------------------------------------------------------------------
def say(text: str) -> None:
    """Print a line to stdout, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def verdict(text: str, *, good: bool) -> None:
    """Print the last line of a check, green or red on a terminal."""
    colour, off = ("\x1b[32m" if good else "\x1b[31m", "\x1b[0m") if colours(sys.stdout) else ("", "")
    say(colour + "\n".join(wrapped(clean(text), sys.stdout)) + off)


def wrapped(line: str, stream: TextIO, *, indent: int = 0) -> list[str]:
    """Break a line between words to fit a terminal beside `indent` columns; for anything else it stays whole."""
    if not stream.isatty():
        return [line]
    import shutil
    import textwrap

    room = max(shutil.get_terminal_size().columns - indent, WRAPPED_CHARS_MIN)
    return textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False) or [""]


# --- words for figures --------------------------------------------------------------------------------------
def seconds(value: float) -> str:
    """Say a span of time: `12 ms`, `3.4 s`, `5 min`, `2.5 h`, `3 d`."""
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 99.95:
        return f"{value:.1f} s"
    if value < 5400:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h" if value < 172_800 else f"{value / 86_400:.0f} d"


def size(value: int) -> str:
    """Say a number of bytes with a binary unit."""
    if value < 1024:
        return f"{value} B"
    amount = float(value)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 999.5 or unit == "GiB":
            return f"{amount:.3g} {unit}" if amount < 999.5 else f"{amount:.0f} {unit}"
    raise AssertionError("the last unit takes everything")


def receipt_words(receipt: KillReceipt) -> str:
    """Say what an end did: `3 processes found, 0 left (scoped)`."""
    words = f"{count(receipt.found, 'process', 'processes')} found, {receipt.left} left"
    how = [receipt.method] if receipt.method not in ("", "none") else []
    how += ["escalated"] if receipt.escalated else []
    how += ["keeper lost"] if receipt.keeper_lost else []
    return f"{words} ({', '.join(how)})" if how else words


def count(number: int, one: str, many: str = "") -> str:
    """Say `1 session`, `2 sessions`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
