"""exec: words and text, folder and environment, the last of each output, and an end that waits for nobody else."""

import os
import sys
from pathlib import Path

import pytest

from helpers.builtin_tools import Tool
from helpers.waiting import wait_until
from procession.agent_proc.tools.commands import OUTPUT_BYTES_MAX

pytestmark = pytest.mark.process


def is_running(pid: int) -> bool:
    """Say whether there is such a process, and not only its record."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.contract("1.10 shell")
def test_words_are_run_as_they_are_and_a_text_by_the_shell(tool: Tool, project: Path) -> None:
    assert tool("exec", command=["printf", "%s|", "a b", "$HOME", "*", ";ls"])["value"] == {
        "exit_code": 0,
        "stdout": "a b|$HOME|*|;ls|",
        "stderr": "",
        "stdout_dropped": 0,
        "stderr_dropped": 0,
    }
    found = tool("exec", command="echo $((1 + 1)); echo no >&2; exit 3")
    assert found["value"] == {
        "exit_code": 3,
        "stdout": "2\n",
        "stderr": "no\n",
        "stdout_dropped": 0,
        "stderr_dropped": 0,
    }
    assert (found["reads"], found["writes"], found["lists"]) == ([], [], [])
    assert tool("exec", command="kill -9 $$")["value"]["exit_code"] == -9


@pytest.mark.usefixtures("opening")
def test_it_runs_in_the_folder_that_was_asked_for(tool: Tool, project: Path, outside: Path) -> None:
    (project / "a b\n/caf\udce9").mkdir(parents=True)
    (project / "inner").symlink_to("a b\n")
    (project / "out").symlink_to(outside)
    (project / "file").touch()
    assert tool("exec", command="pwd -P")["value"]["stdout"] == f"{project}\n"
    assert tool("exec", command=["ls", "-A"], cwd="inner")["value"]["stdout"].encode()
    assert tool("exec", command="pwd -P", cwd="inner")["value"]["stdout"] == f"{project}/a b\n\n"
    for cwd, code in {
        "out": "symlink_escapes_boundary",
        "..": "path_escapes_boundary",
        "/": "path_outside_boundary",
        "file": "not_a_directory",
        "nothing": "file_not_found",
    }.items():
        assert tool("exec", command="pwd", cwd=cwd)["code"] == code


def test_the_environment_is_the_workers_and_what_is_given(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_WORKER", "1")
    monkeypatch.setenv("OF_BOTH", "1")
    found = tool("exec", command="echo $OF_WORKER $OF_BOTH $OF_CALL", env={"OF_BOTH": "2", "OF_CALL": "3"})
    assert found["value"]["stdout"] == "1 2 3\n"
    assert "OF_CALL" not in os.environ
    for name in ("", "A=B"):
        assert tool("exec", command="true", env={name: "x"})["code"] == "bad_variable"


def test_it_reads_nothing_and_has_only_the_standard_descriptors(tool: Tool) -> None:
    ours, end = os.pipe()
    os.write(end, b"not for the command")
    os.close(end)
    saved = os.dup(0)
    os.dup2(ours, 0)
    try:
        found = tool("exec", command="cat; ls /proc/self/fd | tr '\\n' ' '")["value"]["stdout"]
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(ours)
    assert found == "0 1 2 3 "  # the last is that of the listing itself


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["nothing-of-this-name"], "command_not_found"),
        (["./nothing"], "command_not_found"),
        ([""], "empty_command"),
        (["./file"], "not_executable"),
        (["./folder"], "not_executable"),
        (["x" * 300], "not_executable"),
        (["true", "\0"], "null_byte"),
        ("true \0", "null_byte"),
        (["true", "\ud800"], "invalid_text"),
        (["true", *["x" * 120_000] * 60], "command_too_long"),
        ([], "invalid_value"),
        ("", "invalid_value"),
        (["true", 1], "invalid_type"),
        (7, "invalid_type"),
    ],
)
def test_what_cannot_be_started_is_refused(tool: Tool, project: Path, command: object, code: str) -> None:
    (project / "file").write_text("no program")
    (project / "folder").mkdir()
    assert tool("exec", command=command)["code"] == code


@pytest.mark.contract("1.10 shell")
def test_the_last_part_of_each_output_is_kept_and_the_rest_counted(tool: Tool) -> None:
    script = "import sys\nfor n in range(100_000): print(n); print('e' * 9, file=sys.stderr)"
    found = tool("exec", command=[sys.executable, "-c", script])["value"]
    everything = "".join(f"{n}\n" for n in range(100_000))
    assert found["stdout"] == everything[-OUTPUT_BYTES_MAX:]
    assert found["stdout_dropped"] == len(everything) - OUTPUT_BYTES_MAX
    assert len(found["stderr"]) == OUTPUT_BYTES_MAX
    assert found["stderr_dropped"] == 1_000_000 - OUTPUT_BYTES_MAX


def test_output_that_is_no_text_is_shown_as_far_as_it_is(tool: Tool) -> None:
    assert tool("exec", command=["printf", "a\\377b"])["value"]["stdout"] == "a�b"


def test_the_end_of_the_command_is_the_end_whoever_holds_its_output(tool: Tool, project: Path) -> None:
    os.mkfifo(project / "pipe")
    # Left behind, with the output open, until the pipe has a writer; in a worker its keeper would end it.
    found = tool("exec", command="cat pipe & echo $!")["value"]
    assert found["exit_code"] == 0
    left = int(found["stdout"])
    os.close(os.open(project / "pipe", os.O_WRONLY))
    wait_until(lambda: not is_running(left), "the end of what was left behind")


def test_outputs_closed_early_are_no_end(tool: Tool) -> None:
    assert tool("exec", command="exec >&- 2>&-; exit 5")["value"]["exit_code"] == 5
