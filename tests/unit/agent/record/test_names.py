"""What an id of a session is, and the reason why something is no name."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession.agent_proc.agent.record.names import id_text, name_reason


@pytest.mark.parametrize(("name", "code"), [("a\nb", "invalid_name"), ("a" * 51, "name_too_long")])
def test_what_is_no_name_has_a_reason(name: str, code: str) -> None:
    reason = name_reason(name)
    assert reason is not None
    assert (reason.code, reason.text.startswith("name: ")) == (code, True)
    assert name_reason("a") is None


@given(st.uuids())
def test_an_id_is_a_uuid_in_one_spelling(ident: uuid.UUID) -> None:
    assert id_text(str(ident)) == id_text(str(ident).upper()) == id_text(ident.hex) == str(ident)


@pytest.mark.parametrize("given", [None, 1, "", "session_0f", "x" * 36, "0" * 31, uuid.UUID(int=1), b"0" * 32])
def test_anything_else_is_no_id(given: object) -> None:
    assert id_text(given) is None
