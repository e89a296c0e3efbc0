"""git: one subcommand in the project's folder, by the rules of git_rules.py.

Rules: git never asks, shows no pager and opens no editor (`:` leaves the text as it is, and a commit without a message
fails); it finds no repository above the project; nothing of the environment chooses its programs or configuration; what it
would do later in the background, it leaves, since that would be ended half done with the run.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any, Final

from procession.agent_proc.agent.record.tool_path import tool_path
from procession.agent_proc.tools import git_rules
from procession.agent_proc.tools.commands import run
from procession.agent_proc.tools.confined import Root
from procession.agent_proc.tools.work import Work
from procession.ipc.core.errors import InvalidRequest

_ALWAYS: Final = (
    "--no-pager",
    *("-c", "color.ui=false"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "gc.auto=0"),
    *("-c", "maintenance.auto=false"),
    *("-c", "protocol.ext.allow=never"),
)
_SETTINGS: Final[Mapping[str, str]] = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": ":",
    "GIT_SEQUENCE_EDITOR": ":",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "LC_ALL": "C.UTF-8",
}
_KEPT: Final = frozenset(
    "GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL GIT_SSL_CAINFO GIT_SSL_CAPATH".split()
)
"""Who commits, and whom to trust: they choose no program and no file that is written."""
_ASKING: Final = frozenset({"SSH_ASKPASS", "EDITOR", "VISUAL", "PAGER"})
_MAKE_FOLDERS: Final = frozenset({"clone", "init", "submodule", "worktree"})


def run_git(work: Work, subcommand: str, args: Sequence[str], allow_destructive: bool) -> dict[str, Any]:
    """Run a subcommand of git, and return its exit code and outputs. Raises InvalidRequest."""
    git_rules.check(work.project_root, subcommand, args, allow_destructive=allow_destructive)
    with work.open_root() as root:
        for arg in git_rules.path_arguments(subcommand, args):
            _refuse_link_out(root, arg, whole=subcommand in _MAKE_FOLDERS)
        return run(root, (), ["git", *_ALWAYS, subcommand, *args], _environment(root, subcommand))


def _refuse_link_out(root: Root, arg: str, *, whole: bool) -> None:
    """Refuse a path that goes through a link out of the project; where folders are made, also one that is such a link.

    A link itself may be named: git keeps what it says, not what it leads to.
    """
    try:
        parts = tool_path(root.path, arg).parts
        root.exists(parts if whole else parts[:-1])
    except InvalidRequest as refusal:
        if refusal.code == "symlink_escapes_boundary":
            raise


def _environment(root: Root, subcommand: str) -> dict[str, str]:
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in _ASKING and (not name.startswith("GIT_") or name in _KEPT)
    }
    env.update(_SETTINGS)
    env["GIT_CEILING_DIRECTORIES"] = posixpath.dirname(os.path.realpath(root.path))
    if subcommand in git_rules.READ_ONLY:
        env["GIT_OPTIONAL_LOCKS"] = "0"  # so that what looks only does not stand in the way of what writes
    return env
