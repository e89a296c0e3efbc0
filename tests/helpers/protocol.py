"""Write docs/protocol.md from the code that speaks it: messages.py, connection.py, frames.py, operations.py.

`PYTHONPATH=tests .venv/bin/python -m helpers.protocol` writes it; a test holds the page to the code. The modules' own
words are used wherever they have them, so that a rule is written once.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from helpers.sources import REPOSITORY
from procession.ipc.core import bounds, connection, frames, messages, operations, records

PAGE_FILE = Path("docs/protocol.md")

CHANNELS: tuple[tuple[str, str, tuple[tuple[str, str, object], ...]], ...] = (
    (
        "Mailbox",
        """\
Two pipes between the host and one session process. `inc` is the incarnation: a message of another one is dropped and
counted. `seq` numbers the calls of that incarnation.""",
        (("Host to session", "to_session", messages.ToSession), ("Session to host", "to_host", messages.ToHost)),
    ),
    (
        "Control socket",
        "A Unix stream socket between `Host.connect()` or the command line and a host that serves one.",
        (("Client to host", "to_server", messages.ToServer), ("Host to client", "to_client", messages.ToClient)),
    ),
    (
        "Zygote socket",
        "A Unix packet socket; one packet is one message, without a header. Descriptors travel beside the packet.",
        (("Host to zygote", "to_zygote", messages.ToZygote), ("Zygote to host", "from_zygote", messages.FromZygote)),
    ),
    (
        "Keeper's status pipe",
        """\
What a keeper tells whoever asked for it: the host, or a session process for one run. Commands go the other way as
single bytes: `T` SIGTERM to the tree, then SIGKILL after the grace; `K` SIGKILL at once; `A` SIGABRT to the main
process for a stack, then SIGKILL; `I` SIGINT to the main process alone. End of file means `K`.""",
        (("Keeper to its owner", "from_keeper", messages.FromKeeper),),
    ),
)

HEAD = """\
# Protocol

What passes between the processes of procession, byte by byte and message by message. This page is generated from
`ipc/core/frames.py`, `ipc/core/connection.py`, `ipc/core/messages.py` and `ipc/core/operations.py`, and a test holds it
to them. The wire version is {version}: both ends of a channel refuse another one, naming both.

## Frames

Every byte stream (mailbox, control socket, status pipe) is cut into frames:

```text
{figure}
```

- A frame carries at most {frame}, a message at most {message}. Run arguments and results above {inline} do not travel
  in it: they lie in an arena, a sealed memory file that both sides hold, and the message names offset and length.
- A frame that has begun must be complete within {complete:g} s of its reader's reading time.
- The payload is MessagePack. An envelope is decoded strictly into the declared types below; `Raw` is a body that is
  left as bytes until whoever asked decodes it into the type that the table of operations gives.
- Values that a session sends are walked before anything is built of them: depth at most {depth}, at most {nodes:,}
  nodes ({result_nodes:,} in a run's result), no extension types, no bytes after the value.

## The rules of a connection

{rules}

| role | its first message | the first it accepts |
|---|---|---|
{greetings}

Anything that is not one of a direction's messages, or comes out of its place, is a breach. A breach is final: the host
ends the session that made it, a server closes the connection.
"""

OPERATIONS_HEAD = """
## Operations

What a `Call` (to a session) or an `Ask` (to a host) may name. The request and the result are MessagePack maps of the
fields given; a field that has its default may be left out. A `run` is guarded by its worker's deadline, a `query` is
answered by the session's loop at once, `control` overtakes both, and `host` never reaches a session process.

| operation | answered by | lane | default timeout | request | result |
|---|---|---|---|---|---|"""

RECORDS_HEAD = """
## Records

The records that messages, requests and results name; maps, as above.

| record | fields |
|---|---|"""

MESSAGES_HEAD = "| tag | message | fields | meaning |\n|---|---|---|---|"


def render_page() -> str:
    """Write the page."""
    lines = [
        HEAD.format(
            version=bounds.WIRE_VERSION,
            figure=_figure_of(frames.__doc__ or ""),
            frame=_size(bounds.FRAME_BYTES_MAX),
            message=_size(bounds.MESSAGE_BYTES_MAX),
            inline=_size(bounds.INLINE_BYTES_MAX),
            complete=bounds.FRAME_COMPLETE_S,
            depth=bounds.BODY_DEPTH_MAX,
            nodes=bounds.BODY_NODES_MAX,
            result_nodes=bounds.RESULT_NODES_MAX,
            rules=_rules_of(connection.__doc__ or ""),
            greetings="\n".join(_greetings()),
        )
    ]
    for title, text, directions in CHANNELS:
        lines += [f"## {title}\n\n{text}\n"]
        for name, direction, union in directions:
            assert messages.decoder(direction)
            lines += [f"### {name}\n", MESSAGES_HEAD, *(_message_row(kind) for kind in _members(union)), ""]
    payloads = (messages.Inline, messages.Arena)
    lines += ["A payload is `nil`, or one of:\n", MESSAGES_HEAD, *(_message_row(kind) for kind in payloads)]
    lines += [OPERATIONS_HEAD, *(_operation_row(row) for row in operations.OPERATIONS.values())]
    lines += [RECORDS_HEAD, *(f"| `{kind.__name__}` | {', '.join(_fields(kind))} |" for kind in _records()), ""]
    return "\n".join(lines)


def _records() -> list[type[msgspec.Struct]]:
    """List the records that the page names, those that records name included."""
    found: dict[str, type[msgspec.Struct]] = {}
    waiting: list[type[msgspec.Struct]] = [
        kind for _, _, ways in CHANNELS for *_, union in ways for kind in _members(union)
    ]
    for row in operations.OPERATIONS.values():
        waiting += [row.params, row.result]
    for kind in waiting:
        for hint in get_type_hints(kind).values():
            for record in _structs_in(hint):
                if record.__name__ not in found and not issubclass(record, messages.Message):
                    found[record.__name__] = record
                    waiting.append(record)
        if issubclass(kind, records.Record):
            found.setdefault(kind.__name__, kind)
    return [found[name] for name in sorted(found)]


def _structs_in(hint: object) -> Iterator[type[msgspec.Struct]]:
    if isinstance(hint, type) and not get_origin(hint) and issubclass(hint, msgspec.Struct):
        yield hint
    for part in get_args(hint):
        yield from _structs_in(part)


def _figure_of(text: str) -> str:
    """Take the indented figure out of a module's docstring."""
    found = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    assert found, "frames.py draws its frame"
    return "\n".join(found)


def _rules_of(text: str) -> str:
    """Take the list of rules out of a module's docstring."""
    _, found, rules = text.partition("Rules:\n")
    assert found, "connection.py states its rules"
    return rules.strip()


def _greetings() -> Iterator[str]:
    ours = {"host": "session", "session": "host", "client": "server", "server": "client"}
    for role, other in ours.items():
        first = " or ".join(f"`{kind.__name__}`" for kind in connection._FIRST[role])
        said = connection._GREETINGS[other]
        yield f"| {role} | `{said.__name__}` | {first} |"


def _members(union: object) -> tuple[type[messages.Message], ...]:
    return get_args(union) or (union,)


def _message_row(kind: type[messages.Message]) -> str:
    fields = ", ".join(_fields(kind)) or "none"
    return f"| {kind.__struct_config__.tag} | `{kind.__name__}` | {fields} | {_one_line(kind.__doc__)} |"


def _operation_row(row: operations.Operation) -> str:
    timeout = "until cancelled" if row.timeout_s is None else f"{row.timeout_s:g} s"
    streams = ", streams" if row.streams else ""
    asked, given = (_body_text(kind) for kind in (row.params, row.result))
    return f"| `{row.name}` | {row.target} | {row.lane}{streams} | {timeout} | {asked} | {given} |"


def _body_text(kind: type[msgspec.Struct]) -> str:
    if issubclass(kind, records.Record):
        return f"`{kind.__name__}`"
    return ", ".join(_fields(kind)) or "none"


def _fields(kind: type[msgspec.Struct]) -> Iterator[str]:
    hints = get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        yield f"`{field.encode_name}: {_type_name(hints[field.name])}`"


def _type_name(hint: object) -> str:
    """Write a type as its source would, without commas and bars that a table would misread."""
    origin, inside = get_origin(hint), get_args(hint)
    if hint is type(None):
        return "nil"
    if hint is Ellipsis:
        return "..."
    if origin in {Union, types.UnionType}:
        if set(inside) == set(get_args(messages.Payload)):
            return "Payload"
        return " or ".join(_type_name(part) for part in inside)
    if origin is Literal:
        return " or ".join(f'"{part}"' for part in inside)
    name = getattr(origin or hint, "__name__", str(hint))
    return f"{name}[{', '.join(_type_name(part) for part in inside)}]" if inside else name


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "/")


def _size(count: int) -> str:
    return f"{count // bounds.MiB} MiB" if count % bounds.MiB == 0 else f"{count // bounds.KiB} KiB"


def main() -> None:
    """Write the page."""
    (REPOSITORY / PAGE_FILE).write_text(render_page(), encoding="utf-8")
    print(f"{PAGE_FILE} written")


if __name__ == "__main__":
    main()
