"""What errors lead to: policy x error -> decision."""

from __future__ import annotations

from typing import Any

import pytest

from procession.agent_proc.agent.directives import Emit, Error
from procession.agent_proc.agent.error_policy import (
    Custom,
    EmitErrors,
    End,
    GoOn,
    LogOnly,
    MaxErrors,
    StopOnError,
    Tell,
    counts,
    decide,
)
from procession.ipc.core.errors import AgentError, CallTimedOut, InvalidRequest, to_data

RAN = Error(to_data(AgentError("broken", code="b")), "instruction", "go")
MAYBE = Error(to_data(CallTimedOut("late")))
REFUSED = Error(to_data(InvalidRequest("wrong", code="w")), "routing")


def _leaving(error: Error, state: Any) -> Any:
    raise SystemExit(3)


def _unequal(error: Error, state: Any) -> Any:
    return _Unequal()


class _Unequal:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.contract("2.2 Error", "3 error policy")
@pytest.mark.parametrize(
    ("policy", "error", "before", "decision"),
    [
        (LogOnly(), RAN, 0, GoOn()),
        (LogOnly(), REFUSED, 99, GoOn()),
        (StopOnError(), RAN, 0, End("agent_error: broken")),
        (StopOnError(), MAYBE, 0, End("agent_error: late")),
        (StopOnError(), REFUSED, 0, GoOn()),
        (MaxErrors(3), RAN, 0, GoOn()),
        (MaxErrors(3), RAN, 1, GoOn()),
        (MaxErrors(3), RAN, 2, End("max_errors_exceeded: 3")),
        (MaxErrors(3), RAN, 3, End("max_errors_exceeded: 3")),
        (MaxErrors(3), REFUSED, 2, GoOn()),
        (MaxErrors(1), RAN, 0, End("max_errors_exceeded: 1")),
        (Custom(lambda error, state: "ok"), RAN, 0, GoOn()),
        (Custom(lambda error, state: "stop"), RAN, 0, End("agent_error: broken")),
        (Custom(lambda error, state: "stop" if state["strict"] else "ok"), RAN, 0, End("agent_error: broken")),
        (Custom(lambda error, state: state["missing"]), RAN, 0, GoOn("the error policy raised KeyError: 'missing'")),
        (Custom(_leaving), RAN, 0, GoOn("the error policy raised SystemExit: 3")),
        (Custom(_unequal), RAN, 0, GoOn("the error policy returned a _Unequal, not 'ok' or 'stop'")),
        (Custom(lambda error, state: None), RAN, 0, GoOn("the error policy returned None, not 'ok' or 'stop'")),  # type: ignore[arg-type, return-value]
    ],
)
def test_policy_and_error_decide(policy: Any, error: Error, before: int, decision: Any):
    assert decide(policy, error, before, {"strict": True}) == decision


@pytest.mark.contract("3 error policy")
def test_an_error_may_be_told_as_a_signal():
    decision = decide(EmitErrors("parent"), RAN, 0, {})
    told = {"kind": "AgentError", "code": "b", "message": "broken", "context": "instruction", "action": "go"}
    assert decision == Tell(Emit("procession.agent.error", told, "parent"))


@pytest.mark.contract("3 error policy")
def test_what_was_refused_is_its_senders_error():
    assert (counts(RAN), counts(MAYBE), counts(REFUSED)) == (True, True, False)


def test_reasons_are_cut():
    decision = decide(StopOnError(), Error(to_data(AgentError("x" * 5000))), 0, {})
    assert isinstance(decision, End)
    assert len(decision.reason) <= 1024


@pytest.mark.contract("3 error policy")
@pytest.mark.parametrize("count", [0, -1, True, 1.5, "3"])
def test_a_count_is_at_least_one(count):
    with pytest.raises(InvalidRequest) as caught:
        MaxErrors(count)
    assert caught.value.code == "invalid_error_policy"


def test_a_policy_of_one_s_own_is_a_function():
    with pytest.raises(InvalidRequest, match="a function") as caught:
        Custom(3)  # type: ignore[arg-type]
    assert caught.value.code == "invalid_error_policy"
