"""Which language a folder shows and a word means, as tables written by hand from the contract."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession.agent_proc.agent.record.language import LANGUAGES, RULES, detect, evidence, known, normalized
from procession.ipc.core.errors import InvalidRequest

IN_ORDER = (
    "mix.exs tsconfig.json package.json Cargo.toml pyproject.toml requirements.txt go.mod Gemfile pom.xml build.gradle "
    "build.gradle.kts composer.json CMakeLists.txt app.csproj"
).split()
SHOWN = (
    "elixir typescript javascript rust python python go ruby java java kotlin php cpp csharp"
).split()  # by the names above, in their order

file_names = st.lists(st.sampled_from([*IN_ORDER, "Makefile", "main.c", ".c", "a.cpp", "README", "x.csproj"]))


def test_there_are_thirteen() -> None:
    assert set(LANGUAGES) == set(
        "elixir javascript typescript rust python go ruby java kotlin csharp php cpp c".split()
    )
    assert len(LANGUAGES) == 13


@pytest.mark.parametrize(("name", "language"), list(zip(IN_ORDER, SHOWN, strict=True)))
def test_a_file_shows_its_language(name: str, language: str) -> None:
    assert detect(evidence(["README", name])) == language


@pytest.mark.parametrize("at", range(len(IN_ORDER)))
def test_the_first_rule_that_holds_decides(at: int) -> None:
    assert detect(evidence(["Makefile", "main.c", *reversed(IN_ORDER[at:])])) == SHOWN[at]


@pytest.mark.parametrize(
    ("names", "language"),
    [
        (["package.json"], "javascript"),
        (["package.json", "tsconfig.json"], "typescript"),
        (["Makefile", "main.c"], "c"),
        (["Makefile"], None),
        (["main.c"], None),
        (["Makefile", ".c"], None),
        (["Makefile", "main.cc"], None),
        ([".csproj"], None),
        (["makefile", "PACKAGE.JSON"], None),
        ([], None),
    ],
)
def test_edges(names: list[str], language: str | None) -> None:
    assert detect(evidence(names)) == language


@given(file_names)
def test_evidence_is_small_and_all_that_counts(names: list[str]) -> None:
    found = evidence(iter(names))
    assert found <= {name for rule in RULES for name in rule.shows}
    assert detect(found) == detect(evidence(sorted(names) * 2))
    assert (detect(found) == "c") == (found == {"Makefile", "*.c"})


@pytest.mark.parametrize(
    ("given", "language"),
    [
        *((language, language) for language in LANGUAGES),
        ("js", "javascript"),
        ("ts", "typescript"),
        ("py", "python"),
        ("rb", "ruby"),
        ("ex", "elixir"),
        ("rs", "rust"),
        ("c++", "cpp"),
        ("c#", "csharp"),
        ("cs", "csharp"),
        ("  Python\n", "python"),
        ("C++ ", "cpp"),
    ],
)
def test_a_word_means_a_language(given: str, language: str) -> None:
    assert normalized(given) == known(given) == language


@pytest.mark.parametrize("given", [None, 3, True, "", " ", "cobol", "pyt hon", b"python", ["python"], {}])
def test_anything_else_is_an_invalid_language(given: object) -> None:
    assert known(given) is None
    with pytest.raises(InvalidRequest, match="csharp, php, cpp, c") as caught:
        normalized(given)
    assert caught.value.code == "invalid_language"
