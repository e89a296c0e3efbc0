"""What became of a tool call, as a text for a model: the value made into text, and the messages of both model APIs.

It is *not* the tool's own result, which the program gets as it is. Rules: a text stays as it is, everything else becomes
JSON; what is too long is cut and says so; an error begins with "Error: ", so that a model cannot take it for a result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, Final, Literal, assert_never

import msgspec

from procession.agent_proc.agent.tools.calls import ToolCall
from procession.agent_proc.agent.tools.spec import Api, check_api
from procession.ipc.core.bounds import MiB
from procession.ipc.core.errors import ProcessionError
from procession.ipc.core.records import Record

Status = Literal["ok", "error", "timeout"]

#: A message of a session is at most 4 MiB, and a character at most four bytes.
CONTENT_CHARS_MAX: Final = 1 * MiB - 1_024
ERROR_PREFIX: Final = "Error: "


class ToolResult(Record, frozen=True, kw_only=True):
    """The result of one tool call; `content` is without the prefix that messages give an error."""

    tool_call_id: str
    tool_name: str
    status: Status
    content: str
    duration_ms: int = 0

    @property
    def is_ok(self) -> bool:
        return self.status == "ok"

    @property
    def text(self) -> str:
        """What the model reads."""
        return self.content if self.is_ok else ERROR_PREFIX + self.content


def ok_result(call: ToolCall, value: object, duration_ms: int = 0) -> ToolResult:
    """Return the result of a call that gave `value`."""
    return _result(call, "ok", content_of(value), duration_ms)


def error_result(call: ToolCall, error: BaseException | str, duration_ms: int = 0) -> ToolResult:
    """Return the result of a call that was refused or failed; one that ran out of time is a timeout."""
    status: Status = "timeout" if isinstance(error, TimeoutError) else "error"
    return _result(call, status, _text_of_error(error), duration_ms)


def _result(call: ToolCall, status: Status, content: str, duration_ms: int) -> ToolResult:
    return ToolResult(
        tool_call_id=call.id, tool_name=call.name, status=status, content=cut_content(content), duration_ms=duration_ms
    )


def _text_of_error(error: BaseException | str) -> str:
    """Return what to tell: our errors are worth reading as they are, others are named by their type too."""
    if isinstance(error, str | ProcessionError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def cut_content(text: str) -> str:
    """Return `text` cut to CONTENT_CHARS_MAX characters, saying how many are missing."""
    over = len(text) - CONTENT_CHARS_MAX
    return text if over <= 0 else f"{text[:CONTENT_CHARS_MAX]}\n... ({over} more characters were cut)"


def content_of(value: object) -> str:
    """Return a value as text: a text as it is, anything else as JSON (bytes in base64), its `str()` if it has no JSON."""
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value, enc_hook=_plain).decode()
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return str(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits, which Python does not write
        return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__}"


def _plain(value: object) -> object:
    """Return what msgspec does not know as something it does."""
    if isinstance(value, PurePath):
        return str(value)
    dump = getattr(value, "model_dump", None)  # a pydantic model; asking for the class would import pydantic
    if callable(dump):
        return dump()
    raise TypeError(f"a {type(value).__name__} has no JSON")


def tool_messages(results: Iterable[ToolResult], api: Api) -> list[dict[str, Any]]:
    """Return the messages that answer a model's calls: one each for OpenAI, one with all for Anthropic.

    Raises InvalidRequest, code unknown_api.
    """
    check_api(api)
    match api:
        case "openai":
            return [{"role": "tool", "tool_call_id": one.tool_call_id, "content": one.text} for one in results]
        case "anthropic":
            blocks = [_anthropic_block(one) for one in results]
            return [{"role": "user", "content": blocks}] if blocks else []
        case _:
            assert_never(api)


def _anthropic_block(result: ToolResult) -> Mapping[str, Any]:
    block = {"type": "tool_result", "tool_use_id": result.tool_call_id, "content": result.text}
    return block if result.is_ok else {**block, "is_error": True}
