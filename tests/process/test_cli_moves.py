"""The verbs that move and copy sessions, and the reading ones on a session that is at rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import host_up, procession

pytestmark = pytest.mark.process


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "host").mkdir()
    with host_up(tmp_path / "host") as data_dir:
        yield data_dir


@pytest.fixture
def work(host: Path, tmp_path: Path) -> str:
    """Return the id of a session with two messages."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "file").write_text("text")
    made = procession("new", tmp_path / "project", "--responder", "echo", "--data-dir", host)
    assert made.code == 0, made.err
    ident = made.out.strip()
    assert procession("send", ident, "hello", "--data-dir", host).code == 0
    return ident


def messages(host: Path, ident: str) -> list[str]:
    found = procession("messages", ident, "--json", "--data-dir", host)
    assert found.code == 0, found.err
    return [message["content"] for message in json.loads(found.out)]


def test_a_session_is_exported_and_imported(host: Path, work: str, tmp_path: Path) -> None:
    at = ("--data-dir", str(host))
    told = procession("export", work, "a.procession", *at, cwd=tmp_path)
    assert told.code == 0, told.err
    assert told.out.startswith(f"exported: {tmp_path / 'a.procession'}, ")
    again = procession("export", work, "a.procession", *at, cwd=tmp_path)
    assert (again.code, "--overwrite replaces it" in again.err) == (1, True)
    assert procession("export", work, "a.procession", "--overwrite", *at, cwd=tmp_path).code == 0

    refused = procession("import", "a.procession", *at, cwd=tmp_path)
    assert (refused.code, "--trust-code lets it" in refused.err, "a responder" in refused.err) == (5, True, True)
    made = procession("import", "a.procession", "--trust-code", "--name", "other", "--json", *at, cwd=tmp_path)
    assert made.code == 0, made.err
    ref = json.loads(made.out)
    assert (ref["name"], ref["id"] != work) == ("other", True)
    assert messages(host, ref["id"]) == messages(host, work)
    assert procession("send", ref["id"], "again", *at).out == "again\n"

    (tmp_path / "a.procession").write_bytes(b"junk")
    junk = procession("import", "a.procession", *at, cwd=tmp_path)
    assert (junk.code, "this is no session archive" in junk.err) == (2, True)


def test_a_session_is_forked_as_it_was_and_with_its_folder(host: Path, work: str, tmp_path: Path) -> None:
    at = ("--data-dir", str(host))
    number = json.loads(procession("status", work, "--json", *at).out)["number"]
    assert number > 1
    fork = procession("fork", work, "--copy-project", "--project", tmp_path / "copy", *at)
    assert fork.code == 0, fork.err
    assert (tmp_path / "copy" / "file").read_text() == "text"
    assert messages(host, fork.out.strip()) == messages(host, work)
    early = procession("fork", work, "--at", "0", "--name", "early", *at)
    assert early.code == 0, early.err
    assert messages(host, "early") == []
    gone = procession("fork", work, "--at", str(number + 100), *at)
    assert gone.code == 2
    assert "is not kept" in gone.err


@pytest.mark.guarantee("R-33")
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_session_at_rest_is_read_and_not_started(host: Path, work: str, end: str) -> None:
    at = ("--data-dir", str(host))
    verbs = (
        ["messages", work], ["messages", work, "--json"], ["todos", work], ["files", work], ["memory", work],
        ["state", work], ["state", work, "session.language"], ["state", work, "no.such"], ["logs", work],
    )  # fmt: skip

    def told() -> list[tuple[int, str, str]]:
        ends = [procession(*verb, *at) for verb in verbs]
        return [(ended.code, ended.out, ended.err) for ended in ends]

    before = told()
    assert [code for code, _, _ in before] == [0, 0, 0, 0, 0, 0, 0, 2, 0]
    assert procession(end, work, *at).code == 0
    assert told() == before
    for verb in ("why", "inspect"):
        assert procession(verb, work, *at).code == 0
    status = json.loads(procession("status", work, "--json", *at).out)
    assert (status["phase"], status["incarnation"]) == ("down" if end == "kill" else "stopped", 1)
