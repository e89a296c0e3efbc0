"""R-51, R-53: each call is closed exactly once, whoever is first; what comes after is late, stale or a breach."""

import os
import random
from itertools import permutations, product

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from procession.host.core import call_ledger
from procession.host.core.call_ledger import LATE, STALE, CallLedger, Entry
from procession.ipc.core.bounds import OUTCOME_KEPT_S, OUTCOMES_KEPT
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import MailboxFull

RACES = 1_000_000 if os.environ.get("PROCESSION_SOAK") else 20_000
TICK_S = 0.001


def sent_call(ledger: CallLedger, deadline: float = 10.0, call_id: str = "") -> Entry:
    entry = ledger.open(call_id, "run", "run", deadline)
    ledger.sent(entry)
    return entry


def play_race(moments: dict[str, float], order: tuple[str, ...]) -> list[str]:
    """Play a reply, a timer and a cancel at their moments (in this order when at the same); returns who closed it."""
    ledger = CallLedger()
    entry = sent_call(ledger)
    winners: list[str] = []
    misses = 0
    for who in sorted(order, key=lambda who: (moments[who], order.index(who))):
        now = moments[who]
        if who == "reply":
            found = ledger.reply(entry.seq, 0, "ok", now)
            winners += ["reply"] if found is entry else []
            misses += found is LATE
        elif who == "timer":
            for due in ledger.expired(now):
                winners += ["timer"] if ledger.close(due.seq, "timeout", now) is entry else []
        elif ledger.close(entry.seq, "cancelled", now) is entry:
            winners.append("cancel")
    assert ledger.late == misses == (winners != ["reply"])
    assert entry.state == "closed"
    assert len(ledger) == 0
    with pytest.raises(ProtocolBreach):
        ledger.reply(entry.seq, 0, "ok", 11.0)
    return winners


@pytest.mark.guarantee("R-51")
def test_a_reply_racing_its_deadline_and_a_cancel_at_one_tick_around_it_has_one_winner() -> None:
    won = set()
    for ticks in product((-1, 0, 1), repeat=3):
        moments = {who: 10.0 + n * TICK_S for who, n in zip(("reply", "timer", "cancel"), ticks, strict=True)}
        for order in permutations(moments):
            winners = play_race(moments, order)
            assert len(winners) == 1, (moments, order)
            effective = [who for who in order if who != "timer" or moments["timer"] >= 10.0]
            first = min(effective, key=lambda who: (moments[who], order.index(who)))
            assert winners == [first], (moments, order)
            won.add(winners[0])
    assert won == {"reply", "timer", "cancel"}


@pytest.mark.guarantee("R-51")
@pytest.mark.timeout(600)
def test_a_great_many_races_have_one_winner_each() -> None:
    rng = random.Random(51)
    ledger = CallLedger(commands_max=10**9)
    now, closed, late = 0.0, 0, 0
    open_ones: dict[int, Entry] = {}
    unanswered: list[int] = []
    for _ in range(RACES):
        now += TICK_S
        entry = sent_call(ledger, deadline=now + TICK_S * rng.randrange(4))
        open_ones[entry.seq] = entry
        unanswered.append(entry.seq)
        if rng.random() < 0.5:  # the timer is looked at before the pipe
            closed += close_expired(ledger, open_ones, now)
        while unanswered and rng.random() < 0.6:
            seq = unanswered.pop(rng.randrange(len(unanswered)) if rng.random() < 0.1 else 0)
            found = ledger.reply(seq, 0, "ok", now)
            assert (found is LATE) == (seq not in open_ones)
            late += found is LATE
            closed += open_ones.pop(seq, None) is not None
        closed += close_expired(ledger, open_ones, now)
        if len(unanswered) > 1000:
            late += answer_all(ledger, unanswered, open_ones, now)
    assert closed + len(open_ones) == RACES
    assert len(ledger) == len(open_ones)
    assert ledger.late == late > RACES // 20


def close_expired(ledger: CallLedger, open_ones: dict[int, Entry], now: float) -> int:
    due = ledger.expired(now)
    for entry in due:
        assert open_ones.pop(entry.seq) is entry
        assert ledger.close(entry.seq, "timeout", now) is entry
        assert ledger.close(entry.seq, "timeout", now) is None
    return len(due)


def answer_all(ledger: CallLedger, unanswered: list[int], open_ones: dict[int, Entry], now: float) -> int:
    late = 0
    for seq in [seq for seq in unanswered if seq not in open_ones]:
        assert ledger.reply(seq, 0, "ok", now) is LATE
        unanswered.remove(seq)
        late += 1
    return late


class LedgerMachine(RuleBasedStateMachine):
    """Any order of everything, beside a model that is a plain dict of what is open."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = CallLedger(commands_max=8, bytes_max=1000)
        self.now = 0.0
        self.open: dict[int, Entry] = {}
        self.given_up: set[int] = set()
        self.over: dict[int, str] = {}
        self.inc = 0
        self.late = 0

    def end(self, seq: int, outcome: str) -> None:
        assert seq not in self.over, "closed twice"
        self.over[seq] = outcome
        del self.open[seq]

    @rule(size=st.integers(0, 400), timeout=st.integers(1, 20), lane=st.sampled_from(["run", "query", "control"]))
    def call(self, size: int, timeout: int, lane: str) -> None:
        waiting = [e for e in self.open.values() if e.state in ("queued", "sent") and e.lane != "control"]
        fits = lane == "control" or (len(waiting) < 8 and sum(e.size for e in waiting) + size <= 1000)
        if not fits:
            with pytest.raises(MailboxFull):
                self.ledger.open("", "op", lane, self.now + timeout, size=size)
            return
        entry = self.ledger.open(f"c{self.now}", "op", lane, self.now + timeout, size=size)
        assert entry.seq not in self.over
        self.open[entry.seq] = entry

    @precondition(lambda self: self.open)
    @rule(n=st.integers(0, 50))
    def send(self, n: int) -> None:
        queued = [e for e in self.open.values() if e.state == "queued"]
        for entry in queued[: n % 3 + 1]:
            self.ledger.sent(entry)

    @precondition(lambda self: self.open)
    @rule(n=st.integers(0, 50))
    def start(self, n: int) -> None:
        self.ledger.started_up_to(sorted(self.open)[n % len(self.open)])

    @precondition(lambda self: self.open)
    @rule(n=st.integers(0, 50))
    def answer(self, n: int) -> None:
        entry = list(self.open.values())[n % len(self.open)]
        if entry.state == "queued":
            with pytest.raises(ProtocolBreach):
                self.ledger.reply(entry.seq, self.inc, "ok", self.now)
            return
        assert self.ledger.reply(entry.seq, self.inc, "ok", self.now) is entry
        self.end(entry.seq, "ok")

    @precondition(lambda self: self.given_up)
    @rule(n=st.integers(0, 50))
    def answer_late(self, n: int) -> None:
        seq = sorted(self.given_up)[n % len(self.given_up)]
        assert self.ledger.reply(seq, self.inc, "ok", self.now) is LATE
        self.given_up.remove(seq)
        self.late += 1

    @precondition(lambda self: self.over)
    @rule(n=st.integers(0, 50), seq=st.integers(-5, 5))
    def answer_what_nobody_asked(self, n: int, seq: int) -> None:
        doubles = sorted(set(self.over) - self.given_up)
        wrong = [*doubles[-3:], seq + 10**6, -abs(seq)]
        with pytest.raises(ProtocolBreach):
            self.ledger.reply(wrong[n % len(wrong)], self.inc, "ok", self.now)

    @precondition(lambda self: self.open)
    @rule(n=st.integers(0, 50))
    def cancel(self, n: int) -> None:
        entry = list(self.open.values())[n % len(self.open)]
        was_sent = entry.state != "queued"
        assert self.ledger.close(entry.seq, "cancelled", self.now) is entry
        self.end(entry.seq, "cancelled")
        if was_sent:
            self.given_up.add(entry.seq)

    @rule(wait=st.integers(0, 8))
    def time_passes(self, wait: int) -> None:
        self.now += wait
        expected = {e.seq for e in self.open.values() if e.deadline <= self.now}
        due = self.ledger.expired(self.now)
        assert {e.seq for e in due} == expected
        for entry in due:
            was_sent = entry.state != "queued"
            assert self.ledger.close(entry.seq, "timeout", self.now) is entry
            self.end(entry.seq, "timeout")
            if was_sent:
                self.given_up.add(entry.seq)

    @rule(n=st.integers(0, 50))
    def die(self, n: int) -> None:
        last = sorted(self.open)[n % len(self.open)] if self.open else 0
        began, kept = self.ledger.on_death(last, self.now)
        assert [e.seq for e in kept] == sorted(e.seq for e in kept)
        for entry in began:
            self.end(entry.seq, "died")
        assert {e.state for e in kept} <= {"queued"}
        assert self.ledger.reply(1, self.inc, "ok", self.now) is STALE
        self.inc += 1
        self.given_up.clear()

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert {e.seq for e in self.ledger.open_calls()} == set(self.open)
        waiting = [e for e in self.open.values() if e.state in ("queued", "sent") and e.lane != "control"]
        assert self.ledger.unstarted == len(waiting)
        assert self.ledger.unstarted_bytes == sum(e.size for e in waiting)
        assert self.ledger.late == self.late
        due = [e.deadline for e in self.open.values()]
        assert self.ledger.next_due() == min(due, default=None)


LedgerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = pytest.mark.guarantee("R-51")(LedgerMachine.TestCase)


@pytest.mark.guarantee("R-53")
def test_a_reply_of_an_old_incarnation_is_dropped_and_counted() -> None:
    ledger = CallLedger()
    began, waiting = sent_call(ledger), sent_call(ledger)
    assert ledger.on_death(began.seq, 1.0) == ([began], [waiting])
    ledger.sent(waiting)
    assert ledger.reply(waiting.seq, 0, "ok", 2.0) is STALE
    assert ledger.reply(began.seq, 0, "ok", 2.0) is STALE
    assert (ledger.stale, waiting.state) == (2, "sent")
    assert ledger.reply(waiting.seq, 1, "ok", 3.0) is waiting


def test_a_death_closes_what_had_begun_and_keeps_the_rest_in_order() -> None:
    ledger = CallLedger()
    entries = [sent_call(ledger) for _ in range(10)]
    ping = ledger.open("", "ping", "control")
    ledger.sent(ping)
    began, kept = ledger.on_death(entries[3].seq, 1.0)
    assert began == [*entries[:4], ping]
    assert kept == entries[4:]
    assert {e.outcome for e in began} == {"died"}


def test_a_page_that_claims_more_than_was_sent_starts_nothing_that_was_not() -> None:
    ledger = CallLedger()
    sent, queued = sent_call(ledger), ledger.open("", "run", "run")
    ledger.started_up_to(10**18)
    assert (sent.state, queued.state) == ("started", "queued")


def test_the_mailbox_is_full_at_its_bounds_and_not_before() -> None:
    ledger = CallLedger()
    entries = [sent_call(ledger) for _ in range(256)]
    with pytest.raises(MailboxFull):
        ledger.open("", "run", "run")
    assert ledger.open("", "ping", "control").seq == 257
    ledger.started_up_to(entries[0].seq)
    ledger.open("", "run", "run", size=8 * 1024 * 1024)
    ledger.started_up_to(entries[9].seq)
    with pytest.raises(MailboxFull, match="8388608 bytes"):
        ledger.open("", "run", "run", size=1)


def test_late_calls_beyond_the_bound_are_late_and_no_breach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_ledger, "LATE_MAX", 5)
    ledger = CallLedger()
    entries = [sent_call(ledger) for _ in range(20)]
    for entry in entries:
        ledger.close(entry.seq, "timeout", 0.0)
    assert [ledger.reply(e.seq, 0, "ok", 1.0) for e in entries] == [LATE] * 20


def test_outcomes_are_kept_for_an_hour_and_for_the_last_ten_thousand() -> None:
    ledger = CallLedger()
    for n in range(OUTCOMES_KEPT + 10):
        ledger.reply(sent_call(ledger, call_id=f"c{n}").seq, 0, "ok", 0.0)
    assert ledger.outcome_of("c9", 0.0) is None
    assert ledger.outcome_of("c10", OUTCOME_KEPT_S) == "ok"
    assert ledger.outcome_of("c10", OUTCOME_KEPT_S + 1) is None


def test_a_due_call_is_told_once_and_again_when_postponed() -> None:
    ledger = CallLedger()
    entry = sent_call(ledger, deadline=5.0)
    assert ledger.expired(4.999) == []
    assert ledger.expired(5.0) == [entry]
    assert ledger.expired(6.0) == []
    ledger.postpone(entry, 7.0)
    assert ledger.next_due() == 7.0
    assert ledger.expired(7.0) == [entry]


def test_deadlines_of_calls_long_closed_do_not_pile_up() -> None:
    ledger = CallLedger()
    for _ in range(5_000):
        ledger.reply(sent_call(ledger, deadline=1e6).seq, 0, "ok", 0.0)
        ledger.expired(0.0)
    assert len(ledger._heap) <= 200
