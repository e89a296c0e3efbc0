"""Everything is killed at random, again and again, while several programs write: nothing acknowledged is lost, or doubled.

The writers give each call an id and ask again under it until it is acknowledged, as an application would. `make soak` kills
500 times.
"""

import os
import random
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from helpers.host_program import HostProgram
from helpers.hosts import count_of
from helpers.proc import look_at
from procession import Host, HostLost, ProcessionError, SessionDied, SessionNotRunning
from procession.api.demo.survival import Survival

pytestmark = [pytest.mark.process, pytest.mark.slow]

SESSIONS, WRITERS = 3, 2
MESSAGES_A_KILL = 8
KILLS_A_PLAY = 20
VICTIMS = ("session", "session", "session", "zygote", "host")
CALL_S = 30.0


class Play:
    """One play: writers, a killer, and the books of both."""

    def __init__(self, program: HostProgram, seed: int) -> None:
        self.program = program
        self.random = random.Random(seed)
        self.lock = threading.Condition()
        self.host: Host = program.up()
        self.generation = 0
        self.acknowledged: dict[str, list[str]] = {}
        self.killed: Counter[str] = Counter()
        self.outcomes = 0
        self.over = False
        self.ids = [self.host.start_session(name=f"s{number}").id for number in range(SESSIONS)]

    def write(self, session: str, writer: str, count: int) -> None:
        books = self.acknowledged[writer] = []
        for number in range(count):
            text = f"{writer}-{number}"
            while not self.try_once(session, text):
                pass
            with self.lock:
                books.append(text)
                self.lock.notify_all()

    def try_once(self, session: str, text: str) -> bool:
        with self.lock:
            host, generation = self.host, self.generation
        try:
            host.session(session).using(call_id=text).append_message("user", text, timeout=CALL_S)
        except HostLost:
            self.outcomes += 1
            self.next_host(generation)
            return False
        except (SessionDied, SessionNotRunning):
            self.outcomes += 1
            return False
        self.outcomes += 1
        return True

    def next_host(self, lost: int) -> None:
        """Start the next host, if nobody has since."""
        with self.lock:
            if self.generation == lost:
                self.host.close()
                self.program.close()
                self.host = self.program.up()
                self.generation += 1

    def kill_at(self, marks: list[int]) -> None:
        for mark in marks:
            with self.lock:
                self.lock.wait_for(lambda mark=mark: self.over or self.written >= mark)  # type: ignore[misc]
                if self.over:
                    return
                host = self.host
            self.kill(host, self.random.choice(VICTIMS), self.random.choice(self.ids))

    @property
    def written(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def kill(self, host: Host, victim: str, session: str) -> None:
        try:
            status = host.session(session).status()
        except ProcessionError:
            return
        pid = host.pid if victim == "host" else status.pid
        if victim == "zygote":
            keeper = look_at(status.keeper_pid) if status.keeper_pid else None
            pid = keeper.parent if keeper else None
        if not pid or pid == 1:
            return
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            self.killed[victim] += 1
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)

    def run(self) -> None:
        count = KILLS_A_PLAY * MESSAGES_A_KILL // (SESSIONS * WRITERS) + 1
        total = count * SESSIONS * WRITERS
        marks = sorted(self.random.randrange(1, total) for _ in range(KILLS_A_PLAY))
        killer = threading.Thread(target=self.kill_at, args=(marks,))
        writers = [
            threading.Thread(target=self.write, args=(session, f"{session[:4]}-{writer}", count))
            for session in self.ids
            for writer in range(WRITERS)
        ]
        for thread in [killer, *writers]:
            thread.start()
        for thread in writers:
            thread.join(120)
            assert not thread.is_alive(), "a call never ended"
        with self.lock:
            self.over = True
            self.lock.notify_all()
        killer.join()

    def check(self) -> None:
        """Compare what was acknowledged with what a further host finds."""
        self.host.close()
        self.program.close()
        with self.program.up() as host:
            for session in self.ids:
                found = [str(message.content) for message in host.session(session).get_messages(timeout=CALL_S)]
                assert [text for text, times in Counter(found).items() if times > 1] == [], "doubled"
                for writer, books in self.acknowledged.items():
                    if writer.startswith(session[:4]):
                        assert [text for text in found if text.startswith(writer + "-")] == books, (
                            "lost, or out of order"
                        )


@pytest.mark.guarantee("R-02")
@pytest.mark.guarantee("R-29")
@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_or_doubled_whatever_is_killed(tmp_path: Path, soak_factor: int) -> None:
    killed: Counter[str] = Counter()
    outcomes = 0
    wanted = count_of(500, soak_factor)
    for seed in range(10 * wanted // KILLS_A_PLAY):
        folder = tmp_path / str(seed)
        folder.mkdir(mode=0o700)
        program = HostProgram(folder)
        play = Play(program, seed)
        try:
            play.run()
            play.check()
        finally:
            play.host.close()
            program.close()
        killed += play.killed
        outcomes += play.outcomes
        if killed.total() >= wanted:
            break
    print(f"killed {dict(killed)}: {outcomes} calls, each with one outcome; 0 acknowledged lost, 0 doubled")
    assert killed.total() >= wanted


def test_the_case_of_the_demo_counts_what_it_finds(tmp_path: Path) -> None:
    tally = Survival(tmp_path / "data", messages=40, kills={"session": 2, "zygote": 1, "host": 1}, seed=3).play()
    assert (len(tally.acknowledged), tally.lost, tally.doubled, tally.is_ordered) == (40, [], [], True)
    assert tally.killed["host"] >= 1
