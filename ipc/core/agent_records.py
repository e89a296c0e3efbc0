"""What a code session's elements are to a caller: frozen records, made of the plain data that its agent answers with.

It is *not* how they are kept (`agent_proc/agent/code_session/`): a caller gets a copy that is his. Rule: what does not fit a
record was not said by an agent of ours, and is refused where it is read.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import field

from procession.ipc.core.records import Record

Role = Literal["system", "developer", "user", "assistant", "tool"]
TodoStatus = Literal["pending", "in_progress", "completed"]
ToolCallStatus = Literal["pending", "running", "completed", "error", "timeout"]
ConnectionStatus = Literal["disconnected", "connected", "error"]
FinishedStatus = Literal["completed", "failed"]


class Message(Record, frozen=True, kw_only=True):
    """One message. content: text, a list of parts, or None beside tool calls. metadata: everything else it came with."""

    id: str
    role: Role
    content: str | list[dict[str, Any]] | None
    timestamp: datetime
    metadata: dict[str, Any] = field(default_factory=dict)
    tool_calls: list[dict[str, Any]] | None = None


class MessagePage(Record, frozen=True, kw_only=True):
    """A page of the conversation, oldest first. total: of all messages; has_more: whether there are some behind it."""

    messages: tuple[Message, ...]
    total: int
    offset: int
    limit: int
    returned: int
    has_more: bool


class ReasoningStep(Record, frozen=True, kw_only=True):
    """One step of reasoning."""

    id: str
    content: str
    timestamp: datetime
    metadata: dict[str, Any] = field(default_factory=dict)


class ToolCallRecord(Record, frozen=True, kw_only=True):
    """One call of a tool and how far it is. duration_ms: from its start, or its record, to its end."""

    id: str
    name: str
    arguments: dict[str, Any]
    status: ToolCallStatus
    timestamp: datetime
    result: Any = None
    error: Any = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_ms: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


class Todo(Record, frozen=True, kw_only=True):
    """One thing to do, in the plan of a code session."""

    id: str
    content: str
    status: TodoStatus
    metadata: dict[str, Any] = field(default_factory=dict)


class ContextItem(Record, frozen=True, kw_only=True):
    """One item of the working context, with what is known of it. confidence: 0 to 1. tokens: its share of the budget."""

    key: str
    value: Any
    source: Literal["inferred", "explicit", "tool"]
    confidence: float
    access_count: int
    first_seen: datetime
    last_accessed: datetime
    suggested_type: str | None = None
    tokens: int = 0
    promoted_at: datetime | None = None


class PendingMemory(Record, frozen=True, kw_only=True):
    """A memory that waits to be promoted. confidence, importance_score: 0 to 1.

    origin: what a candidate for promotion is made of; a context item's id is its key. None for one that is only listed.
    """

    id: str
    content: str
    memory_type: str
    confidence: float
    source_type: str
    importance_score: float
    suggested_by: Literal["implicit", "agent"]
    created_at: datetime
    metadata: dict[str, Any] = field(default_factory=dict)
    origin: Literal["context", "pending", "decision"] | None = None


class Memory(Record, frozen=True, kw_only=True):
    """A memory that is kept for long. confidence, importance_score: 0 to 1. replaced_by: the id of one that took its place.

    score: how well it fits what was recalled, 1.0 for the best; None for one that was not searched for.
    """

    id: str
    content: str
    memory_type: str
    confidence: float
    source_type: str
    importance_score: float
    created_at: datetime
    last_accessed: datetime | None = None
    access_count: int = 0
    forgotten_at: datetime | None = None
    forget_reason: str | None = None
    replaced_by: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    score: float | None = None


class AccessStats(Record, frozen=True, kw_only=True):
    """How often something was used, and when last; None for never."""

    frequency: int
    recency: datetime | None = None


class PromotionStats(Record, frozen=True, kw_only=True):
    """How the promotion of memories stands. interval_ms: between two runs."""

    enabled: bool
    interval_ms: int
    last_run: datetime | None = None
    total_promoted: int = 0
    runs: int = 0


class SessionRecord(Record, frozen=True, kw_only=True):
    """The record of a code session: the one place of its name, config and language. Times in UTC."""

    id: str
    name: str
    project_path: str
    config: dict[str, Any]
    language: str
    connection_status: ConnectionStatus
    created_at: datetime
    updated_at: datetime


class AgentStatus(Record, frozen=True, kw_only=True):
    """How an agent is doing.

    agent: its kind. status: idle, processing (effects wait to be carried out, or it is giving an answer) or stopping. finished:
    completed, failed, or empty while it is at work. queued: effects that wait. errors: how many counted for its error policy
    since its process began; last_error: what the last of them said. schedules: delayed signals that are under way. jobs:
    ids of its cron jobs.
    """

    agent: str
    status: Literal["idle", "processing", "stopping"]
    finished: FinishedStatus | Literal[""] = ""
    queued: int = 0
    errors: int = 0
    last_error: str = ""
    schedules: int = 0
    jobs: tuple[str, ...] = ()


class DebugEvent(Record, frozen=True, kw_only=True):
    """Something that happened to an agent: kind is signal_received, directive_started, error, …

    detail: one line about it, without data. duration_ms: of the end of something, signal_finished or directive_failed for two.
    """

    at: datetime
    kind: str
    detail: str = ""
    duration_ms: float | None = None


class Finished(Record, frozen=True):
    """How an agent finished, as its own state says. value: its answer, or its error when it failed; None when it says nothing."""

    status: FinishedStatus
    value: Any = None
