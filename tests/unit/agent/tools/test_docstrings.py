"""Docstrings: the first paragraph, and parameters in the three usual forms; what is not plain is left out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.agent_proc.agent.tools.docstrings import read_docstring

GOOGLE = """Copy a file
to another place.

More about it: not for the model.

Args:
    source (str): what to copy,
        a file only
    target: where to
    **options: how

    mode (int, optional): its bits

Returns:
    size: of the copy
"""

NUMPY = """
    Copy a file
    to another place.

    Parameters
    ----------
    source : str
        what to copy,
        a file only
    target
        where to
    **options
        how
    mode : int, optional
        its bits

        And a second paragraph.

    Returns
    -------
    size
        of the copy
    """

REST = """Copy a file
    to another place.

    :param str source: what to copy,
        a file only
    :param target: where to
    :type target: str
    :param options: how
    :parameter mode: its bits
    :returns: size of the copy
    """


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, REST], ids=["google", "numpy", "rest"])
def test_the_three_forms_say_the_same(docstring):
    said = read_docstring(docstring)
    assert said.summary == "Copy a file to another place."
    assert said.parameters == {
        "source": "what to copy, a file only",
        "target": "where to",
        "options": "how",
        "mode": "its bits",
    }


@pytest.mark.parametrize(
    ("docstring", "summary"),
    [
        (None, ""),
        ("", ""),
        ("\n  One line.  ", "One line."),
        ("Do this:", "Do this:"),
        ("Do.\nArgs:\n  x: y", "Do."),
        ("Args:\n  x: y", ""),
        (":param x: y", ""),
        ("Parameters\n----------\nx : int\n    y", ""),
        ("First.\n\nSecond.", "First."),
    ],
)
def test_the_description_is_the_first_paragraph(docstring, summary):
    assert read_docstring(docstring).summary == summary


@pytest.mark.parametrize(
    "docstring",
    ["A: b", "Do.\n\n    x: not in a section", "Do.\n\nArgs:\n    prose that names nothing", "Do.\n\n:param x"],
)
def test_what_is_not_plain_is_left_out(docstring):
    assert read_docstring(docstring).parameters == {}


lines = st.sampled_from(["Args:", "Parameters", "-----", ":param x: y", "  x: y", "    z", "x : int", "", "Returns:"])


@given(st.lists(lines | st.text(max_size=8), max_size=8).map("\n".join))
@settings(max_examples=examples(150), deadline=None)
def test_any_text_is_read(docstring):
    said = read_docstring(docstring)
    assert "\n" not in said.summary
    assert all(name.isidentifier() and text for name, text in said.parameters.items() if text)
