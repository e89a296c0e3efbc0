"""The language of a project: the thirteen that are known, their other names, and how a folder shows its own.

It is *not* the look at the folder: names of files come in, from whoever looked.

Rules: the first rule that holds decides, and the order of the table is the order of the rules; a folder that shows
nothing has the host's default language, which is not this file's.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final, Literal, NamedTuple, get_args

from procession.agent_proc.agent.record.reasons import Reason, refusal, shown

Language = Literal[
    "elixir",
    "javascript",
    "typescript",
    "rust",
    "python",
    "go",
    "ruby",
    "java",
    "kotlin",
    "csharp",
    "php",
    "cpp",
    "c",
]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)

ALIASES: Final[dict[str, Language]] = {
    "ex": "elixir",
    "js": "javascript",
    "ts": "typescript",
    "rs": "rust",
    "py": "python",
    "rb": "ruby",
    "c#": "csharp",
    "cs": "csharp",
    "c++": "cpp",
}
_KNOWN: Final[dict[str, Language]] = {**{language: language for language in LANGUAGES}, **ALIASES}


class Rule(NamedTuple):
    """A language, and what must all be in the top folder: names, or `*` with an ending."""

    shows: tuple[str, ...]
    language: Language


RULES: Final[tuple[Rule, ...]] = (
    Rule(("mix.exs",), "elixir"),
    Rule(("tsconfig.json",), "typescript"),  # before package.json, which a TypeScript project has too
    Rule(("package.json",), "javascript"),
    Rule(("Cargo.toml",), "rust"),
    Rule(("pyproject.toml",), "python"),
    Rule(("requirements.txt",), "python"),
    Rule(("go.mod",), "go"),
    Rule(("Gemfile",), "ruby"),
    Rule(("pom.xml",), "java"),
    Rule(("build.gradle",), "java"),
    Rule(("build.gradle.kts",), "kotlin"),
    Rule(("composer.json",), "php"),
    Rule(("CMakeLists.txt",), "cpp"),
    Rule(("*.csproj",), "csharp"),
    Rule(("Makefile", "*.c"), "c"),
)
_NAMES: Final = frozenset(name for rule in RULES for name in rule.shows if not name.startswith("*"))
_ENDINGS: Final = tuple(name.removeprefix("*") for rule in RULES for name in rule.shows if name.startswith("*"))


def evidence(names: Iterable[str]) -> frozenset[str]:
    """Keep of a folder's file names what the rules ask for, as the rules write it: few words, however large the folder.

    A hidden file has no ending here: `.c` is no C file.
    """
    found: set[str] = set()
    for name in names:
        if name in _NAMES:
            found.add(name)
        elif name.endswith(_ENDINGS) and not name.startswith("."):
            found.update("*" + ending for ending in _ENDINGS if name.endswith(ending))
    return frozenset(found)


def detect(found: AbstractSet[str]) -> Language | None:
    """Return the language that the evidence of a folder shows, None when it shows none."""
    return next((rule.language for rule in RULES if found >= frozenset(rule.shows)), None)


def known(given: object) -> Language | None:
    """Return the language that a word means, whatever its case and the blanks around it; None when it means none."""
    return _KNOWN.get(given.strip().lower()) if type(given) is str else None


def unknown(given: object) -> Reason:
    """Say that this means no language."""
    hint = f"the languages are {', '.join(LANGUAGES)}"
    return Reason("invalid_language", f"language: {shown(given)} is none that is known", hint)


def normalized(given: object) -> Language:
    """Return the language that a word means. Raises InvalidRequest (invalid_language)."""
    language = known(given)
    if language is None:
        raise refusal(unknown(given))
    return language
