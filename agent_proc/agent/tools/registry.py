"""The tools a session has, by name: an immutable value, so that whoever holds one sees no other's changes.

It is *not* where tools run, and holds no function. Rules: a name stands for one tool; every listing is sorted by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from procession.agent_proc.agent.tools.spec import Api, ToolSpec, describe, invalid_tool, tool_schemas
from procession.ipc.core.errors import InvalidRequest

#: The most that the OpenAI API takes in one request.
TOOLS_MAX: Final = 128
#: A name that a model made up is shown up to here.
_NAME_SHOWN_CHARS: Final = 80


@dataclass(frozen=True, slots=True)
class ToolRegistry:
    """See the module's text. Begin with ToolRegistry() and go on with what `register` returns."""

    _specs: Mapping[str, ToolSpec] = field(default_factory=lambda: MappingProxyType({}))

    def register(self, *specs: object) -> ToolRegistry:
        """Return a registry with `specs` (ToolSpecs) too.

        Raises InvalidRequest, code invalid_tool, already_registered or too_many_tools.
        """
        known = dict(self._specs)
        for spec in specs:
            if not isinstance(spec, ToolSpec):
                raise invalid_tool(type(spec).__name__, "it has no description", "give definition_of(function).spec")
            if spec.name in known:
                raise InvalidRequest(
                    f"there is a tool named {spec.name!r} already",
                    code="already_registered",
                    hint="unregister it first, or give this one another name: @tool(name=...)",
                )
            known[spec.name] = spec
        if len(known) > TOOLS_MAX:
            raise InvalidRequest(
                f"{len(known)} tools are more than the {TOOLS_MAX} that a model can be given", code="too_many_tools"
            )
        return ToolRegistry(_sorted(known.values()))

    def unregister(self, name: str) -> ToolRegistry:
        """Return a registry without the tool. Raises InvalidRequest, code not_found."""
        gone = self.get(name)
        return ToolRegistry(_sorted(spec for spec in self._specs.values() if spec is not gone))

    def clear(self) -> ToolRegistry:
        """Return a registry without tools."""
        return ToolRegistry()

    def get(self, name: str) -> ToolSpec:
        """Return the tool of that name. Raises InvalidRequest, code not_found."""
        found = self._specs.get(name)
        if found is None:
            shown = name[:_NAME_SHOWN_CHARS]
            import difflib  # only mistakes need it

            close = difflib.get_close_matches(shown, self._specs, n=3)
            hint = (
                f"did you mean {' or '.join(close)}?" if close else f"there are {len(self)} tools: {self._some_names()}"
            )
            raise InvalidRequest(f"there is no tool named {shown!r}", code="not_found", hint=hint)
        return found

    def _some_names(self) -> str:
        names = list(self._specs)
        return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "none"

    def list_tools(self) -> tuple[ToolSpec, ...]:
        """List the tools, by name."""
        return tuple(self._specs.values())

    def schemas(self, api: Api) -> list[dict[str, Any]]:
        """Return the tools as the `tools=` of a model API takes them."""
        return tool_schemas(self.list_tools(), api)

    def describe(self) -> str:
        """Return a text about the tools for a prompt."""
        return describe(self.list_tools())

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __len__(self) -> int:
        """Count the tools."""
        return len(self._specs)

    def __repr__(self) -> str:
        return f"<ToolRegistry {', '.join(self._specs) or 'empty'}>"


def _sorted(specs: Iterable[ToolSpec]) -> Mapping[str, ToolSpec]:
    return MappingProxyType({spec.name: spec for spec in sorted(specs, key=lambda spec: spec.name)})
