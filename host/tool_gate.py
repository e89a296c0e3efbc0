"""The gate before a session's tools: whether a call that a model chose may be made, and the record of all of them.

    execute_tool_calls, RunTool ──▶ rate, tier, consent (core/tool_permissions.py) ──▶ the session ──▶ the audit log

It is *not* in the way of the program's own calls, nor does it look into arguments: they are hashed. Rules: the host counts, so
that no session can forget what it was refused; every call that a model chose is recorded, with how it ended; any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from procession.host import clock
from procession.host.core.audit_log import AuditLog
from procession.host.core.tool_permissions import Refuse, ToolGrants, ToolTiers, check_tier, decide
from procession.host.core.tool_rates import RateLimits, ToolRates
from procession.host.session import SessionActor
from procession.ipc.core.backend import Done, Outcome, Request
from procession.ipc.core.bounds import RESULT_NODES_MAX
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import ProcessionError
from procession.ipc.core.operations import AuditBody, AuditList, GrantBody, ToolBody
from procession.ipc.core.records import AuditStatus, Permissions
from procession.ipc.core.tool_table import read_tools
from procession.ipc.core.values import decode_value

#: Longer arguments are not hashed: nobody waits for that.
HASHED_BYTES_MAX: Final = 1 << 20


class ToolGate:
    """See the module's text."""

    def __init__(self, rates: RateLimits) -> None:
        self._lock = threading.Lock()
        self._rates = ToolRates(rates)
        self._log = AuditLog()
        self._grants: dict[str, ToolGrants] = {}
        self._tiers: dict[str, ToolTiers] = {}

    def admit(self, actor: SessionActor, request: Request, done: Done) -> Done:
        """Return what is to be told the outcome of a call that may be made. Raises PermissionDenied, RateLimited."""
        body = request.body
        assert isinstance(body, ToolBody)
        began = clock.monotonic()
        hashed = _arguments(request.payload)
        with self._lock:
            tiers = self._tiers_of(actor)
            wait_s = self._rates.take(actor.id, body.name, tiers.needed(body.name), began)
            verdict = decide(self._grants.get(actor.id, ToolGrants()), tiers, body.name, wait_s)
        if isinstance(verdict, Refuse):
            self._record(actor.id, body.name, "blocked", began, verdict.error.code, hashed)
            raise verdict.error

        def over(outcome: Outcome) -> None:
            status, code = _how(outcome)
            self._record(actor.id, body.name, status, began, code, hashed)
            done(outcome)

        return over

    def granted(self, session: str) -> Permissions:
        """Return what a session has been granted."""
        with self._lock:
            grants = self._grants.get(session, ToolGrants())
        return Permissions(tier=grants.tier, consented=tuple(sorted(grants.consented)))

    def restore(self, session: str, tier: str, consented: tuple[str, ...]) -> None:
        """Take up what a former host had granted. Raises InvalidRequest for what cannot have been."""
        grants = ToolGrants(tier=check_tier(tier)) if tier else ToolGrants()
        for tool in consented:
            grants = grants.record_consent(tool)
        with self._lock:
            self._grants[session] = grants

    def permissions(self, actor: SessionActor, body: GrantBody) -> Permissions:
        """Change what a session has been granted as `body` says, and return all of it.

        Raises InvalidRequest: invalid_tier, tier_downgrade, already_consented, not_consented, too_many_consents.
        """
        with self._lock:
            grants = self._grants.get(actor.id, ToolGrants())
            if body.tier:
                grants = grants.grant(body.tier)
            if body.consent:
                grants = grants.record_consent(body.consent)
            if body.revoke:
                grants = grants.revoke_consent(body.revoke)
            self._grants[actor.id] = grants
        if body.tier or body.consent or body.revoke:
            actor.keeping.save()
        return Permissions(tier=grants.tier, consented=tuple(sorted(grants.consented)))

    def audit(self, session: str | None, body: AuditBody) -> AuditList:
        """Return entries of the log, newest first."""
        with self._lock:
            return AuditList(entries=tuple(self._log.rows(session=session, tool=body.tool, limit=body.limit)))

    def forget(self, session: str) -> None:
        """Let go of a session that was removed; what it did stays in the log."""
        with self._lock:
            self._grants.pop(session, None)
            self._tiers.pop(session, None)
            self._rates.forget(session)

    def _tiers_of(self, actor: SessionActor) -> ToolTiers:
        found = self._tiers.get(actor.id)
        if found is None:
            found = ToolTiers().declare({tool.name: tool.tier for tool in read_tools(actor.spec.tools)})
            self._tiers[actor.id] = found
        return found

    def _record(
        self,
        session: str,
        tool: str,
        status: AuditStatus,
        began: float,
        code: str,
        arguments: Mapping[str, object] | None,
    ) -> None:
        at = datetime.fromtimestamp(clock.wall(), UTC)
        duration_ms = round((clock.monotonic() - began) * 1000)
        with self._lock:
            self._log.record(session, tool, status, at, code=code, duration_ms=duration_ms, arguments=arguments)


def _arguments(payload: bytes | None) -> Mapping[str, object] | None:
    """Return a call's arguments to be hashed; None when they cannot be read, which the session will tell."""
    if payload is None:
        return {}
    try:
        value = decode_value(payload, nodes_max=RESULT_NODES_MAX) if len(payload) <= HASHED_BYTES_MAX else None
    except ProtocolBreach:
        return None
    return value if isinstance(value, dict) else None


def _how(outcome: Outcome) -> tuple[AuditStatus, str]:
    if not isinstance(outcome, ProcessionError):
        return "ok", ""
    if isinstance(outcome, TimeoutError):
        return "timeout", outcome.code
    return "error", outcome.code
