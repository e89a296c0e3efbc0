"""The places of a mailbox, shared by clients: whoever comes alone may have them all, and nobody keeps the others out."""

import random

from procession.host.core.fair_shares import WANTS_S, FairShares


def test_one_client_may_have_all_places() -> None:
    shares = FairShares(8)
    assert [shares.enter("s", 1, 0.0) for _ in range(9)] == [True] * 8 + [False]
    shares.leave("s", 1)
    assert shares.enter("s", 1, 0.0)


def test_a_flood_makes_room_for_who_comes_later() -> None:
    shares = FairShares(8)
    assert all(shares.enter("s", 1, 0.0) for _ in range(8))
    assert shares.enter("s", 2, 0.1), "its own bound is the mailbox's, which is another thing"
    for _ in range(4):
        assert not shares.enter("s", 1, 0.2)
        shares.leave("s", 1)
    assert not shares.enter("s", 1, 0.3)
    shares.leave("s", 1)
    assert shares.enter("s", 1, 0.3)


def test_who_wants_nothing_any_more_has_no_share() -> None:
    shares = FairShares(8)
    assert all(shares.enter("s", client, 0.0) for client in (1, 1, 1, 1, 2))
    assert not shares.enter("s", 1, 0.1)
    shares.leave("s", 2)
    assert not shares.enter("s", 1, 0.2), "it may come again"
    assert shares.enter("s", 1, 0.2 + WANTS_S)


def test_sessions_are_apart_and_nothing_is_kept_of_those_without_calls() -> None:
    shares = FairShares(8)
    assert all(shares.enter("s", 1, 0.0) for _ in range(8))
    assert all(shares.enter("t", 2, 0.0) for _ in range(8))
    shares.forget(1)
    for _ in range(8):
        shares.leave("s", 1)
        shares.leave("t", 2)
    assert (shares._open, shares._asked) == ({}, {})


def test_greedy_and_modest_clients_of_one_session_are_served_alike() -> None:
    """Ten clients that always want more, one that wants a call now and then: it is never refused for long."""
    dice, shares = random.Random(7), FairShares(64)
    under_way: list[int] = []
    refused = 0
    for step in range(20_000):
        now = step / 1000
        client = 0 if step % 50 == 0 else dice.randint(1, 10)
        if len(under_way) < 64 and shares.enter("s", client, now):
            under_way.append(client)
        elif client == 0:
            refused += 1
        if len(under_way) == 64 or step % 2:
            shares.leave("s", under_way.pop(dice.randrange(len(under_way))))
    assert refused <= 20_000 / 50 * 0.1
