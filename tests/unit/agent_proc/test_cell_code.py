"""A cell's last expression comes back by itself; the rest is statements."""

import pytest

from procession.agent_proc.core.cell_code import compile_cell


def run(source: str) -> tuple[dict[str, object], object]:
    names: dict[str, object] = {}
    body, last = compile_cell(source, "<cell 1>")
    if body is not None:
        exec(body, names)
    value = eval(last, names) if last is not None else None
    names.pop("__builtins__", None)
    return names, value


@pytest.mark.parametrize(
    ("source", "names", "value"),
    [
        ("", {}, None),
        ("# only a comment", {}, None),
        ("1 + 1", {}, 2),
        ("x = 3", {"x": 3}, None),
        ("x = 3\nx * 2", {"x": 3}, 6),
        ("x = 3; x * 2", {"x": 3}, 6),
        ("x = 3\nx * 2;", {"x": 3}, None),
        ("x = 3\nx * 2 ; # quiet", {"x": 3}, None),
        ("'a;b'", {}, "a;b"),
        ("x = 'ä'; 'ö';", {"x": "ä"}, None),
        ("(1,\n 2)", {}, (1, 2)),
        ("for i in range(3): i", {"i": 2}, None),
        ("(y := 4)", {"y": 4}, 4),
    ],
)
def test_what_a_cell_leaves_and_gives(source: str, names: dict[str, object], value: object) -> None:
    assert run(source) == (names, value)


def test_nothing_of_our_compiler_flags_reaches_a_cell() -> None:
    names, _ = run("def f(a: 1 + 1): pass\nn = f.__annotations__['a']")
    assert names["n"] == 2


@pytest.mark.parametrize("source", ["x = ", "def f(:", "return 1", "a b", "\tx\n  y"])
def test_no_program_is_a_syntax_error(source: str) -> None:
    with pytest.raises(SyntaxError):
        compile_cell(source, "<cell 1>")


def test_a_nul_is_refused() -> None:
    with pytest.raises((ValueError, SyntaxError)):
        compile_cell("x\0", "<cell 1>")
