"""A request's body as it travels, or why it cannot: the one net under all checks of arguments.

It is *not* where an argument is checked, by name and with a hint (api/checks.py). Rule: what cannot be encoded is refused
before anybody has acted on it, in the program's own process too, where nothing has to be encoded.
"""

from __future__ import annotations

from procession.ipc.core.backend import Request
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.messages import encode


def encoded_body(request: Request) -> bytes:
    """Return a request's body as it travels. Raises InvalidRequest, code not_plain_data, for what a caller's own types are."""
    try:
        return encode(request.body)
    except (
        TypeError,
        ValueError,
        OverflowError,
    ) as error:  # a subclass of text or int among the arguments, or half a surrogate
        raise InvalidRequest(
            f"an argument of {request.op.name} cannot be sent: {error}",
            code="not_plain_data",
            hint="give plain text and numbers: str(...), int(...)",
        ) from None
