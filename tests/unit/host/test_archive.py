"""An archive reads back as it was written, and whatever else is given for one is a typed error that says what is wrong."""

import random
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from procession import InvalidRequest, Limits, MessageTooLarge
from procession.host.core import archive as archives
from procession.host.core.archive import MAGIC, Archive, Made, decode_archive, encode_archive, names_code
from procession.host.core.moved_state import STAYS, check_state, moved
from procession.ipc.core.operations import StartBody
from procession.ipc.core.values import decode_value, encode_value

STATE = encode_value({"session": {"id": "old", "name": "work"}, "session_id": "old", "messages": ["hello"]})
SPEC = StartBody(restart="permanent", limits=Limits(cpu_s=3), sandbox="off", idle_timeout_s=4.0, partition="p")
ARCHIVE = Archive(Made(version="0.1.0", at=12.5), "id", "work", 3.25, "/there/project", 17, SPEC, STATE)
DATA = encode_archive(ARCHIVE)


def refused(data: bytes, code: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        decode_archive(data, "FILE")
    assert caught.value.code == code, caught.value
    assert caught.value.message.startswith("FILE: ")
    return caught.value.message


def test_it_reads_back_as_it_was_written() -> None:
    assert decode_archive(DATA, "FILE") == ARCHIVE
    full = ARCHIVE._replace(
        spec=StartBody(agent_code=b"\0" * 100, tools=b"t", responder=b"r", import_paths=("/a",), state=b"given"),
        state=b"",
    )
    assert decode_archive(encode_archive(full), "FILE") == full


def test_every_field_of_a_start_travels() -> None:
    """A field that a later release adds must too: what is left out would be lost without a word."""
    fields = {name: getattr(SPEC, name) for name in StartBody.__struct_fields__}
    assert set(archives._Spec.__struct_fields__) == set(fields)
    back = decode_archive(DATA, "FILE").spec
    assert type(back) is StartBody
    assert {name: getattr(back, name) for name in fields} == fields


@pytest.mark.parametrize("length", range(len(DATA)))
def test_one_that_was_cut_off_anywhere_is_refused(length: int) -> None:
    refused(DATA[:length], "not_an_archive" if length < len(MAGIC) + 2 else "archive_damaged")


def test_one_with_any_byte_changed_is_refused() -> None:
    for place in range(len(DATA)):
        for flip in (1, 0x80):
            data = bytearray(DATA)
            data[place] ^= flip
            with pytest.raises(InvalidRequest) as caught:
                decode_archive(bytes(data), "FILE")
            assert caught.value.code in ("not_an_archive", "archive_too_new", "archive_damaged")


def test_what_follows_its_end_is_damage() -> None:
    assert "3 bytes follow its end" in refused(DATA + b"abc", "archive_damaged")


def test_bytes_of_every_kind_are_refused_in_words() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        data = rng.randbytes(rng.randrange(80))
        for given in (data, DATA[: len(MAGIC) + 2] + data):
            with pytest.raises(InvalidRequest):
                decode_archive(given, "FILE")


def test_a_later_version_is_refused_by_name() -> None:
    later = MAGIC + (2).to_bytes(2, "little") + DATA[len(MAGIC) + 2 :]
    assert "it is of version 2, this procession reads versions up to 1" in refused(later, "archive_too_new")


def test_a_field_that_is_not_known_here_is_refused_by_name() -> None:
    spec = {"restart": "transient", "moon_phase": "full"}
    session = {"id": "i", "name": "n", "created_at": 0.0, "project": "/", "number": 0, "spec": spec}
    made = msgspec.msgpack.encode(ARCHIVE.made)
    head = DATA[: len(MAGIC) + 2] + archives._section(b"made", made)
    data = head + archives._section(b"sess", msgspec.msgpack.encode(session)) + archives._section(b"stat", STATE)
    assert "moon_phase" in refused(data, "archive_damaged")
    odd = head + archives._section(b"stat", STATE)
    assert "there should be the session" in refused(odd, "archive_damaged")


def test_what_is_too_large_is_refused_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    large = encode_archive(ARCHIVE._replace(state=b"\x80" * 5000))
    monkeypatch.setattr(archives, "STATE_BYTES_MAX", 4999)
    assert "over the limit of 4999" in refused(large, "archive_damaged")
    monkeypatch.setattr(archives, "PAYLOAD_BYTES_MAX", 5000)
    with pytest.raises(MessageTooLarge):
        encode_archive(ARCHIVE._replace(state=b"\x80" * 5000))


def test_what_would_run_code_is_named() -> None:
    assert names_code(SPEC) == ()
    for spec, word in (
        (StartBody(agent_code=b"x"), "by value"),
        (StartBody(agent="os:path"), "os:path"),
        (StartBody(responder=b"x"), "responder"),
        (StartBody(tools=b"x"), "tools"),
        (StartBody(import_paths=("/tmp",)), "import"),
        (StartBody(preload=("this",)), "preload"),
    ):
        assert len(names_code(spec)) == 1
        assert word in names_code(spec)[0]


# --- the state of the new session ---------------------------------------------------------------------------------------
AT = datetime(2026, 1, 2, tzinfo=UTC)


def test_the_record_is_made_true_of_the_new_session() -> None:
    after: Any = decode_value(moved(STATE, "FILE", ident="new", name="other", project="/here", at=AT))
    assert after["session_id"] == "new"
    assert after["messages"] == ["hello"]
    assert after["session"] == {
        "id": "new", "name": "other", "project_path": "/here", "connection_status": "disconnected", "created_at": AT,
        "updated_at": AT,
    }  # fmt: skip


@pytest.mark.parametrize("state", [b"", b"\xc1", b"\x91\x01", encode_value({}), encode_value({"session": 3})])
def test_what_is_no_code_session_s_state_is_refused(state: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^FILE: the state cannot be read") as caught:
        moved(state, "FILE", ident="new", name="other", project="/here", at=AT)
    assert caught.value.code == "archive_damaged"


def test_what_is_no_state_of_any_agent_is_refused() -> None:
    check_state(b"", "FILE")
    check_state(STATE, "FILE")
    for state in (b"\xc1", b"\x91\x01", STATE[:-1]):
        with pytest.raises(InvalidRequest):
            check_state(state, "FILE")


def test_jobs_and_a_finish_are_the_old_session_s() -> None:
    assert sorted(STAYS) == ["procession.finished", "procession.jobs"]
