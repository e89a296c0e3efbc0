"""Contract 1.6 and 1.7: what a session may be made of, in the order of the checks, and what its record says afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from helpers.runs import User, run_python
from procession import AsyncHost, Host, InvalidRequest, Sandbox, Session, SessionRecord

pytestmark = pytest.mark.process

FAMILY = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}\u200d\N{BOY}"


def codes(work: object, *args: object, **given: object) -> tuple[str, ...]:
    """Return all codes of a refusal."""
    with pytest.raises(InvalidRequest) as caught:
        work(*args, **given)  # type: ignore[operator]
    assert caught.value.ran == "no"
    assert caught.value.code == caught.value.codes[0]
    return caught.value.codes


# --- the project ------------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.6 order of the checks")
@pytest.mark.parametrize(
    ("path", "code"),
    [
        (3, "invalid_project_path"),
        ("", "invalid_project_path"),
        ("a\0b", "invalid_project_path"),
        ("../" + "a" * 5000, "path_too_long"),
        ("nowhere/../nowhere", "path_traversal_detected"),
        ("..", "path_traversal_detected"),
        ("nowhere", "path_not_found"),
        ("dangling", "path_not_found"),
        ("loop", "path_not_found"),
        ("file", "path_not_directory"),
        ("link to file", "path_not_directory"),
        ("up", "symlink_escape"),
    ],
)
def test_the_first_thing_wrong_with_a_path_is_told(
    contract_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: object, code: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "link to file").symlink_to(tmp_path / "file")
    (tmp_path / "up").symlink_to(f"{tmp_path}/folder/../folder")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert codes(contract_host.start_session, path) == (code,)
    assert sorted(tmp_path.rglob("*")) == before


START_IN = """
import sys
from procession import Host, InvalidRequest, Sandbox
with Host(sandbox=Sandbox.off()) as host:
    try:
        host.start_session(sys.argv[1])
    except InvalidRequest as error:
        print(*error.codes, error.ran, len(host.list_sessions(all=True)))
"""
"""What a program of a user who is not root, or of one whose disk is full, is told."""


@pytest.mark.contract("1.6 order of the checks")
@pytest.mark.parametrize("mode", [0o300, 0o500, 0o000])
def test_a_folder_that_cannot_be_listed_or_written_is_refused(plain_user: User, mode: int) -> None:
    folder = plain_user.home / f"closed {mode:o}"
    folder.mkdir()
    os.chown(folder, plain_user.uid, plain_user.gid)
    folder.chmod(mode)
    try:
        done = run_python(START_IN, user=plain_user, args=(str(folder),))
    finally:
        folder.chmod(0o700)
    assert (done.stdout.split(), done.stderr) == (["path_permission_denied", "no", "0"], "")


@pytest.mark.contract("1.6 order of the checks")
def test_a_folder_on_a_full_disk_is_refused(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=64k,nr_inodes=1 none {tmp_path}"
    namespace = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    if (
        shutil.which("unshare") is None
        or subprocess.run([*namespace, mount], check=False, capture_output=True).returncode
    ):
        pytest.skip("this machine lets nobody mount a file system of their own, and no other disk is full")
    done = subprocess.run(
        [*namespace, f'{mount} && exec "$0" "$@"', sys.executable, "-c", START_IN, str(tmp_path)],
        check=False, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr) == (["path_no_space", "no", "0"], "")


@pytest.mark.contract("1.6 new", "1.9 create_session")
def test_a_path_is_kept_absolute_plain_and_as_it_was_given(
    contract_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "pröject"
    project.mkdir()
    (tmp_path / "relative link").symlink_to("pröject")
    monkeypatch.chdir(tmp_path)
    for given, kept in (("./pröject/", project), ("relative link", tmp_path / "relative link")):
        session = contract_host.start_session(given)
        record = session.get_session()
        assert (record.project_path, record.name) == (str(kept), kept.name)
        assert session.exec(["pwd", "-P"]).text.strip() == str(project)
        contract_host.remove_session(session.id)


@pytest.mark.contract("1.6 new", "0.7 paths")
def test_without_a_project_a_session_has_a_folder_of_its_own_that_goes_with_it(contract_host: Host) -> None:
    session = contract_host.start_session()
    folder = Path(session.get_session().project_path)
    assert folder.is_dir()
    assert session.id in folder.parts
    session.exec(["touch", "mine"])
    contract_host.remove_session(session.id)
    assert not folder.exists()


# --- name and config --------------------------------------------------------------------------------------------------
@pytest.mark.contract("0.6 validation at creation", "1.6 new", "1.6 rename")
def test_a_name_is_counted_in_what_a_reader_sees_whoever_gives_it(contract_host: Host, chat: Session) -> None:
    def called(name: str) -> list[str]:
        """Give the name in every way there is; return what the session and its host call it then."""
        made = [contract_host.start_session(name=name), contract_host.get_or_start_session(f"{name[:1]} 2")]
        made[1].rename(name)
        seen = [one.get_session().name for one in made] + [one.status().name for one in made]
        assert contract_host.lookup_by_name(name) == made[0]
        for one in made:
            contract_host.remove_session(one.id)
        return seen

    for name in (FAMILY * 50, "é" * 50, " x "):  # kept as it was given
        assert called(name) == [name] * 4
    naming = (
        chat.rename,
        lambda name: contract_host.start_session(name=name),
        lambda name: contract_host.get_or_start_session(name),
    )
    for name, code in (
        (FAMILY * 51, "name_too_long"), ("x" * 51, "name_too_long"), (" ", "invalid_name"), ("\t\n", "invalid_name"),
        ("\u200b", "invalid_name"), ("a\nb", "invalid_name"), ("a\0", "invalid_name"), ("\x1b[2J", "invalid_name"),
    ):  # fmt: skip
        for give in naming:
            assert codes(give, name) == (code,), name
    assert codes(chat.rename, "") == codes(contract_host.start_session, name="") == ("invalid_name",)


@pytest.mark.contract("1.6 rename", "0.4 one record")
def test_a_change_to_what_is_there_already_is_none(chat: Session) -> None:
    before = chat.rename("the name")
    assert before.updated_at > before.created_at
    assert chat.rename("the name") == chat.set_config({}) == chat.set_language(before.language) == before


@pytest.mark.contract("1.6 new", "1.6 validate")
def test_everything_wrong_with_a_record_is_told_at_once_in_the_order_of_its_fields(contract_host: Host) -> None:
    assert codes(
        contract_host.start_session,
        config={
            "max_tokens": 0, "temperature": "hot", "model": 3, "provider": "",
            "promotion_enabled": "yes", "promotion_interval_ms": True,
        },
        language="cobol",
    ) == (
        "invalid_provider", "invalid_model", "invalid_temperature", "invalid_max_tokens",
        "invalid_language", "invalid_interval", "invalid_promotion_enabled",
    )  # fmt: skip


@pytest.mark.contract("1.6 new", "0.6 validation at creation")
@pytest.mark.parametrize(
    "given", [{"temperature": 0}, {"temperature": 2.0, "max_tokens": 1}, {"provider": None, "model": None}]
)
def test_defaults_are_merged_under_a_partial_config(contract_host: Host, given: dict[str, object]) -> None:
    session = contract_host.start_session(config=given)
    usual = contract_host.start_session()
    assert session.get_session().config == usual.get_session().config | given
    assert session.set_config({"temperature": 1}).config["temperature"] == 1  # what was accepted then is accepted now
    for one in (session, usual):
        contract_host.remove_session(one.id)


@pytest.mark.contract("1.6 validate", "0.6 validation at creation")
def test_everything_that_is_wrong_with_a_start_is_told_at_once_in_order(contract_host: Host) -> None:
    for project, given, codes in (
        ("/no/such/folder", {"session_id": "x", "name": "", "config": {"temperature": 9}},
         ("invalid_session_id", "invalid_name", "path_not_found", "invalid_temperature")),
        ("/no/such/folder", {"name": "n" * 51}, ("name_too_long", "path_not_found")),
        (None, {"name": "", "language": "zz", "config": {"max_tokens": 0}},
         ("invalid_name", "invalid_max_tokens", "invalid_language")),
    ):  # fmt: skip
        with pytest.raises(InvalidRequest) as caught:
            contract_host.start_session(project, **given)
        assert (caught.value.codes, caught.value.code) == (codes, codes[0])


@pytest.mark.contract("1.6 update_config")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"temperature": 2.1}, ("invalid_temperature",)),
        ({"temperature": -0.1}, ("invalid_temperature",)),
        ({"temperature": True}, ("invalid_temperature",)),
        ({"temperature": float("nan")}, ("invalid_temperature",)),
        ({"max_tokens": 0}, ("invalid_max_tokens",)),
        ({"max_tokens": 1.0}, ("invalid_max_tokens",)),
        ({"max_tokens": None}, ("invalid_max_tokens",)),
        ({"model": "", "provider": 3}, ("invalid_provider", "invalid_model")),
    ],
)
def test_a_value_out_of_its_range_is_refused_and_changes_nothing(
    chat: Session, given: dict[str, object], expected: tuple[str, ...]
) -> None:
    before = chat.get_session()
    assert codes(chat.set_config, given) == expected
    assert chat.get_session() == before


@pytest.mark.contract("1.6 update_config")
def test_a_key_that_is_given_wins_even_as_none_and_others_are_ignored(chat: Session) -> None:
    record = chat.set_config({"provider": None, "colour": "green", "temperature": 0})
    assert record.config == {
        "provider": None, "model": "claude-3-5-sonnet-20241022", "temperature": 0, "max_tokens": 4096,
    }  # fmt: skip


@pytest.mark.contract("0.4 one record", "1.8 update", "1.9 consequences")
def test_changes_of_one_record_made_at_once_do_not_undo_each_other(contract_host: Host, chat: Session) -> None:
    begin = threading.Barrier(4)

    def change(work: object) -> None:
        begin.wait()
        for number in range(30):
            work(number)  # type: ignore[operator]

    changes = (
        lambda n: chat.rename(f"name {n}"),
        lambda n: chat.set_config({"max_tokens": n + 1}),
        lambda n: chat.set_language(("go", "rust", "ruby")[n % 3]),
        lambda n: chat.set_connection_status(("connected", "error")[n % 2]),
    )
    threads = [threading.Thread(target=change, args=(work,)) for work in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    record = chat.get_session()
    assert (record.name, record.config["max_tokens"]) == ("name 29", 30)
    assert (record.language, record.connection_status) == ("ruby", "error")
    assert chat.status().name == "name 29"
    assert contract_host.lookup_by_name("name 29") == chat


@pytest.mark.contract("0.10 languages", "4.2 init")
def test_a_host_may_have_its_own_language_and_config_for_who_says_nothing(tmp_path: Path) -> None:
    rust = tmp_path / "rust"
    rust.mkdir()
    (rust / "Cargo.toml").touch()
    given = {"model": "of mine", "temperature": 1}
    with (
        Host(tmp_path / "host", sandbox=Sandbox.off(), default_language="GO", default_config=given) as host,
        Host.connect(tmp_path / "host", sandbox=Sandbox.off()) as client,
    ):
        for face in (host, client, host.partition("tenant")):
            usual = face.start_session().get_session()
            assert (usual.language, usual.config) == (
                "go", {"provider": "anthropic", "model": "of mine", "temperature": 1.0, "max_tokens": 4096},
            )  # fmt: skip
            told = face.start_session(language="c", config={"model": None}).get_session()
            assert (told.language, told.config) == ("c", usual.config | {"model": None})
            shown = face.start_session(rust)
            assert (shown.get_session().language, shown.get_session().config) == ("rust", usual.config)
            shown.stop()

        async def start() -> SessionRecord:
            async with AsyncHost.connect(tmp_path / "host", sandbox=Sandbox.off()) as far:
                return await (await far.start_session()).get_session()

        assert asyncio.run(start()).language == "go"


@pytest.mark.contract("0.10 languages")
@pytest.mark.parametrize("kind", [Host, AsyncHost])
def test_defaults_that_are_none_open_no_host(tmp_path: Path, kind: type[Host | AsyncHost]) -> None:
    wrong = {"temperature": 3, "provider": ""}
    assert codes(kind, tmp_path / "host", default_language="cobol", default_config=wrong) == (
        "invalid_provider", "invalid_temperature", "invalid_language",
    )  # fmt: skip
    assert codes(kind, tmp_path / "host", default_config={"modle": "m"}) == ("invalid_config",)
    assert not (tmp_path / "host").exists()


# --- the language -----------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.7 detection")
@pytest.mark.parametrize(
    ("found", "language"),
    [
        ("pyproject.toml", "python"), ("requirements.txt", "python"), ("tsconfig.json", "typescript"),
        ("Gemfile", "ruby"), ("pom.xml", "java"), ("build.gradle", "java"), ("build.gradle.kts", "kotlin"),
        ("composer.json", "php"), ("CMakeLists.txt", "cpp"), ("main.c", "python"), ("Makefile", "python"),
        ("go.mod Gemfile", "go"), ("Makefile main.c composer.json", "php"), ("mix.exs go.mod", "elixir"),
    ],
)  # fmt: skip
def test_the_first_file_of_the_table_decides(contract_host: Host, tmp_path: Path, found: str, language: str) -> None:
    for name in found.split():
        (tmp_path / name).touch()
    session = contract_host.start_session(tmp_path)
    assert session.get_session().language == language
    contract_host.remove_session(session.id)


@pytest.mark.contract("1.7 detection")
def test_a_language_that_is_given_is_not_looked_for(contract_host: Host, tmp_path: Path) -> None:
    (tmp_path / "go.mod").touch()
    session = contract_host.start_session(tmp_path, language=" RS ")
    assert session.get_session().language == "rust"
    contract_host.remove_session(session.id)


@pytest.mark.contract("1.7 normalization")
def test_there_are_thirteen_languages_and_nine_other_names(chat: Session) -> None:
    languages = "elixir javascript typescript rust python go ruby java kotlin csharp php cpp c".split()
    for language in languages:
        assert chat.set_language(language.upper()).language == language
    others = {
        "ex": "elixir", "js": "javascript", "ts": "typescript", "rs": "rust", "py": "python", "rb": "ruby",
        "c++": "cpp", "c#": "csharp", "cs": "csharp",
    }  # fmt: skip
    assert {name: chat.set_language(name).language for name in others} == others
