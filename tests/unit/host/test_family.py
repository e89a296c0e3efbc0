"""Families as a value: who may be whose child, and what follows when one of them is ready or gone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from helpers.counts import examples
from procession.host.core.family import (
    CHILDREN_MAX,
    GENERATIONS_MAX,
    ORPHAN_RULES,
    TAG_CHARS_MAX,
    End,
    Exited,
    Family,
    Orphaned,
    OrphanRule,
    Started,
    Tie,
    child_name,
    orphan_rule,
)
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.names import characters


def family(*pairs: str, rule: OrphanRule = "stop") -> Family:
    """Return a family: `ab` is a with its child b, whose tag is b, too."""
    made = Family()
    for parent, child in (tuple(pair) for pair in pairs):
        made = made.join(Tie(parent, child, child, on_parent_death=rule))
    return made


def line(count: int) -> Family:
    """Return a line of so many sessions, "0" at its top."""
    made = Family()
    for number in range(1, count):
        made = made.join(Tie(str(number - 1), "next", str(number)))
    return made


def code_of(refused: pytest.ExceptionInfo[InvalidRequest]) -> str | None:
    return refused.value.code


# --- becoming a child -------------------------------------------------------------------------------------------------
def test_a_tag_names_one_child_of_its_parent_and_any_of_another() -> None:
    made = family("ab")
    with pytest.raises(InvalidRequest) as refused:
        made.join(Tie("a", "b", "c"))
    assert code_of(refused) == "tag_in_use"
    again = made.join(Tie("x", "b", "c"))
    assert (again.child("a", "b"), again.child("x", "b")) == (Tie("a", "b", "b"), Tie("x", "b", "c"))
    assert again.child("a", "c") is None


def test_a_tag_is_free_again_when_its_child_is_gone() -> None:
    left, _ = family("ab").gone("b", "stopped", "normal")
    assert left.join(Tie("a", "b", "c")).parent_of("c") == "a"


@pytest.mark.parametrize("tag", ["", "x" * (TAG_CHARS_MAX + 1)])
def test_a_tag_has_a_length(tag: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Family().check("a", tag)
    assert code_of(refused) == "invalid_tag"


def test_a_session_has_so_many_children_and_no_more() -> None:
    made = Family()
    for number in range(CHILDREN_MAX):
        made = made.join(Tie("a", str(number), f"child {number}"))
    with pytest.raises(InvalidRequest) as refused:
        made.check("a", "one more")
    assert code_of(refused) == "too_many_children"
    made.check("b", "one more")


def test_a_line_has_so_many_generations_and_no_more() -> None:
    made = line(GENERATIONS_MAX)
    assert made.generations("0") == GENERATIONS_MAX
    with pytest.raises(InvalidRequest) as refused:
        made.check(str(GENERATIONS_MAX - 1), "deeper")
    assert code_of(refused) == "family_too_deep"
    made.check(str(GENERATIONS_MAX - 2), "as deep")


def test_what_is_adopted_brings_its_generations() -> None:
    made = replace(line(GENERATIONS_MAX - 2), ties={**line(GENERATIONS_MAX - 2).ties, **family("xy", "yz").ties})
    with pytest.raises(InvalidRequest) as refused:
        made.adopt(Tie(str(GENERATIONS_MAX - 3), "x", "x"), is_alive=True, incarnation=1)
    assert code_of(refused) == "family_too_deep"
    adopted, _ = made.adopt(Tie(str(GENERATIONS_MAX - 4), "x", "x"), is_alive=True, incarnation=1)
    assert adopted.above("z") == ["y", "x", *map(str, range(GENERATIONS_MAX - 4, -1, -1))]


@pytest.mark.parametrize(
    ("tie", "is_alive", "code"),
    [
        (Tie("a", "t", "a"), True, "cannot_adopt_self"),
        (Tie("a", "t", "free"), False, "child_not_alive"),
        (Tie("a", "t", "c"), True, "already_attached"),
        (Tie("a", "t", "b"), True, "already_attached"),
        (Tie("c", "t", "a"), True, "adoption_cycle"),
        (Tie("b", "t", "a"), True, "adoption_cycle"),
        (Tie("a", "b", "free"), True, "tag_in_use"),
    ],
)
def test_an_adoption_that_cannot_be_is_refused_by_name(tie: Tie, is_alive: bool, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        family("ab", "bc").adopt(tie, is_alive=is_alive, incarnation=1)
    assert code_of(refused) == code


def test_an_adopted_orphan_is_an_orphan_no_more_and_its_parent_is_told() -> None:
    left, _ = family("ab", rule="continue").gone("a", "stopped", "normal")
    assert left.former_parents == {"b": "a"}
    tie = Tie("x", "mine", "b", b"meta")
    adopted, actions = left.adopt(tie, is_alive=True, incarnation=3)
    assert (adopted.parent_of("b"), adopted.former_parents, actions) == ("x", {}, (Started(tie, 3),))


# --- what happens to sessions -----------------------------------------------------------------------------------------
def test_a_parent_is_told_of_every_start_of_its_child_and_nobody_of_any_other() -> None:
    made = family("ab")
    assert made.ready("b", 1) == (Started(Tie("a", "b", "b"), 1),)
    assert made.ready("b", 2) == (Started(Tie("a", "b", "b"), 2),)
    assert made.ready("a", 2) == ()


@pytest.mark.parametrize("how", ["stopped", "killed", "failed", "start_failed"])
def test_a_parent_is_told_once_that_its_child_is_gone(how: str) -> None:
    left, actions = family("ab").gone("b", how, "because")  # type: ignore[arg-type]
    assert actions == (Exited(Tie("a", "b", "b"), how, "because"),)  # type: ignore[arg-type]
    assert left.gone("b", "stopped", "again") == (left, ())


@pytest.mark.parametrize(("how", "gently"), [("stopped", True), ("killed", False), ("failed", False)])
def test_stop_ends_the_children_as_their_parent_ended(how: str, gently: bool) -> None:
    left, actions = family("ab", "ac", "cd").gone("a", how, "because")  # type: ignore[arg-type]
    assert actions == tuple(End(Tie("a", one, one), "because", gently) for one in "bc")
    assert left.ties == family("cd").ties
    assert left.former_parents == {}


def test_continue_lets_the_children_go_on_and_keeps_whose_they_were() -> None:
    left, actions = family("ab", rule="continue").gone("a", "killed", "because")
    assert (actions, left.parent_of("b"), left.former_parents) == ((), None, {"b": "a"})


def test_emit_orphan_tells_them_too() -> None:
    left, actions = family("ab", rule="emit_orphan").gone("a", "failed", "because")
    assert actions == (Orphaned(Tie("a", "b", "b", on_parent_death="emit_orphan"), "because"),)
    assert (left.parent_of("b"), left.former_parents) == (None, {"b": "a"})


def test_one_in_the_middle_is_told_of_upwards_and_its_own_are_ended() -> None:
    left, actions = family("ab", "bc").gone("b", "killed", "because")
    assert actions == (
        Exited(Tie("a", "b", "b"), "killed", "because"),
        End(Tie("b", "c", "c"), "because", gently=False),
    )
    assert left.ties == {}


def test_a_parent_that_is_gone_is_not_told_of_its_children_any_more() -> None:
    left, _ = family("ab").gone("a", "killed", "because")
    assert left.gone("b", "stopped", "parent_down: because")[1] == ()


def test_whose_it_was_is_kept_until_it_is_forgotten() -> None:
    left, _ = family("ab", rule="continue").gone("a", "stopped", "normal")
    ended, _ = left.gone("b", "stopped", "normal")
    assert ended.former_parents == {"b": "a"}
    assert ended.forgotten("x") is ended
    assert ended.forgotten("b").former_parents == {}


@pytest.mark.parametrize("given", ORPHAN_RULES)
def test_the_rules_have_names(given: str) -> None:
    assert orphan_rule(given) == given


def test_another_rule_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        orphan_rule("restart")
    assert code_of(refused) == "invalid_orphan_rule"


# --- names ------------------------------------------------------------------------------------------------------------
@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=TAG_CHARS_MAX))
@settings(max_examples=examples(100))
def test_a_child_is_called_after_its_parent_and_its_tag_as_far_as_there_is_room(parent: str, tag: str) -> None:
    name = child_name(parent, tag)
    whole = f"{parent}/{tag}"
    if len(characters(whole)) <= 50:
        assert name == whole
    else:
        assert (name[0], whole.endswith(name[1:]), len(characters(name))) == ("…", True, 50)


# --- any sequence -----------------------------------------------------------------------------------------------------
IDS = st.sampled_from("abcdefgh")


class AnySequence(RuleBasedStateMachine):
    """Spawns, adoptions and ends in any order: the ties stay a forest within its bounds, and a refusal changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.family = Family()
        self.made = 0

    @rule(parent=IDS, tag=st.sampled_from("xyz"), on_death=st.sampled_from(ORPHAN_RULES))
    def spawn(self, parent: str, tag: str, on_death: OrphanRule) -> None:
        self.made += 1
        before = self.family
        try:
            self.family = before.join(Tie(parent, tag, f"{parent}{self.made}", on_parent_death=on_death))
        except InvalidRequest:
            assert before.child(parent, tag) is not None or len(before.above(parent)) + 2 > GENERATIONS_MAX

    @rule(parent=IDS, child=IDS, tag=st.sampled_from("xyz"))
    def adopt(self, parent: str, child: str, tag: str) -> None:
        before = self.family
        try:
            self.family, _ = before.adopt(Tie(parent, tag, child), is_alive=True, incarnation=1)
        except InvalidRequest:
            assert self.family is before

    @rule(session=IDS)
    def gone(self, session: str) -> None:
        before = self.family
        self.family, actions = before.gone(session, "stopped", "normal")
        touched = {tie.child for tie in before.children_of(session)} | ({session} & set(before.ties))
        assert set(before.ties) - set(self.family.ties) == touched
        assert all(isinstance(one, Exited | End | Orphaned) for one in actions)

    @invariant()
    def it_is_a_forest(self) -> None:
        ties = self.family.ties
        for child, tie in ties.items():
            above = self.family.above(child)  # ends, or this would
            assert child not in above
            assert len(above) < GENERATIONS_MAX
            assert tie.child == child
        assert len({(tie.parent, tie.tag) for tie in ties.values()}) == len(ties)


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(max_examples=examples(60), stateful_step_count=30)
