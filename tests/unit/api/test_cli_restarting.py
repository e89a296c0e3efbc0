"""The command line of a host's successor: the one it had, without what was only for its first start."""

import pytest

from procession.api.cli.restarting import AGAIN_OPTION, _arguments


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["-m", "procession", "up"], ["-m", "procession", "up"]),
        (["-P", "-m", "procession", "up", "--ready-fd", "7", "-x=1"], ["-P", "-m", "procession", "up", "-x=1"]),
        (["/bin/procession", "up", "--data-dir", "/d", AGAIN_OPTION], ["/bin/procession", "up", "--data-dir", "/d"]),
    ],
)  # fmt: skip
def test_it_is_what_it_was_and_says_that_it_was_up(before: list[str], after: list[str]) -> None:
    assert _arguments(before) == [*after, AGAIN_OPTION]
    assert _arguments(_arguments(before)) == _arguments(before)
