"""What is wrong with a project's path, in the contract's order: each check is asked only when those before it passed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession.agent_proc.agent.record.project_path import (
    NOTHING_THERE,
    PATH_BYTES_MAX,
    ProjectFacts,
    folder_reason,
    path_to_look_at,
    place_reason,
    plain_path,
    text_reason,
)
from procession.ipc.core.errors import InvalidRequest

FINE = ProjectFacts()
IN_ORDER: list[tuple[dict[str, object], str]] = [
    ({"exists": False}, "path_not_found"),
    ({"is_directory": False}, "path_not_directory"),
    ({"link_target": "/a/../b"}, "symlink_escape"),
    ({"can_list": False}, "path_permission_denied"),
    ({"has_space": False}, "path_no_space"),
    ({"can_write": False}, "path_permission_denied"),
]


def text_code(given: object) -> str | None:
    reason = text_reason(given)
    return reason.code if reason is not None else None


def folder_code(facts: ProjectFacts) -> str | None:
    reason = folder_reason("/p", facts)
    return reason.code if reason is not None else None


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (None, "invalid_project_path"),
        (7, "invalid_project_path"),
        (b"/p", "invalid_project_path"),
        ("", "invalid_project_path"),
        ("/a\0b", "invalid_project_path"),
        ("/\ud800", "invalid_project_path"),
        ("../" + "x" * PATH_BYTES_MAX, "path_too_long"),
        ("/" + "é" * 2_048, "path_too_long"),
        ("../x", "path_traversal_detected"),
        ("/a/..", "path_traversal_detected"),
        ("/a/../b", "path_traversal_detected"),
        ("a/b", "path_not_absolute"),
        ("~/a", "path_not_absolute"),
        ("/a..b", None),
        ("/..a/b..", None),
        ("/a/.../b", None),
        ("/", None),
        ("/caf\udce9", None),
        ("/" + "x" * (PATH_BYTES_MAX - 1), None),
    ],
)
def test_the_text_of_a_path(given: object, code: str | None) -> None:
    assert text_code(given) == code


def test_a_good_folder_has_no_reason() -> None:
    assert folder_code(FINE) is None
    assert folder_code(ProjectFacts(link_target="/real/place")) is None
    assert folder_code(ProjectFacts(link_target="../beside")) is None
    assert folder_code(ProjectFacts(link_target="/a..b")) is None


@pytest.mark.parametrize("at", range(len(IN_ORDER)))
def test_the_first_thing_wrong_with_a_folder_is_the_reason(at: int) -> None:
    facts = FINE
    for change, _ in IN_ORDER[at:]:
        facts = replace(facts, **change)  # type: ignore[arg-type]
    assert folder_code(facts) == IN_ORDER[at][1]
    assert folder_code(replace(FINE, **IN_ORDER[at][0])) == IN_ORDER[at][1]  # type: ignore[arg-type]


def test_a_later_validation_asks_only_for_the_place() -> None:
    assert place_reason("/p", replace(FINE, can_list=False, can_write=False, has_space=False)) is None
    gone = place_reason("/p", NOTHING_THERE)
    assert gone is not None
    assert gone.code == "path_not_found"


@pytest.mark.parametrize(
    ("given", "plain"), [("/", "/"), ("/a/", "/a"), ("//a///b/./c/.", "/a/b/c"), ("/a..b", "/a..b")]
)
def test_a_path_is_kept_without_what_says_nothing(given: str, plain: str) -> None:
    assert path_to_look_at(given) == plain


def test_a_path_whose_text_is_wrong_is_not_looked_at() -> None:
    with pytest.raises(InvalidRequest, match=r"without `\.\.`") as caught:
        path_to_look_at("/a/../b")
    assert caught.value.code == "path_traversal_detected"


@given(st.lists(st.sampled_from(["a", "..b", ".", "", "c d"])))
def test_a_plain_path_is_plain_already(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    assert plain_path(plain_path(path)) == plain_path(path) == path_to_look_at(path)
    assert [part for part in plain_path(path).split("/") if part] == [part for part in parts if part not in ("", ".")]
