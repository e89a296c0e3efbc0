"""Contract 1.6 to 1.9 and 4.2: the record of a session, its creation, its language, and the registry, through the Host API."""

from __future__ import annotations

import datetime as dt
import os
import uuid
from pathlib import Path

import pytest

from procession import AlreadyExists, Host, InvalidRequest, Session, SessionNotFound

pytestmark = pytest.mark.process


def refusal(work, *args, **kwargs) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        work(*args, **kwargs)
    assert caught.value.ran == "no"
    return caught.value


# --- creation ---------------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.6 new", "4.2 init", "1.3 get_session")
def test_a_session_begins_with_its_record(contract_host: Host, tmp_path: Path) -> None:
    session = contract_host.start_session(tmp_path, config={"temperature": 1.5})
    record = session.get_session()
    assert (record.id, record.name, record.project_path) == (session.id, tmp_path.name, str(tmp_path))
    assert record.config == {
        "provider": "anthropic", "model": "claude-3-5-sonnet-20241022", "temperature": 1.5, "max_tokens": 4096,
    }  # fmt: skip
    assert (record.language, record.connection_status) == ("python", "disconnected")
    assert record.created_at == record.updated_at
    assert record.created_at.utcoffset() == dt.timedelta(0)
    assert uuid.UUID(record.id).version == 4
    contract_host.remove_session(session.id)


@pytest.mark.contract("1.6 new", "4.2 init", "3 start / start_link / child_spec")
def test_a_given_id_has_to_be_a_uuid_and_is_taken_once(contract_host: Host) -> None:
    given = str(uuid.uuid4())
    session = contract_host.start_session(session_id=given.upper())
    assert session.id == given
    with pytest.raises(AlreadyExists) as caught:
        contract_host.start_session(session_id=given)
    assert caught.value.code == "session_exists"
    contract_host.remove_session(session.id)
    assert refusal(contract_host.start_session, session_id="session_0123").code == "invalid_session_id"


@pytest.mark.contract("1.6 new", "0.6 validation at creation")
@pytest.mark.parametrize(
    ("given", "codes"),
    [
        ({"config": {"temperature": 2.5}}, ("invalid_temperature",)),
        ({"config": {"provider": "", "max_tokens": 0}}, ("invalid_provider", "invalid_max_tokens")),
        ({"config": {"promotion_interval_ms": 0}}, ("invalid_interval",)),
        ({"config": 3}, ("invalid_config",)),
        ({"language": "cobol"}, ("invalid_language",)),
        ({"config": {"model": ""}, "language": 3}, ("invalid_model", "invalid_language")),
    ],
)
def test_what_is_wrong_at_creation_is_told_all_at_once_and_takes_nothing(contract_host: Host, given, codes) -> None:
    before = len(contract_host.list_sessions(all=True))
    error = refusal(contract_host.start_session, **given)
    assert (error.code, error.codes) == (codes[0], codes)
    assert len(contract_host.list_sessions(all=True)) == before


@pytest.mark.contract("1.6 new", "0.6 validation at creation")
@pytest.mark.parametrize(("name", "code"), [("x" * 51, "name_too_long"), ("   ", "invalid_name"), (3, "invalid_name")])
def test_a_name_has_one_to_fifty_characters(contract_host: Host, name: object, code: str) -> None:
    assert refusal(contract_host.start_session, name=name).code == code


@pytest.mark.contract("1.6 new", "1.7 detection")
@pytest.mark.parametrize(
    ("files", "language"),
    [
        (["mix.exs", "package.json"], "elixir"),
        (["package.json"], "javascript"),
        (["package.json", "tsconfig.json"], "typescript"),
        (["Cargo.toml"], "rust"),
        (["go.mod"], "go"),
        (["x.csproj"], "csharp"),
        (["Makefile", "main.c"], "c"),
        ([], "python"),
    ],
)
def test_the_language_is_that_of_the_project(
    contract_host: Host, tmp_path: Path, files: list[str], language: str
) -> None:
    for name in files:
        (tmp_path / name).touch()
    session = contract_host.start_session(tmp_path)
    assert session.get_session().language == language
    contract_host.remove_session(session.id)


@pytest.mark.contract("1.6 new")
def test_a_project_has_to_be_a_folder_that_can_be_used(contract_host: Host, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(contract_host.start_session, tmp_path / "nothing").code == "path_not_found"
    assert refusal(contract_host.start_session, tmp_path / "file").code == "path_not_directory"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]  # the probe is gone
    dots = tmp_path / "a..b"
    dots.mkdir()
    session = contract_host.start_session(dots)  # two dots inside a name are a name
    contract_host.remove_session(session.id)


@pytest.mark.contract("1.6 symlink rule", "0.7 paths")
def test_two_names_of_one_folder_are_one_project(contract_host: Host, tmp_path: Path) -> None:
    project, link = tmp_path / "project", tmp_path / "link"
    project.mkdir()
    link.symlink_to(project)
    first = contract_host.start_session(project)
    with pytest.raises(AlreadyExists) as caught:
        contract_host.start_session(link)
    assert (caught.value.code, caught.value.session) == ("project_already_open", first.id)
    shared = contract_host.start_session(link, exclusive=False)
    assert shared.get_session().project_path == str(link)
    for session in (first, shared):
        contract_host.remove_session(session.id)


# --- changes of the record --------------------------------------------------------------------------------------------
@pytest.mark.contract("1.6 rename", "1.9 rename_session", "0.4 one record")
def test_a_rename_is_the_hosts_name_too_and_nothing_undoes_it(contract_host: Host, chat: Session) -> None:
    record = chat.rename("another name")
    assert record.name == "another name"
    assert record.updated_at >= record.created_at
    assert chat.status().name == "another name"
    assert contract_host.session("another name").id == chat.id
    chat.set_config({"temperature": 0.1})
    chat.set_language("rs")
    found = chat.get_session()
    assert (found.name, found.config["temperature"], found.language) == ("another name", 0.1, "rust")
    for name, code in (("", "invalid_name"), ("x" * 51, "name_too_long"), ("  ", "invalid_name"), (3, "invalid_name")):
        assert refusal(chat.rename, name).code == code
    assert chat.get_session() == found


@pytest.mark.contract("1.3 update_session_config", "1.6 update_config", "1.9 set_session_config, set_session_language")
def test_a_config_is_merged_and_checked_as_a_whole(chat: Session) -> None:
    assert chat.set_config({"temperature": 1}).config["max_tokens"] == 4096
    assert chat.set_config({"max_tokens": 10}).config["temperature"] == 1
    error = refusal(chat.set_config, {"provider": "", "model": 3, "temperature": 9, "max_tokens": -1})
    assert error.codes == ("invalid_provider", "invalid_model", "invalid_temperature", "invalid_max_tokens")
    assert refusal(chat.set_config, "x").code == "invalid_config"
    assert chat.get_session().config["max_tokens"] == 10


@pytest.mark.contract("1.3 update_language", "1.7 normalization")
def test_a_language_has_more_names_than_one(chat: Session) -> None:
    for name, language in (("Py", "python"), ("ex", "elixir"), ("rs", "rust"), (" C# ", "csharp"), ("c++", "cpp")):
        assert chat.set_language(name).language == language
    for bad in (None, 3, "klingon", ""):
        assert refusal(chat.set_language, bad).code == "invalid_language"


@pytest.mark.contract("1.11 connection status")
def test_the_connection_to_the_provider_is_noted(chat: Session) -> None:
    assert chat.set_connection_status("connected").connection_status == "connected"
    assert refusal(chat.set_connection_status, "maybe").code == "invalid_connection_status"


# --- the registry -----------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.8 lookup", "1.8 list_all", "1.9 stop_session")
def test_sessions_are_found_listed_oldest_first_and_gone_when_stopped(contract_host: Host) -> None:
    started = [contract_host.start_session(name=f"listed {number}") for number in range(3)]
    listed = [one.id for one in contract_host.list_sessions()]
    assert [one for one in listed if one in {session.id for session in started}] == [session.id for session in started]
    assert contract_host.session(started[1].id) == started[1]
    contract_host.stop_session(started[1].id)
    assert started[1].id not in [one.id for one in contract_host.list_sessions()]
    for session in started:
        contract_host.remove_session(session.id)
    with pytest.raises(SessionNotFound):
        contract_host.session(started[1].id)
    with pytest.raises(SessionNotFound):
        contract_host.stop_session(started[1].id)


@pytest.mark.contract("1.9 consequences", "0.5 a crash loses nothing")
def test_the_slot_and_the_folder_of_a_session_that_is_gone_are_free(contract_host: Host, tmp_path: Path) -> None:
    first = contract_host.start_session(tmp_path)
    contract_host.stop_session(first.id)
    second = contract_host.start_session(tmp_path)
    assert os.path.samefile(second.get_session().project_path, tmp_path)
    for session in (first, second):
        contract_host.remove_session(session.id)
