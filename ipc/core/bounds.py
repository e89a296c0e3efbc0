"""Every limit that more than one room must agree on, each with its unit and its reason.

A limit that only one file needs lives in that file. Defaults follow the one table of the design (section 8).
"""

from __future__ import annotations

from typing import Final

KiB: Final = 1024
MiB: Final = 1024 * KiB

#: Wire version: both ends refuse another one by name (R-58).
WIRE_VERSION: Final = 1

# --- bytes on a channel -------------------------------------------------------------------------------------
#: Largest frame; one read of 64 KiB never waits for more than four reads to complete one.
FRAME_BYTES_MAX: Final = 256 * KiB
#: Largest message that travels inside the mailbox.
MESSAGE_BYTES_MAX: Final = 16 * MiB
#: Largest change of an agent's state at once: it leaves with its answer, in one message.
CHANGE_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 1 * MiB
#: Largest run argument or result (through the arena).
PAYLOAD_BYTES_MAX: Final = 256 * MiB
#: Payloads above this go through the arena: a pipe takes 64 KiB at a time, so more would only block control traffic.
INLINE_BYTES_MAX: Final = 32 * KiB
#: os.read above glibc's 128 KiB mmap threshold costs 4.6 times as much, so every read asks for this.
READ_BYTES: Final = 64 * KiB
#: Linux's default pipe capacity; the real one is asked of the kernel, this is the fallback.
PIPE_BYTES: Final = 64 * KiB
#: A frame must be complete this long after its first byte (the clock runs only while its reader is reading).
FRAME_COMPLETE_S: Final = 10.0

# --- decoded bodies -----------------------------------------------------------------------------------------
BODY_DEPTH_MAX: Final = 32
BODY_NODES_MAX: Final = 50_000
RESULT_NODES_MAX: Final = 1_000_000
RESULT_OBJECT_BYTES_MAX: Final = 64 * MiB
#: Error texts a session sends are cut here.
ERROR_TEXT_CHARS_MAX: Final = 2_000
TRACEBACK_CHARS_MAX: Final = 16_000

# --- mailbox ------------------------------------------------------------------------------------------------
MAILBOX_COMMANDS_MAX: Final = 256
MAILBOX_BYTES_MAX: Final = 8 * MiB
#: Parallel runs in one session before further ones queue in it.
PARALLEL_RUNS_MAX: Final = 16

# --- times, all in seconds ----------------------------------------------------------------------------------
READY_TIMEOUT_S: Final = 20.0
FORK_ACK_TIMEOUT_S: Final = 5.0
WORKER_TERM_GRACE_S: Final = 0.25
INTERPRETER_INT_GRACE_S: Final = 1.0
SESSION_OVERRUN_GRACE_S: Final = 2.0
STOP_GRACE_S: Final = 5.0
#: A stopped process may be someone's debugger at work for a moment; ten seconds is no moment, and its session is ended.
STOPPED_END_S: Final = 10.0
REAP_TIMEOUT_S: Final = 2.0
#: A run not proved empty this long after SIGKILL escalates to the whole session.
PROOF_TIMEOUT_S: Final = 0.5
#: Exit code of a session that cannot begin, in its folder or with its agent; why is what it says on stderr. sysexits' EX_CONFIG.
BOOT_EXIT: Final = 78
#: Exit code of a session that ends itself because a run of its could not be proved empty (R-78); not a code of Python's.
ESCALATE_EXIT: Final = 86
QUERY_TIMEOUT_S: Final = 5.0
#: Calls that come while a session is asked whether it is quiet wait for its answer: a loop that does not answer at once is not.
QUIET_TIMEOUT_S: Final = 1.0
RUN_TIMEOUT_S: Final = 30.0
#: As long as the system that this re-creates waits for an agent.
AWAIT_TIMEOUT_S: Final = 10.0
#: A child has to be started before it can be waited for.
CHILD_TIMEOUT_S: Final = 30.0
#: A fork may copy a project's folder: a million files, or as many gigabytes as a disk moves in ten minutes.
COPY_TIMEOUT_S: Final = 600.0
#: No finite call may be asked to wait longer than a week: a bound, not a suggestion.
TIMEOUT_S_MAX: Final = 7 * 86_400.0

# --- output -------------------------------------------------------------------------------------------------
OUTPUT_RING_BYTES: Final = 1 * MiB
OUTPUT_RATE_BYTES_S: Final = 256 * KiB
#: One output chunk on the wire.
OUTPUT_CHUNK_BYTES: Final = 16 * KiB
STDERR_TAIL_BYTES: Final = 4 * KiB

# --- host ---------------------------------------------------------------------------------------------------
SESSIONS_MAX: Final = 100
#: A session with nothing to do gives its process back after a quarter of an hour: who comes back sooner is still at work.
HIBERNATE_AFTER_S: Final = 900.0
#: A session process that is larger is replaced when it is quiet: the largest state it may have takes about half of this.
RECYCLE_ABOVE_BYTES: Final = 512 * MiB
EVENTS_KEPT: Final = 10_000
OUTCOMES_KEPT: Final = 10_000
OUTCOME_KEPT_S: Final = 3_600.0
#: Events one session may cause per second, and at once; the rest are dropped and counted.
EVENT_RATE_S: Final = 200
EVENT_BURST: Final = 500
