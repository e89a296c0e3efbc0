"""R-51, R-53: each call is closed exactly once, whoever is first; what comes after is late, stale or a breach."""

import os
import random
from itertools import permutations, product

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from helpers.counts import examples
from procession.host.core import call_ledger
from procession.host.core.call_ledger import LATE, STALE, CallLedger, Entry
from procession.ipc.core.bounds import MAILBOX_BYTES_MAX, MAILBOX_COMMANDS_MAX, OUTCOME_KEPT_S, OUTCOMES_KEPT
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import MailboxFull

RACES = 1_000_000 if os.environ.get("PROCESSION_SOAK") else 20_000
TICK_S = 0.001


Ledger = CallLedger[Entry]


def living_ledger(commands_max: int = MAILBOX_COMMANDS_MAX, bytes_max: int = MAILBOX_BYTES_MAX) -> Ledger:
    """Return a ledger with a process, the first one."""
    ledger = Ledger(commands_max, bytes_max)
    assert ledger.on_birth(1) == []
    return ledger


def open_call(
    ledger: Ledger,
    deadline: float | None = None,
    *,
    lane: str = "run",
    size: int = 0,
    call_id: str = "",
    wait: bool = False,
) -> Entry:
    entry = Entry("op", lane, 0.0, deadline, size, call_id)
    ledger.open(entry, wait=wait)
    return entry


def sent_call(ledger: Ledger, deadline: float = 10.0, call_id: str = "") -> Entry:
    entry = open_call(ledger, deadline, call_id=call_id)
    ledger.sent(entry)
    return entry


def play_race(moments: dict[str, float], order: tuple[str, ...]) -> list[str]:
    """Play a reply, a timer and a cancel at their moments (in this order when at the same); returns who closed it."""
    ledger = living_ledger()
    entry = sent_call(ledger)
    winners: list[str] = []
    misses = 0
    for who in sorted(order, key=lambda who: (moments[who], order.index(who))):
        now = moments[who]
        if who == "reply":
            found = ledger.reply(entry.seq, 1, "ok", now)
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
        ledger.reply(entry.seq, 1, "ok", 11.0)
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
    ledger = living_ledger(commands_max=10**9)
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
            found = ledger.reply(seq, 1, "ok", now)
            assert (found is LATE) == (seq not in open_ones)
            late += found is LATE
            closed += open_ones.pop(seq, None) is not None
        closed += close_expired(ledger, open_ones, now)
        if len(unanswered) > 1000:
            late += answer_all(ledger, unanswered, open_ones, now)
    assert closed + len(open_ones) == RACES
    assert len(ledger) == len(open_ones)
    assert ledger.late == late > RACES // 20


def close_expired(ledger: Ledger, open_ones: dict[int, Entry], now: float) -> int:
    due = ledger.expired(now)
    for entry in due:
        assert open_ones.pop(entry.seq) is entry
        assert ledger.close(entry.seq, "timeout", now) is entry
        assert ledger.close(entry.seq, "timeout", now) is None
    return len(due)


def answer_all(ledger: Ledger, unanswered: list[int], open_ones: dict[int, Entry], now: float) -> int:
    late = 0
    for seq in [seq for seq in unanswered if seq not in open_ones]:
        assert ledger.reply(seq, 1, "ok", now) is LATE
        unanswered.remove(seq)
        late += 1
    return late


class LedgerMachine(RuleBasedStateMachine):
    """Any order of everything, beside a model that is a plain dict of what is open."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(commands_max=8, bytes_max=1000)
        self.now = 0.0
        self.open: dict[int, Entry] = {}
        self.given_up: set[int] = set()
        self.over: dict[int, str] = {}
        self.inc = 0
        self.alive = False
        self.late = 0

    def end(self, seq: int, outcome: str) -> None:
        assert seq not in self.over, "closed twice"
        assert self.open.pop(seq).how == outcome
        self.over[seq] = outcome

    def close(self, entry: Entry, how: str) -> None:
        was_sent = self.alive and entry.state in ("sent", "started")
        assert self.ledger.close(entry.seq, how, self.now) is entry
        assert self.ledger.close(entry.seq, how, self.now) is None
        self.end(entry.seq, how)
        if was_sent:
            self.given_up.add(entry.seq)

    def pick(self, n: int) -> Entry:
        return list(self.open.values())[n % len(self.open)]

    def in_mailbox(self) -> list[Entry]:
        return [e for e in self.open.values() if e.state in ("queued", "sent") and e.lane != "control"]

    def fits(self, size: int) -> bool:
        there = self.in_mailbox()
        return not there or (len(there) < 8 and sum(e.size for e in there) + size <= 1000)

    @rule(
        size=st.integers(0, 400),
        timeout=st.integers(1, 20),
        lane=st.sampled_from(["run", "query", "control"]),
        wait=st.booleans(),
    )
    def call(self, size: int, timeout: int, lane: str, wait: bool) -> None:
        entry = Entry("op", lane, self.now, timeout, size, f"c{self.now}")
        before_it = wait and any(e.state == "waiting" for e in self.open.values())
        fits = lane == "control" or (self.fits(size) and not before_it)
        if not fits and not wait:
            with pytest.raises(MailboxFull):
                self.ledger.open(entry)
            assert entry.seq == 0
            return
        self.ledger.open(entry, wait=wait)
        assert entry.state == ("queued" if fits else "waiting")
        assert entry.seq not in self.over
        self.open[entry.seq] = entry

    @rule()
    def let_in(self) -> None:
        waiting = [e for e in self.open.values() if e.state == "waiting"]
        expected = waiting[0] if waiting and self.fits(waiting[0].size) else None
        assert self.ledger.let_in() is expected
        assert expected is None or expected.state == "queued"

    @precondition(lambda self: self.alive)
    @rule(n=st.integers(0, 50), put_off=st.booleans())
    def send(self, n: int, put_off: bool) -> None:
        queued = [e for e in self.open.values() if e.state == "queued"]
        for entry in queued[: n % 3 + 1]:
            if put_off and entry.lane != "control":
                self.ledger.put_off(entry)
                assert entry.state == "waiting"
                return
            self.ledger.sent(entry)

    @precondition(lambda self: self.open)
    @rule(n=st.integers(0, 50))
    def start(self, n: int) -> None:
        self.ledger.started_up_to(sorted(self.open)[n % len(self.open)])

    @precondition(lambda self: self.open)
    @rule(n=st.integers(0, 50))
    def answer(self, n: int) -> None:
        entry = self.pick(n)
        if not self.alive:
            assert self.ledger.reply(entry.seq, self.inc, "ok", self.now) is STALE
        elif entry.state in ("queued", "waiting"):
            with pytest.raises(ProtocolBreach):
                self.ledger.reply(entry.seq, self.inc, "ok", self.now)
        else:
            assert self.ledger.reply(entry.seq, self.inc, "ok", self.now) is entry
            self.end(entry.seq, "ok")

    @precondition(lambda self: self.given_up)
    @rule(n=st.integers(0, 50))
    def answer_late(self, n: int) -> None:
        seq = sorted(self.given_up)[n % len(self.given_up)]
        assert self.ledger.reply(seq, self.inc, "ok", self.now) is LATE
        self.given_up.remove(seq)
        self.late += 1

    @precondition(lambda self: self.over and self.alive)
    @rule(n=st.integers(0, 50), seq=st.integers(-5, 5))
    def answer_what_nobody_asked(self, n: int, seq: int) -> None:
        doubles = sorted(set(self.over) - self.given_up)
        wrong = [*doubles[-3:], seq + 10**6, -abs(seq)]
        with pytest.raises(ProtocolBreach):
            self.ledger.reply(wrong[n % len(wrong)], self.inc, "ok", self.now)

    @precondition(lambda self: self.open)
    @rule(n=st.integers(0, 50))
    def cancel(self, n: int) -> None:
        self.close(self.pick(n), "cancelled")

    @precondition(lambda self: self.open)
    @rule(n=st.integers(0, 50))
    def ask_for_its_end(self, n: int) -> None:
        self.pick(n).cancelled = True

    @rule(wait=st.integers(0, 8))
    def time_passes(self, wait: int) -> None:
        self.now += wait
        expected = {e.seq for e in self.open.values() if e.deadline <= self.now}
        due = self.ledger.expired(self.now)
        assert {e.seq for e in due} == expected
        for entry in due:
            self.close(entry, "timeout")

    @precondition(lambda self: self.alive)
    @rule(n=st.integers(0, 50))
    def die(self, n: int) -> None:
        was = {e.seq: e.state for e in self.open.values()}
        left = self.ledger.on_death(sorted(self.open)[n % len(self.open)] if self.open else 0)
        self.alive = False
        self.given_up.clear()
        for entries in left:
            assert all(was[e.seq] in ("sent", "started") for e in entries)
        assert all(e.lane != "control" and not e.cancelled for e in left.kept)
        assert all(e.cancelled for e in left.withdrawn)
        assert {e.state for e in (*left.kept, *left.withdrawn)} <= {"queued"}
        for entry in left.begun:
            self.close(entry, "died")
        for entry in left.withdrawn:
            self.close(entry, "cancelled")
        assert not self.given_up
        assert not [e for e in self.open.values() if e.state in ("sent", "started")]

    @precondition(lambda self: not self.alive)
    @rule()
    def be_born(self) -> None:
        self.inc += 1
        self.alive = True
        queued = self.ledger.on_birth(self.inc)
        assert [e.seq for e in queued] == sorted(e.seq for e in self.open.values() if e.state == "queued")

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert {e.seq for e in self.ledger.open_calls()} == set(self.open)
        there = self.in_mailbox()
        assert self.ledger.unstarted == len(there)
        assert self.ledger.unstarted_bytes == sum(e.size for e in there)
        assert self.ledger.late == self.late
        due = [e.deadline for e in self.open.values()]
        assert self.ledger.next_due() == min(due, default=None)
        assert len(self.ledger.recent) == min(len(self.over), call_ledger.RECENT_CALLS)


LedgerMachine.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
TestAnyOrder = pytest.mark.guarantee("R-51")(LedgerMachine.TestCase)


@pytest.mark.guarantee("R-53")
def test_a_reply_of_an_old_incarnation_is_dropped_and_counted() -> None:
    ledger = living_ledger()
    began, unstarted = sent_call(ledger), sent_call(ledger)
    assert ledger.on_death(began.seq) == ([began], [], [unstarted])
    assert ledger.reply(unstarted.seq, 1, "ok", 2.0) is STALE
    assert ledger.on_birth(2) == [unstarted]
    ledger.sent(unstarted)
    assert ledger.reply(unstarted.seq, 1, "ok", 2.0) is STALE
    assert ledger.reply(began.seq, 1, "ok", 2.0) is STALE
    assert (ledger.stale, unstarted.state) == (3, "sent")
    assert ledger.reply(unstarted.seq, 2, "ok", 3.0) is unstarted


def test_a_death_hands_back_what_had_begun_and_keeps_the_rest_in_order() -> None:
    ledger = living_ledger()
    entries = [sent_call(ledger) for _ in range(10)]
    ping = open_call(ledger, lane="control")
    ledger.sent(ping)
    entries[6].cancelled = True
    left = ledger.on_death(entries[3].seq)
    assert left == ([*entries[:4], ping], [entries[6]], [*entries[4:6], *entries[7:]])
    assert {e.state for e in left.kept} == {"queued"}


def test_what_had_begun_can_be_begun_again_in_its_old_place() -> None:
    ledger = living_ledger(commands_max=4)
    entries = [open_call(ledger, 10.0, size=3) for _ in range(4)]
    for entry in entries:
        ledger.sent(entry)
    assert ledger.on_death(entries[1].seq).begun == entries[:2]
    ledger.close(entries[0].seq, "died", 1.0)
    ledger.again(entries[1])
    assert (ledger.unstarted, ledger.unstarted_bytes) == (3, 9)
    assert ledger.on_birth(2) == entries[1:]
    for entry in entries[1:]:
        ledger.sent(entry)
    ledger.started_up_to(entries[1].seq)
    assert [entry.state for entry in entries[1:]] == ["started", "sent", "sent"]
    assert ledger.reply(entries[1].seq, 2, "ok", 2.0) is entries[1]
    assert (ledger.unstarted, ledger.unstarted_bytes) == (2, 6)


def test_a_kept_call_is_due_at_its_own_deadline_again() -> None:
    ledger = living_ledger()
    entry = sent_call(ledger, deadline=5.0)
    assert ledger.expired(5.0) == [entry]
    ledger.postpone(entry, 9.0)
    ledger.on_death()
    assert ledger.next_due() == 5.0
    assert ledger.expired(5.0) == [entry]


def test_a_page_that_claims_more_than_was_sent_starts_nothing_that_was_not() -> None:
    ledger = living_ledger()
    sent, queued = sent_call(ledger), open_call(ledger)
    ledger.started_up_to(10**18)
    assert (sent.state, queued.state) == ("started", "queued")


def test_the_mailbox_is_full_at_its_bounds_and_not_before() -> None:
    ledger = living_ledger()
    entries = [sent_call(ledger) for _ in range(256)]
    with pytest.raises(MailboxFull):
        open_call(ledger)
    assert open_call(ledger, lane="control").seq == 257
    ledger.started_up_to(entries[0].seq)
    open_call(ledger, size=8 * 1024 * 1024)
    ledger.started_up_to(entries[9].seq)
    with pytest.raises(MailboxFull, match="8388608 bytes"):
        open_call(ledger, size=1)


def test_what_is_larger_than_the_mailbox_goes_alone() -> None:
    ledger = living_ledger()
    alone = open_call(ledger, size=2 * MAILBOX_BYTES_MAX)
    waiting = open_call(ledger, size=2 * MAILBOX_BYTES_MAX, wait=True)
    assert (alone.state, waiting.state) == ("queued", "waiting")
    assert ledger.let_in() is None
    ledger.close(alone.seq, "cancelled", 0.0)
    assert ledger.let_in() is waiting


def test_those_that_wait_for_room_get_it_in_turn_and_one_that_is_over_holds_up_nobody() -> None:
    ledger = living_ledger(commands_max=2)
    first, second = sent_call(ledger), sent_call(ledger)
    waiting = [open_call(ledger, wait=True) for _ in range(3)]
    assert ledger.count("waiting") == 3
    ledger.close(waiting[0].seq, "cancelled", 0.0)
    assert ledger.let_in() is None
    ledger.reply(first.seq, 1, "ok", 0.0)
    assert ledger.let_in() is waiting[1]
    assert ledger.let_in() is None
    ledger.close(waiting[2].seq, "cancelled", 0.0)
    ledger.reply(second.seq, 1, "ok", 0.0)
    assert open_call(ledger, wait=True).state == "queued"


def test_a_call_put_off_keeps_its_turn() -> None:
    ledger = living_ledger(commands_max=2)
    large, other = open_call(ledger, size=9), open_call(ledger)
    later = open_call(ledger, wait=True)
    ledger.put_off(large)
    assert ledger.unstarted_bytes == 0
    assert [ledger.let_in(), ledger.let_in()] == [large, None]
    ledger.close(other.seq, "cancelled", 0.0)
    assert ledger.let_in() is later


def test_late_calls_beyond_the_bound_are_late_and_no_breach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_ledger, "LATE_MAX", 5)
    ledger = living_ledger()
    entries = [sent_call(ledger) for _ in range(20)]
    for entry in entries:
        ledger.close(entry.seq, "timeout", 0.0)
    assert [ledger.reply(e.seq, 1, "ok", 1.0) for e in entries] == [LATE] * 20


def test_the_process_is_left_alone_in_a_call_given_up_until_it_answers() -> None:
    ledger = living_ledger()
    inside, other = sent_call(ledger), sent_call(ledger)
    ledger.close(inside.seq, "timeout", 5.0, inside_until=7.0)
    ledger.close(other.seq, "timeout", 5.0)
    assert [ledger.patience_of(seq) for seq in (inside.seq, other.seq, 99)] == [7.0, None, None]
    assert ledger.reply(inside.seq, 1, "ok", 6.0) is LATE
    assert ledger.patience_of(inside.seq) is None


def test_outcomes_are_kept_for_an_hour_and_for_the_last_ten_thousand() -> None:
    ledger = living_ledger()
    for n in range(OUTCOMES_KEPT + 10):
        ledger.reply(sent_call(ledger, call_id=f"mine {n}").seq, 1, "ok", 0.0)
    assert ledger.outcome_of("mine 9", 0.0) is None
    assert ledger.outcome_of("mine 10", OUTCOME_KEPT_S) == "ok"
    assert ledger.outcome_of("mine 10", OUTCOME_KEPT_S + 1) is None


def test_a_call_without_an_id_of_its_own_is_remembered_for_a_while_by_its_number() -> None:
    ledger = living_ledger()
    entries = [sent_call(ledger) for _ in range(call_ledger.RECENT_CALLS)]
    for entry in entries:
        ledger.started_up_to(entry.seq)
        ledger.reply(entry.seq, 1, "ok", 0.0)
    assert ledger.outcome_of(entries[0].call_id, 0.0) == "ok"
    ledger.reply(sent_call(ledger).seq, 1, "ok", 0.0)
    assert ledger.outcome_of(entries[0].call_id, 0.0) is None
    assert len(ledger.recent) == call_ledger.RECENT_CALLS


def test_a_due_call_is_told_once_and_again_when_postponed() -> None:
    ledger = living_ledger()
    entry = sent_call(ledger, deadline=5.0)
    assert ledger.expired(4.999) == []
    assert ledger.expired(5.0) == [entry]
    assert ledger.expired(6.0) == []
    ledger.postpone(entry, 7.0)
    assert ledger.next_due() == 7.0
    assert ledger.expired(7.0) == [entry]


def test_deadlines_of_calls_long_closed_do_not_pile_up() -> None:
    ledger = living_ledger()
    for _ in range(5_000):
        ledger.reply(sent_call(ledger, deadline=1e6).seq, 1, "ok", 0.0)
    assert len(ledger._heap) <= 200
