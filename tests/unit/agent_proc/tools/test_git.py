"""git: the tables, what is never run, what only destruction allows, and what a repository cannot make the tool do."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.builtin_tools import Tool
from helpers.counts import examples
from procession.agent_proc.tools.git_rules import MODIFYING, READ_ONLY, check
from procession.ipc.core.errors import InvalidRequest

ROOT = "/srv/me/project"

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here to run")


def code(subcommand: str, *args: str, allow_destructive: bool = False) -> str | None:
    """Return why a call is refused, None when it is not."""
    try:
        check(ROOT, subcommand, args, allow_destructive=allow_destructive)
    except InvalidRequest as refusal:
        return refusal.code
    return None


@pytest.mark.contract("1.10 git")
def test_the_tables_have_what_the_contract_says() -> None:
    assert (len(READ_ONLY), len(MODIFYING), READ_ONLY & MODIFYING) == (15, 25, frozenset())


@pytest.mark.contract("1.10 git")
@pytest.mark.parametrize(
    "subcommand",
    ["", "-c", "-C", "--exec-path=/x", "config", "gc", "filter-branch", "daemon", "difftool", "upload-pack", "STATUS",
     "status ", "status\n", "!sh", "alias", "-p", "help", "archive", "grep", "update-index"],
)  # fmt: skip
def test_only_the_subcommands_of_the_tables_are_run(subcommand: str) -> None:
    assert code(subcommand) == "unknown_subcommand"
    assert code(subcommand, allow_destructive=True) == "unknown_subcommand"


HARMLESS = [
    "status", "status --short --branch", "diff HEAD~1..HEAD", "diff main...work -- src/a.py", "diff HEAD^.. -C -M",
    "diff --stat --text --no-ext-diff", "log -5 --oneline -- a..b", "log --grep=Foo::bar -S std::vector", "show HEAD:src/a.py",
    "log -c --output-indicator-new=+", "branch -a", "branch work", "branch -d merged", "branch -m old new", "tag v1",
    "tag -a v1 -m ../..", "remote -v", "remote add up https://example.org/x.git", "add -A", "add -f ignored", "commit -am x",
    "commit -m /etc/hostname --no-verify", "commit --message=/a/../b", "commit --amend --no-edit -C HEAD", "switch -c work",
    "checkout -b work", "checkout main -- src", "restore src/a.py", "push origin main", "push -u origin HEAD:main --tags",
    "push --follow-tags --signed=no", "pull --rebase --ff-only", "fetch --all --prune", "merge work --no-ff", "rebase main",
    "rebase -Xours --onto main", "reset HEAD~1", "reset --soft HEAD~1", "reset --mixed", "reset --keep HEAD~1", "clean -n",
    "clean -nxd", "clean --dry-run -x", "rm -r src", "mv a b", "stash", "stash pop", "clone https://example.org/x.git x",
    "clone git@example.org:me/x.git --depth=1 -b main", "clone --no-checkout --origin up https://example.org/x.git",
    "init -b main", "bisect start", "apply fix.patch", "am --abort", "worktree add x", "submodule update --init",
    "blame -L 1,5 a.py", "add /srv/me/project/src/a=b.py", "ls-files --exclude-standard -o", "notes add -m x", "reflog show",
    "remote set-url origin https://example.org/y.git", "commit -F message.txt", "log --format=%h:%s", "show :/fix",
]  # fmt: skip


@pytest.mark.parametrize("call", HARMLESS)
def test_ordinary_calls_pass(call: str) -> None:
    assert code(*call.split()) is None


REFUSED = [
    "fetch --upload-pack=sh origin", "fetch --upload-pack sh", "fetch --upl=sh", "fetch --upload sh", "clone -u sh x",
    "clone -qu sh x", "clone -ush x", "push --receive-pack=sh", "push --receive sh", "push --exec=sh", "push --exe sh",
    "pull --upload-pack=sh", "clone -c core.fsmonitor=sh x", "clone -ccore.sshCommand=sh x", "clone --config a=b x",
    "clone --conf=a=b x", "clone --template=t x", "clone --templ t", "init --template t", "init --separate-git-dir=x",
    "clone --separate x y", "rebase --exec make", "rebase --exe make", "rebase -x make", "rebase -ix make main",
    "bisect run sh", "bisect view", "bisect visualize", "submodule foreach sh", "submodule --quiet foreach sh",
    "submodule -- foreach sh", "submodule foreach --recursive sh", "status --git-dir=x", "status --work-tree=x",
    "status --exec-path=x", "log --config-env=a=b", "diff --no-index a b", "diff --no-in a b", "diff --output=.git/x",
    "log --outp=x", "show --output x", "log --ext-diff", "log --ext", "log --help", "apply --unsafe-paths p",
    "am --unsafe p", "diff -- --output=x", "clone ext::sh x", "fetch ext::sh", "pull x::y", "push fd::7",
    "remote add x ext::sh", "remote set-url origin ext::sh", "submodule add ext::sh x", "clone --reference=ext::sh x",
]  # fmt: skip


@pytest.mark.parametrize("call", REFUSED)
def test_what_runs_programs_or_uses_files_elsewhere_is_never_run(call: str) -> None:
    assert code(*call.split()) == "refused_argument"
    assert code(*call.split(), allow_destructive=True) == "refused_argument"


@pytest.mark.contract("1.10 git")
@pytest.mark.parametrize(
    "call",
    [
        "push --force", "push -f", "push -uf origin main", "push -fu", "push --forc", "push --fo", "push --force=x",
        "push --force-with-lease", "push --force-with-lease=main", "push --force-w", "push origin +main",
        "push origin +HEAD:main", "push -- origin +main", "push origin main --force", "push --mirror", "push --mir",
        "push --delete origin x", "push -d origin x", "push origin :x", "push --prune origin", "remote add --mirror=push x y",
        "reset --hard", "reset --hard HEAD~1", "reset --har", "reset --merge", "clean", "clean -f",
        "clean -fd", "clean -xfd", "clean -dfx", "clean --force", "clean --for", "clean -d --forc", "clean -n -f",
        "clean -d", "clean -e -n", "clean -en", "clean -i", "clean --dry-run --no-dry-run", "clean -n --no-dry",
        "branch -D x", "branch -d --force x", "branch -df x", "branch -fd x", "branch --delete --force x",
        "branch --delete --for x", "branch -f x", "branch -M x", "branch -C x", "branch -rD x", "checkout -f",
        "checkout --force", "checkout -B x", "switch -f", "switch --discard-changes", "switch --disc x", "switch -C x",
        "switch --force-create x", "tag -d v1", "tag -f v1", "tag --delete v1", "rm -rf x", "rm -f x", "rm --force x",
        "mv -f a b", "stash drop", "stash clear", "reflog expire --all", "reflog delete x", "worktree remove --force x",
        "worktree add -f x", "worktree add -B x y", "submodule deinit -f x", "submodule deinit --force x", "fetch -f",
        "fetch --force", "pull --force", "pull -f",
    ],
)  # fmt: skip
def test_what_destroys_work_is_run_only_when_that_is_allowed(call: str) -> None:
    assert code(*call.split()) == "destructive_operation"
    assert code(*call.split(), allow_destructive=True) is None


@pytest.mark.contract("1.10 git")
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["add", ".."], "path_escapes_boundary"),
        (["add", "../x"], "path_escapes_boundary"),
        (["add", "a/../../x"], "path_escapes_boundary"),
        (["add", "--", "../x"], "path_escapes_boundary"),
        (["commit", "-F../x"], "path_escapes_boundary"),
        (["commit", "-F", "../x"], "path_escapes_boundary"),
        (["commit", "--file=../x"], "path_escapes_boundary"),
        (["commit", "--", "-m", "../x"], "path_escapes_boundary"),
        (["commit", "-m", "x", "../y"], "path_escapes_boundary"),
        (["show", "HEAD:../x"], "path_escapes_boundary"),
        (["diff", ":(top)../x"], "path_escapes_boundary"),
        (["diff", ":!../x"], "path_escapes_boundary"),
        (["log", "-m", "../x"], "path_escapes_boundary"),
        (["clone", "x", "../y"], "path_escapes_boundary"),
        (["clone", f"file://{ROOT}/%2e%2e/y"], "path_escapes_boundary"),
        (["add", "/etc/hostname"], "path_outside_boundary"),
        (["add", ROOT + "_similar/x"], "path_outside_boundary"),
        (["add", "--pathspec-from-file=/etc/hostname"], "path_outside_boundary"),
        (["commit", "-F/etc/hostname"], "path_outside_boundary"),
        (["blame", "--contents", "/etc/hostname", "a"], "path_outside_boundary"),
        (["clone", "/srv/other"], "path_outside_boundary"),
        (["clone", "file:///srv/other"], "path_outside_boundary"),
        (["clone", "FILE://localhost/srv/other"], "path_outside_boundary"),
        (["clone", "--reference=/srv/other", "x"], "path_outside_boundary"),
        (["worktree", "add", "/srv/other"], "path_outside_boundary"),
        (["diff", "-O/etc/hostname"], "path_outside_boundary"),
        (["add", f"{ROOT}/.jido_code/settings.json"], "protected_settings_file"),
    ],
)
def test_paths_that_lead_out_are_refused_in_every_place(args: list[str], expected: str) -> None:
    assert code(*args) == expected
    assert code(*args, allow_destructive=True) == expected


@given(st.sampled_from(["force", "mirror", "delete", "prune", "force-with-lease"]), st.data())
@settings(max_examples=examples(100), deadline=None)
def test_no_beginning_of_a_forcing_option_is_let_through(option: str, data: st.DataObject) -> None:
    end = data.draw(st.integers(1, len(option)))
    value = data.draw(st.sampled_from(["", "=x"]))
    assert code("push", "origin", f"--{option[:end]}{value}") is not None


@given(st.text(alphabet="qvnu46", max_size=4), st.text(alphabet="qvnu46", max_size=4))
def test_no_group_of_short_options_hides_a_force(before: str, after: str) -> None:
    assert code("push", f"-{before}f{after}") == "destructive_operation"
    assert code("push", f"-{before}{after}") is None or not before + after


# -- with a real git -------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tool: Tool, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the project as a repository with one commit."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Me")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "me@example.org")
    monkeypatch.delenv("GIT_DIR", raising=False)
    (project / "file").write_text("one\n")
    for args in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "/first"]):
        subcommand, *others = args
        found = tool("git", subcommand=subcommand, args=others)
        assert found["value"]["exit_code"] == 0, found
    return project


def program(place: Path) -> str:
    """Write a program that leaves a mark beside itself when it is run."""
    place.write_text(f"#!/bin/sh\ntouch {place}.ran\n")
    place.chmod(0o755)
    return str(place)


def was_run(place: Path) -> bool:
    return Path(f"{place}.ran").exists()


@pytest.mark.process
@needs_git
def test_a_subcommand_gives_its_outputs_and_exit_code(tool: Tool, repository: Path) -> None:
    (repository / "file").write_text("two\n")
    assert tool("git", subcommand="status", args=["--short"])["value"]["stdout"] == " M file\n"
    assert tool("git", subcommand="log", args=["--format=%s %an"])["value"]["stdout"] == "/first Me\n"
    found = tool("git", subcommand="show", args=["nothing"])
    assert (found["ok"], found["value"]["exit_code"]) == (True, 128)
    assert "nothing" in found["value"]["stderr"]
    assert tool("git", subcommand="reset", args=["--hard"])["code"] == "destructive_operation"
    assert (repository / "file").read_text() == "two\n"
    assert tool("git", subcommand="reset", args=["-q", "--hard"], allow_destructive=True)["value"]["exit_code"] == 0
    assert (repository / "file").read_text() == "one\n"


@pytest.mark.process
@needs_git
def test_no_editor_is_opened_and_nothing_is_asked(
    tool: Tool, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = repository.parent / "asked"
    for name in (
        "EDITOR",
        "VISUAL",
        "PAGER",
        "GIT_EDITOR",
        "GIT_PAGER",
        "GIT_SEQUENCE_EDITOR",
        "SSH_ASKPASS",
        "GIT_ASKPASS",
    ):
        monkeypatch.setenv(name, program(asked))
    (repository / "file").write_text("two\n")
    found = tool("git", subcommand="commit", args=["-a"])
    assert found["value"]["exit_code"] != 0
    assert "empty commit message" in found["value"]["stderr"]
    assert tool("git", subcommand="commit", args=["-q", "-a", "-m", "second"])["value"]["exit_code"] == 0
    assert tool("git", subcommand="rebase", args=["-q", "-i", "HEAD~1"])["value"]["exit_code"] == 0
    assert tool("git", subcommand="log", args=["-p"])["value"]["exit_code"] == 0
    assert not was_run(asked)


@pytest.mark.process
@needs_git
def test_the_environment_chooses_neither_repository_nor_programs(
    tool: Tool, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = repository.parent / "chosen"
    for name in ("GIT_EXTERNAL_DIFF", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_PROXY_COMMAND"):
        monkeypatch.setenv(name, program(chosen))
    for name in (
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_EXEC_PATH",
        "GIT_TEMPLATE_DIR",
    ):
        monkeypatch.setenv(name, str(repository.parent / "nowhere"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "diff.external")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(chosen))
    monkeypatch.setenv("GIT_TRACE", str(repository.parent / "trace"))
    (repository / "file").write_text("two\n")
    assert "+two" in tool("git", subcommand="diff")["value"]["stdout"]
    assert not was_run(chosen)
    assert not (repository.parent / "trace").exists()


@pytest.mark.process
@needs_git
def test_no_repository_above_the_project_is_found(tool: Tool, repository: Path, project: Path) -> None:
    os.rename(repository / ".git", repository.parent / ".git")
    found = tool("git", subcommand="status")["value"]
    assert (found["exit_code"], "not a git repository" in found["stderr"]) == (128, True)


@pytest.mark.process
@needs_git
def test_a_repository_cannot_make_it_watch_files_or_run_addresses(tool: Tool, repository: Path) -> None:
    watch, address = repository.parent / "watch", repository.parent / "address"
    with open(repository / ".git/config", "a", encoding="utf-8") as config:
        config.write(f'[core]\n fsmonitor = {program(watch)}\n[protocol "ext"]\n allow = always\n')
        config.write(f'[remote "evil"]\n url = ext::{program(address)}\n fetch = +refs/*:refs/x/*\n')
    assert tool("git", subcommand="status")["value"]["exit_code"] == 0
    found = tool("git", subcommand="fetch", args=["evil"])["value"]
    assert found["exit_code"] != 0
    assert "not allowed" in found["stderr"]
    assert not was_run(watch)
    assert not was_run(address)


@pytest.mark.process
@needs_git
@pytest.mark.usefixtures("opening")
def test_paths_through_links_that_lead_out_are_refused_and_links_themselves_are_kept(
    tool: Tool, repository: Path, outside: Path
) -> None:
    (repository / "out").symlink_to(outside)
    for subcommand, *args in (
        ["diff", "file", "out/secret.txt"],
        ["apply", "out/secret.txt"],
        ["clone", ".", "out/copy"],
        ["worktree", "add", "out"],
        ["init", "out"],
    ):
        assert tool("git", subcommand=subcommand, args=args)["code"] == "symlink_escapes_boundary"
    assert os.listdir(outside) == ["secret.txt"]
    assert tool("git", subcommand="add", args=["out"])["value"]["exit_code"] == 0
    assert tool("git", subcommand="diff", args=["--cached", "--name-only"])["value"]["stdout"] == "out\n"


@pytest.mark.process
@needs_git
def test_what_only_looks_writes_nothing(tool: Tool, repository: Path) -> None:
    os.utime(repository / "file", (1, 1))  # so that git would like to note that it is unchanged
    before = (repository / ".git/index").stat()
    assert tool("git", subcommand="status", args=["--short"])["value"]["stdout"] == ""
    after = (repository / ".git/index").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_without_git_that_is_told(tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tool("git", subcommand="status")["code"] == "command_not_found"


def test_arguments_that_no_command_takes_are_refused(tool: Tool) -> None:
    assert tool("git", subcommand="log", args=["\0"])["code"] in {"null_byte", "invalid_path"}
    assert tool("git", subcommand="log", args=["\ud800"])["code"] == "invalid_text"
    assert tool("git", subcommand="log", args="-5")["code"] == "invalid_type"
    assert tool("git", subcommand="log", args=[5])["code"] == "invalid_type"
