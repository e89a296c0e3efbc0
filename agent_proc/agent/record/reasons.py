"""Why what was given is refused: reasons with their codes, in order, and the one error they make.

It is *not* an error tree: a refusal is the InvalidRequest of `ipc/core/errors.py`, whose `.code` is the first reason's
and whose `.codes` are all of them.

Rules: a check returns a Reason or None and never raises, so that whoever calls it chooses between the first reason and
all of them; a text says what was given and what is allowed, a hint what to do.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from procession.ipc.core.errors import InvalidRequest

#: What was given is shown this far: enough to know it again, too little to fill a log.
_SHOWN_CHARS_MAX: Final = 80
_SHOWN_BITS_MAX: Final = 64
"""Python refuses to write integers of thousands of digits."""


class Reason(NamedTuple):
    """One reason: a stable word for programs, a text for people, and what to do about it."""

    code: str
    text: str
    hint: str = ""


def refusal(*reasons: Reason) -> InvalidRequest:
    """Make the error for one or more reasons; its attribute `codes` has the code of each, in the order given."""
    assert reasons, "nothing was refused"
    text = "; ".join(reason.text for reason in reasons)
    hints = dict.fromkeys(reason.hint for reason in reasons if reason.hint)
    codes = tuple(reason.code for reason in reasons)
    return InvalidRequest(text, code=codes[0], codes=codes, hint="; ".join(hints))


def shown(value: object) -> str:
    """Return what was given as a short text that any message holds: a scalar as Python writes it, else its type."""
    if type(value) is str:
        text = repr(value[:_SHOWN_CHARS_MAX])
        return text if len(value) <= _SHOWN_CHARS_MAX else text + "..."
    if type(value) is int and value.bit_length() > _SHOWN_BITS_MAX:
        return f"an integer of {value.bit_length()} bits"
    if value is None or type(value) in (bool, int, float):
        return repr(value)
    return f"a {type(value).__name__}"
