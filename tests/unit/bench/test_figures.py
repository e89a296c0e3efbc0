"""The benchmark's own arithmetic: rounds, ratios, verdicts, and the table that shows them."""

import pytest
from bench.__main__ import GROUPS
from bench.goals import GOALS, Goal, Measured, dump, judge, load
from bench.report import as_data, row_of, summary, table
from bench.timing import ROUNDS_MIN, Effort, Figure, effort_of, take_turns


def measured(key: str, ours: tuple[float, ...], theirs: tuple[float, ...] | None = None, note: str = "") -> Measured:
    other = Figure(theirs) if theirs is not None else None
    return Measured(key, "what", "pin0", "us", Figure(ours), "beside" if theirs else "", other, note)


def test_a_ratio_is_formed_within_its_round() -> None:
    ratio = Figure((10.0, 40.0, 30.0)).over(Figure((5.0, 10.0, 10.0)))
    assert ratio.rounds == (2.0, 4.0, 3.0)
    assert (ratio.low, ratio.median, ratio.high) == (2.0, 3.0, 4.0)


def test_rounds_of_two_lengths_are_not_compared() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        Figure((1.0, 2.0)).over(Figure((1.0,)))


def test_a_percentile_is_the_nearest_rank() -> None:
    figure = Figure(tuple(float(value) for value in range(1, 101)))
    assert (figure.percentile(99), figure.percentile(50), figure.percentile(100)) == (99.0, 50.0, 100.0)
    assert Figure((7.0,)).percentile(99) == 7.0


def test_sides_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []

    def side(name: str) -> float:
        order.append(name)
        return float(len(order))

    taken = take_turns({"a": lambda: side("a"), "b": lambda: side("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert taken["a"].rounds == (4.0, 5.0, 8.0)
    assert taken["b"].rounds == (3.0, 6.0, 7.0)


@pytest.mark.parametrize("quick", [True, False])
def test_no_effort_has_fewer_rounds_than_a_median_needs(quick: bool) -> None:
    assert effort_of(quick=quick, soak=False).rounds >= ROUNDS_MIN


def test_a_count_follows_the_effort() -> None:
    assert Effort(5, quick=True).count(50, quick=20, soak=1000) == 20
    assert Effort(9).count(50, quick=20, soak=1000) == 50
    assert Effort(9, soak=True).count(50, quick=20, soak=1000) == 1000
    assert Effort(9, soak=True).count(50, quick=20) == 50


@pytest.mark.parametrize(
    ("key", "ours", "theirs", "verdict"),
    [
        ("P1/owner", 25.0, 10.0, "goal"),
        ("P1/owner", 26.0, 10.0, "now"),
        ("P1/owner", 38.0, 10.0, "miss"),
        ("P3/pipe", 20.0, 10.0, "goal"),
        ("P3/pipe", 10.0, 10.0, "now"),
        ("P3/pipe", 9.0, 10.0, "miss"),
        ("P7/idle", 3.0, None, "goal"),
        ("P7/idle", 5.0, None, "now"),
        ("P7/idle", 5.1, None, "miss"),
        ("P9/survivors", 1.0, None, "miss"),
        ("P1/owner", 25.0, None, "broken"),
        ("no/goal", 1.0, 1.0, "-"),
    ],
)
def test_a_verdict(key: str, ours: float, theirs: float | None, verdict: str) -> None:
    assert judge(measured(key, (ours,), None if theirs is None else (theirs,))) == verdict


def test_every_goal_is_measured_by_a_group_and_the_bar_to_reach_now_is_never_the_stricter() -> None:
    by_groups = {goal for group in GROUPS for goal in group.goals}
    assert {key.partition("/")[0] for key in GOALS} == by_groups
    for goal in GOALS.values():
        if goal.now is not None:
            assert goal.holds(goal.bound, goal.now)


def test_a_line_survives_the_way_between_two_processes() -> None:
    for line in (measured("P1/owner", (1.0, 2.0), (3.0, 4.0), "said"), measured("P7/idle", (1.5,))):
        assert load(dump(line)) == line


def test_the_table_shows_the_bars_and_what_was_missed() -> None:
    rows = [measured("P1/owner", (20.0, 30.0, 40.0), (10.0, 10.0, 10.0)), measured("P7/idle", (9.0,), note="much")]
    text = table(rows)
    first = row_of(rows[0])
    assert first[:7] == ("P1", "what", "pin0", "30.0 us", "(20.0..40.0)", "beside", "10.0 us")
    assert first[7:] == ("3.00x", "(2.00..4.00)", "<= 3.75x", "<= 2.5x", "now")
    assert row_of(rows[1])[-3:] == ("<= 5", "<= 3", "miss")
    assert "  P7 what: much" in text.splitlines()
    assert summary(rows, ["x (why)"]) == ("0 at their goal; 1 within the bar to reach now; 1 missed; 1 broken: x (why)")
    assert as_data(rows[0])["ratio"] == 3.0


def test_a_goal_that_wants_more_says_so() -> None:
    assert Goal("x", at_most=False, bound=2.0).text(2.0) == ">= 2x"
    assert Goal("x", at_most=True, bound=2.0, of="ours").text(2.0) == "<= 2"
    assert Goal("x", at_most=True, bound=2.0).text(None) == ""
