"""Directives: the only way an agent has an effect. Plain data; the agent server carries them out, in order.

    Emit RunTool Reply Error                    towards others, tools, who awaits an answer, the error policy
    Schedule Cron CronCancel                    signals to itself, later
    SpawnAgent AdoptChild StopChild             children, each a session with a process of its own
    RunInstruction CallAgent Stop               the agent's own next step, another agent's answer, and its end

They are *not* the carrying out: whether a child or a tool exists is the server's to find. Rules: a directive that exists
says something that can be tried (InvalidRequest, code invalid_directive); it compares by value, crosses processes
unchanged (`encode_directives`), and an id left empty is filled in by `cmd` from the Moment (`completed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias, TypeVar, get_args

import msgspec

from procession.agent_proc.agent.cron import check_time_zone, parse_cron
from procession.agent_proc.agent.instructions import ACTION_CHARS_MAX, INSTRUCTIONS_MAX
from procession.agent_proc.agent.patterns import check_type
from procession.agent_proc.agent.references import parse_reference
from procession.agent_proc.agent.signal_types import CRON_TICK, SCHEDULED
from procession.agent_proc.agent.signals import Extension, Signal, check_extensions, check_subject
from procession.agent_proc.agent.texts import NAME_CHARS_MAX, check_map, check_text, shown
from procession.ipc.core.bounds import BODY_DEPTH_MAX, QUERY_TIMEOUT_S, RESULT_NODES_MAX, RUN_TIMEOUT_S, TIMEOUT_S_MAX
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import ErrorData, InvalidRequest
from procession.ipc.core.state_ops import Value
from procession.ipc.core.values import decode_value, encode_value

if TYPE_CHECKING:
    from procession.agent_proc.agent.change import Moment

DIRECTIVES_MAX: Final = 1_000
"""That the actions of one command may ask for: as many as it may make ops."""
OUTCOME_DIRECTIVES_MAX: Final = DIRECTIVES_MAX + INSTRUCTIONS_MAX
"""Each instruction may add an Error to these."""
DELAY_MS_MAX: Final = 366 * 86_400 * 1_000
"""A year ahead; what is later is a date, and Cron's."""

RestartType = Literal["permanent", "transient", "temporary"]
OrphanRule = Literal["stop", "continue", "emit_orphan"]
"""What a child does when its parent is gone: end; go on; go on after handling procession.agent.orphaned."""
ErrorContext = Literal["normalize", "routing", "skill", "hook", "instruction", "directive"]
"""Where an error arose: making instructions, finding a route, a phase of a skill, a hook, an action, an effect."""

_CONTEXTS: Final = get_args(ErrorContext)
_CODE: Final = "invalid_directive"
_DEPTH_MAX: Final = BODY_DEPTH_MAX + 2
"""The list of directives and a directive are containers around its values."""


class Directive(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag_field="directive"):
    """One effect that an action asks for. Directives compare by value."""

    id_field: ClassVar[str] = ""
    """The field that is an id of its own, which `completed` fills."""


class ToChild(msgspec.Struct, frozen=True, array_like=True, tag="child"):
    """The child with this tag."""

    tag: str

    def __post_init__(self) -> None:
        _check_tag(self.tag)


class ToSession(msgspec.Struct, frozen=True, array_like=True, tag="session"):
    """The session with this id or name."""

    session: str

    def __post_init__(self) -> None:
        check_text(self.session, "the session to send to", code=_CODE)


Everyone = Literal["subscribers", "self", "parent", "children", "log"]
Target: TypeAlias = Everyone | ToChild | ToSession
_EVERYONE: Final = get_args(Everyone)


class Emit(Directive, frozen=True, tag="emit"):
    """Send a signal. to: None is wherever this agent's signals go by default."""

    id_field = "id"

    type: str
    data: Value = None
    to: Target | None = None
    subject: str | None = None
    extensions: dict[str, Extension] = {}
    id: str = ""

    def __post_init__(self) -> None:
        check_type(self.type)
        check_subject(self.subject)
        check_extensions(self.extensions)
        to = self.to
        if to is not None and not isinstance(to, ToChild | ToSession) and to not in _EVERYONE:
            raise _invalid("to", to, "ToChild(tag), ToSession(id) or one of " + ", ".join(_EVERYONE))

    def signal(self, source: str, at: datetime) -> Signal:
        """Return the signal that is to be sent, from `source`. The directive must be `completed`."""
        return Signal(
            id=self.id,
            source=source,
            type=self.type,
            time=at,
            data=self.data,
            subject=self.subject,
            extensions=self.extensions,
        )


class Error(Directive, frozen=True, tag="error"):
    """Hand an error to the error policy. action: the one that failed, where one did."""

    error: ErrorData
    context: ErrorContext = "instruction"
    action: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.error, ErrorData):
            raise _invalid("error", self.error, "what errors.to_data(error) makes of an error")
        if self.context not in _CONTEXTS:
            raise _invalid("context", self.context, "one of " + ", ".join(_CONTEXTS))


class Reply(Directive, frozen=True, tag="reply"):
    """Answer whoever awaits the result of the signal or call with this id, whenever that was.

    The answer to the present call is the change's own `reply`.
    """

    to: str
    value: Value = None

    def __post_init__(self) -> None:
        check_text(self.to, "the id of what is answered", code=_CODE)


class RunTool(Directive, frozen=True, tag="run_tool"):
    """Run a tool in a worker; procession.tool.result or .tool.error with this call_id tells how it went."""

    id_field = "call_id"

    tool: str
    arguments: dict[str, Value] = {}
    call_id: str = ""
    timeout_s: float = RUN_TIMEOUT_S

    def __post_init__(self) -> None:
        check_text(self.tool, "the name of a tool", code=_CODE, chars_max=NAME_CHARS_MAX)
        check_map(self.arguments, f"the arguments of {self.tool}", code=_CODE)
        if type(self.timeout_s) not in (int, float) or not 0 < self.timeout_s <= TIMEOUT_S_MAX:
            raise _invalid("timeout_s", self.timeout_s, f"above 0 and at most {TIMEOUT_S_MAX:g} seconds")


class RunInstruction(Directive, frozen=True, tag="run_instruction"):
    """Run an action of this agent next, and then `result_action` with what came of it.

    That one gets: status ("ok" or "error"), result or reason, instruction (action and parameters), meta.
    """

    action: str
    parameters: dict[str, Value] = {}
    result_action: str = "instruction_result"
    meta: dict[str, Value] = {}

    def __post_init__(self) -> None:
        for action in (self.action, self.result_action):
            check_text(action, "the name of an action", code=_CODE, chars_max=ACTION_CHARS_MAX)
        check_map(self.parameters, f"the parameters of {self.action}", code=_CODE)
        check_map(self.meta, "meta", code=_CODE)


class CallAgent(Directive, frozen=True, tag="call_agent"):
    """Have another agent handle a signal, and then run `result_action` with what came of it, in at most `timeout_s` seconds.

    That one gets: status ("ok" or "error"), result or reason, call (to, type), meta. A call that would wait for itself,
    through whichever agents, fails at once with code call_cycle.
    """

    id_field = "call_id"

    to: ToChild | ToSession | Literal["parent"]
    type: str
    data: Value = None
    result_action: str = "call_result"
    timeout_s: float = QUERY_TIMEOUT_S
    meta: dict[str, Value] = {}
    call_id: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.to, ToChild | ToSession) and self.to != "parent":
            raise _invalid("to", self.to, "ToChild(tag), ToSession(id) or parent")
        check_type(self.type)
        check_text(self.result_action, "the name of an action", code=_CODE, chars_max=ACTION_CHARS_MAX)
        if type(self.timeout_s) not in (int, float) or not 0 < self.timeout_s <= TIMEOUT_S_MAX:
            raise _invalid("timeout_s", self.timeout_s, f"above 0 and at most {TIMEOUT_S_MAX:g} seconds")
        check_map(self.meta, "meta", code=_CODE)


class Schedule(Directive, frozen=True, tag="schedule"):
    """Send this agent a signal after a delay. Kept in memory only: a crash loses it, and Cron survives one."""

    delay_ms: int
    type: str = SCHEDULED
    data: Value = None

    def __post_init__(self) -> None:
        check_type(self.type)
        if type(self.delay_ms) is not int or not 0 <= self.delay_ms <= DELAY_MS_MAX:
            raise _invalid("delay_ms", self.delay_ms, f"an int from 0 to {DELAY_MS_MAX}")


class Cron(Directive, frozen=True, tag="cron"):
    """Send this agent a signal at every time that `cron` names. A job with the same job_id takes the old one's place."""

    id_field = "job_id"

    cron: str
    type: str = CRON_TICK
    data: Value = None
    job_id: str = ""
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        parse_cron(self.cron)
        check_type(self.type)
        if self.job_id:
            _check_job_id(self.job_id)
        check_time_zone(self.timezone)


class CronCancel(Directive, frozen=True, tag="cron_cancel"):
    """End a job; one that is not there is ignored."""

    job_id: str

    def __post_init__(self) -> None:
        _check_job_id(self.job_id)


class SpawnAgent(Directive, frozen=True, tag="spawn_agent"):
    """Start a child and keep it under `tag`; procession.agent.child.started tells when it is there.

    agent: `module:Class`. name: of its session, parent/tag unless given. state: what its state begins with. meta: comes
    back with its signals. on_parent_death: it ends (stop), goes on (continue), or goes on once it has handled
    procession.agent.orphaned (emit_orphan).
    """

    agent: str
    tag: str
    name: str = ""
    state: dict[str, Value] = {}
    meta: dict[str, Value] = {}
    restart: RestartType = "transient"
    on_parent_death: OrphanRule = "stop"

    def __post_init__(self) -> None:
        parse_reference(self.agent)
        _check_tag(self.tag)
        if self.name:
            check_text(self.name, "the name of a child", code=_CODE)
        check_map(self.state, "the state of a child", code=_CODE)
        check_map(self.meta, "meta", code=_CODE)
        if self.restart not in get_args(RestartType):
            raise _invalid("restart", self.restart, "one of " + ", ".join(get_args(RestartType)))
        if self.on_parent_death not in get_args(OrphanRule):
            raise _invalid("on_parent_death", self.on_parent_death, "one of " + ", ".join(get_args(OrphanRule)))


class AdoptChild(Directive, frozen=True, tag="adopt_child"):
    """Make a live session without a parent this agent's child. child: its id or name."""

    child: str
    tag: str
    meta: dict[str, Value] = {}

    def __post_init__(self) -> None:
        check_text(self.child, "the session to adopt", code=_CODE)
        _check_tag(self.tag)
        check_map(self.meta, "meta", code=_CODE)


class StopChild(Directive, frozen=True, tag="stop_child"):
    """End the child under `tag`, for good; a tag without a child is ignored."""

    tag: str
    reason: str = "normal"

    def __post_init__(self) -> None:
        _check_tag(self.tag)
        check_text(self.reason, "a reason", code=_CODE)


class Stop(Directive, frozen=True, tag="stop"):
    """End this agent's session in an orderly way, after the directives before this one."""

    reason: str = "normal"

    def __post_init__(self) -> None:
        check_text(self.reason, "a reason", code=_CODE)


AnyDirective: TypeAlias = (
    Emit
    | Error
    | Reply
    | RunTool
    | RunInstruction
    | CallAgent
    | Schedule
    | Cron
    | CronCancel
    | SpawnAgent
    | AdoptChild
    | StopChild
    | Stop
)
DIRECTIVES: Final[frozenset[type]] = frozenset(get_args(AnyDirective))


def _invalid(field: str, value: object, allowed: str) -> InvalidRequest:
    return InvalidRequest(f"{field} must be {allowed}, not {shown(value)}", code=_CODE)


def _check_tag(tag: object) -> None:
    check_text(tag, "the tag of a child", code=_CODE, chars_max=NAME_CHARS_MAX)


def _check_job_id(job_id: object) -> None:
    check_text(job_id, "the id of a job", code=_CODE, chars_max=2 * NAME_CHARS_MAX)  # a skill's has its key before it


D = TypeVar("D", bound=Directive)


def completed(directive: D, moment: Moment) -> D:
    """Return `directive` with a new id where it has none: carried out twice, it is known to be the same."""
    field = directive.id_field
    if not field or getattr(directive, field):
        return directive
    return msgspec.structs.replace(directive, **{field: moment.new_id()})


# -- bytes -----------------------------------------------------------------------------------------------------------

DATA_FIELDS: Final = frozenset({"data", "value", "arguments", "parameters", "state", "meta"})
"""Hold the user's data, which are written as they are; the rest are our own fields."""


def encode_directives(directives: Sequence[Directive]) -> bytes:
    """Return `directives` as bytes that `decode_directives` gives back equal.

    Raises UnsupportedValue for data that do not cross, and InvalidRequest for more than OUTCOME_DIRECTIVES_MAX.
    """
    if len(directives) > OUTCOME_DIRECTIVES_MAX:
        raise InvalidRequest(
            f"{len(directives)} directives at once, at most {OUTCOME_DIRECTIVES_MAX} are allowed", code=_CODE
        )
    rows = [_row(directive) for directive in directives]
    return encode_value(rows, path="directives", nodes_max=RESULT_NODES_MAX, depth_max=_DEPTH_MAX)


def _row(directive: Directive) -> list[object]:
    row: list[object] = [directive.__struct_config__.tag]
    for name in directive.__struct_fields__:
        field: Any = getattr(directive, name)
        row.append(field if name in DATA_FIELDS else msgspec.to_builtins(field))
    return row


_DIRECTIVES: Final = list[AnyDirective]


def decode_directives(data: bytes) -> list[AnyDirective]:
    """Return the directives of `data`. Raises ProtocolBreach: bytes of `encode_directives` hold none that says nothing."""
    rows = decode_value(data, nodes_max=RESULT_NODES_MAX, depth_max=_DEPTH_MAX)
    if type(rows) is not list or len(rows) > OUTCOME_DIRECTIVES_MAX:
        raise ProtocolBreach("not a list of directives")
    try:
        directives: list[AnyDirective] = msgspec.convert(rows, type=_DIRECTIVES)
    except msgspec.ValidationError:
        raise ProtocolBreach("a directive that says nothing") from None
    return directives
