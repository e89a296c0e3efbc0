"""The arena's allocator: regions never overlap, free blocks join, and a peer can only name what it was given."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from helpers.counts import examples
from procession.ipc.core.arena import ArenaAllocator
from procession.ipc.core.breach import ProtocolBreach

PAGE = 4096
PAGES = 16


class Arena(RuleBasedStateMachine):
    """Compared with the plainest model there is: an owner for each page."""

    regions = Bundle("regions")

    def __init__(self) -> None:
        super().__init__()
        self.arena = ArenaAllocator(PAGES * PAGE)
        self.owner: list[int | None] = [None] * PAGES
        self.sizes: dict[int, int] = {}

    def longest_gap(self) -> int:
        best = run = 0
        for owner in self.owner:
            run = 0 if owner is not None else run + 1
            best = max(best, run)
        return best

    @rule(target=regions, size=st.integers(0, 7 * PAGE))
    def alloc(self, size):
        pages = max(1, -(-size // PAGE))
        offset = self.arena.alloc(size)
        if offset is None:
            assert self.longest_gap() < pages
            return -1
        assert offset % PAGE == 0
        first = offset // PAGE
        assert self.owner[first : first + pages] == [None] * pages
        self.owner[first : first + pages] = [offset] * pages
        self.sizes[offset] = pages * PAGE
        return offset

    @rule(offset=consumes(regions))
    def free(self, offset):
        if offset >= 0:
            self.arena.free(offset)
            self.owner = [None if owner == offset else owner for owner in self.owner]
            del self.sizes[offset]

    @rule(
        offset=st.integers(-PAGE, (PAGES + 1) * PAGE) | st.integers(0, PAGES).map(lambda n: n * PAGE),
        length=st.integers(-1, 9 * PAGE),
    )
    def name(self, offset, length):
        if offset in self.sizes and 0 <= length <= self.sizes[offset]:
            self.arena.check_region(offset, length)
        else:
            with pytest.raises(ProtocolBreach):
                self.arena.check_region(offset, length)

    @invariant()
    def the_accounts_agree(self):
        assert self.arena.used_bytes == sum(self.sizes.values())
        assert self.arena.largest_free_bytes == self.longest_gap() * PAGE

    def teardown(self):
        for offset in list(self.sizes):
            self.arena.free(offset)
        assert self.arena.used_bytes == 0
        assert self.arena.alloc(PAGES * PAGE) == 0


TestArena = Arena.TestCase
TestArena.settings = settings(max_examples=examples(120), stateful_step_count=40, deadline=None)


@given(st.permutations(range(PAGES)))
@settings(max_examples=examples(100), deadline=None)
def test_freeing_all_in_any_order_leaves_one_block(order):
    arena = ArenaAllocator(PAGES * PAGE)
    offsets = [arena.alloc(1) for _ in range(PAGES)]
    assert offsets == [page * PAGE for page in range(PAGES)]
    assert arena.alloc(1) is None
    for page in order:
        arena.free(page * PAGE)
    assert arena.largest_free_bytes == PAGES * PAGE


@pytest.mark.parametrize(("size", "align"), [(0, 4096), (4097, 4096), (-4096, 4096), (4096, 0)])
def test_a_size_that_is_no_arena_is_refused(size, align):
    with pytest.raises(ValueError, match="no multiple"):
        ArenaAllocator(size, align)


def test_a_region_has_one_owner():
    arena = ArenaAllocator(2 * PAGE)
    offset = arena.alloc(10)
    assert offset is not None
    arena.free(offset)
    for wrong in (offset, 5, PAGE):
        with pytest.raises(ValueError, match="no region"):
            arena.free(wrong)
    with pytest.raises(ValueError, match="-1 bytes"):
        arena.alloc(-1)


@pytest.mark.guarantee("R-44")
@pytest.mark.parametrize(
    "region", [(0, -1), (0, PAGE + 1), (1, 1), (PAGE, 1), (-PAGE, 1), (True, 1), (0.0, 1), (0, 2**70)]
)
def test_a_peer_that_names_what_it_was_not_given_is_in_breach(region):
    arena = ArenaAllocator(4 * PAGE)
    arena.alloc(PAGE)
    arena.check_region(0, PAGE)
    with pytest.raises(ProtocolBreach):
        arena.check_region(*region)


def test_repr_shows_state():
    arena = ArenaAllocator(4 * PAGE)
    arena.alloc(1)
    assert repr(arena) == "<ArenaAllocator used=4096/16384 regions=1 free_blocks=1>"
