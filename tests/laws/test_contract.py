"""The contract's rows and the tests match: no function of the code session without a row, no row without a test."""

from helpers.contract import PAGE_FILE, marks, read_rows, render_page
from helpers.sources import REPOSITORY
from procession.agent_proc.agent.code_session.functions import ACTIONS, QUERIES
from procession.agent_proc.agent.directives import DIRECTIVES
from procession.agent_proc.agent.skills import PHASES
from procession.ipc.core.state_op_types import OPS

ROWS = read_rows()
MARKS = marks()
#: Ours, beside the contract's; told in the row of the one they belong to.
OURS = {
    "prepend_message": "append_message",
    "set_messages": "append_message",
    "cancel_streaming": "end_streaming",
    "clear_tool_calls": "add_tool_call",
    "update_tool_call": "add_tool_call",
    "add_todo": "update_todos",
    "update_todo": "update_todos",
    "complete_todo": "update_todos",
    "remove_todo": "update_todos",
    "clear_file_tracking": "track_file_read / track_file_write",
    "track_file_read": "track_file_read / track_file_write",
    "track_file_write": "track_file_read / track_file_write",
    "file_was_read": "file_was_read?",
    "set_context": "update_context",
    "enable_promotion": "enable_promotion / disable_promotion",
    "disable_promotion": "enable_promotion / disable_promotion",
    "get_messages": "get_messages/1",
    "promote": "run_promotion_now",
    "promotion_candidates": "run_promotion_now",
}
#: Those of section 1.5, which names tools and no functions.
TOOLS_OF_MEMORY = {
    "remember": "1.5 remember",
    "get_memory": "1.5 remember",
    "get_memories": "1.5 remember",
    "record_recall": "1.5 recall",
    "forget": "1.5 forget",
}
NOT_YET: set[str] = set()
#: What a row says that has no test: why the thing is not there.
NOT_TAKEN_OVER = "not taken over: "
LEFT_OUT = {row for row, ours in ROWS.items() if ours.startswith(NOT_TAKEN_OVER)}
#: Of sections 2 and 3, all but what the code itself lists (ops, directives, phases of a skill): the contract's lines, none of
#: which may go away without a word.
LINES = """
2.1 error classes
2.1 error converters
2.1 error texts
2.1 state schema
2.1 converters
2.2 agent
2.2 validation
2.2 cmd
2.2 hooks
2.2 bad action
2.2 instructions in order
2.2 ops in order
2.2 ops are data
2.2 builders
2.2 directives are data
2.2 Spawn
2.2 StartSensor / StopSensor
2.2 HTTP and other adapters of Emit
2.2 unknown directive
2.3 CloudEvents
2.3 attributes
2.3 typed signals
2.3 signal types
2.3 legacy names
2.3 sources
2.3 system signals
2.3 patterns
2.3 all that match run
2.3 match functions
2.3 static parameters
2.3 wrong routes
2.3 sources of routes
2.3 signal_patterns
2.3 unknown types
2.4 action
2.4 action schema
2.4 action hooks
2.4 timeout, retry, compensation
2.4 action as a tool definition
2.4 skill
2.4 requires, capabilities, singleton
2.4 config schema
2.4 child_spec
2.4 planned skills
2.5 tool
2.5 schema
2.5 argument checks
2.5 registry
2.5 text description
2.5 parse
2.5 executor
2.5 result
2.5 permissions
2.5 rate limits
2.5 sanitizer
2.5 audit log
3 start / start_link / child_spec
3 agent resolution
3 addressing
3 call
3 sync-call scheduling
3 cast
3 routing
3 plugin phases
3 directive queue and drain
3 status
3 error policy
3 parent/child
3 orphan rules
3 adoption
3 stop child
3 await_completion
3 Await all / any / child / cancel
3 state / status / stream_status
3 debug events
3 telemetry
3 Schedule / scheduled
3 cron
3 cron durability
3 sensors
3 attach / detach / touch
3 idle timeout
3 InstanceManager
3 WorkerPool
3 multi-tenancy
3 pods
""".strip().splitlines()


def test_every_function_of_the_code_session_has_a_row() -> None:
    rows = {name: TOOLS_OF_MEMORY.get(name, f"1.3 {OURS.get(name, name)}") for name in (*ACTIONS, *QUERIES)}
    assert {name: row for name, row in rows.items() if row not in ROWS} == {}


def test_every_op_every_directive_and_every_phase_of_a_skill_has_a_row() -> None:
    named = [f"2.2 {kind.__name__}" for kind in (*OPS, *DIRECTIVES)] + [f"2.4 {phase}" for phase in PHASES]
    assert sorted(row for row in named if row not in ROWS) == []


def test_no_line_of_sections_2_and_3_is_lost() -> None:
    assert [line for line in LINES if line not in ROWS] == []


def test_what_is_not_taken_over_says_why() -> None:
    assert len(LEFT_OUT) > 5
    assert [row for row in LEFT_OUT if len(ROWS[row].removeprefix(NOT_TAKEN_OVER)) < 20] == []


def test_every_row_has_a_test_and_every_mark_a_row() -> None:
    held = {mark.id for mark in MARKS}
    assert sorted(held - ROWS.keys()) == []
    assert sorted(ROWS.keys() - held - NOT_YET - LEFT_OUT) == []
    assert sorted(LEFT_OUT & held) == []
    assert sorted(NOT_YET & held) == []


def test_the_page_is_the_one_generated() -> None:
    written = (REPOSITORY / PAGE_FILE).read_text(encoding="utf-8")
    assert written == render_page(ROWS, MARKS), "write the pages anew: helpers.pages"
