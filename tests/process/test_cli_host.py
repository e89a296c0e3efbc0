"""The verbs that talk to a host: `up`, its sessions from `new` to `rm`, what reads them, and `down`; and their bad input."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import Terminal, environment, host_up, is_over, line_of, procession, rest_of, running
from helpers.waiting import wait_until
from procession import Host

pytestmark = pytest.mark.process

READING = (
    ["status"], ["stats"], ["ps"], ["ps", "--all"], ["inspect", "x"], ["why", "x"], ["logs", "x"], ["events"],
)  # fmt: skip
ACTING = (["new"], ["restart", "x"], ["kill", "x"], ["stop", "x"], ["rm", "x"], ["down"])
RUNNING = (["exec", "x", "--", "true"], ["python", "x", "1"])


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One host for the tests that only use it; each makes sessions of its own."""
    with host_up(tmp_path_factory.mktemp("host")) as data_dir:
        yield data_dir


@pytest.fixture
def session(host: Path) -> Iterator[str]:
    made = procession("new", "--data-dir", host)
    assert made.code == 0, made.err
    ident = made.out.strip()
    yield ident
    procession("rm", ident, "--data-dir", host)


def ask(host: Path, verb: str, *args: str, input: bytes | None = None) -> object:
    """Ask a verb for JSON."""
    ended = procession(verb, "--json", "--data-dir", host, *args, input=input)
    assert ended.code == 0, ended.err
    return ended.json


# --- from up to down ----------------------------------------------------------------------------------------
def test_a_hosts_life_from_up_to_down(tmp_path: Path) -> None:
    data_dir, project = tmp_path / "data", tmp_path / "project"
    project.mkdir()
    at = ["--data-dir", str(data_dir)]
    up = procession("up", "-d", *at)
    assert up.code == 0, up.err
    pid = int(up.out.split("pid ")[1].split(",")[0])
    assert not is_over(pid)

    made = procession("new", str(project), "--name", "alpha", *at)
    assert made.code == 0, made.err
    ident = made.out.strip()
    (listed,) = procession("ps", "--json", *at).json
    assert (listed["id"], listed["name"], listed["phase"], listed["project"]) == (ident, "alpha", "ready", str(project))
    assert "alpha" in procession("ps", *at).out

    ran = procession("exec", *at, "alpha", "--", "sh", "-c", "pwd; echo err >&2; exit 7")
    assert (ran.code, ran.out, ran.err) == (7, f"{project}\n", "err\n")

    assert "stopped" in procession("stop", "alpha", *at).out
    assert procession("ps", "--json", *at).json == []
    assert [one["phase"] for one in procession("ps", "--all", "--json", *at).json] == ["stopped"]
    assert procession("rm", ident, *at).code == 0
    assert procession("ps", "--all", "--json", *at).json == []

    down = procession("down", *at)
    assert (down.code, down.err) == (0, "")
    assert str(pid) in down.out
    assert is_over(pid)
    procession("down", *at).refused(4, "no host is running", "procession up -d")


def test_the_data_directory_may_come_from_the_environment(host: Path) -> None:
    assert procession("status", "--json", env={"PROCESSION_DATA_DIR": str(host)}).json["running"] is True


def test_a_second_host_on_the_same_folder_is_refused(host: Path) -> None:
    pid = ask(host, "status")["statistics"]["pid"]  # type: ignore[index]
    procession("up", "--data-dir", host).refused(1, f"pid {pid}")
    detached = procession("up", "-d", "--data-dir", host)
    assert detached.code == 1
    assert f"pid {pid}" in detached.err
    assert procession("status", "--data-dir", host).code == 0


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = procession("up", "--data-dir", tmp_path / "file")
    assert ended.code == 1
    assert ended.err.startswith("procession: ")
    assert "Traceback" not in ended.err
    for folder, words in ((tmp_path / "file", "is not a folder"), (tmp_path / "file" / "x", "Not a directory")):
        procession("up", "-d", "--data-dir", folder).refused(1, str(tmp_path / "file"), words, "--data-dir DIR")
    home = {"HOME": "/proc", "XDG_DATA_HOME": ""}
    procession("up", "-d", env=home).refused(1, "/proc/", "No such file or directory", "--data-dir DIR")


@pytest.mark.guarantee("R-73")
def test_after_kill_9_of_the_host_the_next_one_comes_up(tmp_path: Path) -> None:
    with host_up(tmp_path) as data_dir:
        killed = ask(data_dir, "status")["statistics"]["pid"]  # type: ignore[index]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: is_over(killed), "the host is gone")
        procession("ps", "--data-dir", data_dir).refused(4)
        assert procession("up", "-d", "--data-dir", data_dir).code == 0
        assert ask(data_dir, "status")["statistics"]["pid"] != killed  # type: ignore[index]


# --- bad input ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("words", [*READING, *ACTING], ids=" ".join)
def test_without_a_host_a_verb_says_so(tmp_path: Path, words: list[str]) -> None:
    procession(*words, "--data-dir", tmp_path).refused(4, "no host is running", str(tmp_path), "procession up -d")


@pytest.mark.parametrize("words", RUNNING, ids=" ".join)
def test_without_a_host_a_programs_verb_fails_as_dockers_do(tmp_path: Path, words: list[str]) -> None:
    procession(words[0], "--data-dir", tmp_path, *words[1:]).refused(125, "no host is running")


@pytest.mark.parametrize(
    "words",
    [["status", "x"], *(w for w in (*READING, *ACTING) if w[-1] == "x"), ["events", "--session", "x"]],
    ids=" ".join,
)
def test_an_unknown_session_is_told_by_name(host: Path, words: list[str]) -> None:
    procession(*words, "--data-dir", host).refused(3, "no session 'x'")


@pytest.mark.parametrize("words", RUNNING, ids=" ".join)
def test_an_unknown_session_for_a_programs_verb(host: Path, words: list[str]) -> None:
    procession(words[0], "--data-dir", host, *words[1:]).refused(125, "no session 'x'")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["new", "/no/such/project"], 2, "/no/such/project"),
        (["new", "/etc/hostname"], 2, "not a folder"),
        (["new", "--memory", "12Q"], 2, "12Q"),
        (["new", "--memory", "1M"], 2, "memory"),
        (["new", "--cpu", "-1"], 2, "cpu"),
        (["new", "--name", "x" * 51], 2, "name"),
        (["new", "--restart", "sometimes"], 2, "sometimes"),
        (["new", "--sandbox", "of"], 2, "--sandbox"),
        (["new", "--sandbox", "strict"], 5, "strict"),
        (["stop", "x", "--grace", "-1"], 2, "--grace"),
        (["events", "--since", "x"], 2, "--since"),
        (["events", "--since", "-5"], 2, "--since"),
        (["status", "--data-dir", ""], 2, "an empty path"),
        (["ps", "--bogus"], 2, "no such option"),
        (["kill"], 2, "missing argument"),
        (["nonsense"], 2, "no such command 'nonsense'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_with_a_command_line_is_said(host: Path, words: list[str], code: int, said: str) -> None:
    procession(*words, env={"PROCESSION_DATA_DIR": str(host)}).refused(code, said)


def test_a_word_that_is_not_utf_8_is_refused_or_passed_on(host: Path, session: str) -> None:
    procession("status", "\udcff", "--data-dir", host).refused(2, "not UTF-8: '\\udcff'")
    procession("python", "--data-dir", host, session, "'\udcff'").refused(125, "not UTF-8")
    done = procession(
        "exec", "--data-dir", host, session, "--", "sh", "-c", 'test "$1" = "$(printf "\\377")"', "", "\udcff"
    )
    assert done.code == 0, done.err


def test_nothing_was_started_by_a_wrong_command_line(host: Path) -> None:
    assert procession("new", "--memory", "12Q", "--name", "wrong", "--data-dir", host).code == 2
    assert procession("new", "--sandbox", "strict", "--name", "wrong", "--data-dir", host).code == 5
    assert "wrong" not in [one["name"] for one in procession("ps", "--all", "--json", "--data-dir", host).json]


def test_two_dots_are_the_folder_above_where_somebody_types_them(host: Path, tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "link").symlink_to(below)
    for typed, cwd, expected in (
        ("..", below, tmp_path / "a"),
        ("../..", below, tmp_path),
        ("link/..", tmp_path, tmp_path / "a"),
        ("link", tmp_path, tmp_path / "link"),
    ):
        ident = procession("new", typed, "--data-dir", host, cwd=cwd).out.strip()
        (found,) = [one for one in ask(host, "ps") if one["id"] == ident]  # type: ignore[attr-defined]
        assert found["project"] == str(expected)
        procession("rm", ident, "--data-dir", host)
    procession("new", "../nowhere", "--data-dir", host, cwd=below).refused(2, f"{tmp_path}/a/nowhere")


def test_a_host_is_told_what_its_sessions_get(tmp_path: Path) -> None:
    own = ["--default-language", "rs", "--default-config", "model=of mine", "--default-config", "max_tokens=7"]
    with host_up(tmp_path / "host", *own) as data_dir, Host.connect(data_dir) as client:
        ident = procession("new", "--data-dir", data_dir).out.strip()
        record = client.session(ident).get_session()
        assert (record.language, record.config["model"], record.config["max_tokens"]) == ("rust", "of mine", 7)
    wrong = ("--default-language", "cobol", "--default-config", "temperature=9")
    for way in ((), ("-d",)):
        procession("up", *way, *wrong, "--data-dir", tmp_path / "no").refused(2, "temperature", "cobol")
    assert not (tmp_path / "no").exists()


def test_a_project_that_is_open_already_is_refused_with_its_session(host: Path, tmp_path: Path) -> None:
    first = procession("new", tmp_path, "--data-dir", host).out.strip()
    procession("new", tmp_path, "--data-dir", host).refused(1, first)
    shared = procession("new", tmp_path, "--share", "--data-dir", host)
    assert shared.code == 0
    assert procession("rm", first, shared.out.strip(), "--data-dir", host).code == 0


def test_of_several_sessions_the_good_ones_are_done(host: Path, session: str) -> None:
    ended = procession("kill", "absent", session, "--data-dir", host)
    assert ended.code == 3
    assert "no session 'absent'" in ended.err
    assert f"({session}) killed: " in ended.out


def test_what_is_done_is_confirmed_with_name_and_id(host: Path) -> None:
    ident = procession("new", "--name", "confirmed", "--data-dir", host).out.strip()
    for verb, did in (("restart", "restarted"), ("kill", "killed: "), ("stop", "stopped: "), ("rm", "removed")):
        assert procession(verb, "confirmed", "--data-dir", host).out.startswith(f"confirmed ({ident}) {did}")


# --- sessions -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 3", 3), ("kill -SEGV $$", 139), ("kill -KILL $$", 137)],
)
def test_exec_passes_the_exit_code_on(host: Path, session: str, script: str, code: int) -> None:
    assert procession("exec", "--data-dir", host, session, "--", "sh", "-c", script).code == code


def test_execs_own_failures(host: Path, session: str) -> None:
    at = ["exec", "--data-dir", str(host)]
    procession(*at, session, "--", "no-such-command").refused(127, "no-such-command")
    procession(*at, session, "--", "/etc/hostname").refused(126, "/etc/hostname")
    procession(*at, "--cwd", "nowhere", session, "--", "true").refused(125, "nowhere")
    procession(*at, "--timeout", "-1", session, "--", "true").refused(125, "timeout")
    procession(*at, "--timeout", "0.2", session, "--", "sleep", "60").refused(124, "killed sleep", "0 left")
    procession(*at, session, "--").refused(125, "no command")
    procession(*at, session, "--timeout", "1", "--", "true").refused(
        125, "'--timeout' comes after", "options come before ID"
    )


def test_exec_passes_standard_input_on(host: Path, session: str) -> None:
    assert procession("exec", "--data-dir", host, session, "tr", "a-z", "A-Z", input=b"words").out == "WORDS"


@pytest.mark.guarantee("R-56")
def test_ctrl_c_ends_an_exec_and_leaves_the_session(host: Path, session: str) -> None:
    with Terminal("exec", "--data-dir", host, session, "--", "sh", "-c", "echo begun; exec sleep 60") as terminal:
        terminal.wait_for("begun")
        terminal.type("\x03")
        assert terminal.wait() == 130
    assert "SIGINT: killed sh" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert procession("exec", "--data-dir", host, session, "true").code == 0


def test_python_keeps_its_names_from_call_to_call(host: Path, session: str) -> None:
    at = ["python", "--data-dir", str(host)]
    assert procession(*at, session, "x = 20").code == 0
    assert procession(*at, session, "print('out'); x + 1").out == "out\n21\n"
    assert procession(*at, session, "-", input=b"x += 2\nx").out == "22\n"
    assert procession(*at, session, input=b"x").out == "22\n"
    raised = procession(*at, session, "1 / 0")
    assert raised.code == 1
    assert "ZeroDivisionError" in raised.err
    found = ask(host, "python", session, "x")
    assert isinstance(found, dict)
    assert (found["value"], found["error"], found["fresh"]) == ("22", None, False)
    crashed = procession(*at, session, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert crashed.code == 139
    assert ask(host, "python", session, "'x' in globals()")["fresh"] is True  # type: ignore[index]


def test_python_talks_line_by_line_on_a_terminal(host: Path, session: str) -> None:
    with Terminal("python", "--data-dir", host, session) as terminal:
        terminal.wait_for(">>> ")
        terminal.type("def twice(n):\n")
        terminal.wait_for("... ")
        terminal.type("    return n * 2\n\n")
        terminal.type("twice(21)\n")
        terminal.wait_for("42")
        terminal.type("1/0\n")
        terminal.wait_for("ZeroDivisionError")
        terminal.wait_for(">>> ", times=4)  # before a prompt, what is no line yet may be lost with the terminal's mode
        terminal.type("\x04")
        assert terminal.wait() == 1  # the last cell's


def test_python_ends_with_the_code_that_the_cell_exits_with(host: Path, session: str) -> None:
    at = ["python", "--data-dir", str(host), session]
    assert procession(*at, "x = 1").err == "procession: a fresh interpreter: it has no names of earlier calls\n"
    for cell, code, said in (("exit(0)", 0, ""), ("import sys; sys.exit(3)", 3, ""), ("exit('words')", 1, "words\n")):
        ended = procession(*at, cell)
        assert (ended.code, ended.out) == (code, "")
        assert ended.err.splitlines(keepends=True)[-1:] == (
            [said] if said else ended.err.splitlines(keepends=True)[-1:]
        )
        assert "SystemExit" not in ended.err
    fresh = procession(*at, "x")
    assert fresh.code == 1
    assert fresh.err.startswith("procession: a fresh interpreter")
    assert ask(host, "python", session, "7")["exit_code"] is None  # type: ignore[index]
    assert procession("python", "--json", *at[1:], "exit(4)").code == 4


@pytest.mark.parametrize(("typed", "code"), [("exit()", 0), ("quit", 0), ("import sys; sys.exit(3)", 3)])
def test_leaving_the_prompt(host: Path, session: str, typed: str, code: int) -> None:
    with Terminal("python", "--data-dir", host, session) as terminal:
        terminal.wait_for(">>> ")
        terminal.type("kept = 1\n")
        terminal.wait_for("fresh")
        terminal.type(f"{typed}\n")
        assert terminal.wait() == code
    assert "SystemExit" not in terminal.shown
    kept = procession("python", "--data-dir", host, session, "'kept' in globals()").out
    assert kept == (
        "False\n" if "sys" in typed else "True\n"
    )  # to leave the prompt ends nothing, sys.exit() its interpreter


DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "


@pytest.mark.parametrize(
    ("first", "became"), [("", "names are kept"), (DEAF, "names are gone")], ids=["heeded", "deaf"]
)
def test_ctrl_c_says_what_became_of_the_names(host: Path, session: str, first: str, became: str) -> None:
    cell = f"{first}print('begun', flush=True)\nwhile True: pass"
    with Terminal("python", "--data-dir", host, session, cell) as terminal:
        terminal.wait_for("begun")
        terminal.type("\x03")
        assert terminal.wait() == 130
    assert f"SIGINT: {'killed' if first else 'interrupted'} the cell" in terminal.shown
    assert became in " ".join(terminal.lines)


def test_a_deadline_says_what_became_of_the_names(host: Path, session: str) -> None:
    at = ["python", "--data-dir", str(host), "--timeout", "0.3", session]
    heeded = procession(*at, "x = 1\nwhile True: pass")
    assert heeded.code == 124
    assert "interrupted the cell at its deadline" in heeded.err
    assert "its names are kept" in heeded.err
    deaf = procession(*at, DEAF + "x\nwhile True: pass")
    assert deaf.code == 124
    assert "killed the cell and its interpreter at its deadline" in deaf.err


def test_hints_are_in_the_words_of_a_shell(host: Path, tmp_path: Path) -> None:
    at = ("--data-dir", host)
    procession("up", *at).refused(1, "`procession down`")
    ident = procession("new", tmp_path, "--name", "hinted", *at).out.strip()
    procession("new", tmp_path, *at).refused(1, ident, "--share")
    procession("new", "--sandbox", "strict", *at).refused(5, "--sandbox off")
    procession("stop", "absent", *at).refused(3, "`procession ps --all` lists them")
    assert procession("stop", "hinted", *at).code == 0
    procession("exec", *at, "hinted", "true").refused(125, f"`procession restart {ident}` brings it back")
    assert procession("restart", "hinted", *at).code == 0
    assert procession("exec", *at, "hinted", "true").code == 0
    assert procession("rm", "hinted", *at).code == 0


def test_no_more_sessions_than_the_host_was_started_for(tmp_path: Path) -> None:
    assert procession("up", "-d", "--max-sessions", "1", "--hibernate-after", "never", "--data-dir", tmp_path).code == 0
    try:
        assert procession("new", "--data-dir", tmp_path).code == 0
        procession("new", "--data-dir", tmp_path).refused(5, "--max-sessions")
    finally:
        assert procession("down", "--data-dir", tmp_path).code == 0


def test_kill_and_restart_and_why(host: Path, session: str) -> None:
    before = ask(host, "status", session)
    assert isinstance(before, dict)
    assert procession("restart", session, "--data-dir", host).code == 0
    after = ask(host, "status", session)
    assert isinstance(after, dict)
    assert after["pid"] != before["pid"]
    assert after["incarnation"] == before["incarnation"] + 1
    killed = procession("kill", session, "--data-dir", host)
    assert "0 left" in killed.out
    told = procession("why", session, "--data-dir", host)
    assert told.code == 0
    assert "story" in told.out
    assert "SIGKILL" in told.out
    found = ask(host, "why", session)
    assert isinstance(found, dict)
    assert set(found) == {"status", "story", "report", "output_tail"}
    assert found["story"]


def test_a_crash_is_restarted_and_told(host: Path, session: str) -> None:
    before = ask(host, "status", session)
    assert isinstance(before, dict)
    os.kill(before["pid"], signal.SIGKILL)
    assert procession("exec", "--data-dir", host, session, "true").code == 0
    after = ask(host, "status", session)
    assert isinstance(after, dict)
    assert (after["restarts"], after["phase"]) == (1, "ready")
    assert "SIGKILL" in procession("why", session, "--data-dir", host).out


# --- reading ------------------------------------------------------------------------------------------------
def test_json_has_the_keys_of_the_records(host: Path, session: str) -> None:
    assert procession("exec", "--data-dir", host, session, "echo", "printed").code == 0
    status = ask(host, "status")
    assert set(status) == {"running", "statistics", "phases"}  # type: ignore[call-overload]
    assert {"pid", "sessions", "calls", "rss_bytes"} <= set(ask(host, "stats"))  # type: ignore[call-overload]
    inspected = ask(host, "inspect", session)
    assert set(inspected) == {"status", "calls", "processes", "children", "last_report"}  # type: ignore[call-overload]
    assert "exec" in [call["op"] for call in inspected["calls"]]  # type: ignore[index]
    chunks = ask(host, "logs", session)
    assert [chunk["text"] for chunk in chunks] == ["printed\n"]  # type: ignore[attr-defined]
    events = ask(host, "events", "--session", session)
    assert all(event["session"] == session for event in events)  # type: ignore[attr-defined]
    numbers = [event["number"] for event in events]  # type: ignore[attr-defined]
    assert numbers == sorted(numbers)
    later = ask(host, "events", "--session", session, "--since", str(numbers[0]))
    assert [event["number"] for event in later] == numbers[1:]  # type: ignore[attr-defined]


@pytest.mark.parametrize("words", [["status"], ["stats"], ["ps"], ["inspect"], ["why"], ["logs"], ["events"]], ids=str)
def test_what_is_for_people_has_no_escapes_off_a_terminal(host: Path, session: str, words: list[str]) -> None:
    assert procession("exec", "--data-dir", host, session, "echo", "printed").code == 0
    ended = procession(*words, *([session] if words[0] in ("inspect", "why", "logs") else []), "--data-dir", host)
    assert ended.code == 0, ended.err
    assert ended.out
    assert "\x1b" not in ended.out


def test_what_a_session_prints_cannot_drive_the_terminal(host: Path, session: str) -> None:
    assert procession("exec", "--data-dir", host, session, "printf", r"\033]0;title\007\033[2Jhere\n").code == 0
    with Terminal("logs", session, "--data-dir", host) as terminal:
        assert terminal.wait() == 0
    assert "\\x1b[2Jhere" in terminal.shown
    assert "\x1b[2J" not in terminal.shown
    assert "\x1b[2Jhere\n" in procession("logs", session, "--data-dir", host).out  # into a pipe: its very bytes


def test_logs_follow_until_ctrl_c(host: Path, session: str) -> None:
    with running("logs", "-f", "--json", "--data-dir", host, session) as process:
        assert procession("exec", "--data-dir", host, session, "echo", "one line").code == 0
        assert json.loads(line_of(process.stdout))["text"] == "one line\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert rest_of(process.stderr) == ""


def test_logs_of_a_call_that_is_not_there(host: Path, session: str) -> None:
    assert procession("exec", "--data-dir", host, session, "true").code == 0
    (call,) = [call for call in ask(host, "inspect", session)["calls"] if call["op"] == "exec"]  # type: ignore[index]
    silent = procession("logs", "--call", str(call["seq"]), "--data-dir", host, session)
    assert (silent.code, silent.out, silent.err) == (0, "", "")
    procession("logs", "--call", "999", "--data-dir", host, session).refused(1, "no call 999", "procession inspect")


def test_events_followed_begin_with_those_that_are_kept(host: Path, session: str) -> None:
    kept = ask(host, "events", "--session", session)
    assert isinstance(kept, list)
    with running("events", "-f", "--json", "--data-dir", host, "--session", session) as process:
        assert process.stdout is not None
        for event in kept:
            assert json.loads(process.stdout.readline())["number"] == event["number"]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


def test_events_follow_until_ctrl_c(host: Path, session: str) -> None:
    with running("events", "-f", "--json", "--data-dir", host, "--session", session, "--since", "0") as process:
        assert json.loads(line_of(process.stdout))["session"] == session
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert rest_of(process.stderr) == ""


def test_ps_watches_as_json_lines_until_ctrl_c(host: Path, session: str) -> None:
    with running("ps", "--watch", "--json", "--data-dir", host) as process:
        for _ in range(2):
            assert session in [one["id"] for one in json.loads(line_of(process.stdout))]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


@pytest.fixture
def far_session(host: Path, tmp_path: Path) -> Iterator[str]:
    """A session of a project whose path is longer than a terminal is wide."""
    project = tmp_path / "a-project-in" / "a-folder-far" / "below-others" / "called-this"
    project.mkdir(parents=True)
    ident = procession("new", project, "--name", "far", "--data-dir", host).out.strip()
    yield ident
    procession("rm", ident, "--data-dir", host)


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_fit_their_terminal(host: Path, session: str, far_session: str, columns: int) -> None:
    with Terminal("ps", "--data-dir", host, size=(24, columns)) as terminal:
        assert terminal.wait() == 0
    assert all(len(line) <= columns for line in terminal.lines)
    (private,) = [line for line in terminal.lines if line.startswith(session[:8])]  # a line each
    (far,) = [line for line in terminal.lines if line.startswith(far_session[:8])]
    assert "(private)" in private
    assert "far " in far
    assert "called-this" in far
    assert ("INC" in terminal.shown) == (columns == 120)
    with Terminal("doctor", "--data-dir", host, size=(24, columns)) as terminal:
        assert terminal.wait() == 0
    assert all(len(line) <= columns for line in terminal.lines)
    assert len(terminal.lines) <= 24
    assert "pidfd_open works, Linux" in terminal.shown


def test_ps_watches_in_place_on_a_terminal(host: Path, session: str) -> None:
    with Terminal("ps", "--watch", "--data-dir", host, env={"COLUMNS": "160"}) as terminal:
        terminal.wait_for(session[:8])
        terminal.type("\x03")
        assert terminal.wait() == 0
    assert "Traceback" not in terminal.shown


def test_a_follower_is_told_when_the_host_goes(tmp_path: Path) -> None:
    with (
        host_up(tmp_path) as data_dir,
        running("events", "-f", "--json", "--data-dir", data_dir, "--since", "0") as process,
    ):
        assert line_of(process.stdout)
        assert procession("down", "--data-dir", data_dir).code == 0
        assert process.wait(timeout=20) in (0, 4)
        assert "Traceback" not in rest_of(process.stderr)


# --- doctor, help, completion -------------------------------------------------------------------------------
def test_doctor_tries_the_layers_and_a_real_session(tmp_path: Path) -> None:
    found = procession("doctor", "--json", "--data-dir", tmp_path)
    assert found.code == 0, found.out
    layers = {layer["name"]: layer for layer in found.json["layers"]}
    assert set(layers) == {
        "python", "pidfd", "memfd sealing", "subreaper", "no new privileges", "landlock", "/proc", "open files",
        "processes", "data directory", "temporary folder", "clock", "confinement",
    }  # fmt: skip
    assert layers["confinement"]["state"] == "unavailable"
    assert all(layer["detail"] for layer in layers.values())
    probe = found.json["probe"]
    assert probe["ok"]
    assert probe["pid"] > 0
    assert (probe["found"], probe["left"]) == (1, 0)
    assert 0 < probe["session_start_ms"] < 20_000
    table = procession("doctor", "--data-dir", tmp_path / "x")
    assert table.code == 0
    assert "probe session" in table.out


def test_doctor_says_what_is_wrong_with_a_data_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    layers = {layer["name"]: layer for layer in procession("doctor", "--json", "--data-dir", file).json["layers"]}
    assert layers["data directory"]["state"] == "unavailable"
    assert layers["data directory"]["detail"] == f"{file} is not a folder"


HELP_S_MAX = 0.4 * 3  # asserted with slack: this machine may be doing something else


def test_help_is_quick_and_names_every_verb() -> None:
    ended = min((procession("--help") for _ in range(10)), key=lambda one: one.elapsed_s)
    assert ended.code == 0
    assert {"run", "up", "doctor", "demo"} <= set(ended.out.split())
    assert ended.elapsed_s < HELP_S_MAX


def test_version() -> None:
    assert procession("--version").out.startswith("procession 0.")


def test_run_loads_neither_typer_nor_rich_nor_pydantic(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("")
    line = "import sys; from procession.api.cli.main import run; code = run(sys.argv[1:]); print(*sys.modules); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", line, "run", str(tmp_path / "script.py")], env=environment(), check=True,
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=20)  # fmt: skip
    assert {"typer", "rich", "pydantic", "asyncio", "psutil"} & set(done.stdout.split()) == set()


def test_the_shell_completes_verbs_and_options() -> None:
    env = {"_PROCESSION_COMPLETE": "complete_bash", "COMP_WORDS": "procession st", "COMP_CWORD": "1"}
    assert set(procession(env=env).out.split()) == {"state", "status", "stats", "stop"}
    env = {"_PROCESSION_COMPLETE": "complete_bash", "COMP_WORDS": "procession ps --w", "COMP_CWORD": "2"}
    assert procession(env=env).out.split() == ["--watch"]
