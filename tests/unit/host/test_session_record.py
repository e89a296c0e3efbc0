"""What is kept of a session reads back as it was; what is none, or another's, is told by name; a newer host's is read, too."""

import msgspec
import pytest

from procession.host.core.session_record import TAIL_BYTES_MAX, SessionRecord, decode_session, encode_session, tail_of
from procession.ipc.core.errors import JournalCorrupt
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import StartBody
from procession.ipc.core.records import KillReceipt, OutputChunk, RunReport

RECORD = SessionRecord(
    id="s",
    name="work",
    created_at=12.5,
    spec=StartBody(project="/p", limits=Limits(memory="64M"), agent_code=b"\x80code", tools=b"t", restart="permanent"),
    phase="stopped",
    incarnation=4,
    restarts=2,
    last_report=RunReport(tool="session", exit_code=3, receipt=KillReceipt(found=2)),
    output=(OutputChunk(stream="stdout", data=b"\xff"),),
    tier="privileged",
    consented=("a", "b"),
    finished=("completed", b"\x01"),
)


def test_it_reads_back_as_it_was() -> None:
    assert decode_session("s", encode_session(RECORD)) == RECORD


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x80", encode_session(RECORD)[:-1], b"\xff" * 40])
def test_what_is_none_is_told(data: bytes) -> None:
    with pytest.raises(JournalCorrupt, match="session s cannot be read"):
        decode_session("s", data)


def test_one_of_another_session_is_told() -> None:
    with pytest.raises(JournalCorrupt, match="is that of s"):
        decode_session("t", encode_session(RECORD))


def test_a_field_of_a_newer_host_is_passed_over() -> None:
    fields = msgspec.msgpack.decode(encode_session(RECORD))
    fields["of_tomorrow"] = [1, 2]
    assert decode_session("s", msgspec.msgpack.encode(fields)) == RECORD


def test_of_the_output_the_end_is_kept() -> None:
    chunks = tuple(OutputChunk(stream="stdout", data=bytes([number]) * 4096) for number in range(8))
    assert tail_of(chunks) == chunks[-(TAIL_BYTES_MAX // 4096) :]
    assert tail_of((OutputChunk(stream="stdout", data=bytes(TAIL_BYTES_MAX + 1)),)) == ()
