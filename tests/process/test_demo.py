"""The main job, `procession demo`: each case ends as it should, in time, on a terminal and off it, and says so when not."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from helpers.cli import Terminal, procession
from helpers.runs import REPOSITORY
from procession.api.demo import runner
from procession.api.demo.cases import CASES, Case, Seen, Stage, prepare_sample
from procession.api.demo.runner import Row
from procession.api.sandbox import Sandbox
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.records import KillReceipt

pytestmark = pytest.mark.process

DEMO_S_MAX = 30.0
TITLES = [case.title for case in CASES]


@pytest.mark.guarantee("R-05", "R-07", "R-12", "R-20", "R-44", "R-46", "R-50")
def test_every_case_ends_as_it_should_within_half_a_minute() -> None:
    ended = procession("demo")
    assert ended.code == 0, ended.out + ended.err
    assert ended.elapsed_s < DEMO_S_MAX
    *lines, verdict = ended.out.splitlines()
    assert sorted(line[7:41].rstrip() for line in lines) == sorted(TITLES)
    assert all(line.startswith("ok ") for line in lines)
    assert verdict.startswith(f"{len(CASES)} of {len(CASES)}: every case ended as it should; ")
    assert " 0 left; " in verdict
    assert ended.err == ""
    assert "\x1b" not in ended.out


def test_its_json_has_the_columns() -> None:
    ended = procession("demo", "--json", "--case", "works", "--case", "segfault")
    assert ended.code == 0
    assert ended.json["ok"] is True
    works, segfault = ended.json["cases"]
    assert works["case"] == "works"
    assert works["sandbox"] == "off"
    assert "its result, {'to': 2" in works["got"]
    assert segfault["ended"] == "SIGSEGV"
    assert (segfault["processes_found"], segfault["processes_left"]) == (0, 0)
    assert set(works) == set(segfault)


def test_on_a_terminal_it_is_one_live_table() -> None:
    with Terminal("demo", "--case", "raises", env={"COLUMNS": "140"}) as terminal:
        assert terminal.wait() == 0
    shown = terminal.shown
    assert "HOW IT ENDED" in shown
    assert "waiting" in shown or "running" in shown
    assert "ToolRaised from ValueError" in shown
    assert "\x1b[32m1 of 1: every case ended as it should" in shown


def test_no_color_takes_the_colours() -> None:
    with Terminal("demo", "--case", "works", env={"NO_COLOR": "1"}) as terminal:
        assert terminal.wait() == 0
    assert "\x1b[32m" not in terminal.shown
    assert "1 of 1: every case ended as it should" in terminal.shown


def test_ctrl_c_leaves_the_demo_without_a_traceback() -> None:
    with Terminal("demo", "--case", "endless") as terminal:
        terminal.wait_for("running")
        terminal.type("\x03")
        assert terminal.wait() == 130
    assert "Traceback" not in terminal.shown


def test_the_cases_can_be_listed_and_an_unknown_one_is_refused() -> None:
    listed = procession("demo", "--list")
    assert [line.split()[0] for line in listed.out.splitlines()] == [case.name for case in CASES]
    procession("demo", "--case", "works", "--case", "nonsense").refused(2, "nonsense", "segfault")


def test_without_pytest_its_case_is_skipped_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "pytest.py").write_text("raise ModuleNotFoundError('No module named pytest')")
    env = {"PYTHONPATH": f"{tmp_path}:{REPOSITORY / 'src'}"}
    ended = procession("demo", "--case", "pytest", "--case", "works", env=env)
    assert ended.code == 0
    assert "skip " in ended.out
    assert "pytest is not installed: pip install pytest" in ended.out
    assert "1 of 2: every case ended as it should, 1 skipped; " in ended.out
    found = procession("demo", "--case", "pytest", "--json", env=env)
    assert (found.code, found.json["cases"][0]["state"]) == (0, "skipped")


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_of_24_lines_all_of_it_can_be_read(columns: int) -> None:
    with Terminal("demo", size=(24, columns)) as terminal:
        assert terminal.wait() == 0
    begin = max(at for at, line in enumerate(terminal.lines) if line.startswith("CASE "))
    table = terminal.lines[begin:]
    assert len(table) <= 24
    assert all(len(line) <= columns for line in table)
    assert {line.split(" ")[0] for line in table} >= {case.name for case in CASES}
    assert any("ToolCrashed, with its exit code" in line for line in table)
    assert "..." not in [line.strip() for line in terminal.lines]


def test_on_a_terminal_too_low_for_the_table_each_case_is_a_line() -> None:
    with Terminal("demo", "--case", "works", "--case", "raises", size=(4, 80)) as terminal:
        assert terminal.wait() == 0
    assert "CASE" not in terminal.shown
    assert "ok     a working tool" in terminal.shown


def test_the_sample_project_is_shipped(tmp_path: Path) -> None:
    prepare_sample(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["orders.py", "test_orders.py"]


# --- the runner ---------------------------------------------------------------------------------------------
def _case(play: object, name: str = "x") -> Case:
    return Case(name, name, "", play, Sandbox.off())  # type: ignore[arg-type]


def _raise(error: Exception) -> Seen:
    raise error


@pytest.mark.parametrize(
    ("seen", "wrong"),
    [
        (lambda: Seen("returned", "it"), ()),
        (lambda: Seen("returned", "it", KillReceipt(found=3)), ()),
        (lambda: Seen("returned", "it", wrong=["bad"]), ("bad",)),
        (lambda: Seen("returned", "it", wrong=["bad"], skipped="no"), ("bad",)),
        (lambda: Seen("returned", "it", KillReceipt(left=2)), ("2 processes could not be proved gone",)),
        (lambda: _raise(InvalidRequest("no")), ("InvalidRequest: no",)),
        (lambda: _raise(ZeroDivisionError("by zero")), ("ZeroDivisionError: by zero",)),
    ],
)
def test_a_case_is_right_only_if_nothing_is_wrong(seen: object, wrong: tuple[str, ...]) -> None:
    told: list[list[str]] = []
    (row,) = runner.play([_case(lambda _stage: seen())], lambda rows: told.append([r.state for r in rows]))  # type: ignore[operator]
    assert row.wrong == wrong
    assert row.state == ("wrong" if wrong else "right")
    assert told == [["waiting"], ["running"], [row.state]]
    assert set(row.asdict()) == set(Row(CASES[0]).asdict())


def test_each_case_has_a_session_of_its_own() -> None:
    seen: list[tuple[str, Path]] = []

    def look(stage: Stage) -> Seen:
        seen.append((stage.session.id, stage.folder))
        return Seen("returned", "it")

    rows = runner.play([_case(look, f"c{n}") for n in range(6)], lambda _: None)
    assert [row.state for row in rows] == ["right"] * 6
    assert len(set(seen)) == 6


def test_each_case_states_its_sandbox_and_what_is_expected() -> None:
    assert all(case.sandbox == Sandbox.off() and case.expected for case in CASES)
    assert len({case.name for case in CASES}) == len(CASES)


def test_payloads_need_nothing_of_their_file() -> None:
    module = importlib.import_module("procession.api.demo.payloads")
    assert [name for name in vars(module) if name in sys.modules] == []
    assert json.dumps(sorted(module.count_words("a b a").items())) == '[["a", 2], ["b", 1]]'
