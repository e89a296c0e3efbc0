"""The verbs that look at a session's agent and talk to it, and `new` with an agent or a responder of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import host_up, procession

pytestmark = pytest.mark.process

MODULE = """
from pydantic import BaseModel
from procession.agent import Agent, Change, action

class State(BaseModel):
    count: int = 0

class Counter(Agent[State]):
    @action("counter.increment")
    def increment(self, by: int = 1) -> Change:
        count = self.state.count + by
        return Change.set(count=count).replying(count)

def shout(turn):
    for word in turn.text.split():
        yield word.upper() + "!"

from procession import tool

@tool
def repeat(text: str, times: int = 2) -> dict:
    'Say it again. And again.'
    print("speaking")
    return {"said": text * times}
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("module")
    (folder / "of_mine.py").write_text(MODULE)
    with host_up(tmp_path_factory.mktemp("host")) as data_dir:
        ident = start(
            data_dir, folder, "--tool", "of_mine:repeat"
        )  # the zygote of sessions with tools is the fixture's
        procession("rm", ident, "--data-dir", data_dir)
        yield data_dir


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "of_mine.py").write_text(MODULE)
    return tmp_path


def start(host: Path, work: Path, *args: str) -> str:
    made = procession("new", *args, "--data-dir", host, cwd=work)
    assert made.code == 0, made.err
    return made.out.strip()


@pytest.mark.contract("3 agent resolution")
def test_an_agent_of_ones_own_is_started_by_its_name_and_answers_signals(host: Path, work: Path) -> None:
    ident = start(host, work, "--agent", "of_mine:Counter")
    at = ("--data-dir", str(host))
    assert procession("signal", ident, "counter.increment", '{"by": 40}', *at).out == "40\n"
    assert procession("signal", ident, "counter.increment", *at).out == "41\n"
    assert len(procession("signal", ident, "counter.increment", "--cast", *at).out.strip()) == 36
    assert procession("signal", ident, "counter.increment", *at).out == "43\n"
    procession("signal", ident, "counter.decrement", *at).refused(2, "counter.decrement", "did you mean")
    procession("signal", ident, "counter.increment", "{by: 2}", *at).refused(2, "not JSON")
    procession("messages", ident, *at).refused(2, "is for code sessions", "`procession signal")
    procession("rm", ident, *at)


def test_a_responder_answers_and_the_conversation_is_shown(host: Path, work: Path) -> None:
    ident = start(host, work, ".", "--responder", "of_mine:shout", "--language", "rs")
    at = ("--data-dir", str(host))
    assert procession("send", ident, "hello there", *at).out == "HELLO!THERE!\n"
    assert procession("send", ident, "-", *at, input=b"from a pipe").out == "FROM!A!PIPE!\n"
    assert procession("send", ident, "x", "--json", *at).json == "X!"
    shown = procession("messages", ident, *at).out.splitlines()
    assert [line.split("  ", 1)[1] for line in shown[:2]] == ["user: hello there", "assistant: HELLO!THERE!"]
    found = procession("messages", ident, "--json", "--offset", "1", "--limit", "1", *at).json
    assert [(one["role"], one["content"]) for one in found] == [("assistant", "HELLO!THERE!")]
    assert found[0]["timestamp"].endswith("+00:00")
    procession("send", ident, "  ", *at).refused(2, "empty")
    for verb in ("todos", "files", "memory"):
        assert procession(verb, ident, *at).code == 0
        assert procession(verb, ident, "--json", *at).code == 0
    procession("rm", ident, *at)


def test_what_a_session_remembers_is_shown_and_searched(host: Path, work: Path) -> None:
    ident = start(host, work, ".")
    at = ("--data-dir", str(host))
    kept = procession(
        "tool", ident, "remember", "content=tests run with make check", "memory_type=convention", *at
    ).json
    procession("tool", ident, "remember", "content=the parser is slow", *at)
    lines = procession("memory", ident, *at).out.splitlines()
    assert lines[-2].split()[:4] == [kept["id"][:8], "kept", "0.65", "convention"]
    shown = procession("memory", ident, "--json", *at).json
    assert [one["content"] for one in shown["kept"]] == ["tests run with make check", "the parser is slow"]
    assert shown["pending"] == []
    found = procession("memory", ident, "checks", *at).out.splitlines()
    assert [line.split()[:3] for line in found[1:]] == [[kept["id"][:8], "1.00", "convention"]]
    assert [(one["id"], one["score"]) for one in procession("memory", ident, "make", "--json", *at).json] == [
        (kept["id"], 1.0)
    ]
    procession("memory", ident, " ", *at).refused(2, "blank")
    procession("rm", ident, *at)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--agent", "no_such_module:Thing"], "no_such_module"),
        (["--agent", "of_mine:State"], "no agent"),
        (["--agent", "nonsense"], "my_module:Counter"),
        (["--responder", "of_mine:nothing"], "nothing"),
        (["--language", "klingon"], "klingon"),
    ],
)
def test_what_cannot_be_started_says_why_and_leaves_nothing(
    host: Path, work: Path, args: list[str], words: str
) -> None:
    ended = procession("new", *args, "--data-dir", host, cwd=work)
    assert ended.code != 0
    assert words in ended.err
    assert 'Traceback (most recent call last):\n  File "' not in ended.err or "--agent" in args
    assert procession("ps", "--all", "--json", "--data-dir", host).json == []


def test_tools_are_listed_and_called_as_a_program_would(host: Path, work: Path) -> None:
    ident = start(host, work, ".", "--tool", "of_mine:repeat")
    at = ("--data-dir", str(host))
    listed = procession("tools", ident, *at).out
    assert "read_file" in listed
    assert [line.split()[:2] for line in listed.splitlines() if line.startswith("repeat")] == [["repeat", "execute"]]
    assert {one["name"] for one in procession("tools", ident, "--json", *at).json} >= {"repeat", "exec", "todo"}
    done = procession("tool", ident, "repeat", "text=3", "times=2", *at)
    assert (done.json, done.err) == ({"said": "33"}, "speaking\n")
    (work / "notes.txt").write_text("one\ntwo\n")
    assert procession("tool", ident, "read_file", "path=notes.txt", "limit=1", *at).out.strip().startswith("1→one")
    assert procession("tool", ident, "glob", '{"pattern": "*.txt"}', *at).json["paths"] == ["notes.txt"]
    procession("tool", ident, "repeat", "text=a", "times=x", *at).refused(2, "times", "integer")
    procession("tool", ident, "repeat", "text", *at).refused(2, "name=value")
    procession("tool", ident, "reapet", "text=a", *at).refused(2, "reapet", "did you mean repeat")
    procession("tool", ident, "read_file", "path=../x", *at).refused(2, "out of the project")
    late = procession("tool", ident, "exec", "command=sleep 60", "--timeout", "0.3", *at)
    assert (late.code, "deadline" in late.err) == (1, True)
    assert procession("tool", ident, "exec", "command=exit 3", *at).json["exit_code"] == 3
    procession("rm", ident, *at)
