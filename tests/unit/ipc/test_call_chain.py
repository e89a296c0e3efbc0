"""Chains of calls between agents: a cycle is refused at once, and so is a chain without end."""

import pytest

from procession.ipc.core.call_chain import CHAIN_MAX, check_chain
from procession.ipc.core.errors import CallCycle


def test_a_chain_without_the_session_passes() -> None:
    check_chain((), "a")
    check_chain(("b", "c"), "a")


@pytest.mark.parametrize("chain", [("a",), ("a", "b"), ("b", "a", "c")])
def test_a_call_that_would_wait_for_itself_is_refused(chain: tuple[str, ...]) -> None:
    with pytest.raises(CallCycle) as caught:
        check_chain(chain, "a")
    assert (caught.value.code, caught.value.ran, caught.value.session) == ("call_cycle", "no", "a")
    assert str(caught.value).count("a ->") >= 1


def test_a_chain_has_an_end() -> None:
    with pytest.raises(CallCycle) as caught:
        check_chain(tuple(map(str, range(CHAIN_MAX))), "a")
    assert caught.value.code == "call_chain_too_long"
