"""The sync verbs about a session's tools: call them, have a model's calls made, describe them, say what a model may use.

It is *not* a handle of its own: Session inherits from it. Rule: one typed line a verb, over `tool_plans.py`, which is
loaded by the first that needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from uuid import uuid4

from procession.api.checks import check_limits, check_text, check_timeout
from procession.api.core.plans import Plan
from procession.api.futures import CallFuture
from procession.api.link import Link
from procession.api.results import decode_result
from procession.api.verbs import OnOutput, watch
from procession.ipc.core.bounds import QUERY_TIMEOUT_S
from procession.ipc.core.errors import ProcessionError
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import OPERATIONS
from procession.ipc.core.records import Permissions, ToolInfo

if TYPE_CHECKING:
    from procession.agent_proc.agent.tools.calls import ToolCall
    from procession.agent_proc.agent.tools.results import ToolResult

T = TypeVar("T")
_TOOL, _TOOLS = OPERATIONS["tool"], OPERATIONS["tools"]


class ToolVerbs:
    """See the module's text."""

    __slots__ = ()

    id: str
    _link: Link

    def _do(self, plan: Plan[T], /) -> T:
        raise NotImplementedError

    def _start(self, plan: Plan[T], /) -> CallFuture[T]:
        raise NotImplementedError

    def _tool_plan(
        self,
        name: str,
        args: Mapping[str, object] | None,
        timeout: float,
        limits: Limits | None,
        wait: bool,
        on_output: OnOutput | None,
    ) -> Plan[Any]:
        from procession.api import tool_plans

        returns = self._link.tools.returns(self.id, name)
        plan = tool_plans.call_tool(
            self.id, name, args, partial(decode_result, returns=returns) if returns is not None else decode_result,
            timeout_s=check_timeout(timeout, _TOOL), limits=check_limits(limits), wait=bool(wait),
        )  # fmt: skip
        watch(plan, on_output)
        return plan

    def call_tool(
        self,
        name: str,
        args: Mapping[str, object] | None = None,
        *,
        timeout: float = 30,
        limits: Limits | None = None,
        wait: bool = False,
        on_output: OnOutput | None = None,
    ) -> Any:
        """Call one of the session's tools in a worker of its own, and return its result.

        A tool of this program's own comes back as what it is annotated with; all else as plain data. It is the value itself,
        secrets included; what is kept of it in the session, and told to a model, has none of a known form. At `timeout` seconds
        its whole process tree is ended (ToolTimedOut). wait: queue instead of MailboxFull. Raises InvalidRequest (unknown_tool,
        missing_parameter, and what else is wrong with the arguments; then nothing was run), ToolFailed (ToolResultInvalid for
        a result that is no data, or not what the tool declares).
        """
        return self._do(self._tool_plan(name, args, timeout, limits, wait, on_output))

    def execute_tool_async(
        self,
        name: str,
        args: Mapping[str, object] | None = None,
        *,
        timeout: float = 30,
        limits: Limits | None = None,
        wait: bool = False,
        on_output: OnOutput | None = None,
    ) -> CallFuture[Any]:
        """Start what `call_tool` does and return its Future."""
        return self._start(self._tool_plan(name, args, timeout, limits, wait, on_output))

    def execute_tool_calls(self, reply: object, *, parallel: bool = True, timeout: float = 30) -> list[ToolResult]:
        """Make the calls that a model asks for, and return a result for each, in their order.

        reply: as OpenAI's Chat Completions or Anthropic's Messages API gives it, whole or in part (OpenAI's Responses API has
        another form, which is not read). A tool that is refused, fails or runs out of time has a result that says so;
        `tool_messages(results, api)` is what to send back. In what a model is told, secrets of a known form are replaced by
        [REDACTED:...]. These calls need the session's tier or consent, and are in `Host.audit`.

        Raises InvalidRequest: no_tool_calls for a reply that asks for none; invalid_tool_call for one with a call that cannot be
        read (arguments that are not JSON, an id that is there twice). Then nothing of the reply is run: answer each of its calls
        with the error's text, and the model can try again. Also SessionNotFound and HostLost.
        """
        from procession.api import tool_plans

        calls = tool_plans.calls_of(reply, lambda: str(uuid4()))
        timeout_s = check_timeout(timeout, _TOOL)
        started: list[CallFuture[ToolResult] | ProcessionError] = []
        results: list[ToolResult] = []
        try:
            for call in calls:
                try:
                    started.append(self._start(tool_plans.model_call(self.id, call, timeout_s)))
                except ProcessionError as error:  # arguments that cannot even be sent
                    started.append(error)
                if not parallel:
                    results.append(_result_of(call, started[-1]))
            return results or [_result_of(call, one) for call, one in zip(calls, started, strict=True)]
        except BaseException:
            for one in started:
                if not isinstance(one, ProcessionError):
                    one.cancel()
            raise

    # --- what there is ----------------------------------------------------------------------------------------------
    def tools(self, *, timeout: float = QUERY_TIMEOUT_S) -> list[ToolInfo]:
        """List the session's tools: the built-in ones, then the program's own."""
        from procession.api import tool_plans

        return self._do(tool_plans.tools(self.id, check_timeout(timeout, _TOOLS)))

    def tool_schemas(
        self,
        api: Literal["openai", "anthropic"],
        only: Iterable[str] | None = None,
        *,
        timeout: float = QUERY_TIMEOUT_S,
    ) -> list[dict[str, Any]]:
        """Return the session's tools, or `only` those, as the `tools=` of a model API takes them.

        Raises InvalidRequest (unknown_api, unknown_tool).
        """
        from procession.api import tool_plans

        return self._do(tool_plans.tool_schemas(self.id, api, only, check_timeout(timeout, _TOOLS)))

    # --- what a model may use ---------------------------------------------------------------------------------------
    def permissions(self) -> Permissions:
        """Return what calls that a model chose may use: the session's tier, and the tools with consent."""
        from procession.api import tool_plans

        return self._do(tool_plans.permissions(self.id))

    def grant_tier(self, tier: Literal["read_only", "write", "execute", "privileged"]) -> Permissions:
        """Let a model's calls use tools of this tier; a session begins with `execute`.

        Raises InvalidRequest (invalid_tier, tier_downgrade).
        """
        from procession.api import tool_plans

        return self._do(tool_plans.permissions(self.id, tier=check_text("tier", tier)))

    def record_consent(self, tool: str) -> Permissions:
        """Let a model's calls use this one tool, whatever tier it needs. Raises InvalidRequest (already_consented)."""
        from procession.api import tool_plans

        return self._do(tool_plans.permissions(self.id, consent=check_text("tool", tool)))

    def revoke_consent(self, tool: str) -> Permissions:
        """Take consent back. Raises InvalidRequest (not_consented)."""
        from procession.api import tool_plans

        return self._do(tool_plans.permissions(self.id, revoke=check_text("tool", tool)))


def _result_of(call: ToolCall, made: CallFuture[ToolResult] | ProcessionError) -> ToolResult:
    from procession.api import tool_plans

    try:
        if isinstance(made, ProcessionError):
            raise made
        return made.result()
    except ProcessionError as error:
        return tool_plans.failed_call(call, error)
