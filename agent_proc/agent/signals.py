"""A signal: what is told to an agent, and what it tells others. A CloudEvent 1.0 as a frozen value of plain data.

It is *not* how a signal travels (cloudevents_json.py has its JSON form; the mailbox carries it as it is) or whom it
reaches (router.py). Rules: a signal that exists is valid; types are dotted; ids and times come from a Moment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from procession.agent_proc.agent.patterns import check_type
from procession.agent_proc.agent.texts import TEXT_CHARS_MAX, check_text, shown
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import Value

if TYPE_CHECKING:
    from procession.agent_proc.agent.change import Moment

SPEC_VERSION: Final = "1.0"
SPEC_VERSIONS_READ: Final = frozenset({"1.0", "1.0.1", "1.0.2"})
"""The attribute is "1.0" in every patch release of the specification; some senders write the release instead."""
JSON_TYPE: Final = "application/json"

EXTENSIONS_MAX: Final = 32
"""Extensions carry tracing and routing; what is more belongs into the data."""
EXTENSION_NAME_CHARS_MAX: Final = 64
"""The specification advises 20 and allows any length: what others send is to be readable."""
TRACE: Final = "traceparent"
"""The extension that says of which trace a signal is (CloudEvents' extension for distributed tracing)."""
_INT32: Final = range(-(2**31), 2**31)

ATTRIBUTES: Final = frozenset(
    "id source type specversion time subject data data_base64 datacontenttype dataschema".split()
)

_EXTENSION: Final = re.compile(r"[a-z0-9]+", re.ASCII)
_URI_CHARS: Final = r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_REFERENCE: Final = re.compile(rf"{_URI_CHARS}+", re.ASCII)
_ABSOLUTE: Final = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*:{_URI_CHARS}+", re.ASCII)
_MEDIA_TYPE: Final = re.compile(r"[!#$&^_.+A-Za-z0-9-]+/[!#$&^_.+A-Za-z0-9-]+(?:[ \t]*;[^\x00-\x1f\x7f]*)?", re.ASCII)

Extension: TypeAlias = bool | int | str


class Signal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is told to an agent, or by one: a CloudEvent 1.0. Raises InvalidRequest, code invalid_signal_<attribute>.

    source: who says it, a URI reference such as `/procession/session/ID`. subject: what of the source it is about. time:
    aware. data: plain data; a mapping gives an action its parameters. extensions: bool, int of 32 bits or text.
    """

    id: str
    source: str
    type: str
    time: datetime | None = None
    data: Value = None
    subject: str | None = None
    datacontenttype: str | None = JSON_TYPE
    dataschema: str | None = None
    extensions: dict[str, Extension] = {}
    specversion: str = SPEC_VERSION

    def __post_init__(self) -> None:
        check_type(self.type)
        check_text(self.id, "a signal's id", code="invalid_signal_id")
        _check_form(self.source, _REFERENCE, "source", "a URI reference such as /procession/session/ID")
        check_subject(self.subject)
        _check_time(self.time)
        if self.datacontenttype is not None and self.datacontenttype != JSON_TYPE:
            _check_form(self.datacontenttype, _MEDIA_TYPE, "datacontenttype", "a media type such as application/json")
        if self.dataschema is not None:
            _check_form(self.dataschema, _ABSOLUTE, "dataschema", "an absolute URI")
        if self.specversion != SPEC_VERSION:
            raise _invalid("specversion", self.specversion, repr(SPEC_VERSION))
        if self.extensions:
            check_extensions(self.extensions)


def new_signal(
    type: str,
    data: Value = None,
    *,
    source: str,
    moment: Moment,
    subject: str | None = None,
    extensions: Mapping[str, Extension] | None = None,
) -> Signal:
    """Return a signal with a new id and the time of `moment`. Raises as Signal."""
    return Signal(
        id=moment.new_id(),
        source=source,
        type=type,
        time=moment.at,
        data=data,
        subject=subject,
        extensions=dict(extensions or {}),
    )


def trace_of(signal: Signal) -> str:
    """Return the trace context that a signal carries (W3C's traceparent), empty for none."""
    trace = signal.extensions.get(TRACE)
    return trace if type(trace) is str else ""


def traced(signal: Signal, trace: str) -> Signal:
    """Return `signal` with this trace context, if there is one; a signal that has its own, or no room for it, stays as it is."""
    if not trace or TRACE in signal.extensions or len(signal.extensions) >= EXTENSIONS_MAX:
        return signal
    return msgspec.structs.replace(signal, extensions={**signal.extensions, TRACE: trace})


def _invalid(attribute: str, value: object, allowed: str) -> InvalidRequest:
    return InvalidRequest(
        f"a signal's {attribute} must be {allowed}, not {shown(value)}", code=f"invalid_signal_{attribute}"
    )


def _check_time(time: object) -> None:
    if time is not None and (not isinstance(time, datetime) or time.tzinfo is None):
        raise _invalid("time", time, "a datetime with a time zone")


def _check_form(value: object, form: re.Pattern[str], attribute: str, allowed: str) -> None:
    if type(value) is not str or len(value) > TEXT_CHARS_MAX or form.fullmatch(value) is None:
        raise _invalid(attribute, value, allowed)


def check_subject(subject: object) -> None:
    """Refuse what is neither None nor a text: InvalidRequest, code invalid_signal_subject."""
    if subject is not None:
        check_text(subject, "a signal's subject", code="invalid_signal_subject")


def check_extensions(extensions: object) -> None:
    """Refuse what cannot be the extensions of a signal: InvalidRequest, code invalid_signal_extensions."""
    if type(extensions) is not dict or len(extensions) > EXTENSIONS_MAX:
        raise _invalid("extensions", extensions, f"a dict of at most {EXTENSIONS_MAX} entries")
    for name, value in extensions.items():
        if (
            type(name) is not str
            or len(name) > EXTENSION_NAME_CHARS_MAX
            or name in ATTRIBUTES
            or _EXTENSION.fullmatch(name) is None
        ):
            raise InvalidRequest(
                f"a signal cannot have an extension named {shown(name)}",
                code="invalid_signal_extensions",
                hint=f"a name is 1 to {EXTENSION_NAME_CHARS_MAX} of a-z and 0-9, and none of the attributes",
            )
        if type(value) is str:
            if value:  # a text, and a text may be empty
                check_text(value, f"a signal's extension {name}", code="invalid_signal_extensions")
        elif type(value) is not bool and (type(value) is not int or value not in _INT32):
            raise _invalid("extensions", value, f"bool, int of 32 bits or text: {name} is")
