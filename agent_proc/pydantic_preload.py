"""What the zygote of sessions with tools of the program's own imports: pydantic, with all that it loads when first used.

It is *not* imported by any other session. Without it each worker would load a hundred files and look for pydantic's plug-ins,
which takes longer than the whole rest of a call.
"""

from __future__ import annotations

from pydantic import BaseModel, TypeAdapter


class _Warm(BaseModel):
    """A model that is made and filled once, here."""

    value: int


TypeAdapter(list[_Warm]).validate_python([{"value": 1}])
