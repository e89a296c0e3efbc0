"""Lists that are bounded in count and in bytes: what may be done with one, as ops that leave its size true.

It is *not* where elements are checked: they come here made. Rules: a list is oldest first and its end is what is kept; an
op says no more than what changes; nothing happens when a budget would be passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from procession.agent_proc.agent.code_session.sizes import accounted, checked_size, held_bytes
from procession.ipc.core.state_ops import AnyOp, AppendItems, Path, RemoveItems, SetPath, State, UpdateItem, Value


@dataclass(frozen=True, slots=True)
class BoundedList:
    """One list of the state. name: of its size too. code: of what is refused as no element of it."""

    name: str
    path: Path
    items_max: int
    code: str

    def items(self, state: State) -> list[Value]:
        """Return the list itself, which is not to be changed."""
        here: Value = state
        for key in self.path:
            here = here[key]
        assert type(here) is list
        return here

    def append(self, state: State, item: Value, what: str) -> tuple[AnyOp, ...]:
        """Add one element; the oldest go when there are more than may be."""
        return self.append_sized(state, item, checked_size(state, item, what, code=self.code).held_bytes)

    def append_sized(self, state: State, item: Value, item_bytes: int, **freed: int) -> tuple[AnyOp, ...]:
        """Add one element whose held bytes are known; `freed` is what other collections change by at the same time."""
        items = self.items(state)
        gone = sum(map(held_bytes, items[: max(0, len(items) + 1 - self.items_max)]))
        return (
            AppendItems(self.path, (item,), self.items_max),
            *accounted(state, {self.name: item_bytes - gone, **freed}),
        )

    def replace(self, state: State, items: Sequence[Value], what: str) -> tuple[AnyOp, ...]:
        """Put other elements, already cut to the bound, in the place of all."""
        assert len(items) <= self.items_max
        if not items:
            return self.clear(state)
        total = sum(
            checked_size(state, item, f"{what}[{index}]", code=self.code).held_bytes for index, item in enumerate(items)
        )
        return SetPath(self.path, list(items)), *accounted(state, {self.name: total - state["sizes"][self.name]})

    def clear(self, state: State) -> tuple[AnyOp, ...]:
        """Drop all elements."""
        if not self.items(state):
            return ()
        return SetPath(self.path, []), *accounted(state, {self.name: -state["sizes"][self.name]})

    def find(self, state: State, id: str) -> Mapping[str, Value] | None:
        """Return the last element with that id, None when there is none."""
        return next((item for item in reversed(self.items(state)) if item["id"] == id), None)

    def update(self, state: State, item: Mapping[str, Value], attrs: dict[str, Value], what: str) -> tuple[AnyOp, ...]:
        """Give the last element with the id of `item`, which is that element, these attributes.

        An attribute that is a mapping may only take the place of what is none: the op merges mappings.
        """
        size = checked_size(state, {**item, **attrs}, what, code=self.code).held_bytes
        return (
            UpdateItem(self.path, "id", item["id"], attrs),
            *accounted(state, {self.name: size - held_bytes(item)}),
        )

    def remove(self, state: State, ids: Sequence[str]) -> tuple[AnyOp, ...]:
        """Drop every element with one of these ids."""
        wanted = frozenset(ids)
        gone = [item for item in self.items(state) if item["id"] in wanted]
        if not gone:
            return ()
        found = tuple(dict.fromkeys(item["id"] for item in gone))
        return RemoveItems(self.path, "id", found), *accounted(state, {self.name: -sum(map(held_bytes, gone))})
