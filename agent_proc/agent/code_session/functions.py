"""Everything a code session can be asked, by name: the agent class and the Session API are made from these two tables.

    ACTIONS  (state, moment, **parameters) -> Change        QUERIES  (state, **parameters) -> value

They are *not* all of the Session API: what concerns the record (config, language, name) is in `record/`, and `recall` is the
server's (`agent_memory.py`), which has the index.

Rules: a function changes nothing that it is given, and does not keep it either; a query that counts as a use is an action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from procession.agent_proc.agent.change import Change
from procession.agent_proc.agent.code_session import (
    access_log,
    files,
    long_term,
    messages,
    pending_memories,
    promotion,
    prompts,
    reasoning,
    streaming,
    todos,
    tool_calls,
    view,
    working_context,
)
from procession.ipc.core.state_ops import Value

ACTIONS: Final[Mapping[str, Callable[..., Change]]] = MappingProxyType(
    {
        action.__name__: action
        for action in (
            messages.append_message,
            messages.prepend_message,
            messages.set_messages,
            messages.clear_messages,
            streaming.start_streaming,
            streaming.update_streaming,
            streaming.end_streaming,
            streaming.cancel_streaming,
            reasoning.add_reasoning_step,
            reasoning.clear_reasoning_steps,
            tool_calls.add_tool_call,
            tool_calls.update_tool_call,
            tool_calls.clear_tool_calls,
            todos.update_todos,
            todos.add_todo,
            todos.update_todo,
            todos.complete_todo,
            todos.remove_todo,
            prompts.add_to_prompt_history,
            prompts.set_prompt_history,
            files.track_file_read,
            files.track_file_write,
            files.clear_file_tracking,
            working_context.update_context,
            working_context.set_context,
            working_context.get_context,
            working_context.clear_context,
            pending_memories.add_pending_memory,
            pending_memories.add_agent_memory_decision,
            pending_memories.clear_promoted_memories,
            access_log.record_access,
            promotion.enable_promotion,
            promotion.disable_promotion,
            promotion.set_promotion_interval,
            promotion.promote,
            long_term.remember,
            long_term.forget,
            long_term.record_recall,
            view.set_scroll_offset,
        )
    }
)

QUERIES: Final[Mapping[str, Callable[..., Value]]] = MappingProxyType(
    {
        query.__name__: query
        for query in (
            view.get_state,
            view.get_session,
            messages.get_messages,
            reasoning.get_reasoning_steps,
            tool_calls.get_tool_calls,
            todos.get_todos,
            prompts.get_prompt_history,
            files.file_was_read,
            files.get_file_read_time,
            working_context.get_all_context,
            working_context.get_context_item,
            pending_memories.get_pending_memories,
            access_log.get_access_stats,
            promotion.promotion_candidates,
            promotion.get_promotion_stats,
            long_term.get_memory,
            long_term.get_memories,
        )
    }
)
