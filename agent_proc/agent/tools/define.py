"""`@tool`: make a typed function a tool.

    @tool
    def add(x: int, y: int = 1) -> int:
        \"\"\"Add two numbers.\"\"\"

It is *not* a wrapper: the function stays what it was, and carries its Definition with it wherever it goes (pickled by
value too). Rules: what is wrong with a tool is told where it is decorated; an `async def` is a tool like any other,
awaited in the worker; a method is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from procession.agent_proc.agent.tools.arguments import bind
from procession.agent_proc.agent.tools.docstrings import read_docstring
from procession.agent_proc.agent.tools.schema import make_adapters, make_result_schema, make_schema
from procession.agent_proc.agent.tools.signature import Signature, read_signature
from procession.agent_proc.agent.tools.spec import ToolSpec, check_name, invalid_tool
from procession.ipc.core.declared import checked, is_checkable, says_nothing
from procession.ipc.core.tool_tiers import DEFAULT_TIER, Tier

if TYPE_CHECKING:
    from pydantic_core import CoreSchema, SchemaValidator

F = TypeVar("F", bound=Callable[..., object])

ATTRIBUTE: Final = "__procession_tool__"


class Definition:
    """What is known of a tool besides its function: `spec`, `returns` (its annotation), and how to check arguments and results.

    schemas: of the parameters, in pydantic's form; result_schema: of the result, where pydantic checks it. They travel with
    the function: where it came by value, the module of its classes is not there, to say what annotations that are texts name.
    """

    __slots__ = ("_result_schema", "_schemas", "_signature", "_validators", "spec")

    def __init__(
        self, spec: ToolSpec, signature: Signature, schemas: Mapping[str, CoreSchema], result_schema: CoreSchema | None
    ) -> None:
        self.spec = spec
        self._signature = signature
        self._schemas = schemas
        self._result_schema = result_schema
        self._validators: Mapping[str, SchemaValidator] | None = None

    @property
    def returns(self) -> Any:
        """The annotation of the result, Any without one."""
        return self._signature.returns

    def bind(self, arguments: Mapping[str, object]) -> dict[str, Any]:
        """Return a value of the declared type for each parameter, to call the function with. Raises as arguments.bind."""
        if self._validators is None:
            from pydantic_core import SchemaValidator

            self._validators = {name: SchemaValidator(schema) for name, schema in self._schemas.items()}
        return bind(self.spec, self._validators, self._signature.defaults, arguments)

    def check_result(self, value: object) -> None:
        """Refuse plain data that is not what the tool says it returns. Raises ToolResultInvalid.

        The caller checks it by the same rules, but only when the call is over and kept as completed.
        """
        if self._result_schema is not None:
            from pydantic_core import SchemaValidator

            checked(value, self.returns, SchemaValidator(self._result_schema).validate_python)
        elif not says_nothing(self.returns) and is_checkable(self.returns):
            checked(value, self.returns)

    def __reduce__(self) -> tuple[Any, ...]:  # the validators are made anew
        return Definition, (self.spec, self._signature, self._schemas, self._result_schema)

    def __repr__(self) -> str:
        return f"<tool {self.spec.name} ({', '.join(self._signature.annotations)}) {self.spec.tier}>"


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(*, name: str | None = None, tier: Tier = DEFAULT_TIER, description: str | None = None) -> Callable[[F], F]: ...
def tool(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    tier: Tier = DEFAULT_TIER,
    description: str | None = None,
) -> F | Callable[[F], F]:
    """Make a typed function a tool, and return it. Raises InvalidRequest, code invalid_tool, for one that can be none.

    name: the function's own unless given. description: the first paragraph of its docstring unless given. Descriptions
    of parameters are read from the docstring (Google, numpy or reST form), or from Annotated[..., Field(description=)].
    """

    def decorate(function: F) -> F:
        setattr(function, ATTRIBUTE, define(function, name=name, tier=tier, description=description))
        return function

    return decorate if function is None else decorate(function)


def define(
    function: Callable[..., object],
    *,
    name: str | None = None,
    tier: Tier = DEFAULT_TIER,
    description: str | None = None,
) -> Definition:
    """Return what `@tool` puts on `function`, without putting it there."""
    name = getattr(function, "__name__", type(function).__name__) if name is None else name
    signature = read_signature(function, name)
    check_name(name)
    adapters = make_adapters(signature, name)
    described = read_docstring(function.__doc__)
    spec = ToolSpec(
        name=name,
        parameters=make_schema(signature, adapters, described.parameters, name),
        description=described.summary if description is None else description,
        tier=tier,
    )
    schemas = {parameter: adapter.core_schema for parameter, adapter in adapters.items()}
    return Definition(spec, signature, schemas, make_result_schema(signature.returns))


def definition_of(function: object) -> Definition:
    """Return what `@tool` put on `function`. Raises InvalidRequest, code invalid_tool, for what is no tool."""
    found = getattr(function, ATTRIBUTE, None)
    if not isinstance(found, Definition):
        name = getattr(function, "__name__", None) or type(function).__name__
        raise invalid_tool(name, "it has not been made one", "put @tool above the function")
    return found
