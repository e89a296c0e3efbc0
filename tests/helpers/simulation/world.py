"""One simulated run: a host with some sessions, clients that ask, faults that come, and then the books.

faults  ──▶ sessions die at any point, zygotes die, hosts are killed, power is cut, disks are full, slow, or fail
clients ──▶ append, read, cast, fail, with short and long deadlines, with and without ids, at every durability
liveness ─▶ faults stop: within 60 s every call has its outcome and every session answers
checks  ──▶ history.py
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from helpers.simulation.engine import SimEngine
from helpers.simulation.history import UNSYNCED_S, Asked, Broken, Disaster, History, Told, is_over
from helpers.simulation.processes import POINTS, decoded
from helpers.simulation.virtual import Loop, SimReactor, Time, virtual
from procession.host.storage.memory_store import MemoryStore
from procession.ipc.core.backend import Request, Response
from procession.ipc.core.errors import HostLost, ProcessionError, SessionNotRunning
from procession.ipc.core.operations import OPERATIONS, ActBody, AskBody, Nothing, SignalBody, StartBody, StopBody
from procession.ipc.core.values import encode_value

LIVENESS_S = 60.0
ACTIVE_S = 2.0
RETRIES_MAX = 60


@dataclass
class Counts:
    """What a run came to."""

    calls: int = 0
    deaths: int = 0
    hosts: int = 0
    acknowledged: int = 0


class World:
    """See the module's text."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.time = Time(seed)
        self.random = self.time.random
        self.loop = Loop(self.time)
        self.store = MemoryStore()
        self.history = History()
        self.host = 0
        self.story: list[str] = []
        self.engine: SimEngine
        self.sessions: list[str] = []
        self.clients_busy = 0
        self._waiting: dict[int, Callable[[Any], None]] = {}
        self._next = 0
        self.calm = False

    def say(self, text: str) -> None:
        self.story.append(f"{self.time.now - 1000:8.4f} {text}")

    # --- the host -------------------------------------------------------------------------------------------
    def begin_host(self) -> None:
        self.host += 1
        self.store.sync_fails = False  # whoever starts a host anew has looked at the disk
        self.store.reopen()
        reactor = SimReactor(self.time)
        reactor.on_error = self._surprise
        self.loop.reactors = [reactor]
        self.engine = SimEngine(self.time, reactor, self.store, restore=self.random.choice(["lazy", "eager"]))
        self.say(f"host {self.host} begins")

    def _surprise(self, problem: BaseException, where: str) -> None:
        raise problem

    def host_ends(self, kind: str) -> None:
        """The host is killed, or the power is cut; the next one begins a moment later."""
        self.say(f"host {self.host}: {kind}")
        engine = self.engine
        self.history.deaths += engine.zygotes.deaths + len(engine.zygotes.alive)
        self.history.runs += engine.zygotes.runs
        engine.is_killed()
        self.history.disasters.append(Disaster(self.time.now, kind, self.host))
        if kind == "power":
            self.store.crash(self.random)
        lost, self._waiting = self._waiting, {}
        self.begin_host()
        for tell in lost.values():
            tell(HostLost("the host is gone"))

    def submit(self, request: Request, told: Callable[[Any], None]) -> None:
        """Make a call as a client would: its outcome comes once, or it is HostLost with its host."""
        self._next += 1
        number, host = self._next, self.host
        self._waiting[number] = told

        def done(outcome: Any) -> None:
            if host != self.host:
                return  # of a host that is gone: nobody hears it
            waiting = self._waiting.pop(number, None)
            if waiting is None:
                raise Broken(f"a second outcome of {request.op.name} {request.call_id}: {outcome!r} (law 1)")
            waiting(outcome)

        self.engine.submit(request, done)

    # --- sessions -------------------------------------------------------------------------------------------
    def start_sessions(self, count: int) -> None:
        state = encode_value({"items": []})
        for number in range(count):
            ident = f"{number:08x}-0000-4000-8000-000000000000"
            durability = self.random.choice(["", "", "sync", "memory"])
            body = StartBody(id=ident, name=f"s{number}", state=state, restart="permanent", durability=durability)
            outcome: list[Any] = []
            self.submit(Request(OPERATIONS["start_session"], "", body, timeout_s=30.0), outcome.append)
            self.loop.run_until(self.time.now + 30.0, lambda outcome=outcome: bool(outcome))  # type: ignore[misc]
            assert isinstance(outcome[0], Response), f"a session did not start: {outcome[0]!r}"
            self.sessions.append(ident)
        self.loop.run_until(
            self.time.now + UNSYNCED_S
        )  # their starts are on disk: what follows is about what they are told

    # --- clients --------------------------------------------------------------------------------------------
    def client(self, number: int, steps: int) -> None:
        """Let one client ask for one thing after the other."""
        if steps == 0:
            self.clients_busy -= 1
            return
        self.time.after(self.random.random() * ACTIVE_S / 12, partial(self._ask, number, steps))

    def _ask(self, number: int, steps: int) -> None:
        rng = self.random
        kind = rng.choices(["append", "read", "cast", "fail", "poison"], [60, 15, 15, 8, 1])[0]
        text = f"{kind}-{number}-{steps}"
        asked = Asked(
            kind="cast" if kind == "poison" else kind,
            text=text,
            session=rng.choice(self.sessions),
            client=number,
            durability=rng.choice(["memory", "batch", "batch", "sync"]),
            call_id=text if kind in ("append", "fail") and rng.random() < 0.6 else "",
            at=self.time.now,
        )
        self.history.asked.append(asked)
        self._attempt(asked, rng.choice([5.0, 5.0, 30.0, 0.01]), lambda: self.client(number, steps - 1))

    def _attempt(self, asked: Asked, timeout_s: float, then: Callable[[], None]) -> None:
        asked.attempts += 1

        def told(outcome: Any) -> None:
            self.history.tell(asked, Told(self.time.now, outcome, self.host))
            if asked.kind == "read" and isinstance(outcome, Response):
                asked.read = list(decoded(outcome.payload or b"\x90"))
            error = outcome if isinstance(outcome, ProcessionError) else None
            again = error is not None and bool(asked.call_id) and not is_over(error) and asked.attempts < RETRIES_MAX
            if again:
                self.time.after(0.01 + self.random.random() * 0.2, lambda: self._attempt(asked, 30.0, then))
            else:
                then()

        self.submit(self._request(asked, timeout_s), told)

    def _request(self, asked: Asked, timeout_s: float) -> Request:
        if asked.kind == "cast":
            body = SignalBody(wait=False, type="text")
            return Request(
                OPERATIONS["signal"], asked.session, body, asked.text.encode(), timeout_s, durability=asked.durability
            )
        if asked.kind == "read":
            return Request(OPERATIONS["ask"], asked.session, AskBody(query="items"), encode_value({}), timeout_s)
        payload = encode_value({"text": asked.text})
        return Request(
            OPERATIONS["act"],
            asked.session,
            ActBody(action=asked.kind),
            payload,
            timeout_s,
            call_id=asked.call_id,
            durability=asked.durability,
        )

    # --- faults ---------------------------------------------------------------------------------------------
    def faults(self, count: int) -> None:
        kinds = {
            self._session_dies: 10,
            self._keeper_is_lost: 2,
            self._zygote_dies: 2,
            self._host_is_killed: 2,
            self._power_is_cut: 1,
            self._disk_is_full: 2,
            self._disk_is_slow: 2,
            self._sync_fails: 1,
            self._verb: 3,
        }
        for _ in range(count):
            fault = self.random.choices(list(kinds), list(kinds.values()))[0]
            self.time.after(self.random.random() * ACTIVE_S, partial(self._strike, fault))

    def _strike(self, fault: Callable[[], None]) -> None:
        if not self.calm:
            fault()

    def _session_dies(self) -> None:
        alive = list(self.engine.zygotes.alive.values())
        if alive:
            victim = self.random.choice(alive)
            point = self.random.choice([*POINTS, "now", "after_bootstrap", "before_ready"])
            self.say(f"session process {victim.pid} dies at {point}")
            if point == "now":
                victim.die()
            else:
                victim.dies_at = point

    def _keeper_is_lost(self) -> None:
        alive = list(self.engine.zygotes.alive.values())
        if alive:
            victim = self.random.choice(alive)
            self.say(f"session process {victim.pid} is lost with its keeper")
            victim.die("")

    def _zygote_dies(self) -> None:
        self.say("the zygote dies")
        self.engine.zygotes.zygote_dies()

    def _host_is_killed(self) -> None:
        self.host_ends("kill")

    def _power_is_cut(self) -> None:
        self.host_ends("power")

    def _disk_is_full(self) -> None:
        self.say("the disk is full")
        self.store.is_full = True
        self.time.after(self.random.random() * 2, self._disk_has_room)

    def _disk_has_room(self) -> None:
        self.store.is_full = False

    def _disk_is_slow(self) -> None:
        self.say("the disk is slow")
        self.engine.disk_s = self.random.choice([0.02, 0.3])

    def _sync_fails(self) -> None:
        """After which nothing may be acknowledged as kept; somebody changes the disk and starts the host anew."""
        self.say("a sync fails")
        self.history.sync_failures.append(self.time.now)
        self.store.sync_fails = True
        self.time.after(0.5 + self.random.random(), self._disk_is_changed)

    def _disk_is_changed(self) -> None:
        self.store.sync_fails = False
        self.host_ends("power")

    def _verb(self) -> None:
        """Somebody kills, restarts, or stops and resumes a session."""
        session = self.random.choice(self.sessions)
        name = self.random.choice(["kill_session", "restart_session", "stop_session"])
        self.say(f"{name} {session[:8]}")
        body = StopBody(grace_s=0.1) if name == "stop_session" else Nothing()

        def over(_: Any) -> None:
            if name == "stop_session":
                self.time.after(self.random.random() * 0.1, partial(self._bring_back, session))

        self.submit(Request(OPERATIONS[name], session, body, timeout_s=30.0), over)

    def _bring_back(self, session: str) -> None:
        self.submit(Request(OPERATIONS["resume_session"], session, Nothing(), timeout_s=30.0), lambda _: None)

    # --- the run --------------------------------------------------------------------------------------------
    def play(self) -> Counts:
        """Run it; raises Broken with the story when a law does not hold."""
        with virtual(self.time):
            try:
                return self._play()
            except BaseException as problem:
                problem.add_note("\n".join(self.story[-40:]))
                raise
            finally:
                self.engine.is_killed()

    def _play(self) -> Counts:
        rng = self.random
        self.begin_host()
        self.start_sessions(rng.randint(1, 3))
        clients = rng.randint(1, 6)
        self.clients_busy = clients
        for number in range(clients):
            self.client(number, rng.randint(2, 8))
        self.engine.zygotes.refuses = rng.choice([0.0, 0.0, 0.1])
        self.faults(rng.randint(0, 10))
        self.loop.run_until(self.time.now + ACTIVE_S)
        self._calm_down()
        final = self._settled()
        self.history.deaths += self.engine.zygotes.deaths
        self.history.runs += self.engine.zygotes.runs
        aside = {session: self._aside(session) for session in self.sessions}
        self.history.check(final, aside)
        return Counts(
            calls=sum(asked.attempts for asked in self.history.asked),
            deaths=self.history.deaths,
            hosts=self.host,
            acknowledged=sum(asked.acknowledged is not None for asked in self.history.asked),
        )

    def _calm_down(self) -> None:
        self.say("faults stop")
        self.calm = True
        self.store.is_full = False
        self.engine.zygotes.refuses = 0.0
        self.engine.disk_s = 0.0005
        for process in self.engine.zygotes.alive.values():
            process.dies_at = ""

    def _settled(self) -> dict[str, list[str]]:
        """Wait until every client is done and every session has nothing left to do; return what each has."""
        until = self.time.now + LIVENESS_S
        self.loop.run_until(until, lambda: not self.clients_busy and not self._waiting)
        if self.clients_busy or self._waiting:
            raise Broken(f"{len(self._waiting)} calls have no outcome {LIVENESS_S:g} s after the last fault (liveness)")
        return {session: self._state_of(session) for session in self.sessions}

    def _state_of(self, session: str) -> list[str]:
        """Have a session answer, whatever became of it; what it says must be what is kept of it."""
        until = self.time.now + LIVENESS_S
        while True:
            answer: list[Any] = []
            ask = Request(OPERATIONS["ask"], session, AskBody(query="items"), encode_value({}), 5.0)
            self.submit(ask, answer.append)
            self.loop.run_until(self.time.now + 10.0, lambda answer=answer: bool(answer))  # type: ignore[misc]
            if answer and isinstance(answer[0], Response):
                actor = self.engine.registry.find(session)
                if not actor.casts.pending and not actor.calls.open:
                    break
            if self.time.now > until:
                raise Broken(f"{session[:8]} does not answer: {answer} {self.engine.registry.find(session).status()}")
            if answer and isinstance(answer[0], SessionNotRunning):
                self.submit(Request(OPERATIONS["restart_session"], session, Nothing(), timeout_s=30.0), lambda _: None)
            self.loop.run_until(self.time.now + 0.5)
        said = list(decoded(answer[0].payload))
        kept = self.engine.registry.find(session).keeping.state()
        assert kept is not None
        if list(decoded(kept)["items"]) != said:
            raise Broken(f"{session[:8]} says {said}, and {decoded(kept)['items']} is kept")
        return said

    def _aside(self, session: str) -> list[str]:
        book = self.engine.registry.find(session).casts._book
        return [cast.signal.decode() for cast in book.aside]
