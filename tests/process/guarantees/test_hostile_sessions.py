"""R-44, R-45, R-46, R-47, R-53: what a session may send is a closed language; anything else ends that session alone.

A compromised session process is played by writing into the pipe that its answers come by (the host's own descriptor of
it, opened anew for writing).
"""

import os
import pickle
import random
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from helpers.hosts import EventWatch, StartSession, backend_of, count_of, pid_of
from procession import Host, MessageTooLarge, ProcessionError, Session, ToolResultInvalid
from procession.host.engine import Engine
from procession.ipc.core import frames
from procession.ipc.core.errors import ErrorData
from procession.ipc.core.messages import Credit, Failed, Notice, Ready, Reply, StreamChunk, encode

pytestmark = pytest.mark.process

MiB = 1024 * 1024


class Bomb:
    """What unpickling would run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.mark), "w")


def engine_of(host: Host) -> Engine:
    engine = backend_of(host)
    assert isinstance(engine, Engine)
    return engine


def send_as_the_session(host: Host, session: Session, data: bytes) -> None:
    """Write bytes where the session's answers come from."""
    process = engine_of(host).registry.find(session.id).process
    assert process is not None
    fd = os.open(f"/proc/self/fd/{process.fds.mail_r}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


def hostile(kind: str, mark: Path) -> bytes:
    inc = 1
    return {
        "garbage": bytes(random.Random(44).randbytes(4096)),
        "a pickle as a message": frames.encode(pickle.dumps(Bomb(mark))),
        "a pickle as a frame": pickle.dumps(Bomb(mark)),
        "an unknown kind": frames.encode(msgspec.msgpack.encode([99, inc, 1])),
        "a command of the host's": frames.encode(msgspec.msgpack.encode([2, inc, 1, "run", 1.0, None, None])),
        "a million nested arrays": frames.encode(nested(200_000)),
        "a reply to a call never made": frames.encode(encode(Reply(inc, 4_000_000))),
        "a failure of a call never made": frames.encode(
            msgspec.msgpack.encode([22, inc, 4_000_000, {"kind": "x", "message": "y"}])
        ),
        "a second greeting": frames.encode(encode(Ready(1, inc, 1))),
        "a stream never opened": frames.encode(encode(StreamChunk(inc, 1, 1, b"x"))),
        "a frame over the limit": (frames.FRAME_BYTES_MAX + 1).to_bytes(4, "little"),
        "a chunked control message": (0xC000_0001).to_bytes(4, "little") + b"x",
        "an error of a type by name": frames.encode(
            msgspec.msgpack.encode([22, inc, 4_000_001, {"kind": "os.system", "message": f"touch {mark}"}])
        ),
    }[kind]


KINDS = [
    "garbage",
    "a pickle as a message",
    "a pickle as a frame",
    "an unknown kind",
    "a command of the host's",
    "a million nested arrays",
    "a reply to a call never made",
    "a failure of a call never made",
    "a second greeting",
    "a stream never opened",
    "a frame over the limit",
    "a chunked control message",
    "an error of a type by name",
]


@pytest.mark.guarantee("R-44")
@pytest.mark.parametrize("kind", KINDS)
def test_a_breach_ends_that_session_alone(
    host: Host, start: StartSession, events: EventWatch, tmp_path: Path, kind: str
) -> None:
    bad, good = start(), start()
    before = bad.status()
    mark = tmp_path / "executed"
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    send_as_the_session(host, bad, hostile(kind, mark))
    events.wait("session.breach", bad)
    events.wait("session.ready", bad, count=2)
    after = bad.status()
    assert after.incarnation == before.incarnation + 1
    assert bad.run(len, (1, 2)) == 2
    assert good.status().incarnation == 1
    assert not mark.exists()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss) * 1024 <= 32 * MiB
    assert events.of("host.bug") == []


@pytest.mark.guarantee("R-53")
def test_a_message_of_another_incarnation_is_dropped(host: Host, session: Session) -> None:
    old = Failed(7, 1, _some_error())
    send_as_the_session(host, session, frames.encode(encode(old)))
    assert session.run(len, (1,)) == 1
    assert session.status().incarnation == 1


def _some_error() -> ErrorData:
    return ErrorData(kind="SessionDied", message="late")


@pytest.mark.guarantee("R-44")
def test_a_flood_of_notices_is_thinned_not_believed(host: Host, start: StartSession, events: EventWatch) -> None:
    flooder, sibling = start(), start()
    note = frames.encode(encode(Notice(1, "x" * 500, "y" * 3_000)))
    for _ in range(300):
        try:
            send_as_the_session(host, flooder, note)
        except BlockingIOError:  # its pipe is full: at most PIPE_BUF bytes are written whole or not at all
            sibling.ping()
    sibling.run(len, ())
    notices = events.of("session.notice", flooder)
    assert len(notices) <= 800
    assert all(len(str(seen.event.data)) < 2_000 for seen in notices)


@pytest.mark.guarantee("R-44")
def test_forged_credit_buys_nothing(host: Host, session: Session) -> None:
    send_as_the_session(host, session, frames.encode(encode(Credit(1, 1 << 60)), control=True))
    assert session.run(len, b"x" * 100_000) == 100_000


# --- R-45 -------------------------------------------------------------------------------------------------------------
def hold_the_mailbox() -> str:
    """Look for any descriptor that is not one of the standard three or the run's own pipe."""
    import os

    return " ".join(sorted(fd for fd in os.listdir("/proc/self/fd") if int(fd) > 2))


@pytest.mark.guarantee("R-45")
def test_a_tool_has_none_of_the_sessions_descriptors(session: Session) -> None:
    open_fds = session.run(hold_the_mailbox).split()
    assert len(open_fds) <= 2, open_fds  # the run's result pipe, and the folder that is being listed


@pytest.mark.guarantee("R-45")
def test_a_tool_that_outlives_its_session_delays_nothing(start: StartSession, events: EventWatch) -> None:
    session = start()
    process = session.start(["sleep", "600"])
    assert process.status().running
    pid = pid_of(session)
    begun = time.monotonic()
    os.kill(pid, 9)
    seen = events.wait("session.ended", session)
    assert seen.at - begun <= 0.020 * 10
    assert seen.event.data["left"] == 0


# --- R-46 -------------------------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-46")
def test_a_gibibyte_of_output_is_counted_to_the_byte(session: Session, soak_factor: int) -> None:
    total = (1024 if soak_factor > 1 else 128) * MiB
    done = session.exec(f"head -c {total} /dev/zero", timeout=60)
    assert done.exit_code == 0
    assert len(done.stdout) + done.stdout_dropped == total
    assert len(done.stdout) == MiB


@pytest.mark.guarantee("R-46")
def test_a_flood_does_not_keep_the_session_from_answering(session: Session) -> None:
    quiet = statistics.median(session.ping() for _ in range(30))
    flood = session.submit(lambda: [print("x" * 1000) for _ in range(100_000)] and None, timeout=60)
    pings = []
    while not flood.done():
        pings.append(session.ping())
    assert flood.exception(60) is None
    assert statistics.median(pings) <= max(quiet * 30, 0.1)


@pytest.mark.guarantee("R-46")
@pytest.mark.parametrize("data", [b"\0" * 5000, b"\xff\xfe\xfd" * 900, b"no newline", b"\x1b[2J\x07" * 50, b""])
def test_any_bytes_are_captured_as_they_are(session: Session, data: bytes) -> None:
    done = session.exec(["cat"], input=data)
    assert done.stdout == data
    assert done.stdout_dropped == 0


# --- R-47 -------------------------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-47")
def test_an_argument_over_the_limit_is_refused_before_it_is_sent(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("procession.api.travel.PAYLOAD_BYTES_MAX", 1 * MiB)
    with pytest.raises(MessageTooLarge) as caught:
        session.run(len, b"x" * (2 * MiB))
    assert caught.value.ran == "no"
    assert session.run(len, b"x") == 1


@pytest.mark.guarantee("R-47")
def test_a_result_over_the_limit_is_the_tools_error(session: Session) -> None:
    with pytest.raises(ToolResultInvalid) as caught:
        session.run(lambda: b"x" * (257 * MiB), timeout=60)
    assert caught.value.code == "too_large"
    assert session.run(len, b"x") == 1


def test_every_answer_of_a_long_mixed_day_is_the_right_one(session: Session, soak_factor: int) -> None:
    rng = random.Random(7)
    for _ in range(count_of(500, soak_factor)):
        size = rng.choice([0, 1, 31, 1000, 32_768, 32_769, 300_000])
        data = rng.randbytes(size)
        try:
            assert session.echo(data) == data
        except ProcessionError as error:
            pytest.fail(f"an echo of {size} bytes: {error}")
