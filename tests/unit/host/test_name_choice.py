"""Which session a name means, as a table: who has the name, in which phases, and what a verb then gets."""

import pytest

from procession.host.core.lifecycle_values import PHASES
from procession.host.core.name_choice import LISTED_MAX, Named, choose, choose_holder, only_one
from procession.ipc.core.errors import InvalidRequest

AMBIGUOUS = "ambiguous"


def named(*phases: str) -> list[Named]:
    """Return sessions of one name, the oldest first, whose ids are their places and phases."""
    return [Named(f"{at}-{phase}", phase, 100.0 - at) for at, phase in enumerate(phases)]


def outcome(sessions: list[Named], *, stopped_first: bool) -> str | None:
    try:
        return choose("x", sessions, stopped_first=stopped_first)
    except InvalidRequest as error:
        return AMBIGUOUS if (error.code, error.ran) == ("ambiguous_name", "no") else repr(error)


@pytest.mark.parametrize(
    ("phases", "any_verb", "resume"),
    [
        ((), None, None),
        (("ready",), "0-ready", "0-ready"),
        (("stopped",), "0-stopped", "0-stopped"),
        (("stopped", "ready"), "1-ready", "0-stopped"),
        (("ready", "stopped"), "0-ready", "1-stopped"),
        (("ready", "ready"), AMBIGUOUS, AMBIGUOUS),
        (("ready", "failed"), AMBIGUOUS, AMBIGUOUS),
        (("ready", "failed", "stopped"), AMBIGUOUS, "2-stopped"),
        (("stopped", "stopped"), AMBIGUOUS, AMBIGUOUS),
        (("stopped", "stopped", "down"), "2-down", AMBIGUOUS),
        (("failed", "stopped"), "0-failed", "1-stopped"),
        (("backoff", "stopping"), AMBIGUOUS, AMBIGUOUS),
    ],
)
def test_a_name_means_the_one_that_holds_it(phases: tuple[str, ...], any_verb: str | None, resume: str | None) -> None:
    assert outcome(named(*phases), stopped_first=False) == any_verb
    assert outcome(named(*phases), stopped_first=True) == resume


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != "gone"])
def test_only_a_stopped_session_has_given_its_name_up(phase: str) -> None:
    assert named(phase)[0].holds_name == (phase != "stopped")
    assert choose_holder("x", named(phase)) == (None if phase == "stopped" else f"0-{phase}")


def test_a_start_that_looks_for_a_name_takes_no_stopped_one_and_none_of_several() -> None:
    assert choose_holder("x", named("stopped", "ready", "stopped")) == "1-ready"
    assert choose_holder("x", named("stopped", "stopped")) is None
    with pytest.raises(InvalidRequest):
        choose_holder("x", named("ready", "down"))


def test_the_error_lists_ids_phases_and_ages_and_is_bounded() -> None:
    several = [Named("a", "ready", 3.4), Named("b", "failed", 7_200.0), Named("c", "down", 90.0)]
    with pytest.raises(InvalidRequest) as caught:
        only_one("mine", several)
    text = "'mine' may mean 3 sessions: b (failed, 2 h old), c (down, 2 min old), a (ready, 3 s old)"
    assert str(caught.value) == f"{text} (hint: give the id of the one you mean)"
    with pytest.raises(InvalidRequest, match="and 92 more") as crowd:
        only_one("mine", [Named(f"id-{at}", "ready", at) for at in range(100)])
    assert crowd.value.message.count("(ready") == LISTED_MAX
