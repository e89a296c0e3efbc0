"""R-21, R-14: which end is followed by a start, after what wait, and when it is given up."""

import pytest

from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.restart_policy import (
    RESTART_TYPES,
    Exit,
    ExitKind,
    GiveUp,
    Leave,
    Restart,
    RestartHistory,
    RestartPolicy,
    decide,
    exit_of,
    truth_table,
)

EXPECTED = """
exit 0                      restart       leave         leave
exit 0 with calls pending   restart       restart       leave
non-zero exit               restart       restart       leave
signal                      restart       restart       leave
out of memory               restart       restart       leave
start failed                restart       restart       leave
stuck                       restart       restart       leave
protocol breach             restart       restart       leave
keeper lost                 restart       restart       leave
escalated                   restart       restart       leave
zygote lost                 restart free  restart free  leave
state not restored          leave         leave         leave
a change could not be kept  restart free  restart free  leave
asked for                   leave         leave         leave
"""
"""How it ended; then permanent, transient, temporary. Written by hand from the contract, not from the code."""


def expected_cells() -> dict[tuple[str, str], str]:
    cells: dict[tuple[str, str], str] = {}
    for line in EXPECTED.strip().splitlines():
        words = [line[:28].strip(), line[28:42].strip(), line[42:56].strip(), line[56:].strip()]
        for type_, cell in zip(RESTART_TYPES, words[1:], strict=True):
            cells[words[0], type_] = cell
    return cells


CELLS = expected_cells()


def no_jitter() -> float:
    return 0.0


def most_jitter() -> float:
    return 1.0


@pytest.mark.guarantee("R-21")
def test_the_table_has_every_type_and_every_kind_of_exit() -> None:
    assert {(str(row.exit), row.type): row.cell for row in truth_table()} == CELLS
    assert {row.exit.kind for row in truth_table()} == set(ExitKind)


@pytest.mark.guarantee("R-21", "R-05")
@pytest.mark.parametrize("row", truth_table(), ids=lambda row: f"{row.type}-{row.exit}")
def test_each_cell_decides_as_it_says(row) -> None:
    before = RestartHistory((95.0,), 1)
    after, decision = decide(RestartPolicy(type=row.type), before, row.exit, 100.0, 0.0, no_jitter)
    match CELLS[str(row.exit), row.type]:
        case "restart":
            assert isinstance(decision, Restart)
            assert decision.counted
            assert after == RestartHistory((95.0, 100.0), 2)
        case "restart free":
            assert decision == Restart(0.0, counted=False)
            assert after == before
        case "leave":
            assert isinstance(decision, Leave)
            assert decision.crash == row.exit.is_crash
            assert after == before


@pytest.mark.guarantee("R-14")
@pytest.mark.parametrize("life_s", [0.0, 0.5, 2.0, 4.9])
@pytest.mark.parametrize("rng", [no_jitter, most_jitter])
def test_a_crash_loop_starts_at_most_six_times_in_its_first_thirty_seconds(life_s: float, rng) -> None:
    policy, history, now = RestartPolicy(), RestartHistory(), 0.0
    starts = [now]
    while True:
        now += life_s
        history, decision = decide(policy, history, Exit(ExitKind.SIGNAL, "SIGSEGV"), now, life_s, rng)
        if isinstance(decision, GiveUp):
            break
        assert isinstance(decision, Restart)
        now += decision.after_s
        starts.append(now)
    assert sum(at < 30.0 for at in starts) == 6
    waits = sum(policy.backoff_s) * (1 + policy.jitter * rng())
    assert now == pytest.approx(6 * life_s + waits)
    assert "6 ends within 30 s" in decision.reason
    assert "SIGSEGV" in decision.reason


@pytest.mark.guarantee("R-14")
def test_giving_up_is_exact_at_the_edge_of_the_window() -> None:
    crash = Exit(ExitKind.NONZERO, "exit code 1")
    history = RestartHistory((0.0, 6.0, 12.0, 18.0, 24.0), 5)
    _, inside = decide(RestartPolicy(), history, crash, 29.999, 0.0, no_jitter)
    assert isinstance(inside, GiveUp)
    _, outside = decide(RestartPolicy(), history, crash, 30.0, 0.0, no_jitter)
    assert isinstance(outside, Restart)


def test_the_waits_are_those_of_the_contract_and_double_on_to_the_cap() -> None:
    policy = RestartPolicy(intensity=20)
    waits = [policy.base_backoff_s(n) for n in range(12)]
    assert waits == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0, 5.0]
    assert policy.base_backoff_s(10**6) == 5.0


def test_jitter_only_lengthens_and_by_at_most_a_quarter() -> None:
    history = RestartHistory((99.0,), 1)
    for draw in (0.0, 0.3, 0.999):
        _, decision = decide(RestartPolicy(), history, Exit(ExitKind.SIGNAL), 100.0, 0.0, iter([draw]).__next__)
        assert isinstance(decision, Restart)
        assert decision.after_s == pytest.approx(0.1 * (1 + 0.25 * draw))


def test_ten_stable_seconds_make_a_clean_slate_and_a_little_less_does_not() -> None:
    history = RestartHistory((96.0, 97.0, 98.0, 99.0, 99.5), 5)
    crash = Exit(ExitKind.SIGNAL)
    kept, decision = decide(RestartPolicy(), history, crash, 100.0, 10.0, no_jitter)
    assert decision == Restart(0.0)
    assert kept == RestartHistory((100.0,), 6)
    assert isinstance(decide(RestartPolicy(), history, crash, 100.0, 9.99, no_jitter)[1], GiveUp)


def test_what_ran_out_of_memory_is_given_more_time() -> None:
    _, decision = decide(RestartPolicy(), RestartHistory(), Exit(ExitKind.MEMORY), 0.0, 0.0, no_jitter)
    assert decision == Restart(0.5)


def test_an_intensity_of_none_gives_up_at_the_first_crash() -> None:
    policy = RestartPolicy(intensity=0)
    assert isinstance(decide(policy, RestartHistory(), Exit(ExitKind.SIGNAL), 0.0, 0.0, no_jitter)[1], GiveUp)


def test_losing_zygotes_never_makes_a_session_give_up() -> None:
    history = RestartHistory((99.0,) * 5, 5)
    for _ in range(100):
        history, decision = decide(RestartPolicy(), history, Exit(ExitKind.ZYGOTE_LOST), 100.0, 0.0, no_jitter)
        assert decision == Restart(0.0, counted=False)
    assert history.counted_at == (99.0,) * 5


def test_the_history_is_bounded_by_the_intensity() -> None:
    history, now = RestartHistory(), 0.0
    for _ in range(1000):
        now += 7.0
        history, _decision = decide(RestartPolicy(), history, Exit(ExitKind.SIGNAL), now, 0.0, no_jitter)
        assert len(history.counted_at) <= 5


@pytest.mark.parametrize(
    ("raw", "exit"),
    [
        (0, Exit(ExitKind.NORMAL)),
        (3 << 8, Exit(ExitKind.NONZERO, "exit code 3")),
        (11, Exit(ExitKind.SIGNAL, "signal 11")),
        (6 | 0x80, Exit(ExitKind.SIGNAL, "signal 6")),
    ],
)
def test_a_wait_status_reads_as_an_exit(raw: int, exit: Exit) -> None:
    assert exit_of(raw) == exit


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "always"}, {"intensity": -1}, {"period_s": 0.0}, {"jitter": 2.0}, {"backoff_s": ()},
        {"backoff_s": (-1.0,)}, {"intensity": 10**9},
    ],
)  # fmt: skip
def test_a_policy_that_makes_no_sense_is_refused(bad) -> None:
    with pytest.raises(InvalidRequest) as caught:
        RestartPolicy(**bad)
    assert caught.value.code == "invalid_restart"
