"""Plans of the verbs about tools, and what becomes of a model's calls: parsed, made, and answered one by one.

It is *not* where a tool is checked (the session does that) or allowed (the host). Rules: a call that a model chose always has a
result, which says what went wrong; what a model is to read has no secrets that are known by their form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from procession.agent_proc.agent.texts import near, shown
from procession.agent_proc.agent.tools.calls import ToolCall, parse_tool_calls
from procession.agent_proc.agent.tools.results import ToolResult, content_of, error_result, ok_result
from procession.agent_proc.agent.tools.sanitizer import sanitize, sanitize_text
from procession.agent_proc.agent.tools.spec import Api, ToolSpec
from procession.agent_proc.agent.tools.spec import tool_schemas as schemas_of
from procession.api.checks import check_text
from procession.api.core import plans
from procession.api.core.plans import OnItem, Plan
from procession.ipc.core.backend import Request, Response
from procession.ipc.core.bounds import RESULT_NODES_MAX
from procession.ipc.core.errors import HostLost, InvalidRequest, ProcessionError, SessionNotFound, ToolResultInvalid
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import OPERATIONS, AuditBody, AuditList, GrantBody, Nothing, ToolBody, ToolDone
from procession.ipc.core.records import AuditEntry, Permissions, RunReport, ToolInfo
from procession.ipc.core.tool_tiers import TIERS
from procession.ipc.core.values import UnsupportedValue, encode_value

_TOOL, _TOOLS = OPERATIONS["tool"], OPERATIONS["tools"]
_GRANT, _AUDIT = OPERATIONS["permissions"], OPERATIONS["audit"]
_read_done: Final = msgspec.msgpack.Decoder(ToolDone).decode
_read_permissions: Final = msgspec.msgpack.Decoder(Permissions).decode
_read_audit: Final = msgspec.msgpack.Decoder(AuditList).decode


def call_tool(
    session: str,
    name: str,
    arguments: Mapping[str, object] | None,
    read: Callable[[bytes | None], Any],
    *,
    timeout_s: float | None,
    limits: Limits,
    wait: bool = False,
    call_id: str = "",
    by_model: bool = False,
    on_item: OnItem | None = None,
) -> Plan[Any]:
    """Call a tool; `read` makes its result of the bytes that come back."""
    body = ToolBody(name=name, call_id=call_id, by_model=by_model, limits=limits)
    request = Request(_TOOL, session, body, _packed(name, arguments), timeout_s, on_item=on_item, wait=wait)
    return Plan(request, partial(_result, read=read))


def _packed(name: str, arguments: Mapping[str, object] | None) -> bytes:
    if not isinstance(name, str):
        raise InvalidRequest(f"a tool is called by its name, not by a {type(name).__name__}", code="invalid_tool_name")
    check_text("name", name)
    if arguments is not None and not isinstance(arguments, Mapping):
        raise InvalidRequest(
            f"the arguments of {shown(name)} are a mapping of names, not a {type(arguments).__name__}",
            code="invalid_arguments",
        )
    for key in arguments or ():
        if not isinstance(key, str):
            raise InvalidRequest(
                f"the arguments of {shown(name)} are named by texts, not by {shown(key)}", code="invalid_arguments"
            )
    try:
        return encode_value(dict(arguments or {}), path=name, lossy=True, nodes_max=RESULT_NODES_MAX)
    except UnsupportedValue as error:
        raise InvalidRequest(
            str(error), code="not_plain_data", hint="give plain data: text, numbers, lists, mappings"
        ) from None


def _result(response: Response, *, read: Callable[[bytes | None], Any]) -> Any:
    try:
        return read(response.payload)
    except ToolResultInvalid as error:
        if error.report is None:
            error.report = report_of(response)
            error.elapsed_s = error.report.elapsed_s
            error.call_id = response.call_id or None
        raise


def report_of(response: Response) -> RunReport:
    """Return how the run of a tool went."""
    return _read_done(response.body).report


# --- calls that a model chose ---------------------------------------------------------------------------------------


def calls_of(reply: object, new_id: Callable[[], str]) -> list[ToolCall]:
    """Return the calls of a model's reply. Raises InvalidRequest: no_tool_calls, invalid_tool_call."""
    return parse_tool_calls(reply, new_id=new_id)


def model_call(session: str, call: ToolCall, timeout_s: float | None) -> Plan[ToolResult]:
    """Make one of a model's calls; what comes of it is its ToolResult."""
    plan = call_tool(
        session, call.name, call.arguments, plans.plain_value,
        timeout_s=timeout_s, limits=Limits(), wait=True, call_id=call.id, by_model=True,
    )  # fmt: skip
    finish = plan.finish

    def read(response: Response) -> ToolResult:
        duration_ms = round(report_of(response).elapsed_s * 1000)
        return ok_result(call, sanitize_text(content_of(sanitize(finish(response)))), duration_ms)

    return Plan(plan.request, read)


def failed_call(call: ToolCall, error: Exception) -> ToolResult:
    """Return the result of a call that was refused or failed. Raises what is no failure of a tool: no session, no host."""
    if isinstance(error, SessionNotFound | HostLost) or not isinstance(error, ProcessionError):
        raise error
    made = error_result(call, error, round((error.elapsed_s or 0.0) * 1000))
    return msgspec.structs.replace(made, content=sanitize_text(made.content))


# --- what there is --------------------------------------------------------------------------------------------------


def tools(session: str, timeout_s: float | None) -> Plan[list[ToolInfo]]:
    """List the tools of a session."""
    return Plan(Request(_TOOLS, session, Nothing(), None, timeout_s), _listed)


def tool_schemas(
    session: str, api: Api, only: Iterable[str] | None, timeout_s: float | None
) -> Plan[list[dict[str, Any]]]:
    """Describe the tools of a session as a model API takes them."""
    schemas_of((), api)  # refuses an API that there is not, before anybody is asked
    wanted = None if only is None else _names(only)

    def read(response: Response) -> list[dict[str, Any]]:
        found = {tool.name: tool for tool in _listed(response)}
        for name in wanted or ():
            if name not in found:
                raise InvalidRequest(
                    f"this session has no tool {shown(name)}", code="unknown_tool", hint=near(name, found)
                )
        chosen = [found[name] for name in (found if wanted is None else wanted)]
        specs = [
            ToolSpec(name=one.name, parameters=one.parameters, description=one.description, tier=one.tier)  # type: ignore[arg-type]
            for one in chosen
        ]
        return schemas_of(specs, api)

    return Plan(Request(_TOOLS, session, Nothing(), None, timeout_s), read)


def _names(only: object) -> list[str]:
    """Return names of tools, each once."""
    if isinstance(only, str | bytes) or not isinstance(only, Iterable):
        raise InvalidRequest(
            f"only: a list of the names of tools is needed, not {shown(only)}",
            code="invalid_tools",
            hint=f"only=[{shown(only)}]" if isinstance(only, str) else "",
        )
    names: list[str] = []
    for name in only:
        if not isinstance(name, str):
            raise InvalidRequest(f"only: the name of a tool is a text, not {shown(name)}", code="invalid_tools")
        names.append(name)
    return list(dict.fromkeys(names))


def _listed(response: Response) -> list[ToolInfo]:
    try:
        return msgspec.convert(plans.plain_value(response.payload), list[ToolInfo])
    except msgspec.ValidationError as error:
        raise ToolResultInvalid(f"the list of tools cannot be read: {error}", code="result_unreadable") from None


# --- who may --------------------------------------------------------------------------------------------------------


def permissions(
    session: str, *, tier: str | None = None, consent: str | None = None, revoke: str | None = None
) -> Plan[Permissions]:
    """Look at, or change, what a session's model may use. Raises InvalidRequest for an empty name: it would change nothing."""
    if tier == "":
        raise InvalidRequest(
            "tier: the name of a tier is needed", code="invalid_tier", hint="use one of " + ", ".join(TIERS)
        )
    if "" in (consent, revoke):
        raise InvalidRequest("tool: the name of a tool is needed", code="invalid_tool")
    body = GrantBody(tier=tier or "", consent=consent or "", revoke=revoke or "")
    return Plan(Request(_GRANT, session, body, None, _GRANT.timeout_s), lambda r: _read_permissions(r.body))


def audit(session: str, tool: str | None, limit: int) -> Plan[list[AuditEntry]]:
    """Read the log of the calls that models chose, newest first."""
    body = AuditBody(tool=tool, limit=limit)
    return Plan(Request(_AUDIT, session, body, None, _AUDIT.timeout_s), lambda r: list(_read_audit(r.body).entries))
