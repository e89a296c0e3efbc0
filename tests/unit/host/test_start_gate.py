"""R-15: sessions that crash together do not come back together, and all come back."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.host.core.start_gate import PARALLEL_MAX, RATE_PER_S, StartGate
from procession.ipc.core.restart_policy import Exit, ExitKind, Restart, RestartHistory, RestartPolicy, decide


def run_until_empty(gate: StartGate, start_s: float, limit_s: float = 60.0) -> list[tuple[float, str]]:
    """Play time: each start takes `start_s`; returns when each was let in."""
    let_in: list[tuple[float, str]] = []
    ends: list[tuple[float, str]] = []
    now = 0.0
    while now < limit_s:
        for session in gate.admit(now):
            let_in.append((now, session))
            ends.append((now + start_s, session))
        due = [at for at, _ in ends]
        when = gate.next_due(now)
        if when is not None:
            due.append(when)
        if not due:
            return let_in
        now = max(now, min(due))
        for end in [e for e in ends if e[0] <= now]:
            ends.remove(end)
            gate.release(end[1], now)
    raise AssertionError("not all were let in")


def busiest_window(times: list[float], window_s: float) -> int:
    return max(sum(1 for at in times if since <= at < since + window_s) for since in times)


@pytest.mark.guarantee("R-15")
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("start_s", [0.002, 0.05, 0.3, 2.0])
def test_fifty_sessions_that_crash_together_all_come_back_spread(seed: int, start_s: float) -> None:
    rng = random.Random(seed)
    gate = StartGate()
    offers = []
    for n in range(50):
        history = RestartHistory(tuple(-0.1 for _ in range(rng.randrange(5))))
        _, decision = decide(RestartPolicy(), history, Exit(ExitKind.SIGNAL), 0.0, 0.0, rng.random)
        assert isinstance(decision, Restart)
        offers.append((decision.after_s, f"s{n}"))
    for at, session in sorted(offers):
        gate.offer(session, at, restart=True)
    let_in = run_until_empty(gate, start_s)
    times = [at for at, _ in let_in]
    assert len(let_in) == 50
    assert times[-1] + start_s <= 15.0
    assert busiest_window(times, 1.0) <= RATE_PER_S
    assert busiest_window(times, 2.0) <= 40


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["offer", "crash", "release", "withdraw", "wait"]), st.integers(0, 30)), max_size=120
    )
)
def test_whatever_comes_the_bounds_hold_and_nobody_is_lost(steps) -> None:
    gate, now = StartGate(), 0.0
    waiting: list[tuple[str, bool]] = []
    running: set[str] = set()
    restarts: list[float] = []
    for kind, n in steps:
        session = f"s{n}"
        if kind in ("offer", "crash"):
            if session not in running and session not in [s for s, _ in waiting]:
                waiting.append((session, kind == "crash"))
            if session not in running:
                gate.offer(session, now, restart=kind == "crash")
        elif kind == "release":
            running.discard(session)
            gate.release(session, now)
        elif kind == "withdraw":
            waiting = [w for w in waiting if w[0] != session]
            gate.withdraw(session)
        else:
            now += n / 20
        for admitted in gate.admit(now):
            found = next(w for w in waiting if w[0] == admitted)
            assert all(w[1] != found[1] for w in waiting[: waiting.index(found)]), "passed one of its own kind"
            waiting.remove(found)
            running.add(admitted)
            if found[1]:
                restarts.append(now)
        assert len(running) == gate.running <= PARALLEL_MAX
        assert len(waiting) == gate.waiting
        assert sum(1 for at in restarts if at > now - 1.0 + 1e-9) <= RATE_PER_S
        due = gate.next_due(now)
        assert (due is None) == (not waiting or len(running) == PARALLEL_MAX)
        assert due is None or due > now, "somebody who may go was not let in"


def test_a_start_a_user_asked_for_passes_restarts_that_wait_for_the_rate() -> None:
    gate = StartGate(parallel_max=100)
    for n in range(RATE_PER_S + 5):
        gate.offer(f"crashed{n}", 0.0, restart=True)
    assert len(gate.admit(0.0)) == RATE_PER_S
    gate.offer("mine", 0.1)
    assert gate.next_due(0.1) == 0.1
    assert gate.admit(0.1) == ["mine"]
    assert gate.next_due(0.1) == pytest.approx(1.0)
    assert gate.admit(1.0) == [f"crashed{n}" for n in range(RATE_PER_S, RATE_PER_S + 5)]


def test_starts_of_users_are_held_back_by_places_only() -> None:
    gate = StartGate()
    for n in range(100):
        gate.offer(f"s{n}", 0.0)
    let_in = []
    while gate.waiting:
        batch = gate.admit(0.0)
        assert len(batch) == PARALLEL_MAX or not gate.waiting
        let_in += batch
        for session in batch:
            gate.release(session, 0.0)
    assert let_in == [f"s{n}" for n in range(100)]


def test_who_waits_keeps_its_place_and_who_withdraws_has_none() -> None:
    gate = StartGate(parallel_max=1)
    for session in ("a", "b", "c", "b"):
        gate.offer(session, 0.0)
    assert gate.admit(0.0) == ["a"]
    gate.withdraw("b")
    gate.release("a", 0.0)
    assert gate.admit(0.0) == ["c"]
    assert repr(gate) == "<StartGate waiting=0 running=1>"
