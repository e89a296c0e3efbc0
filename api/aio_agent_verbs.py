# ruff: noqa: ASYNC109 - `timeout` is the deadline that the session keeps, the same parameter as the sync face's
"""The async verbs of a session's agent: its messages, todos, context and the rest of the contract, and signals.

It is *not* a handle of its own: AsyncSession inherits from it. Rules: one typed line a verb, over
`core/agent_plans.py`; everything is refused by the agent itself, with its code; what comes back is a copy, and no change of
it reaches the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from procession.api.aio_text_stream import AsyncTextStream
from procession.api.casting import cast_plan
from procession.api.checks import check_count_or_none, check_text, check_timeout, text_of_path
from procession.api.core import agent_plans as p
from procession.api.core import plans
from procession.api.core.plans import Plan
from procession.api.verbs import OnOutput, OnText, PathLike, send_message, split_output, text_of_output
from procession.ipc.core.agent_records import (
    AccessStats,
    AgentStatus,
    ConnectionStatus,
    ContextItem,
    DebugEvent,
    Finished,
    Memory,
    Message,
    MessagePage,
    PendingMemory,
    PromotionStats,
    ReasoningStep,
    SessionRecord,
    Todo,
    ToolCallRecord,
)
from procession.ipc.core.bounds import AWAIT_TIMEOUT_S, QUERY_TIMEOUT_S
from procession.ipc.core.operations import OPERATIONS

T = TypeVar("T")
_ACT: Final = OPERATIONS["act"]
_AWAIT: Final = OPERATIONS["await_result"]


class _Do(Protocol):
    def __call__(self, plan: Plan[T], /) -> Awaitable[T]: ...


class AsyncSessionContext:
    """The working context of a code session: what is known of the task, under eleven keys, within a budget of tokens."""

    __slots__ = ("_do", "_id")

    def __init__(self, do: _Do, id: str) -> None:
        self._do = do
        self._id = id

    async def get(self, key: str, *, timeout: float = QUERY_TIMEOUT_S) -> Any:
        """Return a value; counts as a use. Raises InvalidRequest (key_not_found, invalid_context_key)."""
        return await self._do(p.get_context(self._id, key, check_timeout(timeout, _ACT)))

    async def set(
        self,
        key: str,
        value: object,
        *,
        source: str = "explicit",
        confidence: float = 0.8,
        memory_type: str | None = None,
        timeout: float = QUERY_TIMEOUT_S,
    ) -> ContextItem:
        """Put a value; the items that were used least go when the budget is passed."""
        return await self._do(
            p.update_context(self._id, key, value, source, confidence, memory_type, check_timeout(timeout, _ACT))
        )

    async def set_many(self, values: Mapping[str, object], *, timeout: float = QUERY_TIMEOUT_S) -> None:
        """Replace the whole context."""
        await self._do(p.set_context(self._id, values, check_timeout(timeout, _ACT)))

    async def all(self, *, timeout: float = QUERY_TIMEOUT_S) -> dict[str, Any]:
        """Return all values by key; counts as no use."""
        return await self._do(p.get_all_context(self._id, check_timeout(timeout, _ACT)))

    async def item(self, key: str, *, timeout: float = QUERY_TIMEOUT_S) -> ContextItem:
        """Return an item with what is known of it; counts as no use."""
        return await self._do(p.get_context_item(self._id, key, check_timeout(timeout, _ACT)))

    async def clear(self, *, timeout: float = QUERY_TIMEOUT_S) -> None:
        """Drop all of it."""
        await self._do(p.clear_context(self._id, check_timeout(timeout, _ACT)))


class AsyncSessionMemory:
    """What a code session remembers, what waits to be kept by a promotion, and how things are used."""

    __slots__ = ("_do", "_id")

    def __init__(self, do: _Do, id: str) -> None:
        self._do = do
        self._id = id

    async def add(
        self,
        content: str,
        memory_type: str,
        confidence: float | str,
        source_type: str,
        *,
        importance_score: float | None = None,
        id: str | None = None,
        timeout: float = QUERY_TIMEOUT_S,
        **metadata: object,
    ) -> PendingMemory | None:
        """Add a memory, and return it as it is kept; None when it is itself the one that goes.

        importance_score: 0 to 1, 0.5 unless given. Of more than 500 the least important goes, the oldest among equals.
        Raises InvalidRequest (invalid_memory).
        """
        item = p.memory_item(content, memory_type, confidence, source_type, importance_score, id, metadata)
        return await self._do(p.add_memory(self._id, item, check_timeout(timeout, _ACT)))

    async def decide(
        self,
        content: str,
        memory_type: str,
        confidence: float | str,
        source_type: str,
        *,
        id: str | None = None,
        timeout: float = QUERY_TIMEOUT_S,
        **metadata: object,
    ) -> PendingMemory:
        """Add a memory that the agent decided to keep: of the greatest importance, and promoted right after."""
        item = p.memory_item(content, memory_type, confidence, source_type, None, id, metadata)
        return await self._do(p.add_decision(self._id, item, check_timeout(timeout, _ACT)))

    async def pending(self, *, timeout: float = QUERY_TIMEOUT_S) -> list[PendingMemory]:
        """Return those that are important enough, and every decision, the most important first."""
        return await self._do(p.pending_memories(self._id, check_timeout(timeout, _ACT)))

    async def clear_promoted(self, ids: Iterable[str], *, timeout: float = QUERY_TIMEOUT_S) -> None:
        """Drop memories that were promoted."""
        await self._do(p.clear_promoted_memories(self._id, ids, check_timeout(timeout, _ACT)))

    async def record_access(self, key: object, access_type: str = "read", *, timeout: float = QUERY_TIMEOUT_S) -> None:
        """Note that a context key, or ("memory", id), was used: read, write or query."""
        await self._do(p.record_access(self._id, key, access_type, check_timeout(timeout, _ACT)))

    async def access_stats(self, key: object, *, timeout: float = QUERY_TIMEOUT_S) -> AccessStats:
        """Return how often and when last something was used."""
        return await self._do(p.access_stats(self._id, key, check_timeout(timeout, _ACT)))

    async def enable_promotion(self, *, timeout: float = QUERY_TIMEOUT_S) -> None:
        """Have what is important enough promoted: after an interval, at once when the agent decided something, and at a stop."""
        await self._do(p.promotion(self._id, "enable_promotion", check_timeout(timeout, _ACT)))

    async def disable_promotion(self, *, timeout: float = QUERY_TIMEOUT_S) -> None:
        """Have nothing promoted but by `run_promotion_now`."""
        await self._do(p.promotion(self._id, "disable_promotion", check_timeout(timeout, _ACT)))

    async def promotion_stats(self, *, timeout: float = QUERY_TIMEOUT_S) -> PromotionStats:
        """Return how promotion stands."""
        return await self._do(p.promotion_stats(self._id, check_timeout(timeout, _ACT)))

    async def candidates(
        self, threshold: float | None = None, count_max: int | None = None, *, timeout: float = QUERY_TIMEOUT_S
    ) -> list[PendingMemory]:
        """Return what a promotion would keep now: memories that wait and context items, the most important first.

        threshold: the least importance, 0 to 1, 0.6 unless given. count_max: 20 unless given. Raises InvalidRequest
        (invalid_promotion).
        """
        return await self._do(p.promotion_candidates(self._id, threshold, count_max, check_timeout(timeout, _ACT)))

    async def run_promotion_now(
        self, threshold: float | None = None, count_max: int | None = None, *, timeout: float = QUERY_TIMEOUT_S
    ) -> int:
        """Keep for long what `candidates` would list, also while promotion is disabled; return how many memories were kept.

        What was kept waits no more. count_max: at most 300. Raises InvalidRequest (invalid_promotion).
        """
        return await self._do(p.run_promotion(self._id, threshold, count_max, check_timeout(timeout, _ACT)))

    async def set_promotion_interval(self, interval_ms: int, *, timeout: float = QUERY_TIMEOUT_S) -> None:
        """Set the time between two runs. Raises InvalidRequest (invalid_interval)."""
        await self._do(p.set_promotion_interval(self._id, interval_ms, check_timeout(timeout, _ACT)))

    async def remember(
        self,
        content: str,
        memory_type: str = "fact",
        confidence: float | str = 0.8,
        *,
        source_type: str = "agent",
        id: str | None = None,
        timeout: float = QUERY_TIMEOUT_S,
        **metadata: object,
    ) -> Memory:
        """Keep a memory for long, in the place of one with its id, and return it.

        content: at most 2000 bytes. Of more than 10 000 the one forgotten longest ago goes, else the least important.
        Raises InvalidRequest (invalid_memory).
        """
        given = {"memory_type": memory_type, "confidence": confidence, "source_type": source_type, "id": id}
        return await self._do(p.remember(self._id, content, given, metadata, check_timeout(timeout, _ACT)))

    async def recall(
        self,
        query: str | None = None,
        limit: int = 10,
        min_confidence: float = 0.5,
        *,
        mode: str = "text",
        timeout: float = QUERY_TIMEOUT_S,
    ) -> list[Memory]:
        """Find memories by any word of `query`, the best first, or return the latest; counts as a use of each.

        limit: 1 to 50. mode: text, semantic or hybrid; there are no embeddings, and each searches the words. Raises
        InvalidRequest (invalid_recall).
        """
        given = {"query": query, "limit": limit, "min_confidence": min_confidence, "mode": mode}
        return await self._do(p.recall(self._id, given, check_timeout(timeout, _ACT)))

    async def forget(
        self,
        memory_id: str,
        reason: str | None = None,
        replacement_id: str | None = None,
        *,
        timeout: float = QUERY_TIMEOUT_S,
    ) -> Memory:
        """Mark a memory as no longer valid, and return it: it is recalled no more, and `get` still has it.

        replacement_id: of the memory that takes its place. Raises InvalidRequest (memory_not_found, already_forgotten,
        replacement_not_found).
        """
        return await self._do(p.forget(self._id, memory_id, reason, replacement_id, check_timeout(timeout, _ACT)))

    async def get(self, memory_id: str, *, timeout: float = QUERY_TIMEOUT_S) -> Memory:
        """Return a memory, a forgotten one too; counts as no use. Raises InvalidRequest (memory_not_found)."""
        return await self._do(p.get_memory(self._id, memory_id, check_timeout(timeout, _ACT)))

    async def all(self, *, include_forgotten: bool = False, timeout: float = QUERY_TIMEOUT_S) -> list[Memory]:
        """Return what is kept for long, in the order in which it was kept; counts as no use."""
        return await self._do(p.get_memories(self._id, include_forgotten, check_timeout(timeout, _ACT)))


class AsyncSessionFiles:
    """Which files of its project a code session has read and written."""

    __slots__ = ("_do", "_id")

    def __init__(self, do: _Do, id: str) -> None:
        self._do = do
        self._id = id

    async def track_read(self, path: PathLike, *, timeout: float = QUERY_TIMEOUT_S) -> datetime:
        """Note that a file was read now, and return when that was."""
        return await self._do(
            p.track_file(self._id, "track_file_read", text_of_path(path), check_timeout(timeout, _ACT))
        )

    async def track_write(self, path: PathLike, *, timeout: float = QUERY_TIMEOUT_S) -> datetime:
        """Note that a file was written now; that is no reading."""
        return await self._do(
            p.track_file(self._id, "track_file_write", text_of_path(path), check_timeout(timeout, _ACT))
        )

    async def was_read(self, path: PathLike, *, timeout: float = QUERY_TIMEOUT_S) -> bool:
        """Say whether a file was read."""
        return await self._do(p.file_was_read(self._id, text_of_path(path), check_timeout(timeout, _ACT)))

    async def read_time(self, path: PathLike, *, timeout: float = QUERY_TIMEOUT_S) -> datetime | None:
        """Return when a file was last read, None for never."""
        return await self._do(p.file_read_time(self._id, text_of_path(path), check_timeout(timeout, _ACT)))

    async def clear(self, *, timeout: float = QUERY_TIMEOUT_S) -> None:
        """Forget all of it."""
        await self._do(p.clear_file_tracking(self._id, check_timeout(timeout, _ACT)))


class AsyncSessionStreaming:
    """An answer that a program writes piece by piece."""

    __slots__ = ("_do", "_id")

    def __init__(self, do: _Do, id: str) -> None:
        self._do = do
        self._id = id

    async def start(self, message_id: str | None = None, *, timeout: float = QUERY_TIMEOUT_S) -> str:
        """Begin an answer and return its id. Raises InvalidRequest (already_streaming)."""
        return await self._do(p.start_streaming(self._id, message_id, check_timeout(timeout, _ACT)))

    async def update(self, chunk: str, *, timeout: float = QUERY_TIMEOUT_S) -> None:
        """Add a piece; without an answer it is ignored."""
        await self._do(p.update_streaming(self._id, chunk, check_timeout(timeout, _ACT)))

    async def end(self, *, timeout: float = QUERY_TIMEOUT_S) -> Message:
        """End the answer: it is the last message then. Raises InvalidRequest (not_streaming)."""
        return await self._do(p.end_streaming(self._id, check_timeout(timeout, _ACT)))

    async def cancel(self, *, timeout: float = QUERY_TIMEOUT_S) -> str:
        """Drop the answer and return what there was of it."""
        return await self._do(p.cancel_streaming(self._id, check_timeout(timeout, _ACT)))


class AsyncSessionPrompts:
    """What was asked of a code session, newest first; the last 100."""

    __slots__ = ("_do", "_id")

    def __init__(self, do: _Do, id: str) -> None:
        self._do = do
        self._id = id

    async def get(self, *, timeout: float = QUERY_TIMEOUT_S) -> list[str]:
        """Return the prompts, newest first."""
        return await self._do(p.get_prompts(self._id, check_timeout(timeout, _ACT)))

    async def add(self, prompt: str, *, timeout: float = QUERY_TIMEOUT_S) -> list[str]:
        """Add a prompt and return all; a blank one is ignored."""
        return await self._do(p.add_prompt(self._id, prompt, check_timeout(timeout, _ACT)))

    async def set(self, prompts: Iterable[str], *, timeout: float = QUERY_TIMEOUT_S) -> list[str]:
        """Replace all by the first 100 of these."""
        return await self._do(p.set_prompts(self._id, prompts, check_timeout(timeout, _ACT)))


class AsyncAgentVerbs:
    """See the module's text."""

    __slots__ = ()

    id: str

    def _do(self, plan: Plan[T], on_output: OnOutput | None = None) -> Coroutine[Any, Any, T]:
        raise NotImplementedError

    def _start(self, plan: Plan[T], /) -> asyncio.Task[T]:
        return asyncio.get_running_loop().create_task(self._do(plan))

    # --- the state ---
    async def get_state(self, *, timeout: float = QUERY_TIMEOUT_S) -> dict[str, Any]:
        """Return the agent's whole state as plain data; every list oldest first, prompt history alone newest first."""
        return await self._do(p.get_state(self.id, check_timeout(timeout, _ACT)))

    async def committed_state(self) -> dict[str, Any] | None:
        """Return the host's own copy of that state: readable without a process too; None before the agent has told any."""
        return await self._do(plans.state(self.id))

    async def query_state(
        self, path: str | Sequence[str], default: object = p.MISSING, *, timeout: float = QUERY_TIMEOUT_S
    ) -> Any:
        """Return one place of the state: `todos`, or `working_context.items`.

        Raises InvalidRequest (path_not_found) without a default.
        """
        return await self._do(p.query_state(self.id, path, default, check_timeout(timeout, _ACT)))

    async def get_session(self, *, timeout: float = QUERY_TIMEOUT_S) -> SessionRecord:
        """Return the record of a code session: name, config, language and the rest."""
        return await self._do(p.get_session(self.id, check_timeout(timeout, _ACT)))

    # --- messages ---
    async def append_message(
        self,
        role: str,
        content: str | Sequence[Mapping[str, object]] | None = None,
        *,
        tool_calls: Sequence[Mapping[str, object]] | None = None,
        id: str | None = None,
        timeout: float = QUERY_TIMEOUT_S,
        **metadata: object,
    ) -> Message:
        """Add a message to the end and return it as it is kept; of more than 1000 the oldest goes.

        Raises InvalidRequest (invalid_message), MessageTooLarge.
        """
        return await self._do(
            p.message(self.id, "append_message", role, content, tool_calls, id, metadata, check_timeout(timeout, _ACT))
        )

    def append_message_async(
        self,
        role: str,
        content: str | Sequence[Mapping[str, object]] | None = None,
        *,
        tool_calls: Sequence[Mapping[str, object]] | None = None,
        id: str | None = None,
        timeout: float = QUERY_TIMEOUT_S,
        **metadata: object,
    ) -> asyncio.Task[Message]:
        """Start what `append_message` does and return its Task; messages keep the order in which they were started."""
        return self._start(
            p.message(self.id, "append_message", role, content, tool_calls, id, metadata, check_timeout(timeout, _ACT))
        )

    async def prepend_message(
        self,
        role: str,
        content: str | Sequence[Mapping[str, object]] | None = None,
        *,
        tool_calls: Sequence[Mapping[str, object]] | None = None,
        id: str | None = None,
        timeout: float = QUERY_TIMEOUT_S,
        **metadata: object,
    ) -> Message:
        """Put a message before all others. Raises InvalidRequest (messages_full) when there is no room."""
        return await self._do(
            p.message(self.id, "prepend_message", role, content, tool_calls, id, metadata, check_timeout(timeout, _ACT))
        )

    async def set_messages(
        self, messages: Iterable[Message | Mapping[str, object]], *, timeout: float = QUERY_TIMEOUT_S
    ) -> list[Message]:
        """Replace the conversation by the last 1000 of these, oldest first."""
        return await self._do(p.set_messages(self.id, messages, check_timeout(timeout, _ACT)))

    async def get_messages(
        self, offset: int = 0, limit: int | None = None, *, timeout: float = QUERY_TIMEOUT_S
    ) -> list[Message]:
        """Return the messages from `offset` on, oldest first, at most `limit` of them.

        Raises InvalidRequest (invalid_page).
        """
        return await self._do(p.get_messages(self.id, offset, limit, check_timeout(timeout, _ACT)))

    async def get_message_page(
        self, offset: int = 0, limit: int | None = None, *, timeout: float = QUERY_TIMEOUT_S
    ) -> MessagePage:
        """Return a page of messages with where it lies: total, offset, limit, returned, has_more."""
        return await self._do(p.get_message_page(self.id, offset, limit, check_timeout(timeout, _ACT)))

    async def clear_messages(self, *, timeout: float = QUERY_TIMEOUT_S) -> None:
        """Drop all messages."""
        await self._do(p.clear_messages(self.id, check_timeout(timeout, _ACT)))

    async def send_message(self, text: str, *, timeout: float = 60.0, on_text: OnText | None = None) -> str:
        """Have the session's responder answer, and return the whole answer; both are kept as messages.

        on_text: gets it piece by piece; an async function is awaited for each, in order. Raises InvalidRequest
        (empty_message, message_too_long, no_responder, already_streaming), ToolFailed.
        """
        plain, awaited = split_output(text_of_output(on_text))
        return await self._do(send_message(self.id, text, timeout=timeout, on_text=plain), awaited)

    def send_message_stream(self, text: str, *, timeout: float = 60.0) -> AsyncTextStream:
        """Have the session's responder answer, and return the answer as it is said: an async iterator of its pieces.

        Its `result()` is the whole answer. To close it early stops who is answering. Errors, those of send_message, come
        out of it.
        """
        return AsyncTextStream(send_message(self.id, text, timeout=timeout), self._start)

    # --- reasoning, tool calls, todos ---
    async def get_reasoning_steps(self, *, timeout: float = QUERY_TIMEOUT_S) -> list[ReasoningStep]:
        """Return the reasoning steps, oldest first; the last 100 are kept."""
        return await self._do(p.get_reasoning_steps(self.id, check_timeout(timeout, _ACT)))

    async def add_reasoning_step(
        self, content: str, *, id: str | None = None, timeout: float = QUERY_TIMEOUT_S, **metadata: object
    ) -> ReasoningStep:
        """Add a step of reasoning."""
        return await self._do(p.add_reasoning_step(self.id, content, id, metadata, check_timeout(timeout, _ACT)))

    async def clear_reasoning_steps(self, *, timeout: float = QUERY_TIMEOUT_S) -> None:
        """Drop all reasoning steps."""
        await self._do(p.clear_reasoning_steps(self.id, check_timeout(timeout, _ACT)))

    async def get_tool_calls(self, *, timeout: float = QUERY_TIMEOUT_S) -> list[ToolCallRecord]:
        """Return the tool calls that are recorded, oldest first; the last 500 are kept."""
        return await self._do(p.get_tool_calls(self.id, check_timeout(timeout, _ACT)))

    async def add_tool_call(
        self,
        name: str,
        arguments: Mapping[str, object] | None = None,
        *,
        id: str | None = None,
        status: str | None = None,
        timeout: float = QUERY_TIMEOUT_S,
        **metadata: object,
    ) -> ToolCallRecord:
        """Record a call of a tool, pending unless said otherwise."""
        return await self._do(
            p.add_tool_call(self.id, name, arguments, id, status, metadata, check_timeout(timeout, _ACT))
        )

    async def update_tool_call(
        self,
        id: str,
        status: str,
        *,
        result: object = None,
        error: object = None,
        duration_ms: float | None = None,
        timeout: float = QUERY_TIMEOUT_S,
    ) -> ToolCallRecord:
        """Say how far a recorded call is. Raises InvalidRequest (tool_call_not_found, invalid_tool_call)."""
        return await self._do(
            p.update_tool_call(self.id, id, status, result, error, duration_ms, check_timeout(timeout, _ACT))
        )

    async def clear_tool_calls(self, *, timeout: float = QUERY_TIMEOUT_S) -> None:
        """Drop the record of all tool calls."""
        await self._do(p.clear_tool_calls(self.id, check_timeout(timeout, _ACT)))

    async def get_todos(self, *, timeout: float = QUERY_TIMEOUT_S) -> list[Todo]:
        """Return the todos, in the order given."""
        return await self._do(p.get_todos(self.id, check_timeout(timeout, _ACT)))

    async def update_todos(
        self, todos: Iterable[Todo | Mapping[str, object]], *, timeout: float = QUERY_TIMEOUT_S
    ) -> list[Todo]:
        """Replace all todos."""
        return await self._do(p.update_todos(self.id, todos, check_timeout(timeout, _ACT)))

    async def add_todo(
        self,
        content: str,
        *,
        id: str | None = None,
        status: str | None = None,
        timeout: float = QUERY_TIMEOUT_S,
        **metadata: object,
    ) -> Todo:
        """Add a todo to the end, pending unless said otherwise."""
        return await self._do(p.add_todo(self.id, content, id, status, metadata, check_timeout(timeout, _ACT)))

    async def update_todo(
        self, id: Todo | str, *, content: str | None = None, status: str | None = None, timeout: float = QUERY_TIMEOUT_S
    ) -> Todo:
        """Change a todo, given by its id or as it was read. Raises InvalidRequest (todo_not_found)."""
        return await self._do(p.update_todo(self.id, id, content, status, check_timeout(timeout, _ACT)))

    async def complete_todo(self, id: Todo | str, *, timeout: float = QUERY_TIMEOUT_S) -> Todo:
        """Mark a todo as completed, given by its id or as it was read."""
        return await self._do(p.complete_todo(self.id, id, check_timeout(timeout, _ACT)))

    async def remove_todo(self, id: Todo | str, *, timeout: float = QUERY_TIMEOUT_S) -> None:
        """Drop a todo, given by its id or as it was read."""
        await self._do(p.remove_todo(self.id, id, check_timeout(timeout, _ACT)))

    # --- the record ---
    async def rename(self, name: str, *, timeout: float = QUERY_TIMEOUT_S) -> SessionRecord:
        """Give the session another name; `name` of this handle stays what it was.

        Raises InvalidRequest (invalid_name, name_too_long).
        """
        return await self._do(p.rename(self.id, name, check_timeout(timeout, _ACT)))

    async def set_config(self, config: Mapping[str, object], *, timeout: float = QUERY_TIMEOUT_S) -> SessionRecord:
        """Merge provider, model, temperature or max_tokens into the config.

        Raises InvalidRequest, `.codes` has all that is wrong.
        """
        return await self._do(p.set_config(self.id, config, check_timeout(timeout, _ACT)))

    async def set_language(self, language: str, *, timeout: float = QUERY_TIMEOUT_S) -> SessionRecord:
        """Set the project's language, by any name it has. Raises InvalidRequest (invalid_language)."""
        return await self._do(p.set_language(self.id, language, check_timeout(timeout, _ACT)))

    async def set_connection_status(self, status: str, *, timeout: float = QUERY_TIMEOUT_S) -> SessionRecord:
        """Note how the session stands with its model's provider: disconnected, connected or error."""
        return await self._do(p.set_connection_status(self.id, status, check_timeout(timeout, _ACT)))

    async def connect(self, *, timeout: float = QUERY_TIMEOUT_S) -> SessionRecord:
        """Note that the session is connected, which it is with a responder.

        Raises InvalidRequest (no_responder), and its connection status is error then.
        """
        return await self._do(p.connect(self.id, check_timeout(timeout, _ACT)))

    async def disconnect(self, *, timeout: float = QUERY_TIMEOUT_S) -> SessionRecord:
        """Note that the session is disconnected; one that is already stays so."""
        return await self._do(p.set_connection_status(self.id, "disconnected", check_timeout(timeout, _ACT)))

    async def connection_status(self, *, timeout: float = QUERY_TIMEOUT_S) -> ConnectionStatus:
        """Return how the session stands with its model's provider: disconnected, connected or error."""
        return await self._do(p.connection_status(self.id, check_timeout(timeout, _ACT)))

    async def set_scroll_offset(self, offset: int, *, timeout: float = QUERY_TIMEOUT_S) -> None:
        """Remember where a reader of the conversation is, from 0."""
        await self._do(p.set_scroll_offset(self.id, offset, check_timeout(timeout, _ACT)))

    # --- signals ---
    async def call(self, type: str, data: object = None, *, timeout: float = QUERY_TIMEOUT_S) -> Any:
        """Give the agent a signal and return what its action answers.

        Raises AgentError when that raised: the state is unchanged.
        """
        return await self._do(p.signal(self.id, check_text("type", type), data, check_timeout(timeout, _ACT)))

    async def cast(self, type: str, data: object = None, *, timeout: float = QUERY_TIMEOUT_S) -> str:
        """Give the agent a signal and return its id, at once: it is in the mailbox, and `await_result` knows what came of it.

        It is handled at least once: a process that dies of it is given it once more, then it is set aside (an event says so).
        timeout: how long to wait where there is no room in the mailbox, or no process, just now.
        """
        return await self._do(cast_plan(self.id, type, data, check_timeout(timeout, _ACT)))

    async def send_signal(
        self,
        type: str,
        data: object = None,
        *,
        subject: str | None = None,
        id: str | None = None,
        extensions: Mapping[str, object] | None = None,
        timeout: float = QUERY_TIMEOUT_S,
    ) -> str:
        """Give the agent a CloudEvent and return its id.

        Extensions: by name, in small letters and digits; `traceparent` goes on to whatever the agent sends because of it.
        """
        timeout_s = check_timeout(timeout, _ACT)
        return await self._do(cast_plan(self.id, type, data, timeout_s, subject=subject, id=id, extensions=extensions))

    async def await_result(self, id: str = "", *, timeout: float = AWAIT_TIMEOUT_S) -> Any:
        """Wait for what came of the signal with this id; without one, until the agent's state says that it is finished.

        Raises CallTimedOut.
        """
        return await self._do(plans.await_result(self.id, check_text("id", id), check_timeout(timeout, _AWAIT)))

    async def await_completion(self, *, timeout: float = AWAIT_TIMEOUT_S) -> Finished:
        """Wait until the agent's state says that it is finished; return whether it completed or failed, with its answer or error.

        Raises CallTimedOut, whose text says how the agent is doing; SessionDied when its process ends meanwhile.
        """
        return await self._do(plans.await_completion(self.id, check_timeout(timeout, _AWAIT)))

    async def agent_status(self, *, timeout: float = QUERY_TIMEOUT_S) -> AgentStatus:
        """Return how the agent is doing: idle or processing, finished or not, what waits."""
        return await self._do(plans.agent_status(self.id, check_timeout(timeout, _ACT)))

    async def is_processing(self, *, timeout: float = QUERY_TIMEOUT_S) -> bool:
        """Say whether the agent is at work: it has effects to carry out, or is giving an answer."""
        status = await self.agent_status(timeout=timeout)
        return status.status == "processing"

    async def debug_events(
        self, keep: int | None = None, limit: int | None = None, *, timeout: float = QUERY_TIMEOUT_S
    ) -> list[DebugEvent]:
        """Return what happened to the agent, newest first.

        Keep: how many to keep from now on, 0 for none; none are kept unless asked.
        """
        keep, limit = check_count_or_none("keep", keep), check_count_or_none("limit", limit)
        return await self._do(p.debug_events(self.id, keep, limit, check_timeout(timeout, _ACT)))

    # --- namespaces ---
    @property
    def context(self) -> AsyncSessionContext:
        """The working context of a code session: what is known of the task, under eleven keys, within a budget of tokens."""
        return AsyncSessionContext(self._do, self.id)

    @property
    def memory(self) -> AsyncSessionMemory:
        """What a code session remembers, what waits to be kept by a promotion, and how things are used."""
        return AsyncSessionMemory(self._do, self.id)

    @property
    def files(self) -> AsyncSessionFiles:
        """Which files of its project a code session has read and written."""
        return AsyncSessionFiles(self._do, self.id)

    @property
    def streaming(self) -> AsyncSessionStreaming:
        """An answer that a program writes piece by piece."""
        return AsyncSessionStreaming(self._do, self.id)

    @property
    def prompts(self) -> AsyncSessionPrompts:
        """What was asked of a code session, newest first; the last 100."""
        return AsyncSessionPrompts(self._do, self.id)
