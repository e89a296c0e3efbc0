"""Signals to and from the JSON event format of CloudEvents 1.0, for those who speak it: the CLI, the web, other programs.

It is *not* the wire of the mailbox. Rules: what JSON cannot say is refused, never approximated, with one exception: a
datetime in the data is written as RFC 3339 text. Bytes as the whole data go as `data_base64`. Reading trusts nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from procession.agent_proc.agent.signals import ATTRIBUTES, SPEC_VERSION, SPEC_VERSIONS_READ, Signal
from procession.agent_proc.agent.texts import shown
from procession.ipc.core.bounds import BODY_DEPTH_MAX, MESSAGE_BYTES_MAX
from procession.ipc.core.errors import InvalidRequest

SIGNAL_JSON_BYTES_MAX: Final = MESSAGE_BYTES_MAX
"""A signal travels inside the mailbox afterwards."""

_REQUIRED: Final = ("id", "source", "specversion", "type")
_OPTIONAL: Final = ("subject", "datacontenttype", "dataschema")
#: fromisoformat takes more than RFC 3339 does: week dates, and times without an offset.
_TIMESTAMP: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_SUBSECOND: Final = re.compile(r"\.(\d{6})\d+", re.ASCII)


def to_json(signal: Signal) -> str:
    """Return `signal` as CloudEvents JSON. Raises InvalidRequest, code invalid_signal_data, for data JSON cannot say."""
    event: dict[str, Any] = {name: getattr(signal, name) for name in _REQUIRED}
    event |= {name: value for name in _OPTIONAL if (value := getattr(signal, name)) is not None}
    if signal.time is not None:
        event["time"] = _timestamp(signal.time)
    event |= signal.extensions
    if type(signal.data) is bytes:
        event["data_base64"] = base64.b64encode(signal.data).decode("ascii")
    elif signal.data is not None:
        event["data"] = _jsonable(signal.data, "data", 0)
    return json.dumps(event, ensure_ascii=False, allow_nan=False)


def from_json(text: str | bytes) -> Signal:
    """Return the signal that `text` describes.

    Raises InvalidRequest: code invalid_signal for what is no CloudEvent at all, else invalid_signal_ATTRIBUTE.
    """
    if len(text) > SIGNAL_JSON_BYTES_MAX:
        raise _no_event(f"it is {len(text)} long, at most {SIGNAL_JSON_BYTES_MAX} is allowed")
    try:
        event = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise _no_event("it nests too deep") from None
    except ValueError as error:  # the JSON, its UTF-8, or a number of more digits than Python reads
        raise _no_event(str(error)) from None
    return from_mapping(event)


def from_mapping(event: Mapping[str, Any]) -> Signal:
    """Return the signal that the members of a JSON object describe. Raises as from_json."""
    if not isinstance(event, Mapping):
        raise _no_event(f"it is {shown(event)}, not an object")
    given = {name: value for name, value in event.items() if value is not None}  # null is how JSON says "not there"
    for name in _REQUIRED:
        if name not in given:
            raise InvalidRequest(
                f"a signal needs its {name}", code=f"invalid_signal_{name}", hint="required: " + ", ".join(_REQUIRED)
            )
    version = given["specversion"]
    return Signal(
        id=given["id"],
        source=given["source"],
        type=given["type"],
        time=_read_time(given.get("time")),
        data=_read_data(given),
        subject=given.get("subject"),
        datacontenttype=given.get("datacontenttype"),
        dataschema=given.get("dataschema"),
        extensions={name: value for name, value in given.items() if name not in ATTRIBUTES},
        specversion=SPEC_VERSION if type(version) is str and version in SPEC_VERSIONS_READ else version,
    )


def _no_event(why: str) -> InvalidRequest:
    return InvalidRequest(f"this is no CloudEvent in JSON: {why}", code="invalid_signal")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _timestamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _read_time(value: object) -> datetime | None:
    if value is None:
        return None
    if type(value) is str and _TIMESTAMP.fullmatch(value):
        try:
            return datetime.fromisoformat(_SUBSECOND.sub(r".\1", value.upper()))
        except ValueError:
            pass
    raise InvalidRequest(
        f"a signal's time must be an RFC 3339 timestamp such as 2026-01-31T12:00:00Z, not {shown(value)}",
        code="invalid_signal_time",
    )


def _read_data(given: Mapping[str, Any]) -> Any:
    encoded = given.get("data_base64")
    if encoded is None:
        return given.get("data")
    if "data" in given:
        raise InvalidRequest("a signal has data or data_base64, not both", code="invalid_signal_data")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise InvalidRequest("a signal's data_base64 is no base64 text", code="invalid_signal_data") from None


def _jsonable(value: object, where: str, depth: int) -> object:
    """Return `value` as json.dumps takes it, looking at every part: dumps would turn keys and tuples into others."""
    if depth > BODY_DEPTH_MAX:
        raise _unsayable(where, f"it nests deeper than {BODY_DEPTH_MAX} levels")
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            if value - value != 0:
                raise _unsayable(where, f"JSON has no {value}")
            return value
        case datetime() if value.tzinfo is not None:
            return _timestamp(value)
        case list():
            return [_jsonable(item, f"{where}[{at}]", depth + 1) for at, item in enumerate(value)]
        case dict():
            if not all(type(key) is str for key in value):
                raise _unsayable(where, "a key of it is not a text")
            return {key: _jsonable(item, f"{where}.{key}", depth + 1) for key, item in value.items()}
        case _:
            raise _unsayable(where, f"JSON has no {type(value).__name__}")


def _unsayable(where: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"the signal cannot be written as JSON at {where[:200]}: {why}",
        code="invalid_signal_data",
        hint="use None, bool, int, finite float, text, list and dict; or bytes as the whole data",
    )
