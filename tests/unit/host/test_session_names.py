"""What a session may take and holds: the order of the checks, what each hold keeps, and the look-ups."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession.host.core.session_names import Hold, Registration, Registrations
from procession.ipc.core.errors import AlreadyExists, NotDelivered, SessionLimitReached, SessionNotFound

HOLDS: tuple[Hold, ...] = get_args(Hold)
FOLDER = (1, 100)


def session(id: str = "new", **fields: Any) -> Registration:
    return Registration(id, **{"name": f"name-{id}", "created_at": 0.0, "folder": FOLDER, **fields})


def registered(*sessions: Registration, most: int = 10) -> Registrations:
    """Return registrations of these, whatever the rules."""
    return Registrations(most, {one.id: one for one in sessions})


def outcome(registrations: Registrations, candidate: Registration) -> str | None:
    try:
        registrations.check(candidate)
    except NotDelivered as error:
        with pytest.raises(type(error)):
            registrations.added(candidate)
        return error.code
    assert registrations.added(candidate).lookup(candidate.id) == candidate
    return None


def test_the_limit_is_checked_first_then_the_id_then_the_folder() -> None:
    holder, other = session("a"), session("b", folder=(1, 200))
    assert outcome(registered(holder, most=1), session("a")) == "session_limit_reached"
    assert outcome(registered(holder, most=2), session("a")) == "session_exists"
    assert outcome(registered(holder, most=2), session("c")) == "project_already_open"
    assert outcome(registered(holder, most=2), session("c", folder=(2, 100))) is None
    assert outcome(registered(holder, other, most=2), session("c", folder=(2, 100))) == "session_limit_reached"


@pytest.mark.parametrize(
    ("hold", "slot", "folder", "listed"),
    [("running", 1, True, True), ("resting", 0, True, True), ("stopped", 0, False, False)],
)
def test_what_a_hold_keeps(hold: Hold, slot: int, folder: bool, listed: bool) -> None:
    registrations = registered(session("a", hold=hold))
    assert registrations.running == slot
    assert (outcome(registrations, session("b")) == "project_already_open") == folder
    assert (registrations.oldest_first() != []) == listed
    assert registrations.oldest_first(stopped=True) == [registrations.lookup("a")]
    assert outcome(registrations, session("a", folder=None)) == "session_exists"


@pytest.mark.parametrize(
    ("holder", "candidate", "taken"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_only_exclusive_sessions_keep_each_other_out(holder: bool, candidate: bool, taken: bool) -> None:
    registrations = registered(session("a", exclusive=holder))
    assert (outcome(registrations, session("b", exclusive=candidate)) == "project_already_open") == taken


def test_private_folders_are_never_the_same() -> None:
    assert outcome(registered(session("a", folder=None)), session("b", folder=None)) is None


def test_the_errors_say_what_to_do() -> None:
    with pytest.raises(SessionLimitReached, match=r"runs 1 sessions and may run 1 \(hint: stop one"):
        registered(session("a"), most=1).check(session("b"))
    with pytest.raises(AlreadyExists, match="with the id a exists") as exists:
        registered(session("a")).check(session("a"))
    assert exists.value.session == "a"
    with pytest.raises(AlreadyExists) as opened:
        registered(session("a")).check(session("b"))
    assert opened.value.session == "a"
    assert opened.value.hint == "resume a, or pass exclusive=False to share the folder"
    assert opened.value.ran == "no"


@pytest.mark.parametrize("before", HOLDS)
@pytest.mark.parametrize("after", HOLDS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("rival", [False, True])
def test_what_a_session_did_not_hold_is_checked_when_it_comes_back(
    before: Hold, after: Hold, full: bool, rival: bool
) -> None:
    others = [session("other", folder=FOLDER if rival else (9, 9))] if rival or full else []
    registrations = registered(*others, session("a", hold=before), most=1 if full else 5)
    expected = None
    if full and after == "running" and before != "running":
        expected = "session_limit_reached"
    elif rival and before == "stopped" and after != "stopped":
        expected = "project_already_open"
    if expected is None:
        assert registrations.moved("a", after).lookup("a") == session("a", hold=after)
    else:
        with pytest.raises(NotDelivered) as caught:
            registrations.moved("a", after)
        assert caught.value.code == expected


def test_names_may_repeat_and_the_oldest_session_that_holds_one_wins() -> None:
    young, old, stopped = (session(key, name="n", created_at=at) for key, at in (("y", 3.0), ("o", 2.0), ("s", 1.0)))
    registrations = registered(young, old).added(session("x", folder=(3, 3), created_at=0.0))
    assert registrations.lookup_by_name("n") == old
    assert registered(stopped).moved("s", "stopped").added(young).lookup_by_name("n") == young
    assert registrations.renamed("y", "other").lookup_by_name("other").id == "y"
    with pytest.raises(SessionNotFound):
        registered(stopped).moved("s", "stopped").lookup_by_name("n")


def test_a_folder_is_found_whatever_it_was_called() -> None:
    shared = session("b", exclusive=False, created_at=-1.0)
    assert registered(session("a"), shared).lookup_by_folder(FOLDER) == shared
    assert registered(session("a"), session("p", folder=None)).lookup_by_folder(FOLDER).id == "a"
    for registrations in (registered(), registered(session("a", hold="stopped"))):
        with pytest.raises(SessionNotFound):
            registrations.lookup_by_folder(FOLDER)


def test_sessions_are_listed_by_age_and_of_one_age_as_they_came() -> None:
    ages = {"a": 2.0, "b": 1.0, "c": 2.0, "d": 0.5}
    registrations = registered(*(session(key, created_at=at) for key, at in ages.items()))
    assert [one.id for one in registrations.oldest_first()] == ["d", "b", "a", "c"]
    assert [one.id for one in registrations.moved("b", "stopped").oldest_first()] == ["d", "a", "c"]
    assert [one.id for one in registrations.renamed("a", "z").oldest_first()] == ["d", "b", "a", "c"]


def test_the_default_is_the_configured_session_if_it_is_there_else_the_oldest() -> None:
    registrations = registered(session("a", created_at=2.0), session("b", created_at=1.0))
    assert registrations.default().id == "b"
    assert registrations.default("a").id == "a"
    assert registrations.default("gone").id == "b"
    assert registrations.moved("a", "stopped").default("a").id == "b"
    for empty in (Registrations(), registered(session(hold="stopped"))):
        with pytest.raises(SessionNotFound) as caught:
            empty.default("new")
        assert caught.value.code == "no_sessions"


def test_an_id_that_is_not_there_is_not_found_but_may_be_removed() -> None:
    registrations = registered(session("a"))
    for change in (
        lambda: registrations.lookup("x"),
        lambda: registrations.moved("x", "stopped"),
        lambda: registrations.renamed("x", "n"),
    ):
        with pytest.raises(SessionNotFound) as caught:
            change()
        assert (caught.value.code, caught.value.session) == ("not_found", "x")
    assert registrations.removed("x") == registrations
    assert outcome(registrations.removed("a"), session("a")) is None


def test_the_limit_is_a_hundred_unless_set() -> None:
    assert Registrations().sessions_max == 100


steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "move", "remove"]),
        st.sampled_from("abcd"),
        st.sampled_from(HOLDS),
        st.sampled_from([(1, 1), (1, 2), None]),
        st.booleans(),
    ),
    max_size=20,
)


@given(steps)
def test_whatever_is_tried_no_two_share_what_one_may_hold(tried: list[tuple[str, str, Hold, Any, bool]]) -> None:
    now = Registrations(sessions_max=2)
    for verb, key, hold, folder, exclusive in tried:
        before = dict(now.by_id)
        try:
            match verb:
                case "add":
                    after = now.added(session(key, folder=folder, exclusive=exclusive))
                case "move":
                    after = now.moved(key, hold)
                case _:
                    after = now.removed(key)
        except NotDelivered:
            after = now
        assert dict(now.by_id) == before
        now = after
        assert now.running <= 2
        held = [one.folder for one in now.oldest_first() if one.exclusive and one.folder is not None]
        assert len(held) == len(set(held))
