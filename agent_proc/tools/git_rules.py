"""What the git tool runs: which subcommands, and which of their arguments never, or only when destruction is allowed.

It is *not* a sandbox: a repository's own configuration and hooks run as git runs them, in the worker. The rules keep a model
from doing by an argument what it was not asked to do.

Rules: git takes any unambiguous beginning of a long option, so a beginning of a refused one is refused as well; short
options are looked for in whole groups (`-xfd`); everything is looked at wherever it stands, also behind `--`. So some
harmless calls are refused, and none is let through for the way it is spelled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from procession.agent_proc.agent.record.reasons import shown
from procession.agent_proc.agent.record.tool_path import tool_path
from procession.agent_proc.tools.refusals import refuse

READ_ONLY: Final = frozenset(
    "status diff log show branch remote tag rev-parse describe shortlog ls-files ls-tree cat-file blame reflog".split()
)
"""As the contract names them; `branch`, `remote`, `tag` and `reflog` change refs and configuration in some forms."""
MODIFYING: Final = frozenset(
    "add commit checkout switch merge rebase stash cherry-pick reset revert fetch pull push restore rm mv init clone "
    "worktree submodule notes bisect apply am clean".split()
)


class _Rule(NamedTuple):
    """Arguments of a kind: long options without their dashes, letters of short ones, words, and beginnings."""

    long: frozenset[str] = frozenset()
    short: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    beginnings: tuple[str, ...] = ()


def _rule(long: str = "", short: str = "", words: str = "", beginnings: tuple[str, ...] = ()) -> _Rule:
    return _Rule(frozenset(long.split()), frozenset(short), frozenset(words.split()), beginnings)


_REFUSED_EVERYWHERE: Final = _rule(
    "exec-path git-dir work-tree config-env upload-pack receive-pack no-index output ext-diff help"
)
"""They run a program, or use files beside the repository's own. `-c` and `-C` mean this before a subcommand only, where no
argument gets to; behind it they are other options (`switch -c`, `diff -C`), but for `clone -c`."""

_REFUSED: Final[Mapping[str, _Rule]] = {
    "am": _rule("unsafe-paths"),
    "apply": _rule("unsafe-paths"),
    "bisect": _rule(words="run view visualize"),
    "clone": _rule("config template separate-git-dir exec", short="cu"),
    "fetch": _rule("exec"),
    "init": _rule("template separate-git-dir"),
    "pull": _rule("exec"),
    "push": _rule("exec"),
    "rebase": _rule("exec", short="x"),
    "submodule": _rule(words="foreach"),
}
"""They run a program, or take hooks and configuration from elsewhere."""

_DESTRUCTIVE: Final[Mapping[str, _Rule]] = {
    "branch": _rule("force", short="DMCf"),
    "checkout": _rule("force", short="fB"),
    "fetch": _rule("force", short="f"),
    "mv": _rule("force", short="f"),
    "pull": _rule("force", short="f"),
    "push": _rule("force force-with-lease mirror delete prune", short="fd", beginnings=("+", ":")),
    "reflog": _rule(words="expire delete"),
    "remote": _rule("mirror"),
    "reset": _rule("hard merge"),
    "rm": _rule("force", short="f"),
    "stash": _rule(words="drop clear"),
    "submodule": _rule("force", short="f"),
    "switch": _rule("force force-create discard-changes", short="fC"),
    "tag": _rule("force delete", short="fd"),
    "worktree": _rule("force", short="fB"),
}
"""They throw away what cannot be had again by undoing one command."""

_CLEANS: Final = _rule("force interactive no-dry-run", short="fi")

_TEXT_OPTIONS: Final = frozenset({"-m", "--message"})
_TAKE_TEXT: Final = frozenset({"commit", "merge", "notes", "stash", "tag"})
"""Of these, what follows a text option is a message, which may look like a path."""

_TAKE_ADDRESS: Final = frozenset({"clone", "fetch", "pull", "push", "remote", "submodule"})
_HELPER: Final = re.compile(r"(?:^|=)[A-Za-z0-9][A-Za-z0-9+.-]*::")
"""`ext::sh -c ...`: git hands the address to a program named after what stands before the two colons."""
_FILE_URL: Final = re.compile(r"(?:^|=)file:(?://[^/]*)?", re.IGNORECASE)
_GOES_UP: Final = re.compile(r"(?:^|[/=:)]|:[!^/]+)\.\.(?:/|$)")
"""A component `..`, also behind `HEAD:`, `:!` or `:(top)`; the dots of `main..work` and `HEAD^..` are none."""


def check(root: str, subcommand: str, args: Sequence[str], *, allow_destructive: bool) -> None:
    """Refuse what must not run: InvalidRequest.

    Codes: unknown_subcommand, refused_argument, path_escapes_boundary, path_outside_boundary, destructive_operation.
    """
    if subcommand not in READ_ONLY and subcommand not in MODIFYING:
        raise refuse(
            "unknown_subcommand",
            f"git {shown(subcommand)} is not run here",
            f"subcommands are {', '.join(sorted(READ_ONLY | MODIFYING))}",
        )
    for rule in (_REFUSED_EVERYWHERE, _REFUSED.get(subcommand)):
        if rule is not None and (found := _first(rule, args)) is not None:
            raise refuse(
                "refused_argument",
                f"git {subcommand} {shown(found)}: it would run a program, or use files outside the repository",
                "leave it out; exec runs programs",
            )
    for arg in path_arguments(subcommand, args):
        if subcommand in _TAKE_ADDRESS and _HELPER.search(arg):
            raise refuse("refused_argument", f"git: a program of its own would be run for the address {shown(arg)}")
        _check_path(root, arg)
    if not allow_destructive and (found := _destructive(subcommand, args)) is not None:
        raise refuse(
            "destructive_operation",
            f"git {subcommand}{f' {shown(found)}' if found else ''} destroys work that git cannot bring back easily",
            "give allow_destructive=true if that was asked for",
        )


def _destructive(subcommand: str, args: Sequence[str]) -> str | None:
    """Return the argument for which a call is destructive, "" when it is so without any."""
    if subcommand == "clean":
        shows_only = bool(args) and (args[0] == "--dry-run" or args[0].startswith("-n"))
        found = _first(_CLEANS, args)
        return found if found is not None or shows_only else ""  # a repository may be configured to need no -f
    rule = _DESTRUCTIVE.get(subcommand)
    return None if rule is None else _first(rule, args)


def _first(rule: _Rule, args: Sequence[str]) -> str | None:
    return next((arg for arg in args if _is_of(rule, arg)), None)


def _is_of(rule: _Rule, arg: str) -> bool:
    if arg.startswith("--"):
        name = arg[2:].partition("=")[0]
        return bool(name) and any(option.startswith(name) for option in rule.long)
    if arg.startswith("-"):
        return not rule.short.isdisjoint(arg[1:])
    return arg in rule.words or (bool(rule.beginnings) and arg.startswith(rule.beginnings))


def path_arguments(subcommand: str, args: Sequence[str]) -> list[str]:
    """List the arguments that may have a path in them: all but messages."""
    found = []
    takes_text = subcommand in _TAKE_TEXT
    before = ""
    for arg in args:
        takes_text = takes_text and arg != "--"
        is_text = takes_text and (before in _TEXT_OPTIONS or arg.startswith("--message="))
        before = "" if is_text else arg
        if not is_text:
            found.append(arg)
    return found


def _check_path(root: str, arg: str) -> None:
    """Refuse an argument that is, or has as its value, a path out of the project."""
    if _GOES_UP.search(arg) or _GOES_UP.search(_behind_letter(arg)):
        raise refuse("path_escapes_boundary", f"git: {shown(arg)} goes up with `..`", "give a path inside the project")
    url = _FILE_URL.search(arg)
    for text in (*arg.split("="), _behind_letter(arg), arg[url.end() :] if url else ""):
        if text.startswith("/"):
            tool_path(root, text)


def _behind_letter(arg: str) -> str:
    """Return the value that is written behind a short option, as in `-F../message`."""
    return arg[2:] if arg.startswith("-") and not arg.startswith("--") else ""
