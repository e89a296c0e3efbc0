"""Who may call which tool: the tables, grants and consents, and the one decision in its order."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from procession.agent_proc.agent.tools.builtin import BUILTIN
from procession.host.core.tool_permissions import (
    CONSENTS_MAX,
    LEGACY_START_TIER,
    LEGACY_TIERS,
    Allow,
    Refuse,
    ToolGrants,
    ToolTiers,
    covers,
    decide,
)
from procession.ipc.core.errors import InvalidRequest, PermissionDenied, RateLimited
from procession.ipc.core.tool_tiers import BUILTIN_TIERS, TIERS, TOOL_NAME_CHARS_MAX, Tier


def code_of(act, *arguments: object) -> str:
    with pytest.raises(InvalidRequest) as caught:
        act(*arguments)
    assert caught.value.message
    return caught.value.code


@pytest.mark.contract("2.5 permissions")
def test_tiers_go_from_least_to_most_and_each_covers_those_below():
    assert TIERS == ("read_only", "write", "execute", "privileged") == get_args(Tier)
    table = [[covers(granted, needed) for needed in TIERS] for granted in TIERS]
    assert table == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, True, True, True],
    ]


def test_every_built_in_tool_has_its_tier():
    assert BUILTIN_TIERS.keys() == BUILTIN.keys()
    assert {tool for tool, tier in BUILTIN_TIERS.items() if tier == "read_only"} == set(
        "read_file list_directory glob grep recall".split()
    )
    assert {tool for tool, tier in BUILTIN_TIERS.items() if tier == "execute"} == {"exec", "git", "python"}
    assert "privileged" not in BUILTIN_TIERS.values()


@pytest.mark.contract("2.5 permissions")
def test_the_legacy_table_has_twenty_seven_tools():
    counts = [sum(tier == one for one in LEGACY_TIERS.values()) for tier in TIERS]
    assert counts == [10, 8, 5, 4]
    assert LEGACY_TIERS["run_command"] == "execute"
    assert LEGACY_TIERS["ets_inspect"] == "privileged"
    assert LEGACY_START_TIER == "read_only"


@pytest.mark.contract("2.5 permissions")
@pytest.mark.parametrize("table", [BUILTIN_TIERS, LEGACY_TIERS], ids=["built-in", "legacy"])
def test_a_tool_that_the_table_does_not_know_needs_execute_never_less(table):
    assert ToolTiers(table).needed("bash_background") == "execute"


@pytest.mark.contract("0.16 permissions")
def test_a_session_begins_with_execute_and_may_call_every_built_in_tool():
    assert ToolGrants().tier == "execute"
    assert all(decide(ToolGrants(), ToolTiers(), tool) == Allow("tier") for tool in BUILTIN_TIERS)


def test_a_user_s_tools_are_declared_with_their_tiers():
    tiers = ToolTiers().declare({"fetch": "read_only", "wipe": "privileged"})
    assert (tiers.needed("fetch"), tiers.needed("wipe"), tiers.needed("read_file")) == (
        "read_only",
        "privileged",
        "read_only",
    )
    assert ToolTiers().needed("wipe") == "execute"
    assert code_of(tiers.declare, {"fetch": "write"}) == "already_registered"
    assert code_of(tiers.declare, {"exec": "read_only"}) == "already_registered"
    assert code_of(tiers.declare, {"new": "root"}) == "invalid_tier"


@pytest.mark.contract("2.5 permissions")
@pytest.mark.parametrize(("had", "granted"), list(itertools.product(TIERS, repeat=2)))
def test_a_grant_goes_up_or_stays_and_never_down(had, granted):
    grants = ToolGrants(had)
    if TIERS.index(granted) < TIERS.index(had):
        assert code_of(grants.grant, granted) == "tier_downgrade"
    else:
        assert grants.grant(granted) == ToolGrants(granted)
    assert grants == ToolGrants(had)


@pytest.mark.parametrize("tier", ["root", "", "EXECUTE", None, 2])
def test_a_grant_of_no_tier_is_refused(tier):
    assert code_of(ToolGrants().grant, tier) == "invalid_tier"


@pytest.mark.contract("2.5 permissions")
def test_consent_is_recorded_once_and_revoked_once():
    grants = ToolGrants().record_consent("wipe")
    assert grants.consented == {"wipe"}
    assert code_of(grants.record_consent, "wipe") == "already_consented"
    assert grants.revoke_consent("wipe") == ToolGrants()
    assert code_of(ToolGrants().revoke_consent, "wipe") == "not_consented"
    assert code_of(grants.revoke_consent, "other") == "not_consented"


def test_consent_stays_when_a_tier_is_granted():
    assert ToolGrants().record_consent("wipe").grant("privileged") == ToolGrants("privileged", frozenset({"wipe"}))


def test_consents_are_bounded_in_number_and_length():
    full = ToolGrants(consented=frozenset(f"t{n}" for n in range(CONSENTS_MAX)))
    assert code_of(full.record_consent, "one_more") == "too_many_consents"
    assert "one_more" in full.revoke_consent("t0").record_consent("one_more").consented
    assert code_of(ToolGrants().record_consent, "") == "invalid_tool"
    assert code_of(ToolGrants().record_consent, "a" * (TOOL_NAME_CHARS_MAX + 1)) == "invalid_tool"
    assert ToolGrants().record_consent("a" * TOOL_NAME_CHARS_MAX).consented


@pytest.mark.parametrize(
    ("consented", "granted", "needed"), list(itertools.product([False, True], TIERS, TIERS)), ids=str
)
def test_the_tier_lets_a_call_through_else_consent_does_else_nothing(consented, granted, needed):
    grants = ToolGrants(granted, frozenset({"tool"} if consented else ()))
    decision = decide(grants, ToolTiers({"tool": needed}), "tool")
    if covers(granted, needed):
        assert decision == Allow("tier")
    elif consented:
        assert decision == Allow("consent")
    else:
        assert isinstance(decision, Refuse)
        assert isinstance(decision.error, PermissionDenied)
        assert decision.error.retry_after_s is None
        assert (decision.error.code, decision.error.ran, decision.error.retryable) == ("permission_denied", "no", False)
        assert f"tool needs the tier {needed}, and the session has {granted}" in decision.error.message
        assert decision.error.hint == f"grant the session {needed}, or consent to tool alone"


def test_consent_is_for_one_tool():
    tiers = ToolTiers({"wipe": "privileged", "dump": "privileged"})
    assert isinstance(decide(ToolGrants().record_consent("wipe"), tiers, "dump"), Refuse)


@pytest.mark.contract("2.5 permissions")
@pytest.mark.parametrize("tool", ["read", "wipe"])
def test_the_rate_comes_first(tool):
    tiers = ToolTiers().declare({"wipe": "privileged"})
    decision = decide(ToolGrants().record_consent("wipe"), tiers, tool, 12.3456)
    assert isinstance(decision, Refuse)
    assert isinstance(decision.error, RateLimited)
    assert decision.error.retry_after_s == 12.3456
    assert (decision.error.code, decision.error.ran, decision.error.retryable) == ("rate_limited", "no", True)
    assert decision.error.hint == "try again in 12.346 s"


def test_a_name_that_a_model_made_up_is_told_short():
    decision = decide(ToolGrants("read_only"), ToolTiers(), "x" * 100_000)
    assert isinstance(decision, Refuse)
    assert len(str(decision.error)) < 400
