"""carry_out: plain data in and out, refusals as answers, other exceptions through, and one file loaded for one tool."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from helpers.builtin_tools import Tool
from helpers.runs import run_python
from procession.agent_proc.agent.tools.builtin import BUILTIN
from procession.agent_proc.tools import carry_out as module
from procession.agent_proc.tools.carry_out import carry_out
from procession.ipc.core.values import decode_value, encode_value


def test_exactly_the_workers_tools_are_carried_out(project: Path) -> None:
    of_workers = {name for name, tool in BUILTIN.items() if tool.runs == "worker"}
    assert set(module._TOOLS) == of_workers
    arguments: dict[str, dict[str, Any]] = {
        "python": {"code": "1"},
        "todo": {"todos": []},
        "forget": {"memory_id": "m"},
        "remember": {"content": "x"},
    }
    for name in BUILTIN.keys() - of_workers:
        found = carry_out(name, arguments.get(name, {}), str(project), "s", ())
        assert found == {"ok": False, "code": "not_found", "message": f"{name} is not run in a worker", "hint": ""}
    assert carry_out("rm", {}, str(project), "s", ())["code"] == "not_found"


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("read_file", {}, "missing_parameter"),
        ("read_file", {"path": "a", "lines": 3}, "unknown_parameter"),
        ("read_file", {"path": b"a"}, "invalid_type"),
        ("read_file", {"path": "a", "offset": "1"}, "invalid_type"),
        ("read_file", {"path": "a", "offset": True}, "invalid_type"),
        ("read_file", {"path": "a", "offset": 0}, "invalid_value"),
        ("read_file", {"path": "a", "limit": 2_001}, "invalid_value"),
        ("read_file", [], "invalid_arguments"),
        ("multi_edit_file", {"path": "a", "edits": [{"old_string": "x"}]}, "missing_parameter"),
        ("multi_edit_file", {"path": "a", "edits": ["x"]}, "invalid_type"),
        ("multi_edit_file", {"path": "a", "edits": []}, "invalid_value"),
        ("exec", {"command": ["x"], "env": {"A": 1}}, "invalid_type"),
        ("exec", {"command": ["x"], "env": {1: "A"}}, "invalid_type"),
    ],
)
def test_wrong_arguments_are_a_typed_refusal(project: Path, name: str, arguments: object, code: str) -> None:
    found = carry_out(name, arguments, str(project), "s", ())  # type: ignore[arg-type]
    assert (found["ok"], found["code"], bool(found["message"])) == (False, code, True)


@pytest.mark.parametrize("name", [None, 3, ["read_file"], {}])
def test_a_name_that_is_none_is_a_typed_refusal(project: Path, name: object) -> None:
    assert carry_out(name, {}, str(project), "s", ())["code"] == "not_found"  # type: ignore[arg-type]


def test_a_project_that_is_gone_is_told_as_a_refusal(tmp_path: Path) -> None:
    assert carry_out("read_file", {"path": "a"}, str(tmp_path / "gone"), "s", ())["code"] == "file_not_found"


def test_any_other_exception_is_left_to_the_worker(tool: Tool, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "file").touch()

    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "read", broken)
    with pytest.raises(OSError, match="Input/output error"):
        tool("read_file", path="file")


def test_answers_cross_processes_as_they_are(tool: Tool, project: Path) -> None:
    (project / "caf\udce9\n").write_text("x")
    (project / "file").write_bytes(b"\xff\n")
    for found in (
        tool("list_directory"),
        tool("grep", pattern="."),
        tool("read_file", path="file"),
        tool("read_file", path="caf\udce9\n"),
        tool("write_file", path="new\udce9", content="x"),
        tool("exec", command=["printf", "\\377"]),
        tool("read_file", path="nothing\udce9"),
    ):
        assert decode_value(encode_value(found)) == found


@pytest.mark.process
def test_one_tool_loads_its_own_file_and_nothing_heavy() -> None:
    done = run_python(
        "import json, sys, procession.agent_proc.session\n"
        "from procession.agent_proc.tools.carry_out import carry_out\n"
        "carry_out('read_file', {'path': 'x'}, '/', 's', ())\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert "procession.agent_proc.tools.reading" in loaded
    assert not loaded & {"pydantic", "asyncio", "subprocess", "fnmatch", "procession.agent_proc.tools.searching"}
    assert not loaded & {"procession.agent_proc.tools.commands", "procession.agent_proc.tools.git"}
