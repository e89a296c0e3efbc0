"""A disk that is full, slow or damaged: who is told what, what goes on, and what is there afterwards."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cli import environment
from procession import Host, JournalCorrupt, Sandbox, Session, SessionNotRunning, StartFailed
from procession.host.storage.schema import places

pytestmark = pytest.mark.process

FULL = """
import json, os, subprocess, sys, time
from pathlib import Path
from procession import DiskFull, Host, Sandbox

place = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(place)], check=True)
told = {}
with Host(place / "data", sandbox=Sandbox.off()) as host:
    session, quiet = host.start_session(name="a"), host.start_session(name="quiet", durability="memory")
    kept = []
    def append(text):
        session.append_message("user", text)
        kept.append(text)
    for number in range(20):
        append(f"before {number}")
    filler = os.open(place / "filler", os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(filler, bytes(65536)):
            pass
    except OSError:
        pass
    os.close(filler)
    refused = []
    for number in range(2000):
        try:
            append(f"while {number} " + "x" * 4000)
        except DiskFull as error:
            refused.append(error)
            if len(refused) > 5:
                break
    again = 2 if refused[0].ran == "yes" else 1
    # Its process knew of a change that could not be kept, so another one takes over.
    while (session.status().phase, session.status().incarnation) != ("ready", again):
        time.sleep(0.01)  # payload: this is no test but what one looks at
    told["refused"] = [[error.ran, error.applied, error.session == session.id] for error in refused]
    told["echo"] = session.echo(b"x") == b"x"
    told["run"] = session.run(len, "abc")
    told["quiet"] = quiet.append_message("user", "in memory").content
    told["read"] = [m.content[:12] for m in session.get_messages()] == [text[:12] for text in kept]
    told["status"] = session.status().phase
    try:
        host.start_session(name="b")
        told["start"] = "started"
    except DiskFull:
        told["start"] = "DiskFull"
    os.unlink(place / "filler")
    began = time.monotonic()
    while True:
        try:
            append("after")
            break
        except DiskFull:
            if time.monotonic() - began > 30:
                raise
    told["resumed_s"] = time.monotonic() - began
    told["events"] = sorted({event.type for event in host.events() if event.type.startswith("storage")})
with Host(place / "data", sandbox=Sandbox.off()) as host:
    told["kept"] = [m.content for m in host.session("a").get_messages()] == kept
    told["caught_up"] = [m.content for m in host.session("quiet").get_messages()]
print(json.dumps(told))
"""


def in_own_mounts(code: str, place: Path) -> dict[str, object]:
    """Run a script where it may mount, and nobody else sees it; skips where nobody may."""
    unshare = shutil.which("unshare")
    flags = ["-m"] if os.geteuid() == 0 else ["-U", "-r", "-m"]
    if unshare is None or subprocess.run([unshare, *flags, "true"], check=False, capture_output=True).returncode:
        pytest.skip(
            "a full disk is a small one that the test mounts, and here it may not (no unshare, or no user namespaces)"
        )
    done = subprocess.run(
        [unshare, *flags, sys.executable, "-c", code, str(place)],
        env=environment(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.guarantee("R-62")
def test_a_full_disk_refuses_what_is_to_be_kept_and_nothing_that_was_acknowledged_is_lost(tmp_path: Path) -> None:
    told = in_own_mounts(FULL, tmp_path)
    refused = told["refused"]
    assert isinstance(refused, list)
    assert refused[1:] == [["no", None, True]] * 5  # the first may have run; its change is not there
    assert refused[0] in (["no", None, True], ["yes", False, True])
    assert (told["echo"], told["run"], told["quiet"], told["read"]) == (True, 3, "in memory", True)
    assert (told["status"], told["start"]) == ("ready", "DiskFull")
    resumed_s = told["resumed_s"]
    assert isinstance(resumed_s, float)
    assert resumed_s < 5
    assert told["kept"] is True
    assert told["caught_up"] == ["in memory"]


def damage(folder: Path, session: Session) -> None:
    """Turn over a bit in the middle of what is kept of a session's changes."""
    with sqlite3.connect(folder / "journal.db") as database:
        (key,) = database.execute("SELECT key FROM sessions WHERE id = ?", (session.id,)).fetchone()
        first, last = places(key)
        rows = database.execute(
            "SELECT place, data FROM journal WHERE place BETWEEN ? AND ? ORDER BY place", (first, last)
        ).fetchall()
        place, data = rows[len(rows) // 2]
        bad = bytearray(data)
        bad[len(bad) // 2] ^= 0x40
        database.execute("UPDATE journal SET data = ? WHERE place = ?", (bytes(bad), place))
    database.close()


@pytest.mark.guarantee("R-18")
@pytest.mark.guarantee("R-60")
def test_a_state_that_cannot_be_restored_is_a_failure_and_never_an_empty_session(folder: Path) -> None:
    with Host(folder, sandbox=Sandbox.off()) as host:
        session, other = host.start_session(name="damaged"), host.start_session(name="other")
        for number in range(40):
            session.append_message("user", f"message {number}")
            other.append_message("user", f"message {number}")
    damage(folder, session)
    with Host(folder, sandbox=Sandbox.off()) as host:
        session, other = host.session("damaged"), host.session("other")
        with pytest.raises(SessionNotRunning, match="cannot be restored"):
            session.append_message("user", "no")
        assert (session.status().phase, "does not have its checksum" in session.status().reason) == ("failed", True)
        with pytest.raises(JournalCorrupt):
            session.committed_state()
        with pytest.raises(StartFailed) as caught:
            host.resume_session("damaged")
        assert (caught.value.phase, caught.value.code) == ("restore", "journal_corrupt")
        assert len(other.get_messages()) == 40
    with Host(folder, sandbox=Sandbox.off()) as host:  # the data is kept, and so is the failure
        assert host.session("damaged").status().phase == "failed"
