"""R-36, R-13, R-14, R-53: the lifecycle table: any order comes to rest, the last verb wins, everybody is answered once."""

import random
from itertools import pairwise, permutations, product
from pathlib import Path

import pytest

from helpers.session_world import World
from helpers.sources import REPOSITORY
from procession.host.core.lifecycle import STORY_LENGTH, TABLE, step, table_markdown
from procession.host.core.lifecycle_moves import ZYGOTES_PER_START
from procession.host.core.lifecycle_values import (
    EVENT_KINDS,
    FACTS,
    PHASES,
    VERBS,
    EventKind,
    KillDomain,
    Lifecycle,
    LifecycleEvent,
    SendShutdown,
)
from procession.ipc.core import restart_policy
from procession.ipc.core.errors import InvalidTransition
from procession.ipc.core.restart_policy import Exit, ExitKind, RestartPolicy

ORDERED = ("start", "stop", "restart", "kill", "crash")
SLEEPY = ("start", "hibernate", "restart", "kill", "crash")
TIMELESS: tuple[EventKind, ...] = ("start", "resume", "restart", "stop", "kill", "hibernate")
DOCS = Path("docs/lifecycle.md")


def ready_world(**fields) -> World:
    world = World(**fields)
    world.verb("start")
    world.settle()
    assert world.state.phase == "ready"
    return world


def accepted(world: World) -> list[str]:
    """The verbs that were not refused: who is being started is not put to sleep, nor who is over."""
    return [waiter.verb for waiter in world.waiters if waiter.answer not in ("busy", "stopped") or waiter.group == "up"]


def expected_after(verbs) -> str:
    """Where the verbs alone lead, whatever the timing; a crash of a ready session changes nothing of that."""
    phase = "new"
    for verb in verbs:
        if verb in ("start", "restart", "resume"):
            phase = "ready"
        elif verb == "stop":
            phase = "stopped"
        elif verb == "kill" and phase == "ready":
            phase = "down"
        elif verb == "hibernate" and phase in ("ready", "down"):
            phase = "hibernated"
    return phase


# --- the table ----------------------------------------------------------------------------------------------
def test_every_verb_and_every_timer_has_a_cell_in_every_phase() -> None:
    missing = {(phase, kind) for phase in PHASES for kind in EVENT_KINDS} - set(TABLE)
    assert {kind for _, kind in missing} <= set(FACTS)
    assert missing == {
        *(("new", kind) for kind in ("forked", "ready", "condemned", "start_failed", "ended")),
        ("ready", "ready"),
        ("ready", "start_failed"),
        *(
            (phase, kind)
            for phase in ("backoff", "stopped", "down", "hibernated", "failed", "gone")
            for kind in ("start_failed", "ended")
        ),
    }


@pytest.mark.guarantee("R-36")
@pytest.mark.parametrize(("phase", "kind"), sorted({(p, k) for p in PHASES for k in EVENT_KINDS} - set(TABLE)))
def test_a_missing_cell_is_an_error_that_tells_the_story(phase, kind) -> None:
    world = ready_world()
    state = Lifecycle(phase=phase, process="none", incarnation=1, story=world.state.story)
    with pytest.raises(InvalidTransition) as caught:
        step(state, LifecycleEvent(kind, inc=1), 0.0, lambda: 0.0)
    assert caught.value.story == world.state.story
    assert f"{kind} cannot happen to a session that is {phase}" in str(caught.value)
    assert "start: new -> starting" in str(caught.value)


def test_the_story_is_bounded_and_ends_with_the_last_step() -> None:
    world = ready_world()
    for _ in range(STORY_LENGTH):
        world.verb("restart")
        world.settle()
    story = world.state.story
    assert len(story) == STORY_LENGTH
    assert (story[-1].event, story[-1].before, story[-1].after) == ("ready", "starting", "ready")
    assert all(a.after == b.before for a, b in pairwise(story))


def test_the_docs_show_this_very_table() -> None:
    text = (REPOSITORY / DOCS).read_text(encoding="utf-8")
    assert table_markdown() in text, f"write {DOCS} anew from lifecycle.table_markdown()"
    assert restart_policy.table_markdown() in text, f"write {DOCS} anew from restart_policy.table_markdown()"


# --- any order ----------------------------------------------------------------------------------------------
def play(order, pace) -> tuple[World, bool]:
    """Play the verbs; after each nothing happens, one thing happens, or (None) everything that is due."""
    world = World()
    hit_a_start = False
    for verb, things in zip(order, (*pace, None), strict=True):
        if verb != "crash":
            world.verb(verb)
        elif world.process is not None and world.process.live:
            hit_a_start |= not world.process.said_ready
            world.end()
        if things is None:
            world.settle()
        elif things and world.honest():
            world.honest()[0]()
    world.settle()
    return world, hit_a_start


@pytest.mark.guarantee("R-36")
@pytest.mark.parametrize(
    ("verbs", "first"), [(verbs, first) for verbs in (ORDERED, SLEEPY) for first in verbs], ids=lambda one: str(one[0])
)
def test_all_orders_of_five_verbs_come_to_rest_with_everybody_answered(verbs, first) -> None:
    judged = 0
    for order in permutations(verbs):
        if order[0] != first:
            continue
        for pace in product((0, 1, None), repeat=len(order) - 1):
            world, hit_a_start = play(order, pace)
            assert world.open_waiters == [], (order, pace)
            if not hit_a_start:
                judged += 1
                assert world.state.phase == expected_after(accepted(world)), (order, pace)
    assert judged > 24 * 3**4 // 2  # a crash seldom meets a start


@pytest.mark.guarantee("R-36")
@pytest.mark.parametrize("seed", range(15))
def test_where_it_ends_depends_on_the_verbs_and_not_on_the_timing(seed: int, soak_factor: int) -> None:
    rng = random.Random(seed)
    for _ in range(20 * soak_factor):
        world = World()
        verbs = rng.choices(TIMELESS, k=12)
        for verb in verbs:
            world.verb(verb, grace_s=rng.choice((0.0, 5.0)))
            for _ in range(rng.randrange(4)):
                moves = world.honest()
                if "stop" in world.timers and rng.random() < 0.3:
                    world.fire("stop")
                elif moves:
                    rng.choice(moves)()
        world.settle()
        assert world.state.phase == expected_after(accepted(world)), verbs


def play_anything(rng: random.Random) -> World:
    """Sixty steps of everything there is, faults and late words included; the world checks itself after each."""
    world = World(policy=RestartPolicy(type=rng.choice(restart_policy.RESTART_TYPES)), rng=rng.random)
    verbs = [kind for kind in VERBS if kind not in ("call", "remove", "close")]
    for _ in range(60):
        world.now += rng.choice((0.0, 0.05, 3.0, 20.0))
        draw = rng.random()
        moves = world.honest() if draw < 0.5 else world.faults() if draw < 0.7 else []
        if moves:
            rng.choice(moves)()
        elif draw < 0.8:
            world.call()
        elif draw < 0.82:
            world.verb(rng.choice(("close", "remove")))
        elif draw < 0.88 and world.state.incarnation > 1:
            late = LifecycleEvent(rng.choice(FACTS), exit=Exit(ExitKind.SIGNAL), inc=world.state.incarnation - 1)
            world.send(late)
        else:
            world.verb(rng.choice(verbs), grace_s=rng.choice((0.0, 5.0)))
    return world


@pytest.mark.guarantee("R-36")
@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_nobody_is_left_waiting_and_there_is_never_a_second_process(
    seed: int, soak_factor: int
) -> None:
    rng = random.Random(seed)
    for _ in range(20 * soak_factor):
        world = play_anything(rng)
        world.settle()
        assert world.open_waiters == []
        assert all(call.state in ("over", "sent") for call in world.calls)
        assert world.forgotten <= 1


# --- what each verb promises --------------------------------------------------------------------------------
def test_a_restart_ends_the_process_starts_at_once_and_does_not_count() -> None:
    world = ready_world()
    for _ in range(50):
        waiter = world.verb("restart")
        world.settle()
        assert waiter.answer == "ready"
    assert world.state.history.counted_at == ()
    assert world.state.incarnation == 51
    assert "backoff" not in {t.after for t in world.state.story}


def test_what_was_killed_is_down_and_wakes_on_the_next_call() -> None:
    world = ready_world()
    waiter = world.verb("kill")
    world.settle()
    assert (world.state.phase, waiter.answer) == ("down", "over")
    call = world.call()
    assert call.state == "waiting"
    world.settle()
    assert (world.state.phase, call.state) == ("ready", "sent")
    assert world.state.history.counted_at == ()


def test_a_call_that_comes_during_a_kill_wakes_it_and_one_that_comes_during_a_stop_is_refused() -> None:
    world = ready_world()
    world.verb("kill")
    woke = world.call()
    world.settle()
    assert (world.state.phase, woke.state) == ("ready", "sent")
    world.verb("stop")
    refused = world.call()
    assert (world.state.phase, refused.state) == ("stopping", "over")


def test_what_was_put_to_sleep_was_asked_keeps_its_calls_and_wakes_on_the_next() -> None:
    world = ready_world()
    state, actions = step(world.state, LifecycleEvent("hibernate"), world.now, world.rng)
    assert SendShutdown(5.0, for_good=False) in actions
    assert state.is_asleep
    waiter = world.verb("hibernate")
    world.settle()
    assert (world.state.phase, waiter.answer, world.process) == ("hibernated", "over", None)
    assert world.verb("hibernate").answer == "over"
    call = world.call()
    assert call.state == "waiting"
    world.settle()
    assert (world.state.phase, call.state) == ("ready", "sent")
    assert world.announced[-4:] == ["session.hibernated", "session.woken", "session.starting", "session.ready"]
    assert world.state.history.counted_at == ()


def test_a_call_that_comes_while_it_is_put_to_sleep_wakes_it_and_so_does_one_that_it_had_not_started() -> None:
    world = ready_world()
    sent = world.call()
    sent.started = False
    world.verb("hibernate")
    world.end(ExitKind.NORMAL)
    assert (world.state.phase, sent.state) == ("starting", "waiting")
    world.settle()
    assert sent.state == "sent"
    sent.started = True
    world.verb("hibernate")
    late = world.call()
    world.settle()
    assert (world.state.phase, late.state) == ("ready", "sent")
    assert "session.failed" not in world.announced


@pytest.mark.parametrize("kind", [ExitKind.SIGNAL, ExitKind.MEMORY, ExitKind.KEEPER_LOST, ExitKind.NONZERO])
def test_a_death_on_the_way_to_sleep_is_a_sleep_and_not_counted(kind) -> None:
    world = ready_world(policy=RestartPolicy(type="permanent"))
    waiter = world.verb("hibernate")
    world.end(kind)
    assert (world.state.phase, waiter.answer, world.state.history.restarts) == ("hibernated", "over", 0)


@pytest.mark.parametrize(
    ("verb", "rests", "answer"),
    [
        ("start", "ready", "over"), ("restart", "ready", "over"), ("resume", "ready", "over"), ("stop", "stopped", "over"),
        ("kill", "hibernated", "over"), ("close", "hibernated", "over"), ("remove", "gone", "over"),
        ("hibernate", "hibernated", "over"),
    ],
)  # fmt: skip
def test_the_last_verb_says_what_becomes_of_who_is_being_put_to_sleep(verb, rests, answer) -> None:
    for asleep in (False, True):
        world = ready_world()
        waiter = world.verb("hibernate")
        if asleep:
            world.settle()
        world.verb(verb)
        world.settle()
        assert (world.state.phase, waiter.answer) == (rests, answer)


def test_who_cannot_be_put_to_sleep_is_told_why() -> None:
    world = World()
    world.verb("start")
    assert world.verb("hibernate").answer == "busy"
    world.settle()
    world.end()
    assert (world.state.phase, world.verb("hibernate").answer) == ("backoff", "busy")
    world.settle()
    world.verb("stop")
    world.settle()
    assert world.verb("hibernate").answer == "stopped"
    while world.state.phase != "failed":
        world.verb("start")
        world.fact("start_failed", Exit(ExitKind.START_FAILED))
    assert world.verb("hibernate").answer == "failed"
    world.verb("remove")
    assert world.verb("hibernate").answer == "removed"


def test_who_was_killed_and_is_then_put_to_sleep_is_asleep_whenever_that_comes() -> None:
    for settle in (True, False):
        world = ready_world()
        world.verb("kill")
        if settle:
            world.settle()
        waiter = world.verb("hibernate")
        world.settle()
        assert (world.state.phase, waiter.answer) == ("hibernated", "over")


def test_a_host_that_closes_wakes_nobody_who_sleeps() -> None:
    for asleep in (False, True):
        world = ready_world()
        world.verb("hibernate")
        if asleep:
            world.settle()
        world.verb("close")
        call = world.call()
        world.settle()
        assert (world.state.phase, call.state, len(world.forks)) == ("hibernated", "over", 1)
        assert "session.woken" not in world.announced


def test_a_stop_that_is_ignored_becomes_a_kill_after_its_grace_and_a_lost_keeper_after_that() -> None:
    world = ready_world()
    waiter = world.verb("stop", grace_s=5.0)
    assert world.timers == {"stop": world.now + 5.0}
    world.fire("stop")
    assert world.process is not None
    assert world.process.killed
    assert world.timers == {"reap": world.now + 2.0}
    world.fire("reap")
    assert world.process.abandoned
    world.end(ExitKind.KEEPER_LOST)
    assert (world.state.phase, waiter.answer) == ("stopped", "over")


def test_a_grace_of_zero_asks_nobody() -> None:
    world = ready_world()
    state, actions = step(world.state, LifecycleEvent("stop", grace_s=0.0), world.now, world.rng)
    assert state.killing
    assert KillDomain() in actions
    assert not any(isinstance(action, SendShutdown) for action in actions)


def test_what_is_stuck_is_aborted_for_its_stack() -> None:
    world = ready_world()
    event = LifecycleEvent("condemned", exit=Exit(ExitKind.STUCK), inc=1)
    assert KillDomain(abort=True) in step(world.state, event, world.now, world.rng)[1]


def test_stop_is_idempotent_and_resume_brings_it_back() -> None:
    world = ready_world()
    waiters = [world.verb("stop") for _ in range(3)]
    world.settle()
    waiters.append(world.verb("stop"))
    assert [w.answer for w in waiters] == ["over"] * 4
    assert world.call().state == "over"
    assert world.verb("resume").answer is None
    world.settle()
    assert world.waiters[-1].answer == "ready"


def test_a_host_that_closes_ends_what_runs_and_starts_nothing_any_more() -> None:
    for settle in (True, False):
        world = ready_world()
        world.verb("close")
        if settle:
            world.settle()
        late = world.verb("start")
        call = world.call()
        world.settle()
        assert (world.state.phase, late.answer, call.state) == ("down", "closed", "over")
        assert len(world.forks) == 1


def test_removal_is_final_whatever_comes_after_it() -> None:
    world = ready_world()
    removed = world.verb("remove")
    late = [world.verb("start"), world.verb("stop"), world.verb("kill"), world.verb("restart")]
    world.settle()
    assert (world.state.phase, world.forgotten, removed.answer) == ("gone", 1, "over")
    assert [w.answer for w in late] == ["removed", "over", "over", "removed"]
    assert world.verb("start").answer == "removed"


# --- starts that fail ---------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-13")
@pytest.mark.parametrize("how", ["no fork", "died", "never ready", "wrong handshake"])
def test_a_start_somebody_asked_for_fails_loudly_and_once(how: str) -> None:
    world = World()
    waiter = world.verb("start")
    call = world.call()
    if how == "no fork":
        world.fact("start_failed", Exit(ExitKind.START_FAILED, how))
    else:
        world.forked()
        if how == "never ready":
            began = world.now
            world.fire("ready")
            assert world.now - began == 20.0
        elif how == "wrong handshake":
            world.fact("condemned", Exit(ExitKind.START_FAILED, how))
        world.end()
    assert (world.state.phase, waiter.answer, call.state) == ("failed", "start_failed", "over")
    assert world.state.reason.startswith("start failed")
    assert len(world.forks) == 1


@pytest.mark.guarantee("R-13", "R-14")
def test_a_restart_that_fails_counts_and_at_the_end_what_waits_is_answered() -> None:
    world = ready_world()
    began = world.now
    world.end()
    call = world.call()
    for _ in range(5):
        assert (world.state.phase, call.state) == ("backoff", "waiting")
        world.fire("backoff")
        world.forked()
        world.end()
    assert (world.state.phase, call.state) == ("failed", "over")
    assert sum(at - began < 30.0 for at, _ in world.forks) == 6
    assert [fork.restart for _, fork in world.forks] == [False, True, True, True, True, True]
    assert world.call().state == "over"
    assert world.state.reason == "6 ends within 30 s, the last: start failed (signal)"


@pytest.mark.guarantee("R-14")
def test_what_failed_can_be_started_again_with_a_clean_slate_and_its_total_kept() -> None:
    world = ready_world()
    while world.state.phase != "failed":
        world.end()
        world.settle()
    assert world.state.history.restarts == 5
    world.verb("restart")
    world.settle()
    world.end()
    assert (world.state.phase, world.state.history.restarts) == ("backoff", 6)


def test_zygotes_that_die_under_a_start_are_replaced_a_bounded_number_of_times() -> None:
    world = World()
    waiter = world.verb("start")
    for _ in range(ZYGOTES_PER_START):
        world.fact("start_failed", Exit(ExitKind.ZYGOTE_LOST))
        assert (world.state.phase, waiter.answer) == ("starting", None)
    world.fact("start_failed", Exit(ExitKind.ZYGOTE_LOST))
    assert (world.state.phase, waiter.answer) == ("failed", "start_failed")


# --- ends nobody asked for ----------------------------------------------------------------------------------
@pytest.mark.guarantee("R-21")
@pytest.mark.parametrize("row", restart_policy.truth_table(), ids=lambda row: f"{row.type}-{row.exit}")
def test_an_end_of_a_ready_session_leads_where_the_truth_table_says(row) -> None:
    world = ready_world(policy=RestartPolicy(type=row.type))
    call = world.call()
    call.started = False
    world.fact("ended", row.exit)
    if row.cell == "leave":
        assert world.state.phase == ("failed" if row.exit.is_crash else "stopped")
        assert call.state == "over"
    else:
        assert (world.state.phase, call.state) == ("backoff", "waiting")
        world.settle()
        assert (world.state.phase, call.state) == ("ready", "sent")
    assert len(world.state.history.counted_at) == (row.cell == "restart")


@pytest.mark.parametrize("verb", ["start", "resume", "restart"])
def test_a_verb_that_comes_while_a_temporary_session_is_being_ended_is_the_later_word(verb) -> None:
    world = ready_world(policy=RestartPolicy(type="temporary"))
    world.fact("condemned", Exit(ExitKind.BREACH))
    waiter = world.verb(verb)
    world.settle()
    assert (world.state.phase, waiter.answer) == ("ready", "ready")


@pytest.mark.guarantee("R-53")
@pytest.mark.parametrize("kind", FACTS)
def test_a_late_word_of_an_old_incarnation_changes_nothing(kind) -> None:
    world = ready_world()
    world.end()
    world.settle()
    assert world.state.incarnation == 2
    before = world.state
    world.send(LifecycleEvent(kind, exit=Exit(ExitKind.SIGNAL), inc=1))
    assert world.state is before


def test_the_zygote_may_be_slower_to_tell_than_the_session_itself() -> None:
    world = World()
    waiter = world.verb("start")
    assert world.process is not None
    world.process.live = True
    world.say_ready()
    world.forked()
    assert (world.state.phase, waiter.answer) == ("ready", "ready")


def test_repr_shows_the_state() -> None:
    assert repr(ready_world().state) == "<Lifecycle ready inc=1 intent=run process=live>"
