"""Which actions a signal runs, and in which order. A table made once; looking up changes nothing.

    Router([Route("order.paid", "ship"), Route("order.**", "log", priority=-10)]).instructions(signal)

It is *not* who delivers signals. Rules: every route that matches runs; a more exact pattern comes before a less exact one,
then the higher priority, then the one that was there first. So specificity beats priority. A lookup costs the routes of
the exact type plus one match for each route with a wildcard; routes and segments are bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from procession.agent_proc.agent.instructions import ACTION_CHARS_MAX, Instruction
from procession.agent_proc.agent.patterns import ANY, ONE, Pattern, parse_pattern
from procession.agent_proc.agent.signals import Signal
from procession.agent_proc.agent.texts import check_map, check_text, near, shown
from procession.ipc.core.errors import AgentError, InvalidRequest
from procession.ipc.core.state_ops import Value

ROUTES_MAX: Final = 1_000
"""An agent with more has its routes made by a program: one pattern and a parameter would do."""
PRIORITY_MAX: Final = 100

Owner = Literal["strategy", "agent", "skill"]
DEFAULT_PRIORITIES: Final[Mapping[Owner, int]] = {"strategy": 50, "agent": 0, "skill": -10}
"""Of a route that names none, by whose it is."""

Condition = Callable[[Signal], bool]


@dataclass(frozen=True, slots=True)
class Route:
    """A pattern and the action it leads to. Raises InvalidRequest, code invalid_pattern or invalid_route.

    priority: -100 to 100, None for the default of its owner. when: a pure function that says whether this signal is meant;
    it is tried once on a made-up signal here, so it must not take for granted what the data hold. parameters: given to
    the action besides the signal's data, and stronger than these.
    """

    pattern: str
    action: str
    priority: int | None = None
    when: Condition | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pattern = parse_pattern(self.pattern)
        check_text(self.action, "the action of a route", code="invalid_route", chars_max=ACTION_CHARS_MAX)
        check_map(self.parameters, f"the parameters of the route {self.pattern}", code="invalid_route")
        priority = self.priority
        if priority is not None and (type(priority) is not int or abs(priority) > PRIORITY_MAX):
            raise InvalidRequest(
                f"the priority of the route {self.pattern} must be an int from -{PRIORITY_MAX} to {PRIORITY_MAX}, "
                f"not {shown(priority)}",
                code="invalid_route",
            )
        if self.when is not None:
            _probe(self.when, pattern)


def _probe(when: Condition, pattern: Pattern) -> None:
    words = ["any" if segment in (ONE, ANY) else segment for segment in pattern.segments]
    sample = Signal(id="probe", source="/procession/probe", type=".".join(words), data={})
    try:
        answer: object = when(sample)
    except BaseException as error:  # SystemExit too: it is asked, and nothing else
        raise InvalidRequest(
            f"the match function of the route {pattern.text} raised {type(error).__name__} on a signal without data",
            code="invalid_route",
            hint="it must answer for every signal: use signal.data.get(...), and check what the data are",
        ) from error
    if type(answer) is not bool:
        raise InvalidRequest(
            f"the match function of the route {pattern.text} must return a bool, not {shown(answer)}",
            code="invalid_route",
        )


class Router:
    """See the module's text. Raises InvalidRequest, code invalid_route, for more than ROUTES_MAX routes."""

    __slots__ = ("_exact", "_wild", "routes")

    def __init__(self, routes: Iterable[Route]) -> None:
        given = list(routes)
        if len(given) > ROUTES_MAX:
            raise InvalidRequest(f"{len(given)} routes, at most {ROUTES_MAX} are allowed", code="invalid_route")
        default = DEFAULT_PRIORITIES["agent"]
        parsed = [(parse_pattern(route.pattern), route) for route in given]
        parsed.sort(  # stable, so that the first stays first
            key=lambda one: (one[0].specificity, default if one[1].priority is None else one[1].priority), reverse=True
        )
        self.routes: tuple[Route, ...] = tuple(route for _, route in parsed)
        self._wild = tuple((pattern, route) for pattern, route in parsed if not pattern.is_exact)
        self._exact: dict[str, tuple[Route, ...]] = {}
        for pattern, route in parsed:
            if pattern.is_exact:
                self._exact[pattern.text] = (*self._exact.get(pattern.text, ()), route)

    def matching(self, signal: Signal) -> tuple[Route, ...]:
        """Return the routes that `signal` takes, in order. Raises AgentError when a match function fails."""
        found = self._exact.get(signal.type, ())  # an exact pattern is more specific than any other that matches
        if self._wild:
            found += tuple(route for pattern, route in self._wild if pattern.matches(signal.type))
        return tuple(route for route in found if route.when is None or _applies(route, route.when, signal))

    def instructions(self, signal: Signal) -> tuple[Instruction, ...]:
        """Return what `signal` makes the agent do, in order.

        Raises InvalidRequest: code no_route when nothing matches, code invalid_signal_data when its data are no parameters.
        """
        routes = self.matching(signal)
        if not routes:
            raise InvalidRequest(
                f"no action takes a signal of type {signal.type}",
                code="no_route",
                hint=near(signal.type, (route.pattern for route in self.routes)),
            )
        return tuple(Instruction(route.action, {**_data(signal), **route.parameters}) for route in routes)


def _applies(route: Route, when: Condition, signal: Signal) -> bool:
    try:
        answer: object = when(signal)
    except BaseException as error:  # SystemExit too: it is asked, and nothing else
        raise AgentError(
            f"the match function of the route {route.pattern} raised {type(error).__name__}: {error}",
            code="match_failed",
            exception_type=type(error).__name__,
        ) from error
    if type(answer) is not bool:
        raise AgentError(
            f"the match function of the route {route.pattern} returned {shown(answer)}, not a bool", code="match_failed"
        )
    return answer


def _data(signal: Signal) -> dict[str, Value]:
    if signal.data is None:
        return {}
    if type(signal.data) is dict and all(type(name) is str for name in signal.data):
        return signal.data
    raise InvalidRequest(
        f"the data of a signal that runs an action are its parameters, a mapping by name, not {shown(signal.data)}",
        code="invalid_signal_data",
        hint='wrap the value, as in {"value": ...}',
    )
