"""Bad arguments: each a typed, readable error before anything is sent."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from procession import InvalidRequest, Limits, Sandbox
from procession.api import checks
from procession.ipc.core.bounds import TIMEOUT_S_MAX
from procession.ipc.core.operations import OPERATIONS

RUN = OPERATIONS["run"]


def refusal(call: Callable[[], object]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        call()
    assert caught.value.ran == "no"
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) > 15
    return caught.value


@pytest.mark.parametrize(
    "timeout",
    [-1, 0, -0.5, math.nan, math.inf, -math.inf, True, False, "5", b"5", [1], TIMEOUT_S_MAX + 1, 10**400, None],
)
def test_a_bad_timeout_is_refused(timeout: Any) -> None:
    assert refusal(lambda: checks.check_timeout(timeout, RUN)).code == "invalid_timeout"


@pytest.mark.parametrize("timeout", [1, 0.001, TIMEOUT_S_MAX])
def test_a_good_timeout_passes(timeout: float) -> None:
    assert checks.check_timeout(timeout, RUN) == timeout


def test_none_is_a_timeout_only_where_the_table_has_none() -> None:
    endless = RUN._replace(timeout_s=None)
    assert checks.check_timeout(None, endless) is None
    for row in OPERATIONS.values():
        if row.timeout_s is not None:
            refusal(lambda row=row: checks.check_timeout(None, row))  # type: ignore[misc]


@pytest.mark.parametrize("value", [1, None, "f", [print]])
def test_what_cannot_be_called_is_refused(value: object) -> None:
    assert refusal(lambda: checks.check_callable(value)).code == "not_callable"


@pytest.mark.parametrize("name", ["", " ", "\t", 5, b"a", "a\n", "a\0b", "\x1b[31m"])
def test_a_bad_name_is_refused(name: object) -> None:
    assert refusal(lambda: checks.check_name(name)).code == "invalid_name"


def test_good_names_pass() -> None:
    assert [checks.check_name(name) for name in (None, "chat-7", "a", "my chät")] == ["", "chat-7", "a", "my chät"]
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert checks.check_name(family * 50) == family * 50
    assert refusal(lambda: checks.check_name(family * 51)).code == "name_too_long"


def test_a_project_must_be_a_folder_that_is_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert refusal(lambda: checks.check_project(tmp_path / "nowhere")).code == "path_not_found"
    assert refusal(lambda: checks.check_project(file)).code == "path_not_directory"
    assert refusal(lambda: checks.check_project("a\0b")).code == "invalid_project_path"
    assert refusal(lambda: checks.check_project(7)).code == "invalid_project_path"  # type: ignore[arg-type]
    assert checks.check_project(tmp_path) == str(tmp_path)
    assert checks.check_project(None) is None


def test_a_relative_project_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p").mkdir()
    monkeypatch.chdir(tmp_path)
    assert checks.check_project("p") == str(tmp_path / "p")


@pytest.mark.parametrize("limits", ["256M", 5, {"memory": 1}])
def test_limits_are_a_limits(limits: object) -> None:
    assert refusal(lambda: checks.check_limits(limits)).code == "invalid_limit"


@pytest.mark.parametrize("memory", ["lots", "-1M", "1X", "", True, -5, math.nan, "1M"])
def test_a_bad_limit_is_refused_by_name(memory: Any) -> None:
    error = refusal(lambda: Limits(memory=memory))
    assert error.code == "invalid_limit"
    assert "memory" in str(error)


def test_a_sandbox_is_a_sandbox() -> None:
    assert refusal(lambda: checks.check_sandbox("off")).code == "invalid_sandbox"
    assert checks.check_sandbox(Sandbox.off()) == "off"


@pytest.mark.parametrize("command", ["", "  ", [], [""], [1], 5, ["a", b"b"], "a\0b", [["a"]]])
def test_a_bad_command_is_refused(command: Any) -> None:
    assert refusal(lambda: checks.check_command(command)).code == "invalid_command"


def test_a_list_is_argv_and_a_text_is_for_the_shell() -> None:
    assert checks.check_command(["ls", Path("/tmp")]) == (("ls", "/tmp"), False)
    assert checks.check_command("ls | wc") == (("ls | wc",), True)


@pytest.mark.parametrize("env", [{1: "a"}, {"A": 1}, {"": "x"}, {"A=B": "x"}, {"A": "\0"}])
def test_a_bad_environment_is_refused(env: Any) -> None:
    refusal(lambda: checks.check_env(env))


def test_input_is_text_or_bytes() -> None:
    assert checks.check_input("ä") == b"\xc3\xa4"
    assert checks.check_input(memoryview(b"x")) == b"x"
    assert checks.check_input(None) is None
    refusal(lambda: checks.check_input(5))  # type: ignore[arg-type]


@pytest.mark.parametrize("modules", [["a-b"], ["a..b"], [5], "1a"])
def test_a_bad_preload_is_refused(modules: Any) -> None:
    assert refusal(lambda: checks.check_preload(modules)).code == "invalid_preload"


def test_import_paths_are_folders(tmp_path: Path) -> None:
    assert checks.check_import_paths([tmp_path]) == (str(tmp_path),)
    refusal(lambda: checks.check_import_paths([tmp_path / "no"]))
    refusal(lambda: checks.check_import_paths(str(tmp_path)))


@pytest.mark.parametrize("count", [0, -1, 1.0, True, "3", 10**9])
def test_a_bad_count_is_refused(count: object) -> None:
    refusal(lambda: checks.check_count("max_workers", count))


@pytest.mark.parametrize("grace", [-1, math.nan, "1", True])
def test_a_bad_grace_is_refused(grace: object) -> None:
    assert refusal(lambda: checks.check_grace(grace)).code == "invalid_timeout"


# --- Sandbox --------------------------------------------------------------------------------------------------------


def test_sandboxes_are_values() -> None:
    assert Sandbox.off() == Sandbox.off()
    assert Sandbox.standard(read=["/a"]) == Sandbox.standard(read=("/a",))
    assert len({Sandbox.off(), Sandbox.standard(), Sandbox.strict(), Sandbox.off()}) == 3
    assert Sandbox.standard(env={"B": "1", "A": "2"}).env == (("A", "2"), ("B", "1"))
    with pytest.raises(AttributeError):
        Sandbox.off().level = "strict"  # type: ignore[misc]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sandbox.standard(network="all"),  # type: ignore[arg-type]
        lambda: Sandbox.standard(read="/a"),
        lambda: Sandbox.strict(write=[5]),  # type: ignore[list-item]
        lambda: Sandbox.standard(allow_hosts="example.org"),
        lambda: Sandbox.standard(allow_hosts=[5]),  # type: ignore[list-item]
    ],
)
def test_a_bad_sandbox_is_refused(make: Callable[[], Sandbox]) -> None:
    assert refusal(make).code == "invalid_sandbox"
