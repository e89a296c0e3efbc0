"""The generated pages are in step with the code, and no page names a file of ours that does not exist."""

import re
from pathlib import Path

import pytest

from helpers import file_map, limits_page, protocol
from helpers.sources import REPOSITORY, room_sources
from procession.ipc.core.messages import Message

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
NAMED_FILE = re.compile(r"`((?:ipc|agent_proc|host|api|tests|bench|docs|src)/[\w./-]+?\.(?:py|md|toml))`")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)")


def test_the_protocol_page_is_in_step_with_the_messages() -> None:
    assert (REPOSITORY / protocol.PAGE_FILE).read_text(encoding="utf-8") == protocol.render_page()


def test_every_message_of_the_protocol_is_on_its_page() -> None:
    page = protocol.render_page()
    for kind in Message.__subclasses__():
        assert f"| `{kind.__name__}` |" in page


def test_the_limits_page_is_in_step_with_the_bounds() -> None:
    assert (REPOSITORY / limits_page.PAGE_FILE).read_text(encoding="utf-8") == limits_page.render_page()


@pytest.mark.slow
def test_the_map_of_files_is_in_step_with_the_files() -> None:
    page = (REPOSITORY / file_map.PAGE_FILE).read_text(encoding="utf-8")
    assert page == file_map.render_page(page)


def test_every_file_of_the_map_says_what_it_is() -> None:
    silent = [str(source) for source in room_sources() if not file_map.first_sentence(source)]
    assert [name for name in silent if file_map.SAMPLES not in name] == []


def test_a_limit_without_a_reason_is_not_written() -> None:
    with pytest.raises(ValueError, match="SOME_MAX has no reason"):
        limits_page.read_bounds(
            'from typing import Final\n\nSOME_MAX: Final = 3\n"""A docstring is not looked for."""\n'
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_files_that_there_are(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = {name for name in NAMED_FILE.findall(text) if not (REPOSITORY / name).exists()}
    missing |= {link for link in LINK.findall(text) if not (page.parent / link).exists()}
    assert not missing
