"""Whose child a session is: the ties between sessions, and what follows when one of them is gone. One immutable value.

    join, adopt ──▶ Tie(parent, tag, child, on_parent_death)
    ready(child)    the parent is told, at every start of it
    gone(child)     the parent is told, and the tie is no more
    gone(parent)    of each child by its rule: stop it, or let it go on without a parent, told or untold

It is *not* what carries any of that out (host/families.py), and knows no process: a tie is between sessions, so that a
crash and a restart of either end leave it. Rules: a session has at most one parent and is never above itself; a tag
names one child of its parent; a parent that is gone is told nothing any more. A refusal changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias, assert_never

from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.names import NAME_CHARS_MAX, characters

CHILDREN_MAX: Final = 64
"""Of one session. Each is a process: more is a pool's business."""
GENERATIONS_MAX: Final = 8
"""Sessions in one line, the first one included: a delegation that goes deeper has lost its way."""
TAG_CHARS_MAX: Final = 64
"""As `agent/` allows; what a session sends is checked here once more."""

OrphanRule = Literal["stop", "continue", "emit_orphan"]
ORPHAN_RULES: Final[tuple[OrphanRule, ...]] = ("stop", "continue", "emit_orphan")
How = Literal["stopped", "killed", "failed", "start_failed"]
"""In which way a session came to its end."""


@dataclass(frozen=True, slots=True)
class Tie:
    """A child of a parent. meta: what the parent wants to see again in signals about it, encoded."""

    parent: str
    tag: str
    child: str
    meta: bytes = b""
    on_parent_death: OrphanRule = "stop"


@dataclass(frozen=True, slots=True)
class Started:
    """Tell the parent that its child is there, as this incarnation."""

    tie: Tie
    incarnation: int


@dataclass(frozen=True, slots=True)
class Exited:
    """Tell the parent that it has this child no more."""

    tie: Tie
    how: How
    reason: str


@dataclass(frozen=True, slots=True)
class Orphaned:
    """Tell a session that its parent is gone."""

    tie: Tie
    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """End a session whose parent is gone, for good. gently: as the parent ended, with time to finish."""

    tie: Tie
    reason: str
    gently: bool


Action: TypeAlias = Started | Exited | Orphaned | End


@dataclass(frozen=True, slots=True)
class Family:
    """See the module's text. ties: by the child's id. former_parents: of sessions that went on without theirs."""

    ties: Mapping[str, Tie] = field(default_factory=dict)
    former_parents: Mapping[str, str] = field(default_factory=dict)

    # -- looking ---------------------------------------------------------------------------------------------
    def parent_of(self, session: str) -> str | None:
        """Return the id of a session's parent."""
        tie = self.ties.get(session)
        return None if tie is None else tie.parent

    def children_of(self, session: str) -> list[Tie]:
        """List the ties to a session's children, oldest first."""
        return [tie for tie in self.ties.values() if tie.parent == session]

    def child(self, session: str, tag: str) -> Tie | None:
        """Return the tie to the child with this tag."""
        return next((tie for tie in self.ties.values() if tie.parent == session and tie.tag == tag), None)

    def above(self, session: str) -> list[str]:
        """List the ids of a session's parent, its parent's parent, and so on."""
        found: list[str] = []
        at = self.parent_of(session)
        while at is not None:
            found.append(at)
            at = self.parent_of(at)
        return found

    def generations(self, session: str) -> int:
        """Count the generations from a session downwards, itself included."""
        return 1 + max((self.generations(tie.child) for tie in self.children_of(session)), default=0)

    # -- becoming a child ------------------------------------------------------------------------------------
    def check(self, parent: str, tag: str, *, generations: int = 1) -> None:
        """Refuse a new child of `parent`, of so many generations, that it cannot have.

        Raises InvalidRequest: invalid_tag, tag_in_use, too_many_children, family_too_deep.
        """
        if not 0 < len(tag) <= TAG_CHARS_MAX:
            raise InvalidRequest(f"a tag has 1 to {TAG_CHARS_MAX} characters, not {len(tag)}", code="invalid_tag")
        if self.child(parent, tag) is not None:
            raise InvalidRequest(
                f"this session has a child {tag!r} already",
                code="tag_in_use",
                hint="use another tag, or stop that child",
            )
        if len(self.children_of(parent)) >= CHILDREN_MAX:
            raise InvalidRequest(f"a session has at most {CHILDREN_MAX} children", code="too_many_children")
        if len(self.above(parent)) + 1 + generations > GENERATIONS_MAX:
            raise InvalidRequest(
                f"a family has at most {GENERATIONS_MAX} generations, the first one included", code="family_too_deep"
            )

    def join(self, tie: Tie) -> Family:
        """Return the family with a session that was started as a child. Raises as `check`."""
        assert tie.child not in self.ties, "a session that was just made has no parent"
        self.check(tie.parent, tie.tag)
        return replace(self, ties={**self.ties, tie.child: tie})

    def adopt(self, tie: Tie, *, is_alive: bool, incarnation: int) -> tuple[Family, tuple[Action, ...]]:
        """Return the family with a session that was there before as a child, and what is to be told.

        Raises InvalidRequest: cannot_adopt_self, child_not_alive, already_attached, adoption_cycle, and as `check`.
        """
        if tie.child == tie.parent:
            raise InvalidRequest("a session cannot be its own child", code="cannot_adopt_self")
        if not is_alive:
            raise InvalidRequest(f"the session {tie.child} does not run", code="child_not_alive")
        if tie.child in self.ties:
            raise InvalidRequest(f"the session {tie.child} has a parent", code="already_attached")
        if tie.child in self.above(tie.parent):
            raise InvalidRequest(f"the session {tie.child} is above this one", code="adoption_cycle")
        self.check(tie.parent, tie.tag, generations=self.generations(tie.child))
        former = {child: parent for child, parent in self.former_parents.items() if child != tie.child}
        return Family({**self.ties, tie.child: tie}, former), (Started(tie, incarnation),)

    # -- what happens to sessions ----------------------------------------------------------------------------
    def ready(self, session: str, incarnation: int) -> tuple[Action, ...]:
        """Return what follows when a session has a process that is ready: the first, or the one after a crash."""
        tie = self.ties.get(session)
        return () if tie is None else (Started(tie, incarnation),)

    def gone(self, session: str, how: How, reason: str) -> tuple[Family, tuple[Action, ...]]:
        """Return the family without a session that was stopped or killed or has failed, and what follows, in order."""
        ties = dict(self.ties)
        former = dict(self.former_parents)
        actions: list[Action] = []
        own = ties.pop(session, None)
        if own is not None:
            actions.append(Exited(own, how, reason))
        for tie in self.children_of(session):
            del ties[tie.child]
            match tie.on_parent_death:
                case "stop":
                    actions.append(End(tie, reason, gently=how == "stopped"))
                case "continue":
                    former[tie.child] = session
                case "emit_orphan":
                    former[tie.child] = session
                    actions.append(Orphaned(tie, reason))
                case _:
                    assert_never(tie.on_parent_death)
        return Family(ties, former), tuple(actions)

    def forgotten(self, session: str) -> Family:
        """Return the family when a session that is gone is removed from the host, too."""
        if session not in self.former_parents:
            return self
        return replace(self, former_parents={one: of for one, of in self.former_parents.items() if one != session})


def orphan_rule(given: str) -> OrphanRule:
    """Return the rule of this name. Raises InvalidRequest, code invalid_orphan_rule."""
    if given not in ORPHAN_RULES:
        raise InvalidRequest(
            f"on_parent_death must be one of {', '.join(ORPHAN_RULES)}, not {given[:80]!r}", code="invalid_orphan_rule"
        )
    return given


def child_name(parent: str, tag: str) -> str:
    """Return `parent/tag` as long as a name may be: what is cut is the far end, the beginning of the parent's name."""
    found = characters(f"{parent}/{tag}")
    return "".join(found if len(found) <= NAME_CHARS_MAX else ["…", *found[1 - NAME_CHARS_MAX :]])
