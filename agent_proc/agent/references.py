"""Where an agent is found: `module:Class` as text.

It is *not* the import, which runs code and is the shell's; whether what was found is an agent says `agent.check_agent`.
Rule: what is wrong with a reference is told before anything is imported.
"""

from __future__ import annotations

import keyword
from typing import Final, NamedTuple

from procession.agent_proc.agent.texts import shown
from procession.ipc.core.errors import InvalidRequest

#: Two dotted names of the longest usual kind.
REFERENCE_CHARS_MAX: Final = 512


class Reference(NamedTuple):
    """module: its dotted name. path: the names that lead to the class inside it, mostly one."""

    module: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.module}:{'.'.join(self.path)}"


def parse_reference(text: object) -> Reference:
    """Return the parts of `module:Class`. Raises InvalidRequest, code invalid_agent_reference."""
    if type(text) is str and len(text) <= REFERENCE_CHARS_MAX and text.count(":") == 1:
        module, _, path = text.partition(":")
        if all(_is_identifier(part) for part in (*module.split("."), *path.split("."))):
            return Reference(module, tuple(path.split(".")))
    raise InvalidRequest(
        f"{shown(text)} does not say where an agent is",
        code="invalid_agent_reference",
        hint="write the module, a colon and the class, as in 'my_module:Counter'",
    )


def _is_identifier(part: str) -> bool:
    return part.isidentifier() and not keyword.iskeyword(part)
