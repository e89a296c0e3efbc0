"""How command lines are read: the table of verbs, the short way of `run`, and the lines of the interactive interpreter."""

import inspect
import re
from importlib import import_module

import pytest

from procession.api.cli import app, carry, client, lifecycle, look, run_file, words, work
from procession.api.cli.console import needs_more
from procession.ipc.core import errors
from procession.ipc.core.errors import InvalidRequest

DESIGNED = """
    up down status new ps stats logs events inspect why run exec python restart hibernate kill stop rm doctor demo
    messages todos files memory tools tool signal send export import fork state aside
""".split()


def test_the_verbs_are_the_designed_ones() -> None:
    assert sorted(app.VERBS) == sorted(DESIGNED)


@pytest.mark.parametrize("name", DESIGNED)
def test_a_verb_has_a_function_with_a_help_text_that_returns_a_code(name: str) -> None:
    verb = app.VERBS[name]
    function = getattr(import_module(f"procession.api.cli.{verb.module}"), verb.function)
    assert inspect.getdoc(function)
    assert function.__annotations__["return"] == "int"


@pytest.mark.parametrize(
    "name", ["status", "stats", "events", "ps", "inspect", "why", "logs", "doctor", "demo", "python"]
)
def test_every_reading_verb_has_json(name: str) -> None:
    verb = app.VERBS[name]
    function = getattr(import_module(f"procession.api.cli.{verb.module}"), verb.function)
    assert "as_json" in inspect.signature(function).parameters


@pytest.mark.parametrize("name", [n for n in DESIGNED if n not in ("run", "demo")])
def test_every_verb_of_a_host_says_which(name: str) -> None:
    verb = app.VERBS[name]
    function = getattr(import_module(f"procession.api.cli.{verb.module}"), verb.function)
    assert "data_dir" in inspect.signature(function).parameters


def test_only_the_asked_for_verb_is_made() -> None:
    assert [command.name for command in app.build(["ps", "--json"]).registered_commands] == ["ps"]
    assert [command.name for command in app.build(["--help"]).registered_commands] == list(app.VERBS)
    assert [command.name for command in app.build(["nonsense"]).registered_commands] == list(app.VERBS)


# --- run ----------------------------------------------------------------------------------------------------
def test_the_short_way_knows_every_option_of_run() -> None:
    options = set(inspect.signature(work.run).parameters) - {"file", "args"}
    assert {f"--{name}" for name in options - {"no_stdin"}} == set(run_file.OPTIONS)
    assert set(run_file.FLAGS.values()) == {"no_stdin"}
    assert options == set(inspect.signature(run_file.run_file).parameters) - {"file", "args"}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["x.py"], ({}, "x.py", [])),
        (["-"], ({}, "-", [])),
        (["x.py", "--timeout", "5", "-h"], ({}, "x.py", ["--timeout", "5", "-h"])),
        (["x.py", "--", "a"], ({}, "x.py", ["--", "a"])),
        (["--timeout", "5", "x.py", "a"], ({"timeout": "5"}, "x.py", ["a"])),
        (["--timeout=5", "--memory", "256M", "x.py"], ({"timeout": "5", "memory": "256M"}, "x.py", [])),
        (["--timeout", "-1", "x.py"], ({"timeout": "-1"}, "x.py", [])),
        (["--cwd=", "x.py"], ({"cwd": ""}, "x.py", [])),
        (["-n", "--timeout", "5", "x.py", "-n"], ({"no_stdin": True, "timeout": "5"}, "x.py", ["-n"])),
        (["--no-stdin", "x.py"], ({"no_stdin": True}, "x.py", [])),
        (["--no-stdin=1", "x.py"], None),
        (["-n"], None),
        ([], None),
        (["--help"], None),
        (["-h", "x.py"], None),
        (["--timeout"], None),
        (["--timeout", "5"], None),
        (["--bogus", "1", "x.py"], None),
        (["--", "x.py"], None),
    ],
)
def test_the_short_way_reads_what_is_plain_and_leaves_the_rest(given: list[str], read: object) -> None:
    assert run_file.read_plainly(given) == read


# --- options ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", ["x", "", "0", "-1", "nan", "inf", "1e9", "5s"])
def test_a_bad_timeout_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match="timeout") as caught:
        client.timeout_of(text, "exec")
    assert caught.value.code == "invalid_timeout"


def test_no_timeout_is_the_operations_own() -> None:
    assert client.timeout_of(None, "exec") == 30.0
    assert client.timeout_of("0.5", "exec") == 0.5


@pytest.mark.parametrize(("memory", "cpu"), [("12Q", None), ("1M", None), ("-1", None), (None, "x"), (None, "0")])
def test_bad_limits_are_refused(memory: str | None, cpu: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.limits_of(memory, cpu)
    assert caught.value.code == "invalid_limit"


def test_good_limits_are_read() -> None:
    limits = client.limits_of("256M", "1.5")
    assert (limits.memory_bytes, limits.cpu_s) == (256 << 20, 1.5)


def test_a_sandbox_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="'of' is not one of off, standard, strict"):
        client.check_sandbox("of")


# --- python, line by line -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "more"),
    [
        ("1 + 1", False), ("x = (1,", True), ("def f():", True), ("def f():\n    return 1", True),
        ("def f():\n    return 1\n", False), ("'''abc", True), ("1 +", False), ("for", False), ("", False),
        ("if x:\n    y\nelse:", True), ("@decorated", False), ("print('a')\n", False), ("x = [1,\n2", True),
        ("a\0b", False),
    ],
)  # fmt: skip
def test_a_cell_asks_for_more_only_when_it_is_unfinished(code: str, more: bool) -> None:
    assert needs_more(code) is more


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        ("SystemExit", 0, ""), ("SystemExit: 3", 3, ""), ("SystemExit: -1", 255, ""), ("SystemExit: words", 1, "words"),
        ("SystemExit: 3", 1, "3"), ("SystemExit: SystemExit: x", 1, "SystemExit: x"),
    ],
)  # fmt: skip
def test_of_an_exit_only_its_text_is_said(error: str, code: int, said: str) -> None:
    assert work.said_at_exit(error, code) == said


# --- errors in the words of a shell -------------------------------------------------------------------------
def test_hints_name_verbs_and_no_python() -> None:
    for hint in words.HINTS.values():
        assert re.search(r"\w\(|\w=", hint) is None, hint
        assert set(re.findall(r"`procession (\w+)", hint)) <= set(app.VERBS)


def test_a_hint_is_the_tables_or_the_errors_own() -> None:
    assert words.hint_of(errors.SessionNotFound("no", hint="list_sessions()")) == "`procession ps --all` lists them"
    failed = errors.SessionNotRunning("no", code="failed", session="1-2", hint="restart() tries again")
    assert "`procession restart 1-2`" in words.hint_of(failed)
    assert words.hint_of(errors.StorageError("no", hint="chmod go-w x")) == "chmod go-w x"


def test_hints_of_the_verbs_name_verbs_that_exist() -> None:
    for module in (client, run_file, work, look, lifecycle, carry):
        for verb in re.findall(r"`procession (\w+)", inspect.getsource(module)):
            assert verb in app.VERBS
