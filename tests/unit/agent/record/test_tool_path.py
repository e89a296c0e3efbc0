"""Where a tool's path leads, as text: the cases of the contract, and that nothing outside comes out of any text."""

import posixpath
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.agent_proc.agent.record.tool_path import ToolPath, is_protected, tool_path
from procession.ipc.core.errors import InvalidRequest

ROOT = "/srv/me/project"


def code(given: object, root: str = ROOT) -> str:
    with pytest.raises(InvalidRequest) as caught:
        tool_path(root, given)
    assert caught.value.ran == "no"
    return caught.value.code


@pytest.mark.parametrize(
    ("given", "relative"),
    [
        ("", "."),
        (".", "."),
        ("/srv/me/project", "."),
        ("/srv/me/project/", "."),
        ("a/b.txt", "a/b.txt"),
        ("./a//b/", "a/b"),
        ("a/../b", "b"),
        ("a/..", "."),
        ("../project/a", "a"),
        ("/srv/me/../me/project/a", "a"),
        ("/../srv/me/project/a", "a"),
        ("/srv/me/project/a/../b", "b"),
        ("a..b/..c", "a..b/..c"),
        ("not there yet", "not there yet"),
        ("100%", "100%"),
        ("a%20b", "a%20b"),
        ("a/../b%20c", "b%20c"),
        ("x%2e%2e", "x%2e%2e"),
        ("a\\..\\b", "a\\..\\b"),
        ("caf\udce9", "caf\udce9"),
        ("jido_code/settings.json", "jido_code/settings.json"),
        (".jido_code/settings.json.bak", ".jido_code/settings.json.bak"),
        ("x.jido_code/settings.json", "x.jido_code/settings.json"),
    ],
)
def test_a_path_inside_is_its_components(given: str, relative: str) -> None:
    found = tool_path(ROOT, given)
    assert found.relative == relative
    assert found.parts == tuple(part for part in relative.split("/") if part != ".")
    assert str(found) == (ROOT if relative == "." else f"{ROOT}/{relative}")


@pytest.mark.parametrize("given", ["..", "../x", "a/../../x", "../project_similar/x", "../../../../../../etc/passwd"])
def test_a_relative_path_that_leads_out_escapes(given: str) -> None:
    assert code(given) == "path_escapes_boundary"


@pytest.mark.parametrize(
    "given", ["/", "/etc/passwd", "/srv/me", "/srv/me/project_similar/x", "/srv/me/project/../x", "/../srv", "/.."]
)
def test_an_absolute_path_elsewhere_is_outside(given: str) -> None:
    assert code(given) == "path_outside_boundary"


@pytest.mark.parametrize(
    "given",
    [
        "%2e%2e%2fetc",
        "%2E%2E/etc",
        "..%2fetc",
        "..%2Fetc",
        "a/%2e%2e/b",
        ".%2e/etc",
        "%2e%2e%5cetc",
        "..%5Cetc",
        "%252e%252e%252fetc",
        "..%252Fetc",
        "%252E%2e/etc",
        "/srv/me/project/%2e%2e/x",
        "%2e%2e",
        "../project/%2e%2e/x",
    ],
)
def test_an_encoded_way_up_escapes_wherever_it_leads(given: str) -> None:
    assert code(given) == "path_escapes_boundary"


@pytest.mark.parametrize("given", [None, 3, b"a", ["a"], "a\0b", "\ud800", "x" * 4_097])
def test_what_is_no_path_is_invalid(given: object) -> None:
    assert code(given) == "invalid_path"


@pytest.mark.parametrize(
    "given",
    [
        ".jido_code/settings.json",
        "sub/.jido_code/settings.json",
        "a/../.jido_code/./settings.json",
        f"{ROOT}/.jido_code/settings.json",
        ".JIDO_CODE/Settings.json",
    ],
)
def test_the_settings_file_is_protected(given: str) -> None:
    assert code(given) == "protected_settings_file"


def test_the_settings_file_is_protected_in_a_project_that_is_its_folder() -> None:
    assert code("settings.json", root="/srv/me/.jido_code") == "protected_settings_file"
    assert is_protected((".jido_code", "settings.json"))
    assert not is_protected(("settings.json",))
    assert not is_protected(())


def test_outside_is_told_before_protected() -> None:
    assert code("/srv/me/.jido_code/settings.json") == "path_outside_boundary"


def test_a_project_at_the_root_has_everything_inside() -> None:
    assert tool_path("/", "/etc/x") == tool_path("/", "etc/x") == ToolPath("/", ("etc", "x"))
    assert [str(tool_path("/", path)) for path in ("", "..", "/..", "etc")] == ["/", "/", "/", "/etc"]


pieces = st.lists(
    st.sampled_from(["..", ".", "", "a", "project", "project_similar", "srv", "me", "%2e%2e", "%252e%252e", "\\", "%"])
    | st.text("a.%2eE5cf\\\0\udce9", max_size=3),
    max_size=8,
)


@given(pieces, st.booleans())
@settings(max_examples=examples(300))
def test_whatever_the_text_its_place_is_inside_or_it_is_refused(parts: list[str], absolute: bool) -> None:
    given = "/" * absolute + "/".join(parts)
    try:
        found = tool_path(ROOT, given)
    except InvalidRequest as refusal:
        code = refusal.code
        assert code in ("invalid_path", "path_escapes_boundary", "path_outside_boundary")
        return
    assert not {"..", ".", ""} & set(found.parts)
    assert str(found) == posixpath.normpath(posixpath.join(ROOT, given))
    assert posixpath.commonpath([ROOT, str(found)]) == ROOT


@given(st.lists(st.text("a.é +&%", min_size=1, max_size=5).filter(lambda name: name.strip(".")), min_size=1))
def test_a_name_with_escapes_of_its_own_is_left_as_it_is(names: list[str]) -> None:
    encoded = [quote(name, safe="") for name in names]
    assert tool_path(ROOT, "/".join(encoded)).parts == tuple(encoded)
