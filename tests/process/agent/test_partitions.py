"""Partitions: tenants of one host whose sessions have names of their own and reach no others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from helpers.agents import Counter, send, state_of
from helpers.waiting import wait_until
from procession import AsyncHost, Host, InvalidRequest, PermissionDenied, Sandbox, SessionNotFound
from procession.agent import AdoptChild, Agent, AppendItems, Change, Emit, SpawnAgent, ToSession, action

pytestmark = pytest.mark.process


class MemberState(BaseModel):
    told: list[Any] = []


class Member(Agent[MemberState]):
    @action("member.hello")
    def hello(self, text: str) -> Change:
        return Change((AppendItems(("told",), (text,)),))

    @action("procession.agent.error")
    def refused(self, code: str, message: str, context: str) -> Change:
        return Change((AppendItems(("told",), (code,)),))

    @action("member.tell")
    def tell(self, who: str) -> Change:
        return Change().asking(Emit("member.hello", {"text": "hello"}, ToSession(who)))

    @action("member.spawn")
    def spawn(self) -> Change:
        return Change().asking(SpawnAgent(f"{Member.__module__}:Member", "child"))

    @action("member.adopt")
    def adopt(self, child: str) -> Change:
        return Change().asking(AdoptChild(child, "taken"))


Member.children = (Member,)


@pytest.fixture
def host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off(), preload=["pydantic"]) as opened:
        yield opened


@pytest.mark.contract("3 InstanceManager", "3 multi-tenancy")
def test_the_same_name_means_another_session_in_another_partition(host: Host) -> None:
    red, blue = host.partition("red"), host.partition("blue")
    ours, theirs, nobodys = (one.get_or_start_session("keyed") for one in (red, blue, host))
    assert len({ours.id, theirs.id, nobodys.id}) == 3
    for one, session in ((red, ours), (blue, theirs), (host, nobodys)):
        assert one.get_or_start_session("keyed") == session == one.session("keyed")
    assert (ours.status().partition, nobodys.status().partition) == ("red", "")


@pytest.mark.contract("3 addressing", "3 multi-tenancy")
def test_a_partition_lists_and_finds_its_own_and_the_host_has_them_all(host: Host) -> None:
    red, blue = host.partition("red"), host.partition("blue")
    ours, theirs = red.start_session(name="a"), blue.start_session(name="b")
    assert [one.id for one in red.list_sessions()] == [ours.id]
    assert [one.id for one in host.list_sessions()] == [ours.id, theirs.id]
    for text in ("b", theirs.id, theirs.id[:8]):
        with pytest.raises(SessionNotFound):
            red.session(text)
        with pytest.raises(SessionNotFound):
            red.stop_session(text)
    with pytest.raises(SessionNotFound):
        host.session("a")
    assert (host.session(ours.id), red.session(ours.id[:8])) == (ours, ours)


@pytest.mark.contract("3 multi-tenancy")
def test_every_verb_that_takes_a_name_means_the_partition_s(host: Host) -> None:
    red = host.partition("red")
    ours, other = red.start_session(name="a"), host.start_session(name="a")
    red.stop_session("a")
    assert (ours.status().phase, other.status().phase) == ("stopped", "ready")
    assert red.resume_session("a") == ours
    red.remove_session("a")
    assert [one.id for one in host.list_sessions(all=True)] == [other.id]


@pytest.mark.contract("3 adoption", "3 multi-tenancy")
def test_an_agent_reaches_only_its_own_partition_and_its_children_are_in_it(host: Host) -> None:
    red, blue = host.partition("red"), host.partition("blue")
    ours, theirs = red.start_session(name="a", agent=Member), blue.start_session(name="b", agent=Member)
    friend = red.start_session(name="friend", agent=Member)
    for who in ("b", theirs.id):
        send(ours, "member.tell", {"who": who})
        send(ours, "member.adopt", {"child": who})
    send(ours, "member.tell", {"who": "friend"})
    wait_until(lambda: state_of(friend)["told"] == ["hello"], "the friend is told")
    wait_until(lambda: len(state_of(ours)["told"]) == 4, "the others are refused")
    assert sorted(state_of(ours)["told"]) == ["child_not_found"] * 2 + ["not_found"] * 2
    assert state_of(theirs)["told"] == []
    send(ours, "member.spawn")
    wait_until(lambda: len(ours.children()) == 1, "the child is there")
    assert red.session("a/child").status().partition == "red"


@pytest.mark.contract("3 multi-tenancy")
def test_a_pool_of_a_partition_is_in_it(host: Host) -> None:
    red = host.partition("red")
    with red.pool(agent=Counter, size=1) as pool:
        assert pool.call("counter.increment") == 1
        assert len(red.list_sessions()) == 1
        assert host.partition("blue").list_sessions() == []
    assert host.list_sessions(all=True) == []


def test_a_view_ends_nothing(host: Host) -> None:
    with host.partition("red") as red:
        session = red.start_session()
        with pytest.raises(PermissionDenied):
            red.shutdown()
    assert session.status().phase == "ready"
    assert not host.closed


@pytest.mark.parametrize("name", ["", " ", "x" * 51, "a\nb", 3, None])
def test_what_is_no_name_is_refused(host: Host, name: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        host.partition(name)
    assert refused.value.code == "invalid_partition"


def test_a_client_has_partitions_and_so_has_an_async_host(tmp_path: Path) -> None:
    async def look(expected: str) -> None:
        async with AsyncHost.connect(tmp_path / "host", sandbox=Sandbox.off()) as client:
            red = client.partition("red")
            assert (await red.session("a")).id == expected
            assert [one.id for one in await red.list_sessions()] == [expected]
            with pytest.raises(SessionNotFound):
                await client.session("a")
            again = await red.get_or_start_session("a")
            assert again.id == expected
            await red.stop_session("a")
            assert (await red.resume_session("a")).id == expected
            await red.remove_session("a")
            await red.close()
            assert await client.list_sessions(all=True) == []

    with (
        Host(tmp_path / "host", sandbox=Sandbox.off()) as host,
        Host.connect(tmp_path / "host", sandbox=Sandbox.off()) as client,
    ):
        asyncio.run(look(client.partition("red").start_session(name="a").id))
        assert host.list_sessions(all=True) == []
